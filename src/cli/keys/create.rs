//! `keys create`: a new keyring where the old one is lost for good. What heals by itself is told apart from what is lost.

use std::collections::BTreeMap;
use std::process::ExitCode;

use clap::Args;
use jiff::Timestamp;
use kube::ResourceExt;
use kube::api::DynamicObject;

use super::{KeysError, StoreArgs, Target};
use crate::cli::cluster;
use crate::cli::output;
use crate::resources::{MicrosoftGraphCredential, SealedGraphCredential};
use crate::secrets::{self, ReadError};
use crate::store::keyring::{self, Keyring, dependants};
use crate::store::record::record_name;

/// What `keys create` can be told.
#[derive(Debug, Args)]
#[command(
    after_help = "The operator makes its keyring by itself on the first start. Once something depends on it, a lost one is \
    not replaced in silence: with --accept-loss each secret counts as changed, so it is proved anew and sent to Woodpecker \
    once as an update (nothing is created), and each sealed record is sealed anew from its Secret. Records without such a \
    Secret are lost, and named.\n\n\
    Exit codes: 0 done; 3 done, and the records named are lost; 1 a failure; 2 a bad command line."
)]
pub(super) struct CreateArgs {
    /// Make it although objects depend on the keyring that was there
    #[arg(long)]
    accept_loss: bool,

    #[command(flatten)]
    store: StoreArgs,
}

/// Makes a keyring.
pub(super) async fn run(args: &CreateArgs) -> Result<ExitCode, KeysError> {
    let target = Target::of(&args.store).await?;
    let client = &target.cluster.client;
    if target.keyring_if_any().await?.is_some() {
        return Err(KeysError::Exists(target.place.to_string()));
    }
    let first = dependants::find(client, &target.place.served, 1).await?.pop();
    if let Some(dependant) = first.filter(|_| !args.accept_loss) {
        return Err(KeysError::Depended { dependant });
    }
    // Told first: once it is made, the operator begins to seal the others anew.
    let records = cluster::list::<SealedGraphCredential>(client, &target.place.served).await?;
    let lost = without_source(&target, &records).await?;
    let keyring = Keyring::random(Timestamp::now())?;
    if !keyring::create(client, &target.place, &keyring).await? {
        return Err(KeysError::Exists(target.place.to_string()));
    }
    output::print(&format!(
        "the keyring Secret {} is made, with key {}: back it up (keys export)\n",
        target.place,
        keyring.primary()
    ))?;
    if !records.is_empty() {
        let healing = records.len() - lost.len();
        output::print(&format!("{healing} records are sealed anew from their Secrets by the operator\n"))?;
    }
    for record in &lost {
        output::print(&format!("lost: {record}\n"))?;
    }
    Ok(if lost.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(3) })
}

/// The records that no object with a Secret seals anew, described.
async fn without_source(target: &Target, records: &[DynamicObject]) -> Result<Vec<String>, KeysError> {
    if records.is_empty() {
        return Ok(Vec::new());
    }
    let client = &target.cluster.client;
    let objects = cluster::list::<MicrosoftGraphCredential>(client, &target.place.served).await?;
    let mut sources = BTreeMap::new();
    for object in objects {
        let Ok(object) = object.try_parse::<MicrosoftGraphCredential>() else { continue };
        if object.spec.woodpecker().is_none() && object.metadata.deletion_timestamp.is_none() {
            let namespace = object.namespace_name().to_owned();
            sources.insert((namespace, record_name(&object)), object.spec.secret_ref.name.clone());
        }
    }
    let mut lost = Vec::new();
    for record in records {
        let namespace = record.namespace().unwrap_or_default();
        let known_as = format!("{namespace}/{} ({})", record.name_any(), title(record));
        match sources.get(&(namespace.clone(), record.name_any())) {
            None => lost.push(format!("{known_as}: no MicrosoftGraphCredential has it")),
            Some(secret) => match secrets::version(client, &namespace, secret).await {
                Ok(_) => {}
                Err(ReadError::NotFound) => {
                    lost.push(format!("{known_as}: Secret {secret}, from which it was sealed, is gone"));
                }
                Err(error) => return Err(KeysError::Source(format!("{namespace}/{secret}"), error)),
            },
        }
    }
    Ok(lost)
}

/// The name and the id of its credential.
fn title(record: &DynamicObject) -> String {
    let spec = &record.data["spec"];
    let name = output::shown(spec["name"].as_str().unwrap_or_default());
    format!("credential {} \"{name}\"", spec["credentialId"])
}
