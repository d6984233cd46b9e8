//! The last listing of a remote account, with our own later writes applied. One for all who reach the same
//! account, or an old copy could tell one of them that nothing is there.
//!
//! A listing is shared and never copied: who looks for something asks by id, by app or by the token in a name.

use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::identity::RemoteIdentity;
use super::wire::Credential;
use crate::resources::{ClientId, MAX_NAME_LENGTH, TenantId};

/// A credential in a listing, as far as decisions need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
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

/// What a remote account holds. Clones are the same listing: what we write later shows in all of them.
#[derive(Clone, Debug)]
pub struct Listing(Arc<Mutex<Entries>>);

/// The listings of all remote accounts, and which of them show an id. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Listings(Arc<Mutex<Index>>);

/// The place of one remote account's last listing; clones are the same place.
#[derive(Clone, Debug)]
pub(super) struct LastListing(Arc<Place>);

#[derive(Debug, Default)]
struct Entries {
    by_id: BTreeMap<i64, Box<Entry>>,
    /// By the hash of an app, or of what stands in brackets in a name. A hash may be that of something else.
    by_key: BTreeSet<(u64, i64)>,
    hashes: RandomState,
}

#[derive(Debug, Default)]
struct Index {
    numbers: HashMap<RemoteIdentity, u32>,
    places: HashMap<u32, Weak<Place>>,
    /// Each id with the numbers of the accounts whose last listing shows it.
    shown: BTreeSet<(i64, u32)>,
    last_number: u32,
}

#[derive(Debug)]
struct Place {
    identity: RemoteIdentity,
    number: u32,
    index: Listings,
    taken: Mutex<Option<Taken>>,
}

#[derive(Debug)]
struct Taken {
    at: Instant,
    /// The same by the wall clock, for people.
    timestamp: Timestamp,
    listing: Listing,
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

// === impl Listing ===

impl Listing {
    pub fn get(&self, id: i64) -> Option<Entry> {
        self.0.lock().by_id.get(&id).map(|entry| (**entry).clone())
    }

    /// Whether it holds an entry of that id.
    pub fn contains(&self, id: i64) -> bool {
        self.0.lock().by_id.contains_key(&id)
    }

    /// The entries for that app, by id.
    pub fn for_app(&self, tenant: &TenantId, client: &ClientId) -> Vec<Entry> {
        let entries = self.0.lock();
        entries.under(entries.app(tenant.as_str(), client.as_str()), |entry| entry.is_for(tenant, client))
    }

    /// The entries whose name carries that token, by id.
    pub fn with_token(&self, token: &str) -> Vec<Entry> {
        let entries = self.0.lock();
        entries.under(entries.hashes.hash_one(token), |entry| entry.carries(token))
    }

    /// The entries for that app, and those that carry one of these tokens, by id.
    pub fn about<'a>(
        &self,
        tenant: &TenantId,
        client: &ClientId,
        tokens: impl IntoIterator<Item = &'a str>,
    ) -> Vec<Entry> {
        let mut entries = self.for_app(tenant, client);
        entries.extend(tokens.into_iter().flat_map(|token| self.with_token(token)));
        entries.sort_by_key(|entry| entry.id);
        entries.dedup_by_key(|entry| entry.id);
        entries
    }

    pub fn is_empty(&self) -> bool {
        self.0.lock().by_id.is_empty()
    }

    /// Shows each entry, by id. Meanwhile nobody else can look at the listing, so `show` must take no lock.
    pub fn for_each(&self, show: impl FnMut(&Entry)) {
        self.0.lock().by_id.values().map(Box::as_ref).for_each(show);
    }

    fn ids(&self) -> Vec<i64> {
        self.0.lock().by_id.keys().copied().collect()
    }
}

impl FromIterator<Entry> for Listing {
    fn from_iter<I: IntoIterator<Item = Entry>>(all: I) -> Self {
        let mut entries = Entries::default();
        all.into_iter().for_each(|entry| entries.put(entry));
        Self(Arc::new(Mutex::new(entries)))
    }
}

// === impl Entries ===

impl Entries {
    fn put(&mut self, entry: Entry) {
        self.remove(entry.id);
        for key in self.keys(&entry) {
            self.by_key.insert((key, entry.id));
        }
        self.by_id.insert(entry.id, Box::new(entry));
    }

    fn remove(&mut self, id: i64) {
        let Some(entry) = self.by_id.remove(&id) else { return };
        for key in self.keys(&entry) {
            self.by_key.remove(&(key, id));
        }
    }

    fn app(&self, tenant: &str, client: &str) -> u64 {
        self.hashes.hash_one((tenant, client))
    }

    fn keys(&self, entry: &Entry) -> Vec<u64> {
        let bracketed = bracketed(&entry.name).map(|token| self.hashes.hash_one(token));
        bracketed.chain([self.app(&entry.tenant, &entry.client)]).collect()
    }

    fn under(&self, key: u64, is_wanted: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let found = self.by_key.range((key, i64::MIN)..=(key, i64::MAX));
        let entries = found.filter_map(|(_, id)| self.by_id.get(id));
        entries.map(Box::as_ref).filter(|entry| is_wanted(entry)).cloned().collect()
    }
}

/// Each text in brackets that holds no bracket itself.
fn bracketed(name: &str) -> impl Iterator<Item = &str> {
    let closed = name.rsplit_once(']').map_or("", |(closed, _)| closed);
    closed.split(']').filter_map(|part| part.rsplit_once('[').map(|(_, token)| token))
}

// === impl Listings ===

