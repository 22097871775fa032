//! Databases.

use tereza_thrift::hive::*;

use super::{Asking, get_table, make_table, make_web};
use crate::support::{Database_, map, table, text};

pub(super) async fn play(to: &mut Asking) {
    to.ask(GetAllDatabasesArgs {}).await;
    to.ask(get("default")).await;
    to.ask(get("nope")).await;
    to.ask(get("")).await;
    to.ask(GetDatabaseArgs { name: None }).await;

    let web = Database_ {
        name: text("Web"),
        description: text("about"),
        owner_name: text("ada"),
        owner_type: Some(PrincipalType::USER),
        parameters: Some(map(&[("a", "b"), ("empty", "")])),
        ..Database_::default()
    };
    to.ask(make(web.clone())).await;
    to.ask(make(web.clone())).await;
    to.ask(get("WEB")).await;
    to.ask(make(Database_ { name: text("plain"), ..Database_::default() })).await;
    to.ask(get("plain")).await;
    let placed =
        Database_ { name: text("placed"), location_uri: text("file:///tmp/tereza-differential/p"), ..web.clone() };
    to.ask(make(placed)).await;
    to.ask(get("placed")).await;
    for name in ["a-b", "a.b", "", "a b", "a/b", "ü", "1a", "_a", "a'b"] {
        to.ask(make(Database_ { name: text(name), ..Database_::default() })).await;
    }
    to.ask(make(Database_ { name: None, ..Database_::default() })).await;
    to.ask(CreateDatabaseArgs { database: None }).await;
    for name in ["1a", "_a"] {
        to.ask(drop(name, true, true)).await;
    }
    to.ask(make(Database_ { name: text("p"), parameters: Some(map(&[("k", "v")])), ..Database_::default() })).await;
    to.ask(get("p")).await;

    to.ask(GetAllDatabasesArgs {}).await;
    for pattern in ["*", "w*", "p*|web", "W.*", "nope", "", "pl.in", "p", "*l*"] {
        to.ask(GetDatabasesArgs { pattern: text(pattern) }).await;
    }
    to.ask(GetDatabasesArgs { pattern: None }).await;

    let changed = Database_ {
        name: text("web"),
        description: text("new"),
        owner_name: text("bob"),
        owner_type: Some(PrincipalType::ROLE),
        parameters: Some(map(&[("c", "d")])),
        ..Database_::default()
    };
    to.ask(alter("web", changed.clone())).await;
    to.ask(get("web")).await;
    let moved = Database_ { location_uri: text("file:///tmp/tereza-differential/q"), ..changed.clone() };
    to.ask(alter("web", moved)).await;
    to.ask(get("web")).await;
    to.ask(alter("web", Database_ { name: text("renamed"), ..changed.clone() })).await;
    to.ask(get("web")).await;
    to.ask(get("renamed")).await;
    to.ask(alter("nope", changed)).await;
    to.ask(AlterDatabaseArgs { dbname: text("web"), db: None }).await;
    to.ask(alter("web", Database_ { name: text("web"), ..Database_::default() })).await;
    to.ask(get("web")).await;

    to.ask(drop("nope", true, true)).await;
    to.ask(drop("default", false, false)).await;
    to.ask(get("default")).await;
    make_table(to, table("t")).await;
    to.ask(drop("web", false, false)).await;
    to.ask(drop("web", true, true)).await;
    to.ask(drop("web", true, true)).await;
    to.ask(get_table("t")).await;
    // One that has functions only.
    make_web(to).await;
    let function = Function { function_name: text("f"), db_name: text("web"), class_name: text("a.B"), ..function() };
    to.ask(CreateFunctionArgs { func: Some(function) }).await;
    to.ask(drop("web", false, false)).await;
    to.ask(drop("WEB", true, true)).await;
    for name in ["plain", "placed", "p"] {
        to.ask(drop(name, true, false)).await;
    }
    to.ask(GetAllDatabasesArgs {}).await;
}

fn function() -> Function {
    Function { function_type: Some(FunctionType::JAVA), owner_type: Some(PrincipalType::USER), ..Function::default() }
}

fn get(name: &str) -> GetDatabaseArgs {
    GetDatabaseArgs { name: text(name) }
}

fn make(database: Database_) -> CreateDatabaseArgs {
    CreateDatabaseArgs { database: Some(database) }
}

fn alter(name: &str, database: Database_) -> AlterDatabaseArgs {
    AlterDatabaseArgs { dbname: text(name), db: Some(database) }
}

fn drop(name: &str, delete_data: bool, cascade: bool) -> DropDatabaseArgs {
    DropDatabaseArgs { name: text(name), delete_data: Some(delete_data), cascade: Some(cascade) }
}
