//! Dynamic filters on rows: what a hash join learnt from its build side drops rows of its probe side where they are read.
//!
//! DataFusion hands a join's keys down to the scans of its probe side, which skip files and row groups by them. Keys that
//! are spread over a table skip nothing, and the rows go all the way up: TPC-H 17 sums up all of `lineitem` by part before
//! it joins the two hundred parts that it asks for. A [`DynamicFilterExec`](exec::DynamicFilterExec) above a scan drops
//! such rows before anything is done with them. Presto does the same.
//!
//! Two rules around DataFusion's own: [`Place`] puts an operator above each scan, DataFusion hands it the filters as it
//! does to any operator, and [`Tidy`] takes those away that have none which is worth its time.

mod exec;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::datasource::source::DataSourceExec;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::HashJoinExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::{ChildrenPropertiesMode, ExecutionPlan, ReplaceChildrenOptions};

use self::exec::DynamicFilterExec;

/// The name of DataFusion's rule that hands filters down; the second rule of this name does so for those of joins.
const FILTER_PUSHDOWN: &str = "FilterPushdown(Post)";

/// `rules` with the two of this module around DataFusion's.
pub(crate) fn with_dynamic_filters(
    rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>,
) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut with = Vec::with_capacity(rules.len() + 2);
    for rule in rules {
        if rule.name() == FILTER_PUSHDOWN {
            with.push(Arc::new(Place) as Arc<dyn PhysicalOptimizerRule + Send + Sync>);
            with.push(rule);
            with.push(Arc::new(Tidy));
        } else {
            with.push(rule);
        }
    }
    with
}

/// Puts an operator above each scan and the filter on it.
#[derive(Debug)]
struct Place;

impl PhysicalOptimizerRule for Place {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if !config.optimizer.enable_join_dynamic_filter_pushdown
            || !plan.exists(|node| Ok(node.is::<HashJoinExec>()))?
        {
            return Ok(plan);
        }
        let placed = plan.transform_down(|node| {
            if is_scan(&node) {
                let above = Arc::new(DynamicFilterExec::new(node, Vec::new()));
                return Ok(Transformed::new(above, true, TreeNodeRecursion::Jump));
            }
            Ok(Transformed::no(node))
        })?;
        Ok(placed.data)
    }

    fn name(&self) -> &str {
        "place_dynamic_filters"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn is_scan(plan: &Arc<dyn ExecutionPlan>) -> bool {
    match plan.downcast_ref::<FilterExec>() {
        // Rows are compared with a constant before they are looked up.
        Some(filter) => filter.fetch().is_none() && filter.input().is::<DataSourceExec>(),
        None => plan.is::<DataSourceExec>(),
    }
}

/// Takes away operators that nothing was handed to, and filters that are of no use: those of others than joins (which
/// change all the time), and that of the next join, which looks all rows up itself. An exchange before it costs less than
/// looking them up twice (TPC-H 4, 9 and 22).
#[derive(Debug)]
struct Tidy;

impl PhysicalOptimizerRule for Tidy {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        tidy(plan, &mut Vec::new(), None)
    }

    fn name(&self) -> &str {
        "tidy_dynamic_filters"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// `joins` are the ids of the filters of joins above `plan`; `next` is that of the join that looks all its rows up.
fn tidy(plan: Arc<dyn ExecutionPlan>, joins: &mut Vec<u64>, next: Option<u64>) -> Result<Arc<dyn ExecutionPlan>> {
    if let Some(filter) = plan.downcast_ref::<DynamicFilterExec>() {
        return Ok(filter.only(|id| joins.contains(&id) && next != Some(id)));
    }
    let join = if plan.is::<HashJoinExec>() { plan.dynamic_expressions_produced() } else { Vec::new() };
    let join = join.first().and_then(|filter| filter.expression_id());
    joins.extend(join);
    let passes_rows_on = plan.is::<ProjectionExec>() || plan.is::<RepartitionExec>();
    let children = plan.children();
    let last = children.len().saturating_sub(1);
    let mut has_changed = false;
    let mut tidied = Vec::with_capacity(children.len());
    for (place, child) in children.into_iter().enumerate() {
        // The last child of a join is its probe side.
        let next = if passes_rows_on { next } else { join.filter(|_| place == last) };
        let new = tidy(Arc::clone(child), joins, next)?;
        has_changed |= !Arc::ptr_eq(&new, child);
        tidied.push(new);
    }
    joins.truncate(joins.len() - usize::from(join.is_some()));
    if !has_changed {
        return Ok(plan);
    }
    plan.replace_children(tidied, ReplaceChildrenOptions::new(ChildrenPropertiesMode::Recompute))
}
