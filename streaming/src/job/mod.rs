//! Stream jobs: statements that a session has planned become tasks that run.
//!
//! Files in reading order: `settings`, `prepare` (what the statements need), `plan_record` (where a new job begins), `attempt` (one
//! attempt of the job), `sides` (tables that are looked up), `tasks` (its tasks at once), `flow` (the computation of one), `lanes` (its
//! part by keys), `chains` (its state), `stats`, `progress` (what is told of it), `runner` (jobs of the catalog), `savepoint`, `deletion`
//! and `cleaner` (what is left of a job that has ended), `bounded` (tables of streams in the batch engine).

mod attempt;
mod bounded;
mod chains;
mod cleaner;
pub(crate) mod deletion;
mod flow;
mod lanes;
pub(crate) mod plan_record;
mod prepare;
mod progress;
mod runner;
pub(crate) mod savepoint;
mod settings;
mod sides;
pub(crate) mod stats;
mod tasks;

pub use runner::{StreamRunner, StreamSettings};
