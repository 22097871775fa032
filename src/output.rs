//! Results on standard output: a table for people, CSV, JSON lines, or an Arrow stream.
//!
//! Every format writes batches as they come and keeps at most [`table::SIZING_ROWS`] rows in memory.

use std::error::Error as _;
use std::io::{self, IsTerminal, Write};

use arrow::array::RecordBatch;
use arrow::buffer::NullBuffer;
use arrow::datatypes::Schema;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::json::WriterBuilder;
use arrow::json::writer::{LineDelimited, Writer as JsonWriter};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use clap::ValueEnum;
use tereza_runtime::{Error, Result};

mod csv;
mod table;

/// How results are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns in a box, for people
    Table,
    /// A header and comma-separated lines (quoting of RFC 4180); NULL is empty, an empty string is ""
    Csv,
    /// One JSON object a line
    Json,
    /// An Arrow IPC stream
    Arrow,
}

/// How a table looks; the other formats are the same everywhere.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Style {
    /// Columns of the terminal, where long values are cut; `None` where nothing may be cut.
    pub(crate) width: Option<usize>,
    /// Whether to set off NULL by its colour.
    pub(crate) color: bool,
    /// Whether to write each row as a list of its columns.
    pub(crate) expanded: bool,
}

impl Style {
    /// As it suits standard output: cut and coloured on a terminal, plain elsewhere.
    pub(crate) fn of_terminal() -> Self {
        if !io::stdout().is_terminal() {
            return Self::default();
        }
        let width = terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| usize::from(width.0));
        Self { width, color: wants_color(), expanded: false }
    }
}

/// Whether a terminal may be given colours (<https://no-color.org>).
pub(crate) fn wants_color() -> bool {
    std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Writes the rows of one result.
pub(crate) struct Writer<W: Write>(Inner<W>);

enum Inner<W: Write> {
    Table(table::Writer<W>),
    Csv(csv::Writer<W>),
    Json(JsonWriter<W, LineDelimited>),
    Arrow(StreamWriter<W>),
}

impl<W: Write> Writer<W> {
    /// A writer of batches of `schema`. CSV and Arrow write their header at once.
    pub(crate) fn new(format: Format, style: Style, schema: &Schema, out: W) -> Result<Self> {
        let inner = match format {
            Format::Table => Inner::Table(table::Writer::new(style, schema, out)),
            Format::Csv => Inner::Csv(csv::Writer::new(schema, out)?),
            Format::Json => Inner::Json(WriterBuilder::new().with_explicit_nulls(true).build(out)),
            Format::Arrow => Inner::Arrow(StreamWriter::try_new(out, schema).map_err(failed_encoding)?),
        };
        Ok(Self(inner))
    }

    /// Writes the rows of a batch.
    pub(crate) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match &mut self.0 {
            Inner::Table(writer) => writer.write(batch),
            Inner::Csv(writer) => writer.write(batch),
            Inner::Json(writer) => writer.write(batch).map_err(failed_encoding),
            Inner::Arrow(writer) => writer.write(batch).map_err(failed_encoding),
        }
    }

    /// Writes what is still held back and the format's end, and hands the output back.
    pub(crate) fn finish(self) -> Result<W> {
        let mut out = match self.0 {
            Inner::Table(writer) => writer.finish()?,
            Inner::Csv(writer) => writer.finish(),
            Inner::Json(mut writer) => {
                writer.finish().map_err(failed_encoding)?;
                writer.into_inner()
            }
            Inner::Arrow(writer) => writer.into_inner().map_err(failed_encoding)?,
        };
        out.flush().map_err(failed_write)?;
        Ok(out)
    }
}

/// Whether the error says that nobody reads the output any more (`… | head`).
pub(crate) fn is_closed(error: &Error) -> bool {
    let source = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    source.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

/// The public error for a failed write of results.
pub(crate) fn failed_write(error: io::Error) -> Error {
    Error::unavailable(format!("the result cannot be written: {error}")).with_source(error)
}

fn failed_encoding(error: ArrowError) -> Error {
    match error {
        ArrowError::IoError(_, error) => failed_write(error),
        error => Error::unsupported(format!("the result cannot be written in this format: {error}"))
            .with_hint("choose another --format, or cast the column"),
    }
}

/// The values of a column as text.
struct Column<'a> {
    formatter: ArrayFormatter<'a>,
    nulls: Option<NullBuffer>,
}

impl<'a> Column<'a> {
    /// The columns of a batch.
    fn of(batch: &'a RecordBatch, options: &FormatOptions<'a>) -> Result<Vec<Self>> {
        let mut columns = Vec::with_capacity(batch.num_columns());
        for array in batch.columns() {
            let formatter = ArrayFormatter::try_new(array.as_ref(), options).map_err(failed_encoding)?;
            columns.push(Self { formatter, nulls: array.logical_nulls() });
        }
        Ok(columns)
    }

    /// Puts the text of a row's value into `text`; `false` if it is NULL.
    fn read(&self, row: usize, text: &mut String) -> Result<bool> {
        text.clear();
        if self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(false);
        }
        self.formatter.value(row).write(text).map_err(failed_encoding)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;
