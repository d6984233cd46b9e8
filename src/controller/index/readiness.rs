//! How long it takes until a credential is ready.

use std::time::Duration;

use jiff::Timestamp;

use crate::resources::conditions::{Condition, ConditionStatus};

/// Notes how a reconcile ended in `since`, which says since when the object has not been ready. Says how long a credential
/// was not ready that has become ready: from when it was last ready, or from its creation. After a restart, what is known of
/// one is the last change of its condition.
pub(super) fn note(
    since: &mut Option<Timestamp>,
    created: Timestamp,
    before: Option<&Condition>,
    is_ready: bool,
    now: Timestamp,
) -> Option<Duration> {
    let was_ready = before.is_some_and(|ready| ready.status == ConditionStatus::True);
    let earlier = match before {
        Some(_) if was_ready => now,
        Some(ready) => ready.last_transition_time.0,
        None => created,
    };
    if !is_ready {
        since.get_or_insert(earlier);
        return None;
    }
    let began = since.take().or_else(|| (!was_ready).then_some(earlier))?;
    Some(Duration::try_from(now.duration_since(began)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    use super::*;
    use crate::resources::conditions::{ConditionType, Reason};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn ready(status: ConditionStatus, since: i64) -> Condition {
        Condition {
            type_: ConditionType::Ready.as_str().into(),
            status,
            reason: Reason::Ready.as_str().into(),
            message: String::new(),
            observed_generation: Some(1),
            last_transition_time: Time(at(since)),
            unknown: crate::resources::UnknownFields::default(),
        }
    }

    #[test]
    fn a_new_credential_counts_from_its_creation() {
        let mut since = None;
        assert_eq!(note(&mut since, at(10), None, false, at(12)), None);
        let unknown = ready(ConditionStatus::Unknown, 12);
        assert_eq!(note(&mut since, at(10), Some(&unknown), false, at(20)), None);
        let refused = ready(ConditionStatus::False, 20);
        assert_eq!(note(&mut since, at(10), Some(&refused), true, at(40)), Some(Duration::from_secs(30)));
        let done = ready(ConditionStatus::True, 40);
        assert_eq!(note(&mut since, at(10), Some(&done), true, at(50)), None, "it is told once");
    }

    #[test]
    fn one_that_ceased_to_be_ready_counts_from_then_on() {
        let mut since = None;
        let done = ready(ConditionStatus::True, 40);
        assert_eq!(note(&mut since, at(10), Some(&done), false, at(100)), None);
        let refused = ready(ConditionStatus::False, 100);
        assert_eq!(note(&mut since, at(10), Some(&refused), true, at(107)), Some(Duration::from_secs(7)));
    }

    #[test]
    fn after_a_restart_the_last_change_of_the_condition_counts() {
        let refused = ready(ConditionStatus::False, 100);
        assert_eq!(note(&mut None, at(10), Some(&refused), true, at(130)), Some(Duration::from_secs(30)));
    }
}
