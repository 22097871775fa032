//! Listed files to a plan: one scan for each object store and way of reading, all of them together as one table.

use std::sync::Arc;

use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::stats::Precision;
use datafusion::common::{Statistics, TableReference, project_schema};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::metadata::DFParquetMetadata;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder};
use datafusion::datasource::table_schema::TableSchemaBuilder;
use datafusion::error::Result;
use datafusion::execution::cache::cache_manager::CachedFileMetadata;
use datafusion::execution::cache::{SchemaFingerprint, TableScopedPath};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::union::UnionExec;
use datafusion_datasource::compute_all_files_statistics;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore};
use tereza_catalog::model::{ColumnStatistics, Table};

use super::columns::{AnyCase, spelled_as_in};
use super::distincts::estimate_distincts;
use super::listing::{Folder, Listing};
use super::named::{name_files, named};
use crate::error::to_datafusion;
use crate::formats::{Format, Reading, spark};

/// What a query wants of a table.
pub(super) struct Request<'a> {
    /// The session.
    pub(super) state: &'a dyn Session,
    /// The columns of the table's files.
    pub(super) columns: SchemaRef,
    /// The partition keys.
    pub(super) keys: Vec<FieldRef>,
    /// Wanted columns by their places in columns and keys; `None` for all.
    pub(super) projection: Option<&'a Vec<usize>>,
    /// Rows that are enough.
    pub(super) limit: Option<usize>,
    /// Whether predicates are left to be evaluated on rows, so that a file may give fewer rows than it has.
    pub(super) has_row_filters: bool,
    /// The catalog's statistics of columns.
    pub(super) column_statistics: Vec<ColumnStatistics>,
}

/// Files that one scan can read.
struct Unit {
    store: Arc<dyn ObjectStore>,
    store_url: ObjectStoreUrl,
    reading: Reading,
    files: Vec<PartitionedFile>,
    /// Rows by the catalog's count; `None` if a partition has none.
    row_count: Option<u64>,
}

/// The plan that reads the listed files.
pub(super) async fn plan(request: &Request<'_>, listing: Listing) -> Result<Arc<dyn ExecutionPlan>> {
    let schema = request.table_schema();
    let units = units(&listing.table.table, listing.folders).map_err(to_datafusion)?;
    let mut plans = Vec::with_capacity(units.len());
    for unit in units {
        plans.push(request.plan_unit(unit).await?);
    }
    match plans.len() {
        0 => Ok(Arc::new(EmptyExec::new(project_schema(&schema, request.projection)?))),
        1 => Ok(plans.remove(0)),
        _ => UnionExec::try_new(plans),
    }
}

fn units(table: &Table, folders: Vec<Folder>) -> tereza_runtime::Result<Vec<Unit>> {
    let mut units: Vec<Unit> = Vec::new();
    for folder in folders {
        let format = Format::of_table(table, &folder.storage)?;
        let storage = spark::storage_of_files(table, &folder.storage);
        let folder_bytes: u64 = folder.files.iter().map(|file| file.size).sum();
        for file in folder.files {
            let name = file.location.filename().unwrap_or_default();
            let reading = Reading::of(format, storage, &table.parameters, name)?;
            // Where a folder's files go to several units, its rows are shared out by size.
            let row_count =
                folder.row_count.map(|rows| (rows as f64 * file.size as f64 / folder_bytes as f64).round() as u64);
            let file = PartitionedFile::new_from_meta(file).with_partition_values(folder.values.clone());
            match units.iter_mut().find(|unit| unit.store_url == folder.store_url && unit.reading == reading) {
                Some(unit) => {
                    unit.files.push(file);
                    unit.row_count = unit.row_count.zip(row_count).map(|(sum, rows)| sum.saturating_add(rows));
                }
                None => units.push(Unit {
                    store: Arc::clone(&folder.store),
                    store_url: folder.store_url.clone(),
                    reading,
                    files: vec![file],
                    row_count,
                }),
            }
        }
    }
    Ok(units)
}

