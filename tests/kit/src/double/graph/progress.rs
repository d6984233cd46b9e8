//! The progress of requests at the double of Graph.

use super::record::Op;
use crate::double::app_key::AppKey;
use crate::double::progress::Point;

/// A request has reached a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The tenant of the token, in lower case.
    pub tenant: String,
    /// The client ID of the app, in lower case.
    pub client: String,
    /// The operation.
    pub op: Op,
    /// The point that it has reached.
    pub point: Point,
}

impl Progress {
    pub(super) fn new(AppKey { tenant, client }: AppKey, op: Op, point: Point) -> Self {
        Self { tenant, client, op, point }
    }
}
