//! How Ballista's executor is asked to end.
//!
//! It listens to signals itself, once it has started: what comes before that is lost to it. But it also takes its leave when one
//! of its services ends. So that which gives away what stages made ends for it when the process is asked to end, and
//! in truth goes on until nobody needs it.

use std::sync::Arc;
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use ballista_core::error::BallistaError;
use ballista_core::utils::create_grpc_server;
use ballista_executor::ArrowFlightServerProvider;
use ballista_executor::flight_service::BallistaFlightService;
use tokio_util::sync::CancellationToken;

/// A start that is under way when the process is asked to end gets so long: one that is registered takes its leave.
const START_TIMEOUT: Duration = Duration::from_secs(1);

/// When to end, and whether there is something to take leave of.
#[derive(Debug, Clone)]
pub(crate) struct Leave {
    /// Fires when the process is asked to end.
    pub(crate) stop: CancellationToken,
    /// Fires when the scheduler knows this executor and gives it tasks.
    pub(crate) registered: CancellationToken,
}

impl Leave {
    /// The service that gives away what stages made, which Ballista starts when the executor is registered.
    pub(crate) fn flight_service(&self, message_limit_bytes: u32) -> Arc<ArrowFlightServerProvider> {
        let (leave, limit) = (self.clone(), message_limit_bytes as usize);
        Arc::new(move |folder, address, mut shutdown, config| {
            let service = FlightServiceServer::new(BallistaFlightService::new(folder))
                .max_decoding_message_size(limit)
                .max_encoding_message_size(limit);
            let server = create_grpc_server(&config).add_service(service);
            let serving = tokio::spawn(server.serve_with_shutdown(address, async move { shutdown.recv().await }));
            leave.registered.cancel();
            let stop = leave.stop.clone();
            tokio::spawn(async move {
                tokio::select! {
                    served = serving => served.map_err(BallistaError::TokioError)?.map_err(BallistaError::TonicError),
                    () = stop.cancelled() => Err(BallistaError::General("the process is asked to end".into())),
                }
            })
        })
    }

    /// Waits until the process is asked to end before it was registered.
    pub(crate) async fn before_registered(&self) {
        self.stop.cancelled().await;
        if tokio::time::timeout(START_TIMEOUT, self.registered.cancelled()).await.is_ok() {
            std::future::pending().await
        }
    }
}
