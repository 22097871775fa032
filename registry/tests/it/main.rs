//! The registry from outside: over HTTP, by clients of others, and as what it says of pairs of schemas.

mod clients;
mod codes;
mod crash;
mod hostile;
mod imports;
mod rest;
mod support;
mod vectors;
