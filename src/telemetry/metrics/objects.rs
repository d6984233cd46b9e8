//! A set of series for each object, made at the moment of a scrape: those of an object that is gone are gone with it.

use std::fmt::Error;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::registry::{Registry, Unit};

use super::{Label, scrape};

/// Whoever knows the objects.
pub trait Objects: Send + Sync {
    /// All credentials, as they are known now.
    fn credentials(&self) -> Vec<CredentialSeries>;
    /// All accounts, as they are known now.
    fn accounts(&self) -> Vec<AccountSeries>;
}

/// Every object that is known; nothing on a replica that stands by.
#[derive(Clone, Debug, Default)]
pub struct ObjectMetrics(Arc<Mutex<Option<Weak<dyn Objects>>>>);

/// What is told of a credential.
#[derive(Clone, Debug)]
pub struct CredentialSeries {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `woodpecker` or `store`; nothing where the object cannot be read.
    pub destination: Option<&'static str>,
    /// Namespace and name of the account that its spec points to, where it does.
    pub account: Option<(String, String)>,
    /// How its condition `Ready` stands.
    pub ready: Standing,
    /// How its condition `Verified` stands, where it has one.
    pub verified: Option<Standing>,
    /// Whether it is suspended.
    pub is_suspended: bool,
    /// When the registered secret expires, in seconds since 1970.
    pub expires_at: Option<i64>,
    /// When Microsoft last issued a token for the secret, in seconds since 1970.
    pub verified_at: Option<i64>,
}

/// How a condition stands.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Whether it is True.
    pub is_true: bool,
    /// Its reason.
    pub reason: String,
}

/// What is told of an account.
#[derive(Clone, Debug)]
pub struct AccountSeries {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// How its condition `Ready` stands.
    pub ready: Standing,
    /// What it holds, where that is known.
    pub held: Option<Held>,
    /// When its last listing was taken, in seconds since 1970.
    pub listed_at: Option<i64>,
    /// Its lane, where it has one.
    pub lane: Option<LaneSeries>,
}

/// Credentials that an account holds.
#[derive(Clone, Copy, Debug)]
pub struct Held {
    /// Registered by an object of this cluster.
    pub managed: i32,
    /// Not registered by an object, though one names the same app.
    pub unclaimed: i32,
    /// For apps that no object names.
    pub foreign: i32,
}

/// What is told of a lane.
#[derive(Clone, Copy, Debug, Default)]
pub struct LaneSeries {
    /// Requests that wait for their turn.
    pub waiting: usize,
    /// For how long the first of them has waited; nothing where none waits.
    pub longest_wait: Option<Duration>,
    /// Grants that were given since somebody has used the lane.
    pub grants: u64,
    /// Requests that were answered since somebody has used the lane.
    pub answers: u64,
}

// === impl ObjectMetrics ===

impl ObjectMetrics {
    pub(super) fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register_collector(Box::new(metrics.clone()));
        metrics
    }

    /// Tells from now on what these objects are, for as long as they are there.
    pub fn show(&self, objects: Weak<dyn Objects>) {
        *self.0.lock() = Some(objects);
    }
}

impl Collector for ObjectMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let source = self.0.lock().clone();
        let Some(objects) = source.and_then(|objects| objects.upgrade()) else { return Ok(()) };
        credentials(&mut encoder, &objects.credentials())?;
        accounts(&mut encoder, &objects.accounts())
    }
}

