//! Descriptors as text in one layout.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;

use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::uninterpreted_option::NamePart;
use prost_types::{
    DescriptorProto, EnumDescriptorProto, FieldDescriptorProto, FileDescriptorProto, OneofDescriptorProto,
    ServiceDescriptorProto, UninterpretedOption,
};

use super::options::{self, Setting};

/// In which order things come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// As they were written.
    AsWritten,
    /// Imports, options, fields, values and reserved ones sorted. Messages stay, as data names them by their places, and so
    /// does the first value of an enum.
    Sorted,
}

pub(super) fn file(file: &FileDescriptorProto, layout: Layout) -> String {
    let mut writer = Writer { text: String::new(), depth: 0, layout, is_proto3: file.syntax() == "proto3" };
    writer.file(file);
    writer.text
}

struct Writer {
    text: String,
    depth: usize,
    layout: Layout,
    is_proto3: bool,
}

impl Writer {
    fn line(&mut self, line: &str) {
        for _ in 0..self.depth {
            self.text.push_str("  ");
        }
        self.text.push_str(line);
        self.text.push('\n');
    }

    fn begin(&mut self, line: &str) {
        self.line(&format!("{line} {{"));
        self.depth += 1;
    }

    fn end(&mut self) {
        self.depth -= 1;
        self.line("}");
    }

    fn sorted<T>(&self, mut list: Vec<T>, compare: impl FnMut(&T, &T) -> std::cmp::Ordering) -> Vec<T> {
        if self.layout == Layout::Sorted {
            list.sort_by(compare);
        }
        list
    }

    fn file(&mut self, file: &FileDescriptorProto) {
        let syntax = if self.is_proto3 { "proto3" } else { "proto2" };
        if self.is_proto3 || file.syntax.is_some() {
            self.line(&format!("syntax = \"{syntax}\";"));
        }
        if !file.package().is_empty() {
            self.line(&format!("package {};", file.package()));
        }
        let imports = file.dependency.iter().zip(0_i32..).map(|(name, index)| {
            let how = match index {
                _ if file.public_dependency.contains(&index) => "public ",
                _ if file.weak_dependency.contains(&index) => "weak ",
                _ => "",
            };
            format!("import {how}{};", quoted(name.as_bytes()))
        });
        let imports = self.sorted(imports.collect(), Ord::cmp);
        self.section(!imports.is_empty());
        imports.iter().for_each(|import| self.line(import));
        let settings = options::of_file(file.options.as_ref());
        self.section(!settings.is_empty());
        self.options(settings);
        self.section(!file.message_type.is_empty());
        for message in &file.message_type {
            self.message(message);
        }
        for item in &file.enum_type {
            self.enumeration(item);
        }
        self.extensions(&file.extension);
        for service in &file.service {
            self.service(service);
        }
    }

    fn section(&mut self, is_needed: bool) {
        if is_needed && !self.text.is_empty() {
            self.text.push('\n');
        }
    }

    fn options(&mut self, settings: Vec<Setting>) {
        for (name, value) in self.sorted(settings, Ord::cmp) {
            self.line(&format!("option {name} = {value};"));
        }
    }

    /// ` [a = 1, b = 2]`, or nothing.
    fn inline(&self, settings: Vec<Setting>) -> String {
        if settings.is_empty() {
            return String::new();
        }
        let settings = self.sorted(settings, Ord::cmp);
        let shown: Vec<String> = settings.iter().map(|(name, value)| format!("{name} = {value}")).collect();
        format!(" [{}]", shown.join(", "))
    }

    fn message(&mut self, message: &DescriptorProto) {
        self.begin(&format!("message {}", message.name()));
        self.members(message);
        self.end();
    }

    fn members(&mut self, message: &DescriptorProto) {
        let nested = Nested::of(message);
        self.reserved(message);
        self.options(options::of_message(message.options.as_ref()));
        let is_real = |index: i32| {
            let members = message.field.iter().filter(|field| field.oneof_index == Some(index));
            !members.clone().all(FieldDescriptorProto::proto3_optional) || members.count() == 0
        };
        let fields = self.sorted(message.field.iter().collect(), |one, two| one.number().cmp(&two.number()));
        for field in fields.iter().filter(|field| !field.oneof_index.is_some_and(is_real)) {
            self.field(field, &nested, true);
        }
        let oneofs: Vec<(i32, &OneofDescriptorProto)> = (0..).zip(&message.oneof_decl).collect();
        let first = |index: i32| {
            fields.iter().filter(|field| field.oneof_index == Some(index)).map(|field| field.number()).min()
        };
        let oneofs = self.sorted(oneofs, |one, two| first(one.0).cmp(&first(two.0)));
        for (index, oneof) in oneofs.into_iter().filter(|(index, _)| is_real(*index)) {
            self.begin(&format!("oneof {}", oneof.name()));
            self.options(options::of_oneof(oneof.options.as_ref()));
            for field in fields.iter().filter(|field| field.oneof_index == Some(index)) {
                self.field(field, &nested, false);
            }
            self.end();
        }
        for range in &message.extension_range {
            let inline = self.inline(options::of_range(range.options.as_ref()));
            let end = range.end() - 1;
            let range =
                if range.start() == end { format!("{end}") } else { format!("{} to {}", range.start(), maximum(end)) };
            self.line(&format!("extensions {range}{inline};"));
        }
        for shown in message.nested_type.iter().filter(|below| !nested.is_hidden(below)) {
            self.message(shown);
        }
        for item in &message.enum_type {
            self.enumeration(item);
        }
        self.extensions(&message.extension);
    }

