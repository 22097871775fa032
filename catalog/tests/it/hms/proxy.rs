//! A network that breaks when it is told to: it forwards to a metastore, counts the calls, and from a certain one on every
//! connection is dead, before the call arrives or before its answer comes back.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

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

#[derive(Default)]
struct State {
    /// Calls to go until it breaks, and where.
    plan: Option<(usize, Cut)>,
    is_dead: bool,
    /// The calls since it was told when to break.
    calls: Vec<String>,
}

#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Proxy {
    pub(super) async fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Self { address: listener.local_addr().unwrap(), state: Arc::default() };
        let state = Arc::clone(&proxy.state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !state.lock().unwrap().is_dead {
                    tokio::spawn(forward(client, target, Arc::clone(&state)));
                }
            }
        });
        proxy
    }

    /// Breaks at the `n`th call from now, counted from 0.
    pub(super) fn break_at(&self, n: usize, cut: Cut) {
        *self.state.lock().unwrap() = State { plan: Some((n, cut)), ..State::default() };
    }

    /// Whether it broke.
    pub(super) fn is_dead(&self) -> bool {
        self.state.lock().unwrap().is_dead
    }

    pub(super) fn die(&self) {
        self.state.lock().unwrap().is_dead = true;
    }

    /// Works again, for new connections; returns the calls that it saw.
    pub(super) fn revive(&self) -> Vec<String> {
        std::mem::take(&mut *self.state.lock().unwrap()).calls
    }
}

async fn forward(mut client: TcpStream, target: SocketAddr, state: Arc<Mutex<State>>) {
    let Ok(mut server) = TcpStream::connect(target).await else { return };
    let (mut asked, mut answered) = (vec![0; 1 << 16], vec![0; 1 << 16]);
    let (mut is_new_call, mut cut_answer) = (true, false);
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(n @ 1..) = read else { return };
                if is_new_call {
                    is_new_call = false;
                    let mut state = state.lock().unwrap();
                    if state.is_dead {
                        return;
                    }
                    state.calls.push(method(&asked[..n]));
                    match &mut state.plan {
                        Some((0, cut)) => {
                            cut_answer = *cut == Cut::After;
                            state.is_dead = true;
                            if !cut_answer {
                                return;
                            }
                        }
                        Some((left, _)) => *left -= 1,
                        None => {}
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
                is_new_call = true;
                if client.write_all(&answered[..n]).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The name in the head of a message of the binary protocol.
fn method(message: &[u8]) -> String {
    let len = usize::try_from(u32::from_be_bytes(message[4..8].try_into().unwrap())).unwrap();
    String::from_utf8_lossy(&message[8..8 + len]).into_owned()
}
