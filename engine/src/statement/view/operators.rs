//! Operators of other systems whose meaning hangs on the types of what they are between, which are known when DataFusion plans.
//!
//! Division of Hive and Spark: `/` of integers is a DOUBLE, `DIV` an integer, and by zero it is NULL or, in ANSI mode, an error.
//! Presto's cast of a number to an integer rounds it where DataFusion's cuts it off; [`PRESTOS_CAST`] stands for it in a tree.

use arrow::datatypes::DataType;
use datafusion::common::{DFSchema, Result, not_impl_err};
use datafusion::functions::core::expr_fn::nullif;
use datafusion::functions::math::expr_fn::round;
use datafusion::logical_expr::expr_fn::{cast, try_cast, when};
use datafusion::logical_expr::planner::{ExprPlanner, PlannerResult, RawBinaryExpr};
use datafusion::logical_expr::{Expr, ExprSchemable, Operator, binary_expr, lit};
use datafusion::scalar::ScalarValue;
use datafusion::sql::sqlparser::ast::BinaryOperator;

/// The operator between a value and the name of the type that it is cast to.
pub(super) const PRESTOS_CAST: &str = "PRESTO CAST";
/// The same, with NULL for what cannot be cast.
pub(super) const PRESTOS_TRY_CAST: &str = "PRESTO TRY_CAST";

/// Plans the divisions of a view of Hive or Spark.
#[derive(Debug)]
pub(super) struct SparkDivision {
    pub(super) is_ansi: bool,
}

impl ExprPlanner for SparkDivision {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let is_whole = match expr.op {
            BinaryOperator::Divide => false,
            BinaryOperator::MyIntegerDivide => true,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let (left, right) = (expr.left.get_type(schema)?, expr.right.get_type(schema)?);
        let any = |is: fn(&DataType) -> bool| is(&left) || is(&right);
        if any(DataType::is_decimal) && !any(DataType::is_floating) && !is_whole {
            return not_impl_err!("a division of decimals, whose digits Spark and Hive count otherwise");
        }
        let of = if is_whole { DataType::Int64 } else { DataType::Float64 };
        let divided = cast(expr.left, of.clone());
        if !self.is_ansi {
            let divisor = nullif(cast(expr.right, of.clone()), cast(lit(0_i64), of));
            return Ok(PlannerResult::Planned(binary_expr(divided, Operator::Divide, divisor)));
        }
        let divisor = cast(expr.right, of.clone());
        let quotient = binary_expr(divided, Operator::Divide, divisor.clone());
        if is_whole {
            return Ok(PlannerResult::Planned(quotient));
        }
        // Integers know the error.
        let refused = binary_expr(lit(1_i64), Operator::Divide, cast(divisor.clone(), DataType::Int64));
        let guarded = when(divisor.eq(lit(0_f64)), cast(refused, of)).otherwise(quotient)?;
        Ok(PlannerResult::Planned(guarded))
    }
}

/// Plans the casts of a view of Presto.
#[derive(Debug)]
pub(super) struct PrestoCast;

impl ExprPlanner for PrestoCast {
    fn plan_binary_op(&self, expr: RawBinaryExpr, schema: &DFSchema) -> Result<PlannerResult<RawBinaryExpr>> {
        let cast = match &expr.op {
            BinaryOperator::Custom(name) if name == PRESTOS_CAST => cast,
            BinaryOperator::Custom(name) if name == PRESTOS_TRY_CAST => try_cast,
            _ => return Ok(PlannerResult::Original(expr)),
        };
        let Expr::Literal(ScalarValue::Utf8(Some(name)), _) = &expr.right else {
            return Ok(PlannerResult::Original(expr));
        };
        let of = match name.as_str() {
            "tinyint" => DataType::Int8,
            "smallint" => DataType::Int16,
            "integer" => DataType::Int32,
            _ => DataType::Int64,
        };
        let from = expr.left.get_type(schema)?;
        let is_fraction = from.is_floating() || from.is_decimal();
        let value = if is_fraction { round(vec![expr.left]) } else { expr.left };
        Ok(PlannerResult::Planned(cast(value, of)))
    }
}
