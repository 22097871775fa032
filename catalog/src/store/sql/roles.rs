//! Roles and who has them: `ROLES` and `ROLE_MAP`.
//!
//! The roles `admin` and `public` always exist: a metastore makes them at its first start, and where there was none yet they
//! are made when something is to point at them.

use std::collections::BTreeSet;

use sqlx::{query, query_as, query_scalar};
use tereza_runtime::{Error, Result as PublicResult};

use super::super::dialect::for_update;
use super::ids::{self, Sequence};
use super::{Connection, Result, privileges};
use crate::model::{ADMIN_ROLE, PUBLIC_ROLE, Principal, PrincipalKind, Role, RoleGrant};
use crate::store::names;

/// All roles, sorted by name.
pub(crate) async fn list(conn: &mut Connection) -> Result<Vec<Role>> {
    let select = "SELECT ROLE_NAME, OWNER_NAME, CREATE_TIME FROM ROLES WHERE ROLE_NAME IS NOT NULL";
    let found: Vec<(String, Option<String>, i64)> = query_as(select).fetch_all(conn).await?;
    let role = |(name, owner, create_time_s)| Role { name, owner, create_time_s };
    let mut roles: Vec<Role> = found.into_iter().map(role).collect();
    for name in [ADMIN_ROLE, PUBLIC_ROLE] {
        if !roles.iter().any(|role| role.name == name) {
            roles.push(Role { name: name.into(), owner: Some(ADMIN_ROLE.into()), create_time_s: 0 });
        }
    }
    roles.sort_by(|one, two| one.name.cmp(&two.name));
    Ok(roles)
}

/// Makes a role.
pub(crate) async fn create(conn: &mut Connection, role: &Role, now_s: i64) -> Result<()> {
    // Other than those of tables, names of roles keep their case.
    names::new_name("role", &role.name, names::SHORT_TEXT_CHARS)?;
    names::check_optional_chars("the owner", role.owner.as_ref(), names::SHORT_TEXT_CHARS)?;
    if [ADMIN_ROLE, PUBLIC_ROLE].contains(&role.name.as_str()) || find(conn, &role.name).await?.is_some() {
        return Err(Error::already_exists(format!("role '{}' already exists", role.name)).into());
    }
    insert(conn, &role.name, role.owner.as_deref(), now_s).await?;
    Ok(())
}

/// Drops a role with all that it was given, and takes it from all who have it; returns whether there was one.
pub(crate) async fn drop(conn: &mut Connection, name: &str) -> Result<bool> {
    if [ADMIN_ROLE, PUBLIC_ROLE].contains(&name) {
        return Err(Error::invalid_input(format!("role '{name}' always exists and cannot be dropped")).into());
    }
    let Some(id) = find(conn, name).await? else { return Ok(false) };
    query("DELETE FROM ROLE_MAP WHERE ROLE_ID = ?").bind(id).execute(&mut *conn).await?;
    query("DELETE FROM ROLE_MAP WHERE PRINCIPAL_NAME = ? AND PRINCIPAL_TYPE = 'ROLE'")
        .bind(name)
        .execute(&mut *conn)
        .await?;
    privileges::drop_role(conn, name).await?;
    query("DELETE FROM ROLES WHERE ROLE_ID = ?").bind(id).execute(conn).await?;
    Ok(true)
}

/// The roles that were given to somebody, sorted by name.
pub(crate) async fn of_principal(conn: &mut Connection, principal: &Principal) -> Result<Vec<RoleGrant>> {
    let select = "SELECT r.ROLE_NAME, m.PRINCIPAL_NAME, m.PRINCIPAL_TYPE, m.GRANTOR, m.GRANTOR_TYPE, m.GRANT_OPTION, m.ADD_TIME \
                  FROM ROLE_MAP m JOIN ROLES r ON r.ROLE_ID = m.ROLE_ID \
                  WHERE m.PRINCIPAL_NAME = ? AND m.PRINCIPAL_TYPE = ? ORDER BY r.ROLE_NAME, m.ROLE_GRANT_ID";
    let found: Vec<Row> = query_as(select).bind(&principal.name).bind(principal.kind.as_str()).fetch_all(conn).await?;
    Ok(found.into_iter().map(grant_of).collect())
}

/// Who was given a role, sorted by name.
pub(crate) async fn principals(conn: &mut Connection, role: &str) -> Result<Vec<RoleGrant>> {
    let select = "SELECT r.ROLE_NAME, m.PRINCIPAL_NAME, m.PRINCIPAL_TYPE, m.GRANTOR, m.GRANTOR_TYPE, m.GRANT_OPTION, m.ADD_TIME \
                  FROM ROLE_MAP m JOIN ROLES r ON r.ROLE_ID = m.ROLE_ID \
                  WHERE r.ROLE_NAME = ? ORDER BY m.PRINCIPAL_NAME, m.ROLE_GRANT_ID";
    let found: Vec<Row> = query_as(select).bind(role).fetch_all(conn).await?;
    Ok(found.into_iter().map(grant_of).collect())
}

