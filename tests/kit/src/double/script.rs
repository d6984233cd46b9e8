//! The script of faults: those of the next requests, and those that last until cleared, by key (an app, an
//! operation, everything).

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

/// Faults by key. A narrower key precedes a wider one, and a counted fault a lasting one.
pub struct Script<K, F> {
    lines: HashMap<K, Line<F>>,
}

struct Line<F> {
    next: VecDeque<F>,
    always: Option<F>,
}

impl<K: Eq + Hash, F: Clone> Script<K, F> {
    pub(crate) fn new() -> Self {
        Self { lines: HashMap::new() }
    }

    /// Adds `n` times `fault` after the faults that wait under `key`.
    pub(crate) fn fail_next(&mut self, key: K, n: usize, fault: F) {
        let line = self.line(key);
        line.next.extend(std::iter::repeat_n(fault, n));
    }

    /// Every request from now on, once the counted faults are used up.
    pub(crate) fn fail_always(&mut self, key: K, fault: F) {
        self.line(key).always = Some(fault);
    }

    pub(crate) fn clear(&mut self, key: &K) {
        self.lines.remove(key);
    }

    pub(crate) fn clear_all(&mut self) {
        self.lines.clear();
    }

    /// The fault for one request; `keys` from the narrowest to the widest.
    pub(crate) fn take(&mut self, keys: &[K]) -> Option<F> {
        keys.iter().find_map(|key| {
            let line = self.lines.get_mut(key)?;
            line.next.pop_front().or_else(|| line.always.clone())
        })
    }

    fn line(&mut self, key: K) -> &mut Line<F> {
        self.lines.entry(key).or_insert_with(|| Line { next: VecDeque::new(), always: None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counted_faults_precede_the_lasting_one() {
        let mut script = Script::new();
        script.fail_always("all", 'z');
        script.fail_next("all", 2, 'a');
        script.fail_next("all", 1, 'b');

        let taken: String = (0..5).filter_map(|_| script.take(&["all"])).collect();
        assert_eq!(taken, "aabzz");

        script.clear(&"all");
        assert_eq!(script.take(&["all"]), None);
    }

    #[test]
    fn a_fault_of_an_app_precedes_one_of_all_apps() {
        let mut script = Script::new();
        script.fail_next("all", 1, 'w');
        script.fail_next("app", 1, 'n');

        assert_eq!(script.take(&["other", "all"]), Some('w'));
        script.fail_next("all", 1, 'w');
        assert_eq!(script.take(&["app", "all"]), Some('n'));
        assert_eq!(script.take(&["app", "all"]), Some('w'));
        script.fail_always("app", 'n');
        script.clear_all();
        assert_eq!(script.take(&["app", "all"]), None);
    }
}
