//! The commit log in Kafka: who may write, what is last, and what a lost answer means.

use std::time::Duration;

use rdkafka::producer::{BaseRecord, Producer};
use tereza_runtime::{ErrorKind, clock, ids};
use tereza_streaming::log::kafka::KafkaLog;
use tereza_streaming::log::{Ended, Last, Log, LogName, Opened, Output};
use tereza_streaming::record::{Body, Positions, Seal};

use crate::kafka::Broker;
use crate::proxy::{Mode, Proxy};
use crate::support::{broker, cluster, connection, foreign, missing, name, put, record, topic};

const TASKS: u32 = 2;

fn new_log(broker: &Broker) -> (KafkaLog, LogName) {
    let log = KafkaLog::new(connection(&broker.bootstrap()));
    let uid = name("job");
    let id = log.create(&uid, TASKS, None).unwrap();
    (log.with_topic_id(id), LogName::task(&uid, 0))
}

fn output(topic: &str, value: &str) -> Output {
    let value = Some(bytes::Bytes::copy_from_slice(value.as_bytes()));
    let headers = vec![("h".to_owned(), Some(bytes::Bytes::from_static(b"1")))];
    Output {
        topic: topic.to_owned(),
        partition: Some(0),
        key: None,
        value,
        headers,
        timestamp: Some(1_700_000_000_000),
    }
}

/// The committed values of a topic's first partition.
fn committed(broker: &Broker, topic: &str) -> Vec<String> {
    crate::source::read_all(broker, topic).into_iter().map(|(_, value)| value).collect()
}

