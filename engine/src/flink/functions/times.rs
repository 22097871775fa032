//! Flink's functions of dates and times that DataFusion has otherwise or not at all. A session's zone is UTC.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, PrimitiveArray, StringBuilder};
use arrow::datatypes::DataType::{self, Int64, Utf8};
use arrow::datatypes::{Field, FieldRef, Int64Type, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType};
use chrono::{DateTime, NaiveDateTime, Utc};
use datafusion::common::{Result, ScalarValue, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};
use tereza_runtime::clock::Clock;

use super::Compiled;
use super::function::{coercing, function, number_at, text_at};
use super::pattern::Pattern;
use crate::error::to_datafusion;

/// What texts of times look like where nothing else is said.
const USUAL: &str = "yyyy-MM-dd HH:mm:ss";
const MICROS: DataType = DataType::Timestamp(TimeUnit::Microsecond, None);
const MILLIS: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

pub(super) fn functions() -> [ScalarUDF; 6] {
    let text_and_pattern: [&[DataType]; 2] = [&[Utf8], &[Utf8, Utf8]];
    [
        coercing("date_format", time_and_pattern, Utf8, date_format),
        function("to_timestamp", &text_and_pattern, MILLIS, to_timestamp),
        function("to_timestamp_ltz", &[&[Int64], &[Int64, Int64]], zoned(), to_timestamp_ltz),
        function("unix_timestamp", &text_and_pattern, Int64, unix_timestamp),
        function("from_unixtime", &[&[Int64], &[Int64, Utf8]], Utf8, from_unixtime),
        ScalarUDF::from(ProcessingTime::new()),
    ]
}

/// As Flink's times of the session's zone are.
fn zoned() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

fn pattern(text: &str) -> Result<Pattern> {
    Pattern::new(text).map_err(to_datafusion)
}

fn time_and_pattern(types: &[DataType]) -> Result<Vec<DataType>> {
    match types {
        [
            DataType::Timestamp(_, _)
            | DataType::Date32
            | DataType::Date64
            | Utf8
            | DataType::Utf8View
            | DataType::LargeUtf8
            | DataType::Null,
            _,
        ] => Ok(vec![MICROS, Utf8]),
        [other, _] => plan_err!("date_format: a value of type {other} is no time"),
        _ => plan_err!("date_format has two arguments: a time and a pattern"),
    }
}

/// `DATE_FORMAT(time, pattern)`: a TIMESTAMP, a DATE or a text of one, written by a pattern of Java's.
fn date_format(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let [times, patterns @ ..] = arguments else { return exec_err!("date_format has two arguments") };
    let times = times.as_primitive::<TimestampMicrosecondType>();
    written(times.iter().map(|time| time.and_then(DateTime::from_timestamp_micros)), patterns)
}

/// `FROM_UNIXTIME(seconds[, pattern])`: the moment as a text.
fn from_unixtime(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let [seconds, patterns @ ..] = arguments else { return exec_err!("from_unixtime of nothing") };
    let seconds = seconds.as_primitive::<Int64Type>();
    written(seconds.iter().map(|seconds| DateTime::from_timestamp(seconds?, 0)), patterns)
}

/// Moments to texts, by their patterns.
fn written(moments: impl Iterator<Item = Option<DateTime<Utc>>>, patterns: &[ArrayRef]) -> Result<ArrayRef> {
    let mut compiled = Compiled::new(pattern);
    let mut written = StringBuilder::new();
    let mut text = String::new();
    for (row, moment) in moments.enumerate() {
        match (moment, text_at(patterns, row, USUAL)) {
            (Some(moment), Some(pattern)) => {
                text.clear();
                compiled.of(pattern)?.format(moment.naive_utc(), &mut text);
                written.append_value(&text);
            }
            _ => written.append_null(),
        }
    }
    Ok(Arc::new(written.finish()))
}

/// `TO_TIMESTAMP(text[, pattern])`: a TIMESTAMP(3); NULL for a text that is none.
fn to_timestamp(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let moments = read(arguments)?.into_iter();
    let millis = moments.map(|moment| Some(moment?.and_utc().timestamp_millis()));
    Ok(Arc::new(millis.collect::<PrimitiveArray<TimestampMillisecondType>>()))
}

/// `UNIX_TIMESTAMP(text[, pattern])`: seconds since 1970.
fn unix_timestamp(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let moments = read(arguments)?.into_iter();
    Ok(Arc::new(moments.map(|moment| Some(moment?.and_utc().timestamp())).collect::<Int64Array>()))
}

/// Moments out of texts, by their patterns.
fn read(arguments: &[ArrayRef]) -> Result<Vec<Option<NaiveDateTime>>> {
    let [texts, patterns @ ..] = arguments else { return exec_err!("a time out of nothing") };
    let mut compiled = Compiled::new(pattern);
    let mut moments = Vec::with_capacity(texts.len());
    for (row, text) in texts.as_string::<i32>().iter().enumerate() {
        moments.push(match (text, text_at(patterns, row, USUAL)) {
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

/// `TO_TIMESTAMP_LTZ(number[, precision])`: seconds (precision 0) or milliseconds (3, the usual) since 1970.
fn to_timestamp_ltz(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let [numbers, precisions @ ..] = arguments else { return exec_err!("to_timestamp_ltz of nothing") };
    let mut millis = Vec::with_capacity(numbers.len());
    for (row, number) in numbers.as_primitive::<Int64Type>().iter().enumerate() {
        millis.push(match (number, number_at(precisions, row, 3)) {
            (Some(number), Some(0)) => number.checked_mul(1_000),
            (Some(number), Some(3)) => Some(number),
            (_, Some(other)) if other != 0 && other != 3 => {
                return exec_err!("to_timestamp_ltz: a precision of {other}; there are 0 and 3");
            }
            _ => None,
        });
    }
    Ok(Arc::new(PrimitiveArray::<TimestampMillisecondType>::from(millis).with_timezone("UTC")))
}

/// `PROCTIME()`: the moment in which a row is worked on, the same for all rows of a batch.
#[derive(Debug, PartialEq, Eq, Hash)]
struct ProcessingTime(Signature);

impl ProcessingTime {
    fn new() -> Self {
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
        Ok(zoned())
    }

    fn return_field_from_args(&self, _: ReturnFieldArgs<'_>) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(self.name(), self.return_type(&[])?, false)))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let now_ms = Clock::system().unix_ms();
        Ok(ColumnarValue::Scalar(ScalarValue::TimestampMillisecond(Some(now_ms), Some("UTC".into()))))
    }
}
