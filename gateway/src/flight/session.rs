//! Who is asking, and which session of the engine the request belongs to.
//!
//! A request names its session in one of three ways, tried in this order:
//! 1. **a bearer token**, minted by the handshake in exchange for a user and password (JDBC, ADBC, arrow-rs). Where
//!    anyone may enter, a token that was not minted here (a driver's own `token=`) names a session too;
//! 2. **the cookie** `arrow_flight_session_id`, which the server sets on the answer to a request without a session;
//! 3. **the connection**: what a client without token and cookie sends over one connection (one gRPC channel) is one
//!    session per user. Such a session ends with its connection, unless its cookie was ever sent back: then the client
//!    can find it again from another connection.
//!
//! Where users are configured, every request must carry a token or a user and password; a cookie alone opens nothing.
//! A session that is not used for `token_ttl_ms` ends, and its token with it. Most drivers close their connection and not
//! their session: when the engine has no room for a new session, the one that was left alone for longest ends for it.
//! When the engine has ended a session by itself, a new one takes its place behind the same token or cookie.
//!
//! The request headers `catalog` and `schema` set what a session starts with.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Weak};

use http::{Extensions, HeaderMap, HeaderValue};
use parking_lot::Mutex;
use tereza_engine::query::{QueryService, SessionDefaults, SessionId};
use tereza_runtime::clock::Clock;
use tereza_runtime::{Error, ErrorKind, Result, ids};
use tonic::metadata::MetadataMap;

use super::connection::Peer;
use super::prepared::Prepared;
use crate::Settings;

/// The name that the Flight specification suggests for the session cookie.
const COOKIE: &str = "arrow_flight_session_id";
/// The user of a request without credentials, where anyone may enter.
const ANONYMOUS: &str = "anonymous";
/// The engine ends sessions that it takes for unused: one that may still be used here is asked for so often. One that was
/// not used for so long is asked for before it is used again, as the engine may have ended it all the same.
const PROBE_AFTER_MS: i64 = 60_000;

/// The secret by which a client names its session.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Token(String),
    Cookie(String),
}

/// Without the secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token",
            Self::Cookie(_) => "Cookie",
        })
    }
}

/// One session of the engine and what the gateway keeps for it.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) user: String,
    key: Key,
    prepared: Mutex<HashMap<String, Arc<Prepared>>>,
    last_used_ms: AtomicI64,
    /// When the engine was last asked for it only to keep it.
    kept_ms: AtomicI64,
    /// The connections that used it and may be open.
    connections: Mutex<Vec<Weak<Peer>>>,
    /// Whether it may outlive its connections: it has a token, or its cookie came back.
    roams: AtomicBool,
}

impl Session {
    /// Keeps a prepared statement, of which there may be `prepared_max`.
    pub(crate) fn keep(&self, prepared: Arc<Prepared>, prepared_max: usize) -> Result<()> {
        let mut kept = self.prepared.lock();
        if kept.len() >= prepared_max {
            return Err(Error::resource_exhausted(format!(
                "the session has {prepared_max} prepared statements already (prepared_max)"
            ))
            .with_hint("close those that are not needed"));
        }
        kept.insert(prepared.handle.clone(), prepared);
        Ok(())
    }

    /// The prepared statement of a handle.
    pub(crate) fn prepared(&self, handle: &[u8]) -> Result<Arc<Prepared>> {
        let found = std::str::from_utf8(handle).ok().and_then(|handle| self.prepared.lock().get(handle).cloned());
        found.ok_or_else(|| Error::not_found("there is no such prepared statement in this session; prepare it again"))
    }

    /// Forgets a prepared statement; one that is not there is forgotten already.
    pub(crate) fn forget(&self, handle: &[u8]) {
        if let Ok(handle) = std::str::from_utf8(handle) {
            self.prepared.lock().remove(handle);
        }
    }

    fn used_on(&self, peer: &Arc<Peer>) {
        let mut connections = self.connections.lock();
        if !connections.iter().any(|known| known.as_ptr() == Arc::as_ptr(peer)) {
            connections.retain(|known| known.strong_count() > 0);
            connections.push(Arc::downgrade(peer));
        }
    }

    fn is_connected(&self) -> bool {
        self.connections.lock().iter().any(|peer| peer.strong_count() > 0)
    }

    /// Whoever works for a session holds it: a request, a ticket, a stream. The table alone holds it once.
    fn is_working(self: &Arc<Self>) -> bool {
        Arc::strong_count(self) > 1
    }
}

