//! Tables of streams as they are planned.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use datafusion::execution::SessionStateBuilder;
use tereza_catalog::store::sqlite::SqliteStore;
use tereza_runtime::ErrorKind;
use tereza_runtime::clock::Clock;
use tereza_runtime::settings::Settings;

use super::super::statement::{FlinkStatement, parse};
use super::*;

async fn planned(columns: &str) -> Result<StreamSource> {
    let dir = tempfile::tempdir().expect("a folder");
    let mut settings = Settings::default();
    settings.engine.spill_dir = dir.path().join("spill");
    settings.warehouse.url = dir.path().to_str().expect("a path").to_owned();
    let clock = Clock::fixed(0);
    let store = SqliteStore::open_in_memory(clock.clone()).await.expect("a store");
    let engine = Engine::over(&settings, Arc::new(store), clock).await.expect("an engine");
    let sql = format!("CREATE TABLE t ({columns}) WITH ('connector' = 'kafka')");
    let FlinkStatement::CreateTable(create) = parse(&sql)? else { panic!("{sql}") };
    let state = SessionStateBuilder::new().with_default_features().build();
    StreamSource::plan(&engine, "tereza.default.t".into(), create.table, None, &state)
}

#[tokio::test]
async fn functions_that_are_other_expressions_make_columns_and_watermarks() {
    let table = planned(
        "id BIGINT, ts TIMESTAMP(3), k AS MOD(id, 3), h AS HOUR(ts), big AS IF(id > 1, 'big', 'small'), \
         WATERMARK FOR ts AS IF(id > 1, ts, ts - INTERVAL '4' SECOND)",
    )
    .await
    .expect("plans");
    let hour_ms = 3_600_000;
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, 5])),
        Arc::new(TimestampMillisecondArray::from(vec![2 * hour_ms, 26 * hour_ms])),
    ];
    let records = RecordBatch::try_new(Arc::clone(table.record_schema()), columns).expect("records");
    let evaluated = |of: &Arc<dyn PhysicalExpr>, rows: &RecordBatch| {
        of.evaluate(rows).expect("evaluates").into_array(rows.num_rows()).expect("an array")
    };
    let values: Vec<ArrayRef> = table
        .columns()
        .iter()
        .map(|column| match column {
            ColumnSource::Record(place) => Arc::clone(records.column(*place)),
            ColumnSource::Computed(of) => evaluated(of, &records),
        })
        .collect();
    let rows = RecordBatch::try_new(TableProvider::schema(&table), values).expect("rows of the table");
    assert_eq!(rows.column(2).as_primitive::<Int64Type>().values(), &[1, 2]);
    assert_eq!(rows.column(3).as_primitive::<Int64Type>().values(), &[2, 2]);
    let (_, watermark) = table.watermark().expect("a watermark");
    let watermark = evaluated(&watermark, &rows);
    assert_eq!(watermark.as_primitive::<TimestampMillisecondType>().values(), &[2 * hour_ms - 4_000, 26 * hour_ms]);
}

