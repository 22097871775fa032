//! Pairs of rows: what the joins have in common.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use tereza_runtime::error::{Error, Result};

use super::batch::{BATCH_ROWS_MAX, Batch, RowKind};
use super::calc::{Expression, evaluate};
use super::error::failed;
use super::key::RowCodec;
use super::{ChangelogMode, Output};

/// Which rows without a partner stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JoinKind {
    /// None.
    Inner,
    /// Those of the left input.
    Left,
    /// Those of the right input.
    Right,
    /// Those of both.
    Full,
}

impl JoinKind {
    /// Whether rows of an input (0 left, 1 right) stay without a partner.
    pub(crate) fn keeps(self, input: usize) -> bool {
        match self {
            Self::Inner => false,
            Self::Left => input == 0,
            Self::Right => input == 1,
            Self::Full => true,
        }
    }
}

/// What is joined: the columns that must be equal, and a condition on pairs. NULL equals nothing.
#[derive(Debug, Clone)]
pub struct JoinOn {
    /// Which rows without a partner stay.
    pub kind: JoinKind,
    /// Columns of the left input.
    pub left: Vec<usize>,
    /// Columns of the right input, of the same types.
    pub right: Vec<usize>,
    /// A condition on the columns of both, the left ones first.
    pub condition: Option<Expression>,
}

impl JoinOn {
    /// The columns of the output: those of the left input, then those of the right.
    pub(crate) fn schema(&self, left: &Schema, right: &Schema) -> SchemaRef {
        let padded = |schema: &Schema, is_padded: bool| -> Vec<Arc<Field>> {
            let field =
                |field: &Arc<Field>| Arc::new(field.as_ref().clone().with_nullable(is_padded || field.is_nullable()));
            schema.fields().iter().map(field).collect()
        };
        let mut fields = padded(left, self.kind.keeps(1));
        fields.extend(padded(right, self.kind.keeps(0)));
        Arc::new(Schema::new(fields))
    }

    /// Refuses keys of other types, and a condition that is none.
    pub(crate) fn check(&self, left: &Schema, right: &Schema) -> Result<()> {
        if self.left.len() != self.right.len() {
            return Err(Error::internal("a join of more columns on one side than on the other"));
        }
        for (left, right) in
            self.left.iter().map(|at| left.field(*at)).zip(self.right.iter().map(|at| right.field(*at)))
        {
            if left.data_type() != right.data_type() {
                return Err(Error::invalid_input(format!(
                    "a join of {} {} with {} {}",
                    left.name(),
                    left.data_type(),
                    right.name(),
                    right.data_type()
                ))
                .with_hint("cast one of them"));
            }
        }
        if let Some(condition) = &self.condition {
            let data_type = condition.data_type(&self.schema(left, right)).map_err(failed)?;
            if data_type != DataType::Boolean {
                return Err(Error::invalid_input(format!(
                    "the condition {condition} has type {data_type}, not BOOLEAN"
                )));
            }
        }
        Ok(())
    }

    /// What gives the state its meaning.
    pub(crate) fn describe(&self) -> String {
        let condition = self.condition.as_ref().map(ToString::to_string);
        format!("{:?}, {:?}, {:?}, {condition:?}", self.kind, self.left, self.right)
    }

    /// The columns of an input that must be equal.
    pub(crate) fn columns(&self, input: usize) -> &[usize] {
        if input == 0 { &self.left } else { &self.right }
    }
}

/// The mode of a join of streams: with both keys a pair is told apart.
pub(crate) fn joined_mode(
    kind: JoinKind,
    left: &ChangelogMode,
    right: &ChangelogMode,
    left_columns: usize,
) -> ChangelogMode {
    match (kind, left, right) {
        (JoinKind::Inner, ChangelogMode::Append, ChangelogMode::Append) => ChangelogMode::Append,
        (_, ChangelogMode::Retract { key: Some(left) }, ChangelogMode::Retract { key: Some(right) }) => {
            let right = right.iter().map(|column| column + left_columns);
            ChangelogMode::Retract { key: Some(left.iter().copied().chain(right).collect()) }
        }
        _ => ChangelogMode::Retract { key: None },
    }
}

/// Rows of both inputs as bytes, and back.
#[derive(Debug)]
pub(crate) struct PairCodec {
    rows: [RowCodec; 2],
    nulls: [Vec<u8>; 2],
    schema: SchemaRef,
    condition: Option<Expression>,
}

/// A change of a pair; a side without a partner is `None`.
pub(crate) type PairChange<R> = (RowKind, [Option<R>; 2]);

impl PairCodec {
    pub(crate) fn new(on: &JoinOn, left: &Schema, right: &Schema) -> Result<Self> {
        let rows = [RowCodec::whole(left)?, RowCodec::whole(right)?];
        let null_of = |schema: &Schema, codec: &RowCodec| -> Result<Vec<u8>> {
            let columns: Vec<_> = schema.fields().iter().map(|field| new_null_array(field.data_type(), 1)).collect();
            Ok(codec.encode_columns(&columns, 1)?.get(0).to_vec())
        };
        let nulls = [null_of(left, &rows[0])?, null_of(right, &rows[1])?];
        Ok(Self { rows, nulls, schema: on.schema(left, right), condition: on.condition.clone() })
    }

    pub(crate) fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    /// The codec of an input's rows.
    pub(crate) fn row(&self, input: usize) -> &RowCodec {
        &self.rows[input]
    }

    fn decode<'a>(&'a self, pairs: impl Iterator<Item = [Option<&'a [u8]>; 2]> + Clone) -> Result<RecordBatch> {
        let count = pairs.clone().count();
        let side = |input: usize| {
            let null = self.nulls[input].as_slice();
            self.rows[input].decode(pairs.clone().map(move |pair| pair[input].unwrap_or(null)))
        };
        let mut columns = side(0)?;
        columns.extend(side(1)?);
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        RecordBatch::try_new_with_options(self.schema(), columns, &options).map_err(failed)
    }

    /// Which pairs meet the condition.
    pub(crate) fn meets<R: AsRef<[u8]>>(&self, pairs: &[[R; 2]]) -> Result<Vec<bool>> {
        let Some(condition) = &self.condition else { return Ok(vec![true; pairs.len()]) };
        let mut meets = Vec::with_capacity(pairs.len());
        for pairs in pairs.chunks(BATCH_ROWS_MAX) {
            let rows = self.decode(pairs.iter().map(|[left, right]| [Some(left.as_ref()), Some(right.as_ref())]))?;
            let mask = evaluate(condition, &rows)?;
            meets.extend(mask.as_boolean().iter().map(|meets| meets == Some(true)));
        }
        Ok(meets)
    }

    /// Emits changes of pairs.
    pub(crate) fn emit<R: AsRef<[u8]>>(&self, changes: &[PairChange<R>], out: &mut dyn Output) -> Result<()> {
        for changes in changes.chunks(BATCH_ROWS_MAX) {
            let pairs = changes
                .iter()
                .map(|(_, [left, right])| [left.as_ref().map(AsRef::as_ref), right.as_ref().map(AsRef::as_ref)]);
            let rows = self.decode(pairs)?;
            out.emit(Batch::changes(rows, changes.iter().map(|(kind, _)| *kind).collect())?)?;
        }
        Ok(())
    }
}

/// A pair with a row of `input` first, put in the order of the inputs.
pub(crate) fn in_order<R>(input: usize, own: R, other: R) -> [R; 2] {
    if input == 0 { [own, other] } else { [other, own] }
}
