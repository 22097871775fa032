//! Flink's types as Arrow's, as the formats of messages and the functions here expect them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use tereza_runtime::{Error, Result};

use super::types::{FlinkType, LENGTH_MAX, RowField, TypeRoot};

/// The zone of instants: nothing but UTC is reckoned with.
const UTC: &str = "+00:00";

impl FlinkType {
    /// The type of a column's values in a batch. Times of the day are kept to the millisecond.
    ///
    /// # Errors
    /// `Unsupported` for INTERVAL and MULTISET, which no column of a batch has.
    pub fn to_arrow(&self) -> Result<DataType> {
        Ok(match &self.root {
            TypeRoot::Char(_) | TypeRoot::Varchar(_) => DataType::Utf8,
            TypeRoot::Boolean => DataType::Boolean,
            TypeRoot::Binary(_) | TypeRoot::Varbinary(_) => DataType::Binary,
            TypeRoot::Decimal { precision, scale } => {
                let scale = i8::try_from(*scale);
                let scale = scale.map_err(|_| Error::invalid_input(format!("the scale of {self} is too great")))?;
                DataType::Decimal128(*precision, scale)
            }
            TypeRoot::TinyInt => DataType::Int8,
            TypeRoot::SmallInt => DataType::Int16,
            TypeRoot::Int => DataType::Int32,
            TypeRoot::BigInt => DataType::Int64,
            TypeRoot::Float => DataType::Float32,
            TypeRoot::Double => DataType::Float64,
            TypeRoot::Date => DataType::Date32,
            TypeRoot::Time(_) => DataType::Time32(TimeUnit::Millisecond),
            TypeRoot::Timestamp(precision) => DataType::Timestamp(unit(*precision), None),
            TypeRoot::TimestampLtz(precision) => DataType::Timestamp(unit(*precision), Some(UTC.into())),
            TypeRoot::Array(element) => {
                DataType::List(Arc::new(Field::new_list_field(element.to_arrow()?, element.nullable)))
            }
            TypeRoot::Map(key, value) => {
                // Arrow's keys are never NULL.
                let key = Field::new("key", key.to_arrow()?, false);
                let value = Field::new("value", value.to_arrow()?, value.nullable);
                let entries = DataType::Struct(Fields::from(vec![key, value]));
                DataType::Map(Arc::new(Field::new("entries", entries, false)), false)
            }
            TypeRoot::Row(fields) => {
                let field = |field: &RowField| {
                    let of = field.data_type.to_arrow()?;
                    Ok(Field::new(&field.name, of, field.data_type.nullable))
                };
                DataType::Struct(fields.iter().map(field).collect::<Result<Fields>>()?)
            }
            TypeRoot::Null => DataType::Null,
            TypeRoot::Interval(_) | TypeRoot::Multiset(_) => {
                return Err(Error::unsupported(format!("a column of type {self}")));
            }
        })
    }

    /// The type that a column of a batch has in Flink's words; none where Flink has no such type.
    pub fn of_arrow(data_type: &DataType, nullable: bool) -> Option<Self> {
        let child = |field: &Field| Self::of_arrow(field.data_type(), field.is_nullable());
        let root = match data_type {
            DataType::Null => TypeRoot::Null,
            DataType::Boolean => TypeRoot::Boolean,
            DataType::Int8 => TypeRoot::TinyInt,
            DataType::Int16 => TypeRoot::SmallInt,
            DataType::Int32 => TypeRoot::Int,
            DataType::Int64 => TypeRoot::BigInt,
            DataType::Float32 => TypeRoot::Float,
            DataType::Float64 => TypeRoot::Double,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => TypeRoot::Varchar(LENGTH_MAX),
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView => TypeRoot::Varbinary(LENGTH_MAX),
            DataType::Date32 => TypeRoot::Date,
            DataType::Time32(TimeUnit::Second) => TypeRoot::Time(0),
            DataType::Time32(_) | DataType::Time64(_) => TypeRoot::Time(3),
            DataType::Timestamp(unit, None) => TypeRoot::Timestamp(precision(*unit)),
            DataType::Timestamp(unit, Some(_)) => TypeRoot::TimestampLtz(precision(*unit)),
            DataType::Decimal128(precision, scale) => {
                TypeRoot::Decimal { precision: *precision, scale: u8::try_from(*scale).ok()? }
            }
            DataType::List(item) | DataType::LargeList(item) => TypeRoot::Array(Box::new(child(item)?)),
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(pair) if pair.len() == 2 => {
                    TypeRoot::Map(Box::new(child(&pair[0])?), Box::new(child(&pair[1])?))
                }
                _ => return None,
            },
            DataType::Struct(fields) => {
                let field = |field: &Arc<Field>| {
                    Some(RowField { name: field.name().clone(), data_type: child(field)?, comment: None })
                };
                TypeRoot::Row(fields.iter().map(field).collect::<Option<_>>()?)
            }
            _ => return None,
        };
        Some(Self { root, nullable })
    }
}

