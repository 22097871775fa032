use tereza_runtime::ErrorKind;

use super::super::dialect::tests::sections;
use super::super::statement::{FlinkStatement, parse};
use super::super::{FlinkType, parse_expression, split, to_parameters};
use super::*;

fn create(sql: &str) -> Result<CreateTable> {
    match parse(sql)? {
        FlinkStatement::CreateTable(create) => Ok(*create),
        other => panic!("{sql}: {other:?}"),
    }
}

/// The table `t` that the statements of a section make.
fn table(statements: &str) -> Result<StreamTable> {
    let mut base: Option<StreamTable> = None;
    for piece in split(statements)? {
        let FlinkStatement::CreateTable(create) = piece.parse()? else { panic!("{} makes no table", piece.text) };
        base = Some(match (create.like, base) {
            (Some(like), Some(base)) => create.table.like(&base, &like)?,
            (Some(like), None) => panic!("{} is not there", like.table.join(".")),
            (None, _) => create.table,
        });
    }
    Ok(base.expect("a table"))
}

/// What Flink 2.3.0 keeps of the tables of each section, read from its own catalog.
pub(in crate::flink) fn recorded() -> impl Iterator<Item = (&'static str, String, Option<BTreeMap<String, String>>)> {
    sections(include_str!("recorded/tables.txt")).map(|(name, section)| {
        let (answers, statements): (Vec<&str>, Vec<&str>) = section.lines().partition(|line| line.starts_with("= "));
        let kept = answers.iter().map(|line| match line[2..].split_once(" = ") {
            Some((key, value)) => (key.to_owned(), value.replace("\\n", "\n").replace("\\\\", "\\")),
            None => (line[2..].to_owned(), String::new()),
        });
        let kept: BTreeMap<String, String> = kept.collect();
        (name, statements.join("\n"), (!kept.contains_key("error")).then_some(kept))
    })
}

/// An expression without what Flink adds to it when it plans it: quotes, and its own names of types and functions.
fn plain(expression: &str) -> String {
    let expression = parse_expression(expression).unwrap_or_else(|error| panic!("{expression}: {error}"));
    expression.to_string().replace('`', "")
}

/// What Tereza takes and Flink does not: columns of intervals, and reserved words as names where nothing else can be meant.
const MORE: [&str; 2] = ["interval_column", "watermark_column_name"];

#[test]
fn tables_are_kept_as_flink_keeps_them() {
    let (mut same, mut refused) = (0, 0);
    for (name, statements, flink) in recorded() {
        let table = table(&statements);
        let Some(flink) = flink else {
            assert!(table.is_err() != MORE.contains(&name), "{name}: {table:?}");
            refused += 1;
            continue;
        };
        let table = table.unwrap_or_else(|error| panic!("{name}: {}", error.render(&statements)));
        let mut ours = to_parameters(&table).unwrap_or_else(|error| panic!("{name}: {error}"));
        ours.remove("is_generic");
        let planned = |key: &str| {
            let of_column =
                key.strip_suffix(".data-type").is_some_and(|column| flink.contains_key(&format!("{column}.expr")));
            key == "schema.watermark.0.strategy.data-type" || of_column
        };
        let expected: BTreeMap<String, String> = (flink.iter().filter(|(key, _)| !planned(key)))
            .map(|(key, value)| {
                (format!("flink.{key}"), if key.ends_with("expr") { plain(value) } else { value.clone() })
            })
            .collect();
        for (key, value) in &mut ours {
            if key.ends_with("expr") {
                *value = plain(value);
            }
            // Flink loses the comments of fields between its parser and its catalog.
            *value = value.replace(" INT 'yes'", " INT");
        }
        assert_eq!(ours, expected, "{name}");
        same += 1;
    }
    assert_eq!((same, refused), (39, 47));
}

#[test]
fn what_is_printed_makes_the_same_table() {
    for (name, statements, flink) in recorded() {
        if flink.is_none() {
            continue;
        }
        let table = table(&statements).expect(name);
        let again = create(&format!("CREATE TABLE t {table}")).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(again.table, table, "{name}");
        let json = serde_json::to_string(&table).expect("json");
        assert_eq!(serde_json::from_str::<StreamTable>(&json).expect(&json), table, "{name}");
    }
}

#[test]
fn the_parts_of_a_statement_are_told_apart() {
    let all = create(
        "CREATE TEMPORARY TABLE IF NOT EXISTS c.`d e`.t (a INT, w AS a + 1) COMMENT 'x' WITH ('k' = 'v') AS SELECT 1 AS a -- end",
    )
    .expect("a table");
    assert!(all.temporary && all.if_not_exists);
    assert_eq!(all.name, ["c", "d e", "t"]);
    assert_eq!(all.query.expect("a query").text, "SELECT 1 AS a");
    assert_eq!(all.table.columns.len(), 2);
    let ordered = create("CREATE TABLE t (b, a) AS SELECT 1 AS a, 2 AS b").expect("a table");
    assert_eq!(ordered.query_columns, ["b", "a"]);
    let like = create("CREATE TABLE t LIKE c.d.b (EXCLUDING ALL INCLUDING OPTIONS)").expect("a table");
    assert_eq!(like.like.expect("LIKE").table, ["c", "d", "b"]);
}

