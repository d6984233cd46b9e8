//! The limit of credentials per account. A watch of the records' metadata counts them. This process's own writes count at
//! once.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kube::ResourceExt;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::Event;
use parking_lot::Mutex;
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::api::SealedGraphCredential;
use crate::k8s::scope::Scope;
use crate::k8s::watch::{WatchClient, WatchTarget};
use crate::store::record::credential_id_of;
use crate::telemetry::health::Readiness;

type RecordMeta = PartialObjectMeta<SealedGraphCredential>;

/// Ids of credentials by namespace.
type Ids = HashMap<String, HashSet<i64>>;

/// Why a credential is counted.
#[derive(Debug, Default)]
struct Counted {
    /// It exists, according to the watch and to this process's confirmed writes.
    exists: bool,
    /// This process is creating it.
    is_reserved: bool,
}

/// Counts the credentials of each account, and limits them.
#[derive(Debug)]
pub struct Quota {
    limit: usize,
    counted: Mutex<HashMap<String, HashMap<i64, Counted>>>,
}

/// The account has reached its limit.
#[derive(Debug, Error, PartialEq, Eq)]
#[error("the account already has {0} credentials, which is its limit")]
pub struct QuotaExceeded(usize);

/// A reserved place for a new credential, released on drop.
#[derive(Debug)]
#[must_use]
pub struct Reservation<'a> {
    quota: &'a Quota,
    namespace: &'a str,
    id: i64,
}

// === impl Quota ===

impl Quota {
    pub fn new(limit: usize) -> Self {
        Self { limit, counted: Mutex::default() }
    }

    /// Whether the account has reached its limit.
    pub fn is_reached(&self, namespace: &str) -> bool {
        self.counted.lock().get(namespace).is_some_and(|ids| ids.len() >= self.limit)
    }

    /// Reserves a place for a credential that is about to be created.
    pub fn reserve<'a>(&'a self, namespace: &'a str, id: i64) -> Result<Reservation<'a>, QuotaExceeded> {
        let mut counted = self.counted.lock();
        let ids = counted.entry(namespace.to_owned()).or_default();
        if ids.len() >= self.limit {
            return Err(QuotaExceeded(ids.len()));
        }
        ids.entry(id).or_default().is_reserved = true;
        Ok(Reservation { quota: self, namespace, id })
    }

    pub fn remove(&self, namespace: &str, id: i64) {
        if let Some(ids) = self.counted.lock().get_mut(namespace) {
            ids.remove(&id);
        }
    }

    /// Watches the records until the future is dropped. Cancels `listed` after the first lists. Readiness waits for these
    /// lists as well.
    pub async fn watch(
        self: Arc<Self>,
        watching: WatchClient,
        scopes: Vec<Scope>,
        readiness: Readiness,
        listed: CancellationToken,
    ) {
        let left = AtomicUsize::new(scopes.len());
        let watches = scopes.iter().map(async |scope| {
            let gate = match scope.namespace() {
                None => "informer-sync/sealedgraphcredentials".to_owned(),
                Some(name) => format!("informer-sync/sealedgraphcredentials/{name}"),
            };
            readiness.pending(&gate, "the process needs the rights to list and watch sealedgraphcredentials");
            let (mut listing, mut is_listed) = (Ids::new(), false);
            let watched = WatchTarget::<RecordMeta>::metadata("SealedGraphCredential", scope.namespace());
            let on_event = |event| {
                self.apply_event(&event, scope, &mut listing);
                if matches!(event, Event::InitDone) && !std::mem::replace(&mut is_listed, true) {
                    readiness.done(&gate);
                    if left.fetch_sub(1, Ordering::Relaxed) == 1 {
                        listed.cancel();
                    }
                }
            };
            match watching.follow(&watched, on_event).await {}
        });
        futures::future::join_all(watches).await;
    }

