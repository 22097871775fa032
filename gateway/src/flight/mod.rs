//! Arrow Flight SQL (Apache Arrow, format/FlightSql.proto) over any [`QueryService`].
//!
//! `arrow-flight` gives the messages, the metadata builders and a trait for servers; but its blanket implementation
//! leaves out `PollFlightInfo`, `GetSchema` and the actions for session options, so the low-level `FlightService` is
//! implemented here (`service`).
//!
//! ## A statement
//! `GetFlightInfo` plans it and keeps the rows under a ticket (`tickets`); `DoGet` sends them (`encode`), in the types
//! that every client reads (`plain`). The info has one endpoint with no location: the result is one stream, from the
//! server that was asked. Its schema is exactly the schema of the data. `PollFlightInfo` starts the statement ahead of
//! the client (`poll`). Updates and bulk rows come by `DoPut` (`statements`, `prepared`, `ingest`, `decode`).
//!
//! ## What a client can cost
//! Every buffer, table and wait has a bound in [`Settings`]. A client that vanishes, or that neither reads nor writes,
//! has its statements cancelled; what is left of a stream that is not read is one message of `message_limit_bytes` in
//! its connection, until that closes. No bytes from a client can end a task or the process.
//!
//! ## Metrics
//! `tereza_flight_requests_total{method}`, `tereza_flight_bytes_total{direction}`, `tereza_flight_streams_open`,
//! `tereza_flight_streams_idle_total`, `tereza_flight_connections_open`, `tereza_flight_connections_refused_total`.
//!
//! Files in reading order: `service`, `session`, `statements`, `prepared`, `tickets`, `poll`, `encode`, `plain`,
//! `decode`, `ingest`, `metadata`, `info`, `connection`, `messages`.

mod connection;
mod decode;
mod encode;
mod info;
mod ingest;
mod messages;
mod metadata;
mod plain;
mod poll;
mod prepared;
mod service;
mod session;
mod statements;
#[cfg(test)]
mod tests;
mod tickets;

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use tereza_engine::query::QueryService;
use tereza_runtime::{Error, Result};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Identity, Server, ServerTlsConfig};

use self::service::Gateway;
use crate::{Settings, Tls};

/// How often unused sessions and tickets are looked for, at most; at least four times in their time to live.
const SWEEP_MAX: Duration = Duration::from_secs(10);
/// A connection on which nothing happens is asked for a sign of life so often, and closed without one.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(20);
/// What a client may send ahead of the reader, per request and per connection.
const REQUEST_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// How long the connections may take to close once they were told to fail.
const ABORT_WAIT: Duration = Duration::from_secs(5);

/// Serves Flight SQL on a listener until `shutdown`, and returns when all connections are drained.
///
/// On `shutdown` the listener is closed and new requests are refused as unavailable; running streams go on for
/// `drain_ms`, then their connections fail and their statements are cancelled. Dropping the future ends everything at
/// once. `InvalidInput` if the certificate or its key cannot be used.
pub async fn serve(
    listener: TcpListener,
    service: Arc<dyn QueryService>,
    settings: Settings,
    shutdown: CancellationToken,
) -> Result<()> {
    let abort = CancellationToken::new();
    let _abort_when_dropped = abort.clone().drop_guard();
    let mut server = Server::builder()
        .max_concurrent_streams(settings.requests_per_connection_max)
        .initial_stream_window_size(REQUEST_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(KEEP_ALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEP_ALIVE_TIMEOUT));
    if let Some(tls) = &settings.tls {
        server = server.tls_config(identity(tls).await?).map_err(|error| {
            Error::invalid_input(format!(
                "the certificate {} and the key {} cannot be used: {error}",
                tls.certificate.display(),
                tls.key.display()
            ))
        })?;
    }
    let setup_timeout = Duration::from_millis(settings.connection_setup_ms);
    let connections = connection::accepted(listener, settings.connections_max, setup_timeout, abort.clone());
    let request_limit_bytes = settings.request_limit_bytes;
    let drain = Duration::from_millis(settings.drain_ms);
    let gateway = Arc::new(Gateway::new(service, settings, shutdown.clone(), abort.clone())?);
    gateway.tasks().spawn(sweep(Arc::clone(&gateway), abort.clone()));

    let flight = FlightServiceServer::from_arc(Arc::clone(&gateway)).max_decoding_message_size(request_limit_bytes);
    let serving =
        server.add_service(flight).serve_with_incoming_shutdown(connections, shutdown.clone().cancelled_owned());
    tokio::pin!(serving);
    let drained = async {
        shutdown.cancelled().await;
        tokio::time::sleep(drain).await;
    };
    let served = tokio::select! {
        served = &mut serving => Some(served),
        () = drained => {
            tracing::info!("the drain is over, what still runs is cancelled");
            abort.cancel();
            tokio::time::timeout(ABORT_WAIT, serving).await.ok()
        }
    };
    abort.cancel();
    gateway.close().await;
    match served {
        Some(Err(error)) => Err(Error::internal(format!("the Flight SQL server failed: {error}")).with_source(error)),
        _ => Ok(()),
    }
}

async fn identity(tls: &Tls) -> Result<ServerTlsConfig> {
    let mut pems = Vec::with_capacity(2);
    for path in [&tls.certificate, &tls.key] {
        let pem = tokio::fs::read(path)
            .await
            .map_err(|error| Error::invalid_input(format!("cannot read {}: {error}", path.display())))?;
        pems.push(pem);
    }
    Ok(ServerTlsConfig::new().identity(Identity::from_pem(&pems[0], &pems[1])))
}

async fn sweep(gateway: Arc<Gateway>, abort: CancellationToken) {
    let shortest_ms = gateway.settings().ticket_ttl_ms.min(gateway.settings().token_ttl_ms);
    let period = Duration::from_millis((shortest_ms / 4).max(1)).min(SWEEP_MAX);
    while abort.run_until_cancelled(tokio::time::sleep(period)).await.is_some() {
        gateway.sweep().await;
    }
}
