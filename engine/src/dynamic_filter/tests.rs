use datafusion::prelude::SessionContext;

use super::*;
use crate::test_session::{Rules, answer, config, plain_rules, plan, session, shown};

/// Items of orders, of which few are marked: the items of an order are spread over all of them.
const TABLES: &str = "
create table orders as select value as o_id, case when value % 500 = 7 then 'marked' else 'plain' end as o_mark,
  value % 2 as o_half from range(20000);
create table items as select value * 7919 % 20000 as i_o, nullif(value % 13, 5) as i_x from range(400000)";

async fn context(rules: Rules) -> SessionContext {
    let mut config = config();
    // All joins exchange both sides, so that what is dropped early is spared something.
    config.options_mut().optimizer.hash_join_single_partition_threshold = 0;
    config.options_mut().optimizer.hash_join_single_partition_threshold_rows = 0;
    session(config, rules, TABLES).await
}

/// The answer with the operator, how its plan looks after it ran, and how many rows were dropped; and the answer without.
async fn run(sql: &str) -> (String, String, usize, String) {
    let context = context(with_dynamic_filters(plain_rules())).await;
    let plan = plan(&context, sql).await;
    let answer = crate::test_session::run(&context, Arc::clone(&plan)).await;
    let mut dropped = 0;
    plan.apply(|node| {
        if node.is::<DynamicFilterExec>() {
            dropped += node.metrics().unwrap().sum_by_name("rows_dropped").map_or(0, |dropped| dropped.as_usize());
        }
        Ok(TreeNodeRecursion::Continue)
    })
    .unwrap();
    let without = self::context(plain_rules()).await;
    (answer, shown(&plan), dropped, self::answer(&without, sql).await)
}

#[tokio::test]
async fn rows_without_partner_are_dropped_before_they_are_summed_up() {
    let sql = "select sum(total) from orders join (select i_o, count(*) as total from items group by i_o) on o_id = i_o
               where o_mark = 'marked'";
    let (answer, plan, dropped, expected) = run(sql).await;
    assert_eq!(answer, expected);
    assert!(plan.contains("DynamicFilterExec: DynamicFilter"), "{plan}");
    // One order in 500 is marked.
    assert_eq!(dropped, 400_000 - 800, "{plan}");
}

#[tokio::test]
async fn a_filter_that_keeps_most_rows_is_given_up() {
    let sql = "select sum(total) from orders join (select i_o, count(*) as total from items group by i_o) on o_id = i_o
               where (o_id + 2 * o_half) % 16 < 15";
    let (answer, plan, dropped, expected) = run(sql).await;
    assert_eq!(answer, expected);
    assert!(plan.contains("DynamicFilterExec"), "{plan}");
    assert!(dropped > 0 && dropped < 400_000 / 16, "{dropped} rows: {plan}");
}

#[tokio::test]
async fn what_comes_next_is_not_done_twice() {
    let context = context(with_dynamic_filters(plain_rules())).await;
    for sql in [
        // The join looks all rows of the scan up.
        "select count(*) from orders join items on o_id = i_o where o_mark = 'marked'",
        // No join.
        "select i_o, i_x from items where i_x > 3 order by i_x limit 5",
        "select min(i_x), max(i_o) from items",
    ] {
        let text = shown(&plan(&context, sql).await);
        assert!(!text.contains("DynamicFilterExec"), "{text}");
    }
}

#[tokio::test]
async fn joins_of_every_kind_answer_the_same() {
    let counted = "(select i_o, i_x, count(*) as n from items where i_o % 3 = 0 group by i_o, i_x)";
    let marked = "(select * from orders where o_mark = 'marked')";
    for (join, columns) in [
        ("inner join", "o_id, i_x, n"),
        ("left join", "o_id, i_x, n"),
        ("right join", "o_id, i_x, n"),
        ("full join", "o_id, i_x, n"),
        ("left semi join", "o_id"),
        ("right semi join", "i_o, i_x, n"),
        ("left anti join", "o_id"),
        ("right anti join", "i_o, i_x, n"),
    ] {
        for on in ["o_id = i_o", "o_id = i_o and o_half = i_x", "(o_half is not distinct from i_x) and o_id < i_o"] {
            let sql = format!(
                "select count(*), sum(hash) from (select length(concat_ws('|', {columns})) as hash from {marked} {join} {counted} on {on})"
            );
            let (answer, plan, _, expected) = run(&sql).await;
            assert_eq!(answer, expected, "{sql}\n{plan}");
        }
    }
    for sql in [
        "select count(*) from items where i_x not in (select o_half from orders where o_mark = 'marked')",
        "select count(*) from orders where o_id in (select i_o from items group by i_o having sum(i_x) > 150)",
        "with recursive walk(id, step) as (select 7, 0 union all
           select (walk.id * 3 + 500) % 20000, step + 1 from walk join (select i_o, max(i_x) from items group by i_o) on id = i_o where step < 6)
         select * from walk order by step",
    ] {
        let (answer, plan, _, expected) = run(sql).await;
        assert_eq!(answer, expected, "{sql}\n{plan}");
    }
}
