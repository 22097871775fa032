//! How far a job of Ballista is, and what its stages did.

use ballista_core::JobId;
use ballista_core::serde::protobuf::TaskStatus;
use ballista_core::serde::protobuf::task_status::Status;
use ballista_scheduler::display::format_stage_metrics;
use ballista_scheduler::state::execution_graph::ExecutionGraphBox;
use ballista_scheduler::state::execution_stage::{ExecutionStage, TaskInfo};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::MetricsSet;
use tereza_engine::cluster::StageCounts;

use crate::cluster::Server;

/// How far the stages of a job are.
pub(crate) fn counts(graph: &ExecutionGraphBox) -> StageCounts {
    let mut counts = StageCounts::default();
    for stage in graph.stages().values() {
        counts.stages += 1;
        let (plan, metrics) = match stage {
            ExecutionStage::Successful(stage) => {
                counts.stages_done += 1;
                counts.partitions += stage.partitions as u64;
                counts.partitions_done += stage.partitions as u64;
                (&stage.plan, stage.stage_metrics.as_slice())
            }
            ExecutionStage::Running(stage) => {
                counts.partitions += stage.partitions as u64;
                counts.partitions_done += stage.task_infos.iter().map(partitions_done).sum::<u64>();
                (&stage.plan, stage.stage_metrics.as_deref().unwrap_or_default())
            }
            ExecutionStage::UnResolved(_) | ExecutionStage::Resolved(_) | ExecutionStage::Failed(_) => continue,
        };
        let (rows, bytes) = scanned(plan.as_ref(), &mut metrics.iter());
        counts.scanned_rows += rows;
        counts.scanned_bytes += bytes;
    }
    counts
}

/// Leaves out the figures of tasks that are not one for each node of their stage. Ballista refuses the report of such a task, and
/// goes on as if the task had made nothing: its rows are lost. A leaf of which a task gets no part may be another node there.
pub(crate) async fn even_out(server: &Server, statuses: &mut [TaskStatus]) {
    let jobs = server.state.task_manager.get_running_job_cache();
    for status in statuses {
        let Some(job) = jobs.get(&JobId::from(status.job_id.as_str())) else { continue };
        let graph = job.execution_graph.read().await;
        let stage = graph.stages().get(&(status.stage_id as usize));
        if let Some(ExecutionStage::Running(stage)) = stage
            && status.metrics.len() != measured_nodes(stage.plan.as_ref())
        {
            status.metrics.clear();
        }
    }
}

fn measured_nodes(plan: &dyn ExecutionPlan) -> usize {
    let own = usize::from(plan.metrics().is_some());
    own + plan.children().into_iter().map(|input| measured_nodes(input.as_ref())).sum::<usize>()
}

fn partitions_done(task: &TaskInfo) -> u64 {
    match task.task_status {
        Status::Successful(_) => task.global_input_partition_ids.len() as u64,
        _ => 0,
    }
}

/// Rows and bytes that the leaves of a stage read from tables. Metrics are those of the nodes that have some, a node before
/// its inputs.
fn scanned(plan: &dyn ExecutionPlan, metrics: &mut std::slice::Iter<'_, MetricsSet>) -> (u64, u64) {
    let own = plan.metrics().and_then(|_| metrics.next());
    let inputs = plan.children();
    if inputs.is_empty() && !plan.name().contains("Shuffle") {
        let Some(own) = own else { return (0, 0) };
        let bytes = own.sum_by_name("bytes_scanned").map_or(0, |value| value.as_usize());
        return (own.output_rows().unwrap_or_default() as u64, bytes as u64);
    }
    inputs
        .into_iter()
        .map(|input| scanned(input.as_ref(), metrics))
        .fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1))
}

/// What the stages of a job that is done did, for people.
pub(crate) fn explain(graph: &ExecutionGraphBox) -> String {
    let mut stages: Vec<_> = graph.stages().iter().collect();
    stages.sort_unstable_by_key(|(id, _)| **id);
    let mut text = String::new();
    for (id, stage) in stages {
        let ExecutionStage::Successful(stage) = stage else { continue };
        let tasks = stage.task_infos.len();
        let plan = format_stage_metrics(stage.plan.as_ref(), &stage.stage_metrics);
        text.push_str(&format!("stage {id}: {} partitions, {tasks} tasks\n{plan}\n", stage.partitions));
    }
    text
}
