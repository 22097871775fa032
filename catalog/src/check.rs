//! What is wrong in a catalog: names, places and records that no reader can make sense of, or only some. Nothing is changed.
//!
//! It goes through any [`Store`], one table at a time, and returns what it found; a table that is dropped meanwhile is left out.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use tereza_runtime::settings::without_passwords;
use tereza_runtime::{ErrorKind, Result};

use crate::Store;
use crate::model::{Column, Parameters, Partition, Storage, Table, TableKind, partition_name, unescape_path_name};
use crate::store::places;

/// Partitions asked for at once.
const PARTITIONS_AT_ONCE: usize = 1_000;
/// Tables asked for at once.
const TABLES_AT_ONCE: usize = 100;
/// Findings that are told; those after it are counted.
const FINDINGS_MAX: usize = 10_000;
/// Characters that a metastore keeps of a parameter's name.
const KEY_CHARS: usize = 256;
/// Characters that a metastore keeps of the values of parameters of databases and partitions. Those of tables and storages may
/// be as long as they are since Hive 3.
const VALUE_CHARS: usize = 4_000;

/// Whether files of a table in such a storage can be read: its own or that of a partition.
pub type IsReadable = fn(&Table, &Storage) -> Result<()>;

/// What is taken for right.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Whether a format can be read.
    pub is_readable: IsReadable,
    /// Milliseconds since 1970.
    pub now_ms: i64,
    /// How long a lock lives that nobody renews.
    pub lock_timeout_ms: i64,
    /// Who writes now: the writes of all others are abandoned.
    pub alive_owner: String,
}

/// What kind of thing is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Two tables or partitions have one folder.
    SharedLocation,
    /// A table or partition is in the folder of another table.
    NestedLocation,
    /// A partition is not in the folder of its table.
    PartitionElsewhere,
    /// A partition has another number of values than its table has keys.
    PartitionValues,
    /// The name of a partition is not that of its values.
    PartitionName,
    /// Two partitions differ by nothing but case or escaping.
    PartitionTwice,
    /// A column is there twice.
    ColumnTwice,
    /// A column has a type that is none.
    Type,
    /// Files of this format cannot be read.
    Format,
    /// Statistics of a column that is not there, or has another type.
    Statistics,
    /// A lock that ran out and is there still.
    Lock,
    /// Files that were staged by a writer that is gone.
    Write,
    /// A parameter that a metastore's tables have no room for.
    Parameter,
}

impl Kind {
    /// The word for tables and logs.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SharedLocation => "shared-location",
            Self::NestedLocation => "nested-location",
            Self::PartitionElsewhere => "partition-elsewhere",
            Self::PartitionValues => "partition-values",
            Self::PartitionName => "partition-name",
            Self::PartitionTwice => "partition-twice",
            Self::ColumnTwice => "column-twice",
            Self::Type => "type",
            Self::Format => "format",
            Self::Statistics => "statistics",
            Self::Lock => "lock",
            Self::Write => "write",
            Self::Parameter => "parameter",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// What it is about: `database`, `database.table`, `database.table/ds=1`, `lock 7`, `write <id>`.
    pub object: String,
    /// What kind of thing it is.
    pub kind: Kind,
    /// What is wrong, for people.
    pub words: String,
}

/// What was looked at, and what is wrong with it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Tables and views.
    pub tables: usize,
    /// Partitions.
    pub partitions: usize,
    /// In the order in which they were found.
    pub findings: Vec<Finding>,
    /// Further ones.
    pub more: usize,
}

/// Goes through a store.
pub async fn check(store: &dyn Store, expected: &Expected) -> Result<Report> {
    let mut check = Check { store, expected, report: Report::default(), places: BTreeMap::new() };
    for database in store.databases().await? {
        match check.database(&database).await {
            // Dropped meanwhile.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            checked => checked?,
        }
    }
    check.compare_places();
    check.locks().await?;
    check.writes().await?;
    Ok(check.report)
}

struct Check<'a> {
    store: &'a dyn Store,
    expected: &'a Expected,
    report: Report,
    /// Tables, and partitions outside of theirs, by their plain location.
    places: BTreeMap<String, Vec<String>>,
}

