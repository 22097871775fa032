//! A message of an edge: rows with their kinds, and up to where time has come for its sender.
//!
//! The value is one Arrow IPC stream with one batch: the columns, then the kind of each row as a number. It is missing where there are no
//! rows. Headers are texts: `version`, `generation`, `task` and `tasks` (the sender, and how many there are), `watermark` (milliseconds
//! since 1970, `IDLE` or `MAX`; none before the first one), and `hash`, that of the value.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt8Array};
use arrow::datatypes::{DataType, Field, Schema, UInt8Type};
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use bytes::Bytes;
use tereza_runtime::{Error, Result};

use crate::log::kafka::TASKS_MAX;
use crate::operator::batch::Batch;
use crate::operator::key::key_hash;
use crate::operator::{RowKind, WATERMARK_MAX, failed};

/// The only version of messages that is written and read.
const VERSION: &str = "1";
/// The kinds of rows, by their numbers.
const KINDS: [RowKind; 4] = [RowKind::Insert, RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete];

/// Up to where time has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// Nobody is to wait.
    Idle,
    /// Milliseconds since 1970; [`WATERMARK_MAX`] is the end.
    At(i64),
}

impl Mark {
    /// As a graph takes it.
    pub(crate) fn watermark(self) -> Option<i64> {
        match self {
            Self::Idle => None,
            Self::At(ms) => Some(ms),
        }
    }

    /// The least of several that are not idle; `None` while one has shown nothing, or there are none.
    pub(crate) fn least(marks: impl IntoIterator<Item = Option<Self>>) -> Option<Self> {
        let mut least = None;
        for mark in marks {
            least = match (least, mark?) {
                (Some(Self::At(one)), Self::At(other)) => Some(Self::At(one.min(other))),
                (Some(Self::At(one)), Self::Idle) => Some(Self::At(one)),
                (_, mark) => Some(mark),
            };
        }
        least
    }
}

impl From<Option<i64>> for Mark {
    fn from(watermark: Option<i64>) -> Self {
        watermark.map_or(Self::Idle, Self::At)
    }
}

/// Who sends a message, and what it tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) generation: u64,
    pub(crate) task: u32,
    /// Tasks of the generation.
    pub(crate) tasks: u32,
    /// Holds after the rows of the message, in its partition.
    pub(crate) mark: Option<Mark>,
}

/// Headers of a message of Kafka.
pub(crate) type Headers = Vec<(String, Option<Bytes>)>;

/// The headers and the value of a message.
pub(crate) fn encode(head: &Head, rows: Option<&Batch>) -> Result<(Headers, Option<Bytes>)> {
    let value = rows.map(write).transpose()?;
    let mut headers = vec![
        ("version", VERSION.to_owned()),
        ("generation", head.generation.to_string()),
        ("task", head.task.to_string()),
        ("tasks", head.tasks.to_string()),
    ];
    match head.mark {
        None => {}
        Some(Mark::Idle) => headers.push(("watermark", "IDLE".to_owned())),
        Some(Mark::At(WATERMARK_MAX)) => headers.push(("watermark", "MAX".to_owned())),
        Some(Mark::At(ms)) => headers.push(("watermark", ms.to_string())),
    }
    headers.extend(value.as_ref().map(|value| ("hash", hash(value))));
    Ok((headers.into_iter().map(|(name, text)| (name.to_owned(), Some(text.into()))).collect(), value))
}

