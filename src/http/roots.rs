//! The CA certificates to trust for Microsoft and Woodpecker: those of the system, and those of a file that is read again
//! when it changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use thiserror::Error;

use crate::core::error_chain::chain;

/// Why the CA certificates cannot be used. `number` counts the certificates of the file from 1.
#[derive(Debug, Error)]
pub enum RootsError {
    #[error("failed to read --ca-bundle {path}: specify a file that the operator may read")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("--ca-bundle {path} contains no certificate in PEM (-----BEGIN CERTIFICATE-----)")]
    Empty { path: PathBuf },
    #[error("failed to read certificate {number} of --ca-bundle {path} as PEM: check whether it is cut off")]
    Pem { path: PathBuf, number: usize, source: PemError },
    #[error(
        "failed to use certificate {number} of --ca-bundle {path}: replace it by a CA certificate, or remove it"
    )]
    Certificate { path: PathBuf, number: usize, source: rustls::Error },
    #[error("failed to find CA certificates on this system: install them (ca-certificates)")]
    Missing,
}

pub(super) struct TrustedRoots {
    system: RootCertStore,
    file: Option<PathBuf>,
    /// What was last read from the file.
    pem: Vec<u8>,
    roots: Arc<RootCertStore>,
}

// === impl TrustedRoots ===

impl TrustedRoots {
    pub(super) fn new(file: Option<&Path>) -> Result<Self, RootsError> {
        let mut system = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        for error in &found.errors {
            tracing::warn!(error = chain(error), "failed to load a CA certificate of the system");
        }
        system.add_parsable_certificates(found.certs);
        let mut roots = system.clone();
        let pem = file.map(read).transpose()?;
        if let (Some(path), Some(pem)) = (file, &pem) {
            add(&mut roots, path, pem)?;
        }
        if roots.is_empty() {
            return Err(RootsError::Missing);
        }
        let (file, pem) = (file.map(Path::to_owned), pem.unwrap_or_default());
        Ok(Self { system, file, pem, roots: Arc::new(roots) })
    }

    pub(super) fn roots(&self) -> Arc<RootCertStore> {
        self.roots.clone()
    }

    /// The current ones. While a changed file cannot be used, the last ones stay in use.
    pub(super) fn refresh(&mut self) -> Arc<RootCertStore> {
        let Some(path) = self.file.clone() else { return self.roots() };
        // It may be missing for a moment while it is replaced.
        let Ok(pem) = read(&path) else { return self.roots() };
        if pem != self.pem {
            let mut roots = self.system.clone();
            match add(&mut roots, &path, &pem) {
                Ok(()) => {
                    tracing::info!(file = %path.display(), "using the changed CA certificates");
                    self.roots = Arc::new(roots);
                }
                Err(error) => tracing::warn!(
                    error = chain(&error),
                    "failed to reload the CA certificates; the last ones stay in use"
                ),
            }
            self.pem = pem;
        }
        self.roots()
    }
}

fn read(path: &Path) -> Result<Vec<u8>, RootsError> {
    std::fs::read(path).map_err(|source| RootsError::Read { path: path.to_owned(), source })
}

/// Adds the certificates of a file.
fn add(roots: &mut RootCertStore, path: &Path, pem: &[u8]) -> Result<(), RootsError> {
    let mut number = 0;
    for certificate in CertificateDer::pem_slice_iter(pem) {
        number += 1;
        let certificate =
            certificate.map_err(|source| RootsError::Pem { path: path.to_owned(), number, source })?;
        roots.add(certificate).map_err(|source| RootsError::Certificate {
            path: path.to_owned(),
            number,
            source,
        })?;
    }
    if number == 0 { Err(RootsError::Empty { path: path.to_owned() }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> PathBuf {
        std::env::temp_dir().join(format!("ca-{:016x}.pem", getrandom::u64().unwrap()))
    }

    fn certificate() -> String {
        kit::tls::Authority::new().unwrap().pem()
    }

    fn block(text: &str) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n")
    }

    #[test]
    fn an_unusable_certificate_is_named_by_file_and_number() {
        let (file, good) = (file(), certificate());
        for (pem, expected) in [
            ("no certificate".to_owned(), "contains no certificate"),
            (format!("{good}{}", block("????")), "certificate 2 of"),
            (format!("{good}{good}-----BEGIN CERTIFICATE-----\nZ2FyYmFnZQ==\n"), "certificate 3 of"),
            (format!("{good}{}{good}", block("Z2FyYmFnZQ==")), "certificate 2 of"),
        ] {
            std::fs::write(&file, pem).unwrap();
            let error = TrustedRoots::new(Some(&file)).err().unwrap().to_string();
            let path = file.display().to_string();
            assert!(error.contains(expected) && error.contains(&path), "{error}");
        }
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn a_changed_file_is_used_and_an_unusable_one_changes_nothing() {
        let file = file();
        std::fs::write(&file, certificate()).unwrap();
        let mut trust = TrustedRoots::new(Some(&file)).unwrap();
        let first = trust.refresh();
        assert!(Arc::ptr_eq(&first, &trust.refresh()), "unchanged");
        std::fs::write(&file, certificate().repeat(2)).unwrap();
        let second = trust.refresh();
        assert_eq!(second.len(), first.len() + 1);
        for broken in ["", "-----BEGIN CERTIFICATE-----"] {
            std::fs::write(&file, broken).unwrap();
            assert!(Arc::ptr_eq(&second, &trust.refresh()), "{broken:?}");
        }
        std::fs::remove_file(&file).unwrap();
        assert!(Arc::ptr_eq(&second, &trust.refresh()), "it is missing");
    }
}
