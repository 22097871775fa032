//! The records in the bytes of a file.

use std::ops::Range;

use arrow::datatypes::Schema;
use tereza_runtime::Result;

use crate::format::{CsvRecords, FormatOptions};

/// Records of one batch.
const RECORDS_MAX: usize = 16 << 10;

/// Where records end.
#[derive(Debug, Clone)]
pub(super) enum Records {
    /// With each line. Empty ones are records too, if they are kept.
    Lines {
        keeps_empty: bool,
    },
    Csv(CsvRecords),
}

impl Records {
    pub(super) fn new(format: &FormatOptions, schema: &Schema) -> Result<Self> {
        Ok(match format.format.as_str() {
            "csv" => Self::Csv(CsvRecords::new(format, schema)?),
            other => Self::Lines { keeps_empty: other == "raw" },
        })
    }

    /// The first records without their line breaks, and how many bytes they are. A last one that may go on behind these bytes is
    /// none, unless nothing is behind them.
    pub(super) fn split(&self, bytes: &[u8], is_last: bool) -> (Vec<Range<usize>>, usize) {
        let (mut records, mut start) = (Vec::new(), 0);
        while start < bytes.len() && records.len() < RECORDS_MAX {
            let rest = &bytes[start..];
            let end = match self {
                Self::Lines { .. } => rest.iter().position(|byte| *byte == b'\n').map(|at| at + 1),
                Self::Csv(csv) => csv.end(rest),
            };
            let Some(end) = end.or_else(|| is_last.then_some(rest.len())) else { break };
            let record = without_break(&rest[..end]);
            let is_one = match self {
                Self::Lines { keeps_empty } => *keeps_empty || !record.trim_ascii().is_empty(),
                Self::Csv(csv) => !record.is_empty() && !csv.is_comment(record),
            };
            if is_one {
                records.push(start..start + record.len());
            }
            start += end;
        }
        (records, start)
    }
}

fn without_break(record: &[u8]) -> &[u8] {
    let record = record.strip_suffix(b"\n").unwrap_or(record);
    record.strip_suffix(b"\r").unwrap_or(record)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(records: &Records, text: &str, is_last: bool) -> (Vec<String>, usize) {
        let (ranges, consumed) = records.split(text.as_bytes(), is_last);
        (ranges.into_iter().map(|range| text[range].to_owned()).collect(), consumed)
    }

    #[test]
    fn lines_are_records() {
        let lines = Records::Lines { keeps_empty: false };
        let of = |records: &[&str], consumed| (records.iter().map(|text| (*text).to_owned()).collect(), consumed);
        assert_eq!(texts(&lines, "a\r\n\n \nb\nc", false), of(&["a", "b"], 8));
        assert_eq!(texts(&lines, "a\nc", true), of(&["a", "c"], 3));
        assert_eq!(texts(&lines, "", true), of(&[], 0));
        let raw = Records::Lines { keeps_empty: true };
        assert_eq!(texts(&raw, "a\n\nb\n", true), of(&["a", "", "b"], 5));
        let csv = Records::new(&FormatOptions::new("csv"), &Schema::empty()).unwrap();
        assert_eq!(texts(&csv, "1,\"a\nb\"\n\n2,c", false), of(&["1,\"a\nb\""], 9));
        assert_eq!(texts(&csv, "1,\"a\nb", true), of(&["1,\"a\nb"], 6), "whoever reads it says that a quote is open");
    }

    #[test]
    fn a_batch_has_a_bound() {
        let text = "a\n".repeat(RECORDS_MAX + 5);
        let (records, consumed) = Records::Lines { keeps_empty: false }.split(text.as_bytes(), true);
        assert_eq!((records.len(), consumed), (RECORDS_MAX, 2 * RECORDS_MAX));
    }
}
