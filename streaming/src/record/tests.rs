use std::collections::BTreeMap;

use super::*;
use tereza_runtime::ErrorKind;

fn record() -> EpochRecord {
    EpochRecord {
        uid: "u".to_owned(),
        task: 3,
        generation: 2,
        epoch: 7,
        nonce: "n7".to_owned(),
        prev_nonce: "n6".to_owned(),
        attempt: "a".to_owned(),
        positions: BTreeMap::from([("in".to_owned(), BTreeMap::from([(0, 5), (11, 9_007_199_254_740_993)]))]),
        watermarks: BTreeMap::from([(
            "in".to_owned(),
            BTreeMap::from([
                (0, Watermark { ms: Some(i64::MAX), idle: false }),
                (11, Watermark { ms: None, idle: true }),
            ]),
        )]),
        upstream: BTreeMap::from([(
            "edge".to_owned(),
            BTreeMap::from([(
                1,
                Told {
                    generation: 2,
                    tasks: 5,
                    by_task: BTreeMap::from([(4, Watermark { ms: Some(-1), idle: false })]),
                    watermark: Watermark { ms: None, idle: false },
                },
            )]),
        )]),
        state: vec![
            StatePart { key_groups: (0, 127), content: StateContent::Inline(Bytes::from_static(b"\x00\xff")) },
            StatePart { key_groups: (5, 9), content: StateContent::Object(ObjectRef::of("p", b"bytes")) },
        ],
        pending: vec![Pending {
            table: "t".to_owned(),
            epoch: 6,
            files: Files::Inline(vec![DataFile { path: "f".to_owned(), size: 1, rows: 2, token: "up".to_owned() }]),
        }],
        applied: BTreeMap::from([("t".to_owned(), Applied { uuid: "x".to_owned(), marker: 5 })]),
        partitions: vec![OpenPartition {
            table: "t".to_owned(),
            values: vec!["2026-01-01".to_owned()],
            epoch: 6,
            since_ms: 9,
        }],
        garbage: vec!["old".to_owned()],
        fingerprint: "q".to_owned(),
        finished: true,
        is_final: true,
    }
}

#[test]
fn entries_come_back_as_they_were() {
    let start = Start { attempt: "a".to_owned(), nonce: "s".to_owned() };
    let told = || BTreeMap::from([(3, Told { generation: 2, tasks: 1, ..Told::default() })]);
    let cut = Cut { upstream: BTreeMap::from([("edge".to_owned(), told())]), ..Cut::default() };
    let edges = BTreeMap::from([("edge".to_owned(), EdgePlan { partitions: 16, shape: "s".to_owned() })]);
    let plan = PlanRecord { uid: "u".to_owned(), edges, cuts: vec![cut, Cut::default()], ..PlanRecord::default() };
    let body = Body::Epoch(Box::new(record()));
    let seal = Seal { nonce: "z".to_owned(), generation: 2, attempt: "a".to_owned(), record: Some(body.clone()) };
    let stored = Body::Stored { nonce: "n".to_owned(), object: ObjectRef::of("p", b"") };
    for entry in [
        Entry::Record(body.clone()),
        Entry::Record(Body::Plan(Box::new(plan))),
        Entry::Record(stored),
        Entry::Seal(seal),
        Entry::Start(start.clone()),
        Entry::Fence(start),
    ] {
        assert_eq!(Entry::decode(&entry.encode().unwrap()).unwrap(), entry);
    }
    assert_eq!(Body::decode(&body.encode().unwrap()).unwrap(), body);
}

#[test]
fn the_bytes_of_an_entry_are_frozen() {
    let start = Entry::Start(Start { attempt: "a".to_owned(), nonce: "s".to_owned() });
    let bytes = r#"{"magic":"tereza.epochs","version":1,"content":{"start":{"attempt":"a","nonce":"s"}}}"#;
    assert_eq!(start.encode().unwrap(), bytes);
    let bytes = String::from_utf8(Entry::Record(Body::Epoch(Box::new(record()))).encode().unwrap().to_vec()).unwrap();
    for part in [
        r#""content":{"record":{"epoch":{"uid":"u","task":3,"generation":2,"epoch":7,"nonce":"n7","prev_nonce":"n6","#,
        r#""positions":{"in":{"0":5,"11":9007199254740993}}"#,
        r#""state":[{"key_groups":[0,127],"content":{"inline":"AP8="}},{"key_groups":[5,9],"content":{"object":{"path":"p","size":5,"#,
        r#""pending":[{"table":"t","epoch":6,"files":{"inline":[{"path":"f","size":1,"rows":2,"token":"up"}]}}]"#,
        r#""finished":true,"final":true"#,
    ] {
        assert!(bytes.contains(part), "{part} is not in {bytes}");
    }
}

