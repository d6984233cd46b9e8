use crate::controller::queue::policy::*;

const HOUR: Duration = Duration::from_hours(1);

/// A queue with its own clock, in which `d…` is deleted and `v…` has to be verified.
struct Test {
    policy: Policy<fn(&NamespacedName) -> Priority>,
    now: Instant,
}

fn named(text: &str) -> NamespacedName {
    let (namespace, name) = text.split_once('/').unwrap();
    NamespacedName { namespace: namespace.into(), name: name.into() }
}

fn priority(object: &NamespacedName) -> Priority {
    match object.name.chars().next() {
        Some('d') => Priority::Deletion,
        Some('v') => Priority::Verification,
        _ => Priority::Ordinary,
    }
}

impl Test {
    fn new(max_concurrent: usize) -> Self {
        Self { policy: Policy::new(max_concurrent, priority), now: Instant::now() }
    }

    fn request_after(&mut self, object: &str, after: Duration) -> bool {
        let queued = QueuedRequest { at: self.now + after, verifies: false };
        self.policy.add(named(object), queued, self.now)
    }

    fn request(&mut self, objects: &[&str]) {
        for object in objects {
            self.request_after(object, Duration::ZERO);
        }
    }

    fn advance(&mut self, time: Duration) {
        self.now += time;
        self.policy.promote_due(self.now);
    }

    fn next_of(&mut self, may_verify: bool) -> Option<String> {
        self.policy.next(may_verify, self.now).map(|next| next.object.to_string())
    }

    fn next(&mut self) -> Option<String> {
        self.next_of(true)
    }

    /// Takes the next `count` objects, which keep running.
    fn begin(&mut self, count: usize) -> String {
        (0..count).filter_map(|_| self.next()).collect::<Vec<_>>().join(" ")
    }

    /// The order of all waiting objects, one at a time.
    fn order(&mut self) -> String {
        let mut order = Vec::new();
        while let Some(object) = self.next() {
            self.end(&object, QueueResult::Forget);
            order.push(object);
        }
        order.join(" ")
    }

    fn end(&mut self, object: &str, ended: QueueResult) {
        self.policy.finish(&Arc::new(named(object)), ended, self.now);
    }
}

fn again(after: Duration) -> QueueResult {
    QueueResult::Requeue { after, is_retry: false }
}

#[test]
fn namespaces_take_turns() {
    let mut test = Test::new(1);
    test.request(&["a/1", "a/2", "a/3", "a/4", "b/1", "c/1", "c/2"]);
    assert_eq!(test.order(), "a/1 b/1 c/1 a/2 c/2 a/3 a/4");
}

#[test]
fn the_namespace_with_the_fewest_reconciles_is_next() {
    let mut test = Test::new(3);
    test.request(&["a/1", "a/2", "a/3", "a/4"]);
    assert_eq!(test.begin(5), "a/1 a/2 a/3");
    test.request(&["b/1", "b/2"]);
    test.end("a/2", again(HOUR));
    assert_eq!(test.begin(5), "b/1");
    test.end("a/1", again(HOUR));
    assert_eq!(test.begin(5), "a/4", "each has one under way, and it was b's turn a moment ago");
}

#[test]
fn a_namespace_with_a_steady_stream_of_new_objects_takes_turns_too() {
    let mut test = Test::new(1);
    test.request(&["a/1", "a/2", "a/3"]);
    let mut order = Vec::new();
    for n in 0..4 {
        test.request(&[&format!("b/{n}")]);
        let next = test.next().unwrap();
        test.end(&next, QueueResult::Forget);
        order.push(next);
    }
    assert_eq!(order, ["a/1", "b/0", "a/2", "b/1"]);
}

#[test]
fn deletions_come_first_within_their_namespace() {
    let mut test = Test::new(1);
    test.request(&["a/1", "a/2", "a/d", "b/1", "b/2"]);
    assert_eq!(test.order(), "a/d b/1 a/1 b/2 a/2");
}

#[test]
fn a_waiting_object_that_is_deleted_moves_up() {
    let mut test = Test::new(1);
    test.request(&["a/1", "a/2", "a/3"]);
    let queued = QueuedRequest { at: test.now, verifies: false };
    let is_three_deleted =
        |object: &NamespacedName| if object.name == "3" { Priority::Deletion } else { Priority::Ordinary };
    test.policy.priority = is_three_deleted;
    assert!(!test.policy.add(named("a/3"), queued, test.now));
    assert_eq!(test.policy.waiting, 3);
    assert_eq!(test.order(), "a/3 a/1 a/2");
}

#[test]
fn a_terminating_namespace_comes_before_the_others() {
    let mut test = Test::new(1);
    test.request(&["a/1", "b/1", "b/2", "c/1"]);
    test.policy.set_terminating("b", true);
    assert_eq!(test.begin(1), "b/1");
    test.end("b/1", again(HOUR));
    test.policy.set_terminating("b", false);
    assert_eq!(test.order(), "a/1 c/1 b/2");
}

#[test]
fn without_a_permit_to_verify_everything_else_continues() {
    let mut test = Test::new(9);
    test.request(&["a/v1", "a/1", "b/v1", "b/d", "c/v1"]);
    let mut begun = vec![test.next_of(false), test.next_of(false), test.next_of(false)];
    begun.sort();
    assert_eq!(begun, [None, Some("a/1".into()), Some("b/d".into())]);
    assert_eq!(test.policy.waiting, 3);
    assert_eq!(test.begin(5), "c/v1 a/v1 b/v1", "the others have something under way");
}

