//! Folders of tables in object stores: what readers see in them, which partitions they hold, and removing them.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use datafusion::datasource::file_format::FileFormat;
use futures::{StreamExt, TryStreamExt, stream};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use tereza_catalog::model::{Column, unescape_path_name};
use tereza_runtime::{Error, Result};

use crate::error::{from_datafusion, from_object_store};
use crate::session::Session;
use crate::stores::Place;

/// Folders listed at once.
const LISTINGS_AT_ONCE: usize = 16;
/// Partitions that one statement finds in folders.
const PARTITIONS_MAX: usize = 1_000_000;
/// Files whose schemas are merged for a table without columns.
const SCHEMA_FILES_MAX: usize = 64;

/// The files below a folder that readers see: names that begin with `_` or `.`, or lie in such a folder, are hidden from
/// Hive, Presto, Spark and Tereza alike.
pub(in crate::statement) async fn visible_files(place: &Place) -> Result<Vec<ObjectMeta>> {
    place
        .store
        .list(Some(&place.path))
        .try_filter(|object| std::future::ready(!is_folder(place, object) && is_visible(place, &object.location)))
        .try_collect()
        .await
        .map_err(|error| unreadable(place, error))
}

/// Whether an object is the folder itself, which clients of Hadoop make in object stores.
fn is_folder(place: &Place, object: &ObjectMeta) -> bool {
    object.size == 0 && object.location == place.path
}

/// The files that a scan of the folder reads: visible ones with something in them, in the folder itself. A location may
/// be one file, too.
async fn data_files(place: &Place) -> Result<Vec<ObjectMeta>> {
    let listed = place.store.list_with_delimiter(Some(&place.path)).await.map_err(|error| unreadable(place, error))?;
    let mut files = listed.objects;
    if files.is_empty() && listed.common_prefixes.is_empty() {
        match place.store.head(&place.path).await {
            Ok(file) => files.push(file),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(unreadable(place, error)),
        }
    }
    files.retain(|file| file.size > 0 && file.location.filename().is_some_and(|name| !name.starts_with(['_', '.'])));
    Ok(files)
}

/// Number of files that a scan of the folder reads, and their bytes.
pub(in crate::statement) async fn measure(place: &Place) -> Result<(i64, i64)> {
    let files = data_files(place).await?;
    let bytes: u64 = files.iter().map(|file| file.size).sum();
    Ok((i64::try_from(files.len()).unwrap_or(i64::MAX), i64::try_from(bytes).unwrap_or(i64::MAX)))
}

