//! Joins the layers: each value is looked up in the tree of known keys, brought to the type of its default, and put
//! over what the layer before said.

use std::collections::BTreeMap;
use std::path::Path;

use toml::de::DeTable;
use toml::{Table, Value};

use super::{FILE_NAME, MASK, Settings, Sources, without_passwords};
use crate::{Error, Result};

/// What begins the name of an environment variable that is a setting, and what stands between its parts.
const ENV_PREFIX: &str = "TEREZA__";
const ENV_SEPARATOR: &str = "__";

/// Below it a busy machine would take the living for dead.
const LEASE_MS_MIN: u64 = 1_000;

/// Whole numbers that may be 0, each with a meaning that its documentation tells; all others are at least 1.
const ZERO_ALLOWED: &[&str] = &[
    "listen.flight_sql",
    "listen.metastore",
    "listen.registry",
    "listen.console",
    "listen.scheduler",
    "listen.executor_flight",
    "listen.executor_tasks",
    "s3.retries_max",
    "engine.memory_limit_bytes",
    "engine.spill_limit_bytes",
    "engine.target_partitions",
    "engine.footer_cache_bytes",
    "cluster.executors",
    "cluster.task_slots",
    "cluster.result_buffer_bytes",
    "cluster.scan_bytes_min",
    "jobs.running_max",
    "shutdown.drain_timeout_ms",
];

pub(super) fn load(sources: &Sources) -> Result<Settings> {
    let mut layers = Layers::new()?;
    match (&sources.file, &sources.folder) {
        (Some(file), _) => layers.file(file)?,
        (None, Some(folder)) if folder.join(FILE_NAME).exists() => layers.file(&folder.join(FILE_NAME))?,
        (None, _) => {}
    }
    for (name, value) in &sources.env {
        let Some(name) = name.to_str().filter(|name| name.starts_with(ENV_PREFIX)) else { continue };
        let from = format!("environment variable {name}");
        let Some(value) = value.to_str() else { return Err(Error::invalid_input(format!("{from}: expected UTF-8"))) };
        let path = name[ENV_PREFIX.len()..].split(ENV_SEPARATOR).map(str::to_lowercase).collect();
        layers.text(path, value, from)?;
    }
    for assignment in &sources.set {
        let Some((key, value)) = split_assignment(assignment) else {
            return Err(Error::invalid_input("--set: expected section.key=value, as in --set log.format=json"));
        };
        layers.text(key, value, "--set".into())?;
    }
    for flag in &sources.flags {
        layers.text(flag.key.split('.').map(str::to_owned).collect(), &flag.value, flag.name.into())?;
    }
    layers.finish()
}

/// The keys that exist.
#[derive(Clone)]
enum Known {
    /// Keys below this one.
    Section(BTreeMap<String, Known>),
    /// Any name, and below each the same.
    Named(Box<Known>),
    /// A setting with its default, which tells its type.
    Setting(Value),
}

/// A path that leads nowhere: how much of it, from the front, names the key that is not known.
struct Unknown {
    depth: usize,
    nearest: String,
}

impl Known {
    /// The tree of every key, read from the defaults so that a new field is known by itself.
    fn tree() -> Result<Self> {
        let defaults = Table::try_from(Settings::default())
            .map_err(|error| Error::internal("the default settings are not a TOML table").with_source(error))?;
        let mut tree = Self::of(Value::Table(defaults));
        if let Self::Section(sections) = &mut tree {
            let mut connection = sections.get("s3").cloned();
            if let Some(Self::Section(keys)) = &mut connection {
                keys.remove("buckets");
            }
            if let (Some(Self::Section(s3)), Some(connection)) = (sections.get_mut("s3"), connection) {
                s3.insert("buckets".into(), Self::Named(Box::new(connection)));
            }
            if let Some(Self::Section(gateway)) = sections.get_mut("gateway") {
                let password = Self::Setting(Value::String(String::new()));
                gateway.insert("users".into(), Self::Named(Box::new(password)));
            }
        }
        Ok(tree)
    }

