use proptest::prelude::{prop, proptest};

use super::*;
use crate::hive::pattern::Pattern;

const ROWS: [(&str, &str, &str, &str); 6] = [
    ("1", "1", "2024-01-01", "1.50"),
    ("1", "03", "2024-01-02", "2"),
    ("2", "3", "2024-02-01", "10.25"),
    ("10", "20", "2023-12-31", "-1"),
    ("a\"b", "-4", "2024-01-10", "0"),
    (DEFAULT_PARTITION, DEFAULT_PARTITION, DEFAULT_PARTITION, DEFAULT_PARTITION),
];

fn keys() -> Vec<Key> {
    let key = |name: &str, type_name: &str| Key { name: name.into(), family: Family::of(type_name) };
    vec![key("ds", "string"), key("k", "int"), key("d", "date"), key("x", "decimal(10,2)")]
}

fn parse(text: &str) -> Result<Filter, String> {
    Filter::of_partitions(text, keys())
}

/// The positions of the rows that pass.
fn passing(text: &str) -> Vec<usize> {
    let filter = parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let passes = |(ds, k, d, x): &(&'static str, &'static str, &'static str, &'static str)| {
        let values: Vec<Option<&str>> =
            [*ds, *k, *d, *x].into_iter().map(|text| (text != DEFAULT_PARTITION).then_some(text)).collect();
        filter.matches(&values, &mut Work::default())
    };
    ROWS.iter().enumerate().filter(|(_, row)| passes(row)).map(|(at, _)| at).collect()
}

#[test]
fn what_engines_send_is_understood() {
    for (text, expected) in [
        ("", vec![0, 1, 2, 3, 4, 5]),
        ("ds = \"1\"", vec![0, 1]),
        ("DS='1'", vec![0, 1]),
        ("\"1\" = ds", vec![0, 1]),
        ("(ds) in (\"1\", \"2\") and k = 1", vec![0]),
        ("(ds) in (\"1\", \"2\") and k = 3", vec![1, 2]),
        ("k > 0 and ds >= \"1\"", vec![0, 1, 2, 3]),
        ("2<k", vec![1, 2, 3]),
        ("ds like \"1.*\"", vec![0, 1, 3]),
        ("ds not like '1.*'", vec![2, 4]),
        ("ds != \"1\"", vec![2, 3, 4, 5]),
        ("ds <> '1'", vec![2, 3, 4, 5]),
        ("(k = 1 or k = 3)", vec![0, 1, 2]),
        ("(k != 1 and k != 3)", vec![3, 4, 5]),
        ("((k = 1 or k = 20) or k = 3)", vec![0, 1, 2, 3]),
        ("k between 1 and 3", vec![0, 1, 2]),
        ("k not between 1 and 3", vec![3, 4]),
        ("k in (1, 20)", vec![0, 3]),
        ("k not in (1, 20)", vec![1, 2, 4]),
        ("not (k = 3)", vec![0, 3, 4]),
        ("d = 2024-01-01", vec![0]),
        ("d = \"2024-01-01\"", vec![0]),
        ("d >= DATE '2024-01-10'", vec![2, 4]),
        ("d > date \"2024-1-2\" and d < 2024-02-01", vec![4]),
        ("x = 1.5", vec![0]),
        ("x > 2", vec![2]),
        ("k = '3'", vec![1, 2]),
        ("k = 3L", vec![1, 2]),
        ("k = -4", vec![4]),
        ("ds = 10", vec![3]),
        ("ds is null", vec![5]),
        ("ds is not null and k > 3", vec![3]),
        ("k = null", vec![]),
        ("ds = \"__HIVE_DEFAULT_PARTITION__\"", vec![5]),
        ("ds = ''", vec![5]),
        ("ds in ('')", vec![5]),
        ("ds in ('', '2')", vec![2, 5]),
        ("(struct(ds,k)) in (struct('',''), struct('1',1))", vec![0, 5]),
        ("not not k = 3", vec![1, 2]),
        ("not (ds = '1' or (k = 3 and d > '2024-01-31'))", vec![3, 4]),
        ("k in (1e0, 20)", vec![0, 3]),
        ("ds = 'a\"b'", vec![4]),
        ("`ds` = '2'", vec![2]),
        ("(STRUCT(ds, k)) IN (CONST STRUCT('1', 1), CONST STRUCT('2', 3))", vec![0, 2]),
        ("struct(ds,k) in (struct('1',1))", vec![0]),
        ("((struct(ds,k)) in (const struct('1',1)) or k = 20)", vec![0, 3]),
        ("true", vec![0, 1, 2, 3, 4, 5]),
        ("1 = 1 and k = 1", vec![0]),
        ("1 = 2", vec![]),
        ("ds = \"a\\\"", vec![]),
    ] {
        assert_eq!(passing(text), expected, "{text}");
    }
}

