//! Where a job begins: what its first plan says, and what the plan in force says when it begins again.

use std::collections::BTreeMap;

use tereza_runtime::{Error, Result};

use super::attempt::TASKS_MAX;
use super::prepare::{Prepared, WrittenTable};
use crate::connector::Connector;
use crate::coordinator::{Edges, Share, of_share};
use crate::kafka::{Cluster, KafkaOptions, Topics, resolve};
use crate::log::{Last, Log, LogName};
use crate::objects::Objects;
use crate::operator::key::KEY_GROUPS;
use crate::record::{Body, Cut, PlanRecord, Positions};
use crate::shares::{self, Owners};

/// The plan in force; `None` if the job has none.
pub(crate) async fn in_force(log: &dyn Log, objects: &Objects, uid: &str) -> Result<Option<PlanRecord>> {
    let body = match log.peek(&LogName::control(uid)).await? {
        Last::Nothing => return Ok(None),
        Last::Record(body) => body,
        Last::Sealed(_) => return Err(Error::not_found(format!("the job {uid} is closed"))),
    };
    match loaded(body, objects).await? {
        Body::Plan(plan) => Ok(Some(*plan)),
        _ => Err(Error::internal(format!("the log of plans of {uid} holds something else"))),
    }
}

async fn loaded(body: Body, objects: &Objects) -> Result<Body> {
    let Body::Stored { object, .. } = body else { return Ok(body) };
    let bytes = objects.get(&object).await?;
    Body::decode(&bytes.ok_or_else(|| Error::internal(format!("the object {} is gone", object.path)))?)
}

/// Where the tasks of a plan together are, as far as their logs tell without being opened.
pub(crate) async fn seen(plan: &PlanRecord, log: &dyn Log, objects: &Objects) -> Result<Positions> {
    let mut seen = shares::positions(plan);
    for task in (0..).take(plan.cuts.len()) {
        let body = match log.peek(&LogName::task(&plan.uid, task)).await? {
            Last::Record(body) => Some(body),
            Last::Sealed(seal) => seal.record,
            Last::Nothing => None,
        };
        let Some(body) = body else { continue };
        // An object may be gone since it was named: then there is a later record.
        if let Ok(Body::Epoch(record)) = loaded(body, objects).await {
            for (topic, at) in record.positions {
                seen.entry(topic).or_default().extend(at);
            }
        }
    }
    Ok(seen)
}

