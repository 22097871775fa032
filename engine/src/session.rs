//! One user's session: a DataFusion session with its current catalog and schema.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::common::TableReference;
use datafusion::common::config::{ConfigOptions, Dialect};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::physical_optimizer::PhysicalOptimizerRule;
use datafusion::physical_optimizer::optimizer::PhysicalOptimizer;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion_spark::SessionStateBuilderSpark;
use parking_lot::RwLock;
use tereza_runtime::{Error, Result};

use crate::catalogs::{self, Catalogs};
use crate::cluster::TerezaOptions;
use crate::dynamic_filter::with_dynamic_filters;
use crate::engine::Engine;
use crate::error::from_datafusion;
use crate::filter_order::FilterOrder;
use crate::flink;
use crate::jobs::{JobStep, StreamJob};
use crate::join_order::JoinOrder;
use crate::query::{SessionDefaults, SessionId};
use crate::shared_plan::{SharingPlanner, ShowShared};
use crate::spillable_joins::SpillableJoins;

/// The catalog of the user's tables, and the session's default.
pub(crate) const USER_CATALOG: &str = "tereza";
/// The schema that always exists in it.
pub(crate) const DEFAULT_SCHEMA: &str = "default";

/// At most one part in so many of a partition's part of the memory budget is set aside by one sort.
const SORT_RESERVATIONS: usize = 8;

/// With a small budget batches are smaller than set, so that each partition can hold so many of rows of this size: operators
/// that are out of memory still need room for the batch that they are given.
const BATCHES_PER_PART: usize = 64;
const ROW_BYTES: usize = 128;
const BATCH_SIZE_ROWS_MIN: usize = 256;
/// The smaller side of a join is hashed once for all partitions, by one thread, if it is expected to have no more bytes than this, or
/// rows where bytes are not known, for each of so many partitions: with few of them that takes less time than it takes to hash and copy
/// the rows of the other side for partitions of their own. DataFusion's bounds (1 MB, 128 thousand rows) are for many.
const HASHED_ONCE_BYTES: usize = 256 << 20;
const HASHED_ONCE_ROWS: usize = 16_000_000;

/// Rows of a batch where joins sort and spill: many spilled runs are merged at once, with some batches of each.
const SPILLING_BATCH_SIZE_ROWS: usize = 2_048;

/// The step of a job that a session is at, kept in its configuration, where every planner finds it.
struct CurrentStep(Option<JobStep>);

/// The step of a job that the commit of this session's statement is.
pub(crate) fn current_step(config: &SessionConfig) -> Option<JobStep> {
    config.get_extension::<CurrentStep>()?.0.clone()
}

/// One user's session.
pub(crate) struct Session {
    pub(crate) id: SessionId,
    pub(crate) user: String,
    pub(crate) engine: Arc<Engine>,
    /// The DataFusion session: its configuration holds the current catalog and schema.
    pub(crate) context: SessionContext,
    catalogs: Arc<Catalogs>,
    /// Flink's settings, for stream jobs.
    stream_settings: RwLock<BTreeMap<String, String>>,
}

impl Session {
    /// Opens a session with its own `memory` catalog.
    pub(crate) async fn open(
        engine: Arc<Engine>,
        id: SessionId,
        user: &str,
        defaults: SessionDefaults,
    ) -> Result<Arc<Self>> {
        let catalogs = Arc::new(Catalogs::new(&engine));
        let context = SessionContext::new_with_state(state(&engine, &id, Arc::clone(&catalogs)));
        catalogs.attach(context.state_weak_ref());
        let stream_settings = RwLock::default();
        let session = Arc::new(Self { id, user: user.to_string(), engine, context, catalogs, stream_settings });
        let catalog = defaults.catalog.unwrap_or_else(|| USER_CATALOG.to_string());
        let schema = defaults.schema.unwrap_or_else(|| catalogs::first_schema(&catalog).to_string());
        session.set_current(&catalog, &schema).await?;
        Ok(session)
    }

    /// The catalog of unqualified names.
    pub(crate) fn catalog(&self) -> String {
        self.context.state_ref().read().config_options().catalog.default_catalog.clone()
    }

    /// The schema of unqualified names.
    pub(crate) fn schema(&self) -> String {
        self.context.state_ref().read().config_options().catalog.default_schema.clone()
    }

    /// The state to plan one statement with: a copy that later changes of the session do not reach.
    pub(crate) fn state(&self) -> SessionState {
        self.context.state()
    }

