//! Rows that others lock, and a server that is not there.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use sqlx::{Connection, MySqlConnection, query_scalar, raw_sql};
use tereza_catalog::model::{LockMode, LockPart};
use tereza_catalog::store::mysql::Settings;
use tereza_catalog::store::{LockRequest, StagedFile, Write};
use tereza_catalog::{MySqlStore, Store};
use tereza_runtime::ErrorKind;
use tereza_runtime::clock::{self, Clock};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::{begin, database, one_row, partition, partitioned, table};
use crate::mariadb::new_database;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_waits_for_who_changes_the_same_table() {
    let Some(at) = new_database().await else { return };
    let store = at.store().await;
    for name in ["t", "u"] {
        store.create_table(&table("default", name)).await.unwrap();
    }
    let mut conn = at.connect().await;
    raw_sql("BEGIN; UPDATE TBLS SET OWNER = 'bob' WHERE TBL_NAME = 't'").execute(&mut conn).await.unwrap();
    let changed = table("default", "t");
    let call = store.alter_table("default", "t", None, &changed);
    tokio::pin!(call);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut call).await.is_err(), "it waits");
    store.alter_table("default", "u", None, &table("default", "u")).await.expect("another table is free");
    assert_eq!(store.table("default", "t").await.expect("readers do not wait").table.owner, None);
    raw_sql("COMMIT").execute(&mut conn).await.unwrap();
    call.await.unwrap();
}

