//! When partitions are complete, by parameters of the table that Flink's sinks of files have too.

use std::fmt;

use arrow::array::timezone::Tz;
use chrono::{LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone};
use tereza_catalog::model::Table;
use tereza_runtime::{Error, Result};

use crate::flink::{TimePattern, duration};

const TRIGGER: &str = "sink.partition-commit.trigger";
const DELAY: &str = "sink.partition-commit.delay";
const ZONE: &str = "sink.partition-commit.watermark-time-zone";
const POLICY: &str = "sink.partition-commit.policy.kind";
const SUCCESS_FILE: &str = "sink.partition-commit.success-file.name";
const EXTRACTOR: &str = "partition.time-extractor.kind";
const PATTERN: &str = "partition.time-extractor.timestamp-pattern";
const FORMATTER: &str = "partition.time-extractor.timestamp-formatter";
const COMPACTION: &str = "auto-compaction";

const KNOWN: [&str; 8] = [TRIGGER, DELAY, ZONE, POLICY, SUCCESS_FILE, EXTRACTOR, PATTERN, FORMATTER];
const PREFIXES: [&str; 2] = ["sink.partition-commit.", "partition.time-extractor."];
/// What a success file is called where nothing is said.
const SUCCESS: &str = "_SUCCESS";

/// When partitions of a table are complete, and what is done then.
#[derive(Clone)]
pub struct PartitionCommit {
    table: String,
    trigger: Trigger,
    delay_ms: i64,
    adds: bool,
    names_catalog: bool,
    compacts: bool,
    success_file: Option<String>,
}

#[derive(Clone)]
enum Trigger {
    ProcessTime,
    PartitionTime(Extractor),
}

/// How a partition's time is found in its values.
#[derive(Clone)]
struct Extractor {
    keys: Vec<String>,
    /// `$key` stands for a value; none is the value of the first key.
    pattern: Option<String>,
    formatter: Option<TimePattern>,
    zone: Tz,
}

impl fmt::Debug for PartitionCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PartitionCommit").field("table", &self.table).finish_non_exhaustive()
    }
}

impl PartitionCommit {
    /// What a table says; none if it names neither a trigger nor a policy.
    ///
    /// # Errors
    /// `InvalidInput` or `Unsupported` naming the parameter.
    pub(super) fn of(table: &Table) -> Result<Option<Self>> {
        let name = format!("{}.{}", table.database, table.name);
        let get = |key: &str| table.parameters.get(key).map(String::as_str);
        let wrong = |key: &str, expected: &str| {
            let text = get(key).unwrap_or_default();
            Error::invalid_input(format!("'{key}' of table {name} is '{text}', expected {expected}"))
        };
        let unsupported = |key: &str| {
            let text = get(key).unwrap_or_default();
            Error::unsupported(format!("'{key}' = '{text}' of table {name}"))
        };
        let compacts = match get(COMPACTION).map(str::to_lowercase).as_deref() {
            None | Some("false") => false,
            Some("true") => true,
            Some(_) => return Err(wrong(COMPACTION, "true or false")),
        };
        let of_commit = |key: &&String| PREFIXES.iter().any(|prefix| key.starts_with(prefix));
        if let Some(key) = table.parameters.keys().filter(of_commit).find(|key| !KNOWN.contains(&key.as_str())) {
            return Err(unsupported(key));
        }
        let kinds = get(POLICY).map(|text| text.split(',').map(str::trim).collect::<Vec<_>>());
        if kinds.iter().flatten().any(|kind| *kind == "custom") {
            return Err(unsupported(POLICY));
        }
        let is_known = |kind: &&str| matches!(*kind, "metastore" | "success-file");
        if kinds.as_ref().is_some_and(|kinds| !kinds.iter().all(is_known)) {
            return Err(wrong(POLICY, "metastore, success-file or both with a comma"));
        }
        if kinds.is_none() && get(TRIGGER).is_none() {
            return match compacts {
                true => Err(unsupported(COMPACTION).with_hint(format!(
                    "partitions are compacted when they are complete, and '{TRIGGER}' says when: without it, ALTER TABLE … COMPACT 'major'"
                ))),
                false => Ok(None),
            };
        }
        if table.partition_keys.is_empty() {
            let key = if get(TRIGGER).is_some() { TRIGGER } else { POLICY };
            return Err(Error::invalid_input(format!("table {name} has '{key}' and no partitions")));
        }
        let has = |kind: &str| kinds.as_ref().is_some_and(|kinds| kinds.contains(&kind));
        let file = get(SUCCESS_FILE).unwrap_or(SUCCESS);
        if !file.starts_with(['_', '.']) || file.contains('/') || file.len() < 2 || file == ".." {
            return Err(wrong(SUCCESS_FILE, "a name that begins with '_' or '.': others would be read as rows"));
        }
        let delay = get(DELAY).map(|text| duration(text).ok_or_else(|| wrong(DELAY, "a duration such as '1 h'")));
        let delay = delay.transpose()?.unwrap_or_default();
        let trigger = match get(TRIGGER) {
            None | Some("process-time") => Trigger::ProcessTime,
            Some("partition-time") => {
                if get(EXTRACTOR).is_some_and(|kind| kind != "default") {
                    return Err(unsupported(EXTRACTOR));
                }
                let zone = get(ZONE).unwrap_or("UTC");
                let zone =
                    zone.parse::<Tz>().map_err(|_| wrong(ZONE, "a time zone such as 'Asia/Shanghai' or '+08:00'"))?;
                let formatter = get(FORMATTER).map(TimePattern::new).transpose();
                Trigger::PartitionTime(Extractor {
                    keys: table.partition_keys.iter().map(|key| key.name.clone()).collect(),
                    pattern: get(PATTERN).map(str::to_owned),
                    formatter: formatter.map_err(|error| error.context(FORMATTER))?,
                    zone,
                })
            }
            Some(_) => return Err(wrong(TRIGGER, "process-time or partition-time")),
        };
        Ok(Some(Self {
            table: name,
            trigger,
            delay_ms: i64::try_from(delay.as_millis()).unwrap_or(i64::MAX),
            adds: kinds.is_none() || has("metastore"),
            names_catalog: has("metastore"),
            compacts,
            success_file: has("success-file").then(|| file.to_owned()),
        }))
    }

