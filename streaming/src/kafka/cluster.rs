//! What a cluster says of itself and of its topics, and making and deleting topics.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication, TopicResult};
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::{Offset, TopicPartitionList};
use tereza_runtime::{Error, Result, clock};

use super::client::{self, Connection, Context, REQUEST_TIMEOUT};
use super::options::Topics;
use super::topic_ids::topic_ids;
use crate::record::Positions;

/// Longest wait until a topic that was made is known to all, or one that was deleted to nobody.
const SPREAD_TIMEOUT: Duration = Duration::from_secs(30);

/// A client that asks a cluster. Its calls block, for at most [`REQUEST_TIMEOUT`] unless they say otherwise.
pub struct Cluster {
    connection: Connection,
    admin: AdminClient<Context>,
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cluster")
    }
}

/// What matters of a topic's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSettings {
    pub partitions: i32,
    /// Of its first partition.
    pub replicas: usize,
    values: BTreeMap<String, String>,
}

impl TopicSettings {
    /// The value in force, empty where the broker does not know the name.
    pub fn get(&self, name: &str) -> &str {
        self.values.get(name).map_or("", String::as_str)
    }
}

impl Cluster {
    /// A client; nothing is connected yet.
    ///
    /// # Errors
    /// `InvalidInput` if librdkafka refuses the configuration.
    pub fn new(connection: &Connection) -> Result<Self> {
        let admin = AdminClient::from_config_and_context(&connection.admin(), Context::default())
            .map_err(|error| Error::invalid_input(format!("no client of Kafka: {error}")))?;
        Ok(Self { connection: connection.clone(), admin })
    }

    /// The cluster's id. It tells clusters apart that have the same addresses.
    ///
    /// # Errors
    /// `Unavailable` if no broker answers.
    pub fn id(&self) -> Result<String> {
        let id = self.admin.inner().fetch_cluster_id(REQUEST_TIMEOUT);
        let silent = || Error::unavailable(format!("its id is not told within {REQUEST_TIMEOUT:?}"));
        id.ok_or_else(|| client::why(&self.connection, silent()))
    }

    /// Topic → id. One that is deleted and made again has another id.
    ///
    /// # Errors
    /// `NotFound` naming a topic that is not there; `Unavailable`.
    pub fn topic_ids(&self, topics: &[&str]) -> Result<BTreeMap<String, String>> {
        topic_ids(self.admin.inner(), topics, REQUEST_TIMEOUT).map_err(|error| client::why(&self.connection, error))
    }

    /// Number of partitions.
    ///
    /// # Errors
    /// `NotFound` if there is no such topic; `Unavailable`.
    pub fn partitions(&self, topic: &str) -> Result<i32> {
        Ok(self.shape(topic)?.0)
    }

    /// Partitions, and replicas of the first one.
    fn shape(&self, topic: &str) -> Result<(i32, usize)> {
        let doing = || format!("cannot ask for the partitions of topic '{topic}'");
        let metadata = self.admin.inner().fetch_metadata(Some(topic), REQUEST_TIMEOUT);
        let metadata = metadata.map_err(|error| client::why(&self.connection, client::error(doing(), &error)))?;
        let found = metadata.topics().iter().find(|found| found.name() == topic);
        if let Some(code) = found.and_then(|found| found.error()) {
            return Err(client::of_topic(client::error(doing(), &KafkaError::MetadataFetch(code.into())), topic));
        }
        let partitions = found.map(|found| found.partitions()).unwrap_or_default();
        let replicas = partitions.first().map_or(0, |partition| partition.replicas().len());
        match i32::try_from(partitions.len()) {
            Ok(count) if count > 0 => Ok((count, replicas)),
            _ => Err(Error::not_found(format!("there is no topic '{topic}'"))),
        }
    }

    /// The names that are meant, in their order.
    ///
    /// # Errors
    /// `NotFound` if no topic matches a pattern; `Unavailable`. Whether named ones are there is not asked.
    pub fn names(&self, topics: &Topics) -> Result<Vec<String>> {
        let pattern = match topics {
            Topics::Names(names) => return Ok(names.clone()),
            Topics::Pattern(pattern) => pattern,
        };
        let metadata = self.admin.inner().fetch_metadata(None, REQUEST_TIMEOUT);
        let metadata =
            metadata.map_err(|error| client::why(&self.connection, client::error("cannot list topics", &error)))?;
        let mut names: Vec<String> = metadata
            .topics()
            .iter()
            .map(|topic| topic.name().to_owned())
            .filter(|name| pattern.is_match(name))
            .collect();
        names.sort();
        if names.is_empty() {
            return Err(Error::not_found(format!("no topic matches '{}'", pattern.as_str())));
        }
        Ok(names)
    }

