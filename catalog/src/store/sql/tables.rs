//! Tables and views: `TBLS`, `TABLE_PARAMS`, `PARTITION_KEYS`, and what goes with a table when it is dropped.

use std::collections::HashMap;

use sqlx::{AssertSqlSafe, query, query_as, query_scalar};
use tereza_runtime::{Error, Result as PublicResult};

use super::super::dialect::lock_table;
use super::ids::{self, Sequence};
use super::parameters::LAST_DDL_TIME;
use super::removals::{self, Places};
use super::{
    CATALOG, Connection, Result, commits, constraints, databases, parameters, partitions, rows, statistics, storage,
    versions,
};
use crate::model::{Column, Parameters, PrincipalKind, Storage, Table, TableKind};
use crate::store::{VersionedTable, names};

/// A table's row, without what other tables hold of it.
pub(crate) struct Head {
    pub(crate) id: i64,
    pub(crate) storage: i64,
    pub(crate) version: i64,
    /// The table without storage, partition keys and parameters.
    bare: Table,
}

impl Head {
    /// `database.table`, for messages.
    pub(crate) fn full_name(&self) -> String {
        format!("{}.{}", self.bare.database, self.bare.name)
    }

    /// The lower-case name of the database.
    pub(crate) fn database(&self) -> &str {
        &self.bare.database
    }

    /// The lower-case name of the table.
    pub(crate) fn name(&self) -> &str {
        &self.bare.name
    }

    /// `Conflict` unless it is the table that the caller saw.
    pub(crate) fn expect_table(&self, expected: Option<i64>) -> PublicResult<()> {
        match expected {
            Some(expected) if expected != self.id => {
                Err(Error::conflict(format!("table '{}' was dropped and made again meanwhile", self.full_name()))
                    .with_hint("read it again and retry"))
            }
            _ => Ok(()),
        }
    }

    /// `Conflict` unless the table still has the version that the caller saw.
    pub(crate) fn expect_version(&self, expected: Option<i64>) -> PublicResult<()> {
        match expected {
            Some(expected) if expected != self.version => Err(Error::conflict(format!(
                "table '{}' was changed meanwhile: expected version {expected}, found {}",
                self.full_name(),
                self.version
            ))
            .with_hint("read it again and retry")),
            _ => Ok(()),
        }
    }
}

/// Names and kinds of all tables of a database, sorted by name.
pub(crate) async fn list(conn: &mut Connection, database: &str) -> Result<Vec<(String, TableKind)>> {
    let id = databases::find(conn, database).await?;
    let found: Vec<(String, Option<String>)> =
        query_as("SELECT TBL_NAME, TBL_TYPE FROM TBLS WHERE DB_ID = ? ORDER BY TBL_NAME")
            .bind(id)
            .fetch_all(conn)
            .await?;
    Ok(found.into_iter().map(|(name, kind)| (name, TableKind::parse(kind.as_deref()))).collect())
}

/// A table's row; `NotFound` names what is missing, the database or the table.
pub(crate) async fn find(conn: &mut Connection, database: &str, name: &str) -> Result<Head> {
    match find_optional(conn, database, name).await? {
        Some(head) => Ok(head),
        None => {
            databases::find(conn, database).await?;
            Err(Error::not_found(format!("table '{database}.{name}' does not exist")).into())
        }
    }
}

/// [`find`] for a transaction that will change the table or what belongs to it: no other such transaction goes on with the
/// same table before this one ends.
pub(crate) async fn find_to_change(conn: &mut Connection, database: &str, name: &str) -> Result<Head> {
    lock_table(conn, CATALOG, database, name).await?;
    find(conn, database, name).await
}

