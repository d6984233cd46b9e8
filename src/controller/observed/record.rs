//! The record of the encrypted store that belongs to an object, as values: what it holds, and what it should.

use jiff::Timestamp;

use super::{Observed, UsableSource};
use crate::resources::MAX_NAME_LENGTH;
use crate::resources::conditions::whole_second;

/// The record that stands under the name of the object's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    Missing,
    /// It was not looked for: the object has registered nothing, so mostly there is none.
    NotRead,
    /// It is for another tenant, client or cloud.
    Foreign,
    /// It is for the object's app.
    Ours(SealedRecord),
}

/// A record for the object's app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealedRecord {
    pub credential_id: i64,
    pub name: String,
    /// When its secret expires, by its own word.
    pub expires_at: Timestamp,
    /// What its envelope holds.
    pub content: Content,
    /// Whether it is sealed under the keyring's primary key.
    pub is_under_primary: bool,
    /// Whether it was sealed for this very object rather than for an earlier one of its name.
    pub is_sealed_for_object: bool,
}

/// What an envelope holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// The secret of the source.
    SourceSecret,
    /// Another secret, or there is no source to compare it with.
    AnotherSecret,
    /// It does not open: it was changed, or its key is lost.
    Unreadable,
}

// === impl SealedRecord ===

impl SealedRecord {
    /// Whether nothing about it is to be changed for that source and name.
    pub fn is_in_line(&self, source: &UsableSource, name: &str) -> bool {
        self.content == Content::SourceSecret
            && self.expires_at == whole_second(source.expires_at)
            && self.is_under_primary
            && self.name == name
    }
}

// === impl Observed ===

impl Observed {
    /// The record, where there is one for the object's app.
    pub fn sealed(&self) -> Option<&SealedRecord> {
        let Some(Record::Ours(sealed)) = &self.record else { return None };
        Some(sealed)
    }

    /// The name that the record's credential should have.
    pub fn wanted_record_title(&self) -> String {
        self.wanted_name().chars().take(MAX_NAME_LENGTH).collect()
    }

    /// Whether a record was sealed for this object that its status does not know of: the program ended in between.
    pub fn has_unbooked_record(&self) -> bool {
        let is_ours = self.sealed().is_some_and(|sealed| sealed.is_sealed_for_object);
        is_ours && self.status.registration.is_none()
    }

    /// Whether something was sealed that is gone or does not open any more.
    pub fn has_lost_record(&self) -> bool {
        let is_lost = match &self.record {
            Some(Record::Missing | Record::Foreign) => true,
            Some(Record::Ours(sealed)) => sealed.content == Content::Unreadable,
            Some(Record::NotRead) | None => false,
        };
        let is_sealed = self.status.registration.as_ref().is_some_and(|it| it.record.is_some());
        is_sealed && is_lost && !self.learnt.removed
    }
}
