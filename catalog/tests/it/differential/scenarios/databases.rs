//! Databases.

use tereza_thrift::hive::*;

use super::Asking;
use crate::support::{Database_, map, text};

pub(super) async fn play(to: &mut Asking) {
    to.ask(GetAllDatabasesArgs {}).await;
    to.ask(GetDatabaseArgs { name: text("default") }).await;
    let web = Database_ {
        name: text("Web"),
        description: text("about"),
        owner_name: text("ada"),
        owner_type: Some(PrincipalType::USER),
        parameters: Some(map(&[("a", "b"), ("empty", "")])),
        ..Database_::default()
    };
    to.ask(CreateDatabaseArgs { database: Some(web) }).await;
    to.ask(GetDatabaseArgs { name: text("WEB") }).await;
}
