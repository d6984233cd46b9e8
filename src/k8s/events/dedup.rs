//! Deduplication of events.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::core::event::EventBody;

use crate::core::expiry;

/// An expiry notice is suppressed this many times longer than other events: for a day, if others are for ten minutes. A
/// status that cannot be written must not repeat it continuously.
const EXPIRY_FACTOR: u32 = 144;

/// Suppresses events that were emitted recently with the same object, reason and text. Request ids differ on each
/// attempt and are not compared.
#[derive(Debug)]
pub struct EventDedup {
    repeats_after: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Until when each event is suppressed, by its hash.
    suppressed: HashMap<u64, Instant>,
    /// When expired entries were last removed.
    swept: Instant,
}

// === impl EventDedup ===

impl EventDedup {
    pub fn new(repeats_after: Duration) -> Self {
        Self { repeats_after, state: Mutex::new(State { suppressed: HashMap::new(), swept: Instant::now() }) }
    }

    /// Whether the event was not emitted recently. If so, it is suppressed from now on.
    pub fn should_emit(&self, regarding: &ObjectReference, event: &EventBody) -> bool {
        let now = Instant::now();
        let mut state = self.state.lock();
        if now.saturating_duration_since(state.swept) >= self.repeats_after {
            state.suppressed.retain(|_, until| *until > now);
            state.swept = now;
        }
        let digest = digest(regarding, event);
        let should_emit = state.suppressed.get(&digest).is_none_or(|until| *until <= now);
        if should_emit {
            let lasts = if event.action == expiry::ACTION {
                self.repeats_after * EXPIRY_FACTOR
            } else {
                self.repeats_after
            };
            state.suppressed.insert(digest, now + lasts);
        }
        should_emit
    }

    /// Allows the event again, because it could not be published.
    pub fn forget(&self, regarding: &ObjectReference, event: &EventBody) {
        self.state.lock().suppressed.remove(&digest(regarding, event));
    }
}

fn digest(regarding: &ObjectReference, event: &EventBody) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&regarding.uid, &regarding.namespace, &regarding.name, event.reason, &event.text).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(text: &str, ids: &str) -> EventBody {
        EventBody {
            is_warning: true,
            reason: "VerificationRejected",
            action: "Verify",
            text: text.into(),
            request_ids: ids.into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_equal_event_is_suppressed_for_a_while() {
        let dedup = EventDedup::new(Duration::from_secs(600));
        let object = |uid: &str| ObjectReference { uid: Some(uid.into()), ..ObjectReference::default() };
        assert!(dedup.should_emit(&object("1"), &event("rejected", "trace 1")));
        assert!(
            !dedup.should_emit(&object("1"), &event("rejected", "trace 2")),
            "another attempt with the same result"
        );
        assert!(dedup.should_emit(&object("1"), &event("rejected for another reason", "trace 3")));
        assert!(dedup.should_emit(&object("2"), &event("rejected", "trace 4")), "another object");
        dedup.forget(&object("2"), &event("rejected", "trace 4"));
        assert!(dedup.should_emit(&object("2"), &event("rejected", "trace 4")), "forgotten");
        tokio::time::advance(Duration::from_secs(600)).await;
        assert!(dedup.should_emit(&object("1"), &event("rejected", "trace 5")));
        dedup.forget(&object("1"), &event("rejected", "trace 5"));
        assert!(dedup.should_emit(&object("1"), &event("rejected", "trace 6")), "forgotten");
        let notice = EventBody { action: expiry::ACTION, ..event("expires soon", "") };
        assert!(dedup.should_emit(&object("1"), &notice));
        tokio::time::advance(Duration::from_hours(23)).await;
        assert!(!dedup.should_emit(&object("1"), &notice), "once a day");
        tokio::time::advance(Duration::from_hours(1)).await;
        assert!(dedup.should_emit(&object("1"), &notice));
    }
}
