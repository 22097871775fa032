//! The snapshots of a task's operators: those that its last record has, and how many become one.
//!
//! Each operator has a chain: a base, then deltas, each after the one before. Beside the task's work the newest of a chain are
//! merged, so that a chain stays short and no byte is written often: those from the first that is no larger than all after it.
//! Snapshots are in parts of the record; a part counts as long as one of its snapshots does. Merged ones are found by where
//! they begin and end, so a part may hold others that do not count any more.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::{Range, RangeInclusive};

use bytes::Bytes;
use futures::FutureExt;
use tereza_runtime::{Error, Result};
use tokio::task::JoinHandle;

use super::lanes::{name, operator};
use crate::operator::state::{compact, merge, span};
use crate::pipeline::{Kept, Part};

/// First bytes of a part of state.
const MAGIC: &[u8; 8] = b"TEREZAST";
/// So many snapshots are worth to become one.
const MERGED_MIN: usize = 8;
/// A larger snapshot has a part of its own, so that no small one keeps it when it does not count any more.
const SHARED_BYTES_MAX: usize = 64 << 10;
/// Chains that are merged at once.
const CHAINS_MERGED_MAX: usize = 64;
/// The part of what is in no record yet.
const NEW: usize = usize::MAX;

/// One snapshot of an operator.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Segment {
    /// The epoch of the snapshot before; none for a base.
    after: Option<u64>,
    epoch: u64,
    bytes: Bytes,
    /// Its place among the parts of the record.
    part: usize,
}

/// Snapshots of one operator, oldest first.
type Chain = Vec<Segment>;

/// What a task has of its operators.
#[derive(Debug)]
pub(super) struct Chains {
    task: u32,
    groups: RangeInclusive<u8>,
    chains: BTreeMap<String, Chain>,
    /// All of it is to be written anew, since the record's parts are of several tasks.
    is_anew: bool,
    merging: Option<Merging>,
}

/// Snapshots of some chains that become one in each meanwhile.
#[derive(Debug)]
struct Merging {
    /// The chain's name, and the first and the last epoch.
    of: Vec<(String, u64, u64)>,
    merged: JoinHandle<Result<Vec<Vec<u8>>>>,
}

/// The task that wrote snapshots, and the first and the last key group that they count for.
type Origin = (u32, (u16, u16));

/// Snapshots that were restored, by where they are from, each with others that do not count any more: of lanes that the task had
/// before, parts may hold some snapshots and not the ones that they follow on. Of several tasks, or of one for several ranges of key groups, those of one
/// origin count for its groups alone: what they hold of others is older than what others hold.
pub(super) struct ByTask(BTreeMap<Origin, BTreeMap<String, Chain>>);

impl ByTask {
    /// Reads the parts of a record. Also the last epoch of which there is any.
    pub(super) fn read(parts: &[Part]) -> Result<(Self, u64)> {
        let mut origins: BTreeMap<Origin, BTreeMap<String, Chain>> = BTreeMap::new();
        let mut last = 0;
        for (part, Part { bytes, key_groups }) in parts.iter().enumerate() {
            let (task, epoch, operators) = read_part(bytes)?;
            last = last.max(epoch);
            let chains = origins.entry((task, *key_groups)).or_default();
            for (id, snapshots) in operators {
                for bytes in snapshots {
                    let (after, epoch) = span(&bytes)?;
                    chains.entry(id.clone()).or_default().push(Segment { after, epoch, bytes, part });
                }
            }
        }
        Ok((Self(origins), last))
    }

    /// The names of which there is state: ids of operators, or those of their parts in lanes.
    pub(super) fn names(&self) -> BTreeSet<&str> {
        self.0.values().flat_map(BTreeMap::keys).map(String::as_str).collect()
    }

    /// Leaves out the chains that `is_wanted`, given an operator and its base, does not want.
    pub(super) fn retain(&mut self, is_wanted: impl Fn(&str, &[u8]) -> bool) {
        for chains in self.0.values_mut() {
            let base =
                |chain: &Chain| chain.iter().find(|segment| segment.after.is_none()).map(|base| base.bytes.clone());
            chains.retain(|id, chain| base(chain).is_none_or(|base| is_wanted(id, &base)));
        }
    }

