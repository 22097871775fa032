//! Writes whose tasks run on executors: the files are made there, the commit stays with the catalog.
//!
//! `CommitExec` gets its descriptions of files from a leaf that runs the rows' plan on the cluster, with `WriteExec` on top.
//! A task there may be given up and begun again, by Ballista or with its whole attempt; each try writes files of its own, and
//! only those are committed that the attempt's result describes. The others lie in a folder of the write's own, which is
//! named in the catalog before the first task and removed after the last; and once more later, since an executor that was
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
use tereza_catalog::store::{StagedFile, Write};
use tereza_runtime::Result;

use super::commit_exec::CommitExec;
use super::output::{Output, OutputMessage};
use super::recover;
use super::write_exec::WriteExec;
use crate::engine::Engine;
use crate::error::to_datafusion;
use crate::stores::ObjectStores;

/// An executor that was given up is told so, or ends, long before this.
const LATE: Duration = Duration::from_secs(60);
/// What cannot be removed so often is left to the next start.
const LATE_TRIES: u32 = 30;

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

/// Names the folders that tasks will write into, before the first of them begins.
pub(super) async fn stage_folders(engine: &Engine, output: &Output) -> Result<()> {
    for folder in output.staging_folders() {
        engine.catalog.stage(&output.id, &StagedFile { target: folder.clone(), staged: folder }).await?;
    }
    Ok(())
}

/// Removes, after a while, what executors that were given up may still have written. The catalog knows of it meanwhile, so that
/// the next process does it should this one die.
pub(super) async fn sweep_later(engine: &Arc<Engine>, output: &Output) {
    let folders = output.staging_folders().into_iter();
    let late = Write {
        id: format!("{}-late", output.id),
        database: output.table.database.clone(),
        table: output.table.name.clone(),
        owner: engine.process_id.clone(),
        began_ms: engine.clock.unix_ms(),
        staged: folders.map(|folder| StagedFile { target: folder.clone(), staged: folder }).collect(),
    };
    if let Err(error) = engine.catalog.begin_write(&late).await {
        tracing::warn!(write = output.id, %error, "files that executors write too late may be left");
        return;
    }
    remove_later(engine, late.id);
}

/// Removes, after a while, what a write left, and forgets it.
pub(super) fn remove_later(engine: &Arc<Engine>, write: String) {
    let engine: Weak<Engine> = Arc::downgrade(engine);
    tokio::spawn(async move {
        for _ in 0..LATE_TRIES {
            tokio::time::sleep(LATE).await;
            let Some(engine) = engine.upgrade() else { return };
            match recover::remove_write(&engine, &write).await {
                Ok(()) => return,
                Err(error) => tracing::warn!(write, %error, "files that executors wrote too late are not removed yet"),
            }
        }
    });
}
