//! Fixtures for the tests of `plan` and `status`.

use crate::api::timestamp::Time;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::conditions::{ConditionStatus, ConditionType, Desired, Reason, merge};
use crate::api::{
    AccountLocation, AccountName, EntraStatus, ExpirySource, MicrosoftGraphCredential,
    MicrosoftGraphCredentialStatus, Ownership, PendingCreate, PendingSecret, Registration, SecretHolder,
    UnknownFields,
};
use crate::core::app_reading::AppAccess;
use crate::core::diagnosis::{Diagnosis, Rejection};
use crate::core::model::{
    Claim, Content, Observed, OperatorPolicy, ReadingSubject, ReadyTarget, Record, SealedRecord, Source,
    StepResults, Target, UsableSource, VerificationResult,
};
use crate::core::timing::Timing;
use crate::core::token_result::{RequestIds, TokenResult};

pub(crate) fn now() -> Timestamp {
    "2026-11-24T08:00:00Z".parse().unwrap()
}

pub(crate) fn policy() -> OperatorPolicy {
    OperatorPolicy { allow_unverified: false, sets_finalizers: true, timing: Timing::STANDARD }
}

pub(crate) fn account() -> AccountName {
    AccountName { namespace: "mail".into(), name: "agency".into() }
}

pub(crate) fn location() -> AccountLocation {
    AccountLocation {
        account: account(),
        base_url: "https://api.woodpecker.co/rest".into(),
        company_id: None,
    }
}

/// An object of generation 1, with the fields of `spec` over defaults.
pub(crate) fn object(spec: &Value) -> MicrosoftGraphCredential {
    let mut whole = json!({
        "apiVersion": "graph-credentials.io/v1alpha1", "kind": "MicrosoftGraphCredential",
        "metadata": {"name": "sales-eu", "namespace": "mail", "uid": "u-1", "generation": 1},
        "spec": {
            "tenantId": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32", "clientId": "e1c6ac69-480e-4a17-9b85-3467967bd179",
            "secretRef": {"name": "sales-eu-graph"}, "destination": {"woodpecker": {"accountRef": {"name": "agency"}}}
        }
    });
    for (field, value) in spec.as_object().into_iter().flatten() {
        whole["spec"][field] = value.clone();
    }
    serde_json::from_value(whole).unwrap()
}

/// The expiry in the Secret.
pub(crate) fn expiry() -> Timestamp {
    "2027-11-28T23:59:59Z".parse().unwrap()
}

pub(crate) fn source() -> UsableSource {
    UsableSource {
        fingerprint: "k:new".into(),
        expires_at: Some(expiry()),
        expiry_source: ExpirySource::Secret,
        is_registered: false,
        is_pending: false,
        form: None,
        reading: None,
    }
}

/// A new object with a usable Secret and a Ready account.
pub(crate) fn fresh(spec: &Value) -> Observed {
    let object = object(spec);
    let status = object.status_or_default();
    Observed {
        written: status.clone(),
        status,
        object,
        source: Source::Usable(source()),
        source_version: None,
        source_changed_at: None,
        target: Target::Ready(ReadyTarget { location: location(), may_create: true, may_adopt: true }),
        previous_registration: None,
        record: None,
        record_version: None,
        cached_entries: None,
        settles_in: std::time::Duration::ZERO,
        change_settles_in: std::time::Duration::ZERO,
        claim: Claim::Granted,
        namespace_deleted_at: None,
        app_access: None,
        is_reading_requested: false,
        own_secrets: None,
        account_changed: false,
        has_unpersisted_changes: false,
        results: StepResults::default(),
    }
}

pub(crate) fn registration() -> Registration {
    Registration {
        account: Some(account()),
        base_url: Some("https://api.woodpecker.co/rest".into()),
        company_id: None,
        record: None,
        credential_id: 22_334_455,
        ownership: Ownership::Created,
        fingerprint: "k:old".into(),
        name: "mail/sales-eu".into(),
        expires_at: Time(expiry()),
        registration_time: Time(now()),
        idempotency_token: Some("abcdefghjk29".into()),
        update_sent_time: None,
        unknown: UnknownFields::default(),
    }
}

/// The spec fields of an object with the store as its destination.
pub(crate) fn store() -> Value {
    json!({"destination": {"store": {}}})
}

/// A new object for the store, without a record.
pub(crate) fn new_in_store(spec: &Value) -> Observed {
    Observed { target: Target::Store, record: Some(Record::Missing), ..fresh(spec) }
}

