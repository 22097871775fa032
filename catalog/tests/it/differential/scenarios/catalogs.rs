//! Catalogs, and names of databases with a catalog before them.

use tereza_thrift::hive::*;

use super::{Asking, drop_web, make_table, make_web};
use crate::support::{Database_, table, text};

pub(super) async fn play(to: &mut Asking) {
    to.ask(GetCatalogsArgs {}).await;
    to.ask(get("hive")).await;
    to.ask(get("HIVE")).await;
    to.ask(get("spark")).await;
    let spark = Catalog {
        name: text("spark"),
        description: text("another"),
        location_uri: text("file:///nowhere/spark"),
        ..Catalog::default()
    };
    let alter = AlterCatalogRequest { name: text("nope"), new_cat: Some(spark.clone()) };
    to.ask(AlterCatalogArgs { rqst: Some(alter) }).await;
    let hive = Catalog { name: text("hive"), ..spark };
    to.ask(CreateCatalogArgs { catalog: Some(CreateCatalogRequest { catalog: Some(hive) }) }).await;
    to.ask(DropCatalogArgs { cat_name: Some(drop("nope")) }).await;
    to.ask(DropCatalogArgs { cat_name: Some(drop("hive")) }).await;

    make_web(to).await;
    make_table(to, table("t")).await;
    for name in ["@hive#web", "@HIVE#WEB", "@spark#web", "@hive#", "@hive#!", "@hive", "@#web"] {
        to.ask(GetDatabaseArgs { name: text(name) }).await;
        to.ask(GetDatabasesArgs { pattern: text(name) }).await;
        to.ask(GetAllTablesArgs { db_name: text(name) }).await;
        to.ask(GetTableArgs { dbname: text(name), tbl_name: text("t") }).await;
    }
    let other = Database_ { name: text("other"), catalog_name: text("spark"), ..Database_::default() };
    to.ask(CreateDatabaseArgs { database: Some(other) }).await;
    make_table(to, Table { cat_name: text("spark"), ..table("u") }).await;
    make_table(to, Table { cat_name: text("hive"), ..table("v") }).await;
    to.ask(GetTableReqArgs { req: Some(request("t", Some("hive"))) }).await;
    to.ask(GetTableReqArgs { req: Some(request("t", Some("spark"))) }).await;
    drop_web(to).await;
}

fn get(name: &str) -> GetCatalogArgs {
    GetCatalogArgs { cat_name: Some(GetCatalogRequest { name: text(name) }) }
}

fn drop(name: &str) -> DropCatalogRequest {
    DropCatalogRequest { name: text(name), ..DropCatalogRequest::default() }
}

fn request(table: &str, catalog: Option<&str>) -> GetTableRequest {
    GetTableRequest {
        db_name: "web".into(),
        tbl_name: table.into(),
        cat_name: catalog.map(str::to_owned),
        ..GetTableRequest::default()
    }
}
