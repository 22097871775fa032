//! Every error code of the protocol that a registry on one machine can answer, with its status and its text.

use std::time::Duration;

use serde_json::{Value, json};
use tereza_registry::{rest, service};

use crate::support::{Registry, record};

fn schema(text: &str) -> Value {
    json!({ "schema": text })
}

#[tokio::test]
async fn what_is_not_there_is_told_apart() {
    let registry = Registry::start().await;
    let string = schema("\"string\"");
    let refused = async |method: &str, path: &str, body: Option<&Value>, expected: (u16, u32), text: &str| {
        assert_eq!(registry.refused(method, path, body, expected).await, text);
    };
    let none = "Subject 'none' not found.";
    refused("GET", "/subjects/none/versions", None, (404, 40401), none).await;
    refused("GET", "/subjects/none/versions/1", None, (404, 40401), none).await;
    refused("GET", "/subjects/none/versions/latest", None, (404, 40401), none).await;
    refused("GET", "/subjects/none/metadata", None, (404, 40401), none).await;
    refused("GET", "/subjects/none/versions/1/referencedby", None, (404, 40401), none).await;
    refused("POST", "/subjects/none", Some(&string), (404, 40401), none).await;
    refused("DELETE", "/subjects/none", None, (404, 40401), none).await;
    refused("DELETE", "/subjects/none/versions/1", None, (404, 40401), none).await;
    refused("DELETE", "/config/none", None, (404, 40401), none).await;
    refused("DELETE", "/mode/none", None, (404, 40401), none).await;
    registry.register("there", "\"string\"").await;
    refused("GET", "/subjects/there/versions/9", None, (404, 40402), "Version 9 not found.").await;
    refused("DELETE", "/subjects/there/versions/9", None, (404, 40402), "Version 9 not found.").await;
    let path = "/compatibility/subjects/there/versions/9";
    refused("POST", path, Some(&string), (404, 40402), "Version 9 not found.").await;
    refused("GET", "/schemas/ids/77", None, (404, 40403), "Schema 77 not found").await;
    refused("GET", "/schemas/ids/77/versions", None, (404, 40403), "Schema 77 not found").await;
    refused("GET", "/schemas/guids/x", None, (404, 40403), "Schema x not found").await;
    refused("POST", "/subjects/there", Some(&schema("\"int\"")), (404, 40403), "Schema not found").await;
    refused("GET", "/subjects/there/metadata?key=a&value=b", None, (404, 40403), "Schema not found").await;
    let text = "Subject 'there' does not have subject-level compatibility configured";
    refused("GET", "/config/there", None, (404, 40408), text).await;
    let text = "Subject 'there' does not have subject-level mode configured";
    refused("GET", "/mode/there", None, (404, 40409), text).await;
    registry.end().await;
}

#[tokio::test]
async fn deleting_has_its_order() {
    let registry = Registry::start().await;
    registry.register("s", "\"string\"").await;
    let refused = async |path: &str, expected: (u16, u32), text: &str| {
        assert_eq!(registry.refused("DELETE", path, None, expected).await, text);
    };
    let text = "Subject 's' was not deleted first before being permanently deleted";
    refused("/subjects/s?permanent=true", (404, 40405), text).await;
    let text = "Subject 's' Version 1 was not deleted first before being permanently deleted";
    refused("/subjects/s/versions/1?permanent=true", (404, 40407), text).await;
    assert_eq!(registry.delete("/subjects/s/versions/1").await, 1);
    let text = "Subject 's' Version 1 was soft deleted.Set permanent=true to delete permanently";
    refused("/subjects/s/versions/1", (404, 40406), text).await;
    let text = "Subject 's' was soft deleted.Set permanent=true to delete permanently";
    refused("/subjects/s", (404, 40404), text).await;
    assert_eq!(registry.delete("/subjects/s?permanent=true").await, json!([1]));
    refused("/subjects/s?permanent=true", (404, 40401), "Subject 's' not found.").await;
    registry.end().await;
}

