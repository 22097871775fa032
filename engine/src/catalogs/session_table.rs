//! A table of a session: DataFusion's table in memory, whose rows count towards the memory budget.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{MemTable, Session, TableProvider};
use datafusion::common::{Constraints, DataFusionError, Result, internal_err};
use datafusion::datasource::TableType;
use datafusion::datasource::sink::{DataSink, DataSinkExec};
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryPool, MemoryReservation};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::dml::InsertOp;
use datafusion::physical_plan::spill::get_record_batch_memory_size;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, execute_stream_partitioned};
use futures::StreamExt;
use futures::future::try_join_all;

/// A table in memory with what its rows hold of the budget.
#[derive(Debug)]
pub(crate) struct SessionTable {
    inner: MemTable,
    reservation: Arc<MemoryReservation>,
}

impl SessionTable {
    /// The rows of `plan` as a table, and how many they are; `ResourcesExhausted` if they do not fit in what is left of the
    /// budget.
    pub(crate) async fn collect(
        schema: SchemaRef,
        plan: Arc<dyn ExecutionPlan>,
        context: Arc<TaskContext>,
    ) -> Result<(Self, u64)> {
        let reservation = reservation(context.memory_pool());
        let streams = execute_stream_partitioned(plan, context)?;
        let partitions = try_join_all(streams.into_iter().map(|rows| collect(rows, &reservation))).await?;
        let rows = partitions.iter().flatten().map(|batch| batch.num_rows() as u64).sum();
        let partitions = if partitions.is_empty() { vec![Vec::new()] } else { partitions };
        Ok((Self { inner: MemTable::try_new(schema, partitions)?, reservation: Arc::new(reservation) }, rows))
    }

    pub(crate) fn with(mut self, constraints: Constraints, column_defaults: Vec<(String, Expr)>) -> Self {
        let inner = self.inner.with_constraints(constraints);
        self.inner = inner.with_column_defaults(column_defaults.into_iter().collect());
        self
    }

    /// Brings the reservation to what the rows hold now, after some went or changed.
    async fn recount(&self) {
        let mut held = 0;
        for partition in &self.inner.batches {
            held += partition.read().await.iter().map(get_record_batch_memory_size).sum::<usize>();
        }
        self.reservation.resize(held);
    }
}

fn reservation(pool: &Arc<dyn MemoryPool>) -> MemoryReservation {
    MemoryConsumer::new("table in memory").register(pool)
}

async fn collect(mut rows: SendableRecordBatchStream, reservation: &MemoryReservation) -> Result<Vec<RecordBatch>> {
    let mut batches = Vec::new();
    while let Some(batch) = rows.next().await.transpose()? {
        reservation.try_grow(get_record_batch_memory_size(&batch))?;
        batches.push(batch);
    }
    Ok(batches)
}

#[async_trait]
impl TableProvider for SessionTable {
    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }

    fn constraints(&self) -> Option<&Constraints> {
        self.inner.constraints()
    }

    fn table_type(&self) -> TableType {
        self.inner.table_type()
    }

    fn get_column_default(&self, column: &str) -> Option<&Expr> {
        self.inner.get_column_default(column)
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        self.inner.scan(state, projection, filters, limit).await
    }

    async fn insert_into(
        &self,
        state: &dyn Session,
        input: Arc<dyn ExecutionPlan>,
        op: InsertOp,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        // Checks the columns and the kind of INSERT; only the sink is another.
        self.inner.insert_into(state, Arc::clone(&input), op).await?;
        let sink = Sink {
            partitions: self.inner.batches.clone(),
            schema: self.inner.schema(),
            reservation: Arc::clone(&self.reservation),
        };
        Ok(Arc::new(DataSinkExec::new(input, Arc::new(sink), None)))
    }

    async fn delete_from(&self, state: &dyn Session, filters: Vec<Expr>) -> Result<Arc<dyn ExecutionPlan>> {
        let deleted = self.inner.delete_from(state, filters).await;
        self.recount().await;
        deleted
    }

    async fn update(
        &self,
        state: &dyn Session,
        assignments: Vec<(String, Expr)>,
        filters: Vec<Expr>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let updated = self.inner.update(state, assignments, filters).await;
        self.recount().await;
        updated
    }

    async fn truncate(&self, state: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let truncated = self.inner.truncate(state).await;
        self.recount().await;
        truncated
    }
}

/// Adds all rows of an INSERT, or none.
#[derive(Debug)]
struct Sink {
    partitions: Vec<Arc<tokio::sync::RwLock<Vec<RecordBatch>>>>,
    schema: SchemaRef,
    reservation: Arc<MemoryReservation>,
}

impl DisplayAs for Sink {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MemoryTable (partitions={})", self.partitions.len())
    }
}

#[async_trait]
impl DataSink for Sink {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    async fn write_all(&self, rows: SendableRecordBatchStream, context: &Arc<TaskContext>) -> Result<u64> {
        // What it holds is given back if the statement fails, and goes to the table otherwise.
        let added = reservation(context.memory_pool());
        let batches = collect(rows, &added).await?;
        let count = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        let mut shares: Vec<Vec<RecordBatch>> = vec![Vec::new(); self.partitions.len()];
        for (at, batch) in batches.into_iter().enumerate() {
            shares[at % self.partitions.len()].push(batch);
        }
        for (partition, share) in self.partitions.iter().zip(shares) {
            partition.write().await.extend(share);
        }
        self.reservation.grow(added.free());
        Ok(count)
    }
}

/// `table` with its rows counted, if it is DataFusion's own; CREATE TABLE without rows and registrations come here.
pub(crate) fn counted(
    table: Arc<dyn TableProvider>,
    pool: &Arc<dyn MemoryPool>,
) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let Some(memory) = table.downcast_ref::<MemTable>() else { return Ok(table) };
    let mut partitions = Vec::with_capacity(memory.batches.len());
    let reservation = reservation(pool);
    for partition in &memory.batches {
        let batches = match partition.try_read() {
            Ok(batches) => batches.clone(),
            // A table that is being registered is nobody's yet.
            Err(_) => return internal_err!("a table is written before it is registered"),
        };
        reservation.try_grow(batches.iter().map(get_record_batch_memory_size).sum())?;
        partitions.push(batches);
    }
    let constraints = memory.constraints().cloned().unwrap_or_default();
    let defaults: Vec<(String, Expr)> = memory
        .schema()
        .fields()
        .iter()
        .filter_map(|field| Some((field.name().clone(), memory.get_column_default(field.name())?.clone())))
        .collect();
    let inner = MemTable::try_new(memory.schema(), partitions)?;
    Ok(Arc::new(SessionTable { inner, reservation: Arc::new(reservation) }.with(constraints, defaults)))
}
