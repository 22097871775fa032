//! The words of other systems' queries: what a text means there is brought into a tree that means it here, or refused by name.
//!
//! In Spark and Hive a text may stand in double quotes and has escapes with a backslash, and names stand in backticks. Everywhere
//! names are the same in capitals and without. Functions of Spark and Hive are `datafusion-spark`'s; those of Presto are
//! DataFusion's where they mean the same.
//! Source: Spark's `SparkParserUtils.unescapeSQLString`, Presto's documentation of functions.

use std::iter::Peekable;
use std::ops::ControlFlow;
use std::str::Chars;

use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::{
    BinaryOperator, CastKind, DataType, DateTimeField, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments,
    Ident, ObjectName, TypedString, Value, VisitMut, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::Dialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::parser::ParserError;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Word};
use tereza_runtime::{Error, Result};

use super::super::parse::{Home, Scope, Text};
use super::super::{errors, rewrite_all};
use super::definition::{Definition, Owner};
use super::operators::{PRESTOS_CAST, PRESTOS_TRY_CAST};
use crate::flink;
use crate::session::USER_CATALOG;

/// The query of a view as a tree that means here what the text means to its owner.
///
/// # Errors
/// `InvalidInput` for what cannot be read, with its place in the text; `Unsupported` for what means something else here.
pub(super) fn statement(definition: &Definition<'_>, floats_are_decimals: bool) -> Result<Statement> {
    let sql = definition.text.as_ref();
    let mut scope = Scope::fixed(&definition.catalog, &definition.schema, definition.dialect);
    scope.is_flink = definition.is_flink;
    scope.normalize = !definition.is_flink;
    if definition.owner == Owner::Tereza {
        scope.floats_are_decimals = floats_are_decimals;
    }
    let text = match definition.owner {
        Owner::Tereza => Text::new(sql, scope)?,
        Owner::Presto => {
            let mut text = Text::new(sql, scope)?;
            text.tokens.iter_mut().for_each(lower);
            text
        }
        Owner::Spark | Owner::Hive => {
            let tokens = spark_tokens(sql, definition.doubles_quotes)?;
            Text::of_tokens(sql, scope, tokens)?
        }
    };
    if !text.placeholders.is_empty() {
        return Err(Error::invalid_input("it has parameters"));
    }
    let mut statement = text.datafusion(text.tokens.clone())?;
    if definition.owner != Owner::Tereza
        && let Statement::Statement(inner) = &mut statement
    {
        let mut meaning = Meaning { owner: definition.owner, own_catalog: definition.own_catalog };
        if let ControlFlow::Break(error) = inner.visit(&mut meaning) {
            return Err(error);
        }
    }
    rewrite_all(&mut statement, text.scope.floats_are_decimals)?;
    if text.scope.is_flink {
        flink::rewrite(&mut statement)?;
    }
    Ok(statement)
}

/// A name in quotes is the same in capitals.
fn lower(token: &mut TokenWithSpan) {
    if let Token::Word(word) = &mut token.token
        && word.quote_style.is_some()
    {
        word.value = word.value.to_lowercase();
    }
}

/// How Spark and Hive cut a text into tokens.
#[derive(Debug)]
struct SparkTokens;

impl Dialect for SparkTokens {
    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        ch == '`'
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        ch.is_ascii_alphabetic() || ch == '_'
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        ch.is_ascii_alphanumeric() || ch == '_'
    }

    fn supports_string_literal_backslash_escape(&self) -> bool {
        true
    }

    fn supports_nested_comments(&self) -> bool {
        true
    }
}

fn spark_tokens(sql: &str, doubles_quotes: bool) -> Result<Vec<TokenWithSpan>> {
    let mut tokens = Tokenizer::new(&SparkTokens, sql)
        .with_unescape(false)
        .tokenize_with_location()
        .map_err(|error| errors::syntax(sql, &[], &ParserError::from(error)))?;
    for token in &mut tokens {
        let text = match &token.token {
            Token::SingleQuotedString(raw) => unescaped(raw, '\'', doubles_quotes),
            Token::DoubleQuotedString(raw) => unescaped(raw, '"', doubles_quotes),
            Token::Word(word) if word.quote_style == Some('`') => {
                let mut word = word.clone();
                word.value = word.value.replace("``", "`").to_lowercase();
                token.token = Token::Word(word);
                continue;
            }
            _ => continue,
        };
        token.token = Token::SingleQuotedString(text);
    }
    // The parser takes what is in ARRAY(…) for a query.
    for place in 0..tokens.len() {
        let mut rest = tokens[place + 1..].iter().map(|token| &token.token);
        let is_call = rest.find(|token| !matches!(token, Token::Whitespace(_))) == Some(&Token::LParen);
        let is_array = |word: &Word| word.quote_style.is_none() && word.keyword == Keyword::ARRAY;
        if is_call && matches!(&tokens[place].token, Token::Word(word) if is_array(word)) {
            tokens[place].token = Token::make_word("array", Some('`'));
        }
    }
    Ok(tokens)
}

