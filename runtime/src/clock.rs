//! The only reader of the clock, so that tests can set the time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A source of wall-clock time, cheap to clone.
#[derive(Clone)]
pub struct Clock(Arc<Source>);

enum Source {
    System,
    Fixed(AtomicI64),
}

impl Clock {
    /// The machine's clock.
    pub fn system() -> Self {
        Self(Arc::new(Source::System))
    }

    /// A clock that stands still at `unix_ms` until [`Clock::advance_ms`] moves it.
    pub fn fixed(unix_ms: i64) -> Self {
        Self(Arc::new(Source::Fixed(AtomicI64::new(unix_ms))))
    }

    /// Milliseconds since 1970-01-01T00:00:00Z.
    pub fn unix_ms(&self) -> i64 {
        match &*self.0 {
            #[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
            Source::System => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX)),
            Source::Fixed(unix_ms) => unix_ms.load(Ordering::SeqCst),
        }
    }

    /// Seconds since 1970-01-01T00:00:00Z.
    pub fn unix_s(&self) -> i64 {
        self.unix_ms().div_euclid(1000)
    }

    /// Moves a fixed clock on; the machine's clock is left as it is.
    pub fn advance_ms(&self, ms: i64) {
        if let Source::Fixed(unix_ms) = &*self.0 {
            unix_ms.fetch_add(ms, Ordering::SeqCst);
        }
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Clock({})", self.unix_ms())
    }
}

/// A monotonic reading for measuring durations.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the clock")]
pub fn now() -> std::time::Instant {
    std::time::Instant::now()
}
