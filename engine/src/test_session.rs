//! Bare DataFusion with some of the engine's rules, for their unit tests.

use std::sync::Arc;

use arrow::util::pretty::pretty_format_batches;
use datafusion::execution::SessionStateBuilder;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::physical_plan::{ExecutionPlan, collect, displayable};
use datafusion::prelude::{SessionConfig, SessionContext};

pub(crate) type Rules = Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>>;

/// DataFusion's own rules.
pub(crate) fn plain_rules() -> Rules {
    PhysicalOptimizer::new().rules
}

/// DataFusion's defaults for two cores.
pub(crate) fn config() -> SessionConfig {
    SessionConfig::new().with_target_partitions(2)
}

/// A session with these rules, after it ran `setup`: statements with `;` between them.
pub(crate) async fn session(config: SessionConfig, rules: Rules, setup: &str) -> SessionContext {
    let state = SessionStateBuilder::new()
        .with_config(config)
        .with_default_features()
        .with_physical_optimizer_rules(rules)
        .build();
    let context = SessionContext::new_with_state(state);
    for statement in setup.split(';') {
        context.sql(statement).await.unwrap().collect().await.unwrap();
    }
    context
}

/// The plan of a statement.
pub(crate) async fn plan(context: &SessionContext, sql: &str) -> Arc<dyn ExecutionPlan> {
    context.sql(sql).await.unwrap().create_physical_plan().await.unwrap()
}

/// A plan as EXPLAIN shows it.
pub(crate) fn shown(plan: &Arc<dyn ExecutionPlan>) -> String {
    displayable(plan.as_ref()).indent(false).to_string()
}

/// What a plan gives, as a table of text.
pub(crate) async fn run(context: &SessionContext, plan: Arc<dyn ExecutionPlan>) -> String {
    let batches = collect(plan, context.task_ctx()).await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

/// What a statement gives, as a table of text.
pub(crate) async fn answer(context: &SessionContext, sql: &str) -> String {
    run(context, plan(context, sql).await).await
}