#[test]
fn what_is_no_filter_is_refused() {
    for text in
        ["ds", "ds =", "= 1", "ds = 'x", "ds in ()", "nokey = 1", "(ds = 1", "ds = 1)", "ds ~ 1", "k = 1 and", "k = ds"]
    {
        assert!(parse(text).is_err(), "{text}");
    }
    let error = parse("nokey = 1").unwrap_err();
    assert_eq!(error, "Specified key <nokey> is not a partitioning key for the table");
    assert!(parse(&format!("{}k = 1{}", "(".repeat(5_000), ")".repeat(5_000))).is_err());
    assert!(parse(&"(".repeat(100_000)).is_err());
    assert!(parse(&"not ".repeat(100_000)).is_err());
    assert!(parse(&" ".repeat(TEXT_BYTES_MAX + 1)).is_err());
}

#[test]
fn deep_disjunctions_are_understood() {
    // As on a thread of the server, which has 2 MiB of stack.
    std::thread::spawn(|| {
        let nested = |word: &str| {
            let mut text = "k = 0".to_owned();
            for k in 1..=450 {
                text = format!("({text} {word} k = {k})");
            }
            text
        };
        assert_eq!(passing(&nested("or")), [0, 1, 2, 3]);
        assert_eq!(passing(&nested("or not")), [0, 1, 2, 3, 4]);
        let mut text = "k = 0".to_owned();
        for k in 1..=225 {
            text = format!("((not {text} or k = {k}) and k != -1)");
        }
        passing(&text);
    })
    .join()
    .unwrap();
}

#[test]
fn what_spark_does_not_escape_is_found() {
    let like = |condition: &str, text: &str| {
        let filter = parse(condition).unwrap_or_else(|error| panic!("{condition}: {error}"));
        filter.matches(&[Some(text), None, None, None], &mut Work::default())
    };
    for (pattern, text, expected) in [
        ("c++.*", "c++ and more", true),
        ("c++.*", "ccc", true),
        ("c++.*", "dc++", false),
        (".*(a", "x(a", true),
        (".*a.b.*", "xa.by", true),
        (".*a.b.*", "xazby", true),
        ("[x].*", "[x]y", true),
        ("a.c", "abc", true),
    ] {
        assert_eq!(like(&format!("ds like '{pattern}'"), text), expected, "{pattern} on {text}");
        // Under NOT only what neither reading can mean is held back.
        let both = like(&format!("not (not ds like '{pattern}')"), text);
        assert_eq!(both, expected, "{pattern} on {text}");
    }
    for condition in ["ds not like 'c++.*'", "not ds like 'c++.*'", "not (ds like 'c++.*' and ds = ds)"] {
        let condition = condition.replace("ds = ds", "1 = 1");
        assert!(like(&condition, "ccc"), "{condition}: it is no text that begins with c++");
        assert!(!like(&condition, "c++"), "{condition}: it is one however it is read");
        assert!(like("ds not like '[x].*'", "[x]y"), "it is none of the expression's");
        assert!(!like("ds not like 'a.*'", "ab"));
    }
    // What is too long to be looked at lets all through, also under NOT.
    let long = "(".repeat(100) + &"a".repeat(5_000);
    assert!(like(&format!("ds like '{long}'"), "x") && like(&format!("ds not like '{long}'"), "x"));
}

#[tokio::test]
async fn work_is_bounded() {
    let list = (0..50_000).map(|n| format!("'{n}'")).collect::<Vec<_>>().join(",");
    let filter = parse(&format!("k in ({list}) and ds in ({list})")).unwrap();
    let mut work = Work::default();
    for n in 0..100_000 {
        let text = n.to_string();
        assert_eq!(filter.matches(&[Some(&text), Some(&text), None, None], &mut work), n < 50_000);
        work.go_on().await.unwrap();
    }
    let rows = (0..20_000).map(|n| format!("struct('{n}', {n})")).collect::<Vec<_>>().join(",");
    let filter = parse(&format!("(struct(ds, k)) in ({rows})")).unwrap();
    let mut work = Work { done: WORK_MAX - 10_000, shared_at: 0 };
    filter.matches(&[Some("x"), Some("1"), None, None], &mut work);
    assert!(work.go_on().await.unwrap_err().contains("comparisons"));
}

