use super::*;

const PLAIN: &[(&str, &str)] = &[
    ("connector", "kafka"),
    ("topic", "orders"),
    ("properties.bootstrap.servers", "localhost:9092"),
    ("format", "json"),
];

fn with(more: &[(&str, &str)]) -> BTreeMap<String, String> {
    PLAIN.iter().chain(more).map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn parse(more: &[(&str, &str)]) -> KafkaOptions {
    KafkaOptions::parse(&with(more)).unwrap()
}

fn refused(more: &[(&str, &str)]) -> String {
    KafkaOptions::parse(&with(more))
        .map(|options| panic!("taken: {options:?}"))
        .unwrap_or_else(|error: Error| format!("{error:?}"))
}

#[test]
fn a_plain_table_has_flinks_defaults() {
    let options = parse(&[]);
    assert_eq!(options.topics, Topics::Names(vec!["orders".to_owned()]));
    assert_eq!(options.startup, StartupMode::Group(OffsetReset::Refuse));
    assert_eq!(options.bounded, BoundedMode::Unbounded);
    assert_eq!(options.discovery, Some(DISCOVERY));
    assert_eq!(options.value, Format { name: "json".to_owned(), options: BTreeMap::new() });
    assert!(options.key.is_none() && options.key_in_value && !options.upsert);
    assert_eq!(options.connection.bootstrap(), "localhost:9092");
}

#[test]
fn start_and_end_are_read() {
    let group = ("properties.group.id", "g");
    let reset = ("properties.auto.offset.reset", "earliest");
    let startup = |mode: &[(&str, &str)]| parse(mode).startup;
    assert_eq!(startup(&[("scan.startup.mode", "earliest-offset")]), StartupMode::Earliest);
    assert_eq!(startup(&[("scan.startup.mode", "latest-offset")]), StartupMode::Latest);
    assert_eq!(startup(&[("scan.startup.mode", "group-offsets"), group]), StartupMode::Group(OffsetReset::Refuse));
    assert_eq!(startup(&[group, reset]), StartupMode::Group(OffsetReset::Earliest));
    let timestamp = [("scan.startup.mode", "timestamp"), ("scan.startup.timestamp-millis", "1700000000000")];
    assert_eq!(startup(&timestamp), StartupMode::Timestamp(1_700_000_000_000));
    let specific = [
        ("scan.startup.mode", "specific-offsets"),
        ("scan.startup.specific-offsets", "partition:0,offset:42;partition:1,offset:300"),
    ];
    assert_eq!(startup(&specific), StartupMode::Offsets([(0, 42), (1, 300)].into()));
    let bounded = |mode: &[(&str, &str)]| parse(mode).bounded;
    assert_eq!(bounded(&[("scan.bounded.mode", "latest-offset")]), BoundedMode::Latest);
    let specific =
        [("scan.bounded.mode", "specific-offsets"), ("scan.bounded.specific-offsets", "partition:3,offset:7;")];
    assert_eq!(bounded(&specific), BoundedMode::Offsets([(3, 7)].into()));
    assert_eq!(
        parse(&[("scan.topic-partition-discovery.interval", "5 min")]).discovery,
        Some(Duration::from_secs(300))
    );
    assert_eq!(parse(&[("scan.topic-partition-discovery.interval", "0")]).discovery, None);
}

#[test]
fn keys_and_formats_keep_their_own_options() {
    let mut given = with(&[
        ("key.format", "raw"),
        ("key.fields", "k_id; k_at"),
        ("key.fields-prefix", "k_"),
        ("key.raw.charset", "UTF-8"),
        ("value.format", "json"),
        ("value.json.ignore-parse-errors", "true"),
        ("value.fields-include", "EXCEPT_KEY"),
    ]);
    given.remove("format");
    let options = KafkaOptions::parse(&given).unwrap();
    let key = options.key.unwrap();
    assert_eq!((key.fields, key.prefix.as_str()), (vec!["k_id".to_owned(), "k_at".to_owned()], "k_"));
    assert_eq!(key.format.options["charset"], "UTF-8");
    assert_eq!(options.value.options["ignore-parse-errors"], "true");
    assert!(!options.key_in_value);
}

#[test]
fn what_does_not_go_together_is_refused() {
    for (more, expected) in [
        (&[("conector", "kafka")][..], "did you mean 'connector'?"),
        (&[("scan.startup.mod", "latest-offset")], "did you mean 'scan.startup.mode'?"),
        (&[("csv.field-delimiter", ";")], "unknown option 'csv.field-delimiter'"),
        (&[("format", "jsno")], "did you mean 'json'?"),
        (&[("value.format", "json")], "'format' and 'value.format' are the same"),
        (&[("topic-pattern", "o.*")], "exclude each other"),
        (&[("topic", "a b")], "'a b' cannot be the name of a topic"),
        (&[("topic", "a;a")], "'a' twice"),
        (&[("topic", ";")], "names of topics"),
        (&[("key.fields", "id")], "'key.fields' needs 'key.format'"),
        (&[("key.format", "raw")], "'key.format' needs 'key.fields'"),
        (&[("key.format", "raw"), ("key.fields", "id;id")], "'id' twice"),
        (&[("key.format", "raw"), ("key.fields", "id"), ("key.fields-prefix", "k_")], "without the prefix"),
        (&[("scan.startup.mode", "newest")], "expected earliest-offset"),
        (&[("scan.startup.mode", "group-offsets")], "properties.group.id"),
        (&[("scan.startup.mode", "timestamp")], "'scan.startup.timestamp-millis' is missing"),
        (&[("scan.startup.timestamp-millis", "1")], "goes with 'scan.startup.mode' = 'timestamp' only"),
        (&[("scan.startup.mode", "specific-offsets"), ("scan.startup.specific-offsets", "0:42")], "'0:42', expected"),
        (
            &[("scan.startup.mode", "specific-offsets"), ("scan.startup.specific-offsets", "partition:0,offset:-1")],
            "expected",
        ),
        (
            &[
                ("topic", "a;b"),
                ("scan.bounded.mode", "specific-offsets"),
                ("scan.bounded.specific-offsets", "partition:0,offset:1"),
            ],
            "one topic",
        ),
        (&[("scan.topic-partition-discovery.interval", "soon")], "a duration"),
        (&[("scan.parallelism", "many")], "a number"),
        (&[("sink.partitioner", "org.example.Mine")], "Unsupported: not supported: the class 'org.example.Mine'"),
        (&[("sink.delivery-guarantee", "twice")], "exactly-once"),
        (&[("properties.auto.offset.reset", "first")], "earliest, latest or none"),
        (&[("connector", "upsert-kafka")], "'upsert-kafka' needs 'key.format'"),
        (&[("connector", "jdbc")], "not 'kafka'"),
    ] {
        let error = refused(more);
        assert!(error.contains(expected), "{more:?}: {error}");
    }
}

#[test]
fn a_missing_option_is_named() {
    for key in ["connector", "topic", "properties.bootstrap.servers", "format"] {
        let mut given = with(&[]);
        given.remove(key);
        let error = KafkaOptions::parse(&given).unwrap_err().to_string();
        assert!(error.contains(key), "{key}: {error}");
    }
}

#[test]
fn properties_are_those_of_either_client_and_keep_the_protocol() {
    for (more, expected) in [
        (
            &[("properties.isolation.level", "read_uncommitted")][..],
            "Unsupported: not supported: the property 'isolation.level'",
        ),
        (&[("properties.enable.auto.commit", "true")], "exactly-once delivery stands on it"),
        (&[("properties.transactional.id", "mine")], "part of the commit protocol"),
        (&[("properties.sasl.usernme", "u")], "did you mean 'sasl.username'?"),
        (&[("properties.fetch.wait.max.ms", "long")], "fetch.wait.max.ms"),
        (&[("properties.ssl.truststore.location", "t.jks")], "as PEM"),
        (&[("properties.key.deserializer", "org.example.D")], "classes of Java"),
        (
            &[("properties.sasl.jaas.config", "com.sun.security.auth.module.Krb5LoginModule required;")],
            "'Krb5LoginModule'",
        ),
        (
            &[("properties.sasl.mechanism", "OAUTHBEARER"), ("properties.security.protocol", "SASL_SSL")],
            "'OAUTHBEARER'",
        ),
        (&[("properties.security.protocol", "SASL_PLAINTEXT")], "'GSSAPI'; set 'sasl.mechanism'"),
    ] {
        let error = refused(more);
        assert!(error.contains(expected), "{more:?}: {error}");
    }
    for taken in [
        &[("properties.isolation.level", "read_committed"), ("properties.acks", "-1")][..],
        &[("properties.security.protocol", "SASL_SSL"), ("properties.sasl.mechanism", "SCRAM-SHA-512")],
        &[("properties.ssl.truststore.type", "PEM"), ("properties.ssl.truststore.location", "ca.pem")],
    ] {
        parse(taken);
    }
}

#[test]
fn secrets_are_not_shown() {
    let jaas = r#"org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="hu\"sh";"#;
    for more in [
        &[("properties.sasl.jaas.config", jaas)][..],
        &[("properties.sasl.username", "u"), ("properties.sasl.password", "hu\"sh")],
        &[("properties.ssl.key.pem", "hu\"sh"), ("properties.ssl.keystore.key", "hu\"sh")],
    ] {
        let options = parse(more);
        assert!(!format!("{options:?}").contains("sh\""), "{options:?}");
    }
    let options = parse(&[("properties.sasl.jaas.config", jaas)]);
    let config = options.connection.admin();
    assert_eq!((config.get("sasl.username"), config.get("sasl.password")), (Some("u"), Some("hu\"sh")));
    assert!(!refused(&[("properties.sasl.jaas.config", "x.PlainLoginModule required user='hush';")]).contains("hush"));
}

#[test]
fn messages_that_cannot_be_read_go_to_another_topic() {
    assert_eq!(parse(&[]).dead_letters, None);
    assert_eq!(parse(&[(DEAD_LETTERS, "dead")]).dead_letters.as_deref(), Some("dead"));
    assert!(refused(&[(DEAD_LETTERS, "orders")]).contains("the table itself reads"));
    assert!(refused(&[(DEAD_LETTERS, "a b")]).contains("the name of a topic"));
    let mut pattern = with(&[("topic-pattern", "orders.*"), (DEAD_LETTERS, "orders-dead")]);
    pattern.remove("topic");
    assert!(KafkaOptions::parse(&pattern).unwrap_err().to_string().contains("the table itself reads"));
    assert!(refused(&[("tereza.dead-letter.topics", "dead")]).contains(DEAD_LETTERS));
}
