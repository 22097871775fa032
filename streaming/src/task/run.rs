//! The loop of an attempt: micro-batch after micro-batch, and an epoch's end when it is due.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::oneshot::{self, Receiver, Sender};
use futures::future::{Either, select};
use parking_lot::Mutex;
use tereza_runtime::{Error, ErrorKind, Result};

use super::Task;
use super::epoch::End;
use super::start::gone;
use crate::host::Backoff;
use crate::job::plan_record::in_force;
use crate::job::savepoint::{Manifest, path_of};
use crate::log::Ended;
use crate::pipeline::{Pipeline, Polled, Produced, Source};
use crate::record::{Body, EpochRecord, Positions, StateContent};

/// Pause while nothing can be done but wait.
const WAIT: Duration = Duration::from_millis(100);

/// Tells an attempt what to do besides its work.
#[derive(Debug, Clone, Default)]
pub struct Control(Arc<Mutex<Told>>);

#[derive(Debug, Default)]
struct Told {
    stop: bool,
    savepoint: Option<(String, bool, Sender<Result<()>>)>,
}

impl Control {
    /// The attempt is to end its epoch, bring its files into their tables, and stop.
    pub fn stop(&self) {
        self.0.lock().stop = true;
    }

    /// Between two epochs the attempt is to copy what it is to `<root>/savepoints/<id>/`, and with `stop` to end with that. The
    /// answer comes when it is done; none comes when the attempt ends before, or when another savepoint is asked for meanwhile. Of
    /// several tasks with one control it is that of any of them.
    pub fn savepoint(&self, id: &str, stop: bool) -> Receiver<Result<()>> {
        let (sender, receiver) = oneshot::channel();
        self.0.lock().savepoint = Some((id.to_owned(), stop, sender));
        receiver
    }

    /// The attempt has ended: a savepoint that it did not begin is not taken.
    pub(crate) fn no_savepoint(&self) {
        self.0.lock().savepoint = None;
    }
}

/// Why an attempt came to its end without an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It was told to; all its files are in their tables.
    Stopped,
    /// The input has ended and everything is in its place.
    Finished,
}

