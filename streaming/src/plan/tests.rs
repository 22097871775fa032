//! Queries of streams against the same queries of the batch engine on the same rows.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::concat_batches;
use arrow::datatypes::DataType;
use arrow::util::display::array_value_to_string;
use datafusion::datasource::TableProvider;
use tereza_engine::query::{SessionDefaults, SessionId, Statement};
use tereza_engine::{Engine, LocalQueryService, QueryService};
use tereza_runtime::Settings as Process;
use tereza_runtime::error::ErrorKind;

use super::*;
use crate::edge::{Head, Mark, Receiver, Sender, decode};
use crate::log::Output;
use crate::operator::fold::Fold;
use crate::operator::graph::{Entrance, Sinks};
use crate::operator::{WATERMARK_MAX, WATERMARK_MIN};

const TIME: &str = "dateTime";
/// How far behind the latest row the watermark is.
const DELAY_MS: i64 = 4_000;

/// People, auctions and bids of some minutes, and a table that is looked up. No two bids are of one moment.
const TABLES: [&str; 4] = [
    "CREATE TABLE memory.public.person AS SELECT value AS id, 'name ' || (value % 17) AS name,
        'c' || (value % 7) AS city, CASE value % 4 WHEN 0 THEN 'OR' WHEN 1 THEN 'ID' WHEN 2 THEN 'CA' ELSE 'NY' END AS state,
        arrow_cast(1700000000000 + value * 4999, 'Timestamp(Millisecond, None)') AS \"dateTime\"
     FROM generate_series(0, 59)",
    "CREATE TABLE memory.public.auction AS SELECT value AS id, 'item ' || value AS \"itemName\", value % 60 AS seller,
        10 + value % 3 AS category, 'd' || (value % 5) AS description,
        arrow_cast(1700000000000 + value * 1499, 'Timestamp(Millisecond, None)') AS \"dateTime\",
        arrow_cast(1700000000000 + value * 1499 + 20000 + value % 9 * 5000, 'Timestamp(Millisecond, None)') AS expires
     FROM generate_series(0, 199)",
    "CREATE TABLE memory.public.bid AS SELECT (value * 7919) % 10007 % 200 AS auction, (value * 6421) % 10009 % 60 AS bidder,
        (value * 3571) % 10037 % 997 * 31 AS price, 'channel-' || (value % 6) AS channel,
        'https://x/a/b' || (value % 9) || '/c?channel_id=' || (value % 31) AS url,
        arrow_cast(1700000000000 + value * 100 + value % 13 * 300, 'Timestamp(Millisecond, None)') AS \"dateTime\",
        'e' || (value % 11) AS extra
     FROM generate_series(0, 2999)",
    "CREATE TABLE memory.public.side AS SELECT value % 120 AS k, 'side ' || value AS v, value AS n
     FROM generate_series(0, 149)",
];

struct World {
    service: Arc<LocalQueryService>,
    session: SessionId,
    _folder: tempfile::TempDir,
}

