//! A record of the store as what is to be proved: opened with the keyring, and never shown.

use std::fmt;
use std::str::FromStr;

use kube::Api;
use thiserror::Error;

use crate::cli::keyring::{KeyringArgs, Target, TargetError};
use crate::resources::SealedGraphCredential;
use crate::secret::SecretText;
use crate::settings::ObjectName;
use crate::store::record::{self, RecordFault};

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

/// Why a record cannot be proved.
#[derive(Debug, Error)]
pub(in crate::cli) enum RecordError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("there is no SealedGraphCredential {0}: `kubectl get sgc --all-namespaces` lists them")]
    Missing(RecordName),
    #[error("failed to read SealedGraphCredential {0}")]
    Read(RecordName, #[source] Box<kube::Error>),
    #[error("SealedGraphCredential {0} does not open")]
    Fault(RecordName, #[source] RecordFault),
}

/// Reads and opens it.
pub(super) async fn open(
    name: &RecordName,
    args: &KeyringArgs,
) -> Result<(SealedGraphCredential, SecretText), RecordError> {
    let target = Target::find(args).await?;
    let keyring = target.keyring().await?;
    let records: Api<SealedGraphCredential> =
        Api::namespaced(target.cluster.client.clone(), name.namespace.as_str());
    let read = records.get_opt(name.name.as_str()).await;
    let read = read.map_err(|error| RecordError::Read(name.clone(), Box::new(error)))?;
    let record = read.ok_or_else(|| RecordError::Missing(name.clone()))?;
    let secret = record::open(&record, &keyring).map_err(|fault| RecordError::Fault(name.clone(), fault))?;
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
