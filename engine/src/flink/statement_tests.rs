use proptest::prelude::{any, prop, proptest};
use tereza_runtime::ErrorKind;

use super::super::reader::DEPTH_MAX;
use super::*;

/// Statements that Flink takes and Tereza refuses as not supported, by their first words.
const UNSUPPORTED: [&str; 18] = [
    "ADD JAR",
    "ALTER TABLE",
    "ANALYZE TABLE",
    "CALL",
    "CREATE CATALOG",
    "CREATE FUNCTION",
    "CREATE MATERIALIZED TABLE",
    "CREATE OR REPLACE",
    "CREATE TEMPORARY SYSTEM FUNCTION",
    "DELETE",
    "DESCRIBE CATALOG",
    "LOAD MODULE",
    "SHOW FUNCTIONS",
    "SHOW PARTITIONS",
    "TRUNCATE TABLE",
    "UPDATE",
    "USE MODULES",
    "EXPLAIN CREATE TABLE",
];

/// What Flink's parser takes and Flink refuses later.
const REFUSED_AT_ONCE: [&str; 1] = ["CREATE TABLE a.b.c.d (a INT)"];

#[test]
fn statements_are_taken_as_flink_takes_them() {
    let (mut taken, mut refused, mut wrong) = (0, 0, Vec::new());
    for block in include_str!("recorded/statements.txt").split("\n\n").filter(|block| !block.trim().is_empty()) {
        let (sql, answer) = block.trim().rsplit_once("\n= ").expect("a statement and an answer");
        let parsed = parse(sql);
        if answer == "ok" && UNSUPPORTED.iter().any(|words| sql.starts_with(words)) {
            let error = parsed.expect_err(sql);
            let first = sql.split(' ').next().expect("a word");
            assert!(error.kind() == ErrorKind::Unsupported && error.message().contains(first), "{sql}: {error}");
            continue;
        }
        match parsed {
            Ok(_) if answer == "ok" => taken += 1,
            Err(_) if answer == "error" || REFUSED_AT_ONCE.contains(&sql) => refused += 1,
            Ok(_) => wrong.push(format!("{sql} is taken")),
            Err(error) => wrong.push(error.render(sql)),
        }
    }
    assert_eq!(wrong.join("\n"), "");
    assert_eq!((taken, refused), (110, 34));
}

fn text_of(query: &FlinkQuery) -> &str {
    &query.text
}

#[test]
fn inserts_are_read() {
    let FlinkStatement::Insert(insert) = parse(
        "insert into c.d.t /* to */ /*+ OPTIONS('sink.parallelism' = '2') */ partition (dt = DATE '2024-01-01', n = -1, ok = TRUE) \
         (a, r.b) SELECT a, b FROM s /*+ OPTIONS('x' = 'y') */ ;",
    )
    .expect("an INSERT") else {
        panic!("no INSERT")
    };
    assert_eq!(insert.table, ["c", "d", "t"]);
    assert_eq!(insert.options.get("sink.parallelism").map(String::as_str), Some("2"));
    let pair = |column: &str, value: &str| (column.to_owned(), value.to_owned());
    assert_eq!(insert.partition, [pair("dt", "2024-01-01"), pair("n", "-1"), pair("ok", "true")]);
    assert_eq!(insert.columns, ["a", "r.b"]);
    assert_eq!(text_of(&insert.query), "SELECT a, b FROM s /*+ OPTIONS('x' = 'y') */");
    assert_eq!(insert.query.hints.len(), 1);
    let FlinkStatement::Insert(plain) = parse("INSERT OVERWRITE t (SELECT 1)").expect("an INSERT") else { panic!() };
    assert!(plain.overwrite && plain.columns.is_empty() && plain.options.is_empty());
}

