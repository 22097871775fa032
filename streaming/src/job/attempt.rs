//! One attempt of a job's task, from its statements to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use arrow::array::RecordBatch;
use tereza_engine::Engine;
use tereza_engine::flink::StreamInsert;
use tereza_runtime::{Error, Result};

use super::flow::Flow;
use super::plan_record::{first, in_force, topics};
use super::prepare::{Prepared, ReadTable, WrittenTable};
use super::settings::JobSettings;
use super::stats::Stats;
use crate::Tables;
use crate::connector::{
    self, Collect, Connector, Files, FilesTable, Found, Inputs, KafkaTable, Reader, SinkWriter, Target, TopicWriter,
};
use crate::coordinator::Coordinator;
use crate::host::Host;
use crate::kafka::{Cluster, Connection, Feed, FeedSettings, Limits};
use crate::log::kafka::KafkaLog;
use crate::log::object::ObjectLog;
use crate::log::{Ended, Log};
use crate::objects::Objects;
use crate::pipeline::Table;
use crate::record::PlanRecord;
use crate::table::CatalogTable;
use crate::task::{Control, Exit, Job, Settings, Started, start};

/// Tasks that a job may ever have.
pub(crate) const TASKS_MAX: u32 = 16;
/// The only task there is so far.
const TASK: u32 = 0;
/// Bytes that wait in a source, and those of a batch.
const QUEUE_BYTES: u64 = 16 << 20;

/// What an attempt is given.
pub(crate) struct Attempt {
    /// Id of the job.
    pub(crate) uid: String,
    /// Of the statements, the tables that they name, and the settings.
    pub(crate) fingerprint: String,
    pub(crate) inserts: Vec<StreamInsert>,
    pub(crate) settings: JobSettings,
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
    pub(crate) stats: Arc<Stats>,
}

/// What a new job is kept by.
#[async_trait::async_trait]
pub(crate) trait Notes: Send + Sync {
    /// The job's log is made; this is its id.
    async fn log_made(&self, id: &str) -> Result<()>;

    /// The job has a plan.
    async fn planned(&self, fingerprint: &str) -> Result<()>;
}

