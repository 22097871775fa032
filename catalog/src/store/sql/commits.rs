//! The commit point and the journal of commits, `TZ_COMMITS`.

use std::collections::BTreeMap;

use sqlx::{query, query_as};
use tereza_runtime::Error;

use super::partitions::Parent;
use super::tables::{self, Head};
use super::{Connection, Result, jobs, parameters, partitions, versions, writes};
use crate::model::{Parameters, TableKind};
use crate::store::{Commit, StagedFile, Write, names};

/// Makes a commit part of its table and returns the table's new version. One that is in the journal already is not made
/// again, so a writer that did not hear the answer may ask once more.
pub(crate) async fn commit(conn: &mut Connection, commit: &Commit, now_ms: i64) -> Result<i64> {
    if let Some(version) = journaled_version(conn, &commit.id).await? {
        return Ok(version);
    }
    writes::expect_open(conn, &commit.id).await?;
    if let Some(step) = &commit.step {
        jobs::do_step(conn, step, now_ms).await?;
    }
    let now_s = now_ms.div_euclid(1000);
    let created = match &commit.create_table {
        Some(table) => {
            let same_name = names::fold(&table.name) == names::fold(&commit.table)
                && names::fold(&table.database) == names::fold(&commit.database);
            if !same_name {
                return Err(Error::invalid_input(format!(
                    "the commit to table '{}.{}' would make table '{}.{}'",
                    commit.database, commit.table, table.database, table.name
                ))
                .into());
            }
            Some(tables::create(conn, table, now_s).await?)
        }
        None => None,
    };
    let head = tables::find_to_change(conn, &commit.database, &commit.table).await?;
    if created.is_none() {
        head.expect_table(commit.expected_table)?;
        head.expect_version(commit.expected_version)?;
    }
    change_partitions(conn, &head, commit, now_s).await?;
    change_table_parameters(conn, &head, commit).await?;
    let version = match created {
        Some((_, version)) => version,
        None => versions::bump(conn, head.id).await?,
    };
    let journaled =
        Commit { database: head.database().to_owned(), table: head.name().to_owned(), version, ..commit.clone() };
    enter(conn, head.id, &journaled, now_ms).await?;
    writes::end(conn, &commit.id).await?;
    Ok(version)
}

