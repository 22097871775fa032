//! Reading topics: what is committed, up to where, and what is not there any more.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::executor::block_on;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::producer::Producer;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tereza_runtime::{ErrorKind, clock};
use tereza_streaming::kafka::{Assignment, Begin, KafkaOptions, Limits, Source, resolve};
use tereza_streaming::record::Positions;
use tereza_streaming::shares::Owners;

use crate::kafka::Broker;
use crate::support::{broker, cluster, connection, foreign, name, put, topic, wait_for};

const LIMITS: Limits = Limits { queue_bytes: 4 << 20, discovery: None, task: 0, owners: Owners::one() };
const PATIENCE: Duration = Duration::from_secs(30);

fn options(broker: &Broker, topic: &str, more: &[(&str, &str)]) -> KafkaOptions {
    let bootstrap = broker.bootstrap();
    let plain =
        [("connector", "kafka"), ("topic", topic), ("properties.bootstrap.servers", &bootstrap), ("format", "raw")];
    let given = plain.iter().chain(more).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    KafkaOptions::parse(&given.collect()).unwrap()
}

fn assignments(begin: &Begin) -> Vec<Assignment> {
    let of = |(topic, partitions): (&String, &BTreeMap<i32, i64>)| {
        let ends = begin.ends.get(topic).cloned().unwrap_or_default();
        let one = |(partition, position): (&i32, &i64)| Assignment {
            topic: topic.clone(),
            partition: *partition,
            position: *position,
            end: ends.get(partition).copied(),
        };
        partitions.iter().map(one).collect::<Vec<_>>()
    };
    begin.starts.iter().flat_map(of).collect()
}

fn open(broker: &Broker, begin: &Begin, limits: Limits) -> Source {
    Source::open(&connection(&broker.bootstrap()), "tereza.tests", assignments(begin), begin.topics.clone(), limits)
        .unwrap()
}

/// Partition and value of all that is read until the source is finished.
fn drain(source: &mut Source) -> Vec<(i32, String)> {
    let mut rows = Vec::new();
    let start = clock::now();
    loop {
        let batch = source.poll(1_000, Duration::from_millis(100), |row| {
            rows.push((row.partition, String::from_utf8_lossy(row.value.unwrap_or_default()).into_owned()));
        });
        if batch.unwrap().is_finished {
            return rows;
        }
        assert!(start.elapsed() < PATIENCE, "not finished after {rows:?} at {:?}", source.positions());
    }
}

/// Partition and value of all that is committed in a topic now.
pub(crate) fn read_all(broker: &Broker, topic: &str) -> Vec<(i32, String)> {
    let bounded = [("scan.startup.mode", "earliest-offset"), ("scan.bounded.mode", "latest-offset")];
    let begin = resolve(&options(broker, topic, &bounded)).unwrap();
    if begin.starts == begin.ends {
        return Vec::new();
    }
    drain(&mut open(broker, &begin, LIMITS))
}

/// How many rows are committed in a topic now; each value is given to `each`.
pub(crate) fn count_all(broker: &Broker, topic: &str, mut each: impl FnMut(&[u8])) -> usize {
    let bounded = [("scan.startup.mode", "earliest-offset"), ("scan.bounded.mode", "latest-offset")];
    let begin = resolve(&options(broker, topic, &bounded)).unwrap();
    let mut source = open(broker, &begin, LIMITS);
    let mut rows = 0;
    loop {
        let batch =
            source.poll(64 << 10, Duration::from_millis(100), |row| each(row.value.unwrap_or_default())).unwrap();
        rows += batch.rows;
        if batch.is_finished {
            return rows;
        }
    }
}

/// Where each partition ends that has no transactions.
pub(crate) fn ends(broker: &Broker, topic: &str) -> BTreeMap<i32, i64> {
    resolve(&options(broker, topic, &[("scan.startup.mode", "latest-offset")])).unwrap().starts.remove(topic).unwrap()
}

fn admin(broker: &Broker) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", broker.bootstrap()).create().unwrap()
}

