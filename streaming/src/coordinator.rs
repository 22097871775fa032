//! Makes, changes and ends the plan of a job. A plan is one record of the job's control log; before the next one, the logs of all
//! tasks are sealed, so that no attempt of the old plan commits behind what the new one begins with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tereza_runtime::{Error, Result};

use crate::apply::{Applier, Backlog, Tables};
use crate::host::{Backoff, Host};
use crate::log::{Ended, Last, Log, LogName, Opened, Writer};
use crate::objects::Objects;
use crate::record::{
    Applied, Body, Cut, EdgePlan, Entry, EpochRecord, OpenPartition, PlanRecord, Positions, Seal, StatePart, Upstream,
    Watermarks,
};
use crate::rules::{Rule, Rules};
use crate::shares::positions;
use crate::task::{load, named, object_of, unless_superseded};

/// Tries to seal a log whose task begins again at the same time.
const SEAL_TRIES_MAX: u32 = 20;
/// Tries to bring all files into their tables before a plan changes.
const DRAIN_TRIES_MAX: u32 = 20;

/// Who has what in a generation: one for each task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// Topic → partitions.
    pub partitions: BTreeMap<String, Vec<i32>>,
    /// First and last.
    pub key_groups: (u16, u16),
}

/// Edges that a plan gets, and stay in all plans after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Edges {
    /// Topic → edge.
    pub plans: BTreeMap<String, EdgePlan>,
    /// Topic → its id.
    pub ids: BTreeMap<String, String>,
}

impl Edges {
    /// Adds the beginnings of their partitions, where nobody has read of them yet.
    pub(crate) fn extend(&self, positions: &mut Positions) {
        for (topic, edge) in &self.plans {
            let of = positions.entry(topic.clone()).or_default();
            (0..edge.partitions).for_each(|partition| {
                of.entry(partition).or_insert(0);
            });
        }
    }
}

/// Changes plans of one job.
pub struct Coordinator<R> {
    pub uid: String,
    pub log: Arc<dyn Log>,
    pub objects: Objects,
    pub root: String,
    pub tables: Tables<R>,
    pub host: Arc<dyn Host>,
    #[cfg(test)]
    pub(crate) rules: Rules,
}

/// How far a task of the old plan is.
struct Old {
    cut: Cut,
    record: Option<EpochRecord>,
    stored: Option<String>,
}

impl<R: Send> Coordinator<R> {
    fn rules(&self) -> Rules {
        #[cfg(test)]
        return self.rules;
        #[cfg(not(test))]
        Rules::default()
    }

    /// Begins a job: `plan` is its first one, and says where each task begins. Its ids, generation and nonces are set here.
    ///
    /// # Errors
    /// `AlreadyExists` if the job has a plan.
    pub async fn create(&self, plan: PlanRecord) -> Result<PlanRecord, Ended> {
        let attempt = self.host.new_id();
        let Opened { writer, last } = self.log.open(&LogName::control(&self.uid), &attempt).await?;
        if last != Last::Nothing {
            return Err(Error::already_exists(format!("the job {} has a plan", self.uid)).into());
        }
        let (uid, nonce) = (self.uid.clone(), self.host.new_id());
        let mut plan = PlanRecord { uid, generation: 1, nonce, prev_nonce: String::new(), attempt, ..plan };
        let tables = plan.tables.iter().map(|(table, uuid)| (table.clone(), Applied { uuid: uuid.clone(), marker: 0 }));
        let applied: BTreeMap<String, Applied> = tables.collect();
        plan.cuts.iter_mut().for_each(|cut| cut.applied.clone_from(&applied));
        self.append(writer, plan).await
    }

    /// Gives the job to other tasks: what the old ones have becomes what the new ones begin with. May be repeated when it failed.
    /// `share` says who has what of these partitions. It is asked twice: tasks may have found more partitions than the plan names,
    /// which shows when they are closed.
    ///
    /// # Errors
    /// `InvalidInput` if partitions or key groups are left out or given twice, `Unavailable` if tables do not take their files.
    pub async fn rescale(&self, share: impl Fn(&Positions) -> Vec<Share>) -> Result<PlanRecord, Ended> {
        self.rescale_with(&Edges::default(), share).await
    }

