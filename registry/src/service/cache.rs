//! Schemas by their ids: what consumers ask for most. And the contexts that are looked through for them.
//!
//! A schema never changes while its id is used, but it may be removed for good, and by an import its id be given to another
//! one. What this process removes it takes out of here; what another process on the same database removes is known here for
//! at most [`AGE_MAX`] more.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tereza_catalog::store::schemas::Schema;
use tereza_runtime::clock;

/// How long a schema is believed to be there.
const AGE_MAX: Duration = Duration::from_secs(10);
/// How long no other contexts are believed to be there than those that were read.
const CONTEXTS_AGE_MAX: Duration = Duration::from_secs(1);

/// The contexts besides the default one, in which subjects without a context are looked for too.
#[derive(Debug, Default)]
pub(super) struct Contexts(Mutex<KnownContexts>);

#[derive(Debug, Default)]
struct KnownContexts {
    /// How often they were forgotten: what was read before is not kept after.
    forgotten: u64,
    known: Option<(Instant, Arc<[String]>)>,
}

impl Contexts {
    /// What is known, or else a number to put what was read with.
    pub(super) fn get(&self) -> Result<Arc<[String]>, u64> {
        let inner = self.0.lock();
        match &inner.known {
            Some((since, contexts)) if since.elapsed() < CONTEXTS_AGE_MAX => Ok(Arc::clone(contexts)),
            _ => Err(inner.forgotten),
        }
    }

    pub(super) fn put(&self, forgotten: u64, contexts: &Arc<[String]>) {
        let mut inner = self.0.lock();
        if inner.forgotten == forgotten {
            inner.known = Some((clock::now(), Arc::clone(contexts)));
        }
    }

    pub(super) fn forget(&self) {
        let mut inner = self.0.lock();
        inner.forgotten += 1;
        inner.known = None;
    }
}

#[derive(Debug)]
pub(super) struct Cache {
    schemas_max: usize,
    bytes_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    schemas: HashMap<String, HashMap<i32, Entry>>,
    /// In the order in which they came.
    order: VecDeque<(String, i32, Instant)>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    schema: Arc<Schema>,
    since: Instant,
}

impl Cache {
    pub(super) fn new(schemas_max: usize, bytes_max: usize) -> Self {
        Self { schemas_max, bytes_max, inner: Mutex::default() }
    }

    pub(super) fn get(&self, context: &str, id: i32) -> Option<Arc<Schema>> {
        let inner = self.inner.lock();
        let entry = inner.schemas.get(context)?.get(&id)?;
        (entry.since.elapsed() < AGE_MAX).then(|| Arc::clone(&entry.schema))
    }

    pub(super) fn put(&self, schema: &Arc<Schema>) {
        let bytes = size(schema);
        if bytes > self.bytes_max {
            return;
        }
        let since = clock::now();
        let mut inner = self.inner.lock();
        inner.remove(&schema.context, schema.id);
        inner.bytes += bytes;
        inner.order.push_back((schema.context.clone(), schema.id, since));
        let of_context = inner.schemas.entry(schema.context.clone()).or_default();
        of_context.insert(schema.id, Entry { schema: Arc::clone(schema), since });
        while inner.order.len() > self.schemas_max || inner.bytes > self.bytes_max {
            let Some((context, id, since)) = inner.order.pop_front() else { break };
            let is_current = inner.schemas.get(&context).and_then(|schemas| schemas.get(&id)).map(|entry| entry.since);
            if is_current == Some(since) {
                inner.remove(&context, id);
            }
        }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        *self.inner.lock() = Inner::default();
    }
}

impl Inner {
    fn remove(&mut self, context: &str, id: i32) {
        let Some(schemas) = self.schemas.get_mut(context) else { return };
        if let Some(entry) = schemas.remove(&id) {
            self.bytes -= size(&entry.schema);
        }
        if schemas.is_empty() {
            self.schemas.remove(context);
        }
    }
}

fn size(schema: &Schema) -> usize {
    let content = &schema.content;
    let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    content.text.len() + optional(&content.metadata) + optional(&content.rule_set)
}
