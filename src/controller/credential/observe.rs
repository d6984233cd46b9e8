//! Reads what a reconcile depends on: the object, its Secret, its account and conflicting objects.

mod record;
mod rotation;
mod source;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt};

use crate::controller::index::claim_key::ClaimKey;

use crate::api::{
    AccountName, CONFIRM_DELETED, DeletionPolicy, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus,
    NamespacedName, Registration, SealedGraphCredential,
};
use crate::controller::context::Context;
use crate::controller::error::{ReconcileError, Result};
use crate::controller::index::Objects;
use crate::core::claims::{self, Candidate, resolve_claim};
use crate::core::model::{
    Claim, Observed, OwnSecrets, PreviousRegistration, Record, Source, StepResults, Target,
    VerificationResult,
};
use crate::core::remote::Entry;
use crate::secret_text::SecretText;
use crate::store::record::record_name;
use crate::woodpecker::{RemoteAccount, RemoteIdentity};

pub use self::source::{following_entra, persisted as persisted_source};
pub use super::session::{Created, Session, requester};

pub use self::record::{evaluate as evaluate_record, read_live as read_record, version as record_version};
pub use self::rotation::{evaluate as evaluate_secrets, of_created};

/// What is read even if it is not known to have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadScope {
    /// Nothing: only what has changed or is unknown.
    Changes,
    /// The Secret, because a step needs the client secret.
    Secret,
    /// The Secret and the record, because a user has requested a reconcile.
    Everything,
}

/// Observes the credential of that name; `None` if it no longer exists.
pub async fn observe(context: &Context, own: &NamespacedName, scope: ReadScope) -> Result<Option<Session>> {
    let Some(object) = context.latest(own).and_then(|known| known.0.as_ref().ok().cloned()) else {
        return Ok(None);
    };
    let written = object.status_or_default();
    let mut status = written.clone();
    let scope = if object.is_reconcile_requested() { ReadScope::Everything } else { scope };
    let (own_secrets, secret_record, read) = secret(context, &object, &mut status, scope).await?;
    let source::Read { source, secret, version, changed_at } = read;
    let (target, account) = current_target(context, &object, &source).await?;
    let mut record = record(context, &object, &status, (&target, &source, scope), secret.as_ref()).await?;
    record.live = record.live.or(secret_record);
    let (previous_registration, previous_account) = previous_registration(context, &object, &status).await?;
    let (candidate, claim) = claim(context, &object, account.as_deref());
    let (settles_in, change_settles_in) = settle_deadlines(context, &object, &status);
    let verification = cached_verification(context, &object, &source);
    let (account_changed, is_reading_requested) = take_changes(context, &object);
    let observed = Observed {
        namespace_deleted_at: blocking_namespace_deleted_at(context, &object).await?,
        app_access: context.app_access(&object),
        is_reading_requested,
        cached_entries: account.as_ref().and_then(|account| cached_entries(context, &object, account)),
        object,
        written,
        status,
        source,
        source_version: version,
        source_changed_at: changed_at,
        target,
        previous_registration,
        record: record.record,
        record_version: record.live.as_ref().and_then(record::version),
        own_secrets,
        settles_in,
        change_settles_in,
        claim,
        account_changed,
        has_unpersisted_changes: false,
        results: StepResults { verification, failure: record.failure, ..StepResults::default() },
    };
    let session = Session::new(observed, secret, record.live);
    Ok(Some(Session { account, previous_account, candidate, ..session }))
}

/// The client secret of the object: from its record if the operator creates it, else from its Secret.
async fn secret(
    context: &Context,
    object: &MicrosoftGraphCredential,
    status: &mut MicrosoftGraphCredentialStatus,
    scope: ReadScope,
) -> Result<(Option<OwnSecrets>, Option<SealedGraphCredential>, source::Read)> {
    let rotation::Read { own, source: created, live } =
        rotation::read(context, object, status, scope).await?;
    let read = match created {
        Some(created) => created,
        None => source(context, object, status, scope).await?,
    };
    Ok((own, live, read))
}

/// Whether the account changed since the last reconcile, and whether the app must be read again.
fn take_changes(context: &Context, object: &MicrosoftGraphCredential) -> (bool, bool) {
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let changes = context
        .index
        .with(uid, |known| (std::mem::take(&mut known.account_changed), known.is_reading_requested));
    changes.unwrap_or_default()
}

/// The object's candidacy for its app at the account, and whether it has the claim.
fn claim(
    context: &Context,
    object: &MicrosoftGraphCredential,
    account: Option<&RemoteAccount>,
) -> (Option<(ClaimKey, Candidate)>, Claim) {
    let candidate = account.and_then(|account| {
        let identity = &account.identity;
        let candidate = candidate(&context.index.objects(), object, identity)?;
        let (tenant, client) = (object.spec.tenant_id.clone(), object.spec.client_id.clone());
        Some((ClaimKey { account: identity.clone(), tenant, client }, candidate))
    });
    let claim = candidate.as_ref().map_or(Claim::Granted, |(key, ours)| {
        resolve_claim(ours, &conflicting_candidates(context, object, &key.account))
    });
    (candidate, claim)
}

