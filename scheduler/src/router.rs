//! Which lane a statement takes.
//!
//! A process of its own is faster wherever it can do the work: it has no stages to write to disk, and optimisations that
//! executors cannot have. Executors are for what is larger than one process.

use tereza_engine::cluster::{Candidate, Lane, Mode, Route};
use tereza_runtime::{Error, Result};

/// Files of so many times the memory of this process are for executors, whatever is set: what joins and aggregations hold of
/// them would not fit.
const SCAN_PER_MEMORY: u64 = 8;

/// Decides by what the session asks for, whether the statement can leave this process, what there is of executors, and what
/// the statement reads. `scan_bytes_min` is the setting `cluster.scan_bytes_min`.
pub(crate) fn route(candidate: &Candidate, executors: usize, scan_bytes_min: u64) -> Result<Route> {
    let local = |reason: String| Ok(Route { lane: Lane::Local, reason });
    let cluster = |reason: String| Ok(Route { lane: Lane::Cluster, reason });
    match (candidate.mode, &candidate.obstacle) {
        (Mode::Local, _) => local("tereza.mode is local".into()),
        (_, Some(obstacle)) => local(obstacle.clone()),
        (Mode::Cluster, None) if executors == 0 => Err(Error::unavailable("no executor is registered")
            .with_hint("start some with `tereza executor`, or SET tereza.mode = 'auto'")),
        (Mode::Cluster, None) => cluster("tereza.mode is cluster".into()),
        (Mode::Auto, None) if executors == 0 => local("no executor is registered".into()),
        (Mode::Auto, None) => {
            let of_memory = (candidate.memory_limit_bytes as u64).saturating_mul(SCAN_PER_MEMORY);
            let bytes = candidate.scan_bytes;
            if bytes >= scan_bytes_min {
                cluster(format!("it reads {bytes} bytes of files, cluster.scan_bytes_min is {scan_bytes_min}"))
            } else if bytes >= of_memory {
                cluster(format!(
                    "it reads {bytes} bytes of files, {SCAN_PER_MEMORY} times the memory of this process or more"
                ))
            } else {
                local(format!("it reads {bytes} bytes of files, few enough for one process"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tereza_runtime::ErrorKind;

    use super::*;

    const MIB: u64 = 1 << 20;

    fn routed(mode: Mode, obstacle: Option<&str>, scan_bytes: u64, executors: usize) -> Result<Lane> {
        let obstacle = obstacle.map(Into::into);
        let candidate = Candidate { mode, obstacle, scan_bytes, memory_limit_bytes: 64 << 20 };
        route(&candidate, executors, 1024 * MIB).map(|route| route.lane)
    }

    #[test]
    fn size_decides_where_the_session_does_not() {
        assert_eq!(routed(Mode::Auto, None, MIB, 2).unwrap(), Lane::Local);
        assert_eq!(routed(Mode::Auto, None, 1024 * MIB, 2).unwrap(), Lane::Cluster);
        // Eight times the memory.
        assert_eq!(routed(Mode::Auto, None, 511 * MIB, 2).unwrap(), Lane::Local);
        assert_eq!(routed(Mode::Auto, None, 512 * MIB, 2).unwrap(), Lane::Cluster);
        assert_eq!(routed(Mode::Auto, None, 1024 * MIB, 0).unwrap(), Lane::Local);
    }

    #[test]
    fn the_session_decides_for_what_can_leave_the_process() {
        assert_eq!(routed(Mode::Cluster, None, 0, 1).unwrap(), Lane::Cluster);
        assert_eq!(routed(Mode::Cluster, Some("it writes"), 0, 1).unwrap(), Lane::Local);
        assert_eq!(routed(Mode::Local, None, 1024 * MIB, 1).unwrap(), Lane::Local);
        assert_eq!(routed(Mode::Cluster, None, 0, 0).unwrap_err().kind(), ErrorKind::Unavailable);
    }
}
