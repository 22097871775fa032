//! The life of a job when nothing fails: stop, savepoint, other plans, the end, and what is refused.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use async_trait::async_trait;
use futures::task::noop_waker_ref;
use parking_lot::Mutex;
use tereza_runtime::{Error, ErrorKind, Result};

use super::job::{Count, Rows};
use super::{Kind, PARTITIONS, QUERY, Row, Sim};
use crate::coordinator::Share;
use crate::job::deletion::{Removed, sweep};
use crate::log::Ended;
use crate::pipeline::{Polled, Source};
use crate::record::{Body, EpochRecord, Positions, StateContent};
use crate::task::{Control, Exit, Started, Task, start};

type Attempt = Task<Count, Rows>;

fn calm(kind: Kind) -> Sim {
    let sim = Sim::new(1, kind, None, false);
    sim.world.calm();
    sim
}

/// Polls until it is ready, while Kafka goes on; gives up after so many polls.
fn poll<T>(sim: &Sim, future: &mut (impl Future<Output = T> + Unpin), polls: u32) -> Option<T> {
    for _ in 0..polls {
        sim.world.tick();
        sim.kafka.tick();
        if let Poll::Ready(done) = Pin::new(&mut *future).poll(&mut Context::from_waker(noop_waker_ref())) {
            return Some(done);
        }
    }
    None
}

fn finish<T>(sim: &Sim, future: impl Future<Output = T>) -> T {
    poll(sim, &mut Box::pin(future), 100_000).expect("it does not end")
}

fn begin(sim: &Sim, task: u32) -> Result<Started<Attempt>, Ended> {
    begin_as(sim, task, QUERY)
}

fn begin_as(sim: &Sim, task: u32, fingerprint: &str) -> Result<Started<Attempt>, Ended> {
    let job = Arc::new(sim.job(task, fingerprint));
    let source = Rows { world: Arc::clone(&sim.world), positions: Positions::new() };
    finish(sim, start(job, Count::new(sim.has_topic(), sim.has_table(), 2), source))
}

fn running(sim: &Sim, task: u32) -> Attempt {
    match begin(sim, task) {
        Ok(Started::Running(task)) => *task,
        Ok(Started::Waiting(why)) => panic!("it waits: {why}"),
        Ok(Started::Finished) => panic!("it is finished"),
        Err(ended) => panic!("{ended}"),
    }
}

fn waiting(sim: &Sim, task: u32) -> String {
    match begin(sim, task) {
        Ok(Started::Waiting(why)) => why,
        Ok(_) => panic!("it does not wait"),
        Err(ended) => panic!("{ended}"),
    }
}

fn failed<T>(done: Result<T, Ended>) -> Error {
    match done {
        Err(Ended::Failed(error)) => error,
        Err(ended) => panic!("{ended}"),
        Ok(_) => panic!("it did not fail"),
    }
}

fn create(sim: &Sim, tasks: u32) {
    let coordinator = sim.coordinator_of();
    finish(sim, coordinator.create(super::first_plan(&Sim::shares(tasks), sim.has_table()))).unwrap();
    settle(sim);
}

fn rescale(sim: &Sim, shares: &[Share]) -> Result<u64, Ended> {
    let done = finish(sim, sim.coordinator_of().rescale(|_| shares.to_vec())).map(|plan| plan.generation);
    settle(sim);
    done
}

fn delete(sim: &Sim) {
    finish(sim, sim.coordinator_of().end()).unwrap();
    assert_eq!(finish(sim, sweep(&sim.objects, "root", super::UID)).unwrap(), Removed::All);
}

/// What is decided becomes visible.
fn settle(sim: &Sim) {
    (0..200).for_each(|_| sim.kafka.tick());
}

#[test]
fn a_task_stops_between_epochs_and_goes_on() {
    for kind in super::KINDS {
        let sim = calm(kind);
        create(&sim, 1);
        let control = Control::default();
        let mut run = Box::pin(running(&sim, 0).run(&control));
        assert!(poll(&sim, &mut run, 20).is_none(), "{kind:?}");
        control.stop();
        assert_eq!(poll(&sim, &mut run, 10_000).expect("it does not stop").unwrap(), Exit::Stopped);
        let task = running(&sim, 0);
        assert!(task.last().epoch > 0 && task.last().pending.is_empty(), "{kind:?}: {:?}", task.last());
        assert_eq!(task.last().is_final, sim.has_table(), "{kind:?}");
        assert_eq!(finish(&sim, task.run(&Control::default())).unwrap(), Exit::Finished);
        assert!(matches!(begin(&sim, 0), Ok(Started::Finished)), "{kind:?}");
        settle(&sim);
        sim.judge().unwrap();
    }
}

