//! A run: one account at Woodpecker, its objects, and what must hold for both at the end.

use std::sync::Arc;
use std::time::Duration;

use graph_credential_operator::api::MicrosoftGraphCredential;
use jiff::{SignedDuration, Timestamp};
use kit::woodpecker::{Credential, Op, Request, Woodpecker};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::time::Instant;

use crate::environment::{Environment, TIMEOUT};
use crate::harness::{EXPIRY, TENANT};
use crate::object::{Expectation, Object, Restored, SECRETS};
use crate::script::{Act, Policy, Spared, Start};

/// How long the deletion of an object may take during faults before it is created again.
const DELETION_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Run {
    pub account: String,
    pub objects: Vec<Object>,
    third_party_credentials: Vec<Credential>,
}

/// Returns an object by its name.
pub type Find<'a> = &'a dyn Fn(&str) -> Option<Arc<MicrosoftGraphCredential>>;

// === impl Run ===

impl Run {
    /// Creates the account with credentials of third parties, the apps with their secrets, and the objects'
    /// Secrets. `number` distinguishes the apps of an environment's runs.
    pub async fn create(environment: &Environment, name: &str, number: u64, starts: &[Start]) -> Self {
        let env = &environment.env;
        let key = format!("key-of-{name}");
        env.woodpecker.add_account(name, &key);
        let mut objects = Vec::new();
        for (index, start) in starts.iter().enumerate() {
            let object = Object::new(name, number, index);
            env.entra.add_app(TENANT, &object.client);
            let secrets: Vec<String> = (0..SECRETS).map(|n| object.nth_secret(n)).collect();
            let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
            env.entra.set_secrets(TENANT, &object.client, &secrets);
            objects.push(object.starting(&env.woodpecker, name, *start));
        }
        let third_party_credentials =
            third_party_credentials(&env.woodpecker, name, &objects[0], &env.namespace);
        let run = Self { account: name.to_owned(), objects, third_party_credentials };
        run.write_secrets(environment).await;
        run
    }

    async fn write_secrets(&self, environment: &Environment) {
        for object in &self.objects {
            object.write_secret(environment).await;
        }
        let key = format!("key-of-{}", self.account);
        environment.env.secret(&format!("{}-key", self.account), &[("api_key", &key)]).await;
    }

    /// Creates the account's object.
    pub async fn open(&self, environment: &Environment) {
        environment.env.apply_account(&self.account, json!({})).await;
    }

    pub fn names(&self) -> Vec<String> {
        self.objects.iter().map(|object| object.name.clone()).collect()
    }

    pub async fn act(&mut self, environment: &Environment, act: Act) {
        match act {
            Act::Make(index, policy) => self.make(environment, index, policy).await,
            Act::Rotate(index) => {
                let object = &mut self.objects[index];
                object.secret = (object.secret + 1) % SECRETS;
                object.write_secret(environment).await;
            }
            Act::RestoreSecret(index) => {
                let object = &mut self.objects[index];
                object.secret = object.secret.saturating_sub(1);
                object.write_secret(environment).await;
            }
            Act::Rename(index) => {
                let object = &mut self.objects[index];
                let nth = object.display_name.as_ref().map_or(0, String::len);
                object.display_name = Some(format!("{} {}", object.name, "x".repeat(nth % 7 + 1)));
                self.apply(environment, index).await;
            }
            Act::SetPolicy(index, policy) => {
                let object = &mut self.objects[index];
                object.had_another_policy |= object.policy != policy;
                object.policy = policy;
                self.apply(environment, index).await;
            }
            Act::Suspend(index, suspended) => {
                self.objects[index].suspended = suspended;
                self.apply(environment, index).await;
            }
            Act::Delete(index) => self.delete(environment, index).await,
            Act::Spare(index, how) => self.spare(environment, index, how).await,
            Act::InjectFault(op, outcome, times) => {
                environment.env.woodpecker.fail_account_next(&self.account, op, times, outcome.fault(op));
            }
        }
    }

    /// If an earlier object of the name left something, it is not created again, because nothing owns what
    /// was left.
    async fn make(&mut self, environment: &Environment, index: usize, policy: Policy) {
        let object = &self.objects[index];
        if let Expectation::Left(_) = object.expectation {
            return;
        }
        if object.expectation == Expectation::Removed && !self.wait_until_gone(environment, index).await {
            // The verification reports what keeps it.
            return;
        }
        let object = &mut self.objects[index];
        (object.expectation, object.policy, object.suspended) = (Expectation::Lives, policy, false);
        object.had_another_policy = false;
        self.apply(environment, index).await;
    }

