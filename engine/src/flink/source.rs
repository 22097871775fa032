//! A stream's table as DataFusion plans it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::DFSchema;
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{Expr, TableType};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::sql::sqlparser::ast::ExprWithAlias;
use futures::{TryStreamExt, stream};
use object_store::ObjectStore;
use tereza_runtime::{Error, Result};

use super::reader::parse_expression;
use super::speaking::{is_spoken, speaking};
use super::table::{ColumnKind, StreamTable};
use super::types::FlinkType;
use crate::engine::Engine;
use crate::error::{from_datafusion, to_datafusion};
use crate::statement::rewrite_tree;

/// Where the values of a column are from.
#[derive(Debug, Clone)]
pub enum ColumnSource {
    /// The column at this place of [`StreamSource::record_schema`].
    Record(usize),
    /// An expression over the columns of [`StreamSource::record_schema`].
    Computed(Arc<dyn PhysicalExpr>),
}

/// A stream's table whose expressions are planned.
#[derive(Clone)]
pub struct StreamSource {
    engine: Arc<Engine>,
    name: String,
    definition: StreamTable,
    /// The definition without the options of a hint.
    kept: StreamTable,
    schema: SchemaRef,
    record_schema: SchemaRef,
    columns: Vec<ColumnSource>,
    watermark: Option<(usize, Arc<dyn PhysicalExpr>)>,
    written: SchemaRef,
}

impl StreamSource {
    /// Plans the expressions of a definition with Flink's functions. `name` has all parts; `hint` are options that stand for the
    /// definition's own.
    ///
    /// # Errors
    /// `InvalidInput` for an expression that cannot be planned or a time of rows that is none; `Unsupported` names a type.
    pub(crate) fn plan(
        engine: &Arc<Engine>,
        name: String,
        kept: StreamTable,
        hint: Option<&BTreeMap<String, String>>,
        state: &SessionState,
    ) -> Result<Self> {
        let planned = Self::planned(engine, name.clone(), kept, state);
        let mut planned = planned.map_err(|error| error.context(format!("table {name}")))?;
        if let Some(hint) = hint {
            planned.definition.options.extend(hint.clone());
        }
        Ok(planned)
    }

    fn planned(engine: &Arc<Engine>, name: String, definition: StreamTable, state: &SessionState) -> Result<Self> {
        let (mut record, mut written) = (Vec::new(), Vec::new());
        for column in &definition.columns {
            let (data_type, is_written) = match &column.kind {
                ColumnKind::Physical { data_type } => (data_type, true),
                ColumnKind::Metadata { data_type, is_virtual, .. } => (data_type, !is_virtual),
                ColumnKind::Computed { .. } => continue,
            };
            let of = data_type.to_arrow().map_err(|error| error.context(format!("column '{}'", column.name)))?;
            if is_written {
                written.push(Arc::new(Field::new(&column.name, of.clone(), data_type.nullable)));
            }
            // Records do not keep to NOT NULL, and one that deletes a row may have its key alone.
            record.push(Arc::new(Field::new(&column.name, of, true)));
        }
        let record_schema = Arc::new(Schema::new(record));
        let expressions = Expressions::of(&definition, state);
        let (mut columns, mut fields) = (Vec::new(), Vec::new());
        let mut of_records = record_schema.fields().iter().enumerate();
        for column in &definition.columns {
            let ColumnKind::Computed { expression, .. } = &column.kind else {
                columns.extend(of_records.next().map(|(at, field)| {
                    fields.push(Arc::clone(field));
                    ColumnSource::Record(at)
                }));
                continue;
            };
            let planned = expressions.plan(expression, &record_schema);
            let planned = planned.map_err(|error| error.context(format!("column '{}'", column.name)))?;
            let field = planned.return_field(&record_schema).map_err(from_datafusion)?;
            fields.push(Arc::new(Field::new(&column.name, field.data_type().clone(), field.is_nullable())));
            columns.push(ColumnSource::Computed(planned));
        }
        let schema: SchemaRef = Arc::new(Schema::new(fields));
        let watermark = match &definition.watermark {
            Some(watermark) => {
                let place = schema.index_of(&watermark.rowtime);
                let place = place.map_err(|_| Error::invalid_input("the column of WATERMARK is not in the table"))?;
                is_time("the column of a watermark", &watermark.rowtime, schema.field(place).data_type())?;
                let planned = expressions.plan(&watermark.expression, &schema);
                let planned = planned.map_err(|error| error.context("WATERMARK"))?;
                let of = planned.data_type(&schema).map_err(from_datafusion)?;
                is_time("a watermark", &watermark.expression, &of)?;
                Some((place, planned))
            }
            None => None,
        };
        let written = Arc::new(Schema::new(written));
        Ok(Self {
            engine: Arc::clone(engine),
            name,
            kept: definition.clone(),
            definition,
            schema,
            record_schema,
            columns,
            watermark,
            written,
        })
    }

    /// The store that a folder or a URL leads to, and the path in it.
    pub fn object_store(&self, location: &str) -> Result<(Arc<dyn ObjectStore>, String)> {
        self.engine.object_store(location)
    }

    /// Its name with catalog and schema.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the catalog, or the session, keeps of it, with the options that a hint of the statement gives it.
    pub fn definition(&self) -> &StreamTable {
        &self.definition
    }

    /// What the catalog, or the session, keeps of it.
    pub(crate) fn kept(&self) -> &StreamTable {
        &self.kept
    }

    /// The physical and metadata columns, in the table's order.
    pub fn record_schema(&self) -> &SchemaRef {
        &self.record_schema
    }

