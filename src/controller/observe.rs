//! Gathers what a pass must know: the object as it is now, its Secret, its account, its rivals.

mod record;
mod source;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

use super::claims::{ClaimKey, Claimant, entitled};
use super::context::Context;
use super::error::PassError;
use super::index::{Named, Objects};
use super::observed::{Claim, Learnt, Observed, Proof, Record, Retiring, Source, Target};
use crate::destination::FailureKind;
use crate::resources::{
    AccountName, DeletionPolicy, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, ObservedSecret,
    Registration, SealedGraphCredential, UnknownFields,
};
use crate::secret::SecretText;
use crate::store::record::record_name;
use crate::woodpecker::{
    ApiError, Class, Entry, Grant, Lane, Listing, Owner, OwnerKind, RemoteAccount, RemoteIdentity, Ticket,
    Turn,
};

pub use self::source::as_recorded as source_as_recorded;

pub use self::record::{judge as judge_record, look as look_at_record, version as record_version};

/// What a pass knows, and what it needs to act: the values that `decide` must not see.
pub struct Gathered {
    /// What is known.
    pub observed: Observed,
    /// The client secret, for the length of the pass.
    pub secret: Option<SecretText>,
    /// The account that works.
    pub account: Option<Arc<RemoteAccount>>,
    /// The record of the store as it was read, where the target is the store and there is one.
    pub record: Option<SealedGraphCredential>,
    /// The account of the earlier registration to remove next, where it works.
    pub retiring_account: Option<Arc<RemoteAccount>>,
    /// The object's claim on its app at that account, taken before a create.
    pub claimant: Option<(ClaimKey, Claimant)>,
    /// How urgent the requests of the step are.
    pub class: Class,
    /// The right to send requests in one lane, once the pass has it.
    pub grant: Option<Grant>,
    /// The lane in which a turn was asked for and not given.
    pub waits_in: Option<Lane>,
    /// What this reconcile has created at the destination and the status does not say yet.
    pub created: Option<Created>,
}

/// Something created at the destination, to be taken back where the object turns out to be gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Created {
    /// The object's record of the store.
    Record,
    /// The credential of that id at the account.
    Credential(i64),
}

// === impl Gathered ===

impl Gathered {
    /// The turn to send one request to an account; without one the object is called when it has come.
    pub async fn turn(&mut self, account: &RemoteAccount) -> Result<Turn, ApiError> {
        self.ask(account)?;
        self.turn_to_finish(account).await
    }

    /// The right to have the next turns at an account, while the request before may still be under way; what it
    /// had is given back where somebody more urgent waits.
    pub fn ask(&mut self, account: &RemoteAccount) -> Result<(), ApiError> {
        let lane = &account.lane;
        self.waits_in = Some(lane.clone());
        let grant = match self.grant.take() {
            Some(mut grant) if grant.is_of(lane) => {
                grant.reclassify(self.class);
                if grant.should_yield() {
                    return Err(grant.step_back().into());
                }
                grant
            }
            Some(_) | None => lane.ask(&self.ticket())?,
        };
        self.grant = Some(grant);
        self.waits_in = None;
        Ok(())
    }

    /// The turn for what ends what has begun: it lets nobody go first.
    pub async fn turn_to_finish(&mut self, account: &RemoteAccount) -> Result<Turn, ApiError> {
        let lane = &account.lane;
        let held = self.grant.take().filter(|grant| grant.is_of(lane));
        self.waits_in = Some(lane.clone());
        let grant = held.map_or_else(|| lane.ask(&self.ticket()), Ok)?;
        let turn = grant.turn().await?;
        self.grant = Some(grant);
        self.waits_in = None;
        Ok(turn)
    }

    /// What an account holds, by a listing at most so old; a request is sent only where there is none.
    pub async fn list(&mut self, account: &RemoteAccount, max_age: Duration) -> Result<Listing, ApiError> {
        if let Some(listing) = account.last_listing(max_age) {
            return Ok(listing);
        }
        let turn = self.turn(account).await?;
        account.list(&turn, max_age).await
    }

