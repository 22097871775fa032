//! `debezium-json`: an object with the row `before` and `after` a change and what the change was, `op`.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use async_trait::async_trait;
use tereza_runtime::{Error, Result};

use super::cells::write_rows;
use super::column::Rows;
use super::json::{self, Fault, JsonOptions, ObjectReader, ObjectWriter, Parser, Token};
use super::text::push_display;
use super::{Bad, FormatOptions, Reason, RowKind, RowReader, RowWriter};

/// The format's name.
pub(super) const NAME: &str = "debezium-json";
/// Whether messages have their schema beside them, as Kafka Connect writes them.
const SCHEMA_INCLUDE: &str = "schema-include";

/// The options and whether messages have their schema.
fn options_of(options: &FormatOptions) -> Result<(JsonOptions, bool)> {
    let mut known = json::COMMON.to_vec();
    known.push(SCHEMA_INCLUDE);
    options.check(&known)?;
    Ok((JsonOptions::common(options)?, options.is(SCHEMA_INCLUDE, false)?))
}

#[derive(Debug)]
pub(super) struct DebeziumReader {
    objects: ObjectReader,
    has_schema: bool,
}

/// Where the members of a change stand in its message.
#[derive(Debug, Default)]
struct Change<'a> {
    before: Option<&'a [u8]>,
    after: Option<&'a [u8]>,
    op: Option<String>,
}

impl DebeziumReader {
    /// A reader of rows of a schema. Errors: as that of `json`.
    pub(super) fn new(options: &FormatOptions, schema: &Schema) -> Result<Self> {
        let (options, has_schema) = options_of(options)?;
        json::check_types(schema.fields())?;
        Ok(Self { objects: ObjectReader::new(&options), has_schema })
    }

    fn read_row(&self, bytes: &[u8], rows: &mut Rows) -> Bad {
        let mut parser = Parser::new(bytes);
        if parser.value()? != Token::Object {
            return Err("the row is no object".to_owned());
        }
        let len = rows.len();
        let (names, columns) = rows.fields();
        self.objects.read_members(&mut parser, names, columns, len).map_err(Fault::into_reason)?;
        rows.end_row();
        Ok(())
    }

    fn add(&self, row: Option<&[u8]>, kind: RowKind, rows: &mut Rows, kinds: &mut Vec<RowKind>) -> Bad {
        let Some(row) = row else {
            return Err(match kind {
                RowKind::UpdateBefore | RowKind::Delete => {
                    "`before` is NULL; a table of PostgreSQL needs REPLICA IDENTITY FULL".to_owned()
                }
                _ => "`after` is NULL".to_owned(),
            });
        };
        self.read_row(row, rows)?;
        kinds.push(kind);
        Ok(())
    }
}

/// The members of the object that was just begun.
fn change<'a>(parser: &mut Parser<'a>, bytes: &'a [u8]) -> Result<Change<'a>, Reason> {
    let mut change = Change::default();
    while let Some(name) = parser.next_name()? {
        let start = parser.position();
        let token = parser.value()?;
        parser.skip(&token)?;
        let end = parser.position();
        let row = (token != Token::Null).then(|| &bytes[start..end]);
        match name.as_ref() {
            "before" => change.before = row,
            "after" => change.after = row,
            "op" => {
                change.op = match token {
                    Token::Text(op) => Some(op.into_owned()),
                    _ => None,
                }
            }
            _ => {}
        }
    }
    Ok(change)
}

#[async_trait]
impl RowReader for DebeziumReader {
    fn read(&mut self, bytes: Option<&[u8]>, rows: &mut Rows, kinds: &mut Vec<RowKind>) -> Bad {
        // A tombstone follows each deletion, for the topic's compaction.
        let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else { return Ok(()) };
        let mut parser = Parser::new(bytes);
        if parser.value()? != Token::Object {
            return Err("the JSON is no object".to_owned());
        }
        let mut found = None;
        if self.has_schema {
            while let Some(name) = parser.next_name()? {
                match parser.value()? {
                    Token::Object if name == "payload" => found = Some(change(&mut parser, bytes)?),
                    token => parser.skip(&token)?,
                }
            }
        } else {
            found = Some(change(&mut parser, bytes)?);
        }
        let change = found.ok_or("there is no `payload`")?;
        match change.op.as_deref() {
            Some("c" | "r") => self.add(change.after, RowKind::Insert, rows, kinds),
            Some("u") => {
                self.add(change.before, RowKind::UpdateBefore, rows, kinds)?;
                self.add(change.after, RowKind::UpdateAfter, rows, kinds)
            }
            Some("d") => self.add(change.before, RowKind::Delete, rows, kinds),
            Some(other) => Err(format!("`op` is `{}`, not c, r, u or d", json::shortened(other))),
            None => Err("there is no `op`".to_owned()),
        }
    }
}

#[derive(Debug)]
pub(super) struct DebeziumWriter {
    objects: ObjectWriter,
    leaves_out_nulls: bool,
}

impl DebeziumWriter {
    /// A writer of rows of a schema. Errors: as that of `json`, and `schema-include`, as messages are written without theirs.
    pub(super) fn new(options: &FormatOptions, schema: &Schema) -> Result<Self> {
        let (json, has_schema) = options_of(options)?;
        if has_schema {
            return Err(Error::unsupported(format!("writing messages with `{NAME}.{SCHEMA_INCLUDE}`")));
        }
        Ok(Self { objects: ObjectWriter::new(&json, schema)?, leaves_out_nulls: json.leaves_out_nulls })
    }
}

#[async_trait]
impl RowWriter for DebeziumWriter {
    fn write(
        &mut self,
        batch: &RecordBatch,
        kinds: Option<&[RowKind]>,
        out: &mut Vec<u8>,
        ends: &mut Vec<Option<usize>>,
    ) -> Result<()> {
        let (no_before, no_after) = match self.leaves_out_nulls {
            true => ("", ""),
            false => (r#""before":null,"#, r#","after":null"#),
        };
        write_rows(batch, out, ends, |cells, row, out| {
            match kinds.map_or(RowKind::Insert, |kinds| kinds[row]) {
                RowKind::Insert | RowKind::UpdateAfter => {
                    push_display(out, format_args!(r#"{{{no_before}"after":"#));
                    self.objects.write_row(cells, row, out)?;
                    out.extend_from_slice(br#","op":"c"}"#);
                }
                RowKind::UpdateBefore | RowKind::Delete => {
                    out.extend_from_slice(br#"{"before":"#);
                    self.objects.write_row(cells, row, out)?;
                    push_display(out, format_args!(r#"{no_after},"op":"d"}}"#));
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests;