/// A request's session, and the cookie to answer with if the client is to remember it.
pub(crate) struct Caller {
    pub(crate) session: Arc<Session>,
    pub(crate) set_cookie: Option<String>,
}

/// All sessions that clients can name. The engine bounds how many there are.
pub(crate) struct Sessions {
    service: Arc<dyn QueryService>,
    clock: Clock,
    users: BTreeMap<String, String>,
    token_ttl_ms: i64,
    table: Mutex<HashMap<Key, Arc<Session>>>,
    /// Held while a session is opened under a key that several connections may use.
    opening: tokio::sync::Mutex<()>,
}

impl Sessions {
    pub(crate) fn new(service: Arc<dyn QueryService>, settings: &Settings, clock: Clock) -> Self {
        Self {
            service,
            clock,
            users: settings.users.clone(),
            token_ttl_ms: i64::try_from(settings.token_ttl_ms).unwrap_or(i64::MAX),
            table: Mutex::default(),
            opening: tokio::sync::Mutex::default(),
        }
    }

    /// Finds or opens the session of a request.
    pub(crate) async fn caller(&self, metadata: &MetadataMap, extensions: &Extensions) -> Result<Caller> {
        let peer = peer(extensions)?;
        let user = match Credentials::read(metadata)? {
            Some(Credentials::Token(token)) => {
                let session = self.by_token(token, metadata, peer).await?;
                return Ok(Caller { session, set_cookie: None });
            }
            Some(Credentials::Password { user, password }) => self.authenticated(user, &password)?,
            None if self.users.is_empty() => ANONYMOUS.to_owned(),
            None => return Err(Error::unauthenticated("a user and password, or a token, is needed")),
        };
        let (session, cookie_known) = self.by_cookie_or_connection(user, metadata, peer).await?;
        let set_cookie = match &session.key {
            Key::Cookie(cookie) if !cookie_known => Some(format!("{COOKIE}={cookie}")),
            _ => None,
        };
        Ok(Caller { session, set_cookie })
    }

    /// Exchanges the credentials of a handshake for a token, which names a new session. A token is exchanged for
    /// itself.
    pub(crate) async fn handshake(&self, metadata: &MetadataMap, extensions: &Extensions) -> Result<String> {
        let user = match Credentials::read(metadata)? {
            Some(Credentials::Token(token)) => {
                self.by_token(token.clone(), metadata, peer(extensions)?).await?;
                return Ok(token);
            }
            Some(Credentials::Password { user, password }) => self.authenticated(user, &password)?,
            None if self.users.is_empty() => ANONYMOUS.to_owned(),
            None => return Err(Error::unauthenticated("the handshake needs the header 'authorization: Basic …'")),
        };
        let peer = peer(extensions)?;
        peer.greet();
        let token = ids::new_secret();
        self.open(user, Key::Token(token.clone()), metadata, peer).await?;
        Ok(token)
    }

