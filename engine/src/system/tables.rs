//! The tables of the schema `system.runtime`, made anew for each scan.

use std::iter::once;
use std::num::NonZero;
use std::sync::Arc;
use std::thread::available_parallelism;

use arrow::array::{
    ArrayRef, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray, UInt32Array,
    UInt64Array,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{CatalogProvider, MemTable, SchemaProvider, Session, TableProvider};
use datafusion::error::{DataFusionError, Result};
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_plan::ExecutionPlan;
use tereza_catalog::Store;
use tereza_catalog::model::Job;
use tereza_runtime::clock::Clock;

use super::{Course, QueryLog, Record, TEXT_CHARS_MAX, truncated};
use crate::cluster::{Cluster, Executor, Lane, Route, StageCounts};
use crate::error::to_datafusion;
use crate::flink::without_secrets;
use crate::jobs::{Detail, Jobs, StreamProgress};
use crate::query::StatementKind;

/// Name of the only schema.
const SCHEMA: &str = "runtime";
/// Newest jobs that `system.runtime.jobs` shows.
const JOBS_MAX: usize = 10_000;

/// The process, as `system.runtime.nodes` shows it.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// Id of the process.
    pub(crate) id: String,
    /// What it does, such as `all`.
    pub(crate) role: String,
    /// Where its clients reach it; none for an embedded engine.
    pub(crate) address: Option<String>,
    /// Bytes that its operators may hold.
    pub(crate) memory_limit_bytes: usize,
    /// Milliseconds since 1970 when it started.
    pub(crate) started_ms: i64,
}

/// The catalog `system` over the log of this process, its node and the jobs of the store.
pub(crate) fn catalog(
    queries: Arc<QueryLog>,
    store: Arc<dyn Store>,
    jobs: Arc<Jobs>,
    cluster: Option<Arc<dyn Cluster>>,
    node: Node,
    clock: Clock,
) -> Arc<dyn CatalogProvider> {
    Arc::new(SystemCatalog { schema: Arc::new(Runtime { queries, store, jobs, cluster, node, clock }) })
}

#[derive(Debug)]
struct SystemCatalog {
    schema: Arc<Runtime>,
}

impl CatalogProvider for SystemCatalog {
    fn schema_names(&self) -> Vec<String> {
        vec![SCHEMA.into()]
    }

    fn schema(&self, name: &str) -> Option<Arc<dyn SchemaProvider>> {
        (name == SCHEMA).then(|| Arc::clone(&self.schema) as Arc<dyn SchemaProvider>)
    }
}

/// What the tables are made from; cheap to clone.
#[derive(Debug, Clone)]
struct Runtime {
    queries: Arc<QueryLog>,
    store: Arc<dyn Store>,
    jobs: Arc<Jobs>,
    cluster: Option<Arc<dyn Cluster>>,
    node: Node,
    clock: Clock,
}

#[derive(Debug, Clone, Copy)]
enum Table {
    JobEvents,
    Jobs,
    Nodes,
    Queries,
}

impl Table {
    const ALL: [(&str, Self); 4] =
        [("job_events", Self::JobEvents), ("jobs", Self::Jobs), ("nodes", Self::Nodes), ("queries", Self::Queries)];

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, table)| *table)
    }
}

impl Runtime {
    /// The newest jobs with what their records say; nothing more of jobs of another kind.
    async fn jobs(&self) -> Result<Vec<(Job, Detail)>> {
        let jobs = self.store.jobs(None, JOBS_MAX).await.map_err(to_datafusion)?;
        let with_detail = |job: Job| {
            let detail = Detail::of(&job).unwrap_or_default();
            (job, detail)
        };
        Ok(jobs.into_iter().map(with_detail).collect())
    }

    async fn rows(&self, table: Table) -> Result<RecordBatch> {
        match table {
            Table::Jobs => jobs_batch(&self.jobs().await?, &self.jobs),
            Table::JobEvents => job_events_batch(&self.jobs().await?),
            Table::Nodes => {
                let executors = self.cluster.as_ref().map(|cluster| cluster.executors()).unwrap_or_default();
                nodes_batch(&self.node, &executors, self.clock.unix_ms())
            }
            Table::Queries => queries_batch(&self.queries.records(), self.clock.unix_ms()),
        }
    }
}

#[async_trait]
impl SchemaProvider for Runtime {
    fn table_names(&self) -> Vec<String> {
        Table::ALL.iter().map(|(name, _)| (*name).into()).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let Some(table) = Table::parse(name) else { return Ok(None) };
        Ok(Some(Arc::new(SystemTable { runtime: self.clone(), table })))
    }

