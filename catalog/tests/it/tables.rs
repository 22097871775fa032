use tereza_thrift::hive::*;

use crate::support::*;

fn named(name: &str) -> GetTableArgs {
    GetTableArgs { dbname: text("web"), tbl_name: text(name) }
}

fn alter(name: &str, new: Table, context: Option<EnvironmentContext>) -> AlterTableWithEnvironmentContextArgs {
    AlterTableWithEnvironmentContextArgs {
        dbname: text("web"),
        tbl_name: text(name),
        new_tbl: Some(new),
        environment_context: context,
    }
}

fn drop_of(name: &str) -> DropTableArgs {
    DropTableArgs { dbname: text("web"), name: text(name), delete_data: Some(true) }
}

#[tokio::test]
async fn a_table_comes_back_as_it_was_given() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    let mut given = partitioned_table("Events");
    given.sd.as_mut().unwrap().cols.as_mut().unwrap()[0] =
        FieldSchema { name: text("ID"), r#type: text("bigint"), comment: text("größe") };
    given.db_name = text("@hive#WEB");
    make(&mut client, given.clone()).await;
    let found = get(&mut client, "EVENTS").await;
    let now_s = metastore.clock.unix_s();
    let location = format!("{}/web.db/events", metastore.warehouse());
    assert!(path(&location).is_dir());
    let storage = given.sd.clone().unwrap();
    let expected = Table {
        db_name: text("web"),
        table_name: text("events"),
        create_time: i32::try_from(now_s).ok(),
        last_access_time: Some(0),
        retention: Some(0),
        parameters: Some(map(&[("k", "v"), ("transient_lastDdlTime", &now_s.to_string())])),
        sd: Some(StorageDescriptor {
            cols: Some(
                vec![FieldSchema { comment: text("größe"), ..column("id", "bigint") }, column("name", "string")].into(),
            ),
            location: Some(location),
            compressed: Some(false),
            bucket_cols: Some(vec![]),
            sort_cols: Some(vec![]),
            parameters: Some([].into()),
            skewed_info: Some(SkewedInfo {
                skewed_col_names: Some(vec![]),
                skewed_col_values: Some(vec![]),
                skewed_col_value_location_maps: Some([].into()),
            }),
            stored_as_sub_directories: Some(false),
            ..storage
        }),
        rewrite_enabled: Some(false),
        cat_name: text("hive"),
        owner_type: Some(PrincipalType::USER),
        ..given
    };
    assert_eq!(found, expected);
    let request = GetTableRequest { db_name: "web".into(), tbl_name: "events".into(), ..Default::default() };
    assert_eq!(client.get_table_req(GetTableReqArgs { req: Some(request) }).await.unwrap().table, expected);
    let fields = GetFieldsArgs { db_name: text("web"), table_name: text("events") };
    let fields = client.get_fields(fields).await.unwrap();
    assert_eq!(fields.iter().map(|field| field.name.as_deref().unwrap()).collect::<Vec<_>>(), ["id", "name"]);
    let schema = GetSchemaArgs { db_name: text("web"), table_name: text("events") };
    let schema = client.get_schema(schema).await.unwrap();
    let schema: Vec<&str> = schema.iter().map(|field| field.name.as_deref().unwrap()).collect();
    assert_eq!(schema, ["id", "name", "ds", "k", "d"]);
}