impl Attempt {
    /// Makes the job if it is new, and works until its input ends or it is told to stop. An attempt that only waits, since the
    /// plan in force has nothing for it to do, is `Unavailable`.
    pub(crate) async fn run(self, notes: &dyn Notes, control: &Control) -> Result<Exit, Ended> {
        let prepared = Prepared::new(&self.inserts, &self.settings, self.origin_ms)?;
        let catalog_tables = self.catalog_tables(prepared.catalog_tables()).await?;
        let tables: Tables<RecordBatch> = catalog_tables
            .iter()
            .map(|(name, table)| (name.clone(), Arc::clone(table) as Arc<dyn Table<Rows = RecordBatch>>))
            .collect();
        let connection = prepared.connection.clone().filter(|_| prepared.writes_topics());
        let log = self.open_log(connection, notes).await?;
        let plan = match in_force(&*log, &self.objects, &self.uid).await? {
            Some(plan) => plan,
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
                self.make(plan, Arc::clone(&log), &tables).await?
            }
        };
        if !self.has_plan {
            notes.planned(&self.fingerprint).await?;
        }
        let Prepared { graph, tables: read, sinks, connection } = prepared;
        let (inputs, flow_tables) = self.inputs(read, connection.as_ref(), &plan)?;
        let sinks = self.sinks(sinks, &catalog_tables).await?;
        let flow = Flow::new(graph, flow_tables, sinks, self.state_bytes_max, TASK, Arc::clone(&self.stats));
        let job = Job {
            uid: self.uid,
            task: TASK,
            fingerprint: self.fingerprint,
            log,
            objects: self.objects,
            root: self.root,
            tables,
            host: self.host,
            settings: Settings { epoch: self.settings.epoch, apply: self.settings.apply, ..Settings::default() },
            #[cfg(test)]
            rules: crate::rules::Rules::default(),
        };
        match start(Arc::new(job), flow, inputs).await? {
            Started::Running(task) => task.run(control).await,
            Started::Finished => Ok(Exit::Finished),
            Started::Waiting(why) => Err(Ended::Failed(Error::unavailable(why))),
        }
    }

    /// The log of the job: in Kafka if rows go there, in the object store otherwise.
    async fn open_log(&self, connection: Option<Connection>, notes: &dyn Notes) -> Result<Arc<dyn Log>, Ended> {
        let Some(connection) = connection else {
            return Ok(Arc::new(ObjectLog::new(self.objects.clone(), self.root.as_str())));
        };
        let log = KafkaLog::new(connection.clone());
        let id = match &self.log {
            Some(id) => id.clone(),
            None => {
                let (uid, log) = (self.uid.clone(), log.clone());
                let id = blocking(move || made(&log, &connection, &uid)).await?;
                notes.log_made(&id).await?;
                id
            }
        };
        Ok(Arc::new(log.with_topic_id(id)))
    }

    /// Opens tables of the catalog, by their names.
    async fn catalog_tables(&self, names: Vec<[String; 3]>) -> Result<BTreeMap<String, Arc<CatalogTable>>> {
        let mut tables = BTreeMap::new();
        for [catalog, schema, table] in names {
            let opened = CatalogTable::open(&self.engine, &catalog, &schema, &table).await?;
            tables.insert(format!("{catalog}.{schema}.{table}"), Arc::new(opened));
        }
        Ok(tables)
    }

    async fn uuids(&self, tables: &Tables<RecordBatch>) -> Result<BTreeMap<String, String>> {
        let mut uuids = BTreeMap::new();
        for (name, table) in tables {
            uuids.insert(name.clone(), table.load(&format!("tereza.{}.{TASK}", self.uid)).await?.uuid);
        }
        Ok(uuids)
    }

    async fn make(
        &self,
        plan: PlanRecord,
        log: Arc<dyn Log>,
        tables: &Tables<RecordBatch>,
    ) -> Result<PlanRecord, Ended> {
        let coordinator = Coordinator {
            uid: self.uid.clone(),
            log,
            objects: self.objects.clone(),
            root: self.root.clone(),
            tables: tables.clone(),
            host: Arc::clone(&self.host),
            #[cfg(test)]
            rules: crate::rules::Rules::default(),
        };
        match coordinator.create(plan).await {
            // That of another process, or of an attempt that was told of no commit. The next attempt finds it.
            Err(Ended::Failed(error)) if error.kind() == tereza_runtime::ErrorKind::AlreadyExists => {
                Err(Error::conflict(error.message()).into())
            }
            made => made,
        }
    }

    fn inputs(
        &self,
        tables: Vec<ReadTable>,
        connection: Option<&Connection>,
        plan: &PlanRecord,
    ) -> Result<(Inputs, Vec<super::flow::FlowTable>)> {
        let (mut read, mut flows) = (Vec::new(), Vec::new());
        let mut group = None;
        let mut discovery = None;
        let (mut has_topics, mut headers) = (false, false);
        for table in tables {
            let (from, kafka, topics) = match &table.connector {
                Connector::Kafka(kafka) => {
                    let topics = topics(&kafka.options, plan);
                    has_topics = true;
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
            read.push(connector::Table { reader: Reader::new(table.table, kafka)?.only(&wanted)?, from });
        }
        let feed = match connection.filter(|_| has_topics) {
            None => None,
            Some(connection) => {
                let read = plan.cuts.iter().flat_map(|cut| cut.positions.keys());
                let ids = read.filter_map(|topic| Some((topic.clone(), plan.topics.get(topic)?.clone())));
                let settings = FeedSettings {
                    connection: connection.clone(),
                    group: group.unwrap_or_else(|| format!("tereza.{}", self.uid)),
                    topics: ids.collect(),
                    ends: plan.ends.clone(),
                    limits: Limits { queue_bytes: QUEUE_BYTES, discovery, owner: (TASK, 1) },
                };
                Some(Feed::new(settings, Collect::new(headers)))
            }
        };
        let drain = Arc::clone(&self.drain);
        Ok((Inputs::new(read, feed, drain, Arc::clone(&self.host), Arc::clone(&self.stats))?, flows))
    }

    async fn sinks(
        &self,
        sinks: Vec<WrittenTable>,
        tables: &BTreeMap<String, Arc<CatalogTable>>,
    ) -> Result<Vec<SinkWriter>> {
        let mut writers = Vec::new();
        for sink in sinks {
            writers.push(match sink {
                WrittenTable::Stream { table, connector } => {
                    let target = match connector {
                        Connector::Kafka(kafka) => {
                            let (connection, topic) = (kafka.options.connection.clone(), kafka.topic()?.to_owned());
                            let partitions = blocking(move || Cluster::new(&connection)?.partitions(&topic)).await?;
                            let mut writer = TopicWriter::new(&table, &kafka, partitions, TASK)?;
                            writer.prepare().await?;
                            Target::Topic(Box::new(writer))
                        }
                        Connector::Print(word) => Target::Print(word),
                        Connector::Blackhole => Target::Nowhere,
                        Connector::Made(_) | Connector::Files(_) => {
                            return Err(Error::internal(format!("table {} is written", table.name())));
                        }
                    };
                    SinkWriter::new(table.name().to_owned(), &table.written(), target)
                }
                WrittenTable::Catalog { catalog, schema, table } => {
                    let name = format!("{catalog}.{schema}.{table}");
                    let opened = tables.get(&name);
                    let opened = opened.ok_or_else(|| Error::internal(format!("table {name} is not open")))?;
                    let (table, columns) = (name.clone(), opened.schema());
                    SinkWriter::new(table, &columns, Target::Table { schema: opened.schema(), name })
                }
            });
        }
        Ok(writers)
    }
}

/// Makes the topic of the job's logs, or finds the one that an attempt made which then died: there is no plan in it yet.
fn made(log: &KafkaLog, connection: &Connection, uid: &str) -> Result<String> {
    match log.create(uid, TASKS_MAX, None) {
        Err(error) if error.kind() == tereza_runtime::ErrorKind::AlreadyExists => {
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
