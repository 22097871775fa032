use datafusion::execution::SessionStateBuilder;
use datafusion::prelude::SessionContext;

use super::*;
use crate::test_session::{answer, config, plain_rules, plan, run, session, shown};

/// Items of orders of customers of countries of regions, and parts: `o` 1,000 and `i` 10,000 rows.
const TABLES: &str = "
create table r as select value as r_id, 'r' || value as r_name from range(5);
create table n as select value as n_id, value % 5 as n_r, 'n' || value as n_name from range(25);
create table c as select value as c_id, value % 25 as c_n from range(100);
create table s as select value as s_id, value % 25 as s_n from range(50);
create table ps as select value % 200 as ps_p, value * 13 % 10007 % 47 as ps_s, value as ps_cost from range(800);
create table o as select value as o_id, value * 7919 % 10007 % 100 as o_c, nullif(value % 11, 3) as o_x from range(1000);
create table i as select value * 7919 % 10007 % 1000 as i_o, ps_p as i_p, ps_s as i_s, value % 7 as i_x
  from range(10000) join ps on value * 6421 % 10009 % 800 = ps_cost;
create table p as select value as p_id, value % 10 as p_kind from range(200)";

async fn with_rule() -> SessionContext {
    let mut rules = plain_rules();
    rules.insert(0, Arc::new(JoinOrder));
    session(config(), rules, TABLES).await
}

async fn without_rule() -> SessionContext {
    session(config(), plain_rules(), TABLES).await
}

/// The plan that the rule makes of a statement's, before other rules see it.
async fn ordered(sql: &str) -> (String, String) {
    let state = without_rule().await.state();
    let state = SessionStateBuilder::new_from_existing(state).with_physical_optimizer_rules(Vec::new()).build();
    let plan = plan(&SessionContext::new_with_state(state), sql).await;
    let after = JoinOrder.optimize(Arc::clone(&plan), &ConfigOptions::default()).unwrap();
    assert_eq!(plan.schema(), after.schema());
    let mut off = ConfigOptions::default();
    off.optimizer.join_reordering = false;
    assert!(Arc::ptr_eq(&JoinOrder.optimize(Arc::clone(&plan), &off).unwrap(), &plan));
    (shown(&plan), shown(&after))
}

fn joins(plan: &str) -> Vec<&str> {
    plan.lines().filter(|line| line.contains("HashJoinExec")).collect()
}

#[tokio::test]
async fn a_filter_that_is_named_last_comes_first() {
    let (before, after) = ordered(
        "select sum(i_x) from c, o, i, n, r
         where c_id = o_c and o_id = i_o and c_n = n_id and n_r = r_id and r_name = 'r3'",
    )
    .await;
    assert!(joins(&before)[0].contains("r_id"), "{before}");
    let on: Vec<_> = joins(&after).iter().map(|join| join.split(", on=").nth(1).unwrap().to_string()).collect();
    assert!(on[0].contains("i_o"), "{after}");
    assert!(on[3].contains("n_r"), "{after}");
    // Nothing that is not needed is carried along.
    assert!(!on[1].split("projection=").nth(1).unwrap().contains("r_id"), "{after}");
}

#[tokio::test]
async fn what_gains_nothing_stays() {
    for sql in [
        "select count(*) from o, i where o_id = i_o",
        "select count(*) from r, n, c, o where r_id = n_r and n_id = c_n and c_id = o_c and r_name = 'r1'",
        "select count(*) from o left join i on o_id = i_o left join c on c_id = o_c",
    ] {
        let (before, after) = ordered(sql).await;
        assert_eq!(before, after, "{sql}");
    }
}

