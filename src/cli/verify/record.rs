//! A record of the store as what is to be proved: opened with the keyring, and never shown.

use kube::Api;
use thiserror::Error;

use crate::cli::keyring::{KeyringArgs, Target, TargetError};
use crate::resources::{AccountName, SealedGraphCredential};
use crate::secret::SecretText;
use crate::store::record::{self, RecordFault};

/// Why a record cannot be proved.
#[derive(Debug, Error)]
pub(in crate::cli) enum RecordError {
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error("there is no SealedGraphCredential {0}: `kubectl get sgc --all-namespaces` lists them")]
    Missing(AccountName),
    #[error("failed to read SealedGraphCredential {0}")]
    Read(AccountName, #[source] Box<kube::Error>),
    #[error("SealedGraphCredential {0} does not open")]
    Fault(AccountName, #[source] RecordFault),
}

/// Reads and opens it.
pub(super) async fn open(
    name: &AccountName,
    args: &KeyringArgs,
) -> Result<(SealedGraphCredential, SecretText), RecordError> {
    let target = Target::find(args).await?;
    let keyring = target.keyring().await?;
    let records: Api<SealedGraphCredential> = Api::namespaced(target.cluster.client.clone(), &name.namespace);
    let read = records.get_opt(&name.name).await;
    let read = read.map_err(|error| RecordError::Read(name.clone(), Box::new(error)))?;
    let record = read.ok_or_else(|| RecordError::Missing(name.clone()))?;
    let secret = record::open(&record, &keyring).map_err(|fault| RecordError::Fault(name.clone(), fault))?;
    Ok((record, secret))
}
