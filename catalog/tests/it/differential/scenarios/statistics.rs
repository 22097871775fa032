//! Statistics of columns.

use tereza_thrift::hive::*;

use super::{Asking, drop_web, make_table, make_web, new_partition};
use crate::support::{column, environment, partitioned_table, table, text, texts};

const NAME: &str = "ds=a/k=1/d=2024-01-01";

pub(super) async fn play(to: &mut Asking) {
    make_web(to).await;
    let mut typed = table("t");
    let columns = [
        ("flag", "boolean"),
        ("id", "bigint"),
        ("ratio", "double"),
        ("name", "string"),
        ("bytes", "binary"),
        ("amount", "decimal(10,2)"),
        ("day", "date"),
        ("moment", "timestamp"),
    ];
    typed.sd.as_mut().unwrap().cols =
        Some(columns.iter().map(|(name, kind)| column(name, kind)).collect::<Vec<_>>().into());
    make_table(to, typed).await;
    of_table(to).await;
    make_table(to, partitioned_table("p")).await;
    for values in [["a", "1", "2024-01-01"], ["b", "2", "2024-01-02"]] {
        to.ask(AddPartitionArgs { new_part: Some(new_partition("p", &values)) }).await;
    }
    of_partitions(to).await;
    deleted(to).await;
    kept_or_not(to).await;
    drop_web(to).await;
}

fn all() -> Vec<ColumnStatisticsObj> {
    let decimal = |unscaled: &'static [u8]| Some(Decimal { unscaled: unscaled.into(), scale: 2 });
    let date = |days_since_epoch| Some(Date { days_since_epoch });
    let data = [
        ("flag", "boolean", {
            ColumnStatisticsData::BooleanStats(BooleanColumnStatsData {
                num_trues: 1,
                num_falses: 2,
                num_nulls: 3,
                bit_vectors: None,
            })
        }),
        ("id", "bigint", long(-1, 9, 3, 4)),
        (
            "ratio",
            "double",
            ColumnStatisticsData::DoubleStats(DoubleColumnStatsData {
                low_value: Some(-1.5),
                high_value: Some(2.25),
                num_nulls: 0,
                num_d_vs: 7,
                ..Default::default()
            }),
        ),
        ("name", "string", string(9)),
        (
            "bytes",
            "binary",
            ColumnStatisticsData::BinaryStats(BinaryColumnStatsData {
                max_col_len: 5,
                avg_col_len: 1.5,
                num_nulls: 2,
                bit_vectors: None,
            }),
        ),
        (
            "amount",
            "decimal(10,2)",
            ColumnStatisticsData::DecimalStats(DecimalColumnStatsData {
                low_value: decimal(&[0xff, 0x00]),
                high_value: decimal(&[0x01, 0x00]),
                num_nulls: 1,
                num_d_vs: 2,
                ..Default::default()
            }),
        ),
        (
            "day",
            "date",
            ColumnStatisticsData::DateStats(DateColumnStatsData {
                low_value: date(0),
                high_value: date(19_000),
                num_nulls: 1,
                num_d_vs: 2,
                ..Default::default()
            }),
        ),
        ("moment", "timestamp", long(5, 6, 0, 2)),
    ];
    data.into_iter().map(|(name, kind, data)| object(name, kind, data)).collect()
}

fn long(low: i64, high: i64, num_nulls: i64, num_d_vs: i64) -> ColumnStatisticsData {
    ColumnStatisticsData::LongStats(LongColumnStatsData {
        low_value: Some(low),
        high_value: Some(high),
        num_nulls,
        num_d_vs,
        ..LongColumnStatsData::default()
    })
}

fn string(max_col_len: i64) -> ColumnStatisticsData {
    ColumnStatisticsData::StringStats(StringColumnStatsData {
        max_col_len,
        avg_col_len: 4.5,
        num_nulls: 1,
        num_d_vs: 20,
        bit_vectors: None,
    })
}

fn object(name: &str, kind: &str, stats_data: ColumnStatisticsData) -> ColumnStatisticsObj {
    ColumnStatisticsObj { col_name: name.into(), col_type: kind.into(), stats_data }
}

fn statistics(table: &str, part: Option<&str>, stats_obj: Vec<ColumnStatisticsObj>) -> ColumnStatistics {
    let stats_desc = ColumnStatisticsDesc {
        is_tbl_level: part.is_none(),
        db_name: "web".into(),
        table_name: table.into(),
        part_name: part.map(str::to_owned),
        last_analyzed: Some(77),
        ..ColumnStatisticsDesc::default()
    };
    ColumnStatistics { stats_desc, stats_obj, ..ColumnStatistics::default() }
}

