//! The controller of `MicrosoftGraphCredential`s: priorities, and when an object that is new to this process is due.

pub mod apply;
pub mod invalid;
pub mod observe;
pub mod reconcile;
pub mod session;

use std::time::Duration;

use jiff::Timestamp;
use kube::core::DynamicObject;
use kube::{Api, ResourceExt};

use crate::api::conditions::{ConditionStatus, ConditionType, find};
use crate::api::{
    AccountName, CONFIRM_DELETED, DeletionPolicy, FINALIZER, MicrosoftGraphCredential,
    MicrosoftGraphCredentialStatus, NamespacedName,
};
use crate::controller::context::Context;
use crate::controller::credential::observe::persisted_source;
use crate::controller::error::ReconcileError;
use crate::controller::instrument::Completed;
use crate::controller::kind::Kind;
use crate::controller::queue::{Priority, QueueSender};
use crate::controller::requeue::QueueSenders;
use crate::controller::version::Version;
use crate::core::plan::rotation::renewal_at;
use crate::core::plan::verification;
use crate::core::{app_reading, backoff, clock, expiry, expiry_confirmed};
use crate::store::record::record_name;
use crate::woodpecker::RequesterKind;

impl Kind for MicrosoftGraphCredential {
    const KIND: &'static str = "MicrosoftGraphCredential";
    const QUEUE: &'static str = "microsoftgraphcredential";
    const REQUESTER: Option<RequesterKind> = Some(RequesterKind::Credential);

    fn sender(senders: &QueueSenders) -> &QueueSender {
        &senders.credentials
    }

    async fn reconcile(context: &Context, own: &NamespacedName) -> Result<Completed, ReconcileError> {
        reconcile::run(context, own).await
    }

    fn invalid_message(live: &DynamicObject, problem: &str) -> String {
        if live.metadata.deletion_timestamp.is_some() && invalid::has_finalizer(live) {
            format!(
                "the object is invalid, so the operator cannot delete what it registered: fix the field ({problem}), or \
                 set deletionPolicy to Retain to delete only the object"
            )
        } else {
            format!(
                "the object is invalid; it and its registration are left unchanged: fix the field ({problem})"
            )
        }
    }

    async fn update_finalizer_of_invalid(
        context: &Context,
        _own: &NamespacedName,
        api: &Api<DynamicObject>,
        live: DynamicObject,
    ) -> Result<Option<DynamicObject>, ReconcileError> {
        if invalid::finalize(context, api, &live).await? {
            return Ok(None);
        }
        invalid::index_status(context, &live);
        Ok(Some(live))
    }

    fn priority(&self) -> Priority {
        if needs_verification(self, Timestamp::now()) { Priority::Verification } else { Priority::Ordinary }
    }

    /// After a start, a settled object waits until something is due, at most the resync interval: changes of its Secret
    /// or record requeue it. If its account has not been reconciled yet, the object waits for that, which requeues it
    /// too.
    fn enqueue_new(context: &Context, own: NamespacedName) {
        let after = context.latest(&own).and_then(|known| {
            let object = known.0.as_ref().ok().filter(|object| !object.is_deleted())?;
            if context.index.contradicts_identity(object) {
                return None;
            }
            let is_not_reconciled = |account: &AccountName| {
                !context.index.are_accounts_listed() || context.accounts.is_not_reconciled(account)
            };
            let wait =
                object.account_name().filter(is_not_reconciled).map(|_| context.policy.timing.kube_headers);
            wait.or_else(|| remains_settled_for(context, object, Timestamp::now()))
        });
        context.requeuer.credential_after(own, after.unwrap_or_default());
    }
}

/// Whether its secret is not verified, or is due for verification again.
fn needs_verification(object: &MicrosoftGraphCredential, now: Timestamp) -> bool {
    let due = object.status.as_ref().and_then(|status| {
        let at = clock::happened(status.last_verified_time.as_ref()?.0, now)?;
        Some(at + verification::interval(object, status.rejections.as_deref()))
    });
    let is_due = due.is_none_or(|due| due <= now);
    !object.spec.is_suspended() && (is_due || !object.is_verified())
}

