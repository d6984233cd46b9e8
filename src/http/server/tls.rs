//! TLS with files that are reloaded while the program runs: to renew a certificate, replace them.

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

use crate::core::error_chain::chain;
use crate::core::timing::Timing;
use crate::telemetry::health::Readiness;

#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// The certificate chain in PEM, leaf first.
    pub certificate: PathBuf,
    pub key: PathBuf,
    /// What is served with it, as in flags and readiness: `rest` or `metrics`.
    pub of: &'static str,
}

/// Why the files cannot be used.
#[derive(Debug, Error)]
pub enum TlsError {
    #[error(
        "--{}-tls-cert {} cannot be read as certificates in PEM (-----BEGIN CERTIFICATE-----)",
        .0.of, .0.certificate.display()
    )]
    Certificate(TlsFiles, #[source] PemError),
    #[error(
        "--{}-tls-cert {} contains no certificate in PEM (-----BEGIN CERTIFICATE-----)",
        .0.of, .0.certificate.display()
    )]
    NoCertificate(TlsFiles),
    /// The cause shows nothing of the key.
    #[error(
        "--{}-tls-key {} cannot be read as a private key in PEM (-----BEGIN PRIVATE KEY-----)",
        .0.of, .0.key.display()
    )]
    Key(TlsFiles, #[source] PemError),
    /// Certificate and key do not match.
    #[error("the key of --{0}-tls-key cannot be used with the certificate of --{0}-tls-cert")]
    Pair(&'static str, #[source] rustls::Error),
    #[error("failed to set up TLS")]
    Setup(#[source] rustls::Error),
}

/// TLS that reloads its files.
pub struct ReloadingTls {
    files: TlsFiles,
    provider: Arc<CryptoProvider>,
    resolver: Arc<CertResolver>,
    acceptor: TlsAcceptor,
}

/// The certificate of new connections.
#[derive(Debug)]
struct CertResolver(Mutex<Arc<CertifiedKey>>);

// === impl ReloadingTls ===

impl ReloadingTls {
    pub fn open(files: TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(ring::default_provider());
        let resolver = Arc::new(CertResolver(Mutex::new(Arc::new(files.read(&provider)?))));
        let config = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth();
        let mut config = config.with_cert_resolver(resolver.clone());
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Ok(Self { files, provider, resolver, acceptor })
    }

    /// It always uses the current certificate.
    pub fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    /// Reloads the files until `stop`. If they cannot be read, the last certificate stays in use.
    pub async fn watch(&self, timing: &Timing, readiness: &Readiness, stop: &CancellationToken) {
        loop {
            let pause = tokio::time::sleep(timing.rest_files_poll);
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
            match self.files.read(&self.provider).map_err(|error| chain(&error)) {
                Ok(read) => {
                    self.replace(read);
                    readiness.clear_note(&self.note_name());
                }
                Err(problem) if readiness.set_note(&self.note_name(), &problem) => tracing::warn!(
                    problem,
                    of = self.files.of,
                    "failed to reload the certificate; the last one stays in use"
                ),
                Err(_) => {}
            }
        }
    }

    /// The name of the readiness note about the certificate.
    fn note_name(&self) -> String {
        format!("{}-tls", self.files.of)
    }

    fn replace(&self, read: CertifiedKey) {
        let mut current = self.resolver.0.lock();
        if current.cert != read.cert {
            tracing::info!(of = self.files.of, "serving a new certificate");
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

// === impl CertResolver ===

impl ResolvesServerCert for CertResolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.lock().clone())
    }
}
