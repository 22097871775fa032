//! The options of a table on Kafka, by the names of Flink's connectors `kafka` and `upsert-kafka`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use regex::Regex;
pub(crate) use tereza_engine::flink::duration;
use tereza_runtime::{Error, Result};

use super::client::{Connection, nearest};

/// Options without those of the formats and of `properties.`.
const KNOWN: &[&str] = &[
    "connector",
    "topic",
    "topic-pattern",
    "format",
    "key.format",
    "key.fields",
    "key.fields-prefix",
    "value.format",
    "value.fields-include",
    "scan.startup.mode",
    "scan.startup.specific-offsets",
    "scan.startup.timestamp-millis",
    "scan.bounded.mode",
    "scan.bounded.specific-offsets",
    "scan.bounded.timestamp-millis",
    "scan.topic-partition-discovery.interval",
    "scan.parallelism",
    "sink.partitioner",
    "sink.delivery-guarantee",
    "sink.semantic",
    "sink.transactional-id-prefix",
    "sink.transaction-naming-strategy",
    "sink.parallelism",
    "sink.buffer-flush.max-rows",
    "sink.buffer-flush.interval",
    DEAD_LETTERS,
];
/// Tereza's own: the topic that takes messages which cannot be read.
const DEAD_LETTERS: &str = "tereza.dead-letter.topic";
/// Formats that an option may name; whether a format can read a table is its own matter.
const FORMATS: &[&str] = &[
    "json",
    "csv",
    "raw",
    "avro",
    "avro-confluent",
    "protobuf",
    "protobuf-confluent",
    "debezium-json",
    "canal-json",
    "maxwell-json",
    "ogg-json",
];
/// How often new partitions are looked for where nothing is said.
const DISCOVERY: Duration = Duration::from_secs(30);

/// A table on Kafka.
#[derive(Debug, Clone, PartialEq)]
pub struct KafkaOptions {
    /// Rows replace those with the same key, and a row without a value deletes.
    pub upsert: bool,
    pub topics: Topics,
    pub connection: Connection,
    /// Consumer group that is told how far the job is; it does not decide where the job goes on.
    pub group: Option<String>,
    pub startup: StartupMode,
    pub bounded: BoundedMode,
    /// How often new partitions are looked for; `None` is never.
    pub discovery: Option<Duration>,
    pub key: Option<KeyFormat>,
    pub value: Format,
    /// Whether columns of the key are in the value too.
    pub key_in_value: bool,
    pub partitioner: Partitioner,
    /// Tasks that read, and that write, at most.
    pub scan_parallelism: Option<u32>,
    pub sink_parallelism: Option<u32>,
    /// The topic that takes messages which cannot be read; without it they are left out or end the job.
    pub dead_letters: Option<String>,
}

/// What is read or written.
#[derive(Debug, Clone)]
pub enum Topics {
    Names(Vec<String>),
    /// All topics whose whole name matches when the job is made.
    Pattern(Regex),
}

impl Topics {
    /// Whether a topic is, or may be, one of them.
    pub(crate) fn has(&self, topic: &str) -> bool {
        match self {
            Self::Names(names) => names.iter().any(|name| name == topic),
            Self::Pattern(pattern) => pattern.is_match(topic),
        }
    }
}

impl PartialEq for Topics {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Names(one), Self::Names(other)) => one == other,
            (Self::Pattern(one), Self::Pattern(other)) => one.as_str() == other.as_str(),
            _ => false,
        }
    }
}

/// A format by its name in Flink, with its own options without their prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Format {
    pub name: String,
    pub options: BTreeMap<String, String>,
}

/// How keys of messages are made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFormat {
    pub format: Format,
    /// Columns of the table; empty for `upsert-kafka`, where the primary key says them.
    pub fields: Vec<String>,
    /// Stands before the names in the table and is not in the key.
    pub prefix: String,
}

/// Where a job begins that has not run yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartupMode {
    Earliest,
    Latest,
    /// The committed offsets of the group, and where there is none as `OffsetReset` says.
    Group(OffsetReset),
    /// The first message that is as late; milliseconds since 1970.
    Timestamp(i64),
    /// By partition, of a table with one topic; others begin at their earliest.
    Offsets(BTreeMap<i32, i64>),
}

