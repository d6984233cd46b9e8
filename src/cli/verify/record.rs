//! A record of the store as what is to be proved: opened with the keyring, and never shown.

use std::fmt;
use std::str::FromStr;

use anyhow::Context as _;
use kube::Api;
use thiserror::Error;

use crate::cli::keyring::{KeyringArgs, Target};
use crate::resources::SealedGraphCredential;
use crate::secret::SecretText;
use crate::settings::ObjectName;
use crate::store::record;

/// Namespace and name of a record.
#[derive(Clone, Debug)]
pub(in crate::cli) struct RecordName {
    namespace: ObjectName,
    name: ObjectName,
}

/// A text that names no record.
#[derive(Debug, Error)]
#[error("it must be NAMESPACE/NAME, as `kubectl get sgc --all-namespaces` shows them")]
pub(in crate::cli) struct NotARecordName;

/// Reads and opens it.
pub(super) async fn open(
    name: &RecordName,
    args: &KeyringArgs,
) -> anyhow::Result<(SealedGraphCredential, SecretText)> {
    let target = Target::find(args).await?;
    let keyring = target.keyring().await?;
    let records: Api<SealedGraphCredential> =
        Api::namespaced(target.cluster.client.clone(), name.namespace.as_str());
    let read = records.get_opt(name.name.as_str()).await;
    let read = read.with_context(|| format!("failed to read SealedGraphCredential {name}"))?;
    let record = read.with_context(|| {
        format!("there is no SealedGraphCredential {name}: `kubectl get sgc --all-namespaces` lists them")
    })?;
    let opened = record::open(&record, &keyring);
    let secret = opened.with_context(|| format!("SealedGraphCredential {name} does not open"))?;
    Ok((record, secret))
}

// === impl RecordName ===

impl FromStr for RecordName {
    type Err = NotARecordName;

    fn from_str(text: &str) -> Result<Self, NotARecordName> {
        let part = |part: &str| part.parse::<ObjectName>().map_err(|_| NotARecordName);
        let (namespace, name) = text.split_once('/').ok_or(NotARecordName)?;
        Ok(Self { namespace: part(namespace)?, name: part(name)? })
    }
}

impl fmt::Display for RecordName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}
