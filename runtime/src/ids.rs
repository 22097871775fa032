//! The only maker of ids and random numbers.

use uuid::Uuid;

/// A new id: 32 hexadecimal digits that sort by the time they were made (UUID version 7, RFC 9562).
#[expect(clippy::disallowed_methods, reason = "the one place that makes ids")]
pub fn new_id() -> String {
    Uuid::now_v7().simple().to_string()
}

/// A new secret: 32 hexadecimal digits that cannot be guessed (UUID version 4).
#[expect(clippy::disallowed_methods, reason = "the one place that makes ids")]
pub fn new_secret() -> String {
    Uuid::new_v4().simple().to_string()
}

/// A random number below `bound` (0 when the bound is 0), for jitter in retries.
#[expect(clippy::disallowed_methods, reason = "the one place that makes random numbers")]
pub fn jitter(bound: u64) -> u64 {
    if bound == 0 { 0 } else { rand::random::<u64>() % bound }
}
