//! Hive's types in Arrow's words and back.

use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use datafusion::scalar::ScalarValue;
use tereza_catalog::model::Table;
use tereza_runtime::{Error, Result};

/// The Arrow type of a Hive type text.
pub(crate) fn arrow_type(hive: &str) -> Result<DataType> {
    Err(Error::unsupported(format!("type {hive}")))
}

/// The Hive type text of an Arrow type; `Unsupported` for a type that Hive lacks.
pub(crate) fn hive_type(arrow: &DataType) -> Result<String> {
    Err(Error::unsupported(format!("type {arrow}")))
}

/// The columns of a table's files, and its partition keys, as Arrow fields.
pub(crate) fn table_fields(table: &Table) -> Result<(SchemaRef, Vec<FieldRef>)> {
    Err(Error::unsupported(format!("table {}", table.name)))
}

/// The value of a partition key from the catalog's text.
pub(crate) fn partition_scalar(_text: &str, data_type: &DataType) -> Result<ScalarValue> {
    Err(Error::unsupported(format!("type {data_type}")))
}

/// The catalog's text of a partition key's value.
pub(crate) fn partition_text(value: &ScalarValue) -> Result<String> {
    Err(Error::unsupported(format!("value {value}")))
}
