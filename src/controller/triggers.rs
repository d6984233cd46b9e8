//! Turns a watch into requests for passes: only for changes that a pass could answer, so that our own
//! status writes do not wake us.

use std::collections::HashMap;
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
use tokio_util::sync::CancellationToken;

use super::context::Context;
use super::index::Named;
use super::scope::Scope;
use super::watches::Watch;
use crate::telemetry::logs::chain;

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
    /// How it ends.
    pub end: QueueEnd,
}

/// When a queue is over.
pub struct QueueEnd {
    stop: CancellationToken,
    /// Cancelled once the first list is complete.
    listed: CancellationToken,
}

/// Starts watching: keeps the store, tells the news, and asks for a pass where something that matters
/// changed or the object was called.
///
/// `kind` names what is watched, `queue` where its requests go, for metrics.
///
/// Each watch has its own back-off: one that fails for ever (for want of rights, say) delays no other.
pub fn prepare<K>(
    context: &Arc<Context>,
    (kind, queue): (&'static str, &'static str),
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
    let is_listed = listed.clone();
    let mut changed = Changes::default();
    let books = context.clone();
    let known = store.clone();
    let own = events(context, kind, &scope, writer).flat_map(move |event| {
        let mut wake = Vec::new();
        match &event {
            Event::Init => changed.begin_list(known.state()),
            Event::InitApply(object) | Event::Apply(object) => {
                if let Some(replaced) = changed.arrived(object) {
                    changed.forget(&replaced);
                    tell(&books, &News::Gone(&*replaced));
                }
                tell(&books, &News::Known(object));
                if changed.notice(object) {
                    wake.push(ObjectRef::from_obj(object));
                }
            }
            Event::Delete(object) => {
                changed.forget(object);
                tell(&books, &News::Gone(object));
            }
            Event::InitDone => {
                for gone in changed.end_list() {
                    changed.forget(&gone);
                    tell(&books, &News::Gone(&*gone));
                }
                listed.cancel();
                books.readiness.arrived(&gate);
            }
        }
        futures::stream::iter(changed.hold_back(&event, wake))
    });
    let calls = futures::stream::poll_fn(move |cx| inbox.poll_recv(cx));
    let (stop, metrics) = (context.stop.clone(), context.metrics.clone());
    let requests = futures::stream::select(own, calls)
        .map(move |object| {
            metrics.queues.woken(queue, &Named::of_reference(&object).to_string());
            Ok(ReconcileRequest::from(object))
        })
        .take_until(async move { stop.cancelled().await })
        .boxed();
    let end = QueueEnd { stop: context.stop.clone(), listed: is_listed };
    Prepared { store, requests, end }
}

// === impl QueueEnd ===

impl QueueEnd {
    /// Runs kube's queue to its end. Until the first list is complete it waits for that and would not end at all; no pass
    /// has begun by then, and nothing is cut off.
    pub async fn of(self, queue: impl Future<Output = ()>) {
        let never_began = async {
            self.stop.cancelled().await;
            if self.listed.is_cancelled() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = queue => {}
            () = never_began => {}
        }
    }
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
                    metrics.kubernetes.watch_failed(kind);
                    tracing::warn!(kind, error = chain(&error), "a watch failed and is tried again");
                    None
                }
            };
            std::future::ready(event)
        })
}

/// What was last seen of each object, by uid, so that only changes that matter wake it. The objects
/// themselves are in the store alone.
struct Changes<K: Resource<DynamicType = ()>> {
    seen: HashMap<String, u64>,
    /// While a list is under way: what the store held before and the list has not brought yet.
    missing: HashMap<Named, Arc<K>>,
    /// Objects to wake once the list under way is complete; nothing while there is none.
    held_back: Option<Vec<ObjectRef<K>>>,
}

impl<K: Resource<DynamicType = ()>> Default for Changes<K> {
    fn default() -> Self {
        Self { seen: HashMap::new(), missing: HashMap::new(), held_back: None }
    }
}

impl<K: Resource<DynamicType = ()>> Changes<K> {
    /// A list begins; the store still holds what was known `before`.
    fn begin_list(&mut self, before: Vec<Arc<K>>) {
        self.missing = before.into_iter().map(|object| (Named::of(&*object), object)).collect();
    }

