use std::sync::{Arc, Mutex};

use arrow::array::{Array, ArrayRef, Int32Array, ListBuilder, StringArray, StringBuilder, StructArray};
use arrow::datatypes::{DataType, Field, TimeUnit};
use arrow::util::display::{ArrayFormatter, FormatOptions as Display};
use axum::Router;
use axum::extract::{Path, State};
use axum::routing::{get, post};
use base64::Engine as _;

use super::super::tests::{message, schema_of, table};
use super::super::{Decoded, decoder, encoder};
use super::*;

const ORDER: &str = r#"
syntax = "proto3";
package shop;
option java_package = "com.shop";
import "google/protobuf/timestamp.proto";

message Order {
  enum State { UNKNOWN = 0; PAID = 1; SENT = -3; }
  message Line { string name = 1; optional int32 count = 2; }
  int32 i32 = 1; int64 i64 = 2; uint32 u32 = 3; uint64 u64 = 4; sint32 s32 = 5; sint64 s64 = 6;
  fixed32 f32 = 7; fixed64 f64 = 8; sfixed32 sf32 = 9; sfixed64 sf64 = 10;
  float fl = 11; double db = 12; bool b = 13; string s = 14; bytes by = 15;
  optional int32 oi = 16; State state = 17; State state_number = 18; Line line = 19;
  repeated int32 numbers = 20; repeated string names = 21; repeated Line lines = 22;
  map<string, int64> map = 23; map<int32, Line> rows = 24;
  google.protobuf.Timestamp at = 25;
  oneof choice { string left = 26; int32 right = 27; }
}
"#;

/// A message of `ORDER` with a value in each field but `left`, as protobuf 7.36.2 of Python writes it.
const FULL: &str = "08fbffffffffffffffff01108080808080808080800118818080800820ffffffffffffffff7f288b0130ffffffffff3f3d070000004\
    100000000000100004df7ffffff51f6ffffffffffffff5d0000c03f6100000000000002c0680172056772c3bc6e7a0200ff8001008801019001fdffffffff\
    ffffffff019a01050a01611000a2010e0001ffffffffffffffffff01ac02aa0100aa010178b20100b201050a01621002ba01050a016b1000c201070807120\
    30a0163ca011008ffffffffffffffffff011080e59a77d80100";

/// Columns with what is in them for `FULL`, for a message without fields, and for that with default values.
const COLUMNS: [(&str, [&str; 3]); 27] = [
    ("i32", ["-5", "0", "0"]),
    ("i64", ["-9223372036854775808", "0", "0"]),
    ("u32", ["2147483649", "0", "0"]),
    ("u64", ["9223372036854775807", "0", "0"]),
    ("s32", ["-70", "0", "0"]),
    ("s64", ["-1099511627776", "0", "0"]),
    ("f32", ["7", "0", "0"]),
    ("f64", ["1099511627776", "0", "0"]),
    ("sf32", ["-9", "0", "0"]),
    ("sf64", ["-10", "0", "0"]),
    ("fl", ["1.5", "0.0", "0.0"]),
    ("db", ["-2.25", "0.0", "0.0"]),
    ("b", ["true", "false", "false"]),
    ("s", ["grün", "", ""]),
    ("by", ["00ff", "", ""]),
    ("oi", ["0", "NULL", "0"]),
    ("state", ["PAID", "UNKNOWN", "UNKNOWN"]),
    ("state_number", ["-3", "0", "0"]),
    ("line", ["{name: a, count: 0}", "NULL", "{name: , count: 0}"]),
    ("numbers", ["[0, 1, -1, 300]", "NULL", "[]"]),
    ("names", ["[, x]", "NULL", "[]"]),
    ("lines", ["[{name: , count: NULL}, {name: b, count: 2}]", "NULL", "[]"]),
    ("map", ["{k: 0}", "NULL", "{}"]),
    ("rows", ["{7: {name: c, count: NULL}}", "NULL", "{}"]),
    ("at", ["1969-12-31T23:59:59.250", "NULL", "1970-01-01T00:00:00"]),
    ("left", ["NULL", "NULL", ""]),
    ("right", ["0", "NULL", "0"]),
];

fn line() -> DataType {
    DataType::Struct(vec![Field::new("name", DataType::Utf8, true), Field::new("count", DataType::Int32, true)].into())
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

fn map(key: DataType, value: DataType) -> DataType {
    let pair = vec![Field::new("key", key, false), Field::new("value", value, true)];
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair.into()), false)), false)
}

