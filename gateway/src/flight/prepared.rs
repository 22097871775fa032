//! Prepared statements: described once, run with the parameters bound to them.
//!
//! Parameters come as rows, one column for each. Each row is one run of the statement, in the order of the rows: a
//! query gives the rows of all its runs one after another, an update the sum of its counts.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow_flight::sql::ActionCreatePreparedStatementRequest;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;
use tereza_engine::query::{Description, Statement, StatementKind};
use tereza_runtime::{Error, Result, ids};

use super::decode::Upload;
use super::encode::{Rows, schema_bytes};
use super::messages::CreatePreparedStatementResult;
use super::plain::plain_schema;
use super::service::Gateway;
use super::session::Session;
use super::statements::{count, refuse_transaction};

/// A statement that a client prepared.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) handle: String,
    sql: String,
    description: Description,
    /// Rows of parameters.
    bound: Mutex<Option<RecordBatch>>,
}

impl Gateway {
    /// Describes a statement and keeps it in the session.
    pub(super) async fn prepare(
        &self,
        session: &Session,
        request: ActionCreatePreparedStatementRequest,
    ) -> Result<CreatePreparedStatementResult> {
        refuse_transaction(request.transaction_id.as_ref())?;
        let description = self.service().describe(&session.id, &request.query).await?;
        let is_update = description.kind != StatementKind::Query;
        // Drivers that do not read `is_update` take a statement without columns for an update.
        let dataset_schema = match is_update {
            true => Arc::new(Schema::empty()),
            false => plain_schema(&description.schema, self.settings().views),
        };
        let result = CreatePreparedStatementResult {
            prepared_statement_handle: Bytes::new(),
            dataset_schema: schema_bytes(&dataset_schema)?,
            parameter_schema: schema_bytes(&parameter_schema(&description.parameters))?,
            is_update: Some(is_update),
        };
        let handle = ids::new_secret();
        let prepared = Prepared { handle: handle.clone(), sql: request.query, description, bound: Mutex::default() };
        session.keep(Arc::new(prepared), self.settings().prepared_max)?;
        Ok(CreatePreparedStatementResult { prepared_statement_handle: handle.into(), ..result })
    }

    /// Binds the rows of an upload to a prepared statement, in place of what was bound before.
    pub(super) async fn bind(&self, session: &Session, handle: &[u8], upload: Upload) -> Result<()> {
        let prepared = session.prepared(handle)?;
        let parameters = self.parameters(&prepared, upload).await?;
        *prepared.bound.lock() = parameters;
        Ok(())
    }

    /// The rows of a prepared statement with what is bound to it.
    pub(super) async fn rows_of_prepared(&self, session: &Session, handle: &[u8]) -> Result<Rows> {
        let prepared = session.prepared(handle)?;
        let bound = prepared.bound.lock().clone();
        let views = self.settings().views;
        let mut statements = prepared.statements(bound);
        let Some(first) = statements.next() else {
            return Ok(Rows::none(plain_schema(&prepared.description.schema, views)));
        };
        let first = Rows::of_query(self.service().submit(&session.id, first).await?, views);
        let schema = Arc::clone(&first.schema);
        let (service, session, announced) = (Arc::clone(self.service()), session.id.clone(), Arc::clone(&schema));
        let rest = stream::iter(statements)
            .then(move |statement| {
                let (service, session, announced) = (Arc::clone(&service), session.clone(), Arc::clone(&announced));
                async move {
                    let rows = Rows::of_query(service.submit(&session, statement).await?, views);
                    if rows.schema != announced {
                        return Err(Error::unsupported(
                            "the rows of parameters give results of different types; bind them one by one",
                        ));
                    }
                    Ok(rows.stream)
                }
            })
            .try_flatten();
        Ok(Rows { schema, stream: first.stream.chain(rest).boxed() })
    }

