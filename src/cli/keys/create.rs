//! `keys create`: a new keyring if the old one is lost. It names the records that the operator cannot re-encrypt.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;

use crate::api::conditions::{ConditionStatus, ConditionType, find};
use crate::api::{MicrosoftGraphCredential, SealedGraphCredential};
use crate::cli::cluster::ConfirmArgs;
use crate::cli::keys::{StoreArgs, Target};
use crate::cli::{kubernetes, output};
use crate::k8s::secrets::{self, ReadError};
use crate::store::keyring::{self, Keyring, dependents};
use crate::store::record::record_name;

/// Arguments of `keys create`.
#[derive(Debug, Args)]
#[command(
    after_help = "The operator creates its keyring automatically on the first start. Once something depends on the \
    keyring, a lost one is not replaced silently. With --accept-loss each secret counts as changed: the operator \
    verifies it again and sends it to Woodpecker once as an update (nothing is created). It re-encrypts each record \
    from its Secret, once Microsoft accepts the secret. Records without such a Secret are lost, and the command names \
    them.\n\n\
    Exit codes: 0 success; 3 success, but the named records are lost or in doubt; 1 failure; 2 invalid command line."
)]
pub(super) struct CreateArgs {
    /// Create the keyring even though objects depend on the previous one
    #[arg(long)]
    accept_loss: bool,

    #[command(flatten)]
    confirm: ConfirmArgs,

    #[command(flatten)]
    store: StoreArgs,
}

/// What happens to a record without its previous keyring, and why; `None` if the operator re-encrypts it from its Secret.
type LossEstimate = Option<(&'static str, String)>;

/// Nothing contains its secret any longer.
const LOST: &str = "lost";

/// It may be re-encrypted, or its secret may have been another one.
const IN_DOUBT: &str = "in doubt";

/// Creates a keyring.
pub(super) async fn run(args: &CreateArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store).await?;
    let client = &target.cluster.client;
    let already_exists = || {
        anyhow!(
            "the keyring Secret {} already exists, and nothing was changed: use `keys rotate` to add a new key",
            target.secret
        )
    };
    if target.keyring_if_any().await?.is_some() {
        return Err(already_exists());
    }
    if let Some(dependent) = dependents::find(client, &target.namespaces).await?
        && !args.accept_loss
    {
        bail!(
            "{dependent}, and possibly others, depends on the previous keyring: restore that from a backup (keys import), or add --accept-loss; nothing was changed"
        );
    }
    target.ensure_explicit_namespace()?;
    target.confirm(args.confirm, "create a new keyring")?;
    // Before the keyring is created, because the operator then starts to re-encrypt records.
    let records = kubernetes::list::<SealedGraphCredential>(client, &target.namespaces).await?;
    let estimates = estimates(&target, &records).await?;
    let keyring =
        Keyring::random(Timestamp::now()).context("failed to generate random bytes for a new key")?;
    if !keyring::create(client, &target.secret, &keyring).await? {
        return Err(already_exists());
    }
    output::print(&format!(
        "created the keyring Secret {} with key {}: back it up (keys export)\n",
        target.secret,
        keyring.primary()
    ))?;
    print_estimates(&records, &estimates)
}

/// Prints what happens to each record.
fn print_estimates(records: &[DynamicObject], estimates: &[LossEstimate]) -> anyhow::Result<ExitCode> {
    let recoverable = estimates.iter().filter(|estimate| estimate.is_none()).count();
    if recoverable > 0 {
        output::print(&format!(
            "the operator re-encrypts {recoverable} records from their Secrets, once Microsoft accepts these\n"
        ))?;
    }
    for (record, estimate) in records.iter().zip(estimates) {
        if let Some((state, reason)) = estimate {
            output::print(&format!("{state}: {}: {reason}\n", described(record)))?;
        }
    }
    Ok(if recoverable == records.len() { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

/// What happens to each record without its previous keyring.
async fn estimates(target: &Target, records: &[DynamicObject]) -> anyhow::Result<Vec<LossEstimate>> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let client = &target.cluster.client;
    let objects = kubernetes::list::<MicrosoftGraphCredential>(client, &target.namespaces).await?;
    let objects =
        objects.into_iter().filter_map(|object| object.try_parse::<MicrosoftGraphCredential>().ok());
    let sources: BTreeMap<(String, String), MicrosoftGraphCredential> = objects
        .filter(|object| object.spec.woodpecker().is_none() || object.spec.rotation.is_some())
        .map(|object| ((object.namespace_name().to_owned(), record_name(&object)), object))
        .collect();
    let mut estimates = Vec::new();
    for record in records {
        let name = (record.namespace().unwrap_or_default(), record.name_any());
        estimates.push(match sources.get(&name) {
            None => Some((LOST, "it belongs to no MicrosoftGraphCredential".into())),
            Some(object) => estimate(target, object).await?,
        });
    }
    Ok(estimates)
}

/// What happens to the record of an object.
async fn estimate(target: &Target, object: &MicrosoftGraphCredential) -> anyhow::Result<LossEstimate> {
    let namespace = object.namespace_name();
    let this = || format!("MicrosoftGraphCredential {}", object.name_any());
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Some((LOST, format!("{} is being deleted", this()))));
    }
    let Some(reference) = &object.spec.secret_ref else {
        // The operator creates another client secret.
        return Ok(object.spec.is_suspended().then(|| (IN_DOUBT, format!("{} is suspended", this()))));
    };
    let name = &reference.name;
    let secret = match secrets::read(&target.cluster.client, namespace, name).await {
        Ok(secret) => secret,
        Err(ReadError::NotFound) => {
            return Ok(Some((LOST, format!("its Secret {name} does not exist"))));
        }
        Err(error) => {
            return Err(error).with_context(|| format!("failed to read Secret {namespace}/{name}"));
        }
    };
    let key = reference.client_secret_key();
    if secret.get(key).is_none_or(|value| value.expose().is_empty()) {
        return Ok(Some((LOST, format!("Secret {name} has no value for {key}"))));
    }
    if object.spec.is_suspended() {
        return Ok(Some((IN_DOUBT, format!("{} is suspended", this()))));
    }
    let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let is_ready =
        find(conditions, ConditionType::Ready).is_some_and(|ready| ready.status == ConditionStatus::True);
    Ok((!is_ready).then(|| {
        (
            IN_DOUBT,
            format!("{} was not Ready, so its Secret may contain another secret than the record", this()),
        )
    }))
}

/// A record with the name and the id of its credential.
fn described(record: &DynamicObject) -> String {
    let spec = &record.data["spec"];
    let name = output::sanitized(spec["name"].as_str().unwrap_or_default());
    let namespace = record.namespace().unwrap_or_default();
    format!("{namespace}/{} (credential {} \"{name}\")", record.name_any(), spec["credentialId"])
}
