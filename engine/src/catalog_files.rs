//! The catalog of a process, and what its metastore does to the files of tables: folders are made, and removed when what
//! was in them is dropped.

use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use tereza_catalog::Store;
use tereza_catalog::hive::DataFiles;
use tereza_catalog::store::sqlite::SqliteStore;
use tereza_runtime::clock::Clock;
use tereza_runtime::settings::{Settings, without_passwords};
use tereza_runtime::{Error, Result};
use tokio::runtime::Handle;

use crate::session::DEFAULT_SCHEMA;
use crate::statement::remove_all;
use crate::stores::{ObjectStores, Place};

/// Opens the catalog of the settings. The database that always exists gets its place in the warehouse, on a new catalog.
///
/// The caller holds the data folder, in which an embedded catalog is.
pub async fn open_catalog(settings: &Settings, clock: Clock) -> Result<Arc<dyn Store>> {
    let path = settings.catalog.url.strip_prefix("sqlite:").ok_or_else(|| {
        Error::unsupported(format!("catalog '{}'", without_passwords(&settings.catalog.url)))
            .with_hint("sqlite:<path> is supported")
    })?;
    let store = SqliteStore::open(Path::new(path), clock).await?;
    let mut default = store.database(DEFAULT_SCHEMA).await?;
    if default.location.is_empty() {
        default.location = warehouse_url(settings, &ObjectStores::new(settings.s3.clone()))?;
        store.alter_database(DEFAULT_SCHEMA, &default).await?;
    }
    Ok(Arc::new(store))
}

/// The files of tables, as a metastore uses them.
///
/// On this machine these are the folders below the warehouse: whoever may make a table says where its files are, and a folder
/// that is dropped goes with all that is in it. In object stores it is whatever the settings' keys may remove.
pub struct CatalogFiles {
    stores: ObjectStores,
    warehouse: String,
    /// The warehouse, if it is on this machine.
    root: Option<PathBuf>,
}

impl CatalogFiles {
    /// Those that the settings reach.
    pub fn new(settings: &Settings) -> Result<Self> {
        let stores = ObjectStores::new(settings.s3.clone());
        let root = stores.place(&settings.warehouse.url)?.local_path();
        let warehouse = warehouse_url(settings, &stores)?;
        Ok(Self { stores, warehouse, root })
    }

    /// The URL of the folder that databases get theirs in.
    pub fn warehouse(&self) -> &str {
        &self.warehouse
    }

    /// The path of a location on this machine that is below the warehouse.
    fn local_path(&self, place: &Place) -> Option<PathBuf> {
        let path = place.local_path()?;
        let below = path.strip_prefix(self.root.as_ref()?).ok()?;
        let is_below = below.components().next().is_some();
        (is_below && below.components().all(|part| matches!(part, Component::Normal(_)))).then_some(path)
    }

    async fn remove_from(&self, location: &str) -> Result<()> {
        let place = self.stores.place(location)?;
        if place.bucket.is_some() {
            return remove_all(&place).await;
        }
        let Some(path) = self.local_path(&place) else {
            return Err(Error::denied(format!("removing '{location}', which is not below the warehouse")));
        };
        match tokio::fs::remove_dir_all(&path).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io(format_args!("remove {}", path.display()), error))
            }
            _ => Ok(()),
        }
    }
}

impl DataFiles for CatalogFiles {
    fn make(&self, location: &str) -> io::Result<()> {
        // Where a metastore cannot make folders its clients do: those of stores that are unknown here, and of no store.
        let path = self.stores.place(location).ok().and_then(|place| self.local_path(&place));
        path.map_or(Ok(()), std::fs::create_dir_all)
    }

    fn rename(&self, _: &str, _: &str) -> io::Result<bool> {
        Ok(false)
    }

    fn remove(&self, location: &str) {
        if let Err(error) = Handle::current().block_on(self.remove_from(location)) {
            tracing::warn!(location, %error, "the files of what was dropped stay");
        }
    }
}

/// The warehouse as a URL. Its scheme is that of the setting: Hadoop's clients may know `s3a` and not `s3`.
fn warehouse_url(settings: &Settings, stores: &ObjectStores) -> Result<String> {
    let url = stores.place(&settings.warehouse.url)?.url();
    let hadoop = ["s3a", "s3n"].into_iter().find(|scheme| settings.warehouse.url.starts_with(&format!("{scheme}://")));
    Ok(match (hadoop, url.split_once("://")) {
        (Some(scheme), Some((_, rest))) => format!("{scheme}://{rest}"),
        _ => url,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn folders_are_made_and_removed_below_the_warehouse_only() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::in_folder(folder.path()).unwrap();
        let files = CatalogFiles::new(&settings).unwrap();
        let warehouse = files.warehouse().to_owned();
        assert_eq!(warehouse, format!("file://{}/warehouse", folder.path().display()));
        let exists = |name: &str| folder.path().join("warehouse").join(name).exists();
        files.make(&format!("{warehouse}/a/ds=x%2Fy")).unwrap();
        files.make(&format!("{}/a/ds=x%2Fy", warehouse.replace("file://", "file:"))).unwrap();
        assert!(exists("a/ds=x%2Fy"));
        files.remove_from(&format!("{warehouse}/a")).await.unwrap();
        files.remove_from(&format!("{warehouse}/a")).await.unwrap();
        assert!(!exists("a"));
        std::fs::create_dir(folder.path().join("beside")).unwrap();
        for outside in ["", "/", "/.", "/../beside", "/x/../../beside"] {
            assert!(files.remove_from(&format!("{warehouse}{outside}")).await.is_err(), "{outside}");
        }
        assert!(files.remove_from("/").await.is_err());
        assert!(files.remove_from("s3://bucket/").await.is_err(), "a whole bucket");
        assert!(exists("") && folder.path().join("beside").exists());
        // Somebody else's to make.
        files.make("hdfs://there/x").unwrap();
        files.make("/proc/x").unwrap();
    }

    #[test]
    fn the_scheme_of_hadoop_is_kept() {
        for (url, expected) in [("s3a://b/w/", "s3a://b/w"), ("s3://b/w", "s3://b/w"), ("s3n://b/w", "s3n://b/w")] {
            let mut settings = Settings::default();
            settings.warehouse.url = url.into();
            assert_eq!(CatalogFiles::new(&settings).unwrap().warehouse(), expected);
        }
    }
}
