//! Joins that spill, where a hash table is not expected to fit.
//!
//! DataFusion's hash join holds its build side whole; its sort-merge join spills, and is slower, the more so for small
//! sides. A statement whose hash tables did not fit is planned again with this rule: joins of which one side is expected
//! to be small stay hashed, all others sort.

use std::sync::Arc;

use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::Result;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{HashJoinExec, SortMergeJoinExec};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use tereza_runtime::{Error, ErrorKind};

/// Bytes that a value of a type without a fixed width is taken to have, with what refers to it.
const VALUE_BYTES: usize = 32;
/// Bytes of a row in a hash table, besides its values.
const ENTRY_BYTES: usize = 24;

/// Whether a statement failed for a hash table that did not fit, or for want of the memory that one held: then it is worth
/// another try without, also where the hash table was another statement's.
pub fn is_hash_join_too_large(error: &Error) -> bool {
    error.kind() == ErrorKind::ResourceExhausted && error.message().contains("HashJoinInput")
}

/// The rule; it runs before DataFusion chooses the sides of joins.
#[derive(Debug)]
pub(crate) struct SpillableJoins {
    /// Hash tables up to this size stay.
    pub(crate) hashed_bytes_max: usize,
}

impl PhysicalOptimizerRule for SpillableJoins {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, _: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        let statistics = StatisticsContext::new();
        let is_small = |plan: &Arc<dyn ExecutionPlan>| {
            let expected = statistics.compute(plan.as_ref(), &StatisticsArgs::new()).ok();
            let rows = expected.and_then(|expected| expected.num_rows.get_value().copied());
            rows.is_some_and(|rows| rows.saturating_mul(row_bytes(&plan.schema())) <= self.hashed_bytes_max)
        };
        let sorted = plan.transform_up(|node| {
            let Some(join) = node.downcast_ref::<HashJoinExec>() else { return Ok(Transformed::no(node)) };
            // A sort-merge join does not know `NOT IN`.
            if join.null_aware || join.fetch().is_some() || is_small(join.left()) || is_small(join.right()) {
                return Ok(Transformed::no(node));
            }
            sort_merge_join(join).map(Transformed::yes)
        })?;
        Ok(sorted.data)
    }

    fn name(&self) -> &str {
        "spillable_joins"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

fn row_bytes(schema: &Schema) -> usize {
    let bytes = |data_type: &DataType| data_type.primitive_width().unwrap_or(VALUE_BYTES);
    ENTRY_BYTES + schema.fields().iter().map(|field| bytes(field.data_type())).sum::<usize>()
}

/// The same join, sorting.
fn sort_merge_join(join: &HashJoinExec) -> Result<Arc<dyn ExecutionPlan>> {
    let sorting: Arc<dyn ExecutionPlan> = Arc::new(SortMergeJoinExec::try_new(
        Arc::clone(join.left()),
        Arc::clone(join.right()),
        join.on().to_vec(),
        join.filter().map(with_nulls),
        *join.join_type(),
        vec![SortOptions::default(); join.on().len()],
        join.null_equality(),
    )?);
    let Some(projection) = &join.projection else { return Ok(sorting) };
    let schema = sorting.schema();
    let columns = projection.iter().map(|index| {
        let name = schema.field(*index).name();
        ProjectionExpr { expr: Arc::new(Column::new(name, *index)), alias: name.clone() }
    });
    Ok(Arc::new(ProjectionExec::try_new(columns.collect::<Vec<_>>(), sorting)?))
}

/// The filter on columns that may be NULL. A sort-merge join hands the NULLs of an outer side to it, also those of columns
/// that the filter's schema says have none.
fn with_nulls(filter: &JoinFilter) -> JoinFilter {
    let fields = filter.schema().fields().iter().map(|field| field.as_ref().clone().with_nullable(true));
    let schema = Schema::new(fields.collect::<Vec<_>>());
    JoinFilter::new(Arc::clone(filter.expression()), filter.column_indices().to_vec(), Arc::new(schema))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_session::{answer, config, plain_rules, plan, run, session, shown};

    const TABLES: &str = "
create table small as select value as s_id, 's' || value as s_name from range(50);
create table large as select value as l_id, value % 50 as l_s, nullif(value % 7, 3) as l_x from range(20000);
create table other as select value * 3 as o_id, value % 7 as o_x from range(20000)";

    #[tokio::test]
    async fn only_joins_with_two_large_sides_sort_and_all_answer_the_same() {
        let joins = [
            "select count(*), sum(l_x) from large join other on l_id = o_id join small on l_s = s_id where s_name <> 's7'",
            "select count(*), sum(l_x), sum(o_x) from large left join other on l_id = o_id and l_x < o_x",
            "select count(*), sum(l_x), sum(o_x) from large right join other on l_id = o_id",
            "select count(*), sum(l_x), sum(o_x) from large full join other on l_id = o_id",
            "select count(*) from large where exists (select 1 from other where l_id = o_id and l_x <> o_x)",
            "select count(*) from large where not exists (select 1 from other where l_id = o_id and l_x <> o_x)",
            "select count(*) from large where l_x not in (select o_x from other where o_x > 2)",
        ];
        let hashed = session(config(), plain_rules(), TABLES).await;
        let mut rules = plain_rules();
        rules.insert(0, Arc::new(SpillableJoins { hashed_bytes_max: 10_000 }));
        let mixed = session(config(), rules, TABLES).await;
        for sql in joins {
            let plan = plan(&mixed, sql).await;
            let text = shown(&plan);
            assert_eq!(text.contains("SortMergeJoinExec"), !sql.contains("not in"), "{text}");
            assert_eq!(text.contains("HashJoinExec"), sql.contains("not in") || sql.contains("small"), "{text}");
            assert_eq!(run(&mixed, plan).await, answer(&hashed, sql).await, "{text}");
        }
    }
}
