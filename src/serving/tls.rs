//! TLS from files, which are read again while the program runs: whoever renews a certificate only replaces them.

use std::path::PathBuf;
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use thiserror::Error;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::settings::Timing;
use crate::telemetry::logs::chain;
use crate::telemetry::probes::Readiness;

/// Where certificate and key are.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate and those that lead to its root, in PEM, its own first.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// What is served with it, in flags and readiness: `rest` or `metrics`.
    pub of: &'static str,
}

/// Files by which TLS cannot be served.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error(
        "--{}-tls-cert {} cannot be read as certificates in PEM (-----BEGIN CERTIFICATE-----)",
        .0.of, .0.certificate.display()
    )]
    Certificate(TlsFiles, #[source] PemError),
    #[error(
        "--{}-tls-cert {} holds no certificate in PEM (-----BEGIN CERTIFICATE-----)",
        .0.of, .0.certificate.display()
    )]
    NoCertificate(TlsFiles),
    /// The private key cannot be read; the cause shows nothing of it.
    #[error(
        "--{}-tls-key {} cannot be read as a private key in PEM (-----BEGIN PRIVATE KEY-----)",
        .0.of, .0.key.display()
    )]
    Key(TlsFiles, #[source] PemError),
    /// They do not belong together.
    #[error("the key of --{0}-tls-key cannot be used with the certificate of --{0}-tls-cert")]
    Pair(&'static str, #[source] rustls::Error),
    #[error("failed to set up TLS")]
    Setup(#[source] rustls::Error),
}

/// TLS as its files have it.
pub struct Tls {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    current: Arc<Current>,
    acceptor: TlsAcceptor,
}

/// The certificate that new connections are served with.
#[derive(Debug)]
struct Current(Mutex<Arc<CertifiedKey>>);

// === impl Tls ===

impl Tls {
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let current = Arc::new(Current(Mutex::new(Arc::new(files.read(&provider)?))));
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth();
        let mut config = config.with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self { files, provider, current, acceptor })
    }

    /// What accepts connections, with the certificate of the moment.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    /// Reads the files again and again until `stop`. What cannot be read leaves the last certificate in use.
    pub async fn watch(&self, timing: &Timing, readiness: &Readiness, stop: &CancellationToken) {
        loop {
            let pause = tokio::time::sleep(timing.rest_files_poll);
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
            match self.files.read(&self.provider).map_err(|error| chain(&error)) {
                Ok(read) => {
                    self.replace(read);
                    readiness.forget_note(&self.note());
                }
                Err(problem) if readiness.note(&self.note(), &problem) => tracing::warn!(
                    problem,
                    of = self.files.of,
                    "the certificate cannot be renewed; the last one stays in use"
                ),
                Err(_) => {}
            }
        }
    }

    /// The line of readiness about the certificate.
    fn note(&self) -> String {
        format!("{}-tls", self.files.of)
    }

    fn replace(&self, read: CertifiedKey) {
        let mut current = self.current.0.lock();
        if current.cert != read.cert {
            tracing::info!(of = self.files.of, "another certificate is served");
        }
        *current = Arc::new(read);
    }
}

// === impl TlsFiles ===

impl TlsFiles {
    fn read(&self, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let certificates = CertificateDer::pem_file_iter(&self.certificate).and_then(Iterator::collect);
        let certificates: Vec<_> =
            certificates.map_err(|source| TlsError::Certificate(self.clone(), source))?;
        if certificates.is_empty() {
            return Err(TlsError::NoCertificate(self.clone()));
        }
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|source| TlsError::Key(self.clone(), source))?;
        CertifiedKey::from_der(certificates, key, provider).map_err(|source| TlsError::Pair(self.of, source))
    }
}

// === impl Current ===

impl ResolvesServerCert for Current {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.lock().clone())
    }
}
