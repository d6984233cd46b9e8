//! Secrets never leak: a search for them in everything that the operator outputs.

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use kit::entra::Fault as EntraFault;
use kit::woodpecker::{Fault, Op};
use kube::api::{DynamicObject, ListParams};
use kube::{Api, discovery};
use serde_json::json;

use crate::harness::{API_KEY, CLIENT, EXPIRY, TENANT, TestEnv};

/// Every form in which a secret could appear.
fn forms(secret: &str) -> Vec<String> {
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(secret);
    let url = form_urlencoded::byte_serialize(secret.as_bytes()).collect::<String>();
    let debug = format!("{:?}", secret.as_bytes());
    vec![secret.to_owned(), encoded, url, debug.trim_matches(['[', ']']).to_owned()]
}

#[tokio::test]
async fn no_secret_and_no_key_is_in_any_output_of_the_operator() {
    let canaries = ["canary/one+%2B~", "canary/two+%2B~", "canary/refused+%2B~"];
    let mut env = TestEnv::bare().await;
    env.log_filter = "trace";
    env.entra.set_secrets(TENANT, CLIENT, &canaries[..2]);
    env.start_operator().await;
    env.account("agency", json!({})).await;
    let set = async |secret: &str| {
        env.secret("sales-eu-graph", &[("client_secret", secret), ("secret_expires_at", EXPIRY)]).await;
    };

    set(canaries[0]).await;
    env.woodpecker.fail_next(Op::Rename, 1, Fault::WrongShape(json!({"message": canaries[0]})));
    env.credential("sales-eu", json!({"deletionPolicy": "Delete"})).await;
    env.wait_until_ready("sales-eu").await;
    set(canaries[2]).await;
    let echo = json!({
        "error": "invalid_client", "error_description": format!("AADSTS7000215: {}", canaries[2]), "error_codes": [7_000_215],
        "trace_id": canaries[2], "correlation_id": canaries[2], "timestamp": canaries[2]
    });
    env.entra.fail_next(
        3,
        EntraFault::Status(401, echo.to_string(), vec![("content-type".into(), "application/json".into())]),
    );
    env.wait_for("sales-eu", ConditionType::Verified, ConditionStatus::False, "InvalidClientSecret").await;
    env.woodpecker.fail_next(
        Op::Update,
        1,
        Fault::RefusedBefore(422, json!({"message": canaries[1], "api_key": API_KEY})),
    );
    set(canaries[1]).await;
    env.wait_for("sales-eu", ConditionType::Registered, ConditionStatus::False, "UpdateRejected").await;

    let metrics = env.get("/metrics").await.1;
    let ready = env.get("/readyz").await.1;
    assert!(metrics.contains("graph_credential_operator_external_requests_total"), "{metrics}");
    let mut places = vec![("the log", env.log()), ("/metrics", metrics), ("/readyz", ready)];
    places.push(("objects and events", objects(&env).await));
    env.delete("sales-eu").await;
    env.wait_until_gone("sales-eu").await;
    places.push(("the log after all", env.log()));
    assert!(places[0].1.lines().count() > 20, "the log is there to be searched");
    for secret in canaries.into_iter().chain([API_KEY]) {
        for form in forms(secret) {
            for (place, text) in &places {
                let line = text.lines().find(|line| line.contains(&form));
                assert!(line.is_none(), "{form:?} is in {place}: {line:?}");
            }
        }
    }
}

/// Every object of the namespace except Secrets, as the API server shows it.
async fn objects(env: &TestEnv) -> String {
    let discovery = discovery::Discovery::new(env.client.clone()).run().await.unwrap();
    let mut text = String::new();
    for group in discovery.groups() {
        for (kind, capabilities) in group.recommended_resources() {
            let is_listed = capabilities.scope == discovery::Scope::Namespaced
                && capabilities.supports_operation(discovery::verbs::LIST);
            if !is_listed || kind.kind == "Secret" {
                continue;
            }
            let api: Api<DynamicObject> = Api::namespaced_with(env.client.clone(), &env.namespace, &kind);
            for object in api.list(&ListParams::default()).await.unwrap() {
                text.push_str(&serde_json::to_string(&object).unwrap());
                text.push('\n');
            }
        }
    }
    assert!(text.contains("MicrosoftGraphCredential") && text.contains("InvalidClientSecret"));
    text
}
