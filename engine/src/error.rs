//! DataFusion's, Arrow's and the object stores' errors as Tereza's.
//!
//! The kind is decided once, here, from the innermost error: what it says about the caller's duty (fix the statement,
//! free memory, try later) must not depend on how many layers of context DataFusion put around it.

use std::error::Error as StdError;
use std::io;
use std::sync::Arc;

use arrow::error::ArrowError;
use datafusion::common::{Diagnostic, SchemaError};
use datafusion::error::DataFusionError;
use datafusion::parquet::errors::ParquetError;
use tereza_runtime::{Error, ErrorKind, Location, open_files};

/// The public error for one of DataFusion: kind, message without its layers of context, and the place in the statement.
pub(crate) fn from_datafusion(error: DataFusionError) -> Error {
    let location = diagnostic(&error)
        .and_then(|diagnostic| diagnostic.span)
        .map(|span| Location { line: span.start.line, column: span.start.column });
    let translated = translate(&error);
    match location {
        Some(location) if translated.location().is_none() && location.line > 0 => translated.with_location(location),
        _ => translated,
    }
}

/// The way back, for code that DataFusion calls: [`from_datafusion`] finds the same error in it again.
pub(crate) fn to_datafusion(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The public error for one of an object store; the caller adds what it reached for.
pub(crate) fn from_object_store(error: &object_store::Error) -> Error {
    if let Some(io) = find_source::<io::Error>(error)
        && from_io(io).kind() == ErrorKind::ResourceExhausted
    {
        return from_io(io);
    }
    let kind = match error {
        object_store::Error::NotFound { .. } => ErrorKind::NotFound,
        object_store::Error::InvalidPath { .. } => ErrorKind::InvalidInput,
        object_store::Error::NotSupported { .. } | object_store::Error::NotImplemented { .. } => ErrorKind::Unsupported,
        object_store::Error::AlreadyExists { .. } => ErrorKind::AlreadyExists,
        object_store::Error::Precondition { .. } => ErrorKind::Conflict,
        object_store::Error::PermissionDenied { .. } => ErrorKind::Denied,
        object_store::Error::Unauthenticated { .. } => ErrorKind::Unauthenticated,
        object_store::Error::UnknownConfigurationKey { .. } => ErrorKind::InvalidInput,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, lower_first(&with_sources(error)))
}

/// The public error for one of the operating system.
pub(crate) fn from_io(error: &io::Error) -> Error {
    if open_files::are_too_many(error) {
        return Error::resource_exhausted(lower_first(&error.to_string()))
            .with_hint("raise the limit of open files of the process (ulimit -n)");
    }
    let kind = match error.kind() {
        io::ErrorKind::NotFound => ErrorKind::NotFound,
        io::ErrorKind::PermissionDenied => ErrorKind::Denied,
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::ResourceExhausted,
        _ => ErrorKind::Unavailable,
    };
    let translated = Error::new(kind, lower_first(&error.to_string()));
    if kind == ErrorKind::ResourceExhausted { translated.with_hint("free some disk space") } else { translated }
}

fn translate(error: &DataFusionError) -> Error {
    match error {
        DataFusionError::Context(context, inner) => {
            let inner = translate(inner);
            // DataFusion's own context ("type_coercion", "Optimizer rule …") tells a user nothing; a file's name does.
            if context.contains("://") || context.contains('/') { inner.context(context) } else { inner }
        }
        DataFusionError::Diagnostic(_, inner) => translate(inner),
        DataFusionError::Shared(inner) => translate(inner),
        DataFusionError::Collection(errors) => match errors.first() {
            Some(first) => translate(first),
            None => Error::internal("an empty list of errors"),
        },
        DataFusionError::External(inner) => from_any(inner.as_ref()),
        DataFusionError::ArrowError(inner, _) => from_arrow(inner),
        DataFusionError::ParquetError(inner) => from_parquet(inner),
        DataFusionError::ObjectStore(inner) => from_object_store(inner),
        DataFusionError::IoError(inner) => from_io(inner),
        DataFusionError::SQL(inner, _) => from_parser(&inner.to_string()),
        DataFusionError::NotImplemented(message) => Error::unsupported(lower_first(message)),
        DataFusionError::Plan(message)
        | DataFusionError::Configuration(message)
        | DataFusionError::Substrait(message) => Error::invalid_input(lower_first(message)),
        DataFusionError::SchemaError(inner, _) => from_schema(inner),
        DataFusionError::Execution(message) => Error::invalid_input(lower_first(message)),
        DataFusionError::ExecutionJoin(inner) if inner.is_cancelled() => Error::cancelled("the query was cancelled"),
        DataFusionError::ExecutionJoin(inner) => Error::internal(format!("a task of the query failed: {inner}")),
        DataFusionError::ResourcesExhausted(message) => exhausted(message),
        DataFusionError::Internal(message) => Error::internal(lower_first(first_line(message))),
        DataFusionError::Ffi(message) => Error::internal(lower_first(message)),
    }
}

fn exhausted(message: &str) -> Error {
    let hint = if message.contains("disk space") || message.contains("max_temp_directory_size") {
        "raise engine.spill_limit_bytes or make the query smaller"
    } else {
        "raise engine.memory_limit_bytes, lower engine.target_partitions or make the query smaller"
    };
    Error::resource_exhausted(lower_first(message)).with_hint(hint)
}

fn from_schema(error: &SchemaError) -> Error {
    match error {
        SchemaError::FieldNotFound { field, valid_fields } => {
            let known: Vec<String> = valid_fields.iter().map(|column| column.flat_name()).take(20).collect();
            let missing = Error::invalid_input(format!("column '{}' not found", field.flat_name()));
            if known.is_empty() {
                missing
            } else {
                missing.with_hint(format!("the columns here are {}", known.join(", ")))
            }
        }
        other => Error::invalid_input(lower_first(&other.to_string())),
    }
}

fn from_parser(message: &str) -> Error {
    let message = message.trim_start_matches("sql parser error: ");
    match message.rsplit_once(" at Line: ") {
        Some((text, place)) => {
            let translated = Error::invalid_input(lower_first(text));
            match place.split_once(", Column: ") {
                Some((line, column)) => match (line.trim().parse(), column.trim().parse()) {
                    (Ok(line), Ok(column)) => translated.with_location(Location { line, column }),
                    _ => translated,
                },
                None => translated,
            }
        }
        None => Error::invalid_input(lower_first(message)),
    }
}

fn from_arrow(error: &ArrowError) -> Error {
    match error {
        ArrowError::ExternalError(inner) => from_any(inner.as_ref()),
        ArrowError::IoError(_, inner) => from_io(inner),
        ArrowError::NotYetImplemented(message) => Error::unsupported(lower_first(message)),
        ArrowError::MemoryError(message) => exhausted(message),
        ArrowError::DivideByZero => Error::invalid_input("division by zero"),
        other => Error::invalid_input(lower_first(&other.to_string())),
    }
}

fn from_parquet(error: &ParquetError) -> Error {
    match error {
        ParquetError::External(inner) => from_any(inner.as_ref()),
        ParquetError::NYI(message) => Error::unsupported(format!("Parquet: {message}")),
        other => Error::invalid_input(format!("broken Parquet file: {}", lower_first(&other.to_string()))),
    }
}

/// Finds a Tereza, DataFusion, Arrow, Parquet, object-store or I/O error in one of unknown type.
pub(crate) fn from_any(error: &(dyn StdError + 'static)) -> Error {
    if let Some(error) = error.downcast_ref::<Error>() {
        return duplicate(error);
    }
    if let Some(error) = error.downcast_ref::<DataFusionError>() {
        return translate(error);
    }
    if let Some(error) = error.downcast_ref::<Arc<DataFusionError>>() {
        return translate(error);
    }
    if let Some(error) = error.downcast_ref::<ArrowError>() {
        return from_arrow(error);
    }
    if let Some(error) = error.downcast_ref::<ParquetError>() {
        return from_parquet(error);
    }
    if let Some(error) = error.downcast_ref::<object_store::Error>() {
        return from_object_store(error);
    }
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return from_io(error);
    }
    match error.source() {
        Some(source) => from_any(source),
        None => Error::internal(lower_first(&error.to_string())),
    }
}

fn duplicate(error: &Error) -> Error {
    let mut copy = Error::new(error.kind(), error.message());
    if let Some(hint) = error.hint() {
        copy = copy.with_hint(hint);
    }
    match error.location() {
        Some(location) => copy.with_location(location),
        None => copy,
    }
}

fn diagnostic(error: &DataFusionError) -> Option<&Diagnostic> {
    match error {
        DataFusionError::Diagnostic(diagnostic, _) => Some(diagnostic),
        DataFusionError::Context(_, inner) => diagnostic(inner),
        DataFusionError::Shared(inner) => diagnostic(inner),
        DataFusionError::Collection(errors) => errors.iter().find_map(diagnostic),
        _ => None,
    }
}

fn find_source<'a, T: StdError + 'static>(error: &'a (dyn StdError + 'static)) -> Option<&'a T> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<T>() {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The message with those of its sources that it does not repeat already.
fn with_sources(error: &(dyn StdError + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        next = source.source();
    }
    text
}

