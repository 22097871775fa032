//! One attempt of a job, from its statements to the end of its tasks.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arrow::array::RecordBatch;
use futures::FutureExt;
use futures::future::{BoxFuture, Either, select};
use tereza_engine::Engine;
use tereza_engine::flink::StreamInsert;
use tereza_runtime::{Error, ErrorKind, Result};

use super::flow::Flow;
use super::lanes::Spread;
use super::plan_record::{self, first, in_force, shared, topics};
use super::prepare::{Prepared, ReadOnce, ReadTable, WrittenTable, lane};
use super::savepoint::Origin;
use super::settings::JobSettings;
use super::sides::Sides;
use super::stats::{JobStats, Stats};
use super::tasks;
use crate::Tables;
use crate::connector::{
    self, Collect, Connector, Files, FilesTable, Found, Inputs, KafkaTable, Once, Reader, SinkWriter, Target,
    TopicWriter,
};
use crate::coordinator::{Coordinator, Edges};
use crate::edge::{self, Broom};
use crate::host::Host;
use crate::kafka::{Cluster, Connection, Feed, FeedSettings, Limits};
use crate::log::kafka::KafkaLog;
use crate::log::object::ObjectLog;
use crate::log::{Ended, Log};
use crate::objects::Objects;
use crate::pipeline::Table;
use crate::plan::Exchange;
use crate::record::{PlanRecord, Positions};
use crate::shares::{self, Owners};
use crate::table::{CatalogTable, FolderTable, Written};
use crate::task::{Control, Exit, Job, Settings, Started, start};

/// Tasks that a job may ever have.
pub(crate) const TASKS_MAX: u32 = 16;
/// Bytes that wait in the source of a task, and those of a batch.
const QUEUE_BYTES: u64 = 16 << 20;
/// The same of what other tasks give it, which is compressed.
const EDGE_QUEUE_BYTES: u64 = 4 << 20;

/// What an attempt is given.
pub(crate) struct Attempt {
    /// Id of the job.
    pub(crate) uid: String,
    /// Of the statements, the tables that they name, and the settings.
    pub(crate) fingerprint: String,
    pub(crate) inserts: Vec<StreamInsert>,
    pub(crate) settings: JobSettings,
    /// The savepoint that a new job begins from.
    pub(crate) origin: Option<Origin>,
    /// What times of made rows count from.
    pub(crate) origin_ms: i64,
    pub(crate) state_bytes_max: usize,
    /// The log that the job was made in; none if it is not made yet.
    pub(crate) log: Option<String>,
    /// Whether it had a plan.
    pub(crate) has_plan: bool,
    pub(crate) objects: Objects,
    /// Path in the object store below which all jobs have their objects.
    pub(crate) root: String,
    pub(crate) engine: Arc<Engine>,
    pub(crate) host: Arc<dyn Host>,
    /// Set when the job is to end as if its tables ended where they are.
    pub(crate) drain: Arc<AtomicBool>,
    pub(crate) stats: Arc<JobStats>,
}

/// What a new job is kept by.
#[async_trait::async_trait]
pub(crate) trait Notes: Send + Sync {
    /// The job's log is made; this is its id.
    ///
    /// # Errors
    /// `Conflict` if another attempt has planned the job without it.
    async fn log_made(&self, id: &str) -> Result<()>;

    /// The job has a plan, in Kafka or in the object store.
    ///
    /// # Errors
    /// `Conflict` if another attempt has made the job's log elsewhere.
    async fn planned(&self, fingerprint: &str, in_kafka: bool) -> Result<()>;

    /// Something that its owner should know.
    async fn tell(&self, text: &str) -> Result<()>;
}

/// What the tasks of a job have in common.
struct Common {
    log: Arc<dyn Log>,
    plan: PlanRecord,
    tables: Tables<RecordBatch>,
    files: WrittenFiles,
    /// Topic that is written → its partitions.
    partitions: BTreeMap<String, i32>,
    /// Topics of the edges, by their numbers; none if the tasks exchange no rows.
    edges: Vec<String>,
    /// Set by a task that waits for another plan.
    waits: Arc<AtomicBool>,
}

