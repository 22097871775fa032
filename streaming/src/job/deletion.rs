//! What is left of a job that has ended: files that wait for their tables, logs, and state.
//!
//! A job that has ended begins no more. Its logs are sealed first, so that no late attempt commits; then the files of its committed
//! epochs come into their tables; only then its state and its topics go. Each step may be repeated, by anybody, at any time. A
//! job of which nothing is left has step 1 in its record, and a record is not forgotten before.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use async_trait::async_trait;
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;
use regex::Regex;
use tereza_engine::Engine;
use tereza_engine::jobs::StreamJob;
use tereza_runtime::{Error, ErrorKind, Result};

use super::plan_record::in_force;
use crate::Tables;
use crate::connector::place_only;
use crate::coordinator::Coordinator;
use crate::host::Host;
use crate::kafka::{Cluster, Connection, KafkaOptions, Topics};
use crate::log::kafka::KafkaLog;
use crate::log::object::ObjectLog;
use crate::log::{Ended, Log};
use crate::objects::{Objects, store_error};
use crate::pipeline::{Change, FileWriter, Outcome, Table, Version};
use crate::record::{DataFile, PlanRecord};
use crate::table::{CatalogTable, FolderTable};

/// Objects that one call of [`sweep`] deletes.
pub(crate) const DELETED_MAX: usize = 1000;
/// Objects that one call of [`sweep`] looks at.
const LISTED_MAX: usize = 1_000_000;

/// A job that has ended.
pub(crate) struct Remains<'a> {
    pub(crate) uid: &'a str,
    pub(crate) stream: &'a StreamJob,
    pub(crate) objects: Objects,
    pub(crate) root: &'a str,
    pub(crate) engine: &'a Arc<Engine>,
    pub(crate) host: Arc<dyn Host>,
}

/// What [`Remains::clear`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removed {
    /// Nothing is left.
    All,
    /// There are more objects than one call deletes.
    Some,
}

impl Remains<'_> {
    /// Seals the logs, and brings the files of committed epochs into their tables.
    ///
    /// # Errors
    /// `Unavailable` or `Conflict` for what passes; `NotFound` if a log is gone that may name files; else what a table says that
    /// does not take its files.
    pub(crate) async fn settle(&self) -> Result<()> {
        let connection = self.connection()?;
        self.end(connection.as_ref()).await.map_err(Ended::into_error)
    }

    /// Deletes what is left of a job that is settled.
    pub(crate) async fn clear(&self) -> Result<Removed> {
        if sweep(&self.objects, self.root, self.uid).await? == Removed::Some {
            return Ok(Removed::Some);
        }
        if let Some(connection) = self.connection()? {
            let uid = self.uid.to_owned();
            blocking(move || delete_topics(&connection, &uid)).await?;
        }
        for name in &self.stream.sinks {
            if let Some(folder) = self.folder(name)? {
                folder.forget(self.uid).await?;
            }
        }
        Ok(Removed::All)
    }

    /// How the cluster is reached that has the job's logs; none if they are in the object store.
    fn connection(&self) -> Result<Option<Connection>> {
        for (name, table) in &self.stream.tables {
            if !matches!(table.options.get("connector").map(String::as_str), Some("kafka" | "upsert-kafka")) {
                continue;
            }
            let options = KafkaOptions::parse(&table.options)?;
            if self.stream.log.is_some() || self.stream.sinks.contains(name) || options.dead_letters.is_some() {
                return Ok(Some(options.connection));
            }
        }
        Ok(None)
    }

    async fn end(&self, connection: Option<&Connection>) -> Result<(), Ended> {
        let log: Arc<dyn Log> = match (connection, &self.stream.log) {
            (None, _) => Arc::new(ObjectLog::new(self.objects.clone(), self.root)),
            (Some(connection), Some(id)) => {
                let (connection, topic, id) = (connection.clone(), KafkaLog::topic(self.uid), id.clone());
                let log = KafkaLog::new(connection.clone()).with_topic_id(id.clone());
                blocking(move || check_topic(&connection, &topic, &id)).await?;
                Arc::new(log)
            }
            // It never had a log of which it knew: nothing was committed.
            (Some(_), None) => return Ok(()),
        };
        let plan = match in_force(&*log, &self.objects, self.uid).await? {
            Some(plan) if plan.deleted => return Ok(()),
            Some(plan) => plan,
            None if self.stream.fingerprint.is_none() => return Ok(()),
            None => return Err(Error::not_found(format!("the log of the job {} is lost", self.uid)).into()),
        };
        let coordinator = Coordinator {
            uid: self.uid.to_owned(),
            log,
            objects: self.objects.clone(),
            root: self.root.to_owned(),
            tables: self.tables(&plan).await?,
            host: Arc::clone(&self.host),
            #[cfg(test)]
            rules: crate::rules::Rules::default(),
        };
        coordinator.end().await
    }

    /// The folder of a table; none if the table is none of a folder.
    fn folder(&self, name: &str) -> Result<Option<FolderTable>> {
        let folder = self.stream.tables.get(name).and_then(|definition| place_only(name, definition));
        folder.map(|folder| FolderTable::open(self.engine, folder)).transpose()
    }

    /// The tables of a plan as they are now.
    async fn tables(&self, plan: &PlanRecord) -> Result<Tables<RecordBatch>> {
        let mut tables: Tables<RecordBatch> = BTreeMap::new();
        for (name, uuid) in &plan.tables {
            if let Some(folder) = self.folder(name)? {
                tables.insert(name.clone(), Arc::new(folder));
                continue;
            }
            let parts: Vec<&str> = name.splitn(3, '.').collect();
            let [catalog, schema, table] = parts[..] else {
                return Err(Error::internal(format!("the plan of the job {} names the table '{name}'", self.uid)));
            };
            let opened: Arc<dyn Table<Rows = RecordBatch>> =
                match CatalogTable::open(self.engine, catalog, schema, table).await {
                    Ok(opened) => Arc::new(opened),
                    Err(error) if error.kind() == ErrorKind::NotFound => {
                        tracing::info!(
                            job = self.uid,
                            table = name,
                            "files of an ended job wait for no table: it was dropped"
                        );
                        Arc::new(Dropped { uuid: uuid.clone() })
                    }
                    Err(error) => return Err(error),
                };
            tables.insert(name.clone(), opened);
        }
        Ok(tables)
    }
}

