//! Roles and privileges.

use tereza_thrift::hive::*;

use super::{Asking, drop_web, make_table, make_web};
use crate::support::{table, text};

pub(super) async fn play(to: &mut Asking) {
    make_web(to).await;
    make_table(to, table("t")).await;
    roles(to).await;
    privileges(to).await;
    for role in ["readers", "nope", "admin"] {
        to.ask(DropRoleArgs { role_name: text(role) }).await;
    }
    to.ask_sorted(GetRoleNamesArgs {}, |names| names.sort()).await;
    drop_web(to).await;
}

async fn roles(to: &mut Asking) {
    to.ask_sorted(GetRoleNamesArgs {}, |names| names.sort()).await;
    let role = |name: &str| Role { role_name: text(name), create_time: Some(0), owner_name: text("ada") };
    for name in ["readers", "readers", "public", "Writers"] {
        to.ask(CreateRoleArgs { role: Some(role(name)) }).await;
    }
    to.ask_sorted(GetRoleNamesArgs {}, |names| names.sort()).await;
    to.ask(DropRoleArgs { role_name: text("writers") }).await;
    let grant = |kind, role: &str, principal: &str| GrantRevokeRoleArgs {
        request: Some(GrantRevokeRoleRequest {
            request_type: Some(kind),
            role_name: text(role),
            principal_name: text(principal),
            principal_type: Some(PrincipalType::USER),
            grantor: text("ada"),
            grantor_type: Some(PrincipalType::USER),
            grant_option: Some(false),
        }),
    };
    to.ask(grant(GrantRevokeType::GRANT, "readers", "bob")).await;
    to.ask(grant(GrantRevokeType::GRANT, "readers", "bob")).await;
    to.ask(grant(GrantRevokeType::GRANT, "nope", "bob")).await;
    let sort = |roles: &mut Vec<Role>| roles.sort_by(|one, two| one.role_name.cmp(&two.role_name));
    for (name, kind) in
        [("bob", PrincipalType::USER), ("nobody", PrincipalType::USER), ("readers", PrincipalType::ROLE)]
    {
        to.ask_sorted(ListRolesArgs { principal_name: text(name), principal_type: Some(kind) }, sort).await;
        let request = GetRoleGrantsForPrincipalRequest { principal_name: name.into(), principal_type: kind };
        to.ask_sorted(GetRoleGrantsForPrincipalArgs { request: Some(request) }, |found| {
            found.principal_grants.sort_by(|one, two| one.role_name.cmp(&two.role_name));
        })
        .await;
    }
    for role in ["readers", "public", "nope"] {
        let request = GetPrincipalsInRoleRequest { role_name: role.into() };
        to.ask(GetPrincipalsInRoleArgs { request: Some(request) }).await;
    }
    to.ask(grant(GrantRevokeType::REVOKE, "readers", "bob")).await;
    to.ask(grant(GrantRevokeType::REVOKE, "readers", "bob")).await;
}

fn place(kind: HiveObjectType, table: Option<&str>, column: Option<&str>) -> HiveObjectRef {
    HiveObjectRef {
        object_type: Some(kind),
        db_name: text("web"),
        object_name: table.map(str::to_owned),
        column_name: column.map(str::to_owned),
        ..HiveObjectRef::default()
    }
}

fn bag(place: HiveObjectRef, privilege: &str) -> PrivilegeBag {
    let grant_info = PrivilegeGrantInfo {
        privilege: text(privilege),
        create_time: Some(0),
        grantor: text("ada"),
        grantor_type: Some(PrincipalType::USER),
        grant_option: Some(false),
    };
    PrivilegeBag {
        privileges: Some(vec![HiveObjectPrivilege {
            hive_object: Some(place),
            principal_name: text("bob"),
            principal_type: Some(PrincipalType::USER),
            grant_info: Some(grant_info),
            authorizer: text("SQL"),
        }]),
    }
}

async fn privileges(to: &mut Asking) {
    let places = [
        place(HiveObjectType::TABLE, Some("t"), None),
        place(HiveObjectType::DATABASE, None, None),
        place(HiveObjectType::COLUMN, Some("t"), Some("id")),
        place(HiveObjectType::TABLE, Some("nope"), None),
    ];
    for one in &places {
        to.ask(GrantPrivilegesArgs { privileges: Some(bag(one.clone(), "SELECT")) }).await;
    }
    to.ask(GrantPrivilegesArgs { privileges: Some(bag(places[0].clone(), "SELECT")) }).await;
    for one in &places {
        let args = ListPrivilegesArgs {
            principal_name: text("bob"),
            principal_type: Some(PrincipalType::USER),
            hive_object: Some(one.clone()),
        };
        to.ask(args).await;
        let args = GetPrivilegeSetArgs {
            hive_object: Some(one.clone()),
            user_name: text("bob"),
            group_names: Some(Vec::new()),
        };
        to.ask(args).await;
    }
    let request = |kind, privilege: &str| GrantRevokePrivilegesArgs {
        request: Some(GrantRevokePrivilegeRequest {
            request_type: Some(kind),
            privileges: Some(bag(place(HiveObjectType::TABLE, Some("t"), None), privilege)),
            revoke_grant_option: Some(false),
        }),
    };
    to.ask(request(GrantRevokeType::GRANT, "INSERT")).await;
    to.ask(request(GrantRevokeType::REVOKE, "INSERT")).await;
    to.ask(request(GrantRevokeType::REVOKE, "DELETE")).await;
    to.ask(RevokePrivilegesArgs { privileges: Some(bag(places[0].clone(), "SELECT")) }).await;
    to.ask(RevokePrivilegesArgs { privileges: Some(bag(places[0].clone(), "SELECT")) }).await;
}
