//! Schemas: read from texts and compiled files, and made of the columns of a table.

use std::fmt::Write as _;

use arrow::datatypes::{DataType, FieldRef, Fields};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use protox::file::{File, FileResolver, GoogleFileResolver};
use protox::prost_reflect::{DescriptorPool, FileDescriptor, MessageDescriptor};
use protox::{Compiler, Error as ProtoxError};
use tereza_runtime::{Error, Result};

use crate::format::Reason;
use crate::format::column::{Kind, entry_fields};

/// The name of a file that has none.
const UNNAMED: &str = "default.proto";
/// How deep brackets may be nested. The parser recurses, so this is checked before it runs.
const NESTING_MAX: usize = 64;
/// Bytes of a text.
const TEXT_MAX: usize = 4 << 20;

/// Compiles a text. `references` are the names and texts of what it may import, beside the files of Google.
pub(super) fn compile(text: &str, references: &[(String, String)]) -> Result<FileDescriptor, Reason> {
    let mut name = UNNAMED.to_owned();
    while references.iter().any(|(known, _)| *known == name) {
        name.insert(0, '_');
    }
    let mut files = vec![source(&name, text)?];
    for (name, text) in references {
        files.push(source(name, text).map_err(|reason| format!("{name}: {reason}"))?);
    }
    let mut compiler = Compiler::with_file_resolver(Files { files, google: GoogleFileResolver::new() });
    compiler.include_imports(true).include_source_info(false);
    compiler.open_file(&name).map_err(|error| explain(&error))?;
    compiler.descriptor_pool().get_file_by_name(&name).ok_or_else(|| "the file was not compiled".to_owned())
}

/// The messages of a text, or of a `FileDescriptorSet` in base64 as `protoc --include_imports` writes it.
pub(super) fn pool(schema: &str) -> Result<DescriptorPool, Reason> {
    let packed: String = schema.split_whitespace().collect();
    if let Ok(bytes) = STANDARD.decode(&packed)
        && !bytes.is_empty()
    {
        return DescriptorPool::decode(bytes.as_slice()).map_err(|error| format!("no set of descriptors: {error}"));
    }
    compile(schema, &[]).map(|file| file.parent_pool().clone())
}

/// A message by its name, or by that of the class that Java has for it.
pub(super) fn message(pool: &DescriptorPool, name: &str) -> Option<MessageDescriptor> {
    let dotted = name.replace('$', ".");
    pool.get_message_by_name(&dotted).or_else(|| pool.all_messages().find(|message| is_class(message, &dotted)))
}

/// Whether a class, with dots before inner ones too, is that of a message: the package, maybe the class of the file, the message.
fn is_class(message: &MessageDescriptor, class: &str) -> bool {
    let file = message.parent_file();
    let java = file.file_descriptor_proto().options.as_ref().and_then(|options| options.java_package.clone());
    let package = java.unwrap_or_else(|| file.package_name().to_owned());
    let name = match file.package_name() {
        "" => message.full_name(),
        package => message.full_name().strip_prefix(package).unwrap_or_default().trim_start_matches('.'),
    };
    let inner = match package.as_str() {
        "" => Some(class),
        package => class.strip_prefix(package).and_then(|rest| rest.strip_prefix('.')),
    };
    inner.is_some_and(|inner| inner == name || inner.split_once('.').is_some_and(|(_, behind)| behind == name))
}

/// The message at a path of places: among those of the file, then among those inside of each.
pub(super) fn at(file: &FileDescriptor, path: &[usize]) -> Option<MessageDescriptor> {
    let (first, inner) = path.split_first()?;
    let mut found = file.messages().nth(*first)?;
    for place in inner {
        let inside = found.child_messages().filter(|message| !message.is_map_entry()).nth(*place)?;
        found = inside;
    }
    Some(found)
}

fn source(name: &str, text: &str) -> Result<File, Reason> {
    if text.len() > TEXT_MAX {
        return Err(format!("it has more than {TEXT_MAX} bytes"));
    }
    check_nesting(text)?;
    File::from_source(name, text).map_err(|error| explain(&error))
}

/// Refuses brackets that are nested too deeply. Those in texts and comments do not count.
fn check_nesting(text: &str) -> Result<(), Reason> {
    let mut rest = text;
    let mut depth = 0_usize;
    while let Some(character) = rest.chars().next() {
        let behind = &rest[character.len_utf8()..];
        rest = match character {
            '"' | '\'' => end_of_text(behind, character),
            '/' if behind.starts_with('/') => behind.split_once('\n').map_or("", |(_, rest)| rest),
            '/' if behind.starts_with('*') => behind[1..].split_once("*/").map_or("", |(_, rest)| rest),
            '{' | '[' | '(' | '<' => {
                depth += 1;
                behind
            }
            '}' | ']' | ')' | '>' => {
                depth = depth.saturating_sub(1);
                behind
            }
            _ => behind,
        };
        if depth > NESTING_MAX {
            return Err(format!("brackets are nested more than {NESTING_MAX} deep"));
        }
    }
    Ok(())
}

