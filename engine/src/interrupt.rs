//! Joins that end when their statement is cancelled.
//!
//! A stream ends when it is dropped, which waits until it is done with what it does: a join may pair the rows of one batch
//! for minutes, and ask for no other meanwhile. But it looks at some thousand pairs at a time. Those that its filter lets
//! pass leave it as a batch, after which it can be dropped; and the filter itself fails once the statement is cancelled.
//! Semi and anti joins, which keep what they pair to themselves, get a filter that lets all pass.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{FieldRef, Schema};
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, JoinType, Result};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::lit;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder, PiecewiseMergeJoinExec,
    SortMergeJoinExec,
};
use tokio_util::sync::CancellationToken;

use crate::shared_plan::{Shared, SharedExec};

/// The plan with joins that end soon when `token` is cancelled and their streams are dropped.
pub(crate) fn interruptible_plan(
    plan: Arc<dyn ExecutionPlan>,
    token: &CancellationToken,
) -> Result<Arc<dyn ExecutionPlan>> {
    Interruption { token, shared: HashMap::new() }.plan(plan)
}

struct Interruption<'a> {
    token: &'a CancellationToken,
    /// Shared subplans by the address of what they were: each stays one, in all of its places.
    shared: HashMap<*const Shared, Arc<Shared>>,
}

impl Interruption<'_> {
    fn plan(&mut self, plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
        let down = |node: Arc<dyn ExecutionPlan>| {
            let further = if node.is::<SharedExec>() { TreeNodeRecursion::Jump } else { TreeNodeRecursion::Continue };
            Ok(Transformed::new(node, false, further))
        };
        let up = |node: Arc<dyn ExecutionPlan>| {
            if let Some(place) = node.downcast_ref::<SharedExec>() {
                let shared = self.shared(place.shared())?;
                return Ok(Transformed::yes(Arc::new(place.with_shared(shared)) as Arc<dyn ExecutionPlan>));
            }
            match interruptible(&node, self.token)? {
                Some(join) => Ok(Transformed::yes(Arc::new(CooperativeExec::new(join)) as Arc<dyn ExecutionPlan>)),
                None => Ok(Transformed::no(node)),
            }
        };
        Ok(plan.transform_down_up(down, up)?.data)
    }

    fn shared(&mut self, shared: &Arc<Shared>) -> Result<Arc<Shared>> {
        let key = Arc::as_ptr(shared);
        if let Some(known) = self.shared.get(&key) {
            return Ok(Arc::clone(known));
        }
        let interruptible = Arc::new(Shared::new(self.plan(Arc::clone(shared.plan()))?));
        self.shared.insert(key, Arc::clone(&interruptible));
        Ok(interruptible)
    }
}

/// A join whose filter fails once `token` is cancelled; nothing for another node.
pub fn interruptible(
    node: &Arc<dyn ExecutionPlan>,
    token: &CancellationToken,
) -> Result<Option<Arc<dyn ExecutionPlan>>> {
    let guarded = |filter: Option<&JoinFilter>| filter.map(|filter| guarded(filter, token));
    if let Some(join) = node.downcast_ref::<HashJoinExec>() {
        let filter = match join.filter() {
            None if keeps_pairs(*join.join_type()) => {
                Some(JoinFilter::new(lit(true), Vec::new(), Arc::new(Schema::empty())))
            }
            filter => filter.cloned(),
        };
        return join.builder().with_filter(guarded(filter.as_ref())).build_exec().map(Some);
    }
    if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
        let join = NestedLoopJoinExecBuilder::from(join).with_filter(guarded(join.filter())).build()?;
        return Ok(Some(Arc::new(join)));
    }
    if let Some(join) = node.downcast_ref::<SortMergeJoinExec>() {
        let (left, right) = (Arc::clone(join.left()), Arc::clone(join.right()));
        let (on, filter, options) = (join.on().to_vec(), guarded(join.filter().as_ref()), join.sort_options().to_vec());
        let null_equality = join.null_equality();
        let join = SortMergeJoinExec::try_new(left, right, on, filter, join.join_type(), options, null_equality)?;
        return Ok(Some(Arc::new(join)));
    }
    let is_join = node.is::<CrossJoinExec>() || node.is::<PiecewiseMergeJoinExec>();
    Ok(is_join.then(|| Arc::clone(node)))
}

