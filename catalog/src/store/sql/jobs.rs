//! Jobs: `TZ_JOBS`.

use sqlx::{query, query_as, query_scalar};
use tereza_runtime::{Error, Result as PublicResult};

use super::{Connection, Result};
use crate::model::Job;
use crate::store::names;

/// The states of a job that is not done, and of one that is.
const LIVE: [&str; 2] = ["queued", "running"];
const DONE: [&str; 3] = ["succeeded", "failed", "cancelled"];

type Row = (String, Option<String>, String, String, String, String, i32, String, i64, i64, i64);

macro_rules! select_jobs {
    ($tail:literal) => {
        concat!(
            "SELECT JOB_ID, NAME, KIND, STATE, USER_NAME, JOB_TEXT, ATTEMPTS, DETAIL, CREATED_MS, UPDATED_MS, VERSION ",
            "FROM TZ_JOBS ",
            $tail
        )
    };
}

/// Keeps a new job.
pub(crate) async fn create(conn: &mut Connection, job: &Job, now_ms: i64) -> Result<()> {
    check(job)?;
    let taken: Option<i64> =
        query_scalar("SELECT 1 FROM TZ_JOBS WHERE JOB_ID = ?").bind(&job.id).fetch_optional(&mut *conn).await?;
    if taken.is_some() {
        return Err(Error::already_exists(format!("job '{}' already exists", job.id)).into());
    }
    refuse_taken_name(conn, job).await?;
    query(
        "INSERT INTO TZ_JOBS (JOB_ID, NAME, KIND, STATE, USER_NAME, JOB_TEXT, ATTEMPTS, DETAIL, CREATED_MS, UPDATED_MS, VERSION) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )
    .bind(&job.id)
    .bind(&job.name)
    .bind(&job.kind)
    .bind(&job.state)
    .bind(&job.user)
    .bind(&job.text)
    .bind(job.attempts)
    .bind(&job.detail)
    .bind(job.created_ms)
    .bind(now_ms)
    .bind(job.version)
    .execute(conn)
    .await?;
    Ok(())
}

/// One job by id, or by the name of a live job.
pub(crate) async fn load(conn: &mut Connection, id_or_name: &str) -> Result<Job> {
    let by_id = query_as(select_jobs!("WHERE JOB_ID = ?")).bind(id_or_name).fetch_optional(&mut *conn).await?;
    let row: Option<Row> = match by_id {
        Some(row) => Some(row),
        None => {
            query_as(select_jobs!("WHERE NAME = ? AND STATE IN (?, ?)"))
                .bind(id_or_name)
                .bind(LIVE[0])
                .bind(LIVE[1])
                .fetch_optional(conn)
                .await?
        }
    };
    row.map(job).ok_or_else(|| Error::not_found(format!("job '{id_or_name}' does not exist")).into())
}

/// The newest jobs first, optionally of one state.
pub(crate) async fn list(conn: &mut Connection, state: Option<&str>, limit: usize) -> Result<Vec<Job>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows: Vec<Row> = match state {
        Some(state) => {
            query_as(select_jobs!("WHERE STATE = ? ORDER BY CREATED_MS DESC, JOB_ID DESC LIMIT ?"))
                .bind(state)
                .bind(limit)
                .fetch_all(conn)
                .await?
        }
        None => {
            query_as(select_jobs!("ORDER BY CREATED_MS DESC, JOB_ID DESC LIMIT ?")).bind(limit).fetch_all(conn).await?
        }
    };
    Ok(rows.into_iter().map(job).collect())
}

/// Replaces a job if its version is still the one that the caller read; returns the new version.
pub(crate) async fn update(conn: &mut Connection, job: &Job, now_ms: i64) -> Result<i64> {
    check(job)?;
    let found: Option<i64> =
        query_scalar("SELECT VERSION FROM TZ_JOBS WHERE JOB_ID = ?").bind(&job.id).fetch_optional(&mut *conn).await?;
    let Some(found) = found else { return Err(Error::not_found(format!("job '{}' does not exist", job.id)).into()) };
    if found != job.version {
        let message =
            format!("job '{}' was changed meanwhile: expected version {}, found {found}", job.id, job.version);
        return Err(Error::conflict(message).with_hint("read it again and retry").into());
    }
    refuse_taken_name(conn, job).await?;
    query(
        "UPDATE TZ_JOBS SET NAME = ?, KIND = ?, STATE = ?, USER_NAME = ?, JOB_TEXT = ?, ATTEMPTS = ?, DETAIL = ?, CREATED_MS = ?, \
         UPDATED_MS = ?, VERSION = ? WHERE JOB_ID = ?",
    )
    .bind(&job.name)
    .bind(&job.kind)
    .bind(&job.state)
    .bind(&job.user)
    .bind(&job.text)
    .bind(job.attempts)
    .bind(&job.detail)
    .bind(job.created_ms)
    .bind(now_ms)
    .bind(found + 1)
    .bind(&job.id)
    .execute(conn)
    .await?;
    Ok(found + 1)
}

/// `AlreadyExists` if another live job has the name of this live job.
async fn refuse_taken_name(conn: &mut Connection, job: &Job) -> Result<()> {
    let Some(name) = job.name.as_ref().filter(|_| LIVE.contains(&job.state.as_str())) else { return Ok(()) };
    let other: Option<String> =
        query_scalar("SELECT JOB_ID FROM TZ_JOBS WHERE NAME = ? AND STATE IN (?, ?) AND JOB_ID <> ?")
            .bind(name)
            .bind(LIVE[0])
            .bind(LIVE[1])
            .bind(&job.id)
            .fetch_optional(conn)
            .await?;
    match other {
        None => Ok(()),
        Some(other) => {
            Err(Error::already_exists(format!("job '{other}' is live and has the name '{name}' already")).into())
        }
    }
}

fn check(job: &Job) -> PublicResult<()> {
    if job.id.is_empty() {
        return Err(Error::invalid_input("a job needs an id"));
    }
    names::check_chars("the id of a job", &job.id, names::ID_CHARS)?;
    names::check_optional_chars("the name of a job", job.name.as_ref(), names::OWNER_CHARS)?;
    names::check_chars("the user of a job", &job.user, names::OWNER_CHARS)?;
    if !LIVE.iter().chain(&DONE).any(|state| *state == job.state) {
        let message =
            format!("'{}' is no state of a job: it is one of {}, {}", job.state, LIVE.join(", "), DONE.join(", "));
        return Err(Error::invalid_input(message));
    }
    Ok(())
}

fn job(row: Row) -> Job {
    let (id, name, kind, state, user, text, attempts, detail, created_ms, updated_ms, version) = row;
    Job { id, name, kind, state, user, text, attempts, detail, created_ms, updated_ms, version }
}
