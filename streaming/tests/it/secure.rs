//! A broker that wants TLS and a password, reached with the properties that Flink's users write.

use std::collections::BTreeMap;
use std::fs;

use tereza_runtime::{Error, ErrorKind};
use tereza_streaming::kafka::{Cluster, KafkaOptions};
use tereza_streaming::log::kafka::KafkaLog;
use tereza_streaming::log::{Last, Log, LogName};
use tereza_streaming::record::Positions;

use crate::kafka::{Broker, Secure};
use crate::support::{missing, name, record};

/// What each of the broker's listeners is to be told.
fn options(bootstrap: &str, authority: &str, password: &str) -> KafkaOptions {
    let module = "org.apache.kafka.common.security.scram.ScramLoginModule";
    let given = [
        ("connector", "kafka"),
        ("topic", "orders"),
        ("format", "raw"),
        ("properties.bootstrap.servers", bootstrap),
        ("properties.security.protocol", "SASL_SSL"),
        ("properties.sasl.mechanism", "SCRAM-SHA-512"),
        ("properties.sasl.jaas.config", &format!("{module} required username=\"ann\" password=\"{password}\";")),
        ("properties.ssl.truststore.type", "PEM"),
        ("properties.ssl.truststore.location", authority),
    ];
    let given: BTreeMap<String, String> = given.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    KafkaOptions::parse(&given).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_its_password_to_the_right_broker_is_let_in() {
    let own = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let [authority, stranger] = [("own.pem", &own), ("other.pem", &other)].map(|(file, certificate)| {
        let path = folder.path().join(file);
        fs::write(&path, certificate.cert.pem()).unwrap();
        path.to_str().unwrap().to_owned()
    });
    let key = own.signing_key.serialize_pem();
    let secure = Secure { key: &key, certificate: &own.cert.pem(), user: "ann", password: "s3cret" };
    let Some(broker) = Broker::start_secure(&secure) else { return missing() };

    let log = KafkaLog::new(options(&broker.secured(), &authority, "s3cret").connection);
    let uid = name("job");
    log.create(&uid, 1, None).unwrap();
    let name = LogName::task(&uid, 0);
    let body = record(&uid, 1, &Positions::new());
    let writer = log.open(&name, "a").await.unwrap().writer;
    drop(writer.append(body.clone()).await.unwrap());
    assert_eq!(log.open(&name, "b").await.unwrap().last, Last::Record(body));

    // Either takes as long as a request may wait for its answer.
    let refused = |error: Error| {
        let text = format!("{error:?}");
        assert!(
            error.kind() == ErrorKind::Unauthenticated && !text.contains("wr0ng") && !text.contains("s3cret"),
            "{text}"
        );
    };
    refused(Cluster::new(&options(&broker.secured(), &authority, "wr0ng").connection).unwrap().id().unwrap_err());
    let log = KafkaLog::new(options(&broker.secured(), &stranger, "s3cret").connection);
    refused(log.open(&name, "c").await.unwrap_err().into_error());
}
