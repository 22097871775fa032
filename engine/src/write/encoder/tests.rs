use arrow::json::ReaderBuilder;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tereza_catalog::model::Column;

use super::*;
use crate::formats::spark::tests::table;
use crate::types::table_fields;

/// As Spark writes it of `(Id bigint, St struct<Aa:int,bB:array<struct<Cc:string>>>)`.
const CAPITALS: &str = r#"{"type":"struct","fields":[{"name":"Id","type":"long"},{"name":"St","type":{"type":"struct","fields":[
{"name":"Aa","type":"integer"},{"name":"bB","type":{"type":"array","containsNull":true,"elementType":{"type":"struct","fields":[
{"name":"Cc","type":"string"}]}}}]}}]}"#;

#[test]
fn parquet_of_spark_has_its_capital_letters() {
    let mut table = table(&[("spark.sql.sources.schema", CAPITALS)]);
    table.parameters.insert("spark.sql.sources.provider".into(), "parquet".into());
    let types = [("id", "bigint"), ("st", "struct<Aa:int,bB:array<struct<Cc:string>>>")];
    table.storage.columns = types
        .map(|(name, type_name)| Column { name: name.into(), type_name: type_name.into(), comment: None })
        .to_vec();
    let (columns, _) = table_fields(&table).unwrap();
    let text = br#"{"id":7,"st":{"aa":1,"bb":[{"cc":"c"}]}}"#;
    let batch = ReaderBuilder::new(Arc::clone(&columns)).build(&text[..]).unwrap().next().unwrap().unwrap();

    let mut encoder = Encoder::new(&table, &table.storage, &columns).unwrap();
    encoder.write(&batch).unwrap();
    let mut bytes = encoder.take();
    bytes.extend(encoder.finish().unwrap());
    let file = ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).unwrap();
    let names = file.parquet_schema().columns().iter().map(|column| {
        let parts = column.path().parts().iter().map(String::as_str);
        parts.filter(|part| !["list", "item"].contains(part)).collect::<Vec<_>>().join(".")
    });
    assert_eq!(names.collect::<Vec<_>>(), ["Id", "St.Aa", "St.bB.Cc"]);
    let rows: usize = file.build().unwrap().map(|batch| batch.unwrap().num_rows()).sum();
    assert_eq!(rows, 1);
}
