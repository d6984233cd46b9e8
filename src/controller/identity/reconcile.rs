//! Reconciles one identity: signs in in the tenants that are due, and writes the status.

use std::time::Duration;

use jiff::Timestamp;
use kube::{Api, Resource, ResourceExt};
use tokio::time::Instant;

use crate::api::conditions::{ConditionType, Reason, find};
use crate::api::{
    EntraIdentity, NamespacedName, ObservedSecret, RECONCILE_REQUESTED_AT, TenantId, UnknownFields,
};
use crate::controller::context::Context;
use crate::controller::error::ReconcileError;
use crate::controller::identity::finalizer;
use crate::controller::identity::state::Checked;
use crate::controller::index::Pruned;
use crate::controller::instrument::Completed;
use crate::controller::status_writer::replace_status;
use crate::core::outcome::Outcome;
use crate::core::sign_in::{can_read_apps, consent_url, permission_advice};
use crate::core::status::identity::report;
use crate::core::tenant_checks::{Problem, TenantChecks, TenantResult};
use crate::entra::identity::{GraphToken, GraphTokenError, IdentitySnapshot};
use crate::k8s::secrets::{self, ReadError};

/// Reconciles the identity.
pub(super) async fn run(context: &Context, own: &NamespacedName) -> Result<Completed, ReconcileError> {
    let timing = &context.policy.timing;
    let object = context.index.get::<EntraIdentity>(own).and_then(|parsed| parsed.0.as_ref().ok().cloned());
    let (Some(object), Some(identity)) = (object, context.index.identity(own)) else {
        context.graph_tokens.retain(&context.index.identities());
        return Ok(Completed::new(Outcome::ObjectDeleted, timing.resync));
    };
    let api: Api<EntraIdentity> = Api::namespaced(context.client.clone(), &own.namespace);
    if let Some(wait) = finalizer::release(context, &api, &object).await? {
        return Ok(Completed::new(Outcome::Waiting, wait));
    }
    let status = object.status.clone().unwrap_or_default();
    let secret = secret_version(context, &identity).await?;
    let mut checked = begin(context, &identity, &object, secret.as_ref());
    let before = checked.checks.clone();
    sign_in_where_due(context, &identity, &mut checked.checks).await?;
    let recovered = checked.checks.recovered_since(&before);
    if !recovered.is_empty() {
        context.requeuer.users_of_identity(&own.name, |tenant| recovered.contains(tenant));
    }
    let now = Timestamp::now();
    checked.checks.end_round(now);
    context.graph_tokens.retain(&context.index.identities());
    let next_at = checked.checks.next_at(now);
    let (checks, home) = (checked.checks.clone(), &identity.home_tenant);
    context.index.with_identity(&identity.uid, |state| state.checked = Some(checked));
    let report = report(&status, identity.generation, home, &checks, secret, now);
    let ready = find(&report.status.conditions, ConditionType::Ready).cloned();
    if report.status != status || object.status.is_none() {
        let written =
            replace_status(&context.client, &context.leadership, &(), &object, &report.status).await?;
        if let Some(Pruned(written)) = written {
            context.on_written::<EntraIdentity>(&written);
        }
        for event in &report.events {
            context.events.emit(&object.object_ref(&()), event).await;
        }
    }
    let wait = Duration::try_from(next_at.duration_since(now)).unwrap_or_default();
    let longest = if identity.secret().is_some() { timing.identity_secret_poll } else { timing.resync };
    let ended = Completed::new(report.outcome, wait.min(longest));
    Ok(ended.about(object.metadata.generation, ready.as_ref()))
}

