//! Values that many rows of a table have: `SKEWED_COL_NAMES`, `SKEWED_VALUES` and `SKEWED_COL_VALUE_LOC_MAP`, which point at
//! lists of values (`SKEWED_STRING_LIST`, `SKEWED_STRING_LIST_VALUES`). A list belongs to one storage.

use std::collections::HashMap;

use tereza_runtime::Result as PublicResult;

use super::ids::{self, Sequence};
use super::{Connection, Result, rows};
use crate::model::Skewed;
use crate::store::names;

/// What is kept for those of the storages that have some.
pub(crate) async fn load(conn: &mut Connection, storages: &[i64]) -> Result<HashMap<i64, Skewed>> {
    let mut found: HashMap<i64, Skewed> = HashMap::new();
    if storages.is_empty() {
        return Ok(found);
    }
    let select = "SELECT SD_ID, SKEWED_COL_NAME FROM SKEWED_COL_NAMES WHERE SD_ID IN ";
    let columns: Vec<(i64, Option<String>)> =
        rows::select_in(conn, select, storages, " ORDER BY SD_ID, INTEGER_IDX").await?;
    for (storage, column) in columns {
        found.entry(storage).or_default().columns.extend(column);
    }
    let select = "SELECT SD_ID_OID, STRING_LIST_ID_EID FROM SKEWED_VALUES WHERE SD_ID_OID IN ";
    let values: Vec<(i64, i64)> = rows::select_in(conn, select, storages, " ORDER BY SD_ID_OID, INTEGER_IDX").await?;
    let select = "SELECT SD_ID, STRING_LIST_ID_KID, LOCATION FROM SKEWED_COL_VALUE_LOC_MAP WHERE SD_ID IN ";
    let places: Vec<(i64, i64, Option<String>)> = rows::select_in(conn, select, storages, "").await?;
    let lists: Vec<i64> = values.iter().map(|(_, list)| *list).chain(places.iter().map(|(_, list, _)| *list)).collect();
    let select = "SELECT STRING_LIST_ID, STRING_LIST_VALUE FROM SKEWED_STRING_LIST_VALUES WHERE STRING_LIST_ID IN ";
    let texts: Vec<(i64, Option<String>)> =
        rows::select_in(conn, select, &lists, " ORDER BY STRING_LIST_ID, INTEGER_IDX").await?;
    let mut by_list: HashMap<i64, Vec<String>> = HashMap::new();
    for (list, text) in texts {
        by_list.entry(list).or_default().push(text.unwrap_or_default());
    }
    let of = |list: i64| by_list.get(&list).cloned().unwrap_or_default();
    for (storage, list) in values {
        found.entry(storage).or_default().values.push(of(list));
    }
    for (storage, list, location) in places {
        found.entry(storage).or_default().locations.insert(of(list), location.unwrap_or_default());
    }
    Ok(found)
}

