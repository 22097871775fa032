//! Partitions: each change is one call at the metastore, after which the table gets the mark of a change.

use std::collections::HashSet;

use tereza_runtime::{Error, Result, ids};

use super::super::names;
use super::Inner;
use super::effects::{check_partition, checked_name, keep_marks, mark_change};
use super::look::{Look, shown};
use crate::hive::remote::Failed;
use crate::model::{LockMode, Partition};

/// The table whose partitions are changed: database, name, and both for messages.
struct Parent<'a> {
    table: (&'a str, &'a str),
    look: Look,
}

impl Parent<'_> {
    fn full_name(&self) -> String {
        format!("{}.{}", self.table.0, self.table.1)
    }

    fn names_of<'v>(&self, values: impl Iterator<Item = &'v Vec<String>>) -> Result<Vec<String>> {
        values.map(|values| checked_name(self.look.keys(), &self.full_name(), values)).collect()
    }

    fn missing(&self, name: &str) -> Error {
        Error::not_found(format!("partition '{name}' of table '{}' does not exist", self.full_name()))
    }

    fn exists(&self, name: &str) -> Error {
        Error::already_exists(format!("partition '{name}' of table '{}' already exists", self.full_name()))
    }
}

impl Inner {
    async fn parent<'a>(&self, table: (&'a str, &'a str)) -> Result<Parent<'a>> {
        let look = self.require(table.0, table.1).await?;
        look.at_remote()?;
        Ok(Parent { table, look })
    }

    /// Ends a change of partitions: the table is another one now, also to others.
    async fn changed(&self, parent: &Parent<'_>, outcome: Result<(), Failed>) -> Result<()> {
        match outcome {
            Ok(()) => {}
            Err(Failed::Refused(error) | Failed::Unsent(error)) => return Err(error),
            Err(Failed::Lost(error)) => {
                self.local.move_on(parent.look.seen.id).await?;
                return Err(error.context("whether partitions were changed is not known"));
            }
        }
        let (database, name) = parent.table;
        let touched = async {
            let Some(mut table) = self.remote.table(database, name).await? else { return Ok(()) };
            mark_change(&mut table, &ids::new_id());
            self.remote.alter_table(database, name, &table, false).await?;
            self.note_change(database, name).await
        };
        match touched.await {
            Ok(()) => Ok(()),
            Err(error) => {
                // Those who read by way of others do not hear of it; all else is done.
                tracing::warn!(database, name, %error, "a change of partitions is not marked at the metastore");
                self.local.move_on(parent.look.seen.id).await
            }
        }
    }

    pub(super) async fn add_partitions(
        &self,
        table: (&str, &str),
        partitions: &[Partition],
        if_not_exists: bool,
    ) -> Result<usize> {
        let change = self.change(LockMode::SharedWrite, &[table]).await?;
        let outcome = self.add_in_turn(table, partitions, if_not_exists).await;
        change.end().await;
        outcome
    }

    async fn add_in_turn(&self, table: (&str, &str), partitions: &[Partition], if_not_exists: bool) -> Result<usize> {
        let parent = self.parent(table).await?;
        let names = parent.names_of(partitions.iter().map(|partition| &partition.values))?;
        let known = self.named(&parent.look, table, &names).await?;
        let mut taken: HashSet<String> = known.into_keys().collect();
        let mut new = Vec::new();
        for (name, partition) in names.iter().zip(partitions) {
            if taken.insert(name.clone()) {
                check_partition(name, partition)?;
                new.push(partition.clone());
            } else if !if_not_exists {
                return Err(parent.exists(name));
            }
        }
        if !new.is_empty() {
            let outcome = self.remote.add_partitions(table.0, table.1, &new, if_not_exists).await;
            self.changed(&parent, outcome).await?;
        }
        Ok(new.len())
    }

