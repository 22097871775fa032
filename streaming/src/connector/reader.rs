//! Rows of one table: what messages or generated events say, with the columns that are computed from them.

use std::collections::BTreeSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, NullArray, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::physical_expr::utils::collect_columns;
use tereza_engine::flink::{ColumnSource, StreamSource};
use tereza_runtime::{Error, Result};

use super::{KafkaTable, dead_letter};
use crate::format::{Decoded, Decoder, Message, OnPoison, decoder, decoder_of};
use crate::log::Output;
use crate::operator::batch::Batch;
use crate::operator::calc::evaluate;
use crate::operator::failed;

/// Makes rows of a table.
pub(crate) struct Reader {
    table: Arc<StreamSource>,
    /// All columns, and those of records: those that nobody wants are of the type Null.
    schema: SchemaRef,
    records: SchemaRef,
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
        Ok(Self { schema: table.schema(), records: Arc::clone(table.record_schema()), table, kafka })
    }

    /// The reader, for who wants these columns of the table only. What others are made of is neither decoded nor computed.
    pub(crate) fn only(mut self, wanted: &BTreeSet<usize>) -> Result<Self> {
        self.schema = without_others(&self.schema, wanted);
        let Some((kafka, decoder)) = &mut self.kafka else { return Ok(self) };
        let mut records = BTreeSet::new();
        for at in wanted {
            match self.table.columns().get(*at) {
                Some(ColumnSource::Record(at)) => _ = records.insert(*at),
                Some(ColumnSource::Computed(expression)) => {
                    records.extend(collect_columns(expression).iter().map(|column| column.index()));
                }
                None => return Err(Error::internal(format!("table {} has no column {at}", self.table.name()))),
            }
        }
        self.records = without_others(&self.records, &records);
        *decoder = decoder_of(&kafka.formats, &kafka.data_of(&records))?;
        Ok(self)
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
        let columns = kafka.columns(batch.columns(), &of_rows, &self.records)?;
        let records = Arc::clone(&self.records);
        let rows = self.compute(RecordBatch::try_new(records, columns).map_err(failed)?)?;
        match kinds {
            None => Ok(Batch::inserts(rows)),
            Some(kinds) => Batch::changes(rows, kinds),
        }
    }

    /// All columns of records.
    pub(crate) fn compute(&self, records: RecordBatch) -> Result<RecordBatch> {
        let fields = self.table.columns().iter().zip(self.schema.fields());
        let columns = fields.map(|(column, field)| match column {
            _ if field.data_type().is_null() => Ok(Arc::new(NullArray::new(records.num_rows())) as ArrayRef),
            ColumnSource::Record(at) => Ok(Arc::clone(records.column(*at))),
            ColumnSource::Computed(expression) => evaluate(expression, &records),
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new(Arc::clone(&self.schema), columns).map_err(failed)
    }
}

fn without_others(schema: &Schema, wanted: &BTreeSet<usize>) -> SchemaRef {
    let fields = schema.fields().iter().enumerate().map(|(at, field)| match wanted.contains(&at) {
        true => Arc::clone(field),
        false => Arc::new(Field::new(field.name(), DataType::Null, true)),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}