#[test]
fn expressions_are_kept_as_they_are_written() {
    let table =
        create("CREATE TABLE t (a INT, b AS  ( a+ -- one\n 1 )  , c AS `a` COMMENT 'x')").expect("a table").table;
    let expression = |n: usize| match &table.columns[n].kind {
        ColumnKind::Computed { expression, .. } => expression.as_str(),
        kind => panic!("{kind:?}"),
    };
    assert_eq!([expression(1), expression(2)], ["( a+ -- one\n 1 )", "`a`"]);
}

#[test]
fn what_is_wrong_is_said_where_it_is() {
    for (sql, expected) in [
        ("CREATE TABLE t (\n  a INT,\n  b STRNG\n)", "unknown type 'STRNG' (line 3, column 5); did you mean 'STRING'?"),
        (
            "CREATE TABLE t (a INT) PARTITONED BY (a)",
            "expected COMMENT, DISTRIBUTED, PARTITIONED, WITH, LIKE, AS or the end of the statement, found PARTITONED \
             (line 1, column 24); did you mean PARTITIONED?",
        ),
        (
            "CREATE TABLE t (a INT METADTA)",
            "expected NOT NULL, METADATA, PRIMARY KEY, COMMENT, ',' or ')', found METADTA (line 1, column 23); \
             did you mean METADATA?",
        ),
        (
            "CREATE TABLE t (a INT METADATA VIRTAUL)",
            "expected FROM, VIRTUAL, COMMENT, ',' or ')', found VIRTAUL (line 1, column 32); did you mean VIRTUAL?",
        ),
        (
            "CREATE TABLE t (ts TIMESTAMP(6), WATERMARK FOR ts AS ts)",
            "the column of a watermark is TIMESTAMP(p) or TIMESTAMP_LTZ(p) with p from 0 to 3, and 'ts' is TIMESTAMP(6) \
             (line 1, column 54)",
        ),
        (
            "CREATE TABLE t (user_id INT, PRIMARY KEY (usr_id) NOT ENFORCED)",
            "column 'usr_id' of the primary key is not a column of the table (line 1, column 43); did you mean 'user_id'?",
        ),
        ("CREATE TABLE t (a INT, a INT)", "column 'a' is twice in the table (line 1, column 24)"),
        (
            "CREATE TABLE t (a INT, PRIMARY KEY (a))",
            "expected NOT ENFORCED, found ) (line 1, column 39); a stream's rows cannot be checked",
        ),
        (
            "CREATE TABLE t (a, b)",
            "column 'a' has no type (line 1, column 17); columns are without types if all are, and AS SELECT gives them",
        ),
        ("CREATE TABLE t (a INT) WITH ('k' = v)", "expected a text in single quotes, found v (line 1, column 36)"),
        (
            "CREATE TABLE t (a INT",
            "expected NOT NULL, METADATA, PRIMARY KEY, COMMENT, ',' or ')', found the end of the text (line 1, column 22)",
        ),
        ("CREATE TABLE a.b.c.d (a INT)", "the name has more than 3 parts (line 1, column 20)"),
        (
            "CREATE TABLE t (a INT, WATERMARK FOR a.b AS a.b)",
            "not supported: a watermark for a field of a row (line 1, column 39); name the field with a computed column",
        ),
        ("CREATE TABLE t (a INT, UNIQUE (a) NOT ENFORCED)", "not supported: UNIQUE (line 1, column 24)"),
        (
            "CREATE TABLE t (a INT, PRIMARY KEY (a) ENFORCED)",
            "not supported: PRIMARY KEY ENFORCED (line 1, column 40); write NOT ENFORCED",
        ),
    ] {
        assert_eq!(create(sql).expect_err(sql).to_string(), expected);
    }
}

#[test]
fn a_table_has_a_bound_of_columns() {
    let columns: Vec<String> = (0..=COLUMNS_MAX).map(|n| format!("c{n} INT")).collect();
    assert!(create(&format!("CREATE TABLE t ({})", columns[1..].join(", "))).is_ok());
    let error = create(&format!("CREATE TABLE t ({})", columns.join(", "))).expect_err("too many");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("at most"), "{error}");
}

#[test]
fn columns_tell_their_types() {
    let table = create("CREATE TABLE t (a INT, b AS a, c BIGINT METADATA)").expect("a table").table;
    let types: Vec<Option<String>> =
        table.columns.iter().map(|column| column.data_type().map(FlinkType::to_string)).collect();
    assert_eq!(types, [Some("INT".to_owned()), None, Some("BIGINT".to_owned())]);
}