fn set_table(table: &str, objects: Vec<ColumnStatisticsObj>) -> UpdateTableColumnStatisticsArgs {
    UpdateTableColumnStatisticsArgs { stats_obj: Some(Box::new(statistics(table, None, objects))) }
}

fn set_part(table: &str, part: &str, objects: Vec<ColumnStatisticsObj>) -> UpdatePartitionColumnStatisticsArgs {
    UpdatePartitionColumnStatisticsArgs { stats_obj: Some(Box::new(statistics(table, Some(part), objects))) }
}

fn get_table(table: &str, columns: &[&str]) -> GetTableStatisticsReqArgs {
    let request = TableStatsRequest {
        db_name: "web".into(),
        tbl_name: table.into(),
        col_names: texts(columns),
        ..TableStatsRequest::default()
    };
    GetTableStatisticsReqArgs { request: Some(request) }
}

fn of_parts(table: &str, columns: &[&str], parts: &[&str]) -> PartitionsStatsRequest {
    PartitionsStatsRequest {
        db_name: "web".into(),
        tbl_name: table.into(),
        col_names: texts(columns),
        part_names: texts(parts),
        ..PartitionsStatsRequest::default()
    }
}

fn get_parts(table: &str, columns: &[&str], parts: &[&str]) -> GetPartitionsStatisticsReqArgs {
    GetPartitionsStatisticsReqArgs { request: Some(of_parts(table, columns, parts)) }
}

async fn of_table(to: &mut Asking) {
    let every = ["flag", "id", "ratio", "name", "bytes", "amount", "day", "moment"];
    let sort = |found: &mut TableStatsResult| found.table_stats.sort_by(|one, two| one.col_name.cmp(&two.col_name));
    to.ask_sorted(get_table("t", &every), sort).await;
    to.ask(set_table("t", all())).await;
    to.ask_sorted(get_table("t", &every), sort).await;
    to.ask(super::get_table("t")).await;
    to.ask_sorted(get_table("T", &["ID", "nope"]), sort).await;
    to.ask(get_table("t", &[])).await;
    to.ask(get_table("nope", &["id"])).await;
    for column in every {
        to.ask(one("t", column)).await;
    }
    to.ask(one("t", "nope")).await;
    to.ask(one("nope", "id")).await;
    // Those of one column again, and of one without a range.
    to.ask(set_table("T", vec![object("ID", "bigint", long(0, 1, 0, 2))])).await;
    let empty = ColumnStatisticsData::LongStats(LongColumnStatsData::default());
    to.ask(set_table("t", vec![object("moment", "timestamp", empty)])).await;
    to.ask_sorted(get_table("t", &["id", "moment"]), sort).await;
    to.ask(set_table("nope", vec![object("id", "bigint", long(0, 1, 0, 2))])).await;
    to.ask(set_table("t", vec![object("nope", "bigint", long(0, 1, 0, 2))])).await;
    to.ask(set_table("t", Vec::new())).await;
    let request = SetPartitionsStatsRequest {
        col_stats: vec![statistics("t", None, vec![object("id", "bigint", long(-7, 70, 0, 2))])],
        ..SetPartitionsStatsRequest::default()
    };
    to.ask(SetAggrStatsForArgs { request: Some(request) }).await;
    to.ask(one("t", "id")).await;
}

fn one(table: &str, column: &str) -> GetTableColumnStatisticsArgs {
    GetTableColumnStatisticsArgs { db_name: text("web"), tbl_name: text(table), col_name: text(column) }
}

