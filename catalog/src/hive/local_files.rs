//! Files on this machine.

use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use super::DataFiles;

/// Folders below one folder, at `file:` URLs, as a metastore on one machine has them. What is elsewhere is left alone: whoever may
/// make a table may say where its files are, and a folder that is dropped goes with all that is in it.
#[derive(Debug, Clone)]
pub struct LocalFiles {
    root: PathBuf,
}

impl LocalFiles {
    /// Those below `root`, which itself is never removed.
    pub fn below(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The path of a `file:` URL below the root. A metastore's are not encoded: a percent sign is one in the name of the file.
    fn path(&self, location: &str) -> Option<PathBuf> {
        let path = Path::new("/").join(location.strip_prefix("file:/")?.trim_start_matches('/'));
        let below = path.strip_prefix(&self.root).ok()?;
        // Nothing that climbs, and not the root by another name.
        let mut parts = below.components().peekable();
        parts.peek()?;
        parts.all(|part| matches!(part, Component::Normal(_))).then_some(path)
    }
}

impl DataFiles for LocalFiles {
    fn make(&self, location: &str) -> io::Result<()> {
        self.path(location).map_or(Ok(()), fs::create_dir_all)
    }

    fn remove(&self, location: &str) {
        let Some(path) = self.path(location) else { return };
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(location, %error, "the files of what was dropped stay");
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_made_and_removed() {
        let folder = tempfile::tempdir().unwrap();
        let files = LocalFiles::below(folder.path().join("top"));
        let location = |name: &str| format!("file://{}/top/{name}", folder.path().display());
        let exists = |name: &str| folder.path().join("top").join(name).exists();
        files.make(&location("a/ds=x%2Fy")).unwrap();
        files.make(&location("a/ds=x%2Fy")).unwrap();
        assert!(exists("a/ds=x%2Fy"));
        files.make(&location("d")).unwrap();
        files.remove(&location("a"));
        files.remove(&location("a"));
        assert!(!exists("a"));
        fs::create_dir(folder.path().join("beside")).unwrap();
        for outside in ["", ".", "./", "/", "..", "../beside", "d/..", "d/../d", "../top", "../tops"] {
            files.remove(&location(outside));
        }
        files.remove("file:/.");
        files.remove(&format!("file:{}", folder.path().display()));
        assert!(exists("d") && folder.path().join("beside").exists());
        files.make("s3://b/x").unwrap();
    }
}
