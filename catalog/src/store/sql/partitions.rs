//! Partitions: `PARTITIONS`, `PARTITION_KEY_VALS`, `PARTITION_PARAMS`, their storages and statistics, all in bulk.
//!
//! A partition is found by its name, which holds its values: one index answers "this one", "all with these first keys"
//! and "all in order".

use std::collections::{HashMap, HashSet};

use futures::TryStreamExt;
use sqlx::{Database, FromRow, QueryBuilder, query_scalar};
use tereza_runtime::{Error, Result as PublicResult};
use tereza_thrift::codec::Texts;

use super::ids::{self, Sequence};
use super::parameters::LAST_DDL_TIME;
use super::tables::{self, Head};
use super::{Connection, Db, Result, parameters, rows, storage};
use crate::model::{Column, DEFAULT_PARTITION, Parameters, Partition, Storage, partition_name};
use crate::store::filter::{NameFilter, Places};
use crate::store::{PartitionFilter, names, places};

/// What partitions need to know of their table.
pub(crate) struct Parent {
    pub(crate) table_id: i64,
    full_name: String,
    storage: i64,
    keys: Vec<Column>,
}

/// A partition's row in `PARTITIONS`.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) name: String,
    storage: i64,
    create_time_s: i64,
    last_access_time_s: i64,
}

type RowColumns = (i64, String, Option<i64>, i64, i64);

/// What is read of a partition's row.
trait Columns: for<'r> FromRow<'r, <Db as Database>::Row> + Send + Unpin {
    /// The statement, up to the id of the table.
    const SELECT: &'static str;

    fn name(&self) -> &str;
}

impl Columns for RowColumns {
    const SELECT: &'static str =
        "SELECT PART_ID, PART_NAME, SD_ID, CREATE_TIME, LAST_ACCESS_TIME FROM PARTITIONS WHERE TBL_ID = ";

    fn name(&self) -> &str {
        &self.1
    }
}

/// A name alone, for which the index is enough.
impl Columns for (String,) {
    const SELECT: &'static str = "SELECT PART_NAME FROM PARTITIONS WHERE TBL_ID = ";

    fn name(&self) -> &str {
        &self.0
    }
}

impl Parent {
    /// Reads it for the table of `head`.
    pub(crate) async fn load(conn: &mut Connection, head: &Head) -> Result<Self> {
        let keys = tables::partition_keys(conn, head.id).await?;
        Ok(Self { table_id: head.id, full_name: head.full_name(), storage: head.storage, keys })
    }

    /// The name of the partition with these values.
    pub(crate) fn name_of(&self, values: &[String]) -> PublicResult<String> {
        if self.keys.is_empty() {
            return Err(Error::invalid_input(format!("table '{}' is not partitioned", self.full_name)));
        }
        if values.len() != self.keys.len() {
            return Err(Error::invalid_input(format!(
                "a partition of table '{}' has {} keys, not {}: {values:?}",
                self.full_name,
                self.keys.len(),
                values.len()
            )));
        }
        Ok(partition_name(&self.keys, values))
    }

    fn names_of<'v>(&self, values: impl Iterator<Item = &'v [String]>) -> PublicResult<Vec<String>> {
        values.map(|values| self.name_of(values)).collect()
    }

    fn missing(&self, name: &str) -> Error {
        Error::not_found(format!("partition '{name}' of table '{}' does not exist", self.full_name))
    }
}

