//! Values as text, in the forms of Flink, which are those of Java: dates and times (`java.time`), decimals (`BigDecimal`)
//! and floating-point numbers (`Double.toString`).

use std::io::Write;

use arrow::datatypes::TimeUnit;

use super::column::per_second;

const SECONDS_PER_DAY: i64 = 86_400;
const NANOS_PER_SECOND: i64 = 1_000_000_000;
/// Digits that a decimal has at most.
const DECIMAL_DIGITS: usize = 38;
/// Powers of ten beyond this make any number zero or too large.
const EXPONENT_MAX: i64 = 1_000_000;

/// How a timestamp is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimestampForm {
    /// `2020-01-31 12:00:00.5`, with `Z` after a timestamp with a zone.
    Sql,
    /// `2020-01-31T12:00:00.5`, with `Z` after a timestamp with a zone. Seconds may be left out when read.
    Iso8601,
}

/// The days from 1970-01-01 to a day of the proleptic Gregorian calendar; days beyond the month's run on.
fn days_of(year: i64, month: i64, day: i64) -> i64 {
    // Years begin in March, so that the odd day is the last one.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The year, month and day of a day.
fn date_of(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (era * 400 + year_of_era + i64::from(month <= 2), month, day)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Reads a text from its front.
struct Scan<'a> {
    rest: &'a [u8],
}

impl<'a> Scan<'a> {
    fn new(text: &'a str) -> Self {
        Self { rest: text.as_bytes() }
    }

    fn eat(&mut self, byte: u8) -> Option<()> {
        self.rest = self.rest.strip_prefix(&[byte])?;
        Some(())
    }

    fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// The digits at the front, at most `max`.
    fn digits(&mut self, max: usize) -> &'a [u8] {
        let count = self.rest.iter().take(max).take_while(|byte| byte.is_ascii_digit()).count();
        let (digits, rest) = self.rest.split_at(count);
        self.rest = rest;
        digits
    }

    /// A number of exactly `count` digits.
    fn number(&mut self, count: usize) -> Option<i64> {
        let digits = self.digits(count);
        (digits.len() == count).then(|| number(digits))
    }

    fn end(&self) -> Option<()> {
        self.rest.is_empty().then_some(())
    }

    /// Four digits, or a sign with four to ten of them; more than four need the sign.
    fn year(&mut self) -> Option<i64> {
        let sign = match self.peek()? {
            b'-' => Some(-1),
            b'+' => Some(1),
            _ => None,
        };
        let Some(sign) = sign else { return self.number(4) };
        self.rest = &self.rest[1..];
        let digits = self.digits(10);
        let is_long = digits.len() > 4;
        (is_long || (digits.len() == 4 && sign < 0)).then(|| sign * number(digits))
    }

    /// `yyyy-MM-dd` as its parts; the day may be beyond the month's.
    fn date(&mut self) -> Option<(i64, i64, i64)> {
        let year = self.year()?;
        self.eat(b'-')?;
        let month = self.number(2)?;
        self.eat(b'-')?;
        let day = self.number(2)?;
        ((1..=12).contains(&month) && (1..=31).contains(&day)).then_some((year, month, day))
    }

    /// `HH:mm:ss[.fffffffff]`, as seconds of the day and nanoseconds. 24:00:00 is a time too.
    fn time(&mut self, seconds: Seconds) -> Option<(i64, i64)> {
        let hours = self.number(2)?;
        self.eat(b':')?;
        let minutes = self.number(2)?;
        let mut of_minute = 0;
        let mut nanos = 0;
        if seconds == Seconds::Needed || self.peek() == Some(b':') {
            self.eat(b':')?;
            of_minute = self.number(2)?;
            if self.eat(b'.').is_some() {
                let digits = self.digits(9);
                let scale = (digits.len()..9).fold(1, |scale, _| scale * 10);
                nanos = number(digits) * scale;
            }
        }
        let is_time = hours <= 23 && minutes <= 59 && of_minute <= 59;
        let is_end = hours == 24 && minutes == 0 && of_minute == 0 && nanos == 0;
        (is_time || is_end).then_some(((hours * 60 + minutes) * 60 + of_minute, nanos))
    }
}

/// Whether a time has to say its seconds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seconds {
    Needed,
    Optional,
}

fn number(digits: &[u8]) -> i64 {
    digits.iter().fold(0, |sum, digit| sum * 10 + i64::from(digit - b'0'))
}

