//! Reconciles one account: connects, lists its credentials and writes the status.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::core::DynamicObject;
use kube::{Api, Resource, ResourceExt};

use crate::api::conditions::{Condition, ConditionType, find};
use crate::api::{
    AccountName, MicrosoftGraphCredential, NamespacedName, RECONCILE_REQUESTED_AT, WoodpeckerAccount,
};
use crate::controller::account::connect::open;
use crate::controller::account::known::known;
use crate::controller::account::state::{KeyValidity, Known, State};
use crate::controller::account::{compare, finalizer, key_identity, mailboxes, requester};
use crate::controller::context::Context;
use crate::controller::error::ReconcileError;
use crate::controller::index::Pruned;
use crate::controller::instrument::Completed;
use crate::controller::kind::Kind;
use crate::controller::queue::QueueSender;
use crate::controller::reconciler;
use crate::controller::requeue::{QueueSenders, Requeuer};
use crate::controller::status_writer::replace_status;
use crate::core::backoff;
use crate::core::error_chain::chain;
use crate::core::outcome::Outcome;
use crate::core::request_priority::RequestPriority;
use crate::core::status::account::{AccountResult, ListingSummary, report};
use crate::woodpecker::{AccountQueue, ApiError, Listing, QueueEntry, RemoteAccount, RequesterKind};

/// Reconciles accounts until the controller stops.
pub async fn run(context: Arc<Context>) {
    // The counts of an account depend on all credentials: before these are listed, each start would write wrong counts
    // first. If a namespace cannot be listed, accounts are reconciled without counts.
    let listed = tokio::time::timeout(context.policy.timing.kube_headers, context.index.credentials_listed());
    match context.stop.run_until_cancelled(listed).await {
        None => return,
        Some(Ok(())) => {}
        Some(Err(_elapsed)) => {
            tracing::warn!("not all credentials could be listed yet: the accounts' counts stay as they are");
        }
    }
    reconciler::run::<WoodpeckerAccount>(context).await;
}

impl Kind for WoodpeckerAccount {
    const KIND: &'static str = "WoodpeckerAccount";
    const QUEUE: &'static str = "woodpeckeraccount";
    const REQUESTER: Option<RequesterKind> = Some(RequesterKind::Account);

    fn sender(senders: &QueueSenders) -> &QueueSender {
        &senders.accounts
    }

    /// Requeues the credentials that use the account if anything changed for them.
    async fn reconcile(context: &Context, own: &NamespacedName) -> Result<Completed, ReconcileError> {
        let mut queued_in = None;
        let ended = reconcile(context, own, &mut queued_in).await;
        context.accounts.leave_queues(&requester(own), queued_in.as_ref());
        if matches!(ended, Err(ReconcileError::Conflict)) {
            // The index is outdated.
            context.read::<Self>(own).await.map_err(ReconcileError::ReadObject)?;
        }
        ended
    }

    fn invalid_message(live: &DynamicObject, problem: &str) -> String {
        if live.metadata.deletion_timestamp.is_some() && finalizer::has_finalizer(live) {
            format!(
                "the object is invalid, and credentials are still to be deleted there: fix the field ({problem}), or set \
                 deletionPolicy of these MicrosoftGraphCredentials to Retain"
            )
        } else {
            format!("the object is invalid, and its credentials wait: fix the field ({problem})")
        }
    }

    async fn update_finalizer_of_invalid(
        context: &Context,
        own: &NamespacedName,
        api: &Api<DynamicObject>,
        live: DynamicObject,
    ) -> Result<Option<DynamicObject>, ReconcileError> {
        finalizer::ensure(context, api, live, own, |_| true, |_| {}).await
    }

    /// Its credentials report it as well.
    fn on_invalid(context: &Context, own: &NamespacedName, uid: &str) {
        context.accounts.leave_queues(&requester(own), None);
        set_known(context, own, uid, Known::not_ready(None));
    }

    fn on_deleted(requeuer: &Requeuer, own: &NamespacedName) {
        requeuer.accounts_sharing_credentials_with(own);
        requeuer.credentials_at(own);
    }
}

/// What Kubernetes and Woodpecker say about an account.
struct Observed {
    /// `None` if the account is unusable, as is `listed`.
    remote: Option<Arc<RemoteAccount>>,
    listed: Option<Result<Listing, ApiError>>,
    result: AccountResult,
    /// Whether Woodpecker rejected the key once, which counts only if it does so again.
    is_unconfirmed: bool,
    summary: ListingSummary,
}

