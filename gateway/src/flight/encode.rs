//! From batches to Flight messages, and from a result to the stream of a `DoGet`.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::ipc::writer::{DictionaryTracker, IpcDataGenerator, IpcWriteContext, IpcWriteOptions};
use arrow_flight::{FlightData, IpcMessage, SchemaAsIpc};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, stream};
use tereza_engine::query::{BatchStream, Query};
use tereza_runtime::{Error, Result};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::Status;

use super::plain::{plain_batch, plain_schema};
use crate::status::status;

/// Messages that are ready and not yet taken by the connection, besides the one being made.
const MESSAGES_AHEAD: usize = 1;

/// Rows as a client gets them: every batch has `schema`. Dropping them cancels the statement they come from.
pub(crate) struct Rows {
    pub(crate) schema: SchemaRef,
    pub(crate) stream: BatchStream,
}

impl Rows {
    /// The rows of a statement, which runs while they are read.
    pub(crate) fn of_query(query: Query, views: bool) -> Self {
        let schema = plain_schema(&query.schema(), views);
        let batches = stream::unfold(query, async |mut query| Some((query.next().await?, query)));
        let sent = Arc::clone(&schema);
        Self { schema, stream: batches.map(move |batch| plain_batch(&batch?, &sent)).boxed() }
    }

    /// Rows that are there already.
    pub(crate) fn of_batch(batch: RecordBatch) -> Self {
        Self { schema: batch.schema(), stream: stream::once(async { Ok(batch) }).boxed() }
    }

    /// No rows.
    pub(crate) fn none(schema: SchemaRef) -> Self {
        Self { schema, stream: stream::empty().boxed() }
    }
}

/// How a result is sent.
#[derive(Clone)]
pub(crate) struct Sending {
    pub(crate) message_limit_bytes: usize,
    pub(crate) idle_timeout: Duration,
    /// Owns the tasks that send.
    pub(crate) tasks: TaskTracker,
}

impl Sending {
    /// The messages of a result: its schema, then its batches.
    ///
    /// A task makes them ahead of the connection. It ends, and with it the statement, when the client goes away, when
    /// the client takes nothing for the idle timeout, or when `cancellation` is cancelled; `kept` is dropped then. How
    /// it ended reaches the client as the last item whatever is still queued, so a cut result never looks whole.
    pub(crate) fn stream(
        &self,
        rows: Rows,
        cancellation: CancellationToken,
        kept: impl Send + 'static,
    ) -> BoxStream<'static, Result<FlightData, Status>> {
        let (messages, queue) = mpsc::channel(MESSAGES_AHEAD);
        let (ending, end) = oneshot::channel();
        let (limit_bytes, idle_timeout) = (self.message_limit_bytes, self.idle_timeout);
        self.tasks.spawn(async move {
            let _open = OpenStream::new();
            let _kept = kept;
            let outcome = tokio::select! {
                biased;
                () = cancellation.cancelled() => Err(Error::cancelled("the statement was cancelled")),
                () = messages.closed() => return,
                outcome = send(rows, &messages, limit_bytes, idle_timeout) => outcome,
            };
            // The client may be gone: then nobody wants to know.
            let _ = ending.send(outcome);
        });
        let end = async {
            match end.await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(Err(status(error))),
                Err(_) => Some(Err(status(Error::internal("the task that sends the result ended")))),
            }
        };
        ReceiverStream::new(queue).map(Ok).chain(stream::once(end).filter_map(async |end| end)).boxed()
    }
}

/// A schema as `FlightInfo` and `SchemaResult` hold it: an encapsulated IPC message.
pub(crate) fn schema_bytes(schema: &Schema) -> Result<Bytes> {
    let IpcMessage(bytes) = SchemaAsIpc::new(schema, &IpcWriteOptions::default())
        .try_into()
        .map_err(|error| Error::internal(format!("cannot encode the schema of a result: {error}")))?;
    Ok(bytes)
}

async fn send(
    mut rows: Rows,
    messages: &mpsc::Sender<FlightData>,
    limit_bytes: usize,
    idle_timeout: Duration,
) -> Result<()> {
    let mut encoder = Encoder::new();
    hand_over(messages, encoder.schema(&rows.schema), idle_timeout).await?;
    while let Some(batch) = rows.stream.next().await {
        let mut rest = vec![batch?];
        while let Some(batch) = rest.pop() {
            match halves(&batch, limit_bytes) {
                Some((first, second)) => rest.extend([second, first]),
                None => hand_over(messages, encoder.batch(&batch)?, idle_timeout).await?,
            }
        }
    }
    Ok(())
}

