//! The rows of a stream's table up to where it ends now, for queries of the batch engine.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::RecordBatch;
use futures::stream::{self, BoxStream, StreamExt};
use tereza_engine::flink::StreamSource;
use tereza_runtime::{Error, Result, clock, ids};

use super::stats::Stats;
use crate::connector::{self, Collect, Connector, Files, Found, Inputs, KafkaTable, Reader};
use crate::host::Host;
use crate::kafka::{BoundedMode, Feed, FeedSettings, Limits, OffsetReset, StartupMode, resolve};
use crate::operator::{ChangelogMode, failed};
use crate::pipeline::{Polled, Source};
use crate::record::Positions;
use crate::shares::Owners;

/// Bytes that wait in a source, and those of a batch.
const QUEUE_BYTES: u64 = 16 << 20;
/// How long a query waits for the next row of a topic: all that it reads was there when it began.
const SILENCE_MAX: Duration = Duration::from_secs(20);

/// Reads a table. Where nothing says where it begins and ends, it begins at the earliest offset and ends at what is committed now.
pub(crate) async fn scan(
    table: Arc<StreamSource>,
    columns: Vec<usize>,
    host: Arc<dyn Host>,
) -> Result<BoxStream<'static, Result<RecordBatch>>> {
    let connector = Connector::of(&table, host.now_ms())?;
    if connector.reads(&table)? != ChangelogMode::Append {
        return Err(Error::unsupported(format!(
            "a query of the batch engine on {}, whose rows replace others",
            table.name()
        ))
        .with_hint("write it into a table by a stream job, or set 'execution.runtime-mode' = 'streaming'"));
    }
    let name = table.name().to_owned();
    let stats = Arc::new(Stats::default());
    let mut brokers = None;
    let (mut inputs, positions) = match connector {
        Connector::Kafka(kafka) => {
            let KafkaTable { mut options, formats, places } = *kafka;
            let says_where = table.definition().options.contains_key("scan.startup.mode");
            if !says_where && options.startup == StartupMode::Group(OffsetReset::Refuse) {
                options.startup = StartupMode::Earliest;
            }
            if options.bounded == BoundedMode::Unbounded {
                options.bounded = BoundedMode::Latest;
            }
            // A query writes nothing.
            options.dead_letters = None;
            let asked = options.clone();
            let begin = tokio::task::spawn_blocking(move || resolve(&asked)).await;
            let begin = begin.map_err(|error| Error::internal(format!("a call of Kafka panicked: {error}")))??;
            brokers = Some(options.connection.bootstrap().to_owned());
            let topics = begin.topics.keys().cloned().collect();
            let settings = FeedSettings {
                connection: options.connection.clone(),
                group: format!("tereza.scan.{}", ids::new_id()),
                topics: begin.topics,
                ends: begin.ends,
                limits: Limits { queue_bytes: QUEUE_BYTES, discovery: None, task: 0, owners: Owners::one() },
            };
            let kafka = KafkaTable { options, formats, places };
            let feed = Feed::new(settings, Collect::new(kafka.wants_headers()));
            let from = connector::From::Topics(topics);
            let reader = Reader::new(table, Some(kafka))?.only(&columns.iter().copied().collect())?;
            let tables = vec![connector::Table { reader: Some(reader), from }];
            (Inputs::new(tables, Some(feed), Arc::default(), host, stats)?, begin.starts)
        }
        Connector::Made(events) => {
            if events.numbers().end == u64::MAX || events.keeps_alive() {
                return Err(Error::unsupported(format!("a query of the batch engine on {name}, which has no end"))
                    .with_hint(format!("set '{}'", events.end_option())));
            }
            let from = connector::From::Events { name: name.clone(), events };
            let tables = vec![connector::Table { reader: Some(Reader::new(table, None)?), from }];
            let positions = Positions::from([(name, BTreeMap::from([(0, 0)]))]);
            (Inputs::new(tables, None, Arc::default(), host, stats)?, positions)
        }
        Connector::Files(files) => {
            let files = Box::new(Files::new(files.bounded(), Found::forgotten())?);
            let from = connector::From::Files { name: name.clone(), files };
            let tables = vec![connector::Table { reader: Some(Reader::new(table, None)?), from }];
            let positions = Positions::from([(name, BTreeMap::from([(0, 0)]))]);
            (Inputs::new(tables, None, Arc::default(), host, stats)?, positions)
        }
        Connector::Blackhole | Connector::Print(_) => {
            return Err(Error::internal(format!("table {name} is read, which has no rows")));
        }
    };
    inputs.assign(&positions).await?;
    let batches = stream::try_unfold((inputs, columns, brokers), |(mut inputs, columns, brokers)| async move {
        let (mut since, mut at) = (clock::now(), inputs.positions());
        loop {
            match inputs.poll().await? {
                Polled::Rows { input, .. } if input.rows.is_empty() => since = clock::now(),
                Polled::Rows { input, .. } => {
                    let rows = input.rows.iter().map(|arrived| arrived.batch.rows().project(&columns).map_err(failed));
                    let rows: Vec<Result<RecordBatch>> = rows.collect();
                    return Ok::<_, Error>(Some((rows, (inputs, columns, brokers))));
                }
                Polled::Idle => {
                    let now_at = inputs.positions();
                    if now_at != at {
                        (since, at) = (clock::now(), now_at);
                    }
                    if let Some(brokers) = brokers.as_ref().filter(|_| since.elapsed() > SILENCE_MAX) {
                        return Err(Error::unavailable(format!(
                            "Kafka at {brokers} gave no row for {SILENCE_MAX:?}, and there are more to read"
                        )));
                    }
                }
                Polled::End { .. } => return Ok(None),
            }
        }
    });
    let rows = batches.flat_map(|batches| match batches {
        Ok(rows) => stream::iter(rows).left_stream(),
        Err(error) => stream::once(std::future::ready(Err(error))).right_stream(),
    });
    Ok(rows.boxed())
}
