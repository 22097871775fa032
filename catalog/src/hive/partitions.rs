//! Partitions: finding them.

use std::ops::Deref;

use tereza_runtime::ErrorKind;
use tereza_thrift::codec::{Listed, Texts};
use tereza_thrift::hive::{
    self, Exception, MetaException, PartitionFilterMode, PartitionListComposingSpec, PartitionSpec,
};

use super::convert::ColumnLists;
use super::filter::{Filter, Key, Work};
use super::names::{self, CATALOG};
use super::value::Family;
use super::{Answer, Session, convert, limit};
use crate::model::{Column, DEFAULT_PARTITION, Partition, Table, partition_name};
use crate::store::PartitionFilter;

/// Partitions that are read from the store at once.
const LOADED_AT_ONCE: usize = 1_000;

/// Where the partitions of an answer are put together.
pub(super) trait Gathered: Send {
    /// Nothing yet, of an answer that has at most `limit_bytes` on the wire.
    fn new(limit_bytes: usize) -> Self;

    fn add(&mut self, partition: hive::Partition);
}

/// To be a part of something.
impl Gathered for Vec<hive::Partition> {
    fn new(_: usize) -> Self {
        Self::new()
    }

    fn add(&mut self, partition: hive::Partition) {
        self.push(partition);
    }
}

/// To be sent: nothing is kept but what is on the wire.
impl Gathered for Listed<hive::Partition> {
    fn new(limit_bytes: usize) -> Self {
        Self::new(limit_bytes)
    }

    fn add(&mut self, partition: hive::Partition) {
        self.push(&partition);
    }
}

/// A table that is asked about its partitions.
pub(super) struct Asked {
    pub(super) database: String,
    pub(super) name: String,
    pub(super) keys: Vec<Column>,
}

/// The same with all of the table.
pub(super) struct AskedTable {
    asked: Asked,
    pub(super) table: Table,
}

impl Deref for AskedTable {
    type Target = Asked;

    fn deref(&self) -> &Asked {
        &self.asked
    }
}

impl Session {
    pub(super) async fn asked(&self, database: Option<String>, table: Option<String>) -> Answer<Asked> {
        let (database, name) = (names::database(database)?, names::object(table));
        let keys = self.store().partition_keys(&database, &name).await;
        let keys = keys.map_err(|error| self.of_table(error, &database, &name))?;
        Ok(Asked { database, name, keys })
    }

    pub(super) async fn asked_table(&self, database: Option<String>, table: Option<String>) -> Answer<AskedTable> {
        let (database, name) = (names::database(database)?, names::object(table));
        let table = self.table(&database, &name).await?;
        let keys = table.partition_keys.clone();
        Ok(AskedTable { asked: Asked { database, name, keys }, table })
    }

    /// The partition with these values.
    pub(super) async fn partition(
        &self,
        database: Option<String>,
        table: Option<String>,
        values: Option<Vec<String>>,
    ) -> Answer<hive::Partition> {
        let asked = self.asked(database, table).await?;
        let values = values.unwrap_or_default();
        let found = self.kept_partition(&asked, &values).await?;
        Ok(asked.convert_one(found))
    }

    pub(super) async fn partition_by_name(
        &self,
        database: Option<String>,
        table: Option<String>,
        name: Option<String>,
    ) -> Answer<hive::Partition> {
        let asked = self.asked(database, table).await?;
        let values = asked.values_of(&name.unwrap_or_default())?;
        let found = self.kept_partition(&asked, &values).await?;
        Ok(asked.convert_one(found))
    }

    pub(super) async fn kept_partition(&self, asked: &Asked, values: &[String]) -> Answer<Partition> {
        let keys = &asked.keys;
        if values.len() != keys.len() || keys.is_empty() {
            return Err(names::wrong_values(keys, values));
        }
        let name = partition_name(keys, values);
        let found = self.store().partitions_by_names(&asked.database, &asked.name, &[name]).await?;
        found.into_iter().next().ok_or_else(|| names::no_partition(values))
    }

    /// Partitions whose first values are these; the empty value is any.
    pub(super) async fn partitions<A: Gathered>(
        &self,
        database: Option<String>,
        table: Option<String>,
        values: Option<Vec<String>>,
        max: impl Into<Option<i16>>,
    ) -> Answer<A> {
        let asked = self.asked(database, table).await?;
        let filter = asked.prefix(values)?;
        let names = self.store().matching_partition_names(&asked.database, &asked.name, &filter, limit(max)).await?;
        self.load(&asked, &names).await
    }

