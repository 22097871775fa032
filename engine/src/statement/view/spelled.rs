//! A view's query for the readers of other systems: names in their quotes, texts with their escapes, types in their words, and
//! columns named as the view's are. Whether they have the functions that it calls is left to them.

use std::fmt::Write;
use std::ops::ControlFlow;

use arrow::datatypes::{DataType as ArrowType, FieldRef};
use datafusion::sql::sqlparser::ast::{
    CastKind, DataType, ExactNumberInfo, Expr, Ident, ObjectName, Query, SelectItem, SetExpr, Value, ValueWithSpan,
    VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::GenericDialect;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};
use tereza_catalog::model::Column;
use tereza_runtime::{Error, Result};

use super::definition::{OwnText, PrestoColumn, PrestoView};
use crate::session::{DEFAULT_SCHEMA, USER_CATALOG};

/// Whose words a text is written in.
#[derive(Debug, Clone, Copy)]
pub(super) enum Words<'a> {
    /// Spark's, which Hive reads too.
    Spark,
    /// Presto's, with what it calls the user's catalog.
    Presto(&'a str),
}

/// The text of a query, whose names of tables have all of their parts, with columns that are named as those of the view.
///
/// # Errors
/// `Unsupported` for a text in the query that would come out as another one.
pub(super) fn text(query: &Query, columns: &[Column], words: Words<'_>) -> Result<String> {
    let mut query = query.clone();
    let is_named = name_columns(&mut query, columns);
    let mut speller = Speller { words, texts: Vec::new() };
    if let ControlFlow::Break(error) = query.visit(&mut speller) {
        return Err(error);
    }
    let mut sql = query.to_string();
    if !is_named {
        let names: Vec<String> = columns.iter().map(|column| quoted(&column.name, '"')).collect();
        sql = format!("SELECT * FROM ({sql}) AS \"view\" ({})", names.join(", "));
    }
    let tokens = Tokenizer::new(&GenericDialect {}, &sql).tokenize();
    let tokens = tokens.map_err(|error| Error::internal(format!("a query that was read is none: {error}")))?;
    let mut out = String::with_capacity(sql.len());
    let mut texts = speller.texts.iter();
    for token in &tokens {
        let written = match token {
            Token::Word(word) if word.quote_style.is_some() => {
                out.push_str(&quoted(&word.value, if matches!(words, Words::Spark) { '`' } else { '"' }));
                Ok(())
            }
            Token::SingleQuotedString(text) => {
                if texts.next() != Some(text) {
                    return Err(Error::unsupported("a text with quotes in it"));
                }
                out.push_str(&literal(text, words));
                Ok(())
            }
            token => write!(out, "{token}"),
        };
        written.map_err(|_| Error::internal("a token without text"))?;
    }
    Ok(out)
}

/// What Presto reads of a view; `None` if a column has no type there.
pub(super) fn presto_view(
    query: &Query,
    columns: &[Column],
    fields: &[FieldRef],
    own_text: &str,
    presto_name: &str,
) -> Result<Option<PrestoView>> {
    let typed = columns.iter().zip(fields).map(|(column, field)| {
        let type_name = presto_type(field.data_type())?;
        Some(PrestoColumn { name: column.name.clone(), type_name })
    });
    let Some(columns_there) = typed.collect::<Option<Vec<_>>>() else { return Ok(None) };
    Ok(Some(PrestoView {
        original_sql: text(query, columns, Words::Presto(presto_name))?,
        catalog: Some(presto_name.to_owned()),
        schema: Some(DEFAULT_SCHEMA.to_owned()),
        columns: columns_there,
        // Nobody's rights are asked for here either.
        run_as_invoker: true,
        tereza: Some(OwnText { sql: own_text.to_owned() }),
    }))
}

/// Gives the columns of a query the view's names where that changes nothing else; whether all have them then.
fn name_columns(query: &mut Query, columns: &[Column]) -> bool {
    let mut body = query.body.as_mut();
    let select = loop {
        match body {
            SetExpr::Select(select) => break select,
            SetExpr::SetOperation { left, .. } => body = left.as_mut(),
            _ => return false,
        }
    };
    let is_plain = |item: &SelectItem| matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. });
    if select.projection.len() != columns.len() || !select.projection.iter().all(is_plain) {
        return false;
    }
    let mut all = true;
    for (item, column) in select.projection.iter_mut().zip(columns) {
        match item {
            SelectItem::UnnamedExpr(expression) => {
                if name_of(expression).is_none_or(|name| !name.value.eq_ignore_ascii_case(&column.name)) {
                    let alias = Ident::with_quote('"', &column.name);
                    *item = SelectItem::ExprWithAlias { expr: expression.clone(), alias };
                }
            }
            // What orders or groups by it must find it.
            SelectItem::ExprWithAlias { alias, .. } => all &= alias.value.eq_ignore_ascii_case(&column.name),
            _ => all = false,
        }
    }
    all
}

