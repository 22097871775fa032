use arrow::array::{BinaryViewArray, ListArray, MapArray, StructArray};
use arrow::buffer::OffsetBuffer;
use tereza_catalog::model::Serde;
use tereza_runtime::ErrorKind;

use super::*;

fn bytes_of(serde: &str, pairs: &[(&str, &str)], provider: Option<&str>) -> Result<JsonBytes> {
    let parameters = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let serde = Serde { library: Some(serde.into()), parameters, ..Serde::default() };
    let provider = provider.map(|provider| ("spark.sql.sources.provider".to_owned(), provider.to_owned()));
    JsonBytes::of(&Storage { serde, ..Storage::default() }, &provider.into_iter().collect())
}

#[test]
fn the_owner_says_how_bytes_are_written() {
    let (hive, openx) = ("org.apache.hive.hcatalog.data.JsonSerDe", "org.openx.data.jsonserde.JsonSerDe");
    assert_eq!(bytes_of(hive, &[], None).unwrap(), JsonBytes::Raw);
    assert_eq!(bytes_of(hive, &[(BINARY_FORMAT, "BASE64")], None).unwrap(), JsonBytes::Base64);
    assert_eq!(bytes_of(hive, &[(BINARY_FORMAT, "rawstring")], None).unwrap(), JsonBytes::Raw);
    assert_eq!(bytes_of(hive, &[(BINARY_FORMAT, "hex")], None).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(bytes_of(hive, &[], Some("hive")).unwrap(), JsonBytes::Raw);
    assert_eq!(bytes_of(openx, &[], None).unwrap(), JsonBytes::Never);
    // The class of such a table says nothing.
    assert_eq!(bytes_of(openx, &[], Some("json")).unwrap(), JsonBytes::Base64);
}

/// A column of bytes, and bytes in a list of maps of structs.
fn batch(values: [Option<&[u8]>; 2]) -> RecordBatch {
    let bytes: ArrayRef = Arc::new(values.iter().copied().collect::<BinaryViewArray>());
    let plain = cast(&bytes, &DataType::Binary).unwrap();
    let fields = Fields::from(vec![Field::new("inner", DataType::Binary, true)]);
    let structs: ArrayRef = Arc::new(StructArray::new(fields, vec![plain], None));
    let keys: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["k", "l"]));
    let pair = Fields::from(vec![
        Field::new("key", DataType::Utf8, false),
        Field::new("value", structs.data_type().clone(), true),
    ]);
    let entries = StructArray::new(pair.clone(), vec![keys, structs], None);
    let entries_field = Arc::new(Field::new("entries", DataType::Struct(pair), false));
    let maps: ArrayRef =
        Arc::new(MapArray::new(entries_field, OffsetBuffer::from_lengths([1, 1]), entries, None, false));
    let item = Arc::new(Field::new("item", maps.data_type().clone(), true));
    let lists: ArrayRef = Arc::new(ListArray::new(item, OffsetBuffer::from_lengths([2, 0]), maps, None));
    RecordBatch::try_from_iter_with_nullable([("b", bytes, true), ("l", lists, true)]).unwrap()
}

#[test]
fn bytes_come_back_at_any_depth() {
    for (bytes, values) in [
        (JsonBytes::Base64, [Some(&[0, 0xff, 0x10][..]), Some(&[][..])]),
        (JsonBytes::Base64, [Some(&b"h"[..]), None]),
        (JsonBytes::Raw, [Some("hé\"\\".as_bytes()), None]),
    ] {
        let batch = batch(values);
        let written = for_file(&batch, &in_files(&batch.schema()), bytes).unwrap();
        assert_eq!(written.schema().field(0).data_type(), &DataType::Utf8);
        assert_eq!(of_file(&written, &batch.schema(), bytes).unwrap(), batch, "{bytes:?}");
    }
    let batch = batch([Some(&[0, 0xff, 0x10]), None]);
    let written = for_file(&batch, &in_files(&batch.schema()), JsonBytes::Base64).unwrap();
    assert_eq!(written.column(0).as_string::<i32>().value(0), "AP8Q");
}

#[test]
fn what_would_be_lost_is_refused() {
    let batch = batch([Some(&[0xff]), None]);
    let columns = in_files(&batch.schema());
    let error = for_file(&batch, &columns, JsonBytes::Raw).unwrap_err().to_string();
    assert!(error.contains("column 'b'") && error.contains("no text"), "{error}");
    assert!(for_file(&batch, &columns, JsonBytes::Never).unwrap_err().to_string().contains("openx"));
    let texts: ArrayRef = Arc::new(arrow::array::StringArray::from(vec!["!!", "AA"]));
    for row in 0..2 {
        let one = RecordBatch::try_from_iter([("b", texts.slice(row, 1))]).unwrap();
        let wanted = Arc::new(Schema::new(vec![Field::new("b", DataType::BinaryView, true)]));
        let error = of_file(&one, &wanted, JsonBytes::Base64).unwrap_err().to_string();
        assert!(error.contains("column 'b'") && error.contains("Base64"), "{error}");
    }
}
