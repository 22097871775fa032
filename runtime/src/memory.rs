//! How much memory the process may use, and how much it does use.
//!
//! The limit is the smallest of those of its control group and the groups above (version 2: `memory.max`, version 1:
//! `memory.limit_in_bytes`) and of the machine's memory. Sources: Linux `Documentation/admin-guide/cgroup-v2.rst`,
//! `cgroup-v1/memory.rst`, proc_pid_status(5), proc_meminfo(5).

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use crate::settings;
use crate::{Error, Result};

/// Version 1 says "no limit" as the largest multiple of a page in 63 bits; nothing real is near it.
const NO_LIMIT_BYTES: u64 = 1 << 62;

static GIVE_BACK: OnceLock<fn()> = OnceLock::new();
static WORK_BEGINS: OnceLock<fn()> = OnceLock::new();

/// The memory that the process may use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limit {
    /// Bytes.
    pub bytes: u64,
    /// The file that says so.
    pub source: PathBuf,
}

/// The memory that statements may use together: what is set, or the set fraction of what the process may use.
pub fn budget_bytes(settings: &settings::Engine) -> Result<u64> {
    budget_bytes_below(Path::new("/"), settings)
}

/// What the process may use; `None` if the system does not tell.
pub fn limit() -> Option<Limit> {
    limit_below(Path::new("/"))
}

/// Memory of this process that is resident, in bytes; `None` if the system does not tell.
pub fn resident_bytes() -> Option<u64> {
    kilobytes(Path::new("/proc/self/status"), "VmRSS:")
}

/// Memory of this process that is resident and no file's, in bytes: what a limit cannot take back; `None` if the system does
/// not tell.
pub fn anonymous_bytes() -> Option<u64> {
    kilobytes(Path::new("/proc/self/status"), "RssAnon:")
}

/// The most memory of this process that was ever resident, in bytes; `None` if the system does not tell.
pub fn peak_resident_bytes() -> Option<u64> {
    kilobytes(Path::new("/proc/self/status"), "VmHWM:")
}

/// How the process gives freed memory back to the system, set once by whoever chose the allocator.
pub fn set_give_back(give_back: fn()) {
    // A second one would be of the same allocator.
    let _ = GIVE_BACK.set(give_back);
}

/// Gives memory that was freed and kept for reuse back to the system.
pub fn give_back() {
    if let Some(give_back) = GIVE_BACK.get() {
        give_back();
    }
}

/// What the allocator does before the process works for the first time, set once by whoever chose it.
pub fn set_work_begins(work_begins: fn()) {
    // A second one would be of the same allocator.
    let _ = WORK_BEGINS.set(work_begins);
}

/// Says that the process begins to work on something large, as statements are; may be said again and again.
pub fn work_begins() {
    if let Some(work_begins) = WORK_BEGINS.get() {
        work_begins();
    }
}

/// The time that all threads of this process ran, together.
pub fn processor_time() -> Duration {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    Duration::try_from(used).unwrap_or_default()
}

fn budget_bytes_below(root: &Path, settings: &settings::Engine) -> Result<u64> {
    if settings.memory_limit_bytes > 0 {
        return Ok(settings.memory_limit_bytes);
    }
    let limit = limit_below(root).ok_or_else(|| {
        Error::unsupported("the system does not tell how much memory the process may use")
            .with_hint("set engine.memory_limit_bytes")
    })?;
    Ok((limit.bytes as f64 * settings.memory_fraction) as u64)
}

fn limit_below(root: &Path) -> Option<Limit> {
    let machine = root.join("proc/meminfo");
    let physical = kilobytes(&machine, "MemTotal:").map(|bytes| Limit { bytes, source: machine });
    let groups = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    groups.lines().flat_map(|line| group_limits(root, line)).chain(physical).min_by_key(|limit| limit.bytes)
}

