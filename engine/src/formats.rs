//! File formats: the metastore's class names, the words of `STORED AS`, and DataFusion's readers.

use std::sync::Arc;

use datafusion::datasource::file_format::FileFormat;
use tereza_catalog::model::{Column, Parameters, Storage};
use tereza_runtime::{Error, Result};

/// A file format of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Apache Parquet.
    Parquet,
    /// Text with a delimiter (LazySimpleSerDe and OpenCSVSerde).
    Csv,
    /// One JSON object a line.
    Json,
    /// Apache Avro.
    Avro,
    /// Apache ORC.
    Orc,
}

impl Format {
    /// The format that `STORED AS <word>` or a file's extension names.
    pub(crate) fn parse(word: &str) -> Result<Self> {
        Err(Error::unsupported(format!("format {word}")))
    }

    /// The format of a table's or partition's storage, from its classes.
    pub(crate) fn of(_storage: &Storage) -> Result<Self> {
        Err(Error::unsupported("format"))
    }

    /// The storage of a new table in this format; `options` are those of `OPTIONS (…)`/`TBLPROPERTIES` that concern the
    /// format (`delimiter`, `has_header`, `compression`).
    pub(crate) fn storage(self, _columns: Vec<Column>, _location: Option<String>, _options: &Parameters) -> Result<Storage> {
        Err(Error::unsupported("format"))
    }

    /// The extension of files, without a dot.
    pub(crate) fn extension(self) -> &'static str {
        ""
    }

    /// DataFusion's reader, set up from the storage's parameters.
    pub(crate) fn reader(self, _storage: &Storage) -> Result<Arc<dyn FileFormat>> {
        Err(Error::unsupported("format"))
    }
}
