//! What was told lately.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use k8s_openapi::api::core::v1::ObjectReference;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::events::{Note, expiry};

/// So many times as long as others does a notice of an expiry count as told: a day, where others do for ten minutes. A status
/// that cannot be written must not repeat it all the time.
const NOTICES_LAST: u32 = 144;

/// What was told lately, by object, reason and text; ids differ on each try and do not count.
#[derive(Debug)]
pub struct Told {
    lasts: Duration,
    at: Mutex<At>,
}

#[derive(Debug)]
struct At {
    /// Until when a note counts as told.
    told: HashMap<u64, Instant>,
    /// When what is too old was last dropped.
    swept: Instant,
}

// === impl Told ===

impl Told {
    /// What was told counts as told for that long.
    pub fn new(lasts: Duration) -> Self {
        Self { lasts, at: Mutex::new(At { told: HashMap::new(), swept: Instant::now() }) }
    }

    /// Whether that was not told lately; it counts as told from now on.
    pub fn is_news(&self, regarding: &ObjectReference, note: &Note) -> bool {
        let now = Instant::now();
        let mut at = self.at.lock();
        if now.saturating_duration_since(at.swept) >= self.lasts {
            at.told.retain(|_, until| *until > now);
            at.swept = now;
        }
        let digest = digest(regarding, note);
        let is_news = at.told.get(&digest).is_none_or(|until| *until <= now);
        if is_news {
            let lasts = if note.action == expiry::ACTION { self.lasts * NOTICES_LAST } else { self.lasts };
            at.told.insert(digest, now + lasts);
        }
        is_news
    }

    /// It could not be told, and is news once more.
    pub fn forget(&self, regarding: &ObjectReference, note: &Note) {
        self.at.lock().told.remove(&digest(regarding, note));
    }
}

fn digest(regarding: &ObjectReference, note: &Note) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&regarding.uid, &regarding.namespace, &regarding.name, note.reason, &note.text).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(text: &str, ids: &str) -> Note {
        Note { is_warning: true, reason: "Rejected", action: "Verify", text: text.into(), ids: ids.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn the_same_is_not_told_again_until_a_while_has_passed() {
        let told = Told::new(Duration::from_secs(600));
        let object = |uid: &str| ObjectReference { uid: Some(uid.into()), ..ObjectReference::default() };
        assert!(told.is_news(&object("1"), &note("refused", "trace 1")));
        assert!(!told.is_news(&object("1"), &note("refused", "trace 2")), "another try, and nothing new");
        assert!(told.is_news(&object("1"), &note("refused for another reason", "trace 3")));
        assert!(told.is_news(&object("2"), &note("refused", "trace 4")), "another object");
        told.forget(&object("2"), &note("refused", "trace 4"));
        assert!(told.is_news(&object("2"), &note("refused", "trace 4")), "it was not told");
        tokio::time::advance(Duration::from_secs(600)).await;
        assert!(told.is_news(&object("1"), &note("refused", "trace 5")));
        told.forget(&object("1"), &note("refused", "trace 5"));
        assert!(told.is_news(&object("1"), &note("refused", "trace 6")), "it could not be told");
        let notice = Note { action: expiry::ACTION, ..note("expires soon", "") };
        assert!(told.is_news(&object("1"), &notice));
        tokio::time::advance(Duration::from_hours(23)).await;
        assert!(!told.is_news(&object("1"), &notice), "once a day");
        tokio::time::advance(Duration::from_hours(1)).await;
        assert!(told.is_news(&object("1"), &notice));
    }
}
