//! Roles and privileges.

use tereza_thrift::client::Client;
use tereza_thrift::hive::*;

use crate::support::*;

const USER: Option<PrincipalType> = Some(PrincipalType::USER);
const ROLE: Option<PrincipalType> = Some(PrincipalType::ROLE);

fn role(name: &str) -> CreateRoleArgs {
    let role = Role { role_name: text(name), owner_name: text("ada"), ..Role::default() };
    CreateRoleArgs { role: Some(role) }
}

fn give(role: &str, to: &str, kind: Option<PrincipalType>) -> GrantRoleArgs {
    GrantRoleArgs {
        role_name: text(role),
        principal_name: text(to),
        principal_type: kind,
        grantor: text("ada"),
        grantor_type: USER,
        grant_option: Some(false),
    }
}

async fn roles_of(client: &mut Client, name: &str) -> Vec<String> {
    let args = ListRolesArgs { principal_name: text(name), principal_type: USER };
    client.list_roles(args).await.unwrap().into_iter().filter_map(|role| role.role_name).collect()
}

#[tokio::test]
async fn roles_are_kept() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    assert_eq!(client.get_role_names().await.unwrap(), ["admin", "public"]);
    for name in ["Dev", "ops"] {
        assert!(client.create_role(role(name)).await.unwrap());
    }
    assert_eq!(client.get_role_names().await.unwrap(), ["Dev", "admin", "ops", "public"]);
    let twice = exception(client.create_role(role("admin")).await);
    assert!(
        matches!(&twice, Exception::Meta(_)) && twice.to_string().contains("Role admin already exists."),
        "{twice}"
    );
    for name in ["admin", "public"] {
        let refused = exception(client.drop_role(DropRoleArgs { role_name: text(name) }).await);
        assert_eq!(refused, MetaException::new("public,admin roles can't be dropped.").into());
    }
    assert!(client.drop_role(DropRoleArgs { role_name: text("nope") }).await.unwrap());

    assert!(client.grant_role(give("Dev", "bob", USER)).await.unwrap());
    assert_eq!(roles_of(&mut client, "bob").await, ["Dev", "public"]);
    assert_eq!(roles_of(&mut client, "eve").await, ["public"]);
    let twice = exception(client.grant_role(give("Dev", "bob", USER)).await);
    assert!(twice.to_string().contains("Principal bob already has the role Dev"), "{twice}");
    let missing = exception(client.grant_role(give("nope", "bob", USER)).await);
    assert!(missing.to_string().contains("nope role can not be found."), "{missing}");
    let public = exception(client.grant_role(give("public", "bob", USER)).await);
    assert!(public.to_string().contains("No user can be added to public."), "{public}");
    client.grant_role(give("Dev", "ops", ROLE)).await.unwrap();
    let circle = exception(client.grant_role(give("ops", "Dev", ROLE)).await);
    let message = "Cannot grant role Dev to ops as ops already belongs to the role Dev. (no cycles allowed)";
    assert_eq!(circle, MetaException::new(message).into());
    let request = GetPrincipalsInRoleRequest { role_name: "Dev".into() };
    let found = client.get_principals_in_role(GetPrincipalsInRoleArgs { request: Some(request) }).await.unwrap();
    let now = i32::try_from(metastore.clock.unix_s()).ok();
    let expected = |name: &str, kind| RolePrincipalGrant {
        role_name: text("Dev"),
        principal_name: text(name),
        principal_type: kind,
        grant_option: Some(false),
        grant_time: now,
        grantor_name: text("ada"),
        grantor_principal_type: USER,
    };
    assert_eq!(found.principal_grants, [expected("bob", USER), expected("ops", ROLE)]);
    let request =
        GetRoleGrantsForPrincipalRequest { principal_name: "bob".into(), principal_type: PrincipalType::USER };
    let args = GetRoleGrantsForPrincipalArgs { request: Some(request) };
    let found = client.get_role_grants_for_principal(args).await.unwrap().principal_grants;
    assert_eq!((found.len(), &found[0], found[1].role_name.as_deref()), (2, &expected("bob", USER), Some("public")));

    let change = |request_type, option| GrantRevokeRoleArgs {
        request: Some(GrantRevokeRoleRequest {
            request_type: Some(request_type),
            role_name: text("ops"),
            principal_name: text("bob"),
            principal_type: USER,
            grant_option: Some(option),
            ..Default::default()
        }),
    };
    client.grant_revoke_role(change(GrantRevokeType::GRANT, true)).await.unwrap();
    client.grant_revoke_role(change(GrantRevokeType::REVOKE, true)).await.unwrap();
    let refused = exception(client.grant_revoke_role(change(GrantRevokeType::REVOKE, true)).await);
    assert_eq!(refused, MetaException::new("User bob does not have grant option with role ops").into());
    client.grant_revoke_role(change(GrantRevokeType::REVOKE, false)).await.unwrap();
    let take = RevokeRoleArgs { role_name: text("Dev"), principal_name: text("bob"), principal_type: USER };
    for _ in 0..2 {
        assert!(client.revoke_role(take.clone()).await.unwrap());
    }
    assert_eq!(roles_of(&mut client, "bob").await, ["public"]);
    metastore.end().await;
}

