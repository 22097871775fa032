//! Batches of a query become batches of files: columns get the table's types, rows go to their partitions.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt32Array};
use arrow::compute::{CastOptions, cast_with_options, take_record_batch};
use arrow::datatypes::{DataType, FieldRef, SchemaRef};
use arrow::error::ArrowError;
use arrow::row::{RowConverter, SortField};
use datafusion::error::DataFusionError;
use datafusion::scalar::ScalarValue;
use tereza_catalog::model::{DEFAULT_PARTITION, Table};
use tereza_runtime::{Error, Result};

use crate::error::from_datafusion;
use crate::formats::spark;
use crate::types::{partition_text, text_length};

/// Characters of a text that a message shows.
const SHOWN_CHARACTERS: usize = 40;

/// Equal for rows of the same partition. Two keys may still have the same text, such as NULL and the empty string.
pub(super) type PartitionKey = Box<[u8]>;

/// Rows of one partition.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) key: PartitionKey,
    /// Columns of the files.
    pub(super) rows: RecordBatch,
    /// One value of each partition key.
    pub(super) values: Vec<ArrayRef>,
}

impl Part {
    /// The catalog's text of the partition's values.
    pub(super) fn texts(&self) -> Result<Vec<String>> {
        self.values.iter().map(value_text).collect()
    }
}

/// Splits batches by the values of the last columns.
#[derive(Debug)]
pub(super) struct Splitter {
    columns: SchemaRef,
    keys: Vec<FieldRef>,
    /// How many characters a text may have in each column and key; nothing where there is no such bound.
    lengths: Vec<Option<usize>>,
    /// `None` for an unpartitioned table.
    converter: Option<RowConverter>,
}

impl Splitter {
    /// Makes batches with `columns`; the columns after those become partitions.
    pub(super) fn new(columns: &SchemaRef, keys: &[FieldRef]) -> Result<Self> {
        let fields = keys.iter().map(|key| SortField::new(key.data_type().clone())).collect();
        let converter = if keys.is_empty() { None } else { Some(RowConverter::new(fields).map_err(arrow_error)?) };
        Ok(Self { columns: Arc::clone(columns), keys: keys.to_vec(), lengths: Vec::new(), converter })
    }

    /// With the bounds of `varchar(n)` and `char(n)` among the types of the table's columns and keys: other engines would read only a
    /// part of a longer text.
    pub(super) fn with_lengths_of(mut self, table: &Table) -> Result<Self> {
        let columns = spark::columns(table)?;
        let types = columns.iter().chain(&table.partition_keys).map(|column| text_length(&column.type_name));
        self.lengths = types.collect();
        Ok(self)
    }

    /// The rows of `batch`, in their order within each partition. `InvalidInput` for a value that does not fit its column.
    pub(super) fn split(&mut self, batch: &RecordBatch) -> Result<Vec<Part>> {
        if batch.num_rows() == 0 {
            return Ok(Vec::new());
        }
        let (columns, keys) = batch.columns().split_at(self.columns.fields().len());
        let columns = columns.iter().zip(self.columns.fields()).map(|(column, field)| cast(column, field));
        let columns: Vec<ArrayRef> = columns.collect::<Result<_>>()?;
        let keys: Vec<ArrayRef> =
            keys.iter().zip(&self.keys).map(|(key, field)| cast(key, field)).collect::<Result<_>>()?;
        let fields = self.columns.fields().iter().chain(&self.keys);
        for ((values, field), length) in columns.iter().chain(&keys).zip(fields).zip(&self.lengths) {
            if let Some(length) = length {
                check_length(values, field, *length)?;
            }
        }
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        let rows =
            RecordBatch::try_new_with_options(Arc::clone(&self.columns), columns, &options).map_err(arrow_error)?;
        let Some(converter) = &self.converter else {
            return Ok(vec![Part { key: PartitionKey::default(), rows, values: Vec::new() }]);
        };

        let encoded = converter.convert_columns(&keys).map_err(arrow_error)?;
        let mut index_of = HashMap::new();
        let mut members: Vec<Vec<u32>> = Vec::new();
        for (row, number) in encoded.iter().zip(0u32..) {
            let index = *index_of.entry(row).or_insert(members.len());
            match members.get_mut(index) {
                Some(rows) => rows.push(number),
                None => members.push(vec![number]),
            }
        }
        let mut parts = Vec::with_capacity(members.len());
        for numbers in &members {
            let first = numbers[0] as usize;
            let part = if members.len() == 1 {
                rows.clone()
            } else {
                take_record_batch(&rows, &UInt32Array::from(numbers.clone())).map_err(arrow_error)?
            };
            let values = keys.iter().map(|key| key.slice(first, 1)).collect();
            parts.push(Part { key: encoded.row(first).as_ref().into(), rows: part, values });
        }
        Ok(parts)
    }
}

fn value_text(value: &ArrayRef) -> Result<String> {
    let scalar = ScalarValue::try_from_array(value, 0).map_err(from_datafusion)?;
    if scalar.is_null() {
        return Ok(DEFAULT_PARTITION.to_owned());
    }
    let text = partition_text(&scalar)?;
    // Hive has one folder for NULL and the empty string.
    Ok(if text.is_empty() { DEFAULT_PARTITION.to_owned() } else { text })
}

