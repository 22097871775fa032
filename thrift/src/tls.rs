//! TLS of a server: certificate and key from files.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use tereza_runtime::{Error, Result};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// Makes connections of a server TLS. Cheap to clone.
#[derive(Clone)]
pub struct Tls(pub(crate) TlsAcceptor);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

impl Tls {
    /// Of PEM files: the server's certificate with those that lead from it to its root, and its key.
    pub fn of_files(certificate: &Path, key: &Path) -> Result<Self> {
        let read = |path: &Path| {
            fs::read(path)
                .map_err(|error| Error::invalid_input(format!("{}: {error}", path.display())).with_source(error))
        };
        let bad = |path: &Path, why: &dyn std::fmt::Display| {
            Error::invalid_input(format!("{}: expected PEM for TLS: {why}", path.display()))
        };
        let chain = CertificateDer::pem_slice_iter(&read(certificate)?).collect::<std::result::Result<Vec<_>, _>>();
        let chain = chain.map_err(|error| bad(certificate, &error))?;
        if chain.is_empty() {
            return Err(bad(certificate, &"no certificate is in it"));
        }
        let secret = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| bad(key, &error))?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::internal("TLS has no protocol").with_source(error))?
            .with_no_client_auth()
            .with_single_cert(chain, secret)
            .map_err(|error| bad(key, &error))?;
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }
}
