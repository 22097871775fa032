//! Hive's forms of INSERT in DataFusion's words: `PARTITION (k = 'v', k2)` becomes columns and values.
//!
//! `INSERT INTO t PARTITION (ds = '1', k) SELECT a, k` is `INSERT INTO t (a, k, ds) SELECT *, '1' FROM (SELECT a, k)`:
//! the values of dynamic keys come last in the query, in the order of the clause, and static ones are constants.

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, Ident, Insert, ObjectName, Query, SetExpr, Statement as SqlStatement, TableFactor,
    TableObject, UnaryOperator, Value,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use tereza_catalog::model::Table;
use tereza_runtime::{Error, Result};

use super::errors;
use super::parse::{Scope, Text};
use crate::formats::spark;
use crate::session::Session;

/// Columns may come after the PARTITION clause (Hive, Spark) or before it; the parser takes them before it only.
pub(super) fn columns_first(tokens: &[TokenWithSpan]) -> Vec<TokenWithSpan> {
    let mut tokens = tokens.to_vec();
    if let Some((partition, columns)) = clauses(&tokens) {
        let moved: Vec<TokenWithSpan> = tokens.drain(columns).collect();
        tokens.splice(partition..partition, moved);
    }
    tokens
}

/// Where the PARTITION clause begins, and the list of columns after it, if there is one.
fn clauses(tokens: &[TokenWithSpan]) -> Option<(usize, std::ops::Range<usize>)> {
    let meaningful: Vec<usize> =
        (0..tokens.len()).filter(|at| !matches!(tokens[*at].token, Token::Whitespace(_))).collect();
    let is_word = |position: usize, words: &[&str]| match meaningful.get(position).map(|at| &tokens[*at].token) {
        Some(Token::Word(word)) => {
            word.quote_style.is_none() && words.iter().any(|known| word.value.eq_ignore_ascii_case(known))
        }
        _ => false,
    };
    let is = |position: usize, token: &Token| meaningful.get(position).is_some_and(|at| tokens[*at].token == *token);
    let close = |open: usize| {
        let mut depth = 0_usize;
        (open..meaningful.len()).find(|position| {
            depth = match &tokens[meaningful[*position]].token {
                Token::LParen => depth + 1,
                Token::RParen => depth.saturating_sub(1),
                _ => depth,
            };
            depth == 0
        })
    };
    let insert = (0..meaningful.len()).find(|position| is_word(*position, &["INSERT"]))?;
    let query = ["SELECT", "VALUES", "WITH", "FROM", "TABLE"];
    let partition = (insert..meaningful.len())
        .take_while(|position| !is_word(*position, &["SELECT", "VALUES", "WITH"]))
        .find(|position| is_word(*position, &["PARTITION"]) && is(position + 1, &Token::LParen))?;
    let open = close(partition + 1)? + 1;
    if !is(open, &Token::LParen) || is(open + 1, &Token::LParen) || is_word(open + 1, &query) {
        return None;
    }
    let end = close(open)?;
    (is_word(end + 1, &query) || is(end + 1, &Token::LParen))
        .then(|| (meaningful[partition], meaningful[open]..meaningful[end] + 1))
}

/// The statement with the PARTITION clause of its INSERT, if it has one, spelled out as columns.
pub(super) async fn rewrite(session: &Session, text: &Text, mut statement: Statement) -> Result<Statement> {
    let Some(insert) = insert_of(&mut statement) else { return Ok(statement) };
    let Some(clause) = insert.partitioned.take() else { return Ok(statement) };
    let TableObject::TableName(name) = &insert.table else {
        return Err(Error::unsupported("INSERT with PARTITION into something that is not a table"));
    };
    let name = text.scope.table(text.scope.parts(name)?)?;
    name.require_tereza("INSERT with PARTITION")?;
    let table = errors::table(session, &name).await?.table;
    let keys = clause.iter().map(|item| key(&text.scope, item)).collect::<Result<Vec<_>>>()?;
    check_keys(&table, &keys)?;
    spell_out(insert, &table, keys)?;
    Ok(statement)
}

fn insert_of(statement: &mut Statement) -> Option<&mut Insert> {
    match statement {
        Statement::Statement(statement) => match statement.as_mut() {
            SqlStatement::Insert(insert) => Some(insert),
            SqlStatement::Prepare { statement, .. } => match statement.as_mut() {
                SqlStatement::Insert(insert) => Some(insert),
                _ => None,
            },
            _ => None,
        },
        Statement::Explain(explain) => insert_of(&mut explain.statement),
        _ => None,
    }
}

