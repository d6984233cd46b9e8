//! The key of a claim.

use crate::api::{ClientId, TenantId};
use crate::woodpecker::RemoteIdentity;

/// An app at a remote account.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimKey {
    pub account: RemoteIdentity,
    pub tenant: TenantId,
    pub client: ClientId,
}
