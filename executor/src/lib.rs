//! The process that runs stages for a scheduler: tasks of Ballista with the engine's object stores, functions and codec.
//!
//! It has no catalog and no sessions: a stage's plan says where its files are. What a stage makes for the next one lies in a
//! folder of this process until the job ends.

mod cancel;
mod compact;
mod connections;
mod engine;
mod leave;
mod passing;
mod threads;

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ballista_core::extension::SessionConfigExt;
use ballista_core::registry::BallistaFunctionRegistry;
use ballista_core::serde::BallistaPhysicalExtensionCodec;
use ballista_executor::executor_process::{ExecutorProcessConfig, start_executor_process};
use datafusion::prelude::SessionConfig;
use tereza_engine::Stages;
use tereza_engine::cluster::plan_codec;
use tereza_runtime::{Error, Result, Settings, ids};
use tokio_util::sync::CancellationToken;
use url::Url;

use self::leave::Leave;
use self::threads::Threads;

/// What jobs left that were not removed when they ended is looked for so often, in seconds, and removed after the second of
/// them.
const REMOVE_INTERVAL_S: u64 = 60;
const REMOVE_AFTER_S: u64 = 60 * 60;
/// The scheduler is waited for so long, in seconds.
const SCHEDULER_WAIT_S: u16 = 30;
/// A scheduler answers the goodbye of an executor when its drain is over; everything else it answers at once.
const ANSWER_SLACK: Duration = Duration::from_secs(10);
/// A scheduler whose connection is silent is asked so often whether it is there, and given up when it does not answer so long.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Runs stages until `stop` fires, or the scheduler tells it to end. `flight` is where it gives away what stages made, `tasks`
/// where it is given tasks. `registered` fires when the scheduler knows it.
pub async fn run(
    settings: &Settings,
    flight: SocketAddr,
    tasks: SocketAddr,
    stop: CancellationToken,
    registered: CancellationToken,
) -> Result<()> {
    let stages = Stages::open(settings)?;
    let cluster = &settings.cluster;
    let scheduler = Url::parse(&cluster.scheduler_url).ok().filter(|url| url.scheme() == "http");
    let scheduler = scheduler.as_ref().and_then(|url| url.host_str().zip(url.port_or_known_default()));
    let (scheduler_host, scheduler_port) = scheduler.ok_or_else(|| {
        Error::invalid_input(format!(
            "cluster.scheduler_url: expected http://host:port, not '{}'",
            cluster.scheduler_url
        ))
    })?;
    let shuffle = own_folder(&cluster.shuffle_dir, &settings.data.dir);
    empty_folder(&shuffle)?;

    let host = match cluster.executor_host.as_str() {
        "" => flight.ip().to_string(),
        host => host.to_owned(),
    };
    let cores = || std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let codec = plan_codec(Arc::new(BallistaPhysicalExtensionCodec::default()), Some(&stages));
    let runtime = Arc::clone(&stages);
    let vcores = if cluster.task_slots == 0 { cores() } else { cluster.task_slots };
    let threads = Threads::start(vcores)?;
    let answer_timeout = Duration::from_millis(settings.shutdown.drain_timeout_ms) + ANSWER_SLACK;
    let leave = Leave { stop, registered };
    let config = ExecutorProcessConfig {
        executor_id: ids::new_id(),
        bind_host: flight.ip().to_string(),
        external_host: Some(host),
        port: flight.port(),
        grpc_port: tasks.port(),
        scheduler_host: scheduler_host.to_owned(),
        scheduler_port,
        scheduler_connect_timeout_seconds: SCHEDULER_WAIT_S,
        vcores,
        work_dir: Some(utf8(&shuffle)?),
        job_data_ttl_seconds: REMOVE_AFTER_S,
        job_data_clean_up_interval_seconds: REMOVE_INTERVAL_S,
        grpc_max_decoding_message_size: cluster.message_limit_bytes,
        grpc_max_encoding_message_size: cluster.message_limit_bytes,
        executor_heartbeat_interval_seconds: cluster.heartbeat_ms.div_ceil(1_000).max(1),
        memory_pool_size: Some(stages.memory_limit_bytes() as u64),
        override_execution_engine: Some(Arc::new(engine::StageEngine::new(Arc::clone(&stages), threads))),
        override_function_registry: Some(Arc::new(BallistaFunctionRegistry::from(&stages.functions()))),
        override_runtime_producer: Some(Arc::new(move |_| Ok(runtime.runtime()))),
        override_config_producer: Some(Arc::new(|| Stages::with_own_settings(SessionConfig::new_with_ballista()))),
        override_physical_codec: Some(codec),
        override_arrow_flight_service: Some(leave.flight_service(cluster.message_limit_bytes)),
        override_create_grpc_client_endpoint: Some(Arc::new(move |endpoint| {
            let endpoint = endpoint.timeout(answer_timeout).http2_keep_alive_interval(KEEP_ALIVE);
            let endpoint = endpoint.keep_alive_timeout(KEEP_ALIVE);
            Ok(endpoint.user_agent(concat!("tereza/", env!("CARGO_PKG_VERSION")))?)
        })),
        ..ExecutorProcessConfig::default()
    };
    let ended = tokio::select! {
        ended = start_executor_process(Arc::new(config)) => ended,
        () = leave.before_registered() => Ok(()),
    };
    ended.map_err(|error| {
        Error::unavailable(format!("executor: {error}"))
            .with_hint(format!("is a scheduler running at {}?", cluster.scheduler_url))
    })
}

/// This executor's part of a folder that others may use too, such as one in memory. Its name follows from the data folder, which
/// one process at a time has: so what lies there is of this process or of a dead one.
fn own_folder(shuffle_dir: &Path, data_dir: &Path) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    data_dir.hash(&mut hasher);
    shuffle_dir.join(format!("tereza-{:016x}", hasher.finish()))
}

/// Makes the folder, without what a process left there that was killed.
fn empty_folder(folder: &Path) -> Result<()> {
    let emptied = match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => std::fs::create_dir_all(folder),
    };
    emptied.map_err(|error| Error::io(format!("'{}' cannot be emptied", folder.display()), error))
}

fn utf8(path: &Path) -> Result<String> {
    let text = path.to_str();
    text.map(str::to_owned).ok_or_else(|| Error::invalid_input(format!("'{}' is not UTF-8", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_have_in_the_folder_stays() {
        let folder = tempfile::tempdir().unwrap();
        let [ours, theirs] = ["a", "b"].map(|data| own_folder(folder.path(), Path::new(data)));
        std::fs::create_dir_all(&theirs).unwrap();
        std::fs::create_dir_all(ours.join("job")).unwrap();
        std::fs::write(folder.path().join("file"), "of somebody else").unwrap();
        empty_folder(&ours).unwrap();
        assert!(theirs.exists() && folder.path().join("file").exists());
        assert_eq!(ours.read_dir().unwrap().count(), 0);
    }
}
