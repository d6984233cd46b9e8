//! The app registration whose client secret is verified.

use crate::api::{ClientId, Cloud, TenantId};

/// An app registration at Microsoft.
#[derive(Clone, Copy, Debug)]
pub struct AppCredential<'a> {
    /// Cloud that the tenant lives in.
    pub cloud: Cloud,
    pub tenant: &'a TenantId,
    pub client: &'a ClientId,
}
