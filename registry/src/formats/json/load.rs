//! From JSON to the model.
//!
//! Nodes are made from a list of what is still to be read, never by recursion, and one JSON value becomes one node however
//! many references lead to it: so recursive schemas end, and chains of references of any length do no harm.

use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use regex::{Regex, RegexBuilder};

use super::{ANYTHING, Array, How, Node, NodeId, Number, Object, Rest, Shape};
use crate::formats::{Invalid, Referenced};
use crate::json::{Json, Object as Members};

/// Patterns of properties that a schema has at most, those of what it refers to included.
const PATTERNS_MAX: usize = 100;
/// Bytes that all of them have at most, as they are written.
const PATTERNS_BYTES_MAX: usize = 64 << 10;
/// Bytes that a compiled pattern takes at most.
const PATTERN_BYTES: usize = 1 << 19;
/// Bytes that what a compiled pattern notes of what it has seen takes at most.
const PATTERN_CACHE_BYTES: usize = 1 << 18;
/// Bytes of a URL that a schema gives itself: each schema in it may hold as many.
const URL_BYTES_MAX: usize = 512;
/// Schemas of schemas, which are not looked into.
const METASCHEMAS: [&str; 2] = ["http://json-schema.org/", "https://json-schema.org/"];

const OBJECT_WORDS: [&str; 10] = [
    "properties",
    "required",
    "minProperties",
    "maxProperties",
    "dependencies",
    "patternProperties",
    "additionalProperties",
    "propertyNames",
    "dependentRequired",
    "dependentSchemas",
];
const ARRAY_WORDS: [&str; 8] =
    ["items", "additionalItems", "minItems", "maxItems", "uniqueItems", "contains", "prefixItems", "unevaluatedItems"];
const NUMBER_WORDS: [&str; 5] = ["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"];
const TEXT_WORDS: [&str; 4] = ["minLength", "maxLength", "pattern", "format"];

pub(super) fn load(source: &Json, references: &[Referenced]) -> Result<(Vec<Node>, NodeId), Invalid> {
    let parsed = references.iter().map(|reference| {
        let json = Json::parse(&reference.text);
        json.map(|json| (reference.name.as_str(), json))
            .map_err(|error| Invalid::new(error.to_string()).within(&reference.name))
    });
    let others: Vec<(&str, Json)> = parsed.collect::<Result<_, _>>()?;
    let mut loader = Loader {
        nodes: Vec::new(),
        known: HashMap::new(),
        waiting: Vec::new(),
        places: HashMap::new(),
        patterns_left: PATTERNS_MAX,
        pattern_bytes_left: PATTERNS_BYTES_MAX,
    };
    loader.push(Shape::Anything);
    for (name, json) in &others {
        loader.places.insert((*name).to_owned(), Place { json, modern: is_modern(json) });
        loader.register(json, &Rc::from(*name), is_modern(json))?;
    }
    let modern = is_modern(source);
    loader.places.insert(String::new(), Place { json: source, modern });
    let base = Rc::from("");
    loader.register(source, &base, modern)?;
    let root = loader.node(source, &base, modern);
    while let Some(task) = loader.waiting.pop() {
        loader.read(&task)?;
    }
    Ok((loader.nodes, root))
}

/// Whether a draft lets other words stand beside `$ref`, and items be told apart by `prefixItems`: 2019-09 and later.
fn is_modern(json: &Json) -> bool {
    let draft = json.as_object().and_then(|members| members.get("$schema")).and_then(Json::as_str);
    draft.is_some_and(|draft| draft.contains("/draft/20"))
}

/// A schema that has a URL.
#[derive(Clone, Copy)]
struct Place<'a> {
    json: &'a Json,
    modern: bool,
}

/// A node whose shape is to be read.
struct Task<'a> {
    id: NodeId,
    json: &'a Json,
    base: Rc<str>,
    modern: bool,
}

struct Loader<'a> {
    nodes: Vec<Node>,
    /// By the address of the JSON, which stays where it is while this lives.
    known: HashMap<*const Json, NodeId>,
    waiting: Vec<Task<'a>>,
    /// By URL, `URL#anchor` and the names of references.
    places: HashMap<String, Place<'a>>,
    patterns_left: usize,
    pattern_bytes_left: usize,
}

