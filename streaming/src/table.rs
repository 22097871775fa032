//! What takes the rows of a job as files: tables of the catalog, and folders (`folder`).

mod folder;

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use tereza_engine::{CompleteFile, Engine, PartitionCommit, StagingTable, StagingWriter, TableChange, TableState};
use tereza_runtime::Result;

use crate::pipeline::{Change, FileWriter, Moment, Outcome, Table, Version};
use crate::record::{DataFile, OpenPartition};

pub(crate) use folder::FolderTable;

/// What takes rows as files.
pub(crate) trait Written: Table<Rows = RecordBatch> {
    /// The columns of the rows that it takes.
    fn schema(&self) -> SchemaRef;

    /// For each of these columns its place among those that a query writes.
    fn places(&self) -> Vec<usize>;

    /// Whether watermarks decide when partitions are complete; none if the table says nothing of that.
    fn needs_watermarks(&self) -> Option<bool>;
}

/// A table of the catalog `tereza`. Its rows are batches with the columns of [`Written::schema`], by position.
///
/// Files come into the folders of their partitions in the commit that sets the marker. Where the table says when partitions are
/// complete, the partition itself comes into the catalog by [`Table::complete`].
#[derive(Debug)]
pub struct CatalogTable(StagingTable);

impl CatalogTable {
    /// Opens a table that exists.
    ///
    /// # Errors
    /// `NotFound` if there is none; `Unsupported` if it is in another catalog than `tereza`, such as `memory`, or is of a format
    /// that is only read; `InvalidInput` if it is a view, or a table of a stream.
    pub async fn open(engine: &Arc<Engine>, catalog: &str, schema: &str, table: &str) -> Result<Self> {
        StagingTable::open(engine, catalog, schema, table).await.map(Self)
    }
}

impl Written for CatalogTable {
    /// The columns that the table had when it was opened, then its partition keys. Columns that it gets later are NULL in the
    /// rows that are written here.
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn places(&self) -> Vec<usize> {
        (0..self.0.schema().fields().len()).collect()
    }

    fn needs_watermarks(&self) -> Option<bool> {
        self.0.policy().map(PartitionCommit::needs_watermarks)
    }
}

#[async_trait]
impl Table for CatalogTable {
    type Rows = RecordBatch;

    async fn begin(&self, name: &str) -> Result<Box<dyn FileWriter<Rows = RecordBatch>>> {
        Ok(Box::new(Files(self.0.begin(name)?)))
    }

    async fn remove_orphans(&self, prefix: &str, kept: &[DataFile]) -> Result<u64> {
        let kept: BTreeSet<&str> = kept.iter().map(|file| file.path.as_str()).collect();
        self.0.remove_orphans(|name| name.starts_with(prefix), &kept).await
    }

    fn partition(&self, file: &DataFile) -> Result<Option<Vec<String>>> {
        match self.0.policy() {
            Some(_) => self.0.partition(&complete(file.clone())),
            None => Ok(None),
        }
    }

    fn is_due(&self, partition: &OpenPartition, moment: Moment) -> Result<bool> {
        let OpenPartition { values, since_ms, .. } = partition;
        let Moment { watermark_ms, now_ms } = moment;
        self.0.policy().map_or(Ok(true), |policy| policy.is_due(values, *since_ms, watermark_ms, now_ms))
    }

    async fn complete(&self, uuid: &str, values: &[String]) -> Result<Outcome> {
        Ok(if self.0.complete(uuid, values).await? { Outcome::Committed } else { Outcome::Conflict })
    }

    async fn has(&self, file: &DataFile) -> Result<bool> {
        self.0.has(&file.path, file.size).await
    }

    async fn load(&self, key: &str) -> Result<Version> {
        let TableState { token, uuid, marker } = self.0.load(key).await?;
        Ok(Version { token, uuid, marker })
    }

    async fn commit(&self, change: Change<'_>) -> Result<Outcome> {
        let Version { token, uuid, marker } = change.base.clone();
        let base = TableState { token, uuid, marker };
        let files: Vec<CompleteFile> = change.files.iter().cloned().map(complete).collect();
        let change = TableChange { base: &base, key: change.key, marker: change.marker, files: &files };
        Ok(if self.0.commit(change).await? { Outcome::Committed } else { Outcome::Conflict })
    }
}

struct Files(StagingWriter);

#[async_trait]
impl FileWriter for Files {
    type Rows = RecordBatch;

    async fn write(&mut self, rows: RecordBatch) -> Result<()> {
        self.0.write(&rows).await
    }

    async fn finish(self: Box<Self>) -> Result<Vec<DataFile>> {
        let files = self.0.finish().await?.into_iter();
        Ok(files.map(|CompleteFile { path, size, rows, token }| DataFile { path, size, rows, token }).collect())
    }
}

fn complete(DataFile { path, size, rows, token }: DataFile) -> CompleteFile {
    CompleteFile { path, size, rows, token }
}

#[cfg(test)]
mod tests;
