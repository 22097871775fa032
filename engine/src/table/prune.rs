//! Which partitions a query reads, decided on the values that the catalog keeps.
//!
//! A predicate on partition keys alone is evaluated here, once for each partition, and never again for each row. What the
//! catalog can compare by itself (texts that a text key must be equal to) goes along with the request for partitions;
//! everything else is decided on the partitions' names or on what the catalog returned.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::and_kleene;
use arrow::datatypes::{DataType, FieldRef, Schema};
use datafusion::catalog::Session;
use datafusion::common::DFSchema;
use datafusion::common::tree_node::TreeNode;
use datafusion::datasource::listing::helpers::expr_applicable_for_cols;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator};
use datafusion::physical_plan::PhysicalExpr;
use datafusion::scalar::ScalarValue;
use tereza_catalog::store::PartitionFilter;
use tereza_runtime::{Error, Result};

use crate::error::from_datafusion;
use crate::types::partition_scalar;

/// Values that a key is compared with in the catalog at most; more are compared here.
const TEXTS_MAX: usize = 1000;

/// The part of a query's predicates that concerns partition keys alone.
#[derive(Debug)]
pub(super) struct Pruner {
    keys: Vec<FieldRef>,
    predicates: Vec<Arc<dyn PhysicalExpr>>,
    /// For each key the texts that its value must be one of, where the predicates tell.
    texts: Vec<Option<BTreeSet<String>>>,
}

/// Whether `filter` can be decided on the values of `keys` alone, the same for every row of a partition.
pub(super) fn is_on_keys(keys: &[FieldRef], filter: &Expr) -> bool {
    let names: Vec<&str> = keys.iter().map(|key| key.name().as_str()).collect();
    let needs_a_query = |expr: &Expr| {
        Ok(matches!(
            expr,
            Expr::Exists(_)
                | Expr::InSubquery(_)
                | Expr::ScalarSubquery(_)
                | Expr::SetComparison(_)
                | Expr::OuterReferenceColumn(_, _)
                | Expr::ScalarVariable(_, _)
        ))
    };
    !keys.is_empty() && expr_applicable_for_cols(&names, filter) && !filter.exists(needs_a_query).unwrap_or(true)
}

impl Pruner {
    /// The pruner of `filters`; those that are not on keys alone are left to the scan.
    pub(super) fn new(state: &dyn Session, keys: &[FieldRef], filters: &[Expr]) -> Result<Self> {
        let filters: Vec<&Expr> = filters.iter().filter(|filter| is_on_keys(keys, filter)).collect();
        let schema = Schema::new(keys.to_vec());
        let schema = DFSchema::try_from(schema).map_err(from_datafusion)?;
        let predicates = filters
            .iter()
            .map(|filter| state.create_physical_expr((*filter).clone(), &schema).map_err(from_datafusion))
            .collect::<Result<_>>()?;
        let texts = keys.iter().map(|key| texts_of_all(&filters, key)).collect();
        Ok(Self { keys: keys.to_vec(), predicates, texts })
    }

    /// Whether every partition is read.
    pub(super) fn takes_all(&self) -> bool {
        self.predicates.is_empty()
    }

    /// Number of partition keys.
    pub(super) fn key_count(&self) -> usize {
        self.keys.len()
    }

    /// What the catalog can compare by itself; `None` if that is nothing.
    pub(super) fn text_filter(&self) -> Option<PartitionFilter> {
        let values = self.texts.iter().map(|texts| texts.as_ref().map(|texts| texts.iter().cloned().collect()));
        self.texts.iter().any(Option::is_some).then(|| PartitionFilter { values: values.collect() })
    }

    /// The values of the partition keys of each partition that is read, `None` for the others, in the given order.
    pub(super) fn select(&self, partitions: &[&[String]]) -> Result<Vec<Option<Vec<ScalarValue>>>> {
        let values: Vec<Vec<ScalarValue>> = partitions.iter().map(|texts| self.values(texts)).collect::<Result<_>>()?;
        if self.takes_all() || values.is_empty() {
            return Ok(values.into_iter().map(Some).collect());
        }
        let columns = (0..self.keys.len())
            .map(|key| ScalarValue::iter_to_array(values.iter().map(|row| row[key].clone())).map_err(from_datafusion))
            .collect::<Result<Vec<_>>>()?;
        let batch = RecordBatch::try_new(Arc::new(Schema::new(self.keys.clone())), columns)
            .map_err(|error| from_datafusion(error.into()))?;
        let mut keep: Option<arrow::array::BooleanArray> = None;
        for predicate in &self.predicates {
            let answer = predicate
                .evaluate(&batch)
                .and_then(|answer| answer.into_array(values.len()))
                .map_err(from_datafusion)?;
            let answer = answer
                .as_boolean_opt()
                .ok_or_else(|| Error::internal(format!("predicate {predicate} is not a boolean")))?;
            keep = Some(match keep {
                Some(keep) => and_kleene(&keep, answer).map_err(|error| from_datafusion(error.into()))?,
                None => answer.clone(),
            });
        }
        let keep = keep.ok_or_else(|| Error::internal("no predicate was evaluated"))?;
        // A predicate that is NULL for a partition is not true for it.
        let is_kept = |row: usize| keep.is_valid(row) && keep.value(row);
        Ok(values.into_iter().enumerate().map(|(row, values)| is_kept(row).then_some(values)).collect())
    }

    fn values(&self, texts: &[String]) -> Result<Vec<ScalarValue>> {
        if texts.len() != self.keys.len() {
            return Err(Error::internal(format!("a partition of {} values for {} keys", texts.len(), self.keys.len())));
        }
        texts
            .iter()
            .zip(&self.keys)
            .map(|(text, key)| {
                partition_scalar(text, key.data_type()).map_err(|error| error.context(format!("key '{}'", key.name())))
            })
            .collect()
    }
}

/// The texts that a text key must be one of. Other types have several texts for one value (`3` and `03`).
fn texts_of_all(filters: &[&Expr], key: &FieldRef) -> Option<BTreeSet<String>> {
    if !matches!(key.data_type(), DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) {
        return None;
    }
    let texts = filters.iter().filter_map(|filter| texts_of(filter, key.name()));
    texts.reduce(|left, right| &left & &right).filter(|texts| texts.len() <= TEXTS_MAX)
}

/// The values that column `key` has at most where `filter` is true; `None` if the filter does not tell.
fn texts_of(filter: &Expr, key: &str) -> Option<BTreeSet<String>> {
    let is_key = |expr: &Expr| matches!(expr, Expr::Column(column) if column.name == key);
    match filter {
        Expr::Alias(alias) => texts_of(&alias.expr, key),
        Expr::BinaryExpr(BinaryExpr { left, op, right }) => match op {
            Operator::Eq if is_key(left) => Some(BTreeSet::from([text(right)?])),
            Operator::Eq if is_key(right) => Some(BTreeSet::from([text(left)?])),
            Operator::And => match (texts_of(left, key), texts_of(right, key)) {
                (Some(left), Some(right)) => Some(&left & &right),
                (left, right) => left.or(right),
            },
            Operator::Or => Some(&texts_of(left, key)? | &texts_of(right, key)?),
            _ => None,
        },
        Expr::InList(list) if !list.negated && is_key(&list.expr) => list.list.iter().map(text).collect(),
        _ => None,
    }
}

fn text(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str()?.map(str::to_owned),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
