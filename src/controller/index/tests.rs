//! Tests of lookups in the index, and of the effects of events.

mod claims;

use jiff::Timestamp;
use kube::core::DeserializeGuard;
use serde_json::{Value, json};

use crate::api::AccountLocation;
use crate::controller::index::entry::Entry;
use crate::controller::index::*;
use crate::core::remote::Entry as Listed;

pub(super) const TENANT: &str = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32";
pub(super) const CLIENT: &str = "e1c6ac69-480e-4a17-9b85-3467967bd179";
const ANOTHER_CLIENT: &str = "00000000-480e-4a17-9b85-3467967bd179";

/// An object with that name, uid and version. Its Secret and its account are both named `points_to`.
pub(super) fn object(name: &str, uid: &str, version: u64, points_to: &str) -> MicrosoftGraphCredential {
    serde_json::from_value(json!({
        "apiVersion": "graph-credentials.io/v1alpha1", "kind": "MicrosoftGraphCredential",
        "metadata": {
            "name": name, "namespace": "mail", "uid": uid, "resourceVersion": version.to_string(), "generation": 1,
            "creationTimestamp": "2026-11-28T23:59:59Z"
        },
        "spec": {
            "tenantId": TENANT, "clientId": CLIENT, "secretRef": {"name": points_to}, "deletionPolicy": "Delete",
            "destination": {"woodpecker": {"accountRef": {"name": points_to}}}
        }
    }))
    .unwrap()
}

pub(super) fn registration(account: &str, id: i64) -> Value {
    json!({
        "account": {"namespace": "mail", "name": account}, "baseUrl": "https://a.example", "credentialId": id,
        "ownership": "Created", "fingerprint": "k:0", "name": "n", "expiresAt": "2027-11-28T23:59:59Z",
        "registrationTime": "2026-11-28T23:59:59Z"
    })
}

pub(super) fn pending(account: &str, token: &str) -> Value {
    json!({
        "idempotencyToken": token, "startTime": "2026-11-28T23:59:59Z", "existingIds": [], "baseUrl": "https://a.example",
        "account": {"namespace": "mail", "name": account}, "fingerprint": "k:0"
    })
}

pub(super) fn with_status(mut object: MicrosoftGraphCredential, status: Value) -> MicrosoftGraphCredential {
    object.status = Some(serde_json::from_value(status).unwrap());
    object
}

pub(super) fn index() -> Index {
    Index::new(vec![Scope::All])
}

pub(super) fn guard(object: &MicrosoftGraphCredential) -> ParsedCredential {
    DeserializeGuard(Ok(object.clone()))
}

pub(super) fn apply(index: &Index, object: &MicrosoftGraphCredential) -> Effects {
    index.on_watch_event::<MicrosoftGraphCredential>(&Scope::All, 0, Event::Apply(guard(object)))
}

fn delete(index: &Index, object: &MicrosoftGraphCredential) -> Effects {
    index.on_watch_event::<MicrosoftGraphCredential>(&Scope::All, 0, Event::Delete(guard(object)))
}

fn list(index: &Index, objects: &[&MicrosoftGraphCredential]) -> Effects {
    let _begun = index.on_watch_event::<MicrosoftGraphCredential>(&Scope::All, 0, Event::Init);
    let mut relist = false;
    for object in objects {
        relist |= index
            .on_watch_event::<MicrosoftGraphCredential>(&Scope::All, 0, Event::InitApply(guard(object)))
            .relist;
    }
    let ended = index.on_watch_event::<MicrosoftGraphCredential>(&Scope::All, 0, Event::InitDone);
    Effects { relist: relist || ended.relist, ..ended }
}

pub(super) fn named(name: &str) -> NamespacedName {
    NamespacedName { namespace: "mail".into(), name: name.into() }
}

pub(super) fn account(name: &str) -> AccountName {
    AccountName { namespace: "mail".into(), name: name.into() }
}

fn location(account_name: &str) -> AccountLocation {
    AccountLocation { account: account(account_name), base_url: "https://a.example".into(), company_id: None }
}

fn listed(name: &str) -> Listed {
    Listed { id: 1, tenant: TENANT.into(), client: CLIENT.into(), name: name.into(), expires_at: None }
}

fn new(name: &str) -> Due {
    Due { object: named(name), is_new: true }
}

fn changed(name: &str) -> Due {
    Due { is_new: false, ..new(name) }
}

fn accounts_of(effects: &Effects) -> Vec<(&str, bool)> {
    effects.accounts.iter().map(|it| (it.account.name.as_str(), it.is_urgent)).collect()
}

