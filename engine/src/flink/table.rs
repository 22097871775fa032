//! The definition of a stream's table: what `CREATE TABLE` says and a catalog keeps.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use tereza_runtime::{Error, Result};

use super::types::{FlinkType, TypeRoot, quoted};
use crate::syntax::did_you_mean;

/// The most columns of one table.
pub const COLUMNS_MAX: usize = 10_000;

/// The greatest precision of a time that watermarks follow: milliseconds.
const ROWTIME_PRECISION_MAX: u8 = 3;

/// A table of a stream. Names are as they were written: upper and lower case differ.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamTable {
    pub columns: Vec<StreamColumn>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub watermark: Option<Watermark>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub primary_key: Option<PrimaryKey>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub partition_keys: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distribution: Option<Distribution>,
    /// What stands after WITH: `connector` and what it is told. Values may be credentials.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub options: BTreeMap<String, String>,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamColumn {
    pub name: String,
    #[serde(flatten)]
    pub kind: ColumnKind,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// Where a column's values are from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ColumnKind {
    /// The data of a record.
    Physical { data_type: FlinkType },
    /// `name AS expression`. The type is known once the expression is planned.
    Computed {
        expression: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        data_type: Option<FlinkType>,
    },
    /// What the connector or the format knows of a record: `METADATA FROM 'key'`, the column's name where there is none.
    Metadata {
        data_type: FlinkType,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        key: Option<String>,
        /// Read only: an INSERT does not write it.
        #[serde(rename = "virtual")]
        is_virtual: bool,
    },
}

/// `WATERMARK FOR rowtime AS expression`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermark {
    /// The column that says when a row happened.
    pub rowtime: String,
    pub expression: String,
    /// The type of the expression, once it is planned.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_type: Option<FlinkType>,
}

/// `PRIMARY KEY (…) NOT ENFORCED`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrimaryKey {
    pub name: String,
    pub columns: Vec<String>,
}

/// `DISTRIBUTED BY HASH(…) INTO n BUCKETS`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distribution {
    pub kind: DistributionKind,
    pub keys: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub buckets: Option<u32>,
}

/// How rows come to buckets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum DistributionKind {
    /// As the connector wants.
    Unknown,
    Hash,
    Range,
}

impl DistributionKind {
    /// Flink's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "UNKNOWN",
            Self::Hash => "HASH",
            Self::Range => "RANGE",
        }
    }
}

impl PrimaryKey {
    /// A key with the name that Flink gives one without.
    pub fn unnamed(columns: Vec<String>) -> Self {
        Self { name: format!("PK_{}", columns.join("_")), columns }
    }
}

impl StreamColumn {
    /// The type; none for a computed column that is not planned.
    pub fn data_type(&self) -> Option<&FlinkType> {
        match &self.kind {
            ColumnKind::Physical { data_type } | ColumnKind::Metadata { data_type, .. } => Some(data_type),
            ColumnKind::Computed { data_type, .. } => data_type.as_ref(),
        }
    }

    /// Whether the data of a record has it.
    pub fn is_physical(&self) -> bool {
        matches!(self.kind, ColumnKind::Physical { .. })
    }
}

/// What is wrong with a table, and the name that is wrong, for its place in a text.
#[derive(Debug)]
pub(super) struct Wrong {
    pub(super) error: Error,
    pub(super) name: String,
}

impl Wrong {
    pub(super) fn new(name: &str, message: String) -> Self {
        Self { error: Error::invalid_input(message), name: name.to_owned() }
    }
}

impl StreamTable {
    /// The column of this name.
    pub fn column(&self, name: &str) -> Option<&StreamColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Refuses a definition that contradicts itself.
    pub fn check(&self) -> Result<()> {
        self.consistent().map_err(|wrong| wrong.error)
    }

    /// Makes its columns of the primary key NOT NULL, as the key that is written beside them implies.
    pub(super) fn imply_not_null(&mut self) {
        let Some(key) = &self.primary_key else { return };
        for column in self.columns.iter_mut().filter(|column| key.columns.contains(&column.name)) {
            if let ColumnKind::Physical { data_type } = &mut column.kind {
                data_type.nullable = false;
            }
        }
    }

    pub(super) fn consistent(&self) -> Result<(), Wrong> {
        if self.columns.len() > COLUMNS_MAX {
            return Err(Wrong::new("", format!("a table has at most {COLUMNS_MAX} columns")));
        }
        let mut names = HashSet::new();
        if let Some(twice) = self.columns.iter().find(|column| !names.insert(column.name.as_str())) {
            return Err(Wrong::new(&twice.name, format!("column '{}' is twice in the table", twice.name)));
        }
        if let Some(key) = &self.primary_key {
            self.are_physical("the primary key", &key.columns)?;
            let nullable =
                |name: &&String| self.column(name).and_then(StreamColumn::data_type).is_some_and(|of| of.nullable);
            if let Some(name) = key.columns.iter().find(nullable) {
                return Err(Wrong::new(name, format!("column '{name}' of the primary key can be NULL")));
            }
        }
        self.are_physical("PARTITIONED BY", &self.partition_keys)?;
        if let Some(distribution) = &self.distribution {
            self.are_physical("DISTRIBUTED BY", &distribution.keys)?;
        }
        match &self.watermark {
            Some(watermark) => self.has_rowtime(watermark),
            None => Ok(()),
        }
    }

