//! What a reader with one file makes wrong of data that was written with another. Only differences that are incompatible are
//! noted.
//!
//! Fields are told apart by their numbers, and their names mean nothing. Numbers of one group may take each other's place, as
//! they are written in the same way; an enum is such a number.

use std::collections::{BTreeMap, HashMap, HashSet};

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorProto};

use super::Schema;
use crate::formats::{Effort, PROBLEMS_MAX, Problem, TooComplex, clipped};

/// What keeps `reader` from reading what `writer` wrote.
pub(crate) fn problems(reader: &Schema, writer: &Schema) -> Result<Vec<Problem>, TooComplex> {
    let mut check =
        Check { old: Types::of(writer), new: Types::of(reader), busy: HashSet::new(), effort: Effort::default() };
    let mut found = Vec::new();
    if writer.resolved.package() != reader.resolved.package() {
        note(&mut found, "PACKAGE_CHANGED", "");
    }
    check.messages("", &writer.resolved.message_type, &reader.resolved.message_type, &mut found)?;
    let problem =
        |(kind, path): (&'static str, String)| Problem { kind, path: format!("#/{path}"), info: None, describe };
    Ok(found.into_iter().map(problem).collect())
}

/// Differences with their paths.
type Found = Vec<(&'static str, String)>;

fn note(found: &mut Found, kind: &'static str, path: &str) {
    if found.len() < PROBLEMS_MAX {
        found.push((kind, clipped(path.to_owned())));
    }
}

/// All messages that a file knows, by their full names.
struct Types<'a>(HashMap<String, Known<'a>>);

struct Known<'a> {
    message: &'a DescriptorProto,
    /// The name without the package.
    local: String,
    place: Place<'a>,
}

/// Where a message is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place<'a> {
    Main,
    Everybodys,
    Subject(&'a str, i32),
}

impl<'a> Types<'a> {
    fn of(schema: &'a Schema) -> Self {
        let mut types = Self(HashMap::new());
        for import in &schema.imports {
            let place =
                import.place.as_ref().map_or(Place::Everybodys, |(subject, version)| Place::Subject(subject, *version));
            types.add_file(&import.file, place);
        }
        types.add_file(&schema.resolved, Place::Main);
        types
    }

    fn add_file(&mut self, file: &'a FileDescriptorProto, place: Place<'a>) {
        let package = if file.package().is_empty() { String::new() } else { format!("{}.", file.package()) };
        let mut waiting: Vec<(String, &DescriptorProto)> =
            file.message_type.iter().map(|message| (message.name().to_owned(), message)).collect();
        while let Some((local, message)) = waiting.pop() {
            waiting.extend(message.nested_type.iter().map(|nested| (format!("{local}.{}", nested.name()), nested)));
            self.0.insert(format!(".{package}{local}"), Known { message, local, place });
        }
    }
}

struct Check<'a> {
    old: Types<'a>,
    new: Types<'a>,
    /// Messages of imports that are being compared: names of recursive ones come again.
    busy: HashSet<(String, String)>,
    effort: Effort,
}

/// What a field is written as.
#[derive(Debug)]
enum Kind<'a> {
    Scalar(Scalar),
    Map(&'a DescriptorProto),
    Message(&'a str),
}

/// Scalars that are written in the same way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scalar {
    Number,
    Signed,
    Text,
    Fixed32,
    Fixed64,
    Float,
    Double,
}

impl<'a> Check<'a> {
    /// Messages of two lists by their names; `above` is the path of what they are in.
    fn messages(
        &mut self,
        above: &str,
        old: &'a [DescriptorProto],
        new: &'a [DescriptorProto],
        found: &mut Found,
    ) -> Result<(), TooComplex> {
        self.effort.spend(old.len() + new.len())?;
        let by_name: HashMap<&str, &DescriptorProto> = new.iter().map(|message| (message.name(), message)).collect();
        for message in old {
            let path = join(above, message.name());
            match by_name.get(message.name()) {
                // Maps are compared as the fields that they are of.
                Some(update) if is_entry(message) && is_entry(update) => {}
                Some(update) => self.message(&path, message, update, found)?,
                None if is_entry(message) => {}
                None => note(found, "MESSAGE_REMOVED", &path),
            }
        }
        Ok(())
    }

