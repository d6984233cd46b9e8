//! Watches the metadata of the store's records and wakes whose record was changed or removed. Nothing is stored but
//! what tells one generation from another.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use futures::StreamExt;
use kube::ResourceExt;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};

use crate::controller::context::Context;
use crate::controller::index::Named;
use crate::controller::scope::Scope;
use crate::resources::SealedGraphCredential;
use crate::telemetry::logs::chain;

/// The kind of what is watched.
const KIND: &str = "SealedGraphCredential";

type RecordMeta = PartialObjectMeta<SealedGraphCredential>;

/// Watches the records of one scope until the controller stops. An operator that may not do so serves Woodpecker all
/// the same, and looks at each record when its object has a pass.
pub async fn run(context: Arc<Context>, scope: Scope) {
    let idle = u32::try_from(context.rules.timing.watch_idle.as_secs()).unwrap_or(u32::MAX).clamp(1, 290);
    let config = watcher::Config::default().timeout(idle).page_size(500);
    let stream = watch_objects(scope.api::<RecordMeta>(&context.client), config).default_backoff();
    let mut stream = std::pin::pin!(stream.take_until(context.stop.cancelled()));
    let mut seen = Seen::default();
    let mut is_told = false;
    while let Some(event) = stream.next().await {
        match event {
            Ok(event) => {
                is_told = false;
                for record in seen.note(event) {
                    for owner in context.index.credentials_sealed_in(&record) {
                        context.calls.credential(&owner.namespace, &owner.name);
                    }
                }
            }
            // Whoever does not use the store need not grant it.
            Err(error) if is_forbidden(&error) => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::info!(
                        kind = KIND,
                        "may not be watched: records are looked at in their objects' passes alone"
                    );
                }
            }
            Err(error) => {
                context.metrics.kubernetes.watch_failed(KIND);
                tracing::warn!(kind = KIND, error = chain(&error), "a watch failed and is tried again");
            }
        }
    }
}

fn is_forbidden(error: &watcher::Error) -> bool {
    match error {
        watcher::Error::InitialListFailed(kube::Error::Api(answer))
        | watcher::Error::WatchStartFailed(kube::Error::Api(answer))
        | watcher::Error::WatchError(answer) => answer.is_forbidden(),
        _ => false,
    }
}

/// The records known, by what tells their versions apart.
#[derive(Default)]
struct Seen {
    versions: HashMap<Named, Version>,
    /// While a list is under way: what it has not brought yet.
    missing: HashSet<Named>,
}

/// Uid and generation: a write of the status is no news.
#[derive(PartialEq)]
struct Version {
    uid: Option<String>,
    generation: Option<i64>,
}

// === impl Seen ===

impl Seen {
    /// The records that are new, changed or gone by that event.
    fn note(&mut self, event: Event<RecordMeta>) -> Vec<Named> {
        match event {
            Event::Init => {
                self.missing = self.versions.keys().cloned().collect();
                Vec::new()
            }
            Event::InitApply(record) | Event::Apply(record) => {
                let name = Named::of(&record);
                self.missing.remove(&name);
                let version = Version { uid: record.uid(), generation: record.metadata.generation };
                let before = self.versions.get(&name);
                let is_news = before != Some(&version);
                self.versions.insert(name.clone(), version);
                is_news.then_some(name).into_iter().collect()
            }
            Event::Delete(record) => {
                let name = Named::of(&record);
                self.versions.remove(&name);
                vec![name]
            }
            Event::InitDone => {
                let gone: Vec<Named> = self.missing.drain().collect();
                for name in &gone {
                    self.versions.remove(name);
                }
                gone
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(name: &str, uid: &str, generation: i64) -> RecordMeta {
        let meta = json!({"name": name, "namespace": "mail", "uid": uid, "generation": generation});
        serde_json::from_value(json!({"metadata": meta})).unwrap()
    }

    fn named(name: &str) -> Named {
        Named { namespace: "mail".into(), name: name.into() }
    }

    #[test]
    fn what_changed_or_went_is_told_and_nothing_else() {
        let mut seen = Seen::default();
        assert_eq!(seen.note(Event::Apply(record("a", "1", 1))), [named("a")], "it is new");
        assert!(seen.note(Event::Apply(record("a", "1", 1))).is_empty(), "its status changed");
        assert_eq!(seen.note(Event::Apply(record("a", "1", 2))), [named("a")], "its spec changed");
        assert_eq!(seen.note(Event::Apply(record("a", "2", 1))), [named("a")], "it was made anew");
        assert_eq!(seen.note(Event::Delete(record("a", "2", 1))), [named("a")], "it is gone");
    }

    #[test]
    fn what_happened_while_the_watch_was_cut_off_is_told_by_the_next_list() {
        let mut seen = Seen::default();
        for name in ["a", "b", "c"] {
            seen.note(Event::Apply(record(name, "1", 1)));
        }
        assert!(seen.note(Event::Init).is_empty());
        assert!(seen.note(Event::InitApply(record("a", "1", 1))).is_empty(), "nothing happened to it");
        assert_eq!(seen.note(Event::InitApply(record("b", "1", 2))), [named("b")]);
        assert_eq!(seen.note(Event::InitDone), [named("c")]);
        assert!(seen.note(Event::Init).is_empty() && seen.note(Event::InitDone).len() == 2);
    }
}
