//! ORC files, read with `orc-rust`: columns by name as in the other formats, missing ones as NULL, narrower ones widened.

use std::sync::Arc;

use arrow::array::{RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Field, Schema, SchemaRef};
use async_trait::async_trait;
use bytes::Bytes;
use datafusion::common::{DataFusionError, Result};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::physical_expr_adapter::BatchAdapterFactory;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use object_store::path::Path;
use object_store::{ObjectMeta, ObjectStore, ObjectStoreExt};
use orc_rust::arrow_reader::ArrowReaderBuilder;
use orc_rust::error::OrcError;
use orc_rust::projection::ProjectionMask;
use orc_rust::reader::AsyncChunkReader;
use orc_rust::schema::TimestampPrecision;

use super::source::{FileReader, ReaderKind, Request};
use crate::table::AnyCase;

/// Reads ORC files.
#[derive(Debug)]
pub(super) struct OrcReader;

#[async_trait]
impl FileReader for OrcReader {
    fn kind(&self) -> ReaderKind {
        ReaderKind::Orc
    }

    fn name(&self) -> &'static str {
        "orc"
    }

    /// A range stands for the stripes that begin in it.
    fn reads_ranges(&self) -> bool {
        true
    }

    async fn read(
        &self,
        store: Arc<dyn ObjectStore>,
        file: &PartitionedFile,
        request: Request,
    ) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let mut builder = open(store, &file.object_meta).await?.with_batch_size(request.batch_size_rows);
        if let Some(range) = &file.range {
            builder = builder.with_file_byte_range(offset(range.start)?..offset(range.end)?);
        }

        let names = table_names(&builder.schema(), &request.columns);
        let wanted = request.schema()?;
        let root = builder.file_metadata().root_data_type();
        let columns = root.children().iter().zip(&names);
        let wanted_columns = columns.filter(|(_, name)| wanted.column_with_name(name).is_some());
        let mask = ProjectionMask::roots(root, wanted_columns.map(|(column, _)| column.data_type().column_index()));
        let rows = builder.with_projection(mask).build_async();

        // From here on the file's columns have the table's names.
        let read_names = names.iter().filter(|name| wanted.column_with_name(name).is_some());
        let file_schema = rows.schema();
        let fields =
            file_schema.fields().iter().zip(read_names).map(|(field, name)| field.as_ref().clone().with_name(name));
        let renamed = Arc::new(Schema::new(fields.collect::<Vec<Field>>()));
        let adapter =
            BatchAdapterFactory::new(wanted).with_adapter_factory(Arc::new(AnyCase)).make_adapter(&renamed)?;
        let rows = rows.map(move |batch| {
            let batch = batch?;
            let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
            let batch = RecordBatch::try_new_with_options(Arc::clone(&renamed), batch.columns().to_vec(), &options)?;
            adapter.adapt_batch(&batch)
        });
        Ok(rows.boxed())
    }

    async fn describe(&self, store: &Arc<dyn ObjectStore>, file: &ObjectMeta) -> Result<Option<(SchemaRef, usize)>> {
        let builder = open(Arc::clone(store), file).await?;
        let rows = usize::try_from(builder.file_metadata().number_of_rows())
            .map_err(|_| DataFusionError::Execution("more rows than this machine can count".into()))?;
        Ok(Some((builder.schema(), rows)))
    }
}

async fn open(store: Arc<dyn ObjectStore>, file: &ObjectMeta) -> Result<ArrowReaderBuilder<StoreReader>> {
    let reader = StoreReader { store, location: file.location.clone(), size_bytes: file.size };
    let builder = ArrowReaderBuilder::try_new_async(reader).await.map_err(external)?;
    // Microseconds, as the table's timestamps: nanoseconds end in the year 2262.
    Ok(builder.with_timestamp_precision(TimestampPrecision::Microsecond))
}

/// The table's name of each column of a file: the same name but for upper and lower case. Old writers of Hive called
/// columns `_col0`, `_col1`, …, which stand for the places in the table.
fn table_names(file: &Schema, table: &Schema) -> Vec<String> {
    let by_place = !file.fields().is_empty()
        && file.fields().iter().enumerate().all(|(place, field)| *field.name() == format!("_col{place}"));
    let name = |(place, field): (usize, &Arc<Field>)| {
        let column = if by_place {
            table.fields().get(place)
        } else {
            table.fields().iter().find(|column| column.name().eq_ignore_ascii_case(field.name()))
        };
        column.map_or_else(|| field.name().clone(), |column| column.name().clone())
    };
    file.fields().iter().enumerate().map(name).collect()
}