fn name_of(expression: &Expr) -> Option<&Ident> {
    match expression {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(names) => names.last(),
        _ => None,
    }
}

/// Puts other words into a tree, and gathers its texts in their order.
struct Speller<'a> {
    words: Words<'a>,
    texts: Vec<String>,
}

impl VisitorMut for Speller<'_> {
    type Break = Error;

    fn post_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<Error> {
        let mut names: Vec<Ident> = relation.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
        if names.len() == 3 && names[0].value == USER_CATALOG {
            match self.words {
                // Its own name for the catalog can be left out, and Hive has none.
                Words::Spark => drop(names.remove(0)),
                Words::Presto(catalog) => names[0] = Ident::with_quote('"', catalog),
            }
            *relation = ObjectName::from(names);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Error> {
        let Expr::Cast { kind, data_type, .. } = expression else { return ControlFlow::Continue(()) };
        if matches!(kind, CastKind::DoubleColon) {
            *kind = CastKind::Cast;
        }
        let is_presto = matches!(self.words, Words::Presto(_));
        match data_type {
            DataType::Varchar(None) | DataType::Text | DataType::String(None) => {
                *data_type = if is_presto { DataType::Varchar(None) } else { DataType::String(None) };
            }
            DataType::DoublePrecision | DataType::Float8 => *data_type = DataType::Double(ExactNumberInfo::None),
            DataType::Float(ExactNumberInfo::None) | DataType::Real | DataType::Float4 => {
                *data_type = if is_presto { DataType::Real } else { DataType::Float(ExactNumberInfo::None) };
            }
            DataType::Bytea | DataType::Binary(_) | DataType::Varbinary(_) => {
                *data_type = if is_presto { DataType::Varbinary(None) } else { DataType::Binary(None) };
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_value(&mut self, value: &mut ValueWithSpan) -> ControlFlow<Error> {
        if let Value::SingleQuotedString(text) = &value.value {
            self.texts.push(text.clone());
        }
        ControlFlow::Continue(())
    }
}

fn quoted(name: &str, quote: char) -> String {
    let doubled = [quote, quote].iter().collect::<String>();
    format!("{quote}{}{quote}", name.replace(quote, &doubled))
}

fn literal(text: &str, words: Words<'_>) -> String {
    match words {
        Words::Spark => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")),
        Words::Presto(_) => format!("'{}'", text.replace('\'', "''")),
    }
}

/// Presto's word for the type of a column.
fn presto_type(data_type: &ArrowType) -> Option<String> {
    Some(match data_type {
        ArrowType::Boolean => "boolean".into(),
        ArrowType::Int8 => "tinyint".into(),
        ArrowType::Int16 => "smallint".into(),
        ArrowType::Int32 => "integer".into(),
        ArrowType::Int64 => "bigint".into(),
        ArrowType::Float32 => "real".into(),
        ArrowType::Float64 => "double".into(),
        ArrowType::Decimal128(precision, scale) if *scale >= 0 => format!("decimal({precision},{scale})"),
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => "varchar".into(),
        ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView => "varbinary".into(),
        ArrowType::Date32 => "date".into(),
        ArrowType::Timestamp(_, None) => "timestamp".into(),
        ArrowType::List(item) | ArrowType::LargeList(item) => format!("array({})", presto_type(item.data_type())?),
        ArrowType::Map(entries, _) => match entries.data_type() {
            ArrowType::Struct(pair) if pair.len() == 2 => {
                format!("map({}, {})", presto_type(pair[0].data_type())?, presto_type(pair[1].data_type())?)
            }
            _ => return None,
        },
        ArrowType::Struct(fields) => {
            let field = |field: &FieldRef| Some(format!("\"{}\" {}", field.name(), presto_type(field.data_type())?));
            format!("row({})", fields.iter().map(field).collect::<Option<Vec<_>>>()?.join(", "))
        }
        _ => return None,
    })
}