/// Reconciles the account and sets the account queue in which it waits for a permit.
async fn reconcile(
    context: &Context,
    own: &NamespacedName,
    queued_in: &mut Option<AccountQueue>,
) -> Result<Completed, ReconcileError> {
    let deleted = Completed::new(Outcome::ObjectDeleted, context.policy.timing.resync);
    let api: Api<WoodpeckerAccount> = Api::namespaced(context.client.clone(), &own.namespace);
    let Some(object) =
        context.index.get::<WoodpeckerAccount>(own).and_then(|parsed| parsed.0.as_ref().ok().cloned())
    else {
        return Ok(deleted);
    };
    if object.spec.namespace_selector().is_some() {
        context.index.selector_added.notify_one();
    }
    let is_allowed = |namespace: &str| context.index.may_allow(&object.spec, own, namespace);
    let on_written = |object: &WoodpeckerAccount| context.on_written(object);
    let ensured = finalizer::ensure(context, &api, object.clone(), own, is_allowed, on_written).await;
    let (object, rejected) = match ensured {
        Ok(None) => return Ok(deleted),
        Ok(Some(object)) => (object, None),
        // The account works without it.
        Err(ReconcileError::WriteFinalizer(kube::Error::Api(status)))
            if matches!(status.code, 400..=499) && !matches!(status.code, 408 | 429) =>
        {
            (object, Some(kube::Error::Api(status)))
        }
        Err(error) => return Err(error),
    };
    let mut observed = observe(context, &object, own).await?;
    if let Some(error) = rejected {
        tracing::warn!(error = chain(&error), "failed to write the account's finalizer");
        observed.result = observed.result.without_finalizer();
    }
    if object.spec.namespace_selector().is_some() && context.index.are_namespaces_forbidden() {
        observed.result = observed.result.without_namespaces();
    }
    finish(context, &object, own, observed, queued_in).await
}

/// Reads the Secret and lists the credentials, unless the last list is recent enough.
async fn observe(
    context: &Context,
    object: &WoodpeckerAccount,
    own: &AccountName,
) -> Result<Observed, ReconcileError> {
    let opened = match open(context, object, own).await {
        Ok(opened) => opened,
        Err(error) => {
            // New credentials must report that they wait. Whether it works for registered ones is unknown.
            if !context.accounts.is_known(own) {
                let uid = object.uid().unwrap_or_default();
                let known = Known { state: State::NotReached, ..Known::not_ready(Some(object.spec.clone())) };
                set_known(context, own, &uid, known);
            }
            return Err(error);
        }
    };
    let mut summary = ListingSummary::default();
    let remote = match opened {
        Ok(remote) => remote,
        Err(result) => {
            return Ok(Observed { remote: None, listed: None, result, is_unconfirmed: false, summary });
        }
    };
    let listed = match list(context, object, own, &remote).await {
        Err(ApiError::NotLeading(error)) => return Err(ReconcileError::NotLeading(error)),
        listed => listed,
    };
    let unclear_after = context.policy.timing.listing_interval;
    let validity = context.index.change_account(own, None, |account| {
        account.rejections.record(&listed, &remote.own_identity, unclear_after)
    });
    let validity = validity.unwrap_or(KeyValidity::Unknown);
    let result = match &listed {
        Ok(listing) => compare::evaluate(context, object, &remote, listing, &mut summary),
        Err(error) => {
            tracing::warn!(error = chain(error), "failed to list the account's credentials");
            AccountResult::of_failure(error, validity)
        }
    };
    let is_unconfirmed = validity == KeyValidity::Unconfirmed;
    Ok(Observed { remote: Some(remote), listed: Some(listed), result, is_unconfirmed, summary })
}

/// Stores and writes what was observed, and plans the next reconcile.
async fn finish(
    context: &Context,
    object: &WoodpeckerAccount,
    own: &AccountName,
    observed: Observed,
    queued_in: &mut Option<AccountQueue>,
) -> Result<Completed, ReconcileError> {
    let Observed { remote, listed, result, is_unconfirmed, mut summary } = observed;
    let (timing, uid) = (&context.policy.timing, object.uid().unwrap_or_default());
    let is_postponed =
        is_unconfirmed || matches!(result, AccountResult::Postponed(_)) && context.accounts.is_known(own);
    if is_postponed {
        // The known state is kept, except spec and key, which apply at once.
        let known = known(context, object, own, &result, remote.clone());
        // A requested reconcile stays open, because no listing was sent.
        let requested = context.accounts.read(own, |before| before.known.as_ref()?.requested.clone());
        // An earlier listing says nothing about a key that was rejected since.
        let failures = u32::from(is_unconfirmed);
        set_known(context, own, &uid, Known { failures, requested: requested.flatten(), ..known });
    }
    if matches!(listed, Some(Err(ApiError::Queue(_)))) {
        // The permit requeues it.
        *queued_in = remote.map(|remote| remote.queue.clone());
        return Ok(Completed::new(result.outcome(), timing.listing_interval));
    }
    if is_postponed {
        return Ok(Completed::new(result.outcome(), backoff::delay(timing, 1, &uid)));
    }
    let known = known(context, object, own, &result, remote.clone());
    let failures = known.failures;
    set_known(context, own, &uid, known);
    if let Some(Ok(listing)) = &listed {
        summary.counts = compare::count(context, own, listing);
        compare::requeue_changed(context, own, listing);
    }
    let usable = remote.as_ref().filter(|_| result.is_usable());
    let mailboxes = mailboxes::check(context, object, own, usable, queued_in);
    summary.mailbox_health = mailboxes.health;
    let ready = write(context, object, own, &result, summary).await?;
    key_identity::update(context, own, &result, queued_in.as_ref()).await?;
    let requeue_after = match result {
        AccountResult::Ready | AccountResult::Incomplete(_) => {
            backoff::shorten(&uid, timing.listing_interval, 20)
        }
        AccountResult::Postponed(_) | AccountResult::Unreachable(_) | AccountResult::Unprotected(_) => {
            backoff::delay(timing, failures, &uid)
        }
        // A rejection may be temporary. A change of the Secret requeues at once.
        AccountResult::Unusable(_) => timing.listing_interval,
        AccountResult::AwaitingKey(_, left) => left.min(timing.listing_interval),
    };
    // No event reports that its namespace begins to terminate.
    let is_deleted = object.metadata.deletion_timestamp.is_some();
    let requeue_after = if is_deleted { requeue_after.min(timing.in_use_retry) } else { requeue_after };
    let requeue_after =
        mailboxes.requeue_after.map_or(requeue_after, |mailboxes| mailboxes.min(requeue_after));
    Ok(Completed::new(result.outcome(), requeue_after).about(object.metadata.generation, ready.as_ref()))
}