fn type_of(name: &str) -> DataType {
    match name {
        "i64" | "u32" | "u64" | "s64" | "f64" | "sf64" => DataType::Int64,
        "fl" => DataType::Float32,
        "db" => DataType::Float64,
        "b" => DataType::Boolean,
        "s" | "state" | "left" => DataType::Utf8,
        "by" => DataType::Binary,
        "line" => line(),
        "numbers" => list(DataType::Int32),
        "names" => list(DataType::Utf8),
        "lines" => list(line()),
        "map" => map(DataType::Utf8, DataType::Int64),
        "rows" => map(DataType::Int32, line()),
        "at" => DataType::Timestamp(TimeUnit::Millisecond, None),
        _ => DataType::Int32,
    }
}

fn options(schema: &str, name: &str) -> FormatOptions {
    FormatOptions::new("protobuf").with(SCHEMA, schema).with(MESSAGE, name)
}

fn orders() -> Arc<Schema> {
    schema_of(COLUMNS.iter().map(|(name, _)| Field::new(*name, type_of(name), true)).collect())
}

fn read(schema: &Arc<Schema>, options: &FormatOptions, bytes: &[u8]) -> Decoded {
    decoder(&table(Arc::clone(schema), options.clone())).unwrap().decode(&[message(Some(bytes))]).unwrap()
}

fn written(options: &FormatOptions, batch: &RecordBatch) -> Vec<u8> {
    let mut encoder = encoder(&table(batch.schema(), options.clone())).unwrap();
    encoder.encode(batch, None).unwrap()[0].value.as_ref().unwrap().to_vec()
}

fn shown(batch: &RecordBatch) -> Vec<String> {
    let display = Display::new().with_null("NULL");
    batch
        .columns()
        .iter()
        .map(|column| ArrayFormatter::try_new(column, &display).unwrap().value(0).to_string())
        .collect()
}

