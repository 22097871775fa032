use tereza_catalog::model::TableKind;

use super::*;
use crate::types::table_fields;

/// A table of Spark's, of JSON and partitioned by `ds`, with these parameters.
pub(crate) fn table(parameters: &[(&str, &str)]) -> Table {
    let column = |name: &str, type_name: &str| Column { name: name.into(), type_name: type_name.into(), comment: None };
    let provider = ("spark.sql.sources.provider", "json");
    let parameters = parameters.iter().chain([&provider]);
    Table {
        database: "web".into(),
        name: "t".into(),
        kind: TableKind::Managed,
        owner: None,
        create_time_s: 0,
        last_access_time_s: 0,
        retention: 0,
        storage: Storage { columns: vec![column("col", "array<string>")], ..Storage::default() },
        partition_keys: vec![column("ds", "string")],
        parameters: parameters.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        view_original_text: None,
        view_expanded_text: None,
        owner_kind: Default::default(),
    }
}

#[test]
fn columns_are_read_from_one_piece_and_from_parts() {
    let text = r#"{"type":"struct","fields":[
        {"name":"id","type":"long","nullable":true,"metadata":{"comment":"its number"}},
        {"name":"ds","type":"string","nullable":true,"metadata":{}},
        {"name":"price","type":"decimal(10,2)","nullable":true,"metadata":{}},
        {"name":"all","type":{"type":"array","containsNull":true,"elementType":{"type":"struct","fields":[
            {"name":"a","type":"integer"},
            {"name":"b","type":{"type":"map","keyType":"string","valueType":"timestamp_ntz"}}]}}}]}"#;
    let found = |table: &Table| -> Vec<String> {
        let columns = columns(table).unwrap();
        columns.iter().map(|column| format!("{} {} {:?}", column.name, column.type_name, column.comment)).collect()
    };
    let expected = [
        "id bigint Some(\"its number\")",
        "price decimal(10,2) None",
        "all array<struct<a:int,b:map<string,timestamp>>> None",
    ];
    assert_eq!(found(&table(&[(SCHEMA, text)])), expected);
    let (first, second) = text.split_at(100);
    let parts = [
        (&*format!("{SCHEMA}.numParts"), "2"),
        (&*format!("{SCHEMA}.part.0"), first),
        (&*format!("{SCHEMA}.part.1"), second),
    ];
    assert_eq!(found(&table(&parts)), expected);
}

#[test]
fn what_cannot_be_read_is_said() {
    let deep = format!(
        "{{\"fields\":[{{\"name\":\"a\",\"type\":{}\"long\"{}}}]}}",
        "{\"type\":\"array\",\"elementType\":".repeat(80),
        "}".repeat(80)
    );
    for (parameters, part) in [
        (&[][..], "not in its parameters"),
        (&[("spark.sql.sources.schema.numParts", "2"), ("spark.sql.sources.schema.part.0", "{")], "a part of"),
        (&[(SCHEMA, "{")], "is not JSON"),
        (&[(SCHEMA, "{\"fields\":[{\"name\":\"a\",\"type\":{\"type\":\"udt\"}}]}")], "type {\"type\":\"udt\"}"),
        (&[(SCHEMA, &deep)], "64 deep"),
    ] {
        let error = columns(&table(parameters)).unwrap_err().to_string();
        assert!(error.contains("table web.t") && error.contains(part), "{error}");
    }
}

/// As Spark writes it of `(Id bigint, St struct<X:int,yY:array<struct<Zz:binary>>>, M map<string,struct<Q:int>>, v varchar(3), ds string)`.
const CAPITALS: &str = r#"{"type":"struct","fields":[{"name":"Id","type":"long","nullable":true,"metadata":{}},{"name":"St",
"type":{"type":"struct","fields":[{"name":"X","type":"integer","nullable":true,"metadata":{}},{"name":"yY","type":{"type":"array",
"elementType":{"type":"struct","fields":[{"name":"Zz","type":"binary","nullable":true,"metadata":{}}]},"containsNull":true},
"nullable":true,"metadata":{}}]},"nullable":true,"metadata":{}},{"name":"M","type":{"type":"map","keyType":"string","valueType":
{"type":"struct","fields":[{"name":"Q","type":"integer","nullable":true,"metadata":{}}]},"valueContainsNull":true},"nullable":true,
"metadata":{}},{"name":"v","type":"string","nullable":true,"metadata":{"__CHAR_VARCHAR_TYPE_STRING":"varchar(3)"}},
{"name":"ds","type":"string","nullable":true,"metadata":{}}]}"#;

#[test]
fn names_for_spark_have_their_capital_letters() {
    let table = table(&[(SCHEMA, CAPITALS)]);
    let (columns, _) = table_fields(&table).unwrap();
    let lower: Vec<&str> = columns.fields().iter().map(|field| field.name().as_str()).collect();
    assert_eq!(lower, ["id", "st", "m", "v"]);
    let named = named_for_spark(&table, &columns).unwrap();
    let text = format!("{named:?}");
    for name in ["Id", "St", "X", "yY", "Zz", "M", "Q"] {
        assert!(text.contains(&format!("\"{name}\"")), "{name}: {text}");
    }
    let mut of_csv = table.clone();
    of_csv.parameters.insert(PROVIDER.into(), "csv".into());
    assert_eq!(named_for_spark(&of_csv, &columns).unwrap(), columns);
    // Parquet's columns are in both places.
    let both = of_parquet();
    let (columns, _) = table_fields(&both).unwrap();
    assert_eq!(named_for_spark(&both, &columns).unwrap(), named);
}