#[test]
fn an_object_is_found_by_what_it_references_and_by_nothing_else() {
    let index = index();
    let _ = apply(&index, &object("one", "1", 1, "s"));
    let _ = apply(&index, &object("two", "2", 2, "s"));
    let credential = |name: &str| Referrer::Credential(named(name));
    assert_eq!(index.referrers(&named("s")), [credential("one"), credential("two")]);
    let _ = apply(&index, &object("one", "1", 3, "t"));
    assert_eq!(index.referrers(&named("s")), [credential("two")]);
    assert_eq!(index.secrets(), [named("s"), named("t")]);
    assert_eq!(
        (index.credentials_at(&account("s")).len(), index.credentials_at(&account("x")).len()),
        (1, 0)
    );
}

#[test]
fn an_object_of_the_store_is_found_by_its_record() {
    let index = index();
    let mut object = object("one", "1", 1, "s");
    object.spec.destination = crate::api::Destination::Store(crate::api::StoreDestination::default());
    let _ = apply(&index, &object);
    let record = named(&crate::store::record::record_name(&object));
    assert_eq!(index.owners_of_record(&record), [named("one")]);
    let gone = delete(&index, &object);
    assert_eq!((gone.deleted, index.owners_of_record(&record)), (vec![named("one")], vec![]));
    assert_eq!(index.objects().credentials.keys(), 0, "it leaves no keys behind");
}

#[test]
fn unused_metadata_is_not_kept_and_finalizers_are() {
    let index = index();
    let mut object = object("one", "1", 1, "s");
    let annotations = [
        ("fat".to_owned(), "x".repeat(250_000)),
        (crate::api::RECONCILE_REQUESTED_AT.to_owned(), "y".repeat(250_000)),
    ];
    object.metadata.annotations = Some(annotations.into());
    object.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
    object.metadata.finalizers = Some(vec!["example.com/theirs".into()]);
    let _ = index.on_written(&object);
    let kept = index.get::<MicrosoftGraphCredential>(&named("one")).unwrap();
    let meta = &kept.0.as_ref().unwrap().metadata;
    assert_eq!((meta.labels.as_ref(), meta.finalizers.as_ref()), (None, object.metadata.finalizers.as_ref()));
    assert!(serde_json::to_string(meta).unwrap().len() < 1000, "{meta:?}");
    assert!(
        size_of::<Entry<MicrosoftGraphCredential>>() < 300,
        "{}",
        size_of::<Entry<MicrosoftGraphCredential>>()
    );
    assert!(size_of::<ParsedCredential>() < 1800, "{}", size_of::<ParsedCredential>());
}

#[test]
fn only_changes_that_a_reconcile_reads_make_one_due() {
    let index = index();
    let mut object = object("one", "1", 1, "s");
    assert_eq!(apply(&index, &object).due, [new("one")], "it is new");
    let mut next = |change: &dyn Fn(&mut MicrosoftGraphCredential), version: u64| {
        change(&mut object);
        object.metadata.resource_version = Some(version.to_string());
        object.clone()
    };
    let status = next(&|it| it.status = Some(it.status_or_default()), 2);
    assert!(apply(&index, &status).due.is_empty(), "its status changed");
    let ours = next(&|it| it.metadata.finalizers = Some(vec!["ours".into()]), 3);
    let _ = index.on_written(&ours);
    assert!(apply(&index, &ours).due.is_empty(), "the operator wrote its finalizers");
    let spec = next(&|it| it.metadata.generation = Some(2), 4);
    let sent_at = index.now::<MicrosoftGraphCredential>();
    let _ = index.on_read(&named("one"), sent_at, Some(&spec));
    assert_eq!(
        apply(&index, &spec).due,
        [changed("one")],
        "its spec changed, which a GET had already returned"
    );
}

#[test]
fn a_complete_list_makes_its_objects_due_and_deletes_those_that_it_lacks() {
    let index = index();
    let (a, b) = (object("a", "1", 1, "s"), object("b", "2", 2, "s"));
    let _ = index.on_watch_event::<MicrosoftGraphCredential>(&Scope::All, 0, Event::Init);
    assert!(
        index
            .on_watch_event::<MicrosoftGraphCredential>(&Scope::All, 0, Event::InitApply(guard(&a)))
            .due
            .is_empty()
    );
    assert!(!index.are_credentials_listed());
    assert_eq!(
        index.on_watch_event::<MicrosoftGraphCredential>(&Scope::All, 0, Event::InitDone).due,
        [new("a")]
    );
    assert!(index.are_credentials_listed());
    assert_eq!(list(&index, &[&a, &b]).due, [new("b")]);
    let again = object("b", "3", 4, "s");
    let ended = list(&index, &[&again]);
    assert_eq!((ended.due, ended.deleted, ended.relist), (vec![new("b")], vec![named("a")], false));
    assert_eq!(
        index
            .get::<MicrosoftGraphCredential>(&named("b"))
            .unwrap()
            .0
            .as_ref()
            .unwrap()
            .metadata
            .uid
            .as_deref(),
        Some("3")
    );
}

