//! How many credentials each account has: counted by a watch of their records' metadata, and own writes at once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kube::ResourceExt;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::Event;
use parking_lot::Mutex;
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

/// Why a credential is counted.
#[derive(Debug, Default)]
struct Counted {
    /// It exists, as the watch and our own answered writes have it.
    exists: bool,
    /// It is being created here.
    is_reserved: bool,
}

/// The credentials of each account, and how many it may have.
#[derive(Debug)]
pub struct Quota {
    limit: usize,
    counted: Mutex<HashMap<String, HashMap<i64, Counted>>>,
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
        let mut counted = self.counted.lock();
        let ids = counted.entry(namespace.to_owned()).or_default();
        if ids.len() >= self.limit {
            return Err(Full(ids.len()));
        }
        ids.entry(id).or_default().is_reserved = true;
        Ok(Reserved { quota: self, namespace, id })
    }

    /// A credential is gone.
    pub fn remove(&self, namespace: &str, id: i64) {
        if let Some(ids) = self.counted.lock().get_mut(namespace) {
            ids.remove(&id);
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
            let tell = |event| {
                self.note(&event, scope, &mut fresh);
                if matches!(event, Event::InitDone) && !std::mem::replace(&mut is_listed, true) {
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
    fn note(&self, event: &Event<RecordMeta>, scope: &Scope, fresh: &mut Ids) {
        let place = |record: &RecordMeta| {
            Some((record.namespace()?, credential_id_of(record.metadata.name.as_deref()?)?))
        };
        match event {
            Event::Init => fresh.clear(),
            Event::InitApply(record) => {
                if let Some((namespace, id)) = place(record) {
                    fresh.entry(namespace).or_default().insert(id);
                }
            }
            Event::InitDone => {
                let mut counted = self.counted.lock();
                for (_, ids) in counted.iter_mut().filter(|(namespace, _)| scope.covers(namespace)) {
                    ids.retain(|_, counted| {
                        counted.exists = false;
                        counted.is_reserved
                    });
                }
                for (namespace, listed) in std::mem::take(fresh) {
                    let ids = counted.entry(namespace).or_default();
                    for id in listed {
                        ids.entry(id).or_default().exists = true;
                    }
                }
            }
            Event::Apply(record) => {
                if let Some((namespace, id)) = place(record) {
                    self.counted.lock().entry(namespace).or_default().entry(id).or_default().exists = true;
                }
            }
            Event::Delete(record) => {
                if let Some((namespace, id)) = place(record) {
                    self.remove(&namespace, id);
                }
            }
        }
    }
}

// === impl Reserved ===

impl Reserved<'_> {
    /// The credential was created. It may have been removed since.
    pub fn keep(self) {
        let mut counted = self.quota.counted.lock();
        if let Some(counted) = counted.get_mut(self.namespace).and_then(|ids| ids.get_mut(&self.id)) {
            counted.exists = true;
        }
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Some(ids) = self.quota.counted.lock().get_mut(self.namespace)
            && let Some(counted) = ids.get_mut(&self.id)
        {
            counted.is_reserved = false;
            if !counted.exists {
                ids.remove(&self.id);
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
        let counted = quota.counted.lock();
        ["mail", "sales"].iter().map(|it| counted.get(*it).map_or(0, HashMap::len)).collect()
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
            quota.note(&event, &Scope::All, &mut fresh);
        }
        assert_eq!(quota.reserve("mail", 3).unwrap_err(), Full(2), "both are still being created");
        quota.note(&Event::Apply(record("mail", "r-1")), &Scope::All, &mut fresh);
        assert_eq!(counts(&quota), [2, 0], "none counts twice");
        drop((seen, unseen));
        assert_eq!(counts(&quota), [1, 0]);
        assert!(quota.counted.lock()["mail"].values().all(|counted| !counted.is_reserved));
    }

    #[test]
    fn what_others_create_and_delete_counts_whatever_order_it_is_seen_in() {
        let (quota, mut fresh) = (Quota::new(2), Ids::new());
        let mut note = |event, scope: &Scope| quota.note(&event, scope, &mut fresh);
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