    /// Says which step of a job the next statements are, so that their commit is that step.
    pub(crate) fn set_step(&self, step: Option<JobStep>) {
        self.context.state_ref().write().config_mut().set_extension(Arc::new(CurrentStep(step)));
    }

    /// Makes unqualified names mean `catalog.schema`; both must exist.
    pub(crate) async fn set_current(&self, catalog: &str, schema: &str) -> Result<()> {
        if !self.catalogs.has_schema(catalog, schema).await? {
            let known = self.catalogs.names();
            return Err(if known.iter().any(|name| name == catalog) {
                Error::not_found(format!("schema '{catalog}.{schema}' does not exist"))
            } else {
                Error::not_found(format!("catalog '{catalog}' does not exist"))
                    .with_hint(format!("there are {}", known.join(", ")))
            });
        }
        let state = self.context.state_ref();
        let mut state = state.write();
        let options = state.config_mut().options_mut();
        options.catalog.default_catalog = catalog.to_string();
        options.catalog.default_schema = schema.to_string();
        Ok(())
    }

    /// The words and functions of statements: `datafusion`, or `spark` or `flink` for those of Spark or Flink in place of
    /// DataFusion's of the same names. A session that speaks one of these stays with it, since its functions replaced others.
    pub(crate) fn set_dialect(&self, name: &str) -> Result<()> {
        let state = self.context.state_ref();
        let mut state = state.write();
        let now = if state.config_options().sql_parser.dialect == Dialect::Spark {
            "spark"
        } else if flink::is_spoken(state.config()) {
            "flink"
        } else {
            "datafusion"
        };
        match (now, name.to_ascii_lowercase().as_str()) {
            (now, name) if now == name => Ok(()),
            ("datafusion", "flink") => {
                *state = flink::speaking(&state);
                Ok(())
            }
            ("datafusion", "spark") => {
                let mut spark = SessionStateBuilder::new_from_existing(state.clone()).with_spark_features().build();
                spark.config_mut().options_mut().sql_parser.dialect = Dialect::Spark;
                *state = spark;
                Ok(())
            }
            (now, "datafusion" | "spark" | "flink") => {
                Err(Error::unsupported(format!("going back from the functions of {now}"))
                    .with_hint("open a new session"))
            }
            (_, other) => {
                let hint = "datafusion, spark or flink";
                Err(Error::invalid_input(format!("there is no dialect '{other}'")).with_hint(hint))
            }
        }
    }

    /// Loads the names of the user's catalog, which DataFusion's `information_schema` reads without waiting. To be called
    /// before a statement that mentions it is planned.
    pub(crate) async fn refresh_names(&self) -> Result<()> {
        self.catalogs.refresh_names().await
    }

    /// The columns of one table or view.
    pub(crate) async fn columns(&self, catalog: &str, schema: &str, table: &str) -> Result<SchemaRef> {
        let reference = TableReference::full(catalog, schema, table);
        let provider = self.context.table_provider(reference).await.map_err(from_datafusion)?;
        Ok(provider.schema())
    }

    /// Whether its functions are Spark's.
    pub(crate) fn speaks_spark(&self) -> bool {
        self.context.state_ref().read().config_options().sql_parser.dialect == Dialect::Spark
    }

    /// Flink's settings that have a value.
    pub(crate) fn stream_settings(&self) -> BTreeMap<String, String> {
        self.stream_settings.read().clone()
    }

    /// The value of one of Flink's settings, if it was set.
    pub(crate) fn stream_setting(&self, key: &str) -> Option<String> {
        self.stream_settings.read().get(key).cloned()
    }

    /// Keeps one of Flink's settings.
    pub(crate) fn set_stream_setting(&self, key: &str, value: &str) -> Result<()> {
        let mut settings = self.stream_settings.write();
        if settings.len() >= flink::SETTINGS_MAX && !settings.contains_key(key) {
            return Err(Error::resource_exhausted(format!("a session has at most {} settings", flink::SETTINGS_MAX)));
        }
        settings.insert(key.to_owned(), value.to_owned());
        Ok(())
    }

    /// Forgets one of Flink's settings, or all.
    pub(crate) fn reset_stream_settings(&self, key: Option<&str>) {
        let mut settings = self.stream_settings.write();
        match key {
            Some(key) => drop(settings.remove(key)),
            None => settings.clear(),
        }
    }

