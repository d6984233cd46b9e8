//! Secrets in memory: ten seconds after a reconciliation no writable page of the process holds a client
//! secret, or a part of one, in any of its encodings.
//!
//! API keys stay in memory on purpose, because each request to Woodpecker needs one. The search finds the
//! key, which shows that it would find a secret.

use std::fmt::Write as _;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;
use std::{env, fs};

use graph_credential_operator::api::conditions::ConditionType;
use k8s_openapi::api::core::v1::Secret;
use kit::api_proxy::{ApiProxy, write_kubeconfig};
use kit::cluster::User;
use kit::entra::{Fault as EntraFault, Outcome};
use kit::memory::{Search, search};
use kit::process::{Process, Signal};
use kit::tls::{Authority, Relay};
use kit::woodpecker::{Fault, Op, RetryAfter};
use rustix::process::getuid;
use serde_json::json;

use crate::harness::{API_KEY, CLIENT, EXPIRY, TENANT, TestEnv, condition, eventually};
use crate::keyring_access::{KEYRING, keyring, left};

/// Longer than the lifetime of anything that a reconciliation leaves behind.
const TEN_SECONDS: Duration = Duration::from_secs(10);

/// How long an operator without a cluster may take to start.
const START: Duration = Duration::from_secs(30);

/// A client secret whose beginning and end occur nowhere else. Between them are characters that URL and JSON
/// encodings change.
pub struct Canary {
    begin: String,
    end: String,
    pub text: String,
}

impl Canary {
    pub fn new() -> Self {
        let random = || format!("{:016x}", getrandom::u64().unwrap());
        let (begin, end) = (random(), random());
        let text = format!("{begin}~+%2B\"\\/{end}");
        Self { begin, end, text }
    }

    /// What to search for: both ends as they are, which no URL or JSON encoding changes; both ends in base64;
    /// and bytes as `Debug` prints them. A partly overwritten buffer still contains one of them.
    pub fn traces(&self) -> Vec<String> {
        use base64::Engine as _;
        let base64 = base64::engine::general_purpose::STANDARD.encode(&self.text);
        let bytes = self.begin.bytes().fold(String::new(), |mut text, byte| {
            let _infallible = write!(text, "{byte}, ");
            text
        });
        let (begin, end) = (base64[..20].to_owned(), base64[base64.len() - 20..].to_owned());
        vec![self.begin.clone(), self.end.clone(), begin, end, bytes]
    }
}

/// Searches the operator's memory while the process is stopped.
fn find(env: &TestEnv, texts: &[String]) -> Search {
    find_in(env.operator.as_ref().unwrap(), texts)
}

/// Searches the memory of a process while it is stopped.
pub fn find_in(operator: &Process, texts: &[String]) -> Search {
    let needles: Vec<&[u8]> = texts.iter().map(String::as_bytes).collect();
    operator.signal(Signal::STOP).unwrap();
    let found = search(operator.pid(), &needles).expect("the operator's memory can be read");
    operator.signal(Signal::CONT).unwrap();
    found
}

/// Creates the Secret as `kubectl apply` does: an annotation contains its values once more, as text and in
/// base64 like the file. So the metadata contains them too. (If the annotation exists, the API server itself
/// renews it on a server-side apply.)
async fn kubectl_apply(env: &TestEnv, secret: &str, expiry: &str) {
    const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let data = json!({"client_secret": k8s_openapi::ByteString(secret.as_bytes().to_vec())});
    let text = json!({"client_secret": secret, "secret_expires_at": expiry});
    let body = json!({"metadata": {"annotations": {LAST_APPLIED: "{}"}}, "data": data, "stringData": text});
    let applied = env.apply::<Secret>("sales-eu-graph", body).await.unwrap();
    let annotation = &applied.metadata.annotations.unwrap()[LAST_APPLIED];
    let base64 = data["client_secret"].as_str().unwrap();
    assert!(annotation.contains(expiry) && annotation.contains(base64), "{annotation}");
}

