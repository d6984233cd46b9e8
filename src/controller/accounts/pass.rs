//! One pass over one account: can it be opened, does Woodpecker accept its key, what does it hold?

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use kube::{Api, Resource, ResourceExt};

use super::open::open;
use super::report::{Findings, Verdict, report};
use super::state::{Known, State};
use super::{agreement, finalizer};
use crate::backoff;
use crate::controller::context::Context;
use crate::controller::error::PassError;
use crate::controller::guard::Outcome;
use crate::controller::index::{Named, Pruned};
use crate::controller::kind::{self, Kind};
use crate::controller::observed::Problem;
use crate::controller::status::replace;
use crate::resources::conditions::{Condition, ConditionType, Reason, find};
use crate::resources::{AccountName, MicrosoftGraphCredential, RECONCILE_REQUESTED_AT, WoodpeckerAccount};
use crate::telemetry::logs::chain;
use crate::woodpecker::{ApiError, Class, Lane, Listing, OwnerKind, RemoteAccount, Ticket};

/// Makes passes over accounts until the controller stops.
pub async fn run(context: Arc<Context>) {
    // What an account's counts say rests on all credentials: with some of them not heard of yet, each start
    // would write wrong ones and then right ones. Where a namespace cannot be listed, the accounts go on all
    // the same, without counts.
    let listed = tokio::time::timeout(context.rules.timing.kube_headers, context.index.credentials_listed());
    match context.stop.run_until_cancelled(listed).await {
        None => return,
        Some(Ok(())) => {}
        Some(Err(_elapsed)) => {
            tracing::warn!("not all credentials could be listed yet: the accounts' counts stay as they are");
        }
    }
    kind::run::<WoodpeckerAccount>(context).await;
}

impl Kind for WoodpeckerAccount {
    const KIND: &'static str = "WoodpeckerAccount";
    const QUEUE: &'static str = "woodpeckeraccount";
    const OWNER: OwnerKind = OwnerKind::Account;

    /// Looks at the account and tells the credentials that use it where that changed anything for them.
    async fn pass(context: &Context, own: &Named) -> Result<Outcome, PassError> {
        let mut waits_in = None;
        let ended = look(context, own, &mut waits_in).await;
        context.accounts.leave_lanes(&Self::owner(own), waits_in.as_ref());
        if matches!(ended, Err(PassError::Conflict)) {
            // What is known is outdated.
            context.read::<Self>(own).await.map_err(PassError::ReadObject)?;
        }
        ended
    }

    /// Its credentials say so as well.
    fn note_unreadable(context: &Context, own: &Named, uid: &str) {
        context.accounts.leave_lanes(&Self::owner(own), None);
        keep(context, own, uid, Known::not_ready(None));
    }

    fn note_gone(context: &Context, own: &Named) {
        for other in context.index.accounts_confused_by(own) {
            context.calls.account(&other);
        }
        context.call_credentials_at(own);
    }
}

