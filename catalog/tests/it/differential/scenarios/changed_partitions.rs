//! Partitions that are added, altered, renamed, exchanged and dropped.

use tereza_thrift::hive::*;

use super::{Asking, drop_web, make_table, make_web, new_partition};
use crate::support::{column, environment, map, partition, partitioned_table, table, text, texts};

const FIRST: [&str; 3] = ["a", "1", "2024-01-01"];
const SECOND: [&str; 3] = ["b", "2", "2024-01-02"];

pub(super) async fn play(to: &mut Asking) {
    make_web(to).await;
    make_table(to, partitioned_table("p")).await;
    make_table(to, table("plain")).await;
    added(to).await;
    appended(to).await;
    altered(to).await;
    renamed(to).await;
    dropped(to).await;
    exchanged(to).await;
    truncated(to).await;
    for name in ["p", "plain", "target", "source"] {
        to.ask(DropTableArgs { dbname: text("web"), name: text(name), delete_data: Some(true) }).await;
    }
    drop_web(to).await;
}

fn get(table: &str, values: &[&str]) -> GetPartitionArgs {
    GetPartitionArgs { db_name: text("web"), tbl_name: text(table), part_vals: Some(texts(values)) }
}

fn names() -> GetPartitionNamesArgs {
    GetPartitionNamesArgs { db_name: text("web"), tbl_name: text("p"), max_parts: Some(-1) }
}

fn placed(values: &[&str], location: &str) -> Partition {
    let mut new = new_partition("p", values);
    new.sd.as_mut().unwrap().location = text(location);
    new
}

async fn added(to: &mut Asking) {
    let one = |new: Partition| AddPartitionArgs { new_part: Some(new) };
    let mut full = new_partition("p", &FIRST);
    full.parameters = Some(map(&[("numRows", "1"), ("empty", "")]));
    full.create_time = Some(5);
    full.last_access_time = Some(3);
    to.ask(one(full)).await;
    to.ask(get("p", &FIRST)).await;
    to.ask(one(new_partition("p", &FIRST))).await;
    to.ask(one(placed(&SECOND, "file:///tmp/tereza-differential/second"))).await;
    to.ask(get("p", &SECOND)).await;
    let context = AddPartitionWithEnvironmentContextArgs {
        new_part: Some(new_partition("p", &["c", "3", "2024-01-03"])),
        environment_context: environment(&[("a", "b")]),
    };
    to.ask(context).await;
    // What is wrong.
    to.ask(one(new_partition("p", &["a"]))).await;
    to.ask(one(new_partition("p", &["a", "1", "2024-01-01", "m"]))).await;
    to.ask(one(new_partition("p", &[]))).await;
    to.ask(one(Partition { values: None, ..new_partition("p", &[]) })).await;
    to.ask(one(new_partition("nope", &FIRST))).await;
    to.ask(one(Partition { db_name: text("nope"), ..new_partition("p", &FIRST) })).await;
    to.ask(one(new_partition("plain", &["a"]))).await;
    to.ask(one(new_partition("p", &["", "9", "2024-01-09"]))).await;
    to.ask(one(new_partition("p", &["d", "not a number", "2024-01-09"]))).await;
    to.ask(one(new_partition("p", &["d", "9", "not a date"]))).await;
    to.ask(one(Partition { sd: None, ..new_partition("p", &["e", "5", "2024-01-05"]) })).await;
    to.ask(AddPartitionArgs { new_part: None }).await;
    to.ask(names()).await;

    let many = |new_parts: Vec<Partition>| AddPartitionsArgs { new_parts: Some(new_parts) };
    let both = vec![new_partition("p", &["f", "6", "2024-01-06"]), new_partition("p", &["g", "7", "2024-01-07"])];
    to.ask(many(both)).await;
    to.ask(many(Vec::new())).await;
    // One is there already: none is added.
    to.ask(many(vec![new_partition("p", &["h", "8", "2024-01-08"]), new_partition("p", &FIRST)])).await;
    let twice = new_partition("p", &["h", "8", "2024-01-08"]);
    to.ask(many(vec![twice.clone(), twice.clone()])).await;
    to.ask(many(vec![twice.clone(), new_partition("plain", &["a"])])).await;
    to.ask(many(vec![twice.clone(), new_partition("p", &["a"])])).await;
    to.ask(many(vec![new_partition("nope", &FIRST)])).await;
    to.ask(AddPartitionsArgs { new_parts: None }).await;
    to.ask(names()).await;

    let request = |table: &str, parts: Vec<Partition>, if_not_exists: bool, need_result: bool| AddPartitionsReqArgs {
        request: Some(AddPartitionsRequest {
            db_name: "web".into(),
            tbl_name: table.into(),
            parts,
            if_not_exists,
            need_result: Some(need_result),
            ..AddPartitionsRequest::default()
        }),
    };
    let new = new_partition("p", &["i", "10", "2024-01-10"]);
    to.ask(request("p", vec![new_partition("p", &FIRST), new.clone()], true, true)).await;
    to.ask(request("p", vec![new.clone()], true, true)).await;
    to.ask(request("p", vec![new.clone()], false, true)).await;
    to.ask(request("p", vec![new_partition("p", &["j", "10", "2024-01-10"])], false, false)).await;
    to.ask(request("p", Vec::new(), false, true)).await;
    to.ask(request("p", vec![new_partition("other", &["k", "1", "2024-01-10"])], false, true)).await;
    to.ask(request("nope", vec![new_partition("nope", &FIRST)], false, true)).await;
    to.ask(names()).await;
}

