//! Whose apps are changed, and by which object.

use kit::api_proxy::WriteFailure;

use super::*;

const TENANT_B: &str = "bbbbbbbb-aaf4-4f7c-9dc2-2c9160d1cb32";
const CLIENT_B: &str = "bbbbbbbb-480e-4a17-9b85-3467967bd179";

#[tokio::test]
async fn no_client_secret_is_created_for_a_namespace_that_no_grant_names() {
    let (mut env, graph) = bare().await;
    let namespace_b = env.cluster.create_namespace("b").await.expect("a namespace can be created");
    env.extra_args.push(format!("--watch-namespace={namespace_b}"));
    env.start_operator().await;
    own(&env, &graph, TENANT_B, CLIENT_B);
    env.entra.set_secrets(TENANT_B, IDENTITY, &["identity-secret"]);
    // The identity owns the apps of both clients, and each has a grant for its own.
    let grants = json!([grant(&env.namespace, TENANT, CLIENT), grant(&namespace_b, TENANT_B, CLIENT_B)]);
    identity(&env, grants).await;
    env.account("agency", json!({})).await;
    let of_b = json!({
        "tenantId": TENANT_B, "clientId": CLIENT_B, "entra": {"identityRef": {"name": "rotator"}}, "rotation": {},
        "destination": {"woodpecker": {"accountRef": {"name": "agency"}}}
    });
    let of_b: MicrosoftGraphCredential = serde_json::from_value(
        json!({"metadata": {"name": "sales-b", "namespace": namespace_b}, "spec": of_b}),
    )
    .unwrap();
    let api_b =
        kube::Api::<MicrosoftGraphCredential>::namespaced(env.cluster.client().unwrap(), &namespace_b);
    // Client A names the app of client B, and its own account.
    let mut spec = rotating();
    merge(&mut spec, json!({"tenantId": TENANT_B, "clientId": CLIENT_B, "rotation": {}}));
    env.credential("takes-b", spec).await;
    let object =
        env.wait_for("takes-b", ConditionType::RotationReady, ConditionStatus::False, "GrantMissing").await;
    let text = message(&object, ConditionType::RotationReady);
    for part in [env.namespace.as_str(), TENANT_B, CLIENT_B, "rotator"] {
        assert!(text.contains(part), "{text}");
    }
    env.request_reconcile("takes-b").await;
    annotate(&env, "takes-b", json!({"graph-credentials.io/rotate-requested-at": "1"})).await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(graph.count(TENANT_B, CLIENT_B), 0, "{:?}", graph.requests());
    assert!(graph.history(TENANT_B, CLIENT_B).is_empty());
    assert!(env.remote().is_empty());

    // The older object of client A neither blocks client B, nor learns of its object.
    api_b.create(&kube::api::PostParams::default(), &of_b).await.expect("client B can create its own");
    eventually("client B has its client secret", || async {
        let count = graph.history(TENANT_B, CLIENT_B).len();
        if count == 1 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
    env.request_reconcile("takes-b").await;
    tokio::time::sleep(QUIET_TIME).await;
    let text = serde_json::to_string(&env.read("takes-b").await.status).unwrap();
    assert!(text.contains("GrantMissing") && !text.contains("sales-b"), "{text}");

    // Its own app is rotated.
    env.credential("sales-eu", rotating()).await;
    env.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn a_grant_that_is_removed_ends_rotations_and_the_registered_client_secret_stays() {
    let (env, graph) = start().await;
    env.credential("sales-eu", rotating()).await;
    env.wait_until_ready("sales-eu").await;
    identity(&env, json!([])).await;
    env.wait_for("sales-eu", ConditionType::RotationReady, ConditionStatus::False, "GrantMissing").await;
    let requests = graph.requests().len();
    annotate(&env, "sales-eu", json!({"graph-credentials.io/rotate-requested-at": "1"})).await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(graph.requests().len(), requests);
    env.wait_until_ready("sales-eu").await;
    identity(&env, json!([grant(&env.namespace, TENANT, CLIENT)])).await;
    eventually("the request is handled", || async {
        let count = graph.history(TENANT, CLIENT).len();
        if count == 2 { Ok(()) } else { Err(count.to_string()) }
    })
    .await;
    assert_sound(&env, &["sales-eu"]).await;
}

#[tokio::test]
async fn one_object_rotates_an_app() {
    let (env, graph) = start().await;
    env.account("second", json!({})).await;
    env.credential("sales-eu", rotating()).await;
    env.wait_until_ready("sales-eu").await;
    let mut spec = rotating();
    merge(&mut spec, json!({"destination": {"woodpecker": {"accountRef": {"name": "second"}}}}));
    env.credential("also", spec).await;
    env.wait_for("also", ConditionType::RotationReady, ConditionStatus::False, "AlreadyManaged").await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(graph.history(TENANT, CLIENT).len(), 1);
}

#[tokio::test]
async fn what_prevents_a_client_secret_is_said_and_retried() {
    let (env, graph) = start().await;
    graph.remove_owner(TENANT, CLIENT, IDENTITY);
    env.credential("sales-eu", rotating()).await;
    let object = env
        .wait_for("sales-eu", ConditionType::RotationReady, ConditionStatus::False, "WriteForbidden")
        .await;
    assert!(message(&object, ConditionType::RotationReady).contains("Application.ReadWrite.OwnedBy"));
    env.wait_for("sales-eu", ConditionType::Ready, ConditionStatus::False, "CreationPending").await;
    assert_eq!(rotation(&object).attempt, None, "nothing was created");
    let policy = kit::graph::Policy::LongerThan(std::time::Duration::from_hours(24));
    graph.add_owner(TENANT, CLIENT, IDENTITY);
    graph.set_rules(TENANT, CLIENT, kit::graph::AppRules { policy: Some(policy), ..Default::default() });
    env.request_reconcile("sales-eu").await;
    env.wait_for("sales-eu", ConditionType::RotationReady, ConditionStatus::False, "LifetimeNotAllowed")
        .await;
    let rules = kit::graph::AppRules { policy: Some(kit::graph::Policy::Secrets), ..Default::default() };
    graph.set_rules(TENANT, CLIENT, rules);
    env.request_reconcile("sales-eu").await;
    env.wait_for("sales-eu", ConditionType::RotationReady, ConditionStatus::False, "SecretsNotAllowed").await;
    graph.set_rules(
        TENANT,
        CLIENT,
        kit::graph::AppRules { allows_personal_accounts: true, ..Default::default() },
    );
    for name in ["one", "two"] {
        graph.add_by_hand(TENANT, CLIENT, name, "2027-11-28T10:00:00Z").unwrap();
    }
    env.request_reconcile("sales-eu").await;
    env.wait_for("sales-eu", ConditionType::RotationReady, ConditionStatus::False, "TooManySecrets").await;
    graph.set_rules(TENANT, CLIENT, kit::graph::AppRules::default());
    env.request_reconcile("sales-eu").await;
    env.wait_until_ready("sales-eu").await;
}

#[tokio::test]
async fn an_app_without_room_for_the_next_client_secret_is_reported_at_once() {
    let (env, graph) = start().await;
    graph.set_rules(
        TENANT,
        CLIENT,
        kit::graph::AppRules { allows_personal_accounts: true, ..Default::default() },
    );
    let other = graph.add_by_hand(TENANT, CLIENT, "by hand", "2027-11-28T10:00:00Z").unwrap();
    env.credential("sales-eu", rotating()).await;
    env.wait_until_ready("sales-eu").await;
    env.wait_for("sales-eu", ConditionType::RotationReady, ConditionStatus::False, "TooManySecrets").await;
    assert!(graph.remove_by_hand(TENANT, CLIENT, &other.key_id));
    env.request_reconcile("sales-eu").await;
    env.wait_for("sales-eu", ConditionType::RotationReady, ConditionStatus::True, "RotationScheduled").await;
}

#[tokio::test]
async fn a_deleted_identity_stays_until_client_secrets_are_removed_with_it() {
    let (env, graph) = start().await;
    let mut spec = rotating();
    merge(&mut spec, json!({"deletionPolicy": "Delete"}));
    env.credential("sales-eu", spec).await;
    env.wait_until_ready("sales-eu").await;
    let identities = env.api::<EntraIdentity>();
    identities
        .delete("rotator", &kube::api::DeleteParams::default())
        .await
        .expect("a deletion can be requested");
    env.wait_for("sales-eu", ConditionType::RotationReady, ConditionStatus::False, "IdentityNotReady").await;
    tokio::time::sleep(QUIET_TIME).await;
    assert!(identities.get_opt("rotator").await.unwrap().is_some(), "client secrets are left");
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    assert!(graph.live_secrets(TENANT, CLIENT).is_empty(), "{:?}", graph.live_secrets(TENANT, CLIENT));
    eventually("the identity is gone", || async {
        match identities.get_opt("rotator").await.unwrap() {
            None => Ok(()),
            Some(identity) => Err(format!("{:?}", identity.metadata)),
        }
    })
    .await;
}

#[tokio::test]
async fn an_object_from_before_its_grant_begins_once_there_is_one() {
    let (mut env, graph) = bare().await;
    env.start_operator().await;
    env.account("agency", json!({})).await;
    env.credential("sales-eu", rotating()).await;
    env.wait_for("sales-eu", ConditionType::RotationReady, ConditionStatus::False, "GrantMissing").await;
    identity(&env, json!([grant(&env.namespace, TENANT, CLIENT)])).await;
    env.wait_until_ready("sales-eu").await;
    assert_eq!(graph.live_secrets(TENANT, CLIENT).len(), 1);
}

#[tokio::test]
async fn no_client_secret_is_created_while_the_identity_cannot_be_protected() {
    let (env, graph, proxy) = start_behind_proxy().await;
    proxy.fail_writes("/entraidentities/rotator", 1000, WriteFailure::Rejected);
    env.credential("sales-eu", rotating()).await;
    eventually("the finalizer could not be set, several times", || async {
        let failed = proxy.failed_writes();
        let of_object = failed.iter().filter(|(path, _)| path.ends_with("/entraidentities/rotator")).count();
        if of_object >= 3 { Ok(()) } else { Err(format!("{failed:?}")) }
    })
    .await;
    assert!(graph.history(TENANT, CLIENT).is_empty(), "{:?}", graph.history(TENANT, CLIENT));
    // The status says so, and does not stop at what it said before.
    let unknown = ConditionStatus::Unknown;
    env.wait_for("sales-eu", ConditionType::RotationReady, unknown, "IdentityNotReady").await;
    proxy.end_write_failures();
    env.wait_until_ready("sales-eu").await;
    let identities = env.api::<EntraIdentity>();
    let is_protected = || async {
        let finalizers = identities.get("rotator").await.unwrap().metadata.finalizers.unwrap_or_default();
        if finalizers.len() == 1 { Ok(()) } else { Err(format!("{finalizers:?}\n{}", env.log())) }
    };
    assert_eq!(is_protected().await, Ok(()));
    // As after a restore.
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    identities.patch("rotator", &PatchParams::default(), &patch).await.unwrap();
    eventually("it is protected again", is_protected).await;
    assert_eq!(graph.live_secrets(TENANT, CLIENT).len(), 1);
    assert_sound(&env, &["sales-eu"]).await;
}
