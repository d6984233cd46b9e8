//! `verify`: proves tenant, client id and secret at Microsoft with the operator's own code.
//!
//! The secret comes from a file or from standard input, never from the command line or the environment,
//! where other processes could read it.

mod finding;
mod record;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use serde::Deserialize as _;
use serde::de::IntoDeserializer as _;
use serde::de::value::{Error as ValueError, StringDeserializer};

use self::finding::Finding;
use super::input;
use super::keyring::KeyringArgs;
use super::output::Format;
use crate::controller::Named;
use crate::leadership::Leadership;
use crate::microsoft::{App, Authorities, EndpointParts, TokenEndpoint};
use crate::resources::conditions::Reason;
use crate::resources::{ClientId, Cloud, TenantId, is_guid};
use crate::secret::SecretText;
use crate::settings::{NetworkSettings, Timing};
use crate::telemetry::metrics::Metrics;

/// Most that is read as a secret, in bytes.
const LONGEST_INPUT: u64 = 64 * 1024;

/// What `verify` can be told.
#[derive(Debug, Args)]
#[command(after_help = "Exit codes: 0 Microsoft issued a token; 3 it refuses, the token lacks a required \
    role, or the secret is no usable value; 4 it could not be asked or asked to slow down; 1 another failure; 2 a bad command line.")]
pub(super) struct VerifyArgs {
    /// Id of the Entra tenant, a GUID
    #[arg(long, value_name = "GUID", required_unless_present = "record")]
    tenant_id: Option<TenantId>,

    /// Application (client) id of the app, a GUID
    #[arg(long, value_name = "GUID", required_unless_present = "record")]
    client_id: Option<ClientId>,

    /// Microsoft cloud of the tenant
    #[arg(long, value_parser = cloud(), default_value = "Global", value_name = "CLOUD")]
    cloud: Cloud,

    /// File that holds the client secret and nothing else
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present_any = ["secret_stdin", "record"],
        conflicts_with = "secret_stdin"
    )]
    secret_file: Option<PathBuf>,

    /// Read the client secret from standard input
    #[arg(long)]
    secret_stdin: bool,

    /// Record of the store to prove in place of all that, such as mail/c-229653f6d611bbd2baab1e78704b248d: it is opened
    /// with the keyring, and its secret is not shown
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        value_parser = record::record_name,
        conflicts_with_all = ["tenant_id", "client_id", "cloud", "secret_file", "secret_stdin"]
    )]
    record: Option<Named>,

    /// Application role that the token must carry, such as Mail.Send; may be repeated
    #[arg(long = "required-role", value_name = "ROLE")]
    required_roles: Vec<String>,

    /// Form of the output
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,

    #[command(flatten)]
    network: NetworkSettings,

    #[command(flatten)]
    keyring: KeyringArgs,
}

/// Proves the secret and prints what came of it.
pub(super) async fn run(args: &VerifyArgs) -> anyhow::Result<ExitCode> {
    let finding = find(args).await?;
    args.output.print(|| finding.text(), || finding.json())?;
    Ok(finding.exit_code())
}

/// What comes of it, at Microsoft or before anything is sent there.
async fn find(args: &VerifyArgs) -> anyhow::Result<Finding> {
    let (cloud, tenant, client, secret) = match (&args.record, &args.tenant_id, &args.client_id) {
        (Some(name), _, _) => {
            let (record, secret) = record::open(name, &args.keyring).await?;
            (record.spec.cloud.unwrap_or_default(), record.spec.tenant_id, record.spec.client_id, secret)
        }
        (None, Some(tenant), Some(client)) => match read_secret(args)? {
            Ok(secret) => (args.cloud, tenant.clone(), client.clone(), secret),
            Err(finding) => return Ok(finding),
        },
        // The command line does not let that through.
        (None, _, _) => bail!("name what to prove: --record, or --tenant-id and --client-id"),
    };
    let parts = EndpointParts {
        http: super::http_clients(&args.network.way_out)?,
        authorities: Authorities::new(args.network.microsoft_authority.clone()),
        leadership: Leadership::always(),
        metrics: Arc::new(Metrics::new()),
    };
    let endpoint = TokenEndpoint::new(parts, &Timing::STANDARD);
    let verdict = endpoint.prove(App { cloud, tenant: &tenant, client: &client }, &secret).await?;
    Ok(Finding::of(verdict, &args.required_roles, is_guid(secret.expose())))
}

/// The secret, or the finding that it is no usable value.
fn read_secret(args: &VerifyArgs) -> anyhow::Result<Result<SecretText, Finding>> {
    let (unread, too_long) = match &args.secret_file {
        Some(path) => (
            format!("failed to read --secret-file {}: give a file that you may read", path.display()),
            format!(
                "--secret-file {} is longer than 64 KiB, which no client secret is: give the file that holds the client secret and nothing else",
                path.display()
            ),
        ),
        None => (
            "failed to read the secret from standard input".to_owned(),
            "what comes from standard input is longer than 64 KiB, which no client secret is: give the client secret and nothing else".to_owned(),
        ),
    };
    let bytes = input::read(args.secret_file.as_deref(), LONGEST_INPUT).context(unread)?.context(too_long)?;
    if bytes.is_empty() {
        return Ok(Err(Finding::unusable(Reason::EmptyValue, "is empty")));
    }
    let stray = |problem| Ok(Err(Finding::unusable(Reason::SurroundingWhitespace, problem)));
    let Ok(text) = std::str::from_utf8(&bytes) else { return stray("holds bytes that are no text") };
    let secret = SecretText::new(text.to_owned());
    match text {
        _ if !secret.has_stray_whitespace() => Ok(Ok(secret)),
        _ if text.ends_with('\n') => stray("ends with a line break"),
        _ if text.trim() != text => stray("has white space around it"),
        _ => stray("holds a line break or another control character"),
    }
}

/// The clouds, called as in a spec.
fn cloud() -> impl TypedValueParser<Value = Cloud> {
    let names = PossibleValuesParser::new(["Global", "USGovernment", "USGovernmentDoD", "China"]);
    names.try_map(|name| Cloud::deserialize(name.into_deserializer() as StringDeserializer<ValueError>))
}
