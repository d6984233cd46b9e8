//! Carries out one step of a pass. Every request to a remote side starts here.

mod books;
mod create;
mod drift;
mod finish;
mod listing;
mod store;
mod update;

use std::time::Duration;

use jiff::Timestamp;
use kube::Resource;

use super::context::Context;
use super::decide::Action;
use super::error::{PassError, Result};
use super::index::Named;
use super::observe::{Created, Gathered};
use super::observed::{Freshness, Listed, Observed, Probe, Proof, Target};
use crate::destination::{Failure, FailureKind, Operation};
use crate::events::Note;
use crate::microsoft::{App, Verdict};
use crate::resources::Registration;
use crate::telemetry::logs::chain;
use crate::woodpecker::{ApiError, Entry, LaneClosed, Listing, RemoteAccount, Turn};

/// What a step leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It ended, well or not: `decide` goes on from what it has found out.
    Done,
    /// It ended, and what was gathered does not fit any more: another pass goes on.
    Again,
}

/// Carries out the step and puts what it found out into `gathered`. What failed at the destination is a
/// [`PassError::Step`].
pub async fn act(context: &Context, gathered: &mut Gathered, action: &Action) -> Result<Step> {
    match action {
        Action::AddFinalizer => finish::set_finalizer(context, gathered, true).await,
        Action::RemoveFinalizer => finish::set_finalizer(context, gathered, false).await,
        Action::Prove => prove(context, gathered).await,
        Action::List(freshness) => list(context, gathered, *freshness).await,
        Action::Create => create::create(context, gathered).await,
        Action::Recover(id) => books::recover(context, gathered, *id).await,
        Action::ForgetPending => books::forget_pending(context, gathered).await,
        Action::Adopt(id) => books::adopt(context, gathered, *id).await,
        Action::Update => update::update(context, gathered).await,
        Action::Rename => update::rename(context, gathered).await,
        Action::Probe => drift::probe(context, gathered).await,
        Action::ForgetRegistration => books::forget_registration(context, gathered).await,
        Action::RemoveDuplicate(id) => drift::remove_duplicate(context, gathered, *id).await,
        Action::LookAgain => Ok(Step::Again),
        Action::LeaveRetiring => books::leave_retiring(context, gathered).await,
        Action::Retire => finish::retire(context, gathered).await,
        Action::Seal => store::seal(context, gathered).await,
        Action::NoteRecord => Ok(store::take_over(gathered)),
        Action::Delete if gathered.observed.target == Target::Store => store::delete(context, gathered).await,
        Action::Delete => finish::delete(context, gathered).await,
        Action::LetGo(parting) => finish::let_go(context, gathered, *parting).await,
    }
}

async fn prove(context: &Context, gathered: &mut Gathered) -> Result<Step> {
    let Some(_permit) = context.verifications.enter(&Named::of(&gathered.observed.object)) else {
        return Ok(Step::Again);
    };
    // With another secret than the one that it was asked for with, a grant goes back.
    let is_known = gathered.observed.usable_source().is_some_and(|it| it.is_candidate || it.is_registered);
    if !is_known {
        gathered.leave_lanes(context);
    }
    let Some(secret) = &gathered.secret else { return Ok(Step::Done) };
    let object = &gathered.observed.object;
    let app =
        App { cloud: object.spec.cloud(), tenant: &object.spec.tenant_id, client: &object.spec.client_id };
    let had_token = object.is_verified() || gathered.observed.status.registration.is_some();
    let endpoint = context.token_endpoint.for_namespace(object.namespace_name(), had_token);
    let Ok(verdict) = endpoint.prove(app, secret).await else {
        return Err(step_failed(Operation::List, FailureKind::Queued(LaneClosed::Ending), None));
    };
    match &verdict {
        Verdict::Issued { .. } => tracing::debug!("Microsoft issued a token for the secret"),
        Verdict::NotIssued { diagnosis, trace, .. } => {
            tracing::warn!(?diagnosis, ?trace, "Microsoft issued no token for the secret");
        }
    }
    gathered.observed.learnt.proof = Some(Proof { at: Timestamp::now(), verdict });
    Ok(Step::Done)
}

async fn list(context: &Context, gathered: &mut Gathered, freshness: Freshness) -> Result<Step> {
    let Some(account) = gathered.account.clone() else { return Ok(Step::Done) };
    let timing = &context.rules.timing;
    let max_age = match freshness {
        Freshness::Any => timing.listing_interval,
        Freshness::Fresh => timing.listing_max_age,
        Freshness::Anew => Duration::ZERO,
    };
    let listed = gathered.list(&account, max_age).await;
    let listing = listed.map_err(|error| failed(context, &gathered.observed, Operation::List, &error))?;
    let entries = entries_for(&gathered.observed, &listing);
    gathered.observed.learnt.listed = Some(Listed { entries, freshness });
    Ok(Step::Done)
}

/// The entries for the object's app, and whatever carries one of its marks: Woodpecker may write an app's ids
/// in another way than they were sent.
fn entries_for(observed: &Observed, listing: &Listing) -> Vec<Entry> {
    let spec = &observed.object.spec;
    listing.about(&spec.tenant_id, &spec.client_id, observed.tokens())
}