/// What takes files, by its names.
type WrittenFiles = BTreeMap<String, Arc<dyn Written>>;

impl Common {
    fn target(&self, name: &str) -> Result<Target> {
        let opened = self.files.get(name).ok_or_else(|| Error::internal(format!("table {name} is not open")))?;
        Ok(Target::Table { name: name.to_owned(), schema: opened.schema(), places: opened.places() })
    }
}

impl Attempt {
    /// Makes the job if it is new, gives it as many tasks as are asked for, and works until its input ends or it is told to stop. An
    /// attempt that only waits, since the plan in force has nothing for a task to do, is `Unavailable`.
    pub(crate) async fn run(self, notes: &dyn Notes, control: &Control) -> Result<Exit, Ended> {
        let mut prepared = Prepared::new(&self.inserts, &self.settings, self.origin_ms)?;
        let asked = self.settings.tasks;
        let in_kafka = match self.has_plan {
            true => prepared.writes_topics() || self.log.is_some(),
            false => prepared.begins_in_kafka(asked) || self.log.is_some(),
        };
        let exchanges = !prepared.exchanges.is_empty();
        let between = prepared.connection.clone().filter(|_| exchanges).zip(Some(prepared.exchanges.clone()));
        let files = self.written_files(&prepared.sinks).await?;
        let completes = files.iter().find(|(_, table)| table.needs_watermarks().is_some());
        let completes =
            completes.filter(|_| exchanges).map(|(name, _)| format!("it completes partitions of table {name}"));
        let alone = prepared.alone(in_kafka).or(completes);
        let tables: Tables<RecordBatch> = files
            .iter()
            .map(|(name, table)| (name.clone(), Arc::clone(table) as Arc<dyn Table<Rows = RecordBatch>>))
            .collect();
        let written = prepared.written_topics()?;
        let connection = prepared.connection.clone().filter(|_| in_kafka);
        let log = self.open_log(connection, notes).await?;
        let coordinator = self.coordinator(Arc::clone(&log), tables.clone());
        let (plan, told) = match in_force(&*log, &self.objects, &self.uid).await? {
            Some(plan) if plan.deleted => {
                return Err(Error::not_found(format!("the job {} is deleted", self.uid)).into());
            }
            Some(plan) => {
                let seen = self.seen(&plan, asked, alone.is_some(), &*log).await?;
                let (wanted, told) = plan_record::tasks(asked, alone.as_deref(), exchanges, &seen);
                match plan.cuts.len() == wanted as usize {
                    true => (plan, told),
                    false => (self.rescale(&coordinator, wanted, plan, between.clone()).await?, told),
                }
            }
            None if self.has_plan => {
                return Err(Error::not_found(format!(
                    "the log of the job {} is lost: it had a plan, and there is none",
                    self.uid
                ))
                .into());
            }
            None => {
                let uuids = self.uuids(&tables).await?;
                let plan = tokio::task::block_in_place(|| first(&prepared, uuids, &self.fingerprint))?;
                let files = prepared.tables.iter().find(|read| matches!(read.connector, Connector::Files(_)));
                if let Some(read) = files.filter(|_| self.origin.is_some()) {
                    let name = read.table.name();
                    return Err(Error::unsupported(format!(
                        "a job that reads the files of table {name} and begins from a savepoint"
                    ))
                    .into());
                }
                if self.origin.is_some() && !prepared.once.is_empty() {
                    let text = "a job that reads tables that are no streams and begins from a savepoint";
                    return Err(Error::unsupported(text).into());
                }
                let (asked, plan) = match &self.origin {
                    // The next attempt has more tasks, if they are asked for.
                    Some(origin) => (1, origin.begin(plan, &self.objects, &self.root, &self.uid).await?),
                    None => (asked, plan),
                };
                let (wanted, told) = plan_record::tasks(asked, alone.as_deref(), exchanges, &shares::positions(&plan));
                let edges = self.edges(wanted, &plan, between.clone()).await?;
                (made(coordinator.create(shared(plan, wanted, &edges)).await)?, told)
            }
        };
        if let Some(told) = told {
            notes.tell(&told).await?;
        }
        check_partition_commits(&files, &prepared.tables, &plan)?;
        if !self.has_plan {
            notes.planned(&self.fingerprint, in_kafka).await?;
        }
        for read in &prepared.once {
            self.once(read).keep().await?;
        }
        let sides = std::mem::take(&mut prepared.sides);
        let mut sides = Sides::read(sides, self.state_bytes_max, Arc::clone(&self.host)).await?;
        let partitions = partitions(written).await?;
        let edges = match between.filter(|_| !plan.edges.is_empty()) {
            None => Vec::new(),
            Some((connection, exchanges)) => {
                let plan = plan.clone();
                prepared = self.prepare(true)?;
                sides.share(&prepared.sides);
                blocking(move || edge::check(&connection, &plan, &exchanges)).await?
            }
        };
        let common = Common { log, plan, tables, files, partitions, edges, waits: Arc::default() };
        let mut tasks = vec![self.task(0, prepared, &common, &mut sides, control).await?];
        for task in (1..).take(common.plan.cuts.len().saturating_sub(1)) {
            let prepared = self.prepare(!common.edges.is_empty())?;
            sides.share(&prepared.sides);
            tasks.push(self.task(task, prepared, &common, &mut sides, control).await?);
        }
        let running = pin!(tasks::run(tasks, control, tasks::STOP_TIMEOUT));
        let ended = match select(running, pin!(sides.refresh())).await {
            Either::Left((ended, _)) => ended,
            Either::Right((error, running)) => {
                control.stop();
                // What is not committed by then is read again.
                let _ = tokio::time::timeout(tasks::STOP_TIMEOUT, running).await;
                Err(error.into())
            }
        };
        let Common { log, plan, waits, .. } = &common;
        if waits.load(Ordering::Relaxed) && plan_record::is_half_changed(plan, &**log, &self.objects).await? {
            let tasks = u32::try_from(plan.cuts.len()).unwrap_or(u32::MAX);
            coordinator.rescale(|all| Owners::with_edges(all, tasks, &plan.edges).shares(all)).await?;
        }
        ended
    }

