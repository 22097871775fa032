//! Statements that are planned and wait for their client, or are on their way to it.
//!
//! A ticket is a secret that names one run of one statement. It is fetched once; until then it lives for the time to
//! live, and afterwards until the last row is sent, so that the statement can be cancelled by it at any moment.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use parking_lot::Mutex;
use tereza_runtime::clock::Clock;
use tereza_runtime::{Error, Result, ids};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::encode::Rows;
use super::poll::Phase;
use super::session::Session;
use crate::Settings;

/// All tickets of the gateway.
pub(crate) struct Tickets {
    clock: Clock,
    tickets_max: usize,
    ticket_ttl_ms: i64,
    entries: Mutex<HashMap<String, Entry>>,
}

struct Entry {
    session: Arc<Session>,
    cancellation: CancellationToken,
    schema: SchemaRef,
    /// `None` once the client fetches them.
    rows: Option<Rows>,
    /// How far a statement is that was started ahead of its client.
    phase: Option<watch::Receiver<Phase>>,
    expires_ms: i64,
}

/// What a fetched ticket gives: the rows, what cancels them, and what removes the ticket when it is dropped.
pub(crate) struct Fetched {
    pub(crate) rows: Rows,
    pub(crate) cancellation: CancellationToken,
    pub(crate) removal: Removal,
}

/// Removes a ticket when it is dropped.
pub(crate) struct Removal {
    tickets: Arc<Tickets>,
    id: String,
}

impl Drop for Removal {
    fn drop(&mut self) {
        self.tickets.remove(&self.id);
    }
}

/// A statement started ahead of its client.
pub(crate) struct Started {
    pub(crate) schema: SchemaRef,
    pub(crate) phase: watch::Receiver<Phase>,
    pub(crate) expires_ms: i64,
}

impl Tickets {
    pub(crate) fn new(settings: &Settings, clock: Clock) -> Self {
        Self {
            clock,
            tickets_max: settings.tickets_max,
            ticket_ttl_ms: i64::try_from(settings.ticket_ttl_ms).unwrap_or(i64::MAX),
            entries: Mutex::default(),
        }
    }

    /// Keeps rows for a session until they are fetched and returns the ticket. `cancellation` is what cancels them.
    pub(crate) fn keep(
        &self,
        session: &Arc<Session>,
        rows: Rows,
        cancellation: CancellationToken,
        phase: Option<watch::Receiver<Phase>>,
    ) -> Result<String> {
        let id = ids::new_secret();
        let entry = Entry {
            session: Arc::clone(session),
            cancellation,
            schema: Arc::clone(&rows.schema),
            rows: Some(rows),
            phase,
            expires_ms: self.expiry(),
        };
        let mut entries = self.entries.lock();
        if entries.len() >= self.tickets_max {
            drop(entries);
            return Err(Error::resource_exhausted(format!(
                "{} statements wait to be fetched already (tickets_max)",
                self.tickets_max
            ))
            .with_hint("fetch or cancel some, or retry later"));
        }
        entries.insert(id.clone(), entry);
        Ok(id)
    }

    /// Takes the rows of a ticket.
    pub(crate) fn fetch(self: &Arc<Self>, id: &[u8], user: &str) -> Result<Fetched> {
        let (id, rows, cancellation) = self.with(id, user, |id, entry| {
            let rows = entry.rows.take()?;
            Some((id.to_owned(), rows, entry.cancellation.clone()))
        })?;
        Ok(Fetched { rows, cancellation, removal: Removal { tickets: Arc::clone(self), id } })
    }

    /// Cancels the statement of a ticket, whether it waits or is being fetched.
    pub(crate) fn cancel(&self, id: &[u8], user: &str) -> Result<()> {
        let (rows, cancellation) =
            self.with(id, user, |_, entry| Some((entry.rows.take(), entry.cancellation.clone())))?;
        cancellation.cancel();
        if rows.is_some() {
            self.remove(&String::from_utf8_lossy(id));
        }
        Ok(())
    }

    /// Lets a ticket live for another time to live from now; returns when that ends.
    pub(crate) fn renew(&self, id: &[u8], user: &str) -> Result<i64> {
        let expires_ms = self.expiry();
        self.with(id, user, |_, entry| {
            entry.expires_ms = expires_ms;
            Some(expires_ms)
        })
    }

    /// The statement of a ticket that was started ahead, which lives on from now.
    pub(crate) fn started(&self, id: &[u8], user: &str) -> Result<Started> {
        let expires_ms = self.expiry();
        self.with(id, user, |_, entry| {
            entry.expires_ms = expires_ms;
            Some(Started { schema: Arc::clone(&entry.schema), phase: entry.phase.clone()?, expires_ms })
        })
    }

    /// Cancels what waits for longer than its time to live.
    pub(crate) fn sweep(&self) {
        let now_ms = self.clock.unix_ms();
        self.end(|entry| entry.rows.is_some() && entry.expires_ms < now_ms);
    }

    /// Cancels everything of a session.
    pub(crate) fn close(&self, session: &Arc<Session>) {
        self.end(|entry| Arc::ptr_eq(&entry.session, session));
    }

    /// Cancels everything that waits.
    pub(crate) fn close_all(&self) {
        self.end(|_| true);
    }

    fn end(&self, mut ends: impl FnMut(&Entry) -> bool) {
        // Dropped without the lock: dropping rows runs the engine's code.
        let ended: Vec<Entry> =
            self.entries.lock().extract_if(|_, entry| ends(entry)).map(|(_, entry)| entry).collect();
        for entry in &ended {
            entry.cancellation.cancel();
        }
    }

    fn remove(&self, id: &str) {
        let entry = self.entries.lock().remove(id);
        drop(entry);
    }

    fn with<T>(&self, id: &[u8], user: &str, act: impl FnOnce(&str, &mut Entry) -> Option<T>) -> Result<T> {
        let mut entries = self.entries.lock();
        std::str::from_utf8(id)
            .ok()
            .and_then(|id| Some((id, entries.get_mut(id)?)))
            .filter(|(_, entry)| entry.session.user == user)
            .and_then(|(id, entry)| act(id, entry))
            .ok_or_else(|| {
                Error::not_found("the ticket was fetched, cancelled or has expired; run the statement again")
            })
    }

    fn expiry(&self) -> i64 {
        self.clock.unix_ms().saturating_add(self.ticket_ttl_ms)
    }
}
