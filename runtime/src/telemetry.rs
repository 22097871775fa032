//! Logs on standard error, for people or for machines, and the metrics that `/metrics` shows.
//!
//! Crates log with `tracing` and count with `metrics`; this is the only place that decides where that goes. Names of
//! metrics begin with `tereza_` and end in their unit; those about the process are named as Prometheus does.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use metrics::{Unit, describe_gauge, gauge};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;

use crate::settings::{self, LogFormat};
use crate::{Error, Result, clock, memory};

/// Upper bounds of the buckets of histograms of durations (names that end in `_seconds`).
const SECONDS: &[f64] = &[0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0];
/// Upper bounds of the buckets of all other histograms: bytes, rows.
const COUNTS: &[f64] = &[1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10];
/// How often observations that nobody fetched are put into their buckets, so that they do not pile up.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Sends the log to standard error; once per process.
pub fn init_logs(log: &settings::Log) -> Result<()> {
    let filter = parse_filter(&log.filter)
        .map_err(|error| Error::invalid_input(format!("log.filter = \"{}\": {error}", log.filter)))?;
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // A standard error that is closed must not end the process.
        .log_internal_errors(false);
    let installed = match log.format {
        LogFormat::Human => subscriber.try_init(),
        LogFormat::Json => subscriber.json().flatten_event(true).try_init(),
    };
    installed.map_err(|error| Error::internal(format!("the log is set up already: {error}")))
}

/// The levels of `log.filter`.
pub(crate) fn parse_filter(text: &str) -> Result<EnvFilter, ParseError> {
    EnvFilter::builder().parse(text)
}

/// What the process has counted. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
    started: Instant,
}

impl Metrics {
    /// Counts everything from now on; once per process.
    pub fn install() -> Result<Self> {
        let (recorder, metrics) = Self::new()?;
        metrics::set_global_recorder(recorder)
            .map_err(|error| Error::internal(format!("metrics are set up already: {error}")))?;
        describe_process();
        Ok(metrics)
    }

    /// Everything counted so far, in Prometheus' text format 0.0.4.
    pub fn render(&self) -> String {
        self.read_process();
        self.handle.render()
    }

    /// Keeps what is counted small, until `shutdown`.
    pub async fn upkeep(self, shutdown: CancellationToken) -> Result<()> {
        let mut interval = tokio::time::interval(UPKEEP_INTERVAL);
        while shutdown.run_until_cancelled(interval.tick()).await.is_some() {
            self.handle.run_upkeep();
        }
        Ok(())
    }

    fn new() -> Result<(PrometheusRecorder, Self)> {
        let recorder = PrometheusBuilder::new()
            .set_buckets(COUNTS)
            .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_seconds".into()), SECONDS))
            .map_err(|error| Error::internal("a histogram has no buckets").with_source(error))?
            .build_recorder();
        let handle = recorder.handle();
        Ok((recorder, Self { handle, started: clock::now() }))
    }

    fn read_process(&self) {
        gauge!("process_uptime_seconds").set(self.started.elapsed().as_secs_f64());
        let readings = [
            ("process_resident_memory_bytes", memory::resident_bytes()),
            ("process_peak_resident_memory_bytes", memory::peak_resident_bytes()),
            ("process_memory_limit_bytes", memory::limit().map(|limit| limit.bytes)),
            ("process_open_fds", open_fds()),
        ];
        for (name, value) in readings {
            if let Some(value) = value {
                gauge!(name).set(value as f64);
            }
        }
    }
}

fn describe_process() {
    describe_gauge!("tereza_build_info", "1, with the version that runs");
    gauge!("tereza_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    describe_gauge!("process_uptime_seconds", Unit::Seconds, "time since the start");
    describe_gauge!("process_resident_memory_bytes", Unit::Bytes, "memory that is resident");
    describe_gauge!("process_peak_resident_memory_bytes", Unit::Bytes, "the most memory that ever was resident");
    describe_gauge!("process_memory_limit_bytes", Unit::Bytes, "memory that the process may use");
    describe_gauge!("process_open_fds", Unit::Count, "open file descriptors");
}

/// Open file descriptors; `None` if the system does not tell.
fn open_fds() -> Option<u64> {
    // One of them is that of this listing.
    Some((std::fs::read_dir("/proc/self/fd").ok()?.count() as u64).saturating_sub(1))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Runs `work` with metrics of its own and returns what they then show.
    fn with_metrics(work: impl FnOnce()) -> String {
        let (recorder, metrics) = Metrics::new().unwrap();
        metrics::with_local_recorder(&recorder, || {
            describe_process();
            work();
            metrics.render()
        })
    }

    /// Metrics in which `tereza_test_total` is 1.
    pub(crate) fn metrics() -> Metrics {
        let (recorder, metrics) = Metrics::new().unwrap();
        metrics::with_local_recorder(&recorder, || metrics::counter!("tereza_test_total").increment(1));
        metrics
    }

    #[test]
    fn the_process_is_measured_when_it_is_asked() {
        let text = with_metrics(|| {});
        let value = |name: &str| -> f64 {
            let line = text.lines().find(|line| line.starts_with(&format!("{name} "))).expect(name);
            line.rsplit(' ').next().unwrap().parse().unwrap()
        };
        assert!(value("process_resident_memory_bytes") > 1e5);
        assert!(value("process_open_fds") >= 3.0);
        assert!(value("process_uptime_seconds") < 600.0);
        assert!(text.contains("# TYPE process_resident_memory_bytes gauge"), "{text}");
        assert!(text.contains(concat!("tereza_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1")), "{text}");
    }

    #[test]
    fn histograms_have_buckets_for_their_unit() {
        let text = with_metrics(|| {
            metrics::histogram!("tereza_test_seconds").record(0.02);
            metrics::histogram!("tereza_test_rows").record(50.0);
        });
        assert!(text.contains("tereza_test_seconds_bucket{le=\"0.03\"} 1"), "{text}");
        assert!(text.contains("tereza_test_rows_bucket{le=\"10\"} 0"), "{text}");
        assert!(text.contains("tereza_test_rows_bucket{le=\"100\"} 1"), "{text}");
    }

    #[tokio::test]
    async fn upkeep_ends_with_the_process() {
        let (_recorder, metrics) = Metrics::new().unwrap();
        let token = CancellationToken::new();
        token.cancel();
        metrics.upkeep(token).await.unwrap();
    }
}
