//! Locks of a metastore, as one of its clients.

use std::collections::BTreeMap;

use tereza_runtime::{Error, Result};
use tereza_thrift::client::CallError;
use tereza_thrift::hive::{
    self, CheckLockArgs, CheckLockRequest, DataOperationType, GetVersionArgs, HeartbeatArgs, HeartbeatRequest,
    LockArgs, LockComponent, LockLevel, LockResponse, LockState, LockType, ShowLocksArgs, ShowLocksRequest,
    ShowLocksResponseElement, UnlockArgs, UnlockRequest,
};

use super::{Failed, Remote, failed};
use crate::model::{LockMode, LockPart};
use crate::store::{Lock, LockRequest};

/// The first version of Hive where [`LockType::SHARED_WRITE`] keeps no other writer out.
const FIRST_THAT_SHARES_WRITES: u32 = 4;

impl Remote {
    /// Asks for locks; returns the request's id and whether they are held.
    pub(crate) async fn lock(&self, request: &LockRequest) -> Result<(i64, bool), Failed> {
        let is_write = request.parts.iter().any(|part| part.mode == LockMode::SharedWrite);
        let shares_writes = is_write && self.shares_writes().await?;
        let component = |part: &LockPart| LockComponent {
            r#type: match part.mode {
                LockMode::SharedRead => LockType::SHARED_READ,
                LockMode::SharedWrite if shares_writes => LockType::EXCL_WRITE,
                LockMode::SharedWrite => LockType::SHARED_WRITE,
                LockMode::Exclusive => LockType::EXCLUSIVE,
            },
            level: match (&part.table, &part.partition) {
                (_, Some(_)) => LockLevel::PARTITION,
                (Some(_), None) => LockLevel::TABLE,
                (None, None) => LockLevel::DB,
            },
            dbname: part.database.clone(),
            tablename: part.table.clone(),
            partitionname: part.partition.clone(),
            operation_type: Some(DataOperationType::NO_TXN),
            ..LockComponent::default()
        };
        let rqst = hive::LockRequest {
            component: request.parts.iter().map(component).collect(),
            user: request.user.clone(),
            hostname: request.host.clone(),
            agent_info: request.agent.clone(),
            ..hive::LockRequest::default()
        };
        is_held(self.tell(&LockArgs { rqst: Some(rqst) }).await?)
    }

    /// Since Hive 4 a lock of the type `SHARED_WRITE` keeps no other writer out, and one of the new type `EXCL_WRITE` does, which
    /// older metastores do not know.
    async fn shares_writes(&self) -> Result<bool, Failed> {
        let ask = async || match self.ask(&GetVersionArgs {}).await {
            Ok(version) => {
                let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
                Ok(major.is_some_and(|major| major >= FIRST_THAT_SHARES_WRITES))
            }
            Err(CallError::Exception(_)) => Ok(false),
            Err(CallError::Connection(error)) => Err(Failed::Unsent(error)),
        };
        self.shares_writes.get_or_try_init(ask).await.copied()
    }

    /// Renews a lock and takes it if the way is free now.
    pub(crate) async fn check_lock(&self, id: i64) -> Result<bool> {
        let rqst = CheckLockRequest { lockid: id, ..CheckLockRequest::default() };
        let answer = self.ask(&CheckLockArgs { rqst: Some(rqst) }).await.map_err(failed)?;
        Ok(is_held(answer)?.1)
    }

    /// Renews a lock.
    pub(crate) async fn renew_lock(&self, id: i64) -> Result<()> {
        let ids = HeartbeatRequest { lockid: Some(id), ..HeartbeatRequest::default() };
        self.ask(&HeartbeatArgs { ids: Some(ids) }).await.map_err(failed)
    }

    /// Gives a lock back, whoever has it.
    pub async fn unlock(&self, id: i64) -> Result<()> {
        self.ask(&UnlockArgs { rqst: Some(UnlockRequest { lockid: id }) }).await.map_err(failed)
    }

    /// All locks, held and waiting, oldest first.
    pub async fn locks(&self) -> Result<Vec<Lock>> {
        let args = ShowLocksArgs { rqst: Some(ShowLocksRequest::default()) };
        let found = self.ask(&args).await.map_err(failed)?;
        let mut locks: BTreeMap<i64, Lock> = BTreeMap::new();
        for element in found.locks.unwrap_or_default() {
            let part = part(&element);
            let lock = locks.entry(element.lockid).or_insert_with(|| Lock {
                id: element.lockid,
                request: LockRequest {
                    parts: Vec::new(),
                    user: element.user.clone(),
                    host: element.hostname.clone(),
                    agent: element.agent_info.clone(),
                },
                acquired_ms: None,
                renewed_ms: element.lastheartbeat,
                blocked_by: None,
            });
            lock.request.parts.push(part);
            lock.blocked_by = lock.blocked_by.or(element.blocked_by_ext_id);
            if element.state == LockState::ACQUIRED {
                lock.acquired_ms = lock.acquired_ms.or(element.acquiredat).or(Some(element.lastheartbeat));
            }
        }
        Ok(locks.into_values().collect())
    }
}

fn is_held(answer: LockResponse) -> Result<(i64, bool), Failed> {
    match answer.state {
        LockState::ACQUIRED => Ok((answer.lockid, true)),
        LockState::WAITING => Ok((answer.lockid, false)),
        _ => {
            let why = answer.error_message.unwrap_or_default();
            Err(Failed::Refused(Error::unavailable(format!("the metastore gives no lock: {why}"))))
        }
    }
}

fn part(element: &ShowLocksResponseElement) -> LockPart {
    LockPart {
        mode: match element.r#type {
            LockType::SHARED_READ => LockMode::SharedRead,
            LockType::SHARED_WRITE | LockType::EXCL_WRITE => LockMode::SharedWrite,
            _ => LockMode::Exclusive,
        },
        database: element.dbname.clone(),
        table: element.tablename.clone(),
        partition: element.partname.clone(),
    }
}
