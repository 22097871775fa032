//! Joins of a stream with a table that is looked up: `JOIN t FOR SYSTEM_TIME AS OF proctime ON …`. A row meets the table as
//! it is when the row comes; later changes of the table change nothing.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::take;
use arrow::datatypes::{Schema, SchemaRef};
use parking_lot::Mutex;
use tereza_runtime::error::{Error, Result};

use super::batch::Batch;
use super::calc::evaluate;
use super::error::failed;
use super::key::{BuildKeyHasher, RowCodec};
use super::mode::ChangelogMode;
use super::pairs::{JoinKind, JoinOn};
use super::state::columns_text;
use super::{Context, Operator, Output};

/// Rows that were found: the row of the table for the row of the stream, at the same position.
#[derive(Debug, Clone)]
pub struct Found {
    /// Rows of the table.
    pub rows: RecordBatch,
    /// For each of them the row that was looked up; they do not fall.
    pub for_row: Vec<u32>,
}

/// A table that is looked up by key.
pub trait LookupTable: Send {
    /// The columns of the table.
    fn schema(&self) -> SchemaRef;

    /// The rows whose key columns equal `keys`, one array for each. It must not wait: whoever reads the table elsewhere
    /// fetches before the batch is given to the operator. NULL is never asked for.
    fn lookup(&self, keys: &[ArrayRef]) -> Result<Found>;

    /// What tells this table from others, for the fingerprint of the state.
    fn describe(&self) -> String;
}

/// Bytes of an entry of the index besides its key and its rows.
const KEY_BYTES: usize = 64;

/// A table that is held whole.
#[derive(Debug)]
pub struct TableInMemory {
    rows: RecordBatch,
    key: RowCodec,
    by_key: HashMap<Vec<u8>, Vec<u32>, BuildKeyHasher>,
}

impl TableInMemory {
    /// `key` are the columns it is looked up by.
    pub fn new(rows: RecordBatch, key: &[usize]) -> Result<Self> {
        let codec = RowCodec::new(&rows.schema(), key)?;
        let (keys, nulls) = (codec.encode(&rows)?, codec.nulls(&rows));
        if u32::try_from(rows.num_rows()).is_err() {
            return Err(Error::resource_exhausted(format!(
                "a table of {} rows is looked up; there may be {}",
                rows.num_rows(),
                u32::MAX
            )));
        }
        let mut by_key: HashMap<Vec<u8>, Vec<u32>, BuildKeyHasher> = HashMap::default();
        for row in (0..rows.num_rows()).filter(|row| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*row))) {
            by_key.entry(keys.get(row).to_vec()).or_default().push(row as u32);
        }
        Ok(Self { rows, key: codec, by_key })
    }

    /// Bytes that it takes, near enough to bound memory.
    pub fn bytes(&self) -> usize {
        let of_key =
            |(key, rows): (&Vec<u8>, &Vec<u32>)| KEY_BYTES + key.capacity() + rows.capacity() * size_of::<u32>();
        self.rows.get_array_memory_size() + self.by_key.iter().map(of_key).sum::<usize>()
    }
}

impl LookupTable for TableInMemory {
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }

    fn lookup(&self, keys: &[ArrayRef]) -> Result<Found> {
        let rows = keys.first().map_or(0, |column| column.len());
        let keys = self.key.encode_columns(keys, rows)?;
        let (mut found, mut for_row) = (Vec::new(), Vec::new());
        for row in 0..keys.len() {
            let of_key = self.by_key.get(keys.get(row)).map_or(&[][..], Vec::as_slice);
            found.extend_from_slice(of_key);
            for_row.extend(of_key.iter().map(|_| row as u32));
        }
        let rows = arrow::compute::take_record_batch(&self.rows, &UInt32Array::from(found)).map_err(failed)?;
        Ok(Found { rows, for_row })
    }

    fn describe(&self) -> String {
        format!("memory({})", columns_text(&self.rows.schema()))
    }
}

/// A table that is held whole by somebody else, who may put another one in its place between two batches.
#[derive(Debug, Clone)]
pub struct SharedTable {
    schema: SchemaRef,
    held: Arc<Mutex<Option<Arc<TableInMemory>>>>,
}

impl SharedTable {
    /// A table with these columns that nobody has read yet.
    pub fn new(schema: SchemaRef) -> Self {
        Self { schema, held: Arc::default() }
    }

    /// The table is this one from now on.
    pub fn put(&self, table: Arc<TableInMemory>) {
        *self.held.lock() = Some(table);
    }
}

