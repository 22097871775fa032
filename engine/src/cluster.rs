//! The lane of other processes, as the engine sees it.
//!
//! The scheduler implements [`Cluster`]; here is what it needs of the engine. A statement is always planned for this process
//! first, which gives its errors, its schema and what it would read. [`place`] asks the router which lane it takes. In the
//! cluster lane the plan becomes a [`ClusterExec`], a leaf that runs the statement's logical plan on executors, planned
//! again there with the session that [`Cluster::planning`] asks for.

mod barrier;
mod exec;
mod failure;
mod progress;
mod settings;

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use async_trait::async_trait;
use datafusion::common::format::ExplainFormat;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::config::Dialect;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::source::DataSourceExec;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, WindowFunctionDefinition};
use datafusion::optimizer::OptimizerRule;
use datafusion::physical_expr::{Distribution, Partitioning};
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::aggregates::AggregateExec;
use datafusion::physical_plan::coalesce_partitions::CoalescePartitionsExec;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::placeholder_row::PlaceholderRowExec;
use datafusion::physical_plan::repartition::RepartitionExec;
use datafusion::physical_plan::sorts::sort::SortExec;
use datafusion::physical_plan::sorts::sort_preserving_merge::SortPreservingMergeExec;
use datafusion::physical_plan::streaming::StreamingTableExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_proto::physical_plan::PhysicalExtensionCodec;
use tereza_runtime::{Error, ErrorKind, Result};

pub(crate) use self::barrier::BarrierExec;
pub use self::exec::{ClusterExec, with_schema};
pub use self::failure::{failure_in, to_failure};
pub use self::progress::{StageCounts, StageProgress};
pub use self::settings::Mode;
pub(crate) use self::settings::{MEMORY_LIMIT_BYTES, MODE, TerezaOptions};
use crate::codec::{PlanCodec, file_scan};
use crate::engine::Engine;
use crate::error::from_datafusion;
use crate::flink;
use crate::generated::GenerateExec;
use crate::query::{BatchStream, QueryId, StatementKind};
pub use crate::spillable_joins::is_hash_join_too_large;
use crate::stages::Stages;
use crate::write::RemoteTasks;

/// Rows of session tables travel inside a plan; a plan with more bytes of them stays here.
const INLINE_BYTES_MAX: usize = 4 << 20;

/// Where a statement runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    /// In this process.
    Local,
    /// On executors.
    Cluster,
}

impl Lane {
    /// Its name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Cluster => "cluster",
        }
    }
}

/// The lane of a statement, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Where it runs.
    pub lane: Lane,
    /// A clause for people: "no executor is registered".
    pub reason: String,
}

/// What a router decides by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// What the session asks for.
    pub mode: Mode,
    /// Why the statement cannot leave this process, if it cannot.
    pub obstacle: Option<String>,
    /// Bytes of the files that it reads.
    pub scan_bytes: u64,
    /// Bytes that the operators of this process may hold.
    pub memory_limit_bytes: usize,
}

/// How a session plans for the cluster.
pub struct Planning {
    /// Its settings.
    pub config: SessionConfig,
    /// Its rules for logical plans, all of them.
    pub rules: Vec<Arc<dyn OptimizerRule + Send + Sync>>,
    /// Its id. Executors keep what they open for a session (clients, footers) by it.
    pub session_id: String,
}

/// A statement for executors.
#[derive(Clone)]
pub struct Job {
    /// Names the statement.
    pub name: String,
    /// The session to plan it with.
    pub context: Arc<SessionContext>,
    /// Not optimised yet.
    pub plan: LogicalPlan,
    /// Where to say how far it is.
    pub progress: Arc<StageProgress>,
}

impl Job {
    /// The same, planned with other values of some settings.
    pub fn with_settings<'a>(&self, settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self> {
        let mut state = self.context.state();
        for (key, value) in settings {
            state.config_mut().options_mut().set(key, value).map_err(from_datafusion)?;
        }
        Ok(Self { context: Arc::new(SessionContext::new_with_state(state)), ..self.clone() })
    }
}

/// An executor, as `system.runtime.nodes` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Executor {
    /// Its id, which is new with each start.
    pub id: String,
    /// Where it is given tasks.
    pub address: String,
    /// Tasks that it runs at once.
    pub slots: u32,
    /// Milliseconds since it came.
    pub uptime_ms: u64,
}

