//! The records of custom resources in the store: whose they are, what the record controller's watch brings of them, and
//! whom it wakes. Nothing is stored but what tells one generation from another.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kube::runtime::watcher::Event;
use kube::{Resource, ResourceExt};
use parking_lot::Mutex;

use super::context::Context;
use super::index::Named;
use super::record::RecordObserver;
use super::scope::Scope;
use super::version::Version;
use crate::resources::{ObservedRecord, SealedGraphCredential};
use crate::store::census::GuardedRecord;

pub use crate::store::repository::{read, remove};

/// Annotation on a record: uid of the object that it was sealed for last. A deleted object removes what its status does
/// not know of only where this says that it made it.
const SEALED_FOR: &str = "graph-credentials.io/sealed-for";

/// The records as the watches show them; none where they may not be watched.
#[derive(Debug, Default)]
pub struct KnownRecords(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    /// While a list is under way also whether it has yet to bring the record.
    versions: HashMap<Named, (Version, bool)>,
    /// Of which there was a list.
    listed: HashSet<Scope>,
    /// What this process has written, until the watch brings something of that record.
    written: HashMap<Named, Version>,
}

/// The object that the record was sealed for last, by its uid.
pub fn sealed_for(record: &SealedGraphCredential) -> Option<&str> {
    record.annotations().get(SEALED_FOR).map(String::as_str)
}

/// Notes on a record the object that it is sealed for.
pub fn seal_for(record: &mut SealedGraphCredential, uid: &str) {
    record.annotations_mut().insert(SEALED_FOR.to_owned(), uid.to_owned());
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
        if !judged.zip(known).is_some_and(|(judged, now)| now == Version::of_observed_record(&judged)) {
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
    known.0.as_ref().ok()?.status.as_ref()?.observed_record.as_deref().cloned()
}

// === impl KnownRecords ===

impl KnownRecords {
    /// Whether the records of the namespace have been listed since the start.
    pub fn are_listed_in(&self, namespace: &str) -> bool {
        self.0.lock().listed.iter().any(|scope| scope.covers(namespace))
    }

    /// Notes that the records of a scope have been listed. Returns whether it was for the first time.
    fn is_first_list_of(&self, scope: &Scope) -> bool {
        self.0.lock().listed.insert(scope.clone())
    }

    /// The version of a record that is there, as far as is known.
    pub fn known_record(&self, record: &Named) -> Option<Version> {
        self.0.lock().versions.get(record).map(|(version, _)| *version)
    }

    /// Notes a record that this process has written: that version is no news when the watch brings it. Where nothing is
    /// watched, nothing is noted.
    pub fn note_written(&self, record: &SealedGraphCredential) {
        let (name, version, mut known) =
            (Named::of(record), Version::of_record(record.meta()), self.0.lock());
        let is_watched = known.listed.iter().any(|scope| scope.covers(&name.namespace));
        let was_brought = known.versions.get(&name).is_some_and(|(seen, _)| *seen == version);
        if is_watched && !was_brought {
            known.written.insert(name, version);
        }
    }

    /// The records of a scope that are new, changed or gone by that event.
    fn note(&self, scope: &Scope, event: &Event<GuardedRecord>) -> Vec<Named> {
        let Known { versions, written, .. } = &mut *self.0.lock();
        match event {
            Event::Init => {
                for (record, (_, is_missing)) in versions.iter_mut() {
                    *is_missing |= scope.covers(&record.namespace);
                }
                Vec::new()
            }
            Event::InitApply(record) | Event::Apply(record) => {
                let name = Named::of(record);
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
                let name = Named::of(record);
                versions.remove(&name);
                written.remove(&name);
                vec![name]
            }
            Event::InitDone => {
                let is_gone = |record: &Named, (_, is_missing): &mut (Version, bool)| {
                    *is_missing && scope.covers(&record.namespace)
                };
                let gone: Vec<Named> = versions.extract_if(is_gone).map(|(record, _)| record).collect();
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
        let own: SealedGraphCredential = serde_json::from_value(own).unwrap();
        known.note_written(&own);
        assert_eq!(
            known.note(&mail, &Event::Apply(written(1))),
            [named("a")],
            "nothing was watched when it was written"
        );
        known.note(&mail, &Event::Delete(written(1)));
        known.is_first_list_of(&mail);
        known.note_written(&own);
        assert_eq!(known.known_record(&named("a")), None, "only the watch says what is there");
        assert!(known.note(&mail, &Event::Apply(written(1))).is_empty(), "it is the own write");
        known.note_written(&own);
        assert!(known.0.lock().written.is_empty(), "nothing is kept of what the watch has brought");
        assert_eq!(known.note(&mail, &Event::Apply(written(2))), [named("a")], "another writer changed it");
        known.note_written(&own);
        assert_eq!(
            known.known_record(&named("a")),
            Some(Version::of_record(record("a", "1", 2).meta())),
            "a late answer hides nothing"
        );
        assert_eq!(known.note(&mail, &Event::Delete(written(2))), [named("a")], "it is gone");
        assert_eq!(known.note(&mail, &Event::Apply(written(1))), [named("a")], "and is back");
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
    fn what_was_written_of_a_record_that_a_list_lacks_is_forgotten() {
        let (known, mail) = (KnownRecords::default(), Scope::Namespace("mail".into()));
        let version = |generation| Version::of_record(record("a", "1", generation).meta());
        known.note(&mail, &Event::Apply(record("a", "1", 1)));
        known.0.lock().written.insert(named("a"), version(2));
        known.note(&mail, &Event::Init);
        assert_eq!(known.note(&mail, &Event::InitDone), [named("a")]);
        assert!(known.0.lock().written.is_empty());
    }

    #[test]
    fn the_list_of_one_namespace_says_nothing_of_another() {
        let (known, mail) = (KnownRecords::default(), Scope::Namespace("mail".into()));
        known.note(&mail, &Event::Apply(record("a", "1", 4)));
        let sales = Scope::Namespace("sales".into());
        assert!(known.note(&sales, &Event::Init).is_empty());
        assert!(known.note(&sales, &Event::InitDone).is_empty());
        assert_eq!(known.known_record(&named("a")), Some(Version::of_record(record("a", "1", 4).meta())));
    }
}
