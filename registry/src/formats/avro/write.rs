//! Writing Avro schemas: as Java does, and normalized as clients of the registry expect it.

use std::collections::HashSet;

use super::{Field, Named, Order, Schema, Shape, Type, TypeId};
use crate::formats::{DEPTH_MAX, Invalid};
use crate::json::{Json, Object};

pub(super) fn canonical(schema: &Schema) -> String {
    let known = schema.foreign.values().copied().collect();
    Canonical { schema, known }.kind(schema.root, None).to_string()
}

pub(super) fn resolved(schema: &Schema) -> Result<String, Invalid> {
    check_depth(schema)?;
    Ok(Canonical { schema, known: HashSet::new() }.kind(schema.root, None).to_string())
}

/// Refuses what would be nested too deeply once each name is written out where it comes first: each text is nested only as
/// deep as JSON may be, but what one refers to is written within it. It goes through types as [`Canonical`] does.
fn check_depth(schema: &Schema) -> Result<(), Invalid> {
    let mut known = HashSet::new();
    let mut waiting = vec![(schema.root, 1)];
    while let Some((id, depth)) = waiting.pop() {
        if schema.named(id).is_some() && !known.insert(id) {
            continue;
        }
        if depth > DEPTH_MAX {
            return Err(Invalid::new(format!("with what it refers to, types are nested more than {DEPTH_MAX} deep")));
        }
        match schema.shape(id) {
            Shape::Array(below) | Shape::Map(below) => waiting.push((*below, depth + 1)),
            Shape::Union(branches) => waiting.extend(branches.iter().rev().map(|branch| (*branch, depth + 1))),
            Shape::Record { fields, .. } => {
                waiting.extend(fields.iter().rev().map(|field| (field.kind, depth + 1)));
            }
            Shape::Primitive(_) | Shape::Enum { .. } | Shape::Fixed { .. } => {}
        }
    }
    Ok(())
}

pub(super) fn normalized(schema: &Schema) -> String {
    let known = schema.foreign.values().copied().collect();
    Normalized { schema, known }.kind(schema.root).to_string()
}

struct Canonical<'a> {
    schema: &'a Schema,
    /// Types that were written before; only their names are from then on.
    known: HashSet<TypeId>,
}

impl Canonical<'_> {
    fn kind(&mut self, id: TypeId, space: Option<&str>) -> Json {
        let schema = self.schema;
        let Type { shape, properties } = &schema.types[id];
        if let Some(named) = schema.named(id).filter(|_| !self.known.insert(id)) {
            return Json::String(named.name.within(space));
        }
        let mut object = Object::new();
        match shape {
            Shape::Primitive(primitive) if properties.is_empty() => return string(primitive.name()),
            Shape::Union(branches) => {
                return Json::Array(branches.iter().map(|branch| self.kind(*branch, space)).collect());
            }
            Shape::Primitive(primitive) => _ = object.insert("type".into(), string(primitive.name())),
            Shape::Array(items) => {
                object.insert("type".into(), string("array"));
                object.insert("items".into(), self.kind(*items, space));
            }
            Shape::Map(values) => {
                object.insert("type".into(), string("map"));
                object.insert("values".into(), self.kind(*values, space));
            }
            Shape::Record { named, is_error, fields } => {
                begin(&mut object, if *is_error { "error" } else { "record" }, named, space);
                let space = named.name.space.as_deref();
                let fields = fields.iter().map(|field| self.field(field, space)).collect();
                object.insert("fields".into(), Json::Array(fields));
            }
            Shape::Enum { named, symbols, default } => {
                begin(&mut object, "enum", named, space);
                object.insert("symbols".into(), strings(symbols.iter().map(String::as_str)));
                if let Some(default) = default {
                    object.insert("default".into(), string(default));
                }
            }
            Shape::Fixed { named, size } => {
                begin(&mut object, "fixed", named, space);
                object.insert("size".into(), Json::Number((*size).into()));
            }
        }
        object.extend(properties.clone());
        if let Some(named) = schema.named(id).filter(|named| !named.aliases.is_empty()) {
            let space = named.name.space.as_deref();
            let aliases = named.aliases.iter().map(|alias| Json::String(alias.within(space)));
            object.insert("aliases".into(), Json::Array(aliases.collect()));
        }
        Json::Object(object)
    }

    fn field(&mut self, field: &Field, space: Option<&str>) -> Json {
        let mut object = Object::new();
        object.insert("name".into(), string(&field.name));
        object.insert("type".into(), self.kind(field.kind, space));
        if let Some(doc) = &field.doc {
            object.insert("doc".into(), string(doc));
        }
        if let Some(default) = &field.default {
            object.insert("default".into(), default.clone());
        }
        if field.order != Order::Ascending {
            object.insert("order".into(), string(field.order.name()));
        }
        if !field.aliases.is_empty() {
            object.insert("aliases".into(), strings(field.aliases.iter().map(String::as_str)));
        }
        object.extend(field.properties.clone());
        Json::Object(object)
    }
}

