//! The expiry of a secret: its condition and its notices.

use std::time::Duration;

use jiff::Timestamp;

use crate::api::conditions::{ConditionType, Desired, Reason};
use crate::api::timestamp::rfc3339;
use crate::core::event::EventBody;

/// Days before the expiry at which an event is emitted, once each; 0 is the expiry itself.
const NOTICES: [i32; 5] = [0, 1, 7, 14, 30];

/// The action of every notice.
pub const ACTION: &str = "CheckExpiry";

/// The smallest notice that is due, in days.
pub fn notice_days(expires_at: Timestamp, now: Timestamp) -> Option<i32> {
    NOTICES.into_iter().find(|days| now >= expires_at - in_days(*days))
}

/// Every time at which the notice or the condition changes.
pub fn boundaries(expires_at: Timestamp, warning: Duration) -> impl Iterator<Item = Timestamp> {
    NOTICES.into_iter().map(move |days| expires_at - in_days(days)).chain([expires_at - warning])
}

/// The event of a notice.
pub fn notice_event(days: i32, expires_at: Timestamp, remedy: &str) -> EventBody {
    let date = rfc3339(expires_at);
    let (reason, what) = match days {
        0 => ("Expired", format!("expired at {date}")),
        1 => ("ExpiresSoon", format!("expires within a day, at {date}")),
        days => ("ExpiresSoon", format!("expires within {days} days, at {date}")),
    };
    let text = format!("the client secret {what}: {remedy}");
    EventBody { is_warning: true, reason, action: ACTION, text, request_ids: String::new() }
}

/// The condition `Expiring`.
pub fn expiring_condition(expires_at: Timestamp, warning: Duration, remedy: &str, now: Timestamp) -> Desired {
    const TYPE: ConditionType = ConditionType::Expiring;
    let date = rfc3339(expires_at);
    if now >= expires_at {
        Desired::met(TYPE, Reason::Expired, format!("the secret expired at {date}: {remedy}"))
    } else if now >= expires_at - warning {
        Desired::met(TYPE, Reason::ExpiresSoon, format!("the secret expires at {date}: {remedy}"))
    } else {
        Desired::unmet(TYPE, Reason::NotExpiring, format!("the secret expires at {date}"))
    }
}

fn in_days(days: i32) -> Duration {
    Duration::from_hours(24 * u64::from(days.unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_due_notice_is_chosen() {
        let expires_at: Timestamp = "2027-11-28T23:59:59Z".parse().unwrap();
        for (days_left, due) in [
            (31, None),
            (30, Some(30)),
            (15, Some(30)),
            (14, Some(14)),
            (7, Some(7)),
            (2, Some(7)),
            (1, Some(1)),
            (0, Some(0)),
        ] {
            assert_eq!(
                notice_days(expires_at, expires_at - in_days(days_left)),
                due,
                "{days_left} days left"
            );
        }
        assert_eq!(notice_days(expires_at, expires_at + in_days(5)), Some(0));
    }
}
