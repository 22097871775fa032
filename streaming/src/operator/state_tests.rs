use std::collections::BTreeMap;

use arrow::array::{AsArray, Int64Array};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use tereza_runtime::error::ErrorKind;

use super::super::WATERMARK_MIN;
use super::*;

const OPERATOR: &str = "test(a, b)";

fn snapshot(epoch: u64, after: Option<u64>, entries: &[(&[u8], Option<&[u8]>)]) -> Vec<u8> {
    let mut writer = SnapshotWriter::new("test", OPERATOR, epoch, after);
    for (key, value) in entries {
        writer.entry("t", key, key, *value).unwrap();
    }
    writer.scalar("seq", epoch as i64);
    writer.finish().unwrap()
}

fn live(state: &StateReader) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let mut live = BTreeMap::new();
    let visited = state.each("t", |entry| {
        live.insert(entry.key.to_vec(), entry.value.to_vec());
        Ok(())
    });
    visited.unwrap();
    let mut replayed = BTreeMap::new();
    let visited = state.replay("t", |changes| {
        for change in 0..changes.len() {
            match changes.value(change) {
                Some(value) => _ = replayed.insert(changes.key(change).to_vec(), value.to_vec()),
                None => _ = replayed.remove(changes.key(change)),
            }
        }
        Ok(())
    });
    visited.unwrap();
    assert_eq!(replayed, live);
    live
}

#[test]
fn the_last_entry_of_a_key_holds() {
    let chain = vec![
        snapshot(1, None, &[(b"a", Some(b"1")), (b"b", Some(b"2")), (b"a", Some(b"3"))]),
        snapshot(4, Some(1), &[(b"b", None), (b"c", Some(b""))]),
    ];
    let state = StateReader::open(OPERATOR, std::slice::from_ref(&chain), 0..=255).unwrap();
    let expected = BTreeMap::from([(b"a".to_vec(), b"3".to_vec()), (b"c".to_vec(), b"".to_vec())]);
    assert_eq!(live(&state), expected);
    assert_eq!((state.epoch(), state.scalar_max("seq"), state.scalar_max("none")), (4, Some(4), None));
    let base = compact(OPERATOR, &[chain], 0..=255).unwrap();
    let state = StateReader::open(OPERATOR, &[vec![base]], 0..=255).unwrap();
    assert_eq!(live(&state), expected);
    assert_eq!(state.epoch(), 4);
}

/// As many keys as make a table that is looked through in the order of its buckets.
#[test]
fn the_last_entry_of_each_of_many_keys_holds() {
    let mut expected = BTreeMap::new();
    let mut chain = Vec::new();
    for epoch in 1..=4_u64 {
        let mut writer = SnapshotWriter::new("test", OPERATOR, epoch, (epoch > 1).then(|| epoch - 1));
        // A part of the keys of each epoch is in the next, some go, and of these some come back.
        for entry in 0..60_000_u64 {
            let key = (entry * 7919 % 50_000 + epoch * 20_000).to_be_bytes();
            let value = (entry >= 50_000 || entry % 7 != epoch).then(|| (entry * epoch).to_be_bytes());
            writer.entry("t", &key, &key, value.as_ref().map(<[u8; 8]>::as_slice)).unwrap();
            match value {
                Some(value) => _ = expected.insert(key.to_vec(), value.to_vec()),
                None => _ = expected.remove(key.as_slice()),
            }
        }
        chain.push(writer.finish().unwrap());
    }
    assert!(expected.len() > 50_000);
    let live = |chain: &[Vec<Vec<u8>>]| live(&StateReader::open(OPERATOR, chain, 0..=255).unwrap());
    let merged = merge(OPERATOR, &chain[1..], 0..=255).unwrap();
    assert_eq!(live(&[vec![chain[0].clone(), merged]]), expected);
    assert_eq!(live(&[vec![compact(OPERATOR, &[chain.clone()], 0..=255).unwrap()]]), expected);
    assert_eq!(live(&[chain]), expected);
}