impl World {
    async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let engine = Engine::open(&Process::in_folder(folder.path()).unwrap()).await.unwrap();
        let service = LocalQueryService::new(engine);
        let session = service.open_session("ada", SessionDefaults::default()).await.unwrap();
        let world = Self { service, session, _folder: folder };
        for sql in TABLES.into_iter().chain(["USE memory", "SET tereza.dialect = 'flink'"]) {
            world.rows(sql).await;
        }
        world
    }

    async fn rows(&self, sql: &str) -> Vec<RecordBatch> {
        let query = self.service.submit(&self.session, Statement::new(sql)).await;
        query
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
            .collect()
            .await
            .unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    async fn planned(&self, sql: &str) -> Result<Planned> {
        let query = self.service.plan_stream(&self.session, sql).await?;
        plan([&query], Settings::default(), &facts_of)
    }

    /// What comes out of a stream's query when all is read, as sorted rows of text.
    async fn streamed(&self, sql: &str, rows_at_once: usize) -> Vec<String> {
        let mut planned = self.planned(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        for side in &planned.sides {
            side.table.put(Arc::new(side.read(1 << 30).await.unwrap()));
        }
        let mut arrivals: Vec<(i64, usize, RecordBatch)> = Vec::new();
        for (source, table) in planned.sources.iter().enumerate() {
            let all = self.rows(&format!("SELECT * FROM {} ORDER BY `dateTime`", table.name)).await;
            let all = concat_batches(&all[0].schema(), &all).unwrap();
            let time = all.schema().index_of(TIME).unwrap();
            for from in (0..all.num_rows()).step_by(rows_at_once) {
                let batch = all.slice(from, rows_at_once.min(all.num_rows() - from));
                let last = batch.num_rows() - 1;
                let last_ms = millis(&batch, time, last);
                arrivals.push((last_ms, source, batch.project(&table.columns).unwrap()));
            }
        }
        arrivals.sort_by_key(|(time, source, _)| (*time, *source));
        let cx = Context { now_ms: 0, state_bytes_max: 1 << 30 };
        let mut folded = Folded(Fold::new(Arc::clone(&planned.results[0].schema)).unwrap());
        let mut watermarks = vec![WATERMARK_MIN; planned.sources.len()];
        for (time, source, batch) in arrivals {
            planned.graph.process(source, Batch::inserts(batch), &cx, &mut folded).unwrap();
            watermarks[source] = watermarks[source].max(time - DELAY_MS);
            planned.graph.advance(source, Some(watermarks[source]), &cx, &mut folded).unwrap();
        }
        for source in 0..planned.sources.len() {
            planned.graph.advance(source, Some(WATERMARK_MAX), &cx, &mut folded).unwrap();
        }
        texts(&folded.0.rows().unwrap())
    }

    /// The same by so many tasks that exchange rows, each with the rows of its turns.
    async fn spread(&self, sql: &str, tasks: u32) -> Vec<String> {
        let query = self.service.plan_stream(&self.session, sql).await.unwrap();
        let of_query = || plan([&query], Settings { is_spread: true, ..Settings::default() }, &facts_of).unwrap();
        let first = of_query();
        let mut looked_up = Vec::new();
        for side in &first.sides {
            looked_up.push(Arc::new(side.read(1 << 30).await.unwrap()));
        }
        let planned = || {
            let planned = of_query();
            planned.sides.iter().zip(&looked_up).for_each(|(side, rows)| side.table.put(Arc::clone(rows)));
            planned
        };
        let mut all: Vec<Spread> = (0..tasks).map(|task| Spread::new(task, tasks, &planned)).collect();
        let mut folded = Fold::new(Arc::clone(&first.results[0].schema)).unwrap();
        let mut arrivals: Vec<(i64, usize, RecordBatch)> = Vec::new();
        for (source, table) in first.sources.iter().enumerate() {
            let rows = self.rows(&format!("SELECT * FROM {} ORDER BY `dateTime`", table.name)).await;
            let rows = concat_batches(&rows[0].schema(), &rows).unwrap();
            let time = rows.schema().index_of(TIME).unwrap();
            for from in (0..rows.num_rows()).step_by(37) {
                let batch = rows.slice(from, 37.min(rows.num_rows() - from));
                let last_ms = millis(&batch, time, batch.num_rows() - 1);
                arrivals.push((last_ms, source, batch.project(&table.columns).unwrap()));
            }
        }
        arrivals.sort_by_key(|(time, source, _)| (*time, *source));
        for (turn, (time, source, batch)) in arrivals.into_iter().enumerate() {
            let to = turn % all.len();
            all[to].tables(|graph, cx, out| graph.process(source, Batch::inserts(batch), cx, out), &mut folded);
            for task in &mut all {
                task.tables(|graph, cx, out| graph.advance(source, Some(time - DELAY_MS), cx, out), &mut folded);
            }
            // Epochs end in no step with one another.
            let sent = all[turn / 2 % tasks as usize].end_epoch();
            all.iter_mut().for_each(|task| task.take(&sent, &mut folded));
        }
        for source in 0..first.sources.len() {
            for task in &mut all {
                task.tables(|graph, cx, out| graph.advance(source, Some(WATERMARK_MAX), cx, out), &mut folded);
            }
        }
        // A round for each exchange on the longest way, and one to see that no more is sent.
        for _ in 0..=first.exchanges.len() {
            let sent: Vec<Output> = all.iter_mut().flat_map(Spread::end_epoch).collect();
            all.iter_mut().for_each(|task| task.take(&sent, &mut folded));
        }
        assert!(all.iter_mut().all(|task| task.end_epoch().is_empty() && task.is_ended()), "{sql}");
        texts(&folded.rows().unwrap())
    }

    async fn batched(&self, sql: &str) -> Vec<String> {
        let batches = self.rows(sql).await;
        batches.iter().flat_map(texts).collect::<Vec<_>>().sorted()
    }
}

/// Partitions of the edges of these tests.
const PARTITIONS: i32 = 4;

/// A task that exchanges rows.
struct Spread {
    schemas: Vec<SchemaRef>,
    /// That of the tables' rows has the number -1.
    graphs: BTreeMap<i32, Graph>,
    receivers: BTreeMap<(i32, usize), Receiver>,
    senders: Vec<Sender>,
}

/// Takes what comes out of a graph.
struct Out<'a>(i32, &'a mut Vec<Sender>, &'a mut Vec<Output>, &'a mut Fold);

impl Sinks for Out<'_> {
    fn batch(&mut self, _: usize, batch: Batch) -> Result<()> {
        self.3.apply(&batch)
    }

    fn edge(&mut self, edge: usize, batch: Batch) -> Result<()> {
        self.1[edge].put(&batch, self.2)
    }

    fn edge_watermark(&mut self, edge: usize, watermark: Option<i64>) -> Result<()> {
        self.1[edge].advance(self.0, Mark::from(watermark));
        Ok(())
    }
}

