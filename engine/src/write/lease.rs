//! A catalog that several processes have: each says in time that it lives, and cleans up after those that did not.
//!
//! A process that is only slow may be taken for dead. What it had begun to write is
//! [given up](tereza_catalog::Store::give_up_write) in the catalog before any file of it is removed, so it finds that it
//! cannot commit, and nobody loses rows.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tereza_runtime::Result;
use tokio_util::sync::CancellationToken;

use super::recover::Others;
use crate::engine::Engine;

/// How often a process says that it lives before it counts as dead.
const RENEWALS: u32 = 3;

/// What keeps a process alive in the catalog.
#[derive(Debug)]
pub(crate) struct Lease {
    duration: Duration,
    ended: CancellationToken,
}

impl Lease {
    pub(crate) fn of(duration_ms: u64) -> Self {
        Self { duration: Duration::from_millis(duration_ms), ended: CancellationToken::new() }
    }

    /// How often a process says that it lives.
    pub(crate) fn pause(&self) -> Duration {
        self.duration / RENEWALS
    }

    fn duration_ms(&self) -> i64 {
        i64::try_from(self.duration.as_millis()).unwrap_or(i64::MAX)
    }
}

/// Lets this process live in the catalog, from before its first write until [`end`].
pub(crate) async fn begin(engine: &Arc<Engine>, lease: &Lease) -> Result<()> {
    engine.catalog.renew_owner(&engine.process_id, lease.duration_ms()).await?;
    tokio::spawn(renew(Arc::downgrade(engine), lease.pause(), lease.duration_ms(), lease.ended.clone()));
    tokio::spawn(clean_up(Arc::downgrade(engine), lease.duration, lease.ended.clone()));
    Ok(())
}

/// Leaves what is left of this process to the others.
pub(crate) async fn end(engine: &Engine, lease: &Lease) {
    lease.ended.cancel();
    if let Err(error) = engine.catalog.end_owner(&engine.process_id).await {
        tracing::warn!(%error, "others will take this process for alive for a while");
    }
}

async fn renew(engine: Weak<Engine>, pause: Duration, duration_ms: i64, ended: CancellationToken) {
    while ended.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        let Some(engine) = engine.upgrade() else { return };
        let renewal = engine.catalog.renew_owner(&engine.process_id, duration_ms);
        if let Some(Err(error)) = ended.run_until_cancelled(renewal).await {
            tracing::warn!(%error, "cannot say in the catalog that this process lives");
        }
    }
}

/// Apart from [`renew`]: what the dead left may be much, or locked for a while, and this process is to live meanwhile.
async fn clean_up(engine: Weak<Engine>, pause: Duration, ended: CancellationToken) {
    let mut others = Others::default();
    while ended.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        let Some(engine) = engine.upgrade() else { return };
        if let Some(Err(error)) = ended.run_until_cancelled(others.clean_up(&engine)).await {
            tracing::warn!(%error, "what processes left that died is not cleaned up yet");
        }
    }
}