/// The scheduler.
#[async_trait]
pub trait Cluster: fmt::Debug + Send + Sync + 'static {
    /// The lane of a statement; `Unavailable` or `Unsupported` if the session asks for one that it cannot take.
    fn route(&self, candidate: &Candidate) -> Result<Route>;
    /// The executors that can be given tasks now, in the order in which they came.
    fn executors(&self) -> Vec<Executor>;
    /// How to plan for executors, from a session's settings.
    fn planning(&self, config: SessionConfig) -> Planning;
    /// Runs a statement to its end and returns its rows; `Unsupported` if executors cannot run it, before the first row.
    /// Dropping the future or the stream cancels it.
    async fn run(&self, job: Job) -> Result<BatchStream>;
}

/// Marks the settings of sessions that plan for executors.
#[derive(Debug)]
pub(crate) struct OnCluster;

impl OnCluster {
    /// Whether plans made with these settings run on executors.
    pub(crate) fn plans(config: &SessionConfig) -> bool {
        config.get_extension::<Self>().is_some()
    }
}

/// A statement in the lane that it takes.
pub(crate) struct Placed {
    /// What runs in this process: all of it, or what waits for executors.
    pub(crate) plan: Arc<dyn ExecutionPlan>,
    pub(crate) route: Route,
    /// How far executors are with it.
    pub(crate) progress: Option<Arc<StageProgress>>,
}

impl Placed {
    fn local(plan: Arc<dyn ExecutionPlan>, reason: &str) -> Self {
        Self { plan, route: Route { lane: Lane::Local, reason: reason.into() }, progress: None }
    }
}

/// Puts a statement that was planned for this process in the lane that it takes.
pub(crate) async fn place(
    engine: &Engine,
    name: &QueryId,
    state: &SessionState,
    kind: StatementKind,
    logical: &LogicalPlan,
    local: Arc<dyn ExecutionPlan>,
) -> Result<Placed> {
    let mode = TerezaOptions::mode(state.config_options());
    let Some(cluster) = engine.cluster() else {
        if mode == Mode::Cluster {
            return Err(Error::unsupported("the cluster lane in a process that schedules no executors")
                .with_hint("start `tereza up --executors N`, or SET tereza.mode = 'local'"));
        }
        return Ok(Placed::local(local, "this process schedules no executors"));
    };
    let limit_bytes = TerezaOptions::memory_limit_bytes(state.config_options()).unwrap_or(engine.memory_limit_bytes);
    let candidate = |logical, local: &_, tasks: &Tasks| Candidate {
        mode,
        obstacle: tasks.obstacle().or_else(|| obstacle(state, logical, local)),
        scan_bytes: scan_bytes(local),
        memory_limit_bytes: limit_bytes,
    };
    if let LogicalPlan::Explain(explain) = logical
        && explain.explain_format == ExplainFormat::Indent
    {
        let explained = state.create_physical_plan(&explain.plan).await.map_err(from_datafusion)?;
        let kind = if matches!(*explain.plan, LogicalPlan::Dml(_)) { StatementKind::Update } else { kind };
        let tasks = Tasks::of(kind, mode, &explained).await?;
        let route = cluster.route(&candidate(&explain.plan, &explained, &tasks))?;
        let plan = exec::with_route(local, &route, state.task_ctx()).await.map_err(from_datafusion)?;
        return Ok(Placed::local(plan, "it explains a plan"));
    }
    // What EXPLAIN ANALYZE runs is run where it would run without.
    let analyzed = match logical {
        LogicalPlan::Analyze(analyze) if !matches!(*analyze.input, LogicalPlan::Dml(_)) => Some(&*analyze.input),
        _ => None,
    };
    let tasks = Tasks::of(kind, mode, &local).await?;
    let route = cluster.route(&candidate(analyzed.unwrap_or(logical), &local, &tasks))?;
    if route.lane == Lane::Local {
        return Ok(Placed { plan: local, route, progress: None });
    }
    let planning = cluster.planning(state.config().clone());
    let context = Arc::new(SessionContext::new_with_state(with_cluster(state, planning)));
    let progress = Arc::new(match analyzed {
        Some(_) => StageProgress::explaining(),
        None => StageProgress::default(),
    });
    let job = |plan| Job { name: name.0.clone(), context, plan, progress: Arc::clone(&progress) };
    let plan: Arc<dyn ExecutionPlan> = match (tasks, analyzed) {
        (_, Some(analyzed)) => Arc::new(ClusterExec::analyzing(cluster, job(analyzed.clone()), local, &route)),
        (Tasks::OfWrite(write), None) => {
            let whole = write.logical(logical).zip(write.local());
            let (plan, local) = whole.ok_or_else(|| Error::internal("a statement whose plan commits is no INSERT"))?;
            write.committed(Arc::new(ClusterExec::new(cluster, job(plan), local)))
        }
        (Tasks::Whole | Tasks::None(_), None) => Arc::new(ClusterExec::new(cluster, job(logical.clone()), local)),
    };
    Ok(Placed { plan, route, progress: Some(progress) })
}

