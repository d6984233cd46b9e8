//! How many credentials each account has: counted by a watch of their records' metadata, and own writes at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kube::ResourceExt;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::Event;
use parking_lot::{Mutex, MutexGuard};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::controller::Scope;
use crate::k8s::watch::{Watched, Watching};
use crate::resources::SealedGraphCredential;
use crate::store::record::credential_id_of;
use crate::telemetry::probes::Readiness;

type RecordMeta = PartialObjectMeta<SealedGraphCredential>;

/// Ids of credentials by namespace.
type Ids = HashMap<String, HashSet<i64>>;

/// What is counted.
#[derive(Debug, Default)]
struct Counted {
    /// What exists, as the watch and our own answered writes have it.
    existing: Ids,
    /// What is being created here.
    reserved: Ids,
}

/// The credentials of each account, and how many it may have.
#[derive(Debug)]
pub struct Quota {
    limit: usize,
    counted: Mutex<Counted>,
}

/// The account has as many credentials as it may have.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the account has {0} credentials, and may have no more")]
pub struct Full(usize);

/// Room for one more credential, given back when it is dropped.
#[derive(Debug)]
#[must_use]
pub struct Reserved<'a> {
    quota: &'a Quota,
    namespace: &'a str,
    id: i64,
}

// === impl Quota ===

impl Quota {
    /// Nothing is counted before the records are watched.
    pub fn new(limit: usize) -> Self {
        Self { limit, counted: Mutex::default() }
    }

    /// Counts a credential that is about to be created, if the account may have one more.
    pub fn reserve<'a>(&'a self, namespace: &'a str, id: i64) -> Result<Reserved<'a>, Full> {
        let mut counted = self.lock();
        let count = counted.of(namespace);
        if count >= self.limit {
            return Err(Full(count));
        }
        counted.reserved.entry(namespace.to_owned()).or_default().insert(id);
        Ok(Reserved { quota: self, namespace, id })
    }

    /// A credential is gone.
    pub fn remove(&self, namespace: &str, id: i64) {
        let Counted { existing, reserved } = &mut *self.lock();
        for ids in [existing, reserved] {
            if let Some(ids) = ids.get_mut(namespace) {
                ids.remove(&id);
            }
        }
    }

