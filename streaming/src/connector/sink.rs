//! Where the rows of a query go: messages of a topic, files of a table, standard output, nowhere.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, SchemaRef, TimeUnit, TimestampMillisecondType};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use tereza_engine::flink::StreamSource;
use tereza_runtime::{Error, Result};

use super::KafkaTable;
use super::kafka::{Metadata, Place};
use crate::format::{Encoder, encoder};
use crate::kafka::Partitioner;
use crate::log::Output;
use crate::operator::batch::Batch;
use crate::operator::failed;
use crate::pipeline::Produced;

/// Writes the rows of one query.
pub(crate) enum SinkWriter {
    Topic(Box<TopicWriter>),
    /// A table of the catalog, by its name in the plan.
    Table {
        name: String,
        schema: SchemaRef,
    },
    Print(Option<String>),
    Nowhere,
}

/// Makes messages of rows.
pub(crate) struct TopicWriter {
    topic: String,
    encoder: Box<dyn Encoder>,
    /// The columns that messages hold, by their places among the columns that are written.
    data: Vec<usize>,
    schema: SchemaRef,
    /// The column of messages' times.
    timestamp: Option<usize>,
    is_upsert: bool,
    partitioner: Partitioner,
    partitions: i32,
    task: u32,
    turn: i32,
}

impl TopicWriter {
    /// `partitions` is how many the topic has.
    pub(crate) fn new(table: &StreamSource, kafka: &KafkaTable, partitions: i32, task: u32) -> Result<Self> {
        let written = table.written();
        let mut timestamp = None;
        let mut data = vec![0; kafka.formats.schema.fields().len()];
        for (place, field) in kafka.places.iter().zip(table.record_schema().fields()) {
            let at = written.index_of(field.name());
            match (place, at) {
                (Place::Data(column), Ok(at)) => data[*column] = at,
                (Place::Data(_), Err(_)) => {
                    return Err(Error::internal(format!("column '{}' of messages is not written", field.name())));
                }
                (Place::Metadata(Metadata::Timestamp), Ok(at)) => timestamp = Some(at),
                (Place::Metadata(_), _) => {}
            }
        }
        Ok(Self {
            topic: kafka.topic()?.to_owned(),
            encoder: encoder(&kafka.formats)?,
            data,
            schema: Arc::clone(&kafka.formats.schema),
            timestamp,
            is_upsert: kafka.options.upsert,
            partitioner: kafka.options.partitioner,
            partitions: partitions.max(1),
            task,
            turn: 0,
        })
    }

    /// Fetches what is needed to write.
    pub(crate) async fn prepare(&mut self) -> Result<()> {
        self.encoder.prepare().await
    }

    fn write(&mut self, batch: &Batch, out: &mut Vec<Output>) -> Result<u64> {
        // The row that an update replaces is told by its key.
        let only_latest;
        let batch = match self.is_upsert {
            true => {
                only_latest = batch.without_update_before()?;
                &only_latest
            }
            false => batch,
        };
        let rows = batch.rows();
        let columns: Vec<ArrayRef> = self.data.iter().map(|at| Arc::clone(rows.column(*at))).collect();
        let data = RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(failed)?;
        let times = self.timestamp.map(|at| {
            let millis = DataType::Timestamp(TimeUnit::Millisecond, None);
            cast(rows.column(at), &millis).map_err(failed)
        });
        let times = times.transpose()?;
        let times = times.as_ref().map(|times| times.as_primitive::<TimestampMillisecondType>());
        let messages = self.encoder.encode(&data, batch.kinds())?;
        let count = messages.len() as u64;
        for message in messages {
            let partition = match self.partitioner {
                Partitioner::ByKey => None,
                Partitioner::Fixed => Some(i32::try_from(self.task).unwrap_or_default() % self.partitions),
                Partitioner::RoundRobin => {
                    self.turn = (self.turn + 1) % self.partitions;
                    Some(self.turn)
                }
            };
            let timestamp = times.filter(|times| times.is_valid(message.row)).map(|times| times.value(message.row));
            out.push(Output {
                topic: self.topic.clone(),
                partition,
                key: message.key,
                value: message.value,
                headers: Vec::new(),
                timestamp,
            });
        }
        Ok(count)
    }
}

impl SinkWriter {
    /// Writes rows; says how many.
    pub(crate) fn write(&mut self, batch: Batch, out: &mut Produced<RecordBatch>) -> Result<u64> {
        let count = batch.len() as u64;
        match self {
            Self::Topic(topic) => topic.write(&batch, &mut out.outputs),
            Self::Table { name, schema } => {
                let columns = batch.rows().columns().to_vec();
                let rows = RecordBatch::try_new(Arc::clone(schema), columns).map_err(failed)?;
                out.rows.push((name.clone(), rows));
                Ok(count)
            }
            Self::Print(word) => {
                print(word.as_deref(), &batch)?;
                Ok(count)
            }
            Self::Nowhere => Ok(count),
        }
    }
}

/// Writes rows as Flink does: `+I[1, a, null]`.
fn print(word: Option<&str>, batch: &Batch) -> Result<()> {
    let options = FormatOptions::new().with_null("null");
    let columns = batch.rows().columns().iter().map(|column| ArrayFormatter::try_new(column, &options));
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(failed)?;
    let mut text = String::new();
    for row in 0..batch.len() {
        if let Some(word) = word {
            text.push_str(word);
            text.push_str("> ");
        }
        text.push_str(batch.kind(row).as_str());
        let cells: Vec<String> = columns.iter().map(|column| column.value(row).to_string()).collect();
        text.push_str(&format!("[{}]\n", cells.join(", ")));
    }
    // Whoever reads standard output may be gone.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    Ok(())
}
