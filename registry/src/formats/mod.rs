//! What schemas mean: reading them, writing them in one form, and finding out what a reader of one cannot read of another.
//!
//! Everything here is a function of texts: no store, no clock. Texts come from whoever may write to the registry, so work,
//! depth and what is found are bounded ([`Effort`], [`PROBLEMS_MAX`]); their length is bounded by the server.
//!
//! In reading order: this file, `avro`, `json`, `protobuf`.

mod avro;
mod json;
mod protobuf;

use std::fmt;

/// How many problems one comparison names at most.
pub const PROBLEMS_MAX: usize = 500;
/// Steps that one comparison takes at most; a pair of types, a field or a found problem is one.
const STEPS_MAX: usize = 500_000;
/// Bytes of what is said of a problem that are copied in one step.
const BYTES_PER_STEP: usize = 64;
/// How deep a comparison goes at most. Types that name one another may go as deep as there are types.
const DEPTH_MAX: usize = 200;

/// Bytes of a path, or of what else is said of a problem: names in schemas may be as long as schemas.
const SHOWN_BYTES: usize = 1_000;

/// A text that is not longer than what is shown.
fn clipped(mut text: String) -> String {
    if text.len() > SHOWN_BYTES {
        let end = (0..=SHOWN_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or_default();
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The format of a schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Avro.
    Avro,
    /// JSON Schema.
    Json,
    /// Protobuf.
    Protobuf,
}

impl Format {
    /// All, in the order that clients are told.
    pub const ALL: [Self; 3] = [Self::Json, Self::Protobuf, Self::Avro];

    /// The name in the protocol.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Avro => "AVRO",
            Self::Json => "JSON",
            Self::Protobuf => "PROTOBUF",
        }
    }

    /// The format of that name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// A schema that another one refers to, directly or through others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Referenced {
    /// The name that is used for it.
    pub name: String,
    /// The subject and version that it is of.
    pub place: (String, i32),
    /// The schema in its canonical form.
    pub text: String,
}

/// Why a text is no schema.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

impl Invalid {
    fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }

    fn within(self, reference: &str) -> Self {
        Self(format!("reference '{reference}': {}", self.0))
    }
}

/// Two schemas are too large or too nested to be compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the schemas are too complex to compare")]
pub struct TooComplex;

/// What a comparison may still spend.
#[derive(Debug)]
struct Effort {
    steps: usize,
    depth: usize,
}

impl Default for Effort {
    fn default() -> Self {
        Self { steps: STEPS_MAX, depth: DEPTH_MAX }
    }
}

impl Effort {
    fn spend(&mut self, steps: usize) -> Result<(), TooComplex> {
        self.steps = self.steps.checked_sub(steps).ok_or(TooComplex)?;
        Ok(())
    }

    /// For a problem that is copied, with so many bytes.
    fn copy(&mut self, bytes: usize) -> Result<(), TooComplex> {
        self.spend(1 + bytes / BYTES_PER_STEP)
    }

    fn enter(&mut self) -> Result<(), TooComplex> {
        self.depth = self.depth.checked_sub(1).ok_or(TooComplex)?;
        Ok(())
    }

    fn leave(&mut self) {
        self.depth += 1;
    }
}

/// One thing that a reader cannot read.
#[derive(Debug, Clone)]
pub struct Problem {
    /// Its type, as the protocol names it.
    pub kind: &'static str,
    /// Where it is.
    pub path: String,
    /// More of it; only Avro has that.
    pub info: Option<String>,
    /// Says it in a sentence, with what to call the reader's schema and the writer's.
    describe: fn(&Self, reader: &str, writer: &str) -> String,
}

impl Problem {
    /// In a sentence, where `reader` and `writer` are `new` and `old` or the other way round.
    pub fn description(&self, reader: &str, writer: &str) -> String {
        (self.describe)(self, reader, writer)
    }

    /// As the protocol says it.
    pub fn render(&self, reader: &str, writer: &str) -> String {
        let text = self.description(reader, writer);
        match &self.info {
            Some(info) => format!("{{errorType:'{}', description:'{text}', additionalInfo:'{info}'}}", self.kind),
            None if self.kind == FORMAT_CHANGED => text,
            None => format!("{{errorType:\"{}\", description:\"{text}\"}}", self.kind),
        }
    }
}

