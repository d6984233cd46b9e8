//! The objects that users create: Secrets and credentials, many at once or one at a time, and how long they
//! take.

use std::ops::Range;
use std::time::{Duration, Instant};

use futures::StreamExt;
use graph_credential_operator::api::MicrosoftGraphCredential;
use graph_credential_operator::api::conditions::{ConditionType, find};
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, Patch, PatchParams, WatchEvent, WatchParams};
use kube::core::PartialObjectMeta;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use crate::environment::{ACCOUNT, EXPIRY, Environment, TENANT};
use crate::figures::{Figures, quantile};
use crate::plan::To;

/// Clients that create objects at the same time.
const CLIENTS: usize = 8;

/// How long a single object may take.
const TIMEOUT: Duration = Duration::from_mins(2);

/// Both secrets of every app.
pub const SECRETS: [&str; 2] =
    ["s3cret-one-of-forty-characters-or-so-1~a", "s3cret-two-of-forty-characters-or-so-2~b"];

/// Common properties of the objects of a measurement.
#[derive(Clone)]
pub struct Kind {
    pub to: To,
    /// Accounts that the objects use in rotation; with zero, the default account.
    pub accounts: usize,
    /// The value in their Secrets.
    pub secret: &'static str,
    /// What is added to their metadata.
    pub metadata: Value,
}

impl Kind {
    pub fn plain(to: To) -> Self {
        Self { to, accounts: 0, secret: SECRETS[0], metadata: json!({}) }
    }

    fn account(&self, number: usize) -> String {
        number.checked_rem(self.accounts).map_or_else(|| ACCOUNT.to_owned(), account_name)
    }
}

/// One of several accounts.
pub fn account_name(number: usize) -> String {
    format!("account-{number}")
}

impl Environment {
    /// Apps at Microsoft and their Secrets, for the objects with these numbers.
    pub async fn sources(&self, kind: &Kind, numbers: Range<usize>) {
        at_once(numbers, async |number| {
            let client = client_id(number);
            self.entra.add_app(TENANT, &client);
            self.entra.set_secrets(TENANT, &client, &SECRETS);
            let values = [("client_secret", kind.secret), ("secret_expires_at", EXPIRY)];
            self.secret(&format!("s-{number}"), &values).await;
        })
        .await;
    }

    /// Creates the objects as fast as possible.
    pub async fn objects(&self, kind: &Kind, numbers: Range<usize>) {
        at_once(numbers, async |number| self.object(kind, number).await).await;
    }

    async fn object(&self, kind: &Kind, number: usize) {
        let destination = match kind.to {
            To::Store => json!({"store": {}}),
            To::Woodpecker => json!({"woodpecker": {"accountRef": {"name": kind.account(number)}}}),
        };
        let mut metadata = kind.metadata.clone();
        metadata["name"] = json!(name(number));
        let spec = json!({
            "tenantId": TENANT, "clientId": client_id(number), "secretRef": {"name": format!("s-{number}")},
            "destination": destination
        });
        self.create::<MicrosoftGraphCredential>(json!({"metadata": metadata, "spec": spec})).await;
    }

    /// Gives all of them their other secret.
    pub async fn rotate(&self, numbers: Range<usize>) {
        at_once(numbers, async |number| {
            let patch = Patch::Merge(json!({"stringData": {"client_secret": SECRETS[1]}}));
            let secrets = self.api::<Secret>();
            secrets.patch(&format!("s-{number}"), &PatchParams::default(), &patch).await.unwrap();
        })
        .await;
    }

    /// Sets the time of the last verification in their statuses to that long ago.
    pub async fn verified_ago(&self, numbers: Range<usize>, ago: Duration) {
        let at = jiff::Timestamp::now() - ago;
        let patch = Patch::Merge(
            json!({"status": {"lastVerifiedTime": at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()}}),
        );
        at_once(numbers, async |number| {
            let objects = self.api::<MicrosoftGraphCredential>();
            objects.patch_status(&name(number), &PatchParams::default(), &patch).await.unwrap();
        })
        .await;
    }

    /// Secrets that no object names.
    pub async fn foreign_secrets(&self, namespace: &str, number: usize) {
        let text = "x".repeat(1000);
        at_once(0..number, async |number| {
            let secret =
                json!({"metadata": {"name": format!("foreign-{number}")}, "stringData": {"value": text}});
            self.create_in::<Secret>(namespace, secret).await;
        })
        .await;
    }

    /// How many objects are Ready.
    pub async fn ready(&self) -> usize {
        let (mut ready, mut page) = (0, ListParams::default().limit(500));
        loop {
            let list = self.api::<MicrosoftGraphCredential>().list(&page).await.unwrap();
            ready += list.items.iter().filter(|object| is_ready(object)).count();
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => return ready,
            }
        }
    }

    /// Creates the objects one after the other, each once the one before is Ready. Returns how long each of
    /// them took, in milliseconds, from the create request to the watch event that shows it Ready.
    pub async fn one_at_a_time(&self, kind: &Kind, numbers: Range<usize>) -> Vec<f64> {
        let api = self.api::<MicrosoftGraphCredential>();
        let metadata: Api<PartialObjectMeta<MicrosoftGraphCredential>> = self.api();
        let list = metadata.list_metadata(&ListParams::default().limit(1)).await.unwrap();
        let mut version = list.metadata.resource_version.unwrap();
        let mut took = Vec::new();
        let mut events = api.watch(&WatchParams::default(), &version).await.unwrap().boxed();
        for number in numbers {
            let (started, name) = (Instant::now(), name(number));
            self.object(kind, number).await;
            loop {
                assert!(started.elapsed() < TIMEOUT, "{name} alone is not ready after {TIMEOUT:?}");
                match tokio::time::timeout(TIMEOUT, events.next()).await {
                    Ok(Some(Ok(WatchEvent::Added(object) | WatchEvent::Modified(object)))) => {
                        version = object.resource_version().unwrap();
                        if object.name_any() == name && is_ready(&object) {
                            break;
                        }
                    }
                    // The API server ends each watch after some time.
                    Ok(None) => events = api.watch(&WatchParams::default(), &version).await.unwrap().boxed(),
                    Ok(Some(_)) | Err(_) => {}
                }
            }
            took.push(started.elapsed().as_secs_f64() * 1000.0);
        }
        took
    }
}

/// p50 and p99 of such times.
pub fn latencies(prefix: &str, took: &[f64]) -> Figures {
    let mut figures = Figures::default();
    figures.set(format!("{prefix}p50_ms"), quantile(took, 0.5));
    figures.set(format!("{prefix}p99_ms"), quantile(took, 0.99));
    figures
}

fn is_ready(object: &MicrosoftGraphCredential) -> bool {
    let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    crate::environment::is_true(find(conditions, ConditionType::Ready))
}

async fn at_once(numbers: Range<usize>, each: impl AsyncFn(usize)) {
    futures::stream::iter(numbers).for_each_concurrent(CLIENTS, |number| each(number)).await;
}

fn name(number: usize) -> String {
    format!("m-{number}")
}

pub fn client_id(number: usize) -> String {
    format!("00000000-0000-4000-8000-{number:012}")
}
