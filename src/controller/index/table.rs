//! All objects of one kind, as the newest of three sources has them: the watch, the answers to our own writes, and GETs.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kube::Resource;
use kube::core::DeserializeGuard;
use kube::runtime::watcher::Event;

use super::entry::{Entry, Fingerprint, Kept, uid_of, version_of};
use super::gone::Gone;
use super::keys::{Key, Keys, Rank, Slot};
use super::{Due, Effects, Named};
use crate::controller::scope::Scope;

/// A moment in the life of a table: each change has its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

/// All objects of one kind.
pub struct Table<K: Kept> {
    entries: HashMap<Slot, Box<Entry<K>>>,
    keys: Keys,
    gone: Gone,
    lists: HashMap<Scope, List>,
    /// The scopes of which no list is complete yet.
    unlisted: BTreeSet<Scope>,
    now: Moment,
}

/// The list of a scope that is under way, or was the last.
#[derive(Clone, Copy, Default)]
struct List {
    round: u64,
    began: Moment,
    highest: u64,
}

/// Who says how an object is.
#[derive(Clone, Copy)]
enum Source {
    /// The watch: what it brings may be older than what is known.
    Watch,
    /// A list of the watch that began then.
    List(Moment),
    /// The answer to our own write.
    Write,
    /// A GET that was sent then.
    Get(Moment),
}

/// What to make of it.
enum Verdict {
    /// It is older than what is known.
    Stale,
    /// It is how things stand.
    True,
    /// It is how things stand, although it is older than what was known: the API server was restored.
    WentBack,
}

// === impl Table ===

impl<K: Kept> Table<K> {
    /// For those scopes; nothing is known yet.
    pub fn new(scopes: &[Scope]) -> Self {
        Self {
            entries: HashMap::new(),
            keys: Keys::default(),
            gone: Gone::default(),
            lists: HashMap::new(),
            unlisted: scopes.iter().cloned().collect(),
            now: Moment::default(),
        }
    }

    /// Whether every scope has been listed.
    pub fn is_listed(&self) -> bool {
        self.unlisted.is_empty()
    }

