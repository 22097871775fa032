//! How librdkafka is configured, and what its errors mean.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::client::ClientContext;
use rdkafka::config::FromClientConfigAndContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::Message;
use rdkafka::producer::{DeliveryResult, ProducerContext};
use rdkafka::statistics::Statistics;
use tereza_runtime::{Error, ErrorKind, Result, Secret};

use crate::record::Positions;

/// Longest wait for one request to the cluster.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The facility under which a producer logs that its transaction cannot be committed.
const TRANSACTION_FAILED: &str = "TXNERR";
/// How often, each time for 100 ms, a client is asked why it is not let in.
const WHY_POLLS: u32 = 30;
/// Bytes of one message, of any topic. A topic has a bound of its own, which the broker checks.
pub(crate) const MESSAGE_BYTES_MAX: usize = 8 << 20;
/// Bytes that wait in a producer before it pushes back.
const PRODUCER_QUEUE_KIB: u32 = 64 << 10;
/// Messages that wait in a producer before it pushes back.
const PRODUCER_QUEUE_MESSAGES: u32 = 500_000;

/// Properties whose values hold the commit protocol up, what they are set to, and whom they belong to.
const FIXED: &[(&str, &str, Side)] = &[
    ("allow.auto.create.topics", "false", Side::Consumer),
    ("auto.offset.reset", "error", Side::Consumer),
    ("check.crcs", "true", Side::Consumer),
    ("enable.auto.commit", "false", Side::Consumer),
    ("enable.auto.offset.store", "false", Side::Consumer),
    ("enable.partition.eof", "true", Side::Consumer),
    ("isolation.level", "read_committed", Side::Consumer),
    ("acks", "all", Side::Producer),
    ("enable.idempotence", "true", Side::Producer),
];

/// What is better than the default and may be set otherwise.
const DEFAULTS: &[(&str, &str, Side)] = &[
    ("reconnect.backoff.ms", "10", Side::Both),
    ("reconnect.backoff.max.ms", "1000", Side::Both),
    ("topic.metadata.refresh.sparse", "true", Side::Both),
    ("socket.keepalive.enable", "true", Side::Both),
    ("fetch.wait.max.ms", "50", Side::Consumer),
    ("fetch.error.backoff.ms", "50", Side::Consumer),
    // A full queue is fetched into again as soon as there is room; librdkafka's own pause is a second.
    ("fetch.queue.backoff.ms", "2", Side::Consumer),
    ("batch.size", "1048576", Side::Producer),
    ("batch.num.messages", "100000", Side::Producer),
    ("compression.type", "lz4", Side::Producer),
    ("delivery.report.only.error", "true", Side::Producer),
    ("linger.ms", "5", Side::Producer),
    ("partitioner", "murmur2_random", Side::Producer),
];

/// What clients can authenticate with.
const SASL: &[&str] = &["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"];

/// Properties that only the protocol sets.
const RESERVED: &[&str] = &["client.rack", "group.instance.id", "transaction.timeout.ms", "transactional.id"];

/// What a name that librdkafka does not know is compared with.
const USUAL: &[&str] = &[
    "bootstrap.servers",
    "client.id",
    "group.id",
    "security.protocol",
    "sasl.mechanism",
    "sasl.username",
    "sasl.password",
    "ssl.ca.location",
    "ssl.ca.pem",
    "ssl.certificate.location",
    "ssl.certificate.pem",
    "ssl.key.location",
    "ssl.key.pem",
    "ssl.key.password",
    "ssl.endpoint.identification.algorithm",
    "socket.timeout.ms",
    "socket.connection.setup.timeout.ms",
    "metadata.max.age.ms",
    "topic.metadata.refresh.interval.ms",
    "reconnect.backoff.ms",
    "fetch.min.bytes",
    "fetch.max.bytes",
    "fetch.wait.max.ms",
    "max.partition.fetch.bytes",
    "queued.max.messages.kbytes",
    "session.timeout.ms",
    "linger.ms",
    "batch.size",
    "compression.type",
    "compression.level",
    "request.timeout.ms",
    "max.in.flight",
    "auto.offset.reset",
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Consumer,
    Producer,
    Both,
}

