use proptest::prelude::*;
use tereza_runtime::ErrorKind;

use super::*;

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new_list_field(item, true)))
}

fn structure(fields: &[(&str, DataType)]) -> DataType {
    DataType::Struct(fields.iter().map(|(name, data_type)| Field::new(*name, data_type.clone(), true)).collect())
}

#[test]
fn hive_types_are_read() {
    let cases = [
        ("tinyint", DataType::Int8),
        (" INT ", DataType::Int32),
        ("double precision", DataType::Float64),
        ("decimal", DataType::Decimal128(10, 0)),
        ("decimal( 38 , 18 )", DataType::Decimal128(38, 18)),
        ("decimal(5)", DataType::Decimal128(5, 0)),
        ("string", DataType::Utf8View),
        ("varchar(65535)", DataType::Utf8View),
        ("char(3)", DataType::Utf8View),
        ("binary", DataType::BinaryView),
        ("timestamp", DataType::Timestamp(TimeUnit::Microsecond, None)),
        ("timestamp with local time zone", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))),
        ("array<string>", list(DataType::Utf8)),
        ("map<string,array<int>>", map_of(DataType::Utf8, list(DataType::Int32))),
        ("struct<a:int,B b:decimal(3,1)>", structure(&[("a", DataType::Int32), ("B b", DataType::Decimal128(3, 1))])),
        ("struct<`x:``y`: int>", structure(&[("x:`y", DataType::Int32)])),
        ("array<struct<a:map<int,date>>>", list(structure(&[("a", map_of(DataType::Int32, DataType::Date32))]))),
    ];
    for (text, expected) in cases {
        assert_eq!(arrow_type(text).unwrap(), expected, "{text}");
    }
}

#[test]
fn types_that_hive_or_tereza_lack_are_refused_by_name() {
    for (text, kind) in [
        ("uniontype<int,string>", ErrorKind::Unsupported),
        ("interval_day_time", ErrorKind::Unsupported),
        ("geometry", ErrorKind::Unsupported),
        ("array<int", ErrorKind::InvalidInput),
        ("int)", ErrorKind::InvalidInput),
        ("decimal(39,1)", ErrorKind::InvalidInput),
        ("decimal(3,4)", ErrorKind::InvalidInput),
        ("struct<>", ErrorKind::InvalidInput),
        ("", ErrorKind::InvalidInput),
    ] {
        let error = arrow_type(text).unwrap_err();
        assert_eq!(error.kind(), kind, "{text}: {error}");
    }
    let deep = "array<".repeat(100_000);
    assert_eq!(arrow_type(&deep).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn arrow_types_become_the_nearest_hive_type() {
    let cases = [
        (DataType::UInt8, "smallint"),
        (DataType::UInt16, "int"),
        (DataType::UInt32, "bigint"),
        (DataType::UInt64, "decimal(20,0)"),
        (DataType::Float16, "float"),
        (DataType::LargeUtf8, "string"),
        (DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)), "string"),
        (DataType::Timestamp(TimeUnit::Second, None), "timestamp"),
        (DataType::Timestamp(TimeUnit::Nanosecond, Some("+02:00".into())), "timestamp with local time zone"),
        (DataType::Decimal256(38, 6), "decimal(38,6)"),
        (DataType::Decimal128(5, -2), "decimal(7,0)"),
    ];
    for (arrow, expected) in cases {
        assert_eq!(hive_type(&arrow).unwrap(), expected, "{arrow}");
    }
    for arrow in [
        DataType::Time64(TimeUnit::Nanosecond),
        DataType::Interval(arrow::datatypes::IntervalUnit::MonthDayNano),
        DataType::Null,
        DataType::Decimal256(39, 0),
        list(DataType::Duration(TimeUnit::Second)),
    ] {
        let error = hive_type(&arrow).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{arrow}");
        assert!(error.hint().is_some_and(|hint| hint.starts_with("cast it to ")), "{error}");
    }
}

#[test]
fn partition_values_keep_their_text() {
    for (hive, text) in [
        ("int", "-7"),
        ("bigint", "9223372036854775807"),
        ("string", "a/b=c"),
        ("boolean", "true"),
        ("date", "2024-02-29"),
        ("date", "0001-01-01"),
        ("decimal(5,2)", "-0.05"),
        ("decimal(5,0)", "12"),
        ("timestamp", "2024-02-29 01:02:03"),
        ("timestamp", "2024-02-29 01:02:03.0405"),
        ("timestamp with local time zone", "2024-02-29 00:00:00"),
        ("double", "1.5"),
    ] {
        let data_type = arrow_type(hive).unwrap();
        let value = partition_scalar(text, &data_type).unwrap();
        assert_eq!(value.data_type(), data_type, "{hive}");
        assert_eq!(partition_text(&value).unwrap(), text, "{hive}");
    }
    assert_eq!(partition_scalar("03", &DataType::Int32).unwrap(), ScalarValue::Int32(Some(3)));
}

