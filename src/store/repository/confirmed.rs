//! Writes of secrets that exist nowhere else, as those that arrive over HTTP: each is confirmed to be under a key of the
//! keyring, or undone.

use kube::ResourceExt;

use super::{RecordError, Repository, TRIES, conflict_backoff, encrypt_into, key_of, remove};
use crate::api::SealedGraphCredential;
use crate::core::error_chain::chain;
use crate::store::envelope::{AssociatedData, Envelope, Secrets};

// === impl Repository ===

impl Repository {
    /// Creates a record with a secret that exists nowhere else. If the record may never decrypt, it is deleted again.
    pub async fn create(
        &self,
        record: SealedGraphCredential,
        secrets: impl Into<Secrets<'_>>,
    ) -> Result<SealedGraphCredential, RecordError> {
        self.save(None, record, secrets.into()).await
    }

    /// Replaces the version of a record that was read, with a secret that exists nowhere else. If the result may never
    /// decrypt, the record gets its earlier content again.
    pub async fn replace(
        &self,
        record: &SealedGraphCredential,
        changed: SealedGraphCredential,
        secrets: impl Into<Secrets<'_>>,
    ) -> Result<SealedGraphCredential, RecordError> {
        self.save(Some(record), changed, secrets.into()).await
    }

    /// As [`Self::replace`], but with another name or expiry only: what the record contains is encrypted again, because
    /// it is bound to both.
    pub async fn replace_fields(
        &self,
        record: &SealedGraphCredential,
        changed: SealedGraphCredential,
    ) -> Result<SealedGraphCredential, RecordError> {
        let envelope = Envelope::from_base64(&record.spec.envelope)?;
        let keyring = self.keyring.with_key(envelope.key_id()).await?;
        let (current, pending) = envelope.open_all(&keyring, AssociatedData::of(record))?;
        self.save(Some(record), changed, Secrets { current: &current, pending: pending.as_ref() }).await
    }

    /// A read of the keyring that began after the write confirms that the key is primary.
    async fn save(
        &self,
        before: Option<&SealedGraphCredential>,
        changed: SealedGraphCredential,
        secrets: Secrets<'_>,
    ) -> Result<SealedGraphCredential, RecordError> {
        let mut written = self.seal(changed, secrets).await?;
        let confirmed = self.confirm(&mut written, secrets).await;
        if confirmed.is_err() {
            self.roll_back(before, &written).await;
        }
        confirmed.map(|()| written)
    }

    /// Ensures that the record is encrypted with the primary key. Fails only if the record may never decrypt: otherwise
    /// it stays saved, and a later sweep re-encrypts it.
    async fn confirm(
        &self,
        record: &mut SealedGraphCredential,
        secrets: Secrets<'_>,
    ) -> Result<(), RecordError> {
        let error = match self.ensure_primary_key(record, secrets).await {
            Err(RecordError::Keyring(error)) if error.is_lasting() => return Err(error.into()),
            Err(error) => error,
            confirmed => return confirmed,
        };
        let key = key_of(record)?;
        if !self.keyring.get().keys().any(|known| known.id == key) {
            return Err(error);
        }
        tracing::warn!(
            record = record.name_any(),
            error = chain(&error),
            "it is unknown whether a record is encrypted with the primary key"
        );
        Ok(())
    }

    /// Encrypts again until the record is under the primary key. `record` is always what was written last.
    async fn ensure_primary_key(
        &self,
        record: &mut SealedGraphCredential,
        secrets: Secrets<'_>,
    ) -> Result<(), RecordError> {
        for attempt in 0..TRIES {
            let key = key_of(record)?;
            let keyring = self.keyring.reread_after_encryption(key).await?;
            if keyring.primary() == key {
                return Ok(());
            }
            let mut changed = record.clone();
            encrypt_into(&mut changed, &keyring, secrets)?;
            match self.write(&changed).await {
                Ok(written) => *record = written,
                Err(RecordError::Conflict) => {
                    conflict_backoff(attempt).await;
                    match self.same(record).await? {
                        Some(found) if found.spec.envelope == record.spec.envelope => *record = found,
                        // It was saved, and since then deleted or given another envelope, whose key its writer
                        // confirms.
                        Some(_) | None => return Ok(()),
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Err(RecordError::Conflict)
    }

    /// Undoes the write of a record that cannot be decrypted, unless it was changed since.
    async fn roll_back(&self, before: Option<&SealedGraphCredential>, record: &SealedGraphCredential) {
        let namespace = record.namespace().unwrap_or_default();
        let undone = match (self.same(record).await, before) {
            (Ok(Some(found)), _) if found.spec.envelope != record.spec.envelope => return,
            (Ok(Some(found)), None) => remove(&self.client, &namespace, &found.metadata).await,
            (Ok(Some(found)), Some(before)) => {
                let restored = SealedGraphCredential { spec: before.spec.clone(), ..found };
                self.write(&restored).await.map(|_| ())
            }
            (Ok(None), _) => return,
            (Err(error), _) => Err(error),
        };
        let name = record.name_any();
        match (undone, before) {
            (Ok(()), None) => {
                tracing::warn!(record = name, "deleted a new record that cannot be decrypted");
            }
            (Ok(()), Some(_)) => {
                tracing::warn!(record = name, "undid a change after which a record could not be decrypted");
            }
            (Err(error), None) => tracing::error!(
                record = name,
                error = chain(&error),
                "failed to delete a new record that cannot be decrypted: delete it manually"
            ),
            (Err(error), Some(_)) => tracing::error!(
                record = name,
                error = chain(&error),
                "failed to undo a change after which a record cannot be decrypted: send its client secret again"
            ),
        }
    }
}
