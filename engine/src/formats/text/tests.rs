use arrow::array::AsArray;
use arrow::util::pretty::pretty_format_batches;
use datafusion::datasource::file_format::file_compression_type::FileCompressionType;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutPayload};
use proptest::prelude::*;
use tereza_catalog::model::Serde;

use super::*;
use crate::types::arrow_type;

fn hive_text(pairs: &[(&str, &str)]) -> TextOptions {
    options(Format::Text, pairs)
}

fn options(format: Format, pairs: &[(&str, &str)]) -> TextOptions {
    let parameters = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let storage = Storage { serde: Serde { parameters, ..Serde::default() }, ..Storage::default() };
    TextOptions::of(format, &storage, &Parameters::new()).unwrap()
}

fn request(columns: &[(&str, &str)], wanted: &[usize]) -> Request {
    let fields: Vec<Field> =
        columns.iter().map(|(name, hive)| Field::new(*name, arrow_type(hive).unwrap(), true)).collect();
    Request {
        columns: Arc::new(Schema::new(fields)),
        wanted: wanted.to_vec(),
        batch_size_rows: 3,
        compression: FileCompressionType::UNCOMPRESSED,
    }
}

/// The rows of `text` in the ranges of bytes between `cuts`.
async fn rows(options: TextOptions, text: &str, request: Request, cuts: &[i64]) -> Result<Vec<RecordBatch>> {
    let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    let path = Path::from("t/file");
    store.put(&path, PutPayload::from(text.to_owned())).await?;
    let file = PartitionedFile::new_from_meta(store.head(&path).await?);
    let reader = TextReader::new(options);
    let mut files = vec![file.clone()];
    if !cuts.is_empty() {
        let ends = cuts.iter().copied().skip(1).chain([text.len() as i64]);
        files = cuts.iter().zip(ends).map(|(start, end)| file.clone().with_range(*start, end)).collect();
    }
    let mut batches = Vec::new();
    for file in files {
        batches.extend(reader.read(Arc::clone(&store), &file, request.clone()).await?.try_collect::<Vec<_>>().await?);
    }
    Ok(batches)
}

async fn table(options: TextOptions, text: &str, request: Request) -> String {
    let batches = rows(options, text, request, &[]).await.unwrap();
    pretty_format_batches(&batches).unwrap().to_string()
}

fn lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.join("\n")
}

#[tokio::test]
async fn hives_text_is_read_as_hive_reads_it() {
    let request = request(
        &[("i", "int"), ("s", "string"), ("d", "decimal(5,2)"), ("t", "timestamp"), ("b", "boolean")],
        &[0, 1, 2, 3, 4],
    );
    let text = "1|a|1.5|2024-01-02 03:04:05|true\r\n\\N|\\N|\\N|\\N|\\N\nx||y|z|\n7|too few\n8|b|1|2024-01-02 00:00:00.25|false|too|many";
    let expected = lines(
        "+---+---------+------+------------------------+-------+
         | i | s       | d    | t                      | b     |
         +---+---------+------+------------------------+-------+
         | 1 | a       | 1.50 | 2024-01-02T03:04:05    | true  |
         |   |         |      |                        |       |
         |   |         |      |                        |       |
         | 7 | too few |      |                        |       |
         | 8 | b       | 1.00 | 2024-01-02T00:00:00.250 | false |
         +---+---------+------+------------------------+-------+",
    );
    let actual = table(hive_text(&[("field.delim", "|")]), text, request.clone()).await;
    let cells = |table: &str| -> Vec<String> {
        let rows = table.lines().filter(|line| line.starts_with('|'));
        rows.map(|line| line.split('|').map(str::trim).collect::<Vec<_>>().join("|")).collect()
    };
    assert_eq!(cells(&actual), cells(&expected), "{actual}");

    // The empty text of a text column is not NULL.
    let batches = rows(hive_text(&[("field.delim", "|")]), text, request, &[]).await.unwrap();
    assert!(batches[0].column(1).is_null(1));
    assert_eq!(batches[0].column(1).as_string_view().value(2), "");
    assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [3, 2]);
}

#[tokio::test]
async fn only_wanted_columns_are_made() {
    let columns = [("a", "int"), ("b", "binary"), ("c", "int")];
    let batches = rows(hive_text(&[]), "1\u{1}x\u{1}3\n", request(&columns, &[2]), &[]).await.unwrap();
    assert_eq!(batches[0].num_columns(), 1);
    assert_eq!(batches[0].column(0).as_primitive::<arrow::datatypes::Int32Type>().value(0), 3);
    let none = rows(hive_text(&[]), "1\n2\n3\n4\n", request(&columns, &[]), &[]).await.unwrap();
    assert_eq!(none.iter().map(RecordBatch::num_rows).sum::<usize>(), 4);
    let error = rows(hive_text(&[]), "1\u{1}x\n", request(&columns, &[1]), &[]).await.unwrap_err();
    assert!(error.to_string().contains("binary columns of text files"), "{error}");
}