/// Whether pairs do not leave the join as they are found.
fn keeps_pairs(join_type: JoinType) -> bool {
    !matches!(join_type, JoinType::Inner | JoinType::Left | JoinType::Right | JoinType::Full)
}

fn guarded(filter: &JoinFilter, token: &CancellationToken) -> JoinFilter {
    let inner = Arc::clone(filter.expression());
    let guard = Arc::new(Guard { inner, token: token.clone() });
    JoinFilter::new(guard, filter.column_indices().to_vec(), Arc::clone(filter.schema()))
}

/// An expression that fails once its statement is cancelled.
#[derive(Debug)]
struct Guard {
    inner: Arc<dyn PhysicalExpr>,
    token: CancellationToken,
}

impl PartialEq for Guard {
    fn eq(&self, other: &Self) -> bool {
        self.inner.eq(&other.inner)
    }
}

impl Eq for Guard {}

impl Hash for Guard {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl PhysicalExpr for Guard {
    fn return_field(&self, schema: &Schema) -> Result<FieldRef> {
        self.inner.return_field(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue> {
        if self.token.is_cancelled() {
            return Err(DataFusionError::Execution("the statement was cancelled".into()));
        }
        self.inner.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.inner]
    }

    fn with_new_children(self: Arc<Self>, mut children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        Ok(Arc::new(Self { inner: children.swap_remove(0), token: self.token.clone() }))
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt_sql(f)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tereza_runtime::{Settings, clock, memory};
    use tokio::runtime::Builder;

    use crate::query::{QueryService, SessionDefaults, Statement};
    use crate::{Engine, LocalQueryService};

    const SIDES: &str = "WITH a AS (SELECT x FROM generate_series(1, 300000) AS s(x)), \
        b AS (SELECT y FROM generate_series(1, 300000) AS s(y))";

    /// Each has more pairs than can be made in minutes.
    const STATEMENTS: [&str; 7] = [
        "SELECT count(*) FROM a JOIN b ON x % 2 = y % 2",
        "SELECT count(*) FROM a JOIN b ON x % 2 = y % 2 AND x + y < 0",
        "SELECT count(*) FROM a JOIN b ON x + y < 0",
        "SELECT count(*) FROM a WHERE x % 2 IN (SELECT y % 2 FROM b)",
        "SELECT count(*) FROM a WHERE x % 2 NOT IN (SELECT y % 2 FROM b)",
        "SELECT count(*) FROM a WHERE NOT EXISTS (SELECT 1 FROM b WHERE x % 2 = y % 2)",
        ", j AS (SELECT x, count(*) AS n FROM a JOIN b ON x + y < 0 GROUP BY x) \
         SELECT count(*) FROM j JOIN (SELECT max(n) AS n FROM j) AS m ON j.n = m.n",
    ];

    #[test]
    fn a_join_of_a_cancelled_statement_lets_its_threads_go() {
        for sql in STATEMENTS {
            let folder = tempfile::tempdir().unwrap();
            let settings = Settings::in_folder(folder.path()).unwrap();
            let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(async {
                let service = LocalQueryService::new(Engine::open(&settings).await.unwrap());
                let session = service.open_session("ada", SessionDefaults::default()).await.unwrap();
                let sql = format!("{SIDES} {sql}");
                let mut query = service.submit(&session, Statement::new(&sql)).await.unwrap();
                let cancellation = query.cancellation();
                let before = memory::processor_time();
                let reading = tokio::spawn(async move { query.next().await });
                // Until it is in the middle of the join.
                while memory::processor_time() < before + Duration::from_secs(1) {
                    assert!(!reading.is_finished(), "{sql}: it is done already");
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                cancellation.cancel();
            });
            let began = clock::now();
            runtime.shutdown_timeout(Duration::from_secs(30));
            assert!(began.elapsed() < Duration::from_secs(1), "{sql}: {:?}", began.elapsed());
        }
    }
}
