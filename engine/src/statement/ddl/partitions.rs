//! Partitions: naming them in statements, and finding them in folders.

use std::fmt;
use std::sync::Arc;

use datafusion::sql::sqlparser::tokenizer::Token;
use tereza_catalog::model::{DEFAULT_PARTITION, Parameters, Partition, Storage, Table, TableKind, partition_name};
use tereza_catalog::store::PartitionFilter;
use tereza_runtime::{Error, Result};

use super::table::found_partitions;
use crate::session::Session;
use crate::statement::errors;
use crate::statement::parse::{Reader, TableName};
use crate::statement::{Planned, Planner};

/// `(key = value, …)` after PARTITION; NULL is the default partition's value.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(in crate::statement) struct Spec(Vec<(String, String)>);

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs: Vec<String> = self.0.iter().map(|(key, value)| format!("{key} = '{value}'")).collect();
        f.write_str(&pairs.join(", "))
    }
}

impl Spec {
    /// Reads `(key = constant, …)`.
    pub(in crate::statement) fn parse(reader: &mut Reader<'_>) -> Result<Self> {
        let keys = reader.list(|reader| {
            let key = reader.identifier()?.to_lowercase();
            if !reader.take_token(&Token::Eq) {
                return Err(reader.expected("'=' (other comparisons of partition keys are not supported)"));
            }
            Ok((key, constant(reader)?))
        })?;
        Ok(Self(keys))
    }

    /// The values of a whole partition, in the order of the table's keys.
    pub(super) fn values(&self, table: &Table) -> Result<Vec<String>> {
        self.check(table)?;
        let value = |key: &str| self.0.iter().find(|(name, _)| name == key).map(|(_, value)| value.clone());
        table
            .partition_keys
            .iter()
            .map(|key| {
                value(&key.name).ok_or_else(|| {
                    Error::invalid_input(format!("PARTITION does not name the key '{}'", key.name))
                        .with_hint("name every key")
                })
            })
            .collect()
    }

    /// The filter of all partitions with these values; keys that are not named may have any.
    pub(in crate::statement) fn filter(&self, table: &Table) -> Result<PartitionFilter> {
        self.check(table)?;
        let value = |key: &str| self.0.iter().find(|(name, _)| name == key).map(|(_, value)| vec![value.clone()]);
        Ok(PartitionFilter { values: table.partition_keys.iter().map(|key| value(&key.name)).collect() })
    }

    /// Whether a partition has these values; a filter of the store may let through more.
    pub(in crate::statement) fn matches(&self, table: &Table, partition: &Partition) -> bool {
        self.0.iter().all(|(key, value)| {
            let position = table.partition_keys.iter().position(|known| known.name == *key);
            position.and_then(|position| partition.values.get(position)) == Some(value)
        })
    }

    /// Whether a key has a value here.
    pub(in crate::statement) fn names(&self, key: &str) -> bool {
        self.0.iter().any(|(name, _)| name == key)
    }

    fn check(&self, table: &Table) -> Result<()> {
        let name = format!("{}.{}", table.database, table.name);
        if table.partition_keys.is_empty() {
            return Err(Error::invalid_input(format!("table {name} is not partitioned")));
        }
        let known = || table.partition_keys.iter().map(|key| key.name.as_str());
        match self.0.iter().find(|(key, _)| !known().any(|known| known == key)) {
            Some((key, _)) => {
                let error = Error::invalid_input(format!("table {name} has no partition key '{key}'"));
                Err(errors::did_you_mean(error, key, known()))
            }
            None => Ok(()),
        }
    }
}

/// The catalog's text of a constant.
fn constant(reader: &mut Reader<'_>) -> Result<String> {
    if reader.take("NULL") {
        return Ok(DEFAULT_PARTITION.into());
    }
    if reader.take("DATE") || reader.take("TIMESTAMP") {
        return reader.text();
    }
    if let Some(word) = reader.take_one(&["TRUE", "FALSE"]) {
        return Ok(word.to_lowercase());
    }
    let minus = reader.take_token(&Token::Minus);
    if let Token::Number(number, _) = &reader.parser.peek_token_ref().token {
        let number = if minus { format!("-{number}") } else { number.clone() };
        reader.parser.advance_token();
        return Ok(number);
    }
    if minus {
        return Err(reader.expected("a number"));
    }
    reader.text()
}

