//! The order in which a statement's inner joins run, chosen by how many rows each is expected to make.
//!
//! DataFusion joins tables in the order in which the text names them and only chooses which side of a join is hashed. A
//! filter on a table that is named last then comes last: TPC-H 5 keeps the customers of one region after it has joined
//! those of all to their orders and items. This rule takes a tree of inner equality joins apart and puts it together in
//! the cheapest order by dynamic programming over sets of inputs (Moerkotte and Neumann, *Analysis of two existing and one
//! new dynamic programming algorithm*, VLDB 2006: DPsub), bushy trees included.
//!
//! What is expected comes from the inputs' statistics: rows after filters, and how many distinct values a key has. A key
//! that meets a key with more values is taken to find all of its own among them.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TreeNode, TreeNodeRecursion};
use datafusion::common::{JoinSide, JoinType, NullEquality, Result, Statistics};
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, LambdaVariable, LikeExpr, Literal};
use datafusion::physical_expr::split_conjunction;
use datafusion::physical_expr::utils::collect_columns;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_plan::filter::FilterExec;
use datafusion::physical_plan::joins::utils::{ColumnIndex, JoinFilter};
use datafusion::physical_plan::joins::{HashJoinExec, HashJoinExecBuilder, PartitionMode};
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::statistics::{StatisticsArgs, StatisticsContext};
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr};

use crate::selectivity::{FILTER_SELECTIVITY, distinct_values, selectivity};

/// With more inputs than this, the 3^n ways to split their sets take longer than they save; the text's order stays.
const INPUTS_MAX: usize = 10;
/// Hashing a row costs so many times what looking one up does.
const BUILD_COST: f64 = 2.0;
/// A new order must be expected to cost less than this part of the text's order: estimates err.
const GAIN: f64 = 0.9;

/// The rule; it runs before DataFusion chooses the sides of joins.
#[derive(Debug)]
pub(crate) struct JoinOrder;

impl PhysicalOptimizerRule for JoinOrder {
    fn optimize(&self, plan: Arc<dyn ExecutionPlan>, config: &ConfigOptions) -> Result<Arc<dyn ExecutionPlan>> {
        if config.optimizer.join_reordering { reorder(plan) } else { Ok(plan) }
    }

    fn name(&self) -> &str {
        "join_order"
    }

    fn schema_check(&self) -> bool {
        true
    }
}

/// The plan with each tree of inner joins in its best order.
fn reorder(plan: Arc<dyn ExecutionPlan>) -> Result<Arc<dyn ExecutionPlan>> {
    let visited = plan.transform_down(|node| {
        let mut joins = Joins::default();
        // What is not made from them by a projection need not be carried through all joins.
        let (tree, columns, made) = match node.downcast_ref::<ProjectionExec>() {
            Some(projection) if is_inner_join_below(projection) => {
                let (tree, columns) = joins.take_apart(projection.input());
                (tree, columns, projection.expr().to_vec())
            }
            None if is_inner_join(&node) => {
                let (tree, columns) = joins.take_apart(&node);
                (tree, columns, all_columns(&node.schema()))
            }
            _ => return Ok(Transformed::no(node)),
        };
        let ordered = joins.in_best_order(&tree, &columns, made)?.filter(|plan| plan.schema() == node.schema());
        // What lies below the joins may have joins of its own.
        let inputs = joins.inputs;
        let below = ordered.unwrap_or(node).transform_down(|node| {
            if inputs.iter().any(|input| Arc::ptr_eq(input, &node)) {
                return Ok(Transformed::new(reorder(node)?, true, TreeNodeRecursion::Jump));
            }
            Ok(Transformed::no(node))
        })?;
        Ok(Transformed::new(below.data, true, TreeNodeRecursion::Jump))
    })?;
    Ok(visited.data)
}

fn all_columns(schema: &Schema) -> Vec<ProjectionExpr> {
    let column = |(index, field): (usize, &Arc<Field>)| {
        let expr = Arc::new(Column::new(field.name(), index));
        ProjectionExpr { expr, alias: field.name().clone() }
    };
    schema.fields().iter().enumerate().map(column).collect()
}

