//! Executes one step of a credential's plan. All its requests to Microsoft and Woodpecker start here.

mod create;
mod delete;
mod drift;
mod expiry;
mod listing;
mod rotation;
mod state;
mod store;
mod update;

use crate::woodpecker;
use std::time::Duration;

use jiff::Timestamp;
use kube::Resource;

use crate::api::{NamespacedName, Registration};
use crate::controller::context::Context;
use crate::controller::credential::observe::{Created, Session};
use crate::controller::error::{ReconcileError, Result};
use crate::core::error_chain::chain;
use crate::core::event::EventBody;
use crate::core::failure::{Failure, FailureKind, Operation, QueueError};
use crate::core::model::{Existence, Listed, MaxAge, Observed, Target, VerificationResult};
use crate::core::plan::Step;
use crate::core::remote::Entry;
use crate::core::token_result::TokenResult;
use crate::entra::AppCredential;
use crate::woodpecker::{ApiError, Listing, RemoteAccount, RequestSlot};

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepOutcome {
    /// Planning continues with its results.
    Done,
    /// What was observed is outdated: another reconcile continues.
    Requeue,
}

/// Executes the step and stores its results in the session. A failure at the destination is a [`ReconcileError::Step`].
pub async fn execute(context: &Context, session: &mut Session, step: &Step) -> Result<StepOutcome> {
    match step {
        Step::AddFinalizer => delete::set_finalizer(context, session, true).await,
        Step::RemoveFinalizer => delete::set_finalizer(context, session, false).await,
        Step::Verify => verify(context, session).await,
        Step::ReadExpiry => expiry::read(context, session).await,
        Step::List(max_age) => list(context, session, *max_age).await,
        Step::Create => create::create(context, session).await,
        Step::RecoverCreated(id) => state::recover_created(context, session, *id).await,
        Step::ClearPendingCreate => state::clear_pending_create(context, session).await,
        Step::Adopt(id) => state::adopt(context, session, *id).await,
        Step::Update => update::update(context, session).await,
        Step::Rename => update::rename(context, session).await,
        Step::ExistenceCheck => drift::check_existence(context, session).await,
        Step::ClearRegistration => state::clear_registration(context, session).await,
        Step::DeleteDuplicate(id) => drift::delete_duplicate(context, session, *id).await,
        Step::Restart => Ok(StepOutcome::Requeue),
        Step::AbandonPrevious => state::abandon_previous(context, session).await,
        Step::DeletePrevious => delete::delete_previous(context, session).await,
        Step::Rotation(step) => Box::pin(rotation::execute(context, session, step)).await,
        Step::Encrypt => store::encrypt(context, session).await,
        Step::PersistExisting => Ok(store::persist_existing(session)),
        Step::Delete if session.observed.target == Target::Store => store::delete(context, session).await,
        Step::Delete => delete::delete(context, session).await,
        Step::Finalize(finalization) => delete::finalize(context, session, *finalization).await,
    }
}

async fn verify(context: &Context, session: &mut Session) -> Result<StepOutcome> {
    let Some(_verification_slot) =
        context.verification_slots.acquire(&NamespacedName::of(&session.observed.object))
    else {
        return Ok(StepOutcome::Requeue);
    };
    // A permit of the account was requested for the known secret. A new secret is verified without one.
    let is_known = session.observed.usable_source().is_some_and(|it| it.is_pending || it.is_registered);
    if !is_known {
        session.leave_queues(context);
    }
    let Some(secret) = &session.secret else { return Ok(StepOutcome::Done) };
    let object = &session.observed.object;
    let app = AppCredential {
        cloud: object.spec.cloud(),
        tenant: &object.spec.tenant_id,
        client: &object.spec.client_id,
    };
    let had_token = object.is_verified() || session.observed.status.registration.is_some();
    let endpoint = context.token_endpoint.for_namespace(object.namespace_name(), had_token);
    let Ok(result) = endpoint.verify(app, secret).await else {
        return Err(step_failed(Operation::List, FailureKind::Queued(QueueError::Ending), None));
    };
    match &result {
        TokenResult::Issued { .. } => tracing::debug!("Microsoft issued a token for the secret"),
        TokenResult::NotIssued { diagnosis, request_ids, .. } => {
            tracing::warn!(?diagnosis, ?request_ids, "Microsoft issued no token for the secret");
        }
    }
    session.observed.results.verification = Some(VerificationResult { at: Timestamp::now(), result });
    Ok(StepOutcome::Done)
}

async fn list(context: &Context, session: &mut Session, max_age: MaxAge) -> Result<StepOutcome> {
    let Some(account) = session.account.clone() else { return Ok(StepOutcome::Done) };
    let timing = &context.policy.timing;
    let longest = match max_age {
        MaxAge::Cached => timing.listing_interval,
        MaxAge::Recent => timing.listing_max_age,
        MaxAge::Live => Duration::ZERO,
    };
    let listed = session.list(&account, longest).await;
    let listing = listed.map_err(|error| failed(context, &session.observed, Operation::List, &error))?;
    let entries = entries_for(&session.observed, &listing);
    session.observed.results.listed = Some(Listed { entries, max_age });
    Ok(StepOutcome::Done)
}

