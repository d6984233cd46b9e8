//! Which apps are read, and with which permissions.

use graph_credential_operator::api::{Cloud, RECONCILE_REQUESTED_AT};
use kit::api_proxy::{ApiProxy, write_kubeconfig};
use kit::cluster::User;

use super::*;

#[tokio::test]
async fn no_app_is_read_for_a_namespace_that_no_grant_names() {
    const TENANT_B: &str = "bbbbbbbb-aaf4-4f7c-9dc2-2c9160d1cb32";
    const CLIENT_B: &str = "bbbbbbbb-480e-4a17-9b85-3467967bd179";
    let (mut env, graph) = bare().await;
    let namespace_b = env.cluster.create_namespace("b").await.expect("a namespace can be created");
    env.extra_args.push(format!("--watch-namespace={namespace_b}"));
    env.start_operator().await;
    env.entra.set_secrets(TENANT_B, IDENTITY, &["identity-secret"]);
    env.entra.set_roles(TENANT_B, IDENTITY, &["Application.Read.All"]);
    env.entra.set_secrets(TENANT_B, CLIENT_B, &["b-secret"]);
    graph.set_application(TENANT, CLIENT, &[entry(SAME_DAY)]);
    graph.set_application(TENANT_B, CLIENT_B, &[PasswordEntry::of(OTHER_KEY, "b-secret", EARLIER)]);
    // An identity that reads the apps of both, each for its own namespace.
    let grants = json!([grant(&env.namespace, TENANT, CLIENT), grant(&namespace_b, TENANT_B, CLIENT_B)]);
    identity(&env, grants).await;
    env.account("agency", json!({})).await;
    // Client A names the tenant and the app of client B. It even has a secret that works.
    env.secret("stolen", &[("client_secret", "b-secret"), ("secret_expires_at", EXPIRY)]).await;
    for mode in ["Check", "Follow"] {
        let mut spec = entra(mode);
        merge(
            &mut spec,
            json!({"tenantId": TENANT_B, "clientId": CLIENT_B, "secretRef": {"name": "stolen"}, "destination": {"woodpecker": null, "store": {}}}),
        );
        let name = format!("takes-b-{}", mode.to_lowercase());
        env.credential(&name, spec).await;
        let object = env
            .wait_for(&name, ConditionType::ExpiryConfirmed, ConditionStatus::Unknown, "GrantMissing")
            .await;
        let text = message(&object, ConditionType::ExpiryConfirmed);
        for part in [env.namespace.as_str(), TENANT_B, CLIENT_B, "reader"] {
            assert!(text.contains(part), "{text}");
        }
        assert!(!text.contains("2027-05-01"), "nothing is said about the app: {text}");
        assert_eq!(object.status.as_ref().unwrap().entra, None);
        reconcile(&env, &name).await;
    }
    let ready = env.wait_until("takes-b-follow", "it waits", |object| {
        condition(object, ConditionType::Ready).is_some_and(|ready| ready.reason == "AwaitingExpiry")
    });
    ready.await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(graph.count(TENANT_B, CLIENT_B), 0, "{:?}", graph.requests());

    // In its own namespace, the app is read.
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.credential("sales-eu", entra("Check")).await;
    wait_for(&env, ConditionStatus::True, "ExpiryMatches").await;
    assert_eq!(graph.count(TENANT_B, CLIENT_B), 0);
}

#[tokio::test]
async fn a_grant_that_is_removed_ends_the_readings_and_one_that_is_added_begins_them() {
    let (env, graph) = start().await;
    graph.set_application(TENANT, CLIENT, &[entry(SAME_DAY)]);
    env.credential("sales-eu", entra("Check")).await;
    wait_for(&env, ConditionStatus::True, "ExpiryMatches").await;
    identity(&env, json!([])).await;
    wait_for(&env, ConditionStatus::Unknown, "GrantMissing").await;
    let count = graph.requests().len();
    reconcile(&env, "sales-eu").await;
    assert_eq!(graph.requests().len(), count);
    env.wait_until_ready("sales-eu").await;
    identity(&env, json!([grant(&env.namespace, TENANT, CLIENT)])).await;
    wait_for(&env, ConditionStatus::True, "ExpiryMatches").await;
    env.api::<EntraIdentity>().delete("reader", &kube::api::DeleteParams::default()).await.expect("deleted");
    wait_for(&env, ConditionStatus::Unknown, "GrantMissing").await;
}

