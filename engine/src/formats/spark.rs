//! Columns of the tables that Spark keeps for itself.
//!
//! Spark gives a table that Hive cannot read (`USING json`, `USING csv`, …) one column to show, which means nothing; the
//! columns are in the table's parameters, as JSON, with the capital letters that they were made with. The other tables that it
//! makes (`USING parquet`) have them in both places.
//! Source: `org.apache.spark.sql.hive.HiveExternalCatalog`, `CatalogTable.splitLargeTableProp`, `DataType.fromJson`.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use serde_json::{Map, Value, json};
use tereza_catalog::model::{Column, Parameters, Storage, Table};
use tereza_runtime::{Error, Result};

use crate::types::arrow_type;

/// The parameter that names the format of Spark's own tables.
const PROVIDER: &str = "spark.sql.sources.provider";
/// The parameter of the columns, in one piece or in so many parts.
const SCHEMA: &str = "spark.sql.sources.schema";
/// Parts that are put together.
const PARTS_MAX: usize = 10_000;
/// Characters in a part, and in one piece, as many as a metastore's databases were made for.
const PART_CHARACTERS: usize = 4_000;
/// What Spark notes with a text of bounded length, whose type it takes for `string` else.
const BOUNDED: &str = "__CHAR_VARCHAR_TYPE_STRING";
/// Formats in whose files members of structs are found in any case.
const ANY_CASE: [&str; 2] = ["orc", "parquet"];
/// Formats whose files get names with Spark's capital letters.
const WITH_CAPITALS: [&str; 2] = ["json", "parquet"];
/// Structs, arrays and maps inside each other.
const DEPTH_MAX: usize = 64;

/// Whether a table is one of Spark's own (`USING …`), by its parameters.
pub(crate) fn is_own(parameters: &Parameters) -> bool {
    parameters.get(PROVIDER).is_some_and(|provider| !provider.eq_ignore_ascii_case("hive"))
}

/// The storage that says how the files of `storage`, the table's or one of its partitions', are read: Spark's partitions have no
/// options of their own.
pub(crate) fn storage_of_files<'a>(table: &'a Table, storage: &'a Storage) -> &'a Storage {
    if is_own(&table.parameters) { &table.storage } else { storage }
}

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
        return Ok(columns_of_storage(table));
    }
    let in_context = |error: Error| error.context(format!("table {}.{}", table.database, table.name));
    let schema = schema(&table.parameters).map_err(in_context)?;
    let fields = fields(&schema, 0).map_err(in_context)?;
    let is_key = |name: &str| table.partition_keys.iter().any(|key| key.name.eq_ignore_ascii_case(name));
    let columns: Vec<Column> = fields.into_iter().filter(|column| !is_key(&column.name)).collect();
    let mut names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    names.sort_unstable();
    if let Some(twice) = names.windows(2).find(|names| names[0] == names[1]) {
        let what = format!("columns of Spark that differ in capital letters only ('{}')", twice[0]);
        return Err(in_context(Error::unsupported(what)));
    }
    Ok(Cow::Owned(columns))
}

/// Those of the storage, with members of structs in lower case where the files' are found in any.
fn columns_of_storage(table: &Table) -> Cow<'_, [Column]> {
    let columns = &table.storage.columns;
    let has_capitals = |column: &Column| column.type_name.chars().any(char::is_uppercase);
    if !is_of(table, ANY_CASE) || !columns.iter().any(has_capitals) {
        return Cow::Borrowed(columns);
    }
    let lower = |column: &Column| Column { type_name: column.type_name.to_lowercase(), ..column.clone() };
    columns.iter().map(lower).collect()
}

/// Whether a table is Spark's own in one of these formats.
fn is_of(table: &Table, formats: [&str; 2]) -> bool {
    let provider = table.parameters.get(PROVIDER);
    provider.is_some_and(|provider| formats.iter().any(|format| format.eq_ignore_ascii_case(provider)))
}

