//! Lists of properties, and which of them say how files are written.

use datafusion::sql::sqlparser::tokenizer::{Token, Word};
use tereza_catalog::model::Parameters;
use tereza_runtime::{Error, Result};

use crate::statement::parse::Reader;

/// The value of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::statement) enum Value {
    /// A text, number or word.
    Text(String),
    /// `ARRAY['a', 'b']`, as Presto writes lists.
    List(Vec<String>),
}

impl Value {
    /// The text, or an error naming the property if it is a list.
    pub(in crate::statement) fn text(self, key: &str) -> Result<String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::List(_) => Err(Error::invalid_input(format!("property '{key}' takes one value, not a list"))),
        }
    }

    /// The list, or a list of the one text.
    pub(in crate::statement) fn list(self) -> Vec<String> {
        match self {
            Self::Text(text) => vec![text],
            Self::List(list) => list,
        }
    }
}

/// Reads `(key = value, …)`, where `=` may be left out and keys are texts or words parted by dots.
pub(in crate::statement) fn properties(reader: &mut Reader<'_>) -> Result<Vec<(String, Value)>> {
    reader.list(|reader| {
        let key = key(reader)?;
        if is_credential(&key) {
            return Err(reader.refuse(
                Error::denied(format!(
                    "property '{key}' looks like a credential, and properties are shown to everybody"
                ))
                .with_hint("put credentials into the settings of the object store"),
            ));
        }
        reader.take_token(&Token::Eq);
        Ok((key, value(reader)?))
    })
}

/// Reads `(key = value, …)` where every value is one text.
pub(in crate::statement) fn texts(reader: &mut Reader<'_>) -> Result<Parameters> {
    properties(reader)?.into_iter().map(|(key, value)| value.text(&key).map(|text| (key.clone(), text))).collect()
}

/// Reads the key of a property.
pub(in crate::statement) fn key(reader: &mut Reader<'_>) -> Result<String> {
    let mut key = word_or_text(reader, "the name of a property")?;
    while reader.take_token(&Token::Period) {
        key.push('.');
        key.push_str(&word_or_text(reader, "the name of a property")?);
    }
    Ok(key)
}

fn word_or_text(reader: &mut Reader<'_>, what: &str) -> Result<String> {
    let text = match &reader.parser.peek_token_ref().token {
        Token::Word(Word { value, .. })
        | Token::SingleQuotedString(value)
        | Token::DoubleQuotedString(value)
        | Token::EscapedStringLiteral(value) => value.clone(),
        _ => return Err(reader.expected(what)),
    };
    reader.parser.advance_token();
    Ok(text)
}

fn value(reader: &mut Reader<'_>) -> Result<Value> {
    if reader.take("ARRAY") {
        reader.expect_token(&Token::LBracket)?;
        let mut list = Vec::new();
        while !reader.take_token(&Token::RBracket) {
            list.push(word_or_text(reader, "a text")?);
            if !reader.take_token(&Token::Comma) && !reader.at_token(&Token::RBracket) {
                return Err(reader.expected("',' or ']'"));
            }
        }
        return Ok(Value::List(list));
    }
    let minus = reader.take_token(&Token::Minus);
    if let Token::Number(number, _) = &reader.parser.peek_token_ref().token {
        let number = if minus { format!("-{number}") } else { number.clone() };
        reader.parser.advance_token();
        return Ok(Value::Text(number));
    }
    Ok(Value::Text(word_or_text(reader, "the value of a property")?))
}

/// Whether a property's name sounds like a secret: those are never kept in the catalog.
pub(in crate::statement) fn is_credential(key: &str) -> bool {
    let key = key.to_lowercase().replace(['.', '-'], "_");
    ["secret", "password", "access_key", "session_token", "credential", "account_key", "sas_token"]
        .iter()
        .any(|word| key.contains(word))
}

/// Splits properties of `OPTIONS` and the like into what the file format knows, under one name each, and the rest.
///
/// DataFusion's names (`format.has_header`), Spark's (`header`, `sep`), Presto's (`csv_separator`) and Hive's
/// (`skip.header.line.count`, `parquet.compression`) mean the same things.
pub(super) fn format_option(key: &str, value: &str) -> Result<Option<(&'static str, String)>> {
    let key = key.to_lowercase();
    let known = match key.strip_prefix("format.").unwrap_or(&key) {
        "has_header" | "header" => "has_header",
        "delimiter" | "sep" | "csv_separator" | "field.delim" | "separatorchar" => "delimiter",
        "quote" | "csv_quote" | "quotechar" => "quote",
        "escape" | "csv_escape" | "escapechar" | "escape.delim" => "escape",
        "null_value" | "nullvalue" | "null_format" | "serialization.null.format" => "null_value",
        "compression" | "parquet.compression" | "orc.compress" => "compression",
        "skip_header_line_count" | "skip.header.line.count" => {
            return match value {
                "0" => Ok(Some(("has_header", "false".into()))),
                "1" => Ok(Some(("has_header", "true".into()))),
                other => {
                    Err(Error::unsupported(format!("skipping {other} header lines")).with_hint("0 and 1 are supported"))
                }
            };
        }
        _ => return Ok(None),
    };
    Ok(Some((known, value.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::parse::{Text, tests::scope};

    fn read(sql: &str) -> Result<Vec<(String, Value)>> {
        let text = Text::new(sql, scope())?;
        let rules = text.scope.rules();
        let mut reader = Reader::new(&text, rules.as_ref());
        let properties = properties(&mut reader)?;
        reader.end()?;
        Ok(properties)
    }

    #[test]
    fn keys_and_values_come_in_many_forms() {
        let list = read("('a.b'='c', d.e f, format = 'CSV', n -1, keys = ARRAY['x', 'y'])").expect("reads");
        let text = |key: &str, value: &str| (key.to_owned(), Value::Text(value.into()));
        assert_eq!(
            list,
            [
                text("a.b", "c"),
                text("d.e", "f"),
                text("format", "CSV"),
                text("n", "-1"),
                ("keys".to_owned(), Value::List(vec!["x".into(), "y".into()])),
            ]
        );
    }

    #[test]
    fn credentials_are_refused_without_their_value() {
        let error = read("('aws.secret_access_key' = 'hunter2')").expect_err("is refused");
        assert_eq!(error.kind(), tereza_runtime::ErrorKind::Denied);
        assert!(!error.to_string().contains("hunter2"));
        assert!(read("('fs.s3a.access.key' = 'x')").is_err());
    }

    #[test]
    fn options_of_all_systems_have_one_name() {
        assert_eq!(format_option("format.has_header", "true").expect("known"), Some(("has_header", "true".into())));
        assert_eq!(format_option("skip.header.line.count", "1").expect("known"), Some(("has_header", "true".into())));
        assert!(format_option("skip_header_line_count", "2").is_err());
        assert_eq!(format_option("owner", "me").expect("unknown"), None);
    }
}
