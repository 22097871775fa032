//! What the tests share: one broker for those that leave it alone, and clients that are not ours.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use tereza_runtime::{clock, ids};
use tereza_streaming::kafka::{Cluster, Connection};
use tereza_streaming::record::{Body, EpochRecord, Positions};

use crate::kafka::Broker;

/// A broker that is not harmed, for many tests; `None` where none is installed.
pub(crate) fn broker() -> Option<&'static Broker> {
    static BROKER: OnceLock<Option<Broker>> = OnceLock::new();
    let broker = BROKER.get_or_init(Broker::start).as_ref();
    if broker.is_none() {
        missing();
    }
    broker
}

/// Says that there is no broker; fails the test under `CI=true`.
pub(crate) fn missing() {
    assert!(std::env::var("CI").as_deref() != Ok("true"), "Kafka is missing; run scripts/test-setup.sh");
    eprintln!("MISSING: Kafka; run scripts/test-setup.sh");
}

/// How our own clients reach a broker.
pub(crate) fn connection(bootstrap: &str) -> Connection {
    Connection::new(&BTreeMap::from([("bootstrap.servers".to_owned(), bootstrap.to_owned())])).unwrap()
}

pub(crate) fn cluster(broker: &Broker) -> Cluster {
    Cluster::new(&connection(&broker.bootstrap())).unwrap()
}

/// A name that nothing else has.
pub(crate) fn name(what: &str) -> String {
    format!("{what}-{}", ids::new_id())
}

/// A topic of this test.
pub(crate) fn topic(broker: &Broker, what: &str, partitions: i32) -> String {
    let topic = name(what);
    cluster(broker).create_topic(&topic, partitions, None, &[]).unwrap();
    topic
}

/// A producer that is not ours: with a transactional id, or without.
pub(crate) fn foreign(broker: &Broker, transactional_id: Option<&str>) -> BaseProducer {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker.bootstrap()).set("enable.idempotence", "true");
    if let Some(id) = transactional_id {
        config.set("transactional.id", id);
    }
    let producer: BaseProducer = config.create().unwrap();
    if transactional_id.is_some() {
        producer.init_transactions(Duration::from_secs(30)).unwrap();
    }
    producer
}

/// Sends texts to a partition and waits until they are there.
pub(crate) fn put(producer: &BaseProducer, topic: &str, partition: i32, rows: &[&str]) {
    for row in rows {
        producer.send(BaseRecord::<str, str>::to(topic).partition(partition).key("k").payload(*row)).unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
}

/// A record with an epoch and positions, and a nonce that says which.
pub(crate) fn record(uid: &str, epoch: u64, positions: &Positions) -> Body {
    Body::Epoch(Box::new(EpochRecord {
        uid: uid.to_owned(),
        generation: 1,
        epoch,
        nonce: format!("nonce-{epoch}"),
        positions: positions.clone(),
        ..EpochRecord::default()
    }))
}

/// Asks until there is an answer.
pub(crate) fn wait_for<T>(what: &str, patience: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = clock::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < patience, "waited {patience:?} for {what}");
        std::thread::park_timeout(Duration::from_millis(20));
    }
}
