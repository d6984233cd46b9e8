//! Outbound connections: proxies from the environment and additional CA certificates, for Microsoft and
//! Woodpecker.

use std::fs;

use graph_credential_operator::api::conditions::{ConditionStatus, ConditionType};
use kit::proxy::Proxy;
use kit::tls::{Authority, Relay};
use serde_json::json;

use crate::harness::{EXPIRY, TestEnv};

const LOGIN: &str = "login.microsoft.test";
const API: &str = "api.woodpecker.test";

/// Both doubles behind TLS under names that only the proxy knows.
struct ProxiedServices {
    authority: Authority,
    proxy: Proxy,
    _relays: [Relay; 2],
}

impl ProxiedServices {
    async fn of(env: &TestEnv) -> Self {
        let authority = Authority::new().unwrap();
        let proxy = Proxy::start().await.unwrap();
        let address = |url: String| url.trim_start_matches("http://").to_owned();
        let login = authority.relay(&[LOGIN], &address(env.entra.url())).await.unwrap();
        let api = authority.relay(&[API], &address(env.woodpecker.url())).await.unwrap();
        proxy.route(&format!("{LOGIN}:443"), login.port());
        proxy.route(&format!("{API}:443"), api.port());
        Self { authority, proxy, _relays: [login, api] }
    }
}

/// A test environment whose operator knows both remote services by https names and must use the proxy.
async fn start_env() -> (TestEnv, ProxiedServices) {
    let mut env = TestEnv::bare().await;
    let services = ProxiedServices::of(&env).await;
    env.authority = Some(format!("https://{LOGIN}"));
    env.extra_args = ["--allowed-woodpecker-url".to_owned(), format!("https://{API}/rest")].into();
    env.extra_env = vec![("HTTPS_PROXY", services.proxy.url()), ("NO_PROXY", "127.0.0.1".to_owned())];
    env.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    env.account("agency", json!({"baseUrl": format!("https://{API}/rest")})).await;
    (env, services)
}

#[tokio::test]
async fn both_services_are_reached_through_the_proxy_and_with_the_ca_bundle() {
    let (mut env, services) = start_env().await;
    let file = env.cluster.dir().join(format!("{}-ca.pem", env.namespace));
    fs::write(&file, services.authority.pem()).unwrap();
    env.extra_args.extend(["--ca-bundle".to_owned(), file.to_str().unwrap().to_owned()]);
    env.start_operator().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;
    let targets = services.proxy.targets();
    assert!(
        targets.contains(&format!("{LOGIN}:443")) && targets.contains(&format!("{API}:443")),
        "{targets:?}"
    );
    assert!(targets.iter().all(|target| !target.starts_with("127.")), "NO_PROXY is honored: {targets:?}");
    assert_eq!(env.remote().len(), 1);
}

#[tokio::test]
async fn a_certificate_of_an_unknown_authority_is_not_trusted() {
    let (mut env, services) = start_env().await;
    env.start_operator().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_for("sales-eu", ConditionType::Verified, ConditionStatus::Unknown, "MicrosoftUnavailable").await;
    env.wait_for_account("agency", ConditionStatus::False, "WoodpeckerUnavailable").await;
    assert!(!services.proxy.targets().is_empty());
    assert_eq!((env.entra.requests().len(), env.woodpecker.requests("agency").len()), (0, 0));
    assert!(env.log().contains("certificate"), "the log says why");
}

#[tokio::test]
async fn a_changed_ca_bundle_is_used_without_a_restart() {
    let (mut env, services) = start_env().await;
    let file = env.cluster.dir().join(format!("{}-ca.pem", env.namespace));
    fs::write(&file, Authority::new().unwrap().pem()).unwrap();
    env.extra_args.extend(["--ca-bundle".to_owned(), file.to_str().unwrap().to_owned()]);
    env.start_operator().await;
    env.credential("sales-eu", json!({})).await;
    env.wait_for("sales-eu", ConditionType::Verified, ConditionStatus::Unknown, "MicrosoftUnavailable").await;
    fs::write(&file, services.authority.pem()).unwrap();
    env.wait_until_ready("sales-eu").await;
    assert!(env.log().contains("using the changed CA certificates"), "{}", env.log());
}
