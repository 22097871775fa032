//! Statements about the session: USE, SET and RESET, KILL, EXECUTE IMMEDIATE, and what takes the place of transactions.

use std::sync::Arc;

use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::runtime_env::RuntimeEnv;
use datafusion::logical_expr::{LogicalPlan, ResetVariable, SetVariable, Statement as PlanStatement};
use datafusion::prelude::SessionContext;
use tereza_runtime::settings::size_bytes;
use tereza_runtime::{Error, Result};

use super::parse::{Reader, SchemaName};
use super::{Planned, Planner};
use super::{ddl, errors};
use crate::catalogs::first_schema;
use crate::cluster::{MEMORY_LIMIT_BYTES, MODE, Mode, TerezaOptions};
use crate::error::from_datafusion;
use crate::flink;
use crate::memory_pool::capped::{MEMORY_LIMIT, with_limit};
use crate::query::QueryId;
use crate::session::{Session, initial_config, sort_reservation_bytes};

/// Settings of DataFusion's below this prefix are the process's, but for the memory limit, which a session may lower for itself.
const RUNTIME_PREFIX: &str = "datafusion.runtime.";

/// Whose functions a session speaks.
const DIALECT: &str = "tereza.dialect";

/// Settings whose greatest values would harm the whole process, with the greatest that is taken.
const GREATEST: [(&str, u64); 3] = [
    ("datafusion.execution.batch_size", 1 << 20),
    ("datafusion.execution.target_partitions", 1024),
    ("datafusion.sql_parser.recursion_limit", 512),
];

/// A statement about the session.
pub(super) enum SessionStatement {
    /// `USE schema` or `USE catalog.schema`; one name may be a catalog's too.
    Use(Vec<String>),
    /// `USE CATALOG name`
    UseCatalog(String),
    /// `RESET SESSION key`
    Reset(String),
    /// `KILL [QUERY] id`
    Kill(QueryId),
    /// `EXECUTE IMMEDIATE 'statement'`
    Immediate(String),
}

/// Reads a statement about the session; `None` if it is DataFusion's.
pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Option<SessionStatement>> {
    if let Some(words) = reader.take_one(&["BEGIN", "START TRANSACTION", "COMMIT", "ROLLBACK", "SAVEPOINT", "ABORT"]) {
        return Err(Error::unsupported(format!("{words}: there are no transactions over several statements"))
            .with_hint("each statement commits by itself, whole or not at all"));
    }
    let statement =
        match reader.take_one(&["USE CATALOG", "USE SCHEMA", "USE DATABASE", "USE", "RESET SESSION", "KILL"]) {
            Some("USE CATALOG") => SessionStatement::UseCatalog(reader.identifier()?),
            Some("RESET SESSION") => SessionStatement::Reset(ddl::key(reader)?.to_lowercase()),
            Some("KILL") => {
                reader.take("QUERY");
                SessionStatement::Kill(QueryId(reader.text()?))
            }
            Some(_) => SessionStatement::Use(reader.parts()?),
            None if reader.take("EXECUTE IMMEDIATE") => {
                let sql = reader.text()?;
                if reader.at("USING") {
                    return Err(reader
                        .refuse(Error::unsupported("EXECUTE IMMEDIATE … USING"))
                        .with_hint("write the values into the statement, or use PREPARE and EXECUTE"));
                }
                SessionStatement::Immediate(sql)
            }
            None => return Ok(None),
        };
    Ok(Some(statement))
}

impl SessionStatement {
    pub(super) async fn plan(self, planner: &Planner<'_>) -> Result<Planned> {
        let session = Arc::clone(planner.session);
        Ok(match self {
            Self::Use(parts) => {
                let target = target(&session, planner, parts).await?;
                Planned::command(async move { session.set_current(&target.catalog, &target.schema).await })
            }
            Self::UseCatalog(catalog) => Planned::command(async move { use_catalog(&session, &catalog).await }),
            Self::Reset(key) => Planned::command(async move { reset(&session, &key).await }),
            Self::Kill(query) => Planned::command(async move { session.engine.queries.cancel(&query, &session.user) }),
            Self::Immediate(sql) => return Box::pin(super::plan(planner.session, &sql, planner.parameters)).await,
        })
    }
}

