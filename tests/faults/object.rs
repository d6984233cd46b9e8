//! An object as its owner wants it, and the check that the cluster and Woodpecker agree.

use graph_credential_operator::api::MicrosoftGraphCredential;
use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use jiff::Timestamp;
use kit::woodpecker::{Credential, Woodpecker};
use kube::ResourceExt;
use serde_json::{Value, json};

use crate::environment::Environment;
use crate::harness::{EXPIRY, TENANT, condition};
use crate::script::{Policy, Start};

/// How many secrets an app has at Microsoft.
pub const SECRETS: usize = 16;

/// An object as its owner wants it.
pub struct Object {
    pub name: String,
    pub client: String,
    pub secret: usize,
    pub display_name: Option<String>,
    pub policy: Policy,
    pub suspended: bool,
    /// The existing credential that it finds.
    pub adopted: Option<i64>,
    /// Whether it had another policy before.
    pub had_another_policy: bool,
    pub expectation: Expectation,
    /// The credential that must still belong to it after the API server was restored.
    pub restored: Option<Restored>,
}

/// What an object had when the API server was restored.
#[derive(Clone, Copy, Debug)]
pub struct Restored {
    /// Its credential at Woodpecker.
    pub credential: Option<i64>,
}

/// What must exist for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// It was not created yet.
    NotCreated,
    /// The object, and one credential.
    Lives,
    /// No object, and no credential.
    Removed,
    /// No object, and the credential that was registered at its end; if there was none, what its last create
    /// has made.
    Left(Option<i64>),
}

// === impl Object ===

impl Object {
    /// An object that is not created yet. `number` distinguishes the apps of an environment's runs, `index`
    /// those of one run.
    pub fn new(account: &str, number: u64, index: usize) -> Self {
        Self {
            name: format!("{account}-{index}"),
            client: format!("{index:08x}-0000-4000-8000-{number:012x}"),
            secret: 0,
            display_name: None,
            policy: Policy::Retain,
            suspended: false,
            adopted: None,
            had_another_policy: false,
            expectation: Expectation::NotCreated,
            restored: None,
        }
    }

    /// Sets what it finds at the account.
    pub fn starting(mut self, woodpecker: &Woodpecker, account: &str, start: Start) -> Self {
        if start == Start::Foreign {
            let existing = Credential::new(TENANT, &self.client, "their secret", EXPIRY, "by hand");
            self.adopted = Some(woodpecker.put(account, existing));
        }
        self
    }

    pub fn nth_secret(&self, n: usize) -> String {
        format!("secret-{n}-of-{}", self.name)
    }

    /// The secret that it must have.
    pub fn secret(&self) -> String {
        self.nth_secret(self.secret)
    }

    pub async fn write_secret(&self, environment: &Environment) {
        let values = [("client_secret", self.secret()), ("secret_expires_at", EXPIRY.to_owned())];
        let values = values.each_ref().map(|(key, value)| (*key, value.as_str()));
        environment.env.secret(&format!("{}-graph", self.name), &values).await;
    }

    pub fn spec(&self, account: &str) -> Value {
        json!({
            "clientId": self.client,
            "displayName": self.display_name,
            "secretRef": {"name": format!("{}-graph", self.name)},
            "destination": {"woodpecker": {"accountRef": {"name": account}}},
            "deletionPolicy": format!("{:?}", self.policy),
            "suspend": self.suspended,
        })
    }

    /// Returns the first difference.
    pub fn check(
        &self,
        object: Option<&MicrosoftGraphCredential>,
        own: &[&Credential],
    ) -> Result<(), String> {
        match (self.expectation, object) {
            (Expectation::Lives, None) => Err("it is missing".into()),
            (Expectation::Lives, Some(object)) => self.check_living(object, own),
            (_, Some(_)) => Err("it is still there".into()),
            (Expectation::NotCreated, None) => Self::check_left(self.adopted, own),
            (Expectation::Removed, None) if own.is_empty() => Ok(()),
            (Expectation::Removed, None) => Err("it has left something".into()),
            (Expectation::Left(id), None) => Self::check_left(id, own),
        }
    }

    fn check_left(id: Option<i64>, own: &[&Credential]) -> Result<(), String> {
        match (id, own) {
            (Some(id), own) if !own.iter().any(|it| it.credential_id == id) => {
                Err(format!("{id} was removed"))
            }
            (_, [] | [_]) => Ok(()),
            (_, _) => Err("it has left more than one credential".into()),
        }
    }

    fn check_living(&self, object: &MicrosoftGraphCredential, own: &[&Credential]) -> Result<(), String> {
        let [own] = own else { return Err(format!("{} credentials", own.len())) };
        let status = object.status.as_ref().ok_or("it has no status")?;
        let is_ready =
            condition(object, ConditionType::Ready).is_some_and(|it| it.status == ConditionStatus::True);
        let has_name = match (&self.display_name, self.adopted) {
            (Some(name), _) => own.name == *name,
            (None, Some(_)) => own.name == "by hand",
            // The policy at its creation does not matter.
            (None, None) => own.name.starts_with(&object.remote_name()),
        };
        let has_finalizer = !object.finalizers().is_empty();
        let truths = [
            (
                Some(status.observed_generation) == object.metadata.generation,
                "the status is about an earlier spec",
            ),
            (is_ready, "it is not Ready"),
            (status.pending_create.is_none(), "a create is pending"),
            (status.previous_registrations.is_empty(), "a previous registration is left"),
            (status.credential_id == Some(own.credential_id), "status.credentialId is another one"),
            (
                status.registration.as_ref().map(|it| it.credential_id) == status.credential_id,
                "the registration is another one",
            ),
            (
                self.adopted.is_none_or(|id| id == own.credential_id),
                "the adopted credential is not the existing one",
            ),
            // A credential that the restored object did not know keeps its name.
            (self.restored.is_some() || has_name, "the name is wrong"),
            (
                self.restored.and_then(|it| it.credential).is_none_or(|id| id == own.credential_id),
                "it has another credential than before the API server was restored",
            ),
            (own.secret.is(&self.secret()), "the secret is wrong"),
            (own.secret_expires_at.parse::<Timestamp>().ok() == EXPIRY.parse().ok(), "the expiry is wrong"),
            (has_finalizer == (self.policy == Policy::Delete), "the finalizer does not follow the policy"),
        ];
        truths.iter().find(|(is_so, _)| !is_so).map_or(Ok(()), |(_, problem)| Err((*problem).to_owned()))
    }
}
