//! Flink's functions of texts that DataFusion has otherwise or not at all.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, StringArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use regex::Regex;
use tereza_runtime::Error;

use super::Compiled;
use crate::error::to_datafusion;

/// `SPLIT_INDEX(text, separator, index)`: the part of that index, counted from 0; NULL if there is none. Without a separator,
/// whitespace parts.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct SplitIndex(Signature);

impl SplitIndex {
    pub(super) fn new() -> Self {
        Self(Signature::exact(vec![DataType::Utf8, DataType::Utf8, DataType::Int64], Volatility::Immutable))
    }
}

impl ScalarUDFImpl for SplitIndex {
    fn name(&self) -> &str {
        "split_index"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let [texts, separators, places] = arrays.as_slice() else {
            return exec_err!("split_index has three arguments");
        };
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
        Ok(ColumnarValue::Array(Arc::new(parts.collect::<StringArray>())))
    }
}

/// `REGEXP_EXTRACT(text, pattern[, group])`: the group of the first match, or all of it; NULL if nothing matches.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct RegexpExtract(Signature);

impl RegexpExtract {
    pub(super) fn new() -> Self {
        let texts = vec![DataType::Utf8, DataType::Utf8];
        let with_group = [texts.clone(), vec![DataType::Int64]].concat();
        let forms = vec![TypeSignature::Exact(texts), TypeSignature::Exact(with_group)];
        Self(Signature::one_of(forms, Volatility::Immutable))
    }
}

impl ScalarUDFImpl for RegexpExtract {
    fn name(&self) -> &str {
        "regexp_extract"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Utf8)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let [texts, patterns, groups @ ..] = arrays.as_slice() else {
            return plan_err!("regexp_extract has no pattern");
        };
        let groups = groups.first().map(|groups| groups.as_primitive::<Int64Type>());
        let mut compiled = Compiled::new(regex);
        let mut found = Vec::with_capacity(texts.len());
        for (row, (text, pattern)) in texts.as_string::<i32>().iter().zip(patterns.as_string::<i32>()).enumerate() {
            let group = groups.map_or(Some(0), |groups| groups.is_valid(row).then(|| groups.value(row)));
            found.push(match (text, pattern, group) {
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
        Ok(ColumnarValue::Array(Arc::new(StringArray::from(found))))
    }
}

/// `REGEXP(text, pattern)`: whether any part of the text matches.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Regexp(Signature);

impl Regexp {
    pub(super) fn new() -> Self {
        Self(Signature::exact(vec![DataType::Utf8, DataType::Utf8], Volatility::Immutable))
    }
}

impl ScalarUDFImpl for Regexp {
    fn name(&self) -> &str {
        "regexp"
    }

    fn signature(&self) -> &Signature {
        &self.0
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let [texts, patterns] = arrays.as_slice() else { return plan_err!("regexp has two arguments") };
        let mut compiled = Compiled::new(regex);
        let matches: BooleanArray = texts
            .as_string::<i32>()
            .iter()
            .zip(patterns.as_string::<i32>())
            .map(|row| match row {
                (Some(text), Some(pattern)) => compiled.of(pattern).map(|regex| Some(regex.is_match(text))),
                _ => Ok(None),
            })
            .collect::<Result<_>>()?;
        Ok(ColumnarValue::Array(Arc::new(matches) as ArrayRef))
    }
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
