//! Roles and privileges.

use tereza_runtime::{ErrorKind, ids};

use super::{expect_error, new_database, partition, partitioned_table, strings};
use crate::Store;
use crate::model::{Grant, Principal, PrincipalKind, Role, RoleGrant, Securable};

/// Runs the tests of this file.
pub async fn run(store: &dyn Store) {
    roles_are_made_and_dropped(store).await;
    roles_are_given_and_taken(store).await;
    privileges_come_back_as_they_were_given(store).await;
    privileges_go_with_what_they_are_on(store).await;
}

/// `admin` and `public` are always there.
pub async fn roles_are_made_and_dropped(store: &dyn Store) {
    let name = new_role(store).await;
    let roles = store.roles().await.expect("roles");
    let found = roles.iter().find(|role| role.name == name).expect("the new role");
    assert!(found.owner.as_deref() == Some("ada") && found.create_time_s > 0);
    for always in ["admin", "public"] {
        assert!(roles.iter().any(|role| role.name == always), "{always}");
        expect_error(store.drop_role(always).await, ErrorKind::InvalidInput);
        expect_error(store.create_role(&role(always)).await, ErrorKind::AlreadyExists);
    }
    assert!(roles.is_sorted_by(|one, two| one.name <= two.name));
    expect_error(store.create_role(&role(&name)).await, ErrorKind::AlreadyExists);
    expect_error(store.create_role(&role("")).await, ErrorKind::InvalidInput);
    assert!(store.drop_role(&name).await.expect("dropped"));
    assert!(!store.drop_role(&name).await.expect("nothing to drop"));
}

/// To users, groups and other roles, but not in a circle.
pub async fn roles_are_given_and_taken(store: &dyn Store) {
    let (one, two, three) = (new_role(store).await, new_role(store).await, new_role(store).await);
    let user = Principal { name: format!("Bob_{}", ids::new_id()), kind: PrincipalKind::User };
    let grant = |role: &str, to: &Principal| RoleGrant {
        role: role.into(),
        to: to.clone(),
        grantor: Some(Principal { name: "ada".into(), kind: PrincipalKind::User }),
        grant_option: true,
        added_s: 0,
    };
    let as_role = |name: &str| Principal { name: name.into(), kind: PrincipalKind::Role };
    store.grant_role(&grant(&one, &user)).await.expect("given");
    store.grant_role(&grant("admin", &user)).await.expect("given");
    let other = RoleGrant { grantor: None, ..grant(&one, &user) };
    expect_error(store.grant_role(&other).await, ErrorKind::AlreadyExists);
    expect_error(store.grant_role(&grant("nope", &user)).await, ErrorKind::NotFound);
    expect_error(store.grant_role(&grant(&one, &as_role("nope"))).await, ErrorKind::NotFound);
    let held = store.roles_of(&user).await.expect("roles");
    assert!(held.iter().all(|held| held.added_s > 0));
    let held: Vec<RoleGrant> = held.into_iter().map(|held| RoleGrant { added_s: 0, ..held }).collect();
    let mut expected = vec![grant("admin", &user), grant(&one, &user)];
    expected.sort_by(|one, two| one.role.cmp(&two.role));
    assert_eq!(held, expected);
    let group = Principal { kind: PrincipalKind::Group, ..user.clone() };
    assert_eq!(store.roles_of(&group).await.expect("roles"), [], "a group is not the user of its name");

    store.grant_role(&grant(&one, &as_role(&two))).await.expect("given");
    store.grant_role(&grant(&two, &as_role(&three))).await.expect("given");
    for circle in [grant(&three, &as_role(&one)), grant(&one, &as_role(&one))] {
        expect_error(store.grant_role(&circle).await, ErrorKind::InvalidInput);
    }
    let who = store.principals_in_role(&one).await.expect("principals");
    assert_eq!(who.len(), 2);
    store.revoke_role(&one, &user, true).await.expect("the option is taken");
    expect_error(store.revoke_role(&one, &user, true).await, ErrorKind::InvalidInput);
    assert!(store.roles_of(&user).await.expect("roles").iter().any(|held| held.role == one && !held.grant_option));
    for _ in 0..2 {
        store.revoke_role(&one, &user, false).await.expect("taken");
    }
    store.revoke_role("admin", &user, false).await.expect("taken");
    assert_eq!(store.roles_of(&user).await.expect("roles"), []);
    assert!(store.drop_role(&two).await.expect("dropped"));
    assert_eq!(store.principals_in_role(&one).await.expect("principals"), []);
    assert_eq!(store.roles_of(&as_role(&three)).await.expect("roles"), []);
}

