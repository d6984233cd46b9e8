//! Defaults of unset fields. The schemas have no defaults, because GitOps tools would show them as a permanent
//! difference, so all code reads fields with these functions.

use std::time::Duration;

use kube::ResourceExt;

use crate::api::conditions::{ConditionStatus, ConditionType, find};
use crate::api::duration::KubeDuration;
use crate::api::{
    AccountName, Adoption, AdoptionPolicy, Cloud, DeletionPolicy, Destination, ExpiryMode,
    FLUX_RECONCILE_REQUESTED_AT, MAX_NAME_LENGTH, MicrosoftGraphCredential, MicrosoftGraphCredentialSpec,
    MicrosoftGraphCredentialStatus, RECONCILE_REQUESTED_AT, REMOVE_UNKNOWN_SECRETS, ROTATE_OVERLAP,
    ROTATE_REQUESTED_AT, Rotation, RotationStatus, SecretRef, VerificationPolicy, WoodpeckerDestination,
};

const HOUR: u64 = 3600;

/// Default of `verification.interval`.
/// Default of `spec.verification.interval`.
pub const VERIFICATION_INTERVAL: Duration = Duration::from_secs(24 * HOUR);

/// Default of `expiryWarning`.
/// Default of `spec.expiryWarning`.
pub const EXPIRY_WARNING: Duration = Duration::from_secs(720 * HOUR);

/// Default of `spec.rotation.validity`.
pub const ROTATION_VALIDITY: Duration = Duration::from_secs(4320 * HOUR);

/// Default of `spec.rotation.renewBefore`.
pub const ROTATION_RENEW_BEFORE: Duration = Duration::from_secs(720 * HOUR);

/// Default of `spec.rotation.overlap`.
pub const ROTATION_OVERLAP: Duration = Duration::from_secs(24 * HOUR);

/// Bounds that the schema also has. An object from before the schema had them may exceed them, and adding such a
/// duration to a timestamp must not overflow.
const MAX_INTERVAL: Duration = Duration::from_secs(720 * HOUR);
const MAX_WARNING: Duration = Duration::from_secs(8760 * HOUR);
const MAX_VALIDITY: Duration = Duration::from_secs(17_520 * HOUR);

// === impl MicrosoftGraphCredential ===

impl MicrosoftGraphCredential {
    /// Its namespace; empty only for an object that did not come from an API server.
    pub fn namespace_name(&self) -> &str {
        self.metadata.namespace.as_deref().unwrap_or_default()
    }

    /// The name of the credential at the destination: `displayName`, or else `<namespace>/<name>`, truncated to the
    /// maximum length.
    pub fn remote_name(&self) -> String {
        let whole = match &self.spec.display_name {
            Some(name) => name.clone(),
            None => format!("{}/{}", self.namespace_name(), self.name_any()),
        };
        whole.chars().take(MAX_NAME_LENGTH).collect()
    }

    /// Namespace and name of the account in the spec; `None` for the store.
    pub fn account_name(&self) -> Option<AccountName> {
        let reference = &self.spec.woodpecker()?.account_ref;
        Some(AccountName {
            namespace: reference.namespace.as_deref().unwrap_or(self.namespace_name()).to_owned(),
            name: reference.name.clone(),
        })
    }

    /// Its status, or an unobserved one if the operator has not written any.
    pub fn status_or_default(&self) -> MicrosoftGraphCredentialStatus {
        self.status.clone().unwrap_or_else(|| MicrosoftGraphCredentialStatus {
            observed_generation: -1,
            ..Default::default()
        })
    }

    /// Whether a reconcile was requested by annotation and not handled yet.
    pub fn is_reconcile_requested(&self) -> bool {
        let handled = self.status.as_ref().and_then(|status| status.last_handled_reconcile_at.as_deref());
        self.reconcile_requested_at().is_some_and(|requested| Some(requested) != handled)
    }

    /// Whether it may create a credential at Woodpecker, and not only adopt one.
    pub fn may_create(&self) -> bool {
        self.spec.woodpecker().map(WoodpeckerDestination::adoption_policy) != Some(AdoptionPolicy::AdoptOnly)
    }

