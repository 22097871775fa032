//! Reading Avro schemas: names have to be defined before they are used, as in Java.

use std::collections::{HashMap, HashSet};

use super::{Field, Name, Named, Order, Primitive, Schema, Shape, Type, TypeId};
use crate::formats::{Invalid, Referenced};
use crate::json::{Json, Object};

/// Members of a type that are no properties.
const TYPE_MEMBERS: [&str; 10] =
    ["doc", "fields", "items", "name", "namespace", "size", "symbols", "values", "type", "aliases"];
/// Members of a field that are no properties.
const FIELD_MEMBERS: [&str; 6] = ["default", "doc", "name", "order", "type", "aliases"];
/// Steps that checking defaults takes at most: a default may go through a recursive type.
const DEFAULT_STEPS: usize = 1_000_000;
/// Characters of a value that an error shows.
const SHOWN_CHARS: usize = 200;

pub(super) fn parse(text: &str, references: &[Referenced], is_new: bool) -> Result<Schema, Invalid> {
    let mut parser = Parser { types: Vec::new(), names: HashMap::new(), is_new, steps: DEFAULT_STEPS };
    for reference in references {
        parser.schema(&reference.text).map_err(|error| error.within(&reference.name))?;
    }
    let foreign = parser.names.clone();
    let root = parser.schema(text)?;
    Ok(Schema { types: parser.types, root, foreign })
}

struct Parser {
    types: Vec<Type>,
    names: HashMap<String, TypeId>,
    is_new: bool,
    steps: usize,
}

impl Parser {
    fn schema(&mut self, text: &str) -> Result<TypeId, Invalid> {
        let json = match Json::parse(text) {
            Ok(json) => json,
            // A bare name is a schema to Java's parser of names only, but clients do send primitive ones without quotes.
            Err(_) if Primitive::of(text.trim()).is_some() => Json::String(text.trim().to_owned()),
            Err(error) => return Err(Invalid::new(error.to_string())),
        };
        self.kind(&json, None)
    }

    fn push(&mut self, shape: Shape, properties: Object) -> TypeId {
        self.types.push(Type { shape, properties });
        self.types.len() - 1
    }

    fn kind(&mut self, json: &Json, space: Option<&str>) -> Result<TypeId, Invalid> {
        match json {
            Json::String(name) => self.by_name(name, space),
            Json::Array(branches) => self.union(branches, space),
            Json::Object(object) => self.object(object, space),
            other => Err(Invalid::new(format!("this is no type: {}", shown(other)))),
        }
    }

    fn by_name(&mut self, text: &str, space: Option<&str>) -> Result<TypeId, Invalid> {
        if let Some(primitive) = Primitive::of(text) {
            return Ok(self.push(Shape::Primitive(primitive), Object::new()));
        }
        let full = split(text, space).full();
        let known = self.names.get(&full).or_else(|| self.names.get(text));
        known.copied().ok_or_else(|| Invalid::new(format!("nothing is named \"{full}\"")))
    }

    fn union(&mut self, branches: &[Json], space: Option<&str>) -> Result<TypeId, Invalid> {
        let mut ids = Vec::with_capacity(branches.len());
        let mut seen = HashSet::new();
        for branch in branches {
            let id = self.kind(branch, space)?;
            let name = match &self.types[id].shape {
                Shape::Union(_) => return Err(Invalid::new(format!("a union within a union: {}", shown(branch)))),
                Shape::Primitive(primitive) => primitive.name().to_owned(),
                Shape::Array(_) => "array".to_owned(),
                Shape::Map(_) => "map".to_owned(),
                Shape::Record { named, .. } | Shape::Enum { named, .. } | Shape::Fixed { named, .. } => {
                    named.name.full()
                }
            };
            if !seen.insert(name.clone()) {
                return Err(Invalid::new(format!("a union has {name} twice")));
            }
            ids.push(id);
        }
        Ok(self.push(Shape::Union(ids), Object::new()))
    }

