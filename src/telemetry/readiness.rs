//! Readiness: the components that the program still waits for, shown by `/readyz` and by a metric.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The components that the program still waits for, by name, and notes; each with a text for people.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<ReadinessState>>);

#[derive(Debug, Default)]
struct ReadinessState {
    pending: BTreeMap<String, String>,
    notes: BTreeMap<String, String>,
}

// === impl Readiness ===

impl Readiness {
    /// Sets `name` as pending, with the reason. Returns whether that changed anything.
    pub fn pending(&self, name: &str, why: &str) -> bool {
        self.0.lock().pending.insert(name.to_owned(), why.to_owned()).is_none_or(|before| before != why)
    }

    /// Removes the pending component `name`.
    pub fn done(&self, name: &str) {
        self.0.lock().pending.remove(name);
    }

    /// Sets a note that is shown whether ready or not. Returns whether that changed anything.
    pub fn set_note(&self, name: &str, note: &str) -> bool {
        self.0.lock().notes.insert(name.to_owned(), note.to_owned()).is_none_or(|before| before != note)
    }

    /// Removes the note.
    pub fn clear_note(&self, name: &str) {
        self.0.lock().notes.remove(name);
    }

    /// Whether nothing is pending, and the text for `/readyz`.
    pub fn report(&self) -> (bool, String) {
        let state = self.0.lock();
        let ready = state.pending.is_empty();
        let first = if ready { "ready\n" } else { "not ready\n" }.to_owned();
        let pending = state.pending.iter().map(|(name, why)| format!("waiting for {name}: {why}\n"));
        let notes = state.notes.values().map(|note| format!("note: {note}\n"));
        (ready, std::iter::once(first).chain(pending).chain(notes).collect())
    }

    /// The names of all pending components.
    pub fn pending_components(&self) -> Vec<String> {
        self.0.lock().pending.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_names_what_is_pending() {
        let readiness = Readiness::default();
        let is_change = |text| readiness.pending("crds", text);
        assert_eq!(["wait", "wait", "apply crds/ to the cluster"].map(is_change), [true, false, true]);
        let is_change = |text| readiness.set_note("time", text);
        let twice = "time runs 60 times faster";
        assert_eq!(["time runs 30 times faster", twice, twice].map(is_change), [true, true, false]);
        let (ready, text) = readiness.report();
        assert!(!ready);
        assert_eq!(
            text,
            "not ready\nwaiting for crds: apply crds/ to the cluster\nnote: time runs 60 times faster\n"
        );
        readiness.done("crds");
        assert_eq!(readiness.report(), (true, "ready\nnote: time runs 60 times faster\n".into()));
        readiness.clear_note("time");
        assert_eq!(readiness.report(), (true, "ready\n".into()));
    }
}
