//! Rows for an edge become messages, in the partitions of their keys.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, UInt32Array};
use arrow::compute::concat_batches;
use tereza_runtime::Result;

use super::message::{Head, Mark, encode};
use crate::log::Output;
use crate::operator::batch::{Batch, RowKind};
use crate::operator::failed;
use crate::operator::key::{KEY_GROUPS, RowCodec, key_group};
use crate::plan::Exchange;

/// Bytes of rows in memory that wait for the end of their epoch, of one partition; more are sent at once. A message has about so many
/// before it is compressed, unless a single row is larger: a broker takes 1 MiB where nothing else is set.
const BUFFER_BYTES: usize = 256 << 10;

/// Makes the messages of one task for one edge.
pub(crate) struct Sender {
    topic: String,
    keys: RowCodec,
    /// The sender, as its messages name it.
    head: Head,
    partitions: Vec<Partition>,
    /// What the graphs of the task that send here told last.
    marks: BTreeMap<i32, Option<Mark>>,
    /// The least of them, which never goes back.
    mark: Option<Mark>,
    highest: i64,
}

#[derive(Default)]
struct Partition {
    rows: Vec<Batch>,
    bytes: usize,
    /// What its last message told.
    told: Option<Mark>,
}

impl Sender {
    /// Sends to `partitions` partitions of `topic` as the task that `head` names. `graphs` are the numbers of those that send.
    pub(crate) fn new(
        topic: String,
        exchange: &Exchange,
        partitions: i32,
        head: Head,
        graphs: impl IntoIterator<Item = i32>,
    ) -> Result<Self> {
        Ok(Self {
            topic,
            keys: RowCodec::new(&exchange.schema, &exchange.keys)?,
            head,
            partitions: (0..partitions.max(1)).map(|_| Partition::default()).collect(),
            marks: graphs.into_iter().map(|graph| (graph, None)).collect(),
            mark: None,
            highest: i64::MIN,
        })
    }

    /// Takes rows. Those that are too many to wait are put out.
    pub(crate) fn put(&mut self, batch: &Batch, out: &mut Vec<Output>) -> Result<()> {
        let keys = self.keys.encode(batch.rows())?;
        let mut rows: Vec<Vec<u32>> = vec![Vec::new(); self.partitions.len()];
        for row in 0..batch.len() {
            let partition = usize::from(key_group(keys.get(row))) * rows.len() / KEY_GROUPS;
            rows[partition].push(u32::try_from(row).unwrap_or(u32::MAX));
        }
        for (partition, rows) in rows.into_iter().enumerate().filter(|(_, rows)| !rows.is_empty()) {
            let part = match rows.len() == batch.len() {
                true => batch.clone(),
                false => batch.take(&UInt32Array::from(rows))?,
            };
            let waiting = &mut self.partitions[partition];
            waiting.bytes = waiting.bytes.saturating_add(size(&part));
            waiting.rows.push(part);
            if waiting.bytes >= BUFFER_BYTES {
                self.send(partition, out)?;
            }
        }
        Ok(())
    }

    /// Takes the watermark of one of the graphs. It is told at the end of the epoch.
    pub(crate) fn advance(&mut self, graph: i32, mark: Mark) {
        self.marks.insert(graph, Some(mark));
        self.mark = match Mark::least(self.marks.values().copied()) {
            Some(Mark::At(ms)) => {
                self.highest = self.highest.max(ms);
                Some(Mark::At(self.highest))
            }
            mark => mark,
        };
    }

    /// Puts all rows out, and tells every partition the watermark that was not told it yet.
    pub(crate) fn end_epoch(&mut self, out: &mut Vec<Output>) -> Result<()> {
        for partition in 0..self.partitions.len() {
            let waiting = &self.partitions[partition];
            if !waiting.rows.is_empty() || waiting.told != self.mark {
                self.send(partition, out)?;
            }
        }
        Ok(())
    }

    /// Sends what waits for a partition. The watermark is that of all rows up to now, so it is in the last message of them.
    fn send(&mut self, partition: usize, out: &mut Vec<Output>) -> Result<()> {
        let (mark, head) = (self.mark, self.head);
        let waiting = &mut self.partitions[partition];
        let (before, bytes) = (waiting.told, std::mem::take(&mut waiting.bytes));
        waiting.told = mark;
        let rows = whole(std::mem::take(&mut waiting.rows))?;
        let mut put = |rows: Option<&Batch>, mark: Option<Mark>| -> Result<()> {
            let (headers, value) = encode(&Head { mark, ..head }, rows)?;
            out.push(Output {
                topic: self.topic.clone(),
                partition: Some(i32::try_from(partition).unwrap_or_default()),
                key: None,
                value,
                headers,
                timestamp: None,
            });
            Ok(())
        };
        let Some(rows) = rows else { return put(None, mark) };
        let count = rows.len().div_ceil(bytes.div_ceil(BUFFER_BYTES).max(1)).max(1);
        for offset in (0..rows.len()).step_by(count) {
            let last = offset + count >= rows.len();
            let part = rows.slice(offset, count.min(rows.len() - offset))?;
            put(Some(&part), if last { mark } else { before })?;
        }
        Ok(())
    }
}

/// Bytes of the rows of a batch, and of their kinds.
fn size(batch: &Batch) -> usize {
    let of = |column: &ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(usize::MAX);
    batch.rows().columns().iter().map(of).fold(batch.len(), usize::saturating_add)
}

/// Several batches as one; `None` if there are none.
fn whole(batches: Vec<Batch>) -> Result<Option<Batch>> {
    if batches.len() < 2 {
        return Ok(batches.into_iter().next());
    }
    let kinds: Vec<RowKind> = batches.iter().flat_map(|batch| (0..batch.len()).map(|row| batch.kind(row))).collect();
    let rows = concat_batches(batches[0].rows().schema_ref(), batches.iter().map(Batch::rows)).map_err(failed)?;
    Batch::changes(rows, kinds).map(Some)
}
