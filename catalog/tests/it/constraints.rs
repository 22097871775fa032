//! Constraints.

use tereza_thrift::client::Client;
use tereza_thrift::hive::*;

use crate::support::*;

fn primary_key(table: &str, columns: &[&str], name: Option<&str>) -> AddPrimaryKeyArgs {
    let row = |(column, seq): (&&str, i32)| SQLPrimaryKey {
        table_db: text("@hive#WEB"),
        table_name: text(table),
        column_name: text(column),
        key_seq: Some(seq),
        pk_name: name.map(str::to_owned),
        enable_cstr: Some(true),
        validate_cstr: Some(false),
        rely_cstr: Some(true),
        cat_name: text("hive"),
    };
    AddPrimaryKeyArgs {
        req: Some(AddPrimaryKeyRequest { primary_key_cols: columns.iter().zip(1..).map(row).collect() }),
    }
}

fn foreign_key(table: &str, column: &str, name: &str) -> SQLForeignKey {
    SQLForeignKey {
        pktable_db: text("web"),
        pktable_name: text("P"),
        pkcolumn_name: text("ID"),
        fktable_db: text("web"),
        fktable_name: text(table),
        fkcolumn_name: text(column),
        key_seq: Some(1),
        update_rule: Some(1),
        delete_rule: Some(2),
        fk_name: text(name),
        pk_name: text("whatever"),
        enable_cstr: Some(true),
        validate_cstr: Some(false),
        rely_cstr: Some(false),
        cat_name: text("hive"),
    }
}

async fn keys_of(client: &mut Client, table: &str) -> Vec<SQLPrimaryKey> {
    let request = PrimaryKeysRequest { db_name: "Web".into(), tbl_name: table.into(), ..Default::default() };
    client.get_primary_keys(GetPrimaryKeysArgs { request: Some(request) }).await.unwrap().primary_keys
}

async fn foreign_keys(client: &mut Client, parent: Option<&str>, child: Option<&str>) -> Vec<SQLForeignKey> {
    let request = ForeignKeysRequest {
        parent_db_name: parent.map(|_| "web".into()),
        parent_tbl_name: parent.map(str::to_owned),
        foreign_db_name: child.map(|_| "web".into()),
        foreign_tbl_name: child.map(str::to_owned),
        ..Default::default()
    };
    client.get_foreign_keys(GetForeignKeysArgs { request: Some(request) }).await.unwrap().foreign_keys
}

