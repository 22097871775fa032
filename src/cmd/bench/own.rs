//! Tereza as a peer: `tereza bench peer` answers the peers' protocol with the engine in this process, so that Tereza is
//! measured the way everybody else is. It also makes TPC-H's files, from the catalog `tpch`.

use std::path::Path;
use std::sync::Arc;

use parquet::arrow::AsyncArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde::Deserialize;
use serde_json::{Value, json};
use tereza_engine::LocalQueryService;
use tereza_engine::query::{QueryService, SessionDefaults, SessionId, Statement};
use tereza_runtime::settings::Sources;
use tereza_runtime::{Error, Result, Settings, clock, ids};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

use super::answer::Answer;
use crate::cmd::Embedded;

/// Rows of a Parquet row group, as in the files that DuckDB makes (`benches/peers/tpc.py`).
const ROW_GROUP_ROWS: usize = 250_000;
/// The tables of TPC-H.
const TPCH_TABLES: [&str; 8] = ["customer", "lineitem", "nation", "orders", "part", "partsupp", "region", "supplier"];

/// A line of the protocol.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Request {
    /// Opens an engine on tables.
    Open(Open),
    /// Makes the files of TPC-H.
    Make(Make),
    /// Answers a query.
    Query(String),
}

#[derive(Debug, Deserialize)]
struct Open {
    /// Files of each table; the folder around them is the table's location.
    tables: std::collections::BTreeMap<String, String>,
    cores: usize,
    memory_limit_bytes: Option<u64>,
    /// The engine's data folder.
    data: String,
    /// Executors to run queries on; 0 means in this process.
    executors: usize,
    /// URL below which the tables are put first, if they are not to be read where they are.
    store: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Make {
    scale: f64,
    folder: String,
}

struct Engine {
    service: Arc<LocalQueryService>,
    session: SessionId,
    embedded: Embedded,
}

/// Answers standard input's lines until it ends.
pub(super) async fn serve() -> Result<()> {
    let broken = |error: std::io::Error| Error::unavailable(format!("standard input or output broke: {error}"));
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut output = tokio::io::stdout();
    let mut engine = None;
    while let Some(line) = lines.next_line().await.map_err(broken)? {
        let reply = match answer(&mut engine, &line).await {
            Ok(reply) => reply,
            Err(error) => json!({ "error": error.to_string() }),
        };
        output.write_all(format!("{reply}\n").as_bytes()).await.map_err(broken)?;
        output.flush().await.map_err(broken)?;
    }
    if let Some(Engine { embedded, .. }) = engine {
        embedded.close().await;
    }
    Ok(())
}

async fn answer(engine: &mut Option<Engine>, line: &str) -> Result<Value> {
    let request =
        serde_json::from_str(line).map_err(|error| Error::invalid_input(format!("not a request: {error}")))?;
    match request {
        Request::Open(open) => {
            *engine = Some(Engine::open(&open).await?);
            Ok(json!({ "version": env!("CARGO_PKG_VERSION") }))
        }
        Request::Make(make) => {
            let engine = engine.as_ref().ok_or_else(|| Error::invalid_input("nothing is open"))?;
            engine.make(&make).await?;
            Ok(json!({}))
        }
        Request::Query(sql) => {
            let engine = engine.as_ref().ok_or_else(|| Error::invalid_input("nothing is open"))?;
            engine.query(sql).await
        }
    }
}

impl Engine {
    async fn open(open: &Open) -> Result<Self> {
        let mut settings =
            vec![format!("engine.target_partitions={}", open.cores), format!("cluster.executors={}", open.executors)];
        if let Some(limit) = open.memory_limit_bytes {
            settings.push(format!("engine.memory_limit_bytes={limit}"));
        }
        let settings =
            Settings::load(&Sources::of_process(None, settings).flag("--data", "data.dir", Some(&open.data)))?;
        let embedded = match open.executors {
            0 => Embedded::open(&settings).await?,
            _ => Embedded::with_executors(settings).await?,
        };
        let service = Arc::clone(&embedded.service);
        let mode = if open.executors == 0 { "local" } else { "cluster" };
        let options = vec![("tereza.mode".to_owned(), mode.to_owned())];
        let session = service.open_session("bench", SessionDefaults { options, ..SessionDefaults::default() }).await?;
        let engine = Self { service, session, embedded };
        for (table, files) in &open.tables {
            let folder = files.strip_suffix("*.parquet").unwrap_or(files);
            match &open.store {
                None => engine.create_external(table, folder).await?,
                Some(store) => engine.put(table, folder, &format!("{}/{table}/", store.trim_end_matches('/'))).await?,
            }
        }
        Ok(engine)
    }

