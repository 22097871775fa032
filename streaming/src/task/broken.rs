//! What attempts do whose rules are broken: the ways that a simpler protocol would go.

use std::collections::BTreeSet;

use bytes::Bytes;
use futures::TryStreamExt;
use object_store::ObjectStore;
use object_store::path::Path;

use super::{Job, named};
use crate::apply::Applier;
use crate::record::{Applied, EpochRecord, Files, Pending};
use crate::rules::Rule;

/// Deletes what an epoch made whose commit answered an error.
pub(super) async fn clean_up<R>(job: &Job<R>, objects: &[(String, Bytes)], new: &[Pending]) {
    if !job.rules.breaks(Rule::NoCleaning) {
        return;
    }
    let mut paths: Vec<String> = objects.iter().map(|(path, _)| path.clone()).collect();
    for pending in new {
        if let Files::Inline(files) = &pending.files {
            paths.extend(files.iter().map(|file| file.path.clone()));
        }
    }
    _ = job.objects.delete(&paths).await;
}

/// Brings files into tables before their record is committed.
pub(super) async fn apply_early<R: Send>(job: &Job<R>, applier: &Applier<R>, record: &EpochRecord, new: &[Pending]) {
    if !job.rules.breaks(Rule::ApplyAfterCommit) {
        return;
    }
    for pending in new {
        let known = Applied { marker: 0, ..record.applied[&pending.table].clone() };
        _ = applier.apply(&pending.table, &known, &[pending]).await;
    }
}

/// Deletes all objects of the task that its last record does not name.
pub(super) async fn delete_by_listing<R>(job: &Job<R>, record: &EpochRecord) {
    if !job.rules.breaks(Rule::GarbageByList) {
        return;
    }
    let path = Path::from(job.state_path());
    let Ok(listed) = job.objects.store.list(Some(&path)).try_collect::<Vec<_>>().await else { return };
    let kept: BTreeSet<String> = named(record).collect();
    let others = listed.into_iter().map(|object| object.location.to_string()).filter(|path| !kept.contains(path));
    _ = job.objects.delete(&others.collect::<Vec<_>>()).await;
}