#[test]
fn a_savepoint_stands_alone() {
    let sim = calm(Kind::KafkaToBoth);
    create(&sim, 1);
    let control = Control::default();
    let mut run = Box::pin(running(&sim, 0).run(&control));
    assert!(poll(&sim, &mut run, 60).is_none());
    let mut answer = control.savepoint("s", false);
    assert_eq!(finish(&sim, run).unwrap(), Exit::Finished);
    answer.try_recv().unwrap().expect("no answer").unwrap();
    delete(&sim);
    let bytes = sim.store.look("root/savepoints/s/0/record.json").unwrap();
    let Body::Epoch(record) = Body::decode(&bytes).unwrap() else { panic!("no record") };
    assert!(record.epoch > 0 && record.pending.is_empty() && record.garbage.is_empty(), "{record:?}");
    for part in &record.state {
        if let StateContent::Object(object) = &part.content {
            object.check(&sim.store.look(&object.path).unwrap()).unwrap();
        }
    }
}

#[test]
fn a_plan_moves_partitions_and_state() {
    let sim = calm(Kind::ObjectsToTable);
    create(&sim, 1);
    let task = running(&sim, 0);
    assert!(poll(&sim, &mut Box::pin(task.run(&Control::default())), 40).is_none());
    let applied = sim.table.row_count();
    assert_eq!(rescale(&sim, &Sim::shares(3)).unwrap(), 2);
    assert!(sim.table.row_count() >= applied);
    assert_eq!(rescale(&sim, &Sim::shares(2)).unwrap(), 3);
    assert!(waiting(&sim, 2).contains("2 tasks"));
    for task in 0..2 {
        assert_eq!(finish(&sim, running(&sim, task).run(&Control::default())).unwrap(), Exit::Finished);
    }
    sim.judge().unwrap();
}

/// A source that finds partition 2 by itself, and whether it has read of it.
struct Finds(Rows, Arc<AtomicBool>);

#[async_trait]
impl Source for Finds {
    type Input = Vec<(i32, i64)>;

    async fn assign(&mut self, positions: &Positions) -> Result<()> {
        let mut positions = positions.clone();
        positions.entry("in".to_owned()).or_default().entry(2).or_insert(0);
        self.0.assign(&positions).await
    }

    async fn poll(&mut self) -> Result<Polled<Self::Input>> {
        let polled = self.0.poll().await?;
        if matches!(&polled, Polled::Rows { positions, .. } if positions["in"].contains_key(&2)) {
            self.1.store(true, Ordering::Relaxed);
        }
        Ok(polled)
    }

    fn committed(&mut self, record: &EpochRecord) {
        self.0.committed(record);
    }
}

#[test]
fn partitions_that_a_task_found_move_with_the_others() {
    let sim = calm(Kind::KafkaToTopic);
    let share = |partitions: &[i32]| Share {
        partitions: [("in".to_owned(), partitions.to_vec())].into(),
        key_groups: (0, PARTITIONS - 1),
    };
    finish(&sim, sim.coordinator_of().create(super::first_plan(&[share(&[0, 1])], false))).unwrap();
    settle(&sim);
    let has_read = Arc::new(AtomicBool::new(false));
    let rows = Rows { world: Arc::clone(&sim.world), positions: Positions::new() };
    let source = Finds(rows, Arc::clone(&has_read));
    let started = finish(&sim, start(Arc::new(sim.job(0, QUERY)), Count::new(true, false, 2), source));
    let Ok(Started::Running(task)) = started else { panic!("it does not run") };
    let control = Control::default();
    let mut run = Box::pin(task.run(&control));
    while !has_read.load(Ordering::Relaxed) {
        assert!(poll(&sim, &mut run, 1).is_none());
    }
    control.stop();
    assert_eq!(poll(&sim, &mut run, 10_000).expect("it does not stop").unwrap(), Exit::Stopped);
    settle(&sim);
    let asked = Mutex::new(Vec::new());
    let coordinator = sim.coordinator_of();
    let plan = finish(
        &sim,
        coordinator.rescale(|found| {
            let found: Vec<i32> = found["in"].keys().copied().collect();
            asked.lock().push(found.clone());
            vec![share(&found)]
        }),
    );
    let at = plan.unwrap().cuts[0].positions["in"].clone();
    assert_eq!(*asked.lock(), [vec![0, 1], vec![0, 1, 2]]);
    assert!(at[&2] > 0, "{at:?}");
    settle(&sim);
    assert_eq!(finish(&sim, running(&sim, 0).run(&Control::default())).unwrap(), Exit::Finished);
    settle(&sim);
    sim.judge().unwrap();
}

