//! `verify`: proves tenant, client id and secret at Microsoft with the operator's own code.
//!
//! The secret comes from a file or from standard input, never from the command line or the environment,
//! where other processes could read it.

mod finding;

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use thiserror::Error;
use zeroize::Zeroizing;

use self::finding::Finding;
use super::output::{self, Format, OutputError};
use crate::app::memory;
use crate::http::{self, ClientError, DnsServers};
use crate::leadership::{Leadership, NotLeading};
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
    #[arg(long, value_name = "GUID")]
    tenant_id: TenantId,

    /// Application (client) id of the app, a GUID
    #[arg(long, value_name = "GUID")]
    client_id: ClientId,

    /// Microsoft cloud of the tenant
    #[arg(long, value_enum, default_value_t, value_name = "CLOUD")]
    cloud: CloudArg,

    /// File that holds the client secret and nothing else
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present = "secret_stdin",
        conflicts_with = "secret_stdin"
    )]
    secret_file: Option<PathBuf>,

    /// Read the client secret from standard input
    #[arg(long)]
    secret_stdin: bool,

    /// Application role that the token must carry, such as Mail.Send; may be repeated
    #[arg(long = "required-role", value_name = "ROLE")]
    required_roles: Vec<String>,

    /// Form of the output
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,

    #[command(flatten)]
    network: NetworkSettings,
}

/// The clouds, as on the command line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum CloudArg {
    #[default]
    #[value(name = "Global")]
    Global,
    #[value(name = "USGovernment")]
    USGovernment,
    #[value(name = "USGovernmentDoD")]
    USGovernmentDoD,
    #[value(name = "China")]
    China,
}

/// Why nothing was proved.
#[derive(Debug, Error)]
pub(super) enum VerifyError {
    #[error("failed to read --secret-file {path}: give a file that you may read")]
    File { path: PathBuf, source: io::Error },
    #[error(
        "--secret-file {path} is longer than 64 KiB, which no client secret is: give the file that holds the client secret and nothing else"
    )]
    FileTooLong { path: PathBuf },
    #[error("failed to read the secret from standard input")]
    Stdin(#[source] io::Error),
    #[error(
        "what comes from standard input is longer than 64 KiB, which no client secret is: give the client secret and nothing else"
    )]
    StdinTooLong,
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    NotLeading(#[from] NotLeading),
    #[error("failed to start the runtime")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// Proves the secret and prints what came of it.
pub(super) fn run(args: &VerifyArgs) -> Result<ExitCode, VerifyError> {
    memory::close(false);
    let finding = match read_secret(args)? {
        Ok(secret) => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.map_err(VerifyError::Runtime)?.block_on(prove(args, &secret))?
        }
        Err(finding) => finding,
    };
    let text = match args.output {
        Format::Text => finding.text(),
        Format::Json => format!("{:#}\n", finding.json()),
    };
    output::print(&text)?;
    Ok(finding.exit_code())
}

/// The secret, or the finding that it is no usable value.
fn read_secret(args: &VerifyArgs) -> Result<Result<SecretText, Finding>, VerifyError> {
    let bytes = match &args.secret_file {
        Some(path) => File::open(path)
            .and_then(read_all)
            .map_err(|source| VerifyError::File { path: path.clone(), source })?
            .ok_or_else(|| VerifyError::FileTooLong { path: path.clone() })?,
        None => read_all(io::stdin()).map_err(VerifyError::Stdin)?.ok_or(VerifyError::StdinTooLong)?,
    };
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

/// Everything there is to read; nothing where that is more than a secret can be.
fn read_all(from: impl Read) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    let mut bytes = Zeroizing::new(Vec::new());
    from.take(LONGEST_INPUT + 1).read_to_end(&mut bytes)?;
    let is_whole = u64::try_from(bytes.len()).is_ok_and(|length| length <= LONGEST_INPUT);
    Ok(is_whole.then_some(bytes))
}

async fn prove(args: &VerifyArgs, secret: &SecretText) -> Result<Finding, VerifyError> {
    let timing = Timing::STANDARD;
    let servers = DnsServers::listed_or_system(&args.network.way_out.dns_servers);
    let http = http::client(&timing, &servers, args.network.way_out.extra_ca.as_deref())?;
    let authorities = Authorities::new(args.network.microsoft_authority.clone());
    let (leadership, metrics) = (Leadership::always(), Arc::new(Metrics::new()));
    let endpoint = TokenEndpoint::new(EndpointParts { http, authorities, leadership, metrics }, &timing);
    let app = App { cloud: args.cloud.into(), tenant: &args.tenant_id, client: &args.client_id };
    let verdict = endpoint.prove(app, secret).await?;
    let looks_like_an_id = is_guid(secret.expose());
    Ok(Finding::of(verdict, &args.required_roles, looks_like_an_id))
}

// === impl CloudArg ===

impl From<CloudArg> for Cloud {
    fn from(cloud: CloudArg) -> Self {
        match cloud {
            CloudArg::Global => Self::Global,
            CloudArg::USGovernment => Self::USGovernment,
            CloudArg::USGovernmentDoD => Self::USGovernmentDoD,
            CloudArg::China => Self::China,
        }
    }
}
