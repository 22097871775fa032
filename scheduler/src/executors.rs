//! Who the executors are: of this version, counted, and missed at once when their process ends.
//!
//! Ballista misses an executor when its heartbeats stop, after seconds. One whose process ended refuses connections at once:
//! so a connection to each is kept, and when it breaks and cannot be made again, the executor is given up. One that hangs or
//! is cut off keeps its connection, and is missed by its heartbeats.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::time::Duration;

use ballista_core::serde::protobuf::ExecutorStoppedParams;
use ballista_core::serde::protobuf::scheduler_grpc_server::{SchedulerGrpc, SchedulerGrpcServer};
use ballista_core::serde::scheduler::ExecutorMetadata;
use futures::future::AbortHandle;
use tereza_runtime::{Error, Result};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Status};

use crate::cluster::Server;

/// Pause before a connection that broke is made again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
/// Pause after a connection could not be made for another reason than that nobody listens.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How an executor names itself, before its version.
const PROGRAM: &str = "tereza/";

/// Answers executors until `stop` fires.
pub(crate) async fn serve(server: Server, listener: TcpListener, stop: CancellationToken) -> Result<()> {
    let config = &server.state.config;
    let service = SchedulerGrpcServer::new(server.clone())
        .max_encoding_message_size(config.grpc_server_max_encoding_message_size as usize)
        .max_decoding_message_size(config.grpc_server_max_decoding_message_size as usize);
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .add_service(InterceptedService::new(service, of_this_version))
        .serve_with_incoming_shutdown(TcpListenerStream::new(listener), stop.cancelled_owned())
        .await
        .map_err(|error| Error::unavailable(format!("executors are not answered any more: {error}")).with_source(error))
}

/// Lets in who has the same version: what a plan means may differ between two.
fn of_this_version(request: Request<()>) -> Result<Request<()>, Status> {
    let agent = request.metadata().get("user-agent").and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    // What the protocol's library says of itself comes after it.
    let version = agent.split(' ').find_map(|word| word.strip_prefix(PROGRAM));
    match version {
        Some(env!("CARGO_PKG_VERSION")) => Ok(request),
        version => Err(Status::failed_precondition(format!(
            "this scheduler is of version {}, and the executor of {}: run both from the same program",
            env!("CARGO_PKG_VERSION"),
            version.unwrap_or("an unknown one")
        ))),
    }
}

/// The connections to executors.
pub(crate) struct Watches {
    server: Server,
    by_executor: HashMap<String, Watch>,
}

/// Ends when dropped.
struct Watch(AbortHandle);

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Watches {
    pub(crate) fn new(server: Server) -> Self {
        Self { server, by_executor: HashMap::new() }
    }

    /// Watches these executors and no others.
    pub(crate) fn set(&mut self, executors: &[ExecutorMetadata]) {
        self.by_executor.retain(|id, _| executors.iter().any(|executor| executor.id == *id));
        for executor in executors {
            if self.by_executor.contains_key(&executor.id) {
                continue;
            }
            let (watch, handle) = futures::future::abortable(watch(self.server.clone(), executor.clone()));
            tokio::spawn(watch);
            self.by_executor.insert(executor.id.clone(), Watch(handle));
        }
    }
}

/// Gives an executor up when its process has ended.
async fn watch(server: Server, executor: ExecutorMetadata) {
    until_gone(&executor.host, executor.grpc_port).await;
    tracing::warn!(executor = executor.id, "the executor's process ended");
    let stopped = ExecutorStoppedParams { executor_id: executor.id, reason: "its process ended".into() };
    if let Err(error) = SchedulerGrpc::executor_stopped(&server, Request::new(stopped)).await {
        tracing::error!(%error, "an executor that ended is missed by its heartbeats only");
    }
}

/// Waits until nobody listens at an address.
async fn until_gone(host: &str, port: u16) {
    loop {
        match TcpStream::connect((host, port)).await {
            Ok(mut connection) => {
                let mut unread = [0; 256];
                while matches!(connection.read(&mut unread).await, Ok(1..)) {}
                tokio::time::sleep(RECONNECT_PAUSE).await;
            }
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => return,
            Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(agent: &str) -> Request<()> {
        let mut request = Request::new(());
        request.metadata_mut().insert("user-agent", agent.parse().unwrap());
        request
    }

    #[test]
    fn executors_of_other_versions_are_refused_with_a_sentence() {
        assert!(of_this_version(request(concat!("tereza/", env!("CARGO_PKG_VERSION"), " tonic/0.14.2"))).is_ok());
        for (agent, said) in [("tereza/99.1.0 tonic/0.14.2", "99.1.0"), ("tonic/0.14.2", "an unknown one")] {
            let refused = of_this_version(request(agent)).unwrap_err();
            assert_eq!(refused.code(), tonic::Code::FailedPrecondition);
            assert!(
                refused.message().contains(said) && refused.message().contains(env!("CARGO_PKG_VERSION")),
                "{refused}"
            );
        }
    }

    #[tokio::test]
    async fn a_process_that_ends_is_missed_and_one_that_drops_a_connection_is_not() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let watch = tokio::spawn(async move { until_gone("127.0.0.1", port).await });
        for _ in 0..3 {
            drop(listener.accept().await.unwrap());
        }
        let last = listener.accept().await.unwrap();
        assert!(!watch.is_finished());
        drop((last, listener));
        tokio::time::timeout(Duration::from_secs(10), watch).await.expect("it is missed").unwrap();
    }
}
