//! The decoder and the server under any bytes: nothing panics, nothing takes more memory than its bound, and what is
//! decoded is written as what it was. `tests/support/fuzz.rs` of the repository says how to run this for longer.
//!
//! Inputs begin as the messages in `tests/golden` and those in `tests/corpus`, which mean no good or were faults once.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};

use tereza_thrift::call::Method;
use tereza_thrift::codec::{
    DecodeError, FieldReader, Header, Limits, MessageType, Reader, Record, ScanError, Scanner, Wire, Writer, kind,
};
use tereza_thrift::hive::{Exception, HiveMetastore, MethodVisitor, visit_methods};
use tereza_thrift::server::{Server, Settings};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::CancellationToken;

use crate::driver::{Fuzz, measured};

/// What decoding may take in any case, and for each byte of the message.
const MEMORY_FREE_BYTES: usize = 1 << 20;
const MEMORY_PER_BYTE: usize = 32;
/// What an error takes beside that.
const ERROR_BYTES: usize = 4 << 10;
/// What a connection takes beside the message it has: its first buffer, and the answer that it makes.
const CONNECTION_BYTES: usize = 96 << 10;
/// A buffer that grows is copied, and its size doubles.
const BUFFER_PER_BYTE: usize = 4;
const INPUT_BYTES_MAX: usize = 64 << 10;

/// Heads of fields and values, and the names of methods whose arguments hold much.
const WORDS: [&[u8]; 30] = [
    b"\x00",
    b"\x02\x00\x01\x01",
    b"\x03\x00\x01\x07",
    b"\x04\x00\x01\x7f\xf8\x00\x00\x00\x00\x00\x00",
    b"\x06\x00\x01\xff\xff",
    b"\x08\x00\x01\x00\x00\x00\x05",
    b"\x0a\x00\x02\x00\x00\x00\x00\x00\x00\x00\x09",
    b"\x0b\x00\x01\x00\x00\x00\x00",
    b"\x0b\x00\x02\x00\x00\x00\x01x",
    b"\x0b\x00\x03\x7f\xff\xff\xff",
    b"\x0c\x00\x01",
    b"\x0c\x00\x02\x00",
    b"\x0c\x00\x07\x00",
    b"\x0c\x00\x08",
    b"\x0c\x00\x09\x00",
    b"\x0d\x00\x06\x0b\x0b\x00\x00\x00\x00",
    b"\x0d\x00\x06\x0b\x0b\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00",
    b"\x0e\x00\x01\x0c\x00\x00\x00\x01\x00",
    b"\x0f\x00\x01\x0c\x00\x00\x00\x01\x00",
    b"\x0f\x00\x01\x0c\x00\x00\x00\x40",
    b"\x0f\x00\x01\x0f\x00\x00\x00\x01\x0f\x00\x00\x00\x01",
    b"\x0f\x00\x02\x0b\x00\x00\x00\x01\x00\x00\x00\x00",
    b"\x80\x01\x00\x01\x00\x00\x00\x0aget_schema\x00\x00\x00\x07",
    b"\x80\x01\x00\x02\x00\x00\x00\x0aget_schema\x00\x00\x00\x07",
    b"\x00\x00\x00\x04lock\x01\x00\x00\x00\x07",
    b"\x80\x01\x00\x01\x00\x00\x00\x0ecreate_catalog\x00\x00\x00\x07",
    b"\x80\x01\x00\x01\x00\x00\x00\x17set_aggr_stats_for\x00\x00\x00\x07",
    b"\x80\x01\x00\x04\x00\x00\x00\x08shutdown\x00\x00\x00\x07",
    b"\x80\x01\x00\x02\x00\x00\x00\x0eget_partitions\x00\x00\x00\x07",
    b"\xc3\xa4\xff",
];

/// The corpus, and the messages that another implementation made.
fn corpus() -> [PathBuf; 2] {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    [tests.join("golden"), tests.join("corpus")]
}

/// What a method answers, as the message has it.
struct Answered<T>(Option<T>);

impl<T> Default for Answered<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: Wire> Record for Answered<T> {
    const NAME: &'static str = "result";
    const FIELDS: &'static [(i16, &'static str)] = &[(0, "success")];

    fn write_fields(&self, writer: &mut Writer) {
        writer.optional(0, &self.0);
    }

    fn read_field(&mut self, field: FieldReader<'_, '_>) -> Result<(), DecodeError> {
        match field.id() {
            // Nothing is on the wire of a method that returns nothing.
            0 if T::TYPE != kind::VOID => field.optional(&mut self.0),
            _ => field.skip(),
        }
    }
}

/// Checks bytes, and says what they were.
type Check = fn(&[u8]) -> String;

