//! One statement from its text to its batches, with its entry in the log, its permit, its cancellation and its panics.

use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use arrow::array::RecordBatch;
use datafusion::execution::memory_pool::MemoryLimit;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::{ExecutionPlan, SendableRecordBatchStream, execute_stream};
use futures::{FutureExt, StreamExt, stream};
use tereza_runtime::{Error, Result, clock, ids, memory};
use tokio::sync::{Mutex, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use super::InUse;
use crate::cluster::{Lane, Placed, place};
use crate::error::from_datafusion;
use crate::interrupt::interruptible_plan;
use crate::query::{Progress, Query, QueryId, Statement, StatementKind, updated_rows};
use crate::session::with_spillable_joins;
use crate::shared_plan::SharedExec;
use crate::spillable_joins::is_hash_join_too_large;
use crate::statement::{self, Work};
use crate::system::Entry;

/// The operators' counters are read no more often than this.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Where hash tables did not fit, those that are expected to take at most one part in so many of the budget are tried
/// again; after that none is.
const HASHED_PART: usize = 32;

/// Statements planned at once. Each takes one of the runtime's threads for blocking work and waits there for others of them,
/// which read files and folders: were all of them planning, none would go on.
const PLANNING_MAX: usize = 64;
static PLANNING: Semaphore = Semaphore::const_new(PLANNING_MAX);

/// Plans a statement; it runs while the query is read.
pub(super) async fn submit(in_use: InUse, permits: Arc<Semaphore>, statement: Statement) -> Result<Query> {
    let session = Arc::clone(&in_use.open.session);
    let cancellation = in_use.open.cancellation.child_token();
    let id = QueryId(ids::new_id());
    let queries = &session.engine.queries;
    let planning = {
        let (session, statement, id) = (Arc::clone(&session), statement.clone(), id.clone());
        let cancellation = cancellation.clone();
        async move {
            let planned = statement::plan(&session, &statement.sql, statement.parameters.as_ref()).await?;
            let mut routed = None;
            let job = match planned.work {
                Work::Plan(logical) => {
                    let state = session.state();
                    let plan = state.create_physical_plan(&logical).await.map_err(from_datafusion)?;
                    let plan = interruptible_plan(plan, &cancellation).map_err(from_datafusion)?;
                    let Placed { plan, route, progress } =
                        place(&session.engine, &id, &state, planned.kind, &logical, plan).await?;
                    // Only a query may be begun again: it has no effect but its rows.
                    let is_local_query = planned.kind == StatementKind::Query && route.lane == Lane::Local;
                    routed = Some((route, progress));
                    Job::Plan { plan, again: is_local_query.then_some(logical), state: Box::new(state) }
                }
                Work::Task(task) => Job::Task(task),
            };
            let schema = match &job {
                Job::Plan { plan, .. } => plan.schema(),
                Job::Task(_) => planned.schema,
            };
            Ok((planned.kind, schema, job, routed))
        }
    };
    let planned = tokio::select! {
        biased;
        () = cancellation.cancelled() => Err(cancelled()),
        planned = on_own_thread(planning) => planned,
    };
    let (kind, schema, job, routed) = match planned {
        Ok(planned) => planned,
        Err(error) => {
            let kind = StatementKind::Query;
            queries.start(id, &session.user, &session.id, &statement.sql, kind, cancellation).failed(&error);
            return Err(error);
        }
    };
    let entry = queries.start(id.clone(), &session.user, &session.id, &statement.sql, kind, cancellation.clone());
    let progress = entry.progress();
    if let Some((route, stages)) = routed {
        entry.routed(route);
        if let Some(stages) = stages {
            progress.follow(stages);
        }
    }
    let held = Arc::new(Mutex::new(Held { entry, stage: Stage::Queued { job, permits } }));
    tokio::spawn(give_up_when_cancelled(cancellation.clone(), Arc::downgrade(&held)));
    let run = Run {
        kind,
        cancellation: cancellation.clone(),
        progress: Arc::clone(&progress),
        held,
        has_ended: false,
        // Held for as long as the statement runs, so that an idle sweep does not close its session.
        _in_use: in_use,
    };
    let batches = stream::unfold(run, |mut run| async move { run.next().await.map(|batch| (batch, run)) }).boxed();
    Ok(Query::new(id, kind, schema, progress, cancellation, batches))
}

/// Runs planning on a thread where it may take long: a large statement must not hold up the connections of others. It ends,
/// at the next thing that it waits for, when this is dropped.
pub(super) async fn on_own_thread<T: Send + 'static>(
    planning: impl Future<Output = Result<T>> + Send + 'static,
) -> Result<T> {
    let turn = PLANNING.acquire().await.map_err(|_| cancelled())?;
    let runtime = tokio::runtime::Handle::current();
    let dropped = CancellationToken::new();
    let _cancel_when_dropped = dropped.clone().drop_guard();
    let planning = move || {
        // Until the thread is free again, also when nobody waits for the plan any more.
        let _turn = turn;
        runtime.block_on(dropped.run_until_cancelled(planning)).unwrap_or_else(|| Err(cancelled()))
    };
    match tokio::task::spawn_blocking(planning).await {
        Ok(planned) => planned,
        Err(ended) => Err(match ended.try_into_panic() {
            Ok(panic) => panicked(panic.as_ref()),
            Err(_) => cancelled(),
        }),
    }
}