fn cast(column: &ArrayRef, field: &FieldRef) -> Result<ArrayRef> {
    if column.data_type() == field.data_type() {
        return Ok(Arc::clone(column));
    }
    let strict = CastOptions { safe: false, ..CastOptions::default() };
    cast_with_options(column, field.data_type(), &strict)
        .map_err(|error| Error::invalid_input(format!("column {}: {error}", field.name())).with_source(error))
}

/// Refuses texts of more than `length` characters.
fn check_length(values: &ArrayRef, field: &FieldRef, length: usize) -> Result<()> {
    // Most are no longer in bytes, which costs nothing to see.
    let is_long = |text: &str| text.len() > length && text.chars().count() > length;
    let long = match values.data_type() {
        DataType::Utf8 => values.as_string::<i32>().iter().flatten().find(|text| is_long(text)),
        DataType::LargeUtf8 => values.as_string::<i64>().iter().flatten().find(|text| is_long(text)),
        DataType::Utf8View => values.as_string_view().iter().flatten().find(|text| is_long(text)),
        _ => None,
    };
    match long {
        None => Ok(()),
        Some(text) => {
            let start: String = text.chars().take(length.min(SHOWN_CHARACTERS)).collect();
            Err(Error::invalid_input(format!("column {}: '{start}…' is longer than {length} characters", field.name()))
                .with_hint("cut it with substr"))
        }
    }
}

pub(super) fn arrow_error(error: ArrowError) -> Error {
    from_datafusion(DataFusionError::from(error))
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int32Array, Int64Array, StringArray, StringViewArray};
    use arrow::datatypes::{Field, Int64Type, Schema};

    use tereza_catalog::model::Column;

    use super::*;
    use crate::formats::spark::tests::table;

    fn splitter(keys: &[FieldRef]) -> Splitter {
        let columns = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, true)]));
        Splitter::new(&columns, keys).unwrap()
    }

    #[test]
    fn texts_that_are_too_long_are_refused() {
        let columns = Arc::new(Schema::new(vec![Field::new("t", DataType::Utf8View, true)]));
        let keys = [Arc::new(Field::new("k", DataType::Utf8, true))];
        let column =
            |name: &str, type_name: &str| Column { name: name.into(), type_name: type_name.into(), comment: None };
        // Its columns are in Spark's list only, and in the storage.
        let in_list =
            r#"{"fields":[{"name":"t","type":"string","metadata":{"__CHAR_VARCHAR_TYPE_STRING":"varchar(3)"}}]}"#;
        let mut listed = table(&[("spark.sql.sources.schema", in_list)]);
        listed.partition_keys = vec![column("k", "char(1)")];
        let mut plain = listed.clone();
        plain.parameters.clear();
        plain.storage.columns = vec![column("t", "varchar(3)")];
        for table in [listed, plain] {
            let mut splitter = Splitter::new(&columns, &keys).unwrap().with_lengths_of(&table).unwrap();
            let mut split = |text: &str, key: &str| {
                let (text, key): (ArrayRef, ArrayRef) = (
                    Arc::new(StringViewArray::from(vec![None, Some(text)])),
                    Arc::new(StringArray::from(vec![None, Some(key)])),
                );
                splitter.split(&RecordBatch::try_from_iter([("t", text), ("k", key)]).unwrap()).map(|parts| parts.len())
            };
            assert_eq!(split("äöü", "é").unwrap(), 2);
            let error = split("abcd", "k").unwrap_err().to_string();
            assert!(error.contains("column t: 'abc…' is longer than 3 characters"), "{error}");
            assert!(split("abc", "kk").is_err());
        }
    }

    #[test]
    fn rows_go_to_their_partitions_in_order() {
        let keys = [Arc::new(Field::new("k", DataType::Utf8, true))];
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("a", Arc::new(Int32Array::from(vec![1, 2, 3, 4, 5]))),
            ("b", Arc::new(StringViewArray::from(vec![Some("x"), None, Some("x"), Some("y"), None]))),
        ];
        let parts = splitter(&keys).split(&RecordBatch::try_from_iter(columns).unwrap()).unwrap();
        let rows: Vec<&[i64]> =
            parts.iter().map(|part| part.rows.column(0).as_primitive::<Int64Type>().values().as_ref()).collect();
        assert_eq!(rows, [&[1, 3][..], &[2, 5], &[4]]);
        assert_eq!(value_text(&parts[1].values[0]).unwrap(), DEFAULT_PARTITION);
        assert_eq!(parts[0].values[0].as_string::<i32>().value(0), "x");
        let distinct: std::collections::HashSet<_> = parts.iter().map(|part| &part.key).collect();
        assert_eq!(distinct.len(), 3);
    }

    #[test]
    fn an_unpartitioned_table_gets_the_batch_as_it_is() {
        let batch = RecordBatch::try_from_iter([("n", Arc::new(Int64Array::from(vec![1, 2])) as ArrayRef)]).unwrap();
        let parts = splitter(&[]).split(&batch).unwrap();
        assert_eq!(parts.len(), 1);
        assert_eq!(parts[0].rows.num_rows(), 2);
        assert!(parts[0].texts().unwrap().is_empty());
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused_with_its_column() {
        let column: ArrayRef = Arc::new(StringArray::from(vec!["1", "one"]));
        let error = splitter(&[]).split(&RecordBatch::try_from_iter([("n", column)]).unwrap()).unwrap_err();
        assert_eq!(error.kind(), tereza_runtime::ErrorKind::InvalidInput);
        assert!(error.message().starts_with("column n:"), "{error}");
    }
}
