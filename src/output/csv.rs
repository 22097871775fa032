//! CSV with the quoting of RFC 4180 and line ends of `\n`.
//!
//! Own code, because the library's writer refuses nested types and writes NULL and the empty string alike: here NULL
//! is nothing and the empty string is `""`. A row of a single NULL is `""` too, since readers skip empty lines.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::util::display::FormatOptions;
use tereza_runtime::Result;

use super::{Column, failed_write};

pub(super) struct Writer<W> {
    out: W,
}

impl<W: Write> Writer<W> {
    pub(super) fn new(schema: &Schema, mut out: W) -> Result<Self> {
        let mut line = String::new();
        for (at, field) in schema.fields().iter().enumerate() {
            if at > 0 {
                line.push(',');
            }
            push_field(&mut line, field.name());
        }
        line.push('\n');
        out.write_all(line.as_bytes()).map_err(failed_write)?;
        Ok(Self { out })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let columns = Column::of(batch, &FormatOptions::new())?;
        let mut line = String::new();
        let mut value = String::new();
        for row in 0..batch.num_rows() {
            line.clear();
            for (at, column) in columns.iter().enumerate() {
                if at > 0 {
                    line.push(',');
                }
                let has_value = column.read(row, &mut value)?;
                if has_value || columns.len() == 1 {
                    push_field(&mut line, &value);
                }
            }
            line.push('\n');
            self.out.write_all(line.as_bytes()).map_err(failed_write)?;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> W {
        self.out
    }
}

fn push_field(line: &mut String, value: &str) {
    let needs_quotes = value.is_empty() || value.contains([',', '"', '\n', '\r']);
    if needs_quotes {
        line.push('"');
        line.push_str(&value.replace('"', "\"\""));
        line.push('"');
    } else {
        line.push_str(value);
    }
}
