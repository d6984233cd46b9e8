//! A request in the record of the double of Graph.

use jiff::Timestamp;

/// A received request. The token is not kept.
#[derive(Clone, Debug)]
pub struct GraphRequest {
    /// When it arrived.
    pub at: Timestamp,
    /// What it reads.
    pub op: Op,
    /// The tenant of the token; empty if it is not accepted.
    pub tenant: String,
    /// The client ID of the identity that the token is for; empty if it is not accepted.
    pub identity: String,
    /// The client ID that is read, as sent.
    pub client: String,
    /// The properties in `$select`, as sent.
    pub select: String,
    /// The HTTP status of the response; `None` until it is sent, and if there is none.
    pub status: Option<u16>,
    /// All headers in order, names in lower case; the value of `authorization` is replaced.
    pub headers: Vec<(String, String)>,
}

/// What a request does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// `GET /v1.0/applications(appId='…')`
    Application,
    /// `GET /v1.0/applications?$filter=appId eq '…'`
    ListApplications,
    /// `GET /v1.0/servicePrincipals(appId='…')`
    ServicePrincipal,
}
