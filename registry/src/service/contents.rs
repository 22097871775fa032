//! From requests to contents that can be kept, and from contents to parsed schemas.

use std::collections::HashSet;
use std::sync::Arc;

use md5::{Digest as _, Md5};
use sha2::Sha256;
use tereza_catalog::store::schemas::{Content, Reference, Schema as StoredSchema, SubjectName};
use tereza_runtime::Error;

use super::Service;
use crate::formats::{Format, Referenced, Schema};
use crate::json::Json;
use crate::model::{ReferenceBody, SchemaRequest};
use crate::names;
use crate::refusal::{Answer, Refusal};

/// Characters of a schema that an error shows.
const SHOWN_CHARS: usize = 1_000;

/// A content with what it means.
#[derive(Debug, Clone)]
pub(super) struct Parsed {
    pub(super) content: Content,
    pub(super) schema: Arc<Schema>,
}

/// How a request's schema is to be read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    /// Whether it is new, and is checked more closely.
    pub(super) is_new: bool,
    /// Whether its normal form is kept.
    pub(super) normalize: bool,
}

impl Service {
    /// Reads the schema of a request for a subject.
    pub(super) async fn parse(&self, name: &SubjectName, request: &SchemaRequest, reading: Reading) -> Answer<Parsed> {
        let text = request.schema.as_deref().filter(|text| !text.trim().is_empty());
        let text = text.ok_or_else(|| Refusal::invalid_schema("Empty schema"))?.to_owned();
        if text.len() > self.settings().schema_bytes_max {
            return Err(Refusal::too_large());
        }
        let kind = request.schema_type.as_deref().filter(|kind| !kind.is_empty()).unwrap_or("AVRO").to_owned();
        let invalid = |details: &str| invalid(&text, &kind, request.references.as_deref(), details);
        let format = Format::of(&kind).ok_or_else(|| invalid(&format!("Invalid schema type {kind}")))?;
        let mut references = self.references(name, request.references.as_deref().unwrap_or_default(), reading).await?;
        let referenced = self.referenced(&references).await?;
        let source = text.clone();
        let parsed = self.work(move || {
            let schema = Schema::parse(format, &source, &referenced, reading.is_new)?;
            let text = match reading.normalize {
                true => schema.checked_normalized(&referenced)?,
                false => schema.canonical(),
            };
            Ok::<_, crate::formats::Invalid>((schema, text))
        });
        let (schema, canonical) = parsed.await?.map_err(|error| invalid(&error.to_string()))?;
        if reading.normalize {
            references.sort_by(|one, two| (&one.name, &one.subject_text).cmp(&(&two.name, &two.subject_text)));
            references.dedup();
        }
        let json = |json: Option<&Json>| json.filter(|json| **json != Json::Null).map(|json| json.sorted().to_string());
        let content =
            content(format, canonical, references, json(request.metadata.as_ref()), json(request.rule_set.as_ref()));
        Ok(Parsed { content, schema: Arc::new(schema) })
    }

    /// Parses a schema out of the store.
    pub(super) async fn parse_stored(&self, stored: &StoredSchema) -> Answer<Schema> {
        let content = &stored.content;
        let format = Format::of(&content.kind)
            .ok_or_else(|| Error::internal(format!("a schema in the store is of the unknown type {}", content.kind)))?;
        let referenced = self.referenced(&content.references).await?;
        let text = content.text.clone();
        let parsed = self.work(move || Schema::parse(format, &text, &referenced, false)).await?;
        parsed.map_err(|error| Refusal::invalid_schema(format!("Invalid schema with id {}: {error}", stored.id)))
    }

    /// Finds the versions that references name. Something new may not refer to what is deleted.
    async fn references(
        &self,
        name: &SubjectName,
        given: &[ReferenceBody],
        reading: Reading,
    ) -> Answer<Vec<Reference>> {
        let mut references = Vec::with_capacity(given.len());
        if given.len() > self.settings().references_max {
            let max = self.settings().references_max;
            return Err(Refusal::invalid_schema(format!("a schema may have {max} references")));
        }
        for reference in given {
            let subject = names::parse(&reference.subject, &name.context);
            let version = (reference.version >= 1).then_some(reference.version);
            let found = self.store().subject_version(&subject, version).await?;
            let found = found.filter(|found| !(found.deleted && reading.is_new));
            let found = found.ok_or_else(|| {
                Refusal::invalid_schema(format!(
                    "No schema reference found for subject \"{}\" and version {}",
                    reference.subject, reference.version
                ))
            })?;
            references.push(Reference {
                name: reference.name.clone(),
                subject_text: reference.subject.clone(),
                subject,
                version: found.version,
            });
        }
        Ok(references)
    }