    /// The rows of a query of tables, as this job keeps them.
    fn once(&self, read: &ReadOnce) -> Once {
        let folder = format!("{}/{}/rows/{}", self.root, self.uid, read.name.replace(' ', "-"));
        Once::new(self.objects.clone(), folder, read.query.clone())
    }

    fn prepare(&self, is_spread: bool) -> Result<Prepared> {
        match is_spread {
            true => Prepared::spread(&self.inserts, &self.settings, self.origin_ms),
            false => Prepared::new(&self.inserts, &self.settings, self.origin_ms),
        }
    }

    /// Gives the job so many tasks, and edges if they are to exchange rows. One that has edges keeps them: there may be rows in them.
    async fn rescale(
        &self,
        coordinator: &Coordinator<RecordBatch>,
        tasks: u32,
        plan: PlanRecord,
        between: Option<(Connection, Vec<Exchange>)>,
    ) -> Result<PlanRecord, Ended> {
        let edges = self.edges(tasks, &plan, between).await?;
        let all: BTreeMap<_, _> = plan.edges.into_iter().chain(edges.plans.clone()).collect();
        coordinator.rescale_with(&edges, |found| Owners::with_edges(found, tasks, &all).shares(found)).await
    }

    /// The edges that a plan is to have and has not: those of a job whose first one was for one task. `between` is what is exchanged
    /// where there are several, and by which cluster.
    async fn edges(
        &self,
        tasks: u32,
        plan: &PlanRecord,
        between: Option<(Connection, Vec<Exchange>)>,
    ) -> Result<Edges> {
        let wanted = between.filter(|_| tasks > 1 && plan.edges.is_empty());
        let Some((connection, exchanges)) = wanted else { return Ok(Edges::default()) };
        let uid = self.uid.clone();
        blocking(move || edge::make(&connection, &uid, &exchanges)).await
    }

    /// The partitions of a job, for who asks how many tasks it can have.
    async fn seen(&self, plan: &PlanRecord, asked: u32, is_alone: bool, log: &dyn Log) -> Result<Positions> {
        // Only for more tasks it matters what they have found since the plan.
        match is_alone || asked.min(TASKS_MAX) as usize <= plan.cuts.len() {
            true => Ok(shares::positions(plan)),
            false => plan_record::seen(plan, log, &self.objects).await,
        }
    }

