//! How an attempt begins. The order is the protocol's: fence, read, plan, check, restore.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::future::try_join_all;
use tereza_runtime::{Error, Result};

use super::{Job, Open, Task};
use crate::apply::{Applier, Backlog};
use crate::log::{Ended, Last, LogName, Opened, Writer};
use crate::objects::Objects;
use crate::pipeline::{Part, Pipeline, Restored, Source};
use crate::record::{Body, Cut, DataFile, EpochRecord, Files, PlanRecord, StateContent, StatePart};

/// How far a start came.
pub enum Started<T> {
    Running(Box<T>),
    /// There is nothing for the task to do under the plan that is in force; the text says why.
    Waiting(String),
    /// The input has ended and everything is in its place.
    Finished,
}

/// A base to go on from.
struct Base {
    record: EpochRecord,
    stored: Option<String>,
    cut: Cut,
}

/// Begins an attempt. All earlier attempts of the task end by it.
///
/// # Errors
/// [`Ended::Fenced`] if a later attempt is past this one; `Internal` if something is gone or broken that the last record names.
pub async fn start<P, S>(job: Arc<Job<P::Rows>>, mut pipeline: P, mut source: S) -> Result<Started<Task<P, S>>, Ended>
where
    P: Pipeline,
    S: Source<Input = P::Input>,
{
    let attempt = job.host.new_id();
    let name = LogName::task(&job.uid, job.task);
    let Opened { writer, last } = job.log.open(&name, &attempt).await?;
    // A plan that is not the newest one is seen to be closed by the seal that the opened log has.
    let (writer, plan) = match job.log.peek(&LogName::control(&job.uid)).await? {
        Last::Nothing => {
            let message =
                format!("the job {} has no plan: its log is lost, or another one than that it was made in", job.uid);
            return Err(Error::not_found(message).into());
        }
        Last::Record(body) => load(&job.objects, body, writer).await?,
        Last::Sealed(_) => return Ok(Started::Waiting("the job is closed".to_owned())),
    };
    let Body::Plan(plan) = plan else {
        return Err(Error::internal(format!("the log of plans of {} holds an epoch", job.uid)).into());
    };
    check_plan(&job, &plan)?;
    if plan.deleted {
        return Ok(Started::Waiting("the job is deleted".to_owned()));
    }
    let (writer, base) = match base(&job, &plan, last, writer).await? {
        Ok(found) => found,
        Err(why) => return Ok(Started::Waiting(why)),
    };
    let Base { record, stored, cut } = base;
    if record.finished && record.pending.is_empty() && record.partitions.is_empty() {
        return Ok(Started::Finished);
    }
    let (writer, parts) = restore_parts(&job, &record, cut.key_groups, writer).await?;
    pipeline.restore(Restored {
        key_groups: cut.key_groups,
        watermarks: record.watermarks.clone(),
        upstream: record.upstream.clone(),
        generation: record.generation,
        parts,
    })?;
    // Whoever committed the record may have died before it deleted these.
    let left = match job.objects.delete(&record.garbage).await {
        Ok(()) => Vec::new(),
        Err(_) => record.garbage.clone(),
    };
    remove_orphans(&job, &record).await;
    source.assign(&record.positions).await?;
    let backlog = Arc::new(Backlog::of(&record));
    let applier = Applier {
        uid: job.uid.clone(),
        task: job.task,
        tables: job.tables.clone(),
        objects: job.objects.clone(),
        host: Arc::clone(&job.host),
        backlog: Arc::clone(&backlog),
        rules: job.rules(),
    };
    let open = Open::new(record.positions.clone(), job.host.now_ms());
    Ok(Started::Running(Box::new(Task {
        attempt,
        writer,
        pipeline,
        source,
        applier: Arc::new(applier),
        backlog,
        last: record,
        stored,
        of_plan: cut.state.iter().filter_map(object_of).collect::<BTreeSet<String>>(),
        left,
        open,
        job,
    })))
}

