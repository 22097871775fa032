//! Writes Rust for what the interface files declare. The text is kept short, since it is compiled on every change of the
//! crate: loops, checks and bounds are in the generic functions of `src/codec`, and only tables of fields are written out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::idl::{Document, Enum, Field, Function, Kind, Record, Type};

/// What structs of data derive; arguments of methods need less.
const DATA: &str = "Debug, Clone, Default, PartialEq";
const ARGUMENTS: &str = "Debug, Clone, Default";

/// The exception that stands for every failure that a method does not declare.
const GENERAL: &str = "MetaException";

/// Types that are large, optional and seldom there: in a box they cost lists of tables and partitions little.
const BOXED: [&str; 5] =
    ["ColumnStatistics", "CreationMetadata", "FileMetadata", "ObjectDictionary", "PrincipalPrivilegeSet"];

/// The field that is the bulk of a list of partitions, and the same in nearly all of them.
const SHARED: (&str, &str) = ("StorageDescriptor", "cols");

/// Methods with which a server answers a list that may be very long, as it is on the wire.
const LISTED: [&str; 12] = [
    "fetch_partition_names_req",
    "get_partition_names",
    "get_partition_names_ps",
    "get_partition_names_ps_req",
    "get_partition_names_req",
    "get_partitions",
    "get_partitions_by_filter",
    "get_partitions_by_filter_req",
    "get_partitions_by_names",
    "get_partitions_ps",
    "get_partitions_ps_with_auth",
    "get_partitions_with_auth",
];

/// The whole file.
pub(crate) fn rust(document: &Document) -> Result<String, String> {
    check_names(document)?;
    let mut out = String::from("// Made by build.rs from the files in idl/.\n\n");
    for item in &document.enums {
        write_enum(&mut out, item);
    }
    for record in &document.records {
        match record.kind {
            Kind::Union => write_union(&mut out, record),
            Kind::Struct | Kind::Exception => {
                let doc = format!("`{}` of the interface.", record.name);
                write_struct(&mut out, &record.name, &record.name, &record.fields, &doc, DATA);
            }
        }
    }
    let exceptions: Vec<&Record> = document.records.iter().filter(|record| record.kind == Kind::Exception).collect();
    write_exceptions(&mut out, &exceptions);
    let functions: Vec<&Function> = document.services.iter().flat_map(|service| &service.functions).collect();
    for function in &functions {
        write_method(&mut out, function, &exceptions)?;
    }
    write_trait(&mut out, &functions);
    write_dispatch(&mut out, &functions);
    write_client(&mut out, &functions);
    write_visit(&mut out, &functions);
    Ok(out)
}

/// Every type that is named is there, and no two methods have one Rust name.
fn check_names(document: &Document) -> Result<(), String> {
    fn check(ty: &Type, known: &BTreeSet<&str>) -> Result<(), String> {
        match ty {
            Type::Base(_) => Ok(()),
            Type::List(inner) | Type::Set(inner) => check(inner, known),
            Type::Map(key, value) => check(key, known).and_then(|()| check(value, known)),
            Type::Named(name) if known.contains(name.as_str()) => Ok(()),
            Type::Named(name) => Err(format!("the type {name} is not declared")),
        }
    }
    let enums = document.enums.iter().map(|item| item.name.as_str());
    let known: BTreeSet<&str> = enums.chain(document.records.iter().map(|record| record.name.as_str())).collect();
    let mut names = BTreeMap::new();
    for function in document.services.iter().flat_map(|service| &service.functions) {
        if let Some(other) = names.insert(snake(&function.name), &function.name) {
            return Err(format!("{other} and {} have one name in Rust", function.name));
        }
        for ty in function.args.iter().chain(&function.throws).map(|field| &field.ty).chain(&function.result) {
            check(ty, &known)?;
        }
    }
    document.records.iter().flat_map(|record| &record.fields).try_for_each(|field| check(&field.ty, &known))
}

fn write_enum(out: &mut String, item: &Enum) {
    let name = camel(&item.name);
    line(out, &format!("crate::codec::enumeration! {{ {name}"));
    for (value, number) in &item.values {
        line(out, &format!("    {value} = {number},"));
    }
    line(out, "}\n");
}

