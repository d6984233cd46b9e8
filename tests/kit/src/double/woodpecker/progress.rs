//! How far a request to the double of Woodpecker has come, told as it happens: for tests that strike at a certain moment.

use super::route::Op;

/// A request has come to a point.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Whose request it is.
    pub account: String,
    /// Which operation it is.
    pub op: Op,
    /// How far it has come.
    pub point: Point,
}

/// How far a request has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Point {
    /// It was let in, and nothing has been done yet.
    Arrived,
    /// The double's own rules were asked: unless they refused, it has taken effect.
    Performed,
    /// The answer, if there is to be one, is handed over to be sent.
    Answered,
}