#[test]
fn a_version_that_went_back_causes_a_new_list() {
    let index = index();
    let (old, new) = (object("a", "1", 5, "s"), object("a", "1", 9, "t"));
    let _ = apply(&index, &new);
    assert!(!index.on_written(&old).relist, "a response may be late");
    assert_eq!(index.referrers(&named("s")), []);
    let sent_at = index.now::<MicrosoftGraphCredential>();
    assert!(index.on_read(&named("a"), sent_at, Some(&old)).relist);
    assert_eq!(index.referrers(&named("s")).len(), 1, "a GET wins");
    let _ = apply(&index, &new);
    assert!(apply(&index, &old).relist);
    let _ = delete(&index, &new);
    assert!(
        apply(&index, &old).deleted.is_empty() && index.all::<MicrosoftGraphCredential>().is_empty(),
        "it was deleted"
    );
    assert!(!list(&index, &[&old]).relist, "a list needs no further list");
    assert_eq!(index.all::<MicrosoftGraphCredential>().len(), 1, "the API server was restored");
}

#[test]
fn after_a_restore_every_object_counts_as_changed() {
    let index = index();
    let a = object("a", "1", 5, "s");
    let list = |round| {
        let _begun = index.on_watch_event::<MicrosoftGraphCredential>(&Scope::All, round, Event::Init);
        let _listed =
            index.on_watch_event::<MicrosoftGraphCredential>(&Scope::All, round, Event::InitApply(guard(&a)));
        index.on_watch_event::<MicrosoftGraphCredential>(&Scope::All, round, Event::InitDone).due
    };
    assert_eq!((list(0), list(0), list(1), list(1)), (vec![new("a")], vec![], vec![changed("a")], vec![]));
}

#[test]
fn a_get_does_not_replace_what_became_known_after_it_was_sent() {
    let index = index();
    let _ = apply(&index, &object("a", "1", 5, "s"));
    let sent_at = index.now::<MicrosoftGraphCredential>();
    let _ = apply(&index, &object("a", "1", 9, "t"));
    let _ = index.on_read(&named("a"), sent_at, Some(&object("a", "1", 5, "s")));
    assert_eq!(index.secrets(), [named("t")]);
    let _ = index.on_read::<MicrosoftGraphCredential>(&named("a"), sent_at, None);
    assert_eq!(index.secrets(), [named("t")]);
    let sent_at = index.now::<MicrosoftGraphCredential>();
    assert_eq!(index.on_read::<MicrosoftGraphCredential>(&named("a"), sent_at, None).deleted, [named("a")]);
}

#[test]
fn an_account_is_in_use_while_deleting_an_object_deletes_something_there() {
    let index = index();
    let object = |version, status, policy| {
        let mut object = with_status(object("x", "u", version, "a"), status);
        object.spec.deletion_policy = Some(policy);
        object
    };
    let retained =
        object(1, json!({"registration": registration("a", 1)}), crate::api::DeletionPolicy::Retain);
    assert_eq!(accounts_of(&apply(&index, &retained)), [("a", false)]);
    assert!(!index.needs_account_for_deletion(&account("a"), |_| true));
    let removed =
        object(2, json!({"registration": registration("a", 1)}), crate::api::DeletionPolicy::Delete);
    assert_eq!(accounts_of(&apply(&index, &removed)), [("a", true)]);
    assert!(index.needs_account_for_deletion(&account("a"), |_| true));
    assert!(
        !index.needs_account_for_deletion(&account("a"), |namespace| namespace != removed.namespace_name())
    );
    assert_eq!(accounts_of(&delete(&index, &removed)), [("a", true)]);
    let begun = object(3, json!({"pendingCreate": pending("a", "t")}), crate::api::DeletionPolicy::Delete);
    let begun = MicrosoftGraphCredential {
        metadata: kube::core::ObjectMeta { uid: Some("v".into()), ..begun.metadata.clone() },
        ..begun
    };
    assert_eq!(accounts_of(&apply(&index, &begun)), [("a", true)], "a create in flight counts too");
}

#[test]
fn a_move_changes_both_accounts_and_leaves_nothing_behind() {
    let index = index();
    let at = |version, status| apply(&index, &with_status(object("x", "u", version, "a"), status));
    assert_eq!(accounts_of(&at(1, json!({"registration": registration("a", 1)}))), [("a", true)]);
    assert!(accounts_of(&at(2, json!({"registration": registration("a", 1)}))).is_empty());
    let moved =
        json!({"registration": registration("b", 2), "previousRegistrations": [registration("a", 1)]});
    assert_eq!(accounts_of(&at(3, moved)), [("a", false), ("b", true)]);
    assert_eq!(
        (index.owned_ids_at(&account("a")), index.registered_ids_at(&account("a"))),
        (vec![1], vec![])
    );
    let _ = at(4, json!({"registration": registration("b", 2)}));
    assert!(index.owned_ids_at(&account("a")).is_empty() && index.has_registrations_at(&account("b")));
}