async fn appended(to: &mut Asking) {
    let append = |table: &str, values: &[&str]| AppendPartitionArgs {
        db_name: text("web"),
        tbl_name: text(table),
        part_vals: Some(texts(values)),
    };
    to.ask(append("p", &["k", "11", "2024-01-11"])).await;
    to.ask(append("p", &["k", "11", "2024-01-11"])).await;
    to.ask(append("p", &["k"])).await;
    to.ask(append("nope", &["k"])).await;
    to.ask(append("plain", &["k"])).await;
    let by_name = |table: &str, name: &str| AppendPartitionByNameArgs {
        db_name: text("web"),
        tbl_name: text(table),
        part_name: text(name),
    };
    to.ask(by_name("p", "ds=l/k=12/d=2024-01-12")).await;
    to.ask(by_name("p", "ds=l/k=12/d=2024-01-12")).await;
    to.ask(by_name("p", "ds=l")).await;
    to.ask(by_name("p", "nonsense")).await;
    to.ask(by_name("nope", "ds=l")).await;
    let args = AppendPartitionWithEnvironmentContextArgs {
        db_name: text("web"),
        tbl_name: text("p"),
        part_vals: Some(texts(&["m", "13", "2024-01-13"])),
        environment_context: environment(&[]),
    };
    to.ask(args).await;
    let args = AppendPartitionByNameWithEnvironmentContextArgs {
        db_name: text("web"),
        tbl_name: text("p"),
        part_name: text("ds=n/k=14/d=2024-01-14"),
        environment_context: environment(&[]),
    };
    to.ask(args).await;
}

