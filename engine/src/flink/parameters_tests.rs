use tereza_runtime::ErrorKind;

use super::super::create::tests::recorded;
use super::*;

/// The parameters that Flink's HiveCatalog keeps for these properties of a table.
fn in_hive(properties: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut parameters: BTreeMap<String, String> =
        properties.iter().map(|(key, value)| (format!("flink.{key}"), value.clone())).collect();
    if !properties.contains_key("connector") {
        parameters.insert("is_generic".into(), "true".into());
    }
    parameters
}

#[test]
fn what_flink_keeps_is_read_and_written_as_it_was() {
    let mut seen = 0;
    for (name, _, flink) in recorded() {
        let Some(flink) = flink else { continue };
        let mut parameters = in_hive(&flink);
        let kept = parameters.clone();
        parameters.insert("transient_lastDdlTime".into(), "1700000000".into());
        let table = from_parameters(&parameters).unwrap_or_else(|error| panic!("{name}: {error}")).expect(name);
        assert_eq!(to_parameters(&table).expect(name), kept, "{name}");
        seen += 1;
    }
    assert_eq!(seen, 39);
}

fn parameters(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

#[test]
fn tables_of_hive_are_told_apart() {
    for (pairs, is_stream) in [
        (&[] as &[(&str, &str)], false),
        (&[("EXTERNAL", "TRUE"), ("connector", "kafka")], false),
        (&[("flink.connector", "kafka")], true),
        (&[("flink.connector.type", "kafka")], true),
        (&[("is_generic", "true")], true),
        (&[("is_generic", "false"), ("flink.connector", "kafka")], false),
    ] {
        assert_eq!(from_parameters(&parameters(pairs)).expect("parameters").is_some(), is_stream, "{pairs:?}");
    }
}

#[test]
fn the_keys_of_flink_1_10_are_read() {
    let old = parameters(&[
        ("is_generic", "true"),
        ("flink.generic.table.schema.0.name", "a"),
        ("flink.generic.table.schema.0.data-type", "INT"),
        ("flink.generic.table.schema.1.name", "ts"),
        ("flink.generic.table.schema.1.data-type", "TIMESTAMP(3)"),
        ("flink.generic.table.schema.watermark.0.rowtime", "ts"),
        ("flink.generic.table.schema.watermark.0.strategy.expr", "`ts`"),
        ("flink.connector.type", "kafka"),
    ]);
    let table = from_parameters(&old).expect("parameters").expect("a stream's table");
    assert_eq!(table.columns.len(), 2);
    assert_eq!(table.watermark.expect("a watermark").rowtime, "ts");
    assert_eq!(table.options, parameters(&[("connector.type", "kafka")]));
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let column = ("flink.schema.0.name", "a");
    let kafka = ("flink.connector", "kafka");
    for (pairs, expected) in [
        (&[kafka, column] as &[(&str, &str)], "parameter 'flink.schema.0.data-type' of the table is missing"),
        (
            &[kafka, column, ("flink.schema.0.data-type", "INTT")],
            "parameter 'flink.schema.0.data-type' of the table: unknown type 'INTT' (line 1, column 1); did you mean 'INT'?",
        ),
        (
            &[kafka, ("flink.schema.watermark.0.rowtime", "ts")],
            "parameter 'flink.schema.watermark.0.strategy.expr' of the table is missing",
        ),
        (
            &[kafka, ("flink.distribution.kind", "HASH"), ("flink.distribution.buckets", "x")],
            "parameter 'flink.distribution.buckets' is not a number: x",
        ),
        (&[kafka, ("flink.partition.keys.0.name", "a")], "column 'a' of PARTITIONED BY is not a column of the table"),
    ] {
        assert_eq!(from_parameters(&parameters(pairs)).expect_err(expected).to_string(), expected);
    }
    let materialized =
        from_parameters(&parameters(&[kafka, ("flink.refresh-mode", "FULL")])).expect_err("materialized");
    assert_eq!(materialized.kind(), ErrorKind::Unsupported);
}

#[test]
fn options_cannot_pass_for_a_schema() {
    for key in ["schema.0.name", "schema.watermark.0.rowtime", "comment", "partition.keys.0.name", "distribution.kind"]
    {
        let table = StreamTable { options: parameters(&[("connector", "x"), (key, "a")]), ..StreamTable::default() };
        let error = to_parameters(&table).expect_err(key);
        assert!(error.message().contains(key), "{error}");
    }
}
