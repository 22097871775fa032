//! Avro schemas: parsed from their JSON, and made of a table's columns as Flink makes them.

use std::collections::HashMap;

use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde_json::{Map, Value, json};
use tereza_runtime::{Error, Result};

use crate::format::Reason;
use crate::format::column::entry_fields;

/// How deep a schema may be nested.
const DEPTH_MAX: usize = 100;

/// What a whole number means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Number,
    Date,
    Time(TimeUnit),
    Timestamp(TimeUnit),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Avro {
    Null,
    Boolean,
    Int(Meaning),
    Long(Meaning),
    Float,
    Double,
    /// With the scale if they are the digits of a decimal.
    Bytes(Option<u32>),
    Fixed {
        len: usize,
        scale: Option<u32>,
    },
    String,
    Enum(Vec<String>),
    Array(Box<Avro>),
    Map(Box<Avro>),
    Union(Vec<Avro>),
    /// By its place among the records, as records can hold themselves.
    Record(usize),
}

/// A schema with all its records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Schema {
    pub(super) root: Avro,
    pub(super) records: Vec<Record>,
}

/// The fields of a record in their order.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Record {
    pub(super) fields: Vec<(String, Avro)>,
}

impl Schema {
    /// Parses a schema. Errors say what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, Reason> {
        let json: Value = serde_json::from_str(text).map_err(|error| format!("the Avro schema is no JSON: {error}"))?;
        let mut parser = Parser::default();
        let root = parser.parse(&json, "", 0)?;
        Ok(Self { root, records: parser.records })
    }
}

#[derive(Default)]
struct Parser {
    records: Vec<Record>,
    named: HashMap<String, Avro>,
}

impl Parser {
    fn parse(&mut self, json: &Value, namespace: &str, depth: usize) -> Result<Avro, Reason> {
        if depth > DEPTH_MAX {
            return Err(format!("the Avro schema is nested deeper than {DEPTH_MAX}"));
        }
        match json {
            Value::String(name) => self.by_name(name, namespace),
            Value::Array(branches) => {
                let branches = branches.iter().map(|branch| self.parse(branch, namespace, depth + 1));
                Ok(Avro::Union(branches.collect::<Result<_, _>>()?))
            }
            Value::Object(members) => self.parse_object(members, namespace, depth),
            _ => Err("a type of the Avro schema is neither text, array nor object".to_owned()),
        }
    }

    fn by_name(&self, name: &str, namespace: &str) -> Result<Avro, Reason> {
        Ok(match name {
            "null" => Avro::Null,
            "boolean" => Avro::Boolean,
            "int" => Avro::Int(Meaning::Number),
            "long" => Avro::Long(Meaning::Number),
            "float" => Avro::Float,
            "double" => Avro::Double,
            "bytes" => Avro::Bytes(None),
            "string" => Avro::String,
            _ => {
                let known = self.named.get(&full_name(name, namespace)).or_else(|| self.named.get(name));
                known.cloned().ok_or_else(|| format!("the Avro schema has no type `{name}`"))?
            }
        })
    }

