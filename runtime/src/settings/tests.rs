use super::layers::{every_path, is_secret};
use super::*;
use crate::ErrorKind;

/// A folder with one settings file.
struct File(tempfile::TempDir);

impl File {
    fn new(text: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(FILE_NAME), text).unwrap();
        Self(dir)
    }

    fn sources(&self) -> Sources {
        Sources { folder: Some(self.0.path().into()), ..Sources::default() }
    }
}

fn set(assignments: &[&str]) -> Sources {
    Sources { set: assignments.iter().map(|text| (*text).to_owned()).collect(), ..Sources::default() }
}

fn env(name: &str, value: &str) -> Sources {
    Sources { env: vec![(name.into(), value.into())], ..Sources::default() }
}

#[track_caller]
fn refused(sources: &Sources) -> String {
    let error = Settings::load(sources).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    error.to_string()
}

#[test]
fn each_layer_is_over_the_one_before() {
    let file = File::new("[listen]\nflight_sql = 1\nconsole = 1\n[log]\nfilter = \"warn\"\nformat = \"json\"\n");
    let mut sources = file.sources();
    let loaded = Settings::load(&sources).unwrap();
    assert_eq!((loaded.listen.flight_sql, loaded.listen.console, loaded.log.format), (1, 1, LogFormat::Json));
    assert_eq!(loaded.engine, Engine { spill_dir: loaded.engine.spill_dir.clone(), ..Engine::default() });

    sources.env = vec![("TEREZA__LISTEN__CONSOLE".into(), "2".into()), ("TEREZA__LOG__FILTER".into(), "error".into())];
    sources.set = vec!["log.filter=debug".into(), "listen.ip=0.0.0.0".into(), "log.filter=trace".into()];
    let sources = sources.flag("--listen", "listen.ip", Some("127.0.0.2")).flag("--data", "data.dir", None::<&str>);
    let loaded = Settings::load(&sources).unwrap();
    assert_eq!((loaded.listen.flight_sql, loaded.listen.console), (1, 2));
    assert_eq!(loaded.log.filter, "trace");
    assert_eq!(loaded.listen.ip.to_string(), "127.0.0.2");
}

#[test]
fn the_named_file_is_read_and_must_be_there() {
    let file = File::new("[listen]\nconsole = 5");
    let named = file.0.path().join("other.toml");
    let sources = Sources { file: Some(named.clone()), ..file.sources() };
    assert!(refused(&sources).contains("other.toml cannot be read"));
    std::fs::write(&named, "").unwrap();
    assert_eq!(Settings::load(&sources).unwrap().listen.console, 7070);
}

