//! Jobs.

use std::time::Duration;

use tereza_runtime::{ErrorKind, ids};

use super::commits::begin;
use super::{expect_error, new_table};
use crate::Store;
use crate::model::Job;
use crate::store::{Commit, JobStep};

/// All tests of this module.
pub async fn run(store: &dyn Store) {
    a_job_comes_back_as_it_was_given(store).await;
    an_update_names_the_version_it_read(store).await;
    a_live_name_is_given_once(store).await;
    the_newest_come_first(store).await;
    the_greatest_priority_is_next_and_then_the_oldest(store).await;
    a_commit_is_a_step_of_the_attempt_that_runs(store).await;
    old_jobs_are_forgotten(store).await;
    jobs_that_left_something_are_kept(store).await;
    senseless_jobs_are_refused(store).await;
}

/// A queued job with a name of its own.
pub(super) fn job() -> Job {
    let id = ids::new_id();
    Job {
        name: Some(format!("job {id}")),
        id,
        priority: 0,
        kind: "sql".into(),
        state: "queued".into(),
        user: "ada".into(),
        text: "select 'it''s %'".into(),
        attempts: 0,
        owner: None,
        step: 0,
        detail: r#"{"a":[1,null]}"#.into(),
        created_ms: 1,
        updated_ms: 0,
        version: 0,
    }
}

/// Every field is kept, but for the time of the last change, which the store sets.
pub async fn a_job_comes_back_as_it_was_given(store: &dyn Store) {
    let other = Job {
        name: None,
        priority: -3,
        text: String::new(),
        attempts: 2,
        owner: Some("a process".into()),
        step: 5,
        version: 7,
        ..job()
    };
    for given in [job(), other] {
        store.create_job(&given).await.expect("a new job");
        let found = store.job(&given.id).await.expect("the job");
        assert!(found.updated_ms > 0);
        assert_eq!(found, Job { updated_ms: found.updated_ms, ..given.clone() });
        expect_error(store.create_job(&Job { name: None, ..given }).await, ErrorKind::AlreadyExists);
    }
    expect_error(store.job("no such job").await, ErrorKind::NotFound);
}

/// Compare and set: the second of two loses.
pub async fn an_update_names_the_version_it_read(store: &dyn Store) {
    let first = job();
    store.create_job(&first).await.expect("a new job");
    let read = store.job(&first.id).await.expect("the job");
    let running = Job { state: "running".into(), attempts: 1, ..read.clone() };
    let version = store.update_job(&running).await.expect("updated");
    assert_eq!(version, read.version + 1);
    let error = expect_error(store.update_job(&Job { state: "cancelled".into(), ..read }).await, ErrorKind::Conflict);
    assert!(error.message().contains(&first.id), "{error}");
    let found = store.job(&first.id).await.expect("the job");
    assert_eq!(found, Job { version, updated_ms: found.updated_ms, ..running });
    expect_error(store.update_job(&job()).await, ErrorKind::NotFound);
}

/// A name belongs to one live job; when that is done the next may have it.
pub async fn a_live_name_is_given_once(store: &dyn Store) {
    let first = job();
    let name = first.name.clone().expect("it has a name");
    store.create_job(&first).await.expect("a new job");
    let second = Job { name: Some(name.clone()), ..job() };
    let error = expect_error(store.create_job(&second).await, ErrorKind::AlreadyExists);
    assert!(error.message().contains(&name), "{error}");
    assert_eq!(store.job(&name).await.expect("by its name").id, first.id);

    let done = Job { state: "failed".into(), ..first.clone() };
    store.update_job(&done).await.expect("updated");
    assert_eq!(store.job(&name).await.expect("by its name").id, first.id, "the newest, where none is live");
    store.create_job(&second).await.expect("the name is free");
    assert_eq!(store.job(&name).await.expect("by its name").id, second.id);
    let alive_again = Job { version: 1, ..first };
    expect_error(store.update_job(&alive_again).await, ErrorKind::AlreadyExists);
}

