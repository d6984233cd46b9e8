//! Takes in what the record controller's watch brings, and wakes whose record was changed or removed. Nothing is stored but
//! what tells one generation from another.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kube::Resource;
use kube::runtime::watcher::Event;
use parking_lot::{Mutex, MutexGuard};

use crate::controller::context::Context;
use crate::controller::index::Named;
use crate::controller::record::RecordObserver;
use crate::controller::scope::Scope;
use crate::resources::{ObservedRecord, SealedGraphCredential};
use crate::store::census::GuardedRecord;

/// The records as the watches show them; none where they may not be watched.
#[derive(Debug, Default)]
pub struct KnownRecords {
    versions: Mutex<HashMap<Named, RecordVersion>>,
    /// While a list of a scope is under way: what it has not brought yet.
    missing: Mutex<HashMap<Scope, HashSet<Named>>>,
    /// Of which there was a list.
    listed: Mutex<HashSet<Scope>>,
}

/// By what a change of a record is seen: a write of the status is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordVersion {
    /// Its uid: another one means that it was re-created.
    pub uid: String,
    /// Its generation.
    pub generation: i64,
}

/// Takes in the records for the controller. An operator that may not watch them serves Woodpecker all the same, and looks at
/// each record when its object has a reconcile.
pub fn observer(context: Arc<Context>) -> RecordObserver {
    Arc::new(move |scope, event| {
        for record in context.records.note(scope, event) {
            wake_owners(&context, &record);
        }
        if matches!(event, Event::InitDone) && context.records.is_first_list_of(scope) {
            wake_who_lacks_its_record(&context, scope);
        }
    })
}

/// Wakes whose record that is, unless this very version is the one that was judged last: a first list after a start that
/// agrees with a status wakes nobody.
fn wake_owners(context: &Context, record: &Named) {
    let known = context.records.known_record(record);
    for owner in context.index.credentials_sealed_in(record) {
        let judged = judged(context, &owner);
        if judged.is_none() || judged.zip(known.clone()).is_none_or(|(judged, now)| !now.is(&judged)) {
            context.calls.credential(&owner);
        }
    }
}

/// After the first list: records that were deleted while nobody looked are on none.
fn wake_who_lacks_its_record(context: &Context, scope: &Scope) {
    for (owner, record) in context.index.records() {
        if scope.covers(&owner.namespace)
            && context.records.known_record(&record).is_none()
            && judged(context, &owner).is_some()
        {
            context.calls.credential(&owner);
        }
    }
}

/// The version of its record that an object has judged last.
fn judged(context: &Context, owner: &Named) -> Option<ObservedRecord> {
    let known = context.latest(owner)?;
    known.0.as_ref().ok()?.status.as_ref()?.observed_record.clone()
}

// === impl RecordVersion ===

impl RecordVersion {
    fn of(record: &impl Resource) -> Self {
        let (uid, generation) = (record.meta().uid.clone(), record.meta().generation);
        Self { uid: uid.unwrap_or_default(), generation: generation.unwrap_or_default() }
    }

    /// Whether it is that version.
    pub fn is(&self, recorded: &ObservedRecord) -> bool {
        (&self.uid, self.generation) == (&recorded.uid, recorded.generation)
    }
}

// === impl KnownRecords ===

impl KnownRecords {
    /// Whether the records of the namespace have been listed since the start.
    pub fn are_listed_in(&self, namespace: &str) -> bool {
        self.listed().iter().any(|scope| scope.covers(namespace))
    }

    /// Notes that the records of a scope have been listed. Returns whether it was for the first time.
    fn is_first_list_of(&self, scope: &Scope) -> bool {
        self.listed().insert(scope.clone())
    }

