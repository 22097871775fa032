//! Jobs: `TZ_JOBS`.

use sqlx::{query, query_as, query_scalar};
use tereza_runtime::{Error, Result as PublicResult};

use super::super::dialect::for_update;
use super::{Connection, Db, Result};
use crate::model::Job;
use crate::store::{JobStep, names};

/// The states of a job that is not done, and of one that is.
const QUEUED: &str = "queued";
const RUNNING: &str = "running";
const LIVE: [&str; 2] = [QUEUED, RUNNING];
const DONE: [&str; 3] = ["succeeded", "failed", "cancelled"];
/// The kind of jobs that leave something behind until their step is 1.
const STREAM: &str = "stream";

/// What every method here binds and reads, in this order; then come the version, and the id.
macro_rules! columns {
    () => {
        "NAME, PRIORITY, KIND, STATE, USER_NAME, JOB_TEXT, ATTEMPTS, OWNER, STEP, DETAIL, CREATED_MS, UPDATED_MS, VERSION, JOB_ID"
    };
}

macro_rules! select_jobs {
    ($tail:literal) => {
        concat!("SELECT ", columns!(), " FROM TZ_JOBS ", $tail)
    };
}

type Row =
    (Option<String>, i32, String, String, String, String, i32, Option<String>, i32, String, i64, i64, i64, String);

/// Keeps a new job.
pub(crate) async fn create(conn: &mut Connection, job: &Job, now_ms: i64) -> Result<()> {
    check(job)?;
    let taken: Option<i64> =
        query_scalar("SELECT 1 FROM TZ_JOBS WHERE JOB_ID = ?").bind(&job.id).fetch_optional(&mut *conn).await?;
    if taken.is_some() {
        return Err(Error::already_exists(format!("job '{}' already exists", job.id)).into());
    }
    refuse_taken_name(conn, job).await?;
    let insert = concat!("INSERT INTO TZ_JOBS (", columns!(), ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)");
    bind(query(insert), job, now_ms).bind(job.version).bind(&job.id).execute(conn).await?;
    Ok(())
}

type Statement<'q> = sqlx::query::Query<'q, Db, <Db as sqlx::Database>::Arguments>;

/// Binds the columns in their order up to the version.
fn bind<'q>(statement: Statement<'q>, job: &'q Job, now_ms: i64) -> Statement<'q> {
    statement
        .bind(&job.name)
        .bind(job.priority)
        .bind(&job.kind)
        .bind(&job.state)
        .bind(&job.user)
        .bind(&job.text)
        .bind(job.attempts)
        .bind(&job.owner)
        .bind(job.step)
        .bind(&job.detail)
        .bind(job.created_ms)
        .bind(now_ms)
}

