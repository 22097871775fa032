//! Records of a file: a line break in quotes is part of a value.

use arrow::datatypes::Schema;
use tereza_runtime::Result;

use super::CsvOptions;
use crate::format::FormatOptions;

/// Finds where records end.
#[derive(Debug, Clone)]
pub(crate) struct CsvRecords {
    delimiter: String,
    quote: Option<String>,
    escape: Option<String>,
    trims: bool,
    allows_comments: bool,
}

impl CsvRecords {
    /// Those of files in a format. Errors: as those of its reader.
    pub(crate) fn new(options: &FormatOptions, schema: &Schema) -> Result<Self> {
        let options = CsvOptions::new(options, schema)?;
        Ok(Self {
            delimiter: options.delimiter.into(),
            quote: options.quote.map(Into::into),
            escape: options.escape.map(Into::into),
            trims: options.trims,
            allows_comments: options.allows_comments,
        })
    }

    /// Whether what begins here is a comment, which is one line.
    pub(crate) fn is_comment(&self, bytes: &[u8]) -> bool {
        self.allows_comments && bytes.trim_ascii_start().starts_with(b"#")
    }

    /// The bytes of the first record, with its line break; `None` if it may go on behind these bytes.
    pub(crate) fn end(&self, bytes: &[u8]) -> Option<usize> {
        if self.is_comment(bytes) {
            return bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        }
        let mut at = 0;
        loop {
            while self.trims && matches!(bytes.get(at), Some(b' ' | b'\t')) {
                at += 1;
            }
            if let Some(quote) = self.quote.as_deref()
                && begins(bytes, at, quote)
            {
                at = self.closed(bytes, at + quote.len(), quote)?;
            }
            loop {
                match bytes.get(at)? {
                    b'\n' => return Some(at + 1),
                    b'\r' => return Some(if *bytes.get(at + 1)? == b'\n' { at + 2 } else { at + 1 }),
                    _ if begins(bytes, at, &self.delimiter) => {
                        at += self.delimiter.len();
                        break;
                    }
                    _ => at += self.step(bytes, at),
                }
            }
        }
    }

    /// What is behind a value in quotes.
    fn closed(&self, bytes: &[u8], mut at: usize, quote: &str) -> Option<usize> {
        while at < bytes.len() {
            if !begins(bytes, at, quote) {
                at += self.step(bytes, at);
                continue;
            }
            at += quote.len();
            if !begins(bytes, at, quote) {
                return Some(at);
            }
            at += quote.len();
        }
        None
    }

    /// The bytes of what stands here: with an escape character also the first byte of what it is for.
    fn step(&self, bytes: &[u8], at: usize) -> usize {
        match self.escape.as_deref() {
            Some(escape) if begins(bytes, at, escape) => escape.len() + 1,
            _ => 1,
        }
    }
}

fn begins(bytes: &[u8], at: usize, with: &str) -> bool {
    bytes.get(at..).is_some_and(|rest| rest.starts_with(with.as_bytes()))
}

#[cfg(test)]
mod tests {
    use arrow::datatypes::{DataType, Field};

    use super::*;

    fn split(options: &[(&str, &str)], text: &str) -> Vec<String> {
        let format = options.iter().fold(FormatOptions::new("csv"), |format, (name, value)| format.with(*name, *value));
        let schema = Schema::new(vec![Field::new("a", DataType::Utf8, true), Field::new("b", DataType::Utf8, true)]);
        let records = CsvRecords::new(&format, &schema).unwrap();
        let (mut rest, mut found) = (text.as_bytes(), Vec::new());
        while let Some(end) = records.end(rest) {
            found.push(String::from_utf8(rest[..end].to_vec()).unwrap());
            rest = &rest[end..];
        }
        found.push(String::from_utf8(rest.to_vec()).unwrap());
        found
    }

    #[test]
    fn a_record_ends_with_a_line_that_is_not_in_quotes() {
        assert_eq!(split(&[], "a,b\nc,d\n"), ["a,b\n", "c,d\n", ""]);
        assert_eq!(split(&[], "a,\"b\nc\"\r\nd"), ["a,\"b\nc\"\r\n", "d"]);
        assert_eq!(split(&[], "a,\"b\"\"\nc\"\nd\n"), ["a,\"b\"\"\nc\"\n", "d\n", ""]);
        assert_eq!(split(&[], "a,b\"\nc"), ["a,b\"\n", "c"], "a quote within a value is none");
        assert_eq!(split(&[], "a,\"b\n"), ["a,\"b\n"], "it goes on");
        assert_eq!(split(&[], "a\rb\r\nc\r"), ["a\r", "b\r\n", "c\r"], "what is behind the last one is not known");
        assert_eq!(split(&[("disable-quote-character", "true")], "\"a\nb\n"), ["\"a\n", "b\n", ""]);
        assert_eq!(split(&[("quote-character", "'")], "'a\nb'\n\"c\n"), ["'a\nb'\n", "\"c\n", ""]);
        assert_eq!(
            split(&[("escape-character", "\\")], "\"a\\\"\nb\"\nc\\\nd\ne"),
            ["\"a\\\"\nb\"\n", "c\\\nd\n", "e"]
        );
        assert_eq!(split(&[("field-delimiter", "é")], "aé\"b\nc\"\nd"), ["aé\"b\nc\"\n", "d"]);
        assert_eq!(split(&[], "a, \"b\nc\"\n"), ["a, \"b\n", "c\"\n", ""]);
        assert_eq!(split(&[("trim-spaces", "true")], "a, \"b\nc\"\n"), ["a, \"b\nc\"\n", ""]);
        assert_eq!(split(&[("allow-comments", "true")], "# \"\na\n"), ["# \"\n", "a\n", ""]);
    }
}
