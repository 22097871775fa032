//! File formats: the metastore's class names, the words of `STORED AS`, and DataFusion's readers.
//!
//! A table's storage names Java classes; [`Format::of`] says which format they stand for and [`Format::reader`] gives the
//! reader with the storage's parameters. Parquet, Avro, CSV and files of JSON are DataFusion's own readers. Own ones are there for
//! what those cannot do: `text` (Hive's delimited text, CSV of Hive and of Spark, and CSV that tells an empty text from NULL) and `orc`;
//! both sit in the file source of `source`. `spark` finds the columns of the tables that Spark keeps for itself.

pub(crate) mod json;
pub(crate) mod leaves;
mod orc;
mod source;
pub(crate) mod spark;
mod text;

use std::sync::Arc;

use datafusion::common::parsers::CompressionTypeVariant;
use datafusion::config::{CsvOptions, TableParquetOptions};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::avro::AvroFormat;
use datafusion::datasource::file_format::csv::CsvFormat;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use tereza_catalog::model::{Column, Parameters, Serde, Storage, Table};
use tereza_runtime::{Error, Result};

use self::json::JsonFiles;
use self::json::bytes::{BINARY_FORMAT, JsonBytes, RAW};
use self::orc::OrcReader;
use self::source::RowFormat;
pub(crate) use self::source::{ReaderKind, RowSource};
use self::text::TextReader;
pub(crate) use self::text::{Rules, TextOptions};

/// A file format of tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// Apache Parquet.
    Parquet,
    /// Text with a delimiter and quotes (OpenCSVSerde).
    Csv,
    /// Text with a delimiter and escapes, Hive's TEXTFILE (LazySimpleSerDe).
    Text,
    /// One JSON object a line.
    Json,
    /// Apache Avro.
    Avro,
    /// Apache ORC.
    Orc,
}

/// The classes that new tables get.
struct Classes {
    serde: &'static str,
    input: &'static str,
    output: &'static str,
}

const TEXT_INPUT: &str = "org.apache.hadoop.mapred.TextInputFormat";
const TEXT_OUTPUT: &str = "org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat";
const LAZY_SIMPLE_SERDE: &str = "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe";

/// Every serde class that is understood, with its format.
const SERDES: &[(&str, Format)] = &[
    ("org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe", Format::Parquet),
    ("parquet.hive.serde.ParquetHiveSerDe", Format::Parquet),
    ("org.apache.hadoop.hive.ql.io.orc.OrcSerde", Format::Orc),
    ("org.apache.hadoop.hive.serde2.avro.AvroSerDe", Format::Avro),
    ("org.apache.hive.hcatalog.data.JsonSerDe", Format::Json),
    ("org.apache.hadoop.hive.serde2.JsonSerDe", Format::Json),
    ("org.openx.data.jsonserde.JsonSerDe", Format::Json),
    ("org.apache.hadoop.hive.serde2.OpenCSVSerde", Format::Csv),
    (LAZY_SIMPLE_SERDE, Format::Text),
];

/// Input formats whose files hold something else than their serde tells.
const OTHER_INPUTS: &[&str] = &[
    "org.apache.hadoop.mapred.SequenceFileInputFormat",
    "org.apache.hadoop.hive.ql.io.RCFileInputFormat",
    "org.apache.hadoop.hive.ql.io.SymlinkTextInputFormat",
];

impl Format {
    /// The format that `STORED AS <word>` or a file's extension names.
    pub(crate) fn parse(word: &str) -> Result<Self> {
        match word.to_lowercase().as_str() {
            "parquet" => Ok(Self::Parquet),
            "csv" => Ok(Self::Csv),
            "textfile" | "text" | "txt" => Ok(Self::Text),
            "json" | "jsonfile" | "ndjson" | "jsonl" => Ok(Self::Json),
            "avro" => Ok(Self::Avro),
            "orc" => Ok(Self::Orc),
            _ => Err(Error::unsupported(format!("format '{word}'"))
                .with_hint("formats are PARQUET, ORC, AVRO, JSON, CSV and TEXTFILE")),
        }
    }

    /// The format of a table's or partition's storage, from its classes.
    pub(crate) fn of(storage: &Storage) -> Result<Self> {
        if let Some(input) = storage.input_format.as_deref().filter(|input| OTHER_INPUTS.contains(input)) {
            return Err(Error::unsupported(format!("input format {input}")));
        }
        let Some(serde) = storage.serde.library.as_deref() else {
            return Err(Error::unsupported("a table whose storage names no serde class"));
        };
        let known = SERDES.iter().find(|(class, _)| *class == serde);
        known.map(|(_, format)| *format).ok_or_else(|| Error::unsupported(format!("serde {serde}")))
    }

