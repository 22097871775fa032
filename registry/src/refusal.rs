//! Why a request is refused: the statuses, codes and texts of the protocol.

use tereza_runtime::{Error, ErrorKind};

/// A refused request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message} (error code {code})")]
pub struct Refusal {
    /// The status of HTTP.
    pub status: u16,
    /// The code of the protocol.
    pub code: u32,
    /// What was wrong.
    pub message: String,
}

/// What a request gives.
pub type Answer<T> = Result<T, Refusal>;

impl Refusal {
    fn new(status: u16, code: u32, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into() }
    }

    /// One whose code is the status.
    pub(crate) fn http(status: u16, message: impl Into<String>) -> Self {
        Self::new(status, u32::from(status), message)
    }

    pub(crate) fn subject_not_found(subject: &str) -> Self {
        Self::new(404, 40401, format!("Subject '{subject}' not found."))
    }

    pub(crate) fn version_not_found(version: impl std::fmt::Display) -> Self {
        Self::new(404, 40402, format!("Version {version} not found."))
    }

    pub(crate) fn schema_not_found() -> Self {
        Self::new(404, 40403, "Schema not found")
    }

    pub(crate) fn id_not_found(id: impl std::fmt::Display) -> Self {
        Self::new(404, 40403, format!("Schema {id} not found"))
    }

    pub(crate) fn subject_soft_deleted(subject: &str) -> Self {
        let text = format!("Subject '{subject}' was soft deleted.Set permanent=true to delete permanently");
        Self::new(404, 40404, text)
    }

    pub(crate) fn subject_not_soft_deleted(subject: &str) -> Self {
        let text = format!("Subject '{subject}' was not deleted first before being permanently deleted");
        Self::new(404, 40405, text)
    }

    pub(crate) fn version_soft_deleted(subject: &str, version: &str) -> Self {
        let text =
            format!("Subject '{subject}' Version {version} was soft deleted.Set permanent=true to delete permanently");
        Self::new(404, 40406, text)
    }

    pub(crate) fn version_not_soft_deleted(subject: &str, version: i32) -> Self {
        let text =
            format!("Subject '{subject}' Version {version} was not deleted first before being permanently deleted");
        Self::new(404, 40407, text)
    }

    pub(crate) fn no_config(subject: &str) -> Self {
        Self::new(404, 40408, format!("Subject '{subject}' does not have subject-level compatibility configured"))
    }

    pub(crate) fn no_mode(subject: &str) -> Self {
        Self::new(404, 40409, format!("Subject '{subject}' does not have subject-level mode configured"))
    }

    pub(crate) fn incompatible(subject: &str, messages: &[String]) -> Self {
        let details = messages.join(", ");
        let text = format!(
            "Schema being registered is incompatible with an earlier schema for subject \"{subject}\", details: [{details}]"
        );
        Self::new(409, 409, text)
    }

    pub(crate) fn invalid_schema(message: impl Into<String>) -> Self {
        Self::new(422, 42201, message)
    }

    pub(crate) fn invalid_version(version: &str) -> Self {
        let text = format!(
            "The specified version '{version}' is not a valid version id. Allowed values are between [1, 2^31-1] and the \
             string \"latest\""
        );
        Self::new(422, 42202, text)
    }

    pub(crate) fn invalid_level() -> Self {
        let text = "Invalid compatibility level. Valid values are none, backward, forward, full, backward_transitive, \
                    forward_transitive, and full_transitive";
        Self::new(422, 42203, text)
    }

    pub(crate) fn invalid_mode() -> Self {
        let text = "Invalid mode. Valid values are READWRITE, READONLY, READONLY_OVERRIDE, IMPORT, and FORWARD.";
        Self::new(422, 42204, text)
    }

    pub(crate) fn not_permitted(message: impl Into<String>) -> Self {
        Self::new(422, 42205, message)
    }

    pub(crate) fn reference_exists(subject: &str, version: i32) -> Self {
        let key = format!("{{magic=1,keytype=SCHEMA,subject={subject},version={version}}}");
        Self::new(422, 42206, format!("One or more references exist to the schema {key}."))
    }

    pub(crate) fn id_mismatch(known: i32, given: i32) -> Self {
        Self::new(422, 42207, format!("Schema already registered with id {known} instead of input id {given}"))
    }

    pub(crate) fn invalid_subject(subject: &str) -> Self {
        Self::new(422, 42208, format!("The specified subject '{subject}' is not a valid."))
    }

    pub(crate) fn too_large() -> Self {
        Self::new(422, 42209, "Register operation failed because schema is too large")
    }

    pub(crate) fn invalid_rules(message: impl Into<String>) -> Self {
        Self::new(422, 42210, message)
    }

    pub(crate) fn context_not_empty(context: &str) -> Self {
        Self::new(422, 42211, format!("The specified context '{context}' is not empty."))
    }

    pub(crate) fn timed_out() -> Self {
        Self::new(500, 50002, "Operation timed out")
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidInput => Self::http(422, error.message()),
            ErrorKind::Cancelled => Self::timed_out(),
            _ => {
                tracing::error!(%error, "the store of schemas failed");
                Self::new(500, 50001, format!("Error in the backend data store: {}", error.message()))
            }
        }
    }
}
