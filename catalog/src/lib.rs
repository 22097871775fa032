//! The names of Tereza and what they stand for: databases, tables, partitions, columns, statistics and jobs, kept in the
//! relational tables of Hive Metastore 3.1 so that a metastore's own database can be opened and left again.
//!
//! It refuses to know how anything is queried: DataFusion is never a dependency here, and types are the text that the
//! metastore stores (`decimal(10,2)`, `array<string>`).
//!
//! Files in reading order: [`model`] (the nouns), [`store`] (the trait and its rules), [`store::schemas`] (the trait of what
//! keeps a registry's schemas), `store/sql` (what each method does inside its transaction, in SQL that both databases
//! understand), `store/sqlite` (the embedded implementation: opening, transactions, tables), `store/mysql` (the same beside a
//! metastore on MySQL or MariaDB), [`conformance`] (what every implementation must pass), [`hive`] (the catalog as a Hive
//! Metastore over Thrift), `store/hms` (another's metastore as the catalog), [`import`] (the names of another catalog), [`check`]
//! (what is wrong in one).

pub mod check;
pub mod conformance;
pub mod hive;
pub mod import;
pub mod model;
pub mod store;

pub use store::Store;
pub use store::hms::HmsStore;
pub use store::mysql::MySqlStore;
pub use store::schemas::SchemaStore;
pub use store::sqlite::SqliteStore;