    async fn create_external(&self, table: &str, location: &str) -> Result<()> {
        let location = location.replace('\'', "''");
        self.run(format!("CREATE EXTERNAL TABLE IF NOT EXISTS {table} STORED AS PARQUET LOCATION '{location}'"))
            .await?;
        Ok(())
    }

    /// Makes `table` at `location` a copy of the files in `folder`; one that an earlier run left is used if it is whole.
    async fn put(&self, table: &str, folder: &str, location: &str) -> Result<()> {
        let files = format!("files_of_{table}");
        self.create_external(&files, folder).await?;
        if self.create_external(table, location).await.is_ok() {
            let same = format!("SELECT 1 WHERE (SELECT count(*) FROM {table}) = (SELECT count(*) FROM {files})");
            if self.run(same).await? == 1 {
                return Ok(());
            }
            self.run(format!("INSERT OVERWRITE {table} SELECT * FROM {files}")).await?;
            return Ok(());
        }
        // Nothing is there that a table could be made of.
        let location = location.replace('\'', "''");
        self.run(format!("CREATE TABLE {table} STORED AS PARQUET LOCATION '{location}' AS SELECT * FROM {files}"))
            .await?;
        Ok(())
    }

    /// Runs a statement and returns how many rows it gave or wrote.
    async fn run(&self, sql: String) -> Result<u64> {
        let context = sql.clone();
        let run = async { self.service.submit(&self.session, Statement::new(sql)).await?.run().await };
        run.await.map_err(|error| error.context(context))
    }

    async fn query(&self, sql: String) -> Result<Value> {
        let began = clock::now();
        let query = self.service.submit(&self.session, Statement::new(sql)).await?;
        let schema = query.schema();
        let batches = query.collect().await?;
        let seconds = began.elapsed().as_secs_f64();

        let answer = Answer::of(&schema, &batches)
            .map_err(|error| Error::unsupported(format!("the answer cannot be compared: {error}")))?;
        Ok(json!({ "seconds": seconds, "kinds": answer.kinds, "rows": answer.rows }))
    }

    /// Makes `<folder>/<table>/<table>.parquet` for every table of TPC-H: the folder is there whole or not at all.
    async fn make(&self, make: &Make) -> Result<()> {
        let failed = |error: std::io::Error| Error::unavailable(format!("{} cannot be made: {error}", make.folder));
        let making = format!("{}.making-{}", make.folder, ids::new_id());
        for table in TPCH_TABLES {
            let folder = Path::new(&making).join(table);
            tokio::fs::create_dir_all(&folder).await.map_err(failed)?;
            let file = tokio::fs::File::create(folder.join(format!("{table}.parquet"))).await.map_err(failed)?;
            let sql = format!("SELECT * FROM tpch.\"sf{}\".{table}", make.scale);
            self.copy(sql, file).await?;
        }
        tokio::fs::rename(&making, &make.folder).await.map_err(failed)
    }

    async fn copy(&self, sql: String, file: tokio::fs::File) -> Result<()> {
        let failed = |error| Error::unavailable(format!("a Parquet file cannot be written: {error}"));
        let mut query = self.service.submit(&self.session, Statement::new(sql)).await?;
        let properties = WriterProperties::builder()
            .set_compression(Compression::SNAPPY)
            .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
            .build();
        let mut writer = AsyncArrowWriter::try_new(file, query.schema(), Some(properties)).map_err(failed)?;
        while let Some(batch) = query.next().await {
            writer.write(&batch?).await.map_err(failed)?;
        }
        writer.close().await.map_err(failed)?;
        Ok(())
    }
}
