//! Savepoints: what a job is between two epochs, copied to where no job deletes, and jobs that begin from one.
//!
//! `<root>/savepoints/<id>/savepoint.json` names the record of each task with its hash, and each record the state, copied to
//! `<root>/savepoints/<id>/<task>/`. The manifest is put last: without it there is no savepoint.

use std::collections::BTreeMap;

use object_store::path::Path;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tereza_runtime::{Error, Result};

use crate::objects::{Objects, Patience};
use crate::record::{Body, EpochRecord, ObjectRef, OpenPartition, PlanRecord, StateContent};

const MAGIC: &str = "tereza.savepoint";
const VERSION: u32 = 1;
/// The folder of all savepoints, and the first part of their paths.
const FOLDER: &str = "savepoints";
/// Characters of the id of a savepoint.
const ID_CHARS_MAX: usize = 128;

/// Settings of Flink 2 and of Flink 1 that name a savepoint, and that let state be left out that no operator takes.
const PATH_KEYS: [&str; 2] = ["execution.state-recovery.path", "execution.savepoint.path"];
const IGNORE_KEYS: [&str; 2] =
    ["execution.state-recovery.ignore-unclaimed-state", "execution.savepoint.ignore-unclaimed-state"];

/// What a savepoint says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// The job that it is of.
    pub(crate) uid: String,
    /// Milliseconds since 1970.
    pub(crate) at_ms: i64,
    /// Of the Kafka cluster; empty if there is none.
    pub(crate) cluster: String,
    /// Topic → its id.
    pub(crate) topics: BTreeMap<String, String>,
    /// The record of each task.
    pub(crate) tasks: Vec<ObjectRef>,
}

/// The file of a manifest. The hash is that of `content` as it stands.
#[derive(Serialize, Deserialize)]
struct Sealed {
    magic: String,
    version: u32,
    sha256: String,
    content: String,
}

impl Manifest {
    /// Puts it, which makes the savepoint.
    pub(crate) async fn put(&self, objects: &Objects, root: &str, id: &str) -> Result<()> {
        let content = serde_json::to_string(self).map_err(|error| Error::internal(error.to_string()))?;
        let sealed = Sealed { magic: MAGIC.to_owned(), version: VERSION, sha256: sha256(&content), content };
        let bytes = serde_json::to_vec(&sealed).map_err(|error| Error::internal(error.to_string()))?;
        objects.put(&format!("{root}/{}/savepoint.json", path_of(id)), bytes.into()).await.map(drop)
    }

    /// The manifest of the savepoint at a path.
    ///
    /// # Errors
    /// `InvalidInput` for a path that can be none, or a damaged manifest; `NotFound`; `Unsupported` if a later release wrote it.
    pub(crate) async fn read(objects: &Objects, root: &str, path: &str) -> Result<Self> {
        check_path(path)?;
        let file = Path::from(format!("{root}/{path}/savepoint.json"));
        let bytes = objects.read(&file, Patience::Tries).await?;
        let bytes = bytes.ok_or_else(|| Error::not_found(format!("there is no savepoint '{path}'")))?;
        let damaged = |what: &str| Error::invalid_input(format!("the savepoint '{path}' is damaged: {what}"));
        let sealed: Sealed = serde_json::from_slice(&bytes).map_err(|error| damaged(&error.to_string()))?;
        if sealed.magic != MAGIC {
            return Err(damaged("its first field is another one"));
        }
        if sealed.version > VERSION {
            return Err(Error::unsupported(format!("the savepoint '{path}' of version {}", sealed.version))
                .with_hint("a later release wrote it: use that one"));
        }
        if sha256(&sealed.content) != sealed.sha256 {
            return Err(damaged("its hash differs"));
        }
        serde_json::from_str(&sealed.content).map_err(|error| damaged(&error.to_string()))
    }
}

/// Where a job begins that is told of a savepoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Origin {
    path: String,
    /// State that no operator takes is left out.
    pub(crate) ignores_unclaimed: bool,
}

