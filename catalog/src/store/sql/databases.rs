//! Databases: `DBS`, `DATABASE_PARAMS`, and what goes with a database when it is dropped.

use sqlx::{query, query_as, query_scalar};
use tereza_runtime::{Error, Result as PublicResult};

use super::super::dialect::for_update;
use super::ids::{self, Sequence};
use super::removals::{self, Places};
use super::{CATALOG, Connection, Result, parameters, partitions, tables};
use crate::model::{Database, PrincipalKind};
use crate::store::{names, places};

/// The database that always exists.
const DEFAULT: &str = "default";

/// All names, sorted.
pub(crate) async fn list(conn: &mut Connection) -> Result<Vec<String>> {
    let names = query_scalar("SELECT NAME FROM DBS WHERE CTLG_NAME = ? ORDER BY NAME");
    Ok(names.bind(CATALOG).fetch_all(conn).await?)
}

/// The id of a database; `NotFound` if there is none.
pub(crate) async fn find(conn: &mut Connection, name: &str) -> Result<i64> {
    match find_optional(conn, name).await? {
        Some(id) => Ok(id),
        None => Err(missing(name).into()),
    }
}

/// One database.
pub(crate) async fn load(conn: &mut Connection, name: &str) -> Result<Database> {
    type Row = (String, Option<String>, String, Option<String>, Option<String>);
    let id = find(conn, name).await?;
    let found: Option<Row> =
        query_as("SELECT NAME, `DESC`, DB_LOCATION_URI, OWNER_NAME, OWNER_TYPE FROM DBS WHERE DB_ID = ?")
            .bind(id)
            .fetch_optional(&mut *conn)
            .await?;
    // Another may have dropped it since.
    let Some((name, description, location, owner, owner_kind)) = found else { return Err(missing(name).into()) };
    let parameters = parameters::DATABASE.load(conn, &[id]).await?.remove(&id).unwrap_or_default();
    let owner_kind = PrincipalKind::parse(owner_kind.as_deref());
    Ok(Database { name, description, location, owner, owner_kind, parameters })
}

