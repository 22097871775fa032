use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, RecordBatch,
    StringArray,
};
use arrow::datatypes::{DataType, Field, TimeUnit};
use proptest::prelude::*;

use super::super::tests::{message, roundtrip, schema_of, simple_batch, table};
use super::super::{FormatOptions, decoder, encoder};

fn raw() -> FormatOptions {
    FormatOptions::new("raw")
}

fn written(array: ArrayRef, options: FormatOptions) -> Option<Vec<u8>> {
    let schema = schema_of(vec![Field::new("v", array.data_type().clone(), true)]);
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![array]).unwrap();
    let messages = encoder(&table(schema, options)).unwrap().encode(&batch, None).unwrap();
    messages[0].value.as_ref().map(|value| value.to_vec())
}

#[test]
fn bytes_are_those_of_flink() {
    let little = || raw().with("endianness", "little-endian");
    let numbers: [(ArrayRef, &[u8]); 5] = [
        (Arc::new(BooleanArray::from(vec![true])), &[1]),
        (Arc::new(Int8Array::from(vec![-2])), &[0xfe]),
        (Arc::new(Int16Array::from(vec![0x0102])), &[1, 2]),
        (Arc::new(Int32Array::from(vec![0x0102_0304])), &[1, 2, 3, 4]),
        (Arc::new(Float64Array::from(vec![1.0])), &[0x3f, 0xf0, 0, 0, 0, 0, 0, 0]),
    ];
    for (array, expected) in numbers {
        assert_eq!(written(Arc::clone(&array), raw()).unwrap(), expected);
        let reversed: Vec<u8> = expected.iter().rev().copied().collect();
        assert_eq!(written(array, little()).unwrap(), reversed);
    }
    let text = || Arc::new(StringArray::from(vec!["é€"])) as ArrayRef;
    let charsets: [(&str, &[u8]); 5] = [
        ("utf-8", "é€".as_bytes()),
        ("US-ASCII", b"??"),
        ("ISO-8859-1", b"\xe9?"),
        ("UTF-16BE", b"\x00\xe9\x20\xac"),
        ("UTF-16LE", b"\xe9\x00\xac\x20"),
    ];
    for (charset, expected) in charsets {
        assert_eq!(written(text(), raw().with("charset", charset)).unwrap(), expected, "{charset}");
    }
    assert_eq!(written(Arc::new(Int64Array::from(vec![None])), raw()), None);
}

#[test]
fn lengths_and_types_are_checked() {
    let new = |data_type: DataType| decoder(&table(schema_of(vec![Field::new("v", data_type, true)]), raw()));
    let decoded = new(DataType::Int32).unwrap().decode(&[message(Some(b"12345")), message(None)]).unwrap();
    assert_eq!(decoded.poisoned[0].reason, "the value: it has 5 bytes, not 4");
    assert_eq!(decoded.batch.column(0).null_count(), 1);
    let error = new(DataType::Timestamp(TimeUnit::Millisecond, None)).err().unwrap();
    assert!(error.to_string().contains("format `raw` for a column of type"), "{error}");
    let two = schema_of(vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Int32, true)]);
    assert!(decoder(&table(two, raw())).err().unwrap().to_string().contains("of one column"));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_is_written_is_read_again(batch in simple_batch(), is_little: bool) {
        let endianness = if is_little { "little-endian" } else { "big-endian" };
        for name in ["bool", "i8", "i16", "i32", "i64", "f32", "f64", "text", "bytes"] {
            let (at, _) = batch.schema().column_with_name(name).unwrap();
            roundtrip(&batch.project(&[at]).unwrap(), raw().with("endianness", endianness));
        }
    }
}
