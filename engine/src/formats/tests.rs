use tereza_catalog::model::TableKind;
use tereza_runtime::ErrorKind;

use super::*;

fn parameters(pairs: &[(&str, &str)]) -> Parameters {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn storage(serde: &str, input: &str) -> Storage {
    Storage {
        input_format: Some(input.into()),
        serde: Serde { library: Some(serde.into()), ..Serde::default() },
        ..Storage::default()
    }
}

fn table(storage: Storage, table_parameters: &[(&str, &str)]) -> Table {
    Table {
        database: "db".into(),
        name: "t".into(),
        kind: TableKind::Managed,
        owner: None,
        create_time_s: 0,
        last_access_time_s: 0,
        retention: 0,
        storage,
        partition_keys: vec![],
        parameters: parameters(table_parameters),
        view_original_text: None,
        view_expanded_text: None,
        owner_kind: Default::default(),
    }
}

#[test]
fn every_format_is_recognised_in_the_storage_it_makes() {
    for format in [Format::Parquet, Format::Csv, Format::Text, Format::Json, Format::Avro, Format::Orc] {
        let storage = format.storage(vec![], Some("file:///t".into()), &Parameters::new()).unwrap();
        assert_eq!(Format::of(&storage).unwrap(), format);
        assert_eq!(Format::parse(format.extension()).unwrap(), format);
        assert!(storage.output_format.is_some());
        let reader = format.reader(&storage).unwrap();
        assert_eq!(reader.get_ext().trim_start_matches('.'), format.extension());
    }
}

#[test]
fn unknown_classes_are_refused_by_name() {
    let lazy = "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe";
    for (serde, input, named) in [
        ("com.example.MySerDe", TEXT_INPUT, "com.example.MySerDe"),
        (lazy, "org.apache.hadoop.mapred.SequenceFileInputFormat", "SequenceFileInputFormat"),
    ] {
        let error = Format::of(&storage(serde, input)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().contains(named), "{error}");
    }
    assert_eq!(Format::of(&Storage::default()).unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(Format::parse("rcfile").unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn sparks_provider_goes_before_placeholder_classes() {
    let placeholder = storage(LAZY_SIMPLE_SERDE, "org.apache.hadoop.mapred.SequenceFileInputFormat");
    let of = |table: &Table| Format::of_table(table, &table.storage);
    assert_eq!(of(&table(placeholder.clone(), &[("spark.sql.sources.provider", "csv")])).unwrap(), Format::Csv);
    for refused in
        [&[("spark.sql.sources.provider", "delta")][..], &[("table_type", "ICEBERG")], &[("transactional", "true")]]
    {
        let error = of(&table(Format::Orc.storage(vec![], None, &Parameters::new()).unwrap(), refused)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.message().starts_with("table db.t: "), "{error}");
    }
    let column = Column { name: "col".into(), type_name: "array<string>".into(), comment: None };
    let hidden = Storage { columns: vec![column], ..placeholder };
    // Its columns are elsewhere, and here they are not at all.
    let hidden = table(hidden, &[("spark.sql.sources.provider", "json")]);
    assert_eq!(of(&hidden).unwrap(), Format::Json);
    assert_eq!(spark::columns(&hidden).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn options_of_csv_survive_the_storage() {
    let options =
        parameters(&[("format.delimiter", ";"), ("has_header", "TRUE"), ("null_value", "NA"), ("compression", "GZIP")]);
    let storage = Format::Csv.storage(vec![], None, &options).unwrap();
    let text = TextOptions::of(Format::Csv, &storage, &Parameters::new()).unwrap();
    assert_eq!((text.delimiter, text.quote, text.escape), (b';', b'"', None));
    assert_eq!((text.null.as_str(), text.header_lines), ("NA", 1));
    let reading = Reading::of(Format::Csv, &storage, &Parameters::new(), "part-0").unwrap();
    assert_eq!(reading.compression, CompressionTypeVariant::GZIP);

    for bad in [("has_header", "maybe"), ("delimiter", "é"), ("delimiter", ""), ("compression", "lzma9")] {
        assert!(Format::Csv.storage(vec![], None, &parameters(&[bad])).is_err(), "{bad:?}");
    }
}

#[test]
fn datafusion_reads_csv_only_where_its_null_is_the_tables() {
    let ours = Format::Csv.storage(vec![], None, &Parameters::new()).unwrap();
    let csv = |storage: &Storage| {
        let reading = Reading::of(Format::Csv, storage, &Parameters::new(), "a.csv").unwrap();
        reading.csv_options(reading.text.as_ref().unwrap())
    };
    let options = csv(&ours).unwrap();
    assert_eq!((options.delimiter, options.quote, options.escape, options.has_header), (b',', b'"', None, Some(false)));

    let hives = storage("org.apache.hadoop.hive.serde2.OpenCSVSerde", TEXT_INPUT);
    assert!(csv(&hives).is_none());
}

#[test]
fn hives_delimiters_are_numbers_or_characters() {
    let mut storage = storage(LAZY_SIMPLE_SERDE, TEXT_INPUT);
    let text = |storage: &Storage| TextOptions::of(Format::Text, storage, &Parameters::new()).unwrap();
    assert_eq!((text(&storage).delimiter, text(&storage).null.as_str(), text(&storage).escape), (1, "\\N", None));
    for (written, delimiter) in [("9", 9), ("\t", 9), ("\\t", 9), ("|", b'|'), ("\u{1}", 1), ("-1", b'-')] {
        storage.serde.parameters.insert("field.delim".into(), written.into());
        assert_eq!(text(&storage).delimiter, delimiter, "{written:?}");
    }
    let table_parameters = parameters(&[("skip.header.line.count", "2")]);
    assert_eq!(TextOptions::of(Format::Text, &storage, &table_parameters).unwrap().header_lines, 2);
    let footer = parameters(&[("skip.footer.line.count", "1")]);
    assert_eq!(TextOptions::of(Format::Text, &storage, &footer).unwrap_err().kind(), ErrorKind::Unsupported);
}

#[test]
fn the_extension_tells_the_compression() {
    let storage = Format::Json.storage(vec![], None, &Parameters::new()).unwrap();
    let of = |name: &str| Reading::of(Format::Json, &storage, &Parameters::new(), name);
    assert_eq!(of("000000_0.gz").unwrap().compression, CompressionTypeVariant::GZIP);
    assert_eq!(of("000000_0").unwrap().compression, CompressionTypeVariant::UNCOMPRESSED);
    assert_ne!(of("a.json").unwrap(), of("a.json.zst").unwrap());
    assert_eq!(of("a.json.snappy").unwrap_err().kind(), ErrorKind::Unsupported);
    let parquet = Reading::of(Format::Parquet, &storage, &Parameters::new(), "part.gz").unwrap();
    assert_eq!(parquet.compression, CompressionTypeVariant::UNCOMPRESSED);
}
