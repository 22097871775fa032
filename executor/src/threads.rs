//! The threads that stages run on.
//!
//! Ballista runs a task and what it spawns on threads of its own, and cancels it by a message to its future. Where all of those
//! threads are in the middle of a join, nobody is there to read it. So only the waiting for a stage is left to Ballista's threads,
//! and the stage runs on these.

use std::future::Future;
use std::panic::resume_unwind;

use datafusion::common::{DataFusionError, Result};
use tereza_runtime::Error;
use tokio::runtime::{Builder, Runtime};
use tokio_util::task::AbortOnDropHandle;

/// Behind those that answer the scheduler and other executors, as Ballista has it.
const NICENESS: i32 = 10;

/// Threads for as many tasks as run at once.
#[derive(Debug)]
pub(crate) struct Threads(Option<Runtime>);

impl Threads {
    pub(crate) fn start(count: usize) -> tereza_runtime::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(count).thread_name("stage").enable_all().on_thread_start(|| {
            // Where it is not allowed, they are as good as others.
            let _ = rustix::process::setpriority_process(None, NICENESS);
        });
        let runtime = builder.build().map_err(|error| Error::io("threads for stages cannot be started", error))?;
        Ok(Self(Some(runtime)))
    }

    /// Runs a stage; it ends when this is dropped, at the next thing that it waits for.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        stage: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let Some(runtime) = &self.0 else { return stage.await };
        match AbortOnDropHandle::new(runtime.spawn(stage)).await {
            Ok(ended) => ended,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => resume_unwind(panic),
                Err(error) => Err(DataFusionError::External(Box::new(error))),
            },
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        // A runtime that waits for its threads may not be dropped in another.
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio_util::sync::CancellationToken;

    use super::*;

    #[test]
    fn a_stage_that_leaves_its_threads_no_time_is_given_up_all_the_same() {
        let waiting = Builder::new_current_thread().enable_all().build().unwrap();
        let threads = Threads::start(1).unwrap();
        let token = CancellationToken::new();
        let busy = token.clone();
        waiting.block_on(async {
            let stage = threads.run(async move {
                while !busy.is_cancelled() {
                    std::hint::spin_loop();
                }
                Ok(())
            });
            let end_with_this = token.drop_guard();
            assert!(tokio::time::timeout(Duration::from_millis(50), stage).await.is_err());
            drop(end_with_this);
            assert_eq!(threads.run(async { Ok(1) }).await.unwrap(), 1);
        });
    }
}