#[test]
fn text_keys_narrow_the_search() {
    let narrowed = |text: &str| {
        let mut values = parse(text).unwrap().for_store().values;
        values.iter_mut().flatten().for_each(|texts| texts.sort_unstable());
        values
    };
    let strings = |texts: &[&str]| Some(texts.iter().map(ToString::to_string).collect());
    assert_eq!(narrowed("ds = '1' and k = 1"), [strings(&["1"]), None, None, None]);
    assert_eq!(narrowed("(k > 0 and (ds) in ('1', '2')) and ds = '2'"), [strings(&["2"]), None, None, None]);
    assert_eq!(narrowed("ds in ('2', '1', '2')"), [strings(&["1", "2"]), None, None, None]);
    assert_eq!(narrowed("ds = '1' or k = 1"), [None, None, None, None]);
    assert_eq!(narrowed("ds > '1' and d = '2024-01-01'"), [None, None, None, None]);
}

/// What is refused may be megabytes long; what is said of it is not.
#[test]
fn errors_are_short() {
    const BYTES_MAX: usize = 4_000;
    let long = "\u{1}".repeat(100_000);
    let name = "n".repeat(100_000);
    for text in [
        format!("k in '{long}'"),
        format!("k '{long}'"),
        format!("k = 1 '{long}'"),
        format!("k = 1 {name}"),
        format!("{name} = 1"),
        format!("'{long}"),
        format!("k = '{long}' ~"),
    ] {
        let error = parse(&text).unwrap_err();
        assert!(error.len() <= BYTES_MAX, "{} bytes: {}", error.len(), &error[..200]);
    }
}

/// Parentheses are looked at once, however many there are: these were counted anew for each one.
#[test]
fn parentheses_take_no_time() {
    const ENOUGH: std::time::Duration = std::time::Duration::from_secs(5);
    let many = "(".repeat(TEXT_BYTES_MAX);
    let half = "(".repeat(TEXT_BYTES_MAX / 2 - 8);
    for text in [many, format!("{half}k{}=1", ")".repeat(half.len())), format!("k in ({half}")] {
        let started = tereza_runtime::clock::now();
        drop(parse(&text));
        assert!(started.elapsed() < ENOUGH, "{:?} for {}…", started.elapsed(), &text[..10]);
    }
}

/// Pieces of filters, from which nonsense is made that looks like one.
const PIECES: &str = r#"(ds|k|d|x|nokey|=|!=|<=|>|\(|\)|,|and|or|not|in|between|like|is|null|true|struct|const|date|'a'|"1"|'\\|`ds`|-?[0-9.]{1,4}|2024-01-01|é|~) ?"#;

proptest! {
    #[test]
    fn nothing_that_clients_send_breaks_it(pieces in prop::collection::vec(PIECES, 0..12), noise in ".{0,20}") {
        for text in [pieces.concat(), noise.clone(), format!("{}{noise}", pieces.concat())] {
            if let Ok(filter) = parse(&text) {
                filter.matches(&[Some("1"), None, Some("2024-01-01"), Some("x")], &mut Work::default());
                filter.for_store();
            }
            Pattern::of_names(&text).matches("some_table");
            Pattern::regex_with_case(&text).matches(&noise);
        }
    }

    #[test]
    fn patterns_of_any_form_end(pattern in r"[ab.*+?|()\[\]\\^$dwQE-]{0,30}", text in "[ab]{0,30}") {
        Pattern::of_names(&pattern).matches(&text);
        Pattern::regex(&pattern).matches(&text);
    }

    /// A pattern that is plain text is that text.
    #[test]
    fn plain_text_matches_itself(text in "[a-z0-9_]{0,20}", other in "[a-z0-9_]{0,20}") {
        assert!(Pattern::of_names(&text).matches(&text));
        assert_eq!(Pattern::regex(&text).matches(&other), text == other);
        let begins = format!("{text}*");
        assert_eq!(Pattern::of_names(&begins).matches(&other), other.starts_with(&text));
    }
}
