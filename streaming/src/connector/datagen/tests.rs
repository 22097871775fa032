use arrow::array::{Array, AsArray};
use arrow::datatypes::{
    Date32Type, Decimal128Type, Float64Type, Int8Type, Int64Type, Schema, TimestampMillisecondType,
};
use tereza_engine::flink::{FlinkStatement, parse};
use tereza_runtime::ErrorKind;

use super::*;

/// 2026-01-02 00:00:01.
const ORIGIN_MS: i64 = 1_767_312_001_000;

fn made(columns: &str, options: &str) -> Result<Datagen> {
    let FlinkStatement::CreateTable(create) =
        parse(&format!("CREATE TABLE t ({columns}) WITH ('connector' = 'datagen'{options})"))?
    else {
        panic!("{columns}")
    };
    let fields = create.table.columns.iter().filter_map(|column| {
        let of = column.data_type()?.to_arrow().unwrap();
        Some(arrow::datatypes::Field::new(&column.name, of, true))
    });
    let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    Datagen::new("tereza.default.t", &create.table, schema, ORIGIN_MS)
}

fn refused(columns: &str, options: &str) -> Error {
    made(columns, options).unwrap_err()
}

#[test]
fn rows_follow_from_their_numbers() {
    let columns = "a BIGINT, b STRING, c DOUBLE, d BYTES, e BOOLEAN, f TIMESTAMP(3), g DECIMAL(38, 4), h FLOAT, i TIME";
    let rows = made(columns, ", 'fields.a.null-rate' = '0.5', 'fields.f.max-past' = '1 h'").unwrap();
    assert_eq!(rows.numbers(), 0..u64::MAX);
    let all = rows.batch(0..1_000).unwrap();
    for (start, end) in [(0, 1), (417, 423), (999, 1_000), (500, 500)] {
        let some = all.slice(start, end - start);
        assert_eq!(rows.batch(start as u64..end as u64).unwrap(), some, "{start} to {end}");
    }
    assert_ne!(rows.batch(1_000..2_000).unwrap().columns(), all.columns());
    let nulls: Vec<usize> = all.columns().iter().map(|column| column.null_count()).collect();
    assert!((400..600).contains(&nulls[0]), "{nulls:?}");
    assert!(nulls[1..].iter().all(|count| *count == 0), "{nulls:?}");
    // Columns of one type differ, and so do tables and jobs.
    let twins = made("a BIGINT, b BIGINT", "").unwrap();
    let twins = twins.batch(0..10).unwrap();
    assert_ne!(twins.column(0), twins.column(1));
}

#[test]
fn values_keep_to_their_types_and_bounds() {
    let rows = made(
        "a TINYINT, b DOUBLE, c DECIMAL(5, 2), d CHAR(5), e VARCHAR(7), f STRING, g VARBINARY(3), h BIGINT",
        ", 'fields.a.min' = '-3', 'fields.a.max' = '4', 'fields.b.min' = '0.5', 'fields.b.max' = '1.5', \
         'fields.c.min' = '-1.5', 'fields.c.max' = '2.25', 'fields.f.length' = '20', 'fields.f.var-len' = 'true'",
    )
    .unwrap();
    let all = rows.batch(0..5_000).unwrap();
    let mut small: Vec<i8> = all.column(0).as_primitive::<Int8Type>().values().to_vec();
    small.sort_unstable();
    small.dedup();
    assert_eq!(small, [-3, -2, -1, 0, 1, 2, 3, 4]);
    assert!(all.column(1).as_primitive::<Float64Type>().values().iter().all(|value| (0.5..=1.5).contains(value)));
    let unscaled = all.column(2).as_primitive::<Decimal128Type>().values();
    assert!(unscaled.iter().all(|value| (-150..=225).contains(value)));
    assert!(unscaled.iter().any(|value| *value < 0) && unscaled.iter().any(|value| *value > 200));
    let lengths = |at: usize| -> std::collections::BTreeSet<usize> {
        all.column(at).as_string::<i32>().iter().map(|text| text.unwrap().len()).collect()
    };
    assert_eq!((lengths(3), lengths(4)), ([5].into(), [7].into()));
    assert_eq!(lengths(5), (1..=20).collect());
    let is_hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(all.column(5).as_string::<i32>().iter().all(|text| is_hex(text.unwrap())));
    assert!(all.column(6).as_binary::<i32>().iter().all(|bytes| bytes.unwrap().len() == 3));
    let large = all.column(7).as_primitive::<Int64Type>().values();
    assert!(large.iter().any(|value| *value < 0) && large.iter().any(|value| *value > 0));
    // What nothing is said of has all values of its type.
    let rows = made("a TINYINT, b DECIMAL(38, 0), c DOUBLE", "").unwrap();
    let all = rows.batch(0..10_000).unwrap();
    let bytes: std::collections::BTreeSet<i8> =
        all.column(0).as_primitive::<Int8Type>().values().iter().copied().collect();
    assert_eq!(bytes.len(), 256);
    assert!(all.column(2).as_primitive::<Float64Type>().values().iter().all(|value| value.is_finite() && *value > 0.0));
}

