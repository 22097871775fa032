use tereza_catalog::model::{Column, Parameters, TableKind};
use tereza_runtime::ErrorKind;

use super::*;
use crate::formats::Format;

const HOUR_MS: i64 = 3_600_000;
/// 2026-01-09 07:00:00 UTC
const SEVEN_MS: i64 = 1_767_942_000_000;

fn table(keys: &[&str], parameters: &[(&str, &str)]) -> Table {
    let column = |name: &&str| Column { name: (*name).into(), type_name: "string".into(), comment: None };
    Table {
        database: "d".into(),
        name: "t".into(),
        kind: TableKind::Managed,
        owner: None,
        create_time_s: 0,
        last_access_time_s: 0,
        retention: 0,
        storage: Format::Parquet.storage(vec![column(&"a")], Some("file:///t".into()), &Parameters::new()).unwrap(),
        partition_keys: keys.iter().map(column).collect(),
        parameters: parameters.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect(),
        view_original_text: None,
        view_expanded_text: None,
        owner_kind: Default::default(),
    }
}

fn policy(keys: &[&str], parameters: &[(&str, &str)]) -> PartitionCommit {
    PartitionCommit::of(&table(keys, parameters)).unwrap().unwrap()
}

fn values(values: &[&str]) -> Vec<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

#[test]
fn a_watermark_completes_a_partition_of_its_time() {
    let policy = policy(
        &["d", "day", "h"],
        &[(TRIGGER, "partition-time"), (DELAY, "1 h"), (PATTERN, "$day $h:00:00"), (POLICY, "metastore, success-file")],
    );
    assert!(policy.adds() && policy.needs_watermarks());
    assert_eq!(policy.success_file(), Some("_SUCCESS"));
    let due = |watermark| policy.is_due(&values(&["x", "2026-01-09", "7"]), 0, watermark, i64::MAX).unwrap();
    assert!(!due(None));
    assert!(!due(Some(SEVEN_MS + HOUR_MS)));
    assert!(due(Some(SEVEN_MS + HOUR_MS + 1)));
    assert!(due(Some(i64::MAX)));
}

#[test]
fn times_are_written_in_many_ways() {
    let at = |parameters: &[(&str, &str)], value: &str| {
        let all = [&[(TRIGGER, "partition-time")], parameters].concat();
        let policy = policy(&["dt"], &all);
        let (mut low, mut high) = (0, 2 * SEVEN_MS);
        while low < high {
            let middle = low + (high - low) / 2;
            match policy.is_due(&values(&[value]), 0, Some(middle), 0).unwrap() {
                true => high = middle,
                false => low = middle + 1,
            }
        }
        low - 1
    };
    assert_eq!(at(&[], "2026-1-9 7:00:00"), SEVEN_MS);
    assert_eq!(at(&[], "2026-01-09"), SEVEN_MS - 7 * HOUR_MS);
    assert_eq!(at(&[(FORMATTER, "yyyyMMdd-HH")], "20260109-07"), SEVEN_MS);
    assert_eq!(at(&[(ZONE, "Asia/Shanghai")], "2026-01-09 15:00:00"), SEVEN_MS);
    assert_eq!(at(&[(ZONE, "+08:00")], "2026-01-09 15:00:00"), SEVEN_MS);
    // Clocks of Berlin go from 2:00 to 3:00 at 1:00 UTC.
    assert_eq!(
        at(&[(ZONE, "Europe/Berlin")], "2026-03-29 02:30:00"),
        at(&[], "2026-03-29 01:30:00"),
        "a time that is jumped over"
    );
    let broken = policy(&["dt"], &[(TRIGGER, "partition-time")]);
    let error = broken.is_due(&values(&["__HIVE_DEFAULT_PARTITION__"]), 0, Some(0), 0).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("__HIVE_DEFAULT_PARTITION__"), "{error}");
}

#[test]
fn the_clock_counts_from_the_first_file() {
    let at_once = policy(&["dt"], &[(POLICY, "success-file"), (SUCCESS_FILE, "_DONE")]);
    assert!(!at_once.adds() && !at_once.needs_watermarks());
    assert_eq!(at_once.success_file(), Some("_DONE"));
    assert!(at_once.is_due(&values(&["x"]), 10, None, 10).unwrap());
    let later = policy(&["dt"], &[(TRIGGER, "process-time"), (DELAY, "5 s")]);
    assert!(later.adds() && later.success_file().is_none() && !later.compacts());
    assert!(!later.is_due(&values(&["x"]), 10, None, 5_010).unwrap());
    assert!(later.is_due(&values(&["x"]), 10, None, 5_011).unwrap());
}

#[test]
fn what_is_not_known_is_refused_by_its_name() {
    assert!(PartitionCommit::of(&table(&["dt"], &[(DELAY, "1 h"), ("numRows", "1")])).unwrap().is_none());
    type Case<'a> = (&'a [&'a str], &'a [(&'a str, &'a str)], ErrorKind, &'a str);
    let cases: [Case<'_>; 12] = [
        (&["dt"], &[(TRIGGER, "sometimes")], ErrorKind::InvalidInput, TRIGGER),
        (&["dt"], &[(TRIGGER, "process-time"), (DELAY, "soon")], ErrorKind::InvalidInput, DELAY),
        (&["dt"], &[(TRIGGER, "partition-time"), (ZONE, "Mars")], ErrorKind::InvalidInput, ZONE),
        (&["dt"], &[(TRIGGER, "partition-time"), (FORMATTER, "ww")], ErrorKind::Unsupported, FORMATTER),
        (&["dt"], &[(TRIGGER, "partition-time"), (EXTRACTOR, "custom")], ErrorKind::Unsupported, EXTRACTOR),
        (&["dt"], &[(POLICY, "metastore,custom")], ErrorKind::Unsupported, POLICY),
        (&["dt"], &[(COMPACTION, "true")], ErrorKind::Unsupported, COMPACTION),
        (&["dt"], &[(TRIGGER, "process-time"), (COMPACTION, "a bit")], ErrorKind::InvalidInput, COMPACTION),
        (&["dt"], &[(POLICY, "mail")], ErrorKind::InvalidInput, POLICY),
        (&["dt"], &[(POLICY, "success-file"), (SUCCESS_FILE, "done")], ErrorKind::InvalidInput, SUCCESS_FILE),
        (&["dt"], &[("sink.partition-commit.policy.class", "x")], ErrorKind::Unsupported, "policy.class"),
        (&[], &[(TRIGGER, "process-time")], ErrorKind::InvalidInput, "no partitions"),
    ];
    for (keys, parameters, kind, text) in cases {
        let error = PartitionCommit::of(&table(keys, parameters)).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(text), "{text} is not in: {error}");
    }
}
