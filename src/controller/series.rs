//! What is told of each object at a scrape, from what the watches and the accounts know at that moment.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::context::Context;
use super::index::Named;
use super::scope::{GuardedAccount, GuardedCredential};
use crate::resources::conditions::{Condition, ConditionStatus, ConditionType, Reason, find};
use crate::resources::{MicrosoftGraphCredential, WoodpeckerAccount};
use crate::telemetry::metrics::{AccountSeries, CredentialSeries, Held, Objects, Standing};

/// The reason of an object that has no condition yet.
const NOT_OBSERVED: &str = "NotObserved";

impl Objects for Context {
    fn credentials(&self) -> Vec<CredentialSeries> {
        self.index.all::<MicrosoftGraphCredential>().iter().map(|guarded| credential(guarded)).collect()
    }

    fn accounts(&self) -> Vec<AccountSeries> {
        self.index.all::<WoodpeckerAccount>().iter().map(|guarded| account(self, guarded)).collect()
    }
}

fn credential(guarded: &GuardedCredential) -> CredentialSeries {
    let Named { namespace, name } = Named::of(guarded);
    match &guarded.0 {
        Ok(object) => readable(object, namespace, name),
        Err(_unreadable) => CredentialSeries {
            namespace,
            name,
            destination: None,
            account: None,
            ready: unreadable(),
            verified: None,
            is_suspended: false,
            expires_at: None,
            verified_at: None,
        },
    }
}

fn readable(object: &MicrosoftGraphCredential, namespace: String, name: String) -> CredentialSeries {
    let status = object.status_or_default();
    let account = object.account_name();
    CredentialSeries {
        destination: Some(if account.is_some() { "woodpecker" } else { "store" }),
        account: account.map(|account| (account.namespace, account.name)),
        ready: ready(&status.conditions),
        verified: find(&status.conditions, ConditionType::Verified).map(standing),
        is_suspended: object.spec.is_suspended(),
        expires_at: status.expires_at.as_ref().map(seconds),
        verified_at: status.verified_at.as_ref().map(seconds),
        namespace,
        name,
    }
}

fn account(context: &Context, guarded: &GuardedAccount) -> AccountSeries {
    let own = Named::of(guarded);
    let remote = context.accounts.remote(&own);
    let object = guarded.0.as_ref().ok();
    AccountSeries {
        ready: object.map_or_else(unreadable, |object| {
            ready(object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default())
        }),
        held: object.and_then(held),
        listed_at: remote.as_ref().and_then(|remote| remote.listed_at()).map(Timestamp::as_second),
        lane: remote.as_ref().map(|remote| remote.lane().series()),
        namespace: own.namespace,
        name: own.name,
    }
}

fn held(object: &WoodpeckerAccount) -> Option<Held> {
    let status = object.status.as_ref()?;
    Some(Held { managed: status.managed?, unclaimed: status.unclaimed?, foreign: status.foreign? })
}

fn ready(conditions: &[Condition]) -> Standing {
    let not_observed = || Standing { is_true: false, reason: NOT_OBSERVED.to_owned() };
    find(conditions, ConditionType::Ready).map_or_else(not_observed, standing)
}

fn standing(condition: &Condition) -> Standing {
    Standing { is_true: condition.status == ConditionStatus::True, reason: condition.reason.clone() }
}

fn unreadable() -> Standing {
    Standing { is_true: false, reason: Reason::InvalidObject.as_str().to_owned() }
}

/// In seconds since 1970.
fn seconds(time: &Time) -> i64 {
    time.0.as_second()
}