    /// What begins a task and runs it.
    async fn task(
        &self,
        task: u32,
        prepared: Prepared,
        common: &Common,
        sides: &mut Sides,
        control: &Control,
    ) -> Result<BoxFuture<'static, Result<Exit, Ended>>> {
        let Prepared { graph, tables: read, once, sinks, connection, exchanges, .. } = prepared;
        let stats = self.stats.task();
        let (inputs, flow_tables) = self.inputs(task, (read, once), connection.as_ref(), &common.plan, &stats)?;
        let (spread, edges) = match connection.filter(|_| !common.edges.is_empty()) {
            None => (None, None),
            Some(connection) => {
                let spread = self.spread(task, exchanges, common, sides)?;
                let edges = of_edges(task, &self.uid, &connection, common, &spread)?;
                (Some(spread), Some(edges))
            }
        };
        let inputs = inputs.with_edges(edges);
        let sinks = self.sinks(task, sinks, common).await?;
        let flow = Flow::new(graph, flow_tables, sinks, self.state_bytes_max, task, Arc::clone(&stats))
            .spread(spread)?
            .ignoring_unclaimed(self.origin.as_ref().is_some_and(|origin| origin.ignores_unclaimed));
        let job = Job {
            uid: self.uid.clone(),
            task,
            fingerprint: self.fingerprint.clone(),
            log: Arc::clone(&common.log),
            objects: self.objects.clone(),
            root: self.root.clone(),
            tables: common.tables.clone(),
            host: Arc::clone(&self.host),
            settings: Settings { epoch: self.settings.epoch, apply: self.settings.apply, ..Settings::default() },
            #[cfg(test)]
            rules: crate::rules::Rules::default(),
        };
        let (control, waits) = (control.clone(), Arc::clone(&common.waits));
        Ok(async move {
            match start(Arc::new(job), flow, inputs).await? {
                Started::Running(task) => {
                    stats.begins(task.last());
                    task.run(&control).await
                }
                Started::Finished => Ok(Exit::Finished),
                Started::Waiting(why) => {
                    waits.store(true, Ordering::Relaxed);
                    Err(Error::unavailable(why).into())
                }
            }
        }
        .boxed())
    }

    /// The lanes of a task, and what it says of itself to other tasks.
    fn spread(&self, task: u32, exchanges: Vec<Exchange>, common: &Common, sides: &mut Sides) -> Result<Spread> {
        let plan = &common.plan;
        let cut = usize::try_from(task).ok().and_then(|task| plan.cuts.get(task));
        let own = common.edges.first().and_then(|topic| cut?.positions.get(topic));
        let own: Vec<i32> = own.into_iter().flat_map(BTreeMap::keys).copied().collect();
        let graphs = own.into_iter().map(|number| {
            let (graph, own) = lane(&self.inserts, &self.settings, self.origin_ms)?;
            sides.share(&own);
            Ok((number, graph))
        });
        Ok(Spread {
            generation: plan.generation,
            task,
            tasks: u32::try_from(plan.cuts.len()).unwrap_or(u32::MAX),
            topics: common.edges.clone(),
            exchanges,
            partitions: plan.edges.values().map(|edge| edge.partitions).min().unwrap_or_default(),
            graphs: graphs.collect::<Result<_>>()?,
            ended: Arc::default(),
        })
    }

    /// The log of the job: in Kafka if rows go there or pass there from task to task, in the object store otherwise.
    async fn open_log(&self, connection: Option<Connection>, notes: &dyn Notes) -> Result<Arc<dyn Log>, Ended> {
        let Some(connection) = connection else {
            return Ok(Arc::new(ObjectLog::new(self.objects.clone(), self.root.as_str())));
        };
        let log = KafkaLog::new(connection.clone());
        let id = match &self.log {
            Some(id) => id.clone(),
            None => {
                let (uid, log) = (self.uid.clone(), log.clone());
                let id = blocking(move || topic(&log, &connection, &uid)).await?;
                notes.log_made(&id).await?;
                id
            }
        };
        Ok(Arc::new(log.with_topic_id(id)))
    }

    /// Opens what takes files, by its names.
    async fn written_files(&self, sinks: &[WrittenTable]) -> Result<WrittenFiles> {
        let mut files = WrittenFiles::new();
        for sink in sinks {
            let (name, opened): (String, Arc<dyn Written>) = match sink {
                WrittenTable::Catalog { catalog, schema, table } => {
                    let opened = CatalogTable::open(&self.engine, catalog, schema, table).await?;
                    (format!("{catalog}.{schema}.{table}"), Arc::new(opened))
                }
                WrittenTable::Stream { table, connector: Connector::Files(files) } => {
                    let folder = files.folder(table.definition(), &table.written())?;
                    (table.name().to_owned(), Arc::new(FolderTable::open(&self.engine, folder)?))
                }
                WrittenTable::Stream { .. } => continue,
            };
            files.insert(name, opened);
        }
        Ok(files)
    }

    async fn uuids(&self, tables: &Tables<RecordBatch>) -> Result<BTreeMap<String, String>> {
        let mut uuids = BTreeMap::new();
        for (name, table) in tables {
            uuids.insert(name.clone(), table.load(&format!("tereza.{}.0", self.uid)).await?.uuid);
        }
        Ok(uuids)
    }

    fn coordinator(&self, log: Arc<dyn Log>, tables: Tables<RecordBatch>) -> Coordinator<RecordBatch> {
        Coordinator {
            uid: self.uid.clone(),
            log,
            objects: self.objects.clone(),
            root: self.root.clone(),
            tables,
            host: Arc::clone(&self.host),
            #[cfg(test)]
            rules: crate::rules::Rules::default(),
        }
    }

    fn inputs(
        &self,
        task: u32,
        (tables, once): (Vec<ReadTable>, Vec<ReadOnce>),
        connection: Option<&Connection>,
        plan: &PlanRecord,
        stats: &Arc<Stats>,
    ) -> Result<(Inputs, Vec<super::flow::FlowTable>)> {
        let (mut read, mut flows) = (Vec::new(), Vec::new());
        let mut group = None;
        let mut discovery = None;
        let mut headers = false;
        let mut of_kafka = Vec::new();
        for table in tables {
            let (from, kafka, topics) = match &table.connector {
                Connector::Kafka(kafka) => {
                    let topics = topics(&kafka.options, plan);
                    of_kafka.extend(topics.clone());
                    headers |= kafka.wants_headers();
                    group = group.or_else(|| kafka.options.group.clone());
                    discovery = discovery.into_iter().chain(kafka.options.discovery).min();
                    (connector::From::Topics(topics.clone()), Some(KafkaTable::clone(kafka)), topics)
                }
                Connector::Made(events) => {
                    let name = table.table.name().to_owned();
                    let from = connector::From::Events { name: name.clone(), events: events.clone() };
                    (from, None, vec![name])
                }
                Connector::Files(files) => {
                    let name = table.table.name().to_owned();
                    let folder = format!("{}/{}/files/{}", self.root, self.uid, name.replace('/', "%2F"));
                    let files = Files::new(FilesTable::clone(files), Found::kept(self.objects.clone(), folder))?;
                    (connector::From::Files { name: name.clone(), files: Box::new(files) }, None, vec![name])
                }
                Connector::Blackhole | Connector::Print(_) => {
                    return Err(Error::internal(format!("table {} is read", table.table.name())));
                }
            };
            let wanted = table.wanted();
            flows.push(table.flow(topics.into_iter().collect(), &self.settings)?);
            read.push(connector::Table { reader: Some(Reader::new(table.table, kafka)?.only(&wanted)?), from });
        }
        for of_tables in once {
            let (name, rows) = (of_tables.name.clone(), Box::new(self.once(&of_tables)));
            flows.push(of_tables.flow());
            read.push(connector::Table { reader: None, from: connector::From::Once { name, rows } });
        }
        let of_kafka = own(&of_kafka, task, plan);
        let feed = connection.filter(|_| !of_kafka.ids.is_empty()).map(|connection| {
            let settings = FeedSettings {
                connection: connection.clone(),
                group: group.unwrap_or_else(|| format!("tereza.{}", self.uid)),
                topics: of_kafka.ids,
                ends: of_kafka.ends,
                limits: Limits { queue_bytes: QUEUE_BYTES, discovery, task, owners: Owners::of_plan(plan) },
            };
            Feed::new(settings, Collect::new(headers))
        });
        let (drain, host) = (Arc::clone(&self.drain), Arc::clone(&self.host));
        Ok((Inputs::new(read, feed, drain, host, Arc::clone(stats))?, flows))
    }

    async fn sinks(&self, task: u32, sinks: Vec<WrittenTable>, common: &Common) -> Result<Vec<SinkWriter>> {
        let mut writers = Vec::new();
        for sink in sinks {
            writers.push(match sink {
                WrittenTable::Stream { table, connector } => {
                    let target = match connector {
                        Connector::Kafka(kafka) => {
                            let partitions = common.partitions.get(kafka.topic()?).copied().unwrap_or_default();
                            let mut writer = TopicWriter::new(&table, &kafka, partitions, task)?;
                            writer.prepare().await?;
                            Target::Topic(Box::new(writer))
                        }
                        Connector::Print(word) => Target::Print(word),
                        Connector::Blackhole => Target::Nowhere,
                        Connector::Files(_) => common.target(table.name())?,
                        Connector::Made(_) => {
                            return Err(Error::internal(format!("table {} is written", table.name())));
                        }
                    };
                    SinkWriter::new(table.name().to_owned(), &table.written(), target)
                }
                WrittenTable::Catalog { catalog, schema, table } => {
                    let name = format!("{catalog}.{schema}.{table}");
                    let target = common.target(&name)?;
                    let Target::Table { schema, .. } = &target else { continue };
                    let schema = Arc::clone(schema);
                    SinkWriter::new(name, &schema, target)
                }
            });
        }
        Ok(writers)
    }
}

