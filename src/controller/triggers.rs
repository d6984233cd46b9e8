//! Follows the objects of a kind: keeps what is known of them, and wakes one only for changes that a pass could answer, so
//! that our own status writes do not.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use kube::Resource;
use kube::runtime::watcher::Event;
use serde::de::DeserializeOwned;

use super::context::Context;
use super::index::Named;
use super::scope::{Scope, prune};
use super::watches::Watch;
use crate::k8s::watch::Watched;

/// What happened to an object, for whoever keeps books on its kind.
#[derive(Debug)]
pub enum News<'a, K> {
    /// It is there, in this form.
    Known(&'a K),
    /// It is gone.
    Gone(&'a K),
}

/// What a kind makes of what happens to its objects.
pub struct Trigger<K> {
    /// The kind.
    pub kind: &'static str,
    /// Takes in the news.
    pub tell: fn(&Context, &News<'_, K>),
    /// Wakes an object that was changed in what a pass looks at, or is gone.
    pub wake: fn(&Context, Named),
    /// Wakes an object that is new to this process.
    pub wake_new: fn(&Context, Named),
}

/// Follows the objects of one scope until the controller stops: keeps the store, tells the news, and wakes.
pub async fn follow<K>(context: Arc<Context>, watch: Watch<K>, trigger: Trigger<K>)
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Send + Sync + 'static,
{
    let Watch { scope, store, mut writer, listed } = watch;
    let Trigger { kind, tell, wake, wake_new } = trigger;
    let watched = Watched::objects(kind, scope.namespace(), prune::<K>);
    let (watching, gate) = (context.watching(), gate(kind, &scope));
    let (mut changed, mut round) = (Changes::default(), context.relist.round());
    let follow = watching.follow(&watched, |event| {
        if matches!(event, Event::Init) {
            changed.begin_list(store.state());
            if std::mem::replace(&mut round, context.relist.round()) != context.relist.round() {
                changed.forget_all();
            }
        }
        writer.apply_watcher_event(&event);
        match &event {
            Event::Init => {}
            Event::InitApply(object) | Event::Apply(object) => {
                if let Some(replaced) = changed.arrived(object) {
                    changed.forget(&replaced);
                    tell(&context, &News::Gone(&*replaced));
                }
                tell(&context, &News::Known(object));
                match changed.notice(object) {
                    Some(Change::New) => changed.wakes.push((wake_new, Named::of_meta(object.meta()))),
                    Some(Change::Changed) => changed.wakes.push((wake, Named::of_meta(object.meta()))),
                    None => {}
                }
            }
            Event::Delete(object) => {
                changed.forget(object);
                tell(&context, &News::Gone(object));
                changed.wakes.push((wake, Named::of_meta(object.meta())));
            }
            Event::InitDone => {
                for gone in changed.end_list() {
                    changed.forget(&gone);
                    tell(&context, &News::Gone(&*gone));
                    changed.wakes.push((wake, Named::of_meta(gone.meta())));
                }
                listed.cancel();
                context.readiness.arrived(&gate);
            }
        }
        // The store holds what a list brings once that is complete.
        if !matches!(event, Event::Init | Event::InitApply(_)) {
            changed.wakes.drain(..).for_each(|(wake, object)| wake(&context, object));
        }
    });
    let _stopped = context.stop.run_until_cancelled(follow).await;
}

/// The name under which readiness waits for the first list of a kind in a scope.
pub fn gate(kind: &str, scope: &Scope) -> String {
    match scope {
        Scope::All => format!("the first list of {kind}s"),
        Scope::Namespace(name) => format!("the first list of {kind}s in namespace {name}"),
    }
}

/// What was last seen of each object, by uid, so that only changes that matter wake it. The objects
/// themselves are in the store alone.
struct Changes<K: Resource<DynamicType = ()>> {
    seen: HashMap<String, u64>,
    /// While a list is under way: what the store held before and the list has not brought yet.
    missing: HashMap<Named, Arc<K>>,
    /// Objects to wake, and how, once the list under way is complete.
    wakes: Vec<(fn(&Context, Named), Named)>,
}

/// How an object changed in what a pass looks at.
#[derive(Debug, PartialEq, Eq)]
enum Change {
    /// It is new to this process.
    New,
    Changed,
}

impl<K: Resource<DynamicType = ()>> Default for Changes<K> {
    fn default() -> Self {
        Self { seen: HashMap::new(), missing: HashMap::new(), wakes: Vec::new() }
    }
}

impl<K: Resource<DynamicType = ()>> Changes<K> {
    /// A list begins; the store still holds what was known `before`.
    fn begin_list(&mut self, before: Vec<Arc<K>>) {
        self.missing = before.into_iter().map(|object| (Named::of_meta(object.meta()), object)).collect();
    }

    /// An object has come. Returns the one of the same name that it replaces: that was deleted and this one
    /// made while the watch was cut off.
    fn arrived(&mut self, object: &K) -> Option<Arc<K>> {
        let before = self.missing.remove(&Named::of_meta(object.meta()))?;
        (before.meta().uid != object.meta().uid).then_some(before)
    }

    /// Whether the object is new or changed in what a pass looks at.
    fn notice(&mut self, object: &K) -> Option<Change> {
        let now = fingerprint(object);
        match self.seen.insert(object.meta().uid.clone().unwrap_or_default(), now) {
            None => Some(Change::New),
            Some(before) => (before != now).then_some(Change::Changed),
        }
    }

    /// The cluster was restored to an earlier state: each object counts as changed.
    fn forget_all(&mut self) {
        self.seen.values_mut().for_each(|seen| *seen = !*seen);
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
        assert_eq!(changes.notice(&*object("a", 1, &json!({}))), Some(Change::New));
        assert_eq!(changes.notice(&*object("a", 1, &json!({"x": "y"}))), None, "a label says nothing");
        assert_eq!(changes.notice(&*object("a", 2, &json!({}))), Some(Change::Changed), "its spec changed");
    }

    #[test]
    fn after_a_restore_every_object_counts_as_changed() {
        let mut changes = Changes::default();
        changes.notice(&*object("a", 1, &json!({})));
        changes.forget_all();
        assert_eq!(changes.notice(&*object("a", 1, &json!({}))), Some(Change::Changed));
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
}
