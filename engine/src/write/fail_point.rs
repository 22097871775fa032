//! Places at which a test makes the process die, as `kill -9` would, in the middle of a write.
//!
//! `TEREZA_FAIL_POINT=<name>` aborts the process when it first comes to that place, `TEREZA_FAIL_POINT=<name>:<n>` when
//! it comes there for the n-th time. The variable is read once; without it a place costs one atomic load.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The environment variable.
pub const VARIABLE: &str = "TEREZA_FAIL_POINT";

/// The write is in the catalog, nothing else has happened.
pub const AFTER_BEGIN: &str = "after-begin-write";
/// A file is in the catalog and its first byte is not written.
pub const AFTER_STAGE: &str = "after-stage";
/// The upload of a large object has begun and has no parts; nobody but the store knows of it.
pub const AFTER_BEGIN_UPLOAD: &str = "after-begin-upload";
/// Bytes of a file are written and it is not finished.
pub const MID_FILE: &str = "mid-file";
/// Every file is finished.
pub const AFTER_LAST_CLOSE: &str = "after-last-close";
/// What is to be committed is known; the next thing is the transaction.
pub const BEFORE_COMMIT: &str = "before-commit";
/// The transaction is through.
pub const AFTER_COMMIT: &str = "after-commit";
/// A file is at its place, others may not be.
pub const MID_ROLL_FORWARD: &str = "mid-roll-forward";
/// All files are at their places, those that OVERWRITE replaces are there too.
pub const BEFORE_DELETES: &str = "before-deletes";
/// Everything is done but the mark that says so.
pub const BEFORE_FINISH: &str = "before-finish";

/// Dying here leaves the table as it was; [`AFTER_BEGIN_UPLOAD`] does too, and is passed only by large objects.
pub const BEFORE_COMMIT_POINT: [&str; 5] = [AFTER_BEGIN, AFTER_STAGE, MID_FILE, AFTER_LAST_CLOSE, BEFORE_COMMIT];
/// Dying here leaves the statement done.
pub const AFTER_COMMIT_POINT: [&str; 4] = [AFTER_COMMIT, MID_ROLL_FORWARD, BEFORE_DELETES, BEFORE_FINISH];

/// Aborts the process if this is the place and the time.
pub(super) fn hit(name: &str) {
    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();
    let armed = ARMED.get_or_init(|| std::env::var(VARIABLE).ok().map(|text| Armed::parse(&text)));
    if let Some(armed) = armed
        && armed.is_due(name)
    {
        std::process::abort();
    }
}

struct Armed {
    name: String,
    /// How often the place is still passed unharmed.
    passes: AtomicUsize,
}

impl Armed {
    fn parse(text: &str) -> Self {
        let (name, nth) = text.split_once(':').unwrap_or((text, "1"));
        let passes = nth.parse::<usize>().unwrap_or(1).saturating_sub(1);
        Self { name: name.to_owned(), passes: AtomicUsize::new(passes) }
    }

    fn is_due(&self, name: &str) -> bool {
        self.name == name
            && self.passes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |passes| passes.checked_sub(1)).is_err()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_time_counts() {
        let armed = Armed::parse("mid-file:3");
        assert!(!armed.is_due(AFTER_STAGE));
        assert_eq!([(); 3].map(|()| armed.is_due(MID_FILE)), [false, false, true]);
        assert!(Armed::parse(AFTER_COMMIT).is_due(AFTER_COMMIT));
    }
}
