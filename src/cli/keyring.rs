//! The keyring and the records that a command works on.

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

use crate::cli::cluster::{ClusterArgs, ConfirmArgs, OperatorArgs, ServedArgs};
use crate::config::ObjectName;
use crate::core::timing::Timing;
use crate::k8s::client::Cluster;
use crate::store::keyring::{self, Keyring, KeyringError, KeyringRef};

/// Selects the keyring.
#[derive(Debug, Args)]
#[command(next_help_heading = "Keyring")]
pub(super) struct KeyringArgs {
    #[command(flatten)]
    operator: OperatorArgs,

    /// Name of the Secret with the keyring, in the operator's namespace
    #[arg(
        long,
        env = "GCO_KEYRING_SECRET",
        default_value = "graph-credential-operator-keyring",
        value_name = "NAME"
    )]
    keyring_secret: ObjectName,

    #[command(flatten)]
    cluster: ClusterArgs,

    #[command(flatten)]
    timing: TimingArgs,
}

/// Durations of the command.
#[derive(Debug, Args)]
pub(super) struct TimingArgs {
    /// For tests: divide every duration by N
    #[arg(
        long,
        env = "GCO_TIME_SCALE",
        default_value_t = 1,
        value_parser = clap::value_parser!(u32).range(1..=100_000),
        value_name = "N",
        hide = true
    )]
    time_scale: u32,
}

/// Selects the keyring and the records.
#[derive(Debug, Args)]
#[command(next_help_heading = "Keyring")]
pub(super) struct StoreArgs {
    #[command(flatten)]
    served: ServedArgs,

    #[command(flatten)]
    keyring: KeyringArgs,
}

/// The cluster and the keyring in it.
pub(super) struct Target {
    pub(super) cluster: Cluster,
    pub(super) secret: KeyringRef,
    /// Whether the namespace was specified, or is the pod's.
    pub(super) has_explicit_namespace: bool,
    /// The namespaces whose records are read; if empty, all.
    pub(super) namespaces: Vec<String>,
    pub(super) timing: Timing,
}

// === impl TimingArgs ===

impl TimingArgs {
    pub(super) fn timing(&self) -> Timing {
        Timing::STANDARD.divided_by(self.time_scale)
    }
}

// === impl Target ===

impl Target {
    pub(super) async fn of(args: &StoreArgs) -> anyhow::Result<Self> {
        let mut target = Self::find(&args.keyring)?;
        target.namespaces = args.served.list();
        for namespace in &target.namespaces {
            target.check_namespace(namespace).await?;
        }
        Ok(target)
    }

    /// Fails if the namespace does not exist, because it would seem to have no records. Without the right to read it, the
    /// command continues.
    async fn check_namespace(&self, name: &str) -> anyhow::Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        match namespaces.get_metadata(name).await {
            Err(kube::Error::Api(status)) if status.is_not_found() => {
                bail!("there is no namespace {name}: fix --watch-namespace (GCO_WATCH_NAMESPACES)")
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    pub(super) fn find(args: &KeyringArgs) -> anyhow::Result<Self> {
        let timing = args.timing.timing();
        let cluster = args.cluster.connect(args.operator.name(), &timing)?;
        let secret =
            KeyringRef { namespace: cluster.namespace.clone(), name: args.keyring_secret.to_string() };
        let has_explicit_namespace = args.operator.name().is_some() || cluster.runs_in_pod;
        Ok(Self { cluster, secret, has_explicit_namespace, namespaces: Vec::new(), timing })
    }

    /// Asks whether to change the keyring, as `action` says.
    pub(super) fn confirm(&self, confirm: ConfirmArgs, action: &str) -> anyhow::Result<()> {
        let served = match self.namespaces.as_slice() {
            [] => String::new(),
            names => format!(", considering only the records in {}", names.join(", ")),
        };
        confirm.confirm(&self.cluster, &format!("{action} (keyring Secret {}{served})", self.secret))
    }

    /// The keyring, which must exist.
    pub(super) async fn keyring(&self) -> anyhow::Result<Keyring> {
        self.keyring_if_any().await?.with_context(|| {
            format!(
                "there is no keyring Secret {}: fix --operator-namespace and --keyring-secret, or restore it from a backup (keys import)",
                self.secret
            )
        })
    }

    /// Fails if a keyring would be created in the current namespace of the kubeconfig: anyone who can read Secrets there
    /// could decrypt the store.
    pub(super) fn ensure_explicit_namespace(&self) -> anyhow::Result<()> {
        ensure!(
            self.has_explicit_namespace,
            "there is no keyring Secret {}, and the command creates one only in a namespace that you specify: add --operator-namespace",
            self.secret
        );
        Ok(())
    }

    pub(super) async fn keyring_if_any(&self) -> Result<Option<Keyring>, KeyringError> {
        keyring::load(&self.cluster.client, &self.secret).await
    }
}
