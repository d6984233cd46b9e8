//! Settings of `EntraIdentity` objects.

use std::path::PathBuf;

use clap::Args;

use crate::config::BaseUrl;

/// Where the tokens of the operator's ServiceAccount are that Entra accepts.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Entra identities")]
pub struct FederatedTokenSettings {
    /// Folder with a ServiceAccount token for each cloud: the files `global`, `us-government` and `china`. An
    /// EntraIdentity with `federatedToken` signs in with them. They are read again at each sign-in
    #[arg(long, env = "GCO_FEDERATED_TOKEN_DIR", value_name = "DIR")]
    pub federated_token_dir: Option<PathBuf>,

    /// File with a ServiceAccount token for the cloud of --azure-authority-host. It takes precedence over
    /// --federated-token-dir. Azure workload identity sets the variable
    #[arg(long, env = "AZURE_FEDERATED_TOKEN_FILE", value_name = "FILE")]
    pub azure_federated_token_file: Option<PathBuf>,

    /// Authority of the cloud that --azure-federated-token-file is for. Defaults to that of the Global cloud. Azure
    /// workload identity sets the variable
    #[arg(long, env = "AZURE_AUTHORITY_HOST", value_name = "URL")]
    pub azure_authority_host: Option<String>,
}

/// Whether and how the operator uses `EntraIdentity` objects.
#[derive(Clone, Debug, Args)]
pub struct IdentitySettings {
    /// Whether it does, and where Microsoft Graph is.
    #[command(flatten)]
    pub graph: GraphSettings,

    /// The tokens of the ServiceAccount.
    #[command(flatten)]
    pub federated: FederatedTokenSettings,
}

/// Whether the operator uses `EntraIdentity` objects, and where Microsoft Graph is.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Entra identities")]
pub struct GraphSettings {
    /// Use the EntraIdentity objects in the operator's namespace to sign in to Microsoft Graph. Needs the CRD
    /// `entraidentities.graph-credentials.io` and the right to list, watch and update them there
    #[arg(long, env = "GCO_ENTRA_IDENTITIES")]
    pub entra_identities: bool,

    /// Root of Microsoft Graph for the Global cloud, instead of Microsoft's own
    #[arg(
        long,
        env = "GCO_MICROSOFT_GRAPH",
        default_value = "https://graph.microsoft.com",
        value_name = "URL"
    )]
    pub microsoft_graph: BaseUrl,
}
