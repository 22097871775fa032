use proptest::prelude::{Just, Strategy as _, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest};
use tereza_runtime::ErrorKind;

use super::*;

fn parse(text: &str) -> Result<FlinkType, Error> {
    text.parse()
}

#[test]
fn types_are_read_and_printed_as_flink_does() {
    let mut read = 0;
    for line in include_str!("recorded/types.txt").lines().filter(|line| !line.starts_with('#')) {
        let mut parts = line.split(" => ");
        let (text, kept) = (parts.next().expect("a text"), parts.next().expect("what is kept"));
        match parse(text) {
            Err(error) => assert_eq!(kept, "error", "{text}: {error}"),
            Ok(data_type) => {
                assert_eq!(data_type.to_string(), kept, "{text}");
                assert_eq!(data_type.summary().to_string(), parts.next().unwrap_or(kept), "{text}");
                assert_eq!(parse(kept).expect("what is kept"), data_type, "{text}");
                read += 1;
            }
        }
    }
    assert_eq!(read, 77);
}

#[test]
fn what_is_wrong_with_a_type_is_said() {
    for (text, expected) in [
        ("STRNG", "unknown type 'STRNG' (line 1, column 1); did you mean 'STRING'?"),
        ("ARRAY<BIGNT>", "unknown type 'BIGNT' (line 1, column 7); did you mean 'BIGINT'?"),
        ("DECIMAL(39, 2)", "the precision of DECIMAL is between 1 and 38, and not 39 (line 1, column 9)"),
        ("DECIMAL(5, 6)", "the scale of DECIMAL is between 0 and 5, and not 6 (line 1, column 12)"),
        ("VARCHAR(0)", "the length is between 1 and 2147483647, and not 0 (line 1, column 9)"),
        ("ARRAY<INT>>", "a '>' too many (line 1, column 10)"),
        ("ROW<a INT, a INT>", "field 'a' is twice in the row (line 1, column 12)"),
        ("INTERVAL '1'", "expected YEAR, MONTH, DAY, HOUR, MINUTE or SECOND, found '1' (line 1, column 10)"),
        ("", "expected a data type, found the end of the text (line 1, column 1)"),
        ("INT INT", "expected the end of the statement, found INT (line 1, column 5)"),
    ] {
        assert_eq!(parse(text).expect_err(text).to_string(), expected);
    }
}

#[test]
fn types_that_are_not_supported_are_named() {
    for (text, name) in [
        ("TIMESTAMP(3) WITH TIME ZONE", "type TIMESTAMP WITH TIME ZONE"),
        ("MAP<STRING, VARIANT>", "type VARIANT"),
        ("RAW('java.lang.Object', 'AA==')", "type RAW"),
        ("BITMAP", "type BITMAP"),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!((error.kind(), error.message()), (ErrorKind::Unsupported, name), "{text}");
        assert!(error.location().is_some(), "{text}");
    }
}

#[test]
fn deep_types_are_refused() {
    let nested = |levels: usize| format!("{}INT{}", "ARRAY<".repeat(levels), ">".repeat(levels));
    assert!(parse(&nested(TYPE_DEPTH_MAX - 1)).is_ok());
    for text in [
        nested(TYPE_DEPTH_MAX),
        nested(100_000),
        "ARRAY<".repeat(300_000),
        format!("INT{}", " ARRAY".repeat(100_000)),
        format!("{}{}", nested(TYPE_DEPTH_MAX - 1), " MULTISET"),
        format!("{}INT", "ROW(a ".repeat(40)),
    ] {
        let error = parse(&text).expect_err("too deep");
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains("levels") || error.message().contains("chain"), "{error}");
    }
}

#[test]
fn serde_keeps_the_text() {
    let data_type = parse("ROW<a ARRAY<INT NOT NULL> 'x'> NOT NULL").expect("a type");
    let json = serde_json::to_string(&data_type).expect("json");
    assert_eq!(json, "\"ROW<`a` ARRAY<INT NOT NULL> 'x'> NOT NULL\"");
    assert_eq!(serde_json::from_str::<FlinkType>(&json).expect("a type"), data_type);
    assert!(serde_json::from_str::<FlinkType>("\"NOTHING\"").is_err());
}

fn leaf() -> impl proptest::strategy::Strategy<Value = TypeRoot> {
    prop_oneof![
        (1..=LENGTH_MAX).prop_map(TypeRoot::Char),
        (1..=LENGTH_MAX).prop_map(TypeRoot::Varchar),
        Just(TypeRoot::Varbinary(LENGTH_MAX)),
        (1..=38_u8).prop_flat_map(|precision| {
            (0..=precision).prop_map(move |scale| TypeRoot::Decimal { precision, scale })
        }),
        Just(TypeRoot::Double),
        (0..=9_u8).prop_map(TypeRoot::Time),
        (0..=9_u8).prop_map(TypeRoot::TimestampLtz),
        (1..=6_u8, 0..=9_u8).prop_map(|(digits, fraction)| TypeRoot::Interval(Interval::DayToSecond(digits, fraction))),
    ]
}

fn data_type() -> impl proptest::strategy::Strategy<Value = FlinkType> {
    let leaf = (leaf(), any::<bool>()).prop_map(|(root, nullable)| FlinkType { root, nullable });
    leaf.prop_recursive(4, 24, 4, |inner| {
        let boxed = || inner.clone().prop_map(Box::new);
        let field = ("[a-z`'ü ]{1,8}", inner.clone(), prop::option::of("[a-z'`]{0,6}"))
            .prop_map(|(name, data_type, comment)| RowField { name, data_type, comment });
        let root = prop_oneof![
            boxed().prop_map(TypeRoot::Array),
            boxed().prop_map(TypeRoot::Multiset),
            (boxed(), boxed()).prop_map(|(key, value)| TypeRoot::Map(key, value)),
            prop::collection::vec(field, 0..4).prop_map(|mut fields| {
                fields.sort_by(|a, b| a.name.cmp(&b.name));
                fields.dedup_by(|a, b| a.name == b.name);
                TypeRoot::Row(fields)
            }),
        ];
        (root, any::<bool>()).prop_map(|(root, nullable)| FlinkType { root, nullable })
    })
}

proptest! {
    #[test]
    fn what_is_printed_is_read_again(data_type in data_type()) {
        prop_assert_eq!(parse(&data_type.to_string()).expect("its own text"), data_type);
    }

    #[test]
    fn no_text_panics(words in prop::collection::vec(prop::sample::select(vec![
        "ROW", "ARRAY", "MAP", "<", ">", ">>", "(", ")", ",", "a", "INT", "NOT", "NULL", "'c'", "TIMESTAMP", "3", "<>", "`", "WITH",
        "LOCAL", "TIME", "ZONE", "INTERVAL", "DAY", "TO", "SECOND", "MULTISET", "9999999999", "ü", "''",
    ]), 0..24)) {
        if let Ok(data_type) = parse(&words.join(" ")) {
            prop_assert!(parse(&data_type.to_string()).is_ok());
        }
    }
}
