//! The job of a stream: what is kept of its statement, and its end.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use tereza_runtime::{Error, Result};

use super::insert::Planned as PlannedInsert;
use crate::flink::{Sink, StreamInsert};
use crate::jobs::{Detail, JobStep, STREAM, StreamJob};
use crate::session::current_step;
use crate::statement::{Planned, Planner, text_rows, text_schema};

/// The setting that names a job.
const NAME: &str = "pipeline.name";

/// Submits the INSERTs of a statement as one job, once they are known to be able to run. The result is its id.
pub(in crate::statement) async fn submit(planner: &Planner<'_>, inserts: Vec<PlannedInsert>) -> Result<Planned> {
    let session = Arc::clone(planner.session);
    let settings = session.stream_settings();
    let stream = stream_job(planner, &inserts, settings.clone());
    checked(planner, inserts, &settings).await?;
    let detail = Detail {
        catalog: session.catalog(),
        schema: session.schema(),
        statements: 1,
        stream: Some(stream),
        ..Detail::default()
    };
    let id = current_step(session.context.state().config()).map(id_of);
    let (name, text) = (settings.get(NAME).cloned(), planner.text.sql.clone());
    let schema = Arc::new(Schema::new(vec![Field::new("job_id", DataType::Utf8, false)]));
    let row = Arc::clone(&schema);
    Ok(Planned::rows(schema, async move {
        let id = session.engine.jobs.submit_stream(&session.user, id, name, text, detail).await?;
        RecordBatch::try_new(row, vec![Arc::new(StringArray::from(vec![id]))])
            .map_err(|error| Error::internal(format!("an id is not a row: {error}")))
    }))
}

/// The operators of the job that the INSERTs would be.
pub(in crate::statement) async fn explain(planner: &Planner<'_>, inserts: Vec<PlannedInsert>) -> Result<Planned> {
    let plan = checked(planner, inserts, &planner.session.stream_settings()).await?;
    let schema = text_schema(&["plan_type", "plan"]);
    let batch = text_rows(&schema, &[vec![Some("stream_plan".to_owned()), Some(plan)]]);
    Ok(Planned::rows(schema, async move { batch }))
}

async fn checked(
    planner: &Planner<'_>,
    inserts: Vec<PlannedInsert>,
    settings: &BTreeMap<String, String>,
) -> Result<String> {
    let Some(streams) = planner.session.engine.streams() else {
        return Err(Error::unsupported("the job of a stream in this process").with_hint("a server runs stream jobs"));
    };
    let inserts: Vec<StreamInsert> = inserts.into_iter().map(|planned| planned.insert).collect();
    streams.check(&inserts, settings).await
}

/// What planning the text again needs.
fn stream_job(planner: &Planner<'_>, inserts: &[PlannedInsert], settings: BTreeMap<String, String>) -> StreamJob {
    let mut job = StreamJob { settings, dialect_flink: planner.text.scope.is_flink, ..StreamJob::default() };
    for PlannedInsert { insert, sources } in inserts {
        let sink = insert.sink.name();
        if !job.sinks.contains(&sink) {
            job.sinks.push(sink);
        }
        if let Sink::Stream(stream) = &insert.sink {
            job.tables.insert(stream.name().to_owned(), stream.kept().clone());
        }
        for source in sources {
            if !job.sources.iter().any(|known| known == source.name()) {
                job.sources.push(source.name().to_owned());
            }
            job.tables.insert(source.name().to_owned(), source.kept().clone());
        }
    }
    job
}

/// The id of the job that a statement of a job submits: the same when the statement runs again.
fn id_of(step: JobStep) -> String {
    format!("{}-{}", step.job, step.step + 1)
}

/// The query of `SHOW JOBS` and `DESCRIBE JOB`.
pub(super) fn jobs(id: Option<&str>) -> String {
    let only = id.map(|id| format!(" AND job_id = '{}'", id.replace('\'', "''"))).unwrap_or_default();
    format!(
        "SELECT job_id, name AS job_name, state AS status, created AS start_time FROM system.runtime.jobs \
         WHERE kind = '{STREAM}'{only} ORDER BY created DESC, job_id DESC"
    )
}

/// `STOP JOB`
pub(super) fn stop(planner: &Planner<'_>, id: String, drain: bool) -> Planned {
    let session = Arc::clone(planner.session);
    Planned::command(async move { session.engine.jobs.stop(&id, &session.user, drain).await })
}
