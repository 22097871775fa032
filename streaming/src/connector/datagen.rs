//! `datagen`: rows that are made by Flink's rules, column by column.
//!
//! A value is a function of the job's origin, the table's name, the column's place and the row's number: a task that begins
//! again at a number makes the rows that it made before. Row n is due n / `rows-per-second` after the origin, and that is the
//! time which columns of times count from. Random texts and bytes are not those of Flink.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float64Array, Int64Array, RecordBatch,
    StringArray, Time32MillisecondArray,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit};
use tereza_engine::flink::{ColumnKind, FlinkType, LENGTH_MAX, StreamColumn, StreamTable, TypeRoot};
use tereza_runtime::{Error, Result};

use super::given::Given;
use crate::nexmark::{Random, mix};
use crate::operator::failed;

const RATE: &str = "rows-per-second";
const ROWS: &str = "number-of-rows";
const FIELDS: &str = "fields.";
/// What is said of a column, after `fields.NAME.`.
const OF_FIELD: [&str; 9] = ["kind", "min", "max", "length", "start", "end", "null-rate", "max-past", "var-len"];
const RATE_DEFAULT: u64 = 10_000;
/// Of texts and bytes whose type says none.
const LENGTH_DEFAULT: u32 = 100;
/// The most characters or bytes of a value that is made.
const VALUE_MAX: u32 = 1 << 20;
/// Bytes of texts in one batch, about.
const BATCH_BYTES: u64 = 16 << 20;
const DAY_MS: i64 = 86_400_000;

/// Makes the rows of a table.
#[derive(Debug, Clone)]
pub(crate) struct Datagen {
    rate: u64,
    /// How many rows there are; `u64::MAX` if there is no end.
    rows: u64,
    origin_ms: i64,
    schema: SchemaRef,
    columns: Vec<Column>,
}

/// Makes the values of a column.
#[derive(Debug, Clone)]
struct Column {
    seed: u64,
    /// Of as many values as this, from 0 to 1, one is NULL.
    null_rate: f64,
    make: Make,
}

#[derive(Debug, Clone, PartialEq)]
enum Make {
    /// The row's number after a first value.
    Sequence(i64),
    Flag,
    Whole(RangeInclusive<i64>),
    Real(RangeInclusive<f64>),
    /// Unscaled.
    Decimal(RangeInclusive<i128>),
    /// Characters or bytes: at least one, if the length is not always the same.
    Long {
        length: u32,
        is_variable: bool,
    },
    /// When the row is due, or earlier by at most so many milliseconds.
    Time(u64),
}

impl Datagen {
    /// The rows of a table whose time counts from `origin_ms`, milliseconds since 1970. `schema` are its columns that are not
    /// computed.
    ///
    /// # Errors
    /// `InvalidInput` names an option that there is not, or a value that it cannot have; `Unsupported` a type.
    pub(super) fn new(table: &str, definition: &StreamTable, schema: SchemaRef, origin_ms: i64) -> Result<Self> {
        let given = Given { connector: "datagen", options: &definition.options };
        let is_stored = |column: &&StreamColumn| !matches!(column.kind, ColumnKind::Computed { .. });
        let stored: Vec<&StreamColumn> = definition.columns.iter().filter(is_stored).collect();
        let names: Vec<&str> = stored.iter().map(|column| column.name.as_str()).collect();
        check_names(given, &names)?;
        let rate = given.number(RATE, &(1..=i64::MAX))?.map_or(RATE_DEFAULT, i64::unsigned_abs);
        let mut rows = given.number(ROWS, &(0..=i64::MAX))?.map_or(u64::MAX, i64::unsigned_abs);
        let origin = mix(origin_ms.cast_unsigned());
        let of_table = table.bytes().fold(origin, |seed, byte| mix(seed ^ u64::from(byte)));
        let mut columns = Vec::new();
        for (at, column) in stored.iter().enumerate() {
            let ColumnKind::Physical { data_type } = &column.kind else {
                return Err(Error::invalid_input(format!(
                    "column '{}': connector 'datagen' has no metadata",
                    column.name
                )));
            };
            let of = Field { given, name: &column.name, data_type };
            let (null_rate, make, count) = of.make()?;
            rows = rows.min(count);
            columns.push(Column { seed: mix(of_table.wrapping_add(at as u64)), null_rate, make });
        }
        Ok(Self { rate, rows, origin_ms, schema, columns })
    }

