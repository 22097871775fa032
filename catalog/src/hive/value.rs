//! Values of partition keys, which a metastore keeps as text, compared as what their types say.

use std::cmp::Ordering;
use std::collections::HashSet;

/// How values of a type are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// By their characters.
    Text,
    /// By their characters without blanks at the end.
    Padded,
    Number,
    Date,
    Timestamp,
    Boolean,
}

impl Family {
    /// That of a Hive type.
    pub(super) fn of(type_name: &str) -> Self {
        let name = type_name.trim().to_ascii_lowercase();
        match name.split('(').next().unwrap_or_default().trim() {
            "tinyint" | "smallint" | "int" | "integer" | "bigint" | "float" | "double" | "double precision"
            | "decimal" | "numeric" => Self::Number,
            "date" => Self::Date,
            "boolean" => Self::Boolean,
            "char" => Self::Padded,
            other if other.starts_with("timestamp") => Self::Timestamp,
            _ => Self::Text,
        }
    }

    /// A value with this text. One that is none of the type is compared by its characters.
    pub(super) fn look(self, text: &str) -> Read<'_> {
        let typed = match self {
            Self::Text => Typed::Text,
            Self::Padded => return Read { text: text.trim_end_matches(' '), typed: Typed::Text },
            Self::Number => number(text).unwrap_or(Typed::Text),
            Self::Date => date(text).map_or(Typed::Text, |date| Typed::Moment(date, 0)),
            Self::Timestamp => timestamp(text).unwrap_or(Typed::Text),
            Self::Boolean => match text.to_ascii_lowercase().as_str() {
                "true" | "1" => Typed::Boolean(true),
                "false" | "0" => Typed::Boolean(false),
                _ => Typed::Text,
            },
        };
        Read { text, typed }
    }

    /// [`Family::look`] for a value that is kept.
    pub(super) fn read(self, text: &str) -> Value {
        let Read { text, typed } = self.look(text);
        Value { text: text.to_owned(), typed }
    }
}

/// A value with its text.
#[derive(Debug, Clone)]
pub(super) struct Value {
    text: String,
    typed: Typed,
}

impl Value {
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    pub(super) fn as_read(&self) -> Read<'_> {
        Read { text: &self.text, typed: self.typed }
    }
}

/// [`Value`] whose text is somebody else's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Read<'a> {
    text: &'a str,
    typed: Typed,
}

#[derive(Debug, Clone, Copy)]
enum Typed {
    Text,
    Boolean(bool),
    /// An exact number: this, divided by ten so often.
    Exact(i128, u32),
    Float(f64),
    /// Year, month and day, then nanoseconds of the day.
    Moment(Day, u64),
}

type Day = (i32, u32, u32);

impl Read<'_> {
    /// Which of the two is the greater; by their characters if they are not of one kind.
    pub(super) fn compare(self, other: Read<'_>) -> Ordering {
        match (self.typed, other.typed) {
            (Typed::Boolean(one), Typed::Boolean(two)) => one.cmp(&two),
            (Typed::Moment(day, time), Typed::Moment(other_day, other_time)) => {
                (day, time).cmp(&(other_day, other_time))
            }
            (Typed::Exact(one, scale), Typed::Exact(two, other_scale)) => {
                let common = scale.max(other_scale);
                let raised = |value: i128, scale: u32| value.checked_mul(10_i128.checked_pow(common - scale)?);
                match (raised(one, scale), raised(two, other_scale)) {
                    (Some(one), Some(two)) => one.cmp(&two),
                    _ => as_float(self.typed).total_cmp(&as_float(other.typed)),
                }
            }
            (Typed::Exact(..) | Typed::Float(_), Typed::Exact(..) | Typed::Float(_)) => {
                let (one, two) = (as_float(self.typed), as_float(other.typed));
                // Not by `total_cmp` alone: 0.0 and -0.0 are equal.
                one.partial_cmp(&two).unwrap_or_else(|| one.total_cmp(&two))
            }
            _ => self.text.cmp(other.text),
        }
    }
}

