//! Files whose records are lines of a format that only the stream knows which writes them.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use tereza_runtime::Result;

/// A format whose records are lines.
pub trait LineFormat: fmt::Debug + Send + Sync {
    /// How the names of its files end, without the dot.
    fn extension(&self) -> &'static str;

    /// Begins a file.
    fn encoder(&self) -> Result<Box<dyn LineEncoder>>;
}

/// Makes the lines of one file.
pub trait LineEncoder: Send {
    /// Appends the lines of rows, each with its line break.
    ///
    /// # Errors
    /// `InvalidInput` for a value that no line can hold.
    fn encode(&mut self, rows: &RecordBatch, lines: &mut Vec<u8>) -> Result<()>;
}

/// Batches to lines.
pub(super) struct LinesEncoder {
    encoder: Box<dyn LineEncoder>,
    bytes: Vec<u8>,
}

impl LinesEncoder {
    pub(super) fn new(format: &Arc<dyn LineFormat>) -> Result<Self> {
        Ok(Self { encoder: format.encoder()?, bytes: Vec::new() })
    }

    pub(super) fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        self.encoder.encode(batch, &mut self.bytes)
    }

    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}
