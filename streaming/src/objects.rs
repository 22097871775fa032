//! Objects that are put once, under names that no other attempt has.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use tereza_runtime::{Error, ErrorKind, Result};

use crate::host::{Backoff, Host};
use crate::record::ObjectRef;
use crate::rules::{Rule, Rules};
use crate::waits::{STORE, Waits};

/// Tries of a request to the store before its error is the caller's.
const TRIES_MAX: u32 = 8;

/// A place in an object store.
#[derive(Clone)]
pub struct Objects {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) host: Arc<dyn Host>,
    pub(crate) rules: Rules,
    /// What is told of a store that is away.
    pub(crate) waits: Waits,
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Objects({})", self.store)
    }
}

/// What became of an object that was to be put where none is.
#[derive(Debug)]
pub(crate) enum Put {
    /// It is there with the bytes that were to be put.
    Mine,
    /// Another one is there.
    Taken(Bytes),
}

/// How long the store may be away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// [`TRIES_MAX`] tries.
    Tries,
    /// Until it is back. Only a refusal that does not pass by itself is an error.
    ForEver,
}

impl Objects {
    /// Objects in `store`, which must honour puts that only make new objects.
    pub fn new(store: Arc<dyn ObjectStore>, host: Arc<dyn Host>) -> Self {
        Self { store, host, rules: Rules::default(), waits: Waits::default() }
    }

    /// Tells in `waits` when the store is away.
    #[must_use]
    pub(crate) fn telling(mut self, waits: Waits) -> Self {
        self.waits = waits;
        self
    }

    /// Puts an object that nobody else puts, and says how a record refers to it.
    ///
    /// # Errors
    /// `Internal` if another object has the name, else what the store says.
    pub async fn put(&self, path: &str, bytes: Bytes) -> Result<ObjectRef> {
        let object = ObjectRef::of(path, &bytes);
        if self.rules.breaks(Rule::OwnNames) {
            let payload = PutPayload::from_bytes(bytes);
            self.store.put(&Path::from(path), payload).await.map_err(|error| store_error(path, error))?;
            return Ok(object);
        }
        match self.put_new(&Path::from(path), &bytes, Patience::Tries, |there| *there == bytes).await? {
            Put::Mine => Ok(object),
            Put::Taken(_) => Err(Error::internal(format!("another object has the name {path}, which is used once"))),
        }
    }

    /// The bytes of an object that was put, compared with what its record says; `None` if it is not there.
    pub async fn get(&self, object: &ObjectRef) -> Result<Option<Bytes>> {
        let Some(bytes) = self.read(&Path::from(object.path.as_str()), Patience::Tries).await? else { return Ok(None) };
        object.check(&bytes)?;
        Ok(Some(bytes))
    }

    /// Deletes objects of which nothing refers to any. One that is gone already is fine.
    pub async fn delete(&self, paths: &[String]) -> Result<()> {
        for path in paths {
            let mut backoff = Backoff::new();
            for tries in 1.. {
                match self.store.delete(&Path::from(path.as_str())).await {
                    Ok(()) | Err(object_store::Error::NotFound { .. }) => break,
                    Err(error) if tries == TRIES_MAX => return Err(store_error(path, error)),
                    Err(_) => backoff.pause(&*self.host).await,
                }
            }
        }
        Ok(())
    }

    /// An object's bytes, `None` if it is not there.
    pub(crate) async fn read(&self, path: &Path, patience: Patience) -> Result<Option<Bytes>> {
        let mut backoff = Backoff::new();
        let mut tries = 0;
        let found = loop {
            let read = async { self.store.get(path).await?.bytes().await };
            let error = match read.await {
                Ok(bytes) => break Some(bytes),
                Err(object_store::Error::NotFound { .. }) => break None,
                Err(error) => store_error(path, error),
            };
            tries += 1;
            if !passes(&error) || (patience == Patience::Tries && tries >= TRIES_MAX) {
                return Err(error);
            }
            self.waits.begin(STORE, &error);
            backoff.pause(&*self.host).await;
        };
        self.waits.end(STORE);
        Ok(found)
    }

    /// Puts an object where none is. A store may say that one exists when none does (a conflict in flight) or when it is one's own
    /// (a lost reply), so what is there is read back and judged by `is_mine`.
    pub(crate) async fn put_new(
        &self,
        path: &Path,
        bytes: &Bytes,
        patience: Patience,
        is_mine: impl Fn(&Bytes) -> bool + Send + Sync,
    ) -> Result<Put> {
        let mut backoff = Backoff::new();
        let mut tries = 0;
        loop {
            let mode = if self.rules.breaks(Rule::PutIfAbsent) { PutMode::Overwrite } else { PutMode::Create };
            let options = PutOptions { mode, ..PutOptions::default() };
            let error = match self.store.put_opts(path, PutPayload::from_bytes(bytes.clone()), options).await {
                Ok(_) => {
                    self.waits.end(STORE);
                    return Ok(Put::Mine);
                }
                Err(object_store::Error::AlreadyExists { .. }) if self.rules.breaks(Rule::Nonce) => {
                    return Ok(Put::Mine);
                }
                Err(error) => store_error(path, error),
            };
            // The reading back waits as long as the putting: only what is there ends the doubt.
            match self.read(path, patience).await? {
                Some(there) if is_mine(&there) => return Ok(Put::Mine),
                Some(there) => return Ok(Put::Taken(there)),
                None => {}
            }
            tries += 1;
            let refused = error.kind() != ErrorKind::AlreadyExists && !passes(&error);
            if refused || (patience == Patience::Tries && tries >= TRIES_MAX) {
                return Err(error);
            }
            self.waits.begin(STORE, &error);
            backoff.pause(&*self.host).await;
        }
    }
}

/// Whether a try later may go better.
fn passes(error: &Error) -> bool {
    error.kind() == ErrorKind::Unavailable
}

/// The store's error with its kind.
pub(crate) fn store_error(path: impl fmt::Display, error: object_store::Error) -> Error {
    use object_store::Error as Store;
    let kind = match &error {
        Store::NotFound { .. } => ErrorKind::NotFound,
        Store::AlreadyExists { .. } => ErrorKind::AlreadyExists,
        Store::Precondition { .. } => ErrorKind::Conflict,
        Store::PermissionDenied { .. } => ErrorKind::Denied,
        Store::Unauthenticated { .. } => ErrorKind::Unauthenticated,
        Store::NotSupported { .. } | Store::NotImplemented { .. } => ErrorKind::Unsupported,
        Store::InvalidPath { .. } | Store::UnknownConfigurationKey { .. } => ErrorKind::InvalidInput,
        _ => ErrorKind::Unavailable,
    };
    Error::new(kind, format!("the object {path}: {error}")).with_source(error)
}
