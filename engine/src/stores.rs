//! URLs to object stores: files and S3, from settings, made once and kept.
//!
//! DataFusion asks [`ObjectStores`] for a store whenever a plan names a URL, so a bucket needs no registration: the first
//! query over `s3://bucket/…` makes its client.

mod uploads;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use datafusion::error::DataFusionError;
use datafusion::execution::object_store::{ObjectStoreRegistry, ObjectStoreUrl};
use http::Method;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::local::LocalFileSystem;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use parking_lot::Mutex;
use tereza_runtime::settings;
use tereza_runtime::{Error, Result};
use url::Url;

use self::uploads::Uploads;
use crate::error::{from_datafusion, from_object_store, to_datafusion};

/// The root of this machine's files.
const FILES: &str = "file:///";

/// At most this many S3 clients are kept; one more is refused, since each holds connections.
const BUCKETS_MAX: usize = 1024;

/// Where a URL leads: a store and a path in it.
#[derive(Clone)]
pub(crate) struct Place {
    /// The store's own URL, with a slash at its end: `file:///`, `s3://bucket/`.
    pub(crate) root: String,
    /// The store.
    pub(crate) store: Arc<dyn ObjectStore>,
    /// What only object stores have; `None` for files.
    pub(crate) bucket: Option<Arc<Bucket>>,
    /// The path in the store.
    pub(crate) path: Path,
}

impl Place {
    /// The store's own URL, as DataFusion's scans name it.
    pub(crate) fn store_url(&self) -> Result<ObjectStoreUrl> {
        ObjectStoreUrl::parse(&self.root).map_err(from_datafusion)
    }

    /// The path on this machine, for files.
    pub(crate) fn local_path(&self) -> Option<PathBuf> {
        (self.root == FILES).then(|| PathBuf::from(format!("/{}", self.path)))
    }

    /// The URL of this place.
    pub(crate) fn url(&self) -> String {
        self.url_of(&self.path)
    }

    /// A path in the same store.
    pub(crate) fn at(&self, path: Path) -> Self {
        Self { path, ..self.clone() }
    }

    /// Makes the folder of a table: clients of Hadoop look for it before they read or write a table that has no files. On this
    /// machine, a folder; in a bucket an object of no size whose name ends with a slash, which is Hadoop's folder. A bucket that
    /// this process may not write gets none: clients that have its keys do without, or make it.
    pub(crate) async fn make_folder(&self) -> Result<()> {
        match (&self.bucket, self.local_path()) {
            (Some(bucket), _) => {
                if let Err(error) = bucket.folder(Method::PUT, &self.path).await {
                    tracing::info!(%error, "no folder was made");
                }
                Ok(())
            }
            (None, Some(path)) => tokio::fs::create_dir_all(&path)
                .await
                .map_err(|error| Error::io(format_args!("making the folder '{}'", path.display()), error)),
            (None, None) => Ok(()),
        }
    }

    /// The URL of a path in the same store.
    pub(crate) fn url_of(&self, path: &Path) -> String {
        format!("{}{path}", self.root)
    }
}

/// What only object stores have.
pub(crate) struct Bucket {
    /// Its objects.
    pub(crate) store: Arc<dyn ObjectStore>,
    /// Their multipart uploads.
    pub(crate) uploads: Arc<dyn MultipartStore>,
    /// The same store with a time limit for requests that it answers when it has copied or joined data itself.
    pub(crate) patient: Arc<dyn Objects>,
    /// None for stores that do not list uploads.
    listed: Option<Uploads>,
}

impl Bucket {
    /// A store that makes no difference between the two and does not list uploads.
    #[cfg(test)]
    pub(crate) fn of<T: ObjectStore + MultipartStore>(store: &Arc<T>) -> Arc<Self> {
        Arc::new(Self {
            store: Arc::clone(store) as _,
            uploads: Arc::clone(store) as _,
            patient: Arc::clone(store) as _,
            listed: None,
        })
    }

    /// Makes (`PUT`) or removes (`DELETE`) the object that is Hadoop's folder at `path`.
    pub(crate) async fn folder(&self, method: Method, path: &Path) -> Result<()> {
        match &self.listed {
            Some(uploads) if !path.as_ref().is_empty() => uploads.folder(method, path).await,
            _ => Ok(()),
        }
    }

    /// Ids of the uploads, neither completed nor aborted, of the object at `path`.
    pub(crate) async fn uploads_of(&self, path: &Path) -> Result<Vec<String>> {
        match &self.listed {
            Some(uploads) => uploads.of(path).await,
            None => Ok(Vec::new()),
        }
    }
}

/// A store of objects that are put whole or in parts.
pub(crate) trait Objects: ObjectStore + MultipartStore {}

impl<T: ObjectStore + MultipartStore> Objects for T {}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Place({})", self.url())
    }
}

