//! Records to rows: what was written is read by the schema of its writer and brought to the columns of the table.
//!
//! Arrow's own decoder cannot take back a record that fails half way, so it is not used here; tests judge by it.

use arrow::datatypes::{DataType, Field, Fields};

use super::schema::{Avro, Meaning, Schema};
use crate::format::column::{Column, Kind, entry_fields, per_second};
use crate::format::{Bad, Reason};

/// Elements of arrays and maps and values left out, of one message, at most: they can take no bytes.
const ELEMENTS_MAX: u64 = 1 << 20;
/// How deep values may be nested that are left out.
const DEPTH_MAX: usize = 100;
/// Digits of the largest decimal.
const DIGITS_MAX: u32 = 38;

/// How values of a writer become values of a column.
#[derive(Debug)]
enum Plan {
    Null,
    Scalar(Avro),
    Union(Vec<Plan>),
    Array(Box<Plan>),
    Map(Box<Plan>),
    Record(Fitting),
    /// A value like this cannot be read, which is so only if one comes.
    Never(Reason),
}

/// How a record of a writer becomes a row.
#[derive(Debug)]
struct Fitting {
    /// For each field of the writer, the column it is of, or what is left out.
    fields: Vec<Result<(usize, Plan), Avro>>,
    /// The columns that the writer does not have.
    missing: Vec<usize>,
}

/// How messages of one writer are read.
#[derive(Debug)]
pub(super) struct Resolved {
    schema: Schema,
    fitting: Fitting,
}

impl Resolved {
    /// Brings the schema of a writer to columns. Errors say why it cannot be.
    pub(super) fn new(schema: Schema, fields: &Fields) -> Result<Self, Reason> {
        let Avro::Record(record) = schema.root else { return Err("the Avro schema is no record".to_owned()) };
        let fitting = fit(&schema, record, fields)?;
        Ok(Self { schema, fitting })
    }

    /// Adds the row of a message to columns that all have `len` values.
    pub(super) fn read(&self, bytes: &[u8], columns: &mut [Column]) -> Bad {
        let mut cursor = Cursor { bytes, elements: 0 };
        self.read_record(&self.fitting, &mut cursor, columns)
    }

    fn read_record(&self, fitting: &Fitting, cursor: &mut Cursor<'_>, columns: &mut [Column]) -> Bad {
        for field in &fitting.fields {
            match field {
                Ok((at, plan)) => self.read_value(plan, cursor, &mut columns[*at])?,
                Err(left_out) => self.skip(left_out, cursor, 0)?,
            }
        }
        fitting.missing.iter().try_for_each(|at| columns[*at].push_null())
    }

    fn read_value(&self, plan: &Plan, cursor: &mut Cursor<'_>, column: &mut Column) -> Bad {
        match plan {
            Plan::Null => column.push_null(),
            Plan::Scalar(avro) => push_scalar(avro, cursor, column),
            Plan::Never(reason) => Err(reason.clone()),
            Plan::Union(branches) => {
                let branch = usize::try_from(cursor.long()?).ok().and_then(|at| branches.get(at));
                self.read_value(branch.ok_or("a union has no such branch")?, cursor, column)
            }
            Plan::Array(item) => {
                while let Some(count) = cursor.block()? {
                    for _ in 0..count {
                        self.read_value(item, cursor, column.item()?)?;
                    }
                }
                column.end_entries()
            }
            Plan::Map(value) => {
                while let Some(count) = cursor.block()? {
                    for _ in 0..count {
                        let (keys, values) = column.entry()?;
                        keys.push_text(text(cursor.bytes()?)?)?;
                        self.read_value(value, cursor, values)?;
                    }
                }
                column.end_entries()
            }
            Plan::Record(fitting) => {
                let (_, columns) = column.fields()?;
                self.read_record(fitting, cursor, columns)?;
                column.end_row();
                Ok(())
            }
        }
    }

