//! Table of all objects of one kind, merged from three sources: the watch, responses to the operator's own writes, and
//! GETs.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;

use crate::api::NamespacedName;
use crate::controller::index::entry::{Entry, Indexed, TriggerHash, uid_of, version_of};
use crate::controller::index::keys::{Key, Keys, Rank, Slot};
use crate::controller::index::tombstones::Tombstones;
use crate::controller::index::{Due, Effects};
use crate::k8s::scope::Scope;

/// Logical time of a table: it advances with each change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

pub struct Table<K: Indexed> {
    entries: HashMap<Slot, Box<Entry<K>>>,
    keys: Keys,
    tombstones: Tombstones,
    lists: HashMap<Scope, List>,
    /// The scopes without a complete list so far.
    unlisted: BTreeSet<Scope>,
    now: Moment,
}

/// The last list of a scope, which may still be in progress.
#[derive(Clone, Copy, Default)]
struct List {
    round: u64,
    began: Moment,
    highest: u64,
}

/// Where a version of an object comes from.
#[derive(Clone, Copy)]
enum Source {
    /// The watch, which may lag behind.
    Watch,
    /// A list of the watch that began at that time.
    List(Moment),
    /// The response to a write of the operator.
    Write,
    /// A GET that was sent at that time.
    Get(Moment),
}

/// How a version compares with what is known.
enum Freshness {
    Stale,
    Current,
    /// It is current although it is older than what was known, because the API server was restored.
    Restored,
}

// === impl Table ===

impl<K: Indexed> Table<K> {
    pub fn new(scopes: &[Scope]) -> Self {
        Self {
            entries: HashMap::new(),
            keys: Keys::default(),
            tombstones: Tombstones::default(),
            lists: HashMap::new(),
            unlisted: scopes.iter().cloned().collect(),
            now: Moment::default(),
        }
    }

    pub fn is_listed(&self) -> bool {
        self.unlisted.is_empty()
    }

    /// Applies a watch event of a scope.
    pub fn on_watch_event(
        &mut self,
        scope: &Scope,
        round: u64,
        event: Event<DeserializeGuard<K>>,
    ) -> Effects {
        match event {
            Event::Init => {
                self.begin_list(scope, round);
                Effects::default()
            }
            Event::InitApply(object) => self.list(scope, object),
            Event::InitDone => self.end_list(scope),
            Event::Apply(object) => self.apply(object),
            Event::Delete(object) => self.remove(&uid_of(&object)),
        }
    }

    /// The current logical time: responses to requests from now on are newer than all that is known.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// A list of a scope is about to begin. If its round differs from that of the list before, each object counts as
    /// changed.
    fn begin_list(&mut self, scope: &Scope, round: u64) {
        let list = List { began: self.tick(), highest: 0, round };
        if self.lists.insert(scope.clone(), list).is_none_or(|before| before.round == round) {
            return;
        }
        for entry in self.entries.values_mut().filter(|entry| entry.is_in(scope)) {
            // Any other hash makes the next event of the object a change.
            entry.last_trigger.finalizers = !entry.last_trigger.finalizers;
        }
    }

    fn list(&mut self, scope: &Scope, object: DeserializeGuard<K>) -> Effects {
        let (uid, version) = (uid_of(&object), version_of(&object));
        let list = self.lists.entry(scope.clone()).or_default();
        list.highest = list.highest.max(version);
        let began = list.began;
        let effects = self.merge(object, Source::List(began));
        let listed = self.tick();
        if let Some(entry) = self.by_uid_mut(&uid) {
            entry.listed = listed;
            entry.watched = version;
        }
        effects
    }

    /// The list is complete: objects that it lacks were deleted, except those that were created meanwhile.
    fn end_list(&mut self, scope: &Scope) -> Effects {
        let List { began, highest, .. } = self.lists.get(scope).copied().unwrap_or_default();
        self.unlisted.remove(scope);
        let mut effects = Effects::default();
        let mut gone = Vec::new();
        for (slot, entry) in &mut self.entries {
            if !entry.is_in(scope) {
                continue;
            }
            if entry.listed <= began && (entry.at <= began || entry.version <= highest) {
                gone.push(*slot);
                continue;
            }
            // It was created after the list was taken, or deleted since: the next list decides.
            effects.relist |= entry.listed <= began;
            effects.due.extend(entry.due.take());
        }
        for slot in gone {
            self.tombstone(slot, &mut effects);
        }
        effects
    }

    fn apply(&mut self, object: DeserializeGuard<K>) -> Effects {
        let version = version_of(&object);
        let went_back = self.by_uid_mut(&uid_of(&object)).is_some_and(|entry| {
            let went_back = version < entry.watched;
            entry.watched = version;
            went_back
        });
        let mut effects = self.merge(object, Source::Watch);
        effects.relist |= went_back;
        effects
    }