    /// The chains of an operator, one of each origin. Where there is one task, or none has keys, they count for all key groups.
    pub(super) fn of(&self, operator: &str) -> Result<Vec<Vec<Bytes>>> {
        let of_origins = self.0.values().filter_map(|chains| chains.get(operator));
        of_origins.map(|chain| Ok(bytes_of(&linked(operator, chain)?))).collect()
    }

    /// The chain of an operator in a lane with these key groups; none before there is any. It may hold other groups too.
    pub(super) fn of_lane(&self, operator: &str, lane: i32, groups: &RangeInclusive<u8>) -> Result<Vec<Vec<Bytes>>> {
        Ok(self.in_lane(operator, lane, groups)?.map(|(_, chain)| bytes_of(&chain)).into_iter().collect())
    }

    /// A lane's state is under a name of its own, or, in a job whose operators were all in one task, under that of the operator. Says
    /// whether it is its own.
    fn in_lane(&self, operator: &str, lane: i32, groups: &RangeInclusive<u8>) -> Result<Option<(bool, Chain)>> {
        let (first, last) = (u16::from(*groups.start()), u16::from(*groups.end()));
        let mut own = None;
        let mut shared = None;
        for ((_, count_for), chains) in &self.0 {
            if count_for.0 <= first && last <= count_for.1 {
                own = own.or_else(|| chains.get(&name(operator, lane)));
                shared = shared.or_else(|| chains.get(operator));
            }
        }
        let found = own.map(|chain| (true, chain)).or_else(|| shared.map(|chain| (false, chain)));
        found.map(|(is_own, chain)| Ok((is_own, linked(&name(operator, lane), chain)?))).transpose()
    }

    /// What `task` goes on with; `describe` says what gives the state of an operator its meaning.
    pub(super) fn into_chains(
        self,
        task: u32,
        groups: RangeInclusive<u8>,
        describe: impl Fn(&str) -> Option<String>,
    ) -> Result<Chains> {
        let is_anew = self.0.keys().any(|(other, _)| *other != task);
        let chains = if self.0.len() > 1 {
            let mut merged = BTreeMap::new();
            for id in self.names() {
                let Some(description) = describe(id) else { continue };
                let bytes = Bytes::from(compact(&description, &self.of(id)?, groups.clone())?);
                let (after, epoch) = span(&bytes)?;
                merged.insert(id.to_owned(), vec![Segment { after, epoch, bytes, part: NEW }]);
            }
            merged
        } else {
            let chains = self.0.into_values().next().unwrap_or_default().into_iter();
            chains.map(|(id, chain)| linked(&id, &chain).map(|chain| (id, chain))).collect::<Result<_>>()?
        };
        Ok(Chains { task, groups, chains, is_anew, merging: None })
    }

    /// What `task` goes on with that has these lanes, with their key groups; `describe` takes names of states.
    pub(super) fn into_lanes(
        self,
        task: u32,
        groups: RangeInclusive<u8>,
        lanes: impl Iterator<Item = (i32, RangeInclusive<u8>)>,
        describe: impl Fn(&str) -> Option<String>,
    ) -> Result<Chains> {
        let own: Origin = (task, (u16::from(*groups.start()), u16::from(*groups.end())));
        let is_anew = self.0.keys().any(|origin| *origin != own);
        let operators: BTreeSet<&str> = self.names().into_iter().map(operator).collect();
        let mut chains = BTreeMap::new();
        for (lane, groups) in lanes {
            for id in &operators {
                let Some((is_own, chain)) = self.in_lane(id, lane, &groups)? else { continue };
                let chain = match (is_own, describe(id)) {
                    (true, _) => chain,
                    (false, None) => continue,
                    (false, Some(description)) => {
                        let bytes = Bytes::from(compact(&description, &[bytes_of(&chain)], groups.clone())?);
                        let (after, epoch) = span(&bytes)?;
                        vec![Segment { after, epoch, bytes, part: NEW }]
                    }
                };
                chains.insert(name(id, lane), chain);
            }
        }
        Ok(Chains { task, groups, chains, is_anew, merging: None })
    }
}

fn bytes_of(chain: &Chain) -> Vec<Bytes> {
    chain.iter().map(|segment| segment.bytes.clone()).collect()
}

impl Chains {
    /// Those of a task that has no state yet.
    pub(super) fn new(task: u32) -> Self {
        Self { task, groups: 0..=u8::MAX, chains: BTreeMap::new(), is_anew: false, merging: None }
    }

