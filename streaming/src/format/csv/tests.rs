use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use proptest::prelude::*;

use super::super::cells::{Cells, Values, entries};
use super::super::tests::{message, roundtrip, schema_of, simple_batch, table};
use super::super::{FormatOptions, decoder, encoder, text};

/// What Flink reads and writes: made by running it, see the heads of the files.
const READ: &str = include_str!("flink_read.tsv");
const WRITTEN: &str = include_str!("flink_write.tsv");

fn csv() -> FormatOptions {
    FormatOptions::new("csv")
}

fn nested() -> Vec<Field> {
    let item = Field::new("item", DataType::Int32, true);
    let row = vec![Field::new("x", DataType::Int32, true), Field::new("y", DataType::Utf8, true)];
    vec![
        Field::new("a", DataType::List(Arc::new(item)), true),
        Field::new("r", DataType::Struct(Fields::from(row)), true),
    ]
}

fn columns_of(name: &str) -> Vec<Field> {
    let ms = TimeUnit::Millisecond;
    let one = |data_type| vec![Field::new("v", data_type, true)];
    match name.split('-').next().unwrap() {
        "csv3" => vec![
            Field::new("a", DataType::Int32, true),
            Field::new("b", DataType::Utf8, true),
            Field::new("c", DataType::Float64, true),
        ],
        "csva" => nested(),
        "cdate" => one(DataType::Date32),
        "ctime" => one(DataType::Time32(ms)),
        "cts" => one(DataType::Timestamp(ms, None)),
        "cltz" => one(DataType::Timestamp(ms, Some("UTC".into()))),
        "cbytes" => one(DataType::Binary),
        "cdec" => one(DataType::Decimal128(10, 2)),
        "cbool" => one(DataType::Boolean),
        "cint" => one(DataType::Int32),
        "cstr" => one(DataType::Utf8),
        other => panic!("no columns {other}"),
    }
}

fn options_of(name: &str) -> FormatOptions {
    match name.split_once('-').map_or("", |(_, options)| options) {
        "" => csv(),
        "trim" => csv().with("trim-spaces", "true"),
        "esc" => csv().with("escape-character", "\\"),
        "null" if name.starts_with("csva") => csv().with("null-literal", "N"),
        "null" => csv().with("null-literal", "NULL"),
        "nullempty" => csv().with("null-literal", ""),
        "empty" => csv().with("empty-string-as-null", "true"),
        "ign" => csv().with("ignore-parse-errors", "true"),
        "missing" => csv().with("fail-on-missing-columns", "true"),
        "ignmissing" => csv().with("fail-on-missing-columns", "true").with("ignore-parse-errors", "true"),
        "unmap" => csv().with("ignore-trailing-unmappable", "true"),
        "nocomma" => csv().with("allow-trailing-comma", "false"),
        "comments" => csv().with("allow-comments", "true"),
        "noquote" => csv().with("disable-quote-character", "true"),
        "semi" => csv().with("field-delimiter", "|"),
        other => panic!("no options {other}"),
    }
}

