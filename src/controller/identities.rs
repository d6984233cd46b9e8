//! Which apps may be read for an object, by the grants of the `EntraIdentity` that it names.

use std::collections::HashSet;

use parking_lot::Mutex;

use crate::api::{EntraIdentity, MicrosoftGraphCredential, NamespacedName};
use crate::controller::context::Context;
use crate::controller::error::{ReconcileError, Result};
use crate::core::app_reading::AppAccess;
use crate::core::grants;
use crate::entra::identity::IdentitySnapshot;
use crate::graph::{AppReader, AppWriter};

/// Decides about the access to apps, and has the reader and the writer that need it.
pub struct Identities {
    pub reader: AppReader,
    pub writer: AppWriter,
    /// Objects that were reconciled before the first list of identities, and have to be reconciled after it. `None` after
    /// it.
    early: Mutex<Option<HashSet<NamespacedName>>>,
}

/// What a GET of an identity says about the app of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LiveAccess {
    Granted(IdentitySnapshot),
    Denied(AppAccess),
}

// === impl Identities ===

impl Identities {
    pub fn new(reader: AppReader, writer: AppWriter) -> Self {
        Self { reader, writer, early: Mutex::new(Some(HashSet::new())) }
    }

    /// After the first list, requeues the objects that waited for it, and those whose status contradicts their access:
    /// the identity changed while no replica led. Settled objects are not reconciled.
    pub fn on_listed(&self, context: &Context) {
        let Some(early) = self.early.lock().take() else { return };
        for own in early.into_iter().chain(context.index.contradicting_identities()) {
            context.requeuer.credential(&own);
        }
    }

    /// Whether the app of the object may be read, as far as is known; `None` without `spec.entra`. Before a request,
    /// [`Self::read_access`] decides.
    pub fn access(&self, context: &Context, object: &MicrosoftGraphCredential) -> Option<AppAccess> {
        let mut early = self.early.lock();
        let access = context.index.app_access(object);
        if access == Some(AppAccess::NotKnown)
            && let Some(early) = &mut *early
        {
            early.insert(NamespacedName::of(object));
        }
        access
    }

    /// Reads the identity of the object, and decides by the grants that it has now. The watch may not have shown yet that
    /// a grant is gone.
    pub async fn read_access(
        &self,
        context: &Context,
        object: &MicrosoftGraphCredential,
    ) -> Result<LiveAccess> {
        let known = self.access(context, object).unwrap_or(AppAccess::NotGranted);
        let (Some(namespace), Some(entra)) = (&context.identity_namespace, &object.spec.entra) else {
            return Ok(LiveAccess::Denied(known));
        };
        if known == AppAccess::NotKnown {
            return Ok(LiveAccess::Denied(known));
        }
        let name = NamespacedName { namespace: namespace.clone(), name: entra.identity_ref.name.clone() };
        let identity = match context.read::<EntraIdentity>(&name).await {
            Ok(identity) => identity,
            // It does not match its schema.
            Err(kube::Error::SerdeError(_)) => None,
            Err(error) => return Err(ReconcileError::ReadIdentity(error)),
        };
        let access = grants::access(identity.as_ref(), object);
        Ok(match identity.filter(|_| access == AppAccess::Granted) {
            Some(identity) => LiveAccess::Granted(IdentitySnapshot::of(&identity)),
            None => LiveAccess::Denied(access),
        })
    }
}
