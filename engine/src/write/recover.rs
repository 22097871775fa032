//! What a process does for those that died: commits are rolled forward, writes that never committed are removed.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use object_store::path::Path;
use tereza_catalog::store::{Commit, StagedFile, Write};
use tereza_runtime::{Error, Result};

use super::output::ANNOUNCEMENT;
use super::{files, remote, roll_forward};
use crate::engine::Engine;
use crate::stores::{Bucket, Place};

/// Finished commits are kept this long, for readers that ask what happened since they last looked.
const JOURNAL_MS: i64 = 60 * 60 * 1000;
/// Time for all of a recovery.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests to an object store at once.
const REQUESTS_IN_FLIGHT_MAX: usize = 16;

/// Finishes what dead processes left: rolls committed writes forward and removes what never committed.
///
/// Dead is who does not say that it lives: where one process holds the catalog nobody does, and all but this one are. Only a
/// catalog that does not answer is an error. What else fails, or is not done in time because a store does not answer, is
/// logged and left for the next time: other tables can be used, and readers of these finish commits themselves.
pub(crate) async fn recover(engine: &Arc<Engine>) -> Result<()> {
    let pending = engine.catalog.pending_commits().await?;
    finish_and_remove(engine, pending, &mut HashSet::new()).await?;
    engine.catalog.forget_commits(engine.clock.unix_ms() - JOURNAL_MS).await?;
    Ok(())
}

/// The other processes that have the catalog, as this one has seen them.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// Commits that were not rolled forward when this process last looked.
    pending: HashSet<String>,
    /// Folders of executors that are being swept.
    swept: HashSet<String>,
}

impl Others {
    /// Does what [`recover`] does, again: for those that died since. Who rolls a commit forward gets time for it.
    pub(super) async fn clean_up(&mut self, engine: &Arc<Engine>) -> Result<()> {
        let pending = engine.catalog.pending_commits().await?;
        let ids = pending.iter().map(|commit| commit.id.clone()).collect();
        let before = std::mem::replace(&mut self.pending, ids);
        let late = pending.into_iter().filter(|commit| before.contains(&commit.id)).collect();
        finish_and_remove(engine, late, &mut self.swept).await
    }
}

/// Rolls the commits forward, and removes what the dead have begun to write. `swept` are the folders of executors that
/// somebody sweeps.
async fn finish_and_remove(engine: &Arc<Engine>, pending: Vec<Commit>, swept: &mut HashSet<String>) -> Result<()> {
    let abandoned = engine.catalog.abandoned_writes(&engine.process_id).await?;
    // What executors wrote may be much, or lie where nobody answers, and hides nothing from readers.
    let (remote, abandoned): (Vec<_>, Vec<_>) =
        abandoned.into_iter().partition(|write| has_folders(write) && !write.owner.is_empty());
    swept.retain(|id| remote.iter().any(|write| write.id == *id));
    let mut unswept = Vec::new();
    for Write { id, .. } in remote {
        if !swept.contains(&id) && engine.catalog.give_up_write(&id).await? {
            swept.insert(id.clone());
            unswept.push(id);
        }
    }
    remote::sweep_from_now(engine, unswept);
    let (commits, writes) = (pending.len(), abandoned.len());
    let done = tokio::time::timeout(RECOVERY_TIMEOUT, async {
        for commit in pending {
            if let Err(error) = roll_forward::finish(engine, &commit).await {
                tracing::error!(commit = commit.id, %error, "a commit is not rolled forward");
            }
        }
        for write in abandoned {
            if let Err(error) = remove_abandoned(engine, &write).await {
                tracing::warn!(write = write.id, %error, "files of a write that ended are left");
            }
        }
    });
    if done.await.is_err() {
        tracing::warn!(commits, writes, "recovery took too long; the next start goes on");
    }
    Ok(())
}

async fn remove_abandoned(engine: &Engine, write: &Write) -> Result<()> {
    match engine.catalog.give_up_write(&write.id).await? {
        true => remove(engine, write).await,
        // Its process lives after all, or ended it.
        false => Ok(()),
    }
}

/// Forgets the finished commits that nobody asks for any more, once in a while: a process may run for months.
pub(super) async fn tidy_journal(engine: &Engine) {
    let now_ms = engine.clock.unix_ms();
    let tidied_ms = engine.journal_tidied_ms.load(Ordering::Relaxed);
    let is_my_turn = now_ms - tidied_ms >= JOURNAL_MS
        && engine.journal_tidied_ms.compare_exchange(tidied_ms, now_ms, Ordering::Relaxed, Ordering::Relaxed).is_ok();
    if is_my_turn && let Err(error) = engine.catalog.forget_commits(now_ms - JOURNAL_MS).await {
        tracing::warn!(%error, "finished commits are kept for longer");
    }
}

/// Removes what one write staged, if it has begun and not committed, and forgets it.
pub(super) async fn remove_write(engine: &Engine, id: &str) -> Result<()> {
    match engine.catalog.write(id).await? {
        Some(write) => remove(engine, &write).await,
        None => Ok(()),
    }
}

/// Removes what one write staged, if it has begun and not committed.
pub(super) async fn remove_files_of(engine: &Engine, id: &str) -> Result<()> {
    match engine.catalog.write(id).await? {
        Some(write) => remove_files(engine, &write).await,
        None => Ok(()),
    }
}

async fn remove(engine: &Engine, write: &Write) -> Result<()> {
    remove_files(engine, write).await?;
    engine.catalog.end_write(&write.id).await
}

