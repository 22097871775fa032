//! The cluster lane, statements that run on executors, as stages of Ballista; and the jobs of the catalog, in either lane.
//!
//! It refuses to know wire protocols of clients (the gateway's). Sessions, codecs and object stores are the engine's.
//!
//! Files in reading order: [`router`] (which lane a statement takes), [`cluster`] (the scheduler of this process, and a
//! statement's way through it), `attempt` (one submission of a statement, watched to its end), `result` (rows from
//! executors), `config` (how sessions plan for executors), `progress` (how far a statement is), `executors` (who they are),
//! `drain` (those that are asked to end), `slots` (which tasks hold their slots); and [`jobs`] (texts that outlive their client).

pub mod cluster;
pub mod jobs;
pub mod router;

mod attempt;
mod config;
mod drain;
mod executors;
mod progress;
mod result;
mod slots;

pub use cluster::Scheduler;
pub use jobs::JobRunner;