    /// Their names.
    pub(super) async fn partition_names(
        &self,
        database: Option<String>,
        table: Option<String>,
        values: Option<Vec<String>>,
        max: impl Into<Option<i16>>,
    ) -> Answer<Texts> {
        let asked = self.asked(database, table).await?;
        let filter = asked.prefix(values)?;
        let max_bytes = self.shared.settings.server.reply_limit_bytes;
        let (database, table) = (&asked.database, &asked.name);
        let names = self.store().listed_partition_names(database, table, &filter, limit(max), max_bytes).await?;
        let wire_bytes = if names.is_full() { usize::MAX } else { names.bytes() };
        self.growing().grow((names.bytes(), wire_bytes)).await?;
        Ok(names)
    }

    /// Those of the partitions that exist.
    pub(super) async fn partitions_by_names<A: Gathered>(
        &self,
        database: Option<String>,
        table: Option<String>,
        names: Option<Vec<String>>,
    ) -> Answer<A> {
        let asked = self.asked(database, table).await?;
        let keys = &asked.keys;
        let kept = names.unwrap_or_default();
        let kept: Vec<String> = kept.iter().filter_map(|name| names::kept_partition_name(name, keys)).collect();
        self.load(&asked, &kept).await
    }

    /// The partitions with these names as an answer: some at a time, so that their columns are there once and their memory
    /// is counted before it is taken.
    async fn load<A: Gathered>(&self, asked: &Asked, names: &[String]) -> Answer<A> {
        let mut growing = self.growing();
        let mut lists = ColumnLists::default();
        let mut answer = A::new(self.shared.settings.server.reply_limit_bytes);
        for names in names.chunks(LOADED_AT_ONCE) {
            let found = self.store().partitions_by_names(&asked.database, &asked.name, names).await;
            let found = found.map_err(|error| self.of_table(error, &asked.database, &asked.name))?;
            let sizes = found.iter().map(convert::partition_bytes);
            growing.grow(sizes.fold((0, 0), |sum, next| (sum.0 + next.0, sum.1 + next.1))).await?;
            for partition in found {
                answer.add(convert::partition_to(&asked.database, &asked.name, partition, &mut lists));
            }
        }
        Ok(answer)
    }

    pub(super) async fn partitions_by_filter<A: Gathered>(
        &self,
        database: Option<String>,
        table: Option<String>,
        filter: Option<String>,
        max: Option<usize>,
    ) -> Answer<A> {
        let asked = self.asked(database, table).await?;
        let names = self.names_by_filter(&asked, filter, max).await?;
        self.load(&asked, &names).await
    }

    pub(super) async fn count_by_filter(
        &self,
        database: Option<String>,
        table: Option<String>,
        filter: Option<String>,
    ) -> Answer<i32> {
        let asked = self.asked(database, table).await?;
        let names = self.names_by_filter(&asked, filter, None).await?;
        Ok(i32::try_from(names.len()).unwrap_or(i32::MAX))
    }

    /// Partitions as one specification that lists them.
    pub(super) async fn specs_by_filter(
        &self,
        database: Option<String>,
        table: Option<String>,
        filter: Option<String>,
        max: Option<i32>,
    ) -> Answer<Vec<PartitionSpec>> {
        let asked = self.asked_table(database.clone(), table.clone()).await?;
        let max = max.and_then(|max| usize::try_from(max).ok());
        let partitions = self.partitions_by_filter(database, table, filter, max).await?;
        Ok(vec![asked.spec(partitions)])
    }

    /// Names of the partitions that a filter lets through, sorted.
    pub(super) async fn names_by_filter(
        &self,
        asked: &Asked,
        filter: Option<String>,
        max: Option<usize>,
    ) -> Answer<Vec<String>> {
        let keys = &asked.keys;
        let family =
            keys.iter().map(|key| Key { name: key.name.clone(), family: Family::of(&key.type_name) }).collect();
        let filter = Filter::of_partitions(&filter.unwrap_or_default(), family).map_err(MetaException::new)?;
        let narrowed = filter.for_store();
        let names = self.store().matching_partition_names(&asked.database, &asked.name, &narrowed, None).await?;
        let max = max.unwrap_or(usize::MAX);
        let mut found = Vec::new();
        let mut work = Work::default();
        for name in names {
            if found.len() >= max {
                break;
            }
            work.go_on().await.map_err(MetaException::new)?;
            let Some(values) = names::values_of(&name, keys) else { continue };
            let values: Vec<Option<&str>> =
                values.iter().map(|value| (value != DEFAULT_PARTITION).then_some(value.as_str())).collect();
            if filter.matches(&values, &mut work) {
                found.push(name);
            }
        }
        work.go_on().await.map_err(MetaException::new)?;
        Ok(found)
    }

