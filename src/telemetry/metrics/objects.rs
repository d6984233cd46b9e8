//! Series of each object, created on each scrape, so that those of a deleted object disappear with it.

use std::fmt::Error;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::{Registry, Unit};

use crate::telemetry::metrics::{Label, scrape};

/// Provides the objects.
pub trait ObjectSource: Send + Sync {
    /// All credentials.
    fn credentials(&self) -> Vec<CredentialSeries>;
    /// All accounts.
    fn accounts(&self) -> Vec<AccountSeries>;
    /// All identities.
    fn identities(&self) -> Vec<IdentitySeries>;
    /// All objects with mailboxes to connect.
    fn mailboxes(&self) -> Vec<MailboxesSeries>;
}

/// The known objects; none on a replica that is not the leader.
#[derive(Clone, Debug, Default)]
pub struct ObjectMetrics(Arc<Mutex<Option<Weak<dyn ObjectSource>>>>);

/// The series of a credential.
#[derive(Clone, Debug)]
pub struct CredentialSeries {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// `woodpecker` or `store`; `None` if the object cannot be read.
    pub destination: Option<&'static str>,
    /// Namespace and name of the account that its spec references.
    pub account: Option<(String, String)>,
    /// The condition `Ready`.
    pub ready: ConditionSample,
    /// The condition `Verified`, if there is one.
    pub verified: Option<ConditionSample>,
    /// The condition `ExpiryConfirmed`, if there is one.
    pub expiry_confirmed: Option<ConditionSample>,
    /// The condition `RotationReady`, if there is one.
    pub rotation_ready: Option<ConditionSample>,
    /// Client secrets of the app that were created for the object and that nothing records; `None` without
    /// `RotationReady`.
    pub unknown_secrets: Option<usize>,
    /// Whether the credential is suspended.
    pub is_suspended: bool,
    /// When the registered secret expires, in seconds since 1970.
    pub expires_at: Option<i64>,
    /// When Microsoft last issued a token for the secret, in seconds since 1970.
    pub last_verified_time: Option<i64>,
}

/// A condition.
#[derive(Clone, Debug)]
pub struct ConditionSample {
    /// Whether its status is `True`.
    pub is_true: bool,
    /// Its reason.
    pub reason: String,
}

/// The series of an account.
#[derive(Clone, Debug)]
pub struct AccountSeries {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// The condition `Ready`.
    pub ready: ConditionSample,
    /// `None` if it is not known.
    pub counts: Option<CredentialCounts>,
    /// Time of its last list, in seconds since 1970.
    pub listed_at: Option<i64>,
    /// Its mailboxes, each state with their number; `None` if they were not listed.
    pub mailboxes: Option<[(&'static str, i32); 5]>,
    /// The condition `MailboxesHealthy`, if there is one.
    pub mailboxes_healthy: Option<ConditionSample>,
    /// The queue of its requests, if there is one.
    pub account_queue: Option<QueueSeries>,
}

/// The series of an identity.
#[derive(Clone, Debug)]
pub struct IdentitySeries {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// The condition `Ready`.
    pub ready: ConditionSample,
    /// The condition `TenantsReady`, if there is one.
    pub tenants_ready: Option<ConditionSample>,
}

/// The series of an object with mailboxes to connect.
#[derive(Clone, Debug)]
pub struct MailboxesSeries {
    /// Namespace of the object.
    pub namespace: String,
    /// Name of the object.
    pub name: String,
    /// The condition `Ready`.
    pub ready: ConditionSample,
    /// Its mailboxes, each state with their number.
    pub counts: Option<[(&'static str, i32); 7]>,
}

/// Credentials that an account holds.
#[derive(Clone, Copy, Debug)]
pub struct CredentialCounts {
    /// Registered by an object of this cluster.
    pub managed: i32,
    /// Not registered by an object, though one names the same app.
    pub adoptable: i32,
    /// For apps that no object names.
    pub unmanaged: i32,
}

/// The series of an account queue.
#[derive(Clone, Copy, Debug, Default)]
pub struct QueueSeries {
    /// Requests that wait.
    pub waiting: usize,
    /// How long the first of them has waited; `None` if none waits.
    pub longest_wait: Option<Duration>,
    /// Permits granted since the queue was created.
    pub permits: u64,
    /// Requests that Woodpecker answered since the queue was created.
    pub responses: u64,
}

// === impl ObjectMetrics ===

impl ObjectMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(metrics.clone()));
        metrics
    }

    /// Shows these objects from now on, as long as they exist.
    pub fn set_source(&self, objects: Weak<dyn ObjectSource>) {
        *self.0.lock() = Some(objects);
    }
}

impl Collector for ObjectMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let source = self.0.lock().clone();
        let Some(objects) = source.and_then(|objects| objects.upgrade()) else { return Ok(()) };
        let all = objects.credentials();
        credentials(&mut encoder, &all)?;
        confirmed_expiries(&mut encoder, &all)?;
        rotations(&mut encoder, &all)?;
        accounts(&mut encoder, &objects.accounts())?;
        identities(&mut encoder, &objects.identities())?;
        connections(&mut encoder, &objects.mailboxes())
    }
}

