//! A metastore in memory, just large enough to be asked things, and a server with it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tereza_runtime::Error;
use tereza_thrift::call::Outcome;
use tereza_thrift::codec::{Header, Limits, Listed, Reader, Record};
use tereza_thrift::hive::*;
use tereza_thrift::server::{Observer, Server, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
pub(crate) struct Store {
    tables: Mutex<BTreeMap<(String, String), Table>>,
    partitions: Mutex<Vec<Partition>>,
    /// What `get_version` waits for, and what it says when it begins to.
    pub(crate) begun: Notify,
    pub(crate) release: Notify,
}

/// The state of one connection.
pub(crate) struct Session {
    store: Arc<Store>,
    user: Mutex<Option<String>>,
}

impl Session {
    pub(crate) fn new(store: &Arc<Store>) -> Self {
        Self { store: Arc::clone(store), user: Mutex::default() }
    }
}

impl HiveMetastore for Session {
    async fn set_ugi(&self, args: SetUgiArgs) -> Result<Vec<String>, Exception> {
        let user = args.user_name.unwrap_or_default();
        *self.user.lock().unwrap() = Some(user.clone());
        Ok(std::iter::once(user).chain(args.group_names.unwrap_or_default()).collect())
    }

    async fn get_name(&self) -> Result<String, Exception> {
        Ok(self.user.lock().unwrap().clone().unwrap_or_default())
    }

    /// Waits to be released.
    async fn get_version(&self) -> Result<String, Exception> {
        self.store.begun.notify_one();
        self.store.release.notified().await;
        Ok("released".to_owned())
    }

    async fn get_status_details(&self) -> Result<String, Exception> {
        panic!("as asked");
    }

    /// So many bytes.
    async fn get_option(&self, args: GetOptionArgs) -> Result<String, Exception> {
        Ok("x".repeat(args.key.unwrap_or_default().parse().unwrap_or_default()))
    }

    async fn get_all_databases(&self) -> Result<Vec<String>, Exception> {
        Ok(vec!["default".to_owned(), "web".to_owned()])
    }

    async fn get_database(&self, args: GetDatabaseArgs) -> Result<Database, Exception> {
        let location_uri = Some("file:/warehouse".to_owned());
        Ok(Database { name: args.name, location_uri, ..Database::default() })
    }

    async fn create_table(&self, args: CreateTableArgs) -> Result<(), Exception> {
        let table = args.tbl.unwrap_or_default();
        let key = (table.db_name.clone().unwrap_or_default(), table.table_name.clone().unwrap_or_default());
        let mut tables = self.store.tables.lock().unwrap();
        if tables.contains_key(&key) {
            return Err(Error::already_exists(format!("{}.{} is there already", key.0, key.1)).into());
        }
        tables.insert(key, table);
        Ok(())
    }

    async fn get_table(&self, args: GetTableArgs) -> Result<Table, Exception> {
        let key = (args.dbname.unwrap_or_default(), args.tbl_name.unwrap_or_default());
        let table = self.store.tables.lock().unwrap().get(&key).cloned();
        table.ok_or_else(|| Error::not_found(format!("{}.{} table not found", key.0, key.1)).into())
    }

    /// Has one table, which only Hive 4 can say all of.
    async fn get_table_req(&self, args: GetTableReqArgs) -> Result<GetTableResult, Exception> {
        let table = Table {
            db_name: text("web"),
            table_name: Some(args.req.unwrap_or_default().tbl_name),
            owner_type: Some(PrincipalType::USER),
            write_id: Some(-1),
            access_type: Some(8),
            required_read_capabilities: Some(vec!["EXTREAD".to_owned()]),
            id: Some(77),
            txn_id: Some(3),
            temporary: Some(false),
            ..Table::default()
        };
        Ok(GetTableResult { table, ..GetTableResult::default() })
    }

    async fn get_all_tables(&self, args: GetAllTablesArgs) -> Result<Vec<String>, Exception> {
        let tables = self.store.tables.lock().unwrap();
        let names = tables.keys().filter(|(database, _)| Some(database) == args.db_name.as_ref());
        Ok(names.map(|(_, name)| name.clone()).collect())
    }

    async fn add_partitions(&self, args: AddPartitionsArgs) -> Result<i32, Exception> {
        let new = args.new_parts.unwrap_or_default();
        let count = i32::try_from(new.len()).unwrap();
        self.store.partitions.lock().unwrap().extend(new);
        Ok(count)
    }

    async fn get_partitions(&self, args: GetPartitionsArgs) -> Result<Listed<Partition>, Exception> {
        let partitions = self.store.partitions.lock().unwrap();
        let mut listed = Listed::new(usize::MAX);
        partitions.iter().filter(|partition| partition.table_name == args.tbl_name).for_each(|one| listed.push(one));
        Ok(listed)
    }

    /// Declares other exceptions than this one.
    async fn lock(&self, args: LockArgs) -> Result<LockResponse, Exception> {
        match args.rqst.unwrap_or_default().component.first() {
            Some(_) => Ok(LockResponse { lockid: 4_294_967_297, state: LockState::WAITING, ..LockResponse::default() }),
            None => Err(Error::invalid_input("a lock needs a component").into()),
        }
    }

    /// Declares only a `MetaException`.
    async fn get_tables(&self, _: GetTablesArgs) -> Result<Vec<String>, Exception> {
        Err(Error::not_found("no database").into())
    }
}

/// The calls that an observer was told of.
#[derive(Clone, Default)]
pub(crate) struct Calls(pub(crate) Arc<Mutex<Vec<(&'static str, Outcome)>>>);

impl Observer for Calls {
    fn called(&self, method: &'static str, outcome: Outcome, _: Duration) {
        self.0.lock().unwrap().push((method, outcome));
    }
}

/// A server on a free port. It ends with the test.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) store: Arc<Store>,
    pub(crate) calls: Calls,
    pub(crate) drain: CancellationToken,
    pub(crate) task: JoinHandle<()>,
}

impl Running {
    pub(crate) async fn new(settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (store, calls, drain) = (Arc::new(Store::default()), Calls::default(), CancellationToken::new());
        let server = Server::new(settings, calls.clone());
        let (sessions, token) = (Arc::clone(&store), drain.clone());
        let task = tokio::spawn(async move {
            server.serve(listener, move |_| Session::new(&sessions), token).await;
        });
        Self { address, store, calls, drain, task }
    }

    pub(crate) async fn connect(&self) -> Raw {
        Raw(TcpStream::connect(self.address).await.unwrap())
    }
}

/// A connection on which bytes are sent as they are.
pub(crate) struct Raw(pub(crate) TcpStream);

impl Raw {
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// As many bytes as are expected, or what came before the end.
    pub(crate) async fn receive(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        let mut got = 0;
        while got < len {
            let read = timeout(PATIENCE, self.0.read(&mut bytes[got..])).await.expect("no answer").unwrap_or(0);
            if read == 0 {
                bytes.truncate(got);
                break;
            }
            got += read;
        }
        bytes
    }

    /// Everything up to the end of the connection.
    pub(crate) async fn rest(&mut self) -> Vec<u8> {
        self.receive(1 << 20).await
    }

    pub(crate) async fn asks(&mut self, call: &[u8], answer: &[u8]) {
        self.send(call).await;
        let found = self.receive(answer.len()).await;
        assert!(found == answer, "{} / {}", found.escape_ascii(), answer.escape_ascii());
    }
}

/// The head of a message and its struct.
pub(crate) fn decode<T: Record>(bytes: &[u8]) -> (Header, T) {
    let limits = Limits::default();
    let mut reader = Reader::new(bytes, &limits);
    let header = Header::read(&mut reader).unwrap();
    let record = reader.record().unwrap();
    assert_eq!(reader.position(), bytes.len(), "bytes are left");
    (header, record)
}

/// One of the files that another implementation made.
pub(crate) fn golden(name: &str) -> Vec<u8> {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Text as fields have it.
pub(crate) fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}