fn write_struct(out: &mut String, name: &str, wire_name: &str, fields: &[Field], doc: &str, derives: &str) {
    line(out, &format!("/// {doc}\n#[derive({derives})]\npub struct {name} {{"));
    for field in fields {
        if let Some(default) = &field.default {
            line(out, &format!("    /// Absent means `{default}`."));
        }
        let ty = rust_type(&field.ty);
        let ty = if (name, field.name.as_str()) == SHARED { format!("Shared<{ty}>") } else { ty };
        let ty = match presence(field) {
            "required" => ty,
            "boxed" => format!("Option<Box<{ty}>>"),
            _ => format!("Option<{ty}>"),
        };
        line(out, &format!("    pub {}: {ty},", ident(&field.name)));
    }
    line(out, &format!("}}\nimpl Record for {name} {{\n    const NAME: &'static str = \"{wire_name}\";"));
    write_field_names(out, fields);
    let writer = if fields.is_empty() { "_" } else { "writer" };
    line(out, &format!("    fn write_fields(&self, {writer}: &mut Writer) {{"));
    for field in sorted(fields) {
        line(out, &format!("        writer.{}({}, &self.{});", presence(field), field.id, ident(&field.name)));
    }
    line(out, "    }\n    fn read_field(&mut self, field: FieldReader<'_, '_>) -> Result<(), DecodeError> {");
    if fields.is_empty() {
        line(out, "        field.skip()");
    } else {
        line(out, "        match field.id() {");
        for field in fields {
            let slot = ident(&field.name);
            line(out, &format!("            {} => field.{}(&mut self.{slot}),", field.id, presence(field)));
        }
        line(out, "            _ => field.skip(),\n        }");
    }
    line(out, "    }\n}\n");
}

fn write_field_names(out: &mut String, fields: &[Field]) {
    if !fields.is_empty() {
        let names: Vec<String> = fields.iter().map(|field| format!("({}, \"{}\")", field.id, field.name)).collect();
        line(out, &format!("    const FIELDS: &'static [(i16, &'static str)] = &[{}];", names.join(", ")));
    }
}

fn write_union(out: &mut String, record: &Record) {
    let name = &record.name;
    line(out, &format!("/// `{name}` of the interface: one of these.\n#[derive({DATA})]\npub enum {name} {{"));
    line(out, "    /// None that is known here.\n    #[default]\n    Unset,");
    for field in &record.fields {
        line(out, &format!("    {}({}),", camel(&field.name), rust_type(&field.ty)));
    }
    line(out, &format!("}}\nimpl Record for {name} {{\n    const NAME: &'static str = \"{name}\";"));
    write_field_names(out, &record.fields);
    line(out, "    fn write_fields(&self, writer: &mut Writer) {\n        match self {\n            Self::Unset => {}");
    for field in &record.fields {
        let variant = camel(&field.name);
        line(out, &format!("            Self::{variant}(value) => writer.required({}, value),", field.id));
    }
    line(
        out,
        "        }\n    }\n    fn read_field(&mut self, field: FieldReader<'_, '_>) -> Result<(), DecodeError> {",
    );
    line(out, "        match field.id() {");
    for field in &record.fields {
        line(out, &format!("            {} => field.variant(self, Self::{}),", field.id, camel(&field.name)));
    }
    line(out, "            _ => field.skip(),\n        }\n    }\n}\n");
}