/// All object stores of the process.
pub(crate) struct ObjectStores {
    settings: settings::S3,
    files: Arc<LocalFileSystem>,
    buckets: Mutex<BTreeMap<String, Arc<Bucket>>>,
    /// Stores that a session registered by hand (tests, DataFusion's own `register_object_store`).
    registered: Mutex<BTreeMap<String, Arc<dyn ObjectStore>>>,
}

impl ObjectStores {
    pub(crate) fn new(settings: settings::S3) -> Self {
        Self {
            settings,
            files: Arc::new(LocalFileSystem::new()),
            buckets: Mutex::new(BTreeMap::new()),
            registered: Mutex::new(BTreeMap::new()),
        }
    }

    /// Where `location` leads: `file:///path`, `/path`, `s3://bucket/key`, `s3a://…`, `s3n://…`.
    ///
    /// As in Hadoop, and so in every metastore, the text after the host is the path itself and not percent-encoded:
    /// `ds=12%3A30` is a folder of just that name.
    pub(crate) fn place(&self, location: &str) -> Result<Place> {
        let (root, path) = parse_location(location)?;
        match root.strip_prefix("s3://") {
            None => Ok(Place { root, store: Arc::clone(&self.files) as Arc<dyn ObjectStore>, bucket: None, path }),
            Some(bucket) => {
                let bucket = self.bucket(bucket.trim_end_matches('/'))?;
                Ok(Place { root, store: Arc::clone(&bucket.store), bucket: Some(bucket), path })
            }
        }
    }

    /// The URL of `location` as the catalog keeps it. Its scheme is the one that was written: clients of Hadoop may know `s3a`
    /// and not `s3`.
    pub(crate) fn kept_url(&self, location: &str) -> Result<String> {
        let url = self.place(location)?.url();
        let hadoop = ["s3a", "s3n"].into_iter().find(|scheme| location.starts_with(&format!("{scheme}://")));
        Ok(match (hadoop, url.split_once("://")) {
            (Some(scheme), Some((_, rest))) => format!("{scheme}://{rest}"),
            _ => url,
        })
    }

    /// Lets a bucket be another store.
    #[cfg(test)]
    pub(crate) fn register_bucket<T: ObjectStore + MultipartStore>(&self, name: &str, store: &Arc<T>) {
        self.buckets.lock().insert(name.to_owned(), Bucket::of(store));
    }

    fn bucket(&self, name: &str) -> Result<Arc<Bucket>> {
        let mut buckets = self.buckets.lock();
        if let Some(bucket) = buckets.get(name) {
            return Ok(Arc::clone(bucket));
        }
        if buckets.len() >= BUCKETS_MAX {
            return Err(Error::resource_exhausted(format!(
                "more than {BUCKETS_MAX} buckets are in use by this process"
            )));
        }
        let settings = self.settings.bucket(name);
        let options = client_options(settings, settings.request_timeout_ms);
        let listed = Some(Uploads::new(name, settings, &options)?);
        let store = Arc::new(connect(name, settings, options)?);
        let patient = Arc::new(connect(name, settings, client_options(settings, settings.copy_timeout_ms))?);
        let uploads = Arc::clone(&store) as Arc<dyn MultipartStore>;
        let bucket = Arc::new(Bucket { store, uploads, patient, listed });
        buckets.insert(name.to_string(), Arc::clone(&bucket));
        Ok(bucket)
    }
}

impl fmt::Debug for ObjectStores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectStores").field("settings", &self.settings).finish_non_exhaustive()
    }
}

impl ObjectStoreRegistry for ObjectStores {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.registered.lock().insert(store_root(url), store)
    }

    fn get_store(&self, url: &Url) -> datafusion::error::Result<Arc<dyn ObjectStore>> {
        if let Some(store) = self.registered.lock().get(&store_root(url)) {
            return Ok(Arc::clone(store));
        }
        match url.scheme() {
            "file" => Ok(Arc::clone(&self.files) as Arc<dyn ObjectStore>),
            "s3" | "s3a" | "s3n" => {
                Ok(Arc::clone(&self.bucket(url.host_str().unwrap_or_default()).map_err(to_datafusion)?.store))
            }
            scheme => Err(DataFusionError::External(Box::new(unknown_scheme(scheme, url.as_str())))),
        }
    }
}

