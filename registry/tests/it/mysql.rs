//! The suite over MariaDB, and what only several processes on one database do.

use std::collections::BTreeSet;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use tokio::process::Command;
use tokio::time::timeout;

use crate::mariadb::new_database;
use crate::support::Registry;

/// Longer than the suite takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(500);
/// The parts of the suite that ask a store.
const PARTS: [&str; 3] = ["codes::", "rest::", "imports::"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_suite_passes_over_mysql() {
    if new_database().await.is_none() {
        return;
    }
    let mut suite = Command::new(std::env::current_exe().expect("this test"));
    suite.args(PARTS).env("TEREZA_TEST_CATALOG", "mysql").stdin(Stdio::null()).kill_on_drop(true);
    let output = timeout(PATIENCE, suite.output()).await.expect("in time").expect("run");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let passed = said.lines().filter(|line| line.ends_with("... ok")).count();
    assert!(passed > 20, "{passed} tests only: {said}");
}

/// Two registries with stores of their own, as two processes have: one content has one id, whoever gets it first, and
/// versions have no gaps and no doubles.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_at_two_registries_do_not_collide() {
    const SCHEMAS: usize = 20;
    let Some(database) = new_database().await else { return };
    let mut registries = Vec::new();
    for _ in 0..2 {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Arc::new(database.store().await);
        registries.push(Registry::over(store, folder, Default::default(), Default::default()).await);
    }
    registries[0].put("/config", &json!({ "compatibility": "NONE" })).await;
    let text = |n: usize| json!({ "schema": format!("{{\"type\":\"fixed\",\"name\":\"F{n}\",\"size\":4}}") });
    let register = async |registry: &Registry, n: usize| {
        let answer = registry.post("/subjects/s/versions", &text(n)).await;
        (n, answer["id"].as_i64().expect("an id"))
    };
    // Each schema is registered at both, at the same time as the others.
    let calls = registries.iter().flat_map(|registry| (0..SCHEMAS).map(move |n| register(registry, n)));
    let answers = futures::future::join_all(calls).await;
    let ids: BTreeSet<(usize, i64)> = answers.into_iter().collect();
    assert_eq!(ids.len(), SCHEMAS, "one content has one id: {ids:?}");
    assert_eq!(ids.iter().map(|(_, id)| id).collect::<BTreeSet<_>>().len(), SCHEMAS);
    let versions: Vec<usize> = (1..=SCHEMAS).collect();
    for registry in registries {
        assert_eq!(registry.get("/subjects/s/versions").await, json!(versions));
        registry.end().await;
    }
}
