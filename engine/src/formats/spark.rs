//! Columns of the tables that Spark keeps for itself.
//!
//! Spark gives a table that Hive cannot read (`USING json`, `USING csv`, …) one column to show, which means nothing; the
//! columns are in the table's parameters, as JSON.
//! Source: `org.apache.spark.sql.hive.HiveExternalCatalog`, `CatalogTable.readLargeTableProp`, `DataType.fromJson`.

use std::borrow::Cow;

use serde_json::Value;
use tereza_catalog::model::{Column, Parameters, Table};
use tereza_runtime::{Error, Result};

/// The parameter that names the format of Spark's own tables.
const PROVIDER: &str = "spark.sql.sources.provider";
/// The parameter of the columns, in one piece or in so many parts.
const SCHEMA: &str = "spark.sql.sources.schema";
/// Parts that are put together; Spark's are 4,000 characters long.
const PARTS_MAX: usize = 10_000;
/// Structs, arrays and maps inside each other.
const DEPTH_MAX: usize = 64;

/// Whether Spark looks for the table's columns in its parameters only.
pub(crate) fn keeps_columns(table: &Table) -> bool {
    table.parameters.contains_key(PROVIDER) && table.parameters.keys().any(|name| name.starts_with(SCHEMA))
}

/// Whether the columns in the table's storage stand for others.
pub(crate) fn hides_columns(table: &Table) -> bool {
    table.parameters.contains_key(PROVIDER)
        && matches!(&table.storage.columns[..], [column] if column.name == "col" && column.type_name == "array<string>")
}

/// The columns of a table's files.
pub(crate) fn columns(table: &Table) -> Result<Cow<'_, [Column]>> {
    if !hides_columns(table) {
        return Ok(Cow::Borrowed(&table.storage.columns));
    }
    let in_context = |error: Error| error.context(format!("table {}.{}", table.database, table.name));
    let schema = schema(&table.parameters).map_err(in_context)?;
    let fields = fields(&schema, 0).map_err(in_context)?;
    let is_key = |name: &str| table.partition_keys.iter().any(|key| key.name.eq_ignore_ascii_case(name));
    Ok(fields.into_iter().filter(|column| !is_key(&column.name)).collect())
}

/// Refuses to write what Spark would not find: members of JSON it finds by their exact names, and a metastore's are in lower case.
pub(crate) fn check_write(table: &Table) -> Result<()> {
    let provider = table.parameters.get(PROVIDER).map(String::as_str).unwrap_or_default();
    if hides_columns(table) && provider.eq_ignore_ascii_case("json") && has_capitals(&schema(&table.parameters)?) {
        let what = "writing into a JSON table of Spark with capital letters in names of columns";
        return Err(Error::unsupported(format!("{what} ({}.{})", table.database, table.name)));
    }
    Ok(())
}

fn schema(parameters: &Parameters) -> Result<Value> {
    let text = match parameters.get(SCHEMA) {
        Some(text) => Cow::Borrowed(text.as_str()),
        None => {
            let count = parameters.get(&format!("{SCHEMA}.numParts")).and_then(|count| count.parse::<usize>().ok());
            let count = count
                .filter(|count| *count <= PARTS_MAX)
                .ok_or_else(|| Error::unsupported("a table of Spark whose columns are not in its parameters"))?;
            let part = |index| parameters.get(&format!("{SCHEMA}.part.{index}")).map(String::as_str);
            let text = (0..count).map(part).collect::<Option<String>>();
            Cow::Owned(text.ok_or_else(|| Error::invalid_input(format!("a part of {SCHEMA} is missing")))?)
        }
    };
    serde_json::from_str(&text)
        .map_err(|error| Error::invalid_input(format!("{SCHEMA} is not JSON: {error}")).with_source(error))
}

/// Whether a name of a field has capital letters, at any depth that [`fields`] has read.
fn has_capitals(value: &Value) -> bool {
    match value {
        Value::Object(members) => members.iter().any(|(member, value)| match (member.as_str(), value) {
            ("name", Value::String(name)) => name.chars().any(char::is_uppercase),
            ("metadata", _) => false,
            (_, value) => has_capitals(value),
        }),
        Value::Array(values) => values.iter().any(has_capitals),
        _ => false,
    }
}

/// The fields of a struct. Names are in lower case, as everywhere in a metastore.
fn fields(value: &Value, depth: usize) -> Result<Vec<Column>> {
    let fields = value.get("fields").and_then(Value::as_array).ok_or_else(|| unreadable(value))?;
    let column = |field: &Value| {
        let name = field.get("name").and_then(Value::as_str).ok_or_else(|| unreadable(field))?;
        let comment = field.get("metadata").and_then(|metadata| metadata.get("comment")).and_then(Value::as_str);
        Ok(Column {
            name: name.to_lowercase(),
            type_name: hive_type(field.get("type").ok_or_else(|| unreadable(field))?, depth + 1)?,
            comment: comment.map(str::to_owned),
        })
    };
    fields.iter().map(column).collect()
}

