//! The files of a table at one moment: all rows of each commit, or none of them.
//!
//! The catalog says which partitions and commits the table has ([`Store::snapshot`]), the object store which files lie in
//! their folders, and the two are asked one after the other while others write. So:
//! 1. commits that the snapshot knows and whose files are not all in place are rolled forward before listing;
//! 2. after listing, commits that came later are looked up: what they added is taken out of the list again, and if one
//!    took files away (or the table was altered), everything starts over.
//!
//! Files whose names begin with `_` or `.` and empty files are no data, and sub-folders are not looked into: that is how
//! Hive and Spark read a folder, and it keeps staged files out of sight. Partitions are what the catalog says, whatever
//! their folders are called.
//!
//! [`Store::snapshot`]: tereza_catalog::Store::snapshot

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::scalar::ScalarValue;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use tereza_catalog::model::{DEFAULT_PARTITION, Storage, unescape_path_name};
use tereza_catalog::store::{PartitionFilter, Snapshot, StagedFile, VersionedTable};
use tereza_runtime::{Error, Result};

use super::prune::Pruner;
use crate::engine::Engine;
use crate::error::from_object_store;
use crate::stores::Place;
use crate::write::{folder_of_partition, folder_of_table};

/// How often a list is begun anew because the table changed meanwhile.
const ATTEMPTS_MAX: usize = 8;
/// Folders listed at once.
const LISTINGS_MAX: usize = 32;

/// What a scan reads.
pub(super) struct Listing {
    /// The table as it was listed.
    pub(super) table: VersionedTable,
    /// The folders of the table or of its selected partitions, in the order of their names.
    pub(super) folders: Vec<Folder>,
}

/// The files of one partition, or of an unpartitioned table.
pub(super) struct Folder {
    /// How its files are written.
    pub(super) storage: Storage,
    /// Values of the partition keys in order; empty for an unpartitioned table.
    pub(super) values: Vec<ScalarValue>,
    /// The partition's `numRows`, if the catalog has it.
    pub(super) row_count: Option<u64>,
    /// The store that its files are in.
    pub(super) store: Arc<dyn ObjectStore>,
    /// The store's URL, as scans name it.
    pub(super) store_url: ObjectStoreUrl,
    /// The store's URL, as places have it.
    root: String,
    /// Its files, by name.
    pub(super) files: Vec<ObjectMeta>,
}

/// Lists the files of the partitions that `pruner` selects.
pub(super) async fn list(engine: &Engine, database: &str, table: &str, pruner: &Pruner) -> Result<Listing> {
    for _ in 0..ATTEMPTS_MAX {
        let Some(snapshot) = snapshot(engine, database, table, pruner).await? else { continue };
        crate::write::finish_pending(engine, &snapshot.pending).await?;
        let version = snapshot.table.version;
        let mut listing = list_snapshot(engine, snapshot, pruner).await?;
        let Some(later) = later_files(engine, database, table, version).await? else { continue };
        let later: HashSet<(String, Path)> = later.into_iter().collect();
        for folder in &mut listing.folders {
            let root = &folder.root;
            folder.files.retain(|file| !later.contains(&(root.clone(), file.location.clone())));
        }
        return Ok(listing);
    }
    Err(Error::conflict(format!("table {database}.{table} changed {ATTEMPTS_MAX} times while its files were listed"))
        .with_hint("run the statement again"))
}

