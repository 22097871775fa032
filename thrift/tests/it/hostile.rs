//! Bytes of peers that are broken or mean no good.

use proptest::prelude::*;
use tereza_thrift::codec::{
    ApplicationException, Header, Limits, MessageType, Reader, Record, ScanError, Scanner, Writer,
};
use tereza_thrift::hive::*;
use tereza_thrift::server::Settings;

use crate::memory::{Running, decode, golden};

/// The head of a call of `get_table`.
const HEAD: &[u8] = b"\x80\x01\x00\x01\x00\x00\x00\x09get_table\x00\x00\x00\x07";

/// What decoding may take in any case, and for each byte of the message.
const MEMORY_FREE_BYTES: usize = 1 << 20;
const MEMORY_PER_BYTE: usize = 32;

fn scan(message: &[u8]) -> Result<Option<usize>, ScanError> {
    Scanner::new(Limits::default()).scan(message)
}

fn call(args: &[u8]) -> Vec<u8> {
    [HEAD, args].concat()
}

fn framed(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_be_bytes(), bytes].concat()
}

/// A struct in a struct in a struct, so many times.
fn nested(depth: usize) -> Vec<u8> {
    [b"\x0c\x00\x63".repeat(depth), vec![0; depth + 1]].concat()
}

#[test]
fn lengths_that_cannot_be_are_refused_before_their_bytes_come() {
    assert_eq!(
        scan(&call(b"\x0b\x00\x01\x7f\xff\xff\xff")),
        Err(ScanError::StringTooLong { found: 0x7fff_ffff, limit: Limits::default().string_bytes })
    );
    assert_eq!(scan(&call(b"\x0b\x00\x01\xff\xff\xff\xff")), Err(ScanError::NegativeLength(-1)));
    assert_eq!(scan(&call(b"\x0f\x00\x09\x0b\x80\x00\x00\x00")), Err(ScanError::NegativeCount(i32::MIN)));
    assert_eq!(scan(&call(b"\x0d\x00\x09\x0b\x0b\xff\xff\xff\xfe")), Err(ScanError::NegativeCount(-2)));
    let limit = Limits::default().items;
    assert_eq!(
        scan(&call(b"\x0e\x00\x09\x0b\x7f\xff\xff\xff")),
        Err(ScanError::TooManyItems { found: 0x7fff_ffff, limit })
    );
    // Few enough elements, and yet more than the message may have bytes.
    let limits = Limits { message_bytes: 1000, ..Limits::default() };
    let numbers = call(b"\x0f\x00\x09\x0a\x00\x00\x00\x7e");
    assert_eq!(Scanner::new(limits).scan(&numbers), Err(ScanError::TooLarge(1000)));
    let strings = call(&b"\x0b\x00\x09\x00\x00\x00\xc8".repeat(6));
    assert_eq!(Scanner::new(limits).scan(&strings), Ok(None));
    let strings = call(&[b"\x0b\x00\x09\x00\x00\x00\x01x".repeat(200)].concat());
    assert_eq!(Scanner::new(limits).scan(&strings), Err(ScanError::TooLarge(1000)));
    // Also if it is there to its end.
    let whole = [&strings[..], b"\x00"].concat();
    assert_eq!(Scanner::new(limits).scan(&whole), Err(ScanError::TooLarge(1000)));
    assert_eq!(scan(&whole), Ok(Some(whole.len())));
}

#[test]
fn every_type_is_passed_over() {
    let values: [&[u8]; 11] = [
        b"\x02\x01\x00\x01",
        b"\x03\x01\x00\xff",
        b"\x04\x01\x0012345678",
        b"\x06\x01\x0012",
        b"\x08\x01\x001234",
        b"\x0a\x01\x0012345678",
        b"\x0b\x01\x00\x00\x00\x00\x03abc",
        b"\x0c\x01\x00\x02\x00\x01\x01\x00",
        // A map of numbers to texts, a set of structs, a list of lists of numbers.
        b"\x0d\x01\x00\x08\x0b\x00\x00\x00\x021234\x00\x00\x00\x01a5678\x00\x00\x00\x02bc",
        b"\x0e\x01\x00\x0c\x00\x00\x00\x02\x00\x03\x00\x01\x07\x00",
        b"\x0f\x01\x00\x0f\x00\x00\x00\x02\x06\x00\x00\x00\x021234\x02\x00\x00\x00\x00",
    ];
    for value in values.iter().chain([&values.concat()[..]].iter()) {
        let message = call(&[value, &b"\x00"[..]].concat());
        assert_eq!(scan(&message), Ok(Some(message.len())), "{}", value.escape_ascii());
        decode::<GetTableArgs>(&message);
    }
}