fn hive_type(value: &Value, depth: usize) -> Result<String> {
    if depth > DEPTH_MAX {
        return Err(Error::unsupported(format!("types more than {DEPTH_MAX} deep")));
    }
    let inner = |name: &str| hive_type(value.get(name).ok_or_else(|| unreadable(value))?, depth + 1);
    if let Some(name) = value.as_str() {
        return Ok(match name {
            "long" => "bigint",
            "integer" => "int",
            "short" => "smallint",
            "byte" => "tinyint",
            // Without a time zone and with one are the same in a metastore.
            "timestamp_ntz" => "timestamp",
            other => other,
        }
        .to_owned());
    }
    match value.get("type").and_then(Value::as_str) {
        Some("array") => Ok(format!("array<{}>", inner("elementType")?)),
        Some("map") => Ok(format!("map<{},{}>", inner("keyType")?, inner("valueType")?)),
        Some("struct") => {
            let fields = fields(value, depth)?;
            let fields: Vec<String> =
                fields.into_iter().map(|field| format!("{}:{}", field.name, field.type_name)).collect();
            Ok(format!("struct<{}>", fields.join(",")))
        }
        _ => Err(unreadable(value)),
    }
}

fn unreadable(value: &Value) -> Error {
    Error::unsupported(format!("Spark's type {value}"))
}

#[cfg(test)]
mod tests {
    use tereza_catalog::model::{Storage, TableKind};

    use super::*;

    fn table(parameters: &[(&str, &str)]) -> Table {
        let column =
            |name: &str, type_name: &str| Column { name: name.into(), type_name: type_name.into(), comment: None };
        let provider = ("spark.sql.sources.provider", "json");
        let parameters = parameters.iter().chain([&provider]);
        Table {
            database: "web".into(),
            name: "t".into(),
            kind: TableKind::Managed,
            owner: None,
            create_time_s: 0,
            last_access_time_s: 0,
            retention: 0,
            storage: Storage { columns: vec![column("col", "array<string>")], ..Storage::default() },
            partition_keys: vec![column("ds", "string")],
            parameters: parameters.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            view_original_text: None,
            view_expanded_text: None,
            owner_kind: Default::default(),
        }
    }

    #[test]
    fn columns_are_read_from_one_piece_and_from_parts() {
        let text = r#"{"type":"struct","fields":[
            {"name":"id","type":"long","nullable":true,"metadata":{"comment":"its number"}},
            {"name":"ds","type":"string","nullable":true,"metadata":{}},
            {"name":"price","type":"decimal(10,2)","nullable":true,"metadata":{}},
            {"name":"all","type":{"type":"array","containsNull":true,"elementType":{"type":"struct","fields":[
                {"name":"a","type":"integer"},
                {"name":"b","type":{"type":"map","keyType":"string","valueType":"timestamp_ntz"}}]}}}]}"#;
        let found = |table: &Table| -> Vec<String> {
            let columns = columns(table).unwrap();
            columns.iter().map(|column| format!("{} {} {:?}", column.name, column.type_name, column.comment)).collect()
        };
        let expected = [
            "id bigint Some(\"its number\")",
            "price decimal(10,2) None",
            "all array<struct<a:int,b:map<string,timestamp>>> None",
        ];
        assert_eq!(found(&table(&[(SCHEMA, text)])), expected);
        let (first, second) = text.split_at(100);
        let parts = [
            (&*format!("{SCHEMA}.numParts"), "2"),
            (&*format!("{SCHEMA}.part.0"), first),
            (&*format!("{SCHEMA}.part.1"), second),
        ];
        assert_eq!(found(&table(&parts)), expected);
    }

    #[test]
    fn what_cannot_be_read_is_said() {
        let deep = format!(
            "{{\"fields\":[{{\"name\":\"a\",\"type\":{}\"long\"{}}}]}}",
            "{\"type\":\"array\",\"elementType\":".repeat(80),
            "}".repeat(80)
        );
        for (parameters, part) in [
            (&[][..], "not in its parameters"),
            (&[("spark.sql.sources.schema.numParts", "2"), ("spark.sql.sources.schema.part.0", "{")], "a part of"),
            (&[(SCHEMA, "{")], "is not JSON"),
            (&[(SCHEMA, "{\"fields\":[{\"name\":\"a\",\"type\":{\"type\":\"udt\"}}]}")], "type {\"type\":\"udt\"}"),
            (&[(SCHEMA, &deep)], "64 deep"),
        ] {
            let error = columns(&table(parameters)).unwrap_err().to_string();
            assert!(error.contains("table web.t") && error.contains(part), "{error}");
        }
        let capitals = table(&[(SCHEMA, "{\"fields\":[{\"name\":\"Id\",\"type\":\"long\"}]}")]);
        assert_eq!(columns(&capitals).unwrap()[0].name, "id");
        let error = check_write(&capitals).unwrap_err().to_string();
        assert!(error.contains("capital letters") && error.contains("web.t"), "{error}");
    }
}
