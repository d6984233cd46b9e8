//! All objects of one kind, as the newest of three sources has them: the watch, the answers to our own writes, and GETs.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use kube::Resource;

use super::Due;
use super::Named;
use super::gone::Gone;
use super::keys::{Key, Keys, Rank, Slot};
use crate::controller::scope::Scope;

/// An object that is kept in a table.
pub(super) trait Kept: Resource<DynamicType = ()> + Sized {
    /// What is known of an object beside itself; it ends with it.
    type State: Default;
    /// What of an object others depend on.
    type Facts: PartialEq;

    /// What others depend on.
    fn facts(&self, state: &Self::State) -> Self::Facts;
    /// The object is about to be replaced by this one, before which those were the facts.
    fn succeed(state: &mut Self::State, before: &Self::Facts, next: &Self);
    /// What it is found by, beside uid and name.
    fn keys(facts: &Self::Facts) -> Vec<(Key<'_>, Rank)>;
}

/// A moment in the life of a table: each change has its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(u64);

/// All objects of one kind.
pub(super) struct Table<T: Kept> {
    entries: HashMap<Slot, Entry<T>>,
    keys: Keys,
    gone: Gone,
    lists: HashMap<Scope, List>,
    now: Moment,
    next: Slot,
}

/// An object with what is known of it.
pub(super) struct Entry<T: Kept> {
    pub(super) object: Arc<T>,
    pub(super) state: T::State,
    version: u64,
    /// When this version became known.
    at: Moment,
    /// The version that the watch has brought last.
    watched: u64,
    /// When a list has brought it last.
    listed: Moment,
    /// What it was woken for last.
    woken: Fingerprint,
    /// Whether it is to be woken once the list under way is complete.
    due: Option<Due>,
}

/// The list of a scope that is under way, or was the last.
#[derive(Clone, Copy, Default)]
struct List {
    round: u64,
    began: Moment,
    /// The highest version in it.
    highest: u64,
}

/// What came of a piece of news.
pub(super) struct Noted<T: Kept> {
    pub(super) changes: Vec<Change<T>>,
    /// The objects of which a reconcile is due.
    pub(super) due: Vec<Due>,
    /// Whether the objects must be listed again: a version went back, or a list has left a doubt.
    pub(super) relist: bool,
}

/// What a piece of news has changed about one object.
pub(super) struct Change<T: Kept> {
    pub(super) name: Named,
    pub(super) before: Option<T::Facts>,
    pub(super) after: Option<T::Facts>,
    /// What was known of an object that is gone.
    pub(super) state: Option<T::State>,
}

/// What a reconcile looks at, but for the status.
#[derive(Clone, Copy, Default, PartialEq)]
struct Fingerprint {
    /// Spec (by generation), annotations and deletion; 0 before the watch has shown the object.
    content: u64,
    finalizers: u64,
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

impl<T: Kept> Default for Table<T> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            keys: Keys::default(),
            gone: Gone::default(),
            lists: HashMap::new(),
            now: Moment::default(),
            next: Slot(0),
        }
    }
}

impl<T: Kept> Table<T> {
    /// This moment: what is asked of the API server from now on is newer than all that is known.
    pub(super) fn now(&self) -> Moment {
        self.now
    }

    /// A list of a scope is about to be asked for. In another round than the one before, each object counts as changed.
    pub(super) fn begin_list(&mut self, scope: &Scope, round: u64) {
        let list = List { began: self.tick(), highest: 0, round };
        if self.lists.insert(scope.clone(), list).is_none_or(|before| before.round == round) {
            return;
        }
        for entry in self.entries.values_mut().filter(|entry| entry.is_in(scope)) {
            entry.woken.finalizers = !entry.woken.finalizers;
        }
    }

    /// The list has brought an object.
    pub(super) fn list(&mut self, scope: &Scope, object: T) -> Noted<T> {
        let (uid, version) = (uid_of(&object), version_of(&object));
        let list = self.lists.entry(scope.clone()).or_default();
        list.highest = list.highest.max(version);
        let began = list.began;
        let noted = self.take(object, Source::List(began));
        let listed = self.tick();
        if let Some(entry) = self.by_uid_mut(&uid) {
            entry.listed = listed;
            entry.watched = version;
        }
        noted
    }

