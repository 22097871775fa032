//! An aggregation that a statement has in several places is computed once.
//!
//! DataFusion puts the plan of a view or of a common table expression in each place that names it, and computes each for
//! itself: TPC-H 15 sums up its view `revenue` to join it, and again to find its greatest. Here, when a statement is
//! optimized and before it becomes a physical plan, aggregations that are equal, with all that is below them, are taken out
//! of it and planned by themselves. In their places are leaves ([`SharedExec`]), the first of which to be asked has the
//! aggregation computed and kept for all: in memory as far as an eighth of the budget, the rest on disk.
//!
//! Only aggregations, since they make few rows of many: what else is equal (a scan, a join) may be cheaper to do twice than to
//! keep. Only those whose equality says that they give the same rows: without functions that differ from call to call, and on
//! tables that are the same object, not just of one name. None of a statement with a recursive query, which computes the same
//! plan on other rows each time, and none with a subquery in an expression. Where a place needs fewer columns, its plan is
//! another by then.
//!
//! [`SharedExec`]: exec::SharedExec

mod exec;
mod planner;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{DFSchemaRef, Result, exec_err};
use datafusion::logical_expr::{Expr, Extension, LogicalPlan, TableSource, UserDefinedLogicalNodeCore};

pub(crate) use self::exec::{Shared, SharedExec, ShowShared};
pub(crate) use self::planner::SharingPlanner;

/// In the place of a subplan that stands in several.
#[derive(Debug, PartialEq, Eq, Hash)]
struct SharedNode {
    /// Which of the statement's shared subplans.
    index: usize,
    /// Whether it is the first of them, below which the subplan is shown.
    is_first: bool,
    schema: DFSchemaRef,
}

impl PartialOrd for SharedNode {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        (self == other).then_some(Ordering::Equal).or_else(|| {
            let order = (self.index, !self.is_first).cmp(&(other.index, !other.is_first));
            Some(order).filter(|order| order.is_ne())
        })
    }
}

impl UserDefinedLogicalNodeCore for SharedNode {
    fn name(&self) -> &str {
        "Shared"
    }

    fn inputs(&self) -> Vec<&LogicalPlan> {
        Vec::new()
    }

    fn schema(&self) -> &DFSchemaRef {
        &self.schema
    }

    fn expressions(&self) -> Vec<Expr> {
        Vec::new()
    }

    fn fmt_for_explain(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "Shared: #{}", self.index + 1)
    }

    fn with_exprs_and_inputs(&self, _: Vec<Expr>, inputs: Vec<LogicalPlan>) -> Result<Self> {
        if !inputs.is_empty() {
            return exec_err!("a shared subplan has no inputs");
        }
        Ok(Self { index: self.index, is_first: self.is_first, schema: Arc::clone(&self.schema) })
    }
}

/// A subplan and how many places it stands in.
struct Candidate {
    plan: LogicalPlan,
    sources: Vec<Arc<dyn TableSource>>,
    /// Those that are counted so far.
    places: usize,
    /// Among the shared subplans, once it is one.
    index: Option<usize>,
}

impl Candidate {
    fn new(plan: LogicalPlan, index: Option<usize>) -> Self {
        Self { sources: sources(&plan), plan, places: 0, index }
    }

    fn is(&self, plan: &LogicalPlan) -> bool {
        self.plan == *plan && same_sources(&self.sources, &sources(plan))
    }
}

/// The statement with equal subplans taken out, and those: they may have places of one another in themselves.
fn share(plan: &LogicalPlan) -> Result<(LogicalPlan, Vec<LogicalPlan>)> {
    let mut whole = plan.clone();
    let mut shared: Vec<LogicalPlan> = Vec::new();
    if has_recursion(plan) {
        return Ok((whole, shared));
    }
    loop {
        let taken = shared.iter().enumerate().map(|(index, plan)| Candidate::new(plan.clone(), Some(index)));
        let mut candidates: Vec<Candidate> = taken.collect();
        count(&whole, &mut candidates)?;
        for plan in &shared {
            count(plan, &mut candidates)?;
        }
        // What is taken out already has a place that is not counted.
        candidates.retain(|candidate| candidate.places > usize::from(candidate.index.is_none()));
        if candidates.is_empty() {
            return Ok((whole, shared));
        }
        let mut taken = Vec::new();
        let offset = shared.len();
        whole = replace(whole, &mut candidates, offset, &mut taken)?;
        for plan in &mut shared {
            *plan = replace(plan.clone(), &mut candidates, offset, &mut taken)?;
        }
        shared.extend(taken);
    }
}

