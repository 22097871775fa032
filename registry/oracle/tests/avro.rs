//! The checker of Avro against another one, that of the `apache-avro` crate, on the vectors: where the two disagree on purpose
//! it is said why.

use apache_avro::Schema;
use apache_avro::schema_compatibility::{Compatibility, SchemaCompatibility};
use serde::Deserialize;
use serde_json::Value;

/// One pair of schemas, as `registry/tests/it/vectors.rs` describes them.
#[derive(Deserialize)]
struct Case {
    reason: String,
    old: Value,
    new: Value,
    backward: bool,
    forward: bool,
}

/// Whether data of `writer` is always read: what is read for some values only is not.
fn is_readable(writer: &Schema, reader: &Schema) -> bool {
    matches!(SchemaCompatibility::can_read(writer, reader), Ok(Compatibility::Full))
}

/// Parts of the reasons of cases in which the crate answers something else than Java, and why.
const DIFFERENCES: &[(&str, &str)] = &[
    ("a record is renamed with an alias", "the crate does not look at aliases of types"),
    ("an enum is renamed with an alias", "the crate does not look at aliases of types"),
    ("a fixed is renamed with an alias", "the crate does not look at aliases of types"),
    ("a decimal has another scale", "the crate compares decimals, Java what they are made of"),
    ("a decimal has another precision", "the crate compares decimals, Java what they are made of"),
    ("a decimal of a fixed has another size", "the crate compares decimals, Java what they are made of"),
];

#[test]
fn another_checker_of_avro_agrees() {
    assert!(DIFFERENCES.iter().all(|(_, why)| !why.is_empty()));
    let mut wrong = Vec::new();
    let mut compared = 0;
    let cases: Vec<Case> = serde_json::from_str(include_str!("../../tests/it/vectors/avro.json")).expect("cases");
    for Case { reason, old, new, backward, forward } in cases {
        let parse = |schema: &Value| Schema::parse(schema);
        // The crate reads less than Java does; what it cannot read is not compared.
        let (Ok(old), Ok(new)) = (parse(&old), parse(&new)) else { continue };
        compared += 1;
        let found = (is_readable(&old, &new), is_readable(&new, &old));
        let is_excused = DIFFERENCES.iter().any(|(part, _)| reason.contains(part));
        if (found == (backward, forward)) == is_excused {
            wrong.push(format!("(\"{reason}\", \"\"), // {found:?} instead of {:?}", (backward, forward)));
        }
    }
    assert!(compared > 100, "{compared}");
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
