//! Cached listings of remote accounts, with the operator's later writes applied.
//!
//! All objects that use the same remote account share one listing, because a stale copy could hide a credential. A
//! listing is never copied: it is queried by id, by app or by idempotency token.

use crate::core::remote::{Entry, bracketed};
use std::collections::hash_map::RandomState;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::BuildHasher;
use std::sync::{Arc, Weak};
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::api::{ClientId, TenantId};
use crate::woodpecker::identity::RemoteIdentity;

/// Stands for the app of entries whose app could not be read.
const OPAQUE: (&str, &str) = ("", "");

/// What a remote account holds. Clones are the same listing: later writes show in all of them.
#[derive(Clone, Debug)]
pub struct Listing(Arc<Mutex<Entries>>);

/// The listings of all remote accounts, and which of them show an id. Clones share them.
#[derive(Clone, Debug, Default)]
pub(super) struct Listings(Arc<Mutex<Index>>);

/// The last listing of one remote account, if there is one. Clones share it.
#[derive(Clone, Debug)]
pub(super) struct LastListing(Arc<ListingSlot>);

#[derive(Debug, Default)]
struct Entries {
    by_id: BTreeMap<i64, Box<Entry>>,
    /// By the hash of an app, or of a bracketed part of a name. Hashes may collide.
    by_hash: BTreeSet<(u64, i64)>,
    hashes: RandomState,
}

#[derive(Debug, Default)]
struct Index {
    numbers: HashMap<RemoteIdentity, u32>,
    slots: HashMap<u32, Weak<ListingSlot>>,
    /// Each id with the numbers of the accounts whose last listing shows it.
    shown_by: BTreeSet<(i64, u32)>,
    last_number: u32,
    /// How long a listing may lag behind the operator's writes.
    settle_period: Duration,
}

#[derive(Debug)]
struct ListingSlot {
    identity: RemoteIdentity,
    number: u32,
    index: Listings,
    snapshot: Mutex<Option<Snapshot>>,
    /// The operator's latest writes, in their order.
    writes: Mutex<Vec<OwnWrite>>,
}

/// A write of the operator that Woodpecker has confirmed.
#[derive(Debug)]
struct OwnWrite {
    at: Instant,
    id: i64,
    change: Change,
}

#[derive(Debug)]
enum Change {
    Created(Entry),
    Renamed(String),
    Deleted,
}

#[derive(Debug)]
struct Snapshot {
    at: Instant,
    /// `at` by the wall clock.
    timestamp: Timestamp,
    listing: Listing,
}

// === impl Listing ===

impl Listing {
    pub fn get(&self, id: i64) -> Option<Entry> {
        self.0.lock().by_id.get(&id).map(|entry| (**entry).clone())
    }

    pub fn contains(&self, id: i64) -> bool {
        self.0.lock().by_id.contains_key(&id)
    }

    /// The entries for that app, ordered by id.
    pub fn for_app(&self, tenant: &TenantId, client: &ClientId) -> Vec<Entry> {
        let entries = self.0.lock();
        entries.matching(entries.app_hash(tenant.as_str(), client.as_str()), |entry| {
            entry.is_for(tenant, client)
        })
    }

    /// The entries whose name has that idempotency token, ordered by id.
    pub fn with_token(&self, token: &str) -> Vec<Entry> {
        let entries = self.0.lock();
        entries.matching(entries.hashes.hash_one(token), |entry| entry.has_token(token))
    }

