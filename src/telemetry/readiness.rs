//! What the program still waits for before it is ready: told by `/readyz`, and by a metric.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// What the program still waits for before it is ready, by name, each with a text for people.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<ReadinessState>>);

#[derive(Debug, Default)]
struct ReadinessState {
    pending: BTreeMap<String, String>,
    notes: BTreeMap<String, String>,
}

// === impl Readiness ===

impl Readiness {
    /// Says that `name` is waited for, and why. Returns whether that is news.
    pub fn wait_for(&self, name: &str, why: &str) -> bool {
        self.0.lock().pending.insert(name.to_owned(), why.to_owned()).is_none_or(|before| before != why)
    }

    /// Says that `name` is there.
    pub fn arrived(&self, name: &str) {
        self.0.lock().pending.remove(name);
    }

    /// Shows a line whether ready or not, in place of the last one of that name. Returns whether it is another one.
    pub fn note(&self, name: &str, note: &str) -> bool {
        self.0.lock().notes.insert(name.to_owned(), note.to_owned()).is_none_or(|before| before != note)
    }

    /// Shows the line of that name no more.
    pub fn forget_note(&self, name: &str) {
        self.0.lock().notes.remove(name);
    }

    /// Whether nothing is waited for, and the text that `/readyz` shows.
    pub fn report(&self) -> (bool, String) {
        let state = self.0.lock();
        let ready = state.pending.is_empty();
        let first = if ready { "ready\n" } else { "not ready\n" }.to_owned();
        let pending = state.pending.iter().map(|(name, why)| format!("waiting for {name}: {why}\n"));
        let notes = state.notes.values().map(|note| format!("note: {note}\n"));
        (ready, std::iter::once(first).chain(pending).chain(notes).collect())
    }

    /// What is waited for, by name.
    pub fn pending(&self) -> Vec<String> {
        self.0.lock().pending.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_names_what_is_pending() {
        let readiness = Readiness::default();
        let is_news = |text| readiness.wait_for("crds", text);
        assert_eq!(["wait", "wait", "apply crds/ to the cluster"].map(is_news), [true, false, true]);
        let is_news = |text| readiness.note("time", text);
        let twice = "time runs 60 times faster";
        assert_eq!(["time runs 30 times faster", twice, twice].map(is_news), [true, true, false]);
        let (ready, text) = readiness.report();
        assert!(!ready);
        assert_eq!(
            text,
            "not ready\nwaiting for crds: apply crds/ to the cluster\nnote: time runs 60 times faster\n"
        );
        readiness.arrived("crds");
        assert_eq!(readiness.report(), (true, "ready\nnote: time runs 60 times faster\n".into()));
        readiness.forget_note("time");
        assert_eq!(readiness.report(), (true, "ready\n".into()));
    }
}