/// What stands for an offset that a group has not committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetReset {
    Earliest,
    Latest,
    Refuse,
}

/// Where a job ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BoundedMode {
    Unbounded,
    /// What is committed when the job is made.
    Latest,
    Group,
    /// Before the first message that is as late; milliseconds since 1970.
    Timestamp(i64),
    /// By partition; others end at what is committed when the job is made.
    Offsets(BTreeMap<i32, i64>),
}

/// Which partition a row without a partition goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Partitioner {
    /// By the hash of the key as Kafka's Java clients do, or any for rows without a key.
    ByKey,
    /// One for each task.
    Fixed,
    RoundRobin,
}

impl KafkaOptions {
    /// Checks the options of a table.
    ///
    /// # Errors
    /// `InvalidInput` for a name that is not known, with the nearest one that is, and for values that are wrong or do not go
    /// together; `Unsupported` for what is right in Flink and not here. No message holds a secret.
    pub fn parse(given: &BTreeMap<String, String>) -> Result<Self> {
        let options = Given { given };
        let upsert = match options.required("connector")? {
            "kafka" => false,
            "upsert-kafka" => true,
            other => {
                return Err(Error::invalid_input(format!("'connector' is '{other}', not 'kafka' or 'upsert-kafka'")));
            }
        };
        let key_format = options.get("key.format");
        let value_format = match (options.get("format"), options.get("value.format")) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid_input("'format' and 'value.format' are the same: give one"));
            }
            (Some(name), None) => Some(("", name)),
            (None, name) => name.map(|name| ("value.", name)),
        };
        let (value_prefix, value_name) =
            value_format.ok_or_else(|| Error::invalid_input("'value.format' is missing"))?;
        options.check_names(key_format, value_prefix, value_name)?;

        let value = options.format(value_prefix, value_name)?;
        let key = key_format.map(|name| options.format("key.", name)).transpose()?;
        let key = options.key(key, upsert)?;
        let key_in_value = match options.get("value.fields-include").map(str::to_ascii_uppercase).as_deref() {
            None | Some("ALL") => true,
            Some("EXCEPT_KEY") => false,
            Some(_) => return Err(options.wrong("value.fields-include", "ALL or EXCEPT_KEY")),
        };
        if key.as_ref().is_some_and(|key| !key.prefix.is_empty()) && key_in_value {
            return Err(Error::invalid_input("'key.fields-prefix' needs 'value.fields-include' = 'EXCEPT_KEY'"));
        }
        let (connection, group, reset) = options.connection()?;
        let startup = options.startup(upsert, reset)?;
        if options.get("scan.startup.mode") == Some("group-offsets") && group.is_none() {
            return Err(Error::invalid_input("'scan.startup.mode' = 'group-offsets' needs 'properties.group.id'"));
        }
        let bounded = options.bounded()?;
        if bounded == BoundedMode::Group && group.is_none() {
            return Err(Error::invalid_input("'scan.bounded.mode' = 'group-offsets' needs 'properties.group.id'"));
        }
        let topics = options.topics()?;
        let has_offsets = matches!(startup, StartupMode::Offsets(_)) || matches!(bounded, BoundedMode::Offsets(_));
        if has_offsets && !matches!(&topics, Topics::Names(names) if names.len() == 1) {
            return Err(Error::invalid_input("offsets of partitions need a table with one topic"));
        }
        options.check_sink()?;
        let dead_letters = options.dead_letters(&topics)?;
        Ok(Self {
            upsert,
            topics,
            connection,
            group,
            startup,
            bounded,
            discovery: options.discovery()?,
            key,
            value,
            key_in_value,
            partitioner: options.partitioner()?,
            scan_parallelism: options.number("scan.parallelism")?,
            sink_parallelism: options.number("sink.parallelism")?,
            dead_letters,
        })
    }
}

struct Given<'a> {
    given: &'a BTreeMap<String, String>,
}

