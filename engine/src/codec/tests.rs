//! Plans there and back. The tests of tables send each of their plans on this way too.

use arrow::util::pretty::pretty_format_batches;
use datafusion::physical_plan::{collect, displayable};
use datafusion::prelude::SessionContext;
use datafusion_proto::bytes::{
    physical_plan_from_bytes_with_extension_codec, physical_plan_to_bytes_with_extension_codec,
};
use datafusion_proto::physical_plan::DefaultPhysicalExtensionCodec;
use tereza_catalog::store::sqlite::SqliteStore;
use tereza_runtime::clock::Clock;
use tereza_runtime::settings::Settings;

use super::*;
use crate::cluster::OnCluster;
use crate::engine::Engine;
use crate::query::{SessionDefaults, SessionId};
use crate::session::Session;

/// The plan as another process reads it.
pub(crate) fn round_trip(plan: Arc<dyn ExecutionPlan>, context: &TaskContext) -> Arc<dyn ExecutionPlan> {
    let codec = PlanCodec::around(Arc::new(DefaultPhysicalExtensionCodec {}), None);
    let bytes = physical_plan_to_bytes_with_extension_codec(plan, &codec).unwrap();
    physical_plan_from_bytes_with_extension_codec(&bytes, context, &codec).unwrap()
}

/// What a query gives, here and after its plan has travelled.
async fn answers(context: &SessionContext, sql: &str) -> [String; 2] {
    let plan = context.sql(sql).await.unwrap().create_physical_plan().await.unwrap();
    let travelled = round_trip(Arc::clone(&plan), &context.task_ctx());
    let shown = |plan: &Arc<dyn ExecutionPlan>| displayable(plan.as_ref()).indent(false).to_string();
    assert_eq!(shown(&plan), shown(&travelled));
    let mut answers = [String::new(), String::new()];
    for (plan, answer) in [plan, travelled].into_iter().zip(&mut answers) {
        *answer = pretty_format_batches(&collect(plan, context.task_ctx()).await.unwrap()).unwrap().to_string();
    }
    answers
}

/// A session of an engine of its own that plans for executors; names of files are looked up for as long as it lives.
async fn session() -> (SessionContext, Arc<Session>, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut settings = Settings::default();
    settings.engine.spill_dir = dir.path().join("spill");
    settings.warehouse.url = dir.path().to_str().unwrap().to_owned();
    let catalog = SqliteStore::open_in_memory(Clock::fixed(0)).await.unwrap();
    let engine = Engine::over(&settings, Arc::new(catalog), Clock::fixed(0)).await.unwrap();
    let session = Session::open(engine, SessionId("s".into()), "ada", SessionDefaults::default()).await.unwrap();
    let config = session.state().config().clone().with_target_partitions(2).with_extension(Arc::new(OnCluster));
    let config = config.set_bool("datafusion.optimizer.enable_dynamic_filter_pushdown", false);
    let state = datafusion::execution::SessionStateBuilder::new_from_existing(session.state())
        .with_config(config)
        .with_physical_optimizer_rules(crate::test_session::plain_rules())
        .build();
    (SessionContext::new_with_state(state), session, dir)
}

#[tokio::test]
async fn generated_tables_travel() {
    let (context, _session, _dir) = session().await;
    for sql in [
        "SELECT n_name, count(*) FROM tpch.tiny.nation JOIN tpch.tiny.region ON n_regionkey = r_regionkey GROUP BY 1 ORDER BY 1",
        "SELECT sum(o_totalprice), count(o_comment) FROM tpch.tiny.orders",
        "SELECT count(*), min(d_date) FROM tpcds.tiny.date_dim WHERE d_year = 2000",
        "SELECT * FROM tpch.tiny.part ORDER BY p_partkey LIMIT 3",
    ] {
        let [here, there] = answers(&context, sql).await;
        assert_eq!(here, there, "{sql}");
    }
}

#[tokio::test]
async fn compressed_files_travel() {
    let (context, _session, dir) = session().await;
    let path = dir.path().join("t.csv.gz");
    let copy = format!(
        "COPY (SELECT column1 AS a, column2 AS b FROM (VALUES (1, 'one'), (2, 'two'))) TO '{}' STORED AS CSV
         OPTIONS ('format.compression' 'gzip', 'format.has_header' 'true')",
        path.display()
    );
    context.sql(&copy).await.unwrap().collect().await.unwrap();
    let [here, there] = answers(&context, &format!("SELECT a, b FROM '{}' ORDER BY a", path.display())).await;
    assert!(here.contains("| 2 | two |"), "{here}");
    assert_eq!(here, there);
}