#[tokio::test]
async fn incompatible_schemas_are_refused_with_all_reasons() {
    let registry = Registry::start().await;
    let old = record(&[("a", "int", None)]);
    let new = record(&[("a", "string", None), ("b", "int", None)]);
    registry.register("s", &old).await;
    let path = "/subjects/s/versions";
    let text = registry.refused("POST", path, Some(&schema(&new)), (409, 409)).await;
    let expected = format!(
        "Schema being registered is incompatible with an earlier schema for subject \"s\", details: \
         [{{errorType:'TYPE_MISMATCH', description:'/fields/0/type: the new type cannot be read \
         from data of the old type', additionalInfo:'read as STRING, written as INT'}}, \
         {{errorType:'READER_FIELD_MISSING_DEFAULT_VALUE', description:'/fields/1: the new field 'b' needs \
         a default, as the old record does not write it', additionalInfo:'b'}}, {{oldSchemaVersion: 1}}, \
         {{oldSchema: '{}'}}, {{validateFields: 'false', compatibility: 'BACKWARD'}}]",
        registry.get("/subjects/s/versions/1").await["schema"].as_str().expect("a schema")
    );
    assert_eq!(text, expected);
    let path = "/compatibility/subjects/s/versions/latest?verbose=true";
    let answer = registry.post(path, &schema(&new)).await;
    assert_eq!((&answer["is_compatible"], answer["messages"].as_array().expect("messages").len()), (&json!(false), 5));
    let answer = registry.post("/compatibility/subjects/s/versions", &schema(&new)).await;
    assert_eq!(answer, json!({ "is_compatible": false }));
    let text = registry
        .refused("POST", "/subjects/s/versions", Some(&json!({ "schema": "{}", "schemaType": "JSON" })), (409, 409))
        .await;
    assert!(text.contains("A schema of one type cannot read data of another type"), "{text}");
    registry.end().await;
}

#[tokio::test]
async fn what_cannot_be_done_is_told_apart() {
    let small = service::Settings { schema_bytes_max: 1_000, ..service::Settings::default() };
    let registry = Registry::with(small, rest::Settings::default()).await;
    let string = schema("\"string\"");
    let post = "/subjects/s/versions";
    for invalid in ["{", "\"nothing\"", "", "{\"type\":\"record\",\"name\":\"R\"}"] {
        registry.refused("POST", post, Some(&schema(invalid)), (422, 42201)).await;
    }
    for (kind, invalid) in [("JSON", "{\"type\":\"odd\"}"), ("PROTOBUF", "message {"), ("XML", "<a/>")] {
        registry.refused("POST", post, Some(&json!({ "schema": invalid, "schemaType": kind })), (422, 42201)).await;
    }
    let references = json!([{ "name": "x", "subject": "none", "version": 1 }]);
    let text = registry
        .refused("POST", post, Some(&json!({ "schema": "\"x\"", "references": references })), (422, 42201))
        .await;
    assert_eq!(text, "No schema reference found for subject \"none\" and version 1");
    registry.register("gone", "\"string\"").await;
    registry.delete("/subjects/gone").await;
    let references = json!([{ "name": "x", "subject": "gone", "version": 1 }]);
    let text = registry
        .refused("POST", post, Some(&json!({ "schema": "\"long\"", "references": references })), (422, 42201))
        .await;
    assert_eq!(text, "No schema reference found for subject \"gone\" and version 1");
    registry.register("s", "\"string\"").await;
    for version in ["0", "-2", "x", "2147483648"] {
        let text = registry.refused("GET", &format!("/subjects/s/versions/{version}"), None, (422, 42202)).await;
        assert!(text.starts_with(&format!("The specified version '{version}' is not a valid version id")), "{text}");
    }
    for path in ["/config", "/config/s"] {
        let text = registry.refused("PUT", path, Some(&json!({ "compatibility": "ALL" })), (422, 42203)).await;
        assert!(text.starts_with("Invalid compatibility level. Valid values are none, backward"), "{text}");
    }
    let text = registry.refused("PUT", "/mode", Some(&json!({ "mode": "ODD" })), (422, 42204)).await;
    assert!(text.starts_with("Invalid mode."), "{text}");
    registry.put("/mode/s", &json!({ "mode": "READONLY" })).await;
    let text = registry.refused("POST", post, Some(&string), (422, 42205)).await;
    assert_eq!(text, "Subject s is in read-only mode");
    registry.refused("DELETE", "/subjects/s", None, (422, 42205)).await;
    registry.refused("DELETE", "/subjects/s/versions/1", None, (422, 42205)).await;
    registry.refused("PUT", "/config/s", Some(&json!({ "compatibility": "NONE" })), (422, 42205)).await;
    registry.refused("DELETE", "/config/s", None, (422, 42205)).await;
    registry.put("/config", &json!({ "compatibility": "BACKWARD" })).await;
    registry.delete("/mode/s").await;
    registry.put("/mode", &json!({ "mode": "READONLY" })).await;
    for path in ["/config", "/config/s", "/config/none"] {
        registry.refused("PUT", path, Some(&json!({ "compatibility": "NONE" })), (422, 42205)).await;
        registry.refused("DELETE", path, None, (422, 42205)).await;
    }
    registry.put("/mode", &json!({ "mode": "READWRITE" })).await;
    let with_id = json!({ "schema": "\"int\"", "id": 5 });
    let text = registry.refused("POST", post, Some(&with_id), (422, 42205)).await;
    assert_eq!(text, "Subject s is not in import mode");
    let text = registry.refused("PUT", "/mode/s", Some(&json!({ "mode": "IMPORT" })), (422, 42205)).await;
    assert_eq!(text, "Cannot import since found existing subjects");
    let references = json!([{ "name": "T", "subject": "s", "version": 1 }]);
    registry.post("/subjects/t/versions", &json!({ "schema": "\"long\"", "references": references })).await;
    let text = registry.refused("DELETE", "/subjects/s/versions/1", None, (422, 42206)).await;
    assert_eq!(text, "One or more references exist to the schema {magic=1,keytype=SCHEMA,subject=s,version=1}.");
    registry.refused("DELETE", "/subjects/s", None, (422, 42206)).await;
    registry.put("/mode/i", &json!({ "mode": "IMPORT" })).await;
    registry.post("/subjects/i/versions", &json!({ "schema": "\"float\"", "id": 50, "version": 3 })).await;
    let text = registry
        .refused("POST", "/subjects/i/versions", Some(&json!({ "schema": "\"float\"", "id": 51 })), (422, 42207))
        .await;
    assert_eq!(text, "Schema already registered with id 50 instead of input id 51");
    let other = json!({ "schema": "\"double\"", "id": 50, "version": 4 });
    let text = registry.refused("POST", "/subjects/i/versions", Some(&other), (422, 42205)).await;
    assert_eq!(text, "Overwrite new schema with id 50 in context . is not permitted.");
    for odd in ["%01", "__GLOBAL", "__EMPTY", &"x".repeat(600)] {
        registry.refused("POST", &format!("/subjects/{odd}/versions"), Some(&string), (422, 42208)).await;
    }
    let long = schema(&format!("\"{}\"", "x".repeat(2_000)));
    let text = registry.refused("POST", post, Some(&long), (422, 42209)).await;
    assert_eq!(text, "Register operation failed because schema is too large");
    let rule = json!({ "name": "r", "kind": "CONDITION", "mode": "WRITE", "type": "CEL", "expr": "true" });
    for rules in [json!([rule, rule]), json!([{ "type": "CEL" }]), json!([{ "name": "x" }]), json!({})] {
        let body = json!({ "schema": "\"string\"", "ruleSet": { "domainRules": rules } });
        registry.refused("POST", post, Some(&body), (422, 42210)).await;
    }
    registry.register(":.c:s", "\"int\"").await;
    let text = registry.refused("DELETE", "/contexts/.c", None, (422, 42211)).await;
    assert_eq!(text, "The specified context '.c' is not empty.");
    registry.end().await;
}

