//! Ownership of the records that belong to custom resources: which object owns a record, and which objects are requeued
//! if it changes. Only record versions are kept.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use parking_lot::Mutex;

use crate::api::{NamespacedName, ObservedRecord, SealedGraphCredential};
use crate::controller::context::Context;
use crate::controller::record::RecordObserver;
use crate::controller::version::Version;
use crate::k8s::scope::Scope;
use crate::store::key_usage::ParsedRecord;

pub use crate::store::repository::{read, remove};

/// Annotation on a record: uid of the object whose secret was last encrypted into it. A deleted object deletes a record
/// that its status does not mention only if this is its uid.
const SEALED_FOR: &str = "graph-credentials.io/sealed-for";

/// The records that the watches have delivered; none if they may not be watched.
#[derive(Debug, Default)]
pub struct KnownRecords(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// The flag is set while a list in progress has yet to contain the record.
    versions: HashMap<NamespacedName, (Version, bool)>,
    /// The scopes that were listed.
    listed: HashSet<Scope>,
    /// What this process has written, until the watch delivers that record.
    written: HashMap<NamespacedName, Version>,
}

/// The uid of the object whose secret was last encrypted into the record.
pub fn owner_uid(record: &SealedGraphCredential) -> Option<&str> {
    record.annotations().get(SEALED_FOR).map(String::as_str)
}

pub fn set_owner_uid(record: &mut SealedGraphCredential, uid: &str) {
    record.annotations_mut().insert(SEALED_FOR.to_owned(), uid.to_owned());
}

/// Feeds the record controller's watch events to the owners. An operator that may not watch records still serves
/// Woodpecker, and reads each record when it reconciles its object.
pub fn observer(context: Arc<Context>) -> RecordObserver {
    Arc::new(move |scope, event| {
        for record in context.records.on_watch_event(scope, event) {
            requeue_owners(&context, &record);
        }
        if matches!(event, Event::InitDone) && context.records.mark_listed(scope) {
            requeue_owners_without_record(&context, scope);
        }
    })
}

/// Requeues the owners of the record, unless their status is of this version. So the first list after a start requeues
/// nothing if it agrees with the status.
fn requeue_owners(context: &Context, record: &NamespacedName) {
    let known = context.records.known_record(record);
    for owner in context.index.owners_of_record(record) {
        let observed = observed_version(context, &owner);
        if !observed.zip(known).is_some_and(|(observed, now)| now == Version::of_observed_record(&observed)) {
            context.requeuer.credential(&owner);
        }
    }
}

/// After the first list: it lacks records that were deleted while no process watched.
fn requeue_owners_without_record(context: &Context, scope: &Scope) {
    for (owner, record) in context.index.records() {
        if scope.covers(&owner.namespace)
            && context.records.known_record(&record).is_none()
            && observed_version(context, &owner).is_some()
        {
            context.requeuer.credential(&owner);
        }
    }
}

/// The version of its record that an object's status is of.
fn observed_version(context: &Context, owner: &NamespacedName) -> Option<ObservedRecord> {
    let known = context.latest(owner)?;
    known.0.as_ref().ok()?.status.as_ref()?.observed_record.as_deref().cloned()
}

// === impl KnownRecords ===

impl KnownRecords {
    /// Whether the records of the namespace have been listed since the start.
    pub fn are_listed_in(&self, namespace: &str) -> bool {
        self.0.lock().listed.iter().any(|scope| scope.covers(namespace))
    }

    /// Marks the records of a scope as listed. Returns whether it was for the first time.
    fn mark_listed(&self, scope: &Scope) -> bool {
        self.0.lock().listed.insert(scope.clone())
    }

    /// The version of a record that exists, as far as is known.
    pub fn known_record(&self, record: &NamespacedName) -> Option<Version> {
        self.0.lock().versions.get(record).map(|(version, _)| *version)
    }

    /// Records a version that this process has written, so that the watch event with it counts as no change. If nothing
    /// is watched, nothing is kept.
    pub fn on_written(&self, record: &SealedGraphCredential) {
        let (name, version, mut known) =
            (NamespacedName::of(record), Version::of_record(record.meta()), self.0.lock());
        let is_watched = known.listed.iter().any(|scope| scope.covers(&name.namespace));
        let was_brought = known.versions.get(&name).is_some_and(|(seen, _)| *seen == version);
        if is_watched && !was_brought {
            known.written.insert(name, version);
        }
    }

