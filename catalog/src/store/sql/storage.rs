//! Storage of tables and partitions: `SDS` with its children, `SERDES`, and the column lists `CDS`/`COLUMNS_V2`.
//!
//! A column list is shared: partitions whose columns are equal to their table's point at the table's list, and partitions
//! that are added together and differ from it share among each other. A list is never shared between tables, and it goes
//! when nothing points at it any more; both are what a metastore on the same database relies on.

use std::collections::{HashMap, HashSet};

use futures::TryStreamExt;
use sqlx::{query, query_scalar};
use tereza_runtime::{Error, Result as PublicResult};

use super::super::dialect::LOCATIONS_HAVE_AN_INDEX;
use super::ids::{self, Sequence};
use super::{Connection, Result, parameters, removals, rows, skewed};
use crate::model::{Column, Parameters, Serde, Skewed, Storage};
use crate::store::{names, places};

/// A storage as it is kept.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) column_list: i64,
    pub(crate) serde: i64,
    pub(crate) storage: Storage,
}

/// The column list of a table, for its partitions to share.
#[derive(Debug, Clone)]
pub(crate) struct ColumnList {
    pub(crate) id: i64,
    pub(crate) columns: Vec<Column>,
}

/// Whether `location` is taken: anything is kept there, however it is spelled, or its files are not removed yet.
pub(crate) async fn is_location_taken(conn: &mut Connection, location: &str) -> Result<bool> {
    Ok(!locations_in_use(conn, &[location.to_owned()]).await?.is_empty())
}

/// Those of the locations that are taken.
pub(crate) async fn locations_in_use(conn: &mut Connection, locations: &[String]) -> Result<Vec<String>> {
    let all: Vec<String> = locations
        .iter()
        .flat_map(|location| places::spellings(location))
        .flat_map(|location| [format!("{location}/"), location])
        .collect();
    let select = "SELECT DISTINCT LOCATION FROM SDS WHERE LOCATION IN ";
    let found: Vec<(String,)> = rows::select_in(conn, select, &all, "").await?;
    let mut taken: HashSet<String> = found.iter().map(|(location,)| places::plain(location)).collect();
    taken.extend(removals::removed(conn, locations).await?.iter().map(|location| places::plain(location)));
    Ok(locations.iter().filter(|location| taken.contains(&places::plain(location))).cloned().collect())
}

/// Those of the folders in which anything is kept, however it is spelled.
pub(crate) async fn folders_in_use(conn: &mut Connection, folders: &[String]) -> Result<HashSet<String>> {
    let mut used = HashSet::new();
    if LOCATIONS_HAVE_AN_INDEX {
        for folder in folders {
            if is_folder_in_use(conn, folder).await? {
                used.insert(folder.clone());
            }
        }
        return Ok(used);
    }
    // All locations once, and not once for each folder.
    let by_place: HashMap<String, &String> = folders.iter().map(|folder| (places::plain(folder), folder)).collect();
    let mut locations = query_scalar::<_, String>("SELECT LOCATION FROM SDS WHERE LOCATION IS NOT NULL").fetch(conn);
    while let Some(location) = locations.try_next().await? {
        let at_or_above = std::iter::once(places::plain(&location)).chain(places::above(&location));
        used.extend(at_or_above.filter_map(|place| by_place.get(&place)).map(|folder| (*folder).clone()));
    }
    Ok(used)
}

