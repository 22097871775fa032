//! One change of a table through the commit journal, and finishing what earlier ones left.

use tereza_catalog::store::{Commit, Write};
use tereza_runtime::{Error, ErrorKind, Result, ids};

use crate::session::{Session, current_step};
use crate::write::finish_pending;

/// Makes one change of a table in one transaction, if it still has `version`: `fill` says what. Files that it removes
/// are gone for readers from then on.
pub(in crate::statement) async fn change(
    session: &Session,
    database: &str,
    table: &str,
    version: i64,
    fill: impl FnOnce(&mut Commit),
) -> Result<()> {
    let engine = &session.engine;
    let mut commit = Commit {
        expected_version: Some(version),
        step: current_step(session.state().config()),
        ..Commit::bare(ids::new_id(), database, table)
    };
    fill(&mut commit);
    let write = Write {
        id: commit.id.clone(),
        database: database.into(),
        table: table.into(),
        owner: engine.process_id.clone(),
        began_ms: engine.clock.unix_ms(),
        staged: Vec::new(),
    };
    engine.catalog.begin_write(&write).await?;
    match engine.catalog.commit(&commit).await {
        Ok(version) => commit.version = version,
        Err(error) => {
            engine.catalog.end_write(&write.id).await?;
            return Err(match error.kind() {
                ErrorKind::Conflict => Error::conflict(format!("table {database}.{table} was changed meanwhile"))
                    .with_hint("try again")
                    .with_source(error),
                _ => error,
            });
        }
    }
    // The change has happened. What is left may be repeated by anyone, so a failure of it is not the statement's.
    if let Err(error) = settle(session, std::slice::from_ref(&commit)).await {
        tracing::warn!(commit = commit.id, %error, "a commit is not rolled forward yet");
    }
    Ok(())
}

/// Finishes the commits of a table that are not rolled forward yet, so that its folder holds what the table holds.
pub(in crate::statement) async fn settle(session: &Session, pending: &[Commit]) -> Result<()> {
    finish_pending(&session.engine, pending).await
}