async fn list(
    context: &Context,
    object: &WoodpeckerAccount,
    name: &AccountName,
    remote: &Arc<RemoteAccount>,
) -> Result<Listing, ApiError> {
    let max_age = max_listing_age(context, object, name, remote);
    if let Some(listing) = remote.last_listing(max_age) {
        return Ok(listing);
    }
    // All credentials wait for an account of unknown state.
    let priority =
        if context.accounts.is_known(name) { RequestPriority::Resync } else { RequestPriority::Repair };
    let requester = requester(name);
    let permit = remote.queue.request_permit(&QueueEntry { requester, priority, is_failing: false })?;
    let slot = permit.slot().await?;
    remote.list(&slot, max_age).await
}

/// One listing per interval serves all objects. A new key, an earlier failure or a requested reconcile needs a new one.
fn max_listing_age(
    context: &Context,
    object: &WoodpeckerAccount,
    name: &AccountName,
    remote: &Arc<RemoteAccount>,
) -> Duration {
    let is_enough = context.accounts.read(name, |account| {
        let Some(known) = &account.known else { return false };
        let is_same = known.remote.as_ref().is_some_and(|before| Arc::ptr_eq(before, remote));
        let is_healthy = known.state == State::Ready { may_create: true } && known.failures == 0;
        is_same && is_healthy && known.requested == requested(object)
    });
    if is_enough == Some(true) { context.policy.timing.listing_interval * 9 / 10 } else { Duration::ZERO }
}

/// The annotation that requests a reconcile.
pub(super) fn requested(object: &WoodpeckerAccount) -> Option<String> {
    object.annotations().get(RECONCILE_REQUESTED_AT).cloned()
}

/// Stores what credentials look up, and requeues them if it changed.
fn set_known(context: &Context, name: &AccountName, uid: &str, known: Known) {
    let was_known = context.accounts.is_known(name);
    let works = known.state == State::Ready { may_create: true };
    if context.index.change_account(name, Some(uid), |account| account.set_known(known)) != Some(true) {
        return;
    }
    for other in context.index.account_aliases(name) {
        context.requeuer.account(&other);
    }
    for credential in context.index.credentials_at(name) {
        let own = NamespacedName::of(&*credential);
        // After a start everything is new, but nothing has changed.
        if was_known {
            let uid = credential.meta().uid.as_deref().unwrap_or_default();
            context.index.with(uid, |known| known.account_changed = true);
        }
        if works && !was_known {
            MicrosoftGraphCredential::enqueue_new(context, own);
        } else {
            context.requeuer.credential(&own);
        }
    }
}

/// Writes the status if it changed, emits the event and returns the condition `Ready`. If only counts changed, changes
/// within `timing.count_pace` are written together.
async fn write(
    context: &Context,
    object: &WoodpeckerAccount,
    name: &AccountName,
    result: &AccountResult,
    summary: ListingSummary,
) -> Result<Option<Condition>, ReconcileError> {
    let before = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    let report = report(&before, generation, result, summary, Timestamp::now());
    let ready = find(&report.status.conditions, ConditionType::Ready).cloned();
    let can_wait = report.changes_only_counts(&before);
    let waited = context.index.change_account(name, None, |account| account.record_counts(can_wait));
    let rest = context.policy.timing.count_pace.saturating_sub(waited.unwrap_or_default());
    if can_wait && !rest.is_zero() {
        context.requeuer.account_after(name.clone(), rest);
        return Ok(ready);
    }
    if report.status == before && object.status.is_some() {
        return Ok(ready);
    }
    let written = replace_status(&context.client, &context.leadership, &(), object, &report.status).await?;
    if let Some(Pruned(written)) = written {
        context.on_written::<WoodpeckerAccount>(&written);
        context.index.change_account(name, None, |account| account.record_counts(false));
    }
    for event in report.event.into_iter().chain(report.mailbox_event) {
        context.events.emit(&object.object_ref(&()), &event).await;
    }
    Ok(ready)
}
