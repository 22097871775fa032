//! Keys: their bytes, their hash and their group.
//!
//! The bytes of a key are its columns in Arrow's row format, all ascending with NULLs first. Both the format and the hash
//! below decide in which task a key lives and are written to snapshots and topics: they are frozen, and golden vectors in
//! the tests hold them.

use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::buffer::NullBuffer;
use arrow::compute::SortOptions;
use arrow::datatypes::{DataType, FieldRef, Schema};
use arrow::row::{RowConverter, RowParser, Rows, SortField};
use tereza_runtime::error::{Error, Result};

use super::error::failed;

/// Groups that keys are split into, whatever the number of tasks.
pub const KEY_GROUPS: usize = 256;

const LENGTH_FACTOR: u64 = 0xFF51_AFD7_ED55_8CCD;
const WORD_FACTOR: u64 = 0xC2B2_AE3D_27D4_EB4F;
const STATE_FACTOR: u64 = 0x9FB2_1C65_1E98_DF25;
const SEED: u64 = 0x9E37_79B9_7F4A_7C15;

/// The hash of a key's bytes, the same on every machine and in every release.
///
/// All arithmetic is modulo 2^64. `h = SEED ^ length * LENGTH_FACTOR`; then for each 8 bytes, little endian, the last ones
/// filled up with zeros, `h = rotate_left(h ^ word * WORD_FACTOR, 29) * STATE_FACTOR`; at the end the finalizer of
/// SplitMix64.
pub fn key_hash(bytes: &[u8]) -> u64 {
    let mix = |hash: u64, word: [u8; 8]| {
        (hash ^ u64::from_le_bytes(word).wrapping_mul(WORD_FACTOR)).rotate_left(29).wrapping_mul(STATE_FACTOR)
    };
    let mut hash = SEED ^ (bytes.len() as u64).wrapping_mul(LENGTH_FACTOR);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        hash = mix(hash, *word);
    }
    if !rest.is_empty() {
        let mut word = [0; 8];
        word[..rest.len()].copy_from_slice(rest);
        hash = mix(hash, word);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    hash ^ (hash >> 31)
}

/// The group of a key: the highest 8 bits of its hash.
pub fn key_group(bytes: &[u8]) -> u8 {
    (key_hash(bytes) >> 56) as u8
}

/// Hashes the keys of maps in memory: the same in every run, so that a task repeats itself.
#[derive(Debug, Default, Clone)]
pub struct KeyHasher(u64);

/// Makes [`KeyHasher`]s.
pub type BuildKeyHasher = BuildHasherDefault<KeyHasher>;

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0 = self.0.rotate_left(5) ^ key_hash(bytes);
    }

    fn write_usize(&mut self, value: usize) {
        self.0 = (self.0 ^ value as u64).wrapping_mul(WORD_FACTOR);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// Rows of some columns to bytes and back. The bytes sort as the columns do.
#[derive(Debug)]
pub struct RowCodec {
    converter: RowConverter,
    parser: RowParser,
    columns: Vec<usize>,
    fields: Vec<FieldRef>,
}

/// Encoded rows; those without columns are all the same.
#[derive(Debug)]
pub enum Encoded {
    /// One entry for each row.
    Rows(Rows),
    /// So many rows without bytes.
    Empty(usize),
}

impl Encoded {
    /// The bytes of a row.
    pub fn get(&self, row: usize) -> &[u8] {
        match self {
            Self::Rows(rows) => rows.row(row).data(),
            Self::Empty(_) => &[],
        }
    }

    /// Rows encoded.
    pub fn len(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.num_rows(),
            Self::Empty(rows) => *rows,
        }
    }

    /// Whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl RowCodec {
    /// For the columns of `schema` at `columns`, ascending with NULLs first.
    pub fn new(schema: &Schema, columns: &[usize]) -> Result<Self> {
        Self::sorted(schema, &columns.iter().map(|column| (*column, SortOptions::default())).collect::<Vec<_>>())
    }

    /// For all columns of `schema`.
    pub fn whole(schema: &Schema) -> Result<Self> {
        Self::new(schema, &(0..schema.fields().len()).collect::<Vec<_>>())
    }

    /// For columns with an order each.
    pub fn sorted(schema: &Schema, columns: &[(usize, SortOptions)]) -> Result<Self> {
        let mut fields = Vec::with_capacity(columns.len());
        let mut sorted = Vec::with_capacity(columns.len());
        for (column, options) in columns {
            let field = schema
                .fields()
                .get(*column)
                .ok_or_else(|| Error::internal(format!("column {column} of {} is not there", schema.fields().len())))?;
            let sort = SortField::new_with_options(field.data_type().clone(), *options);
            if is_encoded(field.data_type()) || !RowConverter::supports_fields(std::slice::from_ref(&sort)) {
                return Err(Error::unsupported(format!(
                    "column {} of type {} in the state of a stream job",
                    field.name(),
                    field.data_type()
                )));
            }
            fields.push(Arc::clone(field));
            sorted.push(sort);
        }
        let converter = RowConverter::new(sorted).map_err(failed)?;
        let parser = converter.parser();
        Ok(Self { converter, parser, columns: columns.iter().map(|(column, _)| *column).collect(), fields })
    }

    /// The columns in the order of the bytes, by their places in the schema.
    pub fn columns(&self) -> &[usize] {
        &self.columns
    }

    /// The fields in the order of the bytes.
    pub fn fields(&self) -> &[FieldRef] {
        &self.fields
    }

    /// The rows of a batch with the codec's schema.
    pub fn encode(&self, batch: &RecordBatch) -> Result<Encoded> {
        let columns: Vec<ArrayRef> = self.columns.iter().map(|column| Arc::clone(batch.column(*column))).collect();
        self.encode_columns(&columns, batch.num_rows())
    }

    /// Rows given as the codec's own columns.
    pub fn encode_columns(&self, columns: &[ArrayRef], rows: usize) -> Result<Encoded> {
        if columns.is_empty() {
            return Ok(Encoded::Empty(rows));
        }
        self.converter.convert_columns(columns).map(Encoded::Rows).map_err(failed)
    }

    /// The columns of encoded rows. Bytes that this codec did not write make it panic or err; they are never looked at
    /// before the hash of their snapshot is.
    pub fn decode<'a>(&self, rows: impl IntoIterator<Item = &'a [u8]>) -> Result<Vec<ArrayRef>> {
        if self.columns.is_empty() {
            return Ok(Vec::new());
        }
        let rows: Vec<&[u8]> = rows.into_iter().collect();
        self.converter.convert_rows(rows.iter().map(|row| self.parser.parse(row))).map_err(failed)
    }

    /// Where some column of the codec is NULL; `None` if nowhere.
    pub fn nulls(&self, batch: &RecordBatch) -> Option<NullBuffer> {
        let nulls = self.columns.iter().fold(None, |nulls: Option<NullBuffer>, column| {
            NullBuffer::union(nulls.as_ref(), batch.column(*column).logical_nulls().as_ref())
        });
        nulls.filter(|nulls| nulls.null_count() > 0)
    }
}

