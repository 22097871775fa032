//! A stream's table as parameters of a table in a metastore, as Flink's HiveCatalog keeps it.
//!
//! Read in `HiveTableUtil.instantiateHiveTable` and `HiveCatalog.instantiateCatalogTable` of flink-connector-hive 3.0.0 and
//! in `CatalogPropertiesUtil` of flink-table-common 2.3.0:
//!
//! | key, each with `flink.` before it | value |
//! |---|---|
//! | `schema.N.name` | the column's name; N counts from 0 |
//! | `schema.N.data-type` | its type as [`FlinkType`](super::FlinkType) prints it; of a computed column written and not read |
//! | `schema.N.expr` | the expression: the column is computed |
//! | `schema.N.metadata` | the key, the column's name where there is none: the column is metadata |
//! | `schema.N.virtual` | `true` or `false`, of a metadata column only |
//! | `schema.N.comment` | |
//! | `schema.watermark.N.rowtime`, `….strategy.expr`, `….strategy.data-type` | the last is written and not read |
//! | `schema.primary-key.name`, `schema.primary-key.columns` | the columns with commas between them |
//! | `partition.keys.N.name` | |
//! | `distribution.kind`, `distribution.buckets`, `distribution.keys.N.name` | since Flink 1.20; `UNKNOWN`, `HASH`, `RANGE` |
//! | `comment` | |
//! | any other | an option, as it stands after WITH |
//!
//! The one key without the prefix is `is_generic`: `true` where there is neither option `connector` nor `connector.type`,
//! absent otherwise. A table is a stream's if `is_generic` is `true`, or if it is absent and one of the two options is
//! there. The Hive table itself has no columns and no partition keys, and Hive's default formats. Flink 1.10 wrote
//! `generic.table.schema` for `schema`. Flink drops options whose keys begin with `schema` when it reads a table; here
//! only those of the table above are taken for the schema. `schema.index.*` and `schema.immutable.*` of Flink 2.3 are
//! what planners may make use of, and are not kept.

use std::collections::BTreeMap;

use tereza_runtime::{Error, Result};

use super::table::{
    COLUMNS_MAX, ColumnKind, Distribution, DistributionKind, PrimaryKey, StreamColumn, StreamTable, Watermark,
};

const PREFIX: &str = "flink.";
const IS_GENERIC: &str = "is_generic";
/// Options of which one says that a table is Flink's own.
const CONNECTORS: [&str; 2] = ["connector", "connector.type"];
/// What the schema's keys begin with, and what they began with in Flink 1.10.
const SCHEMA: &str = "schema";
const OLD_SCHEMA: &str = "generic.table.schema";

