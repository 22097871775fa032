//! Copying a registry from another one: here from one of ours, which answers as others do.

use serde_json::json;
use tereza_registry::import::{self, Report, Source};
use tereza_runtime::{ErrorKind, Secret};

use crate::support::{Registry, record};

#[tokio::test]
async fn a_copy_has_the_same_ids_and_versions() {
    let (there, here) = (Registry::start().await, Registry::start().await);
    there.put("/config", &json!({ "compatibility": "FULL" })).await;
    for (subject, field) in [("a", "x"), ("b", "x"), ("a%2Fc", "z")] {
        there.register(subject, &record(&[(field, "int", None)])).await;
        there.register(subject, &record(&[(field, "int", None), ("new", "int", Some(json!(1)))])).await;
    }
    let references = json!([{ "name": "R", "subject": "a", "version": 1 }]);
    there.post("/subjects/:.ctx:r/versions", &json!({ "schema": "\"string\"" })).await;
    there
        .post(
            "/subjects/refers/versions",
            &json!({ "schema": "{\"type\":\"array\",\"items\":\"R\"}", "references": references }),
        )
        .await;
    there.put("/config/b", &json!({ "compatibility": "NONE" })).await;
    there.delete("/subjects/b/versions/1").await;
    let source = Source { url: there.url(), ..Source::default() };
    let report = import::run(&here.service, &source).await.expect("copied");
    assert_eq!(report, Report { copied: 8, present: 0, settings: 2 });
    for path in [
        "/subjects?deleted=true",
        "/schemas?deleted=true",
        "/schemas",
        "/subjects/b/versions?deletedAsNegative=true",
        "/subjects/a%2Fc/versions/2",
        "/schemas/ids/1",
        "/config",
        "/config/b",
        "/contexts",
    ] {
        assert_eq!(here.get(path).await, there.get(path).await, "{path}");
    }
    // Again, it brings what is new.
    there
        .register("a", &record(&[("x", "int", None), ("new", "int", Some(json!(1))), ("more", "int", Some(json!(1)))]))
        .await;
    let report = import::run(&here.service, &source).await.expect("copied");
    assert_eq!(report, Report { copied: 1, present: 8, settings: 2 });
    // What is registered here afterwards gets ids above.
    let mine = here.register("mine", "\"bytes\"").await;
    assert!(mine > there.get("/schemas/ids/1?fetchMaxId=true").await["maxId"].as_i64().expect("an id"));
    there.register("theirs", "\"double\"").await;
    let error = import::run(&here.service, &source).await.expect_err("the id is taken");
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    there.end().await;
    here.end().await;
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_an_error_without_the_password() {
    let here = Registry::start().await;
    let there = Registry::start().await;
    let url = there.url();
    there.end().await;
    let source = Source { url: url.clone(), user: Some("ada".into()), password: Secret::new("hush") };
    let error = import::run(&here.service, &source).await.expect_err("nobody answers");
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(!format!("{source:?} {error:?} {error}").contains("hush"), "{error:?}");
    let source = Source { url: url.replace("http://", "http://ada:hush@"), ..Source::default() };
    let error = import::run(&here.service, &source).await.expect_err("a password is no part of a URL");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(!format!("{error:?} {error}").contains("hush"), "{error:?}");
    here.end().await;
}

#[tokio::test]
async fn a_copy_knows_neither_order_nor_aliases_nor_modes() {
    let (there, here) = (Registry::start().await, Registry::start().await);
    // What refers to something has a smaller id than that, and both are deleted, as is one of an alias.
    there.put("/mode", &json!({ "mode": "IMPORT" })).await;
    let base = record(&[("x", "int", None)]);
    there.post("/subjects/base/versions", &json!({ "schema": base, "id": 50, "version": 1 })).await;
    let references = json!([{ "name": "R", "subject": "base", "version": 1 }]);
    let schema = "{\"type\":\"array\",\"items\":\"R\"}";
    for (id, subject) in [(10, "deleted"), (11, "live")] {
        let schema =
            if id == 10 { schema.to_owned() } else { schema.replace("array", "map").replace("items", "values") };
        let body = json!({ "schema": schema, "references": references, "id": id, "version": 1 });
        there.post(&format!("/subjects/{subject}/versions"), &body).await;
    }
    there.post("/subjects/other/versions", &json!({ "schema": "\"int\"", "id": 5, "version": 1 })).await;
    there.post("/subjects/named/versions", &json!({ "schema": "\"long\"", "id": 6, "version": 1 })).await;
    there.post("/subjects/named/versions", &json!({ "schema": "\"bytes\"", "id": 7, "version": 2 })).await;
    there.put("/mode", &json!({ "mode": "READWRITE" })).await;
    there.delete("/subjects/deleted").await;
    there.delete("/subjects/live").await;
    there.delete("/subjects/base").await;
    there.delete("/subjects/named/versions/1").await;
    there.put("/config/named", &json!({ "alias": "other" })).await;
    there.put("/config/deleted", &json!({ "compatibility": "NONE" })).await;
    here.put("/mode", &json!({ "mode": "READONLY" })).await;
    let source = Source { url: there.url(), ..Source::default() };
    for present in [0, 6] {
        let report = import::run(&here.service, &source).await.expect("copied");
        assert_eq!(report, Report { copied: 6 - present, present, settings: 3 });
        for path in ["/subjects?deleted=true", "/schemas?deleted=true", "/schemas", "/config/named", "/config/deleted"]
        {
            assert_eq!(here.get(path).await, there.get(path).await, "{path}");
        }
    }
    there.end().await;
    here.end().await;
}