#[tokio::test]
async fn keys_are_kept() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    for name in ["t", "p", "q"] {
        make(&mut client, table(name)).await;
    }
    client.add_primary_key(primary_key("T", &["ID", "name"], Some("MyKey"))).await.unwrap();
    let found = keys_of(&mut client, "t").await;
    let seen: Vec<_> = found.iter().map(|key| (key.column_name.as_deref().unwrap(), key.key_seq.unwrap())).collect();
    assert_eq!(seen, [("id", 1), ("name", 2)]);
    let expected = SQLPrimaryKey {
        table_db: text("web"),
        table_name: text("t"),
        column_name: text("id"),
        key_seq: Some(1),
        pk_name: text("mykey"),
        enable_cstr: Some(true),
        validate_cstr: Some(false),
        rely_cstr: Some(true),
        cat_name: text("hive"),
    };
    assert_eq!(found[0], expected);
    assert_eq!(keys_of(&mut client, "nope").await, []);
    let second = exception(client.add_primary_key(primary_key("t", &["id"], Some("other"))).await);
    assert_eq!(second, MetaException::new(" Primary key already exists for: hive.web.t").into());
    let missing = exception(client.add_primary_key(primary_key("nope", &["id"], None)).await);
    assert!(matches!(missing, Exception::NoSuchObject(_)), "{missing}");
    let missing = exception(client.add_primary_key(primary_key("p", &["nope"], None)).await);
    assert!(matches!(missing, Exception::Meta(_)), "{missing}");
    let taken = exception(client.add_primary_key(primary_key("p", &["id"], Some("MYKEY"))).await);
    assert!(taken.to_string().contains("already exists"), "{taken}");

    client.add_primary_key(primary_key("p", &["id"], None)).await.unwrap();
    let made_up = keys_of(&mut client, "p").await.remove(0).pk_name.unwrap();
    let add = |key| AddForeignKeyArgs { req: Some(AddForeignKeyRequest { foreign_key_cols: vec![key] }) };
    client.add_foreign_key(add(foreign_key("q", "id", "F1"))).await.unwrap();
    let other_type = exception(client.add_foreign_key(add(foreign_key("q", "name", "f2"))).await);
    assert!(matches!(other_type, Exception::Meta(_)), "{other_type}");
    let expected = SQLForeignKey {
        pktable_name: text("p"),
        pkcolumn_name: text("id"),
        fk_name: text("f1"),
        pk_name: Some(made_up),
        ..foreign_key("q", "id", "f1")
    };
    for (parent, child) in [(Some("p"), None), (None, Some("Q")), (Some("P"), Some("q"))] {
        assert_eq!(foreign_keys(&mut client, parent, child).await, std::slice::from_ref(&expected));
    }
    assert_eq!(foreign_keys(&mut client, Some("t"), Some("q")).await, []);

    let drop_of = |table: &str, name: &str| {
        let (tablename, constraintname) = (table.to_owned(), name.to_owned());
        let req = DropConstraintRequest { dbname: "web".into(), tablename, constraintname, cat_name: None };
        DropConstraintArgs { req: Some(req) }
    };
    let missing = exception(client.drop_constraint(drop_of("t", "Nope")).await);
    let message = "The constraint: nope does not exist for the associated table: hive.web.t";
    assert_eq!(missing, NoSuchObjectException::new(message).into());
    client.drop_constraint(drop_of("t", "MYKEY")).await.unwrap();
    assert_eq!(keys_of(&mut client, "t").await, []);

    // They stay with a table that gets another name, and go with it.
    let renamed = Table { table_name: text("r"), ..get(&mut client, "q").await };
    let alter = AlterTableArgs { dbname: text("web"), tbl_name: text("q"), new_tbl: Some(renamed) };
    client.alter_table(alter).await.unwrap();
    assert_eq!(foreign_keys(&mut client, Some("p"), None).await[0].fktable_name, text("r"));
    let drop = DropTableArgs { dbname: text("web"), name: text("p"), delete_data: Some(true) };
    client.drop_table(drop).await.unwrap();
    assert_eq!(foreign_keys(&mut client, None, Some("r")).await, []);
    metastore.end().await;
}

