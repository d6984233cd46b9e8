//! The encrypted store: the secret is sealed into the object's record, and what the record holds is written down. A
//! write whose answer is lost ends the pass; the next one reads what became of it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ObjectMeta;
use kube::{Resource, ResourceExt};

use super::{Step, tell, tell_orphan};
use crate::controller::context::Context;
use crate::controller::error::PassError;
use crate::controller::observe::{Gathered, judge_record, look_at_record};
use crate::controller::observed::{Content, Observed, Source};
use crate::controller::records;
use crate::controller::status::{self, Written};
use crate::events::Note;
use crate::resources::conditions::whole_second;
use crate::resources::{
    DeletionPolicy, MicrosoftGraphCredential, Ownership, RecordId, Registration, SealedGraphCredential,
    SealedGraphCredentialSpec,
};
use crate::secret::SecretText;
use crate::store::envelope::{Binding, Envelope, fresh_record_id};
use crate::store::keyring::Keyring;
use crate::store::record::{fresh_credential_id, record_name};
use crate::telemetry::metrics::Drift;

/// Seals the secret into the object's record, which is made where there is none, and writes that down.
pub(super) async fn seal(context: &Context, gathered: &mut Gathered) -> Result<Step, PassError> {
    let Some(secret) = gathered.secret.clone() else { return Ok(Step::Done) };
    let observed = &gathered.observed;
    let Source::Usable(source) = &observed.source else { return Ok(Step::Done) };
    let expires_at = Time(whole_second(source.expires_at));
    // Without the keyring nothing is sealed, or nothing would open it after a restart.
    let keyring = context.keyring.read_again().await?;
    let (record_id, credential_id) = ids(context, gathered).await?;
    let envelope = envelope(gathered, &keyring, &record_id, &secret)?;
    let object = &observed.object;
    let spec = SealedGraphCredentialSpec {
        record_id,
        credential_id,
        tenant_id: object.spec.tenant_id.clone(),
        client_id: object.spec.client_id.clone(),
        cloud: gathered.record.as_ref().map_or(object.spec.cloud, |live| live.spec.cloud),
        secret_expires_at: expires_at,
        name: observed.wanted_record_title(),
        envelope,
    };
    let mut record = gathered.record.clone().unwrap_or_else(|| blank(object, &spec));
    record.spec = spec;
    records::seal_for(&mut record, object.metadata.uid.as_deref().unwrap_or_default());
    context.leadership.admit_write()?;
    let written = records::write(&context.client, object.namespace_name(), &record).await?;
    tracing::info!(record = written.name_any(), id = credential_id, "the secret is sealed");
    let is_new = gathered.record.is_none();
    let story = story(observed, !is_new, &written);
    gathered.observed.record = Some(judge_record(&written, object, Some(&secret), &keyring));
    gathered.observed.learnt.sealed = true;
    gathered.record = Some(written);
    let step = note(context, gathered).await?;
    match step {
        Step::ObjectGone => take_back(context, gathered, is_new).await,
        Step::Done | Step::Again => {
            let regarding = gathered.observed.object.object_ref(&());
            match story.reason {
                "Vanished" => context.metrics.credentials.drifted(Drift::Vanished),
                "Resealed" => context.metrics.credentials.drifted(Drift::Changed),
                _ => {}
            }
            context.events.publish(&regarding, &story).await;
            look_at_key(context, gathered, &secret).await?;
        }
    }
    Ok(step)
}

/// Looks whether the key is still primary under which the record was sealed; if not, it is sealed anew.
async fn look_at_key(
    context: &Context,
    gathered: &mut Gathered,
    secret: &SecretText,
) -> Result<(), PassError> {
    let keyring = context.keyring.read_again().await?;
    let object = &gathered.observed.object;
    let judged = gathered.record.as_ref().map(|live| judge_record(live, object, Some(secret), &keyring));
    gathered.observed.record = judged;
    Ok(())
}