/// A value as the file has it, which is mostly Java's `toString`.
fn show(cells: &Cells<'_>, row: usize) -> String {
    if cells.is_null(row) {
        return "null".to_owned();
    }
    let mut out = Vec::new();
    match &cells.values {
        Values::Bool(values) => return values.value(row).to_string(),
        Values::I32(values) | Values::Date(values) | Values::Time32(values, _) => return values[row].to_string(),
        Values::F64(values) => text::write_f64(&mut out, values[row]),
        Values::Text(values) => return values.value(row).to_owned(),
        Values::Bytes(values) => return format!("{:?}", values.value(row)),
        Values::Decimal { values, scale } => {
            text::write_decimal(&mut out, values[row], *scale, text::DecimalForm::Plain);
        }
        Values::Timestamp { values, .. } => {
            return match values[row] {
                1_577_836_800_000 => "2020-01-01T00:00".to_owned(),
                1_577_836_800_500 => "2020-01-01T00:00:00.500".to_owned(),
                other => other.to_string(),
            };
        }
        Values::List { ends, item } => {
            let items: Vec<String> = entries(ends, row).map(|entry| show(item, entry)).collect();
            return format!("[{}]", items.join(","));
        }
        Values::Struct(fields) => {
            let fields: Vec<String> = fields.iter().map(|field| show(field, row)).collect();
            return format!("({})", fields.join("|"));
        }
        other => panic!("{other:?}"),
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn lines_are_read_as_flink_reads_them() {
    let mut checked = 0;
    for line in READ.lines().filter(|line| !line.starts_with('#')) {
        let [name, text, expected] = line.splitn(3, '\t').collect::<Vec<_>>().try_into().unwrap();
        // The file has line feeds as `\n`; where there is an escape character they are what they seem.
        let lines = |text: &str| if name.contains("esc") { text.to_owned() } else { text.replace("\\n", "\n") };
        let schema = schema_of(columns_of(name));
        let mut decoder = decoder(&table(schema, options_of(name))).unwrap();
        let decoded = decoder.decode(&[message(Some(lines(text).as_bytes()))]).unwrap();
        let found = if decoded.batch.num_rows() == 1 {
            let cells = decoded.batch.columns().iter().map(|column| Cells::new(column.as_ref()).unwrap());
            cells.map(|cells| show(&cells, 0)).collect::<Vec<_>>().join("|")
        } else if name.contains("ign") {
            "NULLROW".to_owned()
        } else {
            "ERR".to_owned()
        };
        assert_eq!(found, lines(expected), "{name} {text}: {:?}", decoded.poisoned);
        checked += 1;
    }
    assert!(checked > 90, "{checked}");
}

#[test]
fn escapes_are_read() {
    let options = csv().with("escape-character", "\\");
    let mut decoder = decoder(&table(schema_of(columns_of("csv3")), options)).unwrap();
    let decoded = decoder.decode(&[message(Some(br"1,\n\t\0\x,2"))]).unwrap();
    assert_eq!(decoded.batch.column(1).as_string::<i32>().value(0), "\n\t\0x");
}

fn write(batch: &RecordBatch, options: FormatOptions) -> String {
    let encoded = encoder(&table(batch.schema(), options)).unwrap().encode(batch, None).unwrap();
    String::from_utf8(encoded[0].value.clone().unwrap().to_vec()).unwrap()
}

fn batch_of(columns: Vec<ArrayRef>) -> RecordBatch {
    let field = |(at, array): (usize, &ArrayRef)| Field::new(format!("c{at}"), array.data_type().clone(), true);
    let fields = columns.iter().enumerate().map(field).collect();
    RecordBatch::try_new(schema_of(fields), columns).unwrap()
}

#[test]
fn texts_are_written_as_flink_writes_them() {
    let mut checked = 0;
    for line in WRITTEN.lines().filter(|line| !line.starts_with('#')) {
        let (label, expected) = line.split_once('\t').unwrap();
        let Some((kind, value)) = label.split_once(' ') else { continue };
        let options = match kind {
            "w" => csv(),
            "w|" => csv().with("field-delimiter", "|"),
            "wesc" => csv().with("escape-character", "\\"),
            "wnoq" => csv().with("disable-quote-character", "true"),
            "wnoqesc" => csv().with("disable-quote-character", "true").with("escape-character", "\\"),
            other => panic!("no options {other}"),
        };
        let texts = |text: &str| Arc::new(arrow::array::StringArray::from(vec![text])) as ArrayRef;
        let batch = batch_of(vec![texts(&value.replace("\\n", "\n")), texts("z")]);
        assert_eq!(write(&batch, options), expected.replace("\\n", "\n"), "{label}");
        checked += 1;
    }
    assert_eq!(checked, 90);
}

#[test]
fn values_are_written_as_flink_writes_them() {
    use arrow::array::*;
    let expected = |label: &str| {
        let line = WRITTEN.lines().find_map(|line| line.split_once('\t').filter(|(of, _)| *of == label));
        line.unwrap().1
    };
    let all = |digits: i128| {
        let decimals = Decimal128Array::from(vec![digits]).with_precision_and_scale(10, 2).unwrap();
        batch_of(vec![
            Arc::new(decimals),
            Arc::new(Float64Array::from(vec![1e10])),
            Arc::new(TimestampMillisecondArray::from(vec![1_500])),
            Arc::new(Date32Array::from(vec![18_262])),
            Arc::new(Time32MillisecondArray::from(vec![12_345])),
            Arc::new(BinaryArray::from(vec![&[1_u8, 2, 255][..]])),
            Arc::new(BooleanArray::from(vec![true])),
            Arc::new(TimestampMillisecondArray::from(vec![0]).with_timezone("UTC")),
            Arc::new(Float32Array::from(vec![1.5])),
            Arc::new(Int32Array::from(vec![-3])),
        ])
    };
    let scientific = || csv().with("write-bigdecimal-in-scientific-notation", "true");
    assert_eq!(write(&all(10_000), csv()), expected("wall"));
    assert_eq!(write(&all(10_000), scientific()), expected("wallsci"));
    assert_eq!(write(&all(-150), csv()), expected("wall2"));
    assert_eq!(write(&all(-150), scientific()), expected("wall2sci"));

    let nulls = |literal: Option<&str>| {
        let options = literal.map_or(csv(), |literal| csv().with("null-literal", literal));
        let texts = |text: Option<&str>| Arc::new(StringArray::from(vec![text])) as ArrayRef;
        write(&batch_of(vec![texts(None), texts(Some("z"))]), options)
    };
    assert_eq!(nulls(None), expected("wnull"));
    assert_eq!(nulls(Some("N U")), expected("wnulllit"));

    let nested_row = |list: Vec<Option<i32>>, x: Option<i32>, y: &str| {
        let list = ListArray::from_iter_primitive::<arrow::datatypes::Int32Type, _, _>([Some(list)]);
        let fields = nested()[1].data_type().clone();
        let DataType::Struct(fields) = fields else { unreachable!() };
        let columns: Vec<ArrayRef> = vec![Arc::new(Int32Array::from(vec![x])), Arc::new(StringArray::from(vec![y]))];
        batch_of(vec![Arc::new(list), Arc::new(StructArray::new(fields, columns, None))])
    };
    assert_eq!(write(&nested_row(vec![Some(1), None, Some(3)], Some(4), "a;b"), csv()), expected("warr"));
    let options = csv().with("null-literal", "N").with("array-element-delimiter", "|");
    assert_eq!(write(&nested_row(vec![Some(1), None, Some(3)], None, "a b"), options), expected("warr2"));
}

#[test]
fn options_are_checked() {
    let schema = || schema_of(columns_of("csv3"));
    let error = |options: FormatOptions| decoder(&table(schema(), options)).err().unwrap().to_string();
    assert!(error(csv().with("field-delimiter", "ab")).contains("a single character"));
    assert!(error(csv().with("quote-character", "'").with("disable-quote-character", "true")).contains("cannot both"));
    assert!(error(csv().with("nul-literal", "x")).contains("did you mean `csv.null-literal`"));
    for (delimiter, text) in [("\\t", "1\tx\t2"), ("\\u0001", "1\u{1}x\u{1}2"), ("é", "1éxé2")] {
        let mut decoder = decoder(&table(schema(), csv().with("field-delimiter", delimiter))).unwrap();
        assert_eq!(decoder.decode(&[message(Some(text.as_bytes()))]).unwrap().batch.num_rows(), 1, "{delimiter}");
    }
}

#[test]
fn what_is_nested_twice_is_refused() {
    let inner = DataType::List(Arc::new(Field::new("item", DataType::Int32, true)));
    let outer = DataType::List(Arc::new(Field::new("item", inner, true)));
    let error = decoder(&table(schema_of(vec![Field::new("v", outer, true)]), csv())).err().unwrap();
    assert!(error.to_string().contains("column `v`: CSV of type"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// NULL needs a literal that no text is, as an empty text is one too. A NUL, which no value has, does.
    #[test]
    fn what_is_written_is_read_again(batch in simple_batch(), has_escape: bool, delimiter in "[,|;\t]") {
        let mut options = csv().with("null-literal", "\0null").with("field-delimiter", delimiter);
        if has_escape {
            options = options.with("escape-character", "\\");
        }
        // Without quotes a carriage return ends the line; a text is never written so.
        roundtrip(&batch, options);
    }

    #[test]
    fn no_bytes_do_harm(text in "[0-9,;\"\\\\a \n\r#]{0,60}|.{0,60}") {
        let options = csv().with("escape-character", "\\").with("allow-comments", "true");
        let mut fields = columns_of("csv3");
        fields.extend(nested());
        let mut decoder = decoder(&table(schema_of(fields), options)).unwrap();
        let good = message(Some(b"1,x,2,1;2,3;y"));
        let decoded = decoder.decode(&[good.clone(), message(Some(text.as_bytes())), good]).unwrap();
        prop_assert_eq!(decoded.batch.num_rows() + decoded.poisoned.len(), 3);
        prop_assert_eq!(decoded.batch.column(0).null_count(), 0);
    }
}
