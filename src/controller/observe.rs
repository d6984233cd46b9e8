//! Gathers what a pass must know: the object as it is now, its Secret, its account, its rivals.

mod gathered;
mod record;
mod source;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

use super::claims::{ClaimKey, Claimant, entitled};
use super::context::Context;
use super::error::{PassError, Result};
use super::index::{Named, Objects};
use super::observed::{Claim, Learnt, Observed, Proof, Record, Retiring, Source, Target};
use crate::resources::{
    AccountName, DeletionPolicy, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, ObservedSecret,
    Registration, UnknownFields,
};
use crate::secret::SecretText;
use crate::store::record::record_name;
use crate::woodpecker::{Class, Entry, RemoteAccount, RemoteIdentity};

pub use self::gathered::{Created, Gathered, owner};
pub use self::source::as_recorded as source_as_recorded;

pub use self::record::{judge as judge_record, look as look_at_record, version as record_version};

/// How much is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// What is known to have changed, or not known at all.
    Changes,
    /// The Secret in any case: a step needs the client secret.
    Secret,
    /// The Secret and the record in any case: a person has asked for it.
    Everything,
}

/// Gathers everything about the credential of that name; nothing where it does not exist any more.
pub async fn observe(context: &Context, own: &Named, reading: Reading) -> Result<Option<Gathered>> {
    let Some(known) = context.latest(own) else { return Ok(None) };
    let Ok(object) = known.0.as_ref() else { return Ok(None) };
    let object = object.clone();
    let status = object.status_or_default();
    let reading = if object.is_reconcile_requested() { Reading::Everything } else { reading };
    let source::Read { source, secret, version } = source(context, &object, &status, reading).await?;
    let (target, account) = target_now(context, &object, &source).await?;
    let record = record(context, &object, &status, (&target, &source, reading), secret.as_ref()).await?;
    let (retiring, retiring_account) = retiring(context, &object, &status).await?;
    let claimant = account.as_ref().and_then(|account| {
        let identity = &account.identity;
        let claimant = claimant(&context.index.objects(), &object, identity)?;
        let (tenant, client) = (object.spec.tenant_id.clone(), object.spec.client_id.clone());
        Some((ClaimKey { account: identity.clone(), tenant, client }, claimant))
    });
    let claim = claimant
        .as_ref()
        .map_or(Claim::Ours, |(key, ours)| entitled(ours, &rivals(context, &object, &key.account)));
    // Whether its deletion depends on how long its namespace has been terminating.
    let may_have_to_wait = object.is_deleted() && object.spec.deletion_policy() == DeletionPolicy::Delete;
    let namespace_deleted_at =
        if may_have_to_wait { namespace_deleted_at(context, &own.namespace).await? } else { None };
    let seen = account.as_ref().and_then(|account| seen(context, &object, account));
    let (settles_in, change_settles_in) = settling(context, &object, &status);
    let proof = kept_proof(context, &object, &source);
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let account_changed = context.index.with(uid, |known| std::mem::take(&mut known.account_changed));
    let observed = Observed {
        object,
        written: status.clone(),
        status,
        source,
        source_version: version.map(|version| ObservedSecret {
            uid: version.uid,
            resource_version: version.resource_version,
            unknown: UnknownFields::default(),
        }),
        target,
        retiring,
        record: record.record,
        record_version: record.live.as_ref().and_then(record::version),
        seen,
        settles_in,
        change_settles_in,
        claim,
        namespace_deleted_at,
        account_changed: account_changed == Some(true),
        is_unrecorded: false,
        learnt: Learnt { proof, failure: record.failure, ..Learnt::default() },
    };
    Ok(Some(Gathered {
        observed,
        secret,
        account,
        record: record.live,
        retiring_account,
        claimant,
        class: Class::Recheck,
        grant: None,
        waits_in: None,
        created: None,
    }))
}

/// Reads the Secret, unless what the status says of it still holds as far as is known.
async fn source(
    context: &Context,
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
    reading: Reading,
) -> Result<source::Read> {
    if object.is_deleted() || object.spec.is_suspended() {
        return Ok(source::Read { source: Source::NotRead, secret: None, version: None });
    }
    let secret =
        Named { namespace: object.namespace_name().to_owned(), name: object.spec.secret_ref.name.clone() };
    let may_be_skipped = reading == Reading::Changes
        && object.metadata.generation == Some(status.observed_generation)
        && status
            .observed_secret
            .as_ref()
            .is_some_and(|recorded| context.is_secret_unchanged(&secret, recorded));
    match source::as_recorded(context, status).filter(|_| may_be_skipped) {
        Some(recorded) => Ok(source::Read { source: Source::Usable(recorded), secret: None, version: None }),
        None => source::read(context, object, status).await,
    }
}

