//! The namespaces that are served: all of them through one watch, or each named one through its own.

use kube::core::DeserializeGuard;

use crate::resources::{MicrosoftGraphCredential, WoodpeckerAccount};

/// A credential, or the news that an object of its kind cannot be read as one. A broken object must not
/// blind the watch to the others.
pub type GuardedCredential = DeserializeGuard<MicrosoftGraphCredential>;

/// An account, or the news that an object of its kind cannot be read as one.
pub type GuardedAccount = DeserializeGuard<WoodpeckerAccount>;

/// A set of namespaces behind one watch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    All,
    Namespace(String),
}

// === impl Scope ===

impl Scope {
    /// All namespaces where none is named, or each named one.
    pub fn of(namespaces: &[String]) -> Vec<Self> {
        if namespaces.is_empty() {
            return vec![Self::All];
        }
        let mut names = namespaces.to_vec();
        names.sort_unstable();
        names.dedup();
        names.into_iter().map(Self::Namespace).collect()
    }

    /// Whether an object of that namespace belongs to it.
    pub fn covers(&self, namespace: &str) -> bool {
        match self {
            Self::All => true,
            Self::Namespace(name) => name == namespace,
        }
    }

    /// The namespace, where it is one alone.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::Namespace(name) => Some(name),
        }
    }
}