impl Listings {
    /// The place of that remote account's last listing, an empty one where there is none yet.
    pub(super) fn of(&self, identity: &RemoteIdentity) -> LastListing {
        let mut index = self.0.lock();
        let known = index.numbers.get(identity).and_then(|number| index.places.get(number)?.upgrade());
        if let Some(place) = known {
            return LastListing(place);
        }
        index.last_number = index.last_number.wrapping_add(1);
        let number = index.last_number;
        let place =
            Place { identity: identity.clone(), number, index: self.clone(), taken: Mutex::default() };
        let place = Arc::new(place);
        index.numbers.insert(identity.clone(), number);
        index.places.insert(number, Arc::downgrade(&place));
        LastListing(place)
    }

    /// The other remote accounts behind the same address whose last listing, at most so old, shows one of these
    /// entries as well: the same id for the same app.
    pub(super) fn sharing(
        &self,
        own: &RemoteIdentity,
        listing: &Listing,
        max_age: Duration,
    ) -> Vec<RemoteIdentity> {
        let ids = listing.ids();
        let mut candidates: BTreeMap<u32, (Option<Arc<Place>>, Vec<i64>)> = BTreeMap::new();
        {
            let index = self.0.lock();
            for id in ids {
                for (_, number) in index.shown.range((id, u32::MIN)..=(id, u32::MAX)) {
                    let place = || (index.places.get(number).and_then(Weak::upgrade), Vec::new());
                    candidates.entry(*number).or_insert_with(place).1.push(id);
                }
            }
        }
        let mut sharing = Vec::new();
        for (place, ids) in candidates.into_values() {
            let Some(place) = place.map(LastListing) else { continue };
            let identity = &place.0.identity;
            if identity == own || identity.base_url != own.base_url {
                continue;
            }
            let Some(theirs) = place.listing(max_age) else { continue };
            let has_it = |id: &i64| {
                let both = listing.get(*id).zip(theirs.get(*id));
                both.is_some_and(|(a, b)| (a.tenant, a.client) == (b.tenant, b.client))
            };
            if ids.iter().any(has_it) {
                sharing.push(identity.clone());
            }
        }
        sharing
    }
}

// === impl LastListing ===

impl LastListing {
    /// The listing, where it is at most so old.
    pub(super) fn listing(&self, max_age: Duration) -> Option<Listing> {
        let taken = self.0.taken.lock();
        taken.as_ref().filter(|taken| taken.at.elapsed() <= max_age).map(|taken| taken.listing.clone())
    }

    pub(super) fn taken_at(&self) -> Option<Timestamp> {
        self.0.taken.lock().as_ref().map(|taken| taken.timestamp)
    }

    /// Takes a new listing in the place of the one before.
    pub(super) fn put(&self, at: Instant, listing: Listing) {
        let now = Timestamp::now();
        let timestamp = now.checked_sub(at.elapsed()).unwrap_or(now);
        self.replace(Some(Taken { at, timestamp, listing }));
    }

    /// Notes what we have made.
    pub(super) fn add(&self, entry: Entry) {
        let taken = self.0.taken.lock();
        let Some(taken) = taken.as_ref() else { return };
        self.0.index.0.lock().shown.insert((entry.id, self.0.number));
        taken.listing.0.lock().put(entry);
    }

    /// Notes a name that we have given.
    pub(super) fn rename(&self, id: i64, name: &str) {
        let taken = self.0.taken.lock();
        let Some(taken) = taken.as_ref() else { return };
        let mut entries = taken.listing.0.lock();
        if let Some(entry) = entries.by_id.get(&id).cloned() {
            entries.put(Entry { name: name.to_owned(), ..*entry });
        }
    }

    /// Notes what we have removed.
    pub(super) fn remove(&self, id: i64) {
        let taken = self.0.taken.lock();
        let Some(taken) = taken.as_ref() else { return };
        self.0.index.0.lock().shown.remove(&(id, self.0.number));
        taken.listing.0.lock().remove(id);
    }

    pub(super) fn forget(&self) {
        self.replace(None);
    }

    fn replace(&self, new: Option<Taken>) {
        let mut taken = self.0.taken.lock();
        let old = std::mem::replace(&mut *taken, new);
        let ids = |taken: &Option<Taken>| taken.as_ref().map(|taken| taken.listing.ids()).unwrap_or_default();
        let (gone, come) = (ids(&old), ids(&taken));
        let mut index = self.0.index.0.lock();
        for id in gone {
            index.shown.remove(&(id, self.0.number));
        }
        index.shown.extend(come.into_iter().map(|id| (id, self.0.number)));
    }
}

// === impl Place ===

impl Drop for Place {
    fn drop(&mut self) {
        let taken = self.taken.get_mut().take();
        let ids = taken.map(|taken| taken.listing.ids()).unwrap_or_default();
        let mut index = self.index.0.lock();
        for id in ids {
            index.shown.remove(&(id, self.number));
        }
        index.places.remove(&self.number);
        // Another place may have been made for the same account meanwhile.
        if index.numbers.get(&self.identity) == Some(&self.number) {
            index.numbers.remove(&self.identity);
        }
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
        self.name.contains(&mark(token))
    }

    /// The tokens of which its name carries the marks, and whatever else stands in brackets.
    pub fn marks(&self) -> impl Iterator<Item = &str> {
        bracketed(&self.name)
    }
}

impl From<Credential> for Entry {
    fn from(credential: Credential) -> Self {
        Self {
            id: credential.id,
            tenant: credential.tenant_id.trim().to_ascii_lowercase(),
            client: credential.client_id.trim().to_ascii_lowercase(),
            name: credential.name.unwrap_or_default(),
            expires_at: credential.secret_expires_at.and_then(|text| text.trim().parse().ok()),
        }
    }
}

#[cfg(test)]
mod tests;
