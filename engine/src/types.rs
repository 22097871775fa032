//! Hive's types in Arrow's words and back.
//!
//! The catalog keeps types as Hive writes them (`map<string,array<int>>`); [`arrow_type`] is what a table of that type
//! yields, and [`hive_type`] what a table made from rows of an Arrow type gets. Types that Hive lacks are refused with the
//! type to cast to. Source of the grammar: `org.apache.hadoop.hive.serde2.typeinfo.TypeInfoUtils`.

use std::sync::Arc;

use arrow::array::temporal_conversions::{date32_to_datetime, timestamp_us_to_datetime};
use arrow::datatypes::{
    DECIMAL128_MAX_PRECISION, DataType, Field, FieldRef, Fields, Schema, SchemaRef, TimeUnit, i256,
};
use datafusion::scalar::ScalarValue;
use tereza_catalog::model::{Column, DEFAULT_PARTITION, Table};
use tereza_runtime::{Error, Result};

use crate::formats::spark;

/// Precision and scale of a `decimal` without them.
const DECIMAL_DEFAULT: (u8, i8) = (10, 0);

/// Types in types that are followed: a text that nests deeper is refused instead of exhausting the stack.
const NESTING_MAX: usize = 64;

/// The Arrow type of a Hive type text.
pub(crate) fn arrow_type(hive: &str) -> Result<DataType> {
    let mut parser = Parser { text: hive, rest: hive.trim_start(), depth: 0 };
    let data_type = parser.data_type()?;
    if !parser.rest.is_empty() {
        return Err(parser.malformed("the end"));
    }
    Ok(text_type(data_type))
}

/// The Hive type text of an Arrow type; `Unsupported` for a type that Hive lacks.
pub(crate) fn hive_type(arrow: &DataType) -> Result<String> {
    let lacks = |cast: &str| {
        Err(Error::unsupported(format!("type {arrow} in a table")).with_hint(format!("cast it to {cast}")))
    };
    let text = match arrow {
        DataType::Boolean => "boolean".into(),
        DataType::Int8 => "tinyint".into(),
        DataType::Int16 | DataType::UInt8 => "smallint".into(),
        DataType::Int32 | DataType::UInt16 => "int".into(),
        DataType::Int64 | DataType::UInt32 => "bigint".into(),
        DataType::UInt64 => "decimal(20,0)".into(),
        DataType::Float16 | DataType::Float32 => "float".into(),
        DataType::Float64 => "double".into(),
        DataType::Decimal32(precision, scale)
        | DataType::Decimal64(precision, scale)
        | DataType::Decimal128(precision, scale)
        | DataType::Decimal256(precision, scale) => return hive_decimal(arrow, *precision, *scale),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => "string".into(),
        DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
            "binary".into()
        }
        DataType::Date32 | DataType::Date64 => "date".into(),
        DataType::Timestamp(_, None) => "timestamp".into(),
        DataType::Timestamp(_, Some(_)) => "timestamp with local time zone".into(),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => format!("array<{}>", hive_type(item.data_type())?),
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(fields) if fields.len() == 2 => {
                format!("map<{},{}>", hive_type(fields[0].data_type())?, hive_type(fields[1].data_type())?)
            }
            _ => return Err(Error::internal(format!("a map whose entries are not pairs: {arrow}"))),
        },
        DataType::Struct(fields) if fields.is_empty() => return lacks("a struct with fields"),
        DataType::Struct(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|field| Ok(format!("{}:{}", quoted(field.name()), hive_type(field.data_type())?)))
                .collect::<Result<_>>()?;
            format!("struct<{}>", fields.join(","))
        }
        DataType::Dictionary(_, value) => hive_type(value)?,
        DataType::RunEndEncoded(_, values) => hive_type(values.data_type())?,
        DataType::Null => return lacks("the type that its values would have"),
        DataType::Duration(_) => return lacks("bigint"),
        DataType::Time32(_) | DataType::Time64(_) | DataType::Interval(_) => return lacks("string"),
        DataType::Union(_, _) => return lacks("one of its types, or to a struct"),
    };
    Ok(text)
}

/// The columns of a table's files, and its partition keys, as Arrow fields: the table yields the columns, then the keys.
pub(crate) fn table_fields(table: &Table) -> Result<(SchemaRef, Vec<FieldRef>)> {
    let field = |column: &Column| {
        let data_type = arrow_type(&column.type_name).map_err(|error| {
            error.context(format!("column '{}' of table {}.{}", column.name, table.database, table.name))
        })?;
        Ok(Arc::new(Field::new(&column.name, data_type, true)))
    };
    let columns: Vec<FieldRef> = spark::columns(table)?.iter().map(field).collect::<Result<_>>()?;
    let keys: Vec<FieldRef> = table.partition_keys.iter().map(field).collect::<Result<_>>()?;
    Ok((Arc::new(Schema::new(columns)), keys))
}