    fn reserved(&mut self, message: &DescriptorProto) {
        let ranges = self.sorted(message.reserved_range.iter().collect(), |one, two| one.start().cmp(&two.start()));
        for range in ranges {
            let end = range.end() - 1;
            match range.start() == end {
                true => self.line(&format!("reserved {end};")),
                false => self.line(&format!("reserved {} to {};", range.start(), maximum(end))),
            }
        }
        for name in self.sorted(message.reserved_name.iter().collect(), Ord::cmp) {
            self.line(&format!("reserved {};", quoted(name.as_bytes())));
        }
    }

    fn field(&mut self, field: &FieldDescriptorProto, nested: &Nested<'_>, has_label: bool) {
        let mut settings = options::of_field(field.options.as_ref());
        if let Some(default) = &field.default_value {
            let default = match field.r#type.map(|_| field.r#type()) {
                Some(Type::String) => quoted(default.as_bytes()),
                Some(Type::Bytes) => quoted_escaped(default),
                _ => default.clone(),
            };
            settings.insert(0, ("default".into(), default));
        }
        if let Some(name) = field.json_name.as_ref().filter(|name| **name != json_name(field.name())) {
            settings.push(("json_name".into(), quoted(name.as_bytes())));
        }
        let inline = self.inline(settings);
        if let Some(entry) = nested.of_field(field).filter(|below| is_entry(below)) {
            let kind = |number: i32| entry.field.iter().find(|field| field.number() == number).map(type_name);
            let (key, value) = (kind(1).unwrap_or_default(), kind(2).unwrap_or_default());
            self.line(&format!("map<{key}, {value}> {} = {}{inline};", field.name(), field.number()));
            return;
        }
        let label = match field.label() {
            Label::Repeated => "repeated ",
            Label::Required => "required ",
            Label::Optional if field.proto3_optional() || has_label && !self.is_proto3 => "optional ",
            Label::Optional => "",
        };
        if field.r#type == Some(Type::Group as i32)
            && let Some(group) = nested.of_field(field)
        {
            self.begin(&format!("{label}group {} = {}{inline}", group.name(), field.number()));
            self.members(group);
            self.end();
            return;
        }
        let kind = type_name(field);
        self.line(&format!("{label}{kind} {} = {}{inline};", field.name(), field.number()));
    }

    fn enumeration(&mut self, item: &EnumDescriptorProto) {
        self.begin(&format!("enum {}", item.name()));
        let ranges = self.sorted(item.reserved_range.iter().collect(), |one, two| one.start().cmp(&two.start()));
        for range in ranges {
            match range.start() == range.end() {
                true => self.line(&format!("reserved {};", range.end())),
                false if range.end() == i32::MAX => self.line(&format!("reserved {} to max;", range.start())),
                false => self.line(&format!("reserved {} to {};", range.start(), range.end())),
            }
        }
        for name in self.sorted(item.reserved_name.iter().collect(), Ord::cmp) {
            self.line(&format!("reserved {};", quoted(name.as_bytes())));
        }
        self.options(options::of_enum(item.options.as_ref()));
        // The first value is the default, and in proto3 it is 0: it stays, though others may be less.
        let (first, others) = item.value.split_at(item.value.len().min(1));
        let others = self.sorted(others.iter().collect(), |one, two| one.number().cmp(&two.number()));
        for value in first.iter().chain(others) {
            let inline = self.inline(options::of_value(value.options.as_ref()));
            self.line(&format!("{} = {}{inline};", value.name(), value.number()));
        }
        self.end();
    }

    fn extensions(&mut self, fields: &[FieldDescriptorProto]) {
        let none = Nested::default();
        for fields in fields.chunk_by(|one, two| one.extendee == two.extendee) {
            self.begin(&format!("extend {}", fields[0].extendee()));
            for field in fields {
                self.field(field, &none, true);
            }
            self.end();
        }
    }

    fn service(&mut self, service: &ServiceDescriptorProto) {
        self.begin(&format!("service {}", service.name()));
        self.options(options::of_service(service.options.as_ref()));
        for method in &service.method {
            let stream = |is: bool| if is { "stream " } else { "" };
            let line = format!(
                "rpc {} ({}{}) returns ({}{})",
                method.name(),
                stream(method.client_streaming()),
                method.input_type(),
                stream(method.server_streaming()),
                method.output_type()
            );
            let settings = options::of_method(method.options.as_ref());
            if settings.is_empty() {
                self.line(&format!("{line};"));
            } else {
                self.begin(&line);
                self.options(settings);
                self.end();
            }
        }
        self.end();
    }
}

