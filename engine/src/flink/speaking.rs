//! A session that speaks Flink's SQL.

use std::ops::ControlFlow;
use std::sync::Arc;

use datafusion::common::config::ConfigOptions;
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{FunctionRegistry, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::optimizer::AnalyzerRule;
use datafusion::prelude::SessionConfig;
use datafusion::sql::parser::{CopyToSource, Statement};
use datafusion::sql::sqlparser::ast::{Expr, VisitMut, VisitorMut};
use tereza_runtime::Result;

use super::as_of::AsOfPlanner;
use super::functions;
use super::windows::{self, LowerWindows, WindowPlanner};
use crate::error::from_datafusion;

/// The mark of a session that speaks Flink's SQL, in its configuration.
struct Spoken;

/// Whether a session of this configuration speaks Flink's SQL.
pub(crate) fn is_spoken(config: &SessionConfig) -> bool {
    config.get_extension::<Spoken>().is_some()
}

/// `state` with Flink's functions, windows and rules of names, which keep their case.
pub(crate) fn speaking(state: &SessionState) -> SessionState {
    let rules = std::iter::once(Arc::new(LowerWindows) as _).chain(state.analyzer().rules.iter().cloned());
    let mut config = state.config().clone().with_extension(Arc::new(Spoken));
    config.options_mut().sql_parser.enable_ident_normalization = false;
    let mut state = SessionStateBuilder::new_from_existing(state.clone())
        .with_config(config)
        .with_analyzer_rules(rules.collect())
        .with_relation_planners(vec![Arc::new(WindowPlanner), Arc::new(AsOfPlanner)])
        .build();
    register_functions(&mut state);
    state
}

/// Gives `state` Flink's functions. To be called whenever a state is made from another one of this dialect: DataFusion then
/// registers all functions anew, in any order, and with their other names (its `to_char` is also `date_format`).
pub(crate) fn register_functions(state: &mut SessionState) {
    // Nothing is refused: a function of the same name is replaced.
    for function in functions::scalars().chain(windows::functions()) {
        let _ = state.register_udf(function);
    }
    for function in functions::aggregates() {
        let _ = state.register_udaf(function);
    }
}

/// A plan of a session that speaks Flink's SQL as one that does not can run it, for rows that end.
pub(crate) fn for_others(plan: LogicalPlan) -> Result<LogicalPlan> {
    LowerWindows.analyze(plan, &ConfigOptions::default()).map_err(from_datafusion)
}

/// Writes what is Flink's own in a statement as DataFusion plans it.
pub(crate) fn rewrite(statement: &mut Statement) -> Result<()> {
    match statement {
        Statement::Statement(statement) => rewrite_tree(statement.as_mut()),
        Statement::Explain(explain) => rewrite(&mut explain.statement),
        Statement::CopyTo(copy) => match &mut copy.source {
            CopyToSource::Query(query) => rewrite_tree(query.as_mut()),
            CopyToSource::Relation(_) => Ok(()),
        },
        _ => Ok(()),
    }
}

fn rewrite_tree(tree: &mut impl VisitMut) -> Result<()> {
    struct Rewriter;
    impl VisitorMut for Rewriter {
        type Break = datafusion::error::DataFusionError;

        fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Self::Break> {
            windows::show_table(expression);
            match windows::rewrite_auxiliary(expression) {
                Ok(()) => ControlFlow::Continue(()),
                Err(error) => ControlFlow::Break(error),
            }
        }
    }
    match tree.visit(&mut Rewriter) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(error) => Err(from_datafusion(error)),
    }
}