    pub(super) async fn alter_partitions(&self, table: (&str, &str), partitions: &[Partition]) -> Result<()> {
        let change = self.change(LockMode::SharedWrite, &[table]).await?;
        let outcome = self.alter_partitions_in_turn(table, partitions).await;
        change.end().await;
        outcome
    }

    async fn alter_partitions_in_turn(&self, table: (&str, &str), partitions: &[Partition]) -> Result<()> {
        let parent = self.parent(table).await?;
        let names = parent.names_of(partitions.iter().map(|partition| &partition.values))?;
        let known = self.named(&parent.look, table, &names).await?;
        let mut changed = Vec::with_capacity(partitions.len());
        for (name, partition) in names.iter().zip(partitions) {
            check_partition(name, partition)?;
            let old = known.get(name).ok_or_else(|| parent.missing(name))?;
            let mut new = Partition { create_time_s: old.create_time_s, ..partition.clone() };
            keep_marks(&old.parameters, &mut new.parameters);
            changed.push(new);
        }
        if changed.is_empty() {
            return Ok(());
        }
        let outcome = self.remote.alter_partitions(table.0, table.1, &changed).await;
        self.changed(&parent, outcome).await
    }

    pub(super) async fn rename_partition(
        &self,
        table: (&str, &str),
        values: &[String],
        partition: &Partition,
    ) -> Result<()> {
        let change = self.change(LockMode::Exclusive, &[table]).await?;
        let outcome = self.rename_in_turn(table, values, partition).await;
        change.end().await;
        outcome
    }

    async fn rename_in_turn(&self, table: (&str, &str), values: &[String], partition: &Partition) -> Result<()> {
        let parent = self.parent(table).await?;
        let names = parent.names_of([values.to_vec(), partition.values.clone()].iter())?;
        let (old_name, new_name) = (&names[0], &names[1]);
        let known = self.named(&parent.look, table, &names).await?;
        let old = known.get(old_name).ok_or_else(|| parent.missing(old_name))?;
        check_partition(new_name, partition)?;
        if new_name != old_name && known.contains_key(new_name) {
            return Err(parent.exists(new_name));
        }
        let mut new = Partition { create_time_s: old.create_time_s, ..partition.clone() };
        keep_marks(&old.parameters, &mut new.parameters);
        // A metastore looks for the values as they are kept.
        let outcome = self.remote.rename_partition(table.0, table.1, &old.values, &new).await;
        self.changed(&parent, outcome).await
    }

    pub(super) async fn drop_partitions(
        &self,
        table: (&str, &str),
        values: &[Vec<String>],
        if_exists: bool,
        with_files: bool,
    ) -> Result<Vec<Partition>> {
        let change = self.change(LockMode::Exclusive, &[table]).await?;
        let outcome = self.drop_partitions_in_turn(table, values, if_exists, with_files).await;
        change.end().await;
        outcome
    }

    async fn drop_partitions_in_turn(
        &self,
        table: (&str, &str),
        values: &[Vec<String>],
        if_exists: bool,
        with_files: bool,
    ) -> Result<Vec<Partition>> {
        let parent = self.parent(table).await?;
        let names = parent.names_of(values.iter())?;
        let mut known = self.named(&parent.look, table, &names).await?;
        if !if_exists && let Some(missing) = names.iter().find(|name| !known.contains_key(*name)) {
            return Err(parent.missing(missing));
        }
        let there: Vec<String> = names.iter().filter(|name| known.contains_key(*name)).cloned().collect();
        if there.is_empty() {
            return Ok(Vec::new());
        }
        let outcome = self.remote.drop_partitions(table.0, table.1, &there, with_files).await;
        self.changed(&parent, outcome).await?;
        let dropped =
            names.iter().filter_map(|name| known.remove(name)).map(|one| shown([(String::new(), one)].into()));
        Ok(dropped.flatten().collect())
    }
}

/// Database and table in lower case.
pub(super) fn folded(database: &str, table: &str) -> (String, String) {
    (names::fold(database), names::fold(table))
}
