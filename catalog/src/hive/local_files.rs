//! Files on this machine.

use std::path::{Component, Path, PathBuf};
use std::{fs, io};

use super::DataFiles;

/// Files and folders that one call removes.
const REMOVED_AT_ONCE: usize = 1_000;

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

    fn remove(&self, location: &str) -> io::Result<bool> {
        let Some(path) = self.path(location) else {
            tracing::info!(location, "the files of what was dropped are left: they are not below the root");
            return Ok(true);
        };
        let real = match path.canonicalize() {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            real => real?,
        };
        // A link on the way leads to files that the catalog does not say are those of what was dropped.
        let below = path.strip_prefix(&self.root).unwrap_or(&path);
        if real != self.root.canonicalize()?.join(below) {
            tracing::warn!(location, "the files of what was dropped are left: there is a link on the way to them");
            return Ok(true);
        }
        remove_some(real)
    }
}

/// Removes at most [`REMOVED_AT_ONCE`] files and folders, the inner ones first, and returns whether nothing is left. What
/// links lead to stays.
fn remove_some(folder: PathBuf) -> io::Result<bool> {
    let gone = |removed: io::Result<()>| match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    };
    if !folder.symlink_metadata()?.is_dir() {
        return gone(fs::remove_file(folder)).map(|()| true);
    }
    let mut removed = 0;
    let mut folders = vec![folder];
    while let Some(folder) = folders.last() {
        let mut inner = None;
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if removed >= REMOVED_AT_ONCE {
                return Ok(false);
            }
            if entry.file_type()?.is_dir() {
                inner = Some(entry.path());
                break;
            }
            gone(fs::remove_file(entry.path()))?;
            removed += 1;
        }
        match inner {
            Some(inner) => folders.push(inner),
            None => {
                gone(fs::remove_dir(folder))?;
                removed += 1;
                folders.pop();
            }
        }
    }
    Ok(true)
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
        let removed = |location: &str| files.remove(location).unwrap();
        assert!(removed(&location("a")));
        assert!(removed(&location("a")));
        assert!(!exists("a"));
        fs::create_dir(folder.path().join("beside")).unwrap();
        for outside in ["", ".", "./", "/", "..", "../beside", "d/..", "d/../d", "../top", "../tops"] {
            assert!(removed(&location(outside)));
        }
        removed("file:/.");
        removed(&format!("file:{}", folder.path().display()));
        assert!(exists("d") && folder.path().join("beside").exists());
        files.make("s3://b/x").unwrap();
    }
    #[test]
    fn a_large_folder_is_removed_in_parts() {
        let folder = tempfile::tempdir().unwrap();
        let files = LocalFiles::below(folder.path());
        let home = folder.path().join("t");
        for inner in ["a", "b/c"] {
            fs::create_dir_all(home.join(inner)).unwrap();
            for n in 0..REMOVED_AT_ONCE {
                fs::write(home.join(inner).join(n.to_string()), "").unwrap();
            }
        }
        let location = format!("file:{}", home.display());
        let mut parts = 1;
        while !files.remove(&location).unwrap() {
            parts += 1;
        }
        assert!(!home.exists());
        assert_eq!(parts, 2);
    }

    #[cfg(unix)]
    #[test]
    fn what_links_lead_to_stays() {
        let folder = tempfile::tempdir().unwrap();
        let files = LocalFiles::below(folder.path().join("top"));
        let (home, other) = (folder.path().join("top/t"), folder.path().join("other"));
        fs::create_dir_all(&home).unwrap();
        fs::create_dir_all(other.join("inner")).unwrap();
        fs::write(other.join("inner/file"), "").unwrap();
        std::os::unix::fs::symlink(&other, home.join("link")).unwrap();
        let location = |name: &str| format!("file:{}/top/{name}", folder.path().display());
        assert!(files.remove(&location("t/link")).unwrap());
        assert!(files.remove(&location("t/link/inner")).unwrap());
        assert!(files.remove(&location("t")).unwrap());
        assert!(!home.exists() && other.join("inner/file").exists());
    }
}
