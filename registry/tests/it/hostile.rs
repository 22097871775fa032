//! Whatever is sent as a schema: no panic, no recursion without end, no time without end.

use std::time::{Duration, Instant};

use proptest::prelude::ProptestConfig;
use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
use serde_json::{Value, json};
use tereza_registry::formats::{Format, PROBLEMS_MAX, Policy, Referenced, Schema};
use tereza_runtime::clock;

/// Far more than a bounded comparison takes without optimisation on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// What threads of the runtime have.
const STACK_BYTES: usize = 2 << 20;

/// Parses both and compares them both ways, on a thread as small as those of the server.
fn compare(format: Format, one: String, two: String) {
    let began: Instant = clock::now();
    let work = move || {
        let (Ok(one), Ok(two)) = (Schema::parse(format, &one, &[], true), Schema::parse(format, &two, &[], true))
        else {
            return;
        };
        for (reader, writer) in [(&one, &two), (&two, &one), (&one, &one)] {
            if let Ok(problems) = reader.problems(writer, Policy::Strict) {
                assert!(problems.len() <= PROBLEMS_MAX);
                problems.iter().for_each(|problem| drop(problem.render("new", "old")));
            }
        }
        drop((one.canonical(), one.normalized(), one.formatted("resolved"), one.formatted("serialized")));
    };
    let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work).expect("a thread");
    thread.join().expect("no panic");
    assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
}

#[test]
fn deep_schemas_end() {
    for depth in [60, 120, 200, 100_000] {
        let nested =
            |open: &str, middle: &str, close: &str| format!("{}{middle}{}", open.repeat(depth), close.repeat(depth));
        let avro = nested("{\"type\":\"array\",\"items\":", "\"int\"", "}");
        compare(Format::Avro, avro.clone(), avro.replace("int", "string"));
        compare(Format::Avro, nested("[", "", "]"), "\"int\"".into());
        let json = nested("{\"properties\":{\"a\":", "{\"type\":\"string\"}", "}}");
        compare(Format::Json, json.clone(), json.replace("string", "integer"));
        let json = nested("{\"allOf\":[", "{\"type\":\"string\"}", "]}");
        compare(Format::Json, json.clone(), json.replace("string", "integer"));
        let json = nested("{\"not\":", "{}", "}");
        compare(Format::Json, json.clone(), json);
        let protobuf = nested("message M { ", "", "}");
        compare(Format::Protobuf, protobuf.clone(), protobuf);
        let options = format!("message M {{ optional int32 a = 1 [(x) = {}]; }}", nested("{ a: ", "1", "}"));
        compare(Format::Protobuf, options.clone(), options);
    }
}

#[test]
fn long_chains_of_names_end() {
    const LINKS: usize = 3_000;
    // Each record is defined before the next one that names it, so nothing is nested.
    let chain = |end: &str| {
        let mut branches = vec![json!({ "type": "record", "name": "R0", "fields": [{ "name": "a", "type": end }] })];
        for n in 1..LINKS {
            let below = format!("R{}", n - 1);
            branches
                .push(json!({ "type": "record", "name": format!("R{n}"), "fields": [{ "name": "a", "type": below }] }));
        }
        branches.reverse();
        let last = branches.remove(0);
        branches.reverse();
        branches.push(last);
        Value::Array(branches).to_string()
    };
    compare(Format::Avro, chain("int"), chain("string"));
    let chain = |end: &str| {
        let mut definitions = serde_json::Map::new();
        definitions.insert("d0".into(), json!({ "type": end }));
        for n in 1..LINKS {
            let below = format!("#/definitions/d{}", n - 1);
            definitions.insert(format!("d{n}"), json!({ "type": "object", "properties": { "a": { "$ref": below } } }));
        }
        json!({ "definitions": definitions, "$ref": format!("#/definitions/d{}", LINKS - 1) }).to_string()
    };
    compare(Format::Json, chain("integer"), chain("string"));
    let references = |n: usize| json!({ "definitions": { "a": { "$ref": format!("#/definitions/b{n}") }, "b0": { "$ref": "#/definitions/a" } }, "$ref": "#/definitions/a" });
    compare(Format::Json, references(0).to_string(), references(0).to_string());
}

/// Each is nested no deeper than one may be, but all of them are written out within one another.
#[test]
fn deep_references_end() {
    for (count, layers, is_written) in [(190, 0, true), (210, 0, false), (200, 50, false), (10, 15, true)] {
        let wrap = |inner: Value| (0..layers).fold(inner, |inner, _| json!({ "type": "array", "items": inner }));
        let referenced = |n: usize| {
            let below = if n == 0 { json!("int") } else { json!(format!("R{}", n - 1)) };
            let text =
                json!({ "type": "record", "name": format!("R{n}"), "fields": [{ "name": "a", "type": wrap(below) }] });
            Referenced { name: format!("R{n}"), place: (format!("s{n}"), 1), text: text.to_string() }
        };
        let references: Vec<Referenced> = (0..count).map(referenced).collect();
        let work = move || {
            let text = format!("\"R{}\"", count - 1);
            let schema = Schema::parse(Format::Avro, &text, &references, true).expect("a schema");
            drop((schema.canonical(), schema.normalized(), schema.problems(&schema, Policy::Strict).is_ok()));
            assert_eq!(schema.formatted("resolved").is_ok(), is_written, "{count} with {layers}");
        };
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work).expect("a thread");
        thread.join().expect("no panic");
    }
}

