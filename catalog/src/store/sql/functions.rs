//! Functions: `FUNCS` and `FUNC_RU`.

use sqlx::{query, query_as, query_scalar};
use tereza_runtime::Error;

use super::ids::{self, Sequence};
use super::{Connection, Result, databases, rows};
use crate::model::Function;
use crate::store::names;

/// The metastore's number of the only kind of function (`FunctionType.JAVA`).
const JAVA: i32 = 1;

/// Names of all functions of a database, sorted.
pub(crate) async fn list(conn: &mut Connection, database: &str) -> Result<Vec<String>> {
    let id = databases::find(conn, database).await?;
    let names = query_scalar("SELECT FUNC_NAME FROM FUNCS WHERE DB_ID = ? ORDER BY FUNC_NAME");
    Ok(names.bind(id).fetch_all(conn).await?)
}

/// One function.
pub(crate) async fn load(conn: &mut Connection, database: &str, name: &str) -> Result<Function> {
    type Row = (String, Option<String>, Option<String>, i64);
    let id = find(conn, database, name).await?;
    let found: Option<Row> =
        query_as("SELECT FUNC_NAME, CLASS_NAME, OWNER_NAME, CREATE_TIME FROM FUNCS WHERE FUNC_ID = ?")
            .bind(id)
            .fetch_optional(&mut *conn)
            .await?;
    // Another may have dropped it since.
    let Some((name, class_name, owner, create_time_s)) = found else { return Err(missing(database, name).into()) };
    let resources: Vec<(i32, Option<String>)> =
        query_as("SELECT RESOURCE_TYPE, RESOURCE_URI FROM FUNC_RU WHERE FUNC_ID = ? ORDER BY INTEGER_IDX")
            .bind(id)
            .fetch_all(conn)
            .await?;
    let resources = resources.into_iter().map(|(kind, url)| (kind, url.unwrap_or_default())).collect();
    Ok(Function { database: names::fold(database), name, class_name, owner, create_time_s, resources })
}

/// Makes a function.
pub(crate) async fn create(conn: &mut Connection, function: &Function, now_s: i64) -> Result<()> {
    let name = check(function)?;
    let database_id = databases::find(conn, &function.database).await?;
    refuse_taken_name(conn, database_id, &function.database, &name).await?;
    let id = ids::take(conn, Sequence::Function, 1).await?;
    query(
        "INSERT INTO FUNCS (FUNC_ID, CLASS_NAME, CREATE_TIME, DB_ID, FUNC_NAME, FUNC_TYPE, OWNER_NAME, OWNER_TYPE) \
         VALUES (?, ?, ?, ?, ?, ?, ?, 'USER')",
    )
    .bind(id)
    .bind(&function.class_name)
    .bind(now_s)
    .bind(database_id)
    .bind(&name)
    .bind(JAVA)
    .bind(&function.owner)
    .execute(&mut *conn)
    .await?;
    insert_resources(conn, id, &function.resources).await
}

/// Replaces a function, also its name or database.
pub(crate) async fn alter(conn: &mut Connection, database: &str, name: &str, function: &Function) -> Result<()> {
    let id = find(conn, database, name).await?;
    let new_name = check(function)?;
    let database_id = databases::find(conn, &function.database).await?;
    if new_name != names::fold(name) || names::fold(&function.database) != names::fold(database) {
        refuse_taken_name(conn, database_id, &function.database, &new_name).await?;
    }
    query("UPDATE FUNCS SET DB_ID = ?, FUNC_NAME = ?, CLASS_NAME = ?, OWNER_NAME = ? WHERE FUNC_ID = ?")
        .bind(database_id)
        .bind(&new_name)
        .bind(&function.class_name)
        .bind(&function.owner)
        .bind(id)
        .execute(&mut *conn)
        .await?;
    query("DELETE FROM FUNC_RU WHERE FUNC_ID = ?").bind(id).execute(&mut *conn).await?;
    insert_resources(conn, id, &function.resources).await
}

/// Drops a function.
pub(crate) async fn drop(conn: &mut Connection, database: &str, name: &str) -> Result<()> {
    let id = find(conn, database, name).await?;
    for delete in ["DELETE FROM FUNC_RU WHERE FUNC_ID = ?", "DELETE FROM FUNCS WHERE FUNC_ID = ?"] {
        query(delete).bind(id).execute(&mut *conn).await?;
    }
    Ok(())
}

async fn find(conn: &mut Connection, database: &str, name: &str) -> Result<i64> {
    let database_id = databases::find(conn, database).await?;
    match find_optional(conn, database_id, name).await? {
        Some(id) => Ok(id),
        None => Err(missing(database, name).into()),
    }
}

fn missing(database: &str, name: &str) -> Error {
    Error::not_found(format!("function '{database}.{name}' does not exist"))
}

async fn find_optional(conn: &mut Connection, database_id: i64, name: &str) -> Result<Option<i64>> {
    let id = query_scalar("SELECT FUNC_ID FROM FUNCS WHERE DB_ID = ? AND FUNC_NAME = ?");
    Ok(id.bind(database_id).bind(names::fold(name)).fetch_optional(conn).await?)
}

async fn refuse_taken_name(conn: &mut Connection, database_id: i64, database: &str, name: &str) -> Result<()> {
    match find_optional(conn, database_id, name).await? {
        None => Ok(()),
        Some(_) => Err(Error::already_exists(format!("function '{database}.{name}' already exists")).into()),
    }
}

async fn insert_resources(conn: &mut Connection, id: i64, resources: &[(i32, String)]) -> Result<()> {
    let numbered: Vec<(i32, &(i32, String))> = (0..).zip(resources).collect();
    let into = "INSERT INTO FUNC_RU (FUNC_ID, INTEGER_IDX, RESOURCE_TYPE, RESOURCE_URI) ";
    rows::insert(conn, into, 4, &numbered, |values, (at, (kind, url))| {
        values.push_bind(id).push_bind(*at).push_bind(*kind).push_bind(url.as_str());
    })
    .await
}

/// The name as it is kept.
fn check(function: &Function) -> tereza_runtime::Result<String> {
    names::check_optional_chars("the class of a function", function.class_name.as_ref(), names::TEXT_CHARS)?;
    names::check_optional_chars("the owner", function.owner.as_ref(), names::SHORT_TEXT_CHARS)?;
    for (_, url) in &function.resources {
        names::check_chars("the URL of a function's file", url, names::TEXT_CHARS)?;
    }
    names::new_name("function", &function.name, names::SHORT_TEXT_CHARS)
}
