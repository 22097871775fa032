//! The crate from outside: bytes of another implementation, calls over TCP, and bytes of peers that mean no good.

#![expect(clippy::unwrap_used, reason = "a test that panics has failed, which is what it is there for")]

#[path = "../../../tests/support/fuzz.rs"]
mod driver;
mod fuzz;
mod golden;
mod hostile;
mod memory;
mod python;
mod tcp;
mod tls;
