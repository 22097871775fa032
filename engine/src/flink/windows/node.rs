//! A relation with the windows of its rows, as a node of a plan.

use std::cmp::Ordering;
use std::collections::HashSet;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use datafusion::common::{Column, DFSchema, DFSchemaRef, ExprSchema, Result, plan_err};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, UserDefinedLogicalNodeCore};

use super::window::Window;

/// The columns that windows add: start, end and last moment of the window, as TIMESTAMP(3); the last in the zone of the
/// column of time.
pub const WINDOW_START: &str = "window_start";
/// See [`WINDOW_START`].
pub const WINDOW_END: &str = "window_end";
/// See [`WINDOW_START`].
pub const WINDOW_TIME: &str = "window_time";

/// The type of a window's start and end.
pub(crate) const BOUND: DataType = DataType::Timestamp(TimeUnit::Millisecond, None);

/// Every row of a relation once for each window that it is in, with the window's bounds after its own columns. A row without
/// a time is in none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowTable {
    /// The relation.
    pub input: LogicalPlan,
    /// The windows.
    pub window: Window,
    /// Its column of time.
    pub time: Column,
    /// Whose sessions these are; empty for other windows.
    pub keys: Vec<Column>,
    schema: DFSchemaRef,
}

impl WindowTable {
    /// `input` with its windows.
    pub fn plan(input: LogicalPlan, window: Window, time: Column, keys: Vec<Column>) -> Result<LogicalPlan> {
        let node = Arc::new(Self::new(input, window, time, keys)?);
        Ok(LogicalPlan::Extension(Extension { node }))
    }

    fn new(input: LogicalPlan, window: Window, time: Column, keys: Vec<Column>) -> Result<Self> {
        let name = window.name();
        let time_type = last_moment(name, &input, &time)?;
        for column in [WINDOW_START, WINDOW_END, WINDOW_TIME] {
            if input.schema().has_column_with_unqualified_name(column) {
                return plan_err!("{name}: the table has a column '{column}' already");
            }
        }
        let mut fields: Vec<_> =
            input.schema().iter().map(|(qualifier, field)| (qualifier.cloned(), Arc::clone(field))).collect();
        for (column, data_type) in [(WINDOW_START, BOUND), (WINDOW_END, BOUND), (WINDOW_TIME, time_type)] {
            fields.push((None, Arc::new(Field::new(column, data_type, false))));
        }
        let schema = DFSchema::new_with_metadata(fields, input.schema().as_ref().metadata().clone())?;
        Ok(Self { input, window, time, keys, schema: Arc::new(schema) })
    }

    /// The type of [`WINDOW_TIME`].
    pub(super) fn time_type(&self) -> Result<DataType> {
        last_moment(self.window.name(), &self.input, &self.time)
    }
}

fn last_moment(name: &str, input: &LogicalPlan, time: &Column) -> Result<DataType> {
    match input.schema().field_from_column(time)?.data_type() {
        DataType::Timestamp(_, zone) => Ok(DataType::Timestamp(TimeUnit::Millisecond, zone.clone())),
        other => plan_err!("{name}: column '{}' is no TIMESTAMP but {other}", time.name),
    }
}

impl UserDefinedLogicalNodeCore for WindowTable {
    fn name(&self) -> &str {
        "WindowTable"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        vec![&self.input]
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        std::iter::once(&self.time).chain(&self.keys).cloned().map(Expr::Column).collect()
    }

    /// What is asked of the input's own columns holds before the windows too; a session may end otherwise without the rows.
    fn prevent_predicate_push_down_columns(&self) -> HashSet<String> {
        match self.window {
            Window::Session { .. } => self.schema.fields().iter().map(|field| field.name().clone()).collect(),
            _ => [WINDOW_START, WINDOW_END, WINDOW_TIME].map(str::to_owned).into(),
        }
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WindowTable: {}, time={}", self.window, self.time)?;
        if !self.keys.is_empty() {
            let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
            write!(f, ", keys=[{}]", keys.join(", "))?;
        }
        Ok(())
    }

    fn with_exprs_and_inputs(&self, expressions: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        let mut columns = Vec::with_capacity(expressions.len());
        for expression in expressions {
            match expression {
                Expr::Column(column) => columns.push(column),
                other => return plan_err!("{}: '{other}' is no column", self.window.name()),
            }
        }
        let (Some(input), false) = (inputs.into_iter().next(), columns.is_empty()) else {
            return plan_err!("{}: no table or no column of time", self.window.name());
        };
        let time = columns.remove(0);
        Self::new(input, self.window, time, columns)
    }

    /// The input's columns that are asked for, and those that say the window.
    fn necessary_children_exprs(&self, output_columns: &[usize]) -> Option<Vec<Vec<usize>>> {
        let count = self.input.schema().fields().len();
        let mut needed: Vec<usize> = output_columns.iter().copied().filter(|at| *at < count).collect();
        for column in std::iter::once(&self.time).chain(&self.keys) {
            needed.push(self.input.schema().index_of_column(column).ok()?);
        }
        needed.sort_unstable();
        needed.dedup();
        Some(vec![needed])
    }
}

impl Hash for WindowTable {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.input, self.window, &self.time, &self.keys).hash(state);
    }
}

impl PartialOrd for WindowTable {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (&self.input, self.window, &self.time, &self.keys).partial_cmp(&(
            &other.input,
            other.window,
            &other.time,
            &other.keys,
        ))
    }
}
