//! What a session sets for its stream jobs, by Flink's names.

use std::collections::BTreeMap;
use std::time::Duration;

use tereza_engine::jobs::PARALLELISM;
use tereza_runtime::{Error, Result};

use crate::kafka::duration;
use crate::plan;

/// From an epoch's first row to its commit, where nothing is set.
const EPOCH: Duration = Duration::from_secs(1);
/// Shorter epochs do nothing but commit.
const EPOCH_MIN: Duration = Duration::from_millis(10);
const EPOCH_MAX: Duration = Duration::from_secs(600);

/// From the end of an epoch to the commit of its files in tables, where nothing is set. Each is a version of the table, and small
/// files.
const APPLY: Duration = Duration::from_secs(30);

const EPOCH_KEY: &str = "execution.checkpointing.interval";
const APPLY_KEY: &str = "table.exec.sink.commit-interval";
const TTL_KEY: &str = "table.exec.state.ttl";
const IDLE_KEY: &str = "table.exec.source.idle-timeout";

/// Settings of one job.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct JobSettings {
    /// `execution.checkpointing.interval`
    pub(crate) epoch: Duration,
    /// `table.exec.sink.commit-interval`, which is Tereza's own
    pub(crate) apply: Duration,
    /// `table.exec.state.ttl`, in milliseconds; none is for ever.
    pub(crate) state_ttl_ms: Option<i64>,
    /// `table.exec.source.idle-timeout`, in milliseconds; none is never.
    pub(crate) idle_after_ms: Option<i64>,
    /// `parallelism.default`: the tasks that are asked for, at least 1.
    pub(crate) tasks: u32,
}

impl JobSettings {
    /// Those of other names have no effect on jobs.
    pub(crate) fn new(given: &BTreeMap<String, String>) -> Result<Self> {
        let time = |key: &str| {
            let wrong = |text: &String| {
                Error::invalid_input(format!("'{key}' is '{text}', expected a duration such as '30 s'"))
            };
            given.get(key).map(|text| duration(text).ok_or_else(|| wrong(text))).transpose()
        };
        let millis = |key: &str| -> Result<Option<i64>> {
            let time = time(key)?.filter(|time| !time.is_zero());
            Ok(time.map(|time| i64::try_from(time.as_millis()).unwrap_or(i64::MAX)))
        };
        let epoch = time(EPOCH_KEY)?.unwrap_or(EPOCH);
        if !(EPOCH_MIN..=EPOCH_MAX).contains(&epoch) {
            return Err(Error::invalid_input(format!(
                "'{EPOCH_KEY}' is {epoch:?}, expected {EPOCH_MIN:?} to {EPOCH_MAX:?}"
            )));
        }
        let tasks = match given.get(PARALLELISM) {
            None => 1,
            Some(text) => text.trim().parse().ok().filter(|tasks| *tasks > 0).ok_or_else(|| {
                Error::invalid_input(format!("'{PARALLELISM}' is '{text}', expected a number of at least 1"))
            })?,
        };
        let apply = time(APPLY_KEY)?.unwrap_or(APPLY).max(EPOCH_MIN);
        Ok(Self { epoch, apply, state_ttl_ms: millis(TTL_KEY)?, idle_after_ms: millis(IDLE_KEY)?, tasks })
    }

    pub(crate) fn of_plan(&self, is_spread: bool) -> plan::Settings {
        plan::Settings { is_spread, state_ttl_ms: self.state_ttl_ms }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_flinks() {
        let given = |pairs: &[(&str, &str)]| {
            JobSettings::new(&pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
        };
        let settings = given(&[(EPOCH_KEY, "200 ms"), (TTL_KEY, "1 h"), (IDLE_KEY, "0")]).unwrap();
        assert_eq!(settings.epoch, Duration::from_millis(200));
        assert_eq!((settings.state_ttl_ms, settings.idle_after_ms), (Some(3_600_000), None));
        assert_eq!(given(&[]).unwrap().epoch, EPOCH);
        for wrong in ["soon", "1 ms", "2 d"] {
            assert!(given(&[(EPOCH_KEY, wrong)]).unwrap_err().to_string().contains(EPOCH_KEY), "{wrong}");
        }
        assert_eq!((given(&[]).unwrap().tasks, given(&[(PARALLELISM, "8")]).unwrap().tasks), (1, 8));
        for wrong in ["0", "-1", "many"] {
            assert!(given(&[(PARALLELISM, wrong)]).unwrap_err().to_string().contains(PARALLELISM), "{wrong}");
        }
    }
}
