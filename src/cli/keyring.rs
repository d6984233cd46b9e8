//! The keyring of the cluster that a command looks at: which one, and whose records.

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;

use crate::app::kubernetes::{self, Cluster};
use crate::settings::{ObjectName, Timing};
use crate::store::keyring::{self, Keyring, KeyringError, KeyringPlace};

/// Which keyring.
#[derive(Debug, Args)]
#[command(next_help_heading = "Keyring")]
pub(super) struct KeyringArgs {
    /// Namespace of the operator. Without it, the namespace of the pod or of the kubeconfig's context
    #[arg(long, env = "GCO_OPERATOR_NAMESPACE", value_name = "NAMESPACE")]
    operator_namespace: Option<String>,

    /// Name of the Secret, in the operator's namespace, that holds the keyring
    #[arg(
        long,
        env = "GCO_KEYRING_SECRET",
        default_value = "graph-credential-operator-keyring",
        value_name = "NAME"
    )]
    keyring_secret: ObjectName,

    #[command(flatten)]
    pace: PaceArgs,
}

/// How long the command waits.
#[derive(Debug, Args)]
pub(super) struct PaceArgs {
    /// For tests: divides every wait by N
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

/// Which keyring, and whose records.
#[derive(Debug, Args)]
#[command(next_help_heading = "Keyring")]
pub(super) struct StoreArgs {
    /// Namespace whose records are looked at; may be repeated or hold a comma-separated list. Without it, all
    /// namespaces. Beside an operator that serves some namespaces alone, name the same ones
    #[arg(long = "namespace", env = "GCO_WATCH_NAMESPACES", value_delimiter = ',', value_name = "NAMESPACE")]
    namespaces: Vec<ObjectName>,

    #[command(flatten)]
    keyring: KeyringArgs,
}

/// The cluster, and where the keyring is in it.
pub(super) struct Target {
    pub(super) cluster: Cluster,
    pub(super) place: KeyringPlace,
    /// Whether somebody said which namespace that is in, or the pod's is.
    pub(super) is_placed: bool,
    /// The namespaces whose records are looked at; none means all.
    pub(super) namespaces: Vec<String>,
    pub(super) timing: Timing,
}

// === impl PaceArgs ===

impl PaceArgs {
    pub(super) fn timing(&self) -> Timing {
        Timing::STANDARD.divided_by(self.time_scale)
    }
}

// === impl Target ===

impl Target {
    /// Finds the cluster, for the records of some namespaces or of all.
    pub(super) async fn of(args: &StoreArgs) -> anyhow::Result<Self> {
        let mut target = Self::find(&args.keyring).await?;
        target.namespaces = args.namespaces.iter().map(ToString::to_string).collect();
        for namespace in &target.namespaces {
            target.check_namespace(namespace).await?;
        }
        Ok(target)
    }

    /// Fails for a namespace that is not there: its records would count as none. Whoever may not look goes on.
    async fn check_namespace(&self, name: &str) -> anyhow::Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.cluster.client.clone());
        match namespaces.get_metadata(name).await {
            Err(kube::Error::Api(answer)) if answer.is_not_found() => {
                bail!("there is no namespace {name}: mend --namespace (GCO_WATCH_NAMESPACES)")
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    pub(super) async fn find(args: &KeyringArgs) -> anyhow::Result<Self> {
        let timing = args.pace.timing();
        let cluster = kubernetes::connect(args.operator_namespace.as_deref(), &timing).await?;
        let place =
            KeyringPlace { namespace: cluster.namespace.clone(), name: args.keyring_secret.to_string() };
        let is_placed = args.operator_namespace.is_some() || cluster.is_own;
        Ok(Self { cluster, place, is_placed, namespaces: Vec::new(), timing })
    }

    /// The keyring, which must be there.
    pub(super) async fn keyring(&self) -> anyhow::Result<Keyring> {
        self.keyring_if_any().await?.with_context(|| {
            format!(
                "there is no keyring Secret {}: mend --operator-namespace and --keyring-secret, or bring it back from a backup (keys import)",
                self.place
            )
        })
    }

    /// Fails where a keyring would be made in whatever namespace the kubeconfig's context happens to name: whoever reads
    /// Secrets there could open the store.
    pub(super) fn check_placed(&self) -> anyhow::Result<()> {
        ensure!(
            self.is_placed,
            "there is no keyring Secret {}, and one is made only where you say so: add --operator-namespace",
            self.place
        );
        Ok(())
    }

    /// The keyring, if there is one.
    pub(super) async fn keyring_if_any(&self) -> Result<Option<Keyring>, KeyringError> {
        keyring::load(&self.cluster.client, &self.place).await
    }
}