/// The ids of the record: those that it has, else a fresh record id and the credential's id by the status, as far as
/// no other record has that.
async fn ids(context: &Context, gathered: &Gathered) -> Result<(RecordId, i64), PassError> {
    if let Some(live) = &gathered.record {
        return Ok((live.spec.record_id.clone(), live.spec.credential_id));
    }
    let observed = &gathered.observed;
    let taken = records::credential_ids(&context.client, observed.object.namespace_name()).await?;
    let known = observed.status.registration.as_ref().map(|registration| registration.credential_id);
    let id = match known.filter(|id| !taken.contains(id)) {
        Some(known) => known,
        None => fresh_credential_id(&taken)?,
    };
    Ok((fresh_record_id()?, id))
}

/// The envelope that the record has, where that holds the very secret under the primary key; else a new one.
fn envelope(
    gathered: &Gathered,
    keyring: &Keyring,
    record_id: &RecordId,
    secret: &SecretText,
) -> Result<String, PassError> {
    let is_kept = gathered
        .observed
        .sealed()
        .is_some_and(|sealed| sealed.content == Content::SourceSecret && sealed.is_under_primary);
    if let (true, Some(live)) = (is_kept, &gathered.record) {
        return Ok(live.spec.envelope.clone());
    }
    let object = &gathered.observed.object;
    let binding = Binding {
        namespace: object.namespace_name(),
        record_id,
        tenant: &object.spec.tenant_id,
        client: &object.spec.client_id,
    };
    Ok(Envelope::seal(keyring, binding, secret)?.to_base64())
}

/// A record that does not exist yet. It has no owner: it goes by the deletion policy.
fn blank(object: &MicrosoftGraphCredential, spec: &SealedGraphCredentialSpec) -> SealedGraphCredential {
    let managed_by = ("app.kubernetes.io/managed-by".to_owned(), "graph-credential-operator".to_owned());
    SealedGraphCredential {
        metadata: ObjectMeta {
            name: Some(record_name(object)),
            namespace: Some(object.namespace_name().to_owned()),
            labels: Some([managed_by].into()),
            ..ObjectMeta::default()
        },
        spec: spec.clone(),
        status: None,
    }
}

/// What to tell of a record that was written.
fn story(observed: &Observed, existed: bool, written: &SealedGraphCredential) -> Note {
    let (name, id) = (written.name_any(), written.spec.credential_id);
    let has_new_secret = observed.usable_source().is_some_and(|source| !source.is_registered);
    let (is_warning, reason, text) = match (&observed.status.registration, existed) {
        (None, false) => {
            (false, "Registered", format!("credential {id} is sealed in SealedGraphCredential {name}"))
        }
        (None, true) => {
            (false, "Adopted", format!("SealedGraphCredential {name} is taken over as credential {id}"))
        }
        (Some(_), false) => (
            true,
            "Vanished",
            format!(
                "SealedGraphCredential {name} was removed by other hands, and is made anew as credential {id}"
            ),
        ),
        (Some(_), true) if has_new_secret => (
            false,
            "Updated",
            format!("SealedGraphCredential {name} holds the new secret for credential {id}"),
        ),
        (Some(_), true) if observed.sealed().is_some_and(|sealed| sealed.content == Content::Unreadable) => (
            true,
            "Resealed",
            format!(
                "SealedGraphCredential {name} did not open, for it was changed or its key is lost, and is sealed anew from the Secret"
            ),
        ),
        (Some(_), true) => {
            (false, "Resealed", format!("SealedGraphCredential {name} is in line with its object again"))
        }
    };
    Note { is_warning, reason, action: "Reconcile", text, ids: String::new() }
}

/// Writes down as our registration what the record holds already: it was left by an earlier object or a pass that was
/// cut off, or restored from a backup.
pub(super) async fn take_over(context: &Context, gathered: &mut Gathered) -> Result<Step, PassError> {
    let is_new = gathered.observed.status.registration.is_none();
    let step = note(context, gathered).await?;
    let observed = &gathered.observed;
    if let (true, Step::Done, Some(sealed)) = (is_new, step, observed.sealed()) {
        let name = record_name(&observed.object);
        let text =
            format!("SealedGraphCredential {name} is taken over as credential {}", sealed.credential_id);
        tell(context, observed, "Adopted", text).await;
    }
    Ok(step)
}

