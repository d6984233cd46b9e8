//! What a record's status says, and when the record is due. PURE.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::events::{Note, expiry};
use crate::microsoft::{Refusal, diagnosis};
use crate::resources::conditions::{
    Condition, ConditionStatus, ConditionType, Desired, Reason, changed, find, merge, whole_second,
};
use crate::resources::{SealedGraphCredential, SealedGraphCredentialStatus, catalogue};
use crate::store::record::holds_secret_of;

/// Between two verifications of a record, as with a custom resource that does not say otherwise.
const INTERVAL: Duration = Duration::from_hours(24);

/// How long before the expiry the warning begins, as with a custom resource that does not say otherwise.
const WARNING: Duration = Duration::from_hours(720);

const CURE: &str = "send a new client_secret with its secret_expires_at by PATCH";

/// What an attempt to verify a record came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    Issued,
    Refused(Refusal),
    Unopened,
}

/// Whether the status is about the secret that the record holds.
pub fn is_seen(record: &SealedGraphCredential) -> bool {
    record.status.as_ref().is_some_and(|status| holds_secret_of(record, status.observed_generation))
}

/// When the record is to be verified: an interval after the last verification of what it holds, and at once if there is none.
pub fn verification_due_at(record: &SealedGraphCredential) -> Timestamp {
    let proved_at = record.status.as_ref().filter(|_| is_seen(record)).and_then(|status| {
        let verified = find(&status.conditions, ConditionType::Verified)?;
        (verified.status == ConditionStatus::True).then_some(status.verified_at.as_ref()?.0)
    });
    proved_at.map_or(Timestamp::MIN, |at| at.saturating_add(INTERVAL).unwrap_or(Timestamp::MAX))
}

/// When the status is to say something new without a verification. Of a secret that others have changed nothing is said before
/// it could be tried.
pub fn status_due_at(record: &SealedGraphCredential, now: Timestamp) -> Timestamp {
    if !is_seen(record) {
        return Timestamp::MAX;
    }
    if notice_due(record, now).is_some() || record.status != Some(next_status(record, None, now)) {
        return now;
    }
    let changes = expiry::boundaries(record.spec.secret_expires_at.0, WARNING);
    changes.filter(|at| *at > now).min().unwrap_or(Timestamp::MAX)
}

/// The notice of the expiry that is due and was not given, in days before it.
pub fn notice_due(record: &SealedGraphCredential, now: Timestamp) -> Option<i32> {
    let due = expiry::notice_days(record.spec.secret_expires_at.0, now)?;
    let told = record.status.as_ref().and_then(|status| status.expiry_notice_days);
    told.is_none_or(|told| told > due).then_some(due)
}

/// What people are to be told of a record with its next status: a verdict that is another one than before, with the ids by
/// which Microsoft finds it, and the notice of the expiry that is due.
pub fn notes(
    record: &SealedGraphCredential,
    next: &SealedGraphCredentialStatus,
    verdict_ids: Option<String>,
    notice: Option<i32>,
) -> Vec<Note> {
    let before = record.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let verdict = verdict_ids.and_then(|ids| {
        let verified = changed(before, &next.conditions, ConditionType::Verified)?;
        Note::of(verified, verified.status != ConditionStatus::True, "Verify", ids)
    });
    let notice = notice.map(|days| expiry::note(days, record.spec.secret_expires_at.0, CURE));
    verdict.into_iter().chain(notice).collect()
}

/// The status that follows. Without a proof, what was said of the secret stays; so does the notice of the expiry that was
/// given last, until it is about another expiry.
pub fn next_status(
    record: &SealedGraphCredential,
    proof: Option<&Proof>,
    now: Timestamp,
) -> SealedGraphCredentialStatus {
    let before = record.status.clone().unwrap_or_default();
    let generation = record.metadata.generation.unwrap_or_default();
    let verified = match proof {
        Some(proof) => verified(proof),
        None => find(&before.conditions, ConditionType::Verified)
            .and_then(Condition::as_desired)
            .unwrap_or_else(unasked),
    };
    let expiring = expiry::condition(record.spec.secret_expires_at.0, WARNING, CURE, now);
    let desired = vec![ready(&verified, &expiring), verified, expiring];
    let verified_at = match proof {
        Some(Proof::Issued) => Some(Time(whole_second(now))),
        _ => before.verified_at,
    };
    let due = expiry::notice_days(record.spec.secret_expires_at.0, now);
    let expiry_notice_days = before.expiry_notice_days.zip(due).map(|(told, due)| told.max(due));
    SealedGraphCredentialStatus {
        observed_generation: generation,
        verified_at,
        expiry_notice_days,
        conditions: merge(&before.conditions, desired, generation, now),
        unknown: before.unknown,
    }
}