/// On everything that has its own table, for each principal apart.
pub async fn privileges_come_back_as_they_were_given(store: &dyn Store) {
    let (database, role) = (new_database(store).await, new_role(store).await);
    store.create_table(&partitioned_table(&database, "t")).await.expect("a new table");
    store.add_partitions(&database, "t", &[partition(&["1", "a"])], false).await.expect("a partition");
    let user = Principal { name: format!("Bob_{}", ids::new_id()), kind: PrincipalKind::User };
    let as_role = Principal { name: role.clone(), kind: PrincipalKind::Role };
    for on in all(&database) {
        let given = [
            grant(&on, &user, "select"),
            Grant { grant_option: true, authorizer: None, ..grant(&on, &user, "INSERT") },
            grant(&on, &as_role, "select"),
        ];
        store.grant_privileges(&given).await.expect("given");
        let mut found = store.privileges(&on, None).await.expect("privileges");
        found.retain(|grant| grant.to == user || grant.to == as_role);
        assert!(found.iter().all(|grant| grant.create_time_s > 0));
        let found: Vec<Grant> = found.into_iter().map(|found| Grant { create_time_s: 0, ..found }).collect();
        assert_eq!(found, given);
        assert_eq!(store.privileges(&on, Some(&user)).await.expect("privileges").len(), 2);

        let again = Grant { grant_option: true, ..given[0].clone() };
        expect_error(store.grant_privileges(&[grant(&on, &user, "new"), again]).await, ErrorKind::AlreadyExists);
        assert_eq!(store.privileges(&on, Some(&user)).await.expect("privileges").len(), 2, "all or none");
        let by_another = Grant { grantor: Some(as_role.clone()), ..given[0].clone() };
        store.grant_privileges(&[by_another]).await.expect("given once more");

        store.revoke_privileges(&given[1..2], true).await.expect("the option is taken");
        expect_error(store.revoke_privileges(&given[1..2], true).await, ErrorKind::InvalidInput);
        let upper = Grant { privilege: "SELECT".into(), ..given[0].clone() };
        store.revoke_privileges(std::slice::from_ref(&upper), false).await.expect("taken");
        expect_error(store.revoke_privileges(&[upper], false).await, ErrorKind::NotFound);
        let left = store.privileges(&on, Some(&user)).await.expect("privileges");
        assert_eq!(left.iter().map(|grant| grant.privilege.as_str()).collect::<Vec<_>>(), ["INSERT"]);
        store.revoke_privileges(&left, false).await.expect("taken");
    }
    assert!(store.drop_role(&role).await.expect("dropped"));
    for on in all(&database) {
        assert_eq!(store.privileges(&on, Some(&as_role)).await.expect("privileges"), []);
        expect_error(store.grant_privileges(&[grant(&on, &as_role, "select")]).await, ErrorKind::NotFound);
    }
    let missing = [
        Securable::Database { database: "no_such_database".into() },
        Securable::Table { database: database.clone(), table: "nope".into() },
        Securable::Partition { database: database.clone(), table: "t".into(), values: strings(&["2", "a"]) },
        Securable::Column { database: database.clone(), table: "t".into(), partition: None, column: "nope".into() },
    ];
    for on in missing {
        expect_error(store.grant_privileges(&[grant(&on, &user, "select")]).await, ErrorKind::NotFound);
        expect_error(store.privileges(&on, None).await, ErrorKind::NotFound);
    }
}

/// What is made anew under the name has none.
pub async fn privileges_go_with_what_they_are_on(store: &dyn Store) {
    let database = new_database(store).await;
    let user = Principal { name: format!("Bob_{}", ids::new_id()), kind: PrincipalKind::User };
    let own: Vec<Securable> = all(&database).into_iter().filter(|on| *on != Securable::Everything).collect();
    let on_table = Securable::Table { database: database.clone(), table: "t".into() };
    for round in 0..2 {
        if round > 0 {
            store.create_database(&super::database(&database)).await.expect("a new database");
        }
        let with = [grant(&on_table, &user, "of a new table")];
        store.create_table_with(&partitioned_table(&database, "t"), &[], &with).await.expect("a new table");
        store.add_partitions(&database, "t", &[partition(&["1", "a"])], false).await.expect("a partition");
        for on in &own {
            let expected = usize::from(*on == on_table);
            assert_eq!(store.privileges(on, None).await.expect("privileges").len(), expected);
            store.grant_privileges(&[grant(on, &user, "select")]).await.expect("given");
        }
        store.drop_database(&database, true).await.expect("dropped");
    }
}

/// Everything that privileges are on.
fn all(database: &str) -> Vec<Securable> {
    let (database, table, column) = (database.to_owned(), "t".to_owned(), "id".to_owned());
    let values = strings(&["1", "a"]);
    vec![
        Securable::Everything,
        Securable::Database { database: database.clone() },
        Securable::Table { database: database.clone(), table: table.clone() },
        Securable::Partition { database: database.clone(), table: table.clone(), values: values.clone() },
        Securable::Column { database: database.clone(), table: table.clone(), partition: None, column: column.clone() },
        Securable::Column { database, table, partition: Some(values), column },
    ]
}

fn grant(on: &Securable, to: &Principal, privilege: &str) -> Grant {
    Grant {
        on: on.clone(),
        to: to.clone(),
        privilege: privilege.into(),
        grantor: Some(Principal { name: "ada".into(), kind: PrincipalKind::User }),
        grant_option: false,
        create_time_s: 0,
        authorizer: Some("SQL".into()),
    }
}

fn role(name: &str) -> Role {
    Role { name: name.into(), owner: Some("ada".into()), create_time_s: 0 }
}

async fn new_role(store: &dyn Store) -> String {
    let name = format!("Role_{}", ids::new_id());
    store.create_role(&role(&name)).await.expect("a new role");
    name
}
