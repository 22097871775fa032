//! A metastore's names copied into another catalog.

use std::sync::Arc;

use sqlx::{AssertSqlSafe, query_scalar, raw_sql};
use tereza_catalog::conformance;
use tereza_catalog::hive::Remote;
use tereza_catalog::import::{FromStore, Imported, import};
use tereza_catalog::model::{Constraint, Grant, Principal, PrincipalKind, Reference, Role, RoleGrant, Rule, Securable};
use tereza_catalog::store::{hms, mysql};
use tereza_catalog::{HmsStore, MySqlStore, SqliteStore, Store};
use tereza_runtime::ErrorKind;
use tereza_runtime::clock::Clock;
use tereza_thrift::client;
use tereza_thrift::hive::{AddPartitionsArgs, CreateDatabaseArgs, Partition, Table};

use crate::mariadb::new_database;
use crate::support::*;

struct Copy {
    store: Arc<SqliteStore>,
    remote: Remote,
}

impl Copy {
    async fn of(metastore: &Metastore) -> Self {
        let path = metastore.folder.path().join("copy.db");
        let store = Arc::new(SqliteStore::open(path, metastore.clock.clone()).await.unwrap());
        let remote = Remote::new(&format!("thrift://{}", metastore.address), client::Settings::default()).unwrap();
        Self { store, remote }
    }

    async fn import(&self, databases: &[&str]) -> tereza_runtime::Result<Imported> {
        let databases: Vec<String> = databases.iter().map(|name| (*name).to_owned()).collect();
        import(&self.remote, self.store.as_ref(), &databases, &mut |_, _| {}).await
    }
}

fn day(n: usize) -> String {
    format!("2024-{:02}-{:02}", n / 28 + 1, n % 28 + 1)
}

#[tokio::test]
async fn all_names_are_copied_and_again_only_what_is_new() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    make(&mut client, partitioned_table("events")).await;
    let view = Table {
        table_type: text("VIRTUAL_VIEW"),
        view_original_text: text("SELECT 1"),
        view_expanded_text: text("SELECT 1"),
        ..partitioned_table("seen")
    };
    make(&mut client, Table { partition_keys: None, ..view }).await;
    let new_parts = (0..40).map(|n| partition("events", &[&day(n), "7", "2024-02-29"])).collect();
    client.add_partitions(AddPartitionsArgs { new_parts: Some(new_parts) }).await.unwrap();

    let copy = Copy::of(&metastore).await;
    let first = copy.import(&[]).await.unwrap();
    assert_eq!((first.databases, first.tables, first.partitions), (2, 2, 40), "{first:?}");
    assert_eq!((first.known, &first.different[..], &first.problems[..]), (0, &[][..], &[][..]));
    let (copied, original) = (copy.store.as_ref(), metastore.store().await);
    for name in ["default", "web"] {
        assert_eq!(copied.database(name).await.unwrap(), original.database(name).await.unwrap());
        assert_eq!(copied.tables(name).await.unwrap(), original.tables(name).await.unwrap());
    }
    for name in ["events", "seen"] {
        assert_eq!(copied.table("web", name).await.unwrap().table, original.table("web", name).await.unwrap().table);
    }
    let all = Default::default();
    let partitions = copied.partitions("web", "events", &all, None).await.unwrap();
    assert_eq!(partitions, original.partitions("web", "events", &all, None).await.unwrap());

    let new_parts = Some(vec![partition("events", &["x/y=z", "7", "2024-02-29"])]);
    client.add_partitions(AddPartitionsArgs { new_parts }).await.unwrap();
    make(&mut client, partitioned_table("later")).await;
    let again = copy.import(&["WEB"]).await.unwrap();
    assert_eq!((again.databases, again.tables, again.partitions), (0, 1, 1), "{again:?}");
    assert_eq!((again.known, &again.different[..], &again.problems[..]), (3, &[][..], &[][..]));

    let mut changed = copied.table("web", "seen").await.unwrap().table;
    changed.view_original_text = Some("SELECT 2".to_owned());
    copied.alter_table("web", "seen", None, &changed).await.unwrap();
    let differing = copy.import(&[]).await.unwrap();
    assert_eq!(differing.different, ["table web.seen"]);
    assert_eq!(copied.table("web", "seen").await.unwrap().table.view_original_text.as_deref(), Some("SELECT 2"));
}

