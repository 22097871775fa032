//! A proxy before a broker, which loses what a test wants lost. It knows the frames of Kafka's protocol and the number of the
//! request that ends a transaction.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use crate::kafka::Broker;

/// `EndTxn` in Kafka's protocol.
const END_TXN: i16 = 26;
/// Bytes of a frame; no test sends more.
const FRAME_BYTES_MAX: usize = 64 << 20;

/// What the proxy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Mode {
    /// Passes everything.
    Pass,
    /// Passes the next end of a transaction on, loses the answer, and from then on everything.
    LoseAnswer,
    /// Loses the next end of a transaction, and from then on everything.
    LoseRequest,
    /// Loses everything.
    Down,
}

/// A proxy; its threads end with the process.
pub(crate) struct Proxy {
    pub(crate) bootstrap: String,
    shared: Arc<Shared>,
}

struct Shared {
    mode: AtomicU8,
    lost: AtomicUsize,
}

impl Proxy {
    /// Begins to pass what comes to the port that the broker tells clients.
    pub(crate) fn start(broker: &Broker) -> Self {
        let (from, to) = broker.proxied();
        let listener = TcpListener::bind(("127.0.0.1", from)).expect("the proxy's port");
        let shared = Arc::new(Shared { mode: AtomicU8::new(Mode::Pass as u8), lost: AtomicUsize::new(0) });
        let all = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = TcpStream::connect(("127.0.0.1", to)) else { continue };
                let ends = Arc::new(Mutex::new(HashSet::new()));
                for (from, to, is_request) in [
                    (client.try_clone().unwrap(), server.try_clone().unwrap(), true),
                    (server.try_clone().unwrap(), client.try_clone().unwrap(), false),
                ] {
                    let (shared, ends) = (all.clone(), ends.clone());
                    std::thread::spawn(move || shared.pass(from, to, is_request, &ends));
                }
            }
        });
        Self { bootstrap: format!("127.0.0.1:{from}"), shared }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.shared.mode.store(mode as u8, Ordering::SeqCst);
    }

    /// How many ends of transactions, or answers to them, were lost.
    pub(crate) fn lost(&self) -> usize {
        self.shared.lost.load(Ordering::SeqCst)
    }
}

impl Shared {
    fn is(&self, mode: Mode) -> bool {
        self.mode.load(Ordering::SeqCst) == mode as u8
    }

    fn lose(&self) {
        self.lost.fetch_add(1, Ordering::SeqCst);
        self.mode.store(Mode::Down as u8, Ordering::SeqCst);
    }

    /// Passes frames on until one side is gone. `ends` has the numbers of requests that end a transaction.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, is_request: bool, ends: &Mutex<HashSet<i32>>) {
        while let Some(frame) = read(&mut from) {
            if is_request && frame.len() >= 12 && i16::from_be_bytes([frame[4], frame[5]]) == END_TXN {
                if self.is(Mode::LoseRequest) {
                    self.lose();
                }
                ends.lock().unwrap().insert(number(&frame[8..]));
            }
            if !is_request
                && frame.len() >= 8
                && ends.lock().unwrap().remove(&number(&frame[4..]))
                && self.is(Mode::LoseAnswer)
            {
                self.lose();
            }
            if self.is(Mode::Down) {
                continue;
            }
            if to.write_all(&frame).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    }
}

fn number(bytes: &[u8]) -> i32 {
    i32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn read(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut frame = vec![0; 4];
    stream.read_exact(&mut frame).ok()?;
    let length = usize::try_from(number(&frame)).ok().filter(|length| *length <= FRAME_BYTES_MAX)?;
    frame.resize(4 + length, 0);
    stream.read_exact(&mut frame[4..]).ok()?;
    Some(frame)
}
