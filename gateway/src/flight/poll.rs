//! Statements that run before their client fetches them, for `PollFlightInfo`.

use futures::StreamExt;
use tereza_runtime::{Error, ErrorKind};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::encode::Rows;

/// How far a statement is that was started ahead of its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    /// It ended well, or as many rows as may wait do wait.
    Ready,
    Failed(ErrorKind, String),
}

/// Starts to read rows, at most `buffer_batches` ahead of who reads the rows returned. Dropping those, or cancelling,
/// ends it.
pub(crate) fn start(
    mut rows: Rows,
    buffer_batches: usize,
    cancellation: CancellationToken,
    tasks: &TaskTracker,
) -> (Rows, watch::Receiver<Phase>) {
    let (batches, buffered) = mpsc::channel(buffer_batches.max(1));
    let (phase, phases) = watch::channel(Phase::Running);
    let schema = rows.schema.clone();
    tasks.spawn(async move {
        let read = async {
            while let Some(batch) = rows.stream.next().await {
                if let Err(error) = &batch {
                    phase.send_replace(Phase::Failed(error.kind(), error.to_string()));
                }
                let failed = batch.is_err();
                if batches.send(batch).await.is_err() || failed {
                    return;
                }
                if batches.capacity() == 0 {
                    phase.send_replace(Phase::Ready);
                }
            }
            phase.send_replace(Phase::Ready);
        };
        tokio::select! {
            biased;
            () = cancellation.cancelled() => {
                let error = Error::cancelled("the statement was cancelled");
                phase.send_replace(Phase::Failed(error.kind(), error.to_string()));
                // Without a place in the buffer its reader learns of it by the same token.
                let _ = batches.try_send(Err(error));
            }
            () = batches.closed() => {}
            () = read => {}
        }
    });
    (Rows { schema, stream: ReceiverStream::new(buffered).boxed() }, phases)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int32Array, RecordBatch};
    use futures::stream;

    use super::*;

    fn batch() -> RecordBatch {
        RecordBatch::try_from_iter([("n", Arc::new(Int32Array::from(vec![1])) as ArrayRef)]).unwrap()
    }

    #[tokio::test]
    async fn it_is_ready_when_the_buffer_is_full_and_reads_on_when_there_is_room() {
        let rows = Rows { schema: batch().schema(), stream: stream::repeat_with(|| Ok(batch())).take(5).boxed() };
        let (rows, mut phase) = start(rows, 2, CancellationToken::new(), &TaskTracker::new());
        phase.wait_for(|phase| *phase == Phase::Ready).await.unwrap();
        assert_eq!(rows.stream.count().await, 5);
    }

    #[tokio::test]
    async fn an_error_is_seen_by_who_polls_and_by_who_reads() {
        let failing = stream::iter([Ok(batch()), Err(Error::denied("no"))]);
        let rows = Rows { schema: batch().schema(), stream: failing.boxed() };
        let (rows, mut phase) = start(rows, 4, CancellationToken::new(), &TaskTracker::new());
        phase.wait_for(|phase| *phase == Phase::Failed(ErrorKind::Denied, "no".into())).await.unwrap();
        let read: Vec<_> = rows.stream.collect().await;
        assert!(read[0].is_ok() && read[1].is_err());
    }

    #[tokio::test]
    async fn dropping_the_rows_ends_it() {
        let tasks = TaskTracker::new();
        let rows = Rows { schema: batch().schema(), stream: stream::pending().boxed() };
        let (rows, _phase) = start(rows, 1, CancellationToken::new(), &tasks);
        drop(rows);
        tasks.close();
        tasks.wait().await;
    }
}
