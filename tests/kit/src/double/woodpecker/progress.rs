//! The progress of requests at the double of Woodpecker, broadcast as it happens, for tests that act at a
//! certain moment.

use super::route::Op;
use crate::double::progress::Point;

/// A request has reached a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The account of the request.
    pub account: String,
    /// The operation.
    pub op: Op,
    /// The point that it has reached.
    pub point: Point,
}
