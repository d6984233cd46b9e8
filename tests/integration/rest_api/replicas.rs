//! Several processes that serve one API.

use std::collections::BTreeSet;

use kube::api::PostParams;

use super::fault_proxy::FaultProxy;
use super::*;

/// Creates of each of two clients at each of two replicas.
const EACH: usize = 6;

#[tokio::test]
async fn two_replicas_under_load_lose_nothing_and_assign_unique_ids() {
    let api = Api::start().await;
    let (other, other_address) = start(&api.env, &[]).await;
    let mut clients = Vec::new();
    for (number, address) in
        [&api.address, &other_address, &api.address, &other_address].into_iter().enumerate()
    {
        let entra = &api.env.entra;
        clients.push(async move {
            let mut made = Vec::new();
            for at in 0..EACH {
                // The number of attempts with one secret of an app is limited.
                let client = format!("00000000-0000-4000-8000-{number:06}{at:06}");
                entra.add_app(TENANT, &client);
                entra.set_secrets(TENANT, &client, &["s3cret-one"]);
                let body = sample(json!({"client_id": client, "name": format!("{number}-{at}")}));
                let response = request_at(address, "POST", PATH, Some(body)).await;
                assert_eq!(response.status, 201, "{response:?}");
                let id = response.json()["credential_id"].as_i64().unwrap();
                made.push((id, format!("{number}-{at}")));
            }
            made
        });
    }
    let made: Vec<(i64, String)> = futures::future::join_all(clients).await.concat();
    let ids: BTreeSet<i64> = made.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids.len(), 4 * EACH);
    for address in [&api.address, &other_address] {
        let listed = request_at(address, "GET", PATH, None).await.json();
        let listed: BTreeSet<(i64, String)> = listed["credentials"]
            .as_array()
            .unwrap()
            .iter()
            .map(|it| (it["credential_id"].as_i64().unwrap(), it["name"].as_str().unwrap().to_owned()))
            .collect();
        assert_eq!(listed, made.iter().cloned().collect(), "{}", other.log());
    }
    let id = made[0].0;
    assert_eq!(api.opened(id).await.1, "s3cret-one");
}

#[tokio::test]
async fn an_id_taken_by_another_replica_is_generated_again() {
    let mut env = TestEnv::bare().await;
    let fault_proxy = FaultProxy::before(&mut env).await;
    let api = Api::on(env).await;
    let mut held = fault_proxy.hold("POST", "/sealedgraphcredentials");
    let post = api.create(json!({}));
    let taken = async {
        let mut first: SealedGraphCredential = serde_json::from_slice(&held.reached().await).unwrap();
        first.spec.record_id = graph_credential_operator::store::envelope::generate_record_id().unwrap();
        api.env.api().create(&PostParams::default(), &first).await.unwrap();
        held.release();
        first.spec.credential_id
    };
    let (response, first) = tokio::join!(post, taken);
    assert_eq!(response.status, 201, "{response:?}\n{}", api.server.log());
    let id = response.json()["credential_id"].as_i64().unwrap();
    assert_ne!(id, first);
    assert_eq!(api.records().await.len(), 2);
    assert_eq!(api.opened(id).await.1, "s3cret-one");
}

#[tokio::test]
async fn a_write_is_completed_after_its_client_disconnects() {
    let mut env = TestEnv::bare().await;
    let fault_proxy = FaultProxy::before(&mut env).await;
    let api = Api::on(env).await;
    let id = api.created(json!({})).await;
    let path = format!("{PATH}/{id}");
    let mut posted = fault_proxy.hold("POST", "/sealedgraphcredentials");
    tokio::select! {
        response = api.create(json!({"name": "other"})) => panic!("{response:?}"),
        _ = posted.reached() => {}
    }
    let mut deleted = fault_proxy.hold("DELETE", "/sealedgraphcredentials");
    tokio::select! {
        response = api.request("DELETE", &path, None) => panic!("{response:?}"),
        _ = deleted.reached() => {}
    }
    posted.release();
    deleted.release();
    eventually("both took effect", || async {
        let names: Vec<_> = api.records().await.into_iter().map(|record| record.spec.name).collect();
        if names == ["other"] { Ok(()) } else { Err(format!("{names:?}\n{}", api.server.log())) }
    })
    .await;
}

#[tokio::test]
async fn the_outcome_of_a_write_without_a_response_is_looked_up() {
    let mut env = TestEnv::bare().await;
    let fault_proxy = FaultProxy::before(&mut env).await;
    let api = Api::on(env).await;
    fault_proxy.lose_response("POST", "/sealedgraphcredentials");
    let id = api.created(json!({})).await;
    fault_proxy.lose_response("PUT", "/sealedgraphcredentials");
    let renamed = api.request("PATCH", &format!("{PATH}/{id}"), Some(json!({"name": "Sales"}))).await;
    assert_eq!((renamed.status, &renamed.json()["name"]), (200, &json!("Sales")), "{renamed:?}");
    assert_eq!(api.records().await.len(), 1);
}

