//! Messages to rows.

use arrow::datatypes::TimeUnit;
use protox::prost_reflect::{DynamicMessage, Value as Found};

use super::shape::{Shape, Value, Values};
use crate::format::column::{Column, Kind, per_second};
use crate::format::{Bad, Reason};

/// What stands for fields that a message does not have.
#[derive(Debug, Clone, Copy)]
pub(super) struct Absent {
    /// Their default values, also where the message can say that there is none.
    pub(super) is_default: bool,
    /// NULL for a list or map without elements.
    pub(super) empty_is_null: bool,
}

/// Adds the row of a message to the columns of its shape.
pub(super) fn read(bytes: &[u8], shape: &Shape, absent: Absent, columns: &mut [Column]) -> Bad {
    let message = DynamicMessage::decode(shape.descriptor.clone(), bytes)
        .map_err(|error| format!("it is no message {}: {error}", shape.descriptor.full_name()))?;
    check(&message, shape)?;
    read_fields(&message, shape, absent, columns)
}

fn check(message: &DynamicMessage, shape: &Shape) -> Bad {
    match shape.required.iter().find(|field| !message.has_field(field)) {
        Some(field) => Err(format!("field `{}` is required, and it is missing", field.name())),
        None => Ok(()),
    }
}

fn read_fields(message: &DynamicMessage, shape: &Shape, absent: Absent, columns: &mut [Column]) -> Bad {
    for (member, column) in shape.members.iter().zip(columns) {
        let Some(member) = member else {
            column.push_null()?;
            continue;
        };
        let is_null = !message.has_field(&member.field)
            && match &member.values {
                Values::One(_) => member.has_presence && !absent.is_default,
                Values::List(_) | Values::Map(..) => absent.empty_is_null,
            };
        let done = match is_null {
            true => column.push_null(),
            false => push_all(&message.get_field(&member.field), &member.values, absent, column),
        };
        done.map_err(|reason| format!("field `{}`: {reason}", member.field.name()))?;
    }
    Ok(())
}

fn push_all(found: &Found, values: &Values, absent: Absent, column: &mut Column) -> Bad {
    match (values, found) {
        (Values::One(value), one) => push(one, value, absent, column),
        (Values::List(value), Found::List(all)) => {
            let items = column.item()?;
            all.iter().try_for_each(|one| push(one, value, absent, items))?;
            column.end_entries()
        }
        (Values::Map(of_key, of_value), Found::Map(all)) => {
            let mut all: Vec<_> = all.iter().collect();
            all.sort_by_key(|(key, _)| *key);
            let (keys, values) = column.entry()?;
            for (key, value) in all {
                push(&Found::from(key.clone()), of_key, absent, keys)?;
                push(value, of_value, absent, values)?;
            }
            column.end_entries()
        }
        _ => Err(mismatch()),
    }
}

fn push(found: &Found, value: &Value, absent: Absent, column: &mut Column) -> Bad {
    match (value, found) {
        (Value::Scalar(_), Found::Bool(value)) => column.push_bool(*value),
        (Value::Scalar(_), Found::I32(value)) => column.push_i64(i64::from(*value)),
        (Value::Scalar(_), Found::I64(value)) => column.push_i64(*value),
        (Value::Scalar(_), Found::U32(value)) => column.push_i64(i64::from(*value)),
        (Value::Scalar(_), Found::U64(value)) => column.push_i128(i128::from(*value)),
        (Value::Scalar(_), Found::F32(value)) => column.push_f32(*value),
        (Value::Scalar(_), Found::F64(value)) => column.push_f64(*value),
        (Value::Scalar(_), Found::String(value)) => column.push_text(value),
        (Value::Scalar(_), Found::Bytes(value)) => column.push_bytes(value),
        (Value::Enum(of), Found::EnumNumber(number)) => match (column.kind(), of.get_value(*number)) {
            (Kind::Text, Some(value)) => column.push_text(value.name()),
            (Kind::Text, None) => Err(format!("{} has no value of the number {number}", of.full_name())),
            _ => column.push_i64(i64::from(*number)),
        },
        (Value::Timestamp, Found::Message(message)) => {
            let Kind::Timestamp { unit, .. } = column.kind() else { return Err(mismatch()) };
            column.push_i64(units(message, unit).ok_or("a time is out of range")?)
        }
        (Value::Message(shape), Found::Message(message)) => {
            // One that is not there may stand here with its defaults.
            if !absent.is_default {
                check(message, shape)?;
            }
            let (_, columns) = column.fields()?;
            read_fields(message, shape, absent, columns)?;
            column.end_row();
            Ok(())
        }
        _ => Err(mismatch()),
    }
}

fn mismatch() -> Reason {
    "a value is of another type than its field".to_owned()
}

/// The time of a `google.protobuf.Timestamp`.
fn units(message: &DynamicMessage, unit: TimeUnit) -> Option<i64> {
    let seconds = message.get_field_by_name("seconds")?.as_i64()?;
    let nanos = message.get_field_by_name("nanos")?.as_i32()?;
    let per_second = per_second(unit);
    seconds.checked_mul(per_second)?.checked_add(i64::from(nanos).div_euclid(1_000_000_000 / per_second))
}
