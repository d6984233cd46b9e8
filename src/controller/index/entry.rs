//! What is kept of an object, whatever its kind.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;

use kube::Resource;
use kube::core::object::{HasSpec, HasStatus};
use kube::core::{DeserializeGuard, ObjectMeta};
use serde::de::DeserializeOwned;

use super::keys::{Key, Rank};
use super::table::{Moment, Table};
use super::{Due, Effects, Named, Objects};
use crate::controller::scope::Scope;

/// A kind of objects that are kept in a table.
pub trait Kept:
    Resource<DynamicType = ()> + HasSpec<Spec: DeserializeOwned> + HasStatus<Status: DeserializeOwned> + Clone
{
    /// What is known of an object beside itself; it ends with it.
    type State: Default;
    /// What of an object others depend on; by default that of none.
    type Facts: Default + PartialEq;

    fn of_parts(metadata: ObjectMeta, spec: Self::Spec, status: Option<Self::Status>) -> Self;
    fn table(objects: &mut Objects) -> &mut Table<Self>;
    /// What others depend on.
    fn facts(object: &DeserializeGuard<Self>, state: &Self::State) -> Self::Facts;
    /// What it is found by, beside uid and name.
    fn keys(facts: &Self::Facts) -> Vec<(Key<'_>, Rank)>;
    /// The object is about to be replaced by this one, before which those were the facts.
    fn succeed(_state: &mut Self::State, _before: &Self::Facts, _next: &DeserializeGuard<Self>) {}
    /// What follows from other facts, beside an object being gone.
    fn conclude(
        _all: &Table<Self>,
        _name: &Named,
        _before: &Self::Facts,
        _after: &Self::Facts,
        _: &mut Effects,
    ) {
    }
}

/// An object with what is known of it.
pub struct Entry<K: Kept> {
    pub object: Arc<DeserializeGuard<K>>,
    pub state: K::State,
    pub version: u64,
    /// When this version became known.
    pub at: Moment,
    /// The version that the watch has brought last.
    pub watched: u64,
    /// When a list has brought it last.
    pub listed: Moment,
    /// What it was woken for last.
    pub woken: Fingerprint,
    /// Whether it is to be woken once the list under way is complete.
    pub due: Option<Due>,
}

/// What a reconcile looks at, but for the status.
#[derive(Clone, Copy, Default, PartialEq)]
pub struct Fingerprint {
    /// Spec (by generation), annotations and deletion; 0 before the watch has shown the object.
    pub content: u64,
    pub finalizers: u64,
}

// === impl Entry ===

impl<K: Kept> Entry<K> {
    pub fn uid(&self) -> &str {
        self.object.meta().uid.as_deref().unwrap_or_default()
    }

    pub fn facts(&self) -> K::Facts {
        K::facts(&self.object, &self.state)
    }

    pub fn name(&self) -> Named {
        Named::of(&*self.object)
    }

    pub fn is_in(&self, scope: &Scope) -> bool {
        scope.covers(self.object.meta().namespace.as_deref().unwrap_or_default())
    }

    pub fn is_named(&self, name: &Named) -> bool {
        let meta = self.object.meta();
        meta.name.as_deref() == Some(&name.name)
            && meta.namespace.as_deref().unwrap_or_default() == name.namespace
    }
}

// === impl Fingerprint ===

impl Fingerprint {
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

/// Versions are numbers that grow. Source: Kubernetes' API concepts, "Resource versions".
pub fn version_of(object: &impl Resource) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}