/// The problem of schemas of two formats.
const FORMAT_CHANGED: &str = "SCHEMA_TYPE_CHANGED";

/// How strict a comparison is, where the protocol leaves a choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// What may be incompatible is.
    #[default]
    Strict,
    /// Properties may be added where others were let through before, if they need not be there.
    Lenient,
}

/// A parsed schema.
pub struct Schema(Parsed);

enum Parsed {
    Avro(avro::Schema),
    Json(json::Schema),
    Protobuf(Box<protobuf::Schema>),
}

impl Schema {
    /// Reads a schema with all that it refers to: what is referred to comes before what refers to it. A new one is checked
    /// more closely than one that was let through before.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(format: Format, text: &str, references: &[Referenced], is_new: bool) -> Result<Self, Invalid> {
        Ok(Self(match format {
            Format::Avro => Parsed::Avro(avro::Schema::parse(text, references, is_new)?),
            Format::Json => Parsed::Json(json::Schema::parse(text, references)?),
            Format::Protobuf => Parsed::Protobuf(Box::new(protobuf::Schema::parse(text, references)?)),
        }))
    }

    /// The format.
    pub fn format(&self) -> Format {
        match self.0 {
            Parsed::Avro(_) => Format::Avro,
            Parsed::Json(_) => Format::Json,
            Parsed::Protobuf(_) => Format::Protobuf,
        }
    }

    /// The text that is kept: without what the format does not know, such as white space.
    pub fn canonical(&self) -> String {
        match &self.0 {
            Parsed::Avro(schema) => schema.canonical(),
            Parsed::Json(schema) => schema.canonical(),
            Parsed::Protobuf(schema) => schema.canonical(),
        }
    }

    /// The text that is kept if clients ask for schemas that mean the same to be the same.
    pub fn normalized(&self) -> String {
        match &self.0 {
            Parsed::Avro(schema) => schema.normalized(),
            Parsed::Json(schema) => schema.normalized(),
            Parsed::Protobuf(schema) => schema.normalized(),
        }
    }

    /// [`Schema::normalized`], of which it is sure that it can be read again.
    ///
    /// # Errors
    /// If it cannot: it must not be kept.
    pub fn checked_normalized(&self, references: &[Referenced]) -> Result<String, Invalid> {
        let text = self.normalized();
        Self::parse(self.format(), &text, references, false)
            .map_err(|error| Invalid(format!("its normal form cannot be read: {error}")))?;
        Ok(text)
    }

    /// The text in another way; none if the format has no such way.
    ///
    /// # Errors
    /// If what the schema refers to does not fit it, or makes it too deep.
    pub fn formatted(&self, way: &str) -> Result<Option<String>, Invalid> {
        match (&self.0, way) {
            (Parsed::Avro(schema), "resolved") => schema.resolved().map(Some),
            (Parsed::Protobuf(schema), "serialized") => schema.serialized().map(Some),
            _ => Ok(None),
        }
    }

    /// Whether a property of this name is at the top.
    pub fn has_top_level_field(&self, name: &str) -> bool {
        match &self.0 {
            Parsed::Avro(schema) => schema.has_field(name),
            Parsed::Json(schema) => schema.has_property(name),
            Parsed::Protobuf(schema) => schema.has_field(name),
        }
    }

    /// What keeps this schema from reading data of `writer`.
    ///
    /// # Errors
    /// If they are too complex.
    pub fn problems(&self, writer: &Self, policy: Policy) -> Result<Vec<Problem>, TooComplex> {
        match (&self.0, &writer.0) {
            (Parsed::Avro(reader), Parsed::Avro(writer)) => avro::problems(reader, writer),
            (Parsed::Json(reader), Parsed::Json(writer)) => json::problems(reader, writer, policy),
            (Parsed::Protobuf(reader), Parsed::Protobuf(writer)) => protobuf::problems(reader, writer),
            _ => Ok(vec![Problem {
                kind: FORMAT_CHANGED,
                path: String::new(),
                info: None,
                describe: |_, _, _| "A schema of one type cannot read data of another type".to_owned(),
            }]),
        }
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Schema").field(&self.format()).finish()
    }
}