#[tokio::test]
async fn an_identity_that_may_only_list_apps_reads_from_the_list() {
    let (env, graph) = start_with(&["Application.ReadWrite.OwnedBy"]).await;
    graph.forbid_single_reads();
    graph.set_application(TENANT, CLIENT, &[entry(SAME_DAY)]);
    env.credential("sales-eu", entra("Check")).await;
    wait_for(&env, ConditionStatus::True, "ExpiryMatches").await;
    let ops: Vec<Op> = graph.requests().iter().map(|request| request.op).collect();
    assert_eq!(ops, [Op::Application, Op::ListApplications]);
    read_again(&env, &graph).await;
    assert!(graph.requests()[2..].iter().all(|request| request.op == Op::ListApplications));
}

#[tokio::test]
async fn a_permission_that_is_granted_later_is_used() {
    let (env, graph) = start_with(&[]).await;
    graph.set_application(TENANT, CLIENT, &[entry(SAME_DAY)]);
    env.credential("sales-eu", entra("Check")).await;
    wait_for(&env, ConditionStatus::Unknown, "ReadForbidden").await;
    env.entra.set_roles(TENANT, IDENTITY, &["Application.Read.All"]);
    wait_for(&env, ConditionStatus::True, "ExpiryMatches").await;
}

/// Another app of the tenant, and its object in the store.
async fn another(env: &TestEnv, graph: &Graph, name: &str, client: &str) {
    env.entra.add_app(TENANT, client);
    env.entra.set_secrets(TENANT, client, &["s3cret-one"]);
    graph.set_application(TENANT, client, &[entry(SAME_DAY)]);
    let mut spec = entra("Check");
    merge(&mut spec, json!({"clientId": client, "destination": {"woodpecker": null, "store": {}}}));
    env.credential(name, spec).await;
}

async fn wait_for_reason(env: &TestEnv, name: &str, reason: &str) -> MicrosoftGraphCredential {
    env.wait_until(name, reason, |object| {
        condition(object, ConditionType::ExpiryConfirmed).is_some_and(|it| it.reason == reason)
    })
    .await
}

#[tokio::test]
async fn a_grant_that_is_removed_ends_the_readings_although_the_watch_is_late() {
    let (mut env, graph) = bare().await;
    let proxy = ApiProxy::start(env.cluster.client_for(User::Operator).unwrap()).await.unwrap();
    let kubeconfig = env.cluster.dir().join(format!("{}-proxy.kubeconfig", env.namespace));
    write_kubeconfig(&kubeconfig, &proxy.url(), None).unwrap();
    env.user = Some(kubeconfig);
    env.start_operator().await;
    identity(&env, json!([grant(&env.namespace, TENANT, CLIENT)])).await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({})).await;
    graph.set_application(TENANT, CLIENT, &[entry(SAME_DAY)]);
    env.credential("sales-eu", entra("Check")).await;
    wait_for(&env, ConditionStatus::True, "ExpiryMatches").await;

    proxy.hold_watches("entraidentities");
    identity(&env, json!([])).await;
    let count = graph.requests().len();
    let object = reconcile(&env, "sales-eu").await;
    assert_eq!(condition(&object, ConditionType::ExpiryConfirmed).unwrap().reason, "GrantMissing");
    // What was read has precedence over the watch from then on.
    let mut renamed = entra("Check");
    merge(&mut renamed, json!({"displayName": "another name"}));
    env.credential("sales-eu", renamed).await;
    env.wait_until_ready("sales-eu").await;
    wait_for(&env, ConditionStatus::Unknown, "GrantMissing").await;
    assert_eq!(graph.requests().len(), count, "{:?}", graph.requests());
    proxy.release_watches();
    identity(&env, json!([grant(&env.namespace, TENANT, CLIENT)])).await;
    wait_for(&env, ConditionStatus::True, "ExpiryMatches").await;
}

