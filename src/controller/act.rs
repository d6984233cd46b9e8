//! Carries out one step of a pass. Every request to a remote side starts here.

mod books;
mod create;
mod drift;
mod finish;
mod update;

use std::time::Duration;

use jiff::Timestamp;
use kube::Resource;

use super::context::Context;
use super::decide::Action;
use super::error::PassError;
use super::observe::Gathered;
use super::observed::{Freshness, Listed, Observed, Proof, Target};
use super::report::Note;
use crate::destination::{Failure, FailureKind, Operation};
use crate::microsoft::{App, Verdict};
use crate::telemetry::logs::chain;
use crate::woodpecker::{ApiError, Entry, RemoteAccount};

/// What a step leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It ended, well or not: `decide` goes on from what it has found out.
    Done,
    /// It ended, and what was gathered does not fit any more: another pass goes on.
    Again,
    /// The object does not exist any more.
    ObjectGone,
}

/// Carries out the step and puts what it found out into `gathered`.
pub async fn act(context: &Context, gathered: &mut Gathered, action: &Action) -> Result<Step, PassError> {
    match action {
        Action::AddFinalizer => finish::set_finalizer(context, gathered, true).await,
        Action::RemoveFinalizer => finish::set_finalizer(context, gathered, false).await,
        Action::Prove => {
            prove(context, gathered).await;
            Ok(Step::Done)
        }
        Action::List(freshness) => {
            list(context, gathered, *freshness).await;
            Ok(Step::Done)
        }
        Action::Create => create::create(context, gathered).await,
        Action::Recover(id) => books::recover(context, gathered, *id).await,
        Action::ForgetPending => books::forget_pending(context, gathered).await,
        Action::Adopt(id) => books::adopt(context, gathered, *id).await,
        Action::Update => update::update(context, gathered).await,
        Action::Rename => {
            update::rename(context, gathered).await;
            Ok(Step::Done)
        }
        Action::Probe => {
            drift::probe(context, gathered).await;
            Ok(Step::Done)
        }
        Action::ForgetRegistration => books::forget_registration(context, gathered).await,
        Action::RemoveDuplicate(id) => {
            drift::remove_duplicate(context, gathered, *id).await;
            Ok(Step::Done)
        }
        Action::Retire => finish::retire(context, gathered).await,
        Action::Delete => {
            finish::delete(context, gathered).await;
            Ok(Step::Done)
        }
        Action::LetGo(parting) => finish::let_go(context, gathered, *parting).await,
    }
}

async fn prove(context: &Context, gathered: &mut Gathered) {
    let Some(secret) = &gathered.secret else { return };
    let spec = &gathered.observed.object.spec;
    let app = App { cloud: spec.cloud(), tenant: &spec.tenant_id, client: &spec.client_id };
    let Ok(verdict) = context.token_endpoint.prove(app, secret).await else {
        gathered.observed.learnt.not_leading = true;
        return;
    };
    match &verdict {
        Verdict::Issued { .. } => tracing::info!("Microsoft issued a token for the secret"),
        Verdict::NotIssued { diagnosis, trace, .. } => {
            tracing::warn!(?diagnosis, ?trace, "Microsoft issued no token for the secret");
        }
    }
    gathered.observed.learnt.proof = Some(Proof { at: Timestamp::now(), verdict });
}

async fn list(context: &Context, gathered: &mut Gathered, freshness: Freshness) {
    let Some(account) = &gathered.account else { return };
    let observed = &mut gathered.observed;
    let timing = &context.rules.timing;
    let max_age = match freshness {
        Freshness::Any => timing.listing_interval,
        Freshness::Fresh => timing.listing_max_age,
        Freshness::Anew => Duration::ZERO,
    };
    match account.list(max_age).await {
        Ok(entries) => {
            let entries = entries_for(observed, entries);
            observed.learnt.listed = Some(Listed { entries, freshness });
        }
        Err(error) => note_failure(context, observed, Operation::List, &error),
    }
}

/// The entries for the object's app.
fn entries_for(observed: &Observed, mut entries: Vec<Entry>) -> Vec<Entry> {
    let spec = &observed.object.spec;
    entries.retain(|entry| entry.is_for(&spec.tenant_id, &spec.client_id));
    entries
}

/// Whether the credential of that id may be ours: the account's last listing does not show it for another
/// app. A new API key may open another account, where the same id is a stranger's.
async fn check_app(
    context: &Context,
    observed: &Observed,
    account: &RemoteAccount,
    id: i64,
    operation: Operation,
) -> Result<(), Failure> {
    let spec = &observed.object.spec;
    let listed = account.list(context.rules.timing.listing_interval).await;
    let entries = listed.map_err(|error| failure(context, observed, Operation::List, &error))?;
    let is_foreign = |entry: &Entry| entry.id == id && !entry.is_for(&spec.tenant_id, &spec.client_id);
    if entries.iter().any(is_foreign) {
        tracing::warn!(id, ?operation, "not begun: the account holds another app under this id");
        return Err(Failure { operation, kind: FailureKind::Foreign, retry_after: None });
    }
    Ok(())
}

/// The failure in the common vocabulary; the account hears of a refused key.
fn failure(context: &Context, observed: &Observed, operation: Operation, error: &ApiError) -> Failure {
    let failure = Failure::at_woodpecker(operation, error);
    if let (FailureKind::Unauthorized, Target::Ready(target)) = (&failure.kind, &observed.target) {
        // The account finds out for all its objects.
        context.calls.account(&target.account.namespace, &target.account.name);
    }
    tracing::warn!(?operation, kind = ?failure.kind, error = chain(error), "a request to Woodpecker failed");
    failure
}

fn note_failure(context: &Context, observed: &mut Observed, operation: Operation, error: &ApiError) {
    observed.learnt.not_leading |= matches!(error, ApiError::NotLeading(_));
    observed.learnt.failure = Some(failure(context, observed, operation, error));
}

async fn tell(context: &Context, observed: &Observed, reason: &'static str, text: String) {
    let note = Note { is_warning: false, reason, action: "Reconcile", text };
    context.events.publish(&observed.object.object_ref(&()), &note).await;
}