    /// All that references lead to, what is referred to before what refers to it. Of two schemas under one name the one
    /// that is found first counts.
    async fn referenced(&self, references: &[Reference]) -> Answer<Vec<Referenced>> {
        /// A reference to be looked at, or one whose own references have been.
        enum Step {
            Enter(Reference),
            Leave(Referenced),
        }
        let mut found = Vec::new();
        let bytes_max = self.settings().references_bytes_max;
        let mut bytes_left = bytes_max;
        let mut seen = HashSet::new();
        let mut steps: Vec<Step> = references.iter().rev().cloned().map(Step::Enter).collect();
        while let Some(step) = steps.pop() {
            let reference = match step {
                Step::Enter(reference) => reference,
                Step::Leave(referenced) => {
                    found.push(referenced);
                    continue;
                }
            };
            if !seen.insert(reference.name.clone()) {
                continue;
            }
            if seen.len() > self.settings().references_max {
                let max = self.settings().references_max;
                return Err(Refusal::invalid_schema(format!(
                    "a schema may have {max} references, those of references included"
                )));
            }
            let version = self.store().subject_version(&reference.subject, Some(reference.version)).await?;
            let missing = || {
                Refusal::invalid_schema(format!(
                    "No schema reference found for subject \"{}\" and version {}",
                    reference.subject_text, reference.version
                ))
            };
            let version = version.ok_or_else(missing)?;
            let schema = self.schema(&reference.subject.context, version.id).await?.ok_or_else(missing)?;
            bytes_left = bytes_left.checked_sub(schema.content.text.len()).ok_or_else(|| {
                Refusal::invalid_schema(format!("what a schema refers to may have {bytes_max} bytes"))
            })?;
            steps.push(Step::Leave(Referenced {
                name: reference.name.clone(),
                place: (names::render(&reference.subject), reference.version),
                text: schema.content.text.clone(),
            }));
            steps.extend(schema.content.references.iter().rev().cloned().map(Step::Enter));
        }
        Ok(found)
    }
}

/// A content with its hash and its UUID.
pub(super) fn content(
    format: Format,
    text: String,
    references: Vec<Reference>,
    metadata: Option<String>,
    rule_set: Option<String>,
) -> Content {
    let kind = format.name().to_owned();
    let mut hash = Sha256::new();
    let mut guid = Md5::new();
    guid.update(&text);
    // Each part with its length, so that no two contents have the same bytes.
    let mut add = |part: &[u8]| {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    };
    add(kind.as_bytes());
    add(text.as_bytes());
    for Reference { name, subject_text, subject, version } in &references {
        add(name.as_bytes());
        add(subject.context.as_bytes());
        add(subject.subject.as_bytes());
        add(&version.to_be_bytes());
        guid.update(name);
        guid.update(subject_text);
        guid.update(version.to_be_bytes());
    }
    for part in [&metadata, &rule_set] {
        add(&[u8::from(part.is_some())]);
        add(part.as_deref().unwrap_or_default().as_bytes());
        guid.update(part.as_deref().unwrap_or_default());
    }
    let hash = hex(&hash.finalize());
    let guid = hex(&guid.finalize());
    let guid = [&guid[..8], &guid[8..12], &guid[12..16], &guid[16..20], &guid[20..]].join("-");
    Content { kind, text, references, metadata, rule_set, hash, guid }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn invalid(text: &str, kind: &str, references: Option<&[ReferenceBody]>, details: &str) -> Refusal {
    let mut shown: String = text.chars().take(SHOWN_CHARS).collect();
    if shown.len() < text.len() {
        shown.push_str("...");
    }
    let references = references.unwrap_or_default().iter().map(|reference| {
        format!("{{name='{}', subject='{}', version={}}}", reference.name, reference.subject, reference.version)
    });
    let references = references.collect::<Vec<_>>().join(", ");
    Refusal::invalid_schema(format!(
        "Invalid schema {shown} with refs [{references}] of type {kind}, details: {details}"
    ))
}
