//! Reads the app at Microsoft Entra and finds the expiry of the client secret.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::{ConditionType, Reason, find as find_condition};
use crate::api::{EntraStatus, NamespacedName, SecretHolder, TenantId};
use crate::controller::context::Context;
use crate::controller::credential::apply::{StepOutcome, step_failed};
use crate::controller::credential::observe::{self, Session};
use crate::controller::error::Result;
use crate::controller::identities::LiveAccess;
use crate::core::app_reading::{self, AppAccess, Finding, Reading, ReadingError, ReadingFailure};
use crate::core::app_secrets::{Entries, Hint, Known, MatchedBy, Search};
use crate::core::error_chain::chain;
use crate::core::failure::{FailureKind, Operation, QueueError};
use crate::core::graph_error::GraphError;
use crate::core::model::{Observed, Source};
use crate::core::token_result::TokenResult;
use crate::entra::identity::{GraphTokenError, IdentitySnapshot};
use crate::graph::{AppReader, Holding, ReadError, ReadTarget, RequestError, Sharing};

/// Reads the app, and puts what it means for the secret into the status.
pub(super) async fn read(context: &Context, session: &mut Session) -> Result<StepOutcome> {
    let own = NamespacedName::of(&session.observed.object);
    let Some(secret) = session.secret.clone() else { return Ok(StepOutcome::Done) };
    let Some(_graph_slot) = context.graph_slots.acquire(&own) else {
        session.observed.results.is_reading_deferred = true;
        return Ok(StepOutcome::Done);
    };
    let identity = match context.identities.read_access(context, &session.observed.object).await? {
        LiveAccess::Granted(identity) => identity,
        LiveAccess::Denied(access) => {
            session.observed.app_access = Some(access);
            return Ok(StepOutcome::Done);
        }
    };
    let uid = session.observed.object.metadata.uid.as_deref().unwrap_or_default();
    context.index.with(uid, |known| known.is_reading_requested = false);
    let (reader, hint) = (&context.identities.reader, Hint::of(secret.expose()));
    let reading = match find(reader, &identity, &session.observed, hint).await {
        Ok(reading) => reading,
        Err(NotSent) => {
            return Err(step_failed(Operation::List, FailureKind::Queued(QueueError::Ending), None));
        }
    };
    // The grant may have gone while the requests were under way.
    let access = context.app_access(&session.observed.object);
    if access != Some(AppAccess::Granted) {
        session.observed.app_access = access;
        return Ok(StepOutcome::Done);
    }
    let observed = &mut session.observed;
    record(context, observed, &reading);
    observed.results.reading = Some(reading);
    if observed.object.spec.follows_entra() {
        let keyring = context.keyring.get();
        let (object, status, now) = (&observed.object, &observed.status, Timestamp::now());
        let source = observe::following_entra(object, status, &secret, keyring.fingerprint_keys(), now);
        observed.source = source.map_or_else(Source::Unusable, Source::Usable);
    }
    Ok(StepOutcome::Done)
}

/// This replica does not lead for long enough.
struct NotSent;

/// Puts what was read into the status.
fn record(context: &Context, observed: &mut Observed, reading: &Reading) {
    let Some(fingerprint) =
        observed.usable_source().and_then(|source| Some(source.reading.as_ref()?.fingerprint.clone()))
    else {
        return;
    };
    let before = observed.last_reading().cloned().unwrap_or_default();
    let before = EntraStatus { fingerprint, ..before };
    let next = app_reading::after(before, reading, &context.policy.timing);
    observed.status.entra = Some(Box::new(next));
    if let Source::Usable(source) = &mut observed.source
        && let Some(subject) = &mut source.reading
    {
        subject.is_recorded = true;
    }
}

