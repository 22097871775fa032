//! Flink's rules for the parser of queries: names in backticks, tables as arguments of functions, Flink's types in CAST.

use std::any::TypeId;

use datafusion::sql::sqlparser::ast::{
    ArrayElemTypeDef, BinaryLength, CastKind, CharacterLength, DataType, ExactNumberInfo, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentList, FunctionArguments, Ident, IntervalFields, ObjectName, OrderByExpr,
    StructBracketKind, StructField, TimezoneInfo, WindowSpec, WindowType,
};
use datafusion::sql::sqlparser::dialect::{Dialect, GenericDialect};
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::{Parser, ParserError};
use datafusion::sql::sqlparser::tokenizer::Token;

use super::types::{FlinkType, Interval, LENGTH_MAX, TypeRoot, parse_type};

/// The name of the function that stands for `TABLE t` among arguments; nothing else can be written with it.
const TABLE: &str = "TABLE";

/// Flink's SQL. Where the parser knows dialects by name, it takes this one for its generic one.
#[derive(Debug, Default, Clone, Copy)]
pub struct FlinkDialect;

/// `TABLE t [PARTITION BY …] [ORDER BY …]` among the arguments of a function.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TableArgument<'a> {
    /// The parts of the table's name.
    pub name: &'a [Ident],
    pub partition_by: &'a [Expr],
    pub order_by: &'a [OrderByExpr],
}

/// The table that an argument is, if it is one.
pub fn table_argument(argument: &Expr) -> Option<TableArgument<'_>> {
    let Expr::Function(function) = argument else { return None };
    let [name] = function.name.0.as_slice() else { return None };
    if name.as_ident().is_none_or(|name| name.quote_style.is_some() || name.value != TABLE) {
        return None;
    }
    let FunctionArguments::List(list) = &function.args else { return None };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(source))] = list.args.as_slice() else { return None };
    let name = match source {
        Expr::Identifier(name) => std::slice::from_ref(name),
        Expr::CompoundIdentifier(parts) => parts,
        _ => return None,
    };
    let (partition_by, order_by) = match &function.over {
        Some(WindowType::WindowSpec(spec)) => (spec.partition_by.as_slice(), spec.order_by.as_slice()),
        _ => (&[] as &[Expr], &[] as &[OrderByExpr]),
    };
    Some(TableArgument { name, partition_by, order_by })
}

impl Dialect for FlinkDialect {
    fn dialect(&self) -> TypeId {
        TypeId::of::<GenericDialect>()
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn identifier_quote_style(&self, _identifier: &str) -> Option<char> {
        Some('`')
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_alphanumeric() || ch == '_' || ch == '$'
    }

    fn supports_unicode_string_literal(&self) -> bool {
        true
    }

    fn supports_filter_during_aggregation(&self) -> bool {
        true
    }

    fn supports_group_by_expr(&self) -> bool {
        true
    }

    fn supports_match_recognize(&self) -> bool {
        true
    }

    fn supports_table_versioning(&self) -> bool {
        true
    }

    fn require_interval_qualifier(&self) -> bool {
        true
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let word = match &parser.peek_token_ref().token {
            Token::Word(word) if word.quote_style.is_none() => word.keyword,
            _ => return None,
        };
        match (word, &parser.peek_nth_token_ref(1).token) {
            (Keyword::TABLE, _) => Some(table(parser)),
            (Keyword::CAST, Token::LParen) => Some(cast(parser, CastKind::Cast)),
            (Keyword::TRY_CAST, Token::LParen) => Some(cast(parser, CastKind::TryCast)),
            (Keyword::MAP, Token::LBracket) => Some(map(parser)),
            _ => None,
        }
    }
}

fn call(name: &str, arguments: Vec<Expr>, over: Option<WindowType>) -> Expr {
    let args = arguments.into_iter().map(|argument| FunctionArg::Unnamed(FunctionArgExpr::Expr(argument))).collect();
    let none = || FunctionArguments::None;
    Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new(name)]),
        uses_odbc_syntax: false,
        parameters: none(),
        args: FunctionArguments::List(FunctionArgumentList { duplicate_treatment: None, args, clauses: Vec::new() }),
        filter: None,
        null_treatment: None,
        over,
        within_group: Vec::new(),
    })
}

/// `TABLE t [PARTITION BY …] [ORDER BY …]`
fn table(parser: &mut Parser) -> Result<Expr, ParserError> {
    parser.advance_token();
    let mut parts = Vec::new();
    loop {
        if !matches!(parser.peek_token_ref().token, Token::Word(_)) {
            return parser.expected_ref("the name of a table", parser.peek_token_ref());
        }
        parts.push(parser.parse_identifier()?);
        if !parser.consume_token(&Token::Period) {
            break;
        }
    }
    let source = if parts.len() == 1 { Expr::Identifier(parts.remove(0)) } else { Expr::CompoundIdentifier(parts) };
    // Without parentheses there is one key only: the next comma parts arguments.
    let partition_by = match parser.parse_keywords(&[Keyword::PARTITION, Keyword::BY]) {
        true => one_or_list(parser, Parser::parse_expr)?,
        false => Vec::new(),
    };
    let order_by = match parser.parse_keywords(&[Keyword::ORDER, Keyword::BY]) {
        true => one_or_list(parser, Parser::parse_order_by_expr)?,
        false => Vec::new(),
    };
    let plain = partition_by.is_empty() && order_by.is_empty();
    let over = WindowType::WindowSpec(WindowSpec { window_name: None, partition_by, order_by, window_frame: None });
    Ok(call(TABLE, vec![source], (!plain).then_some(over)))
}

