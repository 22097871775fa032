//! Files by path: `SELECT … FROM 's3://bucket/path/*.parquet'`.
//!
//! DataFusion's listing table reads them; what is added here is the format by the first file's extension (ORC too), `s3a://`
//! for `s3://`, patterns in the names of folders, and errors that name the path.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::fmt::Display;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::Statistics;
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use futures::StreamExt;
use object_store::{ObjectMeta, ObjectStore};
use tereza_catalog::model::Storage;
use tereza_runtime::{Error, Result};

use super::OwnSession;
use crate::engine::Engine;
use crate::error::{from_datafusion, from_object_store};
use crate::formats::Format;
use crate::stores::refuse_credentials;
use crate::table::name_files;

/// What makes a path a pattern.
const PATTERN_CHARS: [char; 3] = ['*', '?', '['];
/// Files that a pattern in folders may match: each is asked for by its name.
const FILES_MAX: usize = 10_000;

/// Whether a table's name is a path: it has a `/` or the extension of a known format, so a mistyped table name stays a table
/// name.
pub(crate) fn is_path(name: &str) -> bool {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    name.contains('/') || extension.is_some_and(|word| Format::parse(word).is_ok())
}

/// The table of files that `name` names, or `None` if it is not a path.
pub(crate) async fn file_table(
    engine: &Arc<Engine>,
    session: &OwnSession,
    name: &str,
) -> Result<Option<Arc<dyn TableProvider>>> {
    if !is_path(name) {
        return Ok(None);
    }
    refuse_credentials(name)?;
    let named = |error: DataFusionError| from_datafusion(error).context(format!("'{name}'"));
    let state = session.state()?;
    let urls = match Pattern::of_folders(as_s3(name).as_ref()) {
        Some(pattern) => pattern.files(engine).await.map_err(|error| error.context(format!("'{name}'")))?,
        None => vec![parse(as_s3(name).as_ref()).map_err(named)?],
    };
    // Fails early, and with the names of endpoint and bucket, if the store is not to be reached.
    let first = match first_file(engine, &state, &urls).await.map_err(named)? {
        Some(file) => file,
        None => return Err(no_file(name)),
    };
    let (extension, compression) =
        ListingTableConfig::infer_file_extension_and_compression_type(first.location.as_ref()).map_err(named)?;
    let reader =
        reader(&state, &extension, compression.as_deref()).map_err(|error| error.context(format!("'{name}'")))?;
    let suffix = match compression {
        Some(compression) => format!("{extension}.{compression}"),
        None => extension,
    };
    let options = ListingOptions::new(reader).with_file_extension(suffix);
    let config = ListingTableConfig::new_with_multi_paths(urls).with_listing_options(options);
    let config = config.infer_partitions_from_path(&state).await.map_err(named)?;
    let config = config.infer_schema(&state).await.map_err(named)?;
    let table = ListingTable::try_new(config)
        .map_err(named)?
        .with_cache(engine.runtime.cache_manager.get_file_statistic_cache());
    Ok(Some(Arc::new(PathTable { inner: table })))
}

/// Files by their path, with scans that name the file in errors.
#[derive(Debug)]
struct PathTable {
    inner: ListingTable,
}

#[async_trait]
impl TableProvider for PathTable {
    fn schema(&self) -> SchemaRef {
        self.inner.schema()
    }

    fn table_type(&self) -> TableType {
        self.inner.table_type()
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        Ok(name_files(self.inner.scan(state, projection, filters, limit).await?))
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        self.inner.supports_filters_pushdown(filters)
    }

    fn statistics(&self) -> Option<Statistics> {
        self.inner.statistics()
    }
}

/// The first file with bytes in it that is not hidden.
async fn first_file(
    engine: &Engine,
    state: &SessionState,
    urls: &[ListingTableUrl],
) -> Result<Option<ObjectMeta>, DataFusionError> {
    for url in urls {
        let store = engine.runtime.object_store(url)?;
        let mut files = url.list_all_files(state, store.as_ref(), "").await?;
        while let Some(file) = files.next().await.transpose()? {
            if file.size > 0 && !is_hidden(file.location.filename()) {
                return Ok(Some(file));
            }
        }
    }
    Ok(None)
}

