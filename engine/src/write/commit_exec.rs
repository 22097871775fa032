//! The last stage of a write, which is its whole life: begin, gather what the tasks wrote, commit, bring the files to
//! their places.
//!
//! Dropping the plan's stream before the commit ends the write and removes what it staged. The commit itself and what
//! follows run in a task of their own that nobody can stop half way.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::Result as DataFusionResult;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{Distribution, EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{EmissionType, EvaluationType, SchedulingType};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    ChildrenPropertiesMode, DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties,
    InputDistributionRequirements, Partitioning, PlanProperties, ReplaceChildrenOptions,
};
use futures::{StreamExt, stream};
use tereza_catalog::store::Write;
use tereza_runtime::{Error, ErrorKind, Result};

use super::outcome::{Outcome, outcome};
use super::output::Output;
use super::written::{self, WrittenFile};
use super::{BACKGROUND, CLEANUP_TIMEOUT, Mode, Target, Writing, entry, fail_point, recover, remote, roll_forward};
use crate::engine::Engine;
use crate::error::{from_datafusion, to_datafusion};

/// Begins the write, runs its input, commits and yields one row: `count`, UInt64.
#[derive(Debug)]
pub(super) struct CommitExec {
    writing: Arc<Writing>,
    /// What tasks on executors know, if that is where the tasks run.
    remote: Option<Arc<Output>>,
    input: Arc<dyn ExecutionPlan>,
    properties: Arc<PlanProperties>,
}

impl CommitExec {
    pub(super) fn new(writing: Arc<Writing>, input: Arc<dyn ExecutionPlan>) -> Self {
        Self::with(writing, None, input)
    }

    /// The same over tasks that run on executors.
    pub(super) fn on_executors(&self, output: Arc<Output>, tasks: Arc<dyn ExecutionPlan>) -> Self {
        Self::with(Arc::clone(&self.writing), Some(output), tasks)
    }

    /// What the tasks in this process know.
    pub(super) fn output(&self) -> &Output {
        &self.writing.output
    }

    fn with(writing: Arc<Writing>, remote: Option<Arc<Output>>, input: Arc<dyn ExecutionPlan>) -> Self {
        let properties = PlanProperties::new(
            EquivalenceProperties::new(count_schema()),
            Partitioning::UnknownPartitioning(1),
            EmissionType::Final,
            input.boundedness(),
        )
        .with_scheduling_type(SchedulingType::Cooperative)
        .with_evaluation_type(EvaluationType::Eager);
        Self { writing, remote, input, properties: Arc::new(properties) }
    }
}

impl DisplayAs for CommitExec {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mode = match (&self.writing.target, self.writing.mode) {
            (Target::New(_), _) => "create",
            (Target::Existing(_), Mode::Append) => "append",
            (Target::Existing(_), Mode::Overwrite) => "overwrite",
        };
        write!(f, "CommitExec: table={}.{}, mode={mode}", self.writing.table().database, self.writing.table().name)
    }
}

impl ExecutionPlan for CommitExec {
    fn name(&self) -> &str {
        Self::static_name()
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn input_distribution_requirements(&self) -> InputDistributionRequirements {
        InputDistributionRequirements::new(vec![Distribution::SinglePartition])
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        vec![false]
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn replace_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn ExecutionPlan>>,
        _: ReplaceChildrenOptions,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        Ok(Arc::new(Self::with(Arc::clone(&self.writing), self.remote.clone(), children.swap_remove(0))))
    }

    fn with_new_children(
        self: Arc<Self>,
        children: Vec<Arc<dyn ExecutionPlan>>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        self.replace_children(children, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> DataFusionResult<TreeNodeRecursion>,
    ) -> DataFusionResult<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> DataFusionResult<SendableRecordBatchStream> {
        let inputs = self.input.output_partitioning().partition_count();
        if partition != 0 || inputs != 1 {
            let message = format!("a commit is one partition over one, not partition {partition} over {inputs}");
            return Err(to_datafusion(Error::internal(message)));
        }
        let write = RunningWrite { writing: Arc::clone(&self.writing), remote: self.remote.clone() };
        let run = run(write, Arc::clone(&self.input), context);
        let run = async move {
            let count = run.await.map_err(to_datafusion)?;
            Ok(RecordBatch::try_new(count_schema(), vec![Arc::new(UInt64Array::from(vec![count]))])?)
        };
        Ok(Box::pin(RecordBatchStreamAdapter::new(count_schema(), stream::once(run))))
    }
}

fn count_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("count", DataType::UInt64, false)]))
}

/// A write with the tasks that it has on executors.
#[derive(Clone)]
struct RunningWrite {
    writing: Arc<Writing>,
    remote: Option<Arc<Output>>,
}

async fn run(write: RunningWrite, input: Arc<dyn ExecutionPlan>, context: Arc<TaskContext>) -> Result<u64> {
    let unfinished = Unfinished(Some(write.clone()));
    let gathered = gather(&write, input, context).await;
    // Disarmed here: from now on the background task answers for the write.
    unfinished.disarm();
    let ended = BACKGROUND.spawn(async move {
        match gathered {
            Ok(files) => end(&write, files).await,
            Err(error) => {
                abandon(&write).await;
                Err(error)
            }
        }
    });
    ended.await.map_err(|error| Error::internal("a commit did not end").with_source(error))?
}