/// What a named type begins with: its name, and its namespace if it is not the one around.
fn begin(object: &mut Object, kind: &str, named: &Named, space: Option<&str>) {
    object.insert("type".into(), string(kind));
    object.insert("name".into(), string(&named.name.name));
    if named.name.space.as_deref() != space {
        object.insert("namespace".into(), string(named.name.space.as_deref().unwrap_or_default()));
    }
    if let Some(doc) = &named.doc {
        object.insert("doc".into(), string(doc));
    }
}

struct Normalized<'a> {
    schema: &'a Schema,
    known: HashSet<TypeId>,
}

impl Normalized<'_> {
    fn kind(&mut self, id: TypeId) -> Json {
        let schema = self.schema;
        let Type { shape, properties } = &schema.types[id];
        if let Some(named) = schema.named(id).filter(|_| !self.known.insert(id)) {
            return Json::String(named.name.full());
        }
        let mut object = Object::new();
        match shape {
            Shape::Primitive(primitive) if properties.is_empty() => return string(primitive.name()),
            Shape::Union(branches) => {
                return Json::Array(branches.iter().map(|branch| self.kind(*branch)).collect());
            }
            Shape::Primitive(primitive) => _ = object.insert("type".into(), string(primitive.name())),
            Shape::Array(items) => {
                object.insert("type".into(), string("array"));
                object.insert("items".into(), self.kind(*items));
            }
            Shape::Map(values) => {
                object.insert("type".into(), string("map"));
                object.insert("values".into(), self.kind(*values));
            }
            Shape::Record { named, is_error, fields } => {
                object.insert("name".into(), Json::String(named.name.full()));
                object.insert("type".into(), string(if *is_error { "error" } else { "record" }));
                let fields = fields.iter().map(|field| self.field(field)).collect();
                object.insert("fields".into(), Json::Array(fields));
            }
            Shape::Enum { named, symbols, .. } => {
                object.insert("name".into(), Json::String(named.name.full()));
                object.insert("type".into(), string("enum"));
                object.insert("symbols".into(), strings(symbols.iter().map(String::as_str)));
            }
            Shape::Fixed { named, size } => {
                object.insert("name".into(), Json::String(named.name.full()));
                object.insert("type".into(), string("fixed"));
                object.insert("size".into(), Json::Number((*size).into()));
            }
        }
        if let Some(named) = schema.named(id) {
            if let Some(doc) = named.doc.as_ref().filter(|doc| !doc.is_empty()) {
                object.insert("doc".into(), string(doc));
            }
            put_aliases(&mut object, named.aliases.iter().map(super::Name::full).collect());
            if let Shape::Enum { default: Some(default), .. } = shape {
                object.insert("default".into(), string(default));
            }
        }
        put_properties(&mut object, properties);
        Json::Object(object)
    }

    fn field(&mut self, field: &Field) -> Json {
        let mut object = Object::new();
        object.insert("name".into(), string(&field.name));
        object.insert("type".into(), self.kind(field.kind));
        object.insert("order".into(), string(field.order.name()));
        if let Some(doc) = &field.doc {
            object.insert("doc".into(), string(doc));
        }
        put_aliases(&mut object, field.aliases.clone());
        if let Some(default) = &field.default {
            object.insert("default".into(), default.sorted());
        }
        put_properties(&mut object, &field.properties);
        Json::Object(object)
    }
}

fn put_aliases(object: &mut Object, mut aliases: Vec<String>) {
    if !aliases.is_empty() {
        aliases.sort();
        aliases.dedup();
        object.insert("aliases".into(), strings(aliases.iter().map(String::as_str)));
    }
}

fn put_properties(object: &mut Object, properties: &Object) {
    let Json::Object(sorted) = Json::Object(properties.clone()).sorted() else { return };
    object.extend(sorted);
}

fn string(text: &str) -> Json {
    Json::String(text.to_owned())
}

fn strings<'a>(texts: impl Iterator<Item = &'a str>) -> Json {
    Json::Array(texts.map(string).collect())
}
