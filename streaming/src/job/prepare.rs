//! What statements need: the tables that they read and write, and the graph between them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::catalog::TableProvider;
use datafusion::physical_expr::utils::collect_columns;
use tereza_engine::flink::{BoundedPlan, Sink, StreamInsert, StreamSource};
use tereza_runtime::{Error, Result};

use super::flow::FlowTable;
use super::settings::JobSettings;
use crate::connector::Connector;
use crate::kafka::{Connection, Topics};
use crate::operator::ChangelogMode;
use crate::operator::graph::Graph;
use crate::operator::mode::{SinkMode, check_sink};
use crate::operator::watermark::WatermarkAssigner;
use crate::plan::{Exchange, Planned, Side, SourceRows, TableFacts, plan};

/// Statements of one job, checked and planned.
pub(crate) struct Prepared {
    pub(crate) graph: Graph,
    pub(crate) tables: Vec<ReadTable>,
    pub(crate) once: Vec<ReadOnce>,
    /// Tables that are looked up.
    pub(crate) sides: Vec<Side>,
    pub(crate) sinks: Vec<WrittenTable>,
    /// How the one cluster is reached that has all topics, if there are any.
    pub(crate) connection: Option<Connection>,
    /// Where rows have to change from one task to another if there are several.
    pub(crate) exchanges: Vec<Exchange>,
    /// A table whose rows of one key would come from several tasks, so that nothing tells which of them is the last.
    without_order: Option<String>,
}

/// A table that is read.
pub(crate) struct ReadTable {
    pub(crate) table: Arc<StreamSource>,
    pub(crate) connector: Connector,
    /// Sources of the graph, and the columns that each wants.
    pub(crate) sources: Vec<(usize, Vec<usize>)>,
}

/// Rows of tables that are no streams.
pub(crate) struct ReadOnce {
    /// What positions are called that are within them.
    pub(crate) name: String,
    pub(crate) query: BoundedPlan,
    /// A source of the graph, and the columns that it wants.
    pub(crate) source: (usize, Vec<usize>),
}

/// A table that is written.
pub(crate) enum WrittenTable {
    Stream {
        table: Arc<StreamSource>,
        connector: Connector,
    },
    /// One of the catalog.
    Catalog {
        catalog: String,
        schema: String,
        table: String,
    },
}

impl Prepared {
    /// Checks and plans statements.
    ///
    /// # Errors
    /// `Unsupported` names what a stream cannot do, or a sink not take; `InvalidInput` what is wrong in the options of a table.
    pub(crate) fn new(inserts: &[StreamInsert], settings: &JobSettings, origin_ms: i64) -> Result<Self> {
        Self::of(inserts, settings, origin_ms, false)
    }

    /// As [`Self::new`], with edges in the graph where rows change from one task to another.
    pub(crate) fn spread(inserts: &[StreamInsert], settings: &JobSettings, origin_ms: i64) -> Result<Self> {
        Self::of(inserts, settings, origin_ms, true)
    }

