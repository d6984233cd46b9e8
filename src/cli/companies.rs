//! `companies`: the client companies of an agency, and manifests that give each of them an account.

mod existing;
mod manifests;
mod names;
mod report;
mod template;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use clap::{Args, ValueEnum};

use self::manifests::Manifests;
use self::names::NamespaceNames;
use self::report::Companies;
use self::template::Template;
use crate::api::{AccountName, WoodpeckerAccount};
use crate::cli::cluster::NamespacesArgs;
use crate::cli::woodpecker::{self, Remote, RemoteArgs};
use crate::cli::{input, kubernetes, output};
use crate::woodpecker::{CompaniesError, Company};

/// Longest template, in bytes.
const MAX_TEMPLATE: u64 = 1024 * 1024;

/// Arguments of `companies`.
#[derive(Debug, Args)]
#[command(
    after_help = "Changes nothing and applies nothing, neither in the cluster nor at Woodpecker. It reads the API key of \
    the agency's main account (HQ) from the Secret of --account, with the rights of your kubeconfig (KUBECONFIG), and \
    sends one list request for each 50 companies. spec.companyId of that account does not matter. You can run it \
    beside a running operator.\n\n\
    A company has an account if a WoodpeckerAccount in the cluster has its id and the same base URL; one whose account \
    has a key of the company's own and no spec.companyId cannot be recognized: name it with --exclude. \
    Manifests (-o yaml or json) are printed for active companies without an account. A company that has an account \
    is left out, and so is every other object that is already in the cluster: applying the output changes none of \
    them. To keep the manifests in a file, add the output to it (>>).\n\n\
    Placeholders of a template, in YAML that kubectl accepts after they are replaced: $(name), $(namespace), \
    $(companyId), $(companyName), $(accountNamespace), $(secretName), $(secretKey), $(baseUrl). $$( stands for $(. A \
    field that is $(secretKey) or $(baseUrl) is left out if --account does not specify it.\n\n\
    Examples:\n  \
    graph-credential-operator companies --account agency/hq\n  \
    graph-credential-operator companies --account agency/hq --missing -o yaml | kubectl apply --server-side -f -\n\n\
    Exit codes: 0 success; 3 with --missing: there is such a company; 1 failure; 2 invalid command line."
)]
pub(super) struct CompaniesArgs {
    /// Account whose Secret has the API key of the agency's main account (HQ)
    #[arg(
        long,
        value_name = "NAMESPACE/NAME",
        value_parser = woodpecker::account_name,
        required_unless_present = "print_template"
    )]
    account: Option<AccountName>,

    /// Only active companies without a WoodpeckerAccount
    #[arg(long)]
    missing: bool,

    /// Company that is left out. Repeatable, or a comma-separated list
    #[arg(long, value_delimiter = ',', value_name = "ID")]
    exclude: Vec<i64>,

    /// Output format
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: CompaniesFormat,

    /// File with the objects of a company, in place of the built-in ones (--print-template)
    #[arg(long, value_name = "FILE")]
    template: Option<PathBuf>,

    /// Print the built-in template, to start from
    #[arg(long, exclusive = true)]
    print_template: bool,

    /// Name of each client's namespace. {name} is replaced by the name of the account
    #[arg(long, default_value = "client-{name}", value_parser = names::namespace_names, value_name = "TEMPLATE")]
    namespace_template: NamespaceNames,

    #[command(flatten)]
    namespaces: NamespacesArgs,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Output format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum CompaniesFormat {
    /// A table for people.
    #[default]
    Table,
    /// Manifests, one YAML document for each object.
    Yaml,
    /// Manifests, as one List.
    Json,
}

/// Prints the companies.
pub(super) async fn run(args: &CompaniesArgs) -> anyhow::Result<ExitCode> {
    if args.print_template {
        output::print(template::BUILT_IN)?;
        return Ok(ExitCode::SUCCESS);
    }
    let template = read_template(args)?;
    let remote = Remote::connect(&args.remote)?;
    let account = args.account.as_ref().context("specify --account")?;
    let object = remote.account(account).await?;
    let failed =
        |problem| anyhow!("the companies of WoodpeckerAccount {account} could not be listed: {problem}");
    let (hq, client) = remote.client(&object, None).await.map_err(failed)?;
    let listed = client.companies().await.map_err(|error| failed(problem(&error)))?;
    let listed = listed.into_iter().map(|company| redact(company, client.api_key.expose()));
    let listed = listed.filter(|company| !args.exclude.contains(&company.id)).collect();
    // After the list, so that a company added meanwhile is not reported as unknown.
    let accounts =
        kubernetes::list::<WoodpeckerAccount>(&remote.cluster.client, &args.namespaces.list()).await?;
    let mut companies = Companies::new(listed, &accounts, &hq);
    for warning in companies.warnings(&args.exclude) {
        output::note(&format!("warning: {warning}"));
    }
    if args.missing {
        companies.keep_missing();
    }
    match args.output {
        CompaniesFormat::Table => companies.text().print()?,
        CompaniesFormat::Yaml => {
            let manifests = missing_manifests(&companies, &template, args, &remote).await?;
            output::print(&manifests::yaml(&manifests)?)?;
        }
        CompaniesFormat::Json => {
            let manifests = missing_manifests(&companies, &template, args, &remote).await?;
            output::print(&manifests::json(&manifests))?;
        }
    }
    let is_missing = args.missing && !companies.is_empty();
    Ok(if is_missing { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

/// What the cluster does not have yet. Standard error names what is left out.
async fn missing_manifests<'a>(
    companies: &'a Companies,
    template: &Template,
    args: &CompaniesArgs,
    remote: &Remote,
) -> anyhow::Result<Vec<Manifests<'a>>> {
    let mut manifests = companies.manifests(template, &args.namespace_template)?;
    for warning in existing::leave_out(&remote.cluster.client, &mut manifests).await? {
        output::note(&format!("warning: {warning}"));
    }
    let with_account = companies.with_account();
    if !with_account.is_empty() {
        let named = existing::named(&with_account);
        output::note(&format!("companies that have an account are left out: {named}"));
    }
    Ok(manifests)
}

fn read_template(args: &CompaniesArgs) -> anyhow::Result<Template> {
    let Some(file) = &args.template else { return Template::parse(template::BUILT_IN) };
    if args.output == CompaniesFormat::Table {
        bail!("--template is for manifests: add --output yaml or --output json");
    }
    let shown = file.display();
    let bytes = input::read(Some(file), MAX_TEMPLATE)
        .with_context(|| format!("failed to read {shown}: specify a file that you may read"))?
        .with_context(|| format!("{shown} has more than 1 MiB: make it shorter"))?;
    let text = std::str::from_utf8(&bytes)
        .with_context(|| format!("{shown} is not text in UTF-8: specify a YAML or JSON file"))?;
    Template::parse(text).with_context(|| format!("{shown} cannot be used"))
}

/// Redacts the API key, if the response echoes it.
fn redact(mut company: Company, key: &str) -> Company {
    woodpecker::redact_text(&mut company.name, key);
    company
}

/// Why the companies could not be listed, and what to do.
fn problem(error: &CompaniesError) -> String {
    match error {
        CompaniesError::Api(error) => {
            woodpecker::problem(error, "use an API key of the agency's main account (HQ)")
        }
        CompaniesError::Changed => format!("{error}: try again"),
        CompaniesError::TooLong => {
            format!("{error}: check that spec.baseUrl is the address of Woodpecker's API")
        }
    }
}
