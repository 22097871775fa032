//! Columns that grow by a value and can be cut back: a message that fails half way leaves nothing behind.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayData, ArrayRef, BinaryArray, BooleanArray, BooleanBufferBuilder, ListArray, MapArray, NullBufferBuilder,
    StringArray, StructArray, make_array,
};
use arrow::buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use arrow::error::ArrowError;
use tereza_runtime::{Error, Result};

use super::{Bad, Reason};

/// What a column holds, as formats tell values apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Bool,
    I8,
    I16,
    I32,
    I64,
    F32,
    F64,
    Text,
    Bytes,
    /// Days since 1970-01-01.
    Date,
    /// Time of the day, in units since midnight.
    Time(TimeUnit),
    /// Units since 1970-01-01 00:00:00, of UTC where `is_zoned`.
    Timestamp {
        unit: TimeUnit,
        is_zoned: bool,
    },
    Decimal {
        precision: u8,
        scale: i8,
    },
    List,
    Map,
    Struct,
}

impl Kind {
    /// The kind of a type. Errors: `Unsupported` names a type that no format reads or writes.
    pub(crate) fn of(data_type: &DataType) -> Result<Self> {
        Ok(match data_type {
            DataType::Boolean => Self::Bool,
            DataType::Int8 => Self::I8,
            DataType::Int16 => Self::I16,
            DataType::Int32 => Self::I32,
            DataType::Int64 => Self::I64,
            DataType::Float32 => Self::F32,
            DataType::Float64 => Self::F64,
            DataType::Utf8 => Self::Text,
            DataType::Binary => Self::Bytes,
            DataType::Date32 => Self::Date,
            DataType::Time32(unit) | DataType::Time64(unit) => Self::Time(*unit),
            DataType::Timestamp(unit, zone) => Self::Timestamp { unit: *unit, is_zoned: zone.is_some() },
            DataType::Decimal128(precision, scale) if *scale >= 0 => {
                Self::Decimal { precision: *precision, scale: *scale }
            }
            DataType::List(_) => Self::List,
            DataType::Map(..) => Self::Map,
            DataType::Struct(_) => Self::Struct,
            other => return Err(Error::unsupported(format!("messages with columns of type {other}"))),
        })
    }
}

/// Units of a second.
pub(crate) const fn per_second(unit: TimeUnit) -> i64 {
    match unit {
        TimeUnit::Second => 1,
        TimeUnit::Millisecond => 1_000,
        TimeUnit::Microsecond => 1_000_000,
        TimeUnit::Nanosecond => 1_000_000_000,
    }
}

/// Names of fields with their places.
#[derive(Debug)]
pub(crate) struct Names {
    names: Vec<String>,
    places: HashMap<String, usize>,
}

impl Names {
    pub(crate) fn new(fields: &Fields) -> Self {
        let names: Vec<String> = fields.iter().map(|field| field.name().clone()).collect();
        let places = names.iter().enumerate().map(|(at, name)| (name.clone(), at)).collect();
        Self { names, places }
    }

    /// The place of a name; `guess` is looked at first, as fields mostly come in their order.
    pub(crate) fn find(&self, name: &str, guess: usize) -> Option<usize> {
        if self.names.get(guess).is_some_and(|known| known == name) {
            return Some(guess);
        }
        self.places.get(name).copied()
    }

    pub(crate) fn at(&self, place: usize) -> &str {
        self.names.get(place).map_or("", String::as_str)
    }
}

#[derive(Debug)]
enum Values {
    Bool(BooleanBufferBuilder),
    I8(Vec<i8>),
    I16(Vec<i16>),
    I32(Vec<i32>),
    I64(Vec<i64>),
    I128(Vec<i128>),
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bytes { ends: Vec<i32>, data: Vec<u8> },
    List { ends: Vec<i32>, item: Box<Column> },
    Map { ends: Vec<i32>, key: Box<Column>, value: Box<Column> },
    Struct { names: Names, columns: Vec<Column> },
}

/// A column under construction.
#[derive(Debug)]
pub(crate) struct Column {
    data_type: DataType,
    kind: Kind,
    is_nullable: bool,
    nulls: NullBufferBuilder,
    values: Values,
}

