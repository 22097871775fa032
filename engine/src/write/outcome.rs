//! Whether a commit happened whose answer was lost: the journal is asked until it answers.

use std::time::Duration;

use tereza_catalog::Store;
use tereza_catalog::store::Commit;
use tereza_runtime::{Error, ErrorKind, Result};

/// Tries to find out, and the pause before the second one; it doubles.
const OUTCOME_TRIES: u32 = 6;
const OUTCOME_PAUSE: Duration = Duration::from_millis(250);

/// What became of a commit.
pub(super) enum Outcome {
    Committed,
    NotCommitted,
    Unknown,
}

/// Finds out whether a commit that ended in `error` happened; `before` is a version that the table had before it.
pub(super) async fn outcome(catalog: &dyn Store, before: i64, commit: &Commit, error: &Error) -> Outcome {
    use ErrorKind::{AlreadyExists, Conflict, Denied, InvalidInput, NotFound, Unauthenticated, Unsupported};

    let refused =
        [AlreadyExists, Conflict, Denied, InvalidInput, NotFound, Unauthenticated, Unsupported].contains(&error.kind());
    if refused {
        return Outcome::NotCommitted;
    }
    let mut pause = OUTCOME_PAUSE;
    for attempt in 0..OUTCOME_TRIES {
        if attempt > 0 {
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        match is_in_journal(catalog, before, commit).await {
            Ok(true) => return Outcome::Committed,
            Ok(false) => return Outcome::NotCommitted,
            Err(error) => tracing::warn!(commit = commit.id, %error, "asking again whether a commit happened"),
        }
    }
    Outcome::Unknown
}

async fn is_in_journal(catalog: &dyn Store, before: i64, commit: &Commit) -> Result<bool> {
    if catalog.pending_commits().await?.iter().any(|pending| pending.id == commit.id) {
        return Ok(true);
    }
    match catalog.commits_since(&commit.database, &commit.table, before).await {
        Ok(commits) => Ok(commits.iter().any(|done| done.id == commit.id)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
