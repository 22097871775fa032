//! Schemas and subjects ([`SchemaStore`]).

use futures::future::join_all;
use tereza_runtime::{ErrorKind, ids};

use super::expect_error;
use crate::store::schemas::{
    Content, Deleted, Deletion, NewVersion, Page, Reference, SchemaStore, Scope, SettingKind, Subject, SubjectFilter,
    SubjectName, Version,
};

/// Callers in each race.
const CALLERS: usize = 8;
/// Long enough for all that a test makes.
const ALL: Page = Page { offset: 0, limit: 1_000 };

/// All tests of this module.
pub async fn run(store: &dyn SchemaStore) {
    a_content_has_one_id(store).await;
    versions_go_up_and_are_not_given_again(store).await;
    a_subject_that_is_gone_begins_again(store).await;
    a_registered_schema_is_read_as_it_was(store).await;
    a_stamp_that_is_old_is_refused(store).await;
    imports_keep_ids_and_versions(store).await;
    deletions_are_soft_first(store).await;
    what_is_referred_to_stays(store).await;
    unused_schemas_are_gone(store).await;
    subjects_are_listed_in_pages(store).await;
    names_are_told_apart_by_case(store).await;
    settings_have_scopes(store).await;
    contexts_are_dropped_when_empty(store).await;
    senseless_names_are_refused(store).await;
    callers_at_once_get_one_id(store).await;
    one_of_many_with_the_same_stamp_wins(store).await;
    what_is_referred_to_is_there(store).await;
    the_greatest_numbers_are_no_end(store).await;
    deleting_nothing_makes_nothing(store).await;
    a_context_with_subjects_is_not_dropped_meanwhile(store).await;
}

/// A context that nothing else has.
fn context() -> String {
    format!(".c{}", ids::new_id())
}

fn name(context: &str, subject: &str) -> SubjectName {
    SubjectName { context: context.into(), subject: subject.into() }
}

fn content(text: &str) -> Content {
    Content {
        kind: "AVRO".into(),
        text: text.into(),
        references: Vec::new(),
        metadata: None,
        rule_set: None,
        hash: format!("{text:0>64}"),
        guid: format!("{text:0>36}"),
    }
}

fn new(name: &SubjectName, text: &str) -> NewVersion {
    NewVersion { name: name.clone(), content: content(text), id: None, version: None, expected_stamp: None }
}

async fn register(store: &dyn SchemaStore, name: &SubjectName, text: &str) -> Version {
    store.register_schema(&new(name, text)).await.expect("registered")
}

fn live(version: i32, id: i32) -> Version {
    Version { version, id, deleted: false }
}

