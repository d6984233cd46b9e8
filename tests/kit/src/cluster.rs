//! A Kubernetes API on this machine: etcd and kube-apiserver on free ports of 127.0.0.1, in a directory of
//! their own.
//!
//! There are no nodes and no controllers: nothing runs pods, collects garbage or completes a namespace's
//! deletion. All of it is removed when the [`Cluster`] is dropped or its process ends, even by SIGKILL.
//! `KUBECONFIG` and `~/.kube` are never read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::OnceCell;
use tokio::task::spawn_blocking;

use crate::assets::{Assets, Program};
use crate::process;

mod access;
mod audit;
mod control_plane;
mod crds;
mod error;
mod table;

use self::access::Access;
pub use self::access::User;
pub use self::audit::{AuditEntry, AuditMark};
use self::audit::{AuditLog, Detail};
use self::control_plane::{ControlPlane, Ports, Starting};
pub use self::error::Error;

/// How long a start may take, except for building the programs.
pub const START: Duration = Duration::from_secs(60);
/// How often a start is tried if another process takes a port that was free a moment before.
const ATTEMPTS: usize = 3;

/// A running cluster. It belongs to no async runtime, so tests that each have one can share it.
#[derive(Debug)]
pub struct Cluster {
    control_plane: ControlPlane,
    access: Access,
    audit: AuditLog,
    dir: PathBuf,
}

// === impl Cluster ===

impl Cluster {
    /// Starts a cluster and waits until its API responds. This takes a few seconds, and minutes the first
    /// time, when the programs are built.
    ///
    /// # Errors
    ///
    /// The programs are not available and cannot be built, or one of them does not start; the error shows the
    /// end of its log.
    pub async fn start() -> Result<Self, Error> {
        Self::start_with(Detail::Everything).await
    }

