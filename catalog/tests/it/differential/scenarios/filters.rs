//! Filters of partitions.

use tereza_thrift::hive::*;

use super::{Asking, drop_web, make_table, make_web};
use crate::support::{column, partition, table, text};

pub(super) async fn play(to: &mut Asking) {
    make_web(to).await;
    let keys = vec![column("s", "string"), column("i", "int"), column("d", "date")];
    make_table(to, Table { partition_keys: Some(keys), ..table("f") }).await;
    let null = "__HIVE_DEFAULT_PARTITION__";
    let values = [
        ["a", "1", "2024-01-01"],
        ["ab", "2", "2024-01-02"],
        ["b", "3", "2024-02-01"],
        ["b", "03", "2024-02-02"],
        ["A", "10", "2023-12-31"],
        ["1", "-5", "2024-01-01"],
        [null, null, null],
    ];
    let parts = values.iter().map(|values| Partition { sd: table("f").sd, ..partition("f", values) }).collect();
    to.ask(AddPartitionsArgs { new_parts: Some(parts) }).await;
    for filter in TEXTS {
        let found = to.ask_sorted(by_filter("f", filter), |found| {
            // Only which they are.
            for one in found.iter_mut() {
                *one = Partition { values: one.values.clone(), ..Partition::default() };
            }
            found.sort_by(|one, two| one.values.cmp(&two.values));
        });
        found.await;
    }
    to.ask(by_filter("nope", "s = \"a\"")).await;
    let count = |table: &str, filter: &str| GetNumPartitionsByFilterArgs {
        db_name: text("web"),
        tbl_name: text(table),
        filter: text(filter),
    };
    to.ask(count("f", "i > 1")).await;
    to.ask(count("f", "")).await;
    to.ask(count("f", "nonsense")).await;
    to.ask(count("nope", "i > 1")).await;
    let specs = |table: &str, filter: &str| GetPartSpecsByFilterArgs {
        db_name: text("web"),
        tbl_name: text(table),
        filter: text(filter),
        max_parts: Some(-1),
    };
    to.ask(specs("f", "s = \"a\"")).await;
    to.ask(specs("f", "s = \"none\"")).await;
    to.ask(specs("f", "nonsense")).await;
    to.ask(specs("nope", "s = \"a\"")).await;
    let two = GetPartitionsByFilterArgs { max_parts: Some(0), ..by_filter("f", "i > 0") };
    to.ask(two).await;
    // Keys of other types.
    let keys = vec![column("v", "varchar(10)"), column("n", "decimal(10,2)"), column("l", "bigint")];
    make_table(to, Table { partition_keys: Some(keys), ..table("o") }).await;
    let parts = [["x", "1.50", "1"], ["y", "10", "20"]];
    let parts = parts.iter().map(|values| Partition { sd: table("o").sd, ..partition("o", values) }).collect();
    to.ask(AddPartitionsArgs { new_parts: Some(parts) }).await;
    for filter in ["v = \"x\"", "n = 1.5", "n > 2", "l = 20", "l = \"20\"", "l in (1, 20)", "l between 1 and 5"] {
        let args = GetNumPartitionsByFilterArgs { db_name: text("web"), tbl_name: text("o"), filter: text(filter) };
        to.ask(args).await;
    }
    drop_web(to).await;
}

fn by_filter(table: &str, filter: &str) -> GetPartitionsByFilterArgs {
    GetPartitionsByFilterArgs { db_name: text("web"), tbl_name: text(table), filter: text(filter), max_parts: Some(-1) }
}

const TEXTS: [&str; 50] = [
    "",
    "s = \"a\"",
    "s = 'a'",
    "\"a\" = s",
    "S = \"a\"",
    "s != \"a\"",
    "s <> \"a\"",
    "s > \"a\"",
    "s >= \"a\" and s < \"b\"",
    "s = \"a\" or s = \"b\"",
    "s = \"a\" OR s = \"b\" AND i = 3",
    "(s = \"a\" or s = \"b\") and (i = 3)",
    "s like \"a.*\"",
    "s like \"a%\"",
    "s like \".*b\"",
    "s LIKE \"a\"",
    "s between \"a\" and \"b\"",
    "s not between \"a\" and \"b\"",
    "(s) in (\"a\", \"b\")",
    "s in (\"a\", \"b\")",
    "(s) not in (\"a\", \"b\")",
    "i = 3",
    "i != 3",
    "i > 2",
    "2 < i",
    "i >= -5 and i <= 1",
    "i between 1 and 3",
    "i = \"3\"",
    "(i) in (1, 10)",
    "i in (1, 10)",
    "s = 1",
    "d = \"2024-01-01\"",
    "d = 2024-01-01",
    "d = date \"2024-01-01\"",
    "d = DATE '2024-01-01'",
    "d > '2024-01-01'",
    "d between 2024-01-01 and 2024-01-31",
    "(d) in (2024-01-01, 2024-02-01)",
    "(struct(s,i)) in (const struct('a',1), const struct('b',3))",
    "nope = \"a\"",
    "id = 1",
    "nonsense",
    "s = ",
    "s = \"a\" and",
    "not s = \"a\"",
    "s is null",
    "i = 1.5",
    "i = 1L",
    "s = \"a",
    "s = \"__HIVE_DEFAULT_PARTITION__\"",
];
