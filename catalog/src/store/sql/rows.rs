//! Statements over many rows at once: a bounded number of rows or ids per statement, so that 10^5 partitions cost some
//! hundreds of statements instead of millions.
//!
//! The number of rows or ids in a statement is a power of two, so that there are few texts and each stays prepared. A
//! statement that is prepared for one use costs more than it does: in MySQL it is closed by a packet without an answer,
//! and what is sent after such a packet waits until the kernel acknowledges it, which takes 40 ms.

use sqlx::query_builder::Separated;
use sqlx::{Encode, FromRow, QueryBuilder, Type};

use super::{Connection, Db, Result};

/// Ids or names in one `IN (…)` list.
pub(crate) const LIST_LEN: usize = 512;
/// Bound values in one `INSERT`.
const VALUES_PER_INSERT: usize = 4_000;

/// Inserts `rows`; `into` is `INSERT INTO T (A, B) ` with `columns` columns, and `bind` pushes one row's values.
pub(crate) async fn insert<T>(
    conn: &mut Connection,
    into: &str,
    columns: usize,
    rows: &[T],
    bind: impl Fn(&mut Separated<'_, Db, &'static str>, &T),
) -> Result<()> {
    let rows_per_insert = (VALUES_PER_INSERT / columns).max(1);
    let mut rest = rows;
    while let Some(len) = rest.len().min(rows_per_insert).checked_ilog2().map(|log| 1 << log) {
        let (chunk, others) = rest.split_at(len);
        let mut statement = QueryBuilder::<Db>::new(into);
        statement.push_values(chunk, |mut values, row| bind(&mut values, row));
        statement.build().execute(&mut *conn).await?;
        rest = others;
    }
    Ok(())
}

/// All rows of `select list`, where `select` ends in `… IN ` and each chunk of `list` takes the place of the list.
/// `tail` follows it (`ORDER BY …`, which holds within a chunk).
pub(crate) async fn select_in<'q, T, V>(conn: &mut Connection, select: &str, list: &[V], tail: &str) -> Result<Vec<T>>
where
    T: for<'r> FromRow<'r, <Db as sqlx::Database>::Row> + Send + Unpin,
    V: Clone + Encode<'q, Db> + Type<Db>,
{
    let mut rows = Vec::new();
    for chunk in list.chunks(LIST_LEN) {
        let mut statement = QueryBuilder::<Db>::new(select);
        push_list(&mut statement, chunk);
        statement.push(tail);
        rows.extend(statement.build_query_as::<T>().fetch_all(&mut *conn).await?);
    }
    Ok(rows)
}

/// Runs `statement list` for each chunk of `list`, where `statement` ends in `… IN `.
pub(crate) async fn execute_in<'q, V>(conn: &mut Connection, statement: &str, list: &[V], tail: &str) -> Result<()>
where
    V: Clone + Encode<'q, Db> + Type<Db>,
{
    for chunk in list.chunks(LIST_LEN) {
        let mut builder = QueryBuilder::<Db>::new(statement);
        push_list(&mut builder, chunk);
        builder.push(tail);
        builder.build().execute(&mut *conn).await?;
    }
    Ok(())
}

/// [`select_in`] of what belongs to `owner`, whose id comes between `select` and `and`: a text with the id in it would be
/// another one each time.
pub(crate) async fn select_in_of<'q, T, V>(
    conn: &mut Connection,
    select: &str,
    owner: i64,
    and: &str,
    list: &[V],
) -> Result<Vec<T>>
where
    T: for<'r> FromRow<'r, <Db as sqlx::Database>::Row> + Send + Unpin,
    V: Clone + Encode<'q, Db> + Type<Db>,
{
    let mut rows = Vec::new();
    for chunk in list.chunks(LIST_LEN) {
        let mut statement = QueryBuilder::<Db>::new(select);
        statement.push_bind(owner).push(and);
        push_list(&mut statement, chunk);
        rows.extend(statement.build_query_as::<T>().fetch_all(&mut *conn).await?);
    }
    Ok(rows)
}

/// [`execute_in`] on what belongs to `owner`.
pub(crate) async fn execute_in_of<'q, V>(
    conn: &mut Connection,
    statement: &str,
    owner: i64,
    and: &str,
    list: &[V],
) -> Result<()>
where
    V: Clone + Encode<'q, Db> + Type<Db>,
{
    for chunk in list.chunks(LIST_LEN) {
        let mut builder = QueryBuilder::<Db>::new(statement);
        builder.push_bind(owner).push(and);
        push_list(&mut builder, chunk);
        builder.build().execute(&mut *conn).await?;
    }
    Ok(())
}

/// Pushes `(?, ?, …)`, with the last value as often as it takes to make a power of two.
pub(crate) fn push_list<'q, V>(statement: &mut QueryBuilder<Db>, list: &[V])
where
    V: Clone + Encode<'q, Db> + Type<Db>,
{
    let mut values = statement.push("(").separated(", ");
    for at in 0..list.len().next_power_of_two() {
        if let Some(value) = list.get(at).or(list.last()) {
            values.push_bind(value.clone());
        }
    }
    values.push_unseparated(")");
}
