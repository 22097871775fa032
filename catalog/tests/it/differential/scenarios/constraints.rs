//! Constraints of tables.

use tereza_thrift::hive::*;

use super::{Asking, drop_web, get_table, make_table, make_web};
use crate::support::{table, text};

pub(super) async fn play(to: &mut Asking) {
    make_web(to).await;
    make_table(to, table("parent")).await;
    make_table(to, table("child")).await;
    added(to).await;
    with_a_table(to).await;
    dropped(to).await;
    drop_web(to).await;
}

fn primary(table: &str, column: &str, name: Option<&str>) -> SQLPrimaryKey {
    SQLPrimaryKey {
        table_db: text("web"),
        table_name: text(table),
        column_name: text(column),
        key_seq: Some(1),
        pk_name: name.map(str::to_owned),
        enable_cstr: Some(false),
        validate_cstr: Some(false),
        rely_cstr: Some(true),
        cat_name: text("hive"),
    }
}

fn foreign(child: &str, column: &str, parent: &str, name: Option<&str>) -> SQLForeignKey {
    SQLForeignKey {
        pktable_db: text("web"),
        pktable_name: text(parent),
        pkcolumn_name: text("id"),
        fktable_db: text("web"),
        fktable_name: text(child),
        fkcolumn_name: text(column),
        key_seq: Some(1),
        update_rule: Some(0),
        delete_rule: Some(0),
        fk_name: name.map(str::to_owned),
        pk_name: text("pk_parent"),
        enable_cstr: Some(false),
        validate_cstr: Some(false),
        rely_cstr: Some(true),
        cat_name: text("hive"),
    }
}

fn unique(table: &str, column: &str, name: Option<&str>) -> SQLUniqueConstraint {
    SQLUniqueConstraint {
        cat_name: text("hive"),
        table_db: text("web"),
        table_name: text(table),
        column_name: text(column),
        key_seq: Some(1),
        uk_name: name.map(str::to_owned),
        enable_cstr: Some(false),
        validate_cstr: Some(false),
        rely_cstr: Some(true),
    }
}

fn not_null(table: &str, column: &str, name: Option<&str>) -> SQLNotNullConstraint {
    SQLNotNullConstraint {
        cat_name: text("hive"),
        table_db: text("web"),
        table_name: text(table),
        column_name: text(column),
        nn_name: name.map(str::to_owned),
        enable_cstr: Some(true),
        validate_cstr: Some(false),
        rely_cstr: Some(false),
    }
}

async fn all_of(to: &mut Asking, table: &str) {
    let (cat_name, db_name, tbl_name) = ("hive".to_owned(), "web".to_owned(), table.to_owned());
    let request = PrimaryKeysRequest { db_name: db_name.clone(), tbl_name: tbl_name.clone(), ..Default::default() };
    to.ask(GetPrimaryKeysArgs { request: Some(request) }).await;
    let request =
        ForeignKeysRequest { foreign_db_name: text("web"), foreign_tbl_name: text(table), ..Default::default() };
    to.ask(GetForeignKeysArgs { request: Some(request) }).await;
    let request = UniqueConstraintsRequest {
        cat_name: cat_name.clone(),
        db_name: db_name.clone(),
        tbl_name: tbl_name.clone(),
        ..UniqueConstraintsRequest::default()
    };
    to.ask(GetUniqueConstraintsArgs { request: Some(request) }).await;
    let request = NotNullConstraintsRequest {
        cat_name: cat_name.clone(),
        db_name: db_name.clone(),
        tbl_name: tbl_name.clone(),
        ..NotNullConstraintsRequest::default()
    };
    to.ask(GetNotNullConstraintsArgs { request: Some(request) }).await;
    let request = DefaultConstraintsRequest {
        cat_name: cat_name.clone(),
        db_name: db_name.clone(),
        tbl_name: tbl_name.clone(),
        ..DefaultConstraintsRequest::default()
    };
    to.ask(GetDefaultConstraintsArgs { request: Some(request) }).await;
    let request = CheckConstraintsRequest { cat_name, db_name, tbl_name, ..CheckConstraintsRequest::default() };
    to.ask(GetCheckConstraintsArgs { request: Some(request) }).await;
}

