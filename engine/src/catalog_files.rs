//! The catalog of a process, and what its metastore does to the files of tables: folders are made, and removed when what
//! was in them is dropped.

use std::io;
use std::path::Path;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use object_store::ObjectStore as _;
use tereza_catalog::hive::{DataFiles, LocalFiles};
use tereza_catalog::model::{Storage, Table};
use tereza_catalog::store::{hms, mysql};
use tereza_catalog::{HmsStore, MySqlStore, SchemaStore, SqliteStore, Store};
use tereza_runtime::clock::Clock;
use tereza_runtime::settings::{Settings, without_passwords};
use tereza_runtime::{Error, ErrorKind, Result};
use tokio::runtime::Handle;

use crate::error::from_object_store;
use crate::formats::Format;
use crate::session::DEFAULT_SCHEMA;
use crate::stores::ObjectStores;

/// The file in the data folder that keeps what a running metastore cannot.
const BESIDE_METASTORE: &str = "metastore.db";
/// Objects that one call removes.
const REMOVED_AT_ONCE: usize = 1_000;
/// Folders in a bucket that are removed at once.
const FOLDERS_AT_ONCE: usize = 16;

/// A catalog that is open: its names, and the schemas of its registry. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Catalog {
    /// Databases, tables, partitions and all that belongs to them.
    pub store: Arc<dyn Store>,
    /// Schemas and the subjects that they have versions in.
    pub schemas: Arc<dyn SchemaStore>,
}

impl Catalog {
    /// Opens the catalog of the settings. The database that always exists gets its place in the warehouse, on a new catalog.
    ///
    /// The caller holds the data folder, in which an embedded catalog is.
    pub async fn open(settings: &Settings, clock: Clock) -> Result<Self> {
        let url = &settings.catalog.url;
        let catalog = if let Some(path) = url.strip_prefix("sqlite:") {
            Self::of(SqliteStore::open(Path::new(path), clock).await?)
        } else if url.starts_with("thrift://") {
            let own = settings.data.dir.join(BESIDE_METASTORE);
            let store = HmsStore::connect(url, hms::Settings::default(), own, clock).await?;
            let schemas = Arc::new(store.local().clone());
            Self { store: Arc::new(store), schemas }
        } else {
            let settings = mysql::Settings { create: settings.catalog.create, ..mysql::Settings::default() };
            Self::of(MySqlStore::open(url, settings, clock).await?)
        };
        let mut default = catalog.store.database(DEFAULT_SCHEMA).await?;
        if default.location.is_empty() {
            default.location = ObjectStores::new(settings.s3.clone()).kept_url(&settings.warehouse.url)?;
            catalog.store.alter_database(DEFAULT_SCHEMA, &default).await?;
        }
        Ok(catalog)
    }

    fn of(store: impl Store + SchemaStore) -> Self {
        let store = Arc::new(store);
        Self { store: Arc::clone(&store) as Arc<dyn Store>, schemas: store }
    }
}

/// Whether the engine reads files of a table in such a storage: its own or that of a partition.
///
/// # Errors
/// `Unsupported`, naming what it cannot read.
pub fn is_readable(table: &Table, storage: &Storage) -> Result<()> {
    Format::of_table(table, storage).map(|_| ())
}

/// The files of tables, as a metastore uses them.
///
/// On this machine these are the folders below the warehouse: whoever may make a table says where its files are, and a folder
/// that is dropped goes with all that is in it. In object stores it is whatever the settings' keys may remove.
pub struct CatalogFiles {
    stores: ObjectStores,
    /// Of the folders on this machine.
    local: LocalFiles,
    warehouse: String,
    runtime: Handle,
}

impl CatalogFiles {
    /// Those that the settings reach; to be made in a runtime, which does what is done to object stores.
    pub fn new(settings: &Settings) -> Result<Self> {
        let stores = ObjectStores::new(settings.s3.clone());
        let root = stores.place(&settings.warehouse.url)?.local_path();
        // Below no folder is nothing.
        let local = LocalFiles::below(root.unwrap_or_default());
        let warehouse = stores.kept_url(&settings.warehouse.url)?;
        Ok(Self { stores, local, warehouse, runtime: Handle::current() })
    }

    /// The URL of the folder that databases get theirs in.
    pub fn warehouse(&self) -> &str {
        &self.warehouse
    }

