//! Locks: rows of the store that run out when nobody renews them. Nothing waits here; a client that has to wait asks again.

use tereza_runtime::{Error, ErrorKind};
use tereza_thrift::hive::{
    self, CheckLockRequest, Exception, HeartbeatRequest, LockResponse, LockState, LockType, NoSuchLockException,
    NoSuchTxnException, ShowLocksRequest, ShowLocksResponse, ShowLocksResponseElement, UnlockRequest,
};

use super::{Answer, Session, names};
use crate::model::{LockMode, LockPart};
use crate::store::{Lock, LockRequest};

impl Session {
    pub(super) async fn take_lock(&self, request: hive::LockRequest) -> Answer<LockResponse> {
        no_transaction(request.txnid)?;
        let mut parts = Vec::with_capacity(request.component.len());
        for component in request.component {
            parts.push(LockPart {
                mode: mode_of(component.r#type),
                database: names::database(Some(component.dbname))?,
                table: component.tablename.map(|name| name.to_lowercase()),
                partition: component.partitionname,
            });
        }
        let (user, host, agent) = (request.user, request.hostname, request.agent_info);
        let request = LockRequest { parts, user, host, agent };
        Ok(response(&self.store().lock(&request, self.lock_timeout_ms()).await?))
    }

    pub(super) async fn ask_lock(&self, request: CheckLockRequest) -> Answer<LockResponse> {
        let id = request.lockid;
        let lock = self.store().check_lock(id, self.lock_timeout_ms()).await;
        Ok(response(&lock.map_err(|error| of_lock(error, id))?))
    }

    pub(super) async fn give_lock(&self, request: UnlockRequest) -> Answer<()> {
        let id = request.lockid;
        match self.store().unlock(id, self.lock_timeout_ms()).await {
            // It ran out, or was given back before: either way the client does not have it.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            given => given.map_err(Exception::from),
        }
    }

    pub(super) async fn renew_lock(&self, request: HeartbeatRequest) -> Answer<()> {
        no_transaction(request.txnid)?;
        let Some(id) = request.lockid.filter(|id| *id > 0) else { return Ok(()) };
        let renewed = self.store().renew_lock(id, self.lock_timeout_ms()).await;
        renewed.map_err(|error| match error.kind() {
            ErrorKind::NotFound => NoSuchLockException::new(format!("No such lock: lockid:{id}")).into(),
            _ => error.into(),
        })
    }

    pub(super) async fn list_locks(&self, request: ShowLocksRequest) -> Answer<ShowLocksResponse> {
        let name = |name: Option<String>| name.filter(|name| !name.is_empty());
        let database = names::database_or_all(name(request.dbname))?;
        let table = name(request.tablename).map(|name| name.to_lowercase());
        let partition = name(request.partname);
        let mut found = Vec::new();
        for lock in self.store().locks(self.lock_timeout_ms()).await? {
            for (part, number) in lock.request.parts.iter().zip(1..) {
                let is_wanted = database.as_ref().is_none_or(|name| *name == part.database)
                    && (table.is_none() || part.table == table)
                    && (partition.is_none() || part.partition == partition);
                if is_wanted {
                    found.push(element(&lock, part, number));
                }
            }
        }
        Ok(ShowLocksResponse { locks: Some(found) })
    }

    fn lock_timeout_ms(&self) -> i64 {
        i64::try_from(self.shared.settings.lock_timeout.as_millis()).unwrap_or(i64::MAX)
    }
}

fn response(lock: &Lock) -> LockResponse {
    LockResponse { lockid: lock.id, state: state(lock), error_message: None }
}

fn state(lock: &Lock) -> LockState {
    if lock.acquired_ms.is_some() { LockState::ACQUIRED } else { LockState::WAITING }
}

fn element(lock: &Lock, part: &LockPart, number: i64) -> ShowLocksResponseElement {
    ShowLocksResponseElement {
        lockid: lock.id,
        dbname: part.database.clone(),
        tablename: part.table.clone(),
        partname: part.partition.clone(),
        state: state(lock),
        r#type: match part.mode {
            LockMode::SharedRead => LockType::SHARED_READ,
            LockMode::SharedWrite => LockType::SHARED_WRITE,
            LockMode::Exclusive => LockType::EXCLUSIVE,
        },
        // Of no transaction.
        txnid: Some(0),
        lastheartbeat: lock.renewed_ms,
        acquiredat: lock.acquired_ms,
        user: lock.request.user.clone(),
        hostname: lock.request.host.clone(),
        heartbeat_count: None,
        agent_info: lock.request.agent.clone(),
        blocked_by_ext_id: lock.blocked_by,
        blocked_by_int_id: lock.blocked_by.map(|_| 1),
        lock_id_internal: Some(number),
    }
}

fn mode_of(lock_type: LockType) -> LockMode {
    match lock_type {
        LockType::SHARED_READ => LockMode::SharedRead,
        // Hive 4 has one for writers that lets readers pass and no other writer.
        LockType::SHARED_WRITE | LockType::EXCL_WRITE => LockMode::SharedWrite,
        _ => LockMode::Exclusive,
    }
}

/// There are no transactions, so none has the number that a client names; 0 and less stand for none.
fn no_transaction(id: Option<i64>) -> Answer<()> {
    match id {
        Some(id) if id > 0 => Err(NoSuchTxnException::new(format!("No such transaction txnid:{id}")).into()),
        _ => Ok(()),
    }
}

fn of_lock(error: Error, id: i64) -> Exception {
    if error.kind() == ErrorKind::NotFound {
        NoSuchLockException::new(format!("No such lock lockid:{id}")).into()
    } else {
        error.into()
    }
}
