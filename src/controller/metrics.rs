//! Metrics of each object, collected from the index at scrape time.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::core::DeserializeGuard;

use crate::api::conditions::{Condition, ConditionStatus, ConditionType, Reason, find};
use crate::api::{
    EntraIdentity, MicrosoftGraphCredential, NamespacedName, WoodpeckerAccount, WoodpeckerAccountStatus,
    WoodpeckerMailboxes,
};
use crate::controller::context::Context;
use crate::controller::parsed::{ParsedAccount, ParsedCredential};
use crate::core::status::mailboxes::ConnectionCounts;
use crate::telemetry::metrics::{
    AccountSeries, ConditionSample, CredentialCounts, CredentialSeries, IdentitySeries, MailboxesSeries,
    ObjectSource,
};

/// The reason of an object that has no condition yet.
const NOT_OBSERVED: &str = "NotObserved";

impl ObjectSource for Context {
    fn credentials(&self) -> Vec<CredentialSeries> {
        self.index.all::<MicrosoftGraphCredential>().iter().map(|parsed| credential(parsed)).collect()
    }

    fn accounts(&self) -> Vec<AccountSeries> {
        self.index.all::<WoodpeckerAccount>().iter().map(|parsed| account(self, parsed)).collect()
    }

    fn identities(&self) -> Vec<IdentitySeries> {
        self.index.all::<EntraIdentity>().iter().map(|parsed| identity(parsed)).collect()
    }

    fn mailboxes(&self) -> Vec<MailboxesSeries> {
        self.index.all::<WoodpeckerMailboxes>().iter().map(|parsed| connections(parsed)).collect()
    }
}

fn credential(parsed: &ParsedCredential) -> CredentialSeries {
    let NamespacedName { namespace, name } = NamespacedName::of(parsed);
    let object = parsed.0.as_ref().ok();
    let status = object.and_then(|object| object.status.as_ref());
    let account = object.and_then(MicrosoftGraphCredential::account_name);
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let rotation_ready = find(conditions, ConditionType::RotationReady).map(sample);
    let rotation = status.and_then(|status| status.rotation.as_ref());
    CredentialSeries {
        namespace,
        name,
        destination: object.map(|_| if account.is_some() { "woodpecker" } else { "store" }),
        account: account.map(|account| (account.namespace, account.name)),
        ready: ready(object.is_some(), conditions),
        verified: find(conditions, ConditionType::Verified).map(sample),
        expiry_confirmed: find(conditions, ConditionType::ExpiryConfirmed).map(sample),
        unknown_secrets: rotation_ready.is_some().then(|| rotation.map_or(0, |it| it.unknown_secrets.len())),
        rotation_ready,
        is_suspended: object.is_some_and(|object| object.spec.is_suspended()),
        expires_at: status.and_then(|status| status.expires_at.as_ref()).map(seconds),
        last_verified_time: status.and_then(|status| status.last_verified_time.as_ref()).map(seconds),
    }
}

fn account(context: &Context, parsed: &ParsedAccount) -> AccountSeries {
    let own = NamespacedName::of(parsed);
    let remote = context.accounts.remote(&own);
    let object = parsed.0.as_ref().ok();
    let status = object.and_then(|object| object.status.as_ref());
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    AccountSeries {
        ready: ready(object.is_some(), conditions),
        counts: status.and_then(counts),
        mailboxes: status.and_then(mailboxes),
        mailboxes_healthy: find(conditions, ConditionType::MailboxesHealthy).map(sample),
        listed_at: remote.as_ref().and_then(|remote| remote.listed_at()).map(Timestamp::as_second),
        account_queue: remote.as_ref().map(|remote| remote.queue.series()),
        namespace: own.namespace,
        name: own.name,
    }
}

fn identity(parsed: &DeserializeGuard<EntraIdentity>) -> IdentitySeries {
    let NamespacedName { namespace, name } = NamespacedName::of(parsed);
    let object = parsed.0.as_ref().ok();
    let status = object.and_then(|object| object.status.as_ref());
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    IdentitySeries {
        namespace,
        name,
        ready: ready(object.is_some(), conditions),
        tenants_ready: find(conditions, ConditionType::TenantsReady).map(sample),
    }
}

fn connections(parsed: &DeserializeGuard<WoodpeckerMailboxes>) -> MailboxesSeries {
    let NamespacedName { namespace, name } = NamespacedName::of(parsed);
    let object = parsed.0.as_ref().ok();
    let status = object.and_then(|object| object.status.as_ref());
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    let counts = status.map(ConnectionCounts::of).map(|counts| {
        [
            ("connected", counts.connected),
            ("already_connected", counts.already_connected),
            ("not_connected", counts.not_connected),
            ("submitted", counts.submitted),
            ("refused", counts.refused),
            ("unconfirmed", counts.unconfirmed),
            ("stopped", counts.stopped),
        ]
    });
    MailboxesSeries { namespace, name, ready: ready(object.is_some(), conditions), counts }
}

fn counts(status: &WoodpeckerAccountStatus) -> Option<CredentialCounts> {
    Some(CredentialCounts {
        managed: status.managed?,
        adoptable: status.adoptable?,
        unmanaged: status.unmanaged?,
    })
}

fn mailboxes(status: &WoodpeckerAccountStatus) -> Option<[(&'static str, i32); 5]> {
    let health = status.mailbox_health.as_ref()?;
    health.last_listed_time.as_ref()?;
    Some([
        ("healthy", health.healthy),
        ("degraded", health.degraded),
        ("failing", health.failing),
        ("inactive", health.inactive),
        ("frozen", health.frozen),
    ])
}

fn ready(is_readable: bool, conditions: &[Condition]) -> ConditionSample {
    let other = if is_readable { NOT_OBSERVED } else { Reason::InvalidObject.as_str() };
    let other = || ConditionSample { is_true: false, reason: other.to_owned() };
    find(conditions, ConditionType::Ready).map_or_else(other, sample)
}

fn sample(condition: &Condition) -> ConditionSample {
    ConditionSample { is_true: condition.status == ConditionStatus::True, reason: condition.reason.clone() }
}

/// In seconds since 1970.
fn seconds(time: &Time) -> i64 {
    time.0.as_second()
}
