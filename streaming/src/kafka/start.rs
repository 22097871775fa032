//! Where a job begins and ends: asked once, when the job is made, and kept in its plan. Asked at each start, `latest` would skip
//! what came between a crash and the first record, and an end would move.

use std::collections::BTreeMap;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{Offset, TopicPartitionList};
use tereza_runtime::{Error, Result};

use super::client::{self, Context, REQUEST_TIMEOUT};
use super::cluster::Cluster;
use super::options::{BoundedMode, KafkaOptions, OffsetReset, StartupMode};
use crate::record::Positions;

/// Bytes that may wait in a consumer that fetches no messages.
const QUEUE_BYTES: u64 = 1 << 20;

/// What a plan says of a table on Kafka that a job reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begin {
    /// Id of the cluster.
    pub cluster: String,
    /// Topic → id.
    pub topics: BTreeMap<String, String>,
    /// The first offset of each partition.
    pub starts: Positions,
    /// The offset before which each partition ends; empty for a job without an end.
    pub ends: Positions,
}

/// Asks the cluster what the options mean now.
///
/// # Errors
/// `NotFound` naming a topic that is not there; `InvalidInput` for offsets of partitions that are not there, and where the group has
/// not committed and nothing says what stands for it; `Unavailable`.
pub fn resolve(options: &KafkaOptions) -> Result<Begin> {
    let cluster = Cluster::new(&options.connection)?;
    let names = cluster.names(&options.topics)?;
    let ids = cluster.topic_ids(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
    let group = options.group.as_deref().unwrap_or("tereza.plan");
    let config = options.connection.consumer(group, QUEUE_BYTES);
    let consumer: BaseConsumer<Context> = BaseConsumer::from_config_and_context(&config, Context::default())
        .map_err(|error| Error::invalid_input(format!("no consumer: {error}")))?;

    let mut bounds = Bounds::new();
    for topic in &names {
        let mut partitions = BTreeMap::new();
        for partition in 0..cluster.partitions(topic)? {
            partitions.insert(partition, watermarks(&consumer, topic, partition)?);
        }
        bounds.insert(topic.clone(), partitions);
    }
    let asked = Asked { consumer: &consumer, bounds: &bounds, group: options.group.as_deref() };
    let starts = match &options.startup {
        StartupMode::Earliest => asked.all(|low, _| low),
        StartupMode::Latest => asked.all(|_, end| end),
        StartupMode::Timestamp(at) => asked.at(*at)?,
        StartupMode::Offsets(given) => asked.given("scan.startup.specific-offsets", given, |low, _| low)?,
        StartupMode::Group(reset) => asked.of_group(*reset)?,
    };
    let ends = match &options.bounded {
        BoundedMode::Unbounded => Positions::new(),
        BoundedMode::Latest => asked.all(|_, end| end),
        BoundedMode::Timestamp(at) => asked.at(*at)?,
        BoundedMode::Offsets(given) => asked.given("scan.bounded.specific-offsets", given, |_, end| end)?,
        BoundedMode::Group => asked.of_group(OffsetReset::Refuse)?,
    };
    Ok(Begin { cluster: cluster.id()?, topics: ids, starts, ends })
}

/// Topic → partition → the earliest offset, and that after the last committed message.
type Bounds = BTreeMap<String, BTreeMap<i32, (i64, i64)>>;

/// The earliest offset, and that after the last committed message.
pub(super) fn watermarks(consumer: &BaseConsumer<Context>, topic: &str, partition: i32) -> Result<(i64, i64)> {
    let found = consumer.fetch_watermarks(topic, partition, REQUEST_TIMEOUT);
    found.map_err(|error| client::error(format!("cannot ask for the offsets of {topic} [{partition}]"), &error))
}

struct Asked<'a> {
    consumer: &'a BaseConsumer<Context>,
    bounds: &'a Bounds,
    group: Option<&'a str>,
}