/// Adds partitions and returns how many were new.
pub(crate) async fn add(
    conn: &mut Connection,
    parent: &Parent,
    partitions: &[Partition],
    if_not_exists: bool,
    now_s: i64,
) -> Result<usize> {
    let names = parent.names_of(partitions.iter().map(|partition| partition.values.as_slice()))?;
    let mut taken: HashSet<String> = find(conn, parent.table_id, &names).await?.into_keys().collect();
    let mut new: Vec<(&str, &Partition)> = Vec::with_capacity(partitions.len());
    for (name, partition) in names.iter().zip(partitions) {
        if taken.insert(name.clone()) {
            check(name, partition)?;
            new.push((name, partition));
        } else if !if_not_exists {
            let message = format!("partition '{name}' of table '{}' already exists", parent.full_name);
            return Err(Error::already_exists(message).into());
        }
    }
    if new.is_empty() {
        return Ok(0);
    }
    let storages: Vec<&Storage> = new.iter().map(|(_, partition)| &partition.storage).collect();
    let shared = storage::column_list(conn, parent.storage).await?;
    let first_storage = storage::insert(conn, &storages, Some(&shared)).await?;
    let first_id = ids::take(conn, Sequence::Partition, new.len()).await?;

    let numbered: Vec<(i64, &str, &Partition)> =
        (0_i64..).zip(&new).map(|(at, (name, partition))| (at, *name, *partition)).collect();
    let into = "INSERT INTO PARTITIONS (PART_ID, PART_NAME, TBL_ID, SD_ID, CREATE_TIME, LAST_ACCESS_TIME) ";
    rows::insert(conn, into, 6, &numbered, |values, (at, name, partition)| {
        values
            .push_bind(first_id + at)
            .push_bind(*name)
            .push_bind(parent.table_id)
            .push_bind(first_storage + at)
            .push_bind(now_s)
            .push_bind(partition.last_access_time_s);
    })
    .await?;
    let mut key_values: Vec<(i64, i32, &str)> = Vec::with_capacity(new.len() * parent.keys.len());
    for (at, _, partition) in &numbered {
        key_values.extend((0..).zip(&partition.values).map(|(key, value)| (first_id + at, key, value.as_str())));
    }
    let into = "INSERT INTO PARTITION_KEY_VALS (PART_ID, INTEGER_IDX, PART_KEY_VAL) ";
    rows::insert(conn, into, 3, &key_values, |values, (id, key, value)| {
        values.push_bind(*id).push_bind(*key).push_bind(*value);
    })
    .await?;
    let all_parameters: Vec<Parameters> = new.iter().map(|(_, partition)| with_ddl_time(partition, now_s)).collect();
    let owners: Vec<(i64, &Parameters)> = (first_id..).zip(&all_parameters).collect();
    parameters::PARTITION.insert(conn, &owners).await?;
    Ok(new.len())
}

/// Partitions that `filter` lets through, in the order of their names, at most `limit`.
pub(crate) async fn list(
    conn: &mut Connection,
    parent: &Parent,
    filter: &PartitionFilter,
    limit: Option<usize>,
) -> Result<Vec<Partition>> {
    let mut found = Vec::new();
    visit(conn, parent, filter, limit, |row: RowColumns| {
        found.push(Row::from(row));
        true
    })
    .await?;
    load(conn, found).await
}

/// Names of all partitions, sorted.
pub(crate) async fn names(conn: &mut Connection, table_id: i64) -> Result<Vec<String>> {
    let names = query_scalar("SELECT PART_NAME FROM PARTITIONS WHERE TBL_ID = ? ORDER BY PART_NAME");
    Ok(names.bind(table_id).fetch_all(conn).await?)
}

/// Names of the partitions that `filter` lets through, sorted, at most `limit`.
pub(crate) async fn matching_names(
    conn: &mut Connection,
    parent: &Parent,
    filter: &PartitionFilter,
    limit: Option<usize>,
) -> Result<Vec<String>> {
    let mut names = Vec::new();
    visit(conn, parent, filter, limit, |(name,): (String,)| {
        names.push(name);
        true
    })
    .await?;
    Ok(names)
}

/// [`matching_names`] as a list of at most `max_bytes` on the wire; the first that has no room is the last that is read.
pub(crate) async fn listed_names(
    conn: &mut Connection,
    parent: &Parent,
    filter: &PartitionFilter,
    limit: Option<usize>,
    max_bytes: usize,
) -> Result<Texts> {
    let mut listed = Texts::new(max_bytes);
    visit(conn, parent, filter, limit, |(name,): (String,)| {
        listed.push_str(&name);
        !listed.is_full()
    })
    .await?;
    Ok(listed)
}

/// The partitions with these names, in the order of the names, without those that do not exist.
pub(crate) async fn by_names(conn: &mut Connection, table_id: i64, names: &[String]) -> Result<Vec<Partition>> {
    let mut by_name = find(conn, table_id, names).await?;
    load(conn, names.iter().filter_map(|name| by_name.remove(name)).collect()).await
}