impl Check<'_> {
    fn found(&mut self, object: &str, kind: Kind, words: impl Into<String>) {
        match self.report.findings.len() < FINDINGS_MAX {
            true => self.report.findings.push(Finding { object: object.to_owned(), kind, words: words.into() }),
            false => self.report.more += 1,
        }
    }

    async fn database(&mut self, name: &str) -> Result<()> {
        let database = self.store.database(name).await?;
        self.parameters(name, &database.parameters, Some(VALUE_CHARS));
        let names: Vec<String> = self.store.tables(name).await?.into_iter().map(|(name, _)| name).collect();
        for names in names.chunks(TABLES_AT_ONCE) {
            for table in self.store.tables_by_names(name, names).await? {
                match self.table(&table).await {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    checked => checked?,
                }
            }
        }
        Ok(())
    }

    async fn table(&mut self, table: &Table) -> Result<()> {
        self.report.tables += 1;
        let name = format!("{}.{}", table.database, table.name);
        self.parameters(&name, &table.parameters, None);
        let columns: Vec<Column> = table.storage.columns.iter().chain(&table.partition_keys).cloned().collect();
        self.columns(&name, &columns);
        let statistics = self.store.column_statistics(&table.database, &table.name, None).await?;
        let statistics = statistics.iter().map(|one| (one.column.as_str(), one.type_name.as_str()));
        self.statistics(&name, &table.storage, statistics);
        if table.kind == TableKind::View {
            return Ok(());
        }
        self.storage(&name, table, &table.storage);
        if let Some(location) = &table.storage.location {
            self.places.entry(places::plain(location)).or_default().push(name.clone());
        }
        if !table.partition_keys.is_empty() {
            self.partitions(&name, table).await?;
        }
        Ok(())
    }

    async fn partitions(&mut self, of: &str, table: &Table) -> Result<()> {
        let names = self.store.partition_names(&table.database, &table.name).await?;
        let mut alike: BTreeMap<String, String> = BTreeMap::new();
        let mut inside: BTreeMap<String, String> = BTreeMap::new();
        for names in names.chunks(PARTITIONS_AT_ONCE) {
            for name in names {
                let object = format!("{of}/{name}");
                if let Some(other) = alike.insert(plain_name(name), name.clone()) {
                    self.found(&object, Kind::PartitionTwice, format!("{other} differs by case or escaping only"));
                }
            }
            let found = self.store.partitions_by_names(&table.database, &table.name, names).await?;
            let known: BTreeSet<&String> = names.iter().collect();
            for partition in &found {
                self.partition(of, table, partition, &known, &mut inside);
            }
            let statistics = self.store.partition_statistics(&table.database, &table.name, names).await?;
            for (name, columns) in statistics {
                let columns = columns.iter().map(|one| (one.column.as_str(), one.type_name.as_str()));
                self.statistics(&format!("{of}/{name}"), &table.storage, columns);
            }
        }
        Ok(())
    }

    fn partition(
        &mut self,
        of: &str,
        table: &Table,
        partition: &Partition,
        names: &BTreeSet<&String>,
        inside: &mut BTreeMap<String, String>,
    ) {
        self.report.partitions += 1;
        let name = partition_name(&table.partition_keys, &partition.values);
        let object = format!("{of}/{name}");
        if partition.values.len() != table.partition_keys.len() {
            let (values, keys) = (partition.values.len(), table.partition_keys.len());
            self.found(&object, Kind::PartitionValues, format!("{values} values for {keys} keys"));
        } else if !names.contains(&name) {
            let values = partition.values.join(", ");
            self.found(&object, Kind::PartitionName, format!("no partition has the name of the values {values}"));
        }
        self.parameters(&object, &partition.parameters, Some(VALUE_CHARS));
        self.columns(&object, &partition.storage.columns);
        self.storage(&object, table, &partition.storage);
        let Some(location) = &partition.storage.location else { return };
        let home = table.storage.location.as_deref();
        if home.is_some_and(|home| places::is_below(location, home)) {
            if let Some(other) = inside.insert(places::plain(location), object.clone()) {
                self.found(&object, Kind::SharedLocation, format!("has the folder of {other}"));
            }
        } else if home.is_some_and(|home| places::is_same(location, home)) {
            self.found(&object, Kind::SharedLocation, "has the folder of the whole table");
        } else {
            let shown = without_passwords(location);
            self.found(&object, Kind::PartitionElsewhere, format!("is at {shown}, not in the folder of its table"));
            self.places.entry(places::plain(location)).or_default().push(object);
        }
    }

    fn parameters(&mut self, object: &str, parameters: &Parameters, value_chars: Option<usize>) {
        for (key, value) in parameters {
            let (key_chars, chars) = (key.chars().count(), value.chars().count());
            if key_chars > KEY_CHARS {
                let shown: String = key.chars().take(32).collect();
                let words = format!("the name of parameter {shown}… has {key_chars} characters, more than {KEY_CHARS}");
                self.found(object, Kind::Parameter, words);
            } else if let Some(most) = value_chars.filter(|most| chars > *most) {
                self.found(
                    object,
                    Kind::Parameter,
                    format!("parameter {key} has {chars} characters, more than {most}"),
                );
            }
        }
    }

    fn columns(&mut self, object: &str, columns: &[Column]) {
        let mut seen = BTreeSet::new();
        for column in columns {
            if !seen.insert(column.name.to_lowercase()) {
                self.found(object, Kind::ColumnTwice, format!("column {} is there twice", column.name));
            }
            if !is_type(&column.type_name) {
                let words = format!("column {} has the type '{}'", column.name, column.type_name);
                self.found(object, Kind::Type, words);
            }
        }
    }

    fn storage(&mut self, object: &str, table: &Table, storage: &Storage) {
        if let Err(error) = (self.expected.is_readable)(table, storage) {
            self.found(object, Kind::Format, format!("cannot be read: {}", error.message()));
        }
    }

    fn statistics<'s>(
        &mut self,
        object: &str,
        storage: &Storage,
        statistics: impl Iterator<Item = (&'s str, &'s str)>,
    ) {
        let types: BTreeMap<&str, &str> =
            storage.columns.iter().map(|column| (column.name.as_str(), column.type_name.as_str())).collect();
        for (column, type_name) in statistics {
            let words = match types.get(column) {
                None => format!("statistics of column {column}, which is not there"),
                // A metastore cuts off long types.
                Some(known) if !known.starts_with(type_name) => {
                    format!("statistics of column {column} as {type_name}, which is {known}")
                }
                Some(_) => continue,
            };
            self.found(object, Kind::Statistics, words);
        }
    }

    /// In the order of the places whoever is in a folder comes right after it, and what is in that after him.
    fn compare_places(&mut self) {
        let places = std::mem::take(&mut self.places);
        let mut above: Vec<(String, String)> = Vec::new();
        // With a slash at the end, so that `a-b` does not come between `a` and `a/b`.
        let sorted: BTreeMap<String, Vec<String>> =
            places.into_iter().map(|(place, objects)| (format!("{place}/"), objects)).collect();
        for (place, objects) in sorted {
            above.retain(|(folder, _)| place.starts_with(folder.as_str()));
            let Some(first) = objects.first() else { continue };
            for object in &objects[1..] {
                self.found(object, Kind::SharedLocation, format!("has the folder of {first}"));
            }
            if let Some((_, owner)) = above.last() {
                let owner = owner.clone();
                self.found(first, Kind::NestedLocation, format!("is in the folder of {owner}"));
            }
            above.push((place, first.clone()));
        }
    }

    async fn locks(&mut self) -> Result<()> {
        // All of them, those too that ran out.
        for lock in self.store.locks(i64::MAX).await? {
            let age_ms = self.expected.now_ms.saturating_sub(lock.renewed_ms);
            if age_ms > self.expected.lock_timeout_ms {
                let words = format!("of {} was last renewed {} s ago", lock.request.user, age_ms / 1000);
                self.found(&format!("lock {}", lock.id), Kind::Lock, words);
            }
        }
        Ok(())
    }

    async fn writes(&mut self) -> Result<()> {
        for write in self.store.abandoned_writes(&self.expected.alive_owner).await? {
            let (count, age_s) = (write.staged.len(), self.expected.now_ms.saturating_sub(write.began_ms) / 1000);
            let words = format!("to {}.{} began {age_s} s ago and left {count} files", write.database, write.table);
            self.found(&format!("write {}", write.id), Kind::Write, words);
        }
        Ok(())
    }
}

