//! Partitions that are found: by their values, their names, and the first of their values.

use tereza_thrift::hive::*;

use super::{Asking, drop_web, make_table, make_web, new_partition};
use crate::support::{partitioned_table, table, text, texts};

pub(super) async fn play(to: &mut Asking) {
    make_web(to).await;
    make_table(to, partitioned_table("p")).await;
    make_table(to, table("plain")).await;
    let parts = [
        ["a", "1", "2024-01-01"],
        ["a", "2", "2024-01-02"],
        ["b", "1", "2024-01-01"],
        ["x/y:z% =\"'#ü", "3", "2024-01-03"],
        ["A", "1", "2024-01-01"],
    ];
    let parts = parts.iter().map(|values| new_partition("p", values)).collect();
    to.ask(AddPartitionsArgs { new_parts: Some(parts) }).await;
    let null = "__HIVE_DEFAULT_PARTITION__";
    to.ask(AddPartitionArgs { new_part: Some(new_partition("p", &[null, null, null])) }).await;
    by_values(to).await;
    by_names(to).await;
    listed(to).await;
    drop_web(to).await;
}

async fn by_values(to: &mut Asking) {
    for (table, values) in [
        ("p", &["a", "1", "2024-01-01"][..]),
        ("P", &["x/y:z% =\"'#ü", "3", "2024-01-03"]),
        ("p", &["nope", "1", "2024-01-01"]),
        ("p", &["a"]),
        ("p", &["a", "1", "2024-01-01", "more"]),
        ("p", &[]),
        ("plain", &["a"]),
        ("nope", &["a", "1", "2024-01-01"]),
    ] {
        let (db_name, tbl_name, part_vals) = (text("web"), text(table), Some(texts(values)));
        to.ask(GetPartitionArgs { db_name: db_name.clone(), tbl_name: tbl_name.clone(), part_vals: part_vals.clone() })
            .await;
        let (user_name, group_names) = (text("ada"), Some(Vec::new()));
        to.ask(GetPartitionWithAuthArgs { db_name, tbl_name, part_vals, user_name, group_names }).await;
    }
    let values = Some(texts(&["a", "1", "2024-01-01"]));
    to.ask(GetPartitionArgs { db_name: text("nope"), tbl_name: text("p"), part_vals: values }).await;
}

async fn by_names(to: &mut Asking) {
    for name in [
        "ds=a/k=1/d=2024-01-01",
        "DS=a/K=1/D=2024-01-01",
        "ds=x%2Fy%3Az%25 %3D%22%27%23ü/k=3/d=2024-01-03",
        "ds=nope/k=1/d=2024-01-01",
        "ds=a/k=1",
        "ds=a/x=1/d=2024-01-01",
        "k=1/ds=a/d=2024-01-01",
        "nonsense",
        "",
    ] {
        let args = GetPartitionByNameArgs { db_name: text("web"), tbl_name: text("p"), part_name: text(name) };
        to.ask(args).await;
        to.ask(PartitionNameToValsArgs { part_name: text(name) }).await;
        to.ask(PartitionNameToSpecArgs { part_name: text(name) }).await;
    }
    let args = |table: &str, name: &str| GetPartitionByNameArgs {
        db_name: text("web"),
        tbl_name: text(table),
        part_name: text(name),
    };
    to.ask(args("nope", "ds=a")).await;
    to.ask(args("plain", "ds=a")).await;
    let by_names = |table: &str, names: &[&str]| GetPartitionsByNamesArgs {
        db_name: text("web"),
        tbl_name: text(table),
        names: Some(texts(names)),
    };
    let sort = |found: &mut Vec<Partition>| found.sort_by(|one, two| one.values.cmp(&two.values));
    to.ask_sorted(by_names("p", &["ds=b/k=1/d=2024-01-01", "ds=a/k=1/d=2024-01-01", "ds=no/k=1/d=2024-01-01"]), sort)
        .await;
    to.ask_sorted(by_names("p", &["ds=b/k=1/d=2024-01-01", "ds=b/k=1/d=2024-01-01"]), sort).await;
    to.ask_sorted(by_names("p", &["nonsense", "ds=a"]), sort).await;
    to.ask_sorted(by_names("p", &[]), sort).await;
    to.ask(by_names("nope", &["ds=a/k=1/d=2024-01-01"])).await;
    to.ask(by_names("plain", &["ds=a"])).await;
    to.ask(GetPartitionsByNamesArgs { db_name: text("web"), tbl_name: text("p"), names: None }).await;
    for values in [&["a", "b"][..], &["é", "漢"], &[]] {
        let (part_vals, throw_exception) = (Some(texts(values)), Some(true));
        to.ask(PartitionNameHasValidCharactersArgs { part_vals, throw_exception }).await;
    }
}

