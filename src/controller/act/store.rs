//! The encrypted store: the secret is sealed into the object's record, and the status says what it holds. A write whose
//! answer is lost ends the reconcile; the next one reads what became of it.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;

use super::{Step, note, tell_orphan};
use crate::controller::context::Context;
use crate::controller::error::{PassError, Result};
use crate::controller::observe::{Created, Gathered, judge_record, look_at_record, record_version};
use crate::controller::observed::{Content, Observed, Record, Source};
use crate::controller::records;
use crate::controller::status;
use crate::events::Note;
use crate::resources::conditions::whole_second;
use crate::resources::{Ownership, Registration, SealedGraphCredential, SealedGraphCredentialSpec};
use crate::secret::SecretText;
use crate::store::envelope::{Binding, fresh_record_id};
use crate::store::record::{self, fresh_credential_id, record_name};
use crate::store::repository::Change;
use crate::telemetry::metrics::Drift;

/// Seals the secret into the object's record: into a new one where there is none, else into the one that was read or that the
/// status remembers. The status says so at the end of the reconcile.
pub(super) async fn seal(context: &Context, gathered: &mut Gathered) -> Result<Step> {
    let Some(secret) = gathered.secret.clone() else { return Ok(Step::Done) };
    let Source::Usable(source) = &gathered.observed.source else { return Ok(Step::Done) };
    let expires_at = Time(whole_second(source.expires_at));
    let is_new = matches!(gathered.observed.record, Some(Record::Missing | Record::NotRead));
    let written = if is_new || gathered.record.is_some() {
        write(context, gathered, &secret, expires_at).await
    } else {
        change(context, gathered, &secret, expires_at).await
    };
    let written = match written {
        Ok(written) => written,
        Err(PassError::Conflict) => {
            // It is there already, or is not what it was: what is found is decided upon.
            let (record, live) = look_at_record(context, &gathered.observed.object, Some(&secret)).await?;
            gathered.observed.record_version = live.as_ref().and_then(record_version);
            (gathered.observed.record, gathered.record) = (Some(record), live);
            return Ok(Step::Done);
        }
        Err(error) => return Err(error),
    };
    context.records.note_written(&written);
    let story = story(&gathered.observed, !is_new, &written);
    let (record, id) = (written.name_any(), written.spec.credential_id);
    if story.is_warning {
        tracing::warn!(
            record,
            id,
            reason = story.reason,
            "the record is sealed again: others changed or removed it"
        );
    } else {
        tracing::debug!(record, id, "the secret is sealed");
    }
    match story.reason {
        "Vanished" => context.metrics.credentials.drifted(Drift::Vanished),
        "Resealed" => context.metrics.credentials.drifted(Drift::Changed),
        _ => {}
    }
    let object = &gathered.observed.object;
    gathered.observed.record =
        Some(judge_record(&written, object, Some(&secret), &context.keyring.current()));
    gathered.observed.record_version = record_version(&written);
    gathered.observed.learnt.sealed = true;
    gathered.observed.learnt.news.push(story);
    gathered.record = Some(written);
    gathered.created = is_new.then_some(Created::Record);
    take_in(&mut gathered.observed);
    Ok(Step::Done)
}

/// Replaces the record that was read, or creates it. Its name makes it unique; the ids in it are drawn at random.
async fn write(
    context: &Context,
    gathered: &Gathered,
    secret: &SecretText,
    expires_at: Time,
) -> Result<SealedGraphCredential> {
    let observed = &gathered.observed;
    let object = &observed.object;
    let mut record = match &gathered.record {
        Some(live) => live.clone(),
        None => blank(observed, expires_at.clone())?,
    };
    record.spec.secret_expires_at = expires_at;
    record.spec.name = observed.wanted_record_title();
    records::seal_for(&mut record, object.metadata.uid.as_deref().unwrap_or_default());
    let is_sealed = observed
        .sealed()
        .is_some_and(|sealed| sealed.content == Content::SourceSecret && sealed.is_under_primary);
    let repository = context.repository();
    Ok(if is_sealed { repository.write(&record).await? } else { repository.seal(record, secret).await? })
}

/// A record that does not exist yet. It goes by the deletion policy.
fn blank(observed: &Observed, expires_at: Time) -> Result<SealedGraphCredential> {
    let object = &observed.object;
    let known = observed.status.registration.as_ref().map(|registration| registration.credential_id);
    let spec = SealedGraphCredentialSpec {
        record_id: fresh_record_id()?,
        credential_id: known.map_or_else(fresh_credential_id, Ok)?,
        tenant_id: object.spec.tenant_id.clone(),
        client_id: object.spec.client_id.clone(),
        cloud: object.spec.cloud,
        secret_expires_at: expires_at,
        name: observed.wanted_record_title(),
        envelope: String::new(),
    };
    Ok(record::new(object.namespace_name(), record_name(object), spec))
}

