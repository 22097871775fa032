//! Transactions, which ACID tables of Hive need and which are not here: no one is ever open. Questions about them have the
//! answers of a metastore in which nobody ever opened one, as engines ask them of every table; what would begin or change
//! one is refused.

use bytes::Bytes;
use tereza_runtime::Error;
use tereza_thrift::codec::Set;
use tereza_thrift::hive::{
    self, Exception, GetOpenTxnsInfoResponse, GetOpenTxnsResponse, GetValidWriteIdsResponse, HeartbeatTxnRangeResponse,
    MetaException, NoSuchTxnException, ShowCompactResponse, TableValidWriteIds,
};

use super::{Answer, Session};

/// Transactions that may be renewed at once.
const RENEWED_AT_ONCE: i64 = 10_000;

impl Session {
    pub(super) async fn begin_transactions(&self, _: hive::OpenTxnsArgs) -> Answer<hive::OpenTxnsResponse> {
        Err(no_transactions())
    }

    pub(super) async fn write_ids(
        &self,
        _: hive::AllocateTableWriteIdsArgs,
    ) -> Answer<hive::AllocateTableWriteIdsResponse> {
        Err(no_transactions())
    }

    pub(super) async fn compact(&self, _: hive::Compact2Args) -> Answer<hive::CompactionResponse> {
        Err(no_transactions())
    }

    pub(super) async fn commit_transaction(&self, args: hive::CommitTxnArgs) -> Answer<()> {
        Err(no_such(args.rqst.unwrap_or_default().txnid))
    }

    pub(super) async fn abort_transaction(&self, args: hive::AbortTxnArgs) -> Answer<()> {
        Err(no_such(args.rqst.unwrap_or_default().txnid))
    }

    pub(super) async fn abort_transactions(&self, args: hive::AbortTxnsArgs) -> Answer<()> {
        match args.rqst.unwrap_or_default().txn_ids.first() {
            Some(first) => Err(no_such(*first)),
            None => Ok(()),
        }
    }

    pub(super) async fn note_partitions(&self, args: hive::AddDynamicPartitionsArgs) -> Answer<()> {
        Err(no_such(args.rqst.unwrap_or_default().txnid))
    }

    pub(super) async fn renew_transactions(
        &self,
        args: hive::HeartbeatTxnRangeArgs,
    ) -> Answer<HeartbeatTxnRangeResponse> {
        let range = args.txns.unwrap_or_default();
        if range.max.saturating_sub(range.min) >= RENEWED_AT_ONCE {
            let message = format!("more than {RENEWED_AT_ONCE} transactions cannot be renewed at once");
            return Err(MetaException::new(message).into());
        }
        let nosuch = Set((range.min..=range.max).collect());
        Ok(HeartbeatTxnRangeResponse { nosuch, ..HeartbeatTxnRangeResponse::default() })
    }

    pub(super) async fn open_transactions(&self) -> Answer<GetOpenTxnsResponse> {
        Ok(GetOpenTxnsResponse::default())
    }

    pub(super) async fn open_transactions_of(&self, _: hive::GetOpenTxnsReqArgs) -> Answer<GetOpenTxnsResponse> {
        Ok(GetOpenTxnsResponse::default())
    }

    pub(super) async fn open_transaction_infos(&self) -> Answer<GetOpenTxnsInfoResponse> {
        Ok(GetOpenTxnsInfoResponse::default())
    }

    /// Nothing was ever written in a transaction, so of every table everything is to be read.
    pub(super) async fn valid_write_ids(&self, args: hive::GetValidWriteIdsArgs) -> Answer<GetValidWriteIdsResponse> {
        let of_table = |full_table_name| TableValidWriteIds {
            full_table_name,
            write_id_high_water_mark: 0,
            invalid_write_ids: Vec::new(),
            min_open_write_id: None,
            aborted_bits: Bytes::new(),
        };
        let tables = args.rqst.unwrap_or_default().full_table_names;
        Ok(GetValidWriteIdsResponse { tbl_valid_write_ids: tables.into_iter().map(of_table).collect() })
    }

    pub(super) async fn compactions(&self, _: hive::ShowCompactArgs) -> Answer<ShowCompactResponse> {
        Ok(ShowCompactResponse::default())
    }
}

fn no_transactions() -> Exception {
    let error = Error::unsupported("transactions, and with them ACID tables: make tables that are not transactional");
    MetaException::new(error.to_string()).into()
}

fn no_such(id: i64) -> Exception {
    NoSuchTxnException::new(format!("No such transaction txnid:{id}")).into()
}
