//! Locks.

use tereza_thrift::hive::*;

use super::Asking;
use crate::support::text;

/// No lock has it.
const NO_LOCK: i64 = 987_654_321;

pub(super) async fn play(to: &mut Asking) {
    let table = |mode, name: &str| LockComponent {
        r#type: mode,
        level: LockLevel::TABLE,
        dbname: "Web".into(),
        tablename: text(name),
        operation_type: Some(DataOperationType::NO_TXN),
        ..LockComponent::default()
    };
    let database = |mode| LockComponent { level: LockLevel::DB, tablename: None, ..table(mode, "") };
    let part = |mode, name: &str, partition: &str| LockComponent {
        level: LockLevel::PARTITION,
        partitionname: text(partition),
        ..table(mode, name)
    };
    // What a table is locked with first, and what is asked for then.
    let (read, write, exclusive) = (LockType::SHARED_READ, LockType::SHARED_WRITE, LockType::EXCLUSIVE);
    for first in [read, write, exclusive] {
        for second in [read, write, exclusive] {
            let one = take(to, vec![table(first, "t")]).await;
            let two = take(to, vec![table(second, "T")]).await;
            give(to, two).await;
            give(to, one).await;
        }
    }
    // Above and below it.
    for (held, asked) in [
        (vec![database(exclusive)], vec![table(read, "t")]),
        (vec![table(read, "t")], vec![database(exclusive)]),
        (vec![database(read)], vec![table(exclusive, "t")]),
        (vec![table(exclusive, "t")], vec![part(read, "t", "ds=a")]),
        (vec![part(exclusive, "t", "ds=a")], vec![table(read, "t")]),
        (vec![part(exclusive, "t", "ds=a")], vec![part(exclusive, "t", "ds=b")]),
        (vec![part(exclusive, "t", "ds=a")], vec![part(read, "t", "ds=a")]),
        (vec![table(exclusive, "t")], vec![table(exclusive, "u")]),
        (vec![table(exclusive, "t")], vec![table(read, "u"), table(read, "t")]),
    ] {
        let one = take(to, held).await;
        let two = take(to, asked).await;
        give(to, two).await;
        give(to, one).await;
    }
    // One waits until the other is given back.
    let one = take(to, vec![table(exclusive, "t")]).await;
    let two = take(to, vec![table(exclusive, "t")]).await;
    show(to, None, None).await;
    show(to, Some("Web"), Some("t")).await;
    show(to, Some("web"), Some("nope")).await;
    show(to, Some("web"), None).await;
    check(to, two).await;
    to.ask(HeartbeatArgs { ids: Some(HeartbeatRequest { lockid: Some(one), txnid: None }) }).await;
    to.ask(HeartbeatArgs { ids: Some(HeartbeatRequest { lockid: Some(two), txnid: None }) }).await;
    give(to, one).await;
    check(to, two).await;
    show(to, None, None).await;
    give(to, two).await;
    show(to, None, None).await;
    give(to, two).await;
    check(to, two).await;

    give_exactly(to, NO_LOCK).await;
    to.ask(CheckLockArgs { rqst: Some(CheckLockRequest { lockid: NO_LOCK, ..Default::default() }) }).await;
    to.ask(HeartbeatArgs { ids: Some(HeartbeatRequest { lockid: Some(NO_LOCK), txnid: None }) }).await;
    to.ask(HeartbeatArgs { ids: Some(HeartbeatRequest { lockid: None, txnid: Some(NO_LOCK) }) }).await;
    to.ask(HeartbeatArgs { ids: Some(HeartbeatRequest { lockid: None, txnid: None }) }).await;
    take(to, Vec::new()).await;
    let of_transaction = LockRequest { txnid: Some(NO_LOCK), ..request(vec![table(read, "t")]) };
    to.ask(LockArgs { rqst: Some(of_transaction) }).await;
}

fn request(component: Vec<LockComponent>) -> LockRequest {
    let agent_info = text("agent");
    LockRequest { component, user: "ada".into(), hostname: "there".into(), agent_info, ..LockRequest::default() }
}

async fn take(to: &mut Asking, component: Vec<LockComponent>) -> i64 {
    let taken = to.ask(LockArgs { rqst: Some(request(component)) }).await;
    taken.map_or(NO_LOCK, |lock| lock.lockid)
}

async fn give(to: &mut Asking, lockid: i64) {
    if lockid != NO_LOCK {
        give_exactly(to, lockid).await;
    }
}

async fn give_exactly(to: &mut Asking, lockid: i64) {
    to.ask(UnlockArgs { rqst: Some(UnlockRequest { lockid }) }).await;
}

async fn check(to: &mut Asking, lockid: i64) {
    to.ask(CheckLockArgs { rqst: Some(CheckLockRequest { lockid, ..CheckLockRequest::default() }) }).await;
}

async fn show(to: &mut Asking, database: Option<&str>, table: Option<&str>) {
    let request = ShowLocksRequest {
        dbname: database.map(str::to_owned),
        tablename: table.map(str::to_owned),
        ..ShowLocksRequest::default()
    };
    to.ask_sorted(ShowLocksArgs { rqst: Some(request) }, |found| {
        found.locks.iter_mut().for_each(|locks| locks.sort_by_key(|lock| lock.lockid));
    })
    .await;
}