#[test]
fn a_bounded_source_ends_behind_markers_and_aborted_messages() {
    let Some(broker) = broker() else { return };
    let topic = topic(broker, "in", 2);
    let producer = foreign(broker, Some(&name("writer")));
    let rounds: [(&[&str], bool); 3] = [(&["a", "b"], true), (&["never"], false), (&["c"], true)];
    for (rows, commits) in rounds {
        producer.begin_transaction().unwrap();
        put(&producer, &topic, 0, rows);
        match commits {
            true => producer.commit_transaction(PATIENCE).unwrap(),
            false => producer.abort_transaction(PATIENCE).unwrap(),
        }
    }
    // The second partition ends with what was aborted.
    producer.begin_transaction().unwrap();
    put(&producer, &topic, 1, &["nor this"]);
    producer.abort_transaction(PATIENCE).unwrap();
    let begin = resolve(&options(
        broker,
        &topic,
        &[("scan.startup.mode", "earliest-offset"), ("scan.bounded.mode", "latest-offset")],
    ));
    let begin = begin.unwrap();
    // Offsets of partition 0: a b, marker, never, marker, c, marker.
    assert_eq!(begin.ends[&topic], [(0, 7), (1, 2)].into());
    let mut source = open(broker, &begin, LIMITS);
    assert_eq!(drain(&mut source), [(0, "a".to_owned()), (0, "b".to_owned()), (0, "c".to_owned())]);
    assert_eq!(source.positions(), begin.ends);
    // What comes after the end is not read.
    producer.begin_transaction().unwrap();
    put(&producer, &topic, 0, &["late"]);
    producer.commit_transaction(PATIENCE).unwrap();
    assert_eq!(drain(&mut open(broker, &begin, LIMITS)).len(), 3);
    // Who begins at the end is finished at once.
    let finished = Begin { starts: begin.ends.clone(), ..begin };
    assert_eq!(drain(&mut open(broker, &finished, LIMITS)), []);
}

#[test]
fn an_open_transaction_is_not_read_before_it_is_committed() {
    let Some(broker) = broker() else { return };
    let topic = topic(broker, "in", 1);
    let producer = foreign(broker, Some(&name("writer")));
    producer.begin_transaction().unwrap();
    put(&producer, &topic, 0, &["a"]);
    let begin = resolve(&options(broker, &topic, &[("scan.startup.mode", "latest-offset")])).unwrap();
    assert_eq!(begin.starts[&topic], [(0, 0)].into(), "it would be skipped");
    let mut source = open(broker, &begin, LIMITS);
    let mut rows = 0;
    source.poll(10, Duration::from_secs(1), |_| rows += 1).unwrap();
    assert_eq!(rows, 0);
    producer.commit_transaction(PATIENCE).unwrap();
    wait_for("the row", PATIENCE, || {
        let batch = source.poll(10, Duration::from_millis(100), |row| {
            assert_eq!((row.offset, row.value, row.key), (0, Some(&b"a"[..]), Some(&b"k"[..])));
            rows += 1;
        });
        batch.unwrap();
        (rows == 1).then_some(())
    });
}

#[test]
fn starts_are_what_the_options_say() {
    let Some(broker) = broker() else { return };
    let topic = topic(broker, "in", 2);
    let producer = foreign(broker, None);
    put(&producer, &topic, 0, &["a", "b", "c"]);
    let at = |more: &[(&str, &str)]| resolve(&options(broker, &topic, more)).map(|begin| begin.starts[&topic].clone());
    let start = |mode: &str| at(&[("scan.startup.mode", mode)]);
    assert_eq!(start("earliest-offset").unwrap(), [(0, 0), (1, 0)].into());
    assert_eq!(start("latest-offset").unwrap(), [(0, 3), (1, 0)].into());
    let timestamp =
        |ms: &str| at(&[("scan.startup.mode", "timestamp"), ("scan.startup.timestamp-millis", ms)]).unwrap();
    assert_eq!(timestamp("1"), [(0, 0), (1, 0)].into());
    assert_eq!(timestamp("33000000000000"), [(0, 3), (1, 0)].into());
    let specific =
        |text: &str| at(&[("scan.startup.mode", "specific-offsets"), ("scan.startup.specific-offsets", text)]);
    assert_eq!(specific("partition:0,offset:2").unwrap(), [(0, 2), (1, 0)].into());
    let error = specific("partition:2,offset:0").unwrap_err();
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains("names partition 2"), "{error}");

    let group = name("group");
    let in_group = |reset: &str| {
        at(&[
            ("scan.startup.mode", "group-offsets"),
            ("properties.group.id", &group),
            ("properties.auto.offset.reset", reset),
        ])
    };
    let error = in_group("none").unwrap_err().to_string();
    assert!(error.contains("has committed no offset"), "{error}");
    // What our own source tells the group is what another job begins with.
    let begin = resolve(&options(broker, &topic, &[("scan.startup.mode", "earliest-offset")])).unwrap();
    let connection = connection(&broker.bootstrap());
    let source = Source::open(&connection, &group, assignments(&begin), begin.topics.clone(), LIMITS).unwrap();
    source.tell_group(&Positions::from([(topic.clone(), [(0, 2)].into())]));
    wait_for("the group to know", PATIENCE, || {
        (in_group("earliest").unwrap() == [(0, 2), (1, 0)].into()).then_some(())
    });
    assert_eq!(in_group("latest").unwrap(), [(0, 2), (1, 0)].into());
    let error = at(&[]).unwrap_err().to_string();
    assert!(error.contains("'scan.startup.mode' is missing"), "{error}");
}

