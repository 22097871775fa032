//! The job of a simulation: it counts the rows of each partition, and puts out each row with the count. Row `i` must come out with
//! the count `i + 1`: state that does not fit the position shows in the value.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use tereza_runtime::{Error, Result};

use super::world::World;
use super::{ROWS, Row, TABLE, TOPIC};
use crate::log::Output;
use crate::pipeline::{Kept, Part, Pipeline, Polled, Produced, Restored, Snapshot, Source};
use crate::record::{EpochRecord, Positions};

pub(super) struct Count {
    pub(super) to_topic: bool,
    pub(super) to_table: bool,
    /// A snapshot is a base each so many times.
    pub(super) base_every: u64,
    snapshots: u64,
    key_groups: (u16, u16),
    counts: BTreeMap<u16, u64>,
    changed: BTreeSet<u16>,
}

impl Count {
    pub(super) fn new(to_topic: bool, to_table: bool, base_every: u64) -> Self {
        let (counts, changed) = (BTreeMap::new(), BTreeSet::new());
        Self { to_topic, to_table, base_every, snapshots: 0, key_groups: (0, 0), counts, changed }
    }
}

impl Pipeline for Count {
    type Input = Vec<(i32, i64)>;
    type Rows = Vec<Row>;

    fn process(&mut self, input: Self::Input, _: i64, out: &mut Produced<Vec<Row>>) -> Result<()> {
        let mut rows = Vec::new();
        for (partition, index) in input {
            // The key group of a row is its partition.
            let group = u16::try_from(partition).unwrap();
            if group < self.key_groups.0 || group > self.key_groups.1 {
                return Err(Error::internal(format!("a row of key group {group} came to {:?}", self.key_groups)));
            }
            let count = self.counts.entry(group).or_default();
            *count += 1;
            self.changed.insert(group);
            rows.push((partition, index, *count));
        }
        if self.to_topic {
            let value = |row: &Row| Some(Bytes::from(serde_json::to_vec(row).unwrap()));
            out.outputs.extend(rows.iter().map(|row| Output {
                topic: TOPIC.to_owned(),
                partition: Some(row.0),
                key: None,
                value: value(row),
                headers: Vec::new(),
                timestamp: None,
            }));
        }
        if self.to_table {
            out.rows.push((TABLE.to_owned(), rows));
        }
        Ok(())
    }

    fn tick(&mut self, _: i64, _: &mut Produced<Vec<Row>>) -> Result<bool> {
        Ok(false)
    }

    fn snapshot(&mut self, _: &mut Produced<Vec<Row>>) -> Result<Snapshot> {
        self.snapshots += 1;
        let is_base = self.snapshots.is_multiple_of(self.base_every);
        let has = self.counts.iter().filter(|(group, _)| is_base || self.changed.contains(group));
        let bytes = serde_json::to_vec(&has.collect::<BTreeMap<_, _>>()).unwrap();
        self.changed.clear();
        let parts = vec![Part { key_groups: self.key_groups, bytes: bytes.into() }];
        let kept = if is_base { Kept::None } else { Kept::All };
        Ok(Snapshot { kept, parts, ..Snapshot::default() })
    }

    fn restore(&mut self, from: Restored) -> Result<()> {
        self.key_groups = from.key_groups;
        for part in from.parts {
            let counts: BTreeMap<u16, u64> = serde_json::from_slice(&part.bytes).unwrap();
            let (first, last) = part.key_groups;
            self.counts.extend(counts.into_iter().filter(|(group, _)| (first..=last).contains(group)));
        }
        Ok(())
    }
}

pub(super) struct Rows {
    pub(super) world: Arc<World>,
    pub(super) positions: Positions,
}

#[async_trait]
impl Source for Rows {
    type Input = Vec<(i32, i64)>;

    async fn assign(&mut self, positions: &Positions) -> Result<()> {
        self.positions.clone_from(positions);
        Ok(())
    }

    async fn poll(&mut self) -> Result<Polled<Self::Input>> {
        self.world.step().await;
        if self.world.fault(5) {
            return Err(Error::unavailable("no answer of the broker"));
        }
        let left: Vec<(i32, i64)> = self
            .positions
            .values()
            .flatten()
            .map(|(partition, position)| (*partition, *position))
            .filter(|(_, position)| *position < ROWS)
            .collect();
        if left.is_empty() {
            return Ok(Polled::End { positions: Positions::new() });
        }
        if self.world.fault(100) {
            return Ok(Polled::Idle);
        }
        let (partition, from) = left[usize::try_from(self.world.below(left.len() as u64)).unwrap()];
        let to = (from + 1 + i64::try_from(self.world.below(2)).unwrap()).min(ROWS);
        let positions = Positions::from([("in".to_owned(), BTreeMap::from([(partition, to)]))]);
        for (topic, at) in &positions {
            self.positions.entry(topic.clone()).or_default().extend(at);
        }
        Ok(Polled::Rows { input: (from..to).map(|index| (partition, index)).collect(), positions })
    }

    fn committed(&mut self, _: &EpochRecord) {}
}