/// A join whose order with others is free: rows are paired by equal columns, and nothing else depends on its sides.
fn as_inner_join(plan: &Arc<dyn ExecutionPlan>) -> Option<&HashJoinExec> {
    let join = plan.downcast_ref::<HashJoinExec>()?;
    let is_free = *join.join_type() == JoinType::Inner
        && join.null_equality() == NullEquality::NullEqualsNothing
        && !join.null_aware
        && join.fetch().is_none()
        && join.on().iter().all(|(left, right)| left.is::<Column>() && right.is::<Column>());
    is_free.then_some(join)
}

fn is_inner_join(plan: &Arc<dyn ExecutionPlan>) -> bool {
    as_inner_join(plan).is_some()
}

/// A column of an input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct InputColumn {
    input: usize,
    index: usize,
}

/// Some of the inputs, a bit each.
type Inputs = usize;

/// The inputs of a tree of joins, and what pairs their rows.
#[derive(Debug, Default)]
struct Joins {
    inputs: Vec<Arc<dyn ExecutionPlan>>,
    /// Columns that are equal in every row of the whole, in groups.
    equal: Vec<Vec<InputColumn>>,
    filters: Vec<Filter>,
    /// How partitions are to be joined.
    mode: Option<PartitionMode>,
}

/// A condition on columns of several inputs.
#[derive(Debug)]
struct Filter {
    expression: Arc<dyn PhysicalExpr>,
    /// What its columns stand for.
    columns: Vec<InputColumn>,
    schema: Arc<Schema>,
}

impl Filter {
    fn inputs(&self) -> Inputs {
        self.columns.iter().fold(0, |inputs, column| inputs | (1 << column.input))
    }
}

/// A tree of joins over inputs. Which side of a join is hashed, DataFusion chooses later.
#[derive(Debug)]
enum Tree {
    Input(usize),
    Join(Box<(Tree, Tree)>),
}

impl Joins {
    /// Adds a tree of joins; returns its shape, and what its output columns are.
    fn take_apart(&mut self, plan: &Arc<dyn ExecutionPlan>) -> (Tree, Vec<InputColumn>) {
        if let Some(join) = as_inner_join(plan) {
            self.mode.get_or_insert(*join.partition_mode());
            let (left_tree, left) = self.take_apart(join.left());
            let (right_tree, right) = self.take_apart(join.right());
            for (l, r) in join.on() {
                if let (Some(l), Some(r)) = (l.downcast_ref::<Column>(), r.downcast_ref::<Column>()) {
                    self.add_equality(left[l.index()], right[r.index()]);
                }
            }
            if let Some(filter) = join.filter() {
                let columns = filter.column_indices().iter().map(|column| match column.side {
                    JoinSide::Right => right[column.index],
                    JoinSide::Left | JoinSide::None => left[column.index],
                });
                self.filters.push(Filter {
                    expression: Arc::clone(filter.expression()),
                    columns: columns.collect(),
                    schema: Arc::clone(filter.schema()),
                });
            }
            let all = [left, right].concat();
            let output = match &join.projection {
                Some(projection) => projection.iter().map(|index| all[*index]).collect(),
                None => all,
            };
            return (Tree::Join(Box::new((left_tree, right_tree))), output);
        }
        if let Some(projection) = plan.downcast_ref::<ProjectionExec>()
            && is_inner_join_below(projection)
            && let Some(indices) = column_indices(projection)
        {
            let (tree, columns) = self.take_apart(projection.input());
            return (tree, indices.into_iter().map(|index| columns[index]).collect());
        }
        let input = self.inputs.len();
        self.inputs.push(Arc::clone(plan));
        let columns = (0..plan.schema().fields().len()).map(|index| InputColumn { input, index });
        (Tree::Input(input), columns.collect())
    }

    fn add_equality(&mut self, left: InputColumn, right: InputColumn) {
        let (mut joined, others): (Vec<_>, Vec<_>) = std::mem::take(&mut self.equal)
            .into_iter()
            .partition(|group: &Vec<InputColumn>| group.contains(&left) || group.contains(&right));
        joined.push(vec![left, right]);
        let mut group = joined.concat();
        group.sort_unstable();
        group.dedup();
        self.equal = others;
        self.equal.push(group);
    }