async fn added(to: &mut Asking) {
    all_of(to, "parent").await;
    all_of(to, "nope").await;
    let key =
        |key: SQLPrimaryKey| AddPrimaryKeyArgs { req: Some(AddPrimaryKeyRequest { primary_key_cols: vec![key] }) };
    to.ask(key(primary("Parent", "ID", Some("pk_parent")))).await;
    to.ask(key(primary("parent", "id", Some("pk_again")))).await;
    to.ask(key(primary("nope", "id", None))).await;
    to.ask(key(primary("child", "nope", Some("pk_nope")))).await;
    let key =
        |key: SQLForeignKey| AddForeignKeyArgs { req: Some(AddForeignKeyRequest { foreign_key_cols: vec![key] }) };
    to.ask(key(foreign("child", "id", "parent", Some("fk_child")))).await;
    to.ask(key(foreign("child", "id", "nope", None))).await;
    to.ask(key(foreign("nope", "id", "parent", None))).await;
    let request = |unique| AddUniqueConstraintRequest { unique_constraint_cols: vec![unique] };
    to.ask(AddUniqueConstraintArgs { req: Some(request(unique("child", "name", Some("uk_child")))) }).await;
    to.ask(AddUniqueConstraintArgs { req: Some(request(unique("nope", "name", None))) }).await;
    let request = |not_null| AddNotNullConstraintRequest { not_null_constraint_cols: vec![not_null] };
    to.ask(AddNotNullConstraintArgs { req: Some(request(not_null("child", "name", Some("nn_child")))) }).await;
    to.ask(AddNotNullConstraintArgs { req: Some(request(not_null("nope", "name", None))) }).await;
    all_of(to, "parent").await;
    all_of(to, "child").await;
    let request = ForeignKeysRequest {
        parent_db_name: text("web"),
        parent_tbl_name: text("parent"),
        foreign_db_name: None,
        ..ForeignKeysRequest::default()
    };
    to.ask(GetForeignKeysArgs { request: Some(request) }).await;
}

async fn with_a_table(to: &mut Asking) {
    let make = |name: &str| CreateTableWithConstraintsArgs { tbl: Some(table(name)), ..Default::default() };
    to.ask(make("without")).await;
    all_of(to, "without").await;
    let all = CreateTableWithConstraintsArgs {
        primary_keys: Some(vec![primary("with", "id", Some("pk_with"))]),
        foreign_keys: Some(vec![foreign("with", "id", "parent", Some("fk_with"))]),
        unique_constraints: Some(vec![unique("with", "name", Some("uk_with"))]),
        not_null_constraints: Some(vec![not_null("with", "name", Some("nn_with"))]),
        ..make("with")
    };
    to.ask(all).await;
    to.ask(get_table("with")).await;
    all_of(to, "with").await;
    let wrong = CreateTableWithConstraintsArgs {
        primary_keys: Some(vec![primary("wrong", "nope", Some("pk"))]),
        ..make("wrong")
    };
    to.ask(wrong).await;
    to.ask(get_table("wrong")).await;
}

async fn dropped(to: &mut Asking) {
    for (table, name) in
        [("child", "UK_Child"), ("child", "uk_child"), ("child", "nope"), ("nope", "x"), ("parent", "pk_parent")]
    {
        let request = DropConstraintRequest {
            dbname: "web".into(),
            tablename: table.into(),
            constraintname: name.into(),
            ..DropConstraintRequest::default()
        };
        to.ask(DropConstraintArgs { req: Some(request) }).await;
    }
    all_of(to, "child").await;
    to.ask(DropTableArgs { dbname: text("web"), name: text("parent"), delete_data: Some(true) }).await;
    all_of(to, "child").await;
}
