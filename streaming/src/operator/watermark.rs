//! Watermarks: made from the rows of each partition, and brought together.

use std::collections::BTreeMap;

use arrow::array::RecordBatch;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use serde::{Deserialize, Serialize};
use tereza_runtime::error::Result;

use super::calc::{Expression, evaluate};
use super::error::failed;
use super::time::{check_time, times};
use super::{WATERMARK_MAX, WATERMARK_MIN};

/// What one partition has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionWatermark {
    /// The highest time so far, in ms.
    pub watermark_ms: i64,
    /// Whether it has been silent for so long that nobody waits for it.
    pub idle: bool,
}

#[derive(Debug, Clone, Copy)]
struct Partition {
    shown: PartitionWatermark,
    last_row_ms: i64,
}

/// Computes the watermark of a source: the least over its partitions of the highest value that each has shown, without
/// those that are idle. It never goes back, also where an idle partition wakes up with older rows.
#[derive(Debug)]
pub struct WatermarkAssigner {
    strategy: Expression,
    /// The column of which the latest time has the highest value; `None` where that is not known.
    rises_with: Option<usize>,
    name: String,
    idle_after_ms: Option<i64>,
    partitions: BTreeMap<i32, Partition>,
    watermark: i64,
}

impl WatermarkAssigner {
    /// `strategy` is the expression of `WATERMARK FOR column AS strategy`, a timestamp. A partition without rows for
    /// `idle_after_ms` of processing time is idle; without it none ever is.
    pub fn new(
        strategy: Expression,
        schema: &arrow::datatypes::Schema,
        idle_after_ms: Option<i64>,
        partitions: impl IntoIterator<Item = i32>,
        now_ms: i64,
    ) -> Result<Self> {
        check_time(strategy.return_field(schema).map_err(failed)?.as_ref())?;
        let shown = PartitionWatermark { watermark_ms: WATERMARK_MIN, idle: false };
        let partitions = partitions.into_iter().map(|number| (number, Partition { shown, last_row_ms: now_ms }));
        let (name, partitions) = (strategy.to_string(), partitions.collect());
        let rises_with = rises_with(&strategy).filter(|column| check_time(schema.field(*column)).is_ok());
        Ok(Self { strategy, rises_with, name, idle_after_ms, partitions, watermark: WATERMARK_MIN })
    }

    /// Takes rows of a partition. NULL says nothing about the time.
    pub fn observe(&mut self, partition: i32, rows: &RecordBatch, now_ms: i64) -> Result<()> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let highest = |rows: &RecordBatch| -> Result<Option<i64>> {
            Ok(times(&evaluate(&self.strategy, rows)?, &self.name)?.into_iter().flatten().max())
        };
        let highest = match self.rises_with {
            None => highest(rows)?,
            Some(column) => {
                let times = times(rows.column(column), &self.name)?.into_iter().zip(0..);
                let latest = times.filter_map(|(time, row)| Some((time?, row))).max();
                latest.map_or(Ok(None), |(_, row)| highest(&rows.slice(row, 1)))?
            }
        };
        let shown = PartitionWatermark { watermark_ms: WATERMARK_MIN, idle: false };
        let known = self.partitions.entry(partition).or_insert(Partition { shown, last_row_ms: now_ms });
        known.last_row_ms = now_ms;
        known.shown.idle = false;
        known.shown.watermark_ms = known.shown.watermark_ms.max(highest.unwrap_or(WATERMARK_MIN));
        Ok(())
    }

    /// Waits for a partition from now on.
    pub fn add(&mut self, partition: i32, now_ms: i64) {
        let shown = PartitionWatermark { watermark_ms: WATERMARK_MIN, idle: false };
        self.partitions.entry(partition).or_insert(Partition { shown, last_row_ms: now_ms });
    }

    /// Whether nobody is to wait for this source: all its partitions are idle.
    pub fn is_idle(&self) -> bool {
        !self.partitions.is_empty() && self.partitions.values().all(|partition| partition.shown.idle)
    }

    /// Says that a partition has no more rows.
    pub fn finish(&mut self, partition: i32) {
        if let Some(known) = self.partitions.get_mut(&partition) {
            known.shown = PartitionWatermark { watermark_ms: WATERMARK_MAX, idle: false };
        }
    }

    /// The watermark now; `None` while all partitions are idle, or some has shown nothing.
    pub fn watermark(&mut self, now_ms: i64) -> Option<i64> {
        if let Some(after) = self.idle_after_ms {
            for partition in self.partitions.values_mut() {
                let finished = partition.shown.watermark_ms == WATERMARK_MAX;
                partition.shown.idle |= !finished && now_ms.saturating_sub(partition.last_row_ms) >= after;
            }
        }
        let awake = self.partitions.values().filter(|partition| !partition.shown.idle);
        let least = awake.map(|partition| partition.shown.watermark_ms).min()?;
        self.watermark = self.watermark.max(least);
        (self.watermark > WATERMARK_MIN).then_some(self.watermark)
    }

    /// What the partitions have shown, for the record of an epoch.
    pub fn partitions(&self) -> BTreeMap<i32, PartitionWatermark> {
        self.partitions.iter().map(|(number, partition)| (*number, partition.shown)).collect()
    }

    /// Goes on from the record of an epoch. Nobody is idle before [`Self::begin`].
    pub fn restore(&mut self, shown: &BTreeMap<i32, PartitionWatermark>) {
        for (number, shown) in shown {
            self.partitions.insert(*number, Partition { shown: *shown, last_row_ms: i64::MAX });
        }
    }

    /// Rows are waited for from now on.
    pub fn begin(&mut self, now_ms: i64) {
        for partition in self.partitions.values_mut() {
            partition.last_row_ms = partition.last_row_ms.min(now_ms);
        }
    }
}