    /// `listed` collects the records of the current list.
    fn apply_event(&self, event: &Event<RecordMeta>, scope: &Scope, listed: &mut Ids) {
        let key = |record: &RecordMeta| {
            Some((record.namespace()?, credential_id_of(record.metadata.name.as_deref()?)?))
        };
        match event {
            Event::Init => listed.clear(),
            Event::InitApply(record) => {
                if let Some((namespace, id)) = key(record) {
                    listed.entry(namespace).or_default().insert(id);
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
                for (namespace, listed) in std::mem::take(listed) {
                    let ids = counted.entry(namespace).or_default();
                    for id in listed {
                        ids.entry(id).or_default().exists = true;
                    }
                }
            }
            Event::Apply(record) => {
                if let Some((namespace, id)) = key(record) {
                    self.counted.lock().entry(namespace).or_default().entry(id).or_default().exists = true;
                }
            }
            Event::Delete(record) => {
                if let Some((namespace, id)) = key(record) {
                    self.remove(&namespace, id);
                }
            }
        }
    }
}

// === impl Reservation ===

impl Reservation<'_> {
    /// Counts the created credential, unless it was removed meanwhile.
    pub fn commit(self) {
        let mut counted = self.quota.counted.lock();
        if let Some(counted) = counted.get_mut(self.namespace).and_then(|ids| ids.get_mut(&self.id)) {
            counted.exists = true;
        }
    }
}

impl Drop for Reservation<'_> {
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
    fn own_creates_count_at_once_and_failed_ones_do_not() {
        let quota = Quota::new(2);
        let (first, second) = (quota.reserve("mail", 1).unwrap(), quota.reserve("mail", 2).unwrap());
        assert_eq!(quota.reserve("mail", 3).unwrap_err(), QuotaExceeded(2));
        drop(second);
        first.commit();
        let removed_meanwhile = quota.reserve("mail", 7).unwrap();
        quota.remove("mail", 7);
        removed_meanwhile.commit();
        assert_eq!(counts(&quota)[0], 1);
        assert!(quota.reserve("sales", 1).is_ok(), "another account");
        quota.reserve("mail", 2).unwrap().commit();
        assert_eq!(quota.reserve("mail", 3).unwrap_err(), QuotaExceeded(2));
        quota.remove("mail", 1);
        let taken = quota.reserve("mail", 2).unwrap();
        drop(taken);
        assert_eq!(counts(&quota), [1, 0], "the id was another record's");
    }

    #[test]
    fn a_create_without_a_response_counts_once_it_is_seen_and_a_list_frees_no_reservation() {
        let (quota, mut listed) = (Quota::new(2), Ids::new());
        let (seen, unseen) = (quota.reserve("mail", 1).unwrap(), quota.reserve("mail", 2).unwrap());
        for event in [Event::Init, Event::InitDone] {
            quota.apply_event(&event, &Scope::All, &mut listed);
        }
        assert_eq!(quota.reserve("mail", 3).unwrap_err(), QuotaExceeded(2), "both are still being created");
        quota.apply_event(&Event::Apply(record("mail", "r-1")), &Scope::All, &mut listed);
        assert_eq!(counts(&quota), [2, 0], "none counts twice");
        drop((seen, unseen));
        assert_eq!(counts(&quota), [1, 0]);
        assert!(quota.counted.lock()["mail"].values().all(|counted| !counted.is_reserved));
    }

    #[test]
    fn external_creates_and_deletes_count_in_any_order() {
        let (quota, mut listed) = (Quota::new(2), Ids::new());
        let mut apply = |event, scope: &Scope| quota.apply_event(&event, scope, &mut listed);
        for _ in 0..2 {
            apply(Event::Init, &Scope::All);
            for (namespace, name) in [("mail", "r-1"), ("mail", "r-2"), ("mail", "c-1"), ("sales", "r-x")] {
                apply(Event::InitApply(record(namespace, name)), &Scope::All);
            }
            apply(Event::InitDone, &Scope::All);
            assert_eq!(counts(&quota), [2, 0], "records of custom resources do not count");
        }
        apply(Event::Apply(record("sales", "r-7")), &Scope::All);
        apply(Event::Apply(record("sales", "r-7")), &Scope::All);
        apply(Event::Delete(record("mail", "r-1")), &Scope::All);
        apply(Event::Delete(record("mail", "r-1")), &Scope::All);
        assert_eq!(counts(&quota), [1, 1]);
        let mail = Scope::Namespace("mail".into());
        apply(Event::Init, &mail);
        apply(Event::InitDone, &mail);
        assert_eq!(counts(&quota), [0, 1], "a list says nothing of other namespaces");
    }
}