/// A table that was dropped: no file waits for it.
struct Dropped {
    uuid: String,
}

#[async_trait]
impl Table for Dropped {
    type Rows = RecordBatch;

    async fn begin(&self, _: &str) -> Result<Box<dyn FileWriter<Rows = RecordBatch>>> {
        Err(Error::not_found("the table was dropped"))
    }

    async fn has(&self, _: &DataFile) -> Result<bool> {
        Ok(false)
    }

    async fn load(&self, _: &str) -> Result<Version> {
        Ok(Version { token: String::new(), uuid: self.uuid.clone(), marker: u64::MAX })
    }

    async fn commit(&self, _: Change<'_>) -> Result<Outcome> {
        Err(Error::not_found("the table was dropped"))
    }
}

/// Deletes state and records of a job whose logs are sealed, at most [`DELETED_MAX`] objects. What stays is the log of plans, which
/// says that the job is deleted; the last object of each chain of a log, the only place that a late attempt could still write to;
/// and savepoints.
pub(crate) async fn sweep(objects: &Objects, root: &str, uid: &str) -> Result<Removed> {
    let base = Path::from(format!("{root}/{uid}"));
    let mut listed = objects.store.list(Some(&base));
    let mut last: BTreeMap<(u32, u64), (u64, Path)> = BTreeMap::new();
    let mut deleted = Vec::new();
    let mut seen = 0;
    while let Some(object) = listed.try_next().await.map_err(|error| store_error(&base, error))? {
        seen += 1;
        if seen > LISTED_MAX {
            let message = format!("the job {uid} has left more than {LISTED_MAX} objects at {base}");
            return Err(Error::resource_exhausted(message));
        }
        let parts: Vec<String> =
            object.location.prefix_match(&base).into_iter().flatten().map(|part| part.as_ref().to_owned()).collect();
        match parts.iter().map(String::as_str).collect::<Vec<_>>()[..] {
            ["state" | "probe" | "files" | "rows", ..] => deleted.push(object.location.to_string()),
            [task, chain, slot] => {
                let (Ok(task), Ok(chain), Ok(slot)) = (task.parse(), chain.parse(), slot.parse()) else { continue };
                match last.get_mut(&(task, chain)) {
                    Some(known) if known.0 > slot => deleted.push(object.location.to_string()),
                    Some(known) => {
                        let before = std::mem::replace(known, (slot, object.location));
                        deleted.push(before.1.to_string());
                    }
                    None => drop(last.insert((task, chain), (slot, object.location))),
                }
            }
            _ => {}
        }
        if deleted.len() >= DELETED_MAX {
            break;
        }
    }
    objects.delete(&deleted).await?;
    Ok(if deleted.len() >= DELETED_MAX { Removed::Some } else { Removed::All })
}

