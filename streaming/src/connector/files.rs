//! `filesystem`: the records of the files in a folder, each file once; and rows that become files of a folder.
//!
//! Files are numbered in the order in which they were found, and a position is one number: that of a file, and in its lower
//! [`OFFSET_BITS`] bits the byte at which the next record begins. So what a commit says of a table does not grow with its files.
//! Which files there are is kept by [`Found`], beside the state of the job.
//!
//! Files in reading order: this one (options and columns), `found` (which files there are), `records` (bytes to records), `read`
//! (records to rows), `write` (rows to records).

mod found;
mod read;
mod records;
mod write;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::{Field, Schema, SchemaRef};
use object_store::ObjectStore;
use object_store::path::Path;
use regex::Regex;
use tereza_engine::Folder;
use tereza_engine::flink::{ColumnKind, StreamTable};
use tereza_runtime::{Error, Result};

pub(crate) use found::Found;
pub(crate) use read::{Files, Read};
pub(crate) use write::place_only;

use super::given::Given;
use crate::format::{FormatOptions, TableFormats, decoder};
use records::Records;

/// Bits of a position that say where in a file it is.
const OFFSET_BITS: u32 = 40;

const PATH: &str = "path";
const FORMAT: &str = "format";
const MONITOR: &str = "source.monitor-interval";
const PATTERN: &str = "source.path.regex-pattern";
const NULL_PARTITION: &str = "partition.default-name";
const STATISTICS: &str = "source.report-statistics";
/// Of whom looks rows up in the table.
const LOOKUP: &str = "lookup.join.cache.ttl";
const OPTIONS: [&str; 7] = [PATH, FORMAT, MONITOR, PATTERN, NULL_PARTITION, STATISTICS, LOOKUP];
/// Options that say how such a table is written. Files end with each epoch, so that those of rolling have nothing to do.
const OF_SINKS: [&str; 17] = [
    "sink.rolling-policy.file-size",
    "sink.rolling-policy.rollover-interval",
    "sink.rolling-policy.check-interval",
    "sink.rolling-policy.inactivity-interval",
    "sink.partition-commit.trigger",
    "sink.partition-commit.delay",
    "sink.partition-commit.watermark-time-zone",
    "sink.partition-commit.policy.kind",
    "sink.partition-commit.success-file.name",
    "sink.shuffle-by-partition.enable",
    "sink.parallelism",
    "auto-compaction",
    "compaction.file-size",
    "compaction.parallelism",
    "partition.time-extractor.kind",
    "partition.time-extractor.timestamp-pattern",
    "partition.time-extractor.timestamp-formatter",
];
const PARQUET: &str = "parquet";
const FORMATS: [&str; 4] = ["csv", "json", "raw", PARQUET];
/// Formats of Flink's files that there are not.
const OTHER_FORMATS: [&str; 2] = ["avro", "orc"];
/// Where the option does not say what the folder of NULL is called.
const NULL_PARTITION_NAME: &str = "__DEFAULT_PARTITION__";

/// Where the files of a table are, and what is in them.
#[derive(Clone)]
pub(crate) struct FilesTable {
    /// The table's name, for errors.
    name: String,
    store: Arc<dyn ObjectStore>,
    root: Path,
    /// What a path in the store has before it in Flink's words: `file:/`, `s3://bucket/`.
    prefix: String,
    /// The folder or file as it is written, where it is local.
    local: Option<String>,
    /// How the table was told where it is.
    location: String,
    /// None is Parquet, which is only written.
    lines: Option<Lines>,
    /// How often it is looked for new files; `None` if those count alone that are there at first.
    monitor: Option<Duration>,
    pattern: Option<Regex>,
    null_partition: String,
    /// For each column that is not computed, where it is from.
    places: Vec<Place>,
    schema: SchemaRef,
}

/// Records that are lines.
#[derive(Debug, Clone)]
pub(crate) struct Lines {
    formats: TableFormats,
    records: Records,
}

/// Where a column is from.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Place {
    /// The column of records at this place.
    Data(usize),
    /// The folder `NAME=VALUE`.
    Partition(String),
    Path,
    Name,
    Size,
    ModificationTime,
}

impl fmt::Debug for FilesTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilesTable").field("name", &self.name).field("root", &self.root).finish_non_exhaustive()
    }
}