/// One job by id or name; of those of one name the live one, or else the newest.
pub(crate) async fn load(conn: &mut Connection, id_or_name: &str) -> Result<Job> {
    let by_id = query_as(select_jobs!("WHERE JOB_ID = ?")).bind(id_or_name).fetch_optional(&mut *conn).await?;
    let row: Option<Row> = match by_id {
        Some(row) => Some(row),
        None => {
            let by_name = select_jobs!(
                "WHERE NAME = ? \
                 ORDER BY CASE WHEN STATE IN (?, ?) THEN 0 ELSE 1 END, CREATED_MS DESC, JOB_ID DESC LIMIT 1"
            );
            query_as(by_name).bind(id_or_name).bind(LIVE[0]).bind(LIVE[1]).fetch_optional(conn).await?
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
    let select = for_update!("SELECT VERSION FROM TZ_JOBS WHERE JOB_ID = ?");
    let found: Option<i64> = query_scalar(select).bind(&job.id).fetch_optional(&mut *conn).await?;
    let Some(found) = found else { return Err(Error::not_found(format!("job '{}' does not exist", job.id)).into()) };
    if found != job.version {
        let message =
            format!("job '{}' was changed meanwhile: expected version {}, found {found}", job.id, job.version);
        return Err(Error::conflict(message).with_hint("read it again and retry").into());
    }
    refuse_taken_name(conn, job).await?;
    let update = "UPDATE TZ_JOBS SET NAME = ?, PRIORITY = ?, KIND = ?, STATE = ?, USER_NAME = ?, JOB_TEXT = ?, ATTEMPTS = ?, \
                  OWNER = ?, STEP = ?, DETAIL = ?, CREATED_MS = ?, UPDATED_MS = ?, VERSION = ? WHERE JOB_ID = ?";
    bind(query(update), job, now_ms).bind(found + 1).bind(&job.id).execute(conn).await?;
    Ok(found + 1)
}

/// How many jobs are in a state.
pub(crate) async fn count(conn: &mut Connection, state: &str) -> Result<u64> {
    let count: i64 = query_scalar("SELECT COUNT(*) FROM TZ_JOBS WHERE STATE = ?").bind(state).fetch_one(conn).await?;
    Ok(u64::try_from(count).unwrap_or_default())
}

/// The queued job of a kind that is next: of the greatest priority the oldest.
pub(crate) async fn next(conn: &mut Connection, kind: &str) -> Result<Option<Job>> {
    let next = select_jobs!("WHERE STATE = ? AND KIND = ? ORDER BY PRIORITY DESC, CREATED_MS, JOB_ID LIMIT 1");
    let row: Option<Row> = query_as(next).bind(QUEUED).bind(kind).fetch_optional(conn).await?;
    Ok(row.map(job))
}

/// Notes that a step of a job is done; `Conflict` unless it is the next one of the attempt that runs.
pub(crate) async fn do_step(conn: &mut Connection, step: &JobStep, now_ms: i64) -> Result<()> {
    let done = query(
        "UPDATE TZ_JOBS SET STEP = STEP + 1, VERSION = VERSION + 1, UPDATED_MS = ? \
         WHERE JOB_ID = ? AND STATE = ? AND ATTEMPTS = ? AND STEP = ?",
    )
    .bind(now_ms)
    .bind(&step.job)
    .bind(RUNNING)
    .bind(step.attempt)
    .bind(step.step)
    .execute(conn)
    .await?;
    match done.rows_affected() {
        1 => Ok(()),
        _ => Err(Error::conflict(format!(
            "attempt {} at job '{}' does not run any more, or its step {} is done already",
            step.attempt, step.job, step.step
        ))
        .into()),
    }
}

/// Jobs of a kind that are done and whose step is 0, those first that were changed longest ago.
pub(crate) async fn left(conn: &mut Connection, kind: &str, limit: usize) -> Result<Vec<Job>> {
    let left = select_jobs!("WHERE STATE NOT IN (?, ?) AND KIND = ? AND STEP = 0 ORDER BY UPDATED_MS, JOB_ID LIMIT ?");
    let rows: Vec<Row> = query_as(left)
        .bind(QUEUED)
        .bind(RUNNING)
        .bind(kind)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(conn)
        .await?;
    Ok(rows.into_iter().map(job).collect())
}

/// Forgets all jobs that are done but the `kept` that were the last to end, and those of streams whose step is 0.
pub(crate) async fn forget(conn: &mut Connection, kept: u64) -> Result<u64> {
    let old = "SELECT UPDATED_MS, JOB_ID FROM TZ_JOBS WHERE STATE NOT IN (?, ?) \
               ORDER BY UPDATED_MS DESC, JOB_ID DESC LIMIT 1 OFFSET ?";
    let newest_to_go: Option<(i64, String)> = query_as(old)
        .bind(QUEUED)
        .bind(RUNNING)
        .bind(i64::try_from(kept).unwrap_or(i64::MAX))
        .fetch_optional(&mut *conn)
        .await?;
    let Some((ended_ms, id)) = newest_to_go else { return Ok(0) };
    let delete = "DELETE FROM TZ_JOBS WHERE STATE NOT IN (?, ?) AND (KIND <> ? OR STEP <> 0) \
                  AND (UPDATED_MS < ? OR (UPDATED_MS = ? AND JOB_ID <= ?))";
    let deleted = query(delete)
        .bind(QUEUED)
        .bind(RUNNING)
        .bind(STREAM)
        .bind(ended_ms)
        .bind(ended_ms)
        .bind(id)
        .execute(conn)
        .await?;
    Ok(deleted.rows_affected())
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
    names::check_optional_chars("the owner of a job", job.owner.as_ref(), names::OWNER_CHARS)?;
    if !LIVE.iter().chain(&DONE).any(|state| *state == job.state) {
        let message =
            format!("'{}' is no state of a job: it is one of {}, {}", job.state, LIVE.join(", "), DONE.join(", "));
        return Err(Error::invalid_input(message));
    }
    Ok(())
}

fn job(row: Row) -> Job {
    let (name, priority, kind, state, user, text, attempts, owner, step, detail, created_ms, updated_ms, version, id) =
        row;
    Job { id, name, priority, kind, state, user, text, attempts, owner, step, detail, created_ms, updated_ms, version }
}