/// How long a credential needs no reconcile, if its status is settled and nothing is known to have changed.
fn remains_settled_for(
    context: &Context,
    object: &MicrosoftGraphCredential,
    now: Timestamp,
) -> Option<Duration> {
    let status = object.status.as_ref()?;
    let expires_at = status.expires_at.as_ref()?.0;
    let is = |kind| find(&status.conditions, kind).is_some_and(|it| it.status == ConditionStatus::True);
    let warning = object.spec.expiry_warning();
    let wants_finalizer = context.policy.sets_finalizers
        && (object.spec.deletion_policy() == DeletionPolicy::Delete || object.spec.rotation.is_some());
    let is_settled = object.metadata.generation == Some(status.observed_generation)
        && object.reconcile_requested_at() == status.last_handled_reconcile_at.as_deref()
        && !object.annotations().contains_key(CONFIRM_DELETED)
        && object.finalizers().iter().any(|it| it == FINALIZER) == wants_finalizer
        && is(ConditionType::Ready)
        && is(ConditionType::Verified)
        && is(ConditionType::Expiring) == (expiry::warning_at(expires_at, warning) <= now)
        && status.expiry_notice_days == expiry::notice_days(expires_at, now)
        && (status.pending_create.is_none()
            && status.pending_secret.is_none()
            && status.previous_registrations.is_empty())
        && status.registration.as_ref().is_some_and(|it| it.update_sent_time.is_none())
        && has_persisted_versions(context, object, status)
        && match object.spec.entra {
            Some(_) => status.entra.is_some() || expiry_confirmed::is_denied(status),
            None => status.entra.is_none(),
        }
        && is_rotation_settled(object, status);
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    // The earliest time that jitter allows. If the time is ahead, this clock may be behind and all objects be due: the
    // start of their verifications is spread over the resync interval.
    let verification = clock::happened(status.last_verified_time.as_ref()?.0, now)
        .map(|at| at + verification::interval(object, status.rejections.as_deref()) / 20 * 19);
    let boundaries = expiry::boundaries(expires_at, warning).filter(|at| *at > now);
    let planned = [&status.next_attempt_time, &status.next_verification_time].into_iter().flatten();
    let app = || format!("{}/{}", object.spec.tenant_id, object.spec.client_id);
    let last = status.entra.as_ref().filter(|_| !expiry_confirmed::is_denied(status));
    let reading = last.map(|last| app_reading::due_at(last, &app(), &context.policy.timing, now));
    let renewal =
        status.rotation.iter().filter_map(|it| it.current.as_ref()).map(|it| renewal_at(object, it));
    let planned =
        planned.map(|at| clock::planned(at.0, now)).chain(verification).chain(reading).chain(renewal);
    let resync = backoff::shorten(uid, context.policy.timing.resync, 1);
    let due = boundaries.chain(planned).min().unwrap_or(now + resync);
    let until = Duration::try_from(due.duration_since(now)).ok()?;
    is_settled.then(|| until.min(resync))
}

/// Whether no client secret is to be created, registered or removed, except the next one.
fn is_rotation_settled(object: &MicrosoftGraphCredential, status: &MicrosoftGraphCredentialStatus) -> bool {
    let Some(rotation) = status.rotation.as_deref() else { return object.spec.rotation.is_none() };
    let is_requested = object.rotate_requested_at().is_some()
        && object.rotate_requested_at() != rotation.last_handled_rotate_at.as_deref();
    rotation.current.is_some() == object.spec.rotation.is_some()
        && rotation.pending.is_none()
        && rotation.attempt.is_none()
        && rotation.earlier.is_empty()
        && !is_requested
        && object.unknown_secrets_to_remove().is_empty()
}

/// Whether Secret and record still have the versions recorded in the status, as far as is known.
fn has_persisted_versions(
    context: &Context,
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
) -> bool {
    let named =
        |name: &str| NamespacedName { namespace: object.namespace_name().to_owned(), name: name.to_owned() };
    if persisted_source(context, object, status).is_none() {
        return false;
    }
    if let Some(reference) = &object.spec.secret_ref {
        let Some(secret) = &status.observed_secret else { return false };
        let known = context.secrets.known_state(&named(&reference.name));
        if known.is_some_and(|known| !known.matches(secret)) {
            return false;
        }
    }
    if object.spec.woodpecker().is_some() && object.spec.rotation.is_none() {
        return true;
    }
    let Some(record) = &status.observed_record else { return false };
    match context.records.known_record(&named(&record_name(object))) {
        Some(known) => known == Version::of_observed_record(record),
        None => !context.records.are_listed_in(object.namespace_name()),
    }
}
