//! `JOIN t FOR SYSTEM_TIME AS OF o.proctime AS t ON …`: rows of a stream meet a table as it is when they come.
//!
//! In a plan the table is a [`TableAsOf`]. A stream job looks its rows up; a statement that ends reads the table as it is now.

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use datafusion::catalog::TableProvider;
use datafusion::common::tree_node::{Transformed, TreeNodeRecursion};
use datafusion::common::{Column, DFSchemaRef, JoinType, Result as PlanResult, TableReference, plan_err};
use datafusion::datasource::source_as_provider;
use datafusion::logical_expr::planner::{PlannedRelation, RelationPlanner, RelationPlannerContext, RelationPlanning};
use datafusion::logical_expr::{Expr, Extension, Join, LogicalPlan, UserDefinedLogicalNodeCore};
use datafusion::physical_expr::ScalarFunctionExpr;
use datafusion::sql::sqlparser::ast::{Expr as SqlExpr, Ident, TableFactor, TableVersion};
use tereza_runtime::{Error, Result};

use super::duration;
use super::source::{ColumnSource, StreamSource};
use super::windows::WindowTable;
use crate::error::{from_datafusion, to_datafusion};
use crate::table;

/// How long what was read of a table counts: an option of a stream's table, and a parameter of one of the catalog.
const TTL: &str = "lookup.join.cache.ttl";
/// Where nothing is said.
const TTL_USUAL: Duration = Duration::from_secs(60 * 60);
/// The connector of tables of streams that can be read whole.
const FILESYSTEM: &str = "filesystem";
/// Parameters of Flink's that make only the latest partition of a table count.
const LATEST: [(&str, &str); 2] =
    [("streaming-source.enable", "true"), ("streaming-source.partition.include", "latest")];
/// The function whose values are times of processing.
const PROCTIME: &str = "proctime";

/// A table that each row of a stream meets as it is when the row comes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd)]
pub struct TableAsOf {
    /// What is read of the table.
    pub input: LogicalPlan,
    /// How long what was read counts.
    pub ttl: Duration,
    /// The column of the rows that says when they come.
    time: Column,
}

impl TableAsOf {
    /// The table that a plan reads, if it does nothing more than to filter and project it.
    pub fn of(plan: &LogicalPlan) -> Option<&Self> {
        match plan {
            LogicalPlan::SubqueryAlias(alias) => Self::of(&alias.input),
            LogicalPlan::Filter(filter) => Self::of(&filter.input),
            LogicalPlan::Projection(projection) => Self::of(&projection.input),
            LogicalPlan::Extension(extension) => extension.node.as_any().downcast_ref(),
            _ => None,
        }
    }

    /// The plan that reads such tables as they are now.
    pub fn read(plan: LogicalPlan) -> Result<LogicalPlan> {
        to_tables(plan).map_err(from_datafusion)
    }
}

impl UserDefinedLogicalNodeCore for TableAsOf {
    fn name(&self) -> &str {
        "TableAsOf"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        self.input.schema()
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    /// What is asked of the rows may be asked when they are read.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        HashSet::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TableAsOf: time={}", self.time)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> PlanResult<Self> {
        let Some(input) = inputs.into_iter().next() else { return plan_err!("FOR SYSTEM_TIME AS OF no table") };
        Ok(Self { input, ttl: self.ttl, time: self.time.clone() })
    }

    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        Some(vec![output_columns.to_vec()])
    }
}

/// Plans tables with FOR SYSTEM_TIME AS OF.
#[derive(Debug)]
pub(super) struct AsOfPlanner;

impl RelationPlanner for AsOfPlanner {
    fn plan_relation(
        &self,
        mut relation: TableFactor,
        context: &mut dyn RelationPlannerContext,
    ) -> PlanResult<RelationPlanning> {
        let (time, alias) = match &mut relation {
            TableFactor::Table { version: Some(TableVersion::ForSystemTimeAsOf(time)), alias, .. } => {
                (column(time, context)?, alias.take())
            }
            TableFactor::Table { name, version: Some(version), .. } => {
                return Err(to_datafusion(Error::unsupported(format!("{version} after table {name}"))));
            }
            _ => return Ok(RelationPlanning::Original(Box::new(relation))),
        };
        if let TableFactor::Table { version, .. } = &mut relation {
            *version = None;
        }
        let input = context.plan(relation)?;
        let ttl = ttl_of(&input).map_err(to_datafusion)?;
        let plan = LogicalPlan::Extension(Extension { node: Arc::new(TableAsOf { input, ttl, time }) });
        Ok(RelationPlanning::Planned(Box::new(PlannedRelation::new(plan, alias))))
    }
}

