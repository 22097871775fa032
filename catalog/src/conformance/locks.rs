//! Locks of the metastore's clients.

use tereza_runtime::{ErrorKind, ids};

use super::expect_error;
use crate::Store;
use crate::model::{LockMode, LockPart};
use crate::store::LockRequest;

/// Longer than any test takes.
const TIMEOUT_MS: i64 = 600_000;

/// Runs the tests of this file.
pub async fn run(store: &dyn Store) {
    writers_wait_in_line(store).await;
    readers_share(store).await;
    a_request_is_all_or_nothing(store).await;
    senseless_requests_are_refused(store).await;
}

/// Of two that exclude each other the second waits, and those after it behind it.
pub async fn writers_wait_in_line(store: &dyn Store) {
    let database = ids::new_id();
    let ask = request(LockMode::Exclusive, &database, Some("T"));
    let first = store.lock(&ask, TIMEOUT_MS).await.expect("locked");
    assert!(first.acquired_ms.is_some());
    assert_eq!(first.request.parts[0].table.as_deref(), Some("t"), "names are in lower case");
    let second = store.lock(&ask, TIMEOUT_MS).await.expect("in line");
    assert_eq!((second.acquired_ms, second.blocked_by), (None, Some(first.id)));
    let reader = request(LockMode::SharedRead, &database, Some("t"));
    let third = store.lock(&reader, TIMEOUT_MS).await.expect("in line");
    assert_eq!(third.acquired_ms, None);
    let other = store.lock(&request(LockMode::Exclusive, &database, Some("u")), TIMEOUT_MS).await.expect("locked");
    assert!(other.acquired_ms.is_some(), "another table is another thing");

    store.unlock(first.id, TIMEOUT_MS).await.expect("given back");
    let third_now = store.check_lock(third.id, TIMEOUT_MS).await.expect("in line");
    assert_eq!(third_now.blocked_by, Some(second.id), "nobody passes who came later");
    let second = store.check_lock(second.id, TIMEOUT_MS).await.expect("locked");
    assert!(second.acquired_ms.is_some() && second.blocked_by.is_none());
    store.renew_lock(second.id, TIMEOUT_MS).await.expect("renewed");
    let listed = store.locks(TIMEOUT_MS).await.expect("locks");
    let mine: Vec<i64> = listed.iter().filter(|l| l.request.parts[0].database == database).map(|l| l.id).collect();
    assert_eq!(mine, [second.id, third.id, other.id]);

    store.unlock(second.id, TIMEOUT_MS).await.expect("given back");
    expect_error(store.unlock(second.id, TIMEOUT_MS).await, ErrorKind::NotFound);
    expect_error(store.check_lock(second.id, TIMEOUT_MS).await, ErrorKind::NotFound);
    expect_error(store.renew_lock(second.id, TIMEOUT_MS).await, ErrorKind::NotFound);
    assert!(store.check_lock(third.id, TIMEOUT_MS).await.expect("locked").acquired_ms.is_some());
}

/// Readers do not exclude each other or a writer that shares; a lock on a database is on all that is in it.
pub async fn readers_share(store: &dyn Store) {
    let database = ids::new_id();
    let mut taken = Vec::new();
    for (mode, table, is_free) in [
        (LockMode::SharedRead, Some("t"), true),
        (LockMode::SharedRead, None, true),
        (LockMode::SharedWrite, Some("t"), true),
        (LockMode::SharedWrite, Some("t"), false),
        (LockMode::Exclusive, None, false),
    ] {
        let lock = store.lock(&request(mode, &database, table), TIMEOUT_MS).await.expect("asked");
        assert_eq!(lock.acquired_ms.is_some(), is_free, "{mode:?} on {table:?}");
        taken.push(lock.id);
    }
    for id in taken {
        store.unlock(id, TIMEOUT_MS).await.expect("given back");
    }
}

/// While one part is held by another, none of the request is held.
pub async fn a_request_is_all_or_nothing(store: &dyn Store) {
    let database = ids::new_id();
    let first = store.lock(&request(LockMode::Exclusive, &database, Some("b")), TIMEOUT_MS).await.expect("locked");
    let mut both = request(LockMode::Exclusive, &database, Some("a"));
    both.parts.extend(request(LockMode::Exclusive, &database, Some("b")).parts);
    let second = store.lock(&both, TIMEOUT_MS).await.expect("in line");
    assert_eq!(second.acquired_ms, None);
    store.unlock(first.id, TIMEOUT_MS).await.expect("given back");
    let second = store.check_lock(second.id, TIMEOUT_MS).await.expect("locked");
    assert!(second.acquired_ms.is_some());
    assert_eq!(second.request, both);
    store.unlock(second.id, TIMEOUT_MS).await.expect("given back");
}

/// A lock on nothing, and a name that no row holds.
pub async fn senseless_requests_are_refused(store: &dyn Store) {
    let nothing = LockRequest { parts: vec![], ..request(LockMode::Exclusive, "d", None) };
    expect_error(store.lock(&nothing, TIMEOUT_MS).await, ErrorKind::InvalidInput);
    let long = request(LockMode::Exclusive, &"d".repeat(129), None);
    expect_error(store.lock(&long, TIMEOUT_MS).await, ErrorKind::InvalidInput);
    let long = request(LockMode::Exclusive, "d", Some(&"t".repeat(129)));
    expect_error(store.lock(&long, TIMEOUT_MS).await, ErrorKind::InvalidInput);
}

fn request(mode: LockMode, database: &str, table: Option<&str>) -> LockRequest {
    LockRequest {
        parts: vec![LockPart { mode, database: database.into(), table: table.map(Into::into), partition: None }],
        user: "ada".into(),
        host: "there".into(),
        agent: Some("a test".into()),
    }
}