impl Column {
    /// An empty column. Errors: `Unsupported` names the type.
    pub(crate) fn new(field: &Field) -> Result<Self> {
        let kind = Kind::of(field.data_type())?;
        let values = match (field.data_type(), kind) {
            (_, Kind::Bool) => Values::Bool(BooleanBufferBuilder::new(0)),
            (_, Kind::I8) => Values::I8(Vec::new()),
            (_, Kind::I16) => Values::I16(Vec::new()),
            (DataType::Time32(_), _) | (_, Kind::I32 | Kind::Date) => Values::I32(Vec::new()),
            (_, Kind::I64 | Kind::Time(_) | Kind::Timestamp { .. }) => Values::I64(Vec::new()),
            (_, Kind::F32) => Values::F32(Vec::new()),
            (_, Kind::F64) => Values::F64(Vec::new()),
            (_, Kind::Decimal { .. }) => Values::I128(Vec::new()),
            (_, Kind::Text | Kind::Bytes) => Values::Bytes { ends: vec![0], data: Vec::new() },
            (DataType::List(item), _) => Values::List { ends: vec![0], item: Box::new(Self::new(item)?) },
            (DataType::Map(entries, _), _) => {
                let (key, value) = entry_fields(entries)?;
                if key.is_nullable() {
                    return Err(Error::unsupported("reading messages with a map whose keys can be NULL"));
                }
                Values::Map { ends: vec![0], key: Box::new(Self::new(key)?), value: Box::new(Self::new(value)?) }
            }
            (DataType::Struct(fields), _) => Values::Struct {
                names: Names::new(fields),
                columns: fields.iter().map(|field| Self::new(field)).collect::<Result<_>>()?,
            },
            (other, _) => return Err(Error::unsupported(format!("messages with columns of type {other}"))),
        };
        Ok(Self {
            data_type: field.data_type().clone(),
            kind,
            is_nullable: field.is_nullable(),
            nulls: NullBufferBuilder::new(0),
            values,
        })
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }

    pub(crate) fn len(&self) -> usize {
        self.nulls.len()
    }

