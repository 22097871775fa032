//! Column statistics: `TAB_COL_STATS` and `PART_COL_STATS`, which differ only in what they belong to.

use std::collections::{HashMap, HashSet};

use sqlx::{AssertSqlSafe, query, query_as};
use tereza_runtime::Error;

use super::ids::{self, Sequence};
use super::tables::{self, Head};
use super::{CATALOG, Connection, Result, rows};
use crate::model::{Column, ColumnStatistics, Range};
use crate::store::names;

/// Characters of a column's type that the statistics tables keep; the rest of a longer one is cut off.
const TYPE_CHARS: usize = 128;

/// What statistics belong to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Owner<'a> {
    /// The whole table.
    Table,
    /// One partition: its id and name.
    Partition(i64, &'a str),
}

type Ranges = (Option<i64>, Option<i64>, Option<f64>, Option<f64>, Option<String>, Option<String>);

fn range_of(ranges: Ranges) -> Range {
    match ranges {
        (Some(low), Some(high), ..) => Range::Long { low, high },
        (_, _, Some(low), Some(high), ..) => Range::Double { low, high },
        (_, _, _, _, Some(low), Some(high)) => Range::Decimal { low, high },
        _ => Range::None,
    }
}

/// The statistics of a table or partition, sorted by column.
pub(crate) async fn load(conn: &mut Connection, head: &Head, owner: Owner<'_>) -> Result<Vec<ColumnStatistics>> {
    type Counts = (i64, Option<i64>, Option<f64>, Option<i64>, Option<i64>, Option<i64>, i64);
    let (table, column, id) = owner.place(head);
    // Safe: table and column are constants of this module.
    let select = |columns: &str| {
        AssertSqlSafe(format!("SELECT {columns} FROM {table} WHERE {column} = ? ORDER BY COLUMN_NAME, CS_ID"))
    };
    let names: Vec<(String, String)> =
        query_as(select("COLUMN_NAME, COLUMN_TYPE")).bind(id).fetch_all(&mut *conn).await?;
    let ranges: Vec<Ranges> = query_as(select(
        "LONG_LOW_VALUE, LONG_HIGH_VALUE, DOUBLE_LOW_VALUE, DOUBLE_HIGH_VALUE, BIG_DECIMAL_LOW_VALUE, BIG_DECIMAL_HIGH_VALUE",
    ))
    .bind(id)
    .fetch_all(&mut *conn)
    .await?;
    let counts: Vec<Counts> =
        query_as(select("NUM_NULLS, NUM_DISTINCTS, AVG_COL_LEN, MAX_COL_LEN, NUM_TRUES, NUM_FALSES, LAST_ANALYZED"))
            .bind(id)
            .fetch_all(&mut *conn)
            .await?;
    let mut statistics = Vec::with_capacity(names.len());
    for (((column, type_name), range), counts) in names.into_iter().zip(ranges).zip(counts) {
        let (num_nulls, num_distincts, avg_length, max_length, num_trues, num_falses, last_analyzed_s) = counts;
        let range = range_of(range);
        statistics.push(ColumnStatistics {
            column,
            type_name,
            num_nulls,
            num_distincts,
            range,
            avg_length,
            max_length,
            num_trues,
            num_falses,
            last_analyzed_s,
        });
    }
    Ok(statistics)
}

