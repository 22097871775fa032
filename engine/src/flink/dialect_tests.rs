use datafusion::sql::sqlparser::ast::{SetExpr, TableFactor};
use tereza_runtime::ErrorKind;

use super::super::reader::parse_expression;
use super::super::statement::{FlinkStatement, parse};
use super::*;

/// Each section of a file of `-- @name` sections.
pub(in crate::flink) fn sections(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split("-- @").skip(1).map(|section| section.split_once('\n').expect("a name and a text"))
}

#[test]
fn every_query_of_nexmark_is_read() {
    let (mut queries, mut tables) = (Vec::new(), 0);
    for (name, sql) in sections(include_str!("recorded/nexmark.sql")) {
        match parse(sql.trim()).unwrap_or_else(|error| panic!("{name}: {error}")) {
            FlinkStatement::Query(_) => queries.push(name),
            FlinkStatement::CreateTable(create) => {
                assert!(create.temporary && create.table.watermark.is_some(), "{name}");
                tables += 1;
            }
            other => panic!("{name}: {other:?}"),
        }
    }
    queries.sort_by_key(|name| name[1..].trim_end_matches('t').parse::<u32>().expect("a number"));
    let all: Vec<String> = (0..=23).map(|n| format!("q{n}")).collect();
    queries.retain(|name| *name != "q19t");
    assert_eq!((queries, tables), (all.iter().map(String::as_str).collect(), 3));
}

/// The arguments of the function in `FROM TABLE(…)`.
fn arguments(sql: &str) -> Vec<FunctionArg> {
    let Ok(FlinkStatement::Query(query)) = parse(sql) else { panic!("{sql} is not read") };
    let SetExpr::Select(select) = *query.query.body else { panic!("{sql} is no SELECT") };
    match select.from.into_iter().next().expect("a table").relation {
        TableFactor::TableFunction {
            expr: Expr::Function(Function { args: FunctionArguments::List(list), .. }),
            ..
        } => list.args,
        other => panic!("{other:?} is no function"),
    }
}

#[test]
fn tables_are_arguments() {
    let arguments = arguments(
        "SELECT * FROM TABLE(f(TABLE c.d.t PARTITION BY (a, b) ORDER BY ts, DATA => TABLE `x y`, DESCRIPTOR(ts)))",
    );
    let tables: Vec<Option<TableArgument<'_>>> = arguments
        .iter()
        .map(|argument| match argument {
            FunctionArg::Unnamed(FunctionArgExpr::Expr(expr)) => table_argument(expr),
            FunctionArg::Named { arg: FunctionArgExpr::Expr(expr), .. } => table_argument(expr),
            other => panic!("{other}"),
        })
        .collect();
    let name =
        |table: TableArgument<'_>| table.name.iter().map(|part| part.value.clone()).collect::<Vec<_>>().join("/");
    let [Some(first), Some(second), None] = tables[..] else { panic!("{tables:?}") };
    assert_eq!([name(first), name(second)], ["c/d/t", "x y"]);
    assert_eq!((first.partition_by.len(), first.order_by.len()), (2, 1));
    assert_eq!((second.partition_by.len(), second.order_by.len()), (0, 0));
    assert!(matches!(&arguments[1], FunctionArg::Named { name, .. } if name.value == "DATA"));
}

#[test]
fn only_a_table_argument_is_one() {
    for text in ["`TABLE`(a)", "f(a)", "a", "`TABLE`(a) OVER (PARTITION BY b)"] {
        assert_eq!(table_argument(&parse_expression(text).expect(text)), None, "{text}");
    }
    for sql in
        ["SELECT TABLE(a) FROM t", "SELECT * FROM TABLE(f(TABLE (SELECT 1), 1))", "SELECT * FROM TABLE(f(TABLE 'a'))"]
    {
        assert!(parse(sql).is_err(), "{sql}");
    }
}

#[test]
fn casts_have_flinks_types() {
    for (text, expected) in [
        ("CAST(a AS STRING)", "CAST(a AS STRING)"),
        ("CAST(a AS BYTES)", "CAST(a AS BYTEA)"),
        (
            "cast(a as row<x int not null, y array<row<z string>>>)",
            "CAST(a AS STRUCT<`x` INT, `y` ARRAY<STRUCT<`z` STRING>>>)",
        ),
        ("TRY_CAST(a AS TIMESTAMP_LTZ(3))", "TRY_CAST(a AS TIMESTAMP(3) WITH TIME ZONE)"),
        ("CAST(a AS MAP<INT, DECIMAL(5, 2)>)", "CAST(a AS Map(INT, DECIMAL(5,2)))"),
        ("CAST(a AS INTERVAL DAY TO SECOND)", "CAST(a AS INTERVAL DAY TO SECOND)"),
        ("MAP['a', 1, 'b', 2]", "MAP('a', 1, 'b', 2)"),
    ] {
        assert_eq!(parse_expression(text).expect(text).to_string(), expected);
    }
    let error = parse_expression("1 + CAST(a AS VARIANT)").expect_err("not supported");
    assert_eq!((error.kind(), error.message()), (ErrorKind::Unsupported, "type VARIANT"));
    assert!(parse_expression("MAP['a', 1, 'b']").is_err());
}
