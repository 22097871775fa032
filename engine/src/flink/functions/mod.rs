//! Flink's functions, where DataFusion's of the same name answer otherwise or there are none.

mod average;
mod function;
pub(super) mod pattern;
mod simple;
mod texts;
mod times;

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::common::Result;
use datafusion::logical_expr::{AggregateUDF, ScalarUDF};

/// Texts that are kept in their read form while one batch is worked on.
const COMPILED_MAX: usize = 1_000;

/// Functions of values.
pub(super) fn scalars() -> impl Iterator<Item = Arc<ScalarUDF>> {
    let own = texts::functions().into_iter().chain(times::functions());
    own.chain(simple::functions()).map(Arc::new)
}

/// Functions of many rows.
pub(super) fn aggregates() -> impl Iterator<Item = Arc<AggregateUDF>> {
    std::iter::once(Arc::new(AggregateUDF::from(average::Average::new())))
}

/// What texts (patterns) were compiled to, so that a column of the same one compiles it once.
struct Compiled<'a, T> {
    compile: fn(&str) -> Result<T>,
    known: HashMap<&'a str, T>,
}

impl<'a, T> Compiled<'a, T> {
    fn new(compile: fn(&str) -> Result<T>) -> Self {
        Self { compile, known: HashMap::new() }
    }

    fn of(&mut self, text: &'a str) -> Result<&T> {
        if !self.known.contains_key(text) {
            if self.known.len() >= COMPILED_MAX {
                self.known.clear();
            }
            self.known.insert(text, (self.compile)(text)?);
        }
        Ok(&self.known[text])
    }
}