    /// Keeps wake-ups until a list under way is complete: only then the store holds its objects, and a pass
    /// over an object that the store lacks would be dropped.
    fn hold_back(&mut self, event: &Event<K>, wake: Vec<ObjectRef<K>>) -> Vec<ObjectRef<K>> {
        match event {
            Event::Init => {
                self.held_back.get_or_insert_default();
                wake
            }
            Event::InitDone => self.held_back.take().unwrap_or_default(),
            Event::InitApply(_) | Event::Apply(_) | Event::Delete(_) => match &mut self.held_back {
                Some(held_back) => {
                    held_back.extend(wake);
                    Vec::new()
                }
                None => wake,
            },
        }
    }

    /// An object has come. Returns the one of the same name that it replaces: that was deleted and this one
    /// made while the watch was cut off.
    fn arrived(&mut self, object: &K) -> Option<Arc<K>> {
        let before = self.missing.remove(&Named::of(object))?;
        (before.meta().uid != object.meta().uid).then_some(before)
    }

    /// Whether the object is new or changed in what a pass looks at.
    fn notice(&mut self, object: &K) -> bool {
        let now = fingerprint(object);
        self.seen.insert(object.meta().uid.clone().unwrap_or_default(), now) != Some(now)
    }

    fn forget(&mut self, object: &K) {
        self.seen.remove(object.meta().uid.as_deref().unwrap_or_default());
    }

    /// The objects that a completed list does not hold any more: a watch that was cut off misses deletions.
    fn end_list(&mut self) -> Vec<Arc<K>> {
        std::mem::take(&mut self.missing).into_values().collect()
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

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;
    use serde_json::json;

    use super::*;

    fn object(uid: &str, generation: i64, labels: &serde_json::Value) -> Arc<ConfigMap> {
        let meta = json!({"name": uid, "uid": uid, "generation": generation, "labels": labels});
        Arc::new(serde_json::from_value(json!({"metadata": meta})).unwrap())
    }

    #[test]
    fn only_what_a_pass_looks_at_wakes_an_object() {
        let mut changes = Changes::default();
        assert!(changes.notice(&*object("a", 1, &json!({}))), "it is new");
        assert!(!changes.notice(&*object("a", 1, &json!({"x": "y"}))), "a label says nothing");
        assert!(changes.notice(&*object("a", 2, &json!({}))), "its spec changed");
    }

    #[test]
    fn what_a_list_lacks_is_gone() {
        let mut changes = Changes::default();
        let (a, b) = (object("a", 1, &json!({})), object("b", 1, &json!({})));
        changes.begin_list(vec![a.clone(), b.clone()]);
        assert_eq!(changes.arrived(&b), None, "it was known");
        assert_eq!(changes.end_list(), [a]);
        assert!(changes.end_list().is_empty(), "it is told once");
    }

    #[test]
    fn what_was_made_anew_under_its_name_replaces_the_one_that_is_gone() {
        let mut changes = Changes::default();
        let old = object("a", 1, &json!({}));
        let mut new = (*old).clone();
        new.metadata.uid = Some("another".into());
        changes.begin_list(vec![old.clone()]);
        assert_eq!(changes.arrived(&new), Some(old));
        assert!(changes.end_list().is_empty());
    }

    #[test]
    fn what_a_list_brings_is_woken_once_the_store_holds_it() {
        let mut changes = Changes::<ConfigMap>::default();
        let object = (*object("a", 1, &json!({}))).clone();
        let wake = || vec![ObjectRef::from_obj(&object)];
        assert_eq!(changes.hold_back(&Event::Apply(object.clone()), wake()), wake());
        assert!(changes.hold_back(&Event::Init, vec![]).is_empty());
        assert!(changes.hold_back(&Event::InitApply(object.clone()), wake()).is_empty());
        assert_eq!(changes.hold_back(&Event::InitDone, vec![]), wake());
        assert_eq!(changes.hold_back(&Event::Apply(object.clone()), wake()), wake());
    }
}
