//! A Kubernetes API on this machine: etcd and kube-apiserver on free ports of 127.0.0.1, in a directory of their own.
//!
//! There are no nodes and no controllers: nothing runs pods, collects garbage or ends a namespace's deletion. All of it
//! is gone when the [`Cluster`] is dropped or its process ends, however it ends. `KUBECONFIG` and `~/.kube` are never
//! looked at.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, api::PostParams};
use tokio::{sync::OnceCell, task::spawn_blocking};

use crate::{
    assets::{Assets, Program},
    process,
};

mod access;
mod audit;
mod control_plane;
mod crds;
mod error;
mod table;

use self::{
    access::Access,
    audit::{AuditLog, Detail},
    control_plane::{ControlPlane, Ports, Starting},
};
pub use self::{
    access::User,
    audit::{AuditEntry, AuditMark},
    error::Error,
};

/// How long a start may take, the building of programs aside.
pub const START: Duration = Duration::from_secs(60);
/// How often a start is tried when somebody else takes a port that was free a moment before.
const ATTEMPTS: usize = 3;

/// A running cluster. It belongs to no runtime, so tests that each have one can share it.
#[derive(Debug)]
pub struct Cluster {
    control_plane: ControlPlane,
    access: Access,
    audit: AuditLog,
    dir: PathBuf,
}

// === impl Cluster ===

impl Cluster {
    /// Starts a cluster and waits until its API answers: a few seconds, and minutes the first time, when the programs
    /// are built.
    ///
    /// # Errors
    ///
    /// The programs are not there and cannot be built, or one of them does not start; its log's end is shown.
    pub async fn start() -> Result<Self, Error> {
        Self::start_with(Detail::Everything).await
    }

    /// As [`Cluster::start`], for measurements: the audit log holds answers alone, a second later at most, and costs less.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`].
    pub async fn start_for_figures() -> Result<Self, Error> {
        Self::start_with(Detail::Answers).await
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

    /// Another cluster that begins with what this one holds at this moment, as one that is restored from a backup made now.
    /// Its users are the same, with tokens of their own.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`], or what etcd has written cannot be copied.
    pub async fn copy(&self) -> Result<Self, Error> {
        let assets =
            spawn_blocking(|| Assets::locate(&Program::CONTROL_PLANE)).await.map_err(Error::Aborted)??;
        Self::try_start(&assets, Ports::free()?, Detail::Everything, Some(&self.control_plane)).await
    }

    /// Ends both programs and removes what they have written, for a cluster that is shared and never dropped.
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

    /// The one cluster of this process, started by whoever asks first.
    ///
    /// # Errors
    ///
    /// As [`Cluster::start`]; the next to ask tries again.
    pub async fn shared() -> Result<&'static Self, Error> {
        // Never dropped: the guardians clean up when the process ends.
        static SHARED: OnceCell<Cluster> = OnceCell::const_new();
        SHARED.get_or_try_init(Self::start).await
    }