/// The entries for the object's app or with one of its idempotency tokens: Woodpecker may write an app's ids in another
/// form than they were sent.
fn entries_for(observed: &Observed, listing: &Listing) -> Vec<Entry> {
    let spec = &observed.object.spec;
    listing.related_to(&spec.tenant_id, &spec.client_id, observed.tokens())
}

/// Whether the account has the registration under its id, by its last listing or a recent request. Checked before any
/// change, because a new API key may lead to another account, where the id belongs to another app.
async fn exists_remotely(
    context: &Context,
    session: &mut Session,
    account: &RemoteAccount,
    registration: &Registration,
    operation: Operation,
) -> Result<bool> {
    let listed = session.list(account, context.policy.timing.listing_interval).await;
    let observed = &mut session.observed;
    let listing = listed.map_err(|error| failed(context, observed, Operation::List, &error))?;
    let id = registration.credential_id;
    match listing.get(id) {
        Some(entry) if entry.is_opaque() => Err(step_failed(operation, FailureKind::Unreadable, Some(id))),
        Some(entry) if observed.is_about(&entry) => Ok(true),
        Some(_) => {
            tracing::warn!(id, ?operation, "step not started: the id belongs to another app at the account");
            Err(step_failed(operation, FailureKind::WrongAccount, Some(id)))
        }
        None => {
            let name = registration.account.as_ref();
            let is_present = observed.results.existence == Some(Existence::Present)
                || name.is_some_and(|name| {
                    context.accounts.is_present(name, id, context.policy.timing.stalled_probe)
                });
            // A previous account says nothing about the current registration.
            if !is_present && observed.status.registration.as_ref() == Some(registration) {
                observed.cached_entries = Some(entries_for(observed, &listing));
            }
            Ok(is_present)
        }
    }
}

/// Before the first write to an account whose company id Woodpecker may ignore: requires a live listing without entries
/// of the other company.
async fn verify_company_isolation(
    context: &Context,
    observed: &Observed,
    account: &RemoteAccount,
    slot: &RequestSlot,
) -> Result<()> {
    let Target::Ready(target) = &observed.target else { return Ok(()) };
    let name = &target.location.account;
    if !context.accounts.needs_isolation_check(name) || context.index.has_registrations_at(name) {
        return Ok(());
    }
    let listed = account.list(slot, Duration::ZERO).await;
    let listing = listed.map_err(|error| failed(context, observed, Operation::List, &error))?;
    let max_age = context.policy.timing.listing_interval * 2;
    let Some(other) = context.accounts.shares_credentials_with(name, &listing, max_age) else {
        return Ok(());
    };
    tracing::warn!(account = %name, %other, "step not started: Woodpecker ignores the company id");
    context.requeuer.account(name);
    context.requeuer.account(&other);
    Err(step_failed(Operation::List, FailureKind::CompanyIdIgnored, None))
}

/// Whether the object still exists with the same spec, as far as is known. It may have changed while the reconcile
/// waited for a slot.
fn is_unchanged(context: &Context, observed: &Observed) -> bool {
    let own = NamespacedName::of(&observed.object);
    let Some(known) = context.latest(&own) else { return false };
    let (known, read) = (known.meta(), observed.object.meta());
    known.uid == read.uid && known.generation <= read.generation
}

/// Converts and logs the error. A rejected key requeues the account.
fn failure(context: &Context, observed: &Observed, operation: Operation, error: &ApiError) -> Failure {
    let failure = woodpecker::failure(operation, error);
    if let (FailureKind::Unauthorized | FailureKind::NotInPlan, Target::Ready(target)) =
        (&failure.kind, &observed.target)
    {
        // The account reports it to all its objects.
        context.requeuer.account(&target.location.account);
    }
    match &failure.kind {
        FailureKind::Queued(ahead) => tracing::debug!(?operation, ?ahead, "waiting for a permit"),
        kind => tracing::warn!(?operation, ?kind, error = chain(error), "a request to Woodpecker failed"),
    }
    failure
}

/// The same, as the error that ends the step.
fn failed(context: &Context, observed: &Observed, operation: Operation, error: &ApiError) -> ReconcileError {
    ReconcileError::Step(failure(context, observed, operation, error))
}

fn step_failed(operation: Operation, kind: FailureKind, id: Option<i64>) -> ReconcileError {
    ReconcileError::Step(Failure { operation, kind, retry_after: None, id })
}

/// Rolls back what was created for an object that has been deleted.
pub async fn roll_back(context: &Context, session: &mut Session, created: Created) {
    match created {
        Created::Record => store::roll_back(context, session).await,
        Created::Credential(id) => create::roll_back(context, session, id).await,
    }
}

/// Queues an event, to be emitted after the status is written.
fn defer_event(observed: &mut Observed, reason: &'static str, text: String) {
    observed.results.events.push(EventBody {
        is_warning: false,
        reason,
        action: "Reconcile",
        text,
        request_ids: String::new(),
    });
}

async fn emit_event(context: &Context, observed: &Observed, reason: &'static str, text: String) {
    let event =
        EventBody { is_warning: false, reason, action: "Reconcile", text, request_ids: String::new() };
    context.events.emit(&observed.object.object_ref(&()), &event).await;
}