/// The limits of one line of `/proc/self/cgroup` (`id:controllers:path`): those of the group and of each one above it.
///
/// In a container the path may be that of the host, whose folders are not there; the walk up ends at the mount's root,
/// which then is the container's own group.
fn group_limits(root: &Path, line: &str) -> Vec<Limit> {
    let mut parts = line.splitn(3, ':');
    let (Some(_id), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
        return Vec::new();
    };
    let (mount, file) = if controllers.is_empty() {
        ("sys/fs/cgroup", "memory.max")
    } else if controllers.split(',').any(|name| name == "memory") {
        ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
    } else {
        return Vec::new();
    };
    let path = Path::new(path.trim_start_matches('/'));
    let sources = path.ancestors().map(|group| root.join(mount).join(group).join(file));
    let limits = sources.filter_map(|source| {
        let bytes = std::fs::read_to_string(&source).ok()?.trim().parse().ok()?;
        (bytes < NO_LIMIT_BYTES).then_some(Limit { bytes, source })
    });
    limits.collect()
}

/// The value of a line such as `VmRSS:     1234 kB`, in bytes.
fn kilobytes(file: &Path, name: &str) -> Option<u64> {
    let text = std::fs::read_to_string(file).ok()?;
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A machine of 8 GiB with these files besides.
    fn machine(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in [("proc/meminfo", "MemTotal:        8388608 kB\nMemFree: 1 kB\n")].iter().chain(files) {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    fn limit_of(files: &[(&str, &str)]) -> (u64, String) {
        let root = machine(files);
        let limit = limit_below(root.path()).unwrap();
        (limit.bytes, limit.source.strip_prefix(root.path()).unwrap().display().to_string())
    }

    #[test]
    fn the_smallest_limit_on_the_way_up_counts() {
        let files = [
            ("proc/self/cgroup", "0::/a/b\n"),
            ("sys/fs/cgroup/a/memory.max", "1000\n"),
            ("sys/fs/cgroup/a/b/memory.max", "max\n"),
        ];
        assert_eq!(limit_of(&files), (1000, "sys/fs/cgroup/a/memory.max".into()));
        let files = [files[0], files[1], ("sys/fs/cgroup/a/b/memory.max", "500\n")];
        assert_eq!(limit_of(&files), (500, "sys/fs/cgroup/a/b/memory.max".into()));
    }

    #[test]
    fn a_container_sees_its_own_group_at_the_root() {
        let files = [("proc/self/cgroup", "0::/host/path\n"), ("sys/fs/cgroup/memory.max", "2147483648\n")];
        assert_eq!(limit_of(&files), (2 << 30, "sys/fs/cgroup/memory.max".into()));
    }

    #[test]
    fn version_1_is_read_where_its_memory_controller_is() {
        let files = [
            ("proc/self/cgroup", "5:cpu,cpuacct:/x\n4:hugetlb,memory:/x\n0::/\n"),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n"),
            ("sys/fs/cgroup/memory/x/memory.limit_in_bytes", "700\n"),
            ("sys/fs/cgroup/cpu/x/memory.limit_in_bytes", "1\n"),
        ];
        assert_eq!(limit_of(&files), (700, "sys/fs/cgroup/memory/x/memory.limit_in_bytes".into()));
    }

    #[test]
    fn without_a_limit_it_is_the_memory_of_the_machine() {
        let files = [("proc/self/cgroup", "0::/\n"), ("sys/fs/cgroup/memory.max", "max\n")];
        assert_eq!(limit_of(&files), (8 << 30, "proc/meminfo".into()));
        assert_eq!(limit_of(&[]), (8 << 30, "proc/meminfo".into()));
    }

    #[test]
    fn the_budget_is_what_is_set_or_a_fraction() {
        let root = machine(&[]);
        let mut engine = settings::Engine { memory_fraction: 0.5, ..Default::default() };
        assert_eq!(budget_bytes_below(root.path(), &engine).unwrap(), 4 << 30);
        engine.memory_limit_bytes = 123;
        assert_eq!(budget_bytes_below(root.path(), &engine).unwrap(), 123);
        engine.memory_limit_bytes = 0;
        let empty = tempfile::tempdir().unwrap();
        let error = budget_bytes_below(empty.path(), &engine).unwrap_err();
        assert!(error.to_string().contains("engine.memory_limit_bytes"), "{error}");
    }

    #[test]
    fn this_process_uses_memory() {
        let (resident, peak) = (resident_bytes().unwrap(), peak_resident_bytes().unwrap());
        assert!(resident > 100 << 10 && peak > 100 << 10, "{resident} {peak}");
        let anonymous = anonymous_bytes().unwrap();
        assert!((1..=resident).contains(&anonymous), "{anonymous}");
    }
}
