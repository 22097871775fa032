//! Ids of rows, from `SEQUENCE_TABLE` as every metastore on the database takes them: `NEXT_VAL` is the next free id, a
//! block is taken by moving it on, and nobody gives one back. In which transaction that is done is the dialect's.

use super::super::dialect::take_ids;
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
    Role,
    RoleGrant,
    GlobalPrivilege,
    DatabasePrivilege,
    TablePrivilege,
    ColumnPrivilege,
    PartitionPrivilege,
    PartitionColumnPrivilege,
    StringList,
}

impl Sequence {
    /// The Java class that names the sequence, the table that holds the ids, and its column.
    const fn parts(self) -> (&'static str, &'static str, &'static str) {
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
            Self::Role => ("MRole", "ROLES", "ROLE_ID"),
            Self::RoleGrant => ("MRoleMap", "ROLE_MAP", "ROLE_GRANT_ID"),
            Self::GlobalPrivilege => ("MGlobalPrivilege", "GLOBAL_PRIVS", "USER_GRANT_ID"),
            Self::DatabasePrivilege => ("MDBPrivilege", "DB_PRIVS", "DB_GRANT_ID"),
            Self::TablePrivilege => ("MTablePrivilege", "TBL_PRIVS", "TBL_GRANT_ID"),
            Self::ColumnPrivilege => ("MTableColumnPrivilege", "TBL_COL_PRIVS", "TBL_COLUMN_GRANT_ID"),
            Self::PartitionPrivilege => ("MPartitionPrivilege", "PART_PRIVS", "PART_GRANT_ID"),
            Self::PartitionColumnPrivilege => ("MPartitionColumnPrivilege", "PART_COL_PRIVS", "PART_COLUMN_GRANT_ID"),
            Self::StringList => ("MStringList", "SKEWED_STRING_LIST", "STRING_LIST_ID"),
        }
    }

    /// The name in `SEQUENCE_TABLE`.
    pub(crate) fn name(self) -> String {
        format!("org.apache.hadoop.hive.metastore.model.{}", self.parts().0)
    }

    /// The table that holds the ids, and its column.
    pub(crate) const fn place(self) -> (&'static str, &'static str) {
        let (_, table, column) = self.parts();
        (table, column)
    }
}

/// Takes `count` ids in a row and returns the first.
pub(crate) async fn take(conn: &mut Connection, sequence: Sequence, count: usize) -> Result<i64> {
    take_ids(conn, sequence, i64::try_from(count).unwrap_or(i64::MAX)).await
}
