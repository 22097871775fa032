//! The methods of the store that touch several nouns, each the body of one transaction.

use tereza_runtime::Result as PublicResult;
use tereza_thrift::codec::Texts;

use super::partitions::{self, Parent};
use super::removals::Places;
use super::statistics::{self, Owner};
use super::tables::{self, Head};
use super::{Connection, Result, commits, removals, versions};
use crate::model::{ColumnStatistics, Partition};
use crate::store::{Commit, PartitionFilter, Snapshot, places};

/// [`Store::add_partitions`](crate::Store::add_partitions).
pub(crate) async fn add_partitions(
    conn: &mut Connection,
    database: &str,
    table: &str,
    partitions: &[Partition],
    if_not_exists: bool,
    now_s: i64,
) -> Result<usize> {
    let head = tables::find_to_change(conn, database, table).await?;
    let parent = Parent::load(conn, &head).await?;
    let added = partitions::add(conn, &parent, partitions, if_not_exists, now_s).await?;
    if added > 0 {
        versions::bump(conn, head.id).await?;
    }
    Ok(added)
}

/// [`Store::partitions`](crate::Store::partitions).
pub(crate) async fn partitions(
    conn: &mut Connection,
    database: &str,
    table: &str,
    filter: &PartitionFilter,
    limit: Option<usize>,
) -> Result<Vec<Partition>> {
    let head = tables::find(conn, database, table).await?;
    let parent = Parent::load(conn, &head).await?;
    partitions::list(conn, &parent, filter, limit).await
}

/// [`Store::partition_names`](crate::Store::partition_names).
pub(crate) async fn partition_names(conn: &mut Connection, database: &str, table: &str) -> Result<Vec<String>> {
    let head = tables::find(conn, database, table).await?;
    partitions::names(conn, head.id).await
}

/// [`Store::matching_partition_names`](crate::Store::matching_partition_names).
pub(crate) async fn matching_partition_names(
    conn: &mut Connection,
    database: &str,
    table: &str,
    filter: &PartitionFilter,
    limit: Option<usize>,
) -> Result<Vec<String>> {
    let head = tables::find(conn, database, table).await?;
    let parent = Parent::load(conn, &head).await?;
    partitions::matching_names(conn, &parent, filter, limit).await
}

/// [`Store::listed_partition_names`](crate::Store::listed_partition_names).
pub(crate) async fn listed_partition_names(
    conn: &mut Connection,
    database: &str,
    table: &str,
    filter: &PartitionFilter,
    limit: Option<usize>,
    max_bytes: usize,
) -> Result<Texts> {
    let head = tables::find(conn, database, table).await?;
    let parent = Parent::load(conn, &head).await?;
    partitions::listed_names(conn, &parent, filter, limit, max_bytes).await
}

/// [`Store::partitions_by_names`](crate::Store::partitions_by_names).
pub(crate) async fn partitions_by_names(
    conn: &mut Connection,
    database: &str,
    table: &str,
    names: &[String],
) -> Result<Vec<Partition>> {
    let head = tables::find(conn, database, table).await?;
    partitions::by_names(conn, head.id, names).await
}

/// [`Store::rename_partition`](crate::Store::rename_partition).
pub(crate) async fn rename_partition(
    conn: &mut Connection,
    database: &str,
    table: &str,
    values: &[String],
    partition: &Partition,
    now_s: i64,
) -> Result<()> {
    let head = tables::find_to_change(conn, database, table).await?;
    let parent = Parent::load(conn, &head).await?;
    partitions::rename(conn, &parent, values, partition, now_s).await?;
    versions::bump(conn, head.id).await?;
    Ok(())
}

/// [`Store::alter_partitions`](crate::Store::alter_partitions).
pub(crate) async fn alter_partitions(
    conn: &mut Connection,
    database: &str,
    table: &str,
    changed: &[Partition],
    now_s: i64,
) -> Result<()> {
    let head = tables::find_to_change(conn, database, table).await?;
    let parent = Parent::load(conn, &head).await?;
    partitions::alter(conn, &parent, changed, now_s).await?;
    if !changed.is_empty() {
        versions::bump(conn, head.id).await?;
    }
    Ok(())
}

/// [`Store::drop_partitions`](crate::Store::drop_partitions).
pub(crate) async fn drop_partitions(
    conn: &mut Connection,
    database: &str,
    table: &str,
    values: &[Vec<String>],
    if_exists: bool,
) -> Result<Vec<Partition>> {
    let head = tables::find_to_change(conn, database, table).await?;
    let parent = Parent::load(conn, &head).await?;
    let dropped = partitions::drop(conn, &parent, values, if_exists).await?;
    if !dropped.is_empty() {
        versions::bump(conn, head.id).await?;
    }
    Ok(dropped)
}

