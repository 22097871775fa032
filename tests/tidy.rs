//! What a machine can check of the invariants in ARCHITECTURE.md: who may depend on whom, one version of what is shared,
//! sizes of files, and traces that work in progress leaves behind. Nothing is built or run for it, except Cargo and Git to
//! ask what there is.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use toml::{Table, Value};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Which crates of the workspace each may name. The five siblings above `engine` never see each other.
const MAY_USE: &[(&str, &[&str])] = &[
    ("tereza-runtime", &[]),
    ("tereza-thrift", &["tereza-runtime"]),
    ("tereza-catalog", &["tereza-runtime", "tereza-thrift"]),
    ("tereza-registry", &["tereza-catalog", "tereza-runtime"]),
    ("tereza-engine", &["tereza-catalog", "tereza-runtime"]),
    ("tereza-gateway", &["tereza-engine", "tereza-runtime"]),
    ("tereza-scheduler", &["tereza-engine", "tereza-runtime"]),
    ("tereza-executor", &["tereza-engine", "tereza-runtime"]),
    ("tereza-streaming", &["tereza-engine", "tereza-runtime"]),
    (
        "tereza",
        &[
            "tereza-catalog",
            "tereza-engine",
            "tereza-executor",
            "tereza-gateway",
            "tereza-registry",
            "tereza-runtime",
            "tereza-scheduler",
            "tereza-streaming",
            "tereza-thrift",
        ],
    ),
];

/// What must never be below these crates, directly or through others.
const NEVER_BELOW: &[(&str, &[&str])] = &[
    ("tereza-runtime", &["datafusion", "datafusion-common", "arrow", "arrow-array", "object_store", "tonic", "sqlx"]),
    ("tereza-thrift", &["datafusion", "datafusion-common", "arrow", "arrow-array", "object_store", "tonic", "sqlx"]),
    (
        "tereza-catalog",
        &["datafusion", "datafusion-common", "datafusion-expr", "arrow", "arrow-array", "ballista-core"],
    ),
    (
        "tereza-registry",
        &["datafusion", "datafusion-common", "datafusion-expr", "arrow", "arrow-array", "ballista-core", "tonic"],
    ),
    ("tereza-engine", &["ballista-core", "arrow-flight", "tonic"]),
];

/// Crates whose types cross our interfaces, so that a second version would be a second, incompatible type.
const ONE_VERSION: &[&str] =
    &["arrow", "arrow-array", "arrow-flight", "parquet", "datafusion", "object_store", "tonic"];

const CODE_LINES_MAX: usize = 700;
const MAIN_LINES_MAX: usize = 60;
/// Files that may be longer, each with its reason.
const LONG_FILES: &[(&str, &str)] = &[];

/// Dependencies that no source file names, each with its reason.
const UNNAMED_DEPENDENCIES: &[(&str, &str)] = &[
    ("getrandom02", "switches on a feature that test-only crates ask for"),
    ("half", "switches on a feature that test-only crates ask for"),
    ("md5", "switches on a feature that test-only crates ask for"),
];

#[test]
fn crates_name_only_those_below_them() {
    for (package, manifest) in manifests() {
        let (_, allowed) =
            MAY_USE.iter().find(|(name, _)| *name == package).unwrap_or_else(|| panic!("{package} has no room"));
        for (dependency, _) in dependencies(&manifest) {
            let is_ours = dependency == "tereza" || dependency.starts_with("tereza-");
            assert!(!is_ours || allowed.contains(&dependency.as_str()), "{package} must not use {dependency}");
        }
    }
}

#[test]
fn heavy_crates_stay_out_of_the_lower_rooms() {
    let lock = Lock::read();
    for (package, forbidden) in NEVER_BELOW {
        let below = lock.below(package);
        for name in *forbidden {
            assert!(!below.contains(*name), "{package} must not depend on {name}, not even through others");
        }
    }
}

#[test]
fn the_gateway_knows_no_planner() {
    let manifest = read_table("gateway/Cargo.toml");
    for (dependency, _) in dependencies(&manifest) {
        assert!(!dependency.starts_with("datafusion"), "the gateway must not use {dependency}");
    }
    for (path, text) in sources().into_iter().filter(|(path, _)| path.starts_with("gateway/")) {
        let code = code_lines(&text).find(|line| line.contains("datafusion"));
        assert!(code.is_none(), "{path} must not use DataFusion: {code:?}");
    }
}

#[test]
fn what_crosses_interfaces_has_one_version() {
    let lock = Lock::read();
    for name in ONE_VERSION {
        assert_eq!(lock.versions(name).len(), 1, "{name}: {:?}", lock.versions(name));
    }
    let prost = lock.versions("prost");
    let (old, new): (Vec<_>, Vec<_>) = prost.iter().partition(|version| version.starts_with("0.13."));
    assert_eq!(new.len(), 1, "prost: {prost:?}");
    for version in old {
        assert_eq!(lock.users_of("prost", version), ["orc-rust"], "prost {version} is there for the ORC reader alone");
    }
}