fn epoch(last: &Last) -> u64 {
    match last {
        Last::Record(Body::Epoch(record)) => record.epoch,
        Last::Nothing => 0,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_and_outputs_are_committed_together_and_the_last_is_found() {
    let Some(broker) = broker() else { return };
    let (log, name) = new_log(broker);
    let out = topic(broker, "out", 1);
    let Opened { mut writer, last } = log.open(&name, "a").await.unwrap();
    assert_eq!(last, Last::Nothing);
    let positions = Positions::from([("in".to_owned(), [(0, 17)].into())]);
    for epoch in 1..=3 {
        writer = writer.send(vec![output(&out, &format!("row {epoch}"))]).await.unwrap();
        writer = writer.append(record(&name.uid, epoch, &positions)).await.unwrap();
    }
    // What is sent and not appended is nobody's.
    let writer = writer.send(vec![output(&out, "never")]).await.unwrap();
    writer.abort().await;
    assert_eq!(committed(broker, &out), ["row 1", "row 2", "row 3"]);
    assert_eq!(log.peek(&name).await.unwrap(), Last::Record(record(&name.uid, 3, &positions)));
    let opened = log.open(&name, "b").await.unwrap();
    assert_eq!(opened.last, Last::Record(record(&name.uid, 3, &positions)));
    // The other logs of the job know nothing of it.
    assert_eq!(log.open(&LogName::task(&name.uid, 1), "c").await.unwrap().last, Last::Nothing);
    assert_eq!(log.peek(&LogName::control(&name.uid)).await.unwrap(), Last::Nothing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_opener_fences_and_what_was_open_is_nobodys() {
    let Some(broker) = broker() else { return };
    let (log, name) = new_log(broker);
    let out = topic(broker, "out", 1);
    let first = log.open(&name, "a").await.unwrap().writer;
    let first = first.send(vec![output(&out, "of the first")]).await.unwrap();
    let second = log.open(&name, "b").await.unwrap();
    assert_eq!(second.last, Last::Nothing);
    let ended = first.append(record(&name.uid, 1, &Positions::new())).await.unwrap_err();
    assert!(matches!(ended, Ended::Fenced | Ended::Unknown(_)), "{ended:?}");
    let writer = second.writer.send(vec![output(&out, "of the second")]).await.unwrap();
    let writer = writer.append(record(&name.uid, 1, &Positions::new())).await.unwrap();
    assert_eq!(committed(broker, &out), ["of the second"]);
    // One that only asks whether it is still the writer is told too.
    let writer = writer.confirm().await.unwrap();
    let third = log.open(&name, "c").await.unwrap();
    assert_eq!(epoch(&third.last), 1);
    assert!(matches!(writer.confirm().await.unwrap_err(), Ended::Fenced | Ended::Unknown(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seal_closes_a_log_and_holds_the_record_before_it() {
    let Some(broker) = broker() else { return };
    let (log, name) = new_log(broker);
    let writer = log.open(&name, "a").await.unwrap().writer;
    let body = record(&name.uid, 1, &Positions::new());
    let writer = writer.append(body.clone()).await.unwrap();
    drop(writer);
    let coordinator = log.open(&name, "b").await.unwrap();
    let seal = Seal { nonce: "s".to_owned(), generation: 1, attempt: "b".to_owned(), record: Some(body) };
    coordinator.writer.seal(seal.clone()).await.unwrap();
    assert_eq!(log.open(&name, "c").await.unwrap().last, Last::Sealed(seal));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_record_is_found_behind_many_messages() {
    let Some(broker) = broker() else { return };
    let (log, name) = new_log(broker);
    let writer = log.open(&name, "a").await.unwrap().writer;
    drop(writer.append(record(&name.uid, 7, &Positions::new())).await.unwrap());
    // More than are read first, and of a key that is nobody's.
    let producer = foreign(broker, None);
    for _ in 0..1_500 {
        producer
            .send(BaseRecord::<str, str>::to(&KafkaLog::topic(&name.uid)).partition(1).key("other").payload("x"))
            .unwrap();
    }
    producer.flush(Duration::from_secs(30)).unwrap();
    assert_eq!(epoch(&log.open(&name, "b").await.unwrap().last), 7);
    assert_eq!(epoch(&log.peek(&name).await.unwrap()), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_transaction_of_somebody_else_is_waited_for_and_named() {
    let Some(broker) = broker() else { return };
    let (log, name) = new_log(broker);
    let writer = log.open(&name, "a").await.unwrap().writer;
    drop(writer.append(record(&name.uid, 1, &Positions::new())).await.unwrap());
    let topic = KafkaLog::topic(&name.uid);
    let foreign = foreign(broker, Some(&crate::support::name("foreign")));
    foreign.begin_transaction().unwrap();
    put(&foreign, &topic, 1, &["in between"]);
    // Committed behind it, so no reader gets this while it is open.
    let held = log.clone().with_start_timeout(Duration::from_secs(3));
    let ended = held.open(&name, "b").await.unwrap_err();
    let Ended::Failed(error) = ended else { panic!("{ended:?}") };
    let text = error.to_string();
    assert!(error.kind() == ErrorKind::Unavailable && text.contains("find-hanging"), "{text}");
    // Start, its marker, record, its marker: the foreign message has offset 4.
    assert!(text.contains(&format!("{topic} [1] at offset 4")), "{text}");
    // One that has time gets through as soon as it is over, and with the right record.
    let start = clock::now();
    let end = tokio::task::spawn_blocking(move || {
        std::thread::park_timeout(Duration::from_secs(2));
        foreign.abort_transaction(Duration::from_secs(10)).unwrap();
    });
    let opened = log.open(&name, "c").await.unwrap();
    assert!(start.elapsed() >= Duration::from_secs(2), "it did not wait");
    assert_eq!(epoch(&opened.last), 1);
    end.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_judged_by_the_next_opener() {
    let Some(broker) = Broker::start() else { return missing() };
    let proxy = Proxy::start(&broker);
    let (log, name) = new_log(&broker);
    let out = topic(&broker, "out", 1);
    let through = KafkaLog::new(connection(&proxy.bootstrap)).with_commit_timeout(Duration::from_secs(3));
    let mut expected = Vec::new();
    for (turn, mode) in [Mode::LoseAnswer, Mode::LoseRequest, Mode::LoseAnswer].into_iter().enumerate() {
        let turn = turn as u64 + 1;
        proxy.set(Mode::Pass);
        let opened = through.open(&name, &format!("a{turn}")).await.unwrap();
        let before = epoch(&opened.last);
        let row = format!("row {turn}");
        let writer = opened.writer.send(vec![output(&out, &row)]).await.unwrap();
        proxy.set(mode);
        let ended = writer.append(record(&name.uid, turn, &Positions::new())).await.unwrap_err();
        assert!(matches!(ended, Ended::Unknown(_)), "{mode:?}: {ended:?}");
        assert_eq!(proxy.lost(), usize::try_from(turn).unwrap(), "the proxy lost nothing");
        // The next one is told the truth, whatever the answer would have been.
        let last = log.open(&name, &format!("b{turn}")).await.unwrap().last;
        if mode == Mode::LoseAnswer {
            expected.push(row);
            assert_eq!(epoch(&last), turn, "{mode:?}");
        } else {
            assert_eq!(epoch(&last), before, "{mode:?}");
        }
        assert_eq!(committed(&broker, &out), expected, "{mode:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_loses_records_is_refused() {
    let Some(broker) = broker() else { return };
    let (log, name) = new_log(broker);
    drop(log.open(&name, "a").await.unwrap());
    let topic = KafkaLog::topic(&name.uid);
    let cluster = cluster(broker);
    cluster.delete_topic(&topic).unwrap();
    let refused = |ended| match ended {
        Ended::Failed(error) => format!("{error:?}"),
        other => panic!("{other:?}"),
    };
    assert!(refused(log.open(&name, "b").await.unwrap_err()).starts_with("NotFound"));
    // Made again, with the same name and the right settings, it is not the job's.
    KafkaLog::new(connection(&broker.bootstrap())).create(&name.uid, TASKS, None).unwrap();
    let text = refused(log.open(&name, "c").await.unwrap_err());
    assert!(text.contains("was deleted and made again"), "{text}");
    // One that is not compacted forgets.
    let other = crate::support::name("job");
    cluster.create_topic(&KafkaLog::topic(&other), 3, None, &[("cleanup.policy", "compact,delete")]).unwrap();
    let log = KafkaLog::new(connection(&broker.bootstrap()));
    let text = refused(log.open(&LogName::task(&other, 0), "a").await.unwrap_err());
    assert!(text.contains("'cleanup.policy' = 'compact,delete'"), "{text}");
    // A task that the topic has no partition for.
    let (log, name) = new_log(broker);
    let text = refused(log.open(&LogName::task(&name.uid, TASKS), "a").await.unwrap_err());
    assert!(text.contains("has 3 partitions"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_output_that_the_broker_refuses_names_its_topic() {
    let Some(broker) = broker() else { return };
    let (log, name) = new_log(broker);
    let out = crate::support::name("small");
    cluster(broker).create_topic(&out, 1, None, &[("max.message.bytes", "2000")]).unwrap();
    let writer = log.open(&name, "a").await.unwrap().writer;
    // What no compression makes small.
    let noise: String = (0..1_000).map(|_| ids::new_secret()).collect();
    let sent = writer.send(vec![output(&out, &noise)]).await;
    let ended = match sent {
        Ok(writer) => writer.append(record(&name.uid, 1, &Positions::new())).await.map(drop).unwrap_err(),
        Err(ended) => ended,
    };
    let Ended::Failed(error) = ended else { panic!("{ended:?}") };
    assert!(error.kind() == ErrorKind::InvalidInput && error.to_string().contains(&out), "{error:?}");
    assert_eq!(log.open(&name, "b").await.unwrap().last, Last::Nothing);
}
