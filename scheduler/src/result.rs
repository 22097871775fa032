//! Rows from executors, and failures.
//!
//! A result lies on executors until it is fetched, and is lost with them. Its first part is kept until it is whole or has the
//! size of the setting `cluster.result_buffer_bytes`: so long a lost executor only means that the statement begins again.

use arrow::array::RecordBatch;
use ballista_core::client::BallistaClient;
use ballista_core::serde::protobuf::PartitionLocation;
use datafusion::execution::SendableRecordBatchStream;
use futures::{StreamExt, TryStreamExt, stream};
use tereza_engine::cluster::failure_in;
use tereza_engine::query::BatchStream;
use tereza_runtime::{Error, ErrorKind, Result, settings};

use crate::attempt::{Ended, Rows};

/// Part of what Ballista says of a task that an executor did not take: it ended at that moment, or cannot read the plan.
pub(crate) const UNPREPARED: &str = "task could not be prepared";
/// Tries to reach an executor, and the pause between them: one that restarts is a new one, so a few are enough.
const CONNECTION_TRIES: u8 = 2;
const CONNECTION_PAUSE_MS: u64 = 100;

/// The rows of a result; an error says what was lost before the first was given out.
pub(crate) async fn fetch(rows: Rows, settings: &settings::Cluster) -> Result<BatchStream, String> {
    let Rows { partitions, submitted } = rows;
    let message_limit_bytes = settings.message_limit_bytes as usize;
    let partitions = stream::iter(partitions);
    let mut batches = partitions
        .then(move |partition| partition_rows(partition, message_limit_bytes))
        .map_ok(|rows| rows.map_err(|error| error.to_string()))
        .try_flatten()
        .boxed();

    let (mut kept, mut kept_bytes): (Vec<RecordBatch>, usize) = (Vec::new(), 0);
    while kept_bytes < settings.result_buffer_bytes {
        match batches.next().await.transpose()? {
            Some(batch) => {
                kept_bytes += batch.get_array_memory_size();
                kept.push(batch);
            }
            // What executors have of it may be removed now.
            None => return Ok(stream::iter(kept).map(Ok).boxed()),
        }
    }
    let rest = batches.map_err(|loss| {
        Error::unavailable(format!("a part of the result was lost: {loss}")).with_hint("run the statement again")
    });
    let rest = rest.inspect(move |_| {
        // Until the last row was fetched.
        let _ = &submitted;
    });
    Ok(stream::iter(kept).map(Ok).chain(rest).boxed())
}

async fn partition_rows(
    partition: PartitionLocation,
    message_limit_bytes: usize,
) -> Result<SendableRecordBatchStream, String> {
    let layout = partition.layout();
    let executor = partition.executor_meta.ok_or("a partition without its executor")?;
    let id = partition.partition_id.ok_or("a partition without its id")?.into();
    let port = u16::try_from(executor.port).map_err(|error| error.to_string())?;
    let connecting = BallistaClient::try_new(
        &executor.host,
        port,
        message_limit_bytes,
        false,
        None,
        CONNECTION_TRIES,
        CONNECTION_PAUSE_MS,
        0,
        0,
    );
    let mut client = connecting.await.map_err(|error| error.to_string())?;
    let fetching = client.fetch_partition(&executor.id, &id, partition.file_id, layout, true);
    fetching.await.map_err(|error| error.to_string())
}

/// What a failed job means: the statement's own error, or how the attempt ended if another may end well.
pub(crate) fn failure(message: &str) -> Result<Ended> {
    const LOSSES: [&str; 6] =
        ["no executors remain", "FetchFailed", "GrpcConnectionError", "IO error", "IpcError", UNPREPARED];
    match failure_in(message) {
        // The statement could be planned for one process, so what went wrong is between the planner and its stages.
        Some(error) if error.kind() == ErrorKind::Internal => Ok(Ended::Stuck(error.message().to_owned())),
        Some(error) => Err(error),
        None if LOSSES.iter().any(|loss| message.contains(loss)) => Ok(Ended::Lost(message.trim().to_owned())),
        None => Ok(Ended::Stuck(message.trim().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_statements_own_errors_end_it() {
        let lost = "all executors were lost and no executor re-registered; no executors remain";
        assert!(matches!(failure(lost), Ok(Ended::Lost(_))));
        let lost = "Job failed: FetchFailed(\"e\", 1, 0, \"connection refused\")";
        assert!(matches!(failure(lost), Ok(Ended::Lost(_))));
        let lost = "DataFusionError(ArrowError(IpcError(\"Arrow error: Ipc error: code: 'Unknown error'\"), None))";
        assert!(matches!(failure(lost), Ok(Ended::Lost(_))));
        assert!(matches!(failure("assertion failed"), Ok(Ended::Stuck(_))));
        let own = r#"x <tereza-error>{"kind":"InvalidInput","message":"IO error","hint":null} y"#;
        assert_eq!(failure(own).err().map(|error| error.kind()), Some(ErrorKind::InvalidInput));
    }
}
