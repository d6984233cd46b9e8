//! The mailboxes that a listing of Woodpecker shows, merged by address.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// The vendor's text for a mailbox that works in part. Source: the vendor's page on listing mailboxes.
const CONDITIONAL: &str = "Connected conditionally.";

/// The state of a mailbox, the worst last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum MailboxState {
    Healthy,
    /// Sending is paused for a time that a person has set.
    Frozen,
    /// It has no slot, so Woodpecker neither sends nor receives with it.
    Inactive,
    /// Woodpecker says that it is connected conditionally.
    Degraded,
    /// Woodpecker shows an error, or asks to connect it again.
    Failing,
}

/// What an object of the listing says about its mailbox.
#[derive(Clone, Copy, Debug, Default)]
pub struct Signals<'a> {
    pub error: Option<&'a str>,
    pub reconnect_required: bool,
    pub in_slot: Option<bool>,
    pub is_frozen: bool,
}

/// A mailbox: all objects of one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mailbox {
    /// The lowest ID of its objects.
    pub id: i64,
    /// The worst state of its objects.
    pub state: MailboxState,
}

/// The mailboxes of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mailboxes {
    by_address: BTreeMap<Box<str>, Mailbox>,
}

/// The number of mailboxes in each state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StateCounts {
    pub healthy: i32,
    pub degraded: i32,
    pub failing: i32,
    pub inactive: i32,
    pub frozen: i32,
}

/// An address in the form in which addresses are compared.
pub fn normalized(address: &str) -> String {
    address.trim().to_lowercase()
}

/// Longest address, in bytes. Longer texts are none.
const MAX_ADDRESS: usize = 320;

// === impl Signals ===

impl Signals<'_> {
    pub fn state(self) -> MailboxState {
        let error = self.error.map(str::trim).filter(|error| !error.is_empty());
        let is_conditional = error.is_some_and(|error| error.eq_ignore_ascii_case(CONDITIONAL));
        match self {
            _ if self.reconnect_required || error.is_some() && !is_conditional => MailboxState::Failing,
            _ if is_conditional => MailboxState::Degraded,
            _ if self.in_slot == Some(false) => MailboxState::Inactive,
            _ if self.is_frozen => MailboxState::Frozen,
            _ => MailboxState::Healthy,
        }
    }
}

// === impl Mailboxes ===

impl Mailboxes {
    /// Adds an object. One without an address counts as a mailbox of its own.
    pub fn add(&mut self, id: i64, address: Option<&str>, state: MailboxState) {
        // No address begins with '#'.
        let is_address = |address: &&str| address.contains('@') && address.len() <= MAX_ADDRESS;
        let key = address.filter(is_address).map(normalized);
        match self.by_address.entry(key.unwrap_or_else(|| format!("#{id}")).into()) {
            Entry::Vacant(new) => {
                new.insert(Mailbox { id, state });
            }
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                *known = Mailbox { id: known.id.min(id), state: known.state.max(state) };
            }
        }
    }

    /// The mailbox of that address.
    pub fn get(&self, address: &str) -> Option<Mailbox> {
        self.by_address.get(normalized(address).as_str()).copied()
    }

    pub fn counts(&self) -> StateCounts {
        let mut counts = StateCounts::default();
        for mailbox in self.by_address.values() {
            let count = match mailbox.state {
                MailboxState::Healthy => &mut counts.healthy,
                MailboxState::Degraded => &mut counts.degraded,
                MailboxState::Failing => &mut counts.failing,
                MailboxState::Inactive => &mut counts.inactive,
                MailboxState::Frozen => &mut counts.frozen,
            };
            *count = count.saturating_add(1);
        }
        counts
    }

    /// The IDs of the mailboxes that fail, in ascending order.
    pub fn failing(&self) -> Vec<i64> {
        let failing = self.by_address.values().filter(|mailbox| mailbox.state == MailboxState::Failing);
        let mut ids: Vec<i64> = failing.map(|mailbox| mailbox.id).collect();
        ids.sort_unstable();
        ids
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_comes_before_a_missing_slot_and_that_before_a_pause() {
        let failing = Signals { error: Some("Authentication failed"), ..Signals::default() };
        let conditional = Signals { error: Some(" connected conditionally. "), ..Signals::default() };
        for (signals, state) in [
            (Signals::default(), MailboxState::Healthy),
            (Signals { error: Some(" "), ..Signals::default() }, MailboxState::Healthy),
            (failing, MailboxState::Failing),
            (Signals { reconnect_required: true, ..conditional }, MailboxState::Failing),
            (Signals { in_slot: Some(false), ..failing }, MailboxState::Failing),
            (Signals { in_slot: Some(false), ..conditional }, MailboxState::Degraded),
            (Signals { in_slot: Some(false), is_frozen: true, ..Signals::default() }, MailboxState::Inactive),
            (Signals { in_slot: Some(true), is_frozen: true, ..Signals::default() }, MailboxState::Frozen),
        ] {
            assert_eq!(signals.state(), state, "{signals:?}");
        }
    }

    #[test]
    fn objects_of_one_address_are_one_mailbox_in_its_worst_state() {
        let mut mailboxes = Mailboxes::default();
        mailboxes.add(9, Some("Jim@example.com"), MailboxState::Healthy);
        mailboxes.add(7, Some(" jim@EXAMPLE.com "), MailboxState::Failing);
        mailboxes.add(8, Some("jim@example.com"), MailboxState::Frozen);
        mailboxes.add(1, Some("pam@example.com"), MailboxState::Inactive);
        mailboxes.add(2, None, MailboxState::Degraded);
        mailboxes.add(3, Some("no address"), MailboxState::Healthy);
        let counts = StateCounts { healthy: 1, degraded: 1, failing: 1, inactive: 1, frozen: 0 };
        assert_eq!((mailboxes.counts(), mailboxes.failing()), (counts, vec![7]));
    }
}
