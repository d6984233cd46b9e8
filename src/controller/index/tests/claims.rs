//! Tests of claims on apps: which object holds one, and which is next.

use crate::controller::index::claim_key::ClaimKey;
use crate::controller::index::keys::Key;
use crate::controller::index::tests::*;
use crate::core::claims::{Candidate, resolve_claim};
use crate::core::model::Claim;
use crate::woodpecker::testing::identity;

/// A verified object that was created in that second.
fn verified(name: &str, second: i64, account: &str) -> MicrosoftGraphCredential {
    let condition = json!({
        "type": "Verified", "status": "True", "reason": "TokenIssued", "message": "", "lastTransitionTime": "2026-11-28T23:59:59Z"
    });
    let mut object = with_status(object(name, name, 1, account), json!({"conditions": [condition]}));
    object.metadata.creation_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::from_second(second).unwrap()));
    object
}

fn released_by(object: &MicrosoftGraphCredential) -> ReleasedApp {
    let (tenant, client) = (object.spec.tenant_id.clone(), object.spec.client_id.clone());
    ReleasedApp { by: NamespacedName::of(object), tenant, client }
}

fn candidate(object: &MicrosoftGraphCredential) -> Option<Candidate> {
    let status = object.status.as_ref();
    Some(Candidate {
        name: NamespacedName::of(object).to_string(),
        uid: object.metadata.uid.clone()?,
        created: object.metadata.creation_timestamp.as_ref()?.0,
        is_registered: status.is_some_and(|status| status.registration.is_some()),
        could_register: object.is_verified(),
    })
}

#[test]
fn an_app_belongs_to_the_registered_object_or_else_to_the_oldest_verified_one() {
    let index = index();
    let (old, middle, young) =
        (verified("old", 10, "a"), verified("middle", 20, "a"), verified("young", 30, "a"));
    let unverified = object("unverified", "unverified", 1, "a");
    for object in [&young, &middle, &old, &unverified] {
        let _ = apply(&index, object);
    }
    let claim = |object: &MicrosoftGraphCredential| {
        resolve_claim(&candidate(object).unwrap(), &index.conflicting(object, |_, it| candidate(it)))
    };
    assert_eq!(claim(&old), Claim::Granted);
    assert_eq!(claim(&young), Claim::Conflict("mail/old".into()));
    assert_eq!(index.conflicting(&young, |_, it| candidate(it)).len(), 1, "the others change nothing");
    let mut registered = young.clone();
    registered.metadata.resource_version = Some("2".into());
    registered.status.as_mut().unwrap().registration =
        Some(serde_json::from_value(registration("a", 1)).unwrap());
    assert!(index.on_written(&registered).released_apps.is_empty(), "it precedes others now");
    assert_eq!(claim(&old), Claim::Conflict("mail/young".into()));
    let released = delete(&index, &registered).released_apps;
    assert_eq!(released, [released_by(&young)]);
    assert_eq!(index.next_candidates(&released[0], |_, _, _| true), [named("old")]);
    let is_allowed = |_: &Objects, _: &AccountName, object: &MicrosoftGraphCredential| {
        object.metadata.name != old.metadata.name
    };
    assert_eq!(index.next_candidates(&released[0], is_allowed), [named("middle")]);
}

#[test]
fn a_claim_is_held_until_its_object_releases_it_or_is_deleted() {
    let index = index();
    let (old, young) = (verified("old", 10, "a"), verified("young", 20, "a"));
    let _ = (apply(&index, &old), apply(&index, &young));
    let key = || ClaimKey {
        account: identity(1, None),
        tenant: TENANT.parse().unwrap(),
        client: CLIENT.parse().unwrap(),
    };
    let take = |object: &MicrosoftGraphCredential| index.hold_claim(key(), &candidate(object).unwrap());
    assert_eq!((take(&young), take(&young)), (Claim::Granted, Claim::Granted));
    assert_eq!(take(&old), Claim::Conflict("mail/young".into()));
    assert_eq!(index.retain_claims("young", |_| true).released_apps, []);
    assert_eq!(index.retain_claims("young", |_| false).released_apps, [released_by(&young)]);
    assert_eq!((take(&old), take(&young)), (Claim::Granted, Claim::Conflict("mail/old".into())));
    let _ = delete(&index, &old);
    assert_eq!(take(&young), Claim::Granted);
    assert_eq!(index.objects().credentials.find(&Key::Claim(&key())).count(), 1);
    let _ = delete(&index, &young);
    let mut fresh = young.clone();
    (fresh.metadata.uid, fresh.status) = (Some("fresh".into()), None);
    let _ = apply(&index, &fresh);
    assert_eq!(take(&fresh), Claim::Granted);
    assert_eq!(delete(&index, &fresh).released_apps, [released_by(&fresh)], "even if it was never verified");
}
