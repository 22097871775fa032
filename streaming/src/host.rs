//! Time and ids, so that a simulation can decide them.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use tereza_runtime::clock::Clock;
use tereza_runtime::ids;

/// What a process gives to the attempts that run in it.
#[async_trait]
pub trait Host: Send + Sync + fmt::Debug {
    /// An id that was never given out before.
    fn new_id(&self) -> String;

    /// Milliseconds since 1970.
    fn now_ms(&self) -> i64;

    /// A random number below `bound`.
    fn jitter(&self, bound: u64) -> u64;

    /// Comes back when the time is over.
    async fn pause(&self, time: Duration);
}

/// The machine's clock and Tokio's timer.
#[derive(Debug, Clone)]
pub struct System(pub Clock);

#[async_trait]
impl Host for System {
    fn new_id(&self) -> String {
        ids::new_id()
    }

    fn now_ms(&self) -> i64 {
        self.0.unix_ms()
    }

    fn jitter(&self, bound: u64) -> u64 {
        ids::jitter(bound)
    }

    async fn pause(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }
}

/// Pauses between tries: each is about twice the one before, up to a bound.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
}

impl Backoff {
    const FIRST: Duration = Duration::from_millis(50);
    const MAX: Duration = Duration::from_secs(5);

    pub fn new() -> Self {
        Self { next: Self::FIRST }
    }

    /// Waits between half and all of the next pause.
    pub async fn pause(&mut self, host: &dyn Host) {
        let half = self.next / 2;
        let jitter = host.jitter(u64::try_from(half.as_millis()).unwrap_or(u64::MAX));
        host.pause(half + Duration::from_millis(jitter)).await;
        self.next = (self.next * 2).min(Self::MAX);
    }
}

impl Default for Backoff {
    fn default() -> Self {
        Self::new()
    }
}