/// What is behind a text that began with this quote, which ends at the end of its line at the latest.
fn end_of_text(text: &str, quote: char) -> &str {
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => _ = characters.next(),
            '\n' => break,
            _ if character == quote => break,
            _ => {}
        }
    }
    characters.as_str()
}

/// What is wrong, with what is under it.
fn explain(error: &ProtoxError) -> Reason {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(below) = source {
        let more = below.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = below.source();
    }
    text
}

struct Files {
    files: Vec<File>,
    google: GoogleFileResolver,
}

impl FileResolver for Files {
    fn open_file(&self, name: &str) -> Result<File, ProtoxError> {
        match self.files.iter().find(|file| file.name() == name) {
            Some(file) => Ok(file.clone()),
            None => self.google.open_file(name),
        }
    }
}

/// The text of a schema with one message whose fields are columns, numbered in their order. Errors: `Unsupported` names a
/// column that Protobuf has no field for.
pub(super) fn of_table(fields: &Fields) -> Result<String> {
    let mut body = String::new();
    write_message("Row", fields, 0, &mut body)?;
    let import = match body.contains("google.protobuf.Timestamp") {
        true => "import \"google/protobuf/timestamp.proto\";\n\n",
        false => "",
    };
    Ok(format!("syntax = \"proto3\";\n\n{import}{body}"))
}

fn write_message(name: &str, fields: &Fields, depth: usize, out: &mut String) -> Result<()> {
    let tab = "  ".repeat(depth);
    let written = |error: std::fmt::Error| Error::internal(error.to_string());
    writeln!(out, "{tab}message {name} {{").map_err(written)?;
    for (number, field) in (1..).zip(fields) {
        let named = |error: Error| error.context(format!("column `{}`", field.name()));
        if !is_identifier(field.name()) {
            return Err(named(Error::unsupported("a name in Protobuf of other characters than letters, digits and _")));
        }
        let (label, is, row) = type_of(field, fields).map_err(named)?;
        if let Some((row, inner)) = row {
            write_message(&row, inner, depth + 1, out)?;
        }
        writeln!(out, "{tab}  {label}{is} {} = {number};", field.name()).map_err(written)?;
    }
    writeln!(out, "{tab}}}").map_err(written)
}

fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// A message that is to be declared beside a field, and its fields.
type Row<'a> = Option<(String, &'a Fields)>;

/// Label and type of a field.
fn type_of<'a>(field: &'a FieldRef, beside: &Fields) -> Result<(&'static str, String, Row<'a>)> {
    let mut row = format!("{}_row", field.name());
    while beside.iter().any(|other| *other.name() == row) {
        row.push('_');
    }
    match field.data_type() {
        DataType::List(item) => {
            let (is, row) = single(item.data_type(), row)?;
            Ok(("repeated ", is, row))
        }
        DataType::Map(entries, _) => {
            let (key, value) = entry_fields(entries)?;
            let (of_key, _) = single(key.data_type(), String::new())?;
            if !["bool", "int32", "int64", "string"].contains(&of_key.as_str()) {
                return Err(Error::unsupported(format!("Protobuf of a map with keys of type {}", key.data_type())));
            }
            let (of_value, row) = single(value.data_type(), row)?;
            Ok(("", format!("map<{of_key}, {of_value}>"), row))
        }
        other => {
            let (is, row) = single(other, row)?;
            Ok((if field.is_nullable() { "optional " } else { "" }, is, row))
        }
    }
}

fn single(data_type: &DataType, row: String) -> Result<(String, Row<'_>)> {
    let name = match (Kind::of(data_type)?, data_type) {
        (Kind::Bool, _) => "bool",
        (Kind::I8 | Kind::I16 | Kind::I32, _) => "int32",
        (Kind::I64, _) => "int64",
        (Kind::F32, _) => "float",
        (Kind::F64, _) => "double",
        (Kind::Text, _) => "string",
        (Kind::Bytes, _) => "bytes",
        (Kind::Timestamp { .. }, _) => "google.protobuf.Timestamp",
        (_, DataType::Struct(fields)) => return Ok((row.clone(), Some((row, fields)))),
        _ => return Err(Error::unsupported(format!("Protobuf of type {data_type}"))),
    };
    Ok((name.to_owned(), None))
}