    /// What is `made` of the joins' `columns`, with the joins in the order that is expected to cost least; `None` if that is
    /// (almost) the order they have, or if it is not known how many rows an input has.
    fn in_best_order(
        &self,
        tree: &Tree,
        columns: &[InputColumn],
        made: Vec<ProjectionExpr>,
    ) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        if !(3..=INPUTS_MAX).contains(&self.inputs.len()) || !self.can_be_split() {
            return Ok(None);
        }
        let Some(estimates) = self.estimates() else { return Ok(None) };
        let sets = Sets::new(self, estimates);
        let Some(best) = sets.best_tree() else { return Ok(None) };
        let is_better = match (sets.cost(&best), sets.cost(tree)) {
            (Some(least), Some(cost)) => least < GAIN * cost,
            _ => false,
        };
        if !is_better {
            return Ok(None);
        }
        let used = made.iter().flat_map(|made| collect_columns(&made.expr));
        let output: Vec<InputColumn> = used.map(|column| columns[column.index()]).collect();
        let (joined, kept) = self.put_together(&best, &output)?;
        let schema = joined.schema();
        let moved = made.into_iter().map(|ProjectionExpr { expr, alias }| {
            let expr = move_columns(expr, |index| {
                let index = position(&kept, &columns[index]);
                Column::new(schema.field(index).name(), index)
            });
            ProjectionExpr { expr, alias }
        });
        Ok(Some(Arc::new(ProjectionExec::try_new(moved.collect::<Vec<_>>(), joined)?)))
    }

    /// Whether every condition falls to one join of any order: it is on columns of several inputs, and no input has two
    /// columns that are to be equal. A lambda's variables are numbered behind the columns of its condition, which change.
    fn can_be_split(&self) -> bool {
        let is_split = |group: &Vec<InputColumn>| group.windows(2).all(|pair| pair[0].input != pair[1].input);
        let has_lambda = |filter: &Filter| filter.expression.exists(|node| Ok(node.is::<LambdaVariable>()));
        let can_move = |filter: &Filter| filter.inputs().count_ones() > 1 && !has_lambda(filter).unwrap_or(true);
        self.equal.iter().all(is_split) && self.filters.iter().all(can_move)
    }

    /// What is expected of each input; `None` if it is not known of one.
    fn estimates(&self) -> Option<Vec<Estimate>> {
        let statistics = StatisticsContext::new();
        let estimate = |input: &Arc<dyn ExecutionPlan>| {
            let expected = statistics.compute(input.as_ref(), &StatisticsArgs::new()).ok()?;
            let mut estimate = Estimate::of(&expected)?;
            if let Some(filter) = input.downcast_ref::<FilterExec>() {
                let unfiltered = statistics.compute(filter.input().as_ref(), &StatisticsArgs::new()).ok()?;
                estimate.keep(filter.predicate(), &unfiltered);
            }
            Some(estimate)
        };
        self.inputs.iter().map(estimate).collect()
    }

    /// The column that stands for a group of equal ones in a set of inputs that has some of them.
    fn of_group(group: &[InputColumn], inputs: Inputs) -> Option<InputColumn> {
        group.iter().find(|column| inputs & (1 << column.input) != 0).copied()
    }

    /// The plan of a tree, and what its columns are: all that `output` and the joins and filters above it need.
    fn put_together(&self, tree: &Tree, output: &[InputColumn]) -> Result<(Arc<dyn ExecutionPlan>, Vec<InputColumn>)> {
        let (left_tree, right_tree) = match tree {
            Tree::Input(input) => {
                let plan = Arc::clone(&self.inputs[*input]);
                let columns = (0..plan.schema().fields().len()).map(|index| InputColumn { input: *input, index });
                return Ok((plan, columns.collect()));
            }
            Tree::Join(sides) => (&sides.0, &sides.1),
        };
        let (left_inputs, right_inputs) = (left_tree.inputs(), right_tree.inputs());
        let inputs = left_inputs | right_inputs;
        let (left, left_columns) = self.put_together(left_tree, output)?;
        let (right, right_columns) = self.put_together(right_tree, output)?;
        let key = |plan: &Arc<dyn ExecutionPlan>, columns: &[InputColumn], column: InputColumn| {
            let index = position(columns, &column);
            Arc::new(Column::new(plan.schema().field(index).name(), index)) as Arc<dyn PhysicalExpr>
        };
        let on = self.equal.iter().filter_map(|group| {
            let (l, r) = (Self::of_group(group, left_inputs)?, Self::of_group(group, right_inputs)?);
            Some((key(&left, &left_columns, l), key(&right, &right_columns, r)))
        });
        let on = on.collect();
        let here = |filter: &&Filter| {
            let needs = filter.inputs();
            needs & !inputs == 0 && needs & !left_inputs != 0 && needs & !right_inputs != 0
        };
        let filter = join_filter(self.filters.iter().filter(here), &left_columns, &right_columns);
        let all = [left_columns, right_columns].concat();
        let is_needed = |column: &InputColumn| {
            output.contains(column)
                || self.filters.iter().any(|filter| filter.inputs() & !inputs != 0 && filter.columns.contains(column))
                || self.equal.iter().any(|group| {
                    Self::of_group(group, inputs) == Some(*column) && Self::of_group(group, !inputs).is_some()
                })
        };
        let kept: Vec<usize> = (0..all.len()).filter(|index| is_needed(&all[*index])).collect();
        let columns = kept.iter().map(|index| all[*index]).collect();
        let join = HashJoinExecBuilder::new(left, right, on, JoinType::Inner)
            .with_filter(filter)
            .with_projection(Some(kept))
            .with_partition_mode(self.mode.unwrap_or(PartitionMode::Auto))
            .build_exec()?;
        Ok((join, columns))
    }
}