/// What USE with one or two names means: a schema of the current catalog first, a catalog second.
async fn target(session: &Session, planner: &Planner<'_>, parts: Vec<String>) -> Result<SchemaName> {
    let name = planner.text.scope.schema(parts.clone())?;
    let schemas = errors::schema_names(session, &name.catalog).await?;
    if schemas.is_some_and(|schemas| schemas.contains(&name.schema)) {
        return Ok(name);
    }
    match parts.as_slice() {
        [catalog] if session.context.catalog(catalog).is_some() => {
            Ok(SchemaName { catalog: catalog.into(), schema: first_schema(catalog).into() })
        }
        _ => Err(errors::missing_schema(session, &name).await),
    }
}

async fn use_catalog(session: &Session, catalog: &str) -> Result<()> {
    if session.context.catalog(catalog).is_none() {
        return Err(errors::missing_catalog(session, catalog));
    }
    let target = SchemaName { catalog: catalog.into(), schema: first_schema(catalog).into() };
    session.set_current(&target.catalog, &target.schema).await
}

/// Sets an option of the session, as `SET key = value` does; `catalog` and `schema` are the current ones.
pub(crate) async fn set_option(session: &Session, key: &str, value: &str) -> Result<()> {
    set(session, &key.to_lowercase(), value).await
}

pub(super) async fn set(session: &Session, key: &str, value: &str) -> Result<()> {
    match key {
        "catalog" => return use_catalog(session, value).await,
        "schema" | "search_path" => {
            let name = SchemaName { catalog: session.catalog(), schema: value.into() };
            let schemas = errors::schema_names(session, &name.catalog).await?;
            if !schemas.is_some_and(|schemas| schemas.contains(&name.schema)) {
                return Err(errors::missing_schema(session, &name).await);
            }
            return session.set_current(&name.catalog, &name.schema).await;
        }
        DIALECT => return session.set_dialect(value),
        MODE => drop(value.parse::<Mode>()?),
        MEMORY_LIMIT => return set_memory_limit(session, value),
        MEMORY_LIMIT_BYTES => return Err(of_the_limit()),
        _ if key.starts_with(RUNTIME_PREFIX) => return Err(of_the_process(key)),
        _ if flink::is_setting(key) => return session.set_stream_setting(key, value),
        _ => {}
    }
    if let Some((_, greatest)) = GREATEST.iter().find(|(known, _)| *known == key)
        && value.parse::<u64>().is_ok_and(|value| value > *greatest)
    {
        return Err(Error::invalid_input(format!("{value} is more than {key} may be, {greatest}")));
    }
    set_datafusion(session, key, value).await
}

async fn set_datafusion(session: &Session, key: &str, value: &str) -> Result<()> {
    let plan = PlanStatement::SetVariable(SetVariable { variable: key.into(), value: value.into() });
    match session.context.execute_logical_plan(LogicalPlan::Statement(plan)).await {
        Ok(_) => Ok(()),
        Err(error) => Err(refused(session, key, error)),
    }
}

pub(super) async fn reset(session: &Session, key: &str) -> Result<()> {
    match key {
        MEMORY_LIMIT => {
            replace_runtime(session, Arc::clone(&session.engine.runtime), None);
            return Ok(());
        }
        MEMORY_LIMIT_BYTES => return Err(of_the_limit()),
        // DataFusion resets only what is its own.
        MODE => return set_datafusion(session, MODE, Mode::default().as_str()).await,
        // Nobody can have set them.
        _ if key.starts_with(RUNTIME_PREFIX) => return Err(of_the_process(key)),
        _ if flink::is_setting(key) => {
            session.reset_stream_settings(Some(key));
            return Ok(());
        }
        _ => {}
    }
    let plan = PlanStatement::ResetVariable(ResetVariable { variable: key.into() });
    if let Err(error) = session.context.execute_logical_plan(LogicalPlan::Statement(plan)).await {
        return Err(refused(session, key, error));
    }
    // Where the server has a setting of its own, that is what a session began with.
    let initial = initial_config(&session.engine).options().entries();
    match initial.into_iter().find(|entry| entry.key == key).and_then(|entry| entry.value) {
        Some(value) => set_datafusion(session, key, &value).await,
        None => Ok(()),
    }
}

fn of_the_process(key: &str) -> Error {
    Error::denied(format!("{key} is a bound of the whole process")).with_hint("set it in the settings of the server")
}

fn of_the_limit() -> Error {
    Error::denied(format!("{MEMORY_LIMIT_BYTES} follows from {MEMORY_LIMIT}"))
        .with_hint(format!("SET {MEMORY_LIMIT}, as in '2GB'"))
}