fn credentials(encoder: &mut DescriptorEncoder<'_>, all: &[CredentialSeries]) -> Result<(), Error> {
    scrape::gauge(
        encoder,
        "graph_credential_destination",
        None,
        "Always 1; the labels show the destination of a credential: woodpecker, with its account, or store.",
        all.iter().filter_map(|it| {
            let account = it.account.as_ref().map_or(("", ""), |(namespace, name)| (namespace, name));
            let [namespace, name] = object(&it.namespace, &it.name);
            let destination = ("destination", it.destination?);
            let account = [("account_namespace", account.0), ("account", account.1)];
            Some(([namespace, name, destination, account[0], account[1]], 1))
        }),
    )?;
    scrape::gauge(
        encoder,
        "graph_credential_ready",
        None,
        "Whether a credential is ready (1) or not (0), with the reason of its condition Ready.",
        all.iter().map(|it| reason(&it.namespace, &it.name, &it.ready)),
    )?;
    scrape::gauge(
        encoder,
        "graph_credential_verified",
        None,
        "Whether a credential's secret is verified (1) or not (0), with the reason of its condition Verified.",
        all.iter().filter_map(|it| Some(reason(&it.namespace, &it.name, it.verified.as_ref()?))),
    )?;
    scrape::gauge(
        encoder,
        "graph_credential_suspended",
        None,
        "Whether a credential is suspended (1) or not (0).",
        all.iter().map(|it| (object(&it.namespace, &it.name), i64::from(it.is_suspended))),
    )?;
    scrape::gauge(
        encoder,
        "graph_credential_expiry_timestamp",
        Some(&Unit::Seconds),
        "When the registered secret expires, in seconds since 1970; absent if nothing is registered.",
        all.iter().filter_map(|it| Some((object(&it.namespace, &it.name), it.expires_at?))),
    )?;
    scrape::gauge(
        encoder,
        "graph_credential_verified_timestamp",
        Some(&Unit::Seconds),
        "When Microsoft last issued a token for the secret, in seconds since 1970; absent before the first verification.",
        all.iter().filter_map(|it| Some((object(&it.namespace, &it.name), it.last_verified_time?))),
    )
}

fn confirmed_expiries(encoder: &mut DescriptorEncoder<'_>, all: &[CredentialSeries]) -> Result<(), Error> {
    scrape::gauge(
        encoder,
        "graph_credential_expiry_confirmed",
        None,
        "Whether the expiry of a credential matches the one at Microsoft Entra (1) or not (0), with the reason of its condition ExpiryConfirmed; absent without spec.entra.",
        all.iter().filter_map(|it| Some(reason(&it.namespace, &it.name, it.expiry_confirmed.as_ref()?))),
    )
}

fn rotations(encoder: &mut DescriptorEncoder<'_>, all: &[CredentialSeries]) -> Result<(), Error> {
    scrape::gauge(
        encoder,
        "graph_credential_rotation_ready",
        None,
        "Whether the operator creates and removes the client secrets of a credential as scheduled (1) or not (0), with the reason of its condition RotationReady; absent without spec.rotation.",
        all.iter().filter_map(|it| Some(reason(&it.namespace, &it.name, it.rotation_ready.as_ref()?))),
    )?;
    scrape::gauge(
        encoder,
        "graph_credential_rotation_unknown_secrets",
        None,
        "Client secrets of the app that were created for a credential and that nothing records; absent without spec.rotation.",
        all.iter().filter_map(|it| Some((object(&it.namespace, &it.name), it.unknown_secrets?))),
    )
}

fn accounts(encoder: &mut DescriptorEncoder<'_>, all: &[AccountSeries]) -> Result<(), Error> {
    scrape::gauge(
        encoder,
        "graph_credential_account_ready",
        None,
        "Whether a Woodpecker account is ready (1) or not (0), with the reason of its condition Ready.",
        all.iter().map(|it| reason(&it.namespace, &it.name, &it.ready)),
    )?;
    let states = all.iter().flat_map(|it| {
        let [namespace, name] = object(&it.namespace, &it.name);
        let state = move |state| [namespace, name, ("state", state)];
        it.counts.into_iter().flat_map(move |counts| {
            [
                (state("managed"), i64::from(counts.managed)),
                (state("adoptable"), i64::from(counts.adoptable)),
                (state("unmanaged"), i64::from(counts.unmanaged)),
            ]
        })
    });
    scrape::gauge(
        encoder,
        "graph_credential_account_credentials",
        None,
        "Credentials that an account holds, by its last list: managed (registered by an object of this cluster), adoptable (not registered, though an object names the app), unmanaged (no object names the app).",
        states,
    )?;
    scrape::gauge(
        encoder,
        "graph_credential_account_listed_timestamp",
        Some(&Unit::Seconds),
        "Time of an account's last list, in seconds since 1970; absent if there is none that the operator trusts.",
        all.iter().filter_map(|it| Some((object(&it.namespace, &it.name), it.listed_at?))),
    )?;
    mailboxes(encoder, all)?;
    account_queues(encoder, all)
}

