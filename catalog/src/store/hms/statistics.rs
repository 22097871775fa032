//! Column statistics. When they were found out is not in the interface: readers see 0.

use std::collections::HashSet;

use tereza_runtime::{Error, ErrorKind, Result};

use super::super::names;
use super::super::sqlite::beside::Changed;
use super::Inner;
use super::effects::{checked_name, mark_of};
use super::look::Look;
use crate::import::Source;
use crate::model::{ColumnStatistics, LockMode};

impl Inner {
    pub(super) async fn column_statistics(
        &self,
        (database, name): (&str, &str),
        partition: Option<&[String]>,
    ) -> Result<Vec<ColumnStatistics>> {
        let look = self.require(database, name).await?;
        let partition = self.partition_name(&look, (database, name), partition).await?;
        self.statistics_of(&look, partition).await
    }

    /// The name of a partition that is there.
    async fn partition_name(
        &self,
        look: &Look,
        table: (&str, &str),
        values: Option<&[String]>,
    ) -> Result<Option<String>> {
        let Some(values) = values else { return Ok(None) };
        let name = checked_name(look.keys(), &format!("{}.{}", table.0, table.1), values)?;
        match self.named(look, table, std::slice::from_ref(&name)).await?.is_empty() {
            true => {
                Err(Error::not_found(format!("partition '{name}' of table '{}.{}' does not exist", table.0, table.1)))
            }
            false => Ok(Some(name)),
        }
    }

    async fn statistics_of(&self, look: &Look, partition: Option<String>) -> Result<Vec<ColumnStatistics>> {
        let Some(table) = &look.remote else { return Ok(Vec::new()) };
        let columns: Vec<String> = table.storage.columns.iter().map(|column| column.name.clone()).collect();
        let mut found = match partition {
            None => self.remote.table_statistics(table, &columns).await?,
            Some(name) => {
                let found = self.remote.partition_statistics(table, &[name], &columns).await?;
                found.into_values().next().unwrap_or_default()
            }
        };
        found.sort_by(|one, two| one.column.cmp(&two.column));
        Ok(found)
    }

    pub(super) async fn partition_statistics(
        &self,
        (database, name): (&str, &str),
        names: &[String],
    ) -> Result<Vec<(String, Vec<ColumnStatistics>)>> {
        let look = self.require(database, name).await?;
        let Some(table) = &look.remote else { return Ok(Vec::new()) };
        let columns: Vec<String> = table.storage.columns.iter().map(|column| column.name.clone()).collect();
        let found = self.remote.partition_statistics(table, names, &columns).await?;
        let sorted = |(name, mut columns): (String, Vec<ColumnStatistics>)| {
            columns.sort_by(|one, two| one.column.cmp(&two.column));
            (name, columns)
        };
        Ok(found.into_iter().map(sorted).filter(|(_, columns)| !columns.is_empty()).collect())
    }

    pub(super) async fn set_column_statistics(
        &self,
        table: (&str, &str),
        partition: Option<&[String]>,
        columns: &[ColumnStatistics],
    ) -> Result<()> {
        let change = self.change(LockMode::SharedWrite, &[table]).await?;
        let outcome = self.set_in_turn(table, partition, columns).await;
        change.end().await;
        outcome
    }

    async fn set_in_turn(
        &self,
        (database, name): (&str, &str),
        partition: Option<&[String]>,
        columns: &[ColumnStatistics],
    ) -> Result<()> {
        let look = self.require(database, name).await?;
        let partition = self.partition_name(&look, (database, name), partition).await?;
        let known: HashSet<&str> =
            look.at_remote()?.storage.columns.iter().map(|column| column.name.as_str()).collect();
        let mut seen = HashSet::new();
        let mut folded = Vec::with_capacity(columns.len());
        for column in columns {
            let column = ColumnStatistics { column: names::fold(&column.column), ..column.clone() };
            if !known.contains(column.column.as_str()) {
                let message = format!("column '{}' of table '{database}.{name}' does not exist", column.column);
                return Err(Error::not_found(message));
            }
            if !seen.insert(column.column.clone()) {
                return Err(Error::invalid_input(format!(
                    "the statistics of column '{}' are there twice",
                    column.column
                )));
            }
            folded.push(column);
        }
        if folded.is_empty() {
            return Ok(());
        }
        let now_s = self.clock.unix_s();
        self.remote.set_statistics(database, name, partition.as_deref(), &folded, now_s).await?;
        self.note_statistics(database, name).await
    }

    /// A metastore may note in the table's parameters that it has statistics: no change that counts.
    async fn note_statistics(&self, database: &str, name: &str) -> Result<()> {
        match self.remote.table(database, name).await? {
            Some(table) => self.local.note(database, name, &mark_of(&table)?, Changed::Hardly).await.map(|_| ()),
            None => Ok(()),
        }
    }

    pub(super) async fn delete_column_statistics(
        &self,
        table: (&str, &str),
        partition: Option<&[String]>,
        column: Option<&str>,
    ) -> Result<u64> {
        let change = self.change(LockMode::SharedWrite, &[table]).await?;
        let outcome = self.delete_in_turn(table, partition, column).await;
        change.end().await;
        outcome
    }

    async fn delete_in_turn(
        &self,
        (database, name): (&str, &str),
        partition: Option<&[String]>,
        column: Option<&str>,
    ) -> Result<u64> {
        let look = self.require(database, name).await?;
        let partition = self.partition_name(&look, (database, name), partition).await?;
        let mut known = self.statistics_of(&look, partition.clone()).await?;
        let column = column.map(names::fold);
        known.retain(|known| column.as_ref().is_none_or(|column| *column == known.column));
        // One by one: what it means to name none differs between metastores.
        for known in &known {
            match self.remote.delete_statistics(database, name, partition.as_deref(), &known.column).await {
                Ok(()) => {}
                Err(failed) => match Error::from(failed) {
                    error if error.kind() == ErrorKind::NotFound => {}
                    error => return Err(error),
                },
            }
        }
        self.note_statistics(database, name).await?;
        Ok(u64::try_from(known.len()).unwrap_or(u64::MAX))
    }
}
