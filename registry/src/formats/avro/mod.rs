//! Avro: schemas as Java's library reads and writes them (Avro 1.11, <https://avro.apache.org/docs/1.11.1/specification/>).
//!
//! In reading order: the model here, `parse`, `write` (the canonical form, and the normalized one), `check` (which data of
//! a writer a reader cannot read).

mod check;
mod parse;
mod write;

use std::collections::HashMap;

use crate::formats::{Invalid, Referenced};
use crate::json::{Json, Object};

pub(crate) use self::check::problems;

/// Where a type is in [`Schema::types`].
type TypeId = usize;

/// A parsed schema with all that it refers to.
#[derive(Debug)]
pub(crate) struct Schema {
    types: Vec<Type>,
    root: TypeId,
    /// Full names that other schemas define, which the canonical form leaves to them.
    foreign: HashMap<String, TypeId>,
}

/// One type with the properties that Avro does not know.
#[derive(Debug)]
struct Type {
    shape: Shape,
    properties: Object,
}

#[derive(Debug)]
enum Shape {
    Primitive(Primitive),
    Array(TypeId),
    Map(TypeId),
    Union(Vec<TypeId>),
    Record { named: Named, is_error: bool, fields: Vec<Field> },
    Enum { named: Named, symbols: Vec<String>, default: Option<String> },
    Fixed { named: Named, size: u64 },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Primitive {
    Null,
    Boolean,
    Int,
    Long,
    Float,
    Double,
    Bytes,
    String,
}

impl Primitive {
    const ALL: [Self; 8] =
        [Self::Null, Self::Boolean, Self::Int, Self::Long, Self::Float, Self::Double, Self::Bytes, Self::String];

    fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|primitive| primitive.name() == name)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Boolean => "boolean",
            Self::Int => "int",
            Self::Long => "long",
            Self::Float => "float",
            Self::Double => "double",
            Self::Bytes => "bytes",
            Self::String => "string",
        }
    }
}

/// What records, enums and fixeds have.
#[derive(Debug, Clone)]
struct Named {
    name: Name,
    doc: Option<String>,
    aliases: Vec<Name>,
}

/// A name with its namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name {
    space: Option<String>,
    name: String,
}

impl Name {
    fn full(&self) -> String {
        match &self.space {
            Some(space) => format!("{space}.{}", self.name),
            None => self.name.clone(),
        }
    }

    /// As it is written where `space` is the namespace around.
    fn within(&self, space: Option<&str>) -> String {
        if self.space.as_deref() == space { self.name.clone() } else { self.full() }
    }
}

#[derive(Debug)]
struct Field {
    name: String,
    doc: Option<String>,
    kind: TypeId,
    default: Option<Json>,
    order: Order,
    aliases: Vec<String>,
    properties: Object,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Ascending,
    Descending,
    Ignore,
}

impl Order {
    const fn name(self) -> &'static str {
        match self {
            Self::Ascending => "ascending",
            Self::Descending => "descending",
            Self::Ignore => "ignore",
        }
    }
}

impl Schema {
    /// Reads a schema. Defaults are checked only if `is_new`, as one that was let through before has to be read again.
    pub(crate) fn parse(text: &str, references: &[Referenced], is_new: bool) -> Result<Self, Invalid> {
        parse::parse(text, references, is_new)
    }

    /// As Java writes it.
    pub(crate) fn canonical(&self) -> String {
        write::canonical(self)
    }

    /// The canonical form with everything that other schemas define written out.
    pub(crate) fn resolved(&self) -> Result<String, Invalid> {
        write::resolved(self)
    }

    /// The canonical form without what makes no difference: names written in full, properties sorted.
    pub(crate) fn normalized(&self) -> String {
        write::normalized(self)
    }

    /// Whether the record at the top has a field of this name.
    pub(crate) fn has_field(&self, name: &str) -> bool {
        match self.shape(self.root) {
            Shape::Record { fields, .. } => fields.iter().any(|field| field.name == name),
            _ => false,
        }
    }

    fn shape(&self, id: TypeId) -> &Shape {
        &self.types[id].shape
    }

    /// What a type's name is, if it has one.
    fn named(&self, id: TypeId) -> Option<&Named> {
        match self.shape(id) {
            Shape::Record { named, .. } | Shape::Enum { named, .. } | Shape::Fixed { named, .. } => Some(named),
            _ => None,
        }
    }

    /// The kind of a type, as Java's errors write it.
    fn kind_name(&self, id: TypeId) -> &'static str {
        match self.shape(id) {
            Shape::Primitive(primitive) => match primitive {
                Primitive::Null => "NULL",
                Primitive::Boolean => "BOOLEAN",
                Primitive::Int => "INT",
                Primitive::Long => "LONG",
                Primitive::Float => "FLOAT",
                Primitive::Double => "DOUBLE",
                Primitive::Bytes => "BYTES",
                Primitive::String => "STRING",
            },
            Shape::Array(_) => "ARRAY",
            Shape::Map(_) => "MAP",
            Shape::Union(_) => "UNION",
            Shape::Record { .. } => "RECORD",
            Shape::Enum { .. } => "ENUM",
            Shape::Fixed { .. } => "FIXED",
        }
    }
}