/// The table with the partitions that may be selected. `None` if it changed between two questions to the catalog.
async fn snapshot(engine: &Engine, database: &str, table: &str, pruner: &Pruner) -> Result<Option<Snapshot>> {
    let catalog = &engine.catalog;
    if let Some(filter) = pruner.text_filter() {
        return catalog.snapshot(database, table, &filter).await.map(Some);
    }
    if pruner.takes_all() {
        return catalog.snapshot(database, table, &PartitionFilter::default()).await.map(Some);
    }
    // Names are much less to fetch than partitions: decide on them, then ask for the selected ones.
    let version = catalog.table_version(database, table).await?;
    let names = catalog.partition_names(database, table).await?;
    let values: Vec<Vec<String>> = names.iter().map(|name| values_of_name(name)).collect();
    let selected = pruner.select(&values.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
    let mut texts = vec![BTreeSet::new(); pruner.key_count()];
    for (values, _) in values.iter().zip(selected).filter(|(_, selected)| selected.is_some()) {
        for (texts, value) in texts.iter_mut().zip(values) {
            texts.insert(value.clone());
            // The empty text and NULL have one name.
            if value == DEFAULT_PARTITION {
                texts.insert(String::new());
            }
        }
    }
    let filter = PartitionFilter { values: texts.into_iter().map(|texts| Some(texts.into_iter().collect())).collect() };
    let snapshot = catalog.snapshot(database, table, &filter).await?;
    Ok((snapshot.table.version == version).then_some(snapshot))
}

/// A table or partition whose folder is to be listed.
struct Wanted {
    location: Option<String>,
    storage: Storage,
    values: Vec<ScalarValue>,
    row_count: Option<u64>,
}

async fn list_snapshot(engine: &Engine, snapshot: Snapshot, pruner: &Pruner) -> Result<Listing> {
    let Snapshot { table, partitions, .. } = snapshot;
    let mut wanted: Vec<Wanted> = Vec::new();
    if table.table.partition_keys.is_empty() {
        let row_count = row_count(&table.table.parameters);
        let location = folder_of_table(&table.table).map(str::to_owned);
        wanted.push(Wanted { location, storage: table.table.storage.clone(), values: Vec::new(), row_count });
    } else {
        let texts: Vec<&[String]> = partitions.iter().map(|partition| partition.values.as_slice()).collect();
        let selected = pruner.select(&texts)?;
        for (partition, values) in partitions.into_iter().zip(selected) {
            let Some(values) = values else { continue };
            let row_count = row_count(&partition.parameters);
            let location = folder_of_partition(&partition.storage).map(str::to_owned);
            wanted.push(Wanted { location, storage: partition.storage, values, row_count });
        }
    }
    let folders = futures::stream::iter(wanted)
        .map(|Wanted { location, storage, values, row_count }| async move {
            let location = location.ok_or_else(|| Error::invalid_input("a table or partition without a location"))?;
            let (place, files) = list_folder(engine, &location).await?;
            let store_url = place.store_url()?;
            Ok::<_, Error>(Folder {
                storage,
                values,
                row_count,
                store: place.store,
                store_url,
                root: place.root,
                files,
            })
        })
        .buffered(LISTINGS_MAX)
        .try_collect()
        .await?;
    Ok(Listing { table, folders })
}

async fn list_folder(engine: &Engine, location: &str) -> Result<(Place, Vec<ObjectMeta>)> {
    let place = engine.stores.place(location)?;
    let failed = |error| from_object_store(&error).context(format!("folder '{}'", place.url()));
    let listed = place.store.list_with_delimiter(Some(&place.path)).await.map_err(failed)?;
    let mut files: Vec<ObjectMeta> = listed.objects.into_iter().filter(is_data).collect();
    if files.is_empty() && listed.common_prefixes.is_empty() {
        // A table may be one file.
        match place.store.head(&place.path).await {
            Ok(file) => files.extend(Some(file).filter(is_data)),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    files.sort_unstable_by(|left, right| left.location.cmp(&right.location));
    Ok((place, files))
}

fn is_data(file: &ObjectMeta) -> bool {
    let is_hidden = file.location.filename().is_none_or(|name| name.starts_with(['_', '.']));
    file.size > 0 && !is_hidden
}

/// The files, as their store's URL and path, that commits added after a version of the table. `None` if anything else
/// happened to it since: files were taken away, or it was altered.
pub(super) async fn later_files(
    engine: &Engine,
    database: &str,
    table: &str,
    version: i64,
) -> Result<Option<Vec<(String, Path)>>> {
    let now = engine.catalog.table_version(database, table).await?;
    if now == version {
        return Ok(Some(Vec::new()));
    }
    let commits = engine.catalog.commits_since(database, table, version).await?;
    let only_add = commits.iter().all(|commit| commit.remove_files.is_empty() && commit.drop_partitions.is_empty());
    // Each version since has its commit, or the table was altered without one.
    let versions: BTreeSet<i64> = commits.iter().map(|commit| commit.version).collect();
    if !only_add || !(version + 1..=now).all(|version| versions.contains(&version)) {
        return Ok(None);
    }
    let files = commits.iter().flat_map(|commit| &commit.add_files);
    let place = |file: &StagedFile| engine.stores.place(&file.target).map(|place| (place.root, place.path));
    files.map(place).collect::<Result<_>>().map(Some)
}

/// The values in a partition's name `k=v/…`.
fn values_of_name(name: &str) -> Vec<String> {
    name.split('/').map(|part| unescape_path_name(part.split_once('=').map_or(part, |(_, value)| value))).collect()
}

fn row_count(parameters: &tereza_catalog::model::Parameters) -> Option<u64> {
    parameters.get("numRows").and_then(|count| count.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_partitions_give_their_values() {
        assert_eq!(values_of_name("ds=a%2Fb%3Dc/k=__HIVE_DEFAULT_PARTITION__"), ["a/b=c", DEFAULT_PARTITION]);
        assert_eq!(values_of_name("k="), [""]);
    }

    #[test]
    fn hidden_and_empty_files_are_no_data() {
        let file = |path: &str, size| ObjectMeta {
            location: Path::from(path),
            last_modified: Default::default(),
            size,
            e_tag: None,
            version: None,
        };
        assert!(is_data(&file("t/000000_0", 1)));
        for (path, size) in [("t/_SUCCESS", 1), ("t/.part.crc", 1), ("t/part-0", 0)] {
            assert!(!is_data(&file(path, size)), "{path}");
        }
    }
}