impl Spread {
    fn new(task: u32, tasks: u32, planned: &dyn Fn() -> Planned) -> Self {
        let Planned { graph, exchanges, .. } = planned();
        let mut graphs = BTreeMap::from([(-1, graph)]);
        let own = (0..PARTITIONS).filter(|partition| partition.unsigned_abs() % tasks == task);
        graphs.extend(own.map(|partition| (partition, planned().graph)));
        let mut reached: Vec<Vec<i32>> = vec![Vec::new(); exchanges.len()];
        for (number, graph) in &mut graphs {
            let entrance = if *number < 0 { Entrance::Sources } else { Entrance::Edges };
            graph.only(entrance).into_iter().for_each(|edge| reached[edge].push(*number));
        }
        let head = Head { generation: 1, task, tasks, mark: None };
        let senders = exchanges.iter().zip(reached).enumerate();
        let senders = senders
            .map(|(edge, (exchange, from))| Sender::new(edge.to_string(), exchange, PARTITIONS, head, from).unwrap())
            .collect();
        let schemas = exchanges.into_iter().map(|exchange| exchange.schema).collect();
        Self { schemas, graphs, receivers: BTreeMap::new(), senders }
    }

    fn tables(&mut self, run: impl FnOnce(&mut Graph, &Context, &mut Out<'_>) -> Result<()>, fold: &mut Fold) {
        self.run(-1, run, fold);
    }

    fn run(&mut self, graph: i32, run: impl FnOnce(&mut Graph, &Context, &mut Out<'_>) -> Result<()>, fold: &mut Fold) {
        let cx = Context { now_ms: 0, state_bytes_max: 1 << 30 };
        let mut sent = Vec::new();
        let of = self.graphs.get_mut(&graph).unwrap();
        run(of, &cx, &mut Out(graph, &mut self.senders, &mut sent, fold)).unwrap();
        assert!(sent.is_empty(), "these rows are few");
    }

    fn end_epoch(&mut self) -> Vec<Output> {
        let mut sent = Vec::new();
        self.senders.iter_mut().for_each(|sender| sender.end_epoch(&mut sent).unwrap());
        sent
    }

    /// Takes those of messages that are of its own partitions.
    fn take(&mut self, sent: &[Output], fold: &mut Fold) {
        for output in sent {
            let (edge, partition) = (output.topic.parse::<usize>().unwrap(), output.partition.unwrap());
            if !self.graphs.contains_key(&partition) {
                continue;
            }
            let (head, rows) = decode(&output.headers, output.value.as_ref(), &self.schemas[edge]).unwrap();
            if let Some(rows) = rows {
                self.run(partition, |graph, cx, out| graph.process_edge(edge, rows, cx, out), fold);
            }
            let receiver = self.receivers.entry((partition, edge)).or_default();
            receiver.take(&head).unwrap();
            if let Some(mark) = receiver.mark() {
                self.run(partition, |graph, cx, out| graph.advance_edge(edge, mark.watermark(), cx, out), fold);
            }
        }
    }

    fn is_ended(&self) -> bool {
        let lanes = self.graphs.len() - 1;
        self.receivers.len() == lanes * self.schemas.len() && self.receivers.values().all(Receiver::is_ended)
    }
}

struct Folded(Fold);

impl Sinks for Folded {
    fn batch(&mut self, _: usize, batch: Batch) -> Result<()> {
        self.0.apply(&batch)
    }
}

trait Sorted {
    fn sorted(self) -> Self;
}

impl Sorted for Vec<String> {
    fn sorted(mut self) -> Self {
        self.sort();
        self
    }
}

fn facts_of(table: &dyn TableProvider) -> Result<TableFacts> {
    Ok(TableFacts { time: table.schema().index_of(TIME).ok(), mode: ChangelogMode::Append, ends: false })
}

fn millis(batch: &RecordBatch, column: usize, row: usize) -> i64 {
    let times = arrow::compute::cast(batch.column(column), &DataType::Int64).unwrap();
    arrow::array::AsArray::as_primitive::<arrow::datatypes::Int64Type>(&times).value(row)
}

fn texts(rows: &RecordBatch) -> Vec<String> {
    let row = |row| {
        let cells: Vec<String> =
            rows.columns().iter().map(|column| array_value_to_string(column, row).unwrap()).collect();
        cells.join("|")
    };
    (0..rows.num_rows()).map(row).collect::<Vec<_>>().sorted()
}

const QUERIES: [(&str, &str); 42] = [
    ("q0", "SELECT auction, bidder, price, `dateTime`, extra FROM bid"),
    ("q1", "SELECT auction, bidder, 0.908 * price AS price, `dateTime`, extra FROM bid"),
    ("q2", "SELECT auction, price FROM bid WHERE MOD(auction, 123) = 0"),
    (
        "q3",
        "SELECT p.name, p.city, p.state, a.id FROM auction AS a JOIN person AS p ON a.seller = p.id
         WHERE a.category = 10 AND p.state IN ('OR', 'ID', 'CA')",
    ),
    (
        "q4",
        "SELECT m.category, AVG(m.final) AS avg_final FROM (
           SELECT a.id, a.category, MAX(b.price) AS final FROM auction AS a JOIN bid AS b ON a.id = b.auction
           WHERE b.`dateTime` BETWEEN a.`dateTime` AND a.expires GROUP BY a.id, a.category) AS m GROUP BY m.category",
    ),
    (
        "q5",
        "SELECT c.auction, c.num, c.window_start, c.window_end FROM (
           SELECT auction, COUNT(*) AS num, window_start, window_end
           FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
           GROUP BY auction, window_start, window_end) AS c JOIN (
           SELECT MAX(n.num) AS maxn, n.window_start, n.window_end FROM (
             SELECT COUNT(*) AS num, window_start, window_end
             FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '2' SECOND, INTERVAL '10' SECOND))
             GROUP BY auction, window_start, window_end) AS n GROUP BY n.window_start, n.window_end) AS m
         ON c.window_start = m.window_start AND c.window_end = m.window_end AND c.num >= m.maxn",
    ),
    (
        "q7",
        "SELECT b.auction, b.price, b.bidder, b.`dateTime`, b.extra FROM bid AS b JOIN (
           SELECT MAX(price) AS maxprice, window_time AS w
           FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
           GROUP BY window_start, window_end, window_time) AS m
         ON b.price = m.maxprice AND b.`dateTime` BETWEEN m.w - INTERVAL '10' SECOND AND m.w",
    ),
    (
        "q8",
        "SELECT p.id, p.name, p.window_start FROM (
           SELECT id, name, window_start, window_end
           FROM TABLE(TUMBLE(TABLE person, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
           GROUP BY id, name, window_start, window_end) AS p JOIN (
           SELECT seller, window_start, window_end
           FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND))
           GROUP BY seller, window_start, window_end) AS a
         ON p.id = a.seller AND p.window_start = a.window_start AND p.window_end = a.window_end",
    ),
    (
        "q9",
        "SELECT id, `itemName`, seller, category, auction, bidder, price, bid_time FROM (
           SELECT a.id, a.`itemName`, a.seller, a.category, b.auction, b.bidder, b.price, b.`dateTime` AS bid_time,
             ROW_NUMBER() OVER (PARTITION BY a.id ORDER BY b.price DESC, b.`dateTime` ASC) AS rn
           FROM auction AS a JOIN bid AS b ON a.id = b.auction
           WHERE b.`dateTime` BETWEEN a.`dateTime` AND a.expires) WHERE rn <= 1",
    ),
    (
        "q10",
        "SELECT auction, bidder, price, `dateTime`, extra, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd') AS dt,
           DATE_FORMAT(`dateTime`, 'HH:mm') AS hm FROM bid",
    ),
    (
        "q11",
        "SELECT bidder, COUNT(*) AS bid_count, window_start AS starttime, window_end AS endtime
         FROM TABLE(SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(`dateTime`), INTERVAL '5' SECOND))
         GROUP BY bidder, window_start, window_end",
    ),
    (
        "q11 in GROUP BY",
        "SELECT bidder, COUNT(*) AS bid_count, SESSION_START(`dateTime`, INTERVAL '5' SECOND) AS starttime,
           SESSION_END(`dateTime`, INTERVAL '5' SECOND) AS endtime
         FROM bid GROUP BY bidder, SESSION(`dateTime`, INTERVAL '5' SECOND)",
    ),
    (
        "q13",
        "SELECT b.auction, b.bidder, b.price, b.`dateTime`, s.v FROM (SELECT *, PROCTIME() AS p_time FROM bid) AS b
         JOIN side FOR SYSTEM_TIME AS OF b.p_time AS s ON MOD(b.auction, 130) = s.k",
    ),
    (
        "rows that find nothing, and a condition",
        "SELECT b.auction, b.price, s.v, s.n FROM (SELECT *, PROCTIME() AS p_time FROM bid) AS b
         LEFT JOIN side FOR SYSTEM_TIME AS OF b.p_time AS s
           ON b.auction = s.k + 1 AND s.n < b.price AND s.v <> 'side 7' AND b.price > 100",
    ),
    (
        "a window of rows that were looked up",
        "WITH looked_up AS (SELECT b.`dateTime`, s.v FROM (SELECT *, PROCTIME() AS p_time FROM bid) AS b
           JOIN side FOR SYSTEM_TIME AS OF b.p_time AS s ON b.auction = s.k)
         SELECT window_start, v, COUNT(*) AS n FROM TABLE(TUMBLE(TABLE looked_up, DESCRIPTOR(`dateTime`),
           INTERVAL '10' SECOND)) GROUP BY window_start, window_end, v",
    ),
    (
        "two tables that are looked up",
        "SELECT b.auction, s.v, t.n FROM (SELECT *, PROCTIME() AS p_time FROM bid) AS b
         JOIN side FOR SYSTEM_TIME AS OF b.p_time AS s ON b.auction = s.k
         LEFT JOIN side FOR SYSTEM_TIME AS OF b.p_time AS t ON s.n = t.k WHERE t.n IS NULL OR t.n < 100",
    ),
    (
        "q14",
        "SELECT auction, bidder, 0.908 * price AS price,
           CASE WHEN HOUR(`dateTime`) >= 8 AND HOUR(`dateTime`) <= 18 THEN 'dayTime'
                WHEN HOUR(`dateTime`) <= 6 OR HOUR(`dateTime`) >= 20 THEN 'nightTime' ELSE 'otherTime' END AS bidTimeType,
           `dateTime`, extra, CAST(CHAR_LENGTH(channel) - CHAR_LENGTH(REPLACE(channel, 'n', '')) AS BIGINT) AS c_counts
         FROM bid WHERE 0.908 * price > 1000 AND 0.908 * price < 20000",
    ),
    (
        "q15",
        "SELECT DATE_FORMAT(`dateTime`, 'yyyy-MM-dd') AS `day`, COUNT(*) AS total_bids,
           COUNT(*) FILTER (WHERE price < 10000) AS rank1_bids, COUNT(DISTINCT bidder) AS total_bidders,
           COUNT(DISTINCT bidder) FILTER (WHERE price < 10000) AS rank1_bidders,
           COUNT(DISTINCT auction) FILTER (WHERE price >= 10000 AND price < 20000) AS rank2_auctions
         FROM bid GROUP BY DATE_FORMAT(`dateTime`, 'yyyy-MM-dd')",
    ),
    (
        "q16",
        "SELECT channel, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd') AS `day`, MAX(DATE_FORMAT(`dateTime`, 'HH:mm')) AS `minute`,
           COUNT(*) AS total_bids, COUNT(DISTINCT bidder) AS total_bidders
         FROM bid GROUP BY channel, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd')",
    ),
    (
        "q17",
        "SELECT auction, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd') AS `day`, COUNT(*) AS total_bids,
           COUNT(*) FILTER (WHERE price < 10000) AS rank1_bids, MIN(price) AS min_price, MAX(price) AS max_price,
           AVG(price) AS avg_price, SUM(price) AS sum_price
         FROM bid GROUP BY auction, DATE_FORMAT(`dateTime`, 'yyyy-MM-dd')",
    ),
    (
        "q18",
        "SELECT auction, bidder, price, channel, url, `dateTime`, extra
         FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY bidder, auction ORDER BY `dateTime` DESC) AS rn FROM bid) WHERE rn <= 1",
    ),
    (
        "q19",
        "SELECT auction, bidder, price, channel, url, `dateTime`, extra, rn
         FROM (SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC, `dateTime` ASC) AS rn FROM bid)
         WHERE rn <= 10",
    ),
    (
        "q20",
        "SELECT b.auction, b.bidder, b.price, b.channel, b.url, b.`dateTime` AS bid_time, a.`itemName`, a.expires, a.seller
         FROM bid AS b JOIN auction AS a ON b.auction = a.id WHERE a.category = 10",
    ),
    (
        "q21",
        "SELECT auction, bidder, price, channel, CASE WHEN LOWER(channel) = 'channel-1' THEN '0'
             ELSE REGEXP_EXTRACT(url, '(&|^|\\?)channel_id=([^&]*)', 2) END AS channel_id
         FROM bid WHERE REGEXP_EXTRACT(url, '(&|^|\\?)channel_id=([^&]*)', 2) IS NOT NULL OR LOWER(channel) IN ('channel-1')",
    ),
    (
        "q22",
        "SELECT auction, bidder, price, channel, SPLIT_INDEX(url, '/', 3) AS dir1, SPLIT_INDEX(url, '/', 4) AS dir2 FROM bid",
    ),
    (
        "q23",
        "SELECT a.id, p.name, b.price FROM bid AS b JOIN auction AS a ON b.auction = a.id JOIN person AS p ON a.seller = p.id",
    ),
    (
        "a window without a key",
        "SELECT window_start, window_end, SUM(price), MIN(channel) FROM TABLE(CUMULATE(TABLE bid, DESCRIPTOR(`dateTime`),
           INTERVAL '2' SECOND, INTERVAL '10' SECOND)) GROUP BY window_start, window_end",
    ),
    (
        "rows with their windows",
        "SELECT auction, window_start, window_time FROM TABLE(HOP(TABLE bid, DESCRIPTOR(`dateTime`),
           INTERVAL '5' SECOND, INTERVAL '10' SECOND)) WHERE price > 10000",
    ),
    (
        "an outer join",
        "SELECT p.id, p.name, a.id FROM person AS p LEFT JOIN auction AS a ON p.id = a.seller AND a.category = 11",
    ),
    ("all that there is", "SELECT channel FROM bid UNION ALL SELECT city FROM person"),
    (
        "windows over two tables",
        "SELECT TUMBLE_START(t, INTERVAL '10' SECOND), COUNT(*), SUM(v) FROM (
           SELECT `dateTime` AS t, price AS v FROM bid UNION ALL SELECT `dateTime`, id FROM auction)
         GROUP BY TUMBLE(t, INTERVAL '10' SECOND)",
    ),
    (
        "windows over the left time of a join",
        "SELECT TUMBLE_END(t, INTERVAL '10' SECOND), COUNT(*), MIN(price) FROM (
           SELECT b.`dateTime` AS t, b.price FROM bid AS b JOIN auction AS a ON b.auction = a.id
             AND b.`dateTime` BETWEEN a.`dateTime` - INTERVAL '2' SECOND AND a.`dateTime` + INTERVAL '30' SECOND)
         GROUP BY TUMBLE(t, INTERVAL '10' SECOND)",
    ),
    (
        "windows over the right time of a join",
        "SELECT TUMBLE_END(t, INTERVAL '10' SECOND), COUNT(*), COUNT(price) FROM (
           SELECT a.`dateTime` AS t, b.price FROM bid AS b RIGHT JOIN auction AS a ON b.auction = a.id
             AND b.`dateTime` BETWEEN a.`dateTime` - INTERVAL '2' SECOND AND a.`dateTime` + INTERVAL '30' SECOND)
         GROUP BY TUMBLE(t, INTERVAL '10' SECOND)",
    ),
    (
        "rows before a row",
        "SELECT auction, price, `dateTime`, SUM(price) OVER w AS s, COUNT(*) OVER w AS n, AVG(price) OVER w AS a,
           MIN(channel) OVER w AS least, MAX(price) OVER w AS most, FIRST_VALUE(price) OVER w AS f, LAST_VALUE(bidder) OVER w AS l
         FROM bid WINDOW w AS (PARTITION BY auction ORDER BY `dateTime` ROWS BETWEEN 3 PRECEDING AND CURRENT ROW)",
    ),
    (
        "a time before a row",
        "SELECT auction, price, SUM(price) OVER w AS s, MAX(price) OVER w AS most, AVG(0.5 * price) OVER w AS a
         FROM bid WINDOW w AS (PARTITION BY auction % 7, LOWER(channel) ORDER BY `dateTime`
           RANGE BETWEEN INTERVAL '20' SECOND PRECEDING AND CURRENT ROW)",
    ),
    (
        "all rows before a row",
        "SELECT bidder, price, COUNT(*) OVER (ORDER BY `dateTime`) AS n, MIN(price) OVER (ORDER BY `dateTime`) + 1 AS least FROM bid",
    ),
    (
        "rows with their number and the one before",
        "SELECT bidder, price, ROW_NUMBER() OVER (PARTITION BY bidder ORDER BY `dateTime`) AS rn,
           LAG(price, 1, -1) OVER (PARTITION BY bidder ORDER BY `dateTime`) AS was,
           price - LAG(price) OVER (PARTITION BY bidder ORDER BY `dateTime`) AS more FROM bid",
    ),
    (
        "frames that differ",
        "SELECT auction, SUM(price) OVER (PARTITION BY auction ORDER BY `dateTime` ROWS 2 PRECEDING) AS few,
           SUM(price) OVER (PARTITION BY auction ORDER BY `dateTime`) AS whole,
           SUM(price) OVER (PARTITION BY bidder ORDER BY `dateTime` ROWS 2 PRECEDING) AS others FROM bid",
    ),
    (
        "windows over rows with those before",
        "SELECT TUMBLE_START(t, INTERVAL '10' SECOND), MAX(n), SUM(n) FROM (
           SELECT `dateTime` AS t, COUNT(*) OVER (PARTITION BY bidder ORDER BY `dateTime`) AS n FROM bid)
         GROUP BY TUMBLE(t, INTERVAL '10' SECOND)",
    ),
    (
        "averages of decimals and of values that differ",
        "SELECT channel, AVG(0.908 * price), AVG(DISTINCT price), SUM(DISTINCT bidder), AVG(DISTINCT 0.5 * bidder)
         FROM bid GROUP BY channel",
    ),
    (
        "averages in windows",
        "SELECT window_start, AVG(0.908 * price), AVG(DISTINCT bidder), AVG(DISTINCT 0.5 * bidder)
         FROM TABLE(TUMBLE(TABLE bid, DESCRIPTOR(`dateTime`), INTERVAL '10' SECOND)) GROUP BY window_start, window_end",
    ),
    (
        "sessions of which some rows count",
        "SELECT bidder, COUNT(*), SUM(price) FILTER (WHERE price > 20000), AVG(0.5 * price), window_start, window_end
         FROM TABLE(SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(`dateTime`), INTERVAL '5' SECOND))
         WHERE price > 25000 GROUP BY bidder, window_start, window_end",
    ),
];

