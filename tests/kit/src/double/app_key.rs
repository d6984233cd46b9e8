//! The key of an app in the state of a double.

/// Tenant and client in lower case, because Entra ignores case.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AppKey {
    pub(crate) tenant: String,
    pub(crate) client: String,
}

impl AppKey {
    pub(crate) fn new(tenant: &str, client: &str) -> Self {
        Self { tenant: tenant.to_ascii_lowercase(), client: client.to_ascii_lowercase() }
    }
}
