//! What the index keeps of an `EntraIdentity`, and which credentials a change of one concerns. They refer to it by name
//! alone, so it has no keys.

use kube::core::{DeserializeGuard, ObjectMeta};

use crate::api::{EntraIdentity, MicrosoftGraphCredential, NamespacedName, RotationStatus, TenantId};
use crate::controller::identity::IdentityState;
use crate::controller::index::entry::{Entry, Indexed};
use crate::controller::index::keys::{Key, Rank};
use crate::controller::index::table::Table;
use crate::controller::index::{Effects, Index, Objects};
use crate::core::app_reading::AppAccess;
use crate::core::{expiry_confirmed, grants};
use crate::entra::identity::IdentitySnapshot;
use crate::k8s::scope::Scope;

/// What credentials depend on: how the identity signs in and its grants, and whether it is being deleted. `None` if it
/// does not match its schema.
pub type Facts = Option<(IdentitySnapshot, bool)>;

impl Indexed for EntraIdentity {
    type State = IdentityState;
    type Facts = Facts;

    fn from_parts(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self {
        Self { metadata, spec, status }
    }

    fn table(objects: &mut Objects) -> &mut Table<Self> {
        &mut objects.identities
    }

    fn facts(object: &DeserializeGuard<Self>, _state: &IdentityState) -> Facts {
        let object = object.0.as_ref().ok()?;
        Some((IdentitySnapshot::of(object), object.metadata.deletion_timestamp.is_some()))
    }

    fn keys(_facts: &Facts) -> Vec<(Key<'_>, Rank)> {
        Vec::new()
    }

    /// The first list changes nothing: after a start, settled objects are not reconciled.
    fn effects_of_change(
        all: &Table<Self>,
        name: &NamespacedName,
        _before: &Facts,
        _after: &Facts,
        effects: &mut Effects,
    ) {
        if all.is_listed() {
            effects.identities.push(name.name.clone());
        }
    }
}

// === impl Index ===

impl Index {
    /// The same with the identities of a namespace.
    #[must_use]
    pub fn with_identities(mut self, namespace: String) -> Self {
        let objects = self.objects.get_mut();
        objects.identities = Table::new(&[Scope::Namespace(namespace.clone())]);
        objects.identity_namespace = Some(namespace);
        self
    }

    /// Whether the app of the object may be read, by what is known of the identity; `None` without `spec.entra`.
    pub fn app_access(&self, object: &MicrosoftGraphCredential) -> Option<AppAccess> {
        self.objects().app_access(object)
    }

    /// The credentials in these tenants that a change of their `EntraIdentity` concerns: those whose status contradicts what
    /// is known of it, and those whose app could not be read, which is read again at once.
    pub fn concerned_by_identity(
        &self,
        name: &str,
        is_concerned: impl Fn(&TenantId) -> bool,
    ) -> Vec<NamespacedName> {
        let objects = &mut *self.objects();
        let mut concerned = Vec::new();
        for entry in objects.credentials.find(&Key::Identity(name)) {
            let Ok(object) = &entry.object.0 else { continue };
            let status = object.status.as_ref();
            let reading = status.and_then(|status| status.entra.as_ref()?.consecutive_failures);
            let rotation = status.and_then(|status| status.rotation.as_ref()?.consecutive_failures);
            let has_failed = reading.or(rotation).is_some();
            if is_concerned(&object.spec.tenant_id) && (has_failed || objects.contradicts_identity(object)) {
                concerned.push((entry.uid().to_owned(), entry.name(), has_failed));
            }
        }
        for (uid, ..) in concerned.iter().filter(|(_, _, has_failed)| *has_failed) {
            if let Some(entry) = objects.credentials.by_uid_mut(uid) {
                entry.state.is_reading_requested = true;
            }
        }
        concerned.into_iter().map(|(_, name, _)| name).collect()
    }

    /// Whether credentials create client secrets with the identity, or still have some at Entra.
    pub fn needs_identity_for_deletion(&self, name: &str) -> bool {
        let objects = self.objects();
        objects.credentials.find(&Key::Identity(name)).any(|entry| {
            let rotates = |object: &MicrosoftGraphCredential| object.spec.rotation.is_some();
            entry.object.0.as_ref().is_ok_and(|object| rotates(object) || has_secrets(object))
        })
    }

    /// Whether credentials of the identity have client secrets at Entra.
    pub fn has_secrets_of_identity(&self, name: &str) -> bool {
        let objects = self.objects();
        let mut entries = objects.credentials.find(&Key::Identity(name));
        entries.any(|entry| entry.object.0.as_ref().is_ok_and(has_secrets))
    }

    /// Whether credentials do not match their schema, so that it is not known which identities they need.
    pub fn has_invalid_credentials(&self) -> bool {
        self.objects().credentials.entries().any(|entry| entry.object.0.is_err())
    }

    /// Whether the status of the object contradicts what is known of its identity.
    pub fn contradicts_identity(&self, object: &MicrosoftGraphCredential) -> bool {
        self.objects().contradicts_identity(object)
    }

    /// The credentials whose status contradicts what is known of their identities.
    pub fn contradicting_identities(&self) -> Vec<NamespacedName> {
        let objects = self.objects();
        let contradicts = |entry: &&Entry<MicrosoftGraphCredential>| {
            entry.object.0.as_ref().is_ok_and(|object| objects.contradicts_identity(object))
        };
        objects.credentials.entries().filter(contradicts).map(Entry::name).collect()
    }
}

fn has_secrets(object: &MicrosoftGraphCredential) -> bool {
    let rotation = object.status.as_ref().and_then(|status| status.rotation.as_deref());
    rotation.is_some_and(RotationStatus::has_secrets)
}

// === impl Objects ===

impl Objects {
    /// Whether the app of the object may be read; `None` without `spec.entra`.
    pub(super) fn app_access(&self, object: &MicrosoftGraphCredential) -> Option<AppAccess> {
        let name = object.spec.entra.as_ref()?.identity_ref.name.clone();
        let Some(namespace) = self.identity_namespace.clone() else {
            return Some(AppAccess::NotGranted);
        };
        if !self.identities.is_listed() {
            return Some(AppAccess::NotKnown);
        }
        let identity = self.identities.by_name(&NamespacedName { namespace, name });
        let valid = identity.and_then(|entry| entry.object.0.as_ref().ok());
        Some(grants::access(valid, object))
    }

    /// Whether the condition of the object says something else than its access now.
    fn contradicts_identity(&self, object: &MicrosoftGraphCredential) -> bool {
        let status = object.status.as_ref().filter(|_| !object.is_deleted() && !object.spec.is_suspended());
        let access = self.app_access(object);
        access.zip(status).is_some_and(|(access, status)| expiry_confirmed::contradicts(status, &access))
    }
}
