//! The conditions on a table, those first that are expected to keep few rows.
//!
//! DataFusion evaluates the conditions of a filter in the order of the text, each over all rows. Where those before keep
//! less than a fifth it copies the rows that are left, with all their columns, once for each condition that follows. This
//! rule makes one filter of what is compared with constants on each selective column, the most selective lowest: the next
//! looks at what that one keeps, which is copied once.

use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{Result, ScalarValue, Statistics, config::ConfigOptions};
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, InListExpr, Literal};
use datafusion::physical_expr::{conjunction, split_conjunction};
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::filter::{FilterExec, FilterExecBuilder};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use crate::selectivity::{selectivity, within};

/// Conditions that are expected to keep more than this part of the rows are not worth a filter of their own.
const KEPT_MAX: f64 = 0.3;

/// The rule; it runs after DataFusion's, which hand the whole filter to the scan.
#[derive(Debug)]
pub(crate) struct FilterOrder;

impl PhysicalOptimizerRule for FilterOrder {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let ordered = plan.transform_up(|node| {
            let ordered = node.downcast_ref::<FilterExec>().map(in_order).transpose()?.flatten();
            Ok(ordered.map_or_else(|| Transformed::no(node), Transformed::yes))
        })?;
        Ok(ordered.data)
    }

    fn name(&self) -> &str {
        "filter_order"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// Conditions on one column.
#[derive(Debug, Default)]
struct OfColumn {
    index: usize,
    conditions: Vec<Arc<dyn PhysicalExpr>>,
}

/// The filter as several, one above the other; `None` if it stays.
fn in_order(filter: &FilterExec) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let conditions = split_conjunction(filter.predicate());
    if conditions.len() < 2 || filter.fetch().is_some() || !filter.input().is::<DataSourceExec>() {
        return Ok(None);
    }
    let Ok(statistics) = StatisticsContext::new().compute(filter.input().as_ref(), &StatisticsArgs::new()) else {
        return Ok(None);
    };
    let mut columns: Vec<OfColumn> = Vec::new();
    for condition in &conditions {
        let Some(index) = compared_column(condition) else { continue };
        match columns.iter_mut().find(|column| column.index == index) {
            Some(column) => column.conditions.push(Arc::clone(condition)),
            None => columns.push(OfColumn { index, conditions: vec![Arc::clone(condition)] }),
        }
    }
    let mut selective: Vec<(f64, OfColumn)> = columns
        .into_iter()
        .map(|column| (kept(&column, &statistics), column))
        .filter(|(kept, _)| *kept <= KEPT_MAX)
        .collect();
    selective.sort_by(|(left, _), (right, _)| left.total_cmp(right));
    let is_selective = |condition: &&Arc<dyn PhysicalExpr>| {
        compared_column(condition).is_some_and(|index| selective.iter().any(|(_, column)| column.index == index))
    };
    let rest: Vec<_> = conditions.iter().filter(|condition| !is_selective(condition)).map(|c| Arc::clone(c)).collect();
    let mut filters: Vec<Arc<dyn PhysicalExpr>> =
        selective.iter().map(|(_, column)| conjunction(column.conditions.iter().cloned())).collect();
    if !rest.is_empty() {
        filters.push(conjunction(rest));
    }
    let last = filters.pop();
    let Some(last) = last.filter(|_| !filters.is_empty()) else { return Ok(None) };
    let mut input = Arc::clone(filter.input());
    for predicate in filters {
        input = Arc::new(FilterExecBuilder::new(predicate, input).with_batch_size(filter.batch_size()).build()?);
    }
    let top = FilterExecBuilder::from(filter).with_input(input).with_predicate(last).build()?;
    Ok(Some(Arc::new(top)))
}

/// The column that a condition compares with constants, and nothing else does.
fn compared_column(condition: &Arc<dyn PhysicalExpr>) -> Option<usize> {
    let column = match (condition.downcast_ref::<BinaryExpr>(), condition.downcast_ref::<InListExpr>()) {
        // As DataFusion writes short lists.
        (Some(either), _) if *either.op() == Operator::Or => {
            let column = compared_column(either.left())?;
            return compared_column(either.right()).filter(|other| *other == column);
        }
        (Some(binary), _) if is_comparison(*binary.op()) => match binary.right().is::<Literal>() {
            true => binary.left(),
            false if binary.left().is::<Literal>() => binary.right(),
            false => return None,
        },
        (_, Some(list)) if list.list().iter().all(|item| item.is::<Literal>()) => list.expr(),
        _ => return None,
    };
    column.downcast_ref::<Column>().map(Column::index)
}

