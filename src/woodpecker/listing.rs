//! The last listing of a remote account, with our own later writes applied. One for all who reach the same
//! account, or an old copy could tell one of them that nothing is there.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::identity::RemoteIdentity;
use super::wire::Credential;
use crate::resources::{ClientId, MAX_NAME_LENGTH, TenantId};

/// A credential in a listing, as far as decisions need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: i64,
    /// Tenant of its app, lower case.
    pub tenant: String,
    /// Client id of its app, lower case.
    pub client: String,
    /// Its name; empty where the listing shows none.
    pub name: String,
    /// When its secret expires, where the listing says so in a form that can be read.
    pub expires_at: Option<Timestamp>,
}

/// The listings of all remote accounts.
#[derive(Debug, Default)]
pub struct Listings {
    of: Mutex<HashMap<RemoteIdentity, Weak<Mutex<Option<Taken>>>>>,
}

/// The last listing of one remote account; clones are the same listing.
#[derive(Clone, Debug)]
pub(super) struct Listing(Arc<Mutex<Option<Taken>>>);

#[derive(Debug)]
struct Taken {
    at: Instant,
    /// The same by the wall clock, for people.
    timestamp: Timestamp,
    entries: Vec<Entry>,
}

/// Letters and digits of a create's token: none that look alike.
pub const TOKEN_ALPHABET: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Letters and digits in a token.
pub const TOKEN_LENGTH: usize = 12;

/// The mark of a create as it stands in the name that it gives.
pub fn mark(token: &str) -> String {
    format!("[{token}]")
}

/// The name that a create gives: the plain one, cut off where both together would be longer than a name may be, and the mark.
pub fn marked(plain: &str, token: &str) -> String {
    let mark = mark(token);
    let room = MAX_NAME_LENGTH.saturating_sub(mark.chars().count() + 1);
    format!("{} {mark}", plain.chars().take(room).collect::<String>())
}

/// The name that a create was to give and the token of its mark, where the name ends with one.
pub fn unmarked(name: &str) -> Option<(&str, &str)> {
    let (plain, token) = name.strip_suffix(']')?.rsplit_once(" [")?;
    let is_token =
        token.len() == TOKEN_LENGTH && token.bytes().all(|letter| TOKEN_ALPHABET.contains(&letter));
    is_token.then_some((plain, token))
}

// === impl Listings ===

impl Listings {
    /// The listing of that remote account, an empty-handed one where there is none.
    pub(super) fn of(&self, identity: &RemoteIdentity) -> Listing {
        let mut known = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, listing| listing.strong_count() > 0);
        if let Some(listing) = known.get(identity).and_then(Weak::upgrade) {
            return Listing(listing);
        }
        let listing = Arc::default();
        known.insert(identity.clone(), Arc::downgrade(&listing));
        Listing(listing)
    }
}

// === impl Listing ===

impl Listing {
    /// The entries, where they are at most so old.
    pub(super) fn entries(&self, max_age: Duration) -> Option<Vec<Entry>> {
        self.lock().as_ref().filter(|taken| taken.at.elapsed() <= max_age).map(|taken| taken.entries.clone())
    }

    /// When it was taken.
    pub(super) fn taken_at(&self) -> Option<Timestamp> {
        self.lock().as_ref().map(|taken| taken.timestamp)
    }

    pub(super) fn put(&self, at: Instant, entries: Vec<Entry>) {
        let now = Timestamp::now();
        let timestamp = now.checked_sub(at.elapsed()).unwrap_or(now);
        *self.lock() = Some(Taken { at, timestamp, entries });
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Vec<Entry>)) {
        if let Some(taken) = self.lock().as_mut() {
            change(&mut taken.entries);
        }
    }

    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Taken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl Entry ===

impl Entry {
    /// Whether it is for that app.
    pub fn is_for(&self, tenant: &TenantId, client: &ClientId) -> bool {
        self.tenant == tenant.as_str() && self.client == client.as_str()
    }

    /// Whether its name carries the mark of a create.
    pub fn carries(&self, token: &str) -> bool {
        let is_marked = |at: usize| {
            let (before, after) = (self.name.get(..at), self.name.get(at + token.len()..));
            before.is_some_and(|it| it.ends_with('[')) && after.is_some_and(|it| it.starts_with(']'))
        };
        self.name.match_indices(token).any(|(at, _)| is_marked(at))
    }

    /// The tokens of which its name carries the marks, and whatever else stands in brackets.
    pub fn marks(&self) -> impl Iterator<Item = &str> {
        let opened = self.name.match_indices('[').filter_map(|(at, _)| self.name.get(at + 1..));
        opened.filter_map(|rest| Some(rest.split_once(']')?.0))
    }
}

impl From<Credential> for Entry {
    fn from(credential: Credential) -> Self {
        Self {
            id: credential.credential_id,
            tenant: credential.tenant_id.trim().to_ascii_lowercase(),
            client: credential.client_id.trim().to_ascii_lowercase(),
            name: credential.name.unwrap_or_default(),
            expires_at: credential.secret_expires_at.and_then(|text| text.trim().parse().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_found_where_a_create_puts_it_and_nowhere_else() {
        let name = marked("MS Graph app", "abcdefghjk29");
        assert_eq!(unmarked(&name), Some(("MS Graph app", "abcdefghjk29")));
        assert_eq!(unmarked("a [b] [abcdefghjk29]"), Some(("a [b]", "abcdefghjk29")));
        for name in [
            "",
            "[abcdefghjk29]",
            "x[abcdefghjk29]",
            "x [abcdefghjk29] y",
            "x [abcdefghjk2]",
            "x [abcdefghjk290]",
            "x [abcdefghjk0l]",
            "x [ABCDEFGHJK29]",
            "x [abcdefghjk\u{e4}]",
        ] {
            assert_eq!(unmarked(name), None, "{name}");
        }
    }

    #[test]
    fn a_long_name_is_cut_off_and_keeps_the_mark_whole() {
        for plain in ["x".repeat(238), "x".repeat(239), "x".repeat(400), "\u{e4}".repeat(400)] {
            let name = marked(&plain, "abcdefghjk29");
            assert_eq!(name.chars().count(), MAX_NAME_LENGTH, "{name}");
            let (shown, token) = unmarked(&name).unwrap();
            assert!(plain.starts_with(shown) && token == "abcdefghjk29", "{name}");
        }
        assert_eq!(
            marked(&"x".repeat(237), "abcdefghjk29").len(),
            252,
            "what is short enough is not cut off"
        );
    }
}
