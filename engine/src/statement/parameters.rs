//! Placeholders and their values: `?`, `$1` and `$name`.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::common::ParamValues;
use datafusion::common::metadata::ScalarAndMetadata;
use datafusion::logical_expr::LogicalPlan;
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::tokenizer::{Token, TokenWithSpan};
use tereza_runtime::{Error, Result};

use crate::error::from_datafusion;

/// Gives each `?` the next number and returns the parameters' names in order: `$1`, `$2`, … up to the greatest number, or
/// `$name`s as they first appear.
pub(super) fn number(tokens: &mut [TokenWithSpan]) -> Result<Vec<String>> {
    let mut questions = 0;
    let mut greatest = 0;
    let mut names: Vec<String> = Vec::new();
    for token in tokens {
        let Token::Placeholder(name) = &mut token.token else { continue };
        if name == "?" {
            questions += 1;
            *name = format!("${questions}");
        } else if let Some(number) = name.get(1..).and_then(|rest| rest.parse::<usize>().ok()) {
            greatest = greatest.max(number);
            // SQLite's `?1` is `$1`.
            *name = format!("${number}");
        } else if !names.contains(name) {
            names.push(name.clone());
        }
    }
    let styles = [questions > 0, greatest > 0, !names.is_empty()];
    if styles.iter().filter(|used| **used).count() > 1 {
        return Err(
            Error::invalid_input("the statement mixes parameters written ?, $1 and $name").with_hint("use one way")
        );
    }
    if greatest > PARAMETERS_MAX {
        return Err(Error::invalid_input(format!(
            "parameter ${greatest} is beyond the greatest number, {PARAMETERS_MAX}"
        )));
    }
    let numbered = questions.max(greatest);
    Ok(if numbered > 0 { (1..=numbered).map(|number| format!("${number}")).collect() } else { names })
}

/// Parameters of one statement (PostgreSQL's bound).
const PARAMETERS_MAX: usize = 65_535;

/// One field for each parameter: its name and the type that the plan gives it, Null where it gives none.
pub(super) fn fields(plan: &LogicalPlan, names: &[String]) -> Result<SchemaRef> {
    if names.is_empty() {
        return Ok(Arc::new(Schema::empty()));
    }
    let types = plan.get_parameter_types().map_err(from_datafusion)?;
    let fields: Vec<Field> = names
        .iter()
        .map(|name| {
            let data_type = types.get(name).cloned().flatten().unwrap_or(DataType::Null);
            Field::new(name, data_type, true)
        })
        .collect();
    Ok(Arc::new(Schema::new(fields)))
}

/// The plan with values in the place of its parameters. `values` has one row, and a column for each parameter in order, or
/// columns with the names of named parameters. Values are cast to the types that the plan expects.
pub(super) fn bind(
    plan: LogicalPlan,
    names: &[String],
    fields: &SchemaRef,
    values: &RecordBatch,
) -> Result<LogicalPlan> {
    if values.num_rows() != 1 {
        return Err(Error::invalid_input(format!(
            "parameters come as one row, and {} rows were given",
            values.num_rows()
        )));
    }
    if values.num_columns() != names.len() {
        return Err(Error::invalid_input(format!(
            "the statement has {} parameters, and {} values were given",
            names.len(),
            values.num_columns()
        )));
    }
    if names.is_empty() {
        return Ok(plan);
    }
    let mut bound = Vec::with_capacity(names.len());
    for (position, field) in fields.fields().iter().enumerate() {
        let bare = field.name().trim_start_matches('$');
        // Named parameters may come in any order; numbered ones come in theirs.
        let column = match values.schema().index_of(bare) {
            Ok(column) if bare.parse::<usize>().is_err() => column,
            _ => position,
        };
        let value = ScalarValue::try_from_array(values.column(column), 0).map_err(from_datafusion)?;
        bound.push((bare.to_owned(), cast(value, field)?));
    }
    let named = bound.iter().any(|(name, _)| name.parse::<usize>().is_err());
    let values = if named {
        ParamValues::Map(bound.into_iter().collect::<HashMap<_, _>>())
    } else {
        ParamValues::List(bound.into_iter().map(|(_, value)| value).collect())
    };
    plan.with_param_values(values).map_err(from_datafusion)
}

fn cast(value: ScalarValue, field: &Field) -> Result<ScalarAndMetadata> {
    if *field.data_type() == DataType::Null || value.data_type() == *field.data_type() {
        return Ok(ScalarAndMetadata::new(value, None));
    }
    let cast = value.cast_to(field.data_type()).map_err(|error| {
        let (name, data_type) = (field.name(), field.data_type());
        Error::invalid_input(format!("value {value} of parameter {name} is not a {data_type}")).with_source(error)
    })?;
    Ok(ScalarAndMetadata::new(cast, None))
}

#[cfg(test)]
mod tests {
    use super::super::parse::{Text, tests::scope};

    fn placeholders(sql: &str) -> tereza_runtime::Result<Vec<String>> {
        Ok(Text::new(sql, scope())?.placeholders)
    }

    #[test]
    fn question_marks_are_numbered_in_order() {
        assert_eq!(placeholders("select ?, '?' || ? -- ?").expect("two"), ["$1", "$2"]);
    }

    #[test]
    fn numbers_may_repeat_and_leave_gaps() {
        assert_eq!(placeholders("select $3, $1, $3").expect("three"), ["$1", "$2", "$3"]);
        assert_eq!(placeholders("select $b, $a, $b").expect("two"), ["$b", "$a"]);
    }

    #[test]
    fn styles_are_not_mixed() {
        assert!(placeholders("select ?, $1").is_err());
        assert!(placeholders("select $a, $1").is_err());
    }
}
