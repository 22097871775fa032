//! A query service in memory that understands a few words, to drive the gateway with.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow::array::{
    ArrayRef, AsArray, BinaryViewArray, DictionaryArray, Int64Array, RecordBatch, StringArray, StringViewArray,
    UInt64Array,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef};
use async_trait::async_trait;
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use tereza_engine::query::{
    BatchStream, Description, IngestTarget, Progress, Query, QueryId, QueryService, SessionDefaults, SessionId,
    Statement, StatementKind, TableEntry, TableFilter,
};
use tereza_runtime::{Error, Location, Result, ids};
use tokio_util::sync::CancellationToken;

/// Understands: `numbers COUNT`, `wide COUNT`, `typed`, `endless`, `forever`, `slow`, `fail`, `echo ?`, `insert ?`,
/// `create`, `user`, `catalog`; all else is a syntax error.
#[derive(Debug, Default)]
pub(super) struct Fake {
    pub(super) sessions: Mutex<HashMap<String, FakeSession>>,
    /// How many there may be, 0 for no bound.
    pub(super) sessions_max: AtomicUsize,
    /// What `insert ?` wrote.
    pub(super) inserted: Mutex<Vec<i64>>,
    /// What was ingested, with the rows.
    pub(super) ingested: Mutex<Vec<(IngestTarget, SchemaRef, Vec<RecordBatch>)>>,
    /// Queries that are not dropped.
    pub(super) live: Arc<AtomicUsize>,
    /// Commands that were run.
    pub(super) commands: Arc<AtomicUsize>,
    /// Lets `slow` go on.
    pub(super) go_on: CancellationToken,
}

#[derive(Debug, Clone)]
pub(super) struct FakeSession {
    pub(super) user: String,
    pub(super) options: BTreeMap<String, String>,
}

/// Counts a query as live until it is dropped.
struct Live(Arc<AtomicUsize>);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Fake {
    pub(super) fn live(&self) -> usize {
        self.live.load(Ordering::SeqCst)
    }

    fn session(&self, session: &SessionId) -> Result<FakeSession> {
        let found = self.sessions.lock().get(&session.0).cloned();
        found.ok_or_else(|| Error::not_found(format!("there is no session {session}")))
    }

    fn query(&self, kind: StatementKind, schema: SchemaRef, batches: BatchStream) -> Query {
        self.live.fetch_add(1, Ordering::SeqCst);
        let live = Live(Arc::clone(&self.live));
        let batches = batches.map(move |batch| {
            let _ = &live;
            batch
        });
        let cancellation = CancellationToken::new();
        Query::new(QueryId(ids::new_id()), kind, schema, Arc::new(Progress::default()), cancellation, batches.boxed())
    }
}

fn numbers(from: i64, count: i64) -> RecordBatch {
    let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(from..from + count));
    RecordBatch::try_new(number_schema(), vec![numbers]).unwrap()
}

fn number_schema() -> SchemaRef {
    let metadata = [("unit".to_owned(), "m".to_owned())].into();
    Arc::new(Schema::new(vec![Field::new("n", DataType::Int64, false).with_metadata(metadata)]))
}

fn typed() -> RecordBatch {
    let dictionary: DictionaryArray<Int32Type> = [Some("x"), None].into_iter().collect();
    let schema = Schema::new_with_metadata(
        vec![
            Field::new("view", DataType::Utf8View, false),
            Field::new("bytes", DataType::BinaryView, true),
            Field::new("coded", DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)), true),
        ],
        [("made".to_owned(), "up".to_owned())].into(),
    );
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringViewArray::from(vec!["short", "longer than twelve bytes"])),
        Arc::new(BinaryViewArray::from(vec![Some(&b"b"[..]), None])),
        Arc::new(dictionary),
    ];
    RecordBatch::try_new(Arc::new(schema), columns).unwrap()
}

fn count_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![Field::new("count", DataType::UInt64, false)]))
}