/// The value of a partition key from the catalog's text. [`DEFAULT_PARTITION`] and the empty text are NULL: both stand
/// for one folder.
pub(crate) fn partition_scalar(text: &str, data_type: &DataType) -> Result<ScalarValue> {
    if text.is_empty() || text == DEFAULT_PARTITION {
        return null_of(data_type);
    }
    ScalarValue::try_from_string(text.to_owned(), data_type).map_err(|_| {
        let hive = hive_type(data_type).unwrap_or_else(|_| data_type.to_string());
        Error::invalid_input(format!("partition value '{text}' is not of type {hive}"))
            .with_hint("drop the partition, or give its key the type string")
    })
}

/// The catalog's text of a partition key's value, as Hive writes it; [`partition_scalar`] is its inverse.
pub(crate) fn partition_text(value: &ScalarValue) -> Result<String> {
    if value.is_null() {
        return Ok(DEFAULT_PARTITION.to_owned());
    }
    let text = match value {
        ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
            if text.is_empty() {
                DEFAULT_PARTITION.to_owned()
            } else {
                text.clone()
            }
        }
        ScalarValue::Boolean(Some(value)) => value.to_string(),
        ScalarValue::Int8(Some(value)) => value.to_string(),
        ScalarValue::Int16(Some(value)) => value.to_string(),
        ScalarValue::Int32(Some(value)) => value.to_string(),
        ScalarValue::Int64(Some(value)) => value.to_string(),
        ScalarValue::UInt8(Some(value)) => value.to_string(),
        ScalarValue::UInt16(Some(value)) => value.to_string(),
        ScalarValue::UInt32(Some(value)) => value.to_string(),
        ScalarValue::UInt64(Some(value)) => value.to_string(),
        ScalarValue::Float32(Some(value)) => value.to_string(),
        ScalarValue::Float64(Some(value)) => value.to_string(),
        ScalarValue::Decimal32(Some(value), _, scale) => decimal_text(i256::from_i128(i128::from(*value)), *scale),
        ScalarValue::Decimal64(Some(value), _, scale) => decimal_text(i256::from_i128(i128::from(*value)), *scale),
        ScalarValue::Decimal128(Some(value), _, scale) => decimal_text(i256::from_i128(*value), *scale),
        ScalarValue::Decimal256(Some(value), _, scale) => decimal_text(*value, *scale),
        ScalarValue::Date32(Some(days)) => date32_to_datetime(*days)
            .ok_or_else(|| Error::invalid_input(format!("date {days} days from 1970 is out of range")))?
            .date()
            .to_string(),
        ScalarValue::TimestampSecond(Some(_), _)
        | ScalarValue::TimestampMillisecond(Some(_), _)
        | ScalarValue::TimestampMicrosecond(Some(_), _)
        | ScalarValue::TimestampNanosecond(Some(_), _) => timestamp_text(value)?,
        ScalarValue::Dictionary(_, value) => partition_text(value)?,
        other => return Err(Error::unsupported(format!("partition key of type {}", other.data_type()))),
    };
    Ok(text)
}

/// How a table exposes text and bytes: as views at the top level, which is what DataFusion's Parquet reader fills without
/// copying (`schema_force_view_types`); inside nested types as plain arrays, where views gain nothing and functions on
/// them are fewer.
fn text_type(data_type: DataType) -> DataType {
    match data_type {
        DataType::Utf8 => DataType::Utf8View,
        DataType::Binary => DataType::BinaryView,
        other => other,
    }
}

fn hive_decimal(arrow: &DataType, precision: u8, scale: i8) -> Result<String> {
    let too_wide = || {
        Error::unsupported(format!("type {arrow} in a table")).with_hint("cast it to a decimal of at most 38 digits")
    };
    // A negative scale means trailing zeros, which Hive writes out.
    let (precision, scale) = match u8::try_from(scale) {
        Ok(scale) => (precision.max(scale), scale),
        Err(_) => (precision.saturating_add(scale.unsigned_abs()), 0),
    };
    if precision > DECIMAL128_MAX_PRECISION {
        return Err(too_wide());
    }
    Ok(format!("decimal({precision},{scale})"))
}

/// A struct's field name, in backticks if the grammar needs them.
fn quoted(name: &str) -> String {
    let plain = !name.is_empty() && name.chars().all(|c| c.is_alphanumeric() || c == '_');
    if plain { name.to_owned() } else { format!("`{}`", name.replace('`', "``")) }
}

