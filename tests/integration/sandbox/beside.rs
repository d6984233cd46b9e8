//! The sandbox beside the operator, `serve` and the double of Woodpecker.

use graph_credential_operator::api::WoodpeckerAccount;
use kit::woodpecker::Woodpecker;

use super::*;
use crate::harness::TestEnv;
use crate::rest_api::http::send_raw;
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

/// A server of Woodpecker's API.
struct Served {
    address: String,
    key: &'static str,
    /// A secret that it rejects.
    wrong_secret: &'static str,
}

impl Served {
    async fn send(&self, key: Option<&str>, method: &str, rest: &str, body: Option<Value>) -> HttpResponse {
        let body = body.map(|body| body.to_string()).unwrap_or_default();
        let key = key.map(|key| format!("x-api-key: {key}\r\n")).unwrap_or_default();
        let request = format!(
            "{method} {PATH}{rest} HTTP/1.1\r\nhost: {}\r\n{key}content-type: application/json\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        send_raw(&self.address, request.as_bytes()).await.expect("a response")
    }

    async fn request(&self, method: &str, rest: &str, body: Option<Value>) -> HttpResponse {
        self.send(Some(self.key), method, rest, body).await
    }
}

/// What Woodpecker documents, in one sequence of requests.
async fn documented_rules_hold(served: &Served) {
    let empty = served.request("GET", "", None).await;
    assert_eq!((empty.status, empty.json()), (200, json!({"credentials": []})));
    for key in [None, Some("nobody")] {
        let unauthorized = served.send(key, "GET", "", None).await;
        assert_eq!(unauthorized.status, 401);
        unauthorized.is_problem("Unauthorized", "Invalid api key");
    }
    let created = served.request("POST", "", Some(sample(json!({})))).await;
    let id = created.json()["credential_id"].as_i64().expect("a number");
    let shown = json!({
        "credential_id": id, "tenant_id": TENANT, "client_id": CLIENT, "secret_expires_at": EXPIRY,
        "name": "MS Graph app"
    });
    assert_eq!((created.status, created.json()), (201, shown.clone()));
    assert_eq!(served.request("GET", "", None).await.json(), json!({"credentials": [shown]}));
    let unnamed = served.request("POST", "", Some(sample(json!({"name": null})))).await.json();
    assert_ne!(unnamed["credential_id"], id, "an app can have several credentials");
    assert!(unnamed["name"].as_str().is_some_and(|name| !name.is_empty()), "{unnamed}");
    let wrong = served.request("POST", "", Some(sample(json!({"client_secret": served.wrong_secret})))).await;
    assert_eq!((wrong.status, wrong.json()), (422, json!({"message": "INVALID_CLIENT_SECRET"})));
    let path = format!("/{id}");
    for half in [json!({"client_secret": "x"}), json!({"secret_expires_at": EXPIRY})] {
        let rejected = served.request("PATCH", &path, Some(half)).await;
        assert_eq!(rejected.status, 422);
        assert!(rejected.json()["message"].is_string(), "{rejected:?}");
    }
    let renamed = served.request("PATCH", &path, Some(json!({"name": "Sales"}))).await;
    let mut expected = shown;
    expected["name"] = json!("Sales");
    assert_eq!((renamed.status, renamed.json()), (200, expected.clone()));
    let both = json!({"client_secret": "s3cret-one", "secret_expires_at": "2028-01-01T00:00:00Z"});
    expected["secret_expires_at"] = json!("2028-01-01T00:00:00Z");
    let rotated = served.request("PATCH", &path, Some(both)).await;
    assert_eq!((rotated.status, rotated.json()), (200, expected));
    let removed = served.request("DELETE", &path, None).await;
    assert_eq!((removed.status, removed.body.len()), (204, 0));
    for (method, body) in [("DELETE", None), ("PATCH", Some(json!({"name": "x"})))] {
        let gone = served.request(method, &path, body).await;
        assert_eq!(gone.status, 404, "{method}");
        gone.is_problem("Not Found", "Requested resource does not exist");
    }
}

#[tokio::test]
async fn the_sandbox_and_the_double_of_woodpecker_follow_the_same_documentation() {
    let sandbox = Sandbox::start(&["--strict"]).await;
    let wrong_secret = "sandbox-invalid-client-secret";
    documented_rules_hold(&Served { address: sandbox.address.clone(), key: KEY, wrong_secret }).await;

    let (double, entra) = (Woodpecker::start().await, kit::entra::Entra::start().await);
    entra.add_app(TENANT, CLIENT);
    entra.set_secrets(TENANT, CLIENT, &["s3cret-one"]);
    double.verify_with(&entra);
    double.add_account("team", "key");
    let url = double.base_url();
    let address = url.strip_prefix("http://").and_then(|it| it.strip_suffix("/rest")).unwrap().to_owned();
    documented_rules_hold(&Served { address, key: "key", wrong_secret: "wrong" }).await;
}