impl Request<'_> {
    /// Columns, then keys.
    fn table_schema(&self) -> SchemaRef {
        let table = TableSchemaBuilder::from(&self.columns).with_table_partition_cols(self.keys.clone()).build();
        Arc::clone(table.table_schema())
    }

    async fn plan_unit(&self, unit: Unit) -> Result<Arc<dyn ExecutionPlan>> {
        let format = unit.reading.reader(self.state.default_table_options().parquet).map_err(to_datafusion)?;
        let collects = self.state.config().collect_statistics();
        let listed_bytes: u64 = unit.files.iter().map(|file| file.object_meta.size).sum();
        let catalog_rows = unit.row_count;
        let compression = format.compression_type();
        let store_url = unit.store_url.clone();

        let (files, is_whole) = self.with_statistics(unit, &format).await?;
        let groups = files.split_files(self.state.config().target_partitions().max(1));
        let (groups, statistics) = compute_all_files_statistics(groups, self.table_schema(), collects, !is_whole)?;
        let statistics = self.with_catalog_statistics(statistics, catalog_rows, listed_bytes);

        let table = TableSchemaBuilder::from(&self.columns).with_table_partition_cols(self.keys.clone()).build();
        let mut config = FileScanConfigBuilder::new(store_url, format.file_source(table))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(self.projection.cloned())?
            .with_limit(self.limit)
            .with_expr_adapter(Some(Arc::new(AnyCase)));
        if let Some(compression) = compression {
            config = config.with_file_compression_type(compression);
        }
        Ok(name_files(format.create_physical_plan(self.state, config.build()).await?))
    }

    /// The unit's files with what is known of each. With a limit, files beyond those that have enough rows are left out;
    /// then the second value is false.
    async fn with_statistics(&self, unit: Unit, format: &Arc<dyn FileFormat>) -> Result<(FileGroup, bool)> {
        let Unit { store, store_url, reading, files, .. } = unit;
        let limit = self.limit.filter(|_| !self.has_row_filters);
        let fingerprint = Arc::new(SchemaFingerprint::from_schema(&self.columns));
        let collects = self.state.config().collect_statistics() && reading.has_statistics();
        let concurrency = self.state.config_options().execution.meta_fetch_concurrency.get();
        let file_count = files.len();

        let (store, store_url, fingerprint) = (&store, &store_url, &fingerprint);
        let is_parquet = reading.format == Format::Parquet;
        let mut described = futures::stream::iter(files)
            .map(|file| async move {
                let statistics = if collects {
                    self.statistics_of(format, is_parquet, store, store_url, &file.object_meta, fingerprint)
                        .await
                        .map_err(|error| named(error, store_url, &file.object_meta.location))?
                } else {
                    Arc::new(Statistics::new_unknown(&self.columns))
                };
                Result::<PartitionedFile>::Ok(with_partition_statistics(file, statistics))
            })
            .buffered(concurrency)
            .boxed();

        let mut group = FileGroup::default();
        let mut rows: usize = 0;
        while let Some(file) = described.try_next().await? {
            let file_rows = file.statistics.as_ref().map_or(Precision::Absent, |statistics| statistics.num_rows);
            group.push(file);
            let Precision::Exact(file_rows) = file_rows else { continue };
            rows = rows.saturating_add(file_rows);
            if limit.is_some_and(|limit| rows > limit) {
                break;
            }
        }
        let is_whole = group.len() == file_count;
        Ok((group, is_whole))
    }

    /// Statistics of a file's columns, from the cache or from the file's footer.
    async fn statistics_of(
        &self,
        format: &Arc<dyn FileFormat>,
        is_parquet: bool,
        store: &Arc<dyn ObjectStore>,
        store_url: &ObjectStoreUrl,
        file: &ObjectMeta,
        fingerprint: &Arc<SchemaFingerprint>,
    ) -> Result<Arc<Statistics>> {
        let cache = self.state.runtime_env().cache_manager.get_file_statistic_cache();
        // Paths are unique in a store only.
        let key =
            TableScopedPath { table: Some(TableReference::bare(store_url.as_str())), path: file.location.clone() };
        if let Some(cached) = cache.as_ref().and_then(|cache| cache.get(&key))
            && cached.is_valid_for(file, fingerprint)
        {
            return Ok(Arc::clone(&cached.statistics));
        }
        let statistics = if is_parquet {
            let in_file = format.infer_schema(self.state, store, std::slice::from_ref(file)).await?;
            let columns = spelled_as_in(&in_file, &self.columns);
            let statistics = format.infer_stats(self.state, store, Arc::clone(&columns), file).await?;
            let mut statistics = without_ranges_of_other_types(statistics, &in_file, &columns);
            // The footer was read for the above, so the cache has it.
            let footers = self.state.runtime_env().cache_manager.get_file_metadata_cache();
            let reader = DFParquetMetadata::new(store, file).with_file_metadata_cache(Some(footers));
            let footer = reader.fetch_metadata().await?;
            estimate_distincts(&footer, &columns, &mut statistics.column_statistics);
            statistics
        } else {
            format.infer_stats(self.state, store, Arc::clone(&self.columns), file).await?
        };
        let statistics = Arc::new(statistics);
        if let Some(cache) = cache {
            let entry = CachedFileMetadata::new(file.clone(), Arc::clone(fingerprint), Arc::clone(&statistics), None);
            cache.put(&key, entry);
        }
        Ok(statistics)
    }

    /// `statistics` of files with the catalog's where the files do not tell: all of those are estimates.
    fn with_catalog_statistics(&self, mut statistics: Statistics, rows: Option<u64>, listed_bytes: u64) -> Statistics {
        if statistics.num_rows == Precision::Absent
            && let Some(rows) = rows.and_then(|rows| usize::try_from(rows).ok())
        {
            statistics.num_rows = Precision::Inexact(rows);
        }
        if statistics.total_byte_size == Precision::Absent
            && let Ok(bytes) = usize::try_from(listed_bytes)
        {
            statistics.total_byte_size = Precision::Inexact(bytes);
        }
        for known in &self.column_statistics {
            let Ok(place) = self.columns.index_of(&known.column) else { continue };
            let Some(column) = statistics.column_statistics.get_mut(place) else { continue };
            if !matches!(column.distinct_count, Precision::Exact(_))
                && let Some(distincts) = known.num_distincts.and_then(|distincts| usize::try_from(distincts).ok())
            {
                column.distinct_count = Precision::Inexact(distincts);
            }
        }
        statistics
    }
}

