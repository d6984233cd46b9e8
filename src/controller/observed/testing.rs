//! Objects and surroundings for the tests of `decide` and `report`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

use super::{
    Claim, Content, Learnt, Observed, Proof, ReadyTarget, Record, Rules, SealedRecord, Source, Target,
    UsableSource,
};
use crate::microsoft::{Diagnosis, Refusal, Trace, Verdict};
use crate::resources::conditions::{ConditionStatus, ConditionType, Desired, Reason, merge};
use crate::resources::{
    AccountName, Candidate, ExpirySource, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus,
    Ownership, Pending, Place, Registration, UnknownFields,
};
use crate::settings::Timing;
use crate::store::record::record_name;

pub(crate) fn now() -> Timestamp {
    "2026-11-24T08:00:00Z".parse().unwrap()
}

pub(crate) fn rules() -> Rules {
    Rules { allow_unverified: false, sets_finalizers: true, timing: Timing::STANDARD }
}

pub(crate) fn account() -> AccountName {
    AccountName { namespace: "mail".into(), name: "agency".into() }
}

pub(crate) fn place() -> Place {
    Place { account: account(), base_url: "https://api.woodpecker.co/rest".into(), company_id: None }
}

/// An object of generation 1, with `spec` laid over a plain one.
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

pub(crate) fn source() -> UsableSource {
    UsableSource {
        fingerprint: "k:new".into(),
        expires_at: "2027-11-28T23:59:59Z".parse().unwrap(),
        expiry_source: ExpirySource::Secret,
        is_registered: false,
        is_candidate: false,
        looks_like_an_id: false,
    }
}

/// A new object with a usable Secret and a working account, of which nothing is known yet.
pub(crate) fn fresh(spec: &Value) -> Observed {
    let object = object(spec);
    let status = object.status_or_default();
    Observed {
        written: status.clone(),
        status,
        object,
        source: Source::Usable(source()),
        source_version: None,
        target: Target::Ready(ReadyTarget { place: place(), may_create: true, may_adopt: true }),
        retiring: None,
        record: None,
        record_version: None,
        seen: None,
        settles_in: std::time::Duration::ZERO,
        change_settles_in: std::time::Duration::ZERO,
        claim: Claim::Ours,
        namespace_deleted_at: None,
        account_changed: false,
        is_unrecorded: false,
        learnt: Learnt::default(),
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
        expires_at: Time(source().expires_at),
        registered_at: Time(now()),
        token: Some("abcdefghjk29".into()),
        change_sent_at: None,
        unknown: UnknownFields::default(),
    }
}

/// What a spec says that goes to the encrypted store.
pub(crate) fn store() -> Value {
    json!({"destination": {"store": {}}})
}

/// A new object for the encrypted store, of which there is no record yet.
pub(crate) fn unsealed(spec: &Value) -> Observed {
    Observed { target: Target::Store, record: Some(Record::Missing), ..fresh(spec) }
}

/// An object whose secret was sealed and verified a minute ago.
pub(crate) fn sealed(spec: &Value) -> Observed {
    let mut observed = Observed { target: Target::Store, ..settled(spec) };
    let registration = Registration {
        account: None,
        base_url: None,
        record: Some(record_name(&observed.object)),
        token: None,
        ..registration()
    };
    observed.record = Some(Record::Ours(SealedRecord {
        credential_id: registration.credential_id,
        name: registration.name.clone(),
        expires_at: registration.expires_at.0,
        content: Content::SourceSecret,
        is_under_primary: true,
        is_sealed_for_object: true,
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

/// A create under way, with what the account held before.
pub(crate) fn pending(token: &str, ids: &[i64]) -> Box<Pending> {
    Box::new(Pending {
        token: token.into(),
        since: registration().registered_at,
        ids: ids.to_vec(),
        account: account(),
        base_url: "https://api.woodpecker.co/rest".into(),
        company_id: None,
        fingerprint: "k:new".into(),
        unknown: UnknownFields::default(),
    })
}

/// An object that was registered and verified a minute ago, with the secret that its Secret holds.
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
        verified_at: Some(Time(now() - jiff::SignedDuration::from_mins(1))),
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

/// A settled object whose Secret holds a new secret, not seen before.
pub(crate) fn rotated(spec: &Value) -> Observed {
    Observed { source: Source::Usable(source()), ..settled(spec) }
}

/// The same object in a later pass, its secret first seen that long ago and refused since.
pub(crate) fn seen(mut observed: Observed, ago: std::time::Duration, reason: Reason) -> Observed {
    if let Source::Usable(source) = &mut observed.source {
        source.is_candidate = true;
        observed.status.candidate = Some(Box::new(Candidate {
            fingerprint: source.fingerprint.clone(),
            first_seen_at: Time(now() - ago),
            attempts: 1,
            reason: reason.as_str().into(),
            unknown: UnknownFields::default(),
        }));
    }
    observed.written = observed.status.clone();
    observed
}

pub(crate) fn issued() -> Proof {
    Proof { at: now(), verdict: Verdict::Issued { roles: Some(vec!["Mail.Send".into()]) } }
}

pub(crate) fn not_issued(diagnosis: Diagnosis) -> Proof {
    Proof { at: now(), verdict: Verdict::NotIssued { diagnosis, retry_after: None, trace: Trace::default() } }
}

pub(crate) fn refused(reason: Reason) -> Proof {
    not_issued(Diagnosis::Refused(Refusal { reason, code: Some(7_000_215) }))
}

/// Marks the object as being deleted, with our finalizer on it or not.
pub(crate) fn deleted(mut observed: Observed, has_finalizer: bool) -> Observed {
    observed.object.metadata.deletion_timestamp = Some(Time(now()));
    if has_finalizer {
        observed.object.metadata.finalizers = Some(vec![crate::resources::FINALIZER.into()]);
    }
    observed.source = Source::NotRead;
    observed
}