#[tokio::test]
async fn a_table_is_made_with_constraints() {
    let metastore = Metastore::new().await;
    let mut client = metastore.client().await;
    make_web(&mut client).await;
    let (web, t) = (text("web"), text("t"));
    // Two keys without names: each begins with 1.
    let unique = |column: &str, seq| SQLUniqueConstraint {
        table_db: web.clone(),
        table_name: t.clone(),
        column_name: text(column),
        key_seq: Some(seq),
        ..Default::default()
    };
    let not_null = |column: &str| SQLNotNullConstraint {
        table_db: web.clone(),
        table_name: t.clone(),
        column_name: text(column),
        enable_cstr: Some(true),
        ..Default::default()
    };
    let default = SQLDefaultConstraint {
        table_db: web.clone(),
        table_name: t.clone(),
        column_name: text("name"),
        default_value: text("'x'"),
        dc_name: text("D"),
        ..Default::default()
    };
    let check = SQLCheckConstraint {
        table_db: web.clone(),
        table_name: t.clone(),
        check_expression: text("id > k"),
        dc_name: text("C"),
        ..Default::default()
    };
    let args = CreateTableWithConstraintsArgs {
        tbl: Some(partitioned_table("t")),
        primary_keys: primary_key("t", &["id"], None).req.map(|request| request.primary_key_cols),
        unique_constraints: Some(vec![unique("id", 1), unique("name", 2), unique("name", 1)]),
        not_null_constraints: Some(vec![not_null("id"), not_null("ds")]),
        default_constraints: Some(vec![default]),
        check_constraints: Some(vec![check]),
        ..Default::default()
    };
    client.create_table_with_constraints(args).await.unwrap();
    let request = AllTableConstraintsRequest {
        db_name: "web".into(),
        tbl_name: "t".into(),
        cat_name: "hive".into(),
        ..Default::default()
    };
    let all = client.get_all_table_constraints(GetAllTableConstraintsArgs { request: Some(request) }).await.unwrap();
    let all = all.all_table_constraints;
    assert_eq!(all.primary_keys.unwrap().len(), 1);
    let unique = all.unique_constraints.unwrap();
    let mut names: Vec<_> = unique.iter().map(|row| row.uk_name.clone()).collect();
    names.dedup();
    assert_eq!((unique.len(), names.len()), (3, 2));
    let columns: Vec<_> = all.not_null_constraints.unwrap().into_iter().filter_map(|row| row.column_name).collect();
    assert!(columns.len() == 2 && columns.contains(&"ds".to_owned()), "{columns:?}");
    let default = all.default_constraints.unwrap().remove(0);
    assert_eq!((default.dc_name.as_deref(), default.default_value.as_deref()), (Some("d"), Some("'x'")));
    let check = all.check_constraints.unwrap().remove(0);
    assert_eq!((check.column_name, check.check_expression), (None, text("id > k")));

    // Each kind has its own question, and its own way to be added.
    let add = SQLCheckConstraint {
        table_db: web.clone(),
        table_name: t.clone(),
        column_name: text("id"),
        check_expression: text("id > 0"),
        ..Default::default()
    };
    let req = Some(AddCheckConstraintRequest { check_constraint_cols: vec![add] });
    client.add_check_constraint(AddCheckConstraintArgs { req }).await.unwrap();
    let request = CheckConstraintsRequest { db_name: "web".into(), tbl_name: "t".into(), ..Default::default() };
    let found = client.get_check_constraints(GetCheckConstraintsArgs { request: Some(request) }).await.unwrap();
    assert_eq!(found.check_constraints.len(), 2);
    let req = Some(AddNotNullConstraintRequest { not_null_constraint_cols: vec![not_null("name")] });
    client.add_not_null_constraint(AddNotNullConstraintArgs { req }).await.unwrap();
    let request = NotNullConstraintsRequest { db_name: "web".into(), tbl_name: "t".into(), ..Default::default() };
    let found = client.get_not_null_constraints(GetNotNullConstraintsArgs { request: Some(request) }).await.unwrap();
    assert_eq!(found.not_null_constraints.len(), 3);
    let unique_on_k = SQLUniqueConstraint { column_name: text("k"), uk_name: text("u"), ..unique[0].clone() };
    let req = Some(AddUniqueConstraintRequest { unique_constraint_cols: vec![unique_on_k] });
    client.add_unique_constraint(AddUniqueConstraintArgs { req }).await.unwrap();
    let request = UniqueConstraintsRequest { db_name: "web".into(), tbl_name: "t".into(), ..Default::default() };
    let found = client.get_unique_constraints(GetUniqueConstraintsArgs { request: Some(request) }).await.unwrap();
    assert_eq!(found.unique_constraints.len(), 4);
    let default = SQLDefaultConstraint { column_name: text("id"), dc_name: None, ..default };
    let req = Some(AddDefaultConstraintRequest { default_constraint_cols: vec![default] });
    client.add_default_constraint(AddDefaultConstraintArgs { req }).await.unwrap();
    let request = DefaultConstraintsRequest { db_name: "web".into(), tbl_name: "t".into(), ..Default::default() };
    let found = client.get_default_constraints(GetDefaultConstraintsArgs { request: Some(request) }).await.unwrap();
    assert_eq!(found.default_constraints.len(), 2);
    metastore.end().await;
}
