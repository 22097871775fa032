//! Ids of rows, from `SEQUENCE_TABLE` as every metastore on the database takes them: `NEXT_VAL` is the next free id, a block
//! is taken by moving it on, and nothing is ever given back by anybody but a transaction that did not happen.

use sqlx::{AssertSqlSafe, query, query_scalar};

use super::{Connection, Result};

/// Something that has ids.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Sequence {
    Database,
    Table,
    Storage,
    Serde,
    ColumnList,
    Partition,
    TableStatistics,
    PartitionStatistics,
    Function,
}

impl Sequence {
    /// The Java class that names the sequence, the table that holds the ids, and its column.
    const fn place(self) -> (&'static str, &'static str, &'static str) {
        match self {
            Self::Database => ("MDatabase", "DBS", "DB_ID"),
            Self::Table => ("MTable", "TBLS", "TBL_ID"),
            Self::Storage => ("MStorageDescriptor", "SDS", "SD_ID"),
            Self::Serde => ("MSerDeInfo", "SERDES", "SERDE_ID"),
            Self::ColumnList => ("MColumnDescriptor", "CDS", "CD_ID"),
            Self::Partition => ("MPartition", "PARTITIONS", "PART_ID"),
            Self::TableStatistics => ("MTableColumnStatistics", "TAB_COL_STATS", "CS_ID"),
            Self::PartitionStatistics => ("MPartitionColumnStatistics", "PART_COL_STATS", "CS_ID"),
            Self::Function => ("MFunction", "FUNCS", "FUNC_ID"),
        }
    }
}

/// Takes `count` ids in a row and returns the first.
pub(crate) async fn take(conn: &mut Connection, sequence: Sequence, count: usize) -> Result<i64> {
    let (class, table, column) = sequence.place();
    let name = format!("org.apache.hadoop.hive.metastore.model.{class}");
    let count = i64::try_from(count).unwrap_or(i64::MAX);
    let next: Option<i64> = query_scalar("SELECT NEXT_VAL FROM SEQUENCE_TABLE WHERE SEQUENCE_NAME = ?")
        .bind(&name)
        .fetch_optional(&mut *conn)
        .await?;
    if let Some(first) = next {
        query("UPDATE SEQUENCE_TABLE SET NEXT_VAL = NEXT_VAL + ? WHERE SEQUENCE_NAME = ?")
            .bind(count)
            .bind(&name)
            .execute(conn)
            .await?;
        return Ok(first);
    }
    // Safe: both names are the constants above.
    let greatest: Option<i64> =
        query_scalar(AssertSqlSafe(format!("SELECT MAX({column}) FROM {table}"))).fetch_one(&mut *conn).await?;
    let first = greatest.unwrap_or(0) + 1;
    query("INSERT INTO SEQUENCE_TABLE (SEQUENCE_NAME, NEXT_VAL) VALUES (?, ?)")
        .bind(&name)
        .bind(first + count)
        .execute(conn)
        .await?;
    Ok(first)
}