    fn skip(&self, avro: &Avro, cursor: &mut Cursor<'_>, depth: usize) -> Bad {
        if depth > DEPTH_MAX {
            return Err(format!("a value is nested deeper than {DEPTH_MAX}"));
        }
        cursor.count(1)?;
        match avro {
            Avro::Null => {}
            Avro::Boolean => {
                cursor.take(1)?;
            }
            Avro::Int(_) | Avro::Long(_) | Avro::Enum(_) => {
                cursor.long()?;
            }
            Avro::Float => {
                cursor.take(4)?;
            }
            Avro::Double => {
                cursor.take(8)?;
            }
            Avro::Bytes(_) | Avro::String => {
                cursor.bytes()?;
            }
            Avro::Fixed { len, .. } => {
                cursor.take(*len)?;
            }
            Avro::Array(item) => {
                while let Some(count) = cursor.block()? {
                    (0..count).try_for_each(|_| self.skip(item, cursor, depth + 1))?;
                }
            }
            Avro::Map(value) => {
                while let Some(count) = cursor.block()? {
                    for _ in 0..count {
                        cursor.bytes()?;
                        self.skip(value, cursor, depth + 1)?;
                    }
                }
            }
            Avro::Union(branches) => {
                let branch = usize::try_from(cursor.long()?).ok().and_then(|at| branches.get(at));
                self.skip(branch.ok_or("a union has no such branch")?, cursor, depth + 1)?;
            }
            Avro::Record(at) => {
                for (_, avro) in &self.schema.records[*at].fields {
                    self.skip(avro, cursor, depth + 1)?;
                }
            }
        }
        Ok(())
    }
}

fn fit(schema: &Schema, record: usize, fields: &Fields) -> Result<Fitting, Reason> {
    let mut missing: Vec<usize> = (0..fields.len()).collect();
    let mut fitted = Vec::new();
    for (name, avro) in &schema.records[record].fields {
        fitted.push(match fields.iter().position(|field| field.name() == name) {
            None => Err(avro.clone()),
            Some(at) => {
                missing.retain(|place| *place != at);
                let plan = plan(schema, avro, &fields[at]);
                Ok((at, plan.map_err(|reason| format!("field `{name}`: {reason}"))?))
            }
        });
    }
    if let Some(at) = missing.iter().find(|at| !fields[**at].is_nullable()) {
        return Err(format!("the Avro schema has no field `{}`, which is NOT NULL", fields[*at].name()));
    }
    Ok(Fitting { fields: fitted, missing })
}

fn plan(schema: &Schema, avro: &Avro, field: &Field) -> Result<Plan, Reason> {
    let kind = Kind::of(field.data_type()).map_err(|error| error.to_string())?;
    Ok(match (avro, field.data_type()) {
        (Avro::Union(branches), _) => {
            let plans = branches.iter().map(|branch| plan(schema, branch, field).unwrap_or_else(Plan::Never));
            let plans: Vec<Plan> = plans.collect();
            if plans.iter().all(|plan| matches!(plan, Plan::Never(_) | Plan::Null)) && plans.len() > 1 {
                return Err(no_way(avro, field));
            }
            Plan::Union(plans)
        }
        (Avro::Null, _) => Plan::Null,
        (Avro::Array(item), DataType::List(of)) => Plan::Array(Box::new(plan(schema, item, of)?)),
        (Avro::Map(value), DataType::Map(entries, _)) => {
            let (key, of) = entry_fields(entries).map_err(|error| error.to_string())?;
            if key.data_type() != &DataType::Utf8 {
                return Err(no_way(avro, field));
            }
            Plan::Map(Box::new(plan(schema, value, of)?))
        }
        (Avro::Record(record), DataType::Struct(fields)) => Plan::Record(fit(schema, *record, fields)?),
        _ if fits(avro, kind) => Plan::Scalar(avro.clone()),
        _ => return Err(no_way(avro, field)),
    })
}

