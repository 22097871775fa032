//! How far a statement is at a server, asked while it runs.

use std::sync::{Arc, Weak};
use std::time::Duration;

use arrow_flight::Action;
use tereza_engine::cluster::StageProgress;
use tereza_engine::query::{Progress, ProgressReading};

use super::Client;

/// A statement that is over sooner is not asked for.
const DELAY: Duration = Duration::from_secs(1);
/// The pause between an answer and the next question.
const PERIOD: Duration = Duration::from_millis(500);

/// Asks until the statement is gone, or the server cannot tell: one that is no Tereza has no such action.
pub(super) async fn ask(mut client: Client, progress: Weak<Progress>) {
    let mut stages = None;
    tokio::time::sleep(DELAY).await;
    while let Some(reading) = answer(&mut client).await {
        let Some(progress) = progress.upgrade() else { return };
        // Nothing of one that is still planned.
        let reading = reading.unwrap_or_default();
        if let Some(counts) = reading.stages {
            let stages = stages.get_or_insert_with(|| {
                let stages = Arc::new(StageProgress::default());
                progress.follow(Arc::clone(&stages));
                stages
            });
            stages.set(counts);
        }
        progress.set_scanned(reading.scanned_rows, reading.scanned_bytes);
        drop(progress);
        tokio::time::sleep(PERIOD).await;
    }
}

/// The reading, or `Some(None)` if the server knows of no statement now; `None` if it cannot tell.
async fn answer(client: &mut Client) -> Option<Option<ProgressReading>> {
    let mut answers = client.do_action(Action::new("GetProgress", "")).await.ok()?;
    match answers.message().await.ok()? {
        Some(answer) => Some(Some(serde_json::from_slice(&answer.body).ok()?)),
        None => Some(None),
    }
}
