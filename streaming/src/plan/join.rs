//! Joins: of windows, within an interval of time, and of all rows there are.

use std::sync::Arc;

use arrow::datatypes::Schema;
use datafusion::common::{Column, DFSchema, JoinType, NullEquality, ScalarValue};
use datafusion::logical_expr::utils::split_conjunction;
use datafusion::logical_expr::{BinaryExpr, Expr, Join, Operator as Op};
use tereza_runtime::error::Result;

use super::{Named, Places, Planner, Stream, WindowColumns, failed, unsupported, without_alias};
use crate::operator::interval_join::IntervalJoin;
use crate::operator::join::{Join as RegularJoin, JoinKind, JoinOn};
use crate::operator::window_join::{self, WindowJoin};

impl Planner<'_> {
    pub(super) fn join(&mut self, join: &Join) -> Result<Stream> {
        let kind = match join.join_type {
            JoinType::Inner => JoinKind::Inner,
            JoinType::Left => JoinKind::Left,
            JoinType::Right => JoinKind::Right,
            JoinType::Full => JoinKind::Full,
            other => return Err(unsupported(&format!("a {other} join (IN or EXISTS)"))),
        };
        if join.null_equality == NullEquality::NullEqualsNull && !join.on.is_empty() {
            return Err(unsupported("a join in which NULL equals NULL"));
        }
        let (left_schema, right_schema) = (join.left.schema(), join.right.schema());
        let left = self.node(&join.left)?;
        let right = self.node(&join.right)?;
        let (left, left_on) = self.with_columns(left, left_schema, join.on.iter().map(|(left, _)| left))?;
        let (right, right_on) = self.with_columns(right, right_schema, join.on.iter().map(|(_, right)| right))?;
        let (left_count, right_count) = (left.schema.fields().len(), right.schema.fields().len());
        // The columns of both, with those that were added for keys.
        let both = both(left_schema, &left.schema, right_schema, &right.schema)?;
        let condition = join.filter.as_ref().map(|filter| self.expression(filter, &both)).transpose()?;
        let on = JoinOn { kind, left: left_on, right: right_on, condition };
        let equal = |left: usize, right: usize| on.left.iter().zip(&on.right).any(|pair| pair == (&left, &right));
        let windows = left.windows.zip(right.windows);
        let windows = windows.filter(|(left, right)| equal(left.start, right.start) && equal(left.end, right.end));
        let inputs = [left.clone(), right.clone()];
        // A side that may be filled up with NULLs says nothing of where its row is.
        let of_right = on.right.iter().map(|at| left_count + at).collect();
        let places = Places::by(match kind {
            JoinKind::Inner => vec![on.left.clone(), of_right],
            JoinKind::Left => vec![on.left.clone()],
            JoinKind::Right => vec![of_right],
            JoinKind::Full => Vec::new(),
        });
        let joined = if let Some((of_left, of_right)) = windows {
            let columns = [of_left, of_right]
                .map(|windows| window_join::WindowColumns { start: windows.start, end: windows.end });
            let operator = WindowJoin::new([&left.schema, &right.schema], [&left.mode, &right.mode], on, columns)?;
            // Pairs come out when their window ends; a side that is NULL in some has no windows.
            let of_right = WindowColumns {
                start: left_count + of_right.start,
                end: left_count + of_right.end,
                time: of_right.time.map(|time| left_count + time),
            };
            let sides = [Some(of_left).filter(|_| !kind.keeps(1)), Some(of_right).filter(|_| !kind.keeps(0))];
            let times = sides.iter().flatten().filter_map(|windows| windows.time).collect();
            let windows = sides.into_iter().flatten().next();
            Stream { windows, times, ..self.add(Box::new(operator), &inputs)? }
        } else if let Some(interval) = self.interval(join, &left, &right) {
            let operator = IntervalJoin::new(
                [&left.schema, &right.schema],
                [&left.mode, &right.mode],
                on,
                interval.times,
                interval.least_ms,
                interval.most_ms,
            )?;
            // The operator holds the watermark back for both; where one side is NULL so is its time.
            let [time, right_time] = interval.times;
            let time = Some(time).filter(|_| !kind.keeps(1));
            let right_time = Some(left_count + right_time).filter(|_| !kind.keeps(0));
            let times = time.into_iter().chain(right_time).collect();
            Stream { times, ..self.add(Box::new(operator), &inputs)? }
        } else {
            let ttl_ms = [self.settings.state_ttl_ms; 2];
            let operator = RegularJoin::new([&left.schema, &right.schema], [&left.mode, &right.mode], on, ttl_ms)?;
            self.add(Box::new(operator), &inputs)?
        };
        let joined = Stream { places, ..joined };
        self.without_keys(joined, &both, [left_schema, right_schema], [left_count, right_count])
    }

    /// A join without the columns that were added for its keys. `counts` are those of both sides with them.
    pub(super) fn without_keys(
        &mut self,
        joined: Stream,
        both: &DFSchema,
        own: [&DFSchema; 2],
        counts: [usize; 2],
    ) -> Result<Stream> {
        let [own_left, own_right] = own.map(|schema| schema.fields().len());
        let [left_count, right_count] = counts;
        if left_count == own_left && right_count == own_right {
            return Ok(joined);
        }
        let columns = both.columns();
        let kept = (0..own_left).chain(left_count..left_count + own_right);
        let kept: Vec<Named> = kept.map(|at| (Expr::Column(columns[at].clone()), columns[at].name.clone())).collect();
        self.calc(joined, both, None, Some(kept))
    }

    /// The input with further columns for expressions that are none of its own, and the places of all.
    pub(super) fn with_columns<'e>(
        &mut self,
        input: Stream,
        schema: &DFSchema,
        expressions: impl Iterator<Item = &'e Expr>,
    ) -> Result<(Stream, Vec<usize>)> {
        let mut columns: Vec<Named> =
            schema.columns().into_iter().map(|column| (Expr::Column(column.clone()), column.name)).collect();
        let mut places = Vec::new();
        for expression in expressions {
            places.push(match without_alias(expression) {
                Expr::Column(column) => schema.index_of_column(column).map_err(failed)?,
                other => {
                    columns.push((other.clone(), format!("__on_{}", columns.len())));
                    columns.len() - 1
                }
            });
        }
        Ok((self.calc(input, schema, None, Some(columns))?, places))
    }

    /// The interval that a join's condition bounds the times of both sides by, where both are the event times of their streams.
    fn interval(&self, join: &Join, left: &Stream, right: &Stream) -> Option<Interval> {
        if left.mode != crate::operator::ChangelogMode::Append || right.mode != crate::operator::ChangelogMode::Append {
            return None;
        }
        let filter = join.filter.as_ref()?;
        let parts: Vec<Expr> = split_conjunction(filter).into_iter().flat_map(as_comparisons).collect();
        let mut pairs = left.times.iter().flat_map(|left| right.times.iter().map(|right| [*left, *right]));
        pairs.find_map(|times| interval_of(join, &parts, times))
    }
}