#[tokio::test]
async fn grants_that_change_while_the_operator_is_down_take_effect_at_its_start() {
    const LOSES: &str = "00000001-480e-4a17-9b85-3467967bd179";
    const GAINS: &str = "00000002-480e-4a17-9b85-3467967bd179";
    const NEVER: &str = "00000003-480e-4a17-9b85-3467967bd179";
    let (mut env, graph) = start().await;
    let granted = |clients: &[&str]| json!([{"namespaces": [env.namespace.clone()], "tenantId": TENANT, "clientIds": clients}]);
    let (before, after) = (granted(&[CLIENT, LOSES]), granted(&[CLIENT, GAINS]));
    identity(&env, before).await;
    graph.set_application(TENANT, CLIENT, &[entry(SAME_DAY)]);
    env.credential("sales-eu", entra("Check")).await;
    for (name, client) in [("loses", LOSES), ("gains", GAINS), ("never", NEVER)] {
        another(&env, &graph, name, client).await;
    }
    wait_for(&env, ConditionStatus::True, "ExpiryMatches").await;
    for (name, reason) in [("loses", "ExpiryMatches"), ("gains", "GrantMissing"), ("never", "GrantMissing")] {
        wait_for_reason(&env, name, reason).await;
        env.wait_until_ready(name).await;
    }
    env.stop_operator().await;
    identity(&env, after).await;
    let mark = env.cluster.audit_mark().expect("the audit log can be read");
    env.start_operator().await;
    wait_for_reason(&env, "loses", "GrantMissing").await;
    wait_for_reason(&env, "gains", "ExpiryMatches").await;
    tokio::time::sleep(QUIET_TIME).await;
    assert_eq!(graph.count(TENANT, LOSES), 1, "{:?}", graph.requests());
    assert_eq!((graph.count(TENANT, CLIENT), graph.count(TENANT, NEVER)), (1, 0));
    let writes = env.status_writes(mark);
    let of = |name: &str| writes.iter().filter(|it| it.contains(&format!("Some(\"{name}\")"))).count();
    assert_eq!((of("loses"), of("gains")), (1, 1), "{writes:?}");
    assert_eq!((of("sales-eu"), of("never")), (0, 0), "{writes:?}");
}

