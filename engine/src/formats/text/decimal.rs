//! Texts to decimals, as Java's `BigDecimal` reads them: with an exponent too, and with no blanks around.

use arrow::array::{Decimal128Array, StringArray};
use arrow::error::ArrowError;

use super::Rules;

/// A column of decimals. What is no decimal, or has too many digits before the point, is NULL to Hive and Spark, and an error in
/// other CSV; what has too many after it is rounded.
pub(super) fn column(
    texts: &StringArray,
    precision: u8,
    scale: i8,
    rules: Rules,
) -> Result<Decimal128Array, ArrowError> {
    let value = |text: &str| match rules {
        Rules::Hive => Ok(decimal(text, precision, scale)),
        // Between thousands, and wherever else it stands.
        Rules::Spark => Ok(decimal(&text.replace(',', ""), precision, scale)),
        Rules::Csv | Rules::OpenCsv => decimal(text.trim(), precision, scale)
            .map(Some)
            .ok_or_else(|| ArrowError::CastError(format!("'{text}' is no decimal({precision},{scale})"))),
    };
    let values: Vec<Option<i128>> = texts.iter().map(|text| text.map_or(Ok(None), value)).collect::<Result<_, _>>()?;
    Decimal128Array::from(values).with_precision_and_scale(precision, scale)
}

/// The value of `text` in units of its last digit after the point; halves are rounded away from zero.
fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (number, is_negative) = match number.strip_prefix('-') {
        Some(number) => (number, true),
        None => (number.strip_prefix('+').unwrap_or(number), false),
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = || whole.bytes().chain(fraction.bytes());
    let digit_count = whole.len() + fraction.len();
    if digit_count == 0 || !digits().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    // Digits after the last that is wanted; zeros that are missing before it, if there are fewer than none.
    let beyond = i64::try_from(fraction.len()).ok()? - i64::from(exponent) - i64::from(scale);
    let wanted = i64::try_from(digit_count).ok()? - beyond.max(0);
    let mut value: i128 = 0;
    let mut push = |digit: u8| -> Option<()> {
        value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
        Some(())
    };
    digits().take(usize::try_from(wanted).unwrap_or(0)).try_for_each(&mut push)?;
    let has_others_than_zeros = digits().any(|digit| digit != b'0');
    if has_others_than_zeros {
        (beyond..0).try_for_each(|_| push(b'0'))?;
    }
    let first_beyond = usize::try_from(wanted).ok().and_then(|wanted| digits().nth(wanted));
    if first_beyond.is_some_and(|digit| digit >= b'5') {
        value = value.checked_add(1)?;
    }
    let is_in_range = value < 10_i128.checked_pow(u32::from(precision))?;
    is_in_range.then_some(if is_negative { -value } else { value })
}
