//! A ledger: sums per key, from topic to topic, by workers that are killed and stopped at random on a broker that is killed too.
//! Another client then finds every row of the input once in the output, with the right sum so far.
//!
//! `TEREZA_LEDGER_KILLS` says how many workers end badly, `TEREZA_LEDGER_SEED` repeats the choices of a run.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use object_store::local::LocalFileSystem;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, Producer};
use serde::{Deserialize, Serialize};
use tereza_runtime::clock::Clock;
use tereza_runtime::{Error, clock, ids};
use tereza_streaming::coordinator::Coordinator;
use tereza_streaming::host::{Host, System};
use tereza_streaming::kafka::{Cluster, Decode, Feed, FeedSettings, Limits, Row};
use tereza_streaming::log::kafka::KafkaLog;
use tereza_streaming::log::{Ended, Last, Limits as LogLimits, Log, LogName, Opened, Output, Writer};
use tereza_streaming::objects::Objects;
use tereza_streaming::pipeline::{Part, Pipeline, Produced, Restored, Snapshot};
use tereza_streaming::record::{Body, Cut, PlanRecord, Positions, Seal};
use tereza_streaming::shares::Owners;
use tereza_streaming::task::{Control, Job as TaskJob, Settings, Started, start};
use tokio::signal::unix::{SignalKind, signal};

use crate::kafka::Broker;
use crate::support::{cluster, connection, foreign, missing, name, topic, wait_for};

/// Workers that end badly where nothing else is said.
const KILLS: u64 = 20;
/// One kill of the broker for so many of workers.
const KILLS_PER_BROKER: u64 = 9;
const PARTITIONS: i32 = 3;
const KEYS: u64 = 40;
/// Rows of a second, at most.
const RATE: u64 = 3_000;
/// How long an epoch is open.
const EPOCH: Duration = Duration::from_millis(100);
/// All key groups.
const ALL_GROUPS: (u16, u16) = (0, 255);
/// Longest wait for the job to be through.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a worker is told.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Job {
    bootstrap: String,
    uid: String,
    log: String,
    input: String,
    output: String,
    /// Folder of state.
    objects: String,
    /// File with a line for each opening and each commit: what, microseconds, rows.
    times: String,
}

/// Key → the last sequence number, and the sum.
type Sums = BTreeMap<String, (u64, i64)>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a process of the ledger: no_row_is_lost_and_none_is_doubled starts it"]
async fn worker() {
    let Ok(job) = std::env::var("TEREZA_LEDGER_JOB") else { return };
    let job: Job = serde_json::from_str(&job).expect("a job");
    let control = Control::default();
    let told = control.clone();
    let mut terminate = signal(SignalKind::terminate()).expect("a signal");
    tokio::spawn(async move {
        terminate.recv().await;
        told.stop();
    });
    match attempt(&job, &control).await {
        Ok(()) => std::process::exit(0),
        Err(ended) => {
            eprintln!("the attempt ends: {ended}");
            std::process::exit(if matches!(ended, Ended::Failed(_)) { 4 } else { 3 });
        }
    }
}

/// One attempt, until it is told to stop or is superseded.
async fn attempt(job: &Job, control: &Control) -> Result<(), Ended> {
    let connection = connection(&job.bootstrap);
    let cluster = Cluster::new(&connection)?;
    let ids = tokio::task::block_in_place(|| cluster.topic_ids(&[&job.input]))?;
    let feed = FeedSettings {
        connection: connection.clone(),
        group: "tereza.ledger".to_owned(),
        topics: ids,
        ends: Positions::new(),
        limits: Limits {
            queue_bytes: 4 << 20,
            discovery: Some(Duration::from_secs(1)),
            task: 0,
            owners: Owners::one(),
        },
    };
    let times = OpenOptions::new().append(true).open(&job.times).expect("the file of times");
    let log = Timed { log: KafkaLog::new(connection).with_topic_id(&job.log), times: Arc::new(times) };
    let started = start(
        Arc::new(TaskJob {
            uid: job.uid.clone(),
            task: 0,
            fingerprint: "sums".to_owned(),
            log: Arc::new(log),
            objects: objects(job),
            root: "jobs".to_owned(),
            tables: BTreeMap::new(),
            host: host(),
            // The state is larger, so it is in objects.
            settings: Settings { epoch: EPOCH, inline_state_max: 64, ..Settings::default() },
        }),
        Summing { sums: Sums::new(), output: job.output.clone() },
        Feed::new(feed, Rows(Vec::new())),
    );
    match started.await? {
        Started::Running(task) => task.run(control).await.map(drop),
        Started::Waiting(why) => panic!("{why}"),
        Started::Finished => panic!("finished"),
    }
}