impl<P, S> Task<P, S>
where
    P: Pipeline,
    S: Source<Input = P::Input>,
{
    /// Works until the input ends, `control` says stop, or it cannot go on.
    pub async fn run(self, control: &Control) -> Result<Exit, Ended> {
        let applier = Arc::clone(&self.applier);
        let every = self.job.settings.apply;
        let work = pin!(self.work(control));
        // Files come into tables beside the work: a catalog that is away does not stop the outputs.
        match select(work, pin!(applier.run(every))).await {
            Either::Left((exit, _)) => exit,
            Either::Right((error, _)) => Err(Ended::Failed(error)),
        }
    }

    async fn work(mut self, control: &Control) -> Result<Exit, Ended> {
        let mut waiting = Backoff::new();
        while !self.last.finished {
            let savepoint = control.0.lock().savepoint.take();
            if let Some((id, stop, answer)) = savepoint {
                let done;
                (self, done) = self.savepoint(&id).await?;
                let is_done = done.is_ok();
                // Who asked may be gone.
                _ = answer.send(done);
                // Nothing is committed behind the savepoint.
                if stop && is_done {
                    return Ok(Exit::Stopped);
                }
            }
            if control.0.lock().stop {
                return self.close(End::Epoch).await?.end(Exit::Stopped).await;
            }
            if self.backlog.len() > self.job.settings.pending_max {
                // No rows are read, and no outputs are open meanwhile.
                self = self.close(End::Epoch).await?;
                waiting.pause(&*self.job.host).await;
                // A successor may have the log, and the files.
                self.writer = self.writer.confirm().await?;
                continue;
            }
            waiting = Backoff::new();
            self = self.step().await?;
        }
        self.end(Exit::Finished).await
    }

    /// The end of the attempt, if all its files are in their tables. An attempt that ends with others is to be followed by one: nobody
    /// else brings them in.
    async fn end(self, exit: Exit) -> Result<Exit, Ended> {
        let task = self.drain().await?;
        if task.is_drained() {
            return Ok(exit);
        }
        let error =
            Error::unavailable("tables do not take the files of committed epochs, which wait for the next attempt");
        Err(task.fail(error).await)
    }

    /// Takes one micro-batch, and ends the epoch if it is due.
    async fn step(mut self) -> Result<Self, Ended> {
        let polled = match self.source.poll().await {
            Ok(polled) => polled,
            Err(error) => return Err(self.fail(error).await),
        };
        let now = self.job.host.now_ms();
        let mut out = Produced::default();
        let done = match polled {
            Polled::Rows { input, positions } => {
                self.advance(positions, now);
                self.pipeline.process(input, now, &mut out)
            }
            Polled::Idle => self.pipeline.tick(now, &mut out).map(|is_changed| self.open.is_dirty |= is_changed),
            Polled::End { positions } => {
                self.advance(positions, now);
                return self.close(End::Input).await;
            }
        };
        if let Err(error) = done {
            return Err(self.fail(error).await);
        }
        self = self.put_out(out).await?;
        if self.is_due() { self.close(End::Epoch).await } else { Ok(self) }
    }

    fn advance(&mut self, positions: Positions, now: i64) {
        if !self.open.is_dirty {
            self.open.since_ms = now;
        }
        self.open.is_dirty = true;
        self.open.batches += 1;
        for (topic, partitions) in positions {
            self.open.positions.entry(topic).or_default().extend(partitions);
        }
    }

    fn is_due(&mut self) -> bool {
        let settings = &self.job.settings;
        let now = self.job.host.now_ms();
        let over =
            |since: i64, time: Duration| u128::from(now.saturating_sub(since).unsigned_abs()) >= time.as_millis();
        if !self.open.is_dirty && over(self.open.since_ms, settings.keep_alive) {
            self.open.is_dirty = true;
        }
        let limit = self.job.log.limits().epoch.map(|limit| limit / 3);
        self.open.is_dirty && over(self.open.since_ms, settings.epoch)
            || self.open.batches >= settings.batches_max
            || self.open.sent_ms.zip(limit).is_some_and(|(sent, limit)| over(sent, limit))
    }

    /// All files are in their tables; after the end of the input, all partitions are complete.
    fn is_drained(&self) -> bool {
        self.last.pending.is_empty() && (!self.last.finished || self.last.partitions.is_empty())
    }

    /// Brings all files into their tables, and says in a last record that none is pending.
    async fn drain(self) -> Result<Self, Ended> {
        if self.is_drained() {
            return Ok(self);
        }
        for tries in 1.. {
            match self.applier.turn().await {
                Ok(()) => break,
                Err(error) if tries < self.job.settings.drain_tries && passes(&error) => {
                    self.job.host.pause(WAIT).await
                }
                // They stay in the record, and the next attempt has them.
                Err(error) if passes(&error) => {
                    tracing::warn!(uid = self.job.uid, task = self.job.task, %error, "a task stops with files that wait");
                    return Ok(self);
                }
                Err(error) => return Err(self.fail(error).await),
            }
        }
        self.close(End::Stop).await
    }

    /// Copies the last record and its objects to where nothing else refers to them. The manifest is put last: without it there is
    /// no savepoint.
    async fn savepoint(mut self, id: &str) -> Result<(Self, Result<()>), Ended> {
        self = self.close(End::Epoch).await?.drain().await?;
        if !self.last.pending.is_empty() {
            let error = Error::unavailable("tables do not take their files, so there is no savepoint");
            return Ok((self, Err(error)));
        }
        let plan = match in_force(&*self.job.log, &self.job.objects, &self.job.uid).await {
            Ok(Some(plan)) if plan.generation == self.last.generation => plan,
            Ok(_) => return Ok((self, Err(Error::unavailable("the plan of the job changes now")))),
            Err(error) => return Ok((self, Err(error))),
        };
        if !plan.edges.is_empty() {
            // Rows in edges are in no record, and are deleted behind who has read them.
            let error = Error::unsupported("a savepoint of a job whose tasks exchange rows");
            return Ok((self, Err(error)));
        }
        if plan.cuts.len() != 1 {
            let error = Error::unsupported(format!("a savepoint of a job in {} tasks", plan.cuts.len()));
            return Ok((self, Err(error)));
        }
        let place = format!("{}/{}/{}", self.job.root, path_of(id), self.job.task);
        let mut record = EpochRecord { garbage: Vec::new(), ..self.last.clone() };
        for (index, part) in record.state.iter_mut().enumerate() {
            let StateContent::Object(object) = &mut part.content else { continue };
            let copied = match self.job.objects.get(object).await {
                Ok(Some(bytes)) => self.job.objects.put(&format!("{place}/state-{index}"), bytes).await,
                Ok(None) => return Err(gone(self.writer, &object.path).await),
                Err(error) => Err(error),
            };
            match copied {
                Ok(copy) => *object = copy,
                Err(error) => return Ok((self, Err(error))),
            }
        }
        let job = Arc::clone(&self.job);
        let done = async {
            let bytes = Body::Epoch(Box::new(record)).encode()?;
            let record = job.objects.put(&format!("{place}/record.json"), bytes).await?;
            let manifest = Manifest {
                uid: job.uid.clone(),
                at_ms: job.host.now_ms(),
                cluster: plan.cluster,
                topics: plan.topics,
                tasks: vec![record],
            };
            manifest.put(&job.objects, &job.root, id).await
        };
        let done = done.await;
        Ok((self, done))
    }
}

fn passes(error: &Error) -> bool {
    matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Conflict)
}