#[test]
fn a_credential_has_one_owner_whatever_the_name_of_the_account() {
    let index = index();
    let holder =
        with_status(object("x", "u", 1, "a"), json!({"previousRegistrations": [registration("a", 1)]}));
    let _ = apply(&index, &holder);
    let (a, b) = (location("a"), location("b"));
    assert_eq!(index.other_owner("v", CredentialRef::of(&holder, &b, 1)), Some(named("x")));
    assert_eq!(index.other_owner("u", CredentialRef::of(&holder, &a, 1)), None);
    assert!(!index.is_current(CredentialRef::of(&holder, &a, 1)), "it is only a previous registration");
    let another = ANOTHER_CLIENT.parse().unwrap();
    let credential = CredentialRef { client: &another, ..CredentialRef::of(&holder, &a, 1) };
    assert_eq!(index.other_owner("v", credential), None, "two accounts may use the same id");
}

#[test]
fn a_credential_with_the_token_of_a_pending_create_belongs_to_its_object() {
    let index = index();
    let _ =
        apply(&index, &with_status(object("x", "u", 1, "a"), json!({"pendingCreate": pending("a", "abc")})));
    assert_eq!(index.other_creator("v", &listed("odd [ name [abc] more")), Some(named("x")));
    assert_eq!(index.other_creator("u", &listed("n [abc]")), None);
    assert_eq!(index.other_creator("v", &listed("n [abcd] abc")), None);
}

#[test]
fn an_invalid_object_keeps_what_it_owns() {
    let index = index();
    let readable = with_status(object("x", "u", 1, "a"), json!({"registration": registration("a", 1)}));
    let _ = apply(&index, &readable);
    let metadata = kube::core::ObjectMeta { resource_version: Some("2".into()), ..readable.metadata.clone() };
    let error = "odd".repeat(1000);
    let broken = DeserializeGuard(Err(kube::core::error_boundary::InvalidObject { error, metadata }));
    let effects = index.on_watch_event::<MicrosoftGraphCredential>(&Scope::All, 0, Event::Apply(broken));
    assert!(effects.accounts.is_empty() && !index.referrers(&named("a")).is_empty());
    assert_eq!(index.owned_ids_at(&account("a")), [1]);
    let status = serde_json::from_value(json!({"registration": registration("b", 2)})).unwrap();
    assert_eq!(accounts_of(&index.record_unreadable_status("u", &status, true)), [("a", true), ("b", true)]);
    assert_eq!(index.owned_ids_at(&account("b")), [2]);
    let _ = delete(&index, &readable);
    assert_eq!(index.objects().credentials.keys(), 0);
}

#[test]
fn an_object_that_was_never_readable_is_unread_until_its_status_is_read() {
    let index = index();
    let readable = object("x", "u", 1, "a");
    for version in ["1", "2"] {
        let metadata =
            kube::core::ObjectMeta { resource_version: Some(version.into()), ..readable.metadata.clone() };
        let error = "odd".to_owned();
        let broken = DeserializeGuard(Err(kube::core::error_boundary::InvalidObject { error, metadata }));
        let _ = index.on_watch_event::<MicrosoftGraphCredential>(&Scope::All, 0, Event::Apply(broken));
        assert!(index.has_unread_credential(), "{version}");
    }
    let _ = index.record_unreadable_status("u", &serde_json::from_value(json!({})).unwrap(), true);
    assert!(!index.has_unread_credential());
    let _ = apply(&index, &object("x", "u", 3, "a"));
    assert!(!index.has_unread_credential());
}

#[tokio::test(start_paused = true)]
async fn the_state_of_an_object_is_deleted_with_it() {
    let index = index();
    let settle = Duration::from_secs(120);
    let object = object("a", "1", 1, "s");
    let _ = apply(&index, &object);
    index.with("1", |known| known.account_changed = true);
    assert_eq!(index.settles_in("1", |known| &mut known.create, Some("t"), settle), settle);
    tokio::time::advance(settle).await;
    assert_eq!(index.settles_in("1", |known| &mut known.create, Some("t"), settle), Duration::ZERO);
    let _ = delete(&index, &object);
    let _ = apply(&index, &super::tests::object("a", "2", 3, "s"));
    assert_eq!(index.with("2", |known| known.account_changed), Some(false));
    assert_eq!(
        index.settles_in("1", |known| &mut known.create, Some("t"), settle),
        settle,
        "its beginning is unknown"
    );
}
