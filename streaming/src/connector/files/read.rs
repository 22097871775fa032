//! Reads the files of a table, one after the other.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::DataType;
use bytes::Bytes;
use datafusion::common::ScalarValue;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStoreExt};
use tereza_runtime::{Error, ErrorKind, Result};

use super::found::File;
use super::records::Records;
use super::{FilesTable, Found, Lines, OFFSET_BITS, Place};
use crate::format::{Decoded, Decoder, Message, OnPoison, decoder};
use crate::objects::store_error;
use crate::operator::failed;

/// Bytes that are read at once, unless a record is longer.
const CHUNK_BYTES: u64 = 4 << 20;
/// The most bytes of a record.
const RECORD_BYTES_MAX: u64 = 64 << 20;
/// Before the text of a file, and no part of it.
const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";
/// How the names of compressed files end.
const COMPRESSED: [&str; 8] = [".gz", ".gzip", ".deflate", ".bz2", ".xz", ".zst", ".zstd", ".snappy"];

/// What a poll found.
#[derive(Debug)]
pub(crate) enum Read {
    /// Columns that are not computed, and the position behind them.
    Rows { records: RecordBatch, position: i64 },
    /// Nothing new is there.
    Idle,
    /// All files are read, and there will be none.
    End { position: i64 },
}

/// The files of a table.
pub(crate) struct Files {
    table: FilesTable,
    found: Found,
    records: Records,
    decoder: Box<dyn Decoder>,
    next: Next,
    /// Bytes of a file from `next` on.
    held: Bytes,
    /// When it was looked for files, in milliseconds since 1970.
    looked_ms: Option<i64>,
}

/// Where the next record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Next {
    file: usize,
    offset: u64,
}

impl Next {
    fn of(position: i64) -> Self {
        let position = u64::try_from(position).unwrap_or_default();
        let offset = position & ((1 << OFFSET_BITS) - 1);
        Self { file: usize::try_from(position >> OFFSET_BITS).unwrap_or_default(), offset }
    }

    fn position(self) -> i64 {
        i64::try_from((self.file as u64) << OFFSET_BITS | self.offset).unwrap_or(i64::MAX)
    }
}

impl Files {
    pub(crate) fn new(table: FilesTable, found: Found) -> Result<Self> {
        let Lines { formats, records } = table.lines()?.clone();
        let (decoder, next) = (decoder(&formats)?, Next { file: 0, offset: 0 });
        Ok(Self { table, found, records, decoder, next, held: Bytes::new(), looked_ms: None })
    }

    /// Goes on from a position.
    pub(crate) fn begin(&mut self, position: i64) {
        self.next = Next::of(position);
    }

    /// The next rows. One that is given up has lost nothing.
    ///
    /// # Errors
    /// `InvalidInput` names a file that is not what it was, or a record that cannot be read, with its place; `Unavailable` if the
    /// store does not answer.
    pub(crate) async fn poll(&mut self, now_ms: i64) -> Result<Read> {
        self.found.load().await?;
        loop {
            let Some(file) = self.found.files.get(self.next.file).cloned() else {
                let position = self.next.position();
                match self.table.monitor {
                    None if self.found.has_looked() => return Ok(Read::End { position }),
                    Some(pause) if self.looked_ms.is_some_and(|looked| now_ms - looked < millis(pause)) => {
                        return Ok(Read::Idle);
                    }
                    _ => {}
                }
                self.found.look(&self.table, now_ms).await?;
                self.looked_ms = Some(now_ms);
                if self.table.monitor.is_some() && self.found.files.len() <= self.next.file {
                    return Ok(Read::Idle);
                }
                continue;
            };
            if self.next.offset >= file.size {
                self.next = Next { file: self.next.file + 1, offset: 0 };
                self.held = Bytes::new();
                continue;
            }
            if let Some(records) = self.records(&file).await? {
                return Ok(Read::Rows { records, position: self.next.position() });
            }
        }
    }

