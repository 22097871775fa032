//! Writes whose tasks run on executors: the files are made there, the commit stays with the catalog.
//!
//! `CommitExec` gets its descriptions of files from a leaf that runs the rows' plan on the cluster, with `WriteExec` on top.
//! A task there may be given up and begun again, by Ballista or with its whole attempt; each try writes files of its own, and
//! only those are committed that the attempt's result describes. The others lie in a folder of the write's own, which is
//! named in the catalog before the first task and removed after the last; and again later, since an executor that was
//! given up may go on for a while.

use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DataFusionError, Result as DataFusionResult};
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::logical_expr::{DmlStatement, Expr, LogicalPlan, TableType, WriteOp};
use datafusion::physical_plan::ExecutionPlan;
use futures::stream::{self, StreamExt, TryStreamExt};
use tereza_catalog::store::{StagedFile, Write};
use tereza_runtime::{Error, Result};

use super::commit_exec::CommitExec;
use super::output::{Output, OutputMessage};
use super::write_exec::WriteExec;
use super::written::WrittenFile;
use super::{BACKGROUND, files, recover};
use crate::engine::Engine;
use crate::error::to_datafusion;
use crate::stores::ObjectStores;

/// When what executors wrote too late is removed, counted from the end of the write and then from the time before. One that
/// was given up is told so, or ends, long before the first; the second is for one that was stopped, or cut off, for longer.
const LATE: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(60 * 60)];
/// Time for the first look at what dead processes left; where a store does not answer, the next goes on.
const NOW_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests to an object store at once.
const REQUESTS_IN_FLIGHT_MAX: usize = 16;
/// Writes whose folders are looked at at once.
const SWEPT_AT_ONCE: usize = 4;

/// The tasks of a write that was planned for this process, for executors.
#[derive(Debug, Clone)]
pub(crate) struct RemoteTasks {
    commit: Arc<dyn ExecutionPlan>,
    output: Arc<Output>,
}

impl RemoteTasks {
    /// Those of a plan, if it is a write; `Unsupported` if they cannot run anywhere else.
    pub(crate) async fn of(plan: &Arc<dyn ExecutionPlan>) -> Result<Option<Self>> {
        let Some(commit) = plan.downcast_ref::<CommitExec>() else { return Ok(None) };
        let local = commit.output();
        let output = Arc::new(local.listed(local.elsewhere().await?)?);
        Ok(Some(Self { commit: Arc::clone(plan), output }))
    }

    /// The statement that makes the files and yields their descriptions, from the one that writes.
    pub(crate) fn logical(&self, statement: &LogicalPlan) -> Option<LogicalPlan> {
        let LogicalPlan::Dml(dml) = statement else { return None };
        let target = provider_as_source(Arc::new(Files { output: Arc::clone(&self.output) }));
        let insert = WriteOp::Insert(InsertOp::Append);
        let tasks = DmlStatement::new(dml.table_name.clone(), target, insert, Arc::clone(&dml.input));
        Some(LogicalPlan::Dml(tasks))
    }

    /// The plan of the same in this process.
    pub(crate) fn local(&self) -> Option<Arc<dyn ExecutionPlan>> {
        self.commit.children().first().map(|input| Arc::clone(input))
    }

    /// The commit of the files that `tasks` describes.
    pub(crate) fn committed(&self, tasks: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
        match self.commit.downcast_ref::<CommitExec>() {
            Some(commit) => Arc::new(commit.on_executors(Arc::clone(&self.output), tasks)),
            None => tasks,
        }
    }
}

/// The files of a write, as a table that rows go into.
#[derive(Debug)]
struct Files {
    output: Arc<Output>,
}

#[async_trait]
impl TableProvider for Files {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.output.columns)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        _projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        _limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Err(DataFusionError::Plan("files are read while they are written".into()))
    }

    async fn insert_into(
        &self,
        _state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        _op: InsertOp,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(WriteExec::new(Arc::clone(&self.output), input)))
    }
}

/// The tasks of a write as they travel, if that is what the node is.
pub(crate) fn encode_tasks(node: &Arc<dyn ExecutionPlan>) -> Option<OutputMessage> {
    node.downcast_ref::<WriteExec>()?.output().message()
}