    /// As [`Self::rescale`], with edges that the plan may not have yet. Their topics are empty then.
    pub async fn rescale_with(
        &self,
        edges: &Edges,
        share: impl Fn(&Positions) -> Vec<Share>,
    ) -> Result<PlanRecord, Ended> {
        let (writer, plan, attempt) = self.open().await?;
        let mut of_plan = positions(&plan);
        edges.extend(&mut of_plan);
        check_shares(&plan, &of_plan, &share(&of_plan))?;
        let (writer, old) = self.seal_all(&plan, writer).await?;
        let mut found = found(&old);
        edges.extend(&mut found);
        let shares = share(&found);
        check_shares(&plan, &found, &shares)?;
        let cuts = self.cuts(&plan, &old, &found, &shares);
        let kept: BTreeSet<String> = cuts.iter().flat_map(|cut| &cut.state).filter_map(object_of).collect();
        let garbage = self.garbage(&plan, &old).filter(|path| !kept.contains(path)).collect::<BTreeSet<_>>();
        let next = PlanRecord {
            generation: plan.generation + 1,
            nonce: self.host.new_id(),
            prev_nonce: plan.nonce.clone(),
            attempt,
            cuts,
            garbage: garbage.into_iter().collect(),
            topics: plan.topics.into_iter().chain(edges.ids.clone()).collect(),
            edges: plan.edges.into_iter().chain(edges.plans.clone()).collect(),
            ..plan
        };
        self.append(writer, next).await
    }

    /// Ends the job for good: no task of it starts again, and all its files are in their tables. Its objects stay.
    ///
    /// # Errors
    /// `NotFound` if it has no plan or is ended; `Unavailable` if tables do not take their files.
    pub async fn end(&self) -> Result<(), Ended> {
        let (writer, plan, attempt) = self.open().await?;
        let (writer, _) = self.seal_all(&plan, writer).await?;
        let next = PlanRecord {
            generation: plan.generation + 1,
            nonce: self.host.new_id(),
            prev_nonce: plan.nonce.clone(),
            attempt,
            deleted: true,
            uid: plan.uid,
            cluster: plan.cluster,
            fingerprint: plan.fingerprint,
            ..PlanRecord::default()
        };
        self.append(writer, next).await.map(drop)
    }

    /// Opens the log of plans and reads the one in force.
    async fn open(&self) -> Result<(Box<dyn Writer>, PlanRecord, String), Ended> {
        let attempt = self.host.new_id();
        let Opened { writer, last } = self.log.open(&LogName::control(&self.uid), &attempt).await?;
        let Last::Record(body) = last else {
            return Err(Error::not_found(format!("the job {} has no plan", self.uid)).into());
        };
        let (writer, body) = load(&self.objects, body, writer).await?;
        match body {
            Body::Plan(plan) if plan.deleted => {
                Err(Error::not_found(format!("the job {} is deleted", self.uid)).into())
            }
            Body::Plan(plan) if plan.uid == self.uid => {
                // Whoever committed the plan may have died before it deleted these.
                _ = self.objects.delete(&plan.garbage).await;
                Ok((writer, *plan, attempt))
            }
            _ => Err(Error::internal(format!("the log of plans of {} holds something else", self.uid)).into()),
        }
    }

    async fn append(&self, writer: Box<dyn Writer>, plan: PlanRecord) -> Result<PlanRecord, Ended> {
        let body = Body::Plan(Box::new(plan.clone()));
        let body = match Entry::Record(body.clone()).encode() {
            Ok(_) => body,
            Err(_) => {
                let path = format!("{}/{}/state/plans/{}", self.root, self.uid, plan.nonce);
                Body::Stored { nonce: plan.nonce.clone(), object: self.objects.put(&path, body.encode()?).await? }
            }
        };
        writer.append(body).await?;
        _ = self.objects.delete(&plan.garbage).await;
        Ok(plan)
    }

    /// Closes the logs of all tasks of a plan, and brings all that they committed into its tables. `writer` is that of the log of plans.
    async fn seal_all(&self, plan: &PlanRecord, writer: Box<dyn Writer>) -> Result<(Box<dyn Writer>, Vec<Old>), Ended> {
        let mut old = Vec::new();
        for (task, cut) in (0..).zip(&plan.cuts) {
            let done = match self.seal(plan, task).await {
                Ok((Some(record), stored)) => {
                    self.drain(&record).await.map(|()| (Some(record), stored)).map_err(Ended::from)
                }
                done => done,
            };
            match done {
                Ok((record, stored)) => old.push(Old { cut: cut.clone(), record, stored }),
                // A later coordinator may have made the next plan already, and deleted what this one has left.
                Err(Ended::Failed(error)) => return Err(unless_superseded(writer, error).await),
                Err(ended) => return Err(ended),
            }
        }
        Ok((writer, old))
    }