fn first_line(message: &str) -> &str {
    message.lines().next().unwrap_or_default()
}

/// Lower-cases the first letter unless the word is an acronym or a name (`SQL`, `Parquet`).
fn lower_first(message: &str) -> String {
    let message = message.trim().trim_end_matches('.');
    let mut chars = message.chars();
    match (chars.next(), chars.next()) {
        (Some(first), Some(second)) if first.is_uppercase() && second.is_lowercase() => {
            first.to_lowercase().chain(std::iter::once(second)).chain(chars).collect()
        }
        _ => message.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_error_survives_the_way_through_datafusion() {
        let inner = Error::conflict("table t has version 3, not 2").with_hint("read it again");
        let wrapped = DataFusionError::Context("optimizer".into(), Box::new(to_datafusion(inner)));
        let back = from_datafusion(DataFusionError::Shared(Arc::new(wrapped)));
        assert_eq!(back.kind(), ErrorKind::Conflict);
        assert_eq!(back.to_string(), "table t has version 3, not 2; read it again");
    }

    #[test]
    fn a_full_disk_is_exhaustion_wherever_it_hides() {
        let io = io::Error::from(io::ErrorKind::StorageFull);
        let arrow = ArrowError::IoError("spill".into(), io);
        assert_eq!(from_datafusion(DataFusionError::from(arrow)).kind(), ErrorKind::ResourceExhausted);
        let io = io::Error::from(io::ErrorKind::StorageFull);
        let store = object_store::Error::Generic { store: "LocalFileSystem", source: Box::new(io) };
        assert_eq!(from_object_store(&store).kind(), ErrorKind::ResourceExhausted);
    }

    #[test]
    fn a_syntax_error_has_its_place() {
        let error = from_parser("sql parser error: Expected: FROM, found: frm at Line: 2, Column: 5");
        assert_eq!(error.location(), Some(Location { line: 2, column: 5 }));
        assert_eq!(error.message(), "expected: FROM, found: frm");
    }

    #[test]
    fn acronyms_keep_their_case() {
        assert_eq!(lower_first("SQL is hard."), "SQL is hard");
        assert_eq!(lower_first("Table is gone"), "table is gone");
    }
}