#[tokio::test]
async fn what_cannot_be_reached_or_is_not_there_is_said() {
    let metastore = Metastore::new().await;
    let copy = Copy::of(&metastore).await;
    let error = copy.import(&["nope"]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("no database nope"), "{error}");
    let address = metastore.address;
    metastore.end().await;
    let error = copy.import(&[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.to_string().contains(&address.to_string()), "{error}");
}

fn principal(kind: PrincipalKind, name: &str) -> Principal {
    Principal { name: name.into(), kind }
}

fn constraint(table: (&str, &str), name: &str, columns: &[&str], rule: Rule) -> Constraint {
    Constraint {
        name: name.into(),
        database: table.0.into(),
        table: table.1.into(),
        columns: texts(columns),
        rule,
        enabled: true,
        validated: false,
        relied: true,
    }
}

/// Every kind of constraint, of securable and of principal, with a foreign key to a table of a database that comes later.
async fn fill_beside(client: &mut client::Client, store: &SqliteStore) {
    make_web(client).await;
    let early = Database_ { name: text("early"), ..Database_::default() };
    client.create_database(CreateDatabaseArgs { database: Some(early) }).await.unwrap();
    make(client, table("parent")).await;
    let own = Some(map(&[("PARTITION_LEVEL_PRIVILEGE", "TRUE")]));
    make(client, Table { db_name: text("early"), parameters: own, ..partitioned_table("child") }).await;
    let part = Partition { db_name: text("early"), ..partition("child", &["a/b", "7", "2024-02-29"]) };
    client.add_partitions(AddPartitionsArgs { new_parts: Some(vec![part]) }).await.unwrap();

    let child = ("early", "child");
    let reference = Reference {
        database: "web".into(),
        table: "parent".into(),
        columns: texts(&["id", "name"]),
        update_rule: Some(1),
        delete_rule: None,
    };
    let constraints = [
        constraint(("web", "parent"), "pk", &["id"], Rule::PrimaryKey),
        constraint(("web", "parent"), "both", &["id", "name"], Rule::Unique),
        constraint(child, "fk", &["id", "name"], Rule::ForeignKey(reference)),
        constraint(child, "nn", &["ds"], Rule::NotNull),
        constraint(child, "df", &["name"], Rule::Default("'x'".into())),
        constraint(child, "ck", &[], Rule::Check("k > id".into())),
    ];
    store.add_constraints(&constraints).await.unwrap();

    for name in ["Readers", "writers"] {
        store.create_role(&Role { name: name.into(), owner: Some("ada".into()), create_time_s: 0 }).await.unwrap();
    }
    let ada = principal(PrincipalKind::User, "Ada");
    let role_grant = |role: &str, to: &Principal, grant_option| RoleGrant {
        role: role.into(),
        to: to.clone(),
        grantor: Some(principal(PrincipalKind::Role, "admin")),
        grant_option,
        added_s: 0,
    };
    store.grant_role(&role_grant("Readers", &principal(PrincipalKind::Role, "writers"), false)).await.unwrap();
    store.grant_role(&role_grant("writers", &ada, true)).await.unwrap();
    store.grant_role(&role_grant("admin", &ada, false)).await.unwrap();

    let grants: Vec<Grant> = securables()
        .into_iter()
        .zip(
            [&ada, &principal(PrincipalKind::Role, "Readers"), &principal(PrincipalKind::Group, "staff")]
                .into_iter()
                .cycle(),
        )
        .flat_map(|(on, to)| {
            ["SELECT", "INSERT"].map(|privilege| Grant {
                on: on.clone(),
                to: to.clone(),
                privilege: privilege.into(),
                grantor: Some(ada.clone()),
                grant_option: privilege == "SELECT",
                create_time_s: 0,
                authorizer: Some("SQL".into()),
            })
        })
        .collect();
    store.grant_privileges(&grants).await.unwrap();
}

fn securables() -> Vec<Securable> {
    let (database, table) = ("early".to_owned(), "child".to_owned());
    let values = texts(&["a/b", "7", "2024-02-29"]);
    let column = |partition, column: &str| Securable::Column {
        database: database.clone(),
        table: table.clone(),
        partition,
        column: column.into(),
    };
    vec![
        Securable::Everything,
        Securable::Database { database: "web".into() },
        Securable::Table { database: database.clone(), table: table.clone() },
        column(None, "name"),
        Securable::Partition { database: database.clone(), table: table.clone(), values: values.clone() },
        column(Some(values), "id"),
    ]
}

/// Privileges without the times at which they were given.
async fn privileges(store: &dyn Store, on: &Securable) -> Vec<Grant> {
    let found = store.privileges(on, None).await.unwrap();
    found.into_iter().map(|grant| Grant { create_time_s: 0, ..grant }).collect()
}

async fn assert_same_beside(copied: &dyn Store, original: &dyn Store) {
    for (database, table) in [("web", "parent"), ("early", "child")] {
        let found = copied.constraints(database, table).await.unwrap();
        assert_eq!(found, original.constraints(database, table).await.unwrap());
        assert!(found.len() >= 2, "{found:?}");
    }
    for role in ["Readers", "writers", "admin"] {
        let grants = async |store: &dyn Store| {
            let found = store.principals_in_role(role).await.unwrap();
            found.into_iter().map(|grant| RoleGrant { added_s: 0, ..grant }).collect::<Vec<_>>()
        };
        let found = grants(copied).await;
        assert_eq!(found, grants(original).await);
        assert_eq!(found.len(), 1, "{found:?}");
    }
    for on in securables() {
        let found = privileges(copied, &on).await;
        assert_eq!(found, privileges(original, &on).await);
        // The role `admin` may do everything, from the beginning.
        assert_eq!(found.len(), if on == Securable::Everything { 3 } else { 2 }, "{found:?}");
    }
}

fn counts(done: &Imported) -> (usize, usize, usize, usize) {
    (done.constraints, done.roles, done.role_grants, done.privileges)
}

#[tokio::test]
async fn constraints_roles_and_privileges_are_copied_once() {
    let metastore = Metastore::new().await;
    let original = metastore.store().await;
    fill_beside(&mut metastore.client().await, &original).await;
    let copy = Copy::of(&metastore).await;
    let first = copy.import(&[]).await.unwrap();
    assert_eq!((&first.different[..], &first.problems[..]), (&[][..], &[][..]));
    assert_eq!(counts(&first), (6, 2, 3, 12), "{first:?}");
    assert_same_beside(copy.store.as_ref(), &original).await;

    // What is lost of it comes back, and what is different is left and named.
    let copied = copy.store.as_ref();
    copied.drop_constraint("early", "child", "fk").await.unwrap();
    copied.drop_constraint("early", "child", "nn").await.unwrap();
    copied.add_constraints(&[constraint(("early", "child"), "nn", &["k"], Rule::NotNull)]).await.unwrap();
    let ada = principal(PrincipalKind::User, "Ada");
    copied.revoke_role("admin", &ada, false).await.unwrap();
    copied.revoke_role("writers", &ada, true).await.unwrap();
    let mut on_all = copied.privileges(&Securable::Everything, Some(&ada)).await.unwrap();
    on_all.sort_by(|one, two| one.privilege.cmp(&two.privilege));
    copied.revoke_privileges(&on_all[..1], false).await.unwrap();
    copied.revoke_privileges(&on_all[1..], true).await.unwrap();
    let again = copy.import(&[]).await.unwrap();
    assert_eq!(counts(&again), (1, 0, 1, 1), "{again:?}");
    assert_eq!(again.problems, [""; 0]);
    let different = [
        "role writers of user Ada",
        "privilege SELECT of user Ada on everything",
        "constraint nn of table early.child",
    ];
    assert_eq!(again.different, different);
    assert_eq!(counts(&copy.import(&[]).await.unwrap()), (0, 0, 0, 0));
}

#[tokio::test]
async fn what_cannot_be_carried_is_named() {
    let metastore = Metastore::new().await;
    let original = metastore.store().await;
    fill_beside(&mut metastore.client().await, &original).await;
    let copy = Copy::of(&metastore).await;
    // The name of a constraint is another's here, and the table of a foreign key is not copied.
    let copied = copy.store.as_ref();
    copied.create_database(&original.database("early").await.unwrap()).await.unwrap();
    let mut other = original.table("early", "child").await.unwrap().table;
    other.name = "other".into();
    other.storage.location = None;
    copied.create_table(&other).await.unwrap();
    copied.add_constraints(&[constraint(("early", "other"), "nn", &["k"], Rule::NotNull)]).await.unwrap();
    let done = copy.import(&["early"]).await.unwrap();
    assert_eq!(counts(&done), (2, 2, 3, 8), "privileges on all and on the other database stay: {done:?}");
    let [taken, missing] = &done.problems[..] else { panic!("{:?}", done.problems) };
    assert_eq!(taken, "constraint nn of table early.child: constraint 'nn' already exists");
    assert!(missing.starts_with("constraint fk of table early.child: ") && missing.contains("'web"), "{missing}");

    // A catalog that keeps none of it says so once for each.
    let folder = metastore.folder.path();
    let target = Metastore::new().await;
    let url = format!("thrift://{}", target.address);
    let path = folder.join("beside.db");
    let store = HmsStore::connect(&url, hms::Settings::default(), path, metastore.clock.clone()).await.unwrap();
    let done = import(&copy.remote, &store, &[], &mut |_, _| {}).await.unwrap();
    assert_eq!((done.tables, done.partitions, counts(&done)), (2, 1, (0, 0, 0, 0)), "{done:?}");
    let mut kinds: Vec<&str> = done.problems.iter().map(|problem| problem.split_once(": ").unwrap().0).collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["constraints", "privileges", "roles"], "{:?}", done.problems);
}

