//! CALL: the procedures of `system.runtime`, as Presto has them.

use std::num::NonZero;
use std::str::FromStr;
use std::sync::Arc;

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::sql::parser::Statement;
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use datafusion::sql::sqlparser::tokenizer::Token;
use tereza_runtime::{Error, Result};

use super::parse::{Own, Parsed, Reader, Scope, Text};
use super::session::SessionStatement;
use super::{Planned, Planner, errors, split};
use crate::catalogs::MEMORY_CATALOG;
use crate::jobs::{Detail, Submission, check_count};
use crate::query::QueryId;
use crate::session::Session;

/// The schema of the procedures.
const SCHEMA: &str = "system.runtime.";
/// Each procedure with its parameters in order.
const PROCEDURES: [(&str, &[&str]); 6] = [
    ("kill_query", &["query_id", "message"]),
    ("submit_job", &["text", "name", "into", "priority", "attempts_max", "timeout_ms", "memory_limit", "again"]),
    ("cancel_job", &["job_id"]),
    ("stop_job", &["job_id", "drain"]),
    ("rescale_job", &["job_id", "tasks"]),
    ("savepoint_job", &["job_id", "name", "stop"]),
];

/// `CALL system.runtime.procedure([parameter =>] value, …)`
pub(super) enum Call {
    KillQuery(QueryId),
    SubmitJob(Box<Submission>),
    CancelJob(String),
    StopJob { job: String, drain: bool },
    RescaleJob { job: String, tasks: NonZero<u32> },
    SavepointJob { job: String, name: Option<String>, stop: bool },
}

impl Call {
    /// Reads what follows `CALL`.
    pub(super) fn parse(reader: &mut Reader<'_>) -> Result<Self> {
        let name = reader.parts()?.join(".");
        let known = name.strip_prefix(SCHEMA).and_then(|name| PROCEDURES.iter().find(|(known, _)| *known == name));
        let Some((procedure, parameters)) = known else {
            let known: Vec<String> = PROCEDURES.iter().map(|(name, _)| format!("{SCHEMA}{name}")).collect();
            let error = Error::not_found(format!("procedure '{name}' not found"));
            return Err(errors::did_you_mean(error, &name, known.iter().map(String::as_str)));
        };
        let mut arguments = Arguments::read(reader, procedure, parameters)?;
        let call = match *procedure {
            // The message for the one who is killed has nowhere to go.
            "kill_query" => Self::KillQuery(QueryId(arguments.required("query_id")?)),
            "cancel_job" => Self::CancelJob(arguments.required("job_id")?),
            "stop_job" => Self::StopJob {
                job: arguments.required("job_id")?,
                drain: arguments.parsed("drain")?.unwrap_or_default(),
            },
            "rescale_job" => {
                let job = arguments.required("job_id")?;
                let tasks = arguments.parsed("tasks")?;
                let tasks = tasks.ok_or_else(|| Error::invalid_input("rescale_job needs tasks"))?;
                Self::RescaleJob { job, tasks }
            }
            "savepoint_job" => Self::SavepointJob {
                job: arguments.required("job_id")?,
                name: arguments.take("name"),
                stop: arguments.parsed("stop")?.unwrap_or_default(),
            },
            _ => Self::SubmitJob(Box::new(Submission {
                text: arguments.required("text")?,
                name: arguments.take("name"),
                into: arguments.take("into"),
                priority: arguments.parsed("priority")?.unwrap_or_default(),
                attempts_max: arguments.parsed("attempts_max")?,
                timeout_ms: arguments.parsed("timeout_ms")?,
                memory_limit: arguments.take("memory_limit"),
                again: arguments.parsed("again")?.unwrap_or_default(),
            })),
        };
        Ok(call)
    }

    /// Whether it may be done twice.
    pub(super) fn is_repeatable(&self) -> bool {
        match self {
            Self::KillQuery(_) | Self::CancelJob(_) | Self::StopJob { .. } | Self::RescaleJob { .. } => true,
            Self::SubmitJob(submission) => submission.name.is_some() && !submission.again,
            Self::SavepointJob { .. } => false,
        }
    }

