use std::time::Duration;

use datafusion::execution::SessionStateBuilder;
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::physical_plan::collect;
use datafusion::prelude::SessionContext;

use super::*;
use crate::test_session::{answer, config, plain_rules, plan, run, session, shown};

const TABLES: &str = "
create table t as select value as id, value % 1000 as k, nullif(value % 7, 3) as x, 'text ' || (value % 50) as s from range(20000);
create view sums as select k, sum(x) as total, max(s) as s from t where id % 3 < 2 group by k";

async fn sharing(setup: &str) -> SessionContext {
    let mut rules = plain_rules();
    rules.push(Arc::new(ShowShared));
    let state = session(config(), rules, setup).await.state();
    SessionContext::new_with_state(
        SessionStateBuilder::new_from_existing(state).with_query_planner(Arc::new(SharingPlanner)).build(),
    )
}

/// The plan of a statement with `places` of shared subplans, after its answer was found to be that of plain DataFusion.
async fn shared(sql: &str, places: usize) -> String {
    let sharing = sharing(TABLES).await;
    let plan = plan(&sharing, sql).await;
    let text = shown(&plan);
    assert_eq!(text.matches("SharedExec").count(), places, "{sql}\n{text}");
    let plain = session(config(), plain_rules(), TABLES).await;
    let expected = answer(&plain, sql).await;
    assert!(expected.lines().count() > 4, "{sql}");
    assert_eq!(run(&sharing, plan).await, expected, "{sql}\n{text}");
    text
}

#[tokio::test]
async fn a_view_that_is_named_twice_is_computed_once() {
    let sql = "select k, total from sums where total = (select max(total) from sums) order by k";
    let text = shared(sql, 2).await;
    assert_eq!(text.matches("SharedExec: #1, computed where it is shown").count(), 1, "{text}");
    // Partial and final sums of the view, once, and those of the greatest.
    assert_eq!(text.matches("AggregateExec").count(), 4, "{text}");
    assert_eq!(text.matches("DataSourceExec").count(), 1, "{text}");
}

#[tokio::test]
async fn common_table_expressions_are_shared_also_in_one_another() {
    // `b` three times, of which two are in the two `c`, which is shared itself.
    let text = shared(
        "with b as (select k % 100 as g, sum(total) as total from sums group by 1),
              c as (select g % 10 as h, count(*) as n, sum(total) as total from b group by 1)
         select l.h, l.n, l.total, r.n, r.total, m.g, m.total from c l join c r on l.h = r.h + 1 join b m on m.g = l.h
         order by 1, 6",
        4,
    )
    .await;
    assert!(text.contains("#1") && text.contains("#2") && !text.contains("#3"), "{text}");
    shared("select count(*), sum(total) from sums union all select count(*), sum(total) from sums", 2).await;
    // Columns that one place does not need are gone from its plan, so that it is another.
    shared("select (select max(total) from sums) m, (select min(s) from sums) n, k from sums order by k limit 3", 0)
        .await;
    shared(
        "select a.k, b.total from sums a full join sums b on a.k = b.k + 500 and a.total > 10 order by 1, 2 limit 20",
        2,
    )
    .await;
}

#[tokio::test]
async fn what_may_differ_is_not_shared() {
    for sql in [
        // Other conditions, other sums, other tables.
        "select * from (select k, sum(x) s from t where id < 9000 group by k) a
         join (select k, sum(x) s from t where id < 9001 group by k) b on a.k = b.k order by a.k limit 5",
        "select * from (select sum(value) s from range(5)) a, (select sum(value) s from range(7)) b",
        // The rows of the two are not the same by chance.
        "select count(*) from (select k + 0 * random() as r, sum(x) from t group by 1) a
         join (select k + 0 * random() as r, sum(x) from t group by 1) b on a.r = b.r",
        "with recursive w(k, n) as (select 7, cast(0 as bigint) union all
           select cast((w.k * 3) % 1000 as int), w.n + a.total + b.total from w join sums a on a.k = w.k join sums b on b.k = w.k where w.n < 9000)
         select * from w order by n",
        // What takes longer to keep than to do again.
        "select count(*) from t a join t b on a.id = b.id",
    ] {
        let sharing = sharing(TABLES).await;
        let text = shown(&plan(&sharing, sql).await);
        assert!(!text.contains("SharedExec"), "{sql}\n{text}");
    }
}

#[tokio::test]
async fn rows_without_room_go_to_disk() {
    let setup = "create table t as select value as k, 'text ' || value as s from range(200000)";
    let sql =
        "select count(*), sum(a.n + b.n), min(a.s), max(b.s) from (select k, s, count(*) as n from t group by k, s) a
               join (select k, s, count(*) as n from t group by k, s) b on a.k = b.k + 1";
    let expected = answer(&session(config(), plain_rules(), setup).await, sql).await;
    let runtime =
        RuntimeEnvBuilder::new().with_memory_pool(Arc::new(FairSpillPool::new(64 << 20))).build_arc().unwrap();
    let state = SessionStateBuilder::new_from_existing(sharing(setup).await.state()).with_runtime_env(runtime).build();
    let small = SessionContext::new_with_state(state);
    let plan = plan(&small, sql).await;
    assert_eq!(run(&small, Arc::clone(&plan)).await, expected);
    let mut spilled = 0;
    plan.apply(|node| {
        if node.is::<SharedExec>() {
            spilled += node.metrics().unwrap().spilled_rows().unwrap_or(0);
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .unwrap();
    assert!(spilled > 0 && spilled < 200_000, "{spilled} rows");
}

#[tokio::test]
async fn an_error_reaches_all_places_and_a_plan_runs_again() {
    let sharing = sharing(TABLES).await;
    let sql = "select a.k from (select k, sum(100 / (k - 40)) as n from t group by k) a
               join (select k, sum(100 / (k - 40)) as n from t group by k) b on a.n = b.n";
    let failing = plan(&sharing, sql).await;
    assert!(shown(&failing).contains("SharedExec"));
    let error = collect(failing, sharing.task_ctx()).await.unwrap_err();
    assert!(error.to_string().contains("Divide by zero"), "{error}");

    let plan = plan(&sharing, "select count(*) from sums a join sums b on a.total = b.total").await;
    let first = run(&sharing, Arc::clone(&plan)).await;
    let again = datafusion::physical_plan::execution_plan::reset_plan_states(plan).unwrap();
    assert_eq!(run(&sharing, again).await, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_statement_ends_what_it_shares() {
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    let wait = async |is_so: &dyn Fn(usize) -> bool| {
        let soon = async {
            while !is_so(tasks()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(30), soon).await.expect("in time");
    };
    let sharing =
        sharing("create view long as select value % 10 as k, count(*) as n from range(10000000000000) group by 1")
            .await;
    let plan = plan(&sharing, "select count(*) from long a join long b on a.k = b.k + 1").await;
    assert!(shown(&plan).contains("SharedExec: #1, computed where it is shown"));
    let running = tokio::spawn(collect(plan, sharing.task_ctx()));
    // Besides the statement's own task, those of the partitions of the shared subplan.
    wait(&|tasks| tasks >= 3).await;
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    wait(&|tasks| tasks == 0).await;
}