/// Gives the partition with these values all that `partition` has. It keeps its id, and with that its statistics.
pub(crate) async fn rename(
    conn: &mut Connection,
    parent: &Parent,
    values: &[String],
    partition: &Partition,
    now_s: i64,
) -> Result<()> {
    let row = find_one(conn, parent, values).await?;
    let name = parent.name_of(&partition.values)?;
    check(&name, partition)?;
    if name != row.name {
        if find(conn, parent.table_id, std::slice::from_ref(&name)).await?.contains_key(&name) {
            let message = format!("partition '{name}' of table '{}' already exists", parent.full_name);
            return Err(Error::already_exists(message).into());
        }
        for update in [
            "UPDATE PARTITIONS SET PART_NAME = ? WHERE PART_ID = ?",
            "UPDATE PART_COL_STATS SET PARTITION_NAME = ? WHERE PART_ID = ?",
        ] {
            sqlx::query(update).bind(&name).bind(row.id).execute(&mut *conn).await?;
        }
        for (at, value) in (0..).zip(&partition.values) {
            let at: i32 = at;
            sqlx::query("UPDATE PARTITION_KEY_VALS SET PART_KEY_VAL = ? WHERE PART_ID = ? AND INTEGER_IDX = ?")
                .bind(value)
                .bind(row.id)
                .bind(at)
                .execute(&mut *conn)
                .await?;
        }
    }
    alter(conn, parent, std::slice::from_ref(partition), now_s).await
}

/// Lets all partitions of a table use one column list, and removes the lists that nothing uses then.
pub(crate) async fn share_columns(conn: &mut Connection, table_id: i64, column_list: i64) -> Result<()> {
    let old: Vec<i64> = query_scalar(
        "SELECT DISTINCT s.CD_ID FROM SDS s JOIN PARTITIONS p ON p.SD_ID = s.SD_ID WHERE p.TBL_ID = ? AND s.CD_ID <> ?",
    )
    .bind(table_id)
    .bind(column_list)
    .fetch_all(&mut *conn)
    .await?;
    if old.is_empty() {
        return Ok(());
    }
    sqlx::query("UPDATE SDS SET CD_ID = ? WHERE SD_ID IN (SELECT SD_ID FROM PARTITIONS WHERE TBL_ID = ?)")
        .bind(column_list)
        .bind(table_id)
        .execute(&mut *conn)
        .await?;
    storage::delete_unused_columns(conn, old).await
}

/// Replaces partitions, found by their values.
pub(crate) async fn alter(conn: &mut Connection, parent: &Parent, partitions: &[Partition], now_s: i64) -> Result<()> {
    let names = parent.names_of(partitions.iter().map(|partition| partition.values.as_slice()))?;
    let mut rows_by_name = find(conn, parent.table_id, &names).await?;
    let mut changes = Vec::with_capacity(partitions.len());
    for (name, partition) in names.iter().zip(partitions) {
        check(name, partition)?;
        let Some(row) = rows_by_name.remove(name) else { return Err(parent.missing(name).into()) };
        changes.push((row, partition));
    }
    let storages: Vec<(i64, &Storage)> =
        changes.iter().map(|(row, partition)| (row.storage, &partition.storage)).collect();
    let shared = storage::column_list(conn, parent.storage).await?;
    storage::replace(conn, &storages, Some(&shared)).await?;
    for (row, partition) in &changes {
        sqlx::query("UPDATE PARTITIONS SET LAST_ACCESS_TIME = ? WHERE PART_ID = ?")
            .bind(partition.last_access_time_s)
            .bind(row.id)
            .execute(&mut *conn)
            .await?;
    }
    let all_parameters: Vec<Parameters> =
        changes.iter().map(|(_, partition)| with_ddl_time(partition, now_s)).collect();
    let owners: Vec<(i64, &Parameters)> = changes.iter().map(|(row, _)| row.id).zip(&all_parameters).collect();
    parameters::PARTITION.replace(conn, &owners).await
}

