//! Plans for stream jobs.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::SchemaRef;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{AnalyzerRule, OptimizerRule};
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use futures::stream::BoxStream;
use tereza_runtime::{Error, Result};

use super::as_of;
use super::windows::{LowerWindows, to_window_tables};
use crate::error::from_datafusion;

/// The rules of DataFusion's that hold for rows that never end: none of them puts off a result to the end of its input, or
/// has a row read twice.
const RULES: [&str; 11] = [
    "simplify_expressions",
    "replace_distinct_aggregate",
    "decorrelate_predicate_subquery",
    "extract_equijoin_predicate",
    "eliminate_duplicated_expr",
    "eliminate_filter",
    "eliminate_cross_join",
    "eliminate_outer_join",
    "push_down_filter",
    "common_sub_expression_eliminate",
    "optimize_projections",
];

/// The plan of a query for a stream job.
#[derive(Debug, Clone)]
pub struct StreamPlan {
    /// The query: windows are still [`WindowTable`](super::WindowTable)s in it.
    pub plan: LogicalPlan,
    /// What its expressions are made with.
    pub state: SessionState,
    /// What runs the parts of it that read no stream.
    pub batch: SessionState,
    /// Whether it reads no stream at all. Then it is as DataFusion's planner made it.
    pub ends: bool,
}

/// A plan whose rows end.
#[derive(Debug, Clone)]
pub struct BoundedPlan {
    plan: LogicalPlan,
    state: SessionState,
}

impl StreamPlan {
    /// Prepares the plan of a query of streams that `state` made.
    pub(crate) fn new(state: &SessionState, plan: LogicalPlan) -> Result<Self> {
        if matches!(
            plan,
            LogicalPlan::Ddl(_)
                | LogicalPlan::Dml(_)
                | LogicalPlan::Copy(_)
                | LogicalPlan::Statement(_)
                | LogicalPlan::Explain(_)
                | LogicalPlan::Analyze(_)
                | LogicalPlan::DescribeTable(_)
        ) {
            return Err(Error::invalid_input("a stream job is an INSERT of a query"));
        }
        as_of::check(&plan).map_err(from_datafusion)?;
        let batch = state.clone();
        let lowers = LowerWindows.name();
        let analyzer: Vec<Arc<dyn AnalyzerRule + Send + Sync>> =
            state.analyzer().rules.iter().filter(|rule| rule.name() != lowers).cloned().collect();
        let optimizer: Vec<Arc<dyn OptimizerRule + Send + Sync>> =
            state.optimizers().iter().filter(|rule| RULES.contains(&rule.name())).cloned().collect();
        let state = SessionStateBuilder::new_from_existing(state.clone())
            .with_analyzer_rules(analyzer)
            .with_optimizer_rules(optimizer)
            .build();
        let plan = to_window_tables(plan).and_then(|plan| state.optimize(&plan)).map_err(from_datafusion)?;
        Ok(Self { plan, state, batch, ends: false })
    }

    /// The plan of a query that reads no stream.
    pub(crate) fn of_tables(state: &SessionState, plan: LogicalPlan) -> Result<Self> {
        as_of::check(&plan).map_err(from_datafusion)?;
        Ok(Self { plan, state: state.clone(), batch: state.clone(), ends: true })
    }
}

impl BoundedPlan {
    /// A plan, and what runs it.
    pub fn new(plan: LogicalPlan, state: &SessionState) -> Self {
        Self { plan, state: state.clone() }
    }

    /// The columns.
    pub fn schema(&self) -> SchemaRef {
        Arc::clone(self.plan.schema().inner())
    }

    /// Runs the plan in this process.
    pub async fn rows(&self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let plan = self.state.create_physical_plan(&self.plan).await.map_err(from_datafusion)?;
        let rows = execute_stream(plan, self.state.task_ctx()).map_err(from_datafusion)?;
        let schema = self.schema();
        let batch = move |rows: RecordBatch| {
            // Without columns a batch has rows all the same.
            let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
            let columns = rows.columns().to_vec();
            RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)
                .map_err(|error| Error::internal(format!("rows of a query do not fit its columns: {error}")))
        };
        Ok(rows.map(move |rows| rows.map_err(from_datafusion).and_then(&batch)).boxed())
    }
}
