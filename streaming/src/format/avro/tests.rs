use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, TimeUnit};
use proptest::prelude::*;

use super::super::column::Rows;
use super::super::tests::{any_batch, message, roundtrip, schema_of, simple_batch, table};
use super::super::{FormatOptions, decoder, encoder};
use super::read::Resolved;
use super::schema::{Schema, Timestamps, of_table};

fn avro() -> FormatOptions {
    FormatOptions::new("avro")
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

fn map(value: DataType) -> DataType {
    let pair = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair), false)), false)
}

/// The columns that Flink was run with.
fn columns() -> Vec<Field> {
    let ms = TimeUnit::Millisecond;
    let inner = DataType::Struct(Fields::from(vec![Field::new("z", DataType::Utf8, true)]));
    let row = vec![Field::new("x", DataType::Int32, true), Field::new("y", list(inner), true)];
    let types = [
        ("bool", DataType::Boolean),
        ("i8", DataType::Int8),
        ("i16", DataType::Int16),
        ("i32", DataType::Int32),
        ("i64", DataType::Int64),
        ("f32", DataType::Float32),
        ("f64", DataType::Float64),
        ("dec", DataType::Decimal128(10, 2)),
        ("text", DataType::Utf8),
        ("bytes", DataType::Binary),
        ("date", DataType::Date32),
        ("time", DataType::Time32(ms)),
        ("ts", DataType::Timestamp(ms, None)),
        ("list", list(DataType::Int32)),
        ("map", map(DataType::Int64)),
        ("row", DataType::Struct(Fields::from(row))),
    ];
    types.into_iter().map(|(name, data_type)| Field::new(name, data_type, name != "i64")).collect()
}

/// What Flink 2.3.0 makes of the columns.
const SCHEMA: &str = r#"{"type":"record","name":"record","namespace":"org.apache.flink.avro.generated","fields":[{"name":"bool","type":["null","boolean"],"default":null},{"name":"i8","type":["null","int"],"default":null},{"name":"i16","type":["null","int"],"default":null},{"name":"i32","type":["null","int"],"default":null},{"name":"i64","type":"long"},{"name":"f32","type":["null","float"],"default":null},{"name":"f64","type":["null","double"],"default":null},{"name":"dec","type":["null",{"type":"bytes","logicalType":"decimal","precision":10,"scale":2}],"default":null},{"name":"text","type":["null","string"],"default":null},{"name":"bytes","type":["null","bytes"],"default":null},{"name":"date","type":["null",{"type":"int","logicalType":"date"}],"default":null},{"name":"time","type":["null",{"type":"int","logicalType":"time-millis"}],"default":null},{"name":"ts","type":["null",{"type":"long","logicalType":"timestamp-millis"}],"default":null},{"name":"list","type":["null",{"type":"array","items":["null","int"]}],"default":null},{"name":"map","type":["null",{"type":"map","values":["null","long"]}],"default":null},{"name":"row","type":["null",{"type":"record","name":"record_row","fields":[{"name":"x","type":["null","int"],"default":null},{"name":"y","type":["null",{"type":"array","items":["null",{"type":"record","name":"record_row_y","fields":[{"name":"z","type":["null","string"],"default":null}]}]}],"default":null}]}],"default":null}]}"#;

/// What Flink 2.3.0 makes of [`ROW`] and of a row of NULLs and a zero.
const BYTES: &str = "0201020502d80402dfc508808080808040020000c03f0200000000000004c00202800204c3a9020400ff02ac9d0202f2c00102f6a1b7e6eb5b02060202000206000202026b020d00020002020202027a00";
const NULLS: &str = "00000000000000000000000000000000";

const ROW: &str = r#"{"bool":true,"i8":-3,"i16":300,"i32":-70000,"i64":1099511627776,"f32":1.5,"f64":-2.5,"dec":-1.28,"text":"é","bytes":"AP8=","date":"2020-01-01","time":"00:00:12.345","ts":"2020-01-01 00:00:00.123","list":[1,null,3],"map":{"k":-7},"row":{"x":null,"y":[{"z":"z"}]}}"#;

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

#[test]
fn schemas_are_those_of_flink() {
    let made = of_table(&Fields::from(columns()), Timestamps::Legacy).unwrap();
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(json(&made), json(SCHEMA));
    let timestamp =
        |name: &str, unit, zone: Option<&str>| Field::new(name, DataType::Timestamp(unit, zone.map(Into::into)), true);
    let timestamps = Fields::from(vec![
        timestamp("ts3", TimeUnit::Millisecond, None),
        timestamp("ts6", TimeUnit::Microsecond, None),
        timestamp("l3", TimeUnit::Millisecond, Some("UTC")),
        timestamp("l6", TimeUnit::Microsecond, Some("UTC")),
    ]);
    let exact = json(&of_table(&timestamps, Timestamps::Exact).unwrap());
    let logical: Vec<_> = (0..4).map(|at| exact["fields"][at]["type"][1]["logicalType"].as_str().unwrap()).collect();
    assert_eq!(logical, ["local-timestamp-millis", "local-timestamp-micros", "timestamp-millis", "timestamp-micros"]);
    let refused = of_table(&timestamps, Timestamps::Legacy).unwrap_err();
    assert!(refused.to_string().contains("column `ts6`"), "{refused}");
}