enum Job {
    Plan {
        plan: Arc<dyn ExecutionPlan>,
        /// What to plan once more with joins that can spill, should the hash tables of `plan` not fit.
        again: Option<Box<LogicalPlan>>,
        state: Box<SessionState>,
    },
    Task(futures::future::BoxFuture<'static, Result<Vec<RecordBatch>>>),
}

enum Stage {
    /// Waits for its turn.
    Queued { job: Job, permits: Arc<Semaphore> },
    /// A plan that yields batches.
    Plan {
        plan: Arc<dyn ExecutionPlan>,
        /// How to begin again; taken when the first batch was asked for, since rows may not be returned twice.
        again: Option<(Box<LogicalPlan>, Box<SessionState>)>,
        stream: SendableRecordBatchStream,
        read_at: Instant,
        _permit: OwnedSemaphorePermit,
    },
    /// Batches that are there.
    Batches(std::vec::IntoIter<RecordBatch>),
    /// The end, good or bad.
    Done,
}

struct Run {
    kind: StatementKind,
    cancellation: CancellationToken,
    progress: Arc<Progress>,
    held: Arc<Mutex<Held>>,
    has_ended: bool,
    _in_use: InUse,
}

/// What a statement holds, apart from its reader: one that was cancelled lets go of it also when nobody reads.
struct Held {
    entry: Entry,
    stage: Stage,
}

/// Frees memory, files and permit of a statement that is cancelled. Its reader, if it comes back, is told.
async fn give_up_when_cancelled(cancellation: CancellationToken, held: Weak<Mutex<Held>>) {
    cancellation.cancelled().await;
    let Some(held) = held.upgrade() else { return };
    let mut held = held.lock().await;
    held.stage = Stage::Done;
    held.entry.failed(&cancelled());
}

impl Run {
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        if self.has_ended {
            return None;
        }
        let step = tokio::select! {
            biased;
            () = self.cancellation.cancelled() => Err(cancelled()),
            step = AssertUnwindSafe(step(&self.held, &self.progress, &self.cancellation)).catch_unwind() => {
                step.unwrap_or_else(|panic| Err(panicked(panic.as_ref())))
            }
        };
        // Waits for nothing: the other who takes this lock lets go of it at once.
        let mut held = self.held.lock().await;
        match step {
            Ok(Some(batch)) => {
                if self.kind == StatementKind::Update {
                    held.entry.wrote(updated_rows(&batch).unwrap_or_default());
                }
                Some(Ok(batch))
            }
            Ok(None) => {
                self.has_ended = true;
                held.stage = Stage::Done;
                held.entry.finished();
                None
            }
            Err(error) => {
                self.has_ended = true;
                held.stage = Stage::Done;
                held.entry.failed(&error);
                Some(Err(error))
            }
        }
    }
}