#[test]
fn a_sequence_ends_its_table_and_so_does_a_count() {
    let sequence = ", 'fields.a.kind' = 'sequence', 'fields.a.start' = '-2', 'fields.a.end' = '3'";
    let rows = made("a BIGINT, b INT", sequence).unwrap();
    assert_eq!(rows.numbers(), 0..6);
    let all = rows.batch(0..6).unwrap();
    assert_eq!(all.column(0).as_primitive::<Int64Type>().values().to_vec(), [-2, -1, 0, 1, 2, 3]);
    let fewer = made("a BIGINT", &format!("{sequence}, 'number-of-rows' = '4'")).unwrap();
    assert_eq!(fewer.numbers(), 0..4);
    let texts = made("a STRING", sequence).unwrap().batch(0..3).unwrap();
    assert_eq!(texts.column(0).as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["-2", "-1", "0"]);
    let decimals = made("a DECIMAL(4, 1)", sequence).unwrap().batch(4..6).unwrap();
    assert_eq!(decimals.column(0).as_primitive::<Decimal128Type>().values().to_vec(), [20, 30]);
    let all = ", 'fields.a.kind' = 'sequence', 'fields.a.start' = '-9223372036854775808', \
               'fields.a.end' = '9223372036854775807'";
    assert_eq!(made("a BIGINT", all).unwrap().numbers(), 0..u64::MAX);
}

#[test]
fn rows_come_at_their_rate_and_times_are_those_of_rows() {
    let rows = made("a TIMESTAMP(3), b DATE", ", 'rows-per-second' = '2'").unwrap();
    let columns = rows.batch(0..4).unwrap();
    let times = columns.column(0).as_primitive::<TimestampMillisecondType>().values();
    assert_eq!(times.to_vec(), [0, 500, 1_000, 1_500].map(|ms| ORIGIN_MS + ms));
    assert_eq!(columns.column(1).as_primitive::<Date32Type>().values().to_vec(), [20_455; 4]);
    let made = super::super::Made::Datagen(Box::new(rows));
    assert_eq!(made.due(0, ORIGIN_MS - 1), 0..0);
    assert_eq!(made.due(0, ORIGIN_MS), 0..1);
    assert!(made.due(3, ORIGIN_MS + 1_000).is_empty());
    let some = made.due(3, ORIGIN_MS + 100_000);
    assert!(some.start == 3 && !some.is_empty() && some.end <= 201, "{some:?}");
    // Batches of long texts have few rows.
    let long =
        super::tests::made("a STRING", ", 'fields.a.length' = '1000000', 'rows-per-second' = '1000000'").unwrap();
    assert_eq!(long.batch_rows(), 16);
}

#[test]
fn what_is_wrong_is_named() {
    for (columns, options, part) in [
        ("a INT", ", 'rows-per-secnd' = '1'", "did you mean 'rows-per-second'?"),
        ("a INT", ", 'rows-per-second' = '0'", "option 'rows-per-second' of connector 'datagen' is '0'"),
        ("a INT", ", 'number-of-rows' = 'many'", "'number-of-rows'"),
        ("amount INT", ", 'fields.amont.min' = '1'", "did you mean 'fields.amount.min'?"),
        ("a INT", ", 'fields.a.mim' = '1'", "did you mean 'fields.a.min'?"),
        ("a INT", ", 'fields.a.kind' = 'series'", "not 'random' or 'sequence'"),
        ("a TINYINT", ", 'fields.a.max' = '128'", "from -128 to 127"),
        ("a INT", ", 'fields.a.min' = '3', 'fields.a.max' = '2'", "'fields.a.max' is less than 'fields.a.min'"),
        ("a INT", ", 'fields.a.length' = '3'", "column 'a' is INT"),
        ("a INT", ", 'fields.a.start' = '3'", "its kind is 'random'"),
        ("a VARCHAR(4)", ", 'fields.a.length' = '5'", "from 1 to 4"),
        ("a CHAR(4)", ", 'fields.a.length' = '4'", "is of no use"),
        ("a INT", ", 'fields.a.kind' = 'sequence', 'fields.a.start' = '1'", "option 'fields.a.end' is missing"),
        ("a INT", ", 'fields.a.null-rate' = '2'", "from 0 to 1"),
        ("a INT NOT NULL", ", 'fields.a.null-rate' = '0.1'", "NOT NULL"),
        ("a TIMESTAMP(3)", ", 'fields.a.max-past' = 'long ago'", "a duration"),
        ("a INT METADATA", "", "has no metadata"),
    ] {
        let error = refused(columns, options);
        let text = format!("{error} {}", error.hint().unwrap_or_default());
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{text}");
        assert!(text.contains(part), "{part}: {text}");
    }
    for columns in ["a ARRAY<INT>", "a ROW<b INT>", "a MAP<INT, INT>"] {
        let error = refused(columns, "");
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("column 'a'"), "{error}");
    }
    let sequence = ", 'fields.a.kind' = 'sequence', 'fields.a.start' = '1', 'fields.a.end' = '2'";
    assert_eq!(refused("a TIMESTAMP(3)", sequence).kind(), ErrorKind::Unsupported);
    let error = refused("a STRING", ", 'fields.a.length' = '2000000'");
    assert_eq!(error.kind(), ErrorKind::Unsupported);
}
