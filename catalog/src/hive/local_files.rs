//! Files on this machine.

use std::path::{Path, PathBuf};
use std::{fs, io};

use super::DataFiles;

/// Folders at `file:` URLs, as a metastore on one machine has them. What is elsewhere is left alone.
///
/// As with any metastore, whoever may make a table may say where its files are, and with that have folders made and removed
/// that this process may make and remove.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalFiles;

impl DataFiles for LocalFiles {
    fn make(&self, location: &str) -> io::Result<()> {
        path(location).map_or(Ok(()), fs::create_dir_all)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<bool> {
        let (Some(from), Some(to)) = (path(from), path(to)) else { return Ok(false) };
        if !from.try_exists()? {
            return Ok(true);
        }
        // A system would put the folder in place of an empty one.
        if to.try_exists()? {
            let message = format!("{} is there already", to.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::rename(from, to).map(|()| true)
    }

    fn remove(&self, location: &str) {
        let Some(path) = path(location) else { return };
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(location, %error, "the files of what was dropped stay");
            }
            _ => {}
        }
    }
}

/// The path of a `file:` URL. A metastore's are not encoded: a percent sign is one in the name of the file.
fn path(location: &str) -> Option<PathBuf> {
    let path = location.strip_prefix("file:/")?.trim_start_matches('/');
    let is_whole = !path.split('/').any(|part| part == "..");
    // Nothing above the warehouse is made or removed by a location that climbs, and never the root of all.
    (is_whole && !path.is_empty()).then(|| Path::new("/").join(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_moved_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let location = |name: &str| format!("file://{}/{name}", folder.path().display());
        let exists = |name: &str| folder.path().join(name).exists();
        LocalFiles.make(&location("a/ds=x%2Fy")).unwrap();
        LocalFiles.make(&location("a/ds=x%2Fy")).unwrap();
        assert!(exists("a/ds=x%2Fy"));
        assert!(LocalFiles.rename(&location("a"), &location("b/c")).unwrap());
        assert!(!exists("a") && exists("b/c/ds=x%2Fy"));
        assert!(LocalFiles.rename(&location("a"), &location("d")).unwrap(), "nothing to move");
        LocalFiles.make(&location("d")).unwrap();
        assert!(LocalFiles.rename(&location("b"), &location("d")).is_err());
        LocalFiles.remove(&location("b"));
        LocalFiles.remove(&location("b"));
        assert!(!exists("b"));
        LocalFiles.remove(&location("d/../d"));
        assert!(exists("d"));
        assert!(!LocalFiles.rename("s3://b/x", "s3://b/y").unwrap());
        LocalFiles.make("s3://b/x").unwrap();
    }
}