/// The statistics of some partitions, sorted by column, by the partitions' ids.
pub(crate) async fn load_of_partitions(
    conn: &mut Connection,
    ids: &[i64],
) -> Result<HashMap<i64, Vec<ColumnStatistics>>> {
    type Row = (
        i64,
        String,
        String,
        Option<i64>,
        Option<i64>,
        Option<f64>,
        Option<f64>,
        Option<String>,
        Option<String>,
        i64,
        Option<i64>,
        Option<f64>,
        Option<i64>,
        Option<i64>,
        Option<i64>,
        i64,
    );
    let select = "SELECT PART_ID, COLUMN_NAME, COLUMN_TYPE, LONG_LOW_VALUE, LONG_HIGH_VALUE, DOUBLE_LOW_VALUE, \
                  DOUBLE_HIGH_VALUE, BIG_DECIMAL_LOW_VALUE, BIG_DECIMAL_HIGH_VALUE, NUM_NULLS, NUM_DISTINCTS, AVG_COL_LEN, \
                  MAX_COL_LEN, NUM_TRUES, NUM_FALSES, LAST_ANALYZED FROM PART_COL_STATS WHERE PART_ID IN ";
    let found: Vec<Row> = rows::select_in(conn, select, ids, " ORDER BY PART_ID, COLUMN_NAME, CS_ID").await?;
    let mut statistics: HashMap<i64, Vec<ColumnStatistics>> = HashMap::new();
    for row in found {
        let (id, column, type_name, long, long_high, double, double_high, decimal, decimal_high, num_nulls, ..) = row;
        let (.., num_distincts, avg_length, max_length, num_trues, num_falses, last_analyzed_s) = row;
        statistics.entry(id).or_default().push(ColumnStatistics {
            column,
            type_name,
            num_nulls,
            num_distincts,
            range: range_of((long, long_high, double, double_high, decimal, decimal_high)),
            avg_length,
            max_length,
            num_trues,
            num_falses,
            last_analyzed_s,
        });
    }
    Ok(statistics)
}

/// Sets the statistics of some columns; other columns' stay.
pub(crate) async fn set(
    conn: &mut Connection,
    head: &Head,
    owner: Owner<'_>,
    statistics: &[ColumnStatistics],
    now_s: i64,
) -> Result<()> {
    let columns = tables::load_storage(conn, head).await?.storage.columns;
    let known: HashSet<&str> = columns.iter().map(|column| column.name.as_str()).collect();
    let mut named: Vec<(String, &ColumnStatistics)> = Vec::with_capacity(statistics.len());
    let mut seen = HashSet::with_capacity(statistics.len());
    for column in statistics {
        let name = names::fold(&column.column);
        if !known.contains(name.as_str()) {
            return Err(
                Error::not_found(format!("column '{name}' of table '{}' does not exist", head.full_name())).into()
            );
        }
        if !seen.insert(name.clone()) {
            return Err(Error::invalid_input(format!("the statistics of column '{name}' are there twice")).into());
        }
        named.push((name, column));
    }
    let (table, owner_column, owner_id) = owner.place(head);
    let column_names: Vec<&str> = named.iter().map(|(name, _)| name.as_str()).collect();
    let delete = format!("DELETE FROM {table} WHERE {owner_column} = ");
    rows::execute_in_of(conn, &delete, owner_id, " AND COLUMN_NAME IN ", &column_names).await?;

    let sequence = match owner {
        Owner::Table => Sequence::TableStatistics,
        Owner::Partition(..) => Sequence::PartitionStatistics,
    };
    let first_id = ids::take(conn, sequence, named.len()).await?;
    let numbered: Vec<(i64, &str, &ColumnStatistics)> =
        (first_id..).zip(&named).map(|(id, (name, column))| (id, name.as_str(), *column)).collect();
    let (partition_column, partition_name, columns) = match owner {
        Owner::Table => ("", None, 20),
        Owner::Partition(_, name) => ("PARTITION_NAME, ", Some(name), 21),
    };
    let into = format!(
        "INSERT INTO {table} (CS_ID, CAT_NAME, DB_NAME, TABLE_NAME, {partition_column}COLUMN_NAME, COLUMN_TYPE, {owner_column}, \
         LONG_LOW_VALUE, LONG_HIGH_VALUE, DOUBLE_LOW_VALUE, DOUBLE_HIGH_VALUE, BIG_DECIMAL_LOW_VALUE, BIG_DECIMAL_HIGH_VALUE, \
         NUM_NULLS, NUM_DISTINCTS, AVG_COL_LEN, MAX_COL_LEN, NUM_TRUES, NUM_FALSES, LAST_ANALYZED) "
    );
    rows::insert(conn, &into, columns, &numbered, |values, (id, name, column)| {
        let (long, double, decimal) = match &column.range {
            Range::None => (None, None, None),
            Range::Long { low, high } => (Some((*low, *high)), None, None),
            Range::Double { low, high } => (None, Some((*low, *high)), None),
            Range::Decimal { low, high } => (None, None, Some((low.as_str(), high.as_str()))),
        };
        values.push_bind(*id).push_bind(CATALOG).push_bind(head.database()).push_bind(head.name());
        if let Some(partition) = partition_name {
            values.push_bind(partition);
        }
        values
            .push_bind(*name)
            .push_bind(cut_type(&column.type_name))
            .push_bind(owner_id)
            .push_bind(long.map(|(low, _)| low))
            .push_bind(long.map(|(_, high)| high))
            .push_bind(double.map(|(low, _)| low))
            .push_bind(double.map(|(_, high)| high))
            .push_bind(decimal.map(|(low, _)| low))
            .push_bind(decimal.map(|(_, high)| high))
            .push_bind(column.num_nulls)
            .push_bind(column.num_distincts)
            .push_bind(column.avg_length)
            .push_bind(column.max_length)
            .push_bind(column.num_trues)
            .push_bind(column.num_falses)
            .push_bind(now_s);
    })
    .await
}

