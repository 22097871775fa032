//! Where rows change from one task to another: before each input of an operator that needs all rows of a key in one task.

use arrow::datatypes::SchemaRef;
use sha2::{Digest, Sha256};
use tereza_runtime::error::Result;

use super::{Planner, Stream};
use crate::operator::graph::Target;
use crate::operator::state::columns_text;

/// An edge of a job: what passes there, and where to.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// The columns.
    pub schema: SchemaRef,
    /// The columns that decide in which task a row is wanted.
    pub keys: Vec<usize>,
    /// The id of the operator that takes the rows.
    pub into: String,
    /// Its input.
    pub input: usize,
}

impl Exchange {
    /// The hash of all that gives messages their meaning, 64 hexadecimal digits.
    pub fn shape(&self) -> String {
        let Self { schema, keys, into, input } = self;
        let text = format!("{into}[{input}]({keys:?}, {})", columns_text(schema));
        Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// What is known of the tasks that the rows of a stream are in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Places {
    /// They have come through an exchange.
    pub exchanged: bool,
    /// Columns that rows of one task and no other have in common; each of these lists is enough by itself. They are in the order of the
    /// exchange's keys, so that the key group is that of the columns.
    pub by: Vec<Vec<usize>>,
}

impl Places {
    /// Those of rows that were exchanged by columns.
    pub(super) fn by(lists: impl IntoIterator<Item = Vec<usize>>) -> Self {
        Self { exchanged: true, by: lists.into_iter().collect() }
    }

    /// Whether each row is where it would be after an exchange by `keys`. Fewer columns would do for the rows, and not for state: it is
    /// of the key group of all of them.
    fn is_by(&self, keys: &[usize]) -> bool {
        self.by.iter().any(|list| list == keys)
    }

    /// Whether all rows that agree in `columns` are in one task. What was not exchanged is where its source's partition is.
    pub(crate) fn keeps_together(&self, columns: &[usize]) -> bool {
        !self.exchanged || self.by.iter().any(|list| list.iter().all(|column| columns.contains(column)))
    }

    /// The places after columns have moved; a column that is not kept says nothing any more.
    pub(super) fn moved(&self, to: impl Fn(usize) -> Option<usize>) -> Self {
        let moved = |list: &Vec<usize>| list.iter().map(|column| to(*column)).collect();
        Self { exchanged: self.exchanged, by: self.by.iter().filter_map(moved).collect() }
    }

    /// The places of rows of several streams.
    pub(super) fn of_all<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut all = all.into_iter();
        let mut places = all.next().cloned().unwrap_or_default();
        for other in all {
            places.exchanged |= other.exchanged;
            places.by.retain(|list| other.by.contains(list));
        }
        places
    }
}

impl Planner<'_> {
    /// Sends a stream to an input of an operator, with all rows of a key in one task.
    pub(super) fn exchange(
        &mut self,
        stream: &Stream,
        keys: Vec<usize>,
        (into, node, input): (&str, usize, usize),
    ) -> Result<()> {
        let target = Target::Operator { node, input };
        if stream.places.is_by(&keys) {
            return self.send(stream.port, target);
        }
        let schema = SchemaRef::clone(&stream.schema);
        self.exchanges.push(Exchange { schema, keys, into: into.to_owned(), input });
        if !self.settings.is_spread {
            return self.send(stream.port, target);
        }
        let edge = self.graph.edge(target);
        self.send(stream.port, Target::Edge(edge))
    }
}
