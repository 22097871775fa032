//! The first rows by an order: `ROW_NUMBER() OVER (PARTITION BY … ORDER BY …)` with a bound.

use arrow::compute::SortOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Filter, LogicalPlan, Operator as Op, Window};
use tereza_runtime::error::Result;

use super::{Named, Places, Planner, Stream, failed, unsupported, without_alias};
use crate::operator::deduplicate::{Deduplicate, Keep, OrderBy};
use crate::operator::top_n::{Ranks, TopN};
use crate::operator::{ChangelogMode, Operator};

/// A condition on a rank, over the relation that is ranked.
pub(super) struct Rank<'p> {
    filter: &'p Filter,
    window: &'p Window,
    function: &'p WindowFunction,
    ranks: Ranks,
    /// What else is asked for, over the columns of the window.
    others: Option<Expr>,
    /// What each column of the filter is, over the columns of the window.
    columns: Vec<Expr>,
}

/// The rank that a condition bounds, if it does.
pub(super) fn of(filter: &Filter) -> Result<Option<Rank<'_>>> {
    let Some((window, columns)) = below(&filter.input)? else { return Ok(None) };
    let [only] = window.window_expr.as_slice() else { return Ok(None) };
    let Expr::WindowFunction(function) = without_alias(only) else { return Ok(None) };
    if !function.fun.name().eq_ignore_ascii_case("row_number") {
        return Ok(None);
    }
    let number = rank_column(window);
    let (mut first, mut last) = (1_u64, None);
    let mut others: Option<Expr> = None;
    for condition in split_conjunction(&filter.predicate) {
        let condition = translate(condition, filter.input.schema(), &columns)?;
        match bound(&condition, &number) {
            Some((Op::Lt, value)) => last = Some(last.unwrap_or(u64::MAX).min(value.saturating_sub(1))),
            Some((Op::LtEq, value)) => last = Some(last.unwrap_or(u64::MAX).min(value)),
            Some((Op::Gt, value)) => first = first.max(value.saturating_add(1)),
            Some((Op::GtEq, value)) => first = first.max(value),
            Some((Op::Eq, value)) => {
                first = first.max(value);
                last = Some(last.unwrap_or(u64::MAX).min(value));
            }
            _ => others = others.into_iter().chain([condition]).reduce(Expr::and),
        }
    }
    let Some(last) = last else { return Ok(None) };
    let place = |rank: u64| usize::try_from(rank).unwrap_or(usize::MAX);
    let ranks = Ranks { first: place(first), last: place(last) };
    Ok(Some(Rank { filter, window, function: function.as_ref(), ranks, others, columns }))
}

/// The window function below projections, with what each column of the plan is over it.
fn below(plan: &LogicalPlan) -> Result<Option<(&Window, Vec<Expr>)>> {
    match plan {
        LogicalPlan::Window(window) => {
            Ok(Some((window, window.schema.columns().into_iter().map(Expr::Column).collect())))
        }
        LogicalPlan::SubqueryAlias(alias) => below(&alias.input),
        LogicalPlan::Projection(projection) => {
            let Some((window, columns)) = below(&projection.input)? else { return Ok(None) };
            let schema = projection.input.schema();
            let columns = projection
                .expr
                .iter()
                .map(|expression| translate(without_alias(expression), schema, &columns))
                .collect::<Result<_>>()?;
            Ok(Some((window, columns)))
        }
        _ => Ok(None),
    }
}

fn translate(expression: &Expr, schema: &DFSchema, columns: &[Expr]) -> Result<Expr> {
    let translated = expression.clone().transform(|expression| match &expression {
        Expr::Column(column) => Ok(Transformed::yes(columns[schema.index_of_column(column)?].clone())),
        _ => Ok(Transformed::no(expression)),
    });
    Ok(translated.map_err(failed)?.data)
}

/// The column of the rank: the last of the window's.
fn rank_column(window: &Window) -> Column {
    window.schema.columns().pop().unwrap_or_else(|| Column::new_unqualified(""))
}

/// The operator and the number that a condition compares the rank with.
fn bound(condition: &Expr, rank: &Column) -> Option<(Op, u64)> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = condition else { return None };
    match (without_cast(left), without_cast(right)) {
        (Expr::Column(column), Expr::Literal(value, _)) if column == rank => Some((*op, number(value)?)),
        (Expr::Literal(value, _), Expr::Column(column)) if column == rank => Some((op.swap()?, number(value)?)),
        _ => None,
    }
}