    async fn table_type(&self, name: &str) -> Result<Option<TableType>, DataFusionError> {
        Ok(self.table_exist(name).then_some(TableType::Base))
    }

    fn table_exist(&self, name: &str) -> bool {
        Table::parse(name).is_some()
    }
}

#[derive(Debug)]
struct SystemTable {
    runtime: Runtime,
    table: Table,
}

#[async_trait]
impl TableProvider for SystemTable {
    fn schema(&self) -> SchemaRef {
        match self.table {
            Table::JobEvents => job_events_schema(),
            Table::Jobs => jobs_schema(),
            Table::Nodes => nodes_schema(),
            Table::Queries => queries_schema(),
        }
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let rows = self.runtime.rows(self.table).await?;
        let table = MemTable::try_new(rows.schema(), vec![vec![rows]])?;
        table.scan(state, projection, filters, limit).await
    }
}

fn timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

fn timestamps(values: impl Iterator<Item = Option<i64>>) -> ArrayRef {
    Arc::new(values.collect::<TimestampMillisecondArray>().with_timezone("UTC"))
}

fn texts<'a, T: Into<Option<&'a str>>>(values: impl Iterator<Item = T>) -> ArrayRef {
    Arc::new(values.map(Into::into).collect::<StringArray>())
}

fn queries_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("query_id", DataType::Utf8, false),
        Field::new("state", DataType::Utf8, false),
        Field::new("user", DataType::Utf8, false),
        Field::new("session", DataType::Utf8, false),
        Field::new("query", DataType::Utf8, false),
        Field::new("kind", DataType::Utf8, false),
        Field::new("created", timestamp(), false),
        Field::new("started", timestamp(), true),
        Field::new("ended", timestamp(), true),
        Field::new("elapsed_ms", DataType::Int64, false),
        Field::new("rows", DataType::UInt64, false),
        Field::new("bytes", DataType::UInt64, false),
        Field::new("scanned_rows", DataType::UInt64, false),
        Field::new("scanned_bytes", DataType::UInt64, false),
        Field::new("lane", DataType::Utf8, false),
        Field::new("lane_reason", DataType::Utf8, true),
        Field::new("stages", DataType::UInt64, true),
        Field::new("stages_done", DataType::UInt64, true),
        Field::new("partitions", DataType::UInt64, true),
        Field::new("partitions_done", DataType::UInt64, true),
        Field::new("error_kind", DataType::Utf8, true),
        Field::new("error", DataType::Utf8, true),
    ]))
}

/// The lane of a statement: where it runs in the end.
fn route(record: &Record, course: &Course) -> Option<Route> {
    let taken_back = |reason: &str| Route { lane: Lane::Local, reason: format!("not supported {reason}") };
    record.progress.taken_back().map(taken_back).or_else(|| course.route.clone())
}

pub(super) fn queries_batch(records: &[Arc<Record>], now_ms: i64) -> Result<RecordBatch> {
    // One reading of what changes, so that a row does not contradict itself.
    let courses: Vec<Course> = records.iter().map(|record| record.course.lock().clone()).collect();
    let routes: Vec<Option<Route>> =
        records.iter().zip(&courses).map(|(record, course)| route(record, course)).collect();
    let readings: Vec<_> = records.iter().map(|record| record.progress.read()).collect();
    let kind = |record: &Arc<Record>| match record.kind {
        StatementKind::Query => "query",
        StatementKind::Update => "update",
        StatementKind::Command => "command",
    };
    let elapsed_ms = records.iter().zip(&courses).map(|(record, course)| {
        let until_ms = course.ended_ms.unwrap_or(now_ms);
        (until_ms - record.created_ms).max(0)
    });
    let rows = courses.iter().zip(&readings).map(|(course, reading)| course.rows_written.unwrap_or(reading.rows));
    let stages = |count: fn(&StageCounts) -> u64| {
        let counts = readings.iter().map(|reading| reading.stages.as_ref().map(count));
        Arc::new(counts.collect::<UInt64Array>()) as ArrayRef
    };
    let columns: Vec<ArrayRef> = vec![
        texts(records.iter().map(|record| record.id.0.as_str())),
        texts(courses.iter().map(|course| course.state.as_str())),
        texts(records.iter().map(|record| record.user.as_str())),
        texts(records.iter().map(|record| record.session.0.as_str())),
        texts(records.iter().map(|record| record.sql.as_str())),
        texts(records.iter().map(kind)),
        timestamps(records.iter().map(|record| Some(record.created_ms))),
        timestamps(courses.iter().map(|course| course.started_ms)),
        timestamps(courses.iter().map(|course| course.ended_ms)),
        Arc::new(Int64Array::from_iter_values(elapsed_ms)),
        Arc::new(UInt64Array::from_iter_values(rows)),
        Arc::new(UInt64Array::from_iter_values(readings.iter().map(|reading| reading.bytes))),
        Arc::new(UInt64Array::from_iter_values(readings.iter().map(|reading| reading.scanned_rows))),
        Arc::new(UInt64Array::from_iter_values(readings.iter().map(|reading| reading.scanned_bytes))),
        texts(routes.iter().map(|route| route.as_ref().map_or(Lane::Local, |route| route.lane).as_str())),
        texts(routes.iter().map(|route| route.as_ref().map(|route| route.reason.as_str()))),
        stages(|counts| counts.stages),
        stages(|counts| counts.stages_done),
        stages(|counts| counts.partitions),
        stages(|counts| counts.partitions_done),
        texts(courses.iter().map(|course| course.error.as_ref().map(|(kind, _)| kind.as_str()))),
        texts(courses.iter().map(|course| course.error.as_ref().map(|(_, message)| message.as_str()))),
    ];
    Ok(RecordBatch::try_new(queries_schema(), columns)?)
}