    /// What Hive 4 asks for in one of three ways: names, first values, or a filter.
    pub(super) async fn partitions_as(&self, request: hive::GetPartitionsRequest) -> Answer<Vec<PartitionSpec>> {
        names::check_catalog(request.cat_name.as_deref())?;
        let (database, table) = (request.db_name, request.tbl_name);
        let asked = self.asked_table(database.clone(), table.clone()).await?;
        let filter = request.filter_spec.unwrap_or_default();
        let (mode, filters) = (filter.filter_mode, filter.filters.unwrap_or_default());
        let partitions: Vec<hive::Partition> = match mode {
            Some(PartitionFilterMode::BY_NAMES) => self.partitions_by_names(database, table, Some(filters)).await?,
            Some(PartitionFilterMode::BY_EXPR) => {
                // Several have to hold all.
                let filter = filters.iter().map(|one| format!("({one})")).collect::<Vec<_>>().join(" and ");
                self.partitions_by_filter(database, table, Some(filter), None).await?
            }
            Some(PartitionFilterMode::BY_VALUES) => self.partitions(database, table, Some(filters), None).await?,
            _ => self.partitions(database, table, None, None).await?,
        };
        Ok(vec![asked.spec(partitions)])
    }

    /// The values of some keys in all partitions that a filter lets through.
    pub(super) async fn partition_values(
        &self,
        request: hive::PartitionValuesRequest,
    ) -> Answer<hive::PartitionValuesResponse> {
        names::check_catalog(request.cat_name.as_deref())?;
        let asked = self.asked(Some(request.db_name), Some(request.tbl_name)).await?;
        let keys = &asked.keys;
        let mut wanted = Vec::with_capacity(request.partition_keys.len());
        for key in request.partition_keys {
            let name = names::object(key.name);
            let at = keys.iter().position(|key| key.name == name);
            wanted.push(
                at.ok_or_else(|| Exception::from(MetaException::new(format!("'{name}' is not a partition key"))))?,
            );
        }
        let mut rows = Vec::new();
        for name in self.names_by_filter(&asked, request.filter, None).await? {
            let values = asked.values_of(&name)?;
            rows.push(wanted.iter().map(|at| values[*at].clone()).collect::<Vec<_>>());
        }
        rows.sort_unstable();
        if request.apply_distinct.unwrap_or(true) {
            rows.dedup();
        }
        if request.ascending == Some(false) {
            rows.reverse();
        }
        let max = request.max_parts.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX);
        rows.truncate(max);
        let partition_values = rows.into_iter().map(|row| hive::PartitionValuesRow { row }).collect();
        Ok(hive::PartitionValuesResponse { partition_values })
    }
}

impl Asked {
    /// The values in a partition's name.
    pub(super) fn values_of(&self, name: &str) -> Answer<Vec<String>> {
        let keys = &self.keys;
        names::values_of(name, keys).ok_or_else(|| names::incomplete_name(name, keys))
    }

    pub(super) fn convert(&self, found: Vec<Partition>) -> Vec<hive::Partition> {
        let mut lists = ColumnLists::default();
        let one = |partition| convert::partition_to(&self.database, &self.name, partition, &mut lists);
        found.into_iter().map(one).collect()
    }

    fn convert_one(&self, found: Partition) -> hive::Partition {
        convert::partition_to(&self.database, &self.name, found, &mut ColumnLists::default())
    }

    fn prefix(&self, values: Option<Vec<String>>) -> Answer<PartitionFilter> {
        let values = values.unwrap_or_default();
        let keys = self.keys.len();
        if values.len() > keys {
            let shown = values.join(", ");
            let message = format!("Incorrect number of partition values. numPartKeys={keys}, part_val=[{shown}]");
            return Err(MetaException::new(message).into());
        }
        let one = |value: String| (!value.is_empty()).then(|| vec![value]);
        Ok(PartitionFilter { values: values.into_iter().map(one).collect() })
    }
}

impl AskedTable {
    pub(super) fn spec(&self, partitions: Vec<hive::Partition>) -> PartitionSpec {
        PartitionSpec {
            db_name: Some(self.database.clone()),
            table_name: Some(self.name.clone()),
            root_path: self.table.storage.location.clone(),
            partition_list: Some(PartitionListComposingSpec { partitions: Some(partitions) }),
            cat_name: Some(CATALOG.to_owned()),
            ..PartitionSpec::default()
        }
    }
}

/// Whether a failed look-up only says that there is no such thing.
pub(super) fn is_missing(error: &tereza_runtime::Error) -> bool {
    error.kind() == ErrorKind::NotFound
}
