//! The topics of edges: made before a plan names them, and emptied behind who reads them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tereza_runtime::{Error, ErrorKind, Result, clock};

use super::PARTITIONS;
use crate::coordinator::Edges;
use crate::kafka::{Cluster, Connection};
use crate::plan::Exchange;
use crate::record::{EdgePlan, PlanRecord, Positions};

/// How often space is freed at most.
const FREE_PAUSE: Duration = Duration::from_secs(10);

/// What the topic of an edge must be set to: what nobody has read yet stays, however long its reader is away.
const SETTINGS: [(&str, &str); 3] = [("cleanup.policy", "delete"), ("retention.ms", "-1"), ("retention.bytes", "-1")];

/// The topic of an edge of a job.
fn topic(uid: &str, edge: usize) -> String {
    format!("__tereza.{uid}.edge.{edge}")
}

/// Makes the topics of edges that no plan names yet, or finds those that an attempt made which then died: nobody has written to them. It
/// asks Kafka, and waits for it.
pub(crate) fn make(connection: &Connection, uid: &str, exchanges: &[Exchange]) -> Result<Edges> {
    let cluster = Cluster::new(connection)?;
    let mut edges = Edges::default();
    for (number, exchange) in exchanges.iter().enumerate() {
        let topic = topic(uid, number);
        match cluster.create_topic(&topic, PARTITIONS, None, &SETTINGS) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        edges.plans.insert(topic, EdgePlan { partitions: PARTITIONS, shape: exchange.shape() });
    }
    let topics: Vec<&str> = edges.plans.keys().map(String::as_str).collect();
    edges.ids = cluster.topic_ids(&topics)?;
    check_topics(&cluster, &edges.plans)?;
    Ok(edges)
}

/// The topics of the edges of a plan, by their numbers.
///
/// # Errors
/// `InvalidInput` if rows are exchanged in other ways than the plan says, or a topic is set so that rows could be lost; `NotFound` if one
/// is gone. It asks Kafka, and waits for it.
pub(crate) fn check(connection: &Connection, plan: &PlanRecord, exchanges: &[Exchange]) -> Result<Vec<String>> {
    let topics: Vec<String> = (0..exchanges.len()).map(|number| topic(&plan.uid, number)).collect();
    let shapes: BTreeMap<&str, String> =
        topics.iter().map(String::as_str).zip(exchanges.iter().map(Exchange::shape)).collect();
    let planned = plan.edges.iter().map(|(topic, edge)| (topic.as_str(), edge.shape.as_str()));
    if !planned.eq(shapes.iter().map(|(topic, shape)| (*topic, shape.as_str()))) {
        let text = format!("the tasks of {} exchange other rows than its plan says", plan.uid);
        return Err(
            Error::invalid_input(text).with_hint("run the job with the release that made its plan, or submit it again")
        );
    }
    check_topics(&Cluster::new(connection)?, &plan.edges)?;
    Ok(topics)
}

fn check_topics(cluster: &Cluster, edges: &BTreeMap<String, EdgePlan>) -> Result<()> {
    for (topic, edge) in edges {
        let settings = cluster.settings(topic)?;
        if settings.partitions != edge.partitions {
            let (found, wanted) = (settings.partitions, edge.partitions);
            return Err(Error::invalid_input(format!(
                "topic '{topic}' has {found} partitions, it was made with {wanted}: rows of a key would be in two tasks"
            )));
        }
        for (name, wanted) in SETTINGS {
            let found = settings.get(name);
            if found != wanted {
                let text = format!("topic '{topic}' has '{name}' = '{found}', and tasks could lose rows so");
                return Err(Error::invalid_input(text).with_hint(format!("set it to '{wanted}'")));
            }
        }
    }
    Ok(())
}

/// Deletes the messages of edges that a task has read for good, now and then. What is not deleted takes space and nothing else.
pub(crate) struct Broom {
    cluster: Arc<Cluster>,
    /// Where its last deletion went to.
    freed: Positions,
    last: Instant,
    is_busy: Arc<AtomicBool>,
}

impl Broom {
    /// For partitions of edges on a cluster.
    pub(crate) fn new(connection: &Connection) -> Result<Self> {
        let (cluster, is_busy) = (Arc::new(Cluster::new(connection)?), Arc::default());
        Ok(Self { cluster, freed: Positions::new(), last: clock::now(), is_busy })
    }

    /// Deletes what is before these positions, which are committed, if it is time. Nobody waits for it.
    pub(crate) fn sweep(&mut self, committed: &Positions) {
        if self.last.elapsed() < FREE_PAUSE || *committed == self.freed || self.is_busy.swap(true, Ordering::AcqRel) {
            return;
        }
        self.last = clock::now();
        self.freed.clone_from(committed);
        let (cluster, is_busy, before) = (Arc::clone(&self.cluster), Arc::clone(&self.is_busy), committed.clone());
        tokio::task::spawn_blocking(move || {
            if let Err(error) = cluster.delete_records(&before) {
                tracing::debug!(%error, "space of edges is freed later");
            }
            is_busy.store(false, Ordering::Release);
        });
    }
}