async fn altered(to: &mut Asking) {
    let alter = |table: &str, new: Partition| AlterPartitionArgs {
        db_name: text("web"),
        tbl_name: text(table),
        new_part: Some(new),
    };
    let mut new = to.ask(get("p", &FIRST)).await.unwrap_or_default();
    new.parameters = Some(map(&[("x", "y")]));
    new.last_access_time = Some(8);
    to.ask(alter("P", new.clone())).await;
    to.ask(get("p", &FIRST)).await;
    let mut changed = new.clone();
    let sd = changed.sd.as_mut().unwrap();
    sd.location = text("file:///tmp/tereza-differential/elsewhere");
    sd.cols = Some(vec![column("id", "bigint")].into());
    to.ask(alter("p", changed)).await;
    to.ask(get("p", &FIRST)).await;
    // What a client leaves out.
    to.ask(alter("p", Partition { sd: None, ..new.clone() })).await;
    to.ask(alter("p", Partition { parameters: None, ..new.clone() })).await;
    to.ask(get("p", &FIRST)).await;
    let mut no_location = new.clone();
    no_location.sd.as_mut().unwrap().location = None;
    to.ask(alter("p", no_location)).await;
    to.ask(get("p", &FIRST)).await;
    to.ask(alter("p", new_partition("p", &["nope", "1", "2024-01-01"]))).await;
    to.ask(alter("p", new_partition("p", &["a"]))).await;
    to.ask(alter("nope", new_partition("nope", &FIRST))).await;
    to.ask(alter("plain", new_partition("plain", &["a"]))).await;
    to.ask(alter("p", Partition { table_name: text("other"), ..new.clone() })).await;
    let args = AlterPartitionWithEnvironmentContextArgs {
        db_name: text("web"),
        tbl_name: text("p"),
        new_part: Some(new.clone()),
        environment_context: environment(&[("DO_NOT_UPDATE_STATS", "true")]),
    };
    to.ask(args).await;

    let many = |table: &str, new_parts: Vec<Partition>| AlterPartitionsArgs {
        db_name: text("web"),
        tbl_name: text(table),
        new_parts: Some(new_parts),
    };
    let mut other = to.ask(get("p", &SECOND)).await.unwrap_or_default();
    other.parameters = Some(map(&[("second", "yes")]));
    to.ask(many("p", vec![new.clone(), other.clone()])).await;
    to.ask(get("p", &SECOND)).await;
    other.parameters = Some(map(&[("second", "no")]));
    to.ask(many("p", vec![other.clone(), new_partition("p", &["nope", "1", "2024-01-01"])])).await;
    to.ask(get("p", &SECOND)).await;
    to.ask(many("p", Vec::new())).await;
    to.ask(many("nope", vec![new.clone()])).await;
    let args = AlterPartitionsWithEnvironmentContextArgs {
        db_name: text("web"),
        tbl_name: text("p"),
        new_parts: Some(vec![other]),
        environment_context: environment(&[]),
    };
    to.ask(args).await;
}

async fn renamed(to: &mut Asking) {
    let rename = |table: &str, values: &[&str], new: Partition| RenamePartitionArgs {
        db_name: text("web"),
        tbl_name: text(table),
        part_vals: Some(texts(values)),
        new_part: Some(new),
    };
    let old = to.ask(get("p", &SECOND)).await.unwrap_or_default();
    let to_values = |values: &[&str]| Partition { values: Some(texts(values)), ..old.clone() };
    // It lies elsewhere than in its usual folder.
    to.ask(rename("p", &SECOND, to_values(&["o", "15", "2024-01-15"]))).await;
    to.ask(get("p", &SECOND)).await;
    to.ask(get("p", &["o", "15", "2024-01-15"])).await;
    // It lies in its usual folder.
    let usual = ["c", "3", "2024-01-03"];
    let mut new = to.ask(get("p", &usual)).await.unwrap_or_default();
    new.values = Some(texts(&["q", "16", "2024-01-16"]));
    to.ask(rename("p", &usual, new)).await;
    to.ask(get("p", &["q", "16", "2024-01-16"])).await;
    to.ask(rename("p", &["o", "15", "2024-01-15"], to_values(&["f", "6", "2024-01-06"]))).await;
    to.ask(rename("p", &["nope", "1", "2024-01-01"], to_values(&["r", "17", "2024-01-17"]))).await;
    to.ask(rename("p", &["o", "15", "2024-01-15"], to_values(&["r"]))).await;
    to.ask(rename("p", &["o"], to_values(&["r", "17", "2024-01-17"]))).await;
    to.ask(rename("nope", &["o"], to_values(&["r"]))).await;
    to.ask(names()).await;
}

