//! A simulation of whole jobs: the code of this crate over a Kafka, an object store and a table that fail in all the ways the
//! protocol counts with, with attempts that die, stand still, and go on long after they were replaced.
//!
//! Everything runs in one thread, and one seed decides all. Attempts and coordinators are futures that a loop polls by hand, in an
//! order that chance gives; each request to the outside lets others go on before and after its effect. No runtime is used, so that
//! nothing but the seed has a say, and a seed that fails can be run again: `TEREZA_SIM_SEED=<n>` prints what happened.
//!
//! The judge is the output: each row of the input exactly once, with the count that belongs to it, in the topic and in the table.

mod job;
mod kafka;
mod life;
mod store;
mod table;
mod tests;
mod world;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use futures::task::noop_waker_ref;
use parking_lot::Mutex;
use tereza_runtime::ErrorKind;

use self::job::{Count, Rows};
use self::kafka::{Kafka, KafkaLog};
use self::store::Store;
use self::table::{SimTable, UUID};
use self::world::World;
use crate::apply::Tables;
use crate::coordinator::{Coordinator, Share};
use crate::host::Host;
use crate::log::object::ObjectLog;
use crate::log::{Ended, Log, LogKind};
use crate::objects::Objects;
use crate::record::{Body, Cut, Entry, PlanRecord, Positions};
use crate::rules::{Rule, Rules};
use crate::task::{Control, Job, Settings, Started, start};

/// Partition, number of the row in it, count of rows of the partition up to it.
type Row = (i32, i64, u64);

const TOPIC: &str = "out";
const TABLE: &str = "t";
const UID: &str = "job";
const QUERY: &str = "query";
const PARTITIONS: u16 = 3;
const ROWS: i64 = 8;
const TASKS_MAX: u32 = 3;
/// Polls of futures in which a job must come to its end.
const POLLS_MAX: u64 = 60_000;
/// Polls after the end, in which whoever still runs may do harm.
const POLLS_AFTER: u64 = 600;

/// What is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Broken {
    /// A rule that this crate's code keeps.
    Rule(Rule),
    /// Each attempt has a transactional id of its own.
    NoFencing,
    /// The last record is read before others are fenced.
    ReadBeforeInit,
    /// The log is read to what seems to be its end.
    ReadToEnd,
    /// The outputs are committed in a transaction of their own.
    TwoTransactions,
    /// The table does not compare its version.
    BlindTable,
}

/// What a job is like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    KafkaToTopic,
    KafkaToTable,
    KafkaToBoth,
    ObjectsToTable,
}

const KINDS: [Kind; 4] = [Kind::KafkaToTopic, Kind::KafkaToTable, Kind::KafkaToBoth, Kind::ObjectsToTable];

/// How a run went.
#[derive(Debug, Default)]
struct Ran {
    attempts: u64,
    fenced: u64,
    unknown: u64,
    plans: u64,
    polls: u64,
}

type Actor = Pin<Box<dyn Future<Output = ()> + Send>>;

struct Running {
    /// `None` is a coordinator.
    task: Option<u32>,
    actor: Actor,
    /// Stands still until this poll.
    wakes: u64,
}

struct Sim {
    world: Arc<World>,
    kind: Kind,
    rules: Rules,
    kafka: Arc<Kafka>,
    store: Store,
    table: Arc<SimTable>,
    log: Arc<dyn Log>,
    objects: Objects,
    settings: Settings,
    base_every: u64,
    seen: Arc<Mutex<Seen>>,
    running: Vec<Running>,
}

/// What actors tell the loop.
#[derive(Debug, Default)]
struct Seen {
    ran: Ran,
    is_made: bool,
    /// A task waits for a plan.
    needs_plan: bool,
}

/// One run. The error says what went wrong, and has the trace if that was wanted.
fn run(seed: u64, kind: Kind, broken: Option<Broken>, is_traced: bool) -> Result<Ran, String> {
    let sim = Sim::new(seed, kind, broken, is_traced);
    let world = Arc::clone(&sim.world);
    sim.run().map_err(|what| format!("{}\nseed {seed}, {kind:?}: {what}", world.trace().join("\n")))
}