fn without_cast(expression: &Expr) -> &Expr {
    match expression {
        Expr::Cast(cast) => without_cast(&cast.expr),
        other => other,
    }
}

fn number(value: &ScalarValue) -> Option<u64> {
    match value.cast_to(&arrow::datatypes::DataType::Int64).ok()? {
        ScalarValue::Int64(Some(number)) => Some(u64::try_from(number).unwrap_or(0)),
        _ => None,
    }
}

impl Planner<'_> {
    /// The rows of a bounded rank; `wanted` are the columns of a projection above, which says whether the rank is one of them.
    pub(super) fn rank(&mut self, rank: Rank<'_>, wanted: Option<Vec<Named>>) -> Result<Stream> {
        let params = &rank.function.params;
        let input_schema = rank.window.input.schema();
        let mut columns: Vec<Named> =
            input_schema.columns().into_iter().map(|column| (Expr::Column(column.clone()), column.name)).collect();
        let own = columns.len();
        let mut place = |expression: &Expr| match without_alias(expression) {
            Expr::Column(column) => input_schema.index_of_column(column).map_err(failed),
            other => {
                columns.push((other.clone(), format!("__rank_{}", columns.len())));
                Ok(columns.len() - 1)
            }
        };
        let keys = params.partition_by.iter().map(&mut place).collect::<Result<Vec<_>>>()?;
        let order = params
            .order_by
            .iter()
            .map(|sort| Ok((place(&sort.expr)?, SortOptions { descending: !sort.asc, nulls_first: sort.nulls_first })))
            .collect::<Result<Vec<_>>>()?;
        if order.is_empty() {
            return Err(unsupported("ROW_NUMBER without ORDER BY"));
        }
        let number = rank_column(rank.window);
        let names_rank = |expression: &Expr| {
            let mut found = false;
            let _ = expression.apply(|node| {
                found |= matches!(node, Expr::Column(column) if *column == number);
                Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
            });
            found
        };
        // The wanted columns, over those of the window.
        let wanted = match wanted {
            Some(wanted) => wanted
                .into_iter()
                .map(|(expression, name)| {
                    Ok((translate(&expression, rank.filter.input.schema(), &rank.columns)?, name))
                })
                .collect::<Result<Vec<_>>>()?,
            None => {
                let names = rank.filter.input.schema().columns().into_iter().map(|column| column.name);
                rank.columns.iter().cloned().zip(names).collect()
            }
        };
        let with_rank =
            wanted.iter().any(|(expression, _)| names_rank(expression)) || rank.others.as_ref().is_some_and(names_rank);
        let input = self.node(&rank.window.input)?;
        let input = match columns.len() == own {
            true => input,
            false => self.calc(input, input_schema, None, Some(columns.clone()))?,
        };
        let name = with_rank.then_some(number.name.as_str());
        let places = Places::by([keys.clone()]);
        let ttl_ms = self.settings.state_ttl_ms;
        let operator: Box<dyn Operator> = match order.as_slice() {
            // The first or the last row of a key needs no order of the others.
            [(time, sort)]
                if !with_rank
                    && (rank.ranks.first, rank.ranks.last) == (1, 1)
                    && input.mode == ChangelogMode::Append
                    && input.times.contains(time) =>
            {
                let keep = if sort.descending { Keep::Last } else { Keep::First };
                let operator = Deduplicate::new(&input.schema, &input.mode, keys, keep, OrderBy::EventTime(*time))?;
                Box::new(operator.with_time_to_live(ttl_ms)?)
            }
            _ => {
                let operator = TopN::new(&input.schema, &input.mode, keys, &order, rank.ranks, name)?;
                Box::new(operator.with_time_to_live(ttl_ms)?)
            }
        };
        let ranked = Stream { places, ..self.add(operator, &[input])? };
        // The schema of what comes out: the input's columns, those that were added, the rank.
        let mut fields: Vec<_> =
            input_schema.iter().map(|(qualifier, field)| (qualifier.cloned(), std::sync::Arc::clone(field))).collect();
        fields.extend(ranked.schema.fields().iter().skip(own).map(|field| (None, std::sync::Arc::clone(field))));
        let schema = DFSchema::new_with_metadata(fields, Default::default()).map_err(failed)?;
        self.calc(ranked, &schema, rank.others.as_ref(), Some(wanted))
    }
}