async fn step(
    held: &Mutex<Held>,
    progress: &Progress,
    cancellation: &CancellationToken,
) -> Result<Option<RecordBatch>> {
    let mut held = held.lock().await;
    let Held { entry, stage } = &mut *held;
    if let Stage::Queued { permits, .. } = &*stage {
        let permit = Arc::clone(permits).acquire_owned().await.map_err(|_| cancelled())?;
        entry.running();
        memory::work_begins();
        progress.begin();
        let Stage::Queued { job, .. } = std::mem::replace(stage, Stage::Done) else {
            return Ok(None);
        };
        *stage = match job {
            Job::Plan { plan, again, state } => {
                let stream = execute_stream(Arc::clone(&plan), state.task_ctx()).map_err(from_datafusion)?;
                let again = again.map(|logical| (logical, state));
                Stage::Plan { plan, again, stream, read_at: clock::now(), _permit: permit }
            }
            Job::Task(task) => Stage::Batches(task.await?.into_iter()),
        };
    }
    match stage {
        Stage::Plan { plan, again, stream, read_at, .. } => {
            let mut batch = stream.next().await.transpose().map_err(from_datafusion);
            if let Some((logical, state)) = again.take() {
                let budget_bytes = match state.runtime_env().memory_pool.memory_limit() {
                    MemoryLimit::Finite(bytes) => bytes,
                    _ => 0,
                };
                for hashed_bytes_max in [budget_bytes / HASHED_PART, 0] {
                    let Err(error) = &batch else { break };
                    if !is_hash_join_too_large(error) {
                        break;
                    }
                    tracing::info!(%error, hashed_bytes_max, "planned again with joins that spill");
                    let state = with_spillable_joins(&state, hashed_bytes_max);
                    let (logical, context) = (logical.clone(), state.task_ctx());
                    let cancellation = cancellation.clone();
                    let planning = async move {
                        let plan = state.create_physical_plan(&logical).await;
                        plan.and_then(|plan| interruptible_plan(plan, &cancellation)).map_err(from_datafusion)
                    };
                    *plan = on_own_thread(planning).await?;
                    *stream = execute_stream(Arc::clone(plan), context).map_err(from_datafusion)?;
                    batch = stream.next().await.transpose().map_err(from_datafusion);
                }
            }
            let batch = batch?;
            if batch.is_none() || read_at.elapsed() >= PROGRESS_INTERVAL {
                *read_at = clock::now();
                let (rows, bytes) = scanned(plan.as_ref());
                progress.set_scanned(rows, bytes);
            }
            Ok(batch)
        }
        Stage::Batches(batches) => Ok(batches.next()),
        // Given up between two reads.
        Stage::Done => Err(cancelled()),
        Stage::Queued { .. } => Ok(None),
    }
}

/// Rows and bytes that the leaves of a plan have read so far; what is shared counts where it is shown.
fn scanned(plan: &dyn ExecutionPlan) -> (u64, u64) {
    if plan.is::<SharedExec>() && plan.children().is_empty() {
        return (0, 0);
    }
    if plan.children().is_empty() {
        let Some(metrics) = plan.metrics() else { return (0, 0) };
        let bytes = metrics.sum_by_name("bytes_scanned").map_or(0, |value| value.as_usize());
        return (metrics.output_rows().unwrap_or(0) as u64, bytes as u64);
    }
    plan.children()
        .iter()
        .map(|child| scanned(child.as_ref()))
        .fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1))
}

fn cancelled() -> Error {
    Error::cancelled("the query was cancelled")
}

fn panicked(panic: &(dyn std::any::Any + Send)) -> Error {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_string())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_string());
    Error::internal(format!("the query panicked: {message}"))
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    /// As many plans as the runtime has threads for, each of which needs one more.
    #[test]
    fn plans_leave_threads_to_what_they_wait_for() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(PLANNING_MAX + 1)
            .build()
            .unwrap();
        let plans = (0..=PLANNING_MAX).map(|_| {
            on_own_thread(async {
                tokio::task::yield_now().await;
                tokio::task::spawn_blocking(|| ()).await.map_err(|_| cancelled())
            })
        });
        let plans = futures::future::try_join_all(plans);
        let planned = runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), plans).await });
        // Threads that wait for ever must not keep the test from failing.
        runtime.shutdown_background();
        assert_eq!(planned.expect("no plan waits for ever").unwrap().len(), PLANNING_MAX + 1);
    }

    #[tokio::test]
    async fn a_plan_that_nobody_waits_for_ends() {
        let (began, has_began) = oneshot::channel();
        let (alive, ended) = oneshot::channel::<()>();
        let plan = tokio::spawn(on_own_thread(async move {
            let _alive = alive;
            let _ = began.send(());
            futures::future::pending::<Result<()>>().await
        }));
        has_began.await.unwrap();
        plan.abort();
        let ended = tokio::time::timeout(Duration::from_secs(30), ended).await;
        assert!(ended.expect("it is dropped").is_err());
    }
}