    /// The numbers of all rows.
    pub(super) fn numbers(&self) -> Range<u64> {
        0..self.rows
    }

    /// When a row is due, in milliseconds since 1970.
    pub(super) fn time_ms(&self, number: u64) -> i64 {
        let since = u128::from(number) * 1_000 / u128::from(self.rate);
        self.origin_ms.saturating_add(i64::try_from(since).unwrap_or(i64::MAX))
    }

    /// How many rows a batch may have.
    pub(super) fn batch_rows(&self) -> u64 {
        let bytes = self.columns.iter().map(|column| match column.make {
            Make::Long { length, .. } => u64::from(length),
            _ => 0,
        });
        (BATCH_BYTES / bytes.sum::<u64>().max(1)).max(1)
    }

    /// The rows with the numbers of a range, in their order.
    pub(super) fn batch(&self, numbers: Range<u64>) -> Result<RecordBatch> {
        let columns = self.columns.iter().zip(self.schema.fields());
        let columns = columns.map(|(column, field)| self.column(column, field.data_type(), numbers.clone()));
        RecordBatch::try_new(Arc::clone(&self.schema), columns.collect::<Result<Vec<_>>>()?).map_err(failed)
    }

    fn column(&self, column: &Column, data_type: &DataType, numbers: Range<u64>) -> Result<ArrayRef> {
        // The number of each row, and what is drawn for it; none is NULL.
        let rows = numbers.map(|number| {
            let mut random = Random::of(column.seed, number);
            let is_null = column.null_rate > 0.0 && random.unit() < column.null_rate;
            (!is_null).then_some((number, random))
        });
        let array: ArrayRef = match &column.make {
            Make::Sequence(first) => {
                let rows = rows.map(|row| row.map(|(number, _)| first.wrapping_add_unsigned(number)));
                Arc::new(rows.collect::<Int64Array>())
            }
            Make::Flag => {
                Arc::new(rows.map(|row| row.map(|(_, mut random)| random.next() & 1 == 1)).collect::<BooleanArray>())
            }
            Make::Whole(range) => {
                let rows = rows.map(|row| row.map(|(_, mut random)| whole(&mut random, range)));
                Arc::new(rows.collect::<Int64Array>())
            }
            Make::Real(range) => {
                let rows = rows.map(|row| row.map(|(_, mut random)| real(random.unit(), range)));
                Arc::new(rows.collect::<Float64Array>())
            }
            Make::Decimal(range) => {
                let rows = rows.map(|row| row.map(|(_, mut random)| decimal(&mut random, range)));
                let DataType::Decimal128(precision, scale) = data_type else {
                    return Err(Error::internal(format!("decimals for a column of type {data_type}")));
                };
                let rows = rows.collect::<Decimal128Array>().with_precision_and_scale(*precision, *scale);
                Arc::new(rows.map_err(failed)?)
            }
            Make::Long { length, is_variable } => {
                let length = |random: &mut Random| match is_variable {
                    true => 1 + random.below(u64::from(*length)),
                    false => u64::from(*length),
                };
                let values = rows.map(|row| {
                    row.map(|(_, mut random)| {
                        let length = length(&mut random);
                        bytes(&mut random, length, *data_type == DataType::Utf8)
                    })
                });
                match data_type {
                    DataType::Utf8 => {
                        let texts = values
                            .map(|value| value.map(|bytes| bytes.iter().copied().map(char::from).collect::<String>()));
                        Arc::new(texts.collect::<StringArray>())
                    }
                    _ => Arc::new(values.collect::<BinaryArray>()),
                }
            }
            Make::Time(past_ms) => {
                let times = rows.map(|row| {
                    row.map(|(number, mut random)| {
                        let past_ms = random.below(past_ms.saturating_add(1));
                        self.time_ms(number).saturating_sub_unsigned(past_ms)
                    })
                });
                match data_type {
                    DataType::Date32 => {
                        let days = |ms: i64| i32::try_from(ms.div_euclid(DAY_MS)).unwrap_or(i32::MAX);
                        Arc::new(times.map(|time| time.map(days)).collect::<Date32Array>())
                    }
                    DataType::Time32(_) => {
                        let of_day = |ms: i64| i32::try_from(ms.rem_euclid(DAY_MS)).unwrap_or_default();
                        Arc::new(times.map(|time| time.map(of_day)).collect::<Time32MillisecondArray>())
                    }
                    DataType::Timestamp(unit, _) => {
                        let factor = match unit {
                            TimeUnit::Microsecond => 1_000,
                            TimeUnit::Nanosecond => 1_000_000,
                            _ => 1,
                        };
                        let times = times.map(|time| time.map(|ms| ms.saturating_mul(factor)));
                        Arc::new(times.collect::<Int64Array>())
                    }
                    other => return Err(Error::internal(format!("times for a column of type {other}"))),
                }
            }
        };
        if array.data_type() == data_type { Ok(array) } else { cast(&array, data_type).map_err(failed) }
    }
}