#[tokio::test]
async fn a_stream_that_ends_has_the_answer_of_the_batch() {
    let world = World::open().await;
    for (name, sql) in QUERIES {
        let wanted = world.batched(sql).await;
        assert!(!wanted.is_empty(), "{name} answers nothing");
        for rows_at_once in [1_000, 37] {
            let found = world.streamed(sql, rows_at_once).await;
            let (missing, extra): (Vec<_>, Vec<_>) = (
                wanted.iter().filter(|row| !found.contains(row)).take(5).collect(),
                found.iter().filter(|row| !wanted.contains(row)).take(5).collect(),
            );
            assert!(
                found == wanted,
                "{name}: {} rows, not {}; missing {missing:#?} extra {extra:#?}",
                found.len(),
                wanted.len()
            );
        }
    }
}

#[tokio::test]
async fn tasks_that_exchange_rows_have_the_answer_of_one() {
    let world = World::open().await;
    for (name, sql) in QUERIES {
        let wanted = world.batched(sql).await;
        for tasks in [1, 3] {
            let found = world.spread(sql, tasks).await;
            assert!(found == wanted, "{name} in {tasks} tasks: {} rows, not {}", found.len(), wanted.len());
        }
    }
}

#[tokio::test]
async fn rows_are_exchanged_where_their_key_is_another_one() {
    let world = World::open().await;
    for (sql, exchanges) in [
        ("SELECT auction, price FROM bid WHERE price > 5", 0),
        ("SELECT auction, COUNT(*) FROM bid GROUP BY auction", 1),
        // What is grouped by the same columns again is there already; fewer or other columns have other key groups.
        ("SELECT a, MAX(n) FROM (SELECT auction AS a, COUNT(*) AS n FROM bid GROUP BY auction) GROUP BY a", 1),
        ("SELECT n, COUNT(*) FROM (SELECT auction AS a, COUNT(*) AS n FROM bid GROUP BY auction) GROUP BY n", 2),
        ("SELECT a.id, COUNT(*) FROM auction AS a JOIN bid AS b ON a.id = b.auction GROUP BY a.id", 2),
        ("SELECT b.auction, COUNT(*) FROM auction AS a JOIN bid AS b ON a.id = b.auction GROUP BY b.auction", 2),
        ("SELECT a.id, COUNT(*) FROM bid AS b LEFT JOIN auction AS a ON a.id = b.auction GROUP BY a.id", 3),
        (
            "SELECT a.id, b.bidder, COUNT(*) FROM auction AS a JOIN bid AS b ON a.id = b.auction GROUP BY a.id, b.bidder",
            3,
        ),
    ] {
        let query = world.service.plan_stream(&world.session, sql).await.unwrap();
        let fused = plan([&query], Settings::default(), &facts_of).unwrap();
        let spread = plan([&query], Settings { is_spread: true, ..Settings::default() }, &facts_of).unwrap();
        assert_eq!(fused.exchanges.len(), exchanges, "{sql}: {:?}", fused.exchanges);
        let shapes = |planned: &Planned| planned.exchanges.iter().map(Exchange::shape).collect::<Vec<_>>();
        assert_eq!(shapes(&fused), shapes(&spread), "{sql}");
        assert!(fused.graph.ids().eq(spread.graph.ids()), "{sql}");
        let lines = |planned: &Planned| planned.graph.lines().iter().filter(|line| line.contains("exchange")).count();
        // Each has a line of where it begins, at the end of an operator's or a source's, and one of its own.
        assert!(lines(&fused) == 0 && lines(&spread) >= exchanges && lines(&spread) <= 2 * exchanges, "{sql}");
    }
}

