//! Protobuf: files of proto2 and proto3, as text or as a descriptor in base64.
//!
//! In reading order: the model here, `parse` (to descriptors, with imports; `custom` for
//! what descriptors in bytes hold more), `write` (the canonical form and the normalized
//! one) with `options` and `normal`, `check` (the differences).

mod check;
mod custom;
mod known;
mod normal;
mod options;
mod parse;
mod write;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost_types::FileDescriptorProto;

use crate::formats::{Invalid, Referenced};

pub(crate) use self::check::problems;

/// A parsed file with all that it imports.
#[derive(Debug)]
pub(crate) struct Schema {
    /// As it was written: names of types as they stand there.
    written: FileDescriptorProto,
    /// With names of types in full.
    resolved: FileDescriptorProto,
    /// The resolved file as bytes, with options that only its imports know.
    bytes: Vec<u8>,
    /// What it imports, directly or not, resolved.
    imports: Vec<Import>,
}

#[derive(Debug)]
struct Import {
    file: FileDescriptorProto,
    /// The subject and version that it came from; none for files that everybody has.
    place: Option<(String, i32)>,
}

impl Schema {
    /// Reads a file.
    pub(crate) fn parse(text: &str, references: &[Referenced]) -> Result<Self, Invalid> {
        parse::parse(text, references)
    }

    /// The text, in one layout and without comments.
    pub(crate) fn canonical(&self) -> String {
        write::file(&self.written, write::Layout::AsWritten)
    }

    /// The canonical form without what makes no difference: names in full, imports, options and fields sorted.
    pub(crate) fn normalized(&self) -> String {
        write::file(&normal::file(&self.resolved, &self.written), write::Layout::Sorted)
    }

    /// The descriptor in base64.
    pub(crate) fn serialized(&self) -> Result<String, Invalid> {
        Ok(STANDARD.encode(&self.bytes))
    }

    /// Whether the first message has a field of this name.
    pub(crate) fn has_field(&self, name: &str) -> bool {
        let first = self.resolved.message_type.first();
        first.is_some_and(|message| message.field.iter().any(|field| field.name() == name))
    }
}
