//! `verify`: verifies a tenant id, client id and secret, or an identity, at Microsoft with the operator's code.
//!
//! The secret comes from a file or from standard input, never from the command line or the environment,
//! where other processes could read it.

mod identity;
mod record;
mod result;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error as ValueError, StringDeserializer};

use self::result::VerifyResult;
use crate::api::{ClientId, Cloud, NamespacedName, TenantId};
use crate::cli::input;
use crate::cli::keyring::KeyringArgs;
use crate::cli::output::ReportFormat;
use crate::config::{FederatedTokenSettings, NetworkSettings, ObjectName};
use crate::core::secret_form;
use crate::core::secret_value::{ValueKind, ValueProblem};
use crate::core::timing::Timing;
use crate::entra::{AppCredential, Authorities, EndpointConfig, TokenEndpoint};
use crate::k8s::leadership::Leadership;
use crate::secret_text::SecretText;
use crate::telemetry::metrics::Metrics;

/// Arguments of `verify`.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 Microsoft issued a token; 3 Microsoft rejects the secret, the token lacks a \
    required role, or the secret is unusable; 4 Microsoft is unreachable, fails or limits the rate of requests; 1 \
    other failure; 2 invalid command line."
)]
pub(super) struct VerifyArgs {
    /// Entra tenant id, a GUID. With --identity it defaults to the identity's home tenant
    #[arg(long, value_name = "GUID", required_unless_present_any = ["record", "identity"])]
    tenant_id: Option<TenantId>,

    /// Application (client) id, a GUID
    #[arg(long, value_name = "GUID", required_unless_present_any = ["record", "identity"])]
    client_id: Option<ClientId>,

    /// Microsoft cloud of the tenant
    #[arg(long, value_parser = cloud(), default_value = "Global", value_name = "CLOUD")]
    cloud: Cloud,

    /// File with the client secret and nothing else
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present_any = ["secret_stdin", "record", "identity"],
        conflicts_with = "secret_stdin"
    )]
    secret_file: Option<PathBuf>,

    /// Read the client secret from standard input
    #[arg(long)]
    secret_stdin: bool,

    /// SealedGraphCredential to verify instead, such as mail/c-229653f6d611bbd2baab1e78704b248d. The command decrypts
    /// it with the keyring and does not show its secret
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        value_parser = record::record_name,
        conflicts_with_all = ["tenant_id", "client_id", "cloud", "secret_file", "secret_stdin"]
    )]
    record: Option<NamespacedName>,

    /// EntraIdentity in the operator's namespace to sign in with instead. Run it in a pod of the operator if the
    /// identity uses a ServiceAccount token
    #[arg(
        long,
        value_name = "NAME",
        conflicts_with_all = ["record", "client_id", "cloud", "secret_file", "secret_stdin"]
    )]
    identity: Option<ObjectName>,

    /// Application role that the token must contain, such as Mail.Send. Repeatable
    #[arg(long = "required-role", value_name = "ROLE")]
    required_roles: Vec<String>,

    /// Output format
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReportFormat,

    #[command(flatten)]
    network: NetworkSettings,

    #[command(flatten)]
    federated: FederatedTokenSettings,

    #[command(flatten)]
    keyring: KeyringArgs,
}

/// Verifies the secret and prints the result.
pub(super) async fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let result = verify(args).await?;
    args.output.print(&result)?;
    Ok(result.exit_code())
}

/// The result from Microsoft, or from a check before anything is sent.
async fn verify(args: &VerifyArgs) -> anyhow::Result<VerifyResult> {
    if let Some(name) = &args.identity {
        return identity::sign_in(name, args).await;
    }
    let (cloud, tenant, client, secret) = match (&args.record, &args.tenant_id, &args.client_id) {
        (Some(name), _, _) => {
            let (record, secret) = record::open(name, &args.keyring).await?;
            (record.spec.cloud.unwrap_or_default(), record.spec.tenant_id, record.spec.client_id, secret)
        }
        (None, Some(tenant), Some(client)) => match read_secret(args)? {
            Ok(secret) => (args.cloud, tenant.clone(), client.clone(), secret),
            Err(result) => return Ok(result),
        },
        // clap rejects such a command line.
        (None, _, _) => bail!("specify what to verify: --record, or --tenant-id and --client-id"),
    };
    let endpoint = TokenEndpoint::new(endpoint_config(args)?, &Timing::STANDARD);
    let result = endpoint.verify(AppCredential { cloud, tenant: &tenant, client: &client }, &secret).await?;
    let form = secret_form::recognize(secret.expose(), &tenant, &client);
    Ok(VerifyResult::of(result, &args.required_roles, form))
}

fn endpoint_config(args: &VerifyArgs) -> anyhow::Result<EndpointConfig> {
    Ok(EndpointConfig {
        http: super::http_clients(&args.network.egress)?,
        authorities: Authorities::new(args.network.microsoft_authority.clone()),
        leadership: Leadership::always(),
        metrics: Arc::new(Metrics::new()),
    })
}

/// The secret, or the result that it is unusable.
fn read_secret(args: &VerifyArgs) -> anyhow::Result<Result<SecretText, VerifyResult>> {
    const KIND: ValueKind = ValueKind::ClientSecret;
    let read_error = || match &args.secret_file {
        Some(path) => {
            format!("failed to read --secret-file {}: specify a file that you may read", path.display())
        }
        None => "failed to read the secret from standard input".to_owned(),
    };
    let bytes =
        input::read(args.secret_file.as_deref(), KIND.max_length() as u64).with_context(read_error)?;
    let too_long = ValueProblem::TooLong(KIND.max_length());
    let text = bytes.as_deref().ok_or(too_long).and_then(|bytes| KIND.check(bytes));
    Ok(text.map(|text| SecretText::new(text.to_owned())).map_err(VerifyResult::unusable))
}

/// The clouds, with the names of a spec.
fn cloud() -> impl TypedValueParser<Value = Cloud> {
    let names = PossibleValuesParser::new(["Global", "USGovernment", "USGovernmentDoD", "China"]);
    names.try_map(|name| Cloud::deserialize(name.into_deserializer() as StringDeserializer<ValueError>))
}
