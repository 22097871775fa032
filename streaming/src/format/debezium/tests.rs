use arrow::array::{AsArray, Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Int32Type};
use proptest::prelude::*;
use std::sync::Arc;

use super::super::tests::{any_batch, message, schema_of, table};
use super::super::{Decoded, FormatOptions, OnPoison, RowKind, decoder, encoder};

fn debezium() -> FormatOptions {
    FormatOptions::new("debezium-json")
}

fn decode(options: FormatOptions, texts: &[&str]) -> Decoded {
    let schema = schema_of(vec![Field::new("id", DataType::Int32, true), Field::new("s", DataType::Utf8, true)]);
    let messages: Vec<_> = texts.iter().map(|text| message(Some(text.as_bytes()))).collect();
    decoder(&table(schema, options)).unwrap().decode(&messages).unwrap()
}

#[test]
fn changes_are_rows() {
    let decoded = decode(
        debezium(),
        &[
            r#"{"before":null,"after":{"id":1,"s":"a"},"source":{"x":[1]},"op":"c","ts_ms":1}"#,
            r#"{"op":"u","before":{"id":1,"s":"a"},"after":{"id":1,"s":"b"}}"#,
            "",
            r#"{"op":"r","after":{"id":2}}"#,
            r#"{"op":"d","before":{"id":1,"s":"b"},"after":null}"#,
        ],
    );
    use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
    assert_eq!(decoded.poisoned, []);
    assert_eq!(decoded.kinds.unwrap(), [Insert, UpdateBefore, UpdateAfter, Insert, Delete]);
    assert_eq!(decoded.sources, [0, 1, 1, 3, 4]);
    assert_eq!(decoded.batch.column(0).as_primitive::<Int32Type>().values(), &[1, 1, 1, 2, 1]);
    let texts: Vec<_> = decoded.batch.column(1).as_string::<i32>().iter().collect();
    assert_eq!(texts, [Some("a"), Some("a"), Some("b"), None, Some("b")]);
}

#[test]
fn half_a_change_leaves_nothing() {
    let decoded = decode(
        debezium(),
        &[
            r#"{"op":"u","before":{"id":1},"after":{"id":"x"}}"#,
            r#"{"op":"u","after":{"id":1}}"#,
            r#"{"op":"x","after":{"id":1}}"#,
            r#"{"after":{"id":1}}"#,
            r#"{"op":"c","after":null}"#,
            r#"{"op":"c","after":[1]}"#,
            r#"[1]"#,
            r#"{"op":"c","after":{"id":9}}"#,
        ],
    );
    assert_eq!(decoded.batch.column(0).as_primitive::<Int32Type>().values(), &[9]);
    let reasons: Vec<_> = decoded.poisoned.iter().map(|poisoned| poisoned.reason.as_str()).collect();
    assert_eq!(reasons.len(), 7);
    assert!(reasons[1].contains("REPLICA IDENTITY FULL"), "{reasons:?}");
    assert!(reasons[2].contains("`op` is `x`, not c, r, u or d"), "{reasons:?}");
}

#[test]
fn messages_with_their_schema_are_read() {
    let text = r#"{"schema":{"type":"struct","fields":[]},"payload":{"op":"c","after":{"id":3}}}"#;
    let decoded = decode(debezium().with("schema-include", "true"), &[text, r#"{"schema":{}}"#]);
    assert_eq!(decoded.batch.column(0).as_primitive::<Int32Type>().values(), &[3]);
    assert!(decoded.poisoned[0].reason.contains("no `payload`"));
    assert_eq!(decoded.poisoned[0].policy, OnPoison::Fail);
}

#[test]
fn rows_are_changes_as_flink_writes_them() {
    let schema = schema_of(vec![Field::new("id", DataType::Int32, true)]);
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int32Array::from(vec![1, 1, 2, 2]))]).unwrap();
    let kinds = [RowKind::Insert, RowKind::UpdateBefore, RowKind::UpdateAfter, RowKind::Delete];
    let write = |options| {
        let messages = encoder(&table(Arc::clone(&schema), options)).unwrap().encode(&batch, Some(&kinds)).unwrap();
        messages
            .into_iter()
            .map(|message| String::from_utf8(message.value.unwrap().to_vec()).unwrap())
            .collect::<Vec<_>>()
    };
    let expected = [
        r#"{"before":null,"after":{"id":1},"op":"c"}"#,
        r#"{"before":{"id":1},"after":null,"op":"d"}"#,
        r#"{"before":null,"after":{"id":2},"op":"c"}"#,
        r#"{"before":{"id":2},"after":null,"op":"d"}"#,
    ];
    assert_eq!(write(debezium()), expected);
    let short = write(debezium().with("encode.ignore-null-fields", "true"));
    assert_eq!(short[0], r#"{"after":{"id":1},"op":"c"}"#);
    assert_eq!(short[1], r#"{"before":{"id":1},"op":"d"}"#);
    let error = encoder(&table(schema, debezium().with("schema-include", "true"))).err().unwrap();
    assert!(error.to_string().contains("debezium-json.schema-include"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_written_is_read_again(batch in any_batch(), seed in any::<u64>()) {
        let of_table = table(batch.schema(), debezium());
        let kinds: Vec<_> = (0..batch.num_rows())
            .map(|row| if seed >> (row % 64) & 1 == 0 { RowKind::Insert } else { RowKind::Delete })
            .collect();
        let encoded = encoder(&of_table).unwrap().encode(&batch, Some(&kinds)).unwrap();
        let messages: Vec<_> = encoded.into_iter().map(|encoded| message(encoded.value.as_deref())).collect();
        let decoded = decoder(&of_table).unwrap().decode(&messages).unwrap();
        prop_assert_eq!(decoded.poisoned, vec![]);
        prop_assert_eq!(decoded.kinds.unwrap(), kinds);
        prop_assert_eq!(decoded.batch, batch);
    }
}
