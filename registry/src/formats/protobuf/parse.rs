//! From text or bytes to descriptors, and the files that everybody has.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::Message as _;
use prost_types::field_descriptor_proto::Label;
use prost_types::{DescriptorProto, FileDescriptorProto};
use protox::file::{File, FileResolver, GoogleFileResolver};
use protox::{Compiler, Error};

use super::known::KNOWN;
use super::{Import, Schema, custom, write};
use crate::formats::{Invalid, Referenced};

/// The name of a file that has none.
const UNNAMED: &str = "default.proto";
/// How deep brackets may be nested. The parser recurses, so this is checked before it runs.
const NESTING_MAX: usize = 64;

pub(super) fn parse(text: &str, references: &[Referenced]) -> Result<Schema, Invalid> {
    let main = free_name(references);
    let file = source(&main, text)?;
    let mut written = FileDescriptorProto { name: None, ..file.file_descriptor_proto().clone() };
    let mut files = vec![file];
    for reference in references {
        let file = source(&reference.name, &reference.text).map_err(|error| error.within(&reference.name))?;
        files.push(file);
    }
    let mut compiler = Compiler::with_file_resolver(Files { files, google: GoogleFileResolver::new() });
    compiler.include_imports(true).include_source_info(false);
    compiler.open_file(&main).map_err(|error| Invalid::new(explain(&error)))?;
    let pool = compiler.descriptor_pool();
    let compiled = pool.get_file_by_name(&main).ok_or_else(|| Invalid::new("the file was not compiled"))?;
    let resolved = tidy(compiled.file_descriptor_proto());
    let bytes = compiled.encode_to_vec();
    if from_base64(text).is_some() {
        let known = written.clone();
        custom::restore(&mut written, &bytes, &pool);
        if written != known {
            // Values of options have one form when they are read from a text, and that is what is kept.
            let text = write::file(&tidy(&written), write::Layout::AsWritten);
            written = FileDescriptorProto { name: None, ..source(&main, &text)?.file_descriptor_proto().clone() };
        }
    }
    let imports = pool.files().filter(|file| file.name() != main).map(|file| {
        let reference = references.iter().find(|reference| reference.name == file.name());
        Import { file: tidy(file.file_descriptor_proto()), place: reference.map(|reference| reference.place.clone()) }
    });
    let imports = imports.collect();
    Ok(Schema { written: tidy(&written), resolved, bytes, imports })
}

/// A file without places in its source, and without labels that nobody wrote: in proto3 a field needs none, which is not the
/// same as `optional`.
fn tidy(file: &FileDescriptorProto) -> FileDescriptorProto {
    let mut file = FileDescriptorProto { source_code_info: None, ..file.clone() };
    if file.syntax() == "proto3" {
        file.message_type.iter_mut().for_each(drop_labels);
    }
    file
}

fn drop_labels(message: &mut DescriptorProto) {
    for field in message.field.iter_mut().filter(|field| field.label() == Label::Optional && !field.proto3_optional()) {
        field.label = None;
    }
    message.nested_type.iter_mut().for_each(drop_labels);
}

/// A name for the main file that no import has.
fn free_name(references: &[Referenced]) -> String {
    let mut name = UNNAMED.to_owned();
    while references.iter().any(|reference| reference.name == name) {
        name.insert(0, '_');
    }
    name
}

/// A file as it is written, without looking at what it imports, under a name that it gets here.
fn source(name: &str, text: &str) -> Result<File, Invalid> {
    if let Some(mut bytes) = from_base64(text) {
        // Of two names the last one counts. The bytes are kept as they are, with options that nobody knows yet.
        let name = FileDescriptorProto { name: Some(name.to_owned()), ..FileDescriptorProto::default() };
        bytes.extend(name.encode_to_vec());
        return File::decode_file_descriptor_proto(bytes.as_slice()).map_err(|error| Invalid::new(error.to_string()));
    }
    check_nesting(text)?;
    File::from_source(name, text).map_err(|error| Invalid::new(explain(&error)))
}

/// The bytes of a descriptor. A text that can be base64 is none of Protobuf's, but for the empty one.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let text = text.trim();
    if text.is_empty() {
        return None;
    }
    let bytes = STANDARD.decode(text).ok()?;
    FileDescriptorProto::decode(bytes.as_slice()).ok().map(|_| bytes)
}

/// Refuses brackets that are nested too deeply, wherever they are not in texts or comments.
fn check_nesting(text: &str) -> Result<(), Invalid> {
    let mut depth = 0_usize;
    let mut bytes = text.bytes().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' | b'\'' => {
                while let Some(inner) = bytes.next() {
                    match inner {
                        b'\\' => _ = bytes.next(),
                        b'\n' => break,
                        _ if inner == byte => break,
                        _ => {}
                    }
                }
            }
            b'/' if bytes.peek() == Some(&b'/') => while bytes.next().is_some_and(|inner| inner != b'\n') {},
            b'/' if bytes.peek() == Some(&b'*') => {
                bytes.next();
                let mut last = 0;
                for inner in bytes.by_ref() {
                    if last == b'*' && inner == b'/' {
                        break;
                    }
                    last = inner;
                }
            }
            b'{' | b'[' | b'(' | b'<' => depth += 1,
            b'}' | b']' | b')' | b'>' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > NESTING_MAX {
            return Err(Invalid::new(format!("brackets are nested more than {NESTING_MAX} deep")));
        }
    }
    Ok(())
}

/// What is wrong, with what is under it, but without names of files that clients never saw.
fn explain(error: &Error) -> String {
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

/// The files of one schema.
struct Files {
    files: Vec<File>,
    google: GoogleFileResolver,
}

impl FileResolver for Files {
    fn open_file(&self, name: &str) -> Result<File, Error> {
        if let Some(file) = self.files.iter().find(|file| file.name() == name) {
            return Ok(file.clone());
        }
        match KNOWN.iter().find(|(known, _)| *known == name) {
            Some((_, text)) => File::from_source(name, text),
            None => self.google.open_file(name),
        }
    }
}