    /// Whether the condition Verified is True.
    pub fn is_verified(&self) -> bool {
        let conditions = self.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
        find(conditions, ConditionType::Verified)
            .is_some_and(|verified| verified.status == ConditionStatus::True)
    }

    /// The value of the annotation that requests a reconcile: the operator's, or else Flux's.
    pub fn reconcile_requested_at(&self) -> Option<&str> {
        let annotations = self.annotations();
        annotations
            .get(RECONCILE_REQUESTED_AT)
            .or_else(|| annotations.get(FLUX_RECONCILE_REQUESTED_AT))
            .map(String::as_str)
    }

    /// The value of the annotation that requests a new client secret.
    pub fn rotate_requested_at(&self) -> Option<&str> {
        self.annotations().get(ROTATE_REQUESTED_AT).map(String::as_str)
    }

    /// The overlap that the request of a new client secret sets.
    pub fn requested_overlap(&self) -> Option<KubeDuration> {
        self.annotations().get(ROTATE_OVERLAP)?.parse().ok()
    }

    /// How long the earlier client secret stays valid after this rotation: by its request, or else by the spec.
    pub fn overlap_of(&self, rotation: &RotationStatus) -> Duration {
        let requested = rotation.requested_overlap.as_ref();
        let requested = requested.and_then(|text| text.parse::<KubeDuration>().ok());
        requested.map_or_else(|| self.spec.rotation_overlap(), |it| it.get().min(MAX_INTERVAL))
    }

    /// IDs of client secrets that nothing records, and that a person asks to remove.
    pub fn unknown_secrets_to_remove(&self) -> Vec<&str> {
        let ids = self.annotations().get(REMOVE_UNKNOWN_SECRETS).map(String::as_str).unwrap_or_default();
        ids.split(',').map(str::trim).filter(|id| !id.is_empty()).collect()
    }

    /// Whether its deletion was requested.
    pub fn is_deleted(&self) -> bool {
        self.metadata.deletion_timestamp.is_some()
    }
}

// === impl MicrosoftGraphCredentialSpec ===

impl MicrosoftGraphCredentialSpec {
    /// The tenant's cloud.
    pub fn cloud(&self) -> Cloud {
        self.cloud.unwrap_or_default()
    }

    /// The settings of the destination Woodpecker; `None` for the store.
    pub fn woodpecker(&self) -> Option<&WoodpeckerDestination> {
        match &self.destination {
            Destination::Woodpecker(woodpecker) => Some(woodpecker),
            Destination::Store(_) => None,
        }
    }

    /// What happens at the destination on deletion.
    pub fn deletion_policy(&self) -> DeletionPolicy {
        self.deletion_policy.unwrap_or_default()
    }

    /// Whether it is suspended.
    pub fn is_suspended(&self) -> bool {
        self.suspend.unwrap_or(false)
    }

    /// How the secret is verified.
    pub fn verification_policy(&self) -> VerificationPolicy {
        self.verification.as_ref().and_then(|verification| verification.policy).unwrap_or_default()
    }

    /// What the expiry at Entra is used for; `None` without `spec.entra`.
    pub fn expiry_mode(&self) -> Option<ExpiryMode> {
        self.entra.as_ref().map(|entra| entra.expiry.unwrap_or_default())
    }

    /// Whether the expiry at Entra is used in place of a given one. That of a client secret which the operator creates is
    /// known from its creation.
    pub fn follows_entra(&self) -> bool {
        self.rotation.is_none() && self.expiry_mode() == Some(ExpiryMode::Follow)
    }

    /// How long a client secret that the operator creates is valid.
    pub fn rotation_validity(&self) -> Duration {
        self.rotation_setting(|rotation| rotation.validity.as_ref(), ROTATION_VALIDITY, MAX_VALIDITY)
    }

