//! Connections to other executors, kept for a while: a stage fetches from each of them many times.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use ballista_core::client::BallistaClient;
use ballista_core::client_pool::{BallistaClientPool, PooledClient};
use ballista_core::error::Result;
use ballista_core::extension::BallistaConfigGrpcEndpoint;
use ballista_core::utils::GrpcClientConfig;
use parking_lot::Mutex;
use tereza_runtime::clock;

/// A connection that nobody used for so long is closed at the next use of another.
const IDLE: Duration = Duration::from_secs(30);
/// Connections to one executor that are kept while nobody uses them.
const IDLE_MAX: usize = 16;

type Key = (String, u16, GrpcClientConfig);
/// Connections with when they were last used.
type Idle = HashMap<Key, Vec<(BallistaClient, Instant)>>;

/// Connections that nobody uses now.
#[derive(Default, Clone)]
pub(crate) struct Connections {
    idle: Arc<Mutex<Idle>>,
}

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connections").field("executors", &self.idle.lock().len()).finish()
    }
}

impl Connections {
    fn take(&self, key: &Key) -> Option<BallistaClient> {
        let mut idle = self.idle.lock();
        idle.retain(|_, clients| {
            clients.retain(|(_, used)| used.elapsed() < IDLE);
            !clients.is_empty()
        });
        idle.get_mut(key)?.pop().map(|(client, _)| client)
    }

    fn give_back(&self, key: Key, client: BallistaClient) {
        let mut idle = self.idle.lock();
        let clients = idle.entry(key).or_default();
        if clients.len() < IDLE_MAX {
            clients.push((client, clock::now()));
        }
    }
}

#[async_trait]
impl BallistaClientPool for Connections {
    async fn acquire(
        &self,
        host: &str,
        port: u16,
        config: &GrpcClientConfig,
        customize: Option<Arc<BallistaConfigGrpcEndpoint>>,
    ) -> Result<PooledClient> {
        let key = (host.to_owned(), port, config.clone());
        let client = match self.take(&key) {
            Some(client) => client,
            None => {
                BallistaClient::try_new(
                    host,
                    port,
                    config.max_message_size,
                    config.use_tls,
                    customize,
                    config.io_retries_times,
                    config.io_retry_wait_time_ms,
                    config.initial_connection_window_size,
                    config.initial_stream_window_size,
                )
                .await?
            }
        };
        let connections = self.clone();
        Ok(PooledClient::new(client, Box::new(move |client| connections.give_back(key, client))))
    }

    async fn evict_idle(&self) {
        self.idle.lock().clear();
    }
}
