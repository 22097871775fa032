//! Real Hive Metastores of three versions as the catalog, where they are installed (`hive.rs`).

use tereza_catalog::conformance::{commits, partitions};
use tereza_catalog::hive::Remote;
use tereza_catalog::import::import;
use tereza_catalog::model::{Principal, PrincipalKind, Rule, Securable};
use tereza_catalog::store::Commit;
use tereza_catalog::{MySqlStore, SqliteStore, Store};
use tereza_runtime::ErrorKind;
use tereza_runtime::clock::Clock;
use tereza_thrift::client::Client;
use tereza_thrift::hive::*;

use super::{begin, database, number, open, partition, rows, table};
use crate::hive::{Hive, home, home_of_4, jars_of_spark, make_by_its_own_file};
use crate::mariadb::new_database;
use crate::support::text;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_metastore_is_a_catalog() {
    let (Some(home), Some(at)) = (home(), new_database().await) else { return };
    at.store().await.close().await;
    let hive = Hive::start(&home, &at).await;
    is_a_catalog(&hive).await;
    is_copied(&hive).await;
    let behind = MySqlStore::open(&at.url(), Default::default(), Clock::system()).await.unwrap();
    assert_eq!(behind.table("web", "t").await.unwrap_err().kind(), ErrorKind::NotFound);
    assert!(behind.table("web", "made").await.is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_metastore_of_hive_2_is_a_catalog() {
    if let Some(jars) = jars_of_spark().await {
        let hive = Hive::start_2(&jars).await;
        is_a_catalog(&hive).await;
        is_copied(&hive).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_metastore_of_hive_4_is_a_catalog() {
    let (Some(home), Some(at)) = (home_of_4(), new_database().await) else { return };
    make_by_its_own_file(&home, "4.0.0", &mut at.connect().await).await;
    let hive = Hive::start(&home, &at).await;
    is_a_catalog(&hive).await;
    is_copied(&hive).await;
}

/// Constraints, roles and privileges as each version tells of them, without what Hive 2 has no calls for.
async fn is_copied(hive: &Hive) {
    let mut client = hive.client().await;
    let address = format!("127.0.0.1:{}", hive.port);
    let warehouse = format!("file:{}/warehouse", hive.folder.path().display());
    let store = open(&address, hive.folder.path(), "makes.db", &Clock::system()).await;
    for name in ["parent", "child"] {
        store.create_table(&table(&warehouse, name)).await.unwrap();
    }
    let db = text("web");
    let key = SQLPrimaryKey {
        table_db: db.clone(),
        table_name: text("parent"),
        column_name: text("id"),
        key_seq: Some(1),
        pk_name: text("of_parent"),
        enable_cstr: Some(true),
        validate_cstr: Some(false),
        rely_cstr: Some(true),
        cat_name: text("hive"),
    };
    let req = AddPrimaryKeyRequest { primary_key_cols: vec![key] };
    client.add_primary_key(AddPrimaryKeyArgs { req: Some(req) }).await.unwrap();
    let key = SQLForeignKey {
        pktable_db: db.clone(),
        pktable_name: text("parent"),
        pkcolumn_name: text("id"),
        fktable_db: db.clone(),
        fktable_name: text("child"),
        fkcolumn_name: text("id"),
        key_seq: Some(1),
        update_rule: Some(0),
        delete_rule: Some(3),
        fk_name: text("to_parent"),
        pk_name: text("of_parent"),
        enable_cstr: Some(false),
        validate_cstr: Some(false),
        rely_cstr: Some(false),
        cat_name: text("hive"),
    };
    let req = AddForeignKeyRequest { foreign_key_cols: vec![key] };
    client.add_foreign_key(AddForeignKeyArgs { req: Some(req) }).await.unwrap();

    let role = Role { role_name: text("readers"), create_time: Some(0), owner_name: text("ada") };
    client.create_role(CreateRoleArgs { role: Some(role) }).await.unwrap();
    let grant = GrantRoleArgs {
        role_name: text("readers"),
        principal_name: text("bob"),
        principal_type: Some(PrincipalType::USER),
        grantor: text("ada"),
        grantor_type: Some(PrincipalType::USER),
        grant_option: Some(true),
    };
    client.grant_role(grant).await.unwrap();
    let on = |object_type, table: Option<&str>, column: Option<&str>| HiveObjectPrivilege {
        hive_object: Some(HiveObjectRef {
            object_type: Some(object_type),
            db_name: db.clone().filter(|_| object_type != HiveObjectType::GLOBAL),
            object_name: table.map(str::to_owned),
            part_values: None,
            column_name: column.map(str::to_owned),
            cat_name: text("hive"),
        }),
        principal_name: text("readers"),
        principal_type: Some(PrincipalType::ROLE),
        grant_info: Some(PrivilegeGrantInfo {
            privilege: text("SELECT"),
            create_time: Some(0),
            grantor: text("ada"),
            grantor_type: Some(PrincipalType::USER),
            grant_option: Some(column.is_some()),
        }),
        authorizer: text("SQL"),
    };
    let bag = PrivilegeBag {
        privileges: Some(vec![
            on(HiveObjectType::GLOBAL, None, None),
            on(HiveObjectType::DATABASE, None, None),
            on(HiveObjectType::TABLE, Some("child"), None),
            on(HiveObjectType::COLUMN, Some("child"), Some("id")),
        ]),
    };
    client.grant_privileges(GrantPrivilegesArgs { privileges: Some(bag) }).await.unwrap();

    let remote = Remote::new(&format!("thrift://{address}"), Default::default()).unwrap();
    let copy = SqliteStore::open(hive.folder.path().join("copy.db"), Clock::system()).await.unwrap();
    let done = import(&remote, &copy, &[], &mut |_, _| {}).await.unwrap();
    assert_eq!((&done.problems[..], &done.different[..]), (&[][..], &[][..]), "{done:?}");
    assert_eq!((done.constraints, done.roles, done.role_grants, done.privileges), (2, 1, 1, 4), "{done:?}");
    let of_parent = copy.constraints("web", "parent").await.unwrap().remove(0);
    assert_eq!((of_parent.name.as_str(), &of_parent.rule), ("of_parent", &Rule::PrimaryKey));
    assert!(of_parent.enabled && !of_parent.validated && of_parent.relied);
    let to_parent = copy.constraints("web", "child").await.unwrap().remove(0);
    let Rule::ForeignKey(reference) = to_parent.rule else { panic!("{to_parent:?}") };
    assert_eq!((reference.table.as_str(), &reference.columns[..]), ("parent", &["id".to_owned()][..]));
    assert_eq!((reference.update_rule, reference.delete_rule), (Some(0), Some(3)));
    let bob = Principal { name: "bob".into(), kind: PrincipalKind::User };
    let roles = copy.roles_of(&bob).await.unwrap();
    assert!(roles.len() == 1 && roles[0].role == "readers" && roles[0].grant_option, "{roles:?}");
    let (database, table) = ("web".to_owned(), "child".to_owned());
    let column = Securable::Column { database, table, partition: None, column: "id".into() };
    let given = copy.privileges(&column, None).await.unwrap();
    assert!(given.len() == 1 && given[0].grant_option && given[0].privilege == "SELECT", "{given:?}");
    let again = import(&remote, &copy, &[], &mut |_, _| {}).await.unwrap();
    assert_eq!((again.constraints, again.roles, again.role_grants, again.privileges), (0, 0, 0, 0), "{again:?}");
    assert_eq!((&again.problems[..], &again.different[..]), (&[][..], &[][..]), "{again:?}");
}

/// By the call of all but Hive 4, or by that of all but Hive 2.
async fn table_of(client: &mut Client, name: &str) -> tereza_thrift::hive::Table {
    match client.get_table(GetTableArgs { dbname: text("web"), tbl_name: text(name) }).await {
        Ok(found) => found,
        Err(_) => {
            let req = GetTableRequest { db_name: "web".into(), tbl_name: name.into(), ..GetTableRequest::default() };
            client.get_table_req(GetTableReqArgs { req: Some(req) }).await.unwrap().table
        }
    }
}

async fn is_a_catalog(hive: &Hive) {
    let (address, clock) = (format!("127.0.0.1:{}", hive.port), Clock::system());
    let one = open(&address, hive.folder.path(), "one.db", &clock).await;
    let other = open(&address, hive.folder.path(), "other.db", &clock).await;
    let warehouse = format!("file:{}/warehouse", hive.folder.path().display());
    one.create_database(&database(&warehouse)).await.unwrap();
    let given = table(&warehouse, "t");
    one.create_table(&given).await.unwrap();
    assert_eq!(one.create_table(&given).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(one.table("web", "nope").await.unwrap_err().kind(), ErrorKind::NotFound);

    // INSERTs of two, then an OVERWRITE of each from the same version.
    let insert = async |store: &dyn Store, value: &str| {
        let rows = |value: &str| (vec![value.to_owned()], vec![("numRows".to_owned(), 2)]);
        let commit = Commit {
            add_partitions: vec![partition(&given, "shared"), partition(&given, value)],
            table_increments: vec![("numRows".into(), 4)],
            partition_increments: vec![rows("shared"), rows(value)],
            ..begin(store, "t").await
        };
        store.commit(&commit).await.unwrap();
    };
    tokio::join!(insert(&one, "a"), insert(&other, "b"));
    for store in [&one, &other] {
        assert_eq!(rows(store, "t").await, [("a".into(), 2), ("b".into(), 2), ("shared".into(), 4)]);
        assert_eq!(number(&store.table("web", "t").await.unwrap().table.parameters, "numRows"), 8);
    }
    let seen = [one.table_version("web", "t").await.unwrap(), other.table_version("web", "t").await.unwrap()];
    let overwrite = async |store: &dyn Store, version| {
        let commit = Commit {
            expected_version: Some(version),
            drop_partitions: vec![vec!["a".into()], vec!["b".into()], vec!["shared".into()]],
            add_partitions: vec![partition(&given, "c")],
            ..begin(store, "t").await
        };
        store.commit(&commit).await.map_err(|error| error.kind())
    };
    let outcomes = tokio::join!(overwrite(&one, seen[0]), overwrite(&other, seen[1]));
    assert!([outcomes.0.is_ok(), outcomes.1.is_ok()].contains(&false) && outcomes.0.is_ok() != outcomes.1.is_ok());
    assert_eq!(rows(&other, "t").await.len(), 1);

    // What a client of Hive sees, and what it changes is another version.
    let mut client = hive.client().await;
    let mut theirs = table_of(&mut client, "t").await;
    let version = one.table_version("web", "t").await.unwrap();
    theirs.parameters.as_mut().unwrap().insert("k".into(), "v".into());
    let alter = AlterTableArgs { dbname: text("web"), tbl_name: text("t"), new_tbl: Some(theirs) };
    client.alter_table(alter).await.unwrap();
    assert_eq!(overwrite(&one, version).await, Err(ErrorKind::Conflict));
    let names = one.partition_names("web", "t").await.unwrap();
    assert_eq!(names, ["ds=c"]);

    // CREATE TABLE AS, and the cases of the suite that say most about commits.
    let made = Commit {
        create_table: Some(table(&warehouse, "made")),
        add_partitions: vec![partition(&given, "x")],
        table_increments: vec![("numRows".into(), 3)],
        ..begin(&one, "made").await
    };
    one.commit(&made).await.unwrap();
    assert_eq!(number(&other.table("web", "made").await.unwrap().table.parameters, "numRows"), 3);
    commits::a_commit_that_fails_leaves_nothing(&one).await;
    commits::a_stale_version_is_refused(&one).await;
    commits::a_commit_asked_for_twice_happens_once(&one).await;
    commits::numbers_are_added(&one).await;
    partitions::a_filter_picks_by_any_key(&one).await;
    partitions::dropping_is_all_or_nothing(&one).await;
    one.drop_table("web", "t").await.unwrap();
    assert_eq!(one.locks(0).await.unwrap(), []);
}
