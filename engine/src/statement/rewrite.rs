//! Changes to a statement's tree that make it mean what SQL says it means, where DataFusion would answer otherwise.
//!
//! * A number with an exponent is a DOUBLE, while one with a point is a DECIMAL
//!   (`datafusion.sql_parser.parse_float_as_decimal`, which sessions have on: a price compared with a float is wrong).
//! * Two equal expressions in a SELECT list get different names, which DataFusion demands and SQL does not. So does a cast of
//!   what is in the list without it, or is ordered by: DataFusion takes both for the same.
//! * INTERSECT ALL and EXCEPT ALL are refused: DataFusion answers them as semi and anti joins, which keep too many or too
//!   few duplicates.

use std::collections::HashMap;
use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, ExactNumberInfo, Expr, Ident, OrderByKind, Query, Select, SelectItem, SetExpr, SetOperator,
    SetQuantifier, Value, VisitMut, VisitorMut,
};
use tereza_runtime::{Error, Result};

/// Rewrites a statement or query in place.
pub(crate) fn rewrite(tree: &mut impl VisitMut, floats_are_decimals: bool) -> Result<()> {
    match tree.visit(&mut Rewriter { floats_are_decimals }) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(error),
    }
}

/// Gives casts in a SELECT list that have no name their text as one, if what they cast is among `others`.
fn name_casts(select: &mut Select, others: &[Expr]) {
    for item in &mut select.projection {
        let SelectItem::UnnamedExpr(expression @ Expr::Cast { .. }) = item else { continue };
        let mut cast = &*expression;
        while let Expr::Cast { expr, .. } = cast {
            cast = expr;
        }
        if others.iter().any(|other| is_same(other, cast)) {
            let alias = Ident::with_quote('"', expression.to_string());
            *item = SelectItem::ExprWithAlias { expr: expression.clone(), alias };
        }
    }
}

/// Whether two expressions look alike; a column may be named with its table or without.
fn is_same(one: &Expr, other: &Expr) -> bool {
    let column = |expression: &Expr| match expression {
        Expr::Identifier(name) => Some(name.value.to_lowercase()),
        Expr::CompoundIdentifier(names) => names.last().map(|name| name.value.to_lowercase()),
        _ => None,
    };
    match (column(one), column(other)) {
        (Some(one), Some(other)) => one == other,
        (None, None) => one.to_string().eq_ignore_ascii_case(&other.to_string()),
        _ => false,
    }
}

struct Rewriter {
    floats_are_decimals: bool,
}

impl VisitorMut for Rewriter {
    type Break = Error;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Error> {
        // A chain of set operations leans to the left and may be long, so it is walked and not recursed into.
        let mut body = query.body.as_ref();
        while let SetExpr::SetOperation { op, set_quantifier, left, .. } = body {
            let is_all = matches!(set_quantifier, SetQuantifier::All | SetQuantifier::AllByName);
            if is_all && matches!(op, SetOperator::Intersect | SetOperator::Except | SetOperator::Minus) {
                return ControlFlow::Break(
                    Error::unsupported(format!("{op} ALL")).with_hint(format!("{op} without ALL works")),
                );
            }
            body = left;
        }
        let ordered: Vec<Expr> = match query.order_by.as_ref().map(|order| &order.kind) {
            Some(OrderByKind::Expressions(ordered)) => ordered.iter().map(|ordered| ordered.expr.clone()).collect(),
            _ => Vec::new(),
        };
        // DISTINCT orders by what is in the list alone.
        if let SetExpr::Select(select) = query.body.as_mut()
            && select.distinct.is_none()
        {
            name_casts(select, &ordered);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<Error> {
        let mut seen: HashMap<String, usize> = HashMap::new();
        for item in &mut select.projection {
            let SelectItem::UnnamedExpr(expression) = item else { continue };
            let text = expression.to_string();
            let count = seen.entry(text.to_lowercase()).or_default();
            if *count > 0 {
                let alias = Ident::with_quote('"', format!("{text}:{count}"));
                *item = SelectItem::ExprWithAlias { expr: expression.clone(), alias };
            }
            *count += 1;
        }
        let unnamed = |item: &SelectItem| match item {
            SelectItem::UnnamedExpr(expression) => Some(expression.clone()),
            _ => None,
        };
        let listed: Vec<Expr> = select.projection.iter().filter_map(unnamed).collect();
        name_casts(select, &listed);
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Error> {
        if self.floats_are_decimals
            && let Expr::Value(value) = expression
            && let Value::Number(digits, _) = &value.value
            && digits.contains(['e', 'E'])
        {
            let number = Value::SingleQuotedString(digits.clone()).with_span(value.span);
            *expression = Expr::Cast {
                kind: CastKind::Cast,
                expr: Box::new(Expr::Value(number)),
                data_type: DataType::Double(ExactNumberInfo::None),
                array: false,
                format: None,
            };
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use datafusion::sql::sqlparser::dialect::GenericDialect;
    use datafusion::sql::sqlparser::parser::Parser;

    use super::*;

    fn rewritten(sql: &str) -> Result<String> {
        let mut statement = Parser::parse_sql(&GenericDialect {}, sql).unwrap().remove(0);
        rewrite(&mut statement, true)?;
        Ok(statement.to_string())
    }

    #[test]
    fn equal_expressions_get_names() {
        let sql = rewritten("SELECT a, 1, 1, NULL, null FROM (SELECT count(*), count(*) FROM t)").unwrap();
        let wanted = r#"SELECT a, 1, 1 AS "1:1", NULL, NULL AS "NULL:1" FROM (SELECT count(*), count(*) AS "count(*):1" FROM t)"#;
        assert_eq!(sql, wanted);
    }

    #[test]
    fn an_exponent_makes_a_double() {
        assert_eq!(rewritten("SELECT 1.5, 1e300").unwrap(), "SELECT 1.5, CAST('1e300' AS DOUBLE)");
    }

    #[test]
    fn what_would_be_answered_wrongly_is_refused() {
        for sql in ["SELECT 1 EXCEPT ALL SELECT 1 UNION SELECT 2", "SELECT * FROM (SELECT 1 INTERSECT ALL SELECT 1)"] {
            assert_eq!(rewritten(sql).unwrap_err().kind(), tereza_runtime::ErrorKind::Unsupported, "{sql}");
        }
        assert!(rewritten("SELECT 1 UNION ALL SELECT 1").is_ok());
    }
}