/// One key of a PARTITION clause: its name, and its constant if it is static.
struct Key {
    name: String,
    value: Option<Expr>,
}

fn key(scope: &Scope, item: &Expr) -> Result<Key> {
    match item {
        Expr::Identifier(name) => Ok(Key { name: scope.identifier(name).to_lowercase(), value: None }),
        Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => match (left.as_ref(), constant(right)) {
            (Expr::Identifier(name), Some(value)) => {
                Ok(Key { name: scope.identifier(name).to_lowercase(), value: Some(value) })
            }
            _ => Err(Error::invalid_input(format!("'{item}' in PARTITION is not a key and a constant"))),
        },
        _ => Err(Error::invalid_input(format!("'{item}' in PARTITION is neither a key nor key = constant"))),
    }
}

/// The expression if it is a constant; Hive takes texts in double quotes too.
fn constant(value: &Expr) -> Option<Expr> {
    match value {
        Expr::Identifier(ident) if ident.quote_style == Some('"') => {
            Some(Expr::value(Value::SingleQuotedString(ident.value.clone())))
        }
        Expr::Value(_) | Expr::TypedString(_) => Some(value.clone()),
        Expr::UnaryOp { op: UnaryOperator::Minus | UnaryOperator::Plus, expr } if matches!(**expr, Expr::Value(_)) => {
            Some(value.clone())
        }
        Expr::Cast { expr, .. } if matches!(**expr, Expr::Value(_)) => Some(value.clone()),
        _ => None,
    }
}

fn check_keys(table: &Table, keys: &[Key]) -> Result<()> {
    let known = || table.partition_keys.iter().map(|column| column.name.as_str());
    for (position, key) in keys.iter().enumerate() {
        if !known().any(|name| name == key.name) {
            let error = Error::invalid_input(format!(
                "table {}.{} has no partition key '{}'",
                table.database, table.name, key.name
            ));
            return Err(errors::did_you_mean(error, &key.name, known()));
        }
        if keys[..position].iter().any(|other| other.name == key.name) {
            return Err(Error::invalid_input(format!("partition key '{}' is named twice", key.name)));
        }
    }
    match known().find(|name| !keys.iter().any(|key| key.name == *name)) {
        Some(missing) => Err(Error::invalid_input(format!("PARTITION does not name the key '{missing}'"))
            .with_hint("name every key: with a constant, or alone if its values come last in the query")),
        None => Ok(()),
    }
}

fn spell_out(insert: &mut Insert, table: &Table, keys: Vec<Key>) -> Result<()> {
    let name = |name: &str| ObjectName::from(vec![Ident::with_quote('"', name)]);
    if insert.columns.is_empty() {
        insert.columns = spark::columns(table)?.iter().map(|column| name(&column.name)).collect();
    }
    let named: Vec<String> =
        insert.columns.iter().map(|column| column.to_string().trim_matches('"').to_lowercase()).collect();
    let (dynamic, fixed): (Vec<Key>, Vec<Key>) = keys.into_iter().partition(|key| key.value.is_none());
    if let Some(key) = fixed.iter().find(|key| named.contains(&key.name)) {
        return Err(Error::invalid_input(format!("column '{}' has its value in PARTITION already", key.name)));
    }
    insert.columns.extend(dynamic.iter().filter(|key| !named.contains(&key.name)).map(|key| name(&key.name)));
    insert.columns.extend(fixed.iter().map(|key| name(&key.name)));
    let constants: Vec<Expr> = fixed.into_iter().filter_map(|key| key.value).collect();
    let Some(source) = insert.source.as_deref_mut() else {
        return Err(Error::unsupported("INSERT with PARTITION and without a query"));
    };
    if !constants.is_empty() {
        append(source, constants)?;
    }
    Ok(())
}

