//! What a commit makes of a table and its partitions. Done twice it is the same as once: whatever it changed has a parameter
//! that says so.
//!
//! The marks are parameters that start with [`CHANGE`] or [`COMMIT`]. Readers here never see them; a change of a table by
//! others keeps them, as it keeps parameters that it does not know.

use std::collections::{BTreeMap, BTreeSet};

use tereza_runtime::{Error, Result};

use super::super::names;
use super::super::sqlite::beside::{Changes, Mark, Undone};
use crate::model::{Column, Parameters, Partition, Table, TableKind, partition_name};
use crate::store::Commit;

/// The id of the last change that any Tereza made to a table: with it the table is another one to all others, also where the
/// change was of its partitions.
const CHANGE: &str = "tereza.change";
/// Before the name of who committed: the version of the last commit that is done.
const COMMIT: &str = "tereza.commit.";
/// Where the time of the last definition is kept.
const LAST_DDL_TIME: &str = "transient_lastDdlTime";

/// The marks that one local store leaves.
#[derive(Debug, Clone)]
pub(super) struct Marks {
    key: String,
}

impl Marks {
    pub(super) fn of(instance: &str) -> Self {
        Self { key: format!("{COMMIT}{instance}") }
    }

    /// Whether a commit of this version is done.
    pub(super) fn has(&self, parameters: &Parameters, version: i64) -> bool {
        parameters.get(&self.key).and_then(|text| text.parse::<i64>().ok()).is_some_and(|done| done >= version)
    }

    fn set(&self, parameters: &mut Parameters, version: i64) {
        parameters.insert(self.key.clone(), version.to_string());
    }

    /// The table after a commit, marked. The table that a commit makes is marked from the first moment.
    pub(super) fn table_after(&self, table: &Table, commit: &Commit) -> Table {
        let mut table = table.clone();
        if self.has(&table.parameters, commit.version) {
            return table;
        }
        let change =
            Changes { set: vec![&commit.table_parameters], increments: commit.table_increments.iter().collect() };
        change.apply(&mut table.parameters);
        self.set(&mut table.parameters, commit.version);
        table.parameters.insert(CHANGE.into(), commit.id.clone());
        table
    }

    /// The table that a commit makes.
    pub(super) fn new_table(&self, table: &Table, undone: &Undone) -> Table {
        let commit = &undone.commit;
        let mut table = self.table_after(
            &Table { database: commit.database.clone(), name: commit.table.clone(), ..table.clone() },
            commit,
        );
        complete(&mut table, undone.decided_s);
        table
    }

    /// What a commit does to partitions, by their names.
    pub(super) fn plan<'c>(&self, keys: &[Column], commit: &'c Commit) -> Result<Plan<'c>> {
        let mut plan = Plan::default();
        for values in &commit.drop_partitions {
            plan.drop.insert(name_of(keys, commit, values)?);
        }
        for partition in &commit.add_partitions {
            plan.add.entry(name_of(keys, commit, &partition.values)?).or_insert(partition);
        }
        for (values, set) in &commit.partition_parameters {
            plan.change.entry(name_of(keys, commit, values)?).or_default().0.push(set);
        }
        for (values, increments) in &commit.partition_increments {
            plan.change.entry(name_of(keys, commit, values)?).or_default().1.extend(increments);
        }
        Ok(plan)
    }

    /// A partition after the change of its parameters by a commit of this version, marked; nothing if that is done already.
    pub(super) fn partition_after(
        &self,
        partition: &Partition,
        change: &Change<'_>,
        version: i64,
    ) -> Option<Partition> {
        if self.has(&partition.parameters, version) {
            return None;
        }
        let mut partition = partition.clone();
        let (set, increments) = change.clone();
        Changes { set, increments }.apply(&mut partition.parameters);
        self.set(&mut partition.parameters, version);
        Some(partition)
    }

    /// A partition that a commit adds, with the change that comes after it.
    pub(super) fn new_partition(
        &self,
        name: &str,
        partition: &Partition,
        plan: &Plan<'_>,
        undone: &Undone,
    ) -> Partition {
        let mut partition = Partition { create_time_s: undone.decided_s, ..partition.clone() };
        partition.parameters.entry(LAST_DDL_TIME.into()).or_insert_with(|| undone.decided_s.to_string());
        let change = plan.change.get(name).cloned().unwrap_or_default();
        self.partition_after(&partition, &change, undone.commit.version).unwrap_or(partition)
    }

    /// Lays what a commit does to partitions over those that are there. `passes` says which names are wanted.
    pub(super) fn lay_over(
        &self,
        keys: &[Column],
        partitions: &mut BTreeMap<String, Partition>,
        undone: &Undone,
        passes: impl Fn(&str) -> bool,
    ) -> Result<()> {
        let plan = self.plan(keys, &undone.commit)?;
        let version = undone.commit.version;
        // One that has the mark was added by this commit.
        partitions.retain(|name, partition| !plan.drop.contains(name) || self.has(&partition.parameters, version));
        for (name, partition) in plan.add.iter().filter(|(name, _)| passes(name)) {
            let new = || self.new_partition(name, partition, &plan, undone);
            partitions.entry(name.clone()).or_insert_with(new);
        }
        for (name, change) in &plan.change {
            if let Some(partition) = partitions.get_mut(name)
                && let Some(changed) = self.partition_after(partition, change, version)
            {
                *partition = changed;
            }
        }
        Ok(())
    }
}