/// One table.
pub(crate) async fn load(conn: &mut Connection, database: &str, name: &str) -> Result<(Head, VersionedTable)> {
    let head = find(conn, database, name).await?;
    let table = Table {
        storage: load_storage(conn, &head).await?.storage,
        partition_keys: partition_keys(conn, head.id).await?,
        parameters: parameters::TABLE.load(conn, &[head.id]).await?.remove(&head.id).unwrap_or_default(),
        ..head.bare.clone()
    };
    let (id, version) = (head.id, head.version);
    Ok((head, VersionedTable { table, id, version }))
}

/// A table's storage with the id of its column list.
pub(crate) async fn load_storage(conn: &mut Connection, head: &Head) -> Result<storage::Kept> {
    match storage::load(conn, &[head.storage]).await?.remove(&head.storage) {
        Some(kept) => Ok(kept),
        None => {
            Err(Error::internal(format!("the storage of table '{}' is missing from the catalog", head.full_name()))
                .into())
        }
    }
}

/// A table's partition keys in order.
pub(crate) async fn partition_keys(conn: &mut Connection, table_id: i64) -> Result<Vec<Column>> {
    type Row = (String, String, Option<String>);
    let keys: Vec<Row> =
        query_as("SELECT PKEY_NAME, PKEY_TYPE, PKEY_COMMENT FROM PARTITION_KEYS WHERE TBL_ID = ? ORDER BY INTEGER_IDX")
            .bind(table_id)
            .fetch_all(conn)
            .await?;
    Ok(keys.into_iter().map(|(name, type_name, comment)| Column { name, type_name, comment }).collect())
}

/// Makes a table and returns its id and first version.
pub(crate) async fn create(conn: &mut Connection, table: &Table, now_s: i64) -> Result<(i64, i64)> {
    let new = New::check(table)?;
    let database_id = databases::find(conn, &table.database).await?;
    refuse_taken_name(conn, &new).await?;
    let storage_id = storage::insert(conn, &[&new.storage], None).await?;
    let id = ids::take(conn, Sequence::Table, 1).await?;
    query(
        "INSERT INTO TBLS (TBL_ID, CREATE_TIME, DB_ID, LAST_ACCESS_TIME, OWNER, OWNER_TYPE, RETENTION, SD_ID, TBL_NAME, \
         TBL_TYPE, VIEW_EXPANDED_TEXT, VIEW_ORIGINAL_TEXT, IS_REWRITE_ENABLED) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
    )
    .bind(id)
    .bind(now_s)
    .bind(database_id)
    .bind(table.last_access_time_s)
    .bind(&table.owner)
    .bind(table.owner_kind.as_str())
    .bind(table.retention)
    .bind(storage_id)
    .bind(&new.name)
    .bind(table.kind.as_str())
    .bind(&table.view_expanded_text)
    .bind(&table.view_original_text)
    .execute(&mut *conn)
    .await?;
    insert_partition_keys(conn, id, &new.partition_keys).await?;
    parameters::TABLE.insert(conn, &[(id, &with_ddl_time(table, now_s))]).await?;
    let version = versions::begin(conn, id).await?;
    Ok((id, version))
}

