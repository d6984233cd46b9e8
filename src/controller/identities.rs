//! The `EntraIdentity` objects of the operator's namespace, and which apps they may read for an object.

use kube::ResourceExt;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};

use crate::api::{EntraIdentity, MicrosoftGraphCredential, NamespacedName};
use crate::controller::context::Context;
use crate::core::app_reading::AppAccess;
use crate::entra::identity::IdentitySnapshot;
use crate::graph::AppReader;

/// The identities as the watch delivers them, and the reader that uses them.
pub struct Identities {
    reader: AppReader,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    is_listed: bool,
    /// Objects that were reconciled before the first list, and have to be reconciled after it.
    early: HashSet<NamespacedName>,
    /// By name; the flag is set while a list in progress has yet to contain the identity.
    identities: HashMap<String, (Identity, bool)>,
}

/// An identity as far as it can be read.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Identity {
    Valid(IdentitySnapshot),
    /// It does not match its schema, or is being deleted.
    Unusable,
}

/// What an event of the watch changed.
#[derive(Debug, Default)]
struct Changes {
    /// The names of identities.
    identities: Vec<String>,
    /// Objects that waited for the first list.
    early: HashSet<NamespacedName>,
}

// === impl Identities ===

impl Identities {
    pub fn new(reader: AppReader) -> Self {
        Self { reader, known: Mutex::default() }
    }

    /// Requeues the objects that use an identity that the event changed.
    pub fn on_watch_event(&self, context: &Context, event: &Event<DeserializeGuard<EntraIdentity>>) {
        let Changes { identities, early } = self.changes(event);
        let users = identities.iter().flat_map(|name| context.index.users_of_identity(name));
        for user in users.chain(early) {
            context.requeuer.credential(&user);
        }
    }

    /// Whether the app of the object may be read, by the grants of now; `None` without `spec.entra`.
    pub fn access(&self, object: &MicrosoftGraphCredential) -> Option<AppAccess> {
        let spec = &object.spec;
        let name = &spec.entra.as_ref()?.identity_ref.name;
        let mut known = self.known.lock();
        if !known.is_listed {
            known.early.insert(NamespacedName::of(object));
            return Some(AppAccess::NotKnown);
        }
        Some(match known.identities.get(name) {
            None => AppAccess::IdentityNotFound,
            Some((Identity::Unusable, _)) => AppAccess::IdentityInvalid,
            Some((Identity::Valid(identity), _))
                if !identity.is_granted(object.namespace_name(), &spec.tenant_id, &spec.client_id) =>
            {
                AppAccess::NotGranted
            }
            Some((Identity::Valid(identity), _)) if identity.cloud != spec.cloud() => AppAccess::OtherCloud,
            Some((Identity::Valid(_), _)) => AppAccess::Granted,
        })
    }

    /// The reader and the identity for the app of the object, if a grant allows to read it.
    pub fn granted(&self, object: &MicrosoftGraphCredential) -> Option<(AppReader, IdentitySnapshot)> {
        if self.access(object) != Some(AppAccess::Granted) {
            return None;
        }
        let name = &object.spec.entra.as_ref()?.identity_ref.name;
        match self.known.lock().identities.get(name)? {
            (Identity::Valid(identity), _) => Some((self.reader.clone(), identity.clone())),
            (Identity::Unusable, _) => None,
        }
    }

    /// What the event changed. The first list changes nothing: after a start, settled objects are not reconciled.
    fn changes(&self, event: &Event<DeserializeGuard<EntraIdentity>>) -> Changes {
        let Known { is_listed, early, identities } = &mut *self.known.lock();
        let changed: Vec<String> = match event {
            Event::Init => {
                for (_, is_missing) in identities.values_mut() {
                    *is_missing = true;
                }
                Vec::new()
            }
            Event::InitApply(object) | Event::Apply(object) => {
                let (name, identity) = (object.name_any(), Identity::of(object));
                let before = identities.insert(name.clone(), (identity.clone(), false));
                let is_changed = before.is_none_or(|(before, _)| before != identity);
                is_changed.then_some(name).into_iter().collect()
            }
            Event::Delete(object) => {
                let name = object.name_any();
                identities.remove(&name);
                vec![name]
            }
            Event::InitDone => {
                let missing = identities.extract_if(|_, (_, is_missing)| *is_missing);
                let missing = missing.map(|(name, _)| name).collect();
                if !std::mem::replace(is_listed, true) {
                    return Changes { identities: Vec::new(), early: std::mem::take(early) };
                }
                missing
            }
        };
        Changes { identities: if *is_listed { changed } else { Vec::new() }, early: HashSet::new() }
    }
}

// === impl Identity ===

impl Identity {
    fn of(object: &DeserializeGuard<EntraIdentity>) -> Self {
        match &object.0 {
            Ok(object) if object.metadata.deletion_timestamp.is_none() => {
                Self::Valid(IdentitySnapshot::of(object))
            }
            Ok(_) | Err(_) => Self::Unusable,
        }
    }
}
