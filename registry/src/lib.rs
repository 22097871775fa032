//! The Schema Registry: what Confluent's answers over REST, for its clients as they are, out of any store of schemas.
//!
//! It refuses to know how data is read or written: schemas are texts with a meaning, and data is none of its business.
//!
//! Where it is not like Confluent's, on purpose:
//! * versions of a subject are not given again while the subject exists; there, the number of a last version that was removed
//!   for good is;
//! * a version that was deleted is never the target of a compatibility check, and one that is registered again gets a new
//!   number and its old id, as there;
//! * associations, exporters, keys for encryption and tags that are put into schemas by a request are not there (404);
//! * rules are kept and checked for their form, never run.
//!
//! Files in reading order: [`formats`] (what schemas mean, and whether one can read the data of another), [`json`] under it,
//! [`model`] and [`refusal`] (what goes over the wire), `names`, [`service`] (what the registry does), [`rest`] (HTTP),
//! [`import`] (from another registry).

pub mod formats;
pub mod import;
pub mod json;
pub mod model;
mod names;
mod percent;
pub mod refusal;
pub mod rest;
pub mod service;

pub use service::Service;
