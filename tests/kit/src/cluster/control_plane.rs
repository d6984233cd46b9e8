//! etcd and kube-apiserver: their flags, their ports, their processes.

use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use kube::Client;
use tokio::select;
use tokio::time::sleep;

use super::access::{self, Access};
use super::audit::AuditLog;
use super::error::tail;
use super::{Error, START};
use crate::assets::{Assets, Program};
use crate::process::{Process, Signal};

/// Both programs. The order of the fields is the order in which they are dropped: the API server first, then
/// its store.
#[derive(Debug)]
pub(super) struct ControlPlane {
    apiserver: Process,
    etcd: Process,
    etcd_url: String,
    dir: PathBuf,
}

/// The ports of the programs on 127.0.0.1.
#[derive(Clone, Copy)]
pub(super) struct Ports {
    /// etcd's, for clients.
    pub(super) client: u16,
    /// etcd's, for peers, of which there are none.
    pub(super) peer: u16,
    /// The Kubernetes API's.
    pub(super) api: u16,
}

/// etcd is starting; kube-apiserver is next.
pub(super) struct Starting {
    etcd: Process,
    etcd_url: String,
    server: String,
    port: u16,
}

// === impl Ports ===

impl Ports {
    /// Ports that are free now. Another process may take one before the programs do.
    pub(super) fn free() -> Result<Self, Error> {
        // All are held while they are chosen, so that none is chosen twice.
        let [client, peer, api] = [listen()?, listen()?, listen()?];
        let port = |listener: TcpListener| {
            listener.local_addr().map(|address| address.port()).map_err(Error::NoPort)
        };
        Ok(Self { client: port(client)?, peer: port(peer)?, api: port(api)? })
    }
}

fn listen() -> Result<TcpListener, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Error::NoPort)
}

// === impl Starting ===

impl Starting {
    /// Starts etcd; its supervisor will remove the directory.
    pub(super) async fn etcd(assets: &Assets, dir: &Path, ports: Ports) -> Result<Self, Error> {
        let (client, peer) = (url("http", ports.client), url("http", ports.peer));
        let etcd = program(assets, Program::Etcd, dir)
            .cleanup_dir(dir)
            .args([
                format!("--data-dir={}", data_dir(dir).display()),
                format!("--listen-client-urls={client}"),
                format!("--advertise-client-urls={client}"),
                format!("--listen-peer-urls={peer}"),
                format!("--initial-advertise-peer-urls={peer}"),
                format!("--initial-cluster=default={peer}"),
                // The data of a copy contains the ports of its original. Without data the flag changes
                // nothing.
                format!("--force-new-cluster={}", data_dir(dir).exists()),
                // The data need not survive a crash of the machine.
                "--unsafe-no-fsync".to_owned(),
                // More than any measurement fills; the default is 2 GiB.
                "--quota-backend-bytes=8589934592".to_owned(),
            ])
            .spawn()
            .await?;
        Ok(Self { etcd, etcd_url: client, server: url("https", ports.api), port: ports.api })
    }

    pub(super) fn server(&self) -> &str {
        &self.server
    }

    pub(super) async fn apiserver(
        self,
        assets: &Assets,
        dir: &Path,
        audit: &AuditLog,
    ) -> Result<ControlPlane, Error> {
        let apiserver = program(assets, Program::KubeApiserver, dir)
            .args([
                format!("--etcd-servers={}", self.etcd_url),
                format!("--secure-port={}", self.port),
                format!("--cert-dir={}", dir.join("certs").display()),
                "--bind-address=127.0.0.1".to_owned(),
                "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
                "--allow-privileged=true".to_owned(),
                // It rejects pods until a controller, which does not run here, has created their
                // ServiceAccount.
                "--disable-admission-plugins=ServiceAccount".to_owned(),
                // As on OpenShift: a client that sets an owner that blocks its own deletion needs rights to
                // that owner.
                "--enable-admission-plugins=OwnerReferencesPermissionEnforcement".to_owned(),
                // Tests in parallel must not wait for each other.
                "--max-requests-inflight=3000".to_owned(),
                "--max-mutating-requests-inflight=1000".to_owned(),
            ])
            .args(Access::flags(dir))
            .args(audit.flags())
            .spawn()
            .await?;
        Ok(ControlPlane { apiserver, etcd: self.etcd, etcd_url: self.etcd_url, dir: dir.to_owned() })
    }
}

