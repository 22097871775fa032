use super::super::statement::{FlinkStatement, parse};
use super::*;

fn like(options: &str) -> Result<Like> {
    match parse(&format!("CREATE TABLE t LIKE b {options}"))? {
        FlinkStatement::CreateTable(create) => Ok(create.like.expect("LIKE")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn strategies_have_defaults() {
    let plain = like("").expect("LIKE");
    assert_eq!(plain.strategy(Feature::Options), Strategy::Overwriting);
    assert_eq!(plain.strategy(Feature::Generated), Strategy::Including);
    let mixed = like("(EXCLUDING ALL OVERWRITING WATERMARKS INCLUDING OPTIONS)").expect("LIKE");
    assert_eq!(mixed.strategy(Feature::Watermarks), Strategy::Overwriting);
    assert_eq!(mixed.strategy(Feature::Options), Strategy::Including);
    assert_eq!(mixed.strategy(Feature::Metadata), Strategy::Excluding);
}

#[test]
fn what_is_wrong_is_said_where_it_is() {
    for (options, expected) in [
        (
            "(INCLUDING OPTION)",
            "expected ALL, CONSTRAINTS, DISTRIBUTION, GENERATED, METADATA, OPTIONS, PARTITIONS or \
           WATERMARKS, found OPTION (line 1, column 34); did you mean OPTIONS?",
        ),
        (
            "(EXCLUDNG ALL)",
            "expected INCLUDING, EXCLUDING or OVERWRITING, found EXCLUDNG (line 1, column 24); did you mean EXCLUDING?",
        ),
        ("()", "expected INCLUDING, EXCLUDING or OVERWRITING, found ) (line 1, column 24)"),
        ("(OVERWRITING ALL)", "OVERWRITING does not go with ALL (line 1, column 36)"),
        ("(INCLUDING ALL EXCLUDING ALL)", "ALL is twice in LIKE (line 1, column 48)"),
    ] {
        assert_eq!(like(options).expect_err(options).to_string(), expected);
    }
}

#[test]
fn what_both_have_is_refused_with_the_way_out() {
    let key =
        |name: &str| StreamTable { options: BTreeMap::from([(name.into(), "1".into())]), ..StreamTable::default() };
    let error = key("k").like(&key("k"), &like("(INCLUDING OPTIONS)").expect("LIKE")).expect_err("both");
    assert_eq!(
        error.to_string(),
        "the table that LIKE names has option 'k' already; write EXCLUDING OPTIONS or OVERWRITING OPTIONS"
    );
}
