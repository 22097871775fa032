use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Int32Type, Int64Type, Schema, TimeUnit};
use proptest::prelude::*;

use super::super::column::Rows;
use super::super::tests::{any_batch, message, options_of, roundtrip, schema_of, table};
use super::super::{FormatOptions, RowReader, decoder};
use super::{JsonOptions, JsonReader};

/// What Flink writes and reads: made by running it, see the head of the file.
const FLINK: &str = include_str!("flink.tsv");

/// Where Tereza differs, and why.
const DIFFERENCES: [(&str, &str, &str); 5] = [
    ("bool", r#"{"v":{}}"#, "an object is no boolean; Flink takes it for false"),
    ("double", r#"{"v":"0x1p3"}"#, "hexadecimal digits are no number of JSON or SQL"),
    ("string", r#"{"v":"\ud800"}"#, "half a pair of surrogates has no UTF-8"),
    ("map", r#"{"v":{"a":1,"a":2}}"#, "a map has each key once"),
    ("top", r#"{"v":1,"v":2}"#, "Flink looks at as many members as there are columns"),
];

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, true)))
}

fn map(value: DataType) -> DataType {
    let pair = Fields::from(vec![Field::new("key", DataType::Utf8, false), Field::new("value", value, true)]);
    DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair), false)), false)
}

fn column_of(name: &str) -> DataType {
    let name = name.split('-').next().unwrap();
    let ms = TimeUnit::Millisecond;
    match name {
        "bool" => DataType::Boolean,
        "tinyint" => DataType::Int8,
        "int" | "top" => DataType::Int32,
        "bigint" => DataType::Int64,
        "double" => DataType::Float64,
        "float" => DataType::Float32,
        "decimal(10,2)" => DataType::Decimal128(10, 2),
        "decimal(38,18)" => DataType::Decimal128(38, 18),
        "string" => DataType::Utf8,
        "bytes" => DataType::Binary,
        "date" => DataType::Date32,
        "time" => DataType::Time32(ms),
        "ts" => DataType::Timestamp(ms, None),
        "ltz" => DataType::Timestamp(ms, Some("UTC".into())),
        "array" => list(DataType::Int32),
        "map" => map(DataType::Int32),
        "row" => DataType::Struct(Fields::from(vec![
            Field::new("a", DataType::Int32, true),
            Field::new("b", DataType::Utf8, true),
        ])),
        other => panic!("no type {other}"),
    }
}

fn written(batch: &RecordBatch, options: FormatOptions) -> Vec<String> {
    let mut encoder = super::super::encoder(&table(batch.schema(), options)).unwrap();
    let messages = encoder.encode(batch, None).unwrap();
    messages.into_iter().map(|message| String::from_utf8(message.value.unwrap().to_vec()).unwrap()).collect()
}

#[test]
fn what_flink_reads_is_read_and_written_as_it_does() {
    let mut checked = 0;
    for line in FLINK.lines().filter(|line| !line.starts_with('#')) {
        let [name, text, expected] = line.split('\t').collect::<Vec<_>>().try_into().unwrap();
        if DIFFERENCES.iter().any(|(of, what, _)| *of == name && *what == text) {
            continue;
        }
        let schema = schema_of(vec![Field::new("v", column_of(name), true)]);
        let mut options = FormatOptions::new("json");
        if name.ends_with("-iso") {
            options = options.with("timestamp-format.standard", "ISO-8601");
        }
        if name.ends_with("-ign") {
            options = options.with("ignore-parse-errors", "true");
        }
        let mut decoder = decoder(&table(schema, options.clone())).unwrap();
        let decoded = decoder.decode(&[message(Some(text.as_bytes()))]).unwrap();
        let found = if decoded.poisoned.is_empty() {
            let rows = written(&decoded.batch, options.clone());
            let plain = written(&decoded.batch, options.with("encode.decimal-as-plain-number", "true"));
            let rows = rows.into_iter().zip(plain).map(|(row, plain)| match name.starts_with("decimal") {
                true => format!("{row} {plain}"),
                false => row,
            });
            rows.collect::<Vec<_>>().join(" ")
        } else if name.ends_with("-ign") {
            "NULLROW".to_owned()
        } else {
            "ERR".to_owned()
        };
        assert_eq!(found, expected, "{name} {text}: {:?}", decoded.poisoned);
        checked += 1;
    }
    assert!(checked > 140, "{checked}");
}