    /// Where the values are from, one for each column of the table.
    pub fn columns(&self) -> &[ColumnSource] {
        &self.columns
    }

    /// The place of the column that says when a row happened, and the expression over the table's columns that says up to
    /// when all have come.
    pub fn watermark(&self) -> Option<(usize, Arc<dyn PhysicalExpr>)> {
        self.watermark.clone()
    }

    /// The columns that INSERT writes: physical ones, and metadata that is not VIRTUAL.
    pub fn written(&self) -> SchemaRef {
        Arc::clone(&self.written)
    }

    /// The definition with the types that planning found out: what a catalog keeps.
    pub(crate) fn typed_definition(&self) -> StreamTable {
        let mut definition = self.kept.clone();
        for (column, field) in definition.columns.iter_mut().zip(self.schema.fields()) {
            if let ColumnKind::Computed { data_type, .. } = &mut column.kind {
                *data_type = FlinkType::of_arrow(field.data_type(), field.is_nullable());
            }
        }
        if let (Some(watermark), Some((_, planned))) = (&mut definition.watermark, &self.watermark) {
            let of = planned.data_type(&self.schema).ok();
            watermark.data_type = of.and_then(|of| FlinkType::of_arrow(&of, true));
        }
        definition
    }
}

impl fmt::Debug for StreamSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Options may be credentials.
        f.debug_struct("StreamSource").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Plans expressions in Flink's words.
struct Expressions(Option<SessionState>);

impl Expressions {
    fn of(definition: &StreamTable, state: &SessionState) -> Self {
        let is_computed = |kind: &ColumnKind| matches!(kind, ColumnKind::Computed { .. });
        let is_needed =
            definition.watermark.is_some() || definition.columns.iter().any(|column| is_computed(&column.kind));
        Self(is_needed.then(|| if is_spoken(state.config()) { state.clone() } else { speaking(state) }))
    }

    fn plan(&self, text: &str, schema: &Schema) -> Result<Arc<dyn PhysicalExpr>> {
        let Some(state) = &self.0 else { return Err(Error::internal("an expression of a table without any")) };
        let mut expr = parse_expression(text)?;
        rewrite_tree(&mut expr, state.config_options().sql_parser.parse_float_as_decimal)?;
        let schema = Arc::new(DFSchema::try_from(schema.clone()).map_err(from_datafusion)?);
        let context = SimplifyContext::builder()
            .with_schema(Arc::clone(&schema))
            .with_config_options(Arc::clone(state.config_options()))
            .build();
        let simplifier = ExprSimplifier::new(context);
        let expr = state.create_logical_expr_from_sql_expr(ExprWithAlias { expr, alias: None }, &schema);
        // Of some functions only the optimizer knows what they are.
        let expr = expr.and_then(|expr| simplifier.simplify(simplifier.coerce(expr, &schema)?));
        expr.and_then(|expr| state.create_physical_expr(expr, &schema)).map_err(|error| {
            // Its place is one of the expression's text, which nobody sees.
            let error = from_datafusion(error);
            let placeless = Error::new(error.kind(), error.message());
            match error.hint() {
                Some(hint) => placeless.with_hint(hint),
                None => placeless,
            }
        })
    }
}

/// Refuses what is no time of at most milliseconds.
fn is_time(what: &str, text: &str, data_type: &DataType) -> Result<()> {
    match data_type {
        DataType::Timestamp(TimeUnit::Second | TimeUnit::Millisecond, _) => Ok(()),
        other => {
            let other =
                FlinkType::of_arrow(other, true).map_or_else(|| other.to_string(), |of| of.summary().to_string());
            Err(Error::invalid_input(format!(
                "{what} is TIMESTAMP(p) or TIMESTAMP_LTZ(p) with p from 0 to 3, and '{text}' is {other}"
            )))
        }
    }
}

#[async_trait]
impl TableProvider for StreamSource {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        _state: &dyn Session,
        projection: Option<&Vec<usize>>,
        _filters: &[Expr],
        limit: Option<usize>,
    ) -> datafusion::error::Result<Arc<dyn ExecutionPlan>> {
        if self.engine.streams().is_none() {
            let error = Error::unsupported(format!("reading {}, the table of a stream, in this process", self.name));
            return Err(to_datafusion(error.with_hint("a server that runs stream jobs can")));
        }
        let columns = projection.cloned().unwrap_or_else(|| (0..self.columns.len()).collect());
        let schema = Arc::new(self.schema.project(&columns)?);
        let rows = Rows { table: Arc::new(self.clone()), columns, schema: Arc::clone(&schema) };
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(rows)], None, None, false, limit)?))
    }
}

/// The rows of a table up to where it ends when they are asked for.
#[derive(Debug)]
struct Rows {
    table: Arc<StreamSource>,
    columns: Vec<usize>,
    schema: SchemaRef,
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (table, columns, schema) = (Arc::clone(&self.table), self.columns.clone(), Arc::clone(&self.schema));
        let rows = async move {
            let Some(streams) = table.engine.streams() else {
                return Err(to_datafusion(Error::cancelled("stream jobs are not run here any more")));
            };
            let rows = streams.scan(table, columns).await.map_err(to_datafusion)?;
            let of_table = move |batch: RecordBatch| -> datafusion::error::Result<RecordBatch> {
                // Without columns a batch has rows all the same.
                let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
                let columns = batch.columns().to_vec();
                Ok(RecordBatch::try_new_with_options(Arc::clone(&schema), columns, &options)?)
            };
            Ok(rows.map_err(to_datafusion).and_then(move |batch| std::future::ready(of_table(batch))))
        };
        let rows = stream::once(rows).try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), rows))
    }
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
