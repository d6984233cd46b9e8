//! An app at Microsoft, as it is asked about.

use crate::resources::{ClientId, Cloud, TenantId};

/// The app whose secret is to be proved.
#[derive(Clone, Copy, Debug)]
pub struct App<'a> {
    /// Cloud that the tenant lives in.
    pub cloud: Cloud,
    pub tenant: &'a TenantId,
    pub client: &'a ClientId,
}
