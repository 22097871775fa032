//! Flink's functions of texts that DataFusion has otherwise or not at all.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, StringArray};
use arrow::datatypes::DataType::{Boolean, Int64, Utf8};
use arrow::datatypes::Int64Type;
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::ScalarUDF;
use regex::Regex;
use tereza_runtime::Error;

use super::Compiled;
use super::function::{function, number_at};
use crate::error::to_datafusion;

pub(super) fn functions() -> [ScalarUDF; 3] {
    [
        function("split_index", &[&[Utf8, Utf8, Int64]], Utf8, split_index),
        function("regexp_extract", &[&[Utf8, Utf8], &[Utf8, Utf8, Int64]], Utf8, regexp_extract),
        function("regexp", &[&[Utf8, Utf8]], Boolean, regexp),
    ]
}

/// `SPLIT_INDEX(text, separator, index)`: the part of that index, counted from 0; NULL if there is none. Without a separator,
/// whitespace parts.
fn split_index(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let [texts, separators, places] = arguments else { return exec_err!("split_index has three arguments") };
    let (texts, separators) = (texts.as_string::<i32>(), separators.as_string::<i32>());
    let places = places.as_primitive::<Int64Type>();
    let parts = texts.iter().zip(separators).zip(places).map(|((text, separator), place)| {
        let place = usize::try_from(place?).ok()?;
        match (text?, separator?) {
            ("", _) => None,
            (text, "") => text.split(char::is_whitespace).nth(place),
            (text, separator) => text.split(separator).nth(place),
        }
    });
    Ok(Arc::new(parts.collect::<StringArray>()))
}

/// `REGEXP_EXTRACT(text, pattern[, group])`: the group of the first match, or all of it; NULL if nothing matches.
fn regexp_extract(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let [texts, patterns, groups @ ..] = arguments else { return plan_err!("regexp_extract has no pattern") };
    let mut compiled = Compiled::new(regex);
    let mut found = Vec::with_capacity(texts.len());
    for (row, (text, pattern)) in texts.as_string::<i32>().iter().zip(patterns.as_string::<i32>()).enumerate() {
        found.push(match (text, pattern, number_at(groups, row, 0)) {
            (Some(text), Some(pattern), Some(group)) => match usize::try_from(group) {
                Ok(0) => compiled.of(pattern)?.find(text).map(|found| found.as_str()),
                Ok(group) => {
                    let captures = compiled.of(pattern)?.captures(text);
                    captures.and_then(|captures| captures.get(group)).map(|found| found.as_str())
                }
                Err(_) => None,
            },
            _ => None,
        });
    }
    Ok(Arc::new(StringArray::from(found)))
}

/// `REGEXP(text, pattern)`: whether any part of the text matches.
fn regexp(arguments: &[ArrayRef]) -> Result<ArrayRef> {
    let [texts, patterns] = arguments else { return plan_err!("regexp has two arguments") };
    let mut compiled = Compiled::new(regex);
    let rows = texts.as_string::<i32>().iter().zip(patterns.as_string::<i32>());
    let matches = rows.map(|row| match row {
        (Some(text), Some(pattern)) => compiled.of(pattern).map(|regex| Some(regex.is_match(text))),
        _ => Ok(None),
    });
    Ok(Arc::new(matches.collect::<Result<BooleanArray>>()?))
}

/// Java's patterns, as far as they need no steps back.
fn regex(pattern: &str) -> Result<Regex> {
    Regex::new(pattern).map_err(|error| {
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        let is_java_only = reason.contains("look-around") || reason.contains("backreferences");
        to_datafusion(match is_java_only {
            true => Error::unsupported(format!("in the pattern '{pattern}': {reason}")),
            false => Error::invalid_input(format!("the pattern '{pattern}' cannot be read: {reason}")),
        })
    })
}