    /// Ends a session: what it runs is cancelled, its token or cookie means nothing any more.
    pub(crate) async fn close(&self, session: &Session) -> Result<()> {
        {
            let mut table = self.table.lock();
            // A client that came back meanwhile has another session behind the same token.
            if table.get(&session.key).is_some_and(|kept| kept.id == session.id) {
                table.remove(&session.key);
            }
        }
        match self.service.close_session(&session.id).await {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Ends the sessions that are not used any more, and keeps the engine from ending the others.
    pub(crate) async fn sweep(&self) {
        let now_ms = self.clock.unix_ms();
        let ended: Vec<Arc<Session>> = self
            .table
            .lock()
            .extract_if(|_, session| {
                if session.is_working() {
                    session.last_used_ms.store(now_ms, Ordering::Relaxed);
                    return false;
                }
                let orphan = !session.roams.load(Ordering::Relaxed) && !session.is_connected();
                orphan || now_ms - session.last_used_ms.load(Ordering::Relaxed) > self.token_ttl_ms
            })
            .map(|(_, session)| session)
            .collect();
        for session in ended {
            if let Err(error) = self.close(&session).await {
                tracing::warn!(session = %session.id, %error, "an unused session could not be closed");
            }
        }
        let quiet: Vec<Arc<Session>> = self
            .table
            .lock()
            .values()
            .filter(|session| now_ms - session.kept_ms.load(Ordering::Relaxed) >= PROBE_AFTER_MS)
            .map(Arc::clone)
            .collect();
        for session in quiet {
            session.kept_ms.store(now_ms, Ordering::Relaxed);
            // If it is gone, its next request finds out.
            let _ = self.service.options(&session.id).await;
        }
    }

    /// Ends all sessions.
    pub(crate) async fn close_all(&self) {
        let all: Vec<Arc<Session>> = self.table.lock().drain().map(|(_, session)| session).collect();
        for session in all {
            if let Err(error) = self.close(&session).await {
                tracing::debug!(session = %session.id, %error, "a session could not be closed");
            }
        }
    }

    fn authenticated(&self, user: String, password: &str) -> Result<String> {
        if self.users.is_empty() {
            return Ok(user);
        }
        let expected = self.users.get(&user);
        // An unknown name costs the same comparison, so that names cannot be found out by time.
        let same = same_secret(password.as_bytes(), expected.map_or("", String::as_str).as_bytes());
        if same && expected.is_some() {
            Ok(user)
        } else {
            Err(Error::unauthenticated("the user or the password is wrong"))
        }
    }

    async fn by_token(&self, token: String, metadata: &MetadataMap, peer: &Arc<Peer>) -> Result<Arc<Session>> {
        let key = Key::Token(token);
        if let Some(session) = self.find(&key) {
            peer.greet();
            return self.alive(session, metadata, peer).await;
        }
        if !self.users.is_empty() {
            return Err(Error::unauthenticated("the token is unknown or has expired; make a new handshake"));
        }
        peer.greet();
        let _opening = self.opening.lock().await;
        match self.find(&key) {
            Some(session) => Ok(session),
            None => self.open(ANONYMOUS.to_owned(), key, metadata, peer).await,
        }
    }

    /// The session, and whether the client sent its cookie.
    async fn by_cookie_or_connection(
        &self,
        user: String,
        metadata: &MetadataMap,
        peer: &Arc<Peer>,
    ) -> Result<(Arc<Session>, bool)> {
        peer.greet();
        if let Some(cookie) = cookie(metadata)
            && let Some(session) = self.find(&Key::Cookie(cookie.to_owned()))
            && session.user == user
        {
            session.roams.store(true, Ordering::Relaxed);
            return Ok((self.alive(session, metadata, peer).await?, true));
        }
        let mut of_connection = peer.sessions.lock().await;
        if let Some(session) = of_connection.get(&user).and_then(|key| self.find(key)) {
            drop(of_connection);
            return Ok((self.alive(session, metadata, peer).await?, false));
        }
        let key = Key::Cookie(ids::new_secret());
        let session = self.open(user.clone(), key.clone(), metadata, peer).await?;
        of_connection.retain(|_, key| self.find(key).is_some());
        of_connection.insert(user, key);
        Ok((session, false))
    }

    fn find(&self, key: &Key) -> Option<Arc<Session>> {
        self.table.lock().get(key).cloned()
    }

    /// The session, or a new one in its place if the engine has ended it.
    async fn alive(&self, session: Arc<Session>, metadata: &MetadataMap, peer: &Arc<Peer>) -> Result<Arc<Session>> {
        session.used_on(peer);
        let now_ms = self.clock.unix_ms();
        let unused_ms = now_ms - session.last_used_ms.swap(now_ms, Ordering::Relaxed);
        if unused_ms < PROBE_AFTER_MS {
            return Ok(session);
        }
        match self.service.options(&session.id).await {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            _ => return Ok(session),
        }
        let _opening = self.opening.lock().await;
        match self.find(&session.key) {
            // Another request was here first.
            Some(new) if !Arc::ptr_eq(&new, &session) => Ok(new),
            _ => self.open(session.user.clone(), session.key.clone(), metadata, peer).await,
        }
    }

    /// Opens a session in the engine under a key.
    async fn open(&self, user: String, key: Key, metadata: &MetadataMap, peer: &Arc<Peer>) -> Result<Arc<Session>> {
        let text = |name| metadata.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
        let defaults = SessionDefaults { catalog: text("catalog"), schema: text("schema"), options: Vec::new() };
        let id = loop {
            match self.service.open_session(&user, defaults.clone()).await {
                Ok(id) => break id,
                Err(error) if error.kind() == ErrorKind::ResourceExhausted => match self.take_left_alone() {
                    Some(session) => self.close(&session).await?,
                    None => return Err(error),
                },
                Err(error) => return Err(error),
            }
        };
        let session = Arc::new(Session {
            id,
            user,
            roams: AtomicBool::new(matches!(key, Key::Token(_))),
            key: key.clone(),
            prepared: Mutex::default(),
            last_used_ms: AtomicI64::new(self.clock.unix_ms()),
            kept_ms: AtomicI64::new(0),
            connections: Mutex::new(vec![Arc::downgrade(peer)]),
        });
        self.table.lock().insert(key, Arc::clone(&session));
        Ok(session)
    }

    /// Takes the session out of the table that was used longest ago, among those without a connection and without work.
    fn take_left_alone(&self) -> Option<Arc<Session>> {
        let mut table = self.table.lock();
        let (key, _) = table
            .iter()
            .filter(|(_, session)| !session.is_working() && !session.is_connected())
            .min_by_key(|(_, session)| session.last_used_ms.load(Ordering::Relaxed))?;
        let key = key.clone();
        table.remove(&key)
    }
}

/// What the header `authorization` says.
enum Credentials {
    Token(String),
    Password { user: String, password: String },
}

impl Credentials {
    fn read(metadata: &MetadataMap) -> Result<Option<Self>> {
        let Some(value) = metadata.get("authorization") else { return Ok(None) };
        // The value is a secret: no message shows it.
        let invalid = || Error::unauthenticated("the header 'authorization' is neither 'Basic …' nor 'Bearer …'");
        let (scheme, value) = value.to_str().ok().and_then(|text| text.trim().split_once(' ')).ok_or_else(invalid)?;
        let value = value.trim();
        if scheme.eq_ignore_ascii_case("bearer") && !value.is_empty() {
            return Ok(Some(Self::Token(value.to_owned())));
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return Err(invalid());
        }
        let text = base64(value).and_then(|bytes| String::from_utf8(bytes).ok()).ok_or_else(invalid)?;
        let (user, password) = text.split_once(':').ok_or_else(invalid)?;
        Ok(Some(Self::Password { user: user.to_owned(), password: password.to_owned() }))
    }
}

/// Decodes base64 with or without padding (Go's client leaves it out), as gRPC does for its binary headers.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut headers = HeaderMap::new();
    headers.insert("credentials-bin", HeaderValue::from_str(text).ok()?);
    let bytes = MetadataMap::from_headers(headers).get_bin("credentials-bin")?.to_bytes().ok()?;
    Some(bytes.to_vec())
}

fn cookie(metadata: &MetadataMap) -> Option<&str> {
    metadata
        .get_all("cookie")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|cookies| cookies.split(';'))
        .filter_map(|cookie| cookie.trim().split_once('='))
        .find_map(|(name, value)| (name == COOKIE).then_some(value))
}

