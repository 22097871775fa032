//! What the Rust client `schema_registry_converter` asks of a registry, and its codecs of all three formats, without any
//! Kafka: `tereza-registry-rust-client URL` says `ok` or why not. `registry/tests/it/clients.rs` runs it.

use std::error::Error;

use apache_avro::types::Value as Avro;
use schema_registry_converter::async_impl::avro::{AvroDecoder, AvroEncoder};
use schema_registry_converter::async_impl::json::{JsonDecoder, JsonEncoder};
use schema_registry_converter::async_impl::proto_decoder::ProtoDecoder;
use schema_registry_converter::async_impl::proto_encoder::ProtoEncoder;
use schema_registry_converter::async_impl::schema_registry::{
    SrSettings, get_all_subjects, get_all_versions, get_schema_by_id, get_schema_by_subject_and_version, post_schema,
};
use schema_registry_converter::schema_registry_common::{
    SchemaType, SubjectNameStrategy, SuppliedReference, SuppliedSchema,
};
use serde_json::json;

type Checked = Result<(), Box<dyn Error>>;

const USER: &str = r#"{"type":"record","name":"User","namespace":"test","fields":[
    {"name":"name","type":"string"},{"name":"age","type":["null","int"],"default":null}]}"#;

/// The number in a message as Kafka has it: a zero, then four bytes.
fn id(message: &[u8]) -> u32 {
    assert_eq!(message[0], 0);
    u32::from_be_bytes([message[1], message[2], message[3], message[4]])
}

async fn avro(settings: &SrSettings) -> Checked {
    let schema = SuppliedSchema::new(Some("test.User".into()), SchemaType::Avro, USER.into());
    let strategy = || SubjectNameStrategy::TopicNameStrategyWithSchema("users".into(), false, schema.clone());
    let values = || vec![("name", Avro::String("Ada".into())), ("age", Avro::Union(1, Box::new(Avro::Int(36))))];
    let message = AvroEncoder::new(settings.clone()).encode(values(), strategy()).await?;
    let decoder = AvroDecoder::new(settings.clone());
    let decoded = decoder.decode(Some(&message)).await?;
    let expected: Vec<_> = values().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(decoded.value, Avro::Record(expected));

    // Without a schema of its own it takes the latest one; and with its number in a header it is found by its guid.
    let latest = || SubjectNameStrategy::TopicNameStrategy("users".into(), false);
    let encoder = AvroEncoder::new(settings.clone());
    assert_eq!(encoder.encode(values(), latest()).await?, message);
    let (bare, header) = encoder.encode_with_header_id(values(), latest(), false).await?;
    assert_eq!(decoder.decode_with_header_id(Some(&header.value), Some(&bare)).await?.value, decoded.value);

    let registered = get_schema_by_id(id(&message), settings).await?;
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&registered.schema)?,
        serde_json::from_str::<serde_json::Value>(USER)?
    );
    assert!(registered.schema_type == SchemaType::Avro);
    assert_eq!(get_schema_by_subject_and_version(settings, "users-value", Some(1)).await?.id, id(&message));
    assert_eq!(get_schema_by_subject_and_version(settings, "users-value", None).await?.id, id(&message));

    // A reference to what another subject has: it is registered there again, which makes no new version.
    let reference = SuppliedReference::new("test.User".into(), "users-value".into(), USER.into());
    let team = r#"{"type":"record","name":"Team","namespace":"test","fields":[{"name":"lead","type":"test.User"}]}"#;
    let team =
        SuppliedSchema::new(Some("test.Team".into()), SchemaType::Avro, team.into()).with_references(vec![reference]);
    let registered = post_schema(settings, "teams-value".into(), team).await?;
    assert_eq!(get_schema_by_id(registered.id, settings).await?.references.len(), 1);
    let lead = Avro::Record(vec![
        ("name".into(), Avro::String("Ada".into())),
        ("age".into(), Avro::Union(0, Box::new(Avro::Null))),
    ]);
    let teams = SubjectNameStrategy::TopicNameStrategy("teams".into(), false);
    let message = encoder.encode(vec![("lead", lead.clone())], teams).await?;
    assert_eq!(decoder.decode(Some(&message)).await?.value, Avro::Record(vec![("lead".into(), lead)]));
    Ok(())
}