#[tokio::test]
async fn collections_are_split_by_their_delimiters() {
    let columns = [("l", "array<int>"), ("m", "map<string,int>"), ("s", "struct<a:int,b:array<string>>")];
    let text = "1,\\N,x|k:1,n:\\N,z|5,p;q\n||\n\\N|\\N|\\N\n";
    let options = hive_text(&[("field.delim", "|"), ("collection.delim", ","), ("mapkey.delim", ":")]);
    let batches = rows(
        TextOptions { inner_delimiters: vec![b',', b':', b';'], ..options.clone() },
        text,
        request(&columns, &[0, 1]),
        &[],
    )
    .await
    .unwrap();
    let shown = pretty_format_batches(&batches).unwrap().to_string();
    assert!(shown.contains("[1, , ]"), "{shown}");
    assert!(shown.contains("{k: 1, n: , z: }"), "{shown}");
    assert_eq!(batches[0].column(0).as_list::<i32>().value_length(1), 0);
    assert!(batches[0].column(0).is_null(2) && batches[0].column(1).is_null(2));

    // A list in a struct is split by the delimiter of its own depth.
    let nested = TextOptions { inner_delimiters: vec![b',', b';'], ..options };
    let batches = rows(nested, text, request(&columns, &[2]), &[]).await.unwrap();
    let shown = pretty_format_batches(&batches).unwrap().to_string();
    assert!(shown.contains("{a: 5, b: [p, q]}"), "{shown}");
}