#[test]
fn what_does_not_exist_is_refused() {
    assert_eq!(scan(&call(b"\x05\x00\x01")), Err(ScanError::UnknownType(5)));
    assert_eq!(scan(&call(b"\x0f\x00\x01\x07\x00\x00\x00\x01")), Err(ScanError::UnknownType(7)));
    let others = [
        (&b"GET / HTTP/1.1\r\n"[..], "HTTP"),
        (b"\x16\x03\x01\x02\x00\x01", "TLS"),
        (b"\x82\x21\x00\x09get_table", "compact"),
        (b"\x01\x00\x00\x00\x06GSSAPI", "SASL"),
        (b"\x80\x02\x00\x01", "nothing known"),
    ];
    for (bytes, protocol) in others {
        let error = scan(bytes).unwrap_err().to_string();
        assert!(error.contains(protocol), "{error}");
    }
    // An empty map may come without types.
    let empty = call(b"\x0d\x00\x09\x00\x00\x00\x00\x00\x00\x00");
    assert_eq!(scan(&empty), Ok(Some(empty.len())));
}

#[test]
fn what_is_too_deep_is_refused_by_scanner_and_reader() {
    let limit = Limits::default().depth;
    let deepest = call(&nested(limit - 1));
    assert_eq!(scan(&deepest), Ok(Some(deepest.len())));
    decode::<GetTableArgs>(&deepest);
    let too_deep = call(&nested(limit));
    assert_eq!(scan(&too_deep), Err(ScanError::TooDeep(limit)));
    let limits = Limits::default();
    let mut reader = Reader::new(&too_deep, &limits);
    Header::read(&mut reader).unwrap();
    assert!(reader.record::<GetTableArgs>().unwrap_err().to_string().contains("deep"));
    // A bomb of lists does no more.
    let lists = call(&[&b"\x0f\x00\x63"[..], &b"\x0f\x00\x00\x00\x01".repeat(100_000)].concat());
    assert_eq!(scan(&lists), Err(ScanError::TooDeep(limit)));
    let mut reader = Reader::new(&lists[HEAD.len()..], &limits);
    assert!(reader.record::<GetTableArgs>().is_err());
}

#[test]
fn a_short_message_does_not_decode_to_much() {
    // A list of partitions without fields: one byte each on the wire.
    let count = 1 << 20;
    let mut args = b"\x0f\x00\x01\x0c".to_vec();
    args.extend(i32::to_be_bytes(count));
    args.extend(vec![0; usize::try_from(count).unwrap() + 1]);
    let limits = Limits::default();
    let mut reader = Reader::new(&args, &limits);
    let error = reader.record::<AddPartitionsArgs>().unwrap_err();
    assert_eq!(error.field(), "new_parts");
    assert!(error.to_string().contains("memory"), "{error}");
    assert!(std::mem::size_of::<Partition>() > MEMORY_PER_BYTE);
}

/// A message of many pieces is looked at once: what the scanner has passed may be anything afterwards.
#[test]
fn what_was_scanned_is_not_looked_at_again() {
    const PIECE: usize = 1000;
    // More than a head of a message or of a value has.
    const UNDECIDED: usize = 300;
    let count = 10_000_u32;
    let args = [&b"\x0f\x00\x02\x0b"[..], &count.to_be_bytes(), &b"\x00\x00\x00\x01x".repeat(10_000), b"\x00"].concat();
    let mut message = call(&args);
    let mut scanner = Scanner::new(Limits::default());
    for end in (PIECE..message.len()).step_by(PIECE) {
        assert_eq!(scanner.scan(&message[..end]), Ok(None));
        message[..end - UNDECIDED].fill(0xff);
    }
    assert_eq!(scanner.scan(&message), Ok(Some(message.len())));
}