#[test]
fn what_doubles_at_each_step_is_bounded() {
    const STEPS: usize = 60;
    // Each record has the one before twice, so that its problems are twice as many.
    let doubling = |end: &str| {
        let mut branches = vec![json!({ "type": "record", "name": "R0", "fields": [{ "name": "a", "type": end }] })];
        for n in 1..STEPS {
            let below = format!("R{}", n - 1);
            let fields = json!([{ "name": "a", "type": below }, { "name": "b", "type": below }]);
            branches.push(json!({ "type": "record", "name": format!("R{n}"), "fields": fields }));
        }
        Value::Array(branches).to_string()
    };
    compare(Format::Avro, doubling("int"), doubling("string"));
    let doubling = |end: &str, word: &str| {
        let mut definitions = serde_json::Map::new();
        definitions.insert("d0".into(), json!({ "type": end }));
        for n in 1..STEPS {
            let below = json!({ "$ref": format!("#/definitions/d{}", n - 1) });
            let array = json!({ "type": "array", "items": below });
            definitions.insert(format!("d{n}"), json!({ word: [below, array] }));
        }
        json!({ "definitions": definitions, "$ref": format!("#/definitions/d{}", STEPS - 1) }).to_string()
    };
    for word in ["allOf", "anyOf", "oneOf"] {
        compare(Format::Json, doubling("integer", word), doubling("string", word));
    }
}

#[test]
fn wide_schemas_end() {
    const WIDTH: usize = 3_000;
    let fixed = |prefix: &str| {
        let branches: Vec<Value> =
            (0..WIDTH).map(|n| json!({ "type": "fixed", "name": format!("{prefix}{n}"), "size": 1 })).collect();
        Value::Array(branches).to_string()
    };
    compare(Format::Avro, fixed("A"), fixed("B"));
    let parts = |base: usize| {
        let parts: Vec<Value> = (0..WIDTH).map(|n| json!({ "type": "string", "minLength": n + base })).collect();
        json!({ "anyOf": parts }).to_string()
    };
    compare(Format::Json, parts(0), parts(1));
    let fields = |kind: &str| {
        let fields: String = (1..WIDTH).map(|n| format!("{kind} f{n} = {n};\n")).collect();
        format!("syntax = \"proto3\"; message M {{ {fields} }}")
    };
    compare(Format::Protobuf, fields("int32"), fields("string"));
    let groups: String = (1..WIDTH).map(|n| format!("optional group G{n} = {n} {{}}\n")).collect();
    let groups = format!("syntax = \"proto2\"; message M {{ {groups} }}");
    compare(Format::Protobuf, groups.clone(), groups);
}

#[test]
fn patterns_of_properties_are_bounded() {
    let object = |patterns: &[String], properties: usize, prefix: &str| {
        let patterns: serde_json::Map<String, Value> =
            patterns.iter().map(|pattern| (pattern.clone(), json!({ "type": "string" }))).collect();
        let name = "x".repeat(200);
        let properties: serde_json::Map<String, Value> =
            (0..properties).map(|n| (format!("{prefix}{n}{name}"), json!({ "type": "string" }))).collect();
        json!({ "type": "object", "patternProperties": patterns, "properties": properties }).to_string()
    };
    let large: Vec<String> = (0..100).map(|n| format!("^(a?.?x?){{{}}}y$", 500 + n)).collect();
    compare(Format::Json, object(&large, 2_000, "a"), object(&large, 2_000, "b"));
    let many: Vec<String> = (0..101).map(|n| format!("^{n}$")).collect();
    assert!(Schema::parse(Format::Json, &object(&many, 0, ""), &[], true).is_err(), "their number is bounded");
    assert!(Schema::parse(Format::Json, &object(&many[1..], 0, ""), &[], true).is_ok());
    let long = ["x".repeat(70_000)];
    assert!(Schema::parse(Format::Json, &object(&long, 0, ""), &[], true).is_err(), "their length is bounded");
}