fn nodes_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("node_id", DataType::Utf8, false),
        Field::new("role", DataType::Utf8, false),
        Field::new("address", DataType::Utf8, true),
        Field::new("version", DataType::Utf8, false),
        Field::new("cores", DataType::UInt32, false),
        Field::new("memory_limit_bytes", DataType::UInt64, true),
        Field::new("uptime_ms", DataType::Int64, false),
        Field::new("state", DataType::Utf8, false),
    ]))
}

/// This process, and the executors of its scheduler.
pub(super) fn nodes_batch(node: &Node, executors: &[Executor], now_ms: i64) -> Result<RecordBatch> {
    let cores = u32::try_from(available_parallelism().map_or(1, NonZero::get)).unwrap_or(u32::MAX);
    let uptime_ms = (now_ms - node.started_ms).max(0);
    let executor_ms = executors.iter().map(|executor| i64::try_from(executor.uptime_ms).unwrap_or(i64::MAX));
    let columns: Vec<ArrayRef> = vec![
        texts(once(node.id.as_str()).chain(executors.iter().map(|executor| executor.id.as_str()))),
        texts(once(node.role.as_str()).chain(executors.iter().map(|_| "executor"))),
        texts(once(node.address.as_deref()).chain(executors.iter().map(|executor| Some(executor.address.as_str())))),
        // Those of another version are not let in.
        texts(once(env!("CARGO_PKG_VERSION")).chain(executors.iter().map(|_| env!("CARGO_PKG_VERSION")))),
        Arc::new(UInt32Array::from_iter_values(once(cores).chain(executors.iter().map(|executor| executor.slots)))),
        Arc::new(UInt64Array::from_iter(
            once(Some(node.memory_limit_bytes as u64)).chain(executors.iter().map(|_| None)),
        )),
        Arc::new(Int64Array::from_iter_values(once(uptime_ms).chain(executor_ms))),
        // A node that answers is active: a process that left is not in the table.
        texts(std::iter::repeat_n("active", executors.len() + 1)),
    ];
    Ok(RecordBatch::try_new(nodes_schema(), columns)?)
}

fn jobs_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("job_id", DataType::Utf8, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("kind", DataType::Utf8, false),
        Field::new("state", DataType::Utf8, false),
        Field::new("user", DataType::Utf8, false),
        Field::new("text", DataType::Utf8, false),
        Field::new("priority", DataType::Int32, false),
        Field::new("attempts", DataType::Int32, false),
        Field::new("attempts_max", DataType::UInt32, false),
        Field::new("statements_done", DataType::Int32, false),
        Field::new("statements", DataType::UInt32, false),
        Field::new("query_id", DataType::Utf8, true),
        Field::new("scanned_rows", DataType::UInt64, true),
        Field::new("rows", DataType::UInt64, true),
        Field::new("destination", DataType::Utf8, true),
        Field::new("created", timestamp(), false),
        Field::new("started", timestamp(), true),
        Field::new("ended", timestamp(), true),
        Field::new("error_kind", DataType::Utf8, true),
        Field::new("error", DataType::Utf8, true),
        Field::new("epoch", DataType::UInt64, true),
        Field::new("watermark", timestamp(), true),
        Field::new("lag", DataType::UInt64, true),
        Field::new("rows_per_second", DataType::Float64, true),
        Field::new("late_rows", DataType::UInt64, true),
        Field::new("state_bytes", DataType::UInt64, true),
        Field::new("waits_for", DataType::Utf8, true),
        Field::new("tasks", DataType::UInt32, true),
    ]))
}