/// Appends constants to every row of a query.
fn append(source: &mut Query, constants: Vec<Expr>) -> Result<()> {
    // Values are extended in place, so that the types of placeholders in them still come from the table.
    if let SetExpr::Values(values) = source.body.as_mut() {
        for row in &mut values.rows {
            row.content.extend(constants.iter().cloned());
        }
        return Ok(());
    }
    let list: Vec<String> = constants.iter().map(ToString::to_string).collect();
    let wrapper = format!("SELECT *, {} FROM (SELECT 1) AS tereza_rows", list.join(", "));
    let mut statements = Parser::parse_sql(&GenericDialect {}, &wrapper)
        .map_err(|error| Error::invalid_input(format!("the constants of PARTITION cannot be read: {error}")))?;
    let Some(SqlStatement::Query(mut wrapper)) = statements.pop() else {
        return Err(Error::internal("the wrapper of an INSERT is not a query"));
    };
    if let SetExpr::Select(select) = wrapper.body.as_mut()
        && let Some(from) = select.from.first_mut()
        && let TableFactor::Derived { subquery, .. } = &mut from.relation
    {
        std::mem::swap(subquery.as_mut(), source);
        *source = *wrapper;
        return Ok(());
    }
    Err(Error::internal("the wrapper of an INSERT has no subquery"))
}

#[cfg(test)]
mod tests {
    use tereza_catalog::model::{Column, Parameters, Storage, TableKind};

    use super::super::parse::{Parsed, tests::scope};
    use super::*;

    fn column(name: &str) -> Column {
        Column { name: name.into(), type_name: "string".into(), comment: None }
    }

    fn table() -> Table {
        Table {
            database: "default".into(),
            name: "t".into(),
            kind: TableKind::Managed,
            owner: None,
            create_time_s: 0,
            last_access_time_s: 0,
            retention: 0,
            storage: Storage { columns: vec![column("a"), column("b")], ..Storage::default() },
            partition_keys: vec![column("ds"), column("k")],
            parameters: Parameters::new(),
            view_original_text: None,
            view_expanded_text: None,
            owner_kind: Default::default(),
        }
    }

    fn rewritten(sql: &str) -> Result<String> {
        let text = Text::new(sql, scope())?;
        let Parsed::DataFusion(mut statement) = text.parse()? else { panic!("{sql} is not DataFusion's") };
        let insert = insert_of(&mut statement).expect("an INSERT");
        let clause = insert.partitioned.take().expect("a PARTITION clause");
        let keys = clause.iter().map(|item| key(&text.scope, item)).collect::<Result<Vec<_>>>()?;
        check_keys(&table(), &keys)?;
        spell_out(insert, &table(), keys)?;
        Ok(statement.to_string())
    }

    #[test]
    fn static_keys_become_constants_after_the_query() {
        assert_eq!(
            rewritten("insert overwrite table t partition (ds = '1', k) select x, y, z from s").expect("rewrites"),
            "INSERT OVERWRITE TABLE t (\"a\", \"b\", \"k\", \"ds\") \
             SELECT *, '1' FROM (SELECT x, y, z FROM s) AS tereza_rows"
        );
    }

    #[test]
    fn values_are_extended_in_place() {
        assert_eq!(
            rewritten("insert into t partition (ds = \"1\", k = -2) values (?, 'b'), ('c', ?)").expect("rewrites"),
            "INSERT INTO t (\"a\", \"b\", \"ds\", \"k\") VALUES ($1, 'b', '1', -2), ('c', $2, '1', -2)"
        );
    }

    #[test]
    fn columns_may_come_before_or_after_the_clause() {
        let expected = "INSERT INTO t (b, \"ds\", \"k\") SELECT *, '1', '2' FROM (SELECT 'x') AS tereza_rows";
        assert_eq!(rewritten("insert into t partition (ds = '1', k = '2') (b) select 'x'").expect("after"), expected);
        assert_eq!(rewritten("insert into t (b) partition (ds = '1', k = '2') select 'x'").expect("before"), expected);
    }

    #[test]
    fn a_query_in_parentheses_is_no_list_of_columns() {
        let sql = "insert into t partition (ds = '1', k = '2') (select 'x', 'y')";
        assert!(rewritten(sql).expect("rewrites").contains("(\"a\", \"b\", \"ds\", \"k\")"));
    }

    #[test]
    fn keys_are_checked() {
        for (clause, message) in [
            ("ds = '1'", "does not name the key 'k'"),
            ("ds = '1', k = '2', ds", "named twice"),
            ("ds = '1', kk = '2'", "no partition key 'kk'"),
            ("ds = a, k", "not a key and a constant"),
        ] {
            let error = rewritten(&format!("insert into t partition ({clause}) select 1, 2")).expect_err("is refused");
            assert!(error.message().contains(message), "{error}");
        }
    }
}