/// By the time of submission, of one state if asked, and no more than asked.
pub async fn the_newest_come_first(store: &dyn Store) {
    // Far in the future, so that these are the newest whatever else the store holds.
    let mut made = Vec::new();
    for n in 0..4_i64 {
        let state = if n % 2 == 0 { "running" } else { "succeeded" };
        let job = Job { created_ms: 9_000_000_000_000 + n, state: state.into(), ..job() };
        store.create_job(&job).await.expect("a new job");
        made.insert(0, job.id);
    }
    let ids = |jobs: Vec<Job>| jobs.into_iter().map(|job| job.id).collect::<Vec<_>>();
    assert_eq!(ids(store.jobs(None, 4).await.expect("jobs")), made);
    assert_eq!(ids(store.jobs(None, 1).await.expect("jobs")), made[..1]);
    assert_eq!(ids(store.jobs(Some("running"), 2).await.expect("jobs")), [made[1].clone(), made[3].clone()]);
    assert_eq!(store.jobs(Some("no such state"), 9).await.expect("jobs"), []);
    assert_eq!(store.jobs(None, 0).await.expect("jobs"), []);
    for id in made {
        let read = store.job(&id).await.expect("the job");
        store.update_job(&Job { created_ms: 1, state: "cancelled".into(), ..read }).await.expect("updated");
    }
}

/// Of those that wait.
pub async fn the_greatest_priority_is_next_and_then_the_oldest(store: &dyn Store) {
    let waiting = store.count_jobs("queued").await.expect("a count");
    let mut made = Vec::new();
    for (priority, created_ms) in [(i32::MAX - 1, 30), (i32::MAX, 20), (i32::MAX, 10)] {
        let job = Job { priority, created_ms, ..job() };
        store.create_job(&job).await.expect("a new job");
        made.insert(0, job.id);
    }
    assert_eq!(store.count_jobs("queued").await.expect("a count"), waiting + 3);
    for id in made {
        assert_ne!(store.next_job("other").await.expect("the next").map(|job| job.id), Some(id.clone()));
        let next = store.next_job("sql").await.expect("the next").expect("there is one");
        assert_eq!(next.id, id);
        store.update_job(&Job { state: "cancelled".into(), priority: 0, ..next }).await.expect("updated");
    }
    assert_eq!(store.count_jobs("queued").await.expect("a count"), waiting);
}

/// A commit that is a step happens once, and only while its attempt runs; one that is refused leaves nothing.
pub async fn a_commit_is_a_step_of_the_attempt_that_runs(store: &dyn Store) {
    let (database, name) = new_table(store).await;
    let commit = async |job: &Job, attempt: i32, step: i32| {
        let step = JobStep { job: job.id.clone(), attempt, step };
        let commit = Commit { step: Some(step), ..begin(store, &database, name).await };
        store.commit(&commit).await
    };
    let version = async || store.table_version(&database, name).await.expect("its version");

    let queued = job();
    store.create_job(&queued).await.expect("a new job");
    expect_error(commit(&queued, 0, 0).await, ErrorKind::Conflict);
    let running = Job { state: "running".into(), attempts: 2, step: 1, ..queued };
    store.update_job(&running).await.expect("updated");
    let before = version().await;
    for (attempt, step) in [(1, 1), (3, 1), (2, 0), (2, 2)] {
        expect_error(commit(&running, attempt, step).await, ErrorKind::Conflict);
    }
    expect_error(commit(&job(), 2, 1).await, ErrorKind::Conflict);
    assert_eq!((version().await, store.job(&running.id).await.expect("the job").step), (before, 1));

    let committed = commit(&running, 2, 1).await.expect("committed");
    let now = store.job(&running.id).await.expect("the job");
    assert_eq!((version().await, now.step, now.version), (committed, 2, running.version + 2));
    expect_error(commit(&running, 2, 1).await, ErrorKind::Conflict);

    // Its answer got lost, and it is asked for again.
    let step = JobStep { job: running.id.clone(), attempt: 2, step: 2 };
    let again = Commit { step: Some(step), ..begin(store, &database, name).await };
    let first = store.commit(&again).await.expect("committed");
    assert_eq!(store.commit(&again).await.expect("known"), first);
    assert_eq!(store.job(&running.id).await.expect("the job").step, 3);

    let now = store.job(&running.id).await.expect("the job");
    store.update_job(&Job { state: "cancelled".into(), ..now }).await.expect("updated");
    expect_error(commit(&running, 2, 3).await, ErrorKind::Conflict);
}