fn host() -> Arc<dyn Host> {
    Arc::new(System(Clock::system()))
}

fn objects(job: &Job) -> Objects {
    Objects::new(Arc::new(LocalFileSystem::new_with_prefix(&job.objects).expect("a folder")), host())
}

/// Key, sequence number, amount.
struct Rows(Vec<(String, u64, i64)>);

impl Decode for Rows {
    type Input = Vec<(String, u64, i64)>;

    fn row(&mut self, row: &Row<'_>) -> Result<(), Error> {
        let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.expect("bytes").to_vec()).expect("text");
        let (key, value) = (text(row.key), text(row.value));
        let (seq, amount) = value.split_once(',').expect("two numbers");
        self.0.push((key, seq.parse().expect("a number"), amount.parse().expect("a number")));
        Ok(())
    }

    fn take(&mut self) -> Self::Input {
        std::mem::take(&mut self.0)
    }
}

/// Puts out each row with the sum of its key so far.
struct Summing {
    sums: Sums,
    output: String,
}

impl Pipeline for Summing {
    type Input = Vec<(String, u64, i64)>;
    type Rows = ();

    fn process(&mut self, input: Self::Input, _: i64, out: &mut Produced<()>) -> Result<(), Error> {
        for (key, seq, amount) in input {
            let (count, sum) = self.sums.entry(key.clone()).or_default();
            assert_eq!(seq, *count + 1, "{key}: the input or the state is not where it should be");
            (*count, *sum) = (seq, *sum + amount);
            out.outputs.push(Output {
                topic: self.output.clone(),
                partition: None,
                key: Some(key.into()),
                value: Some(format!("{seq},{sum}").into()),
                headers: Vec::new(),
                timestamp: None,
            });
        }
        Ok(())
    }

    fn tick(&mut self, _: i64, _: &mut Produced<()>) -> Result<bool, Error> {
        Ok(false)
    }

    fn snapshot(&mut self, _: &mut Produced<()>) -> Result<Snapshot, Error> {
        let bytes = Bytes::from(serde_json::to_vec(&self.sums).expect("sums"));
        let parts = vec![Part { key_groups: ALL_GROUPS, bytes }];
        Ok(Snapshot { parts, ..Snapshot::default() })
    }

    fn restore(&mut self, from: Restored) -> Result<(), Error> {
        if let Some(part) = from.parts.last() {
            self.sums = serde_json::from_slice(&part.bytes).expect("sums");
        }
        Ok(())
    }
}

/// A log that writes down how long its openings and commits take.
#[derive(Debug)]
struct Timed {
    log: KafkaLog,
    times: Arc<File>,
}

#[derive(Debug)]
struct TimedWriter {
    writer: Box<dyn Writer>,
    times: Arc<File>,
    rows: usize,
}

fn note(mut times: &File, what: &str, start: Instant, rows: usize) {
    writeln!(times, "{what} {} {rows}", start.elapsed().as_micros()).expect("a line");
}

#[async_trait]
impl Log for Timed {
    fn limits(&self) -> LogLimits {
        self.log.limits()
    }

    async fn open(&self, name: &LogName, attempt: &str) -> Result<Opened, Ended> {
        let start = clock::now();
        let opened = self.log.open(name, attempt).await?;
        note(&self.times, "open", start, 0);
        let writer = TimedWriter { writer: opened.writer, times: self.times.clone(), rows: 0 };
        Ok(Opened { writer: Box::new(writer), last: opened.last })
    }

