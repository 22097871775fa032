//! The registry from outside: over HTTP, by clients of others, and as what it says of pairs of schemas.

mod clients;
mod codes;
mod crash;
mod hostile;
mod imports;
#[path = "../../../catalog/tests/it/mariadb.rs"]
#[expect(dead_code, reason = "the catalog's tests use more of it")]
mod mariadb;
mod mysql;
mod outage;
mod rest;
mod support;
mod vectors;

// `mariadb` is what needs it.
use sqlx as _;