    async fn try_start(
        assets: &Assets,
        ports: Ports,
        detail: Detail,
        original: Option<&ControlPlane>,
    ) -> Result<Self, Error> {
        // From here on etcd's guardian removes the directory, whatever becomes of this process.
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

    /// Starts kube-controller-manager with the controllers that delete on the cluster's behalf: the garbage collector and
    /// that of namespaces. It ends when what is returned is dropped.
    ///
    /// # Errors
    ///
    /// The program is not there and cannot be built, or does not start.
    pub async fn start_controller_manager(&self) -> Result<process::Process, Error> {
        let assets = spawn_blocking(|| Assets::locate(&[Program::KubeControllerManager]))
            .await
            .map_err(Error::Aborted)??;
        control_plane::controller_manager(&assets, &self.dir, &self.kubeconfig_path()).await
    }

    /// Stops both programs and waits until the directory is gone. Dropping does the same without waiting.
    ///
    /// # Errors
    ///
    /// A program or its guardian cannot be ended.
    pub async fn stop(self) -> Result<(), Error> {
        self.control_plane.stop().await
    }

    /// Where the API is: `https://127.0.0.1:PORT`.
    pub fn server(&self) -> &str {
        self.access.server()
    }

    /// Where etcd's client API is: `http://127.0.0.1:PORT`, without TLS or authentication.
    pub fn etcd_url(&self) -> &str {
        self.control_plane.etcd_url()
    }

    /// The cluster's own directory: logs, keys, kubeconfig files. Files put there vanish with the cluster.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// etcd's process, to halt it or read its log.
    pub const fn etcd(&self) -> &process::Process {
        self.control_plane.etcd()
    }

    /// kube-apiserver's process, to halt it or read its log.
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

    /// Writes a kubeconfig file for a bearer token, such as a ServiceAccount's from the `TokenRequest` API. The name
    /// tells the files apart; a second file of one name replaces the first.
    ///
    /// # Errors
    ///
    /// The file cannot be written.
    pub fn kubeconfig_with_token(&self, name: &str, token: &str) -> Result<PathBuf, Error> {
        self.access.write_kubeconfig(&self.dir, name, token)
    }

    /// A new client with all rights. It belongs to the runtime it is made in.
    ///
    /// # Errors
    ///
    /// The client cannot be set up.
    pub fn client(&self) -> Result<Client, Error> {
        self.client_for(User::Admin)
    }

    /// A new client of this user. It belongs to the runtime it is made in.
    ///
    /// # Errors
    ///
    /// The client cannot be set up.
    pub fn client_for(&self, user: User) -> Result<Client, Error> {
        self.access.client(user)
    }

    /// Makes a namespace that no other test has, and returns its name: the prefix, a dash and five characters.
    ///
    /// # Errors
    ///
    /// The API refuses it.
    pub async fn create_namespace(&self, prefix: &str) -> Result<String, Error> {
        let mut namespace = Namespace::default();
        namespace.metadata.generate_name = Some(format!("{prefix}-"));
        let created = Api::all(self.client()?)
            .create(&PostParams::default(), &namespace)
            .await
            .map_err(Error::api(format!("create a namespace {prefix}-*")))?;
        Ok(created.metadata.name.unwrap_or_default())
    }

    /// Applies every CRD in the directory's YAML files and waits until the API serves them; returns their names.
    ///
    /// # Errors
    ///
    /// There are none, a file cannot be read, or the API refuses one or does not serve it within 30 s.
    pub async fn apply_crds(&self, dir: impl AsRef<Path>) -> Result<Vec<String>, Error> {
        crds::apply(&self.client()?, dir.as_ref()).await
    }

    /// What `kubectl get` prints for an API path such as `/api/v1/namespaces`, with `-o wide` or without. Objects of
    /// several namespaces have a column for theirs, as with `-A`. Nothing at all if there are no objects.
    ///
    /// # Errors
    ///
    /// The API refuses, or answers something else than a table.
    pub async fn table(&self, path: &str, wide: bool) -> Result<String, Error> {
        table::get(&self.client()?, path, wide).await
    }

    /// Every request so far, those without an answer yet included.
    ///
    /// # Errors
    ///
    /// The audit log cannot be read.
    pub fn audit(&self) -> Result<Vec<AuditEntry>, Error> {
        self.audit.since(AuditMark::START)
    }

    /// The end of the audit log as it is now.
    ///
    /// # Errors
    ///
    /// The audit log cannot be read.
    pub fn audit_mark(&self) -> Result<AuditMark, Error> {
        self.audit.mark()
    }

    /// As [`Cluster::audit`], only the requests that came in after the mark.
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
    async fn a_port_taken_meanwhile_is_worth_another_try() {
        let assets = spawn_blocking(|| Assets::locate(&Program::CONTROL_PLANE)).await.unwrap().unwrap();
        for taken in ["etcd", "kube-apiserver"] {
            let ports = Ports::free().unwrap();
            let port = if taken == "etcd" { ports.client } else { ports.api };
            let _taker = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
            let error = Cluster::try_start(&assets, ports, Detail::Everything, None).await.unwrap_err();
            assert!(error.is_port_collision(), "{error}");
            assert!(error.to_string().starts_with(&format!("{taken} ended (exit code 1)")), "{error}");
        }
    }
}