/// Literals of which any will do, to be looked up in.
#[derive(Debug, Default)]
pub(super) struct OneOf {
    texts: HashSet<String>,
    /// Without zeros at the end, so that equal numbers are the same.
    exact: HashSet<(i128, u32)>,
    moments: HashSet<(Day, u64)>,
    booleans: HashSet<bool>,
    /// Numbers with an exponent, which engines do not write for keys: these are compared one by one.
    floats: Vec<f64>,
}

impl OneOf {
    pub(super) fn new(literals: Vec<Value>) -> Self {
        let mut all = Self::default();
        for literal in literals {
            match literal.typed {
                Typed::Exact(value, scale) => drop(all.exact.insert(shortest(value, scale))),
                Typed::Moment(day, time) => drop(all.moments.insert((day, time))),
                Typed::Boolean(value) => drop(all.booleans.insert(value)),
                Typed::Float(value) => all.floats.push(value),
                Typed::Text => {}
            }
            all.texts.insert(literal.text);
        }
        all
    }

    /// The literals as they were written.
    pub(super) fn texts(&self) -> impl Iterator<Item = &str> {
        self.texts.iter().map(String::as_str)
    }

    /// How many literals a look costs more than one.
    pub(super) fn compared_one_by_one(&self) -> usize {
        self.floats.len()
    }

    pub(super) fn contains(&self, value: Read<'_>) -> bool {
        // The same text is equal whatever the type.
        self.texts.contains(value.text)
            || match value.typed {
                Typed::Text => false,
                Typed::Boolean(value) => self.booleans.contains(&value),
                Typed::Moment(day, time) => self.moments.contains(&(day, time)),
                Typed::Exact(exact, scale) => {
                    self.exact.contains(&shortest(exact, scale)) || self.has_float(as_float(value.typed))
                }
                Typed::Float(float) => {
                    let whole = shortest_of(float).is_some_and(|whole| self.exact.contains(&whole));
                    whole || self.has_float(float)
                }
            }
    }

    fn has_float(&self, value: f64) -> bool {
        self.floats.contains(&value)
    }
}

/// The number with as few decimals as it needs.
fn shortest(mut value: i128, mut scale: u32) -> (i128, u32) {
    while scale > 0 && value % 10 == 0 {
        value /= 10;
        scale -= 1;
    }
    (value, scale)
}

/// A number with an exponent as an exact one, if it is short enough: `1.5e3` is 1500.
fn shortest_of(value: f64) -> Option<(i128, u32)> {
    match number(&format!("{value}"))? {
        Typed::Exact(value, scale) => Some(shortest(value, scale)),
        _ => None,
    }
}

fn as_float(typed: Typed) -> f64 {
    match typed {
        // What is lost is less than what tells such numbers apart.
        #[expect(clippy::cast_precision_loss, reason = "numbers of more than 38 digits only")]
        Typed::Exact(value, scale) => value as f64 / 10_f64.powi(i32::try_from(scale).unwrap_or(i32::MAX)),
        Typed::Float(value) => value,
        _ => f64::NAN,
    }
}