/// Has secrets registered, rejected, sent without success and rotated, and checks that after `a_while` none
/// of them is in memory.
async fn forgets(mut env: TestEnv, a_while: Duration) {
    let [first, rejected, second, third] = [(); 4].map(|()| Canary::new());
    // Only root can read the memory of a process that is not dumpable.
    env.extra_args.push("--allow-core-dumps".to_owned());
    env.entra.set_secrets(TENANT, CLIENT, &[&first.text, &second.text, &third.text]);
    env.start_operator().await;
    let env = env;
    let registered = async |secret: &Canary, expiry: &str| {
        kubectl_apply(&env, &secret.text, expiry).await;
        env.wait_until("sales-eu", expiry, |object| {
            let status = object.status.as_ref();
            status.and_then(|status| status.expires_at.as_ref()).is_some_and(|at| at.0.to_string() == expiry)
        })
        .await;
        let id = env.remote()[0].credential_id;
        assert!(env.woodpecker.secret_matches("agency", id, &secret.text));
    };

    kubectl_apply(&env, &first.text, "2027-11-28T23:59:59Z").await;
    env.credential("sales-eu", json!({})).await;
    env.wait_until_ready("sales-eu").await;

    kubectl_apply(&env, &rejected.text, "2027-11-28T23:59:59Z").await;
    env.wait_until("sales-eu", "the refusal", |object| {
        let verified = condition(object, ConditionType::Verified).map(|verified| verified.reason.as_str());
        matches!(verified, Some("AwaitingPropagation" | "InvalidClientSecret"))
    })
    .await;

    env.entra.fail_next(1, EntraFault::Reset);
    // A fault with a quick retry, because after a lost response the operator waits.
    let slow_down = Fault::Throttled { retry_after: Some(RetryAfter::Seconds(1)) };
    env.woodpecker.fail_next(Op::Update, 1, slow_down);
    registered(&second, "2028-01-01T00:00:00Z").await;
    assert_eq!(env.remote().len(), 1);
    registered(&third, "2028-02-01T00:00:00Z").await;
    tokio::time::sleep(a_while).await;

    let control = find(&env, &[API_KEY.to_owned()]);
    assert!(!control.hits.is_empty(), "the search finds what is there");
    let secrets = [("first", first), ("refused", rejected), ("second", second), ("third", third)];
    let (names, traces): (Vec<&str>, Vec<String>) = secrets
        .iter()
        .flat_map(|(name, secret)| secret.traces().into_iter().map(move |trace| (*name, trace)))
        .unzip();
    let found = find(&env, &traces);
    let hits: Vec<_> = found
        .hits
        .iter()
        .map(|hit| (names[hit.needle], &traces[hit.needle], &hit.mapping, &hit.context))
        .collect();
    assert!(hits.is_empty(), "{} hits: {hits:#?}", hits.len());
    assert_eq!(found.unread, 0, "every writable page was read");
}

/// At the real pace, because a connection must not be clean only because the next request came soon.
#[tokio::test]
async fn no_client_secret_is_in_memory_ten_seconds_after_a_reconcile() {
    let mut env = TestEnv::bare().await;
    env.time_scale = 1;
    env.account("agency", json!({})).await;
    forgets(env, TEN_SECONDS).await;
}

/// The operator decrypts what it has encrypted in each reconciliation.
#[tokio::test]
async fn no_stored_secret_is_in_memory_ten_seconds_after_a_reconcile() {
    let mut env = TestEnv::bare().await;
    env.time_scale = 1;
    env.extra_args.push("--allow-core-dumps".to_owned());
    let secrets = [(); 2].map(|()| Canary::new());
    env.entra.set_secrets(TENANT, CLIENT, &[&secrets[0].text, &secrets[1].text]);
    env.account("agency", json!({})).await;
    env.start_operator().await;
    let spec = json!({"destination": {"woodpecker": null, "store": {}}});
    for (secret, expiry) in secrets.iter().zip(["2027-11-28T23:59:59Z", "2028-01-01T00:00:00Z"]) {
        kubectl_apply(&env, &secret.text, expiry).await;
        env.credential("sales-eu", spec.clone()).await;
        env.wait_until("sales-eu", expiry, |object| {
            let sealed = object.status.as_ref().and_then(|status| status.registration.as_ref());
            sealed.is_some_and(|sealed| sealed.expires_at.0.to_string() == expiry)
        })
        .await;
    }
    re_encrypt(&env).await;
    tokio::time::sleep(TEN_SECONDS).await;
    let control = find(&env, &[API_KEY.to_owned()]);
    assert!(!control.hits.is_empty(), "the search finds what is there");
    let found = find(&env, &secrets.iter().flat_map(Canary::traces).collect::<Vec<_>>());
    assert!(found.hits.is_empty(), "{:#?}", found.hits);
}

/// Gives the keyring another primary key, under which the record is re-encrypted.
async fn re_encrypt(env: &TestEnv) {
    let mut keyring = keyring(env).await;
    let key = keyring.rotate(jiff::Timestamp::now()).unwrap();
    let json = keyring.to_json().unwrap();
    env.secret(KEYRING, &[("keyring.json", std::str::from_utf8(json.expose()).unwrap())]).await;
    eventually("the record is re-encrypted", || async {
        let left = left(env, key).await;
        if left == 0 { Ok(()) } else { Err(env.log()) }
    })
    .await;
}