fn mailboxes(encoder: &mut DescriptorEncoder<'_>, all: &[AccountSeries]) -> Result<(), Error> {
    let states = all.iter().flat_map(|it| {
        let [namespace, name] = object(&it.namespace, &it.name);
        let counts = it.mailboxes.into_iter().flatten();
        counts.map(move |(state, count)| ([namespace, name, ("state", state)], i64::from(count)))
    });
    scrape::gauge(
        encoder,
        "graph_credential_account_mailboxes",
        None,
        "Mailboxes of an account, by its last listing of them: healthy, degraded (connected conditionally), failing (with an error), inactive (without a slot), frozen (paused by a person); absent without spec.mailboxHealth.",
        states,
    )?;
    scrape::gauge(
        encoder,
        "graph_credential_account_mailboxes_healthy",
        None,
        "Whether no mailbox of an account has been failing for an hour (1), or one has or the state is unknown (0), with the reason of its condition MailboxesHealthy; absent without spec.mailboxHealth.",
        all.iter().filter_map(|it| Some(reason(&it.namespace, &it.name, it.mailboxes_healthy.as_ref()?))),
    )
}

fn identities(encoder: &mut DescriptorEncoder<'_>, all: &[IdentitySeries]) -> Result<(), Error> {
    scrape::gauge(
        encoder,
        "graph_credential_identity_ready",
        None,
        "Whether an EntraIdentity is ready (1) or not (0), with the reason of its condition Ready.",
        all.iter().map(|it| reason(&it.namespace, &it.name, &it.ready)),
    )?;
    scrape::gauge(
        encoder,
        "graph_credential_identity_tenants_ready",
        None,
        "Whether an EntraIdentity is ready in all tenants of its grants (1) or not (0), with the reason of its condition TenantsReady; absent before the first sign-in.",
        all.iter().filter_map(|it| Some(reason(&it.namespace, &it.name, it.tenants_ready.as_ref()?))),
    )
}

fn connections(encoder: &mut DescriptorEncoder<'_>, all: &[MailboxesSeries]) -> Result<(), Error> {
    scrape::gauge(
        encoder,
        "graph_credential_mailboxes_ready",
        None,
        "Whether the mailboxes of a WoodpeckerMailboxes are connected, or planned with the policy Plan (1), or not (0), with the reason of its condition Ready.",
        all.iter().map(|it| reason(&it.namespace, &it.name, &it.ready)),
    )?;
    let states = all.iter().flat_map(|it| {
        let [namespace, name] = object(&it.namespace, &it.name);
        let counts = it.counts.into_iter().flatten();
        counts.map(move |(state, count)| ([namespace, name, ("state", state)], i64::from(count)))
    });
    scrape::gauge(
        encoder,
        "graph_credential_mailboxes",
        None,
        "Mailboxes of a WoodpeckerMailboxes: connected (by the operator), already_connected (before), not_connected, submitted (with an unknown outcome), refused (by Woodpecker), unconfirmed (submitted, and not in a listing), stopped (no longer submitted).",
        states,
    )
}

fn account_queues(encoder: &mut DescriptorEncoder<'_>, all: &[AccountSeries]) -> Result<(), Error> {
    scrape::gauge(
        encoder,
        "graph_credential_account_queue_waiting",
        None,
        "Requests that wait in an account's queue; objects for the same account at Woodpecker share a queue.",
        all.iter().filter_map(|it| Some((object(&it.namespace, &it.name), it.account_queue?.waiting))),
    )?;
    scrape::gauge(
        encoder,
        "graph_credential_account_queue_longest_wait",
        Some(&Unit::Seconds),
        "How long the first request in an account's queue has waited; 0 if none waits.",
        all.iter().filter_map(|it| {
            let longest = it.account_queue?.longest_wait.unwrap_or_default();
            Some((object(&it.namespace, &it.name), longest.as_secs_f64()))
        }),
    )?;
    scrape::counter(
        encoder,
        "graph_credential_account_queue_permits",
        "Permits that an account's queue has granted.",
        all.iter().filter_map(|it| Some((object(&it.namespace, &it.name), it.account_queue?.permits))),
    )?;
    scrape::counter(
        encoder,
        "graph_credential_account_queue_responses",
        "Requests of an account's queue that got a response of Woodpecker: rejections count, 429 and failures do not.",
        all.iter().filter_map(|it| Some((object(&it.namespace, &it.name), it.account_queue?.responses))),
    )
}

pub(super) fn object<'a>(namespace: &'a str, name: &'a str) -> [Label<&'a str>; 2] {
    [("namespace", namespace), ("name", name)]
}

fn reason<'a>(
    namespace: &'a str,
    name: &'a str,
    condition: &'a ConditionSample,
) -> ([Label<&'a str>; 3], i64) {
    let [namespace, name] = object(namespace, name);
    ([namespace, name, ("reason", condition.reason.as_str())], i64::from(condition.is_true))
}