/// A number as Hive, Spark and Java write it: with a suffix for its type, or an exponent.
fn number(text: &str) -> Option<Typed> {
    let text = text.trim();
    let suffixes: &[_] = &['L', 'l', 'S', 's', 'Y', 'y', 'D', 'd', 'F', 'f', 'B', 'b'];
    let digits = if text.ends_with(|c: char| c.is_ascii_alphabetic()) && text.starts_with(is_numeric) {
        text.trim_end_matches(suffixes)
    } else {
        text
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if fraction.bytes().all(|byte| byte.is_ascii_digit())
        && let Ok(unscaled) = format!("{whole}{fraction}").parse::<i128>()
    {
        return Some(Typed::Exact(unscaled, u32::try_from(fraction.len()).ok()?));
    }
    digits.parse::<f64>().ok().map(Typed::Float)
}

fn is_numeric(c: char) -> bool {
    c.is_ascii_digit() || matches!(c, '-' | '+' | '.')
}

/// `yyyy-mm-dd`, also with single digits, also with a time of day after it.
fn date(text: &str) -> Option<(i32, u32, u32)> {
    let text = text.trim();
    let day_part = text.split([' ', 'T']).next()?;
    let (is_negative, digits) = day_part.strip_prefix('-').map_or((false, day_part), |rest| (true, rest));
    let mut parts = digits.split('-');
    let year: i32 = parts.next()?.parse().ok()?;
    let (month, day) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let is_whole = parts.next().is_none() && (1..=12).contains(&month) && (1..=31).contains(&day);
    is_whole.then_some((if is_negative { -year } else { year }, month, day))
}

/// A date, then perhaps `hh:mm:ss.fffffffff` or less of it.
fn timestamp(text: &str) -> Option<Typed> {
    const NANOS: u64 = 1_000_000_000;
    let text = text.trim();
    let day = date(text)?;
    let Some((_, time)) = text.split_once([' ', 'T']) else { return Some(Typed::Moment(day, 0)) };
    let (clock, fraction) = time.trim().split_once('.').unwrap_or((time.trim(), ""));
    let mut seconds = 0;
    let mut parts = clock.split(':');
    for bound in [24, 60, 60] {
        let part: u64 = parts.next().unwrap_or("0").parse().ok()?;
        if part >= bound {
            return None;
        }
        seconds = seconds * 60 + part;
    }
    if parts.next().is_some() || fraction.len() > 9 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanos: u64 = format!("{fraction:0<9}").parse().ok()?;
    Some(Typed::Moment(day, seconds * NANOS + nanos))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_as_their_types_say() {
        use Ordering::{Equal, Greater, Less};
        for (type_name, one, two, expected) in [
            ("string", "10", "9", Less),
            ("varchar(5)", "a", "a ", Less),
            ("char(5)", "a", "a  ", Equal),
            ("int", "10", "9", Greater),
            ("int", "03", "3", Equal),
            ("bigint", "-5", "1L", Less),
            ("bigint", "9223372036854775807", "9223372036854775806", Greater),
            ("decimal(10,2)", "1.50", "1.5", Equal),
            ("decimal(38,2)", "1.5", "1.49BD", Greater),
            ("double", "1e3", "999.5", Greater),
            ("double", "-0.0", "0", Equal),
            ("date", "2024-1-2", "2024-01-02", Equal),
            ("date", "2024-01-10", "2024-01-09", Greater),
            ("timestamp", "2024-01-01 00:00:00", "2024-01-01", Equal),
            ("timestamp", "2024-01-01 10:00:00.5", "2024-01-01 10:00:00.25", Greater),
            ("boolean", "TRUE", "true", Equal),
            ("boolean", "false", "true", Less),
            ("int", "x", "y", Less),
            ("date", "not a date", "2024-01-01", Greater),
        ] {
            let family = Family::of(type_name);
            assert_eq!(family.look(one).compare(family.look(two)), expected, "{one} and {two} as {type_name}");
        }
    }

    #[test]
    fn lists_are_looked_up_in_as_values_are_compared() {
        let texts = ["1", "1.50", "03", "-0.0", "1e3", "2.5e-1", "x", "", "2024-1-2", "true", "1000", "150e-2", "0.25"];
        for type_name in ["string", "int", "decimal(10,2)", "double", "date", "boolean", "char(3)"] {
            let family = Family::of(type_name);
            for one in texts {
                for two in texts {
                    let list = OneOf::new(vec![family.read("99"), family.read(two)]);
                    let is_equal = family.look(one).compare(family.look(two)).is_eq();
                    assert_eq!(list.contains(family.look(one)), is_equal, "{one} and {two} as {type_name}");
                }
            }
        }
    }
}