#[test]
fn bytes_are_those_of_flink() {
    let schema = schema_of(columns());
    let mut of_json = decoder(&table(Arc::clone(&schema), FormatOptions::new("json"))).unwrap();
    let row = of_json.decode(&[message(Some(ROW.as_bytes())), message(Some(br#"{"i64":0}"#))]).unwrap();
    assert_eq!(row.poisoned, []);
    let encoded = encoder(&table(Arc::clone(&schema), avro())).unwrap().encode(&row.batch, None).unwrap();
    let values: Vec<Vec<u8>> = encoded.iter().map(|encoded| encoded.value.as_ref().unwrap().to_vec()).collect();
    assert_eq!(values, [hex(BYTES), hex(NULLS)]);
    let messages: Vec<_> = values.iter().map(|value| message(Some(value))).collect();
    let decoded = decoder(&table(schema, avro())).unwrap().decode(&messages).unwrap();
    assert_eq!(decoded.poisoned, []);
    assert_eq!(decoded.batch, row.batch);
}

#[test]
fn decimals_have_as_few_bytes_as_in_java() {
    use arrow::array::Decimal128Array;
    let cases =
        [(0, "0200"), (127, "027f"), (128, "040080"), (-129, "04ff7f"), (9_999_999_999, "0a02540be3ff"), (-1, "02ff")];
    for (digits, expected) in cases {
        let decimals = Decimal128Array::from(vec![digits]).with_precision_and_scale(10, 2).unwrap();
        let schema = schema_of(vec![Field::new("d", DataType::Decimal128(10, 2), false)]);
        let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(decimals) as ArrayRef]).unwrap();
        let encoded = encoder(&table(schema, avro())).unwrap().encode(&batch, None).unwrap();
        assert_eq!(encoded[0].value.as_ref().unwrap().to_vec(), hex(expected), "{digits}");
    }
}

/// Reads one record of a writer into columns.
fn resolve(writer: &str, fields: Vec<Field>, bytes: &[u8]) -> Result<RecordBatch, String> {
    let resolved = Resolved::new(Schema::parse(writer)?, &Fields::from(fields.clone()))?;
    let schema = schema_of(fields);
    let mut rows = Rows::new(&schema).unwrap();
    let (_, columns) = rows.fields();
    resolved.read(bytes, columns)?;
    rows.end_row();
    Ok(RecordBatch::try_new(schema, rows.finish_columns().unwrap()).unwrap())
}

#[test]
fn records_of_other_schemas_are_read_by_names() {
    let writer = r#"{"type":"record","name":"old","namespace":"n","fields":[
        {"name":"gone","type":{"type":"record","name":"node","fields":[
            {"name":"next","type":["null","node"]},{"name":"data","type":{"type":"map","values":"bytes"}},
            {"name":"kind","type":{"type":"enum","name":"k","symbols":["A","B"]}},{"name":"fix","type":{"type":"fixed","name":"f","size":2}}]}},
        {"name":"n","type":"int"},
        {"name":"kind","type":"n.k"},
        {"name":"amount","type":["null",{"type":"fixed","name":"amount","size":3,"logicalType":"decimal","precision":6,"scale":3}]},
        {"name":"at","type":{"type":"long","logicalType":"timestamp-micros"}},
        {"name":"either","type":["string","long"]}]}"#;
    // gone: next is a node without a next, an empty map, B and two bytes; then {"x": 01}, A and two bytes.
    let mut bytes = hex("02");
    bytes.extend(hex("000002aabb"));
    bytes.extend(hex("02027802010000ccdd"));
    // n = 7, kind = B, amount = 1.235, at = -1 µs, either = "s".
    bytes.extend(hex("0e"));
    bytes.extend(hex("02"));
    bytes.extend(hex("020004d3"));
    bytes.extend(hex("01"));
    bytes.extend(hex("000273"));
    let fields = vec![
        Field::new("n", DataType::Int64, true),
        Field::new("kind", DataType::Utf8, true),
        Field::new("amount", DataType::Decimal128(10, 2), true),
        Field::new("at", DataType::Timestamp(TimeUnit::Millisecond, None), true),
        Field::new("either", DataType::Utf8, true),
        Field::new("new", DataType::Int32, true),
    ];
    let batch = resolve(writer, fields, &bytes).unwrap();
    assert_eq!(batch.column(0).as_primitive::<Int64Type>().value(0), 7);
    assert_eq!(batch.column(1).as_string::<i32>().value(0), "B");
    assert_eq!(batch.column(2).as_primitive::<arrow::datatypes::Decimal128Type>().value(0), 124);
    assert_eq!(batch.column(3).as_primitive::<arrow::datatypes::TimestampMillisecondType>().value(0), -1);
    assert_eq!(batch.column(4).as_string::<i32>().value(0), "s");
    assert!(batch.column(5).as_primitive::<Int32Type>().is_null(0));
}

