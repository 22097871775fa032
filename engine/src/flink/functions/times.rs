//! Flink's functions of dates and times that DataFusion has otherwise or not at all. A session's zone is UTC.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, PrimitiveArray, StringArray, StringBuilder};
use arrow::datatypes::{
    DataType, Field, FieldRef, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType,
};
use chrono::{DateTime, NaiveDateTime};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use tereza_runtime::clock::Clock;

use super::Compiled;
use super::pattern::Pattern;
use crate::error::to_datafusion;

/// What texts of times look like where nothing else is said.
const USUAL: &str = "yyyy-MM-dd HH:mm:ss";
const MICROS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
const MILLIS: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

fn pattern(text: &str) -> Result<Pattern> {
    Pattern::new(text).map_err(to_datafusion)
}

/// `DATE_FORMAT(time, pattern)`: a TIMESTAMP, a DATE or a text of one, written by a pattern of Java's.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct DateFormat(Signature);

impl DateFormat {
    pub(super) fn new() -> Self {
        Self(Signature::user_defined(Volatility::Immutable))
    }
}

impl ScalarUDFImpl for DateFormat {
    fn name(&self) -> &str {
        "date_format"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [
                DataType::Timestamp(_, _)
                | DataType::Date32
                | DataType::Date64
                | DataType::Utf8
                | DataType::Utf8View
                | DataType::LargeUtf8
                | DataType::Null,
                _,
            ] => Ok(vec![MICROS, DataType::Utf8]),
            [other, _] => plan_err!("date_format: a value of type {other} is no time"),
            _ => plan_err!("date_format has two arguments: a time and a pattern"),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let [times, patterns] = arrays.as_slice() else { return exec_err!("date_format has two arguments") };
        let mut compiled = Compiled::new(pattern);
        let mut written = StringBuilder::new();
        let mut text = String::new();
        let times = times.as_primitive::<TimestampMicrosecondType>();
        for (time, pattern) in times.iter().zip(patterns.as_string::<i32>()) {
            match (time.and_then(DateTime::from_timestamp_micros), pattern) {
                (Some(time), Some(pattern)) => {
                    text.clear();
                    compiled.of(pattern)?.format(time.naive_utc(), &mut text);
                    written.append_value(&text);
                }
                _ => written.append_null(),
            }
        }
        Ok(ColumnarValue::Array(Arc::new(written.finish())))
    }
}

/// `TO_TIMESTAMP(text[, pattern])`: a TIMESTAMP(3); NULL for a text that is none.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ToTimestamp(Signature);

impl ToTimestamp {
    pub(super) fn new() -> Self {
        Self(text_and_pattern())
    }
}

impl ScalarUDFImpl for ToTimestamp {
    fn name(&self) -> &str {
        "to_timestamp"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(MILLIS)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let millis: PrimitiveArray<TimestampMillisecondType> =
            read(&arguments)?.into_iter().map(|time| Some(time?.and_utc().timestamp_millis())).collect();
        Ok(ColumnarValue::Array(Arc::new(millis)))
    }
}

/// `UNIX_TIMESTAMP(text[, pattern])`: seconds since 1970.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct UnixTimestamp(Signature);

impl UnixTimestamp {
    pub(super) fn new() -> Self {
        Self(text_and_pattern())
    }
}

impl ScalarUDFImpl for UnixTimestamp {
    fn name(&self) -> &str {
        "unix_timestamp"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let seconds: Int64Array = read(&arguments)?.into_iter().map(|time| Some(time?.and_utc().timestamp())).collect();
        Ok(ColumnarValue::Array(Arc::new(seconds)))
    }
}

/// `FROM_UNIXTIME(seconds[, pattern])`: the moment as a text.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct FromUnixTime(Signature);

impl FromUnixTime {
    pub(super) fn new() -> Self {
        let forms = vec![
            TypeSignature::Exact(vec![DataType::Int64]),
            TypeSignature::Exact(vec![DataType::Int64, DataType::Utf8]),
        ];
        Self(Signature::one_of(forms, Volatility::Immutable))
    }
}

impl ScalarUDFImpl for FromUnixTime {
    fn name(&self) -> &str {
        "from_unixtime"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let [seconds, patterns @ ..] = arrays.as_slice() else { return exec_err!("from_unixtime of nothing") };
        let mut compiled = Compiled::new(pattern);
        let mut written = StringBuilder::new();
        let mut text = String::new();
        for (row, seconds) in seconds.as_primitive::<Int64Type>().iter().enumerate() {
            match (seconds.and_then(|seconds| DateTime::from_timestamp(seconds, 0)), pattern_at(patterns, row)) {
                (Some(time), Some(pattern)) => {
                    text.clear();
                    compiled.of(pattern)?.format(time.naive_utc(), &mut text);
                    written.append_value(&text);
                }
                _ => written.append_null(),
            }
        }
        Ok(ColumnarValue::Array(Arc::new(written.finish())))
    }
}