/// The error for a key that is not known, or for a value that its key does not take.
fn refused(session: &Session, key: &str, error: DataFusionError) -> Error {
    if known_settings(session).iter().any(|known| known == key) {
        let message = error.strip_backtrace();
        return Error::invalid_input(format!("'{key}' does not take this value: {message}")).with_source(error);
    }
    unknown_setting(session, key)
}

fn known_settings(session: &Session) -> Vec<String> {
    let state = session.context.state();
    let mut known: Vec<String> = state.config_options().entries().into_iter().map(|entry| entry.key).collect();
    known.extend(["catalog", "schema", DIALECT, MEMORY_LIMIT].map(str::to_owned));
    known
}

/// The error for a setting that is not known, with the nearest one.
pub(super) fn unknown_setting(session: &Session, key: &str) -> Error {
    let known = known_settings(session);
    let error = Error::invalid_input(format!("setting '{key}' is not known"));
    match errors::nearest(key, known.iter().map(String::as_str)).or_else(|| suffix_of(&known, key)) {
        Some(near) => error.with_hint(format!("did you mean '{near}'?")),
        None => error.with_hint("SHOW ALL lists the settings"),
    }
}

/// A known key that ends in this one: `batch_size` is what `datafusion.execution.batch_size` is often called.
fn suffix_of<'a>(known: &'a [String], key: &str) -> Option<&'a str> {
    known.iter().find(|known| known.rsplit('.').next() == key.rsplit('.').next()).map(String::as_str)
}

/// Bytes of a limit: in the units of the settings (`2GB`, `512MiB`), or in those of DataFusion (`2G`).
pub(crate) fn memory_limit_bytes(text: &str) -> Result<usize> {
    match size_bytes(text) {
        Some(bytes) => Ok(usize::try_from(bytes).unwrap_or(usize::MAX)),
        None => SessionContext::parse_capacity_limit(MEMORY_LIMIT, text).map_err(from_datafusion),
    }
}

/// Lowers what the session's operators may hold. It still counts against the process's budget.
fn set_memory_limit(session: &Session, value: &str) -> Result<()> {
    let limit_bytes = memory_limit_bytes(value)?;
    let greatest = session.engine.memory_limit_bytes;
    if limit_bytes > greatest {
        return Err(Error::denied(format!(
            "{MEMORY_LIMIT} of {value} is more than the process may use, {greatest} bytes"
        ))
        .with_hint("a session can lower its limit; the process's is in the settings of the server"));
    }
    let runtime = with_limit(&session.engine.runtime, limit_bytes).map_err(from_datafusion)?;
    replace_runtime(session, runtime, Some(limit_bytes));
    Ok(())
}

fn replace_runtime(session: &Session, runtime: Arc<RuntimeEnv>, limit_bytes: Option<usize>) {
    let state = session.context.state_ref();
    let mut state = state.write();
    let mut config = state.config().clone();
    if let Some(own) = config.options_mut().extensions.get_mut::<TerezaOptions>() {
        own.memory_limit_bytes = limit_bytes;
    }
    let reserved = sort_reservation_bytes(&session.engine, limit_bytes.unwrap_or(session.engine.memory_limit_bytes));
    config.options_mut().execution.sort_spill_reservation_bytes = reserved;
    *state = SessionStateBuilder::from(state.clone()).with_config(config).with_runtime_env(runtime).build();
}

#[cfg(test)]
mod tests {
    use super::super::parse::{Own, Parsed, Text, tests::scope};
    use super::*;

    fn statement(sql: &str) -> Result<Option<SessionStatement>> {
        Ok(match Text::new(sql, scope())?.parse()? {
            Parsed::Own(Own::Session(statement)) => Some(statement),
            _ => None,
        })
    }

    #[test]
    fn a_query_is_killed_by_its_id() {
        for sql in ["kill query 'abc'", "kill 'abc'"] {
            assert!(matches!(statement(sql), Ok(Some(SessionStatement::Kill(QueryId(id)))) if id == "abc"), "{sql}");
        }
    }

    #[test]
    fn transactions_are_refused() {
        for sql in ["begin", "start transaction", "commit", "rollback"] {
            let error = statement(sql).err().expect("is refused");
            assert_eq!(error.kind(), tereza_runtime::ErrorKind::Unsupported, "{sql}");
        }
    }
}
