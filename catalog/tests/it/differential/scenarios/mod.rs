//! What the metastores are asked. A scenario begins with nothing but the database `default` and leaves nothing behind.

mod altered_tables;
mod catalogs;
mod changed_partitions;
mod constraints;
mod databases;
mod events;
mod filters;
mod found_partitions;
mod functions;
mod grants;
mod locks;
mod service;
mod statistics;
mod tables;
mod transactions;

use tereza_thrift::hive::*;

use super::asking::Asking;
use crate::support::{Database_, partition, partitioned_table, text, texts};

/// In the order in which they are played.
pub(super) const SCENARIOS: [&str; 15] = [
    "service",
    "catalogs",
    "databases",
    "tables",
    "altered_tables",
    "found_partitions",
    "changed_partitions",
    "filters",
    "statistics",
    "functions",
    "locks",
    "constraints",
    "grants",
    "events",
    "transactions",
];

pub(super) async fn play(scenario: &str, to: &mut Asking) {
    match scenario {
        "service" => service::play(to).await,
        "catalogs" => catalogs::play(to).await,
        "databases" => databases::play(to).await,
        "tables" => tables::play(to).await,
        "altered_tables" => altered_tables::play(to).await,
        "found_partitions" => found_partitions::play(to).await,
        "changed_partitions" => changed_partitions::play(to).await,
        "filters" => filters::play(to).await,
        "statistics" => statistics::play(to).await,
        "functions" => functions::play(to).await,
        "locks" => locks::play(to).await,
        "constraints" => constraints::play(to).await,
        "grants" => grants::play(to).await,
        "events" => events::play(to).await,
        "transactions" => transactions::play(to).await,
        other => panic!("no scenario {other}"),
    }
}

/// Makes the database `web`.
async fn make_web(to: &mut Asking) {
    let web = Database_ { name: text("web"), ..Database_::default() };
    to.ask(CreateDatabaseArgs { database: Some(web) }).await;
}

/// Drops the database `web` with all that is in it.
async fn drop_web(to: &mut Asking) {
    to.ask(DropDatabaseArgs { name: text("web"), delete_data: Some(true), cascade: Some(true) }).await;
}

async fn make_table(to: &mut Asking, table: Table) {
    to.ask(CreateTableArgs { tbl: Some(table) }).await;
}

fn get_table(name: &str) -> GetTableArgs {
    GetTableArgs { dbname: text("web"), tbl_name: text(name) }
}

/// A partition with the storage of [`partitioned_table`].
fn new_partition(table: &str, values: &[&str]) -> Partition {
    Partition { values: Some(texts(values)), sd: partitioned_table(table).sd, ..partition(table, values) }
}
