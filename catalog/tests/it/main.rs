//! The metastore as its clients see it: over TCP, with our client and with those of others.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is there for")]

mod check;
mod clients;
mod constraints;
mod crash;
mod crowd;
mod databases;
mod differential;
mod hive;
mod hms;
mod import;
mod mariadb;
mod methods;
mod mysql;
mod others;
mod outage;
mod partitions;
mod privileges;
mod process;
mod support;
mod tables;
