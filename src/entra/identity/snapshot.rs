//! What is needed of an `EntraIdentity` to sign in, and to decide for which namespaces and apps it may be used.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::api::{ClientId, Cloud, EntraIdentity, Grant, IdentityAuth, NamespacedName, TenantId};
use crate::core::sign_in::AuthMethod;

/// What is needed of an `EntraIdentity` to sign in and to decide about grants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdentitySnapshot {
    pub key: NamespacedName,
    pub uid: String,
    pub generation: i64,
    pub cloud: Cloud,
    pub home_tenant: TenantId,
    pub client_id: ClientId,
    pub auth: Arc<IdentityAuth>,
    pub grants: Arc<[Grant]>,
}

/// The part of an identity that its tokens depend on. Grants are not part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignInSpec {
    cloud: Cloud,
    client_id: ClientId,
    auth: Arc<IdentityAuth>,
}

// === impl IdentitySnapshot ===

impl IdentitySnapshot {
    pub fn of(object: &EntraIdentity) -> Self {
        let spec = &object.spec;
        Self {
            key: NamespacedName::of(object),
            uid: object.metadata.uid.clone().unwrap_or_default(),
            generation: object.metadata.generation.unwrap_or_default(),
            cloud: spec.cloud(),
            home_tenant: spec.tenant_id.clone(),
            client_id: spec.client_id.clone(),
            auth: Arc::new(spec.auth.clone()),
            grants: spec.grants.as_slice().into(),
        }
    }

    /// The tenants that the operator signs in to: the home tenant first, then those of the grants.
    pub fn tenants(&self) -> Vec<TenantId> {
        let granted: BTreeSet<&TenantId> = self.grants.iter().map(|grant| &grant.tenant_id).collect();
        let others = granted.into_iter().filter(|tenant| **tenant != self.home_tenant);
        std::iter::once(&self.home_tenant).chain(others).cloned().collect()
    }

    pub fn sign_in_spec(&self) -> SignInSpec {
        SignInSpec { cloud: self.cloud, client_id: self.client_id.clone(), auth: self.auth.clone() }
    }

    /// Whether a grant names an app of the tenant.
    pub fn has_grant_in(&self, tenant: &TenantId) -> bool {
        self.grants.iter().any(|grant| grant.tenant_id == *tenant)
    }

    pub fn method(&self) -> AuthMethod {
        match &*self.auth {
            IdentityAuth::FederatedToken(_) => AuthMethod::FederatedToken,
            IdentityAuth::CertificateSecretRef(_) => AuthMethod::Certificate,
            IdentityAuth::ClientSecretRef(_) => AuthMethod::ClientSecret,
        }
    }

    /// The Secret in its namespace that it signs in with, if there is one.
    pub fn secret(&self) -> Option<&str> {
        match &*self.auth {
            IdentityAuth::FederatedToken(_) => None,
            IdentityAuth::CertificateSecretRef(reference) => Some(&reference.name),
            IdentityAuth::ClientSecretRef(reference) => Some(&reference.name),
        }
    }
}
