//! Windows on event time, and the operator that gives each row its windows.

use std::sync::Arc;

use arrow::array::{RecordBatch, UInt32Array};
use arrow::datatypes::{Schema, SchemaRef};
use tereza_runtime::error::{Error, Result};

use super::batch::{BATCH_ROWS_MAX, Batch};
use super::error::failed;
use super::mode::ChangelogMode;
use super::state::columns_text;
use super::time::{TIME_MS_MAX, check_time, event_times, window_columns, window_fields};
use super::{Context, Operator, Output};

/// Windows of one row, at most.
pub const WINDOWS_PER_ROW_MAX: i64 = 10_000;

/// Windows whose bounds do not depend on the rows. Each is cut into slices of one width: a row is counted in one slice, and
/// a window is the sum of its slices. A window holds the times from its start up to, not with, its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Windows {
    kind: Kind,
    size: i64,
    step: i64,
    offset: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Windows of one size, one beginning every step.
    Hop,
    /// Windows that begin together and end a step later each, up to a size.
    Cumulate,
}

impl Windows {
    /// `TUMBLE`: one window after the other. All lengths are in ms.
    pub fn tumble(size: i64, offset: i64) -> Result<Self> {
        Self::checked(Kind::Hop, size, size, offset)
    }

    /// `HOP`: a window of `size` every `slide`.
    pub fn hop(size: i64, slide: i64, offset: i64) -> Result<Self> {
        Self::checked(Kind::Hop, size, slide, offset)
    }

    /// `CUMULATE`: windows of `step`, twice `step`, and so on up to `size`, then again.
    pub fn cumulate(size: i64, step: i64, offset: i64) -> Result<Self> {
        Self::checked(Kind::Cumulate, size, step, offset)
    }

    fn checked(kind: Kind, size: i64, step: i64, offset: i64) -> Result<Self> {
        if size <= 0 || step <= 0 || size > TIME_MS_MAX {
            return Err(Error::invalid_input(format!("a window of {size} ms every {step} ms")));
        }
        if size % step != 0 {
            return Err(Error::unsupported(format!(
                "a window of {size} ms, which is no multiple of its step, {step} ms"
            )));
        }
        if size / step > WINDOWS_PER_ROW_MAX {
            return Err(Error::resource_exhausted(format!(
                "a window of {size} ms every {step} ms puts a row into more than {WINDOWS_PER_ROW_MAX}"
            )));
        }
        Ok(Self { kind, size, step, offset: offset.rem_euclid(size) })
    }

    /// The end of the slice of a time.
    pub(crate) fn slice_end(&self, time: i64) -> i64 {
        (time - self.offset).div_euclid(self.step) * self.step + self.step + self.offset
    }

    /// The width of a slice.
    pub(crate) fn slice(&self) -> i64 {
        self.step
    }

    /// The start of the window that ends at `end`.
    pub(crate) fn start(&self, end: i64) -> i64 {
        match self.kind {
            Kind::Hop => end - self.size,
            Kind::Cumulate => (end - 1 - self.offset).div_euclid(self.size) * self.size + self.offset,
        }
    }

    /// The end of the last window that has the slice that ends at `slice_end`.
    pub(crate) fn last_end(&self, slice_end: i64) -> i64 {
        match self.kind {
            Kind::Hop => slice_end + self.size - self.step,
            Kind::Cumulate => self.start(slice_end) + self.size,
        }
    }

    /// The end of the first window with the slice that `watermark` does not close.
    pub(crate) fn first_open_end(&self, slice_end: i64, watermark: i64) -> Option<i64> {
        let open_from = watermark.saturating_add(2);
        let steps = open_from.saturating_sub(slice_end).max(0).saturating_add(self.step - 1) / self.step;
        let end = slice_end.checked_add(steps.checked_mul(self.step)?)?;
        (end <= self.last_end(slice_end)).then_some(end)
    }
}

/// Whether all times before `end` are behind the watermark.
pub(crate) fn is_closed(end: i64, watermark: i64) -> bool {
    end - 1 <= watermark
}

/// `TUMBLE`, `HOP` and `CUMULATE` as table functions: gives each row once for each of its windows, with `window_start`,
/// `window_end` and `window_time` after its columns.
#[derive(Debug)]
pub struct WindowAssign {
    windows: Windows,
    time: usize,
    schema: SchemaRef,
    mode: ChangelogMode,
}

impl WindowAssign {
    /// `time` is the column of the event time.
    pub fn new(input: &Schema, mode: &ChangelogMode, windows: Windows, time: usize) -> Result<Self> {
        check_time(input.field(time))?;
        let mut fields = input.fields().to_vec();
        fields.extend(window_fields().map(Arc::new));
        let mode = match mode {
            ChangelogMode::Append => ChangelogMode::Append,
            ChangelogMode::Retract { key } => {
                let end = input.fields().len() + 1;
                ChangelogMode::Retract { key: key.clone().map(|key| key.into_iter().chain([end]).collect()) }
            }
            ChangelogMode::Upsert(_) => {
                mode.require_before_images("a window function")?;
                mode.clone()
            }
        };
        Ok(Self { windows, time, schema: Arc::new(Schema::new(fields)), mode })
    }
}

impl Operator for WindowAssign {
    fn name(&self) -> &str {
        "window"
    }

    fn schema(&self) -> SchemaRef {
        SchemaRef::clone(&self.schema)
    }

    fn mode(&self) -> ChangelogMode {
        self.mode.clone()
    }

    fn describe(&self) -> String {
        format!("window({:?}, {}, {})", self.windows, self.time, columns_text(&self.schema))
    }

    fn keyed_by(&self, _: usize) -> Option<&[usize]> {
        None
    }

    fn process(&mut self, _: usize, batch: Batch, _: &Context, out: &mut dyn Output) -> Result<()> {
        let times = event_times(batch.rows().column(self.time), self.schema.field(self.time).name())?;
        let mut rows = Vec::with_capacity(times.len());
        let mut windows = Vec::with_capacity(times.len());
        for (row, time) in times.into_iter().enumerate() {
            let first = self.windows.slice_end(time);
            let mut end = first;
            while end <= self.windows.last_end(first) {
                rows.push(row as u32);
                windows.push((self.windows.start(end), end));
                end += self.windows.slice();
            }
            if rows.len() >= BATCH_ROWS_MAX || row + 1 == batch.len() {
                let taken = batch.take(&UInt32Array::from(std::mem::take(&mut rows)))?;
                let mut columns = taken.rows().columns().to_vec();
                columns.extend(window_columns(&std::mem::take(&mut windows)));
                let columns = RecordBatch::try_new(self.schema(), columns).map_err(failed)?;
                out.emit(taken.with_rows(columns)?)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