impl Side {
    fn has(self, client: Self) -> bool {
        self == Self::Both || self == client
    }
}

/// How to reach a cluster: addresses and what authenticates. Shown without secrets.
#[derive(Clone, PartialEq, Eq)]
pub struct Connection {
    properties: BTreeMap<String, Property>,
}

#[derive(Clone, PartialEq, Eq)]
enum Property {
    Plain(String),
    Secret(Secret),
}

impl Property {
    fn text(&self) -> &str {
        match self {
            Self::Plain(text) => text,
            Self::Secret(secret) => secret.expose(),
        }
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for (key, value) in &self.properties {
            match value {
                Property::Plain(text) => map.entry(key, text),
                Property::Secret(secret) => map.entry(key, secret),
            };
        }
        map.finish()
    }
}

impl Connection {
    /// Checks properties of librdkafka, or those of Kafka's Java clients that mean the same. `bootstrap.servers` must be there.
    ///
    /// # Errors
    /// `InvalidInput` naming a property that is not known, or whose value is wrong; `Unsupported` for those that would break the
    /// commit protocol or need Java. No message holds a secret.
    pub fn new(given: &BTreeMap<String, String>) -> Result<Self> {
        let mut properties = BTreeMap::new();
        for (key, value) in given {
            if let Some((_, fixed, _)) = FIXED.iter().find(|(name, _, _)| *name == alias(key)) {
                let value = if value == "-1" { "all" } else { value };
                if !value.eq_ignore_ascii_case(fixed) {
                    let message = format!("the property '{key}' with another value than '{fixed}'");
                    return Err(Error::unsupported(message).with_hint("exactly-once delivery stands on it"));
                }
                continue;
            }
            if RESERVED.contains(&key.as_str()) {
                let message = format!("the property '{key}'");
                return Err(Error::unsupported(message).with_hint("it is part of the commit protocol"));
            }
            for (key, value) in translated(key, value, given)? {
                let value = if is_secret(&key) { Property::Secret(Secret::new(value)) } else { Property::Plain(value) };
                properties.insert(key, value);
            }
        }
        if !properties.contains_key("bootstrap.servers") {
            return Err(Error::invalid_input("the property 'bootstrap.servers' is missing"));
        }
        check_sasl(&properties)?;
        let connection = Self { properties };
        connection.base(Side::Both).create_native_config().map_err(|error| connection.refused(&error))?;
        Ok(connection)
    }

    /// What to connect to first.
    pub fn bootstrap(&self) -> &str {
        self.properties.get("bootstrap.servers").map_or("", Property::text)
    }

    /// A consumer that reads committed messages of partitions that are assigned to it. At most `queue_bytes` wait in it.
    pub(crate) fn consumer(&self, group: &str, queue_bytes: u64) -> ClientConfig {
        let mut config = self.base(Side::Consumer);
        config.set("group.id", group);
        config.set("queued.max.messages.kbytes", (queue_bytes >> 10).clamp(1, 2_097_151).to_string());
        config
    }

    /// A producer that is the only one with `transactional_id`, until the next one.
    pub(crate) fn producer(&self, transactional_id: &str, transaction_timeout: Duration) -> ClientConfig {
        let mut config = self.base(Side::Producer);
        let timeout = transaction_timeout.as_millis().to_string();
        config.set("transactional.id", transactional_id);
        config.set("transaction.timeout.ms", &timeout);
        config.set("message.timeout.ms", &timeout);
        config.set("message.max.bytes", MESSAGE_BYTES_MAX.to_string());
        config.set("queue.buffering.max.kbytes", PRODUCER_QUEUE_KIB.to_string());
        config.set("queue.buffering.max.messages", PRODUCER_QUEUE_MESSAGES.to_string());
        config
    }

    /// A client that asks about topics and makes them.
    pub(crate) fn admin(&self) -> ClientConfig {
        self.base(Side::Both)
    }