fn is_comparison(operator: Operator) -> bool {
    matches!(operator, Operator::Eq | Operator::Lt | Operator::LtEq | Operator::Gt | Operator::GtEq)
}

/// The part of rows that conditions on one column are expected to keep.
fn kept(column: &OfColumn, statistics: &Statistics) -> f64 {
    let comparisons: Option<Vec<(Operator, ScalarValue)>> = column.conditions.iter().map(comparison).collect();
    comparisons
        .and_then(|comparisons| within(statistics.column_statistics.get(column.index)?, &comparisons))
        .unwrap_or_else(|| column.conditions.iter().map(|condition| selectivity(condition, statistics)).product())
}

/// What a column is compared with, as if it stood left.
fn comparison(condition: &Arc<dyn PhysicalExpr>) -> Option<(Operator, ScalarValue)> {
    let binary = condition.downcast_ref::<BinaryExpr>()?;
    match binary.right().downcast_ref::<Literal>() {
        Some(constant) => Some((*binary.op(), constant.value().clone())),
        None => Some((binary.op().swap()?, binary.left().downcast_ref::<Literal>()?.value().clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_session::{config, plain_rules, plan, run, session, shown};

    /// The filters of a statement, the lowest first; its answer is the same without the rule.
    async fn filters(condition: &str) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("t.parquet").display().to_string();
        // In a Parquet file, whose footer has the least and greatest values.
        let setup = format!(
            "copy (select value as id, nullif(value % 11, 3) as x, date '1992-01-01' + cast(value % 2000 as int) as day,
               cast(value % 100 as decimal(15, 2)) as price, 'kind ' || (value % 7) as kind, value % 7 - 1 as divisor
               from range(20000)) to '{file}';
             create external table t stored as parquet location '{file}'"
        );
        let mut rules = plain_rules();
        let plain = session(config().with_target_partitions(1), rules.clone(), &setup).await;
        rules.push(Arc::new(FilterOrder));
        let ordered = session(config().with_target_partitions(1), rules, &setup).await;
        let sql = format!("select id, x, kind from t where {condition} order by id");
        let (filtered, expected) = (plan(&ordered, &sql).await, plan(&plain, &sql).await);
        let text = shown(&filtered);
        assert_eq!(run(&ordered, filtered).await, run(&plain, expected).await, "{condition}");
        let filters = text.lines().filter_map(|line| line.trim().strip_prefix("FilterExec: "));
        filters.rev().map(|filter| filter.split(", projection").next().unwrap_or(filter).to_owned()).collect()
    }

    #[tokio::test]
    async fn selective_columns_come_first() {
        let filters = filters(
            "x < 9 and price < 25.00 and day >= date '1993-01-01' and kind = 'kind 4' and day < date '1993-04-01'",
        )
        .await;
        assert_eq!(filters.len(), 4, "{filters:?}");
        assert!(filters[0].contains("day@") && filters[0].matches(" AND ").count() == 1, "{filters:?}");
        assert!(
            filters[1].contains("kind@") && filters[2].contains("price@") && filters[3].contains("x@"),
            "{filters:?}"
        );
    }

    #[tokio::test]
    async fn conditions_that_keep_much_or_stand_alone_stay() {
        for condition in [
            "price < 90.00 and x > 2 and day > date '1993-01-01'",
            "day = date '1993-01-01'",
            "day >= date '1993-01-01' and day < date '1993-02-01'",
            "id + x = 7 and id < x",
            "kind like 'kind 3%' and x is null",
        ] {
            assert_eq!(filters(condition).await.len(), 1, "{condition}");
        }
    }

    #[tokio::test]
    async fn what_guards_another_condition_still_does() {
        // The remainder, in the order of the text, sees fewer rows than before, never more.
        let filters = filters("divisor = 3 and 100 / divisor > 3 and kind in ('kind 4', 'kind 2')").await;
        assert_eq!(filters.len(), 3, "{filters:?}");
        assert!(filters[2].contains("100 / "), "{filters:?}");
    }
}