/// A path with `*`, `?`, `[…]` in the name of a folder, or with `**`, which DataFusion does not look for.
struct Pattern {
    /// The folder before the first pattern.
    root: String,
    /// What matches the path of a file below it.
    matcher: glob::Pattern,
}

impl Pattern {
    /// The pattern that `name` is; `None` if only its last part has one.
    fn of_folders(name: &str) -> Option<Self> {
        let first = name.find(PATTERN_CHARS)?;
        let (root, rest) = name.split_at(name[..first].rfind('/').map_or(0, |slash| slash + 1));
        let all = if rest.ends_with('/') { "*" } else { "" };
        let rest = format!("{rest}{all}");
        if !rest.contains('/') && !rest.contains("**") {
            return None;
        }
        let root = if root.is_empty() { "./" } else { root };
        Some(Self { root: root.to_owned(), matcher: glob::Pattern::new(&rest).ok()? })
    }

    /// The files that match, by name.
    async fn files(&self, engine: &Engine) -> Result<Vec<ListingTableUrl>> {
        let place = engine.stores.place(&self.root)?;
        let options = glob::MatchOptions { require_literal_separator: true, ..Default::default() };
        // A path of this machine is taken as it is, a URL of a file would be decoded.
        let root = place.local_path().map_or(place.root.as_str(), |_| "/");
        let mut found = BTreeSet::new();
        let mut files = place.store.list(Some(&place.path));
        while let Some(file) = files.next().await.transpose().map_err(|error| from_object_store(&error))? {
            let Some(parts) = file.location.prefix_match(&place.path) else { continue };
            let parts: Vec<_> = parts.collect();
            let path: String = parts.iter().map(AsRef::as_ref).collect::<Vec<_>>().join("/");
            if parts.iter().any(|part| is_hidden(Some(part.as_ref()))) || !self.matcher.matches_with(&path, options) {
                continue;
            }
            found.insert(format!("{root}{}", file.location));
            if found.len() > FILES_MAX {
                return Err(Error::resource_exhausted(format!("more than {FILES_MAX} files match"))
                    .with_hint("make a table with partitions of them"));
            }
        }
        found.iter().map(ListingTableUrl::parse).collect::<Result<_, _>>().map_err(from_datafusion)
    }
}

/// DataFusion looks for `*`, `?` and `[` in paths of this machine only; here they mean the same in every store.
fn parse(name: &str) -> Result<ListingTableUrl, DataFusionError> {
    let glob = name.find(PATTERN_CHARS).filter(|_| name.contains("://"));
    let Some((folder, pattern)) = glob.and_then(|glob| name[..glob].rfind('/')).map(|slash| name.split_at(slash + 1))
    else {
        return ListingTableUrl::parse(name);
    };
    ListingTableUrl::parse(folder)?.with_glob(pattern)
}

fn reader(state: &SessionState, extension: &str, compression: Option<&str>) -> Result<Arc<dyn FileFormat>> {
    if Format::parse(extension).is_ok_and(|format| format == Format::Orc) {
        return Format::Orc.reader(&Storage::default());
    }
    let factory = state.get_file_format_factory(extension).ok_or_else(|| unknown_format(&extension))?;
    let options: HashMap<String, String> = compression
        .map(|compression| ("format.compression".to_string(), compression.to_string()))
        .into_iter()
        .collect();
    factory.create(state as &dyn Session, &options).map_err(from_datafusion)
}

fn no_file(name: &str) -> Error {
    Error::not_found(format!("no file with rows in it matches '{name}'"))
}

fn unknown_format(extension: &dyn Display) -> Error {
    Error::unsupported(format!("files with the extension '{extension}'"))
        .with_hint("parquet, csv, json, avro, orc and arrow are read")
}

/// Names that begin with `_` or `.` are hidden from every engine of the Hive family.
fn is_hidden(file: Option<&str>) -> bool {
    file.is_none_or(|file| file.starts_with(['_', '.']))
}

fn as_s3(name: &str) -> Cow<'_, str> {
    match name.strip_prefix("s3a://").or_else(|| name.strip_prefix("s3n://")) {
        Some(rest) => Cow::Owned(format!("s3://{rest}")),
        None => Cow::Borrowed(name),
    }
}