    pub fn remove(&mut self, uid: &str) -> Effects {
        let mut effects = Effects::default();
        if let Some(slot) = self.slot_of_uid(uid) {
            self.tombstone(slot, &mut effects);
        } else {
            let now = self.tick();
            self.tombstones.insert(uid.into(), now);
        }
        effects
    }

    /// Applies the response to a write of the operator.
    pub fn on_written(&mut self, object: DeserializeGuard<K>) -> Effects {
        let meta = object.meta();
        let was_the_last_finalizer =
            meta.deletion_timestamp.is_some() && meta.finalizers.as_ref().is_none_or(Vec::is_empty);
        if was_the_last_finalizer { self.remove(&uid_of(&object)) } else { self.merge(object, Source::Write) }
    }

    /// Applies the response to a GET that was sent at `sent_at`: the object, or `None` for 404.
    pub fn on_read(
        &mut self,
        name: &NamespacedName,
        sent_at: Moment,
        response: Option<DeserializeGuard<K>>,
    ) -> Effects {
        if let Some(object) = response {
            return self.merge(object, Source::Get(sent_at));
        }
        let mut effects = Effects::default();
        let known =
            self.slot_of_name(name).filter(|slot| self.entries.get(slot).is_some_and(|it| it.at <= sent_at));
        if let Some(slot) = known {
            self.tombstone(slot, &mut effects);
        }
        effects
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry<K>> {
        self.entries.values().map(Box::as_ref)
    }

    pub fn by_uid_mut(&mut self, uid: &str) -> Option<&mut Entry<K>> {
        self.entries.get_mut(&self.slot_of_uid(uid)?).map(Box::as_mut)
    }

    pub fn by_name(&self, name: &NamespacedName) -> Option<&Entry<K>> {
        self.entries.get(&self.slot_of_name(name)?).map(Box::as_ref)
    }

    /// The objects with that key, in the order of their ranks.
    pub fn find<'a>(&'a self, key: &Key<'_>) -> impl Iterator<Item = &'a Entry<K>> + use<'a, K> {
        self.find_ranked(key).map(|(_, entry)| entry)
    }

