//! What the index answers, and what follows from news.

mod claims;

use jiff::Timestamp;
use kube::core::DeserializeGuard;
use serde_json::{Value, json};

use super::entry::Entry;
use super::*;
use crate::resources::Place;
use crate::woodpecker::Entry as Listed;

pub(super) const TENANT: &str = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32";
pub(super) const CLIENT: &str = "e1c6ac69-480e-4a17-9b85-3467967bd179";
const ANOTHER_CLIENT: &str = "00000000-480e-4a17-9b85-3467967bd179";

/// An object named and made as these say, with a Secret and an account of the same name as `points_to`.
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
        "registeredAt": "2026-11-28T23:59:59Z"
    })
}

pub(super) fn pending(account: &str, token: &str) -> Value {
    json!({
        "token": token, "since": "2026-11-28T23:59:59Z", "ids": [], "baseUrl": "https://a.example",
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

pub(super) fn guard(object: &MicrosoftGraphCredential) -> GuardedCredential {
    DeserializeGuard(Ok(object.clone()))
}

pub(super) fn apply(index: &Index, object: &MicrosoftGraphCredential) -> Effects {
    index.note::<MicrosoftGraphCredential>(&Scope::All, 0, Event::Apply(guard(object)))
}

fn delete(index: &Index, object: &MicrosoftGraphCredential) -> Effects {
    index.note::<MicrosoftGraphCredential>(&Scope::All, 0, Event::Delete(guard(object)))
}

fn list(index: &Index, objects: &[&MicrosoftGraphCredential]) -> Effects {
    let _begun = index.note::<MicrosoftGraphCredential>(&Scope::All, 0, Event::Init);
    let mut relist = false;
    for object in objects {
        relist |=
            index.note::<MicrosoftGraphCredential>(&Scope::All, 0, Event::InitApply(guard(object))).relist;
    }
    let ended = index.note::<MicrosoftGraphCredential>(&Scope::All, 0, Event::InitDone);
    Effects { relist: relist || ended.relist, ..ended }
}

pub(super) fn named(name: &str) -> Named {
    Named { namespace: "mail".into(), name: name.into() }
}

pub(super) fn account(name: &str) -> AccountName {
    AccountName { namespace: "mail".into(), name: name.into() }
}

fn place(account_name: &str) -> Place {
    Place { account: account(account_name), base_url: "https://a.example".into(), company_id: None }
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
fn an_object_is_found_by_what_it_points_to_and_by_nothing_else() {
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
    object.spec.destination =
        crate::resources::Destination::Store(crate::resources::StoreDestination::default());
    let _ = apply(&index, &object);
    let record = named(&crate::store::record::record_name(&object));
    assert_eq!(index.credentials_sealed_in(&record), [named("one")]);
    let gone = delete(&index, &object);
    assert_eq!((gone.gone, index.credentials_sealed_in(&record)), (vec![named("one")], vec![]));
    assert_eq!(index.objects().credentials.keys(), 0, "nothing is left of it");
}

#[test]
fn what_nobody_reads_is_not_kept_and_finalizers_are() {
    let index = index();
    let mut object = object("one", "1", 1, "s");
    let annotations = [
        ("fat".to_owned(), "x".repeat(250_000)),
        (crate::resources::RECONCILE_REQUESTED_AT.to_owned(), "y".repeat(250_000)),
    ];
    object.metadata.annotations = Some(annotations.into());
    object.metadata.labels = Some([("a".to_owned(), "b".to_owned())].into());
    object.metadata.finalizers = Some(vec!["example.com/theirs".into()]);
    let _ = index.note_written(&object);
    let kept = index.get::<MicrosoftGraphCredential>(&named("one")).unwrap();
    let meta = &kept.0.as_ref().unwrap().metadata;
    assert_eq!((meta.labels.as_ref(), meta.finalizers.as_ref()), (None, object.metadata.finalizers.as_ref()));
    assert!(serde_json::to_string(meta).unwrap().len() < 1000, "{meta:?}");
    assert!(
        size_of::<Entry<MicrosoftGraphCredential>>() < 300,
        "{}",
        size_of::<Entry<MicrosoftGraphCredential>>()
    );
    assert!(size_of::<GuardedCredential>() < 1800, "{}", size_of::<GuardedCredential>());
}

#[test]
fn only_what_a_reconcile_looks_at_makes_one_due() {
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
    let _ = index.note_written(&ours);
    assert!(apply(&index, &ours).due.is_empty(), "its finalizers are what we have written");
    let spec = next(&|it| it.metadata.generation = Some(2), 4);
    let asked = index.moment::<MicrosoftGraphCredential>();
    let _ = index.note_read(&named("one"), asked, Some(&spec));
    assert_eq!(apply(&index, &spec).due, [changed("one")], "its spec changed, which a GET has seen before");
}

#[test]
fn what_a_list_brings_is_due_once_it_is_complete_and_what_it_lacks_is_gone() {
    let index = index();
    let (a, b) = (object("a", "1", 1, "s"), object("b", "2", 2, "s"));
    let _ = index.note::<MicrosoftGraphCredential>(&Scope::All, 0, Event::Init);
    assert!(
        index.note::<MicrosoftGraphCredential>(&Scope::All, 0, Event::InitApply(guard(&a))).due.is_empty()
    );
    assert!(!index.are_credentials_listed());
    assert_eq!(index.note::<MicrosoftGraphCredential>(&Scope::All, 0, Event::InitDone).due, [new("a")]);
    assert!(index.are_credentials_listed());
    assert_eq!(list(&index, &[&a, &b]).due, [new("b")]);
    let again = object("b", "3", 4, "s");
    let ended = list(&index, &[&again]);
    assert_eq!((ended.due, ended.gone, ended.relist), (vec![new("b")], vec![named("a")], false));
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
fn a_version_that_went_back_has_everything_listed_again() {
    let index = index();
    let (old, new) = (object("a", "1", 5, "s"), object("a", "1", 9, "t"));
    let _ = apply(&index, &new);
    assert!(!index.note_written(&old).relist, "an answer may be late");
    assert_eq!(index.referrers(&named("s")), []);
    let asked = index.moment::<MicrosoftGraphCredential>();
    assert!(index.note_read(&named("a"), asked, Some(&old)).relist);
    assert_eq!(index.referrers(&named("s")).len(), 1, "a GET wins");
    let _ = apply(&index, &new);
    assert!(apply(&index, &old).relist);
    let _ = delete(&index, &new);
    assert!(
        apply(&index, &old).gone.is_empty() && index.all::<MicrosoftGraphCredential>().is_empty(),
        "it is gone for good"
    );
    assert!(!list(&index, &[&old]).relist, "a list needs no other one");
    assert_eq!(index.all::<MicrosoftGraphCredential>().len(), 1, "the API server was restored");
}

#[test]
fn after_a_restore_every_object_counts_as_changed() {
    let index = index();
    let a = object("a", "1", 5, "s");
    let list = |round| {
        let _begun = index.note::<MicrosoftGraphCredential>(&Scope::All, round, Event::Init);
        let _listed = index.note::<MicrosoftGraphCredential>(&Scope::All, round, Event::InitApply(guard(&a)));
        index.note::<MicrosoftGraphCredential>(&Scope::All, round, Event::InitDone).due
    };
    assert_eq!((list(0), list(0), list(1), list(1)), (vec![new("a")], vec![], vec![changed("a")], vec![]));
}

#[test]
fn a_get_counts_against_nothing_that_became_known_since_it_was_sent() {
    let index = index();
    let _ = apply(&index, &object("a", "1", 5, "s"));
    let asked = index.moment::<MicrosoftGraphCredential>();
    let _ = apply(&index, &object("a", "1", 9, "t"));
    let _ = index.note_read(&named("a"), asked, Some(&object("a", "1", 5, "s")));
    assert_eq!(index.secrets(), [named("t")]);
    let _ = index.note_read::<MicrosoftGraphCredential>(&named("a"), asked, None);
    assert_eq!(index.secrets(), [named("t")]);
    let asked = index.moment::<MicrosoftGraphCredential>();
    assert_eq!(index.note_read::<MicrosoftGraphCredential>(&named("a"), asked, None).gone, [named("a")]);
}

#[test]
fn an_account_is_in_use_while_something_there_is_to_be_removed_with_its_object() {
    let index = index();
    let object = |version, status, policy| {
        let mut object = with_status(object("x", "u", version, "a"), status);
        object.spec.deletion_policy = Some(policy);
        object
    };
    let retained =
        object(1, json!({"registration": registration("a", 1)}), crate::resources::DeletionPolicy::Retain);
    assert_eq!(accounts_of(&apply(&index, &retained)), [("a", false)]);
    assert!(!index.are_to_be_removed_at(&account("a")));
    let removed =
        object(2, json!({"registration": registration("a", 1)}), crate::resources::DeletionPolicy::Delete);
    assert_eq!(accounts_of(&apply(&index, &removed)), [("a", true)]);
    assert!(index.are_to_be_removed_at(&account("a")));
    assert_eq!(accounts_of(&delete(&index, &removed)), [("a", true)]);
    let begun = object(3, json!({"pending": pending("a", "t")}), crate::resources::DeletionPolicy::Delete);
    let begun = MicrosoftGraphCredential {
        metadata: kube::core::ObjectMeta { uid: Some("v".into()), ..begun.metadata.clone() },
        ..begun
    };
    assert_eq!(accounts_of(&apply(&index, &begun)), [("a", true)], "by a create under way as well");
}

#[test]
fn a_move_changes_both_accounts_and_leaves_nothing_behind() {
    let index = index();
    let at = |version, status| apply(&index, &with_status(object("x", "u", version, "a"), status));
    assert_eq!(accounts_of(&at(1, json!({"registration": registration("a", 1)}))), [("a", true)]);
    assert!(accounts_of(&at(2, json!({"registration": registration("a", 1)}))).is_empty());
    let moved = json!({"registration": registration("b", 2), "retiring": [registration("a", 1)]});
    assert_eq!(accounts_of(&at(3, moved)), [("a", false), ("b", true)]);
    assert_eq!((index.ids_at(&account("a")), index.registered_at(&account("a"))), (vec![1], vec![]));
    let _ = at(4, json!({"registration": registration("b", 2)}));
    assert!(index.ids_at(&account("a")).is_empty() && index.is_registered_at(&account("b")));
}

#[test]
fn a_credential_has_one_holder_whatever_the_account_is_called() {
    let index = index();
    let holder = with_status(object("x", "u", 1, "a"), json!({"retiring": [registration("a", 1)]}));
    let _ = apply(&index, &holder);
    let (a, b) = (place("a"), place("b"));
    assert_eq!(index.other_holder("v", Kin::of(&holder, &b, 1)), Some(named("x")));
    assert_eq!(index.other_holder("u", Kin::of(&holder, &a, 1)), None);
    assert!(!index.is_current(Kin::of(&holder, &a, 1)), "it is on its way out");
    let another = ANOTHER_CLIENT.parse().unwrap();
    let kin = Kin { client: &another, ..Kin::of(&holder, &a, 1) };
    assert_eq!(index.other_holder("v", kin), None, "one id may stand for two credentials at two accounts");
}

#[test]
fn what_a_create_under_way_has_made_is_its_objects() {
    let index = index();
    let _ = apply(&index, &with_status(object("x", "u", 1, "a"), json!({"pending": pending("a", "abc")})));
    assert_eq!(index.other_maker("v", &listed("odd [ name [abc] more")), Some(named("x")));
    assert_eq!(index.other_maker("u", &listed("n [abc]")), None);
    assert_eq!(index.other_maker("v", &listed("n [abcd] abc")), None);
}

#[test]
fn an_object_that_cannot_be_read_keeps_what_it_holds() {
    let index = index();
    let readable = with_status(object("x", "u", 1, "a"), json!({"registration": registration("a", 1)}));
    let _ = apply(&index, &readable);
    let metadata = kube::core::ObjectMeta { resource_version: Some("2".into()), ..readable.metadata.clone() };
    let error = "odd".repeat(1000);
    let broken = DeserializeGuard(Err(kube::core::error_boundary::InvalidObject { error, metadata }));
    let effects = index.note::<MicrosoftGraphCredential>(&Scope::All, 0, Event::Apply(broken));
    assert!(effects.accounts.is_empty() && !index.referrers(&named("a")).is_empty());
    assert_eq!(index.ids_at(&account("a")), [1]);
    let status = serde_json::from_value(json!({"registration": registration("b", 2)})).unwrap();
    assert_eq!(accounts_of(&index.note_unreadable("u", &status, true)), [("a", true), ("b", true)]);
    assert_eq!(index.ids_at(&account("b")), [2]);
    let _ = delete(&index, &readable);
    assert_eq!(index.objects().credentials.keys(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_known_of_an_object_ends_with_it() {
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
        "nobody knows since when"
    );
}