fn offset(bytes: i64) -> Result<usize> {
    usize::try_from(bytes).map_err(|_| DataFusionError::Internal(format!("a file range at {bytes}")))
}

fn external(error: OrcError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

/// The bytes of one file for `orc-rust`.
struct StoreReader {
    store: Arc<dyn ObjectStore>,
    location: Path,
    size_bytes: u64,
}

impl AsyncChunkReader for StoreReader {
    fn len(&mut self) -> BoxFuture<'_, std::io::Result<u64>> {
        futures::future::ready(Ok(self.size_bytes)).boxed()
    }

    fn get_bytes(&mut self, offset_from_start: u64, length: u64) -> BoxFuture<'_, std::io::Result<Bytes>> {
        // A stream without values, as of a column of NULLs, has no bytes; object stores refuse to read none.
        if length == 0 {
            return futures::future::ready(Ok(Bytes::new())).boxed();
        }
        let range = offset_from_start..offset_from_start.saturating_add(length);
        async move { self.store.get_range(&self.location, range).await.map_err(std::io::Error::from) }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int32Array, StringArray};
    use arrow::datatypes::DataType;
    use arrow::util::pretty::pretty_format_batches;
    use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
    use futures::TryStreamExt;
    use object_store::PutPayload;
    use object_store::memory::InMemory;
    use orc_rust::arrow_writer::ArrowWriterBuilder;

    use super::*;

    async fn read(columns: Vec<(&str, ArrayRef)>, wanted: Vec<usize>) -> Vec<RecordBatch> {
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriterBuilder::new(&mut bytes, batch.schema()).try_build().unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();

        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let path = Path::from("t/file");
        store.put(&path, PutPayload::from(bytes)).await.unwrap();
        let file = PartitionedFile::new_from_meta(store.head(&path).await.unwrap());
        let (_, rows) = OrcReader.describe(&store, &file.object_meta).await.unwrap().unwrap();
        assert_eq!(rows, 2);
        let request = Request {
            columns: Arc::new(Schema::new(vec![
                Field::new("id", DataType::Int64, true),
                Field::new("late", DataType::Date32, true),
                Field::new("name", DataType::Utf8View, true),
            ])),
            wanted,
            batch_size_rows: 1024,
            compression: FileCompressionType::UNCOMPRESSED,
        };
        let schema = request.schema().unwrap();
        let batches: Vec<RecordBatch> =
            OrcReader.read(store, &file, request).await.unwrap().try_collect().await.unwrap();
        let types = |schema: &Schema| -> Vec<(String, DataType)> {
            schema.fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect()
        };
        assert!(batches.iter().all(|batch| types(&batch.schema()) == types(&schema)));
        batches
    }

    fn columns(names: [&str; 3]) -> Vec<(&str, ArrayRef)> {
        let text: ArrayRef = Arc::new(StringArray::from(vec!["a", "b"]));
        let ids: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        vec![(names[0], text), (names[1], Arc::clone(&ids)), (names[2], ids)]
    }

    #[tokio::test]
    async fn columns_are_found_by_name() {
        let shown =
            pretty_format_batches(&read(columns(["Name", "extra", "ID"]), vec![0, 1, 2]).await).unwrap().to_string();
        assert!(shown.contains("| 1  |      | a    |"), "{shown}");
        assert!(shown.contains("| 2  |      | b    |"), "{shown}");
        let none = read(columns(["Name", "extra", "ID"]), vec![]).await;
        assert_eq!(none.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
    }

    #[tokio::test]
    async fn nothing_can_be_read() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let location = Path::from("t/file");
        store.put(&location, PutPayload::from_static(b"abc")).await.unwrap();
        let mut reader = StoreReader { store, location, size_bytes: 3 };
        assert_eq!(reader.get_bytes(1, 0).await.unwrap(), Bytes::new());
        assert_eq!(reader.get_bytes(1, 2).await.unwrap(), Bytes::from_static(b"bc"));
    }

    #[tokio::test]
    async fn names_of_old_writers_stand_for_places() {
        let ids: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
        let batches = read(vec![("_col0", ids)], vec![0, 2]).await;
        let shown = pretty_format_batches(&batches).unwrap().to_string();
        assert!(shown.contains("| 2  |      |"), "{shown}");
    }
}