fn null_of(data_type: &DataType) -> Result<ScalarValue> {
    ScalarValue::try_from(data_type).map_err(|_| Error::unsupported(format!("partition key of type {data_type}")))
}

fn decimal_text(value: i256, scale: i8) -> String {
    let Ok(scale @ 1..) = usize::try_from(scale) else { return value.to_string() };
    let (sign, digits) = match value.to_string().strip_prefix('-') {
        Some(digits) => ("-", digits.to_owned()),
        None => ("", value.to_string()),
    };
    // At least one digit before the point.
    let digits = format!("{digits:0>width$}", width = scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - scale);
    format!("{sign}{whole}.{fraction}")
}

/// `yyyy-mm-dd hh:mm:ss[.ffffff]` without trailing zeros, as `java.sql.Timestamp` and Hive write it; zoned ones in UTC.
fn timestamp_text(value: &ScalarValue) -> Result<String> {
    let out_of_range = || Error::invalid_input(format!("timestamp {value} is out of range"));
    let micros = value.cast_to(&local_timestamp()).map_err(|_| out_of_range())?;
    let ScalarValue::TimestampMicrosecond(Some(micros), _) = micros else { return Err(out_of_range()) };
    let time = timestamp_us_to_datetime(micros).ok_or_else(out_of_range)?;
    let text = time.format("%Y-%m-%d %H:%M:%S%.6f").to_string();
    Ok(text.trim_end_matches('0').trim_end_matches('.').to_owned())
}

/// How many characters a value of a type of the metastore may have: the `n` of `varchar(n)` and `char(n)`.
pub(crate) fn text_length(type_name: &str) -> Option<usize> {
    let (word, rest) = type_name.trim().split_once('(')?;
    let is_text = ["varchar", "char"].iter().any(|text| word.trim().eq_ignore_ascii_case(text));
    if is_text { rest.trim_end().strip_suffix(')')?.trim().parse().ok() } else { None }
}

/// A reader of one Hive type text.
struct Parser<'a> {
    /// The whole text, for messages.
    text: &'a str,
    /// What is still to be read, without leading blanks.
    rest: &'a str,
    /// Types around the one being read.
    depth: usize,
}

impl<'a> Parser<'a> {
    fn data_type(&mut self) -> Result<DataType> {
        if self.depth == NESTING_MAX {
            return Err(Error::unsupported(format!("a type of more than {NESTING_MAX} nested types")));
        }
        self.depth += 1;
        let data_type = self.any_type()?;
        self.depth -= 1;
        Ok(data_type)
    }

    fn any_type(&mut self) -> Result<DataType> {
        let word = self.word()?;
        let data_type = match word.as_str() {
            "boolean" => DataType::Boolean,
            "tinyint" => DataType::Int8,
            "smallint" => DataType::Int16,
            "int" | "integer" => DataType::Int32,
            "bigint" => DataType::Int64,
            "float" | "real" => DataType::Float32,
            "double" => {
                self.optional_word("precision");
                DataType::Float64
            }
            "decimal" | "numeric" | "dec" => {
                let (precision, scale) = self.decimal_arguments()?;
                DataType::Decimal128(precision, scale)
            }
            "string" => DataType::Utf8,
            // Lengths are kept by the catalog, and longer texts not written; values are not padded or cut.
            "char" | "varchar" => {
                self.length()?;
                DataType::Utf8
            }
            "binary" => DataType::Binary,
            "date" => DataType::Date32,
            "timestamp" => self.timestamp()?,
            "timestamplocaltz" | "timestamp_ltz" => local_timestamp(),
            "timestamp_ntz" => DataType::Timestamp(TimeUnit::Microsecond, None),
            "void" => DataType::Null,
            "array" => {
                self.expect('<')?;
                let item = self.data_type()?;
                self.expect('>')?;
                DataType::List(Arc::new(Field::new_list_field(item, true)))
            }
            "map" => {
                self.expect('<')?;
                let key = self.data_type()?;
                self.expect(',')?;
                let value = self.data_type()?;
                self.expect('>')?;
                map_of(key, value)
            }
            "struct" => DataType::Struct(self.struct_fields()?),
            "uniontype" | "interval_year_month" | "interval_day_time" | "interval" => {
                return Err(Error::unsupported(format!("type {word} (in '{}')", self.text)));
            }
            _ => return Err(Error::unsupported(format!("type '{word}' (in '{}')", self.text))),
        };
        Ok(data_type)
    }

