//! Where the rows of a query go: messages of a topic, files of a table, standard output, nowhere.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
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
pub(crate) struct SinkWriter {
    table: String,
    /// Columns that are NOT NULL, by their places.
    required: Vec<usize>,
    target: Target,
}

/// Where rows go.
pub(crate) enum Target {
    Topic(Box<TopicWriter>),
    /// A table of files, by its name in the plan.
    Table {
        name: String,
        schema: SchemaRef,
        /// For each of its columns the place among those that are written.
        places: Vec<usize>,
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
    /// A writer of rows with the columns of `written`.
    pub(crate) fn new(table: String, written: &Schema, target: Target) -> Self {
        let fields = written.fields().iter().enumerate();
        let required = fields.filter(|(_, field)| !field.is_nullable()).map(|(at, _)| at).collect();
        Self { table, required, target }
    }

    /// Writes rows; says how many.
    ///
    /// # Errors
    /// `InvalidInput` names a column that is NOT NULL and has no value in a row; what the target says.
    pub(crate) fn write(&mut self, batch: Batch, out: &mut Produced<RecordBatch>) -> Result<u64> {
        self.check(&batch)?;
        self.target.write(batch, out)
    }

    fn check(&self, batch: &Batch) -> Result<()> {
        for at in &self.required {
            let Some(nulls) = batch.rows().column(*at).logical_nulls().filter(|nulls| nulls.null_count() > 0) else {
                continue;
            };
            // A row that is taken back may have its key alone.
            if (0..batch.len()).any(|row| nulls.is_null(row) && batch.kind(row).adds()) {
                let (name, table) = (batch.rows().schema_ref().field(*at).name().clone(), &self.table);
                return Err(Error::invalid_input(format!(
                    "a row for table {table} has NULL in column '{name}', which is NOT NULL"
                ))
                .with_hint("leave such rows out in the query, or let the column be NULL"));
            }
        }
        Ok(())
    }
}

impl Target {
    fn write(&mut self, batch: Batch, out: &mut Produced<RecordBatch>) -> Result<u64> {
        let count = batch.len() as u64;
        match self {
            Self::Topic(topic) => topic.write(&batch, &mut out.outputs),
            Self::Table { name, schema, places } => {
                let columns = places.iter().map(|at| Arc::clone(batch.rows().column(*at))).collect();
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

#[cfg(test)]
mod tests {
    use arrow::array::Int64Array;
    use arrow::datatypes::Field;

    use super::*;
    use crate::operator::RowKind;

    #[test]
    fn a_row_without_a_value_that_must_be_is_refused_unless_it_is_taken_back() {
        let written = Schema::new(vec![Field::new("a", DataType::Int64, false)]);
        let mut writer = SinkWriter::new("t".to_owned(), &written, Target::Nowhere);
        let column: ArrayRef = Arc::new(Int64Array::from(vec![Some(1), None]));
        let rows = RecordBatch::try_from_iter_with_nullable([("a", column, true)]).unwrap();
        let taken_back = Batch::changes(rows.clone(), vec![RowKind::Insert, RowKind::Delete]).unwrap();
        assert_eq!(writer.write(taken_back, &mut Produced::default()).unwrap(), 2);
        let error = writer.write(Batch::inserts(rows), &mut Produced::default()).unwrap_err();
        assert!(error.to_string().contains("'a', which is NOT NULL"), "{error}");
    }
}