#[test]
fn rows_that_are_gone_stop_the_source_and_are_named() {
    let Some(broker) = broker() else { return };
    let topic = topic(broker, "in", 1);
    put(&foreign(broker, None), &topic, 0, &["a", "b", "c", "d"]);
    let mut begin = resolve(&options(broker, &topic, &[("scan.startup.mode", "earliest-offset")])).unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Offset(3)).unwrap();
    block_on(admin(broker).delete_records(&list, &AdminOptions::new())).unwrap();
    let gone = |begin: &Begin| {
        let mut source = open(broker, begin, LIMITS);
        wait_for("an error", PATIENCE, || source.poll(10, Duration::from_millis(100), |_| panic!("a row")).err())
    };
    let error = gone(&begin);
    assert_eq!(error.kind(), ErrorKind::NotFound);
    let text = error.to_string();
    assert!(text.contains(&format!("{topic} [0]")) && text.contains("offset 0, the earliest is 3"), "{text}");
    begin.starts.get_mut(&topic).unwrap().insert(0, 9);
    let text = gone(&begin).to_string();
    assert!(text.contains("wanted is offset 9, the topic ends at 4"), "{text}");
}

#[test]
fn a_topic_that_was_made_again_is_refused() {
    let Some(broker) = broker() else { return };
    let topic = topic(broker, "in", 1);
    put(&foreign(broker, None), &topic, 0, &["a"]);
    let begin = resolve(&options(broker, &topic, &[("scan.startup.mode", "earliest-offset")])).unwrap();
    let mut live = open(broker, &begin, Limits { discovery: Some(Duration::from_millis(200)), ..LIMITS });
    live.poll(1, PATIENCE, |_| ()).unwrap();
    let cluster = cluster(broker);
    cluster.delete_topic(&topic).unwrap();
    cluster.create_topic(&topic, 1, None, &[]).unwrap();
    put(&foreign(broker, None), &topic, 0, &["another", "and another"]);
    let connection = connection(&broker.bootstrap());
    let error =
        Source::open(&connection, "tereza.tests", assignments(&begin), begin.topics.clone(), LIMITS).unwrap_err();
    assert!(
        error.kind() == ErrorKind::NotFound && error.to_string().contains("was deleted and made again"),
        "{error:?}"
    );
    // One that runs finds out when it looks for partitions.
    let error = wait_for("an error", PATIENCE, || live.poll(10, Duration::from_millis(50), |_| ()).err());
    assert!(error.to_string().contains("was deleted and made again"), "{error:?}");
    let error = resolve(&options(broker, "not-there", &[("scan.startup.mode", "earliest-offset")])).unwrap_err();
    assert!(error.kind() == ErrorKind::NotFound && error.to_string().contains("not-there"), "{error:?}");
}

#[test]
fn new_partitions_are_read_by_their_owner_from_the_beginning() {
    let Some(broker) = broker() else { return };
    let topic = topic(broker, "in", 1);
    let begin = resolve(&options(broker, &topic, &[("scan.startup.mode", "latest-offset")])).unwrap();
    let owners = Owners::new(&begin.starts, 2);
    let discovery = Some(Duration::from_millis(200));
    let limits = |task| Limits { discovery, task, owners: owners.clone(), ..LIMITS };
    let mut even = open(broker, &begin, limits(0));
    let mut odd = open(broker, &Begin { starts: Positions::new(), ..begin.clone() }, limits(1));
    block_on(admin(broker).create_partitions(&[NewPartitions::new(&topic, 3)], &AdminOptions::new())).unwrap();
    wait_for("the partitions", PATIENCE, || (cluster(broker).partitions(&topic).unwrap() == 3).then_some(()));
    let producer = foreign(broker, None);
    for partition in 0..3 {
        put(&producer, &topic, partition, &["row"]);
    }
    for (source, expected) in [(&mut even, &[0, 2][..]), (&mut odd, &[1])] {
        let mut seen = Vec::new();
        wait_for("the rows", PATIENCE, || {
            source.poll(10, Duration::from_millis(100), |row| seen.push(row.partition)).unwrap();
            (seen.len() == expected.len()).then_some(())
        });
        seen.sort_unstable();
        assert_eq!(seen, expected);
        let positions: Vec<_> = source.positions()[&topic].keys().copied().collect();
        assert_eq!(positions, expected);
    }
}
