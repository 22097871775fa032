//! Folders that take the rows of a job, with no catalog.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use tereza_engine::{CompleteFile, Engine, Folder, PartitionCommit, StagingFolder, TableState};
use tereza_runtime::Result;

use super::{Files, Written, complete};
use crate::pipeline::{Change, FileWriter, Moment, Outcome, Table, Version};
use crate::record::{DataFile, OpenPartition};

/// A folder. Files come to their places by a commit, and a marker says then how far the folder has come: both may be repeated.
#[derive(Debug)]
pub(crate) struct FolderTable(StagingFolder);

impl FolderTable {
    pub(crate) fn open(engine: &Arc<Engine>, folder: Folder) -> Result<Self> {
        StagingFolder::open(engine, folder).map(Self)
    }

    /// Forgets how far the folder has the rows of a job.
    pub(crate) async fn forget(&self, uid: &str) -> Result<()> {
        self.0.forget(&format!("tereza.{uid}.")).await
    }
}

impl Written for FolderTable {
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }

    fn places(&self) -> Vec<usize> {
        self.0.places().to_vec()
    }

    fn needs_watermarks(&self) -> Option<bool> {
        self.0.policy().map(PartitionCommit::needs_watermarks)
    }
}

#[async_trait]
impl Table for FolderTable {
    type Rows = RecordBatch;

    async fn begin(&self, name: &str) -> Result<Box<dyn FileWriter<Rows = RecordBatch>>> {
        Ok(Box::new(Files(self.0.begin(name)?)))
    }

    async fn remove_orphans(&self, prefix: &str, kept: &[DataFile]) -> Result<u64> {
        let kept: Vec<&str> = kept.iter().map(|file| file.path.as_str()).collect();
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

    async fn complete(&self, _: &str, values: &[String]) -> Result<Outcome> {
        self.0.complete(values).await.map(|()| Outcome::Committed)
    }

    async fn has(&self, file: &DataFile) -> Result<bool> {
        self.0.has(&complete(file.clone())).await
    }

    async fn load(&self, key: &str) -> Result<Version> {
        let TableState { token, uuid, marker } = self.0.load(key).await?;
        Ok(Version { token, uuid, marker })
    }

    async fn commit(&self, change: Change<'_>) -> Result<Outcome> {
        let files: Vec<CompleteFile> = change.files.iter().cloned().map(complete).collect();
        self.0.commit(change.key, change.marker, &files).await.map(|()| Outcome::Committed)
    }
}
