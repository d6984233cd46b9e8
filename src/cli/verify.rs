//! `verify`: proves tenant, client id and secret at Microsoft with the operator's own code.
//!
//! The secret comes from a file or from standard input, never from the command line or the environment,
//! where other processes could read it.

use std::fs;
use std::io::{self, Read};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};
use thiserror::Error;
use zeroize::Zeroizing;

use super::output::{self, Format, OutputError};
use crate::http::{self, ClientError, DnsServers};
use crate::microsoft::{App, Authorities, Diagnosis, TokenEndpoint, Trace, Verdict, diagnosis};
use crate::resources::catalogue::{self, Actor};
use crate::resources::conditions::Reason;
use crate::resources::{ClientId, Cloud, TenantId};
use crate::secret::SecretText;
use crate::settings::{NetworkSettings, Timing};
use crate::telemetry::metrics::Metrics;

/// What `verify` can be told.
#[derive(Debug, Args)]
#[command(
    after_help = "Exit codes: 0 Microsoft issued a token; 3 it refuses, or the secret is no usable value; \
    4 it could not be asked or asked to slow down; 1 another failure; 2 a bad command line."
)]
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
    #[error("failed to read the secret from standard input")]
    Stdin(#[source] io::Error),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("failed to start the runtime")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Output(#[from] OutputError),
}

/// What came of it.
struct Finding {
    reason: Reason,
    message: String,
    roles: Option<Vec<String>>,
    trace: Trace,
}

/// Proves the secret and prints what came of it.
pub(super) fn run(args: &VerifyArgs) -> Result<ExitCode, VerifyError> {
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
    let mut bytes = Zeroizing::new(Vec::new());
    match &args.secret_file {
        Some(path) => {
            *bytes = fs::read(path).map_err(|source| VerifyError::File { path: path.clone(), source })?;
        }
        None => {
            io::stdin().read_to_end(&mut bytes).map_err(VerifyError::Stdin)?;
        }
    }
    let unusable = |reason, message: &str| {
        Ok(Err(Finding { reason, message: message.to_owned(), roles: None, trace: Trace::default() }))
    };
    if bytes.is_empty() {
        return unusable(Reason::EmptyValue, "the secret is empty, and nothing was sent");
    }
    match std::str::from_utf8(&bytes).map(|text| SecretText::new(text.to_owned())) {
        Ok(secret) if !secret.has_stray_whitespace() => Ok(Ok(secret)),
        Ok(_) | Err(_) => unusable(
            Reason::SurroundingWhitespace,
            "the secret holds a line break, white space around the value or bytes that are no text, with which Microsoft refuses it; nothing was sent (echo -n writes none)",
        ),
    }
}

async fn prove(args: &VerifyArgs, secret: &SecretText) -> Result<Finding, VerifyError> {
    let timing = Timing::STANDARD;
    let servers = DnsServers::listed_or_system(&args.network.dns_servers);
    let http = http::client(&timing, &servers, args.network.extra_ca.as_deref())?;
    let authorities = Authorities::new(args.network.microsoft_authority.clone());
    let endpoint = TokenEndpoint::new(http, authorities, &timing, Arc::new(Metrics::new()));
    let app = App { cloud: args.cloud.into(), tenant: &args.tenant_id, client: &args.client_id };
    let looks_like_an_id = secret.expose().parse::<TenantId>().is_ok();
    Ok(match endpoint.prove(app, secret).await {
        Verdict::Issued { roles } => issued(args, roles),
        Verdict::NotIssued { diagnosis, trace, .. } => {
            let (reason, message) = match diagnosis {
                Diagnosis::Refused(refusal) => (refusal.reason, diagnosis::advice(&refusal, looks_like_an_id)),
                Diagnosis::Throttled => (Reason::Throttled, "Microsoft asks to slow down: try again in some minutes".into()),
                Diagnosis::Unavailable => {
                    (Reason::MicrosoftUnavailable, "Microsoft's token endpoint could not be reached or had a failure: check the way out to the internet".into())
                }
            };
            Finding { reason, message, roles: None, trace }
        }
    })
}

fn issued(args: &VerifyArgs, roles: Option<Vec<String>>) -> Finding {
    let have = roles.as_deref().unwrap_or_default();
    let missing: Vec<&str> =
        args.required_roles.iter().filter(|role| !have.contains(role)).map(String::as_str).collect();
    let (reason, message) = if missing.is_empty() {
        (Reason::TokenIssued, "Microsoft issues tokens for the secret".to_owned())
    } else {
        (
            Reason::RequiredRolesMissing,
            format!("Microsoft issues tokens, and they lack the roles {}", missing.join(", ")),
        )
    };
    Finding { reason, message, roles, trace: Trace::default() }
}

// === impl Finding ===

impl Finding {
    fn exit_code(&self) -> ExitCode {
        match self.reason {
            Reason::TokenIssued => ExitCode::SUCCESS,
            Reason::Throttled | Reason::MicrosoftUnavailable => ExitCode::from(4),
            _ => ExitCode::from(3),
        }
    }

    fn text(&self) -> String {
        let entry = catalogue::entry(self.reason);
        let mut lines = vec![format!("{}: {}", self.reason, self.message)];
        if entry.actor != Actor::Nobody {
            lines.push(format!("  who acts:    {}", entry.actor.as_str()));
            lines.push(format!("  what to do:  {}", entry.cure));
        }
        if let Some(roles) = &self.roles {
            let roles = if roles.is_empty() { "none".to_owned() } else { roles.join(", ") };
            lines.push(format!("  roles seen:  {roles}"));
        }
        let trace = &self.trace;
        let ids = [
            ("trace id", &trace.trace_id),
            ("correlation", &trace.correlation_id),
            ("time", &trace.timestamp),
            ("failure", &trace.failure),
        ];
        lines.extend(
            ids.iter()
                .filter_map(|(name, id)| id.as_ref().map(|id| format!("  {:<12} {id}", format!("{name}:")))),
        );
        lines.join("\n") + "\n"
    }

    fn json(&self) -> Value {
        let entry = catalogue::entry(self.reason);
        json!({
            "reason": self.reason.as_str(), "message": self.message, "whoActs": entry.actor.as_str(), "cure": entry.cure,
            "roles": self.roles, "status": self.trace.status, "codes": self.trace.codes, "traceId": self.trace.trace_id,
            "correlationId": self.trace.correlation_id, "time": self.trace.timestamp, "failure": self.trace.failure
        })
    }
}

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