    /// Forgets all but the first `len` values.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.nulls.truncate(len);
        match &mut self.values {
            Values::Bool(values) => values.truncate(len),
            Values::I8(values) => values.truncate(len),
            Values::I16(values) => values.truncate(len),
            Values::I32(values) => values.truncate(len),
            Values::I64(values) => values.truncate(len),
            Values::I128(values) => values.truncate(len),
            Values::F32(values) => values.truncate(len),
            Values::F64(values) => values.truncate(len),
            Values::Bytes { ends, data } => data.truncate(cut(ends, len)),
            Values::List { ends, item } => item.truncate(cut(ends, len)),
            Values::Map { ends, key, value } => {
                let entries = cut(ends, len);
                key.truncate(entries);
                value.truncate(entries);
            }
            Values::Struct { columns, .. } => columns.iter_mut().for_each(|column| column.truncate(len)),
        }
    }

    /// Adds NULL. Errors: the column is NOT NULL.
    pub(crate) fn push_null(&mut self) -> Bad {
        if !self.is_nullable {
            return Err("it is NOT NULL and there is no value".to_owned());
        }
        self.push_filler();
        Ok(())
    }

    /// Adds what stands where nobody looks: inside of a row that is NULL.
    pub(crate) fn push_filler(&mut self) {
        self.nulls.append(!self.is_nullable);
        match &mut self.values {
            Values::Bool(values) => values.append(false),
            Values::I8(values) => values.push(0),
            Values::I16(values) => values.push(0),
            Values::I32(values) => values.push(0),
            Values::I64(values) => values.push(0),
            Values::I128(values) => values.push(0),
            Values::F32(values) => values.push(0.0),
            Values::F64(values) => values.push(0.0),
            Values::Bytes { ends, .. } | Values::List { ends, .. } | Values::Map { ends, .. } => {
                ends.push(ends.last().copied().unwrap_or_default());
            }
            Values::Struct { columns, .. } => columns.iter_mut().for_each(Self::push_filler),
        }
    }

    pub(crate) fn push_bool(&mut self, value: bool) -> Bad {
        let Values::Bool(values) = &mut self.values else { return self.mismatch() };
        values.append(value);
        self.nulls.append_non_null();
        Ok(())
    }

    /// Adds a whole number, days, units of time or the digits of a decimal. Errors: it does not fit.
    pub(crate) fn push_i128(&mut self, value: i128) -> Bad {
        let fits = match &mut self.values {
            Values::I8(values) => i8::try_from(value).map(|value| values.push(value)).is_ok(),
            Values::I16(values) => i16::try_from(value).map(|value| values.push(value)).is_ok(),
            Values::I32(values) => i32::try_from(value).map(|value| values.push(value)).is_ok(),
            Values::I64(values) => i64::try_from(value).map(|value| values.push(value)).is_ok(),
            Values::I128(values) => {
                values.push(value);
                true
            }
            _ => return self.mismatch(),
        };
        if !fits {
            return Err(format!("{value} is out of the range of {}", self.data_type));
        }
        self.nulls.append_non_null();
        Ok(())
    }

    pub(crate) fn push_i64(&mut self, value: i64) -> Bad {
        if let Values::I64(values) = &mut self.values {
            values.push(value);
            self.nulls.append_non_null();
            return Ok(());
        }
        self.push_i128(i128::from(value))
    }

    pub(crate) fn push_f32(&mut self, value: f32) -> Bad {
        let Values::F32(values) = &mut self.values else { return self.mismatch() };
        values.push(value);
        self.nulls.append_non_null();
        Ok(())
    }

    pub(crate) fn push_f64(&mut self, value: f64) -> Bad {
        let Values::F64(values) = &mut self.values else { return self.mismatch() };
        values.push(value);
        self.nulls.append_non_null();
        Ok(())
    }

    pub(crate) fn push_text(&mut self, value: &str) -> Bad {
        match self.kind {
            Kind::Text => self.push_slice(value.as_bytes()),
            _ => self.mismatch(),
        }
    }

    pub(crate) fn push_bytes(&mut self, value: &[u8]) -> Bad {
        match self.kind {
            Kind::Bytes => self.push_slice(value),
            _ => self.mismatch(),
        }
    }

    fn push_slice(&mut self, value: &[u8]) -> Bad {
        let Values::Bytes { ends, data } = &mut self.values else { return self.mismatch() };
        let end = end_of(data.len() + value.len())?;
        data.extend_from_slice(value);
        ends.push(end);
        self.nulls.append_non_null();
        Ok(())
    }

    /// What the next list is filled with; [`Self::end_entries`] ends it.
    pub(crate) fn item(&mut self) -> Result<&mut Column, Reason> {
        match &mut self.values {
            Values::List { item, .. } => Ok(item.as_mut()),
            _ => Err(format!("{} is no list", self.data_type)),
        }
    }

    /// What the next map is filled with; [`Self::end_entries`] ends it.
    pub(crate) fn entry(&mut self) -> Result<(&mut Column, &mut Column), Reason> {
        match &mut self.values {
            Values::Map { key, value, .. } => Ok((key.as_mut(), value.as_mut())),
            _ => Err(format!("{} is no map", self.data_type)),
        }
    }

    /// Makes one list or map of what was added inside since the last.
    pub(crate) fn end_entries(&mut self) -> Bad {
        let (ends, len) = match &mut self.values {
            Values::List { ends, item } => (ends, item.len()),
            Values::Map { ends, key, .. } => (ends, key.len()),
            _ => return self.mismatch(),
        };
        ends.push(end_of(len)?);
        self.nulls.append_non_null();
        Ok(())
    }

    /// What the next row is filled with, a value in each; [`Self::end_row`] ends it.
    pub(crate) fn fields(&mut self) -> Result<(&Names, &mut [Column]), Reason> {
        match &mut self.values {
            Values::Struct { names, columns } => Ok((names, columns.as_mut_slice())),
            _ => Err(format!("{} is no row", self.data_type)),
        }
    }

    /// Makes one row of what was added to its fields.
    pub(crate) fn end_row(&mut self) {
        self.nulls.append_non_null();
    }

    fn mismatch(&self) -> Bad {
        Err(format!("a value of another type than {}", self.data_type))
    }

    /// The values so far; the column is empty afterwards.
    pub(crate) fn finish(&mut self) -> Result<ArrayRef, ArrowError> {
        let len = self.len();
        let nulls = self.nulls.finish();
        let primitive = |buffer: Buffer| {
            let data = ArrayData::builder(self.data_type.clone()).len(len).add_buffer(buffer).nulls(nulls.clone());
            data.build().map(make_array)
        };
        Ok(match &mut self.values {
            Values::Bool(values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Values::I8(values) => primitive(Buffer::from_vec(take(values)))?,
            Values::I16(values) => primitive(Buffer::from_vec(take(values)))?,
            Values::I32(values) => primitive(Buffer::from_vec(take(values)))?,
            Values::I64(values) => primitive(Buffer::from_vec(take(values)))?,
            Values::I128(values) => primitive(Buffer::from_vec(take(values)))?,
            Values::F32(values) => primitive(Buffer::from_vec(take(values)))?,
            Values::F64(values) => primitive(Buffer::from_vec(take(values)))?,
            Values::Bytes { ends, data } => {
                let (offsets, data) = (take_offsets(ends), Buffer::from_vec(take(data)));
                match self.kind {
                    Kind::Text => Arc::new(StringArray::try_new(offsets, data, nulls)?),
                    _ => Arc::new(BinaryArray::try_new(offsets, data, nulls)?),
                }
            }
            Values::List { ends, item } => {
                let DataType::List(field) = &self.data_type else { return Err(lost()) };
                Arc::new(ListArray::try_new(Arc::clone(field), take_offsets(ends), item.finish()?, nulls)?)
            }
            Values::Map { ends, key, value } => {
                let DataType::Map(entries, is_sorted) = &self.data_type else { return Err(lost()) };
                let DataType::Struct(fields) = entries.data_type() else { return Err(lost()) };
                let pairs = StructArray::try_new(fields.clone(), vec![key.finish()?, value.finish()?], None)?;
                Arc::new(MapArray::try_new(Arc::clone(entries), take_offsets(ends), pairs, nulls, *is_sorted)?)
            }
            Values::Struct { columns, .. } => {
                let DataType::Struct(fields) = &self.data_type else { return Err(lost()) };
                let arrays = columns.iter_mut().map(Self::finish).collect::<Result<Vec<_>, _>>()?;
                Arc::new(StructArray::try_new_with_length(fields.clone(), arrays, nulls, len)?)
            }
        })
    }
}