    /// The schema that the rows of a prepared statement will have with what is bound to it.
    pub(super) async fn schema_of_prepared(&self, session: &Session, handle: &[u8]) -> Result<SchemaRef> {
        let prepared = session.prepared(handle)?;
        let bound = prepared.bound.lock().clone();
        let can_be_planned = bound.is_some() || prepared.description.parameters.fields().is_empty();
        let schema = match (can_be_planned, prepared.statements(bound).next()) {
            // Planned and dropped, nothing has run: only the plan to be run knows its schema exactly.
            (true, Some(statement)) => self.service().submit(&session.id, statement).await?.schema(),
            _ => Arc::clone(&prepared.description.schema),
        };
        Ok(plain_schema(&schema, self.settings().views))
    }

    /// Runs a prepared statement as an update with the rows of the upload or, if it has none, with what is bound.
    pub(super) async fn update_prepared(&self, session: &Session, handle: &[u8], upload: Upload) -> Result<i64> {
        let prepared = session.prepared(handle)?;
        let bound = match self.parameters(&prepared, upload).await? {
            Some(parameters) => Some(parameters),
            None => prepared.bound.lock().clone(),
        };
        let runs = bound.as_ref().map_or(1, RecordBatch::num_rows);
        let mut total = 0i64;
        for (run, statement) in prepared.statements(bound).enumerate() {
            let counted = async { count(self.service().submit(&session.id, statement).await?).await }.await;
            total = total.saturating_add(counted.map_err(|error| match runs {
                1 => error,
                _ => error.context(format!("row {} of {runs} rows of parameters (those before it are done)", run + 1)),
            })?);
        }
        Ok(total)
    }

    /// The parameters in an upload, or `None` if it has no columns, as when a client has none to send.
    async fn parameters(&self, prepared: &Prepared, upload: Upload) -> Result<Option<RecordBatch>> {
        let settings = self.settings();
        let Some((schema, mut rows)) = upload.rows(settings.request_limit_bytes).await? else { return Ok(None) };
        if schema.fields().is_empty() {
            return Ok(None);
        }
        let expected = prepared.description.parameters.fields().len();
        if schema.fields().len() != expected {
            return Err(Error::invalid_input(format!(
                "the statement has {expected} parameters, {} were bound",
                schema.fields().len()
            )));
        }
        let (mut batches, mut count, mut bytes) = (Vec::new(), 0usize, 0usize);
        while let Some(batch) = rows.try_next().await? {
            bytes += batch.get_array_memory_size();
            count += batch.num_rows();
            if count > settings.parameter_rows_max {
                return Err(Error::resource_exhausted(format!(
                    "more than {} rows of parameters (parameter_rows_max)",
                    settings.parameter_rows_max
                ))
                .with_hint("bind fewer at once, or write rows by bulk ingest"));
            }
            if bytes > settings.parameters_limit_bytes {
                return Err(Error::resource_exhausted(format!(
                    "the parameters are larger than {} bytes (parameters_limit_bytes)",
                    settings.parameters_limit_bytes
                ))
                .with_hint("bind fewer at once, or write rows by bulk ingest"));
            }
            batches.push(batch);
        }
        let parameters = concat_batches(&schema, &batches)
            .map_err(|error| Error::invalid_input(format!("the rows of parameters cannot be joined: {error}")))?;
        Ok(Some(parameters))
    }
}

impl Prepared {
    /// The runs of the statement: one for each row of parameters, or one without.
    fn statements(&self, bound: Option<RecordBatch>) -> impl Iterator<Item = Statement> + Send + use<> {
        let runs = bound.as_ref().map_or(1, RecordBatch::num_rows);
        let sql = self.sql.clone();
        (0..runs)
            .map(move |run| Statement { sql: sql.clone(), parameters: bound.as_ref().map(|bound| bound.slice(run, 1)) })
    }
}

/// A parameter whose type the statement does not tell is announced as text, as drivers cannot bind a value to Null.
fn parameter_schema(parameters: &SchemaRef) -> SchemaRef {
    let fields: Vec<Field> = parameters
        .fields()
        .iter()
        .map(|field| match field.data_type() {
            DataType::Null => Field::new(field.name(), DataType::Utf8, true),
            _ => Field::clone(field),
        })
        .collect();
    // Views and dictionaries are for results; a client binds plain values.
    plain_schema(&Arc::new(Schema::new(fields)), false)
}