    fn of(value: Value) -> Self {
        match value {
            Value::Table(table) => {
                Self::Section(table.into_iter().map(|(key, value)| (key, Self::of(value))).collect())
            }
            default => Self::Setting(default),
        }
    }

    fn find(&self, path: &[String]) -> Result<&Self, Unknown> {
        let mut at = self;
        for (depth, key) in path.iter().enumerate() {
            let below = match at {
                Self::Section(keys) => keys.get(key),
                Self::Named(below) => Some(below.as_ref()),
                Self::Setting(_) => None,
            };
            at = below.ok_or_else(|| Unknown { depth: depth + 1, nearest: self.nearest(at, &path[..=depth]) })?;
        }
        Ok(at)
    }

    /// The known key that looks most like `path`, which leads out of `parent`.
    fn nearest(&self, parent: &Self, path: &[String]) -> String {
        let mut candidates = Vec::new();
        self.names("", &mut candidates);
        // The neighbours again: below a name of the user's own, the tree's paths do not hold that name.
        if let Self::Section(keys) = parent {
            let above = join(&path[..path.len() - 1]);
            candidates
                .extend(keys.keys().map(|key| if above.is_empty() { key.clone() } else { format!("{above}.{key}") }));
        }
        let wanted = join(path);
        let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
        let likeness = |name: &str| {
            let whole = strsim::normalized_damerau_levenshtein(name, &wanted);
            whole.max(strsim::normalized_damerau_levenshtein(&last(name), &last(&wanted)) * 0.9)
        };
        candidates.into_iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b))).unwrap_or_default()
    }

    fn names(&self, prefix: &str, out: &mut Vec<String>) {
        let Self::Section(keys) = self else { return };
        for (key, below) in keys {
            let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
            below.names(&name, out);
            out.push(name);
        }
    }
}

/// What has been said so far.
struct Layers {
    known: Known,
    merged: Table,
    /// Which layer said a key last.
    origin: BTreeMap<String, String>,
}

impl Layers {
    fn new() -> Result<Self> {
        Ok(Self { known: Known::tree()?, merged: Table::new(), origin: BTreeMap::new() })
    }

    fn file(&mut self, path: &Path) -> Result<()> {
        let name = format!("file {}", path.display());
        let text = std::fs::read_to_string(path)
            .map_err(|error| Error::invalid_input(format!("{name} cannot be read: {error}")).with_source(error))?;
        let line_of =
            |offset: usize| text.as_bytes()[..offset.min(text.len())].iter().filter(|b| **b == b'\n').count() + 1;
        let values = text.parse::<Table>().map_err(|error| {
            let line = error.span().map_or(1, |span| line_of(span.start));
            Error::invalid_input(format!("{name}, line {line}: {}", error.message().to_lowercase()))
        })?;
        let keys = DeTable::parse(&text)
            .map_err(|error| Error::internal("the settings file was read once and not again").with_source(error))?;
        let mut assignments = Vec::new();
        self.flatten(
            keys.get_ref(),
            values,
            &mut Vec::new(),
            &|offset| format!("{name}, line {}", line_of(offset)),
            &mut assignments,
        )?;
        assignments.into_iter().try_for_each(|(path, value, from)| self.assign(path, value, from))
    }