fn bytes_of(hex: &str) -> Vec<u8> {
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn messages_are_read_and_written_as_others_do() {
    let plain = options(ORDER, "shop.Order");
    let defaults = plain.clone().with(DEFAULTS, "true");
    for (at, (options, bytes)) in
        [(&plain, bytes_of(FULL)), (&plain, Vec::new()), (&defaults, Vec::new())].into_iter().enumerate()
    {
        let decoded = read(&orders(), options, &bytes);
        assert_eq!(decoded.poisoned, []);
        for ((name, expected), found) in COLUMNS.iter().zip(shown(&decoded.batch)) {
            assert_eq!(found, expected[at], "{name}");
        }
        if options == &plain {
            assert_eq!(written(options, &decoded.batch), bytes);
        }
    }
}

#[test]
fn messages_have_several_names_and_schemas_several_forms() {
    let pool = schema::pool(ORDER).unwrap();
    let packed = base64::engine::general_purpose::STANDARD.encode(pool.encode_to_vec());
    for schema in [ORDER, packed.as_str()] {
        for name in ["shop.Order", "com.shop.Order", "com.shop.OrderOuterClass$Order"] {
            let decoded = read(&orders(), &options(schema, name), &bytes_of(FULL));
            assert_eq!(shown(&decoded.batch)[0], "-5", "{name}");
        }
    }
    let names = schema_of(vec![Field::new("name", DataType::Utf8, true)]);
    for name in ["shop.Order.Line", "com.shop.Order$Line", "com.shop.Outer$Order$Line"] {
        assert_eq!(shown(&read(&names, &options(ORDER, name), &[10, 1, 97]).batch), ["a"], "{name}");
    }
}

#[test]
fn proto2_says_what_is_required_and_what_is_the_default() {
    let text = "message M { required int32 a = 1; optional int32 b = 2 [default = 10]; repeated int32 c = 3; }";
    let plain = options(text, "M");
    let fields = [("a", DataType::Int32), ("b", DataType::Int32), ("c", list(DataType::Int32))];
    let schema = schema_of(fields.map(|(name, of)| Field::new(name, of, true)).into());
    assert_eq!(shown(&read(&schema, &plain, &[8, 1]).batch), ["1", "NULL", "NULL"]);
    assert_eq!(shown(&read(&schema, &plain.clone().with(DEFAULTS, "true"), &[8, 1]).batch), ["1", "10", "[]"]);
    let bytes = [8, 0, 24, 1, 24, 2];
    let decoded = read(&schema, &plain, &bytes);
    assert_eq!(written(&plain, &decoded.batch), bytes);
    assert!(read(&schema, &plain, &[16, 1]).poisoned[0].reason.contains("`a` is required"));
    let columns = schema.fields().iter().map(|field| arrow::array::new_null_array(field.data_type(), 1)).collect();
    let nulls = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();
    let error = encoder(&table(schema, plain)).unwrap().encode(&nulls, None).unwrap_err();
    assert!(error.to_string().contains("`a` is required"), "{error}");
}

#[test]
fn null_in_lists_is_what_the_options_say() {
    let mut names = ListBuilder::new(StringBuilder::new());
    names.values().append_null();
    names.values().append_value("x");
    names.append(true);
    let names: ArrayRef = Arc::new(names.finish());
    let batch = RecordBatch::try_from_iter_with_nullable([("names", names, true)]).unwrap();
    let plain = options(ORDER, "shop.Order");
    assert_eq!(written(&plain, &batch), bytes_of("aa0100aa010178"));
    assert_eq!(written(&plain.with(NULL_LITERAL, "n/a"), &batch), bytes_of("aa01036e2f61aa010178"));
}

#[test]
fn of_alternatives_the_last_one_is_written() {
    let left: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let right: ArrayRef = Arc::new(Int32Array::from(vec![Some(5)]));
    let none: ArrayRef = Arc::new(Int32Array::from(vec![None::<i32>]));
    let plain = options(ORDER, "shop.Order");
    let batch = |right: ArrayRef| {
        RecordBatch::try_from_iter_with_nullable([("left", Arc::clone(&left), true), ("right", right, true)]).unwrap()
    };
    assert_eq!(written(&plain, &batch(right)), bytes_of("d80105"));
    assert_eq!(written(&plain, &batch(none)), bytes_of("d2010178"));
}

#[test]
fn what_cannot_be_is_refused() {
    let error = |schema: &str, name: &str, column: &str, of: DataType| {
        let table = table(schema_of(vec![Field::new(column, of, true)]), options(schema, name));
        format!("{:?}", decoder(&table).err().unwrap())
    };
    assert!(error(ORDER, "shop.Ordre", "s", DataType::Utf8).contains("did you mean `shop.Order`"));
    assert!(error(ORDER, "shop.Order", "nothing", DataType::Utf8).contains("no field `nothing`"));
    assert!(error(ORDER, "shop.Order", "s", DataType::Int32).contains("field `s`: a value of the type string"));
    assert!(error(ORDER, "shop.Order", "map", DataType::Int32).contains("a map is no"));
    assert!(error("message M { what a = 1; }", "M", "a", DataType::Int32).contains("protobuf.schema"));
    let deep = format!("{}{}", "message M {".repeat(NESTED), "}".repeat(NESTED));
    assert!(error(&deep, "M", "a", DataType::Int32).contains("nested more than"));
    let missing = decoder(&table(orders(), FormatOptions::new("protobuf"))).err().unwrap();
    assert!(missing.to_string().contains("needs the option `protobuf.message-class-name`"), "{missing}");

    let small = schema_of(vec![Field::new("u64", DataType::Int8, true)]);
    let options = options(ORDER, "shop.Order");
    let bad = |bytes: &[u8]| read(&small, &options, bytes).poisoned[0].reason.clone();
    assert!(bad(&[0x20, 0x80, 0x08]).contains("field `u64`: 1024 is out of the range"));
    assert!(bad(&[0x20]).contains("it is no message shop.Order"));
}

/// Brackets that are too deep.
const NESTED: usize = 100;

/// A registry: schemas by their ids, the first is 1.
type Schemas = Arc<Mutex<Vec<serde_json::Value>>>;

async fn by_id(State(schemas): State<Schemas>, Path(id): Path<usize>) -> String {
    schemas.lock().unwrap()[id - 1].to_string()
}

async fn by_version(State(schemas): State<Schemas>, Path((subject, version)): Path<(String, usize)>) -> String {
    assert_eq!(subject, "other");
    schemas.lock().unwrap()[version - 1].to_string()
}

async fn register(State(schemas): State<Schemas>, Path(subject): Path<String>, body: String) -> String {
    assert_eq!(subject, "t-value");
    let mut schemas = schemas.lock().unwrap();
    schemas.push(serde_json::from_str(&body).unwrap());
    format!("{{\"id\":{}}}", schemas.len())
}

async fn start() -> (Schemas, FormatOptions) {
    let schemas = Schemas::default();
    let app = Router::new()
        .route("/schemas/ids/{id}", get(by_id))
        .route("/subjects/{subject}/versions/{version}", get(by_version))
        .route("/subjects/{subject}/versions", post(register))
        .with_state(Arc::clone(&schemas));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });
    (schemas, FormatOptions::new(CONFLUENT).with("url", url))
}

