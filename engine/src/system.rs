//! The catalog `system`: what runs in this process now, what ran lately, and the jobs of the catalog.
//!
//! [`QueryLog`] keeps the record; `system.runtime.queries`, `nodes`, `jobs` and `job_events` ([`tables`]) show it.

mod tables;

#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use tereza_runtime::clock::Clock;
use tereza_runtime::{Error, ErrorKind, Result};
use tokio_util::sync::CancellationToken;

use crate::cluster::Route;
use crate::flink::without_secrets;
use crate::query::{Progress, ProgressReading, QueryId, SessionId, StatementKind};

pub(crate) use tables::{Node, catalog};

/// Characters of a statement's text that are kept.
const TEXT_CHARS_MAX: usize = 4096;
/// Characters of an error's message that are kept.
const MESSAGE_CHARS_MAX: usize = 1024;

/// The statements that run and a bounded history of those that ended.
///
/// The number of running ones is bounded by whoever starts them (the setting `engine.queries_max`, and sessions).
#[derive(Debug)]
pub(crate) struct QueryLog {
    clock: Clock,
    history_max: usize,
    entries: Mutex<Entries>,
}

#[derive(Debug, Default)]
struct Entries {
    live: HashMap<String, Arc<Record>>,
    /// Oldest first.
    ended: VecDeque<Arc<Record>>,
}

/// One statement, from when it was planned.
#[derive(Debug)]
struct Record {
    id: QueryId,
    user: String,
    session: SessionId,
    sql: String,
    kind: StatementKind,
    created_ms: i64,
    progress: Arc<Progress>,
    cancellation: CancellationToken,
    course: Mutex<Course>,
}

/// What changes while a statement runs.
#[derive(Debug, Clone, Default)]
struct Course {
    state: State,
    started_ms: Option<i64>,
    ended_ms: Option<i64>,
    /// Rows written, for an update; else rows are those returned.
    rows_written: Option<u64>,
    /// `None` for what is no plan: DDL and the like run in this process.
    route: Option<Route>,
    error: Option<(ErrorKind, String)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum State {
    #[default]
    Queued,
    Running,
    Finished,
    Failed,
    Cancelled,
}

impl State {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Finished => "finished",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

impl QueryLog {
    /// A log that keeps the last `history_max` ended statements.
    pub(crate) fn new(clock: Clock, history_max: usize) -> Self {
        Self { clock, history_max, entries: Mutex::default() }
    }

    /// Records a statement that is planned and waits for its turn; [`QueryLog::cancel`] fires `cancellation`. Dropping the
    /// entry before it ended means that the statement was cancelled.
    pub(crate) fn start(
        self: &Arc<Self>,
        id: QueryId,
        user: &str,
        session: &SessionId,
        sql: &str,
        kind: StatementKind,
        cancellation: CancellationToken,
    ) -> Entry {
        let record = Arc::new(Record {
            id,
            user: user.into(),
            session: session.clone(),
            sql: truncated(&without_secrets(sql), TEXT_CHARS_MAX),
            kind,
            created_ms: self.clock.unix_ms(),
            progress: Arc::default(),
            cancellation,
            course: Mutex::default(),
        });
        self.entries.lock().live.insert(record.id.0.clone(), Arc::clone(&record));
        Entry { log: Arc::clone(self), record }
    }

    /// Cancels a statement of `user` that has not ended: the token it was started with fires. `NotFound` if there is none,
    /// `Denied` if it is somebody else's.
    pub(crate) fn cancel(&self, id: &QueryId, user: &str) -> Result<()> {
        let record = self.entries.lock().live.get(&id.0).cloned();
        let record = record.ok_or_else(|| Error::not_found(format!("query {id} is not running")))?;
        if record.user != user {
            return Err(Error::denied(format!("query {id} belongs to another user than {user}")));
        }
        record.cancellation.cancel();
        Ok(())
    }

    /// How far the newest statement of a session is, of those that have not ended.
    pub(crate) fn progress(&self, session: &SessionId) -> Option<ProgressReading> {
        let entries = self.entries.lock();
        let live = entries.live.values().filter(|record| record.session == *session);
        live.max_by_key(|record| record.created_ms).map(|record| record.progress.read())
    }

    /// All records, by the time they were made.
    fn records(&self) -> Vec<Arc<Record>> {
        let entries = self.entries.lock();
        let mut records: Vec<_> = entries.ended.iter().chain(entries.live.values()).cloned().collect();
        drop(entries);
        records.sort_by(|a, b| (a.created_ms, &a.id.0).cmp(&(b.created_ms, &b.id.0)));
        records
    }

    fn end(&self, record: &Arc<Record>, state: State, error: Option<(ErrorKind, String)>) {
        let mut course = record.course.lock();
        if course.ended_ms.is_some() {
            return;
        }
        course.state = state;
        course.error = error;
        course.ended_ms = Some(self.clock.unix_ms());
        drop(course);

        let mut entries = self.entries.lock();
        entries.live.remove(&record.id.0);
        entries.ended.push_back(Arc::clone(record));
        while entries.ended.len() > self.history_max {
            entries.ended.pop_front();
        }
    }
}

/// The record of one statement, held by whoever runs it.
#[derive(Debug)]
pub(crate) struct Entry {
    log: Arc<QueryLog>,
    record: Arc<Record>,
}

impl Entry {
    /// The counters that the table shows; to be shared with the [`crate::query::Query`].
    pub(crate) fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.record.progress)
    }

    /// The statement has got its turn.
    pub(crate) fn running(&self) {
        let mut course = self.record.course.lock();
        if course.state == State::Queued {
            course.state = State::Running;
            course.started_ms = Some(self.log.clock.unix_ms());
        }
    }

    /// The lane that the statement takes.
    pub(crate) fn routed(&self, route: Route) {
        self.record.course.lock().route = Some(route);
    }

    /// So many rows were written by an update.
    pub(crate) fn wrote(&self, rows: u64) {
        self.record.course.lock().rows_written = Some(rows);
    }

    /// The statement is done.
    pub(crate) fn finished(&self) {
        self.log.end(&self.record, State::Finished, None);
    }

    /// The statement ended with an error; one of kind `Cancelled` means that it was cancelled.
    pub(crate) fn failed(&self, error: &Error) {
        let state = if error.kind() == ErrorKind::Cancelled { State::Cancelled } else { State::Failed };
        let message = truncated(&error.to_string(), MESSAGE_CHARS_MAX);
        self.log.end(&self.record, state, Some((error.kind(), message)));
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.log.end(&self.record, State::Cancelled, None);
    }
}

/// The first `chars_max` characters, with `…` where something was cut.
pub(crate) fn truncated(text: &str, chars_max: usize) -> String {
    match text.char_indices().nth(chars_max) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.into(),
    }
}