/// A process that is stopped, or cut off, keeps the rows that it has locked for as long as the server keeps its connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_within_a_transaction_holds_up_the_others_for_a_bounded_time() {
    let Some(at) = new_database().await else { return };
    let store = at.store().await;
    let write = Write {
        id: "w".into(),
        database: "default".into(),
        table: "t".into(),
        owner: "slow".into(),
        began_ms: 1,
        staged: Vec::new(),
    };
    store.begin_write(&write).await.unwrap();
    let file = StagedFile { target: "file:///t/a".into(), staged: "file:///t/_tereza/a".into() };
    // The process locks its write, and then waits for this row.
    let mut conn = at.connect().await;
    let row =
        "BEGIN; INSERT INTO TZ_STAGED (WRITE_ID, PLACE, TARGET) VALUES ('w', 'file:///t/_tereza/a', 'file:///t/a')";
    raw_sql(row).execute(&mut conn).await.unwrap();
    let (is_stopped, stopped) = tokio::sync::oneshot::channel();
    let (goes_on, url) = (std::sync::mpsc::channel(), at.url());
    let slow = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let slow = runtime.block_on(MySqlStore::open(&url, Settings::default(), Clock::system())).unwrap();
        let call = runtime.spawn(async move { slow.stage("w", &file).await });
        let waits = "SELECT COUNT(*) FROM information_schema.INNODB_TRX JOIN information_schema.PROCESSLIST \
                     ON ID = trx_mysql_thread_id WHERE DB = DATABASE() AND trx_state = 'LOCK WAIT'";
        runtime.block_on(async {
            let mut conn = MySqlConnection::connect(&url).await.unwrap();
            let began = clock::now();
            while query_scalar::<_, i64>(waits).fetch_one(&mut conn).await.unwrap() == 0 {
                assert!(began.elapsed() < Duration::from_secs(8), "it does not wait for the row");
                // The server looks again only when nobody has asked for 100 ms; who asks more often gets an old answer.
                tokio::time::sleep(Duration::from_millis(250)).await;
            }
        });
        // Nothing runs here until it is woken.
        is_stopped.send(()).unwrap();
        goes_on.1.recv().unwrap();
        runtime.block_on(call).unwrap()
    });
    stopped.await.unwrap();
    raw_sql("ROLLBACK").execute(&mut conn).await.unwrap();
    let began = clock::now();
    assert!(store.give_up_write("w").await.unwrap());
    let waited = began.elapsed();
    assert!(waited > Duration::from_secs(2), "nothing was locked: {waited:?}");
    goes_on.0.send(()).unwrap();
    let outcome = tokio::task::spawn_blocking(|| slow.join().unwrap()).await.unwrap();
    assert_eq!(outcome.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_tried_again() {
    let Some(at) = new_database().await else { return };
    let store = at.store().await;
    store.create_table(&table("default", "t")).await.unwrap();
    let mut conn = at.connect().await;
    // The other takes what the store takes second, then wants what it took first, and has changed more rows, so the
    // server ends the store's transaction.
    raw_sql(
        "CREATE TABLE HEAVY (N INT); BEGIN; INSERT INTO HEAVY SELECT 1 FROM information_schema.COLUMNS LIMIT 500; \
             UPDATE TZ_TABLE_VERSIONS SET VERSION = VERSION",
    )
    .execute(&mut conn)
    .await
    .unwrap();
    let changed = table("default", "t");
    let call = store.alter_table("default", "t", None, &changed);
    tokio::pin!(call);
    assert!(tokio::time::timeout(Duration::from_millis(500), &mut call).await.is_err(), "it waits");
    let other = async {
        raw_sql("UPDATE TBLS SET OWNER = 'bob' WHERE TBL_NAME = 't'").execute(&mut conn).await.expect("the survivor");
        raw_sql("COMMIT").execute(&mut conn).await.unwrap();
    };
    let (outcome, ()) = tokio::join!(call, other);
    outcome.expect("the second attempt");
    assert_eq!(store.table("default", "t").await.unwrap().version, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn locks_of_clients_are_compared_under_the_mutex_of_a_metastore() {
    let Some(at) = new_database().await else { return };
    let store = at.store().await;
    let part = LockPart { mode: LockMode::Exclusive, database: "d".into(), table: None, partition: None };
    let ask = LockRequest { parts: vec![part], user: "ada".into(), host: "there".into(), agent: None };
    let first = store.lock(&ask, 60_000).await.unwrap();
    let mut conn = at.connect().await;
    let mutex = "BEGIN; SELECT MT_COMMENT FROM AUX_TABLE WHERE MT_KEY1 = 'CheckLock' AND MT_KEY2 = 0 FOR UPDATE";
    raw_sql(mutex).execute(&mut conn).await.unwrap();
    let call = store.lock(&ask, 60_000);
    tokio::pin!(call);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut call).await.is_err(), "it waits");
    // What a metastore did meanwhile, under the number that it took.
    raw_sql("UPDATE NEXT_LOCK_ID SET NL_NEXT = NL_NEXT + 1; COMMIT").execute(&mut conn).await.unwrap();
    let second = call.await.unwrap();
    assert_eq!((second.id, second.blocked_by), (first.id + 2, Some(first.id)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_gone_is_waited_for_and_then_given_up() {
    let Some(at) = new_database().await else { return };
    at.store().await.close().await;
    let way = Way::to(at.port).await;
    let settings = Settings {
        connect_timeout: Duration::from_millis(1_500),
        transaction_timeout: Duration::from_secs(2),
        ..Settings::default()
    };
    let store = MySqlStore::open(&at.url_by(way.port), settings, Clock::system()).await.unwrap();
    store.create_database(&database("before")).await.unwrap();

    // Gone: connections break, and there are no new ones.
    way.close();
    let began = clock::now();
    for outcome in [store.create_database(&database("never")).await, store.databases().await.map(|_| ())] {
        let error = outcome.expect_err("nobody is there");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains(&at.name) && !format!("{error:?}").contains("ecret"), "{error:?}");
    }
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    way.open();
    assert_eq!(store.databases().await.expect("it is back"), ["before", "default"]);
    store.create_database(&database("after")).await.unwrap();

    // Only the connections break, as when the server starts anew or somebody kills them: nobody hears of it.
    for n in 0..5 {
        way.cut();
        store.create_database(&database(&format!("d{n}"))).await.expect("tried again");
        way.cut();
        assert!(store.database(&format!("d{n}")).await.is_ok());
    }

    // Silent: connections stand and nothing comes back.
    way.hold();
    let began = clock::now();
    let error = store.databases().await.expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
    way.open();
    assert_eq!(store.databases().await.expect("it answers again").len(), 8);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_without_an_answer_is_said_to_be_unknown() {
    let Some(at) = new_database().await else { return };
    let there = at.store().await;
    let way = Way::to(at.port).await;
    let store = MySqlStore::open(&at.url_by(way.port), Settings::default(), Clock::system()).await.unwrap();
    for (lose, name, is_there) in [(Lose::Answer, "done", true), (Lose::Question, "not_done", false)] {
        *way.state.lose.lock().unwrap() = Some(lose);
        let error = store.create_database(&database(name)).await.expect_err("no answer came");
        assert_eq!(error.kind(), ErrorKind::Unavailable, "{error}");
        assert!(error.message().contains("not known"), "{error}");
        assert_eq!(there.databases().await.unwrap().contains(&name.to_owned()), is_there);
    }

    // A commit of rows may be asked for again, whatever became of the first.
    there.create_table(&table("default", "t")).await.unwrap();
    for lose in [Lose::Answer, Lose::Question] {
        let commit = one_row("t");
        begin(&store, &commit).await.unwrap();
        *way.state.lose.lock().unwrap() = Some(lose);
        assert_eq!(store.commit(&commit).await.expect_err("no answer came").kind(), ErrorKind::Unavailable);
        let version = store.commit(&commit).await.expect("asked again");
        assert_eq!(store.commit(&commit).await.expect("and again"), version);
    }
    assert_eq!(there.table("default", "t").await.unwrap().table.parameters["numRows"], "2");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_statement_is_closed() {
    // What is sent after the packet that closes one waits until the kernel has acknowledged that: 40 ms.
    let Some(at) = new_database().await else { return };
    at.store().await.close().await;
    let way = Way::to(at.port).await;
    let store = MySqlStore::open(&at.url_by(way.port), Settings::default(), Clock::system()).await.unwrap();
    store.create_table(&partitioned("t")).await.unwrap();
    for count in 1..20 {
        let values: Vec<Vec<String>> = (0..count).map(|n| vec![n.to_string(), "x".into()]).collect();
        let some: Vec<_> = values.iter().map(|values| partition(&[&values[0], &values[1]])).collect();
        assert_eq!(store.add_partitions("default", "t", &some, false).await.unwrap(), count);
        let commit = one_row("t");
        begin(&store, &commit).await.unwrap();
        store.commit(&commit).await.unwrap();
        assert_eq!(store.drop_partitions("default", "t", &values, false).await.unwrap().len(), count);
    }
    assert_eq!(way.state.closed_statements.load(Ordering::SeqCst), 0);
}

/// A way to the server that can be closed, cut and held up.
struct Way {
    port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    closed_statements: AtomicUsize,
    /// What of the next commit gets lost, with the connection.
    lose: Mutex<Option<Lose>>,
    closed: AtomicBool,
    held: AtomicBool,
    /// Whether what comes is thrown away.
    deaf: AtomicBool,
    cut: Notify,
    freed: Notify,
}

#[derive(Clone, Copy)]
enum Lose {
    Question,
    Answer,
}

impl Way {
    async fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let state = Arc::clone(&shared);
                if state.closed.load(Ordering::SeqCst) {
                    continue;
                }
                tokio::spawn(async move {
                    let server = TcpStream::connect(("127.0.0.1", server)).await.unwrap();
                    let (mut from_client, mut to_client) = client.into_split();
                    let (mut from_server, mut to_server) = server.into_split();
                    let up = copy(&mut from_client, &mut to_server, &state);
                    let down = copy(&mut from_server, &mut to_client, &state);
                    tokio::select! { () = up => {}, () = down => {}, () = state.cut.notified() => {} }
                });
            }
        });
        Self { port, state }
    }

    fn close(&self) {
        self.state.closed.store(true, Ordering::SeqCst);
        self.cut();
    }

    fn cut(&self) {
        self.state.cut.notify_waiters();
    }

    fn hold(&self) {
        self.state.held.store(true, Ordering::SeqCst);
    }

    fn open(&self) {
        self.state.closed.store(false, Ordering::SeqCst);
        self.state.held.store(false, Ordering::SeqCst);
        self.state.freed.notify_waiters();
    }
}

/// Carries bytes one way until either side ends.
async fn copy(
    from: &mut (impl tokio::io::AsyncRead + Unpin),
    to: &mut (impl tokio::io::AsyncWrite + Unpin),
    state: &State,
) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let mut bytes = [0; 4_096];
    while let Ok(read @ 1..) = from.read(&mut bytes).await {
        // A packet of five bytes, the first of all: COM_STMT_CLOSE and the statement.
        if bytes[..read].windows(5).any(|header| header == [5, 0, 0, 0, 0x19]) {
            state.closed_statements.fetch_add(1, Ordering::SeqCst);
        }
        let is_commit = bytes[..read].ends_with(b"COMMIT");
        let lose = if is_commit { state.lose.lock().unwrap().take() } else { None };
        if let Some(lose) = lose {
            if matches!(lose, Lose::Answer) {
                to.write_all(&bytes[..read]).await.unwrap();
                // Time to do it; the answer has no way back, because this end of the connection is not read any more.
                state.deaf.store(true, Ordering::SeqCst);
                tokio::time::sleep(Duration::from_millis(300)).await;
                state.deaf.store(false, Ordering::SeqCst);
            }
            break;
        }
        let freed = state.freed.notified();
        if state.held.load(Ordering::SeqCst) {
            freed.await;
        }
        if !state.deaf.load(Ordering::SeqCst) && to.write_all(&bytes[..read]).await.is_err() {
            break;
        }
    }
}
