use arrow::array::AsArray;
use arrow::datatypes::UInt64Type;

use super::*;

const USER: &str = "ada";

fn log(history_max: usize) -> (Arc<QueryLog>, Clock) {
    let clock = Clock::fixed(1_000);
    (Arc::new(QueryLog::new(clock.clone(), history_max)), clock)
}

fn start(log: &Arc<QueryLog>, id: &str) -> Entry {
    log.start(
        QueryId(id.into()),
        USER,
        &SessionId("s".into()),
        "select 1",
        StatementKind::Query,
        CancellationToken::new(),
    )
}

fn states(log: &QueryLog) -> Vec<(String, &'static str)> {
    log.records().iter().map(|record| (record.id.0.clone(), record.course.lock().state.as_str())).collect()
}

#[test]
fn a_statement_goes_through_its_states() {
    let (log, clock) = log(10);
    let entry = start(&log, "a");
    assert_eq!(states(&log), [("a".into(), "queued")]);
    clock.advance_ms(5);
    entry.running();
    assert_eq!(states(&log), [("a".into(), "running")]);
    clock.advance_ms(7);
    entry.finished();
    drop(entry);
    assert_eq!(states(&log), [("a".into(), "finished")]);

    let course = log.records()[0].course.lock().clone();
    assert_eq!((course.started_ms, course.ended_ms), (Some(1_005), Some(1_012)));
    assert!(log.entries.lock().live.is_empty());
}

#[test]
fn how_a_statement_ends_is_what_happened_first() {
    let (log, clock) = log(10);
    let failed = start(&log, "a");
    failed.failed(&Error::resource_exhausted("too big"));
    failed.finished();
    clock.advance_ms(1);
    let cancelled = start(&log, "b");
    cancelled.failed(&Error::cancelled("stopped by ada"));
    clock.advance_ms(1);
    drop(start(&log, "c"));
    assert_eq!(states(&log), [("a".into(), "failed"), ("b".into(), "cancelled"), ("c".into(), "cancelled")]);
}

#[test]
fn history_is_bounded_and_loses_the_oldest() {
    let (log, clock) = log(2);
    for id in ["a", "b", "c"] {
        start(&log, id).finished();
        clock.advance_ms(1);
    }
    let _live = start(&log, "d");
    assert_eq!(states(&log), [("b".into(), "finished"), ("c".into(), "finished"), ("d".into(), "queued")]);
}

#[test]
fn only_its_user_cancels_a_live_statement() {
    let (log, _) = log(2);
    let entry = start(&log, "a");
    let id = QueryId("a".into());
    assert_eq!(log.cancel(&id, "eve").unwrap_err().kind(), ErrorKind::Denied);
    log.cancel(&id, USER).unwrap();
    assert!(entry.record.cancellation.is_cancelled());
    entry.failed(&Error::cancelled("stopped"));
    assert_eq!(log.cancel(&id, USER).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn long_texts_are_cut_at_a_character() {
    assert_eq!(truncated("aéb", 2), "aé…");
    assert_eq!(truncated("aé", 2), "aé");
}

#[test]
fn the_table_shows_rows_written_and_errors() {
    let (log, clock) = log(10);
    let update = log.start(
        QueryId("a".into()),
        USER,
        &SessionId("s".into()),
        "insert",
        StatementKind::Update,
        CancellationToken::new(),
    );
    update.wrote(42);
    update.finished();
    clock.advance_ms(3);
    let failed = start(&log, "b");
    clock.advance_ms(4);
    failed.failed(&Error::not_found("table t does not exist"));

    let batch = tables::queries_batch(&log.records(), clock.unix_ms()).unwrap();
    let text = |name: &str, row: usize| batch[name].as_string::<i32>().value(row).to_owned();
    assert_eq!(batch["rows"].as_primitive::<UInt64Type>().value(0), 42);
    assert_eq!(text("kind", 0), "update");
    assert_eq!(text("error_kind", 1), "NotFound");
    assert_eq!(text("error", 1), "table t does not exist");
    assert!(batch["error"].is_null(0));
}
