//! Patterns of dates and times as Java has them: `yyyy-MM-dd HH:mm:ss.SSS`.

use std::fmt::Write as _;

use chrono::{Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use tereza_runtime::{Error, Result};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
/// Letters of the short names.
const SHORT: usize = 3;
const NANOSECOND_DIGITS: usize = 9;

/// A pattern that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pattern(Vec<Piece>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Text(String),
    Field(Field, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Year,
    Month,
    Day,
    DayOfYear,
    Weekday,
    HalfOfDay,
    Hour,
    /// 1 to 24
    HourFromOne,
    /// 1 to 12
    HourOfHalf,
    /// 0 to 11
    HourOfHalfFromZero,
    Minute,
    Second,
    Fraction,
}

impl Pattern {
    /// Reads a pattern; letters that stand for something else are refused by name.
    pub(crate) fn new(text: &str) -> Result<Self> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut literal = String::new();
        let mut rest = text.chars().peekable();
        while let Some(letter) = rest.next() {
            if letter == '\'' {
                if rest.next_if_eq(&'\'').is_some() {
                    literal.push('\'');
                    continue;
                }
                loop {
                    match rest.next() {
                        Some('\'') if rest.next_if_eq(&'\'').is_some() => literal.push('\''),
                        Some('\'') => break,
                        Some(other) => literal.push(other),
                        None => return Err(refused(text, "the text in quotes does not end")),
                    }
                }
                continue;
            }
            if !letter.is_ascii_alphabetic() {
                literal.push(letter);
                continue;
            }
            let mut count = 1;
            while rest.next_if_eq(&letter).is_some() {
                count += 1;
            }
            let field = match letter {
                'y' | 'u' => Field::Year,
                'M' | 'L' => Field::Month,
                'd' => Field::Day,
                'D' => Field::DayOfYear,
                'E' => Field::Weekday,
                'a' => Field::HalfOfDay,
                'H' => Field::Hour,
                'k' => Field::HourFromOne,
                'h' => Field::HourOfHalf,
                'K' => Field::HourOfHalfFromZero,
                'm' => Field::Minute,
                's' => Field::Second,
                'S' => Field::Fraction,
                other => {
                    return Err(Error::unsupported(format!("the letter '{other}' in the pattern '{text}'"))
                        .with_hint("known are y, M, d, D, E, a, H, k, h, K, m, s and S; other text stands in quotes"));
                }
            };
            let most = if field == Field::Fraction { NANOSECOND_DIGITS } else { 19 };
            if count > most {
                return Err(refused(text, &format!("'{letter}' stands there {count} times")));
            }
            if !literal.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut literal)));
            }
            pieces.push(Piece::Field(field, count));
        }
        if !literal.is_empty() {
            pieces.push(Piece::Text(literal));
        }
        Ok(Self(pieces))
    }

    /// Writes a moment.
    pub(super) fn format(&self, moment: NaiveDateTime, into: &mut String) {
        for piece in &self.0 {
            let (field, width) = match piece {
                Piece::Text(text) => {
                    into.push_str(text);
                    continue;
                }
                Piece::Field(field, width) => (*field, *width),
            };
            let number = match field {
                Field::Year if width == 2 => moment.year().rem_euclid(100).unsigned_abs(),
                Field::Year if moment.year() < 0 => {
                    let _ = write!(into, "{:0width$}", moment.year());
                    continue;
                }
                Field::Year => moment.year().unsigned_abs(),
                Field::Month if width >= SHORT => {
                    push_name(MONTHS[moment.month0() as usize], width, into);
                    continue;
                }
                Field::Month => moment.month(),
                Field::Day => moment.day(),
                Field::DayOfYear => moment.ordinal(),
                Field::Weekday => {
                    push_name(DAYS[moment.weekday().num_days_from_monday() as usize], width, into);
                    continue;
                }
                Field::HalfOfDay => {
                    into.push_str(if moment.hour() < 12 { "AM" } else { "PM" });
                    continue;
                }
                Field::Hour => moment.hour(),
                Field::HourFromOne => (moment.hour() + 23) % 24 + 1,
                Field::HourOfHalf => moment.hour12().1,
                Field::HourOfHalfFromZero => moment.hour() % 12,
                Field::Minute => moment.minute(),
                Field::Second => moment.second(),
                Field::Fraction => {
                    let all = moment.nanosecond() % 1_000_000_000;
                    all / 10_u32.pow((NANOSECOND_DIGITS - width) as u32)
                }
            };
            let _ = write!(into, "{number:0width$}");
        }
    }

    /// Reads a moment; what the pattern does not have is that of 1970-01-01 00:00. `None` if the text is not of the pattern.
    pub(crate) fn parse(&self, text: &str) -> Option<NaiveDateTime> {
        let mut rest = text;
        let (mut year, mut month, mut day, mut ordinal) = (1970_i32, 1, 1, None);
        let (mut hour, mut minute, mut second, mut nanosecond, mut afternoon) = (0, 0, 0, 0, None);
        for (at, piece) in self.0.iter().enumerate() {
            let (field, width) = match piece {
                Piece::Text(text) => {
                    rest = rest.strip_prefix(text.as_str())?;
                    continue;
                }
                Piece::Field(field, width) => (*field, *width),
            };
            match field {
                Field::Month if width >= SHORT => month = take_name(&mut rest, &MONTHS, width)? as u32 + 1,
                Field::Weekday => {
                    take_name(&mut rest, &DAYS, width)?;
                }
                Field::HalfOfDay => {
                    let half = rest.get(..2)?;
                    afternoon = Some(match half.to_ascii_uppercase().as_str() {
                        "AM" => false,
                        "PM" => true,
                        _ => return None,
                    });
                    rest = &rest[2..];
                }
                _ => {
                    // A number directly before another one has exactly its digits.
                    let is_fixed = matches!(self.0.get(at + 1), Some(Piece::Field(..))) || field == Field::Fraction;
                    let digits = take_digits(&mut rest, width, is_fixed, field == Field::Year && width != 2)?;
                    let number: u32 = digits.parse().ok()?;
                    match field {
                        Field::Year if width == 2 => year = 2000 + i32::try_from(number).ok()?,
                        Field::Year => year = i32::try_from(number).ok()?,
                        Field::Month => month = number,
                        Field::Day => day = number,
                        Field::DayOfYear => ordinal = Some(number),
                        Field::Hour => hour = number,
                        Field::HourFromOne => hour = number % 24,
                        Field::HourOfHalf | Field::HourOfHalfFromZero => {
                            hour = number % 12;
                            afternoon = afternoon.or(Some(false));
                        }
                        Field::Minute => minute = number,
                        Field::Second => second = number,
                        Field::Fraction => {
                            nanosecond = number.checked_mul(10_u32.pow((NANOSECOND_DIGITS - digits.len()) as u32))?;
                        }
                        Field::Weekday | Field::HalfOfDay => {}
                    }
                }
            }
        }
        if !rest.is_empty() {
            return None;
        }
        let date = match ordinal {
            Some(ordinal) => NaiveDate::from_yo_opt(year, ordinal)?,
            None => NaiveDate::from_ymd_opt(year, month, day)?,
        };
        let hour = if afternoon == Some(true) && hour < 12 { hour + 12 } else { hour };
        Some(date.and_time(NaiveTime::from_hms_nano_opt(hour, minute, second, nanosecond)?))
    }
}

