//! The progress of requests at the double of Woodpecker, broadcast as it happens, for tests that act at a
//! certain moment.

use super::route::Op;

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

/// The points that a request passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Point {
    /// It was accepted, and nothing has been done yet.
    Arrived,
    /// The double's rules were applied. Unless they rejected it, it has taken effect.
    Performed,
    /// The response, if there is one, is handed over to be sent.
    Answered,
}