/// What [`encode`] made of rows with the columns of `schema`.
///
/// # Errors
/// `Unsupported` if a later release wrote it; `InvalidInput` if it is damaged, or none of the edge's.
pub(crate) fn decode(
    headers: &[(String, Option<Bytes>)],
    value: Option<&Bytes>,
    schema: &Schema,
) -> Result<(Head, Option<Batch>)> {
    let text = |name: &str| {
        let found = headers.iter().find(|(key, _)| key == name).and_then(|(_, value)| value.as_ref());
        found.map(|text| std::str::from_utf8(text).map_err(|_| damaged(&format!("'{name}' is no text")))).transpose()
    };
    let wanted = |name: &str| text(name)?.ok_or_else(|| damaged(&format!("'{name}' is missing")));
    let version = wanted("version")?;
    if version != VERSION {
        return Err(Error::unsupported(format!("a message of an edge of version {version}"))
            .with_hint("a later release wrote it: use that one"));
    }
    let wrong = |name: &str| damaged(&format!("'{name}' is no number"));
    let generation = wanted("generation")?.parse().map_err(|_| wrong("generation"))?;
    let task: u32 = wanted("task")?.parse().map_err(|_| wrong("task"))?;
    let tasks: u32 = wanted("tasks")?.parse().map_err(|_| wrong("tasks"))?;
    if tasks > TASKS_MAX || task >= tasks {
        return Err(damaged(&format!("it is of task {task} of {tasks}")));
    }
    let mark = match text("watermark")? {
        None => None,
        Some("IDLE") => Some(Mark::Idle),
        Some("MAX") => Some(Mark::At(WATERMARK_MAX)),
        Some(ms) => Some(Mark::At(ms.parse().map_err(|_| wrong("watermark"))?)),
    };
    let rows = match value {
        None => None,
        // Arrow's reader trusts what it is given.
        Some(value) if wanted("hash")? != hash(value) => return Err(damaged("its hash is another one")),
        Some(value) => Some(read(value, schema)?),
    };
    Ok((Head { generation, task, tasks, mark }, rows))
}

fn hash(value: &[u8]) -> String {
    format!("{:016x}", key_hash(value))
}

fn damaged(what: &str) -> Error {
    Error::invalid_input(format!("a message of an edge is damaged: {what}"))
}

fn write(batch: &Batch) -> Result<Bytes> {
    let kinds: UInt8Array = (0..batch.len()).map(|row| Some(batch.kind(row) as u8)).collect();
    let rows = batch.rows();
    let mut fields = rows.schema_ref().fields().to_vec();
    fields.push(Arc::new(Field::new("kind", DataType::UInt8, true)));
    let mut columns = rows.columns().to_vec();
    columns.push(Arc::new(kinds));
    let schema = Arc::new(Schema::new(fields));
    let rows = RecordBatch::try_new(Arc::clone(&schema), columns).map_err(failed)?;
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME)).map_err(failed)?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &schema, options).map_err(failed)?;
    writer.write(&rows).map_err(failed)?;
    Ok(writer.into_inner().map_err(failed)?.into())
}

fn read(value: &[u8], schema: &Schema) -> Result<Batch> {
    let broken = |error: arrow::error::ArrowError| damaged(&error.to_string());
    let batches = StreamReader::try_new(value, None).map_err(broken)?.collect::<Result<Vec<_>, _>>().map_err(broken)?;
    let [rows] = &batches[..] else { return Err(damaged(&format!("it has {} batches", batches.len()))) };
    let (found, wanted) = (rows.schema_ref().fields(), schema.fields());
    let is_same = found.len() == wanted.len() + 1
        && found.iter().zip(wanted).all(|(found, wanted)| found.data_type().equals_datatype(wanted.data_type()))
        && found.last().is_some_and(|kind| *kind.data_type() == DataType::UInt8);
    if !is_same {
        return Err(damaged("it has other columns"));
    }
    let (columns, kinds) = rows.columns().split_at(wanted.len());
    let kinds = kinds[0].as_primitive::<UInt8Type>().iter();
    let kinds = kinds.map(|kind| KINDS.get(usize::from(kind?)).copied()).collect::<Option<Vec<_>>>();
    let kinds = kinds.ok_or_else(|| damaged("it has a kind of rows that there is not"))?;
    let columns: Vec<ArrayRef> = columns.to_vec();
    let schema = Schema::new(found[..columns.len()].to_vec());
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Batch::changes(RecordBatch::try_new_with_options(Arc::new(schema), columns, &options).map_err(broken)?, kinds)
}
