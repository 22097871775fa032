use tereza_runtime::Location;

use super::super::statement::{FlinkStatement, parse};
use super::*;

fn hints_of(sql: &str) -> Vec<Hint> {
    match parse(sql).expect(sql) {
        FlinkStatement::Query(query) => query.hints,
        other => panic!("{sql} is no query: {other:?}"),
    }
}

fn at(line: u64, column: u64) -> Location {
    Location { line, column }
}

#[test]
fn hints_are_kept_with_what_they_stand_after() {
    let hints = hints_of(
        "SELECT /*+ STATE_TTL('a' = '1d', b = '2d'), broadcast(a, b) */ *\nFROM c.d.`t x` /* no hint */ /*+ OPTIONS('k'='v''w') */ AS a\n\
         JOIN u /*+ OPTIONS('k' = '1', 'l' = '2') */ ON TRUE",
    );
    let pair = |key: &str, value: Option<&str>| (key.to_owned(), value.map(str::to_owned));
    let target = |name: &[&str], place| HintTarget::Table(name.iter().map(|part| (*part).to_owned()).collect(), place);
    let hint = |name: &str, arguments, target| Hint { name: name.to_owned(), arguments, target };
    assert_eq!(
        hints,
        [
            hint("STATE_TTL", vec![pair("a", Some("1d")), pair("b", Some("2d"))], HintTarget::Select(at(1, 1))),
            hint("BROADCAST", vec![pair("a", None), pair("b", None)], HintTarget::Select(at(1, 1))),
            hint("OPTIONS", vec![pair("k", Some("v'w"))], target(&["c", "d", "t x"], at(2, 6))),
            hint("OPTIONS", vec![pair("k", Some("1")), pair("l", Some("2"))], target(&["u"], at(3, 6))),
        ]
    );
    assert_eq!(hints[3].options().expect("options").into_iter().collect::<Vec<_>>().len(), 2);
    assert_eq!(hints[1].options().expect_err("no values").location(), Some(at(1, 1)));
}

#[test]
fn what_is_no_hint_is_a_comment() {
    assert_eq!(hints_of("SELECT /* + OPTIONS('a') */ 1 -- + x\n"), []);
}

#[test]
fn hints_that_are_not_understood_are_refused_at_their_place() {
    for sql in [
        "SELECT a FROM t /*+ OPTIONS('k' = ) */",
        "SELECT a FROM t /*+ OPTIONS('k' */",
        "SELECT a FROM t /*+ ('k' = 'v') */",
        "SELECT a FROM t /*+ OPTIONS('k' = 'v) */",
        "SELECT a + /*+ X */ 1 FROM t",
        "SELECT a FROM t /*+ OPTIONS('k' = 1) */",
        "INSERT INTO t (a) /*+ OPTIONS('k' = 'v') */ SELECT 1",
        "CREATE TABLE t (a INT, b AS a /*+ X */)",
        "CREATE TABLE t (a INT) /*+ OPTIONS('k' = 'v') */",
    ] {
        let error = parse(sql).expect_err(sql);
        assert!(error.location().is_some_and(|place| place.line == 1 && place.column > 7), "{sql}: {error}");
    }
}