impl Tree {
    fn inputs(&self) -> Inputs {
        match self {
            Self::Input(input) => 1 << input,
            Self::Join(sides) => sides.0.inputs() | sides.1.inputs(),
        }
    }
}

fn is_inner_join_below(projection: &ProjectionExec) -> bool {
    match projection.input().downcast_ref::<ProjectionExec>() {
        Some(below) => is_inner_join_below(below),
        None => is_inner_join(projection.input()),
    }
}

/// What a projection takes from its input, if it only takes columns.
fn column_indices(projection: &ProjectionExec) -> Option<Vec<usize>> {
    projection.expr().iter().map(|expr| expr.expr.downcast_ref::<Column>().map(Column::index)).collect()
}

/// Where a column is that was kept.
fn position(columns: &[InputColumn], column: &InputColumn) -> usize {
    columns.iter().position(|other| other == column).expect("columns that are needed are kept")
}

/// The expression with each column replaced by what `moved` makes of its index.
fn move_columns(expression: Arc<dyn PhysicalExpr>, moved: impl Fn(usize) -> Column) -> Arc<dyn PhysicalExpr> {
    let moved = expression.transform(|node| match node.downcast_ref::<Column>() {
        Some(column) => Ok(Transformed::yes(Arc::new(moved(column.index())) as Arc<dyn PhysicalExpr>)),
        None => Ok(Transformed::no(node)),
    });
    moved.expect("columns are replaced without fail").data
}

/// All conditions as one, over the columns of two sides.
fn join_filter<'a>(
    filters: impl Iterator<Item = &'a Filter>,
    left: &[InputColumn],
    right: &[InputColumn],
) -> Option<JoinFilter> {
    let mut fields: Vec<Arc<Field>> = Vec::new();
    let mut columns = Vec::new();
    let mut expressions: Vec<Arc<dyn PhysicalExpr>> = Vec::new();
    for filter in filters {
        let offset = fields.len();
        expressions.push(move_columns(Arc::clone(&filter.expression), |index| {
            Column::new(filter.schema.field(index).name(), index + offset)
        }));
        fields.extend(filter.schema.fields().iter().cloned());
        columns.extend(filter.columns.iter().map(|column| match left.iter().position(|other| other == column) {
            Some(index) => ColumnIndex { index, side: JoinSide::Left },
            None => ColumnIndex { index: position(right, column), side: JoinSide::Right },
        }));
    }
    let all = |left, right| Arc::new(BinaryExpr::new(left, Operator::And, right)) as Arc<dyn PhysicalExpr>;
    let expression = expressions.into_iter().reduce(all)?;
    Some(JoinFilter::new(expression, columns, Arc::new(Schema::new(fields))))
}

