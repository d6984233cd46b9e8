//! The way out: proxies of the environment and further CA certificates, for Microsoft and Woodpecker alike.

use std::fs;

use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType};
use kit::proxy::Proxy;
use kit::tls::{Authority, Relay};
use serde_json::json;

use crate::stage::{EXPIRY, Stage};

const LOGIN: &str = "login.microsoft.test";
const API: &str = "api.woodpecker.test";

/// Both doubles behind TLS under names that only the proxy knows.
struct Outside {
    authority: Authority,
    proxy: Proxy,
    _relays: [Relay; 2],
}

impl Outside {
    async fn of(stage: &Stage) -> Self {
        let authority = Authority::new().unwrap();
        let proxy = Proxy::start().await.unwrap();
        let address = |url: String| url.trim_start_matches("http://").to_owned();
        let login = authority.relay(&[LOGIN], &address(stage.entra.url())).await.unwrap();
        let api = authority.relay(&[API], &address(stage.woodpecker.url())).await.unwrap();
        proxy.route(&format!("{LOGIN}:443"), login.port());
        proxy.route(&format!("{API}:443"), api.port());
        Self { authority, proxy, _relays: [login, api] }
    }
}

/// A stage whose operator knows both remote sides by https names and must go through the proxy.
async fn set() -> (Stage, Outside) {
    let mut stage = Stage::bare().await;
    let outside = Outside::of(&stage).await;
    stage.authority = Some(format!("https://{LOGIN}"));
    stage.extra_args = ["--woodpecker-base-url".to_owned(), format!("https://{API}/rest")].into();
    stage.extra_env = vec![("HTTPS_PROXY", outside.proxy.url()), ("NO_PROXY", "127.0.0.1".to_owned())];
    stage.secret("sales-eu-graph", &[("client_secret", "s3cret-one"), ("secret_expires_at", EXPIRY)]).await;
    stage.account("agency", json!({"baseUrl": format!("https://{API}/rest")})).await;
    (stage, outside)
}

#[tokio::test]
async fn both_remote_sides_are_reached_through_the_proxy_and_with_the_extra_ca() {
    let (mut stage, outside) = set().await;
    let file = stage.cluster.dir().join(format!("{}-ca.pem", stage.namespace));
    fs::write(&file, outside.authority.pem()).unwrap();
    stage.extra_args.extend(["--extra-ca".to_owned(), file.to_str().unwrap().to_owned()]);
    stage.start_operator().await;
    stage.credential("sales-eu", json!({})).await;
    stage.wait_until_ready("sales-eu").await;
    let asked = outside.proxy.asked();
    assert!(asked.contains(&format!("{LOGIN}:443")) && asked.contains(&format!("{API}:443")), "{asked:?}");
    assert!(asked.iter().all(|target| !target.starts_with("127.")), "NO_PROXY is honoured: {asked:?}");
    assert_eq!(stage.remote().len(), 1);
}

#[tokio::test]
async fn a_certificate_of_a_stranger_is_not_trusted() {
    let (mut stage, outside) = set().await;
    stage.start_operator().await;
    stage.credential("sales-eu", json!({})).await;
    stage
        .wait_for("sales-eu", ConditionType::Verified, ConditionStatus::Unknown, "MicrosoftUnavailable")
        .await;
    stage.wait_for_account("agency", ConditionStatus::False, "Unreachable").await;
    assert!(!outside.proxy.asked().is_empty());
    assert_eq!((stage.entra.requests().len(), stage.woodpecker.requests("agency").len()), (0, 0));
    assert!(stage.log().contains("certificate"), "the log says why");
}