#[tokio::test]
async fn what_cannot_be_made_or_found_has_its_exception() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    make(&mut client, table("t")).await;
    let twice = exception(client.create_table(CreateTableArgs { tbl: Some(table("T")) }).await);
    assert_eq!(twice, AlreadyExistsException::new("Table hive.web.t already exists").into());
    let bad = exception(client.create_table(CreateTableArgs { tbl: Some(table("t-x")) }).await);
    assert_eq!(bad, InvalidObjectException::new("t-x is not a valid object name").into());
    let nowhere = Table { db_name: text("nope"), ..table("t") };
    let nowhere = exception(client.create_table(CreateTableArgs { tbl: Some(nowhere) }).await);
    assert_eq!(nowhere, InvalidObjectException::new("nope").into());
    let missing = NoSuchObjectException::new("hive.web.nope table not found");
    assert_eq!(exception(client.get_table(named("nope")).await), missing.clone().into());
    assert_eq!(exception(client.drop_table(drop_of("nope")).await), missing.clone().into());
    let fields = GetFieldsArgs { db_name: text("web"), table_name: text("nope") };
    let unknown = UnknownTableException { message: missing.message };
    assert_eq!(exception(client.get_fields(fields).await), unknown.into());
    let mut twice_named = table("u");
    twice_named.sd.as_mut().unwrap().cols = Some(vec![column("a", "int"), column("A", "int")].into());
    let refused = exception(client.create_table(CreateTableArgs { tbl: Some(twice_named) }).await);
    assert!(matches!(refused, Exception::InvalidObject(_)), "{refused}");
    let key = SQLPrimaryKey { table_db: text("web"), ..SQLPrimaryKey::default() };
    let args = CreateTableWithConstraintsArgs {
        tbl: Some(table("u")),
        primary_keys: Some(vec![key]),
        ..CreateTableWithConstraintsArgs::default()
    };
    let refused = exception(client.create_table_with_constraints(args).await);
    assert!(matches!(refused, Exception::InvalidObject(_)), "a key without columns: {refused}");
    let args = CreateTableWithConstraintsArgs { tbl: Some(table("u")), ..Default::default() };
    client.create_table_with_constraints(args).await.unwrap();
}

#[tokio::test]
async fn tables_are_listed() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    make(&mut client, table("logs")).await;
    let external = map(&[("EXTERNAL", "TRUE"), ("table_type", "ICEBERG")]);
    make(&mut client, Table { parameters: Some(external), ..table("ice") }).await;
    let view = Table {
        table_type: text("VIRTUAL_VIEW"),
        view_original_text: text("/* Presto View */"),
        view_expanded_text: text("select 1"),
        parameters: Some(map(&[("comment", "Presto View"), ("presto_view", "true")])),
        owner: text("bob"),
        ..table("v")
    };
    make(&mut client, view).await;
    let found = get(&mut client, "v").await;
    assert_eq!(found.sd.unwrap().location, None);
    assert_eq!(found.view_original_text, text("/* Presto View */"));
    let all = client.get_all_tables(GetAllTablesArgs { db_name: text("@hive#web") }).await.unwrap();
    assert_eq!(all, ["ice", "logs", "v"]);
    let none = client.get_all_tables(GetAllTablesArgs { db_name: text("nope") }).await.unwrap();
    assert!(none.is_empty());
    let args = GetTablesArgs { db_name: text("web"), pattern: text("I*|l.gs") };
    assert_eq!(client.get_tables(args).await.unwrap(), ["ice", "logs"]);
    let args = GetTablesByTypeArgs { db_name: text("web"), pattern: text("*"), table_type: text("VIRTUAL_VIEW") };
    assert_eq!(client.get_tables_by_type(args).await.unwrap(), ["v"]);
    let args = GetTableMetaArgs { db_patterns: text("w*"), tbl_patterns: text("*"), tbl_types: Some(vec![]) };
    let meta = client.get_table_meta(args).await.unwrap();
    let meta: Vec<_> = meta
        .iter()
        .map(|meta| (meta.table_name.as_str(), meta.table_type.as_str(), meta.comments.as_deref()))
        .collect();
    let expected =
        [("ice", "EXTERNAL_TABLE", None), ("logs", "MANAGED_TABLE", None), ("v", "VIRTUAL_VIEW", Some("Presto View"))];
    assert_eq!(meta, expected);
    for (filter, max, expected) in [
        ("", -1, &["ice", "logs", "v"][..]),
        ("hive_filter_field_params__presto_view = \"true\"", -1, &["v"]),
        ("hive_filter_field_params__table_type like \"ICEBERG\"", -1, &["ice"]),
        ("hive_filter_field_owner__ = 'ada'", -1, &["ice", "logs"]),
        ("hive_filter_field_owner__ like '.*a' and hive_filter_field_last_access__ < 1", 1, &["ice"]),
    ] {
        let args = GetTableNamesByFilterArgs { dbname: text("web"), filter: text(filter), max_tables: Some(max) };
        assert_eq!(client.get_table_names_by_filter(args).await.unwrap(), expected, "{filter}");
    }
    let names = Some(texts(&["V", "nope", "logs", "v"]));
    let args = GetTableObjectsByNameArgs { dbname: text("web"), tbl_names: names };
    let found = client.get_table_objects_by_name(args).await.unwrap();
    assert_eq!(found.iter().map(|table| table.table_name.as_deref().unwrap()).collect::<Vec<_>>(), ["v", "logs"]);
    let args = GetTableObjectsByNameArgs { dbname: text("nope"), tbl_names: Some(vec![]) };
    let unknown = exception(client.get_table_objects_by_name(args).await);
    assert_eq!(unknown, UnknownDBException::new("Could not find database hive.nope").into());
}

