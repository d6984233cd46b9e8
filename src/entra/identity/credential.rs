//! What the operator sends to authenticate as the app of an identity: an assertion, or a client secret.

use std::sync::Arc;

use jiff::Timestamp;
use kube::Client;

use crate::api::conditions::Reason;
use crate::api::{CertificateSecretRef, ClientSecretRef, IdentityAuth, NamespacedName};
use crate::core::model::ConditionFailure;
use crate::core::secret_value::{SecretValue, ValueKind};
use crate::core::sign_in::FederatedClaims;
use crate::entra::identity::assertion::{CertificateError, SigningCertificate};
use crate::entra::identity::error::GraphTokenError;
use crate::entra::identity::federated::{FederatedTokens, claims};
use crate::entra::identity::snapshot::IdentitySnapshot;
use crate::entra::token::request_id;
use crate::k8s::secrets::{self, ReadError, SecretData};
use crate::secret_text::{SecretBytes, SecretText};

/// What is sent to the token endpoint.
pub(super) enum ClientCredential {
    Secret(SecretText),
    Assertion {
        jwt: SecretText,
        /// What a federated credential must match, if it is a ServiceAccount token.
        federated: Option<FederatedClaims>,
    },
}

/// Where the values of an identity's credential come from.
pub(super) struct CredentialSources {
    pub(super) client: Client,
    pub(super) federated: FederatedTokens,
}

// === impl CredentialSources ===

impl CredentialSources {
    /// The credential for one request to the token endpoint at that URL.
    pub(super) async fn credential(
        &self,
        identity: &IdentitySnapshot,
        url: &str,
    ) -> Result<ClientCredential, GraphTokenError> {
        match &*identity.auth {
            IdentityAuth::FederatedToken(_) => {
                let jwt = self.federated.read(identity.cloud).map_err(GraphTokenError::Unusable)?;
                let federated = Some(claims(&jwt));
                Ok(ClientCredential::Assertion { jwt, federated })
            }
            IdentityAuth::CertificateSecretRef(reference) => {
                let (data, unusable) = (self.read(&identity.key, &reference.name).await?, invalid(reference));
                let certificate = value(&data, reference, reference.certificate_key(), "certificateKey")?;
                let key = value(&data, reference, reference.private_key_key(), "privateKeyKey")?;
                let certificate =
                    SigningCertificate::read(certificate.expose(), key.expose()).map_err(&unusable)?;
                let jwt = certificate.sign(&identity.client_id, url, &request_id(), Timestamp::now());
                Ok(ClientCredential::Assertion { jwt: jwt.map_err(unusable)?, federated: None })
            }
            IdentityAuth::ClientSecretRef(reference) => {
                let data = self.read(&identity.key, &reference.name).await?;
                let text = data.text(&client_secret(reference)).map_err(GraphTokenError::Unusable)?;
                Ok(ClientCredential::Secret(text))
            }
        }
    }

    async fn read(&self, identity: &NamespacedName, name: &str) -> Result<SecretData, GraphTokenError> {
        let unusable = |reason, message| GraphTokenError::Unusable(ConditionFailure { reason, message });
        secrets::read(&self.client, &identity.namespace, name).await.map_err(|error| match error {
            ReadError::NotFound => unusable(
                Reason::SecretNotFound,
                format!("Secret {name} does not exist in the operator's namespace: create it or fix its name in spec.auth"),
            ),
            ReadError::Forbidden => unusable(
                Reason::AccessDenied,
                format!("the operator is not allowed to read Secret {name}: add it to entraIdentities.secretNames in the chart, or grant its ServiceAccount get on it"),
            ),
            ReadError::Kube(source) => GraphTokenError::ReadSecret { name: name.to_owned(), source: Arc::new(source) },
        })
    }
}

fn client_secret(reference: &ClientSecretRef) -> SecretValue<'_> {
    SecretValue {
        kind: ValueKind::ClientSecret,
        secret: &reference.name,
        name_field: "spec.auth.clientSecretRef.name",
        key: reference.key(),
        key_field: "spec.auth.clientSecretRef.key",
    }
}

fn value<'a>(
    data: &'a SecretData,
    reference: &CertificateSecretRef,
    key: &str,
    field: &str,
) -> Result<&'a SecretBytes, GraphTokenError> {
    data.get(key).ok_or_else(|| {
        let message = format!(
            "Secret {} does not have the key {key}: add it, or set spec.auth.certificateSecretRef.{field} to the right key",
            reference.name
        );
        GraphTokenError::Unusable(ConditionFailure { reason: Reason::KeyMissing, message })
    })
}

fn invalid(reference: &CertificateSecretRef) -> impl Fn(CertificateError) -> GraphTokenError {
    let secret = reference.name.clone();
    move |error| {
        let message =
            format!("Secret {secret} {error}: put a certificate and its RSA key into it, both in PEM");
        GraphTokenError::Unusable(ConditionFailure { reason: Reason::CertificateInvalid, message })
    }
}