/// Types whose values the row format gives back in another form than they went in.
fn is_encoded(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(..) | DataType::RunEndEncoded(..) => true,
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => is_encoded(field.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| is_encoded(field.data_type())),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{BooleanArray, Int64Array, StringArray};
    use arrow::datatypes::Field;

    use super::*;

    #[test]
    fn the_hash_is_frozen() {
        let golden: [(&[u8], u64); 7] = [
            (b"", 0xe220_a839_7b1d_cdaf),
            (b"\0", 0xab82_6b65_cba5_25b3),
            (b"\0\0\0\0\0\0\0\0", 0x3d9f_7f28_1531_00dd),
            (b"a", 0xae79_5ab4_bb75_bb9e),
            (b"tereza", 0xab71_6222_942e_e309),
            (b"0123456789abcdef", 0xa6b0_5606_b375_c3dc),
            (b"\x00\x01\x02\x03\x04\x05\x06\x07\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10", 0x7aa8_9edf_5d61_be84),
        ];
        for (bytes, hash) in golden {
            assert_eq!(key_hash(bytes), hash, "{bytes:?}");
        }
        assert_eq!((key_group(b""), key_group(b"tereza")), (226, 171));
    }

    #[test]
    fn the_bytes_of_keys_are_frozen() {
        let schema = Schema::new(vec![
            Field::new("i", DataType::Int64, true),
            Field::new("s", DataType::Utf8, true),
            Field::new("b", DataType::Boolean, true),
        ]);
        let batch = RecordBatch::try_new(
            Arc::new(schema.clone()),
            vec![
                Arc::new(Int64Array::from(vec![Some(1), None])),
                Arc::new(StringArray::from(vec![Some("ab"), Some("")])),
                Arc::new(BooleanArray::from(vec![Some(true), Some(false)])),
            ],
        )
        .unwrap();
        let rows = RowCodec::whole(&schema).unwrap().encode(&batch).unwrap();
        assert_eq!(rows.get(0), b"\x01\x80\0\0\0\0\0\0\x01\x02ab\0\0\0\0\0\0\x02\x01\x01");
        assert_eq!(rows.get(1), b"\0\0\0\0\0\0\0\0\0\x01\x01\0");
        let of_one = RowCodec::new(&schema, &[0]).unwrap().encode(&batch).unwrap();
        assert_eq!(key_hash(of_one.get(0)), 0xfd80_485b_0a71_976d);
    }

    #[test]
    fn groups_share_keys_evenly() {
        let mut counts = [0_u32; KEY_GROUPS];
        for key in 0..100_000_u64 {
            counts[usize::from(key_group(&key.to_be_bytes()))] += 1;
        }
        assert!(counts.iter().all(|count| (290..500).contains(count)), "{counts:?}");
    }

    #[test]
    fn what_does_not_come_back_the_same_is_refused() {
        let dictionary = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
        let schema = Schema::new(vec![Field::new("d", dictionary, true)]);
        assert_eq!(RowCodec::whole(&schema).unwrap_err().kind(), tereza_runtime::ErrorKind::Unsupported);
    }
}