/// Drops partitions by their values and returns them as they were.
pub(crate) async fn drop(
    conn: &mut Connection,
    parent: &Parent,
    values: &[Vec<String>],
    if_exists: bool,
) -> Result<Vec<Partition>> {
    let names = parent.names_of(values.iter().map(Vec::as_slice))?;
    let mut found = find(conn, parent.table_id, &names).await?;
    if !if_exists && let Some(missing) = names.iter().find(|name| !found.contains_key(*name)) {
        return Err(parent.missing(missing).into());
    }
    let dropped: Vec<Row> = names.iter().filter_map(|name| found.remove(name)).collect();
    let partitions = load(conn, dropped.clone()).await?;
    delete(conn, &dropped).await?;
    Ok(partitions)
}

/// Drops all partitions of a table.
pub(crate) async fn delete_all(conn: &mut Connection, table_id: i64) -> Result<()> {
    let mut statement = QueryBuilder::<Db>::new(RowColumns::SELECT);
    let found: Vec<RowColumns> = statement.push_bind(table_id).build_query_as().fetch_all(&mut *conn).await?;
    delete(conn, &found.into_iter().map(Row::from).collect::<Vec<_>>()).await
}

/// Where partitions of a table are that are not in its folder.
pub(crate) async fn locations_outside(conn: &mut Connection, table_id: i64, folder: &str) -> Result<Vec<String>> {
    let all = "SELECT s.LOCATION FROM PARTITIONS p JOIN SDS s ON s.SD_ID = p.SD_ID \
               WHERE p.TBL_ID = ? AND s.LOCATION IS NOT NULL";
    let mut outside = Vec::new();
    let mut rows = query_scalar::<_, String>(all).bind(table_id).fetch(conn);
    while let Some(location) = rows.try_next().await? {
        if !places::is_below(&location, folder) && !places::is_same(&location, folder) {
            outside.push(location);
        }
    }
    Ok(outside)
}

/// The rows of those partitions in `names` that exist, by name.
pub(crate) async fn find(conn: &mut Connection, table_id: i64, names: &[String]) -> Result<HashMap<String, Row>> {
    let found: Vec<RowColumns> = named(conn, table_id, names).await?;
    Ok(found.into_iter().map(Row::from).map(|row| (row.name.clone(), row)).collect())
}

async fn named<T: Columns>(conn: &mut Connection, table_id: i64, names: &[String]) -> Result<Vec<T>> {
    rows::select_in_of(conn, T::SELECT, table_id, " AND PART_NAME IN ", names).await
}

/// The row of the partition with these values; `NotFound` if there is none.
pub(crate) async fn find_one(conn: &mut Connection, parent: &Parent, values: &[String]) -> Result<Row> {
    let name = parent.name_of(values)?;
    let mut found = find(conn, parent.table_id, std::slice::from_ref(&name)).await?;
    found.remove(&name).ok_or_else(|| parent.missing(&name).into())
}

impl From<RowColumns> for Row {
    fn from((id, name, storage, create_time_s, last_access_time_s): RowColumns) -> Self {
        Self { id, name, storage: storage.unwrap_or_default(), create_time_s, last_access_time_s }
    }
}

/// Gives to `take` the partitions that `filter` lets through, in the order of their names, at most `limit`, until it says that
/// it takes no more.
async fn visit<T: Columns>(
    conn: &mut Connection,
    parent: &Parent,
    filter: &PartitionFilter,
    limit: Option<usize>,
    mut take: impl FnMut(T) -> bool + Send,
) -> Result<()> {
    let filter = NameFilter::new(&parent.keys, filter)?;
    let mut left = limit.unwrap_or(usize::MAX);
    if parent.keys.is_empty() || left == 0 {
        return Ok(());
    }
    let mut take = |row: T| {
        left -= 1;
        take(row) && left > 0
    };
    match filter.places() {
        Places::Names(names) => {
            let found: Vec<T> = named(conn, parent.table_id, &names).await?;
            let mut by_name: HashMap<String, T> = found.into_iter().map(|row| (row.name().to_owned(), row)).collect();
            let _ = names.iter().filter_map(|name| by_name.remove(name)).all(take);
        }
        Places::Ranges(ranges) => {
            for range in ranges {
                if !scan(conn, parent, &filter, Some(range), &mut take).await? {
                    break;
                }
            }
        }
        Places::All => {
            scan(conn, parent, &filter, None, &mut take).await?;
        }
    }
    Ok(())
}

