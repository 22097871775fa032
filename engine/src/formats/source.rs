//! The file source and file format around an own reader of files: projection, partition values and split files are the
//! same for every reader and live here.

use std::fmt;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{Schema, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::catalog::Session;
use datafusion::common::parsers::CompressionTypeVariant;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::datasource::file_format::FileFormat;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileOpenFuture, FileOpener, FileScanConfig, FileScanConfigBuilder, FileSource,
};
use datafusion::datasource::projection::{ProjectionOpener, SplitProjection};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::projection::ProjectionExprs;
use datafusion::physical_plan::{ExecutionPlan, PhysicalExpr, apply_expression_roots};
use datafusion_datasource::boundary_stream::AlignedBoundaryStream;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::json::JsonReader;
use super::json::bytes::JsonBytes;
use super::orc::OrcReader;
use super::text::{TextOptions, TextReader};
use crate::error::{from_datafusion, to_datafusion};

/// Reads the rows of a file of one format.
#[async_trait]
pub(super) trait FileReader: fmt::Debug + Send + Sync + 'static {
    /// What to make the same reader of elsewhere.
    fn kind(&self) -> ReaderKind;

    /// The format's name in plans.
    fn name(&self) -> &'static str;

    /// Whether a part of a file, by its range of bytes, can be read on its own.
    fn reads_ranges(&self) -> bool;

    /// The rows of `file`, or of its range, with the columns of `request`.
    async fn read(
        &self,
        store: Arc<dyn ObjectStore>,
        file: &PartitionedFile,
        request: Request,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>>;

    /// The columns of a file and its number of rows, if the file tells without being read whole.
    async fn describe(&self, store: &Arc<dyn ObjectStore>, file: &ObjectMeta) -> Result<Option<(SchemaRef, usize)>>;
}

/// The text of a file of lines, or of the lines that begin in its range, as it was before it was compressed.
pub(super) async fn open(
    store: Arc<dyn ObjectStore>,
    file: &PartitionedFile,
    request: &Request,
) -> Result<BoxStream<'static, Result<Bytes>>> {
    let meta = &file.object_meta;
    let bytes = match &file.range {
        None => store.get(&meta.location).await?.into_stream(),
        Some(_) => {
            let (start, end) = file.range();
            AlignedBoundaryStream::new(store, meta.location.clone(), start, end, meta.size, b'\n').await?.boxed()
        }
    };
    request.compression.convert_stream(bytes.map_err(DataFusionError::from).boxed())
}

/// A reader as it travels to another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ReaderKind {
    /// ORC.
    Orc,
    /// JSON with columns in lower case.
    Json(JsonBytes),
    /// Delimited text.
    Text(TextOptions),
}

impl ReaderKind {
    fn reader(self) -> Arc<dyn FileReader> {
        match self {
            Self::Orc => Arc::new(OrcReader),
            Self::Json(bytes) => Arc::new(JsonReader { bytes }),
            Self::Text(options) => Arc::new(TextReader::new(options)),
        }
    }
}

/// What to read of a file.
#[derive(Debug, Clone)]
pub(super) struct Request {
    /// All columns of the table's files.
    pub(super) columns: SchemaRef,
    /// Which of them are wanted, by their places, in ascending order.
    pub(super) wanted: Vec<usize>,
    /// Rows of a batch.
    pub(super) batch_size_rows: usize,
    /// How the file is compressed as a whole.
    pub(super) compression: FileCompressionType,
}

impl Request {
    /// The wanted columns: what batches must have, exactly.
    pub(super) fn schema(&self) -> Result<SchemaRef> {
        Ok(Arc::new(self.columns.project(&self.wanted)?))
    }
}

/// A file format made of a [`FileReader`].
#[derive(Debug)]
pub(super) struct RowFormat<R> {
    reader: Arc<R>,
    extension: &'static str,
    compression: FileCompressionType,
}

impl<R: FileReader> RowFormat<R> {
    /// The format whose files `reader` reads.
    pub(super) fn new(reader: R, extension: &'static str, compression: CompressionTypeVariant) -> Self {
        Self { reader: Arc::new(reader), extension, compression: compression.into() }
    }
}

#[async_trait]
impl<R: FileReader> FileFormat for RowFormat<R> {
    fn get_ext(&self) -> String {
        self.extension.to_owned()
    }

    fn get_ext_with_compression(&self, compression: &FileCompressionType) -> Result<String> {
        use datafusion::common::GetExt;

        Ok(format!("{}{}", self.extension, compression.get_ext()))
    }

    fn compression_type(&self) -> Option<FileCompressionType> {
        Some(self.compression)
    }

    async fn infer_schema(
        &self,
        _state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        objects: &[ObjectMeta],
    ) -> Result<SchemaRef> {
        let mut schemas = Vec::with_capacity(objects.len());
        for object in objects {
            let described = self.reader.describe(store, object).await.map_err(|error| named(error, object))?;
            let Some((schema, _)) = described else {
                return Err(DataFusionError::NotImplemented(format!("columns of {} files", self.reader.name())));
            };
            schemas.push(schema.as_ref().clone());
        }
        Ok(Arc::new(Schema::try_merge(schemas)?))
    }