#[test]
fn an_unknown_key_is_refused_with_layer_and_nearest_name() {
    let file = File::new("[listen]\n\n# note\nconsol = 5");
    let text = refused(&file.sources());
    assert!(
        text.ends_with("tereza.toml, line 4: unknown setting 'listen.consol'; did you mean 'listen.console'?"),
        "{text}"
    );
    let file = File::new("[log]\n[engin]\nmemory_limit_bytes = 5");
    let text = refused(&file.sources());
    assert!(text.ends_with("line 2: unknown setting 'engin'; did you mean 'engine'?"), "{text}");
    assert_eq!(
        refused(&env("TEREZA__GATEWAY__TICKET_MAX", "5")),
        "environment variable TEREZA__GATEWAY__TICKET_MAX: unknown setting 'gateway.ticket_max'; \
         did you mean 'gateway.tickets_max'?"
    );
    assert_eq!(
        refused(&set(&["drain_timeout=5"])),
        "--set: unknown setting 'drain_timeout'; did you mean 'shutdown.drain_timeout_ms'?"
    );
    assert_eq!(
        refused(&set(&[r#"s3.buckets."a.b".regoin=x"#])),
        r#"--set: unknown setting 's3.buckets."a.b".regoin'; did you mean 's3.buckets."a.b".region'?"#
    );
    assert!(refused(&set(&["log.filter.deep=5"])).contains("unknown setting 'log.filter.deep'"));
    assert!(
        refused(&File::new("[s3.buckets.x.buckets.y]").sources()).contains("unknown setting 's3.buckets.x.buckets'")
    );
}

#[test]
fn a_bad_value_is_refused_with_what_was_expected() {
    let cases = [
        ("listen.console=70000", "listen.console = 70000: expected a whole number up to 65535"),
        ("listen.console=-1", "listen.console = -1: expected no negative number"),
        ("listen.console=x", "listen.console = \"x\": expected a whole number"),
        ("listen.ip=here", "listen.ip = \"here\": expected an IP address, as in 127.0.0.1"),
        ("log.format=xml", "log.format = \"xml\": expected `human` or `json`"),
        ("s3.path_style=yes", "s3.path_style = \"yes\": expected true or false"),
        ("engine.memory_fraction=x", "engine.memory_fraction = \"x\": expected a number"),
        ("engine.memory_fraction=1.5", "engine.memory_fraction = 1.5: expected more than 0 and at most 1"),
        ("engine.queries_max=0", "engine.queries_max = 0: expected at least 1"),
        ("s3.buckets.b.connect_timeout_ms=0", "s3.buckets.b.connect_timeout_ms = 0: expected at least 1"),
        ("catalog.url=pg://u:pw@db/x", "catalog.url = \"pg://u:***@db/x\": expected sqlite:<path>, mysql://"),
        ("s3.endpoint=http://h", "s3.endpoint = \"http://h\": expected https://, or s3.allow_http = true"),
        ("s3.endpoint=h:9000", "s3.endpoint = \"h:9000\": expected http://host:port or https://host:port"),
        ("gateway.tls_cert=c.pem", "gateway.tls_key = \"\": expected a path, as gateway.tls_cert is set"),
        ("engine.spill_limit_bytes=2 GX", "expected bytes, as in 1048576, \"512MB\" or \"2GiB\""),
        ("engine=5", "'engine' is a section, not a setting; set engine.<key>"),
        ("log.filter=a=b=c", "log.filter = \"a=b=c\": expected levels"),
        ("log.filter", "expected section.key=value"),
    ];
    for (assignment, expected) in cases {
        let text = refused(&set(&[assignment]));
        assert!(text.contains(expected), "{assignment}: {text}");
    }
    assert!(refused(&File::new("[log]\nfilter = 5").sources()).ends_with("line 2: log.filter = 5: expected text"));
    assert!(refused(&File::new("log = 5").sources()).contains("line 1: 'log' is a section"));
    assert!(refused(&File::new("[log]\nfilter = \"").sources()).contains("tereza.toml, line 2: "));
}

#[test]
fn sizes_are_numbers_or_text() {
    let cases = [("7", 7), ("2GiB", 2 << 30), ("512 MB", 512_000_000), ("1tib", 1 << 40), ("3 kB", 3_000), ("9B", 9)];
    for (text, bytes) in cases {
        assert_eq!(size_bytes(text), Some(bytes), "{text}");
    }
    for text in ["", "GiB", "1.5GiB", "-1", "1 XB", "99999999999TiB"] {
        assert_eq!(size_bytes(text), None, "{text}");
    }
    let file = File::new("[engine]\nmemory_limit_bytes = \"2GiB\"\nspill_limit_bytes = 5");
    let engine = Settings::load(&file.sources()).unwrap().engine;
    assert_eq!((engine.memory_limit_bytes, engine.spill_limit_bytes), (2 << 30, 5));
}

#[test]
fn a_bucket_inherits_what_it_does_not_say() {
    let file = File::new(
        "[s3]\nendpoint = \"https://a\"\nregion = \"r\"\naccess_key = \"k\"\nsecret_key = \"s\"\n\
         [s3.buckets.\"my.logs\"]\nendpoint = \"https://b\"\n",
    );
    let s3 = Settings::load(&Sources { set: vec!["s3.region=q".into()], ..file.sources() }).unwrap().s3;
    assert_eq!(s3.bucket("my.logs").endpoint, "https://b");
    assert_eq!(s3.bucket("my.logs").region, "q");
    assert_eq!(s3.bucket("my.logs").secret_key.expose(), "s");
    assert_eq!(s3.bucket("other"), &s3.defaults);
}

#[test]
fn paths_follow_the_data_folder() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings::in_folder(dir.path()).unwrap();
    assert_eq!(settings.catalog.url, format!("sqlite:{}", dir.path().join("catalog.db").display()));
    assert_eq!(settings.warehouse.url, dir.path().join("warehouse").display().to_string());
    assert_eq!(settings.engine.spill_dir, dir.path().join("spill"));
    let relative = Settings::load(&set(&["data.dir=here", "warehouse.url=s3://lake/w"])).unwrap();
    assert!(relative.data.dir.is_absolute());
    assert_eq!(relative.warehouse.url, "s3://lake/w");
}

/// Sets every textual setting to a word and looks for the word in what is shown: a new field of type `Secret` that
/// `is_secret` does not know, or the other way round, fails here.
#[test]
fn secrets_are_masked_everywhere() {
    let word = "s3cr3t-word";
    let mut settings = Settings::default();
    let mut secrets = 0;
    for path in every_path() {
        let key = path.join(".");
        let assignment = format!("{key}={word}");
        // Access and secret key go together, so both are there before one of them becomes the word.
        let with_word =
            Settings::load(&set(&["s3.access_key=x", "s3.secret_key=x", "s3.buckets.name.region=x", &assignment]));
        match with_word {
            Ok(loaded) => {
                let printed = format!("{}{loaded:?}", loaded.show().unwrap());
                assert_eq!(printed.contains(word), !is_secret(&path), "{key}");
                secrets += usize::from(is_secret(&path));
                settings = loaded;
            }
            Err(error) => assert!(!is_secret(&path), "{key}: {error}"),
        }
    }
    assert_eq!(secrets, 7, "three of a connection, twice, and a password");
    assert!(settings.show().unwrap().contains("***"));
    let file = File::new("[s3]\nsecret_key = 12345");
    assert!(refused(&file.sources()).ends_with("s3.secret_key = ***: expected text"));
}

/// What is shown can be read again, and says the same.
#[test]
fn what_is_shown_is_a_settings_file() {
    let sources = set(&["s3.buckets.b.region=x", "log.format=json", "engine.memory_fraction=0.5", "listen.ip=::1"]);
    let settings = Settings::load(&sources).unwrap();
    let file = File::new(&settings.show().unwrap());
    assert_eq!(Settings::load(&file.sources()).unwrap(), settings);
}
