use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::edge::{PARTITIONS, key_groups};
use crate::operator::key::key_group;
use crate::operator::state::{SnapshotWriter, StateReader};

const OPERATORS: [&str; 3] = ["0-calc", "1-join", "2-sum"];
const TABLE: &str = "rows";

fn describe(id: &str) -> Option<String> {
    Some(format!("what {id} does"))
}

/// An operator whose state is known.
#[derive(Debug, Default)]
struct Known {
    epoch: Option<u64>,
    rows: HashMap<u8, Vec<u8>>,
}

impl Known {
    /// Sets or drops keys, and returns the snapshot of that.
    fn change(&mut self, id: &str, epoch: u64, changes: &[(u8, Option<Vec<u8>>)]) -> Vec<u8> {
        let mut writer = SnapshotWriter::new(id, &describe(id).unwrap(), epoch, self.epoch);
        writer.watermark(epoch as i64);
        let changes: BTreeMap<u8, &Option<Vec<u8>>> = changes.iter().map(|(key, value)| (*key, value)).collect();
        for (key, value) in changes {
            writer.entry(TABLE, &[key], &[key], value.as_deref()).unwrap();
            match value {
                Some(value) => self.rows.insert(key, value.clone()),
                None => self.rows.remove(&key),
            };
        }
        self.epoch = Some(epoch);
        writer.finish().unwrap()
    }
}

fn rows_of(chains: &ByTask, id: &str) -> HashMap<u8, Vec<u8>> {
    let reader = StateReader::open(&describe(id).unwrap(), &chains.of(id).unwrap(), 0..=u8::MAX).unwrap();
    rows_in(&reader)
}

fn rows_in(reader: &StateReader) -> HashMap<u8, Vec<u8>> {
    let mut rows = HashMap::new();
    let visited = reader.each(TABLE, |entry| {
        let known = rows.insert(entry.key[0], entry.value.to_vec());
        assert!(known.is_none(), "a key is there twice");
        Ok(())
    });
    visited.unwrap();
    rows
}

/// What keys become; none is gone.
type Changes = Vec<(u8, Option<Vec<u8>>)>;
/// An operator's number, and what changes in it.
type Change = (usize, Changes);

fn epochs() -> impl Strategy<Value = Vec<(Vec<Change>, bool)>> {
    let value = prop_oneof![
        1 => Just(None),
        3 => (any::<u8>(), 0..300_usize).prop_map(|(byte, len)| Some(vec![byte; len])),
    ];
    let change = (0..OPERATORS.len(), proptest::collection::vec((0..20_u8, value), 0..6));
    let epoch = (proptest::collection::vec(change, 0..3), proptest::bool::weighted(0.1));
    proptest::collection::vec(epoch, 1..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whenever a task begins again, the record's parts are what its operators held.
    #[test]
    fn what_is_kept_is_all_there_is(epochs in epochs(), waits in proptest::bool::ANY) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut known: BTreeMap<&str, Known> = BTreeMap::new();
            let mut chains = Chains::new(3);
            let mut record: Vec<Part> = Vec::new();
            for (epoch, (changes, begins_again)) in (1..).zip(epochs) {
                let mut by_operator: BTreeMap<&str, Changes> = BTreeMap::new();
                for (operator, mut change) in changes {
                    by_operator.entry(OPERATORS[operator]).or_default().append(&mut change);
                }
                let changed: Vec<_> = by_operator
                    .into_iter()
                    .map(|(id, change)| (id.to_owned(), known.entry(id).or_default().change(id, epoch, &change)))
                    .collect();
                if waits && let Some(merging) = &mut chains.merging {
                    while !merging.merged.is_finished() {
                        tokio::task::yield_now().await;
                    }
                }
                let (kept, parts) = chains.snapshot(epoch, changed, describe).unwrap();
                record = kept.of(&record).unwrap().into_iter().chain(parts).collect();
                let (restored, _) = ByTask::read(&record).unwrap();
                for (id, known) in &known {
                    assert_eq!(rows_of(&restored, id), known.rows, "{id} at epoch {epoch}");
                }
                if begins_again {
                    chains = restored.into_chains(3, 0..=u8::MAX, describe).unwrap();
                }
            }
            for chain in chains.chains.values() {
                assert!(!waits || chain.len() < 10 * MERGED_MIN, "a chain of {}", chain.len());
            }
        });
    }
}