/// Begins the write and runs its tasks. Their streams are dropped when this returns.
async fn gather(
    RunningWrite { writing, remote }: &RunningWrite,
    input: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
) -> Result<Vec<WrittenFile>> {
    let engine = &writing.engine;
    let table = writing.table();
    let write = Write {
        id: writing.id().to_owned(),
        database: table.database.clone(),
        table: table.name.clone(),
        owner: engine.process_id.clone(),
        began_ms: engine.clock.unix_ms(),
        staged: Vec::new(),
    };
    // In a task of its own, so that a write that is dropped here has either begun or not when it is cleaned up.
    let catalog = Arc::clone(&engine.catalog);
    let folders = remote.as_ref().map(|output| remote::folders(engine, output));
    let begin = async move {
        catalog.begin_write(&write).await?;
        match folders {
            Some(folders) => catalog.begin_write(&folders).await,
            None => Ok(()),
        }
    };
    let begun = writing.output.tasks.spawn(begin).await;
    begun.map_err(|error| Error::internal("a write did not begin").with_source(error))??;
    fail_point::hit(fail_point::AFTER_BEGIN);
    match write_files(remote.is_some(), engine, input, context).await {
        Ok(files) => Ok(files),
        Err(error) => Err(explain(writing, error).await),
    }
}

/// Runs the tasks of a write that has begun.
async fn write_files(
    is_remote: bool,
    engine: &Engine,
    input: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
) -> Result<Vec<WrittenFile>> {
    // Only now: executing a plan of several partitions starts their tasks at once.
    let mut descriptions = input.execute(0, context).map_err(from_datafusion)?;
    let mut files = Vec::new();
    while let Some(batch) = descriptions.next().await {
        files.extend(written::from_batch(&batch.map_err(from_datafusion)?)?);
    }
    fail_point::hit(fail_point::AFTER_LAST_CLOSE);
    if is_remote {
        remote::require_files(engine, &files).await?;
    }
    Ok(files)
}

/// Ends a write whose tasks are done: commits it, or removes what it staged. Returns the number of rows written.
async fn end(write: &RunningWrite, files: Vec<WrittenFile>) -> Result<u64> {
    let RunningWrite { writing, remote } = write;
    let count = files.iter().map(|file| file.rows).sum();
    let mut commit = match entry::prepare(writing, files).await {
        Ok(Some(commit)) => commit,
        Ok(None) => {
            abandon(write).await;
            return Ok(count);
        }
        Err(error) => {
            abandon(write).await;
            return Err(error);
        }
    };
    commit.remove_folders = remote.as_ref().map(|output| output.staging_folders()).unwrap_or_default();
    fail_point::hit(fail_point::BEFORE_COMMIT);
    if let Err(error) = writing.engine.catalog.commit(&commit).await {
        let before = match &writing.target {
            Target::Existing(existing) => existing.version,
            Target::New(_) => -1,
        };
        match outcome(writing.engine.catalog.as_ref(), before, &commit, &error).await {
            Outcome::Committed => {}
            Outcome::NotCommitted => {
                let error = explain(writing, error).await;
                abandon(write).await;
                return Err(error);
            }
            // Removing anything might remove committed rows; the next recovery knows.
            Outcome::Unknown => {
                return Err(error.context(format!("whether write {} was committed is not known", commit.id)));
            }
        }
    }
    fail_point::hit(fail_point::AFTER_COMMIT);
    writing.output.tasks.close();
    if let Some(output) = remote {
        remote::sweep_later(&writing.engine, remote::folders_id(output));
    }
    match roll_forward::finish(&writing.engine, &commit).await {
        Ok(()) => {
            recover::tidy_journal(&writing.engine).await;
            Ok(count)
        }
        // Rows are lost: not to be called a success.
        Err(error) if error.kind() == ErrorKind::Internal => Err(error),
        Err(error) => {
            // The rows are committed and safe where they are; whoever opens the table next goes on.
            tracing::warn!(commit = commit.id, %error, "a committed write is not rolled forward yet");
            Ok(count)
        }
    }
}

/// Says of a write that failed if others ended it: they took this process for dead, and its files are gone.
async fn explain(writing: &Writing, error: Error) -> Error {
    let engine = &writing.engine;
    if !engine.shares_catalog() || !matches!(engine.catalog.write(writing.id()).await, Ok(None)) {
        return error;
    }
    let message = "the write was given up: this process could not say in the catalog for too long that it lives";
    Error::unavailable(message).with_hint("run the statement again").with_source(error)
}

/// Ends a write that does not commit, and removes what it staged. What fails is left to [`recover::recover`].
async fn abandon(RunningWrite { writing, remote }: &RunningWrite) {
    if let Some(output) = remote {
        remote::sweep_later(&writing.engine, remote::folders_id(output));
    }
    let removed = tokio::time::timeout(CLEANUP_TIMEOUT, async {
        writing.output.tasks.close();
        writing.output.tasks.wait().await;
        if let Some(output) = remote {
            remote::sweep(&writing.engine, output).await?;
        }
        recover::remove_write(&writing.engine, writing.id()).await
    });
    let error = match removed.await {
        Ok(Ok(())) => return,
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("not done after {} s", CLEANUP_TIMEOUT.as_secs()),
    };
    tracing::warn!(write = writing.id(), error, "files of a write that ended are left until the next recovery");
}

/// A write that has to be cleaned up when it is dropped.
struct Unfinished(Option<RunningWrite>);

impl Unfinished {
    fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Without a runtime the process is ending, and the next one recovers.
        if let Some(write) = self.0.take()
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            BACKGROUND.spawn_on(async move { abandon(&write).await }, &runtime);
        }
    }
}
