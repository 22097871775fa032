//! Files by path: `SELECT … FROM 's3://bucket/path/*.parquet'`.
//!
//! DataFusion's listing table reads them; what is added here is the format by the first file's extension (ORC too), `s3a://`
//! for `s3://`, and errors that name the path.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::session_state::SessionState;
use futures::StreamExt;
use tereza_catalog::model::Storage;
use tereza_runtime::{Error, Result};

use super::OwnSession;
use crate::engine::Engine;
use crate::error::from_datafusion;
use crate::formats::Format;
use crate::stores::refuse_credentials;

/// The table of files that `name` names, or `None` if it is not a path.
///
/// A path has a `/` or the extension of a known format, so a mistyped table name stays a table name.
pub(crate) async fn file_table(
    engine: &Arc<Engine>,
    session: &OwnSession,
    name: &str,
) -> Result<Option<Arc<dyn TableProvider>>> {
    let extension = name.rsplit_once('.').map(|(_, extension)| extension);
    if !name.contains('/') && extension.is_none_or(|word| Format::parse(word).is_err()) {
        return Ok(None);
    }
    refuse_credentials(name)?;
    let named = |error: DataFusionError| from_datafusion(error).context(format!("'{name}'"));
    let state = session.state()?;
    let url = parse(as_s3(name).as_ref()).map_err(named)?;
    // Fails early, and with the names of endpoint and bucket, if the store is not to be reached.
    let store = engine.runtime.object_store(&url).map_err(named)?;
    let mut files = url.list_all_files(&state, store.as_ref(), "").await.map_err(named)?;
    let first = loop {
        let file = files.next().await.ok_or_else(|| no_file(name))?.map_err(named)?;
        if file.size > 0 && !is_hidden(file.location.filename()) {
            break file;
        }
    };
    drop(files);
    let (extension, compression) =
        ListingTableConfig::infer_file_extension_and_compression_type(first.location.as_ref()).map_err(named)?;
    let reader =
        reader(&state, &extension, compression.as_deref()).map_err(|error| error.context(format!("'{name}'")))?;
    let suffix = match compression {
        Some(compression) => format!("{extension}.{compression}"),
        None => extension,
    };
    let options = ListingOptions::new(reader).with_file_extension(suffix);
    let config = ListingTableConfig::new(url).with_listing_options(options);
    let config = config.infer_partitions_from_path(&state).await.map_err(named)?;
    let config = config.infer_schema(&state).await.map_err(named)?;
    let table = ListingTable::try_new(config)
        .map_err(named)?
        .with_cache(engine.runtime.cache_manager.get_file_statistic_cache());
    Ok(Some(Arc::new(table)))
}

/// DataFusion looks for `*`, `?` and `[` in paths of this machine only; here they mean the same in every store.
fn parse(name: &str) -> Result<ListingTableUrl, DataFusionError> {
    let glob = name.find(['*', '?', '[']).filter(|_| name.contains("://"));
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
