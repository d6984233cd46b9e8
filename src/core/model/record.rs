//! The observed `SealedGraphCredential` of an object.

use jiff::Timestamp;

use crate::api::MAX_NAME_LENGTH;
use crate::api::conditions::whole_second;
use crate::core::model::{Observed, UsableSource};

/// The record with the name that the object's record has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Missing,
    /// Not read: the object has registered nothing, so usually there is none.
    NotRead,
    /// A record for another tenant, client or cloud.
    ForOtherApp {
        /// Name of the record.
        name: String,
    },
    /// A record for the object's app.
    ForApp(SealedRecord),
}

/// A record for the object's app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedRecord {
    pub credential_id: i64,
    pub name: String,
    /// The expiry in the record.
    pub expires_at: Timestamp,
    pub content: Content,
    /// Whether it is encrypted under the keyring's primary key, in the current format.
    pub is_under_primary: bool,
    /// Whether it was made for this object and not for an earlier one of the same name.
    pub is_for_object: bool,
}

/// The content of an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The secret of the source.
    SourceSecret,
    /// Another secret, or there is no source to compare with.
    AnotherSecret,
    /// It cannot be decrypted: it was changed, or its key is lost.
    Unreadable,
}

// === impl SealedRecord ===

impl SealedRecord {
    /// Whether it needs no change for that source and name.
    pub fn is_up_to_date(&self, source: &UsableSource, name: &str) -> bool {
        self.content == Content::SourceSecret
            && Some(self.expires_at) == source.expires_at.map(whole_second)
            && self.is_under_primary
            && self.name == name
    }
}

// === impl Observed ===

impl Observed {
    /// The record, if there is one for the object's app.
    pub fn sealed_record(&self) -> Option<&SealedRecord> {
        let Some(Record::ForApp(sealed)) = &self.record else { return None };
        Some(sealed)
    }

    /// The name that the record's credential should have.
    pub fn desired_record_name(&self) -> String {
        self.desired_name().chars().take(MAX_NAME_LENGTH).collect()
    }

    /// Whether a record was made for this object that its status lacks, because the program ended in between.
    pub fn has_unpersisted_record(&self) -> bool {
        let is_for_object = self.sealed_record().is_some_and(|sealed| sealed.is_for_object);
        is_for_object && self.status.registration.is_none()
    }

    /// Whether the registered record is deleted or can no longer be decrypted.
    pub fn has_lost_record(&self) -> bool {
        let is_lost = match &self.record {
            Some(Record::Missing | Record::ForOtherApp { .. }) => true,
            Some(Record::ForApp(sealed)) => sealed.content == Content::Unreadable,
            Some(Record::NotRead) | None => false,
        };
        let is_in_store = self.status.registration.as_ref().is_some_and(|it| it.record.is_some());
        is_in_store && is_lost && !self.results.is_deletion_done
    }
}
