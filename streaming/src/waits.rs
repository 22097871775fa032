//! What an attempt waits for that is away, for who watches.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;

/// The brokers of a source.
pub(crate) const BROKERS: &str = "brokers";
/// The object store that has state and logs.
pub(crate) const STORE: &str = "the object store";
/// The tables that files go to.
pub(crate) const TABLES: &str = "tables";

/// What is away, and what was said of it. All parts of an attempt that may wait have the same one.
#[derive(Debug, Clone, Default)]
pub(crate) struct Waits(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Waits {
    /// `what` is waited for.
    pub(crate) fn begin(&self, what: &'static str, why: impl fmt::Display) {
        self.0.lock().insert(what, why.to_string());
    }

    /// `what` is there.
    pub(crate) fn end(&self, what: &'static str) {
        self.0.lock().remove(what);
    }

    /// What is waited for; `None` if nothing is.
    pub(crate) fn text(&self) -> Option<String> {
        let waits = self.0.lock();
        let texts: Vec<&str> = waits.values().map(String::as_str).collect();
        (!texts.is_empty()).then(|| texts.join("; "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_is_away_is_told() {
        let (waits, same) = {
            let waits = Waits::default();
            (waits.clone(), waits)
        };
        assert_eq!(waits.text(), None);
        waits.begin(TABLES, "files wait");
        same.begin(BROKERS, "no broker");
        same.begin(BROKERS, "no broker answers");
        assert_eq!(waits.text().as_deref(), Some("no broker answers; files wait"));
        waits.end(BROKERS);
        same.end(TABLES);
        assert_eq!(same.text(), None);
    }
}