/// An object whose secret was encrypted and verified a minute ago.
pub(crate) fn sealed(spec: &Value) -> Observed {
    let mut observed = Observed { target: Target::Store, ..settled(spec) };
    let registration = Registration {
        account: None,
        base_url: None,
        record: Some("c-0123456789abcdef0123456789abcdef".into()),
        idempotency_token: None,
        ..registration()
    };
    observed.record = Some(Record::ForApp(SealedRecord {
        credential_id: registration.credential_id,
        name: registration.name.clone(),
        expires_at: registration.expires_at.0,
        content: Content::SourceSecret,
        is_under_primary: true,
        is_for_object: true,
    }));
    observed.status.registration = Some(registration);
    let stored = Desired {
        type_: ConditionType::Registered,
        status: ConditionStatus::True,
        reason: Reason::Stored,
        message: "the record holds the secret".into(),
    };
    observed.status.conditions.extend(merge(&[], vec![stored], 1, now()));
    observed.written = observed.status.clone();
    observed
}

/// A pending create, with the IDs that existed before it.
pub(crate) fn pending(token: &str, ids: &[i64]) -> Box<PendingCreate> {
    Box::new(PendingCreate {
        idempotency_token: token.into(),
        start_time: registration().registration_time,
        existing_ids: ids.to_vec(),
        account: account(),
        base_url: "https://api.woodpecker.co/rest".into(),
        company_id: None,
        fingerprint: "k:new".into(),
        unknown: UnknownFields::default(),
    })
}

/// An object whose secret was registered and verified a minute ago.
pub(crate) fn settled(spec: &Value) -> Observed {
    let mut observed = fresh(spec);
    let verified = Desired {
        type_: ConditionType::Verified,
        status: ConditionStatus::True,
        reason: Reason::TokenIssued,
        message: "Microsoft issues tokens for the secret".into(),
    };
    observed.status = MicrosoftGraphCredentialStatus {
        observed_generation: 1,
        registration: Some(registration()),
        last_verified_time: Some(Time(now() - jiff::SignedDuration::from_mins(1))),
        conditions: merge(&[], vec![verified], 1, now()),
        ..MicrosoftGraphCredentialStatus::default()
    };
    observed.written = observed.status.clone();
    if let Source::Usable(source) = &mut observed.source {
        source.is_registered = true;
        source.fingerprint = "k:old".into();
    }
    observed
}

/// A settled object whose Secret has a new value, not seen before.
pub(crate) fn rotated(spec: &Value) -> Observed {
    Observed { source: Source::Usable(source()), ..settled(spec) }
}

/// The same object in a later reconcile, its secret first seen that long ago and rejected since.
pub(crate) fn seen(mut observed: Observed, ago: std::time::Duration, reason: Reason) -> Observed {
    if let Source::Usable(source) = &mut observed.source {
        source.is_pending = true;
        observed.status.pending_secret = Some(Box::new(PendingSecret {
            fingerprint: source.fingerprint.clone(),
            first_seen_time: Time(now() - ago),
            attempts: 1,
            reason: reason.as_str().into(),
            unknown: UnknownFields::default(),
        }));
    }
    observed.written = observed.status.clone();
    observed
}

pub(crate) fn issued() -> VerificationResult {
    VerificationResult { at: now(), result: TokenResult::Issued { roles: Some(vec!["Mail.Send".into()]) } }
}

pub(crate) fn not_issued(diagnosis: Diagnosis) -> VerificationResult {
    VerificationResult {
        at: now(),
        result: TokenResult::NotIssued { diagnosis, retry_after: None, request_ids: RequestIds::default() },
    }
}

pub(crate) fn rejected(reason: Reason) -> VerificationResult {
    not_issued(Diagnosis::Rejected(Rejection { reason, code: Some(7_000_215) }))
}

/// The object while it is being deleted, with or without the finalizer.
pub(crate) fn deleted(mut observed: Observed, has_finalizer: bool) -> Observed {
    observed.object.metadata.deletion_timestamp = Some(Time(now()));
    if has_finalizer {
        observed.object.metadata.finalizers = Some(vec![crate::api::FINALIZER.into()]);
    }
    observed.source = Source::NotRead;
    observed
}

/// A settled object with `spec.entra`, whose app may be read and was not read yet.
pub(crate) fn with_entra(mode: &str) -> Observed {
    let mut observed = settled(&json!({"entra": {"identityRef": {"name": "agency-reader"}, "expiry": mode}}));
    observed.app_access = Some(AppAccess::Granted);
    if let Source::Usable(source) = &mut observed.source {
        source.reading = Some(ReadingSubject { fingerprint: "k:alone".into(), is_recorded: true });
    }
    observed
}

/// A reading of that expiry a minute ago.
pub(crate) fn reading_from(expires_at: &str) -> EntraStatus {
    EntraStatus {
        fingerprint: "k:alone".into(),
        key_id: Some("670007de-a1b2-4c3d-8e5f-678901234567".into()),
        holder: Some(SecretHolder::Application),
        expires_at: Some(Time(expires_at.parse().unwrap())),
        last_read_time: Some(Time(now() - jiff::SignedDuration::from_mins(1))),
        ..EntraStatus::default()
    }
}