/// The column in `column - INTERVAL …`, which rises with it. Computed for each row, such a difference takes longer than its column.
fn rises_with(strategy: &Expression) -> Option<usize> {
    let difference = strategy.downcast_ref::<BinaryExpr>()?;
    let is_shift = matches!(difference.op(), Operator::Minus | Operator::Plus) && difference.right().is::<Literal>();
    difference.left().downcast_ref::<Column>().filter(|_| is_shift).map(Column::index)
}

/// Brings the watermarks of several inputs together: the least of those that are not idle.
#[derive(Debug, Clone)]
pub struct WatermarkMerge {
    inputs: Vec<Option<i64>>,
    watermark: i64,
}

impl WatermarkMerge {
    /// For so many inputs, none of which has shown anything.
    pub fn new(inputs: usize) -> Self {
        Self { inputs: vec![Some(WATERMARK_MIN); inputs], watermark: WATERMARK_MIN }
    }

    /// Takes the watermark of an input, `None` if it is idle. Answers the watermark of all if it rose.
    pub fn update(&mut self, input: usize, watermark: Option<i64>) -> Option<i64> {
        let known = &mut self.inputs[input];
        *known = match (*known, watermark) {
            (Some(before), Some(after)) => Some(before.max(after)),
            (_, after) => after,
        };
        let least = self.inputs.iter().flatten().min().copied()?;
        if least <= self.watermark {
            return None;
        }
        self.watermark = least;
        Some(least)
    }

    /// How many inputs there are.
    pub fn inputs(&self) -> usize {
        self.inputs.len()
    }

    /// The watermark of all as it rose last; `None` before.
    pub fn known(&self) -> Option<i64> {
        (self.watermark > WATERMARK_MIN).then_some(self.watermark)
    }

    /// Whether all inputs are idle.
    pub fn is_idle(&self) -> bool {
        self.inputs.iter().all(Option::is_none)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::TimestampMillisecondArray;
    use arrow::datatypes::{DataType, Field, Schema, TimeUnit};
    use datafusion::physical_expr::expressions::Column;

    use super::*;

    fn rows(times: &[Option<i64>]) -> RecordBatch {
        let field = Field::new("ts", DataType::Timestamp(TimeUnit::Millisecond, None), true);
        let column = Arc::new(TimestampMillisecondArray::from(times.to_vec()));
        RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column]).unwrap()
    }

    #[test]
    fn a_difference_is_computed_for_the_latest_row() {
        let schema = rows(&[]).schema();
        let interval = datafusion::physical_expr::expressions::lit(datafusion::common::ScalarValue::new_interval_mdn(
            0, 0, 4_000_000,
        ));
        let column: Expression = Arc::new(Column::new("ts", 0));
        let strategy: Expression = Arc::new(BinaryExpr::new(column, Operator::Minus, interval));
        assert_eq!(rises_with(&strategy), Some(0));
        let mut source = WatermarkAssigner::new(strategy, &schema, None, [0], 0).unwrap();
        source.observe(0, &rows(&[None]), 1).unwrap();
        assert_eq!(source.watermark(1), None);
        source.observe(0, &rows(&[Some(20), None, Some(50), Some(30)]), 1).unwrap();
        assert_eq!(source.watermark(1), Some(46));
    }

    fn assigner(idle_after_ms: Option<i64>) -> WatermarkAssigner {
        let schema = rows(&[]).schema();
        WatermarkAssigner::new(Arc::new(Column::new("ts", 0)), &schema, idle_after_ms, [0, 1], 0).unwrap()
    }

    #[test]
    fn the_slowest_partition_counts() {
        let mut source = assigner(None);
        source.observe(0, &rows(&[Some(50), None, Some(20)]), 1).unwrap();
        assert_eq!(source.watermark(1_000_000), None, "partition 1 has shown nothing");
        source.observe(1, &rows(&[Some(30)]), 2).unwrap();
        assert_eq!(source.watermark(2), Some(30));
        source.observe(1, &rows(&[Some(10), None]), 3).unwrap();
        assert_eq!(source.watermark(3), Some(30));
        source.finish(1);
        assert_eq!(source.watermark(4), Some(50));
        source.finish(0);
        assert_eq!(source.watermark(5), Some(WATERMARK_MAX));
    }

    #[test]
    fn nobody_waits_for_idle_partitions_and_nothing_goes_back() {
        let mut source = assigner(Some(100));
        source.observe(0, &rows(&[Some(50)]), 50).unwrap();
        assert_eq!(source.watermark(99), None);
        assert_eq!(source.watermark(100), Some(50), "partition 1 is idle since it began");
        source.observe(1, &rows(&[Some(7)]), 120).unwrap();
        assert_eq!(source.watermark(120), Some(50));
        source.observe(0, &rows(&[Some(90)]), 130).unwrap();
        assert_eq!(source.watermark(130), Some(50), "partition 1 is awake and at 7");
        assert_eq!(source.watermark(1000), None, "all are idle");
        let mut again = assigner(Some(100));
        again.restore(&source.partitions());
        again.begin(1000);
        again.observe(0, &rows(&[Some(91)]), 1001).unwrap();
        assert_eq!(again.watermark(1001), Some(91), "partition 1 was idle when it ended");
    }

    #[test]
    fn inputs_come_together() {
        let mut merge = WatermarkMerge::new(2);
        assert_eq!(merge.update(0, Some(10)), None);
        assert_eq!(merge.update(1, Some(5)), Some(5));
        assert_eq!(merge.update(1, None), Some(10));
        assert_eq!(merge.update(1, Some(7)), None);
        assert_eq!(merge.update(0, Some(20)), None);
        assert_eq!(merge.update(1, Some(WATERMARK_MAX)), Some(20));
    }
}