    /// The next records of a file; `None` if there were none in the next bytes.
    async fn records(&mut self, file: &File) -> Result<Option<RecordBatch>> {
        let (mut bytes, offset) = (self.held.clone(), self.next.offset);
        let mut length = CHUNK_BYTES;
        let (ranges, consumed) = loop {
            let left = file.size - offset;
            let is_last = bytes.len() as u64 >= left;
            let mark = if offset == 0 && bytes.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
            let (ranges, consumed) = self.records.split(&bytes[mark..], is_last);
            if consumed > 0 || is_last {
                let ranges = ranges.into_iter().map(|range| range.start + mark..range.end + mark);
                break (ranges.collect::<Vec<_>>(), consumed + mark);
            }
            // What was held is the begin of a record, or nothing.
            if bytes.len() as u64 >= length {
                length = length.saturating_mul(4);
            }
            if length > RECORD_BYTES_MAX {
                let at = self.table.place(file, offset);
                return Err(Error::resource_exhausted(format!(
                    "{at}: a record has more than {RECORD_BYTES_MAX} bytes"
                )));
            }
            bytes = self.table.bytes(file, offset, length.min(left)).await?;
        };
        let topic: Arc<str> = file.path.as_str().into();
        let messages: Vec<Message> = ranges
            .into_iter()
            .map(|range| Message {
                topic: Arc::clone(&topic),
                partition: 0,
                offset: i64::try_from(offset + range.start as u64).unwrap_or(i64::MAX),
                timestamp_ms: None,
                key: None,
                value: Some(bytes.slice(range)),
                headers: Vec::new(),
            })
            .collect();
        let rows = match messages.is_empty() {
            true => None,
            false => {
                self.decoder.prepare(&messages).await?;
                let decoded = self.decoder.decode(&messages)?;
                Some(self.table.rows(file, decoded, &messages)?).filter(|rows| rows.num_rows() > 0)
            }
        };
        self.held = bytes.slice(consumed..);
        self.next.offset = offset + consumed as u64;
        if self.next.offset >= file.size {
            self.next = Next { file: self.next.file + 1, offset: 0 };
            self.held = Bytes::new();
        }
        Ok(rows)
    }
}

fn millis(time: std::time::Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}

impl FilesTable {
    /// Where in a file something is, for people.
    fn place(&self, file: &File, offset: u64) -> String {
        format!("table {}, file {}, byte {offset}", self.name, self.url(file))
    }

    fn url(&self, file: &File) -> String {
        format!("{}{}", self.prefix, file.path)
    }

    /// Bytes of a file that is still what it was when it was found.
    async fn bytes(&self, file: &File, offset: u64, length: u64) -> Result<Bytes> {
        if let Some(end) = COMPRESSED.iter().find(|end| file.path.ends_with(**end)) {
            return Err(Error::unsupported(format!("{}: a compressed file (*{end})", self.place(file, 0))));
        }
        if file.size >> OFFSET_BITS > 0 {
            return Err(Error::unsupported(format!("{}: a file of {} bytes", self.place(file, 0), file.size)));
        }
        let path = Path::parse(&file.path);
        let path = path.map_err(|error| Error::internal(format!("{}: {error}", self.place(file, 0))))?;
        let range = Some(GetRange::Bounded(offset..offset + length));
        match self.store.get_opts(&path, GetOptions { range, ..GetOptions::default() }).await {
            Ok(got) => {
                self.check(file, &got.meta)?;
                got.bytes().await.map_err(|error| store_error(self.url(file), error))
            }
            // Whoever made the file shorter may have left nothing at this place.
            Err(error) => match self.store.head(&path).await {
                Ok(now) => {
                    self.check(file, &now)?;
                    Err(store_error(self.url(file), error))
                }
                Err(object_store::Error::NotFound { .. }) => {
                    let text = format!("{}: the file is gone", self.place(file, offset));
                    Err(Error::new(ErrorKind::NotFound, text).with_hint("keep files until the job has read them"))
                }
                Err(error) => Err(store_error(self.url(file), error)),
            },
        }
    }

