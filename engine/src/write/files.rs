//! Durable operations on local files, and the errors of files and object stores in Tereza's words.
//!
//! A file that was synced can still be lost with the folder entry that names it, so every change of a folder is synced
//! before something is recorded that relies on it.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use object_store::ObjectStoreExt;
use tereza_runtime::{Error, Result};

use crate::error::{from_io, from_object_store};
use crate::stores::Place;

/// The path of a file on this machine.
pub(super) fn local_path(place: &Place) -> Result<PathBuf> {
    place
        .local_path()
        .ok_or_else(|| Error::unsupported(format!("writing to {}", place.url())).with_hint("write to file:// or s3://"))
}

/// Whether a file or object of this size is there.
pub(super) async fn is_there(place: &Place, bytes: u64) -> Result<bool> {
    match place.store.head(&place.path).await {
        Ok(found) => Ok(found.size == bytes),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(error) => Err(store_error(error, &place.url())),
    }
}

/// Makes a folder and those above it so that they survive a loss of power.
pub(super) fn create_dir(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        create_dir(parent)?;
    }
    match fs::create_dir(path) {
        // Somebody else made it just now, and may not have synced it yet.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => {}
        result => result?,
    }
    sync_parent(path)
}

/// Makes the entry of `path` in its folder durable.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// Moves files, each pair from its first path to its second, and returns the places in `moves` of those that are at
/// neither. Harmless when repeated, also by several processes at once; `after_each` is called after every file.
pub(super) fn move_all(moves: &[(PathBuf, PathBuf)], after_each: impl Fn()) -> io::Result<Vec<usize>> {
    let mut missing = Vec::new();
    let mut folders = BTreeSet::new();
    for (at, (from, to)) in moves.iter().enumerate() {
        if let Some(parent) = to.parent() {
            create_dir(parent)?;
            folders.insert(parent);
        }
        match fs::rename(from, to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                if !to.try_exists()? {
                    missing.push(at);
                }
            }
            result => result?,
        }
        after_each();
    }
    folders.into_iter().try_for_each(sync_dir)?;
    Ok(missing)
}

/// Removes files; one that is gone already is fine.
pub(super) fn remove_all(paths: &[PathBuf]) -> io::Result<()> {
    let mut folders = BTreeSet::new();
    for path in paths {
        match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
        folders.extend(path.parent());
    }
    // A file that came back after a loss of power would bring its rows back with it.
    folders.into_iter().filter(|folder| folder.is_dir()).try_for_each(sync_dir)
}

/// Removes the folder in which a write staged its files, if it is empty.
pub(super) fn remove_staging_folders(staged: impl IntoIterator<Item = PathBuf>) {
    let folders: BTreeSet<PathBuf> =
        staged.into_iter().filter_map(|file| file.parent().map(Path::to_path_buf)).collect();
    for folder in folders {
        // Gone, or still in use: an empty hidden folder harms nobody.
        if let Err(error) = fs::remove_dir(&folder)
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::debug!(folder = %folder.display(), %error, "staging folder kept");
        }
    }
}

/// Runs file operations off the threads that run queries.
pub(super) async fn blocking<T: Send + 'static>(operation: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let joined = tokio::task::spawn_blocking(operation).await;
    joined.map_err(|error| Error::internal("a file operation did not end").with_source(error))?
}

/// The error of a file operation at `path`; a full disk, quota or size limit is `ResourceExhausted`.
pub(super) fn io_error(error: io::Error, path: &Path) -> Error {
    use io::ErrorKind::{
        FileTooLarge, NotADirectory, PermissionDenied, QuotaExceeded, ReadOnlyFilesystem, StorageFull,
    };

    let folder = path.parent().unwrap_or(path).display();
    match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => {
            Error::resource_exhausted(format!("no space left to write in {folder}: {error}"))
                .with_hint("free space there, or give the table another location")
                .with_source(error)
        }
        PermissionDenied | ReadOnlyFilesystem => {
            Error::denied(format!("{} cannot be written: {error}", path.display())).with_source(error)
        }
        NotADirectory => Error::invalid_input(format!("{folder} is not a folder: {error}")).with_source(error),
        _ => from_io(&error).context(path.display()).with_source(error),
    }
}

/// The error of an object store at `url`.
pub(super) fn store_error(error: object_store::Error, url: &str) -> Error {
    from_object_store(&error).context(url)
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use tereza_runtime::ErrorKind;

    use super::*;

    #[test]
    fn moving_may_be_repeated_and_tells_what_is_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        create_dir(&path("t/_tereza/w")).unwrap();
        fs::write(path("t/_tereza/w/a"), "a").unwrap();
        fs::write(path("t/_tereza/w/b"), "b").unwrap();
        let moves = ["a", "b"].map(|name| (path("t/_tereza/w").join(name), path("t/k=é f%2F").join(name)));
        let calls = Cell::new(0);
        assert!(move_all(&moves[..1], || calls.set(calls.get() + 1)).unwrap().is_empty());
        assert!(move_all(&moves, || calls.set(calls.get() + 1)).unwrap().is_empty());
        assert!(move_all(&moves, || ()).unwrap().is_empty());
        assert_eq!(calls.get(), 3);
        assert_eq!(fs::read(path("t/k=é f%2F/b")).unwrap(), b"b");

        remove_staging_folders(moves.iter().map(|(from, _)| from.clone()));
        assert!(!path("t/_tereza/w").exists());
        fs::remove_file(&moves[1].1).unwrap();
        assert_eq!(move_all(&moves, || ()).unwrap(), [1]);
    }

    #[test]
    fn removing_may_be_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let paths = [dir.path().join("a"), dir.path().join("gone/b")];
        fs::write(&paths[0], "a").unwrap();
        remove_all(&paths).unwrap();
        remove_all(&paths).unwrap();
        assert!(!paths[0].exists());
    }

    #[test]
    fn a_staging_folder_in_use_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let other = dir.path().join("other");
        fs::write(&other, "").unwrap();
        remove_staging_folders([dir.path().join("mine")]);
        assert!(other.exists());
    }

    #[test]
    fn a_full_disk_names_the_folder() {
        let error = io_error(io::ErrorKind::StorageFull.into(), Path::new("/w/t/_tereza/1/part-0"));
        assert_eq!(error.kind(), ErrorKind::ResourceExhausted);
        assert!(error.message().contains("/w/t/_tereza/1:"), "{error}");
    }
}
