//! Whether every registered secret works at the double of Entra, at every moment.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;

use super::handler::Handler;
use super::state::{Credential, State};
use crate::double::entra::handler::Handler as Entra;
use crate::double::lock;

/// How often it is checked beside each write. The time scale does not change it.
const INTERVAL: Duration = Duration::from_millis(10);

/// A time during which a registered secret did not work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPeriod {
    /// The account of the credential.
    pub account: String,
    /// The credential.
    pub credential_id: i64,
    /// Its tenant, as sent.
    pub tenant_id: String,
    /// Its app, as sent.
    pub client_id: String,
    /// When it was first seen not to work.
    pub since: Timestamp,
    /// When it was last seen not to work.
    pub until: Timestamp,
}

/// The periods so far.
#[derive(Default)]
pub(crate) struct ValidityLog {
    periods: Vec<InvalidPeriod>,
    /// The period that lasts, by credential ID.
    open: HashMap<i64, usize>,
}

// === impl ValidityLog ===

impl ValidityLog {
    pub(crate) fn periods(&self) -> Vec<InvalidPeriod> {
        self.periods.clone()
    }

    /// Checks every credential now.
    pub(crate) fn check(&mut self, state: &State, entra: &Entra) {
        let now = Timestamp::now();
        let mut open = HashMap::new();
        for (account, credential) in state.all() {
            let Credential { tenant_id, client_id, secret, .. } = credential;
            if entra.accepts(tenant_id, client_id, secret) {
                continue;
            }
            let id = credential.credential_id;
            let period = self.open.get(&id).copied().unwrap_or_else(|| {
                self.periods.push(InvalidPeriod {
                    account: account.to_owned(),
                    credential_id: id,
                    tenant_id: tenant_id.clone(),
                    client_id: client_id.clone(),
                    since: now,
                    until: now,
                });
                self.periods.len() - 1
            });
            self.periods[period].until = now;
            open.insert(id, period);
        }
        self.open = open;
    }
}

// === impl Handler ===

impl Handler {
    fn check_validity(&self, entra: &Entra) {
        let state = lock(&self.state);
        lock(&self.validity).check(&state, entra);
    }
}

/// Checks from now on, until the double stops.
pub(crate) fn watch(handler: &Arc<Handler>, entra: Arc<Entra>) {
    let watched: Weak<Handler> = Arc::downgrade(handler);
    tokio::spawn(async move {
        while let Some(handler) = watched.upgrade() {
            handler.check_validity(&entra);
            drop(handler);
            tokio::time::sleep(INTERVAL).await;
        }
    });
}
