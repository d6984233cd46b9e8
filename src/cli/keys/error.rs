//! Why a command of `keys` came to nothing.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::cli::cluster::ListError;
use crate::cli::keyring::TargetError;
use crate::cli::output::OutputError;
use crate::k8s::list;
use crate::secrets::ReadError;
use crate::store::keyring::dependants::SurveyError;
use crate::store::keyring::{
    Contradiction, EditError, KeyChangeError, KeyId, KeyringError, KeyringFormatError,
};

/// Why a command came to nothing.
#[derive(Debug, Error)]
pub(in crate::cli) enum KeysError {
    #[error("failed to start the runtime")]
    Runtime(#[source] io::Error),
    #[error(transparent)]
    Target(#[from] TargetError),
    #[error(transparent)]
    Keyring(#[from] KeyringError),
    #[error(transparent)]
    Change(#[from] KeyChangeError),
    #[error(
        "{unreadable} records cannot be read as to their key, and may need key {key}: mend or delete them first (keys check names them)"
    )]
    Unreadable { key: KeyId, unreadable: usize },
    #[error("failed to draw random bytes for a new key")]
    Random(#[from] getrandom::Error),
    #[error(transparent)]
    Contradiction(#[from] Contradiction),
    #[error(transparent)]
    Edit(EditError<std::convert::Infallible>),
    #[error("failed to list the SealedGraphCredentials")]
    Census(#[from] list::ListError),
    #[error(transparent)]
    List(#[from] ListError),
    #[error(transparent)]
    Survey(#[from] SurveyError),
    #[error("failed to look at Secret {0}")]
    Source(String, #[source] ReadError),
    #[error(
        "standard output is a terminal, and keys are not shown there: name a --file, or pipe it into a program"
    )]
    Terminal,
    #[error("failed to put the keyring into JSON")]
    Json(#[from] serde_json::Error),
    #[error("there is a file {0} already: keys are written over nothing, so name another one")]
    FileExists(PathBuf),
    #[error("failed to write {path}: name a file in a directory that you may write to")]
    WriteFile { path: PathBuf, source: io::Error },
    #[error("failed to write the keyring to standard output: what was written is not whole")]
    Stdout(#[source] io::Error),
    #[error("failed to read {from}")]
    ReadBackup { from: String, source: io::Error },
    #[error("{from} is longer than 1 MiB, which no keyring is: give what `keys export` wrote")]
    BackupTooLong { from: String },
    #[error("{from} holds no keyring ({what}): give what `keys export` wrote")]
    Backup { from: String, what: KeyringFormatError },
    #[error(
        "there is a keyring Secret {0} already, and nothing was changed: `keys rotate` gives it a fresh key"
    )]
    Exists(String),
    #[error(
        "{dependant}, and perhaps more, depends on the keyring that was there: bring that back from a backup (keys import), or add --accept-loss; nothing was changed"
    )]
    Depended { dependant: String },
    #[error("key {0} became primary meanwhile, by somebody else's hands: `keys list` shows how things stand")]
    Overtaken(KeyId),
    #[error(transparent)]
    Output(#[from] OutputError),
}

// === impl KeysError ===

impl<E: Into<KeysError>> From<EditError<E>> for KeysError {
    fn from(error: EditError<E>) -> Self {
        match error {
            EditError::Refused(refused) => refused.into(),
            EditError::Keyring(error) => error.into(),
            EditError::Forbidden { place, source } => Self::Edit(EditError::Forbidden { place, source }),
            EditError::Write { place, source } => Self::Edit(EditError::Write { place, source }),
            EditError::Contended(place) => Self::Edit(EditError::Contended(place)),
        }
    }
}
