//! A generated table as DataFusion reads it: one generator for each partition, a batch at a time.

use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::runtime::SpawnedTask;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, Statistics, internal_datafusion_err, internal_err};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType, SchedulingType};
use datafusion::physical_plan::limit::LimitStream;
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricsSet};
use datafusion::physical_plan::statistics::StatisticsArgs;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{
    DisplayAs, DisplayFormatType, ExecutionPlan, Partitioning, PlanProperties, ReplaceChildrenOptions,
    SendableRecordBatchStream,
};
use futures::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::cluster::OnCluster;

/// Rows as they are generated, in the order of the table.
pub(super) type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>> + Send>;

/// A table that can be generated in parts.
pub(super) trait Source: fmt::Debug + Send + Sync + 'static {
    /// What is generated.
    fn identity(&self) -> Identity;
    /// Columns.
    fn schema(&self) -> SchemaRef;
    /// Number of rows: exact where the specification gives it.
    fn rows(&self) -> Precision<usize>;
    /// Into how many parts to split the table when `wanted` are wanted; at least one.
    fn parts(&self, wanted: usize) -> usize;
    /// The rows of one part, from 0; all parts one after the other are the table. May take a second, so it is not called
    /// on the threads that drive queries.
    fn part(&self, part: usize, parts: usize, batch_size: usize) -> Result<Batches>;
}

/// Names a generated table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// `tpch` or `tpcds`.
    pub(super) catalog: String,
    pub(super) scale: f64,
    pub(super) table: String,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.sf{}.{}", self.catalog, self.scale, self.table)
    }
}

/// The provider of a generated table.
#[derive(Debug)]
pub(super) struct GeneratedTable {
    source: Arc<dyn Source>,
}

impl GeneratedTable {
    pub(super) fn new(source: Arc<dyn Source>) -> Self {
        Self { source }
    }
}

#[async_trait]
impl TableProvider for GeneratedTable {
    fn schema(&self) -> SchemaRef {
        self.source.schema()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let config = state.config();
        // A part generates at least one batch: more parts than batches wanted would be work thrown away.
        let useful = limit.map_or(usize::MAX, |limit| limit.div_ceil(config.batch_size().max(1)).max(1));
        // Each task of a cluster would generate all parts of a leaf that is no scan of files.
        let wanted = if OnCluster::plans(config) { 1 } else { config.target_partitions() };
        let parts = self.source.parts(wanted.clamp(1, useful));
        Ok(Arc::new(GenerateExec::new(Arc::clone(&self.source), projection, limit, parts)?))
    }

    fn statistics(&self) -> Option<Statistics> {
        Some(statistics_of(self.source.as_ref()))
    }
}

/// A [`GenerateExec`] of one part, for another process to make again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Generated {
    table: Identity,
    columns: Vec<usize>,
    fetch: Option<usize>,
}

/// The leaf of a plan that generates rows.
#[derive(Debug, Clone)]
pub(crate) struct GenerateExec {
    source: Arc<dyn Source>,
    /// Columns kept, as positions in the source's schema.
    columns: Arc<[usize]>,
    /// Rows wanted of each partition.
    fetch: Option<usize>,
    parts: usize,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl GenerateExec {
    fn new(
        source: Arc<dyn Source>,
        projection: Option<&Vec<usize>>,
        fetch: Option<usize>,
        parts: usize,
    ) -> Result<Self> {
        let schema = source.schema();
        let columns: Arc<[usize]> = match projection {
            Some(columns) => columns.as_slice().into(),
            None => (0..schema.fields().len()).collect(),
        };
        let properties = PlanProperties::new(
            EquivalenceProperties::new(Arc::new(schema.project(&columns)?)),
            Partitioning::UnknownPartitioning(parts),
            EmissionType::Incremental,
            Boundedness::Bounded,
        )
        .with_scheduling_type(SchedulingType::Cooperative);
        let metrics = ExecutionPlanMetricsSet::new();
        Ok(Self { source, columns, fetch, parts, properties: Arc::new(properties), metrics })
    }

    /// What to make the same of elsewhere.
    pub(crate) fn describe(&self) -> Result<Generated> {
        if self.parts != 1 {
            return internal_err!("{} parts of {} do not travel", self.parts, self.source.identity());
        }
        Ok(Generated { table: self.source.identity(), columns: self.columns.to_vec(), fetch: self.fetch })
    }

    /// The one that was described.
    pub(crate) fn of_description(described: Generated) -> Result<Self> {
        let Generated { table, columns, fetch } = described;
        let source = super::source(&table);
        let source = source.ok_or_else(|| internal_datafusion_err!("there is no generated table {table}"))?;
        Self::new(source, Some(&columns), fetch, 1)
    }
}

impl DisplayAs for GenerateExec {
    fn fmt_as(&self, _kind: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let schema = self.schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        write!(
            f,
            "GenerateExec: table={}, parts={}, columns=[{}]",
            self.source.identity(),
            self.parts,
            names.join(", ")
        )?;
        match self.fetch {
            Some(fetch) => write!(f, ", fetch={fetch}"),
            None => Ok(()),
        }
    }
}

impl ExecutionPlan for GenerateExec {
    fn name(&self) -> &str {
        "GenerateExec"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        Vec::new()
    }

