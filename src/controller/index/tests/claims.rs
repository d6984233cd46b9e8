//! Whose an app is, and who is next for it.

use super::super::keys::Key;
use super::*;
use crate::controller::claims::{ClaimKey, Claimant, entitled};
use crate::controller::observed::Claim;
use crate::woodpecker::testing::identity;

/// A verified object that was made in that second.
fn verified(name: &str, second: i64, account: &str) -> MicrosoftGraphCredential {
    let condition = json!({
        "type": "Verified", "status": "True", "reason": "TokenIssued", "message": "", "lastTransitionTime": "2026-11-28T23:59:59Z"
    });
    let mut object = with_status(object(name, name, 1, account), json!({"conditions": [condition]}));
    object.metadata.creation_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(Timestamp::from_second(second).unwrap()));
    object
}

fn freed_by(object: &MicrosoftGraphCredential) -> Freed {
    let (tenant, client) = (object.spec.tenant_id.clone(), object.spec.client_id.clone());
    Freed { by: Named::of(object), tenant, client }
}

fn claimant(object: &MicrosoftGraphCredential) -> Option<Claimant> {
    let status = object.status.as_ref();
    Some(Claimant {
        name: Named::of(object).to_string(),
        uid: object.metadata.uid.clone()?,
        created: object.metadata.creation_timestamp.as_ref()?.0,
        is_registered: status.is_some_and(|status| status.registration.is_some()),
        could_register: object.is_verified(),
    })
}

#[test]
fn an_app_is_the_registered_ones_then_the_oldest_verified_ones() {
    let index = index();
    let (old, middle, young) =
        (verified("old", 10, "a"), verified("middle", 20, "a"), verified("young", 30, "a"));
    let unverified = object("unverified", "unverified", 1, "a");
    for object in [&young, &middle, &old, &unverified] {
        let _ = apply(&index, object);
    }
    let claim = |object: &MicrosoftGraphCredential| {
        entitled(&claimant(object).unwrap(), &index.rivals(object, |_, it| claimant(it)))
    };
    assert_eq!(claim(&old), Claim::Ours);
    assert_eq!(claim(&young), Claim::HeldBy("mail/old".into()));
    assert_eq!(index.rivals(&young, |_, it| claimant(it)).len(), 1, "the others change nothing");
    let mut registered = young.clone();
    registered.metadata.resource_version = Some("2".into());
    registered.status.as_mut().unwrap().registration =
        Some(serde_json::from_value(registration("a", 1)).unwrap());
    assert!(index.note_written(&registered).freed.is_empty(), "it comes before others now");
    assert_eq!(claim(&old), Claim::HeldBy("mail/young".into()));
    let freed = delete(&index, &registered).freed;
    assert_eq!(freed, [freed_by(&young)]);
    assert_eq!(index.next_for(&freed[0], |_, _, _| true), [named("old")]);
    let is_let_in = |_: &Objects, _: &AccountName, object: &MicrosoftGraphCredential| {
        object.metadata.name != old.metadata.name
    };
    assert_eq!(index.next_for(&freed[0], is_let_in), [named("middle")]);
}

#[test]
fn a_claim_is_kept_until_its_object_lets_go_or_is_gone() {
    let index = index();
    let (old, young) = (verified("old", 10, "a"), verified("young", 20, "a"));
    let _ = (apply(&index, &old), apply(&index, &young));
    let key = || ClaimKey {
        account: identity(1, None),
        tenant: TENANT.parse().unwrap(),
        client: CLIENT.parse().unwrap(),
    };
    let take = |object: &MicrosoftGraphCredential| index.take_claim(key(), &claimant(object).unwrap());
    assert_eq!((take(&young), take(&young)), (Claim::Ours, Claim::Ours));
    assert_eq!(take(&old), Claim::HeldBy("mail/young".into()));
    assert_eq!(index.keep_claims("young", |_| true).freed, []);
    assert_eq!(index.keep_claims("young", |_| false).freed, [freed_by(&young)]);
    assert_eq!((take(&old), take(&young)), (Claim::Ours, Claim::HeldBy("mail/old".into())));
    let _ = delete(&index, &old);
    assert_eq!(take(&young), Claim::Ours);
    assert_eq!(index.objects().credentials.find(&Key::Claim(&key())).count(), 1);
    let _ = delete(&index, &young);
    let mut fresh = young.clone();
    (fresh.metadata.uid, fresh.status) = (Some("fresh".into()), None);
    let _ = apply(&index, &fresh);
    assert_eq!(take(&fresh), Claim::Ours);
    assert_eq!(delete(&index, &fresh).freed, [freed_by(&fresh)], "also before it was ever verified");
}