fn verified(proof: &Proof) -> Desired {
    const TYPE: ConditionType = ConditionType::Verified;
    match proof {
        Proof::Issued => {
            Desired::met(TYPE, Reason::TokenIssued, "Microsoft has issued a token for the secret")
        }
        Proof::Refused(refusal) => {
            let meaning = catalogue::entry(refusal.reason).meaning;
            let code = diagnosis::code_text(refusal);
            let message = format!("{meaning} ({code}): {CURE}, or mend the app in Entra");
            Desired::unmet(TYPE, refusal.reason, message)
        }
        Proof::Unopened => {
            let message = format!(
                "the record does not open: bring its key back into the keyring (keys import), or {CURE}"
            );
            Desired::unknown(TYPE, Reason::NotAttempted, message)
        }
    }
}

fn unasked() -> Desired {
    Desired::unknown(ConditionType::Verified, Reason::NotAttempted, "Microsoft was not asked yet")
}

/// The summary: the first of both that is bad news.
fn ready(verified: &Desired, expiring: &Desired) -> Desired {
    const TYPE: ConditionType = ConditionType::Ready;
    if verified.status != ConditionStatus::True {
        Desired { type_: TYPE, ..verified.clone() }
    } else if expiring.reason == Reason::Expired {
        Desired::unmet(TYPE, Reason::Expired, expiring.message.clone())
    } else {
        Desired::met(TYPE, Reason::Ready, "the secret is sealed and works")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn record() -> SealedGraphCredential {
        serde_json::from_value(json!({
            "apiVersion": "graph-credentials.io/v1alpha1", "kind": "SealedGraphCredential",
            "metadata": {"name": "r-1", "generation": 2},
            "spec": {
                "recordId": "0123456789abcdef0123456789abcdef", "credentialId": 1,
                "tenantId": "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32",
                "clientId": "e1c6ac69-480e-4a17-9b85-3467967bd179",
                "secretExpiresAt": "2027-11-28T23:59:59Z", "name": "x", "envelope": "e"
            }
        }))
        .unwrap()
    }

    /// The record after that proof.
    fn after(record: &SealedGraphCredential, proof: Option<&Proof>, now: &str) -> SealedGraphCredential {
        SealedGraphCredential { status: Some(next_status(record, proof, at(now))), ..record.clone() }
    }

    fn reasons(record: &SealedGraphCredential) -> Vec<&str> {
        record.status.as_ref().unwrap().conditions.iter().map(|it| it.reason.as_str()).collect()
    }

    fn refused() -> Proof {
        Proof::Refused(Refusal { reason: Reason::SecretExpired, code: Some(7_000_222) })
    }

    #[test]
    fn a_proved_record_is_ready_and_is_proved_again_a_day_later() {
        assert_eq!(verification_due_at(&record()), Timestamp::MIN);
        let proved = after(&record(), Some(&Proof::Issued), "2026-11-24T08:00:00.5Z");
        assert_eq!(reasons(&proved), ["Ready", "TokenIssued", "NotExpiring"]);
        assert_eq!(verification_due_at(&proved), at("2026-11-25T08:00:00Z"));
        let later = after(&proved, None, "2026-11-24T09:00:00Z");
        assert_eq!(later, proved, "nothing is new");
        let due = |now: &str| status_due_at(&proved, at(now));
        assert_eq!(due("2026-11-24T09:00:00Z"), at("2027-10-29T23:59:59Z"));
        assert_eq!(due("2027-11-01T00:00:00Z"), at("2027-11-01T00:00:00Z"), "it expires soon");
        assert_eq!(
            status_due_at(&record(), at("2026-11-24T09:00:00Z")),
            Timestamp::MAX,
            "it is not verified yet"
        );
    }

    #[test]
    fn another_generation_is_proved_at_once() {
        let mut changed = after(&record(), Some(&Proof::Issued), "2026-11-24T08:00:00Z");
        changed.metadata.generation = Some(3);
        assert!(!is_seen(&changed));
        assert_eq!(verification_due_at(&changed), Timestamp::MIN);
    }

    #[test]
    fn a_refusal_is_told_with_its_code_and_what_cannot_be_asked_changes_nothing() {
        let proved = after(&record(), Some(&Proof::Issued), "2026-11-24T08:00:00Z");
        let refused = after(&proved, Some(&refused()), "2026-11-25T08:00:00Z");
        assert_eq!(reasons(&refused), ["SecretExpired", "SecretExpired", "NotExpiring"]);
        let ready = &refused.status.as_ref().unwrap().conditions[0];
        assert!(
            ready.status == ConditionStatus::False && ready.message.contains("AADSTS7000222"),
            "{ready:?}"
        );
        let status = refused.status.as_ref().unwrap();
        assert_eq!(status.verified_at, proved.status.unwrap().verified_at, "the last proof is remembered");
        assert_eq!(after(&refused, None, "2026-11-25T09:00:00Z"), refused);
        let unopened = after(&refused, Some(&Proof::Unopened), "2026-11-26T08:00:00Z");
        assert_eq!(reasons(&unopened), ["NotAttempted", "NotAttempted", "NotExpiring"]);
    }

    #[test]
    fn a_verdict_is_told_when_it_is_another_one() {
        let told = |before: &SealedGraphCredential, proof: &Proof| {
            let next = next_status(before, Some(proof), at("2026-11-25T08:00:00Z"));
            let notes = notes(before, &next, Some("trace 1".into()), None);
            notes.into_iter().map(|note| (note.is_warning, note.reason, note.ids)).next()
        };
        let proved = after(&record(), Some(&Proof::Issued), "2026-11-24T08:00:00Z");
        assert_eq!(told(&proved, &Proof::Issued), None);
        assert_eq!(told(&proved, &refused()), Some((true, "SecretExpired", "trace 1".into())));
        let refused_before = after(&proved, Some(&refused()), "2026-11-24T09:00:00Z");
        assert_eq!(told(&refused_before, &refused()), None, "the same a day later");
        let mended = told(&refused_before, &Proof::Issued);
        assert_eq!(mended.map(|it| (it.0, it.1)), Some((false, "TokenIssued")));
        assert_eq!(told(&proved, &Proof::Unopened).map(|it| it.0), Some(true));
    }

    #[test]
    fn each_notice_of_the_expiry_is_given_once_and_a_later_expiry_has_its_own() {
        let mut record = after(&record(), Some(&Proof::Issued), "2026-11-24T08:00:00Z");
        let mut given = Vec::new();
        for day in ["2027-10-28", "2027-10-30", "2027-10-31", "2027-11-15", "2027-11-29", "2027-11-30"] {
            let now = at(&format!("{day}T00:00:00Z"));
            let (notice, mut next) = (notice_due(&record, now), next_status(&record, None, now));
            let notes = notes(&record, &next, None, notice);
            given.extend(notes.iter().map(|note| (day, note.reason)));
            assert!(notes.iter().all(|note| note.text.contains("PATCH")), "{notes:?}");
            next.expiry_notice_days = notice.or(next.expiry_notice_days);
            record.status = Some(next);
        }
        let expected =
            [("2027-10-30", "ExpiresSoon"), ("2027-11-15", "ExpiresSoon"), ("2027-11-29", "Expired")];
        assert_eq!(given, expected);
        record.spec.secret_expires_at = Time(at("2029-01-01T00:00:00Z"));
        let later = after(&record, Some(&Proof::Issued), "2027-12-01T00:00:00Z");
        assert_eq!(later.status.as_ref().unwrap().expiry_notice_days, None);
        assert_eq!(notice_due(&later, at("2028-12-31T12:00:00Z")), Some(1));
    }

    #[test]
    fn the_expiry_is_told_thirty_days_before_and_ends_readiness() {
        let proved = after(&record(), Some(&Proof::Issued), "2026-11-24T08:00:00Z");
        for (now, expected) in [
            ("2027-10-29T23:59:58Z", ["Ready", "TokenIssued", "NotExpiring"]),
            ("2027-10-29T23:59:59Z", ["Ready", "TokenIssued", "ExpiresSoon"]),
            ("2027-11-28T23:59:59Z", ["Expired", "TokenIssued", "Expired"]),
        ] {
            assert_eq!(reasons(&after(&proved, None, now)), expected, "{now}");
        }
    }
}