    fn message(
        &mut self,
        path: &str,
        old: &'a DescriptorProto,
        new: &'a DescriptorProto,
        found: &mut Found,
    ) -> Result<(), TooComplex> {
        self.effort.enter()?;
        self.effort.spend(old.field.len() + new.field.len())?;
        let (was, is) = (Members::of(old), Members::of(new));
        self.moves(path, &was, &is, found);
        for (name, fields) in &was.oneofs {
            if !is.oneofs.contains_key(name) {
                continue;
            }
            for number in fields.iter().filter(|number| !is.fields.contains_key(number)) {
                note(found, "ONEOF_FIELD_REMOVED", &join(&join(path, name), &number.to_string()));
            }
        }
        for (number, field) in &was.fields {
            let here = match (was.oneof_of(*number), is.oneof_of(*number)) {
                (Some(old), Some(new)) if old == new => join(&join(path, old), &number.to_string()),
                _ => join(path, &number.to_string()),
            };
            match is.fields.get(number) {
                Some(update) => self.field(&here, (field, old), (update, new), found)?,
                None if field.label() == Label::Required => note(found, "REQUIRED_FIELD_REMOVED", &here),
                None => {}
            }
        }
        for (number, field) in is.fields.iter().filter(|(number, _)| !was.fields.contains_key(number)) {
            if field.label() == Label::Required {
                note(found, "REQUIRED_FIELD_ADDED", &join(path, &number.to_string()));
            }
        }
        self.messages(path, &old.nested_type, &new.nested_type, found)?;
        self.effort.leave();
        Ok(())
    }

    /// A oneof keeps one of its fields only: so of fields that were written side by side, or beside what the oneof already
    /// had, some would be lost.
    fn moves(&self, path: &str, was: &Members<'_>, is: &Members<'_>, found: &mut Found) {
        for (name, fields) in &is.oneofs {
            let moved = fields
                .iter()
                .filter(|number| was.fields.contains_key(number) && was.oneof_of(**number).is_none())
                .count();
            let had = fields.iter().filter(|number| was.oneof_of(**number).is_some()).count();
            if moved > 1 {
                note(found, "MULTIPLE_FIELDS_MOVED_TO_ONEOF", &join(path, name));
            } else if moved == 1 && had > 0 {
                note(found, "FIELD_MOVED_TO_EXISTING_ONEOF", &join(path, name));
            }
        }
    }

    fn field(
        &mut self,
        path: &str,
        (old, in_old): (&'a FieldDescriptorProto, &'a DescriptorProto),
        (new, in_new): (&'a FieldDescriptorProto, &'a DescriptorProto),
        found: &mut Found,
    ) -> Result<(), TooComplex> {
        self.effort.spend(1)?;
        let kinds = (kind_of(&self.old, old), kind_of(&self.new, new));
        match kinds {
            (Kind::Scalar(was), Kind::Scalar(is)) if was != is => note(found, "FIELD_SCALAR_KIND_CHANGED", path),
            (Kind::Scalar(Scalar::Text), Kind::Scalar(_)) => {}
            (Kind::Scalar(_), Kind::Scalar(_)) => {
                let labels = (label_of(old, in_old), label_of(new, in_new));
                if matches!(labels, (Some(was), Some(is)) if was != is) {
                    note(found, "FIELD_NUMERIC_LABEL_CHANGED", path);
                }
            }
            (Kind::Map(was), Kind::Map(is)) => {
                let by_number =
                    |entry: &'a DescriptorProto, number: i32| entry.field.iter().find(|field| field.number() == number);
                for number in [1, 2] {
                    if let (Some(one), Some(two)) = (by_number(was, number), by_number(is, number)) {
                        self.field(path, (one, was), (two, is), found)?;
                    }
                }
            }
            (Kind::Message(was), Kind::Message(is)) => self.named(path, was, is, found)?,
            _ => note(found, "FIELD_KIND_CHANGED", path),
        }
        Ok(())
    }

    /// Fields whose types are messages: these have to be the same but for the package, and if they come from elsewhere, their
    /// fields have to fit too. Messages of the file itself are compared where they are.
    fn named(&mut self, path: &str, was: &'a str, is: &'a str, found: &mut Found) -> Result<(), TooComplex> {
        let (Some(old), Some(new)) = (self.old.0.get(was), self.new.0.get(is)) else {
            if was != is {
                note(found, "FIELD_NAMED_TYPE_CHANGED", path);
            }
            return Ok(());
        };
        if old.local != new.local {
            note(found, "FIELD_NAMED_TYPE_CHANGED", path);
            return Ok(());
        }
        let pair = (was.to_owned(), is.to_owned());
        if old.place == new.place || !self.busy.insert(pair.clone()) {
            return Ok(());
        }
        let (local, old, new) = (old.local.replace('.', "/"), old.message, new.message);
        let mut below = Found::new();
        self.message(&local, old, new, &mut below)?;
        self.busy.remove(&pair);
        let is_incompatible = !below.is_empty();
        for (kind, path) in &below {
            self.effort.copy(path.len())?;
            note(found, kind, path);
        }
        if is_incompatible {
            note(found, "FIELD_NAMED_TYPE_CHANGED", path);
        }
        Ok(())
    }
}

