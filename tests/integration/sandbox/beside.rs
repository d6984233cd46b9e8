//! The sandbox beside the operator, `serve` and the double of Woodpecker.

mod differences;
mod documented_rules;
mod served;

use graph_credential_operator::api::WoodpeckerAccount;

use super::*;
use crate::harness::TestEnv;
use crate::rest_api::{KEY as SERVE_KEY, put_key, request_at, serving};

#[tokio::test]
async fn every_magic_value_sent_to_serve_goes_to_microsoft() {
    let answers = Sandbox::start(&[]).await.answers().await;
    let mut env = TestEnv::bare().await;
    // On a busy machine, Microsoft would not answer in time.
    env.time_scale = 1;
    put_key(&env, SERVE_KEY).await;
    let server = env.launch_with(&["serve", "--rest-bind-address", "127.0.0.1:0"]).await;
    let address = serving(&server).await;
    for (at, answer) in answers.iter().enumerate() {
        // An app for each, because attempts for one app are limited.
        let client = format!("e1c6ac69-480e-4a17-9b85-{at:012}");
        env.entra.add_app(TENANT, &client);
        env.entra.set_secrets(TENANT, &client, &["the right one"]);
        let over = json!({"client_id": client, "client_secret": answer["client_secret"]});
        let rejected = request_at(&address, "POST", PATH, Some(sample(over))).await;
        let expected = json!({"message": "INVALID_CLIENT_SECRET"});
        assert_eq!((rejected.status, rejected.json()), (422, expected), "{answer}");
        assert_eq!(env.entra.count(TENANT, &client), 1, "Microsoft was asked about {answer}");

        let guid = answer["tenant_or_client_id"].as_str().unwrap();
        env.entra.add_app(TENANT, guid);
        env.entra.set_secrets(TENANT, guid, &["the right one"]);
        let over = json!({"client_id": guid, "client_secret": "the right one"});
        let created = request_at(&address, "POST", PATH, Some(sample(over))).await;
        assert_eq!((created.status, env.entra.count(TENANT, guid)), (201, 1), "{answer}: {created:?}");
        if answer["credential_id"].is_number() {
            let path = format!("{PATH}/{}", answer["credential_id"]);
            assert_eq!(request_at(&address, "DELETE", &path, None).await.status, 404, "{answer}");
        }
    }
    for (method, path) in [("GET", "/sandbox/answers"), ("POST", "/sandbox/next"), ("GET", "/rest/v1/me")] {
        assert_eq!(request_at(&address, method, path, None).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn an_account_and_a_credential_become_ready_at_the_sandbox() {
    let sandbox = Sandbox::start(&[]).await;
    let url = format!("http://{}/rest", sandbox.address);
    let mut env = TestEnv::bare().await;
    env.extra_args = ["--allowed-woodpecker-url", &url, "--allow-unverified"].map(str::to_owned).to_vec();
    env.start_operator().await;
    env.secret("sandbox-key", &[("api_key", KEY)]).await;
    env.apply_account("sandbox", json!({"baseUrl": url})).await;
    env.secret("sales-eu-graph", &[("client_secret", "any secret"), ("secret_expires_at", EXPIRY)]).await;
    env.credential(
        "sales-eu",
        json!({
            "deletionPolicy": "Delete", "verification": {"policy": "Disabled"},
            "destination": {"woodpecker": {"accountRef": {"name": "sandbox"}}}
        }),
    )
    .await;
    let ready = env.wait_until_ready("sales-eu").await;
    let id = ready.status.unwrap().credential_id.unwrap();
    let ids: Vec<_> = sandbox.listed().await.iter().map(|it| it["credential_id"].as_i64()).collect();
    assert_eq!(ids, [Some(id)], "{}", env.log());
    eventually("the account is ready", || async {
        let account: WoodpeckerAccount = env.api().get("sandbox").await.unwrap();
        let conditions = json!(account.status.as_ref().map(|status| &status.conditions));
        let is_ready = |it: &Value| it["type"] == "Ready" && it["status"] == "True";
        let all = conditions.as_array().cloned().unwrap_or_default();
        if all.iter().any(is_ready) { Ok(()) } else { Err(format!("{conditions}\n{}", env.log())) }
    })
    .await;
    assert_eq!(env.entra.requests().len(), 0, "nothing went to Microsoft");

    env.secret(
        "sales-eu-graph",
        &[("client_secret", "another"), ("secret_expires_at", "2028-01-01T00:00:00Z")],
    )
    .await;
    eventually("the new secret is registered", || async {
        let listed = sandbox.listed().await;
        let expiry = listed[0]["secret_expires_at"].as_str();
        if expiry == Some("2028-01-01T00:00:00Z") {
            Ok(())
        } else {
            Err(format!("{listed:?}\n{}", env.log()))
        }
    })
    .await;
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    assert_eq!(sandbox.listed().await, Vec::<Value>::new());
}