/// Forgets the statistics of one column, or of all, and returns how many there were.
pub(crate) async fn delete(conn: &mut Connection, head: &Head, owner: Owner<'_>, column: Option<&str>) -> Result<u64> {
    let (table, owner_column, owner_id) = owner.place(head);
    let mut delete = sqlx::QueryBuilder::new(format!("DELETE FROM {table} WHERE {owner_column} = "));
    delete.push_bind(owner_id);
    if let Some(column) = column {
        delete.push(" AND COLUMN_NAME = ").push_bind(names::fold(column));
    }
    Ok(delete.build().execute(conn).await?.rows_affected())
}

/// Removes a table's statistics of columns that it no longer has, or that have another type now.
pub(crate) async fn keep_columns(conn: &mut Connection, table_id: i64, columns: &[Column]) -> Result<()> {
    let known: Vec<(i64, String, String)> =
        query_as("SELECT CS_ID, COLUMN_NAME, COLUMN_TYPE FROM TAB_COL_STATS WHERE TBL_ID = ?")
            .bind(table_id)
            .fetch_all(&mut *conn)
            .await?;
    let types: HashMap<&str, &str> =
        columns.iter().map(|column| (column.name.as_str(), cut_type(&column.type_name))).collect();
    let fits = |name: &str, type_name: &str| types.get(name) == Some(&type_name);
    let stale: Vec<i64> =
        known.iter().filter(|(_, name, type_name)| !fits(name, type_name)).map(|(id, ..)| *id).collect();
    rows::execute_in(conn, "DELETE FROM TAB_COL_STATS WHERE CS_ID IN ", &stale, "").await
}

/// Writes a table's new name into its statistics and those of its partitions.
pub(crate) async fn rename_table(conn: &mut Connection, table_id: i64, database: &str, name: &str) -> Result<()> {
    for update in [
        "UPDATE TAB_COL_STATS SET DB_NAME = ?, TABLE_NAME = ? WHERE TBL_ID = ?",
        "UPDATE PART_COL_STATS SET DB_NAME = ?, TABLE_NAME = ? \
         WHERE PART_ID IN (SELECT PART_ID FROM PARTITIONS WHERE TBL_ID = ?)",
    ] {
        query(update).bind(database).bind(name).bind(table_id).execute(&mut *conn).await?;
    }
    Ok(())
}

impl Owner<'_> {
    /// The table that holds the statistics, its column that says whose they are, and the owner's id.
    fn place(self, head: &Head) -> (&'static str, &'static str, i64) {
        match self {
            Self::Table => ("TAB_COL_STATS", "TBL_ID", head.id),
            Self::Partition(id, _) => ("PART_COL_STATS", "PART_ID", id),
        }
    }
}

fn cut_type(type_name: &str) -> &str {
    type_name.char_indices().nth(TYPE_CHARS).map_or(type_name, |(end, _)| &type_name[..end])
}