#[tokio::test]
async fn header_lines_are_no_rows() {
    let options = hive_text(&[("skip.header.line.count", "2")]);
    assert!(!TextReader::new(options.clone()).reads_ranges());
    let batches = rows(options.clone(), "one\ntwo\n3\n4\n", request(&[("i", "int")], &[0]), &[]).await.unwrap();
    assert_eq!(batches.len(), 1);
    assert_eq!(batches[0].column(0).as_primitive::<arrow::datatypes::Int32Type>().values(), &[3, 4]);
    assert!(rows(options, "one", request(&[("i", "int")], &[0]), &[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn opencsv_tells_the_empty_text_from_null() {
    let columns = [("s", "string"), ("i", "int"), ("t", "string")];
    let text = "h,h,h\n\"a,\"\"b\",1,\n,,NA\n";
    let options = options(
        Format::Csv,
        &[("escapeChar", "\""), ("skip.header.line.count", "1"), ("serialization.null.format", "NA")],
    );
    let batches = rows(options, text, request(&columns, &[0, 1, 2]), &[]).await.unwrap();
    let (s, i, t) = (batches[0].column(0).as_string_view(), batches[0].column(1), batches[0].column(2));
    assert_eq!((s.value(0), s.value(1)), ("a,\"b", ""));
    assert!(s.is_valid(1) && i.is_valid(0) && i.is_null(1) && t.is_valid(0) && t.is_null(1));
}

#[tokio::test]
async fn a_csv_value_of_another_type_is_an_error() {
    let options = options(Format::Csv, &[]);
    let error = rows(options, "1\nabc\n", request(&[("i", "int")], &[0]), &[]).await.unwrap_err();
    assert!(error.to_string().contains("column 'i'") && error.to_string().contains("abc"), "{error}");
}

fn sparks_csv(pairs: &[(&str, &str)]) -> TextOptions {
    let parameters = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let storage = Storage { serde: Serde { parameters, ..Serde::default() }, ..Storage::default() };
    let of_table = Parameters::from([("spark.sql.sources.provider".to_owned(), "csv".to_owned())]);
    TextOptions::of(Format::Csv, &storage, &of_table).unwrap()
}

/// What Spark 4.3 read of such texts in a table `USING csv` and in one of Hive's text.
#[tokio::test]
async fn decimals_are_read_as_their_owner_reads_them() {
    let columns = [("p", "decimal(10,2)"), ("w", "decimal(38,10)"), ("z", "decimal(5,0)")];
    for (text, price, wide, whole) in [
        ("-1E-10", Some(0), Some(-1), Some(0)),
        ("1e2", Some(10_000), Some(1_000_000_000_000), Some(100)),
        ("1.5E+1", Some(1_500), Some(150_000_000_000), Some(15)),
        ("1.015", Some(102), Some(10_150_000_000), Some(1)),
        ("-0.005", Some(-1), Some(-50_000_000), Some(0)),
        ("0.0049999999999", Some(0), Some(50_000_000), Some(0)),
        ("99999999.994", Some(9_999_999_999), Some(999_999_999_940_000_000), None),
        ("99999999.995", None, Some(999_999_999_950_000_000), None),
        ("1E8", None, Some(1_000_000_000_000_000_000), None),
        (".5", Some(50), Some(5_000_000_000), Some(1)),
        ("+5.", Some(500), Some(50_000_000_000), Some(5)),
        ("0E50", Some(0), Some(0), Some(0)),
        ("1E400", None, None, None),
        ("1E5000000000", None, None, None),
        ("1E", None, None, None),
        ("E5", None, None, None),
        ("1_0", None, None, None),
        ("--1", None, None, None),
        (" 1", None, None, None),
        ("inf", None, None, None),
    ] {
        for options in [sparks_csv(&[("sep", "|")]), hive_text(&[("field.delim", "|")])] {
            let line = format!("{text}|{text}|{text}\n");
            let batches = rows(options.clone(), &line, request(&columns, &[0, 1, 2]), &[]).await.unwrap();
            let found = batches[0].columns().iter().map(|column| {
                let column = column.as_primitive::<arrow::datatypes::Decimal128Type>();
                column.is_valid(0).then(|| column.value(0))
            });
            assert_eq!(found.collect::<Vec<_>>(), [price, wide, whole], "{text} by {:?}", options.rules);
        }
    }
    let thousands = rows(sparks_csv(&[("sep", "|")]), "1,000.5", request(&columns, &[0]), &[]).await.unwrap();
    assert_eq!(thousands[0].column(0).as_primitive::<arrow::datatypes::Decimal128Type>().value(0), 100_050);
    let error = rows(options(Format::Csv, &[]), "1\n1E8\n", request(&columns, &[0]), &[]).await.unwrap_err();
    assert!(error.to_string().contains("column 'p'") && error.to_string().contains("'1E8'"), "{error}");
}

/// Whole numbers have no exponent to their owners, and others do.
#[tokio::test]
async fn numbers_with_an_exponent_are_read_as_their_owner_reads_them() {
    let columns = [("i", "int"), ("l", "bigint"), ("r", "float"), ("f", "double")];
    for options in [sparks_csv(&[("sep", "|")]), hive_text(&[("field.delim", "|")])] {
        let batches = rows(options, "1E2|1e2|1E2|-1.5e-3\n", request(&columns, &[0, 1, 2, 3]), &[]).await.unwrap();
        let batch = &batches[0];
        assert!(batch.column(0).is_null(0) && batch.column(1).is_null(0));
        assert_eq!(batch.column(2).as_primitive::<arrow::datatypes::Float32Type>().value(0), 100.0);
        assert_eq!(batch.column(3).as_primitive::<arrow::datatypes::Float64Type>().value(0), -0.0015);
    }
}

/// What Spark 4.3 read with `nullValue 'NA'`.
#[tokio::test]
async fn nothing_is_null_to_spark_whatever_else_is() {
    let columns = [("a", "string"), ("b", "string"), ("c", "string")];
    let text = "a|b|c\n1||x\n2|\"\"|NA\n3|\"NA\"|\n4\n";
    let options = sparks_csv(&[("HEADER", "true"), ("sep", "|"), ("nullValue", "NA")]);
    let batches = rows(options, text, request(&columns, &[0, 1, 2]), &[]).await.unwrap();
    let found: Vec<Vec<Option<String>>> = batches
        .iter()
        .flat_map(|batch| (0..batch.num_rows()).map(move |row| (batch, row)))
        .map(|(batch, row)| {
            let texts = batch.columns().iter().map(|column| column.as_string_view());
            texts.map(|texts| texts.is_valid(row).then(|| texts.value(row).to_owned())).collect()
        })
        .collect();
    let expected =
        [[Some("1"), None, Some("x")], [Some("2"), Some(""), None], [Some("3"), None, None], [Some("4"), None, None]];
    assert_eq!(found, expected.map(|row| row.map(|text| text.map(str::to_owned)).to_vec()));
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for character in text.chars() {
        match character {
            '\n' => escaped.push_str("\\n"),
            '\r' => escaped.push_str("\\r"),
            '\\' | '|' => escaped.extend(['\\', character]),
            other => escaped.push(other),
        }
    }
    escaped
}

proptest! {
    #[test]
    fn escaped_fields_come_back(rows in prop::collection::vec(("[a|\\\\\n\ré]{0,6}", ".{0,6}"), 1..20), cuts in prop::collection::btree_set(1i64..80, 0..5)) {
        let text: String = rows.iter().map(|(left, right)| format!("{}|{}\n", escaped(left), escaped(right))).collect();
        let cuts: Vec<i64> = [0].into_iter().chain(cuts.into_iter().filter(|cut| *cut < text.len() as i64)).collect();
        let options = hive_text(&[("field.delim", "|"), ("escape.delim", "\\"), ("serialization.null.format", "no such text")]);
        let request = request(&[("l", "string"), ("r", "string")], &[0, 1]);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let batches = runtime.block_on(super::tests::rows(options, &text, request, &cuts)).unwrap();
        let read: Vec<(String, String)> = batches
            .iter()
            .flat_map(|batch| {
                let (left, right) = (batch.column(0).as_string_view(), batch.column(1).as_string_view());
                (0..batch.num_rows()).map(|row| (left.value(row).to_owned(), right.value(row).to_owned())).collect::<Vec<_>>()
            })
            .collect();
        prop_assert_eq!(read, rows);
    }
}
