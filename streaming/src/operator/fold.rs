//! Folds a stream of changes into the table that it stands for.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tereza_runtime::error::{Error, Result};

use super::batch::{Batch, RowKind};
use super::error::failed;
use super::key::RowCodec;

/// A multiset of rows, made of changes.
#[derive(Debug)]
pub struct Fold {
    schema: SchemaRef,
    codec: RowCodec,
    rows: BTreeMap<Vec<u8>, u64>,
}

impl Fold {
    /// The empty table.
    pub fn new(schema: SchemaRef) -> Result<Self> {
        Ok(Self { codec: RowCodec::whole(&schema)?, schema, rows: BTreeMap::new() })
    }

    /// Applies changes in their order. A row that is taken back must be there.
    pub fn apply(&mut self, batch: &Batch) -> Result<()> {
        let rows = self.codec.encode(batch.rows())?;
        for row in 0..batch.len() {
            let (kind, bytes) = (batch.kind(row), rows.get(row));
            if kind.adds() {
                *self.rows.entry(bytes.to_vec()).or_default() += 1;
                continue;
            }
            match self.rows.get_mut(bytes) {
                Some(1) => {
                    self.rows.remove(bytes);
                }
                Some(count) => *count -= 1,
                None => {
                    let row = arrow::util::pretty::pretty_format_batches(&[batch.rows().slice(row, 1)]);
                    return Err(Error::invalid_input(format!(
                        "{} of a row that is not there: {}",
                        kind.as_str(),
                        row.map_err(failed)?
                    )));
                }
            }
        }
        Ok(())
    }

    /// The rows, sorted by their columns from left to right.
    pub fn rows(&self) -> Result<RecordBatch> {
        let rows = self.rows.iter().flat_map(|(row, count)| (0..*count).map(move |_| row.as_slice()));
        RecordBatch::try_new(SchemaRef::clone(&self.schema), self.codec.decode(rows)?).map_err(failed)
    }
}

/// The latest row of each key, made of changes with or without `-U`.
#[derive(Debug)]
pub struct FoldByKey {
    schema: SchemaRef,
    key: RowCodec,
    row: RowCodec,
    rows: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl FoldByKey {
    /// The empty table with its key.
    pub fn new(schema: SchemaRef, key: &[usize]) -> Result<Self> {
        Ok(Self { key: RowCodec::new(&schema, key)?, row: RowCodec::whole(&schema)?, schema, rows: BTreeMap::new() })
    }

    /// Applies changes in their order; `-U` is passed over.
    pub fn apply(&mut self, batch: &Batch) -> Result<()> {
        let (keys, rows) = (self.key.encode(batch.rows())?, self.row.encode(batch.rows())?);
        for row in 0..batch.len() {
            match batch.kind(row) {
                RowKind::Insert | RowKind::UpdateAfter => {
                    self.rows.insert(keys.get(row).to_vec(), rows.get(row).to_vec());
                }
                RowKind::Delete => {
                    self.rows.remove(keys.get(row));
                }
                RowKind::UpdateBefore => {}
            }
        }
        Ok(())
    }

    /// The rows, sorted by their key.
    pub fn rows(&self) -> Result<RecordBatch> {
        let columns = self.row.decode(self.rows.values().map(Vec::as_slice))?;
        RecordBatch::try_new(SchemaRef::clone(&self.schema), columns).map_err(failed)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{AsArray, Int64Array};
    use arrow::datatypes::{DataType, Field, Int64Type, Schema};

    use super::*;

    fn changes(rows: &[(RowKind, i64, i64)]) -> Batch {
        let schema = Schema::new(vec![Field::new("k", DataType::Int64, true), Field::new("v", DataType::Int64, true)]);
        let column = |of: fn(&(RowKind, i64, i64)) -> i64| Arc::new(Int64Array::from_iter_values(rows.iter().map(of)));
        let columns = RecordBatch::try_new(Arc::new(schema), vec![column(|row| row.1), column(|row| row.2)]).unwrap();
        Batch::changes(columns, rows.iter().map(|row| row.0).collect()).unwrap()
    }

    fn values(batch: &RecordBatch) -> Vec<i64> {
        batch.column(1).as_primitive::<Int64Type>().values().to_vec()
    }

    #[test]
    fn rows_are_counted() {
        use RowKind::{Delete, Insert, UpdateAfter, UpdateBefore};
        let first =
            changes(&[(Insert, 1, 10), (Insert, 1, 10), (Insert, 2, 5), (UpdateBefore, 2, 5), (UpdateAfter, 2, 6)]);
        let mut fold = Fold::new(first.rows().schema()).unwrap();
        fold.apply(&first).unwrap();
        assert_eq!(values(&fold.rows().unwrap()), [10, 10, 6]);
        fold.apply(&changes(&[(Delete, 1, 10)])).unwrap();
        assert_eq!(values(&fold.rows().unwrap()), [10, 6]);
        assert!(fold.apply(&changes(&[(Delete, 2, 5)])).is_err());
    }

    #[test]
    fn the_latest_row_of_a_key_stays() {
        use RowKind::{Delete, Insert, UpdateAfter};
        let first = changes(&[(Insert, 1, 10), (UpdateAfter, 1, 11), (Insert, 2, 5), (Delete, 2, 0)]);
        let mut fold = FoldByKey::new(first.rows().schema(), &[0]).unwrap();
        fold.apply(&first).unwrap();
        assert_eq!(values(&fold.rows().unwrap()), [11]);
    }
}
