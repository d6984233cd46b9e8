//! The processes of an environment: the operator, the floor, and an API server that is restarted.

use std::ffi::OsStr;
use std::time::Duration;

use k8s_openapi::api::core::v1::Secret;
use kit::cluster::User;
use kit::process::{Builder, Process};
use serde_json::json;

use crate::environment::{Environment, HOME, NAMESPACE, TIMEOUT, address, wait_for};
use crate::floor;
use crate::plan::To;

const PROGRAM: &str = env!("CARGO_BIN_EXE_graph-credential-operator");

impl Environment {
    /// Starts the operator and waits until it is ready.
    pub async fn operator(&self, more: &[&str]) -> Process {
        self.start_ready(Process::builder(PROGRAM), &self.operator_args(more)).await
    }

    /// The same with a limit for its memory, in MiB. An allocation beyond it ends the process.
    pub async fn operator_with_memory(&self, mebibytes: u64, more: &[&str]) -> Process {
        let limit = format!("--data={}", mebibytes << 20);
        self.start_ready(Process::builder("prlimit").args([&limit, PROGRAM]), &self.operator_args(more)).await
    }

    fn operator_args(&self, more: &[&str]) -> Vec<String> {
        let mut args =
            vec!["run".to_owned(), "--allowed-woodpecker-url".to_owned(), self.woodpecker.base_url()];
        args.extend(more.iter().map(|it| (*it).to_owned()));
        args
    }

    /// Starts the program with these arguments and those of every command, and waits until it is ready.
    pub async fn program(&self, args: &[&str]) -> Process {
        self.start_ready(Process::builder(PROGRAM), args).await
    }

    async fn start_ready(&self, builder: Builder, args: &[impl AsRef<OsStr>]) -> Process {
        let process = builder
            .env("KUBECONFIG", self.cluster.kubeconfig_for(User::Operator))
            .args(args)
            .args([
                "--health-probe-bind-address",
                "127.0.0.1:0",
                "--dns-server",
                "127.0.0.1:9",
                "--operator-namespace",
                HOME,
            ])
            .args(["--microsoft-authority", &self.entra.url()])
            .log(self.next_log())
            .grace(Duration::from_secs(60))
            .spawn()
            .await
            .expect("the operator can be started");
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let ready = || async {
            let address = address(&process.log(), "serving probes and metrics")?;
            let response = http.get(format!("http://{address}/readyz")).send().await.ok()?;
            response.status().is_success().then_some(())
        };
        wait_for("the operator is ready", ready, || process.log()).await;
        process
    }

    /// Starts the floor and waits until it watches.
    pub async fn floor(&self, to: To) -> Process {
        let process = self
            .itself("floor::the_floor")
            .env("FLOOR_TO", to.name())
            .env("FLOOR_WOODPECKER", self.woodpecker.base_url())
            .spawn()
            .await
            .unwrap();
        process.wait_for_log(floor::WATCHES, TIMEOUT).await.unwrap();
        process
    }

    /// This test program, as the process of the test with this name.
    pub fn itself(&self, test: &str) -> Builder {
        Process::builder(std::env::current_exe().unwrap())
            .args(["--exact", test, "--ignored", "--nocapture"])
            .env("KUBECONFIG", self.cluster.kubeconfig_for(User::Operator))
            .env("BENCH_NAMESPACE", NAMESPACE)
            .env("BENCH_AUTHORITY", self.entra.url())
            .log(self.next_log())
    }

    /// Restarts the API server with empty caches: it does not know the versions of existing watches, so every
    /// client must list again.
    pub async fn restart_apiserver(&mut self) {
        let pid = self.apiserver_pid();
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap();
        let words = String::from_utf8(line).unwrap();
        let mut words = words.split_terminator('\0').map(str::to_owned);
        let program = words.next().unwrap();
        // A version that no watch has seen.
        self.create::<Secret>(json!({"metadata": {"generateName": "version-"}})).await;
        let old = self.apiserver.as_ref().unwrap_or(self.cluster.apiserver());
        old.signal(kit::process::Signal::KILL).unwrap();
        old.wait(TIMEOUT).await.unwrap();
        let dir = self.cluster.dir();
        let fresh = Process::builder(program)
            .clear_env()
            .env("HOME", dir)
            .current_dir(dir)
            .args(words)
            .log(dir.join("kube-apiserver-again.log"))
            .spawn()
            .await
            .unwrap();
        self.apiserver = Some(fresh);
        let ready = || async {
            self.client.request_text(http::Request::get("/readyz").body(Vec::new()).unwrap()).await.ok()
        };
        wait_for("the API server is ready again", ready, String::new).await;
    }

    pub fn apiserver_pid(&self) -> u32 {
        self.apiserver.as_ref().unwrap_or(self.cluster.apiserver()).pid()
    }

    fn next_log(&self) -> std::path::PathBuf {
        self.logs.set(self.logs.get() + 1);
        self.cluster.dir().join(format!("measured-{}.log", self.logs.get()))
    }
}
