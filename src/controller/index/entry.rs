//! An index entry: what is kept of an object of any kind.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use kube::Resource;
use kube::core::object::{HasSpec, HasStatus};
use kube::core::{DeserializeGuard, ObjectMeta};
use serde::de::DeserializeOwned;

use crate::api::NamespacedName;
use crate::controller::index::keys::{Key, Rank};
use crate::controller::index::table::{Moment, Table};
use crate::controller::index::{Due, Effects, Objects};
use crate::k8s::scope::Scope;

/// A kind that the index keeps in a table.
pub trait Indexed:
    Resource<DynamicType = ()> + HasSpec<Spec: DeserializeOwned> + HasStatus<Status: DeserializeOwned> + Clone
{
    /// State beside the object; deleted with it.
    type State: Default;
    /// What other objects depend on; the default is that of no object.
    type Facts: Default + PartialEq;

    fn from_parts(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self;
    fn table(objects: &mut Objects) -> &mut Table<Self>;
    fn facts(object: &DeserializeGuard<Self>, state: &Self::State) -> Self::Facts;
    /// The keys under which it is found, beside uid and name.
    fn keys(facts: &Self::Facts) -> Vec<(Key<'_>, Rank)>;
    /// Called before the object is replaced by `next`; `before` are its facts so far.
    fn before_replace(_state: &mut Self::State, _before: &Self::Facts, _next: &DeserializeGuard<Self>) {}
    /// Adds what follows from changed facts, except the deletion itself.
    fn effects_of_change(
        _all: &Table<Self>,
        _name: &NamespacedName,
        _before: &Self::Facts,
        _after: &Self::Facts,
        _: &mut Effects,
    ) {
    }
}

/// An object with its state.
pub struct Entry<K: Indexed> {
    pub object: Arc<DeserializeGuard<K>>,
    pub state: K::State,
    pub version: u64,
    /// When this version became known.
    pub at: Moment,
    /// The last version from the watch.
    pub watched: u64,
    /// When a list last contained it.
    pub listed: Moment,
    /// What its last reconcile was requested for.
    pub last_trigger: TriggerHash,
    /// Set if a reconcile is to be requested once the list in progress is complete.
    pub due: Option<Due>,
}

/// Hash of what a reconcile reads, except the status.
#[derive(Clone, Copy, Default, PartialEq)]
pub struct TriggerHash {
    /// Spec (by generation), annotations and deletion; 0 until the watch delivers the object.
    pub content: u64,
    pub finalizers: u64,
}

// === impl Entry ===

impl<K: Indexed> Entry<K> {
    pub fn uid(&self) -> &str {
        self.object.meta().uid.as_deref().unwrap_or_default()
    }

    pub fn facts(&self) -> K::Facts {
        K::facts(&self.object, &self.state)
    }

    pub fn name(&self) -> NamespacedName {
        NamespacedName::of(&*self.object)
    }

    pub fn is_in(&self, scope: &Scope) -> bool {
        scope.covers(self.object.meta().namespace.as_deref().unwrap_or_default())
    }

    pub fn is_named(&self, name: &NamespacedName) -> bool {
        let meta = self.object.meta();
        meta.name.as_deref() == Some(&name.name)
            && meta.namespace.as_deref().unwrap_or_default() == name.namespace
    }
}

// === impl TriggerHash ===

impl TriggerHash {
    pub fn of(object: &impl Resource) -> Self {
        let meta = object.meta();
        let content = (meta.generation, &meta.annotations, meta.deletion_timestamp.is_some());
        let hashes = BuildHasherDefault::<DefaultHasher>::default();
        Self { content: hashes.hash_one(content) | 1, finalizers: hashes.hash_one(&meta.finalizers) }
    }
}

pub fn uid_of(object: &impl Resource) -> Arc<str> {
    object.meta().uid.as_deref().unwrap_or_default().into()
}

/// Resource versions are increasing numbers. Source: Kubernetes API concepts, "Resource versions".
pub fn version_of(object: &impl Resource) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}