    /// Collects the settings of a file with the place of each; sections are checked on the way, also empty ones.
    fn flatten(
        &self,
        keys: &DeTable<'_>,
        values: Table,
        path: &mut Vec<String>,
        place: &dyn Fn(usize) -> String,
        out: &mut Vec<(Vec<String>, Value, String)>,
    ) -> Result<()> {
        let offsets: BTreeMap<&str, usize> =
            keys.keys().map(|key| (key.get_ref().as_ref(), key.span().start)).collect();
        for (key, value) in values {
            let from = place(offsets.get(key.as_str()).copied().unwrap_or_default());
            path.push(key.clone());
            let known = self.known.find(path).map_err(|unknown| unknown_key(path, &unknown, &from))?;
            match (known, value) {
                (Known::Setting(_), value) => out.push((path.clone(), value, from)),
                (_, Value::Table(values)) => {
                    let below = keys.get(key.as_str()).and_then(|below| below.get_ref().as_table());
                    self.flatten(below.unwrap_or(&DeTable::new()), values, path, place, out)?;
                }
                (_, _) => return Err(section_not_value(path, &from)),
            }
            path.pop();
        }
        Ok(())
    }

    /// A value that is text in its layer, whatever its type.
    fn text(&mut self, path: Vec<String>, text: &str, from: String) -> Result<()> {
        let Known::Setting(default) = self.known.find(&path).map_err(|unknown| unknown_key(&path, &unknown, &from))?
        else {
            return Err(section_not_value(&path, &from));
        };
        let parsed = match default {
            Value::Boolean(_) => text.parse().ok().map(Value::Boolean),
            Value::Float(_) => text.parse().ok().map(Value::Float),
            Value::Integer(_) => text.parse().ok().map(Value::Integer),
            _ => None,
        };
        self.assign(path, parsed.unwrap_or_else(|| Value::String(text.to_owned())), from)
    }