    /// Closes a task's log for the plan's generation. The last record of that generation, if there is any.
    async fn seal(&self, plan: &PlanRecord, task: u32) -> Result<(Option<EpochRecord>, Option<String>), Ended> {
        let name = LogName::task(&self.uid, task);
        let mut backoff = Backoff::new();
        for _ in 0..SEAL_TRIES_MAX {
            let attempt = self.host.new_id();
            let Opened { writer, last } = match self.log.open(&name, &attempt).await {
                Ok(opened) => opened,
                Err(Ended::Fenced) => {
                    backoff.pause(&*self.host).await;
                    continue;
                }
                Err(ended) => return Err(ended),
            };
            let generation = plan.generation;
            let (body, is_sealed) = match last {
                Last::Sealed(seal) if seal.generation > generation => return Err(Ended::Fenced),
                Last::Sealed(seal) if seal.generation == generation => (seal.record, true),
                Last::Nothing | Last::Sealed(_) => (None, false),
                Last::Record(body) => (Some(body), false),
            };
            let found = match body.clone() {
                None => Ok((writer, None)),
                Some(body) => load(&self.objects, body, writer).await.map(|(writer, body)| (writer, Some(body))),
            };
            let (writer, loaded) = match found {
                Ok(found) => found,
                Err(Ended::Fenced) => continue,
                Err(ended) => return Err(ended),
            };
            let stored = match &body {
                Some(Body::Stored { object, .. }) => Some(object.path.clone()),
                _ => None,
            };
            let record = match loaded {
                None => None,
                Some(Body::Epoch(record)) if record.generation == generation => Some(*record),
                // Somebody else has made a later plan.
                Some(Body::Epoch(record)) if record.generation > generation => return Err(Ended::Fenced),
                Some(_) => {
                    return Err(Error::internal(format!(
                        "the log {name} was not closed before generation {generation}"
                    ))
                    .into());
                }
            };
            if !is_sealed && !self.rules().breaks(Rule::Seal) {
                let seal = Seal { nonce: self.host.new_id(), generation, attempt, record: body };
                match writer.seal(seal).await {
                    Ok(()) => {}
                    Err(Ended::Fenced) => {
                        backoff.pause(&*self.host).await;
                        continue;
                    }
                    Err(ended) => return Err(ended),
                }
            }
            return Ok((record, stored));
        }
        Err(Error::unavailable(format!("the log {name} cannot be closed: its task begins again all the time")).into())
    }

    async fn drain(&self, record: &EpochRecord) -> Result<()> {
        let backlog = Arc::new(Backlog::of(record));
        let applier = Applier {
            uid: self.uid.clone(),
            task: record.task,
            tables: self.tables.clone(),
            objects: self.objects.clone(),
            host: Arc::clone(&self.host),
            backlog: Arc::clone(&backlog),
            rules: self.rules(),
        };
        let mut backoff = Backoff::new();
        for tries in 1.. {
            match applier.turn().await {
                Ok(()) => break,
                Err(error) if tries == DRAIN_TRIES_MAX => return Err(error),
                Err(_) => backoff.pause(&*self.host).await,
            }
        }
        Ok(())
    }

    /// Where the tasks of the next plan begin.
    fn cuts(&self, plan: &PlanRecord, old: &[Old], positions: &Positions, shares: &[Share]) -> Vec<Cut> {
        let mut watermarks = Watermarks::new();
        let mut upstream = Upstream::new();
        let mut state: Vec<StatePart> = Vec::new();
        // Numbers of epochs go on over all tasks: a table skips what is not after its marker.
        let mut epoch = 0;
        for Old { cut, record, .. } in old {
            let (marks, told, parts) = match record {
                Some(record) => (&record.watermarks, &record.upstream, &record.state),
                None => (&cut.watermarks, &cut.upstream, &cut.state),
            };
            for (topic, told) in told {
                upstream.entry(topic.clone()).or_default().extend(told.clone());
            }
            for (topic, marks) in marks {
                watermarks.entry(topic.clone()).or_default().extend(marks);
            }
            // Of what a task began with, it changed its own key groups alone.
            state.extend(parts.iter().filter_map(|part| part.within(cut.key_groups)));
            epoch = epoch.max(cut.epoch).max(record.as_ref().map_or(0, |record| record.epoch));
        }
        if self.rules().breaks(Rule::NumbersGoOn) {
            epoch = 0;
        }
        let applied = |task: usize, table: &String| {
            let old = old.get(task)?;
            old.record.as_ref().map_or(&old.cut.applied, |record| &record.applied).get(table).cloned()
        };
        // All their files are in their folders by now.
        let partitions = old.iter().flat_map(|old| match &old.record {
            Some(record) => &record.partitions,
            None => &old.cut.partitions,
        });
        let partitions: Vec<_> = partitions.map(|open| OpenPartition { epoch: 0, ..open.clone() }).collect();
        let new = |uuid: &String| Applied { uuid: uuid.clone(), marker: 0 };
        let cut = |(task, share): (usize, &Share)| Cut {
            epoch,
            positions: of_share(positions, share),
            watermarks: of_share(&watermarks, share),
            upstream: of_share(&upstream, share),
            key_groups: share.key_groups,
            state: state.iter().filter_map(|part| part.within(share.key_groups)).collect(),
            applied: plan
                .tables
                .iter()
                .map(|(table, uuid)| (table.clone(), applied(task, table).unwrap_or_else(|| new(uuid))))
                .collect(),
            partitions: if task == 0 { partitions.clone() } else { Vec::new() },
        };
        shares.iter().enumerate().map(cut).collect()
    }

