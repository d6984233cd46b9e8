//! A record of the store as what is to be proved: opened with the keyring, and never shown.

use anyhow::Context as _;
use kube::Api;

use crate::cli::keyring::{KeyringArgs, Target};
use crate::controller::Named;
use crate::resources::SealedGraphCredential;
use crate::secret::SecretText;
use crate::store::record;

/// Reads `NAMESPACE/NAME`.
pub(super) fn record_name(text: &str) -> Result<Named, &'static str> {
    crate::cli::named(text)
        .ok_or("it must be NAMESPACE/NAME, as `kubectl get sgc --all-namespaces` shows them")
}

/// Reads and opens it.
pub(super) async fn open(
    name: &Named,
    args: &KeyringArgs,
) -> anyhow::Result<(SealedGraphCredential, SecretText)> {
    let target = Target::find(args).await?;
    let keyring = target.keyring().await?;
    let records: Api<SealedGraphCredential> = Api::namespaced(target.cluster.client.clone(), &name.namespace);
    let read = records.get_opt(&name.name).await;
    let read = read.with_context(|| format!("failed to read SealedGraphCredential {name}"))?;
    let record = read.with_context(|| {
        format!("there is no SealedGraphCredential {name}: `kubectl get sgc --all-namespaces` lists them")
    })?;
    let opened = record::open(&record, &keyring);
    let secret = opened.with_context(|| format!("SealedGraphCredential {name} does not open"))?;
    Ok((record, secret))
}
