//! Reading: what the metastore says, with what is decided here and not yet done there laid over it.

use std::collections::{BTreeMap, HashSet};

use tereza_runtime::{Error, ErrorKind, Result};

use super::super::filter::{NameFilter, Places};
use super::super::sqlite::beside::{Changed, Seen, Undone};
use super::Inner;
use super::effects::{Marks, mark_of, without_marks};
use crate::import::Source;
use crate::model::{Column, Partition, Table, partition_name};
use crate::store::PartitionFilter;

/// Partitions asked for at once.
const PARTITIONS_AT_ONCE: usize = 1_000;

/// A table as it was just looked up.
#[derive(Debug, Clone)]
pub(super) struct Look {
    /// As the metastore has it, with the marks; none while the commit that makes it is not done.
    pub(super) remote: Option<Table>,
    pub(super) seen: Seen,
}

impl Look {
    /// What readers see.
    pub(super) fn table(&self, marks: &Marks) -> Result<Table> {
        let mut table = match (&self.remote, self.seen.undone.first()) {
            (Some(table), _) => table.clone(),
            (None, Some(first)) => match &first.commit.create_table {
                Some(new) => marks.new_table(new, first),
                None => return Err(Error::internal("a table that is not there has commits")),
            },
            (None, None) => return Err(Error::internal("a table that is not there was seen")),
        };
        for undone in &self.seen.undone {
            table = marks.table_after(&table, &undone.commit);
        }
        without_marks(&mut table.parameters);
        Ok(table)
    }

    /// Its partition keys.
    pub(super) fn keys(&self) -> &[Column] {
        let making = || self.seen.undone.first().and_then(|undone| undone.commit.create_table.as_ref());
        self.remote.as_ref().or_else(making).map_or(&[], |table| &table.partition_keys)
    }

    /// What may be undone of partitions: all of a commit until its table has its mark, which comes last, unless it makes it.
    fn undone<'a>(&'a self, marks: &'a Marks) -> impl Iterator<Item = &'a Undone> {
        self.seen.undone.iter().filter(move |undone| {
            let is_done = self.remote.as_ref().is_some_and(|table| marks.has(&table.parameters, undone.commit.version));
            undone.commit.create_table.is_some() || !is_done
        })
    }

    /// As the metastore has it.
    pub(super) fn at_remote(&self) -> Result<&Table> {
        self.remote.as_ref().ok_or_else(|| Error::unavailable("the table is not made at the metastore yet"))
    }
}

impl Inner {
    /// A table, if it is there. To be called in its turn.
    pub(super) async fn look(&self, database: &str, name: &str) -> Result<Option<Look>> {
        let remote = self.remote.table(database, name).await?;
        let seen = self.local.seen(database, name).await?;
        let Some(table) = &remote else {
            return match seen {
                Some(seen) if seen.created_s.is_none() => Ok(Some(Look { remote, seen })),
                Some(_) => {
                    self.local.gone(database, name).await?;
                    Ok(None)
                }
                None => Ok(None),
            };
        };
        let mark = mark_of(table)?;
        let seen = match seen {
            // How it is now is noted when what is undone is done.
            Some(seen) if !seen.undone.is_empty() && seen.created_s.is_none_or(|at| at == mark.created_s) => seen,
            Some(seen) if seen.created_s == Some(mark.created_s) && seen.state.as_ref() == Some(&mark.state) => seen,
            _ => self.local.note(database, name, &mark, Changed::ByOthers).await?,
        };
        Ok(Some(Look { remote, seen }))
    }

    /// A table; `NotFound` names what is missing, the database or the table.
    pub(super) async fn require(&self, database: &str, name: &str) -> Result<Look> {
        match self.look(database, name).await? {
            Some(look) => Ok(look),
            None => {
                self.require_database(database).await?;
                Err(Error::not_found(format!("table '{database}.{name}' does not exist")))
            }
        }
    }

    pub(super) async fn require_database(&self, name: &str) -> Result<()> {
        self.remote.database(name).await.map(|_| ()).map_err(|error| no_database(error, name))
    }