/// Gives somebody a role.
pub(crate) async fn grant(conn: &mut Connection, grant: &RoleGrant, now_s: i64) -> Result<()> {
    let id = find_to_change(conn, &grant.role, now_s).await?;
    let to = &grant.to;
    check(to)?;
    if to.kind == PrincipalKind::Role {
        find_to_change(conn, &to.name, now_s).await?;
    }
    if of_principal(conn, to).await?.iter().any(|other| other.role == grant.role) {
        return Err(Error::already_exists(format!("'{}' has the role '{}' already", to.name, grant.role)).into());
    }
    let has_it = to.kind == PrincipalKind::Role && reachable(conn, &grant.role).await?.contains(&to.name);
    if has_it {
        let message = format!("role '{}' has the role '{}', so it cannot be given to it", grant.role, to.name);
        return Err(Error::invalid_input(message).into());
    }
    let grant_id = ids::take(conn, Sequence::RoleGrant, 1).await?;
    query(
        "INSERT INTO ROLE_MAP (ROLE_GRANT_ID, ADD_TIME, GRANT_OPTION, GRANTOR, GRANTOR_TYPE, PRINCIPAL_NAME, PRINCIPAL_TYPE, \
         ROLE_ID) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(grant_id)
    .bind(now_s)
    .bind(i16::from(grant.grant_option))
    .bind(grant.grantor.as_ref().map(|grantor| grantor.name.as_str()))
    .bind(grant.grantor.as_ref().map(|grantor| grantor.kind.as_str()))
    .bind(&to.name)
    .bind(to.kind.as_str())
    .bind(id)
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes a role from somebody, or only that it may be given on; nothing happens if they have it not.
pub(crate) async fn revoke(conn: &mut Connection, role: &str, from: &Principal, option_only: bool) -> Result<()> {
    let held = of_principal(conn, from).await?;
    let Some(grant) = held.iter().find(|grant| grant.role == role) else { return Ok(()) };
    let Some(id) = find(conn, role).await? else { return Ok(()) };
    if option_only && !grant.grant_option {
        let message = format!("'{}' has no grant option with role '{role}'", from.name);
        return Err(Error::invalid_input(message).into());
    }
    let change = if option_only {
        "UPDATE ROLE_MAP SET GRANT_OPTION = 0 WHERE ROLE_ID = ? AND PRINCIPAL_NAME = ? AND PRINCIPAL_TYPE = ?"
    } else {
        "DELETE FROM ROLE_MAP WHERE ROLE_ID = ? AND PRINCIPAL_NAME = ? AND PRINCIPAL_TYPE = ?"
    };
    query(change).bind(id).bind(&from.name).bind(from.kind.as_str()).execute(conn).await?;
    Ok(())
}

/// Refuses a name that does not fit.
pub(crate) fn check(principal: &Principal) -> PublicResult<()> {
    names::new_name("principal", &principal.name, names::SHORT_TEXT_CHARS)?;
    Ok(())
}

/// `NotFound` if there is no role of this name.
pub(crate) async fn expect(conn: &mut Connection, name: &str) -> Result<()> {
    if [ADMIN_ROLE, PUBLIC_ROLE].contains(&name) || find(conn, name).await?.is_some() {
        return Ok(());
    }
    Err(missing(name).into())
}

/// The roles that whoever has this one has through it, with itself.
async fn reachable(conn: &mut Connection, role: &str) -> Result<BTreeSet<String>> {
    let mut seen = BTreeSet::from([role.to_owned()]);
    let mut next = vec![role.to_owned()];
    while let Some(name) = next.pop() {
        for grant in of_principal(conn, &Principal { name, kind: PrincipalKind::Role }).await? {
            if seen.insert(grant.role.clone()) {
                next.push(grant.role);
            }
        }
    }
    Ok(seen)
}

async fn find(conn: &mut Connection, name: &str) -> Result<Option<i64>> {
    Ok(query_scalar("SELECT ROLE_ID FROM ROLES WHERE ROLE_NAME = ?").bind(name).fetch_optional(conn).await?)
}

/// The id of a role whose grants are about to change: others who change them wait.
async fn find_to_change(conn: &mut Connection, name: &str, now_s: i64) -> Result<i64> {
    let id = query_scalar(for_update!("SELECT ROLE_ID FROM ROLES WHERE ROLE_NAME = ?"));
    let id: Option<i64> = id.bind(name).fetch_optional(&mut *conn).await?;
    match id {
        Some(id) => Ok(id),
        None if [ADMIN_ROLE, PUBLIC_ROLE].contains(&name) => insert(conn, name, Some(ADMIN_ROLE), now_s).await,
        None => Err(missing(name).into()),
    }
}

async fn insert(conn: &mut Connection, name: &str, owner: Option<&str>, now_s: i64) -> Result<i64> {
    let id = ids::take(conn, Sequence::Role, 1).await?;
    query("INSERT INTO ROLES (ROLE_ID, CREATE_TIME, OWNER_NAME, ROLE_NAME) VALUES (?, ?, ?, ?)")
        .bind(id)
        .bind(now_s)
        .bind(owner)
        .bind(name)
        .execute(conn)
        .await?;
    Ok(id)
}

fn missing(name: &str) -> Error {
    Error::not_found(format!("role '{name}' does not exist"))
}

type Row = (String, Option<String>, Option<String>, Option<String>, Option<String>, i16, i64);

fn grant_of((role, name, kind, grantor, grantor_kind, option, added_s): Row) -> RoleGrant {
    RoleGrant {
        role,
        to: Principal { name: name.unwrap_or_default(), kind: PrincipalKind::parse(kind.as_deref()) },
        grantor: grantor.map(|name| Principal { name, kind: PrincipalKind::parse(grantor_kind.as_deref()) }),
        grant_option: option != 0,
        added_s,
    }
}