/// Removes files of dead attempts, which this one has fenced. What cannot be removed stays for the next attempt.
async fn remove_orphans<R: Send>(job: &Job<R>, record: &EpochRecord) {
    let removed = async {
        let mut kept = Vec::new();
        for pending in &record.pending {
            match &pending.files {
                Files::Inline(files) => kept.extend_from_slice(files),
                Files::Manifest(list) => {
                    let bytes = job.objects.get(list).await?;
                    let bytes = bytes.ok_or_else(|| Error::internal(format!("the list {} is gone", list.path)))?;
                    let files: Vec<DataFile> = serde_json::from_slice(&bytes)
                        .map_err(|error| Error::internal(format!("{}: {error}", list.path)))?;
                    kept.extend(files);
                }
            }
        }
        let mut removed = 0;
        for table in job.tables.values() {
            removed += table.remove_orphans(&format!("{}-{}-", job.uid, job.task), &kept).await?;
        }
        Ok::<_, Error>(removed)
    };
    match removed.await {
        Ok(0) => {}
        Ok(removed) => {
            tracing::info!(uid = job.uid, task = job.task, removed, "files that no record names are removed")
        }
        Err(error) => tracing::warn!(uid = job.uid, task = job.task, %error, "files that no record names stay for now"),
    }
}

fn check_plan<R>(job: &Job<R>, plan: &PlanRecord) -> Result<()> {
    if plan.uid != job.uid {
        return Err(Error::internal(format!("the log of plans of {} holds one of {}", job.uid, plan.uid)));
    }
    if plan.fingerprint != job.fingerprint {
        let (is, was) = (&job.fingerprint, &plan.fingerprint);
        let message =
            format!("the plan of the job {} is of another query: its fingerprint is {was}, not {is}", job.uid);
        return Err(Error::invalid_input(message));
    }
    match plan.tables.keys().find(|table| !job.tables.contains_key(*table)) {
        Some(table) => {
            Err(Error::invalid_input(format!("the plan of the job {} writes the unknown table {table}", job.uid)))
        }
        None => Ok(()),
    }
}

type Found = Result<(Box<dyn Writer>, Base), String>;

/// What the task goes on from under `plan`, or why it waits.
async fn base<R>(job: &Job<R>, plan: &PlanRecord, last: Last, writer: Box<dyn Writer>) -> Result<Found, Ended> {
    let Some(cut) = usize::try_from(job.task).ok().and_then(|task| plan.cuts.get(task)).cloned() else {
        return Ok(Err(format!("generation {} has {} tasks", plan.generation, plan.cuts.len())));
    };
    let (writer, record, stored) = match last {
        Last::Sealed(seal) if plan.generation <= seal.generation => {
            return Ok(Err(format!("generation {} is closed, and there is no later plan yet", seal.generation)));
        }
        Last::Nothing | Last::Sealed(_) => {
            return Ok(Ok((writer, Base { record: at_cut(job, plan, &cut), stored: None, cut })));
        }
        Last::Record(body) => {
            let stored = match &body {
                Body::Stored { object, .. } => Some(object.path.clone()),
                _ => None,
            };
            let (writer, body) = load(&job.objects, body, writer).await?;
            let Body::Epoch(record) = body else {
                return Err(Error::internal(format!("the log of task {} of {} holds a plan", job.task, job.uid)).into());
            };
            (writer, *record, stored)
        }
    };
    // The plan is read after the log was opened: if it is a later one, somebody has closed this log meanwhile.
    let writer = match check_record(job, plan, &cut, &record) {
        Ok(()) => writer,
        Err(error) => return Err(unless_superseded(writer, error).await),
    };
    if record.generation > plan.generation {
        return Ok(Err(format!("the plan of generation {} is not to be seen yet", record.generation)));
    }
    Ok(Ok((writer, Base { record, stored, cut })))
}