/// A partition's name without escapes and in lower case: what some file systems and databases take for the same.
fn plain_name(name: &str) -> String {
    let part = |part: &str| unescape_path_name(part).to_lowercase().replace('/', "\u{0}");
    name.split('/').map(part).collect::<Vec<_>>().join("/")
}

/// Whether a text is a type of Hive.
fn is_type(text: &str) -> bool {
    let mut parser = TypeParser { rest: text.trim() };
    parser.one(0) && parser.rest.is_empty()
}

/// Levels that types may have in each other.
const DEPTH_MAX: usize = 100;

struct TypeParser<'a> {
    rest: &'a str,
}

impl<'a> TypeParser<'a> {
    fn word(&mut self) -> &'a str {
        self.rest = self.rest.trim_start();
        let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest.trim_start();
        word
    }

    fn eat(&mut self, sign: char) -> bool {
        let rest = self.rest.trim_start().strip_prefix(sign);
        self.rest = rest.map_or(self.rest, str::trim_start);
        rest.is_some()
    }

    /// Numbers in parentheses, at most `max`; at least `min`.
    fn numbers(&mut self, min: usize, max: usize) -> bool {
        if !self.eat('(') {
            return min == 0;
        }
        let mut count = 0;
        loop {
            if self.word().parse::<u32>().is_err() {
                return false;
            }
            count += 1;
            if !self.eat(',') {
                break;
            }
        }
        self.eat(')') && (min..=max).contains(&count)
    }

    fn list(&mut self, depth: usize, count: Option<usize>) -> bool {
        let mut found = 0;
        loop {
            if !self.one(depth + 1) {
                return false;
            }
            found += 1;
            if !self.eat(',') {
                break;
            }
        }
        self.eat('>') && count.is_none_or(|count| count == found)
    }

    /// Names of fields may hold anything but a colon.
    fn fields(&mut self, depth: usize) -> bool {
        loop {
            let Some((name, rest)) = self.rest.split_once(':') else { return false };
            if name.trim().is_empty() || name.contains(['<', '>', ',']) {
                return false;
            }
            self.rest = rest;
            if !self.one(depth + 1) {
                return false;
            }
            if !self.eat(',') {
                return self.eat('>');
            }
        }
    }

    fn one(&mut self, depth: usize) -> bool {
        if depth > DEPTH_MAX {
            return false;
        }
        match self.word().to_ascii_lowercase().as_str() {
            "array" => self.eat('<') && self.list(depth, Some(1)),
            "map" => self.eat('<') && self.list(depth, Some(2)),
            "uniontype" => self.eat('<') && self.list(depth, None),
            "struct" => self.eat('<') && self.fields(depth),
            "decimal" | "numeric" => self.numbers(0, 2),
            "char" | "varchar" => self.numbers(1, 1),
            "timestamp" => {
                // As Hive 3 writes the one with a zone of its own.
                for word in ["with", "local", "time", "zone"] {
                    let before = self.rest;
                    if !self.word().eq_ignore_ascii_case(word) {
                        self.rest = before;
                        return word == "with";
                    }
                }
                true
            }
            word => matches!(
                word,
                "boolean"
                    | "tinyint"
                    | "smallint"
                    | "int"
                    | "integer"
                    | "bigint"
                    | "float"
                    | "double"
                    | "string"
                    | "binary"
                    | "date"
                    | "void"
                    | "interval_year_month"
                    | "interval_day_time"
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_hive_are_told() {
        for known in [
            "bigint",
            "decimal(10,2)",
            "decimal",
            "varchar(10)",
            "array<map<string, struct<a b:int,c:array<date>>>>",
            "uniontype<int,string,double>",
            "timestamp",
            "timestamp with local time zone",
            "TIMESTAMP",
            "struct<_1:int,é:string>",
        ] {
            assert!(is_type(known), "{known}");
        }
        for none in
            ["", "in t", "array<int", "map<int>", "decimal(x)", "varchar", "struct<a>", "int>", "text", "array<>"]
        {
            assert!(!is_type(none), "{none}");
        }
        assert!(!is_type(&"array<".repeat(1_000)));
    }

    #[test]
    fn names_that_differ_by_case_or_escaping_are_alike() {
        assert_eq!(plain_name("ds=A%3ab/k=1"), plain_name("DS=a:b/K=1"));
        assert_ne!(plain_name("a=b%2Fc"), plain_name("a=b/c"));
    }
}
