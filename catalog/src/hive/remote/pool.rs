//! Connections to one metastore: a bounded number of them, each for one call at a time and kept for the next.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tereza_runtime::clock::now;
use tereza_runtime::{Error, Result};
use tereza_thrift::client::{Client, Settings};
use tereza_thrift::hive::GetStatusArgs;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

/// A connection that nobody used for so long is asked whether it is there still, before a call that must not be repeated.
const TRUSTED: Duration = Duration::from_secs(5);

/// The connections.
pub(super) struct Pool {
    /// `host:port`, each of the same metastore.
    pub(super) addresses: Vec<String>,
    settings: Settings,
    /// Those that nobody uses, the last used at the end.
    idle: Mutex<Vec<(Client, Instant)>>,
    permits: Semaphore,
}

/// A connection that is in use. It is kept for the next unless it broke, which it also is where a call was given up.
pub(super) struct Taken<'a> {
    client: Option<Client>,
    pool: &'a Pool,
    _permit: SemaphorePermit<'a>,
}

impl Pool {
    pub(super) fn new(addresses: Vec<String>, settings: Settings, connections: usize) -> Self {
        Self { addresses, settings, idle: Mutex::default(), permits: Semaphore::new(connections.max(1)) }
    }

    /// A connection for a call that may be repeated.
    pub(super) async fn any(&self) -> Result<Taken<'_>> {
        self.take(false).await
    }

    /// A connection that answered just now, or is new: a call that must not be repeated would not tell why it failed.
    pub(super) async fn sound(&self) -> Result<Taken<'_>> {
        self.take(true).await
    }

    async fn take(&self, is_sound: bool) -> Result<Taken<'_>> {
        let waits = self.settings.call_timeout;
        let permit = timeout(waits, self.permits.acquire())
            .await
            .map_err(|_| Error::unavailable(format!("no connection to the metastore was free within {waits:?}")))?;
        let permit = permit.map_err(|error| Error::internal("connections are closed").with_source(error))?;
        loop {
            let Some((mut client, used)) = self.idle.lock().pop() else { break };
            let is_trusted = !is_sound || used.elapsed() < TRUSTED || client.call(&GetStatusArgs {}).await.is_ok();
            if is_trusted && !client.is_broken() {
                return Ok(Taken { client: Some(client), pool: self, _permit: permit });
            }
        }
        let client = Some(self.connect().await?);
        Ok(Taken { client, pool: self, _permit: permit })
    }

    async fn connect(&self) -> Result<Client> {
        let mut failed = Error::unavailable("no metastore");
        for address in &self.addresses {
            match Client::connect(address, self.settings.clone()).await {
                Ok(connected) => return Ok(connected),
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    /// Forgets the connections that nobody uses: when one broke, the others were made before it broke.
    pub(super) fn forget(&self) {
        self.idle.lock().clear();
    }
}

impl Taken<'_> {
    pub(super) fn client(&mut self) -> Result<&mut Client> {
        self.client.as_mut().ok_or_else(|| Error::internal("a connection is gone"))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if let Some(client) = self.client.take().filter(|client| !client.is_broken()) {
            self.pool.idle.lock().push((client, now()));
        }
    }
}