#[tokio::test]
async fn conflicting_changes_are_retried_with_a_limit() {
    const TRIES: usize = 8;
    let mut env = TestEnv::bare().await;
    // All attempts together take two seconds at most, at any time scale.
    env.time_scale = 2;
    let fault_proxy = FaultProxy::before(&mut env).await;
    let api = Api::on(env).await;
    let id = api.created(json!({})).await;
    let one = format!("{PATH}/{id}");
    let written = || {
        fault_proxy.count("PUT", &format!("/sealedgraphcredentials/r-{id}")) - status_writes(&fault_proxy, id)
    };
    let before = written();
    fault_proxy.conflict("PUT", "/sealedgraphcredentials", TRIES - 1);
    let renamed = api.request("PATCH", &one, Some(json!({"name": "Sales"}))).await;
    assert_eq!((renamed.status, &renamed.json()["name"]), (200, &json!("Sales")), "{}", api.server.log());
    assert_eq!(written() - before, TRIES);
    fault_proxy.conflict("PUT", "/sealedgraphcredentials", TRIES);
    let failed = api.request("PATCH", &one, Some(json!({"name": "Support"}))).await;
    assert_eq!((failed.status, written() - before), (500, 2 * TRIES), "{failed:?}");
    fault_proxy.conflict("DELETE", "/sealedgraphcredentials", TRIES);
    assert_eq!(api.request("DELETE", &one, None).await.status, 500);
    assert_eq!(api.listed().await[0]["name"], "Sales");
    fault_proxy.conflict("POST", "/sealedgraphcredentials", TRIES);
    assert_eq!(api.create(json!({})).await.status, 500);
    assert_eq!(fault_proxy.count("POST", "/sealedgraphcredentials"), 1 + TRIES);
    assert_eq!(api.records().await.len(), 1);
}

fn status_writes(fault_proxy: &FaultProxy, id: i64) -> usize {
    fault_proxy.count("PUT", &format!("/sealedgraphcredentials/r-{id}/status"))
}

#[tokio::test]
async fn changes_of_one_credential_at_two_replicas_all_take_effect() {
    let mut env = TestEnv::bare().await;
    // Several writes in a row, each of which may have to be retried, need time on a busy machine.
    env.time_scale = 4;
    let api = Api::on(env).await;
    let (_other, other_address) = start(&api.env, &[]).await;
    api.env.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    let id = api.created(json!({})).await;
    let path = format!("{PATH}/{id}");
    let rotation = json!({"client_secret": "s3cret-two", "secret_expires_at": "2028-01-31T00:00:00Z"});
    let names = async {
        for at in 0..10 {
            let response =
                request_at(&other_address, "PATCH", &path, Some(json!({"name": format!("name {at}")}))).await;
            assert_eq!(response.status, 200, "{response:?}");
        }
    };
    let secrets = async {
        for address in [&api.address, &other_address, &api.address, &other_address] {
            let response = request_at(address, "PATCH", &path, Some(rotation.clone())).await;
            assert_eq!(response.status, 200, "{response:?}\n{}", api.server.log());
        }
    };
    tokio::join!(names, secrets);
    let (record, secret) = api.opened(id).await;
    assert_eq!((secret.as_str(), record.spec.name.as_str()), ("s3cret-two", "name 9"));
    assert_eq!(record.spec.secret_expires_at.0.to_string(), "2028-01-31T00:00:00Z");
}

#[tokio::test]
async fn attempts_of_one_account_at_all_replicas_block_no_other_account() {
    const TRIES: usize = 12;
    let mut env = TestEnv::bare().await;
    // The limit holds for five minutes, which are long.
    env.time_scale = 10;
    // The default is two processes.
    env.extra_env.clear();
    let neighbour = put_two_keys(&env).await;
    let args = ["--watch-namespace", &neighbour];
    let (_one, first) = start(&env, &args).await;
    let (_other, second) = start(&env, &args).await;
    let request = async |address: &str, key: &str, method: &str, path: &str, body: Value| {
        let headers = [("x-api-key", key), ("content-type", "application/json")];
        send(address, method, path, &headers, body.to_string().as_bytes()).await
    };
    let wrong = |secret: &str| sample(json!({"client_secret": secret}));
    let guesses =
        ["wr0ng"; TRIES].into_iter().chain(["a guess", "another", "a third", "a fourth", "a fifth"]);
    let mut statuses = Vec::new();
    for address in [&first, &second] {
        for guess in guesses.clone() {
            statuses.push(request(address, KEY, "POST", PATH, wrong(guess)).await.status);
        }
    }
    let each = [[422; 4].as_slice(), &[429; TRIES - 4], &[422; 4], &[429]].concat();
    assert_eq!(statuses, [each.clone(), each].concat());
    env.entra.add_secret(TENANT, CLIENT, "s3cret-two");
    for address in [&first, &second] {
        let made = request(address, OTHER_KEY, "POST", PATH, sample(json!({}))).await;
        assert_eq!(made.status, 201, "whose app it is: {made:?}");
        let one = format!("{PATH}/{}", made.json()["credential_id"]);
        let rotation = json!({"client_secret": "s3cret-two", "secret_expires_at": EXPIRY});
        assert_eq!(request(address, OTHER_KEY, "PATCH", &one, rotation).await.status, 200);
    }
}