/// Changes the record that the status remembers, without reading it: the API server refuses where it is another one.
async fn change(
    context: &Context,
    gathered: &Gathered,
    secret: &SecretText,
    expires_at: Time,
) -> Result<SealedGraphCredential> {
    let observed = &gathered.observed;
    let Some(recorded) = &observed.status.observed_record else { return Err(PassError::Conflict) };
    // What is no id is read instead.
    let Ok(record_id) = recorded.record_id.parse() else { return Err(PassError::Conflict) };
    let object = &observed.object;
    let binding = Binding {
        namespace: object.namespace_name(),
        record_id: &record_id,
        tenant: &object.spec.tenant_id,
        client: &object.spec.client_id,
    };
    let change = Change {
        uid: &recorded.uid,
        generation: recorded.generation,
        name: &observed.wanted_record_title(),
        expires_at,
    };
    let is_sealed = observed.sealed().is_some_and(|sealed| sealed.content == Content::SourceSecret);
    let secret = Some(secret).filter(|_| !is_sealed);
    Ok(context.repository().change(&record_name(object), binding, change, secret).await?)
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

/// Takes into the status as our registration what the record holds already: it was left by an earlier object or a reconcile
/// that was cut off, or restored from a backup.
pub(super) fn take_over(gathered: &mut Gathered) -> Step {
    let observed = &mut gathered.observed;
    if let (None, Some(sealed)) = (&observed.status.registration, observed.sealed()) {
        let name = record_name(&observed.object);
        let text =
            format!("SealedGraphCredential {name} is taken over as credential {}", sealed.credential_id);
        note(observed, "Adopted", text);
    }
    take_in(observed);
    Step::Done
}

/// Takes into the status as our registration what the record holds.
fn take_in(observed: &mut Observed) {
    let Some(sealed) = observed.sealed().cloned() else { return };
    let Source::Usable(source) = &mut observed.source else { return };
    let is_the_same = source.is_registered;
    source.is_registered = true;
    let fingerprint = source.fingerprint.clone();
    let before = observed.status.registration.take();
    let registered_at = before
        .as_ref()
        .filter(|_| is_the_same)
        .map_or_else(|| Time(whole_second(Timestamp::now())), |before| before.registered_at.clone());
    let status = &mut observed.status;
    status.credential_id = Some(sealed.credential_id);
    status.expires_at = Some(Time(sealed.expires_at));
    status.registration = Some(Registration {
        account: None,
        base_url: None,
        company_id: None,
        record: Some(record_name(&observed.object)),
        credential_id: sealed.credential_id,
        ownership: Ownership::Created,
        fingerprint,
        name: sealed.name,
        expires_at: Time(sealed.expires_at),
        registered_at,
        token: None,
        change_sent_at: None,
        unknown: before.map(|before| before.unknown).unwrap_or_default(),
    });
    status.candidate = None;
    observed.is_unrecorded |= observed.status != observed.written;
}

/// Removes the object's record, as it was read at the beginning of the pass. One of another app is left.
pub(super) async fn delete(context: &Context, gathered: &mut Gathered) -> Result<Step> {
    context.leadership.admit_write()?;
    if gathered.observed.record.is_none() {
        // Nothing counts as removed on the word of a failure; what is found is decided upon anew.
        let (record, live) = look_at_record(context, &gathered.observed.object, None).await?;
        (gathered.observed.record, gathered.record) = (Some(record), live);
        return Ok(Step::Done);
    }
    let observed = &mut gathered.observed;
    if let (Some(live), true) = (&gathered.record, observed.sealed().is_some()) {
        status::confirm(context, observed).await?;
        records::remove(&context.client, observed.object.namespace_name(), &live.metadata).await?;
        tracing::info!(record = live.name_any(), id = live.spec.credential_id, "the record is removed");
    }
    observed.learnt.removed = true;
    Ok(Step::Done)
}

/// Removes the record that was created just now for an object that is gone by now, whatever its policy: nothing else says
/// whose it is. What stays is named.
pub(super) async fn take_back(context: &Context, gathered: &Gathered) {
    let object = &gathered.observed.object;
    let Some(live) = &gathered.record else { return };
    let may = context.leadership.admit_write().is_ok() && status::is_gone(context, &gathered.observed).await;
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