#[test]
fn the_newest_are_merged_from_the_first_that_is_no_larger_than_the_rest() {
    let of = |sizes: &[usize]| {
        let segment = |bytes: &usize| Segment { after: None, epoch: 0, bytes: vec![0; *bytes].into(), part: NEW };
        worth_merging(&sizes.iter().map(segment).collect())
    };
    assert_eq!(of(&[1000, 1, 1, 1, 1, 1, 1, 1]), None, "too few");
    assert_eq!(of(&[1000, 1, 1, 1, 1, 1, 1, 1, 1, 1]), Some(1..10));
    assert_eq!(of(&[1000, 9, 1, 1, 1, 1, 1, 1, 1, 1, 1]), Some(1..11));
    assert_eq!(of(&[1000, 10, 1, 1, 1, 1, 1, 1, 1, 1, 1]), Some(2..11));
    assert_eq!(of(&[5, 1, 1, 1, 1, 1, 1, 1]), Some(0..8));
    assert_eq!(of(&[]), None);
}

#[test]
fn state_of_several_tasks_is_written_anew_by_the_one_that_has_it() {
    let mut parts = Vec::new();
    let mut rows = HashMap::new();
    for (task, keys) in [(0, 0..10), (1, 10..20)] {
        let mut known = Known::default();
        let changes: Vec<_> = keys.map(|key| (key, Some(vec![key]))).collect();
        let bytes = known.change("1-join", 7, &changes);
        let operators = BTreeMap::from([("1-join", vec![Bytes::from(bytes)])]);
        parts.push(Part { key_groups: (0, 255), bytes: write_part(task, 7, &operators).unwrap() });
        rows.extend(known.rows);
    }
    let (restored, last) = ByTask::read(&parts).unwrap();
    assert_eq!((last, rows_of(&restored, "1-join")), (7, rows.clone()));
    let mut chains = restored.into_chains(0, 0..=u8::MAX, describe).unwrap();
    let (kept, new) = chains.snapshot(8, Vec::new(), describe).unwrap();
    assert_eq!(kept, Kept::Places(Vec::new()));
    assert_eq!(rows_of(&ByTask::read(&new).unwrap().0, "1-join"), rows);
}

/// The rows of an operator in a lane, as whoever has it restores them.
fn rows_of_lane(chains: &ByTask, id: &str, lane: i32) -> HashMap<u8, Vec<u8>> {
    let groups = key_groups(lane, PARTITIONS);
    let reader =
        StateReader::open(&describe(id).unwrap(), &chains.of_lane(id, lane, &groups).unwrap(), groups).unwrap();
    rows_in(&reader)
}

fn lanes(of: std::ops::Range<i32>) -> impl Iterator<Item = (i32, RangeInclusive<u8>)> {
    of.map(|lane| (lane, key_groups(lane, PARTITIONS)))
}

fn lane_of(key: u8) -> i32 {
    i32::from(key_group(&[key])) * PARTITIONS / 256
}

fn within(parts: &[Part], key_groups: (u16, u16)) -> impl Iterator<Item = Part> {
    parts.iter().map(move |part| Part { key_groups, bytes: part.bytes.clone() })
}

