//! An object store that loses requests and replies, answers 409 to nobody's conflict, lists late, and lets requests that timed out
//! land afterwards.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use parking_lot::Mutex;

use super::world::World;

#[derive(Clone)]
pub(super) struct Store(Arc<Inner>);

struct Inner {
    world: Arc<World>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    objects: BTreeMap<String, Bytes>,
    /// Names in the order in which they were made.
    made: Vec<String>,
    /// Requests whose sender has given up.
    late: Vec<(String, Bytes, bool)>,
}

impl State {
    fn put(&mut self, name: &str, bytes: Bytes, only_new: bool) -> bool {
        if only_new && self.objects.contains_key(name) {
            return false;
        }
        if self.objects.insert(name.to_owned(), bytes).is_none() {
            self.made.push(name.to_owned());
        }
        true
    }
}

impl Store {
    pub(super) fn new(world: Arc<World>) -> Self {
        Self(Arc::new(Inner { world, state: Mutex::default() }))
    }

    /// What is there, without any fault.
    pub(super) fn look(&self, name: &str) -> Option<Bytes> {
        self.0.state.lock().objects.get(name).cloned()
    }

    /// Names that begin so.
    pub(super) fn names(&self, begin: &str) -> Vec<String> {
        self.0.state.lock().objects.keys().filter(|name| name.starts_with(begin)).cloned().collect()
    }

    /// Somebody deletes what is not his.
    pub(super) fn lose(&self, begin: &str) {
        self.0.state.lock().objects.retain(|name, _| !name.starts_with(begin));
    }

    /// Lets a late request land now and then.
    pub(super) fn tick(&self) {
        let mut state = self.0.state.lock();
        if !state.late.is_empty() && self.0.world.chance(50) {
            let at = usize::try_from(self.0.world.below(state.late.len() as u64)).unwrap_or(0);
            let (name, bytes, only_new) = state.late.swap_remove(at);
            state.put(&name, bytes, only_new);
        }
    }
}

fn failed() -> Error {
    Error::Generic { store: "sim", source: "no answer".into() }
}

fn exists(path: &Path) -> Error {
    Error::AlreadyExists { path: path.to_string(), source: "it exists".into() }
}

fn meta(name: &str, bytes: &Bytes) -> ObjectMeta {
    let last_modified = Default::default();
    ObjectMeta { location: Path::from(name), last_modified, size: bytes.len() as u64, e_tag: None, version: None }
}

#[async_trait]
impl ObjectStore for Store {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        let world = &self.0.world;
        let only_new = opts.mode == PutMode::Create;
        let name = location.to_string();
        let bytes: Bytes = payload.into();
        world.step().await;
        if world.fault(30) {
            return Err(failed());
        }
        if world.fault(30) {
            self.0.state.lock().late.push((name, bytes, only_new));
            return Err(failed());
        }
        if only_new && world.fault(20) {
            return Err(exists(location));
        }
        if !self.0.state.lock().put(&name, bytes, only_new) {
            return Err(exists(location));
        }
        world.note(|| format!("put {name}"));
        world.step().await;
        if world.fault(40) { Err(failed()) } else { Ok(PutResult { e_tag: None, version: None }) }
    }

    async fn get_opts(&self, location: &Path, _: GetOptions) -> Result<GetResult> {
        self.0.world.step().await;
        if self.0.world.fault(20) {
            return Err(failed());
        }
        let name = location.to_string();
        let bytes = self.look(&name).ok_or(Error::NotFound { path: name.clone(), source: "nothing".into() })?;
        Ok(GetResult {
            meta: meta(&name, &bytes),
            range: 0..bytes.len() as u64,
            attributes: Default::default(),
            payload: GetResultPayload::Stream(stream::iter([Ok(bytes)]).boxed()),
        })
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        let below = prefix.map(|prefix| format!("{prefix}/")).unwrap_or_default();
        let store = self.clone();
        stream::once(async move {
            store.0.world.step().await;
            if store.0.world.fault(20) {
                return stream::iter(vec![Err(failed())]);
            }
            let state = store.0.state.lock();
            let behind = if store.0.world.fault(300) { 1 + store.0.world.below(6) } else { 0 };
            let behind = usize::try_from(behind).unwrap_or(0).min(state.made.len());
            let hidden = &state.made[state.made.len() - behind..];
            let seen = state.objects.iter().filter(|(name, _)| name.starts_with(&below) && !hidden.contains(name));
            stream::iter(seen.map(|(name, bytes)| Ok(meta(name, bytes))).collect::<Vec<_>>())
        })
        .flatten()
        .boxed()
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let store = self.clone();
        locations
            .then(move |location| {
                let store = store.clone();
                async move {
                    let location = location?;
                    store.0.world.step().await;
                    if store.0.world.fault(30) {
                        return Err(failed());
                    }
                    store.0.world.note(|| format!("delete {location}"));
                    store.0.state.lock().objects.remove(location.as_ref());
                    Ok(location)
                }
            })
            .boxed()
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "put_multipart".into(), implementer: "sim".into() })
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(Error::NotImplemented { operation: "list_with_delimiter".into(), implementer: "sim".into() })
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(Error::NotImplemented { operation: "copy".into(), implementer: "sim".into() })
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Store")
    }
}

impl fmt::Display for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sim")
    }
}
