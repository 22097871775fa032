//! Who the executors are: of this version, counted, missed at once when their process ends, and let go of when they are asked
//! to end.
//!
//! Ballista misses an executor when its heartbeats stop, after seconds. One whose process ended refuses connections at once:
//! so a connection to each is kept, and when it breaks and cannot be made again, the executor is given up. One that hangs or
//! is cut off keeps its connection, and is missed by its heartbeats.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ballista_core::serde::protobuf::executor_status::Status as Life;
use ballista_core::serde::protobuf::scheduler_grpc_server::{SchedulerGrpc, SchedulerGrpcServer};
use ballista_core::serde::protobuf::{
    CancelJobParams, CancelJobResult, CleanJobDataParams, CleanJobDataResult, CreateUpdateSessionParams,
    CreateUpdateSessionResult, ExecuteQueryParams, ExecuteQueryResult, ExecutorStatus, ExecutorStoppedParams,
    ExecutorStoppedResult, GetJobMetricsParams, GetJobMetricsResult, GetJobStatusParams, GetJobStatusResult,
    HeartBeatParams, HeartBeatResult, PollWorkParams, PollWorkResult, RegisterExecutorParams, RegisterExecutorResult,
    RemoveSessionParams, RemoveSessionResult, UpdateTaskStatusParams, UpdateTaskStatusResult,
};
use ballista_core::serde::scheduler::ExecutorMetadata;
use futures::future::AbortHandle;
use futures::stream::BoxStream;
use tereza_runtime::{Error, Result};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::service::interceptor::InterceptedService;
use tonic::{Request, Response, Status};

use crate::cluster::Server;
use crate::drain::Drains;
use crate::progress::even_out;
use crate::slots::Slots;

/// Pause before a connection that broke is made again.
const RECONNECT_PAUSE: Duration = Duration::from_millis(20);
/// Pause after a connection could not be made for another reason than that nobody listens.
const RETRY_PAUSE: Duration = Duration::from_secs(1);

/// How an executor names itself, before its version.
const PROGRAM: &str = "tereza/";

/// Answers executors for as long as it is polled.
pub(crate) async fn serve(desk: Desk, listener: TcpListener) -> Result<()> {
    let config = desk.server.state.config.clone();
    let service = SchedulerGrpcServer::new(desk)
        .max_encoding_message_size(config.grpc_server_max_encoding_message_size as usize)
        .max_decoding_message_size(config.grpc_server_max_decoding_message_size as usize);
    tonic::transport::Server::builder()
        .tcp_nodelay(true)
        .add_service(InterceptedService::new(service, of_this_version))
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
        .map_err(|error| Error::unavailable(format!("executors are not answered any more: {error}")).with_source(error))
}

/// What executors may ask of the scheduler. What Ballista's clients ask is refused: statements come through the engine.
pub(crate) struct Desk {
    pub(crate) server: Server,
    pub(crate) slots: Arc<Slots>,
    pub(crate) drains: Drains,
    /// An executor that is asked to end is needed for so long at most.
    pub(crate) drain_timeout: Duration,
}

#[async_trait]
impl SchedulerGrpc for Desk {
    type ExecuteQueryPushStream = BoxStream<'static, Result<GetJobStatusResult, Status>>;

    async fn register_executor(
        &self,
        request: Request<RegisterExecutorParams>,
    ) -> Result<Response<RegisterExecutorResult>, Status> {
        self.server.register_executor(request).await
    }

    async fn heart_beat_from_executor(
        &self,
        mut request: Request<HeartBeatParams>,
    ) -> Result<Response<HeartBeatResult>, Status> {
        let beat = request.get_mut();
        // It would be registered again.
        if self.drains.has_gone(&beat.executor_id) {
            return Ok(Response::new(HeartBeatResult { reregister: false }));
        }
        if let Some(ExecutorStatus { status: Some(Life::Terminating(_)) }) = beat.status {
            self.drains.ends(&beat.executor_id);
        }
        // One of whom it is not known how it is gets no tasks, and stays for as long as it is heard of. What it said before it
        // was asked to end may arrive after.
        if self.drains.is_ending(&beat.executor_id) {
            beat.status = None;
        }
        self.server.heart_beat_from_executor(request).await
    }

    async fn update_task_status(
        &self,
        mut request: Request<UpdateTaskStatusParams>,
    ) -> Result<Response<UpdateTaskStatusResult>, Status> {
        let told = request.get_mut();
        even_out(&self.server, &mut told.task_status).await;
        let freed = self.slots.told(&told.executor_id, &told.task_status).await;
        freed.map_err(|error| Status::internal(error.to_string()))?;
        self.server.update_task_status(request).await
    }

    async fn executor_stopped(
        &self,
        request: Request<ExecutorStoppedParams>,
    ) -> Result<Response<ExecutorStoppedResult>, Status> {
        self.drains.release(&request.get_ref().executor_id, self.drain_timeout).await;
        self.server.executor_stopped(request).await
    }

    async fn poll_work(&self, _: Request<PollWorkParams>) -> Result<Response<PollWorkResult>, Status> {
        refused()
    }

    async fn create_update_session(
        &self,
        _: Request<CreateUpdateSessionParams>,
    ) -> Result<Response<CreateUpdateSessionResult>, Status> {
        refused()
    }

    async fn remove_session(&self, _: Request<RemoveSessionParams>) -> Result<Response<RemoveSessionResult>, Status> {
        refused()
    }

    async fn execute_query_push(
        &self,
        _: Request<ExecuteQueryParams>,
    ) -> Result<Response<Self::ExecuteQueryPushStream>, Status> {
        refused()
    }

    async fn execute_query(&self, _: Request<ExecuteQueryParams>) -> Result<Response<ExecuteQueryResult>, Status> {
        refused()
    }

    async fn get_job_status(&self, _: Request<GetJobStatusParams>) -> Result<Response<GetJobStatusResult>, Status> {
        refused()
    }

    async fn get_job_metrics(&self, _: Request<GetJobMetricsParams>) -> Result<Response<GetJobMetricsResult>, Status> {
        refused()
    }

    async fn cancel_job(&self, _: Request<CancelJobParams>) -> Result<Response<CancelJobResult>, Status> {
        refused()
    }

    async fn clean_job_data(&self, _: Request<CleanJobDataParams>) -> Result<Response<CleanJobDataResult>, Status> {
        refused()
    }
}

fn refused<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("executors are answered here; send statements by Flight SQL"))
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