    /// The format of the files of `storage`, the table's own or one of its partitions'. Tables that Spark made as its own
    /// (`USING …`) say so in their parameters, and their classes may be placeholders.
    pub(crate) fn of_table(table: &Table, storage: &Storage) -> Result<Self> {
        let name = format!("table {}.{}", table.database, table.name);
        let unsupported = |what: String| Err(Error::unsupported(what).context(&name));
        if let Some(kind) = table.parameters.get("table_type").filter(|kind| kind.eq_ignore_ascii_case("iceberg")) {
            return unsupported(format!("tables of type {kind}"));
        }
        if table.parameters.get("transactional").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return unsupported("Hive's transactional tables".into());
        }
        let Some(provider) = table.parameters.get("spark.sql.sources.provider") else {
            return Self::of(storage).map_err(|error| error.context(name));
        };
        match provider.to_lowercase().as_str() {
            "hive" => Self::of(storage).map_err(|error| error.context(name)),
            "parquet" => Ok(Self::Parquet),
            "orc" => Ok(Self::Orc),
            "csv" => Ok(Self::Csv),
            "json" => Ok(Self::Json),
            "avro" => Ok(Self::Avro),
            _ => unsupported(format!("Spark's provider {provider}")),
        }
    }

    /// The storage of a new table in this format; `options` are those of `OPTIONS (…)`/`TBLPROPERTIES` that concern the
    /// format (`delimiter`, `has_header`, `quote`, `escape`, `null_value`, `compression`, each also as `format.…`).
    pub(crate) fn storage(
        self,
        columns: Vec<Column>,
        location: Option<String>,
        options: &Parameters,
    ) -> Result<Storage> {
        let classes = self.classes();
        let mut parameters = Parameters::from([("serialization.format".to_owned(), "1".to_owned())]);
        if matches!(self, Self::Csv | Self::Text) {
            parameters.extend(TextOptions::from_options(self, options)?.parameters());
        }
        if matches!(self, Self::Csv | Self::Text | Self::Json)
            && let Some(compression) = option(options, "compression")
        {
            parse_compression(compression)?;
            parameters.insert("compression".into(), compression.to_lowercase());
        }
        if self == Self::Json {
            parameters.insert(BINARY_FORMAT.into(), RAW.into());
        }
        Ok(Storage {
            columns,
            location,
            input_format: Some(classes.input.into()),
            output_format: Some(classes.output.into()),
            compressed: false,
            num_buckets: -1,
            serde: Serde { name: None, library: Some(classes.serde.into()), parameters },
            ..Storage::default()
        })
    }

    /// The extension of files, without a dot.
    pub(crate) fn extension(self) -> &'static str {
        match self {
            Self::Parquet => "parquet",
            Self::Csv => "csv",
            Self::Text => "txt",
            Self::Json => "json",
            Self::Avro => "avro",
            Self::Orc => "orc",
        }
    }

    /// DataFusion's reader, set up from the storage's parameters, with default options of Parquet.
    pub(crate) fn reader(self, storage: &Storage) -> Result<Arc<dyn FileFormat>> {
        Reading::of(self, storage, &Parameters::new(), "")?.reader(TableParquetOptions::default())
    }

    fn classes(self) -> Classes {
        match self {
            Self::Parquet => Classes {
                serde: "org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe",
                input: "org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat",
                output: "org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat",
            },
            Self::Csv => {
                Classes { serde: "org.apache.hadoop.hive.serde2.OpenCSVSerde", input: TEXT_INPUT, output: TEXT_OUTPUT }
            }
            Self::Text => Classes { serde: LAZY_SIMPLE_SERDE, input: TEXT_INPUT, output: TEXT_OUTPUT },
            Self::Json => {
                Classes { serde: "org.apache.hive.hcatalog.data.JsonSerDe", input: TEXT_INPUT, output: TEXT_OUTPUT }
            }
            Self::Avro => Classes {
                serde: "org.apache.hadoop.hive.serde2.avro.AvroSerDe",
                input: "org.apache.hadoop.hive.ql.io.avro.AvroContainerInputFormat",
                output: "org.apache.hadoop.hive.ql.io.avro.AvroContainerOutputFormat",
            },
            Self::Orc => Classes {
                serde: "org.apache.hadoop.hive.ql.io.orc.OrcSerde",
                input: "org.apache.hadoop.hive.ql.io.orc.OrcInputFormat",
                output: "org.apache.hadoop.hive.ql.io.orc.OrcOutputFormat",
            },
        }
    }
}

/// How a file is read. Files with equal readings are read by one scan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reading {
    /// The format.
    pub(crate) format: Format,
    /// For delimited text: how.
    text: Option<TextOptions>,
    /// For JSON: how bytes are written.
    bytes: JsonBytes,
    compression: CompressionTypeVariant,
}

