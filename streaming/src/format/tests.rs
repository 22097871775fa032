//! What the tests of all formats have alike, and the tests of what formats are put together of.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, ListArray, MapArray, StringArray, StructArray, Time32MillisecondArray,
    TimestampMicrosecondArray, TimestampMillisecondArray,
};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType, Fields, Int32Type};
use proptest::prelude::*;

use super::*;

pub(super) fn schema_of(fields: Vec<Field>) -> SchemaRef {
    Arc::new(Schema::new(fields))
}

pub(super) fn options_of(format: &str) -> FormatOptions {
    FormatOptions::new(format)
}

/// A table whose messages have no key.
pub(super) fn table(schema: SchemaRef, value: FormatOptions) -> TableFormats {
    TableFormats { schema, key: None, value, value_has_key: true, is_upsert: false, topic: Some("t".to_owned()) }
}

pub(super) fn message(value: Option<&[u8]>) -> Message {
    Message {
        topic: "t".into(),
        partition: 3,
        offset: 7,
        timestamp_ms: None,
        key: None,
        value: value.map(Bytes::copy_from_slice),
        headers: Vec::new(),
    }
}

fn keyed(key: Option<&str>, value: Option<&str>) -> Message {
    let key = key.map(|key| Bytes::copy_from_slice(key.as_bytes()));
    Message { key, ..message(value.map(str::as_bytes)) }
}

/// Writes a batch and reads it again.
pub(super) fn roundtrip(batch: &RecordBatch, options: FormatOptions) {
    let table = table(batch.schema(), options);
    let mut encoder = encoder(&table).unwrap();
    let encoded = encoder.encode(batch, None).unwrap();
    assert_eq!(
        encoded.iter().map(|encoded| encoded.row).collect::<Vec<_>>(),
        (0..batch.num_rows()).collect::<Vec<_>>()
    );
    let messages: Vec<_> = encoded.into_iter().map(|encoded| message(encoded.value.as_deref())).collect();
    let decoded = decoder(&table).unwrap().decode(&messages).unwrap();
    assert_eq!(decoded.poisoned, []);
    assert_eq!(&decoded.batch, batch);
}

/// Days from the year 0 to 9999.
const DAYS: std::ops::Range<i32> = -719_528..2_932_897;
const MS_PER_DAY: i64 = 86_400_000;

/// Rows of simple types: values are bounded as those of SQL are.
fn simple_columns(rows: usize) -> impl Strategy<Value = Vec<(&'static str, ArrayRef)>> {
    fn some<T: std::fmt::Debug>(
        rows: usize,
        values: impl Strategy<Value = T>,
    ) -> impl Strategy<Value = Vec<Option<T>>> {
        prop::collection::vec(prop::option::weighted(0.8, values), rows)
    }
    let times = i64::from(DAYS.start) * MS_PER_DAY..i64::from(DAYS.end) * MS_PER_DAY;
    let numbers = (
        some(rows, any::<bool>()),
        some(rows, any::<i8>()),
        some(rows, any::<i16>()),
        some(rows, any::<i32>()),
        some(rows, any::<i64>()),
        some(rows, any::<f32>().prop_filter("equal to itself", |value| !value.is_nan())),
        some(rows, any::<f64>().prop_filter("equal to itself", |value| !value.is_nan())),
        some(rows, -(10_i128.pow(20))..10_i128.pow(20)),
    );
    let others = (
        some(rows, ".{0,40}"),
        some(rows, prop::collection::vec(any::<u8>(), 0..40)),
        some(rows, DAYS),
        some(rows, 0..86_400_000_i32),
        some(rows, times),
    );
    (numbers, others).prop_map(
        |((bool, i8, i16, i32, i64, f32, f64, decimal), (text, bytes, date, time, timestamp))| {
            let decimals = Decimal128Array::from(decimal).with_precision_and_scale(20, 4).unwrap();
            vec![
                ("bool", Arc::new(BooleanArray::from(bool)) as ArrayRef),
                ("i8", Arc::new(Int8Array::from(i8))),
                ("i16", Arc::new(Int16Array::from(i16))),
                ("i32", Arc::new(Int32Array::from(i32))),
                ("i64", Arc::new(Int64Array::from(i64))),
                ("f32", Arc::new(Float32Array::from(f32))),
                ("f64", Arc::new(Float64Array::from(f64))),
                ("decimal", Arc::new(decimals)),
                ("text", Arc::new(StringArray::from(text))),
                ("bytes", Arc::new(BinaryArray::from_iter(bytes))),
                ("date", Arc::new(Date32Array::from(date))),
                ("time", Arc::new(Time32MillisecondArray::from(time))),
                ("ts", Arc::new(TimestampMillisecondArray::from(timestamp))),
            ]
        },
    )
}