fn write_exceptions(out: &mut String, exceptions: &[&Record]) {
    line(out, "/// What a method may answer instead of its result: the exceptions of the interface, and Thrift's own.");
    line(out, "#[derive(Debug, Clone, PartialEq)]\npub enum Exception {");
    for exception in exceptions {
        line(out, &format!("    {}({}),", variant(&exception.name), exception.name));
    }
    line(out, "    /// Not of the interface: an unknown method, or a failure that no declared exception can carry.");
    line(out, "    Application(ApplicationException),\n}\nimpl Exceptions for Exception {");
    let general = variant(GENERAL);
    line(out, "    fn general(message: String) -> Self {");
    line(out, &format!("        Self::{general}({GENERAL} {{ message: Some(message) }})\n    }}"));
    line(out, "    fn application(exception: ApplicationException) -> Self {");
    line(out, "        Self::Application(exception)\n    }");
    line(out, "    fn as_application(&self) -> Option<&ApplicationException> {");
    line(out, "        if let Self::Application(exception) = self { Some(exception) } else { None }\n    }");
    line(out, "    fn index(&self) -> usize {\n        match self {");
    for (index, exception) in exceptions.iter().enumerate() {
        line(out, &format!("            Self::{}(_) => {index},", variant(&exception.name)));
    }
    line(out, "            Self::Application(_) => usize::MAX,\n        }\n    }");
    line(out, "    fn name(&self) -> &'static str {\n        match self {");
    for exception in exceptions {
        line(out, &format!("            Self::{}(_) => \"{}\",", variant(&exception.name), exception.name));
    }
    line(out, "            Self::Application(_) => ApplicationException::NAME,\n        }\n    }");
    line(out, "    fn message(&self) -> &str {\n        match self {");
    for exception in exceptions {
        let name = variant(&exception.name);
        line(out, &format!("            Self::{name}(exception) => exception.message.as_deref().unwrap_or_default(),"));
    }
    line(out, "            Self::Application(exception) => &exception.message,\n        }\n    }");
    line(out, "    fn write(&self, id: i16, writer: &mut Writer) {\n        match self {");
    for exception in exceptions {
        line(out, &format!("            Self::{}(value) => writer.required(id, value),", variant(&exception.name)));
    }
    line(out, "            Self::Application(value) => writer.required(id, value),\n        }\n    }");
    line(out, "    fn read(index: usize, field: FieldReader<'_, '_>) -> Result<Option<Self>, DecodeError> {");
    line(out, "        match index {");
    for (index, exception) in exceptions.iter().enumerate() {
        line(out, &format!("            {index} => field.value().map(|v| v.map(Self::{})),", variant(&exception.name)));
    }
    line(out, "            _ => field.skip().map(|()| None),\n        }\n    }\n}\n");
    for exception in exceptions {
        let (name, variant) = (&exception.name, variant(&exception.name));
        line(
            out,
            &format!(
                "impl {name} {{\n    /// With what it says.\n    pub fn new(message: impl Into<String>) -> Self {{"
            ),
        );
        line(out, "        Self { message: Some(message.into()) }\n    }\n}");
        line(out, &format!("impl From<{name}> for Exception {{\n    fn from(exception: {name}) -> Self {{"));
        line(out, &format!("        Self::{variant}(exception)\n    }}\n}}\n"));
    }
}

fn write_method(out: &mut String, function: &Function, exceptions: &[&Record]) -> Result<(), String> {
    let args = args_name(function);
    let doc = format!("The arguments of `{}`.", function.name);
    write_struct(out, &args, &function.name, &function.args, &doc, ARGUMENTS);
    let mut throws = Vec::new();
    for field in &function.throws {
        let index = exceptions.iter().position(|exception| matches!(&field.ty, Type::Named(n) if *n == exception.name));
        let index = index.ok_or_else(|| format!("{} throws what is not an exception", function.name))?;
        throws.push(format!("({}, {index})", field.id));
    }
    line(out, &format!("impl Method for {args} {{\n    type Reply = {};", reply(function)));
    line(out, "    type Exception = Exception;");
    if function.is_oneway {
        line(out, "    const IS_ONEWAY: bool = true;");
    }
    line(out, &format!("    const THROWS: &'static [(i16, usize)] = &[{}];\n}}\n", throws.join(", ")));
    Ok(())
}

fn write_trait(out: &mut String, functions: &[&Function]) {
    line(
        out,
        "/// What a metastore answers on one connection. Every method has a body that answers \"unknown method\", so",
    );
    line(out, "/// that an implementation names only those it has.");
    line(out, "pub trait HiveMetastore: Send + Sync + 'static {");
    line(out, "    /// What is answered for a result of more than `limit_bytes`, which clients would refuse to read.");
    line(out, "    fn reply_too_large(&self, method: &'static str, limit_bytes: usize) -> Exception {");
    line(out, "        too_large(method, limit_bytes)\n    }");
    line(
        out,
        "    /// The answer to a call is sent, or nobody waits for it: what was kept for it is not needed any more.",
    );
    line(out, "    fn answered(&self) {}");
    for function in functions {
        let reply = match &function.result {
            _ if !LISTED.contains(&function.name.as_str()) => reply(function),
            Some(Type::List(inner)) => format!("Listed<{}>", rust_type(inner)),
            // A struct that holds nothing but names.
            _ => "Texts".to_owned(),
        };
        let (name, args) = (ident(&function.name), args_name(function));
        let (parameter, value) =
            if function.args.is_empty() { (String::new(), args.as_str()) } else { (format!(", args: {args}"), "args") };
        line(out, &format!("    /// `{}` of the interface.", function.name));
        line(
            out,
            &format!("    fn {name}(&self{parameter}) -> impl Future<Output = Result<{reply}, Exception>> + Send {{"),
        );
        let value = if function.args.is_empty() { format!("{value} {{}}") } else { value.to_owned() };
        let body = if function.is_oneway { "nothing" } else { "unknown" };
        line(out, &format!("        {body}(&{value})\n    }}"));
    }
    line(out, "}\n");
}

