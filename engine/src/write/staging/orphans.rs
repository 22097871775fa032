//! Files that no record of a job names: those of attempts that died in the middle of an epoch.

use std::collections::BTreeSet;

use tereza_runtime::Result;

use super::super::output::Output;
use super::super::{STAGING_FOLDER, child_url, files, recover};
use super::StagingTable;
use crate::engine::Engine;

/// A file is an orphan only if it is older: who wrote it may be slow, and its record on the way.
const ORPHAN_MS: i64 = 24 * 60 * 60 * 1000;

/// Names whose files are removed by one call; the next one goes on.
const NAMES_MAX: usize = 1000;

impl StagingTable {
    /// Removes the files of names that never came into a record, of at most 1000 names, and returns how many.
    ///
    /// Only who has opened the log of a task may ask, after it has fenced all others, and only for names of earlier attempts of
    /// that task: `is_own` says so of a name. `kept` are the paths of all files that its last record and its savepoints name. Names with a
    /// file that is kept, that a commit is to bring, or that is younger than a day, stay whole.
    pub async fn remove_orphans(&self, is_own: impl Fn(&str) -> bool, kept: &BTreeSet<&str>) -> Result<u64> {
        let pending = self.engine.catalog.pending_commits().await?;
        let pending = pending.iter().flat_map(|commit| &commit.add_files).map(|file| file.staged.as_str());
        let kept: Vec<&str> = kept.iter().copied().chain(pending).collect();
        remove(&self.engine, &self.output, is_own, &kept).await
    }
}

/// Removes the files of names that `is_own`, but for those with a file that is kept or young.
pub(super) async fn remove(
    engine: &Engine,
    output: &Output,
    is_own: impl Fn(&str) -> bool,
    kept: &[&str],
) -> Result<u64> {
    let kept: BTreeSet<String> =
        kept.iter().map(|url| engine.stores.place(url).map(|place| place.url())).collect::<Result<_>>()?;
    let too_young_ms = engine.clock.unix_ms() - ORPHAN_MS;
    let (mut removed, mut names) = (0, 0);
    for root in output.roots() {
        let url = child_url(root, STAGING_FOLDER);
        let place = engine.stores.place(&url)?;
        let failed = |error| files::store_error(error, &url);
        let mut folders = place.store.list_with_delimiter(Some(&place.path)).await.map_err(failed)?.common_prefixes;
        folders.retain(|folder| folder.filename().is_some_and(&is_own));
        for folder in folders {
            let files = place.store.list_with_delimiter(Some(&folder)).await.map_err(failed)?.objects;
            let is_needed = files.iter().any(|file| {
                kept.contains(&place.url_of(&file.location)) || file.last_modified.timestamp_millis() > too_young_ms
            });
            if is_needed || files.is_empty() {
                continue;
            }
            recover::remove_from_folder(engine, &place.url_of(&folder), |_| true).await?;
            removed += files.len() as u64;
            names += 1;
            if names >= NAMES_MAX {
                return Ok(removed);
            }
        }
    }
    Ok(removed)
}