fn refused(pattern: &str, reason: &str) -> Error {
    Error::invalid_input(format!("the pattern '{pattern}' of a time cannot be read: {reason}"))
}

fn push_name(name: &str, width: usize, into: &mut String) {
    into.push_str(if width > SHORT { name } else { &name[..SHORT] });
}

fn take_name(rest: &mut &str, names: &[&str], width: usize) -> Option<usize> {
    let written = |name: &str| if width > SHORT { name.len() } else { SHORT };
    let at = names.iter().position(|name| {
        rest.get(..written(name)).is_some_and(|start| start.eq_ignore_ascii_case(&name[..written(name)]))
    })?;
    *rest = &rest[written(names[at])..];
    Some(at)
}

/// The digits at the beginning: exactly `width`, or from `width` to as many as a number can have.
fn take_digits<'a>(rest: &mut &'a str, width: usize, is_fixed: bool, is_year: bool) -> Option<&'a str> {
    let most = match (is_fixed, is_year) {
        (true, _) => width,
        (false, true) => width.max(9),
        (false, false) => width.max(2),
    };
    let count = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
    if count < width {
        return None;
    }
    let (digits, after) = rest.split_at(count);
    *rest = after;
    Some(digits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moment() -> NaiveDateTime {
        NaiveDate::from_ymd_opt(2024, 2, 9).unwrap().and_hms_nano_opt(15, 4, 5, 123_456_789).unwrap()
    }

    fn formatted(pattern: &str) -> String {
        let mut text = String::new();
        Pattern::new(pattern).unwrap().format(moment(), &mut text);
        text
    }

    /// What `java.time.format.DateTimeFormatter` answers.
    #[test]
    fn moments_are_written_as_java_writes_them() {
        for (pattern, wanted) in [
            ("yyyy-MM-dd HH:mm:ss", "2024-02-09 15:04:05"),
            ("yyyy-MM-dd", "2024-02-09"),
            ("HH:mm", "15:04"),
            ("y-M-d H:m:s", "2024-2-9 15:4:5"),
            ("yy/MM", "24/02"),
            ("ss.SSS", "05.123"),
            ("S SSSSSS SSSSSSSSS", "1 123456 123456789"),
            ("hh 'o''clock' a", "03 o'clock PM"),
            ("EEE, d MMM yyyy", "Fri, 9 Feb 2024"),
            ("EEEE MMMM", "Friday February"),
            ("DDD k K", "040 15 3"),
            ("''", "'"),
            ("", ""),
        ] {
            assert_eq!(formatted(pattern), wanted, "{pattern}");
        }
    }

    #[test]
    fn what_was_written_is_read_again() {
        for pattern in ["yyyy-MM-dd HH:mm:ss.SSSSSSSSS", "yyyyMMddHHmmssSSSSSSSSS", "d MMM yyyy hh:mm:ss a SSSSSSSSS"] {
            assert_eq!(Pattern::new(pattern).unwrap().parse(&formatted(pattern)), Some(moment()), "{pattern}");
        }
        let day = NaiveDate::from_ymd_opt(2024, 2, 9).unwrap().and_time(NaiveTime::MIN);
        assert_eq!(Pattern::new("yyyy-DDD").unwrap().parse("2024-040"), Some(day));
    }

    #[test]
    fn other_texts_are_none() {
        let pattern = Pattern::new("yyyy-MM-dd").unwrap();
        for text in ["2024-02-30", "2024-2-9", "2024-02-09 ", "", "2024-13-01", "20x4-01-01"] {
            assert_eq!(pattern.parse(text), None, "{text}");
        }
    }

    #[test]
    fn what_a_pattern_cannot_have_is_named() {
        assert!(Pattern::new("yyyy-ww").unwrap_err().message().contains("'w'"));
        assert!(Pattern::new("'open").is_err());
        assert!(Pattern::new(&"S".repeat(10)).is_err());
    }
}
