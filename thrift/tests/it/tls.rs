//! The same calls behind TLS, and those who speak it wrongly.

use std::sync::Arc;
use std::time::Duration;

use tereza_runtime::ErrorKind;
use tereza_thrift::server::Settings;
use tereza_thrift::tls::Tls;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use crate::memory::{PATIENCE, Running, golden};

#[tokio::test]
async fn calls_are_answered_behind_tls_and_not_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, own.cert.pem()).unwrap();
    std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    let tls = Some(Tls::of_files(&certificate, &key).unwrap());
    let server = Running::new(Settings { tls, message_timeout: Duration::from_secs(1), ..Settings::default() }).await;

    let mut roots = RootCertStore::empty();
    roots.add(own.cert.der().clone()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..2 {
        let stream = TcpStream::connect(server.address).await.unwrap();
        let mut stream = connector.connect("localhost".try_into().unwrap(), stream).await.unwrap();
        stream.write_all(&golden("get_all_databases.call")).await.unwrap();
        let mut answer = golden("get_all_databases.reply");
        let expected = answer.clone();
        timeout(PATIENCE, stream.read_exact(&mut answer)).await.expect("no answer").unwrap();
        assert_eq!(answer, expected);

        // Plain Thrift gets no answer of Thrift, and its connection ends; the others' go on.
        let mut plain = server.connect().await;
        plain.send(&golden("get_all_databases.call")).await;
        assert_ne!(plain.rest().await, expected);
    }
    // Who says nothing is not waited for.
    let mut byte = [0];
    assert_eq!(timeout(PATIENCE, silent.read(&mut byte)).await.expect("it waits").unwrap(), 0);
}

#[test]
fn files_without_certificate_or_key_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, own.cert.pem()).unwrap();
    let missing = Tls::of_files(&certificate, &key).unwrap_err();
    assert!(missing.to_string().contains("key.pem"), "{missing}");
    std::fs::write(&key, own.signing_key.serialize_pem()).unwrap();
    let swapped = Tls::of_files(&key, &certificate).unwrap_err();
    assert_eq!(swapped.kind(), ErrorKind::InvalidInput);
    assert!(swapped.to_string().contains("key.pem: expected PEM for TLS: no certificate is in it"), "{swapped}");
    let foreign = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&key, foreign.signing_key.serialize_pem()).unwrap();
    let foreign = Tls::of_files(&certificate, &key).unwrap_err();
    assert!(foreign.to_string().contains("key.pem"), "{foreign}");
}
