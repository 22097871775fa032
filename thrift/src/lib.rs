//! The Thrift interface of the Hive Metastore, both sides of it: what a server answers and what a client asks.
//!
//! It knows bytes, messages and connections. It knows nothing of catalogs: what the methods mean is for whoever implements
//! [`hive::HiveMetastore`]. It has no SASL and no HTTP; [`server::Server::serve_connection`] takes any stream that
//! has done such things already.
//!
//! What arrives is not trusted: no length that a peer sends is allocated before its bytes are there, text is checked, and
//! size, depth and counts have bounds ([`codec::Limits`]).
//!
//! ```no_run
//! use tereza_thrift::hive::{Exception, GetTableArgs, HiveMetastore, NoSuchObjectException, Table};
//! use tereza_thrift::server::{Server, Settings};
//! use tokio::net::TcpListener;
//! use tokio_util::sync::CancellationToken;
//!
//! /// What belongs to one connection.
//! struct Session;
//!
//! impl HiveMetastore for Session {
//!     async fn get_table(&self, args: GetTableArgs) -> Result<Table, Exception> {
//!         let name = args.tbl_name.unwrap_or_default();
//!         Err(NoSuchObjectException::new(format!("{name} table not found")).into())
//!     }
//! }
//!
//! # async fn run() -> std::io::Result<()> {
//! let listener = TcpListener::bind("127.0.0.1:9083").await?;
//! let drain = CancellationToken::new();
//! Server::new(Settings::default(), ()).serve(listener, |_peer| Session, drain).await;
//! # Ok(())
//! # }
//! ```
//!
//! Files in reading order: [`codec`] (values to bytes and back, and where a message ends), [`call`] (a method, its answer
//! and its exceptions), [`hive`] (the interface, made by `build.rs` from `idl/`), `transport` (messages on a stream),
//! [`server`], [`tls`], [`client`].

pub mod call;
pub mod client;
pub mod codec;
pub mod hive;
pub mod server;
pub mod tls;
mod transport;
