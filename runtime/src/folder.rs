//! The data folder and its lock: one process at a time has it.
//!
//! The lock is the operating system's (flock(2)) on `<data>/lock`, so it ends with the process, however that ends. What
//! the file holds (process id and command) is only for the message to the next one.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::endpoints;
use crate::{Error, Result};

const LOCK_NAME: &str = "lock";

/// A data folder that this process has until it drops this.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
    /// Holds the lock as long as it is open.
    _lock: File,
}

impl DataFolder {
    /// Makes the folder if it is missing and takes its lock; `Conflict` names the process that has it and what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        std::fs::create_dir_all(path)
            .map_err(|error| Error::io(format!("data folder '{}' cannot be made", path.display()), error))?;
        let path = path
            .canonicalize()
            .map_err(|error| Error::io(format!("data folder '{}' cannot be opened", path.display()), error))?;
        let lock_path = path.join(LOCK_NAME);
        let failed = |error| Error::io(format!("'{}' cannot be locked", lock_path.display()), error);
        // Not truncated on opening: until the lock is ours, the text is the other process's.
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&lock_path);
        let mut lock = opened.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(taken(&path, &mut lock)),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let write = |lock: &mut File| {
            lock.set_len(0)?;
            lock.seek(SeekFrom::Start(0))?;
            writeln!(lock, "{} {}", std::process::id(), command())
        };
        write(&mut lock).map_err(failed)?;
        Ok(Self { path, _lock: lock })
    }

    /// Its path, absolute and without links.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn taken(path: &Path, lock: &mut File) -> Error {
    let mut holder = String::new();
    // Best effort: the message is as good without the holder's name, and the holder may be just writing it.
    let _ = lock.read_to_string(&mut holder);
    let (pid, command) = holder.trim().split_once(' ').unwrap_or((holder.trim(), "tereza"));
    let who = if pid.is_empty() { "another process".to_owned() } else { format!("process {pid} ({command})") };
    let server = endpoints::read(path)
        .filter(|file| file.pid.to_string() == pid)
        .and_then(|mut file| file.endpoints.remove("flight_sql"));
    let hint = match server {
        Some(url) => format!("use its server with --url {url}, stop it, or choose another --data"),
        None => "wait until it ends, stop it, or choose another --data".to_owned(),
    };
    Error::conflict(format!("data folder '{}' is in use by {who}", path.display())).with_hint(hint)
}

/// The program and its subcommand; what follows may hold secrets.
fn command() -> String {
    let mut words = std::env::args();
    let program = words.next().unwrap_or_default();
    let program = Path::new(&program).file_name().map_or("tereza".into(), |name| name.to_string_lossy().into_owned());
    match words.next().filter(|word| !word.starts_with('-')) {
        Some(word) => format!("{program} {word}"),
        None => program,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn the_second_is_told_who_has_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/data");
        let first = DataFolder::open(&path).unwrap();
        let error = DataFolder::open(&path).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Conflict);
        assert!(error.message().contains(&format!("in use by process {} (", std::process::id())), "{error}");
        assert_eq!(error.hint(), Some("wait until it ends, stop it, or choose another --data"));
        assert!(first.path().is_absolute());
    }

    #[test]
    fn the_second_is_told_the_url_of_the_first_ones_server() {
        let dir = tempfile::tempdir().unwrap();
        let _first = DataFolder::open(dir.path()).unwrap();
        let write = |pid: u32| {
            let text = format!(r#"{{"pid":{pid},"endpoints":{{"flight_sql":"http://127.0.0.1:7"}}}}"#);
            std::fs::write(dir.path().join(endpoints::FILE_NAME), text).unwrap();
            DataFolder::open(dir.path()).unwrap_err().hint().unwrap().to_owned()
        };
        assert!(write(std::process::id()).starts_with("use its server with --url http://127.0.0.1:7,"));
        assert!(write(1).starts_with("wait until it ends"), "endpoints of a process that is gone are not named");
    }

    #[test]
    fn nothing_is_left_of_one_that_ended() {
        let dir = tempfile::tempdir().unwrap();
        drop(DataFolder::open(dir.path()).unwrap());
        std::fs::write(dir.path().join(LOCK_NAME), "99999999 something much longer than what is written now").unwrap();
        drop(DataFolder::open(dir.path()).unwrap());
        let text = std::fs::read_to_string(dir.path().join(LOCK_NAME)).unwrap();
        assert!(text.starts_with(&format!("{} ", std::process::id())) && !text.contains("longer"), "{text}");
    }

    #[test]
    fn a_file_in_the_way_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        std::fs::write(&path, "").unwrap();
        let error = DataFolder::open(&path).unwrap_err();
        assert!(error.message().contains("file' cannot be made"), "{error}");
    }
}
