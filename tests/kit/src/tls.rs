//! TLS in front of a double: its own certificate authority, and a relay that terminates TLS and forwards the
//! bytes.

use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A certificate authority that no client trusts by default.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// TLS on a free port of 127.0.0.1 in front of a plain one. Stops when dropped.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    task: JoinHandle<()>,
}

// === impl Authority ===

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    ///
    /// The system provides no random numbers.
    pub fn new() -> Result<Self, rcgen::Error> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Ok(Self { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate()?)? })
    }

    /// Its certificate, for clients that trust it.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for these names or addresses and its private key, both in PEM.
    ///
    /// # Errors
    ///
    /// A name is invalid, or the system provides no random numbers.
    pub fn issue(&self, names: &[&str]) -> Result<(String, String), rcgen::Error> {
        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names)?.signed_by(&key, &self.issuer)?;
        Ok((certificate.pem(), key.serialize_pem()))
    }

    /// Serves TLS under these names or addresses, and forwards to the plain server at `to` (`host:port`).
    ///
    /// # Errors
    ///
    /// A name is invalid, or no port is free.
    pub async fn relay(&self, names: &[&str], to: &str) -> io::Result<Relay> {
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).map_err(io::Error::other)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .map_err(io::Error::other)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let to = to.to_owned();
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(serve(acceptor.clone(), connection, to.clone()));
            }
        });
        Ok(Relay { port, task })
    }
}

/// A client that does not trust the certificate ends the handshake, which is not an error here.
async fn serve(acceptor: TlsAcceptor, connection: TcpStream, to: String) -> io::Result<()> {
    let mut client = acceptor.accept(connection).await?;
    let mut server = TcpStream::connect(to).await?;
    copy_bidirectional(&mut client, &mut server).await.map(drop)
}

// === impl Relay ===

impl Relay {
    /// Its port on 127.0.0.1.
    pub const fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}