    /// Watches the records until the future is dropped. Readiness waits for the first lists, and so does `listed`.
    pub async fn watch(
        self: Arc<Self>,
        watching: Watching,
        scopes: Vec<Scope>,
        readiness: Readiness,
        listed: CancellationToken,
    ) {
        let left = AtomicUsize::new(scopes.len());
        let watches = scopes.iter().map(async |scope| {
            let gate = match scope.namespace() {
                None => "the first list of records".to_owned(),
                Some(name) => format!("the first list of records in {name}"),
            };
            readiness.wait_for(&gate, "it needs the rights to list and watch sealedgraphcredentials");
            let (mut fresh, mut is_listed) = (Ids::new(), false);
            let watched = Watched::<RecordMeta>::metadata("SealedGraphCredential", scope.namespace());
            let tell = |event: Event<RecordMeta>| {
                let is_done = matches!(event, Event::InitDone);
                self.note(event, scope, &mut fresh);
                if is_done && !std::mem::replace(&mut is_listed, true) {
                    readiness.arrived(&gate);
                    if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                        listed.cancel();
                    }
                }
            };
            match watching.follow(&watched, tell).await {}
        });
        futures::future::join_all(watches).await;
    }

    /// Takes in an event. `fresh` is what a list that is under way has brought.
    fn note(&self, event: Event<RecordMeta>, scope: &Scope, fresh: &mut Ids) {
        let place = |record: &RecordMeta| {
            Some((record.namespace()?, credential_id_of(record.metadata.name.as_deref()?)?))
        };
        match event {
            Event::Init => fresh.clear(),
            Event::InitApply(record) => {
                if let Some((namespace, id)) = place(&record) {
                    fresh.entry(namespace).or_default().insert(id);
                }
            }
            Event::InitDone => {
                let existing = &mut self.lock().existing;
                existing.retain(|namespace, _| !scope.covers(namespace));
                existing.extend(std::mem::take(fresh));
            }
            Event::Apply(record) => {
                if let Some((namespace, id)) = place(&record) {
                    self.lock().existing.entry(namespace).or_default().insert(id);
                }
            }
            Event::Delete(record) => {
                if let Some((namespace, id)) = place(&record) {
                    self.remove(&namespace, id);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.counted.lock()
    }
}

// === impl Counted ===

impl Counted {
    /// How many credentials an account has, with those that are being created.
    fn of(&self, namespace: &str) -> usize {
        let existing = self.existing.get(namespace);
        let is_new = |id: &&i64| !existing.is_some_and(|existing| existing.contains(*id));
        let reserved = self.reserved.get(namespace).map_or(0, |ids| ids.iter().filter(is_new).count());
        existing.map_or(0, HashSet::len) + reserved
    }
}

// === impl Reserved ===

impl Reserved<'_> {
    /// The credential was created. It may have been removed since.
    pub fn keep(self) {
        let Counted { existing, reserved } = &mut *self.quota.lock();
        if reserved.get(self.namespace).is_some_and(|ids| ids.contains(&self.id)) {
            existing.entry(self.namespace.to_owned()).or_default().insert(self.id);
        }
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        let reserved = &mut self.quota.lock().reserved;
        if let Some(ids) = reserved.get_mut(self.namespace) {
            ids.remove(&self.id);
            if ids.is_empty() {
                reserved.remove(self.namespace);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn record(namespace: &str, name: &str) -> RecordMeta {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": namespace}})).unwrap()
    }

    fn counts(quota: &Quota) -> Vec<usize> {
        ["mail", "sales"].iter().map(|it| quota.lock().of(it)).collect()
    }

    #[test]
    fn what_is_created_here_counts_at_once_and_what_is_not_created_does_not() {
        let quota = Quota::new(2);
        let (first, second) = (quota.reserve("mail", 1).unwrap(), quota.reserve("mail", 2).unwrap());
        assert_eq!(quota.reserve("mail", 3).unwrap_err(), Full(2));
        drop(second);
        first.keep();
        let removed_meanwhile = quota.reserve("mail", 7).unwrap();
        quota.remove("mail", 7);
        removed_meanwhile.keep();
        assert_eq!(counts(&quota)[0], 1);
        assert!(quota.reserve("sales", 1).is_ok(), "another account");
        quota.reserve("mail", 2).unwrap().keep();
        assert_eq!(quota.reserve("mail", 3).unwrap_err(), Full(2));
        quota.remove("mail", 1);
        let taken = quota.reserve("mail", 2).unwrap();
        drop(taken);
        assert_eq!(counts(&quota), [1, 0], "the id was another record's");
    }

    #[test]
    fn a_create_whose_answer_is_lost_counts_once_it_is_seen_and_a_list_frees_no_room() {
        let (quota, mut fresh) = (Quota::new(2), Ids::new());
        let (seen, unseen) = (quota.reserve("mail", 1).unwrap(), quota.reserve("mail", 2).unwrap());
        for event in [Event::Init, Event::InitDone] {
            quota.note(event, &Scope::All, &mut fresh);
        }
        assert_eq!(quota.reserve("mail", 3).unwrap_err(), Full(2), "both are still being created");
        quota.note(Event::Apply(record("mail", "r-1")), &Scope::All, &mut fresh);
        assert_eq!(counts(&quota), [2, 0], "none counts twice");
        drop((seen, unseen));
        assert_eq!(counts(&quota), [1, 0]);
        assert!(quota.lock().reserved.is_empty());
    }

    #[test]
    fn what_others_create_and_delete_counts_whatever_order_it_is_seen_in() {
        let (quota, mut fresh) = (Quota::new(2), Ids::new());
        let mut note = |event, scope: &Scope| quota.note(event, scope, &mut fresh);
        for _ in 0..2 {
            note(Event::Init, &Scope::All);
            for (namespace, name) in [("mail", "r-1"), ("mail", "r-2"), ("mail", "c-1"), ("sales", "r-x")] {
                note(Event::InitApply(record(namespace, name)), &Scope::All);
            }
            note(Event::InitDone, &Scope::All);
            assert_eq!(counts(&quota), [2, 0], "records of custom resources do not count");
        }
        note(Event::Apply(record("sales", "r-7")), &Scope::All);
        note(Event::Apply(record("sales", "r-7")), &Scope::All);
        note(Event::Delete(record("mail", "r-1")), &Scope::All);
        note(Event::Delete(record("mail", "r-1")), &Scope::All);
        assert_eq!(counts(&quota), [1, 1]);
        let mail = Scope::Namespace("mail".into());
        note(Event::Init, &mail);
        note(Event::InitDone, &mail);
        assert_eq!(counts(&quota), [0, 1], "a list says nothing of other namespaces");
    }
}
