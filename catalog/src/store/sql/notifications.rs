//! The log of changes that other systems read: `NOTIFICATION_LOG` and `NOTIFICATION_SEQUENCE`.
//!
//! A metastore's listener writes it, where one is set up; Tereza only reads it.

use sqlx::{QueryBuilder, query_as, query_scalar};

use super::{CATALOG, Connection, Db, Result};
use crate::store::{Notification, NotificationFilter};

/// The id of the last one; 0 if there was none.
pub(crate) async fn last(conn: &mut Connection) -> Result<i64> {
    let next: Option<i64> =
        query_scalar("SELECT MAX(NEXT_EVENT_ID) FROM NOTIFICATION_SEQUENCE").fetch_one(conn).await?;
    Ok(next.map_or(0, |next| next - 1))
}

/// Those after an id, oldest first, at most `limit`.
pub(crate) async fn after(conn: &mut Connection, id: i64, limit: usize) -> Result<Vec<Notification>> {
    type Text = Option<String>;
    type Row = (i64, i64, String, Text, Text, Text, Text, Text);
    let select = "SELECT EVENT_ID, EVENT_TIME, EVENT_TYPE, CAT_NAME, DB_NAME, TBL_NAME, MESSAGE, MESSAGE_FORMAT \
                  FROM NOTIFICATION_LOG WHERE EVENT_ID > ? ORDER BY EVENT_ID LIMIT ?";
    let found: Vec<Row> =
        query_as(select).bind(id).bind(i64::try_from(limit).unwrap_or(i64::MAX)).fetch_all(conn).await?;
    let notification = |(id, time_s, kind, catalog, database, table, message, format)| Notification {
        id,
        time_s,
        kind,
        catalog,
        database,
        table,
        message: Option::<String>::unwrap_or_default(message),
        format,
    };
    Ok(found.into_iter().map(notification).collect())
}

/// How many there are that a filter lets through.
pub(crate) async fn count(conn: &mut Connection, filter: &NotificationFilter) -> Result<i64> {
    let mut statement = QueryBuilder::<Db>::new("SELECT COUNT(*) FROM NOTIFICATION_LOG WHERE EVENT_ID > ");
    statement.push_bind(filter.after);
    if let Some(until) = filter.until {
        statement.push(" AND EVENT_ID <= ").push_bind(until);
    }
    // Names are there as clients wrote them.
    statement.push(" AND LOWER(DB_NAME) = ").push_bind(filter.database.to_lowercase());
    statement.push(" AND (CAT_NAME IS NULL OR LOWER(CAT_NAME) = ").push_bind(CATALOG).push(")");
    if !filter.tables.is_empty() {
        let mut names = statement.push(" AND LOWER(TBL_NAME) IN (").separated(", ");
        for table in &filter.tables {
            names.push_bind(table.to_lowercase());
        }
        names.push_unseparated(")");
    }
    Ok(statement.build_query_scalar().fetch_one(conn).await?)
}