/// Refuses options that there are not, or of columns that there are not.
fn check_names(given: Given<'_>, columns: &[&str]) -> Result<()> {
    for name in given.names().filter(|name| ![RATE, ROWS].contains(name)) {
        let of_field = name.strip_prefix(FIELDS).and_then(|of| of.rsplit_once('.'));
        match of_field {
            Some((column, what)) if columns.contains(&column) && OF_FIELD.contains(&what) => {}
            Some((column, what)) => {
                let known: Vec<String> = match columns.contains(&column) {
                    true => OF_FIELD.iter().map(|of| format!("{FIELDS}{column}.{of}")).collect(),
                    false => columns.iter().map(|column| format!("{FIELDS}{column}.{what}")).collect(),
                };
                return Err(given.unknown(name, &known.iter().map(String::as_str).collect::<Vec<_>>()));
            }
            None => return Err(given.unknown(name, &[RATE, ROWS])),
        }
    }
    Ok(())
}

/// What options say of a column.
struct Field<'a> {
    given: Given<'a>,
    name: &'a str,
    data_type: &'a FlinkType,
}

impl Field<'_> {
    fn key(&self, what: &str) -> String {
        format!("{FIELDS}{}.{what}", self.name)
    }

    fn number<T: std::str::FromStr + PartialOrd + std::fmt::Display>(
        &self,
        what: &str,
        bounds: &RangeInclusive<T>,
    ) -> Result<Option<T>> {
        self.given.number(&self.key(what), bounds)
    }

    /// Refuses options that say nothing of such a column.
    fn only(&self, kind: &str, known: &[&str]) -> Result<()> {
        let is_other = |what: &&&str| !known.contains(*what) && self.given.text(&self.key(what)).is_some();
        match OF_FIELD.iter().filter(|what| **what != "kind").find(is_other) {
            None => Ok(()),
            Some(what) => Err(Error::invalid_input(format!(
                "option '{}' is of no use: column '{}' is {} and its kind is '{kind}'",
                self.key(what),
                self.name,
                self.data_type.summary()
            ))),
        }
    }

    /// How often a value is NULL, how values are made, and how many there are.
    fn make(&self) -> Result<(f64, Make, u64)> {
        match self.given.text(&self.key("kind")).unwrap_or("random") {
            "random" => {
                let null_rate = self.number("null-rate", &(0.0..=1.0))?.unwrap_or(0.0);
                if null_rate > 0.0 && !self.data_type.nullable {
                    return Err(Error::invalid_input(format!(
                        "option '{}' is {null_rate}, and column '{}' is NOT NULL",
                        self.key("null-rate"),
                        self.name
                    )));
                }
                Ok((null_rate, self.random()?, u64::MAX))
            }
            "sequence" => {
                let (first, count) = self.sequence()?;
                Ok((0.0, Make::Sequence(first), count))
            }
            _ => Err(self.given.bad(&self.key("kind"), "'random' or 'sequence'")),
        }
    }

    fn random(&self) -> Result<Make> {
        let only = |known: &[&str]| self.only("random", &[known, &["null-rate"]].concat());
        match &self.data_type.root {
            TypeRoot::Boolean => only(&[]).map(|()| Make::Flag),
            TypeRoot::TinyInt => self.whole(i8::MIN.into()..=i8::MAX.into()),
            TypeRoot::SmallInt => self.whole(i16::MIN.into()..=i16::MAX.into()),
            TypeRoot::Int => self.whole(i32::MIN.into()..=i32::MAX.into()),
            TypeRoot::BigInt => self.whole(i64::MIN..=i64::MAX),
            // Where nothing is said, Flink's least value is the least one above zero.
            TypeRoot::Float => self.real(f64::from(f32::from_bits(1)), f64::from(f32::MAX)),
            TypeRoot::Double => self.real(f64::from_bits(1), f64::MAX),
            TypeRoot::Decimal { precision, scale } => {
                only(&["min", "max"])?;
                let max = 10_i128.pow(u32::from(*precision)) - 1;
                let unscaled = |value: f64| ((value * 10_f64.powi(i32::from(*scale))).round() as i128).clamp(-max, max);
                let (all, least) = (-f64::MAX..=f64::MAX, self.number("min", &(-f64::MAX..=f64::MAX))?);
                let (min, max) = (least.map_or(0, unscaled), self.number("max", &all)?.map_or(max, unscaled));
                self.ordered(min, max).map(Make::Decimal)
            }
            TypeRoot::Char(length) | TypeRoot::Binary(length) => {
                only(&[])?;
                self.long(*length, false)
            }
            TypeRoot::Varchar(length) | TypeRoot::Varbinary(length) => {
                only(&["length", "var-len"])?;
                let default = if *length == LENGTH_MAX { LENGTH_DEFAULT } else { *length };
                let given = self.number("length", &(1..=*length))?;
                self.long(given.unwrap_or(default), self.given.flag(&self.key("var-len"))?)
            }
            TypeRoot::Date | TypeRoot::Time(_) => only(&[]).map(|()| Make::Time(0)),
            TypeRoot::Timestamp(_) | TypeRoot::TimestampLtz(_) => {
                only(&["max-past"])?;
                let past = self.given.duration(&self.key("max-past"))?.unwrap_or_default();
                Ok(Make::Time(u64::try_from(past.as_millis()).unwrap_or(u64::MAX)))
            }
            _ => Err(self.unsupported()),
        }
    }

    fn unsupported(&self) -> Error {
        let (name, data_type) = (self.name, self.data_type.summary());
        Error::unsupported(format!("column '{name}' of type {data_type} with connector 'datagen'"))
            .with_hint("make columns of its parts, and compute it of them: name AS expression")
    }

    fn whole(&self, all: RangeInclusive<i64>) -> Result<Make> {
        self.only("random", &["min", "max", "null-rate"])?;
        let (min, max) = (self.number("min", &all)?, self.number("max", &all)?);
        self.ordered(min.unwrap_or(*all.start()), max.unwrap_or(*all.end())).map(Make::Whole)
    }

    fn real(&self, least: f64, greatest: f64) -> Result<Make> {
        self.only("random", &["min", "max", "null-rate"])?;
        let all = -greatest..=greatest;
        let (min, max) = (self.number("min", &all)?, self.number("max", &all)?);
        self.ordered(min.unwrap_or(least), max.unwrap_or(greatest)).map(Make::Real)
    }

    fn ordered<T: PartialOrd>(&self, min: T, max: T) -> Result<RangeInclusive<T>> {
        if min <= max {
            return Ok(min..=max);
        }
        Err(Error::invalid_input(format!("option '{}' is less than '{}'", self.key("max"), self.key("min"))))
    }

    fn long(&self, length: u32, is_variable: bool) -> Result<Make> {
        if length > VALUE_MAX {
            return Err(Error::unsupported(format!(
                "values of {length} characters or bytes in column '{}' with connector 'datagen'",
                self.name
            ))
            .with_hint(format!("set '{}' to at most {VALUE_MAX}", self.key("length"))));
        }
        Ok(Make::Long { length, is_variable })
    }

    /// The first value, and how many there are.
    fn sequence(&self) -> Result<(i64, u64)> {
        self.only("sequence", &["start", "end"])?;
        // Values that the type has.
        let all = match &self.data_type.root {
            TypeRoot::TinyInt => i8::MIN.into()..=i8::MAX.into(),
            TypeRoot::SmallInt => i16::MIN.into()..=i16::MAX.into(),
            TypeRoot::Int => i32::MIN.into()..=i32::MAX.into(),
            TypeRoot::BigInt | TypeRoot::Float | TypeRoot::Double => i64::MIN..=i64::MAX,
            TypeRoot::Decimal { precision, scale } => {
                let max = 10_i64.checked_pow(u32::from(precision.saturating_sub(*scale))).unwrap_or(i64::MAX);
                let max = if max == i64::MAX { max } else { max - 1 };
                -max..=max
            }
            TypeRoot::Char(length) | TypeRoot::Varchar(length) => {
                let max = |digits: u32| 10_i64.checked_pow(digits).map_or(i64::MAX, |over| over - 1);
                -max(length.saturating_sub(1))..=max(*length)
            }
            _ => return Err(self.unsupported()),
        };
        let needed = |what: &str| {
            self.number(what, &all)?.ok_or_else(|| {
                Error::invalid_input(format!("option '{}' is missing: the column is a sequence", self.key(what)))
            })
        };
        let (start, end) = (needed("start")?, needed("end")?);
        if end < start {
            let (end, start) = (self.key("end"), self.key("start"));
            return Err(Error::invalid_input(format!("option '{end}' is less than '{start}'")));
        }
        let count = i128::from(end) - i128::from(start) + 1;
        Ok((start, u64::try_from(count).unwrap_or(u64::MAX)))
    }
}

