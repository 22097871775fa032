//! Processing time after which state that was not written is given up, without a word, as in Flink.

use tereza_runtime::error::{Error, Result};

/// What is past its time to live is looked for so many times in it.
const SWEEPS_PER_TTL: i64 = 4;
/// When state was written that was kept without a time to live; it counts from the first look on.
pub(crate) const UNKNOWN_MS: i64 = i64::MAX;

/// A time to live, and when what is past it is looked for next.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeToLive {
    ttl_ms: i64,
    next_sweep_ms: i64,
}

impl TimeToLive {
    /// `None` is for ever; 0 ms or less is refused.
    pub(crate) fn new(ttl_ms: Option<i64>) -> Result<Option<Self>> {
        match ttl_ms {
            Some(..=0) => Err(Error::invalid_input("a time to live of 0 ms or less")),
            ttl_ms => Ok(ttl_ms.map(|ttl_ms| Self { ttl_ms, next_sweep_ms: i64::MIN })),
        }
    }

    /// Whether what was written then is past it.
    pub(crate) fn is_over(&self, written_ms: i64, now_ms: i64) -> bool {
        now_ms.saturating_sub(written_ms) >= self.ttl_ms
    }

    /// Whether it is time to look; the next time is later.
    pub(crate) fn is_due(&mut self, now_ms: i64) -> bool {
        let is_due = now_ms >= self.next_sweep_ms;
        if is_due {
            self.next_sweep_ms = now_ms.saturating_add((self.ttl_ms / SWEEPS_PER_TTL).max(1));
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn state_ends_with_its_time() {
        assert!(TimeToLive::new(None).unwrap().is_none());
        assert!(TimeToLive::new(Some(0)).is_err());
        let mut ttl = TimeToLive::new(Some(100)).unwrap().unwrap();
        assert!(!ttl.is_over(50, 149) && ttl.is_over(50, 150));
        assert!(!ttl.is_over(UNKNOWN_MS, 1_000));
        let looked: Vec<i64> = (0..100).filter(|now_ms| ttl.is_due(*now_ms)).collect();
        assert_eq!(looked, [0, 25, 50, 75]);
    }
}