    /// Brings a new session to where the job of a stream was submitted.
    pub(crate) fn continue_stream(&self, job: &StreamJob) -> Result<()> {
        if job.dialect_flink {
            self.set_dialect("flink")?;
        }
        for (key, value) in &job.settings {
            self.set_stream_setting(key, value)?;
        }
        for (name, definition) in &job.tables {
            let mut parts = name.splitn(3, '.');
            let (Some(USER_CATALOG), Some(schema), Some(table)) = (parts.next(), parts.next(), parts.next()) else {
                return Err(Error::internal(format!("the job has a stream of the name '{name}'")));
            };
            self.catalogs.temporary_streams().add(schema, table, definition.clone())?;
        }
        Ok(())
    }

    /// All catalogs of the session.
    pub(crate) fn catalogs(&self) -> &Arc<Catalogs> {
        &self.catalogs
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("id", &self.id).field("user", &self.user).finish_non_exhaustive()
    }
}

/// What a session is configured with when it begins.
pub(crate) fn initial_config(engine: &Engine) -> SessionConfig {
    let partitions = engine.settings.partitions();
    let part_bytes = engine.memory_limit_bytes / partitions;
    let batch_size_rows = (part_bytes / BATCHES_PER_PART / ROW_BYTES).max(BATCH_SIZE_ROWS_MIN);
    let mut config = SessionConfig::new()
        .with_option_extension(TerezaOptions::default())
        .with_information_schema(true)
        .with_create_default_catalog_and_schema(false)
        .with_target_partitions(partitions)
        .with_batch_size(batch_size_rows.min(engine.settings.batch_size_rows))
        // A file for each batch that an exchange spills: with two open files of several batches its reader can wait for
        // one while what it needs is in the other, for ever (DataFusion's issue 24883, mended after 55.2).
        .set_usize("datafusion.execution.max_spill_file_size_bytes", 1);
    let options = config.options_mut();
    options.sql_parser.collect_spans = true;
    // A literal price is a price: as a float it would not equal the column that it was copied from.
    options.sql_parser.parse_float_as_decimal = true;
    options.execution.sort_spill_reservation_bytes = sort_reservation_bytes(engine, engine.memory_limit_bytes);
    options.optimizer.hash_join_single_partition_threshold = HASHED_ONCE_BYTES / partitions;
    options.optimizer.hash_join_single_partition_threshold_rows = HASHED_ONCE_ROWS / partitions;
    config
}

/// What every sort sets aside for merging its spilled runs: DataFusion's 10 MB for each partition would be all of a small budget,
/// and a sort that could spill would be refused.
pub(crate) fn sort_reservation_bytes(engine: &Engine, limit_bytes: usize) -> usize {
    let share = limit_bytes / engine.settings.partitions() / SORT_RESERVATIONS;
    share.min(ConfigOptions::default().execution.sort_spill_reservation_bytes)
}

fn state(engine: &Arc<Engine>, id: &SessionId, catalogs: Arc<Catalogs>) -> SessionState {
    SessionStateBuilder::new()
        .with_session_id(id.0.clone())
        .with_config(initial_config(engine))
        .with_runtime_env(Arc::clone(&engine.runtime))
        .with_default_features()
        .with_physical_optimizer_rules(rules(None))
        .with_query_planner(Arc::new(SharingPlanner))
        .with_catalog_list(catalogs)
        .build()
}

/// DataFusion's rules and those of the engine.
fn rules(spillable_joins: Option<SpillableJoins>) -> Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> {
    let mut rules: Vec<Arc<dyn PhysicalOptimizerRule + Send + Sync>> = vec![Arc::new(JoinOrder)];
    if let Some(spillable_joins) = spillable_joins {
        rules.push(Arc::new(spillable_joins));
    }
    rules.extend(with_dynamic_filters(PhysicalOptimizer::new().rules));
    rules.push(Arc::new(FilterOrder));
    rules.push(Arc::new(ShowShared));
    rules
}

/// `state` to plan a statement with whose hash tables did not fit: joins of two sides that are both larger than
/// `hashed_bytes_max` spill.
pub(crate) fn with_spillable_joins(state: &SessionState, hashed_bytes_max: usize) -> SessionState {
    let batch_size_rows = state.config().batch_size().min(SPILLING_BATCH_SIZE_ROWS);
    SessionStateBuilder::new_from_existing(state.clone())
        .with_config(state.config().clone().with_batch_size(batch_size_rows))
        .with_physical_optimizer_rules(rules(Some(SpillableJoins { hashed_bytes_max })))
        .build()
}