/// Whether our app stands under an id at the account, by its last listing or a request that has shown lately that it is
/// there; asked before anything is changed: a new API key may open another account, where the same id is a stranger's.
async fn is_shown(
    context: &Context,
    gathered: &mut Gathered,
    account: &RemoteAccount,
    registration: &Registration,
    operation: Operation,
) -> Result<bool> {
    let listed = gathered.list(account, context.rules.timing.listing_interval).await;
    let observed = &mut gathered.observed;
    let listing = listed.map_err(|error| failed(context, observed, Operation::List, &error))?;
    let id = registration.credential_id;
    match listing.get(id) {
        Some(entry) if observed.is_about(&entry) => Ok(true),
        Some(_) => {
            tracing::warn!(id, ?operation, "not begun: the account holds another app under this id");
            Err(step_failed(operation, FailureKind::Foreign, Some(id)))
        }
        None => {
            let name = registration.account.as_ref();
            let is_present = observed.learnt.probe == Some(Probe::Present)
                || name.is_some_and(|name| {
                    context.accounts.is_present(name, id, context.rules.timing.stalled_probe)
                });
            // Of an earlier account that says nothing about the registration.
            if !is_present && observed.status.registration.as_ref() == Some(registration) {
                observed.seen = Some(entries_for(observed, &listing));
            }
            Ok(is_present)
        }
    }
}

/// Before the first write to an account that may be another company's as well: a listing of this very moment
/// that shows nothing of the other's.
async fn tell_apart(
    context: &Context,
    observed: &Observed,
    account: &RemoteAccount,
    turn: &Turn,
) -> Result<()> {
    let Target::Ready(target) = &observed.target else { return Ok(()) };
    let name = &target.place.account;
    if !context.accounts.may_be_confused(name) || context.index.is_registered_at(name) {
        return Ok(());
    }
    let listed = account.list(turn, Duration::ZERO).await;
    let listing = listed.map_err(|error| failed(context, observed, Operation::List, &error))?;
    let max_age = context.rules.timing.listing_interval * 2;
    let Some(other) = context.accounts.confused_with(name, &listing, max_age) else { return Ok(()) };
    tracing::warn!(account = %name, %other, "not begun: the company id is ignored");
    context.calls.account(name);
    context.calls.account(&other);
    Err(step_failed(Operation::List, FailureKind::Foreign, None))
}

/// Whether the object is, as far as has been heard, still as this pass has read it: not gone, not deleted, with
/// the same spec. It may have waited for its turn since.
fn is_as_read(context: &Context, observed: &Observed) -> bool {
    let own = Named::of(&observed.object);
    let Some(known) = context.latest(&own) else { return false };
    let (known, read) = (known.meta(), observed.object.meta());
    known.uid == read.uid && known.generation <= read.generation
}

/// The failure in the common vocabulary; the account hears of a refused key.
fn failure(context: &Context, observed: &Observed, operation: Operation, error: &ApiError) -> Failure {
    let failure = Failure::at_woodpecker(operation, error);
    if let (FailureKind::Unauthorized, Target::Ready(target)) = (&failure.kind, &observed.target) {
        // The account finds out for all its objects.
        context.calls.account(&target.place.account);
    }
    match &failure.kind {
        FailureKind::Queued(ahead) => tracing::debug!(?operation, ?ahead, "waits for its turn"),
        kind => tracing::warn!(?operation, ?kind, error = chain(error), "a request to Woodpecker failed"),
    }
    failure
}

/// The same, as the error that ends the step.
fn failed(context: &Context, observed: &Observed, operation: Operation, error: &ApiError) -> PassError {
    PassError::Step(failure(context, observed, operation, error))
}

fn step_failed(operation: Operation, kind: FailureKind, id: Option<i64>) -> PassError {
    PassError::Step(Failure { operation, kind, retry_after: None, id })
}

/// Takes back what was created for an object that is gone by now.
pub async fn take_back(context: &Context, gathered: &mut Gathered, created: Created) {
    match created {
        Created::Record => store::take_back(context, gathered).await,
        Created::Credential(id) => create::take_back(context, gathered, id).await,
    }
}

/// To be told once the status says so as well.
fn note(observed: &mut Observed, reason: &'static str, text: String) {
    observed.learnt.news.push(Note {
        is_warning: false,
        reason,
        action: "Reconcile",
        text,
        ids: String::new(),
    });
}

/// Tells that something was left behind, of an object that is gone.
async fn tell_orphan(context: &Context, observed: &Observed, text: String) {
    let note = Note { is_warning: true, reason: "Orphaned", action: "Delete", text, ids: String::new() };
    context.events.publish_orphan(&observed.object.object_ref(&()), &note).await;
}

async fn tell(context: &Context, observed: &Observed, reason: &'static str, text: String) {
    let note = Note { is_warning: false, reason, action: "Reconcile", text, ids: String::new() };
    context.events.emit(&observed.object.object_ref(&()), &note).await;
}