/// [`Store::drop_partitions_with_files`](crate::Store::drop_partitions_with_files).
pub(crate) async fn drop_partitions_with_files(
    conn: &mut Connection,
    database: &str,
    table: &str,
    values: &[Vec<String>],
    if_exists: bool,
    now_ms: i64,
) -> Result<Vec<Partition>> {
    tables::find_to_change(conn, database, table).await?;
    let (head, found) = tables::load(conn, database, table).await?;
    let dropped = drop_partitions(conn, database, table, values, if_exists).await?;
    let home = found.table.storage.location.as_deref().filter(|_| found.table.owns_files());
    if let Some(home) = home {
        let locations = dropped.iter().filter_map(|partition| partition.storage.location.clone());
        let folders = locations.filter(|location| places::is_below(location, home)).collect();
        removals::note(conn, folders, &Places::default(), Some(head.storage), now_ms).await?;
    }
    Ok(dropped)
}

/// [`Store::give_partitions`](crate::Store::give_partitions).
pub(crate) async fn give_partitions(
    conn: &mut Connection,
    from: (&str, &str),
    to: (&str, &str),
    values: &[Vec<String>],
    now_s: i64,
) -> Result<Vec<Partition>> {
    let source = tables::find_to_change(conn, from.0, from.1).await?;
    let target = tables::find_to_change(conn, to.0, to.1).await?;
    let parent = Parent::load(conn, &source).await?;
    let given = partitions::drop(conn, &parent, values, false).await?;
    let parent = Parent::load(conn, &target).await?;
    partitions::add(conn, &parent, &given, false, now_s).await?;
    versions::bump(conn, source.id).await?;
    versions::bump(conn, target.id).await?;
    let names: Vec<String> = values.iter().map(|values| parent.name_of(values)).collect::<PublicResult<_>>()?;
    partitions::by_names(conn, target.id, &names).await
}

/// [`Store::column_statistics`](crate::Store::column_statistics).
pub(crate) async fn column_statistics(
    conn: &mut Connection,
    database: &str,
    table: &str,
    partition: Option<&[String]>,
) -> Result<Vec<ColumnStatistics>> {
    let head = tables::find(conn, database, table).await?;
    match partition {
        None => statistics::load(conn, &head, Owner::Table).await,
        Some(values) => {
            let row = partition_row(conn, &head, values).await?;
            statistics::load(conn, &head, Owner::Partition(row.id, &row.name)).await
        }
    }
}

/// [`Store::partition_statistics`](crate::Store::partition_statistics).
pub(crate) async fn partition_statistics(
    conn: &mut Connection,
    database: &str,
    table: &str,
    names: &[String],
) -> Result<Vec<(String, Vec<ColumnStatistics>)>> {
    let head = tables::find(conn, database, table).await?;
    let found = partitions::find(conn, head.id, names).await?;
    let ids: Vec<i64> = found.values().map(|row| row.id).collect();
    let mut by_id = statistics::load_of_partitions(conn, &ids).await?;
    Ok(found.into_iter().filter_map(|(name, row)| Some((name, by_id.remove(&row.id)?))).collect())
}

/// [`Store::set_column_statistics`](crate::Store::set_column_statistics).
pub(crate) async fn set_column_statistics(
    conn: &mut Connection,
    database: &str,
    table: &str,
    partition: Option<&[String]>,
    columns: &[ColumnStatistics],
    now_s: i64,
) -> Result<()> {
    let head = tables::find_to_change(conn, database, table).await?;
    match partition {
        None => statistics::set(conn, &head, Owner::Table, columns, now_s).await,
        Some(values) => {
            let row = partition_row(conn, &head, values).await?;
            statistics::set(conn, &head, Owner::Partition(row.id, &row.name), columns, now_s).await
        }
    }
}

/// [`Store::delete_column_statistics`](crate::Store::delete_column_statistics).
pub(crate) async fn delete_column_statistics(
    conn: &mut Connection,
    database: &str,
    table: &str,
    partition: Option<&[String]>,
    column: Option<&str>,
) -> Result<u64> {
    let head = tables::find_to_change(conn, database, table).await?;
    match partition {
        None => statistics::delete(conn, &head, Owner::Table, column).await,
        Some(values) => {
            let row = partition_row(conn, &head, values).await?;
            statistics::delete(conn, &head, Owner::Partition(row.id, &row.name), column).await
        }
    }
}

/// [`Store::snapshot`](crate::Store::snapshot).
pub(crate) async fn snapshot(
    conn: &mut Connection,
    database: &str,
    table: &str,
    filter: &PartitionFilter,
) -> Result<Snapshot> {
    let (head, table) = tables::load(conn, database, table).await?;
    let partitions = if table.table.partition_keys.is_empty() {
        Vec::new()
    } else {
        let parent = Parent::load(conn, &head).await?;
        partitions::list(conn, &parent, filter, None).await?
    };
    let pending = commits::pending_of(conn, head.id).await?;
    Ok(Snapshot { table, partitions, pending })
}

/// [`Store::commits_since`](crate::Store::commits_since).
pub(crate) async fn commits_since(
    conn: &mut Connection,
    database: &str,
    table: &str,
    version: i64,
) -> Result<Vec<Commit>> {
    let head = tables::find(conn, database, table).await?;
    commits::since(conn, head.id, version).await
}

async fn partition_row(conn: &mut Connection, head: &Head, values: &[String]) -> Result<partitions::Row> {
    let parent = Parent::load(conn, head).await?;
    partitions::find_one(conn, &parent, values).await
}