    async fn peek(&self, name: &LogName) -> Result<Last, Error> {
        self.log.peek(name).await
    }
}

#[async_trait]
impl Writer for TimedWriter {
    async fn send(mut self: Box<Self>, outputs: Vec<Output>) -> Result<Box<dyn Writer>, Ended> {
        self.rows += outputs.len();
        self.writer = self.writer.send(outputs).await?;
        Ok(self)
    }

    async fn append(mut self: Box<Self>, record: Body) -> Result<Box<dyn Writer>, Ended> {
        let start = clock::now();
        self.writer = self.writer.append(record).await?;
        note(&self.times, "commit", start, self.rows);
        self.rows = 0;
        Ok(self)
    }

    async fn seal(self: Box<Self>, seal: Seal) -> Result<(), Ended> {
        self.writer.seal(seal).await
    }

    async fn confirm(mut self: Box<Self>) -> Result<Box<dyn Writer>, Ended> {
        self.writer = self.writer.confirm().await?;
        Ok(self)
    }

    async fn abort(self: Box<Self>) {
        self.writer.abort().await;
    }
}

#[test]
fn no_row_is_lost_and_none_is_doubled() {
    let Some(mut broker) = Broker::start() else { return missing() };
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let kills = number("TEREZA_LEDGER_KILLS").unwrap_or(KILLS);
    let seed = number("TEREZA_LEDGER_SEED").unwrap_or_else(|| ids::jitter(u64::MAX));
    println!("ledger: TEREZA_LEDGER_SEED={seed}");
    let folder = tempfile::tempdir().unwrap();
    let times = folder.path().join("times");
    File::create(&times).unwrap();
    fs::create_dir(folder.path().join("objects")).unwrap();
    let job = new_job(&broker, folder.path());

    let is_over = Arc::new(AtomicBool::new(false));
    let generator = {
        let (producer, topic, is_over) = (foreign(&broker, None), job.input.clone(), is_over.clone());
        std::thread::spawn(move || generate(&producer, &topic, &is_over, seed))
    };
    let started = clock::now();
    let mut workers =
        Workers { job: job.clone(), log: folder.path().join("workers"), live: None, zombies: Vec::new(), restarts: 0 };
    let mut random = StdRng::seed_from_u64(seed);
    let (mut killed, mut stopped, mut brokers) = (0, 0, 0);
    while killed + stopped < kills || brokers < kills / KILLS_PER_BROKER {
        workers.keep_for(Duration::from_millis(random.random_range(300..4_000)));
        if (killed + stopped) / KILLS_PER_BROKER > brokers {
            brokers += 1;
            broker.kill();
            workers.keep_for(Duration::from_millis(random.random_range(0..1_000)));
            broker.restart();
        } else if random.random_bool(0.6) {
            killed += 1;
            workers.kill();
        } else {
            stopped += 1;
            workers.stop(Duration::from_millis(random.random_range(200..6_000)));
        }
    }
    workers.end_zombies();
    is_over.store(true, Ordering::SeqCst);
    let rows = generator.join().expect("the generator");
    let ends = ends(&broker, &job.input);
    wait_for("all rows to be committed", PATIENCE, || {
        workers.keep_for(Duration::from_millis(200));
        (committed(&job) == ends).then_some(())
    });
    let took = started.elapsed();
    workers.end();

    let verdict = broker.judge("ledger.py", &[&broker.bootstrap(), &job.input, &job.output]);
    let restarts = workers.restarts;
    println!(
        "ledger: {rows} rows in {took:.1?}, {killed} workers killed, {stopped} stopped, {restarts} gave up, {brokers} brokers killed"
    );
    println!("ledger: {}", summary(&times));
    let Some(verdict) = verdict else { return missing() };
    println!("ledger: {verdict}");
    let verdict: BTreeMap<String, u64> = serde_json::from_str(&verdict).expect("a verdict");
    let expected = [("doubled", 0), ("lost", 0), ("rows", rows), ("unknown", 0), ("wrong", 0)];
    assert_eq!(verdict, expected.map(|(name, count)| (name.to_owned(), count)).into(), "TEREZA_LEDGER_SEED={seed}");
}