async fn is_folder_in_use(conn: &mut Connection, location: &str) -> Result<bool> {
    for location in places::spellings(location) {
        // '0' is the character after '/': everything below lies between the two.
        let found: Option<i64> =
            query_scalar("SELECT SD_ID FROM SDS WHERE LOCATION = ? OR (LOCATION >= ? AND LOCATION < ?) LIMIT 1")
                .bind(&location)
                .bind(format!("{location}/"))
                .bind(format!("{location}0"))
                .fetch_optional(&mut *conn)
                .await?;
        if found.is_some() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Adds storages and returns the id of the first; the others follow in order.
pub(crate) async fn insert(conn: &mut Connection, storages: &[&Storage], shared: Option<&ColumnList>) -> Result<i64> {
    for storage in storages {
        check(storage)?;
    }
    let places: Vec<String> = storages.iter().filter_map(|storage| storage.location.clone()).collect();
    removals::refuse(conn, &places).await?;
    let first_storage = ids::take(conn, Sequence::Storage, storages.len()).await?;
    let first_serde = ids::take(conn, Sequence::Serde, storages.len()).await?;
    let lists = assign_column_lists(conn, storages, shared).await?;
    let numbered: Vec<Numbered<'_>> = (0_i64..)
        .zip(storages)
        .zip(lists)
        .map(|((at, storage), column_list)| Numbered {
            id: first_storage + at,
            serde: first_serde + at,
            column_list,
            storage,
        })
        .collect();
    let into = "INSERT INTO SERDES (SERDE_ID, NAME, SLIB, SERDE_TYPE) ";
    rows::insert(conn, into, 4, &numbered, |values, row| {
        let serde = &row.storage.serde;
        values.push_bind(row.serde).push_bind(serde.name.as_deref()).push_bind(serde.library.as_deref()).push_bind(0);
    })
    .await?;
    let into = "INSERT INTO SDS (SD_ID, CD_ID, SERDE_ID, INPUT_FORMAT, OUTPUT_FORMAT, LOCATION, NUM_BUCKETS, IS_COMPRESSED, \
                IS_STOREDASSUBDIRECTORIES) ";
    rows::insert(conn, into, 9, &numbered, |values, row| {
        let storage = row.storage;
        values
            .push_bind(row.id)
            .push_bind(row.column_list)
            .push_bind(row.serde)
            .push_bind(storage.input_format.as_deref())
            .push_bind(storage.output_format.as_deref())
            .push_bind(storage.location.as_deref())
            .push_bind(storage.num_buckets)
            .push_bind(storage.compressed)
            .push_bind(storage.stored_as_sub_directories);
    })
    .await?;
    insert_children(conn, &numbered).await?;
    let skewed: Vec<(i64, &Skewed)> = numbered.iter().map(|row| (row.id, &row.storage.skewed)).collect();
    skewed::insert(conn, &skewed).await?;
    Ok(first_storage)
}

/// Storages by their ids.
pub(crate) async fn load(conn: &mut Connection, ids: &[i64]) -> Result<HashMap<i64, Kept>> {
    type Text = Option<String>;
    // What it is, its serde, and how many buckets, sort columns and skewed columns it has: most have none.
    type Row =
        (i64, Option<i64>, Text, Text, Text, i32, bool, bool, Option<i64>, Option<i64>, Text, Text, i64, i64, i64);
    let select = "SELECT s.SD_ID, s.CD_ID, s.INPUT_FORMAT, s.OUTPUT_FORMAT, s.LOCATION, s.NUM_BUCKETS, s.IS_COMPRESSED, \
                  s.IS_STOREDASSUBDIRECTORIES, s.SERDE_ID, d.SERDE_ID, d.NAME, d.SLIB, \
                  (SELECT COUNT(*) FROM BUCKETING_COLS b WHERE b.SD_ID = s.SD_ID), \
                  (SELECT COUNT(*) FROM SORT_COLS o WHERE o.SD_ID = s.SD_ID), \
                  (SELECT COUNT(*) FROM SKEWED_COL_NAMES k WHERE k.SD_ID = s.SD_ID) \
                  FROM SDS s LEFT JOIN SERDES d ON d.SERDE_ID = s.SERDE_ID WHERE s.SD_ID IN ";
    let found: Vec<Row> = rows::select_in(conn, select, ids, "").await?;
    let serde_ids: Vec<i64> = found.iter().filter_map(|row| row.9).collect();
    let mut serde_parameters = parameters::SERDE.load(conn, &serde_ids).await?;
    let mut list_ids: Vec<i64> = found.iter().filter_map(|row| row.1).collect();
    list_ids.sort_unstable();
    list_ids.dedup();
    let lists = load_columns(conn, &list_ids).await?;
    let mut storage_parameters = parameters::STORAGE.load(conn, ids).await?;
    let with =
        |count: fn(&Row) -> i64| -> Vec<i64> { found.iter().filter(|row| count(row) > 0).map(|row| row.0).collect() };
    let (bucketed, sorted, have_skewed) = (with(|row| row.12), with(|row| row.13), with(|row| row.14));
    let mut buckets = load_bucket_columns(conn, &bucketed).await?;
    let mut sorts = load_sort_columns(conn, &sorted).await?;
    let mut skewed = skewed::load(conn, &have_skewed).await?;

    let mut storages = HashMap::with_capacity(found.len());
    for row in found {
        let (id, list, input_format, output_format, location, num_buckets, compressed, sub_directories, serde_id, ..) =
            row;
        let (.., kept_serde, name, library, _, _, _) = row;
        let serde =
            kept_serde.map(|id| Serde { name, library, parameters: serde_parameters.remove(&id).unwrap_or_default() });
        let storage = Storage {
            columns: list.and_then(|list| lists.get(&list)).cloned().unwrap_or_default(),
            location,
            input_format,
            output_format,
            compressed,
            num_buckets,
            bucket_columns: buckets.remove(&id).unwrap_or_default(),
            sort_columns: sorts.remove(&id).unwrap_or_default(),
            serde: serde.unwrap_or_default(),
            parameters: storage_parameters.remove(&id).unwrap_or_default(),
            stored_as_sub_directories: sub_directories,
            skewed: skewed.remove(&id).unwrap_or_default(),
        };
        let (column_list, serde) = (list.unwrap_or_default(), serde_id.unwrap_or_default());
        storages.insert(id, Kept { column_list, serde, storage });
    }
    Ok(storages)
}

/// The column list of a storage.
pub(crate) async fn column_list(conn: &mut Connection, storage: i64) -> Result<ColumnList> {
    let kept: Option<Option<i64>> =
        query_scalar("SELECT CD_ID FROM SDS WHERE SD_ID = ?").bind(storage).fetch_optional(&mut *conn).await?;
    let Some(list) = kept else {
        return Err(Error::internal(format!("the storage {storage} is missing from the catalog")).into());
    };
    let id = list.unwrap_or_default();
    let columns = load_columns(conn, &[id]).await?.remove(&id).unwrap_or_default();
    Ok(ColumnList { id, columns })
}

/// Replaces storages. One whose columns change gets `shared` if they are equal to it, else a new list; the others keep
/// theirs.
pub(crate) async fn replace(
    conn: &mut Connection,
    changes: &[(i64, &Storage)],
    shared: Option<&ColumnList>,
) -> Result<()> {
    let ids: Vec<i64> = changes.iter().map(|(id, _)| *id).collect();
    let kept = load(conn, &ids).await?;
    let mut numbered = Vec::with_capacity(changes.len());
    let mut changed_columns = Vec::new();
    let mut new_places = Vec::new();
    let mut changed_skewed = Vec::new();
    for &(id, storage) in changes {
        check(storage)?;
        let Some(kept) = kept.get(&id) else {
            return Err(Error::internal(format!("the storage {id} is missing from the catalog")).into());
        };
        if kept.storage.columns != storage.columns {
            changed_columns.push(numbered.len());
        }
        if kept.storage.skewed != storage.skewed {
            changed_skewed.push((id, &storage.skewed));
        }
        if kept.storage.location != storage.location {
            new_places.extend(storage.location.clone());
        }
        numbered.push(Numbered { id, serde: kept.serde, column_list: kept.column_list, storage });
    }
    removals::refuse(conn, &new_places).await?;
    let to_assign: Vec<&Storage> = changed_columns.iter().map(|&at| numbered[at].storage).collect();
    let assigned = assign_column_lists(conn, &to_assign, shared).await?;
    let mut old_lists = Vec::new();
    for (&at, list) in changed_columns.iter().zip(assigned) {
        old_lists.push(std::mem::replace(&mut numbered[at].column_list, list));
    }

    for Numbered { id, serde, column_list, storage } in &numbered {
        query("UPDATE SERDES SET NAME = ?, SLIB = ? WHERE SERDE_ID = ?")
            .bind(storage.serde.name.as_deref())
            .bind(storage.serde.library.as_deref())
            .bind(serde)
            .execute(&mut *conn)
            .await?;
        query(
            "UPDATE SDS SET CD_ID = ?, INPUT_FORMAT = ?, OUTPUT_FORMAT = ?, LOCATION = ?, NUM_BUCKETS = ?, IS_COMPRESSED = ?, \
             IS_STOREDASSUBDIRECTORIES = ? WHERE SD_ID = ?",
        )
        .bind(column_list)
        .bind(storage.input_format.as_deref())
        .bind(storage.output_format.as_deref())
        .bind(storage.location.as_deref())
        .bind(storage.num_buckets)
        .bind(storage.compressed)
        .bind(storage.stored_as_sub_directories)
        .bind(id)
        .execute(&mut *conn)
        .await?;
    }
    let serdes: Vec<i64> = numbered.iter().map(|row| row.serde).collect();
    parameters::SERDE.delete(conn, &serdes).await?;
    parameters::STORAGE.delete(conn, &ids).await?;
    rows::execute_in(conn, "DELETE FROM BUCKETING_COLS WHERE SD_ID IN ", &ids, "").await?;
    rows::execute_in(conn, "DELETE FROM SORT_COLS WHERE SD_ID IN ", &ids, "").await?;
    insert_children(conn, &numbered).await?;
    if !changed_skewed.is_empty() {
        skewed::delete(conn, &changed_skewed.iter().map(|(id, _)| *id).collect::<Vec<_>>()).await?;
        skewed::insert(conn, &changed_skewed).await?;
    }
    delete_unused_columns(conn, old_lists).await
}

/// Removes storages that nothing points at any more, with their serdes and the column lists that only they had.
pub(crate) async fn delete(conn: &mut Connection, ids: &[i64]) -> Result<()> {
    let select = "SELECT CD_ID, SERDE_ID FROM SDS WHERE SD_ID IN ";
    let found: Vec<(Option<i64>, Option<i64>)> = rows::select_in(conn, select, ids, "").await?;
    let lists = found.iter().filter_map(|(list, _)| *list).collect();
    let serdes: Vec<i64> = found.iter().filter_map(|(_, serde)| *serde).collect();
    parameters::STORAGE.delete(conn, ids).await?;
    skewed::delete(conn, ids).await?;
    for child in [
        "DELETE FROM BUCKETING_COLS WHERE SD_ID IN ",
        "DELETE FROM SORT_COLS WHERE SD_ID IN ",
        "DELETE FROM SDS WHERE SD_ID IN ",
    ] {
        rows::execute_in(conn, child, ids, "").await?;
    }
    parameters::SERDE.delete(conn, &serdes).await?;
    rows::execute_in(conn, "DELETE FROM SERDES WHERE SERDE_ID IN ", &serdes, "").await?;
    delete_unused_columns(conn, lists).await
}

/// A storage with the ids of its rows.
struct Numbered<'a> {
    id: i64,
    serde: i64,
    column_list: i64,
    storage: &'a Storage,
}

/// The column list of each storage: `shared` where it fits, else new lists, one for each distinct one.
async fn assign_column_lists(
    conn: &mut Connection,
    storages: &[&Storage],
    shared: Option<&ColumnList>,
) -> Result<Vec<i64>> {
    let mut distinct: Vec<Vec<Column>> = Vec::new();
    let mut position: HashMap<Vec<Column>, usize> = HashMap::new();
    // `None`: the shared list; else the position in `distinct`.
    let mut choices = Vec::with_capacity(storages.len());
    for storage in storages {
        if shared.is_some_and(|shared| shared.columns == storage.columns) {
            choices.push(None);
            continue;
        }
        let columns = names::new_columns(&storage.columns)?;
        if shared.is_some_and(|shared| shared.columns == columns) {
            choices.push(None);
            continue;
        }
        let at = *position.entry(columns).or_insert_with_key(|columns| {
            distinct.push(columns.clone());
            distinct.len() - 1
        });
        choices.push(Some(at));
    }
    let first = insert_columns(conn, &distinct).await?;
    let list_of = |choice: Option<usize>| match (choice, shared) {
        (None, Some(shared)) => shared.id,
        (at, _) => first + i64::try_from(at.unwrap_or(0)).unwrap_or(i64::MAX),
    };
    Ok(choices.into_iter().map(list_of).collect())
}

/// Adds column lists and returns the id of the first; the others follow in order.
async fn insert_columns(conn: &mut Connection, lists: &[Vec<Column>]) -> Result<i64> {
    if lists.is_empty() {
        return Ok(0);
    }
    let first = ids::take(conn, Sequence::ColumnList, lists.len()).await?;
    let ids: Vec<i64> = (first..).take(lists.len()).collect();
    rows::insert(conn, "INSERT INTO CDS (CD_ID) ", 1, &ids, |values, id| {
        values.push_bind(*id);
    })
    .await?;
    let mut columns: Vec<(i64, i32, &Column)> = Vec::new();
    for (id, list) in ids.iter().zip(lists) {
        columns.extend((0..).zip(list).map(|(at, column)| (*id, at, column)));
    }
    let into = "INSERT INTO COLUMNS_V2 (CD_ID, INTEGER_IDX, COLUMN_NAME, TYPE_NAME, COMMENT) ";
    rows::insert(conn, into, 5, &columns, |values, (id, at, column)| {
        values
            .push_bind(*id)
            .push_bind(*at)
            .push_bind(column.name.as_str())
            .push_bind(column.type_name.as_str())
            .push_bind(column.comment.as_deref());
    })
    .await?;
    Ok(first)
}

/// Column lists by their ids.
pub(crate) async fn load_columns(conn: &mut Connection, lists: &[i64]) -> Result<HashMap<i64, Vec<Column>>> {
    type Row = (i64, String, Option<String>, Option<String>);
    let select = "SELECT CD_ID, COLUMN_NAME, TYPE_NAME, COMMENT FROM COLUMNS_V2 WHERE CD_ID IN ";
    let found: Vec<Row> = rows::select_in(conn, select, lists, " ORDER BY CD_ID, INTEGER_IDX").await?;
    let mut columns: HashMap<i64, Vec<Column>> = HashMap::with_capacity(lists.len());
    for (list, name, type_name, comment) in found {
        let column = Column { name, type_name: type_name.unwrap_or_default(), comment };
        columns.entry(list).or_default().push(column);
    }
    Ok(columns)
}

/// Removes those of `lists` that no storage points at.
pub(crate) async fn delete_unused_columns(conn: &mut Connection, mut lists: Vec<i64>) -> Result<()> {
    lists.sort_unstable();
    lists.dedup();
    let used: Vec<(i64,)> = rows::select_in(conn, "SELECT DISTINCT CD_ID FROM SDS WHERE CD_ID IN ", &lists, "").await?;
    let used: HashSet<i64> = used.into_iter().map(|(list,)| list).collect();
    lists.retain(|list| !used.contains(list));
    rows::execute_in(conn, "DELETE FROM COLUMNS_V2 WHERE CD_ID IN ", &lists, "").await?;
    rows::execute_in(conn, "DELETE FROM CDS WHERE CD_ID IN ", &lists, "").await
}

/// Adds parameters, bucket and sort columns to storages that have none.
async fn insert_children(conn: &mut Connection, numbered: &[Numbered<'_>]) -> Result<()> {
    let serde_parameters: Vec<(i64, &Parameters)> =
        numbered.iter().map(|row| (row.serde, &row.storage.serde.parameters)).collect();
    parameters::SERDE.insert(conn, &serde_parameters).await?;
    let storage_parameters: Vec<(i64, &Parameters)> =
        numbered.iter().map(|row| (row.id, &row.storage.parameters)).collect();
    parameters::STORAGE.insert(conn, &storage_parameters).await?;

    let mut buckets: Vec<(i64, i32, String)> = Vec::new();
    let mut sorts: Vec<(i64, i32, String, i32)> = Vec::new();
    for Numbered { id, storage, .. } in numbered {
        buckets.extend((0..).zip(&storage.bucket_columns).map(|(at, name)| (*id, at, names::fold(name))));
        sorts.extend((0..).zip(&storage.sort_columns).map(|(at, (name, order))| (*id, at, names::fold(name), *order)));
    }
    let into = "INSERT INTO BUCKETING_COLS (SD_ID, INTEGER_IDX, BUCKET_COL_NAME) ";
    rows::insert(conn, into, 3, &buckets, |values, (id, at, name)| {
        values.push_bind(*id).push_bind(*at).push_bind(name.as_str());
    })
    .await?;
    let into = "INSERT INTO SORT_COLS (SD_ID, INTEGER_IDX, COLUMN_NAME, `ORDER`) ";
    rows::insert(conn, into, 4, &sorts, |values, (id, at, name, order)| {
        values.push_bind(*id).push_bind(*at).push_bind(name.as_str()).push_bind(*order);
    })
    .await
}

async fn load_bucket_columns(conn: &mut Connection, ids: &[i64]) -> Result<HashMap<i64, Vec<String>>> {
    let select = "SELECT SD_ID, BUCKET_COL_NAME FROM BUCKETING_COLS WHERE SD_ID IN ";
    let found: Vec<(i64, Option<String>)> = rows::select_in(conn, select, ids, " ORDER BY SD_ID, INTEGER_IDX").await?;
    let mut columns: HashMap<i64, Vec<String>> = HashMap::new();
    for (id, name) in found {
        columns.entry(id).or_default().push(name.unwrap_or_default());
    }
    Ok(columns)
}

async fn load_sort_columns(conn: &mut Connection, ids: &[i64]) -> Result<HashMap<i64, Vec<(String, i32)>>> {
    let select = "SELECT SD_ID, COLUMN_NAME, `ORDER` FROM SORT_COLS WHERE SD_ID IN ";
    let found: Vec<(i64, Option<String>, i32)> =
        rows::select_in(conn, select, ids, " ORDER BY SD_ID, INTEGER_IDX").await?;
    let mut columns: HashMap<i64, Vec<(String, i32)>> = HashMap::new();
    for (id, name, order) in found {
        columns.entry(id).or_default().push((name.unwrap_or_default(), order));
    }
    Ok(columns)
}

fn check(storage: &Storage) -> PublicResult<()> {
    skewed::check(&storage.skewed)?;
    names::check_optional_chars("the location", storage.location.as_ref(), names::TEXT_CHARS)?;
    places::check(storage.location.as_deref())?;
    names::check_optional_chars("the input format", storage.input_format.as_ref(), names::TEXT_CHARS)?;
    names::check_optional_chars("the output format", storage.output_format.as_ref(), names::TEXT_CHARS)?;
    names::check_optional_chars("the serde's class", storage.serde.library.as_ref(), names::TEXT_CHARS)?;
    names::check_optional_chars("the serde's name", storage.serde.name.as_ref(), names::SHORT_TEXT_CHARS)
}
