//! A service for tests: a fixed set of names, and a handful of statements with known answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{Int64Array, RecordBatch, UInt64Array};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use async_trait::async_trait;
use futures::StreamExt;
use futures::stream;
use tereza_engine::query::{
    BatchStream, Description, IngestTarget, Progress, Query, QueryId, QueryService, SessionDefaults, SessionId,
    Statement, StatementKind, TableEntry, TableFilter,
};
use tereza_runtime::{Error, Location, Result};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::lexer;

/// Answers `select N` with the numbers below N, `insert N` with N rows written, `use` with nothing, `hang` when it is
/// cancelled, and anything else with an error at the second line's third column.
#[derive(Debug, Default)]
pub(super) struct FakeService {
    catalog_lookups: AtomicUsize,
    cancelled: Arc<AtomicUsize>,
    hanging: Arc<Notify>,
}

impl FakeService {
    pub(super) fn catalog_lookups(&self) -> usize {
        self.catalog_lookups.load(Ordering::SeqCst)
    }

    /// Waits until a statement hangs.
    pub(super) async fn hanging(&self) {
        self.hanging.notified().await;
    }

    /// Statements that were told to stop and not only dropped.
    pub(super) fn cancelled(&self) -> usize {
        self.cancelled.load(Ordering::SeqCst)
    }
}

fn tables() -> Vec<TableEntry> {
    let table = |schema: &str, table: &str, columns: &[&str]| {
        let fields: Vec<Field> = columns.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect();
        TableEntry {
            catalog: "tereza".to_string(),
            schema: schema.to_string(),
            table: table.to_string(),
            kind: "TABLE".to_string(),
            columns: Some(Arc::new(Schema::new(fields))),
        }
    };
    vec![
        table("default", "Odd Name", &["x"]),
        table("default", "orders", &["o_id", "o_total"]),
        table("sales", "items", &["sku"]),
    ]
}

#[async_trait]
impl QueryService for FakeService {
    async fn open_session(&self, _user: &str, _defaults: SessionDefaults) -> Result<SessionId> {
        Ok(SessionId("s".to_string()))
    }

    async fn close_session(&self, _session: &SessionId) -> Result<()> {
        Ok(())
    }

    async fn set_option(&self, _session: &SessionId, key: &str, _value: &str) -> Result<()> {
        Err(Error::unsupported(format!("option {key}")))
    }

    async fn options(&self, _session: &SessionId) -> Result<Vec<(String, String)>> {
        Ok(vec![("catalog".to_string(), "tereza".to_string()), ("schema".to_string(), "default".to_string())])
    }

    async fn describe(&self, _session: &SessionId, sql: &str) -> Result<Description> {
        Err(Error::unsupported(format!("describing {sql}")))
    }

    async fn submit(&self, _session: &SessionId, statement: Statement) -> Result<Query> {
        let sql = statement.sql.as_str();
        let (verb, number) = sql.split_once(' ').unwrap_or((sql, "0"));
        let numbers = Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false)]));
        let counts = Arc::new(Schema::new(vec![Field::new("count", DataType::UInt64, false)]));
        let cancellation = CancellationToken::new();
        let (kind, schema, stream): (StatementKind, SchemaRef, BatchStream) = match (verb, number.parse::<u64>()) {
            ("select", Ok(n)) => {
                let column = Arc::new(Int64Array::from_iter_values(0..n as i64));
                let batch = RecordBatch::try_new(Arc::clone(&numbers), vec![column]).unwrap();
                (StatementKind::Query, numbers, stream::iter([Ok(batch)]).boxed())
            }
            ("insert", Ok(n)) => {
                let column = Arc::new(UInt64Array::from(vec![n]));
                let batch = RecordBatch::try_new(Arc::clone(&counts), vec![column]).unwrap();
                (StatementKind::Update, counts, stream::iter([Ok(batch)]).boxed())
            }
            ("use", _) => (StatementKind::Command, Arc::new(Schema::empty()), stream::empty().boxed()),
            ("hang", _) => {
                let (token, cancelled) = (cancellation.clone(), Arc::clone(&self.cancelled));
                let hanging = Arc::clone(&self.hanging);
                let end = async move {
                    hanging.notify_one();
                    token.cancelled().await;
                    cancelled.fetch_add(1, Ordering::SeqCst);
                    Err(Error::cancelled("stopped"))
                };
                (StatementKind::Query, numbers, stream::once(end).boxed())
            }
            _ => {
                return Err(Error::invalid_input("unexpected word").with_location(Location { line: 2, column: 3 }));
            }
        };
        let progress = Arc::new(Progress::default());
        Ok(Query::new(QueryId("q".to_string()), kind, schema, progress, cancellation, stream))
    }

    async fn ingest(
        &self,
        _session: &SessionId,
        target: IngestTarget,
        _schema: SchemaRef,
        _rows: BatchStream,
    ) -> Result<u64> {
        Err(Error::unsupported(format!("ingest into {}", target.table)))
    }

    async fn cancel(&self, _session: &SessionId, query: &QueryId) -> Result<()> {
        Err(Error::not_found(query.to_string()))
    }

    async fn catalogs(&self, _session: &SessionId) -> Result<Vec<String>> {
        self.catalog_lookups.fetch_add(1, Ordering::SeqCst);
        Ok(vec!["memory".to_string(), "tereza".to_string()])
    }

    async fn schemas(
        &self,
        _session: &SessionId,
        catalog: Option<&str>,
        _pattern: Option<&str>,
    ) -> Result<Vec<(String, String)>> {
        let schemas = ["default", "sales"].map(|schema| ("tereza".to_string(), schema.to_string()));
        Ok(schemas.into_iter().filter(|(name, _)| catalog.is_none_or(|catalog| catalog == name)).collect())
    }

    async fn tables(&self, _session: &SessionId, filter: &TableFilter) -> Result<Vec<TableEntry>> {
        let is_wanted = |wanted: &Option<String>, name: &str| wanted.as_deref().is_none_or(|wanted| wanted == name);
        let mut tables = tables();
        tables.retain(|entry| {
            is_wanted(&filter.catalog, &entry.catalog)
                && is_wanted(&filter.schema_pattern, &entry.schema)
                && is_wanted(&filter.table_pattern, &entry.table)
        });
        Ok(tables)
    }

    fn split(&self, sql: &str) -> Result<Vec<String>> {
        lexer::split(sql)
    }

    fn words(&self) -> Vec<String> {
        vec!["FROM".to_string(), "SELECT".to_string()]
    }
}
