//! `keys create`: a new keyring where the old one is lost for good. What heals by itself is told apart from what is lost.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;

use super::{StoreArgs, Target};
use crate::cli::{cluster, output};
use crate::resources::conditions::{ConditionStatus, ConditionType, find};
use crate::resources::{MicrosoftGraphCredential, SealedGraphCredential};
use crate::secrets::{self, ReadError};
use crate::store::keyring::{self, Keyring, dependants};
use crate::store::record::record_name;

/// What `keys create` can be told.
#[derive(Debug, Args)]
#[command(
    after_help = "The operator makes its keyring by itself on the first start. Once something depends on it, a lost one is \
    not replaced in silence: with --accept-loss each secret counts as changed, so it is proved anew and sent to Woodpecker \
    once as an update (nothing is created), and each sealed record is sealed anew from its Secret, once Microsoft accepts \
    that. Records without such a Secret are lost, and named.\n\n\
    Exit codes: 0 done; 3 done, and the records named are lost or in doubt; 1 a failure; 2 a bad command line."
)]
pub(super) struct CreateArgs {
    /// Make it although objects depend on the keyring that was there
    #[arg(long)]
    accept_loss: bool,

    #[command(flatten)]
    store: StoreArgs,
}

/// What becomes of a record without the keyring that it was sealed under, and why; nothing where it is sealed anew from its
/// Secret.
type Prospect = Option<(&'static str, String)>;

/// Nothing holds its secret any more.
const LOST: &str = "lost";

/// It may be sealed anew, or may have held something else.
const IN_DOUBT: &str = "in doubt";

/// Makes a keyring.
pub(super) async fn run(args: &CreateArgs) -> anyhow::Result<ExitCode> {
    let target = Target::of(&args.store).await?;
    let client = &target.cluster.client;
    let exists = || {
        anyhow!(
            "there is a keyring Secret {} already, and nothing was changed: `keys rotate` gives it a fresh key",
            target.place
        )
    };
    if target.keyring_if_any().await?.is_some() {
        return Err(exists());
    }
    if let Some(dependant) = dependants::find(client, &target.namespaces).await?
        && !args.accept_loss
    {
        bail!(
            "{dependant}, and perhaps more, depends on the keyring that was there: bring that back from a backup (keys import), or add --accept-loss; nothing was changed"
        );
    }
    target.check_placed()?;
    // Looked at first: once it is made, the operator begins to seal the others anew.
    let records = cluster::list::<SealedGraphCredential>(client, &target.namespaces).await?;
    let prospects = prospects(&target, &records).await?;
    let keyring = Keyring::random(Timestamp::now()).context("failed to draw random bytes for a new key")?;
    if !keyring::create(client, &target.place, &keyring).await? {
        return Err(exists());
    }
    output::print(&format!(
        "the keyring Secret {} is made, with key {}: back it up (keys export)\n",
        target.place,
        keyring.primary()
    ))?;
    tell(&records, &prospects)
}

/// Tells what becomes of each record.
fn tell(records: &[DynamicObject], prospects: &[Prospect]) -> anyhow::Result<ExitCode> {
    let healing = prospects.iter().filter(|prospect| prospect.is_none()).count();
    if healing > 0 {
        output::print(&format!(
            "{healing} records are sealed anew from their Secrets by the operator, once Microsoft accepts these\n"
        ))?;
    }
    for (record, prospect) in records.iter().zip(prospects) {
        if let Some((word, why)) = prospect {
            output::print(&format!("{word}: {}: {why}\n", described(record)))?;
        }
    }
    Ok(if healing == records.len() { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

/// What becomes of each record without the keyring that it was sealed under.
async fn prospects(target: &Target, records: &[DynamicObject]) -> anyhow::Result<Vec<Prospect>> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let client = &target.cluster.client;
    let objects = cluster::list::<MicrosoftGraphCredential>(client, &target.namespaces).await?;
    let objects =
        objects.into_iter().filter_map(|object| object.try_parse::<MicrosoftGraphCredential>().ok());
    let sources: BTreeMap<(String, String), MicrosoftGraphCredential> = objects
        .filter(|object| object.spec.woodpecker().is_none())
        .map(|object| ((object.namespace_name().to_owned(), record_name(&object)), object))
        .collect();
    let mut prospects = Vec::new();
    for record in records {
        let name = (record.namespace().unwrap_or_default(), record.name_any());
        prospects.push(match sources.get(&name) {
            None => Some((LOST, "no MicrosoftGraphCredential has it".into())),
            Some(object) => prospect(target, object).await?,
        });
    }
    Ok(prospects)
}

/// What becomes of the record of an object.
async fn prospect(target: &Target, object: &MicrosoftGraphCredential) -> anyhow::Result<Prospect> {
    let (namespace, name) = (object.namespace_name(), &object.spec.secret_ref.name);
    let this = || format!("MicrosoftGraphCredential {}", object.name_any());
    if object.metadata.deletion_timestamp.is_some() {
        return Ok(Some((LOST, format!("{} is being deleted", this()))));
    }
    let secret = match secrets::read(&target.cluster.client, namespace, name).await {
        Ok(secret) => secret,
        Err(ReadError::NotFound) => {
            return Ok(Some((LOST, format!("Secret {name}, from which it was sealed, is gone"))));
        }
        Err(error) => {
            return Err(error).with_context(|| format!("failed to look at Secret {namespace}/{name}"));
        }
    };
    let key = object.spec.secret_ref.client_secret_key();
    if secret.get(key).is_none_or(|value| value.expose().is_empty()) {
        return Ok(Some((LOST, format!("Secret {name} holds no {key}"))));
    }
    if object.spec.is_suspended() {
        return Ok(Some((IN_DOUBT, format!("{} is suspended", this()))));
    }
    let conditions = object.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    let is_ready =
        find(conditions, ConditionType::Ready).is_some_and(|ready| ready.status == ConditionStatus::True);
    Ok((!is_ready).then(|| {
        (IN_DOUBT, format!("{} was not Ready, so its Secret may hold another secret than the record", this()))
    }))
}

/// A record with the name and the id of its credential.
fn described(record: &DynamicObject) -> String {
    let spec = &record.data["spec"];
    let name = output::shown(spec["name"].as_str().unwrap_or_default());
    let namespace = record.namespace().unwrap_or_default();
    format!("{namespace}/{} (credential {} \"{name}\")", record.name_any(), spec["credentialId"])
}
