//! From what gRPC and Flight report to [`Error`].

use std::error::Error as _;
use std::fmt;

use arrow_flight::error::FlightError;
use tereza_runtime::{Error, ErrorKind, Location};
use tonic::{Code, Status};

/// Marks an error whose server could not be reached, or was lost.
#[derive(Debug)]
pub(super) struct Unreachable {
    cause: String,
}

impl fmt::Display for Unreachable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl std::error::Error for Unreachable {}

/// Whether the error says that the server could not be reached, or was lost.
pub(crate) fn is_unreachable(error: &Error) -> bool {
    error.source().is_some_and(|source| source.is::<Unreachable>())
}

/// The error of a server at `address` that cannot be reached because of `cause`.
pub(super) fn unreachable(address: &str, cause: &dyn std::error::Error) -> Error {
    let mut deepest = cause;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let cause = deepest.to_string();
    Error::unavailable(format!("no server answers at {address}: {cause}"))
        .with_hint("check the address, and that the server is up")
        .with_source(Unreachable { cause })
}

/// The error behind what the Flight client reports of the server at `address`.
pub(super) fn of_flight(address: &str, error: FlightError) -> Error {
    match error {
        FlightError::Tonic(status) => of_status(address, *status),
        FlightError::ExternalError(error) => match error.downcast::<Error>() {
            Ok(error) => *error,
            Err(error) => Error::internal(format!("the exchange with {address} failed: {error}")),
        },
        error => Error::internal(format!("the answer of {address} cannot be read: {error}")).with_source(error),
    }
}

/// The error that a server said with a status. A status that has a cause was made here, by a connection that failed.
pub(super) fn of_status(address: &str, status: Status) -> Error {
    match status.source() {
        Some(cause) if status.code() != Code::OutOfRange => unreachable(address, cause),
        _ => said(kind_of(status.code()), status.message()),
    }
}

fn kind_of(code: Code) -> ErrorKind {
    match code {
        Code::DeadlineExceeded => ErrorKind::Cancelled,
        Code::FailedPrecondition => ErrorKind::InvalidInput,
        Code::OutOfRange => ErrorKind::ResourceExhausted,
        code => {
            let same = |kind: &ErrorKind| kind.mapping().grpc == code as i32;
            ErrorKind::ALL.into_iter().find(same).unwrap_or(ErrorKind::Internal)
        }
    }
}

/// Takes an error's text, `message (line 1, column 2); hint`, apart again.
fn said(kind: ErrorKind, text: &str) -> Error {
    let Some((message, location, rest)) = located(text) else { return Error::new(kind, text) };
    let error = Error::new(kind, message).with_location(location);
    match rest.strip_prefix("; ") {
        Some(hint) => error.with_hint(hint),
        None => error,
    }
}

fn located(text: &str) -> Option<(&str, Location, &str)> {
    let (message, rest) = text.rsplit_once(" (line ")?;
    let (line, rest) = rest.split_once(", column ")?;
    let (column, rest) = rest.split_once(')')?;
    Some((message, Location { line: line.parse().ok()?, column: column.parse().ok()? }, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_servers_error_is_the_one_it_had() {
        let error = Error::invalid_input("unexpected 'frm'")
            .with_location(Location { line: 2, column: 7 })
            .with_hint("did you mean 'from'");
        let status = Status::new(Code::from_i32(error.kind().mapping().grpc), error.to_string());
        let back = of_status("h:1", status);
        assert_eq!(back.kind(), ErrorKind::InvalidInput);
        assert_eq!(back.location(), error.location());
        assert_eq!((back.message(), back.hint()), (error.message(), error.hint()));
        assert!(!is_unreachable(&back));
    }

    #[test]
    fn every_kind_comes_back() {
        for kind in ErrorKind::ALL {
            let status = Status::new(Code::from_i32(kind.mapping().grpc), "odd (line one)");
            let back = of_status("h:1", status);
            assert_eq!((back.kind(), back.message()), (kind, "odd (line one)"));
        }
    }

    #[test]
    fn an_unavailable_store_behind_the_server_is_no_unreachable_server() {
        assert!(!is_unreachable(&of_status("h:1", Status::unavailable("bucket 'b' does not answer"))));
    }
}
