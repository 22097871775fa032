//! When a transaction is tried again.

use std::time::{Duration, Instant};

use tereza_runtime::{Error, clock, ids};

use super::error::{self, Trouble};

/// Attempts at one transaction.
const ATTEMPTS: u32 = 12;
/// Attempts at one that met a key that is there already, which passes at once where another was only faster.
const KEY_ATTEMPTS: u32 = 4;
/// No attempt begins after this; after lost connections, none but the second after the time that a call waits for one.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest pause before the second attempt; it doubles with each one up to [`PAUSE_MAX`].
const PAUSE: Duration = Duration::from_millis(10);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_millis(1_000);

/// Why a transaction did not happen, or is not known to have happened.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The catalog's rules refused it.
    Refused(Error),
    /// The database failed it, and it surely did not happen.
    NotDone(sqlx::Error),
    /// No answer came to its commit, so it may have happened.
    Unknown(sqlx::Error),
    /// No answer came in time; it may have happened.
    TooLate,
}

/// Attempts at one transaction so far.
#[derive(Debug)]
pub(crate) struct Attempts {
    began: Instant,
    count: u32,
    /// How long to wait for a server that is gone.
    connect_timeout: Duration,
}

impl Attempts {
    pub(crate) fn begin(connect_timeout: Duration) -> Self {
        Self { began: clock::now(), count: 0, connect_timeout }
    }

    /// After a failed attempt: waits until it is time for the next one, or returns the failure if there is none.
    pub(crate) async fn next(&mut self, failure: Failure) -> Option<Failure> {
        self.count += 1;
        let Failure::NotDone(error) = &failure else { return Some(failure) };
        let (attempts, patience) = match error::trouble(error) {
            Trouble::Passing => (ATTEMPTS, PATIENCE),
            // A process that was stopped finds its connection closed, and the server there.
            Trouble::Lost if self.count == 1 => (ATTEMPTS, Duration::MAX),
            Trouble::Lost => (ATTEMPTS, self.connect_timeout),
            Trouble::Key => (KEY_ATTEMPTS, PATIENCE),
            Trouble::Lasting => (1, PATIENCE),
        };
        if self.count >= attempts || self.began.elapsed() >= patience {
            return Some(failure);
        }
        tracing::debug!(%error, attempt = self.count, "a transaction is tried again");
        let longest = PAUSE.saturating_mul(1 << self.count.min(16)).min(PAUSE_MAX);
        let pause = ids::jitter(u64::try_from(longest.as_millis()).unwrap_or(u64::MAX));
        tokio::time::sleep(Duration::from_millis(pause)).await;
        None
    }
}