fn on_table(name: &str) -> HiveObjectRef {
    HiveObjectRef {
        object_type: Some(HiveObjectType::TABLE),
        db_name: text("Web"),
        object_name: text(name),
        ..Default::default()
    }
}

fn info(privilege: &str) -> PrivilegeGrantInfo {
    PrivilegeGrantInfo {
        privilege: text(privilege),
        create_time: Some(0),
        grantor: text("ada"),
        grantor_type: USER,
        grant_option: Some(false),
    }
}

fn bag(on: HiveObjectRef, name: &str, kind: Option<PrincipalType>, privilege: &str) -> Option<PrivilegeBag> {
    let privilege = HiveObjectPrivilege {
        hive_object: Some(on),
        principal_name: text(name),
        principal_type: kind,
        grant_info: Some(info(privilege)),
        authorizer: text("SQL"),
    };
    Some(PrivilegeBag { privileges: Some(vec![privilege]) })
}

async fn privileges(client: &mut Client, name: Option<&str>, on: HiveObjectRef) -> Vec<(String, String)> {
    let args = ListPrivilegesArgs {
        principal_name: name.map(str::to_owned),
        principal_type: name.and(USER),
        hive_object: Some(on),
    };
    let found = client.list_privileges(args).await.unwrap();
    found.into_iter().map(|own| (own.principal_name.unwrap(), own.grant_info.unwrap().privilege.unwrap())).collect()
}