#[tokio::test]
async fn altering_replaces_what_is_there() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    make(&mut client, table("t")).await;
    let mut changed = get(&mut client, "t").await;
    changed.owner = None;
    changed.parameters.as_mut().unwrap().remove("k");
    changed.sd.as_mut().unwrap().cols.as_mut().unwrap().push(column("extra", "date"));
    let args = AlterTableArgs { dbname: text("web"), tbl_name: text("T"), new_tbl: Some(changed.clone()) };
    client.alter_table(args).await.unwrap();
    assert_eq!(get(&mut client, "t").await, changed);
    // The parameter alone makes it external, and its files are kept.
    changed.parameters.as_mut().unwrap().insert("EXTERNAL".into(), "TRUE".into());
    client.alter_table_with_environment_context(alter("t", changed.clone(), None)).await.unwrap();
    let external = get(&mut client, "t").await;
    assert_eq!(external.table_type, text("EXTERNAL_TABLE"));
    client.drop_table(drop_of("t")).await.unwrap();
    assert!(path(external.sd.unwrap().location.as_deref().unwrap()).exists());
    let missing = exception(client.alter_table_with_environment_context(alter("t", changed, None)).await);
    make(&mut client, partitioned_table("p")).await;
    let found = get(&mut client, "p").await;
    let without_keys = Table { partition_keys: None, ..found.clone() };
    client.alter_table_with_environment_context(alter("p", without_keys, None)).await.unwrap();
    assert_eq!(get(&mut client, "p").await, found, "keys that are left out stay");
    assert_eq!(missing, InvalidOperationException::new("hive.web.t table not found").into());
}

#[tokio::test]
async fn half_an_alter_changes_nothing() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    make(&mut client, partitioned_table("events")).await;
    let before = get(&mut client, "events").await;
    let without_storage = Table { sd: None, ..before.clone() };
    for new_tbl in [None, Some(without_storage)] {
        let args = AlterTableArgs { dbname: text("web"), tbl_name: text("events"), new_tbl };
        assert!(client.alter_table(args).await.is_err());
    }
    assert!(client.alter_database(AlterDatabaseArgs { dbname: text("web"), db: None }).await.is_err());
    assert_eq!(get(&mut client, "events").await, before);
}

