//! A lock at the metastore, as Hive's own clients take them: kept alive as long as it is held, and given back at the end.
//! One whose owner was killed runs out there (300 s unless set otherwise), or is given back when the store opens next.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tereza_runtime::clock::now;
use tereza_runtime::{Error, ErrorKind, Result, ids};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::super::names;
use crate::hive::remote::{Failed, Remote};
use crate::model::{LockMode, LockPart};
use crate::store::LockRequest;

/// How often a lock is renewed: well within the shortest time that metastores are known to be set to.
const RENEWED_EVERY: Duration = Duration::from_secs(30);
/// The first pause before a lock that somebody else has is asked for again; each is longer, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// How often, and with what pauses, a lock is given back that could not be: longer than it lives.
const UNLOCK_TRIES: usize = 150;
const UNLOCK_PAUSE: Duration = Duration::from_secs(2);
/// Before the id in what locks of a local store call themselves.
const AGENT: &str = "tereza-";
/// Whose they are, as the metastore shows them.
const USER: &str = "tereza";

/// A lock that is held.
#[derive(Debug)]
pub(super) struct Held {
    remote: Arc<Remote>,
    id: i64,
    is_lost: Arc<AtomicBool>,
    renewing: JoinHandle<()>,
    is_given_back: bool,
}

impl Held {
    /// Waits for a lock on these tables, at most so long.
    pub(super) async fn take(
        remote: &Arc<Remote>,
        instance: &str,
        mode: LockMode,
        tables: &[(&str, &str)],
        patience: Duration,
    ) -> Result<Self> {
        let part = |(database, table): &(&str, &str)| {
            names::check_chars("the database of a lock", database, names::DATABASE_CHARS)?;
            names::check_chars("the name of a table that is to be locked", table, names::LOCK_TABLE_CHARS)?;
            let table = (!table.is_empty()).then(|| (*table).to_owned());
            Ok(LockPart { mode, database: (*database).to_owned(), table, partition: None })
        };
        let request = LockRequest {
            parts: tables.iter().map(part).collect::<Result<Vec<_>>>()?,
            user: USER.to_owned(),
            host: "localhost".to_owned(),
            agent: Some(format!("{AGENT}{instance}-{}", ids::new_id())),
        };
        let (id, mut is_held) = match remote.lock(&request).await {
            Ok(answer) => answer,
            Err(Failed::Refused(error)) if error.kind() == ErrorKind::Unsupported => {
                let message = "a metastore without locks cannot be changed: others would lose what they do meanwhile";
                return Err(Error::new(ErrorKind::Unsupported, message).with_source(error));
            }
            Err(Failed::Refused(error) | Failed::Unsent(error)) => return Err(error),
            Err(Failed::Lost(error)) => {
                // It may be there without anybody who gives it back.
                give_back(remote, |agent| agent == request.agent.as_deref()).await?;
                return Err(error);
            }
        };
        let is_lost = Arc::new(AtomicBool::new(false));
        let renewing = tokio::spawn(renew(Arc::clone(remote), id, Arc::clone(&is_lost)));
        // From here on it is given back, whatever happens.
        let held = Self { remote: Arc::clone(remote), id, is_lost, renewing, is_given_back: false };
        let (since, mut pause) = (now(), FIRST_PAUSE);
        while !is_held {
            if since.elapsed() > patience {
                held.give_back().await;
                let what: Vec<String> = tables.iter().map(|(database, table)| format!("{database}.{table}")).collect();
                let message = format!("others have held a lock on {} for {patience:?}", what.join(" and "));
                let hint = format!(
                    "try again; `tereza catalog locks --url {}` shows who has it, `tereza catalog unlock` takes it back",
                    remote.url()
                );
                return Err(Error::unavailable(message).with_hint(hint));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
            is_held = remote.check_lock(id).await?;
        }
        Ok(held)
    }

    /// `Conflict` if it ran out: others may have changed what it was on.
    pub(super) fn check(&self) -> Result<()> {
        if self.is_lost.load(Ordering::SeqCst) {
            return Err(Error::conflict("the lock on the table ran out meanwhile").with_hint("run the statement again"));
        }
        Ok(())
    }

    /// Gives it back.
    pub(super) async fn give_back(mut self) {
        self.is_given_back = true;
        unlock(&self.remote, self.id).await;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.renewing.abort();
        if !self.is_given_back
            && let Ok(runtime) = Handle::try_current()
        {
            let (remote, id) = (Arc::clone(&self.remote), self.id);
            runtime.spawn(async move { unlock(&remote, id).await });
        }
    }
}

/// Gives back what a former process with this local store held: it is gone, as one at a time has the store.
pub(super) async fn give_back_former(remote: &Arc<Remote>, instance: &str) -> Result<()> {
    let prefix = format!("{AGENT}{instance}-");
    give_back(remote, |agent| agent.is_some_and(|agent| agent.starts_with(&prefix))).await
}

async fn give_back(remote: &Arc<Remote>, is_mine: impl Fn(Option<&str>) -> bool) -> Result<()> {
    for lock in remote.locks().await? {
        if is_mine(lock.request.agent.as_deref()) {
            unlock(remote, lock.id).await;
        }
    }
    Ok(())
}

/// Gives a lock back, later if the metastore does not answer now: until it runs out it keeps this process out as well.
async fn unlock(remote: &Arc<Remote>, id: i64) {
    let Err(error) = remote.unlock(id).await else { return };
    if error.kind() == ErrorKind::NotFound {
        return;
    }
    tracing::warn!(id, %error, "a lock at the metastore is not given back yet");
    let remote = Arc::clone(remote);
    tokio::spawn(async move {
        for _ in 0..UNLOCK_TRIES {
            tokio::time::sleep(UNLOCK_PAUSE).await;
            match remote.unlock(id).await {
                Err(error) if error.kind() != ErrorKind::NotFound => {}
                _ => return,
            }
        }
    });
}

async fn renew(remote: Arc<Remote>, id: i64, is_lost: Arc<AtomicBool>) {
    loop {
        tokio::time::sleep(RENEWED_EVERY).await;
        match remote.renew_lock(id).await {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {
                is_lost.store(true, Ordering::SeqCst);
                return;
            }
            Err(error) => tracing::warn!(id, %error, "a lock at the metastore is not renewed"),
        }
    }
}
