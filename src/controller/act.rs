//! Carries out one step of a pass. Every request to a remote side starts here.

mod create;
mod finish;

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::Resource;

use super::context::Context;
use super::decide::{Action, Freshness};
use super::error::PassError;
use super::observe::Gathered;
use super::observed::{Listed, Observed, Proof, Source, Target};
use super::report::Note;
use super::status::{self, Written};
use crate::destination::{Failure, FailureKind, Operation};
use crate::microsoft::{App, Verdict};
use crate::resources::Registration;
use crate::resources::conditions::whole_second;
use crate::telemetry::logs::chain;
use crate::woodpecker::{ApiError, Certainty, Entry, RemoteAccount, SecretUpdate};

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
        Action::List(freshness) => {
            list(context, gathered, *freshness).await;
            Ok(Step::Done)
        }
        Action::Create => create::create(context, gathered).await,
        Action::Update => update(context, gathered).await,
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
    let verdict = context.token_endpoint.prove(app, secret).await;
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
    };
    match account.list(max_age).await {
        Ok(entries) => {
            let entries = entries_for(observed, entries);
            observed.learnt.listed = Some(Listed { entries, is_fresh: freshness == Freshness::Fresh });
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

/// Replaces secret and expiry. Until the answer is there it is unknown which secret the credential has, and
/// the status says so before the request is sent: a crash, or a Secret that is put back, must not pass for
/// the secret that was registered before.
async fn update(context: &Context, gathered: &mut Gathered) -> Result<Step, PassError> {
    let Gathered { observed, secret: Some(secret), account: Some(account), .. } = gathered else {
        return Ok(Step::Done);
    };
    let Some(before) = observed.status.registration.clone() else { return Ok(Step::Done) };
    let Source::Usable(source) = &observed.source else { return Ok(Step::Done) };
    let (fingerprint, expires_at) = (source.fingerprint.clone(), source.expires_at);
    if !is_for_our_app(context, observed, account, before.credential_id, Operation::Update).await {
        return Ok(Step::Done);
    }
    let turn = match account.enter().await {
        Ok(turn) => turn,
        Err(error) => {
            note_failure(context, observed, Operation::Update, &error);
            return Ok(Step::Done);
        }
    };
    let mut intent = observed.status.clone();
    intent.registration = Some(Registration { fingerprint: Registration::UNKNOWN.into(), ..before.clone() });
    if intent != observed.written
        && status::write_intent(context, observed, intent).await? == Written::ObjectGone
    {
        return Ok(Step::ObjectGone);
    }
    let id = before.credential_id;
    if let Err(error) = account.update(&turn, id, SecretUpdate { secret, expires_at }).await {
        if error.certainty() == Certainty::NotProcessed {
            observed.status.registration = Some(before);
        }
        note_failure(context, observed, Operation::Update, &error);
        return Ok(Step::Done);
    }
    drop(turn);
    if let Source::Usable(source) = &mut observed.source {
        source.is_registered = true;
    }
    let mut fact = observed.status.clone();
    fact.registration = Some(Registration {
        fingerprint,
        expires_at: Time(whole_second(expires_at)),
        registered_at: Time(whole_second(Timestamp::now())),
        ..before
    });
    fact.candidate = None;
    tracing::info!(id, "Woodpecker has the new secret");
    if status::write_fact(context, observed, fact).await? == Written::ObjectGone {
        return Ok(Step::ObjectGone);
    }
    tell(context, observed, "Updated", format!("Woodpecker has the new secret for credential {id}")).await;
    Ok(Step::Done)
}

async fn rename(context: &Context, gathered: &mut Gathered) {
    let Gathered { observed, account: Some(account), .. } = gathered else { return };
    let name = observed.object.remote_name();
    let Some(mut registration) = observed.status.registration.clone() else { return };
    if !is_for_our_app(context, observed, account, registration.credential_id, Operation::Rename).await {
        return;
    }
    let renamed = match account.enter().await {
        Ok(turn) => account.rename(&turn, registration.credential_id, &name).await,
        Err(error) => Err(error),
    };
    if let Err(error) = renamed {
        note_failure(context, observed, Operation::Rename, &error);
        return;
    }
    registration.name = name;
    observed.status.registration = Some(registration);
}

/// Whether the credential of that id may be ours: the account's last listing does not show it for another
/// app. A new API key may open another account, where the same id is a stranger's.
async fn is_for_our_app(
    context: &Context,
    observed: &mut Observed,
    account: &RemoteAccount,
    id: i64,
    operation: Operation,
) -> bool {
    let spec = &observed.object.spec;
    match account.list(context.rules.timing.listing_interval).await {
        Ok(entries) => {
            let is_foreign =
                |entry: &Entry| entry.id == id && !entry.is_for(&spec.tenant_id, &spec.client_id);
            if entries.iter().any(is_foreign) {
                tracing::warn!(id, ?operation, "not begun: the account holds another app under this id");
                let kind = FailureKind::Foreign;
                observed.learnt.failure = Some(Failure { operation, kind, retry_after: None });
                return false;
            }
            true
        }
        Err(error) => {
            note_failure(context, observed, Operation::List, &error);
            false
        }
    }
}

fn note_failure(context: &Context, observed: &mut Observed, operation: Operation, error: &ApiError) {
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