#[test]
fn dependencies_are_declared_once_and_used() {
    let declared = read_table("Cargo.toml")["workspace"]["dependencies"].as_table().unwrap().clone();
    let mut used = BTreeSet::new();
    for (package, manifest) in manifests() {
        for (name, value) in dependencies(&manifest) {
            let keys: Vec<&str> =
                value.as_table().map(|table| table.keys().map(String::as_str).collect()).unwrap_or_default();
            assert_eq!(keys, ["workspace"], "{package}: {name} must be `{name}.workspace = true`");
            used.insert(name);
        }
    }
    let left: Vec<&String> = declared.keys().filter(|name| !used.contains(*name)).collect();
    assert!(left.is_empty(), "no crate uses {left:?}: remove them from [workspace.dependencies]");
}

#[test]
fn dependencies_are_named_in_the_code() {
    let mut sources = sources();
    // The texts of this file name crates that it only talks about.
    if let Some(own) = sources.get_mut("tests/tidy.rs") {
        *own = own.lines().filter(|line| !line.contains('"')).collect::<Vec<_>>().join("\n");
    }
    let mut unused = Vec::new();
    for (package, manifest) in manifests() {
        let folders: &[&str] = match package.strip_prefix("tereza-") {
            Some(room) => &[&format!("{room}/")],
            None => &["src/", "tests/", "benches/", "build.rs"],
        };
        let own = || sources.iter().filter(|(path, _)| folders.iter().any(|folder| path.starts_with(folder)));
        for (name, _) in dependencies(&manifest) {
            let ident = name.replace('-', "_");
            let is_named = own().any(|(_, text)| code_lines(text).any(|line| has_word(line, &ident)));
            if !is_named && !UNNAMED_DEPENDENCIES.iter().any(|(excused, _)| *excused == name) {
                unused.push(format!("{package}: {name}"));
            }
        }
    }
    assert!(unused.is_empty(), "no code of the crate uses these: remove them: {unused:#?}");
}

#[test]
fn every_crate_keeps_the_workspace_lints_and_opens_with_its_purpose() {
    for (package, manifest) in manifests() {
        let inherits = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(Value::as_bool);
        assert_eq!(inherits, Some(true), "{package}: [lints] workspace = true is missing");
    }
    for (path, text) in sources() {
        let is_root = path.ends_with("/lib.rs") || path.ends_with("main.rs");
        assert!(!is_root || text.starts_with("//! "), "{path} must open with what it is");
    }
}

#[test]
fn files_are_short() {
    for (path, text) in sources() {
        let lines = code_lines(&text).count();
        let is_listed = LONG_FILES.iter().any(|(listed, _)| *listed == path);
        assert!(lines <= CODE_LINES_MAX || is_listed, "{path} has {lines} lines of code, more than {CODE_LINES_MAX}");
        assert!(lines > CODE_LINES_MAX || !is_listed, "{path} is short again: take it off the list");
        if path == "src/main.rs" {
            assert!(text.lines().count() <= MAIN_LINES_MAX, "{path} has more than {MAIN_LINES_MAX} lines");
        }
    }
    for (listed, reason) in LONG_FILES {
        assert!(Path::new(ROOT).join(listed).exists() && !reason.is_empty(), "{listed} is listed and not there");
    }
}

#[test]
fn what_is_left_to_do_has_an_issue() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X")];
    for (path, text) in text_files() {
        for (number, line) in text.lines().enumerate() {
            let mark = marks.iter().find(|mark| has_word(line, mark));
            let has_issue = mark.is_none_or(|mark| line.contains(&format!("{mark}(#")));
            assert!(has_issue, "{path}:{}: say the number of its issue, as in {}(#12)", number + 1, marks[0]);
        }
    }
}

#[test]
fn no_file_names_a_folder_of_one_machine() {
    let folders = [concat!("/ho", "me/"), concat!("/ro", "ot/"), concat!("/wo", "rk/"), concat!("/Us", "ers/")];
    for (path, text) in text_files() {
        for (number, line) in text.lines().enumerate() {
            let found = folders.iter().find(|folder| line.contains(**folder));
            assert!(found.is_none(), "{path}:{}: {} is on one machine only", number + 1, found.unwrap());
        }
    }
}