    /// The records of a scope that the event created, changed or deleted.
    fn on_watch_event(&self, scope: &Scope, event: &Event<ParsedRecord>) -> Vec<NamespacedName> {
        let Known { versions, written, .. } = &mut *self.0.lock();
        match event {
            Event::Init => {
                for (record, (_, is_missing)) in versions.iter_mut() {
                    *is_missing |= scope.covers(&record.namespace);
                }
                Vec::new()
            }
            Event::InitApply(record) | Event::Apply(record) => {
                let name = NamespacedName::of(record);
                let version = Version::of_record(record.meta());
                let before = versions.insert(name.clone(), (version, false));
                let is_own = written.remove(&name).as_ref() == Some(&version);
                if is_own || before.is_some_and(|(before, _)| before == version) {
                    Vec::new()
                } else {
                    vec![name]
                }
            }
            Event::Delete(record) => {
                let name = NamespacedName::of(record);
                versions.remove(&name);
                written.remove(&name);
                vec![name]
            }
            Event::InitDone => {
                let is_gone = |record: &NamespacedName, (_, is_missing): &mut (Version, bool)| {
                    *is_missing && scope.covers(&record.namespace)
                };
                let gone: Vec<NamespacedName> =
                    versions.extract_if(is_gone).map(|(record, _)| record).collect();
                for record in &gone {
                    written.remove(record);
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
    use crate::k8s::list;

    /// One that cannot be deserialized; its metadata count too.
    fn record(name: &str, uid: &str, generation: i64) -> ParsedRecord {
        let meta = json!({"name": name, "namespace": "mail", "uid": uid, "generation": generation});
        list::guarded(json!({"metadata": meta}).to_string().as_bytes()).unwrap()
    }

    fn named(name: &str) -> NamespacedName {
        NamespacedName { namespace: "mail".into(), name: name.into() }
    }

    /// Returns the changed records of each event.
    fn changes_of() -> impl FnMut(Event<ParsedRecord>) -> Vec<NamespacedName> {
        let known = KnownRecords::default();
        move |event| known.on_watch_event(&Scope::Namespace("mail".into()), &event)
    }

    #[test]
    fn only_created_changed_or_deleted_records_are_reported() {
        let mut changed = changes_of();
        assert_eq!(changed(Event::Apply(record("a", "1", 1))), [named("a")], "it is new");
        assert!(changed(Event::Apply(record("a", "1", 1))).is_empty(), "its status changed");
        assert_eq!(changed(Event::Apply(record("a", "1", 2))), [named("a")], "its spec changed");
        assert_eq!(changed(Event::Apply(record("a", "2", 1))), [named("a")], "it was re-created");
        assert_eq!(changed(Event::Delete(record("a", "2", 1))), [named("a")], "it was deleted");
    }

    #[test]
    fn the_operators_own_write_is_no_change_but_later_ones_are() {
        let known = KnownRecords::default();
        let mail = Scope::Namespace("mail".into());
        let written = |generation| record("a", "1", generation);
        let own = json!({"metadata": written(1).meta(), "spec": {
            "recordId": "0".repeat(32), "credentialId": 1, "name": "a", "envelope": "x",
            "tenantId": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32", "clientId": "e1c6ac69-480e-4a17-9b85-3467967bd179",
            "secretExpiresAt": "2027-01-01T00:00:00Z"
        }});
        let own: SealedGraphCredential = serde_json::from_value(own).unwrap();
        known.on_written(&own);
        assert_eq!(
            known.on_watch_event(&mail, &Event::Apply(written(1))),
            [named("a")],
            "nothing was watched when it was written"
        );
        known.on_watch_event(&mail, &Event::Delete(written(1)));
        known.mark_listed(&mail);
        known.on_written(&own);
        assert_eq!(known.known_record(&named("a")), None, "only the watch says what is there");
        assert!(
            known.on_watch_event(&mail, &Event::Apply(written(1))).is_empty(),
            "it is the operator's own write"
        );
        known.on_written(&own);
        assert!(known.0.lock().written.is_empty(), "nothing is kept once the watch has delivered it");
        assert_eq!(
            known.on_watch_event(&mail, &Event::Apply(written(2))),
            [named("a")],
            "another writer changed it"
        );
        known.on_written(&own);
        assert_eq!(
            known.known_record(&named("a")),
            Some(Version::of_record(record("a", "1", 2).meta())),
            "a late response hides nothing"
        );
        assert_eq!(known.on_watch_event(&mail, &Event::Delete(written(2))), [named("a")], "it was deleted");
        assert_eq!(known.on_watch_event(&mail, &Event::Apply(written(1))), [named("a")], "it was re-created");
    }

    #[test]
    fn changes_during_an_interrupted_watch_are_found_by_the_next_list() {
        let mut changed = changes_of();
        for name in ["a", "b", "c"] {
            changed(Event::Apply(record(name, "1", 1)));
        }
        assert!(changed(Event::Init).is_empty());
        assert!(changed(Event::InitApply(record("a", "1", 1))).is_empty(), "nothing happened to it");
        assert_eq!(changed(Event::InitApply(record("b", "1", 2))), [named("b")]);
        assert_eq!(changed(Event::InitDone), [named("c")]);
        assert!(changed(Event::Init).is_empty() && changed(Event::InitDone).len() == 2);
    }

    #[test]
    fn an_own_write_is_forgotten_if_a_list_lacks_the_record() {
        let (known, mail) = (KnownRecords::default(), Scope::Namespace("mail".into()));
        let version = |generation| Version::of_record(record("a", "1", generation).meta());
        known.on_watch_event(&mail, &Event::Apply(record("a", "1", 1)));
        known.0.lock().written.insert(named("a"), version(2));
        known.on_watch_event(&mail, &Event::Init);
        assert_eq!(known.on_watch_event(&mail, &Event::InitDone), [named("a")]);
        assert!(known.0.lock().written.is_empty());
    }

    #[test]
    fn the_list_of_one_namespace_does_not_affect_another() {
        let (known, mail) = (KnownRecords::default(), Scope::Namespace("mail".into()));
        known.on_watch_event(&mail, &Event::Apply(record("a", "1", 4)));
        let sales = Scope::Namespace("sales".into());
        assert!(known.on_watch_event(&sales, &Event::Init).is_empty());
        assert!(known.on_watch_event(&sales, &Event::InitDone).is_empty());
        assert_eq!(known.known_record(&named("a")), Some(Version::of_record(record("a", "1", 4).meta())));
    }
}
