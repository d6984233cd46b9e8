//! The served namespaces: one watch over all, or one for each named namespace.

/// A set of namespaces behind one watch.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    All,
    Namespace(String),
}

// === impl Scope ===

impl Scope {
    /// One scope for each named namespace, or one over all if none is named.
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

    /// The namespace, if it is a single one.
    pub fn namespace(&self) -> Option<&str> {
        match self {
            Self::All => None,
            Self::Namespace(name) => Some(name),
        }
    }
}
