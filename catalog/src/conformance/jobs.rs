//! Jobs.

use tereza_runtime::{ErrorKind, ids};

use super::expect_error;
use crate::Store;
use crate::model::Job;

/// All tests of this module.
pub async fn run(store: &dyn Store) {
    a_job_comes_back_as_it_was_given(store).await;
    an_update_names_the_version_it_read(store).await;
    a_live_name_is_given_once(store).await;
    the_newest_come_first(store).await;
    senseless_jobs_are_refused(store).await;
}

/// A queued job with a name of its own.
pub(super) fn job() -> Job {
    let id = ids::new_id();
    Job {
        name: Some(format!("job {id}")),
        id,
        kind: "sql".into(),
        state: "queued".into(),
        user: "ada".into(),
        text: "select 'it''s %'".into(),
        attempts: 0,
        detail: r#"{"a":[1,null]}"#.into(),
        created_ms: 1,
        updated_ms: 0,
        version: 0,
    }
}

/// Every field is kept, but for the time of the last change, which the store sets.
pub async fn a_job_comes_back_as_it_was_given(store: &dyn Store) {
    for given in [job(), Job { name: None, text: String::new(), version: 7, ..job() }] {
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
    expect_error(store.job(&name).await, ErrorKind::NotFound);
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

/// A job needs an id and one of the known states.
pub async fn senseless_jobs_are_refused(store: &dyn Store) {
    expect_error(store.create_job(&Job { id: String::new(), ..job() }).await, ErrorKind::InvalidInput);
    expect_error(store.create_job(&Job { state: "sleeping".into(), ..job() }).await, ErrorKind::InvalidInput);
    let kept = job();
    store.create_job(&kept).await.expect("a new job");
    expect_error(store.update_job(&Job { state: "sleeping".into(), ..kept }).await, ErrorKind::InvalidInput);
}
