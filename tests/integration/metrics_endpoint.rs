//! `/metrics` under TLS at a separate address, for clients with permission only.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use kit::tls::Authority;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use reqwest::Certificate;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::harness::{TestEnv, address, eventually};

/// A test environment whose operator serves metrics under TLS.
struct Secured {
    env: TestEnv,
    authority: Authority,
    files: [PathBuf; 2],
}

// === impl Secured ===

impl Secured {
    async fn start(more: &[&str]) -> Self {
        Self::start_on(TestEnv::bare().await, more).await
    }

    async fn start_on(mut env: TestEnv, more: &[&str]) -> Self {
        let at = |name: &str| env.cluster.dir().join(format!("{}-{name}.pem", env.namespace));
        let files = [at("certificate"), at("key")];
        let authority = Authority::new().unwrap();
        write(&authority, &files);
        env.extra_args =
            ["--metrics-bind-address", "127.0.0.1:0", "--metrics-tls-cert"].map(str::to_owned).to_vec();
        env.extra_args.extend([files[0].display().to_string(), "--metrics-tls-key".into()]);
        env.extra_args.push(files[1].display().to_string());
        env.extra_args.extend(more.iter().map(|&it| it.to_owned()));
        env.spawn_operator().await;
        let secured = Self { env, authority, files };
        eventually("metrics are served", || async {
            secured.scrape(None).await.map(drop).map_err(|error| format!("{error}\n{}", secured.env.log()))
        })
        .await;
        secured
    }

    async fn scrape(&self, token: Option<&str>) -> Result<(u16, String), String> {
        scrape(&self.env, &self.authority, token).await
    }

    async fn wait_for_status(&self, token: &str, status: u16) {
        eventually(&format!("the response is {status}"), || async {
            match self.scrape(Some(token)).await {
                Ok((found, _)) if found == status => Ok(()),
                other => Err(format!("{other:?}\n{}", self.env.log())),
            }
        })
        .await;
    }
}