    fn parse_object(&mut self, members: &Map<String, Value>, namespace: &str, depth: usize) -> Result<Avro, Reason> {
        let missing = |what: &str| format!("a type of the Avro schema has no `{what}`");
        let kind = members.get("type").ok_or_else(|| missing("type"))?;
        let Value::String(kind) = kind else { return self.parse(kind, namespace, depth + 1) };
        let logical = members.get("logicalType").and_then(Value::as_str).unwrap_or_default();
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        let scale = || {
            let scale = members.get("scale").map_or(Some(0), Value::as_u64);
            let scale = scale.filter(|_| logical == "decimal");
            scale.and_then(|scale| u32::try_from(scale).ok())
        };
        Ok(match (kind.as_str(), logical) {
            ("int", "date") => Avro::Int(Meaning::Date),
            ("int", "time-millis") => Avro::Int(Meaning::Time(TimeUnit::Millisecond)),
            ("long", "time-micros") => Avro::Long(Meaning::Time(TimeUnit::Microsecond)),
            ("long", "timestamp-millis" | "local-timestamp-millis") => {
                Avro::Long(Meaning::Timestamp(TimeUnit::Millisecond))
            }
            ("long", "timestamp-micros" | "local-timestamp-micros") => {
                Avro::Long(Meaning::Timestamp(TimeUnit::Microsecond))
            }
            ("long", "timestamp-nanos" | "local-timestamp-nanos") => {
                Avro::Long(Meaning::Timestamp(TimeUnit::Nanosecond))
            }
            ("bytes", _) => Avro::Bytes(scale()),
            ("array", _) => {
                let items = members.get("items").ok_or_else(|| missing("items"))?;
                Avro::Array(Box::new(self.parse(items, namespace, depth + 1)?))
            }
            ("map", _) => {
                let values = members.get("values").ok_or_else(|| missing("values"))?;
                Avro::Map(Box::new(self.parse(values, namespace, depth + 1)?))
            }
            ("record" | "error" | "enum" | "fixed", _) => {
                let name = text("name").ok_or_else(|| missing("name"))?;
                let name = full_name(name, text("namespace").unwrap_or(namespace));
                let inner = name.rsplit_once('.').map_or("", |(namespace, _)| namespace).to_owned();
                match kind.as_str() {
                    "enum" => {
                        let symbols =
                            members.get("symbols").and_then(Value::as_array).ok_or_else(|| missing("symbols"))?;
                        let symbols = symbols.iter().map(|symbol| symbol.as_str().map(str::to_owned));
                        let symbols = symbols.collect::<Option<_>>().ok_or("a symbol of an Avro enum is no text")?;
                        self.name(name, Avro::Enum(symbols))?
                    }
                    "fixed" => {
                        let len = members.get("size").and_then(Value::as_u64).and_then(|len| usize::try_from(len).ok());
                        let len = len.ok_or_else(|| missing("size"))?;
                        self.name(name, Avro::Fixed { len, scale: scale() })?
                    }
                    _ => {
                        let record = self.name(name, Avro::Record(self.records.len()))?;
                        self.parse_fields(members, &inner, depth)?;
                        record
                    }
                }
            }
            (name, _) => self.by_name(name, namespace)?,
        })
    }

    fn name(&mut self, name: String, avro: Avro) -> Result<Avro, Reason> {
        if self.named.contains_key(&name) {
            return Err(format!("the Avro schema defines `{name}` twice"));
        }
        self.named.insert(name, avro.clone());
        Ok(avro)
    }

    /// The fields of the record that was named last.
    fn parse_fields(&mut self, members: &Map<String, Value>, namespace: &str, depth: usize) -> Result<(), Reason> {
        let at = self.records.len();
        self.records.push(Record::default());
        let fields =
            members.get("fields").and_then(Value::as_array).ok_or("a record of the Avro schema has no `fields`")?;
        for field in fields {
            let name = field.get("name").and_then(Value::as_str).ok_or("a field of the Avro schema has no `name`")?;
            let kind = field.get("type").ok_or_else(|| format!("field `{name}` of the Avro schema has no `type`"))?;
            let avro = self.parse(kind, namespace, depth + 1)?;
            let fields = &mut self.records[at].fields;
            if fields.iter().any(|(known, _)| known == name) {
                return Err(format!("a record of the Avro schema has two fields `{name}`"));
            }
            fields.push((name.to_owned(), avro));
        }
        Ok(())
    }
}

fn full_name(name: &str, namespace: &str) -> String {
    if name.contains('.') || namespace.is_empty() { name.to_owned() } else { format!("{namespace}.{name}") }
}

/// The namespace and the name of the record that Flink makes of a table.
const NAMESPACE: &str = "org.apache.flink.avro.generated";
const RECORD: &str = "record";