async fn of_partitions(to: &mut Asking) {
    let second = "ds=b/k=2/d=2024-01-02";
    let both = |low, high| vec![object("id", "bigint", long(low, high, 1, 5)), object("name", "string", string(high))];
    to.ask(get_parts("p", &["id", "name"], &[NAME])).await;
    to.ask(set_part("p", NAME, both(0, 10))).await;
    to.ask(set_part("p", second, both(5, 30))).await;
    let sort = |found: &mut PartitionsStatsResult| {
        found.part_stats.values_mut().for_each(|one| one.sort_by(|one, two| one.col_name.cmp(&two.col_name)));
    };
    to.ask_sorted(get_parts("p", &["id", "name"], &[NAME, second, "ds=nope/k=2/d=2024-01-02"]), sort).await;
    to.ask_sorted(get_parts("p", &["id"], &[NAME]), sort).await;
    to.ask_sorted(get_parts("p", &[], &[NAME]), sort).await;
    to.ask_sorted(get_parts("p", &["id"], &[]), sort).await;
    to.ask_sorted(get_parts("p", &["nope"], &[NAME]), sort).await;
    to.ask(get_parts("nope", &["id"], &[NAME])).await;
    to.ask(GetPartitionArgs {
        db_name: text("web"),
        tbl_name: text("p"),
        part_vals: Some(texts(&["a", "1", "2024-01-01"])),
    })
    .await;
    to.ask(set_part("p", "ds=nope/k=1/d=2024-01-01", both(0, 1))).await;
    to.ask(set_part("p", "nonsense", both(0, 1))).await;
    to.ask(set_part("nope", NAME, both(0, 1))).await;
    to.ask(set_part("p", NAME, vec![object("nope", "bigint", long(0, 1, 0, 2))])).await;
    let sort = |found: &mut AggrStats| found.col_stats.sort_by(|one, two| one.col_name.cmp(&two.col_name));
    let aggregate =
        |columns: &[&str], parts: &[&str]| GetAggrStatsForArgs { request: Some(of_parts("p", columns, parts)) };
    to.ask_sorted(aggregate(&["id", "name"], &[NAME, second]), sort).await;
    to.ask_sorted(aggregate(&["id"], &[NAME]), sort).await;
    to.ask_sorted(aggregate(&["nope"], &[NAME]), sort).await;
    to.ask(GetAggrStatsForArgs { request: Some(of_parts("nope", &["id"], &[NAME])) }).await;
    let request = SetPartitionsStatsRequest {
        col_stats: vec![statistics("p", Some(NAME), both(-3, 33)), statistics("p", Some(second), both(-4, 44))],
        need_merge: Some(false),
        ..SetPartitionsStatsRequest::default()
    };
    to.ask(SetAggrStatsForArgs { request: Some(request) }).await;
    let sort = |found: &mut PartitionsStatsResult| {
        found.part_stats.values_mut().for_each(|one| one.sort_by(|one, two| one.col_name.cmp(&two.col_name)));
    };
    to.ask_sorted(get_parts("p", &["id", "name"], &[NAME, second]), sort).await;
}

async fn deleted(to: &mut Asking) {
    let table = |table: &str, column: Option<&str>| DeleteTableColumnStatisticsArgs {
        db_name: text("web"),
        tbl_name: text(table),
        col_name: column.map(str::to_owned),
        engine: None,
    };
    to.ask(table("t", Some("ID"))).await;
    to.ask(table("t", Some("id"))).await;
    to.ask(one("t", "id")).await;
    to.ask(table("t", Some("nope"))).await;
    to.ask(table("t", None)).await;
    to.ask(table("t", None)).await;
    to.ask(get_table("t", &["name", "day"])).await;
    to.ask(table("nope", Some("id"))).await;
    let part = |table: &str, part: &str, column: Option<&str>| DeletePartitionColumnStatisticsArgs {
        db_name: text("web"),
        tbl_name: text(table),
        part_name: text(part),
        col_name: column.map(str::to_owned),
        engine: None,
    };
    to.ask(part("p", NAME, Some("id"))).await;
    to.ask(part("p", NAME, Some("id"))).await;
    to.ask(part("p", NAME, None)).await;
    to.ask(part("p", NAME, None)).await;
    to.ask(part("p", "ds=nope/k=1/d=2024-01-01", Some("id"))).await;
    to.ask(part("p", "nonsense", Some("id"))).await;
    to.ask(part("nope", NAME, Some("id"))).await;
    to.ask(get_parts("p", &["id", "name"], &[NAME])).await;
}

/// What of them stays when a table is altered.
async fn kept_or_not(to: &mut Asking) {
    let both = || vec![object("id", "bigint", long(0, 10, 1, 5)), object("name", "string", string(3))];
    make_table(to, table("u")).await;
    to.ask(set_table("u", both())).await;
    let mut new = to.ask(super::get_table("u")).await.unwrap_or_default();
    let alter = |name: &str, new: Table| AlterTableWithEnvironmentContextArgs {
        dbname: text("web"),
        tbl_name: text(name),
        new_tbl: Some(new),
        environment_context: environment(&[]),
    };
    let sort = |found: &mut TableStatsResult| found.table_stats.sort_by(|one, two| one.col_name.cmp(&two.col_name));
    new.sd.as_mut().unwrap().cols = Some(vec![column("id", "bigint"), column("other", "string")].into());
    to.ask(alter("u", new.clone())).await;
    to.ask_sorted(get_table("u", &["id", "name", "other"]), sort).await;
    new.table_name = text("v");
    to.ask(alter("u", new)).await;
    to.ask_sorted(get_table("v", &["id", "name", "other"]), sort).await;
    to.ask(super::get_table("v")).await;
}