    /// Removes some of the objects below a location; whether none is left.
    async fn remove_objects(&self, location: &str) -> Result<bool> {
        let place = self.stores.place(location)?;
        if place.path.as_ref().is_empty() {
            return Err(Error::denied(format!("removing all of '{location}'")));
        }
        let failed = |error| from_object_store(&error).context(format!("removing '{}'", place.url()));
        let listed = place.store.list(Some(&place.path)).take(REMOVED_AT_ONCE);
        let some: Vec<_> = listed.try_collect().await.map_err(failed)?;
        let is_all = some.len() < REMOVED_AT_ONCE;
        // Objects of no size may be folders, which are listed by another name than theirs.
        if let Some(bucket) = &place.bucket {
            let folders = some.iter().filter(|object| object.size == 0);
            let folders = folders.map(|object| bucket.folder(Method::DELETE, &object.location));
            stream::iter(folders).buffer_unordered(FOLDERS_AT_ONCE).try_collect::<()>().await?;
            bucket.folder(Method::DELETE, &place.path).await?;
        }
        let some = some.into_iter().map(|object| object.location);
        let removed = place.store.delete_stream(stream::iter(some.map(Ok)).boxed());
        // What somebody else removed first is gone as well.
        let removed =
            removed.filter(|removed| std::future::ready(!matches!(removed, Err(object_store::Error::NotFound { .. }))));
        removed.try_for_each(|_| std::future::ready(Ok(()))).await.map_err(failed)?;
        Ok(is_all)
    }
}

impl DataFiles for CatalogFiles {
    fn make(&self, location: &str) -> io::Result<()> {
        if !is_in_bucket(location) {
            // Where this makes no folders clients do.
            return self.local.make(location);
        }
        let made = self.runtime.block_on(async { self.stores.place(location)?.make_folder().await });
        made.map_err(io::Error::other)
    }

    fn make_for_partition(&self, location: &str) -> io::Result<()> {
        // Clients take a partition without a folder for an empty one, but not a table.
        if is_in_bucket(location) { Ok(()) } else { self.local.make(location) }
    }

    fn remove(&self, location: &str) -> io::Result<bool> {
        if !is_in_bucket(location) {
            return self.local.remove(location);
        }
        match self.runtime.block_on(self.remove_objects(location)) {
            // It would be refused again.
            Err(error) if error.kind() == ErrorKind::Denied || error.kind() == ErrorKind::InvalidInput => {
                tracing::warn!(location = without_passwords(location), %error, "the files of what was dropped stay");
                Ok(true)
            }
            removed => removed.map_err(io::Error::other),
        }
    }
}

fn is_in_bucket(location: &str) -> bool {
    ["s3://", "s3a://", "s3n://"].iter().any(|scheme| location.starts_with(scheme))
}

#[cfg(test)]
mod tests {
    use object_store::memory::InMemory;
    use object_store::path::Path;
    use object_store::{ObjectStore, ObjectStoreExt};

    use super::*;

    #[tokio::test]
    async fn folders_on_this_machine_are_those_below_the_warehouse() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::in_folder(folder.path()).unwrap();
        let files = CatalogFiles::new(&settings).unwrap();
        let warehouse = files.warehouse().to_owned();
        assert_eq!(warehouse, format!("file://{}/warehouse", folder.path().display()));
        let exists = |name: &str| folder.path().join(name).exists();
        files.make(&format!("{warehouse}/a/ds=x%2Fy")).unwrap();
        files.make(&format!("file:{}/beside", folder.path().display())).unwrap();
        files.make("hdfs://there/x").unwrap();
        assert!(exists("warehouse/a/ds=x%2Fy") && !exists("beside"));
        assert!(files.remove(&format!("{warehouse}/a")).unwrap());
        assert!(files.remove(&format!("file:{}", folder.path().display())).unwrap());
        assert!(exists("warehouse") && !exists("warehouse/a"));
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn objects_are_removed_in_parts_and_a_bucket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let settings = Settings::in_folder(folder.path()).unwrap();
        let files = Arc::new(CatalogFiles::new(&settings).unwrap());
        let store = Arc::new(InMemory::new());
        files.stores.register_bucket("lake", &store);
        let put = async |path: String| store.put(&Path::from(path), "x".into()).await.map(|_| ()).unwrap();
        for n in 0..REMOVED_AT_ONCE + 1 {
            put(format!("w/t/ds={n}/file")).await;
        }
        put("w/t2/file".to_owned()).await;
        let remove = async |location: &'static str| {
            let files = Arc::clone(&files);
            tokio::task::spawn_blocking(move || files.remove(location)).await.unwrap().unwrap()
        };
        assert!(!remove("s3a://lake/w/t").await);
        assert!(remove("s3://lake/w/t/").await);
        assert!(remove("s3://lake/w/t").await, "nothing is there");
        assert!(remove("s3://lake/").await, "it is not tried again");
        let left: Vec<_> = store.list(None).try_collect().await.unwrap();
        assert_eq!(left.len(), 1);
    }

    #[tokio::test]
    async fn the_scheme_of_hadoop_is_kept() {
        for (url, expected) in [("s3a://b/w/", "s3a://b/w"), ("s3://b/w", "s3://b/w"), ("s3n://b/w", "s3n://b/w")] {
            let mut settings = Settings::default();
            settings.warehouse.url = url.into();
            assert_eq!(CatalogFiles::new(&settings).unwrap().warehouse(), expected);
        }
    }
}