/// The greatest number of a field is written `max`.
fn maximum(end: i32) -> String {
    const LAST: i32 = 536_870_911;
    if end == LAST { "max".into() } else { end.to_string() }
}

/// The types that are nested in a message, looked at once: a message may have as many of them as fields.
#[derive(Default)]
struct Nested<'a> {
    by_name: HashMap<&'a str, &'a DescriptorProto>,
    /// Names of those that are groups.
    groups: HashSet<&'a str>,
}

impl<'a> Nested<'a> {
    fn of(message: &'a DescriptorProto) -> Self {
        let groups = message.field.iter().filter(|field| field.r#type == Some(Type::Group as i32));
        Self {
            by_name: message.nested_type.iter().map(|nested| (nested.name(), nested)).collect(),
            groups: groups.filter_map(local_name).collect(),
        }
    }

    /// The type of a field, if it is nested in the message of the field.
    fn of_field(&self, field: &FieldDescriptorProto) -> Option<&'a DescriptorProto> {
        self.by_name.get(local_name(field)?).copied()
    }

    /// Types of map entries and groups are written where they are used.
    fn is_hidden(&self, nested: &DescriptorProto) -> bool {
        is_entry(nested) || self.groups.contains(nested.name())
    }
}

fn is_entry(message: &DescriptorProto) -> bool {
    message.options.as_ref().is_some_and(|options| options.map_entry())
}

/// The name of a field's type without what it is in.
fn local_name(field: &FieldDescriptorProto) -> Option<&str> {
    field.type_name.as_deref()?.rsplit('.').next()
}

fn type_name(field: &FieldDescriptorProto) -> String {
    if let Some(name) = &field.type_name {
        return name.clone();
    }
    match field.r#type() {
        Type::Double => "double",
        Type::Float => "float",
        Type::Int64 => "int64",
        Type::Uint64 => "uint64",
        Type::Int32 => "int32",
        Type::Fixed64 => "fixed64",
        Type::Fixed32 => "fixed32",
        Type::Bool => "bool",
        Type::String => "string",
        Type::Bytes => "bytes",
        Type::Uint32 => "uint32",
        Type::Sfixed32 => "sfixed32",
        Type::Sfixed64 => "sfixed64",
        Type::Sint32 => "sint32",
        Type::Sint64 => "sint64",
        Type::Group | Type::Message | Type::Enum => "",
    }
    .to_owned()
}

/// The name in JSON that a field has if it says nothing.
fn json_name(name: &str) -> String {
    let mut json = String::with_capacity(name.len());
    let mut is_next_upper = false;
    for c in name.chars() {
        match c {
            '_' => is_next_upper = true,
            _ if is_next_upper => {
                json.push(c.to_ascii_uppercase());
                is_next_upper = false;
            }
            _ => json.push(c),
        }
    }
    json
}

/// A text in quotes.
pub(super) fn quoted(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 2);
    text.push('"');
    match std::str::from_utf8(bytes) {
        Ok(valid) => {
            for c in valid.chars() {
                match c {
                    '"' | '\\' => text.extend(['\\', c]),
                    '\n' => text.push_str("\\n"),
                    '\r' => text.push_str("\\r"),
                    '\t' => text.push_str("\\t"),
                    c if c.is_control() => _ = c.to_string().bytes().try_for_each(|byte| write!(text, "\\{byte:03o}")),
                    c => text.push(c),
                }
            }
        }
        Err(_) => _ = bytes.iter().try_for_each(|byte| write!(text, "\\{byte:03o}")),
    }
    text.push('"');
    text
}

/// The default of bytes in quotes. Descriptors hold it with escapes; what should be escaped and is not, is.
fn quoted_escaped(escaped: &str) -> String {
    let mut text = String::with_capacity(escaped.len() + 2);
    text.push('"');
    let mut is_escape = false;
    for c in escaped.chars() {
        match c {
            '"' if !is_escape => text.push_str("\\\""),
            c if c.is_control() => _ = c.to_string().bytes().try_for_each(|byte| write!(text, "\\{byte:03o}")),
            c => text.push(c),
        }
        is_escape = c == '\\' && !is_escape;
    }
    text.push_str(if is_escape { "\\\"" } else { "\"" });
    text
}

/// An option that nobody has looked at yet.
pub(super) fn setting(option: &UninterpretedOption) -> Setting {
    let part = |part: &NamePart| match part.is_extension {
        true => format!("({})", part.name_part),
        false => part.name_part.clone(),
    };
    let name = option.name.iter().map(part).collect::<Vec<_>>().join(".");
    let value = if let Some(identifier) = &option.identifier_value {
        identifier.clone()
    } else if let Some(number) = option.positive_int_value {
        number.to_string()
    } else if let Some(number) = option.negative_int_value {
        number.to_string()
    } else if let Some(number) = option.double_value {
        number.to_string()
    } else if let Some(bytes) = &option.string_value {
        quoted(bytes)
    } else {
        format!("{{ {} }}", option.aggregate_value())
    };
    (name, value)
}
