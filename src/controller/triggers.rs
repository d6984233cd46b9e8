//! Turns a watch into requests for passes: only for changes that a pass could answer, so that our own
//! status writes do not wake us.

use crate::telemetry::logs::chain;
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use futures::{Stream, StreamExt};
use kube::core::NamespaceResourceScope;
use kube::runtime::controller::ReconcileRequest;
use kube::runtime::reflector::{ObjectRef, Store, store::Writer};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Resource, ResourceExt};
use serde::de::DeserializeOwned;

use super::context::Context;
use super::scope::Scope;
use super::watches::Watch;

/// What happened to an object, for whoever keeps books on its kind.
#[derive(Debug)]
pub enum News<'a, K> {
    /// It is there, in this form.
    Known(&'a K),
    /// It is gone.
    Gone(&'a K),
}

/// A watch that is ready to be run.
pub struct Prepared<K: Resource<DynamicType = ()> + 'static> {
    /// The objects known.
    pub store: Store<K>,
    /// Requests for passes; ends when the controller stops.
    pub requests: futures::stream::BoxStream<'static, Result<ReconcileRequest<K>, std::convert::Infallible>>,
}

/// Starts watching: keeps the store, tells the news, and asks for a pass where something that matters
/// changed or the object was called.
///
/// Each watch has its own back-off: one that fails for ever (for want of rights, say) delays no other.
pub fn prepare<K>(
    context: &Arc<Context>,
    kind: &'static str,
    watch: Watch<K>,
    mut tell: impl FnMut(&Context, &News<'_, K>) + Send + 'static,
) -> Prepared<K>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let Watch { scope, store, writer, mut inbox, listed } = watch;
    let gate = gate(kind, &scope);
    let mut changed = Changes::default();
    let books = context.clone();
    let own = events(context, kind, &scope, writer).filter_map(move |event| {
        let mut wake = None;
        match &event {
            Event::Init => changed.begin_list(),
            Event::InitApply(object) | Event::Apply(object) => {
                tell(&books, &News::Known(object));
                if changed.notice(object) {
                    wake = Some(ObjectRef::from_obj(object));
                }
            }
            Event::Delete(object) => {
                changed.forget(object);
                tell(&books, &News::Gone(object));
            }
            Event::InitDone => {
                for gone in changed.end_list() {
                    tell(&books, &News::Gone(&gone));
                }
                listed.cancel();
                books.readiness.arrived(&gate);
            }
        }
        std::future::ready(wake)
    });
    let calls = futures::stream::poll_fn(move |cx| inbox.poll_recv(cx));
    let stop = context.stop.clone();
    let requests = futures::stream::select(own, calls)
        .map(|object| Ok(ReconcileRequest::from(object)))
        .take_until(async move { stop.cancelled().await })
        .boxed();
    Prepared { store, requests }
}

/// The name under which readiness waits for the first list of a kind in a scope.
pub fn gate(kind: &str, scope: &Scope) -> String {
    match scope {
        Scope::All => format!("the first list of {kind}s"),
        Scope::Namespace(name) => format!("the first list of {kind}s in namespace {name}"),
    }
}

/// The watch itself: errors are counted and logged, its own back-off waits between attempts, what decisions
/// do not need is pruned before it is stored.
fn events<K>(
    context: &Arc<Context>,
    kind: &'static str,
    scope: &Scope,
    writer: Writer<K>,
) -> impl Stream<Item = Event<K>> + Send + 'static
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug
        + Send
        + Sync
        + 'static,
{
    let idle = u32::try_from(context.rules.timing.watch_idle.as_secs()).unwrap_or(u32::MAX).clamp(1, 290);
    let config = watcher::Config::default().timeout(idle).page_size(500);
    let metrics = context.metrics.clone();
    watch(scope.api::<K>(&context.client), config)
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .filter_map(move |event| {
            let event = match event {
                Ok(event) => Some(event),
                Err(error) => {
                    metrics.watch_error(kind);
                    tracing::warn!(kind, error = chain(&error), "a watch failed and is tried again");
                    None
                }
            };
            std::future::ready(event)
        })
}

/// What was last seen of each object, so that only changes that matter wake it.
struct Changes<K> {
    seen: HashMap<String, (u64, K)>,
    listing: Option<HashSet<String>>,
}

impl<K> Default for Changes<K> {
    fn default() -> Self {
        Self { seen: HashMap::new(), listing: None }
    }
}

impl<K: Resource<DynamicType = ()> + Clone> Changes<K> {
    fn begin_list(&mut self) {
        self.listing = Some(HashSet::new());
    }

    /// Whether the object is new or changed in what a pass looks at.
    fn notice(&mut self, object: &K) -> bool {
        let uid = object.uid().unwrap_or_default();
        if let Some(listing) = &mut self.listing {
            listing.insert(uid.clone());
        }
        let now = fingerprint(object);
        let before = self.seen.insert(uid, (now, object.clone()));
        before.is_none_or(|(before, _)| before != now)
    }

    fn forget(&mut self, object: &K) {
        self.seen.remove(&object.uid().unwrap_or_default());
    }

    /// The objects that a completed list does not hold any more.
    fn end_list(&mut self) -> Vec<K> {
        let Some(listing) = self.listing.take() else { return Vec::new() };
        let gone: Vec<String> = self.seen.keys().filter(|uid| !listing.contains(*uid)).cloned().collect();
        gone.iter().filter_map(|uid| self.seen.remove(uid)).map(|(_, object)| object).collect()
    }
}

/// Spec (by generation), annotations, finalizers and deletion; not the status.
fn fingerprint<K: Resource>(object: &K) -> u64 {
    let meta = object.meta();
    let mut hasher = DefaultHasher::new();
    meta.generation.hash(&mut hasher);
    meta.annotations.hash(&mut hasher);
    meta.finalizers.hash(&mut hasher);
    meta.deletion_timestamp.is_some().hash(&mut hasher);
    hasher.finish()
}
