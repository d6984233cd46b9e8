//! Reads a record of the store for verification, and decrypts it with the keyring.

use anyhow::Context as _;
use kube::Api;

use crate::api::{NamespacedName, SealedGraphCredential};
use crate::cli::keyring::{KeyringArgs, Target};
use crate::secret_text::SecretText;
use crate::store::record;

/// Reads `NAMESPACE/NAME`.
pub(super) fn record_name(text: &str) -> Result<NamespacedName, &'static str> {
    crate::cli::parse_namespaced_name(text)
        .ok_or("it must be NAMESPACE/NAME, as listed by `kubectl get sgc --all-namespaces`")
}

/// Reads and decrypts the record.
pub(super) async fn open(
    name: &NamespacedName,
    args: &KeyringArgs,
) -> anyhow::Result<(SealedGraphCredential, SecretText)> {
    let target = Target::find(args)?;
    let keyring = target.keyring().await?;
    let records: Api<SealedGraphCredential> = Api::namespaced(target.cluster.client.clone(), &name.namespace);
    let read = records.get_opt(&name.name).await;
    let read = read.with_context(|| format!("failed to read SealedGraphCredential {name}"))?;
    let record = read.with_context(|| {
        format!("there is no SealedGraphCredential {name}: `kubectl get sgc --all-namespaces` lists them")
    })?;
    let opened = record::open(&record, &keyring);
    let secret = opened.with_context(|| format!("SealedGraphCredential {name} cannot be decrypted"))?;
    Ok((record, secret))
}
