use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use tereza_engine::query::{SessionDefaults, SessionId, Statement};
use tereza_engine::{Engine, LocalQueryService, QueryService};
use tereza_runtime::clock::Clock;
use tereza_runtime::{ErrorKind, Settings};

use super::*;
use crate::host::System;

struct World {
    service: Arc<LocalQueryService>,
    session: SessionId,
    store: Arc<InMemory>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::open(&Settings::in_folder(folder.path()).unwrap()).await.unwrap();
        let service = LocalQueryService::new(engine);
        let session = service.open_session("ada", SessionDefaults::default()).await.unwrap();
        Self { service, session, store: Arc::default(), _folder: folder }
    }

    async fn run(&self, sql: &str) {
        self.service.submit(&self.session, Statement::new(sql)).await.unwrap().collect().await.unwrap();
    }

    async fn once(&self, sql: &str) -> Once {
        let query = self.service.plan_stream(&self.session, sql).await.unwrap();
        let objects = Objects::new(Arc::clone(&self.store) as _, Arc::new(System(Clock::system())));
        Once::new(objects, "root/job/rows/query-0".to_owned(), BoundedPlan::new(query.plan, &query.batch))
    }

    async fn objects(&self) -> usize {
        self.store.list(None).try_collect::<Vec<_>>().await.unwrap().len()
    }
}

/// The numbers in the first column, and the positions after each batch.
async fn read(once: &mut Once) -> (Vec<i64>, Vec<i64>) {
    let (mut numbers, mut positions) = (Vec::new(), Vec::new());
    loop {
        match once.poll().await.unwrap() {
            Read::Rows { records, position } => {
                numbers.extend(records.column(0).as_primitive::<Int64Type>().values());
                positions.push(position);
            }
            Read::End { position } => {
                assert_eq!(position, positions.last().copied().unwrap_or(position));
                return (numbers, positions);
            }
            Read::Idle => panic!("kept rows are there"),
        }
    }
}

#[tokio::test]
async fn all_attempts_read_the_rows_of_the_first_whatever_becomes_of_the_table() {
    let world = World::open().await;
    let rows = 2 * BATCH_ROWS_MAX as i64 + 5;
    world.run(&format!("CREATE TABLE memory.public.t AS SELECT value AS n FROM generate_series(1, {rows})")).await;
    let sql = "SELECT n FROM memory.public.t";
    let mut first = world.once(sql).await;
    assert_eq!(first.poll().await.unwrap_err().kind(), ErrorKind::Internal, "nobody has kept rows yet");
    first.keep().await.unwrap();
    let (numbers, positions) = read(&mut first).await;
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    assert!(sorted.into_iter().eq(1..=rows));
    assert!(positions.iter().copied().eq(1..=positions.len() as i64) && positions.len() >= 3, "{positions:?}");

    let objects = world.objects().await;
    world.run("INSERT INTO memory.public.t VALUES (-1)").await;
    let mut second = world.once(sql).await;
    second.keep().await.unwrap();
    assert_eq!((read(&mut second).await, world.objects().await), ((numbers.clone(), positions), objects));
    // One that goes on behind the first object has the rest, in the same order.
    let mut third = world.once(sql).await;
    third.begin(1);
    let (rest, _) = read(&mut third).await;
    assert!(rest.len() < numbers.len() && numbers.ends_with(&rest));
}

#[tokio::test]
async fn two_that_keep_rows_at_once_agree() {
    let world = World::open().await;
    let (mut one, mut other) = (world.once("SELECT 1 AS n").await, world.once("SELECT 2 AS n").await);
    let (kept, also) = tokio::join!(one.keep(), other.keep());
    kept.unwrap();
    also.unwrap();
    assert_eq!(read(&mut one).await, read(&mut other).await);
}

#[tokio::test]
async fn rows_of_another_query_are_refused() {
    let world = World::open().await;
    let mut nothing = world.once("SELECT 1 AS n WHERE false").await;
    nothing.keep().await.unwrap();
    assert_eq!(read(&mut nothing).await, (vec![], vec![]));
    let error = world.once("SELECT 'a' AS n").await.keep().await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput, "{error}");
}
