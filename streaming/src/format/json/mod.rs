//! `json`: an object is a row; an array is as many rows as it has objects.
//!
//! Members that are no columns are left out. What stands after the object is not looked at. Of a member that comes twice the
//! last one counts; a key that comes twice in a MAP is refused, as a map has each key once.

mod parser;
mod read;
mod write;

use arrow::datatypes::{DataType, Fields};
use tereza_runtime::{Error, Result};

use super::FormatOptions;
use super::column::{Kind, entry_fields};
use super::text::{DecimalForm, TimestampForm};

pub(super) use parser::{Parser, Token};
pub(super) use read::{BASE64, Fault, JsonReader, ObjectReader, form_of, shortened};
pub(super) use write::{JsonWriter, ObjectWriter, write_base64};

/// What to do with a NULL key of a map, which JSON cannot name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NullKey {
    Fail,
    Drop,
    Literal(String),
}

/// The options of the format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct JsonOptions {
    pub(super) fails_on_missing_field: bool,
    pub(super) ignores_parse_errors: bool,
    pub(super) timestamps: TimestampForm,
    pub(super) null_key: NullKey,
    pub(super) decimals: DecimalForm,
    pub(super) leaves_out_nulls: bool,
}

pub(super) const FAIL_ON_MISSING_FIELD: &str = "fail-on-missing-field";
pub(super) const IGNORE_PARSE_ERRORS: &str = "ignore-parse-errors";
const TIMESTAMP_FORMAT: &str = "timestamp-format.standard";
const MAP_NULL_KEY_MODE: &str = "map-null-key.mode";
const MAP_NULL_KEY_LITERAL: &str = "map-null-key.literal";
const DECIMAL_AS_PLAIN_NUMBER: &str = "encode.decimal-as-plain-number";
const IGNORE_NULL_FIELDS: &str = "encode.ignore-null-fields";
/// Which parser of Java's library Flink uses; there is one here.
const JSON_PARSER: &str = "decode.json-parser.enabled";

/// The options that `json` and formats made of it have alike.
pub(super) const COMMON: [&str; 6] = [
    IGNORE_PARSE_ERRORS,
    TIMESTAMP_FORMAT,
    MAP_NULL_KEY_MODE,
    MAP_NULL_KEY_LITERAL,
    DECIMAL_AS_PLAIN_NUMBER,
    IGNORE_NULL_FIELDS,
];

impl JsonOptions {
    /// The options of `json`. Errors: `InvalidInput` names an option that there is not, or a value it cannot have.
    pub(super) fn new(options: &FormatOptions) -> Result<Self> {
        let mut known = COMMON.to_vec();
        known.extend([FAIL_ON_MISSING_FIELD, JSON_PARSER]);
        options.check(&known)?;
        options.is(JSON_PARSER, true)?;
        Self::common(options)
    }

    /// As [`Self::new`], of a format that has checked the names itself.
    pub(super) fn common(options: &FormatOptions) -> Result<Self> {
        let fails_on_missing_field = options.is(FAIL_ON_MISSING_FIELD, false)?;
        let ignores_parse_errors = options.is(IGNORE_PARSE_ERRORS, false)?;
        if fails_on_missing_field && ignores_parse_errors {
            let format = &options.format;
            return Err(Error::invalid_input(format!(
                "options `{format}.{FAIL_ON_MISSING_FIELD}` and `{format}.{IGNORE_PARSE_ERRORS}` cannot both be true"
            )));
        }
        let literal = options.get(MAP_NULL_KEY_LITERAL).unwrap_or("null").to_owned();
        let modes = [("FAIL", 0), ("DROP", 1), ("LITERAL", 2)];
        let null_key = match options.choice(MAP_NULL_KEY_MODE, &modes, 0, true)? {
            0 => NullKey::Fail,
            1 => NullKey::Drop,
            _ => NullKey::Literal(literal),
        };
        let forms = [("SQL", TimestampForm::Sql), ("ISO-8601", TimestampForm::Iso8601)];
        Ok(Self {
            fails_on_missing_field,
            ignores_parse_errors,
            timestamps: options.choice(TIMESTAMP_FORMAT, &forms, TimestampForm::Sql, false)?,
            null_key,
            decimals: match options.is(DECIMAL_AS_PLAIN_NUMBER, false)? {
                true => DecimalForm::Plain,
                false => DecimalForm::Scientific,
            },
            leaves_out_nulls: options.is(IGNORE_NULL_FIELDS, false)?,
        })
    }
}

/// Refuses what an object cannot hold: maps whose keys are no texts. Errors: `Unsupported` names the column.
pub(super) fn check_types(fields: &Fields) -> Result<()> {
    for field in fields {
        check_type(field.data_type()).map_err(|error| error.context(format!("column `{}`", field.name())))?;
    }
    Ok(())
}

fn check_type(data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::Struct(fields) => check_types(fields),
        DataType::List(item) => check_type(item.data_type()),
        DataType::Map(entries, _) => {
            let (key, value) = entry_fields(entries)?;
            match Kind::of(key.data_type())? {
                Kind::Text => check_type(value.data_type()),
                _ => Err(Error::unsupported(format!("JSON of a map with keys of type {}", key.data_type()))),
            }
        }
        other => Kind::of(other).map(|_| ()),
    }
}

#[cfg(test)]
mod tests;