#[test]
fn every_test_file_is_run() {
    let sources = sources();
    let main = &sources["tests/main.rs"];
    let tests: Vec<&String> = sources.keys().filter(|path| path.starts_with("tests/")).collect();
    for path in tests {
        let rest = path.trim_start_matches("tests/");
        let module = rest.split('/').next().unwrap_or(rest).trim_end_matches(".rs");
        let declaration = format!("mod {module};");
        assert!(
            module == "main" || main.contains(&declaration),
            "{path} is not run: tests/main.rs lacks `{declaration}`"
        );
    }
    let statements: Vec<String> = text_files().into_keys().filter(|path| path.ends_with(".slt")).collect();
    let runs_them = |(path, text): (&String, &String)| {
        path.starts_with("tests/") && path != "tests/tidy.rs" && code_lines(text).any(|line| line.contains("slt\""))
    };
    if !statements.is_empty() {
        assert!(sources.iter().any(runs_them), "no test runs {statements:?}");
        let astray: Vec<&String> = statements.iter().filter(|path| !path.starts_with("tests/slt/")).collect();
        assert!(astray.is_empty(), "the runner looks in tests/slt and not for {astray:?}");
    }
}

#[test]
fn every_setting_is_read_somewhere() {
    let sources = sources();
    let outside: Vec<&String> =
        sources.iter().filter(|(path, _)| !path.starts_with("runtime/src/settings/")).map(|(_, text)| text).collect();
    let defaults = Table::try_from(tereza_runtime::Settings::default()).unwrap();
    let mut settings = Vec::new();
    leaves("", &defaults, &mut settings);
    settings.retain(|setting| {
        let field = setting.rsplit('.').next().unwrap();
        !outside.iter().any(|text| code_lines(text).any(|line| has_word(line, field)))
    });
    assert!(settings.is_empty(), "nothing reads these settings: remove them: {settings:#?}");
}

#[test]
fn bans_have_reasons() {
    for entry in read_table("clippy.toml")["disallowed-methods"].as_array().unwrap() {
        assert!(entry.get("reason").is_some(), "clippy.toml: {entry} has no reason");
    }
    let text = read("deny.toml");
    let is_bare = |line: &str| !line.is_empty() && !line.starts_with(['[', ']', '#']) && !line.ends_with('[');
    for line in text.lines().map(str::trim).filter(|line| is_bare(line)) {
        assert!(line.contains(" # ") || line.contains("reason = "), "deny.toml: no reason on `{line}`");
    }
}