    async fn infer_stats(
        &self,
        _state: &dyn Session,
        store: &Arc<dyn ObjectStore>,
        table_schema: SchemaRef,
        object: &ObjectMeta,
    ) -> Result<Statistics> {
        let mut statistics = Statistics::new_unknown(&table_schema);
        if let Some((_, rows)) = self.reader.describe(store, object).await? {
            statistics.num_rows = Precision::Exact(rows);
        }
        Ok(statistics)
    }

    async fn create_physical_plan(
        &self,
        _state: &dyn Session,
        config: FileScanConfig,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let config = FileScanConfigBuilder::from(config).with_file_compression_type(self.compression).build();
        Ok(DataSourceExec::from_data_source(config))
    }

    fn file_source(&self, table_schema: TableSchema) -> Arc<dyn FileSource> {
        Arc::new(RowSource::new(Arc::clone(&self.reader) as Arc<dyn FileReader>, table_schema))
    }
}

/// A file source made of a [`FileReader`].
#[derive(Clone)]
pub(crate) struct RowSource {
    reader: Arc<dyn FileReader>,
    table_schema: TableSchema,
    projection: SplitProjection,
    batch_size_rows: Option<usize>,
    metrics: ExecutionPlanMetricsSet,
}

impl RowSource {
    fn new(reader: Arc<dyn FileReader>, table_schema: TableSchema) -> Self {
        let projection = SplitProjection::unprojected(&table_schema);
        Self { reader, table_schema, projection, batch_size_rows: None, metrics: ExecutionPlanMetricsSet::new() }
    }

    /// A source around a reader that came from another process.
    pub(crate) fn reading(
        kind: ReaderKind,
        table_schema: &TableSchema,
        projection: Option<&ProjectionExprs>,
    ) -> Result<Arc<dyn FileSource>> {
        let source = Self::new(kind.reader(), table_schema.clone());
        let projected = projection.map(|projection| source.try_pushdown_projection(projection)).transpose()?;
        Ok(projected.flatten().unwrap_or_else(|| Arc::new(source)))
    }

    /// Its reader, for another process.
    pub(crate) fn kind(&self) -> ReaderKind {
        self.reader.kind()
    }
}

impl FileSource for RowSource {
    fn create_file_opener(
        &self,
        store: Arc<dyn ObjectStore>,
        config: &FileScanConfig,
        _partition: usize,
    ) -> Result<Arc<dyn FileOpener>> {
        let batch_size_rows = self
            .batch_size_rows
            .ok_or_else(|| DataFusionError::Internal("a file is opened before its batch size is set".into()))?;
        let request = Request {
            columns: Arc::clone(self.table_schema.file_schema()),
            wanted: self.projection.file_indices.clone(),
            batch_size_rows,
            compression: config.file_compression_type,
        };
        let opener = Arc::new(RowOpener { reader: Arc::clone(&self.reader), store, request });
        ProjectionOpener::try_new(self.projection.clone(), opener, self.table_schema.file_schema())
    }

    fn table_schema(&self) -> &TableSchema {
        &self.table_schema
    }

    fn with_batch_size(&self, batch_size: usize) -> Arc<dyn FileSource> {
        Arc::new(Self { batch_size_rows: Some(batch_size), ..self.clone() })
    }

    fn projection(&self) -> Option<&ProjectionExprs> {
        Some(&self.projection.source)
    }

    fn try_pushdown_projection(&self, projection: &ProjectionExprs) -> Result<Option<Arc<dyn FileSource>>> {
        let merged = self.projection.source.try_merge(projection)?;
        let projection = SplitProjection::new(self.table_schema.file_schema(), &merged);
        Ok(Some(Arc::new(Self { projection, ..self.clone() })))
    }

    fn metrics(&self) -> &ExecutionPlanMetricsSet {
        &self.metrics
    }

    fn file_type(&self) -> &str {
        self.reader.name()
    }

    fn supports_repartitioning(&self) -> bool {
        self.reader.reads_ranges()
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        apply_expression_roots(self.projection.source.iter(), f)
    }
}

/// Opens files with a [`FileReader`].
struct RowOpener {
    reader: Arc<dyn FileReader>,
    store: Arc<dyn ObjectStore>,
    request: Request,
}

impl FileOpener for RowOpener {
    fn open(&self, file: PartitionedFile) -> Result<FileOpenFuture> {
        let reader = Arc::clone(&self.reader);
        let store = Arc::clone(&self.store);
        let request = self.request.clone();
        Ok(Box::pin(async move { reader.read(store, &file, request).await }))
    }
}

fn named(error: DataFusionError, file: &ObjectMeta) -> DataFusionError {
    to_datafusion(from_datafusion(error).context(format!("file '{}'", file.location)))
}
