//! What clients see of HTTP, and what the registry does over it.

use std::time::Duration;

use serde_json::{Value, json};
use tereza_registry::{rest, service};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Registry, record};

/// Sends bytes as they are, and returns what comes back until the connection ends.
async fn raw(registry: &Registry, request: &str) -> String {
    let mut stream = TcpStream::connect(registry.address).await.expect("connected");
    stream.write_all(request.as_bytes()).await.expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("an answer");
    answer
}

fn request(method: &str, path: &str, headers: &str) -> String {
    format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n")
}

#[tokio::test]
async fn types_of_requests_and_answers_are_negotiated() {
    let registry = Registry::start().await;
    let kind = async |headers: &str| {
        let answer = raw(&registry, &request("GET", "/subjects", headers)).await;
        let status: u16 = answer[9..12].parse().expect("a status");
        let kind = answer.lines().find_map(|line| line.strip_prefix("content-type: ")).unwrap_or_default().to_owned();
        (status, kind)
    };
    let v1 = "application/vnd.schemaregistry.v1+json";
    assert_eq!(kind("").await, (200, v1.into()));
    assert_eq!(kind("accept: */*\r\n").await, (200, v1.into()));
    assert_eq!(kind("accept: application/json\r\n").await, (200, "application/json".into()));
    let all = "accept: application/vnd.schemaregistry.v1+json, application/vnd.schemaregistry+json; q=0.9, application/json; q=0.5\r\n";
    assert_eq!(kind(all).await, (200, v1.into()));
    let general = "accept: application/vnd.schemaregistry+json\r\n";
    assert_eq!(kind(general).await, (200, "application/vnd.schemaregistry+json".into()));
    assert_eq!(kind("accept: text/html\r\n").await.0, 406);
    let post = async |headers: &str| {
        let body = "{\"schema\": \"\\\"int\\\"\"}";
        let headers = format!("{headers}content-length: {}\r\n", body.len());
        raw(&registry, &format!("{}{body}", request("POST", "/subjects/s/versions", &headers))).await[9..12].to_owned()
    };
    for good in [
        "",
        "content-type: application/json\r\n",
        "content-type: application/octet-stream\r\n",
        "content-type: application/vnd.schemaregistry+json; charset=utf-8\r\n",
    ] {
        assert_eq!(post(good).await, "200", "{good}");
    }
    assert_eq!(post("content-type: text/plain\r\n").await, "415");
    registry.end().await;
}

#[tokio::test]
async fn methods_and_paths_are_those_of_the_protocol() {
    let registry = Registry::start().await;
    assert_eq!(registry.get("/").await, json!({}));
    assert_eq!(registry.get("/schemas/types").await, json!(["JSON", "PROTOBUF", "AVRO"]));
    assert_eq!(
        registry.get("/v1/metadata/id").await["scope"]["clusters"]["schema-registry-cluster"],
        "schema-registry"
    );
    assert!(registry.get("/v1/metadata/version").await["version"].is_string());
    for path in ["/none", "/subjects/a/b", "/schemas/ids", "/schemas/ids/x", "/contexts/none/subjects", "/associations"]
    {
        registry.refused("GET", path, None, (404, 404)).await;
    }
    registry.refused("PUT", "/subjects", Some(&json!({})), (405, 405)).await;
    registry.refused("GET", "/subjects/s", None, (405, 405)).await;
    let answer = raw(&registry, &request("PATCH", "/config", "")).await;
    assert!(answer.contains("405") && answer.contains("allow: GET,HEAD,PUT,DELETE,OPTIONS"), "{answer}");
    let answer = raw(&registry, &request("HEAD", "/subjects", "")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("\r\n\r\n"), "{answer}");
    let answer = raw(&registry, &request("OPTIONS", "/mode", "")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("allow: GET"), "{answer}");
    registry.refused("GET", "/subjects/%ff/versions", None, (400, 400)).await;
    for (body, status) in [("{", 400), ("[]", 422), ("{\"id\": \"x\"}", 422), ("", 422)] {
        let headers = format!("content-length: {}\r\n", body.len());
        let answer = raw(&registry, &format!("{}{body}", request("POST", "/subjects/s/versions", &headers))).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{body}: {answer}");
    }
    // What it does not know it leaves.
    registry.post("/subjects/s/versions", &json!({ "schema": "\"int\"", "unknown": 1 })).await;
    registry.end().await;
}

