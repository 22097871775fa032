use tereza_thrift::hive::*;

use crate::support::*;

#[tokio::test]
async fn a_database_lives() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    let default = client.get_database(GetDatabaseArgs { name: text("DEFAULT") }).await.unwrap();
    assert_eq!(default.location_uri, Some(metastore.warehouse()));
    let given = Database_ {
        name: text("Web"),
        description: text(""),
        owner_name: text("ada"),
        owner_type: Some(PrincipalType::USER),
        parameters: Some(map(&[("a", "b")])),
        ..Database_::default()
    };
    let create = CreateDatabaseArgs { database: Some(given.clone()) };
    client.create_database(create.clone()).await.unwrap();
    let location = format!("{}/web.db", metastore.warehouse());
    assert!(path(&location).is_dir());
    let found = client.get_database(GetDatabaseArgs { name: text("@hive#WEB") }).await.unwrap();
    let expected =
        Database_ { name: text("web"), location_uri: Some(location.clone()), catalog_name: text("hive"), ..given };
    assert_eq!(found, expected);
    let twice = exception(client.create_database(create).await);
    assert_eq!(twice, AlreadyExistsException::new("Database web already exists").into());
    let missing = exception(client.get_database(GetDatabaseArgs { name: text("Nope") }).await);
    assert_eq!(missing, NoSuchObjectException::new("nope").into());
    let other = exception(client.get_database(GetDatabaseArgs { name: text("@spark#web") }).await);
    assert_eq!(other, NoSuchObjectException::new("No catalog spark").into());
    let bad = Database_ { name: text("a-b"), ..Database_::default() };
    let bad = exception(client.create_database(CreateDatabaseArgs { database: Some(bad) }).await);
    assert_eq!(bad, InvalidObjectException::new("a-b is not a valid database name").into());

    let changed = Database_ { description: text("new"), location_uri: None, ..expected.clone() };
    client.alter_database(AlterDatabaseArgs { dbname: text("WEB"), db: Some(changed) }).await.unwrap();
    let request = GetDatabaseRequest { name: text("web"), catalog_name: text("hive"), ..Default::default() };
    let found = client.get_database_req(GetDatabaseReqArgs { request: Some(request) }).await.unwrap();
    assert_eq!(found, Database_ { description: text("new"), ..expected });

    let drop = DropDatabaseArgs { name: text("web"), delete_data: Some(true), cascade: Some(false) };
    client.drop_database(drop.clone()).await.unwrap();
    assert!(!path(&location).exists());
    assert_eq!(exception(client.drop_database(drop).await), NoSuchObjectException::new("web").into());
    let request = DropDatabaseRequest { name: "web".into(), ignore_unknown_db: true, ..Default::default() };
    client.drop_database_req(DropDatabaseReqArgs { req: Some(request) }).await.unwrap();
    metastore.end().await;
}

#[tokio::test]
async fn databases_are_listed_by_pattern_and_catalog() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    assert_eq!(client.get_all_databases().await.unwrap(), ["default", "web"]);
    for (pattern, expected) in [
        (None, &["default", "web"][..]),
        (text("@hive#"), &["default", "web"]),
        (text("@hive#W*"), &["web"]),
        (text("*"), &["default", "web"]),
        (text("de*|x"), &["default"]),
        (text("@hive#!"), &[]),
    ] {
        let found = client.get_databases(GetDatabasesArgs { pattern: pattern.clone() }).await.unwrap();
        assert_eq!(found, expected, "{pattern:?}");
    }
    let catalogs = client.get_catalogs().await.unwrap();
    assert_eq!(catalogs.names, Some(texts(&["hive"])));
}

#[tokio::test]
async fn a_database_with_tables_is_dropped_with_cascade_only() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    make(&mut client, table("managed")).await;
    let outside = format!("file:{}/outside", metastore.folder.path().display());
    let mut external = Table { table_type: text("EXTERNAL_TABLE"), ..table("external") };
    external.sd.as_mut().unwrap().location = Some(outside.clone());
    make(&mut client, external).await;
    let drop = |cascade| DropDatabaseArgs { name: text("web"), delete_data: Some(true), cascade: Some(cascade) };
    let refused = exception(client.drop_database(drop(false)).await);
    let message = "Database web is not empty. One or more tables exist.";
    assert_eq!(refused, InvalidOperationException::new(message).into());
    client.drop_database(drop(true)).await.unwrap();
    assert!(!path(&metastore.warehouse()).join("web.db").exists());
    assert!(path(&outside).exists(), "the files of an external table are not ours");
    let default = DropDatabaseArgs { name: text("default"), delete_data: Some(true), cascade: Some(true) };
    exception(client.drop_database(default).await);
    assert!(path(&metastore.warehouse()).exists());
}

#[tokio::test]
async fn an_external_table_in_its_folder_keeps_it() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    make(&mut client, table("managed")).await;
    make(&mut client, Table { table_type: text("EXTERNAL_TABLE"), ..table("external") }).await;
    let drop = DropDatabaseArgs { name: text("web"), delete_data: Some(true), cascade: Some(true) };
    client.drop_database(drop).await.unwrap();
    let folder = path(&metastore.warehouse()).join("web.db");
    assert!(folder.join("external").exists() && !folder.join("managed").exists());
}

#[tokio::test]
async fn a_folder_that_others_are_in_stays() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    let above = Database_ { name: text("above"), location_uri: Some(metastore.warehouse()), ..Database_::default() };
    client.create_database(CreateDatabaseArgs { database: Some(above) }).await.unwrap();
    let mut table = Table { db_name: text("above"), ..table("t") };
    table.sd.as_mut().unwrap().location = Some(format!("{}/", metastore.warehouse()));
    make(&mut client, table).await;
    let drop = DropTableArgs { dbname: text("above"), name: text("t"), delete_data: Some(true) };
    client.drop_table(drop).await.unwrap();
    let drop = DropDatabaseArgs { name: text("above"), delete_data: Some(true), cascade: Some(true) };
    client.drop_database(drop).await.unwrap();
    assert!(path(&metastore.warehouse()).join("web.db").exists());
}