// === impl ControlPlane ===

impl ControlPlane {
    /// Kills both programs. One that has already ended is no failure.
    pub(super) fn kill(&self) {
        for program in [&self.apiserver, &self.etcd] {
            let _ended = program.signal(Signal::KILL);
        }
    }

    pub(super) async fn wait_until_ready(&self, client: &Client) -> Result<(), Error> {
        let mut last_response = None;
        // The end of a program counts too, because a request to another process's port may hang.
        select! {
            error = self.end() => Err(error),
            () = readiness(client, &mut last_response) => Ok(()),
            () = sleep(START) => {
                let response = last_response.map_or_else(|| "no response".to_owned(), |error| crate::chain(&error));
                Err(Error::NotReady { bound: START, response, log: tail(&self.apiserver.log()) })
            }
        }
    }

    /// Returns when one of the programs exits, which none should.
    async fn end(&self) -> Error {
        let (program, process, exit) = select! {
            exit = self.etcd.wait(Duration::MAX) => (Program::Etcd, &self.etcd, exit),
            exit = self.apiserver.wait(Duration::MAX) => (Program::KubeApiserver, &self.apiserver, exit),
        };
        match exit {
            Ok(exit) => Error::Died { program: program.name(), exit, log: tail(&process.log()) },
            Err(error) => error.into(),
        }
    }

    pub(super) async fn stop(mut self) -> Result<(), Error> {
        self.apiserver.kill().await?;
        self.etcd.kill().await?;
        Ok(())
    }

    /// Copies etcd's data to the directory of another cluster. etcd is stopped meanwhile, so its data is as
    /// consistent as after a kill.
    pub(super) fn copy_etcd(&self, to: &Path) -> Result<(), Error> {
        self.etcd.signal(Signal::STOP)?;
        let copied = copy(&data_dir(&self.dir), &data_dir(to));
        self.etcd.signal(Signal::CONT)?;
        copied.map_err(Error::files("copy", "etcd's data"))
    }

    pub(super) fn etcd_url(&self) -> &str {
        &self.etcd_url
    }

    pub(super) const fn etcd(&self) -> &Process {
        &self.etcd
    }

    pub(super) const fn apiserver(&self) -> &Process {
        &self.apiserver
    }
}

/// Starts the garbage collector and the namespace controller.
pub(super) async fn controller_manager(
    assets: &Assets,
    dir: &Path,
    kubeconfig: &Path,
) -> Result<Process, Error> {
    let process = program(assets, Program::KubeControllerManager, dir)
        .args([
            format!("--kubeconfig={}", kubeconfig.display()),
            "--controllers=garbage-collector-controller,namespace-controller".to_owned(),
            // Each controller has only the rights of its own ServiceAccount, as in a real cluster.
            "--use-service-account-credentials=true".to_owned(),
            "--leader-elect=false".to_owned(),
            // It serves nothing.
            "--secure-port=0".to_owned(),
        ])
        .spawn()
        .await?;
    Ok(process)
}

/// Returns once the API is ready and the namespace `default` exists, which is created a moment later.
async fn readiness(client: &Client, last_response: &mut Option<Error>) {
    for path in ["/readyz", "/api/v1/namespaces/default"] {
        while let Err(error) = access::get(client, path, None).await {
            *last_response = Some(error);
            sleep(Duration::from_millis(50)).await;
        }
    }
}

/// A program without this process's environment, which may contain `ETCD_…` or `GODEBUG`.
fn program(assets: &Assets, program: Program, dir: &Path) -> crate::process::Builder {
    let path = assets.path(program).unwrap_or_else(|| Path::new(program.name()));
    Process::builder(path)
        .clear_env()
        .env("HOME", dir)
        .env("TMPDIR", dir)
        .current_dir(dir)
        .log(dir.join(format!("{}.log", program.name())))
}

fn data_dir(dir: &Path) -> PathBuf {
    dir.join("etcd")
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    // etcd rejects a data directory that others may read.
    fs::set_permissions(to, fs::Permissions::from_mode(0o700))?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

fn url(scheme: &str, port: u16) -> String {
    format!("{scheme}://127.0.0.1:{port}")
}