fn write_dispatch(out: &mut String, functions: &[&Function]) {
    line(out, "/// Gives a call to the method that it names.");
    line(out, "fn dispatch<'a, S: HiveMetastore>(service: &'a S, call: Call<'a>) -> Answering<'a> {");
    line(out, "    match call.method() {");
    for function in functions {
        let (name, args) = (ident(&function.name), args_name(function));
        let run = if function.args.is_empty() {
            format!("|_: {args}| service.{name}()")
        } else {
            format!("|args| service.{name}(args)")
        };
        line(out, &format!("        \"{}\" => Box::pin(call.answer(service, {run})),", function.name));
    }
    line(out, "        _ => Box::pin(std::future::ready(call.unknown())),\n    }\n}\n");
}

fn write_client(out: &mut String, functions: &[&Function]) {
    line(out, "/// The methods of the interface, asked of a metastore.\nimpl Client {");
    for function in functions {
        let (name, reply, args) = (ident(&function.name), reply(function), args_name(function));
        let (parameter, value) = if function.args.is_empty() {
            (String::new(), format!("{args} {{}}"))
        } else {
            (format!(", args: {args}"), "args".to_owned())
        };
        line(out, &format!("    /// `{}` of the interface.", function.name));
        line(
            out,
            &format!("    pub async fn {name}(&mut self{parameter}) -> Result<{reply}, CallError<Exception>> {{"),
        );
        line(out, &format!("        self.call(&{value}).await\n    }}"));
    }
    line(out, "}");
}

fn write_visit(out: &mut String, functions: &[&Function]) {
    line(out, "\n/// Shows the visitor every method of the interface.");
    line(out, "pub fn visit_methods(visitor: &mut impl MethodVisitor) {");
    for function in functions {
        line(out, &format!("    visitor.method::<{}>();", args_name(function)));
    }
    line(out, "}");
}

fn line(out: &mut String, text: &str) {
    // Writing to a string cannot fail.
    let _ = writeln!(out, "{text}");
}

/// How a field is kept, and the name of the methods that read and write it so.
fn presence(field: &Field) -> &'static str {
    match &field.ty {
        _ if field.is_required => "required",
        Type::Named(name) if BOXED.contains(&name.as_str()) => "boxed",
        _ => "optional",
    }
}

fn sorted(fields: &[Field]) -> Vec<&Field> {
    let mut fields: Vec<&Field> = fields.iter().collect();
    fields.sort_by_key(|field| field.id);
    fields
}

fn reply(function: &Function) -> String {
    function.result.as_ref().map_or_else(|| "()".to_owned(), rust_type)
}

fn args_name(function: &Function) -> String {
    format!("{}Args", camel(&function.name))
}

fn rust_type(ty: &Type) -> String {
    match ty {
        Type::Base(name) => match name.as_str() {
            "byte" => "i8",
            "double" => "f64",
            "string" => "String",
            "binary" => "Bytes",
            same => same,
        }
        .to_owned(),
        Type::List(inner) => format!("Vec<{}>", rust_type(inner)),
        Type::Set(inner) => format!("Set<{}>", rust_type(inner)),
        Type::Map(key, value) => format!("BTreeMap<{}, {}>", rust_type(key), rust_type(value)),
        Type::Named(name) => camel(name),
    }
}

/// The name of an exception as a variant of the one error type.
fn variant(exception: &str) -> String {
    exception.strip_suffix("Exception").unwrap_or(exception).to_owned()
}

/// `fb_status` is `FbStatus`; what is in camel case already stays as it is.
fn camel(name: &str) -> String {
    let mut parts = name.split('_').filter(|part| !part.is_empty()).map(|part| {
        let (first, rest) = part.split_at(1);
        first.to_ascii_uppercase() + rest
    });
    parts.by_ref().collect()
}

/// `dbName` is `db_name`; runs of capitals stay together, so `tableURI` is `table_uri`.
fn snake(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::new();
    for (at, c) in chars.iter().enumerate() {
        let after_lower = at > 0 && (chars[at - 1].is_ascii_lowercase() || chars[at - 1].is_ascii_digit());
        let before_lower = at > 0 && chars[at - 1] != '_' && chars.get(at + 1).is_some_and(char::is_ascii_lowercase);
        if c.is_ascii_uppercase() && (after_lower || before_lower) && chars[at - 1] != '_' {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

/// The name as a field or function of Rust.
fn ident(name: &str) -> String {
    let name = snake(name);
    if matches!(name.as_str(), "type" | "ref" | "match" | "in" | "move") { format!("r#{name}") } else { name }
}
