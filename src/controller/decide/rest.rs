//! The ends of a pass that several roads share, in words.

use std::time::Duration;

use super::{Decision, Rest, Retry, Standing};
use crate::controller::observed::{Problem, Rules, Target};
use crate::resources::AccountName;
use crate::resources::conditions::Reason;

pub(super) fn rest(standing: Standing, retry: Retry) -> Decision {
    Decision::Rest(Rest { standing, retry })
}

/// Blocked until a person changes this object.
pub(super) fn blocked(reason: Reason, message: String) -> Decision {
    rest(Standing::Blocked(Problem { reason, message }), Retry::Stalled(Duration::MAX))
}

/// Blocked by what the account holds, which somebody may change there without our hearing of it. It costs
/// nothing to look at the account's own listings again.
pub(super) fn in_the_way(reason: Reason, message: String, rules: &Rules) -> Decision {
    rest(Standing::Blocked(Problem { reason, message }), Retry::Look(rules.timing.listing_interval))
}

/// Blocked by another object, whose change calls this one.
pub(super) fn waiting_for(reason: Reason, message: String) -> Decision {
    rest(Standing::Blocked(Problem { reason, message }), Retry::WhenCalled)
}

pub(super) fn account_not_ready(account: &AccountName) -> Decision {
    let message = format!("WoodpeckerAccount {account} is not Ready: see its conditions");
    waiting_for(Reason::AccountNotReady, message)
}

/// The kind of a destination is immutable, so only a status from elsewhere can say so.
pub(super) fn not_movable() -> Decision {
    let message = "the status names a registration at the other kind of destination, and nothing moves between Woodpecker and the store: make a new object";
    blocked(Reason::DestinationNotSupported, message.into())
}

/// The account that a registration or a create under way is at cannot be asked. `way_out` says what else a
/// person can do.
pub(super) fn out_of_reach(target: &Target, way_out: &str) -> Decision {
    match target {
        Target::Missing(account) => {
            let message = format!(
                "WoodpeckerAccount {account}, where the credential is registered, does not exist any more: bring it back{way_out}"
            );
            waiting_for(Reason::AccountNotFound, message)
        }
        Target::NotAllowed(account) => {
            let message = format!(
                "WoodpeckerAccount {account}, where the credential is registered, does not allow this namespace any more: name it in the account's spec.allowedNamespaces.names{way_out}"
            );
            waiting_for(Reason::AccountNotAllowed, message)
        }
        Target::Ready(ready) => {
            let message = format!(
                "WoodpeckerAccount {} is not the one any more where the credential is registered, for its base URL or company differs: bring the earlier one back{way_out}",
                ready.place.account
            );
            waiting_for(Reason::AccountNotFound, message)
        }
        Target::NotReady(account) | Target::NotSeenYet(account) | Target::Unjudged(account) => {
            account_not_ready(account)
        }
        Target::Store => not_movable(),
    }
}

/// A Secret that is not there yet may be on its way (it comes from another file or tool); the others hold
/// something that a person must mend.
pub(super) fn source_retry(reason: Reason) -> Retry {
    match reason {
        Reason::SecretNotFound | Reason::AccessDenied => Retry::WhenCalled,
        _ => Retry::Stalled(Duration::MAX),
    }
}