impl Sim {
    fn new(seed: u64, kind: Kind, broken: Option<Broken>, is_traced: bool) -> Self {
        let world = Arc::new(World::new(seed, is_traced));
        let rules = Rules { broken: if let Some(Broken::Rule(rule)) = broken { Some(rule) } else { None } };
        let store = Store::new(Arc::clone(&world));
        let host: Arc<dyn Host> = Arc::clone(&world) as _;
        let objects = Objects { rules, ..Objects::new(Arc::new(store.clone()), host) };
        let kafka = Arc::new(Kafka::new(Arc::clone(&world), broken));
        let log: Arc<dyn Log> = match kind {
            Kind::ObjectsToTable => {
                let mut log = ObjectLog::new(objects.clone(), "logs");
                log.chain_slots_max = 2 + world.below(4);
                Arc::new(log)
            }
            _ => Arc::new(KafkaLog(Arc::clone(&kafka))),
        };
        let table = SimTable::new(Arc::clone(&world), store.clone(), objects.clone(), broken);
        let settings = Settings {
            epoch: Duration::from_millis(100),
            batches_max: 1 + world.below(3),
            keep_alive: Duration::from_secs(if world.chance(100) { 1 } else { 3600 }),
            apply: Duration::from_millis(if world.chance(500) { 100 } else { 2000 }),
            pending_max: 1 + usize::try_from(world.below(6)).unwrap(),
            inline_state_max: if world.chance(300) { 1000 } else { 0 },
            inline_record_max: if world.chance(300) { 700 } else { 100_000 },
            inline_files_max: usize::from(world.chance(500)),
            drain_tries: 5,
        };
        let base_every = 1 + world.below(4);
        let (seen, running, table) = (Arc::default(), Vec::new(), Arc::new(table));
        Self { world, kind, rules, kafka, store, table, log, objects, settings, base_every, seen, running }
    }

    fn has_topic(&self) -> bool {
        matches!(self.kind, Kind::KafkaToTopic | Kind::KafkaToBoth)
    }

    fn has_table(&self) -> bool {
        self.kind != Kind::KafkaToTopic
    }

    fn tables(&self) -> Tables<Vec<Row>> {
        let table = self.has_table().then(|| (TABLE.to_owned(), Arc::clone(&self.table) as _));
        table.into_iter().collect()
    }

    /// Splits partitions, which are key groups, among so many tasks.
    fn shares(tasks: u32) -> Vec<Share> {
        let tasks = u16::try_from(tasks).unwrap();
        let first = |task: u16| task * PARTITIONS / tasks;
        let share = |task: u16| {
            let (from, to) = (first(task), first(task + 1));
            let partitions = BTreeMap::from([("in".to_owned(), (from..to).map(i32::from).collect())]);
            Share { partitions, key_groups: (from, to - 1) }
        };
        (0..tasks).map(share).collect()
    }

    fn job(&self, task: u32, fingerprint: &str) -> Job<Vec<Row>> {
        Job {
            uid: UID.to_owned(),
            task,
            fingerprint: fingerprint.to_owned(),
            log: Arc::clone(&self.log),
            objects: self.objects.clone(),
            root: "root".to_owned(),
            tables: self.tables(),
            host: Arc::clone(&self.world) as _,
            settings: self.settings.clone(),
            rules: self.rules,
        }
    }

    fn coordinator_of(&self) -> Coordinator<Vec<Row>> {
        Coordinator {
            uid: UID.to_owned(),
            log: Arc::clone(&self.log),
            objects: self.objects.clone(),
            root: "root".to_owned(),
            tables: self.tables(),
            host: Arc::clone(&self.world) as _,
            rules: self.rules,
        }
    }

    fn attempt(&self, task: u32) -> Actor {
        let (world, seen) = (Arc::clone(&self.world), Arc::clone(&self.seen));
        let job = Arc::new(self.job(task, QUERY));
        let pipeline = Count::new(self.has_topic(), self.has_table(), self.base_every);
        let source = Rows { world: Arc::clone(&self.world), positions: Positions::new() };
        Box::pin(async move {
            seen.lock().ran.attempts += 1;
            let ended = match start(job, pipeline, source).await {
                Ok(Started::Running(task)) => task.run(&Control::default()).await.map(|_| ()),
                Ok(Started::Waiting(why)) => {
                    world.note(|| format!("task {task} waits: {why}"));
                    seen.lock().needs_plan |= why.contains("is closed");
                    Ok(())
                }
                Ok(Started::Finished) => Ok(()),
                Err(ended) => Err(ended),
            };
            tell(&world, &seen, &format!("task {task}"), ended);
        })
    }