#[test]
fn null_partition_values_are_the_default_partition() {
    for hive in ["int", "string", "date", "timestamp", "decimal(5,2)"] {
        let data_type = arrow_type(hive).unwrap();
        for text in [DEFAULT_PARTITION, ""] {
            let value = partition_scalar(text, &data_type).unwrap();
            assert!(value.is_null(), "{hive}");
            assert_eq!(value.data_type(), data_type);
            assert_eq!(partition_text(&value).unwrap(), DEFAULT_PARTITION);
        }
    }
    assert_eq!(partition_text(&ScalarValue::from("")).unwrap(), DEFAULT_PARTITION);
}

#[test]
fn a_partition_value_of_another_type_is_refused() {
    let error = partition_scalar("abc", &DataType::Int32).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("'abc'") && error.message().contains("int"), "{error}");
}

#[test]
fn errors_name_the_column() {
    let column = Column { name: "u".into(), type_name: "uniontype<int>".into(), comment: None };
    let table = Table {
        database: "db".into(),
        name: "t".into(),
        kind: tereza_catalog::model::TableKind::Managed,
        owner: None,
        create_time_s: 0,
        last_access_time_s: 0,
        retention: 0,
        storage: tereza_catalog::model::Storage { columns: vec![column], ..Default::default() },
        partition_keys: vec![],
        parameters: Default::default(),
        view_original_text: None,
        view_expanded_text: None,
        owner_kind: Default::default(),
    };
    let error = table_fields(&table).unwrap_err();
    assert!(error.message().starts_with("column 'u' of table db.t: type uniontype"), "{error}");
}

/// Any type that a Hive table can have, as Arrow has it inside of a nested type.
fn any_type() -> impl Strategy<Value = DataType> {
    let leaf = prop_oneof![
        Just(DataType::Boolean),
        Just(DataType::Int8),
        Just(DataType::Int16),
        Just(DataType::Int32),
        Just(DataType::Int64),
        Just(DataType::Float32),
        Just(DataType::Float64),
        Just(DataType::Utf8),
        Just(DataType::Binary),
        Just(DataType::Date32),
        Just(DataType::Timestamp(TimeUnit::Microsecond, None)),
        Just(local_timestamp()),
        (1..=38u8)
            .prop_flat_map(|precision| (Just(precision), 0..=precision))
            .prop_map(|(precision, scale)| DataType::Decimal128(precision, scale as i8)),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            inner.clone().prop_map(list),
            (inner.clone(), inner.clone()).prop_map(|(key, value)| map_of(key, value)),
            prop::collection::vec(("[ -~é]{1,8}", inner), 1..4).prop_map(|fields| {
                DataType::Struct(
                    fields.into_iter().map(|(name, data_type)| Field::new(name, data_type, true)).collect(),
                )
            }),
        ]
    })
}

proptest! {
    #[test]
    fn types_survive_the_catalog(data_type in any_type()) {
        let text = hive_type(&data_type).unwrap();
        prop_assert_eq!(arrow_type(&text).unwrap(), text_type(data_type), "{}", text);
    }

    #[test]
    fn any_text_is_a_type_or_an_error(text in ".{0,40}") {
        let _ = arrow_type(&text);
    }

    #[test]
    fn decimals_survive_the_catalog(unscaled in -10i128.pow(20)..10i128.pow(20), scale in 0i8..=20) {
        let value = ScalarValue::Decimal128(Some(unscaled), 38, scale);
        let text = partition_text(&value).unwrap();
        prop_assert_eq!(partition_scalar(&text, &value.data_type()).unwrap(), value);
    }

    #[test]
    fn timestamps_survive_the_catalog(micros in -62_135_596_800_000_000i64..253_402_300_800_000_000) {
        let value = ScalarValue::TimestampMicrosecond(Some(micros), None);
        let text = partition_text(&value).unwrap();
        prop_assert_eq!(partition_scalar(&text, &value.data_type()).unwrap(), value, "{}", text);
    }

    #[test]
    fn dates_survive_the_catalog(days in -719_162i32..2_932_896) {
        let value = ScalarValue::Date32(Some(days));
        let text = partition_text(&value).unwrap();
        prop_assert_eq!(partition_scalar(&text, &value.data_type()).unwrap(), value, "{}", text);
    }
}