/// What is known at the beginning: of an earlier reconcile, or after a start from the status.
fn begin(
    context: &Context,
    identity: &IdentitySnapshot,
    object: &EntraIdentity,
    secret: Option<&ObservedSecret>,
) -> Checked {
    let (timing, now) = (&context.policy.timing, Timestamp::now());
    let status = object.status.clone().unwrap_or_default();
    let requested = object.annotations().get(RECONCILE_REQUESTED_AT).cloned();
    let (tenants, home, spec) = (identity.tenants(), identity.home_tenant.clone(), identity.sign_in_spec());
    let is_secret_known = identity.secret().is_none() || status.observed_secret.as_ref() == secret;
    let known = context.index.with_identity(&identity.uid, |state| state.checked.clone()).flatten();
    let Some(mut known) = known else {
        let is_current = status.observed_generation == identity.generation && is_secret_known;
        let checks = if is_current {
            TenantChecks::resume(&status, &tenants, home, timing, now)
        } else {
            TenantChecks::new(&tenants, home)
        };
        return Checked { checks, spec, requested };
    };
    if known.spec != spec || known.checks.home() != &home {
        return Checked { checks: TenantChecks::new(&tenants, home), spec, requested };
    }
    known.checks.set_tenants(&tenants);
    if !is_secret_known || known.requested != requested {
        // Tokens of the earlier Secret, or from before an admin granted something, would hide the difference.
        context.graph_tokens.reset(identity);
        known.checks.restart();
    }
    Checked { requested, ..known }
}

/// Signs in in the tenants that are due, one after the other, and leaves the rest to the next reconcile after a while.
async fn sign_in_where_due(
    context: &Context,
    identity: &IdentitySnapshot,
    checks: &mut TenantChecks,
) -> Result<(), ReconcileError> {
    let (timing, started) = (&context.policy.timing, Instant::now());
    while let Some(tenant) = checks.next(Timestamp::now()) {
        if started.elapsed() >= timing.identity_turn || context.stop.is_cancelled() {
            break;
        }
        if checks.result(&tenant).lacks_permission() {
            context.graph_tokens.discard(identity, &tenant);
        }
        let result = match context.graph_tokens.token(identity, &tenant).await {
            Ok(token) => judge(context, identity, &tenant, &token),
            Err(GraphTokenError::NotLeading(error)) => return Err(error.into()),
            Err(error @ GraphTokenError::ReadSecret { .. }) => return Err(ReconcileError::SignIn(error)),
            Err(error) => failed(&error),
        };
        checks.record(&tenant, result, timing, &identity.uid, Timestamp::now());
    }
    Ok(())
}

/// Whether a token has what the grants need. In a tenant without a grant, a token is enough.
fn judge(
    context: &Context,
    identity: &IdentitySnapshot,
    tenant: &TenantId,
    token: &GraphToken,
) -> TenantResult {
    if !identity.has_grant_in(tenant) || can_read_apps(token.roles()) {
        return TenantResult::Ready;
    }
    let authority = context.graph_tokens.authority(identity.cloud);
    TenantResult::Missing(Problem {
        reason: Reason::PermissionMissing.as_str().to_owned(),
        message: permission_advice(authority, tenant, &identity.client_id),
        consent_url: Some(consent_url(authority, tenant, &identity.client_id)),
    })
}

fn failed(error: &GraphTokenError) -> TenantResult {
    let reason = error.reason().unwrap_or(Reason::MicrosoftUnavailable);
    let problem = Problem {
        reason: reason.as_str().to_owned(),
        message: error.to_string(),
        consent_url: error.consent_url().map(str::to_owned),
    };
    if error.is_lasting() { TenantResult::Missing(problem) } else { TenantResult::Unavailable(problem) }
}

/// The version of the Secret that the identity signs in with; `None` if there is none, or it cannot be read.
async fn secret_version(
    context: &Context,
    identity: &IdentitySnapshot,
) -> Result<Option<ObservedSecret>, ReconcileError> {
    let Some(name) = identity.secret() else { return Ok(None) };
    match secrets::version(&context.client, &identity.key.namespace, name).await {
        Ok(version) => Ok(Some(ObservedSecret {
            uid: version.uid,
            resource_version: version.resource_version,
            unknown: UnknownFields::default(),
        })),
        // The sign-in reports it.
        Err(ReadError::NotFound | ReadError::Forbidden) => Ok(None),
        Err(source @ ReadError::Kube(_)) => Err(ReconcileError::ReadSecret { name: name.to_owned(), source }),
    }
}
