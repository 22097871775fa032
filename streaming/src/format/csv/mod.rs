//! `csv`: a message is one line, its values in the order of the columns. An ARRAY or ROW is a value whose elements have a
//! delimiter of their own; what is deeper nested, and MAP, is not written as CSV.

mod read;
mod records;
mod write;

use arrow::datatypes::{DataType, FieldRef, Schema};
use tereza_runtime::{Error, Result};

use super::FormatOptions;
use super::column::Kind;

pub(super) use read::CsvReader;
pub(crate) use records::CsvRecords;
pub(super) use write::CsvWriter;

const FIELD_DELIMITER: &str = "field-delimiter";
const DISABLE_QUOTE_CHARACTER: &str = "disable-quote-character";
const QUOTE_CHARACTER: &str = "quote-character";
const ALLOW_COMMENTS: &str = "allow-comments";
const IGNORE_PARSE_ERRORS: &str = "ignore-parse-errors";
const ARRAY_ELEMENT_DELIMITER: &str = "array-element-delimiter";
const ESCAPE_CHARACTER: &str = "escape-character";
const NULL_LITERAL: &str = "null-literal";
const SCIENTIFIC_NOTATION: &str = "write-bigdecimal-in-scientific-notation";
const TRIM_SPACES: &str = "trim-spaces";
const IGNORE_TRAILING_UNMAPPABLE: &str = "ignore-trailing-unmappable";
const ALLOW_TRAILING_COMMA: &str = "allow-trailing-comma";
const FAIL_ON_MISSING_COLUMNS: &str = "fail-on-missing-columns";
const EMPTY_STRING_AS_NULL: &str = "empty-string-as-null";

const OPTIONS: [&str; 14] = [
    FIELD_DELIMITER,
    DISABLE_QUOTE_CHARACTER,
    QUOTE_CHARACTER,
    ALLOW_COMMENTS,
    IGNORE_PARSE_ERRORS,
    ARRAY_ELEMENT_DELIMITER,
    ESCAPE_CHARACTER,
    NULL_LITERAL,
    SCIENTIFIC_NOTATION,
    TRIM_SPACES,
    IGNORE_TRAILING_UNMAPPABLE,
    ALLOW_TRAILING_COMMA,
    FAIL_ON_MISSING_COLUMNS,
    EMPTY_STRING_AS_NULL,
];

/// The options of the format.
#[derive(Debug, Clone)]
struct CsvOptions {
    delimiter: char,
    quote: Option<char>,
    escape: Option<char>,
    element_delimiter: char,
    null_literal: Option<String>,
    allows_comments: bool,
    ignores_parse_errors: bool,
    trims: bool,
    ignores_more_values: bool,
    allows_delimiter_at_end: bool,
    fails_on_missing_columns: bool,
    empty_is_null: bool,
    /// Flink says that this is so by default, and does otherwise: only who asks for it gets it.
    is_scientific: bool,
}

impl CsvOptions {
    fn new(options: &FormatOptions, schema: &Schema) -> Result<Self> {
        options.check(&OPTIONS)?;
        for field in schema.fields() {
            check_type(field.data_type()).map_err(|error| error.context(format!("column `{}`", field.name())))?;
        }
        let has_quote = !options.is(DISABLE_QUOTE_CHARACTER, false)?;
        let quote = options.character(QUOTE_CHARACTER)?;
        if !has_quote && quote.is_some() {
            return Err(Error::invalid_input(format!(
                "options `csv.{QUOTE_CHARACTER}` and `csv.{DISABLE_QUOTE_CHARACTER}` cannot both be set"
            )));
        }
        Ok(Self {
            delimiter: delimiter(options)?,
            quote: has_quote.then_some(quote.unwrap_or('"')),
            escape: options.character(ESCAPE_CHARACTER)?,
            element_delimiter: options.character(ARRAY_ELEMENT_DELIMITER)?.unwrap_or(';'),
            null_literal: options.get(NULL_LITERAL).map(str::to_owned),
            allows_comments: options.is(ALLOW_COMMENTS, false)?,
            ignores_parse_errors: options.is(IGNORE_PARSE_ERRORS, false)?,
            trims: options.is(TRIM_SPACES, false)?,
            ignores_more_values: options.is(IGNORE_TRAILING_UNMAPPABLE, false)?,
            allows_delimiter_at_end: options.is(ALLOW_TRAILING_COMMA, true)?,
            fails_on_missing_columns: options.is(FAIL_ON_MISSING_COLUMNS, false)?,
            empty_is_null: options.is(EMPTY_STRING_AS_NULL, false)?,
            is_scientific: options.is(SCIENTIFIC_NOTATION, false)?,
        })
    }
}

/// The delimiter, which may be written as Java writes it: `\t`, `\u0001`.
fn delimiter(options: &FormatOptions) -> Result<char> {
    let Some(value) = options.get(FIELD_DELIMITER) else { return Ok(',') };
    let unescaped = match value {
        "\\t" => Some('\t'),
        "\\n" => Some('\n'),
        "\\r" => Some('\r'),
        "\\f" => Some('\u{c}'),
        "\\b" => Some('\u{8}'),
        "\\\\" => Some('\\'),
        "\\'" => Some('\''),
        "\\\"" => Some('"'),
        _ => value.strip_prefix("\\u").and_then(|code| u32::from_str_radix(code, 16).ok()).and_then(char::from_u32),
    };
    match unescaped {
        Some(character) => Ok(character),
        None => Ok(options.character(FIELD_DELIMITER)?.unwrap_or(',')),
    }
}

/// The fields of what is nested.
fn check_type(data_type: &DataType) -> Result<()> {
    let simple = |field: &FieldRef| match Kind::of(field.data_type())? {
        Kind::List | Kind::Map | Kind::Struct => {
            Err(Error::unsupported(format!("CSV of type {data_type}: what is nested is nested again")))
        }
        _ => Ok(()),
    };
    match data_type {
        DataType::List(item) => simple(item),
        DataType::Struct(fields) => fields.iter().try_for_each(simple),
        DataType::Map(..) => Err(Error::unsupported(format!("CSV of type {data_type}"))),
        other => Kind::of(other).map(|_| ()),
    }
}

#[cfg(test)]
mod tests;
