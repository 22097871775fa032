//! What the metastores are asked. A scenario begins with nothing but the database `default` and leaves nothing behind.

mod databases;

use super::asking::Asking;

/// In the order in which they are played.
pub(super) const SCENARIOS: [&str; 1] = ["databases"];

pub(super) async fn play(scenario: &str, asking: &mut Asking) {
    match scenario {
        "databases" => databases::play(asking).await,
        other => panic!("no scenario {other}"),
    }
}