/// What reads the edges of a task.
fn of_edges(
    task: u32,
    uid: &str,
    connection: &Connection,
    common: &Common,
    spread: &Spread,
) -> Result<connector::Edges> {
    let plan = &common.plan;
    let ids = common.edges.iter().filter_map(|topic| Some((topic.clone(), plan.topics.get(topic)?.clone())));
    let settings = FeedSettings {
        connection: connection.clone(),
        group: format!("tereza.{uid}.edges"),
        topics: ids.collect(),
        ends: Positions::new(),
        limits: Limits { queue_bytes: EDGE_QUEUE_BYTES, discovery: None, task, owners: Owners::of_plan(plan) },
    };
    let known = common.edges.iter().zip(&spread.exchanges).enumerate();
    let known = known.map(|(edge, (topic, exchange))| (topic.clone(), (edge, Arc::clone(&exchange.schema)))).collect();
    let feed = Feed::new(settings, Collect::new(true));
    Ok(connector::Edges::new(feed, known, Arc::clone(&spread.ended), Broom::new(connection)?))
}

/// What a task has of topics.
#[derive(Debug, PartialEq, Eq)]
struct Own {
    /// Topic → id, of those that it reads or may find new partitions of.
    ids: BTreeMap<String, String>,
    /// The ends of its partitions. A topic that has ends and none of them is here, without any.
    ends: Positions,
}

