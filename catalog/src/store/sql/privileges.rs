//! Privileges: six tables of one shape, `GLOBAL_PRIVS`, `DB_PRIVS`, `TBL_PRIVS`, `TBL_COL_PRIVS`, `PART_PRIVS` and
//! `PART_COL_PRIVS`. They are kept for engines to read; nothing in the catalog asks for them.

use sqlx::query::QueryAs;
use sqlx::{AssertSqlSafe, query, query_as};
use tereza_runtime::{Error, Result as PublicResult};

use super::ids::{self, Sequence};
use super::partitions::Parent;
use super::{Connection, Db, Result, databases, partitions, roles, rows, tables};
use crate::model::{Grant, Principal, PrincipalKind, Securable};
use crate::store::names;

/// One of the tables.
#[derive(Clone, Copy)]
struct PrivilegeTable {
    name: &'static str,
    id: &'static str,
    privilege: &'static str,
    /// The column of what the privilege is on; the first is on everything.
    owner: Option<&'static str>,
    has_column: bool,
    sequence: Sequence,
}

const fn table(
    names: (&'static str, &'static str, &'static str),
    owner: Option<&'static str>,
    has_column: bool,
    sequence: Sequence,
) -> PrivilegeTable {
    let (name, id, privilege) = names;
    PrivilegeTable { name, id, privilege, owner, has_column, sequence }
}

const GLOBAL: PrivilegeTable =
    table(("GLOBAL_PRIVS", "USER_GRANT_ID", "USER_PRIV"), None, false, Sequence::GlobalPrivilege);
const DATABASE: PrivilegeTable =
    table(("DB_PRIVS", "DB_GRANT_ID", "DB_PRIV"), Some("DB_ID"), false, Sequence::DatabasePrivilege);
const TABLE: PrivilegeTable =
    table(("TBL_PRIVS", "TBL_GRANT_ID", "TBL_PRIV"), Some("TBL_ID"), false, Sequence::TablePrivilege);
const COLUMN: PrivilegeTable =
    table(("TBL_COL_PRIVS", "TBL_COLUMN_GRANT_ID", "TBL_COL_PRIV"), Some("TBL_ID"), true, Sequence::ColumnPrivilege);
const PARTITION: PrivilegeTable =
    table(("PART_PRIVS", "PART_GRANT_ID", "PART_PRIV"), Some("PART_ID"), false, Sequence::PartitionPrivilege);
const PARTITION_COLUMN: PrivilegeTable = table(
    ("PART_COL_PRIVS", "PART_COLUMN_GRANT_ID", "PART_COL_PRIV"),
    Some("PART_ID"),
    true,
    Sequence::PartitionColumnPrivilege,
);
const ALL: [PrivilegeTable; 6] = [GLOBAL, DATABASE, TABLE, COLUMN, PARTITION, PARTITION_COLUMN];

/// Where the privileges on something are.
struct Place {
    table: PrivilegeTable,
    owner: Option<i64>,
    column: Option<String>,
}

/// Who has what on something, in the order in which it was given; of one principal if it is said of which.
pub(crate) async fn list(conn: &mut Connection, on: &Securable, of: Option<&Principal>) -> Result<Vec<Grant>> {
    let place = place(conn, on).await?;
    let found = at(conn, &place).await?;
    let wanted = |(_, grant): &(i64, Grant)| of.is_none_or(|of| grant.to == *of);
    Ok(found.into_iter().filter(wanted).map(|(_, grant)| Grant { on: on.clone(), ..grant }).collect())
}

/// Gives privileges, all or none.
pub(crate) async fn grant(conn: &mut Connection, grants: &[Grant], now_s: i64) -> Result<()> {
    for grant in grants {
        roles::check(&grant.to)?;
        check(grant)?;
        if grant.to.kind == PrincipalKind::Role {
            roles::expect(conn, &grant.to.name).await?;
        }
        let place = place(conn, &grant.on).await?;
        let is_same = |(_, other): &(i64, Grant)| {
            other.to == grant.to && other.privilege == grant.privilege && other.grantor == grant.grantor
        };
        if at(conn, &place).await?.iter().any(is_same) {
            let message = format!("'{}' has the privilege '{}' already", grant.to.name, grant.privilege);
            return Err(Error::already_exists(message).into());
        }
        insert(conn, &place, grant, now_s).await?;
    }
    Ok(())
}

/// Takes privileges, whoever gave them and in whatever case they are written, or only that they may be given on.
pub(crate) async fn revoke(conn: &mut Connection, grants: &[Grant], option_only: bool) -> Result<()> {
    for grant in grants {
        let place = place(conn, &grant.on).await?;
        let mut found = at(conn, &place).await?;
        found.retain(|(_, other)| other.to == grant.to && other.privilege.eq_ignore_ascii_case(&grant.privilege));
        if found.is_empty() {
            let message = format!("'{}' has no privilege '{}'", grant.to.name, grant.privilege);
            return Err(Error::not_found(message).into());
        }
        if option_only && !found.iter().any(|(_, other)| other.grant_option) {
            let message = format!("'{}' has no grant option with privilege '{}'", grant.to.name, grant.privilege);
            return Err(Error::invalid_input(message).into());
        }
        let ids: Vec<i64> = found.into_iter().map(|(id, _)| id).collect();
        let PrivilegeTable { name, id, .. } = place.table;
        let change = if option_only {
            format!("UPDATE {name} SET GRANT_OPTION = 0 WHERE {id} IN ")
        } else {
            format!("DELETE FROM {name} WHERE {id} IN ")
        };
        rows::execute_in(conn, &change, &ids, "").await?;
    }
    Ok(())
}

/// Takes everything from a role that goes.
pub(crate) async fn drop_role(conn: &mut Connection, name: &str) -> Result<()> {
    for table in ALL {
        let delete = format!("DELETE FROM {} WHERE PRINCIPAL_NAME = ? AND PRINCIPAL_TYPE = 'ROLE'", table.name);
        // Safe: the name is a constant.
        query(AssertSqlSafe(delete)).bind(name).execute(&mut *conn).await?;
    }
    Ok(())
}

async fn place(conn: &mut Connection, on: &Securable) -> Result<Place> {
    let whole = |table, owner| Place { table, owner, column: None };
    match on {
        Securable::Everything => Ok(whole(GLOBAL, None)),
        Securable::Database { database } => Ok(whole(DATABASE, Some(databases::find(conn, database).await?))),
        Securable::Table { database, table } => Ok(whole(TABLE, Some(tables::find(conn, database, table).await?.id))),
        Securable::Partition { database, table, values } => {
            Ok(whole(PARTITION, Some(partition(conn, database, table, values).await?)))
        }
        Securable::Column { database, table, partition: values, column } => {
            let head = tables::find(conn, database, table).await?;
            let column = names::fold(column);
            let kept = tables::load_storage(conn, &head).await?;
            let keys = tables::partition_keys(conn, head.id).await?;
            if !kept.storage.columns.iter().chain(&keys).any(|known| known.name == column) {
                let message = format!("table '{}' has no column '{column}'", head.full_name());
                return Err(Error::not_found(message).into());
            }
            let (table, owner) = match values {
                None => (COLUMN, head.id),
                Some(values) => (PARTITION_COLUMN, partition(conn, database, table, values).await?),
            };
            Ok(Place { table, owner: Some(owner), column: Some(column) })
        }
    }
}

async fn partition(conn: &mut Connection, database: &str, table: &str, values: &[String]) -> Result<i64> {
    let head = tables::find(conn, database, table).await?;
    let parent = Parent::load(conn, &head).await?;
    Ok(partitions::find_one(conn, &parent, values).await?.id)
}

type Row =
    (i64, Option<String>, i64, i16, Option<String>, Option<String>, Option<String>, Option<String>, Option<String>);

/// What is given at a place, with the ids of the rows.
async fn at(conn: &mut Connection, place: &Place) -> Result<Vec<(i64, Grant)>> {
    let PrivilegeTable { name, id, privilege, owner, has_column, .. } = place.table;
    let mut select = format!(
        "SELECT {id}, {privilege}, CREATE_TIME, GRANT_OPTION, GRANTOR, GRANTOR_TYPE, PRINCIPAL_NAME, PRINCIPAL_TYPE, AUTHORIZER \
         FROM {name}"
    );
    if let Some(owner) = owner {
        select.push_str(&format!(" WHERE {owner} = ?"));
    }
    if has_column {
        select.push_str(" AND COLUMN_NAME = ?");
    }
    select.push_str(&format!(" ORDER BY {id}"));
    // Safe: the names are constants.
    let mut statement: QueryAs<'_, Db, Row, _> = query_as(AssertSqlSafe(select));
    if owner.is_some() {
        statement = statement.bind(place.owner);
    }
    if has_column {
        statement = statement.bind(place.column.as_deref());
    }
    Ok(statement.fetch_all(conn).await?.into_iter().map(grant_of).collect())
}

fn grant_of(row: Row) -> (i64, Grant) {
    let (id, privilege, create_time_s, option, grantor, grantor_kind, name, kind, authorizer) = row;
    let grant = Grant {
        on: Securable::Everything,
        to: Principal { name: name.unwrap_or_default(), kind: PrincipalKind::parse(kind.as_deref()) },
        privilege: privilege.unwrap_or_default(),
        grantor: grantor.map(|name| Principal { name, kind: PrincipalKind::parse(grantor_kind.as_deref()) }),
        grant_option: option != 0,
        create_time_s,
        authorizer,
    };
    (id, grant)
}

async fn insert(conn: &mut Connection, place: &Place, grant: &Grant, now_s: i64) -> Result<()> {
    let PrivilegeTable { name, id, privilege, owner, has_column, sequence } = place.table;
    let grant_id = ids::take(conn, sequence, 1).await?;
    let mut columns = format!(
        "{id}, {privilege}, CREATE_TIME, GRANT_OPTION, GRANTOR, GRANTOR_TYPE, PRINCIPAL_NAME, PRINCIPAL_TYPE, AUTHORIZER"
    );
    let mut marks = "?, ?, ?, ?, ?, ?, ?, ?, ?".to_owned();
    for column in owner.into_iter().chain(has_column.then_some("COLUMN_NAME")) {
        columns.push_str(&format!(", {column}"));
        marks.push_str(", ?");
    }
    // Safe: the names are constants.
    let mut statement = query(AssertSqlSafe(format!("INSERT INTO {name} ({columns}) VALUES ({marks})")))
        .bind(grant_id)
        .bind(&grant.privilege)
        .bind(now_s)
        .bind(i16::from(grant.grant_option))
        .bind(grant.grantor.as_ref().map(|grantor| grantor.name.as_str()))
        .bind(grant.grantor.as_ref().map(|grantor| grantor.kind.as_str()))
        .bind(&grant.to.name)
        .bind(grant.to.kind.as_str())
        .bind(&grant.authorizer);
    if owner.is_some() {
        statement = statement.bind(place.owner);
    }
    if has_column {
        statement = statement.bind(place.column.as_deref());
    }
    statement.execute(conn).await?;
    Ok(())
}

fn check(grant: &Grant) -> PublicResult<()> {
    names::new_name("privilege", &grant.privilege, names::SHORT_TEXT_CHARS)?;
    names::check_optional_chars("the authorizer", grant.authorizer.as_ref(), names::SHORT_TEXT_CHARS)?;
    let grantor = grant.grantor.as_ref().map(|grantor| &grantor.name);
    names::check_optional_chars("the grantor", grantor, names::SHORT_TEXT_CHARS)
}
