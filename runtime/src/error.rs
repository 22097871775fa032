//! The one public error of Tereza: a kind that says what the caller should do, and a message that says what was wrong.
//!
//! Modules keep their own private error enums; what leaves a crate is an [`Error`]. The table in [`ErrorKind::mapping`]
//! is the only place that turns a kind into the status of a wire protocol, so no gateway invents its own.

use std::fmt;

use crate::open_files;

/// Shorthand for a result whose error is the public [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What the caller should do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// Change the request: it can never work as it is.
    InvalidInput,
    /// The named thing does not exist: check the name, or make it first.
    NotFound,
    /// The named thing exists already: choose another name, or use the one there.
    AlreadyExists,
    /// Somebody else was first: read again and retry.
    Conflict,
    /// Say who you are.
    Unauthenticated,
    /// You may not do this.
    Denied,
    /// Tereza cannot do this (yet); the message names what.
    Unsupported,
    /// A bound was reached; the message names the bound and its setting.
    ResourceExhausted,
    /// Something outside does not answer: retry later.
    Unavailable,
    /// The caller, or a time limit, stopped it.
    Cancelled,
    /// A defect of Tereza: report it.
    Internal,
}

/// How one [`ErrorKind`] is said in each wire protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// gRPC status code (grpc/doc/statuscodes.md).
    pub grpc: i32,
    /// HTTP status code (RFC 9110).
    pub http: u16,
    /// Presto `errorName` (`StandardErrorCode`).
    pub presto: &'static str,
    /// Spark error class.
    pub spark: &'static str,
    /// Hive Metastore Thrift exception.
    pub hms: &'static str,
    /// SQLSTATE (ISO/IEC 9075, with the customary vendor classes).
    pub sqlstate: &'static str,
}

impl ErrorKind {
    /// Every kind, in the order of the declaration.
    pub const ALL: [Self; 11] = [
        Self::InvalidInput,
        Self::NotFound,
        Self::AlreadyExists,
        Self::Conflict,
        Self::Unauthenticated,
        Self::Denied,
        Self::Unsupported,
        Self::ResourceExhausted,
        Self::Unavailable,
        Self::Cancelled,
        Self::Internal,
    ];

    /// The table from kind to protocol status.
    pub const fn mapping(self) -> Mapping {
        const fn row(
            grpc: i32,
            http: u16,
            presto: &'static str,
            spark: &'static str,
            hms: &'static str,
            sqlstate: &'static str,
        ) -> Mapping {
            Mapping { grpc, http, presto, spark, hms, sqlstate }
        }
        match self {
            Self::InvalidInput => {
                row(3, 400, "SYNTAX_ERROR", "PARSE_SYNTAX_ERROR", "InvalidOperationException", "42000")
            }
            Self::NotFound => row(5, 404, "NOT_FOUND", "TABLE_OR_VIEW_NOT_FOUND", "NoSuchObjectException", "42S02"),
            Self::AlreadyExists => {
                row(6, 409, "ALREADY_EXISTS", "TABLE_OR_VIEW_ALREADY_EXISTS", "AlreadyExistsException", "42S01")
            }
            Self::Conflict => row(10, 409, "TRANSACTION_CONFLICT", "CONCURRENT_WRITE", "MetaException", "40001"),
            Self::Unauthenticated => row(16, 401, "PERMISSION_DENIED", "UNAUTHENTICATED", "MetaException", "28000"),
            Self::Denied => row(7, 403, "PERMISSION_DENIED", "INSUFFICIENT_PERMISSIONS", "MetaException", "42501"),
            Self::Unsupported => {
                row(12, 501, "NOT_SUPPORTED", "UNSUPPORTED_FEATURE", "InvalidOperationException", "0A000")
            }
            Self::ResourceExhausted => {
                row(8, 429, "EXCEEDED_LOCAL_MEMORY_LIMIT", "RESOURCE_EXHAUSTED", "MetaException", "53000")
            }
            Self::Unavailable => row(14, 503, "REMOTE_HOST_GONE", "SERVICE_UNAVAILABLE", "MetaException", "08006"),
            Self::Cancelled => row(1, 499, "USER_CANCELED", "OPERATION_CANCELED", "MetaException", "57014"),
            Self::Internal => row(13, 500, "GENERIC_INTERNAL_ERROR", "INTERNAL_ERROR", "MetaException", "XX000"),
        }
    }

    /// The kind's name in messages, logs and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InvalidInput => "InvalidInput",
            Self::NotFound => "NotFound",
            Self::AlreadyExists => "AlreadyExists",
            Self::Conflict => "Conflict",
            Self::Unauthenticated => "Unauthenticated",
            Self::Denied => "Denied",
            Self::Unsupported => "Unsupported",
            Self::ResourceExhausted => "ResourceExhausted",
            Self::Unavailable => "Unavailable",
            Self::Cancelled => "Cancelled",
            Self::Internal => "Internal",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A place in the text of a statement: both count from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// Line, from 1.
    pub line: u64,
    /// Column in characters, from 1.
    pub column: u64,
}