/// Puts a commit into the journal.
pub(crate) async fn enter(conn: &mut Connection, table_id: i64, journaled: &Commit, now_ms: i64) -> Result<()> {
    query(
        "INSERT INTO TZ_COMMITS (COMMIT_ID, TBL_ID, DB_NAME, TBL_NAME, VERSION, COMMITTED_MS, BODY) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&journaled.id)
    .bind(table_id)
    .bind(&journaled.database)
    .bind(&journaled.table)
    .bind(journaled.version)
    .bind(now_ms)
    .bind(writes::to_json(journaled)?)
    .execute(conn)
    .await?;
    Ok(())
}

/// Commits of a table that are not rolled forward, oldest first.
pub(crate) async fn pending_of(conn: &mut Connection, table_id: i64) -> Result<Vec<Commit>> {
    let rows = query_as::<_, Row>(
        "SELECT DB_NAME, TBL_NAME, BODY FROM TZ_COMMITS WHERE TBL_ID = ? AND FINISHED_MS IS NULL ORDER BY COMMIT_SEQ",
    );
    commits(rows.bind(table_id).fetch_all(conn).await?)
}

/// Commits of all tables that are not rolled forward, oldest first.
pub(crate) async fn pending(conn: &mut Connection) -> Result<Vec<Commit>> {
    let rows = query_as::<_, Row>(
        "SELECT DB_NAME, TBL_NAME, BODY FROM TZ_COMMITS WHERE FINISHED_MS IS NULL ORDER BY COMMIT_SEQ",
    );
    commits(rows.fetch_all(conn).await?)
}

/// Commits of a table above `version`, oldest first.
pub(crate) async fn since(conn: &mut Connection, table_id: i64, version: i64) -> Result<Vec<Commit>> {
    let rows = query_as::<_, Row>(
        "SELECT DB_NAME, TBL_NAME, BODY FROM TZ_COMMITS WHERE TBL_ID = ? AND VERSION > ? ORDER BY VERSION",
    );
    commits(rows.bind(table_id).bind(version).fetch_all(conn).await?)
}

/// Marks a commit as rolled forward.
pub(crate) async fn finish(conn: &mut Connection, commit_id: &str, now_ms: i64) -> Result<()> {
    query("UPDATE TZ_COMMITS SET FINISHED_MS = ? WHERE COMMIT_ID = ? AND FINISHED_MS IS NULL")
        .bind(now_ms)
        .bind(commit_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// Forgets commits that were finished before `before_ms`.
pub(crate) async fn forget(conn: &mut Connection, before_ms: i64) -> Result<u64> {
    let deleted = query("DELETE FROM TZ_COMMITS WHERE FINISHED_MS IS NOT NULL AND FINISHED_MS < ?")
        .bind(before_ms)
        .execute(conn)
        .await?;
    Ok(deleted.rows_affected())
}

/// Takes a table's journal along to its new name.
pub(crate) async fn rename_table(conn: &mut Connection, table_id: i64, database: &str, name: &str) -> Result<()> {
    query("UPDATE TZ_COMMITS SET DB_NAME = ?, TBL_NAME = ? WHERE TBL_ID = ?")
        .bind(database)
        .bind(name)
        .bind(table_id)
        .execute(conn)
        .await?;
    Ok(())
}

/// What becomes of the journal of a table that is dropped. The files of an external table outlive it, so what is committed
/// to it is still rolled forward. All others lose their files: what was staged for them is left to whoever cleans up.
pub(crate) async fn drop_table(conn: &mut Connection, table_id: i64, kind: TableKind) -> Result<()> {
    let pending = pending_of(conn, table_id).await?;
    query("DELETE FROM TZ_COMMITS WHERE TBL_ID = ? AND FINISHED_MS IS NOT NULL")
        .bind(table_id)
        .execute(&mut *conn)
        .await?;
    if kind == TableKind::External {
        return Ok(());
    }
    query("DELETE FROM TZ_COMMITS WHERE TBL_ID = ?").bind(table_id).execute(&mut *conn).await?;
    for Commit { id, database, table, add_files, remove_folders, .. } in pending {
        let folders = remove_folders.into_iter().map(|folder| StagedFile { target: folder.clone(), staged: folder });
        let staged = add_files.into_iter().chain(folders).collect();
        let write = Write { id, database, table, owner: String::new(), began_ms: 0, staged };
        writes::disown(conn, write).await?;
    }
    Ok(())
}

/// Drops and adds partitions, then sets and adds to the parameters of those named.
async fn change_partitions(conn: &mut Connection, head: &Head, commit: &Commit, now_s: i64) -> Result<()> {
    let untouched = commit.drop_partitions.is_empty()
        && commit.add_partitions.is_empty()
        && commit.partition_parameters.is_empty()
        && commit.partition_increments.is_empty();
    if untouched {
        return Ok(());
    }
    let parent = Parent::load(conn, head).await?;
    partitions::drop(conn, &parent, &commit.drop_partitions, true).await?;
    partitions::add(conn, &parent, &commit.add_partitions, true, now_s).await?;

    // By name, so that each partition is read and written once however often it is named.
    let mut changes: BTreeMap<String, Changes<'_>> = BTreeMap::new();
    for (values, set) in &commit.partition_parameters {
        changes.entry(parent.name_of(values)?).or_default().set.push(set);
    }
    for (values, increments) in &commit.partition_increments {
        changes.entry(parent.name_of(values)?).or_default().increments.extend(increments);
    }
    let changed_names: Vec<String> = changes.keys().cloned().collect();
    let rows = partitions::find(conn, parent.table_id, &changed_names).await?;
    let ids: Vec<i64> = rows.values().map(|row| row.id).collect();
    let mut current = parameters::PARTITION.load(conn, &ids).await?;
    let mut changed: Vec<(i64, Parameters)> = Vec::with_capacity(changes.len());
    for (name, change) in changes {
        let Some(row) = rows.get(&name) else {
            let message = format!("partition '{name}' of table '{}' was dropped meanwhile", head.full_name());
            return Err(Error::conflict(message).with_hint("run the statement again").into());
        };
        let mut parameters = current.remove(&row.id).unwrap_or_default();
        change.apply(&mut parameters);
        changed.push((row.id, parameters));
    }
    let owners: Vec<(i64, &Parameters)> = changed.iter().map(|(id, parameters)| (*id, parameters)).collect();
    parameters::PARTITION.replace(conn, &owners).await
}

async fn change_table_parameters(conn: &mut Connection, head: &Head, commit: &Commit) -> Result<()> {
    if commit.table_parameters.is_empty() && commit.table_increments.is_empty() {
        return Ok(());
    }
    let mut parameters = parameters::TABLE.load(conn, &[head.id]).await?.remove(&head.id).unwrap_or_default();
    let change = Changes { set: vec![&commit.table_parameters], increments: commit.table_increments.iter().collect() };
    change.apply(&mut parameters);
    parameters::TABLE.replace(conn, &[(head.id, &parameters)]).await
}

/// What a commit does to the parameters of one table or partition.
#[derive(Default)]
pub(crate) struct Changes<'a> {
    pub(crate) set: Vec<&'a Parameters>,
    pub(crate) increments: Vec<&'a (String, i64)>,
}

impl Changes<'_> {
    /// Sets first, then adds. An absent number counts as 0; one that is not known (negative, or no number) stays unknown.
    pub(crate) fn apply(self, parameters: &mut Parameters) {
        for set in self.set {
            parameters.extend(set.iter().map(|(key, value)| (key.clone(), value.clone())));
        }
        for (key, increment) in self.increments {
            let current = match parameters.get(key) {
                None => Some(0),
                Some(text) => text.parse::<i64>().ok().filter(|number| *number >= 0),
            };
            if let Some(current) = current {
                parameters.insert(key.clone(), current.saturating_add(*increment).max(0).to_string());
            }
        }
    }
}

type Row = (String, String, String);

/// Commits from their rows, under the names that their tables have today.
fn commits(rows: Vec<Row>) -> Result<Vec<Commit>> {
    rows.into_iter()
        .map(|(database, table, body)| {
            let commit: Commit = writes::from_json(&body)?;
            Ok(Commit { database, table, ..commit })
        })
        .collect()
}

pub(crate) async fn journaled_version(conn: &mut Connection, commit_id: &str) -> Result<Option<i64>> {
    let version = sqlx::query_scalar("SELECT VERSION FROM TZ_COMMITS WHERE COMMIT_ID = ?");
    Ok(version.bind(commit_id).fetch_optional(conn).await?)
}
