//! Compares each deletion at Woodpecker with the object as the API server stores it when the request arrives.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use graph_credential_operator::api::{DeletionPolicy, MicrosoftGraphCredential};
use jiff::Timestamp;
use kit::woodpecker::{Credential, Woodpecker};
use kube::Api;
use tokio::time::Instant;

/// How long before its request a correct operator may have last read the object: it reads the object and then
/// sends the request, on a busy machine.
const READ_BEFORE: Duration = Duration::from_millis(400);

/// An object from a time on; none if it did not exist.
type Version = (Instant, Option<Arc<MicrosoftGraphCredential>>);

/// The stored versions of each object, and the deletions.
#[derive(Default)]
pub struct Witness {
    /// The versions of each object by name, with the time when each was seen; none if it did not exist.
    history: Mutex<HashMap<String, Vec<Version>>>,
    deletions: Mutex<Vec<Deletion>>,
}

/// A request to delete an existing credential.
struct Deletion {
    account: String,
    /// Why its object forbade it.
    objection: Option<String>,
}

// === impl Witness ===

impl Witness {
    /// Checks each deletion from now on; `api` reads the objects.
    pub fn follow(self: &Arc<Self>, woodpecker: &Woodpecker, api: Api<MicrosoftGraphCredential>) {
        let witness = Arc::clone(self);
        woodpecker.before_each_delete(move |account, credential| {
            let (witness, api) = (Arc::clone(&witness), api.clone());
            async move { witness.look(&api, account, &credential).await }
        });
    }

    /// Records a version of an object, or that it does not exist.
    pub fn note(&self, name: &str, object: Option<Arc<MicrosoftGraphCredential>>) {
        self.history.lock().unwrap().entry(name.to_owned()).or_default().push((Instant::now(), object));
    }

    /// Forgets the stored versions, because a restore has replaced them.
    pub fn forget(&self) {
        self.history.lock().unwrap().clear();
    }

    async fn look(&self, api: &Api<MicrosoftGraphCredential>, account: String, credential: &Credential) {
        let arrived = Instant::now();
        let Some(name) = name_of(&account, credential) else { return };
        let stored = api.get_opt(&name).await;
        let id = credential.credential_id;
        let objection = match stored {
            Ok(Some(object)) if self.has_objected_before_read(&name, id, arrived) => objection(&object, id)
                .map(|reason| {
                    let version = object.metadata.resource_version.unwrap_or_default();
                    format!(
                        "{id} of {name} was deleted at {} against version {version}: {reason}",
                        Timestamp::now()
                    )
                }),
            _ => None,
        };
        self.deletions.lock().unwrap().push(Deletion { account, objection });
    }

    /// Whether every version that the operator may have read before a request now forbids the deletion.
    fn has_objected_before_read(&self, name: &str, id: i64, now: Instant) -> bool {
        let history = self.history.lock().unwrap();
        let Some(versions) = history.get(name) else { return false };
        let Some(since) = versions.iter().rposition(|(at, _)| *at + READ_BEFORE <= now) else { return false };
        let objects = |object: &Option<Arc<MicrosoftGraphCredential>>| {
            object.as_ref().is_some_and(|object| objection(object, id).is_some())
        };
        versions[since..].iter().all(|(_, object)| objects(object))
    }

    /// The first deletion at this account that the stored object forbade.
    pub fn objection(&self, account: &str) -> Option<String> {
        let deletions = self.deletions.lock().unwrap();
        deletions.iter().filter(|it| it.account == account).find_map(|it| it.objection.clone())
    }

    /// The number of deletions.
    pub fn count(&self) -> usize {
        self.deletions.lock().unwrap().len()
    }
}

/// Why an object forbids the deletion of this credential.
fn objection(object: &MicrosoftGraphCredential, id: i64) -> Option<&'static str> {
    let status = object.status.as_ref();
    let is_registered =
        status.and_then(|status| status.registration.as_ref()).is_some_and(|it| it.credential_id == id);
    if object.spec.is_suspended() {
        Some("it is suspended")
    } else if !is_registered {
        None
    } else if !object.is_deleted() {
        Some("it is registered, and the object lives")
    } else {
        (object.spec.deletion_policy() == DeletionPolicy::Retain).then_some("its policy is Retain")
    }
}

/// The object of a credential, by its client id.
fn name_of(account: &str, credential: &Credential) -> Option<String> {
    let index = u32::from_str_radix(credential.client_id.get(..8)?, 16).ok()?;
    (index < 16).then(|| format!("{account}-{index}"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(spec: &Value, registered: i64) -> MicrosoftGraphCredential {
        let mut whole = json!({
            "apiVersion": "graph-credentials.io/v1alpha1", "kind": "MicrosoftGraphCredential",
            "metadata": {"name": "run7-0"},
            "spec": crate::harness::plain_spec(spec.clone()),
        });
        whole["status"] = json!({"registration": {
            "credentialId": registered, "ownership": "Created", "fingerprint": "unknown", "name": "x",
            "expiresAt": "2027-11-28T23:59:59Z", "registrationTime": "2026-11-28T23:59:59Z",
        }});
        serde_json::from_value(whole).expect("an object")
    }

    #[test]
    fn an_object_objects_to_deleting_a_kept_credential() {
        let deleted = |spec: Value| {
            let mut object = object(&spec, 7);
            object.metadata.deletion_timestamp =
                Some(serde_json::from_value(json!("2026-11-29T00:00:00Z")).unwrap());
            object
        };
        assert!(objection(&object(&json!({"deletionPolicy": "Delete"}), 7), 7).is_some(), "it lives");
        assert!(objection(&object(&json!({}), 7), 8).is_none(), "a duplicate");
        assert!(objection(&object(&json!({"suspend": true}), 7), 8).is_some());
        assert!(objection(&deleted(json!({"deletionPolicy": "Delete"})), 7).is_none());
        assert!(objection(&deleted(json!({"deletionPolicy": "Retain"})), 7).is_some());
        assert!(objection(&deleted(json!({"deletionPolicy": "Delete", "suspend": true})), 7).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_counts_after_the_operator_must_have_read_it() {
        let witness = Witness::default();
        let keeps = || Some(Arc::new(object(&json!({}), 7)));
        witness.note("run7-0", Some(Arc::new(object(&json!({}), 8))));
        tokio::time::advance(READ_BEFORE).await;
        assert!(!witness.has_objected_before_read("run7-0", 7, Instant::now()), "it did not object");
        witness.note("run7-0", keeps());
        assert!(!witness.has_objected_before_read("run7-0", 7, Instant::now()), "a moment ago it did not");
        tokio::time::advance(READ_BEFORE).await;
        assert!(witness.has_objected_before_read("run7-0", 7, Instant::now()));
        witness.note("run7-0", None);
        witness.note("run7-0", keeps());
        assert!(!witness.has_objected_before_read("run7-0", 7, Instant::now()), "there was no object");
        assert!(!witness.has_objected_before_read("run8-0", 7, Instant::now()), "nothing is known");
    }
}