    /// Takes what changed in an epoch, by operators, and returns what the record of the epoch has. It must be committed, or this be
    /// dropped.
    pub(super) fn snapshot(
        &mut self,
        epoch: u64,
        changed: impl IntoIterator<Item = (String, Vec<u8>)>,
        describe: impl Fn(&str) -> Option<String>,
    ) -> Result<(Kept, Vec<Part>)> {
        self.take_merged()?;
        for (id, bytes) in changed {
            let bytes = Bytes::from(bytes);
            let (after, epoch) = span(&bytes)?;
            self.chains.entry(id).or_default().push(Segment { after, epoch, bytes, part: NEW });
        }
        if std::mem::take(&mut self.is_anew) {
            self.chains.values_mut().flatten().for_each(|segment| segment.part = NEW);
        }
        let all = self.chains.values().flatten().map(|segment| segment.part);
        let kept: Vec<usize> = all.filter(|part| *part != NEW).collect::<BTreeSet<_>>().into_iter().collect();
        let parts = self.write(epoch, &kept)?;
        self.begin_merge(describe);
        Ok((Kept::Places(kept), parts))
    }

    /// Makes parts of what is in none, and numbers all parts anew: `kept` come first.
    fn write(&mut self, epoch: u64, kept: &[usize]) -> Result<Vec<Part>> {
        let key_groups = (u16::from(*self.groups.start()), u16::from(*self.groups.end()));
        let mut parts = Vec::new();
        let mut shared: BTreeMap<&str, Vec<Bytes>> = BTreeMap::new();
        let mut put = |operators: &BTreeMap<&str, Vec<Bytes>>| -> Result<usize> {
            parts.push(Part { key_groups, bytes: write_part(self.task, epoch, operators)? });
            Ok(kept.len() + parts.len() - 1)
        };
        let mut in_shared = Vec::new();
        for (id, chain) in &mut self.chains {
            for segment in chain {
                if segment.part != NEW {
                    segment.part = kept.binary_search(&segment.part).map_err(|_| Error::internal("a part is lost"))?;
                } else if segment.bytes.len() > SHARED_BYTES_MAX {
                    segment.part = put(&BTreeMap::from([(id.as_str(), vec![segment.bytes.clone()])]))?;
                } else {
                    shared.entry(id).or_default().push(segment.bytes.clone());
                    in_shared.push(&mut segment.part);
                }
            }
        }
        if !shared.is_empty() {
            let place = put(&shared)?;
            in_shared.into_iter().for_each(|part| *part = place);
        }
        Ok(parts)
    }

    /// Puts merged snapshots in the place of those that they are of, if they are ready.
    fn take_merged(&mut self) -> Result<()> {
        let Some(merging) = &mut self.merging else { return Ok(()) };
        let Some(merged) = (&mut merging.merged).now_or_never() else { return Ok(()) };
        let merged = merged.map_err(|error| Error::internal(error.to_string()))??;
        for ((name, first, last), bytes) in merging.of.iter().zip(merged) {
            let bytes = Bytes::from(bytes);
            let (after, epoch) = span(&bytes)?;
            let Some(chain) = self.chains.get_mut(name) else { continue };
            let place = |epoch: u64| chain.iter().position(|segment| segment.epoch == epoch);
            let (Some(first), Some(last)) = (place(*first), place(*last)) else {
                return Err(Error::internal("snapshots that were merged are not there"));
            };
            chain.splice(first..=last, [Segment { after, epoch, bytes, part: NEW }]);
        }
        self.merging = None;
        Ok(())
    }

    /// Begins to merge the snapshots that are worth it, if there are any.
    fn begin_merge(&mut self, describe: impl Fn(&str) -> Option<String>) {
        if self.merging.is_some() {
            return;
        }
        let worth = self.chains.iter().filter_map(|(name, chain)| {
            let (range, description) = (worth_merging(chain)?, describe(name)?);
            let bytes: Vec<Bytes> = chain[range.clone()].iter().map(|segment| segment.bytes.clone()).collect();
            let of = (name.clone(), chain[range.start].epoch, chain[range.end - 1].epoch);
            Some((of, (range.start == 0, description, bytes)))
        });
        let (of, work): (Vec<_>, Vec<_>) = worth.take(CHAINS_MERGED_MAX).unzip();
        if of.is_empty() {
            return;
        }
        let groups = self.groups.clone();
        let merged = tokio::task::spawn_blocking(move || {
            let one = |(is_base, description, bytes): (bool, String, Vec<Bytes>)| match is_base {
                true => compact(&description, &[bytes], groups.clone()),
                false => merge(&description, &bytes, groups.clone()),
            };
            work.into_iter().map(one).collect()
        });
        self.merging = Some(Merging { of, merged });
    }
}