#[tokio::test]
async fn answers_are_those_of_the_order_in_the_text() {
    let (with, without) = (with_rule().await, without_rule().await);
    let mut changed = 0;
    for sql in [
        // One class of equal columns over three tables.
        "select n_name, sum(i_x), count(*) from c, o, i, s, n, r
         where c_id = o_c and o_id = i_o and i_s = s_id and c_n = s_n and s_n = n_id and n_r = r_id and r_name = 'r2'
         group by n_name order by n_name",
        // Conditions that are no equalities, over tables that come together in different places.
        "select n1.n_name, n2.n_name, count(*), sum(i_x + o_id) from s, i, o, c, n n1, n n2
         where s_id = i_s and o_id = i_o and c_id = o_c and s_n = n1.n_id and c_n = n2.n_id
           and (n1.n_name = 'n3' and n2.n_name = 'n7' or n1.n_name = 'n7' and n2.n_name = 'n14' or o_x > s_id + n2.n_r)
           and i_x < o_x
         group by 1, 2 order by 1, 2",
        // A key of two columns.
        "select p_kind, sum(i_x * ps_cost), count(*) from p, s, i, ps, o, n
         where s_id = i_s and ps_s = i_s and ps_p = i_p and p_id = i_p and o_id = i_o and s_n = n_id and p_kind < 3
         group by p_kind order by p_kind",
        // One column that two of another table are to equal, and conditions of one table and of none.
        "select count(*), sum(i_x) from i, o, c, n, r
         where i_o = o_id and i_x = o_id and o_c = c_id and c_n = n_id and n_r = r_id and r_name = 'r1'",
        "select count(*) from i join o on i_o = o_id and i_x < 3 join c on o_c = c_id and random() >= 0
         join n on c_n = n_id and random() + n_id < 5 join r on n_r = r_id and r_name = 'r1'",
        // Keys that are NULL find nothing; a table twice; expressions over the joined columns.
        "select a.o_id + b.o_id as ids, a.o_x, r_name from o a, o b, c, n, r
         where a.o_x = b.o_x and a.o_c = c_id and c_n = n_id and n_r = r_id and r_id = 4 and b.o_id < 20
         order by 1, 2, 3 limit 50",
        // Joins below other operators, and all columns.
        "select * from (select distinct i_o, i_s from i, p where i_p = p_id and p_kind = 1) d, o, c, n
         where i_o = o_id and o_c = c_id and c_n = n_id and n_name = 'n5' order by 1, 2 limit 100",
        "select n_name, (select count(*) from i, s, p where i_s = s_id and s_n = n_id and i_p = p_id and p_kind = 2) k
         from n, r where n_r = r_id and r_name = 'r0' order by 1",
        "select count(*) from i join (o left join c on o_c = c_id) on i_o = o_id join s on i_s = s_id join n on s_n = n_id
         where n_name = 'n9'",
    ] {
        let (new, old) = (plan(&with, sql).await, plan(&without, sql).await);
        let text = shown(&new);
        changed += usize::from(text != shown(&old));
        let expected = run(&without, old).await;
        assert!(expected.lines().count() > 4, "{sql}\n{expected}");
        assert_eq!(run(&with, new).await, expected, "{sql}\n{text}");
    }
    assert!(changed >= 5, "the rule changed {changed} plans");
}

#[tokio::test]
async fn conditions_with_lambdas_stay_where_they_are() {
    let mut answers = Vec::new();
    for context in [with_rule().await, without_rule().await] {
        let arrays = "create table a as select o_id, o_c, o_x, make_array(o_x, o_c % 40) as o_xs from o";
        context.sql(arrays).await.unwrap().collect().await.unwrap();
        context.sql("set datafusion.sql_parser.dialect = 'duckdb'").await.unwrap();
        // In the best order both conditions fall to the last join, with the columns of one before those of the other.
        let sql = "select count(*) from a, i, c where o_id = i_o and o_c = c_id and c_n = 3
                   and o_x < i_x and array_any_match(o_xs, v -> v > i_x + c_n)";
        answers.push(answer(&context, sql).await);
    }
    assert_eq!(answers[0], answers[1]);
}

#[tokio::test]
async fn joins_that_nothing_connects_and_many_inputs_stay() {
    let many = (0..12).map(|i| format!("n n{i}")).collect::<Vec<_>>().join(", ");
    let equal = (1..12).map(|i| format!("n{}.n_id = n{i}.n_id", i - 1)).collect::<Vec<_>>().join(" and ");
    let (before, after) = ordered(&format!("select count(*) from {many} where {equal}")).await;
    assert_eq!(before, after);
    let (_, after) = ordered("select count(*) from n, r, s where n_r = r_id").await;
    assert!(after.contains("CrossJoinExec"), "{after}");
}

#[test]
fn a_set_is_split_in_all_ways() {
    assert_eq!(splits(0b1011).collect::<Vec<_>>(), [0b1010, 0b1001, 0b1000, 0b0011, 0b0010, 0b0001]);
    assert_eq!(splits(0b1).count(), 0);
}