#[test]
fn what_cannot_be_resolved_says_why() {
    let record = |kind: &str| format!(r#"{{"type":"record","name":"r","fields":[{{"name":"v","type":{kind}}}]}}"#);
    let v = |data_type| vec![Field::new("v", data_type, true)];
    let error = |kind: &str, data_type, bytes: &[u8]| resolve(&record(kind), v(data_type), bytes).unwrap_err();
    assert_eq!(error("\"string\"", DataType::Int32, &[]), "field `v`: an Avro string cannot be read as Int32");
    assert_eq!(
        error("[\"null\",\"string\"]", DataType::Int32, &[]),
        "field `v`: an Avro union cannot be read as Int32"
    );
    assert_eq!(error("[\"int\",\"string\"]", DataType::Int32, &[2]), "an Avro string cannot be read as Int32");
    assert_eq!(error("[\"int\",\"string\"]", DataType::Int32, &[4]), "a union has no such branch");
    assert_eq!(error("\"int\"", DataType::Int8, &hex("8002")), "128 is out of the range of Int8");
    assert_eq!(error("\"int\"", DataType::Int32, &[0xff; 11]), "a number has more than ten bytes");
    assert_eq!(error("\"bytes\"", DataType::Binary, &[1]), "a length is -1");
    assert_eq!(error("\"bytes\"", DataType::Binary, &hex("fe")), "the message ends in a value");
    let missing = resolve(&record("\"int\""), vec![Field::new("w", DataType::Int32, false)], &[2]).unwrap_err();
    assert_eq!(missing, "the Avro schema has no field `w`, which is NOT NULL");
    // An array of 2^60 nulls takes ten bytes.
    let bomb = error("{\"type\":\"array\",\"items\":\"null\"}", list(DataType::Int32), &hex("808080808080808040"));
    assert!(bomb.contains("more than 1048576 elements"), "{bomb}");
    let deep = format!("{}\"int\"{}", "{\"type\":\"array\",\"items\":".repeat(100), "}".repeat(100));
    assert!(error(&deep, DataType::Int32, &[]).contains("nested deeper"));
    assert_eq!(error("\"other\"", DataType::Int32, &[]), "the Avro schema has no type `other`");
    assert!(error("5", DataType::Int32, &[]).contains("neither text, array nor object"));
}

#[test]
fn options_are_checked() {
    let error = |options: FormatOptions| {
        decoder(&table(schema_of(vec![Field::new("v", DataType::Int32, true)]), options)).err().unwrap().to_string()
    };
    assert!(error(avro().with("encoding", "json")).contains("`avro.encoding` with `json`"));
    assert!(error(avro().with("encodings", "json")).contains("did you mean `avro.encoding`"));
}

/// Arrow's own decoder, as a judge.
fn by_arrow(schema: &str, frames: &[Vec<u8>]) -> RecordBatch {
    use arrow_avro::reader::ReaderBuilder;
    use arrow_avro::schema::{AvroSchema, Fingerprint, FingerprintAlgorithm, SchemaStore};
    let mut store = SchemaStore::new_with_type(FingerprintAlgorithm::Id);
    store.set(Fingerprint::Id(7), AvroSchema::new(schema.to_owned())).unwrap();
    let mut decoder =
        ReaderBuilder::new().with_writer_schema_store(store).with_batch_size(frames.len()).build_decoder().unwrap();
    for frame in frames {
        let framed = [&[0, 0, 0, 0, 7], &frame[..]].concat();
        assert_eq!(decoder.decode(&framed).unwrap(), framed.len());
    }
    decoder.flush().unwrap().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_written_is_read_again(batch in any_batch()) {
        roundtrip(&batch, avro().with("timestamp_mapping.legacy", "false"));
    }

    #[test]
    fn arrow_reads_what_is_written(batch in simple_batch()) {
        let schema = of_table(batch.schema().fields(), Timestamps::Legacy).unwrap();
        let encoded = encoder(&table(batch.schema(), avro())).unwrap().encode(&batch, None).unwrap();
        let frames: Vec<Vec<u8>> = encoded.into_iter().map(|encoded| encoded.value.unwrap().to_vec()).collect();
        let judged = by_arrow(&schema, &frames);
        for (field, expected) in batch.schema().fields().iter().zip(batch.columns()) {
            let found = arrow::compute::cast(judged.column_by_name(field.name()).unwrap(), field.data_type()).unwrap();
            prop_assert_eq!(&found, expected, "{}", field.name());
        }
    }

    #[test]
    fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..120), end in 0_usize..80) {
        let mut decoder = decoder(&table(schema_of(columns()), avro())).unwrap();
        let good = hex(BYTES);
        let messages = [&good[..], &bytes[..], &good[..end.min(good.len())], &good[..]].map(|value| message(Some(value)));
        let decoded = decoder.decode(&messages).unwrap();
        prop_assert_eq!(decoded.batch.num_rows() + decoded.poisoned.len(), 4);
        let last = decoded.batch.num_rows() - 1;
        prop_assert_eq!(decoded.batch.slice(0, 1), decoded.batch.slice(last, 1));
    }
}
