//! Tables beside streams: those that are looked up, and those that are read once.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinType, NullEquality};
use datafusion::logical_expr::{Expr, Join, LogicalPlan, LogicalPlanBuilder};
use tereza_engine::flink::{BoundedPlan, TableAsOf};
use tereza_runtime::error::Result;

use super::join::both;
use super::{Places, Planner, Port, SourceRows, SourceTable, Stream, failed, unsupported, without_alias};
use crate::operator::ChangelogMode;
use crate::operator::join::{JoinKind, JoinOn};
use crate::operator::lookup_join::{LookupJoin, SharedTable};

/// A table that rows of a stream are looked up in.
pub struct Side {
    /// Its name in the query.
    pub name: String,
    /// What is read of it.
    pub rows: BoundedPlan,
    /// The columns that it is looked up by.
    pub key: Vec<usize>,
    /// How long what was read counts.
    pub ttl: Duration,
    /// What the operator looks up; whoever runs the graph puts the rows in.
    pub table: SharedTable,
}

impl Planner<'_> {
    /// Joins a stream with a table that is looked up.
    pub(super) fn lookup_join(&mut self, join: &Join, table: &TableAsOf) -> Result<Stream> {
        let kind = match join.join_type {
            JoinType::Inner => JoinKind::Inner,
            JoinType::Left => JoinKind::Left,
            other => return Err(unsupported(&format!("a {other} join with a table FOR SYSTEM_TIME AS OF"))),
        };
        if join.null_equality == NullEquality::NullEqualsNull && !join.on.is_empty() {
            return Err(unsupported("a join in which NULL equals NULL"));
        }
        let (left_schema, right_schema) = (join.left.schema(), join.right.schema());
        let left = self.node(&join.left)?;
        let (left, left_on) = self.with_columns(left, left_schema, join.on.iter().map(|(left, _)| left))?;
        let (rows, key) = keyed(join.right.as_ref().clone(), join.on.iter().map(|(_, right)| right))?;
        let name = name_of(&rows)?;
        let rows = BoundedPlan::new(rows, self.batch);
        let looked_up = rows.schema();
        let both = both(left_schema, &left.schema, right_schema, &looked_up)?;
        let condition = join.filter.as_ref().map(|filter| self.expression(filter, &both)).transpose()?;
        let on = JoinOn { kind, left: left_on, right: key.clone(), condition };
        let shared = SharedTable::new(SchemaRef::clone(&looked_up));
        let operator = LookupJoin::new(&left.schema, &left.mode, on, shared.clone())?;
        self.sides.push(Side { name, rows, key, ttl: table.ttl, table: shared });
        let (times, windows, places) = (left.times.clone(), left.windows, left.places.clone());
        let counts = [left.schema.fields().len(), looked_up.fields().len()];
        let joined = Stream { times, windows, places, ..self.add(Box::new(operator), &[left])? };
        self.without_keys(joined, &both, [left_schema, right_schema], counts)
    }

    /// A table that is no stream, or a query of such: its rows are read once.
    pub(super) fn bounded(&mut self, name: String, plan: &LogicalPlan) -> Stream {
        let rows = BoundedPlan::new(plan.clone(), self.batch);
        let schema = rows.schema();
        let columns = (0..schema.fields().len()).collect();
        self.sources.push(SourceTable { name, rows: SourceRows::Once(Box::new(rows)), columns });
        let port = Port::Source(self.graph.source());
        let (mode, places) = (ChangelogMode::Append, Places::default());
        Stream { port, schema, mode, times: Vec::new(), windows: None, places }
    }
}

/// The rows of a table that is looked up, with further columns for keys that are none of its own, and the places of all keys.
fn keyed<'e>(plan: LogicalPlan, keys: impl Iterator<Item = &'e Expr>) -> Result<(LogicalPlan, Vec<usize>)> {
    let plan = TableAsOf::read(plan)?;
    let schema = Arc::clone(plan.schema());
    let mut columns: Vec<Expr> = schema.columns().into_iter().map(Expr::Column).collect();
    let own = columns.len();
    let mut places = Vec::new();
    for key in keys {
        places.push(match without_alias(key) {
            Expr::Column(column) => schema.index_of_column(column).map_err(failed)?,
            other => {
                columns.push(other.clone().alias(format!("__on_{}", columns.len())));
                columns.len() - 1
            }
        });
    }
    if columns.len() == own {
        return Ok((plan, places));
    }
    let plan = LogicalPlanBuilder::from(plan).project(columns).and_then(LogicalPlanBuilder::build);
    Ok((plan.map_err(failed)?, places))
}

/// The name of the first table that a plan reads.
fn name_of(plan: &LogicalPlan) -> Result<String> {
    let mut name = String::new();
    let found = plan.apply(|node| match node {
        LogicalPlan::TableScan(scan) => {
            name = scan.table_name.to_string();
            Ok(TreeNodeRecursion::Stop)
        }
        _ => Ok(TreeNodeRecursion::Continue),
    });
    found.map(|_| name).map_err(failed)
}
