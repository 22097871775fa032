use arrow::array::{Int64Array, StringArray};
use tereza_engine::flink::BoundedPlan;
use tereza_engine::query::{SessionDefaults, SessionId, Statement};
use tereza_engine::{Engine, LocalQueryService, QueryService};
use tereza_runtime::clock::Clock;
use tereza_runtime::{ErrorKind, Settings};

use super::*;
use crate::host::System;
use crate::operator::lookup_join::LookupTable;

struct World {
    service: Arc<LocalQueryService>,
    session: SessionId,
    _folder: tempfile::TempDir,
}

impl World {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::open(&Settings::in_folder(folder.path()).unwrap()).await.unwrap();
        let service = LocalQueryService::new(engine);
        let session = service.open_session("ada", SessionDefaults::default()).await.unwrap();
        let world = Self { service, session, _folder: folder };
        world.run("CREATE TABLE memory.public.side AS SELECT 1 AS k, 'one' AS v").await;
        world
    }

    async fn run(&self, sql: &str) {
        self.service.submit(&self.session, Statement::new(sql)).await.unwrap().collect().await.unwrap();
    }

    async fn side(&self) -> Side {
        let query = self.service.plan_stream(&self.session, "SELECT k, v FROM memory.public.side").await.unwrap();
        let rows = BoundedPlan::new(query.plan, &query.batch);
        let table = SharedTable::new(rows.schema());
        Side { name: "side".to_owned(), rows, key: vec![0], ttl: Duration::from_millis(20), table }
    }
}

fn host() -> Arc<dyn Host> {
    Arc::new(System(Clock::system()))
}

fn found(table: &SharedTable, key: i64) -> Vec<String> {
    let rows = table.lookup(&[Arc::new(Int64Array::from(vec![key]))]).unwrap().rows;
    let texts = arrow::compute::cast(rows.column(1), &DataType::Utf8).unwrap();
    let texts: &StringArray = texts.as_string();
    texts.iter().map(|text| text.unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_table_is_read_again_when_its_time_is_over() {
    let world = World::open().await;
    let (side, planned_again) = (world.side().await, world.side().await);
    let tables = [side.table.clone(), planned_again.table.clone()];
    assert_eq!(tables[0].lookup(&[]).unwrap_err().kind(), ErrorKind::Internal);
    let mut sides = Sides::read(vec![side], 1 << 20, host()).await.unwrap();
    sides.share(&[planned_again]);
    for table in &tables {
        assert_eq!((found(table, 1), found(table, 2)), (vec!["one".to_owned()], vec![]));
    }
    world.run("INSERT INTO memory.public.side VALUES (2, 'two')").await;
    assert_eq!(found(&tables[0], 2), Vec::<String>::new(), "what was read counts until its time is over");
    let refreshing = tokio::spawn(sides.refresh());
    let both_know = async {
        while tables.iter().any(|table| found(table, 2) != ["two"]) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), both_know).await.unwrap();
    // One that grows over the bound ends the attempt: nobody is to meet its old rows for ever.
    world.run("INSERT INTO memory.public.side SELECT 3, repeat('x', 1000) FROM generate_series(1, 2000)").await;
    let error = tokio::time::timeout(Duration::from_secs(30), refreshing).await.unwrap().unwrap();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted, "{error}");
}

#[tokio::test]
async fn a_table_over_the_bound_is_refused_by_name() {
    let world = World::open().await;
    let error = Sides::read(vec![world.side().await], 20, host()).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
    assert!(
        error.to_string().contains("table side, which is looked up") && error.to_string().contains("20 bytes"),
        "{error}"
    );
}
