//! `tereza bench catalog`: the same calls to each of several running metastores, in turns; how they are started, and what they
//! hold, is known to who started them (`benches/catalog.py`).
//!
//! Each gets a database of its own for the run, with one table of many partitions, and loses it again at the end. An answer that
//! is not the expected one is an error: no figure is of a wrong answer.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tereza_runtime::{Error, Result, clock, ids};
use tereza_thrift::client::{CallError, Client, Settings};
use tereza_thrift::hive::{
    AddPartitionsReqArgs, AddPartitionsRequest, CreateDatabaseArgs, CreateTableArgs, Database, DropDatabaseArgs,
    Exception, FieldSchema, GetPartitionNamesArgs, GetPartitionsByFilterArgs, GetTableArgs, Partition, SerDeInfo,
    StorageDescriptor, Table,
};
use tokio::task::JoinSet;

/// Partitions that one call adds.
const ADDED_AT_ONCE: usize = 1_000;
/// Partitions that are added by the metastore itself and timed, where another makes the rest.
const TIMED: usize = 1_000;
/// Partitions of one value of the first key.
const HOURS: usize = 24;
/// Columns of the table.
const COLUMNS: usize = 30;
/// How often the calls are timed that take long: all names.
const LONG_RUNS: usize = 5;
const TABLE: &str = "hits";
/// For a call; adding many partitions to a slow server takes long.
const CALL_TIMEOUT: Duration = Duration::from_secs(600);

/// What is asked for.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct Args {
    /// A metastore to measure, as NAME=thrift://host:port; may be repeated. After a comma another one of the same database may
    /// be named, which makes most of the partitions where the first is slow at it
    #[arg(long, value_name = "NAME=URL", help_heading = "Suite catalog")]
    at: Vec<String>,
    /// Partitions of the table
    #[arg(long, default_value_t = 100_000, help_heading = "Suite catalog")]
    partitions: usize,
    /// Connections that ask for a table at once
    #[arg(long, default_value_t = 64, help_heading = "Suite catalog")]
    connections: usize,
    /// Seconds of asking for a table
    #[arg(long, default_value_t = 10, help_heading = "Suite catalog")]
    seconds: u64,
    /// How often a query for one partition is timed
    #[arg(long, default_value_t = 200, help_heading = "Suite catalog")]
    asks: usize,
}

/// A metastore that is measured.
struct Target {
    name: String,
    address: String,
    client: Client,
    /// Makes most partitions.
    maker: Option<Client>,
    database: String,
    /// Figure by name, each with its unit in the name.
    figures: BTreeMap<&'static str, f64>,
}

/// Measures all and returns the figures.
pub(super) async fn run(args: &Args) -> Result<Value> {
    if args.at.is_empty() || args.partitions == 0 || args.connections == 0 || args.seconds == 0 || args.asks == 0 {
        let hint = "tereza bench catalog --at tereza=thrift://127.0.0.1:9083";
        return Err(
            Error::invalid_input("a metastore is needed (--at NAME=URL), and every number above 0").with_hint(hint)
        );
    }
    let mut targets = Vec::new();
    for at in &args.at {
        targets.push(Target::connect(at).await?);
    }
    let measured = measure(args, &mut targets).await;
    for target in &mut targets {
        if let Err(error) = target.leave().await {
            eprintln!("{}: database {} is left: {error}", target.name, target.database);
        }
    }
    measured?;
    let figures: BTreeMap<&str, _> = targets.iter().map(|target| (target.name.as_str(), &target.figures)).collect();
    print!("{}", table(&targets));
    Ok(json!({
        "benchmark": "catalog",
        "partitions": args.partitions,
        "connections": args.connections,
        "seconds": args.seconds,
        "asks": args.asks,
        "figures": figures,
    }))
}

