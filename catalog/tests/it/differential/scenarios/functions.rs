//! Functions of users.

use tereza_thrift::hive::*;

use super::{Asking, drop_web, make_web};
use crate::support::{Database_, text};

pub(super) async fn play(to: &mut Asking) {
    make_web(to).await;
    let resource = |kind, uri: &str| ResourceUri { resource_type: Some(kind), uri: text(uri) };
    let resources = vec![
        resource(ResourceType::JAR, "file:///a.jar"),
        resource(ResourceType::FILE, "file:///b.txt"),
        resource(ResourceType::ARCHIVE, "file:///c.zip"),
    ];
    // In lower case: Hive 3.1.3 keeps other names as they are and does not find them again.
    let full = Function { owner_name: text("ada"), resource_uris: Some(resources), ..function("upper") };
    to.ask(make(full)).await;
    to.ask(get("upper")).await;
    to.ask(get("UPPER")).await;
    to.ask(make(function("upper"))).await;
    to.ask(make(Function { class_name: text("a.C"), owner_type: Some(PrincipalType::ROLE), ..function("other") }))
        .await;
    to.ask(get("other")).await;
    to.ask(make(Function { db_name: text("nope"), ..function("f") })).await;
    for name in ["a-b", "", "a b"] {
        to.ask(make(function(name))).await;
    }
    to.ask(make(Function { class_name: None, ..function("no_class") })).await;
    to.ask(make(Function { function_name: None, ..function("f") })).await;
    to.ask(get("nope")).await;
    to.ask(GetFunctionArgs { db_name: text("nope"), func_name: text("f") }).await;

    let sort = |found: &mut Vec<String>| found.sort();
    for (database, pattern) in [
        ("web", "*"),
        ("WEB", "up*"),
        ("web", "UPPER|other"),
        ("web", "nope"),
        ("web", ""),
        ("nope", "*"),
        ("web", "o.*"),
    ] {
        to.ask_sorted(GetFunctionsArgs { db_name: text(database), pattern: text(pattern) }, sort).await;
    }
    to.ask_sorted(GetFunctionsArgs { db_name: text("web"), pattern: None }, sort).await;
    to.ask_sorted(GetAllFunctionsArgs {}, |found| {
        found.functions.iter_mut().for_each(|all| all.sort_by(|one, two| one.function_name.cmp(&two.function_name)));
    })
    .await;

    let alter = |name: &str, new: Function| AlterFunctionArgs {
        db_name: text("web"),
        func_name: text(name),
        new_func: Some(new),
    };
    to.ask(alter("UPPER", Function { class_name: text("a.D"), owner_name: text("bob"), ..function("upper") })).await;
    to.ask(get("upper")).await;
    to.ask(alter("upper", function("lower"))).await;
    to.ask(get("upper")).await;
    to.ask(get("lower")).await;
    to.ask(alter("nope", function("nope"))).await;
    to.ask(alter("lower", Function { db_name: text("nope"), ..function("lower") })).await;
    to.ask(alter("lower", function("a-b"))).await;
    to.ask(CreateDatabaseArgs { database: Some(Database_ { name: text("second"), ..Database_::default() }) }).await;
    to.ask(alter("lower", Function { db_name: text("second"), ..function("lower") })).await;
    to.ask(GetFunctionArgs { db_name: text("second"), func_name: text("lower") }).await;

    for (database, name) in [("web", "OTHER"), ("web", "other"), ("nope", "f"), ("second", "lower")] {
        to.ask(DropFunctionArgs { db_name: text(database), func_name: text(name) }).await;
    }
    to.ask(GetAllFunctionsArgs {}).await;
    to.ask(DropDatabaseArgs { name: text("second"), delete_data: Some(true), cascade: Some(true) }).await;
    drop_web(to).await;
}

fn function(name: &str) -> Function {
    Function {
        function_name: text(name),
        db_name: text("web"),
        class_name: text("a.B"),
        owner_type: Some(PrincipalType::USER),
        function_type: Some(FunctionType::JAVA),
        resource_uris: Some(Vec::new()),
        ..Function::default()
    }
}

fn make(function: Function) -> CreateFunctionArgs {
    CreateFunctionArgs { func: Some(function) }
}

fn get(name: &str) -> GetFunctionArgs {
    GetFunctionArgs { db_name: text("web"), func_name: text(name) }
}