#[tokio::test]
async fn what_is_referred_to_is_bounded_together() {
    let registry = Registry::start().await;
    let doc = "d".repeat(1_000_000);
    let record = |n: usize| json!({ "type": "record", "name": format!("R{n}"), "doc": doc, "fields": [] }).to_string();
    for n in 0..9 {
        registry.register(&format!("r{n}"), &record(n)).await;
    }
    let refers = |count: usize| {
        let references =
            (0..count).map(|n| json!({ "name": format!("R{n}"), "subject": format!("r{n}"), "version": 1 }));
        json!({ "schema": "\"R0\"", "references": references.collect::<Vec<_>>() })
    };
    let text = registry.refused("POST", "/subjects/s/versions", Some(&refers(9)), (422, 42201)).await;
    assert_eq!(text, "what a schema refers to may have 8388608 bytes");
    registry.post("/subjects/s/versions", &refers(8)).await;
    registry.end().await;
}

/// Requests until one takes longer than no time.
const ASKED_MAX: usize = 1_000;

#[tokio::test]
async fn a_request_that_takes_too_long_is_given_up() {
    let hasty = rest::Settings { request_timeout: Duration::ZERO, ..rest::Settings::default() };
    let registry = Registry::with(service::Settings::default(), hasty).await;
    // An answer that is there at the first look is given, however little time there is.
    for _ in 0..ASKED_MAX {
        let (status, body) = registry.send("GET", "/subjects", None).await;
        if status != 200 {
            assert_eq!((status, body["error_code"].as_i64()), (500, Some(50002)), "{body}");
            return registry.end().await;
        }
    }
    panic!("no request of {ASKED_MAX} took too long");
}