#[test]
fn licences_are_allowed() {
    let deny = read_table("deny.toml");
    let licenses = &deny["licenses"];
    let allowed = strings(&licenses["allow"]);
    let exceptions: BTreeMap<&str, BTreeSet<&str>> = licenses["exceptions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["crate"].as_str().unwrap(), strings(&entry["allow"])))
        .collect();
    let targets = strings(&deny["graph"]["targets"]);
    let target = targets.iter().find(|target| target.starts_with(std::env::consts::ARCH)).unwrap();
    let cargo = [env!("CARGO"), "metadata", "--format-version=1", "--offline", "--locked", "--filter-platform", target];
    let metadata: serde_json::Value = serde_json::from_str(&run(&cargo)).unwrap();
    for package in metadata["packages"].as_array().unwrap().iter().filter(|package| !package["source"].is_null()) {
        let name = package["name"].as_str().unwrap();
        let license = package["license"].as_str().unwrap_or("none");
        let is_allowed = |id: &str| allowed.contains(id) || exceptions.get(name).is_some_and(|ids| ids.contains(id));
        assert!(satisfied(license, &is_allowed), "{name}: the licence {license} is not one that deny.toml allows");
    }
}

#[test]
fn licence_expressions_are_understood() {
    let is_mit_or_isc = |id: &str| id == "MIT" || id == "ISC";
    for good in ["MIT", "MIT/Zlib", "Zlib OR MIT", "MIT AND ISC", "(Zlib OR MIT) AND ISC", "Zlib AND BSD OR MIT"] {
        assert!(satisfied(good, &is_mit_or_isc), "{good}");
    }
    for bad in ["Zlib", "MIT AND Zlib", "(MIT OR ISC) AND Zlib", "none"] {
        assert!(!satisfied(bad, &is_mit_or_isc), "{bad}");
    }
    assert!(satisfied("Apache-2.0 WITH LLVM-exception", &|id| id == "Apache-2.0 WITH LLVM-exception"));
}

/// `Cargo.lock`: which version of which package uses which, tests of our own included.
struct Lock {
    packages: Vec<(String, String, Vec<String>)>,
}

impl Lock {
    fn read() -> Self {
        let lock = read_table("Cargo.lock");
        let package = |entry: &Value| {
            let text = |key: &str| entry[key].as_str().unwrap().to_owned();
            let uses = entry.get("dependencies").map(strings).unwrap_or_default();
            (text("name"), text("version"), uses.into_iter().map(str::to_owned).collect())
        };
        Self { packages: lock["package"].as_array().unwrap().iter().map(package).collect() }
    }

    fn versions(&self, name: &str) -> Vec<&str> {
        self.packages.iter().filter(|package| package.0 == name).map(|package| package.1.as_str()).collect()
    }

    /// Packages that use this version; a dependency is written `name`, or `name version` where there are several.
    fn users_of(&self, name: &str, version: &str) -> Vec<&str> {
        let written = format!("{name} {version}");
        let uses =
            |package: &&(String, String, Vec<String>)| package.2.iter().any(|used| *used == written || used == name);
        self.packages.iter().filter(uses).map(|package| package.0.as_str()).collect()
    }

    /// The names of everything that a package uses, directly or through others.
    fn below(&self, name: &str) -> BTreeSet<String> {
        let (mut below, mut next) = (BTreeSet::new(), vec![name.to_owned()]);
        while let Some(name) = next.pop() {
            for (_, _, uses) in self.packages.iter().filter(|package| package.0 == name) {
                for used in uses.iter().map(|used| used.split(' ').next().unwrap_or(used).to_owned()) {
                    if below.insert(used.clone()) {
                        next.push(used);
                    }
                }
            }
        }
        below
    }
}

/// Whether an SPDX expression (`AND` binds closer than `OR`; `/` is an old way to say `OR`) can be met.
fn satisfied(expression: &str, is_allowed: &dyn Fn(&str) -> bool) -> bool {
    let expression = expression.trim();
    let split = |separator: &str| -> Option<(&str, &str)> {
        let is_outside = |at: usize| expression[..at].matches('(').count() == expression[..at].matches(')').count();
        let (at, found) = expression.match_indices(separator).find(|(at, _)| is_outside(*at))?;
        Some((&expression[..at], &expression[at + found.len()..]))
    };
    if let Some((left, right)) = split(" OR ").or_else(|| split("/")) {
        return satisfied(left, is_allowed) || satisfied(right, is_allowed);
    }
    if let Some((left, right)) = split(" AND ") {
        return satisfied(left, is_allowed) && satisfied(right, is_allowed);
    }
    match expression.strip_prefix('(').and_then(|inner| inner.strip_suffix(')')) {
        Some(inner) => satisfied(inner, is_allowed),
        None => is_allowed(expression),
    }
}

/// Every member of the workspace by name, with its manifest.
fn manifests() -> BTreeMap<String, Table> {
    let members = strings(&read_table("Cargo.toml")["workspace"]["members"])
        .into_iter()
        .map(|member| format!("{member}/Cargo.toml"))
        .collect::<Vec<_>>();
    let manifests = members.iter().map(String::as_str).chain(["Cargo.toml"]).map(read_table);
    manifests.map(|manifest| (manifest["package"]["name"].as_str().unwrap().to_owned(), manifest)).collect()
}

/// What a manifest names, in all its sections.
fn dependencies(manifest: &Table) -> Vec<(String, Value)> {
    let sections = ["dependencies", "dev-dependencies", "build-dependencies"];
    let tables = sections.iter().filter_map(|section| manifest.get(*section)?.as_table());
    tables.flatten().map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn leaves(prefix: &str, table: &Table, out: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            Value::Table(below) => leaves(&format!("{prefix}{key}."), below, out),
            _ => out.push(format!("{prefix}{key}")),
        }
    }
}

/// Every file that Git knows or would add, if it is text, by its path from the root.
fn text_files() -> BTreeMap<String, String> {
    let listed = run(&["git", "ls-files", "--cached", "--others", "--exclude-standard"]);
    let texts = listed.lines().filter_map(|path| {
        let text =
            std::fs::read(PathBuf::from(ROOT).join(path)).ok().and_then(|bytes| String::from_utf8(bytes).ok())?;
        Some((path.to_owned(), text))
    });
    texts.collect()
}

/// The Rust files among them.
fn sources() -> BTreeMap<String, String> {
    text_files().into_iter().filter(|(path, _)| path.ends_with(".rs")).collect()
}

/// Lines that are neither empty nor a comment.
fn code_lines(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with("//"))
}

fn has_word(line: &str, word: &str) -> bool {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word)
        .any(|(at, _)| !line[..at].ends_with(is_part) && !line[at + word.len()..].starts_with(is_part))
}

fn strings(value: &Value) -> BTreeSet<&str> {
    value.as_array().unwrap().iter().map(|entry| entry.as_str().unwrap()).collect()
}

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn read_table(path: &str) -> Table {
    read(path).parse().unwrap_or_else(|error| panic!("{path}: {error}"))
}

fn run(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).current_dir(ROOT).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