/// An error with its kind, a message for people, and where in the statement it was, if known.
///
/// Messages are lower case without a full stop; they hold the value that was wrong and what to do. They never hold a
/// credential.
pub struct Error {
    kind: ErrorKind,
    message: String,
    hint: Option<String>,
    location: Option<Location>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

macro_rules! constructors {
    ($($name:ident => $kind:ident),* $(,)?) => {
        $(
            #[doc = concat!("An error of kind [`ErrorKind::", stringify!($kind), "`].")]
            pub fn $name(message: impl Into<String>) -> Self {
                Self::new(ErrorKind::$kind, message)
            }
        )*
    };
}

impl Error {
    /// An error of `kind` with a message.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into(), hint: None, location: None, source: None }
    }

    /// What the operating system refused: `doing` says what was done to which file or address.
    pub fn io(doing: impl fmt::Display, error: std::io::Error) -> Self {
        use std::io::ErrorKind as Io;
        let kind = match error.kind() {
            _ if open_files::are_too_many(&error) => ErrorKind::ResourceExhausted,
            Io::NotFound => ErrorKind::NotFound,
            Io::AlreadyExists => ErrorKind::AlreadyExists,
            Io::PermissionDenied | Io::ReadOnlyFilesystem => ErrorKind::Denied,
            Io::StorageFull | Io::QuotaExceeded | Io::FileTooLarge | Io::OutOfMemory => ErrorKind::ResourceExhausted,
            Io::InvalidInput | Io::InvalidFilename | Io::NotADirectory | Io::IsADirectory => ErrorKind::InvalidInput,
            Io::Unsupported => ErrorKind::Unsupported,
            _ => ErrorKind::Unavailable,
        };
        Self::new(kind, format!("{doing}: {error}")).with_source(error)
    }

    constructors! {
        invalid_input => InvalidInput,
        not_found => NotFound,
        already_exists => AlreadyExists,
        conflict => Conflict,
        unauthenticated => Unauthenticated,
        denied => Denied,
        unsupported => Unsupported,
        resource_exhausted => ResourceExhausted,
        unavailable => Unavailable,
        cancelled => Cancelled,
        internal => Internal,
    }

    /// Adds what the caller can try.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Adds where in the statement the error is.
    #[must_use]
    pub fn with_location(mut self, location: Location) -> Self {
        self.location = Some(location);
        self
    }

    /// Adds the error underneath, for logs.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Puts `context` before the message, as in `context: message`.
    #[must_use]
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }

    /// What the caller should do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The message without its hint.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// What the caller can try, if there is something.
    pub fn hint(&self) -> Option<&str> {
        self.hint.as_deref()
    }

    /// Where in the statement the error is, if known.
    pub fn location(&self) -> Option<Location> {
        self.location
    }

    /// The error with the offending line of `sql` and a caret under the column, for a terminal.
    pub fn render(&self, sql: &str) -> String {
        let mut text = self.to_string();
        let Some(Location { line, column }) = self.location else { return text };
        let Some(source_line) = usize::try_from(line).ok().and_then(|line| sql.lines().nth(line.saturating_sub(1)))
        else {
            return text;
        };
        let column = usize::try_from(column).unwrap_or(1).max(1);
        let pad: String = source_line.chars().take(column - 1).map(|c| if c == '\t' { '\t' } else { ' ' }).collect();
        text.push_str(&format!("\n  {source_line}\n  {pad}^"));
        text
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == ErrorKind::Unsupported && !self.message.contains("support") {
            f.write_str("not supported: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(Location { line, column }) = self.location {
            write!(f, " (line {line}, column {column})")?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {self}", self.kind)?;
        match &self.source {
            Some(source) => write!(f, " (caused by {source})"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_deref().map(|source| source as &(dyn std::error::Error + 'static))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_distinct_grpc_status() {
        let mut codes: Vec<i32> = ErrorKind::ALL.iter().map(|kind| kind.mapping().grpc).collect();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), ErrorKind::ALL.len());
    }

    #[test]
    fn rendering_points_at_the_column() {
        let error = Error::invalid_input("unexpected word 'frm'").with_location(Location { line: 2, column: 3 });
        assert_eq!(error.render("select 1\n  frm t"), "unexpected word 'frm' (line 2, column 3)\n    frm t\n    ^");
    }

    #[test]
    fn rendering_survives_a_location_outside_the_text() {
        let error = Error::invalid_input("odd").with_location(Location { line: 9, column: 0 });
        assert_eq!(error.render("select 1"), "odd (line 9, column 0)");
    }
}