    /// As [`Cluster::start`], for measurements: the audit log contains only responses, up to a second later,
    /// and costs less.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub async fn start_for_figures() -> Result<Self, Error> {
        Self::start_with(Detail::Responses).await
    }

    async fn start_with(detail: Detail) -> Result<Self, Error> {
        let assets =
            spawn_blocking(|| Assets::locate(&Program::CONTROL_PLANE)).await.map_err(Error::Aborted)??;
        let mut attempt = 1;
        loop {
            match Self::try_start(&assets, Ports::free()?, detail, None).await {
                Err(error) if error.is_port_collision() && attempt < ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    /// Another cluster that begins with the present data of this one, like one that is restored from a backup
    /// made now. Its users are the same, with their own tokens.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`], or etcd's data cannot be copied.
    pub async fn copy(&self) -> Result<Self, Error> {
        let assets =
            spawn_blocking(|| Assets::locate(&Program::CONTROL_PLANE)).await.map_err(Error::Aborted)??;
        Self::try_start(&assets, Ports::free()?, Detail::Everything, Some(&self.control_plane)).await
    }

    /// Ends both programs and removes their files, for a cluster that is shared and never dropped.
    ///
    /// # Errors
    ///
    /// A file cannot be removed.
    pub fn end(&self) -> Result<(), Error> {
        for program in [self.apiserver(), self.etcd()] {
            // It may have ended already.
            let _ = program.signal(process::Signal::KILL);
        }
        std::fs::remove_dir_all(self.dir.join("etcd"))
            .map_err(Error::files("remove", "what etcd has written"))
    }

    /// The shared cluster of this process, started by the first caller.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`]; the next caller tries again.
    pub async fn shared() -> Result<&'static Self, Error> {
        // Never dropped: the supervisors clean up when the process ends.
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    async fn try_start(
        assets: &Assets,
        ports: Ports,
        detail: Detail,
        original: Option<&ControlPlane>,
    ) -> Result<Self, Error> {
        // From here on etcd's supervisor removes the directory, whatever happens to this process.
        let temporary = tempfile::Builder::new()
            .prefix("kit-cluster-")
            .tempdir()
            .map_err(Error::files("create", "a temporary directory"))?;
        if let Some(original) = original {
            original.copy_etcd(temporary.path())?;
        }
        let starting = Starting::etcd(assets, temporary.path(), ports).await?;
        let dir = temporary.keep();
        let access = Access::create(&dir, starting.server())?;
        let audit = AuditLog::create(&dir, detail)?;
        let control_plane = starting.apiserver(assets, &dir, &audit).await?;
        let cluster = Self { control_plane, access, audit, dir };
        cluster.control_plane.wait_until_ready(&cluster.client()?).await?;
        Ok(cluster)
    }

    /// Starts kube-controller-manager with the garbage collector and the namespace controller. It ends when
    /// the returned process is dropped.
    ///
    /// # Errors
    ///
    /// The program is not available and cannot be built, or does not start.
    pub async fn start_controller_manager(&self) -> Result<process::Process, Error> {
        let assets = spawn_blocking(|| Assets::locate(&[Program::KubeControllerManager]))
            .await
            .map_err(Error::Aborted)??;
        control_plane::controller_manager(&assets, &self.dir, &self.kubeconfig_path()).await
    }

    /// Stops both programs and waits until the directory is removed. Dropping does the same without waiting.
    ///
    /// # Errors
    ///
    /// A program or its supervisor cannot be ended.
    pub async fn stop(self) -> Result<(), Error> {
        self.control_plane.stop().await
    }

    /// Kills the programs, without waiting for their end. The cluster cannot be used afterwards.
    pub fn kill(&self) {
        self.control_plane.kill();
    }

    /// The URL of the API: `https://127.0.0.1:PORT`.
    pub fn server(&self) -> &str {
        self.access.server()
    }

    /// The URL of etcd's client API: `http://127.0.0.1:PORT`, without TLS or authentication.
    pub fn etcd_url(&self) -> &str {
        self.control_plane.etcd_url()
    }

    /// The cluster's own directory, with logs, keys and kubeconfig files. It is removed with the cluster.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// etcd's process, to stop it or read its log.
    pub const fn etcd(&self) -> &process::Process {
        self.control_plane.etcd()
    }

    /// kube-apiserver's process, to stop it or read its log.
    pub const fn apiserver(&self) -> &process::Process {
        self.control_plane.apiserver()
    }

    /// A kubeconfig file of [`User::Admin`].
    pub fn kubeconfig_path(&self) -> PathBuf {
        self.kubeconfig_for(User::Admin)
    }

    /// A kubeconfig file of this user.
    pub fn kubeconfig_for(&self, user: User) -> PathBuf {
        self.access.kubeconfig(&self.dir, user)
    }

    /// Writes a kubeconfig file for a bearer token, such as a ServiceAccount's from the `TokenRequest` API. A
    /// second file of the same name replaces the first.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn kubeconfig_with_token(&self, name: &str, token: &str) -> Result<PathBuf, Error> {
        self.access.write_kubeconfig(&self.dir, name, token)
    }

    /// A new client with all rights. It belongs to the async runtime that creates it.
    ///
    /// # Errors
    ///
    /// The client cannot be set up.
    pub fn client(&self) -> Result<Client, Error> {
        self.client_for(User::Admin)
    }

    /// A new client of this user. It belongs to the async runtime that creates it.
    ///
    /// # Errors
    ///
    /// The client cannot be set up.
    pub fn client_for(&self, user: User) -> Result<Client, Error> {
        self.access.client(user)
    }

    /// Creates a namespace that no other test has, and returns its name: the prefix, a dash and five
    /// characters.
    ///
    /// # Errors
    ///
    /// The API rejects it.
    pub async fn create_namespace(&self, prefix: &str) -> Result<String, Error> {
        let mut namespace = Namespace::default();
        namespace.metadata.generate_name = Some(format!("{prefix}-"));
        let created = Api::all(self.client()?)
            .create(&PostParams::default(), &namespace)
            .await
            .map_err(Error::api(format!("create a namespace {prefix}-*")))?;
        Ok(created.metadata.name.unwrap_or_default())
    }

    /// Applies every CRD in the directory's YAML files and waits until the API serves them; returns their
    /// names.
    ///
    /// # Errors
    ///
    /// There are none, a file cannot be read, or the API rejects one or does not serve it within 30 s.
    pub async fn apply_crds(&self, dir: impl AsRef<Path>) -> Result<Vec<String>, Error> {
        crds::apply(&self.client()?, dir.as_ref()).await
    }

    /// The output of `kubectl get` for an API path such as `/api/v1/namespaces`, with or without `-o wide`.
    /// Objects of several namespaces have a namespace column, as with `-A`. Empty if there are no objects.
    ///
    /// # Errors
    ///
    /// The API rejects the request, or responds with something other than a table.
    pub async fn table(&self, path: &str, wide: bool) -> Result<String, Error> {
        table::get(&self.client()?, path, wide).await
    }

    /// Every request so far, including those without a response yet.
    ///
    /// # Errors
    ///
    /// The audit log cannot be read.
    pub fn audit(&self) -> Result<Vec<AuditEntry>, Error> {
        self.audit.since(AuditMark::START)
    }

    /// The present end of the audit log.
    ///
    /// # Errors
    ///
    /// The audit log cannot be read.
    pub fn audit_mark(&self) -> Result<AuditMark, Error> {
        self.audit.mark()
    }

    /// As [`Cluster::audit`], but only requests that arrived after the mark.
    ///
    /// # Errors
    ///
    /// The audit log cannot be read.
    pub fn audit_since(&self, mark: AuditMark) -> Result<Vec<AuditEntry>, Error> {
        self.audit.since(mark)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use super::*;

    #[tokio::test]
    async fn a_port_collision_is_detected() {
        let assets = spawn_blocking(|| Assets::locate(&Program::CONTROL_PLANE)).await.unwrap().unwrap();
        for taken in ["etcd", "kube-apiserver"] {
            let ports = Ports::free().unwrap();
            let port = if taken == "etcd" { ports.client } else { ports.api };
            let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
            let error = Cluster::try_start(&assets, ports, Detail::Everything, None).await.unwrap_err();
            assert!(error.is_port_collision(), "{error}");
            assert!(error.to_string().starts_with(&format!("{taken} ended (exit code 1)")), "{error}");
        }
    }
}