    /// Partitions come into the catalog when they are complete, and not with their first files.
    pub(super) fn adds(&self) -> bool {
        self.adds
    }

    /// The table asks for the catalog by name.
    pub(super) fn names_catalog(&self) -> bool {
        self.names_catalog
    }

    /// Small files of a partition become larger ones when it is complete.
    pub(super) fn compacts(&self) -> bool {
        self.compacts
    }

    /// The name of the file that says that a partition is complete.
    pub(super) fn success_file(&self) -> Option<&str> {
        self.success_file.as_deref()
    }

    /// Watermarks decide, not the clock.
    pub fn needs_watermarks(&self) -> bool {
        matches!(self.trigger, Trigger::PartitionTime(_))
    }

    /// Whether a partition is complete at this watermark and time, if its first file was at `since_ms`; all are milliseconds
    /// since 1970. After the end of the input, at the watermark `i64::MAX`, all are.
    ///
    /// # Errors
    /// `InvalidInput` if no time is found in the values.
    pub fn is_due(&self, values: &[String], since_ms: i64, watermark_ms: Option<i64>, now_ms: i64) -> Result<bool> {
        if watermark_ms == Some(i64::MAX) {
            return Ok(true);
        }
        Ok(match &self.trigger {
            Trigger::ProcessTime => self.delay_ms == 0 || now_ms > since_ms.saturating_add(self.delay_ms),
            Trigger::PartitionTime(extractor) => {
                let of = extractor.time_ms(values).map_err(|error| error.context(&self.table))?;
                watermark_ms.is_some_and(|watermark| watermark > of.saturating_add(self.delay_ms))
            }
        })
    }
}

impl Extractor {
    /// The time of a partition, in milliseconds since 1970.
    fn time_ms(&self, values: &[String]) -> Result<i64> {
        let text = self.text(values);
        let time = match &self.formatter {
            Some(formatter) => formatter.parse(&text),
            None => usual(&text),
        };
        let Some(time) = time else {
            let text = format!("'{text}' of the partition {} is no time", values.join("/"));
            return Err(Error::invalid_input(text)
                .with_hint(format!("'{PATTERN}' and '{FORMATTER}' of the table say how the time is written")));
        };
        let instant = |time: &NaiveDateTime| match self.zone.from_local_datetime(time) {
            LocalResult::Single(at) | LocalResult::Ambiguous(at, _) => Some(at.timestamp_millis()),
            LocalResult::None => None,
        };
        // A time that a clock jumps over is as long after the jump.
        let found =
            instant(&time).or_else(|| time.checked_add_signed(TimeDelta::hours(1)).and_then(|time| instant(&time)));
        found.ok_or_else(|| Error::invalid_input(format!("{time} is no time in the time zone of '{ZONE}'")))
    }

    fn text(&self, values: &[String]) -> String {
        let Some(pattern) = &self.pattern else { return values.first().cloned().unwrap_or_default() };
        let mut named: Vec<(&String, &String)> = self.keys.iter().zip(values).collect();
        // `$day` is not `$d`.
        named.sort_by_key(|(key, _)| std::cmp::Reverse(key.len()));
        let mut text = String::new();
        let mut rest = pattern.as_str();
        while let Some(at) = rest.find('$') {
            text.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            match named.iter().find(|(key, _)| rest.starts_with(key.as_str())) {
                Some((key, value)) => {
                    text.push_str(value);
                    rest = &rest[key.len()..];
                }
                None => text.push('$'),
            }
        }
        text + rest
    }
}

/// `2026-1-9 7:30:00` with or without a fraction, or a date alone.
fn usual(text: &str) -> Option<NaiveDateTime> {
    let time = NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f");
    let date = || NaiveDate::parse_from_str(text, "%Y-%m-%d").map(|date| date.and_time(NaiveTime::MIN));
    time.or_else(|_| date()).ok()
}

#[cfg(test)]
#[path = "policy_tests.rs"]
mod tests;
