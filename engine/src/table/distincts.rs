//! How many distinct values a text column of a Parquet file has, from the sizes of its dictionaries.
//!
//! Writers leave the count out of the footer, but nearly all of them write texts with a dictionary, and where it lies is in
//! the footer: what is between its offset and that of the first data page is its size. A column of few values tells itself
//! from one of many by that, at no cost.

use arrow::datatypes::Schema;
use datafusion::common::ColumnStatistics;
use datafusion::common::stats::Precision;
use parquet::basic::{Compression, Encoding};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

/// Bytes of a page's header, of which many are optional.
const HEADER_BYTES: f64 = 24.0;
/// Bytes that stand before each text: its length.
const LENGTH_BYTES: f64 = 4.0;
/// How many times smaller texts are in a compressed dictionary: 1.5 to 3 were seen.
const COMPRESSED_BY: f64 = 2.0;

/// Sets the distinct values of text columns that have none yet.
pub(super) fn estimate_distincts(metadata: &ParquetMetaData, columns: &Schema, statistics: &mut [ColumnStatistics]) {
    let leaves = metadata.file_metadata().schema_descr().columns();
    for (column, known) in columns.fields().iter().zip(statistics) {
        if !column.data_type().is_string() || known.distinct_count != Precision::Absent {
            continue;
        }
        let is_column = |parts: &[String]| matches!(parts, [name] if name == column.name());
        let Some(leaf) = leaves.iter().position(|leaf| is_column(leaf.path().parts())) else { continue };
        // Row groups are taken to have the same values: a sorted column has more than this says.
        let groups = metadata.row_groups().iter().map(|group| in_dictionary(group.column(leaf)));
        if let Some(Some(values)) = groups.reduce(|left, right| Some(left?.max(right?))) {
            known.distinct_count = Precision::Inexact(values);
        }
    }
}

/// About how many texts the dictionary of a chunk has; `None` if it is not known, or if the chunk has others too.
fn in_dictionary(chunk: &ColumnChunkMetaData) -> Option<usize> {
    let is_dictionary = |encoding| chunk.page_encoding_stats_mask().is_some_and(|mask| mask.is_only(encoding));
    if !is_dictionary(Encoding::RLE_DICTIONARY) && !is_dictionary(Encoding::PLAIN_DICTIONARY) {
        return None;
    }
    let bytes = chunk.data_page_offset().checked_sub(chunk.dictionary_page_offset()?)? as f64 - HEADER_BYTES;
    let bounds = chunk.statistics()?;
    let length = (bounds.min_bytes_opt()?.len() + bounds.max_bytes_opt()?.len()) as f64 / 2.0;
    let compressed_by = if chunk.compression() == Compression::UNCOMPRESSED { 1.0 } else { COMPRESSED_BY };
    let values = (bytes * compressed_by / (LENGTH_BYTES + length)).round().max(1.0);
    Some(values.min(chunk.num_values() as f64) as usize)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, RecordBatch, StringArray};
    use parquet::arrow::ArrowWriter;
    use parquet::file::metadata::ParquetMetaDataReader;
    use parquet::file::properties::WriterProperties;

    use super::*;

    /// The estimate for a column that has one of so many texts in each row.
    fn estimated(values: usize, compression: Compression, has_dictionary: bool) -> Precision<usize> {
        let text = |row: usize| format!("{} {} PLATED", ["ECONOMY", "LARGE", "PROMO"][row % 3], (row % values) * 7919);
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..20_000).map(text)));
        let batch = RecordBatch::try_from_iter([("c", texts)]).unwrap();
        let properties = WriterProperties::builder()
            .set_compression(compression)
            .set_dictionary_enabled(has_dictionary)
            .set_max_row_group_row_count(Some(8_000))
            .build();
        let mut file = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut file, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let metadata = ParquetMetaDataReader::new().parse_and_finish(&bytes::Bytes::from(file)).unwrap();
        let mut statistics = [ColumnStatistics::new_unknown()];
        estimate_distincts(&metadata, &batch.schema(), &mut statistics);
        statistics[0].distinct_count
    }

    #[test]
    fn dictionaries_tell_few_values_from_many() {
        for compression in [Compression::UNCOMPRESSED, Compression::SNAPPY] {
            for values in [3, 30, 300, 3_000] {
                let Precision::Inexact(estimated) = estimated(values, compression, true) else { panic!() };
                let off_by = estimated as f64 / values as f64;
                assert!((0.3..=3.0).contains(&off_by), "{values} with {compression}: {estimated}");
            }
        }
    }

    #[test]
    fn without_a_dictionary_nothing_is_known() {
        assert_eq!(estimated(30, Compression::SNAPPY, false), Precision::Absent);
    }
}