/// What is expected of an input.
#[derive(Debug)]
struct Estimate {
    rows: f64,
    /// Distinct values of each column, where they are known.
    distinct: Vec<Option<f64>>,
}

impl Estimate {
    fn of(statistics: &Statistics) -> Option<Self> {
        let rows = (*statistics.num_rows.get_value()? as f64).max(1.0);
        Some(Self { rows, distinct: statistics.column_statistics.iter().map(distinct_values).collect() })
    }

    /// Takes what a filter keeps of its input into account if it looks at texts: with those DataFusion takes the whole filter
    /// to keep a fifth.
    fn keep(&mut self, predicate: &Arc<dyn PhysicalExpr>, unfiltered: &Statistics) {
        let conditions = split_conjunction(predicate);
        let of_texts = |condition: &&Arc<dyn PhysicalExpr>| {
            condition.exists(|node| Ok(node.is::<LikeExpr>() || is_text(node))).unwrap_or(false)
        };
        if let Some(rows) = unfiltered.num_rows.get_value()
            && conditions.iter().any(of_texts)
        {
            let kept: f64 = conditions.into_iter().map(|condition| selectivity(condition, unfiltered)).product();
            self.rows = (*rows as f64 * kept).max(1.0);
        }
    }
}

fn is_text(expression: &Arc<dyn PhysicalExpr>) -> bool {
    let literal = expression.downcast_ref::<Literal>();
    literal.is_some_and(|literal| matches!(literal.value().data_type(), DataType::Utf8 | DataType::Utf8View))
}

/// Sets of inputs that joins connect, and what is expected of each.
struct Sets<'a> {
    joins: &'a Joins,
    estimates: Vec<Estimate>,
    /// Rows of each set; `None` where only a cross join would make it.
    rows: Vec<Option<f64>>,
}

impl<'a> Sets<'a> {
    fn new(joins: &'a Joins, estimates: Vec<Estimate>) -> Self {
        let count = 1 << joins.inputs.len();
        let mut sets = Self { joins, estimates, rows: vec![None; count] };
        for inputs in 1..count {
            sets.rows[inputs] = match inputs.is_power_of_two() {
                true => Some(sets.estimates[inputs.trailing_zeros() as usize].rows),
                // Which split the estimate comes from makes a difference only where several columns join; the greatest errs
                // on the safe side.
                false => splits(inputs).filter_map(|left| sets.joined_rows(left, inputs & !left)).reduce(f64::max),
            };
        }
        sets
    }

    /// Rows of the join of two sets; `None` if nothing joins them.
    fn joined_rows(&self, left: Inputs, right: Inputs) -> Option<f64> {
        let (left_rows, right_rows) = (self.rows[left]?, self.rows[right]?);
        let (mut product, mut greatest, mut keys) = (1.0, 1.0_f64, Vec::new());
        for group in &self.joins.equal {
            if Joins::of_group(group, left).is_none() || Joins::of_group(group, right).is_none() {
                continue;
            }
            let values = match (self.distinct(group, left, left_rows), self.distinct(group, right, right_rows)) {
                (Some(l), Some(r)) => l.max(r),
                (Some(known), None) | (None, Some(known)) => known,
                // As if the side with fewer rows had each value once, and the other referred to it.
                (None, None) => left_rows.min(right_rows),
            };
            product *= values;
            greatest = greatest.max(values);
            keys.push(group.as_slice());
        }
        let values = match (keys.len(), self.key_rows(&keys, left), self.key_rows(&keys, right)) {
            (0, ..) => return None,
            // Columns of one table that refer to several of another have no more values together than that has rows.
            (2.., Some(l), Some(r)) => product.min(l.min(r)).max(greatest),
            _ => product,
        };
        let filters = self.joins.filters.iter().filter(|filter| {
            let needs = filter.inputs();
            needs & !(left | right) == 0 && needs & !left != 0 && needs & !right != 0
        });
        let kept = FILTER_SELECTIVITY.powi(i32::try_from(filters.count()).unwrap_or(i32::MAX));
        Some((left_rows * right_rows / values * kept).max(1.0))
    }

