//! How a secret gets into a record and stays readable: the keyring is read before it is sealed, and again after the record
//! is written. What was sealed under a key that is not primary any more is sealed anew, or whoever counts the records under
//! an earlier key would miss it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::ObjectMeta;
use kube::{Client, ResourceExt};
use thiserror::Error;

use super::care::{Proof, is_seen, next_status};
use super::listings::Listings;
use super::request::{Create, NewSecret, Update};
use crate::resources::{FIELD_MANAGER, SealedGraphCredential, SealedGraphCredentialSpec};
use crate::secret::SecretText;
use crate::store::census::GuardedRecord;
use crate::store::envelope::{Binding, Envelope, MalformedEnvelope, SealError, fresh_record_id};
use crate::store::keyring::{Keyring, KeyringError, LiveKeyring};
use crate::store::record::{fresh_credential_id, is_of_rest, is_rest_record_name, rest_record_name};
use crate::store::records::{self, RecordError};
use crate::telemetry::logs::chain;

/// Credentials of one account. Each listing holds all of them in memory, and each POST makes one.
pub(super) const MOST_CREDENTIALS: usize = 1000;

/// How often a write is tried anew that another one got ahead of.
pub(super) const TRIES: usize = 8;

/// Writes the records of one account.
pub(super) struct Saving<'a> {
    /// Client of the Kubernetes API.
    pub(super) client: &'a Client,
    /// What secrets are sealed with.
    pub(super) keyring: &'a Arc<LiveKeyring>,
    /// Whose turn it is to list.
    pub(super) listings: &'a Listings,
    /// The account's namespace.
    pub(super) namespace: &'a str,
}

