//! Tables that rows of streams are looked up in: read whole into memory before the first row, and again when that is too old.
//!
//! All tasks of an attempt look up the same copy. What a row meets depends on when it is worked on, so a row that is read again after
//! a crash may meet other rows than before; what was committed stays as it was.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::concat_batches;
use arrow::datatypes::DataType;
use futures::TryStreamExt;
use tereza_runtime::{Error, Result};

use crate::host::Host;
use crate::operator::failed;
use crate::operator::lookup_join::{SharedTable, TableInMemory};
use crate::plan::Side;

/// The tables of one attempt.
pub(crate) struct Sides {
    tables: Vec<Held>,
    /// Bytes that each of them may have; while it is read again it takes them twice.
    bytes_max: usize,
    host: Arc<dyn Host>,
}

struct Held {
    side: Side,
    now: Arc<TableInMemory>,
    /// Who looks it up.
    users: Vec<SharedTable>,
    /// When its time is over, in milliseconds since 1970.
    due_ms: i64,
}

impl Sides {
    /// Reads all tables.
    ///
    /// # Errors
    /// `ResourceExhausted` names a table of more than `bytes_max` bytes; what reading says.
    pub(crate) async fn read(sides: Vec<Side>, bytes_max: usize, host: Arc<dyn Host>) -> Result<Self> {
        let mut tables = Vec::with_capacity(sides.len());
        for side in sides {
            let due_ms = due_ms(&side, &*host);
            let now = Arc::new(side.read(bytes_max).await?);
            side.table.put(Arc::clone(&now));
            tables.push(Held { users: vec![side.table.clone()], side, now, due_ms });
        }
        Ok(Self { tables, bytes_max, host })
    }

    /// Lets a graph that was planned again look up the same tables.
    pub(crate) fn share(&mut self, sides: &[Side]) {
        for (held, side) in self.tables.iter_mut().zip(sides) {
            side.table.put(Arc::clone(&held.now));
            held.users.push(side.table.clone());
        }
    }

    /// Reads each table again when its time is over, until one cannot be read: nobody is to meet older rows than the table allows.
    pub(crate) async fn refresh(mut self) -> Error {
        loop {
            let Some(held) = self.tables.iter_mut().min_by_key(|held| held.due_ms) else {
                return std::future::pending().await;
            };
            let pause_ms = held.due_ms.saturating_sub(self.host.now_ms());
            self.host.pause(Duration::from_millis(u64::try_from(pause_ms).unwrap_or_default())).await;
            held.due_ms = due_ms(&held.side, &*self.host);
            match held.side.read(self.bytes_max).await {
                Ok(table) => held.now = Arc::new(table),
                Err(error) => return error,
            }
            held.users.iter().for_each(|user| user.put(Arc::clone(&held.now)));
        }
    }
}

/// When a table that is read from now on is to be read again. Its age counts from the begin of reading.
fn due_ms(side: &Side, host: &dyn Host) -> i64 {
    host.now_ms().saturating_add(i64::try_from(side.ttl.as_millis()).unwrap_or(i64::MAX))
}

impl Side {
    /// The table as it is now.
    pub(crate) async fn read(&self, bytes_max: usize) -> Result<TableInMemory> {
        let table = self.rows_within(bytes_max).await;
        table.map_err(|error| error.context(format_args!("table {}, which is looked up", self.name)))
    }

    async fn rows_within(&self, bytes_max: usize) -> Result<TableInMemory> {
        let too_large = || {
            Error::resource_exhausted(format!("it has more than {bytes_max} bytes in memory, as one operator may hold"))
                .with_hint("look up a view of the rows and columns that are needed, or raise the bound")
        };
        let mut rows = self.rows.rows().await?;
        let (mut batches, mut bytes) = (Vec::new(), 0);
        while let Some(batch) = rows.try_next().await? {
            let batch = compacted(&batch)?;
            bytes += batch.get_array_memory_size();
            if bytes > bytes_max {
                return Err(too_large());
            }
            batches.push(batch);
        }
        let all = concat_batches(&self.rows.schema(), &batches).map_err(failed)?;
        drop(batches);
        let table = TableInMemory::new(all, &self.key)?;
        if table.bytes() > bytes_max { Err(too_large()) } else { Ok(table) }
    }
}

/// The rows without what their texts share with others.
fn compacted(batch: &RecordBatch) -> Result<RecordBatch> {
    let column = |column: &ArrayRef| -> ArrayRef {
        match column.data_type() {
            DataType::Utf8View => Arc::new(column.as_string_view().gc()),
            DataType::BinaryView => Arc::new(column.as_binary_view().gc()),
            _ => Arc::clone(column),
        }
    };
    RecordBatch::try_new(batch.schema(), batch.columns().iter().map(column).collect()).map_err(failed)
}

#[cfg(test)]
#[path = "sides_tests.rs"]
mod tests;
