//! A real Hive Metastore 3.1.3 and ours, asked the same.
//!
//! `scenarios` are calls in an order. What the real one answers to them is in `recorded`, a file for each scenario, so
//! that neither it nor a JVM is needed to compare: the tests ask ours, on SQLite and on MariaDB, and every difference has
//! to be in `differences.md`, and everything there has to be a difference.
//!
//! With `TEREZA_TEST_HIVE_HOME` (see `hive.rs`) the real one is asked again and has to answer what is
//! recorded; with `TEREZA_TEST_RECORD=1` as well the files are written anew. `TEREZA_TEST_DIFFERENCES` may name a file in
//! which all differences are listed, in the form of `differences.md`.
//!
//! ```text
//! TEREZA_TEST_HIVE_HOME=... TEREZA_TEST_RECORD=1 cargo test -p tereza-catalog --test it differential::a_real
//! ```
//!
//! Times of today, the folder of the warehouse and numbers that count on from earlier calls are not kept.

mod asking;
mod differences;
mod lines;
mod scenarios;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use self::asking::{Asking, Exchange};
use self::differences::{Difference, Rule};
use self::scenarios::SCENARIOS;
use crate::hive::{self, Hive};
use crate::mariadb::new_database;
use crate::support::Metastore;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/differential")
}

/// A file of recorded exchanges.
fn printed(exchanges: &[Exchange]) -> String {
    let mut text = String::new();
    for Exchange { call, args, answer } in exchanges {
        text.push_str(&format!("> {call} {args}\n"));
        for (path, value) in answer {
            text.push_str(&format!("{path} = {value}\n"));
        }
        text.push('\n');
    }
    text
}