#[test]
fn a_reconcile_that_discovers_a_verification_waits_for_a_permit() {
    let mut test = Test::new(9);
    test.request(&["a/1"]);
    assert_eq!(test.begin(1), "a/1");
    let queued = QueuedRequest { at: test.now, verifies: true };
    test.policy.add(named("a/1"), queued, test.now);
    test.end("a/1", again(HOUR));
    assert_eq!(test.next_of(false), None);
    assert_eq!(test.next(), Some("a/1".into()));
}

#[test]
fn an_object_due_by_its_timer_yields_to_changes() {
    for kind in ["", "v"] {
        let of = |n: u32| format!("a/{kind}{n}");
        let mut test = Test::new(1);
        for n in 1..=2 {
            test.request_after(&of(n), HOUR);
        }
        test.advance(HOUR);
        test.advance(YIELD_TIME / 2);
        test.request(&[&of(3), "b/1"]);
        assert_eq!(test.order(), format!("{} b/1 {} {}", of(3), of(1), of(2)));
    }
}

#[test]
fn a_change_does_not_yield_even_if_the_timer_is_due_too() {
    let mut test = Test::new(1);
    for n in 1..=4 {
        test.request_after(&format!("a/{n}"), HOUR);
    }
    test.advance(HOUR);
    test.request(&["a/5"]);
    test.advance(Duration::from_secs(1));
    test.request(&["a/3"]);
    test.advance(Duration::from_secs(1));
    test.request(&["a/6"]);
    assert_eq!(test.order(), "a/5 a/3 a/6 a/1 a/2 a/4");
    test.request_after("a/1", HOUR);
    test.now += HOUR;
    test.request(&["a/1", "a/2"]);
    assert_eq!(test.order(), "a/1 a/2", "it changed in the moment in which it was due");
}

#[test]
fn a_deleted_object_precedes_later_deletions_although_its_timer_was_due() {
    let mut test = Test::new(1);
    test.request_after("a/1", HOUR);
    test.advance(HOUR);
    test.policy.priority = |_| Priority::Deletion;
    test.request(&["a/1"]);
    test.advance(Duration::from_secs(1));
    test.request(&["a/2"]);
    assert_eq!(test.order(), "a/1 a/2");
}

#[test]
fn a_timer_yields_for_a_few_seconds_only() {
    let mut test = Test::new(1);
    test.request_after("a/1", HOUR);
    test.advance(HOUR);
    test.request(&["a/2"]);
    test.advance(YIELD_TIME + Duration::from_secs(1));
    test.request(&["a/3"]);
    assert_eq!(test.order(), "a/2 a/1 a/3");
}

#[test]
fn an_object_waits_once() {
    let mut test = Test::new(1);
    assert!(test.request_after("a/1", Duration::ZERO));
    assert!(!test.request_after("a/1", Duration::ZERO));
    assert!(!test.request_after("a/1", HOUR), "it waits already");
    assert_eq!((test.order(), test.policy.next_due()), ("a/1".into(), None));
}

#[test]
fn the_earliest_requested_time_wins() {
    let mut test = Test::new(1);
    for hours in [3, 1, 2] {
        test.request_after("a/1", HOUR * hours);
    }
    assert_eq!(test.policy.next_due(), Some(test.now + HOUR));
    assert_eq!(test.next(), None);
    test.advance(HOUR);
    assert_eq!((test.next(), test.policy.next_due()), (Some("a/1".into()), None));
    test.end("a/1", again(HOUR * 5));
    assert!(test.request_after("a/1", Duration::ZERO), "it no longer waits for its timer");
    assert_eq!((test.order(), test.policy.next_due()), ("a/1".into(), None));
}

#[test]
fn an_object_requested_during_its_reconcile_is_reconciled_again() {
    let mut test = Test::new(2);
    test.request(&["a/1"]);
    assert_eq!(test.begin(1), "a/1");
    test.request(&["a/1", "a/1"]);
    assert_eq!(test.next(), None, "never two at a time");
    test.end("a/1", again(HOUR));
    assert_eq!(test.begin(2), "a/1");
    test.request_after("a/1", HOUR);
    test.end("a/1", again(HOUR * 2));
    assert_eq!(test.policy.next_due(), Some(test.now + HOUR));
    test.advance(HOUR);
    assert_eq!(test.begin(2), "a/1");
    test.request(&["a/1"]);
    test.end("a/1", QueueResult::Forget);
    assert_eq!(test.begin(2), "a/1", "it may have been re-created");
}

#[test]
fn deleted_objects_leave_nothing_behind() {
    let mut test = Test::new(2);
    test.request(&["a/1", "b/d"]);
    test.request_after("a/2", HOUR);
    test.order();
    assert!(test.policy.namespaces.values().all(|queue| queue.waiting.is_empty()));
    test.advance(HOUR);
    test.order();
    let Policy { running, waiting, entries, timers, namespaces, ready, verifying, .. } = &test.policy;
    assert_eq!((*running, *waiting, entries.len(), timers.len()), (0, 0, 0, 0));
    assert!(namespaces.is_empty() && ready.is_empty() && verifying.is_empty());
}

#[test]
fn ten_thousand_objects_of_one_namespace_delay_another_by_one_reconcile() {
    let mut test = Test::new(16);
    for n in 0..10_000 {
        test.request(&[&format!("a/{n}")]);
    }
    test.begin(16);
    test.request(&["b/1"]);
    test.end("a/3", again(HOUR));
    assert_eq!(test.next(), Some("b/1".into()));
}