    pub fn find_ranked<'a>(
        &'a self,
        key: &Key<'_>,
    ) -> impl Iterator<Item = (Rank, &'a Entry<K>)> + use<'a, K> {
        self.keys.find(key).filter_map(|(rank, slot)| Some((rank, self.entries.get(&slot)?.as_ref())))
    }

    /// Applies an object from a source, unless what is known is newer.
    fn merge(&mut self, object: DeserializeGuard<K>, source: Source) -> Effects {
        let (uid, name, version) = (uid_of(&object), NamespacedName::of(&object), version_of(&object));
        let mut effects = Effects::default();
        match self.freshness(&uid, &name, version, source) {
            Freshness::Stale => return effects,
            Freshness::Current => {}
            // A list is current. The versions that the watch delivers show whether others have to be listed again.
            Freshness::Restored => effects.relist = !matches!(source, Source::List(_)),
        }
        self.tombstones.forget(&uid);
        let known = self.slot_of_name(&name);
        let replaced = known.filter(|slot| self.entries.get(slot).is_some_and(|it| *it.uid() != *uid));
        if let Some(slot) = replaced {
            self.tombstone(slot, &mut effects);
        }
        let slot = if let Some(slot) = known.filter(|_| replaced.is_none()) {
            let is_known = self.entries.get(&slot).is_some_and(|it| it.version == version);
            // After a restore, the same version may denote two states.
            if !is_known || matches!(source, Source::List(_) | Source::Get(_)) {
                self.replace(slot, object, version, &mut effects);
            }
            slot
        } else {
            self.insert(object, version, &mut effects)
        };
        let Some(entry) = self.entries.get_mut(&slot) else { return effects };
        // Of the known object: after a restore, an event of the same version may hold another state.
        let trigger = TriggerHash::of(&*entry.object);
        match source {
            Source::Watch | Source::List(_) => {
                let before = std::mem::replace(&mut entry.last_trigger, trigger);
                entry.watched = version;
                let is_new = before.content == 0 || entry.due.as_ref().is_some_and(|due| due.is_new);
                let due = (before != trigger).then_some(Due { object: name, is_new });
                match source {
                    Source::List(_) => entry.due = due.or(entry.due.take()),
                    _ => effects.due.extend(due),
                }
            }
            // The operator changed the finalizers itself. The watch delivers any other change.
            Source::Write => entry.last_trigger.finalizers = trigger.finalizers,
            Source::Get(_) => {}
        }
        effects
    }

    /// A response to a request describes the state at that time or later, so it replaces all that was known by then,
    /// whatever its version. Otherwise the higher version counts. A deleted object does not come back.
    fn freshness(&self, uid: &str, name: &NamespacedName, version: u64, source: Source) -> Freshness {
        let sent_at = match source {
            Source::Watch | Source::Write => None,
            Source::List(sent_at) | Source::Get(sent_at) => Some(sent_at),
        };
        let known = match self.tombstones.since(uid) {
            Some(since) => Some((None, since)),
            None => self.by_name(name).map(|entry| (Some(entry.version), entry.at)),
        };
        match known {
            // A list that began later is more recent: if the object still exists, the list or the watch delivers it.
            None if matches!(source, Source::Get(sent_at) if self.is_listed_since(name, sent_at)) => {
                Freshness::Stale
            }
            None => Freshness::Current,
            Some((Some(known), _)) if known <= version => Freshness::Current,
            Some((_, at)) if sent_at.is_some_and(|sent_at| at <= sent_at) => Freshness::Restored,
            Some(_) => Freshness::Stale,
        }
    }

    fn is_listed_since(&self, name: &NamespacedName, since: Moment) -> bool {
        self.lists.iter().any(|(scope, list)| scope.covers(&name.namespace) && list.began > since)
    }

    fn insert(&mut self, object: DeserializeGuard<K>, version: u64, effects: &mut Effects) -> Slot {
        let at = self.tick();
        // Each logical time adds one object at most.
        let slot = Slot(at.0);
        let entry = Entry {
            object: Arc::new(object),
            state: K::State::default(),
            version,
            at,
            watched: 0,
            listed: Moment::default(),
            last_trigger: TriggerHash::default(),
            due: None,
        };
        let (name, facts) = (entry.name(), entry.facts());
        self.keys.insert(&Key::Uid(entry.uid()), 0, slot);
        self.keys.insert(&Key::Name(&name), 0, slot);
        self.entries.insert(slot, Box::new(entry));
        self.reindex(slot, &name, &K::Facts::default(), &facts, effects);
        slot
    }

    fn replace(&mut self, slot: Slot, object: DeserializeGuard<K>, version: u64, effects: &mut Effects) {
        let at = self.tick();
        self.update(slot, effects, |entry, before| {
            K::before_replace(&mut entry.state, before, &object);
            entry.object = Arc::new(object);
            (entry.version, entry.at) = (version, at);
        });
    }

    /// Changes an entry, and updates the keys if its facts changed.
    pub fn update<R>(
        &mut self,
        slot: Slot,
        effects: &mut Effects,
        change: impl FnOnce(&mut Entry<K>, &K::Facts) -> R,
    ) -> Option<R> {
        let entry = self.entries.get_mut(&slot)?;
        let before = entry.facts();
        let changed = change(entry, &before);
        let (name, after) = (entry.name(), entry.facts());
        if before != after {
            self.reindex(slot, &name, &before, &after, effects);
        }
        Some(changed)
    }

    /// Updates the keys of an object.
    fn reindex(
        &mut self,
        slot: Slot,
        name: &NamespacedName,
        before: &K::Facts,
        after: &K::Facts,
        effects: &mut Effects,
    ) {
        for (key, rank) in K::keys(before) {
            self.keys.remove(&key, rank, slot);
        }
        for (key, rank) in K::keys(after) {
            self.keys.insert(&key, rank, slot);
        }
        K::effects_of_change(self, name, before, after, effects);
    }

    /// Removes a deleted object.
    fn tombstone(&mut self, slot: Slot, effects: &mut Effects) {
        let Some(entry) = self.entries.remove(&slot) else { return };
        let (name, now) = (entry.name(), self.tick());
        self.tombstones.insert(entry.uid().into(), now);
        self.keys.remove(&Key::Uid(entry.uid()), 0, slot);
        self.keys.remove(&Key::Name(&name), 0, slot);
        self.reindex(slot, &name, &entry.facts(), &K::Facts::default(), effects);
        effects.deleted.push(name);
    }

    pub fn slot_of_uid(&self, uid: &str) -> Option<Slot> {
        let is_it = |slot: &Slot| self.entries.get(slot).is_some_and(|entry| entry.uid() == uid);
        self.keys.find(&Key::Uid(uid)).map(|(_, slot)| slot).find(is_it)
    }

    pub fn slot_of_name(&self, name: &NamespacedName) -> Option<Slot> {
        let is_it = |slot: &Slot| self.entries.get(slot).is_some_and(|entry| entry.is_named(name));
        self.keys.find(&Key::Name(name)).map(|(_, slot)| slot).find(is_it)
    }

    fn tick(&mut self) -> Moment {
        self.now = Moment(self.now.0 + 1);
        self.now
    }

    #[cfg(test)]
    pub fn keys(&self) -> usize {
        self.keys.len()
    }
}