impl<'a> Loader<'a> {
    fn push(&mut self, shape: Shape) -> NodeId {
        self.nodes.push(Node { shape, has_default: false });
        self.nodes.len() - 1
    }

    /// The node of a JSON value, to be read later if it is new.
    fn node(&mut self, json: &'a Json, base: &Rc<str>, modern: bool) -> NodeId {
        if let Some(id) = self.known.get(&std::ptr::from_ref(json)) {
            return *id;
        }
        let id = self.push(Shape::Anything);
        self.known.insert(std::ptr::from_ref(json), id);
        self.waiting.push(Task { id, json, base: Rc::clone(base), modern });
        id
    }

    /// Notes the URLs and anchors of a schema and of all in it. It goes as deep as the JSON, which is bounded.
    fn register(&mut self, json: &'a Json, base: &Rc<str>, modern: bool) -> Result<(), Invalid> {
        match json {
            Json::Array(elements) => elements.iter().try_for_each(|element| self.register(element, base, modern)),
            Json::Object(members) => {
                let (base, own) = own_base(members, base)?;
                if let Some(own) = own {
                    self.places.entry(own).or_insert(Place { json, modern });
                }
                for word in ["$anchor", "$dynamicAnchor"] {
                    if let Some(anchor) = members.get(word).and_then(Json::as_str) {
                        let place = checked(format!("{base}#{anchor}"))?;
                        self.places.entry(place).or_insert(Place { json, modern });
                    }
                }
                for (name, member) in members {
                    // What is in these is data.
                    if !matches!(name.as_str(), "enum" | "const" | "default" | "examples") {
                        self.register(member, &base, modern)?;
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn read(&mut self, task: &Task<'a>) -> Result<(), Invalid> {
        let members = match task.json {
            Json::Bool(true) => return Ok(()),
            Json::Bool(false) => {
                self.nodes[task.id].shape = Shape::Nothing;
                return Ok(());
            }
            Json::Object(members) => members,
            other => {
                let message = format!("a schema is an object or a boolean, and not {}", kind_of(other));
                return Err(Invalid::new(message));
            }
        };
        let (base, _) = own_base(members, &task.base)?;
        let base = &base;
        let mut parts = Vec::new();
        if let Some(reference) = members.get("$ref") {
            let reference = reference.as_str().ok_or_else(|| Invalid::new("$ref is a text"))?;
            parts.push(Shape::Reference(self.resolve(reference, base)?));
        }
        if parts.is_empty() || task.modern {
            self.read_words(members, base, task.modern, &mut parts)?;
        }
        let mut parts = parts.into_iter();
        self.nodes[task.id].shape = match (parts.next(), parts.next()) {
            (None, _) => Shape::Anything,
            (Some(only), None) => only,
            (Some(first), Some(second)) => {
                let parts = [first, second].into_iter().chain(parts).map(|part| self.push(part)).collect();
                Shape::Combined { how: How::All, parts }
            }
        };
        self.nodes[task.id].has_default = members.contains_key("default");
        Ok(())
    }

    /// What the words of a schema say, each kind by itself.
    fn read_words(
        &mut self,
        members: &'a Members,
        base: &Rc<str>,
        modern: bool,
        parts: &mut Vec<Shape>,
    ) -> Result<(), Invalid> {
        if let Some(values) = members.get("enum") {
            let values = values.as_array().ok_or_else(|| Invalid::new("enum is an array"))?;
            parts.push(Shape::Enum(values.to_vec()));
        }
        if let Some(value) = members.get("const") {
            parts.push(Shape::Const(value.clone()));
        }
        for how in [How::All, How::Any, How::One] {
            let Some(schemas) = members.get(how.name()) else { continue };
            let schemas = schemas.as_array().ok_or_else(|| Invalid::new(format!("{} is an array", how.name())))?;
            parts.push(self.combined(how, schemas, base, modern));
        }
        if let Some(schema) = members.get("not") {
            parts.push(Shape::Not(self.node(schema, base, modern)));
        }
        if members.contains_key("if") {
            parts.push(Shape::Conditional);
        }
        match members.get("type") {
            Some(Json::String(name)) => parts.push(self.of_type(name, members, base, modern)?),
            Some(Json::Array(names)) => {
                let mut shapes = Vec::with_capacity(names.len());
                for name in names {
                    let name = name.as_str().ok_or_else(|| Invalid::new("a type is a text"))?;
                    shapes.push(self.of_type(name, members, base, modern)?);
                }
                match shapes.pop() {
                    Some(only) if shapes.is_empty() => parts.push(only),
                    Some(last) => {
                        shapes.push(last);
                        let parts_of_type = shapes.into_iter().map(|shape| self.push(shape)).collect();
                        parts.push(Shape::Combined { how: How::Any, parts: parts_of_type });
                    }
                    None => return Err(Invalid::new("type is an empty array")),
                }
            }
            Some(other) => return Err(Invalid::new(format!("type is a text or an array, and not {}", kind_of(other)))),
            None => {
                let kinds: [(&[&str], &str); 4] = [
                    (&ARRAY_WORDS, "array"),
                    (&OBJECT_WORDS, "object"),
                    (&NUMBER_WORDS, "number"),
                    (&TEXT_WORDS, "string"),
                ];
                for (words, name) in kinds {
                    if words.iter().any(|word| members.contains_key(*word)) {
                        parts.push(self.of_type(name, members, base, modern)?);
                    }
                }
            }
        }
        Ok(())
    }

    /// Parts that are the same count once.
    fn combined(&mut self, how: How, schemas: &'a [Json], base: &Rc<str>, modern: bool) -> Shape {
        let mut seen = BTreeSet::new();
        let mut parts = Vec::with_capacity(schemas.len());
        for schema in schemas {
            if seen.insert(schema.to_string()) {
                parts.push(self.node(schema, base, modern));
            }
        }
        Shape::Combined { how, parts }
    }

    fn of_type(&mut self, name: &str, members: &'a Members, base: &Rc<str>, modern: bool) -> Result<Shape, Invalid> {
        Ok(match name {
            "string" => Shape::Text {
                min: number(members, "minLength")?,
                max: number(members, "maxLength")?,
                pattern: text(members, "pattern")?,
            },
            "number" | "integer" => {
                // In draft 4 the exclusive ones are booleans, which say something about the others.
                let exclusive = |word: &str| match members.get(word) {
                    Some(Json::Bool(_)) => Ok(None),
                    _ => number(members, word),
                };
                Shape::Number(Box::new(Number {
                    is_integer: name == "integer",
                    min: number(members, "minimum")?,
                    max: number(members, "maximum")?,
                    above: exclusive("exclusiveMinimum")?,
                    below: exclusive("exclusiveMaximum")?,
                    multiple_of: number(members, "multipleOf")?,
                }))
            }
            "boolean" => Shape::Boolean,
            "null" => Shape::Null,
            "object" => Shape::Object(Box::new(self.object(members, base, modern)?)),
            "array" => Shape::Array(Box::new(self.array(members, base, modern)?)),
            other => return Err(Invalid::new(format!("unknown type: [{other}]"))),
        })
    }

    fn object(&mut self, members: &'a Members, base: &Rc<str>, modern: bool) -> Result<Object, Invalid> {
        let mut object = Object {
            additional: self.rest(members.get("additionalProperties"), base, modern),
            unevaluated: members.get("unevaluatedProperties").map(|json| self.node(json, base, modern)),
            min: number(members, "minProperties")?,
            max: number(members, "maxProperties")?,
            ..Object::default()
        };
        for (name, json) in named(members, "properties")? {
            object.properties.insert(name.clone(), self.node(json, base, modern));
        }
        for (pattern, json) in named(members, "patternProperties")? {
            let regex = self.regex(pattern)?;
            object.patterns.push((regex, self.node(json, base, modern)));
        }
        match members.get("required") {
            // Draft 3 has a boolean here, in the schema of the property.
            None | Some(Json::Bool(_)) => {}
            Some(required) => object.required = texts(required, "required")?.into_iter().collect(),
        }
        for word in ["dependencies", "dependentRequired", "dependentSchemas"] {
            for (name, json) in named(members, word)? {
                match json {
                    Json::Array(_) => _ = object.needed_properties.insert(name.clone(), texts(json, word)?),
                    _ => _ = object.needed_schemas.insert(name.clone(), self.node(json, base, modern)),
                }
            }
        }
        Ok(object)
    }

    /// A compiled pattern, if it can be read.
    fn regex(&mut self, pattern: &str) -> Result<Option<Regex>, Invalid> {
        let left = self.patterns_left.checked_sub(1).zip(self.pattern_bytes_left.checked_sub(pattern.len()));
        let Some((patterns, bytes)) = left else {
            let message = format!(
                "patternProperties has more than {PATTERNS_MAX} patterns, or more than {PATTERNS_BYTES_MAX} bytes of them"
            );
            return Err(Invalid::new(message));
        };
        (self.patterns_left, self.pattern_bytes_left) = (patterns, bytes);
        let mut builder = RegexBuilder::new(pattern);
        Ok(builder.size_limit(PATTERN_BYTES).dfa_size_limit(PATTERN_CACHE_BYTES).build().ok())
    }

    fn array(&mut self, members: &'a Members, base: &Rc<str>, modern: bool) -> Result<Array, Invalid> {
        let mut array = Array {
            additional: self.rest(members.get("additionalItems"), base, modern),
            unevaluated: members.get("unevaluatedItems").map(|json| self.node(json, base, modern)),
            min: number(members, "minItems")?,
            max: number(members, "maxItems")?,
            min_contains: number(members, "minContains")?,
            max_contains: number(members, "maxContains")?,
            is_unique: members.get("uniqueItems").is_some_and(Json::is_true),
            ..Array::default()
        };
        match (members.get("prefixItems"), members.get("items")) {
            (Some(prefix), rest) => {
                let prefix = prefix.as_array().ok_or_else(|| Invalid::new("prefixItems is an array"))?;
                array.items = prefix.iter().map(|json| self.node(json, base, modern)).collect();
                array.additional = self.rest(rest, base, modern);
            }
            (None, Some(Json::Array(items))) => {
                array.items = items.iter().map(|json| self.node(json, base, modern)).collect();
            }
            (None, Some(json)) => array.all = Some(self.node(json, base, modern)),
            (None, None) => {}
        }
        Ok(array)
    }

    fn rest(&mut self, json: Option<&'a Json>, base: &Rc<str>, modern: bool) -> Rest {
        match json {
            None | Some(Json::Bool(true)) => Rest::Anything,
            Some(Json::Bool(false)) => Rest::Nothing,
            Some(json) => Rest::Of(self.node(json, base, modern)),
        }
    }

    /// The node that a reference leads to.
    fn resolve(&mut self, reference: &str, base: &str) -> Result<NodeId, Invalid> {
        let unknown = || {
            Invalid::new(format!(
                "cannot resolve the reference '{reference}': what it names is neither in the schema nor among its references"
            ))
        };
        if METASCHEMAS.iter().any(|url| reference.starts_with(url)) {
            return Ok(ANYTHING);
        }
        let whole = join(base, reference);
        let (url, fragment) = split(&whole);
        let is_pointer = fragment.is_empty() || fragment.starts_with('/');
        if !is_pointer {
            let place = self.places.get(&format!("{url}#{fragment}")).copied().ok_or_else(unknown)?;
            return Ok(self.node(place.json, &Rc::from(url), place.modern));
        }
        // The name of a reference is whatever the client chose, so it is tried as it is written too.
        let (written, _) = split(reference);
        let place = self.places.get(url).or_else(|| self.places.get(written).filter(|_| !written.is_empty()));
        let place = place.copied().ok_or_else(unknown)?;
        let (json, base) = pointed_at(place.json, fragment, url)?.ok_or_else(unknown)?;
        Ok(self.node(json, &base, place.modern))
    }
}

/// Follows a JSON pointer, and the URLs that schemas on its way give themselves; none if nothing is there.
fn pointed_at<'a>(json: &'a Json, pointer: &str, base: &str) -> Result<Option<(&'a Json, Rc<str>)>, Invalid> {
    let mut here = json;
    let mut base = Rc::from(base);
    for part in pointer.split('/').skip(1) {
        let part = unescape(part).replace("~1", "/").replace("~0", "~");
        let next = match here {
            Json::Object(members) => {
                (base, _) = own_base(members, &base)?;
                members.get(&part)
            }
            Json::Array(elements) => part.parse::<usize>().ok().and_then(|index| elements.get(index)),
            _ => None,
        };
        let Some(next) = next else { return Ok(None) };
        here = next;
    }
    Ok(Some((here, base)))
}

/// Undoes `%xx`.
fn unescape(text: &str) -> String {
    crate::percent::decode(text).unwrap_or_else(|| text.to_owned())
}

fn id_of(members: &Members) -> Option<&str> {
    members.get("$id").or_else(|| members.get("id")).and_then(Json::as_str)
}

/// The URL that a schema is at, where the one around is at `base`, and what it is called itself: its URL, or `URL#anchor`.
fn own_base(members: &Members, base: &Rc<str>) -> Result<(Rc<str>, Option<String>), Invalid> {
    // An `id` may be the name of a property, and then it is no text.
    let Some(id) = id_of(members) else { return Ok((Rc::clone(base), None)) };
    let whole = checked(join(base, id))?;
    let (url, anchor) = split(&whole);
    let own = if anchor.is_empty() { url.to_owned() } else { whole.clone() };
    Ok((Rc::from(url), Some(own).filter(|own| !own.is_empty())))
}

fn checked(url: String) -> Result<String, Invalid> {
    match url.len() <= URL_BYTES_MAX {
        true => Ok(url),
        false => Err(Invalid::new(format!("the URL of a schema has more than {URL_BYTES_MAX} bytes"))),
    }
}

/// URL and fragment.
fn split(url: &str) -> (&str, &str) {
    url.split_once('#').unwrap_or((url, ""))
}

/// What a reference means where `base` is the URL around: enough of RFC 3986 for what schemas use.
fn join(base: &str, reference: &str) -> String {
    let (base, _) = split(base);
    if reference.is_empty() || reference.starts_with('#') {
        return format!("{base}{reference}");
    }
    let scheme = reference.split(['/', '#', '?']).next().unwrap_or_default();
    if scheme.contains(':') || base.is_empty() {
        return reference.to_owned();
    }
    let authority_end =
        base.find("://").map_or(0, |at| base[at + 3..].find('/').map_or(base.len(), |end| at + 3 + end));
    if reference.starts_with('/') {
        return format!("{}{reference}", &base[..authority_end]);
    }
    let folder = base.rfind('/').filter(|at| *at >= authority_end).map_or(authority_end, |at| at + 1);
    let separator = if folder == authority_end && authority_end > 0 { "/" } else { "" };
    format!("{}{separator}{}", &base[..folder], reference.trim_start_matches("./"))
}

fn named<'a>(members: &'a Members, word: &str) -> Result<impl Iterator<Item = (&'a String, &'a Json)>, Invalid> {
    let object = match members.get(word) {
        None => None,
        Some(Json::Object(object)) => Some(object),
        Some(other) => return Err(Invalid::new(format!("{word} is an object, and not {}", kind_of(other)))),
    };
    Ok(object.into_iter().flatten())
}

fn number(members: &Members, word: &str) -> Result<Option<f64>, Invalid> {
    match members.get(word) {
        None => Ok(None),
        Some(json) => match json.as_f64() {
            Some(number) => Ok(Some(number)),
            None => Err(Invalid::new(format!("{word} is a number, and not {}", kind_of(json)))),
        },
    }
}

fn text(members: &Members, word: &str) -> Result<Option<String>, Invalid> {
    match members.get(word) {
        None => Ok(None),
        Some(Json::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(Invalid::new(format!("{word} is a text, and not {}", kind_of(other)))),
    }
}

fn texts(json: &Json, word: &str) -> Result<BTreeSet<String>, Invalid> {
    let wrong = || Invalid::new(format!("{word} is an array of texts"));
    let elements = json.as_array().ok_or_else(wrong)?;
    elements.iter().map(|element| element.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
}

fn kind_of(json: &Json) -> &'static str {
    match json {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "an array",
        Json::Object(_) => "an object",
    }
}
