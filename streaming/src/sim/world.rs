//! Time, chance and ids of a simulation, all out of one seed.

use std::fmt;
use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::host::Host;

pub(super) struct World(Mutex<State>);

struct State {
    rng: SmallRng,
    now_ms: i64,
    ids: u64,
    /// Nothing fails any more.
    calm: bool,
    violation: Option<String>,
    /// What happened, if somebody wants to read it.
    trace: Option<Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, is_traced: bool) -> Self {
        let rng = SmallRng::seed_from_u64(seed);
        let trace = is_traced.then(Vec::new);
        Self(Mutex::new(State { rng, now_ms: 1_700_000_000_000, ids: 0, calm: false, violation: None, trace }))
    }

    pub(super) fn below(&self, bound: u64) -> u64 {
        self.0.lock().rng.random_range(0..bound)
    }

    pub(super) fn chance(&self, of_thousand: u64) -> bool {
        self.below(1000) < of_thousand
    }

    /// Whether something fails; never when the world is calm.
    pub(super) fn fault(&self, of_thousand: u64) -> bool {
        !self.is_calm() && self.chance(of_thousand)
    }

    pub(super) fn is_calm(&self) -> bool {
        self.0.lock().calm
    }

    pub(super) fn calm(&self) {
        self.0.lock().calm = true;
    }

    pub(super) fn tick(&self) {
        self.0.lock().now_ms += 5;
    }

    /// The first thing that must never happen.
    pub(super) fn violation(&self) -> Option<String> {
        self.0.lock().violation.clone()
    }

    pub(super) fn violated(&self, what: impl Into<String>) {
        self.0.lock().violation.get_or_insert(what.into());
    }

    pub(super) fn note(&self, what: impl FnOnce() -> String) {
        let mut state = self.0.lock();
        let now = state.now_ms;
        if let Some(trace) = &mut state.trace {
            trace.push(format!("{now} {}", what()));
        }
    }

    pub(super) fn trace(&self) -> Vec<String> {
        self.0.lock().trace.take().unwrap_or_default()
    }

    /// Others may run before the caller goes on, for as long as it pleases chance.
    pub(super) async fn step(&self) {
        let mut polled = false;
        poll_fn(|cx| {
            if polled {
                return Poll::Ready(());
            }
            polled = true;
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
}

#[async_trait]
impl Host for World {
    fn new_id(&self) -> String {
        let mut state = self.0.lock();
        state.ids += 1;
        format!("{:06}", state.ids)
    }

    fn now_ms(&self) -> i64 {
        self.0.lock().now_ms
    }

    fn jitter(&self, _: u64) -> u64 {
        0
    }

    /// Longer times are longer, but a simulation does not wait for hours.
    async fn pause(&self, time: Duration) {
        let steps = 1 + self.below(if time < Duration::from_secs(1) { 3 } else { 12 });
        for _ in 0..steps {
            self.step().await;
        }
    }
}
