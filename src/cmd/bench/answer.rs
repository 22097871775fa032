//! Answers of engines as text with the kind of each column, and whether two of them are the same.
//!
//! Engines differ in the types of computed columns: the mean of decimals is a float here and a decimal there. So numbers
//! are compared as numbers: exactly where both sides are exact, else within a relative tolerance.

use std::cmp::Ordering;

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, Schema};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use serde::{Deserialize, Serialize};

/// Relative tolerance between floats: engines add in different orders.
const FLOAT_TOLERANCE: f64 = 1e-9;
/// Relative tolerance between a float and a decimal: a quotient of decimals has only so many digits where it stays a
/// decimal, and what is computed of them multiplies the loss. One of six places that is close to 1 has lost up to 1e-6.
const QUOTIENT_TOLERANCE: f64 = 2e-6;
/// Decimal places that a quotient of decimals has at least: DataFusion gives it four more than the dividend.
const QUOTIENT_PLACES: i32 = 4;

/// All rows of a result.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// One for each column.
    pub(crate) kinds: Vec<Kind>,
    /// Rows in order; `None` is NULL.
    pub(crate) rows: Vec<Vec<Option<String>>>,
}

/// What the text of a column's values means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Digits.
    Int,
    /// Digits with a fraction; exact.
    Decimal,
    /// As Rust and Python read it.
    Float,
    /// `true` or `false`; also the kind of columns without a type, which have no values.
    Bool,
    /// `YYYY-MM-DD`.
    Date,
    /// ISO 8601.
    Timestamp,
    /// Anything.
    Text,
}

impl Answer {
    /// The answer that a result's batches are.
    pub(crate) fn of(schema: &Schema, batches: &[RecordBatch]) -> Result<Self, ArrowError> {
        let kinds = schema.fields().iter().map(|field| Kind::of(field.data_type())).collect::<Result<_, _>>()?;
        let mut rows = Vec::with_capacity(batches.iter().map(RecordBatch::num_rows).sum());
        for batch in batches {
            let options = FormatOptions::default();
            let columns = batch
                .columns()
                .iter()
                .map(|column| Ok((column, ArrayFormatter::try_new(column.as_ref(), &options)?)))
                .collect::<Result<Vec<_>, ArrowError>>()?;
            for row in 0..batch.num_rows() {
                let cell = |(column, formatter): &(&_, ArrayFormatter<'_>)| {
                    let column: &dyn Array = column;
                    column.is_valid(row).then(|| formatter.value(row).to_string())
                };
                rows.push(columns.iter().map(cell).collect());
            }
        }
        Ok(Self { kinds, rows })
    }

    /// What differs between this answer and the right one, whatever the order of rows; `None` if nothing does.
    ///
    /// Order is left out because the queries of TPC-H and TPC-DS order by columns with ties.
    pub(crate) fn difference(&self, right: &Self) -> Option<String> {
        if self.kinds.len() != right.kinds.len() {
            return Some(format!("{} columns, not {}", self.kinds.len(), right.kinds.len()));
        }
        if self.rows.len() != right.rows.len() {
            return Some(format!("{} rows, not {}", self.rows.len(), right.rows.len()));
        }
        let floats: Vec<bool> =
            self.kinds.iter().zip(&right.kinds).map(|(a, b)| *a == Kind::Float || *b == Kind::Float).collect();
        for (row, right_row) in self.sorted(&floats).into_iter().zip(right.sorted(&floats)) {
            for column in 0..floats.len() {
                let (value, right_value) = (row[column].as_deref(), right_row[column].as_deref());
                if !same(self.kinds[column], value, right.kinds[column], right_value) {
                    let text = |row: &[Option<String>]| {
                        row.iter().map(|cell| cell.as_deref().unwrap_or("NULL")).collect::<Vec<_>>().join("|")
                    };
                    return Some(format!("column {}: {}, not {}", column + 1, text(row), text(right_row)));
                }
            }
        }
        None
    }

    /// The rows in an order that both sides of a comparison share: exact columns first, since floats may differ a little.
    fn sorted(&self, floats: &[bool]) -> Vec<&[Option<String>]> {
        let key = |row: &[Option<String>]| {
            let mut exact = Vec::with_capacity(row.len());
            let mut inexact = Vec::new();
            for (column, cell) in row.iter().enumerate() {
                match (cell, floats[column]) {
                    (cell, true) => inexact.push(cell.as_ref().map(|text| text.parse::<f64>().unwrap_or(f64::NAN))),
                    (Some(text), false) => exact.push(Some(canonical(self.kinds[column], text))),
                    (None, false) => exact.push(None),
                }
            }
            (exact, inexact)
        };
        let mut rows: Vec<_> = self.rows.iter().map(|row| (key(row), row.as_slice())).collect();
        rows.sort_by(|((exact_a, inexact_a), _), ((exact_b, inexact_b), _)| {
            exact_a.cmp(exact_b).then_with(|| inexact_a.partial_cmp(inexact_b).unwrap_or(Ordering::Equal))
        });
        rows.into_iter().map(|(_, row)| row).collect()
    }
}

impl Kind {
    fn of(data_type: &DataType) -> Result<Self, ArrowError> {
        Ok(match data_type {
            data_type if data_type.is_integer() => Self::Int,
            DataType::Float16 | DataType::Float32 | DataType::Float64 => Self::Float,
            data_type if data_type.is_decimal() => Self::Decimal,
            DataType::Boolean | DataType::Null => Self::Bool,
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Timestamp(_, _) => Self::Timestamp,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Self::Text,
            other => return Err(ArrowError::NotYetImplemented(format!("answers with a column of type {other}"))),
        })
    }