/// What of a statement executors may run.
enum Tasks {
    /// All of it: it has no effect but its rows.
    Whole,
    /// What makes the files of a write.
    OfWrite(RemoteTasks),
    /// Nothing, for this reason.
    None(String),
}

impl Tasks {
    async fn of(kind: StatementKind, mode: Mode, plan: &Arc<dyn ExecutionPlan>) -> Result<Self> {
        match kind {
            StatementKind::Query => return Ok(Self::Whole),
            // Nobody asks for it.
            StatementKind::Update if mode == Mode::Local => return Ok(Self::None("it writes".into())),
            StatementKind::Update | StatementKind::Command => {}
        }
        match RemoteTasks::of(plan).await {
            Ok(Some(tasks)) => Ok(Self::OfWrite(tasks)),
            Ok(None) => Ok(Self::None("it writes what is no table of files".into())),
            Err(error) if error.kind() == ErrorKind::Unsupported => Ok(Self::None(error.message().into())),
            Err(error) => Err(error),
        }
    }

    fn obstacle(&self) -> Option<String> {
        match self {
            Self::None(reason) => Some(reason.clone()),
            Self::Whole | Self::OfWrite(_) => None,
        }
    }
}

/// `state` to plan a statement with that runs on executors. What the engine adds to plans for this process (dynamic filters,
/// shared subplans) links operators that would be in different processes there.
fn with_cluster(state: &SessionState, planning: Planning) -> SessionState {
    SessionStateBuilder::new_from_existing(state.clone())
        .with_session_id(planning.session_id)
        .with_config(planning.config.with_extension(Arc::new(OnCluster)))
        .with_optimizer_rules(planning.rules)
        .with_physical_optimizer_rules(PhysicalOptimizer::new().rules)
        .with_query_planner(Arc::new(exec::ClusterPlanner))
        .build()
}

