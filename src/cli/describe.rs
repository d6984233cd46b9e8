//! `describe`: why a credential or an account is in its state, and what happens next.

mod report;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::{Api, Client, Resource};

use self::report::Description;
use crate::api::reasons::Kind;
use crate::api::{MicrosoftGraphCredential, NamespacedName, WoodpeckerAccount};
use crate::cli::cluster::{ClusterArgs, NamespaceArgs};
use crate::cli::objects::ObjectState;
use crate::cli::output::{self, ReportFormat};
use crate::config::ObjectName;
use crate::core::timing::Timing;

/// Arguments of `describe`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    graph-credential-operator describe sales-eu --namespace mail\n  \
    graph-credential-operator describe --account agency -n mail -o yaml\n\n\
    Changes nothing, and asks neither Microsoft nor Woodpecker: it shows what the operator last wrote.")]
pub(super) struct DescribeArgs {
    /// Name of the MicrosoftGraphCredential
    #[arg(value_name = "NAME")]
    name: ObjectName,

    /// Describe the WoodpeckerAccount of this name instead
    #[arg(long)]
    account: bool,

    /// Output format
    #[arg(short, long, value_enum, default_value_t, value_name = "FORMAT")]
    output: ReportFormat,

    #[command(flatten)]
    namespace: NamespaceArgs,

    #[command(flatten)]
    cluster: ClusterArgs,
}

/// Prints the description.
pub(super) async fn run(args: &DescribeArgs) -> anyhow::Result<ExitCode> {
    let cluster = args.cluster.connect(None, &Timing::STANDARD)?;
    let namespace = args.namespace.one(&cluster)?;
    let name = NamespacedName { namespace: namespace.to_owned(), name: args.name.to_string() };
    let client = &cluster.client;
    let (kind, object) = if args.account {
        (Kind::Account, get::<WoodpeckerAccount>(client, Kind::Account, &name).await?)
    } else {
        (Kind::Credential, get::<MicrosoftGraphCredential>(client, Kind::Credential, &name).await?)
    };
    let state = ObjectState::of(kind, object);
    let account = match state.account() {
        Some(account) => find::<WoodpeckerAccount>(client, &account)
            .await
            .unwrap_or_else(|error| {
                output::note(&format!("{error:#}"));
                None
            })
            .map(|object| ObjectState::of(Kind::Account, object)),
        None => None,
    };
    let events = events(client, &state).await.unwrap_or_else(|error| {
        output::note(&format!("{error:#}"));
        Vec::new()
    });
    args.output.print(&Description { state, account, events, now: Timestamp::now() })?;
    Ok(ExitCode::SUCCESS)
}

/// Reads an object, valid or not.
pub(super) async fn find<K: Resource<DynamicType = ()>>(
    client: &Client,
    name: &NamespacedName,
) -> anyhow::Result<Option<DynamicObject>> {
    let kind = ApiResource::erase::<K>(&());
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &name.namespace, &kind);
    let found = api.get_opt(&name.name).await;
    found.with_context(|| format!("failed to read {} {name}: you need the right to get it", K::kind(&())))
}

pub(super) async fn get<K: Resource<DynamicType = ()>>(
    client: &Client,
    kind: Kind,
    name: &NamespacedName,
) -> anyhow::Result<DynamicObject> {
    find::<K>(client, name).await?.with_context(|| {
        format!("there is no {} {name}: fix the name, --namespace or --context", kind.as_str())
    })
}

/// The events of the object, the newest first.
async fn events(client: &Client, state: &ObjectState) -> anyhow::Result<Vec<Event>> {
    let api: Api<Event> = Api::namespaced(client.clone(), &state.name.namespace);
    let uid = state.object.metadata.uid.as_deref().unwrap_or_default();
    let params = ListParams::default().fields(&format!("regarding.uid={uid}"));
    let listed = api.list(&params).await.with_context(|| {
        format!(
            "failed to list the events in namespace {}: you need the right to list them",
            state.name.namespace
        )
    })?;
    let mut events = listed.items;
    events.sort_by_key(|event| std::cmp::Reverse(report::last_seen(event)));
    Ok(events)
}
