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
use tereza_runtime::{Error, Result, settings};

use crate::attempt::Rows;

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

/// What a failed job means: `Ok` with what was lost, if the failure is the executors' and another attempt may end well; the
/// statement's own error else.
pub(crate) fn failure(message: &str) -> Result<String> {
    const LOSSES: [&str; 5] =
        ["no executors remain", "FetchFailed", "GrpcConnectionError", "IO error", "task could not be prepared"];
    match failure_in(message) {
        Some(error) => Err(error),
        None if LOSSES.iter().any(|loss| message.contains(loss)) => Ok(message.trim().to_owned()),
        None => Err(Error::internal(message.trim().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use tereza_runtime::ErrorKind;

    use super::*;

    #[test]
    fn a_loss_is_no_error_of_the_statement() {
        assert!(failure("all executors were lost and no executor re-registered; no executors remain").is_ok());
        assert!(failure("Job failed: FetchFailed(\"e\", 1, 0, \"connection refused\")").is_ok());
        assert_eq!(failure("something else").unwrap_err().kind(), ErrorKind::Internal);
        let own = r#"x <tereza-error>{"kind":"InvalidInput","message":"IO error","hint":null} y"#;
        assert_eq!(failure(own).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}