/// With TLS for outbound connections, and with changes of Secrets noticed by `get` alone.
#[tokio::test]
async fn no_client_secret_is_in_memory_after_tls_or_after_a_read_without_use() {
    let mut env = TestEnv::bare().await;
    let tls = Tls::before(&env).await;
    let base_url = tls.reach(&mut env);
    // The operator checks Secrets every 12 s. The check before the last reconciliation precedes requests that
    // may overwrite its traces. Nothing follows the next check.
    env.time_scale = 5;
    env.limit_operator(&["get"]).await;
    env.account("agency", json!({"baseUrl": base_url})).await;
    forgets(env, Duration::from_secs(12) + TEN_SECONDS).await;
}

/// Both doubles behind TLS.
struct Tls {
    authority: Authority,
    relays: [Relay; 2],
}

impl Tls {
    async fn before(env: &TestEnv) -> Self {
        let authority = Authority::new().unwrap();
        let address = |url: String| url.trim_start_matches("http://").to_owned();
        let login = authority.relay(&["127.0.0.1"], &address(env.entra.url())).await.unwrap();
        let api = authority.relay(&["127.0.0.1"], &address(env.woodpecker.url())).await.unwrap();
        Self { authority, relays: [login, api] }
    }

    /// Points the operator at them. Returns the address of Woodpecker.
    fn reach(&self, env: &mut TestEnv) -> String {
        let [login, api] = self.relays.each_ref().map(|relay| format!("https://127.0.0.1:{}", relay.port()));
        let ca = env.cluster.dir().join(format!("{}-ca.pem", env.namespace));
        fs::write(&ca, self.authority.pem()).unwrap();
        let base_url = format!("{api}/rest");
        env.authority = Some(login);
        env.extra_args = ["--allowed-woodpecker-url", &base_url, "--ca-bundle", ca.to_str().unwrap()]
            .map(str::to_owned)
            .into();
        base_url
    }
}

