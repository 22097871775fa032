//! The rows of a query that reads no stream, each once.
//!
//! The first attempt runs the query and keeps its rows in objects beside the state of the job, and at last a list of them, with a put
//! that only makes a new one. Whoever finds the list reads the rows that it names. So all attempts of a job read the same rows,
//! whatever becomes of the tables meanwhile. A position is the number of the next object.

use std::io::Cursor;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::ipc::CompressionType;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::{IpcWriteOptions, StreamWriter};
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::path::Path;
use serde::{Deserialize, Serialize};
use tereza_engine::flink::BoundedPlan;
use tereza_runtime::{Error, Result};

use super::files::Read;
use crate::objects::{Objects, Patience, Put};
use crate::operator::batch::BATCH_ROWS_MAX;
use crate::operator::failed;
use crate::operator::state::columns_text;
use crate::record::ObjectRef;

/// Bytes in memory from which on rows are an object.
const OBJECT_BYTES: usize = 8 << 20;
/// Objects of one query.
const OBJECTS_MAX: usize = 100_000;
/// Of the list.
const VERSION: u32 = 1;

/// The rows that were kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct List {
    version: u32,
    columns: String,
    /// Each is an Arrow IPC stream of one batch.
    objects: Vec<ObjectRef>,
}

/// The rows of one query.
pub(crate) struct Once {
    objects: Objects,
    /// The path of what is kept.
    folder: String,
    query: BoundedPlan,
    list: Option<List>,
    next: usize,
}

impl Once {
    /// Rows that are kept in this folder.
    pub(crate) fn new(objects: Objects, folder: String, query: BoundedPlan) -> Self {
        Self { objects, folder, query, list: None, next: 0 }
    }

    /// Runs the query and keeps its rows, unless that was done.
    ///
    /// # Errors
    /// `ResourceExhausted` for too many rows; what the query and the store say.
    pub(crate) async fn keep(&mut self) -> Result<()> {
        if self.found().await? {
            return Ok(());
        }
        let run = self.objects.host.new_id();
        let (mut objects, mut waiting) = (Vec::new(), Waiting::default());
        let mut rows = self.query.rows().await?;
        while let Some(batch) = rows.try_next().await? {
            if waiting.bytes >= OBJECT_BYTES || waiting.rows + batch.num_rows() > BATCH_ROWS_MAX {
                self.put(&run, std::mem::take(&mut waiting), &mut objects).await?;
            }
            waiting.push(batch);
        }
        self.put(&run, waiting, &mut objects).await?;
        let list = List { version: VERSION, columns: columns_text(&self.query.schema()), objects };
        let bytes = serde_json::to_vec(&list);
        let bytes = bytes.map_err(|error| Error::internal(format!("cannot write a list of rows: {error}")))?;
        let bytes = Bytes::from(bytes);
        let there = match self.objects.put_new(&self.place(), &bytes, Patience::Tries, |there| *there == bytes).await? {
            Put::Mine => bytes,
            Put::Taken(there) => there,
        };
        self.take(&there)
    }

    /// Goes on from a position.
    pub(crate) fn begin(&mut self, position: i64) {
        self.next = usize::try_from(position).unwrap_or_default();
    }

    /// The next rows. One that is given up has lost nothing.
    pub(crate) async fn poll(&mut self) -> Result<Read> {
        if !self.found().await? {
            return Err(Error::internal(format!("the rows of {} are read before they are kept", self.folder)));
        }
        let objects = self.list.as_ref().map(|list| list.objects.as_slice()).unwrap_or_default();
        let position = |next: usize| i64::try_from(next).unwrap_or(i64::MAX);
        let Some(object) = objects.get(self.next) else { return Ok(Read::End { position: position(self.next) }) };
        let bytes = self.objects.get(object).await?;
        let bytes = bytes.ok_or_else(|| Error::internal(format!("the object {} is gone", object.path)))?;
        let records = batch_of(bytes, &self.query.schema()).map_err(|error| error.context(&object.path))?;
        self.next += 1;
        Ok(Read::Rows { records, position: position(self.next) })
    }

    /// Looks for the list; whether it is there.
    async fn found(&mut self) -> Result<bool> {
        if self.list.is_some() {
            return Ok(true);
        }
        match self.objects.read(&self.place(), Patience::Tries).await? {
            Some(list) => self.take(&list).map(|()| true),
            None => Ok(false),
        }
    }

    fn place(&self) -> Path {
        Path::from(format!("{}/list.json", self.folder))
    }

    fn take(&mut self, list: &[u8]) -> Result<()> {
        let list: List = serde_json::from_slice(list)
            .map_err(|error| Error::internal(format!("a list of rows cannot be read: {error}")))?;
        if list.version != VERSION {
            return Err(Error::unsupported(format!("a list of rows of version {}, known is {VERSION}", list.version)));
        }
        let wanted = columns_text(&self.query.schema());
        if list.columns != wanted {
            return Err(Error::invalid_input(format!(
                "the rows that the job has read have the columns {}, and its query has {wanted} now",
                list.columns
            ))
            .with_hint("submit the job again"));
        }
        self.list = Some(list);
        Ok(())
    }

    /// Keeps rows as the next object.
    async fn put(&self, run: &str, waiting: Waiting, objects: &mut Vec<ObjectRef>) -> Result<()> {
        if waiting.rows == 0 {
            return Ok(());
        }
        if objects.len() >= OBJECTS_MAX {
            return Err(Error::resource_exhausted(format!(
                "a query of tables for a stream has more than {OBJECTS_MAX} times {BATCH_ROWS_MAX} rows or {OBJECT_BYTES} bytes"
            ))
            .with_hint("write it in several INSERTs"));
        }
        let rows = concat_batches(&self.query.schema(), &waiting.batches).map_err(failed)?;
        let path = format!("{}/{run}/{:08}.arrow", self.folder, objects.len());
        objects.push(self.objects.put(&path, bytes_of(&rows)?).await?);
        Ok(())
    }
}

/// Rows for the next object.
#[derive(Default)]
struct Waiting {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Waiting {
    fn push(&mut self, batch: RecordBatch) {
        self.rows += batch.num_rows();
        self.bytes += batch.get_array_memory_size();
        self.batches.push(batch);
    }
}

fn bytes_of(rows: &RecordBatch) -> Result<Bytes> {
    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME)).map_err(failed)?;
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &rows.schema(), options).map_err(failed)?;
    writer.write(rows).and_then(|()| writer.finish()).map_err(failed)?;
    writer.into_inner().map(Bytes::from).map_err(failed)
}

fn batch_of(bytes: Bytes, schema: &SchemaRef) -> Result<RecordBatch> {
    let mut batches = StreamReader::try_new(Cursor::new(bytes), None).map_err(failed)?;
    let batch = batches.next().ok_or_else(|| Error::internal("an object of rows has none"))?.map_err(failed)?;
    RecordBatch::try_new(SchemaRef::clone(schema), batch.columns().to_vec()).map_err(failed)
}

#[cfg(test)]
#[path = "once_tests.rs"]
mod tests;