/// The coarsest unit with so many digits of a second, of those that messages and functions use.
fn unit(precision: u8) -> TimeUnit {
    match precision {
        0..=3 => TimeUnit::Millisecond,
        4..=6 => TimeUnit::Microsecond,
        _ => TimeUnit::Nanosecond,
    }
}

fn precision(unit: TimeUnit) -> u8 {
    match unit {
        TimeUnit::Second => 0,
        TimeUnit::Millisecond => 3,
        TimeUnit::Microsecond => 6,
        TimeUnit::Nanosecond => 9,
    }
}

#[cfg(test)]
mod tests {
    use tereza_runtime::ErrorKind;

    use super::*;

    fn arrow(text: &str) -> DataType {
        text.parse::<FlinkType>().expect(text).to_arrow().expect(text)
    }

    #[test]
    fn types_are_those_of_the_formats() {
        for (text, expected) in [
            ("VARCHAR(2147483647)", DataType::Utf8),
            ("CHAR(3)", DataType::Utf8),
            ("BYTES", DataType::Binary),
            ("DECIMAL(20, 4)", DataType::Decimal128(20, 4)),
            ("TINYINT NOT NULL", DataType::Int8),
            ("DATE", DataType::Date32),
            ("TIME(0)", DataType::Time32(TimeUnit::Millisecond)),
            ("TIMESTAMP(0)", DataType::Timestamp(TimeUnit::Millisecond, None)),
            ("TIMESTAMP(3)", DataType::Timestamp(TimeUnit::Millisecond, None)),
            ("TIMESTAMP(6)", DataType::Timestamp(TimeUnit::Microsecond, None)),
            ("TIMESTAMP(9)", DataType::Timestamp(TimeUnit::Nanosecond, None)),
            ("TIMESTAMP_LTZ(3)", DataType::Timestamp(TimeUnit::Millisecond, Some("+00:00".into()))),
            ("ARRAY<INT NOT NULL>", DataType::List(Arc::new(Field::new_list_field(DataType::Int32, false)))),
        ] {
            assert_eq!(arrow(text), expected, "{text}");
        }
        let DataType::Map(entries, false) = arrow("MAP<STRING, BIGINT>") else { panic!("a map") };
        let DataType::Struct(pair) = entries.data_type() else { panic!("entries") };
        assert!(!pair[0].is_nullable() && pair[1].is_nullable());
        let row = arrow("ROW<a INT NOT NULL, B STRING>");
        let fields = vec![Field::new("a", DataType::Int32, false), Field::new("B", DataType::Utf8, true)];
        assert_eq!(row, DataType::Struct(Fields::from(fields)));
    }

    #[test]
    fn what_no_column_is_of_is_refused_by_name() {
        for text in ["MULTISET<INT>", "INTERVAL DAY(2)"] {
            let error = text.parse::<FlinkType>().expect(text).to_arrow().expect_err(text);
            assert_eq!(error.kind(), ErrorKind::Unsupported);
            assert!(error.message().contains(text), "{error}");
        }
    }

    #[test]
    fn the_way_back_is_the_same_type() {
        for text in [
            "VARCHAR(2147483647)",
            "DECIMAL(20, 4) NOT NULL",
            "TIMESTAMP(3)",
            "TIMESTAMP(6) WITH LOCAL TIME ZONE",
            "ARRAY<INT NOT NULL>",
            "MAP<BIGINT NOT NULL, DATE>",
            "ROW<`a` INT, `b` ROW<`c` DOUBLE NOT NULL>> NOT NULL",
        ] {
            let data_type: FlinkType = text.parse().expect(text);
            let arrow = data_type.to_arrow().expect(text);
            assert_eq!(FlinkType::of_arrow(&arrow, data_type.nullable).expect(text).to_string(), text);
        }
    }
}