/// Those that are done, but the last to end, whenever they began; those that are not stay.
pub async fn old_jobs_are_forgotten(store: &dyn Store) {
    let live = Job { created_ms: -9, ..job() };
    store.create_job(&live).await.expect("a new job");
    let mut done = Vec::new();
    for n in 0..3 {
        let job = Job { created_ms: 9_100_000_000_000 - n, ..job() };
        store.create_job(&job).await.expect("a new job");
        store.update_job(&Job { state: "failed".into(), ..job.clone() }).await.expect("updated");
        done.push(job.id);
        // So that they end at times that can be told apart.
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(store.forget_jobs(u64::MAX).await.expect("forgotten"), 0);
    assert!(store.forget_jobs(2).await.expect("forgotten") >= 1);
    expect_error(store.job(&done[0]).await, ErrorKind::NotFound);
    for kept in [&done[1], &done[2], &live.id] {
        store.job(kept).await.expect("is kept");
    }
    let read = store.job(&live.id).await.expect("the job");
    store.update_job(&Job { state: "cancelled".into(), ..read }).await.expect("updated");
    store.forget_jobs(0).await.expect("forgotten");
    for gone in [&done[1], &done[2], &live.id] {
        expect_error(store.job(gone).await, ErrorKind::NotFound);
    }
}

/// A stream's job that is done stays until its step is 1, and is told of until then.
pub async fn jobs_that_left_something_are_kept(store: &dyn Store) {
    let stream = |state: &str| Job { kind: "stream".into(), state: state.into(), ..job() };
    let (first, second, live) = (stream("queued"), stream("queued"), stream("queued"));
    for job in [&first, &second, &live] {
        store.create_job(job).await.expect("a new job");
    }
    for job in [&second, &first] {
        store.update_job(&Job { state: "cancelled".into(), ..job.clone() }).await.expect("updated");
    }
    let left = async |limit: usize| -> Vec<String> {
        let left = store.jobs_left("stream", limit).await.expect("the jobs");
        let mut ids: Vec<String> = left.into_iter().map(|job| job.id).collect();
        ids.sort();
        ids
    };
    let mut both = [first.id.clone(), second.id.clone()];
    both.sort();
    assert_eq!(left(10).await, both);
    assert_eq!(left(1).await.len(), 1);
    store.forget_jobs(0).await.expect("forgotten");
    assert_eq!(left(10).await, both);
    let read = store.job(&second.id).await.expect("the job");
    store.update_job(&Job { step: 1, ..read }).await.expect("updated");
    assert_eq!(left(10).await, [&*first.id]);
    store.forget_jobs(0).await.expect("forgotten");
    expect_error(store.job(&second.id).await, ErrorKind::NotFound);
    for kept in [&first, &live] {
        let read = store.job(&kept.id).await.expect("is kept");
        store.update_job(&Job { state: "failed".into(), step: 1, ..read }).await.expect("updated");
    }
    store.forget_jobs(0).await.expect("forgotten");
}

/// A job needs an id and one of the known states.
pub async fn senseless_jobs_are_refused(store: &dyn Store) {
    expect_error(store.create_job(&Job { id: String::new(), ..job() }).await, ErrorKind::InvalidInput);
    expect_error(store.create_job(&Job { state: "sleeping".into(), ..job() }).await, ErrorKind::InvalidInput);
    let kept = job();
    store.create_job(&kept).await.expect("a new job");
    expect_error(store.update_job(&Job { state: "sleeping".into(), ..kept }).await, ErrorKind::InvalidInput);
}