fn parameter(statement: &Statement) -> Result<Option<i64>> {
    let parameters = statement.parameters.as_ref().ok_or_else(|| Error::invalid_input("a parameter is missing"))?;
    assert_eq!(parameters.num_rows(), 1);
    let column = parameters.column(0).as_primitive_opt::<Int64Type>();
    let column = column.ok_or_else(|| Error::invalid_input("the parameter is not a bigint"))?;
    Ok(column.iter().next().flatten())
}

#[async_trait]
impl QueryService for Fake {
    async fn open_session(&self, user: &str, defaults: SessionDefaults) -> Result<SessionId> {
        let mut options: BTreeMap<String, String> = defaults.options.into_iter().collect();
        options.insert("catalog".into(), defaults.catalog.unwrap_or_else(|| "tereza".into()));
        options.insert("schema".into(), defaults.schema.unwrap_or_else(|| "default".into()));
        let id = ids::new_id();
        let mut sessions = self.sessions.lock();
        let sessions_max = self.sessions_max.load(Ordering::SeqCst);
        if sessions_max > 0 && sessions.len() >= sessions_max {
            return Err(Error::resource_exhausted("too many sessions"));
        }
        sessions.insert(id.clone(), FakeSession { user: user.into(), options });
        Ok(SessionId(id))
    }

    async fn close_session(&self, session: &SessionId) -> Result<()> {
        let closed = self.sessions.lock().remove(&session.0);
        closed.map(|_| ()).ok_or_else(|| Error::not_found("no such session"))
    }

    async fn set_option(&self, session: &SessionId, key: &str, value: &str) -> Result<()> {
        match (key, value) {
            ("catalog", "nowhere") => return Err(Error::not_found("there is no catalog 'nowhere'")),
            ("catalog" | "schema" | "tereza.mode", _) => {}
            _ => return Err(Error::not_found(format!("there is no option '{key}'"))),
        }
        let mut sessions = self.sessions.lock();
        let session = sessions.get_mut(&session.0).ok_or_else(|| Error::not_found("no such session"))?;
        session.options.insert(key.into(), value.into());
        Ok(())
    }

    async fn options(&self, session: &SessionId) -> Result<Vec<(String, String)>> {
        Ok(self.session(session)?.options.into_iter().collect())
    }

    async fn describe(&self, session: &SessionId, sql: &str) -> Result<Description> {
        let one_number = Arc::new(Schema::new(vec![Field::new("$1", DataType::Int64, true)]));
        let untyped = Arc::new(Schema::new(vec![Field::new("$1", DataType::Null, true)]));
        let none = Arc::new(Schema::empty());
        Ok(match sql {
            "echo ?" => Description { kind: StatementKind::Query, schema: number_schema(), parameters: untyped },
            "insert ?" => Description { kind: StatementKind::Update, schema: count_schema(), parameters: one_number },
            _ => {
                let query = self.submit(session, Statement::new(sql)).await?;
                Description { kind: query.kind(), schema: query.schema(), parameters: none }
            }
        })
    }