    /// What follows `timestamp`: nothing, or `with [local] time zone`.
    fn timestamp(&mut self) -> Result<DataType> {
        if self.optional_word("without") {
            self.expect_words(&["time", "zone"])?;
            return Ok(DataType::Timestamp(TimeUnit::Microsecond, None));
        }
        if !self.optional_word("with") {
            return Ok(DataType::Timestamp(TimeUnit::Microsecond, None));
        }
        self.optional_word("local");
        self.expect_words(&["time", "zone"])?;
        Ok(local_timestamp())
    }

    fn decimal_arguments(&mut self) -> Result<(u8, i8)> {
        if !self.rest.starts_with('(') {
            return Ok(DECIMAL_DEFAULT);
        }
        self.expect('(')?;
        let precision = self.number()?;
        let scale = if self.rest.starts_with(',') {
            self.expect(',')?;
            self.number()?
        } else {
            0
        };
        self.expect(')')?;
        if precision == 0 || precision > usize::from(DECIMAL128_MAX_PRECISION) || scale > precision {
            return Err(Error::invalid_input(format!(
                "decimal({precision},{scale}): needs 1 to 38 digits, of them at most all after the point"
            )));
        }
        // Both are at most 38 here.
        Ok((precision as u8, scale as i8))
    }

    /// The `(n)` of a char or varchar, which old tables may lack.
    fn length(&mut self) -> Result<()> {
        if self.rest.starts_with('(') {
            self.expect('(')?;
            self.number()?;
            self.expect(')')?;
        }
        Ok(())
    }

    fn struct_fields(&mut self) -> Result<Fields> {
        self.expect('<')?;
        let mut fields = Vec::new();
        loop {
            let name = self.field_name()?;
            self.expect(':')?;
            fields.push(Field::new(name, self.data_type()?, true));
            if !self.rest.starts_with(',') {
                break;
            }
            self.expect(',')?;
        }
        self.expect('>')?;
        Ok(fields.into())
    }

    /// A field's name: in backticks (`` `` `` is one backtick), or anything up to the colon.
    fn field_name(&mut self) -> Result<String> {
        let Some(mut rest) = self.rest.strip_prefix('`') else {
            let end = self
                .rest
                .find([':', ',', '<', '>'])
                .filter(|end| *end > 0)
                .ok_or_else(|| self.malformed("a field name"))?;
            let (name, rest) = self.rest.split_at(end);
            self.rest = rest;
            return Ok(name.trim_end().to_owned());
        };
        let mut name = String::new();
        loop {
            let end = rest.find('`').ok_or_else(|| self.malformed("a closing backtick"))?;
            name.push_str(&rest[..end]);
            rest = &rest[end + 1..];
            match rest.strip_prefix('`') {
                Some(after) => {
                    name.push('`');
                    rest = after;
                }
                None => break,
            }
        }
        self.rest = rest.trim_start();
        Ok(name)
    }

    fn word(&mut self) -> Result<String> {
        let end = self.rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(self.rest.len());
        if end == 0 {
            return Err(self.malformed("a type"));
        }
        let (word, rest) = self.rest.split_at(end);
        let word = word.to_lowercase();
        self.rest = rest.trim_start();
        Ok(word)
    }

    fn number(&mut self) -> Result<usize> {
        let end = self.rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(self.rest.len());
        let number = self.rest[..end].parse().map_err(|_| self.malformed("a number"))?;
        self.rest = self.rest[end..].trim_start();
        Ok(number)
    }

    fn optional_word(&mut self, word: &str) -> bool {
        let found = self.rest.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
        if found {
            self.rest = self.rest[word.len()..].trim_start();
        }
        found
    }

    fn expect_words(&mut self, words: &[&str]) -> Result<()> {
        for word in words {
            if !self.optional_word(word) {
                return Err(self.malformed(&format!("'{word}'")));
            }
        }
        Ok(())
    }

    fn expect(&mut self, symbol: char) -> Result<()> {
        let rest = self.rest.strip_prefix(symbol).ok_or_else(|| self.malformed(&format!("'{symbol}'")))?;
        self.rest = rest.trim_start();
        Ok(())
    }

    fn malformed(&self, expected: &str) -> Error {
        let found = if self.rest.is_empty() { "the end".to_owned() } else { format!("'{}'", self.rest) };
        Error::invalid_input(format!("type '{}': expected {expected}, found {found}", self.text))
    }
}

/// Instants, kept in UTC and shown in the session's zone.
fn local_timestamp() -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
}

/// The map with the names of entries that DataFusion's `map` function and Arrow's Parquet writer use.
fn map_of(key: DataType, value: DataType) -> DataType {
    let entries = Fields::from(vec![Field::new("key", key, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(entries), false)), false)
}

#[cfg(test)]
mod tests;