/// What stands between the quotes of a text, without its escapes.
fn unescaped(raw: &str, quote: char, doubles_quotes: bool) -> String {
    let mut text = String::with_capacity(raw.len());
    let mut rest = raw.chars().peekable();
    while let Some(letter) = rest.next() {
        if letter == quote {
            // The other one of the two.
            rest.next();
            if doubles_quotes {
                text.push(quote);
            }
            continue;
        }
        if letter != '\\' {
            text.push(letter);
            continue;
        }
        match rest.next() {
            Some('n') => text.push('\n'),
            Some('r') => text.push('\r'),
            Some('t') => text.push('\t'),
            Some('b') => text.push('\u{8}'),
            Some('Z') => text.push('\u{1a}'),
            // These are LIKE's to read.
            Some(wildcard @ ('%' | '_')) => text.extend(['\\', wildcard]),
            Some('u') => match code(&mut rest, 4, 16) {
                Some(coded) => text.push(coded),
                None => text.push('u'),
            },
            Some('U') => match code(&mut rest, 8, 16) {
                Some(coded) => text.push(coded),
                None => text.push('U'),
            },
            Some(digit @ '0'..='7') => {
                let octal: String = std::iter::once(digit).chain(rest.clone().take(2)).collect();
                match (digit <= '1').then(|| code(&mut octal.chars().peekable(), 3, 8)).flatten() {
                    Some(coded) => {
                        text.push(coded);
                        rest.nth(1);
                    }
                    None => text.push(if digit == '0' { '\0' } else { digit }),
                }
            }
            Some(other) => text.push(other),
            None => text.push('\\'),
        }
    }
    text
}

/// The character of a code of so many digits, which are taken if they are one.
fn code(rest: &mut Peekable<Chars<'_>>, digits: usize, radix: u32) -> Option<char> {
    let text: String = rest.clone().take(digits).collect();
    if text.chars().count() < digits || !text.chars().all(|digit| digit.is_digit(radix)) {
        return None;
    }
    let found = char::from_u32(u32::from_str_radix(&text, radix).ok()?)?;
    rest.nth(digits - 1);
    Some(found)
}

/// Functions that Presto has, and DataFusion with another meaning.
const OTHERS_OF_PRESTO: [&str; 17] = [
    "array_position",
    "array_sort",
    "date_format",
    "element_at",
    "from_unixtime",
    "greatest",
    "least",
    "md5",
    "regexp_replace",
    "repeat",
    "sha1",
    "sha256",
    "sha512",
    "to_char",
    "to_date",
    "to_timestamp",
    "to_unixtime",
];

/// What Presto takes for blanks.
const BLANKS: &str = " \t\n\u{b}\u{c}\r\u{1c}\u{1d}\u{1e}\u{1f}";

/// Puts the owner's meaning into a tree.
struct Meaning<'a> {
    owner: Owner,
    own_catalog: Option<&'a str>,
}

impl Meaning<'_> {
    /// The catalog of this name, under the name that it has here.
    fn catalog(&self, catalog: &mut Ident) -> Result<()> {
        let name = catalog.value.to_lowercase();
        if Some(name.as_str()) == self.own_catalog {
            *catalog = Ident::with_quote('"', USER_CATALOG);
        } else if Home::of(&name) != Home::ReadOnly {
            return Err(Error::unsupported(format!("catalog '{name}'")));
        }
        Ok(())
    }

    fn expression(&self, expression: &mut Expr) -> Result<()> {
        match expression {
            Expr::CompoundIdentifier(names) if names.len() > 3 => self.catalog(&mut names[0]),
            Expr::Function(function) if self.owner == Owner::Presto => {
                if let Some(joined) = function_of_presto(function)? {
                    *expression = joined;
                }
                Ok(())
            }
            Expr::Substring { substring_from: Some(start), .. } if self.owner == Owner::Presto => check_start(start),
            Expr::Trim { trim_what: what @ None, trim_characters: None, .. } if self.owner == Owner::Presto => {
                *what = Some(Box::new(text(BLANKS)));
                Ok(())
            }
            // It has as many digits as are written.
            Expr::TypedString(TypedString { data_type: DataType::Decimal(_), value, .. })
                if self.owner == Owner::Presto =>
            {
                if let Value::SingleQuotedString(digits) = &value.value {
                    *expression = Expr::Value(Value::Number(digits.clone(), false).with_empty_span());
                }
                Ok(())
            }
            Expr::Cast { kind, expr, data_type, .. } if self.owner == Owner::Presto => {
                if let Some(cast) = cast_of_presto(kind, expr, data_type) {
                    *expression = cast;
                }
                Ok(())
            }
            Expr::Extract { field: field @ (DateTimeField::Dow | DateTimeField::DayOfWeek), .. }
                if self.owner == Owner::Presto =>
            {
                Err(otherwise(&format!("extract({field})")))
            }
            // The parser takes all that follows for the divisor.
            Expr::BinaryOp { op: BinaryOperator::MyIntegerDivide, right, .. } => match right.as_ref() {
                Expr::Identifier(_)
                | Expr::CompoundIdentifier(_)
                | Expr::Value(_)
                | Expr::Nested(_)
                | Expr::Function(_)
                | Expr::Cast { .. } => Ok(()),
                _ => Err(Error::unsupported("DIV without parentheses around it and what follows")),
            },
            _ => Ok(()),
        }
    }
}