/// Searches where the secret was found before, with one request. Before it was ever found, searches the application and,
/// if it is not there for certain, its service principal in the tenant.
async fn find(
    reader: &AppReader,
    identity: &IdentitySnapshot,
    observed: &Observed,
    hint: Hint,
) -> Result<Reading, NotSent> {
    let last = observed.last_reading();
    let key_id = last.and_then(|last| last.key_id.as_deref());
    let known = Known { key_id, hint, verified_at: verified_at(observed) };
    let (holder, spec) = (last.and_then(|last| last.holder), &observed.object.spec);
    let sharing = if observed.object.is_reconcile_requested() {
        Sharing::Later
    } else {
        Sharing::Recent { newer_than: last.and_then(|last| Some(last.last_read_time.as_ref()?.0)) }
    };
    let target =
        |holder| ReadTarget { tenant: spec.tenant_id.clone(), client: spec.client_id.clone(), holder };
    let first = holder.unwrap_or(SecretHolder::Application);
    let one = match reader.read(identity, &target(first), sharing).await {
        Ok(one) => one,
        Err(error) => return failed(&error),
    };
    let search = entries(first, &one).search(&known);
    if holder.is_some() || is_certain(&search) {
        return Ok(reading(one.at, search, &spec.tenant_id, (&one, &one)));
    }
    let principal = match reader.read(identity, &target(SecretHolder::ServicePrincipal), sharing).await {
        Ok(principal) => principal,
        Err(error) => return failed(&error),
    };
    let service_principal = principal.secrets.as_deref().unwrap_or_default();
    let search = Entries { service_principal, ..entries(first, &one) }.search(&known);
    Ok(reading(one.at.min(principal.at), search, &spec.tenant_id, (&one, &principal)))
}

/// The entries of an application, or of a service principal.
fn entries(of: SecretHolder, holding: &Holding) -> Entries<'_> {
    let secrets = holding.secrets.as_deref().unwrap_or_default();
    match of {
        SecretHolder::Application => Entries { application: secrets, service_principal: &[] },
        SecretHolder::ServicePrincipal => Entries { application: &[], service_principal: secrets },
    }
}

/// Whether a search elsewhere would not change the result.
fn is_certain(search: &Search) -> bool {
    match search {
        Search::Found(found) => found.by != MatchedBy::Elimination,
        Search::Ambiguous { .. } => true,
        Search::NotFound => false,
    }
}

fn reading(
    at: Timestamp,
    search: Search,
    own: &TenantId,
    (application, principal): (&Holding, &Holding),
) -> Reading {
    let finding = match search {
        Search::Found(found) => Finding::Found(found),
        Search::Ambiguous { matches, earliest } => Finding::Ambiguous { matches, earliest },
        Search::NotFound if application.secrets.is_some() => Finding::NotFound,
        Search::NotFound => match (&principal.home_tenant, &principal.secrets) {
            (Some(home), _) if home != own => Finding::OtherTenant(home.clone()),
            (Some(_), _) | (None, Some(_)) => Finding::NotFound,
            (None, None) => Finding::AppNotFound,
        },
    };
    tracing::debug!(?finding, "the app was read at Microsoft Entra");
    Reading { at, result: Ok(finding) }
}

fn failed(error: &ReadError) -> Result<Reading, NotSent> {
    tracing::warn!(error = chain(error), "the app could not be read at Microsoft Entra");
    let (cause, retry_after) = reading_failure(error).ok_or(NotSent)?;
    Ok(Reading { at: Timestamp::now(), result: Err(ReadingError { cause, retry_after }) })
}

/// Why an app could not be read, and the minimum wait; `None` if nothing was sent, because this replica may lose the lease.
pub(super) fn reading_failure(error: &ReadError) -> Option<(ReadingFailure, Option<Duration>)> {
    Some(match error {
        ReadError::Request(RequestError::NotLeading(_))
        | ReadError::Token(GraphTokenError::NotLeading(_)) => return None,
        ReadError::Request(RequestError::Graph { error, retry_after }) => {
            (ReadingFailure::Graph(*error), *retry_after)
        }
        ReadError::Token(GraphTokenError::RateLimited { retry_after }) => {
            (ReadingFailure::Graph(GraphError::Throttled), *retry_after)
        }
        ReadError::Token(error) => {
            (ReadingFailure::NoToken { is_temporary: !error.is_lasting() }, error.retry_after())
        }
    })
}

/// When Microsoft last issued a token for the secret of the source, as far as is known.
fn verified_at(observed: &Observed) -> Option<Timestamp> {
    if let Some(verification) = &observed.results.verification {
        let is_issued = matches!(verification.result, TokenResult::Issued { .. });
        return is_issued.then_some(verification.at);
    }
    let last = observed.status.last_verified_time.as_ref()?.0;
    let verified = find_condition(&observed.status.conditions, ConditionType::Verified);
    let is_issued = verified.is_some_and(|verified| verified.is_because(Reason::TokenIssued));
    (is_issued && observed.is_same_secret()).then_some(last)
}