/// What is set in the parameters of a partition, and added to them.
pub(super) type Change<'c> = (Vec<&'c Parameters>, Vec<&'c (String, i64)>);

/// What a commit does to partitions, in this order.
#[derive(Debug, Default)]
pub(super) struct Plan<'c> {
    pub(super) drop: BTreeSet<String>,
    pub(super) add: BTreeMap<String, &'c Partition>,
    pub(super) change: BTreeMap<String, Change<'c>>,
}

impl Plan<'_> {
    pub(super) fn is_empty(&self) -> bool {
        self.drop.is_empty() && self.add.is_empty() && self.change.is_empty()
    }
}

/// The name of the partition with these values.
pub(super) fn checked_name(keys: &[Column], table: &str, values: &[String]) -> Result<String> {
    if keys.is_empty() {
        return Err(Error::invalid_input(format!("table '{table}' is not partitioned")));
    }
    if values.len() != keys.len() {
        let (wanted, count) = (keys.len(), values.len());
        let message = format!("a partition of table '{table}' has {wanted} keys, not {count}: {values:?}");
        return Err(Error::invalid_input(message));
    }
    Ok(partition_name(keys, values))
}

fn name_of(keys: &[Column], commit: &Commit, values: &[String]) -> Result<String> {
    checked_name(keys, &format!("{}.{}", commit.database, commit.table), values)
}

/// Folds and checks a table that is about to be kept, as every store does: a metastore may know less.
pub(super) fn checked(table: &Table) -> Result<Table> {
    let name = names::new_name("table", &table.name, names::TABLE_CHARS)?;
    let columns = names::new_columns(&table.storage.columns)?;
    let partition_keys = names::new_partition_keys(&table.partition_keys)?;
    if let Some(key) = partition_keys.iter().find(|key| columns.iter().any(|column| column.name == key.name)) {
        let message = format!("'{}' is both a column and a partition key of table '{name}'", key.name);
        return Err(Error::invalid_input(message));
    }
    check_parameters(&table.parameters)?;
    let mut table = table.clone();
    table.storage.columns = columns;
    Ok(Table { database: names::fold(&table.database), name, partition_keys, ..table })
}

/// Checks a partition that is about to be kept.
pub(super) fn check_partition(name: &str, partition: &Partition) -> Result<()> {
    names::check_partition(name, &partition.values)?;
    check_parameters(&partition.parameters)
}

fn check_parameters(parameters: &Parameters) -> Result<()> {
    for key in parameters.keys() {
        if key.is_empty() {
            return Err(Error::invalid_input("the name of a parameter is empty"));
        }
        names::check_chars("the name of a parameter", key, PARAMETER_CHARS)?;
    }
    Ok(())
}

/// Characters that a parameter's name may have.
const PARAMETER_CHARS: usize = 256;

/// What every store sets in a new table.
fn complete(table: &mut Table, now_s: i64) {
    table.create_time_s = now_s;
    table.parameters.entry(LAST_DDL_TIME.into()).or_insert_with(|| now_s.to_string());
    if table.kind == TableKind::External {
        table.parameters.entry("EXTERNAL".into()).or_insert_with(|| "TRUE".into());
    }
}

/// Marks a table as changed now.
pub(super) fn mark_change(table: &mut Table, id: &str) {
    table.parameters.insert(CHANGE.into(), id.into());
}

/// Whether the last change was this one.
pub(super) fn has_change(table: &Table, id: &str) -> bool {
    table.parameters.get(CHANGE).is_some_and(|last| last == id)
}

/// Takes the marks over to what takes the place of what had them.
pub(super) fn keep_marks(old: &Parameters, new: &mut Parameters) {
    new.extend(old.iter().filter(|(key, _)| is_mark(key)).map(|(key, value)| (key.clone(), value.clone())));
}

/// What readers see: no marks.
pub(super) fn without_marks(parameters: &mut Parameters) {
    parameters.retain(|key, _| !is_mark(key));
}

fn is_mark(key: &str) -> bool {
    key == CHANGE || key.starts_with(COMMIT)
}

/// What tells this state of a table from others. When it was last read does not.
pub(super) fn mark_of(table: &Table) -> Result<Mark> {
    use sha2::{Digest, Sha256};

    let told = Table { last_access_time_s: 0, ..table.clone() };
    let text = serde_json::to_vec(&told)
        .map_err(|error| Error::internal("cannot write a table as JSON").with_source(error))?;
    let state = Sha256::digest(&text).iter().map(|byte| format!("{byte:02x}")).collect();
    Ok(Mark { created_s: table.create_time_s, state, kind: table.kind, location: table.storage.location.clone() })
}