    /// Objects that the old plan names, and what came of it.
    fn garbage<'a>(&self, plan: &'a PlanRecord, old: &'a [Old]) -> impl Iterator<Item = String> {
        let of_cuts = plan.cuts.iter().flat_map(|cut| &cut.state).filter_map(object_of);
        let of_records = old.iter().filter_map(|old| old.record.as_ref());
        let of_records = of_records.flat_map(|record| named(record).chain(record.garbage.iter().cloned()));
        of_cuts.chain(of_records).chain(old.iter().filter_map(|old| old.stored.clone()))
    }
}

/// Where all tasks of the old plan together are.
fn found(old: &[Old]) -> Positions {
    let mut positions = Positions::new();
    for Old { cut, record, .. } in old {
        for (topic, at) in record.as_ref().map_or(&cut.positions, |record| &record.positions) {
            positions.entry(topic.clone()).or_default().extend(at);
        }
    }
    positions
}

pub(crate) fn of_share<T: Clone>(
    all: &BTreeMap<String, BTreeMap<i32, T>>,
    share: &Share,
) -> BTreeMap<String, BTreeMap<i32, T>> {
    let of_topic = |(topic, partitions): (&String, &Vec<i32>)| {
        let all = all.get(topic)?;
        let has = partitions.iter().filter_map(|partition| Some((*partition, all.get(partition)?.clone()))).collect();
        Some((topic.clone(), has))
    };
    share.partitions.iter().filter_map(of_topic).collect()
}

/// Every one of these partitions and every key group of the old plan must be in exactly one share.
fn check_shares(plan: &PlanRecord, positions: &Positions, shares: &[Share]) -> Result<()> {
    let mut given = BTreeSet::new();
    for (topic, partition) in
        shares.iter().flat_map(|share| &share.partitions).flat_map(|(topic, all)| all.iter().map(move |p| (topic, *p)))
    {
        if !given.insert((topic.clone(), partition)) {
            return Err(Error::invalid_input(format!("partition {partition} of {topic} is given to two tasks")));
        }
    }
    let had: BTreeSet<(String, i32)> =
        positions.iter().flat_map(|(topic, at)| at.keys().map(move |p| (topic.clone(), *p))).collect();
    if let Some((topic, partition)) = had.symmetric_difference(&given).next() {
        let what = if had.contains(&(topic.clone(), *partition)) { "is given to no task" } else { "is not the job's" };
        return Err(Error::invalid_input(format!("partition {partition} of {topic} {what}")));
    }
    let sorted = |ranges: &mut Vec<(u16, u16)>| ranges.sort_unstable();
    let mut ranges: Vec<(u16, u16)> = shares.iter().map(|share| share.key_groups).collect();
    sorted(&mut ranges);
    let mut before: Vec<(u16, u16)> = plan.cuts.iter().map(|cut| cut.key_groups).collect();
    sorted(&mut before);
    let has_gap = ranges.windows(2).any(|pair| pair[0].1.checked_add(1) != Some(pair[1].0));
    let ends = |ranges: &[(u16, u16)]| Some((ranges.first()?.0, ranges.last()?.1));
    if has_gap || ranges.iter().any(|range| range.0 > range.1) || ends(&ranges) != ends(&before) {
        return Err(Error::invalid_input(format!("the key groups {ranges:?} are not all of {before:?}, each once")));
    }
    Ok(())
}