/// The fields of a message by number, and its oneofs, but for those that `optional` makes.
struct Members<'a> {
    fields: BTreeMap<i32, &'a FieldDescriptorProto>,
    oneofs: BTreeMap<&'a str, Vec<i32>>,
    oneof_of: HashMap<i32, &'a str>,
}

impl<'a> Members<'a> {
    fn of(message: &'a DescriptorProto) -> Self {
        let mut members = Self { fields: BTreeMap::new(), oneofs: BTreeMap::new(), oneof_of: HashMap::new() };
        for field in &message.field {
            members.fields.insert(field.number(), field);
            let oneof = field.oneof_index.filter(|_| !field.proto3_optional());
            let oneof = oneof.and_then(|index| message.oneof_decl.get(usize::try_from(index).ok()?));
            if let Some(oneof) = oneof {
                members.oneofs.entry(oneof.name()).or_default().push(field.number());
                members.oneof_of.insert(field.number(), oneof.name());
            }
        }
        members
    }

    fn oneof_of(&self, number: i32) -> Option<&'a str> {
        self.oneof_of.get(&number).copied()
    }
}

fn kind_of<'a>(types: &Types<'a>, field: &'a FieldDescriptorProto) -> Kind<'a> {
    Kind::Scalar(match field.r#type() {
        Type::Int32 | Type::Int64 | Type::Uint32 | Type::Uint64 | Type::Bool | Type::Enum => Scalar::Number,
        Type::Sint32 | Type::Sint64 => Scalar::Signed,
        Type::String | Type::Bytes => Scalar::Text,
        Type::Fixed32 | Type::Sfixed32 => Scalar::Fixed32,
        Type::Fixed64 | Type::Sfixed64 => Scalar::Fixed64,
        Type::Float => Scalar::Float,
        Type::Double => Scalar::Double,
        Type::Message | Type::Group => {
            return match types.0.get(field.type_name()) {
                Some(known) if is_entry(known.message) => Kind::Map(known.message),
                _ => Kind::Message(field.type_name()),
            };
        }
    })
}

/// The label that is written, if one is; fields of oneofs and maps have none.
fn label_of(field: &FieldDescriptorProto, message: &DescriptorProto) -> Option<Label> {
    let has_none = is_entry(message) || field.oneof_index.is_some() && !field.proto3_optional();
    field.label.filter(|_| !has_none).map(|_| field.label())
}

fn is_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry())
}

fn join(path: &str, part: &str) -> String {
    if path.is_empty() { part.to_owned() } else { format!("{path}/{part}") }
}

fn describe(problem: &Problem, reader: &str, writer: &str) -> String {
    let path = &problem.path;
    match problem.kind {
        "PACKAGE_CHANGED" => format!("{path}: the {reader} file names another package than the {writer} one"),
        "MESSAGE_REMOVED" => format!("{path}: this message of the {writer} file is not in the {reader} one"),
        "FIELD_KIND_CHANGED" => {
            format!(
                "{path}: the field is of one kind (scalar, map or message) in the {reader} file and of another in the {writer} one"
            )
        }
        "FIELD_SCALAR_KIND_CHANGED" => {
            format!(
                "{path}: the scalar type that the field has in the {reader} file is not encoded as its {writer} type is"
            )
        }
        "FIELD_NAMED_TYPE_CHANGED" => {
            format!(
                "{path}: the message type that the field has in the {reader} file cannot stand for its {writer} type"
            )
        }
        "FIELD_NUMERIC_LABEL_CHANGED" => {
            format!("{path}: how often the number may occur differs between the {reader} file and the {writer} one")
        }
        "REQUIRED_FIELD_ADDED" => {
            format!("{path}: the {reader} file requires this field, and the {writer} one does not know it")
        }
        "REQUIRED_FIELD_REMOVED" => {
            format!("{path}: the {writer} file requires this field, and the {reader} one does not know it")
        }
        "ONEOF_FIELD_REMOVED" => {
            format!("{path}: the {reader} file has lost this field of a oneof that the {writer} one has too")
        }
        "MULTIPLE_FIELDS_MOVED_TO_ONEOF" => {
            format!(
                "{path}: the {reader} file puts into this oneof several fields that stand alone in the {writer} one"
            )
        }
        _ => format!("{path}: the {reader} file adds to this oneof of the {writer} one a field that stood alone there"),
    }
}