async fn remove_files(engine: &Engine, write: &Write) -> Result<()> {
    if let Some(commit) = pending_in(engine, write).await? {
        return Err(Error::unavailable(format!(
            "commit {commit} is not rolled forward yet and needs its staging folder"
        )));
    }
    let removals = write.staged.clone().into_iter().map(|file| remove_staged(engine, file));
    stream::iter(removals).buffer_unordered(REQUESTS_IN_FLIGHT_MAX).try_collect().await
}

/// Whether executors wrote for it.
fn has_folders(write: &Write) -> bool {
    write.staged.iter().any(|file| file.staged.ends_with('/'))
}

/// The commit that is to bring files out of a folder that the write names, if there is one.
async fn pending_in(engine: &Engine, write: &Write) -> Result<Option<String>> {
    let folders: Vec<&String> = write.staged.iter().map(|file| &file.staged).filter(|url| url.ends_with('/')).collect();
    if folders.is_empty() {
        return Ok(None);
    }
    let needs = |commit: &Commit| commit.remove_folders.iter().any(|folder| folders.contains(&folder));
    Ok(engine.catalog.pending_commits().await?.into_iter().find(needs).map(|commit| commit.id))
}

async fn remove_staged(engine: &Engine, file: StagedFile) -> Result<()> {
    if file.staged.ends_with('/') {
        return remove_folder(engine, &file.staged).await;
    }
    let place = engine.stores.place(&file.staged)?;
    let Some(bucket) = &place.bucket else {
        let path = files::local_path(&place)?;
        return files::blocking(move || {
            files::remove_all(std::slice::from_ref(&path)).map_err(|error| files::io_error(error, &path))?;
            files::remove_staging_folders([path]);
            Ok(())
        })
        .await;
    };
    abort_uploads(bucket, &place).await?;
    roll_forward::delete(&place).await
}

/// Ends the uploads of an object: one that was under way when its process died may be known to the store alone.
async fn abort_uploads(bucket: &Bucket, place: &Place) -> Result<()> {
    for upload_id in bucket.uploads_of(&place.path).await? {
        match bucket.uploads.abort_multipart(&place.path, &upload_id).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(files::store_error(error, &place.url())),
        }
    }
    Ok(())
}

/// Removes a staging folder with all that is in it, also what only the store knows of.
pub(super) async fn remove_folder(engine: &Engine, url: &str) -> Result<()> {
    let place = engine.stores.place(url)?;
    let Some(bucket) = &place.bucket else {
        let path = files::local_path(&place)?;
        return files::blocking(move || match std::fs::remove_dir_all(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(files::io_error(error, &path)),
            _ => Ok(()),
        })
        .await;
    };
    let listed = place.store.list(Some(&place.path)).map_ok(|object| object.location).try_collect().await;
    remove_objects(&place, bucket, listed.map_err(|error| files::store_error(error, url))?).await
}

/// Removes the files of a staging folder whose names `is_to_go` tells, also what only the store knows of.
pub(super) async fn remove_from_folder(engine: &Engine, url: &str, is_to_go: impl Fn(&str) -> bool) -> Result<()> {
    let place = engine.stores.place(url)?;
    let listed = place.store.list_with_delimiter(Some(&place.path)).await;
    let listed = listed.map_err(|error| files::store_error(error, url))?.objects.into_iter();
    let paths: Vec<Path> =
        listed.map(|object| object.location).filter(|path| path.filename().is_some_and(&is_to_go)).collect();
    if let Some(bucket) = &place.bucket {
        return remove_objects(&place, bucket, paths).await;
    }
    let paths: Vec<PathBuf> =
        paths.into_iter().map(|path| files::local_path(&place.at(path))).collect::<Result<_>>()?;
    files::blocking(move || {
        let first = paths.first().cloned().unwrap_or_default();
        files::remove_all(&paths).map_err(|error| files::io_error(error, &first))?;
        files::remove_staging_folders(paths);
        Ok(())
    })
    .await
}

/// Removes objects, and the uploads that some of them announce.
async fn remove_objects(place: &Place, bucket: &Bucket, paths: Vec<Path>) -> Result<()> {
    let removals = paths.into_iter().map(|path| {
        let announced = path.as_ref().strip_suffix(ANNOUNCEMENT);
        let upload = announced.map(|path| place.at(Path::from(path)));
        let object = place.at(path);
        async move {
            if let Some(upload) = &upload {
                abort_uploads(bucket, upload).await?;
            }
            roll_forward::delete(&object).await?;
            // One that began meanwhile was announced by what is gone now. One that begins later is announced again.
            if let Some(upload) = &upload {
                abort_uploads(bucket, upload).await?;
            }
            Ok(())
        }
    });
    stream::iter(removals).buffer_unordered(REQUESTS_IN_FLIGHT_MAX).try_collect().await
}

#[cfg(test)]
mod tests {
    use tereza_runtime::Settings;

    use super::*;

    #[tokio::test]
    async fn a_process_that_ends_soon_removes_what_executors_of_a_dead_one_left() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::in_folder(folder.path()).unwrap();
        let engine = Engine::open(&settings).await.unwrap();
        let left = folder.path().join("t/_tereza/w");
        std::fs::create_dir_all(&left).unwrap();
        std::fs::write(left.join("part-0"), "rows").unwrap();
        let url = format!("file://{}/", left.display());
        let write = Write {
            id: "w-folders".into(),
            database: "default".into(),
            table: "t".into(),
            owner: "a process that died".into(),
            began_ms: 1,
            staged: vec![StagedFile { target: url.clone(), staged: url }],
        };
        engine.catalog.begin_write(&write).await.unwrap();
        engine.close().await;
        drop(engine);
        let next = Engine::open(&settings).await.unwrap();
        next.close().await;
        assert!(!left.exists());
    }
}
