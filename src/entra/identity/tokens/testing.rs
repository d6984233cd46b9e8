//! Tokens without a token endpoint, for tests.

use super::*;
use crate::api::{ClientSecretRef, FederatedToken, Grant, IdentityAuth, NamespacedName};
use crate::entra::Authorities;
use crate::http::client::HttpClients;
use crate::k8s::leadership::Leadership;

pub(crate) const HOME: &str = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32";
pub(crate) const OTHER: &str = "cccccccc-aaf4-4f7c-9dc2-2c9160d1cb32";

/// Tokens without a token endpoint: tests record what it would answer.
pub(crate) fn tokens() -> GraphTokens {
    let refuse = |_: http::Request<kube::client::Body>| async {
        Err::<http::Response<kube::client::Body>, _>("nothing is read")
    };
    let config = EndpointConfig {
        http: HttpClients::testing(&Timing::STANDARD),
        authorities: Authorities::new("http://127.0.0.1:1".parse().unwrap()),
        leadership: Leadership::always(),
        metrics: Arc::default(),
    };
    let client = Client::new(tower::service_fn(refuse), "ops");
    GraphTokens::new(config, client, FederatedTokens::default(), &Timing::STANDARD)
}

/// An identity that signs in with a ServiceAccount token in its first generation, and later with a client secret.
pub(crate) fn identity(generation: i64) -> IdentitySnapshot {
    IdentitySnapshot {
        key: NamespacedName { namespace: "ops".into(), name: "agency".into() },
        uid: "u".into(),
        generation,
        cloud: Cloud::Global,
        home_tenant: HOME.parse().unwrap(),
        client_id: "e1c6ac69-480e-4a17-9b85-3467967bd179".parse().unwrap(),
        auth: Arc::new(match generation {
            1 => IdentityAuth::FederatedToken(FederatedToken {}),
            _ => IdentityAuth::ClientSecretRef(ClientSecretRef { name: "secret".into(), key: None }),
        }),
        grants: [Grant {
            namespaces: vec!["client-a".into()],
            tenant_id: OTHER.parse().unwrap(),
            client_ids: Vec::new(),
        }]
        .into(),
    }
}

impl GraphToken {
    pub(crate) fn testing(text: &str) -> Self {
        Self { text: Arc::new(SecretText::new(text.into())), roles: None }
    }
}

impl GraphTokens {
    /// Keeps this token as if Entra had issued it for an hour.
    pub(crate) fn hold(&self, identity: &IdentitySnapshot, tenant: &TenantId, token: &str) {
        let (text, lifetime) = (SecretText::new(token.into()), Duration::from_hours(1));
        let slot = self.slot(identity, tenant);
        let _held = self.record(&slot, identity, Ok(IssuedToken { text, lifetime, roles: None }));
    }
}
