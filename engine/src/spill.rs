//! A folder of this process's own for what does not fit in memory, and removing those of processes that are gone.
//!
//! Several processes may be given one folder (`engine.spill_dir`). Each makes its own below it and holds a lock (flock(2))
//! in there for as long as it lives, however it ends; who starts removes the folders whose lock nobody holds.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use tereza_runtime::Result;

use crate::error::from_io;

/// Begins the name of each process's folder: whatever else lies there is not ours to remove.
const PREFIX: &str = "tereza-";
/// In a process's folder: held while the process lives. In the folder above: held while folders are made and removed.
const LOCK_NAME: &str = "lock";

/// A folder that is removed with all that is in it when this is dropped.
#[derive(Debug)]
pub(crate) struct SpillFolder {
    path: PathBuf,
    /// Holds the lock as long as it is open.
    _lock: File,
}

impl SpillFolder {
    /// Makes the folder of process `id` below `parent`, which is made too, and removes those of dead processes.
    pub(crate) fn open(parent: &Path, id: &str) -> Result<Self> {
        let failed = |error: io::Error| from_io(&error).context(format!("spill folder {}", parent.display()));
        std::fs::create_dir_all(parent).map_err(failed)?;
        let turn = lock_file(parent).map_err(failed)?;
        // Until this is dropped no other process takes a folder that is just made for that of a dead one.
        turn.lock().map_err(failed)?;
        remove_dead(parent).map_err(failed)?;
        let path = parent.join(format!("{PREFIX}{id}"));
        std::fs::create_dir(&path).map_err(failed)?;
        let lock = lock_file(&path).map_err(failed)?;
        lock.lock().map_err(failed)?;
        Ok(Self { path, _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SpillFolder {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.path) {
            tracing::debug!(folder = %self.path.display(), %error, "spill folder left to the next start");
        }
    }
}

fn remove_dead(parent: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(parent)? {
        let entry = entry?;
        let is_ours = entry.file_name().to_string_lossy().starts_with(PREFIX) && entry.file_type()?.is_dir();
        if !is_ours {
            continue;
        }
        match remove_if_dead(&entry.path()) {
            // Its process ended just now and removed it itself.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            removed => removed?,
        }
    }
    Ok(())
}

fn remove_if_dead(folder: &Path) -> io::Result<()> {
    let lock = lock_file(folder)?;
    match lock.try_lock() {
        Ok(()) => std::fs::remove_dir_all(folder),
        Err(TryLockError::WouldBlock) => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

fn lock_file(folder: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(false).open(folder.join(LOCK_NAME))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_dead_are_cleaned_up_after() {
        let dir = tempfile::tempdir().unwrap();
        let parent = dir.path().join("spill");
        let first = SpillFolder::open(&parent, "1").unwrap();
        std::fs::write(first.path().join("run"), "rows").unwrap();
        for name in ["tereza-dead", "datafusion-of-somebody-else"] {
            std::fs::create_dir(parent.join(name)).unwrap();
            std::fs::write(parent.join(name).join("run"), "rows").unwrap();
        }
        let second = SpillFolder::open(&parent, "2").unwrap();
        assert!(first.path().join("run").exists(), "the first one lives");
        assert!(!parent.join("tereza-dead").exists());
        assert!(parent.join("datafusion-of-somebody-else/run").exists(), "not ours");

        let path = second.path().to_path_buf();
        drop(second);
        assert!(!path.exists());
    }
}