#[test]
fn buckets_are_dropped_with_all_their_rows() {
    let rows = |values: Vec<i64>| {
        let schema = Schema::new(vec![Field::new("v", DataType::Int64, false)]);
        RecordBatch::try_new(Arc::new(schema), vec![Arc::new(Int64Array::from(values))]).unwrap()
    };
    let mut first = SnapshotWriter::new("test", OPERATOR, 1, None);
    first.rows("w", &rows(vec![1, 2, 3]), vec![0, 7, 255], vec![10, 20, 30]).unwrap();
    let mut second = SnapshotWriter::new("test", OPERATOR, 2, Some(1));
    second.rows("w", &rows(vec![4]), vec![7], vec![20]).unwrap();
    second.drop_through("w", 10);
    let chain = vec![first.finish().unwrap(), second.finish().unwrap()];
    let values = |chain: &Vec<Vec<u8>>, groups| -> Vec<i64> {
        let state = StateReader::open(OPERATOR, std::slice::from_ref(chain), groups).unwrap();
        let rows = state.rows("w").unwrap();
        rows.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect()
    };
    assert_eq!(values(&chain, 0..=255), [2, 3, 4]);
    assert_eq!(values(&chain, 0..=7), [2, 4]);
    assert_eq!(values(&vec![compact(OPERATOR, &[chain], 0..=255).unwrap()], 8..=255), [3]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |chain: Vec<Vec<u8>>, description| {
        let error = StateReader::open(description, &[chain], 0..=255).unwrap_err();
        (error.kind(), error.message().to_owned())
    };
    let base = snapshot(1, None, &[(b"a", Some(b"1"))]);
    assert!(refused(vec![base.clone()], "test(a, c)").1.contains("another query"));
    let gap = vec![base.clone(), snapshot(3, Some(2), &[])];
    assert!(refused(gap, OPERATOR).1.contains("follows epoch Some(2)"));
    assert!(refused(vec![snapshot(3, Some(2), &[])], OPERATOR).1.contains("follows epoch Some(2)"));
    let mut newer = base.clone();
    newer[8] = 2;
    assert_eq!(refused(vec![newer], OPERATOR).0, ErrorKind::Unsupported);
    let mut longer = base.clone();
    longer.push(0);
    assert!(refused(vec![longer], OPERATOR).1.contains("bytes follow"));
    for length in 0..base.len() {
        let (kind, _) = refused(vec![base[..length].to_vec()], OPERATOR);
        assert!(matches!(kind, ErrorKind::InvalidInput | ErrorKind::Internal), "{length}: {kind:?}");
    }
}

#[test]
fn tasks_at_different_watermarks_are_not_brought_together() {
    let at = |watermark: i64| {
        let mut writer = SnapshotWriter::new("test", OPERATOR, 1, None);
        writer.watermark(watermark);
        vec![writer.finish().unwrap()]
    };
    let watermark = |chains: &[Vec<Vec<u8>>]| StateReader::open(OPERATOR, chains, 0..=255).unwrap().watermark();
    assert_eq!(watermark(&[]).unwrap(), WATERMARK_MIN);
    assert_eq!(watermark(&[at(5), at(5)]).unwrap(), 5);
    assert!(watermark(&[at(5), at(6)]).unwrap_err().message().contains("different watermarks: [5, 6]"));
    assert!(compact(OPERATOR, &[at(5), at(6)], 0..=255).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_chain_a_base_and_two_halves_hold_the_same(
        deltas in proptest::collection::vec(
            proptest::collection::btree_map(proptest::collection::vec(0..4_u8, 0..3),
                proptest::option::of(proptest::collection::vec(any::<u8>(), 0..4)), 0..20), 1..6),
        at in 0..6_usize,
        merged in 1..4_usize,
        split in 1..=255_u8,
    ) {
        let mut model: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
        let mut chain = Vec::new();
        for (epoch, delta) in deltas.iter().enumerate() {
            for (key, value) in delta {
                match value {
                    Some(value) => model.insert(key.clone(), value.clone()),
                    None => model.remove(key),
                };
            }
            let entries: Vec<(&[u8], Option<&[u8]>)> =
                delta.iter().map(|(key, value)| (key.as_slice(), value.as_deref())).collect();
            chain.push(snapshot(epoch as u64, (epoch as u64).checked_sub(1), &entries));
            if epoch == at {
                chain = vec![compact(OPERATOR, &[chain], 0..=255).unwrap()];
            }
        }
        if chain.len() > merged {
            let newest = merge(OPERATOR, &chain[merged..], 0..=255).unwrap();
            chain.splice(merged.., [newest]);
        }
        let whole = StateReader::open(OPERATOR, std::slice::from_ref(&chain), 0..=255).unwrap();
        prop_assert_eq!(&live(&whole), &model);
        let mut halves = BTreeMap::new();
        for groups in [0..=split - 1, split..=255] {
            let part = live(&StateReader::open(OPERATOR, std::slice::from_ref(&chain), groups.clone()).unwrap());
            prop_assert!(part.keys().all(|key| groups.contains(&key_group(key))));
            halves.extend(part);
        }
        prop_assert_eq!(&halves, &model);
    }

    #[test]
    fn damaged_bytes_never_panic(at in any::<proptest::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = snapshot(1, None, &[(b"a", Some(b"1")), (b"b", None)]);
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let _ = StateReader::open(OPERATOR, &[vec![bytes]], 0..=255).map(|state| state.each("t", |_| Ok(())));
    }
}
