//! What a process that runs stages for a scheduler gets of the engine: no catalog and no sessions, since a stage's plan says
//! where its files are, but the same object stores, functions, caches and codec as the process that planned it.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use datafusion::common::Result as DataFusionResult;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::execution::session_state::SessionState;
use datafusion::prelude::SessionConfig;
use parking_lot::Mutex;
use tereza_runtime::{Result, Settings, ids, memory};

use crate::cluster::TerezaOptions;
use crate::engine;
use crate::memory_pool::capped::with_limit;
use crate::spill::SpillFolder;
use crate::stores::ObjectStores;

/// The engine's part of an executor.
#[derive(Debug)]
pub struct Stages {
    runtime: Arc<RuntimeEnv>,
    stores: Arc<ObjectStores>,
    memory_limit_bytes: usize,
    /// Of statements that may hold less, for as long as tasks of them are here.
    limited: Mutex<HashMap<String, Weak<RuntimeEnv>>>,
    _spill_folder: SpillFolder,
}

impl Stages {
    /// Opens object stores, caches and the folder for spilled rows.
    pub fn open(settings: &Settings) -> Result<Arc<Self>> {
        let stores = Arc::new(ObjectStores::new(settings.s3.clone()));
        let memory_limit_bytes = usize::try_from(memory::budget_bytes(&settings.engine)?).unwrap_or(usize::MAX);
        let spill_folder = SpillFolder::open(&settings.engine.spill_dir, &ids::new_id())?;
        let runtime = engine::runtime(&settings.engine, &spill_folder, memory_limit_bytes, Arc::clone(&stores))?;
        let limited = Mutex::default();
        Ok(Arc::new(Self { runtime, stores, memory_limit_bytes, limited, _spill_folder: spill_folder }))
    }

    /// Object stores, caches and the folder for spilled rows.
    pub fn runtime(&self) -> Arc<RuntimeEnv> {
        Arc::clone(&self.runtime)
    }

    /// The same for the tasks of a statement with the settings of its session, which may have a limit of its own: in this
    /// process its operators hold no more than that together.
    pub fn runtime_of(&self, statement: &str, config: &SessionConfig) -> DataFusionResult<Arc<RuntimeEnv>> {
        let Some(limit_bytes) = TerezaOptions::memory_limit_bytes(config.options()) else { return Ok(self.runtime()) };
        let mut limited = self.limited.lock();
        if let Some(runtime) = limited.get(statement).and_then(Weak::upgrade) {
            return Ok(runtime);
        }
        limited.retain(|_, runtime| runtime.strong_count() > 0);
        let runtime = with_limit(&self.runtime, limit_bytes)?;
        limited.insert(statement.to_owned(), Arc::downgrade(&runtime));
        Ok(runtime)
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