/// Why a statement cannot leave this process, if it cannot.
fn obstacle(state: &SessionState, logical: &LogicalPlan, local: &Arc<dyn ExecutionPlan>) -> Option<String> {
    if matches!(logical, LogicalPlan::Explain(_) | LogicalPlan::Analyze(_)) {
        return Some("it explains a plan".into());
    }
    if state.config_options().sql_parser.dialect == Dialect::Spark {
        return Some("executors have no functions of Spark".into());
    }
    if flink::is_spoken(state.config()) {
        return Some("executors have no functions of Flink".into());
    }
    if let Some(name) = function_of_spark(state, logical) {
        return Some(format!("executors have no function {name} of Spark, which a view calls"));
    }
    let (mut found, mut inline_bytes) = (None, 0);
    let visited = local.apply(|node| {
        if node.is::<UnionExec>() && node.children().into_iter().any(is_given_out_whole) {
            found = Some("a part of its UNION cannot be given out in tasks".into());
            return Ok(TreeNodeRecursion::Stop);
        }
        if let Some(reason) = does_not_travel(node) {
            found = Some(reason.into());
            return Ok(TreeNodeRecursion::Stop);
        }
        if !node.children().is_empty() {
            return Ok(TreeNodeRecursion::Continue);
        }
        let memory = node.downcast_ref::<DataSourceExec>();
        let memory = memory.and_then(|scan| scan.data_source().downcast_ref::<MemorySourceConfig>());
        if let Some(memory) = memory {
            let batches = memory.partitions().iter().flatten();
            inline_bytes += batches.map(|batch| batch.get_array_memory_size()).sum::<usize>();
        } else if !travels(node) {
            found = Some(format!("{} reads what only this process has", node.name()));
            return Ok(TreeNodeRecursion::Stop);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    if let Err(error) = visited {
        return Some(error.to_string());
    }
    let is_large = inline_bytes > INLINE_BYTES_MAX;
    found.or_else(|| is_large.then(|| format!("it reads {inline_bytes} bytes of session tables")))
}

/// A function in a plan that is another than the session's of the same name, by which executors look for it.
fn function_of_spark(state: &SessionState, plan: &LogicalPlan) -> Option<String> {
    let mut found = None;
    let mut look = |expression: &Expr| {
        let (name, is_same) = match expression {
            Expr::ScalarFunction(call) => {
                let name = call.func.name();
                (name, state.scalar_functions().get(name).is_some_and(|known| *known == call.func))
            }
            Expr::AggregateFunction(call) => {
                let name = call.func.name();
                (name, state.aggregate_functions().get(name).is_some_and(|known| *known == call.func))
            }
            Expr::WindowFunction(call) => match &call.fun {
                WindowFunctionDefinition::AggregateUDF(function) => {
                    let name = function.name();
                    (name, state.aggregate_functions().get(name).is_some_and(|known| known == function))
                }
                WindowFunctionDefinition::WindowUDF(function) => {
                    let name = function.name();
                    (name, state.window_functions().get(name).is_some_and(|known| known == function))
                }
            },
            _ => return Ok(TreeNodeRecursion::Continue),
        };
        if !is_same {
            found = Some(name.to_owned());
        }
        Ok(if is_same { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    };
    let mut views = Vec::new();
    let walked = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            views.extend(scan.source.get_logical_plan().map(Cow::into_owned));
        }
        node.apply_expressions(|expression| expression.apply(&mut look))
    });
    match walked {
        Ok(_) => found.or_else(|| views.iter().find_map(|view| function_of_spark(state, view))),
        Err(error) => Some(error.to_string()),
    }
}

/// Why a node means something else where it arrives, if it does.
fn does_not_travel(node: &Arc<dyn ExecutionPlan>) -> Option<&'static str> {
    if node.is::<StreamingTableExec>() {
        return Some("it reads a stream");
    }
    if let Some(aggregate) = node.downcast_ref::<AggregateExec>()
        && aggregate.group_expr().expr().is_empty()
        && aggregate.group_expr().has_grouping_set()
    {
        return Some("grouping sets without a column do not travel");
    }
    let schema = node.schema();
    let is_of = |data_type: DataType| schema.fields().iter().any(|field| *field.data_type() == data_type);
    if is_of(DataType::Float16) {
        return Some("16-bit floats do not travel");
    }
    let is_dictionary = |data_type: &DataType| matches!(data_type, DataType::Dictionary(..));
    let columns = schema.fields().iter().filter(|field| is_dictionary(field.data_type())).count();
    if schema.flattened_fields().iter().filter(|field| is_dictionary(field.data_type())).count() > columns {
        return Some("dictionaries inside of other values do not travel");
    }
    // The values of a dictionary are sent in its place, and of a large list a list, which is noticed too late where sorted rows are
    // merged as they arrive.
    if !node.is::<SortExec>() && !node.is::<SortPreservingMergeExec>() {
        return None;
    }
    let changes =
        |field: &&Field| is_dictionary(field.data_type()) || matches!(field.data_type(), DataType::LargeList(_));
    let has_such = schema.flattened_fields().iter().any(changes);
    has_such.then_some("dictionaries and large lists are not merged in order on executors")
}

/// Whether executors can read a leaf.
fn travels(leaf: &Arc<dyn ExecutionPlan>) -> bool {
    file_scan(leaf).is_some()
        || leaf.is::<GenerateExec>()
        || leaf.is::<EmptyExec>()
        || leaf.is::<PlaceholderRowExec>()
        || leaf.is::<crate::shared_plan::SharedExec>()
}

/// Whether a task that wants none of a plan's partitions would run it all the same. Ballista gives each task of a stage its
/// partitions by taking all others from the leaves of the stage's plan; what gathers them to one, on the way, is left whole,
/// and so are leaves that it does not know. Below a UNION that would give the rows once for each task.
fn is_given_out_whole(plan: &Arc<dyn ExecutionPlan>) -> bool {
    if matches!(plan.properties().output_partitioning(), Partitioning::Hash(..)) && plan.is::<RepartitionExec>() {
        return false;
    }
    let children = plan.children();
    // The side of a join that is streamed is its last; the other is hashed whole, in each task.
    let Some(streamed) = children.last() else {
        return plan.is::<GenerateExec>() || plan.is::<crate::shared_plan::SharedExec>();
    };
    if plan.is::<UnionExec>() {
        return children.into_iter().any(is_given_out_whole);
    }
    let required = plan.input_distribution_requirements();
    let gathers = matches!(required.per_child_distributions().last(), Some(Distribution::SinglePartition));
    gathers
        || plan.is::<CoalescePartitionsExec>()
        || plan.is::<SortPreservingMergeExec>()
        || is_given_out_whole(streamed)
}

/// Bytes of the files that a plan reads.
fn scan_bytes(plan: &Arc<dyn ExecutionPlan>) -> u64 {
    if let Some(scan) = file_scan(plan) {
        let files = scan.file_groups.iter().flat_map(|group| group.iter());
        return files
            .map(|file| {
                file.range.as_ref().map_or(file.object_meta.size, |range| (range.end - range.start).unsigned_abs())
            })
            .sum();
    }
    plan.children().into_iter().map(scan_bytes).sum()
}

/// The codec of plans on the wire, around the cluster's own. With `stages`, plans that were read can be run.
pub fn plan_codec(inner: Arc<dyn PhysicalExtensionCodec>, stages: Option<&Stages>) -> Arc<dyn PhysicalExtensionCodec> {
    Arc::new(PlanCodec::around(inner, stages.map(Stages::stores)))
}