async fn hand_over(messages: &mpsc::Sender<FlightData>, message: FlightData, idle_timeout: Duration) -> Result<()> {
    let bytes = message.data_header.len() + message.data_body.len();
    match tokio::time::timeout(idle_timeout, messages.send(message)).await {
        Ok(Ok(())) => {
            metrics::counter!("tereza_flight_bytes_total", "direction" => "sent").increment(bytes as u64);
            Ok(())
        }
        Ok(Err(_)) => Err(Error::cancelled("the client went away")),
        Err(_) => {
            metrics::counter!("tereza_flight_streams_idle_total").increment(1);
            Err(Error::cancelled(format!(
                "the client read nothing for {} ms (stream_idle_timeout_ms)",
                idle_timeout.as_millis()
            )))
        }
    }
}

/// Two halves of a batch that is over the limit, or `None` if it fits or has a single row.
fn halves(batch: &RecordBatch, limit_bytes: usize) -> Option<(RecordBatch, RecordBatch)> {
    let rows = batch.num_rows();
    let bytes: usize = batch.columns().iter().map(|column| wire_bytes(column.as_ref())).sum();
    (bytes > limit_bytes && rows > 1).then(|| (batch.slice(0, rows / 2), batch.slice(rows / 2, rows - rows / 2)))
}

/// About how many bytes an array takes in a message: only the part of each buffer that its rows refer to.
fn wire_bytes(array: &dyn Array) -> usize {
    let validity = array.nulls().map_or(0, |nulls| nulls.len().div_ceil(8));
    let rows = array.len();
    match array.data_type() {
        DataType::Struct(_) => {
            validity + array.as_struct().columns().iter().map(|child| wire_bytes(child.as_ref())).sum::<usize>()
        }
        DataType::List(_) => {
            let list = array.as_list::<i32>();
            let (start, end) = (list.value_offsets()[0] as usize, list.value_offsets()[rows] as usize);
            validity + 4 * (rows + 1) + wire_bytes(list.values().slice(start, end - start).as_ref())
        }
        DataType::LargeList(_) => {
            let list = array.as_list::<i64>();
            let (start, end) = (list.value_offsets()[0] as usize, list.value_offsets()[rows] as usize);
            validity + 8 * (rows + 1) + wire_bytes(list.values().slice(start, end - start).as_ref())
        }
        DataType::Map(_, _) => {
            let map = array.as_map();
            let (start, end) = (map.value_offsets()[0] as usize, map.value_offsets()[rows] as usize);
            validity + 4 * (rows + 1) + wire_bytes(&map.entries().slice(start, end - start))
        }
        DataType::FixedSizeList(_, _) => validity + wire_bytes(array.as_fixed_size_list().values().as_ref()),
        DataType::Utf8View => validity + 16 * rows + array.as_string_view().total_buffer_bytes_used(),
        DataType::BinaryView => validity + 16 * rows + array.as_binary_view().total_buffer_bytes_used(),
        _ => array.to_data().get_slice_memory_size().unwrap_or_else(|_| array.get_buffer_memory_size()),
    }
}

/// Makes the messages of one stream.
struct Encoder {
    generator: IpcDataGenerator,
    options: IpcWriteOptions,
    dictionaries: DictionaryTracker,
    context: IpcWriteContext,
}

impl Encoder {
    fn new() -> Self {
        Self {
            generator: IpcDataGenerator::default(),
            options: IpcWriteOptions::default(),
            dictionaries: DictionaryTracker::new(false),
            context: IpcWriteContext::default(),
        }
    }

    fn schema(&self, schema: &Schema) -> FlightData {
        SchemaAsIpc::new(schema, &self.options).into()
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<FlightData> {
        let compact;
        let batch = match without_unused_view_buffers(batch)? {
            Some(batch) => {
                compact = batch;
                &compact
            }
            None => batch,
        };
        let (dictionaries, data) = self
            .generator
            .encode(batch, &mut self.dictionaries, &self.options, &mut self.context)
            .map_err(|error| Error::internal(format!("cannot encode a batch: {error}")))?;
        if !dictionaries.is_empty() {
            return Err(Error::internal("a batch to be sent still has a dictionary"));
        }
        Ok(data.into())
    }
}

/// An array of views is sent with all of its buffers, so a slice of one is first copied to buffers of its own.
fn without_unused_view_buffers(batch: &RecordBatch) -> Result<Option<RecordBatch>> {
    let has_views = |data_type: &DataType| matches!(data_type, DataType::Utf8View | DataType::BinaryView);
    if !batch.columns().iter().any(|column| has_views(column.data_type())) {
        return Ok(None);
    }
    let columns = batch.columns().iter().map(|column| match column.data_type() {
        DataType::Utf8View => Arc::new(column.as_string_view().gc()) as _,
        DataType::BinaryView => Arc::new(column.as_binary_view().gc()) as _,
        _ => Arc::clone(column),
    });
    RecordBatch::try_new(batch.schema(), columns.collect())
        .map(Some)
        .map_err(|error| Error::internal(format!("cannot copy a batch of views: {error}")))
}

/// Counts itself among the open streams.
struct OpenStream;

impl OpenStream {
    fn new() -> Self {
        metrics::gauge!("tereza_flight_streams_open").increment(1.0);
        Self
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        metrics::gauge!("tereza_flight_streams_open").decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, LargeListArray, ListArray, StringArray};
    use arrow::buffer::OffsetBuffer;
    use arrow::datatypes::Field;
    use arrow_flight::decode::FlightRecordBatchStream;
    use futures::TryStreamExt;