/// The columns of a table's files with the names that Spark has for them: it tells capital letters apart where it reads JSON, and may
/// elsewhere.
///
/// # Errors
/// `InvalidInput` for a column of JSON that Spark does not know: it would not find what is written.
pub(crate) fn named_for_spark(table: &Table, columns: &SchemaRef) -> Result<SchemaRef> {
    if !is_of(table, WITH_CAPITALS) || !keeps_columns(table) {
        return Ok(Arc::clone(columns));
    }
    let schema = schema(&table.parameters)?;
    let of_spark = list_of(&schema, "fields")?;
    // Others may have added columns to those of Parquet, where they find them.
    let is_json = !is_of(table, ANY_CASE);
    let named = columns.fields().iter().map(|column| match named_field(column, of_spark)? {
        None if is_json => {
            let (database, table, column) = (&table.database, &table.name, column.name());
            Err(Error::invalid_input(format!("column {column} is not among those of Spark's table {database}.{table}"))
                .with_hint("add it to the table in Spark"))
        }
        named => Ok(named.unwrap_or_else(|| Arc::clone(column))),
    });
    Ok(Arc::new(Schema::new(named.collect::<Result<Vec<FieldRef>>>()?)))
}

/// A field with the names of the one among Spark's that it is, of itself and inside, if it is one.
fn named_field(field: &Field, of_spark: &[Value]) -> Result<Option<FieldRef>> {
    for found in of_spark {
        let name = found.get("name").and_then(Value::as_str).ok_or_else(|| unreadable(found))?;
        if name.to_lowercase() == field.name().to_lowercase() {
            let data_type = named_type(field.data_type(), found.get("type").ok_or_else(|| unreadable(found))?)?;
            return Ok(Some(Arc::new(field.clone().with_name(name).with_data_type(data_type))));
        }
    }
    Ok(None)
}

fn named_type(data_type: &DataType, of_spark: &Value) -> Result<DataType> {
    let part = |name: &str| of_spark.get(name).ok_or_else(|| unreadable(of_spark));
    let with = |field: &Field, data_type: DataType| Arc::new(field.clone().with_data_type(data_type));
    Ok(match data_type {
        DataType::Struct(fields) => {
            let of_spark = list_of(of_spark, "fields")?;
            let named = |field: &FieldRef| Ok(named_field(field, of_spark)?.unwrap_or_else(|| Arc::clone(field)));
            DataType::Struct(fields.iter().map(named).collect::<Result<Vec<FieldRef>>>()?.into())
        }
        DataType::List(item) => DataType::List(with(item, named_type(item.data_type(), part("elementType")?)?)),
        DataType::Map(entries, ordered) => {
            let DataType::Struct(pair) = entries.data_type() else { return Ok(data_type.clone()) };
            let kinds = ["keyType", "valueType"];
            let named = pair
                .iter()
                .zip(kinds)
                .map(|(field, kind)| Ok(with(field, named_type(field.data_type(), part(kind)?)?)));
            let pair = DataType::Struct(named.collect::<Result<Vec<FieldRef>>>()?.into());
            DataType::Map(with(entries, pair), *ordered)
        }
        other => other.clone(),
    })
}

/// Adds columns wherever the table's are kept.
///
/// # Errors
/// `Unsupported` for a type that Spark lacks.
pub(crate) fn add_columns(table: &mut Table, added: Vec<Column>) -> Result<()> {
    if keeps_columns(table) {
        let mut schema = schema(&table.parameters)?;
        let place = list_of(&schema, "fields")?.iter().position(|field| is_key(table, field));
        let new = added.iter().map(field_of).collect::<Result<Vec<_>>>()?;
        let fields = schema.get_mut("fields").and_then(Value::as_array_mut);
        let fields = fields.ok_or_else(|| Error::internal("the columns of Spark went away"))?;
        // Keys of partitions are last.
        let place = place.unwrap_or(fields.len());
        drop(fields.splice(place..place, new));
        set_schema(&mut table.parameters, &schema.to_string());
    }
    if !hides_columns(table) {
        table.storage.columns.extend(added);
    }
    Ok(())
}

