//! Statements given as text: planned under a ticket, run as an update, started ahead.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use arrow_flight::sql::{Any, CommandStatementUpdate, ProstMessageExt, TicketStatementQuery};
use arrow_flight::{FlightDescriptor, FlightEndpoint, FlightInfo, PollInfo, Ticket};
use bytes::Bytes;
use prost::Message;
use tereza_engine::query::{Query, Statement, StatementKind};
use tereza_runtime::{Error, Result};

use super::encode::{Rows, schema_bytes};
use super::plain::plain_schema;
use super::poll::{self, Phase};
use super::service::Gateway;
use super::session::Session;

/// What a `DoPut` of an update answers when the number of rows is not known.
const UNKNOWN_COUNT: i64 = -1;
/// The first poll of a statement should answer at once; this spares a fast statement the second.
const FIRST_POLL_WAIT: Duration = Duration::from_millis(20);
/// A later poll answers when there is something new, or after this.
const NEXT_POLL_WAIT: Duration = Duration::from_secs(5);

impl Gateway {
    /// Plans a statement; it runs while the rows are read.
    pub(super) async fn rows_of_text(
        &self,
        session: &Session,
        sql: String,
        transaction: Option<&Bytes>,
    ) -> Result<Rows> {
        refuse_transaction(transaction)?;
        let query = self.service().submit(&session.id, Statement::new(sql)).await?;
        Ok(Rows::of_query(query, self.settings().views))
    }

    /// The schema that the rows of a statement will have.
    pub(super) async fn schema_of_text(&self, session: &Session, sql: String) -> Result<SchemaRef> {
        // Planned and dropped, nothing has run: only the plan to be run knows its schema exactly.
        let query = self.service().submit(&session.id, Statement::new(sql)).await?;
        Ok(plain_schema(&query.schema(), self.settings().views))
    }

    /// Runs a statement and returns the number of rows it wrote.
    pub(super) async fn update(&self, session: &Session, command: CommandStatementUpdate) -> Result<i64> {
        refuse_transaction(command.transaction_id.as_ref())?;
        let query = self.service().submit(&session.id, Statement::new(command.query)).await?;
        count(query).await
    }

    /// Keeps rows under a ticket.
    pub(super) fn info_with_ticket(
        &self,
        session: &Arc<Session>,
        rows: Rows,
        descriptor: FlightDescriptor,
    ) -> Result<FlightInfo> {
        let schema = Arc::clone(&rows.schema);
        let handle = self.tickets().keep(session, rows, self.cancellation(), None)?;
        info(&schema, descriptor, Some(ticket(&handle)))
    }

    /// Starts to run a statement and returns what polls for it.
    pub(super) async fn start(&self, session: &Arc<Session>, rows: Rows) -> Result<PollInfo> {
        let cancellation = self.cancellation();
        let buffer = self.settings().poll_buffer_batches;
        let (rows, phase) = poll::start(rows, buffer, cancellation.clone(), self.tasks());
        let handle = self.tickets().keep(session, rows, cancellation, Some(phase))?;
        self.poll(session, handle.as_bytes(), FIRST_POLL_WAIT).await
    }

    /// How far a started statement is.
    pub(super) async fn poll_again(&self, session: &Session, handle: &[u8]) -> Result<PollInfo> {
        self.poll(session, handle, NEXT_POLL_WAIT).await
    }

    async fn poll(&self, session: &Session, handle: &[u8], wait: Duration) -> Result<PollInfo> {
        let mut started = self.tickets().started(handle, &session.user)?;
        let phase = match tokio::time::timeout(wait, started.phase.wait_for(|phase| *phase != Phase::Running)).await {
            Ok(Ok(phase)) => phase.clone(),
            Ok(Err(_)) => return Err(Error::cancelled("the statement was cancelled")),
            Err(_) => Phase::Running,
        };
        // The same message names the statement in every later poll, in the ticket, and when it is cancelled.
        let Ticket { ticket: name } = ticket(&String::from_utf8_lossy(handle));
        let descriptor = FlightDescriptor::new_cmd(name.clone());
        let (ticket, again) = match phase {
            Phase::Running => (None, Some(descriptor.clone())),
            Phase::Ready => (Some(Ticket { ticket: name }), None),
            Phase::Failed(kind, message) => {
                // Polled to its end: nobody will fetch it.
                let _ = self.tickets().cancel(handle, &session.user);
                return Err(Error::new(kind, message));
            }
        };
        Ok(PollInfo {
            info: Some(info(&started.schema, descriptor, ticket)?),
            expiration_time: again.is_some().then(|| timestamp(started.expires_ms)),
            flight_descriptor: again,
            // How much there is to do is not known.
            progress: None,
        })
    }
}

/// The one endpoint of a result, or none while there is nothing to fetch.
pub(super) fn info(schema: &SchemaRef, descriptor: FlightDescriptor, ticket: Option<Ticket>) -> Result<FlightInfo> {
    Ok(FlightInfo {
        schema: schema_bytes(schema)?,
        flight_descriptor: Some(descriptor),
        endpoint: ticket.map(|ticket| FlightEndpoint::new().with_ticket(ticket)).into_iter().collect(),
        total_records: -1,
        total_bytes: -1,
        ordered: false,
        app_metadata: Bytes::new(),
    })
}

/// The ticket of a handle.
pub(super) fn ticket(handle: &str) -> Ticket {
    let message = TicketStatementQuery { statement_handle: handle.to_owned().into() };
    Ticket::new(message.as_any().encode_to_vec())
}

/// The handle in a ticket or in a descriptor to poll with.
pub(super) fn handle_of(ticket: &[u8]) -> Option<Bytes> {
    let ticket: TicketStatementQuery = Any::decode(ticket).ok()?.unpack().ok()??;
    Some(ticket.statement_handle)
}

/// Runs a query to its end and returns how many rows it wrote.
pub(super) async fn count(query: Query) -> Result<i64> {
    let kind = query.kind();
    let rows = query.run().await?;
    Ok(match kind {
        StatementKind::Update => i64::try_from(rows).unwrap_or(i64::MAX),
        StatementKind::Command => 0,
        StatementKind::Query => UNKNOWN_COUNT,
    })
}

pub(super) fn refuse_transaction(transaction: Option<&Bytes>) -> Result<()> {
    match transaction {
        Some(id) if !id.is_empty() => Err(no_transactions()),
        _ => Ok(()),
    }
}

pub(super) fn no_transactions() -> Error {
    Error::unsupported("transactions over several statements are not supported; each statement commits on its own")
}

pub(super) fn timestamp(unix_ms: i64) -> prost_types::Timestamp {
    prost_types::Timestamp {
        seconds: unix_ms.div_euclid(1000),
        // Below 10^9, as the remainder is below 1000.
        nanos: (unix_ms.rem_euclid(1000) * 1_000_000) as i32,
    }
}
