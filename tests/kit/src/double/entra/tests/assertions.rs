//! Sign-ins with an assertion.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::json;

use super::*;
use crate::entra::SentCredential;

const ISSUER: &str = "https://issuer.example/";
const SUBJECT: &str = "system:serviceaccount:ops:operator";
const AUDIENCE: &str = "api://AzureADTokenExchange";
const OTHER: &str = "cccccccc-aaf4-4f7c-9dc2-2c9160d1cb32";
const TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

fn token(issuer: &str, subject: &str, audience: &str, lifetime: i64) -> String {
    let claims = json!({
        "iss": issuer, "sub": subject, "aud": [audience],
        "exp": Timestamp::now().as_second() + lifetime
    });
    let part = |value: &serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.c2ln", part(&json!({"alg": "RS256"})), part(&claims))
}

async fn sign_in(entra: &Entra, tenant: &str, assertion: &str) -> Received {
    let url = format!("{}/{tenant}/oauth2/v2.0/token", entra.url());
    let form = form_urlencoded::Serializer::new(String::new())
        .append_pair("grant_type", "client_credentials")
        .append_pair("client_id", CLIENT)
        .append_pair("client_assertion_type", TYPE)
        .append_pair("client_assertion", assertion)
        .append_pair("scope", "https://graph.microsoft.com/.default")
        .finish();
    client::send("POST", &url, &[FORM], &form).await
}

#[tokio::test]
async fn a_service_account_token_must_match_a_federated_credential_exactly() {
    let entra = Entra::start().await;
    entra.add_app(TENANT, CLIENT);
    let good = token(ISSUER, SUBJECT, AUDIENCE, 600);
    let invalid = |code| rejected(401, "invalid_client", code);
    assert_eq!(rejection(&sign_in(&entra, TENANT, &good).await), invalid(70_025));
    entra.trust_federated(TENANT, CLIENT, ISSUER, SUBJECT, AUDIENCE);
    assert_eq!(sign_in(&entra, TENANT, &good).await.response().status, 200);
    assert_eq!(entra.requests()[1].credential, SentCredential::FederatedToken);
    for (assertion, code) in [
        (token("https://issuer.example", SUBJECT, AUDIENCE, 600), 700_211),
        (token(ISSUER, SUBJECT, "api://azureadtokenexchange", 600), 700_212),
        (token(ISSUER, "system:serviceaccount:ops:Operator", AUDIENCE, 600), 700_213),
        (token(ISSUER, SUBJECT, AUDIENCE, -1), 700_024),
    ] {
        assert_eq!(rejection(&sign_in(&entra, TENANT, &assertion).await), invalid(code));
    }
    entra.set_issuer_unreachable(TENANT, CLIENT, true);
    assert_eq!(rejection(&sign_in(&entra, TENANT, &good).await), rejected(400, "invalid_request", 90_061));
}

#[tokio::test]
async fn another_tenant_issues_tokens_only_after_consent() {
    let entra = Entra::start().await;
    entra.trust_federated(TENANT, CLIENT, ISSUER, SUBJECT, AUDIENCE);
    entra.set_secrets(TENANT, CLIENT, &[SECRET]);
    entra.add_tenant(OTHER);
    let good = token(ISSUER, SUBJECT, AUDIENCE, 600);
    let unknown = rejected(400, "unauthorized_client", 700_016);
    assert_eq!(rejection(&sign_in(&entra, OTHER, &good).await), unknown);
    entra.consent(OTHER, CLIENT, &["Application.Read.All"]);
    assert_eq!(sign_in(&entra, OTHER, &good).await.response().status, 200);
    assert_eq!(request_token_as(&entra, OTHER, CLIENT, SECRET).await.response().status, 200);
    entra.remove_service_principal(OTHER, CLIENT);
    let missing = rejected(401, "invalid_client", 7_000_229);
    assert_eq!(rejection(&sign_in(&entra, OTHER, &good).await), missing);
}

#[tokio::test]
async fn what_is_no_jwt_or_lacks_a_trusted_signature_is_rejected() {
    let entra = Entra::start().await;
    entra.add_app(TENANT, CLIENT);
    let invalid = |code| rejected(401, "invalid_client", code);
    assert_eq!(rejection(&sign_in(&entra, TENANT, "a.b").await), invalid(700_027));
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = part(json!({"alg": "PS256", "x5t#S256": "unknown"}));
    let signed = format!("{header}.{}.c2ln", part(json!({"iss": CLIENT, "sub": CLIENT})));
    assert_eq!(rejection(&sign_in(&entra, TENANT, &signed).await), invalid(700_027));
    assert_eq!(entra.requests()[1].credential, SentCredential::Certificate);
}
