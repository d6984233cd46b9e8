//! `access`: credentials that a user could not apply now, and accounts that allow another namespace than they were meant
//! for.

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DynamicObject, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::{Value, json};

use crate::api::WoodpeckerAccount;
use crate::api::reasons::Kind;
use crate::api::timestamp::rfc3339;
use crate::cli::cluster::{ClusterArgs, NamespacesArgs};
use crate::cli::objects::resource_name;
use crate::cli::output::{Format, Report, Table, Text};
use crate::cli::ownership::{Inventory, ResourceSummary};
use crate::cli::{kubernetes, woodpecker};
use crate::core::timing::Timing;

/// Arguments of `access`.
#[derive(Debug, Args)]
#[command(
    after_help = "Changes nothing. The API server checks users when they apply an object, and Kubernetes does not \
    record who did. So an object stays when access is withdrawn, and what an account allows to a namespace applies to \
    every later namespace of that name.\n\n\
    user-denied: the user of --user could not apply the credential now. namespace-newer: the namespace was created \
    after the account last allowed it. namespace-missing: the account allows a namespace that does not exist.\n\n\
    Exit codes: 0 nothing is found; 3 something is; 1 failure; 2 invalid command line."
)]
pub(super) struct AccessArgs {
    /// User whose current rights are checked, such as system:serviceaccount:mail:deployer. Requires the namespaces where
    /// this user applied credentials
    #[arg(long, value_name = "NAME", requires = "NamespacesArgs")]
    user: Option<String>,

    /// Group of that user. Repeatable. The groups of a ServiceAccount are known
    #[arg(long = "group", value_name = "NAME", requires = "user")]
    groups: Vec<String>,

    /// Output format
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: Format,

    #[command(flatten)]
    namespaces: NamespacesArgs,

    #[command(flatten)]
    cluster: ClusterArgs,
}

/// What is found.
struct Findings(Vec<Finding>);

struct Finding {
    problem: &'static str,
    /// Kind and name.
    object: (&'static str, String),
    account: String,
    detail: String,
}

/// Prints what is found.
pub(super) async fn run(args: &AccessArgs) -> anyhow::Result<ExitCode> {
    let client = args.cluster.connect(None, &Timing::STANDARD)?.client;
    let is_wanted = |name: &str| args.namespaces.contains(name);
    let accounts = kubernetes::list::<WoodpeckerAccount>(&client, &[]).await?;
    let namespaces = kubernetes::list::<Namespace>(&client, &[]).await?;
    let mut findings = of_other_namespaces(&accounts, &namespaces, is_wanted);
    if let Some(user) = &args.user {
        let groups = groups_of(user, &args.groups);
        let inventory = Inventory::read(&client).await?;
        for object in inventory.objects().iter().filter(|it| is_wanted(&it.name.namespace)) {
            findings.extend(denied_to(&client, user, &groups, object).await?);
        }
    }
    let code = if findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(3) };
    args.output.print(&Findings(findings))?;
    Ok(code)
}

/// What accounts allow to namespaces that did not exist then, or do not exist now.
fn of_other_namespaces(
    accounts: &[DynamicObject],
    namespaces: &[DynamicObject],
    is_wanted: impl Fn(&str) -> bool,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    for account in accounts {
        let names = account.data.pointer("/spec/allowedNamespaces/names").and_then(Value::as_array);
        for name in names.into_iter().flatten().filter_map(Value::as_str).filter(|name| is_wanted(name)) {
            let namespace = namespaces.iter().find(|namespace| namespace.name_any() == name);
            let created = namespace.and_then(ResourceExt::creation_timestamp);
            let (problem, detail) = match (created, allowed_since(account, name)) {
                (None, _) => ("namespace-missing", "any later namespace of this name is allowed".to_owned()),
                (Some(created), Some(allowed)) if allowed < created.0 => (
                    "namespace-newer",
                    format!("created {}, last allowed {}", rfc3339(created.0), rfc3339(allowed)),
                ),
                (Some(_), _) => continue,
            };
            let account = woodpecker::name_of(account).to_string();
            findings.push(Finding { problem, object: ("Namespace", name.to_owned()), account, detail });
        }
    }
    findings
}