    fn base(&self, client: Side) -> ClientConfig {
        let mut config = ClientConfig::new();
        for (key, value, _) in DEFAULTS.iter().filter(|(_, _, side)| side.has(client)) {
            config.set(*key, *value);
        }
        for (key, value) in &self.properties {
            config.set(key, value.text());
        }
        for (key, value, _) in FIXED.iter().filter(|(_, _, side)| side.has(client)) {
            config.set(*key, *value);
        }
        config.set_log_level(RDKafkaLogLevel::Warning);
        config
    }

    /// What librdkafka says of a property that it does not take.
    fn refused(&self, error: &KafkaError) -> Error {
        let KafkaError::ClientConfig(_, description, key, _) = error else {
            return Error::invalid_input(format!("the properties of Kafka are refused: {error}"));
        };
        if description.contains("No such configuration property") {
            let error = Error::invalid_input(format!("unknown property '{key}' of Kafka"));
            return match nearest(key, USUAL.iter().copied()) {
                Some(name) => error.with_hint(format!("did you mean '{name}'?")),
                None => error,
            };
        }
        match self.properties.get(key) {
            Some(Property::Secret(_)) => Error::invalid_input(format!("the value of the property '{key}' is refused")),
            _ if description.contains("Unsupported") => {
                Error::unsupported(format!("the property '{key}': {description}"))
            }
            _ => Error::invalid_input(format!("the property '{key}': {description}")),
        }
    }
}

/// The name that librdkafka documents for a property with two.
fn alias(key: &str) -> &str {
    match key {
        "request.required.acks" => "acks",
        other => other,
    }
}

fn is_secret(key: &str) -> bool {
    ["password", "secret", "jaas", "key.pem", "oauthbearer.config"].iter().any(|part| key.contains(part))
}

/// Properties of librdkafka for one that only Java's clients have; any other one as it is.
fn translated(key: &str, value: &str, all: &BTreeMap<String, String>) -> Result<Vec<(String, String)>> {
    let one = |key: &str| Ok(vec![(key.to_owned(), value.to_owned())]);
    let is_pem = |key: &str| all.get(key).is_some_and(|kind| kind.eq_ignore_ascii_case("PEM"));
    let java = |what: &str, hint: &str| {
        Err(Error::unsupported(format!("the property '{key}': {what}")).with_hint(hint.to_owned()))
    };
    match key {
        "security.protocol" => Ok(vec![(key.to_owned(), value.to_ascii_lowercase())]),
        "ssl.truststore.certificates" => one("ssl.ca.pem"),
        "ssl.keystore.certificate.chain" => one("ssl.certificate.pem"),
        "ssl.keystore.key" => one("ssl.key.pem"),
        "ssl.truststore.type" | "ssl.keystore.type" if is_pem(key) => Ok(Vec::new()),
        "ssl.truststore.location" if is_pem("ssl.truststore.type") => one("ssl.ca.location"),
        "ssl.keystore.location" if is_pem("ssl.keystore.type") => Ok(vec![
            ("ssl.certificate.location".to_owned(), value.to_owned()),
            ("ssl.key.location".to_owned(), value.to_owned()),
        ]),
        "ssl.endpoint.identification.algorithm" if value.is_empty() => Ok(vec![(key.to_owned(), "none".to_owned())]),
        "sasl.jaas.config" => jaas(value),
        _ if key.starts_with("ssl.truststore.") || key.starts_with("ssl.keystore.") => java(
            "stores of Java's keytool",
            "give the certificates as PEM: 'ssl.ca.location', 'ssl.certificate.location', 'ssl.key.location'",
        ),
        _ if key.ends_with(".class") || key.ends_with("serializer") || key.ends_with(".reporters") => {
            java("classes of Java", "leave it out")
        }
        _ => one(key),
    }
}

/// Whether librdkafka as it is built here can authenticate so; by itself it says so only when it connects.
fn check_sasl(properties: &BTreeMap<String, Property>) -> Result<()> {
    let get = |name: &str| properties.get(name).map(Property::text);
    if !get("security.protocol").is_some_and(|protocol| protocol.starts_with("sasl_")) {
        return Ok(());
    }
    let mechanism = get("sasl.mechanism").or_else(|| get("sasl.mechanisms")).unwrap_or("GSSAPI");
    if SASL.contains(&mechanism) {
        return Ok(());
    }
    Err(Error::unsupported(format!("the SASL mechanism '{mechanism}'"))
        .with_hint(format!("set 'sasl.mechanism' to {}", SASL.join(", "))))
}