/// `statistics` without lowest and highest values of columns that the file has in another type than the table: DataFusion
/// takes those for NULL, exactly, and would answer `max(c)` from the other files alone.
fn without_ranges_of_other_types(mut statistics: Statistics, file: &Schema, columns: &Schema) -> Statistics {
    for (column, known) in columns.fields().iter().zip(&mut statistics.column_statistics) {
        let Ok(field) = file.field_with_name(column.name()) else { continue };
        let is_read_as_column = match column.data_type() {
            DataType::Utf8View => field.data_type().is_string() || field.data_type().is_binary(),
            DataType::BinaryView => field.data_type().is_binary(),
            data_type => data_type == field.data_type(),
        };
        if !is_read_as_column {
            known.min_value = Precision::Absent;
            known.max_value = Precision::Absent;
        }
    }
    statistics
}

/// The file with its statistics and those of its partition keys. DataFusion takes partition keys for never NULL; where
/// one is, its statistics are put right.
fn with_partition_statistics(file: PartitionedFile, statistics: Arc<Statistics>) -> PartitionedFile {
    let column_count = statistics.column_statistics.len();
    let mut file = file.with_statistics(statistics);
    if !file.partition_values.iter().any(|value| value.is_null()) {
        return file;
    }
    let Some(mut statistics) = file.statistics.take().map(Arc::unwrap_or_clone) else { return file };
    let rows = statistics.num_rows;
    for (key, value) in statistics.column_statistics.iter_mut().skip(column_count).zip(&file.partition_values) {
        if value.is_null() {
            key.null_count = rows;
            key.min_value = Precision::Absent;
            key.max_value = Precision::Absent;
            key.distinct_count = Precision::Absent;
        }
    }
    file.statistics = Some(Arc::new(statistics));
    file
}