#[tokio::test]
async fn a_commit_of_iceberg_wins_or_loses() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    let parameters = |location: &str| Some(map(&[("metadata_location", location), ("EXTERNAL", "TRUE")]));
    make(&mut client, Table { parameters: parameters("m0"), ..table("ice") }).await;
    let expect = |location: &str| {
        environment(&[
            ("expected_parameter_key", "metadata_location"),
            ("expected_parameter_value", location),
            ("DO_NOT_UPDATE_STATS", "true"),
        ])
    };
    let to = |location: &str| Table { parameters: parameters(location), ..table("ice") };
    client.alter_table_with_environment_context(alter("ice", to("m1"), expect("m0"))).await.unwrap();
    let lost = exception(client.alter_table_with_environment_context(alter("ice", to("m2"), expect("m0"))).await);
    let message = "The table has been modified. The parameter value for key 'metadata_location' is 'm1'. \
                   The expected was value was 'm0'";
    assert_eq!(lost, MetaException::new(message).into());
    // Nothing is changed that nobody checked.
    let without = Table { parameters: Some(map(&[("EXTERNAL", "TRUE")])), ..table("ice") };
    let refused = exception(client.alter_table_with_environment_context(alter("ice", without, expect("m1"))).await);
    assert_eq!(refused, MetaException::new("New value for expected key metadata_location is not set").into());
    let half = environment(&[("expected_parameter_key", "metadata_location")]);
    let refused = exception(client.alter_table_with_environment_context(alter("ice", to("m2"), half)).await);
    assert!(matches!(refused, Exception::Meta(_)), "{refused}");
    let request = AlterTableRequest {
        db_name: "web".into(),
        table_name: "ice".into(),
        table: to("m2"),
        expected_parameter_key: text("metadata_location"),
        expected_parameter_value: text("m1"),
        ..AlterTableRequest::default()
    };
    client.alter_table_req(AlterTableReqArgs { req: Some(request) }).await.unwrap();
    assert_eq!(get(&mut client, "ice").await.parameters.unwrap()["metadata_location"], "m2");
}

/// Of many that expect the same value one wins; nobody's success is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn racing_commits_of_iceberg_are_ordered() {
    const WRITERS: usize = 4;
    const COMMITS: usize = 10;
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    let parameters = |count: usize| Some(map(&[("metadata_location", &count.to_string()), ("EXTERNAL", "TRUE")]));
    make(&mut client, Table { parameters: parameters(0), ..table("ice") }).await;
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let mut client = metastore.client().await;
        writers.push(tokio::spawn(async move {
            let mut done = 0;
            while done < COMMITS {
                let found = get(&mut client, "ice").await.parameters.unwrap()["metadata_location"].clone();
                let count: usize = found.parse().unwrap();
                let context = environment(&[
                    ("expected_parameter_key", "metadata_location"),
                    ("expected_parameter_value", &found),
                ]);
                let new = Table { parameters: parameters(count + 1), ..table("ice") };
                match client.alter_table_with_environment_context(alter("ice", new, context)).await {
                    Ok(()) => done += 1,
                    lost => assert!(exception(lost).to_string().contains("The table has been modified.")),
                }
            }
        }));
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let end = get(&mut client, "ice").await.parameters.unwrap()["metadata_location"].clone();
    assert_eq!(end, (WRITERS * COMMITS).to_string());
}

#[tokio::test]
async fn a_renamed_table_keeps_its_files_where_they_are() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    let mut given = partitioned_table("old");
    let home = format!("{}/web.db/old", metastore.warehouse());
    let serde = given.sd.as_mut().unwrap().serde_info.as_mut().unwrap();
    serde.parameters.as_mut().unwrap().insert("path".into(), home);
    make(&mut client, given).await;
    let added = partition("old", &["1", "2", "2024-01-01"]);
    client.add_partition(AddPartitionArgs { new_part: Some(added) }).await.unwrap();
    make(&mut client, table("taken")).await;
    let old = get(&mut client, "old").await;
    let mut new = Table { table_name: text("New"), ..old.clone() };
    // What Spark does to tables of its own.
    let serde = new.sd.as_mut().unwrap().serde_info.as_mut().unwrap();
    serde.parameters.as_mut().unwrap().insert("path".into(), "file:/wherever".into());
    let taken = Table { table_name: text("taken"), ..new.clone() };
    let refused = exception(client.alter_table_with_environment_context(alter("old", taken, None)).await);
    assert_eq!(refused, InvalidOperationException::new("new table web.taken already exists").into());
    client.alter_table_with_environment_context(alter("old", new, None)).await.unwrap();
    let found = get(&mut client, "new").await.sd.unwrap();
    let location = old.sd.unwrap().location.unwrap();
    assert_eq!(found.location.as_ref(), Some(&location));
    assert_eq!(found.serde_info.unwrap().parameters.unwrap()["path"], location, "where the files are");
    let parts = GetPartitionsArgs { db_name: text("web"), tbl_name: text("new"), max_parts: Some(-1) };
    let parts = client.get_partitions(parts).await.unwrap();
    let part_location = parts[0].sd.as_ref().unwrap().location.clone().unwrap();
    assert_eq!(part_location, format!("{location}/ds=1/k=2/d=2024-01-01"));
    assert!(path(&part_location).is_dir());
}