fn batch_of(columns: Vec<(&'static str, ArrayRef)>) -> RecordBatch {
    let fields = columns.iter().map(|(name, array)| Field::new(*name, array.data_type().clone(), true)).collect();
    RecordBatch::try_new(schema_of(fields), columns.into_iter().map(|(_, array)| array).collect()).unwrap()
}

/// Batches of simple types that all formats of rows have.
pub(super) fn simple_batch() -> impl Strategy<Value = RecordBatch> {
    (1_usize..20).prop_flat_map(simple_columns).prop_map(batch_of)
}

/// Batches with all kinds of types, nested ones too, timestamps of microseconds with a zone among them.
pub(super) fn any_batch() -> impl Strategy<Value = RecordBatch> {
    let nested = |rows: usize| {
        let lens = prop::collection::vec(0_usize..3, rows);
        (simple_columns(rows), simple_columns(rows * 3), lens, prop::collection::vec(any::<bool>(), rows))
    };
    (1_usize..12).prop_flat_map(nested).prop_map(|(mut columns, inner, lens, valid)| {
        let offsets = OffsetBuffer::<i32>::from_lengths(lens.iter().copied());
        let total = lens.iter().sum();
        let nulls = NullBuffer::from(valid);
        let timestamps = columns.iter().find(|(name, _)| *name == "ts").map(|(_, array)| Arc::clone(array)).unwrap();
        let micros: TimestampMicrosecondArray = timestamps
            .as_primitive::<arrow::datatypes::TimestampMillisecondType>()
            .iter()
            .map(|value| value.map(|value| value * 1_000 + 7))
            .collect();
        let inner_of = |name: &str| {
            let (_, array) = inner.iter().find(|(of, _)| *of == name).unwrap();
            array.slice(0, total)
        };
        let field = |name: &str, array: &ArrayRef| Field::new(name, array.data_type().clone(), true);
        let items = inner_of("text");
        let list = ListArray::new(Arc::new(field("item", &items)), offsets.clone(), items, Some(nulls.clone()));
        let keys: ArrayRef = Arc::new((0..total).map(|at| Some(format!("k{at}"))).collect::<StringArray>());
        let values = inner_of("i64");
        let pair = Fields::from(vec![Field::new("key", DataType::Utf8, false), field("value", &values)]);
        let entries = StructArray::new(pair.clone(), vec![keys, values], None);
        let entries_field = Arc::new(Field::new("entries", DataType::Struct(pair), false));
        let map = MapArray::new(entries_field, offsets, entries, Some(nulls.clone()), false);
        let rows = columns.iter().filter(|(name, _)| ["i32", "text", "decimal"].contains(name));
        let (fields, arrays): (Vec<Field>, Vec<ArrayRef>) =
            rows.map(|(name, array)| (field(name, array), Arc::clone(array))).unzip();
        let row = StructArray::new(Fields::from(fields), arrays, Some(nulls));
        columns.push(("ltz", Arc::new(micros.with_timezone("UTC"))));
        columns.push(("list", Arc::new(list)));
        columns.push(("map", Arc::new(map)));
        columns.push(("row", Arc::new(row)));
        // What stands in rows that are NULL is not compared: NULL has no values.
        batch_of(
            columns
                .into_iter()
                .map(|(name, array)| (name, arrow::compute::take(&array, &all(&array), None).unwrap()))
                .collect(),
        )
    })
}

fn all(array: &ArrayRef) -> Int32Array {
    (0..i32::try_from(array.len()).unwrap()).collect::<Vec<_>>().into()
}

fn upsert_table(value_has_key: bool) -> TableFormats {
    let schema = schema_of(vec![
        Field::new("k_id", DataType::Int32, false),
        Field::new("name", DataType::Utf8, true),
        Field::new("n", DataType::Int32, true),
    ]);
    let key = KeyFormat { format: options_of("json"), columns: vec![0], prefix: "k_".to_owned() };
    TableFormats { key: Some(key), value_has_key, is_upsert: true, ..table(schema, options_of("json")) }
}

#[test]
fn messages_of_keys_are_changes_of_rows() {
    for value_has_key in [false, true] {
        let messages = [
            keyed(Some(r#"{"id":1}"#), Some(r#"{"k_id":1,"name":"a","n":1}"#)),
            keyed(Some(r#"{"id":2}"#), None),
            keyed(None, Some(r#"{"k_id":3}"#)),
            keyed(Some("no"), None),
            keyed(Some(r#"{"id":4}"#), Some(r#"{"k_id":4,"n":"x"}"#)),
            keyed(Some(r#"{"id":5}"#), Some(r#"{"k_id":5}"#)),
        ];
        let decoded = decoder(&upsert_table(value_has_key)).unwrap().decode(&messages).unwrap();
        assert_eq!(decoded.kinds.unwrap(), [RowKind::UpdateAfter, RowKind::Delete, RowKind::UpdateAfter]);
        assert_eq!(decoded.batch.column(0).as_primitive::<Int32Type>().values(), &[1, 2, 5]);
        assert_eq!(decoded.batch.column(1).as_string::<i32>().iter().collect::<Vec<_>>(), [Some("a"), None, None]);
        assert_eq!(decoded.sources, [0, 1, 5]);
        let reasons: Vec<_> =
            decoded.poisoned.iter().map(|poisoned| (poisoned.index, poisoned.reason.as_str())).collect();
        assert_eq!(reasons.iter().map(|(index, _)| *index).collect::<Vec<_>>(), [2, 3, 4]);
        assert!(reasons[0].1.starts_with("the key: there is none"), "{reasons:?}");
        assert!(reasons[2].1.starts_with("the value: field `n`"), "{reasons:?}");
    }
}

#[test]
fn changes_of_rows_are_messages_of_keys() {
    let table = upsert_table(false);
    let batch = RecordBatch::try_new(
        Arc::clone(&table.schema),
        vec![
            Arc::new(Int32Array::from(vec![1, 1, 2, 3])),
            Arc::new(StringArray::from(vec!["a", "b", "c", "d"])),
            Arc::new(Int32Array::from(vec![None, Some(2), Some(3), Some(4)])),
        ],
    );
    use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
    let kinds = [UpdateBefore, UpdateAfter, Delete, Insert];
    let messages = encoder(&table).unwrap().encode(&batch.unwrap(), Some(&kinds)).unwrap();
    let text = |bytes: &Option<Bytes>| bytes.as_ref().map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    let messages: Vec<_> =
        messages.iter().map(|message| (message.row, text(&message.key).unwrap(), text(&message.value))).collect();
    let expected = [
        (1, r#"{"id":1}"#, Some(r#"{"name":"b","n":2}"#)),
        (2, r#"{"id":2}"#, None),
        (3, r#"{"id":3}"#, Some(r#"{"name":"d","n":4}"#)),
    ];
    assert_eq!(messages, expected.map(|(row, key, value)| (row, key.to_owned(), value.map(str::to_owned))));
}

#[test]
fn a_key_is_beside_the_value_where_nothing_is_upserted() {
    let mut of_table = upsert_table(false);
    of_table.is_upsert = false;
    let messages = [
        keyed(Some(r#"{"id":1}"#), Some(r#"[{"name":"a"},{"name":"b"}]"#)),
        keyed(None, Some(r#"{"name":"c"}"#)),
        keyed(Some(r#"{"id":2}"#), None),
    ];
    let decoded = decoder(&of_table).unwrap().decode(&messages).unwrap();
    assert_eq!(decoded.kinds, None);
    assert_eq!(decoded.batch.column(0).as_primitive::<Int32Type>().values(), &[1, 1]);
    assert_eq!(decoded.sources, [0, 0]);
    assert_eq!(decoded.poisoned[0].index, 1);
    assert!(decoded.poisoned[0].reason.contains("field `id`: it is NOT NULL"), "{:?}", decoded.poisoned);
}

#[test]
fn formats_of_inserts_refuse_other_rows() {
    let schema = schema_of(vec![Field::new("v", DataType::Int32, true)]);
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Int32Array::from(vec![1]))]).unwrap();
    for format in ["json", "csv", "raw", "avro"] {
        let mut encoder = encoder(&table(Arc::clone(&schema), options_of(format))).unwrap();
        let error = encoder.encode(&batch, Some(&[RowKind::Delete])).unwrap_err();
        assert_eq!(error.kind(), tereza_runtime::ErrorKind::Unsupported);
        assert!(error.to_string().contains("a row that is -D"), "{error}");
        assert_eq!(encoder.encode(&batch, Some(&[RowKind::Insert])).unwrap().len(), 1);
    }
}

#[test]
fn what_a_table_cannot_have_is_refused() {
    let schema = || schema_of(vec![Field::new("v", DataType::Int32, true)]);
    let error = |table: TableFormats| decoder(&table).err().unwrap().to_string();
    assert!(error(table(schema(), options_of("jsn"))).contains("did you mean `json`"));
    assert!(error(table(schema(), options_of("thrift"))).contains("format `thrift`"));
    let upsert = TableFormats { is_upsert: true, ..table(schema(), options_of("json")) };
    assert!(error(upsert).contains("needs a primary key"));
    let changes = TableFormats { value: options_of("debezium-json"), ..upsert_table(false) };
    assert!(error(changes).contains("format `debezium-json` with upsert-kafka"));
    let mut prefix = upsert_table(false);
    prefix.key.as_mut().unwrap().prefix = "x_".to_owned();
    assert!(error(prefix).contains("does not begin with `x_`"));
    let interval = schema_of(vec![Field::new("v", DataType::UInt8, true)]);
    assert!(error(table(interval, options_of("json"))).contains("column `v`: messages with columns of type UInt8"));
}

#[test]
fn policies_are_those_of_the_format() {
    let schema = schema_of(vec![Field::new("v", DataType::Int32, true)]);
    for (ignores, policy) in [("true", OnPoison::Skip), ("false", OnPoison::Fail)] {
        let options = options_of("json").with("ignore-parse-errors", ignores);
        let decoded = decoder(&table(Arc::clone(&schema), options)).unwrap().decode(&[message(Some(b"{"))]).unwrap();
        assert_eq!(decoded.poisoned[0].policy, policy);
    }
}

#[test]
fn options_do_not_show_passwords() {
    let options = options_of("avro-confluent").with("basic-auth.user-info", "user:secret");
    let shown = format!("{options:?}");
    assert!(shown.contains("basic-auth.user-info") && !shown.contains("secret"), "{shown}");
}

#[test]
fn columns_that_nobody_wants_are_passed_over() {
    let (a, c): (ArrayRef, ArrayRef) =
        (Arc::new(Int32Array::from(vec![1, 2])), Arc::new(Int32Array::from(vec![Some(3), None])));
    let b: ArrayRef = Arc::new(StringArray::from(vec!["x", "y"]));
    let batch = RecordBatch::try_from_iter_with_nullable([("a", a, true), ("b", b, true), ("c", c, true)]).unwrap();
    for format in ["json", "csv", "avro", "debezium-json"] {
        // Without it NULL is an empty text in CSV, which is no number.
        let options = options_of(format);
        let options = if format == "csv" { options.with("null-literal", "-") } else { options };
        let table = table(batch.schema(), options);
        let encoded = encoder(&table).unwrap().encode(&batch, None).unwrap();
        let messages: Vec<Message> = encoded.iter().map(|encoded| message(encoded.value.as_deref())).collect();
        for wanted in [vec![], vec![2], vec![1], vec![0, 2]] {
            let mut decoder = decoder_of(&table, &wanted.iter().copied().collect()).unwrap();
            let decoded = decoder.decode(&messages).unwrap();
            assert_eq!((decoded.poisoned.as_slice(), decoded.batch.num_rows()), ([].as_slice(), 2), "{format}");
            assert_eq!(decoded.batch.schema(), decoder.schema());
            for place in 0..3 {
                let found = decoded.batch.column(place);
                match wanted.contains(&place) {
                    true => assert_eq!(found, batch.column(place), "{format} {wanted:?}"),
                    false => assert!(found.data_type().is_null(), "{format} {wanted:?}"),
                }
            }
        }
    }
}

#[test]
fn a_bad_value_that_nobody_wants_is_no_reason() {
    let fields = ["a", "b"].map(|name| Field::new(name, DataType::Int32, true));
    let schema = schema_of(fields.into());
    for (format, bytes) in [("json", r#"{"a":"x","b":1}"#), ("csv", "x,1")] {
        let table = table(Arc::clone(&schema), options_of(format));
        let read = |wanted: usize| {
            let mut decoder = decoder_of(&table, &[wanted].into()).unwrap();
            decoder.decode(&[message(Some(bytes.as_bytes()))]).unwrap()
        };
        assert_eq!(read(0).poisoned.len(), 1, "{format}");
        let decoded = read(1);
        assert_eq!(decoded.poisoned, [], "{format}");
        assert_eq!(decoded.batch.column(1).as_primitive::<Int32Type>().values(), &[1]);
    }
}

#[test]
fn which_row_is_meant_is_read_in_any_case() {
    let table = upsert_table(true);
    let key = table.key.as_ref().unwrap().columns.clone();
    let mut decoder = decoder_of(&table, &[].into()).unwrap();
    for (place, field) in decoder.schema().fields().iter().enumerate() {
        assert_eq!(!field.data_type().is_null(), key.contains(&place), "{field}");
    }
    let decoded = decoder.decode(&[keyed(None, None)]).unwrap();
    assert_eq!(decoded.poisoned.len(), 1, "a tombstone without a key");
}