    fn coordinator(&self, tasks: u32) -> Actor {
        let (world, seen) = (Arc::clone(&self.world), Arc::clone(&self.seen));
        let coordinator = self.coordinator_of();
        let is_made = seen.lock().is_made;
        Box::pin(async move {
            if is_made {
                let done = coordinator.rescale(|_| Self::shares(tasks)).await;
                seen.lock().ran.plans += u64::from(done.is_ok());
                tell(&world, &seen, "rescale", done.map(|_| ()));
                return;
            }
            match coordinator.create(first_plan(&Self::shares(tasks), !coordinator.tables.is_empty())).await {
                Ok(_) => seen.lock().is_made = true,
                Err(Ended::Failed(error)) if error.kind() == ErrorKind::AlreadyExists => seen.lock().is_made = true,
                Err(ended) => tell(&world, &seen, "create", Err(ended)),
            }
        })
    }

    fn run(mut self) -> Result<Ran, String> {
        let chaos = 100 + self.world.below(2500);
        let rescales = self.world.chance(600);
        let mut done_at = None;
        for polls in 0..POLLS_MAX {
            if polls == chaos {
                self.world.calm();
            }
            self.world.tick();
            self.kafka.tick();
            self.store.tick();
            if self.world.fault(10) {
                self.table.touch();
            }
            self.launch(polls, rescales, done_at.is_some());
            self.harm(polls);
            self.poll(polls);
            if let Some(what) = self.world.violation() {
                return Err(what);
            }
            let total = usize::try_from(i64::from(PARTITIONS) * ROWS).unwrap();
            let is_done = (!self.has_topic() || self.kafka.output_count() >= total)
                && (!self.has_table() || self.table.row_count() >= total);
            if is_done && done_at.is_none() {
                self.world.note(|| "all is out".to_owned());
                self.world.calm();
                self.running.iter_mut().for_each(|running| running.wakes = 0);
                done_at = Some(polls);
            }
            if done_at.is_some_and(|at| polls > at + POLLS_AFTER) {
                let mut ran = std::mem::take(&mut self.seen.lock().ran);
                ran.polls = polls;
                return self.judge().map(|()| ran);
            }
        }
        let (topic, table) = (self.kafka.output_count(), self.table.row_count());
        Err(format!("the job does not end: {topic} rows in the topic, {table} in the table"))
    }

    /// Begins attempts where none works, and sometimes where one does.
    fn launch(&mut self, polls: u64, rescales: bool, is_done: bool) {
        let world = Arc::clone(&self.world);
        let count = |sim: &Self, task: Option<u32>, awake: bool| {
            sim.running.iter().filter(|running| running.task == task && (!awake || running.wakes <= polls)).count()
        };
        let is_made = self.seen.lock().is_made;
        let wants_plan = !is_made || self.seen.lock().needs_plan || (rescales && world.fault(8));
        if wants_plan && count(self, None, true) == 0 && count(self, None, false) < 3 && world.chance(100) {
            self.seen.lock().needs_plan = false;
            let tasks = 1 + u32::try_from(world.below(u64::from(TASKS_MAX))).unwrap();
            world.note(|| format!("a coordinator for {tasks} tasks"));
            let actor = self.coordinator(tasks);
            self.running.push(Running { task: None, actor, wakes: 0 });
        }
        // Attempts that begin again at once would keep coordinators from closing their logs.
        let eager = if count(self, None, true) == 0 { 30 } else { 6 };
        for task in (0..TASKS_MAX).filter(|_| is_made) {
            let awake = count(self, Some(task), true);
            let wanted = if awake == 0 {
                world.chance(eager)
            } else {
                (world.fault(4) || is_done && world.chance(3)) && awake < 3
            };
            if wanted && count(self, Some(task), false) < 5 {
                let actor = self.attempt(task);
                self.running.push(Running { task: Some(task), actor, wakes: 0 });
            }
        }
    }