/// What the arguments and the answer of each method are checked with.
#[derive(Default)]
struct Checks(BTreeMap<&'static str, [Check; 2]>);

impl MethodVisitor for Checks {
    fn method<M: Method<Exception = Exception>>(&mut self) {
        self.0.insert(M::NAME, [check::<M>, check::<Answered<M::Reply>>]);
    }
}

fn encoded<T: Record>(value: &T, bytes_max: usize) -> Vec<u8> {
    let mut writer = Writer::new(bytes_max);
    writer.record(value);
    writer.finish().expect("more is written than was read").into_bytes().to_vec()
}

/// Decodes a struct from the bytes; then what was decoded is written, read and written again.
fn check<T: Record>(bytes: &[u8]) -> String {
    let limits = Limits::default();
    let mut reader = Reader::new(bytes, &limits);
    let (decoded, peak) = measured(|| reader.record::<T>());
    let bound = MEMORY_PER_BYTE * bytes.len() + MEMORY_FREE_BYTES;
    assert!(peak <= bound + ERROR_BYTES, "{}: {peak} bytes of memory for {} bytes", T::NAME, bytes.len());
    assert!(reader.position() <= bytes.len());
    let value = match decoded {
        Ok(value) => value,
        Err(error) => return without_numbers(&format!("{} {error}", T::NAME)),
    };
    assert!(peak <= reader.memory() + ERROR_BYTES, "{}: {peak} bytes, {} are known of", T::NAME, reader.memory());
    let mut passing = Reader::new(bytes, &limits);
    passing.skip(kind::STRUCT).expect("what can be decoded can be passed over");
    assert_eq!(passing.position(), reader.position());
    // A required field that is missing is written with its default, which no list makes longer than this.
    let written = encoded(&value, bytes.len() * 1000 + 1000);
    let mut again = Reader::new(&written, &limits);
    let value = match again.record::<T>() {
        Ok(value) => value,
        Err(error) => panic!("{}: {error} in what was written", T::NAME),
    };
    assert_eq!(again.position(), written.len());
    assert!(encoded(&value, written.len()) == written, "{} is written in two ways", T::NAME);
    format!("{} {} {}", T::NAME, written.len().ilog2(), reader.memory().max(1).ilog2())
}

/// Texts of errors tell paths apart; the numbers in them do not.
fn without_numbers(text: &str) -> String {
    text.chars().filter(|c| !c.is_ascii_digit()).collect()
}

/// Where the message ends, found at once and in pieces.
fn scanned(bytes: &[u8]) -> Result<Option<usize>, ScanError> {
    let limits = Limits::default();
    let (whole, peak) = measured(|| Scanner::new(limits).scan(bytes));
    assert!(peak <= ERROR_BYTES, "scanning {} bytes took {peak} bytes of memory", bytes.len());
    let mut scanner = Scanner::new(limits);
    let step = bytes.len() / 7 + 1;
    let ends = (1..bytes.len()).step_by(step).chain([bytes.len()]);
    let pieces = ends.map(|end| scanner.scan(&bytes[..end])).find(|found| *found != Ok(None));
    assert_eq!(pieces.unwrap_or(Ok(None)), whole, "in pieces and at once");
    whole
}

#[test]
fn fuzz_the_decoder_of_every_method() {
    let mut checks = Checks::default();
    visit_methods(&mut checks);
    assert!(checks.0.len() > 150);
    let (corpus, limits) = (corpus(), Limits::default());
    let fuzz = Fuzz { name: "decoder", corpus: &corpus, words: &WORDS, bytes_max: INPUT_BYTES_MAX };
    fuzz.run(|bytes| {
        let end = scanned(bytes);
        let mut reader = Reader::new(bytes, &limits);
        let header = match Header::read(&mut reader) {
            Ok(header) => header,
            Err(error) => return without_numbers(&format!("{error} {end:?}")),
        };
        let begin = reader.position();
        let mut writer = Writer::new(begin);
        header.write(&mut writer);
        let written = writer.finish().expect("a longer header").into_bytes();
        assert_eq!(Header::read(&mut Reader::new(&written, &limits)).as_ref(), Ok(&header));
        if let Ok(Some(end)) = end {
            reader.skip(kind::STRUCT).expect("what was scanned can be passed over");
            assert_eq!(reader.position(), end);
        }
        let is_answer = matches!(header.kind, MessageType::Reply | MessageType::Exception);
        match checks.0.get(header.method().as_str()) {
            Some(checks) => checks[usize::from(is_answer)](&bytes[begin..]),
            None => {
                // What would be decoded as nothing is decoded as everything.
                checks.0.values().for_each(|checks| drop(checks.map(|check| check(&bytes[begin..]))));
                format!("no method {}", end.is_ok())
            }
        }
    });
}

/// A metastore without any method.
struct Nobody;

impl HiveMetastore for Nobody {}

/// A connection whose peer has sent all that it will, and reads everything.
struct Peer<'a> {
    sent: &'a [u8],
    answered: Vec<u8>,
}

impl AsyncRead for Peer<'_> {
    fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        let (now, later) = self.sent.split_at(self.sent.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.sent = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Peer<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<std::io::Result<usize>> {
        self.answered.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[test]
fn fuzz_a_whole_connection() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let (server, drain) = (Server::new(Settings::default(), ()), CancellationToken::new());
    let corpus = corpus();
    let fuzz = Fuzz { name: "connection", corpus: &corpus, words: &WORDS, bytes_max: INPUT_BYTES_MAX };
    fuzz.run(|bytes| {
        let mut peer = Peer { sent: bytes, answered: Vec::with_capacity(0) };
        let (ended, peak) = measured(|| runtime.block_on(server.serve_connection(&mut peer, &Nobody, &drain)));
        let bound = (MEMORY_PER_BYTE + BUFFER_PER_BYTE) * bytes.len()
            + MEMORY_FREE_BYTES
            + CONNECTION_BYTES
            + 2 * peer.answered.len();
        assert!(peak <= bound, "{peak} bytes of memory for {} bytes", bytes.len());
        let mut answers = &peer.answered[..];
        let is_framed = answers.first() == Some(&0) && answers.get(4).is_some_and(|byte| matches!(byte, 0 | 0x80..));
        let mut kinds = Vec::new();
        while !answers.is_empty() {
            if is_framed {
                answers = &answers[4..];
            }
            let end = scanned(answers).expect("an answer").expect("a whole answer");
            let header = Header::read(&mut Reader::new(answers, &Limits::default())).expect("an answer with a head");
            kinds.push(header.kind);
            answers = &answers[end..];
        }
        kinds.dedup();
        without_numbers(&format!("{kinds:?} {is_framed} {:?}", ended.map_err(|error| error.to_string())))
    });
}