/// Topics, logs and the first plan.
fn new_job(broker: &Broker, folder: &Path) -> Job {
    let (input, output) = (topic(broker, "input", PARTITIONS), topic(broker, "output", PARTITIONS));
    let uid = name("ledger");
    let log = KafkaLog::new(connection(&broker.bootstrap()));
    let job = Job {
        bootstrap: broker.bootstrap(),
        log: log.create(&uid, 1, None).unwrap(),
        objects: folder.join("objects").to_str().unwrap().to_owned(),
        times: folder.join("times").to_str().unwrap().to_owned(),
        uid,
        input,
        output,
    };
    let positions = Positions::from([(job.input.clone(), (0..PARTITIONS).map(|partition| (partition, 0)).collect())]);
    let cluster = cluster(broker);
    let plan = PlanRecord {
        cluster: cluster.id().unwrap(),
        topics: cluster.topic_ids(&[&job.input, &job.output]).unwrap(),
        cuts: vec![Cut { positions, key_groups: ALL_GROUPS, ..Cut::default() }],
        fingerprint: "sums".to_owned(),
        ..PlanRecord::default()
    };
    let coordinator = Coordinator::<()> {
        uid: job.uid.clone(),
        log: Arc::new(log),
        objects: objects(&job),
        root: "jobs".to_owned(),
        tables: BTreeMap::new(),
        host: host(),
    };
    on_a_thread(coordinator.create(plan)).unwrap();
    job
}

fn on_a_thread<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

/// Rows until it is over, each key's in order; how many.
fn generate(producer: &rdkafka::producer::BaseProducer, topic: &str, is_over: &AtomicBool, seed: u64) -> u64 {
    let mut random = StdRng::seed_from_u64(!seed);
    let mut counts = vec![0_u64; KEYS as usize];
    let (start, mut rows) = (clock::now(), 0);
    while !is_over.load(Ordering::SeqCst) {
        if rows * 1_000 > RATE * u64::try_from(start.elapsed().as_millis()).unwrap() {
            producer.poll(Duration::from_millis(5));
            continue;
        }
        let key = random.random_range(0..KEYS);
        counts[key as usize] += 1;
        let value = format!("{},{}", counts[key as usize], random.random_range(-1_000..1_000_i64));
        let (name, partition) = (format!("key-{key}"), i32::try_from(key).unwrap() % PARTITIONS);
        let mut record = BaseRecord::<str, str>::to(topic).partition(partition).key(&name).payload(&value);
        while let Err((error, refused)) = producer.send(record) {
            assert_eq!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull));
            producer.poll(Duration::from_millis(5));
            record = refused;
        }
        rows += 1;
    }
    producer.flush(PATIENCE).expect("the input is written");
    rows
}

fn ends(broker: &Broker, topic: &str) -> Positions {
    let counted = crate::source::ends(broker, topic);
    Positions::from([(topic.to_owned(), counted)])
}

/// The positions of the last record.
fn committed(job: &Job) -> Positions {
    let log = KafkaLog::new(connection(&job.bootstrap));
    match on_a_thread(log.peek(&LogName::task(&job.uid, 0))) {
        Ok(Last::Record(Body::Epoch(record))) => record.positions,
        _ => Positions::new(),
    }
}

/// Half and 99 of 100 openings and commits, in milliseconds, and rows of a commit.
fn summary(times: &Path) -> String {
    let text = fs::read_to_string(times).unwrap();
    let of = |what: &str| {
        let mut values: Vec<(u64, u64)> = Vec::new();
        for line in text.lines().filter_map(|line| line.strip_prefix(what)) {
            let (micros, rows) = line.trim().split_once(' ').expect("two numbers");
            values.push((micros.parse().unwrap(), rows.parse().unwrap()));
        }
        values.sort_unstable();
        let at =
            |share: usize| values.get(values.len() * share / 100).map_or(0.0, |(micros, _)| *micros as f64 / 1_000.0);
        let rows: u64 = values.iter().map(|(_, rows)| rows).sum();
        format!("{} of {what}: p50 {:.1} ms, p99 {:.1} ms, {rows} rows", values.len(), at(50), at(99))
    };
    format!("{}; {}", of("open"), of("commit"))
}