fn credentials(encoder: &mut DescriptorEncoder<'_>, all: &[CredentialSeries]) -> Result<(), Error> {
    scrape::gauge(
        encoder,
        "mgc_credential_destination",
        None,
        "Always 1; the labels say where a credential is to be registered: woodpecker, at an account, or store.",
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
        "mgc_credential_ready",
        None,
        "Whether a credential is ready (1) or not (0), with the reason of its condition Ready.",
        all.iter().map(|it| reason(&it.namespace, &it.name, &it.ready)),
    )?;
    scrape::gauge(
        encoder,
        "mgc_credential_verified",
        None,
        "Whether a credential's secret is proved (1) or not (0), with the reason of its condition Verified.",
        all.iter().filter_map(|it| Some(reason(&it.namespace, &it.name, it.verified.as_ref()?))),
    )?;
    scrape::gauge(
        encoder,
        "mgc_credential_suspended",
        None,
        "Whether a credential is suspended (1) or not (0).",
        all.iter().map(|it| (object(&it.namespace, &it.name), i64::from(it.is_suspended))),
    )?;
    scrape::gauge(
        encoder,
        "mgc_credential_expiry_timestamp",
        Some(&Unit::Seconds),
        "When the registered secret expires, in seconds since 1970; absent where nothing is registered.",
        all.iter().filter_map(|it| Some((object(&it.namespace, &it.name), it.expires_at?))),
    )?;
    scrape::gauge(
        encoder,
        "mgc_credential_verified_timestamp",
        Some(&Unit::Seconds),
        "When Microsoft last issued a token for the secret, in seconds since 1970; absent before the first proof.",
        all.iter().filter_map(|it| Some((object(&it.namespace, &it.name), it.verified_at?))),
    )
}

fn accounts(encoder: &mut DescriptorEncoder<'_>, all: &[AccountSeries]) -> Result<(), Error> {
    scrape::gauge(
        encoder,
        "mgc_account_ready",
        None,
        "Whether a Woodpecker account is ready (1) or not (0), with the reason of its condition Ready.",
        all.iter().map(|it| reason(&it.namespace, &it.name, &it.ready)),
    )?;
    let states = all.iter().flat_map(|it| {
        let [namespace, name] = object(&it.namespace, &it.name);
        let state = move |state| [namespace, name, ("state", state)];
        it.held.into_iter().flat_map(move |held| {
            [
                (state("managed"), i64::from(held.managed)),
                (state("unclaimed"), i64::from(held.unclaimed)),
                (state("foreign"), i64::from(held.foreign)),
            ]
        })
    });
    scrape::gauge(
        encoder,
        "mgc_account_credentials",
        None,
        "Credentials that an account holds by its last listing: managed (registered by an object of this cluster), unclaimed (not registered, though an object names the app), foreign (no object names the app).",
        states,
    )?;
    scrape::gauge(
        encoder,
        "mgc_account_listed_timestamp",
        Some(&Unit::Seconds),
        "When an account's last listing was taken, in seconds since 1970; absent where there is none to be believed.",
        all.iter().filter_map(|it| Some((object(&it.namespace, &it.name), it.listed_at?))),
    )?;
    scrape::gauge(
        encoder,
        "mgc_account_lane_waiting",
        None,
        "Requests that wait for their turn in an account's lane; accounts that are one at Woodpecker share a lane.",
        all.iter().filter_map(|it| Some((object(&it.namespace, &it.name), it.lane?.waiting))),
    )?;
    scrape::gauge(
        encoder,
        "mgc_account_lane_longest_wait",
        Some(&Unit::Seconds),
        "For how long the first request in an account's lane has waited for its turn, 0 where none waits.",
        all.iter().filter_map(|it| {
            let longest = it.lane?.longest_wait.unwrap_or_default();
            Some((object(&it.namespace, &it.name), longest.as_secs_f64()))
        }),
    )?;
    scrape::counter(
        encoder,
        "mgc_account_lane_grants",
        "Turns that an account's lane has given.",
        all.iter().filter_map(|it| Some((object(&it.namespace, &it.name), it.lane?.grants))),
    )?;
    scrape::counter(
        encoder,
        "mgc_account_lane_answers",
        "Requests of an account's lane that Woodpecker answered, refusals among them; 429 and failures are none.",
        all.iter().filter_map(|it| Some((object(&it.namespace, &it.name), it.lane?.answers))),
    )
}

pub(super) fn object<'a>(namespace: &'a str, name: &'a str) -> [Label<&'a str>; 2] {
    [("namespace", namespace), ("name", name)]
}

fn reason<'a>(namespace: &'a str, name: &'a str, standing: &'a Standing) -> ([Label<&'a str>; 3], i64) {
    let [namespace, name] = object(namespace, name);
    ([namespace, name, ("reason", standing.reason.as_str())], i64::from(standing.is_true))
}
