//! URLs to object stores: files and S3, from settings, made once and kept.

use std::sync::Arc;

use datafusion::execution::object_store::ObjectStoreUrl;
use object_store::ObjectStore;
use object_store::multipart::MultipartStore;
use object_store::path::Path;
use tereza_runtime::Result;
use url::Url;

/// How S3 is reached.
#[derive(Debug, Clone, Default)]
pub struct S3Options {}

/// Where a URL leads: a store and a path in it.
#[derive(Clone)]
pub(crate) struct Place {
    /// The URL, normalised (`file:///…`, `s3://bucket/…`).
    pub(crate) url: Url,
    /// The store.
    pub(crate) store: Arc<dyn ObjectStore>,
    /// The store's multipart uploads, where a file can stay invisible until it is completed (S3); `None` for files.
    pub(crate) uploads: Option<Arc<dyn MultipartStore>>,
    /// The path in the store.
    pub(crate) path: Path,
}

impl Place {
    /// The store's own URL, as DataFusion's scans name it.
    pub(crate) fn store_url(&self) -> ObjectStoreUrl {
        unimplemented!()
    }
}

/// All object stores of the process.
#[derive(Debug)]
pub(crate) struct ObjectStores {}

impl ObjectStores {
    /// Where `url` leads: `file:///path`, `/path`, `s3://bucket/key`, `s3a://…`.
    pub(crate) fn place(&self, _url: &str) -> Result<Place> {
        unimplemented!()
    }
}