#[test]
fn a_plan_leaves_nothing_out() {
    let sim = calm(Kind::KafkaToTopic);
    create(&sim, 2);
    let share = |partitions: &[i32], key_groups: (u16, u16)| Share {
        partitions: [("in".to_owned(), partitions.to_vec())].into(),
        key_groups,
    };
    for (shares, what) in [
        (vec![share(&[0, 1], (0, 2))], "partition 2 of in is given to no task"),
        (vec![share(&[0, 1, 2, 3], (0, 2))], "partition 3 of in is not the job's"),
        (vec![share(&[0, 1], (0, 1)), share(&[1, 2], (2, 2))], "partition 1 of in is given to two tasks"),
        (vec![share(&[0, 1, 2], (0, 1))], "the key groups"),
        (vec![share(&[0, 1], (0, 1)), share(&[2], (1, 2))], "the key groups"),
        (vec![], "is given to no task"),
    ] {
        let error = failed(rescale(&sim, &shares));
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains(what), "{error}");
    }
    // The old plan is still in force.
    assert_eq!(running(&sim, 1).last().generation, 1);
}

#[test]
fn a_deleted_job_stays_deleted() {
    let sim = calm(Kind::KafkaToBoth);
    create(&sim, 2);
    let task = running(&sim, 0);
    assert!(poll(&sim, &mut Box::pin(task.run(&Control::default())), 25).is_none());
    delete(&sim);
    settle(&sim);
    assert_eq!(waiting(&sim, 0), "the job is deleted");
    assert_eq!(failed(rescale(&sim, &Sim::shares(1))).kind(), ErrorKind::NotFound);
    let again = finish(&sim, sim.coordinator_of().create(super::first_plan(&Sim::shares(1), true)));
    assert_eq!(failed(again).kind(), ErrorKind::AlreadyExists);
    assert_eq!(sim.store.names("root/job/state/"), Vec::<String>::new());
}

#[test]
fn the_end_of_a_job_brings_its_files_into_their_table() {
    for kind in [Kind::KafkaToBoth, Kind::ObjectsToTable] {
        let sim = calm(kind);
        create(&sim, 1);
        let mut committed = 0_i64;
        // Attempts that die, each after more work than the one before.
        for polls in (40..2000).step_by(20) {
            let task = running(&sim, 0);
            committed = task.last().positions.values().flat_map(|at| at.values()).sum();
            if committed > 0 {
                break;
            }
            assert!(poll(&sim, &mut Box::pin(task.run(&Control::default())), polls).is_none(), "{kind:?}");
        }
        assert!(committed > 0);
        finish(&sim, sim.coordinator_of().end()).unwrap();
        assert_eq!(i64::try_from(sim.table.row_count()).unwrap(), committed, "{kind:?}");
        // The end of what is ended.
        assert_eq!(failed(finish(&sim, sim.coordinator_of().end())).kind(), ErrorKind::NotFound);
        assert_eq!(waiting(&sim, 0), "the job is deleted");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let sim = calm(Kind::KafkaToBoth);
    assert_eq!(failed(begin(&sim, 0)).kind(), ErrorKind::NotFound);
    create(&sim, 1);
    let error = failed(begin_as(&sim, 0, "another"));
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("another query"), "{error}");
}

#[test]
fn a_table_that_was_set_back_is_not_written() {
    let sim = calm(Kind::KafkaToBoth);
    create(&sim, 1);
    let control = Control::default();
    let mut run = Box::pin(running(&sim, 0).run(&control));
    while sim.table.row_count() == 0 {
        assert!(poll(&sim, &mut run, 1).is_none());
    }
    assert!(poll(&sim, &mut run, 5).is_none());
    sim.table.set_back();
    let error = failed(poll(&sim, &mut run, 10_000).expect("it does not end"));
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.message().contains("was set back"), "{error}");
}

#[test]
fn a_file_that_is_gone_is_never_committed() {
    let sim = calm(Kind::KafkaToBoth);
    create(&sim, 1);
    let control = Control::default();
    let mut run = Box::pin(running(&sim, 0).run(&control));
    while sim.store.names("data/").is_empty() {
        assert!(poll(&sim, &mut run, 1).is_none());
    }
    let before: Vec<Row> = sim.table.rows();
    sim.store.lose("data/");
    let error = failed(poll(&sim, &mut run, 10_000).expect("it does not end"));
    assert_eq!(error.kind(), ErrorKind::Internal);
    assert!(error.message().contains("its rows are lost"), "{error}");
    assert_eq!(sim.table.rows(), before);
}
