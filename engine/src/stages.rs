//! What a process that runs stages for a scheduler gets of the engine: no catalog and no sessions, since a stage's plan says
//! where its files are, but the same object stores, functions, caches and codec as the process that planned it.

use std::sync::Arc;

use datafusion::execution::SessionStateBuilder;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionState;
use datafusion::prelude::SessionConfig;
use tereza_runtime::{Result, Settings, ids, memory};

use crate::cluster::TerezaOptions;
use crate::engine;
use crate::spill::SpillFolder;
use crate::stores::ObjectStores;

/// The engine's part of an executor.
#[derive(Debug)]
pub struct Stages {
    runtime: Arc<RuntimeEnv>,
    stores: Arc<ObjectStores>,
    memory_limit_bytes: usize,
    _spill_folder: SpillFolder,
}

impl Stages {
    /// Opens object stores, caches and the folder for spilled rows.
    pub fn open(settings: &Settings) -> Result<Arc<Self>> {
        let stores = Arc::new(ObjectStores::new(settings.s3.clone()));
        let memory_limit_bytes = usize::try_from(memory::budget_bytes(&settings.engine)?).unwrap_or(usize::MAX);
        let spill_folder = SpillFolder::open(&settings.engine.spill_dir, &ids::new_id())?;
        let runtime = engine::runtime(&settings.engine, &spill_folder, memory_limit_bytes, Arc::clone(&stores))?;
        Ok(Arc::new(Self { runtime, stores, memory_limit_bytes, _spill_folder: spill_folder }))
    }

    /// Object stores, caches and the folder for spilled rows.
    pub fn runtime(&self) -> Arc<RuntimeEnv> {
        Arc::clone(&self.runtime)
    }

    /// The object stores, for tasks that write.
    pub(crate) fn stores(&self) -> Arc<ObjectStores> {
        Arc::clone(&self.stores)
    }

    /// Bytes that the operators of all tasks may hold together.
    pub fn memory_limit_bytes(&self) -> usize {
        self.memory_limit_bytes
    }

    /// A state with every function that a session has.
    pub fn functions(&self) -> SessionState {
        SessionStateBuilder::new().with_default_features().with_runtime_env(self.runtime()).build()
    }

    /// Settings that know the engine's own keys, for those of a session to be put in.
    pub fn with_own_settings(config: SessionConfig) -> SessionConfig {
        config.with_option_extension(TerezaOptions::default())
    }
}
