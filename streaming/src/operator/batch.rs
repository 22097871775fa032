//! Rows on their way between operators: a record batch, and what each row does to the table that the stream stands for.

use std::sync::Arc;

use arrow::array::{Array, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, prep_null_mask_filter, take_record_batch};
use tereza_runtime::error::{Error, Result};

use super::error::failed;

/// Rows of one batch that an operator emits, at most.
pub const BATCH_ROWS_MAX: usize = 65_536;

/// What a row does to the table that the stream stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RowKind {
    /// `+I`: the row is new.
    Insert,
    /// `-U`: the row is taken back, its new form follows.
    UpdateBefore,
    /// `+U`: the new form of a row.
    UpdateAfter,
    /// `-D`: the row is taken back.
    Delete,
}

impl RowKind {
    /// Whether the row is added, not taken back.
    pub const fn adds(self) -> bool {
        matches!(self, Self::Insert | Self::UpdateAfter)
    }

    /// 1 for a row that is added, -1 for one that is taken back.
    pub const fn sign(self) -> i64 {
        if self.adds() { 1 } else { -1 }
    }

    /// How Flink prints the kind.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "+I",
            Self::UpdateBefore => "-U",
            Self::UpdateAfter => "+U",
            Self::Delete => "-D",
        }
    }
}

/// A record batch with the kinds of its rows; without kinds all rows are inserts.
#[derive(Debug, Clone)]
pub struct Batch {
    rows: RecordBatch,
    kinds: Option<Arc<[RowKind]>>,
}

impl Batch {
    /// A batch of inserts.
    pub fn inserts(rows: RecordBatch) -> Self {
        Self { rows, kinds: None }
    }

    /// A batch of changes, one kind for each row.
    pub fn changes(rows: RecordBatch, kinds: Vec<RowKind>) -> Result<Self> {
        if kinds.len() != rows.num_rows() {
            return Err(Error::internal(format!("{} rows have {} kinds", rows.num_rows(), kinds.len())));
        }
        let only_inserts = kinds.iter().all(|kind| *kind == RowKind::Insert);
        Ok(Self { rows, kinds: (!only_inserts).then(|| kinds.into()) })
    }

    /// The rows without their kinds.
    pub fn rows(&self) -> &RecordBatch {
        &self.rows
    }

    /// The kinds, `None` if all rows are inserts.
    pub fn kinds(&self) -> Option<&[RowKind]> {
        self.kinds.as_deref()
    }

    /// The kind of a row.
    pub fn kind(&self, row: usize) -> RowKind {
        self.kinds.as_ref().map_or(RowKind::Insert, |kinds| kinds[row])
    }

    /// Rows in the batch.
    pub fn len(&self) -> usize {
        self.rows.num_rows()
    }

    /// Whether the batch has no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Other columns for the same rows.
    pub fn with_rows(&self, rows: RecordBatch) -> Result<Self> {
        if rows.num_rows() != self.len() {
            return Err(Error::internal(format!("{} rows stand for {}", rows.num_rows(), self.len())));
        }
        Ok(Self { rows, kinds: self.kinds.clone() })
    }

    /// The rows where `keep` is true; NULL counts as false.
    pub fn filter(&self, keep: &BooleanArray) -> Result<Self> {
        let keep = if keep.null_count() > 0 { prep_null_mask_filter(keep) } else { keep.clone() };
        let rows = filter_record_batch(&self.rows, &keep).map_err(failed)?;
        let kinds = self.kinds.as_ref().map(|kinds| {
            kinds.iter().zip(keep.values()).filter(|(_, keep)| *keep).map(|(kind, _)| *kind).collect::<Vec<_>>()
        });
        kinds.map_or_else(|| Ok(Self::inserts(rows.clone())), |kinds| Self::changes(rows.clone(), kinds))
    }

    /// The rows at `indices`, which may repeat.
    pub fn take(&self, indices: &UInt32Array) -> Result<Self> {
        let rows = take_record_batch(&self.rows, indices).map_err(failed)?;
        match &self.kinds {
            None => Ok(Self::inserts(rows)),
            Some(kinds) => Self::changes(rows, indices.values().iter().map(|at| kinds[*at as usize]).collect()),
        }
    }

    /// `length` rows from `offset` on.
    pub fn slice(&self, offset: usize, length: usize) -> Result<Self> {
        let rows = self.rows.slice(offset, length);
        match &self.kinds {
            None => Ok(Self::inserts(rows)),
            Some(kinds) => Self::changes(rows, kinds[offset..offset + length].to_vec()),
        }
    }

    /// The batch without `-U`, for whoever keeps rows by key.
    pub fn without_update_before(&self) -> Result<Self> {
        match self.kinds() {
            Some(kinds) if kinds.contains(&RowKind::UpdateBefore) => {
                self.filter(&kinds.iter().map(|kind| Some(*kind != RowKind::UpdateBefore)).collect())
            }
            _ => Ok(self.clone()),
        }
    }
}