async fn dropped(to: &mut Asking) {
    let drop = |table: &str, values: &[&str]| DropPartitionArgs {
        db_name: text("web"),
        tbl_name: text(table),
        part_vals: Some(texts(values)),
        delete_data: Some(true),
    };
    to.ask(drop("P", &["f", "6", "2024-01-06"])).await;
    to.ask(drop("p", &["f", "6", "2024-01-06"])).await;
    to.ask(drop("p", &["f"])).await;
    to.ask(drop("p", &[])).await;
    to.ask(drop("nope", &["f"])).await;
    to.ask(drop("plain", &["f"])).await;
    let by_name = |table: &str, name: &str| DropPartitionByNameArgs {
        db_name: text("web"),
        tbl_name: text(table),
        part_name: text(name),
        delete_data: Some(false),
    };
    to.ask(by_name("p", "ds=g/k=7/d=2024-01-07")).await;
    to.ask(by_name("p", "ds=g/k=7/d=2024-01-07")).await;
    to.ask(by_name("p", "ds=g")).await;
    to.ask(by_name("p", "nonsense")).await;
    to.ask(by_name("nope", "ds=g")).await;
    let args = DropPartitionWithEnvironmentContextArgs {
        db_name: text("web"),
        tbl_name: text("p"),
        part_vals: Some(texts(&["k", "11", "2024-01-11"])),
        delete_data: Some(true),
        environment_context: environment(&[("ifPurge", "true")]),
    };
    to.ask(args).await;
    let args = DropPartitionByNameWithEnvironmentContextArgs {
        db_name: text("web"),
        tbl_name: text("p"),
        part_name: text("ds=l/k=12/d=2024-01-12"),
        delete_data: Some(true),
        environment_context: environment(&[]),
    };
    to.ask(args).await;
    let request = |table: &str, names: &[&str], if_exists: bool| DropPartitionsReqArgs {
        req: Some(DropPartitionsRequest {
            db_name: "web".into(),
            tbl_name: table.into(),
            parts: RequestPartsSpec::Names(texts(names)),
            if_exists: Some(if_exists),
            delete_data: Some(true),
            ..DropPartitionsRequest::default()
        }),
    };
    to.ask(request("p", &["ds=m/k=13/d=2024-01-13", "ds=nope/k=13/d=2024-01-13"], false)).await;
    to.ask(request("p", &["ds=m/k=13/d=2024-01-13", "ds=nope/k=13/d=2024-01-13"], true)).await;
    to.ask(request("p", &[], true)).await;
    to.ask(request("nope", &["ds=m"], true)).await;
    to.ask(names()).await;
}

async fn exchanged(to: &mut Asking) {
    make_table(to, partitioned_table("target")).await;
    let exchange = |value: &str, from: &str, target: &str| ExchangePartitionsArgs {
        partition_specs: Some(map(&[("ds", value), ("k", "1"), ("d", "2024-01-01")])),
        source_db: text("web"),
        source_table_name: text(from),
        dest_db: text("web"),
        dest_table_name: text(target),
    };
    let mut source = partition("source", &FIRST);
    source.sd = partitioned_table("source").sd;
    make_table(to, partitioned_table("source")).await;
    to.ask(AddPartitionArgs { new_part: Some(source) }).await;
    to.ask(exchange("a", "source", "target")).await;
    to.ask(get("source", &FIRST)).await;
    to.ask(get("target", &FIRST)).await;
    to.ask(exchange("a", "source", "target")).await;
    to.ask(exchange("nope", "source", "target")).await;
    to.ask(exchange("a", "nope", "target")).await;
    to.ask(exchange("a", "source", "plain")).await;
}

async fn truncated(to: &mut Asking) {
    let truncate = |database: &str, table: &str, parts: Option<&[&str]>| TruncateTableArgs {
        db_name: text(database),
        table_name: text(table),
        part_names: parts.map(texts),
    };
    to.ask(truncate("web", "plain", None)).await;
    to.ask(truncate("web", "target", Some(&["ds=a/k=1/d=2024-01-01"]))).await;
    to.ask(truncate("web", "target", Some(&["ds=nope/k=1/d=2024-01-01"]))).await;
    to.ask(truncate("web", "target", None)).await;
    to.ask(truncate("web", "nope", None)).await;
    to.ask(truncate("nope", "t", None)).await;
}