    fn object(&mut self, object: &Object, space: Option<&str>) -> Result<TypeId, Invalid> {
        let kind =
            object.get("type").ok_or_else(|| Invalid::new(format!("a type is missing: {}", shown_object(object))))?;
        let Some(kind) = kind.as_str() else {
            // Java looks through `{"type": {"type": …}}`, and drops what stands beside.
            return self.kind(kind, space);
        };
        match kind {
            "record" | "error" => self.record(object, space, kind == "error"),
            "enum" => self.enumeration(object, space),
            "fixed" => self.fixed(object, space),
            "array" => {
                let items = member(object, "items", "an array needs items")?;
                let items = self.kind(items, space)?;
                Ok(self.push(Shape::Array(items), properties(object, &TYPE_MEMBERS)))
            }
            "map" => {
                let values = member(object, "values", "a map needs values")?;
                let values = self.kind(values, space)?;
                Ok(self.push(Shape::Map(values), properties(object, &TYPE_MEMBERS)))
            }
            _ => match Primitive::of(kind) {
                Some(primitive) => Ok(self.push(Shape::Primitive(primitive), properties(object, &TYPE_MEMBERS))),
                None => self.by_name(kind, space),
            },
        }
    }

    fn record(&mut self, object: &Object, space: Option<&str>, is_error: bool) -> Result<TypeId, Invalid> {
        let named = named(object, space)?;
        let space = named.name.space.clone();
        let record = Shape::Record { named: named.clone(), is_error, fields: Vec::new() };
        let id = self.define(&named, record, properties(object, &TYPE_MEMBERS))?;
        let fields = member(object, "fields", "a record needs fields")?
            .as_array()
            .ok_or_else(|| Invalid::new(format!("the fields of a record are an array: {}", shown_object(object))))?;
        let mut parsed: Vec<Field> = Vec::with_capacity(fields.len());
        let mut seen = HashSet::new();
        for json in fields {
            let field = self.field(json, space.as_deref())?;
            if !seen.insert(field.name.clone()) {
                let record = named.name.full();
                return Err(Invalid::new(format!("record {record} has two fields {}", field.name)));
            }
            parsed.push(field);
        }
        if let Shape::Record { fields, .. } = &mut self.types[id].shape {
            *fields = parsed;
        }
        if self.is_new {
            self.check_defaults(id)?;
        }
        Ok(id)
    }

    fn field(&mut self, json: &Json, space: Option<&str>) -> Result<Field, Invalid> {
        let object = json.as_object().ok_or_else(|| Invalid::new(format!("a field needs a name: {}", shown(json))))?;
        let name =
            text(object, "name").ok_or_else(|| Invalid::new(format!("a field needs a name: {}", shown(json))))?;
        check_name(name)?;
        let kind = member(object, "type", "a field needs a type")?;
        let kind = self.kind(kind, space)?;
        let order = match text(object, "order").map(str::to_ascii_lowercase).as_deref() {
            None | Some("ascending") => Order::Ascending,
            Some("descending") => Order::Descending,
            Some("ignore") => Order::Ignore,
            Some(other) => return Err(Invalid::new(format!("there is no order {other}"))),
        };
        Ok(Field {
            name: name.to_owned(),
            doc: text(object, "doc").map(str::to_owned),
            kind,
            default: object.get("default").cloned(),
            order,
            aliases: aliases(object)?.into_iter().map(str::to_owned).collect(),
            properties: properties(object, &FIELD_MEMBERS),
        })
    }

