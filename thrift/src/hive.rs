//! The interface of the Hive Metastore: its types, the trait of a server, and the methods of a client.
//!
//! All of it is made by `build.rs` from `idl/hive_metastore.thrift`, which holds what releases 2.3, 3.1 and 4 have. Names
//! are those of the interface in Rust's case: `dbName` is `db_name`, the arguments of `get_table` are [`GetTableArgs`].
//!
//! A field that the interface requires is a plain value and is always written; every other field is an [`Option`], so that
//! a field that a peer did not send is not sent on. A reader puts the default in place of a required field that is missing.

use std::collections::BTreeMap;
use std::fmt;
use std::future::{Future, Ready, ready};

use bytes::Bytes;
use tereza_runtime::{Error, ErrorKind};

use crate::call::{Answering, Call, Exceptions, Method, Service};
use crate::client::{CallError, Client};
use crate::codec::{
    ApplicationException, DecodeError, FieldReader, Listed, Record, SentAs, Set, Shared, Texts, Wire, Writer,
};

include!(concat!(env!("OUT_DIR"), "/hive.rs"));

impl<S: HiveMetastore> Service for S {
    type Exception = Exception;

    fn call<'a>(&'a self, call: Call<'a>) -> Answering<'a> {
        dispatch(self, call)
    }

    fn result_too_large(&self, method: &'static str, limit_bytes: usize) -> Exception {
        self.reply_too_large(method, limit_bytes)
    }

    fn answered(&self) {
        HiveMetastore::answered(self);
    }
}

/// Who wants to see the methods of the interface, each of which is a type: [`visit_methods`] shows them.
pub trait MethodVisitor {
    /// Here is one.
    fn method<M: Method<Exception = Exception>>(&mut self);
}

/// The body of every method that an implementation does not have.
fn unknown<M: Method<Exception = Exception>, A: SentAs<M::Reply>>(_: &M) -> Ready<Result<A, Exception>> {
    ready(Err(Exception::Application(ApplicationException::unknown_method(M::NAME))))
}

/// The body of a method without an answer.
fn nothing<M: Method<Reply = ()>>(_: &M) -> Ready<Result<(), M::Exception>> {
    ready(Ok(()))
}

impl SentAs<GetPartitionNamesPsResponse> for Texts {
    fn write_as(&self, writer: &mut Writer) {
        writer.field(1, Vec::<String>::TYPE);
        SentAs::<Vec<String>>::write_as(self, writer);
        writer.stop();
    }
}

fn too_large(method: &str, limit_bytes: usize) -> Exception {
    Exception::general(format!(
        "the result of {method} has more than {limit_bytes} bytes, which clients refuse to read: ask for fewer partitions or tables at a time"
    ))
}

impl fmt::Display for Exception {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.name(), self.message())
    }
}

impl std::error::Error for Exception {}

/// The exception that [`ErrorKind::mapping`] names for the kind. A method that does not declare it answers a
/// `MetaException` with the name before the message.
impl From<Error> for Exception {
    fn from(error: Error) -> Self {
        let message = error.to_string();
        match error.kind().mapping().hms {
            "NoSuchObjectException" => NoSuchObjectException::new(message).into(),
            "AlreadyExistsException" => AlreadyExistsException::new(message).into(),
            "InvalidOperationException" => InvalidOperationException::new(message).into(),
            _ => MetaException::new(message).into(),
        }
    }
}

/// What a metastore that is asked says, in the kinds of Tereza.
impl From<Exception> for Error {
    fn from(exception: Exception) -> Self {
        let kind = match &exception {
            Exception::NoSuchObject(_)
            | Exception::UnknownDB(_)
            | Exception::UnknownTable(_)
            | Exception::NoSuchTxn(_)
            | Exception::NoSuchLock(_) => ErrorKind::NotFound,
            Exception::AlreadyExists(_) => ErrorKind::AlreadyExists,
            Exception::InvalidObject(_) | Exception::InvalidOperation(_) | Exception::InvalidInput(_) => {
                ErrorKind::InvalidInput
            }
            Exception::TxnAborted(_) | Exception::TxnOpen(_) => ErrorKind::Conflict,
            Exception::ConfigValSecurity(_) => ErrorKind::Denied,
            Exception::Application(own) if own.code == ApplicationException::UNKNOWN_METHOD => ErrorKind::Unsupported,
            Exception::Meta(_) | Exception::Application(_) => ErrorKind::Unavailable,
        };
        Self::new(kind, format!("the metastore answered {exception}"))
    }
}