impl FilesTable {
    /// A table whose columns that are not computed are `schema`. `store_of` says where a location leads.
    ///
    /// # Errors
    /// `InvalidInput` names an option or column that is wrong, `Unsupported` a format, type or kind of store that there is not.
    pub(super) fn new(
        name: &str,
        definition: &StreamTable,
        schema: &SchemaRef,
        store_of: impl Fn(&str) -> Result<(Arc<dyn ObjectStore>, String)>,
    ) -> Result<Self> {
        let given = Given { connector: "filesystem", options: &definition.options };
        let missing =
            |name: &str| Error::invalid_input(format!("option '{name}' of connector 'filesystem' is missing"));
        let location = given.text(PATH).filter(|path| !path.is_empty()).ok_or_else(|| missing(PATH))?;
        let value = format(given, given.text(FORMAT).ok_or_else(|| missing(FORMAT))?)?;
        let (mut fields, mut places) = (Vec::new(), Vec::new());
        let stored = definition.columns.iter().filter(|column| !matches!(column.kind, ColumnKind::Computed { .. }));
        for (column, field) in stored.zip(schema.fields()) {
            places.push(match &column.kind {
                ColumnKind::Metadata { key, .. } => metadata(key.as_deref().unwrap_or(&column.name))?,
                _ if definition.partition_keys.contains(&column.name) => Place::Partition(column.name.clone()),
                _ => {
                    fields.push(Field::clone(field).with_nullable(true));
                    Place::Data(fields.len() - 1)
                }
            });
        }
        let data = Arc::new(Schema::new(fields));
        let lines = match value.format.as_str() {
            PARQUET => None,
            _ => {
                let records = Records::new(&value, &data)?;
                let formats =
                    TableFormats { schema: data, key: None, value, value_has_key: true, is_upsert: false, topic: None };
                decoder(&formats)?;
                Some(Lines { formats, records })
            }
        };
        let monitor = given.duration(MONITOR)?;
        if monitor.is_some_and(|pause| pause.is_zero()) {
            return Err(given.bad(MONITOR, "more than 0"));
        }
        let pattern = given.text(PATTERN).map(|pattern| {
            let whole = Regex::new(&format!("^(?:{pattern})$"));
            whole.map_err(|error| given.bad(PATTERN, format_args!("a regular expression: {error}")))
        });
        let (store, path) = store_of(location)?;
        let root = Path::parse(&path).map_err(|error| given.bad(PATH, format_args!("a path: {error}")))?;
        let (prefix, local) = match location.split_once("://") {
            Some((scheme, rest)) if scheme != "file" => {
                (format!("{scheme}://{}/", rest.split('/').next().unwrap_or_default()), None)
            }
            _ => {
                let local = location.strip_prefix("file://").or(location.strip_prefix("file:")).unwrap_or(location);
                ("file:/".to_owned(), Some(local.to_owned()))
            }
        };
        Ok(Self {
            name: name.to_owned(),
            store,
            root,
            prefix,
            local,
            location: location.to_owned(),
            lines,
            monitor,
            pattern: pattern.transpose()?,
            null_partition: given.text(NULL_PARTITION).unwrap_or(NULL_PARTITION_NAME).to_owned(),
            places,
            schema: Arc::clone(schema),
        })
    }

    /// The lines of its files.
    ///
    /// # Errors
    /// `Unsupported` if they have none.
    pub(crate) fn lines(&self) -> Result<&Lines> {
        self.lines.as_ref().ok_or_else(|| {
            let error = Error::unsupported(format!("reading the Parquet files of table {} in a stream job", self.name));
            error.with_hint(
                "query such files by their path, as in SELECT * FROM 'folder/', or by a table of the catalog",
            )
        })
    }

    /// The folder that takes its rows, with the columns of `written`.
    ///
    /// # Errors
    /// `InvalidInput` for a column that files have and nobody writes.
    pub(crate) fn folder(&self, definition: &StreamTable, written: &SchemaRef) -> Result<Folder> {
        let stored = definition.columns.iter().filter(|column| !matches!(column.kind, ColumnKind::Computed { .. }));
        for (column, place) in stored.zip(&self.places) {
            if !matches!(place, Place::Data(_) | Place::Partition(_)) && written.index_of(&column.name).is_ok() {
                let (table, column) = (&self.name, &column.name);
                return Err(Error::invalid_input(format!("the metadata '{column}' of table {table} is not written"))
                    .with_hint(format!("{column} … METADATA VIRTUAL")));
            }
        }
        write::folder(self, definition, Arc::clone(written))
    }

    /// The table as it is now: files that come later do not count.
    pub(crate) fn bounded(mut self) -> Self {
        self.monitor = None;
        self
    }
}

/// The format of records.
fn format(given: Given<'_>, name: &str) -> Result<FormatOptions> {
    if !FORMATS.contains(&name) {
        let error = Error::unsupported(format!("format '{name}' of connector 'filesystem'"));
        return Err(error.with_hint(match OTHER_FORMATS.contains(&name) {
            true => {
                "query such files by their path, as in SELECT * FROM 'folder/', or by a table of the catalog".to_owned()
            }
            false => format!("there are {}", FORMATS.join(", ")),
        }));
    }
    let mut options = BTreeMap::new();
    for key in given.names().filter(|key| !OPTIONS.contains(key)) {
        let of_format = key.strip_prefix(name).and_then(|key| key.strip_prefix('.'));
        match (of_format, given.options.get(key)) {
            (Some(key), Some(value)) => {
                options.insert(key.to_owned(), value.clone());
            }
            _ if OF_SINKS.contains(&key) => {}
            _ => return Err(given.unknown(key, &[OPTIONS.as_slice(), &OF_SINKS].concat())),
        }
    }
    if options.get("charset").is_some_and(|charset| charset.to_ascii_uppercase().starts_with("UTF-16")) {
        return Err(Error::unsupported("lines of files in UTF-16"));
    }
    Ok(FormatOptions { format: name.to_owned(), options })
}

fn metadata(key: &str) -> Result<Place> {
    match key {
        "file.path" => Ok(Place::Path),
        "file.name" => Ok(Place::Name),
        "file.size" => Ok(Place::Size),
        "file.modification-time" => Ok(Place::ModificationTime),
        _ => Err(Error::invalid_input(format!("connector 'filesystem' has no metadata '{key}'"))
            .with_hint("there are file.path, file.name, file.size and file.modification-time")),
    }
}

#[cfg(test)]
mod tests;