impl LookupTable for SharedTable {
    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn lookup(&self, keys: &[ArrayRef]) -> Result<Found> {
        let held = self.held.lock().clone();
        held.ok_or_else(|| Error::internal("a table is looked up before it is read"))?.lookup(keys)
    }

    fn describe(&self) -> String {
        format!("shared({})", columns_text(&self.schema))
    }
}

/// The operator: input 0 is the stream. It emits its columns, then those of the table.
pub struct LookupJoin<T> {
    on: JoinOn,
    table: T,
    keys: RowCodec,
    schema: SchemaRef,
}

impl<T: LookupTable> LookupJoin<T> {
    /// `on` is an inner or a left join. Fails with `Unsupported` for an input of updates: when a row is taken back the
    /// table may hold other rows than when it came.
    pub fn new(input: &Schema, mode: &ChangelogMode, on: JoinOn, table: T) -> Result<Self> {
        mode.require_append("a join with a table that is looked up")?;
        if !matches!(on.kind, JoinKind::Inner | JoinKind::Left) {
            return Err(Error::unsupported(format!("{:?} joins with a table that is looked up", on.kind)));
        }
        if on.left.is_empty() {
            return Err(Error::unsupported("a join without a key with a table that is looked up"));
        }
        on.check(input, &table.schema())?;
        Ok(Self { keys: RowCodec::new(input, &on.left)?, schema: on.schema(input, &table.schema()), on, table })
    }
}

impl<T: LookupTable> Operator for LookupJoin<T> {
    fn name(&self) -> &str {
        "lookup join"
    }

    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn mode(&self) -> ChangelogMode {
        ChangelogMode::Append
    }

    fn describe(&self) -> String {
        format!("lookup join({}, {}, {})", self.on.describe(), self.table.describe(), columns_text(&self.schema))
    }

    fn keyed_by(&self, _: usize) -> Option<&[usize]> {
        None
    }

    fn process(&mut self, _: usize, batch: Batch, _: &Context, out: &mut dyn Output) -> Result<()> {
        let nulls = self.keys.nulls(batch.rows());
        let asked: UInt32Array = (0..batch.len() as u32)
            .filter(|row| nulls.as_ref().is_none_or(|nulls| nulls.is_valid(*row as usize)))
            .collect::<Vec<_>>()
            .into();
        let keys =
            self.on.columns(0).iter().map(|column| take(batch.rows().column(*column), &asked, None).map_err(failed));
        let Found { rows, for_row } = self.table.lookup(&keys.collect::<Result<Vec<_>>>()?)?;
        if rows.num_rows() != for_row.len() || for_row.iter().any(|row| *row as usize >= asked.len()) {
            return Err(Error::internal(format!("{} answers for rows that were not asked for", self.table.describe())));
        }
        // Pairs of rows, then the rows that found nothing.
        let pairs = |stream: &[u32], table: &UInt32Array| -> Result<RecordBatch> {
            let stream = UInt32Array::from(stream.to_vec());
            let left = batch.rows().columns().iter().map(|column| take(column, &stream, None).map_err(failed));
            let right = rows.columns().iter().map(|column| take(column, table, None).map_err(failed));
            RecordBatch::try_new(self.schema(), left.chain(right).collect::<Result<Vec<_>>>()?).map_err(failed)
        };
        let mut stream: Vec<u32> = for_row.iter().map(|row| asked.value(*row as usize)).collect();
        let mut table: Vec<u32> = (0..stream.len() as u32).collect();
        if let Some(condition) = &self.on.condition {
            let meets = evaluate(condition, &pairs(&stream, &UInt32Array::from(table.clone()))?)?;
            let meets: &BooleanArray = meets.as_boolean();
            let kept = |side: &[u32]| -> Vec<u32> {
                side.iter().zip(meets).filter(|(_, meets)| *meets == Some(true)).map(|(row, _)| *row).collect()
            };
            (stream, table) = (kept(&stream), kept(&table));
        }
        let mut table: Vec<Option<u32>> = table.into_iter().map(Some).collect();
        if self.on.kind == JoinKind::Left {
            let mut has_partner = vec![false; batch.len()];
            stream.iter().for_each(|row| has_partner[*row as usize] = true);
            stream.extend((0..).zip(has_partner).filter(|(_, has_partner)| !has_partner).map(|(row, _)| row));
            table.resize(stream.len(), None);
        }
        if stream.is_empty() {
            return Ok(());
        }
        out.emit(Batch::inserts(pairs(&stream, &UInt32Array::from(table))?))
    }
}

#[cfg(test)]
#[path = "lookup_join_tests.rs"]
mod tests;