/// What is nested can be decoded to the limit on the stack of a thread, and is refused beyond it.
#[test]
fn a_table_in_a_table_has_an_end() {
    let limits = Limits::default();
    let nested = |tables: usize| {
        let mut table = Table::default();
        for _ in 1..tables {
            let source = SourceTable { table, ..SourceTable::default() };
            let sources = CreationMetadata { source_tables: Some(vec![source]), ..CreationMetadata::default() };
            table = Table { creation_metadata: Some(Box::new(sources)), ..Table::default() };
        }
        let mut writer = Writer::new(1 << 20);
        writer.record(&table);
        writer.finish().unwrap().into_bytes()
    };
    // Four levels from table to table.
    let (deepest, too_deep) = (nested(limits.depth / 4), nested(limits.depth / 4 + 1));
    let table: Table = Reader::new(&deepest, &limits).record().unwrap();
    assert!(table.creation_metadata.is_some());
    let error = Reader::new(&too_deep, &limits).record::<Table>().unwrap_err();
    assert!(error.field().starts_with("creationMetadata.sourceTables.table.creationMetadata"), "{error}");
    assert!(error.to_string().contains("deep"), "{error}");
}

#[tokio::test]
async fn a_refused_message_is_answered_and_its_connection_closed() {
    let server = Running::new(Settings::default()).await;
    let two_gigabytes = call(b"\x0b\x00\x01\x7f\xff\xff\xff");
    let bombs = [
        (two_gigabytes.clone(), "2147483647"),
        (call(&nested(100)), "64 deep"),
        (call(b"\x0f\x00\x09\x0c\xff\xff\xff\xff"), "negative"),
        (call(b"\x05\x00\x01"), "wire type 5"),
    ];
    for (bytes, word) in bombs {
        let mut raw = server.connect().await;
        raw.send(&bytes).await;
        let (header, own) = decode::<ApplicationException>(&raw.rest().await);
        assert_eq!((header.kind, own.code), (MessageType::Exception, ApplicationException::PROTOCOL_ERROR));
        assert!(own.message.contains(word), "{}", own.message);
    }
    // A frame of two gigabytes, with the beginning of a call in it.
    let mut raw = server.connect().await;
    raw.send(&[b"\x7f\xff\xff\xff", HEAD].concat()).await;
    let answer = raw.rest().await;
    assert!(decode::<ApplicationException>(&answer[4..]).1.message.contains("2147483647"));
    // Other protocols get no answer that they would not understand.
    for bytes in
        [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", b"\x01\x00\x00\x00\x06GSSAPI"]
    {
        let mut raw = server.connect().await;
        raw.send(bytes).await;
        raw.0.set_nodelay(true).unwrap();
        tokio::io::AsyncWriteExt::shutdown(&mut raw.0).await.unwrap();
        assert_eq!(raw.rest().await, b"");
    }
    server.connect().await.asks(&golden("get_all_databases.call"), &golden("get_all_databases.reply")).await;
}

#[tokio::test]
async fn text_that_is_none_is_named_and_the_connection_goes_on() {
    let server = Running::new(Settings::default()).await;
    let mut create = golden("create_table.call");
    let comment = create.windows(6).position(|window| window == b"Metern").unwrap();
    create[comment] = 0xe4;
    for bytes in [create.clone(), framed(&create)] {
        let is_framed = bytes.len() > create.len();
        let mut raw = server.connect().await;
        raw.send(&bytes).await;
        let expected = "create_table: the field tbl.sd.cols.comment is not valid UTF-8 at its byte 3";
        // The head, then the exception: message and number with their fields, and the end.
        let len = 12 + "create_table".len() + 7 + expected.len() + 7 + 1;
        let answer = raw.receive(if is_framed { len + 4 } else { len }).await;
        let (header, own) = decode::<ApplicationException>(&answer[answer.len() - len..]);
        assert_eq!((header.sequence, own.code), (7, ApplicationException::PROTOCOL_ERROR));
        assert_eq!(own.message, expected);
        let (call, reply) = (golden("get_all_databases.call"), golden("get_all_databases.reply"));
        if is_framed {
            raw.asks(&framed(&call), &framed(&reply)).await;
        } else {
            raw.asks(&call, &reply).await;
        }
    }
}

#[tokio::test]
async fn a_wrong_type_is_passed_over_and_a_reply_is_not_a_call() {
    let server = Running::new(Settings::default()).await;
    let mut raw = server.connect().await;
    // A number where the database's name should be, and a field that nobody has.
    raw.send(&call(b"\x08\x00\x01\x00\x00\x00\x05\x0b\x00\x63\x00\x00\x00\x01x\x00")).await;
    let missing = " table not found";
    let found =
        String::from_utf8_lossy(&raw.receive(HEAD.len() + 3 + 3 + 4 + 1 + missing.len() + 2).await).into_owned();
    assert!(found.contains(missing), "{found}");
    let mut raw = server.connect().await;
    raw.send(&golden("get_all_databases.reply")).await;
    let text = "Reply is not a message for a server";
    let len = 12 + "get_all_databases".len() + 7 + text.len() + 7 + 1;
    let (_, own) = decode::<ApplicationException>(&raw.receive(len).await);
    assert_eq!((own.message.as_str(), own.code), (text, ApplicationException::INVALID_MESSAGE_TYPE));
}

/// Decodes the bytes as anything, and checks what it took.
fn decode_as<T: Record>(bytes: &[u8]) {
    let limits = Limits::default();
    let mut reader = Reader::new(bytes, &limits);
    let decoded = reader.record::<T>();
    assert!(reader.position() <= bytes.len());
    if decoded.is_ok() {
        assert!(reader.memory() <= MEMORY_PER_BYTE * bytes.len() + MEMORY_FREE_BYTES);
    }
}

fn decode_as_all(bytes: &[u8]) {
    decode_as::<CreateTableArgs>(bytes);
    decode_as::<AddPartitionsArgs>(bytes);
    decode_as::<UpdateTableColumnStatisticsArgs>(bytes);
    decode_as::<AlterTableReqArgs>(bytes);
    decode_as::<LockArgs>(bytes);
    decode_as::<GetTableArgs>(bytes);
}

const GOLDEN_CALLS: [&str; 5] = [
    "create_table.call",
    "add_partitions.call",
    "update_table_column_statistics.call",
    "alter_table_with_environment_context.call",
    "create_table.old.call",
];

/// A whole message of another implementation with some bytes changed.
fn damaged() -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6);
    (prop::sample::select(GOLDEN_CALLS.to_vec()), changes).prop_map(|(name, changes)| {
        let mut bytes = golden(name);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        bytes
    })
}

