//! Rows of one table: what messages or generated events say, with the columns that are computed from them.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use tereza_engine::flink::{ColumnSource, StreamSource};
use tereza_runtime::{Error, Result};

use super::{KafkaTable, dead_letter};
use crate::format::{Decoded, Decoder, Message, OnPoison, decoder};
use crate::log::Output;
use crate::operator::batch::Batch;
use crate::operator::calc::evaluate;
use crate::operator::failed;

/// Makes rows of a table.
pub(crate) struct Reader {
    table: Arc<StreamSource>,
    /// All columns.
    schema: SchemaRef,
    kafka: Option<(KafkaTable, Box<dyn Decoder>)>,
}

impl Reader {
    /// A reader of a table on Kafka, or of one whose records are made.
    pub(crate) fn new(table: Arc<StreamSource>, kafka: Option<KafkaTable>) -> Result<Self> {
        let kafka = match kafka {
            Some(kafka) => {
                let decoder = decoder(&kafka.formats)?;
                Some((kafka, decoder))
            }
            None => None,
        };
        Ok(Self { schema: table.schema(), table, kafka })
    }

    /// The rows of messages, which are of one partition. A message that cannot be read is added to `dead` if the table names
    /// a topic for it; else it is the error, where its format's options do not say that it is to be left out.
    pub(crate) async fn decode(&mut self, messages: &[Message], dead: &mut Vec<Output>) -> Result<Batch> {
        let Some((kafka, decoder)) = &mut self.kafka else {
            return Err(Error::internal(format!("messages for {}, which is not on Kafka", self.table.name())));
        };
        decoder.prepare(messages).await?;
        let Decoded { batch, kinds, sources, poisoned } = decoder.decode(messages)?;
        if let Some(topic) = &kafka.options.dead_letters {
            dead.extend(
                poisoned.iter().map(|poisoned| dead_letter::of(topic, &messages[poisoned.index], &poisoned.reason)),
            );
            metrics::counter!("tereza_stream_dead_letters_total").increment(poisoned.len() as u64);
        } else if let Some(first) = poisoned.iter().find(|poisoned| poisoned.policy == OnPoison::Fail) {
            return Err(first.to_error(messages).context(format_args!("table {}", self.table.name())));
        } else if let Some(first) = poisoned.first() {
            let (count, table, error) = (poisoned.len() as u64, self.table.name(), first.to_error(messages));
            metrics::counter!("tereza_stream_messages_skipped_total").increment(count);
            tracing::warn!(count, table, %error, "messages that cannot be read are left out, as their table asks for");
        }
        let of_rows: Vec<&Message> = sources.iter().filter_map(|at| messages.get(*at as usize)).collect();
        let columns = kafka.columns(batch.columns(), &of_rows, self.table.record_schema())?;
        let records = Arc::clone(self.table.record_schema());
        let rows = self.compute(RecordBatch::try_new(records, columns).map_err(failed)?)?;
        match kinds {
            None => Ok(Batch::inserts(rows)),
            Some(kinds) => Batch::changes(rows, kinds),
        }
    }

    /// All columns of records.
    pub(crate) fn compute(&self, records: RecordBatch) -> Result<RecordBatch> {
        let columns = self.table.columns().iter().map(|column| match column {
            ColumnSource::Record(at) => Ok(Arc::clone(records.column(*at))),
            ColumnSource::Computed(expression) => evaluate(expression, &records),
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(failed)
    }
}