    fn assign(&mut self, path: Vec<String>, value: Value, from: String) -> Result<()> {
        let key = join(&path);
        let Known::Setting(default) = self.known.find(&path).map_err(|unknown| unknown_key(&path, &unknown, &from))?
        else {
            return Err(section_not_value(&path, &from));
        };
        let bad = |expected: &str| bad_value(&path, &shown(&value), expected, &from);
        let is_bytes = key.ends_with("_bytes");
        let value = match (default, &value) {
            (Value::Integer(_), Value::String(text)) if is_bytes => {
                let bytes = size_bytes(text).and_then(|bytes| i64::try_from(bytes).ok());
                Value::Integer(bytes.ok_or_else(|| bad(r#"bytes, as in 1048576, "512MB" or "2GiB""#))?)
            }
            (Value::Float(_), Value::Integer(whole)) => Value::Float(*whole as f64),
            (Value::Integer(_), Value::Integer(_))
            | (Value::Float(_), Value::Float(_))
            | (Value::Boolean(_), Value::Boolean(_))
            | (Value::String(_), Value::String(_)) => value.clone(),
            (Value::Integer(_), _) => return Err(bad("a whole number")),
            (Value::Float(_), _) => return Err(bad("a number")),
            (Value::Boolean(_), _) => return Err(bad("true or false")),
            (_, _) => return Err(bad("text")),
        };
        if let Value::Integer(number) = value
            && number < i64::from(!ZERO_ALLOWED.contains(&without_bucket(&path).as_str()))
        {
            return Err(bad(if number == 0 { "at least 1" } else { "no negative number" }));
        }
        put(&mut self.merged, &path, value.clone());
        // Whatever the type of the field refuses (a port past 65535, a word that is no choice), this value is to blame.
        if let Err(error) = self.settings() {
            return Err(bad_value(&path, &shown(&value), &readable(error.message()), &from));
        }
        self.origin.insert(key, from);
        Ok(())
    }

    fn settings(&self) -> Result<Settings, toml::de::Error> {
        let mut table = self.merged.clone();
        if let Some(Value::Table(s3)) = table.get_mut("s3") {
            inherit(s3);
        }
        table.try_into()
    }

    /// Checks what concerns more than the type of one value.
    fn finish(self) -> Result<Settings> {
        let settings =
            self.settings().map_err(|error| Error::internal("settings were checked one by one").with_source(error))?;
        let bad = |key: &str, value: &str, expected: &str| {
            let path: Vec<String> = key.split('.').map(str::to_owned).collect();
            let from = self.origin.get(key).map_or("defaults", String::as_str);
            Err(bad_value(&path, value, expected, from))
        };
        let fraction = settings.engine.memory_fraction;
        if !(fraction > 0.0 && fraction <= 1.0) {
            return bad("engine.memory_fraction", &fraction.to_string(), "more than 0 and at most 1");
        }
        let url = &settings.catalog.url;
        if !url.is_empty()
            && !["sqlite:", "mysql://", "mariadb://", "thrift://"].iter().any(|scheme| url.starts_with(scheme))
        {
            let expected = "sqlite:<path>, mysql://user:password@host:port/database, or thrift://host:port";
            return bad("catalog.url", &quoted(&without_passwords(url)), expected);
        }
        if settings.catalog.lease_ms < LEASE_MS_MIN {
            let expected = format!("at least {LEASE_MS_MIN}");
            return bad("catalog.lease_ms", &settings.catalog.lease_ms.to_string(), &expected);
        }
        if let Err(error) = crate::telemetry::parse_filter(&settings.log.filter) {
            return bad(
                "log.filter",
                &quoted(&settings.log.filter),
                &format!("levels, as in info or warn,tereza_engine=debug ({error})"),
            );
        }
        let (gateway, metastore) = (&settings.gateway, &settings.metastore);
        for (section, cert, key) in
            [("gateway", &gateway.tls_cert, &gateway.tls_key), ("metastore", &metastore.tls_cert, &metastore.tls_key)]
        {
            if cert.as_os_str().is_empty() != key.as_os_str().is_empty() {
                let (missing, given) =
                    if key.as_os_str().is_empty() { ("tls_key", "tls_cert") } else { ("tls_cert", "tls_key") };
                return bad(&format!("{section}.{missing}"), "\"\"", &format!("a path, as {section}.{given} is set"));
            }
        }
        let connections =
            settings.s3.buckets.iter().map(|(name, connection)| (format!("s3.buckets.{name}"), connection));
        for (section, s3) in connections.chain([("s3".to_owned(), &settings.s3.defaults)]) {
            let endpoint = &s3.endpoint;
            let is_http = endpoint.starts_with("http://");
            if is_http && !s3.allow_http {
                return bad(
                    &format!("{section}.endpoint"),
                    &quoted(endpoint),
                    &format!("https://, or {section}.allow_http = true"),
                );
            }
            if !endpoint.is_empty() && !is_http && !endpoint.starts_with("https://") {
                return bad(&format!("{section}.endpoint"), &quoted(endpoint), "http://host:port or https://host:port");
            }
            if s3.access_key.is_empty() != s3.secret_key.is_empty() {
                let missing = if s3.access_key.is_empty() { "access_key" } else { "secret_key" };
                return bad(&format!("{section}.{missing}"), "\"\"", "access_key and secret_key, or neither");
            }
        }
        Ok(settings)
    }
}

/// Bytes of a text such as `1048576`, `512MB` (10^6) or `2GiB` (2^30); `None` if it is none.
pub fn size_bytes(text: &str) -> Option<u64> {
    const UNITS: &[(&str, u64)] = &[
        ("kib", 1 << 10),
        ("mib", 1 << 20),
        ("gib", 1 << 30),
        ("tib", 1 << 40),
        ("kb", 1_000),
        ("mb", 1_000_000),
        ("gb", 1_000_000_000),
        ("tb", 1_000_000_000_000),
        ("b", 1),
        ("", 1),
    ];
    let text = text.trim().to_ascii_lowercase();
    let digits_end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, unit) = text.split_at(digits_end);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit.trim_start())?;
    digits.parse::<u64>().ok()?.checked_mul(*factor)
}

/// Puts under each bucket what the section `s3` says and the bucket does not.
fn inherit(s3: &mut Table) {
    let defaults: Vec<(String, Value)> =
        s3.iter().filter(|(key, _)| *key != "buckets").map(|(key, value)| (key.clone(), value.clone())).collect();
    let Some(Value::Table(buckets)) = s3.get_mut("buckets") else { return };
    for (_, bucket) in buckets {
        let Value::Table(bucket) = bucket else { continue };
        for (key, value) in &defaults {
            bucket.entry(key.as_str()).or_insert_with(|| value.clone());
        }
    }
}

fn put(table: &mut Table, path: &[String], value: Value) {
    let Some((key, below)) = path.split_first() else { return };
    if below.is_empty() {
        table.insert(key.clone(), value);
    } else if let Value::Table(section) = table.entry(key.as_str()).or_insert_with(|| Value::Table(Table::new())) {
        put(section, below, value);
    }
}

/// Splits `section.key=value`; a part of the key may be quoted as in TOML (`s3.buckets."a.b".region=x`).
fn split_assignment(text: &str) -> Option<(Vec<String>, &str)> {
    let mut path = vec![String::new()];
    let mut quoted = false;
    for (at, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '.' if !quoted => path.push(String::new()),
            '=' if !quoted => return path.iter().all(|part| !part.is_empty()).then(|| (path, &text[at + 1..])),
            c => path.last_mut()?.push(c),
        }
    }
    None
}