    fn enumeration(&mut self, object: &Object, space: Option<&str>) -> Result<TypeId, Invalid> {
        let named = named(object, space)?;
        let none = || Invalid::new(format!("the symbols of an enum are an array of texts: {}", shown_object(object)));
        let given = object.get("symbols").and_then(Json::as_array).ok_or_else(none)?;
        let mut symbols = Vec::with_capacity(given.len());
        let mut seen = HashSet::new();
        for symbol in given {
            let symbol = symbol.as_str().ok_or_else(none)?;
            check_name(symbol)?;
            if !seen.insert(symbol) {
                return Err(Invalid::new(format!("the symbol {symbol} comes twice")));
            }
            symbols.push(symbol.to_owned());
        }
        let default = text(object, "default").map(str::to_owned);
        if let Some(default) = default.as_ref().filter(|default| !seen.contains(default.as_str())) {
            let set = symbols.join(", ");
            return Err(Invalid::new(format!("the default {default} is none of the symbols [{set}]")));
        }
        let mut properties = properties(object, &TYPE_MEMBERS);
        properties.shift_remove("default");
        self.define(&named, Shape::Enum { named: named.clone(), symbols, default }, properties)
    }

    fn fixed(&mut self, object: &Object, space: Option<&str>) -> Result<TypeId, Invalid> {
        let named = named(object, space)?;
        let size = object.get("size").and_then(Json::as_i64);
        let size = size
            .ok_or_else(|| Invalid::new(format!("the size of a fixed is a whole number: {}", shown_object(object))))?;
        let size = u64::try_from(size).map_err(|_| Invalid::new(format!("a fixed of the negative size {size}")))?;
        self.define(&named, Shape::Fixed { named: named.clone(), size }, properties(object, &TYPE_MEMBERS))
    }

    fn define(&mut self, named: &Named, shape: Shape, properties: Object) -> Result<TypeId, Invalid> {
        let full = named.name.full();
        if self.names.contains_key(&full) {
            return Err(Invalid::new(format!("{full} is defined twice")));
        }
        let id = self.push(shape, properties);
        self.names.insert(full, id);
        Ok(id)
    }

    fn check_defaults(&mut self, record: TypeId) -> Result<(), Invalid> {
        let Shape::Record { fields, .. } = &self.types[record].shape else { return Ok(()) };
        let mut steps = self.steps;
        for field in fields {
            let Some(default) = &field.default else { continue };
            if !self.is_valid(field.kind, default, &mut steps)? {
                let kind = self.types[field.kind].shape_name();
                let message = format!("the default of field {} is {}, which is no {kind}", field.name, shown(default));
                return Err(Invalid::new(message));
            }
        }
        self.steps = steps;
        Ok(())
    }

    /// Whether a value may be the default of a type. It goes down only as deep as the value, or to a record's own defaults.
    fn is_valid(&self, id: TypeId, value: &Json, steps: &mut usize) -> Result<bool, Invalid> {
        *steps = steps.checked_sub(1).ok_or_else(|| Invalid::new("the defaults are too complex to check"))?;
        Ok(match &self.types[id].shape {
            Shape::Primitive(primitive) => match primitive {
                Primitive::Null => *value == Json::Null,
                Primitive::Boolean => matches!(value, Json::Bool(_)),
                Primitive::Int => value.as_i64().is_some_and(|value| i32::try_from(value).is_ok()),
                Primitive::Long => value.as_i64().is_some(),
                Primitive::Float | Primitive::Double => matches!(value, Json::Number(_)),
                Primitive::Bytes | Primitive::String => value.as_str().is_some(),
            },
            Shape::Enum { .. } | Shape::Fixed { .. } => value.as_str().is_some(),
            Shape::Array(items) => match value {
                Json::Array(values) => self.are_valid(*items, values.iter(), steps)?,
                _ => false,
            },
            Shape::Map(values) => match value {
                Json::Object(object) => self.are_valid(*values, object.values(), steps)?,
                _ => false,
            },
            Shape::Union(branches) => {
                for branch in branches {
                    if self.is_valid(*branch, value, steps)? {
                        return Ok(true);
                    }
                }
                false
            }
            Shape::Record { fields, .. } => {
                let Json::Object(object) = value else { return Ok(false) };
                for field in fields {
                    let is_valid = match object.get(&field.name) {
                        Some(value) => self.is_valid(field.kind, value, steps)?,
                        // The field's own default was checked where the record was defined.
                        None => field.default.is_some(),
                    };
                    if !is_valid {
                        return Ok(false);
                    }
                }
                true
            }
        })
    }