    /// Rows of the smallest input of a set that has a column in each of the groups.
    fn key_rows(&self, groups: &[&[InputColumn]], inputs: Inputs) -> Option<f64> {
        let is_in = |input: usize, group: &&[InputColumn]| group.iter().any(|column| column.input == input);
        let of_set = (0..self.estimates.len()).filter(|input| inputs & (1 << input) != 0);
        let with_all = of_set.filter(|input| groups.iter().all(|group| is_in(*input, group)));
        with_all.map(|input| self.estimates[input].rows).reduce(f64::min)
    }

    /// Distinct values of a group of equal columns in a set, if they are known of any of them.
    fn distinct(&self, group: &[InputColumn], inputs: Inputs, rows: f64) -> Option<f64> {
        let in_set = group.iter().filter(|column| inputs & (1 << column.input) != 0);
        let known = in_set.filter_map(|column| self.estimates[column.input].distinct[column.index]);
        known.map(|values| values.min(rows)).reduce(f64::min)
    }

    /// The cheapest tree of all inputs; `None` if it needs a cross join.
    fn best_tree(&self) -> Option<Tree> {
        let all = self.rows.len() - 1;
        let mut best: Vec<Option<(f64, Inputs)>> = vec![None; self.rows.len()];
        for inputs in 1..=all {
            if inputs.is_power_of_two() {
                best[inputs] = Some((0.0, 0));
                continue;
            }
            for left in splits(inputs) {
                let right = inputs & !left;
                let (Some((left_cost, _)), Some((right_cost, _))) = (best[left], best[right]) else { continue };
                let Some(join_cost) = self.join_cost(left, right) else { continue };
                let cost = left_cost + right_cost + join_cost;
                if best[inputs].is_none_or(|(least, _)| cost < least) {
                    best[inputs] = Some((cost, left));
                }
            }
        }
        fn tree(best: &[Option<(f64, Inputs)>], inputs: Inputs) -> Option<Tree> {
            if inputs.is_power_of_two() {
                return Some(Tree::Input(inputs.trailing_zeros() as usize));
            }
            let (_, left) = best[inputs]?;
            Some(Tree::Join(Box::new((tree(best, left)?, tree(best, inputs & !left)?))))
        }
        tree(&best, all)
    }

    /// What joining two sets costs beyond making them, in rows looked up: the smaller is hashed, and rows come out.
    fn join_cost(&self, left: Inputs, right: Inputs) -> Option<f64> {
        let (built, probed) = (self.rows[left]?, self.rows[right]?);
        let is_in_both = |group: &Vec<_>| [left, right].iter().all(|side| Joins::of_group(group, *side).is_some());
        let can_join = built <= probed && self.joins.equal.iter().any(is_in_both);
        can_join.then_some(BUILD_COST * built + probed + self.rows[left | right]?)
    }

    /// What a tree costs, whichever sides it hashes: DataFusion swaps them later.
    fn cost(&self, tree: &Tree) -> Option<f64> {
        let Tree::Join(sides) = tree else { return Some(0.0) };
        let (left, right) = (sides.0.inputs(), sides.1.inputs());
        let join = self.join_cost(left, right).or_else(|| self.join_cost(right, left))?;
        Some(self.cost(&sides.0)? + self.cost(&sides.1)? + join)
    }
}

/// All ways to take a part from a set and leave some.
fn splits(inputs: Inputs) -> impl Iterator<Item = Inputs> {
    let smaller = move |left: &Inputs| Some((left - 1) & inputs).filter(|left| *left != 0);
    std::iter::successors(smaller(&inputs), smaller)
}

#[cfg(test)]
mod tests;
