//! Filters and patterns under any text: nothing panics, nothing takes more memory or time than its bound, errors are short,
//! and what is asked of the store is no less than what the filter lets through. `tests/support/fuzz.rs` of the repository
//! says how to run this for longer.
//!
//! Inputs begin as those in `tests/corpus`: what Spark, Trino, Flink, Iceberg and Hive send, and what means no good.

use std::path::{Path, PathBuf};

use super::driver::{Fuzz, measured};
use super::filter::{Filter, Key, Work};
use super::pattern::Pattern;
use super::value::Family;
use crate::model::DEFAULT_PARTITION;

/// What a filter or a pattern may take for each byte of its text: a token, what is made of it, and the lists that grow with it.
/// And in any case, as making one pattern takes more, but those have a bound.
const MEMORY_FREE_BYTES: usize = 2 << 20;
const MEMORY_PER_BYTE: usize = 160;
/// What an error may have: it goes to the client and into logs.
const ERROR_BYTES_MAX: usize = 4_000;
const INPUT_BYTES_MAX: usize = 16 << 10;

const TYPES: [(&str, &str); 6] =
    [("ds", "string"), ("k", "int"), ("d", "date"), ("x", "decimal(10,2)"), ("t", "timestamp"), ("b", "boolean")];

const ROWS: [[Option<&str>; 6]; 5] = [
    [Some("1"), Some("1"), Some("2024-01-01"), Some("1.50"), Some("2024-01-01 00:00:00"), Some("true")],
    [Some("abc"), Some("03"), Some("2024-1-2"), Some("-1e3"), Some("x"), Some("FALSE")],
    [None, None, None, None, None, None],
    [Some(""), Some("x"), Some("2024-13-01"), Some("0"), Some("2024-01-01T10:00:00.5"), Some("1")],
    [
        Some("a%_.*"),
        Some("-9223372036854775808"),
        Some("0001-01-01"),
        Some("99999999999999999999999999999999999999999"),
        None,
        None,
    ],
];

const WORDS: [&[u8]; 44] = [
    b"(",
    b")",
    b",",
    b" and ",
    b" or ",
    b" not ",
    b"=",
    b"!=",
    b"<>",
    b"<=",
    b" in (",
    b" between ",
    b" like ",
    b" is null",
    b" is not null",
    b" true ",
    b"null",
    b"struct(",
    b"const struct(1,'x')",
    b"date '2024-01-01'",
    b"2024-01-01",
    b"ds",
    b"k",
    b"`d`",
    b"'1'",
    b"\"a\"",
    b"'\\'",
    b"'.*a.*'",
    b"-1",
    b"1e3",
    b"1.50BD",
    b"\xc3\xa9",
    b"0000000000000001",
    b"hive_filter_field_params__a",
    b".*",
    b"[^a-c]",
    b"\\d+",
    b"\\Q*\\E",
    b"(?i)",
    b"(?:",
    b"|",
    b"*",
    b"?",
    b"__HIVE_DEFAULT_PARTITION__",
];

fn corpus(folder: &str) -> [PathBuf; 1] {
    [Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder)]
}

fn keys() -> Vec<Key> {
    TYPES.iter().map(|(name, ty)| Key { name: (*name).to_owned(), family: Family::of(ty) }).collect()
}

/// Texts of errors tell paths apart; the numbers and names in them do not.
fn kind_of(error: &str) -> String {
    error.chars().filter(|c| c.is_ascii_alphabetic()).take(80).collect()
}

fn check_filter(text: &str, parse: impl FnOnce(&str) -> Result<Filter, String>) -> String {
    let bound = MEMORY_PER_BYTE * text.len() + MEMORY_FREE_BYTES;
    let (parsed, peak) = measured(|| parse(text));
    assert!(peak <= bound, "{peak} bytes of memory for a filter of {} bytes", text.len());
    let filter = match parsed {
        Ok(filter) => filter,
        Err(error) => {
            assert!(error.len() <= ERROR_BYTES_MAX, "an error of {} bytes", error.len());
            return kind_of(&error);
        }
    };
    let mut passed = String::new();
    for row in ROWS {
        let values: Vec<Option<&str>> = row.iter().copied().cycle().take(filter.keys().len()).collect();
        let (passes, peak) = measured(|| filter.matches(&values, &mut Work::default()));
        assert!(peak <= bound, "{peak} bytes of memory for a comparison");
        let wanted = filter.for_store().values;
        let is_asked_for = wanted.iter().zip(&values).all(|(wanted, value)| {
            wanted.as_ref().is_none_or(|texts| texts.iter().any(|text| text == value.unwrap_or(DEFAULT_PARTITION)))
        });
        assert!(!passes || is_asked_for, "'{text}' lets {row:?} through, which is not asked for in {wanted:?}");
        passed.push(if passes { '1' } else { '0' });
    }
    format!("{passed} {}", text.len().max(1).ilog2())
}

#[test]
fn fuzz_filters() {
    let corpus = corpus("filters");
    Fuzz { name: "filters", corpus: &corpus, words: &WORDS, bytes_max: INPUT_BYTES_MAX }.run(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        let of_tables =
            |text: &str| Filter::of_tables(text, |name| Some(Key { name: name.to_owned(), family: Family::Text }));
        let one = check_filter(&text, |text| Filter::of_partitions(text, keys()));
        format!("{one} {}", check_filter(&text, of_tables))
    });
}

#[test]
fn fuzz_patterns() {
    let corpus = corpus("patterns");
    Fuzz { name: "patterns", corpus: &corpus, words: &WORDS, bytes_max: INPUT_BYTES_MAX }.run(|bytes| {
        let text = String::from_utf8_lossy(bytes);
        let bound = MEMORY_PER_BYTE * text.len() + MEMORY_FREE_BYTES;
        let mut saw = text.len().max(1).ilog2().to_string();
        for make in [Pattern::of_names, Pattern::regex_with_case] {
            let (pattern, peak) = measured(|| make(&text));
            assert!(peak <= bound, "{peak} bytes of memory for a pattern of {} bytes", text.len());
            for name in ["", "a", "some_table", "abc1", "Größe", "a*|b?", "x\ny"] {
                let (fits, peak) = measured(|| pattern.matches(name));
                assert!(peak <= bound, "{peak} bytes of memory for a comparison");
                saw.push(if fits { '1' } else { '0' });
            }
        }
        saw
    });
}
