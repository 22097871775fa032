//! Removing the files of what was dropped, behind the calls that drop.
//!
//! The store notes what is to be removed in the transaction that drops it. One task takes some of these notes at a time and
//! removes a bounded number of files of each before it turns to the next, so a large folder keeps nobody else's waiting.
//! What a process did not do before it died is done by the next one.

use std::sync::Arc;
use std::time::Duration;

use tereza_runtime::clock;
use tereza_runtime::settings::without_passwords;
use tokio::sync::{Notify, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::DataFiles;
use crate::Store;
use crate::store::{Removal, places};

/// How long one process may be busy with a part of a removal before another takes it for dead, and how long one that failed
/// is left alone.
const LEASE: Duration = Duration::from_secs(30);
/// Removals that are taken in one transaction.
const TAKEN_AT_ONCE: usize = 100;
/// How often the catalog is told what is removed, while more is.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// How often to look for removals that others noted or that failed.
const PAUSE: Duration = Duration::from_secs(30);

/// The one task that removes, and those who wait for it.
pub(super) struct Removals {
    store: Arc<dyn Store>,
    files: Arc<dyn DataFiles>,
    patience: Duration,
    noted: Notify,
    done: watch::Sender<()>,
}

impl Removals {
    pub(super) fn new(store: Arc<dyn Store>, files: Arc<dyn DataFiles>, patience: Duration) -> Self {
        Self { store, files, patience, noted: Notify::new(), done: watch::Sender::new(()) }
    }

    /// Waits until nothing is to be removed at these locations, but not for long.
    pub(super) async fn wait(&self, locations: &[String]) {
        let gone = async {
            let mut done = self.done.subscribe();
            self.noted.notify_one();
            // A store that does not answer is not waited for: whoever asks it next is told.
            while let Ok(true) = self.store.are_being_removed(locations).await {
                if done.changed().await.is_err() {
                    return;
                }
            }
        };
        if timeout(self.patience, gone).await.is_err() {
            let locations: Vec<String> = locations.iter().map(|location| without_passwords(location)).collect();
            tracing::info!(?locations, "what was dropped there takes long to remove: it goes on in the background");
        }
    }

    /// Removes until `drain` is cancelled.
    pub(super) async fn run(&self, drain: CancellationToken) {
        while !drain.is_cancelled() {
            let lease_ms = i64::try_from(LEASE.as_millis()).unwrap_or(i64::MAX);
            match self.store.next_removals(lease_ms, TAKEN_AT_ONCE).await {
                Ok(next) if !next.is_empty() => {
                    self.go_on(next, &drain).await;
                    continue;
                }
                Ok(_) => {}
                Err(error) => tracing::warn!(%error, "the catalog does not say what is to be removed"),
            }
            tokio::select! {
                () = drain.cancelled() => {}
                _ = timeout(PAUSE, self.noted.notified()) => {}
            }
        }
    }

    /// Removes a part of each folder, perhaps the last one, as long as they are its alone.
    async fn go_on(&self, next: Vec<Removal>, drain: &CancellationToken) {
        let began = clock::now();
        let mut told = began;
        let (mut gone, mut left) = (Vec::new(), Vec::new());
        for removal in next {
            if drain.is_cancelled() || began.elapsed() > LEASE / 2 {
                left.push(removal.id);
                continue;
            }
            let location = without_passwords(&removal.location);
            if !places::is_tidy(&removal.location) {
                // A metastore that shares the database may have kept it so.
                tracing::warn!(
                    location,
                    "the files of what was dropped stay: its location leads elsewhere than it says"
                );
                gone.push(removal.id);
                continue;
            }
            let (files, place) = (Arc::clone(&self.files), removal.location.clone());
            let removed = tokio::select! {
                removed = tokio::task::spawn_blocking(move || files.remove(&place)) => removed,
                // It goes on for as long as it is this one's; the next process does the rest.
                () = drain.cancelled() => break,
            };
            match removed {
                Ok(Ok(true)) => gone.push(removal.id),
                Ok(Ok(false)) => left.push(removal.id),
                // Nobody else tries for as long as it is this one's.
                Ok(Err(error)) => tracing::warn!(location, %error, "the files of what was dropped are not removed yet"),
                Err(error) => tracing::error!(location, %error, "removing what was dropped broke off"),
            }
            // Whoever waits for one of many hears of it soon.
            if told.elapsed() > TELL_EVERY {
                self.tell(&mut gone, &mut left).await;
                told = clock::now();
            }
        }
        self.tell(&mut gone, &mut left).await;
    }

    /// Tells the catalog, and those who wait, what is removed and what is not yet.
    async fn tell(&self, gone: &mut Vec<i64>, left: &mut Vec<i64>) {
        for said in [self.store.finish_removals(gone).await, self.store.go_on_with_removals(left).await] {
            if let Err(error) = said {
                tracing::warn!(%error, "the catalog was not told what is removed");
            }
        }
        gone.clear();
        left.clear();
        self.done.send_replace(());
    }
}
