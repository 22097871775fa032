//! Rows to messages: fields in the order of their numbers, as other writers have them.

use arrow::datatypes::TimeUnit;
use protox::prost_reflect::Kind as Type;
use protox::prost_reflect::prost::encoding::{WireType, encode_key, encode_varint};

use super::shape::{Member, Shape, Value, Values};
use crate::format::Reason;
use crate::format::cells::{self, Cells, entries};
use crate::format::column::per_second;

/// Adds the fields of a row. `null` stands for texts that are NULL in lists and maps.
pub(super) fn write_row(
    shape: &Shape,
    row: usize,
    cells: &[Cells<'_>],
    null: &str,
    out: &mut Vec<u8>,
) -> Result<(), Reason> {
    for at in &shape.order {
        let (Some(member), Some(cells_of)) = (&shape.members[*at], cells.get(*at)) else { continue };
        let is_there = |at: &usize| cells.get(*at).is_some_and(|cells| !cells.is_null(row));
        // Of a `oneof` the last one counts.
        if !is_there(at) || member.instead.iter().any(is_there) {
            if member.field.is_required() {
                return Err(format!("field `{}` is required, and it is NULL", member.field.name()));
            }
            continue;
        }
        write_field(member, row, cells_of, null, out)
            .map_err(|reason| format!("field `{}`: {reason}", member.field.name()))?;
    }
    match shape.required.iter().find(|field| !has(shape, field.number())) {
        Some(field) => Err(format!("field `{}` is required, and no column is it", field.name())),
        None => Ok(()),
    }
}

fn has(shape: &Shape, number: u32) -> bool {
    shape.members.iter().flatten().any(|member| member.field.number() == number)
}

fn write_field(member: &Member, row: usize, cells: &Cells<'_>, null: &str, out: &mut Vec<u8>) -> Result<(), Reason> {
    let number = member.field.number();
    match (&member.values, &cells.values) {
        (Values::List(value), cells::Values::List { ends, item }) => {
            let range = entries(ends, row);
            if member.is_packed && !range.is_empty() {
                let mut packed = Vec::new();
                for at in range {
                    write_value(value, at, item, null, &mut packed)?;
                }
                encode_key(number, WireType::LengthDelimited, out);
                write_bytes(&packed, out);
                return Ok(());
            }
            for at in range {
                encode_key(number, value.wire_type(), out);
                write_value(value, at, item, null, out)?;
            }
            Ok(())
        }
        (Values::Map(of_key, of_value), cells::Values::Map { ends, key, value }) => {
            for at in entries(ends, row) {
                let mut entry = Vec::new();
                encode_key(1, of_key.wire_type(), &mut entry);
                write_value(of_key, at, key, null, &mut entry)?;
                encode_key(2, of_value.wire_type(), &mut entry);
                write_value(of_value, at, value, null, &mut entry)?;
                encode_key(number, WireType::LengthDelimited, out);
                write_bytes(&entry, out);
            }
            Ok(())
        }
        (Values::One(value), _) => {
            let start = out.len();
            encode_key(number, value.wire_type(), out);
            let key = out.len();
            write_value(value, row, cells, null, out)?;
            // A value without a bit, or of no bytes, is what stands for a field that is not there.
            if !member.has_presence && out[key..].iter().all(|byte| *byte == 0) {
                out.truncate(start);
            }
            Ok(())
        }
        _ => Err(mismatch()),
    }
}

fn mismatch() -> Reason {
    "a value of another type than its field".to_owned()
}

impl Value {
    fn wire_type(&self) -> WireType {
        match self {
            Self::Message(_) | Self::Timestamp | Self::Scalar(Type::String | Type::Bytes) => WireType::LengthDelimited,
            Self::Scalar(Type::Double | Type::Fixed64 | Type::Sfixed64) => WireType::SixtyFourBit,
            Self::Scalar(Type::Float | Type::Fixed32 | Type::Sfixed32) => WireType::ThirtyTwoBit,
            Self::Scalar(_) | Self::Enum(_) => WireType::Varint,
        }
    }

    /// What stands for NULL in a list or map, which have none.
    fn write_null(&self, null: &str, out: &mut Vec<u8>) {
        match (self, self.wire_type()) {
            (Self::Scalar(Type::String), _) => write_bytes(null.as_bytes(), out),
            (Self::Enum(of), _) => write_number(i64::from(of.default_value().number()), out),
            (_, WireType::SixtyFourBit) => out.extend([0; 8]),
            (_, WireType::ThirtyTwoBit) => out.extend([0; 4]),
            _ => out.push(0),
        }
    }
}

/// Adds a value without the key of its field.
fn write_value(value: &Value, row: usize, cells: &Cells<'_>, null: &str, out: &mut Vec<u8>) -> Result<(), Reason> {
    use cells::Values as Is;
    if cells.is_null(row) {
        value.write_null(null, out);
        return Ok(());
    }
    match (value, &cells.values) {
        (Value::Scalar(Type::Bool), Is::Bool(values)) => out.push(u8::from(values.value(row))),
        (Value::Scalar(Type::Float), Is::F32(values)) => out.extend(values[row].to_le_bytes()),
        (Value::Scalar(Type::Double), Is::F64(values)) => out.extend(values[row].to_le_bytes()),
        (Value::Scalar(Type::String), Is::Text(values)) => write_bytes(values.value(row).as_bytes(), out),
        (Value::Scalar(Type::Bytes), Is::Bytes(values)) => write_bytes(values.value(row), out),
        (Value::Enum(of), Is::Text(values)) => {
            let name = values.value(row);
            let known = of.get_value_by_name(name);
            let known = known.ok_or_else(|| format!("{} has no value `{name}`", of.full_name()))?;
            write_number(i64::from(known.number()), out);
        }
        (Value::Enum(_), _) => {
            let number = whole(cells, row).ok_or_else(mismatch)?;
            write_number(i64::from(i32::try_from(number).map_err(|_| out_of_range(number))?), out);
        }
        (Value::Timestamp, Is::Timestamp { values, unit, .. }) => write_time(values[row], *unit, out),
        (Value::Message(shape), Is::Struct(fields)) => {
            let mut inner = Vec::new();
            write_row(shape, row, fields, null, &mut inner)?;
            write_bytes(&inner, out);
        }
        (Value::Scalar(is), _) => write_whole(is, whole(cells, row).ok_or_else(mismatch)?, out)?,
        _ => return Err(mismatch()),
    }
    Ok(())
}

fn whole(cells: &Cells<'_>, row: usize) -> Option<i64> {
    match &cells.values {
        cells::Values::I8(values) => Some(i64::from(values[row])),
        cells::Values::I16(values) => Some(i64::from(values[row])),
        cells::Values::I32(values) => Some(i64::from(values[row])),
        cells::Values::I64(values) => Some(values[row]),
        _ => None,
    }
}

fn out_of_range(value: i64) -> Reason {
    format!("{value} is out of range")
}

fn write_whole(is: &Type, value: i64, out: &mut Vec<u8>) -> Result<(), Reason> {
    let narrow = || i32::try_from(value).map_err(|_| out_of_range(value));
    let short = || u32::try_from(value).map_err(|_| out_of_range(value));
    let unsigned = || u64::try_from(value).map_err(|_| out_of_range(value));
    let zigzag = |value: i64| ((value << 1) ^ (value >> 63)).cast_unsigned();
    match is {
        Type::Int32 => write_number(i64::from(narrow()?), out),
        Type::Int64 => write_number(value, out),
        Type::Uint32 => encode_varint(u64::from(short()?), out),
        Type::Uint64 => encode_varint(unsigned()?, out),
        Type::Sint32 => encode_varint(zigzag(i64::from(narrow()?)), out),
        Type::Sint64 => encode_varint(zigzag(value), out),
        Type::Fixed32 => out.extend(short()?.to_le_bytes()),
        Type::Fixed64 => out.extend(unsigned()?.to_le_bytes()),
        Type::Sfixed32 => out.extend(narrow()?.to_le_bytes()),
        Type::Sfixed64 => out.extend(value.to_le_bytes()),
        _ => return Err(mismatch()),
    }
    Ok(())
}

/// A number with a sign, of which a negative one takes ten bytes.
fn write_number(value: i64, out: &mut Vec<u8>) {
    encode_varint(value.cast_unsigned(), out);
}

fn write_bytes(bytes: &[u8], out: &mut Vec<u8>) {
    encode_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// A `google.protobuf.Timestamp`.
fn write_time(value: i64, unit: TimeUnit, out: &mut Vec<u8>) {
    let per_second = per_second(unit);
    let (seconds, nanos) = (value.div_euclid(per_second), value.rem_euclid(per_second) * (1_000_000_000 / per_second));
    let mut inner = Vec::new();
    for (number, part) in [(1, seconds), (2, nanos)] {
        if part != 0 {
            encode_key(number, WireType::Varint, &mut inner);
            write_number(part, &mut inner);
        }
    }
    write_bytes(&inner, out);
}
