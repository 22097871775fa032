//! The messages in `tests/golden`, which another implementation made, are read as what they say and written the same.

use bytes::Bytes;
use tereza_thrift::codec::{Form, Header, MessageType, Record, Writer};
use tereza_thrift::hive::*;
use tereza_thrift::server::Settings;

use crate::memory::{Running, decode, golden, text};

/// What is read from the file is written as the same bytes.
fn round_trip<T: Record>(name: &str) -> T {
    let bytes = golden(name);
    let (header, record): (Header, T) = decode(&bytes);
    let mut writer = Writer::new(bytes.len());
    header.write(&mut writer);
    writer.record(&record);
    let written = writer.finish().expect("more bytes than were read").into_bytes();
    assert_eq!(written, bytes, "{name}: {} / {}", written.escape_ascii(), bytes.escape_ascii());
    record
}

#[test]
fn calls_are_read_and_written_as_by_another_implementation() {
    round_trip::<GetAllDatabasesArgs>("get_all_databases.call");
    let names = round_trip::<GetPartitionNamesArgs>("get_partition_names.call");
    assert_eq!((names.db_name, names.tbl_name, names.max_parts), (text("web"), text("events"), Some(-1)));
    let altered = round_trip::<AlterTableWithEnvironmentContextArgs>("alter_table_with_environment_context.call");
    let properties = altered.environment_context.unwrap().properties.unwrap();
    assert_eq!(properties["expected_parameter_key"], "metadata_location");
    let added = round_trip::<AddPartitionsArgs>("add_partitions.call").new_parts.unwrap();
    assert_eq!(added[1].values, Some(vec!["2026-01-02".to_owned()]));
}

#[test]
fn a_table_has_all_its_fields_and_no_others() {
    let table = round_trip::<CreateTableArgs>("create_table.call").tbl.unwrap();
    assert_eq!(round_trip::<CreateTableArgs>("create_table.old.call").tbl.as_ref(), Some(&table));
    assert_eq!((&table.table_name, &table.db_name), (&text("events"), &text("web")));
    assert_eq!((table.retention, table.write_id), (Some(i32::MAX), Some(-1)));
    // What was not set stays so, and what was set to nothing is something else.
    assert_eq!((table.view_original_text, table.view_expanded_text), (None, text("")));
    assert_eq!((table.temporary, table.owner_type), (Some(false), Some(PrincipalType::USER)));
    let sd = table.sd.unwrap();
    assert_eq!(sd.num_buckets, Some(-1));
    let columns = sd.cols.unwrap();
    assert_eq!((&columns[1].name, &columns[1].comment), (&text("größe"), &text("in Metern, ≈")));
    assert_eq!(sd.serde_info.unwrap().parameters.unwrap()["field.delim"], "\u{1}");
    let skewed = sd.skewed_info.unwrap().skewed_col_values.unwrap();
    assert_eq!(skewed, [["1"], ["2"]]);
}

#[test]
fn what_only_hive_4_has_is_there() {
    let got = round_trip::<GetTableReqArgs>("get_table_req.call").req.unwrap();
    assert_eq!((got.db_name.as_str(), got.engine, got.id), ("@hive#web", text("hive"), Some(-1)));
    let altered = round_trip::<AlterTableReqArgs>("alter_table_req.call").req.unwrap();
    assert_eq!((altered.write_id, altered.processor_identifier), (Some(5), text("p")));
    assert_eq!((altered.table.access_type, altered.table.id, altered.table.txn_id), (Some(8), Some(77), Some(3)));
    let names = round_trip::<GetPartitionsByNamesReqArgs>("get_partitions_by_names_req.call").req.unwrap();
    assert_eq!((names.names, names.get_col_stats), (Some(vec!["day=2026-01-01".to_owned()]), Some(true)));
}

#[test]
fn statistics_are_a_union() {
    let statistics = round_trip::<UpdateTableColumnStatisticsArgs>("update_table_column_statistics.call");
    let statistics = statistics.stats_obj.unwrap();
    assert!(statistics.stats_desc.is_tbl_level);
    let ColumnStatisticsData::LongStats(long) = &statistics.stats_obj[0].stats_data else { panic!("no long") };
    assert_eq!((long.low_value, long.high_value, long.num_nulls), (Some(-5), Some(i64::MAX), 0));
    assert_eq!(long.bit_vectors, Some(Bytes::from_static(&[0xff, 0])));
    let ColumnStatisticsData::DecimalStats(decimal) = &statistics.stats_obj[1].stats_data else { panic!("no decimal") };
    assert_eq!(decimal.low_value.as_ref().unwrap().unscaled, Bytes::from_static(&[0x80]));
    let ColumnStatisticsData::DoubleStats(double) = &statistics.stats_obj[2].stats_data else { panic!("no double") };
    assert_eq!(double.high_value, Some(1e300));
}

#[test]
fn the_head_of_a_message_is_read_in_both_forms() {
    for (name, form) in [("get_table.call", Form::Strict), ("get_table.old.call", Form::Old)] {
        let (header, args): (Header, GetTableArgs) = decode(&golden(name));
        assert_eq!((header.method().as_str(), header.kind), ("get_table", MessageType::Call));
        assert_eq!((header.sequence, header.form), (7, form));
        assert_eq!(args.tbl_name, text("events"));
    }
}

#[test]
fn a_value_that_no_name_is_known_for_survives() {
    let lock = round_trip::<LockArgs>("lock.call").rqst.unwrap();
    assert_eq!(lock.component[0].r#type, LockType::EXCLUSIVE);
    assert_eq!(format!("{:?} {:?}", LockType::EXCLUSIVE, LockType(99)), "EXCLUSIVE LockType(99)");
}

#[tokio::test]
async fn a_server_answers_with_the_bytes_of_another_implementation() {
    let server = Running::new(Settings::default()).await;
    let mut raw = server.connect().await;
    for method in
        ["get_all_databases", "create_table", "get_table", "add_partitions", "lock", "no_such_method", "get_table_req"]
    {
        raw.asks(&golden(&format!("{method}.call")), &golden(&format!("{method}.reply"))).await;
    }
}
