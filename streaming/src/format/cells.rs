//! The values of an array as writers see them: looked at once a batch, not once a value.

use arrow::array::cast::AsArray;
use arrow::array::{Array, BinaryArray, BooleanArray, RecordBatch, StringArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    SchemaRef, Time32MillisecondType, Time32SecondType, Time64MicrosecondType, Time64NanosecondType, TimeUnit,
    TimestampMicrosecondType, TimestampMillisecondType, TimestampNanosecondType, TimestampSecondType,
};
use tereza_runtime::{Error, Result};

/// An array with its NULLs.
#[derive(Debug)]
pub(super) struct Cells<'a> {
    nulls: Option<&'a NullBuffer>,
    pub(super) values: Values<'a>,
}

/// Values by their kinds. Those of lists and maps are all the entries of all rows; ends say which are whose.
#[derive(Debug)]
pub(super) enum Values<'a> {
    Bool(&'a BooleanArray),
    I8(&'a [i8]),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
    Date(&'a [i32]),
    Time32(&'a [i32], TimeUnit),
    Time64(&'a [i64], TimeUnit),
    Timestamp { values: &'a [i64], unit: TimeUnit, is_zoned: bool },
    Decimal { values: &'a [i128], scale: i8 },
    List { ends: &'a [i32], item: Box<Cells<'a>> },
    Map { ends: &'a [i32], key: Box<Cells<'a>>, value: Box<Cells<'a>> },
    Struct(Vec<Cells<'a>>),
}

impl<'a> Cells<'a> {
    /// The values of an array. Errors: `Unsupported` names its type.
    pub(super) fn new(array: &'a dyn Array) -> Result<Self> {
        let values = match array.data_type() {
            DataType::Boolean => Values::Bool(array.as_boolean()),
            DataType::Int8 => Values::I8(array.as_primitive::<Int8Type>().values()),
            DataType::Int16 => Values::I16(array.as_primitive::<Int16Type>().values()),
            DataType::Int32 => Values::I32(array.as_primitive::<Int32Type>().values()),
            DataType::Int64 => Values::I64(array.as_primitive::<Int64Type>().values()),
            DataType::Float32 => Values::F32(array.as_primitive::<Float32Type>().values()),
            DataType::Float64 => Values::F64(array.as_primitive::<Float64Type>().values()),
            DataType::Utf8 => Values::Text(array.as_string::<i32>()),
            DataType::Binary => Values::Bytes(array.as_binary::<i32>()),
            DataType::Date32 => Values::Date(array.as_primitive::<Date32Type>().values()),
            DataType::Time32(TimeUnit::Second) => {
                Values::Time32(array.as_primitive::<Time32SecondType>().values(), TimeUnit::Second)
            }
            DataType::Time32(unit) => Values::Time32(array.as_primitive::<Time32MillisecondType>().values(), *unit),
            DataType::Time64(TimeUnit::Nanosecond) => {
                Values::Time64(array.as_primitive::<Time64NanosecondType>().values(), TimeUnit::Nanosecond)
            }
            DataType::Time64(unit) => Values::Time64(array.as_primitive::<Time64MicrosecondType>().values(), *unit),
            DataType::Timestamp(unit, zone) => {
                let values = match unit {
                    TimeUnit::Second => array.as_primitive::<TimestampSecondType>().values(),
                    TimeUnit::Millisecond => array.as_primitive::<TimestampMillisecondType>().values(),
                    TimeUnit::Microsecond => array.as_primitive::<TimestampMicrosecondType>().values(),
                    TimeUnit::Nanosecond => array.as_primitive::<TimestampNanosecondType>().values(),
                };
                Values::Timestamp { values, unit: *unit, is_zoned: zone.is_some() }
            }
            DataType::Decimal128(_, scale) if *scale >= 0 => {
                Values::Decimal { values: array.as_primitive::<Decimal128Type>().values(), scale: *scale }
            }
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                Values::List { ends: list.value_offsets(), item: Box::new(Self::new(list.values().as_ref())?) }
            }
            DataType::Map(..) => {
                let map = array.as_map();
                let (key, value) = (Self::new(map.keys().as_ref())?, Self::new(map.values().as_ref())?);
                Values::Map { ends: map.value_offsets(), key: Box::new(key), value: Box::new(value) }
            }
            DataType::Struct(_) => {
                let columns = array.as_struct().columns().iter();
                Values::Struct(columns.map(|column| Self::new(column.as_ref())).collect::<Result<_>>()?)
            }
            other => return Err(Error::unsupported(format!("messages with columns of type {other}"))),
        };
        Ok(Self { nulls: array.nulls(), values })
    }

    pub(super) fn is_null(&self, row: usize) -> bool {
        self.nulls.is_some_and(|nulls| nulls.is_null(row))
    }
}

/// Adds what `write` makes of each row to `out`, and where it ends to `ends`.
pub(super) fn write_rows(
    batch: &RecordBatch,
    out: &mut Vec<u8>,
    ends: &mut Vec<Option<usize>>,
    mut write: impl FnMut(&[Cells<'_>], usize, &mut Vec<u8>) -> Result<()>,
) -> Result<()> {
    let cells = batch.columns().iter().map(|column| Cells::new(column.as_ref())).collect::<Result<Vec<_>>>()?;
    for row in 0..batch.num_rows() {
        write(&cells, row, out)?;
        ends.push(Some(out.len()));
    }
    Ok(())
}

/// The entries of a row of a list or map, by the ends of all rows.
pub(super) fn entries(ends: &[i32], row: usize) -> std::ops::Range<usize> {
    let at = |row: usize| usize::try_from(ends[row]).unwrap_or_default();
    at(row)..at(row + 1)
}

/// The batch with the types that the table has. Errors: `InvalidInput` names a column that cannot be brought to its type.
pub(super) fn to_schema(batch: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    if batch.num_columns() != schema.fields().len() {
        let (given, wanted) = (batch.num_columns(), schema.fields().len());
        return Err(Error::invalid_input(format!("a batch of {given} columns for a table of {wanted}")));
    }
    let column = |(array, field): (&arrow::array::ArrayRef, &arrow::datatypes::FieldRef)| {
        if array.data_type() == field.data_type() {
            return Ok(std::sync::Arc::clone(array));
        }
        cast(array, field.data_type())
            .map_err(|error| Error::invalid_input(format!("column `{}`: {error}", field.name())).with_source(error))
    };
    let columns = batch.columns().iter().zip(schema.fields()).map(column).collect::<Result<Vec<_>>>()?;
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(std::sync::Arc::clone(schema), columns, &options)
        .map_err(|error| Error::invalid_input(error.to_string()).with_source(error))
}