fn recorded(scenario: &str) -> Vec<Exchange> {
    let path = folder().join(format!("recorded/{scenario}.txt"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut exchanges: Vec<Exchange> = Vec::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some((call, args)) = line.strip_prefix("> ").and_then(|line| line.split_once(' ')) {
            exchanges.push(Exchange { call: call.to_owned(), args: args.to_owned(), answer: Vec::new() });
        } else {
            let (path, value) = line.split_once(" = ").expect("a path and a value");
            exchanges.last_mut().expect("a call").answer.push((path.to_owned(), value.to_owned()));
        }
    }
    exchanges
}

/// Plays all scenarios and gives what was said in each.
async fn play(address: &str, warehouse: &str) -> Vec<(&'static str, Vec<Exchange>)> {
    let mut said = Vec::new();
    for name in SCENARIOS {
        let mut asking = Asking::new(address, warehouse).await;
        scenarios::play(name, &mut asking).await;
        said.push((name, asking.take()));
    }
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_metastore_answers_what_is_recorded() {
    let (Some(home), Some(at)) = (hive::home(), new_database().await) else { return };
    hive::make_by_its_own_file(&home, "3.1.0", &mut at.connect().await).await;
    let hive = Hive::start(&home, &at).await;
    let warehouse = format!("file:{}", hive.folder.path().join("warehouse").display());
    let said = play(&format!("127.0.0.1:{}", hive.port), &warehouse).await;
    let is_recording = std::env::var("TEREZA_TEST_RECORD").as_deref() == Ok("1");
    for (name, exchanges) in said {
        if is_recording {
            std::fs::write(folder().join(format!("recorded/{name}.txt")), printed(&exchanges)).unwrap();
        } else {
            assert_eq!(printed(&exchanges), printed(&recorded(name)), "{name}");
        }
    }
}

/// What clients of Hive 2 and 3 are known to ask for, and what every service of Facebook's base library answers.
const ASKED_FOR: &str = "\
    abort_txn abort_txns add_dynamic_partitions add_foreign_key add_not_null_constraint \
    add_partition_with_environment_context add_partitions add_partitions_req add_primary_key add_unique_constraint \
    aliveSince allocate_table_write_ids alter_catalog alter_database alter_function alter_partition \
    alter_partition_with_environment_context alter_partitions alter_partitions_req \
    alter_partitions_with_environment_context alter_table alter_table_req alter_table_with_environment_context \
    append_partition_with_environment_context check_lock commit_txn compact2 create_catalog create_database \
    create_function create_role create_table create_table_with_constraints create_table_with_environment_context \
    delete_partition_column_statistics delete_table_column_statistics drop_catalog drop_constraint drop_database \
    drop_function drop_index_by_name drop_partition drop_partition_with_environment_context drop_partitions_req \
    drop_role drop_table drop_table_with_environment_context exchange_partitions fire_listener_event flushCache \
    getCounter getCounters getCpuProfile getMetaConf getName getOption getOptions getStatus getStatusDetails \
    getVersion get_aggr_stats_for get_all_databases get_all_functions get_all_tables get_catalog get_catalogs \
    get_check_constraints get_config_value get_current_notificationEventId get_database get_databases \
    get_default_constraints get_delegation_token get_fields get_foreign_keys get_function get_functions get_indexes \
    get_metastore_db_uuid get_next_notification get_not_null_constraints get_notification_events_count \
    get_num_partitions_by_filter get_open_txns get_open_txns_info get_part_specs_by_filter get_partition \
    get_partition_by_name get_partition_names get_partition_names_ps get_partition_values get_partition_with_auth \
    get_partitions get_partitions_by_expr get_partitions_by_filter get_partitions_by_names get_partitions_ps \
    get_partitions_ps_with_auth get_partitions_pspec get_partitions_statistics_req get_partitions_with_auth \
    get_primary_keys get_principals_in_role get_role_grants_for_principal get_role_names get_schema \
    get_schema_with_environment_context get_table get_table_column_statistics get_table_meta \
    get_table_names_by_filter get_table_objects_by_name get_table_objects_by_name_req get_table_req \
    get_table_statistics_req get_tables get_tables_by_type get_unique_constraints get_valid_write_ids \
    grant_privileges grant_revoke_privileges grant_revoke_role heartbeat heartbeat_txn_range list_privileges \
    list_roles lock open_txns partition_name_has_valid_characters partition_name_to_spec partition_name_to_vals \
    reinitialize rename_partition revoke_privileges setMetaConf setOption set_aggr_stats_for set_ugi show_compact \
    show_locks shutdown truncate_table unlock update_partition_column_statistics update_table_column_statistics";

#[test]
fn all_that_clients_ask_for_is_recorded() {
    let recorded: Vec<Exchange> = SCENARIOS.iter().flat_map(|scenario| recorded(scenario)).collect();
    let recorded: BTreeSet<&str> = recorded.iter().map(Exchange::method).collect();
    let missing: Vec<&str> = ASKED_FOR.split_whitespace().filter(|method| !recorded.contains(method)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[tokio::test]
async fn ours_on_sqlite_differs_only_as_is_said() {
    compare(Metastore::new().await).await;
}

#[tokio::test]
async fn ours_on_mariadb_differs_only_as_is_said() {
    if let Some(metastore) = Metastore::in_mariadb().await {
        compare(metastore).await;
    }
}

async fn compare(metastore: Metastore) {
    let said = play(&metastore.address.to_string(), &metastore.warehouse()).await;
    let mut found: Vec<Difference> = Vec::new();
    for (name, ours) in said {
        let theirs = recorded(name);
        let calls = |exchanges: &[Exchange]| exchanges.iter().map(|one| one.call.clone()).collect::<Vec<_>>();
        assert_eq!(calls(&theirs), calls(&ours), "{name} was changed: record it anew");
        found.extend(theirs.iter().zip(&ours).flat_map(|(theirs, ours)| differences::between(name, theirs, ours)));
    }
    // For whoever looks into them.
    if let Ok(file) = std::env::var("TEREZA_TEST_DIFFERENCES") {
        std::fs::write(file, found.iter().map(|difference| difference.line() + "\n").collect::<String>()).unwrap();
    }
    let rules = Rule::all(&std::fs::read_to_string(folder().join("differences.md")).unwrap());
    let unknown: BTreeSet<String> = found
        .iter()
        .filter(|difference| !rules.iter().any(|rule| rule.covers(difference)))
        .map(Difference::line)
        .collect();
    let stale: Vec<String> =
        rules.iter().filter(|rule| !found.iter().any(|difference| rule.covers(difference))).map(Rule::line).collect();
    let shown = |lines: Vec<String>| lines.join("\n");
    assert!(
        unknown.is_empty() && stale.is_empty(),
        "differences that differences.md does not have:\n{}\n\nlines of differences.md that are none:\n{}",
        shown(unknown.into_iter().collect()),
        shown(stale)
    );
    metastore.end().await;
}
