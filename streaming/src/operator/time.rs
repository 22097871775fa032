//! Event times of rows.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, TimestampMillisecondArray};
use arrow::datatypes::{
    DataType, Field, TimeUnit, TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType,
    TimestampSecondType,
};
use tereza_runtime::error::{Error, Result};

/// Times this far from 1970, in ms, are refused, so that sums of a time and a few widths of windows never overflow. It is
/// about two million years.
pub(crate) const TIME_MS_MAX: i64 = 1 << 56;

/// Refuses a column that holds no times.
pub(crate) fn check_time(field: &Field) -> Result<()> {
    match field.data_type() {
        DataType::Timestamp(..) => Ok(()),
        other => {
            Err(Error::invalid_input(format!("column {} has type {other}, an event time is a timestamp", field.name())))
        }
    }
}

/// The times of a column in ms, rounded down; NULL is refused.
pub(crate) fn event_times(column: &ArrayRef, name: &str) -> Result<Vec<i64>> {
    let times = times(column, name)?;
    times
        .into_iter()
        .map(|time| time.ok_or_else(|| Error::invalid_input(format!("the event time {name} of a row is NULL"))))
        .collect()
}

/// The times of a column in ms, rounded down.
pub(crate) fn times(column: &ArrayRef, name: &str) -> Result<Vec<Option<i64>>> {
    macro_rules! floor {
        ($type:ty, $per_ms:expr) => {
            column.as_primitive::<$type>().iter().map(|time| time.map(|time| time.div_euclid($per_ms))).collect()
        };
    }
    let times: Vec<Option<i64>> = match column.data_type() {
        DataType::Timestamp(TimeUnit::Second, _) => column
            .as_primitive::<TimestampSecondType>()
            .iter()
            .map(|time| time.map(|time| time.saturating_mul(1000)))
            .collect(),
        DataType::Timestamp(TimeUnit::Millisecond, _) => floor!(TimestampMillisecondType, 1),
        DataType::Timestamp(TimeUnit::Microsecond, _) => floor!(TimestampMicrosecondType, 1000),
        DataType::Timestamp(TimeUnit::Nanosecond, _) => floor!(TimestampNanosecondType, 1_000_000),
        other => return Err(Error::internal(format!("column {name} has type {other}, not a timestamp"))),
    };
    match times.iter().flatten().find(|time| !(-TIME_MS_MAX..=TIME_MS_MAX).contains(*time)) {
        Some(time) => Err(Error::invalid_input(format!("the event time {name} of a row is {time} ms, out of range"))),
        None => Ok(times),
    }
}

/// `window_start`, `window_end` and `window_time`, as Flink names and types them.
pub(crate) fn window_fields() -> [Field; 3] {
    let timestamp = DataType::Timestamp(TimeUnit::Millisecond, None);
    ["window_start", "window_end", "window_time"].map(|name| Field::new(name, timestamp.clone(), false))
}

/// The columns of [`window_fields`] for windows given as start and end in ms; `window_time` is the last ms in it.
pub(crate) fn window_columns(windows: &[(i64, i64)]) -> [ArrayRef; 3] {
    let column = |of: fn(&(i64, i64)) -> i64| -> ArrayRef {
        Arc::new(TimestampMillisecondArray::from_iter_values(windows.iter().map(of)))
    };
    [column(|(start, _)| *start), column(|(_, end)| *end), column(|(_, end)| end - 1)]
}