/// The column after FOR SYSTEM_TIME AS OF. It is one of another relation, which is not known yet.
fn column(time: &SqlExpr, context: &dyn RelationPlannerContext) -> PlanResult<Column> {
    let normal = |name: &Ident| context.normalize_ident(name.clone());
    match time {
        SqlExpr::Identifier(name) => Ok(Column::new_unqualified(normal(name))),
        SqlExpr::CompoundIdentifier(parts) => {
            let parts: Vec<String> = parts.iter().map(normal).collect();
            let relation = match parts.as_slice() {
                [table, _] => TableReference::bare(table.as_str()),
                [schema, table, _] => TableReference::partial(schema.as_str(), table.as_str()),
                [catalog, schema, table, _] => TableReference::full(catalog.as_str(), schema.as_str(), table.as_str()),
                _ => return plan_err!("FOR SYSTEM_TIME AS OF {time}: the name has too many parts"),
            };
            Ok(Column::new(Some(relation), parts.last().cloned().unwrap_or_default()))
        }
        other => {
            let error = Error::unsupported(format!("FOR SYSTEM_TIME AS OF {other}, which is no column"));
            Err(to_datafusion(error.with_hint("name a column of the rows before JOIN that is PROCTIME()")))
        }
    }
}

/// How long what is read of tables counts: the least that one of them says.
fn ttl_of(plan: &LogicalPlan) -> Result<Duration> {
    let mut found = Ok(None::<Duration>);
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node
            && let Ok(known) = &found
        {
            let provider = source_as_provider(&scan.source)?;
            let ttl = ttl_of_table(&scan.table_name, provider.as_ref());
            found = ttl.map(|ttl| known.iter().copied().chain(ttl).min());
        }
        Ok(TreeNodeRecursion::Continue)
    });
    visited.map_err(from_datafusion)?;
    Ok(found?.unwrap_or(TTL_USUAL))
}

fn ttl_of_table(name: &TableReference, provider: &dyn TableProvider) -> Result<Option<Duration>> {
    let options = match provider.downcast_ref::<StreamSource>() {
        Some(stream) => {
            let options = &stream.definition().options;
            let connector = options.get("connector").map(String::as_str).unwrap_or_default();
            if connector != FILESYSTEM {
                return Err(Error::unsupported(format!(
                    "FOR SYSTEM_TIME AS OF {name}, a table with connector '{connector}',"
                ))
                .with_hint("tables of the catalog and those with connector 'filesystem' can be looked up"));
            }
            options
        }
        None => match table::parameters(provider) {
            Some(parameters) => parameters,
            None => return Ok(None),
        },
    };
    if LATEST.iter().all(|(key, value)| options.get(*key).is_some_and(|given| given.eq_ignore_ascii_case(value))) {
        return Err(Error::unsupported(format!(
            "FOR SYSTEM_TIME AS OF {name}, of which only the latest partition counts ('{}' = '{}'),",
            LATEST[1].0, LATEST[1].1
        )));
    }
    let Some(text) = options.get(TTL) else { return Ok(None) };
    let ttl = duration(text).filter(|ttl| !ttl.is_zero());
    let ttl = ttl.ok_or_else(|| {
        Error::invalid_input(format!("'{TTL}' of {name} is '{text}', expected a duration such as '10 min'"))
    })?;
    Ok(Some(ttl))
}

