//! What the runners of jobs share: pauses that double, and a record that is changed as soon as the catalog is there again.

use std::time::Duration;

use tereza_runtime::{Error, ErrorKind, Result};
use tokio_util::sync::CancellationToken;

use super::{Detail, Job, Jobs};

/// The longest pause before a job is started again, or the catalog asked again.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// So long a change of a record is tried once the process is asked to end.
pub const LAST_TRIES: Duration = Duration::from_secs(3);
/// The pause between two of these tries.
const LAST_PAUSE: Duration = Duration::from_millis(200);

/// Pauses that double, up to a minute.
#[derive(Debug)]
pub struct Pause(Duration);

impl Pause {
    /// Begins with this one.
    pub fn new(first: Duration) -> Self {
        Self(first.min(PAUSE_MAX))
    }

    /// The next one.
    pub fn next_pause(&mut self) -> Duration {
        let now = self.0;
        self.0 = (now * 2).min(PAUSE_MAX);
        now
    }
}

/// Whether what the catalog refused may work later.
pub fn may_pass(error: &Error) -> bool {
    [ErrorKind::Unavailable, ErrorKind::ResourceExhausted, ErrorKind::Conflict].contains(&error.kind())
}

/// The message of an error with its hint, as a record keeps it.
pub fn described(error: &Error) -> String {
    match error.hint() {
        Some(hint) => format!("{} (hint: {hint})", error.message()),
        None => error.message().to_owned(),
    }
}

impl Jobs {
    /// Changes a job's record, as often as that needs to be tried; gives up only some time after the process is asked to end
    /// by `stop`. `first_pause` is that before the second try.
    ///
    /// # Errors
    /// What `change` says; `Unavailable` when the time is over.
    pub async fn change_patiently(
        &self,
        id: &str,
        stop: &CancellationToken,
        first_pause: Duration,
        mut change: impl FnMut(&mut Job, &mut Detail) -> Result<()> + Send,
    ) -> Result<(Job, Detail)> {
        let mut pause = Pause::new(first_pause);
        let changing = async {
            loop {
                let error = match self.change(id, &mut change).await {
                    Err(error) if may_pass(&error) => error,
                    changed => return changed,
                };
                tracing::warn!(job = id, %error, "the record of a job cannot be changed yet");
                let is_last = stop.is_cancelled();
                tokio::select! {
                    () = stop.cancelled(), if !is_last => {}
                    () = tokio::time::sleep(if is_last { LAST_PAUSE } else { pause.next_pause() }) => {}
                }
            }
        };
        let over = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_TRIES).await;
        };
        tokio::select! {
            biased;
            changed = changing => changed,
            () = over => Err(Error::unavailable(format!("the record of job '{id}' could not be changed in time"))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute() {
        let mut pause = Pause::new(Duration::from_secs(20));
        let pauses: Vec<u64> = (0..4).map(|_| pause.next_pause().as_secs()).collect();
        assert_eq!(pauses, [20, 40, 60, 60]);
    }
}
