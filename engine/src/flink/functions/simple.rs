//! Functions that are other expressions: `MOD(a, b)` is `a % b`, `HOUR(t)` a part of a time.

use arrow::datatypes::DataType;
use datafusion::common::{Result, exec_err, plan_err};
use datafusion::functions::expr_fn::date_part;
use datafusion::logical_expr::simplify::{ExprSimplifyResult, SimplifyContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, Operator, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility, binary_expr,
    cast, lit, when,
};

pub(super) fn functions() -> impl Iterator<Item = ScalarUDF> {
    use Form::{If, Mod, Part};
    [
        ("mod", Mod),
        ("if", If),
        ("year", Part("year")),
        ("quarter", Part("quarter")),
        ("month", Part("month")),
        ("week", Part("week")),
        ("dayofyear", Part("doy")),
        ("dayofmonth", Part("day")),
        ("dayofweek", Part("dow")),
        ("hour", Part("hour")),
        ("minute", Part("minute")),
        ("second", Part("second")),
    ]
    .into_iter()
    .map(|(name, form)| ScalarUDF::from(Simple::new(name, form)))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Form {
    /// `MOD(a, b)`
    Mod,
    /// `IF(condition, a, b)`
    If,
    /// The part of this name of a time, as BIGINT.
    Part(&'static str),
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Simple {
    name: &'static str,
    form: Form,
    signature: Signature,
}

impl Simple {
    fn new(name: &'static str, form: Form) -> Self {
        Self { name, form, signature: Signature::user_defined(Volatility::Immutable) }
    }
}

impl ScalarUDFImpl for Simple {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        let name = self.name;
        match (self.form, types) {
            (Form::Mod, [one, other]) => {
                match datafusion::logical_expr::type_coercion::binary::type_union_coercion(one, other) {
                    Some(both) if both.is_numeric() => Ok(vec![both.clone(), both]),
                    _ => plan_err!("{name} of {one} and {other}"),
                }
            }
            (Form::If, [_, one, other]) => {
                match datafusion::logical_expr::type_coercion::binary::type_union_coercion(one, other) {
                    Some(both) => Ok(vec![DataType::Boolean, both.clone(), both]),
                    None => plan_err!("{name}: one of {one} and {other} would be the result"),
                }
            }
            (Form::Part(_), [time @ (DataType::Timestamp(_, _) | DataType::Date32)]) => Ok(vec![time.clone()]),
            (Form::Part(_), [other]) => plan_err!("{name} of a value of type {other}, which is no time"),
            _ => plan_err!("{name} with {} arguments", types.len()),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        match (self.form, types) {
            (Form::Mod, [both, _]) | (Form::If, [_, both, _]) => Ok(both.clone()),
            (Form::Part(_), _) => Ok(DataType::Int64),
            _ => plan_err!("{} with {} arguments", self.name, types.len()),
        }
    }

    fn simplify(&self, arguments: Vec<Expr>, _: &SimplifyContext) -> Result<ExprSimplifyResult> {
        let simple = match (self.form, arguments.as_slice()) {
            (Form::Mod, [one, other]) => binary_expr(one.clone(), Operator::Modulo, other.clone()),
            (Form::If, [condition, one, other]) => when(condition.clone(), one.clone()).otherwise(other.clone())?,
            // Sunday is 1.
            (Form::Part("dow"), [time]) => cast(date_part(lit("dow"), time.clone()), DataType::Int64) + lit(1_i64),
            (Form::Part(part), [time]) => cast(date_part(lit(part), time.clone()), DataType::Int64),
            _ => return Ok(ExprSimplifyResult::Original(arguments)),
        };
        Ok(ExprSimplifyResult::Simplified(simple))
    }

    fn invoke_with_args(&self, _: ScalarFunctionArgs) -> Result<ColumnarValue> {
        exec_err!("{} was not made simple", self.name)
    }
}