fn peer(extensions: &Extensions) -> Result<&Arc<Peer>> {
    extensions.get().ok_or_else(|| Error::internal("a request came without its connection"))
}

/// Whether two secrets are the same, in a time that depends only on the length of `given`.
fn same_secret(given: &[u8], expected: &[u8]) -> bool {
    let mut difference = given.len() ^ expected.len();
    for (index, byte) in given.iter().enumerate() {
        // Past the end the length differs already; any byte does.
        let other = if expected.is_empty() { 0 } else { expected[index % expected.len()] };
        difference |= usize::from(byte ^ other);
    }
    std::hint::black_box(difference) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_compared_whole() {
        assert!(same_secret(b"secret", b"secret"));
        assert!(same_secret(b"", b""));
        for (given, expected) in [("secret", "secres"), ("secret", "secretsecret"), ("aa", "a"), ("", "a"), ("a", "")] {
            assert!(!same_secret(given.as_bytes(), expected.as_bytes()), "{given} {expected}");
        }
    }

    #[test]
    fn base64_is_read_with_and_without_padding() {
        assert_eq!(base64("YTpi").unwrap(), b"a:b");
        assert_eq!(base64("YTpiYw==").unwrap(), b"a:bc");
        assert_eq!(base64("YTpiYw").unwrap(), b"a:bc");
        assert!(base64("*").is_none());
    }

    #[test]
    fn the_cookie_is_found_among_others() {
        let mut metadata = MetadataMap::new();
        metadata.append("cookie", "a=b".parse().unwrap());
        metadata.append("cookie", "x=y; arrow_flight_session_id=s1; z".parse().unwrap());
        assert_eq!(cookie(&metadata), Some("s1"));
    }
}