    fn are_valid<'a>(
        &self,
        id: TypeId,
        values: impl Iterator<Item = &'a Json>,
        steps: &mut usize,
    ) -> Result<bool, Invalid> {
        for value in values {
            if !self.is_valid(id, value, steps)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Type {
    /// The type in a few words, for errors.
    fn shape_name(&self) -> String {
        match &self.shape {
            Shape::Primitive(primitive) => format!("\"{}\"", primitive.name()),
            Shape::Array(_) => "\"array\"".to_owned(),
            Shape::Map(_) => "\"map\"".to_owned(),
            Shape::Union(_) => "union".to_owned(),
            Shape::Record { named, .. } | Shape::Enum { named, .. } | Shape::Fixed { named, .. } => {
                format!("\"{}\"", named.name.full())
            }
        }
    }
}

fn named(object: &Object, space: Option<&str>) -> Result<Named, Invalid> {
    let name =
        text(object, "name").ok_or_else(|| Invalid::new(format!("a name is missing: {}", shown_object(object))))?;
    let own = text(object, "namespace").or(space);
    let name = split(name, own);
    check_name(&name.name)?;
    if Primitive::of(&name.full()).is_some() {
        return Err(Invalid::new(format!("{} is the name of a primitive type", name.full())));
    }
    let aliases = aliases(object)?.into_iter().map(|alias| split(alias, name.space.as_deref())).collect();
    Ok(Named { name, doc: text(object, "doc").map(str::to_owned), aliases })
}

/// A name that holds its namespace, or is in the one around. An empty namespace is none.
fn split(text: &str, space: Option<&str>) -> Name {
    let (space, name) = match text.rsplit_once('.') {
        Some((space, name)) => (Some(space), name),
        None => (space, text),
    };
    Name { space: space.filter(|space| !space.is_empty()).map(str::to_owned), name: name.to_owned() }
}

fn check_name(name: &str) -> Result<(), Invalid> {
    let Some(first) = name.chars().next() else { return Err(Invalid::new("a name is empty")) };
    if !first.is_alphabetic() && first != '_' {
        return Err(Invalid::new(format!("the name {name} begins with neither a letter nor an underscore")));
    }
    if !name.chars().all(|c| c.is_alphanumeric() || c == '_') {
        return Err(Invalid::new(format!("the name {name} holds other than letters, digits and underscores")));
    }
    Ok(())
}

fn aliases(object: &Object) -> Result<Vec<&str>, Invalid> {
    let Some(aliases) = object.get("aliases") else { return Ok(Vec::new()) };
    let not_texts = || Invalid::new(format!("aliases are texts: {}", shown(aliases)));
    let aliases = aliases.as_array().ok_or_else(not_texts)?;
    aliases.iter().map(|alias| alias.as_str().ok_or_else(not_texts)).collect()
}

fn member<'a>(object: &'a Object, name: &str, missing: &str) -> Result<&'a Json, Invalid> {
    object.get(name).ok_or_else(|| Invalid::new(format!("{missing}: {}", shown_object(object))))
}

fn text<'a>(object: &'a Object, name: &str) -> Option<&'a str> {
    object.get(name).and_then(Json::as_str)
}

fn properties(object: &Object, known: &[&str]) -> Object {
    let unknown = object.iter().filter(|(name, _)| !known.contains(&name.as_str()));
    unknown.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn shown(json: &Json) -> String {
    let text = json.to_string();
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn shown_object(object: &Object) -> String {
    shown(&Json::Object(object.clone()))
}
