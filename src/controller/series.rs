//! What is told of each object at a scrape, from what the watches and the accounts know at that moment.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::context::Context;
use super::index::Named;
use super::scope::{GuardedAccount, GuardedCredential};
use crate::resources::conditions::{Condition, ConditionStatus, ConditionType, Reason, find};
use crate::resources::{MicrosoftGraphCredential, WoodpeckerAccount, WoodpeckerAccountStatus};
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
    let object = guarded.0.as_ref().ok();
    let status = object.and_then(|object| object.status.as_ref());
    let account = object.and_then(MicrosoftGraphCredential::account_name);
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    CredentialSeries {
        namespace,
        name,
        destination: object.map(|_| if account.is_some() { "woodpecker" } else { "store" }),
        account: account.map(|account| (account.namespace, account.name)),
        ready: ready(object.is_some(), conditions),
        verified: find(conditions, ConditionType::Verified).map(standing),
        is_suspended: object.is_some_and(|object| object.spec.is_suspended()),
        expires_at: status.and_then(|status| status.expires_at.as_ref()).map(seconds),
        verified_at: status.and_then(|status| status.verified_at.as_ref()).map(seconds),
    }
}

fn account(context: &Context, guarded: &GuardedAccount) -> AccountSeries {
    let own = Named::of(guarded);
    let remote = context.accounts.remote(&own);
    let object = guarded.0.as_ref().ok();
    let status = object.and_then(|object| object.status.as_ref());
    let conditions = status.map(|status| status.conditions.as_slice()).unwrap_or_default();
    AccountSeries {
        ready: ready(object.is_some(), conditions),
        held: status.and_then(held),
        listed_at: remote.as_ref().and_then(|remote| remote.listed_at()).map(Timestamp::as_second),
        lane: remote.as_ref().map(|remote| remote.lane.series()),
        namespace: own.namespace,
        name: own.name,
    }
}

fn held(status: &WoodpeckerAccountStatus) -> Option<Held> {
    Some(Held { managed: status.managed?, unclaimed: status.unclaimed?, foreign: status.foreign? })
}

fn ready(is_readable: bool, conditions: &[Condition]) -> Standing {
    let other = if is_readable { NOT_OBSERVED } else { Reason::InvalidObject.as_str() };
    let other = || Standing { is_true: false, reason: other.to_owned() };
    find(conditions, ConditionType::Ready).map_or_else(other, standing)
}

fn standing(condition: &Condition) -> Standing {
    Standing { is_true: condition.status == ConditionStatus::True, reason: condition.reason.clone() }
}

/// In seconds since 1970.
fn seconds(time: &Time) -> i64 {
    time.0.as_second()
}