    async fn wait_until_gone(&self, environment: &Environment, index: usize) -> bool {
        let name = &self.objects[index].name;
        let api = environment.env.api::<MicrosoftGraphCredential>();
        let deadline = Instant::now() + DELETION_TIMEOUT;
        while Instant::now() < deadline {
            for _ in 0..10 {
                if api.get_opt(name).await.expect("it can be read").is_none() {
                    return true;
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            environment.retry_rejected(self).await;
        }
        false
    }

    async fn apply(&self, environment: &Environment, index: usize) {
        let object = &self.objects[index];
        if object.expectation == Expectation::Lives {
            environment.env.credential(&object.name, object.spec(&self.account)).await;
        }
    }

    async fn delete(&mut self, environment: &Environment, index: usize) {
        let object = &mut self.objects[index];
        if object.expectation != Expectation::Lives {
            return;
        }
        let api = environment.env.api::<MicrosoftGraphCredential>();
        let (before, waits) = delete_this_version(&api, &object.name).await;
        // If the policy has just become Delete, the object may not have the finalizer yet, and is deleted
        // before the operator knows.
        let waits = waits || !object.had_another_policy;
        let registered = before.status.and_then(|status| status.credential_id);
        let is_removed = object.policy == Policy::Delete && !object.suspended && waits;
        object.expectation = match object.adopted {
            Some(id) => Expectation::Left(Some(id)),
            None if is_removed => Expectation::Removed,
            None => Expectation::Left(registered),
        };
    }

    /// If it is still being deleted, it is unknown whether its credential was removed before the change.
    async fn spare(&mut self, environment: &Environment, index: usize, how: Spared) {
        let object = &mut self.objects[index];
        if object.expectation != Expectation::Removed {
            return;
        }
        let spec = match how {
            Spared::ByPolicy => json!({"deletionPolicy": "Retain"}),
            Spared::BySuspension => json!({"suspend": true}),
        };
        let api = environment.env.api::<MicrosoftGraphCredential>();
        let patch = Patch::Merge(json!({"spec": spec}));
        if api.patch(&object.name, &PatchParams::default(), &patch).await.is_ok() {
            object.expectation = Expectation::Left(None);
        }
    }

    /// Records each object's credential at Woodpecker, before the API server is restored.
    pub fn before_restore(&mut self, woodpecker: &Woodpecker) {
        let stored = woodpecker.credentials(&self.account);
        for object in &mut self.objects {
            let own = stored.iter().find(|entry| entry.client_id == object.client);
            let credential =
                own.filter(|_| object.expectation == Expectation::Lives).map(|entry| entry.credential_id);
            object.restored = Some(Restored { credential });
        }
    }

    /// Applies everything again, as `GitOps` does after a restore, and deletes what was deleted before.
    pub async fn after_restore(&mut self, environment: &Environment) {
        self.write_secrets(environment).await;
        self.open(environment).await;
        let api = environment.env.api::<MicrosoftGraphCredential>();
        for index in 0..self.objects.len() {
            self.apply(environment, index).await;
            if self.objects[index].expectation == Expectation::Lives {
                let _timed_out =
                    tokio::time::timeout(TIMEOUT, self.apply_until_not_deleting(environment, index)).await;
                continue;
            }
            let object = &mut self.objects[index];
            if object.expectation != Expectation::NotCreated {
                object.expectation = Expectation::Left(object.adopted);
            }
            if api.get_opt(&object.name).await.expect("it can be read").is_some() {
                delete_this_version(&api, &object.name).await;
            }
        }
    }

    /// A manifest that is applied to an object in deletion is lost with it, and `GitOps` applies it again.
    async fn apply_until_not_deleting(&self, environment: &Environment, index: usize) {
        let api = environment.env.api::<MicrosoftGraphCredential>();
        loop {
            let found = api.get_opt(&self.objects[index].name).await.expect("it can be read");
            if found.is_some_and(|it| it.metadata.deletion_timestamp.is_none()) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
            self.apply(environment, index).await;
        }
    }

    /// The first difference from what must hold.
    pub fn problem(&self, woodpecker: &Woodpecker, find: Find<'_>) -> Option<String> {
        let stored = woodpecker.credentials(&self.account);
        if let Some(lost) =
            self.third_party_credentials.iter().find(|credential| !stored.contains(credential))
        {
            return Some(format!("a third party's credential was changed: {lost:?}"));
        }
        let is_known = |entry: &&Credential| {
            self.third_party_credentials.contains(entry)
                || self.objects.iter().any(|object| object.client == entry.client_id)
        };
        if let Some(odd) = stored.iter().find(|entry| !is_known(entry)) {
            return Some(format!("unknown credential {odd:?}"));
        }
        self.objects.iter().find_map(|object| {
            let own: Vec<&Credential> =
                stored.iter().filter(|entry| entry.client_id == object.client).collect();
            let problem = object.check(find(&object.name).as_deref(), &own).err()?;
            let is_right = |it: &Credential| {
                woodpecker.secret_matches(&self.account, it.credential_id, &object.secret())
            };
            let own: Vec<_> = own.iter().map(|it| (it.credential_id, &it.name, is_right(it))).collect();
            Some(format!(
                "{}: {problem}; credentials (id, name, right secret): {own:?}; expected: {:?}",
                object.name, object.expectation
            ))
        })
    }

    /// The first wrong request, whatever the credentials are now.
    pub fn wrong_request(&self, woodpecker: &Woodpecker, kills: &[Timestamp]) -> Option<String> {
        let requests = woodpecker.requests(&self.account);
        overlap(&requests, kills).or_else(|| unowned_deletion(&requests))
    }
}

/// Deletes the object in the version that was read; returns that version, and whether it waits for a
/// finalizer. Without the version the API server may remove an object that has just got its finalizer: it
/// checks for one first, and then removes whatever exists. Source: k8s.io/apiserver v0.37,
/// `pkg/registry/generic/registry/store.go`, `Delete`.
pub async fn delete_this_version(
    api: &Api<MicrosoftGraphCredential>,
    name: &str,
) -> (MicrosoftGraphCredential, bool) {
    loop {
        let seen = api.get(name).await.expect("it exists");
        let only = Preconditions { resource_version: seen.resource_version(), uid: seen.uid() };
        match api.delete(name, &DeleteParams::default().preconditions(only)).await {
            Ok(deleted) => return (seen, deleted.is_left()),
            Err(kube::Error::Api(response)) if response.is_conflict() => {}
            Err(error) => panic!("it cannot be deleted: {error}"),
        }
    }
}

/// The first two requests of one operator that overlap. If a request got no response, or the operator was
/// killed, the double may count the next one as overlapping, because it does not know yet that the first has
/// no client.
fn overlap(requests: &[Request], kills: &[Timestamp]) -> Option<String> {
    const NOTICED: SignedDuration = SignedDuration::from_millis(500);
    let may_overlap = |earlier: &Request, at: Timestamp| {
        let without_response = ["Hang", "ProcessedThenHang", "Slow"];
        let was_killed = kills.iter().any(|kill| *kill <= at && at <= *kill + NOTICED);
        was_killed || earlier.fault.is_some_and(|fault| without_response.contains(&fault))
    };
    let pairs = requests.iter().zip(requests.iter().skip(1));
    let two =
        pairs.into_iter().find(|(earlier, it)| it.in_flight_at_start > 1 && !may_overlap(earlier, it.at))?;
    Some(format!("two requests at once: {two:?}"))
}

/// The first deletion of a credential that no create of this account has made.
fn unowned_deletion(requests: &[Request]) -> Option<String> {
    let ids_of =
        |op| requests.iter().filter(move |it| it.op == op && it.took_effect).map(|it| it.credential_id);
    let unowned = ids_of(Op::Delete).find(|id| !ids_of(Op::Create).any(|created| created == *id))?;
    Some(format!("{unowned:?} was deleted, but no create of this account made it"))
}

/// Credentials of other apps: one with the name of an object, and one with a name that seems to contain an
/// idempotency token.
fn third_party_credentials(
    woodpecker: &Woodpecker,
    account: &str,
    like: &Object,
    namespace: &str,
) -> Vec<Credential> {
    let app = "99999999-9999-4999-8999-999999999999";
    let names = [format!("{namespace}/{}", like.name), format!("{} [abcdefghijkm]", like.name)];
    for name in names {
        woodpecker.put(account, Credential::new(TENANT, app, "a third party's", EXPIRY, &name));
    }
    let stored = woodpecker.credentials(account);
    stored.into_iter().filter(|entry| entry.client_id == app).collect()
}