    /// Partitions that a filter lets through, in the order of their names, at most `limit`. They have their marks.
    pub(super) async fn filtered(
        &self,
        look: &Look,
        table: (&str, &str),
        filter: &PartitionFilter,
        limit: Option<usize>,
    ) -> Result<BTreeMap<String, Partition>> {
        let names = self.filtered_names(look, table, filter, limit).await?;
        self.named(look, table, &names).await
    }

    /// Names of the partitions that a filter lets through, sorted, at most `limit`.
    pub(super) async fn filtered_names(
        &self,
        look: &Look,
        (database, table): (&str, &str),
        filter: &PartitionFilter,
        limit: Option<usize>,
    ) -> Result<Vec<String>> {
        let keys = look.keys();
        let name_filter = NameFilter::new(keys, filter)?;
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut names = match name_filter.places() {
            _ if look.remote.is_none() => Vec::new(),
            Places::Names(names) => {
                let found = self.named(look, (database, table), &names).await?;
                found.into_keys().collect()
            }
            Places::Ranges(ranges) if ranges.is_empty() => Vec::new(),
            Places::Ranges(_) | Places::All => match self.bound(keys, filter) {
                Some(values) => self.remote.partition_names_with(database, table, &values).await?,
                None => self.remote.partition_names(database, table).await?,
            },
        };
        for undone in look.undone(&self.marks) {
            let plan = self.marks.plan(keys, &undone.commit)?;
            names.retain(|name| !plan.drop.contains(name));
            names.extend(plan.add.keys().cloned());
        }
        names.retain(|name| name_filter.matches(name));
        names.sort_unstable();
        names.dedup();
        names.truncate(limit.unwrap_or(usize::MAX));
        Ok(names)
    }

    /// The values of a filter that a metastore can look for: one for a key, and of plain characters, which it does not take
    /// for anything else.
    fn bound<'f>(&self, keys: &[Column], filter: &'f PartitionFilter) -> Option<Vec<Option<&'f str>>> {
        let is_plain = |value: &&String| {
            !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let one = |values: &'f Option<Vec<String>>| match values.as_deref() {
            Some([value]) => Some(value).filter(is_plain).map(String::as_str),
            _ => None,
        };
        let values: Vec<Option<&str>> = (0..keys.len()).map(|at| filter.values.get(at).and_then(one)).collect();
        values.iter().any(Option::is_some).then_some(values)
    }

    /// Those of the partitions that are there, by their names. They have their marks.
    pub(super) async fn named(
        &self,
        look: &Look,
        table: (&str, &str),
        names: &[String],
    ) -> Result<BTreeMap<String, Partition>> {
        let keys = look.keys();
        let mut found = BTreeMap::new();
        if look.remote.is_some() {
            found = self.named_at_remote(keys, table, names).await?;
        }
        let wanted: HashSet<&str> = names.iter().map(String::as_str).collect();
        for undone in look.undone(&self.marks) {
            self.marks.lay_over(keys, &mut found, undone, |name| wanted.contains(name))?;
        }
        Ok(found)
    }

    /// [`Inner::named`] as the metastore has them.
    pub(super) async fn named_at_remote(
        &self,
        keys: &[Column],
        (database, table): (&str, &str),
        names: &[String],
    ) -> Result<BTreeMap<String, Partition>> {
        let mut found = BTreeMap::new();
        for names in names.chunks(PARTITIONS_AT_ONCE) {
            for partition in self.remote.partitions(database, table, names).await? {
                found.insert(partition_name(keys, &partition.values), partition);
            }
        }
        Ok(found)
    }
}

/// What readers see of partitions.
pub(super) fn shown(partitions: BTreeMap<String, Partition>) -> Vec<Partition> {
    let shown = |mut partition: Partition| {
        without_marks(&mut partition.parameters);
        partition
    };
    partitions.into_values().map(shown).collect()
}

pub(super) fn no_database(error: Error, name: &str) -> Error {
    if error.kind() != ErrorKind::NotFound {
        return error;
    }
    Error::not_found(format!("database '{name}' does not exist"))
}