/// Gives to `take` those of a range of names (or all) that pass the filter, and returns whether it takes more.
async fn scan<T: Columns>(
    conn: &mut Connection,
    parent: &Parent,
    filter: &NameFilter,
    range: Option<(String, String)>,
    take: &mut (impl FnMut(T) -> bool + Send),
) -> Result<bool> {
    let mut statement = QueryBuilder::<Db>::new(T::SELECT);
    statement.push_bind(parent.table_id);
    if let Some((from, to)) = range {
        statement.push(" AND PART_NAME >= ").push_bind(from).push(" AND PART_NAME < ").push_bind(to);
    }
    statement.push(" ORDER BY PART_NAME");
    let mut rows = statement.build_query_as::<T>().fetch(conn);
    while let Some(row) = rows.try_next().await? {
        if filter.matches(row.name()) && !take(row) {
            return Ok(false);
        }
        // Rows may be there faster than they are taken: others on the thread have their turn.
        tokio::task::consume_budget().await;
    }
    Ok(true)
}

/// The partitions of some rows, in their order.
async fn load(conn: &mut Connection, found: Vec<Row>) -> Result<Vec<Partition>> {
    let ids: Vec<i64> = found.iter().map(|row| row.id).collect();
    let storage_ids: Vec<i64> = found.iter().map(|row| row.storage).collect();
    let select = "SELECT PART_ID, PART_KEY_VAL FROM PARTITION_KEY_VALS WHERE PART_ID IN ";
    let key_values: Vec<(i64, Option<String>)> =
        rows::select_in(conn, select, &ids, " ORDER BY PART_ID, INTEGER_IDX").await?;
    let mut values: HashMap<i64, Vec<String>> = HashMap::with_capacity(ids.len());
    for (id, value) in key_values {
        values.entry(id).or_default().push(value.unwrap_or_else(|| DEFAULT_PARTITION.into()));
    }
    let mut storages = storage::load(conn, &storage_ids).await?;
    let mut parameters = parameters::PARTITION.load(conn, &ids).await?;
    let partition = |row: Row| Partition {
        values: values.remove(&row.id).unwrap_or_default(),
        create_time_s: row.create_time_s,
        last_access_time_s: row.last_access_time_s,
        storage: storages.remove(&row.storage).map(|kept| kept.storage).unwrap_or_default(),
        parameters: parameters.remove(&row.id).unwrap_or_default(),
    };
    Ok(found.into_iter().map(partition).collect())
}

/// Removes partitions with everything that belongs to them.
async fn delete(conn: &mut Connection, dropped: &[Row]) -> Result<()> {
    let ids: Vec<i64> = dropped.iter().map(|row| row.id).collect();
    let storage_ids: Vec<i64> = dropped.iter().map(|row| row.storage).collect();
    for delete in [
        "DELETE FROM PART_COL_STATS WHERE PART_ID IN ",
        "DELETE FROM PART_PRIVS WHERE PART_ID IN ",
        "DELETE FROM PART_COL_PRIVS WHERE PART_ID IN ",
        "DELETE FROM PARTITION_KEY_VALS WHERE PART_ID IN ",
        "DELETE FROM PARTITION_PARAMS WHERE PART_ID IN ",
        "DELETE FROM PARTITIONS WHERE PART_ID IN ",
    ] {
        rows::execute_in(conn, delete, &ids, "").await?;
    }
    storage::delete(conn, &storage_ids).await
}

fn check(name: &str, partition: &Partition) -> PublicResult<()> {
    names::check_partition(name, &partition.values)?;
    names::check_i32("the last access time", partition.last_access_time_s)
}

fn with_ddl_time(partition: &Partition, now_s: i64) -> Parameters {
    let mut parameters = partition.parameters.clone();
    parameters.entry(LAST_DDL_TIME.into()).or_insert_with(|| now_s.to_string());
    parameters
}