    /// The list is complete: what it lacks is gone, but for what was made meanwhile.
    pub(super) fn end_list(&mut self, scope: &Scope) -> Noted<T> {
        let List { began, highest, .. } = self.lists.get(scope).copied().unwrap_or_default();
        let mut noted = Noted::nothing();
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
            noted.relist |= entry.listed <= began;
            noted.due.extend(entry.due.take());
        }
        noted.changes = gone.into_iter().filter_map(|slot| self.bury(slot)).collect();
        noted
    }

    /// The watch has brought an object.
    pub(super) fn apply(&mut self, object: T) -> Noted<T> {
        let version = version_of(&object);
        let went_back = self.by_uid_mut(&uid_of(&object)).is_some_and(|entry| {
            let went_back = version < entry.watched;
            entry.watched = version;
            went_back
        });
        let mut noted = self.take(object, Source::Watch);
        noted.relist |= went_back;
        noted
    }

    /// An object is gone.
    pub(super) fn remove(&mut self, uid: &str) -> Noted<T> {
        let mut noted = Noted::nothing();
        if let Some(slot) = self.slot_of_uid(uid) {
            noted.changes.extend(self.bury(slot));
        } else {
            let now = self.tick();
            self.gone.bury(uid.into(), now);
        }
        noted
    }

    /// The API server has answered our own write with this object.
    pub(super) fn write(&mut self, object: T) -> Noted<T> {
        let meta = object.meta();
        let was_the_last_finalizer =
            meta.deletion_timestamp.is_some() && meta.finalizers.as_ref().is_none_or(Vec::is_empty);
        if was_the_last_finalizer { self.remove(&uid_of(&object)) } else { self.take(object, Source::Write) }
    }

    /// A GET that was sent at that moment was answered with this object, or with 404.
    pub(super) fn read(&mut self, name: &Named, asked: Moment, answer: Option<T>) -> Noted<T> {
        if let Some(object) = answer {
            return self.take(object, Source::Get(asked));
        }
        let mut noted = Noted::nothing();
        let known =
            self.slot_of_name(name).filter(|slot| self.entries.get(slot).is_some_and(|it| it.at <= asked));
        noted.changes.extend(known.and_then(|slot| self.bury(slot)));
        noted
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry<T>> {
        self.entries.values()
    }

    pub(super) fn by_uid(&self, uid: &str) -> Option<&Entry<T>> {
        self.entries.get(&self.slot_of_uid(uid)?)
    }

    pub(super) fn by_uid_mut(&mut self, uid: &str) -> Option<&mut Entry<T>> {
        self.entries.get_mut(&self.slot_of_uid(uid)?)
    }

    pub(super) fn by_name(&self, name: &Named) -> Option<&Entry<T>> {
        self.entries.get(&self.slot_of_name(name)?)
    }

    pub(super) fn by_name_mut(&mut self, name: &Named) -> Option<&mut Entry<T>> {
        self.entries.get_mut(&self.slot_of_name(name)?)
    }

    /// The objects with that key, in the order of their ranks.
    pub(super) fn find<'a>(
        &'a self,
        key: &Key<'_>,
    ) -> impl Iterator<Item = (Rank, &'a Entry<T>)> + use<'a, T> {
        self.keys.find(key).filter_map(|(rank, slot)| Some((rank, self.entries.get(&slot)?)))
    }

    /// Changes what is known of an object beside itself.
    pub(super) fn change(&mut self, uid: &str, change: impl FnOnce(&mut T::State)) -> Noted<T> {
        let mut noted = Noted::nothing();
        let Some(slot) = self.slot_of_uid(uid) else { return noted };
        let Some(entry) = self.entries.get_mut(&slot) else { return noted };
        let before = entry.facts();
        change(&mut entry.state);
        noted.changes.extend(self.changed(slot, before));
        noted
    }

    /// Takes in an object as a source has it, unless what is known is newer.
    fn take(&mut self, object: T, source: Source) -> Noted<T> {
        let (uid, name, version) = (uid_of(&object), Named::of(&object), version_of(&object));
        let mut noted = Noted::nothing();
        match self.judge(&uid, &name, version, source) {
            Verdict::Stale => return noted,
            Verdict::True => {}
            // A list is how things stand now; whether the others must be listed again is seen by its version.
            Verdict::WentBack => noted.relist = !matches!(source, Source::List(_)),
        }
        self.gone.resurrect(&uid);
        let known = self.slot_of_name(&name);
        let replaced = known.filter(|slot| self.entries.get(slot).is_some_and(|it| *it.uid() != *uid));
        noted.changes.extend(replaced.and_then(|slot| self.bury(slot)));
        let wakes = Fingerprint::of(&object);
        let slot = if let Some(slot) = known.filter(|_| replaced.is_none()) {
            let is_known = self.entries.get(&slot).is_some_and(|it| it.version == version);
            // Of a restored API server, one version may stand for two states.
            if !is_known || matches!(source, Source::List(_) | Source::Get(_)) {
                noted.changes.extend(self.replace(slot, object, version));
            }
            slot
        } else {
            let (slot, change) = self.insert(object, version);
            noted.changes.push(change);
            slot
        };
        let Some(entry) = self.entries.get_mut(&slot) else { return noted };
        match source {
            Source::Watch | Source::List(_) => {
                let before = std::mem::replace(&mut entry.woken, wakes);
                entry.watched = version;
                let is_new = before.content == 0 || entry.due.as_ref().is_some_and(|due| due.is_new);
                let due = (before != wakes).then_some(Due { object: name, is_new });
                match source {
                    Source::List(_) => entry.due = due.or(entry.due.take()),
                    _ => noted.due.extend(due),
                }
            }
            // Its finalizers are what we have made of them. What else has changed, the watch will bring.
            Source::Write => entry.woken.finalizers = wakes.finalizers,
            Source::Get(_) => {}
        }
        noted
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

    fn insert(&mut self, object: T, version: u64) -> (Slot, Change<T>) {
        let slot = self.next;
        self.next = Slot(slot.0 + 1);
        let (uid, name, at) = (uid_of(&object), Named::of(&object), self.tick());
        self.keys.insert(&Key::Uid(&uid), 0, slot);
        self.keys.insert(&Key::Name(&name), 0, slot);
        let entry = Entry {
            object: Arc::new(object),
            state: T::State::default(),
            version,
            at,
            watched: 0,
            listed: Moment::default(),
            woken: Fingerprint::default(),
            due: None,
        };
        let after = entry.facts();
        for (key, rank) in T::keys(&after) {
            self.keys.insert(&key, rank, slot);
        }
        self.entries.insert(slot, entry);
        (slot, Change { name, before: None, after: Some(after), state: None })
    }

    fn replace(&mut self, slot: Slot, object: T, version: u64) -> Option<Change<T>> {
        let at = self.tick();
        let entry = self.entries.get_mut(&slot)?;
        let before = entry.facts();
        T::succeed(&mut entry.state, &before, &object);
        entry.object = Arc::new(object);
        (entry.version, entry.at) = (version, at);
        self.changed(slot, before)
    }

    /// Brings the keys of an object up to date; nothing where they are.
    fn changed(&mut self, slot: Slot, before: T::Facts) -> Option<Change<T>> {
        let entry = self.entries.get(&slot)?;
        let after = entry.facts();
        if before == after {
            return None;
        }
        for (key, rank) in T::keys(&before) {
            self.keys.remove(&key, rank, slot);
        }
        for (key, rank) in T::keys(&after) {
            self.keys.insert(&key, rank, slot);
        }
        let name = entry.name();
        Some(Change { name, before: Some(before), after: Some(after), state: None })
    }

    /// Forgets an object that is gone for good.
    fn bury(&mut self, slot: Slot) -> Option<Change<T>> {
        let entry = self.entries.remove(&slot)?;
        let (uid, name): (Arc<str>, _) = (entry.uid().into(), entry.name());
        let now = self.tick();
        self.gone.bury(uid.clone(), now);
        let before = entry.facts();
        self.keys.remove(&Key::Uid(&uid), 0, slot);
        self.keys.remove(&Key::Name(&name), 0, slot);
        for (key, rank) in T::keys(&before) {
            self.keys.remove(&key, rank, slot);
        }
        Some(Change { name, before: Some(before), after: None, state: Some(entry.state) })
    }

    fn slot_of_uid(&self, uid: &str) -> Option<Slot> {
        let is_it = |slot: &Slot| self.entries.get(slot).is_some_and(|entry| entry.uid() == uid);
        self.keys.find(&Key::Uid(uid)).map(|(_, slot)| slot).find(is_it)
    }

    fn slot_of_name(&self, name: &Named) -> Option<Slot> {
        let is_it = |slot: &Slot| self.entries.get(slot).is_some_and(|entry| entry.is_named(name));
        self.keys.find(&Key::Name(name)).map(|(_, slot)| slot).find(is_it)
    }

    fn tick(&mut self) -> Moment {
        self.now = Moment(self.now.0 + 1);
        self.now
    }

    #[cfg(test)]
    pub(super) fn keys(&self) -> usize {
        self.keys.len()
    }
}

// === impl Entry ===

impl<T: Kept> Entry<T> {
    pub(super) fn uid(&self) -> &str {
        self.object.meta().uid.as_deref().unwrap_or_default()
    }

    pub(super) fn facts(&self) -> T::Facts {
        self.object.facts(&self.state)
    }

    pub(super) fn name(&self) -> Named {
        Named::of(&*self.object)
    }

    fn is_in(&self, scope: &Scope) -> bool {
        scope.covers(self.object.meta().namespace.as_deref().unwrap_or_default())
    }

    fn is_named(&self, name: &Named) -> bool {
        let meta = self.object.meta();
        meta.name.as_deref() == Some(&name.name)
            && meta.namespace.as_deref().unwrap_or_default() == name.namespace
    }
}

// === impl Noted ===

impl<T: Kept> Noted<T> {
    pub(super) fn nothing() -> Self {
        Self { changes: Vec::new(), due: Vec::new(), relist: false }
    }
}

// === impl Fingerprint ===

impl Fingerprint {
    fn of(object: &impl Resource) -> Self {
        let meta = object.meta();
        let content = (meta.generation, &meta.annotations, meta.deletion_timestamp.is_some());
        Self { content: hash(&content) | 1, finalizers: hash(&meta.finalizers) }
    }
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn uid_of(object: &impl Resource) -> Arc<str> {
    object.meta().uid.as_deref().unwrap_or_default().into()
}

/// Versions are numbers that grow. Source: Kubernetes' API concepts, "Resource versions".
fn version_of(object: &impl Resource) -> u64 {
    object.meta().resource_version.as_deref().and_then(|version| version.parse().ok()).unwrap_or_default()
}