    /// Takes in what the watch of a scope brings.
    pub fn note(&mut self, scope: &Scope, round: u64, event: Event<DeserializeGuard<K>>) -> Effects {
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

    /// This moment: what is asked of the API server from now on is newer than all that is known.
    pub fn now(&self) -> Moment {
        self.now
    }

    /// A list of a scope is about to be asked for. In another round than the one before, each object counts as changed.
    fn begin_list(&mut self, scope: &Scope, round: u64) {
        let list = List { began: self.tick(), highest: 0, round };
        if self.lists.insert(scope.clone(), list).is_none_or(|before| before.round == round) {
            return;
        }
        for entry in self.entries.values_mut().filter(|entry| entry.is_in(scope)) {
            entry.woken.finalizers = !entry.woken.finalizers;
        }
    }

    /// The list has brought an object.
    fn list(&mut self, scope: &Scope, object: DeserializeGuard<K>) -> Effects {
        let (uid, version) = (uid_of(&object), version_of(&object));
        let list = self.lists.entry(scope.clone()).or_default();
        list.highest = list.highest.max(version);
        let began = list.began;
        let effects = self.take(object, Source::List(began));
        let listed = self.tick();
        if let Some(entry) = self.by_uid_mut(&uid) {
            entry.listed = listed;
            entry.watched = version;
        }
        effects
    }

    /// The list is complete: what it lacks is gone, but for what was made meanwhile.
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
            // It was made after the list was taken, or is gone since: the next list tells.
            effects.relist |= entry.listed <= began;
            effects.due.extend(entry.due.take());
        }
        for slot in gone {
            self.bury(slot, &mut effects);
        }
        effects
    }

    /// The watch has brought an object.
    fn apply(&mut self, object: DeserializeGuard<K>) -> Effects {
        let version = version_of(&object);
        let went_back = self.by_uid_mut(&uid_of(&object)).is_some_and(|entry| {
            let went_back = version < entry.watched;
            entry.watched = version;
            went_back
        });
        let mut effects = self.take(object, Source::Watch);
        effects.relist |= went_back;
        effects
    }

    pub fn remove(&mut self, uid: &str) -> Effects {
        let mut effects = Effects::default();
        if let Some(slot) = self.slot_of_uid(uid) {
            self.bury(slot, &mut effects);
        } else {
            let now = self.tick();
            self.gone.bury(uid.into(), now);
        }
        effects
    }

    /// The API server has answered our own write with this object.
    pub fn write(&mut self, object: DeserializeGuard<K>) -> Effects {
        let meta = object.meta();
        let was_the_last_finalizer =
            meta.deletion_timestamp.is_some() && meta.finalizers.as_ref().is_none_or(Vec::is_empty);
        if was_the_last_finalizer { self.remove(&uid_of(&object)) } else { self.take(object, Source::Write) }
    }

    /// A GET that was sent at that moment was answered with this object, or with 404.
    pub fn read(&mut self, name: &Named, asked: Moment, answer: Option<DeserializeGuard<K>>) -> Effects {
        if let Some(object) = answer {
            return self.take(object, Source::Get(asked));
        }
        let mut effects = Effects::default();
        let known =
            self.slot_of_name(name).filter(|slot| self.entries.get(slot).is_some_and(|it| it.at <= asked));
        if let Some(slot) = known {
            self.bury(slot, &mut effects);
        }
        effects
    }

    pub fn entries(&self) -> impl Iterator<Item = &Entry<K>> {
        self.entries.values().map(Box::as_ref)
    }

    pub fn by_uid_mut(&mut self, uid: &str) -> Option<&mut Entry<K>> {
        self.entries.get_mut(&self.slot_of_uid(uid)?).map(Box::as_mut)
    }

    pub fn by_name(&self, name: &Named) -> Option<&Entry<K>> {
        self.entries.get(&self.slot_of_name(name)?).map(Box::as_ref)
    }

    /// The objects with that key, in the order of their ranks.
    pub fn find<'a>(&'a self, key: &Key<'_>) -> impl Iterator<Item = &'a Entry<K>> + use<'a, K> {
        self.find_ranked(key).map(|(_, entry)| entry)
    }

    /// The same with their ranks.
    pub fn find_ranked<'a>(
        &'a self,
        key: &Key<'_>,
    ) -> impl Iterator<Item = (Rank, &'a Entry<K>)> + use<'a, K> {
        self.keys.find(key).filter_map(|(rank, slot)| Some((rank, self.entries.get(&slot)?.as_ref())))
    }

    /// Takes in an object as a source has it, unless what is known is newer.
    fn take(&mut self, object: DeserializeGuard<K>, source: Source) -> Effects {
        let (uid, name, version) = (uid_of(&object), Named::of(&object), version_of(&object));
        let mut effects = Effects::default();
        match self.judge(&uid, &name, version, source) {
            Verdict::Stale => return effects,
            Verdict::True => {}
            // A list is how things stand now; whether the others must be listed again is seen by its version.
            Verdict::WentBack => effects.relist = !matches!(source, Source::List(_)),
        }
        self.gone.resurrect(&uid);
        let known = self.slot_of_name(&name);
        let replaced = known.filter(|slot| self.entries.get(slot).is_some_and(|it| *it.uid() != *uid));
        if let Some(slot) = replaced {
            self.bury(slot, &mut effects);
        }
        let wakes = Fingerprint::of(&object);
        let slot = if let Some(slot) = known.filter(|_| replaced.is_none()) {
            let is_known = self.entries.get(&slot).is_some_and(|it| it.version == version);
            // Of a restored API server, one version may stand for two states.
            if !is_known || matches!(source, Source::List(_) | Source::Get(_)) {
                self.replace(slot, object, version, &mut effects);
            }
            slot
        } else {
            self.insert(object, version, &mut effects)
        };
        let Some(entry) = self.entries.get_mut(&slot) else { return effects };
        match source {
            Source::Watch | Source::List(_) => {
                let before = std::mem::replace(&mut entry.woken, wakes);
                entry.watched = version;
                let is_new = before.content == 0 || entry.due.as_ref().is_some_and(|due| due.is_new);
                let due = (before != wakes).then_some(Due { object: name, is_new });
                match source {
                    Source::List(_) => entry.due = due.or(entry.due.take()),
                    _ => effects.due.extend(due),
                }
            }
            // Its finalizers are what we have made of them. What else has changed, the watch will bring.
            Source::Write => entry.woken.finalizers = wakes.finalizers,
            Source::Get(_) => {}
        }
        effects
    }

    /// What is asked for tells how things stood then or later: it counts, whatever its version, against all that was
    /// known by then. Else the later version counts. An object that is gone does not come back.
    fn judge(&self, uid: &str, name: &Named, version: u64, source: Source) -> Verdict {
        let asked = match source {
            Source::Watch | Source::Write => None,
            Source::List(asked) | Source::Get(asked) => Some(asked),
        };
        let known = match self.gone.since(uid) {
            Some(since) => Some((None, since)),
            None => self.by_name(name).map(|entry| (Some(entry.version), entry.at)),
        };
        match known {
            // A list that began later knows better: where the object is not gone, the list or the watch brings it.
            None if matches!(source, Source::Get(asked) if self.is_listed_since(name, asked)) => {
                Verdict::Stale
            }
            None => Verdict::True,
            Some((Some(known), _)) if known <= version => Verdict::True,
            Some((_, at)) if asked.is_some_and(|asked| at <= asked) => Verdict::WentBack,
            Some(_) => Verdict::Stale,
        }
    }

    /// Whether a list of its namespace began after that moment.
    fn is_listed_since(&self, name: &Named, moment: Moment) -> bool {
        self.lists.iter().any(|(scope, list)| scope.covers(&name.namespace) && list.began > moment)
    }

    fn insert(&mut self, object: DeserializeGuard<K>, version: u64, effects: &mut Effects) -> Slot {
        let at = self.tick();
        // No other object came at this moment.
        let slot = Slot(at.0);
        let entry = Entry {
            object: Arc::new(object),
            state: K::State::default(),
            version,
            at,
            watched: 0,
            listed: Moment::default(),
            woken: Fingerprint::default(),
            due: None,
        };
        let (name, facts) = (entry.name(), entry.facts());
        self.keys.insert(&Key::Uid(entry.uid()), 0, slot);
        self.keys.insert(&Key::Name(&name), 0, slot);
        self.entries.insert(slot, Box::new(entry));
        self.changed(slot, &name, &K::Facts::default(), &facts, effects);
        slot
    }

    fn replace(&mut self, slot: Slot, object: DeserializeGuard<K>, version: u64, effects: &mut Effects) {
        let at = self.tick();
        self.alter(slot, effects, |entry, before| {
            K::succeed(&mut entry.state, before, &object);
            entry.object = Arc::new(object);
            (entry.version, entry.at) = (version, at);
        });
    }

    /// Changes an entry, of which the facts before are shown as well.
    pub fn alter<R>(
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
            self.changed(slot, &name, &before, &after, effects);
        }
        Some(changed)
    }

    /// Brings the keys of an object up to date.
    fn changed(
        &mut self,
        slot: Slot,
        name: &Named,
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
        K::conclude(self, name, before, after, effects);
    }

    /// Forgets an object that is gone for good.
    fn bury(&mut self, slot: Slot, effects: &mut Effects) {
        let Some(entry) = self.entries.remove(&slot) else { return };
        let (name, now) = (entry.name(), self.tick());
        self.gone.bury(entry.uid().into(), now);
        self.keys.remove(&Key::Uid(entry.uid()), 0, slot);
        self.keys.remove(&Key::Name(&name), 0, slot);
        self.changed(slot, &name, &entry.facts(), &K::Facts::default(), effects);
        effects.gone.push(name);
    }

    pub fn slot_of_uid(&self, uid: &str) -> Option<Slot> {
        let is_it = |slot: &Slot| self.entries.get(slot).is_some_and(|entry| entry.uid() == uid);
        self.keys.find(&Key::Uid(uid)).map(|(_, slot)| slot).find(is_it)
    }

    pub fn slot_of_name(&self, name: &Named) -> Option<Slot> {
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