/// Puts the text of the columns in place of the one that is there, in one piece or in parts.
fn set_schema(parameters: &mut Parameters, text: &str) {
    let is_part = |name: &str| {
        name.strip_prefix(SCHEMA)
            .is_some_and(|rest| rest.is_empty() || rest == ".numParts" || rest.starts_with(".part."))
    };
    parameters.retain(|name, _| !is_part(name));
    let characters: Vec<char> = text.chars().collect();
    if characters.len() <= PART_CHARACTERS {
        parameters.insert(SCHEMA.to_owned(), text.to_owned());
        return;
    }
    let parts = characters.chunks(PART_CHARACTERS);
    parameters.insert(format!("{SCHEMA}.numParts"), parts.len().to_string());
    for (number, part) in parts.enumerate() {
        parameters.insert(format!("{SCHEMA}.part.{number}"), part.iter().collect());
    }
}

fn list_of<'a>(value: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    value.get(name).and_then(Value::as_array).ok_or_else(|| unreadable(value))
}

/// Whether a field of Spark's is a key of the table's partitions.
fn is_key(table: &Table, field: &Value) -> bool {
    let name = field.get("name").and_then(Value::as_str).unwrap_or_default();
    table.partition_keys.iter().any(|key| key.name.eq_ignore_ascii_case(name))
}

/// A column in Spark's words.
fn field_of(column: &Column) -> Result<Value> {
    let mut metadata = Map::new();
    if let Some(comment) = &column.comment {
        metadata.insert("comment".into(), json!(comment));
    }
    if column.type_name.contains("char(") {
        metadata.insert(BOUNDED.into(), json!(column.type_name));
    }
    let data_type = spark_type(&arrow_type(&column.type_name)?)?;
    Ok(json!({"name": column.name, "type": data_type, "nullable": true, "metadata": metadata}))
}

fn spark_type(data_type: &DataType) -> Result<Value> {
    Ok(match data_type {
        DataType::Boolean => json!("boolean"),
        DataType::Int8 => json!("byte"),
        DataType::Int16 => json!("short"),
        DataType::Int32 => json!("integer"),
        DataType::Int64 => json!("long"),
        DataType::Float32 => json!("float"),
        DataType::Float64 => json!("double"),
        DataType::Decimal128(precision, scale) => json!(format!("decimal({precision},{scale})")),
        DataType::Utf8 | DataType::Utf8View => json!("string"),
        DataType::Binary | DataType::BinaryView => json!("binary"),
        DataType::Date32 => json!("date"),
        // As Spark reads the metastore's.
        DataType::Timestamp(_, None) => json!("timestamp"),
        DataType::List(item) => {
            json!({"type": "array", "elementType": spark_type(item.data_type())?, "containsNull": true})
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(pair) = entries.data_type() else {
                return Err(Error::internal(format!("a map of {}", entries.data_type())));
            };
            let inner = |place: usize| spark_type(pair[place].data_type());
            json!({"type": "map", "keyType": inner(0)?, "valueType": inner(1)?, "valueContainsNull": true})
        }
        DataType::Struct(fields) => {
            let field = |field: &FieldRef| -> Result<Value> {
                let data_type = spark_type(field.data_type())?;
                Ok(json!({"name": field.name(), "type": data_type, "nullable": true, "metadata": {}}))
            };
            json!({"type": "struct", "fields": fields.iter().map(field).collect::<Result<Vec<_>>>()?})
        }
        other => return Err(Error::unsupported(format!("type {other} in a table of Spark"))),
    })
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

/// The fields of a struct. Names are in lower case, as everywhere in a metastore.
fn fields(value: &Value, depth: usize) -> Result<Vec<Column>> {
    let column = |field: &Value| {
        let name = field.get("name").and_then(Value::as_str).ok_or_else(|| unreadable(field))?;
        let noted = |note: &str| field.get("metadata").and_then(|metadata| metadata.get(note)).and_then(Value::as_str);
        let type_name = match noted(BOUNDED) {
            Some(bounded) => bounded.to_owned(),
            None => hive_type(field.get("type").ok_or_else(|| unreadable(field))?, depth + 1)?,
        };
        Ok(Column { name: name.to_lowercase(), type_name, comment: noted("comment").map(str::to_owned) })
    };
    list_of(value, "fields")?.iter().map(column).collect()
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
pub(crate) mod tests;
