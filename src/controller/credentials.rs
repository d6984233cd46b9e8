//! The controller of `MicrosoftGraphCredential`s: what a pass over one is about, and whether a new one needs any.

use std::time::Duration;

use jiff::Timestamp;
use kube::ResourceExt;

use super::context::Context;
use super::error::PassError;
use super::guard::Outcome;
use super::index::Named;
use super::kind::Kind;
use super::observe::source_as_recorded;
use super::pass;
use super::queue::Priority;
use super::version::Version;
use crate::backoff;
use crate::events::expiry;
use crate::resources::conditions::{ConditionStatus, ConditionType, find};
use crate::resources::{
    ACKNOWLEDGE_GONE, AccountName, DeletionPolicy, FINALIZER, MicrosoftGraphCredential,
    MicrosoftGraphCredentialStatus,
};
use crate::store::record::record_name;
use crate::woodpecker::OwnerKind;

impl Kind for MicrosoftGraphCredential {
    const KIND: &'static str = "MicrosoftGraphCredential";
    const QUEUE: &'static str = "microsoftgraphcredential";
    const OWNER: OwnerKind = OwnerKind::Credential;

    async fn pass(context: &Context, own: &Named) -> Result<Outcome, PassError> {
        pass::run(context, own).await
    }

    fn priority(&self) -> Priority {
        if is_to_be_verified(self, Timestamp::now()) { Priority::Verification } else { Priority::Ordinary }
    }

    /// After a start one that was settled is left alone until something is due, at the latest some time within the resync:
    /// whoever looks at its Secret and its record wakes it where they changed. While its account has not been looked at since
    /// the start, that wakes it as well: until then it waits.
    fn wake_new(context: &Context, own: Named) {
        let after = context.latest(&own).and_then(|known| {
            let object = known.0.as_ref().ok().filter(|object| !object.is_deleted())?;
            let is_awaited = |account: &AccountName| {
                !context.index.are_accounts_listed() || context.accounts.is_awaited(account)
            };
            let waits = object.account_name().filter(is_awaited).map(|_| context.rules.timing.kube_headers);
            waits.or_else(|| settled_for(context, object, Timestamp::now()))
        });
        context.calls.credentials.after(own, after.unwrap_or_default());
    }
}

/// Whether its secret has not been verified yet, or is to be verified again.
fn is_to_be_verified(object: &MicrosoftGraphCredential, now: Timestamp) -> bool {
    let verified_at = object.status.as_ref().and_then(|status| status.verified_at.as_ref());
    let is_due = verified_at.is_none_or(|at| at.0 + object.spec.verification_interval() <= now);
    !object.spec.is_suspended() && (is_due || !object.is_verified())
}

/// How long a credential can be left alone whose status says that it is settled, and of which nothing else is known.
fn settled_for(context: &Context, object: &MicrosoftGraphCredential, now: Timestamp) -> Option<Duration> {
    let status = object.status.as_ref()?;
    let expires_at = status.expires_at.as_ref()?.0;
    let is = |kind| find(&status.conditions, kind).is_some_and(|it| it.status == ConditionStatus::True);
    let warning = object.spec.expiry_warning();
    let wants_finalizer =
        context.rules.sets_finalizers && object.spec.deletion_policy() == DeletionPolicy::Delete;
    let is_settled = object.metadata.generation == Some(status.observed_generation)
        && object.reconcile_requested_at() == status.last_handled_reconcile_at.as_deref()
        && !object.annotations().contains_key(ACKNOWLEDGE_GONE)
        && object.finalizers().iter().any(|it| it == FINALIZER) == wants_finalizer
        && is(ConditionType::Ready)
        && is(ConditionType::Verified)
        && is(ConditionType::Expiring) == (expires_at - warning <= now)
        && status.expiry_notice_days == expiry::notice_days(expires_at, now)
        && (status.pending.is_none() && status.candidate.is_none() && status.retiring.is_empty())
        && status.registration.as_ref().is_some_and(|it| it.change_sent_at.is_none())
        && has_what_it_judged(context, object, status);
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let verified_at = status.verified_at.as_ref()?.0;
    // As early as any spread has it.
    let verification = verified_at + object.spec.verification_interval() / 20 * 19;
    let boundaries = expiry::boundaries(expires_at, warning).filter(|at| *at > now);
    let planned = status.next_attempt_at.iter().map(|at| at.0).chain([verification]);
    let due = boundaries.chain(planned).min()?;
    let until = Duration::try_from(due.duration_since(now)).ok()?;
    is_settled.then(|| until.min(backoff::shorten(uid, context.rules.timing.resync, 1)))
}

/// Whether the Secret and the record are, as far as is known, the versions that were judged last.
fn has_what_it_judged(
    context: &Context,
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
) -> bool {
    let named = |name: &str| Named { namespace: object.namespace_name().to_owned(), name: name.to_owned() };
    let Some(secret) = &status.observed_secret else { return false };
    if source_as_recorded(context, status).is_none() {
        return false;
    }
    let known = context.secrets.known_version(&named(&object.spec.secret_ref.name));
    if known.is_some_and(|known| !known.is(secret)) {
        return false;
    }
    if object.spec.woodpecker().is_some() {
        return true;
    }
    let Some(record) = &status.observed_record else { return false };
    match context.records.known_record(&named(&record_name(object))) {
        Some(known) => known == Version::of_observed_record(record),
        None => !context.records.are_listed_in(object.namespace_name()),
    }
}