async fn listed(to: &mut Asking) {
    let sort = |found: &mut Vec<Partition>| found.sort_by(|one, two| one.values.cmp(&two.values));
    for (table, max) in [("p", -1), ("p", 0), ("P", 100), ("plain", -1), ("nope", -1)] {
        let (db_name, tbl_name, max_parts) = (text("web"), text(table), Some(max));
        let (user_name, group_names) = (text("ada"), Some(Vec::new()));
        to.ask(GetPartitionNamesArgs { db_name: db_name.clone(), tbl_name: tbl_name.clone(), max_parts }).await;
        to.ask_sorted(GetPartitionsArgs { db_name: db_name.clone(), tbl_name: tbl_name.clone(), max_parts }, sort)
            .await;
        let args = GetPartitionsWithAuthArgs { db_name, tbl_name, max_parts, user_name, group_names };
        to.ask_sorted(args, sort).await;
    }
    let two = GetPartitionNamesArgs { db_name: text("web"), tbl_name: text("p"), max_parts: Some(2) };
    to.ask(two).await;
    to.ask(GetPartitionNamesArgs { db_name: text("nope"), tbl_name: text("p"), max_parts: Some(-1) }).await;
    let by_pattern = |table: &str, values: &[&str], max: i16| GetPartitionNamesPsArgs {
        db_name: text("web"),
        tbl_name: text(table),
        part_vals: Some(texts(values)),
        max_parts: Some(max),
    };
    for values in [
        &["a"][..],
        &["a", "", ""],
        &["", "1", ""],
        &["", "1"],
        &["", "", "2024-01-01"],
        &["", "", ""],
        &["", "9", ""],
        &["a", "1", "2024-01-01"],
        &["x/y:z% =\"'#ü", "", ""],
        &["__HIVE_DEFAULT_PARTITION__", "", ""],
        &["a", "1", "2024-01-01", "more"],
        &[],
    ] {
        to.ask(by_pattern("p", values, -1)).await;
    }
    to.ask(by_pattern("p", &["a"], 1)).await;
    to.ask(by_pattern("p", &["a"], 0)).await;
    to.ask(by_pattern("plain", &["a"], -1)).await;
    to.ask(by_pattern("nope", &["a"], -1)).await;
    for (table, values) in
        [("p", &["a"][..]), ("p", &["", "1", ""]), ("p", &[]), ("p", &["a", "1", "d", "m"]), ("nope", &["a"])]
    {
        let (db_name, tbl_name) = (text("web"), text(table));
        let (part_vals, max_parts) = (Some(texts(values)), Some(-1));
        let args = GetPartitionsPsArgs {
            db_name: db_name.clone(),
            tbl_name: tbl_name.clone(),
            part_vals: part_vals.clone(),
            max_parts,
        };
        to.ask_sorted(args, sort).await;
        let (user_name, group_names) = (text("ada"), Some(Vec::new()));
        let args = GetPartitionsPsWithAuthArgs { db_name, tbl_name, part_vals, max_parts, user_name, group_names };
        to.ask_sorted(args, sort).await;
    }
    let specs = |table: &str, max: i32| GetPartitionsPspecArgs {
        db_name: text("web"),
        tbl_name: text(table),
        max_parts: Some(max),
    };
    to.ask(specs("p", 2)).await;
    to.ask(specs("nope", -1)).await;
    let values = |table: &str, key: &str| GetPartitionValuesArgs {
        request: Some(PartitionValuesRequest {
            db_name: "web".into(),
            tbl_name: table.into(),
            partition_keys: vec![crate::support::column(key, "string")],
            ..PartitionValuesRequest::default()
        }),
    };
    to.ask(values("p", "k")).await;
    to.ask(values("p", "nope")).await;
    to.ask(values("nope", "k")).await;
    let expression = |table: &str, expr: &'static [u8]| GetPartitionsByExprArgs {
        req: Some(PartitionsByExprRequest {
            db_name: "web".into(),
            tbl_name: table.into(),
            expr: expr.into(),
            ..PartitionsByExprRequest::default()
        }),
    };
    to.ask(expression("p", b"no expression")).await;
    to.ask(expression("nope", b"")).await;
}
