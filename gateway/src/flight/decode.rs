//! From the Flight messages of a `DoPut` to batches, trusting nothing in them.
//!
//! `arrow-ipc` checks flatbuffers but panics on some lies in them (a buffer outside of its message) and allocates what
//! a compressed buffer claims to unpack to. So each message is checked first, and what still panics is caught: a
//! client's bytes end in an error of kind `InvalidInput`, never in a dead task or process.

use std::panic::AssertUnwindSafe;
use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow::ipc::{MessageHeader, root_as_message};
use arrow_flight::decode::{DecodedPayload, FlightDataDecoder};
use arrow_flight::error::FlightError;
use arrow_flight::{FlightData, FlightDescriptor};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use tereza_engine::query::BatchStream;
use tereza_runtime::{Error, Result};
use tonic::{Code, Status};

/// Compressed buffers begin with the length of their content (Arrow columnar format, "Compression").
const UNPACKED_LENGTH_BYTES: usize = 8;

/// What a client puts: a descriptor that says what it is, then messages.
pub(crate) struct Upload {
    pub(crate) descriptor: FlightDescriptor,
    messages: BoxStream<'static, Result<FlightData>>,
}

impl Upload {
    /// Reads the first message. A client that sends nothing for `idle_timeout` has gone.
    pub(crate) async fn open(
        messages: impl Stream<Item = Result<FlightData, Status>> + Send + Unpin + 'static,
        idle_timeout: Duration,
    ) -> Result<Self> {
        let mut messages = stream::unfold(messages, move |mut messages| async move {
            let message = match tokio::time::timeout(idle_timeout, messages.next()).await {
                Ok(message) => message?.map_err(broken_off),
                Err(_) => Err(Error::cancelled(format!(
                    "the client sent nothing for {} ms (stream_idle_timeout_ms)",
                    idle_timeout.as_millis()
                ))),
            };
            if let Ok(message) = &message {
                let bytes = message.data_header.len() + message.data_body.len();
                metrics::counter!("tereza_flight_bytes_total", "direction" => "received").increment(bytes as u64);
            }
            Some((message, messages))
        })
        .boxed();
        let mut first = messages
            .next()
            .await
            .ok_or_else(|| Error::invalid_input("a DoPut must have a message with a descriptor, none was sent"))??;
        let descriptor = first
            .flight_descriptor
            .take()
            .ok_or_else(|| Error::invalid_input("the first message of a DoPut must have a descriptor"))?;
        Ok(Self { descriptor, messages: stream::once(async { Ok(first) }).chain(messages).boxed() })
    }

    /// The schema and the batches that follow, or `None` if the client sent no schema. A message may be
    /// `limit_bytes` large when unpacked.
    pub(crate) async fn rows(self, limit_bytes: usize) -> Result<Option<(SchemaRef, BatchStream)>> {
        let checked = self
            .messages
            // The message that only carries the descriptor has no header.
            .filter(|message| {
                let empty = matches!(message, Ok(message) if message.data_header.is_empty());
                async move { !empty }
            })
            .map(move |message| {
                let message = message.and_then(|message| check(&message, limit_bytes).map(|()| message));
                message.map_err(|error| FlightError::ExternalError(Box::new(error)))
            });
        let mut decoded =
            AssertUnwindSafe(FlightDataDecoder::new(checked)).catch_unwind().map(|decoded| match decoded {
                Ok(Ok(decoded)) => Ok(decoded.payload),
                Ok(Err(error)) => Err(kept(error)),
                Err(_) => Err(Error::invalid_input("a message of rows is not valid Arrow IPC")),
            });
        let schema = loop {
            match decoded.next().await {
                None => return Ok(None),
                Some(payload) => match payload? {
                    DecodedPayload::Schema(schema) => break schema,
                    DecodedPayload::RecordBatch(_) => {
                        return Err(Error::invalid_input("rows came before their schema"));
                    }
                    DecodedPayload::None => {}
                },
            }
        };
        let batches = decoded.filter_map(async |payload| match payload {
            Ok(DecodedPayload::RecordBatch(batch)) => Some(Ok(batch)),
            Ok(DecodedPayload::Schema(_)) => Some(Err(Error::invalid_input("a second schema came among the rows"))),
            Ok(DecodedPayload::None) => None,
            Err(error) => Some(Err(error)),
        });
        Ok(Some((schema, end_at_error(batches.boxed()))))
    }
}