/// A day as days since 1970-01-01, from `yyyy-MM-dd`.
pub(crate) fn parse_date(text: &str) -> Option<i64> {
    let mut scan = Scan::new(text);
    let (year, month, day) = scan.date()?;
    scan.end()?;
    (day <= days_in_month(year, month)).then(|| days_of(year, month, day))
}

/// A day as `java.sql.Date` reads it: months and days may have one digit, days beyond the month's run on.
pub(crate) fn parse_sql_date(text: &str) -> Option<i64> {
    let mut scan = Scan::new(text);
    let year = scan.number(4)?;
    scan.eat(b'-')?;
    let month = number(some(scan.digits(2))?);
    scan.eat(b'-')?;
    let day = number(some(scan.digits(2))?);
    scan.end()?;
    ((1..=12).contains(&month) && (1..=31).contains(&day)).then(|| days_of(year, month, day))
}

fn some(digits: &[u8]) -> Option<&[u8]> {
    (!digits.is_empty()).then_some(digits)
}

/// Nanoseconds since midnight, from `HH:mm:ss[.fffffffff]`; 24:00:00 is midnight.
pub(crate) fn parse_time(text: &str) -> Option<i64> {
    let mut scan = Scan::new(text);
    let (seconds, nanos) = scan.time(Seconds::Needed)?;
    scan.end()?;
    Some(seconds % SECONDS_PER_DAY * NANOS_PER_SECOND + nanos)
}

/// Nanoseconds since midnight, from `HH:mm[:ss[.fffffffff]]`.
pub(crate) fn parse_iso_time(text: &str) -> Option<i64> {
    let mut scan = Scan::new(text);
    let (seconds, nanos) = scan.time(Seconds::Optional)?;
    scan.end()?;
    (seconds < SECONDS_PER_DAY).then_some(seconds * NANOS_PER_SECOND + nanos)
}

/// Units since 1970-01-01 00:00:00, cut to whole ones. None: not of the form, or not in 64 bits.
///
/// All but ISO-8601 without a zone is read as `java.time` does when it is *smart*: the 31st of a shorter month is its last
/// day, and 24:00:00 begins the next day.
pub(crate) fn parse_timestamp(text: &str, form: TimestampForm, is_zoned: bool, unit: TimeUnit) -> Option<i64> {
    let mut scan = Scan::new(text);
    let is_smart = form == TimestampForm::Sql || is_zoned;
    let (year, month, day) = scan.date()?;
    let last = days_in_month(year, month);
    if day > last && !is_smart {
        return None;
    }
    let seconds = match form {
        TimestampForm::Sql => {
            scan.eat(b' ')?;
            Seconds::Needed
        }
        TimestampForm::Iso8601 => {
            scan.eat(b'T').or_else(|| (!is_zoned).then(|| scan.eat(b't')).flatten())?;
            Seconds::Optional
        }
    };
    let (seconds, nanos) = scan.time(seconds)?;
    if seconds == SECONDS_PER_DAY && !is_smart {
        return None;
    }
    if is_zoned {
        scan.eat(b'Z')?;
    }
    scan.end()?;
    let seconds = days_of(year, month, day.min(last)) * SECONDS_PER_DAY + seconds;
    let per = per_second(unit);
    seconds.checked_mul(per)?.checked_add(nanos / (NANOS_PER_SECOND / per))
}

/// Writes `yyyy-MM-dd`.
pub(crate) fn write_date(out: &mut Vec<u8>, days: i64) {
    let (year, month, day) = date_of(days);
    match year {
        0..=9_999 => push_padded(out, year, 4),
        10_000.. => {
            out.push(b'+');
            push_padded(out, year, 5);
        }
        _ => {
            out.push(b'-');
            push_padded(out, -year, 4);
        }
    }
    out.push(b'-');
    push_padded(out, month, 2);
    out.push(b'-');
    push_padded(out, day, 2);
}

/// Writes `HH:mm:ss`, with the fraction if there is one, without zeros at its end.
pub(crate) fn write_time(out: &mut Vec<u8>, units: i64, unit: TimeUnit) {
    let per = per_second(unit);
    let (seconds, fraction) = (units.div_euclid(per), units.rem_euclid(per));
    push_padded(out, seconds / 3_600, 2);
    out.push(b':');
    push_padded(out, seconds / 60 % 60, 2);
    out.push(b':');
    push_padded(out, seconds % 60, 2);
    let nanos = fraction * (NANOS_PER_SECOND / per);
    if nanos > 0 {
        out.push(b'.');
        push_padded(out, nanos, 9);
        let zeros = out.iter().rev().take_while(|byte| **byte == b'0').count();
        out.truncate(out.len() - zeros);
    }
}

