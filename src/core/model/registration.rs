//! A registration in the status of a credential.

use jiff::Timestamp;

use crate::api::conditions::whole_second;
use crate::api::timestamp::Time;
use crate::api::{
    AccountLocation, DeletionPolicy, MicrosoftGraphCredentialStatus, Ownership, Registration, UnknownFields,
};
use crate::core::model::{Observed, SealedRecord};

/// Maximum number of previous registrations that are still to be deleted.
pub const MAX_PREVIOUS_REGISTRATIONS: usize = 4;

/// The status with a new registration.
pub struct Recorded {
    pub status: MicrosoftGraphCredentialStatus,
    /// The one before, if it is left at its account.
    pub abandoned: Option<Registration>,
}

/// A new registration at that location, with an unknown secret.
pub fn at(
    location: AccountLocation,
    id: i64,
    name: String,
    expires_at: Timestamp,
    now: Timestamp,
) -> Registration {
    Registration {
        account: Some(location.account),
        base_url: Some(location.base_url),
        company_id: location.company_id,
        record: None,
        credential_id: id,
        ownership: Ownership::Created,
        fingerprint: Registration::UNKNOWN.into(),
        name,
        expires_at: Time(whole_second(expires_at)),
        registration_time: Time(whole_second(now)),
        idempotency_token: None,
        update_sent_time: None,
        unknown: UnknownFields::default(),
    }
}

/// The registration of what the record holds, with an unknown secret; since now, unless it is known since when.
pub fn in_record(sealed: &SealedRecord, record: String, since: Option<Time>, now: Timestamp) -> Registration {
    Registration {
        account: None,
        base_url: None,
        company_id: None,
        record: Some(record),
        credential_id: sealed.credential_id,
        ownership: Ownership::Created,
        fingerprint: Registration::UNKNOWN.into(),
        name: sealed.name.clone(),
        expires_at: Time(sealed.expires_at),
        registration_time: since.unwrap_or_else(|| Time(whole_second(now))),
        idempotency_token: None,
        update_sent_time: None,
        unknown: UnknownFields::default(),
    }
}

/// The status with a new registration. The one before, at another account, is to be deleted if the object may delete it
/// and the policy is Delete; otherwise it is left there. If both are the same credential (the
/// account was renamed, or the object was re-created), its ownership is kept.
pub fn record(observed: &Observed, mut registration: Registration) -> Recorded {
    let mut fact = observed.status.clone();
    let is_it = |earlier: &Registration| {
        earlier.credential_id == registration.credential_id && earlier.base_url == registration.base_url
    };
    let known =
        fact.registration.iter().chain(&fact.previous_registrations).find(|earlier| is_it(earlier)).cloned();
    fact.previous_registrations.retain(|earlier| !is_it(earlier));
    let earlier = fact.registration.take().filter(|earlier| !is_it(earlier));
    if let Some(known) = known {
        (registration.ownership, registration.idempotency_token) = (known.ownership, known.idempotency_token);
        registration.update_sent_time = known.update_sent_time;
    }
    let mut abandoned = None;
    if let Some(earlier) = earlier {
        let is_removed = observed.object.spec.deletion_policy() == DeletionPolicy::Delete;
        if is_removed
            && observed.may_delete(&earlier)
            && fact.previous_registrations.len() < MAX_PREVIOUS_REGISTRATIONS
        {
            fact.previous_registrations.push(earlier);
        } else {
            abandoned = Some(earlier);
        }
    }
    fact.credential_id = Some(registration.credential_id);
    fact.expires_at = Some(registration.expires_at.clone());
    fact.registration = Some(registration);
    fact.pending_create = None;
    Recorded { status: fact, abandoned }
}
