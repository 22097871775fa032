//! A real Hive Metastore 3.1 on the same database, where one is installed (`hive.rs`).

use std::collections::BTreeSet;
use std::path::Path;

use futures::future::join_all;
use sqlx::{AssertSqlSafe, MySqlConnection, query_as, query_scalar};
use tereza_catalog::model::{
    Constraint, Grant, LockMode, LockPart, Principal, PrincipalKind, RoleGrant, Rule, Securable,
};
use tereza_catalog::store::{LockRequest, mysql};
use tereza_catalog::{MySqlStore, Store, conformance};
use tereza_runtime::clock::Clock;
use tereza_thrift::hive::*;

use super::partition as catalog_partition;
use crate::hive::{Hive, home, make_by_its_own_file};
use crate::mariadb::{TestDatabase, new_database};
use crate::support::{make_web, partition, partitioned_table, table, text, texts};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tables_are_those_of_a_metastore() {
    let (Some(home), Some(mine), Some(theirs)) = (home(), new_database().await, new_database().await) else { return };
    mine.store().await.close().await;
    let (mut mine, mut theirs) = (mine.connect().await, theirs.connect().await);
    make_by_its_own_file(&home, "3.1.0", &mut theirs).await;
    // Everything about columns but lengths and character sets, and about keys but their names.
    let columns = "SELECT CONCAT_WS(' ', TABLE_NAME, COLUMN_NAME, DATA_TYPE, IS_NULLABLE, EXTRA) \
                   FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME NOT LIKE 'TZ%'";
    let foreign = "SELECT CONCAT_WS(' ', TABLE_NAME, COLUMN_NAME, REFERENCED_TABLE_NAME, REFERENCED_COLUMN_NAME) \
                   FROM information_schema.KEY_COLUMN_USAGE \
                   WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME NOT LIKE 'TZ%' AND REFERENCED_TABLE_NAME IS NOT NULL";
    let unique = "SELECT CONCAT_WS(' ', TABLE_NAME, GROUP_CONCAT(COLUMN_NAME ORDER BY COLUMN_NAME)) \
                  FROM information_schema.STATISTICS \
                  WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME NOT LIKE 'TZ%' AND NON_UNIQUE = 0 \
                  GROUP BY TABLE_NAME, INDEX_NAME";
    for sql in [columns, foreign, unique] {
        let lines = async |conn: &mut MySqlConnection| {
            let lines: Vec<String> = query_scalar(sql).fetch_all(conn).await.unwrap();
            lines.into_iter().collect::<BTreeSet<_>>()
        };
        let (mine, theirs) = (lines(&mut mine).await, lines(&mut theirs).await);
        assert!(
            mine == theirs,
            "only mine: {:#?}\nonly theirs: {:#?}",
            mine.difference(&theirs).collect::<Vec<_>>(),
            theirs.difference(&mine).collect::<Vec<_>>()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_tables_of_a_metastore_conform() {
    let (Some(home), Some(at)) = (home(), new_database().await) else { return };
    make_by_its_own_file(&home, "3.1.0", &mut at.connect().await).await;
    let store = MySqlStore::open(&at.url(), mysql::Settings::default(), Clock::system()).await.unwrap();
    let store: &dyn Store = &store;
    assert_eq!(store.databases().await.unwrap(), ["default"]);
    // All but the names and texts of other languages, which its character set has no letters for.
    conformance::databases::run(store).await;
    conformance::tables::run(store).await;
    conformance::partitions::run(store).await;
    conformance::commits::run(store).await;
    conformance::functions::run(store).await;
    conformance::locks::run(store).await;
    conformance::constraints::run(store).await;
    conformance::privileges::run(store).await;
    conformance::methods::run(store).await;
    conformance::races::run(store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_metastore_on_its_own_tables() {
    let (Some(home), Some(at)) = (home(), new_database().await) else { return };
    make_by_its_own_file(&home, "3.1.0", &mut at.connect().await).await;
    beside_a_metastore(&home, &at).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beside_a_metastore_on_tables_that_tereza_made() {
    let (Some(home), Some(at)) = (home(), new_database().await) else { return };
    at.store().await.close().await;
    beside_a_metastore(&home, &at).await;
}

async fn beside_a_metastore(home: &Path, at: &TestDatabase) {
    const WRITERS: usize = 4;
    const ROUNDS: usize = 4;
    let store = MySqlStore::open(&at.url(), mysql::Settings::default(), Clock::system()).await.unwrap();
    let hive = Hive::start(home, at).await;
    let mut client = hive.client().await;

    // What the metastore makes, Tereza reads.
    make_web(&mut client).await;
    client.create_table(CreateTableArgs { tbl: Some(partitioned_table("theirs")) }).await.unwrap();
    let found = store.table("web", "theirs").await.unwrap().table;
    assert_eq!(found.partition_keys.len(), 3);
    assert_eq!(found.parameters["k"], "v");
    assert_eq!(found.storage.columns[0].type_name, "bigint");

    // What Tereza makes, the metastore reads; then both change it by turns.
    let shared = tereza_catalog::model::Table { name: "shared".into(), ..found.clone() };
    store.create_table(&shared).await.unwrap();
    let add = |values: [&str; 3]| {
        let location = found.storage.location.as_ref().map(|folder| format!("{folder}/{}", values.join("-")));
        let storage = tereza_catalog::model::Storage { location, ..found.storage.clone() };
        tereza_catalog::model::Partition { storage, ..catalog_partition(&values) }
    };
    store.add_partitions("web", "shared", &[add(["a", "1", "2024-01-01"])], false).await.unwrap();
    let get = GetTableArgs { dbname: text("web"), tbl_name: text("shared") };
    let seen = client.get_table(get.clone()).await.unwrap();
    assert_eq!(seen.sd.unwrap().cols.unwrap().len(), 2);
    let names = GetPartitionNamesArgs { db_name: text("web"), tbl_name: text("shared"), max_parts: Some(-1) };
    assert_eq!(client.get_partition_names(names.clone()).await.unwrap(), ["ds=a/k=1/d=2024-01-01"]);
    let theirs = partition_of("shared", &["b", "2", "2024-01-02"]);
    client.add_partition(AddPartitionArgs { new_part: Some(theirs) }).await.unwrap();
    assert_eq!(store.partition_names("web", "shared").await.unwrap().len(), 2);
    let before = store.table("web", "shared").await.unwrap();
    let mut changed = before.table.clone();
    changed.parameters.insert("n".into(), "1".into());
    store.alter_table("web", "shared", Some(before.version), &changed).await.unwrap();
    let mut seen = client.get_table(get.clone()).await.unwrap();
    assert_eq!(seen.parameters.as_ref().unwrap()["n"], "1");
    seen.parameters.as_mut().unwrap().insert("n".into(), "2".into());
    let alter = AlterTableArgs { dbname: text("web"), tbl_name: text("shared"), new_tbl: Some(seen) };
    client.alter_table(alter).await.unwrap();
    assert_eq!(store.table("web", "shared").await.unwrap().table.parameters["n"], "2", "nothing old is kept");

    // Something of each kind, from which both make more.
    let view = Table {
        table_type: text("VIRTUAL_VIEW"),
        view_original_text: text("SELECT 1"),
        view_expanded_text: text("SELECT 1"),
        ..partitioned_table("a_view")
    };
    let view = Table { partition_keys: None, ..view };
    client.create_table(CreateTableArgs { tbl: Some(view.clone()) }).await.unwrap();
    let function = Function {
        function_name: text("a_function"),
        db_name: text("web"),
        class_name: text("a.B"),
        owner_type: Some(PrincipalType::USER),
        function_type: Some(FunctionType::JAVA),
        resource_uris: Some(vec![ResourceUri { resource_type: Some(ResourceType::JAR), uri: text("file:/a.jar") }]),
        ..Function::default()
    };
    client.create_function(CreateFunctionArgs { func: Some(function.clone()) }).await.unwrap();
    client.update_table_column_statistics(statistics_of("shared", None, 7)).await.unwrap();
    let their_database = store.database("web").await.unwrap();
    let their_view = store.table("web", "a_view").await.unwrap().table;
    let their_function = store.function("web", "a_function").await.unwrap();
    let their_statistics = store.column_statistics("web", "shared", None).await.unwrap();
    assert_eq!(their_statistics.len(), 1);

    // Writers of both at once.
    let (store, hive, found, add) = (&store, &hive, &found, &add);
    let (view, function, their_database) = (&view, &function, &their_database);
    let (their_view, their_function, their_statistics) = (&their_view, &their_function, &their_statistics);
    let ours = |n: usize| async move {
        for round in 0..ROUNDS {
            let name = format!("ours_{n}_{round}");
            store.create_table(&tereza_catalog::model::Table { name: name.clone(), ..found.clone() }).await.unwrap();
            let (n, round) = (n.to_string(), round.to_string());
            let some = ["x", "y", "z"].map(|ds| add([ds, &n, "2024-01-01"]));
            store.add_partitions("web", &name, &some, false).await.unwrap();
            store.add_partitions("web", "shared", &[add(["ours", &n, "2024-01-01"])], true).await.unwrap();
            store
                .add_partitions("web", "shared", &[add([&format!("o{round}"), &n, "2024-01-01"])], false)
                .await
                .unwrap();
            let database = format!("ours_{n}_{round}");
            let location = format!("{}_{database}", their_database.location);
            let database = tereza_catalog::model::Database { name: database, location, ..their_database.clone() };
            store.create_database(&database).await.unwrap();
            let view = format!("our_view_{n}_{round}");
            store.create_table(&tereza_catalog::model::Table { name: view, ..their_view.clone() }).await.unwrap();
            let function = format!("ours_{n}_{round}");
            let function = tereza_catalog::model::Function { name: function, ..their_function.clone() };
            store.create_function(&function).await.unwrap();
            store.set_column_statistics("web", &name, None, their_statistics).await.unwrap();
            let values = ["x", &n, "2024-01-01"].map(str::to_owned);
            store.set_column_statistics("web", &name, Some(&values), their_statistics).await.unwrap();
        }
    };
    let theirs = |n: usize| async move {
        let mut client = hive.client().await;
        for round in 0..ROUNDS {
            let name = format!("theirs_{n}_{round}");
            client.create_table(CreateTableArgs { tbl: Some(partitioned_table(&name)) }).await.unwrap();
            let n = n.to_string();
            let new_parts = ["x", "y", "z"].map(|ds| partition_of(&name, &[ds, &n, "2024-01-01"]));
            client.add_partitions(AddPartitionsArgs { new_parts: Some(new_parts.into()) }).await.unwrap();
            let one = partition_of("shared", &[&format!("t{round}"), &n, "2024-01-01"]);
            client.add_partition(AddPartitionArgs { new_part: Some(one) }).await.unwrap();
            let database = Database { name: text(&format!("theirs_{n}_{round}")), ..Database::default() };
            client.create_database(CreateDatabaseArgs { database: Some(database) }).await.unwrap();
            let view = Table { table_name: text(&format!("their_view_{n}_{round}")), ..view.clone() };
            client.create_table(CreateTableArgs { tbl: Some(view) }).await.unwrap();
            let function = Function { function_name: text(&format!("theirs_{n}_{round}")), ..function.clone() };
            client.create_function(CreateFunctionArgs { func: Some(function) }).await.unwrap();
            client.update_table_column_statistics(statistics_of(&name, None, 3)).await.unwrap();
            let part = format!("ds=x/k={n}/d=2024-01-01");
            let UpdateTableColumnStatisticsArgs { stats_obj } = statistics_of(&name, Some(&part), 3);
            client.update_partition_column_statistics(UpdatePartitionColumnStatisticsArgs { stats_obj }).await.unwrap();
        }
    };
    tokio::join!(join_all((0..WRITERS).map(ours)), join_all((0..WRITERS).map(theirs)));
    let mut seen = client.get_partition_names(names).await.unwrap();
    seen.sort();
    assert_eq!(seen, store.partition_names("web", "shared").await.unwrap());
    assert_eq!(seen.len(), 2 + WRITERS * (2 * ROUNDS + 1));
    let mut all = client.get_all_tables(GetAllTablesArgs { db_name: text("web") }).await.unwrap();
    all.sort();
    let made = 2 * WRITERS * ROUNDS;
    // Tables and views.
    assert_eq!(all.len(), 3 + 2 * made);
    let mut databases = client.get_all_databases().await.unwrap();
    databases.sort();
    assert_eq!(databases, store.databases().await.unwrap());
    assert_eq!(databases.len(), 2 + made);
    let args = GetFunctionsArgs { db_name: text("web"), pattern: text("*") };
    let mut functions = client.get_functions(args).await.unwrap();
    functions.sort();
    assert_eq!(functions, store.functions("web").await.unwrap());
    assert_eq!(functions.len(), 1 + made);
    // Each reads the statistics that the other wrote, as they were written.
    for (writer, distincts) in [("ours", 7), ("theirs", 3)] {
        for (n, round) in (0..WRITERS).flat_map(|n| (0..ROUNDS).map(move |round| (n, round))) {
            let name = format!("{writer}_{n}_{round}");
            let read = store.column_statistics("web", &name, None).await.unwrap();
            assert_eq!(read.iter().map(|one| one.num_distincts).collect::<Vec<_>>(), [Some(distincts)], "{name}");
            let part = format!("ds=x/k={n}/d=2024-01-01");
            let request = PartitionsStatsRequest {
                db_name: "web".into(),
                tbl_name: name.clone(),
                col_names: texts(&["id"]),
                part_names: vec![part.clone()],
                ..PartitionsStatsRequest::default()
            };
            let args = GetPartitionsStatisticsReqArgs { request: Some(request) };
            let read = client.get_partitions_statistics_req(args).await.unwrap().part_stats.remove(&part).unwrap();
            assert_eq!(read.len(), 1, "{name}");
            let ColumnStatisticsData::LongStats(read) = &read[0].stats_data else { panic!("{read:?}") };
            assert_eq!(read.num_d_vs, distincts, "{name}");
        }
    }
    let mine: Vec<String> = store.tables("web").await.unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(all, mine);
    let mut conn = at.connect().await;
    let twice: (i64, i64) = query_as(
        "SELECT COUNT(*) - COUNT(DISTINCT SD_ID), COUNT(*) - (SELECT COUNT(DISTINCT SERDE_ID) FROM SDS) \
         FROM (SELECT SD_ID FROM TBLS UNION ALL SELECT SD_ID FROM PARTITIONS) s",
    )
    .fetch_one(&mut conn)
    .await
    .unwrap();
    assert_eq!(twice, (0, 0), "no storage or serde has two owners");

    // Locks of one are in the way of the other's.
    let component = LockComponent {
        r#type: LockType::EXCLUSIVE,
        level: LockLevel::TABLE,
        dbname: "web".into(),
        tablename: text("shared"),
        ..LockComponent::default()
    };
    let ask = tereza_thrift::hive::LockRequest {
        component: vec![component],
        user: "ada".into(),
        hostname: "there".into(),
        ..Default::default()
    };
    let held = client.lock(LockArgs { rqst: Some(ask.clone()) }).await.unwrap();
    assert_eq!(held.state, LockState::ACQUIRED);
    let part = LockPart { mode: LockMode::SharedRead, database: "web".into(), table: text("shared"), partition: None };
    let wanted = LockRequest { parts: vec![part], user: "ada".into(), host: "here".into(), agent: None };
    let waits = store.lock(&wanted, 60_000).await.unwrap();
    assert_eq!((waits.acquired_ms, waits.blocked_by), (None, Some(held.lockid)));
    client.unlock(UnlockArgs { rqst: Some(UnlockRequest { lockid: held.lockid }) }).await.unwrap();
    assert!(store.check_lock(waits.id, 60_000).await.unwrap().acquired_ms.is_some());
    let theirs = client.lock(LockArgs { rqst: Some(ask) }).await.unwrap();
    assert_eq!(theirs.state, LockState::WAITING);
    store.unlock(waits.id, 60_000).await.unwrap();
    let check = CheckLockRequest { lockid: theirs.lockid, ..CheckLockRequest::default() };
    assert_eq!(client.check_lock(CheckLockArgs { rqst: Some(check) }).await.unwrap().state, LockState::ACQUIRED);
    client.unlock(UnlockArgs { rqst: Some(UnlockRequest { lockid: theirs.lockid }) }).await.unwrap();

    // Each drops what the other made.
    store.drop_table("web", "theirs").await.unwrap();
    assert!(client.get_table(GetTableArgs { dbname: text("web"), tbl_name: text("theirs") }).await.is_err());
    let drop = DropDatabaseArgs { name: text("web"), delete_data: Some(false), cascade: Some(true) };
    client.drop_database(drop).await.unwrap();
    for (n, round) in (0..WRITERS).flat_map(|n| (0..ROUNDS).map(move |round| (n, round))) {
        // Each drops those of the other.
        store.drop_database(&format!("theirs_{n}_{round}"), true).await.unwrap();
        let name = text(&format!("ours_{n}_{round}"));
        client.drop_database(DropDatabaseArgs { name, delete_data: Some(false), cascade: Some(true) }).await.unwrap();
    }
    assert_eq!(store.databases().await.unwrap(), ["default"]);
    let kinds = ["TBLS", "SDS", "SERDES", "CDS", "PARTITIONS", "PARTITION_PARAMS", "HIVE_LOCKS"];
    for table in kinds.into_iter().chain(["FUNCS", "FUNC_RU", "TAB_COL_STATS", "PART_COL_STATS"]) {
        let left: i64 =
            query_scalar(AssertSqlSafe(format!("SELECT COUNT(*) FROM {table}"))).fetch_one(&mut conn).await.unwrap();
        assert_eq!(left, 0, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn constraints_roles_and_privileges_are_those_of_both() {
    let (Some(home), Some(at)) = (home(), new_database().await) else { return };
    make_by_its_own_file(&home, "3.1.0", &mut at.connect().await).await;
    let store = MySqlStore::open(&at.url(), mysql::Settings::default(), Clock::system()).await.unwrap();
    let hive = Hive::start(&home, &at).await;
    let mut client = hive.client().await;
    make_web(&mut client).await;
    let mut skewed = Table { owner_type: Some(PrincipalType::ROLE), ..table("t") };
    skewed.sd.as_mut().unwrap().skewed_info = Some(SkewedInfo {
        skewed_col_names: Some(texts(&["id"])),
        skewed_col_values: Some(vec![texts(&["1"]), texts(&["2"])]),
        skewed_col_value_location_maps: Some([].into()),
    });
    client.create_table(CreateTableArgs { tbl: Some(skewed) }).await.unwrap();
    let found = store.table("web", "t").await.unwrap().table;
    assert_eq!(found.owner_kind, PrincipalKind::Role);
    assert_eq!(found.storage.skewed.values, [texts(&["1"]), texts(&["2"])]);
    let mut changed = found;
    changed.storage.skewed.values.push(texts(&["3"]));
    store.alter_table("web", "t", None, &changed).await.unwrap();
    let get = GetTableArgs { dbname: text("web"), tbl_name: text("t") };
    let seen = client.get_table(get).await.unwrap().sd.unwrap().skewed_info.unwrap();
    assert_eq!(seen.skewed_col_values.unwrap().len(), 3);

    let key = SQLPrimaryKey {
        table_db: text("web"),
        table_name: text("t"),
        column_name: text("id"),
        key_seq: Some(1),
        pk_name: text("theirs"),
        ..Default::default()
    };
    let req = Some(AddPrimaryKeyRequest { primary_key_cols: vec![key] });
    client.add_primary_key(AddPrimaryKeyArgs { req }).await.unwrap();
    let found = store.constraints("web", "t").await.unwrap();
    assert_eq!((found.len(), &found[0].rule, &found[0].columns), (1, &Rule::PrimaryKey, &texts(&["id"])));
    let not_null =
        Constraint { name: "ours".into(), columns: texts(&["name"]), rule: Rule::NotNull, ..found[0].clone() };
    store.add_constraints(&[not_null]).await.unwrap();
    let request = NotNullConstraintsRequest {
        cat_name: "hive".into(),
        db_name: "web".into(),
        tbl_name: "t".into(),
        ..Default::default()
    };
    let seen = client.get_not_null_constraints(GetNotNullConstraintsArgs { request: Some(request) }).await.unwrap();
    let seen = &seen.not_null_constraints[0];
    assert_eq!((seen.nn_name.as_deref(), seen.column_name.as_deref()), (Some("ours"), Some("name")));

    let role = tereza_thrift::hive::Role { role_name: text("dev"), owner_name: text("ada"), ..Default::default() };
    client.create_role(CreateRoleArgs { role: Some(role) }).await.unwrap();
    let bob = Principal { name: "bob".into(), kind: PrincipalKind::User };
    let grant = RoleGrant { role: "dev".into(), to: bob.clone(), grantor: None, grant_option: false, added_s: 0 };
    store.grant_role(&grant).await.unwrap();
    let args = ListRolesArgs { principal_name: text("bob"), principal_type: Some(PrincipalType::USER) };
    let seen = client.list_roles(args).await.unwrap();
    assert_eq!(seen.iter().filter_map(|role| role.role_name.as_deref()).collect::<Vec<_>>(), ["dev", "public"]);
    let object = HiveObjectRef {
        object_type: Some(HiveObjectType::TABLE),
        db_name: text("web"),
        object_name: text("t"),
        ..Default::default()
    };
    let privilege = HiveObjectPrivilege {
        hive_object: Some(object.clone()),
        principal_name: text("bob"),
        principal_type: Some(PrincipalType::USER),
        grant_info: Some(PrivilegeGrantInfo {
            privilege: text("SELECT"),
            create_time: Some(0),
            grantor: text("ada"),
            grantor_type: Some(PrincipalType::USER),
            grant_option: Some(true),
        }),
        authorizer: text("SQL"),
    };
    let privileges = Some(PrivilegeBag { privileges: Some(vec![privilege]) });
    client.grant_privileges(GrantPrivilegesArgs { privileges }).await.unwrap();
    let on = Securable::Table { database: "web".into(), table: "t".into() };
    let found = store.privileges(&on, Some(&bob)).await.unwrap();
    assert_eq!((found.len(), found[0].privilege.as_str(), found[0].grant_option), (1, "SELECT", true));
    store.grant_privileges(&[Grant { privilege: "INSERT".into(), ..found[0].clone() }]).await.unwrap();
    let args = ListPrivilegesArgs {
        principal_name: text("bob"),
        principal_type: Some(PrincipalType::USER),
        hive_object: Some(object),
    };
    assert_eq!(client.list_privileges(args).await.unwrap().len(), 2);
    assert_eq!(client.get_metastore_db_uuid().await.unwrap(), store.catalog_id().await.unwrap());
    assert_eq!(store.last_notification().await.unwrap(), 0);

    store.drop_table("web", "t").await.unwrap();
    let mut conn = at.connect().await;
    for name in ["KEY_CONSTRAINTS", "TBL_PRIVS", "SKEWED_COL_NAMES", "SKEWED_VALUES", "SKEWED_STRING_LIST_VALUES"] {
        let left: i64 =
            query_scalar(AssertSqlSafe(format!("SELECT COUNT(*) FROM {name}"))).fetch_one(&mut conn).await.unwrap();
        assert_eq!(left, 0, "{name}");
    }
}

/// Statistics of `id` with a number of distinct values.
fn statistics_of(table: &str, part: Option<&str>, num_d_vs: i64) -> UpdateTableColumnStatisticsArgs {
    let data = LongColumnStatsData { low_value: Some(1), high_value: Some(9), num_d_vs, ..Default::default() };
    let object = ColumnStatisticsObj {
        col_name: "id".into(),
        col_type: "bigint".into(),
        stats_data: ColumnStatisticsData::LongStats(data),
    };
    let stats_desc = ColumnStatisticsDesc {
        is_tbl_level: part.is_none(),
        db_name: "web".into(),
        table_name: table.into(),
        part_name: part.map(str::to_owned),
        ..ColumnStatisticsDesc::default()
    };
    let statistics = ColumnStatistics { stats_desc, stats_obj: vec![object], ..ColumnStatistics::default() };
    UpdateTableColumnStatisticsArgs { stats_obj: Some(Box::new(statistics)) }
}

/// A partition as the metastore wants it: with the storage of the table.
fn partition_of(table: &str, values: &[&str]) -> Partition {
    Partition { values: Some(texts(values)), sd: partitioned_table(table).sd, ..partition(table, values) }
}