/// The interval that the parts of a condition bound two times by.
fn interval_of(join: &Join, parts: &[Expr], times: [usize; 2]) -> Option<Interval> {
    let place = |column: &Column| {
        let of_left = join.left.schema().index_of_column(column).ok().filter(|at| *at == times[0]).map(|_| 0);
        of_left.or(join.right.schema().index_of_column(column).ok().filter(|at| *at == times[1]).map(|_| 1))
    };
    let (mut least, mut most) = (None::<i64>, None::<i64>);
    for part in parts {
        let Expr::BinaryExpr(BinaryExpr { left, op, right }) = part else { continue };
        let (Some((one, one_ms)), Some((other, other_ms))) = (moment(left), moment(right)) else { continue };
        let (Some(one), Some(other)) = (place(one), place(other)) else { continue };
        // one + one_ms op other + other_ms, as a bound of left time minus right time.
        let (bound_ms, op) = match (one, other) {
            (0, 1) => (other_ms.checked_sub(one_ms)?, *op),
            (1, 0) => (one_ms.checked_sub(other_ms)?, op.swap()?),
            _ => continue,
        };
        match op {
            Op::LtEq => most = Some(most.unwrap_or(i64::MAX).min(bound_ms)),
            Op::Lt => most = Some(most.unwrap_or(i64::MAX).min(bound_ms)),
            Op::GtEq | Op::Gt => least = Some(least.unwrap_or(i64::MIN).max(bound_ms)),
            Op::Eq => {
                most = Some(most.unwrap_or(i64::MAX).min(bound_ms));
                least = Some(least.unwrap_or(i64::MIN).max(bound_ms));
            }
            _ => {}
        }
    }
    Some(Interval { times, least_ms: least?, most_ms: most? })
}

struct Interval {
    times: [usize; 2],
    least_ms: i64,
    most_ms: i64,
}

/// BETWEEN as two comparisons.
fn as_comparisons(expression: &Expr) -> Vec<Expr> {
    match expression {
        Expr::Between(between) if !between.negated => {
            let value = || between.expr.as_ref().clone();
            vec![value().gt_eq(between.low.as_ref().clone()), value().lt_eq(between.high.as_ref().clone())]
        }
        other => vec![other.clone()],
    }
}

/// A column of time with the milliseconds that are added to it.
fn moment(expression: &Expr) -> Option<(&Column, i64)> {
    match expression {
        Expr::Column(column) => Some((column, 0)),
        Expr::Cast(cast) => moment(&cast.expr),
        Expr::Alias(alias) => moment(&alias.expr),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => {
            let (column, before) = moment(left)?;
            let by = duration_ms(right)?;
            match op {
                Op::Plus => Some((column, before.checked_add(by)?)),
                Op::Minus => Some((column, before.checked_sub(by)?)),
                _ => None,
            }
        }
        _ => None,
    }
}

fn duration_ms(expression: &Expr) -> Option<i64> {
    let Expr::Literal(value, _) = expression else { return None };
    match value {
        ScalarValue::IntervalMonthDayNano(Some(value)) if value.months == 0 => {
            (i64::from(value.days) * 86_400_000).checked_add(value.nanoseconds / 1_000_000)
        }
        ScalarValue::IntervalDayTime(Some(value)) => {
            Some(i64::from(value.days) * 86_400_000 + i64::from(value.milliseconds))
        }
        _ => None,
    }
}

/// The columns of both sides of a join, as they are joined.
pub(super) fn both(left_schema: &DFSchema, left: &Schema, right_schema: &DFSchema, right: &Schema) -> Result<DFSchema> {
    let side = |schema: &DFSchema, joined: &Schema, name: &str| {
        let own = schema.fields().len();
        let mut fields: Vec<_> =
            schema.iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
        for field in joined.fields().iter().skip(own) {
            let named = field.as_ref().clone().with_name(format!("{name}{}", field.name()));
            fields.push((None, Arc::new(named)));
        }
        fields
    };
    let mut fields = side(left_schema, left, "__left");
    fields.extend(side(right_schema, right, "__right"));
    DFSchema::new_with_metadata(fields, Default::default()).map_err(failed)
}