/// Makes a database.
pub(crate) async fn create(conn: &mut Connection, database: &Database) -> Result<()> {
    let name = names::new_name("database", &database.name, names::DATABASE_CHARS)?;
    check(database)?;
    if find_optional(conn, &name).await?.is_some() {
        return Err(Error::already_exists(format!("database '{name}' already exists")).into());
    }
    removals::refuse(conn, std::slice::from_ref(&database.location)).await?;
    let id = ids::take(conn, Sequence::Database, 1).await?;
    query(
        "INSERT INTO DBS (DB_ID, `DESC`, DB_LOCATION_URI, NAME, OWNER_NAME, OWNER_TYPE, CTLG_NAME) \
         VALUES (?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(id)
    .bind(&database.description)
    .bind(&database.location)
    .bind(&name)
    .bind(&database.owner)
    .bind(database.owner_kind.as_str())
    .bind(CATALOG)
    .execute(&mut *conn)
    .await?;
    parameters::DATABASE.insert(conn, &[(id, &database.parameters)]).await
}

/// Replaces everything of a database but its name.
pub(crate) async fn alter(conn: &mut Connection, name: &str, database: &Database) -> Result<()> {
    check(database)?;
    let id = find(conn, name).await?;
    if load(conn, name).await?.location != database.location {
        removals::refuse(conn, std::slice::from_ref(&database.location)).await?;
    }
    query("UPDATE DBS SET `DESC` = ?, DB_LOCATION_URI = ?, OWNER_NAME = ?, OWNER_TYPE = ? WHERE DB_ID = ?")
        .bind(&database.description)
        .bind(&database.location)
        .bind(&database.owner)
        .bind(database.owner_kind.as_str())
        .bind(id)
        .execute(&mut *conn)
        .await?;
    parameters::DATABASE.replace(conn, &[(id, &database.parameters)]).await
}

/// Drops a database, with `cascade` also its tables and functions.
pub(crate) async fn drop(conn: &mut Connection, name: &str, cascade: bool) -> Result<()> {
    let id = lock(conn, name).await?;
    if names::fold(name) == DEFAULT {
        return Err(Error::invalid_input("database 'default' always exists and cannot be dropped").into());
    }
    let tables = tables::list(conn, name).await?;
    let functions: i64 =
        query_scalar("SELECT COUNT(*) FROM FUNCS WHERE DB_ID = ?").bind(id).fetch_one(&mut *conn).await?;
    if !cascade && (!tables.is_empty() || functions > 0) {
        let message =
            format!("database '{name}' is not empty: it holds {} tables and {functions} functions", tables.len());
        return Err(Error::invalid_input(message).with_hint("drop them first, or drop it with CASCADE").into());
    }
    for (table, _) in tables {
        tables::drop(conn, name, &table).await?;
    }
    for delete in [
        "DELETE FROM FUNC_RU WHERE FUNC_ID IN (SELECT FUNC_ID FROM FUNCS WHERE DB_ID = ?)",
        "DELETE FROM FUNCS WHERE DB_ID = ?",
        "DELETE FROM DB_PRIVS WHERE DB_ID = ?",
        "DELETE FROM DATABASE_PARAMS WHERE DB_ID = ?",
        "DELETE FROM DBS WHERE DB_ID = ?",
    ] {
        query(delete).bind(id).execute(&mut *conn).await?;
    }
    Ok(())
}

/// Lets whoever makes something in a database wait from now on, and returns its id.
async fn lock(conn: &mut Connection, name: &str) -> Result<i64> {
    let found = find(conn, name).await?;
    let lock = query_scalar(for_update!("SELECT DB_ID FROM DBS WHERE DB_ID = ?"));
    let locked: Option<i64> = lock.bind(found).fetch_optional(conn).await?;
    locked.ok_or_else(|| missing(name).into())
}

/// [`drop`] that also notes what is to be removed: the folders of its tables that own their files, and its own.
pub(crate) async fn drop_with_files(
    conn: &mut Connection,
    name: &str,
    cascade: bool,
    now_ms: i64,
) -> Result<Vec<String>> {
    // What is read here is what is dropped: nobody changes it meanwhile.
    lock(conn, name).await?;
    let database = load(conn, name).await?;
    let mut folders = vec![database.location];
    let mut kept = Places::default();
    for (table, _) in tables::list(conn, name).await? {
        tables::find_to_change(conn, name, &table).await?;
        let (head, found) = tables::load(conn, name, &table).await?;
        let table = found.table;
        let Some(home) = table.storage.location.clone() else { continue };
        partitions::locations_outside(conn, head.id, &home).await?.iter().for_each(|location| kept.add(location));
        if table.owns_files() {
            folders.push(home);
        } else {
            kept.add(&home);
        }
    }
    drop(conn, name, cascade).await?;
    removals::note(conn, folders, &kept, None, now_ms).await
}

async fn find_optional(conn: &mut Connection, name: &str) -> Result<Option<i64>> {
    let id = query_scalar("SELECT DB_ID FROM DBS WHERE NAME = ? AND CTLG_NAME = ?");
    Ok(id.bind(names::fold(name)).bind(CATALOG).fetch_optional(conn).await?)
}

fn missing(name: &str) -> Error {
    Error::not_found(format!("database '{name}' does not exist"))
}

fn check(database: &Database) -> PublicResult<()> {
    places::check(Some(&database.location))?;
    names::check_chars("the location", &database.location, names::TEXT_CHARS)?;
    names::check_optional_chars("the description", database.description.as_ref(), names::TEXT_CHARS)?;
    names::check_optional_chars("the owner", database.owner.as_ref(), names::SHORT_TEXT_CHARS)
}