/// The response to a scrape with that token, on a new connection that trusts only this authority.
async fn scrape(env: &TestEnv, authority: &Authority, token: Option<&str>) -> Result<(u16, String), String> {
    let _another_test_was_first = rustls::crypto::ring::default_provider().install_default();
    let port = port(env).ok_or("not serving yet")?;
    let trusted = Certificate::from_pem(authority.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([trusted]).no_proxy().build().unwrap();
    let mut request = client.get(format!("https://localhost:{port}/metrics"));
    if let Some(token) = token {
        request = request.bearer_auth(token);
    }
    let response =
        request.timeout(Duration::from_secs(10)).send().await.map_err(|error| format!("{error:?}"))?;
    let status = response.status().as_u16();
    Ok((status, response.text().await.map_err(|error| format!("{error:?}"))?))
}

/// The port of the metrics.
fn port(env: &TestEnv) -> Option<u16> {
    let address = address(env.operator.as_ref().unwrap(), "serving metrics under TLS")?;
    address.rsplit_once(':')?.1.parse().ok()
}

/// A token of a ServiceAccount in the test namespace.
async fn token_without_rights(env: &TestEnv) -> String {
    env.apply::<ServiceAccount>("prometheus", json!({})).await.unwrap();
    let request = TokenRequest::default();
    let (accounts, params) = (env.api::<ServiceAccount>(), PostParams::default());
    let token = accounts.create_token_request("prometheus", &params, &request).await.unwrap();
    token.status.unwrap().token
}

/// Allows that ServiceAccount to scrape, by a role and a binding with the returned name.
async fn allow(env: &TestEnv) -> String {
    let name = format!("scrape-{}", env.namespace);
    let role: ClusterRole = serde_json::from_value(json!({
        "metadata": {"name": name}, "rules": [{"nonResourceURLs": ["/metrics"], "verbs": ["get"]}]
    }))
    .unwrap();
    let roles: Api<ClusterRole> = Api::all(env.client.clone());
    roles.create(&PostParams::default(), &role).await.unwrap();
    let binding: ClusterRoleBinding = serde_json::from_value(json!({
        "metadata": {"name": name},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": "prometheus", "namespace": env.namespace}]
    }))
    .unwrap();
    let bindings: Api<ClusterRoleBinding> = Api::all(env.client.clone());
    bindings.create(&PostParams::default(), &binding).await.unwrap();
    name
}

/// Checks that a running operator shows its metrics to permitted clients, and to nobody else.
pub async fn only_by_token(env: &TestEnv, authority: &Authority) {
    let token = token_without_rights(env).await;
    let becomes = async |token: Option<&str>, status: u16| {
        eventually(&format!("the response is {status}"), || async {
            match scrape(env, authority, token).await {
                Ok((found, _)) if found == status => Ok(()),
                other => Err(format!("{other:?}\n{}", env.log())),
            }
        })
        .await;
    };
    becomes(None, 401).await;
    becomes(Some(&token), 403).await;
    allow(env).await;
    becomes(Some(&token), 200).await;
}

fn write(authority: &Authority, files: &[PathBuf; 2]) {
    let (certificate, key) = authority.issue(&["localhost"]).unwrap();
    std::fs::write(&files[0], certificate).unwrap();
    std::fs::write(&files[1], key).unwrap();
}

#[tokio::test]
async fn metrics_under_tls_have_their_own_address_and_a_reloaded_certificate() {
    let mut secured = Secured::start(&[]).await;
    let (status, text) = secured.scrape(None).await.unwrap();
    assert!(status == 200 && text.contains("graph_credential_operator_build_info{"), "{status} {text}");
    let log = secured.env.log();
    assert!(!log.contains("serving probes and metrics"), "{log}");
    let plain = address(secured.env.operator.as_ref().unwrap(), "serving probes").unwrap();
    let request =
        async |path: &str| reqwest::get(format!("http://{plain}{path}")).await.unwrap().status().as_u16();
    assert_eq!((request("/metrics").await, request("/healthz").await), (404, 200));

    let renewed = Authority::new().unwrap();
    write(&renewed, &secured.files);
    secured.authority = renewed;
    eventually("the new certificate is served", || async { secured.scrape(None).await.map(drop) }).await;
    secured.env.stop_operator().await;
}

#[tokio::test]
async fn metrics_need_the_right_to_get_the_url() {
    let secured = Secured::start(&["--metrics-require-authorization"]).await;
    let env = &secured.env;
    assert_eq!(secured.scrape(None).await.unwrap().0, 401);
    let (status, text) = secured.scrape(Some("made-up")).await.unwrap();
    assert!(status == 401 && !text.contains("graph_credential_"), "{status} {text}");
    let token = token_without_rights(env).await;
    let (status, text) = secured.scrape(Some(&token)).await.unwrap();
    assert!(status == 403 && text.contains("nonResourceURL"), "{status} {text}");

    let name = allow(env).await;
    secured.wait_for_status(&token, 200).await;
    assert!(secured.scrape(Some(&token)).await.unwrap().1.contains("graph_credential_operator_build_info{"));

    // The API server's decision is cached for a while, and not longer.
    let reviews = async || {
        let (_, text) = secured.scrape(Some(&token)).await.unwrap();
        let posts = text
            .lines()
            .find(|line| line.starts_with("rest_client_requests_total{code=\"201\",method=\"POST\""));
        posts.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).unwrap_or_default()
    };
    let before = reviews().await;
    for _ in 0..5 {
        reviews().await;
    }
    assert!(reviews().await <= before + 4, "seven scrapes would be fourteen questions");
    let bindings: Api<ClusterRoleBinding> = Api::all(env.client.clone());
    bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    secured.wait_for_status(&token, 403).await;
    assert!(!env.log().contains(&token), "the token is in the log");
    let roles: Api<ClusterRole> = Api::all(env.client.clone());
    roles.delete(&name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn metrics_are_denied_if_access_reviews_are_forbidden() {
    let mut secured = Secured::start(&["--metrics-require-authorization"]).await;
    secured.env.stop_operator().await;
    secured.env.limit_operator(&["get"]).await;
    secured.env.spawn_operator().await;
    eventually("it reports that it cannot decide", || async {
        match secured.scrape(Some("a-token")).await {
            Ok((503, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    let log = secured.env.log();
    assert!(log.contains("needs the right to create tokenreviews and subjectaccessreviews"), "{log}");
}

/// A scraper's connection that stays open.
async fn connect(secured: &Secured) -> TlsStream<TcpStream> {
    let mut trusted = RootCertStore::empty();
    trusted.add(CertificateDer::from_pem_slice(secured.authority.pem().as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(trusted).with_no_client_auth();
    let stream = TcpStream::connect(("127.0.0.1", port(&secured.env).unwrap())).await.unwrap();
    TlsConnector::from(Arc::new(config)).connect("localhost".try_into().unwrap(), stream).await.unwrap()
}

/// Another scrape on the same connection; none if the connection was closed.
async fn scrape_again(connection: &mut TlsStream<TcpStream>, token: &str) -> Option<String> {
    let request =
        format!("GET /metrics HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\n\r\n");
    connection.write_all(request.as_bytes()).await.ok()?;
    let (mut text, mut piece) = (Vec::new(), vec![0; 64 << 10]);
    while !String::from_utf8_lossy(&text).contains("# EOF") {
        let read = connection.read(&mut piece).await.ok().filter(|read| *read > 0)?;
        text.extend_from_slice(&piece[..read]);
    }
    String::from_utf8(text).ok()
}

#[tokio::test]
async fn an_authorized_scraper_keeps_its_connection_under_load() {
    let mut env = TestEnv::bare().await;
    // An unauthenticated client may keep a connection for 0.2 s, and an idle one for 3 s.
    env.time_scale = 5;
    let secured = Secured::start_on(env, &["--metrics-require-authorization"]).await;
    let token = token_without_rights(&secured.env).await;
    let name = allow(&secured.env).await;
    secured.wait_for_status(&token, 200).await;
    let mut connection = connect(&secured).await;
    let first = scrape_again(&mut connection, &token).await.expect("a first response");
    assert!(first.starts_with("HTTP/1.1 200"), "{first}");
    let port = port(&secured.env).unwrap();
    let unauthenticated = (0..24).map(|_| TcpStream::connect(("127.0.0.1", port)));
    let unauthenticated = futures::future::join_all(unauthenticated).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let second = scrape_again(&mut connection, &token).await.expect("the connection is still open");
    assert!(second.starts_with("HTTP/1.1 200"), "{second}");
    drop(unauthenticated);
    let bindings: Api<ClusterRoleBinding> = Api::all(secured.env.client.clone());
    bindings.delete(&name, &DeleteParams::default()).await.unwrap();
    let roles: Api<ClusterRole> = Api::all(secured.env.client.clone());
    roles.delete(&name, &DeleteParams::default()).await.unwrap();
}

#[tokio::test]
async fn probes_and_metrics_answer_during_a_flood_of_half_sent_requests() {
    let mut env = TestEnv::bare().await;
    env.start_operator().await;
    let operator = env.operator.as_ref().unwrap();
    let address = address(operator, "serving probes and metrics").unwrap();
    let resident = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", operator.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap()
    };
    let before = resident();
    let mut flood = Vec::new();
    for _ in 0..300 {
        let mut connection = tokio::net::TcpStream::connect(&address).await.unwrap();
        let half_a_head = format!("GET /healthz HTTP/1.1\r\nx-padding: {}", "x".repeat(8192));
        connection.write_all(half_a_head.as_bytes()).await.unwrap();
        flood.push(connection);
    }
    for path in ["/healthz", "/readyz", "/metrics"] {
        let answer = tokio::time::timeout(Duration::from_secs(5), env.get(path)).await;
        let (status, _) = answer.unwrap_or_else(|_| panic!("{path} answers in time"));
        assert_eq!(status, 200, "{path}");
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB");
    for mut connection in flood {
        let closed = tokio::time::timeout(crate::harness::QUIET_TIME, async {
            let _reset = connection.read_to_end(&mut Vec::new()).await;
        });
        closed.await.expect("a connection without a whole request is closed");
    }
}
