use super::*;

const HOUR: Duration = Duration::from_hours(1);

/// A queue with a clock of its own, in which `d…` is deleted and `v…` has to be verified.
struct Test {
    policy: Policy<fn(&Named) -> Priority>,
    now: Instant,
}

fn named(text: &str) -> Named {
    let (namespace, name) = text.split_once('/').unwrap();
    Named { namespace: namespace.into(), name: name.into() }
}

fn priority(object: &Named) -> Priority {
    match object.name.chars().next() {
        Some('d') => Priority::Deletion,
        Some('v') => Priority::Verification,
        _ => Priority::Ordinary,
    }
}

impl Test {
    fn new(most: usize) -> Self {
        Self { policy: Policy::new(most, priority), now: Instant::now() }
    }

    fn wake_after(&mut self, object: &str, after: Duration) -> bool {
        let wish = Wish { at: self.now + after, verifies: false };
        self.policy.wake(named(object), wish, self.now)
    }

    fn wake(&mut self, objects: &[&str]) {
        for object in objects {
            self.wake_after(object, Duration::ZERO);
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
        self.policy.begin_due(self.now);
    }

    fn next_of(&mut self, may_verify: bool) -> Option<String> {
        self.policy.next(may_verify, self.now).map(|next| next.object.to_string())
    }

    fn next(&mut self) -> Option<String> {
        self.next_of(true)
    }

    /// The next so many, which go on running.
    fn begin(&mut self, count: usize) -> String {
        (0..count).filter_map(|_| self.next()).collect::<Vec<_>>().join(" ")
    }

    /// The order of all that waits, one after the other.
    fn order(&mut self) -> String {
        let mut order = Vec::new();
        while let Some(object) = self.next() {
            self.end(&object, Ended::Gone);
            order.push(object);
        }
        order.join(" ")
    }

    fn end(&mut self, object: &str, ended: Ended) {
        self.policy.ended(&Arc::new(named(object)), ended, self.now);
    }
}

fn again(after: Duration) -> Ended {
    Ended::Again { after, is_retry: false }
}

#[test]
fn namespaces_take_turns() {
    let mut test = Test::new(1);
    test.wake(&["a/1", "a/2", "a/3", "a/4", "b/1", "c/1", "c/2"]);
    assert_eq!(test.order(), "a/1 b/1 c/1 a/2 c/2 a/3 a/4");
}

#[test]
fn the_next_place_is_for_the_namespace_with_the_fewest_reconciles() {
    let mut test = Test::new(3);
    test.wake(&["a/1", "a/2", "a/3", "a/4"]);
    assert_eq!(test.begin(5), "a/1 a/2 a/3");
    test.wake(&["b/1", "b/2"]);
    test.end("a/2", again(HOUR));
    assert_eq!(test.begin(5), "b/1");
    test.end("a/1", again(HOUR));
    assert_eq!(test.begin(5), "a/4", "each has one under way, and it was b's turn a moment ago");
}

#[test]
fn whoever_comes_anew_again_and_again_takes_turns_as_well() {
    let mut test = Test::new(1);
    test.wake(&["a/1", "a/2", "a/3"]);
    let mut order = Vec::new();
    for n in 0..4 {
        test.wake(&[&format!("b/{n}")]);
        let next = test.next().unwrap();
        test.end(&next, Ended::Gone);
        order.push(next);
    }
    assert_eq!(order, ["a/1", "b/0", "a/2", "b/1"]);
}

#[test]
fn deletions_come_first_within_the_share_of_their_namespace() {
    let mut test = Test::new(1);
    test.wake(&["a/1", "a/2", "a/d", "b/1", "b/2"]);
    assert_eq!(test.order(), "a/d b/1 a/1 b/2 a/2");
}

#[test]
fn a_waiting_object_that_is_deleted_moves_up() {
    let mut test = Test::new(1);
    test.wake(&["a/1", "a/2", "a/3"]);
    let wish = Wish { at: test.now, verifies: false };
    let is_three_deleted =
        |object: &Named| if object.name == "3" { Priority::Deletion } else { Priority::Ordinary };
    test.policy.priority = is_three_deleted;
    assert!(!test.policy.wake(named("a/3"), wish, test.now));
    assert_eq!(test.policy.waiting, 3);
    assert_eq!(test.order(), "a/3 a/1 a/2");
}

#[test]
fn a_terminating_namespace_comes_before_the_others() {
    let mut test = Test::new(1);
    test.wake(&["a/1", "b/1", "b/2", "c/1"]);
    test.policy.note_namespace("b", true);
    assert_eq!(test.begin(1), "b/1");
    test.end("b/1", again(HOUR));
    test.policy.note_namespace("b", false);
    assert_eq!(test.order(), "a/1 c/1 b/2");
}

#[test]
fn without_a_permit_to_verify_everything_else_goes_on() {
    let mut test = Test::new(9);
    test.wake(&["a/v1", "a/1", "b/v1", "b/d", "c/v1"]);
    let mut begun = vec![test.next_of(false), test.next_of(false), test.next_of(false)];
    begun.sort();
    assert_eq!(begun, [None, Some("a/1".into()), Some("b/d".into())]);
    assert_eq!(test.policy.waiting, 3);
    assert_eq!(test.begin(5), "c/v1 a/v1 b/v1", "the others have something under way");
}

#[test]
fn what_a_reconcile_found_out_to_verify_waits_for_a_permit() {
    let mut test = Test::new(9);
    test.wake(&["a/1"]);
    assert_eq!(test.begin(1), "a/1");
    let wish = Wish { at: test.now, verifies: true };
    test.policy.wake(named("a/1"), wish, test.now);
    test.end("a/1", again(HOUR));
    assert_eq!(test.next_of(false), None);
    assert_eq!(test.next(), Some("a/1".into()));
}

#[test]
fn what_only_its_time_has_brought_up_lets_what_has_changed_go_first() {
    for kind in ["", "v"] {
        let of = |n: u32| format!("a/{kind}{n}");
        let mut test = Test::new(1);
        for n in 1..=2 {
            test.wake_after(&of(n), HOUR);
        }
        test.pass(HOUR);
        test.pass(YIELDS_FOR / 2);
        test.wake(&[&of(3), "b/1"]);
        assert_eq!(test.order(), format!("{} b/1 {} {}", of(3), of(1), of(2)));
    }
}

#[test]
fn what_has_changed_lets_nobody_go_first_even_where_its_time_has_come_as_well() {
    let mut test = Test::new(1);
    for n in 1..=4 {
        test.wake_after(&format!("a/{n}"), HOUR);
    }
    test.pass(HOUR);
    test.wake(&["a/5"]);
    test.pass(Duration::from_secs(1));
    test.wake(&["a/3"]);
    test.pass(Duration::from_secs(1));
    test.wake(&["a/6"]);
    assert_eq!(test.order(), "a/5 a/3 a/6 a/1 a/2 a/4");
    test.wake_after("a/1", HOUR);
    test.now += HOUR;
    test.wake(&["a/1", "a/2"]);
    assert_eq!(test.order(), "a/1 a/2", "it changed in the moment in which it was due");
}

#[test]
fn a_deleted_object_goes_before_later_deletions_although_its_time_had_brought_it_up() {
    let mut test = Test::new(1);
    test.wake_after("a/1", HOUR);
    test.pass(HOUR);
    test.policy.priority = |_| Priority::Deletion;
    test.wake(&["a/1"]);
    test.pass(Duration::from_secs(1));
    test.wake(&["a/2"]);
    assert_eq!(test.order(), "a/1 a/2");
}

#[test]
fn it_does_so_for_seconds_only() {
    let mut test = Test::new(1);
    test.wake_after("a/1", HOUR);
    test.pass(HOUR);
    test.wake(&["a/2"]);
    test.pass(YIELDS_FOR + Duration::from_secs(1));
    test.wake(&["a/3"]);
    assert_eq!(test.order(), "a/2 a/1 a/3");
}

#[test]
fn an_object_waits_once() {
    let mut test = Test::new(1);
    assert!(test.wake_after("a/1", Duration::ZERO));
    assert!(!test.wake_after("a/1", Duration::ZERO));
    assert!(!test.wake_after("a/1", HOUR), "it waits already");
    assert_eq!((test.order(), test.policy.next_due()), ("a/1".into(), None));
}

#[test]
fn the_earliest_wanted_time_wins() {
    let mut test = Test::new(1);
    for hours in [3, 1, 2] {
        test.wake_after("a/1", HOUR * hours);
    }
    assert_eq!(test.policy.next_due(), Some(test.now + HOUR));
    assert_eq!(test.next(), None);
    test.pass(HOUR);
    assert_eq!((test.next(), test.policy.next_due()), (Some("a/1".into()), None));
    test.end("a/1", again(HOUR * 5));
    assert!(test.wake_after("a/1", Duration::ZERO), "it need not wait for its time");
    assert_eq!((test.order(), test.policy.next_due()), ("a/1".into(), None));
}

#[test]
fn what_is_woken_while_it_runs_runs_once_more() {
    let mut test = Test::new(2);
    test.wake(&["a/1"]);
    assert_eq!(test.begin(1), "a/1");
    test.wake(&["a/1", "a/1"]);
    assert_eq!(test.next(), None, "never two at a time");
    test.end("a/1", again(HOUR));
    assert_eq!(test.begin(2), "a/1");
    test.wake_after("a/1", HOUR);
    test.end("a/1", again(HOUR * 2));
    assert_eq!(test.policy.next_due(), Some(test.now + HOUR));
    test.pass(HOUR);
    assert_eq!(test.begin(2), "a/1");
    test.wake(&["a/1"]);
    test.end("a/1", Ended::Gone);
    assert_eq!(test.begin(2), "a/1", "it may have been re-created");
}

#[test]
fn what_is_gone_leaves_nothing_behind() {
    let mut test = Test::new(2);
    test.wake(&["a/1", "b/d"]);
    test.wake_after("a/2", HOUR);
    test.order();
    assert!(test.policy.shares.values().all(|share| share.waiting.is_empty()));
    test.pass(HOUR);
    test.order();
    let Policy { running, waiting, entries, timers, shares, ready, verifying, .. } = &test.policy;
    assert_eq!((*running, *waiting, entries.len(), timers.len()), (0, 0, 0, 0));
    assert!(shares.is_empty() && ready.is_empty() && verifying.is_empty());
}

#[test]
fn ten_thousand_objects_of_one_namespace_cost_another_one_place() {
    let mut test = Test::new(16);
    for n in 0..10_000 {
        test.wake(&[&format!("a/{n}")]);
    }
    test.begin(16);
    test.wake(&["b/1"]);
    test.end("a/3", again(HOUR));
    assert_eq!(test.next(), Some("b/1".into()));
}