/// Reads the record, unless what the status says of it still holds as far as is known, or there can hardly be one.
async fn record(
    context: &Context,
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
    (target, source, reading): (&Target, &Source, Reading),
    secret: Option<&SecretText>,
) -> Result<record::Read> {
    if *target != Target::Store || object.spec.is_suspended() && !object.is_deleted() {
        return Ok(record::Read::default());
    }
    if object.is_deleted() {
        return record::read(context, object, secret).await;
    }
    let name = Named { namespace: object.namespace_name().to_owned(), name: record_name(object) };
    let recorded = match (&status.observed_record, source) {
        (None, _) if status.registration.is_none() => Some(Record::NotRead),
        (Some(recorded), Source::Usable(source))
            if reading != Reading::Everything && context.is_record_unchanged(&name, recorded) =>
        {
            record::as_recorded(status, source)
        }
        _ => None,
    };
    match recorded {
        Some(recorded) => Ok(record::Read { record: Some(recorded), ..record::Read::default() }),
        None => record::read(context, object, secret).await,
    }
}

/// What Microsoft said of the secret a while ago, when the object began to wait for a permit.
fn kept_proof(context: &Context, object: &MicrosoftGraphCredential, source: &Source) -> Option<Proof> {
    let Source::Usable(source) = source else { return None };
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let max_age = context.rules.timing.listing_interval;
    context.index.with(uid, |known| known.waiting.as_ref()?.verified(&source.fingerprint, max_age))?
}

/// How long until a create and a change under way count as settled.
fn settling(
    context: &Context,
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
) -> (Duration, Duration) {
    let uid = object.metadata.uid.as_deref().unwrap_or_default();
    let create = status.pending.as_ref().map(|pending| pending.token.as_str());
    let change = status.registration.as_ref().and_then(change_mark);
    let (index, settle) = (&context.index, context.rules.timing.create_settle);
    (
        index.settles_in(uid, |known| &mut known.create, create, settle),
        index.settles_in(uid, |known| &mut known.change, change.as_deref(), settle),
    )
}

/// What tells a change of a registration from another one.
pub fn change_mark(registration: &Registration) -> Option<String> {
    Some(registration.change_sent_at.as_ref()?.0.to_string())
}

/// The account that the next step is about: that of a create under way, else that of the spec, or for a
/// deleted object that of its registration.
fn where_to_act(object: &MicrosoftGraphCredential) -> Option<AccountName> {
    let status = object.status.as_ref();
    let pending = status.and_then(|status| Some(status.pending.as_ref()?.account.clone()));
    let registered = status.and_then(|status| status.registration.as_ref()?.account.clone());
    let wanted = object.account_name();
    pending.or(if object.is_deleted() { registered.or(wanted) } else { wanted })
}

/// The same, but before an object leaves an account, what that still holds gets the new secret: until it is
/// registered at the other one, mail goes by it.
async fn target_now(
    context: &Context,
    object: &MicrosoftGraphCredential,
    source: &Source,
) -> Result<(Target, Option<Arc<RemoteAccount>>)> {
    let registration = object.status.as_ref().and_then(|status| status.registration.as_ref());
    let has_new_secret = matches!(source, Source::Usable(source) if !source.is_registered);
    if let Some(registration) = registration.filter(|_| has_new_secret && is_leaving(object)) {
        let (target, account) = target(context, object, registration.account.clone()).await?;
        if target.leads_to(registration) {
            return Ok((target, account));
        }
    }
    target(context, object, where_to_act(object)).await
}

/// Whether the spec names another account than the one that the object is registered at. After a failure there
/// it leaves without: it may be why it leaves.
fn is_leaving(object: &MicrosoftGraphCredential) -> bool {
    let Some(status) = object.status.as_ref().filter(|_| !object.is_deleted()) else { return false };
    let registered = status.registration.as_ref().and_then(|registration| registration.account.as_ref());
    let has_failed = status.consecutive_failures.is_some();
    status.pending.is_none() && registered != object.account_name().as_ref() && !has_failed
}

