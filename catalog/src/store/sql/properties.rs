//! What a metastore says of itself: `METASTORE_DB_PROPERTIES`.

use sqlx::{query, query_scalar};
use tereza_runtime::ids;

use super::super::dialect::for_update;
use super::{Connection, Result};

/// The key of the catalog's own id.
const ID: &str = "guid";

/// The id of the catalog, which it gets the first time that somebody asks and keeps.
pub(crate) async fn id(conn: &mut Connection) -> Result<String> {
    let select = for_update!("SELECT PROPERTY_VALUE FROM METASTORE_DB_PROPERTIES WHERE PROPERTY_KEY = ?");
    let known: Option<String> = query_scalar(select).bind(ID).fetch_optional(&mut *conn).await?;
    if let Some(known) = known {
        return Ok(known);
    }
    let id = ids::new_id();
    query("INSERT INTO METASTORE_DB_PROPERTIES (PROPERTY_KEY, PROPERTY_VALUE, DESCRIPTION) VALUES (?, ?, ?)")
        .bind(ID)
        .bind(&id)
        .bind("The id of the catalog")
        .execute(conn)
        .await?;
    Ok(id)
}
