//! Folders of what was dropped together with its files, until the files are gone: `TZ_REMOVALS`.
//!
//! The transaction that drops makes the record, so no death loses a removal. While the record is there nothing new gets its
//! place in the folder: what is removed late must not be somebody else's. A folder that anything else is in, or that is in
//! the folder of another table, is not noted at all and stays.

use std::collections::{BTreeSet, HashSet};
use std::ops::Bound;

use sqlx::{QueryBuilder, query_as, query_scalar};
use tereza_runtime::Error;
use tereza_runtime::settings::without_passwords;

use super::super::dialect::{for_update, hold_removals, share_removals};
use super::{Connection, Db, Result, rows, storage};
use crate::store::{Removal, places};

/// Places, to be asked what is at, above or below them.
#[derive(Debug, Default)]
pub(crate) struct Places(BTreeSet<String>);

impl Places {
    pub(crate) fn add(&mut self, location: &str) {
        self.0.insert(places::plain(location));
    }

    /// Whether one of them is the location or is above it.
    fn hold(&self, location: &str) -> bool {
        self.0.contains(&places::plain(location)) || self.are_above(location)
    }

    fn are_above(&self, location: &str) -> bool {
        places::above(location).iter().any(|folder| self.0.contains(folder))
    }

    /// Whether one of them is the location or is below it.
    fn are_in(&self, location: &str) -> bool {
        let folder = places::plain(location);
        let below = format!("{folder}/");
        let mut next = self.0.range::<str, _>((Bound::Included(below.as_str()), Bound::Unbounded));
        self.0.contains(&folder) || next.next().is_some_and(|place| place.starts_with(&below))
    }
}

/// Notes the folders of what this transaction dropped, but for those that are needed: by anything that is still in the
/// catalog, or by `kept`, which was dropped and leaves its files. `parent` is the storage of the table whose partitions
/// they are of; only that one may be above them. Returns what is noted.
pub(crate) async fn note(
    conn: &mut Connection,
    folders: Vec<String>,
    kept: &Places,
    parent: Option<i64>,
    now_ms: i64,
) -> Result<Vec<String>> {
    if folders.is_empty() {
        return Ok(folders);
    }
    // From here on nobody puts anything into them, but for a metastore that shares the database.
    hold_removals(conn).await?;
    let mut seen = HashSet::new();
    let mut free: Vec<String> = folders
        .into_iter()
        .filter(|folder| !kept.hold(folder) && !kept.are_in(folder))
        .filter(|folder| seen.insert(places::plain(folder)))
        .collect();
    retain_unused(conn, &mut free, parent).await?;
    // What is in one that goes anyway needs no record.
    let mut going = Places::default();
    free.iter().for_each(|folder| going.add(folder));
    free.retain(|folder| !going.are_above(folder));
    for folder in seen.iter().filter(|folder| !going.hold(folder)) {
        tracing::warn!(
            folder = without_passwords(folder),
            "the files of what was dropped stay: others have theirs there"
        );
    }
    rows::insert(conn, "INSERT INTO TZ_REMOVALS (LOCATION, NOTED_MS, NEXT_MS) ", 3, &free, |values, folder| {
        values.push_bind(folder.trim_end_matches('/')).push_bind(now_ms).push_bind(now_ms);
    })
    .await?;
    Ok(free)
}

/// The removals that have waited longest, at most `limit`, for the caller alone until `lease_ms` are over.
pub(crate) async fn next(conn: &mut Connection, now_ms: i64, lease_ms: i64, limit: usize) -> Result<Vec<Removal>> {
    let found: Vec<(i64, String)> = query_as(for_update!(
        "SELECT REMOVAL_ID, LOCATION FROM TZ_REMOVALS WHERE NEXT_MS <= ? ORDER BY NEXT_MS, REMOVAL_ID LIMIT ?"
    ))
    .bind(now_ms)
    .bind(i64::try_from(limit).unwrap_or(i64::MAX))
    .fetch_all(&mut *conn)
    .await?;
    // A metastore that shares the database knows nothing of removals and may have put something there.
    let mut empty: Vec<String> = found.iter().map(|(_, location)| location.clone()).collect();
    retain_empty(conn, &mut empty).await?;
    let empty: HashSet<String> = empty.into_iter().collect();
    let (next, used): (Vec<_>, Vec<_>) = found.into_iter().partition(|(_, location)| empty.contains(location));
    for (_, location) in &used {
        let location = without_passwords(location);
        tracing::warn!(location, "the files of what was dropped stay: something new is there");
    }
    finish(conn, &used.iter().map(|(id, _)| *id).collect::<Vec<_>>()).await?;
    put_off(conn, &next.iter().map(|(id, _)| *id).collect::<Vec<_>>(), now_ms.saturating_add(lease_ms)).await?;
    Ok(next.into_iter().map(|(id, location)| Removal { id, location }).collect())
}