#[tokio::test]
async fn a_namespace_without_a_grant_does_not_learn_which_identities_there_are() {
    let (env, graph) = start().await;
    graph.set_application(TENANT, CLIENT, &[entry(SAME_DAY)]);
    // One that exists and is for another cloud, one that is being deleted, and one that does not exist.
    identity(&env, json!([])).await;
    let patch = json!({"metadata": {"finalizers": ["example.com/keep"]}});
    let identities = env.api::<EntraIdentity>();
    identities.patch("reader", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    let mut other = identities.get("reader").await.unwrap().spec;
    other.cloud = Some(Cloud::China);
    env.apply::<EntraIdentity>("other", json!({"spec": other})).await.unwrap();
    identities.delete("reader", &kube::api::DeleteParams::default()).await.expect("it is deleted later");
    let message_for = async |name: &str| {
        let mut spec = entra("Check");
        merge(&mut spec, json!({"entra": {"identityRef": {"name": name}}}));
        env.credential("sales-eu", spec).await;
        let text = |object: &MicrosoftGraphCredential| {
            let condition = condition(object, ConditionType::ExpiryConfirmed)?;
            condition.message.contains(&format!(" {name} ")).then(|| condition.message.clone())
        };
        let object = env.wait_until("sales-eu", name, |object| text(object).is_some()).await;
        assert_eq!(condition(&object, ConditionType::ExpiryConfirmed).unwrap().reason, "GrantMissing");
        text(&object).unwrap().replace(name, "NAME")
    };
    let missing = message_for("missing").await;
    assert_eq!(message_for("other").await, missing);
    assert_eq!(message_for("reader").await, missing);
    // With a grant, it is said what is wrong with the identity.
    let granted = json!({"spec": {"grants": [grant(&env.namespace, TENANT, CLIENT)]}});
    for (name, part) in [("reader", "being deleted"), ("other", "another cloud")] {
        let (params, patch) = (PatchParams::default(), Patch::Merge(&granted));
        identities.patch(name, &params, &patch).await.expect("the grant can be added");
        let mut spec = entra("Check");
        merge(&mut spec, json!({"entra": {"identityRef": {"name": name}}}));
        env.credential("sales-eu", spec).await;
        let what = format!("{name}: {part}");
        env.wait_until("sales-eu", &what, |object| {
            let condition = condition(object, ConditionType::ExpiryConfirmed);
            condition.is_some_and(|it| it.reason == "IdentityNotReady" && it.message.contains(part))
        })
        .await;
    }
    assert_eq!(graph.requests().len(), 0);
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    identities.patch("reader", &PatchParams::default(), &patch).await.expect("it can be deleted");
}

#[tokio::test]
async fn apps_that_could_not_be_read_are_read_at_once_when_their_identity_changes() {
    const OTHER: &str = "22222222-480e-4a17-9b85-3467967bd179";
    let (mut env, graph) = start_with(&[]).await;
    env.credential("sales-eu", entra("Check")).await;
    graph.set_application(TENANT, CLIENT, &[entry(SAME_DAY)]);
    wait_for(&env, ConditionStatus::Unknown, "ReadForbidden").await;
    env.wait_until_ready("sales-eu").await;
    wait_an_hour(&mut env).await;
    // The identity gets the permission, and finds out.
    let count = graph.requests().len();
    env.entra.set_roles(TENANT, IDENTITY, &["Application.Read.All"]);
    let requested = json!({"metadata": {"annotations": {RECONCILE_REQUESTED_AT: "now"}}});
    let identities = env.api::<EntraIdentity>();
    identities.patch("reader", &PatchParams::default(), &Patch::Merge(requested)).await.unwrap();
    wait_for(&env, ConditionStatus::True, "ExpiryMatches").await;
    assert_eq!(graph.requests().len(), count + 1, "{:?}", graph.requests());

    // Another app of the identity can read it.
    graph.fail_always(Fault::Forbidden);
    read_again(&env, &graph).await;
    wait_for(&env, ConditionStatus::Unknown, "ReadForbidden").await;
    wait_an_hour(&mut env).await;
    graph.clear_faults();
    env.entra.set_secrets(TENANT, OTHER, &["identity-secret"]);
    env.entra.set_roles(TENANT, OTHER, &["Application.Read.All"]);
    let patch = Patch::Merge(json!({"spec": {"clientId": OTHER}}));
    identities.patch("reader", &PatchParams::default(), &patch).await.expect("the identity can be changed");
    wait_for(&env, ConditionStatus::True, "ExpiryMatches").await;
}

/// Restarts the operator with a next reading of the app in an hour.
async fn wait_an_hour(env: &mut TestEnv) {
    env.stop_operator().await;
    let at = jiff::Timestamp::now() + Duration::from_hours(1);
    let entra = json!({"nextAttemptTime": at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()});
    let patch = Patch::Merge(json!({"status": {"entra": entra}}));
    let credentials = env.api::<MicrosoftGraphCredential>();
    credentials.patch_status("sales-eu", &PatchParams::default(), &patch).await.expect("it can be changed");
    env.start_operator().await;
}

#[tokio::test]
async fn a_reading_whose_grant_is_removed_meanwhile_is_not_recorded() {
    let (mut env, graph) = bare().await;
    // So that a request may take a while.
    env.time_scale = 1;
    env.start_operator().await;
    identity(&env, json!([grant(&env.namespace, TENANT, CLIENT)])).await;
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    graph.set_application(TENANT, CLIENT, &[entry(EARLIER)]);
    graph.service_time(Duration::from_secs(6));
    let mut spec = entra("Check");
    merge(&mut spec, json!({"destination": {"woodpecker": null, "store": {}}}));
    env.credential("sales-eu", spec).await;
    eventually("the request is under way", || async {
        if graph.requests().is_empty() { Err(env.log()) } else { Ok(()) }
    })
    .await;
    identity(&env, json!([])).await;
    let object = wait_for(&env, ConditionStatus::Unknown, "GrantMissing").await;
    assert_eq!(object.status.as_ref().unwrap().entra, None);
    assert_eq!(graph.requests().len(), 1, "{:?}", graph.requests());
    assert!(!message(&object, ConditionType::ExpiryConfirmed).contains(EARLIER));
}
