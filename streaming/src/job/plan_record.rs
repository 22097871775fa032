//! Where a job begins: what its first plan says, and what the plan in force says when it begins again.

use std::collections::BTreeMap;

use tereza_runtime::{Error, Result};

use super::prepare::{Prepared, WrittenTable};
use crate::connector::Connector;
use crate::kafka::{Cluster, KafkaOptions, Topics, resolve};
use crate::log::{Last, Log, LogName};
use crate::objects::Objects;
use crate::operator::key::KEY_GROUPS;
use crate::record::{Body, Cut, PlanRecord};

/// The plan in force; `None` if the job has none.
pub(crate) async fn in_force(log: &dyn Log, objects: &Objects, uid: &str) -> Result<Option<PlanRecord>> {
    let body = match log.peek(&LogName::control(uid)).await? {
        Last::Nothing => return Ok(None),
        Last::Record(body) => body,
        Last::Sealed(_) => return Err(Error::not_found(format!("the job {uid} is closed"))),
    };
    let body = match body {
        Body::Stored { object, .. } => {
            let bytes = objects.get(&object).await?;
            Body::decode(&bytes.ok_or_else(|| Error::internal(format!("the object {} is gone", object.path)))?)?
        }
        body => body,
    };
    match body {
        Body::Plan(plan) => Ok(Some(*plan)),
        _ => Err(Error::internal(format!("the log of plans of {uid} holds something else"))),
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

/// The topics of a table, of those that a plan begins with.
pub(crate) fn topics(options: &KafkaOptions, plan: &PlanRecord) -> Vec<String> {
    match &options.topics {
        Topics::Names(names) => names.clone(),
        Topics::Pattern(pattern) => {
            let read = plan.cuts.iter().flat_map(|cut| cut.positions.keys());
            let mut topics: Vec<String> = read.filter(|topic| pattern.is_match(topic)).cloned().collect();
            topics.dedup();
            topics
        }
    }
}