/// User and password of a login module, `… PlainLoginModule required username="u" password="p";`.
fn jaas(text: &str) -> Result<Vec<(String, String)>> {
    let module = text.split_whitespace().next().unwrap_or_default();
    if !module.ends_with(".PlainLoginModule") && !module.ends_with(".ScramLoginModule") {
        let module = module.rsplit('.').next().unwrap_or_default();
        return Err(Error::unsupported(format!("the login module '{module}' in the property 'sasl.jaas.config'"))
            .with_hint("PlainLoginModule and ScramLoginModule are"));
    }
    let field = |name: &str| {
        let missing = || Error::invalid_input(format!("the property 'sasl.jaas.config' has no {name}=\"…\""));
        let (_, rest) = text.split_once(&format!(" {name}=")).ok_or_else(missing)?;
        let quote = rest.chars().next().filter(|first| *first == '"' || *first == '\'').ok_or_else(missing)?;
        let mut value = String::new();
        let mut rest = rest[1..].chars();
        loop {
            match rest.next().ok_or_else(missing)? {
                '\\' => value.extend(rest.next()),
                end if end == quote => return Ok::<_, Error>(value),
                other => value.push(other),
            }
        }
    };
    Ok(vec![("sasl.username".to_owned(), field("username")?), ("sasl.password".to_owned(), field("password")?)])
}

/// The name that is most like `name`, if one is like it.
pub(crate) fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name = name.to_lowercase();
    let scored = known.into_iter().map(|known| (strsim::normalized_damerau_levenshtein(&name, known), known));
    scored.max_by(|a, b| a.0.total_cmp(&b.0)).filter(|(score, _)| *score > 0.6).map(|(_, known)| known)
}

/// How often a reader says how far its partitions go.
pub(crate) const ENDS_INTERVAL: Duration = Duration::from_secs(5);

/// What a client says on its own: its log goes to ours; kept are the first message that was not delivered, why its
/// transaction cannot be committed, why a broker did not let it in, whether no broker answers, and how far the partitions go
/// that it reads.
#[derive(Default)]
pub(crate) struct Context {
    ends: Mutex<Positions>,
    is_alone: AtomicBool,
    failed: Mutex<Option<(KafkaError, String)>>,
    broken: Mutex<Option<String>>,
    refused: Mutex<Option<String>>,
}

impl Context {
    /// The first delivery that failed: why, and of what.
    pub(crate) fn failed(&self) -> Option<(KafkaError, String)> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Why the transaction that is open cannot be committed. It is told nowhere else before messages wait too long.
    pub(crate) fn broken(&self) -> Option<String> {
        self.broken.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Topic → partition → the offset after what is committed, as the client knew it up to [`ENDS_INTERVAL`] ago.
    pub(crate) fn ends(&self) -> Positions {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the client reached no broker, up to [`ENDS_INTERVAL`] ago.
    pub(crate) fn is_alone(&self) -> bool {
        self.is_alone.load(Ordering::Relaxed)
    }

    /// That a broker does not let the client in, or is not who it should be. Calls only say that they had no answer.
    pub(crate) fn refused(&self) -> Option<Error> {
        let reason = self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()?;
        Some(Error::unauthenticated(format!("Kafka does not let us in: {reason}")))
    }
}

/// Asks why the cluster does not answer: a client that only connects is told. The error says which cluster is meant.
pub(crate) fn why(connection: &Connection, error: Error) -> Error {
    if error.kind() != ErrorKind::Unavailable {
        return error;
    }
    let config = connection.consumer("tereza.why", 1 << 20);
    if let Ok(consumer) = BaseConsumer::<Context>::from_config_and_context(&config, Context::default()) {
        for _ in 0..WHY_POLLS {
            // What it is told arrives at the context.
            let _ = consumer.poll(Duration::from_millis(100));
            if let Some(refused) = consumer.client().context().refused() {
                return refused;
            }
        }
    }
    // librdkafka says of each of its errors whether it is a broker's.
    let how = if error.message().contains("Broker: ") { "" } else { " does not answer" };
    error.context(format_args!("Kafka at {}{how}", connection.bootstrap()))
}

impl ClientContext for Context {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        if facility == TRANSACTION_FAILED {
            let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
            broken.get_or_insert_with(|| message.to_owned());
        }
        match level {
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
                tracing::debug!(target: "tereza::kafka", facility, "{message}");
            }
            // A client reports at these levels what it then retries; what it gives up is an error of a call.
            _ => tracing::info!(target: "tereza::kafka", facility, "{message}"),
        }
    }

