//! What a table of a stream is connected to, by its options: who makes its rows, and who takes them.
//!
//! Files in reading order: this one (which connector), `kafka` (formats and metadata of a table on Kafka), `reader` (rows of one
//! table), `dead_letter` (messages that are none), `datagen` and `made` (rows that are made), `files` (those of folders), `once` (those
//! of tables that are no streams), `inputs` (all that a task reads), `passed` (what other tasks give it), `sink` (where rows go); `given`
//! are options.

mod datagen;
mod dead_letter;
mod files;
mod given;
mod inputs;
mod kafka;
mod made;
mod once;
mod passed;
mod reader;
mod sink;

use std::collections::BTreeMap;
use std::sync::Arc;

use tereza_engine::flink::{StreamSource, StreamTable};
use tereza_runtime::{Error, Result};

pub(crate) use files::{Files, FilesTable, Found, place_only};
#[cfg(test)]
pub(crate) use inputs::Arrived;
pub(crate) use inputs::{Arrivals, Collect, From, Inputs, Table};
pub(crate) use kafka::KafkaTable;
pub(crate) use made::Made;
pub(crate) use once::Once;
pub(crate) use passed::{Edges, Passed};
pub(crate) use reader::Reader;
pub(crate) use sink::{SinkWriter, Target, TopicWriter};

use datagen::Datagen;

use crate::format::nearest;
use crate::nexmark::{Nexmark, NexmarkOptions};
use crate::operator::ChangelogMode;
use crate::operator::mode::SinkMode;

/// The connectors that there are.
const CONNECTORS: [&str; 7] = ["kafka", "upsert-kafka", "filesystem", "datagen", "nexmark", "blackhole", "print"];

/// What a table is connected to.
pub(crate) enum Connector {
    Kafka(Box<KafkaTable>),
    /// Rows that are made.
    Made(Made),
    /// Records of files.
    Files(Box<FilesTable>),
    /// Rows are counted and forgotten.
    Blackhole,
    /// Rows are written to standard output, after this word.
    Print(Option<String>),
}

impl Connector {
    /// Checks the options of a table. `origin_ms` (milliseconds since 1970) is what times of made rows count from, if nothing
    /// else says.
    ///
    /// # Errors
    /// `InvalidInput` names an option or a column that is wrong, `Unsupported` a connector, format or type that there is not.
    pub(crate) fn of(table: &StreamSource, origin_ms: i64) -> Result<Self> {
        let connector = Self::of_options(table, origin_ms);
        connector.map_err(|error| error.context(format_args!("table {}", table.name())))
    }

    /// Checks a table that is to be made, where LIKE or OPTIONS have nothing to add that it needs.
    ///
    /// # Errors
    /// As [`Self::of`].
    pub(crate) fn check(table: &StreamSource) -> Result<()> {
        match table.definition().options.get("connector").map(String::as_str) {
            Some("datagen" | "nexmark" | "blackhole" | "print") => Self::of(table, 0).map(drop),
            _ => Ok(()),
        }
    }

    fn of_options(table: &StreamSource, origin_ms: i64) -> Result<Self> {
        let StreamTable { options, .. } = table.definition();
        let name = options.get("connector").map(String::as_str).unwrap_or_default();
        let others = || options.iter().filter(|(key, _)| *key != "connector");
        match name {
            "kafka" | "upsert-kafka" => Ok(Self::Kafka(Box::new(KafkaTable::new(table)?))),
            "nexmark" => {
                let given: BTreeMap<String, String> =
                    others().map(|(key, value)| (key.clone(), value.clone())).collect();
                let events = Nexmark::new(NexmarkOptions::new(&given, origin_ms)?);
                let (is, wanted) = (table.record_schema(), events.schema());
                let same = is.fields().len() == wanted.fields().len()
                    && is.fields().iter().zip(wanted.fields()).all(|(is, wanted)| is.data_type() == wanted.data_type());
                if !same {
                    return Err(Error::invalid_input(format!(
                        "connector 'nexmark' makes the columns {}",
                        crate::operator::state::columns_text(&wanted)
                    )));
                }
                Ok(Self::Made(Made::Nexmark(Box::new(events))))
            }
            "datagen" => {
                let schema = Arc::clone(table.record_schema());
                let rows = Datagen::new(table.name(), table.definition(), schema, origin_ms)?;
                Ok(Self::Made(Made::Datagen(Box::new(rows))))
            }
            "filesystem" => {
                let store_of = |location: &str| table.object_store(location);
                let files = FilesTable::new(table.name(), table.definition(), table.record_schema(), store_of)?;
                Ok(Self::Files(Box::new(files)))
            }
            "blackhole" => match others().map(|(key, _)| key).find(|key| *key != "sink.parallelism") {
                Some(key) => Err(Error::invalid_input(format!("connector 'blackhole' has no option '{key}'"))),
                None => Ok(Self::Blackhole),
            },
            "print" => {
                let known = ["print-identifier", "standard-error", "sink.parallelism"];
                if let Some((key, _)) = others().find(|(key, _)| !known.contains(&key.as_str())) {
                    return Err(Error::invalid_input(format!("connector 'print' has no option '{key}'")));
                }
                if options.get("standard-error").is_some_and(|value| value != "false") {
                    return Err(Error::unsupported("'standard-error' of connector 'print'"));
                }
                Ok(Self::Print(options.get("print-identifier").filter(|word| !word.is_empty()).cloned()))
            }
            "" => Err(Error::invalid_input("'connector' is missing")),
            other => {
                let error = Error::unsupported(format!("the connector '{other}'"));
                Err(match nearest(other, &CONNECTORS) {
                    Some(near) => error.with_hint(format!("did you mean '{near}'?")),
                    None => error.with_hint(format!("there are {}", CONNECTORS.join(", "))),
                })
            }
        }
    }

    /// The changes that come from the table.
    ///
    /// # Errors
    /// `Unsupported` if nothing can be read from it.
    pub(crate) fn reads(&self, table: &StreamSource) -> Result<ChangelogMode> {
        match self {
            Self::Kafka(kafka) => {
                kafka.reads(table).map_err(|error| error.context(format_args!("table {}", table.name())))
            }
            Self::Made(_) => Ok(ChangelogMode::Append),
            Self::Files(files) => files.lines().map(|_| ChangelogMode::Append),
            Self::Blackhole | Self::Print(_) => {
                Err(Error::unsupported(format!("table {} is written only, reading it", table.name())))
            }
        }
    }

    /// The changes that the table takes.
    ///
    /// # Errors
    /// `Unsupported` if nothing can be written to it.
    pub(crate) fn takes(&self, table: &StreamSource) -> Result<SinkMode> {
        match self {
            Self::Kafka(kafka) => {
                kafka.takes(table).map_err(|error| error.context(format_args!("table {}", table.name())))
            }
            Self::Blackhole | Self::Print(_) => Ok(SinkMode::Any),
            Self::Files(files) => files.folder(table.definition(), &table.written()).map(|_| SinkMode::Append),
            Self::Made(_) => Err(Error::unsupported(format!("table {} is read only, writing it", table.name()))),
        }
    }
}

/// The places of the primary key's columns among all columns of a table.
fn primary_key(table: &StreamSource) -> Option<Vec<usize>> {
    let key = table.definition().primary_key.as_ref()?;
    let columns = &table.definition().columns;
    key.columns.iter().map(|name| columns.iter().position(|column| column.name == *name)).collect()
}
