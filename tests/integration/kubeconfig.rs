//! Commands with a kubeconfig: the API server is reached through a proxy exactly if kubectl uses it too.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use kit::assets::{Assets, Program};
use kit::cluster::Cluster;
use kit::proxy::Proxy;
use serde_json::json;

/// A name that only the proxy knows.
const NAME: &str = "kubernetes.example.test";

/// A cluster that is reached under other addresses, and a proxy that knows these.
struct ProxiedCluster {
    cluster: &'static Cluster,
    port: u16,
    proxy: Proxy,
    kubectl: PathBuf,
}

impl ProxiedCluster {
    async fn start() -> Self {
        let cluster = Cluster::shared().await.unwrap();
        let port = cluster.server().rsplit_once(':').unwrap().1.parse().unwrap();
        let proxy = Proxy::start().await.unwrap();
        // Linux connects to 0.0.0.0 as to 127.0.0.1, but it is no loopback address.
        for host in [NAME, "0.0.0.0", "127.0.0.1"] {
            proxy.route(&format!("{host}:{port}"), port);
        }
        let find = || Assets::locate(&[Program::Kubectl]).unwrap().path(Program::Kubectl).unwrap().to_owned();
        let kubectl = tokio::task::spawn_blocking(find).await.unwrap();
        Self { cluster, port, proxy, kubectl }
    }

    /// Writes a kubeconfig that names the API server by that host.
    fn kubeconfig(&self, host: &str, proxy_url: Option<&str>) -> PathBuf {
        let original = std::fs::read_to_string(self.cluster.kubeconfig_path()).unwrap();
        let mut kubeconfig: serde_json::Value = serde_json::from_str(&original).unwrap();
        let cluster = &mut kubeconfig["clusters"][0]["cluster"];
        cluster["server"] = json!(format!("https://{host}:{}", self.port));
        cluster["tls-server-name"] = json!("localhost");
        cluster["proxy-url"] = json!(proxy_url);
        let path = self.cluster.dir().join(format!("proxied-{:016x}.json", getrandom::u64().unwrap()));
        std::fs::write(&path, kubeconfig.to_string()).unwrap();
        path
    }

    /// Runs a program, and returns its output and whether it used the proxy.
    async fn run(
        &self,
        program: &Path,
        args: &[&str],
        kubeconfig: &Path,
        set: &[(&str, String)],
    ) -> (Output, bool) {
        let before = self.proxy.targets().len();
        let mut command = Command::new(program);
        for name in ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "NO_PROXY", "no_proxy"] {
            command.env_remove(name);
        }
        command.args(args).env("KUBECONFIG", kubeconfig);
        command.envs(set.iter().map(|(name, value)| (name, value)));
        let output = tokio::task::spawn_blocking(move || command.output().unwrap()).await.unwrap();
        (output, self.proxy.targets().len() > before)
    }

    /// Checks a command and kubectl.
    async fn check(&self, host: &str, proxy_url: Option<&str>, set: &[(&str, String)], uses_proxy: bool) {
        let kubeconfig = self.kubeconfig(host, proxy_url);
        let own = Path::new(env!("CARGO_BIN_EXE_graph-credential-operator"));
        let list = ["remove-finalizers", "--watch-namespace", "nowhere"];
        for (program, args) in [(own, &list[..]), (&self.kubectl, &["get", "--raw", "/version"][..])] {
            let (output, used) = self.run(program, args, &kubeconfig, set).await;
            let shown = format!("{} at {host} with {set:?}: {output:?}", program.display());
            assert_eq!(used, uses_proxy, "{shown}");
            // Without the proxy, nothing knows the name.
            assert_eq!(output.status.success(), uses_proxy || host != NAME, "{shown}");
        }
        std::fs::remove_file(kubeconfig).unwrap();
    }
}

#[tokio::test]
async fn the_api_server_is_reached_through_a_proxy_exactly_if_kubectl_uses_it() {
    let cluster = ProxiedCluster::start().await;
    let url = cluster.proxy.url();
    let set = |no_proxy: &str| [("HTTPS_PROXY", url.clone()), ("NO_PROXY", no_proxy.to_owned())];
    let port = cluster.port;
    for (host, no_proxy, uses_proxy) in [
        (NAME, String::new(), true),
        (NAME, "127.0.0.1,".to_owned(), true),
        (NAME, format!("example.test:{},.{NAME}", port + 1), true),
        (NAME, " , .example.test,".to_owned(), false),
        (NAME, format!("*.example.test:{port}"), false),
        ("0.0.0.0", "127.0.0.1".to_owned(), true),
        ("0.0.0.0", "0.0.0.0,".to_owned(), false),
        ("0.0.0.0", "0.0.0.0/8".to_owned(), false),
        ("0.0.0.0", "*".to_owned(), false),
        ("127.0.0.1", String::new(), false),
    ] {
        cluster.check(host, None, &set(&no_proxy), uses_proxy).await;
    }
    cluster.check("0.0.0.0", None, &[("http_proxy", url.clone())], false).await;
    cluster.check("127.0.0.1", Some(&url), &set("*")[1..], true).await;
}

#[tokio::test]
async fn an_unusable_proxy_is_named_by_its_variable_and_not_shown() {
    let cluster = ProxiedCluster::start().await;
    let kubeconfig = cluster.kubeconfig("0.0.0.0", None);
    let own = Path::new(env!("CARGO_BIN_EXE_graph-credential-operator"));
    let set = [("https_proxy", "ftp://user:canary@127.0.0.1".to_owned())];
    let args = ["remove-finalizers", "--watch-namespace", "nowhere"];
    let (output, _) = cluster.run(own, &args, &kubeconfig, &set).await;
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.contains("https_proxy is not the address of a proxy"), "{text}");
    assert!(!text.contains("canary"), "{text}");
}