/// The pass itself; notes the lane in which it waits for its turn.
async fn look(context: &Context, own: &Named, waits_in: &mut Option<Lane>) -> Result<Outcome, PassError> {
    let timing = &context.rules.timing;
    let api: Api<WoodpeckerAccount> = Api::namespaced(context.client.clone(), &own.namespace);
    let Some(object) =
        context.index.get::<WoodpeckerAccount>(own).and_then(|guarded| guarded.0.as_ref().ok().cloned())
    else {
        return Ok(Outcome::new("gone", timing.resync));
    };
    let Some(object) = finalizer::keep(context, &api, object, own).await? else {
        return Ok(Outcome::new("gone", timing.resync));
    };
    let uid = object.uid().unwrap_or_default();
    let opened = match open(context, &object, own).await {
        Ok(opened) => opened,
        Err(error) => {
            // Its credentials must not wait in silence.
            if !context.accounts.is_known(own) {
                keep(context, own, &uid, Known::not_ready(Some(object.spec)));
            }
            return Err(error);
        }
    };
    let listed = match &opened {
        Ok(remote) => match list(context, &object, own, remote).await {
            Err(ApiError::NotLeading(error)) => return Err(PassError::NotLeading(error)),
            listed => Some(listed.inspect_err(|error| {
                tracing::warn!(error = chain(error), "listing the account's credentials failed");
            })),
        },
        Err(_) => None,
    };
    let mut findings = Findings::default();
    let verdict = match (&opened, &listed) {
        (Err(problem), _) => Verdict::Unusable(problem.clone()),
        (Ok(_), Some(Err(error))) => Verdict::of_failure(error),
        (Ok(remote), Some(Ok(listing))) => agreement::judge(context, &object, remote, listing, &mut findings),
        (Ok(_), None) => Verdict::Ready,
    };
    let is_postponed = matches!(verdict, Verdict::Postponed(_)) && context.accounts.is_known(own);
    if is_postponed {
        // What was known stands, but for the spec and the key, which count at once.
        let known = known(context, &object, own, &verdict, opened.as_ref().ok().cloned());
        // A request for a listing that was not sent is still open.
        let requested = context.accounts.read(own, |before| before.known.as_ref()?.requested.clone());
        keep(context, own, &uid, Known { failures: 0, requested: requested.flatten(), ..known });
    }
    if matches!(listed, Some(Err(ApiError::Lane(_)))) {
        // Its turn calls it.
        *waits_in = opened.as_ref().ok().map(|remote| remote.lane.clone());
        return Ok(Outcome::new(verdict.result(), timing.listing_interval));
    }
    if is_postponed {
        return Ok(Outcome::new(verdict.result(), backoff::delay(timing, 1, &uid)));
    }
    let known = known(context, &object, own, &verdict, opened.as_ref().ok().cloned());
    let failures = known.failures;
    keep(context, own, &uid, known);
    if let Some(Ok(listing)) = &listed {
        findings.counts = agreement::count(context, own, listing);
        agreement::wake_who_differs(context, own, listing);
    }
    let ready = write(context, &object, own, &verdict, findings).await?;
    let again_in = match verdict {
        Verdict::Ready | Verdict::Incomplete(_) => backoff::shorten(&uid, timing.listing_interval, 20),
        Verdict::Postponed(_) | Verdict::Unreachable(_) => backoff::delay(timing, failures, &uid),
        // A key may be refused for a moment; a Secret that changes calls at once.
        Verdict::Unusable(_) => timing.listing_interval,
    };
    // Nothing tells when its namespace begins to terminate.
    let is_deleted = object.metadata.deletion_timestamp.is_some();
    let again_in = if is_deleted { again_in.min(timing.in_use_retry) } else { again_in };
    Ok(Outcome::new(verdict.result(), again_in).about(object.metadata.generation, ready.as_ref()))
}

async fn list(
    context: &Context,
    object: &WoodpeckerAccount,
    name: &AccountName,
    remote: &Arc<RemoteAccount>,
) -> Result<Listing, ApiError> {
    let max_age = listing_age(context, object, name, remote);
    if let Some(listing) = remote.last_listing(max_age) {
        return Ok(listing);
    }
    // Of an account that nothing is known of, everything waits.
    let class = if context.accounts.is_known(name) { Class::Recheck } else { Class::Repair };
    let owner = WoodpeckerAccount::owner(name);
    let grant = remote.lane.ask(&Ticket { owner, class, is_failing: false })?;
    let turn = grant.turn().await?;
    remote.list(&turn, max_age).await
}

/// A listing of the interval serves all objects; a new key, an earlier failure or a request wants a new one.
fn listing_age(
    context: &Context,
    object: &WoodpeckerAccount,
    name: &AccountName,
    remote: &Arc<RemoteAccount>,
) -> Duration {
    let is_enough = context.accounts.read(name, |account| {
        let Some(known) = &account.known else { return false };
        let is_same = known.remote.as_ref().is_some_and(|before| Arc::ptr_eq(before, remote));
        let is_well = known.state == State::Ready { may_create: true } && known.failures == 0;
        is_same && is_well && known.requested == requested(object)
    });
    if is_enough == Some(true) { context.rules.timing.listing_interval * 9 / 10 } else { Duration::ZERO }
}

/// The request for a pass by annotation.
pub(super) fn requested(object: &WoodpeckerAccount) -> Option<String> {
    object.annotations().get(RECONCILE_REQUESTED_AT).cloned()
}

