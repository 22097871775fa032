//! Plans for stream jobs.

use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::{AnalyzerRule, OptimizerRule};
use tereza_runtime::{Error, Result};

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
}

impl StreamPlan {
    /// Prepares the plan of a query that `state` made.
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
        Ok(Self { plan, state })
    }
}