/// Splits a location into its store's root and the path in it; a relative path starts at the working directory.
pub(crate) fn parse_location(text: &str) -> Result<(String, Path)> {
    let bad = |why: &dyn fmt::Display| Error::invalid_input(format!("'{text}' is not a URL or path: {why}"));
    refuse_credentials(text)?;
    let (root, path) = match text.split_once("://") {
        Some(("file", rest)) => (FILES.to_string(), rest.to_string()),
        Some(("s3" | "s3a" | "s3n", rest)) => {
            let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() {
                return Err(bad(&"it names no bucket; write s3://bucket/path"));
            }
            (format!("s3://{bucket}/"), key.to_string())
        }
        Some((scheme, _)) => return Err(unknown_scheme(scheme, text)),
        None if text.is_empty() => return Err(bad(&"it is empty")),
        None => {
            let path = std::path::absolute(text.strip_prefix("file:").unwrap_or(text)).map_err(|error| bad(&error))?;
            let path = path.to_str().ok_or_else(|| bad(&"it is not UTF-8"))?;
            (FILES.to_string(), path.to_string())
        }
    };
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty() && *segment != ".").collect();
    let path = Path::parse(segments.join("/")).map_err(|error| bad(&error))?;
    Ok((root, path))
}

/// Refuses a URL that holds credentials, with an error that does not.
pub(crate) fn refuse_credentials(text: &str) -> Result<()> {
    let Some((scheme, rest)) = text.split_once("://") else { return Ok(()) };
    let authority = rest.split('/').next().unwrap_or_default();
    // A secret key may have a slash in it, so that what is before the slash is half of it; buckets have no colon.
    let is_bucket = matches!(scheme, "s3" | "s3a" | "s3n");
    if authority.contains('@') || is_bucket && authority.contains(':') {
        return Err(Error::invalid_input("a URL must not hold credentials; set s3.access_key and s3.secret_key"));
    }
    Ok(())
}

fn unknown_scheme(scheme: &str, url: &str) -> Error {
    Error::unsupported(format!("object stores of scheme '{scheme}' ({url})"))
        .with_hint("file:// and s3:// are supported")
}

fn store_root(url: &Url) -> String {
    match url.scheme() {
        "file" => "file:///".to_string(),
        "s3a" | "s3n" | "s3" => format!("s3://{}/", url.host_str().unwrap_or_default()),
        scheme => format!("{scheme}://{}/", url.host_str().unwrap_or_default()),
    }
}

fn client_options(settings: &settings::S3Connection, request_timeout_ms: u64) -> ClientOptions {
    ClientOptions::new()
        .with_allow_http(settings.allow_http)
        .with_connect_timeout(Duration::from_millis(settings.connect_timeout_ms))
        .with_timeout(Duration::from_millis(request_timeout_ms))
}

fn connect(bucket: &str, settings: &settings::S3Connection, client: ClientOptions) -> Result<AmazonS3> {
    let retry = RetryConfig {
        backoff: BackoffConfig::default(),
        max_retries: settings.retries_max as usize,
        retry_timeout: Duration::from_millis(settings.retry_timeout_ms),
    };
    // Nothing is read from the environment, so that a stray AWS_ENDPOINT_URL cannot redirect a configured store.
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(&settings.region)
        .with_virtual_hosted_style_request(!settings.path_style)
        .with_client_options(client)
        .with_retry(retry);
    if !settings.endpoint.is_empty() {
        builder = builder.with_endpoint(&settings.endpoint);
    }
    builder = if settings.access_key.is_empty() {
        builder.with_skip_signature(true)
    } else {
        builder.with_access_key_id(settings.access_key.expose()).with_secret_access_key(settings.secret_key.expose())
    };
    if !settings.session_token.is_empty() {
        builder = builder.with_token(settings.session_token.expose());
    }
    builder.build().map_err(|error| from_object_store(&error).context(format!("bucket '{bucket}'")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> String {
        let (root, path) = parse_location(text).unwrap();
        format!("{root}{path}")
    }

    #[test]
    fn locations_are_normalised_and_not_decoded() {
        assert_eq!(parse("s3a://b/a/c/"), "s3://b/a/c");
        assert_eq!(parse("s3://b"), "s3://b/");
        assert_eq!(parse("/tmp//x y/./ds=12%3A30"), "file:///tmp/x y/ds=12%3A30");
        assert_eq!(parse("file:/tmp/x/"), "file:///tmp/x");
        assert_eq!(parse("file:///tmp/x/"), "file:///tmp/x");
        for secret in ["s3://key:hunter2@b/c", "s3a://key:hunter2/rest@b/c", "gs://key:hunter2@b/c"] {
            let error = parse_location(secret).unwrap_err();
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
        for wrong in ["gs://b/c", "s3://key:secret@b/c", "", "s3:///x", "/tmp/../etc"] {
            assert!(parse_location(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_place_and_its_url_agree() {
        let stores = ObjectStores::new(settings::S3::default());
        let place = stores.place("/tmp/a b/c%d").unwrap();
        assert_eq!(place.path.as_ref(), "tmp/a b/c%d");
        let again = stores.place(&place.url()).unwrap();
        assert_eq!(again.path, place.path);
        assert_eq!(again.root, place.root);
    }
}