    /// How a topic is set up.
    ///
    /// # Errors
    /// `NotFound` if there is no such topic; `Denied`; `Unavailable`.
    pub fn settings(&self, topic: &str) -> Result<TopicSettings> {
        let (partitions, replicas) = self.shape(topic)?;
        let doing = || format!("cannot ask for the settings of topic '{topic}'");
        let asked = block_on(self.admin.describe_configs(&[ResourceSpecifier::Topic(topic)], &options()));
        let resources = asked.map_err(|error| client::why(&self.connection, client::error(doing(), &error)))?;
        let resource =
            resources.into_iter().next().ok_or_else(|| Error::not_found(format!("there is no topic '{topic}'")))?;
        let resource = resource.map_err(|code| client::error(doing(), &KafkaError::MetadataFetch(code)))?;
        let values = resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?)));
        Ok(TopicSettings { partitions, replicas, values: values.collect() })
    }

    /// Makes a topic and waits until it is known. `replicas` of `None` is the cluster's default.
    ///
    /// # Errors
    /// `AlreadyExists`, `InvalidInput`, `Denied`, `Unavailable`.
    pub fn create_topic(
        &self,
        topic: &str,
        partitions: i32,
        replicas: Option<i32>,
        settings: &[(&str, &str)],
    ) -> Result<()> {
        let mut new = NewTopic::new(topic, partitions, TopicReplication::Fixed(replicas.unwrap_or(-1)));
        for (name, value) in settings {
            new = new.set(name, value);
        }
        let doing = format!("cannot make topic '{topic}'");
        self.one(&doing, block_on(self.admin.create_topics([&new], &options())))?;
        self.until(&doing, || match self.partitions(topic) {
            Ok(known) => Ok(known == partitions),
            Err(error) if error.kind() == tereza_runtime::ErrorKind::NotFound || client::may_pass(&error) => Ok(false),
            Err(error) => Err(error),
        })
    }

    /// Deletes a topic and waits until it is not known any more.
    ///
    /// # Errors
    /// `NotFound`, `Denied`, `Unavailable`.
    pub fn delete_topic(&self, topic: &str) -> Result<()> {
        let doing = format!("cannot delete topic '{topic}'");
        self.one(&doing, block_on(self.admin.delete_topics(&[topic], &options())))?;
        self.until(&doing, || match self.partitions(topic) {
            Err(error) if error.kind() == tereza_runtime::ErrorKind::NotFound => Ok(true),
            Err(error) if !client::may_pass(&error) => Err(error),
            _ => Ok(false),
        })
    }

    /// Deletes the messages before these offsets. Readers that are behind find their place gone.
    ///
    /// # Errors
    /// `Denied`, `Unavailable`, and what a partition says; others may be done then.
    pub fn delete_records(&self, before: &Positions) -> Result<()> {
        let doing = "cannot delete messages that were read";
        let mut list = TopicPartitionList::new();
        for (topic, partitions) in before {
            for (partition, offset) in partitions.iter().filter(|(_, offset)| **offset > 0) {
                list.add_partition_offset(topic, *partition, Offset::Offset(*offset))
                    .map_err(|error| client::error(doing, &error))?;
            }
        }
        if list.count() == 0 {
            return Ok(());
        }
        let done = block_on(self.admin.delete_records(&list, &options()));
        let done = done.map_err(|error| client::error(doing, &error))?;
        let failed = done.elements().into_iter().find_map(|of| of.error().err());
        failed.map_or(Ok(()), |error| Err(client::error(doing, &error)))
    }

    fn one(&self, doing: &str, answer: KafkaResult<Vec<TopicResult>>) -> Result<()> {
        let results = answer.map_err(|error| client::why(&self.connection, client::error(doing, &error)))?;
        match results.into_iter().next() {
            Some(Err((_, code))) => Err(client::error(doing, &KafkaError::MetadataFetch(code))),
            _ => Ok(()),
        }
    }

    fn until(&self, doing: &str, mut is_done: impl FnMut() -> Result<bool>) -> Result<()> {
        let start = clock::now();
        while !is_done()? {
            if start.elapsed() > SPREAD_TIMEOUT {
                return Err(Error::unavailable(format!(
                    "{doing}: the brokers do not agree on it after {SPREAD_TIMEOUT:?}"
                )));
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
        Ok(())
    }
}

fn options() -> AdminOptions {
    AdminOptions::new().request_timeout(Some(REQUEST_TIMEOUT)).operation_timeout(Some(REQUEST_TIMEOUT))
}