/// Replaces a table, also its name or database. It keeps its id, and with that its partitions and statistics.
pub(crate) async fn alter(
    conn: &mut Connection,
    database: &str,
    name: &str,
    expected_version: Option<i64>,
    table: &Table,
    now_s: i64,
) -> Result<()> {
    let head = find_to_change(conn, database, name).await?;
    head.expect_version(expected_version)?;
    let new = New::check(table)?;
    let database_id = databases::find(conn, &new.database).await?;
    let renamed = new.name != head.bare.name || new.database != head.bare.database;
    if renamed {
        refuse_taken_name(conn, &new).await?;
    }
    let constrained = constraints::columns_before(conn, &head).await?;
    alter_partition_keys(conn, &head, &new.partition_keys).await?;
    storage::replace(conn, &[(head.storage, &new.storage)], None).await?;
    if let Some(before) = constrained {
        constraints::follow(conn, &head, &before).await?;
    }
    query(
        "UPDATE TBLS SET DB_ID = ?, TBL_NAME = ?, OWNER = ?, OWNER_TYPE = ?, LAST_ACCESS_TIME = ?, RETENTION = ?, TBL_TYPE = ?, \
         VIEW_EXPANDED_TEXT = ?, VIEW_ORIGINAL_TEXT = ? WHERE TBL_ID = ?",
    )
    .bind(database_id)
    .bind(&new.name)
    .bind(&table.owner)
    .bind(table.owner_kind.as_str())
    .bind(table.last_access_time_s)
    .bind(table.retention)
    .bind(table.kind.as_str())
    .bind(&table.view_expanded_text)
    .bind(&table.view_original_text)
    .bind(head.id)
    .execute(&mut *conn)
    .await?;
    parameters::TABLE.replace(conn, &[(head.id, &with_ddl_time(table, now_s))]).await?;
    statistics::keep_columns(conn, head.id, &new.storage.columns).await?;
    if renamed {
        statistics::rename_table(conn, head.id, &new.database, &new.name).await?;
        commits::rename_table(conn, head.id, &new.database, &new.name).await?;
        versions::rename(conn, head.id).await?;
    } else {
        versions::bump(conn, head.id).await?;
    }
    Ok(())
}

/// [`alter`] that also gives all partitions the table's columns.
pub(crate) async fn alter_with_partitions(
    conn: &mut Connection,
    database: &str,
    name: &str,
    expected_version: Option<i64>,
    table: &Table,
    now_s: i64,
) -> Result<()> {
    alter(conn, database, name, expected_version, table, now_s).await?;
    let head = find(conn, &table.database, &table.name).await?;
    let kept = load_storage(conn, &head).await?;
    partitions::share_columns(conn, head.id, kept.column_list).await
}

/// Drops a table with everything that belongs to it and returns it as it was.
pub(crate) async fn drop(conn: &mut Connection, database: &str, name: &str) -> Result<Table> {
    lock_table(conn, CATALOG, database, name).await?;
    let (head, VersionedTable { table, .. }) = load(conn, database, name).await?;
    partitions::delete_all(conn, head.id).await?;
    for delete in [
        "DELETE FROM KEY_CONSTRAINTS WHERE PARENT_TBL_ID = ?",
        "DELETE FROM KEY_CONSTRAINTS WHERE CHILD_TBL_ID = ?",
        "DELETE FROM TAB_COL_STATS WHERE TBL_ID = ?",
        "DELETE FROM TBL_PRIVS WHERE TBL_ID = ?",
        "DELETE FROM TBL_COL_PRIVS WHERE TBL_ID = ?",
        "DELETE FROM MV_TABLES_USED WHERE TBL_ID = ?",
        "DELETE FROM PARTITION_KEYS WHERE TBL_ID = ?",
        "DELETE FROM TABLE_PARAMS WHERE TBL_ID = ?",
        "DELETE FROM TBLS WHERE TBL_ID = ?",
    ] {
        query(delete).bind(head.id).execute(&mut *conn).await?;
    }
    storage::delete(conn, &[head.storage]).await?;
    commits::drop_table(conn, head.id, table.kind).await?;
    versions::end(conn, head.id).await?;
    Ok(table)
}

/// [`drop`] that also notes the folder of a table that owns its files for removal.
pub(crate) async fn drop_with_files(conn: &mut Connection, database: &str, name: &str, now_ms: i64) -> Result<Table> {
    let head = find_to_change(conn, database, name).await?;
    let mut kept = Places::default();
    if let Some(home) = &load_storage(conn, &head).await?.storage.location {
        // What a table has elsewhere is not removed, so nothing is that it lies in.
        let outside = partitions::locations_outside(conn, head.id, home).await?;
        outside.iter().for_each(|location| kept.add(location));
    }
    let table = drop(conn, database, name).await?;
    if table.owns_files() {
        removals::note(conn, table.storage.location.iter().cloned().collect(), &kept, None, now_ms).await?;
    }
    Ok(table)
}