fn whole(random: &mut Random, range: &RangeInclusive<i64>) -> i64 {
    let span = range.end().wrapping_sub(*range.start()).cast_unsigned();
    let above = if span == u64::MAX { random.next() } else { random.below(span + 1) };
    range.start().wrapping_add_unsigned(above)
}

fn real(unit: f64, range: &RangeInclusive<f64>) -> f64 {
    // The difference of the two may be no number. Rounding may lead beyond them.
    (range.start() * (1.0 - unit) + range.end() * unit).clamp(*range.start(), *range.end())
}

fn decimal(random: &mut Random, range: &RangeInclusive<i128>) -> i128 {
    let drawn = u128::from(random.next()) << 64 | u128::from(random.next());
    let count = range.end().abs_diff(*range.start()) + 1;
    range.start().wrapping_add_unsigned(drawn % count)
}

/// So many bytes: any, or hexadecimal digits.
fn bytes(random: &mut Random, length: u64, is_text: bool) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default() + 16);
    while (bytes.len() as u64) < length {
        let drawn = random.next();
        match is_text {
            true => bytes.extend_from_slice(format!("{drawn:016x}").as_bytes()),
            false => bytes.extend_from_slice(&drawn.to_le_bytes()),
        }
    }
    bytes.truncate(usize::try_from(length).unwrap_or_default());
    bytes
}

#[cfg(test)]
mod tests;