async fn json(settings: &SrSettings) -> Checked {
    let text = json!({ "type": "object", "properties": { "a": { "type": "string" } }, "required": ["a"] }).to_string();
    let schema = SuppliedSchema::new(None, SchemaType::Json, text);
    let strategy = || SubjectNameStrategy::TopicNameStrategyWithSchema("objects".into(), false, schema.clone());
    let encoder = JsonEncoder::new(settings.clone());
    let message = encoder.encode(&json!({ "a": "x" }), strategy()).await?;
    let decoded = JsonDecoder::new(settings.clone()).decode(Some(&message)).await?.ok_or("nothing was decoded")?;
    assert_eq!(decoded.value, json!({ "a": "x" }));
    assert!(encoder.encode(&json!({ "a": 1 }), strategy()).await.is_err(), "its validator reads the schema");
    Ok(())
}

async fn protobuf(settings: &SrSettings) -> Checked {
    let part = "syntax = \"proto3\"; package p; message Part { int64 n = 1; }";
    let text = "syntax = \"proto3\"; package p; import \"part.proto\"; message Other { string s = 1; } \
                message Whole { message Inner { bool b = 1; } Part part = 1; map<string, int32> m = 2; Inner inner = 3; }";
    let reference = SuppliedReference::new("part.proto".into(), "part.proto".into(), part.into());
    let schema = SuppliedSchema::new(None, SchemaType::Protobuf, text.into()).with_references(vec![reference]);
    let strategy = SubjectNameStrategy::TopicNameStrategyWithSchema("wholes".into(), false, schema);
    let value = json!({ "part": { "n": "7" }, "m": { "k": 1 }, "inner": { "b": true } });
    let message = ProtoEncoder::new(settings.clone()).encode_json(&value, "p.Whole", &strategy).await?;
    assert!(id(&message) > 0);
    let decoded = ProtoDecoder::new(settings.clone()).decode(Some(&message)).await?;
    let text = format!("{decoded:?}");
    assert!(text.contains("I64(7)") && text.contains("Bool(true)"), "{text}");
    Ok(())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Checked {
    let url = std::env::args().nth(1).ok_or("name the URL of a registry")?;
    let settings = SrSettings::new(url);
    avro(&settings).await?;
    json(&settings).await?;
    protobuf(&settings).await?;
    let mut subjects = get_all_subjects(&settings).await?;
    subjects.sort();
    assert_eq!(subjects, ["objects-value", "part.proto", "teams-value", "users-value", "wholes-value"]);
    assert_eq!(get_all_versions(&settings, "users-value".into()).await?, [1]);
    let missing = get_schema_by_id(4_711, &settings).await.map(|found| found.schema).expect_err("no such schema");
    assert!(missing.to_string().contains("40403"), "{missing}");
    let wrong = SuppliedSchema::new(None, SchemaType::Avro, r#"{"type":"record"}"#.into());
    let refused = post_schema(&settings, "wrong".into(), wrong).await.map(|found| found.id).expect_err("not a schema");
    assert!(refused.to_string().contains("42201"), "{refused}");
    let narrower = r#"{"type":"record","name":"User","namespace":"test","fields":[{"name":"mail","type":"string"}]}"#;
    let narrower = SuppliedSchema::new(None, SchemaType::Avro, narrower.into());
    let refused = post_schema(&settings, "users-value".into(), narrower).await.map(|found| found.id);
    assert!(refused.expect_err("not compatible").to_string().contains("409"));
    println!("ok");
    Ok(())
}
