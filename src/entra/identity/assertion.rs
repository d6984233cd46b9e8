//! A client assertion that is signed with a certificate.
//!
//! Source: Microsoft, "Microsoft identity platform application authentication certificate credentials"; RFC 7515 and 7518
//! §3.5 (PS256).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use rustls::SignatureScheme;
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde_json::json;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::api::ClientId;
use crate::secret_text::SecretText;

/// How long an assertion is valid; Microsoft recommends 5 to 10 minutes.
const LIFETIME: Duration = Duration::from_mins(9);

/// By how much the clock of Microsoft may be behind.
const SKEW: Duration = Duration::from_mins(1);

/// A certificate with its private key.
pub(super) struct SigningCertificate(CertifiedKey);

/// Why a certificate cannot be used; completes a sentence that begins with the Secret.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum CertificateError {
    #[error("contains no certificate in PEM (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    #[error("contains no unencrypted private key in PEM (-----BEGIN PRIVATE KEY-----)")]
    NoKey,
    #[error("contains a private key that is not an RSA key of at least 2048 bits")]
    NotRsa,
    #[error("contains a private key that does not belong to the certificate")]
    Mismatch,
    #[error("contains a private key with which nothing can be signed")]
    Sign,
}

// === impl SigningCertificate ===

impl SigningCertificate {
    /// Reads the first certificate and its private key from PEM.
    pub(super) fn read(certificate: &[u8], key: &[u8]) -> Result<Self, CertificateError> {
        let certificate =
            CertificateDer::from_pem_slice(certificate).map_err(|_| CertificateError::NoCertificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| CertificateError::NoKey)?;
        let key = any_supported_type(&key).map_err(|_| CertificateError::NotRsa)?;
        if key.choose_scheme(&[SignatureScheme::RSA_PSS_SHA256]).is_none() {
            return Err(CertificateError::NotRsa);
        }
        let pair = CertifiedKey::new(vec![certificate], key);
        pair.keys_match().map_err(|_| CertificateError::Mismatch)?;
        Ok(Self(pair))
    }

    /// An assertion for the token endpoint `audience`. `id` is a fresh id.
    pub(super) fn sign(
        &self,
        client: &ClientId,
        audience: &str,
        id: &str,
        now: Timestamp,
    ) -> Result<SecretText, CertificateError> {
        let thumbprint = self.0.cert.first().map(|it| URL_SAFE_NO_PAD.encode(Sha256::digest(it)));
        let header = json!({"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint});
        let claims = json!({
            "aud": audience,
            "iss": client.as_str(),
            "sub": client.as_str(),
            "jti": id,
            "nbf": (now - SKEW).as_second(),
            "iat": now.as_second(),
            "exp": (now + LIFETIME).as_second(),
        });
        let part = |json: serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
        let signed = format!("{}.{}", part(header), part(claims));
        // The salt of this scheme is as long as the hash, as PS256 demands (RFC 8446 §4.2.3, RFC 7518 §3.5).
        let with_key = self.0.key.choose_scheme(&[SignatureScheme::RSA_PSS_SHA256]);
        let signature = with_key.ok_or(CertificateError::NotRsa)?.sign(signed.as_bytes());
        let signature = signature.map_err(|_| CertificateError::Sign)?;
        Ok(SecretText::new(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))))
    }
}

#[cfg(test)]
mod tests {
    use rustls::crypto::ring::default_provider;

    use super::*;

    fn file(name: &str) -> Vec<u8> {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kit/fixtures/identity/");
        std::fs::read(format!("{folder}{name}")).unwrap()
    }

    fn json(part: &str) -> serde_json::Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap()
    }

    #[test]
    fn an_assertion_has_the_documented_claims_and_a_valid_signature() {
        let certificate = SigningCertificate::read(&file("tls.crt"), &file("tls.key")).unwrap();
        let (client, now) = (
            "e1c6ac69-480e-4a17-9b85-3467967bd179".parse().unwrap(),
            "2026-11-24T08:00:00Z".parse().unwrap(),
        );
        let jwt = certificate.sign(&client, "https://login.example/t/oauth2/v2.0/token", "id", now).unwrap();
        let parts: Vec<&str> = jwt.expose().split('.').collect();
        let der = CertificateDer::from_pem_slice(&file("tls.crt")).unwrap();
        let thumbprint = URL_SAFE_NO_PAD.encode(Sha256::digest(&der));
        assert_eq!(json(parts[0]), json!({"alg": "PS256", "typ": "JWT", "x5t#S256": thumbprint}));
        let second = now.as_second();
        assert_eq!(
            json(parts[1]),
            json!({
                "aud": "https://login.example/t/oauth2/v2.0/token", "iss": client.as_str(),
                "sub": client.as_str(), "jti": "id", "nbf": second - 60, "iat": second, "exp": second + 540
            })
        );
        let algorithms = default_provider().signature_verification_algorithms;
        let (_, schemes) =
            algorithms.mapping.iter().find(|(scheme, _)| *scheme == SignatureScheme::RSA_PSS_SHA256).unwrap();
        // An RSA key of 2048 bits follows the 24 bytes that name its algorithm.
        let key = certificate.0.key.public_key().unwrap();
        let signature = URL_SAFE_NO_PAD.decode(parts[2]).unwrap();
        let signed = format!("{}.{}", parts[0], parts[1]);
        let is_valid =
            |text: &str| schemes[0].verify_signature(&key[24..], text.as_bytes(), &signature).is_ok();
        assert!(is_valid(&signed));
        assert!(!is_valid(&format!("{signed}x")));
    }

    #[test]
    fn a_certificate_that_cannot_be_used_says_why() {
        for (certificate, key, expected) in [
            ("tls.key", "tls.key", CertificateError::NoCertificate),
            ("tls.crt", "tls.crt", CertificateError::NoKey),
            ("tls.crt", "ec.key", CertificateError::NotRsa),
            ("tls.crt", "other.key", CertificateError::Mismatch),
        ] {
            let read = SigningCertificate::read(&file(certificate), &file(key)).err();
            assert_eq!(read, Some(expected), "{certificate} {key}");
        }
    }
}