#[test]
fn long_names_are_not_repeated_at_each_step() {
    const NAME: usize = 20_000;
    const DEPTH: usize = 40;
    let name = "n".repeat(NAME);
    let json = |kind: &str| {
        let properties: String = (0..400).map(|n| format!("\"p{n}\": {{\"type\": \"{kind}\"}},")).collect();
        let innermost = format!("{{\"properties\": {{{properties} \"z\": true}}}}");
        (0..DEPTH).fold(innermost, |inner, _| format!("{{\"properties\": {{\"{name}\": {inner}}}}}"))
    };
    compare(Format::Json, json("string"), json("integer"));
    let avro = |prefix: &str| {
        let fields: Vec<Value> =
            (0..30).map(|n| json!({ "name": format!("{prefix}{n}{name}"), "type": "int" })).collect();
        let innermost = json!({ "type": "record", "name": "R", "fields": fields });
        let wrap = |inner: Value, n| json!({ "type": "record", "name": format!("R{n}"), "fields": [{ "name": "f", "type": inner }] });
        (0..20).fold(innermost, wrap).to_string()
    };
    compare(Format::Avro, avro("a"), avro("b"));
    let protobuf = |kind: &str| {
        let fields: String = (1..400).map(|n| format!("{kind} f{n} = {n};")).collect();
        let nested = (0..20).fold(fields, |inner, _| format!("message {name} {{ {inner} }}"));
        format!("syntax = \"proto3\"; {nested}")
    };
    compare(Format::Protobuf, protobuf("int32"), protobuf("string"));
    let urls = (0..DEPTH).fold("{}".to_owned(), |inner, _| format!("{{\"$id\": \"a/{name}\", \"not\": {inner}}}"));
    assert!(Schema::parse(Format::Json, &urls, &[], true).is_err(), "URLs are bounded");
}

/// JSON that looks like schemas, more or less.
fn schema_like() -> impl Strategy<Value = Value> {
    let word = prop_oneof![
        Just("string"),
        Just("int"),
        Just("record"),
        Just("enum"),
        Just("array"),
        Just("object"),
        Just("integer"),
        Just("#"),
        Just("#/definitions/a"),
        Just("A"),
        Just("n.A"),
        Just(""),
        Just("null"),
        Just("fixed"),
        Just("map"),
    ];
    let leaf = prop_oneof![
        word.prop_map(|word| json!(word)),
        any::<bool>().prop_map(|value| json!(value)),
        (-3_i64..3).prop_map(|value| json!(value)),
        Just(json!(null)),
    ];
    let key = prop_oneof![
        Just("type"),
        Just("name"),
        Just("fields"),
        Just("items"),
        Just("values"),
        Just("symbols"),
        Just("size"),
        Just("default"),
        Just("aliases"),
        Just("namespace"),
        Just("properties"),
        Just("required"),
        Just("additionalProperties"),
        Just("definitions"),
        Just("$ref"),
        Just("$id"),
        Just("allOf"),
        Just("anyOf"),
        Just("oneOf"),
        Just("not"),
        Just("enum"),
        Just("minimum"),
        Just("patternProperties"),
        Just("a"),
        Just("dependencies"),
        Just("prefixItems"),
        Just("const"),
        Just("multipleOf"),
    ];
    leaf.prop_recursive(6, 64, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..5).prop_map(Value::Array),
            proptest::collection::vec((key.clone(), inner), 0..6).prop_map(|members| Value::Object(
                members.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
            )),
        ]
    })
}

/// Words of Protobuf in any order.
fn protobuf_like() -> impl Strategy<Value = String> {
    let word = prop_oneof![
        Just("message"),
        Just("M"),
        Just("{"),
        Just("}"),
        Just("int32"),
        Just("a"),
        Just("="),
        Just("1"),
        Just(";"),
        Just("enum"),
        Just("oneof"),
        Just("map<string, M>"),
        Just("syntax = \"proto3\";"),
        Just("repeated"),
        Just("option"),
        Just("("),
        Just(")"),
        Just("["),
        Just("]"),
        Just("import"),
        Just("\"x\""),
        Just("reserved"),
        Just("service"),
        Just("rpc"),
        Just("extend"),
        Just("group"),
        Just("-"),
        Just("/*"),
        Just("//"),
        Just("\n"),
        Just("'"),
        Just("\\"),
        Just("to max"),
        Just("."),
    ];
    proptest::collection::vec(word, 0..60).prop_map(|words| words.join(" "))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn what_looks_like_json_does_no_harm(one in schema_like(), two in schema_like()) {
        for format in [Format::Avro, Format::Json] {
            compare(format, one.to_string(), two.to_string());
        }
    }

    #[test]
    fn what_looks_like_protobuf_does_no_harm(one in protobuf_like(), two in protobuf_like()) {
        compare(Format::Protobuf, one, two);
    }

    #[test]
    fn bytes_do_no_harm(text in any::<String>()) {
        for format in Format::ALL {
            compare(format, text.clone(), text.clone());
        }
    }

    #[test]
    fn descriptors_in_base64_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::STANDARD.encode(bytes);
        compare(Format::Protobuf, text.clone(), text);
    }
}