    fn is_exact_number(self) -> bool {
        matches!(self, Self::Int | Self::Decimal)
    }
}

fn same(kind: Kind, value: Option<&str>, right_kind: Kind, right: Option<&str>) -> bool {
    let (Some(value), Some(right)) = (value, right) else { return value.is_none() && right.is_none() };
    if kind != Kind::Float && right_kind != Kind::Float {
        return canonical(kind, value) == canonical(right_kind, right);
    }
    let (Ok(number), Ok(right_number)) = (value.parse::<f64>(), right.parse::<f64>()) else { return value == right };
    let has_decimal = kind == Kind::Decimal || right_kind == Kind::Decimal;
    let tolerance = if has_decimal { QUOTIENT_TOLERANCE } else { FLOAT_TOLERANCE };
    let difference = (number - right_number).abs();
    let last_place = last_place(kind, value).max(last_place(right_kind, right));
    let is_near = difference <= (tolerance * number.abs().max(right_number.abs())).max(last_place);
    is_near || number == right_number || (number.is_nan() && right_number.is_nan())
}

/// One unit in the last place of a decimal quotient, which DataFusion cuts off there and does not round; 0 for a decimal
/// with fewer places, which is no quotient, and for other kinds.
fn last_place(kind: Kind, text: &str) -> f64 {
    let places = text.split_once('.').map_or(0, |(_, fraction)| fraction.len());
    match i32::try_from(places) {
        Ok(places) if kind == Kind::Decimal && places >= QUOTIENT_PLACES => 10f64.powi(-places),
        _ => 0.0,
    }
}

/// A text that is the same for the same value, however exact its type.
fn canonical(kind: Kind, text: &str) -> String {
    match kind {
        Kind::Timestamp => text.strip_suffix("T00:00:00").unwrap_or(text).to_owned(),
        kind if kind.is_exact_number() => {
            let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
            let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
            let (whole, fraction) = (whole.trim_start_matches('0'), fraction.trim_end_matches('0'));
            match (whole, fraction) {
                ("", "") => "0".to_owned(),
                (whole, "") => format!("{sign}{whole}"),
                (whole, fraction) => format!("{sign}{whole}.{fraction}"),
            }
        }
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(kinds: &[Kind], rows: &[&[Option<&str>]]) -> Answer {
        let rows = rows.iter().map(|row| row.iter().map(|cell| cell.map(str::to_owned)).collect()).collect();
        Answer { kinds: kinds.to_vec(), rows }
    }

    #[test]
    fn order_does_not_matter_and_values_do() {
        let right = answer(&[Kind::Int, Kind::Text], &[&[Some("1"), Some("a")], &[Some("2"), None]]);
        let turned = answer(&[Kind::Int, Kind::Text], &[&[Some("2"), None], &[Some("1"), Some("a")]]);
        let wrong = answer(&[Kind::Int, Kind::Text], &[&[Some("2"), Some("")], &[Some("1"), Some("a")]]);
        assert_eq!(turned.difference(&right), None);
        assert!(wrong.difference(&right).is_some());
    }

    #[test]
    fn a_row_twice_is_not_two_rows() {
        let right = answer(&[Kind::Int], &[&[Some("1")], &[Some("2")], &[Some("2")]]);
        let wrong = answer(&[Kind::Int], &[&[Some("1")], &[Some("1")], &[Some("2")]]);
        assert!(wrong.difference(&right).is_some());
        assert!(answer(&[Kind::Int], &[&[Some("1")]]).difference(&right).is_some());
    }

    #[test]
    fn exact_numbers_are_exact_and_floats_are_near() {
        let pair = |kind, value, right_kind, right| same(kind, Some(value), right_kind, Some(right));
        assert!(pair(Kind::Decimal, "1.20", Kind::Decimal, "1.2"));
        assert!(pair(Kind::Decimal, "-0.00", Kind::Int, "0"));
        assert!(!pair(Kind::Decimal, "12345678901234567.01", Kind::Decimal, "12345678901234567.02"));
        assert!(pair(Kind::Float, "0.1", Kind::Float, "0.10000000000000002"));
        assert!(!pair(Kind::Float, "1.000001", Kind::Float, "1"));
        assert!(pair(Kind::Decimal, "5.793963", Kind::Float, "5.793964534198143"));
        assert!(!pair(Kind::Decimal, "5.79", Kind::Float, "5.793964534198143"));
        assert!(pair(Kind::Decimal, "22.6666", Kind::Float, "22.666666666666668"));
        assert!(!pair(Kind::Decimal, "22.6665", Kind::Float, "22.666666666666668"));
        assert!(pair(Kind::Decimal, "95.332900", Kind::Float, "95.33299712"));
        assert!(!pair(Kind::Decimal, "95.332700", Kind::Float, "95.33299712"));
        assert!(pair(Kind::Decimal, "0.050144", Kind::Float, "0.05014459706340077"));
        assert!(!pair(Kind::Decimal, "0.050143", Kind::Float, "0.05014459706340077"));
        assert!(pair(Kind::Date, "2000-01-01", Kind::Timestamp, "2000-01-01T00:00:00"));
        assert!(!same(Kind::Int, None, Kind::Int, Some("0")));
    }

    #[test]
    fn floats_that_differ_a_little_do_not_disturb_the_order() {
        let kinds = [Kind::Float, Kind::Int];
        let right = answer(&kinds, &[&[Some("0.3"), Some("1")], &[Some("0.30000000000000004"), Some("2")]]);
        let near = answer(&kinds, &[&[Some("0.30000000000000004"), Some("1")], &[Some("0.3"), Some("2")]]);
        assert_eq!(near.difference(&right), None);
    }
}