/// A table with partitions that are rows of the catalog.
pub(super) async fn partitioned(session: &Session, name: &TableName) -> Result<Table> {
    let table = errors::table(session, name).await?.table;
    if matches!(table.kind, TableKind::View | TableKind::MaterializedView) || table.partition_keys.is_empty() {
        return Err(Error::invalid_input(format!("{name} is not a partitioned table")));
    }
    Ok(table)
}

/// One new partition of a table, at `location` or in the folder of its name.
pub(super) fn new_partition(
    session: &Session,
    table: &Table,
    spec: &Spec,
    location: Option<&str>,
) -> Result<Partition> {
    let values = spec.values(table)?;
    let location = match (location, &table.storage.location) {
        (Some(location), _) => session.engine.stores.kept_url(location)?,
        (None, Some(base)) => {
            format!("{}/{}", base.trim_end_matches('/'), partition_name(&table.partition_keys, &values))
        }
        (None, None) => {
            return Err(Error::invalid_input(format!("table {}.{} has no location", table.database, table.name)));
        }
    };
    Ok(Partition {
        values,
        create_time_s: 0,
        last_access_time_s: 0,
        storage: Storage { location: Some(location), ..table.storage.clone() },
        parameters: Parameters::new(),
    })
}

/// `MSCK [REPAIR] TABLE name [ADD|DROP|SYNC PARTITIONS]` and `ALTER TABLE name RECOVER PARTITIONS`: what the folders of the
/// table hold becomes what the catalog holds.
pub(in crate::statement) struct Repair {
    name: TableName,
    add: bool,
    drop: bool,
}

impl Repair {
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self> {
        reader.take("REPAIR");
        reader.expect("TABLE")?;
        let name = reader.table_name()?;
        name.require_tereza("MSCK REPAIR TABLE")?;
        let (add, drop) = match reader.take_one(&["ADD PARTITIONS", "DROP PARTITIONS", "SYNC PARTITIONS"]) {
            Some("DROP PARTITIONS") => (false, true),
            Some("SYNC PARTITIONS") => (true, true),
            _ => (true, false),
        };
        Ok(Self { name, add, drop })
    }

    /// The same for `ALTER TABLE name RECOVER PARTITIONS`.
    pub(super) fn recover(name: TableName) -> Self {
        Self { name, add: true, drop: false }
    }

    pub(super) fn plan(self, planner: &Planner<'_>) -> Planned {
        let session = Arc::clone(planner.session);
        Planned::command(async move { self.run(&session).await })
    }

    pub(super) async fn run(self, session: &Session) -> Result<()> {
        let store = &session.engine.catalog;
        let table = partitioned(session, &self.name).await?;
        let found = found_partitions(session, &table).await?;
        if self.add {
            store.add_partitions(&table.database, &table.name, &found, true).await?;
        }
        if self.drop {
            let snapshot = store.snapshot(&table.database, &table.name, &PartitionFilter::default()).await?;
            super::change::settle(session, &snapshot.pending).await?;
            let base = table.storage.location.as_deref().unwrap_or_default().trim_end_matches('/');
            // A partition at a place of its own is not in the table's folder, and was not looked for.
            let gone: Vec<Vec<String>> = snapshot
                .partitions
                .iter()
                .filter(|partition| {
                    partition.storage.location.as_deref().is_some_and(|location| location.starts_with(base))
                })
                .filter(|partition| !found.iter().any(|found| found.values == partition.values))
                .map(|partition| partition.values.clone())
                .collect();
            store.drop_partitions(&table.database, &table.name, &gone, true).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::parse::{Text, tests::scope};

    fn spec(sql: &str) -> Result<Spec> {
        let text = Text::new(sql, scope())?;
        let rules = text.scope.rules();
        Spec::parse(&mut Reader::new(&text, rules.as_ref()))
    }

    #[test]
    fn constants_become_the_catalogs_text() {
        let expected = [("ds", "2024-01-01"), ("n", "-7"), ("b", "true"), ("k", DEFAULT_PARTITION), ("q", "x")];
        let read = spec("(ds = date '2024-01-01', N = -7, b = TRUE, k = null, q = \"x\")").expect("reads");
        assert_eq!(read, Spec(expected.map(|(key, value)| (key.to_owned(), value.to_owned())).into()));
    }

    #[test]
    fn only_equality_names_partitions() {
        assert!(spec("(ds > '1')").is_err());
        assert!(spec("(ds)").is_err());
        assert!(spec("()").is_err());
    }
}