    fn of(inserts: &[StreamInsert], settings: &JobSettings, origin_ms: i64, is_spread: bool) -> Result<Self> {
        let Planned { graph, sources, sides, results, exchanges } = planned(inserts, settings, origin_ms, is_spread)?;
        let (mut tables, mut once) = (Vec::<ReadTable>::new(), Vec::new());
        for (at, source) in sources.into_iter().enumerate() {
            let provider = match source.rows {
                SourceRows::Stream(provider) => provider,
                SourceRows::Once(query) => {
                    // No topic has such a name.
                    let name = format!("query {}", once.len());
                    once.push(ReadOnce { name, query: *query, source: (at, source.columns) });
                    continue;
                }
            };
            let table = stream(provider.as_ref())?;
            let is_same = |known: &&mut ReadTable| {
                known.table.name() == table.name() && known.table.definition() == table.definition()
            };
            match tables.iter_mut().find(is_same) {
                Some(known) => known.sources.push((at, source.columns)),
                None => tables.push(ReadTable {
                    connector: Connector::of(table, origin_ms)?,
                    table: Arc::new(table.clone()),
                    sources: vec![(at, source.columns)],
                }),
            }
        }
        let mut topics = BTreeSet::new();
        for ReadTable { table, connector, .. } in &tables {
            let Connector::Kafka(kafka) = connector else { continue };
            let Topics::Names(names) = &kafka.options.topics else { continue };
            if let Some(twice) = names.iter().find(|name| !topics.insert(name.as_str())) {
                let name = table.name();
                return Err(Error::unsupported(format!("a second table of the topic '{twice}' in one job, {name},")));
            }
        }
        for ReadTable { table, connector, .. } in &tables {
            let Connector::Kafka(kafka) = connector else { continue };
            let Some(dead) = &kafka.options.dead_letters else { continue };
            let reads = |read: &&ReadTable| matches!(&read.connector, Connector::Kafka(kafka) if kafka.options.topics.has(dead));
            if let Some(read) = tables.iter().find(reads) {
                let (table, read) = (table.name(), read.table.name());
                return Err(Error::unsupported(format!(
                    "the topic '{dead}' for messages of {table} that cannot be read, which the same job reads as {read},"
                )));
            }
        }
        let (mut sinks, mut without_order) = (Vec::new(), None);
        for (insert, result) in inserts.iter().zip(results) {
            let (name, takes, sink) = match &insert.sink {
                Sink::Stream(table) => {
                    let connector = Connector::of(table, origin_ms)?;
                    let takes = connector.takes(table)?;
                    let name = table.name().to_owned();
                    (name, takes, WrittenTable::Stream { table: Arc::clone(table), connector })
                }
                Sink::Table { catalog, schema, table, .. } => {
                    let sink = WrittenTable::Catalog {
                        catalog: catalog.clone(),
                        schema: schema.clone(),
                        table: table.clone(),
                    };
                    (format!("{catalog}.{schema}.{table}"), SinkMode::Append, sink)
                }
            };
            check_sink(&format!("table {name}"), &takes, &result.mode)?;
            if matches!(&takes, SinkMode::Upsert(key) if !result.places.keeps_together(key)) {
                without_order.get_or_insert(name);
            }
            sinks.push(sink);
        }
        let mut prepared = Self { graph, tables, once, sides, sinks, connection: None, exchanges, without_order };
        prepared.connection = prepared.one_cluster()?;
        Ok(prepared)
    }

    /// Output and input positions are one commit: that is of one cluster.
    fn one_cluster(&self) -> Result<Option<Connection>> {
        let mut one: Option<(&str, &Connection)> = None;
        let read = self.tables.iter().map(|read| (read.table.name(), &read.connector));
        let written = self.sinks.iter().filter_map(|sink| match sink {
            WrittenTable::Stream { table, connector } => Some((table.name(), connector)),
            WrittenTable::Catalog { .. } => None,
        });
        for (name, connector) in read.chain(written) {
            let Connector::Kafka(kafka) = connector else { continue };
            match one {
                None => one = Some((name, &kafka.options.connection)),
                Some((_, known)) if *known == kafka.options.connection => {}
                Some((other, _)) => {
                    return Err(Error::unsupported(format!(
                        "one job with tables that reach Kafka in two ways, such as {other} and {name},"
                    ))
                    .with_hint("give both the same 'properties.*'"));
                }
            }
        }
        Ok(one.map(|(_, connection)| connection.clone()))
    }

    /// Why the job can have one task only; `None` if it can have several. `in_kafka` says whether it has its log there.
    pub(crate) fn alone(&self, in_kafka: bool) -> Option<String> {
        let operator = self.graph.keyed()?;
        let why = match (&self.connection, &self.without_order) {
            (None, _) => "and the job has no topics, through which tasks exchange rows".to_owned(),
            (_, Some(table)) => {
                format!("and those of a key of table {table} would come from several tasks in no order")
            }
            (_, None) if in_kafka => return None,
            (_, None) => {
                "and tasks exchange rows only where the log of the job is in Kafka: where it writes topics, or was \
                submitted with 'parallelism.default' above 1"
                    .to_owned()
            }
        };
        Some(format!("all rows of a key belong together in the operator {operator}, {why}"))
    }

