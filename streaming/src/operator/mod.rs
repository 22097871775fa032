//! Operators on streams of changes.
//!
//! An operator is synchronous and pure: batches and watermarks go in, batches come out, and what it knows is in its
//! state. It does no I/O and reads no clock; processing time comes with the [`Context`]. Given the same calls in the same
//! order it makes the same batches, so a task that starts again from a snapshot goes on as if it had not ended.
//!
//! Times are milliseconds since 1970-01-01T00:00:00Z. A watermark `w` says that no more rows with a time of `w` or less are
//! expected; [`WATERMARK_MAX`] is the end of the input.
//!
//! Keyed state belongs to one of 256 key groups ([`key`]), so a snapshot can be split between tasks. [`state`] has the
//! form of snapshots.

mod accumulate;
pub mod aggregate;
pub mod batch;
pub mod calc;
pub mod deduplicate;
mod error;
pub mod fold;
pub mod graph;
mod index;
pub mod interval_join;
pub mod join;
pub mod key;
pub mod lookup_join;
pub mod mode;
pub mod normalize;
pub mod over;
mod pairs;
pub mod session;
mod slice;
pub mod state;
mod time;
pub mod top_n;
mod ttl;
pub mod watermark;
pub mod window;
pub mod window_aggregate;
pub mod window_join;

#[cfg(test)]
mod harness;

use arrow::datatypes::SchemaRef;
use tereza_runtime::error::{Error, Result};

pub use batch::{Batch, RowKind};
pub(crate) use error::failed;
pub use mode::ChangelogMode;
use state::{SnapshotWriter, StateReader};

/// The watermark at the end of a bounded input.
pub const WATERMARK_MAX: i64 = i64::MAX;
/// The watermark before any was seen.
pub const WATERMARK_MIN: i64 = i64::MIN;

/// What an operator may ask of the task it runs in.
#[derive(Debug, Clone)]
pub struct Context {
    /// Processing time in ms since 1970.
    pub now_ms: i64,
    /// Bytes of state that one operator may hold.
    pub state_bytes_max: usize,
}

impl Context {
    /// Refuses state over the bound; the error names the operator and its size.
    pub fn admit(&self, operator: &str, bytes: usize) -> Result<()> {
        if bytes <= self.state_bytes_max {
            return Ok(());
        }
        Err(Error::resource_exhausted(format!(
            "the state of {operator} has {bytes} bytes, more than the {} an operator may hold",
            self.state_bytes_max
        ))
        .with_hint("raise the bound, run the job with more tasks, or let the state expire"))
    }
}

/// Where an operator puts what it makes.
pub trait Output {
    /// Takes a batch; the order of the calls is the order of the changes.
    fn emit(&mut self, batch: Batch) -> Result<()>;
}

impl Output for Vec<Batch> {
    fn emit(&mut self, batch: Batch) -> Result<()> {
        self.push(batch);
        Ok(())
    }
}

/// A step of a stream job.
pub trait Operator: Send {
    /// The name in errors and metrics.
    fn name(&self) -> &str;

    /// The columns of what is emitted.
    fn schema(&self) -> SchemaRef;

    /// The changes that are emitted.
    fn mode(&self) -> ChangelogMode;

    /// All that gives the state its meaning, as text. State is restored only into an operator with the same.
    fn describe(&self) -> String;

    /// The columns of an input whose rows belong together where they are equal: they must come to one task, that of their key
    /// group. `None` if each row counts for itself. It is so for all inputs or for none.
    fn keyed_by(&self, input: usize) -> Option<&[usize]>;

    /// Takes a batch of one of the inputs, which count from 0.
    fn process(&mut self, input: usize, batch: Batch, cx: &Context, out: &mut dyn Output) -> Result<()>;

    /// Takes the watermark of all inputs together; it never goes back.
    fn advance(&mut self, watermark: i64, cx: &Context, out: &mut dyn Output) -> Result<()> {
        let _ = (watermark, cx, out);
        Ok(())
    }

    /// The watermark that holds for what is emitted after `advance(watermark)`.
    fn output_watermark(&self, watermark: i64) -> i64 {
        watermark
    }

    /// Writes what changed since the last snapshot; the first one after `new` or `restore` follows on what was restored.
    fn snapshot(&mut self, writer: &mut SnapshotWriter) -> Result<()> {
        let _ = writer;
        Ok(())
    }

    /// Takes the state of a chain of snapshots. Called once, before all else.
    fn restore(&mut self, reader: &StateReader) -> Result<()> {
        let _ = reader;
        Ok(())
    }

    /// Bytes of state held now, near enough to bound memory.
    fn state_bytes(&self) -> usize {
        0
    }

    /// Rows dropped because they came after their window was final.
    fn late_rows(&self) -> u64 {
        0
    }
}