/// Whether nothing at all is below a folder.
pub(super) async fn is_empty(place: &Place) -> Result<bool> {
    let mut objects = place.store.list(Some(&place.path));
    while let Some(object) = objects.next().await {
        if !is_folder(place, &object.map_err(|error| unreadable(place, error))?) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Refuses a location that is a file: a table's location is a folder.
pub(super) async fn require_folder(place: &Place) -> Result<()> {
    match place.store.head(&place.path).await {
        Ok(_) => Err(Error::invalid_input(format!(
            "location '{}' is a file, and a table's location is a folder",
            place.url()
        ))
        .with_hint("one file is read by its path, as in SELECT * FROM 'file.parquet'")),
        // A missing object is what a folder looks like; a local folder answers with an error of its own.
        Err(_) => Ok(()),
    }
}

/// Deletes everything below a folder.
pub(super) async fn remove(place: &Place) -> Result<()> {
    if place.path.as_ref().is_empty() {
        return Err(
            Error::denied(format!("deleting everything in '{}'", place.url())).with_hint("remove the files by hand")
        );
    }
    let locations = place.store.list(Some(&place.path)).map_ok(|object| object.location).boxed();
    // A file that somebody else deleted first is gone as well.
    let deleted = place.store.delete_stream(locations);
    deleted
        .filter(|deleted| std::future::ready(!matches!(deleted, Err(object_store::Error::NotFound { .. }))))
        .try_for_each(|_| std::future::ready(Ok(())))
        .await
        .map_err(|error| {
            from_object_store(&error).context(format!("deleting the files below '{}'", place.url())).with_source(error)
        })
}

/// A folder of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Folder {
    /// Values of the keys, unescaped.
    pub(super) values: Vec<String>,
    /// Its name below the table's folder, as it is in the store: `ds=1/k=a%2Fb`.
    pub(super) name: String,
}

/// Lists the folders `key=value/…` below a table's folder, once each, several at once.
pub(super) async fn partition_folders(place: &Place, keys: &[Column]) -> Result<Vec<Folder>> {
    let mut folders = vec![Folder { values: Vec::new(), name: String::new() }];
    for key in keys {
        let next: Vec<Vec<Folder>> = stream::iter(folders)
            .map(|folder| children(place, folder, &key.name))
            .buffer_unordered(LISTINGS_AT_ONCE)
            .try_collect()
            .await?;
        folders = next.into_iter().flatten().collect();
        if folders.len() > PARTITIONS_MAX {
            return Err(Error::resource_exhausted(format!(
                "more than {PARTITIONS_MAX} folders of partitions are below '{}'",
                place.url()
            )));
        }
    }
    // A file system keeps empty folders, an object store has none: the same table is found the same in both.
    if place.bucket.is_none() {
        folders = stream::iter(folders)
            .map(|folder| async move {
                let path = child(&place.path, &folder.name);
                let empty = is_empty(&place.at(path)).await?;
                Ok::<_, Error>((!empty).then_some(folder))
            })
            .buffer_unordered(LISTINGS_AT_ONCE)
            .try_filter_map(|folder| std::future::ready(Ok(folder)))
            .try_collect()
            .await?;
    }
    folders.sort_by(|left, right| left.values.cmp(&right.values));
    Ok(folders)
}

async fn children(place: &Place, folder: Folder, key: &str) -> Result<Vec<Folder>> {
    let path = child(&place.path, &folder.name);
    let listing = place.store.list_with_delimiter(Some(&path)).await.map_err(|error| unreadable(place, error))?;
    let found = listing.common_prefixes.iter().filter_map(|prefix| {
        let name = prefix.parts().next_back()?;
        let (folder_key, value) = name.as_ref().split_once('=')?;
        if !unescape_path_name(folder_key).eq_ignore_ascii_case(key) {
            return None;
        }
        let mut values = folder.values.clone();
        values.push(unescape_path_name(value));
        let separator = if folder.name.is_empty() { "" } else { "/" };
        Some(Folder { values, name: format!("{}{separator}{}", folder.name, name.as_ref()) })
    });
    Ok(found.collect())
}

fn child(path: &Path, name: &str) -> Path {
    // `name` came out of the store's own listing, so it is a path as it stands.
    let joined = if path.as_ref().is_empty() { name.to_owned() } else { format!("{}/{name}", path.as_ref()) };
    Path::parse(joined.trim_end_matches('/')).unwrap_or_else(|_| path.clone())
}

/// The schema of the files of a table: those in its folder, or below it if it is partitioned.
pub(super) async fn infer_schema(
    session: &Session,
    place: &Place,
    partitioned: bool,
    format: &Arc<dyn FileFormat>,
) -> Result<SchemaRef> {
    let mut files = if partitioned { visible_files(place).await? } else { data_files(place).await? };
    files.retain(|file| file.size > 0);
    if files.is_empty() {
        return Err(Error::invalid_input(format!(
            "no file is below '{}', so the columns cannot be found out",
            place.url()
        ))
        .with_hint("write the columns into the statement"));
    }
    files.sort_by(|left, right| left.location.cmp(&right.location));
    files.truncate(SCHEMA_FILES_MAX);
    let state = session.context.state();
    format.infer_schema(&state, &place.store, &files).await.map_err(from_datafusion)
}

fn is_visible(place: &Place, location: &Path) -> bool {
    location.prefix_match(&place.path).is_none_or(|mut parts| parts.all(|part| !part.as_ref().starts_with(['_', '.'])))
}

fn unreadable(place: &Place, error: object_store::Error) -> Error {
    from_object_store(&error).context(format!("listing the folder '{}'", place.url())).with_source(error)
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;

    use super::*;

    async fn place(files: &[&str]) -> Place {
        let store = Arc::new(InMemory::new());
        for file in files {
            store.put(&Path::parse(file).expect("a path"), "x".into()).await.expect("put");
        }
        Place { root: "memory:///".into(), store, bucket: None, path: Path::from("t") }
    }

    fn keys(names: &[&str]) -> Vec<Column> {
        names.iter().map(|name| Column { name: (*name).into(), type_name: "string".into(), comment: None }).collect()
    }

    #[tokio::test]
    async fn hidden_files_are_not_seen() {
        let place = place(&["t/a", "t/_tereza/b", "t/k=1/.c", "t/k=1/d", "t-2/e"]).await;
        let mut seen: Vec<String> =
            visible_files(&place).await.expect("lists").into_iter().map(|file| file.location.to_string()).collect();
        seen.sort();
        assert_eq!(seen, ["t/a", "t/k=1/d"]);
        assert_eq!(measure(&place).await.expect("measures"), (1, 1));
    }

    #[tokio::test]
    async fn folders_of_partitions_are_found_with_their_values() {
        let place = place(&["t/ds=1/k=a%2Fb/x", "t/ds=1/k=c/x", "t/ds=2/K=d/x", "t/other/k=e/x", "t/ds=3/x"]).await;
        let folders = partition_folders(&place, &keys(&["ds", "k"])).await.expect("lists");
        let found: Vec<(Vec<String>, String)> =
            folders.into_iter().map(|folder| (folder.values, folder.name)).collect();
        assert_eq!(
            found,
            [
                (vec!["1".to_owned(), "a/b".to_owned()], "ds=1/k=a%2Fb".to_owned()),
                (vec!["1".to_owned(), "c".to_owned()], "ds=1/k=c".to_owned()),
                (vec!["2".to_owned(), "d".to_owned()], "ds=2/K=d".to_owned()),
            ]
        );
    }

    #[tokio::test]
    async fn removing_stays_inside_the_folder() {
        let place = place(&["t/a", "t/_tereza/b", "t-2/e"]).await;
        remove(&place).await.expect("removes");
        assert!(is_empty(&place).await.expect("lists"));
        assert!(!is_empty(&place.at(Path::from("t-2"))).await.expect("lists"));
        let error = remove(&Place { path: Path::from(""), ..place }).await.expect_err("the whole store");
        assert_eq!(error.kind(), tereza_runtime::ErrorKind::Denied);
    }
}