#[tokio::test]
async fn privileges_are_kept() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    // Engines send those of the owner with a new table.
    let of_owner = PrincipalPrivilegeSet {
        user_privileges: Some([("ada".to_owned(), vec![info("INSERT"), info("SELECT")])].into()),
        ..Default::default()
    };
    make(&mut client, Table { privileges: Some(Box::new(of_owner)), ..partitioned_table("t") }).await;
    let pair = |name: &str, privilege: &str| (name.to_owned(), privilege.to_owned());
    let of_ada = [pair("ada", "INSERT"), pair("ada", "SELECT")];
    assert_eq!(privileges(&mut client, Some("ada"), on_table("T")).await, of_ada);
    assert_eq!(privileges(&mut client, Some("ada"), on_table("nope")).await, []);

    let grant = |privileges| GrantPrivilegesArgs { privileges };
    assert!(client.grant_privileges(grant(bag(on_table("t"), "bob", USER, "SELECT,insert"))).await.unwrap());
    let twice = exception(client.grant_privileges(grant(bag(on_table("t"), "bob", USER, "insert"))).await);
    assert!(matches!(twice, Exception::Meta(_)), "{twice}");
    let missing = exception(client.grant_privileges(grant(bag(on_table("nope"), "bob", USER, "insert"))).await);
    assert!(missing.to_string().contains("NoSuchObjectException"), "{missing}");
    let missing = exception(client.grant_privileges(grant(bag(on_table("t"), "nope", ROLE, "insert"))).await);
    assert!(missing.to_string().contains("role 'nope' does not exist"), "{missing}");
    let everybody = privileges(&mut client, None, on_table("t")).await;
    assert_eq!(everybody.len(), 4);
    assert_eq!(everybody[2..], [pair("bob", "SELECT"), pair("bob", "insert")]);

    client.create_role(role("dev")).await.unwrap();
    client.grant_role(give("dev", "bob", USER)).await.unwrap();
    assert!(client.grant_privileges(grant(bag(on_table("t"), "dev", ROLE, "DELETE"))).await.unwrap());
    let args = GetPrivilegeSetArgs {
        hive_object: Some(on_table("t")),
        user_name: text("bob"),
        group_names: Some(texts(&["g"])),
    };
    let set = client.get_privilege_set(args).await.unwrap();
    assert_eq!(set.user_privileges.unwrap()["bob"].len(), 2);
    assert_eq!(set.group_privileges.unwrap()["g"], []);
    let by_role = set.role_privileges.unwrap();
    assert_eq!(by_role.keys().collect::<Vec<_>>(), ["dev", "public"]);
    assert_eq!(by_role["dev"][0].privilege, text("DELETE"));

    let revoke = |option, privileges| GrantRevokePrivilegesArgs {
        request: Some(GrantRevokePrivilegeRequest {
            request_type: Some(GrantRevokeType::REVOKE),
            privileges,
            revoke_grant_option: Some(option),
        }),
    };
    let refused = client.grant_revoke_privileges(revoke(true, bag(on_table("t"), "bob", USER, "SELECT"))).await;
    assert!(matches!(exception(refused), Exception::Meta(_)));
    client.grant_revoke_privileges(revoke(false, bag(on_table("t"), "bob", USER, "select"))).await.unwrap();
    let take = RevokePrivilegesArgs { privileges: bag(on_table("t"), "bob", USER, "INSERT") };
    assert!(client.revoke_privileges(take.clone()).await.unwrap());
    assert_eq!(privileges(&mut client, Some("bob"), on_table("t")).await, []);
    assert!(matches!(exception(client.revoke_privileges(take).await), Exception::Meta(_)));

    // What is not on a table.
    client.add_partition(AddPartitionArgs { new_part: Some(partition("t", &["a", "1", "2024-01-01"])) }).await.unwrap();
    let database = HiveObjectRef { object_type: Some(HiveObjectType::DATABASE), ..on_table("") };
    let all = HiveObjectRef { object_type: Some(HiveObjectType::GLOBAL), ..Default::default() };
    let values = Some(texts(&["a", "1", "2024-01-01"]));
    let part =
        HiveObjectRef { object_type: Some(HiveObjectType::PARTITION), part_values: values.clone(), ..on_table("t") };
    let column = HiveObjectRef { object_type: Some(HiveObjectType::COLUMN), column_name: text("ID"), ..on_table("t") };
    let part_column = HiveObjectRef { part_values: values, ..column.clone() };
    for on in [database, all, part.clone(), column, part_column] {
        assert!(client.grant_privileges(grant(bag(on.clone(), "bob", USER, "ALL"))).await.unwrap());
        assert_eq!(privileges(&mut client, Some("bob"), on).await, [pair("bob", "ALL")]);
    }
    let vague =
        ListPrivilegesArgs { hive_object: Some(HiveObjectRef { part_values: None, ..part }), ..Default::default() };
    assert!(matches!(exception(client.list_privileges(vague).await), Exception::Meta(_)));
    metastore.end().await;
}