    pub(super) fn plan(self, planner: &Planner<'_>) -> Result<Planned> {
        let session = Arc::clone(planner.session);
        Ok(match self {
            Self::KillQuery(query) => {
                Planned::command(async move { session.engine.queries.cancel(&query, &session.user) })
            }
            Self::CancelJob(job) => {
                Planned::command(async move { session.engine.jobs.cancel(&job, &session.user).await })
            }
            Self::StopJob { job, drain } => {
                Planned::command(async move { session.engine.jobs.stop(&job, &session.user, drain).await })
            }
            Self::RescaleJob { job, tasks } => {
                Planned::command(async move { session.engine.jobs.rescale(&job, &session.user, tasks).await })
            }
            Self::SavepointJob { job, name, stop } => savepoint(&session, job, name, stop),
            Self::SubmitJob(submission) => {
                let detail = check_text(&session, &planner.text.scope, &submission)?;
                let schema = Arc::new(Schema::new(vec![Field::new("job_id", DataType::Utf8, false)]));
                let row = Arc::clone(&schema);
                Planned::rows(schema, async move {
                    let id = session.engine.jobs.submit(&session.user, detail, *submission).await?;
                    RecordBatch::try_new(row, vec![Arc::new(StringArray::from(vec![id]))])
                        .map_err(|error| Error::internal(format!("an id is not a row: {error}")))
                })
            }
        })
    }
}

/// Has a savepoint taken of a job; its path is the result.
pub(super) fn savepoint(session: &Arc<Session>, job: String, name: Option<String>, stop: bool) -> Planned {
    let session = Arc::clone(session);
    let schema = Arc::new(Schema::new(vec![Field::new("savepoint path", DataType::Utf8, false)]));
    let row = Arc::clone(&schema);
    Planned::rows(schema, async move {
        let path = session.engine.jobs.savepoint(&job, &session.user, name, stop).await?;
        RecordBatch::try_new(row, vec![Arc::new(StringArray::from(vec![path]))])
            .map_err(|error| Error::internal(format!("a path is not a row: {error}")))
    })
}

/// Refuses a text that cannot be parsed, before anybody waits for it. Names are looked up when it runs.
fn check_text(session: &Session, scope: &Scope, submission: &Submission) -> Result<Detail> {
    let statements = split(&submission.text)?;
    let detail = Detail {
        catalog: session.catalog(),
        schema: session.schema(),
        into: submission.into.clone(),
        statements: check_count(statements.len())?,
        ..Detail::default()
    };
    for (n, sql) in detail.script(statements).iter().enumerate() {
        let parsed = Text::new(sql, scope.clone()).and_then(|text| text.parse());
        if changes_grammar(&parsed.map_err(|error| error.context(format!("statement {} of the job", n + 1)))?) {
            break;
        }
    }
    Ok(detail)
}

/// Whether the statements after this one may be read in another way: by another dialect, or as of the session's own tables.
fn changes_grammar(parsed: &Parsed) -> bool {
    match parsed {
        Parsed::Own(Own::Session(SessionStatement::Use(parts))) => parts[0] == MEMORY_CATALOG,
        Parsed::Own(Own::Session(SessionStatement::UseCatalog(catalog))) => catalog == MEMORY_CATALOG,
        Parsed::DataFusion(Statement::Statement(statement)) => matches!(**statement, SqlStatement::Set(_)),
        _ => false,
    }
}

/// The values of a call by the names of their parameters.
struct Arguments {
    procedure: &'static str,
    values: Vec<(&'static str, String)>,
}

impl Arguments {
    /// Reads `(value, …, parameter => value, …)`; NULL is no value.
    fn read(reader: &mut Reader<'_>, procedure: &'static str, parameters: &[&'static str]) -> Result<Self> {
        let (mut values, mut seen) = (Vec::new(), Vec::new());
        let mut by_position = parameters.iter().copied();
        let read = |reader: &mut Reader<'_>| {
            let named = parameters.iter().copied().find(|parameter| {
                let is_named = reader.at(parameter);
                is_named && reader.take(parameter)
            });
            let parameter = match named {
                Some(parameter) => {
                    reader.expect_token(&Token::RArrow)?;
                    parameter
                }
                None if seen.len() >= parameters.len() => return Err(reader.expected("fewer values")),
                None => match (reader.word(), by_position.next()) {
                    (Some(word), _) if !["NULL", "TRUE", "FALSE"].contains(&word.as_str()) => {
                        let error =
                            Error::invalid_input(format!("'{}' is no parameter of {procedure}", word.to_lowercase()));
                        return Err(reader.refuse(error).with_hint(format!("there are {}", parameters.join(", "))));
                    }
                    (_, Some(parameter)) => parameter,
                    (_, None) => return Err(reader.expected("fewer values")),
                },
            };
            if seen.contains(&parameter) {
                return Err(reader.refuse(Error::invalid_input(format!("{parameter} is given twice"))));
            }
            seen.push(parameter);
            if let Some(value) = reader.literal()? {
                values.push((parameter, value));
            }
            Ok(())
        };
        reader.list(read)?;
        Ok(Self { procedure, values })
    }