fn check_record<R>(job: &Job<R>, plan: &PlanRecord, cut: &Cut, record: &EpochRecord) -> Result<()> {
    let what = if (&record.uid, record.task) != (&job.uid, job.task) {
        format!("its last record is of task {} of {}", record.task, record.uid)
    } else if record.fingerprint != job.fingerprint {
        format!("its last record is of the query {}, the job is {}", record.fingerprint, job.fingerprint)
    } else if record.generation < plan.generation {
        format!("generation {} was not closed before generation {} began", record.generation, plan.generation)
    } else if record.generation == plan.generation && record.epoch <= cut.epoch {
        format!("epoch {} is not after {}, where its plan begins", record.epoch, cut.epoch)
    } else if record.generation == plan.generation && record.epoch == cut.epoch + 1 && record.prev_nonce != plan.nonce {
        format!("its first record follows {}, not the plan {}", record.prev_nonce, plan.nonce)
    } else {
        return Ok(());
    };
    Err(Error::internal(format!("the log of task {} of {} is broken: {what}", job.task, job.uid)))
}

/// The record that a generation begins with.
fn at_cut<R>(job: &Job<R>, plan: &PlanRecord, cut: &Cut) -> EpochRecord {
    EpochRecord {
        uid: job.uid.clone(),
        task: job.task,
        generation: plan.generation,
        epoch: cut.epoch,
        nonce: plan.nonce.clone(),
        positions: cut.positions.clone(),
        watermarks: cut.watermarks.clone(),
        upstream: cut.upstream.clone(),
        state: cut.state.clone(),
        applied: cut.applied.clone(),
        partitions: cut.partitions.clone(),
        fingerprint: job.fingerprint.clone(),
        ..EpochRecord::default()
    }
}

pub(crate) fn object_of(part: &StatePart) -> Option<String> {
    match &part.content {
        StateContent::Inline(_) => None,
        StateContent::Object(object) => Some(object.path.clone()),
    }
}

/// A body, from the object store if it is there.
pub(crate) async fn load(
    objects: &Objects,
    body: Body,
    writer: Box<dyn Writer>,
) -> Result<(Box<dyn Writer>, Body), Ended> {
    let Body::Stored { nonce, object } = body else { return Ok((writer, body)) };
    let Some(bytes) = objects.get(&object).await? else { return Err(gone(writer, &object.path).await) };
    let body = Body::decode(&bytes).map_err(|error| error.context(&object.path))?;
    if body.nonce() != nonce || matches!(body, Body::Stored { .. }) {
        return Err(Error::internal(format!("the object {} is not the record that its log names", object.path)).into());
    }
    Ok((writer, body))
}

/// An object that the last record names is not there: a successor has collected it, or it is lost. Nothing older is taken instead.
pub(super) async fn gone(writer: Box<dyn Writer>, path: &str) -> Ended {
    let error = Error::internal(format!("the object {path} is gone, and the last record of the log names it"));
    unless_superseded(writer, error).await
}

/// What does not fit may be the work of a successor. Only the log's writer can call it an error.
pub(crate) async fn unless_superseded(writer: Box<dyn Writer>, error: Error) -> Ended {
    match writer.confirm().await {
        Ok(_) => Ended::Failed(error),
        Err(ended) => ended,
    }
}

async fn restore_parts<R>(
    job: &Job<R>,
    record: &EpochRecord,
    key_groups: (u16, u16),
    writer: Box<dyn Writer>,
) -> Result<(Box<dyn Writer>, Vec<Part>), Ended> {
    let read = record.state.iter().filter_map(|part| part.within(key_groups)).map(async |part| {
        let StatePart { key_groups, content } = part;
        match content {
            StateContent::Inline(bytes) => Ok(Ok(Part { key_groups, bytes })),
            StateContent::Object(object) => {
                let bytes = job.objects.get(&object).await?;
                Ok::<_, Error>(bytes.map(|bytes| Part { key_groups, bytes }).ok_or(object.path))
            }
        }
    });
    match try_join_all(read).await?.into_iter().collect::<Result<Vec<_>, _>>() {
        Ok(parts) => Ok((writer, parts)),
        Err(path) => Err(gone(writer, &path).await),
    }
}