/// Writes a timestamp in a form.
pub(crate) fn write_timestamp(out: &mut Vec<u8>, units: i64, unit: TimeUnit, form: TimestampForm, is_zoned: bool) {
    let per_day = per_second(unit) * SECONDS_PER_DAY;
    write_date(out, units.div_euclid(per_day));
    out.push(if form == TimestampForm::Sql { b' ' } else { b'T' });
    write_time(out, units.rem_euclid(per_day), unit);
    if is_zoned {
        out.push(b'Z');
    }
}

fn push_padded(out: &mut Vec<u8>, value: i64, width: usize) {
    push_display(out, format_args!("{value:0width$}"));
}

/// Writes to memory, which does not fail.
pub(crate) fn push_display(out: &mut Vec<u8>, text: std::fmt::Arguments<'_>) {
    out.write_fmt(text).unwrap_or_default();
}

/// The digits of a decimal of a precision and a scale, rounded half up. `Some(None)` is a number that has more digits before
/// its point than fit, which Flink takes for NULL; `None` is no number.
pub(crate) fn parse_decimal(text: &str, precision: u8, scale: i8) -> Option<Option<i128>> {
    let bytes = text.as_bytes();
    let (is_negative, rest) = match bytes.first()? {
        b'-' => (true, &bytes[1..]),
        b'+' => (false, &bytes[1..]),
        _ => (false, bytes),
    };
    let mantissa_len = rest.iter().position(|byte| matches!(byte, b'e' | b'E')).unwrap_or(rest.len());
    let (mantissa, exponent) = rest.split_at(mantissa_len);
    let exponent = match exponent {
        [] => 0,
        [_, sign_and_digits @ ..] => std::str::from_utf8(sign_and_digits).ok()?.parse::<i32>().ok()?,
    };
    let point = mantissa.iter().position(|byte| *byte == b'.').unwrap_or(mantissa.len());
    let whole = &mantissa[..point];
    let fraction = mantissa.get(point + 1..).unwrap_or_default();
    if whole.len() + fraction.len() == 0 || !whole.iter().chain(fraction).all(u8::is_ascii_digit) {
        return None;
    }
    // How many of all digits stand before the point of the result's digits.
    let wanted = i64::try_from(whole.len()).ok()? + i64::from(exponent) + i64::from(scale);
    let is_zero = whole.iter().chain(fraction).all(|digit| *digit == b'0');
    if is_zero || wanted < 0 {
        return Some(Some(0));
    }
    if wanted > EXPONENT_MAX + i64::try_from(mantissa.len()).ok()? {
        return Some(None);
    }
    let mut digits = whole.iter().chain(fraction).map(|digit| i128::from(digit - b'0')).fuse();
    let limit = 10_i128.pow(u32::from(precision));
    let mut value: i128 = 0;
    for _ in 0..wanted {
        // Ten times the limit may be more than 128 bits hold.
        let digit = digits.next().unwrap_or_default();
        match value.checked_mul(10).and_then(|value| value.checked_add(digit)) {
            Some(next) if next < limit => value = next,
            _ => return Some(None),
        }
    }
    if digits.next().is_some_and(|digit| digit >= 5) {
        value += 1;
    }
    Some((value < limit).then_some(if is_negative { -value } else { value }))
}

/// How a decimal is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DecimalForm {
    /// With all digits of its scale.
    Plain,
    /// Without zeros at its end, in scientific notation where Java does so: 1E+2, 2.7E-8.
    Scientific,
}

pub(crate) fn write_decimal(out: &mut Vec<u8>, value: i128, scale: i8, form: DecimalForm) {
    let mut scale = i64::from(scale);
    let mut value_digits = value;
    if form == DecimalForm::Scientific {
        while value_digits != 0 && value_digits % 10 == 0 {
            value_digits /= 10;
            scale -= 1;
        }
        scale = if value_digits == 0 { 0 } else { scale };
    }
    if value_digits < 0 {
        out.push(b'-');
    }
    let mut buffer = [0; DECIMAL_DIGITS + 2];
    let digits = decimal_digits(value_digits.unsigned_abs(), &mut buffer);
    let count = i64::try_from(digits.len()).unwrap_or_default();
    let adjusted = count - 1 - scale;
    if form == DecimalForm::Scientific && (scale < 0 || adjusted < -6) {
        out.push(digits[0]);
        if digits.len() > 1 {
            out.push(b'.');
            out.extend_from_slice(&digits[1..]);
        }
        push_display(out, format_args!("E{adjusted:+}"));
        return;
    }
    if scale <= 0 {
        out.extend_from_slice(digits);
        return;
    }
    let whole = usize::try_from(count - scale).unwrap_or_default();
    if whole == 0 {
        out.extend_from_slice(b"0.");
        out.extend((count..scale).map(|_| b'0'));
        out.extend_from_slice(digits);
    } else {
        out.extend_from_slice(&digits[..whole]);
        out.push(b'.');
        out.extend_from_slice(&digits[whole..]);
    }
}