#[test]
fn other_statements_are_read() {
    let read = |sql: &str| format!("{:?}", parse(sql).unwrap_or_else(|error| panic!("{sql}: {error}")));
    for (sql, expected) in [
        ("SET", "ShowSettings"),
        ("SET 'a' = 'it''s'", "Set { key: \"a\", value: \"it's\" }"),
        ("RESET", "Reset { key: None }"),
        ("reset 'a';", "Reset { key: Some(\"a\") }"),
        ("BEGIN STATEMENT SET;", "BeginStatementSet"),
        ("END", "End"),
        ("SHOW JOBS", "Show(Jobs)"),
        ("SHOW CURRENT CATALOG", "Show(CurrentCatalog)"),
        (
            "SHOW TABLES IN a.b NOT ILIKE 'x%'",
            "Show(Tables([\"a\", \"b\"], Some(Pattern { negated: true, ignore_case: true, pattern: \"x%\" })))",
        ),
        ("STOP JOB 'j' WITH SAVEPOINT WITH DRAIN", "StopJob(StopJob { id: \"j\", savepoint: true, drain: true })"),
        ("STOP JOB 'j'", "StopJob(StopJob { id: \"j\", savepoint: false, drain: false })"),
        ("DESC EXTENDED `job`", "Describe(Table { name: [\"job\"], extended: true })"),
        ("DESCRIBE JOB 'x'", "Describe(Job(\"x\"))"),
        ("DESCRIBE job", "Describe(Table { name: [\"job\"], extended: false })"),
        ("USE CATALOG c", "UseCatalog(\"c\")"),
        ("USE c.d", "UseDatabase([\"c\", \"d\"])"),
        (
            "DROP DATABASE IF EXISTS d CASCADE",
            "Drop(Drop { kind: Database, name: [\"d\"], temporary: false, if_exists: true, cascade: true })",
        ),
        (
            "CREATE DATABASE d COMMENT 'x' WITH ('k' = 'v')",
            "CreateDatabase(CreateDatabase { name: [\"d\"], if_not_exists: false, comment: Some(\"x\"), options: {\"k\": \"v\"} })",
        ),
    ] {
        assert_eq!(read(sql), expected, "{sql}");
    }
    let FlinkStatement::StatementSet(inserts) = parse(
        "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT CASE WHEN x THEN 1 END FROM s; INSERT INTO b SELECT 2; END;",
    )
    .expect("a set") else {
        panic!("no set")
    };
    assert_eq!(
        inserts.iter().map(|insert| text_of(&insert.query)).collect::<Vec<_>>(),
        ["SELECT CASE WHEN x THEN 1 END FROM s", "SELECT 2"]
    );
    let FlinkStatement::Explain(explain) =
        parse("EXPLAIN CHANGELOG_MODE, PLAN_ADVICE INSERT INTO a SELECT 1").expect("explains")
    else {
        panic!("no EXPLAIN")
    };
    assert_eq!(explain.details, [ExplainDetail::ChangelogMode, ExplainDetail::PlanAdvice]);
    assert!(matches!(*explain.statement, FlinkStatement::Insert(_)));
}

#[test]
fn what_is_wrong_is_said_where_it_is() {
    for (sql, expected) in [
        ("SELEC 1", "expected a statement, found SELEC (line 1, column 1); did you mean SELECT?"),
        (
            "CREATE TABL t (a INT)",
            "expected TABLE, VIEW or DATABASE, found TABL (line 1, column 8); did you mean TABLE?",
        ),
        ("CREATE CATALOG c WITH ('type' = 'hive')", "not supported: CREATE CATALOG (line 1, column 8)"),
        ("STOP JOB 'a' WITH DRAIN", "WITH DRAIN stands after WITH SAVEPOINT (line 1, column 14)"),
        ("SET a = b", "expected a text in single quotes, found a (line 1, column 5); write SET 'key' = 'value'"),
        (
            "SHOW TABLS",
            "expected CATALOGS, COLUMNS, CREATE TABLE, CREATE VIEW, CURRENT, DATABASES, JOBS, TABLES or VIEWS, found TABLS (line 1, column 6); did you mean TABLES?",
        ),
        (
            "INSERT INTO t SELEKT 1",
            "expected PARTITION, SELECT, VALUES, WITH or a list of columns, found SELEKT (line 1, column 15); did you mean SELECT?",
        ),
        (
            "SELECT a FORM t",
            "expected the end of the statement, found t (line 1, column 15); did you mean FROM instead of 'FORM'?",
        ),
        (
            "SELECT 'a",
            "unterminated string literal (line 1, column 8); close the quote; a quote inside a text is written twice",
        ),
        ("SELECT 1; SELECT 2", "the text has more than one statement (line 1, column 11); send them one at a time"),
        ("", "the statement is empty"),
        (
            "EXECUTE STATEMENT SET BEGIN INSERT INTO a SELECT 1; ENDE",
            "expected INSERT or END, found ENDE (line 1, column 53); did you mean END?",
        ),
    ] {
        assert_eq!(parse(sql).expect_err(sql).to_string(), expected);
    }
}

