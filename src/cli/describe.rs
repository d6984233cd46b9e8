//! `describe`: why a credential, an account, an identity or an object with mailboxes is in its state, and what happens next.

mod mailboxes;
mod queue;
mod report;

use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, Client};

use self::report::Description;
use crate::api::reasons::Kind;
use crate::api::{
    EntraIdentity, MicrosoftGraphCredential, NamespacedName, WoodpeckerAccount, WoodpeckerMailboxes,
};
use crate::cli::cluster::{ClusterArgs, NamespaceArgs};
use crate::cli::kubernetes;
use crate::cli::object_arg::ObjectArg;
use crate::cli::objects::ObjectState;
use crate::cli::output::{self, ReportFormat};
use crate::core::timing::Timing;

/// Arguments of `describe`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  \
    graph-credential-operator describe sales-eu --namespace mail\n  \
    graph-credential-operator describe wpa/agency -n mail -o yaml\n\n\
    Changes nothing, and asks neither Microsoft nor Woodpecker: it shows what the operator last wrote.")]
pub(super) struct DescribeArgs {
    /// Name of a MicrosoftGraphCredential, wpa/NAME of a WoodpeckerAccount, ei/NAME of an EntraIdentity, or
    /// wpm/NAME of a WoodpeckerMailboxes
    #[arg(value_name = "NAME")]
    object: ObjectArg,

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
    let namespace = args.namespace.require_single(&cluster)?;
    let name = NamespacedName { namespace: namespace.to_owned(), name: args.object.name.to_string() };
    let client = &cluster.client;
    let kind = args.object.kind;
    let object = match kind {
        Kind::Credential => kubernetes::get::<MicrosoftGraphCredential>(client, &name).await?,
        Kind::Account => kubernetes::get::<WoodpeckerAccount>(client, &name).await?,
        Kind::Identity => kubernetes::get::<EntraIdentity>(client, &name).await?,
        Kind::Mailboxes => kubernetes::get::<WoodpeckerMailboxes>(client, &name).await?,
    };
    let now = Timestamp::now();
    let state = ObjectState::of(kind, object, now);
    let account = match state.account() {
        Some(account) => or_note(kubernetes::find::<WoodpeckerAccount>(client, &account).await).flatten(),
        None => None,
    };
    let account = account.map(|object| ObjectState::of(Kind::Account, object, now));
    let events = or_note(events(client, &state).await);
    let waiting = queue::waiting(client, &state, now).await;
    args.output.print(&Description { state, account, waiting, events, now })?;
    Ok(ExitCode::SUCCESS)
}

/// The result, or `None` with a note of what failed: the rest of the description is still useful.
fn or_note<T>(result: anyhow::Result<T>) -> Option<T> {
    result.inspect_err(|error| output::note(&format!("{error:#}"))).ok()
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