/// The parameters of the table that a metastore keeps.
pub fn to_parameters(table: &StreamTable) -> Result<BTreeMap<String, String>> {
    table.check()?;
    let mut parameters = BTreeMap::new();
    let mut put = |key: String, value: &str| drop(parameters.insert(format!("{PREFIX}{key}"), value.to_owned()));
    for (key, value) in table.options.iter().filter(|(key, _)| *key != IS_GENERIC) {
        if is_structure(key, SCHEMA) {
            return Err(Error::invalid_input(format!("option '{key}' has a name that a catalog keeps for itself")));
        }
        put(key.clone(), value);
    }
    for (n, column) in table.columns.iter().enumerate() {
        put(format!("schema.{n}.name"), &column.name);
        if let Some(data_type) = column.data_type() {
            put(format!("schema.{n}.data-type"), &data_type.to_string());
        }
        match &column.kind {
            ColumnKind::Physical { .. } => {}
            ColumnKind::Computed { expression, .. } => put(format!("schema.{n}.expr"), expression),
            ColumnKind::Metadata { key, is_virtual, .. } => {
                put(format!("schema.{n}.metadata"), key.as_ref().unwrap_or(&column.name));
                put(format!("schema.{n}.virtual"), if *is_virtual { "true" } else { "false" });
            }
        }
        if let Some(comment) = &column.comment {
            put(format!("schema.{n}.comment"), comment);
        }
    }
    if let Some(watermark) = &table.watermark {
        put("schema.watermark.0.rowtime".into(), &watermark.rowtime);
        put("schema.watermark.0.strategy.expr".into(), &watermark.expression);
        if let Some(data_type) = &watermark.data_type {
            put("schema.watermark.0.strategy.data-type".into(), &data_type.to_string());
        }
    }
    if let Some(key) = &table.primary_key {
        if let Some(column) = key.columns.iter().find(|column| column.contains(',')) {
            return Err(Error::invalid_input(format!("column '{column}' of the primary key has a comma in its name")));
        }
        put("schema.primary-key.name".into(), &key.name);
        put("schema.primary-key.columns".into(), &key.columns.join(","));
    }
    for (n, key) in table.partition_keys.iter().enumerate() {
        put(format!("partition.keys.{n}.name"), key);
    }
    if let Some(distribution) = &table.distribution {
        put("distribution.kind".into(), distribution.kind.as_str());
        if let Some(buckets) = distribution.buckets {
            put("distribution.buckets".into(), &buckets.to_string());
        }
        for (n, key) in distribution.keys.iter().enumerate() {
            put(format!("distribution.keys.{n}.name"), key);
        }
    }
    if let Some(comment) = table.comment.as_ref().filter(|comment| !comment.is_empty()) {
        put("comment".into(), comment);
    }
    if !CONNECTORS.iter().any(|key| table.options.contains_key(*key)) {
        parameters.insert(IS_GENERIC.into(), "true".into());
    }
    Ok(parameters)
}

/// The stream's table that parameters of a metastore's table say; `None` if it is a table of Hive.
pub fn from_parameters(parameters: &BTreeMap<String, String>) -> Result<Option<StreamTable>> {
    let is_generic = match parameters.get(IS_GENERIC) {
        Some(value) => value.eq_ignore_ascii_case("true"),
        None => CONNECTORS.iter().any(|key| parameters.contains_key(&format!("{PREFIX}{key}"))),
    };
    if !is_generic {
        return Ok(None);
    }
    let properties: BTreeMap<&str, &str> =
        parameters.iter().filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value.as_str()))).collect();
    if properties.contains_key("refresh-mode") || properties.contains_key("freshness-interval") {
        return Err(Error::unsupported("a materialized table of Flink"));
    }
    let stored = Stored { properties: &properties };
    let is_old = !stored.has_columns(SCHEMA) && stored.has_columns(OLD_SCHEMA);
    let schema = if is_old { OLD_SCHEMA } else { SCHEMA };
    let table = StreamTable {
        columns: stored.columns(schema)?,
        watermark: stored.watermark(schema)?,
        primary_key: stored.primary_key(schema)?,
        comment: stored.get("comment").map(str::to_owned),
        partition_keys: stored.names("partition.keys"),
        distribution: stored.distribution()?,
        options: properties
            .iter()
            .filter(|(key, _)| !is_structure(key, schema))
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect(),
    };
    table.check()?;
    Ok(Some(table))
}

/// Whether a key says something of the table that is not an option.
fn is_structure(key: &str, schema: &str) -> bool {
    let of_schema = |rest: &str| {
        let first = rest.split('.').next().unwrap_or_default();
        let is_number = !first.is_empty() && first.bytes().all(|byte| byte.is_ascii_digit());
        is_number || ["watermark", "primary-key", "index", "immutable"].contains(&first)
    };
    key == "comment"
        || key == "snapshot"
        || key.starts_with("partition.keys.")
        || key.starts_with("distribution.")
        || key.strip_prefix(schema).and_then(|rest| rest.strip_prefix('.')).is_some_and(of_schema)
}

/// What is kept, without the prefix.
struct Stored<'a> {
    properties: &'a BTreeMap<&'a str, &'a str>,
}

