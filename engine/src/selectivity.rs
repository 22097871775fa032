//! What part of its input's rows a condition is expected to keep, from the statistics of columns.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, InListExpr, LikeExpr, Literal};
use datafusion::physical_plan::PhysicalExpr;

/// The part of rows that a condition keeps which is neither an equality nor a pattern.
pub(crate) const FILTER_SELECTIVITY: f64 = 1.0 / 3.0;
/// The part of rows that have one certain value, where it is not known how many values there are.
const VALUE_SELECTIVITY: f64 = 0.1;

/// The part of rows that a condition keeps.
pub(crate) fn selectivity(condition: &Arc<dyn PhysicalExpr>, statistics: &Statistics) -> f64 {
    if let Some(binary) = condition.downcast_ref::<BinaryExpr>() {
        return match binary.op() {
            Operator::Eq if binary.left().is::<Literal>() => one_value(binary.right(), statistics),
            Operator::Eq => one_value(binary.left(), statistics),
            Operator::NotEq => 1.0 - one_value(binary.left(), statistics),
            Operator::And => selectivity(binary.left(), statistics) * selectivity(binary.right(), statistics),
            Operator::Or => {
                let sides = selectivity(binary.left(), statistics) + selectivity(binary.right(), statistics);
                sides.min(1.0)
            }
            _ => FILTER_SELECTIVITY,
        };
    }
    if let Some(list) = condition.downcast_ref::<InListExpr>() {
        let listed = (list.len() as f64 * one_value(list.expr(), statistics)).min(1.0);
        return if list.negated() { 1.0 - listed } else { listed };
    }
    match condition.downcast_ref::<LikeExpr>() {
        Some(like) if like.negated() => 1.0 - VALUE_SELECTIVITY,
        Some(_) => VALUE_SELECTIVITY,
        None => FILTER_SELECTIVITY,
    }
}

/// The part of rows in which an expression has one certain value.
fn one_value(expression: &Arc<dyn PhysicalExpr>, statistics: &Statistics) -> f64 {
    let column = expression.downcast_ref::<Column>();
    let statistics = column.and_then(|column| statistics.column_statistics.get(column.index()));
    statistics.and_then(distinct_values).map_or(VALUE_SELECTIVITY, f64::recip)
}

/// The part of rows in which a column is within the bounds that comparisons with constants leave, taking its values to be
/// spread evenly from the least to the greatest; `None` if these are not known, or are no numbers, dates or times.
pub(crate) fn within(column: &ColumnStatistics, comparisons: &[(Operator, ScalarValue)]) -> Option<f64> {
    let (least, greatest) = (number(column.min_value.get_value()?)?, number(column.max_value.get_value()?)?);
    let (mut low, mut high) = (least, greatest);
    for (operator, constant) in comparisons {
        let constant = number(constant)?;
        match operator {
            Operator::Gt | Operator::GtEq => low = low.max(constant),
            Operator::Lt | Operator::LtEq => high = high.min(constant),
            _ => return None,
        }
    }
    let width = greatest - least;
    (width > 0.0).then(|| ((high - low) / width).clamp(0.0, 1.0))
}

fn number(value: &ScalarValue) -> Option<f64> {
    let exact = match value.data_type() {
        data_type if data_type.is_numeric() => value.cast_to(&DataType::Float64),
        data_type if data_type.is_temporal() => value.cast_to(&DataType::Int64),
        _ => return None,
    };
    match exact.ok()? {
        ScalarValue::Float64(number) => number.filter(|number| number.is_finite()),
        ScalarValue::Int64(number) => number.map(|number| number as f64),
        _ => None,
    }
}

/// As many as are counted, or else as there are numbers between the least and the greatest.
pub(crate) fn distinct_values(column: &ColumnStatistics) -> Option<f64> {
    if let Some(distinct) = column.distinct_count.get_value() {
        return Some((*distinct as f64).max(1.0));
    }
    let whole = |value: &Precision<ScalarValue>| {
        let value = value.get_value()?.cast_to(&DataType::Int64).ok()?;
        let ScalarValue::Int64(Some(value)) = value else { return None };
        Some(value)
    };
    if !column.min_value.get_value()?.data_type().is_integer() {
        return None;
    }
    let range = whole(&column.max_value)?.checked_sub(whole(&column.min_value)?)?;
    Some((range as f64 + 1.0).max(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_values_are_counted_or_bounded_by_the_range() {
        let mut column = ColumnStatistics::new_unknown();
        assert_eq!(distinct_values(&column), None);
        column.min_value = Precision::Exact(ScalarValue::Int32(Some(-3)));
        column.max_value = Precision::Inexact(ScalarValue::Int32(Some(6)));
        assert_eq!(distinct_values(&column), Some(10.0));
        column.distinct_count = Precision::Inexact(4);
        assert_eq!(distinct_values(&column), Some(4.0));
        let text = ColumnStatistics {
            min_value: Precision::Exact(ScalarValue::from("a")),
            max_value: Precision::Exact(ScalarValue::from("z")),
            ..ColumnStatistics::new_unknown()
        };
        assert_eq!(distinct_values(&text), None);
        let whole = ColumnStatistics {
            min_value: Precision::Exact(ScalarValue::Int64(Some(i64::MIN))),
            max_value: Precision::Exact(ScalarValue::Int64(Some(i64::MAX))),
            ..ColumnStatistics::new_unknown()
        };
        assert_eq!(distinct_values(&whole), None);
    }

    #[test]
    fn ranges_are_taken_to_be_filled_evenly() {
        let column = |least: ScalarValue, greatest: ScalarValue| ColumnStatistics {
            min_value: Precision::Exact(least),
            max_value: Precision::Inexact(greatest),
            ..ColumnStatistics::new_unknown()
        };
        let cents = |cents| ScalarValue::Decimal128(Some(cents), 15, 2);
        let discount = column(cents(0), cents(10));
        assert_eq!(within(&discount, &[(Operator::GtEq, cents(5))]), Some(0.5));
        let days = column(ScalarValue::Date32(Some(1000)), ScalarValue::Date32(Some(2000)));
        let year = [(Operator::GtEq, ScalarValue::Date32(Some(1100))), (Operator::Lt, ScalarValue::Date32(Some(1350)))];
        assert_eq!(within(&days, &year), Some(0.25));
        assert_eq!(within(&days, &[(Operator::Gt, ScalarValue::Date32(Some(3000)))]), Some(0.0));
        assert_eq!(within(&days, &[(Operator::Gt, ScalarValue::Date32(None))]), None);
        assert_eq!(within(&ColumnStatistics::new_unknown(), &[]), None);
        let text = column(ScalarValue::from("a"), ScalarValue::from("z"));
        assert_eq!(within(&text, &[(Operator::Lt, ScalarValue::from("b"))]), None);
        let one = column(ScalarValue::from(7), ScalarValue::from(7));
        assert_eq!(within(&one, &[(Operator::Lt, ScalarValue::from(9))]), None);
    }
}
