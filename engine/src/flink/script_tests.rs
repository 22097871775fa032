use proptest::prelude::{prop, prop_assert_eq, proptest};

use super::*;

fn texts(script: &str) -> Vec<String> {
    split(script).expect(script).into_iter().map(|piece| piece.text).collect()
}

#[test]
fn semicolons_part_statements() {
    assert_eq!(texts("SELECT 1; ; SELECT ';' -- a;b\n, 2;\n/* ; */"), ["SELECT 1", "SELECT ';' -- a;b\n, 2"]);
    assert_eq!(texts(" -- nothing\n;;"), Vec::<String>::new());
    let set = "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT CASE WHEN x THEN 1 END; INSERT INTO b SELECT 2; END";
    assert_eq!(texts(&format!("SET 'a' = 'b'; {set}; SELECT 1")), ["SET 'a' = 'b'", set, "SELECT 1"]);
    assert_eq!(
        texts("BEGIN STATEMENT SET; INSERT INTO a SELECT 1; END;"),
        ["BEGIN STATEMENT SET", "INSERT INTO a SELECT 1", "END"]
    );
}

#[test]
fn places_are_those_of_the_script() {
    let script = "SELECT 1;\n\n  CREATE TABLE t (\n  a STRNG);  SELEC 2";
    let pieces = split(script).expect("splits");
    let places: Vec<(u64, u64)> = pieces.iter().map(|piece| (piece.place.line, piece.place.column)).collect();
    assert_eq!(places, [(1, 1), (3, 3), (4, 14)]);
    assert_eq!(pieces[1].parse().expect_err("a type").location(), Some(Location { line: 4, column: 5 }));
    assert_eq!(pieces[2].parse().expect_err("a word").location(), Some(Location { line: 4, column: 14 }));
    let error = split("SELECT 1;\n SELECT 'a").expect_err("not closed");
    assert_eq!(error.location(), Some(Location { line: 2, column: 9 }));
}

#[test]
fn statement_sets_are_gathered() {
    let script =
        "SET 'a' = 'b';\nBEGIN STATEMENT SET;\nINSERT INTO a SELECT 1;\nINSERT INTO b SELECT 2;\nEND;\nSHOW JOBS";
    let statements = parse_script(script).expect("a script");
    assert_eq!(statements.len(), 3);
    assert_eq!(statements[1].0, Location { line: 2, column: 1 });
    assert!(matches!(&statements[1].1, FlinkStatement::StatementSet(inserts) if inserts.len() == 2));
    for (script, expected) in [
        (
            "BEGIN STATEMENT SET;\nSELECT 1;\nEND",
            "a statement set has INSERTs only, and ends with END (line 2, column 1)",
        ),
        ("SELECT 1;\nEND", "END without BEGIN STATEMENT SET (line 2, column 1)"),
        ("BEGIN STATEMENT SET; END", "the statement set has no INSERT (line 1, column 22)"),
        (
            "SELECT 1; BEGIN STATEMENT SET; INSERT INTO a SELECT 1",
            "the statement set does not end: expected END (line 1, column 11)",
        ),
    ] {
        assert_eq!(parse_script(script).expect_err(script).to_string(), expected);
    }
}

#[test]
fn a_script_has_a_bound_of_statements() {
    assert!(split(&"SELECT 1;".repeat(STATEMENTS_MAX)).is_ok());
    assert!(split(&"SELECT 1;".repeat(STATEMENTS_MAX + 1)).is_err());
}

proptest! {
    #[test]
    fn pieces_are_where_they_say(pieces in prop::collection::vec(prop::sample::select(vec![
        "SELECT 1", "SELECT ';ü'", "SELECT `;`", "SET 'a' = 'b'", "SELECT 2 -- ;\n", "/* ; */ SELECT 3",
        "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; END",
    ]), 0..12)) {
        let script = pieces.join(";\n ü;") + ";";
        let lines: Vec<&str> = script.split('\n').collect();
        for piece in split(&script).expect("every piece is closed") {
            let line = lines[usize::try_from(piece.place.line).expect("small") - 1];
            let from: String = line.chars().skip(usize::try_from(piece.place.column).expect("small") - 1).collect();
            let first = piece.text.split('\n').next().unwrap_or_default();
            prop_assert_eq!(&from[..first.len()], first);
        }
    }
}