impl VisitorMut for Meaning<'_> {
    type Break = Error;

    fn post_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<Error> {
        if relation.0.len() < 3 {
            return ControlFlow::Continue(());
        }
        let mut names: Vec<Ident> = relation.0.iter().filter_map(|part| part.as_ident().cloned()).collect();
        let checked = match names.first_mut() {
            Some(catalog) => self.catalog(catalog),
            None => Ok(()),
        };
        *relation = ObjectName::from(names);
        match checked {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Error> {
        match self.expression(expression) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => ControlFlow::Break(error),
        }
    }
}

fn text(text: &str) -> Expr {
    Expr::Value(Value::SingleQuotedString(text.to_owned()).with_empty_span())
}

/// A cast to an integer, for [`operators`](super::operators) to plan.
fn cast_of_presto(kind: &CastKind, value: &Expr, data_type: &DataType) -> Option<Expr> {
    let of = match data_type {
        DataType::TinyInt(_) => "tinyint",
        DataType::SmallInt(_) => "smallint",
        DataType::Int(_) | DataType::Integer(_) => "integer",
        DataType::BigInt(_) => "bigint",
        _ => return None,
    };
    let operator = if *kind == CastKind::Cast { PRESTOS_CAST } else { PRESTOS_TRY_CAST };
    let (left, right) = (Box::new(value.clone()), Box::new(text(of)));
    Some(Expr::Nested(Box::new(Expr::BinaryOp { left, op: BinaryOperator::Custom(operator.into()), right })))
}

fn otherwise(what: &str) -> Error {
    Error::unsupported(format!("{what}, which means something else here"))
}

/// Refuses a call that means something else, and gives what another call is written as.
fn function_of_presto(function: &Function) -> Result<Option<Expr>> {
    // Presto writes some of them in quotes.
    let name = function.name.0.last().and_then(|part| part.as_ident()).map(|name| name.value.to_lowercase());
    let name = name.unwrap_or_default();
    if OTHERS_OF_PRESTO.contains(&name.as_str()) {
        return Err(otherwise(&name));
    }
    let arguments = match &function.args {
        FunctionArguments::List(list) => list.args.as_slice(),
        _ => &[],
    };
    let argument = |argument: &FunctionArg| match argument {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Some(expression.clone()),
        _ => None,
    };
    match name.as_str() {
        "substr" | "substring" => {
            let start = arguments.get(1).and_then(argument);
            start.as_ref().map_or(Ok(()), check_start).map(|()| None)
        }
        // Of NULL it is NULL.
        "concat" => {
            let parts: Option<Vec<Expr>> = arguments.iter().map(argument).collect();
            let joined = parts.unwrap_or_default().into_iter().reduce(|left, right| Expr::BinaryOp {
                left: Box::new(left),
                op: BinaryOperator::StringConcat,
                right: Box::new(right),
            });
            Ok(joined.map(|joined| Expr::Nested(Box::new(joined))))
        }
        _ => Ok(None),
    }
}

/// Refuses a beginning that Presto would count from the end.
fn check_start(start: &Expr) -> Result<()> {
    let Expr::Value(value) = start else { return Err(otherwise("substr from anything but a number")) };
    match &value.value {
        Value::Number(digits, _) if digits.parse::<u64>().is_ok_and(|start| start > 0) => Ok(()),
        _ => Err(otherwise("substr from anything but a positive number")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_spark_have_escapes() {
        for (raw, expected) in [
            (r"a\'b\\c", r"a'b\c"),
            (r"\n\r\t\b\Z\0", "\n\r\t\u{8}\u{1a}\0"),
            (r"a\%b\_", r"a\%b\_"),
            (r"\u00e9\U0001F600\x", "é😀x"),
            (r"\101\7\400", "A7400"),
            (r"\u12", "u12"),
            ("it''s", "it's"),
        ] {
            assert_eq!(unescaped(raw, '\'', true), expected, "{raw}");
        }
        // Two texts side by side were one, before.
        assert_eq!(unescaped("it''s", '\'', false), "its");
        assert_eq!(unescaped("say \"\"", '\'', false), "say \"\"");
    }
}