/// Refuses tables that nothing is joined with, and times that are none of processing.
pub(super) fn check(plan: &LogicalPlan) -> PlanResult<()> {
    let (mut tables, mut joined) = (0, 0);
    plan.apply_with_subqueries(|node| {
        match node {
            LogicalPlan::Extension(_) if TableAsOf::of(node).is_some() => tables += 1,
            LogicalPlan::Join(join) => {
                if let Some(table) = joined_table(&join.right) {
                    joined += 1;
                    check_join(join, table)?;
                }
            }
            _ => {}
        }
        Ok(TreeNodeRecursion::Continue)
    })?;
    match tables > joined {
        true => refuse("FOR SYSTEM_TIME AS OF elsewhere than after a table that is joined with other rows", None),
        false => Ok(()),
    }
}

fn joined_table(plan: &LogicalPlan) -> Option<&TableAsOf> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => joined_table(&alias.input),
        LogicalPlan::Extension(_) => TableAsOf::of(plan),
        _ => None,
    }
}

fn check_join(join: &Join, table: &TableAsOf) -> PlanResult<()> {
    if !matches!(join.join_type, JoinType::Inner | JoinType::Left) {
        return refuse(&format!("a {} join with a table FOR SYSTEM_TIME AS OF", join.join_type), None);
    }
    let at = join.left.schema().index_of_column(&table.time)?;
    if is_processing_time(&join.left, at)? {
        return Ok(());
    }
    let what = format!("FOR SYSTEM_TIME AS OF {}, which is not PROCTIME() of the rows before JOIN,", table.time);
    refuse(&what, Some("give their table a column AS PROCTIME(), or join (SELECT *, PROCTIME() AS p FROM …)"))
}

fn refuse(what: &str, hint: Option<&str>) -> PlanResult<()> {
    let error = Error::unsupported(what);
    Err(to_datafusion(match hint {
        Some(hint) => error.with_hint(hint),
        None => error,
    }))
}

/// Whether a column of a plan, by its place, is PROCTIME() as it was first written.
fn is_processing_time(plan: &LogicalPlan, at: usize) -> PlanResult<bool> {
    match plan {
        LogicalPlan::SubqueryAlias(alias) => is_processing_time(&alias.input, at),
        LogicalPlan::Filter(filter) => is_processing_time(&filter.input, at),
        LogicalPlan::Projection(projection) => match without_alias(&projection.expr[at]) {
            Expr::Column(column) => {
                is_processing_time(&projection.input, projection.input.schema().index_of_column(column)?)
            }
            Expr::ScalarFunction(function) => Ok(function.name() == PROCTIME),
            _ => Ok(false),
        },
        LogicalPlan::Join(join) => match at.checked_sub(join.left.schema().fields().len()) {
            None => is_processing_time(&join.left, at),
            Some(_) if !matches!(join.join_type, JoinType::Inner | JoinType::Left) => Ok(false),
            Some(at) => is_processing_time(&join.right, at),
        },
        LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<WindowTable>() {
            Some(table) if at < table.input.schema().fields().len() => is_processing_time(&table.input, at),
            _ => Ok(false),
        },
        LogicalPlan::TableScan(scan) => {
            let provider = source_as_provider(&scan.source)?;
            let Some(stream) = provider.downcast_ref::<StreamSource>() else { return Ok(false) };
            let place = scan.projection.as_ref().map_or(at, |columns| columns[at]);
            Ok(match stream.columns().get(place) {
                Some(ColumnSource::Computed(expression)) => {
                    expression.downcast_ref::<ScalarFunctionExpr>().is_some_and(|call| call.fun().name() == PROCTIME)
                }
                _ => false,
            })
        }
        _ => Ok(false),
    }
}

fn without_alias(expression: &Expr) -> &Expr {
    match expression {
        Expr::Alias(alias) => without_alias(&alias.expr),
        other => other,
    }
}

/// The plan with the tables themselves, for rows that end.
pub(super) fn to_tables(plan: LogicalPlan) -> PlanResult<LogicalPlan> {
    let read = plan.transform_up_with_subqueries(|plan| match &plan {
        LogicalPlan::Extension(extension) => match extension.node.as_any().downcast_ref::<TableAsOf>() {
            Some(table) => Ok(Transformed::yes(table.input.clone())),
            None => Ok(Transformed::no(plan)),
        },
        _ => Ok(Transformed::no(plan)),
    });
    Ok(read?.data)
}
