//! What a task says of the files it wrote, as rows that travel between the two stages.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, UInt64Type};
use tereza_catalog::store::StagedFile;
use tereza_runtime::{Error, Result};

/// A finished file that no reader sees yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct WrittenFile {
    pub(super) file: StagedFile,
    pub(super) rows: u64,
    pub(super) bytes: u64,
    /// The catalog's text of its partition's values, or `None` for an unpartitioned table.
    pub(super) partition: Option<Vec<String>>,
}

/// One row for each file.
pub(super) fn schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("target", DataType::Utf8, false),
        Field::new("staged", DataType::Utf8, false),
        Field::new("rows", DataType::UInt64, false),
        Field::new("bytes", DataType::UInt64, false),
        // JSON of the values, NULL for an unpartitioned table.
        Field::new("partition", DataType::Utf8, true),
    ]))
}

/// The rows of `files`.
pub(super) fn to_batch(files: &[WrittenFile]) -> Result<RecordBatch> {
    let json_error =
        |error: serde_json::Error| Error::internal("a written file cannot be described in JSON").with_source(error);
    let partition = files.iter().map(|file| file.partition.as_ref().map(serde_json::to_string).transpose());
    let partition: Vec<Option<String>> = partition.collect::<Result<_, _>>().map_err(json_error)?;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(files.iter().map(|file| &file.file.target))),
        Arc::new(StringArray::from_iter_values(files.iter().map(|file| &file.file.staged))),
        Arc::new(UInt64Array::from_iter_values(files.iter().map(|file| file.rows))),
        Arc::new(UInt64Array::from_iter_values(files.iter().map(|file| file.bytes))),
        Arc::new(StringArray::from(partition)),
    ];
    RecordBatch::try_new(schema(), columns)
        .map_err(|error| Error::internal("written files do not fit their schema").with_source(error))
}

/// The files that the rows of `batch` describe.
pub(super) fn from_batch(batch: &RecordBatch) -> Result<Vec<WrittenFile>> {
    let bad = || Error::internal("a task describes its files in another way than the commit reads them");
    if batch.schema().fields() != schema().fields() {
        return Err(bad());
    }
    let [target, staged, partition] = [0, 1, 4].map(|at| batch.column(at).as_string::<i32>());
    let [rows, bytes] = [2, 3].map(|at| batch.column(at).as_primitive::<UInt64Type>());
    let mut files = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let values = partition.is_valid(row).then(|| serde_json::from_str(partition.value(row))).transpose();
        files.push(WrittenFile {
            file: StagedFile { target: target.value(row).to_owned(), staged: staged.value(row).to_owned() },
            rows: rows.value(row),
            bytes: bytes.value(row),
            partition: values.map_err(|error| bad().with_source(error))?,
        });
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_survive_the_way_between_the_stages() {
        let files = [Some(vec!["é".into(), "a=b".into()]), None].map(|partition| WrittenFile {
            file: StagedFile { target: "s3://b/t/f".into(), staged: "s3://b/t/_tereza/w/f".into() },
            rows: 7,
            bytes: u64::MAX,
            partition,
        });
        assert_eq!(from_batch(&to_batch(&files).unwrap()).unwrap(), files);
    }
}