/// The workers: one that should run, and those that were stopped and go on later.
struct Workers {
    job: Job,
    log: std::path::PathBuf,
    live: Option<Child>,
    zombies: Vec<(Child, Instant, Duration, bool)>,
    restarts: u64,
}

impl Workers {
    /// Keeps a worker running for a while, and lets zombies go on when their time has come.
    fn keep_for(&mut self, time: Duration) {
        let start = clock::now();
        loop {
            self.keep();
            if start.elapsed() >= time {
                return;
            }
            std::thread::park_timeout(Duration::from_millis(20));
        }
    }

    fn keep(&mut self) {
        if let Some(child) = &mut self.live
            && let Some(status) = child.try_wait().expect("a status")
        {
            let log = fs::read_to_string(&self.log).unwrap_or_default();
            let code = status.code();
            assert!(
                matches!(code, Some(3 | 4)),
                "a worker ended with {code:?}\n{}",
                &log[log.len().saturating_sub(4_000)..]
            );
            self.restarts += 1;
            self.live = None;
            // What a supervisor does: not at once.
            std::thread::park_timeout(Duration::from_millis(100));
        }
        if self.live.is_none() {
            let log = OpenOptions::new().create(true).append(true).open(&self.log).expect("a log of workers");
            let worker = Command::new(std::env::current_exe().expect("this program"))
                .args(["ledger::worker", "--exact", "--ignored", "--nocapture"])
                .env("TEREZA_LEDGER_JOB", serde_json::to_string(&self.job).expect("a job"))
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("a log"))
                .stderr(log)
                .spawn();
            self.live = Some(worker.expect("a worker"));
        }
        for (child, since, time, is_awake) in &mut self.zombies {
            if !*is_awake && since.elapsed() >= *time {
                send(child, "-CONT");
                *is_awake = true;
            }
        }
    }

    /// As `kill -9`.
    fn kill(&mut self) {
        if let Some(mut child) = self.live.take() {
            child.kill().expect("a kill");
            child.wait().expect("an end");
        }
    }

    /// As SIGSTOP: it goes on after a while, beside its successor.
    fn stop(&mut self, time: Duration) {
        if let Some(child) = self.live.take() {
            send(&child, "-STOP");
            self.zombies.push((child, clock::now(), time, false));
        }
    }

    /// Lets all zombies go on and waits until they have ended by themselves. Rows must still come: who has nothing to commit does not
    /// find out that it is superseded. One that was stopped before it had opened its log takes the job over first, and the next
    /// worker takes it back.
    fn end_zombies(&mut self) {
        wait_for("superseded workers to end", PATIENCE, || {
            for (child, _, _, is_awake) in self.zombies.iter_mut().filter(|(_, _, _, is_awake)| !is_awake) {
                send(child, "-CONT");
                *is_awake = true;
            }
            self.keep();
            self.zombies.retain_mut(|(child, ..)| child.try_wait().expect("a status").is_none());
            self.zombies.is_empty().then_some(())
        });
    }

    /// Ends the live one in order.
    fn end(&mut self) {
        if let Some(mut child) = self.live.take() {
            send(&child, "-TERM");
            let status = wait_for("the worker to stop", PATIENCE, || child.try_wait().expect("a status"));
            assert_eq!(status.code(), Some(0), "told to stop, it did not");
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for child in self.live.iter_mut().chain(self.zombies.iter_mut().map(|(child, ..)| child)) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn send(child: &Child, signal: &str) {
    let status = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill starts");
    assert!(status.success(), "kill {signal}");
}
