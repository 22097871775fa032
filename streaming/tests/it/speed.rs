//! How fast rows go to Kafka in transactions, and come from it. `cargo test --release -p tereza-streaming --test it speed --
//! --ignored --nocapture` prints it; figures of a build that is not optimised mean nothing.

use std::time::Duration;

use tereza_runtime::clock;
use tereza_streaming::kafka::{Message, TransactionalProducer};
use tereza_streaming::log::kafka::KafkaLog;
use tereza_streaming::log::{Last, Log, LogName, Output};
use tereza_streaming::record::Positions;

use crate::kafka::Broker;
use crate::support::{connection, missing, name, record, topic};

const ROWS: usize = 1_000_000;
const ROWS_OF_TRANSACTION: usize = 50_000;
const PARTITIONS: i32 = 4;
const EPOCHS: u64 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures: cargo test --release -p tereza-streaming --test it -- --ignored --nocapture speed"]
async fn rows_a_second_and_milliseconds_of_a_commit() {
    let Some(broker) = Broker::start() else { return missing() };
    let connection = connection(&broker.bootstrap());
    let topic = topic(&broker, "speed", PARTITIONS);
    let value = vec![b'x'; 100];
    let start = clock::now();
    let mut producer = TransactionalProducer::open(&connection, &name("speed")).unwrap();
    println!("open of a producer: {:.0?}", start.elapsed());
    let start = clock::now();
    for row in 0..ROWS {
        let partition = Some(i32::try_from(row).unwrap() % PARTITIONS);
        let key = row.to_be_bytes();
        let message =
            Message { topic: &topic, partition, key: Some(&key), value: Some(&value), headers: &[], timestamp: None };
        producer.send(message).unwrap();
        if (row + 1) % ROWS_OF_TRANSACTION == 0 {
            producer = producer.commit().unwrap();
        }
    }
    drop(producer);
    println!("written: {:.0} rows/s of 108 bytes in transactions of {ROWS_OF_TRANSACTION}", rate(start));
    let start = clock::now();
    let mut bytes = 0;
    let rows = crate::source::count_all(&broker, &topic, |value| bytes += value.len());
    assert_eq!((rows, bytes), (ROWS, ROWS * 100));
    println!("read: {:.0} rows/s, with looking for the ends", rate(start));

    let log = KafkaLog::new(connection);
    let uid = name("speed");
    log.create(&uid, 1, None).unwrap();
    let name = LogName::task(&uid, 0);
    let mut writer = log.open(&name, "a").await.unwrap().writer;
    let mut times = Vec::new();
    let output = Output {
        topic: topic.clone(),
        partition: Some(0),
        key: None,
        value: Some(value.into()),
        headers: Vec::new(),
        timestamp: None,
    };
    for epoch in 1..=EPOCHS {
        writer = writer.send(vec![output.clone(); 100]).await.unwrap();
        let start = clock::now();
        writer = writer.append(record(&uid, epoch, &Positions::new())).await.unwrap();
        times.push(start.elapsed());
    }
    times.sort_unstable();
    println!("commit of 100 rows: p50 {:.1?}, p99 {:.1?}", times[times.len() / 2], times[times.len() * 99 / 100]);
    drop(writer);
    let start = clock::now();
    assert_ne!(log.open(&name, "b").await.unwrap().last, Last::Nothing);
    println!("open of a log: {:.0?}", start.elapsed());
}

fn rate(start: std::time::Instant) -> f64 {
    ROWS as f64 / start.elapsed().max(Duration::from_nanos(1)).as_secs_f64()
}
