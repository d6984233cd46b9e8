//! The place of a credential among those that wait for the same account. The operator's queue is in its memory, so this
//! is what the statuses say.

use jiff::Timestamp;
use kube::Client;

use crate::api::MicrosoftGraphCredential;
use crate::api::reasons::{Kind, Reason};
use crate::cli::kubernetes;
use crate::cli::objects::ObjectState;

/// How many other credentials wait for the account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) others: usize,
    /// How many of these have waited longer.
    pub(super) longer: usize,
    /// Whether those of all namespaces are counted.
    pub(super) is_complete: bool,
}

/// Who else waits; `None` if the credential does not wait for a permit of its account.
pub(super) async fn waiting(client: &Client, state: &ObjectState, now: Timestamp) -> Option<Waiting> {
    let since = queued_since(state)?;
    let (objects, is_complete) =
        if let Ok(all) = kubernetes::list::<MicrosoftGraphCredential>(client, &[]).await {
            (all, true)
        } else {
            let own = [state.name.namespace.clone()];
            (kubernetes::list::<MicrosoftGraphCredential>(client, &own).await.ok()?, false)
        };
    let account = state.account();
    let others: Vec<Timestamp> = objects
        .into_iter()
        .map(|object| ObjectState::of(Kind::Credential, object, now))
        .filter(|other| other.name != state.name && other.account() == account)
        .filter_map(|other| queued_since(&other))
        .collect();
    let longer = others.iter().filter(|other| **other < since).count();
    Some(Waiting { others: others.len(), longer, is_complete })
}

/// Since when the credential waits for other requests to its account.
fn queued_since(state: &ObjectState) -> Option<Timestamp> {
    let queued = state.conditions.iter().filter(|condition| condition.is_because(Reason::Queued));
    queued.map(|condition| condition.last_transition_time.0).min()
}

// === impl Waiting ===

impl Waiting {
    /// In words.
    pub(super) fn shown(self) -> String {
        let Self { others, longer, is_complete } = self;
        let place = if is_complete { "" } else { ", counted in this namespace only" };
        match others {
            0 => format!("it is the only credential that waits for the account{place}"),
            1 => {
                let longer = if longer == 1 { ", and has waited longer" } else { "" };
                format!("1 other credential waits for the account{longer}{place}")
            }
            others => format!(
                "{others} other credentials wait for the account, {longer} of them longer{place}; the operator registers new credentials and repairs broken ones before other work"
            ),
        }
    }
}