fn one_or_list<'p, T>(
    parser: &mut Parser<'p>,
    item: fn(&mut Parser<'p>) -> Result<T, ParserError>,
) -> Result<Vec<T>, ParserError> {
    if !parser.consume_token(&Token::LParen) {
        return Ok(vec![item(parser)?]);
    }
    let items = parser.parse_comma_separated(item)?;
    parser.expect_token(&Token::RParen)?;
    Ok(items)
}

/// `CAST(x AS type)` with Flink's types.
fn cast(parser: &mut Parser, kind: CastKind) -> Result<Expr, ParserError> {
    parser.advance_token();
    parser.expect_token(&Token::LParen)?;
    let expr = Box::new(parser.parse_expr()?);
    parser.expect_keyword_is(Keyword::AS)?;
    let data_type = sql_type(&parse_type(parser)?);
    parser.expect_token(&Token::RParen)?;
    Ok(Expr::Cast { kind, expr, data_type, array: false, format: None })
}

/// `MAP[key, value, …]`, as a call of function MAP.
fn map(parser: &mut Parser) -> Result<Expr, ParserError> {
    parser.advance_token();
    parser.advance_token();
    let arguments = parser.parse_comma_separated0(Parser::parse_expr, Token::RBracket)?;
    parser.expect_token(&Token::RBracket)?;
    if !arguments.len().is_multiple_of(2) {
        return Err(ParserError::ParserError("the last key of MAP has no value".into()));
    }
    Ok(call("MAP", arguments, None))
}

/// The parser's name of a type, as its planner understands it; what it has no name for is kept as Flink's.
pub fn sql_type(data_type: &FlinkType) -> DataType {
    match &data_type.root {
        TypeRoot::Char(length) => {
            DataType::Char(Some(CharacterLength::IntegerLength { length: u64::from(*length), unit: None }))
        }
        TypeRoot::Varchar(LENGTH_MAX) => DataType::String(None),
        TypeRoot::Varchar(length) => {
            DataType::Varchar(Some(CharacterLength::IntegerLength { length: u64::from(*length), unit: None }))
        }
        TypeRoot::Boolean => DataType::Boolean,
        TypeRoot::Binary(length) => DataType::Binary(Some(u64::from(*length))),
        TypeRoot::Varbinary(LENGTH_MAX) => DataType::Bytea,
        TypeRoot::Varbinary(length) => {
            DataType::Varbinary(Some(BinaryLength::IntegerLength { length: u64::from(*length) }))
        }
        TypeRoot::Decimal { precision, scale } => {
            DataType::Decimal(ExactNumberInfo::PrecisionAndScale(u64::from(*precision), i64::from(*scale)))
        }
        TypeRoot::TinyInt => DataType::TinyInt(None),
        TypeRoot::SmallInt => DataType::SmallInt(None),
        TypeRoot::Int => DataType::Int(None),
        TypeRoot::BigInt => DataType::BigInt(None),
        TypeRoot::Float => DataType::Float(ExactNumberInfo::None),
        TypeRoot::Double => DataType::Double(ExactNumberInfo::None),
        TypeRoot::Date => DataType::Date,
        TypeRoot::Time(precision) => {
            DataType::Time((*precision > 0).then_some(u64::from(*precision)), TimezoneInfo::None)
        }
        TypeRoot::Timestamp(precision) => DataType::Timestamp(Some(u64::from(*precision)), TimezoneInfo::None),
        TypeRoot::TimestampLtz(precision) => {
            DataType::Timestamp(Some(u64::from(*precision)), TimezoneInfo::WithTimeZone)
        }
        TypeRoot::Interval(interval) => DataType::Interval { fields: Some(fields(*interval)), precision: None },
        TypeRoot::Array(element) => DataType::Array(ArrayElemTypeDef::AngleBracket(Box::new(sql_type(element)))),
        TypeRoot::Map(key, value) => DataType::Map(Box::new(sql_type(key)), Box::new(sql_type(value))),
        TypeRoot::Row(fields) => {
            let field = |name: &str, data_type| StructField {
                field_name: Some(Ident::with_quote('`', name)),
                field_type: sql_type(data_type),
                options: None,
            };
            let fields = fields.iter().map(|row| field(&row.name, &row.data_type)).collect();
            DataType::Struct(fields, StructBracketKind::AngleBrackets)
        }
        TypeRoot::Multiset(_) | TypeRoot::Null => {
            DataType::Custom(ObjectName::from(vec![Ident::new(data_type.to_string())]), Vec::new())
        }
    }
}

fn fields(interval: Interval) -> IntervalFields {
    match interval {
        Interval::Year(_) => IntervalFields::Year,
        Interval::YearToMonth(_) => IntervalFields::YearToMonth,
        Interval::Month => IntervalFields::Month,
        Interval::Day(_) => IntervalFields::Day,
        Interval::DayToHour(_) => IntervalFields::DayToHour,
        Interval::DayToMinute(_) => IntervalFields::DayToMinute,
        Interval::DayToSecond(..) => IntervalFields::DayToSecond,
        Interval::Hour => IntervalFields::Hour,
        Interval::HourToMinute => IntervalFields::HourToMinute,
        Interval::HourToSecond(_) => IntervalFields::HourToSecond,
        Interval::Minute => IntervalFields::Minute,
        Interval::MinuteToSecond(_) => IntervalFields::MinuteToSecond,
        Interval::Second(_) => IntervalFields::Second,
    }
}

#[cfg(test)]
#[path = "dialect_tests.rs"]
pub(super) mod tests;
