//! The progress of requests at a double, broadcast as it happens, for tests that act at a certain moment.

/// How many steps of requests a follower may lag behind before it misses some.
pub(crate) const CAPACITY: usize = 4096;

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