    fn apply_expressions(
        &self,
        _visit: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn replace_children(
        self: Arc<Self>,
        _children: Vec<Arc<dyn ExecutionPlan>>,
        _options: ReplaceChildrenOptions,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn with_new_children(self: Arc<Self>, _children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        Ok(self)
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let source = Arc::clone(&self.source);
        let parts = self.parts;
        let batch_size = context.session_config().batch_size();
        let start = async move {
            let part = SpawnedTask::spawn_blocking(move || source.part(partition, parts, batch_size));
            let batches =
                part.join_unwind().await.map_err(|error| DataFusionError::ExecutionJoin(Box::new(error)))??;
            Ok::<_, DataFusionError>(stream::iter(batches.map(|batch| batch.map_err(DataFusionError::from))))
        };

        let schema = self.schema();
        let columns = Arc::clone(&self.columns);
        let output = Arc::clone(&schema);
        let batches = stream::once(start).try_flatten().then(move |batch| {
            let batch = batch.and_then(|batch| keep_columns(&batch, &columns, &output));
            // A batch is milliseconds of work: let other tasks of this thread run in between.
            async {
                tokio::task::yield_now().await;
                batch
            }
        });
        let batches: SendableRecordBatchStream = Box::pin(RecordBatchStreamAdapter::new(schema, batches));
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        Ok(Box::pin(LimitStream::new(batches, 0, self.fetch, baseline)))
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }

    fn with_fetch(&self, fetch: Option<usize>) -> Option<Arc<dyn ExecutionPlan>> {
        Some(Arc::new(Self { fetch, ..self.clone() }))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }

    fn statistics_from_inputs(
        &self,
        _input_stats: &[Arc<Statistics>],
        args: &StatisticsArgs,
    ) -> Result<Arc<Statistics>> {
        let mut statistics = statistics_of(self.source.as_ref()).project(Some(&self.columns));
        // Parts are of about the same size, but only the table as a whole is known for sure.
        let counted = if args.partition().is_some() { 1 } else { self.parts };
        if counted < self.parts {
            statistics = statistics.to_inexact();
            statistics.num_rows = statistics.num_rows.map(|rows| rows / self.parts);
        }
        if let Some(fetch) = self.fetch {
            statistics = if self.parts > 1 { statistics.to_inexact() } else { statistics };
            statistics = statistics.with_fetch(Some(fetch.saturating_mul(counted)), 0, 1)?;
        }
        Ok(Arc::new(statistics))
    }
}

/// The columns wanted, under the table's own names: a generator's may differ.
fn keep_columns(batch: &RecordBatch, columns: &[usize], schema: &SchemaRef) -> Result<RecordBatch> {
    let kept = columns.iter().map(|column| Arc::clone(batch.column(*column))).collect();
    // Without a column, the number of rows has to be said.
    let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), kept, &options)?)
}

fn statistics_of(source: &dyn Source) -> Statistics {
    let schema = source.schema();
    let mut statistics = Statistics::new_unknown(&schema);
    statistics.num_rows = source.rows();
    for (field, column) in schema.fields().iter().zip(&mut statistics.column_statistics) {
        if !field.is_nullable() {
            *column = ColumnStatistics { null_count: Precision::Exact(0), ..ColumnStatistics::new_unknown() };
        }
    }
    statistics
}