impl Reading {
    /// How the file `file_name` of `storage` is read. `table_parameters` count where the storage says nothing, and a
    /// compression is told by the name's extension, as in Hive.
    pub(crate) fn of(
        format: Format,
        storage: &Storage,
        table_parameters: &Parameters,
        file_name: &str,
    ) -> Result<Self> {
        let is_text = matches!(format, Format::Csv | Format::Text);
        Ok(Self {
            format,
            text: is_text.then(|| TextOptions::of(format, storage, table_parameters)).transpose()?,
            bytes: if format == Format::Json { JsonBytes::of(storage, table_parameters)? } else { JsonBytes::Never },
            compression: if is_text || format == Format::Json {
                compression_of(storage, file_name)?
            } else {
                CompressionTypeVariant::UNCOMPRESSED
            },
        })
    }

    /// Whether the statistics of a file can be had for less than reading it.
    pub(crate) fn has_statistics(&self) -> bool {
        matches!(self.format, Format::Parquet | Format::Orc)
    }

    /// The reader; `parquet` are the session's options of Parquet.
    pub(crate) fn reader(&self, parquet: TableParquetOptions) -> Result<Arc<dyn FileFormat>> {
        let Some(text) = &self.text else { return Ok(self.reader_of_objects(parquet)) };
        Ok(match self.csv_options(text) {
            Some(csv) => Arc::new(CsvFormat::default().with_options(csv)),
            None => Arc::new(RowFormat::new(TextReader::new(text.clone()), self.format.extension(), self.compression)),
        })
    }

    fn reader_of_objects(&self, mut parquet: TableParquetOptions) -> Arc<dyn FileFormat> {
        match self.format {
            Format::Avro => Arc::new(AvroFormat),
            Format::Orc => Arc::new(RowFormat::new(OrcReader, self.format.extension(), self.compression)),
            Format::Json => Arc::new(JsonFiles::new(self.bytes, self.format.extension(), self.compression)),
            Format::Parquet | Format::Csv | Format::Text => {
                // Microseconds, as the table's timestamps: nanoseconds end in the year 2262.
                parquet.global.coerce_int96.get_or_insert_with(|| "us".into());
                Arc::new(ParquetFormat::default().with_options(parquet))
            }
        }
    }

    /// DataFusion's CSV options where its reader gives the right answer: an empty text is NULL, at most one header line.
    fn csv_options(&self, text: &TextOptions) -> Option<CsvOptions> {
        if text.rules != Rules::Csv || !text.null.is_empty() || text.header_lines > 1 {
            return None;
        }
        Some(CsvOptions {
            has_header: Some(text.header_lines == 1),
            delimiter: text.delimiter,
            quote: text.quote,
            escape: text.escape,
            // A line break in quotes belongs to the value, so a file cannot be split at line breaks.
            newlines_in_values: Some(true),
            truncated_rows: Some(true),
            compression: self.compression,
            ..CsvOptions::default()
        })
    }
}

/// An option of `OPTIONS (…)` by its plain name, which may be written as `format.<name>`.
fn option<'a>(options: &'a Parameters, name: &str) -> Option<&'a str> {
    let found = options.iter().find(|(key, _)| {
        let key = key.to_lowercase();
        key.strip_prefix("format.").unwrap_or(&key) == name
    });
    found.map(|(_, value)| value.as_str())
}

fn compression_of(storage: &Storage, file_name: &str) -> Result<CompressionTypeVariant> {
    let extension = file_name.rsplit_once('.').map(|(_, extension)| extension.to_lowercase());
    match extension.as_deref() {
        Some("gz" | "gzip") => Ok(CompressionTypeVariant::GZIP),
        Some("bz2") => Ok(CompressionTypeVariant::BZIP2),
        Some("xz") => Ok(CompressionTypeVariant::XZ),
        Some("zst" | "zstd") => Ok(CompressionTypeVariant::ZSTD),
        Some(other @ ("deflate" | "snappy" | "lz4" | "lzo")) => {
            Err(Error::unsupported(format!("compression of text file '{file_name}' ({other})")))
        }
        _ => storage
            .serde
            .parameters
            .get("compression")
            .map_or(Ok(CompressionTypeVariant::UNCOMPRESSED), |compression| parse_compression(compression)),
    }
}

fn parse_compression(word: &str) -> Result<CompressionTypeVariant> {
    match word.to_lowercase().as_str() {
        "" | "none" | "uncompressed" => Ok(CompressionTypeVariant::UNCOMPRESSED),
        "gzip" | "gz" => Ok(CompressionTypeVariant::GZIP),
        "bzip2" | "bz2" => Ok(CompressionTypeVariant::BZIP2),
        "xz" => Ok(CompressionTypeVariant::XZ),
        "zstd" | "zst" => Ok(CompressionTypeVariant::ZSTD),
        _ => Err(Error::unsupported(format!("compression '{word}' of text files"))
            .with_hint("use gzip, bzip2, xz, zstd or none")),
    }
}

#[cfg(test)]
mod tests;