    /// How long before its expiry such a client secret is replaced.
    pub fn rotation_renew_before(&self) -> Duration {
        self.rotation_setting(|rotation| rotation.renew_before.as_ref(), ROTATION_RENEW_BEFORE, MAX_WARNING)
    }

    /// How long the earlier client secret stays valid.
    pub fn rotation_overlap(&self) -> Duration {
        self.rotation_setting(|rotation| rotation.overlap.as_ref(), ROTATION_OVERLAP, MAX_INTERVAL)
    }

    fn rotation_setting(
        &self,
        get: impl Fn(&Rotation) -> Option<&KubeDuration>,
        standard: Duration,
        most: Duration,
    ) -> Duration {
        self.rotation.as_deref().and_then(get).map_or(standard, KubeDuration::get).min(most)
    }

    /// How often a registered secret is verified again.
    pub fn verification_interval(&self) -> Duration {
        let interval = self.verification.as_ref().and_then(|verification| verification.interval.as_ref());
        interval.map_or(VERIFICATION_INTERVAL, KubeDuration::get).min(MAX_INTERVAL)
    }

    /// Application roles that the token must contain.
    pub fn required_roles(&self) -> &[String] {
        let roles =
            self.verification.as_ref().and_then(|verification| verification.required_roles.as_deref());
        roles.unwrap_or_default()
    }

    /// How long before the expiry `Expiring` becomes True.
    pub fn expiry_warning(&self) -> Duration {
        self.expiry_warning.as_ref().map_or(EXPIRY_WARNING, KubeDuration::get).min(MAX_WARNING)
    }
}

// === impl SecretRef ===

impl SecretRef {
    /// Key of the client secret; `client_secret` as in Woodpecker's API.
    pub fn client_secret_key(&self) -> &str {
        self.client_secret_key.as_deref().unwrap_or("client_secret")
    }

    /// Key of the expiry; `secret_expires_at` as in Woodpecker's API.
    pub fn expires_at_key(&self) -> &str {
        self.expires_at_key.as_deref().unwrap_or("secret_expires_at")
    }
}

// === impl Adoption ===

impl Adoption {
    /// Whether to adopt an existing credential or to create one.
    pub fn policy(&self) -> AdoptionPolicy {
        self.policy.unwrap_or_default()
    }
}

// === impl WoodpeckerDestination ===

impl WoodpeckerDestination {
    /// Whether to adopt an existing credential or to create one.
    pub fn adoption_policy(&self) -> AdoptionPolicy {
        self.adoption.as_ref().map(Adoption::policy).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::timestamp;

    #[test]
    fn the_default_name_is_truncated_to_the_maximum_length() {
        let object = |name: &str| -> MicrosoftGraphCredential {
            serde_json::from_value(json!({
                "apiVersion": "graph-credentials.io/v1alpha1", "kind": "MicrosoftGraphCredential",
                "metadata": {"namespace": "mail", "name": name},
                "spec": {
                    "tenantId": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32",
                    "clientId": "e1c6ac69-480e-4a17-9b85-3467967bd179",
                    "secretRef": {"name": "x"}, "destination": {"store": {}}
                }
            }))
            .unwrap()
        };
        assert_eq!(object("sales-eu").remote_name(), "mail/sales-eu");
        assert_eq!(object(&"x".repeat(253)).remote_name(), format!("mail/{}", "x".repeat(248)));
    }

    #[test]
    fn no_timestamp_of_an_object_overflows_with_its_durations() {
        let spec: MicrosoftGraphCredentialSpec = serde_json::from_value(json!({
            "tenantId": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32", "clientId": "e1c6ac69-480e-4a17-9b85-3467967bd179",
            "secretRef": {"name": "x"}, "destination": {"store": {}},
            "expiryWarning": "99999999h", "verification": {"interval": "99999999h"}
        }))
        .unwrap();
        let first = timestamp::parse("0000-01-01T00:00:00Z").unwrap();
        assert!(timestamp::LATEST.checked_add(spec.verification_interval()).is_ok());
        assert!(first.checked_sub(spec.expiry_warning()).is_ok());
    }
}