impl Origin {
    /// What a job's settings say.
    ///
    /// # Errors
    /// `InvalidInput` for a path or a switch that can be none.
    pub(crate) fn of(settings: &BTreeMap<String, String>) -> Result<Option<Self>> {
        let set = |keys: [&'static str; 2]| keys.into_iter().find_map(|key| Some((key, settings.get(key)?)));
        let Some((_, path)) = set(PATH_KEYS) else { return Ok(None) };
        check_path(path)?;
        let ignores_unclaimed = match set(IGNORE_KEYS) {
            None => false,
            Some((key, text)) => text
                .trim()
                .to_ascii_lowercase()
                .parse()
                .map_err(|_| Error::invalid_input(format!("'{key}' is '{text}', expected true or false")))?,
        };
        Ok(Some(Self { path: path.clone(), ignores_unclaimed }))
    }

    /// Whether there is such a savepoint.
    pub(crate) async fn check(&self, objects: &Objects, root: &str) -> Result<()> {
        Manifest::read(objects, root, &self.path).await.map(drop)
    }

    /// The first plan of the job `uid` as one that goes on from the savepoint. State is copied to the job's own objects, so
    /// that the savepoint may be dropped.
    ///
    /// # Errors
    /// As [`Manifest::read`], and `InvalidInput` if a topic was made again, or if positions of a topic that the job does not
    /// read would be lost.
    pub(crate) async fn begin(&self, plan: PlanRecord, objects: &Objects, root: &str, uid: &str) -> Result<PlanRecord> {
        let manifest = Manifest::read(objects, root, &self.path).await?;
        let record = self.record(&manifest, objects).await?;
        self.begin_at(
            plan,
            &manifest,
            record,
            objects,
            &format!("{root}/{uid}/state/0/begin-{}", objects.host.new_id()),
        )
        .await
    }

    async fn record(&self, manifest: &Manifest, objects: &Objects) -> Result<EpochRecord> {
        let path = &self.path;
        let [object] = &manifest.tasks[..] else {
            return Err(Error::unsupported(format!("the savepoint '{path}' of {} tasks", manifest.tasks.len())));
        };
        let damaged = |what: String| Error::invalid_input(format!("the savepoint '{path}' is damaged: {what}"));
        let bytes = objects.get(object).await.map_err(|error| match error.kind() {
            tereza_runtime::ErrorKind::Internal => damaged(error.message().to_owned()),
            _ => error,
        })?;
        let bytes = bytes.ok_or_else(|| damaged(format!("{} is gone", object.path)))?;
        match Body::decode(&bytes)? {
            Body::Epoch(record) if record.pending.is_empty() => Ok(*record),
            _ => Err(damaged(format!("{} is no record of it", object.path))),
        }
    }

    async fn begin_at(
        &self,
        mut plan: PlanRecord,
        manifest: &Manifest,
        record: EpochRecord,
        objects: &Objects,
        place: &str,
    ) -> Result<PlanRecord> {
        let path = &self.path;
        let [cut] = &mut plan.cuts[..] else {
            return Err(Error::unsupported("a job in several tasks that begins from a savepoint"));
        };
        if !manifest.cluster.is_empty() && !plan.cluster.is_empty() && manifest.cluster != plan.cluster {
            let (is, was) = (&plan.cluster, &manifest.cluster);
            return Err(Error::invalid_input(format!(
                "the savepoint '{path}' is of the Kafka cluster {was}, the job reads from {is}"
            )));
        }
        for (topic, positions) in record.positions {
            let Some(begins) = cut.positions.get_mut(&topic) else {
                if self.ignores_unclaimed {
                    continue;
                }
                return Err(Error::invalid_input(format!(
                    "the savepoint '{path}' has positions of '{topic}', which the job does not read"
                ))
                .with_hint(format!("set '{}' to true to leave them out", IGNORE_KEYS[0])));
            };
            let (is, was) = (plan.topics.get(&topic), manifest.topics.get(&topic));
            if is != was {
                let text = |id: Option<&String>| id.cloned().unwrap_or_default();
                return Err(Error::invalid_input(format!(
                    "topic '{topic}' was deleted and made again since the savepoint '{path}': its id is {}, it was {}",
                    text(is),
                    text(was)
                )));
            }
            // A partition that the savepoint does not know is new, and is found from its beginning.
            *begins = positions;
        }
        cut.watermarks = record.watermarks;
        cut.watermarks.retain(|topic, _| cut.positions.contains_key(topic));
        cut.epoch = record.epoch;
        // All their files are in their folders.
        let open = record.partitions.into_iter().filter(|open| plan.tables.contains_key(&open.table));
        cut.partitions = open.map(|open| OpenPartition { epoch: 0, ..open }).collect();
        for (index, mut part) in record.state.into_iter().enumerate() {
            if let StateContent::Object(object) = &mut part.content {
                let bytes = objects.get(object).await?;
                let lost =
                    || Error::invalid_input(format!("the savepoint '{path}' is damaged: {} is gone", object.path));
                *object = objects.put(&format!("{place}-{index}"), bytes.ok_or_else(lost)?).await?;
            }
            cut.state.push(part);
        }
        Ok(plan)
    }
}

/// The path of a savepoint, below the root of all jobs.
pub(crate) fn path_of(id: &str) -> String {
    format!("{FOLDER}/{id}")
}

fn check_path(path: &str) -> Result<()> {
    let id = path.strip_prefix(FOLDER).and_then(|rest| rest.strip_prefix('/')).unwrap_or_default();
    let is_known = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !id.is_empty() && id.len() <= ID_CHARS_MAX && id.chars().all(is_known) {
        return Ok(());
    }
    Err(Error::invalid_input(format!("'{path}' is no path of a savepoint"))
        .with_hint("paths are like savepoints/name-0123abcd, as STOP JOB … WITH SAVEPOINT answers them"))
}

fn sha256(text: &str) -> String {
    Sha256::digest(text).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