fn no_way(avro: &Avro, field: &Field) -> Reason {
    let name = match avro {
        Avro::Null => "null",
        Avro::Boolean => "boolean",
        Avro::Int(_) => "int",
        Avro::Long(_) => "long",
        Avro::Float => "float",
        Avro::Double => "double",
        Avro::Bytes(_) => "bytes",
        Avro::Fixed { .. } => "fixed",
        Avro::String => "string",
        Avro::Enum(_) => "enum",
        Avro::Array(_) => "array",
        Avro::Map(_) => "map",
        Avro::Union(_) => "union",
        Avro::Record(_) => "record",
    };
    format!("an Avro {name} cannot be read as {}", field.data_type())
}

/// Whether values of a writer's type can be values of a kind: those of the same type, and wider numbers.
fn fits(avro: &Avro, kind: Kind) -> bool {
    match avro {
        Avro::Boolean => kind == Kind::Bool,
        Avro::Int(Meaning::Number) => matches!(
            kind,
            Kind::I8 | Kind::I16 | Kind::I32 | Kind::I64 | Kind::F32 | Kind::F64 | Kind::Date | Kind::Time(_)
        ),
        Avro::Long(Meaning::Number) => {
            matches!(kind, Kind::I64 | Kind::F32 | Kind::F64 | Kind::Time(_) | Kind::Timestamp { .. })
        }
        Avro::Int(Meaning::Date) => matches!(kind, Kind::Date | Kind::I32),
        Avro::Int(Meaning::Time(_)) => matches!(kind, Kind::Time(_) | Kind::I32),
        Avro::Int(Meaning::Timestamp(_)) | Avro::Long(Meaning::Date) => false,
        Avro::Long(Meaning::Time(_)) => matches!(kind, Kind::Time(_) | Kind::I64),
        Avro::Long(Meaning::Timestamp(_)) => matches!(kind, Kind::Timestamp { .. } | Kind::I64),
        Avro::Float => matches!(kind, Kind::F32 | Kind::F64),
        Avro::Double => kind == Kind::F64,
        Avro::Bytes(None) | Avro::Fixed { scale: None, .. } => matches!(kind, Kind::Bytes | Kind::Text),
        Avro::Bytes(Some(_)) | Avro::Fixed { scale: Some(_), .. } => matches!(kind, Kind::Decimal { .. } | Kind::Bytes),
        Avro::String => matches!(kind, Kind::Text | Kind::Bytes),
        Avro::Enum(_) => kind == Kind::Text,
        Avro::Null | Avro::Array(_) | Avro::Map(_) | Avro::Union(_) | Avro::Record(_) => false,
    }
}

fn push_scalar(avro: &Avro, cursor: &mut Cursor<'_>, column: &mut Column) -> Bad {
    match avro {
        Avro::Boolean => column.push_bool(cursor.take(1)? != [0]),
        Avro::Int(meaning) => {
            let value = cursor.long()?;
            i32::try_from(value).map_err(|_| format!("{value} is no int"))?;
            push_number(value, *meaning, column)
        }
        Avro::Long(meaning) => push_number(cursor.long()?, *meaning, column),
        Avro::Float => {
            let value = f32::from_le_bytes(cursor.array()?);
            if column.kind() == Kind::F32 { column.push_f32(value) } else { column.push_f64(f64::from(value)) }
        }
        Avro::Double => column.push_f64(f64::from_le_bytes(cursor.array()?)),
        Avro::Bytes(scale) => push_bytes(cursor.bytes()?, *scale, column),
        Avro::Fixed { len, scale } => push_bytes(cursor.take(*len)?, *scale, column),
        Avro::String => push_bytes(cursor.bytes()?, None, column),
        Avro::Enum(symbols) => {
            let symbol = usize::try_from(cursor.long()?).ok().and_then(|at| symbols.get(at));
            column.push_text(symbol.ok_or("an enum has no such symbol")?)
        }
        Avro::Null | Avro::Array(_) | Avro::Map(_) | Avro::Union(_) | Avro::Record(_) => {
            Err("a nested value where a single one should be".to_owned())
        }
    }
}