/// The names of a table that is about to be kept, folded and checked.
struct New {
    database: String,
    name: String,
    storage: Storage,
    partition_keys: Vec<Column>,
}

impl New {
    fn check(table: &Table) -> PublicResult<Self> {
        let name = names::new_name("table", &table.name, names::TABLE_CHARS)?;
        let columns = names::new_columns(&table.storage.columns)?;
        let partition_keys = names::new_partition_keys(&table.partition_keys)?;
        for key in &partition_keys {
            if columns.iter().any(|column| column.name == key.name) {
                let message = format!("'{}' is both a column and a partition key of table '{name}'", key.name);
                return Err(Error::invalid_input(message));
            }
        }
        names::check_optional_chars("the owner", table.owner.as_ref(), names::KEY_TEXT_CHARS)?;
        names::check_i32("the last access time", table.last_access_time_s)?;
        let storage = Storage { columns, ..table.storage.clone() };
        Ok(Self { database: names::fold(&table.database), name, storage, partition_keys })
    }
}

type HeadRow = (
    i64,
    Option<i64>,
    Option<i64>,
    String,
    String,
    Option<String>,
    Option<String>,
    Option<String>,
    i64,
    i64,
    i32,
    Option<String>,
    Option<String>,
);

const SELECT_HEADS: &str = "SELECT t.TBL_ID, t.SD_ID, v.VERSION, d.NAME, t.TBL_NAME, t.TBL_TYPE, t.OWNER, t.OWNER_TYPE, t.CREATE_TIME, \
     t.LAST_ACCESS_TIME, t.RETENTION, t.VIEW_ORIGINAL_TEXT, t.VIEW_EXPANDED_TEXT \
     FROM DBS d JOIN TBLS t ON t.DB_ID = d.DB_ID LEFT JOIN TZ_TABLE_VERSIONS v ON v.TBL_ID = t.TBL_ID WHERE ";

impl From<HeadRow> for Head {
    fn from(row: HeadRow) -> Self {
        let (
            id,
            storage,
            version,
            database,
            name,
            kind,
            owner,
            owner_kind,
            created,
            accessed,
            retention,
            original,
            expanded,
        ) = row;
        Self {
            id,
            storage: storage.unwrap_or_default(),
            version: version.unwrap_or_default(),
            bare: Table {
                database,
                name,
                kind: TableKind::parse(kind.as_deref()),
                owner,
                owner_kind: PrincipalKind::parse(owner_kind.as_deref()),
                create_time_s: created,
                last_access_time_s: accessed,
                retention,
                storage: Storage::default(),
                partition_keys: Vec::new(),
                parameters: Parameters::new(),
                view_original_text: original,
                view_expanded_text: expanded,
            },
        }
    }
}

/// The tables with these names that exist, in the order of the names.
pub(crate) async fn by_names(conn: &mut Connection, database: &str, names: &[String]) -> Result<Vec<Table>> {
    let id = databases::find(conn, database).await?;
    let folded: Vec<String> = names.iter().map(|name| names::fold(name)).collect();
    let select = format!("{SELECT_HEADS} d.DB_ID = ");
    let found: Vec<HeadRow> = rows::select_in_of(conn, &select, id, " AND t.TBL_NAME IN ", &folded).await?;
    let mut heads: HashMap<String, Head> =
        found.into_iter().map(Head::from).map(|head| (head.bare.name.clone(), head)).collect();
    let ids: Vec<i64> = heads.values().map(|head| head.id).collect();
    let storage_ids: Vec<i64> = heads.values().map(|head| head.storage).collect();
    let mut storages = storage::load(conn, &storage_ids).await?;
    let mut parameters = parameters::TABLE.load(conn, &ids).await?;
    let select = "SELECT TBL_ID, PKEY_NAME, PKEY_TYPE, PKEY_COMMENT FROM PARTITION_KEYS WHERE TBL_ID IN ";
    let found: Vec<(i64, String, String, Option<String>)> =
        rows::select_in(conn, select, &ids, " ORDER BY TBL_ID, INTEGER_IDX").await?;
    let mut keys: HashMap<i64, Vec<Column>> = HashMap::new();
    for (id, name, type_name, comment) in found {
        keys.entry(id).or_default().push(Column { name, type_name, comment });
    }
    let table = |head: Head| Table {
        storage: storages.remove(&head.storage).map(|kept| kept.storage).unwrap_or_default(),
        partition_keys: keys.remove(&head.id).unwrap_or_default(),
        parameters: parameters.remove(&head.id).unwrap_or_default(),
        ..head.bare
    };
    Ok(folded.iter().filter_map(|name| heads.remove(name)).map(table).collect())
}

