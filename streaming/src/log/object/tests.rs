use std::fmt;
use std::sync::Arc;

use futures::TryStreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions, PutResult,
};
use tereza_runtime::ErrorKind;
use tereza_runtime::clock::Clock;

use super::*;
use crate::host::System;
use crate::record::EpochRecord;

fn log(store: Arc<dyn ObjectStore>) -> ObjectLog {
    ObjectLog::new(Objects::new(store, Arc::new(System(Clock::fixed(0)))), "logs")
}

fn record(epoch: u64) -> Body {
    Body::Epoch(Box::new(EpochRecord { epoch, nonce: format!("n{epoch}"), ..EpochRecord::default() }))
}

fn seal() -> Seal {
    Seal { nonce: "seal".to_owned(), generation: 1, attempt: "a".to_owned(), record: Some(record(1)) }
}

async fn names(log: &ObjectLog) -> Vec<String> {
    let objects: Vec<ObjectMeta> = log.objects.store.list(None).try_collect().await.unwrap();
    objects.into_iter().map(|object| object.location.to_string().replace("0000000000000000000", "")).collect()
}

#[tokio::test]
async fn a_log_is_what_was_appended_to_it() {
    let log = log(Arc::new(InMemory::new()));
    let name = LogName::task("u", 0);
    assert_eq!(log.peek(&name).await.unwrap(), Last::Nothing);
    let opened = log.open(&name, "a").await.unwrap();
    assert_eq!(opened.last, Last::Nothing);
    let writer = opened.writer.append(record(1)).await.unwrap();
    assert_eq!(log.peek(&name).await.unwrap(), Last::Record(record(1)));
    let writer = writer.confirm().await.unwrap();
    writer.append(record(2)).await.unwrap();
    let opened = log.open(&name, "b").await.unwrap();
    assert_eq!(opened.last, Last::Record(record(2)));
    opened.writer.seal(seal()).await.unwrap();
    assert_eq!(log.peek(&name).await.unwrap(), Last::Sealed(seal()));
    // An opener that goes away leaves the seal as it was.
    for attempt in ["c", "d"] {
        assert_eq!(log.open(&name, attempt).await.unwrap().last, Last::Sealed(seal()));
    }
    assert_eq!(log.open(&LogName::task("u", 1), "e").await.unwrap().last, Last::Nothing);
}

#[tokio::test]
async fn a_later_opener_ends_the_writer() {
    let log = log(Arc::new(InMemory::new()));
    let name = LogName::control("u");
    let first = log.open(&name, "a").await.unwrap().writer.append(record(1)).await.unwrap();
    let second = log.open(&name, "b").await.unwrap();
    assert_eq!(second.last, Last::Record(record(1)));
    assert!(matches!(first.append(record(2)).await, Err(Ended::Fenced)));
    let second = second.writer.append(record(3)).await.unwrap();
    let third = log.open(&name, "c").await.unwrap();
    assert!(matches!(second.confirm().await, Err(Ended::Fenced)));
    assert_eq!(third.last, Last::Record(record(3)));
    // One that has written nothing is fenced too.
    let fourth = log.open(&name, "d").await.unwrap();
    assert!(matches!(third.writer.seal(seal()).await, Err(Ended::Fenced)));
    assert_eq!(fourth.last, Last::Record(record(3)));
}

#[tokio::test]
async fn old_records_are_deleted_with_their_chains() {
    let mut log = log(Arc::new(InMemory::new()));
    log.chain_slots_max = 2;
    let name = LogName::task("u", 0);
    let mut writer = log.open(&name, "a").await.unwrap().writer;
    for epoch in 1..=5 {
        writer = writer.append(record(epoch)).await.unwrap();
        assert_eq!(log.peek(&name).await.unwrap(), Last::Record(record(epoch)));
    }
    // Slot 0 and the FENCE of each chain stay, and of records only the chain that is written.
    assert_eq!(
        names(&log).await,
        ["logs/u/0/1/0", "logs/u/0/1/3", "logs/u/0/2/0", "logs/u/0/2/3", "logs/u/0/3/0", "logs/u/0/3/1"]
    );
    let opened = log.open(&name, "b").await.unwrap();
    assert_eq!(opened.last, Last::Record(record(5)));
    assert!(matches!(writer.append(record(6)).await, Err(Ended::Fenced)));
}

#[tokio::test]
async fn outputs_are_refused() {
    let log = log(Arc::new(InMemory::new()));
    let writer = log.open(&LogName::task("u", 0), "a").await.unwrap().writer;
    let writer = writer.send(Vec::new()).await.unwrap();
    let output = Output {
        topic: "out".to_owned(),
        partition: None,
        key: None,
        value: None,
        headers: Vec::new(),
        timestamp: None,
    };
    let Err(Ended::Failed(error)) = writer.send(vec![output]).await else { panic!("it was taken") };
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("the topic out"), "{error}");
}

#[tokio::test]
async fn a_store_that_replaces_objects_is_refused() {
    let log = log(Arc::new(Replacing(InMemory::new())));
    let Err(Ended::Failed(error)) = log.open(&LogName::task("u", 0), "a").await else { panic!("it was opened") };
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.message().contains("replaces objects"), "{error}");
}

#[tokio::test]
async fn a_record_that_is_too_large_is_no_doubt() {
    let log = log(Arc::new(InMemory::new()));
    let writer = log.open(&LogName::task("u", 0), "a").await.unwrap().writer;
    let large = EpochRecord { fingerprint: "x".repeat(crate::record::ENTRY_BYTES_MAX), ..EpochRecord::default() };
    let Err(Ended::Failed(error)) = writer.append(Body::Epoch(Box::new(large))).await else { panic!("it was taken") };
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
}

/// A store as there are some: it does not know puts that only make new objects.
#[derive(Debug)]
struct Replacing(InMemory);

impl fmt::Display for Replacing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("old store")
    }
}

#[async_trait]
impl ObjectStore for Replacing {
    async fn put_opts(&self, location: &Path, payload: PutPayload, _: PutOptions) -> object_store::Result<PutResult> {
        self.0.put_opts(location, payload, PutOptions::default()).await
    }

    async fn put_multipart_opts(
        &self,
        location: &Path,
        options: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.0.put_multipart_opts(location, options).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> object_store::Result<GetResult> {
        self.0.get_opts(location, options).await
    }

    fn delete_stream(
        &self,
        locations: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.0.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.0.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        self.0.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> object_store::Result<()> {
        self.0.copy_opts(from, to, options).await
    }
}