/// Reads the Secret, unless the status still describes it as far as is known.
async fn source(
    context: &Context,
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
    scope: ReadScope,
) -> Result<source::Read> {
    if object.is_deleted() || object.spec.is_suspended() {
        return Ok(source::Read::unread());
    }
    let Some(reference) = &object.spec.secret_ref else { return Ok(source::Read::unread()) };
    let secret =
        NamespacedName { namespace: object.namespace_name().to_owned(), name: reference.name.clone() };
    let may_be_skipped = scope == ReadScope::Changes
        && object.metadata.generation == Some(status.observed_generation)
        && status
            .observed_secret
            .as_ref()
            .is_some_and(|recorded| context.is_secret_unchanged(&secret, recorded));
    match source::persisted(context, object, status).filter(|_| may_be_skipped) {
        Some(recorded) => Ok(source::Read { source: Source::Usable(recorded), ..source::Read::unread() }),
        None => source::read(context, object, status).await,
    }
}

/// Reads the record, unless the status still describes it as far as is known, or there is probably none.
async fn record(
    context: &Context,
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
    (target, source, scope): (&Target, &Source, ReadScope),
    secret: Option<&SecretText>,
) -> Result<record::Read> {
    if *target != Target::Store || object.spec.is_suspended() && !object.is_deleted() {
        return Ok(record::Read::default());
    }
    if object.is_deleted() {
        return record::read(context, object, secret).await;
    }
    let name = NamespacedName { namespace: object.namespace_name().to_owned(), name: record_name(object) };
    let recorded = match (&status.observed_record, source) {
        (None, _) if status.registration.is_none() => Some(Record::NotRead),
        (Some(recorded), Source::Usable(source))
            if scope != ReadScope::Everything && context.is_record_unchanged(&name, recorded) =>
        {
            record::persisted(status, source)
        }
        _ => None,
    };
    match recorded {
        Some(recorded) => Ok(record::Read { record: Some(recorded), ..record::Read::default() }),
        None => record::read(context, object, secret).await,
    }
}

/// Microsoft's result for the secret, cached when the object began to wait for a permit.
fn cached_verification(
    context: &Context,
    object: &MicrosoftGraphCredential,
    source: &Source,
) -> Option<VerificationResult> {
    let Source::Usable(source) = source else { return None };
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let max_age = context.policy.timing.listing_interval;
    context.index.with(uid, |known| known.waiting.as_ref()?.verified(&source.fingerprint, max_age))?
}

/// Remaining settle periods of a pending create and of an update in flight.
fn settle_deadlines(
    context: &Context,
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
) -> (Duration, Duration) {
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let create = status.pending_create.as_ref().map(|pending| pending.idempotency_token.as_str());
    let change = status.registration.as_ref().and_then(change_key);
    let (index, settle) = (&context.index, context.policy.timing.settle_period);
    (
        index.settles_in(uid, |known| &mut known.create, create, settle),
        index.settles_in(uid, |known| &mut known.change, change.as_deref(), settle),
    )
}

/// Identifies an update of a registration.
pub fn change_key(registration: &Registration) -> Option<String> {
    Some(registration.update_sent_time.as_ref()?.0.to_string())
}

/// The account of the next step: that of a pending create, else that of the spec, or of the registration of a deleted
/// object.
fn action_target(object: &MicrosoftGraphCredential) -> Option<AccountName> {
    let status = object.status.as_ref();
    let pending = status.and_then(|status| Some(status.pending_create.as_ref()?.account.clone()));
    let registered = status.and_then(|status| status.registration.as_ref()?.account.clone());
    let wanted = object.account_name();
    pending.or(if object.is_deleted() { registered.or(wanted) } else { wanted })
}

/// The target of the next step. Before an object moves to another account, its registration at the old one gets the new
/// secret, because mail depends on it until the new registration exists.
async fn current_target(
    context: &Context,
    object: &MicrosoftGraphCredential,
    source: &Source,
) -> Result<(Target, Option<Arc<RemoteAccount>>)> {
    let registration = object.status.as_ref().and_then(|status| status.registration.as_ref());
    let has_new_secret = matches!(source, Source::Usable(source) if !source.is_registered);
    if let Some(registration) = registration.filter(|_| has_new_secret && is_migrating(object)) {
        let (target, account) = target(context, object, registration.account.clone()).await?;
        if target.matches(registration) {
            return Ok((target, account));
        }
    }
    target(context, object, action_target(object)).await
}

/// Whether the spec names another account than the registration. After a failure the object moves without updating the
/// old account, which may be the reason for the move.
fn is_migrating(object: &MicrosoftGraphCredential) -> bool {
    let Some(status) = object.status.as_ref().filter(|_| !object.is_deleted()) else { return false };
    let registered = status.registration.as_ref().and_then(|registration| registration.account.as_ref());
    let has_failed = status.consecutive_failures.is_some();
    status.pending_create.is_none() && registered != object.account_name().as_ref() && !has_failed
}