/// The newest snapshots of a chain from the first on that is no larger than all after it, if they are many.
fn worth_merging(chain: &Chain) -> Option<Range<usize>> {
    let mut after = 0;
    let mut start = chain.len();
    for (place, segment) in chain.iter().enumerate().rev() {
        if segment.bytes.len() <= after {
            start = place;
        }
        after += segment.bytes.len();
    }
    (chain.len() - start >= MERGED_MIN).then_some(start..chain.len())
}

/// The snapshots that follow on one another and reach the last epoch: from the newest base on, always the one that spans the most.
fn linked(id: &str, all: &Chain) -> Result<Chain> {
    let mut by_start: BTreeMap<Option<u64>, &Segment> = BTreeMap::new();
    let last = all.iter().map(|segment| segment.epoch).max();
    for segment in all {
        let known = by_start.get(&segment.after);
        if known.is_none_or(|known| known.epoch < segment.epoch) {
            by_start.insert(segment.after, segment);
        }
    }
    let mut chain = Chain::new();
    let mut at = None;
    while let Some(segment) = by_start.remove(&at) {
        at = Some(segment.epoch);
        chain.push(segment.clone());
    }
    if at != last {
        return Err(Error::invalid_input(format!(
            "the state of {id} has a gap after epoch {at:?}: its last is {last:?}"
        )));
    }
    Ok(chain)
}

/// Task, epoch, and snapshots by operators: magic, task (u32), epoch (u64), then for each operator its id, how many snapshots (u32),
/// and these. Texts and bytes have their lengths (u64) before them; all numbers are little endian.
fn write_part(task: u32, epoch: u64, operators: &BTreeMap<&str, Vec<Bytes>>) -> Result<Bytes> {
    let mut bytes = Vec::with_capacity(operators.values().flatten().map(|bytes| bytes.len() + 64).sum());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&task.to_le_bytes());
    bytes.extend_from_slice(&epoch.to_le_bytes());
    let put = |bytes: &mut Vec<u8>, part: &[u8]| {
        bytes.extend_from_slice(&(part.len() as u64).to_le_bytes());
        bytes.extend_from_slice(part);
    };
    for (id, snapshots) in operators {
        put(&mut bytes, id.as_bytes());
        let count = u32::try_from(snapshots.len()).map_err(|_| Error::internal("too many snapshots of an operator"))?;
        bytes.extend_from_slice(&count.to_le_bytes());
        snapshots.iter().for_each(|snapshot| put(&mut bytes, snapshot));
    }
    Ok(bytes.into())
}

fn read_part(bytes: &Bytes) -> Result<(u32, u64, BTreeMap<String, Vec<Bytes>>)> {
    let mut left = Left(bytes.clone());
    let damaged = || Error::invalid_input("a part of state is damaged");
    if left.take(MAGIC.len()).is_none_or(|magic| magic != MAGIC.as_slice()) {
        return Err(damaged());
    }
    let task = left.number::<4>().map(u32::from_le_bytes).ok_or_else(damaged)?;
    let epoch = left.number::<8>().map(u64::from_le_bytes).ok_or_else(damaged)?;
    let mut operators = BTreeMap::new();
    while !left.0.is_empty() {
        let id = left.text().ok_or_else(damaged)?;
        let id = String::from_utf8(id.to_vec()).map_err(|_| damaged())?;
        let count = left.number::<4>().map(u32::from_le_bytes).ok_or_else(damaged)?;
        let mut snapshots = Vec::new();
        for _ in 0..count {
            snapshots.push(left.text().ok_or_else(damaged)?);
        }
        operators.insert(id, snapshots);
    }
    Ok((task, epoch, operators))
}

struct Left(Bytes);

impl Left {
    fn take(&mut self, count: usize) -> Option<Bytes> {
        (count <= self.0.len()).then(|| self.0.split_to(count))
    }

    fn number<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.as_ref().try_into().ok()
    }

    fn text(&mut self) -> Option<Bytes> {
        let count = self.number::<8>().map(u64::from_le_bytes)?;
        self.take(usize::try_from(count).ok()?)
    }
}

#[cfg(test)]
#[path = "chains_tests.rs"]
mod tests;