/// After an error there is nothing more: a decoder that failed must not be asked again.
fn end_at_error(batches: BatchStream) -> BatchStream {
    stream::unfold(Some(batches), async |batches| {
        let mut batches = batches?;
        let batch: Result<RecordBatch> = batches.next().await?;
        let rest = batch.is_ok().then_some(batches);
        Some((batch, rest))
    })
    .boxed()
}

fn broken_off(status: Status) -> Error {
    match status.code() {
        // What tonic answers to a message over the limit.
        Code::OutOfRange | Code::ResourceExhausted => Error::resource_exhausted(status.message())
            .with_hint("send smaller batches or raise the gateway's request_limit_bytes"),
        _ => Error::cancelled(format!("the client's stream broke off: {}", status.message())),
    }
}

fn kept(error: FlightError) -> Error {
    match error {
        FlightError::ExternalError(source) => match source.downcast::<Error>() {
            Ok(error) => *error,
            Err(source) => Error::invalid_input(format!("a message of rows could not be read: {source}")),
        },
        other => Error::invalid_input(format!("a message of rows could not be read: {other}")),
    }
}

/// Refuses what the decoder would panic on or allocate without bound.
fn check(message: &FlightData, limit_bytes: usize) -> Result<()> {
    let invalid = |what: &str| Error::invalid_input(format!("a message of rows is not valid Arrow IPC: {what}"));
    let ipc = root_as_message(&message.data_header).map_err(|error| invalid(&error.to_string()))?;
    let batch = match ipc.header_type() {
        MessageHeader::RecordBatch => ipc.header_as_record_batch(),
        MessageHeader::DictionaryBatch => ipc.header_as_dictionary_batch().and_then(|dictionary| dictionary.data()),
        _ => return Ok(()),
    };
    let batch = batch.ok_or_else(|| invalid("it has no batch"))?;
    let rows_in_bound = |rows: i64| usize::try_from(rows).is_ok_and(|rows| rows <= limit_bytes);
    let mut lengths = batch.nodes().into_iter().flatten().flat_map(|node| [node.length(), node.null_count()]);
    if !rows_in_bound(batch.length()) || !lengths.all(rows_in_bound) {
        return Err(invalid("a number of rows is out of bounds"));
    }
    let mut unpacked_bytes = 0usize;
    for buffer in batch.buffers().into_iter().flatten() {
        let bytes = usize::try_from(buffer.offset())
            .ok()
            .zip(usize::try_from(buffer.length()).ok())
            .and_then(|(start, length)| message.data_body.get(start..start.checked_add(length)?))
            .ok_or_else(|| invalid("a buffer is outside of its message"))?;
        if batch.compression().is_none() || bytes.is_empty() {
            continue;
        }
        let prefix = bytes.first_chunk::<UNPACKED_LENGTH_BYTES>().ok_or_else(|| invalid("a buffer is too short"))?;
        match i64::from_le_bytes(*prefix) {
            // Kept as it is.
            -1 => {}
            length => {
                let length = usize::try_from(length).map_err(|_| invalid("a buffer has a negative length"))?;
                unpacked_bytes = unpacked_bytes.saturating_add(length);
            }
        }
    }
    if unpacked_bytes > limit_bytes {
        return Err(Error::resource_exhausted(format!(
            "a message of rows unpacks to {unpacked_bytes} bytes, the limit is {limit_bytes} (request_limit_bytes)"
        )));
    }
    Ok(())
}