async fn find_optional(conn: &mut Connection, database: &str, name: &str) -> Result<Option<Head>> {
    let select = AssertSqlSafe(format!("{SELECT_HEADS} d.NAME = ? AND d.CTLG_NAME = ? AND t.TBL_NAME = ?"));
    let row: Option<HeadRow> =
        query_as(select).bind(names::fold(database)).bind(CATALOG).bind(names::fold(name)).fetch_optional(conn).await?;
    Ok(row.map(Head::from))
}

async fn refuse_taken_name(conn: &mut Connection, new: &New) -> Result<()> {
    match find_optional(conn, &new.database, &new.name).await? {
        None => Ok(()),
        Some(_) => Err(Error::already_exists(format!("table '{}.{}' already exists", new.database, new.name)).into()),
    }
}

/// Replaces the partition keys; with partitions there, only types and comments may change.
async fn alter_partition_keys(conn: &mut Connection, head: &Head, keys: &[Column]) -> Result<()> {
    let old = partition_keys(conn, head.id).await?;
    if old == keys {
        return Ok(());
    }
    let same_names = old.iter().map(|key| &key.name).eq(keys.iter().map(|key| &key.name));
    if !same_names {
        let some_partition: Option<i64> = query_scalar("SELECT PART_ID FROM PARTITIONS WHERE TBL_ID = ? LIMIT 1")
            .bind(head.id)
            .fetch_optional(&mut *conn)
            .await?;
        if some_partition.is_some() {
            let message =
                format!("the partition keys of table '{}' cannot change while it has partitions", head.full_name());
            return Err(Error::invalid_input(message).into());
        }
    }
    query("DELETE FROM PARTITION_KEYS WHERE TBL_ID = ?").bind(head.id).execute(&mut *conn).await?;
    insert_partition_keys(conn, head.id, keys).await
}

async fn insert_partition_keys(conn: &mut Connection, table_id: i64, keys: &[Column]) -> Result<()> {
    let numbered: Vec<(i32, &Column)> = (0..).zip(keys).collect();
    let into = "INSERT INTO PARTITION_KEYS (TBL_ID, INTEGER_IDX, PKEY_NAME, PKEY_TYPE, PKEY_COMMENT) ";
    rows::insert(conn, into, 5, &numbered, |values, (at, key)| {
        values
            .push_bind(table_id)
            .push_bind(*at)
            .push_bind(key.name.as_str())
            .push_bind(key.type_name.as_str())
            .push_bind(key.comment.as_deref());
    })
    .await
}

/// The parameters to keep: the client's, the time of definition, and the mark by which other readers know that the files
/// of an external table are not its own.
fn with_ddl_time(table: &Table, now_s: i64) -> Parameters {
    let mut parameters = table.parameters.clone();
    parameters.entry(LAST_DDL_TIME.into()).or_insert_with(|| now_s.to_string());
    if table.kind == TableKind::External {
        parameters.entry("EXTERNAL".into()).or_insert_with(|| "TRUE".into());
    }
    parameters
}