    fn listed(&self) -> MutexGuard<'_, HashSet<Scope>> {
        self.listed.lock()
    }

    /// The version of a record that is there, as far as is known.
    pub fn known_record(&self, record: &Named) -> Option<RecordVersion> {
        self.lock().get(record).cloned()
    }

    /// Notes a record that this process has written: what the watch brings of that version wakes nobody.
    pub fn note_written(&self, record: &SealedGraphCredential) {
        self.lock().insert(Named::of(record), RecordVersion::of(record));
    }

    /// The records of a scope that are new, changed or gone by that event.
    fn note(&self, scope: &Scope, event: &Event<GuardedRecord>) -> Vec<Named> {
        let mut versions = self.lock();
        let mut missing = self.missing.lock();
        match event {
            Event::Init => {
                let known = versions.keys().filter(|record| scope.covers(&record.namespace));
                missing.insert(scope.clone(), known.cloned().collect());
                Vec::new()
            }
            Event::InitApply(record) | Event::Apply(record) => {
                let name = Named::of(record);
                if let Some(missing) = missing.get_mut(scope) {
                    missing.remove(&name);
                }
                let version = RecordVersion::of(record);
                let before = versions.insert(name.clone(), version.clone());
                let is_news = before.as_ref() != Some(&version);
                is_news.then_some(name).into_iter().collect()
            }
            Event::Delete(record) => {
                let name = Named::of(record);
                versions.remove(&name);
                vec![name]
            }
            Event::InitDone => {
                let gone: Vec<Named> = missing.remove(scope).into_iter().flatten().collect();
                for name in &gone {
                    versions.remove(name);
                }
                gone
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Named, RecordVersion>> {
        self.versions.lock()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::k8s::list;

    /// One that cannot be read, of which the metadata count as well.
    fn record(name: &str, uid: &str, generation: i64) -> GuardedRecord {
        let meta = json!({"name": name, "namespace": "mail", "uid": uid, "generation": generation});
        list::guarded(json!({"metadata": meta}).to_string().as_bytes()).unwrap()
    }

    fn named(name: &str) -> Named {
        Named { namespace: "mail".into(), name: name.into() }
    }

    /// What is news by each event.
    fn notes() -> impl FnMut(Event<GuardedRecord>) -> Vec<Named> {
        let known = KnownRecords::default();
        move |event| known.note(&Scope::Namespace("mail".into()), &event)
    }

    #[test]
    fn what_changed_or_went_is_told_and_nothing_else() {
        let mut note = notes();
        assert_eq!(note(Event::Apply(record("a", "1", 1))), [named("a")], "it is new");
        assert!(note(Event::Apply(record("a", "1", 1))).is_empty(), "its status changed");
        assert_eq!(note(Event::Apply(record("a", "1", 2))), [named("a")], "its spec changed");
        assert_eq!(note(Event::Apply(record("a", "2", 1))), [named("a")], "it was made anew");
        assert_eq!(note(Event::Delete(record("a", "2", 1))), [named("a")], "it is gone");
    }

    #[test]
    fn an_own_write_is_no_news_and_what_follows_it_is() {
        let known = KnownRecords::default();
        let mail = Scope::Namespace("mail".into());
        let written = |generation| record("a", "1", generation);
        let own = json!({"metadata": written(1).meta(), "spec": {
            "recordId": "0".repeat(32), "credentialId": 1, "name": "a", "envelope": "x",
            "tenantId": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32", "clientId": "e1c6ac69-480e-4a17-9b85-3467967bd179",
            "secretExpiresAt": "2027-01-01T00:00:00Z"
        }});
        known.note_written(&serde_json::from_value(own).unwrap());
        assert!(known.note(&mail, &Event::Apply(written(1))).is_empty(), "it is the own write");
        assert_eq!(known.note(&mail, &Event::Apply(written(2))), [named("a")], "another writer changed it");
    }

    #[test]
    fn what_happened_while_the_watch_was_cut_off_is_told_by_the_next_list() {
        let mut note = notes();
        for name in ["a", "b", "c"] {
            note(Event::Apply(record(name, "1", 1)));
        }
        assert!(note(Event::Init).is_empty());
        assert!(note(Event::InitApply(record("a", "1", 1))).is_empty(), "nothing happened to it");
        assert_eq!(note(Event::InitApply(record("b", "1", 2))), [named("b")]);
        assert_eq!(note(Event::InitDone), [named("c")]);
        assert!(note(Event::Init).is_empty() && note(Event::InitDone).len() == 2);
    }

    #[test]
    fn the_list_of_one_namespace_says_nothing_of_another() {
        let (known, mail) = (KnownRecords::default(), Scope::Namespace("mail".into()));
        known.note(&mail, &Event::Apply(record("a", "1", 4)));
        let sales = Scope::Namespace("sales".into());
        assert!(known.note(&sales, &Event::Init).is_empty());
        assert!(known.note(&sales, &Event::InitDone).is_empty());
        assert_eq!(known.known_record(&named("a")).map(|record| record.generation), Some(4));
    }
}
