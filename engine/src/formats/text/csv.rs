//! A line of CSV as other systems cut it into fields.
//!
//! Neither knows line breaks in quotes, and both have an answer to every line. Source: `CSVParser` of opencsv 2.3, which
//! OpenCSVSerde gives one line at a time, and univocity's `CsvParser` as Spark sets it (`STOP_AT_DELIMITER`); both were compared by
//! what Spark reads.

use std::borrow::Cow;

/// The fields of a line for OpenCSVSerde. In quotes that are never closed the rest of the line is lost.
pub(super) fn opencsv_fields(line: &str, delimiter: u8, quote: u8, escape: Option<u8>) -> Vec<String> {
    let (delimiter, quote, escape) = (char::from(delimiter), char::from(quote), escape.map(char::from));
    let mut fields = Vec::new();
    if line.is_empty() {
        return fields;
    }
    let mut field = String::new();
    // Both are true in a field whose beginning was in quotes.
    let (mut in_quotes, mut in_field) = (false, false);
    // It counts in UTF-16, and has another rule for the first places of a line.
    let mut place = 0;
    let mut previous = None;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        let next = letters.peek().copied();
        let mut taken = letter;
        if Some(letter) == escape {
            // Where it stands before another it is lost.
            if let Some(escaped) = next.filter(|next| *next == quote || Some(*next) == escape)
                && (in_quotes || in_field)
            {
                field.push(escaped);
                letters.next();
                place += 1;
                taken = escaped;
            }
        } else if letter == quote {
            if (in_quotes || in_field) && next == Some(quote) {
                field.push(quote);
                letters.next();
                place += 1;
            } else {
                let is_inside = previous != Some(delimiter) && next.is_some_and(|next| next != delimiter);
                if place > 2 && is_inside {
                    if !field.is_empty() && field.chars().all(is_blank) {
                        field.clear();
                    } else {
                        field.push(quote);
                    }
                }
                in_quotes = !in_quotes;
            }
            in_field = !in_field;
        } else if letter == delimiter && !in_quotes {
            fields.push(std::mem::take(&mut field));
            in_field = false;
        } else {
            field.push(letter);
            in_field = true;
        }
        previous = Some(taken);
        place += letter.len_utf16();
    }
    if !in_quotes {
        fields.push(field);
    }
    fields
}

/// What Java takes for white space.
fn is_blank(letter: char) -> bool {
    let stays = matches!(letter, '\u{a0}' | '\u{2007}' | '\u{202f}' | '\u{85}');
    (letter.is_whitespace() && !stays) || ('\u{1c}'..='\u{1f}').contains(&letter)
}

/// The fields of a line for Spark; nothing between two delimiters is NULL, whatever else is, and the empty text has quotes. Where a
/// quote is neither escaped nor at the end, the field is what stands in the line.
pub(super) fn spark_fields<'a>(
    line: &'a str,
    delimiter: u8,
    quote: u8,
    escape: Option<u8>,
) -> Vec<Option<Cow<'a, str>>> {
    let bytes = line.as_bytes();
    let mut fields = Vec::new();
    let mut begin = 0;
    loop {
        let (field, end) = if bytes.get(begin) == Some(&quote) {
            let (field, end) = spark_quoted(line, begin, delimiter, quote, escape);
            (Some(Cow::Owned(field)), end)
        } else {
            let end = find(bytes, begin, delimiter);
            ((end > begin).then(|| Cow::Borrowed(&line[begin..end])), end)
        };
        fields.push(field);
        if end >= bytes.len() {
            return fields;
        }
        begin = end + 1;
    }
}

/// The field whose quote is at `begin`, and where it ends: at a delimiter or with the line. The bytes that are looked for are ASCII,
/// so that all cuts are at characters' borders.
fn spark_quoted(line: &str, begin: usize, delimiter: u8, quote: u8, escape: Option<u8>) -> (String, usize) {
    let bytes = line.as_bytes();
    let mut field = String::new();
    let mut at = begin + 1;
    loop {
        let special = bytes[at..].iter().position(|byte| *byte == quote || Some(*byte) == escape);
        let Some(plain) = special else {
            // A quote that is the last of a line stands for itself.
            let rest = if at == begin + 1 && at == bytes.len() { begin } else { at };
            field.push_str(&line[rest..]);
            return (field, bytes.len());
        };
        field.push_str(&line[at..at + plain]);
        at += plain;
        let next = bytes.get(at + 1).copied();
        if bytes[at] != quote {
            let is_escape = next.is_some_and(|next| next == quote || Some(next) == escape);
            let stands = if is_escape { next } else { Some(bytes[at]) };
            field.extend(stands.map(char::from));
            at += 1 + usize::from(is_escape);
            continue;
        }
        if escape.is_none() && next == Some(quote) {
            field.push(char::from(quote));
            at += 2;
            continue;
        }
        let quotes = bytes[at..].iter().take_while(|byte| **byte == quote).count();
        let after = at + quotes;
        let blanks = bytes[after..].iter().take_while(|byte| **byte <= b' ' && **byte != delimiter).count();
        let end = after + blanks;
        if bytes.get(end).is_none_or(|byte| *byte == delimiter) {
            field.extend(std::iter::repeat_n(char::from(quote), quotes - 1));
            return (field, end);
        }
        let end = find(bytes, at, delimiter);
        return (format!("{}{field}{}", char::from(quote), &line[at..end]), end);
    }
}

/// Where the next `byte` is, or the end.
fn find(bytes: &[u8], from: usize, byte: u8) -> usize {
    bytes[from..].iter().position(|found| *found == byte).map_or(bytes.len(), |place| from + place)
}

/// Whether Spark passes over a line.
pub(super) fn is_nothing_to_spark(line: &str) -> bool {
    line.bytes().all(|byte| byte <= b' ')
}

#[cfg(test)]
mod tests;