    fn take(&mut self, parameter: &str) -> Option<String> {
        let position = self.values.iter().position(|(name, _)| *name == parameter)?;
        Some(self.values.swap_remove(position).1)
    }

    fn required(&mut self, parameter: &str) -> Result<String> {
        let procedure = self.procedure;
        self.take(parameter).ok_or_else(|| Error::invalid_input(format!("{procedure} needs {parameter}")))
    }

    fn parsed<T: FromStr>(&mut self, parameter: &str) -> Result<Option<T>> {
        let Some(text) = self.take(parameter) else { return Ok(None) };
        let refused = |_| Error::invalid_input(format!("{parameter} cannot be '{text}'"));
        text.parse().map(Some).map_err(refused)
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse::{Own, Parsed, tests::scope};
    use super::*;

    fn call(sql: &str) -> Result<Call> {
        match Text::new(sql, scope())?.parse()? {
            Parsed::Own(Own::Call(call)) => Ok(call),
            _ => Err(Error::internal("no call")),
        }
    }

    #[test]
    fn queries_are_killed_as_in_presto() {
        for sql in [
            "call system.runtime.kill_query('abc')",
            "call system.runtime.kill_query(query_id => 'abc', message => 'why')",
            "call system.runtime.kill_query(message => null, query_id => 'abc')",
        ] {
            assert!(matches!(call(sql), Ok(Call::KillQuery(QueryId(id))) if id == "abc"), "{sql}");
        }
        assert!(call("call system.runtime.kill_qury('abc')").err().expect("unknown").hint().is_some());
    }

    #[test]
    fn a_job_is_submitted_with_values_by_position_and_by_name() {
        let sql = "call system.runtime.submit_job('select ''x''', 'nightly', priority => -5, attempts_max => 2, \
                   timeout_ms => 1000, memory_limit => '1GB', into => 'a.b', again => true)";
        let Ok(Call::SubmitJob(submission)) = call(sql) else { panic!("a submission") };
        let expected = Submission {
            text: "select 'x'".into(),
            name: Some("nightly".into()),
            priority: -5,
            attempts_max: Some(2),
            timeout_ms: Some(1000),
            memory_limit: Some("1GB".into()),
            into: Some("a.b".into()),
            again: true,
        };
        assert_eq!(*submission, expected);
    }

    #[test]
    fn a_call_that_makes_no_sense_is_refused_with_what_it_lacks() {
        for (sql, part) in [
            ("call system.runtime.submit_job(name => 'a')", "needs text"),
            ("call system.runtime.submit_job('a', text => 'b')", "text is given twice"),
            ("call system.runtime.submit_job('a', nane => 'b')", "'nane' is no parameter"),
            ("call system.runtime.submit_job('a', priority => 'high')", "priority cannot be 'high'"),
            ("call system.runtime.cancel_job('a', 'b')", "fewer values"),
            ("call system.runtime.stop_job('a', drain => 'perhaps')", "drain cannot be 'perhaps'"),
            ("call system.runtime.stop_job(drain => true)", "needs job_id"),
            ("call system.runtime.rescale_job('a')", "needs tasks"),
            ("call system.runtime.rescale_job('a', 0)", "tasks cannot be '0'"),
            ("call system.runtime.cancel_job(now())", "'now' is no parameter"),
            ("call system.runtime.cancel_job('a'", "')'"),
        ] {
            let error = call(sql).err().expect(sql);
            assert!(error.message().contains(part), "{sql}: {error}");
        }
    }
}
