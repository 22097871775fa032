//! Tables and views: made, found and dropped.

use tereza_thrift::hive::*;

use super::{Asking, drop_web, get_table, make_table, make_web};
use crate::support::{column, environment, map, partitioned_table, table, text, texts};

pub(super) async fn play(to: &mut Asking) {
    make_web(to).await;
    made(to).await;
    refused(to).await;
    found(to).await;
    dropped(to).await;
    drop_web(to).await;
}

async fn made(to: &mut Asking) {
    make_table(to, table("Managed")).await;
    to.ask(get_table("MANAGED")).await;
    to.ask(GetTableArgs { dbname: text("WEB"), tbl_name: text("managed") }).await;
    make_table(to, table("managed")).await;
    make_table(to, partitioned_table("parted")).await;
    to.ask(get_table("parted")).await;

    let external = map(&[("EXTERNAL", "TRUE"), ("comment", "about")]);
    make_table(to, Table { table_type: text("EXTERNAL_TABLE"), parameters: Some(external), ..table("external") }).await;
    to.ask(get_table("external")).await;
    // The type and the parameter do not agree.
    make_table(to, Table { table_type: text("EXTERNAL_TABLE"), ..table("half_external") }).await;
    to.ask(get_table("half_external")).await;
    let parameters = Some(map(&[("EXTERNAL", "true")]));
    make_table(to, Table { parameters, ..table("said_external") }).await;
    to.ask(get_table("said_external")).await;
    make_table(to, Table { table_type: None, parameters: None, ..table("plain") }).await;
    to.ask(get_table("plain")).await;
    to.ask(drop("plain")).await;

    let mut view = table("view");
    view.table_type = text("VIRTUAL_VIEW");
    view.view_original_text = text("select 1");
    view.view_expanded_text = text("select 1 as one");
    make_table(to, view).await;
    to.ask(get_table("view")).await;

    // All that a table may have.
    let mut full = partitioned_table("full");
    full.owner = text("bob");
    full.owner_type = Some(PrincipalType::ROLE);
    full.retention = Some(7);
    full.last_access_time = Some(3);
    full.create_time = Some(5);
    full.parameters = Some(map(&[("comment", "t"), ("transient_lastDdlTime", "12"), ("empty", "")]));
    let sd = full.sd.as_mut().unwrap();
    let commented = FieldSchema { comment: text("the id"), ..column("Id", "bigint") };
    sd.cols =
        Some(vec![commented, column("Amount", "decimal(10,2)"), column("s", "struct<a:int,b:array<string>>")].into());
    sd.location = text("file:///tmp/tereza-differential/full/");
    sd.compressed = Some(true);
    sd.num_buckets = Some(4);
    sd.bucket_cols = Some(texts(&["id"]));
    sd.sort_cols = Some(vec![Order { col: text("id"), order: Some(1) }]);
    sd.parameters = Some(map(&[("p", "q")]));
    sd.stored_as_sub_directories = Some(true);
    let serde = sd.serde_info.as_mut().unwrap();
    serde.name = text("named");
    serde.description = text("about");
    serde.serializer_class = text("a.S");
    serde.deserializer_class = text("a.D");
    serde.serde_type = Some(SerdeType::HIVE);
    serde.parameters = Some(map(&[("field.delim", "\u{1}"), ("serialization.format", "1")]));
    make_table(to, full).await;
    to.ask(get_table("full")).await;

    let mut skewed = table("skewed");
    skewed.sd.as_mut().unwrap().skewed_info = Some(SkewedInfo {
        skewed_col_names: Some(texts(&["id"])),
        skewed_col_values: Some(vec![texts(&["1"]), texts(&["2"])]),
        skewed_col_value_location_maps: Some([(texts(&["1"]), "file:///tmp/tereza-differential/1".to_owned())].into()),
    });
    make_table(to, skewed).await;
    to.ask(get_table("skewed")).await;

    let grant = PrivilegeGrantInfo {
        privilege: text("SELECT"),
        create_time: Some(0),
        grantor: text("ada"),
        grantor_type: Some(PrincipalType::USER),
        grant_option: Some(true),
    };
    let privileges = PrincipalPrivilegeSet {
        user_privileges: Some([("ada".to_owned(), vec![grant])].into()),
        ..PrincipalPrivilegeSet::default()
    };
    make_table(to, Table { privileges: Some(Box::new(privileges)), ..table("granted") }).await;
    to.ask(get_table("granted")).await;

    let iceberg = map(&[("EXTERNAL", "TRUE"), ("table_type", "ICEBERG"), ("metadata_location", "s3://b/1.json")]);
    let mut iceberg = Table { table_type: text("EXTERNAL_TABLE"), parameters: Some(iceberg), ..table("iceberg") };
    iceberg.sd.as_mut().unwrap().location = text("file:///tmp/tereza-differential/iceberg");
    let args =
        CreateTableWithEnvironmentContextArgs { tbl: Some(iceberg), environment_context: environment(&[("a", "b")]) };
    to.ask(args).await;
    to.ask(get_table("iceberg")).await;
    let mut no_columns = Table { parameters: Some(map(&[("is_generic", "true")])), ..table("no_columns") };
    no_columns.sd.as_mut().unwrap().cols = Some(Vec::new().into());
    make_table(to, no_columns).await;
    to.ask(get_table("no_columns")).await;
    make_table(to, Table { temporary: Some(true), ..table("temporary") }).await;
    let mut no_serde = table("no_serde");
    no_serde.sd.as_mut().unwrap().serde_info = None;
    make_table(to, no_serde).await;
    to.ask(get_table("no_serde")).await;
}

