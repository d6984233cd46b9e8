//! When this process first saw each request whose outcome it does not know. Only its own clock counts: the
//! request may have left another process a moment before that one ended.

use std::time::Duration;

use tokio::time::Instant;

/// What a request was for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// To make a credential.
    Create,
    /// To change one.
    Change,
}

/// The first sights of an object's requests of unknown outcome.
#[derive(Debug, Default)]
pub struct InFlight {
    create: Option<Sighting>,
    change: Option<Sighting>,
}

#[derive(Debug)]
struct Sighting {
    mark: String,
    /// Nothing for one that has settled.
    at: Option<Instant>,
}

// === impl InFlight ===

impl InFlight {
    /// How long until the request counts as settled, `settle` after its first sight; zero where none is under way.
    /// `mark` tells one request from another; the first call for one is its first sight.
    pub(super) fn settles_in(&mut self, kind: Kind, mark: Option<&str>, settle: Duration) -> Duration {
        let first = self.of(kind);
        let Some(mark) = mark else {
            *first = None;
            return Duration::ZERO;
        };
        let seen = match first.take().filter(|seen| seen.mark == mark) {
            Some(seen) => seen,
            None => Sighting { mark: mark.to_owned(), at: Some(Instant::now()) },
        };
        let at = first.insert(seen).at;
        at.map_or(Duration::ZERO, |at| settle.saturating_sub(at.elapsed()))
    }

    /// A request of that mark is being sent, or has ended just now.
    pub(super) fn begin(&mut self, kind: Kind, mark: &str) {
        *self.of(kind) = Some(Sighting { mark: mark.to_owned(), at: Some(Instant::now()) });
    }

    /// A request of that mark was not processed; what was sent before it with the same mark had settled.
    pub(super) fn end(&mut self, kind: Kind, mark: &str) {
        *self.of(kind) = Some(Sighting { mark: mark.to_owned(), at: None });
    }

    fn of(&mut self, kind: Kind) -> &mut Option<Sighting> {
        match kind {
            Kind::Create => &mut self.create,
            Kind::Change => &mut self.change,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_request_settles_from_its_first_sight() {
        let settle = Duration::from_secs(120);
        let mut in_flight = InFlight::default();
        assert_eq!(in_flight.settles_in(Kind::Create, None, settle), Duration::ZERO);
        assert_eq!(in_flight.settles_in(Kind::Create, Some("a"), settle), settle);
        tokio::time::advance(Duration::from_secs(100)).await;
        assert_eq!(in_flight.settles_in(Kind::Create, Some("a"), settle), Duration::from_secs(20));
        assert_eq!(in_flight.settles_in(Kind::Change, Some("a"), settle), settle, "that is another");
        assert_eq!(in_flight.settles_in(Kind::Create, Some("b"), settle), settle, "another create");
        tokio::time::advance(settle).await;
        assert_eq!(in_flight.settles_in(Kind::Create, Some("b"), settle), Duration::ZERO);
        in_flight.begin(Kind::Create, "b");
        assert_eq!(in_flight.settles_in(Kind::Create, Some("b"), settle), settle, "it was sent once more");
    }
}