/// A topic with ends is read by those who have partitions of it, since it gets no new ones; one without by all tasks.
fn own(topics: &[String], task: u32, plan: &PlanRecord) -> Own {
    let mut own = Own { ids: BTreeMap::new(), ends: Positions::new() };
    let cut = usize::try_from(task).ok().and_then(|task| plan.cuts.get(task));
    for topic in topics {
        let at = cut.and_then(|cut| cut.positions.get(topic));
        let is_read = match plan.ends.get(topic) {
            None => true,
            Some(ends) => {
                let is_own = |partition: &i32| at.is_some_and(|at| at.contains_key(partition));
                let ends: BTreeMap<i32, i64> =
                    ends.iter().filter(|(partition, _)| is_own(partition)).map(|(at, end)| (*at, *end)).collect();
                let has_any = !ends.is_empty();
                own.ends.insert(topic.clone(), ends);
                has_any
            }
        };
        if let Some(id) = plan.topics.get(topic).filter(|_| is_read) {
            own.ids.insert(topic.clone(), id.clone());
        }
    }
    own
}

/// How many partitions the topics have that are written.
async fn partitions(sinks: Vec<(Connection, String)>) -> Result<BTreeMap<String, i32>> {
    let ask = move || {
        let of = |(connection, topic): (Connection, String)| {
            let partitions = Cluster::new(&connection)?.partitions(&topic).map_err(|error| match error.kind() {
                ErrorKind::NotFound => error.context("a topic that is written is not there"),
                _ => error,
            })?;
            Ok((topic, partitions))
        };
        sinks.into_iter().map(of).collect()
    };
    blocking(ask).await
}