async fn refused(to: &mut Asking) {
    make_table(to, Table { db_name: text("nope"), ..table("t") }).await;
    for name in ["a-b", "", "a b", "a.b", "ü", "1a", "a/b"] {
        make_table(to, table(name)).await;
    }
    make_table(to, Table { table_name: None, ..table("t") }).await;
    make_table(to, Table { db_name: None, ..table("t") }).await;
    make_table(to, Table { sd: None, ..table("no_storage") }).await;
    to.ask(CreateTableArgs { tbl: None }).await;
    let with_columns = |columns: &[FieldSchema]| {
        let mut table = table("columns");
        table.sd.as_mut().unwrap().cols = Some(columns.to_vec().into());
        table
    };
    make_table(to, with_columns(&[column("id", "foo")])).await;
    to.ask(drop("columns")).await;
    make_table(to, with_columns(&[column("id", "int"), column("ID", "int")])).await;
    make_table(to, with_columns(&[column("a b", "int")])).await;
    to.ask(drop("columns")).await;
    make_table(to, with_columns(&[column("a,b", "int")])).await;
    to.ask(drop("columns")).await;
    make_table(to, with_columns(&[FieldSchema { r#type: None, ..column("id", "int") }])).await;
    make_table(to, with_columns(&[FieldSchema { name: None, ..column("id", "int") }])).await;
    let long = "c".repeat(200);
    make_table(to, with_columns(&[column(&long, "int")])).await;
    to.ask(drop("columns")).await;
    let mut same_key = partitioned_table("same_key");
    same_key.partition_keys = Some(vec![column("id", "int")]);
    make_table(to, same_key).await;
    to.ask(drop("same_key")).await;
    let mut bad_key = partitioned_table("bad_key");
    bad_key.partition_keys = Some(vec![column("k-k", "foo")]);
    make_table(to, bad_key).await;
    for name in ["bad_key", "a/b", "no_storage", "no_serde", "1a"] {
        to.ask(drop(name)).await;
    }
}

async fn found(to: &mut Asking) {
    to.ask(get_table("nope")).await;
    to.ask(GetTableArgs { dbname: text("nope"), tbl_name: text("t") }).await;
    to.ask(GetTableArgs { dbname: None, tbl_name: text("t") }).await;
    to.ask(GetTableArgs { dbname: text("web"), tbl_name: None }).await;
    let request =
        |name: &str| GetTableRequest { db_name: "Web".into(), tbl_name: name.into(), ..GetTableRequest::default() };
    to.ask(GetTableReqArgs { req: Some(request("MANAGED")) }).await;
    to.ask(GetTableReqArgs { req: Some(request("nope")) }).await;

    let sort = |names: &mut Vec<String>| names.sort();
    to.ask_sorted(GetAllTablesArgs { db_name: text("web") }, sort).await;
    to.ask_sorted(GetAllTablesArgs { db_name: text("nope") }, sort).await;
    for pattern in ["*", "man*", "MAN*|view", "nope", "", "m.*", ".*ed"] {
        to.ask_sorted(GetTablesArgs { db_name: text("web"), pattern: text(pattern) }, sort).await;
    }
    to.ask_sorted(GetTablesArgs { db_name: text("web"), pattern: None }, sort).await;
    to.ask_sorted(GetTablesArgs { db_name: text("nope"), pattern: text("*") }, sort).await;
    for kind in ["MANAGED_TABLE", "EXTERNAL_TABLE", "VIRTUAL_VIEW", "MATERIALIZED_VIEW", "", "nope"] {
        let args = GetTablesByTypeArgs { db_name: text("web"), pattern: text("*"), table_type: text(kind) };
        to.ask_sorted(args, sort).await;
    }
    let sort_meta = |found: &mut Vec<TableMeta>| found.sort_by(|one, two| one.table_name.cmp(&two.table_name));
    for (databases, tables, types) in [
        ("web", "*", &[][..]),
        ("*", "m*|e*", &["MANAGED_TABLE", "EXTERNAL_TABLE"]),
        ("WEB", "VIEW", &["VIRTUAL_VIEW"]),
        ("nope", "*", &[]),
    ] {
        let args = GetTableMetaArgs {
            db_patterns: text(databases),
            tbl_patterns: text(tables),
            tbl_types: Some(texts(types)),
        };
        to.ask_sorted(args, sort_meta).await;
    }
    for filter in [
        r#"hive_filter_field_owner__ = "bob""#,
        r#"hive_filter_field_owner__ like ".*b""#,
        r#"hive_filter_field_params__comment = "about""#,
        r#"hive_filter_field_params__table_type = "ICEBERG""#,
        r#"hive_filter_field_params__TABLE_TYPE LIKE "ICE.*""#,
        r#"hive_filter_field_params__nope = "x""#,
        r#"hive_filter_field_params__k <> "v""#,
        "hive_filter_field_last_access__ = 3",
        "hive_filter_field_last_access__ > 1",
        r#"hive_filter_field_owner__ = "ada" and hive_filter_field_params__k = "v""#,
        r#"hive_filter_field_owner__ = "bob" or hive_filter_field_params__comment = "about""#,
        "",
        "nonsense",
        r#"nonsense = "1""#,
        r#"hive_filter_field_owner__ = 1"#,
    ] {
        let args = GetTableNamesByFilterArgs { dbname: text("web"), filter: text(filter), max_tables: Some(-1) };
        to.ask_sorted(args, sort).await;
    }
    let none = |dbname: &str, filter: Option<&str>| GetTableNamesByFilterArgs {
        dbname: text(dbname),
        filter: filter.map(str::to_owned),
        max_tables: Some(-1),
    };
    to.ask(none("nope", Some(r#"hive_filter_field_owner__ = "bob""#))).await;
    to.ask(none("", Some(r#"hive_filter_field_owner__ = "bob""#))).await;
    to.ask(none("web", None)).await;
    let filter = text(r#"hive_filter_field_params__comment = "about""#);
    to.ask(GetTableNamesByFilterArgs { dbname: text("web"), filter, max_tables: Some(0) }).await;

    let by_name = |dbname: &str, names: &[&str]| GetTableObjectsByNameArgs {
        dbname: text(dbname),
        tbl_names: Some(texts(names)),
    };
    to.ask(by_name("web", &["MANAGED", "nope", "managed"])).await;
    to.ask(by_name("web", &[])).await;
    to.ask(by_name("nope", &["managed"])).await;
    to.ask(by_name("", &["managed"])).await;
    to.ask(GetTableObjectsByNameArgs { dbname: text("web"), tbl_names: None }).await;
    let by_name_req = |dbname: &str, names: Option<&[&str]>| GetTableObjectsByNameReqArgs {
        req: Some(GetTablesRequest { db_name: dbname.into(), tbl_names: names.map(texts), ..Default::default() }),
    };
    to.ask(by_name_req("web", Some(&["managed", "nope"]))).await;
    to.ask(by_name_req("nope", Some(&["managed"]))).await;
    to.ask(by_name_req("", Some(&["managed"]))).await;
    to.ask(by_name_req("web", None)).await;

    for (database, name) in [("web", "parted"), ("WEB", "PARTED"), ("web", "nope"), ("nope", "t"), ("web", "view")] {
        let (database, name) = (text(database), text(name));
        to.ask(GetFieldsArgs { db_name: database.clone(), table_name: name.clone() }).await;
        to.ask(GetSchemaArgs { db_name: database.clone(), table_name: name.clone() }).await;
        let context = environment(&[]);
        let args = GetFieldsWithEnvironmentContextArgs {
            db_name: database.clone(),
            table_name: name.clone(),
            environment_context: context.clone(),
        };
        to.ask(args).await;
        let args =
            GetSchemaWithEnvironmentContextArgs { db_name: database, table_name: name, environment_context: context };
        to.ask(args).await;
    }
}

async fn dropped(to: &mut Asking) {
    to.ask(drop("nope")).await;
    to.ask(DropTableArgs { dbname: text("nope"), name: text("t"), delete_data: Some(true) }).await;
    to.ask(DropTableArgs { dbname: text("web"), name: None, delete_data: Some(true) }).await;
    to.ask(drop("MANAGED")).await;
    to.ask(get_table("managed")).await;
    to.ask(drop("view")).await;
    let purge = |name: &str| DropTableWithEnvironmentContextArgs {
        dbname: text("web"),
        name: text(name),
        delete_data: Some(false),
        environment_context: environment(&[("ifPurge", "TRUE")]),
    };
    to.ask(purge("parted")).await;
    to.ask(purge("parted")).await;
    let sort = |names: &mut Vec<String>| names.sort();
    to.ask_sorted(GetAllTablesArgs { db_name: text("web") }, sort).await;
}

fn drop(name: &str) -> DropTableArgs {
    DropTableArgs { dbname: text("web"), name: text(name), delete_data: Some(true) }
}