/// The earlier registration to remove next: the first one whose account can be reached, else the first.
async fn retiring(
    context: &Context,
    object: &MicrosoftGraphCredential,
    status: &MicrosoftGraphCredentialStatus,
) -> Result<(Option<Retiring>, Option<Arc<RemoteAccount>>)> {
    let mut next = None;
    // Before all objects are known, it may be another one's.
    let is_known_to_be_ours = context.index.are_credentials_listed();
    for registration in &status.retiring {
        let (target, account) = target(context, object, registration.account.clone()).await?;
        let is_reachable = is_known_to_be_ours && account.is_some() && target.leads_to(registration);
        let retiring = Retiring { registration: registration.clone(), target, is_reachable };
        if is_reachable {
            return Ok((Some(retiring), account));
        }
        next.get_or_insert(retiring);
    }
    Ok((next, None))
}

/// What the account's last listing holds for the app, without asking. What it lacks and a request has shown
/// to be there counts as listed.
fn seen(context: &Context, object: &MicrosoftGraphCredential, account: &RemoteAccount) -> Option<Vec<Entry>> {
    let registration = object.status.as_ref().and_then(|status| status.registration.as_ref());
    let lasts = context.rules.timing.stalled_probe;
    let is_known_to_be_there = registration.is_some_and(|registration| {
        let name = registration.account.as_ref();
        name.is_some_and(|name| context.accounts.is_present(name, registration.credential_id, lasts))
    });
    if is_known_to_be_there {
        return None;
    }
    // Before all credentials are known nothing can be told from what is missing.
    let listing = account
        .last_listing(context.rules.timing.listing_interval * 2)
        .filter(|_| context.index.are_credentials_listed())?;
    let token = registration.and_then(|registration| registration.token.as_deref());
    Some(listing.about(&object.spec.tenant_id, &object.spec.client_id, token))
}

/// How a named account can be reached.
async fn target(
    context: &Context,
    object: &MicrosoftGraphCredential,
    wanted: Option<AccountName>,
) -> Result<(Target, Option<Arc<RemoteAccount>>)> {
    let Some(name) = wanted else { return Ok((Target::Store, None)) };
    context.accounts.look_up(&context.client, name, object).await.map_err(PassError::ReadAccount)
}

/// The other objects that name the same app at that remote account and may come before it.
fn rivals(context: &Context, object: &MicrosoftGraphCredential, account: &RemoteIdentity) -> Vec<Claimant> {
    context.index.rivals(object, |objects, rival| claimant(objects, rival, account))
}

/// An object as a claimant of its app at that remote account; nothing where it makes no claim there.
fn claimant(
    objects: &Objects,
    object: &MicrosoftGraphCredential,
    account: &RemoteIdentity,
) -> Option<Claimant> {
    let is_there = |name: &AccountName| objects.is_at(name, account);
    let status = object.status.as_ref();
    let registrations =
        status.into_iter().flat_map(|status| status.registration.iter().chain(&status.retiring));
    let registered = registrations.filter_map(|registration| registration.account.as_ref());
    let pending = status.and_then(|status| status.pending.as_ref()).map(|pending| &pending.account);
    let is_registered = registered.chain(pending).any(is_there);
    let account = object.account_name().filter(is_there);
    let wants = account.is_some() && !object.is_deleted() && !object.spec.is_suspended();
    let is_let_in = account.is_some_and(|account| objects.allows(&account, object.namespace_name()));
    (is_registered || wants).then(|| Claimant {
        name: Named::of(object).to_string(),
        uid: object.metadata.uid.clone().unwrap_or_default(),
        created: object.metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |created| created.0),
        is_registered,
        could_register: is_let_in && object.may_create() && object.is_verified(),
    })
}

/// When the deletion of the namespace was asked for. Where the operator may not look, the namespace counts
/// as staying, so that a deletion waits for Woodpecker as long as it takes.
pub(super) async fn namespace_deleted_at(context: &Context, name: &str) -> Result<Option<Timestamp>> {
    let namespaces: Api<Namespace> = Api::all(context.client.clone());
    match namespaces.get_metadata_opt(name).await {
        Ok(namespace) => {
            let deleted_at = namespace.and_then(|it| it.metadata.deletion_timestamp).map(|at| at.0);
            context.calls.note_namespace(name, deleted_at.is_some());
            Ok(deleted_at)
        }
        Err(kube::Error::Api(answer)) if answer.is_forbidden() => {
            tracing::warn!(
                namespace = name,
                "the operator may not look whether the namespace is terminating: grant its ServiceAccount get on namespaces, or a deletion there may wait for Woodpecker for ever"
            );
            Ok(None)
        }
        Err(error) => Err(PassError::ReadNamespace(error)),
    }
}
