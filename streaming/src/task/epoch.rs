//! The end of an epoch: its state and files are put, then one record makes them count.

use std::collections::BTreeSet;
use std::mem;

use bytes::Bytes;
use futures::future::try_join_all;
use tereza_runtime::{Error, ErrorKind, Result};

#[cfg(test)]
use super::broken;
use super::start::object_of;
use super::{Open, Task};
use crate::log::Ended;
use crate::objects::Objects;
use crate::pipeline::{Part, Pipeline, Produced, Snapshot, Source};
use crate::record::{
    Body, DataFile, Entry, EpochRecord, Files, ObjectRef, OpenPartition, Pending, StateContent, StatePart,
};
use crate::rules::Rule;

/// What the record says besides the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Epoch,
    /// The input has ended.
    Input,
    /// The task stops and nothing is pending.
    Stop,
}

/// A record and the objects that it needs.
struct Draft {
    record: EpochRecord,
    body: Body,
    /// State and large records that are still to be put.
    objects: Vec<(String, Bytes)>,
    /// The files that are new in it.
    new: Vec<Pending>,
    /// The partitions of these files that are to be completed.
    touched: Vec<OpenPartition>,
    stored: Option<String>,
}

impl<P, S> Task<P, S>
where
    P: Pipeline,
    S: Source<Input = P::Input>,
{
    /// Messages go to the log's writer, rows of tables to the epoch's files.
    pub(super) async fn put_out(mut self, out: Produced<P::Rows>) -> Result<Self, Ended> {
        if !out.outputs.is_empty() {
            let now = self.job.host.now_ms();
            self.open.is_dirty = true;
            self.open.sent_ms.get_or_insert(now);
            self.writer = self.writer.send(out.outputs).await?;
        }
        for (table, rows) in out.rows {
            self.open.is_dirty = true;
            if let Err(error) = self.write(&table, rows).await {
                return Err(self.fail(error).await);
            }
        }
        Ok(self)
    }

    async fn write(&mut self, table: &str, rows: P::Rows) -> Result<()> {
        if !self.open.files.contains_key(table) {
            let to = self.job.tables.get(table).filter(|_| self.last.applied.contains_key(table));
            let to =
                to.ok_or_else(|| Error::internal(format!("rows for the table {table}, which the plan does not name")))?;
            let name = format!("{}-{}-{}", self.job.uid, self.job.task, self.name());
            self.open.files.insert(table.to_owned(), to.begin(&name).await?);
        }
        match self.open.files.get_mut(table) {
            Some(writer) => writer.write(rows).await,
            None => Ok(()),
        }
    }

    /// Of what the open epoch makes: no other attempt and no other epoch has it.
    fn name(&self) -> String {
        let epoch = self.last.epoch + 1;
        if self.job.rules().breaks(Rule::OwnNames) { epoch.to_string() } else { format!("{}-{epoch}", self.attempt) }
    }

    /// Ends the open epoch. One without anything to commit stays open, unless `end` is to be said.
    pub(super) async fn close(self, end: End) -> Result<Self, Ended> {
        if !self.open.is_dirty && end == End::Epoch {
            return Ok(self);
        }
        let began_ms = self.job.host.now_ms();
        let closed = self.end_epoch(end).await?;
        let took_ms = closed.job.host.now_ms().saturating_sub(began_ms);
        metrics::histogram!("tereza_stream_commit_seconds").record(took_ms as f64 / 1000.0);
        Ok(closed)
    }

    async fn end_epoch(mut self, end: End) -> Result<Self, Ended> {
        let mut out = Produced::default();
        let snapshot = match self.pipeline.snapshot(&mut out) {
            Ok(snapshot) => snapshot,
            Err(error) => return Err(self.fail(error).await),
        };
        self = self.put_out(out).await?;
        let draft = match self.draft(snapshot, end).await {
            Ok(draft) => draft,
            Err(error) => return Err(self.fail(error).await),
        };
        self.commit(draft).await
    }

    /// Completes the files and says what the record will be.
    async fn draft(&mut self, snapshot: Snapshot, end: End) -> Result<Draft> {
        let epoch = self.last.epoch + 1;
        let name = self.name();
        let place = format!("{}/{name}", self.job.state_path());
        let mut objects = Vec::new();
        let mut new = Vec::new();
        let mut touched = Vec::new();
        for (index, (table, writer)) in mem::take(&mut self.open.files).into_iter().enumerate() {
            let files = writer.finish().await?;
            if files.is_empty() {
                continue;
            }
            self.touch(&mut touched, &table, &files)?;
            let files = if files.len() <= self.job.settings.inline_files_max {
                Files::Inline(files)
            } else {
                let bytes = serde_json::to_vec(&files).map_err(|error| Error::internal(error.to_string()))?;
                Files::Manifest(later(&mut objects, format!("{place}-files-{index}"), bytes.into()))
            };
            new.push(Pending { table, epoch, files });
        }
        let mut state = snapshot.kept.of(&self.last.state)?;
        for (index, Part { key_groups, bytes }) in snapshot.parts.into_iter().enumerate() {
            let content = if bytes.len() <= self.job.settings.inline_state_max {
                StateContent::Inline(bytes)
            } else {
                StateContent::Object(later(&mut objects, format!("{place}-state-{index}"), bytes))
            };
            state.push(StatePart { key_groups, content });
        }
        let (carried, applied) = self.backlog.state();
        let carried = if self.job.rules().breaks(Rule::Carry) { Vec::new() } else { carried };
        let mut record = EpochRecord {
            uid: self.job.uid.clone(),
            task: self.job.task,
            generation: self.last.generation,
            epoch,
            nonce: self.job.host.new_id(),
            prev_nonce: self.last.nonce.clone(),
            attempt: self.attempt.clone(),
            positions: self.open.positions.clone(),
            watermarks: snapshot.watermarks,
            upstream: snapshot.upstream,
            state,
            pending: carried.into_iter().chain(new.iter().cloned()).collect(),
            applied,
            partitions: self.backlog.partitions(&touched)?,
            garbage: Vec::new(),
            fingerprint: self.job.fingerprint.clone(),
            finished: self.last.finished || end == End::Input,
            is_final: end == End::Stop,
        };
        record.garbage = self.garbage(&record);
        let body = Body::Epoch(Box::new(record.clone()));
        match Entry::Record(body.clone()).encode() {
            Ok(bytes) if bytes.len() <= self.job.settings.inline_record_max => {
                return Ok(Draft { record, body, objects, new, touched, stored: None });
            }
            Err(error) if error.kind() != ErrorKind::ResourceExhausted => return Err(error),
            Ok(_) | Err(_) => {}
        }
        let path = format!("{place}-record");
        let object = later(&mut objects, path.clone(), body.encode()?);
        let body = Body::Stored { nonce: record.nonce.clone(), object };
        Ok(Draft { record, body, objects, new, touched, stored: Some(path) })
    }

    /// Notes the partitions of new files that are to be completed later.
    fn touch(&self, touched: &mut Vec<OpenPartition>, table: &str, files: &[DataFile]) -> Result<()> {
        let Some(to) = self.job.tables.get(table) else { return Ok(()) };
        let mut partitions = BTreeSet::new();
        for file in files {
            partitions.extend(to.partition(file)?);
        }
        let (epoch, since_ms) = (self.last.epoch + 1, self.job.host.now_ms());
        let table = || table.to_owned();
        touched.extend(partitions.into_iter().map(|values| OpenPartition { table: table(), values, epoch, since_ms }));
        Ok(())
    }

    /// Objects that the last record names and `next` does not.
    fn garbage(&self, next: &EpochRecord) -> Vec<String> {
        let kept: BTreeSet<String> = named(next).collect();
        let dropped = named(&self.last).filter(|path| !kept.contains(path) && !self.of_plan.contains(path));
        dropped.chain(self.stored.clone()).chain(self.left.iter().cloned()).collect()
    }

    async fn commit(mut self, draft: Draft) -> Result<Self, Ended> {
        let rules = self.job.rules();
        let Draft { record, body, objects, new, touched, stored } = draft;
        let early = !rules.breaks(Rule::SnapshotBeforeCommit);
        if early && let Err(error) = put(&self.job.objects, &objects).await {
            return Err(self.fail(error).await);
        }
        #[cfg(test)]
        broken::apply_early(&self.job, &self.applier, &record, &new).await;
        self.writer = match self.writer.append(body).await {
            Ok(writer) => writer,
            Err(ended) => {
                #[cfg(test)]
                broken::clean_up(&self.job, &objects, &new).await;
                return Err(ended);
            }
        };
        if !early {
            put(&self.job.objects, &objects).await?;
        }
        self.backlog.committed(&new, &touched, record.watermark_ms());
        self.source.committed(&record);
        self.left = match self.job.objects.delete(&record.garbage).await {
            Ok(()) => Vec::new(),
            Err(error) => {
                tracing::debug!(uid = self.job.uid, %error, "objects that nothing names stay for now");
                record.garbage.clone()
            }
        };
        #[cfg(test)]
        broken::delete_by_listing(&self.job, &record).await;
        self.open = Open::new(record.positions.clone(), self.job.host.now_ms());
        (self.last, self.stored) = (record, stored);
        Ok(self)
    }
}

async fn put(store: &Objects, objects: &[(String, Bytes)]) -> Result<()> {
    try_join_all(objects.iter().map(|(path, bytes)| store.put(path, bytes.clone()))).await?;
    Ok(())
}

/// Says what an object will be that is put later.
fn later(objects: &mut Vec<(String, Bytes)>, path: String, bytes: Bytes) -> ObjectRef {
    let object = ObjectRef::of(path.clone(), &bytes);
    objects.push((path, bytes));
    object
}

/// Objects that a record names, but for files of tables.
pub(crate) fn named(record: &EpochRecord) -> impl Iterator<Item = String> {
    let lists = record.pending.iter().filter_map(|pending| match &pending.files {
        Files::Inline(_) => None,
        Files::Manifest(object) => Some(object.path.clone()),
    });
    record.state.iter().filter_map(object_of).chain(lists)
}
