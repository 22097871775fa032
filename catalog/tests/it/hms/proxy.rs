//! A network that breaks when it is told to: it forwards to a metastore, counts the calls, and from a certain one on every
//! connection is dead, before the call arrives or before its answer comes back. Or it answers in the metastore's place that a
//! call is refused.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, Weak};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Where it breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// The call does not arrive.
    Before,
    /// Its answer does not.
    After,
}

/// Why a metastore changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// What is asked for can never be.
    Invalid,
    /// Trouble of any kind: a `MetaException`.
    Trouble,
}

/// Methods that change something, and the fields of their results that are these two refusals.
const REFUSALS: [(&str, i16, i16); 5] = [
    ("create_table_with_environment_context", 2, 3),
    ("alter_table_with_environment_context", 1, 2),
    ("add_partitions_req", 1, 3),
    ("alter_partitions_with_environment_context", 1, 2),
    ("drop_partitions_req", 1, 2),
];

#[derive(Default)]
struct State {
    /// Calls to go until it breaks, and where.
    plan: Option<(usize, Cut)>,
    /// Breaks before this method.
    cut: Option<String>,
    /// Calls to go until one is refused, if it changes something.
    refusal: Option<(usize, Refusal)>,
    /// The last that was, or is, refused.
    refused: Option<String>,
    /// The method all of whose calls are refused.
    refuses: Option<(String, Refusal)>,
    is_dead: bool,
    /// The calls since it was told when to break.
    calls: Vec<String>,
}

/// What becomes of a call.
enum Fate {
    Answered,
    Unanswered,
    Lost,
    Refused(Refusal),
}

impl State {
    fn fate_of(&mut self, method: &str) -> Fate {
        if self.is_dead {
            return Fate::Lost;
        }
        self.calls.push(method.to_owned());
        if self.cut.as_deref() == Some(method) {
            self.is_dead = true;
            return Fate::Lost;
        }
        match &mut self.plan {
            Some((0, cut)) => {
                self.is_dead = true;
                return if *cut == Cut::After { Fate::Unanswered } else { Fate::Lost };
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
        match &mut self.refusal {
            Some((0, refusal)) => {
                let refusal = *refusal;
                self.refusal = None;
                if REFUSALS.iter().any(|(known, ..)| *known == method) {
                    self.refused = Some(method.to_owned());
                    return Fate::Refused(refusal);
                }
            }
            Some((left, _)) => *left -= 1,
            None => {}
        }
        match &self.refuses {
            Some((refused, refusal)) if refused == method => Fate::Refused(*refusal),
            _ => Fate::Answered,
        }
    }
}

pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    state: Arc<Mutex<State>>,
    /// Held by each call that is not answered yet.
    under_way: Arc<()>,
}

impl Proxy {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self { address: listener.local_addr().unwrap(), state: Arc::default(), under_way: Arc::default() };
        let (state, under_way) = (Arc::clone(&proxy.state), Arc::downgrade(&proxy.under_way));
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !state.lock().unwrap().is_dead {
                    tokio::spawn(forward(client, target, Arc::clone(&state), under_way.clone()));
                }
            }
        });
        proxy
    }

    /// Breaks at the `n`th call from now, counted from 0.
    pub(super) fn break_at(&self, n: usize, cut: Cut) {
        *self.state.lock().unwrap() = State { plan: Some((n, cut)), ..State::default() };
    }

    /// Breaks before a call of this method.
    pub(super) fn break_before(&self, method: &str) {
        *self.state.lock().unwrap() = State { cut: Some(method.to_owned()), ..State::default() };
    }

    /// Refuses the `n`th call from now, counted from 0, if it changes something.
    pub(super) fn refuse_at(&self, n: usize, refusal: Refusal) {
        *self.state.lock().unwrap() = State { refusal: Some((n, refusal)), ..State::default() };
    }

    /// Refuses all calls of a method.
    pub(super) fn refuse(&self, method: &str, refusal: Refusal) {
        *self.state.lock().unwrap() = State { refuses: Some((method.to_owned(), refusal)), ..State::default() };
    }

    /// The method of the call that was refused.
    pub(super) fn refused(&self) -> Option<String> {
        self.state.lock().unwrap().refused.clone()
    }

    /// Whether it broke.
    pub(super) fn is_dead(&self) -> bool {
        self.state.lock().unwrap().is_dead
    }

    /// Whether all calls are answered.
    pub(super) fn is_quiet(&self) -> bool {
        Arc::strong_count(&self.under_way) == 1
    }

    pub(super) fn die(&self) {
        self.state.lock().unwrap().is_dead = true;
    }

    /// Works again, for new connections; returns the calls that it saw.
    pub(super) fn revive(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.lock().unwrap()).calls
    }
}

async fn forward(mut client: TcpStream, target: SocketAddr, state: Arc<Mutex<State>>, under_way: Weak<()>) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let (mut call, mut cut_answer) = (None, false);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(n @ 1..) = read else { return };
                if call.is_none() {
                    call = under_way.upgrade();
                    let name = method(&asked[..n]);
                    let fate = state.lock().unwrap().fate_of(&name);
                    match fate {
                        Fate::Lost => return,
                        Fate::Refused(refusal) => {
                            call = None;
                            if client.write_all(&refused(&asked[..n], &name, refusal)).await.is_err() {
                                return;
                            }
                            continue;
                        }
                        Fate::Unanswered => cut_answer = true,
                        Fate::Answered => {}
                    }
                }
                if server.write_all(&asked[..n]).await.is_err() {
                    return;
                }
            }
            read = server.read(&mut answered) => {
                let Ok(n @ 1..) = read else { return };
                if cut_answer || state.lock().unwrap().is_dead {
                    return;
                }
                call = None;
                if client.write_all(&answered[..n]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The answer to a call of the binary protocol that is in one piece: an exception in a field of the method's result.
fn refused(call: &[u8], name: &str, refusal: Refusal) -> Vec<u8> {
    const REPLY: u32 = 0x8001_0002;
    const MESSAGE: &[u8] = b"not here";
    let (_, invalid, trouble) = REFUSALS.iter().find(|(method, ..)| *method == name).unwrap();
    let field = if refusal == Refusal::Invalid { invalid } else { trouble };
    let seq_at = 8 + name.len();
    let mut answer = REPLY.to_be_bytes().to_vec();
    answer.extend(u32::try_from(name.len()).unwrap().to_be_bytes());
    answer.extend(name.as_bytes());
    answer.extend(&call[seq_at..seq_at + 4]);
    // A structure in the field, in it a text in field 1, and the ends of both structures.
    answer.push(12);
    answer.extend(field.to_be_bytes());
    answer.extend([11, 0, 1]);
    answer.extend(u32::try_from(MESSAGE.len()).unwrap().to_be_bytes());
    answer.extend(MESSAGE);
    answer.extend([0, 0]);
    answer
}

/// The name in the head of a message of the binary protocol.
fn method(message: &[u8]) -> String {
    let len = usize::try_from(u32::from_be_bytes(message[4..8].try_into().unwrap())).unwrap();
    String::from_utf8_lossy(&message[8..8 + len]).into_owned()
}
