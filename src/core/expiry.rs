//! The expiry of a secret: its condition and its notices.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::api::conditions::{ConditionType, Desired, Reason};
use crate::api::timestamp::rfc3339;
use crate::core::event::EventBody;

/// Days before the expiry at which an event is emitted, once each; 0 is the expiry itself.
const NOTICES: [i32; 5] = [0, 1, 7, 14, 30];

/// In seconds.
const DAY: i64 = 86_400;

/// The action of every notice.
pub const ACTION: &str = "CheckExpiry";

/// The smallest notice that is due, in days.
pub fn notice_days(expires_at: Timestamp, now: Timestamp) -> Option<i32> {
    NOTICES.into_iter().find(|days| now >= notice_at(expires_at, *days))
}

/// Every time at which the notice or the condition changes.
pub fn boundaries(expires_at: Timestamp, warning: Duration) -> impl Iterator<Item = Timestamp> {
    let notices = NOTICES.into_iter().map(move |days| notice_at(expires_at, days));
    notices.chain([warning_at(expires_at, warning)])
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
    } else if now >= warning_at(expires_at, warning) {
        Desired::met(TYPE, Reason::ExpiresSoon, format!("the secret expires at {date}: {remedy}"))
    } else {
        Desired::unmet(TYPE, Reason::NotExpiring, format!("the secret expires at {date}"))
    }
}

/// When the condition `Expiring` becomes True.
pub fn warning_at(expires_at: Timestamp, warning: Duration) -> Timestamp {
    beginning_of_last_day(expires_at) - warning
}

fn notice_at(expires_at: Timestamp, days: i32) -> Timestamp {
    if days == 0 { expires_at } else { beginning_of_last_day(expires_at) - in_days(days) }
}

/// A plain date expires with the last second of its day, and Entra may stop at any time of that day. So notices count to
/// its beginning.
fn beginning_of_last_day(expires_at: Timestamp) -> Timestamp {
    let is_end_of_day = expires_at.as_second().rem_euclid(DAY) == DAY - 1;
    if is_end_of_day { expires_at - SignedDuration::from_secs(DAY - 1) } else { expires_at }
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

    #[test]
    fn notices_of_a_plain_date_count_to_the_beginning_of_its_day() {
        let end_of_day = at("2027-11-28T23:59:59Z");
        assert_eq!(notice_days(end_of_day, at("2027-11-27T00:00:00Z")), Some(1));
        assert_eq!(notice_days(end_of_day, at("2027-11-28T23:59:58Z")), Some(1), "it has not expired yet");
        assert_eq!(notice_days(end_of_day, end_of_day), Some(0));
        let (noon, week) = (at("2027-11-28T12:00:00Z"), in_days(7));
        assert_eq!(warning_at(end_of_day, week), at("2027-11-21T00:00:00Z"));
        assert_eq!(warning_at(noon, week), at("2027-11-21T12:00:00Z"));
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }
}