#[tokio::test]
async fn columns_are_from_records_or_computed_over_them() {
    let table = planned(
        "id BIGINT NOT NULL, `Text` STRING, twice AS id * 2, ts TIMESTAMP(3) METADATA FROM 'timestamp', \
         part INT METADATA VIRTUAL, at AS PROCTIME(), WATERMARK FOR ts AS ts - INTERVAL '4' SECOND",
    )
    .await
    .expect("plans");
    let names = |schema: &SchemaRef| schema.fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
    assert_eq!(names(&TableProvider::schema(&table)), ["id", "Text", "twice", "ts", "part", "at"]);
    assert_eq!(names(table.record_schema()), ["id", "Text", "ts", "part"]);
    assert_eq!(names(&table.written()), ["id", "Text", "ts"]);
    let places: Vec<Option<usize>> = table
        .columns()
        .iter()
        .map(|column| match column {
            ColumnSource::Record(place) => Some(*place),
            ColumnSource::Computed(_) => None,
        })
        .collect();
    assert_eq!(places, [Some(0), Some(1), None, Some(2), Some(3), None]);

    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from(vec![1, 20])),
        Arc::new(StringArray::from(vec!["a", "b"])),
        Arc::new(TimestampMillisecondArray::from(vec![5_000, 9_000])),
        Arc::new(arrow::array::Int32Array::from(vec![0, 0])),
    ];
    let records = RecordBatch::try_new(Arc::clone(table.record_schema()), columns).expect("records");
    let values: Vec<ArrayRef> = table
        .columns()
        .iter()
        .map(|column| match column {
            ColumnSource::Record(place) => Arc::clone(records.column(*place)),
            ColumnSource::Computed(of) => of.evaluate(&records).expect("evaluates").into_array(2).expect("an array"),
        })
        .collect();
    let rows = RecordBatch::try_new(TableProvider::schema(&table), values).expect("rows of the table");
    assert_eq!(rows.column(2).as_primitive::<Int64Type>().values(), &[2, 40]);
    assert!(rows.column(5).as_primitive::<TimestampMillisecondType>().value(1) > 0, "the moment of the batch");

    let (place, watermark) = table.watermark().expect("a watermark");
    assert_eq!(place, 3);
    let watermark = watermark.evaluate(&rows).expect("evaluates").into_array(2).expect("an array");
    assert_eq!(watermark.as_primitive::<TimestampMillisecondType>().values(), &[1_000, 5_000]);
    let typed = table.typed_definition();
    assert_eq!(typed.columns[2].data_type().expect("a type").to_string(), "BIGINT");
    let of_watermark = typed.watermark.and_then(|watermark| watermark.data_type).expect("a type");
    assert_eq!(of_watermark.to_string(), "TIMESTAMP(3)");
}

#[tokio::test]
async fn a_field_of_a_row_and_flinks_functions_are_understood() {
    let table = planned(
        "bid ROW<price BIGINT, `dateTime` TIMESTAMP(3)>, text STRING, `dateTime` AS bid.`dateTime`, \
         `day` AS DATE_FORMAT(bid.`dateTime`, 'yyyy-MM-dd'), at AS TO_TIMESTAMP(text), \
         WATERMARK FOR `dateTime` AS `dateTime`",
    )
    .await
    .expect("plans");
    let schema = TableProvider::schema(&table);
    let types: Vec<&DataType> = schema.fields().iter().skip(2).map(|field| field.data_type()).collect();
    let millis = DataType::Timestamp(TimeUnit::Millisecond, None);
    assert_eq!(types, [&millis, &DataType::Utf8, &millis]);
}

#[tokio::test]
async fn what_cannot_be_is_refused_with_its_place_in_the_table() {
    for (columns, kind, said) in [
        ("a INT, b AS c + 1", ErrorKind::InvalidInput, "column 'b'"),
        ("a INT, b AS NOWHERE(a)", ErrorKind::InvalidInput, "column 'b'"),
        ("a MULTISET<INT>", ErrorKind::Unsupported, "MULTISET<INT>"),
        ("a INT, t AS a + 1, WATERMARK FOR t AS t", ErrorKind::InvalidInput, "'t' is BIGINT"),
        (
            "a STRING, t TIMESTAMP(3), WATERMARK FOR t AS CAST(t AS TIMESTAMP(9))",
            ErrorKind::InvalidInput,
            "a watermark is TIMESTAMP(p)",
        ),
    ] {
        let error = planned(columns).await.err().unwrap_or_else(|| panic!("{columns} is planned"));
        assert!(error.message().contains(said), "{columns}: {error}");
        assert!(error.message().contains("tereza.default.t"), "{columns}: {error}");
        assert_eq!(error.kind(), kind, "{columns}: {error}");
    }
}