    /// The entries for that app, those with one of these idempotency tokens, and those whose app could not be read,
    /// ordered by id.
    pub fn related_to<'a>(
        &self,
        tenant: &TenantId,
        client: &ClientId,
        tokens: impl IntoIterator<Item = &'a str>,
    ) -> Vec<Entry> {
        let mut entries = self.for_app(tenant, client);
        entries.extend(tokens.into_iter().flat_map(|token| self.with_token(token)));
        entries.extend(self.opaque());
        entries.sort_by_key(|entry| entry.id);
        entries.dedup_by_key(|entry| entry.id);
        entries
    }

    fn opaque(&self) -> Vec<Entry> {
        let entries = self.0.lock();
        entries.matching(entries.hashes.hash_one(OPAQUE), Entry::is_opaque)
    }

    pub fn is_empty(&self) -> bool {
        self.0.lock().by_id.is_empty()
    }

    /// Visits each entry, ordered by id. The listing is locked meanwhile, so `visit` must take no lock.
    pub fn for_each(&self, visit: impl FnMut(&Entry)) {
        self.0.lock().by_id.values().map(Box::as_ref).for_each(visit);
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
        for key in self.hashes_of(&entry) {
            self.by_hash.insert((key, entry.id));
        }
        self.by_id.insert(entry.id, Box::new(entry));
    }

    fn remove(&mut self, id: i64) {
        let Some(entry) = self.by_id.remove(&id) else { return };
        for key in self.hashes_of(&entry) {
            self.by_hash.remove(&(key, id));
        }
    }

    fn rename(&mut self, id: i64, name: &str) {
        if let Some(entry) = self.by_id.get(&id).cloned() {
            self.put(Entry { name: name.to_owned(), ..*entry });
        }
    }

    fn app_hash(&self, tenant: &str, client: &str) -> u64 {
        self.hashes.hash_one((tenant, client))
    }

    fn hashes_of(&self, entry: &Entry) -> Vec<u64> {
        let bracketed = bracketed(&entry.name).map(|token| self.hashes.hash_one(token));
        let opaque = entry.is_opaque().then(|| self.hashes.hash_one(OPAQUE));
        bracketed.chain([self.app_hash(&entry.tenant, &entry.client)]).chain(opaque).collect()
    }

    fn matching(&self, key: u64, is_wanted: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let found = self.by_hash.range((key, i64::MIN)..=(key, i64::MAX));
        let entries = found.filter_map(|(_, id)| self.by_id.get(id));
        entries.map(Box::as_ref).filter(|entry| is_wanted(entry)).cloned().collect()
    }
}

// === impl Listings ===

impl Listings {
    /// The operator's writes of the last `settle_period` are applied to new listings, which may lag behind them.
    pub(super) fn new(settle_period: Duration) -> Self {
        Self(Arc::new(Mutex::new(Index { settle_period, ..Index::default() })))
    }

    /// The last listing of that remote account, created empty if it is unknown.
    pub(super) fn of(&self, identity: &RemoteIdentity) -> LastListing {
        let mut index = self.0.lock();
        let known = index.numbers.get(identity).and_then(|number| index.slots.get(number)?.upgrade());
        if let Some(slot) = known {
            return LastListing(slot);
        }
        index.last_number = index.last_number.wrapping_add(1);
        let number = index.last_number;
        let slot = ListingSlot {
            identity: identity.clone(),
            number,
            index: self.clone(),
            snapshot: Mutex::default(),
            writes: Mutex::default(),
        };
        let slot = Arc::new(slot);
        index.numbers.insert(identity.clone(), number);
        index.slots.insert(number, Arc::downgrade(&slot));
        LastListing(slot)
    }

    /// The other remote accounts at the same address whose last listing, at most `max_age` old, shows one of these
    /// entries: the same id for the same app.
    pub(super) fn sharing(
        &self,
        own: &RemoteIdentity,
        listing: &Listing,
        max_age: Duration,
    ) -> Vec<RemoteIdentity> {
        let ids = listing.ids();
        let mut candidates: BTreeMap<u32, (Option<Arc<ListingSlot>>, Vec<i64>)> = BTreeMap::new();
        {
            let index = self.0.lock();
            for id in ids {
                for (_, number) in index.shown_by.range((id, u32::MIN)..=(id, u32::MAX)) {
                    let slot = || (index.slots.get(number).and_then(Weak::upgrade), Vec::new());
                    candidates.entry(*number).or_insert_with(slot).1.push(id);
                }
            }
        }
        let mut sharing = Vec::new();
        for (slot, ids) in candidates.into_values() {
            let Some(slot) = slot.map(LastListing) else { continue };
            let identity = &slot.0.identity;
            if identity == own || identity.base_url != own.base_url {
                continue;
            }
            let Some(theirs) = slot.listing(max_age) else { continue };
            let is_shared = |id: &i64| {
                let both = listing.get(*id).zip(theirs.get(*id));
                both.is_some_and(|(a, b)| !a.is_opaque() && (a.tenant, a.client) == (b.tenant, b.client))
            };
            if ids.iter().any(is_shared) {
                sharing.push(identity.clone());
            }
        }
        sharing
    }
}

// === impl LastListing ===