/// The topic of logs must be the one that the job was made in.
fn check_topic(connection: &Connection, topic: &str, id: &str) -> Result<()> {
    let found = Cluster::new(connection)?.topic_ids(&[topic])?.remove(topic).unwrap_or_default();
    if found == id {
        return Ok(());
    }
    Err(Error::not_found(format!("topic '{topic}' was deleted and made again: its id is {found}, the job's was {id}")))
}

/// Deletes all topics of a job, that of its logs last.
fn delete_topics(connection: &Connection, uid: &str) -> Result<()> {
    let cluster = Cluster::new(connection)?;
    let log = KafkaLog::topic(uid);
    let pattern = Regex::new(&format!(r"^__tereza\.{}\.([^.]+|edge\.[0-9]+)$", regex::escape(uid)))
        .map_err(|error| Error::internal(format!("the topics of {uid} have no pattern: {error}")))?;
    let mut topics = match cluster.names(&Topics::Pattern(pattern)) {
        Ok(topics) => topics,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    topics.sort_by_key(|topic| *topic == log);
    for topic in topics {
        match cluster.delete_topic(&topic) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Error::internal(format!("a call of Kafka panicked: {error}")))?
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use object_store::{ObjectStoreExt, PutPayload};
    use tereza_runtime::clock::Clock;

    use super::*;
    use crate::host::System;

    async fn names(store: &InMemory) -> Vec<String> {
        let listed: Vec<_> = store.list(None).try_collect().await.unwrap();
        let mut names: Vec<String> = listed.into_iter().map(|object| object.location.to_string()).collect();
        names.sort();
        names
    }

    async fn put(store: &InMemory, path: &str) {
        store.put(&Path::from(path), PutPayload::from_static(b"1")).await.unwrap();
    }

    #[tokio::test]
    async fn savepoints_plans_and_ends_of_chains_stay_and_so_do_other_jobs() {
        let store = Arc::new(InMemory::new());
        let kept = [
            "root/job/0/00/02",
            "root/job/0/01/00",
            "root/job/1/00/01",
            "root/job/ctl/00/00",
            "root/job/ctl/00/01",
            "root/job/savepoints/s/0/record.json",
            "root/job2/state/0/a",
        ];
        for path in kept {
            put(&store, path).await;
        }
        for path in [
            "root/job/0/00/00",
            "root/job/0/00/01",
            "root/job/1/00/00",
            "root/job/state/0/a",
            "root/job/probe/a",
            "root/job/files/t/0.json",
            "root/job/rows/query-0/list.json",
        ] {
            put(&store, path).await;
        }
        let objects = Objects::new(Arc::clone(&store) as _, Arc::new(System(Clock::system())));
        for _ in 0..2 {
            assert_eq!(sweep(&objects, "root", "job").await.unwrap(), Removed::All);
            assert_eq!(names(&store).await, kept);
        }
    }

    #[tokio::test]
    async fn one_call_deletes_so_many_objects() {
        let store = Arc::new(InMemory::new());
        for n in 0..DELETED_MAX + 7 {
            put(&store, &format!("root/job/state/0/{n}")).await;
        }
        let objects = Objects::new(Arc::clone(&store) as _, Arc::new(System(Clock::system())));
        assert_eq!(sweep(&objects, "root", "job").await.unwrap(), Removed::Some);
        assert_eq!(names(&store).await.len(), 7);
        assert_eq!(sweep(&objects, "root", "job").await.unwrap(), Removed::All);
        assert!(names(&store).await.is_empty());
    }
}