#[test]
fn plans_and_records_of_before_there_were_edges_are_read() {
    let plan = PlanRecord { uid: "u".to_owned(), cuts: vec![Cut::default()], ..PlanRecord::default() };
    let entry = Entry::Record(Body::Plan(Box::new(plan)));
    let bytes = String::from_utf8(entry.encode().unwrap().to_vec()).unwrap();
    assert!(!bytes.contains("edges") && !bytes.contains("upstream"), "{bytes}");
    assert_eq!(Entry::decode(bytes.as_bytes()).unwrap(), entry);
    let old = Entry::Record(Body::Epoch(Box::new(EpochRecord { upstream: Upstream::new(), ..record() })));
    let bytes = String::from_utf8(old.encode().unwrap().to_vec()).unwrap();
    assert!(bytes.contains(r#""upstream":{}"#), "{bytes}");
    assert_eq!(Entry::decode(bytes.as_bytes()).unwrap(), old);
}

#[test]
fn time_is_where_the_last_of_tables_and_edges_is() {
    let mark = |ms| Watermark { ms, idle: false };
    let of = |edge: Watermark| {
        let watermarks = BTreeMap::from([("in".to_owned(), BTreeMap::from([(0, mark(Some(50)))]))]);
        let told = Told { watermark: edge, ..Told::default() };
        let upstream = BTreeMap::from([("edge".to_owned(), BTreeMap::from([(0, told)]))]);
        EpochRecord { watermarks, upstream, ..EpochRecord::default() }.watermark_ms()
    };
    assert_eq!((of(mark(Some(40))), of(mark(Some(60))), of(mark(None))), (Some(40), Some(50), None));
    assert_eq!(of(Watermark { ms: None, idle: true }), Some(50));
}

#[test]
fn an_entry_that_is_too_large_is_refused() {
    let large = EpochRecord { garbage: vec!["x".repeat(ENTRY_BYTES_MAX)], ..record() };
    let error = Entry::Record(Body::Epoch(Box::new(large))).encode().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert!(error.message().ends_with("the bound is 262144"), "{error}");
}

#[test]
fn what_is_no_entry_is_refused() {
    let cases: [(&[u8], ErrorKind); 6] = [
        (b"\xff\x00", ErrorKind::Internal),
        (b"{}", ErrorKind::Internal),
        (br#"{"magic":"other","version":1,"content":{}}"#, ErrorKind::Internal),
        (br#"{"magic":"tereza.epochs","version":2,"content":{"later":{}}}"#, ErrorKind::Unsupported),
        (br#"{"magic":"tereza.epochs","version":0,"content":{}}"#, ErrorKind::Unsupported),
        (br#"{"magic":"tereza.epochs","version":1,"content":{"later":{}}}"#, ErrorKind::Internal),
    ];
    for (bytes, kind) in cases {
        assert_eq!(Entry::decode(bytes).unwrap_err().kind(), kind, "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_chain_is_checked_link_by_link() {
    let last = record();
    let next = EpochRecord { epoch: 8, nonce: "n8".to_owned(), prev_nonce: "n7".to_owned(), ..record() };
    next.check_follows(&last).unwrap();
    for (broken, what) in [
        (EpochRecord { uid: "v".to_owned(), ..next.clone() }, "job v follows job u"),
        (EpochRecord { task: 4, ..next.clone() }, "task 4 follows task 3"),
        (EpochRecord { generation: 3, ..next.clone() }, "generation 3 follows generation 2"),
        (EpochRecord { epoch: 9, ..next.clone() }, "epoch 9 follows epoch 7"),
        (
            EpochRecord { prev_nonce: "n6".to_owned(), ..next.clone() },
            "epoch 8 follows nonce n6, the record before has n7",
        ),
    ] {
        let error = broken.check_follows(&last).unwrap_err();
        assert!(error.message().ends_with(what), "{error}");
    }
    let plan = PlanRecord { uid: "u".to_owned(), generation: 1, nonce: "p1".to_owned(), ..PlanRecord::default() };
    let after = PlanRecord { generation: 2, prev_nonce: "p1".to_owned(), ..plan.clone() };
    after.check_follows(&plan).unwrap();
    for broken in [
        PlanRecord { uid: "v".to_owned(), ..after.clone() },
        PlanRecord { generation: 3, ..after.clone() },
        PlanRecord { prev_nonce: "p0".to_owned(), ..after },
    ] {
        assert_eq!(broken.check_follows(&plan).unwrap_err().kind(), ErrorKind::Internal);
    }
}

#[test]
fn an_object_is_compared_with_its_record() {
    let object = ObjectRef::of("p", b"abc");
    assert_eq!(object.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    object.check(b"abc").unwrap();
    assert!(object.check(b"abcd").unwrap_err().message().contains("has 4 bytes, its record says 3"));
    assert!(object.check(b"abd").unwrap_err().message().contains("the hash differs"));
}

#[test]
fn a_part_counts_for_key_groups_that_both_have() {
    let part = StatePart { key_groups: (10, 20), content: StateContent::Inline(Bytes::new()) };
    for (within, left) in [
        ((0, 9), None),
        ((21, 30), None),
        ((0, 255), Some((10, 20))),
        ((15, 30), Some((15, 20))),
        ((0, 10), Some((10, 10))),
    ] {
        assert_eq!(part.within(within).map(|part| part.key_groups), left, "{within:?}");
    }
}
