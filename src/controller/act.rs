//! Carries out one step of a pass. Every request to a remote side starts here.

mod create;
mod finish;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;

use super::context::Context;
use super::decide::Action;
use super::error::PassError;
use super::observe::Gathered;
use super::observed::{Observed, Proof, Source, Target};
use super::report::Note;
use crate::destination::{Failure, FailureKind, Operation};
use crate::microsoft::{App, Verdict};
use crate::resources::conditions::whole_second;
use crate::telemetry::logs::chain;
use crate::woodpecker::{ApiError, SecretUpdate};

/// What a step leaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It ended, well or not: `decide` goes on from what it has found out.
    Done,
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
        Action::List => {
            list(context, gathered).await;
            Ok(Step::Done)
        }
        Action::Create => create::create(context, gathered).await,
        Action::Update => {
            update(context, gathered).await;
            Ok(Step::Done)
        }
        Action::Rename => {
            rename(context, gathered).await;
            Ok(Step::Done)
        }
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

async fn list(context: &Context, gathered: &mut Gathered) {
    let Some(account) = &gathered.account else { return };
    let observed = &mut gathered.observed;
    match account.list(context.rules.timing.listing_max_age).await {
        Ok(mut entries) => {
            let spec = &observed.object.spec;
            entries.retain(|entry| entry.is_for(&spec.tenant_id, &spec.client_id));
            observed.learnt.entries = Some(entries);
        }
        Err(error) => note_failure(context, observed, Operation::List, &error),
    }
}

/// Sending it again after an unknown outcome does no harm, so the registration is written by the report.
async fn update(context: &Context, gathered: &mut Gathered) {
    let Gathered { observed, secret: Some(secret), account: Some(account), .. } = gathered else { return };
    let name = observed.object.remote_name();
    let Source::Usable(source) = &mut observed.source else { return };
    let Some(mut registration) = observed.status.registration.clone() else { return };
    let new_name = (registration.name != name).then_some(name.as_str());
    let new_secret = SecretUpdate { secret, expires_at: source.expires_at };
    if let Err(error) = account.update(registration.credential_id, new_secret, new_name).await {
        note_failure(context, observed, Operation::Update, &error);
        return;
    }
    registration.fingerprint.clone_from(&source.fingerprint);
    registration.expires_at = Time(source.expires_at);
    registration.registered_at = Time(whole_second(Timestamp::now()));
    registration.name = name;
    source.is_registered = true;
    observed.status.candidate = None;
    tracing::info!(id = registration.credential_id, "Woodpecker has the new secret");
    let text = format!("Woodpecker has the new secret for credential {}", registration.credential_id);
    observed.status.registration = Some(registration);
    tell(context, observed, "Updated", text).await;
}

async fn rename(context: &Context, gathered: &mut Gathered) {
    let Gathered { observed, account: Some(account), .. } = gathered else { return };
    let name = observed.object.remote_name();
    let Some(mut registration) = observed.status.registration.clone() else { return };
    if let Err(error) = account.rename(registration.credential_id, &name).await {
        note_failure(context, observed, Operation::Rename, &error);
        return;
    }
    registration.name = name;
    observed.status.registration = Some(registration);
}

fn note_failure(context: &Context, observed: &mut Observed, operation: Operation, error: &ApiError) {
    if let ApiError::NotLeading(_) = error {
        observed.learnt.not_leading = true;
        return;
    }
    let failure = Failure::at_woodpecker(operation, error);
    if let (FailureKind::Unauthorized, Target::Ready(target)) = (&failure.kind, &observed.target) {
        // The account finds out for all its objects.
        context.calls.account(&target.account.namespace, &target.account.name);
    }
    tracing::warn!(?operation, kind = ?failure.kind, error = chain(error), "a request to Woodpecker failed");
    observed.learnt.failure = Some(failure);
}

async fn tell(context: &Context, observed: &Observed, reason: &'static str, text: String) {
    let note = Note { is_warning: false, reason, action: "Reconcile", text };
    context.events.publish(&observed.object.object_ref(&()), &note).await;
}

/// A listing must be fresh where it decides that something is gone.
const FRESH: Duration = Duration::ZERO;

/// Whether the account's fresh listing lacks the credential of that id.
async fn is_gone(gathered: &Gathered, id: i64) -> Result<bool, ApiError> {
    let Some(account) = &gathered.account else { return Ok(false) };
    Ok(account.list(FRESH).await?.iter().all(|entry| entry.id != id))
}

/// What Woodpecker says of a credential that its listing still shows: a refusal.
fn refused_though_listed(operation: Operation) -> Failure {
    Failure { operation, kind: FailureKind::Refused { status: 404, word: None }, retry_after: None }
}
