//! Client assertions: tokens of a ServiceAccount, and assertions that are signed with a certificate. Source:
//! <https://learn.microsoft.com/entra/workload-id/workload-identity-federation> and
//! <https://learn.microsoft.com/entra/identity-platform/certificate-credentials>.
//!
//! The double does not know the keys of a cluster, so it does not check the signature of a ServiceAccount token.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rustls::SignatureScheme;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::rejection::Cause;

/// The longest lifetime of an assertion that is signed with a certificate, in seconds.
const LONGEST: i64 = 600;

/// What a federated credential of an app trusts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FederatedCredential {
    pub(crate) issuer: String,
    pub(crate) subject: String,
    pub(crate) audience: String,
}

/// A certificate of an app.
#[derive(Clone)]
pub(crate) struct TrustedCertificate {
    thumbprint: String,
    /// The RSA public key without the name of its algorithm.
    public_key: Arc<[u8]>,
}

/// An assertion as it was sent.
#[derive(Clone, Debug, Default)]
pub(crate) struct Assertion {
    header: Value,
    claims: Value,
    signed: String,
    signature: Vec<u8>,
}

// === impl TrustedCertificate ===

impl TrustedCertificate {
    /// From PEM, with the private key, of which only the public part is kept. The key must have 2048 bits.
    pub(crate) fn new(certificate: &[u8], key: &[u8]) -> Option<Self> {
        let certificate = CertificateDer::from_pem_slice(certificate).ok()?;
        let key = PrivateKeyDer::from_pem_slice(key).ok()?;
        let key = rustls::crypto::ring::sign::any_supported_type(&key).ok()?;
        let public = key.public_key()?;
        Some(Self {
            thumbprint: URL_SAFE_NO_PAD.encode(Sha256::digest(&certificate)),
            // 24 bytes name the algorithm of a key of 2048 bits.
            public_key: public.get(24..)?.into(),
        })
    }

    fn has_signed(&self, assertion: &Assertion) -> bool {
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let scheme = algorithms.mapping.iter().find(|(it, _)| *it == SignatureScheme::RSA_PSS_SHA256);
        scheme.and_then(|(_, all)| all.first()).is_some_and(|it| {
            it.verify_signature(&self.public_key, assertion.signed.as_bytes(), &assertion.signature).is_ok()
        })
    }
}

// === impl Assertion ===

impl Assertion {
    /// Reads a JWT; `None` if it is none.
    pub(crate) fn read(jwt: &str) -> Option<Self> {
        let [header, claims, signature] = jwt.split('.').collect::<Vec<_>>().try_into().ok()?;
        let json = |part: &str| serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).ok()?).ok();
        Some(Self {
            header: json(header)?,
            claims: json(claims)?,
            signed: format!("{header}.{claims}"),
            signature: URL_SAFE_NO_PAD.decode(signature).ok()?,
        })
    }

    /// Whether it is signed with a certificate.
    pub(crate) fn is_of_certificate(&self) -> bool {
        self.header.get("x5t#S256").is_some()
    }

    fn claim(&self, name: &str) -> &str {
        self.claims[name].as_str().unwrap_or_default()
    }

    /// The audience, if there is exactly one.
    fn audience(&self) -> &str {
        match &self.claims["aud"] {
            Value::String(one) => one,
            Value::Array(all) if all.len() == 1 => all[0].as_str().unwrap_or_default(),
            _ => "",
        }
    }

    /// Whether Microsoft accepts it as a token of a trusted issuer. Everything is compared byte by byte.
    pub(crate) fn check_federated(&self, trusted: &[FederatedCredential]) -> Result<(), Cause> {
        if trusted.is_empty() {
            return Err(Cause::NoFederatedCredential);
        }
        let (issuer, subject, audience) = (self.claim("iss"), self.claim("sub"), self.audience());
        let mut found: Vec<&FederatedCredential> = trusted.iter().filter(|it| it.issuer == issuer).collect();
        if found.is_empty() {
            return Err(Cause::WrongIssuer(issuer.to_owned()));
        }
        found.retain(|it| it.audience == audience);
        if found.is_empty() {
            return Err(Cause::WrongAudience(audience.to_owned()));
        }
        if !found.iter().any(|it| it.subject == subject) {
            return Err(Cause::WrongSubject(subject.to_owned()));
        }
        self.check_time()
    }

    /// Whether it is signed with a certificate of the app, for the token endpoint of that tenant.
    pub(crate) fn check_signed(
        &self,
        client: &str,
        tenant: &str,
        trusted: &[TrustedCertificate],
    ) -> Result<(), Cause> {
        let thumbprint = self.header["x5t#S256"].as_str().unwrap_or_default();
        let certificate = trusted.iter().find(|it| it.thumbprint == thumbprint);
        let is_signed = certificate.is_some_and(|it| it.has_signed(self)) && self.header["alg"] == "PS256";
        let is_of_client = self.claim("iss") == client && self.claim("sub") == client;
        let is_for_endpoint = self.audience().ends_with(&format!("/{tenant}/oauth2/v2.0/token"));
        let has_id = !self.claim("jti").is_empty();
        let lifetime =
            self.claims["exp"].as_i64().unwrap_or(i64::MAX) - self.claims["nbf"].as_i64().unwrap_or(0);
        if !(is_signed && is_of_client && is_for_endpoint && has_id && lifetime <= LONGEST) {
            return Err(Cause::InvalidAssertion);
        }
        self.check_time()
    }

    fn check_time(&self) -> Result<(), Cause> {
        let now = Timestamp::now().as_second();
        let begins = self.claims["nbf"].as_i64().unwrap_or(0);
        let ends = self.claims["exp"].as_i64().unwrap_or(0);
        if begins <= now && now < ends { Ok(()) } else { Err(Cause::AssertionOutOfTime) }
    }
}