fn push_number(value: i64, meaning: Meaning, column: &mut Column) -> Bad {
    let given = match meaning {
        Meaning::Number | Meaning::Date => None,
        Meaning::Time(unit) | Meaning::Timestamp(unit) => Some(unit),
    };
    match (column.kind(), given) {
        (Kind::F32, _) => column.push_f32(value as f32),
        (Kind::F64, _) => column.push_f64(value as f64),
        (Kind::Time(unit) | Kind::Timestamp { unit, .. }, Some(given)) if unit != given => {
            let (from, to) = (per_second(given), per_second(unit));
            let value = if to > from { value.checked_mul(to / from) } else { Some(value.div_euclid(from / to)) };
            column.push_i64(value.ok_or("a timestamp is out of range")?)
        }
        _ => column.push_i64(value),
    }
}

fn push_bytes(bytes: &[u8], scale: Option<u32>, column: &mut Column) -> Bad {
    match (column.kind(), scale) {
        (Kind::Text, _) => column.push_text(text(bytes)?),
        (Kind::Decimal { precision, scale: to }, Some(from)) => {
            column.push_i128(decimal(bytes, from, u32::from(precision), u32::from(to.unsigned_abs()))?)
        }
        _ => column.push_bytes(bytes),
    }
}

/// The digits of a decimal whose two's complement is given, brought from one scale to another.
fn decimal(bytes: &[u8], from: u32, precision: u32, to: u32) -> Result<i128, Reason> {
    let large = || "a decimal has more digits than its column".to_owned();
    let is_negative = bytes.first().is_some_and(|byte| byte & 0x80 != 0);
    let fill = if is_negative { 0xff } else { 0 };
    let skipped = bytes.len().saturating_sub(16);
    let (head, tail) = bytes.split_at(skipped);
    let mut whole = [fill; 16];
    whole[16 - tail.len()..].copy_from_slice(tail);
    let value = i128::from_be_bytes(whole);
    if head.iter().any(|byte| *byte != fill) || (value < 0) != is_negative {
        return Err(large());
    }
    let value = if to >= from {
        let factor = 10_i128.checked_pow(to - from).ok_or_else(large)?;
        value.checked_mul(factor).ok_or_else(large)?
    } else {
        // Half up, away from zero.
        let Some(factor) = 10_i128.checked_pow(from - to) else { return Ok(0) };
        let rest = (value % factor).abs();
        value / factor + if rest * 2 >= factor { value.signum() } else { 0 }
    };
    let limit = 10_i128.pow(precision.min(DIGITS_MAX));
    if value.abs() < limit { Ok(value) } else { Err(large()) }
}

fn text(bytes: &[u8]) -> Result<&str, Reason> {
    std::str::from_utf8(bytes).map_err(|_| "a string is no UTF-8".to_owned())
}

/// What is left of a message.
struct Cursor<'a> {
    bytes: &'a [u8],
    elements: u64,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Reason> {
        let (taken, rest) = self.bytes.split_at_checked(len).ok_or("the message ends in a value")?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Reason> {
        self.take(N)?.try_into().map_err(|_| "the message ends in a value".to_owned())
    }

    /// A zig-zag number of at most ten bytes.
    fn long(&mut self) -> Result<i64, Reason> {
        let mut value: u64 = 0;
        for shift in (0..64).step_by(7) {
            let [byte] = self.array::<1>()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
            }
        }
        Err("a number has more than ten bytes".to_owned())
    }

    fn bytes(&mut self) -> Result<&'a [u8], Reason> {
        let len = self.long()?;
        self.take(usize::try_from(len).map_err(|_| format!("a length is {len}"))?)
    }

    /// How many elements the next block has; none behind the last.
    fn block(&mut self) -> Result<Option<u64>, Reason> {
        let count = self.long()?;
        if count < 0 {
            // Its bytes, for those who leave it out whole.
            self.long()?;
        }
        let count = count.unsigned_abs();
        self.count(count)?;
        Ok((count > 0).then_some(count))
    }

    fn count(&mut self, elements: u64) -> Bad {
        self.elements = self.elements.saturating_add(elements);
        if self.elements > ELEMENTS_MAX {
            return Err(format!("the message has more than {ELEMENTS_MAX} elements"));
        }
        Ok(())
    }
}