    fn are_physical(&self, what: &str, keys: &[String]) -> Result<(), Wrong> {
        let mut seen = HashSet::new();
        for key in keys {
            let column = self.existing(what, key)?;
            if !column.is_physical() {
                return Err(Wrong::new(key, format!("column '{key}' of {what} is not a physical column")));
            }
            if !seen.insert(key) {
                return Err(Wrong::new(key, format!("column '{key}' is twice in {what}")));
            }
        }
        Ok(())
    }

    fn existing(&self, what: &str, name: &str) -> Result<&StreamColumn, Wrong> {
        self.column(name).ok_or_else(|| {
            let wrong = Wrong::new(name, format!("column '{name}' of {what} is not a column of the table"));
            let known = self.columns.iter().map(|column| column.name.as_str());
            Wrong { error: did_you_mean(wrong.error, name, known), name: wrong.name }
        })
    }

    /// Whether the watermark's column is a time of at most milliseconds. What a computed column is, planning finds out.
    fn has_rowtime(&self, watermark: &Watermark) -> Result<(), Wrong> {
        let rowtime = watermark.rowtime.as_str();
        let Some(data_type) = self.existing("WATERMARK", rowtime)?.data_type() else { return Ok(()) };
        match data_type.root {
            TypeRoot::Timestamp(precision) | TypeRoot::TimestampLtz(precision)
                if precision <= ROWTIME_PRECISION_MAX =>
            {
                Ok(())
            }
            _ => Err(Wrong::new(
                rowtime,
                format!(
                    "the column of a watermark is TIMESTAMP(p) or TIMESTAMP_LTZ(p) with p from 0 to \
                     {ROWTIME_PRECISION_MAX}, and '{rowtime}' is {data_type}"
                ),
            )),
        }
    }
}

impl fmt::Display for StreamColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", quoted(&self.name))?;
        match &self.kind {
            ColumnKind::Physical { data_type } => write!(f, "{data_type}")?,
            ColumnKind::Computed { expression, .. } => write!(f, "AS {expression}")?,
            ColumnKind::Metadata { data_type, key, is_virtual } => {
                write!(f, "{data_type} METADATA")?;
                if let Some(key) = key {
                    write!(f, " FROM {}", literal(key))?;
                }
                if *is_virtual {
                    f.write_str(" VIRTUAL")?;
                }
            }
        }
        match &self.comment {
            Some(comment) => write!(f, " COMMENT {}", literal(comment)),
            None => Ok(()),
        }
    }
}

/// What follows the name in `CREATE TABLE`, as `SHOW CREATE TABLE` prints it.
impl fmt::Display for StreamTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut lines: Vec<String> = self.columns.iter().map(ToString::to_string).collect();
        if let Some(watermark) = &self.watermark {
            lines.push(format!("WATERMARK FOR {} AS {}", quoted(&watermark.rowtime), watermark.expression));
        }
        if let Some(key) = &self.primary_key {
            lines.push(format!("CONSTRAINT {} PRIMARY KEY ({}) NOT ENFORCED", quoted(&key.name), names(&key.columns)));
        }
        if !lines.is_empty() {
            write!(f, "(\n  {}\n)", lines.join(",\n  "))?;
        }
        if let Some(comment) = &self.comment {
            write!(f, "\nCOMMENT {}", literal(comment))?;
        }
        if let Some(distribution) = &self.distribution {
            distribution.fmt(f)?;
        }
        if !self.partition_keys.is_empty() {
            write!(f, "\nPARTITIONED BY ({})", names(&self.partition_keys))?;
        }
        if self.options.is_empty() {
            return Ok(());
        }
        let options: Vec<String> =
            self.options.iter().map(|(key, value)| format!("{} = {}", literal(key), literal(value))).collect();
        write!(f, "\nWITH (\n  {}\n)", options.join(",\n  "))
    }
}

impl fmt::Display for Distribution {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\nDISTRIBUTED")?;
        if !self.keys.is_empty() {
            let kind = match self.kind {
                DistributionKind::Unknown => "",
                kind => kind.as_str(),
            };
            write!(f, " BY {kind}({})", names(&self.keys))?;
        }
        match self.buckets {
            Some(buckets) => write!(f, " INTO {buckets} BUCKETS"),
            None => Ok(()),
        }
    }
}

fn names(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