impl Asked<'_> {
    fn all(&self, choose: impl Fn(i64, i64) -> i64) -> Positions {
        let of = |partitions: &BTreeMap<i32, (i64, i64)>| {
            partitions.iter().map(|(partition, (low, end))| (*partition, choose(*low, *end))).collect()
        };
        self.bounds.iter().map(|(topic, partitions)| (topic.clone(), of(partitions))).collect()
    }

    /// Every partition with `offset`.
    fn list(&self, offset: Offset) -> Result<TopicPartitionList> {
        let mut list = TopicPartitionList::new();
        for (topic, partitions) in self.bounds {
            for partition in partitions.keys() {
                list.add_partition_offset(topic, *partition, offset)
                    .map_err(|error| client::error("cannot list partitions", &error))?;
            }
        }
        Ok(list)
    }

    /// What was found, and for partitions without an offset what `otherwise` makes of topic, partition and bounds.
    fn found(
        &self,
        list: &TopicPartitionList,
        otherwise: impl Fn(&str, i32, (i64, i64)) -> Result<i64>,
    ) -> Result<Positions> {
        let mut positions = Positions::new();
        for (topic, partitions) in self.bounds {
            let of = positions.entry(topic.clone()).or_default();
            for (partition, bounds) in partitions {
                let found = list.find_partition(topic, *partition);
                if let Some(Err(error)) = found.as_ref().map(|found| found.error()) {
                    return Err(client::error(format!("cannot ask for the offset of {topic} [{partition}]"), &error));
                }
                let offset = match found.map(|found| found.offset()) {
                    Some(Offset::Offset(offset)) => offset,
                    _ => otherwise(topic, *partition, *bounds)?,
                };
                of.insert(*partition, offset);
            }
        }
        Ok(positions)
    }

    fn at(&self, timestamp: i64) -> Result<Positions> {
        let list = self.consumer.offsets_for_times(self.list(Offset::Offset(timestamp))?, REQUEST_TIMEOUT);
        let list = list.map_err(|error| client::error("cannot ask for offsets by time", &error))?;
        self.found(&list, |_, _, (_, end)| Ok(end))
    }

    fn of_group(&self, reset: OffsetReset) -> Result<Positions> {
        let Some(group) = self.group else {
            return match reset {
                OffsetReset::Earliest => Ok(self.all(|low, _| low)),
                OffsetReset::Latest => Ok(self.all(|_, end| end)),
                OffsetReset::Refuse => {
                    Err(Error::invalid_input("nothing says where to begin: 'scan.startup.mode' is missing")
                        .with_hint("'earliest-offset' reads all, 'latest-offset' what comes from now on"))
                }
            };
        };
        let list = self.consumer.committed_offsets(self.list(Offset::Invalid)?, REQUEST_TIMEOUT);
        let list =
            list.map_err(|error| client::error(format!("cannot ask for the offsets of group '{group}'"), &error))?;
        self.found(&list, |topic, partition, (low, end)| match reset {
            OffsetReset::Earliest => Ok(low),
            OffsetReset::Latest => Ok(end),
            OffsetReset::Refuse => {
                let message = format!("group '{group}' has committed no offset of {topic} [{partition}]");
                Err(Error::invalid_input(message).with_hint("set 'properties.auto.offset.reset' to earliest or latest"))
            }
        })
    }

    /// Offsets that were given; `otherwise` stands for partitions that are not named.
    fn given(&self, key: &str, given: &BTreeMap<i32, i64>, otherwise: impl Fn(i64, i64) -> i64) -> Result<Positions> {
        let mut positions = self.all(otherwise);
        for (topic, of) in &mut positions {
            for (partition, offset) in given {
                let Some(slot) = of.get_mut(partition) else {
                    let message = format!("'{key}' names partition {partition}, topic '{topic}' has {}", of.len());
                    return Err(Error::invalid_input(message));
                };
                *slot = *offset;
            }
        }
        Ok(positions)
    }
}