#[tokio::test]
async fn what_a_stream_cannot_do_is_refused_by_name() {
    let world = World::open().await;
    for (sql, said) in [
        ("SELECT * FROM bid ORDER BY price", "ORDER BY without an end"),
        ("SELECT * FROM bid LIMIT 3", "LIMIT"),
        ("SELECT SUM(price) OVER (PARTITION BY auction ORDER BY price) FROM bid", "OVER with ORDER BY 'price', which no WATERMARK"),
        ("SELECT SUM(price) OVER (ORDER BY `dateTime` DESC) FROM bid", "OVER with ORDER BY … DESC"),
        ("SELECT SUM(price) OVER (ORDER BY `dateTime`, price) FROM bid", "OVER with ORDER BY of several columns"),
        ("SELECT SUM(price) OVER (PARTITION BY auction) FROM bid", "OVER without ORDER BY"),
        (
            "SELECT SUM(price) OVER (ORDER BY `dateTime` ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) FROM bid",
            "OVER with a frame that ends after the current row",
        ),
        (
            "SELECT SUM(price) OVER (ORDER BY `dateTime` RANGE BETWEEN INTERVAL '1' MONTH PRECEDING AND CURRENT ROW) FROM bid",
            "no INTERVAL of whole milliseconds",
        ),
        ("SELECT LEAD(price) OVER (ORDER BY `dateTime`) FROM bid", "LEAD, which is of rows that have not come"),
        ("SELECT RANK() OVER (ORDER BY `dateTime`) FROM bid", "rank with OVER"),
        ("SELECT FIRST_VALUE(price) RESPECT NULLS OVER (ORDER BY `dateTime`) FROM bid", "RESPECT NULLS in first_value"),
        ("SELECT auction, ROW_NUMBER() OVER (ORDER BY price) AS rn FROM bid", "ROW_NUMBER ordered by 'price' without a bound"),
        (
            "SELECT TUMBLE_START(t, INTERVAL '10' SECOND), COUNT(*) FROM (
               SELECT b.`dateTime` AS t FROM bid AS b JOIN auction AS a ON b.auction = a.id) GROUP BY TUMBLE(t, INTERVAL '10' SECOND)",
            "which no WATERMARK is of",
        ),
        (
            "SELECT TUMBLE_START(t, INTERVAL '10' SECOND), COUNT(*) FROM (
               SELECT a.`dateTime` AS t FROM bid AS b LEFT JOIN auction AS a ON b.auction = a.id
                 AND b.`dateTime` BETWEEN a.`dateTime` AND a.`dateTime` + INTERVAL '30' SECOND)
             GROUP BY TUMBLE(t, INTERVAL '10' SECOND)",
            "a window over 't', which no WATERMARK is of",
        ),
        (
            "SELECT TUMBLE_START(t, INTERVAL '10' SECOND), COUNT(*) FROM (
               SELECT `dateTime` AS t FROM bid UNION ALL SELECT expires FROM auction) GROUP BY TUMBLE(t, INTERVAL '10' SECOND)",
            "a window over 't', which no WATERMARK is of",
        ),
        (
            "SELECT SUM(price) OVER (ORDER BY `dateTime`) FROM (
               SELECT *, ROW_NUMBER() OVER (PARTITION BY auction ORDER BY price DESC) AS rn FROM bid) WHERE rn <= 2",
            "OVER takes inserts only",
        ),
        (
            "SELECT * FROM TABLE(SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(`dateTime`), INTERVAL '5' SECOND))",
            "a SESSION window without GROUP BY window_start, window_end",
        ),
        (
            "SELECT auction, COUNT(*) FROM TABLE(SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(`dateTime`), INTERVAL '5' SECOND))
             GROUP BY auction, window_start, window_end",
            "a SESSION window with PARTITION BY bidder that is grouped by auction",
        ),
        (
            "SELECT bidder, MAX(window_end) FROM TABLE(SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(`dateTime`),
               INTERVAL '5' SECOND)) GROUP BY bidder, window_start, window_end",
            "a bound of a SESSION window within an aggregate",
        ),
        (
            "SELECT bidder, STDDEV(price) FROM TABLE(SESSION(TABLE bid PARTITION BY bidder, DESCRIPTOR(`dateTime`),
               INTERVAL '5' SECOND)) GROUP BY bidder, window_start, window_end",
            "stddev over a SESSION window",
        ),
        ("SELECT auction, COUNT(*) FROM bid GROUP BY ROLLUP (auction)", "GROUPING SETS"),
        ("SELECT * FROM bid WHERE auction IN (SELECT id FROM auction)", "IN or EXISTS"),
        ("SELECT STDDEV(price) FROM bid", "stddev without a window"),
        (
            "SELECT window_start, COUNT(*) FROM TABLE(TUMBLE(TABLE auction, DESCRIPTOR(expires), INTERVAL '10' SECOND))
             GROUP BY window_start, window_end",
            "a window over 'expires', which no WATERMARK is of",
        ),
        (
            "SELECT b.auction, s.v FROM bid AS b JOIN side FOR SYSTEM_TIME AS OF b.`dateTime` AS s ON b.auction = s.k",
            "FOR SYSTEM_TIME AS OF b.dateTime, which is not PROCTIME()",
        ),
        (
            "SELECT b.auction, s.v FROM bid AS b JOIN side FOR SYSTEM_TIME AS OF PROCTIME() AS s ON b.auction = s.k",
            "which is no column",
        ),
        ("SELECT * FROM side FOR SYSTEM_TIME AS OF nothing.at AS s", "elsewhere than after a table that is joined"),
        (
            "SELECT b.auction, s.v FROM (SELECT *, PROCTIME() AS p FROM bid) AS b
             RIGHT JOIN side FOR SYSTEM_TIME AS OF b.p AS s ON b.auction = s.k",
            "a Right join with a table FOR SYSTEM_TIME AS OF",
        ),
        (
            "SELECT b.auction, s.v FROM (SELECT *, PROCTIME() AS p FROM bid) AS b
             JOIN side FOR SYSTEM_TIME AS OF b.p AS s ON b.auction < s.k",
            "a join without a key with a table that is looked up",
        ),
        (
            "SELECT c.auction, s.v FROM (SELECT auction, COUNT(*) AS n, PROCTIME() AS p FROM bid GROUP BY auction) AS c
             JOIN side FOR SYSTEM_TIME AS OF c.p AS s ON c.n = s.k",
            "a join with a table that is looked up",
        ),
    ] {
        let error = world.planned(sql).await.err().unwrap_or_else(|| panic!("{sql} is planned"));
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{sql}: {error}");
        assert!(error.to_string().contains(said), "{sql}: {error}");
    }
}