/// The last time at which a field manager that allows the namespace wrote a field of the account.
fn allowed_since(account: &DynamicObject, namespace: &str) -> Option<Timestamp> {
    let field = format!("/f:spec/f:allowedNamespaces/f:names/v:\"{namespace}\"");
    let entries = account.managed_fields().iter();
    let allowing =
        entries.filter(|it| it.fields_v1.as_ref().is_some_and(|it| it.0.pointer(&field).is_some()));
    allowing.filter_map(|entry| Some(entry.time.as_ref()?.0)).max()
}

/// What the user may not do now, of what applying the credential requires.
async fn denied_to(
    client: &Client,
    user: &str,
    groups: &[String],
    object: &ResourceSummary,
) -> anyhow::Result<Vec<Finding>> {
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let mut findings = Vec::new();
    let account = object.account.as_ref();
    let rights = [
        Some(("get", "", "secrets", &object.name.namespace, &object.secret)),
        account.map(|it| ("use", "graph-credentials.io", "woodpeckeraccounts", &it.namespace, &it.name)),
    ];
    for (verb, group, resource, namespace, name) in rights.into_iter().flatten() {
        let attributes = ResourceAttributes {
            verb: Some(verb.to_owned()),
            group: Some(group.to_owned()),
            resource: Some(resource.to_owned()),
            namespace: Some(namespace.clone()),
            name: Some(name.clone()),
            ..ResourceAttributes::default()
        };
        let spec = SubjectAccessReviewSpec {
            user: Some(user.to_owned()),
            groups: Some(groups.to_vec()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        };
        let review = SubjectAccessReview { spec, ..SubjectAccessReview::default() };
        let reviewed = reviews.create(&PostParams::default(), &review).await;
        let reviewed = reviewed.context(
            "failed to check the user's rights: you need the right to create subjectaccessreviews",
        )?;
        if !reviewed.status.is_some_and(|status| status.allowed) {
            let detail = format!("the user may not {verb} {resource} {namespace}/{name}");
            let account = account.map_or_else(|| "-".to_owned(), ToString::to_string);
            let object = ("MicrosoftGraphCredential", object.name.to_string());
            findings.push(Finding { problem: "user-denied", object, account, detail });
        }
    }
    Ok(findings)
}

// === impl Findings ===

impl Report for Findings {
    fn text(&self, _is_wide: bool) -> Text {
        let cells = |finding: &Finding| {
            let Finding { problem, object: (kind, name), account, detail } = finding;
            vec![(*problem).to_owned(), format!("{kind} {name}"), account.clone(), detail.clone()]
        };
        let mut text = Text::default();
        text.push_table(
            "",
            &Table::of(&["PROBLEM", "OBJECT", "ACCOUNT", "DETAIL"], self.0.iter().map(cells)),
        );
        text
    }

    fn json(&self) -> Value {
        let finding = |Finding { problem, object: (kind, name), account, detail }: &Finding| json!({"problem": problem, "object": format!("{kind} {name}"), "account": account, "detail": detail});
        json!({"findings": self.0.iter().map(finding).collect::<Vec<_>>()})
    }

    fn names(&self) -> Vec<String> {
        let name = |Finding { object: (kind, name), .. }: &Finding| match name.split_once('/') {
            Some((_, name)) => resource_name(Kind::Credential, name),
            None => format!("{}/{name}", kind.to_lowercase()),
        };
        self.0.iter().map(name).collect()
    }
}

/// These groups, and those that the API server adds.
pub(super) fn groups_of(user: &str, groups: &[String]) -> Vec<String> {
    let mut all = [groups, &["system:authenticated".to_owned()]].concat();
    let account = user.strip_prefix("system:serviceaccount:").and_then(|account| account.split_once(':'));
    if let Some((namespace, _)) = account {
        all.extend(["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")]);
    }
    all
}
