use std::sync::Arc;

use bytes::Bytes;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use tereza_runtime::ErrorKind;
use tereza_runtime::clock::Clock;

use super::*;
use crate::host::System;
use crate::record::{Cut, StatePart, Watermark};

const UNSET: &[(&str, &str)] = &[];

fn objects() -> (Arc<InMemory>, Objects) {
    let store = Arc::new(InMemory::new());
    (Arc::clone(&store), Objects::new(store as Arc<dyn ObjectStore>, Arc::new(System(Clock::system()))))
}

fn origin(more: &[(&str, &str)]) -> Origin {
    let given = [&[(PATH_KEYS[0], "savepoints/s")], more].concat();
    let settings = given.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    Origin::of(&settings).unwrap().unwrap()
}

/// A savepoint of the topic `a` at offset 7, with state.
async fn savepoint(objects: &Objects) {
    let state = objects.put("root/savepoints/s/0/state-0", Bytes::from_static(b"state")).await.unwrap();
    let record = EpochRecord {
        uid: "old".into(),
        epoch: 5,
        positions: [("a".to_owned(), [(0, 7)].into())].into(),
        watermarks: [("a".to_owned(), [(0, Watermark { ms: Some(9), idle: false })].into())].into(),
        state: vec![StatePart { key_groups: (0, 255), content: StateContent::Object(state) }],
        ..EpochRecord::default()
    };
    let bytes = Body::Epoch(Box::new(record)).encode().unwrap();
    let record = objects.put("root/savepoints/s/0/record.json", bytes).await.unwrap();
    let topics = [("a".to_owned(), "id-a".to_owned())].into();
    let manifest = Manifest { uid: "old".into(), topics, tasks: vec![record], ..Manifest::default() };
    manifest.put(objects, "root", "s").await.unwrap();
}

fn plan(topic: &str, id: &str) -> PlanRecord {
    let positions = [(topic.to_owned(), [(0, 0), (1, 0)].into())].into();
    let cut = Cut { positions, key_groups: (0, 255), ..Cut::default() };
    PlanRecord { cuts: vec![cut], topics: [(topic.to_owned(), id.to_owned())].into(), ..PlanRecord::default() }
}

#[tokio::test]
async fn a_job_goes_on_where_the_savepoint_was() {
    let (store, objects) = objects();
    savepoint(&objects).await;
    let begun = origin(UNSET).begin(plan("a", "id-a"), &objects, "root", "new").await.unwrap();
    let cut = &begun.cuts[0];
    assert_eq!((cut.epoch, &cut.positions["a"]), (5, &[(0, 7)].into()));
    assert_eq!(cut.watermarks["a"][&0].ms, Some(9));
    let StateContent::Object(object) = &cut.state[0].content else { panic!("no object") };
    assert!(object.path.starts_with("root/new/state/"), "{}", object.path);
    // What is dropped is no longer needed.
    store.delete(&Path::from("root/savepoints/s/0/state-0")).await.unwrap();
    assert_eq!(objects.get(object).await.unwrap().unwrap(), "state");
}

#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let (store, objects) = objects();
    let refused = async |plan: PlanRecord, kind: ErrorKind, part: &str| {
        let error = origin(UNSET).begin(plan, &objects, "root", "new").await.unwrap_err();
        assert!(error.kind() == kind && error.message().contains(part), "{error}");
    };
    refused(plan("a", "id-a"), ErrorKind::NotFound, "no savepoint 'savepoints/s'").await;
    savepoint(&objects).await;
    refused(plan("a", "id-b"), ErrorKind::InvalidInput, "made again").await;
    refused(plan("b", "id-b"), ErrorKind::InvalidInput, "which the job does not read").await;
    let ignoring = origin(&[(IGNORE_KEYS[0], "true")]);
    let begun = ignoring.begin(plan("b", "id-b"), &objects, "root", "new").await.unwrap();
    assert_eq!(begun.cuts[0].positions["b"][&0], 0);
    assert!(begun.cuts[0].watermarks.is_empty());

    let file = Path::from("root/savepoints/s/savepoint.json");
    let whole = store.get(&file).await.unwrap().bytes().await.unwrap();
    let changed = String::from_utf8(whole.to_vec()).unwrap().replace("id-a", "id-c");
    store.put(&file, PutPayload::from(changed)).await.unwrap();
    refused(plan("a", "id-c"), ErrorKind::InvalidInput, "its hash differs").await;
    store.put(&file, PutPayload::from_bytes(whole)).await.unwrap();
    store.put(&Path::from("root/savepoints/s/0/record.json"), PutPayload::from_static(b"{}")).await.unwrap();
    refused(plan("a", "id-a"), ErrorKind::InvalidInput, "damaged").await;
}

#[test]
fn paths_are_those_of_savepoints() {
    for wrong in ["", "savepoints", "savepoints/", "savepoints/../a", "savepoints/a/b", "s3://a/savepoints/b"] {
        let settings = [(PATH_KEYS[1].to_owned(), wrong.to_owned())].into();
        assert_eq!(Origin::of(&settings).unwrap_err().kind(), ErrorKind::InvalidInput, "{wrong}");
    }
    assert_eq!(Origin::of(&BTreeMap::new()).unwrap(), None);
    let wrong = [(PATH_KEYS[0], "savepoints/a"), (IGNORE_KEYS[1], "perhaps")];
    let wrong = wrong.into_iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    assert!(Origin::of(&wrong).unwrap_err().message().contains("perhaps"));
}