#[tokio::test]
async fn what_is_written_names_a_schema_that_it_is_read_by() {
    let (schemas, options) = start().await;
    let inner: ArrayRef = Arc::new(Int32Array::from(vec![Some(1), None, None]));
    let row: ArrayRef = Arc::new(StructArray::from(vec![(Arc::new(Field::new("x", DataType::Int32, true)), inner)]));
    let id: ArrayRef = Arc::new(Int32Array::from(vec![0, -1, 2]));
    let name: ArrayRef = Arc::new(StringArray::from(vec![Some(""), None, Some("a")]));
    let at = arrow::array::TimestampMillisecondArray::from(vec![Some(0), Some(-1), None]);
    let at: ArrayRef = Arc::new(at.with_timezone("+00:00"));
    let fields = [("id", &id, false), ("name", &name, true), ("r", &row, true), ("at", &at, true)];
    let schema =
        schema_of(fields.iter().map(|(name, of, null)| Field::new(*name, of.data_type().clone(), *null)).collect());
    let columns = fields.iter().map(|(_, column, _)| Arc::clone(column)).collect();
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns).unwrap();

    let table = table(schema, options);
    let mut encoder = encoder(&table).unwrap();
    encoder.prepare().await.unwrap();
    let encoded = encoder.encode(&batch, None).unwrap();
    let expected = "syntax = \"proto3\";\n\nimport \"google/protobuf/timestamp.proto\";\n\nmessage Row {\n  int32 id = 1;\n  \
         optional string name = 2;\n  message r_row {\n    optional int32 x = 1;\n  }\n  optional r_row r = 3;\n  \
         optional google.protobuf.Timestamp at = 4;\n}\n";
    assert_eq!(*schemas.lock().unwrap(), [serde_json::json!({"schema": expected, "schemaType": "PROTOBUF"})]);
    // Magic, id, the first message; the row has no bytes for `id`, which is 0.
    let first = encoded[0].value.as_ref().unwrap();
    assert_eq!(first[..], [0, 0, 0, 0, 1, 0, 0x12, 0, 0x1a, 2, 8, 1, 0x22, 0]);

    let messages: Vec<_> = encoded.iter().map(|encoded| message(encoded.value.as_deref())).collect();
    let mut decoder = decoder(&table).unwrap();
    decoder.prepare(&messages).await.unwrap();
    let decoded = decoder.decode(&messages).unwrap();
    assert_eq!(decoded.poisoned, []);
    assert_eq!(decoded.batch, batch);
}

#[tokio::test]
async fn messages_of_others_are_found_where_they_say() {
    let (schemas, options) = start().await;
    let text = r#"syntax = "proto3"; import "other.proto"; message A { map<string, int32> m = 1; }
        message B { message C { other.D d = 2; } }"#;
    let references = serde_json::json!([{"name": "other.proto", "subject": "other", "version": 2}]);
    schemas.lock().unwrap().extend([
        serde_json::json!({"schema": text, "schemaType": "PROTOBUF", "references": references}),
        serde_json::json!({"schema": "syntax = \"proto3\"; package other; message D { int32 x = 1; }", "schemaType": "PROTOBUF"}),
        serde_json::json!({"schema": "\"int\""}),
    ]);
    let d =
        DataType::Struct(vec![Field::new("x", DataType::Int32, true), Field::new("new", DataType::Int32, true)].into());
    let table = table(schema_of(vec![Field::new("d", d, true)]), options);
    let mut decoder = decoder(&table).unwrap();
    let messages: [&[u8]; 6] = [
        &[0, 0, 0, 0, 1, 4, 2, 0, 0x12, 2, 8, 5],
        &[0, 0, 0, 0, 1, 0],
        &[0, 0, 0, 0, 1, 2, 8],
        &[0, 0, 0, 0, 3, 0],
        &[0, 0, 0, 0, 1, 1],
        &[8, 5],
    ];
    let messages = messages.map(|bytes| message(Some(bytes)));
    decoder.prepare(&messages).await.unwrap();
    let decoded = decoder.decode(&messages).unwrap();
    assert_eq!(shown(&decoded.batch), ["{x: 5, new: NULL}"]);
    assert_eq!(decoded.sources, [0, 1]);
    let reasons: Vec<&str> = decoded.poisoned.iter().map(|poisoned| poisoned.reason.as_str()).collect();
    for (reason, part) in
        reasons.iter().zip(["no such message", "of AVRO, not of Protobuf", "which message", "zero byte"])
    {
        assert!(reason.contains(part), "{reason}");
    }
    assert_eq!(reasons.len(), 4);
}