    /// Refuses a file that was written again. Stores tell times to the second.
    fn check(&self, file: &File, now: &ObjectMeta) -> Result<()> {
        let is_same = now.size == file.size && now.last_modified.timestamp() == file.modified_ms.div_euclid(1_000);
        if is_same {
            return Ok(());
        }
        let (place, before, now) = (self.place(file, 0), file.size, now.size);
        Err(Error::invalid_input(format!(
            "{place}: the file was written again after it was found: it had {before} bytes and has {now}"
        ))
        .with_hint("write files under a name that begins with '.' or '_', and rename them when they are complete"))
    }

    /// The columns that are not computed.
    fn rows(&self, file: &File, decoded: Decoded, messages: &[Message]) -> Result<RecordBatch> {
        let Decoded { batch, poisoned, .. } = decoded;
        let error = |at: usize, reason: &str| {
            let offset = messages.get(at).map_or(0, |message| message.offset.unsigned_abs());
            Error::invalid_input(format!("{}: {reason}", self.place(file, offset)))
        };
        if let Some(first) = poisoned.iter().find(|poisoned| poisoned.policy == OnPoison::Fail) {
            return Err(error(first.index, &first.reason));
        }
        if let Some(first) = poisoned.first() {
            let (count, error) = (poisoned.len() as u64, error(first.index, &first.reason));
            metrics::counter!("tereza_stream_messages_skipped_total").increment(count);
            tracing::warn!(count, table = self.name, %error, "records that cannot be read are left out, as their table asks for");
        }
        let columns = self.places.iter().zip(self.schema.fields()).map(|(place, field)| match place {
            Place::Data(at) => Ok(Arc::clone(batch.column(*at))),
            _ => {
                let value = self.value(file, place, field.data_type())?;
                value.to_array_of_size(batch.num_rows()).map_err(failed)
            }
        });
        RecordBatch::try_new(Arc::clone(&self.schema), columns.collect::<Result<Vec<ArrayRef>>>()?).map_err(failed)
    }

    /// What a column says that is the same in all rows of a file.
    fn value(&self, file: &File, place: &Place, data_type: &DataType) -> Result<ScalarValue> {
        let (path, name) = file.path.rsplit_once('/').unwrap_or(("", file.path.as_str()));
        let value = match place {
            Place::Path => ScalarValue::from(self.url(file)),
            Place::Name => ScalarValue::from(name),
            Place::Size => ScalarValue::from(i64::try_from(file.size).unwrap_or(i64::MAX)),
            Place::ModificationTime => ScalarValue::TimestampMillisecond(Some(file.modified_ms), Some("+00:00".into())),
            Place::Partition(key) => {
                let below = path.get(self.root.as_ref().len()..).unwrap_or_default();
                let of_key = |part: &str| {
                    part.split_once('=').filter(|(of, _)| decoded(of) == *key).map(|(_, value)| decoded(value))
                };
                let text = below.split('/').find_map(of_key).ok_or_else(|| {
                    Error::invalid_input(format!("{}: it is in no folder '{key}=…'", self.place(file, 0)))
                })?;
                match text == self.null_partition {
                    true => return ScalarValue::try_from(data_type).map_err(failed),
                    false => ScalarValue::from(text),
                }
            }
            Place::Data(_) => return Err(Error::internal("a column of records is no value of a file")),
        };
        if value.data_type() == *data_type {
            return Ok(value);
        }
        let array = value.to_array().map_err(failed)?;
        let strict = CastOptions { safe: false, ..CastOptions::default() };
        let array = cast_with_options(&array, data_type, &strict).map_err(|error| {
            let text = array.as_string_opt::<i32>().map_or("", |texts| texts.value(0));
            Error::invalid_input(format!("{}: '{text}' is no {data_type}: {error}", self.place(file, 0)))
        })?;
        ScalarValue::try_from_array(&array, 0).map_err(failed)
    }
}

/// The text of a folder's name, where Hive writes `%` and two hexadecimal digits for special characters.
fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let digit = |at: usize| after.get(at).and_then(|byte| char::from(*byte).to_digit(16));
        let code = digit(0).zip(digit(1)).filter(|_| *first == b'%');
        match code.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
