//! The file of a sandbox, and the key beside it. A key that lies beside its file protects nothing; records are encrypted only
//! because they are in the cluster, too.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use thiserror::Error;

use super::data::Data;
use crate::platform;
use crate::store::keyring::Keyring;

/// A file that cannot be used.
#[derive(Debug, Error)]
pub enum FileError {
    #[error("failed to read {}", .0.display())]
    Read(PathBuf, #[source] io::Error),
    #[error("{} is not a file of this sandbox: remove it, or specify another one", .0.display())]
    Malformed(PathBuf, #[source] serde_json::Error),
    #[error("{} is not the key of a sandbox", .0.display())]
    MalformedKey(PathBuf, #[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("{} has no key beside it ({}): restore the key, or remove the file", .0.display(), .1.display())]
    NoKey(PathBuf, PathBuf),
    #[error("failed to write {}", .0.display())]
    Write(PathBuf, #[source] io::Error),
    #[error("{} is in use by another sandbox: stop it, or specify another file", .0.display())]
    InUse(PathBuf),
    #[error("failed to generate a key")]
    Random(#[from] getrandom::Error),
    #[error("failed to serialize")]
    Serialize(#[from] serde_json::Error),
}

#[derive(Debug)]
pub(super) struct StateFile {
    path: PathBuf,
    /// Locked as long as the sandbox runs, so that no other one overwrites the file.
    _lock: File,
}

// === impl StateFile ===

impl StateFile {
    /// Reads the file and its key. If there is no file, both are created.
    pub fn open(path: &Path) -> Result<(Self, Keyring, Data), FileError> {
        // A link stays, and sandboxes with several links share one lock.
        let path = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
        let file = Self { _lock: lock(&path)?, path };
        let key_path = with_suffix(&file.path, ".key");
        let data = match read(&file.path)?.filter(|json| !json.is_empty()) {
            Some(json) => Some(
                serde_json::from_slice(&json)
                    .map_err(|error| FileError::Malformed(file.path.clone(), error))?,
            ),
            None => None,
        };
        let key = read(&key_path)?;
        let keyring = match &key {
            Some(json) => Keyring::from_json(json)
                .map_err(|error| FileError::MalformedKey(key_path.clone(), error.into()))?,
            None if data.is_some() => return Err(FileError::NoKey(file.path, key_path)),
            None => {
                let keyring = Keyring::random(Timestamp::now())?;
                replace(&key_path, keyring.to_json()?.expose())?;
                keyring
            }
        };
        let data = data.unwrap_or_else(Data::initial);
        file.write(&data)?;
        Ok((file, keyring, data))
    }

    /// Replaces the file as a whole: a reader or a crash sees the earlier content, or the new one.
    pub fn write(&self, data: &Data) -> Result<(), FileError> {
        replace(&self.path, &serde_json::to_vec(data)?)
    }
}

fn lock(path: &Path) -> Result<File, FileError> {
    let lock_path = with_suffix(path, ".lock");
    let opened = File::options().create(true).truncate(false).write(true).open(&lock_path);
    let lock = opened.map_err(|error| FileError::Write(lock_path.clone(), error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(FileError::InUse(path.to_owned())),
        Err(TryLockError::Error(error)) => Err(FileError::Write(lock_path, error)),
    }
}

fn read(path: &Path) -> Result<Option<Vec<u8>>, FileError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FileError::Read(path.to_owned(), error)),
    }
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let new = with_suffix(path, ".sandbox-new");
    let write = || {
        // Of a process that was killed.
        if let Err(error) = fs::remove_file(&new)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let mut file: File = platform::create_private_file(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|error| FileError::Write(path.to_owned(), error))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("sandbox-{}-{name}", std::process::id()));
        let _leftover = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn what_was_written_is_read_again_with_the_same_key() {
        let folder = folder("read");
        let path = folder.join("state.json");
        let (file, keyring, mut data) = StateFile::open(&path).unwrap();
        data.clock_offset = 5;
        file.write(&data).unwrap();
        assert!(matches!(StateFile::open(&path), Err(FileError::InUse(_))), "one sandbox at a time");
        drop(file);
        let (_, read_keyring, read_data) = StateFile::open(&path).unwrap();
        assert_eq!(read_data, data);
        assert_eq!(read_keyring.primary(), keyring.primary());
        let mut names: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        assert_eq!(names, ["state.json", "state.json.key", "state.json.lock"]);
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_damaged_file_and_a_missing_key_are_errors_and_nothing_is_overwritten() {
        let folder = folder("damaged");
        let path = folder.join("state.json");
        StateFile::open(&path).unwrap();
        fs::write(&path, "{").unwrap();
        assert!(matches!(StateFile::open(&path), Err(FileError::Malformed(..))));
        assert_eq!(fs::read(&path).unwrap(), b"{");
        let key = folder.join("state.json.key");
        fs::remove_file(&key).unwrap();
        assert!(matches!(StateFile::open(&path), Err(FileError::Malformed(..))), "it is of another program");
        fs::write(&path, serde_json::to_vec(&Data::initial()).unwrap()).unwrap();
        assert!(matches!(StateFile::open(&path), Err(FileError::NoKey(..))));
        fs::write(&path, "").unwrap();
        StateFile::open(&path).unwrap();
        fs::remove_dir_all(folder).unwrap();
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_and_its_file_is_written_and_locked() {
        let folder = folder("link");
        let (real, link) = (folder.join("real.json"), folder.join("link.json"));
        drop(StateFile::open(&real).unwrap());
        std::os::unix::fs::symlink(&real, &link).unwrap();
        let (file, _, mut data) = StateFile::open(&link).unwrap();
        data.clock_offset = 5;
        file.write(&data).unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert!(matches!(StateFile::open(&real), Err(FileError::InUse(_))));
        drop(file);
        assert_eq!(StateFile::open(&real).unwrap().2, data);
        fs::remove_dir_all(folder).unwrap();
    }
}
