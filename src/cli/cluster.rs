//! Selects the cluster and the namespaces of a command, with the flags of kubectl.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Args;

use crate::cli::output;
use crate::config::ObjectName;
use crate::core::timing::Timing;
use crate::k8s::client::{self, Cluster, ClusterSelection, ConnectError};

/// Selects the cluster.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct ClusterArgs {
    /// Kubeconfig file. Defaults to KUBECONFIG, then to ~/.kube/config, then to the pod's ServiceAccount
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,

    /// Context of the kubeconfig. Defaults to its current context
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
}

/// Selects one namespace, or all.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct NamespaceArgs {
    /// Namespace of the objects. Defaults to the namespace of the kubeconfig's context
    #[arg(short, long, value_name = "NAMESPACE")]
    namespace: Option<ObjectName>,

    /// All namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

/// Selects the namespaces of a command that works on all of them by default.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct NamespacesArgs {
    /// Namespace of the objects. Repeatable, or a comma-separated list. Defaults to all namespaces
    #[arg(short = 'n', long = "namespace", value_delimiter = ',', value_name = "NAMESPACE")]
    namespaces: Vec<ObjectName>,

    /// All namespaces. This is the default
    #[arg(short = 'A', long)]
    all_namespaces: bool,
}

/// Selects the namespace of the operator.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct OperatorArgs {
    /// Namespace of the operator. Defaults to the namespace of the pod or of the kubeconfig's context
    #[arg(
        short = 'n',
        long,
        visible_alias = "namespace",
        env = "GCO_OPERATOR_NAMESPACE",
        value_name = "NAMESPACE"
    )]
    pub(super) operator_namespace: Option<ObjectName>,
}

/// Selects the namespaces that the operator serves, like the flag of `run`.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Cluster")]
pub(super) struct ServedArgs {
    /// Namespace that the operator serves. Repeatable, or a comma-separated list. Defaults to all namespaces. If the
    /// operator serves only some namespaces, specify the same ones
    #[arg(
        long = "watch-namespace",
        env = "GCO_WATCH_NAMESPACES",
        value_delimiter = ',',
        value_name = "NAMESPACE"
    )]
    namespaces: Vec<ObjectName>,
}

/// Confirms that the command may write.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct ConfirmArgs {
    /// Do not ask before the command changes something
    #[arg(short, long)]
    pub(super) yes: bool,
}

// === impl ClusterArgs ===

impl ClusterArgs {
    pub(super) fn selection(&self) -> ClusterSelection {
        ClusterSelection { kubeconfig: self.kubeconfig.clone(), context: self.context.clone() }
    }

    /// Connects. Without an explicit name, the operator's namespace is that of the pod or of the kubeconfig's context.
    pub(super) fn connect(
        &self,
        operator_namespace: Option<&str>,
        timing: &Timing,
    ) -> Result<Cluster, ConnectError> {
        client::connect(&self.selection(), operator_namespace, timing)
    }
}

// === impl NamespaceArgs ===

impl NamespaceArgs {
    /// The selected namespace, or `None` for all.
    pub(super) fn selected<'a>(&'a self, cluster: &'a Cluster) -> Option<&'a str> {
        if self.all_namespaces {
            return None;
        }
        Some(self.namespace.as_ref().map_or(cluster.namespace.as_str(), ObjectName::as_str))
    }

    /// The selected namespaces; empty for all.
    pub(super) fn list(&self, cluster: &Cluster) -> Vec<String> {
        self.selected(cluster).map(ToOwned::to_owned).into_iter().collect()
    }

    /// The selected namespace, for a command that names objects.
    pub(super) fn require_single<'a>(&'a self, cluster: &'a Cluster) -> anyhow::Result<&'a str> {
        self.selected(cluster)
            .context("a name belongs to one namespace: replace --all-namespaces by --namespace NAMESPACE")
    }

    /// The selection in a sentence.
    pub(super) fn shown(&self, cluster: &Cluster) -> String {
        self.selected(cluster).map_or_else(|| "all namespaces".to_owned(), |name| format!("namespace {name}"))
    }
}

// === impl NamespacesArgs ===

impl NamespacesArgs {
    /// The selected namespaces; empty for all.
    pub(super) fn list(&self) -> Vec<String> {
        if self.all_namespaces {
            return Vec::new();
        }
        self.namespaces.iter().map(ToString::to_string).collect()
    }

    /// Whether the namespace is selected.
    pub(super) fn contains(&self, namespace: &str) -> bool {
        let selected = self.list();
        selected.is_empty() || selected.iter().any(|name| name == namespace)
    }
}

// === impl OperatorArgs ===

impl OperatorArgs {
    pub(super) fn name(&self) -> Option<&str> {
        self.operator_namespace.as_ref().map(ObjectName::as_str)
    }
}

// === impl ServedArgs ===

impl ServedArgs {
    /// The namespaces; empty for all.
    pub(super) fn list(&self) -> Vec<String> {
        self.namespaces.iter().map(ToString::to_string).collect()
    }

    /// The namespaces in a sentence.
    pub(super) fn shown(&self) -> String {
        match self.list().as_slice() {
            [] => "all namespaces".to_owned(),
            [name] => format!("namespace {name}"),
            names => format!("the namespaces {}", names.join(", ")),
        }
    }
}

// === impl ConfirmArgs ===

impl ConfirmArgs {
    /// Prints the cluster and what is to be changed there, with its namespace, and asks whether to continue. Fails if the
    /// answer is no.
    pub(super) fn confirm(self, cluster: &Cluster, action: &str) -> anyhow::Result<()> {
        if !self.yes && !is_interactive() {
            bail!(
                "nothing was changed: add --yes to {action}, because there is no terminal to ask at ({})",
                described(cluster)
            );
        }
        if self.yes {
            output::note(&format!("{}: {action}", described(cluster)));
            return Ok(());
        }
        if ask(cluster, action)? { Ok(()) } else { bail!("nothing was changed") }
    }
}

/// The cluster as its users know it.
fn described(cluster: &Cluster) -> String {
    match &cluster.context {
        Some(context) => format!("context {context} ({})", cluster.url),
        None => format!("cluster {}", cluster.url),
    }
}

/// Whether a person sees a question and can answer it.
pub(super) fn is_interactive() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks whether to do it.
pub(super) fn ask(cluster: &Cluster, action: &str) -> anyhow::Result<bool> {
    const UNREAD: &str = "failed to read the answer";
    output::note(&format!("{}: {action}", described(cluster)));
    io::stderr().write_all(b"Continue? [y/N] ").context(UNREAD)?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer).context(UNREAD)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}