/// `TO_TIMESTAMP_LTZ(number[, precision])`: seconds (precision 0) or milliseconds (3, the usual) since 1970.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ToTimestampLtz(Signature);

impl ToTimestampLtz {
    pub(super) fn new() -> Self {
        let forms = vec![
            TypeSignature::Exact(vec![DataType::Int64]),
            TypeSignature::Exact(vec![DataType::Int64, DataType::Int64]),
        ];
        Self(Signature::one_of(forms, Volatility::Immutable))
    }
}

impl ScalarUDFImpl for ToTimestampLtz {
    fn name(&self) -> &str {
        "to_timestamp_ltz"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())))
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let [numbers, precisions @ ..] = arrays.as_slice() else { return exec_err!("to_timestamp_ltz of nothing") };
        let precisions = precisions.first().map(|precisions| precisions.as_primitive::<Int64Type>());
        let mut millis = Vec::with_capacity(numbers.len());
        for (row, number) in numbers.as_primitive::<Int64Type>().iter().enumerate() {
            let precision = precisions.map_or(Some(3), |all| all.is_valid(row).then(|| all.value(row)));
            millis.push(match (number, precision) {
                (Some(number), Some(0)) => number.checked_mul(1_000),
                (Some(number), Some(3)) => Some(number),
                (_, Some(other)) if other != 0 && other != 3 => {
                    return exec_err!("to_timestamp_ltz: a precision of {other}; there are 0 and 3");
                }
                _ => None,
            });
        }
        let millis = PrimitiveArray::<TimestampMillisecondType>::from(millis).with_timezone("UTC");
        Ok(ColumnarValue::Array(Arc::new(millis)))
    }
}

/// `PROCTIME()`: the moment in which a row is worked on, the same for all rows of a batch.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ProcessingTime(Signature);

impl ProcessingTime {
    pub(super) fn new() -> Self {
        // Not the moment of planning: the expression of a stream's column outlives that by far.
        Self(Signature::nullary(Volatility::Volatile))
    }
}

impl ScalarUDFImpl for ProcessingTime {
    fn name(&self) -> &str {
        "proctime"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())))
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), self.return_type(&[])?, false)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let now_ms = Clock::system().unix_ms();
        Ok(ColumnarValue::Scalar(ScalarValue::TimestampMillisecond(Some(now_ms), Some("UTC".into()))))
    }
}

fn text_and_pattern() -> Signature {
    let forms =
        vec![TypeSignature::Exact(vec![DataType::Utf8]), TypeSignature::Exact(vec![DataType::Utf8, DataType::Utf8])];
    Signature::one_of(forms, Volatility::Immutable)
}

/// The pattern of a row, if there is a column of them; [`USUAL`] otherwise.
fn pattern_at(patterns: &[ArrayRef], row: usize) -> Option<&str> {
    let Some(patterns) = patterns.first() else { return Some(USUAL) };
    let patterns: &StringArray = patterns.as_string();
    patterns.is_valid(row).then(|| patterns.value(row))
}

/// Moments out of texts, by their patterns.
fn read(arguments: &ScalarFunctionArgs) -> Result<Vec<Option<NaiveDateTime>>> {
    let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
    let [texts, patterns @ ..] = arrays.as_slice() else { return exec_err!("a time out of nothing") };
    let mut compiled = Compiled::new(pattern);
    let mut moments = Vec::with_capacity(texts.len());
    for (row, text) in texts.as_string::<i32>().iter().enumerate() {
        moments.push(match (text, pattern_at(patterns, row)) {
            (Some(text), Some(USUAL)) => usual(text),
            (Some(text), Some(pattern)) => compiled.of(pattern)?.parse(text),
            _ => None,
        });
    }
    Ok(moments)
}

/// A time as texts have it where no pattern is given: a date alone, and fractions of a second, are taken too.
fn usual(text: &str) -> Option<NaiveDateTime> {
    let moment = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f");
    moment.or_else(|_| NaiveDateTime::parse_from_str(&format!("{text} 00:00:00"), "%Y-%m-%d %H:%M:%S")).ok()
}