/// Adds what storages have that have none yet.
pub(crate) async fn insert(conn: &mut Connection, storages: &[(i64, &Skewed)]) -> Result<()> {
    let mut columns: Vec<(i64, i32, String)> = Vec::new();
    let mut lists: Vec<&[String]> = Vec::new();
    let mut values: Vec<(i64, i32, usize)> = Vec::new();
    let mut places: Vec<(i64, usize, &str)> = Vec::new();
    for (storage, skewed) in storages {
        columns.extend((0..).zip(&skewed.columns).map(|(at, column)| (*storage, at, names::fold(column))));
        for (at, list) in (0..).zip(&skewed.values) {
            values.push((*storage, at, lists.len()));
            lists.push(list);
        }
        for (list, location) in &skewed.locations {
            places.push((*storage, lists.len(), location));
            lists.push(list);
        }
    }
    let into = "INSERT INTO SKEWED_COL_NAMES (SD_ID, INTEGER_IDX, SKEWED_COL_NAME) ";
    rows::insert(conn, into, 3, &columns, |row, (storage, at, column)| {
        row.push_bind(*storage).push_bind(*at).push_bind(column.clone());
    })
    .await?;
    if lists.is_empty() {
        return Ok(());
    }
    let first = ids::take(conn, Sequence::StringList, lists.len()).await?;
    let list_ids: Vec<i64> = (first..).take(lists.len()).collect();
    rows::insert(conn, "INSERT INTO SKEWED_STRING_LIST (STRING_LIST_ID) ", 1, &list_ids, |row, id| {
        row.push_bind(*id);
    })
    .await?;
    let mut texts: Vec<(i64, i32, &str)> = Vec::new();
    for (id, list) in list_ids.iter().zip(&lists) {
        texts.extend((0..).zip(*list).map(|(at, text)| (*id, at, text.as_str())));
    }
    let into = "INSERT INTO SKEWED_STRING_LIST_VALUES (STRING_LIST_ID, INTEGER_IDX, STRING_LIST_VALUE) ";
    rows::insert(conn, into, 3, &texts, |row, (id, at, text)| {
        row.push_bind(*id).push_bind(*at).push_bind((*text).to_owned());
    })
    .await?;
    let into = "INSERT INTO SKEWED_VALUES (SD_ID_OID, INTEGER_IDX, STRING_LIST_ID_EID) ";
    rows::insert(conn, into, 3, &values, |row, (storage, at, list)| {
        row.push_bind(*storage).push_bind(*at).push_bind(list_ids[*list]);
    })
    .await?;
    let into = "INSERT INTO SKEWED_COL_VALUE_LOC_MAP (SD_ID, STRING_LIST_ID_KID, LOCATION) ";
    rows::insert(conn, into, 3, &places, |row, (storage, list, location)| {
        row.push_bind(*storage).push_bind(list_ids[*list]).push_bind((*location).to_owned());
    })
    .await
}

/// Removes what storages have.
pub(crate) async fn delete(conn: &mut Connection, storages: &[i64]) -> Result<()> {
    let select = "SELECT STRING_LIST_ID_EID FROM SKEWED_VALUES WHERE SD_ID_OID IN ";
    let mut lists: Vec<(i64,)> = rows::select_in(conn, select, storages, "").await?;
    let select = "SELECT STRING_LIST_ID_KID FROM SKEWED_COL_VALUE_LOC_MAP WHERE SD_ID IN ";
    lists.extend(rows::select_in::<(i64,), _>(conn, select, storages, "").await?);
    for delete in [
        "DELETE FROM SKEWED_COL_NAMES WHERE SD_ID IN ",
        "DELETE FROM SKEWED_VALUES WHERE SD_ID_OID IN ",
        "DELETE FROM SKEWED_COL_VALUE_LOC_MAP WHERE SD_ID IN ",
    ] {
        rows::execute_in(conn, delete, storages, "").await?;
    }
    let lists: Vec<i64> = lists.into_iter().map(|(list,)| list).collect();
    for delete in [
        "DELETE FROM SKEWED_STRING_LIST_VALUES WHERE STRING_LIST_ID IN ",
        "DELETE FROM SKEWED_STRING_LIST WHERE STRING_LIST_ID IN ",
    ] {
        rows::execute_in(conn, delete, &lists, "").await?;
    }
    Ok(())
}

/// Refuses what does not fit.
pub(crate) fn check(skewed: &Skewed) -> PublicResult<()> {
    for column in &skewed.columns {
        names::check_chars("a skewed column", column, names::SKEWED_CHARS)?;
    }
    for text in skewed.values.iter().chain(skewed.locations.keys()).flatten() {
        names::check_chars("a skewed value", text, names::SKEWED_CHARS)?;
    }
    for location in skewed.locations.values() {
        names::check_chars("the location of a skewed value", location, names::TEXT_CHARS)?;
    }
    Ok(())
}
