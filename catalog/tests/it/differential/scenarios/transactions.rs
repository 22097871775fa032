//! Transactions of tables that Hive writes in place, their locks and their compaction.

use tereza_thrift::hive::*;

use super::{Asking, drop_web, make_table, make_web};
use crate::support::{map, table, text, texts};

/// No transaction has it.
const NO_TXN: i64 = 987_654_321;

pub(super) async fn play(to: &mut Asking) {
    make_web(to).await;
    make_table(to, table("t")).await;
    let acid = map(&[("transactional", "true"), ("transactional_properties", "insert_only")]);
    make_table(to, Table { parameters: Some(acid), ..table("acid") }).await;
    to.ask(GetOpenTxnsArgs {}).await;
    let open =
        OpenTxnRequest { num_txns: 2, user: "ada".into(), hostname: "there".into(), ..OpenTxnRequest::default() };
    let opened = to.ask(OpenTxnsArgs { rqst: Some(open) }).await.map(|opened| opened.txn_ids).unwrap_or_default();
    let (one, two) = (opened.first().copied().unwrap_or(NO_TXN), opened.get(1).copied().unwrap_or(NO_TXN));
    to.ask(GetOpenTxnsArgs {}).await;
    to.ask_sorted(GetOpenTxnsInfoArgs {}, |found| {
        for txn in &mut found.open_txns {
            (txn.started_time, txn.last_heartbeat_time) = (None, None);
        }
    })
    .await;
    let write = |ids: Vec<i64>, table: &str| AllocateTableWriteIdsArgs {
        rqst: Some(AllocateTableWriteIdsRequest {
            db_name: "web".into(),
            table_name: table.into(),
            txn_ids: Some(ids),
            ..AllocateTableWriteIdsRequest::default()
        }),
    };
    to.ask(write(vec![one], "acid")).await;
    to.ask(write(vec![NO_TXN], "acid")).await;
    let valid = GetValidWriteIdsRequest {
        full_table_names: texts(&["web.acid"]),
        valid_txn_list: text("2:9223372036854775807::"),
        ..GetValidWriteIdsRequest::default()
    };
    to.ask(GetValidWriteIdsArgs { rqst: Some(valid) }).await;
    let component = LockComponent {
        r#type: LockType::SHARED_WRITE,
        level: LockLevel::TABLE,
        dbname: "web".into(),
        tablename: text("acid"),
        operation_type: Some(DataOperationType::INSERT),
        is_transactional: Some(true),
        ..LockComponent::default()
    };
    let lock = LockRequest {
        component: vec![component],
        txnid: Some(one),
        user: "ada".into(),
        hostname: "there".into(),
        ..LockRequest::default()
    };
    to.ask(LockArgs { rqst: Some(lock) }).await;
    let partitions = |txnid| AddDynamicPartitionsArgs {
        rqst: Some(AddDynamicPartitions {
            txnid,
            writeid: 1,
            dbname: "web".into(),
            tablename: "acid".into(),
            partitionnames: Some(texts(&["ds=a"])),
            operation_type: Some(DataOperationType::INSERT),
        }),
    };
    to.ask(partitions(one)).await;
    to.ask(partitions(NO_TXN)).await;
    to.ask(HeartbeatArgs { ids: Some(HeartbeatRequest { lockid: None, txnid: Some(one) }) }).await;
    to.ask(HeartbeatTxnRangeArgs { txns: Some(HeartbeatTxnRangeRequest { min: one, max: two }) }).await;
    to.ask(HeartbeatTxnRangeArgs { txns: Some(HeartbeatTxnRangeRequest { min: NO_TXN, max: NO_TXN }) }).await;
    for txnid in [one, one, NO_TXN] {
        to.ask(CommitTxnArgs { rqst: Some(CommitTxnRequest { txnid, ..CommitTxnRequest::default() }) }).await;
    }
    for txnid in [two, two, NO_TXN] {
        to.ask(AbortTxnArgs { rqst: Some(AbortTxnRequest { txnid, ..AbortTxnRequest::default() }) }).await;
    }
    to.ask(CommitTxnArgs { rqst: Some(CommitTxnRequest { txnid: two, ..CommitTxnRequest::default() }) }).await;
    to.ask(HeartbeatArgs { ids: Some(HeartbeatRequest { lockid: None, txnid: Some(two) }) }).await;
    let abort = AbortTxnsRequest { txn_ids: vec![NO_TXN], ..AbortTxnsRequest::default() };
    to.ask(AbortTxnsArgs { rqst: Some(abort) }).await;
    to.ask(GetOpenTxnsArgs {}).await;
    let compact = CompactionRequest {
        dbname: "web".into(),
        tablename: "acid".into(),
        r#type: CompactionType::MAJOR,
        ..CompactionRequest::default()
    };
    to.ask(Compact2Args { rqst: Some(compact) }).await;
    to.ask_sorted(ShowCompactArgs { rqst: Some(ShowCompactRequest::default()) }, |found| {
        for compact in &mut found.compacts {
            (compact.start, compact.end_time) = (None, None);
        }
    })
    .await;
    drop_web(to).await;
}