/// The tasks of a write that traveled.
pub(crate) fn decode_tasks(
    message: OutputMessage,
    input: Arc<dyn ExecutionPlan>,
    stores: Arc<ObjectStores>,
) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
    let output = Output::of_message(message, stores).map_err(to_datafusion)?;
    Ok(Arc::new(WriteExec::new(Arc::new(output), input)))
}

/// The folders that tasks will write into, to be named before the first of them begins: as a write of their own, which
/// outlives the one that commits, so that whoever comes next knows of them also when this process dies after the commit.
pub(super) fn folders(engine: &Engine, output: &Output) -> Write {
    let folders = output.staging_folders().into_iter();
    Write {
        id: folders_id(output),
        database: output.table.database.clone(),
        table: output.table.name.clone(),
        owner: engine.process_id.clone(),
        began_ms: engine.clock.unix_ms(),
        staged: folders.map(|folder| StagedFile { target: folder.clone(), staged: folder }).collect(),
    }
}

pub(super) fn folders_id(output: &Output) -> String {
    format!("{}-folders", output.id)
}

/// Refuses files that this process does not find as they were described: executors on other machines may have other disks.
pub(super) async fn require_files(engine: &Engine, files: &[WrittenFile]) -> Result<()> {
    let described: Vec<(String, u64)> =
        files.iter().map(|written| (written.file.staged.clone(), written.bytes)).collect();
    let checks = described.into_iter().map(|(url, bytes)| require_file(engine, url, bytes));
    stream::iter(checks).buffer_unordered(REQUESTS_IN_FLIGHT_MAX).try_collect().await
}

async fn require_file(engine: &Engine, url: String, bytes: u64) -> Result<()> {
    match files::is_there(&engine.stores.place(&url)?, bytes).await? {
        true => Ok(()),
        false => Err(Error::unavailable(format!("{url}, which an executor wrote, is not found here"))
            .with_hint("put the table where all executors and this process reach it, or SET tereza.mode = 'local'")),
    }
}

/// Removes what tasks left that nothing describes.
pub(super) async fn sweep(engine: &Engine, output: &Output) -> Result<()> {
    recover::remove_files_of(engine, &folders_id(output)).await
}

/// Removes what executors that were given up still write, and then forgets the folders of that id.
pub(super) fn sweep_later(engine: &Arc<Engine>, write: String) {
    sweep_in_turn(engine, vec![write]);
}

/// The same, now and later, for writes of a process that died: its executors may go on for a while.
pub(super) fn sweep_from_now(engine: &Arc<Engine>, writes: Vec<String>) {
    if writes.is_empty() {
        return;
    }
    // A process that runs one statement waits for this before it ends, and not for what comes later.
    let now = tokio::time::timeout(NOW_TIMEOUT, sweep_all(Arc::downgrade(engine), writes.clone(), false));
    BACKGROUND.spawn(now);
    sweep_in_turn(engine, writes);
}

fn sweep_in_turn(engine: &Arc<Engine>, writes: Vec<String>) {
    let engine = Arc::downgrade(engine);
    tokio::spawn(async move {
        for (n, pause) in LATE.iter().enumerate() {
            tokio::time::sleep(*pause).await;
            sweep_all(Weak::clone(&engine), writes.clone(), n + 1 == LATE.len()).await;
        }
    });
}

async fn sweep_all(engine: Weak<Engine>, writes: Vec<String>, is_last: bool) {
    let sweeps = writes.into_iter().map(|write| sweep_one(Weak::clone(&engine), write, is_last));
    stream::iter(sweeps).buffer_unordered(SWEPT_AT_ONCE).collect::<()>().await;
}

async fn sweep_one(engine: Weak<Engine>, write: String, is_last: bool) {
    let Some(engine) = engine.upgrade() else { return };
    let removed = match is_last {
        true => recover::remove_write(&engine, &write).await,
        false => recover::remove_files_of(&engine, &write).await,
    };
    if let Err(error) = removed {
        tracing::warn!(write, %error, "files that executors wrote too late are not removed yet");
    }
}