/// Says when removals are to go on.
pub(crate) async fn put_off(conn: &mut Connection, ids: &[i64], until_ms: i64) -> Result<()> {
    for ids in ids.chunks(rows::LIST_LEN) {
        let mut statement = QueryBuilder::<Db>::new("UPDATE TZ_REMOVALS SET NEXT_MS = ");
        statement.push_bind(until_ms).push(" WHERE REMOVAL_ID IN ");
        rows::push_list(&mut statement, ids);
        statement.build().execute(&mut *conn).await?;
    }
    Ok(())
}

/// Forgets removals.
pub(crate) async fn finish(conn: &mut Connection, ids: &[i64]) -> Result<()> {
    rows::execute_in(conn, "DELETE FROM TZ_REMOVALS WHERE REMOVAL_ID IN ", ids, "").await
}

/// Those of the locations that are in folders to be removed.
pub(crate) async fn removed(conn: &mut Connection, locations: &[String]) -> Result<Vec<String>> {
    let some: Option<i64> =
        query_scalar("SELECT REMOVAL_ID FROM TZ_REMOVALS LIMIT 1").fetch_optional(&mut *conn).await?;
    if some.is_none() || locations.is_empty() {
        return Ok(Vec::new());
    }
    let mut asked = Places::default();
    for location in locations {
        asked.add(location);
        places::above(location).iter().for_each(|folder| asked.add(folder));
    }
    let asked: Vec<String> = asked.0.iter().flat_map(|place| places::spellings(place)).collect();
    let found: Vec<(String,)> =
        rows::select_in(conn, "SELECT LOCATION FROM TZ_REMOVALS WHERE LOCATION IN ", &asked, "").await?;
    let mut going = Places::default();
    found.iter().for_each(|(folder,)| going.add(folder));
    Ok(locations.iter().filter(|location| going.hold(location)).cloned().collect())
}

/// Refuses to put something into a folder that is to be removed, or that a transaction notes at this moment.
pub(crate) async fn refuse(conn: &mut Connection, locations: &[String]) -> Result<()> {
    if locations.is_empty() {
        return Ok(());
    }
    share_removals(conn).await?;
    match removed(conn, locations).await?.first() {
        None => Ok(()),
        Some(location) => {
            let location = without_passwords(location);
            let message = format!("the files of what was dropped at '{location}' are not all removed yet");
            Err(Error::unavailable(message).with_hint("try again soon, or choose another location").into())
        }
    }
}

/// Keeps the folders in which nothing is and that are not in the folder of a table or partition but `parent`.
async fn retain_unused(conn: &mut Connection, folders: &mut Vec<String>, parent: Option<i64>) -> Result<()> {
    retain_empty(conn, folders).await?;
    let mut asked: BTreeSet<String> = BTreeSet::new();
    for folder in folders.iter().flat_map(|folder| places::above(folder)) {
        asked.extend(places::spellings(&folder).into_iter().flat_map(|folder| [format!("{folder}/"), folder]));
    }
    let asked: Vec<String> = asked.into_iter().collect();
    let found: Vec<(i64, String)> =
        rows::select_in(conn, "SELECT SD_ID, LOCATION FROM SDS WHERE LOCATION IN ", &asked, "").await?;
    let mut others = Places::default();
    found.iter().filter(|(id, _)| Some(*id) != parent).for_each(|(_, location)| others.add(location));
    folders.retain(|folder| !others.are_above(folder));
    Ok(())
}

/// Keeps the folders in which no database, table or partition is, in one look over all.
async fn retain_empty(conn: &mut Connection, folders: &mut Vec<String>) -> Result<()> {
    let mut others = Places::default();
    let locations: Vec<String> = query_scalar("SELECT DB_LOCATION_URI FROM DBS").fetch_all(&mut *conn).await?;
    locations.iter().for_each(|location| others.add(location));
    // Where Spark keeps the files of tables that Hive cannot read; their location says something else.
    let paths = "SELECT p.PARAM_VALUE FROM TBLS t JOIN SDS s ON s.SD_ID = t.SD_ID JOIN SERDE_PARAMS p ON p.SERDE_ID = s.SERDE_ID \
                 WHERE p.PARAM_KEY = 'path' AND p.PARAM_VALUE IS NOT NULL";
    let locations: Vec<String> = query_scalar(paths).fetch_all(&mut *conn).await?;
    locations.iter().for_each(|location| others.add(location));
    folders.retain(|folder| !others.are_in(folder));
    let used = storage::folders_in_use(conn, folders).await?;
    folders.retain(|folder| !used.contains(folder));
    Ok(())
}