    /// Kills somebody, or lets somebody stand still for a while.
    fn harm(&mut self, polls: u64) {
        if self.running.is_empty() {
            return;
        }
        let at = usize::try_from(self.world.below(self.running.len() as u64)).unwrap();
        if self.world.fault(4) {
            self.world.note(|| "a kill".to_owned());
            self.running.swap_remove(at);
        } else if self.world.fault(12) {
            self.running[at].wakes = polls + 20 + self.world.below(600);
        }
    }

    fn poll(&mut self, polls: u64) {
        let awake: Vec<usize> = (0..self.running.len()).filter(|at| self.running[*at].wakes <= polls).collect();
        if awake.is_empty() {
            return;
        }
        let at = awake[usize::try_from(self.world.below(awake.len() as u64)).unwrap()];
        let mut context = Context::from_waker(noop_waker_ref());
        if self.running[at].actor.as_mut().poll(&mut context).is_ready() {
            self.running.swap_remove(at);
        }
    }

    fn judge(&self) -> Result<(), String> {
        let expected: Vec<Row> =
            (0..i32::from(PARTITIONS)).flat_map(|p| (0..ROWS).map(move |i| (p, i, i.unsigned_abs() + 1))).collect();
        let compare = |what: &str, mut rows: Vec<Row>| {
            rows.sort_unstable();
            if rows == expected { Ok(()) } else { Err(format!("{what} has {rows:?}")) }
        };
        if self.has_topic() {
            let outputs = self.kafka.outputs().into_iter();
            let rows = outputs.map(|output| serde_json::from_slice(&output.value.unwrap()).unwrap()).collect();
            compare("the topic", rows)?;
        }
        if self.has_table() {
            compare("the table", self.table.rows())?;
        }
        self.check_chains()
    }

    /// Every record in Kafka follows the one before.
    fn check_chains(&self) -> Result<(), String> {
        for (name, entries) in self.kafka.logs() {
            let mut last = None;
            for entry in entries {
                let Entry::Record(body) = entry else { continue };
                let body = match body {
                    // Its object may be collected.
                    Body::Stored { .. } => {
                        last = None;
                        continue;
                    }
                    body => body,
                };
                match (&last, &body) {
                    (Some(Body::Epoch(last)), Body::Epoch(next)) if last.generation == next.generation => {
                        next.check_follows(last).map_err(|error| error.to_string())?;
                    }
                    (Some(Body::Epoch(last)), Body::Epoch(next)) if last.epoch >= next.epoch => {
                        return Err(format!("{name}: epoch {} comes after {}", next.epoch, last.epoch));
                    }
                    (Some(Body::Plan(last)), Body::Plan(next)) => {
                        next.check_follows(last).map_err(|error| error.to_string())?;
                    }
                    (None | Some(Body::Epoch(_)), Body::Epoch(_)) if name.kind != LogKind::Control => {}
                    (None, Body::Plan(_)) if name.kind == LogKind::Control => {}
                    (last, next) => return Err(format!("{name}: {next:?} comes after {last:?}")),
                }
                last = Some(body);
            }
        }
        Ok(())
    }
}

fn first_plan(shares: &[Share], has_table: bool) -> PlanRecord {
    let cut = |share: &Share| Cut {
        positions: share
            .partitions
            .iter()
            .map(|(topic, all)| (topic.clone(), all.iter().map(|p| (*p, 0)).collect()))
            .collect(),
        key_groups: share.key_groups,
        ..Cut::default()
    };
    PlanRecord {
        tables: has_table.then(|| (TABLE.to_owned(), UUID.to_owned())).into_iter().collect(),
        cuts: shares.iter().map(cut).collect(),
        fingerprint: QUERY.to_owned(),
        ..PlanRecord::default()
    }
}

/// Counts how an actor ended. An error that does not pass by itself is one that must never happen; a plan that is not seen yet passes.
fn tell(world: &World, seen: &Mutex<Seen>, who: &str, ended: Result<(), Ended>) {
    world.note(|| match &ended {
        Ok(()) => format!("{who} ended"),
        Err(ended) => format!("{who}: {ended}"),
    });
    match ended {
        Ok(()) => {}
        Err(Ended::Fenced) => seen.lock().ran.fenced += 1,
        Err(Ended::Unknown(_)) => seen.lock().ran.unknown += 1,
        Err(Ended::Failed(error)) => {
            if !matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Conflict | ErrorKind::NotFound) {
                world.violated(format!("{who}: {error}"));
            }
        }
    }
}
