//! The outcomes of a request, as the client sees them and as they are. Times are Woodpecker's: divided by the
//! time scale like the operator's own.

use std::time::Duration;

use kit::woodpecker::{Fault, Op, RetryAfter};
use serde_json::json;

/// The operations, in the order of reports.
pub const OPS: [Op; 5] = [Op::List, Op::Create, Op::Rename, Op::Update, Op::Delete];

/// A request may take effect this long after its response was lost: before the settle period of a create (two
/// minutes) ends, and after it.
const SOON: Duration = Duration::from_secs(45);
pub const LATE: Duration = Duration::from_secs(180);

/// Longer than the operator waits for a response (45 s).
const TOO_LONG: Duration = Duration::from_mins(1);

/// The outcome of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Outcome {
    RefusedBefore,
    TimedOutBefore,
    ResetBefore,
    Failed500Before,
    Html502,
    Throttled,
    ThrottledForASecond,
    Unauthorized,
    TimedOutAfter,
    ResetAfter,
    TruncatedAfter,
    Failed500After,
    WrongShape,
    EmptyBody,
    Slow,
    /// Lost at first; takes effect before the settle period of a create ends.
    LateBeforeSettle,
    /// Lost at first; takes effect after the settle period of a create.
    LateAfterSettle,
    /// Listings only: an empty list.
    ListsNothing,
    /// Listings only: without names.
    ListsNoNames,
}

use Outcome::*;

// === impl Outcome ===

impl Outcome {
    const OF_ALL: [Self; 15] = [
        RefusedBefore,
        TimedOutBefore,
        ResetBefore,
        Failed500Before,
        Html502,
        Throttled,
        ThrottledForASecond,
        Unauthorized,
        TimedOutAfter,
        ResetAfter,
        TruncatedAfter,
        Failed500After,
        WrongShape,
        EmptyBody,
        Slow,
    ];

    /// The possible outcomes of a request of this operation.
    pub fn of(op: Op) -> Vec<Self> {
        let more: &[Self] = match op {
            Op::List => &[ListsNothing, ListsNoNames],
            _ => &[LateBeforeSettle, LateAfterSettle],
        };
        [&Self::OF_ALL, more].concat()
    }

    /// Whether it takes effect when others may have been sent after it.
    pub fn is_late(self) -> bool {
        matches!(self, LateBeforeSettle | LateAfterSettle)
    }

    pub fn fault(self, op: Op) -> Fault {
        match self {
            RefusedBefore => Fault::RefusedBefore(422, json!({"message": "NOT_TODAY"})),
            TimedOutBefore => Fault::Hang(TOO_LONG),
            ResetBefore => Fault::ConnectionReset,
            Failed500Before => Fault::Http500Before,
            Html502 => Fault::Html502,
            Throttled => Fault::Throttled { retry_after: None },
            ThrottledForASecond => Fault::Throttled { retry_after: Some(RetryAfter::Seconds(1)) },
            Unauthorized => Fault::Unauthorized,
            TimedOutAfter => Fault::ProcessedThenHang(TOO_LONG),
            ResetAfter => Fault::ProcessedThenReset,
            TruncatedAfter => Fault::ProcessedThenTruncated,
            Failed500After => Fault::ProcessedThen500,
            WrongShape if op == Op::List => Fault::ListingWithoutArray,
            WrongShape => Fault::WrongShape(json!({"credential_id": "odd"})),
            EmptyBody => Fault::EmptyBody,
            Slow => Fault::Slow(Duration::from_secs(20)),
            LateBeforeSettle => Fault::ProcessedLate(SOON),
            LateAfterSettle => Fault::ProcessedLate(LATE),
            ListsNothing => Fault::ListingEmpty,
            ListsNoNames => Fault::ListingWithoutNames,
        }
    }
}
