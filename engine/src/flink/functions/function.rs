//! What functions of values have in common: all but what they do with columns.

use std::hash::{Hash, Hasher};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Int64Type};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};

/// Columns of arguments, in one of the function's forms, to the column of its values.
type Invoke = fn(&[ArrayRef]) -> Result<ArrayRef>;
/// Types of arguments to those that they are cast to.
type Coerce = fn(&[DataType]) -> Result<Vec<DataType>>;

#[derive(Debug)]
struct Function {
    name: &'static str,
    signature: Signature,
    coerce: Option<Coerce>,
    result: DataType,
    invoke: Invoke,
}

/// A function that takes arguments of these types, in one form or another.
pub(super) fn function(name: &'static str, forms: &[&[DataType]], result: DataType, invoke: Invoke) -> ScalarUDF {
    let signature = match forms {
        [form] => Signature::exact(form.to_vec(), Volatility::Immutable),
        forms => {
            let forms = forms.iter().map(|form| TypeSignature::Exact(form.to_vec()));
            Signature::one_of(forms.collect(), Volatility::Immutable)
        }
    };
    ScalarUDF::from(Function { name, signature, coerce: None, result, invoke })
}

/// A function that says itself what it takes.
pub(super) fn coercing(name: &'static str, coerce: Coerce, result: DataType, invoke: Invoke) -> ScalarUDF {
    let signature = Signature::user_defined(Volatility::Immutable);
    ScalarUDF::from(Function { name, signature, coerce: Some(coerce), result, invoke })
}

/// The number of a row, if there is a column of them; the usual one otherwise.
pub(super) fn number_at(numbers: &[ArrayRef], row: usize, usual: i64) -> Option<i64> {
    let Some(numbers) = numbers.first() else { return Some(usual) };
    let numbers = numbers.as_primitive::<Int64Type>();
    numbers.is_valid(row).then(|| numbers.value(row))
}

/// The text of a row, if there is a column of them; the usual one otherwise.
pub(super) fn text_at<'a>(texts: &'a [ArrayRef], row: usize, usual: &'a str) -> Option<&'a str> {
    let Some(texts) = texts.first() else { return Some(usual) };
    let texts = texts.as_string::<i32>();
    texts.is_valid(row).then(|| texts.value(row))
}

/// No two have one name.
impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Function {}

impl Hash for Function {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name.hash(state);
    }
}

impl ScalarUDFImpl for Function {
    fn name(&self) -> &str {
        self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match self.coerce {
            Some(coerce) => coerce(types),
            None => internal_err!("{} has forms of its own", self.name),
        }
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(self.result.clone())
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        (self.invoke)(&arrays).map(ColumnarValue::Array)
    }
}