/// Writes down as our registration what the record holds.
async fn note(context: &Context, gathered: &mut Gathered) -> Result<Step, PassError> {
    let observed = &mut gathered.observed;
    let Some(sealed) = observed.sealed().cloned() else { return Ok(Step::Done) };
    let Source::Usable(source) = &mut observed.source else { return Ok(Step::Done) };
    let is_the_same = source.is_registered;
    source.is_registered = true;
    let fingerprint = source.fingerprint.clone();
    let before = observed.status.registration.as_ref().filter(|_| is_the_same);
    let registration = Registration {
        account: None,
        base_url: None,
        company_id: None,
        record: Some(record_name(&observed.object)),
        credential_id: sealed.credential_id,
        ownership: Ownership::Created,
        fingerprint,
        name: sealed.name,
        expires_at: Time(sealed.expires_at),
        registered_at: before
            .map_or_else(|| Time(whole_second(Timestamp::now())), |before| before.registered_at.clone()),
        token: None,
        change_sent_at: None,
    };
    let mut fact = observed.status.clone();
    fact.credential_id = Some(registration.credential_id);
    fact.expires_at = Some(registration.expires_at.clone());
    fact.registration = Some(registration);
    fact.candidate = None;
    if fact == observed.status {
        return Ok(Step::Done);
    }
    match status::write_fact(context, observed, fact).await? {
        Written::Yes => Ok(Step::Done),
        Written::ObjectGone => Ok(Step::ObjectGone),
    }
}

/// Removes the object's record, as it was read at the beginning of the pass. One of another app is left.
pub(super) async fn delete(context: &Context, gathered: &mut Gathered) -> Result<Step, PassError> {
    context.leadership.admit_write()?;
    if gathered.observed.record.is_none() {
        // Nothing counts as removed on the word of a failure; what is found is decided upon anew.
        let (record, live) = look_at_record(context, &gathered.observed.object, None).await?;
        (gathered.observed.record, gathered.record) = (Some(record), live);
        return Ok(Step::Done);
    }
    let observed = &mut gathered.observed;
    if let (Some(live), true) = (&gathered.record, observed.sealed().is_some()) {
        records::remove(&context.client, observed.object.namespace_name(), &live.metadata).await?;
        tracing::info!(record = live.name_any(), id = live.spec.credential_id, "the record is removed");
    }
    observed.learnt.removed = true;
    Ok(Step::Done)
}

/// Removes the record that was made just now for an object that is gone by now, where its policy says so; what stays is
/// named.
async fn take_back(context: &Context, gathered: &Gathered, is_new: bool) {
    let object = &gathered.observed.object;
    let Some(live) = &gathered.record else { return };
    if object.spec.deletion_policy() == DeletionPolicy::Retain {
        tracing::info!(
            record = live.name_any(),
            "the object was deleted while it was sealed; its record stays"
        );
        return;
    }
    let may = is_new && context.leadership.admit_write().is_ok();
    let removed =
        may && records::remove(&context.client, object.namespace_name(), &live.metadata).await.is_ok();
    if removed {
        tracing::warn!(
            record = live.name_any(),
            "the object was deleted while its secret was sealed; the record was removed again"
        );
        return;
    }
    tracing::error!(
        record = live.name_any(),
        cause = "object_gone",
        "a record is left in the store: its object was deleted while it was sealed"
    );
    context.metrics.credentials.orphaned("object_gone");
    let name = live.name_any();
    let text = format!(
        "SealedGraphCredential {name} is left, for this object was deleted while its secret was sealed: remove it with kubectl delete sgc {name}"
    );
    tell_orphan(context, &gathered.observed, text).await;
}