/// The previous registration to delete next: the first one whose account is reachable, else the first.
async fn previous_registration(
    context: &Context,
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
) -> Result<(Option<PreviousRegistration>, Option<Arc<RemoteAccount>>)> {
    let mut next = None;
    // Until all objects are known, another one may have registered it.
    let are_objects_known = context.index.are_credentials_listed();
    for registration in &status.previous_registrations {
        let (target, account) = target(context, object, registration.account.clone()).await?;
        let is_reachable = are_objects_known && account.is_some() && target.matches(registration);
        let previous = PreviousRegistration { registration: registration.clone(), target, is_reachable };
        if is_reachable {
            return Ok((Some(previous), account));
        }
        next.get_or_insert(previous);
    }
    Ok((next, None))
}

/// The app's entries in the cached listing of the account. A registration that the listing lacks but a request has
/// shown counts as listed.
fn cached_entries(
    context: &Context,
    object: &MicrosoftGraphCredential,
    account: &RemoteAccount,
) -> Option<Vec<Entry>> {
    let registration = object.status.as_ref().and_then(|status| status.registration.as_ref());
    let lasts = context.policy.timing.stalled_probe;
    let is_present = registration.is_some_and(|registration| {
        let name = registration.account.as_ref();
        // Who confirms the deletion knows better than an earlier request.
        let is_confirmed =
            object.annotations().get(CONFIRM_DELETED) == Some(&registration.credential_id.to_string());
        !is_confirmed
            && name.is_some_and(|name| context.accounts.is_present(name, registration.credential_id, lasts))
    });
    if is_present {
        return None;
    }
    // Until all credentials are known, a missing entry means nothing.
    let listing = account
        .last_listing(context.policy.timing.listing_interval * 2)
        .filter(|_| context.index.are_credentials_listed())?;
    let token = registration.and_then(|registration| registration.idempotency_token.as_deref());
    Some(listing.related_to(&object.spec.tenant_id, &object.spec.client_id, token))
}

/// Looks up an account by name.
async fn target(
    context: &Context,
    object: &MicrosoftGraphCredential,
    wanted: Option<AccountName>,
) -> Result<(Target, Option<Arc<RemoteAccount>>)> {
    let Some(name) = wanted else { return Ok((Target::Store, None)) };
    context.accounts.look_up(&context.client, name, object.into()).await.map_err(ReconcileError::ReadAccount)
}

/// Other objects with the same app at that remote account that may take precedence.
fn conflicting_candidates(
    context: &Context,
    object: &MicrosoftGraphCredential,
    account: &RemoteIdentity,
) -> Vec<Candidate> {
    context.index.conflicting(object, |objects, other| candidate(objects, other, account))
}

/// The object as candidate for its app at that remote account; `None` if it claims nothing there.
fn candidate(
    objects: &Objects,
    object: &MicrosoftGraphCredential,
    account: &RemoteIdentity,
) -> Option<Candidate> {
    let is_there = |name: &AccountName| objects.is_at(name, account);
    let is_allowed = |name: &AccountName| objects.allows(name, object.namespace_name());
    claims::candidate(object, is_there, is_allowed)
}

/// When the namespace began to terminate, if it waits for the object to be deleted at its destination.
async fn blocking_namespace_deleted_at(
    context: &Context,
    object: &MicrosoftGraphCredential,
) -> Result<Option<Timestamp>> {
    let removes = object.spec.deletion_policy() == DeletionPolicy::Delete
        || object.status.as_ref().is_some_and(|status| status.rotation.is_some());
    if object.is_deleted() && removes {
        namespace_deleted_at(context, object.namespace_name()).await
    } else {
        Ok(None)
    }
}

/// The namespace's deletion timestamp. Without the right to read it, the namespace counts as not terminating, so a
/// deletion waits for Woodpecker as long as it takes.
pub(in crate::controller) async fn namespace_deleted_at(
    context: &Context,
    name: &str,
) -> Result<Option<Timestamp>> {
    let namespaces: Api<Namespace> = Api::all(context.client.clone());
    match namespaces.get_metadata_opt(name).await {
        Ok(namespace) => {
            let deleted_at = namespace.and_then(|it| it.metadata.deletion_timestamp).map(|at| at.0);
            context.requeuer.note_namespace(name, deleted_at.is_some());
            Ok(deleted_at)
        }
        Err(kube::Error::Api(status)) if status.is_forbidden() => {
            tracing::warn!(
                namespace = name,
                "the operator may not read the namespace, so a deletion there may wait for Woodpecker forever: allow its ServiceAccount get on namespaces"
            );
            Ok(None)
        }
        Err(error) => Err(ReconcileError::ReadNamespace(error)),
    }
}
