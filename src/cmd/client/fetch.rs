//! What a statement at a server gives back, as streams that end when their token is cancelled.

use std::collections::VecDeque;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::sql::client::PreparedStatement;
use arrow_flight::{Action, CancelFlightInfoRequest, FlightInfo, Ticket};
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use prost::Message;
use tereza_engine::query::BatchStream;
use tereza_runtime::{Error, Result};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use super::{Client, failure};

/// A server is given this long to take note of the end of a statement.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(1);

/// The rows that `info` tells where to get, endpoint after endpoint, all from the server that was asked: a Tereza
/// serves each of its endpoints, and credentials go nowhere else. `prepared` is closed at the end.
pub(super) fn rows(
    client: Client,
    prepared: Option<PreparedStatement<Channel>>,
    info: FlightInfo,
    cancellation: CancellationToken,
    address: String,
) -> BatchStream {
    let tickets = info.endpoint.iter().filter_map(|endpoint| endpoint.ticket.clone()).collect();
    let rows = Rows { client, prepared, info, tickets, current: None, cancellation, address };
    stream::unfold(Some(rows), async |rows| {
        let mut rows = rows?;
        match rows.next().await {
            Some(Ok(batch)) => Some((Ok(batch), Some(rows))),
            Some(Err(error)) => {
                rows.finish().await;
                Some((Err(error), None))
            }
            None => {
                rows.finish().await;
                None
            }
        }
    })
    .boxed()
}

/// Runs a statement that gives no rows: one item, the number of rows that it wrote, or `None` if the server cannot tell.
pub(super) fn count(
    mut prepared: PreparedStatement<Channel>,
    cancellation: CancellationToken,
    address: String,
) -> BoxStream<'static, Result<Option<u64>>> {
    stream::once(async move {
        let count = tokio::select! {
            biased;
            () = cancellation.cancelled() => Err(cancelled()),
            count = prepared.execute_update() => count.map_err(|error| failure::of_flight(&address, error)),
        };
        close(prepared).await;
        Ok(u64::try_from(count?).ok())
    })
    .boxed()
}

/// Lets the server forget a prepared statement; it would do so by itself at the end of the session.
pub(super) async fn close(prepared: PreparedStatement<Channel>) {
    let _ = timeout(FAREWELL_TIMEOUT, prepared.close()).await;
}

struct Rows {
    client: Client,
    prepared: Option<PreparedStatement<Channel>>,
    info: FlightInfo,
    tickets: VecDeque<Ticket>,
    current: Option<FlightRecordBatchStream>,
    cancellation: CancellationToken,
    address: String,
}

impl Rows {
    async fn next(&mut self) -> Option<Result<RecordBatch>> {
        loop {
            if let Some(current) = &mut self.current {
                let batch = tokio::select! {
                    biased;
                    () = self.cancellation.cancelled() => return Some(Err(self.cancel().await)),
                    batch = current.next() => batch,
                };
                if let Some(batch) = batch {
                    return Some(batch.map_err(|error| failure::of_flight(&self.address, error)));
                }
                self.current = None;
            }
            let ticket = self.tickets.pop_front()?;
            let opened = tokio::select! {
                biased;
                () = self.cancellation.cancelled() => return Some(Err(self.cancel().await)),
                opened = self.client.do_get(ticket) => opened,
            };
            match opened {
                Ok(stream) => self.current = Some(stream),
                Err(error) => return Some(Err(failure::of_flight(&self.address, error))),
            }
        }
    }

    /// Asks the server to stop. It also sees that the stream is dropped, so its answer does not matter.
    async fn cancel(&mut self) -> Error {
        let body = CancelFlightInfoRequest::new(self.info.clone()).encode_to_vec();
        let asked = async {
            let mut results = self.client.do_action(Action::new("CancelFlightInfo", body)).await.ok()?;
            results.message().await.ok()
        };
        let _ = timeout(FAREWELL_TIMEOUT, asked).await;
        cancelled()
    }

    async fn finish(&mut self) {
        self.current = None;
        if let Some(prepared) = self.prepared.take() {
            close(prepared).await;
        }
    }
}

fn cancelled() -> Error {
    Error::cancelled("the statement was cancelled")
}