/// How timestamps are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timestamps {
    /// TIMESTAMP as `timestamp-millis`, as Flink did before it told the two kinds apart. TIMESTAMP_LTZ has no form.
    Legacy,
    /// TIMESTAMP as `local-timestamp-*`, TIMESTAMP_LTZ as `timestamp-*`.
    Exact,
}

/// The schema that Flink makes of a table. Errors: `Unsupported` names a column and its type.
pub(super) fn of_table(fields: &Fields, timestamps: Timestamps) -> Result<String> {
    let mut record = record(RECORD, fields, timestamps)?;
    if let Value::Object(members) = &mut record {
        members.insert("namespace".to_owned(), json!(NAMESPACE));
    }
    Ok(record.to_string())
}

fn record(name: &str, fields: &Fields, timestamps: Timestamps) -> Result<Value> {
    let field = |field: &std::sync::Arc<Field>| {
        let inner = format!("{name}_{}", field.name());
        let avro = of_field(field, &inner, timestamps);
        let avro = avro.map_err(|error| error.context(format!("column `{}`", field.name())))?;
        Ok(match field.is_nullable() {
            true => json!({ "name": field.name(), "type": avro, "default": null }),
            false => json!({ "name": field.name(), "type": avro }),
        })
    };
    let fields = fields.iter().map(field).collect::<Result<Vec<_>>>()?;
    Ok(json!({ "type": "record", "name": name, "fields": fields }))
}

fn of_field(field: &Field, name: &str, timestamps: Timestamps) -> Result<Value> {
    let avro = of_type(field.data_type(), name, timestamps)?;
    Ok(if field.is_nullable() { json!(["null", avro]) } else { avro })
}

fn of_type(data_type: &DataType, name: &str, timestamps: Timestamps) -> Result<Value> {
    let unsupported = || Error::unsupported(format!("Avro of type {data_type}"));
    Ok(match data_type {
        DataType::Boolean => json!("boolean"),
        DataType::Int8 | DataType::Int16 | DataType::Int32 => json!("int"),
        DataType::Int64 => json!("long"),
        DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Utf8 => json!("string"),
        DataType::Binary => json!("bytes"),
        DataType::Date32 => json!({ "type": "int", "logicalType": "date" }),
        DataType::Time32(_) => json!({ "type": "int", "logicalType": "time-millis" }),
        DataType::Timestamp(unit, zone) => {
            let name = match (timestamps, unit, zone.is_some()) {
                (_, TimeUnit::Nanosecond, _) | (Timestamps::Legacy, TimeUnit::Microsecond, false) => {
                    return Err(unsupported().with_hint("Avro has no more than three digits of a second here"));
                }
                (Timestamps::Legacy, _, true) => {
                    return Err(unsupported().with_hint("set `avro.timestamp_mapping.legacy` to false"));
                }
                (Timestamps::Legacy, _, false) => "timestamp-millis",
                (Timestamps::Exact, TimeUnit::Microsecond, false) => "local-timestamp-micros",
                (Timestamps::Exact, TimeUnit::Microsecond, true) => "timestamp-micros",
                (Timestamps::Exact, _, false) => "local-timestamp-millis",
                (Timestamps::Exact, _, true) => "timestamp-millis",
            };
            json!({ "type": "long", "logicalType": name })
        }
        DataType::Decimal128(precision, scale) => {
            json!({ "type": "bytes", "logicalType": "decimal", "precision": precision, "scale": scale })
        }
        DataType::List(item) => json!({ "type": "array", "items": of_field(item, name, timestamps)? }),
        DataType::Map(entries, _) => {
            let (key, value) = entry_fields(entries)?;
            if key.data_type() != &DataType::Utf8 {
                return Err(Error::unsupported(format!("Avro of a map with keys of type {}", key.data_type())));
            }
            json!({ "type": "map", "values": of_field(value, name, timestamps)? })
        }
        DataType::Struct(fields) => record(name, fields, timestamps)?,
        _ => return Err(unsupported()),
    })
}