    /// What an account holds now, to end what has begun.
    pub async fn list_to_finish(&mut self, account: &RemoteAccount) -> Result<Listing, ApiError> {
        let turn = self.turn_to_finish(account).await?;
        account.list(&turn, Duration::ZERO).await
    }

    /// Gives back what the object has in lanes, but for the ticket with which it waits.
    pub fn leave_lanes(&mut self, context: &Context) {
        self.grant = None;
        let kind = self.observed.learnt.failure.as_ref().map(|failure| &failure.kind);
        let is_queued = matches!(kind, Some(FailureKind::Queued(_)));
        let waits_in = self.waits_in.clone().filter(|_| is_queued);
        context.accounts.leave_lanes(&owner(&Named::of(&self.observed.object)), waits_in.as_ref());
    }

    fn ticket(&self) -> Ticket {
        Ticket {
            owner: owner(&Named::of(&self.observed.object)),
            class: self.class,
            is_failing: self.observed.status.consecutive_failures.is_some(),
        }
    }
}

/// The owner of a credential's tickets.
pub fn owner(own: &Named) -> Owner {
    Owner { kind: OwnerKind::Credential, namespace: own.namespace.clone(), name: own.name.clone() }
}

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
pub async fn observe(
    context: &Context,
    own: &Named,
    reading: Reading,
) -> Result<Option<Gathered>, PassError> {
    let Some(known) = context.latest(own) else { return Ok(None) };
    let Ok(object) = known.0.as_ref() else { return Ok(None) };
    let object = object.clone();
    let status = object.status_or_default();
    let requested = object.reconcile_requested_at();
    let is_requested = requested.is_some() && requested != status.last_handled_reconcile_at.as_deref();
    let reading = if is_requested { Reading::Everything } else { reading };
    let source::Read { source, secret, version } = source(context, &object, &status, reading).await?;
    let (target, account) = target_now(context, &object, &source).await?;
    let record = record(context, &object, &status, (&target, &source, reading), secret.as_ref()).await?;
    let (retiring, retiring_account) = retiring(context, &object, &status).await?;
    let identity = account.as_ref().map(|account| &account.identity);
    let claimant = identity.and_then(|identity| {
        let claimant = claimant(&context.index.objects(), &object, identity)?;
        Some((claim_key(&object, identity), claimant))
    });
    let claim = claimant
        .as_ref()
        .map_or(Claim::Ours, |(key, ours)| entitled(ours, &rivals(context, &object, &key.account)));
    let namespace_deleted_at =
        if may_have_to_wait(&object) { namespace_deleted_at(context, &own.namespace).await? } else { None };
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
) -> Result<source::Read, PassError> {
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
) -> Result<record::Read, PassError> {
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
) -> Result<(Target, Option<Arc<RemoteAccount>>), PassError> {
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
) -> Result<(Option<Retiring>, Option<Arc<RemoteAccount>>), PassError> {
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
) -> Result<(Target, Option<Arc<RemoteAccount>>), PassError> {
    let Some(name) = wanted else { return Ok((Target::Store, None)) };
    context.accounts.look_up(&context.client, name, object).await.map_err(PassError::ReadAccount)
}

fn claim_key(object: &MicrosoftGraphCredential, account: &RemoteIdentity) -> ClaimKey {
    let (tenant, client) = (object.spec.tenant_id.clone(), object.spec.client_id.clone());
    ClaimKey { account: account.clone(), tenant, client }
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

/// Whether the deletion of the object depends on how long its namespace has been terminating.
fn may_have_to_wait(object: &MicrosoftGraphCredential) -> bool {
    object.is_deleted() && object.spec.deletion_policy() == DeletionPolicy::Delete
}

/// When the deletion of the namespace was asked for. Where the operator may not look, the namespace counts
/// as staying, so that a deletion waits for Woodpecker as long as it takes.
pub(super) async fn namespace_deleted_at(
    context: &Context,
    name: &str,
) -> Result<Option<Timestamp>, PassError> {
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