    /// Whether a new job has its log in Kafka: it writes topics, or its tasks are to exchange rows.
    pub(crate) fn begins_in_kafka(&self, tasks: u32) -> bool {
        self.writes_topics() || tasks > 1 && !self.exchanges.is_empty() && self.alone(true).is_none()
    }

    /// Whether rows go to topics, or messages that cannot be read do.
    pub(crate) fn writes_topics(&self) -> bool {
        let keeps = |read: &ReadTable| matches!(&read.connector, Connector::Kafka(kafka) if kafka.options.dead_letters.is_some());
        self.tables.iter().any(keeps)
            || self.sinks.iter().any(|sink| matches!(sink, WrittenTable::Stream { connector: Connector::Kafka(_), .. }))
    }

    /// The topics of sinks, and how they are reached.
    pub(crate) fn written_topics(&self) -> Result<Vec<(Connection, String)>> {
        let topic = |sink: &WrittenTable| match sink {
            WrittenTable::Stream { connector: Connector::Kafka(kafka), .. } => {
                Some(kafka.topic().map(|topic| (kafka.options.connection.clone(), topic.to_owned())))
            }
            WrittenTable::Stream { .. } | WrittenTable::Catalog { .. } => None,
        };
        self.sinks.iter().filter_map(topic).collect()
    }

    /// The operators, a line each.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.graph.lines()
    }
}

impl ReadOnce {
    /// What the flow of a task has of it.
    pub(crate) fn flow(&self) -> FlowTable {
        FlowTable {
            sources: vec![self.source.clone()],
            assigner: None,
            topics: BTreeSet::from([self.name.clone()]),
            partitions: BTreeMap::new(),
            is_ended: false,
            told: None,
        }
    }
}

impl ReadTable {
    /// The columns that sources want, and what the watermark is made of.
    pub(crate) fn wanted(&self) -> BTreeSet<usize> {
        let mut wanted: BTreeSet<usize> = self.sources.iter().flat_map(|(_, columns)| columns).copied().collect();
        if let Some((_, strategy)) = self.table.watermark() {
            wanted.extend(collect_columns(&strategy).iter().map(|column| column.index()));
        }
        wanted
    }

    /// What the flow of a task has of it. `topics` are what it is read from.
    pub(crate) fn flow(&self, topics: BTreeSet<String>, settings: &JobSettings) -> Result<FlowTable> {
        let assigner = self
            .table
            .watermark()
            .map(|(_, strategy)| WatermarkAssigner::new(strategy, &self.table.schema(), settings.idle_after_ms, [], 0));
        Ok(FlowTable {
            sources: self.sources.clone(),
            assigner: assigner.transpose()?,
            topics,
            partitions: BTreeMap::new(),
            is_ended: false,
            told: None,
        })
    }
}

/// The operators of statements as tasks that exchange rows have them.
pub(crate) fn lane(inserts: &[StreamInsert], settings: &JobSettings, origin_ms: i64) -> Result<(Graph, Vec<Side>)> {
    let Planned { graph, sides, .. } = planned(inserts, settings, origin_ms, true)?;
    Ok((graph, sides))
}

fn planned(inserts: &[StreamInsert], settings: &JobSettings, origin_ms: i64, is_spread: bool) -> Result<Planned> {
    let facts_of = |provider: &dyn TableProvider| {
        let Some(table) = provider.downcast_ref::<StreamSource>() else {
            return Ok(TableFacts { time: None, mode: ChangelogMode::Append, ends: true });
        };
        let mode = Connector::of(table, origin_ms)?.reads(table)?;
        Ok(TableFacts { time: table.watermark().map(|(time, _)| time), mode, ends: false })
    };
    plan(inserts.iter().map(|insert| &insert.plan), settings.of_plan(is_spread), &facts_of)
}

fn stream(provider: &dyn TableProvider) -> Result<&StreamSource> {
    provider.downcast_ref().ok_or_else(|| Error::internal("a source that is no stream is read as one"))
}