fn decimal_digits(mut value: u128, buffer: &mut [u8]) -> &[u8] {
    let mut at = buffer.len();
    loop {
        at -= 1;
        buffer[at] = b'0' + u8::try_from(value % 10).unwrap_or_default();
        value /= 10;
        if value == 0 || at == 0 {
            return &buffer[at..];
        }
    }
}

/// Writes the shortest digits that are read back as `value`, as `Double.toString` does.
pub(crate) fn write_f64(out: &mut Vec<u8>, value: f64) {
    let mut buffer = [0; 32];
    let mut rest = &mut buffer[..];
    let is_written = write!(rest, "{value:e}").is_ok();
    let len = 32 - rest.len();
    debug_assert!(is_written);
    write_float(out, value.is_nan(), value.is_infinite(), value.is_sign_negative(), &buffer[..len]);
}

/// As [`write_f64`], of the digits that `Float.toString` needs.
pub(crate) fn write_f32(out: &mut Vec<u8>, value: f32) {
    let mut buffer = [0; 32];
    let mut rest = &mut buffer[..];
    let is_written = write!(rest, "{value:e}").is_ok();
    let len = 32 - rest.len();
    debug_assert!(is_written);
    write_float(out, value.is_nan(), value.is_infinite(), value.is_sign_negative(), &buffer[..len]);
}

/// `scientific` is `[-]d[.ddd]e[-]n`.
fn write_float(out: &mut Vec<u8>, is_nan: bool, is_infinite: bool, is_negative: bool, scientific: &[u8]) {
    if is_nan {
        return out.extend_from_slice(b"NaN");
    }
    if is_negative {
        out.push(b'-');
    }
    if is_infinite {
        return out.extend_from_slice(b"Infinity");
    }
    let scientific = scientific.strip_prefix(b"-").unwrap_or(scientific);
    let at = scientific.iter().position(|byte| *byte == b'e').unwrap_or(scientific.len());
    let (mantissa, exponent) = scientific.split_at(at);
    let exponent = std::str::from_utf8(exponent.get(1..).unwrap_or_default());
    let exponent: i32 = exponent.ok().and_then(|text| text.parse().ok()).unwrap_or_default();
    let digits = || mantissa.iter().copied().filter(|byte| *byte != b'.');
    let count = digits().count();
    // Zero and 0.001 to 10,000,000 have no exponent.
    if (-3..7).contains(&exponent) {
        let whole = usize::try_from(exponent + 1).unwrap_or_default();
        if whole == 0 {
            out.extend_from_slice(b"0.");
            out.extend((exponent + 1..0).map(|_| b'0'));
            out.extend(digits());
        } else {
            out.extend(digits().chain(std::iter::repeat(b'0')).take(whole));
            out.push(b'.');
            if count > whole {
                out.extend(digits().skip(whole));
            } else {
                out.push(b'0');
            }
        }
        return;
    }
    out.extend(digits().take(1));
    out.push(b'.');
    if count > 1 {
        out.extend(digits().skip(1));
    } else {
        out.push(b'0');
    }
    push_display(out, format_args!("E{exponent}"));
}

/// What Java reads as a number: digits with a point and an exponent, `NaN`, `Infinity`, a `d` or `f` at the end.
pub(crate) fn parse_f64(text: &str) -> Option<f64> {
    float_text(text)?.parse().ok()
}

/// As [`parse_f64`], rounded once.
pub(crate) fn parse_f32(text: &str) -> Option<f32> {
    float_text(text)?.parse().ok()
}

fn float_text(text: &str) -> Option<&str> {
    let text = text.trim();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if unsigned == "NaN" || unsigned == "Infinity" {
        return Some(text);
    }
    let text = text.strip_suffix(['d', 'D', 'f', 'F']).unwrap_or(text);
    text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)).then_some(text)
}

/// What Java reads as true; all else is false.
pub(crate) fn parse_bool(text: &str) -> bool {
    text.trim().eq_ignore_ascii_case("true")
}

#[cfg(test)]
mod tests;