fn has_recursion(plan: &LogicalPlan) -> bool {
    let mut found = false;
    let visited = plan.apply_with_subqueries(|node| {
        found |= matches!(node, LogicalPlan::RecursiveQuery(_));
        Ok(if found { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    found || visited.is_err()
}

/// Counts the places of aggregations in a plan, itself not among them, and adds those that are not known yet.
fn count(plan: &LogicalPlan, candidates: &mut Vec<Candidate>) -> Result<()> {
    let mut is_root = true;
    plan.apply_with_subqueries(|node| {
        let is_itself = std::mem::take(&mut is_root);
        if is_itself || !matches!(node, LogicalPlan::Aggregate(_)) || !can_be_shared(node)? {
            return Ok(TreeNodeRecursion::Continue);
        }
        let Some(candidate) = candidates.iter_mut().find(|candidate| candidate.is(node)) else {
            candidates.push(Candidate { places: 1, ..Candidate::new(node.clone(), None) });
            return Ok(TreeNodeRecursion::Continue);
        };
        candidate.places += 1;
        // What is in one that is taken out already is counted there.
        Ok(if candidate.index.is_some() { TreeNodeRecursion::Jump } else { TreeNodeRecursion::Continue })
    })?;
    Ok(())
}

/// `plan` with places of candidates in place of those, the outermost of them below itself; each that is met for the first time
/// is added to `taken`.
fn replace(
    plan: LogicalPlan,
    candidates: &mut [Candidate],
    offset: usize,
    taken: &mut Vec<LogicalPlan>,
) -> Result<LogicalPlan> {
    let mut is_root = true;
    let replaced = plan.transform_down_with_subqueries(|node| {
        let is_itself = std::mem::take(&mut is_root);
        let found = match node {
            LogicalPlan::Aggregate(_) if !is_itself => candidates.iter_mut().find(|candidate| candidate.is(&node)),
            _ => None,
        };
        let Some(candidate) = found else { return Ok(Transformed::no(node)) };
        let is_first = candidate.index.is_none();
        let index = *candidate.index.get_or_insert_with(|| {
            taken.push(candidate.plan.clone());
            offset + taken.len() - 1
        });
        let schema = Arc::clone(node.schema());
        let place = LogicalPlan::Extension(Extension { node: Arc::new(SharedNode { index, is_first, schema }) });
        Ok(Transformed::new(place, true, TreeNodeRecursion::Jump))
    })?;
    Ok(replaced.data)
}

/// The shared subplans that a plan has places of.
fn places(plan: &LogicalPlan) -> Vec<usize> {
    let mut places = Vec::new();
    let visited = plan.apply_with_subqueries(|node| {
        if let LogicalPlan::Extension(extension) = node
            && let Some(place) = extension.node.as_any().downcast_ref::<SharedNode>()
        {
            places.push(place.index);
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "reading places off a plan does not fail");
    places
}

/// Whether computing a plan again gives the same rows, and needs nothing from around it.
fn can_be_shared(plan: &LogicalPlan) -> Result<bool> {
    let mut can = true;
    plan.apply(|node| {
        node.apply_expressions(|expression| {
            expression.apply(|expression| {
                let is_subquery = matches!(
                    expression,
                    Expr::ScalarSubquery(_) | Expr::InSubquery(_) | Expr::Exists(_) | Expr::SetComparison(_)
                );
                can &= !is_subquery && !matches!(expression, Expr::OuterReferenceColumn(..));
                can &= !expression.is_volatile_node();
                Ok(if can { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
            })
        })
    })?;
    Ok(can)
}

/// The tables that a plan reads, in the order in which it has them.
fn sources(plan: &LogicalPlan) -> Vec<Arc<dyn TableSource>> {
    let mut sources = Vec::new();
    let visited = plan.apply(|node| {
        if let LogicalPlan::TableScan(scan) = node {
            sources.push(Arc::clone(&scan.source));
        }
        Ok(TreeNodeRecursion::Continue)
    });
    debug_assert!(visited.is_ok(), "reading tables off a plan does not fail");
    sources
}

fn same_sources(left: &[Arc<dyn TableSource>], right: &[Arc<dyn TableSource>]) -> bool {
    left.len() == right.len() && left.iter().zip(right).all(|(left, right)| Arc::ptr_eq(left, right))
}