    async fn submit(&self, session: &SessionId, statement: Statement) -> Result<Query> {
        let FakeSession { user, options } = self.session(session)?;
        let (word, rest) = statement.sql.split_once(' ').unwrap_or((&statement.sql, ""));
        let count = || rest.parse::<i64>().map_err(|_| Error::invalid_input("no count"));
        let rows =
            |batch: RecordBatch| self.query(StatementKind::Query, batch.schema(), stream::iter([Ok(batch)]).boxed());
        let text = |text: String| {
            let column: ArrayRef = Arc::new(StringArray::from(vec![text]));
            rows(RecordBatch::try_from_iter([("text", column)]).unwrap())
        };
        Ok(match word {
            "numbers" => {
                let count = count()?;
                let starts = (0..count).step_by(1000);
                let batches = starts.map(move |start| Ok(numbers(start, (count - start).min(1000))));
                self.query(StatementKind::Query, number_schema(), stream::iter(batches).boxed())
            }
            // One batch of a kilobyte a row.
            "wide" => {
                let column: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(1000); count()? as usize]));
                rows(RecordBatch::try_from_iter([("text", column)]).unwrap())
            }
            "typed" => rows(typed()),
            "endless" => {
                let batches = stream::repeat_with(|| Ok(numbers(0, 8192)));
                self.query(StatementKind::Query, number_schema(), batches.boxed())
            }
            "forever" => self.query(StatementKind::Query, number_schema(), stream::pending().boxed()),
            "slow" => {
                let go_on = self.go_on.clone();
                let batches = stream::once(async move {
                    go_on.cancelled().await;
                    Ok(numbers(0, 3))
                });
                self.query(StatementKind::Query, number_schema(), batches.boxed())
            }
            "fail" => {
                let batches = stream::iter([Ok(numbers(0, 3)), Err(Error::unavailable("the bucket went away"))]);
                self.query(StatementKind::Query, number_schema(), batches.boxed())
            }
            "echo" => {
                let number = parameter(&statement)?.ok_or_else(|| Error::invalid_input("the parameter is null"))?;
                rows(numbers(number, 1))
            }
            "insert" => {
                self.inserted.lock().extend(parameter(&statement)?);
                let count: ArrayRef = Arc::new(UInt64Array::from(vec![1]));
                let batch = RecordBatch::try_new(count_schema(), vec![count]).unwrap();
                self.query(StatementKind::Update, count_schema(), stream::iter([Ok(batch)]).boxed())
            }
            "create" => {
                let commands = Arc::clone(&self.commands);
                let run = stream::once(async move { commands.fetch_add(1, Ordering::SeqCst) });
                let batches = run.filter_map(async |_| None);
                self.query(StatementKind::Command, Arc::new(Schema::empty()), batches.boxed())
            }
            "user" => text(user),
            "catalog" => text(options["catalog"].clone()),
            _ => {
                return Err(Error::invalid_input(format!("unexpected word '{word}'"))
                    .with_location(Location { line: 1, column: 1 }));
            }
        })
    }

    async fn ingest(
        &self,
        session: &SessionId,
        target: IngestTarget,
        schema: SchemaRef,
        mut rows: BatchStream,
    ) -> Result<u64> {
        self.session(session)?;
        let mut batches = Vec::new();
        while let Some(batch) = rows.next().await {
            batches.push(batch?);
            tokio::task::yield_now().await;
        }
        let count = batches.iter().map(|batch| batch.num_rows() as u64).sum();
        self.ingested.lock().push((target, schema, batches));
        Ok(count)
    }

    async fn cancel(&self, _: &SessionId, _: &QueryId) -> Result<()> {
        Err(Error::not_found("it is not running"))
    }

    async fn catalogs(&self, _: &SessionId) -> Result<Vec<String>> {
        Ok(vec!["memory".into(), "tereza".into()])
    }

    async fn schemas(&self, _: &SessionId, _: Option<&str>, _: Option<&str>) -> Result<Vec<(String, String)>> {
        Ok(vec![
            ("memory".into(), "default".into()),
            ("tereza".into(), "default".into()),
            ("tereza".into(), "s".into()),
        ])
    }

    async fn tables(&self, _: &SessionId, filter: &TableFilter) -> Result<Vec<TableEntry>> {
        let entry = |table: &str, kind: &str| TableEntry {
            catalog: "tereza".into(),
            schema: "default".into(),
            table: table.into(),
            kind: kind.into(),
            columns: filter.with_columns.then(|| typed().schema()),
        };
        Ok(vec![entry("orders", "TABLE"), entry("recent", "VIEW")])
    }

    fn split(&self, sql: &str) -> Result<Vec<String>> {
        Ok(vec![sql.to_owned()])
    }

    fn words(&self) -> Vec<String> {
        ["ABS", "SELECT", "UPPER"].map(str::to_owned).to_vec()
    }
}
