//! Gives a stream of latest rows the rows that they replace: `+I`, `+U` and `-D` by key become all four kinds.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use tereza_runtime::error::{Error, Result};

use super::batch::{Batch, RowKind};
use super::error::failed;
use super::key::{BuildKeyHasher, RowCodec};
use super::mode::ChangelogMode;
use super::state::{SnapshotWriter, StateReader, columns_text};
use super::{Context, Operator, Output};

const NAME: &str = "normalize";
const TABLE: &str = "rows";
/// Bytes of a row besides its own and its key.
const ENTRY_BYTES: usize = 80;

type Bytes = Arc<[u8]>;

/// The operator. It emits the columns of its input. A `-D` of a key that is not there is passed over, and so is a row that
/// is the same as before.
pub struct Normalize {
    key: Vec<usize>,
    key_codec: RowCodec,
    row_codec: RowCodec,
    schema: SchemaRef,
    description: String,
    rows: HashMap<Bytes, Bytes, BuildKeyHasher>,
    changed: BTreeSet<Bytes>,
    bytes: usize,
}

impl Normalize {
    /// Fails with `Internal` for an input that is no stream of latest rows: it needs nothing.
    pub fn new(input: &SchemaRef, mode: &ChangelogMode) -> Result<Self> {
        let ChangelogMode::Upsert(key) = mode else {
            return Err(Error::internal(format!("a stream of mode {} is normal already", mode.as_str())));
        };
        let columns = columns_text(input);
        Ok(Self {
            key_codec: RowCodec::new(input, key)?,
            row_codec: RowCodec::whole(input)?,
            schema: SchemaRef::clone(input),
            description: format!("{NAME}({key:?}, {columns})"),
            key: key.clone(),
            rows: HashMap::default(),
            changed: BTreeSet::new(),
            bytes: 0,
        })
    }
}

impl Operator for Normalize {
    fn name(&self) -> &str {
        NAME
    }

    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn mode(&self) -> ChangelogMode {
        ChangelogMode::Retract { key: Some(self.key.clone()) }
    }

    fn describe(&self) -> String {
        self.description.clone()
    }

    fn keyed_by(&self, _: usize) -> Option<&[usize]> {
        Some(&self.key)
    }

    fn process(&mut self, _: usize, batch: Batch, cx: &Context, out: &mut dyn Output) -> Result<()> {
        let keys = self.key_codec.encode(batch.rows())?;
        let rows = self.row_codec.encode(batch.rows())?;
        let mut changes: Vec<(RowKind, Bytes)> = Vec::new();
        for row in 0..batch.len() {
            let key: Bytes = keys.get(row).into();
            let known = self.rows.get(&key).cloned();
            self.bytes -= known.as_ref().map_or(0, |known| cost(&key, known));
            if batch.kind(row).adds() {
                let new: Bytes = rows.get(row).into();
                self.bytes += cost(&key, &new);
                match known {
                    Some(known) if known == new => continue,
                    Some(known) => {
                        changes.extend([(RowKind::UpdateBefore, known), (RowKind::UpdateAfter, Arc::clone(&new))]);
                    }
                    None => changes.push((RowKind::Insert, Arc::clone(&new))),
                }
                self.rows.insert(Arc::clone(&key), new);
            } else if let Some(known) = known {
                changes.push((RowKind::Delete, known));
                self.rows.remove(&key);
            }
            self.changed.insert(key);
        }
        if !changes.is_empty() {
            let columns = self.row_codec.decode(changes.iter().map(|(_, row)| row.as_ref()))?;
            let rows = RecordBatch::try_new(self.schema(), columns).map_err(failed)?;
            out.emit(Batch::changes(rows, changes.iter().map(|(kind, _)| *kind).collect())?)?;
        }
        cx.admit(NAME, self.bytes)
    }

    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        for key in std::mem::take(&mut self.changed) {
            writer.entry(TABLE, &key, &key, self.rows.get(&key).map(AsRef::as_ref))?;
        }
        Ok(())
    }

    fn restore(&mut self, reader: &StateReader) -> Result<()> {
        reader.each(TABLE, |entry| {
            self.bytes += cost(entry.key, entry.value);
            self.rows.insert(entry.key.into(), entry.value.into());
            Ok(())
        })
    }

    fn state_bytes(&self) -> usize {
        self.bytes
    }
}

fn cost(key: &[u8], row: &[u8]) -> usize {
    key.len() + row.len() + ENTRY_BYTES
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::fold::FoldByKey;
    use super::super::harness::{Change, Driver, any_cuts, any_row, assert_same, batch, schema};
    use super::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_rows_are_the_latest_of_each_key(
            rows in proptest::collection::vec((any_row(), 0..4_u8), 0..60), cuts in any_cuts(),
        ) {
            let changes: Vec<Change> = rows
                .into_iter()
                .map(|(row, kind)| (if kind == 0 { RowKind::Delete } else { RowKind::UpdateAfter }, row))
                .collect();
            let mut latest = FoldByKey::new(schema(), &[0]).unwrap();
            latest.apply(&batch(&changes)).unwrap();
            let mut driver = Driver::new(|| Normalize::new(&schema(), &ChangelogMode::Upsert(vec![0])).unwrap());
            driver.run(&changes, &cuts);
            assert_same(&driver.finish(), &latest.rows().unwrap());
        }
    }

    #[test]
    fn a_normal_stream_is_refused() {
        assert!(Normalize::new(&schema(), &ChangelogMode::Append).is_err());
    }
}