fn unknown_key(path: &[String], unknown: &Unknown, from: &str) -> Error {
    let key = join(&path[..unknown.depth]);
    Error::invalid_input(format!("{from}: unknown setting '{key}'"))
        .with_hint(format!("did you mean '{}'?", unknown.nearest))
}

fn section_not_value(path: &[String], from: &str) -> Error {
    let key = join(path);
    Error::invalid_input(format!("{from}: '{key}' is a section, not a setting")).with_hint(format!("set {key}.<key>"))
}

fn bad_value(path: &[String], value: &str, expected: &str, from: &str) -> Error {
    let key = join(path);
    let value = if is_secret(path) { MASK.to_owned() } else { without_passwords(value) };
    Error::invalid_input(format!("{from}: {key} = {value}: expected {expected}"))
}

/// Whether the value of this key must not be printed; a test compares this with the fields of type `Secret`.
pub(super) fn is_secret(path: &[String]) -> bool {
    let parts: Vec<&str> = path.iter().map(String::as_str).collect();
    matches!(parts[..], ["gateway", "users", ..] | [.., "access_key" | "secret_key" | "session_token"])
}

/// What was expected, out of serde's words.
fn readable(message: &str) -> String {
    let expected = message.rsplit_once("expected ").map_or(message, |(_, expected)| expected);
    match expected {
        "u16" => "a whole number up to 65535".into(),
        "u32" => "a whole number up to 4294967295".into(),
        "invalid IP address syntax" => "an IP address, as in 127.0.0.1".into(),
        other => other.to_owned(),
    }
}

fn without_bucket(path: &[String]) -> String {
    match path {
        [s3, buckets, _, key] if s3 == "s3" && buckets == "buckets" => format!("s3.{key}"),
        path => join(path),
    }
}

fn join(path: &[String]) -> String {
    let part = |part: &String| if part.contains('.') { format!("\"{part}\"") } else { part.clone() };
    path.iter().map(part).collect::<Vec<_>>().join(".")
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        other => other.to_string(),
    }
}

/// The path of every setting, with `name` where any name may stand.
#[cfg(test)]
pub(super) fn every_path() -> Vec<Vec<String>> {
    fn walk(known: &Known, path: &mut Vec<String>, out: &mut Vec<Vec<String>>) {
        match known {
            Known::Section(keys) => {
                for (key, below) in keys {
                    path.push(key.clone());
                    walk(below, path, out);
                    path.pop();
                }
            }
            Known::Named(below) => {
                path.push("name".into());
                walk(below, path, out);
                path.pop();
            }
            Known::Setting(_) => out.push(path.clone()),
        }
    }
    let mut out = Vec::new();
    walk(&Known::tree().unwrap(), &mut Vec::new(), &mut out);
    out
}
