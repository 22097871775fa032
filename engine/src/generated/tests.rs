use arrow::array::{RecordBatch, UInt64Array};
use arrow::compute::concat_batches;
use datafusion::common::stats::Precision;
use datafusion::prelude::{SessionConfig, SessionContext};

use super::*;

/// Splits that no table's rows divide evenly into.
const PARTS: usize = 3;

#[expect(clippy::disallowed_methods, reason = "a session of this test's own, in the engine")]
fn context() -> SessionContext {
    let config = SessionConfig::new().with_target_partitions(PARTS).with_batch_size(1000);
    let context = SessionContext::new_with_config(config);
    context.register_catalog("tpch", tpch());
    context.register_catalog("tpcds", tpcds());
    context
}

fn rows(source: &dyn Source, parts: usize) -> RecordBatch {
    let mut batches = Vec::new();
    for part in 0..parts {
        for batch in source.part(part, parts, 1000).unwrap() {
            batches.push(batch.unwrap());
        }
    }
    let schema = batches[0].schema();
    concat_batches(&schema, &batches).unwrap()
}

fn sources(benchmark: Benchmark) -> impl Iterator<Item = Arc<dyn Source>> {
    benchmark.table_names().into_iter().map(move |name| benchmark.table(&name, TINY).unwrap())
}

#[test]
fn scales_are_read_from_names() {
    assert_eq!(scale_of("tiny"), Some(0.01));
    assert_eq!(scale_of("sf1"), Some(1.0));
    assert_eq!(scale_of("sf0.1"), Some(0.1));
    assert_eq!(scale_of("sf1000"), Some(1000.0));
    for wrong in
        ["", "sf", "sf.", "sf.1", "sf-1", "sf+1", "sf1e3", "sfinf", "sf0", "sf1.2.3", "sf0.0001", "sf100001", "SF1"]
    {
        assert_eq!(scale_of(wrong), None, "{wrong}");
    }
}

#[test]
fn parts_one_after_the_other_are_the_table() {
    for source in sources(Benchmark::TpcH).chain(sources(Benchmark::TpcDs)) {
        if ["tpch.sf0.01.nation", "tpch.sf0.01.region"].contains(&source.identity().to_string().as_str()) {
            assert_eq!(source.parts(PARTS), 1);
            continue;
        }
        assert_eq!(rows(source.as_ref(), 1), rows(source.as_ref(), PARTS), "{}", source.identity());
    }
}

#[test]
fn exact_row_counts_are_exact_and_estimates_are_near() {
    for source in sources(Benchmark::TpcH).chain(sources(Benchmark::TpcDs)) {
        let generated = rows(source.as_ref(), 1).num_rows();
        match source.rows() {
            Precision::Exact(known) => assert_eq!(known, generated, "{}", source.identity()),
            Precision::Inexact(estimate) => {
                let ratio = estimate as f64 / generated as f64;
                assert!((0.8..1.25).contains(&ratio), "{}: {estimate} for {generated}", source.identity());
            }
            Precision::Absent => panic!("{} has no row count", source.identity()),
        }
    }
}

#[test]
fn batches_fit_the_declared_schema() {
    for source in sources(Benchmark::TpcH).chain(sources(Benchmark::TpcDs)) {
        let declared = source.schema();
        let first = source.part(0, 1, 1000).unwrap().next().unwrap().unwrap();
        assert_eq!(first.num_columns(), declared.fields().len());
        RecordBatch::try_new(declared, first.columns().to_vec()).unwrap();
    }
}

#[tokio::test]
async fn a_scan_is_split_projected_and_limited() {
    let context = context();
    let plan = |sql: &'static str| {
        let context = context.clone();
        async move { context.sql(sql).await.unwrap().create_physical_plan().await.unwrap() }
    };
    let text = |plan: &Arc<dyn datafusion::physical_plan::ExecutionPlan>| {
        datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string()
    };

    let scan = plan("select o_orderkey from tpch.sf1.orders").await;
    assert_eq!(scan.properties().output_partitioning().partition_count(), PARTS);
    assert!(text(&scan).contains("columns=[o_orderkey]"), "{}", text(&scan));

    let limited = plan("select o_orderkey from tpch.sf1.orders limit 5").await;
    assert!(text(&limited).contains("parts=1"), "{}", text(&limited));

    let batches =
        context.sql("select l_orderkey from tpch.sf10.lineitem limit 1500").await.unwrap().collect().await.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 1500);
}

#[tokio::test]
async fn every_row_is_generated_once_by_a_parallel_scan() {
    let context = context();
    let sql = "select count(distinct o_orderkey), count(*) from (select * from tpch.\"sf0.1\".orders)";
    let batches = context.sql(sql).await.unwrap().collect().await.unwrap();
    for column in batches[0].columns() {
        let counts = arrow::compute::cast(column, &arrow::datatypes::DataType::UInt64).unwrap();
        assert_eq!(counts.as_any().downcast_ref::<UInt64Array>().unwrap().value(0), 150_000);
    }
}

#[tokio::test]
async fn unknown_schemas_and_tables_do_not_exist() {
    assert!(tpch().schema("sfx").is_none());
    let schema = tpcds().schema("sf1").unwrap();
    assert!(schema.table("lineitem").await.unwrap().is_none());
    assert!(!schema.table_exist("lineitem"));
    assert_eq!(schema.table_names().len(), 24);
}