/// Bytes of which many are types, short lengths and ends.
fn likely_bytes() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![
        3 => 0..16_u8,
        1 => any::<u8>(),
        3 => prop::sample::select(vec![0, 0, 0, 1, 11, 12, 13, 15]),
    ];
    proptest::collection::vec(byte, 0..400)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_decoded_or_refused(bytes in likely_bytes()) {
        decode_as_all(&bytes);
    }

    #[test]
    fn a_damaged_message_is_decoded_or_refused(bytes in damaged()) {
        let limits = Limits::default();
        let mut reader = Reader::new(&bytes, &limits);
        if Header::read(&mut reader).is_ok() {
            decode_as_all(&bytes[reader.position()..]);
        }
    }

    /// However a message is cut into pieces, its end is the same; and what was scanned can be passed over.
    #[test]
    fn a_scan_in_pieces_is_a_scan_at_once(
        message in prop_oneof![damaged(), likely_bytes().prop_map(|args| call(&args))],
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let whole = scan(&message);
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(message.len() + 1)).collect();
        ends.push(message.len());
        ends.sort_unstable();
        let mut scanner = Scanner::new(Limits::default());
        let mut found = Ok(None);
        for end in ends {
            found = scanner.scan(&message[..end]);
            if found != Ok(None) {
                break;
            }
        }
        prop_assert_eq!(found, whole);
        if let Ok(Some(end)) = whole {
            prop_assert!(end <= message.len());
            let limits = Limits::default();
            let mut reader = Reader::new(&message[..end], &limits);
            if Header::read(&mut reader).is_ok() {
                reader.skip(tereza_thrift::codec::kind::STRUCT).unwrap();
                prop_assert_eq!(reader.position(), end);
            }
        }
    }
}