/// Whether a task of the plan is closed for its generation: somebody was about to make the next plan, and did not come to it.
pub(crate) async fn is_half_changed(plan: &PlanRecord, log: &dyn Log, objects: &Objects) -> Result<bool> {
    if in_force(log, objects, &plan.uid).await?.is_none_or(|now| now.generation != plan.generation) {
        return Ok(false);
    }
    for task in (0..).take(plan.cuts.len()) {
        let last = log.peek(&LogName::task(&plan.uid, task)).await?;
        if matches!(last, Last::Sealed(seal) if seal.generation >= plan.generation) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// How many tasks a job has of those that are asked for, and what is to be told of it: why these are fewer, or that there are
/// several. `alone` says why the job can have one task only, if that is so; one whose tasks exchange rows may have more tasks than it
/// reads partitions.
pub(crate) fn tasks(asked: u32, alone: Option<&str>, exchanges: bool, positions: &Positions) -> (u32, Option<String>) {
    let partitions: usize = positions.values().map(BTreeMap::len).sum();
    let (most, why) = match (alone, u32::try_from(partitions)) {
        (Some(why), _) => (1, why.to_owned()),
        (None, Ok(partitions)) if partitions < TASKS_MAX && !exchanges => {
            (partitions.max(1), format!("partitions to read: {partitions}"))
        }
        (None, _) => (TASKS_MAX, format!("a job has at most {TASKS_MAX}")),
    };
    match (asked.min(most), asked > most) {
        (1, false) => (1, None),
        (1, true) => (1, Some(format!("runs in one task: {why}"))),
        (tasks, false) => (tasks, Some(format!("runs in {tasks} tasks"))),
        (tasks, true) => (tasks, Some(format!("runs in {tasks} tasks: {why}"))),
    }
}

/// The first plan, for one task. `tables` are the catalog tables that it writes, with their uuids. It asks Kafka, and waits for it.
pub(crate) fn first(prepared: &Prepared, tables: BTreeMap<String, String>, fingerprint: &str) -> Result<PlanRecord> {
    let last_group = u16::try_from(KEY_GROUPS - 1).unwrap_or(u16::MAX);
    let mut cut = Cut { key_groups: (0, last_group), ..Cut::default() };
    let mut plan = PlanRecord { tables, fingerprint: fingerprint.to_owned(), ..PlanRecord::default() };
    for read in &prepared.tables {
        let named = |error: Error| error.context(format_args!("table {}", read.table.name()));
        match &read.connector {
            Connector::Kafka(kafka) => {
                let begin = resolve(&kafka.options).map_err(named)?;
                plan.cluster = begin.cluster;
                plan.topics.extend(begin.topics);
                plan.ends.extend(begin.ends);
                cut.positions.extend(begin.starts);
                if let Some(dead) = &kafka.options.dead_letters {
                    let ids = Cluster::new(&kafka.options.connection)?.topic_ids(&[dead]);
                    plan.topics.extend(ids.map_err(named)?);
                }
            }
            Connector::Made(_) | Connector::Files(_) => {
                cut.positions.insert(read.table.name().to_owned(), BTreeMap::from([(0, 0)]));
            }
            Connector::Blackhole | Connector::Print(_) => {}
        }
    }
    cut.positions.extend(prepared.once.iter().map(|read| (read.name.clone(), BTreeMap::from([(0, 0)]))));
    for sink in &prepared.sinks {
        let WrittenTable::Stream { table, connector: Connector::Kafka(kafka) } = sink else { continue };
        let topic = kafka.topic()?;
        let cluster = Cluster::new(&kafka.options.connection)?;
        let ids = cluster.topic_ids(&[topic]);
        plan.topics.extend(ids.map_err(|error| error.context(format_args!("table {}", table.name())))?);
    }
    plan.cuts = vec![cut];
    Ok(plan)
}

/// The first plan of one task for several, with their edges. One that begins with state stays as it is.
pub(crate) fn shared(mut plan: PlanRecord, tasks: u32, edges: &Edges) -> PlanRecord {
    if tasks <= 1 {
        return plan;
    }
    let mut positions = shares::positions(&plan);
    edges.extend(&mut positions);
    plan.topics.extend(edges.ids.clone());
    plan.edges.clone_from(&edges.plans);
    let cut =
        |share: Share| Cut { positions: of_share(&positions, &share), key_groups: share.key_groups, ..Cut::default() };
    let shares = Owners::with_edges(&positions, tasks, &plan.edges).shares(&positions);
    PlanRecord { cuts: shares.into_iter().map(cut).collect(), ..plan }
}

/// The topics of a table, of those that a plan begins with.
pub(crate) fn topics(options: &KafkaOptions, plan: &PlanRecord) -> Vec<String> {
    match &options.topics {
        Topics::Names(names) => names.clone(),
        Topics::Pattern(pattern) => {
            let of_tables = shares::positions(plan).into_keys().filter(|topic| !plan.edges.contains_key(topic));
            of_tables.filter(|topic| pattern.is_match(topic)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::EdgePlan;

    fn positions(topics: &[(&str, i32)]) -> Positions {
        topics.iter().map(|(topic, count)| ((*topic).to_owned(), (0..*count).map(|at| (at, 5)).collect())).collect()
    }

    #[test]
    fn a_job_has_no_more_tasks_than_it_has_use_for() {
        let six = positions(&[("a", 4), ("b", 2)]);
        assert_eq!(tasks(1, Some("of keys"), false, &six), (1, None));
        assert_eq!(tasks(6, None, false, &six), (6, Some("runs in 6 tasks".to_owned())));
        assert_eq!(tasks(9, None, true, &six), (9, Some("runs in 9 tasks".to_owned())));
        assert_eq!(tasks(17, None, true, &six), (16, Some("runs in 16 tasks: a job has at most 16".to_owned())));
        for (asked, alone, of, most, part) in [
            (7, None, &six, 6, "runs in 6 tasks: partitions to read: 6"),
            (2, Some("of keys"), &six, 1, "runs in one task: of keys"),
            (2, None, &positions(&[("events", 1)]), 1, "one task: partitions to read: 1"),
            (99, None, &positions(&[("a", 64)]), TASKS_MAX, "at most 16"),
        ] {
            let (tasks, why) = tasks(asked, alone, false, of);
            assert_eq!(tasks, most);
            assert!(why.as_ref().is_some_and(|why| why.contains(part)), "{why:?}");
        }
    }

    #[test]
    fn the_first_plan_is_shared_out() {
        let one = Cut { positions: positions(&[("a", 3), ("b", 1)]), key_groups: (0, 255), ..Cut::default() };
        let plan = PlanRecord { cuts: vec![one.clone()], fingerprint: "f".to_owned(), ..PlanRecord::default() };
        assert_eq!(shared(plan.clone(), 1, &Edges::default()), plan);
        let edge = EdgePlan { partitions: 16, shape: "s".to_owned() };
        let edges =
            Edges { plans: [("edge".to_owned(), edge)].into(), ids: [("edge".to_owned(), "id".to_owned())].into() };
        let spread = shared(plan.clone(), 3, &edges);
        assert_eq!((&spread.edges, &spread.topics), (&edges.plans, &edges.ids));
        let of_edge: Vec<usize> = spread.cuts.iter().map(|cut| cut.positions["edge"].len()).collect();
        assert_eq!((of_edge, spread.cuts[1].key_groups), (vec![5, 5, 6], (80, 159)));
        let plan = shared(plan, 2, &Edges::default());
        let of = |task: usize, topic: &str| plan.cuts[task].positions[topic].keys().copied().collect::<Vec<_>>();
        assert_eq!((of(0, "a"), of(0, "b"), of(1, "a"), of(1, "b")), (vec![0, 2], vec![], vec![1], vec![0]));
        assert_eq!((plan.cuts[0].key_groups, plan.cuts[1].key_groups), ((0, 127), (128, 255)));
        assert_eq!((shares::positions(&plan), plan.fingerprint.as_str()), (one.positions, "f"));
    }
}