fn jobs_batch(jobs: &[(Job, Detail)], live: &Jobs) -> Result<RecordBatch> {
    let job_texts: Vec<String> =
        jobs.iter().map(|(job, _)| truncated(&without_secrets(&job.text), TEXT_CHARS_MAX)).collect();
    let current: Vec<_> = jobs.iter().map(|(job, _)| live.current(&job.id)).collect();
    // What runs elsewhere, or no more, is known by its record.
    let progress = |(job, detail): &(Job, Detail)| live.progress(&job.id).or_else(|| detail.progress.clone());
    let streams: Vec<Option<StreamProgress>> = jobs.iter().map(progress).collect();
    let streams = || streams.iter().map(Option::as_ref);
    let error = |part: fn(&(String, String)) -> &String| {
        texts(jobs.iter().map(move |(_, detail)| detail.error.as_ref().map(|error| part(error).as_str())))
    };
    let columns: Vec<ArrayRef> = vec![
        texts(jobs.iter().map(|(job, _)| job.id.as_str())),
        texts(jobs.iter().map(|(job, _)| job.name.as_deref())),
        texts(jobs.iter().map(|(job, _)| job.kind.as_str())),
        texts(jobs.iter().map(|(job, _)| job.state.as_str())),
        texts(jobs.iter().map(|(job, _)| job.user.as_str())),
        texts(job_texts.iter().map(String::as_str)),
        Arc::new(Int32Array::from_iter_values(jobs.iter().map(|(job, _)| job.priority))),
        Arc::new(Int32Array::from_iter_values(jobs.iter().map(|(job, _)| job.attempts))),
        Arc::new(UInt32Array::from_iter_values(jobs.iter().map(|(_, detail)| detail.attempts_max))),
        Arc::new(Int32Array::from_iter_values(jobs.iter().map(|(job, _)| job.step))),
        Arc::new(UInt32Array::from_iter_values(jobs.iter().map(|(_, detail)| detail.statements))),
        texts(current.iter().map(|current| current.as_ref().map(|current| current.query.0.as_str()))),
        Arc::new(UInt64Array::from_iter(
            current.iter().map(|current| current.as_ref().map(|current| current.progress.read().scanned_rows)),
        )),
        Arc::new(UInt64Array::from_iter(jobs.iter().map(|(_, detail)| detail.rows))),
        texts(jobs.iter().map(|(_, detail)| detail.into.as_deref())),
        timestamps(jobs.iter().map(|(job, _)| Some(job.created_ms))),
        timestamps(jobs.iter().map(|(_, detail)| detail.started_ms)),
        timestamps(jobs.iter().map(|(_, detail)| detail.ended_ms)),
        error(|(kind, _)| kind),
        error(|(_, message)| message),
        Arc::new(UInt64Array::from_iter(streams().map(|stream| Some(stream?.epoch)))),
        timestamps(streams().map(|stream| stream?.watermark_ms)),
        Arc::new(UInt64Array::from_iter(streams().map(|stream| stream?.lag))),
        Arc::new(Float64Array::from_iter(streams().map(|stream| Some(stream?.rows_per_second)))),
        Arc::new(UInt64Array::from_iter(streams().map(|stream| Some(stream?.late_rows)))),
        Arc::new(UInt64Array::from_iter(streams().map(|stream| Some(stream?.state_bytes)))),
        texts(streams().map(|stream| stream?.waits_for.as_deref())),
        Arc::new(UInt32Array::from_iter(streams().map(|stream| Some(stream?.tasks)))),
    ];
    Ok(RecordBatch::try_new(jobs_schema(), columns)?)
}

fn job_events_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("job_id", DataType::Utf8, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("at", timestamp(), false),
        Field::new("attempt", DataType::Int32, false),
        Field::new("event", DataType::Utf8, false),
    ]))
}

fn job_events_batch(jobs: &[(Job, Detail)]) -> Result<RecordBatch> {
    let events = || jobs.iter().flat_map(|(job, detail)| detail.events.iter().map(move |event| (job, event)));
    let columns: Vec<ArrayRef> = vec![
        texts(events().map(|(job, _)| job.id.as_str())),
        texts(events().map(|(job, _)| job.name.as_deref())),
        timestamps(events().map(|(_, event)| Some(event.at_ms))),
        Arc::new(Int32Array::from_iter_values(events().map(|(_, event)| event.attempt))),
        texts(events().map(|(_, event)| event.text.as_str())),
    ];
    Ok(RecordBatch::try_new(job_events_schema(), columns)?)
}