#[test]
fn differences_from_flink_are_as_they_are_said_to_be() {
    let read = |name: &str, text: &str| {
        let schema = schema_of(vec![Field::new("v", column_of(name), true)]);
        let mut decoder = decoder(&table(schema, FormatOptions::new("json"))).unwrap();
        decoder.decode(&[message(Some(text.as_bytes()))]).unwrap()
    };
    for (name, text, _) in &DIFFERENCES[..2] {
        assert_eq!(read(name, text).poisoned.len(), 1, "{text}");
    }
    let half = read("string", r#"{"v":"\ud800x"}"#);
    assert_eq!(half.batch.column(0).as_string::<i32>().value(0), "\u{fffd}x");
    assert!(read("map", r#"{"v":{"a":1,"a":2}}"#).poisoned[0].reason.contains("comes twice"));
    let twice = read("top", r#"{"v":1,"v":2}"#);
    assert_eq!(twice.batch.column(0).as_primitive::<Int32Type>().values(), &[2]);
}

#[test]
fn control_characters_are_let_through() {
    let schema = schema_of(vec![Field::new("v", DataType::Utf8, true)]);
    let mut decoder = decoder(&table(schema, FormatOptions::new("json"))).unwrap();
    let decoded = decoder.decode(&[message(Some(b"{\"v\":\"a\tb\"}"))]).unwrap();
    assert_eq!(decoded.batch.column(0).as_string::<i32>().value(0), "a\tb");
}

#[test]
fn a_bad_message_costs_no_other() {
    let inner = DataType::Struct(Fields::from(vec![Field::new("x", list(DataType::Utf8), true)]));
    let schema = schema_of(vec![
        Field::new("id", DataType::Int64, true),
        Field::new("r", inner, true),
        Field::new("m", map(DataType::Int32), true),
    ]);
    let texts: [&[u8]; 6] = [
        br#"{"id":1,"r":{"x":["a","b"]},"m":{"k":1}}"#,
        br#"{"id":2,"r":{"x":["lost","#,
        br#"{"id":3,"r":{"x":["c"]},"m":{"k":"no"}}"#,
        br#"{"id":4,"m":{"k":4,"l":5},"r":{"x":[]}}"#,
        b"\xff",
        br#"{"id":5}"#,
    ];
    let messages: Vec<_> = texts.iter().map(|text| message(Some(text))).collect();
    let mut decoder = decoder(&table(schema, FormatOptions::new("json"))).unwrap();
    let decoded = decoder.decode(&messages).unwrap();
    assert_eq!(decoded.batch.column(0).as_primitive::<Int64Type>().values(), &[1, 4, 5]);
    assert_eq!(decoded.sources, [0, 3, 5]);
    assert_eq!(decoded.poisoned.iter().map(|poisoned| poisoned.index).collect::<Vec<_>>(), [1, 2, 4]);
    let error = decoded.poisoned[1].to_error(&messages).to_string();
    assert!(error.contains("topic `t`, partition 3, offset 7"), "{error}");
    assert!(error.contains("field `m`: field `k`: `no` is no whole number"), "{error}");
    let rows: &StructArray = decoded.batch.column(1).as_struct();
    let lists = rows.column(0).as_list::<i32>();
    assert_eq!((lists.value_length(0), lists.value_length(1)), (2, 0));
    assert!(rows.is_null(2));
    // The next batch begins without anything of this one.
    assert_eq!(decoder.decode(&messages[..1]).unwrap().batch.num_rows(), 1);
}

#[test]
fn missing_fields_fail_if_they_are_asked_to() {
    let fields = vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Int32, false)];
    let read = |options: FormatOptions, text: &str| {
        let mut decoder = decoder(&table(schema_of(fields.clone()), options)).unwrap();
        decoder
            .decode(&[message(Some(text.as_bytes()))])
            .unwrap()
            .poisoned
            .into_iter()
            .map(|poisoned| poisoned.reason)
            .next()
    };
    let json = || FormatOptions::new("json");
    assert_eq!(read(json(), r#"{"b":1}"#), None);
    assert!(read(json(), r#"{"a":1}"#).unwrap().contains("field `b`: it is NOT NULL"));
    let strict = json().with("fail-on-missing-field", "true");
    assert!(read(strict, r#"{"b":1}"#).unwrap().contains("field `a` is missing"));
}

#[test]
fn options_are_checked() {
    let new = |options: FormatOptions| JsonOptions::new(&options).unwrap_err().to_string();
    let json = || FormatOptions::new("json");
    assert!(new(json().with("ignore-parse-error", "true")).contains("did you mean `json.ignore-parse-errors`"));
    assert!(new(json().with("timestamp-format.standard", "sql")).contains("`SQL`, `ISO-8601`"));
    assert!(new(json().with("map-null-key.mode", "x")).contains("`FAIL`, `DROP`, `LITERAL`"));
    assert!(new(json().with("ignore-parse-errors", "1")).contains("true or false"));
    let both = json().with("ignore-parse-errors", "true").with("fail-on-missing-field", "true");
    assert!(new(both).contains("cannot both be true"));
}

#[test]
fn null_fields_are_written_or_left_out() {
    let nulls: ArrayRef = Arc::new(arrow::array::Int32Array::from(vec![None]));
    let numbers: ArrayRef = Arc::new(arrow::array::Int32Array::from(vec![1]));
    let schema = schema_of(vec![Field::new("n", DataType::Int32, true), Field::new("m", DataType::Int32, true)]);
    let batch = RecordBatch::try_new(schema, vec![nulls, numbers]).unwrap();
    let json = || FormatOptions::new("json");
    assert_eq!(written(&batch, json()), [r#"{"n":null,"m":1}"#]);
    assert_eq!(written(&batch, json().with("encode.ignore-null-fields", "true")), [r#"{"m":1}"#]);
}

#[test]
fn nesting_is_bounded() {
    let schema = schema_of(vec![Field::new("v", DataType::Int32, true)]);
    let mut decoder = decoder(&table(schema, FormatOptions::new("json"))).unwrap();
    let deep = |open: &str, close: &str| format!("{{\"x\":{}{}}}", open.repeat(100_000), close.repeat(100_000));
    for text in [deep("[", "]"), deep("{\"a\":", "}"), deep("[", "")] {
        let decoded = decoder.decode(&[message(Some(text.as_bytes()))]).unwrap();
        assert!(decoded.poisoned[0].reason.contains("nested deeper"), "{:?}", decoded.poisoned);
    }
}

#[test]
fn maps_of_other_keys_are_refused() {
    let pair =
        Fields::from(vec![Field::new("key", DataType::Int32, false), Field::new("value", DataType::Int32, true)]);
    let map = DataType::Map(Arc::new(Field::new("entries", DataType::Struct(pair), false)), false);
    let error = decoder(&table(schema_of(vec![Field::new("m", map, true)]), FormatOptions::new("json"))).err().unwrap();
    assert!(error.to_string().contains("column `m`: JSON of a map with keys of type Int32"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_written_is_read_again(batch in any_batch(), is_iso: bool, is_plain: bool) {
        let standard = if is_iso { "ISO-8601" } else { "SQL" };
        let options = options_of("json")
            .with("timestamp-format.standard", standard)
            .with("encode.decimal-as-plain-number", is_plain.to_string());
        roundtrip(&batch, options);
    }

    #[test]
    fn no_bytes_do_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), text in r#"[\[\]{}",:\\0-9a-z .eE+-]{0,80}"#) {
        let schema = schema_of(vec![
            Field::new("a", DataType::Int32, true),
            Field::new("b", list(map(DataType::Float64)), true),
            Field::new("c", DataType::Utf8, false),
        ]);
        for ignores in ["true", "false"] {
            let options = FormatOptions::new("json").with("ignore-parse-errors", ignores);
            let mut reader = JsonReader::new(&JsonOptions::new(&options).unwrap(), &schema).unwrap();
            let mut rows = Rows::new(&schema).unwrap();
            for bytes in [&bytes[..], text.as_bytes()] {
                let before = rows.len();
                if reader.read(Some(bytes), &mut rows, &mut Vec::new()).is_err() {
                    rows.truncate(before);
                }
            }
            prop_assert!(rows.finish_columns().is_ok());
        }
    }

    /// Every piece of a good message is either read or poisoned, and what is read before stays.
    #[test]
    fn cut_messages_do_no_harm(end in 0_usize..60) {
        let text = br#"{"a":12,"b":[{"k":1.5e3},null,{}],"c":"x\u00e9\ud83d\ude00y"}"#;
        let schema: Arc<Schema> = schema_of(vec![
            Field::new("a", DataType::Int32, true),
            Field::new("b", list(map(DataType::Float64)), true),
            Field::new("c", DataType::Utf8, false),
        ]);
        let mut decoder = decoder(&table(schema, FormatOptions::new("json"))).unwrap();
        let messages = [message(Some(text)), message(Some(&text[..end])), message(Some(text))];
        let decoded = decoder.decode(&messages).unwrap();
        prop_assert_eq!(decoded.batch.num_rows() + decoded.poisoned.len(), 3 - usize::from(end == 0));
        prop_assert_eq!(decoded.batch.slice(0, 1), decoded.batch.slice(1, 1));
    }
}