/// A metastore's database as the metastore left it, without a metastore; nothing is made or changed in it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_come_out_of_a_database_that_is_only_read() {
    const COUNTS: &str = "SELECT CONCAT_WS(' ', (SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE()), \
                          (SELECT COUNT(*) FROM TBLS), (SELECT COUNT(*) FROM PARTITIONS), (SELECT MAX(NEXT_VAL) FROM SEQUENCE_TABLE))";
    let Some(database) = new_database().await else { return };
    let original = database.store().await;
    let settings = || mysql::Settings { read_only: true, ..mysql::Settings::default() };
    let url = database.url();
    let open = || MySqlStore::open(&url, settings(), Clock::system());
    conformance::tables::a_renamed_table_keeps_what_it_has(&original).await;
    conformance::partitions::partitions_are_found_by_their_names(&original).await;
    conformance::statistics::a_table_and_its_partitions_have_their_own(&original).await;
    conformance::functions::functions_keep_their_database(&original).await;
    conformance::functions::a_function_comes_back_as_it_was_given(&original).await;
    conformance::constraints::constraints_come_back_as_they_were_given(&original).await;
    conformance::privileges::run(&original).await;
    original.close().await;
    let mut conn = database.connect().await;
    let own: Vec<String> = query_scalar(
        "SELECT CAST(TABLE_NAME AS CHAR) FROM information_schema.TABLES WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME LIKE 'TZ%' \
         ORDER BY TABLE_NAME = 'TZ_WRITES'",
    )
    .fetch_all(&mut conn)
    .await
    .unwrap();
    raw_sql(AssertSqlSafe(format!("SET FOREIGN_KEY_CHECKS = 0; DROP TABLE {}", own.join(", "))))
        .execute(&mut conn)
        .await
        .unwrap();
    let before: String = query_scalar(COUNTS).fetch_one(&mut conn).await.unwrap();

    let source = FromStore(open().await.unwrap());
    let folder = tempfile::tempdir().unwrap();
    let copy = SqliteStore::open(folder.path().join("copy.db"), Clock::system()).await.unwrap();
    let done = import(&source, &copy, &[], &mut |_, _| {}).await.unwrap();
    assert!(done.databases > 4 && done.tables >= 3 && done.partitions >= 5 && done.functions == 2, "{done:?}");
    assert_eq!((&done.different[..], &done.problems[..]), (&[][..], &[][..]));
    for database in source.0.databases().await.unwrap() {
        assert_eq!(copy.tables(&database).await.unwrap(), source.0.tables(&database).await.unwrap());
        for (name, _) in copy.tables(&database).await.unwrap() {
            let (mut one, other) =
                (copy.table(&database, &name).await.unwrap(), source.0.table(&database, &name).await.unwrap());
            one.table.create_time_s = other.table.create_time_s;
            assert_eq!(one.table, other.table);
            let constraints = copy.constraints(&database, &name).await.unwrap();
            assert_eq!(constraints, source.0.constraints(&database, &name).await.unwrap());
            let on = Securable::Table { database: database.clone(), table: name.clone() };
            assert_eq!(privileges(&copy, &on).await, privileges(&source.0, &on).await);
            let names = copy.partition_names(&database, &name).await.unwrap();
            assert_eq!(names, source.0.partition_names(&database, &name).await.unwrap());
            let statistics = copy.partition_statistics(&database, &name, &names).await.unwrap();
            assert_eq!(statistics.len(), source.0.partition_statistics(&database, &name, &names).await.unwrap().len());
        }
    }
    let again = import(&source, &copy, &[], &mut |_, _| {}).await.unwrap();
    assert_eq!((again.tables, again.partitions, again.functions, &again.different[..]), (0, 0, 0, &[][..]));
    assert_eq!(counts(&again), (0, 0, 0, 0));
    // It is not changed, and cannot be.
    assert!(source.0.drop_database("default", true).await.is_err());
    let first = source.0.databases().await.unwrap().into_iter().find(|name| name != "default").unwrap();
    source.0.drop_database(&first, true).await.unwrap_err();
    assert_eq!(query_scalar::<_, String>(COUNTS).fetch_one(&mut conn).await.unwrap(), before);
    raw_sql("DROP TABLE VERSION").execute(&mut conn).await.unwrap();
    assert_eq!(open().await.unwrap_err().kind(), ErrorKind::InvalidInput);
}
