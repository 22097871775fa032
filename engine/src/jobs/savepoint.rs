//! Savepoints of stream jobs: who asks writes it into the job's record, who runs the job takes it and writes there where it is.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tereza_runtime::{Error, Result, clock, ids};

use super::{Jobs, STREAM, is_live};

/// Longest wait for a savepoint by who asks for it.
const WAIT_MAX: Duration = Duration::from_secs(120);
/// Between two looks whether it is taken.
const LOOK_PAUSE: Duration = Duration::from_millis(200);
/// The last ones that the record of a job tells of.
const TAKEN_MAX: usize = 50;
/// Characters of a name.
const NAME_CHARS_MAX: usize = 64;
/// The name of one that has no other.
const NAME: &str = "savepoint";

/// A savepoint that is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavepointOrder {
    pub id: String,
    pub name: String,
    /// The job is to end with it.
    pub stop: bool,
}

/// What has become of a [`SavepointOrder`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SavepointTaken {
    /// That of the order.
    pub id: String,
    /// Its path, or why there is none.
    pub outcome: Result<String, String>,
}

impl Jobs {
    /// Has a savepoint taken of the job of a stream, waits for it, and returns its path. With `stop` the job ends with it, and
    /// goes on if there is none.
    ///
    /// # Errors
    /// `Unavailable` if it is not taken in time, which may still happen; `Conflict` if another one is asked for.
    pub(crate) async fn savepoint(
        &self,
        id_or_name: &str,
        user: &str,
        name: Option<String>,
        stop: bool,
    ) -> Result<String> {
        let name = name.unwrap_or_else(|| NAME.to_owned());
        if name.is_empty()
            || name.len() > NAME_CHARS_MAX
            || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '_')
        {
            return Err(Error::invalid_input(format!("'{name}' is no name of a savepoint"))
                .with_hint(format!("it has at most {NAME_CHARS_MAX} letters, digits, '-' and '_'")));
        }
        let job = self.catalog.job(id_or_name).await?;
        if job.user != user {
            return Err(Error::denied(format!("job '{}' is of another user", job.id)));
        }
        if job.kind != STREAM {
            return Err(Error::unsupported(format!("a savepoint of job '{}', which is no stream", job.id)));
        }
        let order = SavepointOrder { id: ids::new_id(), name, stop };
        let now_ms = self.clock.unix_ms();
        let asked = self.change(&job.id, |job, detail| {
            if !is_live(job) {
                return Err(Error::not_found(format!("job '{}' has ended", job.id)));
            }
            if detail.savepoint.as_ref().is_some_and(|known| known.id != order.id) {
                return Err(Error::conflict(format!("another savepoint of job '{}' is asked for", job.id)));
            }
            detail.savepoint = Some(order.clone());
            detail.note(now_ms, job.attempts, format_args!("a savepoint '{}' is asked for by {user}", order.name));
            Ok(())
        });
        asked.await?;
        let begun = clock::now();
        while begun.elapsed() < WAIT_MAX {
            let (now, detail) = self.look(&job.id).await?;
            if let Some(taken) = detail.savepoints.into_iter().find(|taken| taken.id == order.id) {
                return taken.outcome.map_err(|why| Error::unavailable(format!("no savepoint was taken: {why}")));
            }
            if !is_live(&now) {
                return Err(Error::not_found(format!("job '{}' ended before its savepoint was taken", job.id)));
            }
            tokio::time::sleep(LOOK_PAUSE).await;
        }
        Err(Error::unavailable(format!("the savepoint of job '{}' is not taken within {WAIT_MAX:?}", job.id))
            .with_hint("it is still asked for; tereza job logs says when it is there"))
    }

    /// Notes what has become of a savepoint.
    pub async fn savepoint_taken(
        &self,
        job: &str,
        order: &SavepointOrder,
        outcome: Result<String, String>,
    ) -> Result<()> {
        let now_ms = self.clock.unix_ms();
        let noted = self.change(job, |job, detail| {
            if detail.savepoint.as_ref().is_some_and(|known| known.id == order.id) {
                detail.savepoint = None;
            }
            detail.savepoints.push(SavepointTaken { id: order.id.clone(), outcome: outcome.clone() });
            if detail.savepoints.len() > TAKEN_MAX {
                detail.savepoints.remove(0);
            }
            match &outcome {
                Ok(path) => detail.note(now_ms, job.attempts, format_args!("savepoint {path} is taken")),
                Err(why) => detail.note(now_ms, job.attempts, format_args!("no savepoint is taken: {why}")),
            }
            Ok(())
        });
        noted.await.map(drop)
    }
}
