//! Pairs of schemas with what is known of them: `vectors/<format>.json`, a list of cases. `backward` says whether the new
//! schema reads data of the old one, `forward` whether the old one reads data of the new one; a pair is fully compatible if
//! both hold. `kinds` are the types of all problems of the backward direction.

use serde::Deserialize;
use serde_json::Value;
use tereza_registry::formats::{Format, Policy, Problem, Schema};

/// One pair.
#[derive(Debug, Deserialize)]
pub(crate) struct Case {
    pub(crate) reason: String,
    pub(crate) old: Value,
    pub(crate) new: Value,
    pub(crate) backward: bool,
    pub(crate) forward: bool,
    kinds: Option<Vec<String>>,
}

pub(crate) fn cases(format: Format) -> Vec<Case> {
    let text = match format {
        Format::Avro => include_str!("vectors/avro.json"),
        Format::Json => include_str!("vectors/json.json"),
        Format::Protobuf => include_str!("vectors/protobuf.json"),
    };
    serde_json::from_str(text).expect("cases")
}

/// Protobuf is text; the others are JSON.
fn text(format: Format, schema: &Value) -> String {
    match (format, schema) {
        (Format::Protobuf, Value::String(text)) => text.clone(),
        _ => schema.to_string(),
    }
}

fn check(format: Format) {
    let mut wrong = Vec::new();
    for Case { reason, old, new, backward, forward, kinds } in cases(format) {
        let parse = |schema: &Value| Schema::parse(format, &text(format, schema), &[], true);
        let (old, new) = match (parse(&old), parse(&new)) {
            (Ok(old), Ok(new)) => (old, new),
            (old, new) => {
                wrong.push(format!("{reason}: {:?} {:?}", old.err(), new.err()));
                continue;
            }
        };
        // What is kept is read again when the next version comes.
        for schema in [&old, &new] {
            for kept in [schema.canonical(), schema.normalized()] {
                match Schema::parse(format, &kept, &[], true) {
                    Ok(again) if again.canonical() == kept || again.normalized() == kept => {}
                    Ok(again) => wrong.push(format!("{reason}: {kept} is written again as {}", again.canonical())),
                    Err(error) => wrong.push(format!("{reason}: {kept} cannot be read again: {error}")),
                }
            }
        }
        let problems = |reader: &Schema, writer: &Schema| reader.problems(writer, Policy::Strict).expect("simple");
        let (found, reverse) = (problems(&new, &old), problems(&old, &new));
        if (found.is_empty(), reverse.is_empty()) != (backward, forward) {
            let all: Vec<&Problem> = found.iter().chain(&reverse).collect();
            wrong.push(format!("{reason}: backward {}, forward {}: {all:?}", found.is_empty(), reverse.is_empty()));
        }
        if let Some(mut kinds) = kinds {
            let mut found: Vec<&str> = found.iter().map(|problem| problem.kind).collect();
            kinds.sort_unstable();
            found.sort_unstable();
            if kinds != found {
                wrong.push(format!("{reason}: {found:?} instead of {kinds:?}"));
            }
        }
        for problem in found.iter().chain(&reverse) {
            let text = problem.description("new", "old");
            // A name that is changed is changed from either side.
            let names_both = text.contains("new") && text.contains("old") || problem.kind == "NAME_MISMATCH";
            let is_silent = problem.kind == "SCHEMA_ADDED" && text.is_empty();
            if !(is_silent || names_both && text.contains(&problem.path)) {
                wrong.push(format!("{reason}: {} is described as '{text}'", problem.kind));
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn avro_is_as_the_vectors_say() {
    check(Format::Avro);
}

#[test]
fn json_schema_is_as_the_vectors_say() {
    check(Format::Json);
}

#[test]
fn protobuf_is_as_the_vectors_say() {
    check(Format::Protobuf);
}

#[test]
fn there_are_enough_vectors_and_each_has_a_reason() {
    let all: Vec<Case> = Format::ALL.into_iter().flat_map(cases).collect();
    assert!(all.len() >= 300, "{}", all.len());
    let mut reasons: Vec<&str> = all.iter().map(|case| case.reason.as_str()).collect();
    assert!(reasons.iter().all(|reason| reason.len() > 5));
    reasons.sort_unstable();
    let full = all.iter().filter(|case| case.backward && case.forward).count();
    assert!(full > 100 && all.len() - full > 100, "{full} of {}", all.len());
}

/// The canonical and the normalized form of a file of Protobuf.
fn forms(text: &str) -> (String, String) {
    let schema = Schema::parse(Format::Protobuf, text, &[], true).expect("a schema");
    (schema.canonical(), schema.checked_normalized(&[]).expect("a normal form that can be read"))
}

#[test]
fn normal_forms_of_protobuf_keep_options_and_first_values() {
    let text = "syntax = \"proto3\"; import \"confluent/meta.proto\"; option java_package = \"a\"; \
        option (confluent.file_meta).doc = \"d\"; \
        message M { option (confluent.message_meta) = { doc: \"m\" tags: [\"x\"] }; \
        string a = 1 [(confluent.field_meta).doc = \"f\", deprecated = true]; \
        message N { E e = 1 [(confluent.field_meta).doc = \"n\"]; } } \
        enum E { option (confluent.enum_meta).doc = \"e\"; ZERO = 0; TWO = 2; LESS = -1 [(confluent.enum_value_meta).doc = \"v\"]; }";
    let (canonical, normalized) = forms(text);
    for form in [&canonical, &normalized] {
        for kept in
            ["file_meta", "message_meta", "field_meta", "enum_meta", "enum_value_meta", "java_package", "deprecated"]
        {
            assert!(form.contains(kept), "{kept} in {form}");
        }
        assert_eq!(form.matches("field_meta").count(), 2, "{form}");
    }
    let at = |value: &str| normalized.find(value).expect("a value");
    assert!(at("ZERO") < at("LESS") && at("LESS") < at("TWO"), "{normalized}");
    assert!(normalized.contains(".M.N") || normalized.contains(" .E e = 1"), "names are in full: {normalized}");
    assert_eq!(forms(&normalized).1, normalized);
}

#[test]
fn forms_of_protobuf_keep_options_of_oneofs_and_ranges_and_defaults_of_bytes() {
    let text = "syntax = \"proto2\"; import \"google/protobuf/descriptor.proto\"; \
        extend google.protobuf.OneofOptions { optional string of_oneof = 50001; } \
        extend google.protobuf.ExtensionRangeOptions { optional string of_range = 50002; } \
        message M { optional bytes b = 1 [default = \"a\\\\b\\\"c\\x01\\n\"]; optional string s = 2 [default = \"a\\\\b\\\"c\"]; \
        oneof o { option (of_oneof) = \"x\"; int32 c = 3; } extensions 100 to 200 [(of_range) = \"y\"]; }";
    let (canonical, normalized) = forms(text);
    for form in [&canonical, &normalized] {
        for kept in ["option (of_oneof) = \"x\";", "[(of_range) = \"y\"]", r#""a\\b\"c\001\n""#, r#""a\\b\"c""#] {
            assert!(form.contains(kept), "{kept} in {form}");
        }
    }
    assert_eq!(forms(&canonical), (canonical, normalized.clone()));
    assert_eq!(forms(&normalized).1, normalized);
}