    use super::*;

    fn sending(message_limit_bytes: usize) -> Sending {
        Sending { message_limit_bytes, idle_timeout: Duration::from_secs(10), tasks: TaskTracker::new() }
    }

    fn batch(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
        RecordBatch::try_from_iter(columns).unwrap()
    }

    async fn round_trip(batch: RecordBatch, limit_bytes: usize) -> Vec<RecordBatch> {
        let messages = sending(limit_bytes).stream(Rows::of_batch(batch), CancellationToken::new(), ());
        FlightRecordBatchStream::new_from_flight_data(messages.map_err(Into::into)).try_collect().await.unwrap()
    }

    #[tokio::test]
    async fn a_large_batch_is_cut_and_a_slice_of_a_huge_one_is_not() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
        let parts = round_trip(batch(vec![("n", Arc::clone(&numbers))]), 100_000).await;
        assert!(parts.len() >= 8, "{}", parts.len());
        assert_eq!(parts.iter().map(RecordBatch::num_rows).sum::<usize>(), 100_000);
        let slice = round_trip(batch(vec![("n", numbers.slice(50_000, 10))]), 100_000).await;
        assert_eq!(slice.len(), 1);
    }

    #[tokio::test]
    async fn a_slice_of_a_huge_list_is_not_cut() {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
        let item = Arc::new(Field::new_list_field(DataType::Int64, true));
        let list = ListArray::new(item, OffsetBuffer::from_lengths(vec![100; 1000]), values, None);
        let slice = batch(vec![("l", Arc::new(list.slice(500, 20)))]);
        assert_eq!(round_trip(slice.clone(), 100_000).await, vec![slice]);
    }

    #[tokio::test]
    async fn large_lists_stay_large_lists() {
        let values: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "c"]));
        let item = Arc::new(Field::new_list_field(DataType::Utf8, true));
        let list = LargeListArray::new(item, OffsetBuffer::from_lengths([1, 2]), values, None);
        let list = batch(vec![("l", Arc::new(list))]);
        assert_eq!(round_trip(list.clone(), 1 << 20).await, vec![list]);
    }

    #[tokio::test]
    async fn one_row_over_the_limit_is_sent_whole() {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(5000), "y".to_owned()]));
        assert_eq!(round_trip(batch(vec![("t", text)]), 1000).await.len(), 2);
    }

    #[tokio::test]
    async fn a_client_that_does_not_read_gets_an_error_and_not_a_short_result() {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..100_000));
        let mut sending = sending(1000);
        sending.idle_timeout = Duration::from_millis(20);
        let rows = Rows::of_batch(batch(vec![("n", numbers)]));
        let messages = sending.stream(rows, CancellationToken::new(), ());
        sending.tasks.close();
        sending.tasks.wait().await;
        let taken: Vec<_> = messages.collect().await;
        let last = taken.last().unwrap().as_ref().unwrap_err();
        assert_eq!(last.code(), tonic::Code::Cancelled);
        assert!(last.message().contains("stream_idle_timeout_ms"), "{last}");
    }

    #[tokio::test]
    async fn a_cancelled_statement_ends_its_stream_with_an_error() {
        let schema = Arc::new(Schema::empty());
        let rows = Rows { schema, stream: stream::pending().boxed() };
        let cancellation = CancellationToken::new();
        let messages = sending(1000).stream(rows, cancellation.clone(), ());
        cancellation.cancel();
        let taken: Vec<_> = messages.collect().await;
        assert_eq!(taken.last().unwrap().as_ref().unwrap_err().code(), tonic::Code::Cancelled);
    }
}