impl LastListing {
    /// The listing, if it is at most `max_age` old.
    pub(super) fn listing(&self, max_age: Duration) -> Option<Listing> {
        let snapshot = self.0.snapshot.lock();
        snapshot
            .as_ref()
            .filter(|snapshot| snapshot.at.elapsed() <= max_age)
            .map(|snapshot| snapshot.listing.clone())
    }

    pub(super) fn taken_at(&self) -> Option<Timestamp> {
        self.0.snapshot.lock().as_ref().map(|snapshot| snapshot.timestamp)
    }

    /// Replaces the listing with one taken at that time, with the operator's latest writes applied.
    pub(super) fn put(&self, at: Instant, listing: Listing) {
        self.apply_writes(&listing);
        let now = Timestamp::now();
        let timestamp = now.checked_sub(at.elapsed()).unwrap_or(now);
        self.replace(Some(Snapshot { at, timestamp, listing }));
    }

    fn apply_writes(&self, listing: &Listing) {
        let settle_period = self.0.index.0.lock().settle_period;
        let (mut writes, mut entries) = (self.0.writes.lock(), listing.0.lock());
        writes.retain(|write| write.at.elapsed() < settle_period);
        for OwnWrite { id, change, .. } in writes.iter() {
            match change {
                Change::Created(entry) if !entries.by_id.contains_key(id) => entries.put(entry.clone()),
                Change::Created(_) => {}
                Change::Renamed(name) => entries.rename(*id, name),
                Change::Deleted => entries.remove(*id),
            }
        }
    }

    fn record(&self, id: i64, change: Change) {
        let settle_period = self.0.index.0.lock().settle_period;
        let mut writes = self.0.writes.lock();
        writes.retain(|write| write.at.elapsed() < settle_period);
        writes.push(OwnWrite { at: Instant::now(), id, change });
    }

    /// Forgets the writes of a credential of which Woodpecker says that it does not exist.
    pub(super) fn forget_writes(&self, id: i64) {
        self.0.writes.lock().retain(|write| write.id != id);
    }

    /// Applies a create of the operator.
    pub(super) fn add(&self, entry: Entry) {
        self.record(entry.id, Change::Created(entry.clone()));
        let snapshot = self.0.snapshot.lock();
        let Some(snapshot) = snapshot.as_ref() else { return };
        self.0.index.0.lock().shown_by.insert((entry.id, self.0.number));
        snapshot.listing.0.lock().put(entry);
    }

    /// Applies a rename of the operator.
    pub(super) fn rename(&self, id: i64, name: &str) {
        self.record(id, Change::Renamed(name.to_owned()));
        let snapshot = self.0.snapshot.lock();
        let Some(snapshot) = snapshot.as_ref() else { return };
        snapshot.listing.0.lock().rename(id, name);
    }

    /// Applies a delete of the operator.
    pub(super) fn remove(&self, id: i64) {
        self.record(id, Change::Deleted);
        let snapshot = self.0.snapshot.lock();
        let Some(snapshot) = snapshot.as_ref() else { return };
        self.0.index.0.lock().shown_by.remove(&(id, self.0.number));
        snapshot.listing.0.lock().remove(id);
    }

    pub(super) fn forget(&self) {
        self.replace(None);
    }

    fn replace(&self, new: Option<Snapshot>) {
        let mut snapshot = self.0.snapshot.lock();
        let old = std::mem::replace(&mut *snapshot, new);
        let ids = |snapshot: &Option<Snapshot>| {
            snapshot.as_ref().map(|snapshot| snapshot.listing.ids()).unwrap_or_default()
        };
        let (removed, added) = (ids(&old), ids(&snapshot));
        let mut index = self.0.index.0.lock();
        for id in removed {
            index.shown_by.remove(&(id, self.0.number));
        }
        index.shown_by.extend(added.into_iter().map(|id| (id, self.0.number)));
    }
}

// === impl ListingSlot ===

impl Drop for ListingSlot {
    fn drop(&mut self) {
        let snapshot = self.snapshot.get_mut().take();
        let ids = snapshot.map(|snapshot| snapshot.listing.ids()).unwrap_or_default();
        let mut index = self.index.0.lock();
        for id in ids {
            index.shown_by.remove(&(id, self.number));
        }
        index.slots.remove(&self.number);
        // Another slot may have been created for the same account meanwhile.
        if index.numbers.get(&self.identity) == Some(&self.number) {
            index.numbers.remove(&self.identity);
        }
    }
}

#[cfg(test)]
mod tests;