fn lost() -> ArrowError {
    ArrowError::SchemaError("a column lost its type".to_owned())
}

/// The fields of a key and of a value.
pub(crate) fn entry_fields(entries: &FieldRef) -> Result<(&FieldRef, &FieldRef)> {
    match entries.data_type() {
        DataType::Struct(pair) if pair.len() == 2 => Ok((&pair[0], &pair[1])),
        other => Err(Error::unsupported(format!("messages with a map of {other}"))),
    }
}

/// Cuts ends to `len` values and tells where the last one ends.
fn cut(ends: &mut Vec<i32>, len: usize) -> usize {
    ends.truncate(len + 1);
    ends.last().map_or(0, |end| usize::try_from(*end).unwrap_or_default())
}

fn end_of(len: usize) -> Result<i32, Reason> {
    i32::try_from(len).map_err(|_| "a batch holds at most 2 GiB in a column".to_owned())
}

/// The values so far. There is room for as many again: batches are mostly alike.
fn take<T>(values: &mut Vec<T>) -> Vec<T> {
    let next = Vec::with_capacity(values.len());
    std::mem::replace(values, next)
}

fn take_offsets(ends: &mut Vec<i32>) -> OffsetBuffer<i32> {
    let taken = take(ends);
    ends.push(0);
    OffsetBuffer::new(ScalarBuffer::from(taken))
}

/// Rows under construction.
#[derive(Debug)]
pub(crate) struct Rows {
    names: Names,
    columns: Vec<Column>,
    len: usize,
}

impl Rows {
    /// No rows. Errors: `Unsupported` names a column and its type.
    pub(crate) fn new(schema: &Schema) -> Result<Self> {
        let column = |field: &FieldRef| {
            Column::new(field)
                .map_err(|error| Error::new(error.kind(), format!("column `{}`: {}", field.name(), error.message())))
        };
        let columns = schema.fields().iter().map(column).collect::<Result<_>>()?;
        Ok(Self { names: Names::new(schema.fields()), columns, len: 0 })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// What the next row is filled with, a value in each; [`Self::end_row`] ends it.
    pub(crate) fn fields(&mut self) -> (&Names, &mut [Column]) {
        (&self.names, self.columns.as_mut_slice())
    }

    pub(crate) fn end_row(&mut self) {
        self.len += 1;
        debug_assert!(self.columns.iter().all(|column| column.len() == self.len));
    }

    /// Adds a row that nobody looks at.
    pub(crate) fn push_filler(&mut self) {
        self.columns.iter_mut().for_each(Column::push_filler);
        self.end_row();
    }

    /// Forgets all but the first `len` rows, also values of a row that was not ended.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.columns.iter_mut().for_each(|column| column.truncate(len));
        self.len = len;
    }

    /// The columns so far; no rows are left.
    pub(crate) fn finish_columns(&mut self) -> Result<Vec<ArrayRef>> {
        self.len = 0;
        let columns = self.columns.iter_mut().map(Column::finish).collect::<Result<Vec<_>, _>>();
        columns.map_err(|error| Error::internal("cannot make columns of messages").with_source(error))
    }
}