#[test]
fn deep_statements_are_refused() {
    let many = 100_000;
    for sql in [
        format!("SELECT {}1{}", "(".repeat(many), ")".repeat(many)),
        format!("SELECT * FROM {}t{}", "(".repeat(DEPTH_MAX), ")".repeat(DEPTH_MAX)),
        format!("SELECT {}1", "NOT ".repeat(many)),
        format!("SELECT {}1", "- ".repeat(many)),
        format!("SELECT {}1", "1 + ".repeat(many)),
        format!("SELECT {}1{}", "ARRAY[".repeat(many), "]".repeat(many)),
        format!("SELECT {}1{}", "CASE WHEN 1 THEN ".repeat(many), " END".repeat(many)),
        format!("SELECT {}a AS INT{}", "CAST(".repeat(many), ")".repeat(many)),
        format!("SELECT CAST(a AS {}", "ARRAY<".repeat(many)),
        format!("CREATE TABLE t (a AS {}1{})", "(".repeat(many), ")".repeat(many)),
        format!("SELECT 1 {}", "UNION SELECT 1 ".repeat(many)),
        "EXPLAIN ".repeat(many),
        format!("SELECT * FROM {}(SELECT 1) a JOIN b{}", "(".repeat(many), ") JOIN c".repeat(many)),
        format!("SELECT * FROM {}t{}", "(SELECT * FROM ".repeat(many), ")".repeat(many)),
    ] {
        let error = parse(&sql).expect_err("too deep");
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
    }
    for levels in [1, 10, 20, 30] {
        let joins = ("(".repeat(levels), "(SELECT 1) a JOIN b ON TRUE", ") JOIN c ON TRUE".repeat(levels));
        let selects = ("(SELECT * FROM ".repeat(levels / 3), "t", ")".repeat(levels / 3));
        for (begin, inner, end) in [joins, selects] {
            let sql = format!("SELECT * FROM {begin}{inner}{end}");
            assert!(parse(&sql).is_ok(), "{sql}");
        }
    }
    let wide = format!("SELECT * FROM t{}", " JOIN u ON TRUE".repeat(2000));
    assert!(parse(&wide).is_ok());
    assert!(parse(&format!("SELECT 1{}", " + 1".repeat(4000))).is_ok());
    let large = format!("SELECT '{}'", "a".repeat(super::super::TEXT_BYTES_MAX));
    assert!(parse(&large).expect_err("too long").message().contains("bytes"));
}

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>()) {
        let _ = parse(&text);
        let _ = super::super::parse_script(&text);
    }

    #[test]
    fn no_words_panic(words in prop::collection::vec(prop::sample::select(vec![
        "CREATE", "TABLE", "TEMPORARY", "VIEW", "t", "a.b", "(", ")", ",", "INT", "ROW<", ">", ">>", "WATERMARK", "FOR", "AS", "METADATA",
        "FROM", "'k'", "=", "WITH", "LIKE", "INCLUDING", "ALL", "PRIMARY", "KEY", "NOT", "ENFORCED", "SELECT", "*", "1", "+", "INTERVAL",
        "SECOND", ";", "INSERT", "INTO", "/*+ OPTIONS('a'='b') */", "/*+ x", "EXECUTE", "STATEMENT", "SET", "BEGIN", "END", "SHOW", "STOP",
        "JOB", "EXPLAIN", "DESCRIBE", "`", "``", "ü", "--x\n", "PARTITIONED", "BY", "DISTRIBUTED", "HASH", "CAST", "MAP[", "]", "TABLE(",
        "DESCRIPTOR", "=>", "COMMENT", "CONSTRAINT", "DROP", "USE", "RESET",
    ]), 0..32)) {
        let text = words.join(" ");
        let _ = parse(&text);
        let _ = super::super::parse_script(&text);
    }
}