/// What is known of the account after this look at it.
fn known(
    context: &Context,
    object: &WoodpeckerAccount,
    name: &AccountName,
    verdict: &Verdict,
    remote: Option<Arc<RemoteAccount>>,
) -> Known {
    let objects = context.index.objects();
    let account = objects.account(name);
    let may_create = !account.is_some_and(|account| account.ledger.is_incomplete());
    let before = account.and_then(|account| account.known.as_ref());
    let failures = match verdict {
        Verdict::Ready | Verdict::Incomplete(_) | Verdict::Unusable(_) => 0,
        Verdict::Postponed(_) | Verdict::Unreachable(_) => {
            before.map_or(0, |known| known.failures).saturating_add(1)
        }
    };
    let remote = remote.or_else(|| before.and_then(|known| known.remote.clone()));
    // Woodpecker being out of reach says nothing against a key with which the account was reached before:
    // each request finds out for itself. With another key it may be another account.
    let was_judged = before.is_some_and(|before| {
        let both = before.remote.as_ref().zip(remote.as_ref());
        let is_same = both.is_some_and(|(old, new)| Arc::ptr_eq(old, new));
        is_same && matches!(before.state, State::Ready { .. } | State::KeyGone)
    });
    let state = match verdict {
        Verdict::Ready => State::Ready { may_create: true },
        Verdict::Incomplete(_) => State::Ready { may_create: false },
        Verdict::Postponed(_) | Verdict::Unreachable(_) if was_judged => State::Ready { may_create },
        Verdict::Postponed(_) | Verdict::Unreachable(_) => State::Unjudged,
        Verdict::Unusable(problem) if was_judged && problem.reason == Reason::ApiKeyMissing => State::KeyGone,
        Verdict::Unusable(_) => State::NotReady,
    };
    Known { spec: Some(object.spec.clone()), remote, state, failures, requested: requested(object) }
}

/// Keeps what credentials ask for, and wakes them where their answer changed.
fn keep(context: &Context, name: &AccountName, uid: &str, known: Known) {
    let was_known = context.accounts.is_known(name);
    let works = known.state == State::Ready { may_create: true };
    if context.index.change_account(name, Some(uid), |account| account.keep(known)) != Some(true) {
        return;
    }
    for other in context.index.accounts_one_with(name) {
        context.calls.account(&other);
    }
    for credential in context.index.credentials_at(name) {
        let own = Named::of(&*credential);
        // After a start everything is news, and nothing has changed.
        if was_known {
            let uid = credential.meta().uid.as_deref().unwrap_or_default();
            context.index.with(uid, |known| known.account_changed = true);
        }
        if works && !was_known {
            MicrosoftGraphCredential::wake_new(context, own);
        } else {
            context.calls.credential(&own);
        }
    }
}

/// Writes the status where it changed and tells people; returns what `Ready` says. Where nothing but the counts changed, what
/// changes within `timing.count_pace` is written together.
async fn write(
    context: &Context,
    object: &WoodpeckerAccount,
    name: &AccountName,
    verdict: &Verdict,
    findings: Findings,
) -> Result<Option<Condition>, PassError> {
    let before = object.status.clone().unwrap_or_default();
    let generation = object.metadata.generation.unwrap_or_default();
    let report = report(&before, generation, verdict, findings, Timestamp::now());
    let ready = find(&report.status.conditions, ConditionType::Ready).cloned();
    let can_wait = report.is_about_counts_alone(&before);
    let waited = context.index.change_account(name, None, |account| account.note_counts(can_wait));
    let rest = context.rules.timing.count_pace.saturating_sub(waited.unwrap_or_default());
    if can_wait && !rest.is_zero() {
        context.calls.account_soon(name.clone(), rest);
        return Ok(ready);
    }
    if report.status == before && object.status.is_some() {
        return Ok(ready);
    }
    let written = replace(&context.client, &context.leadership, &(), object, &report.status).await?;
    if let Some(Pruned(written)) = written {
        context.note_written::<WoodpeckerAccount>(&written);
        context.index.change_account(name, None, |account| account.note_counts(false));
    }
    if let Some(note) = report.note {
        context.events.emit(&object.object_ref(&()), &note).await;
    }
    Ok(ready)
}

// === impl Verdict ===

impl Verdict {
    fn of_failure(error: &ApiError) -> Self {
        match error {
            ApiError::Unauthorized(_) => Self::Unusable(Problem {
                reason: Reason::InvalidApiKey,
                message: "Woodpecker refuses the API key: make one under Marketplace > Integrations > API keys (the account needs that add-on) and put it into the Secret".into(),
            }),
            ApiError::Malformed(_) => Self::Unreachable(
                "Woodpecker's answer to the listing could not be understood, and is never taken for an empty account; the operator tries again".into(),
            ),
            ApiError::NotFound | ApiError::Refused { .. } => Self::Unreachable(
                "Woodpecker refuses to list the account's credentials: check spec.baseUrl and spec.companyId; the operator tries again".into(),
            ),
            ApiError::Throttled(_) | ApiError::Lane(_) => Self::Postponed(
                "other requests to the account are ahead, or Woodpecker asked to slow down; the operator waits and tries again".into(),
            ),
            ApiError::NotLeading(_) | ApiError::NotSent(_) | ApiError::Lost(_) | ApiError::Failed(_) | ApiError::Body(_) => Self::Unreachable(
                "Woodpecker could not be reached or had a failure; the operator tries again. If it lasts, check the operator's way out to the internet".into(),
            ),
        }
    }
}
