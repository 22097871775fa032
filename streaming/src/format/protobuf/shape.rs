//! How columns and fields of messages go together: by their names.

use arrow::datatypes::{DataType, Fields};
use protox::prost_reflect::{EnumDescriptor, FieldDescriptor, Kind as Type, MessageDescriptor};

use crate::format::Reason;
use crate::format::column::{Kind, entry_fields};

/// The message that stands for a time.
const TIMESTAMP: &str = "google.protobuf.Timestamp";

/// A message and the columns that are its fields.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) descriptor: MessageDescriptor,
    /// For each column; none if the message has no such field.
    pub(super) members: Vec<Option<Member>>,
    /// The places of those that there are, in the order of their numbers.
    pub(super) order: Vec<usize>,
    /// Fields that every message has.
    pub(super) required: Vec<FieldDescriptor>,
}

/// A field that is a column.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) field: FieldDescriptor,
    pub(super) is_packed: bool,
    pub(super) has_presence: bool,
    pub(super) values: Values,
    /// Columns behind this one, of which a message has this one or those: `oneof`.
    pub(super) instead: Vec<usize>,
}

/// What a field holds.
#[derive(Debug)]
pub(super) enum Values {
    One(Value),
    List(Value),
    Map(Value, Value),
}

#[derive(Debug)]
pub(super) enum Value {
    Scalar(Type),
    Enum(EnumDescriptor),
    /// A `google.protobuf.Timestamp`.
    Timestamp,
    Message(Box<Shape>),
}

impl Shape {
    /// Brings columns to the fields of a message. Errors say why that cannot be; a column without a field is one if all are
    /// `needed`.
    pub(super) fn new(descriptor: &MessageDescriptor, fields: &Fields, needed: bool) -> Result<Self, Reason> {
        let mut members: Vec<Option<Member>> = Vec::with_capacity(fields.len());
        for column in fields {
            let name = column.name();
            members.push(match descriptor.get_field_by_name(name) {
                None if needed => return Err(format!("message {} has no field `{name}`", descriptor.full_name())),
                None => None,
                Some(field) => Some(
                    Member::new(field, column.data_type(), needed)
                        .map_err(|reason| format!("field `{name}`: {reason}"))?,
                ),
            });
        }
        let oneof = |member: &Option<Member>| member.as_ref().and_then(|member| member.field.containing_oneof());
        for at in 0..members.len() {
            let Some(of) = oneof(&members[at]) else { continue };
            let instead =
                (at + 1..members.len()).filter(|other| oneof(&members[*other]).as_ref() == Some(&of)).collect();
            if let Some(member) = &mut members[at] {
                member.instead = instead;
            }
        }
        let mut order: Vec<usize> = (0..members.len()).filter(|at| members[*at].is_some()).collect();
        order.sort_by_key(|at| members[*at].as_ref().map(|member| member.field.number()));
        let required = descriptor.fields().filter(FieldDescriptor::is_required).collect();
        Ok(Self { descriptor: descriptor.clone(), members, order, required })
    }

    /// A column that is a group of proto2, also inside of others.
    pub(super) fn group(&self) -> Option<&str> {
        self.members.iter().flatten().find_map(|member| match &member.values {
            _ if member.field.is_group() => Some(member.field.name()),
            Values::One(Value::Message(shape))
            | Values::List(Value::Message(shape))
            | Values::Map(_, Value::Message(shape)) => shape.group(),
            _ => None,
        })
    }
}

impl Member {
    fn new(field: FieldDescriptor, data_type: &DataType, needed: bool) -> Result<Self, Reason> {
        let values = match (field.kind(), data_type) {
            (Type::Message(entry), DataType::Map(entries, _)) if field.is_map() => {
                let (key, value) = entry_fields(entries).map_err(|error| error.to_string())?;
                Values::Map(
                    Value::new(entry.map_entry_key_field().kind(), key.data_type(), needed)?,
                    Value::new(entry.map_entry_value_field().kind(), value.data_type(), needed)?,
                )
            }
            (kind, DataType::List(item)) if field.is_list() => {
                Values::List(Value::new(kind, item.data_type(), needed)?)
            }
            _ if field.is_map() => return Err(format!("a map is no {data_type}")),
            _ if field.is_list() => return Err(format!("a repeated field is no {data_type}")),
            (kind, data_type) => Values::One(Value::new(kind, data_type, needed)?),
        };
        let (is_packed, has_presence) = (field.is_packed(), field.supports_presence());
        Ok(Self { field, is_packed, has_presence, values, instead: Vec::new() })
    }
}

impl Value {
    fn new(is: Type, data_type: &DataType, needed: bool) -> Result<Self, Reason> {
        let kind = Kind::of(data_type).map_err(|error| error.to_string())?;
        let is_whole = matches!(kind, Kind::I8 | Kind::I16 | Kind::I32 | Kind::I64);
        let fits = match &is {
            Type::Bool => kind == Kind::Bool,
            Type::String => kind == Kind::Text,
            Type::Bytes => kind == Kind::Bytes,
            Type::Float => kind == Kind::F32,
            Type::Double => kind == Kind::F64,
            Type::Enum(_) => is_whole || kind == Kind::Text,
            Type::Message(message) => match (kind, data_type) {
                (Kind::Struct, DataType::Struct(fields)) => {
                    return Shape::new(message, fields, needed).map(|shape| Self::Message(Box::new(shape)));
                }
                (Kind::Timestamp { .. }, _) if message.full_name() == TIMESTAMP => {
                    return Ok(Self::Timestamp);
                }
                _ => false,
            },
            _ => is_whole,
        };
        match is {
            Type::Enum(of) if fits => Ok(Self::Enum(of)),
            scalar if fits => Ok(Self::Scalar(scalar)),
            other => Err(format!("a value of the type {} is no {data_type}", name_of(&other))),
        }
    }
}

fn name_of(kind: &Type) -> String {
    match kind {
        Type::Message(message) => message.full_name().to_owned(),
        Type::Enum(of) => of.full_name().to_owned(),
        scalar => format!("{scalar:?}").to_lowercase(),
    }
}