/// Why a credential was not saved.
#[derive(Debug, Error)]
pub(super) enum SaveError {
    /// The account has as many credentials as it may have.
    #[error("the account has {MOST_CREDENTIALS} credentials, and may have no more")]
    Full,
    /// It was removed meanwhile.
    #[error("the credential was removed meanwhile")]
    Gone,
    /// The keyring cannot be read, and without it nothing is sealed.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    /// The secret cannot be sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The record cannot be read or written.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The record holds no envelope.
    #[error("the record's envelope is malformed")]
    Malformed(#[from] MalformedEnvelope),
    /// The system gives no randomness.
    #[error("failed to draw random bytes")]
    Random(#[from] getrandom::Error),
}

/// A short pause of random length, longer the more often it was in vain, so that several writers do not meet again and
/// again. All of them together take two seconds at most.
pub(super) async fn let_others_by(attempt: usize) {
    let longest = 20_u64 << attempt.min(5);
    // Without randomness it is the longest.
    let pause = getrandom::u64().map_or(longest, |number| number % (longest + 1));
    tokio::time::sleep(Duration::from_millis(pause)).await;
}

fn seal(record: &mut SealedGraphCredential, keyring: &Keyring, secret: &SecretText) -> Result<(), SaveError> {
    let envelope = Envelope::seal(keyring, Binding::of(record), secret)?;
    record.spec.envelope = envelope.to_base64();
    Ok(())
}

fn is_of_rest_by_name(record: &GuardedRecord) -> bool {
    let name = match &record.0 {
        Ok(record) => record.metadata.name.as_deref(),
        Err(invalid) => invalid.metadata.name.as_deref(),
    };
    name.is_some_and(is_rest_record_name)
}

// === impl Saving ===

impl Saving<'_> {
    /// Makes a record under an id that no record of the namespace has.
    pub(super) async fn create(&self, create: &Create) -> Result<SealedGraphCredential, SaveError> {
        let keyring = self.keyring.read_again().await?;
        let turn = self.listings.take(self.namespace).await;
        let records = records::list(self.client, self.namespace).await?;
        drop(turn);
        if records.iter().filter(|record| is_of_rest_by_name(record)).count() >= MOST_CREDENTIALS {
            return Err(SaveError::Full);
        }
        let mut taken = records::ids_of(&records);
        drop(records);
        for attempt in 0..TRIES {
            let mut record = self.blank(create, &taken)?;
            seal(&mut record, &keyring, &create.secret.text)?;
            match self.write(&record).await {
                Ok(written) => {
                    let settled = match self.settle(written.clone(), &create.secret.text).await {
                        Ok(settled) => settled,
                        Err(error) => {
                            self.take_back(&written).await;
                            return Err(error);
                        }
                    };
                    return Ok(self.note(settled, true).await);
                }
                // Another replica has drawn the same id.
                Err(RecordError::Conflict) => {
                    taken.insert(record.spec.credential_id);
                    let_others_by(attempt).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(RecordError::Conflict.into())
    }

    /// Changes the record, which is read again where another change got ahead.
    pub(super) async fn update(
        &self,
        mut record: SealedGraphCredential,
        update: &Update,
    ) -> Result<SealedGraphCredential, SaveError> {
        let secret = match &update.secret {
            Some(secret) => Some((self.keyring.read_again().await?, secret)),
            None => None,
        };
        for attempt in 0..TRIES {
            let mut changed = record.clone();
            if let Some((keyring, NewSecret { text, expires_at })) = &secret {
                seal(&mut changed, keyring, text)?;
                changed.spec.secret_expires_at = Time(*expires_at);
            }
            if let Some(name) = &update.name {
                changed.spec.name.clone_from(name);
            }
            match self.write(&changed).await {
                Ok(written) => {
                    return Ok(match &secret {
                        Some((_, secret)) => self.note(self.settle(written, &secret.text).await?, true).await,
                        None if is_seen(&record) => self.note(written, false).await,
                        // What other hands have put there is not proved by a new name.
                        None => written,
                    });
                }
                Err(RecordError::Conflict) => {
                    let_others_by(attempt).await;
                    record = self.same(&record).await?.ok_or(SaveError::Gone)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(RecordError::Conflict.into())
    }

    /// A record of the request without its secret.
    fn blank(&self, create: &Create, taken: &BTreeSet<i64>) -> Result<SealedGraphCredential, SaveError> {
        let credential_id = fresh_credential_id(taken)?;
        let managed_by = ("app.kubernetes.io/managed-by".to_owned(), FIELD_MANAGER.to_owned());
        Ok(SealedGraphCredential {
            metadata: ObjectMeta {
                name: Some(rest_record_name(credential_id)),
                namespace: Some(self.namespace.to_owned()),
                labels: Some([managed_by].into()),
                ..ObjectMeta::default()
            },
            spec: SealedGraphCredentialSpec {
                record_id: fresh_record_id()?,
                credential_id,
                tenant_id: create.tenant.clone(),
                client_id: create.client.clone(),
                cloud: None,
                secret_expires_at: Time(create.secret.expires_at),
                name: create.name.clone().unwrap_or_else(|| format!("Microsoft Graph {}", create.client)),
                envelope: String::new(),
            },
            status: None,
        })
    }

    /// Writes a record. Where the answer is lost, what is there tells what became of it.
    async fn write(&self, record: &SealedGraphCredential) -> Result<SealedGraphCredential, RecordError> {
        let error = match records::write(self.client, self.namespace, record).await {
            Err(error @ RecordError::Write { .. }) => error,
            ended => return ended,
        };
        tracing::warn!(record = record.name_any(), error = chain(&error), "looking what became of a write");
        match records::read(self.client, self.namespace, &record.name_any()).await {
            Ok(Some(found)) if found.spec == record.spec => Ok(found),
            _ => Err(error),
        }
    }

    /// The record as it is now, if it is still the same one.
    async fn same(
        &self,
        record: &SealedGraphCredential,
    ) -> Result<Option<SealedGraphCredential>, RecordError> {
        let found = records::read(self.client, self.namespace, &record.name_any()).await?;
        Ok(found.filter(|found| is_of_rest(found) && found.spec.record_id == record.spec.record_id))
    }

    /// Sees to it that the record is sealed under the key that is primary now. Fails only where nothing may open it: what
    /// can be opened stays saved, and a later look at all records seals it anew.
    async fn settle(
        &self,
        record: SealedGraphCredential,
        secret: &SecretText,
    ) -> Result<SealedGraphCredential, SaveError> {
        let written = record.clone();
        let error = match self.follow(record, secret).await {
            Err(SaveError::Keyring(error)) if error.is_lasting() => return Err(error.into()),
            Err(error) => error,
            settled => return settled,
        };
        let key = Envelope::from_base64(&written.spec.envelope)?.key_id();
        if !self.keyring.current().keys().any(|known| known.id == key) {
            return Err(error);
        }
        tracing::warn!(
            record = written.name_any(),
            error = chain(&error),
            "it cannot be seen whether a record is sealed under the primary key"
        );
        Ok(written)
    }

    /// Seals the secret under the primary key until the record is, whatever became of the key before it.
    async fn follow(
        &self,
        mut record: SealedGraphCredential,
        secret: &SecretText,
    ) -> Result<SealedGraphCredential, SaveError> {
        for attempt in 0..TRIES {
            let keyring = self.keyring.read_again().await?;
            if Envelope::from_base64(&record.spec.envelope)?.key_id() == keyring.primary() {
                return Ok(record);
            }
            let mut changed = record.clone();
            seal(&mut changed, &keyring, secret)?;
            match self.write(&changed).await {
                Ok(written) => record = written,
                Err(RecordError::Conflict) => {
                    let_others_by(attempt).await;
                    match self.same(&record).await? {
                        Some(found) if found.spec.envelope == record.spec.envelope => record = found,
                        // Whoever put another envelope there sees to its key.
                        Some(found) => return Ok(found),
                        // It was saved, and removed since.
                        None => return Ok(record),
                    }
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(RecordError::Conflict.into())
    }

    /// Removes a record that was just made and that nothing opens.
    async fn take_back(&self, record: &SealedGraphCredential) {
        let removed = match self.same(record).await {
            Ok(Some(found)) => records::remove(self.client, self.namespace, &found.metadata).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        match removed {
            Ok(()) => {
                tracing::warn!(record = record.name_any(), "a record that nothing opens is removed again");
            }
            Err(error) => tracing::error!(
                record = record.name_any(),
                error = chain(&error),
                "a record is left that nothing opens: delete it"
            ),
        }
    }

    /// Says on the status what is known of the record now. Where that does not succeed, whoever looks after the records
    /// finds out by itself.
    async fn note(&self, record: SealedGraphCredential, is_proved: bool) -> SealedGraphCredential {
        let proof = is_proved.then_some(Proof::Issued);
        let status = next_status(&record, proof.as_ref(), Timestamp::now());
        let noted = SealedGraphCredential { status: Some(status), ..record };
        if let Err(error) = records::write_status(self.client, &noted).await {
            tracing::info!(record = noted.name_any(), error = chain(&error), "a status is not written yet");
        }
        noted
    }
}
