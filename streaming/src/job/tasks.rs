//! The tasks of a job at once: they end together.

use std::time::Duration;

use futures::future::BoxFuture;
use tereza_runtime::{Error, ErrorKind, Result};
use tokio::task::{JoinError, JoinSet};

use crate::log::Ended;
use crate::task::{Control, Exit};

/// How long tasks may take to end their epochs when another one has failed.
pub(super) const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Runs tasks until all have ended. When one cannot go on, the others are told to stop and waited for as long as `patience`, and the
/// answer is what is most to be told: an error that does not pass by itself, else the first one.
pub(super) async fn run(
    tasks: Vec<BoxFuture<'static, Result<Exit, Ended>>>,
    control: &Control,
    patience: Duration,
) -> Result<Exit, Ended> {
    let mut running: JoinSet<Result<Exit, Ended>> = tasks.into_iter().collect();
    let mut exit = Exit::Finished;
    let failed = loop {
        match running.join_next().await.map(result) {
            None => return Ok(exit),
            Some(Ok(Exit::Finished)) => {}
            Some(Ok(Exit::Stopped)) => exit = Exit::Stopped,
            Some(Err(ended)) => break ended,
        }
    };
    control.stop();
    let mut worst = failed;
    let others = async {
        while let Some(ended) = running.join_next().await.map(result) {
            if let Err(ended) = ended
                && passes(&worst)
                && !passes(&ended)
            {
                worst = ended;
            }
        }
    };
    // What those that are left have not committed is read again.
    let _ = tokio::time::timeout(patience, others).await;
    Err(worst)
}

fn result(joined: Result<Result<Exit, Ended>, JoinError>) -> Result<Exit, Ended> {
    joined.unwrap_or_else(|_| Err(Error::internal("a task of the job panicked").into()))
}

/// Whether another attempt may do better.
pub(super) fn passes(ended: &Ended) -> bool {
    match ended {
        Ended::Failed(error) => matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Conflict),
        Ended::Fenced | Ended::Unknown(_) => true,
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    fn ends(after_ms: u64, ended: Result<Exit, Ended>) -> BoxFuture<'static, Result<Exit, Ended>> {
        async move {
            tokio::time::sleep(Duration::from_millis(after_ms)).await;
            ended
        }
        .boxed()
    }

    fn unavailable() -> Ended {
        Error::unavailable("a broker is away").into()
    }

    #[tokio::test]
    async fn a_job_is_finished_when_all_its_tasks_are() {
        let all = |last| vec![ends(5, Ok(Exit::Finished)), ends(1, Ok(last)), ends(9, Ok(Exit::Finished))];
        for exit in [Exit::Finished, Exit::Stopped] {
            assert_eq!(run(all(exit), &Control::default(), STOP_TIMEOUT).await.unwrap(), exit);
        }
    }

    #[tokio::test]
    async fn the_cause_that_does_not_pass_is_told() {
        let tasks = vec![
            ends(1, Err(unavailable())),
            ends(2, Err(Ended::Fenced)),
            ends(3, Err(Error::invalid_input("a row is wrong").into())),
            ends(200, Err(Error::internal("later").into())),
        ];
        let ended = run(tasks, &Control::default(), STOP_TIMEOUT).await.unwrap_err();
        assert!(ended.to_string().contains("a row is wrong"), "{ended}");
    }

    #[tokio::test]
    async fn nobody_waits_for_ever_for_a_task_that_hangs() {
        let tasks = vec![ends(1, Err(unavailable())), ends(3_600_000, Ok(Exit::Finished))];
        let ended = run(tasks, &Control::default(), Duration::from_millis(50)).await.unwrap_err();
        assert!(ended.to_string().contains("a broker is away"), "{ended}");
    }

    #[tokio::test]
    async fn a_task_that_panics_ends_the_job() {
        let panics = async { panic!("on purpose") }.boxed();
        let tasks = vec![panics, ends(1, Ok(Exit::Stopped))];
        let ended = run(tasks, &Control::default(), STOP_TIMEOUT).await.unwrap_err();
        assert!(!passes(&ended), "{ended}");
    }
}