#[tokio::test]
async fn a_lane_goes_on_with_its_state_whoever_wrote_it() {
    let describe = |name: &str| describe(operator(name));
    let mut known = Known::default();
    let all: Vec<(u8, Option<Vec<u8>>)> = (0..=255).map(|key| (key, Some(vec![1]))).collect();
    let base = known.change("1-join", 7, &all);
    // One task with all keys.
    let (_, one) = Chains::new(0).snapshot(7, [("1-join".to_owned(), base)], describe).unwrap();
    let mut expected = known.rows.clone();
    let check = |chains: &ByTask, lanes: std::ops::Range<i32>, expected: &HashMap<u8, Vec<u8>>, what: &str| {
        for lane in lanes {
            let wanted = expected.iter().filter(|(key, _)| lane_of(**key) == lane);
            let wanted: HashMap<u8, Vec<u8>> = wanted.map(|(key, value)| (*key, value.clone())).collect();
            assert!(!wanted.is_empty() && rows_of_lane(chains, "1-join", lane) == wanted, "{what}: lane {lane}");
        }
    };

    // Two tasks. The first one commits a change in lane 3, the other one nothing.
    let (restored, last) = ByTask::read(&within(&one, (0, 127)).collect::<Vec<_>>()).unwrap();
    check(&restored, 0..8, &expected, "first of two");
    assert!(restored.of_lane("1-join", 8, &key_groups(8, PARTITIONS)).unwrap().is_empty(), "that is of the other task");
    let mut chains = restored.into_lanes(0, 0..=127, lanes(0..8), describe).unwrap();
    let key = (0..=255).find(|key| lane_of(*key) == 3).unwrap();
    let mut lane = Known { epoch: Some(last), rows: HashMap::new() };
    let change = lane.change("1-join", 8, &[(key, Some(vec![2]))]);
    let (kept, first) = chains.snapshot(8, [(name("1-join", 3), change)], describe).unwrap();
    assert_eq!(kept, Kept::Places(Vec::new()), "all of it is in parts of its own");
    expected.insert(key, vec![2]);
    let (again, _) = ByTask::read(&first).unwrap();
    check(&again, 0..8, &expected, "first of two, again");
    let unchanged = again.into_lanes(0, 0..=127, lanes(0..8), describe).unwrap().snapshot(9, [], describe).unwrap();
    assert_eq!(unchanged, (Kept::Places((0..first.len()).collect()), Vec::new()), "nothing is written twice");

    // One task again, with what both have.
    let parts: Vec<Part> = within(&first, (0, 127)).chain(within(&one, (128, 255))).collect();
    let (restored, _) = ByTask::read(&parts).unwrap();
    check(&restored, 0..16, &expected, "one of all lanes");
    let mut chains = restored.into_lanes(0, 0..=255, lanes(0..16), describe).unwrap();
    let (kept, parts) = chains.snapshot(10, [], describe).unwrap();
    assert_eq!(kept, Kept::Places(Vec::new()));
    check(&ByTask::read(&parts).unwrap().0, 0..16, &expected, "one of all lanes, again");

    // Three tasks: what the first one writes of its lanes is older than what the second one has of its own.
    let of_second: Vec<Part> = within(&parts, (80, 159)).collect();
    let (restored, _) = ByTask::read(&of_second).unwrap();
    let mut chains = restored.into_lanes(1, 80..=159, lanes(5..10), describe).unwrap();
    let key = (0..=255).find(|key| lane_of(*key) == 6).unwrap();
    let mut lane = Known { epoch: Some(7), rows: HashMap::new() };
    let epoch = 11;
    let change = lane.change("1-join", epoch, &[(key, None)]);
    let (_, second) = chains.snapshot(epoch, [(name("1-join", 6), change)], describe).unwrap();
    expected.remove(&key);
    let parts: Vec<Part> = within(&parts, (0, 79)).chain(within(&second, (80, 159))).collect();
    check(&ByTask::read(&parts).unwrap().0, 0..10, &expected, "the first and the second of three");
}

#[test]
fn damaged_parts_and_gaps_are_refused() {
    let snapshot = |epoch, after| Bytes::from(SnapshotWriter::new("1-join", "join", epoch, after).finish().unwrap());
    let operators = BTreeMap::from([("0-calc", vec![Bytes::from_static(b"base"), Bytes::new()]), ("1-join", vec![])]);
    let bytes = write_part(3, 7, &operators).unwrap();
    let (task, epoch, read) = read_part(&bytes).unwrap();
    assert_eq!((task, epoch, read.len(), read["0-calc"].len()), (3, 7, 2, 2));
    for end in 0..bytes.len() {
        // At the end of an operator there is nothing to miss.
        if let Ok((_, _, some)) = read_part(&bytes.slice(..end)) {
            assert!(some.len() < 2, "{end}");
        }
    }
    assert!(read_part(&Bytes::from_static(b"TEREZASO and so on, and more")).is_err());
    let part = |snapshots| {
        let bytes = write_part(0, 9, &BTreeMap::from([("1-join", snapshots)])).unwrap();
        ByTask::read(&[Part { key_groups: (0, 255), bytes }]).and_then(|(read, _)| Ok(read.of("1-join")?[0].len()))
    };
    assert_eq!(part(vec![snapshot(3, None), snapshot(4, Some(3)), snapshot(9, Some(4))]).unwrap(), 3);
    assert_eq!(part(vec![snapshot(3, None), snapshot(9, Some(3)), snapshot(4, Some(3))]).unwrap(), 2);
    let gap = part(vec![snapshot(3, None), snapshot(9, Some(4))]).unwrap_err();
    assert!(gap.to_string().contains("a gap after epoch Some(3)"), "{gap}");
}