/// The connections that secrets are read and sent over are in use all the time, over TLS. The API server
/// hangs in the middle of a response, and Microsoft before two responses.
#[tokio::test]
async fn no_client_secret_is_in_memory_while_connections_are_shared_and_responses_stall() {
    const OTHERS: usize = 8;
    let mut env = TestEnv::bare().await;
    env.time_scale = 1;
    let tls = Tls::before(&env).await;
    let base_url = tls.reach(&mut env);
    env.extra_args.push("--allow-core-dumps".to_owned());
    let proxy = ApiProxy::start(env.cluster.client_for(User::Operator).unwrap()).await.unwrap();
    let authority = Authority::new().unwrap();
    let relay = authority.relay(&["127.0.0.1"], &proxy.address()).await.unwrap();
    let kubeconfig = env.cluster.dir().join(format!("{}-relay.kubeconfig", env.namespace));
    let server = format!("https://127.0.0.1:{}", relay.port());
    write_kubeconfig(&kubeconfig, &server, Some(&authority.pem())).unwrap();
    env.user = Some(kubeconfig);
    let [used, stalled] = [(); 2].map(|()| Canary::new());
    env.entra.set_secrets(TENANT, CLIENT, &[&used.text, &stalled.text]);
    for other in 0..OTHERS {
        let client = format!("{other:08x}-69ac-480e-8a17-9b8534679bd1");
        env.entra.add_app(TENANT, &client);
        env.entra.set_secrets(TENANT, &client, &OTHER_SECRETS);
        env.secret(&format!("other-{other}-graph"), &other_secret(0)).await;
        let spec = json!({"clientId": client, "secretRef": {"name": format!("other-{other}-graph")}});
        env.credential(&format!("other-{other}"), spec).await;
    }
    env.start_operator().await;
    env.account("agency", json!({"baseUrl": base_url})).await;
    for other in 0..OTHERS {
        env.wait_until_ready(&format!("other-{other}")).await;
    }

    let load = async {
        for n in 1.. {
            env.secret(&format!("other-{}-graph", n % OTHERS), &other_secret(n)).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    let searched = async {
        kubectl_apply(&env, &used.text, "2027-11-28T23:59:59Z").await;
        env.credential("sales-eu", json!({})).await;
        env.wait_until_ready("sales-eu").await;
        env.entra.fail_next(2, EntraFault::Hang(Duration::from_mins(1)));
        let (reads, connections) = proxy.secret_traffic();
        proxy.stall("/secrets/sales-eu-graph");
        kubectl_apply(&env, &stalled.text, "2028-01-01T00:00:00Z").await;
        eventually("the response stalls", || async {
            let hangs = |request: &kit::entra::TokenRequest| request.outcome == Outcome::Fault("Hang");
            let microsoft_stalls = env.entra.requests().iter().filter(|it| hangs(it)).count() == 2;
            if proxy.is_stalling() && microsoft_stalls { Ok(()) } else { Err(env.log()) }
        })
        .await;
        tokio::time::sleep(TEN_SECONDS).await;
        let after = proxy.secret_traffic();
        let found = find(&env, &[used.traces(), stalled.traces()].concat());
        (found, after.0 - reads, after.1 - connections)
    };
    let (found, reads, connections) = tokio::select! {
        () = load => unreachable!("the load never ends"),
        searched = searched => searched,
    };
    assert!(found.hits.is_empty(), "{:#?}", found.hits);
    assert!(!find(&env, &[API_KEY.to_owned()]).hits.is_empty(), "the search finds what is there");
    eprintln!("{reads} reads of Secrets, {connections} connections");
    assert!(reads >= 50 && connections * 4 <= reads, "{reads} reads took {connections} connections");
}

const OTHER_SECRETS: [&str; 3] = ["s3cret-one", "s3cret-two", "s3cret-three"];

/// A different valid secret for each `n`.
fn other_secret(n: usize) -> [(&'static str, &'static str); 2] {
    [("client_secret", OTHER_SECRETS[n % 3]), ("secret_expires_at", EXPIRY)]
}

/// An operator without a cluster, run by another user than root. The files in /proc of a process that is not
/// dumpable belong to root and not to its user.
struct Unprivileged {
    process: Process,
    user: u32,
}

impl Unprivileged {
    async fn start(args: &[&str]) -> Self {
        let dir = env::temp_dir().join(format!("unprivileged-{:016x}", getrandom::u64().unwrap()));
        fs::create_dir(&dir).unwrap();
        let program = dir.join("graph-credential-operator");
        fs::copy(env!("CARGO_BIN_EXE_graph-credential-operator"), &program).unwrap();
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "none",
            "clusters": [{"name": "none", "cluster": {"server": "http://127.0.0.1:9"}}],
            "contexts": [{"name": "none", "context": {"cluster": "none", "user": "none"}}],
            "users": [{"name": "none", "user": {}}]
        });
        let kubeconfig = dir.join("kubeconfig");
        fs::write(&kubeconfig, config.to_string()).unwrap();
        for (path, mode) in [(dir.as_path(), 0o755), (&program, 0o755), (&kubeconfig, 0o644)] {
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        let run = ["run", "--health-probe-bind-address", "127.0.0.1:0", "--dns-server", "127.0.0.1:9"];
        let (user, builder) = if getuid().is_root() {
            let nobody = ["--reuid=65534", "--regid=65534", "--clear-groups"];
            (65534, Process::builder("setpriv").args(nobody).args([&program]))
        } else {
            (getuid().as_raw(), Process::builder(&program))
        };
        let process = builder
            .args(run)
            .args(args)
            .env("KUBECONFIG", &kubeconfig)
            .log(dir.join("log"))
            .cleanup_dir(&dir)
            .spawn()
            .await
            .unwrap();
        process.wait_for_log("core dumps are", START).await.unwrap();
        Self { process, user }
    }

    fn proc(&self, file: &str) -> String {
        format!("/proc/{}/{file}", self.process.pid())
    }

    fn owner(&self) -> u32 {
        fs::metadata(self.proc("maps")).unwrap().uid()
    }

    /// Soft and hard limit of the core file size.
    fn limits(&self) -> (String, String) {
        let text = fs::read_to_string(self.proc("limits")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
        let mut words = line.split_whitespace().map(str::to_owned);
        (words.next().unwrap(), words.next().unwrap())
    }
}

#[tokio::test]
async fn core_dumps_are_off_and_no_other_process_of_the_user_may_read_this_one() {
    let operator = Unprivileged::start(&[]).await;
    assert_eq!(operator.limits(), ("0".to_owned(), "0".to_owned()));
    assert_eq!(operator.owner(), 0, "the process is not dumpable");
    assert!(operator.process.log().contains("core dumps are off"), "{}", operator.process.log());
}

#[tokio::test]
async fn core_dumps_can_be_allowed_for_profiling() {
    let operator = Unprivileged::start(&["--allow-core-dumps"]).await;
    let own = fs::read_to_string("/proc/self/limits").unwrap();
    let hard = own.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(
        Some(operator.limits().1.as_str()),
        hard.split_whitespace().nth(1),
        "the hard limit is unchanged"
    );
    assert_eq!(operator.owner(), operator.user, "the process is dumpable");
    assert!(operator.process.log().contains("core dumps are allowed"), "{}", operator.process.log());
}