#[tokio::test]
async fn bodies_and_connections_are_bounded() {
    let small =
        rest::Settings { body_bytes_max: 100, idle_timeout: Duration::from_millis(50), ..rest::Settings::default() };
    let registry = Registry::with(service::Settings::default(), small).await;
    registry.refused("POST", "/subjects/s/versions", Some(&json!({ "schema": "x".repeat(200) })), (422, 42209)).await;
    // Without a length it is counted as it comes.
    let chunks = format!("64\r\n{}\r\n", "x".repeat(100)).repeat(3);
    let chunked = request("POST", "/subjects/s/versions", "transfer-encoding: chunked\r\n");
    let answer = raw(&registry, &format!("{chunked}{chunks}0\r\n\r\n")).await;
    assert!(answer.starts_with("HTTP/1.1 422") && answer.contains("42209"), "{answer}");
    // A head in drops is not waited for either.
    const DROPS: usize = 500;
    let mut slow = TcpStream::connect(registry.address).await.expect("connected");
    let mut sent = 0;
    while sent < DROPS && slow.write_all(b"x").await.is_ok() {
        sent += 1;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(sent < DROPS, "it is waited for");
    let mut silent = TcpStream::connect(registry.address).await.expect("connected");
    assert_eq!(silent.read(&mut [0; 1]).await.unwrap_or(0), 0, "closed");
    registry.end().await;
}

#[tokio::test]
async fn names_of_subjects_are_taken_from_the_raw_path() {
    let registry = Registry::start().await;
    for (path, name) in
        [("a%2Fb", "a/b"), ("a:b", "a:b"), ("%C3%BC", "ü"), ("a%20b", "a b"), ("a+b", "a+b"), ("a%25b", "a%b")]
    {
        registry.register(path, "\"int\"").await;
        let found = registry.get(&format!("/subjects/{path}/versions/latest")).await;
        assert_eq!(found["subject"], name);
    }
    assert_eq!(registry.get("/subjects?subjectPrefix=a%2F").await, json!(["a/b"]));
    registry.end().await;
}

#[tokio::test]
async fn one_content_has_one_id() {
    let registry = Registry::start().await;
    let first = registry.register("a", &record(&[("x", "int", None)])).await;
    let spaced =
        serde_json::to_string_pretty(&serde_json::from_str::<Value>(&record(&[("x", "int", None)])).expect("json"));
    assert_eq!(registry.register("a", &spaced.expect("text")).await, first);
    assert_eq!(registry.register("b", &record(&[("x", "int", None)])).await, first);
    assert_ne!(registry.register("b", &record(&[("x", "long", None)])).await, first);
    assert_eq!(registry.get(&format!("/schemas/ids/{first}/subjects")).await, json!(["a", "b"]));
    let versions = json!([{ "subject": "a", "version": 1 }, { "subject": "b", "version": 1 }]);
    assert_eq!(registry.get(&format!("/schemas/ids/{first}/versions")).await, versions);
    let found = registry.get("/subjects/a/versions/1").await;
    let guid = found["guid"].as_str().expect("a guid");
    assert_eq!(registry.get(&format!("/schemas/guids/{guid}")).await["schema"], found["schema"]);
    assert_eq!(registry.get(&format!("/schemas/guids/{guid}/ids")).await, json!([{ "context": ".", "id": first }]));
    let schema = registry.get(&format!("/schemas/ids/{first}/schema")).await;
    assert_eq!(schema.to_string().len(), found["schema"].as_str().expect("a schema").len());
    assert_eq!(registry.get(&format!("/schemas/ids/{first}?fetchMaxId=true")).await["maxId"], 2);
    registry.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registrations_at_once_give_one_id() {
    let registry = Registry::start().await;
    let calls = (0..16).map(|n| {
        let path = format!("/subjects/s{}/versions", n % 4);
        let registry = &registry;
        async move { registry.post(&path, &json!({ "schema": "\"int\"" })).await["id"].clone() }
    });
    let ids = futures::future::join_all(calls).await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    for n in 0..4 {
        assert_eq!(registry.get(&format!("/subjects/s{n}/versions")).await, json!([1]));
    }
    // Of schemas that are not compatible with one another only one can be first.
    let calls = ["int", "string", "boolean", "float"].map(|kind| {
        let registry = &registry;
        async move {
            let body = json!({ "schema": format!("\"{kind}\"") });
            registry.send("POST", "/subjects/raced/versions", Some(&body)).await.0
        }
    });
    let statuses = futures::future::join_all(calls).await;
    let versions = registry.get("/subjects/raced/versions").await;
    let won = statuses.iter().filter(|status| **status == 200).count();
    assert_eq!(won, versions.as_array().expect("versions").len(), "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 409].contains(status)) && statuses.contains(&409), "{statuses:?}");
    registry.end().await;
}

#[tokio::test]
async fn levels_say_what_is_checked() {
    let registry = Registry::start().await;
    // Each version is compatible with the one before, the third not with the first.
    let versions = [
        record(&[("a", "int", None), ("b", "int", None)]),
        record(&[("a", "int", None), ("b", "int", Some(json!(0))), ("c", "int", Some(json!(0)))]),
        record(&[("a", "int", None), ("c", "int", None)]),
    ];
    for (level, expected) in [
        ("NONE", [true, true, true]),
        ("BACKWARD", [true, true, true]),
        ("BACKWARD_TRANSITIVE", [true, true, false]),
        ("FORWARD", [true, true, true]),
        ("FORWARD_TRANSITIVE", [true, true, false]),
        ("FULL", [true, true, true]),
        ("full_transitive", [true, true, false]),
    ] {
        let subject = level.to_lowercase();
        registry.put(&format!("/config/{subject}"), &json!({ "compatibility": level })).await;
        for (schema, expected) in versions.iter().zip(expected) {
            let path = format!("/subjects/{subject}/versions");
            let (status, answer) = registry.send("POST", &path, Some(&json!({ "schema": schema }))).await;
            assert_eq!(status == 200, expected, "{level}: {answer}");
        }
        let config = registry.get(&format!("/config/{subject}")).await;
        assert_eq!(config["compatibilityLevel"], level.to_uppercase());
    }
    let narrower = json!({ "schema": record(&[("a", "string", None)]) });
    for (level, reader) in [("backward", "the new field"), ("forward", "the old field")] {
        let subject = json!({ "schema": record(&[("z", "int", None)]) });
        let path = format!("/compatibility/subjects/{level}/versions/latest?verbose=true");
        let answer = registry.post(&path, &subject).await;
        assert!(answer["messages"].to_string().contains(reader), "{answer}");
        let path = format!("/compatibility/subjects/{level}/versions/latest");
        assert_eq!(registry.post(&path, &narrower).await, json!({ "is_compatible": false }));
    }
    assert_eq!(
        registry.post("/compatibility/subjects/nothing/versions/latest", &narrower).await["is_compatible"],
        true
    );
    registry.end().await;
}

#[tokio::test]
async fn settings_are_inherited() {
    let registry = Registry::start().await;
    assert_eq!(registry.get("/config").await, json!({ "compatibilityLevel": "BACKWARD" }));
    let request = json!({ "compatibility": "FULL" });
    assert_eq!(registry.put("/config", &request).await, request);
    assert_eq!(registry.get("/config/s?defaultToGlobal=true").await["compatibilityLevel"], "FULL");
    registry.put("/config/:.c:", &json!({ "compatibility": "FORWARD" })).await;
    assert_eq!(registry.get("/config/:.c:s?defaultToGlobal=true").await["compatibilityLevel"], "FORWARD");
    assert_eq!(registry.get("/contexts/.c/config/s?defaultToGlobal=true").await["compatibilityLevel"], "FORWARD");
    registry.put("/config/:.c:s", &json!({ "compatibilityGroup": "major", "normalize": true })).await;
    let own = json!({ "compatibilityGroup": "major", "normalize": true });
    assert_eq!(registry.get("/config/:.c:s").await, own);
    let scope = registry.get("/config/:.c:s?defaultToGlobal=true").await;
    assert_eq!((&scope["compatibilityLevel"], &scope["compatibilityGroup"]), (&json!("FORWARD"), &json!("major")));
    // What a request does not name stays, and null takes it away.
    registry.put("/config/:.c:s", &json!({ "compatibility": "none", "normalize": null })).await;
    let changed = json!({ "compatibilityGroup": "major", "compatibilityLevel": "NONE" });
    assert_eq!(registry.get("/config/:.c:s").await, changed);
    assert_eq!(registry.delete("/config/:.c:s").await, changed);
    assert_eq!(registry.delete("/config").await, json!({ "compatibilityLevel": "FULL" }));
    assert_eq!(registry.get("/config").await, json!({ "compatibilityLevel": "BACKWARD" }));
    assert_eq!(registry.get("/mode").await, json!({ "mode": "READWRITE" }));
    registry.put("/mode", &json!({ "mode": "readonly" })).await;
    assert_eq!(registry.get("/mode/s?defaultToGlobal=true").await, json!({ "mode": "READONLY" }));
    registry.put("/mode/s", &json!({ "mode": "READWRITE" })).await;
    registry.register("s", "\"int\"").await;
    registry.put("/mode", &json!({ "mode": "READONLY_OVERRIDE" })).await;
    registry.refused("POST", "/subjects/s/versions", Some(&json!({ "schema": "\"long\"" })), (422, 42205)).await;
    assert_eq!(registry.delete("/mode?recursive=true").await, json!({ "mode": "READONLY_OVERRIDE" }));
    registry.refused("GET", "/mode/s", None, (404, 40409)).await;
    registry.end().await;
}

#[tokio::test]
async fn contexts_are_worlds_of_their_own() {
    let registry = Registry::start().await;
    assert_eq!(registry.register("s", "\"int\"").await, 1);
    assert_eq!(registry.register(":.c:s", "\"string\"").await, 1);
    let path = "/contexts/.c/subjects/t/versions";
    assert_eq!(registry.post(path, &json!({ "schema": "\"long\"" })).await["id"], 2);
    assert_eq!(registry.get("/contexts").await, json!([".", ".c"]));
    assert_eq!(registry.get("/subjects").await, json!(["s", ":.c:s", ":.c:t"]));
    assert_eq!(registry.get("/contexts/.c/subjects").await, json!([":.c:s", ":.c:t"]));
    assert_eq!(registry.get("/subjects?subjectPrefix=:.c:").await, json!([":.c:s", ":.c:t"]));
    assert_eq!(registry.get("/subjects?subjectPrefix=").await, json!(["s"]));
    assert_eq!(registry.get("/subjects?subjectPrefix=:*:s").await, json!(["s", ":.c:s"]));
    assert_eq!(registry.get("/schemas/ids/1").await["schema"], "\"int\"");
    assert_eq!(registry.get("/schemas/ids/1?subject=:.c:s").await["schema"], "\"string\"");
    assert_eq!(registry.get("/contexts/.c/schemas/ids/1").await["schema"], "\"string\"");
    // A subject without a context is looked for in all of them.
    assert_eq!(registry.get("/schemas/ids/2?subject=t").await["schema"], "\"long\"");
    assert_eq!(registry.get("/subjects/t/versions/latest").await["subject"], ":.c:t");
    assert_eq!(registry.post("/subjects/t", &json!({ "schema": "\"long\"" })).await["subject"], ":.c:t");
    for subject in [":.c:s", ":.c:t"] {
        registry.delete(&format!("/subjects/{subject}")).await;
        registry.delete(&format!("/subjects/{subject}?permanent=true")).await;
    }
    assert_eq!(registry.send("DELETE", "/contexts/.c", None).await.0, 204);
    assert_eq!(registry.get("/contexts").await, json!(["."]));
    registry.end().await;
}

#[tokio::test]
async fn lists_have_pages_and_deleted_ones() {
    let registry = Registry::start().await;
    registry.put("/config", &json!({ "compatibility": "NONE" })).await;
    for subject in ["a", "b", "c"] {
        for kind in ["int", "string", "long"] {
            registry.register(subject, &format!("\"{kind}\"")).await;
        }
    }
    registry.delete("/subjects/b").await;
    registry.delete("/subjects/c/versions/2").await;
    assert_eq!(registry.get("/subjects").await, json!(["a", "c"]));
    assert_eq!(registry.get("/subjects?deleted=true&offset=1&limit=1").await, json!(["b"]));
    assert_eq!(registry.get("/subjects?deletedOnly=true").await, json!(["b"]));
    assert_eq!(registry.get("/subjects/c/versions").await, json!([1, 3]));
    assert_eq!(registry.get("/subjects/c/versions?deleted=true").await, json!([1, 2, 3]));
    assert_eq!(registry.get("/subjects/c/versions?deletedOnly=true").await, json!([2]));
    assert_eq!(registry.get("/subjects/c/versions?deletedAsNegative=true").await, json!([1, -2, 3]));
    assert_eq!(registry.get("/subjects/c/versions?deleted=true&offset=1&limit=1").await, json!([2]));
    let shown = async |path: &str| {
        let all = registry.get(path).await;
        let all = all.as_array().expect("schemas").iter();
        all.map(|one| format!("{}{}", one["subject"].as_str().expect("a subject"), one["version"]))
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(shown("/schemas").await, "a1 a2 a3 c1 c3");
    assert_eq!(shown("/schemas?latestOnly=true").await, "a3 c3");
    assert_eq!(shown("/schemas?deleted=true&subjectPrefix=b&offset=1&limit=1").await, "b2");
    registry.refused("GET", "/subjects/c/versions/2", None, (404, 40402)).await;
    assert_eq!(registry.get("/subjects/c/versions/2?deleted=true").await["deleted"], true);
    registry.refused("POST", "/subjects/c", Some(&json!({ "schema": "\"string\"" })), (404, 40403)).await;
    assert_eq!(registry.post("/subjects/c?deleted=true", &json!({ "schema": "\"string\"" })).await["version"], 2);
    registry.end().await;
}

#[tokio::test]
async fn normal_forms_are_one_schema() {
    let registry = Registry::start().await;
    let one = r#"{"type": "record", "name": "R", "namespace": "n", "fields": [{"name": "a", "type": {"type": "string"}, "x": 1, "b": 2}]}"#;
    let two = r#"{"name": "n.R", "type": "record", "fields": [{"b": 2, "x": 1, "name": "a", "order": "ascending", "type": "string"}]}"#;
    let post = async |subject: &str, schema: &str, normalize: bool| {
        let path = format!("/subjects/{subject}/versions?normalize={normalize}");
        registry.post(&path, &json!({ "schema": schema })).await["id"].as_i64().expect("an id")
    };
    assert_ne!(post("a", one, false).await, post("b", two, false).await);
    assert_eq!(post("c", one, true).await, post("d", two, true).await);
    registry.put("/config/e", &json!({ "normalize": true })).await;
    assert_eq!(post("e", two, false).await, post("c", one, true).await);
    let json_one = json!({ "schemaType": "JSON", "schema": "{\"b\": 1, \"a\": 2}" });
    let json_two = json!({ "schemaType": "JSON", "schema": "{\"a\": 2, \"b\": 1}" });
    let first = registry.post("/subjects/f/versions?normalize=true", &json_one).await["id"].clone();
    assert_eq!(registry.post("/subjects/g/versions?normalize=true", &json_two).await["id"], first);
    let protobuf = |text: &str| json!({ "schemaType": "PROTOBUF", "schema": text });
    let first =
        protobuf("syntax = \"proto3\"; import \"google/protobuf/empty.proto\"; message M { string b = 2; M a = 1; }");
    let second = protobuf(
        "syntax = \"proto3\";\nimport \"google/protobuf/empty.proto\";\n// A comment.\nmessage M { .M a = 1; string b = 2; }",
    );
    let first = registry.post("/subjects/h/versions?normalize=true", &first).await["id"].clone();
    assert_eq!(registry.post("/subjects/i/versions?normalize=true", &second).await["id"], first);
    registry.end().await;
}

#[tokio::test]
async fn references_are_resolved() {
    let registry = Registry::start().await;
    registry
        .register(
            "inner",
            "{\"type\": \"record\", \"name\": \"n.I\", \"fields\": [{\"name\": \"i\", \"type\": \"int\"}]}",
        )
        .await;
    let references = json!([{ "name": "n.I", "subject": "inner", "version": 1 }]);
    let outer = json!({ "schema": "{\"type\": \"record\", \"name\": \"O\", \"fields\": [{\"name\": \"o\", \"type\": \"n.I\"}]}", "references": references });
    let id = registry.post("/subjects/outer/versions", &outer).await["id"].as_i64().expect("an id");
    let found = registry.get(&format!("/schemas/ids/{id}")).await;
    assert_eq!(found["references"], references);
    assert_eq!(found["schema"], "{\"type\":\"record\",\"name\":\"O\",\"fields\":[{\"name\":\"o\",\"type\":\"n.I\"}]}");
    let resolved = registry.get(&format!("/schemas/ids/{id}?format=resolved")).await["schema"].clone();
    assert!(resolved.as_str().expect("a schema").contains("\"name\":\"i\""), "{resolved}");
    // Who has put all together finds it too.
    assert_eq!(registry.post("/subjects/outer", &json!({ "schema": resolved })).await["id"], id);
    assert_eq!(registry.get("/subjects/inner/versions/1/referencedby").await, json!([id]));
    // A version that refers to another version is compared with what that one says.
    registry.put("/config/inner", &json!({ "compatibility": "NONE" })).await;
    registry
        .register(
            "inner",
            "{\"type\": \"record\", \"name\": \"n.I\", \"fields\": [{\"name\": \"i\", \"type\": \"string\"}]}",
        )
        .await;
    let newer =
        json!({ "schema": outer["schema"], "references": [{ "name": "n.I", "subject": "inner", "version": 2 }] });
    let text = registry.refused("POST", "/subjects/outer/versions", Some(&newer), (409, 409)).await;
    assert!(text.contains("/fields/0/type/fields/0/type"), "{text}");
    let json_inner = json!({ "schemaType": "JSON", "schema": "{\"definitions\": {\"x\": {\"type\": \"integer\"}}}" });
    registry.post("/subjects/defs/versions", &json_inner).await;
    let json_outer = json!({
        "schemaType": "JSON", "schema": "{\"type\": \"object\", \"properties\": {\"a\": {\"$ref\": \"defs.json#/definitions/x\"}}}",
        "references": [{ "name": "defs.json", "subject": "defs", "version": -1 }]
    });
    registry.post("/subjects/uses/versions", &json_outer).await;
    let text = registry
        .refused(
            "POST",
            "/subjects/uses2/versions",
            Some(&json!({ "schemaType": "JSON", "schema": json_outer["schema"] })),
            (422, 42201),
        )
        .await;
    assert!(text.contains("defs.json"), "{text}");
    registry.end().await;
}

#[tokio::test]
async fn the_size_of_what_is_referred_to_is_bounded() {
    let settings = service::Settings { references_bytes_max: 150, ..service::Settings::default() };
    let registry = Registry::with(settings, rest::Settings::default()).await;
    let inner = |name: &str| format!("{{\"type\": \"record\", \"name\": \"{name}\", \"fields\": []}}");
    for name in ["A", "B", "C"] {
        registry.register(name, &inner(&name.repeat(30))).await;
    }
    let outer = |names: &[&str]| {
        let references: Vec<Value> =
            names.iter().map(|name| json!({ "name": name.repeat(30), "subject": name, "version": 1 })).collect();
        json!({ "schema": "\"int\"", "references": references })
    };
    registry.post("/subjects/small/versions", &outer(&["A", "B"])).await;
    let text = registry.refused("POST", "/subjects/large/versions", Some(&outer(&["A", "B", "C"])), (422, 42201)).await;
    assert!(text.contains("150 bytes"), "{text}");
    registry.end().await;
}

/// What JavaScript and Go send: bytes in which custom options are fields of the options' messages.
#[tokio::test]
async fn descriptors_in_base64_keep_custom_options() {
    let registry = Registry::start().await;
    let options = "syntax = \"proto2\"; package o; import \"google/protobuf/descriptor.proto\"; \
         enum Kind { NONE = 0; SECRET = 1; } message Rule { optional int32 least = 1; optional string word = 2; } \
         extend google.protobuf.FileOptions { optional string team = 50001; } \
         extend google.protobuf.MessageOptions { optional Rule rule = 50001; } \
         extend google.protobuf.FieldOptions { optional Kind kind = 50001; repeated sint32 marks = 50002; \
                                               optional bool shown = 50003; optional double part = 50004; } \
         extend google.protobuf.EnumValueOptions { optional bytes code = 50001; }";
    let text = "syntax = \"proto3\"; package p; import \"o.proto\"; option (o.team) = \"me\"; \
         message M { option (o.rule) = { least: 3 word: \"w\" }; \
         string a = 1 [(o.kind) = SECRET, (o.marks) = 1, (o.marks) = -2, (o.shown) = true, (o.part) = 1.5, deprecated = true]; \
         message Inner { string b = 1 [(o.shown) = false]; } } \
         enum E { Z = 0 [(o.code) = \"x\"]; }";
    let protobuf = |schema: &str| {
        let references = json!([{ "name": "o.proto", "subject": "o", "version": 1 }]);
        json!({ "schemaType": "PROTOBUF", "schema": schema, "references": references })
    };
    registry.post("/subjects/o/versions", &json!({ "schemaType": "PROTOBUF", "schema": options })).await;
    let id = registry.post("/subjects/text/versions", &protobuf(text)).await["id"].clone();
    let bytes = registry.get(&format!("/schemas/ids/{id}?format=serialized")).await["schema"].clone();
    let bytes = protobuf(bytes.as_str().expect("a text"));
    registry.post("/subjects/bytes/versions", &bytes).await;
    let kept = registry.get("/subjects/bytes/versions/1/schema").await;
    let kept = kept.to_string().replace(' ', "");
    for option in [
        "option (o.team) = \\\"me\\\"",
        "option (o.rule) = { least:3,word:\\\"w\\\" }",
        "(o.kind) = SECRET",
        "(o.marks) = 1, (o.marks) = -2",
        "(o.shown) = true",
        "(o.shown) = false",
        "(o.part) = 1.5",
        "(o.code) = \\\"x\\\"",
        "deprecated = true",
    ] {
        assert!(kept.contains(&option.replace(' ', "")), "{option} is not in {kept}");
    }
    // What is kept can be read again, and is the same schema in either form.
    let id = registry.post("/subjects/bytes", &bytes).await["id"].clone();
    let again = registry.get("/subjects/bytes/versions/1?format=serialized").await["schema"].clone();
    for form in [&again, &registry.get("/subjects/bytes/versions/1").await["schema"]] {
        let found = registry.post("/subjects/bytes/versions", &protobuf(form.as_str().expect("a text"))).await;
        assert_eq!(found["id"], id);
    }
    registry.end().await;
}

#[tokio::test]
async fn metadata_goes_from_version_to_version() {
    let registry = Registry::start().await;
    let metadata = json!({ "properties": { "major": "1", "owner": "ada" } });
    let post = async |schema: &str, more: Value| {
        let mut body = json!({ "schema": schema });
        body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        registry.send("POST", "/subjects/s/versions", Some(&body)).await
    };
    assert_eq!(post("\"int\"", json!({ "metadata": metadata })).await.0, 200);
    assert_eq!(post("\"long\"", json!({})).await.0, 200);
    assert_eq!(registry.get("/subjects/s/versions/2").await["metadata"], metadata);
    assert_eq!(post("\"string\"", json!({})).await.0, 409);
    registry.put("/config/s", &json!({ "compatibilityGroup": "major" })).await;
    assert_eq!(post("\"string\"", json!({ "metadata": { "properties": { "major": "2" } } })).await.0, 200);
    assert_eq!(post("\"bytes\"", json!({})).await.0, 200);
    let found = registry.get("/subjects/s/metadata?key=major&value=1&key=owner&value=ada").await;
    assert_eq!(found["version"], 2);
    registry.put("/config/s", &json!({ "overrideMetadata": { "properties": { "owner": "bob" } } })).await;
    assert_eq!(post("\"string\"", json!({})).await.0, 200);
    assert_eq!(
        registry.get("/subjects/s/versions/latest").await["metadata"]["properties"],
        json!({ "major": "2", "owner": "bob" })
    );
    registry.end().await;
}

#[tokio::test]
async fn a_version_in_the_metadata_makes_no_new_schema() {
    let registry = Registry::start().await;
    let path = "/subjects/s/versions";
    let with_version = json!({ "schema": "\"int\"", "version": -1 });
    let first = registry.post(path, &with_version).await;
    assert_eq!(first["metadata"]["properties"]["confluent:version"], "1");
    let plain = json!({ "schema": "\"int\"" });
    for _ in 0..2 {
        let again = registry.post(path, &plain).await;
        assert_eq!((&again["id"], &again["version"]), (&first["id"], &json!(1)));
    }
    assert_eq!(registry.post("/subjects/s", &plain).await["version"], 1);
    assert_eq!(registry.post(path, &json!({ "schema": "\"long\"", "version": 2 })).await["version"], 2);
    let text =
        registry.refused("POST", path, Some(&json!({ "schema": "\"double\"", "version": 2 })), (422, 42201)).await;
    assert_eq!(text, "Version is not one more than previous version");
    assert_eq!(registry.get(path).await, json!([1, 2]));
    registry.end().await;
}

#[tokio::test]
async fn an_alias_is_another_subject() {
    let registry = Registry::start().await;
    let id = registry.register("real", "\"int\"").await;
    registry.put("/config/other", &json!({ "alias": "real" })).await;
    assert_eq!(registry.get("/subjects/other/versions/latest").await["subject"], "real");
    assert_eq!(registry.register("other", "\"int\"").await, id);
    assert_eq!(registry.get("/subjects").await, json!(["real"]));
    registry.end().await;
}

#[tokio::test]
async fn a_drain_answers_what_was_begun() {
    let registry = Registry::start().await;
    registry.register("s", "\"int\"").await;
    let address = registry.address;
    registry.end().await;
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}