/// In every subject of a context, and not in another context.
pub async fn a_content_has_one_id(store: &dyn SchemaStore) {
    let (here, there) = (context(), context());
    let (a, b) = (name(&here, "a"), name(&here, "b"));
    assert_eq!(register(store, &a, "x").await, live(1, 1));
    assert_eq!(register(store, &a, "x").await, live(1, 1));
    assert_eq!(register(store, &a, "y").await, live(2, 2));
    assert_eq!(register(store, &b, "y").await, live(1, 2));
    assert_eq!(register(store, &b, "z").await, live(2, 3));
    assert_eq!(register(store, &name(&there, "a"), "z").await, live(1, 1));
    assert_eq!(store.schema_id(&here, &content("y").hash).await.expect("asked"), Some(2));
    assert_eq!(store.schema_id(&there, &content("y").hash).await.expect("asked"), None);
    let versions = store.versions_of_schema(&here, 2, Deleted::Hide, ALL).await.expect("versions");
    assert_eq!(versions, [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    assert!(store.has_schema(&b, 2).await.expect("asked"));
    assert!(!store.has_schema(&a, 3).await.expect("asked"));
    let mut places = [(here, 3), (there, 1)];
    places.sort();
    let guid = content("z").guid;
    let found = store.schemas_of_guid(&guid, 1_000).await.expect("places");
    assert!(places.iter().all(|place| found.contains(place)), "{found:?}");
    assert_eq!(store.schemas_of_guid(&guid, 1).await.expect("places").len(), 1);
}

/// Also not when the last one was removed for good.
pub async fn versions_go_up_and_are_not_given_again(store: &dyn SchemaStore) {
    let a = name(&context(), "a");
    register(store, &a, "x").await;
    register(store, &a, "y").await;
    assert_eq!(store.delete_version(&a, 2, false).await.expect("deleted"), Deletion::Done(vec![2]));
    assert_eq!(store.delete_version(&a, 2, true).await.expect("deleted"), Deletion::Done(vec![2]));
    assert_eq!(register(store, &a, "z").await, live(3, 3));
    // One that was deleted softly comes back under a new number and its old id.
    assert_eq!(store.delete_version(&a, 1, false).await.expect("deleted"), Deletion::Done(vec![1]));
    assert_eq!(register(store, &a, "x").await, live(4, 1));
    let subject = store.subject(&a).await.expect("the subject");
    assert_eq!((subject.last_version, subject.versions), (4, vec![live(3, 3), live(4, 1)]));
}

/// Without anything of what was.
pub async fn a_subject_that_is_gone_begins_again(store: &dyn SchemaStore) {
    let a = name(&context(), "a");
    register(store, &a, "x").await;
    register(store, &a, "y").await;
    store.delete_subject(&a, false).await.expect("deleted");
    assert_eq!(store.delete_subject(&a, true).await.expect("deleted"), Deletion::Done(vec![1, 2]));
    assert_eq!(store.subject(&a).await.expect("nothing"), Subject::default());
    assert_eq!(register(store, &a, "x").await, live(1, 3));
}

/// References in their order, metadata and rules.
pub async fn a_registered_schema_is_read_as_it_was(store: &dyn SchemaStore) {
    let context = context();
    let (a, b) = (name(&context, "a"), name(&context, "b"));
    register(store, &a, "x").await;
    let reference =
        |n: &str| Reference { name: n.into(), subject_text: format!(":{context}:a"), subject: a.clone(), version: 1 };
    let content = Content {
        kind: "PROTOBUF".into(),
        references: vec![reference("z"), reference("a")],
        metadata: Some("{}".into()),
        rule_set: Some("[]".into()),
        ..content("ünï")
    };
    let version = store.register_schema(&NewVersion { content: content.clone(), ..new(&b, "") }).await.expect("new");
    let read = store.schema(&context, version.id).await.expect("asked").expect("there");
    assert_eq!((read.context, read.id, read.content), (context.clone(), version.id, content));
    assert_eq!(store.schema(&context, 99).await.expect("asked"), None);
    assert_eq!(store.referring_schemas(&a, 1, ALL).await.expect("ids"), [version.id]);
    assert_eq!(store.referring_schemas(&a, 2, ALL).await.expect("ids"), [0_i32; 0]);
}

/// Every change of a subject changes it.
pub async fn a_stamp_that_is_old_is_refused(store: &dyn SchemaStore) {
    let a = name(&context(), "a");
    let with = |text: &str, stamp: i64| NewVersion { expected_stamp: Some(stamp), ..new(&a, text) };
    store.register_schema(&with("x", 0)).await.expect("a new subject");
    expect_error(store.register_schema(&with("y", 0)).await, ErrorKind::Conflict);
    let first = store.subject(&a).await.expect("the subject").stamp;
    store.delete_version(&a, 1, false).await.expect("deleted");
    expect_error(store.register_schema(&with("y", first)).await, ErrorKind::Conflict);
    let second = store.subject(&a).await.expect("the subject").stamp;
    assert_eq!(store.register_schema(&with("y", second)).await.expect("registered"), live(2, 2));
}

/// Repeated, they change nothing; ids that follow are above.
pub async fn imports_keep_ids_and_versions(store: &dyn SchemaStore) {
    let a = name(&context(), "a");
    let import =
        |text: &str, id: i32, version: i32| NewVersion { id: Some(id), version: Some(version), ..new(&a, text) };
    for _ in 0..2 {
        assert_eq!(store.register_schema(&import("x", 70, 5)).await.expect("imported"), live(5, 70));
        assert_eq!(store.register_schema(&import("y", 40, 3)).await.expect("imported"), live(3, 40));
    }
    expect_error(store.register_schema(&import("z", 40, 6)).await, ErrorKind::AlreadyExists);
    // The same content may come under a second id.
    assert_eq!(store.register_schema(&import("x", 71, 6)).await.expect("imported"), live(6, 71));
    assert_eq!(store.schema_id(&a.context, &content("x").hash).await.expect("asked"), Some(70));
    assert_eq!(store.greatest_schema_id(&a.context).await.expect("asked"), 71);
    assert_eq!(register(store, &a, "new").await, live(7, 72));
    // What is replaced is gone if nothing else has it.
    assert_eq!(store.register_schema(&import("w", 80, 3)).await.expect("imported"), live(3, 80));
    assert_eq!(store.schema(&a.context, 40).await.expect("asked"), None);
}

/// And each step is only taken once.
pub async fn deletions_are_soft_first(store: &dyn SchemaStore) {
    let a = name(&context(), "a");
    assert_eq!(store.delete_subject(&a, false).await.expect("asked"), Deletion::NotFound);
    for text in ["x", "y", "z"] {
        register(store, &a, text).await;
    }
    assert_eq!(store.delete_version(&a, 9, false).await.expect("asked"), Deletion::NotFound);
    assert_eq!(store.delete_version(&a, 1, true).await.expect("asked"), Deletion::NotDeleted(1));
    assert_eq!(store.delete_version(&a, 1, false).await.expect("deleted"), Deletion::Done(vec![1]));
    assert_eq!(store.delete_version(&a, 1, false).await.expect("asked"), Deletion::AlreadyDeleted);
    assert_eq!(store.subject_version(&a, Some(1)).await.expect("asked").map(|found| found.deleted), Some(true));
    assert_eq!(store.subject_version(&a, None).await.expect("asked"), Some(live(3, 3)));
    assert_eq!(store.delete_subject(&a, true).await.expect("asked"), Deletion::NotDeleted(2));
    assert_eq!(store.delete_subject(&a, false).await.expect("deleted"), Deletion::Done(vec![2, 3]));
    assert_eq!(store.delete_subject(&a, false).await.expect("asked"), Deletion::AlreadyDeleted);
    assert_eq!(store.subject_version(&a, None).await.expect("asked"), None);
    assert_eq!(store.delete_subject(&a, true).await.expect("deleted"), Deletion::Done(vec![1, 2, 3]));
    assert_eq!(store.delete_subject(&a, true).await.expect("asked"), Deletion::NotFound);
}

/// Until what refers to it is deleted.
pub async fn what_is_referred_to_stays(store: &dyn SchemaStore) {
    let context = context();
    let (a, b) = (name(&context, "a"), name(&context, "b"));
    register(store, &a, "x").await;
    register(store, &a, "y").await;
    let reference = Reference { name: "x".into(), subject_text: "a".into(), subject: a.clone(), version: 1 };
    let content = Content { references: vec![reference], ..content("refers") };
    store.register_schema(&NewVersion { content, ..new(&b, "") }).await.expect("registered");
    assert_eq!(store.delete_version(&a, 1, false).await.expect("asked"), Deletion::Referenced(1));
    assert_eq!(store.delete_subject(&a, false).await.expect("asked"), Deletion::Referenced(1));
    assert_eq!(store.delete_version(&a, 2, false).await.expect("deleted"), Deletion::Done(vec![2]));
    store.delete_subject(&b, false).await.expect("deleted");
    assert_eq!(store.delete_version(&a, 1, false).await.expect("deleted"), Deletion::Done(vec![1]));
}

/// When no version has them any more, in any subject.
pub async fn unused_schemas_are_gone(store: &dyn SchemaStore) {
    let context = context();
    let (a, b) = (name(&context, "a"), name(&context, "b"));
    let id = register(store, &a, "x").await.id;
    register(store, &b, "x").await;
    for subject in [&a, &b] {
        assert!(store.schema(&context, id).await.expect("asked").is_some());
        store.delete_subject(subject, false).await.expect("deleted");
        store.delete_subject(subject, true).await.expect("deleted");
    }
    assert_eq!(store.schema(&context, id).await.expect("asked"), None);
    assert_eq!(store.schema_id(&context, &content("x").hash).await.expect("asked"), None);
}

/// By prefix, in which no character means anything but itself, and by whether they are deleted.
pub async fn subjects_are_listed_in_pages(store: &dyn SchemaStore) {
    let context = context();
    for subject in ["a", "a%b", "a%c", "axb", "b"] {
        register(store, &name(&context, subject), subject).await;
    }
    register(store, &name(&context, "b"), "b2").await;
    store.delete_subject(&name(&context, "axb"), false).await.expect("deleted");
    let list = async |prefix: &str, deleted: Deleted, page: Page| {
        let filter = SubjectFilter { context: Some(context.clone()), prefix: prefix.into(), deleted };
        let found = store.subjects(&filter, page).await.expect("subjects");
        found.into_iter().map(|name| name.subject).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(list("", Deleted::Hide, ALL).await, "a a%b a%c b");
    assert_eq!(list("a%", Deleted::Include, ALL).await, "a%b a%c");
    assert_eq!(list("a", Deleted::Only, ALL).await, "axb");
    assert_eq!(list("a", Deleted::Include, Page { offset: 1, limit: 2 }).await, "a%b a%c");
    assert_eq!(list("c", Deleted::Include, ALL).await, "");
    let versions = async |latest: bool, deleted: Deleted, prefix: &str| {
        let filter = SubjectFilter { context: Some(context.clone()), prefix: prefix.into(), deleted };
        let found = store.subject_versions(&filter, latest, ALL).await.expect("versions");
        let shown = found.iter().map(|(name, version)| format!("{}{}", name.subject, version.version));
        shown.collect::<Vec<_>>().join(" ")
    };
    assert_eq!(versions(false, Deleted::Hide, "").await, "a1 a%b1 a%c1 b1 b2");
    assert_eq!(versions(true, Deleted::Hide, "").await, "a1 a%b1 a%c1 b2");
    assert_eq!(versions(true, Deleted::Only, "").await, "axb1");
    assert_eq!(versions(true, Deleted::Include, "ax").await, "axb1");
    let contexts = store.schema_contexts(Page { offset: 0, limit: 100_000 }).await.expect("contexts");
    assert!(contexts.contains(&context) && contexts.is_sorted());
}

/// As clients do.
pub async fn names_are_told_apart_by_case(store: &dyn SchemaStore) {
    let context = context();
    assert_eq!(register(store, &name(&context, "Orders"), "x").await.version, 1);
    assert_eq!(register(store, &name(&context, "orders"), "y").await.version, 1);
    assert_eq!(store.subject(&name(&context, "ORDERS")).await.expect("nothing"), Subject::default());
}

/// A subject's end with it.
pub async fn settings_have_scopes(store: &dyn SchemaStore) {
    let a = name(&context(), "a");
    let scopes = [Scope::Context(a.context.clone()), Scope::Subject(a.clone())];
    for (n, scope) in scopes.iter().enumerate() {
        for kind in [SettingKind::Config, SettingKind::Mode] {
            assert_eq!(store.schema_setting(scope, kind).await.expect("asked"), None);
            for body in ["old", "new"] {
                store.set_schema_setting(scope, kind, Some(&format!("{body}{n}{kind:?}"))).await.expect("set");
            }
            let expected = format!("new{n}{kind:?}");
            assert_eq!(store.schema_setting(scope, kind).await.expect("asked"), Some(expected));
        }
    }
    let filter = SubjectFilter { context: Some(a.context.clone()), ..SubjectFilter::default() };
    let listed = store.schema_settings(SettingKind::Mode, &filter, ALL).await.expect("settings");
    assert_eq!(listed, [(a.clone(), "new1Mode".to_owned())]);
    store.set_schema_setting(&scopes[0], SettingKind::Mode, None).await.expect("removed");
    assert_eq!(store.schema_setting(&scopes[0], SettingKind::Mode).await.expect("asked"), None);
    register(store, &a, "x").await;
    store.delete_subject(&a, false).await.expect("deleted");
    assert_eq!(store.schema_setting(&scopes[1], SettingKind::Config).await.expect("asked"), None);
    assert!(store.schema_setting(&scopes[0], SettingKind::Config).await.expect("asked").is_some());
}

/// And not before.
pub async fn contexts_are_dropped_when_empty(store: &dyn SchemaStore) {
    let a = name(&context(), "a");
    register(store, &a, "x").await;
    store.set_schema_setting(&Scope::Context(a.context.clone()), SettingKind::Mode, Some("m")).await.expect("set");
    store.delete_subject(&a, false).await.expect("deleted");
    assert!(!store.drop_schema_context(&a.context).await.expect("asked"));
    store.delete_subject(&a, true).await.expect("deleted");
    assert!(store.drop_schema_context(&a.context).await.expect("dropped"));
    let contexts = store.schema_contexts(Page { offset: 0, limit: 100_000 }).await.expect("contexts");
    assert!(!contexts.contains(&a.context));
    let scope = Scope::Context(a.context.clone());
    assert_eq!(store.schema_setting(&scope, SettingKind::Mode).await.expect("asked"), None);
}

/// Too long or empty ones, and numbers below what there can be.
pub async fn senseless_names_are_refused(store: &dyn SchemaStore) {
    let context = context();
    for subject in ["", &"x".repeat(513)] {
        let refused = store.register_schema(&new(&name(&context, subject), "x")).await;
        expect_error(refused, ErrorKind::InvalidInput);
    }
    let a = name(&context, "a");
    for wrong in [NewVersion { version: Some(0), ..new(&a, "x") }, NewVersion { id: Some(-1), ..new(&a, "x") }] {
        expect_error(store.register_schema(&wrong).await, ErrorKind::InvalidInput);
    }
}

/// The same content in subjects of their own.
pub async fn callers_at_once_get_one_id(store: &dyn SchemaStore) {
    let context = context();
    let names: Vec<SubjectName> = (0..CALLERS).map(|n| name(&context, &format!("s{}", n / 2))).collect();
    let versions = join_all(names.iter().map(|name| register(store, name, "x"))).await;
    assert!(versions.iter().all(|version| *version == live(1, 1)), "{versions:?}");
    let others: Vec<String> = (0..CALLERS).map(|n| format!("t{n}")).collect();
    let versions = join_all(others.iter().map(|text| register(store, &names[0], text))).await;
    let mut numbers: Vec<(i32, i32)> = versions.iter().map(|version| (version.version, version.id)).collect();
    numbers.sort_unstable();
    let expected: Vec<(i32, i32)> = (2..).zip(2..).take(CALLERS).collect();
    assert_eq!(numbers, expected);
}

/// The others hear of it.
pub async fn one_of_many_with_the_same_stamp_wins(store: &dyn SchemaStore) {
    let a = name(&context(), "a");
    let caller = |n: usize| {
        let mine = NewVersion { expected_stamp: Some(0), ..new(&a, &format!("t{n}")) };
        async move { store.register_schema(&mine).await.map_err(|error| error.kind()) }
    };
    let outcomes = join_all((0..CALLERS).map(caller)).await;
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == Err(ErrorKind::Conflict)).count(), CALLERS - 1);
    assert_eq!(store.subject(&a).await.expect("the subject").versions.len(), 1);
}

/// What needs no new id or version goes on.
pub async fn the_greatest_numbers_are_no_end(store: &dyn SchemaStore) {
    let context = context();
    let (a, b) = (name(&context, "a"), name(&context, "b"));
    let last = NewVersion { id: Some(i32::MAX), version: Some(i32::MAX), ..new(&a, "x") };
    assert_eq!(store.register_schema(&last).await.expect("imported"), live(i32::MAX, i32::MAX));
    assert_eq!(store.greatest_schema_id(&a.context).await.expect("asked"), i32::MAX);
    assert_eq!(register(store, &b, "x").await, live(1, i32::MAX));
    let import = NewVersion { id: Some(3), version: Some(3), ..new(&a, "y") };
    assert_eq!(store.register_schema(&import).await.expect("imported"), live(3, 3));
    expect_error(store.register_schema(&new(&b, "z")).await, ErrorKind::ResourceExhausted);
    store.delete_subject(&b, false).await.expect("deleted");
    assert_eq!(store.delete_version(&a, i32::MAX, false).await.expect("deleted"), Deletion::Done(vec![i32::MAX]));
    expect_error(store.register_schema(&new(&a, "x")).await, ErrorKind::ResourceExhausted);
}

/// No context, and no name is too long for a deletion to say so.
pub async fn deleting_nothing_makes_nothing(store: &dyn SchemaStore) {
    let a = name(&context(), "a");
    for permanent in [false, true] {
        assert_eq!(store.delete_subject(&a, permanent).await.expect("asked"), Deletion::NotFound);
        assert_eq!(store.delete_version(&a, 1, permanent).await.expect("asked"), Deletion::NotFound);
    }
    let contexts = store.schema_contexts(Page { offset: 0, limit: 100_000 }).await.expect("contexts");
    assert!(!contexts.contains(&a.context));
    let long = name(&format!(".{}", "x".repeat(200)), "a");
    expect_error(store.delete_subject(&long, false).await, ErrorKind::InvalidInput);
    expect_error(store.delete_version(&long, 1, false).await, ErrorKind::InvalidInput);
}

/// One that is registered while its context is dropped has its context.
pub async fn a_context_with_subjects_is_not_dropped_meanwhile(store: &dyn SchemaStore) {
    let a = name(&context(), "a");
    for round in 0..CALLERS {
        let texts: Vec<String> = (0..CALLERS).map(|n| format!("r{round}t{n}")).collect();
        let calls = texts.iter().enumerate().map(async |(n, text)| match n % 2 {
            0 => _ = register(store, &a, text).await,
            _ => _ = store.drop_schema_context(&a.context).await.expect("asked"),
        });
        join_all(calls).await;
        let contexts = store.schema_contexts(Page { offset: 0, limit: 100_000 }).await.expect("contexts");
        assert!(contexts.contains(&a.context));
        assert_eq!(store.subject(&a).await.expect("the subject").versions.len(), CALLERS / 2);
        store.delete_subject(&a, false).await.expect("deleted");
        store.delete_subject(&a, true).await.expect("deleted");
        assert!(store.drop_schema_context(&a.context).await.expect("dropped"));
    }
}

/// When what refers to it is registered, whoever deletes it meanwhile, and in whatever context it is.
pub async fn what_is_referred_to_is_there(store: &dyn SchemaStore) {
    let (a, b) = (name(&context(), "a"), name(&context(), "b"));
    let refers = |text: &str| {
        let reference = Reference { name: "x".into(), subject_text: "a".into(), subject: a.clone(), version: 1 };
        NewVersion { content: Content { references: vec![reference], ..content(text) }, ..new(&b, "") }
    };
    expect_error(store.register_schema(&refers("none")).await, ErrorKind::Conflict);
    register(store, &a, "x").await;
    store.delete_version(&a, 1, false).await.expect("deleted");
    expect_error(store.register_schema(&refers("deleted")).await, ErrorKind::Conflict);
    let import = NewVersion { id: Some(7), ..refers("imported") };
    assert_eq!(store.register_schema(&import).await.expect("imported"), live(1, 7));
    store.delete_subject(&b, false).await.expect("deleted");
    store.delete_subject(&b, true).await.expect("deleted");
    for round in 0..CALLERS {
        store.delete_subject(&a, true).await.expect("deleted");
        register(store, &a, "x").await;
        let refers = refers(&format!("r{round}"));
        let (registered, deleted) =
            futures::join!(store.register_schema(&refers), async { store.delete_version(&a, 1, false).await });
        match registered {
            Ok(_) => {
                assert_eq!(deleted.expect("asked"), Deletion::Referenced(1));
                store.delete_subject(&b, false).await.expect("deleted");
                store.delete_version(&a, 1, false).await.expect("deleted");
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                assert_eq!(deleted.expect("asked"), Deletion::Done(vec![1]));
            }
        }
    }
}