async fn measure(args: &Args, targets: &mut [Target]) -> Result<()> {
    for target in targets.iter_mut() {
        eprintln!("{}: making {} partitions", target.name, args.partitions);
        target.make(args.partitions).await?;
    }
    eprintln!("queries for one partition and for a day");
    // In turns: what disturbs the machine disturbs all. And neither one server nor one kind of call always comes after the
    // same: a JVM goes on compiling and collecting when it has answered, and what a server needs is cold after a pause.
    let mut times: Vec<[Vec<Duration>; 3]> = targets.iter().map(|_| Default::default()).collect();
    let count = targets.len();
    for turn in 0..args.asks {
        let picked = turn.wrapping_mul(7_919) % args.partitions;
        let [day_asked, hour_asked] = values(picked);
        let of_day = HOURS.min(args.partitions - picked / HOURS * HOURS);
        let day_filter = format!("ds = \"{day_asked}\"");
        let one_filter = format!("{day_filter} and hour = {hour_asked}");
        for place in 0..count {
            let at =
                if turn.is_multiple_of(2) { (turn / 2 + place) % count } else { (turn / 2 + count - place) % count };
            let (target, [one, day, _]) = (&mut targets[at], &mut times[at]);
            if (turn / (2 * count)).is_multiple_of(2) {
                one.push(target.ask(&one_filter, 1).await?);
                day.push(target.ask(&day_filter, of_day).await?);
            } else {
                day.push(target.ask(&day_filter, of_day).await?);
                one.push(target.ask(&one_filter, 1).await?);
            }
        }
    }
    eprintln!("names of all partitions");
    for _ in 0..LONG_RUNS {
        for (target, [_, _, names]) in targets.iter_mut().zip(&mut times) {
            names.push(target.names(args.partitions).await?);
        }
    }
    for (target, [one, day, names]) in targets.iter_mut().zip(&mut times) {
        for (times, median, last) in [
            (one, "one_partition_p50_ms", "one_partition_p99_ms"),
            (day, "day_of_partitions_p50_ms", "day_of_partitions_p99_ms"),
            (names, "all_names_p50_ms", "all_names_p99_ms"),
        ] {
            times.sort_unstable();
            target.figures.insert(median, ms(times[(times.len() - 1) / 2]));
            target.figures.insert(last, ms(times[(times.len() * 99).div_ceil(100) - 1]));
        }
    }
    for target in targets.iter_mut() {
        eprintln!("{}: asking for a table over {} connections", target.name, args.connections);
        target.ask_for_tables(args.connections, Duration::from_secs(args.seconds)).await?;
    }
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// A line for each figure, a column for each metastore.
fn table(targets: &[Target]) -> String {
    let mut text = format!("{:28}", "");
    for target in targets {
        let _ = write!(text, " {:>14}", target.name);
    }
    text.push('\n');
    for figure in targets.first().into_iter().flat_map(|target| target.figures.keys()) {
        let _ = write!(text, "{figure:28}");
        for target in targets {
            let _ = write!(text, " {:>14.3}", target.figures.get(figure).copied().unwrap_or(f64::NAN));
        }
        text.push('\n');
    }
    text
}

/// The values of a partition by its number.
fn values(number: usize) -> [String; 2] {
    [format!("day-{:07}", number / HOURS), (number % HOURS).to_string()]
}

impl Target {
    async fn connect(at: &str) -> Result<Self> {
        let wrong = || Error::invalid_input(format!("--at {at}: expected NAME=thrift://host:port"));
        let (name, urls) = at.split_once('=').ok_or_else(wrong)?;
        let addresses: Option<Vec<&str>> = urls.split(',').map(|url| url.strip_prefix("thrift://")).collect();
        let (address, maker) = match addresses.as_deref() {
            Some([address]) => (*address, None),
            Some([address, maker]) => (*address, Some(connect(maker).await?)),
            _ => return Err(wrong()),
        };
        let client = connect(address).await?;
        let database = format!("bench_{}", ids::new_id().replace('-', "_"));
        Ok(Self { name: name.into(), address: address.into(), client, maker, database, figures: BTreeMap::new() })
    }

    fn failed(&self, error: CallError<Exception>) -> Error {
        Error::from(error).context(self.name.clone())
    }

    async fn make(&mut self, partitions: usize) -> Result<()> {
        let database = Database { name: Some(self.database.clone()), ..Database::default() };
        let made = self.client.create_database(CreateDatabaseArgs { database: Some(database) }).await;
        made.map_err(|error| self.failed(error))?;
        let keys = vec![column("ds", "string"), column("hour", "int")];
        let table = Table {
            db_name: Some(self.database.clone()),
            table_name: Some(TABLE.into()),
            owner: Some("bench".into()),
            sd: Some(storage()),
            // Its folders are never made or removed.
            table_type: Some("EXTERNAL_TABLE".into()),
            parameters: Some([("EXTERNAL".to_owned(), "TRUE".to_owned())].into()),
            partition_keys: Some(keys),
            ..Table::default()
        };
        let made = self.client.create_table(CreateTableArgs { tbl: Some(table) }).await;
        made.map_err(|error| self.failed(error))?;
        let start = clock::now();
        let timed = if self.maker.is_some() { TIMED.min(partitions) } else { partitions };
        let mut next = 0;
        while next < partitions {
            let until = partitions.min(next + ADDED_AT_ONCE);
            let parts = (next..until).map(|number| Partition {
                db_name: Some(self.database.clone()),
                table_name: Some(TABLE.into()),
                values: Some(values(number).to_vec()),
                sd: Some(storage()),
                ..Partition::default()
            });
            let request = AddPartitionsRequest {
                db_name: self.database.clone(),
                tbl_name: TABLE.into(),
                parts: parts.collect(),
                if_not_exists: false,
                need_result: Some(false),
                ..AddPartitionsRequest::default()
            };
            let client = self.maker.as_mut().filter(|_| next >= timed).unwrap_or(&mut self.client);
            let added = client.add_partitions_req(AddPartitionsReqArgs { request: Some(request) }).await;
            added.map_err(|error| self.failed(error))?;
            next = until;
            if next == timed {
                self.figures.insert("partitions_added_per_s", timed as f64 / start.elapsed().as_secs_f64());
            }
        }
        Ok(())
    }

    /// Asks for the partitions that a filter lets through, of which there are `expected`.
    async fn ask(&mut self, filter: &str, expected: usize) -> Result<Duration> {
        let args = GetPartitionsByFilterArgs {
            db_name: Some(self.database.clone()),
            tbl_name: Some(TABLE.into()),
            filter: Some(filter.to_owned()),
            max_parts: Some(-1),
        };
        let start = clock::now();
        let found = self.client.get_partitions_by_filter(args).await;
        let time = start.elapsed();
        let found = found.map_err(|error| self.failed(error))?.len();
        self.expect(filter, found, expected)?;
        Ok(time)
    }

    async fn names(&mut self, expected: usize) -> Result<Duration> {
        let (db_name, tbl_name) = (Some(self.database.clone()), Some(TABLE.into()));
        let args = GetPartitionNamesArgs { db_name, tbl_name, max_parts: Some(-1) };
        let start = clock::now();
        let found = self.client.get_partition_names(args).await;
        let time = start.elapsed();
        let found = found.map_err(|error| self.failed(error))?.len();
        self.expect("all names", found, expected)?;
        Ok(time)
    }

    fn expect(&self, what: &str, found: usize, expected: usize) -> Result<()> {
        match found == expected {
            true => Ok(()),
            false => Err(Error::internal(format!("{}: {what}: {found} partitions, not {expected}", self.name))),
        }
    }

    async fn ask_for_tables(&mut self, connections: usize, time: Duration) -> Result<()> {
        let mut clients = Vec::new();
        for _ in 0..connections {
            clients.push(connect(&self.address).await?);
        }
        let start = clock::now();
        let mut asking = JoinSet::new();
        for client in clients {
            asking.spawn(ask_until(client, self.database.clone(), start + time));
        }
        let mut answers = 0;
        while let Some(asked) = asking.join_next().await {
            let asked = asked.map_err(|error| Error::internal("a client of the bench ended").with_source(error))?;
            answers += asked.map_err(|error| self.failed(error))?;
        }
        self.figures.insert("tables_per_s", answers as f64 / start.elapsed().as_secs_f64());
        Ok(())
    }

    async fn leave(&mut self) -> Result<()> {
        if let Some(maker) = &mut self.maker {
            // It made them, and takes them away; the time is not the measured one's.
            let args =
                DropDatabaseArgs { name: Some(self.database.clone()), delete_data: Some(false), cascade: Some(true) };
            return Ok(maker.drop_database(args).await?);
        }
        let args =
            DropDatabaseArgs { name: Some(self.database.clone()), delete_data: Some(false), cascade: Some(true) };
        let start = clock::now();
        if self.client.is_broken() {
            self.client = connect(&self.address).await?;
        }
        self.client.drop_database(args).await.map_err(|error| self.failed(error))?;
        self.figures.insert("database_dropped_s", start.elapsed().as_secs_f64());
        Ok(())
    }
}

async fn connect(address: &str) -> Result<Client> {
    Client::connect(address, Settings { call_timeout: CALL_TIMEOUT, ..Settings::default() }).await
}

async fn ask_until(mut client: Client, database: String, end: Instant) -> Result<u64, CallError<Exception>> {
    let mut answers = 0;
    while clock::now() < end {
        let args = GetTableArgs { dbname: Some(database.clone()), tbl_name: Some(TABLE.into()) };
        let found = client.get_table(args).await?;
        if found.table_name.as_deref() != Some(TABLE) {
            return Err(Error::internal(format!("asked for {TABLE}, got {:?}", found.table_name)).into());
        }
        answers += 1;
    }
    Ok(answers)
}

fn column(name: &str, type_name: &str) -> FieldSchema {
    FieldSchema { name: Some(name.into()), r#type: Some(type_name.into()), comment: None }
}

/// As of a table of Parquet files; the server says where.
fn storage() -> StorageDescriptor {
    let columns: Vec<FieldSchema> = (0..COLUMNS).map(|at| column(&format!("column_{at}"), "string")).collect();
    let serde = SerDeInfo {
        serialization_lib: Some("org.apache.hadoop.hive.ql.io.parquet.serde.ParquetHiveSerDe".into()),
        parameters: Some([("serialization.format".to_owned(), "1".to_owned())].into()),
        ..SerDeInfo::default()
    };
    StorageDescriptor {
        cols: Some(columns.into()),
        input_format: Some("org.apache.hadoop.hive.ql.io.parquet.MapredParquetInputFormat".into()),
        output_format: Some("org.apache.hadoop.hive.ql.io.parquet.MapredParquetOutputFormat".into()),
        num_buckets: Some(-1),
        serde_info: Some(serde),
        ..StorageDescriptor::default()
    }
}
