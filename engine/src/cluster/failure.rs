//! Errors of stages, on their way from an executor to the client.
//!
//! A scheduler is told of a failed task in a text that shows the error as Rust's `Debug` does. So the text of an error that
//! is to arrive whole is its kind, message and hint as JSON, behind a mark.

use std::error::Error as StdError;
use std::fmt;

use datafusion::common::DataFusionError;
use serde::{Deserialize, Serialize};
use tereza_runtime::{Error, ErrorKind};

use crate::error::from_any;

/// What stands before the JSON.
const MARK: &str = "<tereza-error>";

#[derive(Serialize, Deserialize)]
struct Told {
    kind: String,
    message: String,
    hint: Option<String>,
}

/// An error whose texts are all what [`failure_in`] reads.
struct Failure(String);

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl StdError for Failure {}

/// The error of a stage, to be told to the scheduler.
pub fn to_failure(error: &(dyn StdError + 'static)) -> DataFusionError {
    let error = from_any(error);
    let told = Told {
        kind: error.kind().as_str().to_owned(),
        message: error.message().to_owned(),
        hint: error.hint().map(str::to_owned),
    };
    match serde_json::to_string(&told) {
        Ok(json) => DataFusionError::External(Box::new(Failure(format!("{MARK}{json}")))),
        Err(unwritten) => DataFusionError::External(Box::new(unwritten)),
    }
}

/// The error that a failed task's text tells.
pub fn failure_in(text: &str) -> Option<Error> {
    let (_, json) = text.split_once(MARK)?;
    let told = serde_json::Deserializer::from_str(json).into_iter::<Told>().next()?.ok()?;
    let kind = ErrorKind::ALL.into_iter().find(|kind| kind.as_str() == told.kind)?;
    let error = Error::new(kind, told.message);
    Some(match told.hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_arrives_whole_in_a_text_that_shows_it() {
        let error = Error::resource_exhausted("no \"room\" for {rows}").with_hint("ask for less");
        let told =
            to_failure(&DataFusionError::Shared(std::sync::Arc::new(DataFusionError::External(Box::new(error)))));
        let text = format!("Job failed due to stage 1: Task failed: DataFusionError({told:?})\n");
        let arrived = failure_in(&text).unwrap();
        assert_eq!(arrived.kind(), ErrorKind::ResourceExhausted);
        assert_eq!(arrived.message(), "no \"room\" for {rows}");
        assert_eq!(arrived.hint(), Some("ask for less"));
        assert!(failure_in("no executors remain").is_none());
    }
}
