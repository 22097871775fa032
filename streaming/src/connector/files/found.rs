//! Which files a table has, in the order in which they were found.
//!
//! That order is agreed upon before a row of a file is read: each look that finds new files makes an object, numbered from 0, with
//! a put that only makes new ones. Whoever finds an object there takes its files for what that look has found, whoever made it. So
//! all attempts of a job number the files alike, whatever comes to the folder meanwhile.

use std::collections::HashSet;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStoreExt};
use serde::{Deserialize, Serialize};
use tereza_runtime::{Error, ErrorKind, Result};

use super::FilesTable;
use crate::objects::{Objects, Patience, Put, store_error};

/// Files that a table may have had in the life of a job.
const FILES_MAX: usize = 100_000;
/// Objects of earlier looks that are read at once.
const READS: usize = 16;
/// A file that was written so short a time ago, in milliseconds, may still be written: a later look takes it.
const SETTLE_MS: i64 = 1_000;
/// Of the objects.
const VERSION: u32 = 1;

/// A file as it was when it was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct File {
    /// In the store.
    pub(super) path: String,
    /// Bytes.
    pub(super) size: u64,
    /// Milliseconds since 1970.
    pub(super) modified_ms: i64,
}

/// What one look has found.
#[derive(Serialize, Deserialize)]
struct Look {
    version: u32,
    files: Vec<File>,
}

/// The files of a table.
pub(crate) struct Found {
    /// Where looks are kept, and the path of their folder; none if they are not.
    kept: Option<(Objects, String)>,
    pub(super) files: Vec<File>,
    known: HashSet<String>,
    /// How many there were.
    looks: u64,
    is_loaded: bool,
}

impl Found {
    /// Files that are forgotten with this.
    pub(crate) fn forgotten() -> Self {
        Self { kept: None, files: Vec::new(), known: HashSet::new(), looks: 0, is_loaded: true }
    }

    /// Files that are kept in this folder.
    pub(crate) fn kept(objects: Objects, folder: String) -> Self {
        Self { kept: Some((objects, folder)), is_loaded: false, ..Self::forgotten() }
    }

    /// Whether anybody has looked.
    pub(super) fn has_looked(&self) -> bool {
        self.looks > 0
    }

    /// Finds what earlier looks have found.
    pub(super) async fn load(&mut self) -> Result<()> {
        if self.is_loaded {
            return Ok(());
        }
        if let Some((objects, folder)) = self.kept.clone() {
            let read = |look: u64| {
                let (objects, path) = (objects.clone(), place(&folder, look));
                async move { objects.read(&path, Patience::Tries).await }
            };
            let mut looks = stream::iter(self.looks..).map(read).buffered(READS);
            while let Some(bytes) = looks.next().await {
                let Some(bytes) = bytes? else { break };
                self.take(&bytes)?;
            }
        }
        self.is_loaded = true;
        Ok(())
    }

    /// Looks for new files. The first look counts also if there are none.
    pub(super) async fn look(&mut self, table: &FilesTable, now_ms: i64) -> Result<()> {
        let files = table.new_files(&self.known, now_ms).await?;
        if files.is_empty() && self.has_looked() {
            return Ok(());
        }
        let bytes = serde_json::to_vec(&Look { version: VERSION, files });
        let bytes =
            Bytes::from(bytes.map_err(|error| Error::internal(format!("cannot write a list of files: {error}")))?);
        let there = match &self.kept {
            None => bytes,
            Some((objects, folder)) => {
                let path = place(folder, self.looks);
                match objects.put_new(&path, &bytes, Patience::Tries, |there| *there == bytes).await? {
                    Put::Mine => bytes,
                    Put::Taken(there) => there,
                }
            }
        };
        self.take(&there)
    }

    fn take(&mut self, look: &[u8]) -> Result<()> {
        let look: Look = serde_json::from_slice(look)
            .map_err(|error| Error::internal(format!("a list of files cannot be read: {error}")))?;
        if look.version != VERSION {
            return Err(Error::unsupported(format!("a list of files of version {}, known is {VERSION}", look.version)));
        }
        self.known.extend(look.files.iter().map(|file| file.path.clone()));
        self.files.extend(look.files);
        self.looks += 1;
        Ok(())
    }
}

fn place(folder: &str, look: u64) -> Path {
    Path::from(format!("{folder}/{look:08}.json"))
}

impl FilesTable {
    /// The files of the folder that are not known, the oldest first.
    async fn new_files(&self, known: &HashSet<String>, now_ms: i64) -> Result<Vec<File>> {
        let mut files = Vec::new();
        let mut take = |file: ObjectMeta| -> Result<()> {
            let modified_ms = file.last_modified.timestamp_millis();
            let is_settling = self.monitor.is_some() && (0..SETTLE_MS).contains(&(now_ms - modified_ms));
            if is_settling || known.contains(file.location.as_ref()) || !self.is_taken(&file.location) {
                return Ok(());
            }
            if known.len() + files.len() >= FILES_MAX {
                return Err(Error::resource_exhausted(format!(
                    "table {} has had more than {FILES_MAX} files: one job reads no more",
                    self.name
                ))
                .with_hint("write larger files, or submit the job again with another 'path'"));
            }
            files.push(File { path: file.location.to_string(), size: file.size, modified_ms });
            Ok(())
        };
        let is_file = match self.root.as_ref() {
            "" => None,
            path => match self.store.head(&self.root).await {
                Ok(file) => Some(file).filter(|file| file.size > 0),
                Err(object_store::Error::NotFound { .. }) => None,
                Err(error) => return Err(store_error(path, error)),
            },
        };
        match is_file {
            Some(file) => take(file)?,
            None => {
                if let Some(local) = &self.local
                    && tokio::fs::metadata(local).await.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
                {
                    return Err(Error::new(ErrorKind::NotFound, format!("the folder '{local}' is not there"))
                        .context(format_args!("table {}", self.name)));
                }
                let mut listed = self.store.list(Some(&self.root));
                while let Some(file) = listed.next().await {
                    take(file.map_err(|error| store_error(&self.root, error))?)?;
                }
            }
        }
        files.sort_by(|one, other| (one.modified_ms, &one.path).cmp(&(other.modified_ms, &other.path)));
        Ok(files)
    }

    /// Whether a file is one of the table's: what begins with a dot or an underscore is hidden.
    fn is_taken(&self, path: &Path) -> bool {
        let mut below = path.prefix_match(&self.root).into_iter().flatten();
        let is_hidden = below.any(|part| part.as_ref().starts_with(['.', '_']));
        !is_hidden && self.pattern.as_ref().is_none_or(|pattern| pattern.is_match(&format!("/{path}")))
    }
}