    fn stats(&self, statistics: Statistics) {
        // A connection that waits for a request is up, or is being made anew.
        let is_up = statistics.brokers.values().any(|broker| matches!(broker.state.as_str(), "UP" | "UPDATE"));
        self.is_alone.store(!is_up, Ordering::Relaxed);
        let mut ends = Positions::new();
        for (topic, of) in statistics.topics {
            let known = of.partitions.into_iter().filter(|(_, partition)| partition.ls_offset >= 0);
            ends.insert(topic, known.map(|(number, partition)| (number, partition.ls_offset)).collect());
        }
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner) = ends;
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if matches!(error.rdkafka_error_code(), Some(Code::Authentication | Code::SaslAuthenticationFailed | Code::SSL))
        {
            let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
            refused.get_or_insert_with(|| reason.to_owned());
        }
        tracing::debug!(target: "tereza::kafka", %error, "{reason}");
    }
}

impl ConsumerContext for Context {}

impl ProducerContext for Context {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        if let Err((error, message)) = result {
            let mut failed = self.failed.lock().unwrap_or_else(PoisonError::into_inner);
            let what = || format!("a message for {} [{}]", message.topic(), message.partition());
            failed.get_or_insert_with(|| (error.clone(), what()));
        }
    }
}

/// Whether somebody else has the transactional id.
pub(crate) fn is_fenced(error: &KafkaError) -> bool {
    let code = error.rdkafka_error_code();
    matches!(
        code,
        Some(Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch | Code::TransactionCoordinatorFenced)
    )
}

/// Tereza's error for one of rdkafka.
pub(crate) fn error(doing: impl fmt::Display, error: &KafkaError) -> Error {
    let kind = error.rdkafka_error_code().map_or(ErrorKind::Unavailable, kind);
    Error::new(kind, format!("{doing}: {error}")).with_source(error.clone())
}

/// The error of a request about a topic: one that is not there is named.
pub(crate) fn of_topic(error: Error, topic: &str) -> Error {
    match error.kind() {
        ErrorKind::NotFound => Error::not_found(format!("there is no topic '{topic}'")),
        _ => error,
    }
}

fn kind(code: Code) -> ErrorKind {
    match code {
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition | Code::UnknownTopicId => {
            ErrorKind::NotFound
        }
        Code::TopicAlreadyExists => ErrorKind::AlreadyExists,
        Code::TopicAuthorizationFailed
        | Code::GroupAuthorizationFailed
        | Code::ClusterAuthorizationFailed
        | Code::TransactionalIdAuthorizationFailed => ErrorKind::Denied,
        Code::Authentication | Code::SaslAuthenticationFailed => ErrorKind::Unauthenticated,
        Code::MessageSizeTooLarge
        | Code::MessageBatchTooLarge
        | Code::InvalidMessageSize
        | Code::InvalidTopic
        | Code::InvalidPartitions
        | Code::InvalidReplicationFactor
        | Code::InvalidConfig
        | Code::InvalidTransactionTimeout
        | Code::InvalidRecord
        | Code::PolicyViolation
        | Code::InvalidArgument => ErrorKind::InvalidInput,
        Code::UnsupportedFeature | Code::UnsupportedVersion | Code::UnsupportedSASLMechanism => ErrorKind::Unsupported,
        Code::Fenced | Code::ProducerFenced | Code::InvalidProducerEpoch | Code::TransactionCoordinatorFenced => {
            ErrorKind::Conflict
        }
        _ => ErrorKind::Unavailable,
    }
}

/// Whether trying again may help without anybody doing something.
pub(crate) fn may_pass(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Conflict)
}