/// A plan that is there already is that of another process, or of an attempt that was told of no commit. The next attempt finds it.
fn made(plan: Result<PlanRecord, Ended>) -> Result<PlanRecord, Ended> {
    match plan {
        Err(Ended::Failed(error)) if error.kind() == ErrorKind::AlreadyExists => {
            Err(Error::conflict(error.message()).into())
        }
        made => made,
    }
}

/// Refuses what would let partitions wait for ever, or be complete too early.
fn check_partition_commits(tables: &WrittenFiles, read: &[ReadTable], plan: &PlanRecord) -> Result<()> {
    for (name, table) in tables {
        let Some(needs_watermarks) = table.needs_watermarks() else { continue };
        if plan.cuts.len() > 1 {
            return Err(Error::unsupported(format!("partitions of table {name} that several tasks complete"))
                .with_hint("run the job in one task, or take the 'sink.partition-commit' parameters away"));
        }
        if needs_watermarks && read.iter().all(|read| read.table.watermark().is_none()) {
            return Err(Error::invalid_input(format!(
                "table {name} has 'sink.partition-commit.trigger' = 'partition-time', and no table that is read has a watermark"
            )));
        }
    }
    Ok(())
}

/// Makes the topic of the job's logs, or finds the one that an attempt made which then died: there is no plan in it yet.
fn topic(log: &KafkaLog, connection: &Connection, uid: &str) -> Result<String> {
    match log.create(uid, TASKS_MAX, None) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let topic = KafkaLog::topic(uid);
            let found = Cluster::new(connection)?.topic_ids(&[&topic])?.remove(&topic);
            found.ok_or_else(|| Error::unavailable(format!("topic '{topic}' is there and is not known")))
        }
        id => id,
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::internal(format!("a call of Kafka panicked: {error}")))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Cut;

    #[test]
    fn a_topic_with_ends_is_read_by_who_has_partitions_of_it() {
        let at = |partitions: &[i32]| -> BTreeMap<i32, i64> { partitions.iter().map(|at| (*at, 9)).collect() };
        let of = |pairs: &[(&str, &[i32])]| -> Positions {
            pairs.iter().map(|(topic, partitions)| ((*topic).to_owned(), at(partitions))).collect()
        };
        let cut = |positions| Cut { positions, ..Cut::default() };
        let plan = PlanRecord {
            topics: ["ends", "open", "out"].map(|topic| (topic.to_owned(), format!("id of {topic}"))).into(),
            ends: of(&[("ends", &[0, 1])]),
            cuts: vec![cut(of(&[("ends", &[0, 1]), ("open", &[])])), cut(of(&[("ends", &[]), ("open", &[0])]))],
            ..PlanRecord::default()
        };
        let topics = ["ends".to_owned(), "open".to_owned()];
        let ids = |own: &Own| own.ids.keys().cloned().collect::<Vec<_>>();
        let (first, second) = (own(&topics, 0, &plan), own(&topics, 1, &plan));
        assert_eq!((ids(&first), &first.ends), (topics.to_vec(), &plan.ends));
        assert_eq!((ids(&second), second.ends), (vec!["open".to_owned()], of(&[("ends", &[])])));
        assert!(own(&topics[..1], 1, &plan).ids.is_empty(), "it reads nothing of Kafka");
    }
}
