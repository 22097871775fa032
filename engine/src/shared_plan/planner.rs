//! Planning with shared subplans.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::Session;
use datafusion::common::{Result, internal_datafusion_err};
use datafusion::execution::context::QueryPlanner;
use datafusion::logical_expr::physical_planning_context::PhysicalPlanningContext;
use datafusion::logical_expr::{LogicalPlan, UserDefinedLogicalNode};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_planner::{DefaultPhysicalPlanner, ExtensionPlanner, PhysicalPlanner};

use super::exec::{Shared, SharedExec};
use super::{SharedNode, places, share};

/// DataFusion's planner, after subplans that stand in several places were taken out.
#[derive(Debug)]
pub(crate) struct SharingPlanner;

#[async_trait]
impl QueryPlanner for SharingPlanner {
    async fn create_physical_plan(&self, plan: &LogicalPlan, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
        let (whole, subplans) = share(plan)?;
        let mut planned: Vec<Option<Arc<Shared>>> = vec![None; subplans.len()];
        // One that has places of others after those.
        let is_next = |planned: &[Option<_>], index: usize| {
            planned[index].is_none() && places(&subplans[index]).into_iter().all(|place| planned[place].is_some())
        };
        while let Some(index) = (0..subplans.len()).find(|index| is_next(&planned, *index)) {
            let plan = planner(&planned).create_physical_plan(&subplans[index], session).await?;
            planned[index] = Some(Arc::new(Shared::new(plan)));
        }
        planner(&planned).create_physical_plan(&whole, session).await
    }
}

fn planner(planned: &[Option<Arc<Shared>>]) -> DefaultPhysicalPlanner {
    DefaultPhysicalPlanner::with_extension_planners(vec![Arc::new(Places { planned: planned.to_vec() })])
}

/// Plans the places of shared subplans.
struct Places {
    planned: Vec<Option<Arc<Shared>>>,
}

#[async_trait]
impl ExtensionPlanner for Places {
    async fn plan_extension(
        &self,
        _: &dyn PhysicalPlanner,
        node: &dyn UserDefinedLogicalNode,
        _: &[&LogicalPlan],
        _: &[Arc<dyn ExecutionPlan>],
        _: &dyn Session,
        _: &PhysicalPlanningContext,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let Some(SharedNode { index, is_first, .. }) = node.as_any().downcast_ref() else { return Ok(None) };
        let shared = self.planned.get(*index).and_then(Option::as_ref);
        let shared = shared.ok_or_else(|| internal_datafusion_err!("shared subplan #{} is not planned", index + 1))?;
        Ok(Some(Arc::new(SharedExec::new(*index, *is_first, Arc::clone(shared)))))
    }
}