impl<'a> Given<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.given.get(key).map(String::as_str)
    }

    fn required(&self, key: &str) -> Result<&'a str> {
        self.get(key).ok_or_else(|| Error::invalid_input(format!("'{key}' is missing")))
    }

    fn wrong(&self, key: &str, expected: &str) -> Error {
        let value = self.get(key).unwrap_or_default();
        Error::invalid_input(format!("'{key}' is '{value}', expected {expected}"))
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>> {
        self.get(key).map(|text| text.trim().parse().map_err(|_| self.wrong(key, "a number"))).transpose()
    }

    fn check_names(&self, key_format: Option<&str>, value_prefix: &str, value_format: &str) -> Result<()> {
        let mut prefixes = vec!["properties.".to_owned(), format!("{value_prefix}{value_format}.")];
        prefixes.extend(key_format.map(|name| format!("key.{name}.")));
        for key in self.given.keys() {
            if KNOWN.contains(&key.as_str()) || prefixes.iter().any(|prefix| key.starts_with(prefix)) {
                continue;
            }
            let error = Error::invalid_input(format!("unknown option '{key}' of a table on Kafka"));
            let known = KNOWN.iter().copied().chain(prefixes.iter().map(String::as_str));
            return Err(match nearest(key, known) {
                Some(name) => error.with_hint(format!("did you mean '{name}'?")),
                None => error.with_hint(format!("options of formats begin with {}", prefixes[1..].join(" or "))),
            });
        }
        Ok(())
    }

    fn format(&self, prefix: &str, name: &str) -> Result<Format> {
        if !FORMATS.contains(&name) {
            let error = Error::unsupported(format!("the format '{name}'"));
            return Err(match nearest(name, FORMATS.iter().copied()) {
                Some(known) => error.with_hint(format!("did you mean '{known}'?")),
                None => error.with_hint(format!("formats are {}", FORMATS.join(", "))),
            });
        }
        let prefix = format!("{prefix}{name}.");
        let own = |(key, value): (&String, &String)| Some((key.strip_prefix(&prefix)?.to_owned(), value.clone()));
        Ok(Format { name: name.to_owned(), options: self.given.iter().filter_map(own).collect() })
    }

    fn key(&self, format: Option<Format>, upsert: bool) -> Result<Option<KeyFormat>> {
        let fields = list(self.get("key.fields").unwrap_or_default());
        let prefix = self.get("key.fields-prefix").unwrap_or_default().to_owned();
        let mut seen = BTreeSet::new();
        if let Some(twice) = fields.iter().find(|field| !seen.insert(field.as_str())) {
            return Err(Error::invalid_input(format!("'key.fields' names '{twice}' twice")));
        }
        if let Some(bare) = fields.iter().find(|field| !field.starts_with(&prefix)) {
            return Err(Error::invalid_input(format!("'key.fields' has '{bare}' without the prefix '{prefix}'")));
        }
        let Some(format) = format else {
            return match (upsert, fields.is_empty()) {
                (true, _) => Err(Error::invalid_input("'upsert-kafka' needs 'key.format'")),
                (false, false) => Err(Error::invalid_input("'key.fields' needs 'key.format'")),
                (false, true) => Ok(None),
            };
        };
        match (upsert, fields.is_empty()) {
            (true, false) => {
                Err(Error::invalid_input("'upsert-kafka' takes no 'key.fields': the primary key says them"))
            }
            (false, true) => Err(Error::invalid_input("'key.format' needs 'key.fields'")),
            _ => Ok(Some(KeyFormat { format, fields, prefix })),
        }
    }

    fn topics(&self) -> Result<Topics> {
        match (self.get("topic"), self.get("topic-pattern")) {
            (Some(names), None) => {
                let names = list(names);
                if let Some(bad) = names.iter().find(|name| !is_topic(name)) {
                    return Err(Error::invalid_input(format!("'{bad}' cannot be the name of a topic")));
                }
                let mut seen = BTreeSet::new();
                match names.iter().find(|name| !seen.insert(name.as_str())) {
                    Some(twice) => Err(Error::invalid_input(format!("'topic' names '{twice}' twice"))),
                    None if names.is_empty() => Err(self.wrong("topic", "names of topics")),
                    None => Ok(Topics::Names(names)),
                }
            }
            (None, Some(pattern)) => Regex::new(&format!("^(?:{pattern})$"))
                .map(Topics::Pattern)
                .map_err(|error| Error::invalid_input(format!("'topic-pattern' is no regular expression: {error}"))),
            (Some(_), Some(_)) => Err(Error::invalid_input("'topic' and 'topic-pattern' exclude each other")),
            (None, None) => Err(Error::invalid_input("'topic' or 'topic-pattern' is missing")),
        }
    }

    /// The cluster, the group, and what `auto.offset.reset` means for it.
    fn connection(&self) -> Result<(Connection, Option<String>, OffsetReset)> {
        let own = |(key, value): (&String, &String)| Some((key.strip_prefix("properties.")?.to_owned(), value.clone()));
        let mut properties: BTreeMap<String, String> = self.given.iter().filter_map(own).collect();
        if !properties.contains_key("bootstrap.servers") {
            return Err(Error::invalid_input("'properties.bootstrap.servers' is missing"));
        }
        let group = properties.remove("group.id");
        let reset = match properties.remove("auto.offset.reset").as_deref() {
            Some("earliest") => OffsetReset::Earliest,
            Some("latest") => OffsetReset::Latest,
            None | Some("none" | "error") => OffsetReset::Refuse,
            Some(_) => return Err(self.wrong("properties.auto.offset.reset", "earliest, latest or none")),
        };
        Ok((Connection::new(&properties)?, group, reset))
    }

    fn startup(&self, upsert: bool, reset: OffsetReset) -> Result<StartupMode> {
        let mode = self.get("scan.startup.mode");
        if upsert && mode.is_some() {
            return Err(Error::invalid_input(
                "'upsert-kafka' always begins at the earliest offset: leave out 'scan.startup.mode'",
            ));
        }
        self.check_belongs("scan.startup.specific-offsets", "scan.startup.mode", "specific-offsets")?;
        self.check_belongs("scan.startup.timestamp-millis", "scan.startup.mode", "timestamp")?;
        match mode {
            Some("earliest-offset") => Ok(StartupMode::Earliest),
            Some("latest-offset") => Ok(StartupMode::Latest),
            Some("group-offsets") => Ok(StartupMode::Group(reset)),
            Some("timestamp") => {
                self.required("scan.startup.timestamp-millis")?;
                Ok(StartupMode::Timestamp(self.number("scan.startup.timestamp-millis")?.unwrap_or_default()))
            }
            Some("specific-offsets") => Ok(StartupMode::Offsets(self.offsets("scan.startup.specific-offsets")?)),
            None if upsert => Ok(StartupMode::Earliest),
            // A table that is only written to never asks.
            None => Ok(StartupMode::Group(reset)),
            Some(_) => {
                let modes = "earliest-offset, latest-offset, group-offsets, timestamp or specific-offsets";
                Err(self.wrong("scan.startup.mode", modes))
            }
        }
    }

    fn bounded(&self) -> Result<BoundedMode> {
        self.check_belongs("scan.bounded.specific-offsets", "scan.bounded.mode", "specific-offsets")?;
        self.check_belongs("scan.bounded.timestamp-millis", "scan.bounded.mode", "timestamp")?;
        match self.get("scan.bounded.mode") {
            None | Some("unbounded") => Ok(BoundedMode::Unbounded),
            Some("latest-offset") => Ok(BoundedMode::Latest),
            Some("group-offsets") => Ok(BoundedMode::Group),
            Some("timestamp") => {
                self.required("scan.bounded.timestamp-millis")?;
                Ok(BoundedMode::Timestamp(self.number("scan.bounded.timestamp-millis")?.unwrap_or_default()))
            }
            Some("specific-offsets") => Ok(BoundedMode::Offsets(self.offsets("scan.bounded.specific-offsets")?)),
            Some(_) => {
                let modes = "unbounded, latest-offset, group-offsets, timestamp or specific-offsets";
                Err(self.wrong("scan.bounded.mode", modes))
            }
        }
    }

    fn check_belongs(&self, key: &str, mode: &str, value: &str) -> Result<()> {
        match self.get(key) {
            Some(_) if self.get(mode) != Some(value) => {
                Err(Error::invalid_input(format!("'{key}' goes with '{mode}' = '{value}' only")))
            }
            _ => Ok(()),
        }
    }

    /// `partition:0,offset:42;partition:1,offset:300`.
    fn offsets(&self, key: &str) -> Result<BTreeMap<i32, i64>> {
        let wrong = || self.wrong(key, "'partition:0,offset:42;partition:1,offset:300'");
        let mut offsets = BTreeMap::new();
        for pair in self.required(key)?.split(';').filter(|pair| !pair.trim().is_empty()) {
            let (partition, offset) = pair.split_once(',').ok_or_else(wrong)?;
            let partition = partition.trim().strip_prefix("partition:").ok_or_else(wrong)?;
            let offset = offset.trim().strip_prefix("offset:").ok_or_else(wrong)?;
            let partition: i32 = partition.trim().parse().ok().filter(|number| *number >= 0).ok_or_else(wrong)?;
            let offset: i64 = offset.trim().parse().ok().filter(|number| *number >= 0).ok_or_else(wrong)?;
            if offsets.insert(partition, offset).is_some() {
                return Err(Error::invalid_input(format!("'{key}' names partition {partition} twice")));
            }
        }
        if offsets.is_empty() { Err(wrong()) } else { Ok(offsets) }
    }

    fn discovery(&self) -> Result<Option<Duration>> {
        let key = "scan.topic-partition-discovery.interval";
        let Some(text) = self.get(key) else { return Ok(Some(DISCOVERY)) };
        let interval = duration(text).ok_or_else(|| self.wrong(key, "a duration such as '30 s'"))?;
        Ok((!interval.is_zero()).then_some(interval))
    }

    fn partitioner(&self) -> Result<Partitioner> {
        match self.get("sink.partitioner") {
            None | Some("default") => Ok(Partitioner::ByKey),
            Some("fixed") => Ok(Partitioner::Fixed),
            Some("round-robin") => Ok(Partitioner::RoundRobin),
            Some(class) if class.contains('.') => {
                Err(Error::unsupported(format!("the class '{class}' in 'sink.partitioner'")))
            }
            Some(_) => Err(self.wrong("sink.partitioner", "default, fixed or round-robin")),
        }
    }

    fn dead_letters(&self, topics: &Topics) -> Result<Option<String>> {
        let Some(name) = self.get(DEAD_LETTERS) else { return Ok(None) };
        if !is_topic(name) {
            return Err(self.wrong(DEAD_LETTERS, "the name of a topic"));
        }
        match topics.has(name) {
            true => Err(Error::invalid_input(format!("'{DEAD_LETTERS}' is '{name}', which the table itself reads"))),
            false => Ok(Some(name.to_owned())),
        }
    }

    /// Options of sinks that ask for no more than what Tereza always does: output is exactly once, ids are those of the job.
    fn check_sink(&self) -> Result<()> {
        for key in ["sink.delivery-guarantee", "sink.semantic"] {
            if !matches!(self.get(key), None | Some("none" | "at-least-once" | "exactly-once")) {
                return Err(self.wrong(key, "none, at-least-once or exactly-once"));
            }
        }
        if self.get("sink.buffer-flush.interval").is_some_and(|text| duration(text).is_none()) {
            return Err(self.wrong("sink.buffer-flush.interval", "a duration such as '1 s'"));
        }
        self.number::<u64>("sink.buffer-flush.max-rows").map(|_| ())
    }
}

/// Names between semicolons; those of columns and topics have none in them.
fn list(text: &str) -> Vec<String> {
    text.split(';').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

fn is_topic(name: &str) -> bool {
    let is_legal = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    name.len() <= 249 && name != "." && name != ".." && name.chars().all(is_legal)
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
