//! A table with compare-and-set, whose answers get lost and which others change too. Its files are objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tereza_runtime::{Error, Result};

use super::store::Store;
use super::world::World;
use super::{Broken, Row};
use crate::objects::Objects;
use crate::pipeline::{Change, FileWriter, Outcome, Table, Version};
use crate::record::DataFile;

pub(super) struct SimTable {
    pub(super) world: Arc<World>,
    pub(super) store: Store,
    pub(super) objects: Objects,
    pub(super) broken: Option<Broken>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    version: u64,
    markers: BTreeMap<String, u64>,
    rows: Vec<Row>,
}

struct Rows {
    path: String,
    objects: Objects,
    rows: Vec<Row>,
}

pub(super) const UUID: &str = "table-uuid";

impl SimTable {
    pub(super) fn new(world: Arc<World>, store: Store, objects: Objects, broken: Option<Broken>) -> Self {
        Self { world, store, objects, broken, state: Mutex::default() }
    }

    /// Somebody else changes the table.
    pub(super) fn touch(&self) {
        self.state.lock().version += 1;
    }

    /// Somebody takes the table back to what it was at first.
    pub(super) fn set_back(&self) {
        let mut state = self.state.lock();
        *state = State { version: state.version + 1, ..State::default() };
    }

    pub(super) fn rows(&self) -> Vec<Row> {
        self.state.lock().rows.clone()
    }

    pub(super) fn row_count(&self) -> usize {
        self.state.lock().rows.len()
    }
}

fn lost() -> Error {
    Error::unavailable("no answer of the catalog")
}

#[async_trait]
impl Table for SimTable {
    type Rows = Vec<Row>;

    async fn begin(&self, name: &str) -> Result<Box<dyn FileWriter<Rows = Vec<Row>>>> {
        Ok(Box::new(Rows { path: format!("data/{name}"), objects: self.objects.clone(), rows: Vec::new() }))
    }

    async fn has(&self, file: &DataFile) -> Result<bool> {
        self.world.step().await;
        if self.world.fault(10) {
            return Err(lost());
        }
        Ok(self.store.look(&file.path).is_some_and(|bytes| bytes.len() as u64 == file.size))
    }

    async fn load(&self, key: &str) -> Result<Version> {
        self.world.step().await;
        if self.world.fault(20) {
            return Err(lost());
        }
        let state = self.state.lock();
        let marker = state.markers.get(key).copied().unwrap_or(0);
        Ok(Version { token: state.version.to_string(), uuid: UUID.to_owned(), marker })
    }

    async fn commit(&self, change: Change<'_>) -> Result<Outcome> {
        self.world.step().await;
        if self.world.fault(20) {
            return Err(lost());
        }
        {
            let mut state = self.state.lock();
            if change.base.token != state.version.to_string() && self.broken != Some(Broken::BlindTable) {
                return Ok(Outcome::Conflict);
            }
            for file in change.files {
                match self.store.look(&file.path) {
                    Some(bytes) => state.rows.extend(serde_json::from_slice::<Vec<Row>>(&bytes).unwrap()),
                    None => self.world.violated(format!("the table took {}, which is gone", file.path)),
                }
            }
            self.world.note(|| format!("table {} to {}", change.key, change.marker));
            let marker = state.markers.entry(change.key.to_owned()).or_default();
            *marker = change.marker.max(*marker);
            state.version += 1;
        }
        self.world.step().await;
        if self.world.fault(30) { Err(lost()) } else { Ok(Outcome::Committed) }
    }
}

#[async_trait]
impl FileWriter for Rows {
    type Rows = Vec<Row>;

    async fn write(&mut self, rows: Vec<Row>) -> Result<()> {
        self.rows.extend(rows);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<Vec<DataFile>> {
        let bytes = serde_json::to_vec(&self.rows).unwrap();
        let object = self.objects.put(&self.path, bytes.into()).await?;
        Ok(vec![DataFile { path: object.path, size: object.size, rows: self.rows.len() as u64, token: String::new() }])
    }
}