#[tokio::test]
async fn files_of_renamed_tables_are_not_mixed_up() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    make(&mut client, table("old")).await;
    let old = get(&mut client, "old").await;
    let location = old.sd.as_ref().unwrap().location.clone().unwrap();
    let new = Table { table_name: text("new"), ..old };
    client.alter_table_with_environment_context(alter("old", new, None)).await.unwrap();
    assert_eq!(get(&mut client, "new").await.sd.unwrap().location.as_ref(), Some(&location));
    make(&mut client, table("old")).await;
    let again = get(&mut client, "old").await.sd.unwrap().location.unwrap();
    assert_ne!(again, location);
    client.drop_table(drop_of("old")).await.unwrap();
    assert!(path(&location).exists() && !path(&again).exists());
    client.drop_table(drop_of("new")).await.unwrap();
    assert!(!path(&location).exists());
}

#[tokio::test]
async fn files_that_others_use_stay() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    make(&mut client, table("one")).await;
    let mut other = Table { parameters: Some(map(&[("EXTERNAL", "TRUE")])), ..table("other") };
    let location = get(&mut client, "one").await.sd.unwrap().location.unwrap();
    other.sd.as_mut().unwrap().location = Some(location.replace("file:/", "file:///"));
    make(&mut client, other).await;
    client.drop_table(drop_of("one")).await.unwrap();
    assert!(path(&location).exists());
    // Without asking for it, nothing is removed either.
    make(&mut client, table("two")).await;
    let location = get(&mut client, "two").await.sd.unwrap().location.unwrap();
    client.drop_table(DropTableArgs { delete_data: Some(false), ..drop_of("two") }).await.unwrap();
    assert!(path(&location).exists());
}

#[tokio::test]
async fn files_that_are_removed_late_are_nobody_elses() {
    let (metastore, _) = Metastore::patient().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    make(&mut client, table("t")).await;
    let location = get(&mut client, "t").await.sd.unwrap().location.unwrap();
    let rows = path(&location).join("rows");
    std::fs::write(&rows, "old").unwrap();
    client.drop_table(drop_of("t")).await.unwrap();
    assert!(rows.exists());
    // One that does not say where it goes goes elsewhere; one that does has to wait.
    make(&mut client, table("t")).await;
    let elsewhere = get(&mut client, "t").await.sd.unwrap().location.unwrap();
    assert_ne!(elsewhere, location);
    let mut there = table("there");
    there.sd.as_mut().unwrap().location = Some(location.clone());
    let refused = exception(client.create_table(CreateTableArgs { tbl: Some(there.clone()) }).await);
    assert!(refused.to_string().contains("not all removed yet"), "{refused}");
    // The process ends without having removed it: the next one does.
    drop(client);
    let metastore = metastore.again().await;
    metastore.clock.advance_ms(30_000);
    let mut client = metastore.client().await;
    make(&mut client, there).await;
    assert!(!rows.exists() && path(&location).is_dir() && path(&elsewhere).is_dir());
    metastore.end().await;
}
