//! How many credentials each account has: counted by a watch of their records' metadata, and own writes at once.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::StreamExt;
use kube::api::PartialObjectMeta;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Client, ResourceExt};
use thiserror::Error;
use tokio_util::sync::CancellationToken;

use crate::controller::Scope;
use crate::resources::SealedGraphCredential;
use crate::settings::Timing;
use crate::store::record::credential_id_of;
use crate::telemetry::logs::chain;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::probes::Readiness;

/// Records in one answer of the API server.
const PAGE: u32 = 500;

type RecordMeta = PartialObjectMeta<SealedGraphCredential>;

/// Ids of credentials by namespace.
type Ids = HashMap<String, HashSet<i64>>;

/// The credentials of each account, and how many it may have.
#[derive(Debug)]
pub struct Quota {
    limit: usize,
    ids: Mutex<Ids>,
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
    /// Nothing where there is nothing to give back.
    id: Option<i64>,
}

/// What it takes to watch the records.
pub struct QuotaWatch {
    /// Client of the Kubernetes API.
    pub client: Client,
    /// The namespaces that are served; none means all.
    pub served: Vec<String>,
    /// What is not there yet.
    pub readiness: Readiness,
    /// Counts failures of watches.
    pub metrics: Arc<Metrics>,
    /// The waits.
    pub timing: Timing,
}

// === impl Quota ===

impl Quota {
    /// Nothing is counted before the records are watched.
    pub fn new(limit: usize) -> Self {
        Self { limit, ids: Mutex::default() }
    }

    /// Counts a credential that is about to be created, if the account may have one more.
    pub fn reserve<'a>(&'a self, namespace: &'a str, id: i64) -> Result<Reserved<'a>, Full> {
        let mut ids = self.lock();
        let ids = ids.entry(namespace.to_owned()).or_default();
        if ids.len() >= self.limit {
            return Err(Full(ids.len()));
        }
        // An id that is there already is another record's.
        Ok(Reserved { quota: self, namespace, id: ids.insert(id).then_some(id) })
    }

    /// A credential is gone.
    pub fn remove(&self, namespace: &str, id: i64) {
        if let Some(ids) = self.lock().get_mut(namespace) {
            ids.remove(&id);
        }
    }

    /// Watches the records until the future is dropped; `listed` is cancelled once all have been listed.
    pub async fn watch(self: Arc<Self>, watch: QuotaWatch, listed: CancellationToken) {
        let scopes = Scope::of(&watch.served);
        let left = Mutex::new(scopes.len());
        let listed_one = || {
            let mut left = left.lock().unwrap_or_else(PoisonError::into_inner);
            *left -= 1;
            if *left == 0 {
                listed.cancel();
            }
        };
        let watches = scopes.iter().map(|scope| self.watch_scope(&watch, scope, &listed_one));
        futures::future::join_all(watches).await;
    }

    async fn watch_scope(&self, watch: &QuotaWatch, scope: &Scope, listed: &(impl Fn() + Sync)) {
        const KIND: &str = "SealedGraphCredential";
        let gate = match scope {
            Scope::All => "the first list of records".to_owned(),
            Scope::Namespace(name) => format!("the first list of records in {name}"),
        };
        watch.readiness.wait_for(&gate, "records are being listed");
        let idle = u32::try_from(watch.timing.watch_idle.as_secs()).unwrap_or(u32::MAX).clamp(1, 290);
        let config = watcher::Config::default().timeout(idle).page_size(PAGE);
        let mut events =
            watch_objects(scope.api::<RecordMeta>(&watch.client), config).default_backoff().boxed();
        let (mut fresh, mut is_listed) = (Ids::new(), false);
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    let is_done = matches!(event, Event::InitDone);
                    self.note(event, scope, &mut fresh);
                    if is_done && !std::mem::replace(&mut is_listed, true) {
                        watch.readiness.arrived(&gate);
                        listed();
                    }
                }
                Err(error) => {
                    watch.metrics.kubernetes.watch_failed(KIND);
                    tracing::warn!(kind = KIND, error = chain(&error), "a watch failed and is tried again");
                    if !is_listed {
                        watch.readiness.wait_for(&gate, chain(&error));
                    }
                }
            }
        }
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
                let mut ids = self.lock();
                ids.retain(|namespace, _| !scope.covers(namespace));
                ids.extend(std::mem::take(fresh));
            }
            Event::Apply(record) => {
                if let Some((namespace, id)) = place(&record) {
                    self.lock().entry(namespace).or_default().insert(id);
                }
            }
            Event::Delete(record) => {
                if let Some((namespace, id)) = place(&record) {
                    self.remove(&namespace, id);
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ids> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Reserved ===

impl Reserved<'_> {
    /// The credential was created.
    pub fn keep(mut self) {
        self.id = None;
    }
}

impl Drop for Reserved<'_> {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.quota.remove(self.namespace, id);
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
        ["mail", "sales"].iter().map(|it| quota.lock().get(*it).map_or(0, HashSet::len)).collect()
    }

    #[test]
    fn what_is_created_here_counts_at_once_and_what_is_not_created_does_not() {
        let quota = Quota::new(2);
        let (first, second) = (quota.reserve("mail", 1).unwrap(), quota.reserve("mail", 2).unwrap());
        assert_eq!(quota.reserve("mail", 3).unwrap_err(), Full(2));
        drop(second);
        first.keep();
        assert!(quota.reserve("sales", 1).is_ok(), "another account");
        quota.reserve("mail", 2).unwrap().keep();
        assert_eq!(quota.reserve("mail", 3).unwrap_err(), Full(2));
        quota.remove("mail", 1);
        let taken = quota.reserve("mail", 2).unwrap();
        drop(taken);
        assert_eq!(counts(&quota), [1, 0], "the id was another record's");
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