impl Stored<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.properties.get(key).copied()
    }

    fn expect(&self, key: &str) -> Result<&str> {
        self.get(key).ok_or_else(|| Error::invalid_input(format!("parameter '{PREFIX}{key}' of the table is missing")))
    }

    fn has_columns(&self, schema: &str) -> bool {
        self.get(&format!("{schema}.0.name")).is_some()
    }

    fn columns(&self, schema: &str) -> Result<Vec<StreamColumn>> {
        let mut columns = Vec::new();
        while let Some(name) = self.get(&format!("{schema}.{}.name", columns.len())) {
            if columns.len() == COLUMNS_MAX {
                return Err(Error::invalid_input(format!("a table has at most {COLUMNS_MAX} columns")));
            }
            let key = |part: &str| format!("{schema}.{}.{part}", columns.len());
            let read = |text: &str| self.data_type(&key("data-type"), text);
            let kind = if let Some(expression) = self.get(&key("expr")) {
                let data_type = self.get(&key("data-type")).map(read).transpose()?;
                ColumnKind::Computed { expression: expression.to_owned(), data_type }
            } else {
                let data_type = read(self.expect(&key("data-type"))?)?;
                match self.get(&key("metadata")) {
                    Some(metadata) => {
                        let is_virtual = self.expect(&key("virtual"))?.eq_ignore_ascii_case("true");
                        let key = (metadata != name).then(|| metadata.to_owned());
                        ColumnKind::Metadata { data_type, key, is_virtual }
                    }
                    None => ColumnKind::Physical { data_type },
                }
            };
            let comment = self.get(&key("comment")).map(str::to_owned);
            columns.push(StreamColumn { name: name.to_owned(), kind, comment });
        }
        Ok(columns)
    }

    fn data_type(&self, key: &str, text: &str) -> Result<super::FlinkType> {
        text.parse().map_err(|error: Error| error.context(format!("parameter '{PREFIX}{key}' of the table")))
    }

    fn watermark(&self, schema: &str) -> Result<Option<Watermark>> {
        let key = |n: u32, part: &str| format!("{schema}.watermark.{n}.{part}");
        let Some(rowtime) = self.get(&key(0, "rowtime")) else { return Ok(None) };
        if self.get(&key(1, "rowtime")).is_some() {
            return Err(Error::unsupported("a second WATERMARK of one table"));
        }
        let data_type = key(0, "strategy.data-type");
        Ok(Some(Watermark {
            rowtime: rowtime.to_owned(),
            expression: self.expect(&key(0, "strategy.expr"))?.to_owned(),
            data_type: self.get(&data_type).map(|text| self.data_type(&data_type, text)).transpose()?,
        }))
    }

    fn primary_key(&self, schema: &str) -> Result<Option<PrimaryKey>> {
        let Some(name) = self.get(&format!("{schema}.primary-key.name")) else { return Ok(None) };
        let columns = self.expect(&format!("{schema}.primary-key.columns"))?;
        Ok(Some(PrimaryKey { name: name.to_owned(), columns: columns.split(',').map(str::to_owned).collect() }))
    }

    fn distribution(&self) -> Result<Option<Distribution>> {
        let kind = match self.get("distribution.kind") {
            None => return Ok(None),
            Some("UNKNOWN") => DistributionKind::Unknown,
            Some("HASH") => DistributionKind::Hash,
            Some("RANGE") => DistributionKind::Range,
            Some(other) => return Err(Error::unsupported(format!("distribution {other}"))),
        };
        let buckets = match self.get("distribution.buckets") {
            Some(number) => Some(number.parse::<u32>().map_err(|_| {
                Error::invalid_input(format!("parameter '{PREFIX}distribution.buckets' is not a number: {number}"))
            })?),
            None => None,
        };
        Ok(Some(Distribution { kind, keys: self.names("distribution.keys"), buckets }))
    }

    /// The names under `key.0.name`, `key.1.name`, …
    fn names(&self, key: &str) -> Vec<String> {
        let name = |n: usize| self.get(&format!("{key}.{n}.name")).map(str::to_owned);
        (0..COLUMNS_MAX).map_while(name).collect()
    }
}

#[cfg(test)]
#[path = "parameters_tests.rs"]
mod tests;
