//! What a process does for those that died: commits are rolled forward, writes that never committed are removed.

use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::stream::{self, StreamExt, TryStreamExt};
use tereza_catalog::store::{StagedFile, Write};
use tereza_runtime::Result;

use super::{files, roll_forward};
use crate::engine::Engine;

/// Finished commits are kept this long, for readers that ask what happened since they last looked.
const JOURNAL_MS: i64 = 60 * 60 * 1000;
/// Time for all of a recovery.
const RECOVERY_TIMEOUT: Duration = Duration::from_secs(20);
/// Requests to an object store at once.
const REQUESTS_IN_FLIGHT_MAX: usize = 16;

/// Finishes what dead processes left: rolls committed writes forward and removes what never committed.
///
/// To be called by the one process that holds the catalog: all writes of other owners count as dead. Only a catalog that
/// does not answer is an error. What else fails, or is not done in time because a store does not answer, is logged and left
/// for the next time: other tables can be used, and readers of these finish commits themselves.
pub(crate) async fn recover(engine: &Engine) -> Result<()> {
    let pending = engine.catalog.pending_commits().await?;
    let abandoned = engine.catalog.abandoned_writes(&engine.process_id).await?;
    let (commits, writes) = (pending.len(), abandoned.len());
    let done = tokio::time::timeout(RECOVERY_TIMEOUT, async {
        for commit in pending {
            if let Err(error) = roll_forward::finish(engine, &commit).await {
                tracing::error!(commit = commit.id, %error, "a commit is not rolled forward");
            }
        }
        for write in abandoned {
            if let Err(error) = remove(engine, &write).await {
                tracing::warn!(write = write.id, %error, "files of a write that ended are left");
            }
        }
    });
    if done.await.is_err() {
        tracing::warn!(commits, writes, "recovery took too long; the next start goes on");
    }
    engine.catalog.forget_commits(engine.clock.unix_ms() - JOURNAL_MS).await?;
    Ok(())
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
    // No process has the empty id, so these are the writes of all.
    let writes = engine.catalog.abandoned_writes("").await?;
    match writes.iter().find(|write| write.id == id) {
        Some(write) => remove(engine, write).await,
        None => Ok(()),
    }
}

async fn remove(engine: &Engine, write: &Write) -> Result<()> {
    let removals = write.staged.clone().into_iter().map(|file| remove_staged(engine, file));
    stream::iter(removals).buffer_unordered(REQUESTS_IN_FLIGHT_MAX).try_collect::<()>().await?;
    engine.catalog.end_write(&write.id).await
}

async fn remove_staged(engine: &Engine, file: StagedFile) -> Result<()> {
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
    // One that was under way when its process died may be known to the store alone.
    for upload_id in bucket.uploads_of(&place.path).await? {
        match bucket.uploads.abort_multipart(&place.path, &upload_id).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(files::store_error(error, &file.staged)),
        }
    }
    roll_forward::delete(&place).await
}