/// As the metastore has [`CAPITALS`] in Parquet.
fn of_parquet() -> Table {
    let mut table = table(&[(SCHEMA, CAPITALS)]);
    table.parameters.insert(PROVIDER.into(), "parquet".into());
    let types = [
        ("id", "bigint"),
        ("st", "struct<X:int,yY:array<struct<Zz:binary>>>"),
        ("m", "map<string,struct<Q:int>>"),
        ("v", "varchar(3)"),
    ];
    let column =
        |(name, type_name): (&str, &str)| Column { name: name.into(), type_name: type_name.into(), comment: None };
    table.storage.columns = types.map(column).to_vec();
    table
}

#[test]
fn members_of_structs_in_parquet_are_in_lower_case() {
    let mut table = of_parquet();
    let types = |table: &Table| -> Vec<String> {
        columns(table).unwrap().iter().map(|column| column.type_name.clone()).collect()
    };
    let lower = ["bigint", "struct<x:int,yy:array<struct<zz:binary>>>", "map<string,struct<q:int>>", "varchar(3)"];
    assert_eq!(types(&table), lower);
    // Avro's are found as they are spelled only.
    table.parameters.insert(PROVIDER.into(), "avro".into());
    assert_eq!(types(&table)[1], "struct<X:int,yY:array<struct<Zz:binary>>>");
}

#[test]
fn a_column_that_spark_lacks_is_not_written_to_its_json() {
    let with_late = |mut table: Table| {
        table.storage.columns = columns(&table).unwrap().into_owned();
        table.storage.columns.push(Column { name: "late".into(), type_name: "int".into(), comment: None });
        let (columns, _) = table_fields(&table).unwrap();
        named_for_spark(&table, &columns)
    };
    let error = with_late(table(&[(SCHEMA, CAPITALS)])).unwrap_err();
    assert_eq!(error.kind(), tereza_runtime::ErrorKind::InvalidInput);
    assert!(error.message().contains("column late") && error.message().contains("web.t"), "{error}");
    // Hive and Presto add columns to Parquet, and find them.
    assert_eq!(with_late(of_parquet()).unwrap().fields().last().unwrap().name(), "late");
}

#[test]
fn names_that_are_one_here_are_refused() {
    let text = r#"{"fields":[{"name":"a","type":"long"},{"name":"A","type":"long"}]}"#;
    let error = columns(&table(&[(SCHEMA, text)])).unwrap_err();
    assert_eq!(error.kind(), tereza_runtime::ErrorKind::Unsupported);
    assert!(error.message().contains("'a'"), "{error}");
}

#[test]
fn columns_are_added_where_spark_looks_for_them() {
    let column = |name: &str, type_name: &str, comment: Option<&str>| Column {
        name: name.into(),
        type_name: type_name.into(),
        comment: comment.map(str::to_owned),
    };
    let mut table = table(&[(SCHEMA, CAPITALS)]);
    let added = vec![
        column("new", "varchar(5)", Some("new one")),
        column("nested", "map<string,array<struct<a:decimal(5,2),b:timestamp>>>", None),
    ];
    add_columns(&mut table, added.clone()).unwrap();
    // What stands in the storage still means nothing.
    assert!(hides_columns(&table));
    let found = columns(&table).unwrap().into_owned();
    assert_eq!(
        found.iter().map(|column| column.name.as_str()).collect::<Vec<_>>(),
        ["id", "st", "m", "v", "new", "nested"]
    );
    assert_eq!(found[4..], added);
    assert_eq!(found[3].type_name, "varchar(3)");
    let schema: Value = serde_json::from_str(&table.parameters[SCHEMA]).unwrap();
    let fields = schema["fields"].as_array().unwrap();
    assert_eq!(fields.last().unwrap()["name"], "ds");
    assert_eq!(fields[0]["name"], "Id");
    let noted = json!({"comment": "new one", "__CHAR_VARCHAR_TYPE_STRING": "varchar(5)"});
    assert_eq!(fields[4], json!({"name": "new", "type": "string", "nullable": true, "metadata": noted}));

    let zoned = column("z", "timestamp with local time zone", None);
    assert!(add_columns(&mut table, vec![zoned]).is_err());
    let plain = column("p", "int", None);
    let mut both = table.clone();
    both.storage.columns = found.clone();
    add_columns(&mut both, vec![plain.clone()]).unwrap();
    assert_eq!(both.storage.columns.last(), Some(&plain));
    assert!(both.parameters[SCHEMA].contains("\"p\""));
}

#[test]
fn many_columns_are_kept_in_parts() {
    let mut table = table(&[(SCHEMA, CAPITALS)]);
    let names: Vec<String> = (0..100).map(|number| format!("a_column_of_number_{number}")).collect();
    let added = names.iter().map(|name| Column { name: name.clone(), type_name: "int".into(), comment: None });
    add_columns(&mut table, added.collect()).unwrap();
    let parts: usize = table.parameters[&format!("{SCHEMA}.numParts")].parse().unwrap();
    assert!(parts > 1 && !table.parameters.contains_key(SCHEMA));
    assert_eq!(table.parameters[&format!("{SCHEMA}.part.0")].chars().count(), PART_CHARACTERS);
    assert_eq!(columns(&table).unwrap().len(), 104);
    add_columns(&mut table, vec![Column { name: "ü".into(), type_name: "int".into(), comment: None }]).unwrap();
    assert_eq!(columns(&table).unwrap().len(), 105);
}
