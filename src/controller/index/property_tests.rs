//! Property test: whatever the order of events, the index finally equals one that is built from scratch.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use serde_json::json;

use crate::api::AccountLocation;
use crate::controller::index::tests::{
    account, apply, guard, index, named, object, pending, registration, with_status,
};
use crate::controller::index::*;

/// What happens, to the object of that name if one is given.
#[derive(Clone, Debug)]
enum Step {
    Create(u8),
    /// Its spec is changed to reference that Secret.
    Edit(u8, u8),
    /// It is deleted; with the operator's finalizer it stays.
    Delete(u8),
    /// The operator writes its status.
    WriteStatus(u8, u8),
    /// The operator adds its finalizer, or removes it.
    WriteFinalizer(u8),
    /// The operator sends a GET. The response has the object as it is now, or as it is when the response arrives.
    Ask(u8, bool),
    /// The response to the operator's request arrives.
    Answer(u8),
    /// The watch delivers that many changes.
    Watch(u8),
    /// The watch is interrupted, and a list begins.
    List,
    /// The list delivers that many objects, and ends if there are no more.
    Page(u8),
    /// Etcd is backed up.
    Backup,
    /// Etcd is restored from the backup.
    Restore,
}

/// The response to a request in flight.
enum Answer {
    Written(MicrosoftGraphCredential),
    Read(Moment, Option<MicrosoftGraphCredential>),
    ReadLate(Moment),
}

#[derive(Clone, Default)]
struct Server {
    objects: BTreeMap<u8, MicrosoftGraphCredential>,
    version: u64,
}

/// An API server, the index of an operator, and what is in transit between them.
struct Simulation {
    index: Index,
    server: Server,
    backup: Option<Server>,
    uids: u64,
    /// Changes that the watch has yet to deliver.
    undelivered: VecDeque<Event<ParsedCredential>>,
    /// Whether the watch waits for a resource version in the future.
    is_watch_stuck: bool,
    /// What the list in progress has yet to deliver.
    listing: Option<VecDeque<MicrosoftGraphCredential>>,
    answers: BTreeMap<u8, Answer>,
    wants_list: bool,
    /// The generation of each object when a reconcile was last due.
    due: BTreeMap<String, Option<i64>>,
}

fn name(object: u8) -> String {
    format!("o-{object}")
}

impl Simulation {
    fn new() -> Self {
        Self {
            index: index(),
            server: Server { version: 10, ..Server::default() },
            backup: None,
            uids: 0,
            undelivered: VecDeque::new(),
            is_watch_stuck: true,
            listing: None,
            answers: BTreeMap::new(),
            wants_list: true,
            due: BTreeMap::new(),
        }
    }

    #[allow(clippy::too_many_lines, reason = "one match with an arm for each step")]
    fn step(&mut self, step: &Step) {
        match *step {
            Step::Create(at) if !self.server.objects.contains_key(&at) => {
                self.uids += 1;
                let made = object(&name(at), &format!("u-{}", self.uids), 0, "s-0");
                self.store(at, made);
            }
            Step::Edit(at, to) => self.change(at, |it| {
                it.spec.secret_ref.iter_mut().for_each(|reference| reference.name = format!("s-{to}"));
                it.metadata.generation = it.metadata.generation.map(|before| before + 1);
            }),
            Step::Delete(at) => {
                self.change(at, |it| {
                    it.metadata.deletion_timestamp = it.metadata.creation_timestamp.clone();
                    it.metadata.generation = it.metadata.generation.map(|before| before + 1);
                });
            }
            Step::WriteStatus(at, to) => self.write(at, |it| {
                let status = match to {
                    0 => json!({}),
                    1 => json!({"pendingCreate": pending("s-0", "t")}),
                    2 => {
                        json!({"registration": registration("s-1", 1), "previousRegistrations": [registration("s-0", 2)]})
                    }
                    _ => json!({"registration": registration("s-0", 1)}),
                };
                *it = with_status(it.clone(), status);
            }),
            Step::WriteFinalizer(at) => self.write(at, |it| {
                let has_it = it.metadata.finalizers.take().is_some_and(|all| !all.is_empty());
                it.metadata.finalizers = (!has_it).then(|| vec![crate::api::FINALIZER.to_owned()]);
            }),
            Step::Ask(at, is_late) if !self.answers.contains_key(&at) => {
                let (sent_at, found) =
                    (self.index.now::<MicrosoftGraphCredential>(), self.server.objects.get(&at).cloned());
                let response = if is_late { Answer::ReadLate(sent_at) } else { Answer::Read(sent_at, found) };
                self.answers.insert(at, response);
            }
            Step::Answer(at) => {
                let own = named(&name(at));
                let effects = match self.answers.remove(&at) {
                    Some(Answer::Written(object)) => self.index.on_written(&object),
                    Some(Answer::Read(sent_at, found)) => self.index.on_read(&own, sent_at, found.as_ref()),
                    Some(Answer::ReadLate(sent_at)) => {
                        self.index.on_read(&own, sent_at, self.server.objects.get(&at))
                    }
                    None => return,
                };
                self.follow(effects);
            }
            Step::Watch(changes) if self.listing.is_none() => {
                for _ in 0..changes {
                    let Some(event) = self.undelivered.pop_front() else { break };
                    let effects = self.index.on_watch_event::<MicrosoftGraphCredential>(&Scope::All, 0, event);
                    self.follow(effects);
                }
            }
            Step::List => {
                self.wants_list = false;
                self.is_watch_stuck = false;
                self.undelivered.clear();
                self.listing = Some(self.server.objects.values().cloned().collect());
                let effects = self.index.on_watch_event::<MicrosoftGraphCredential>(&Scope::All, 0, Event::Init);
                self.follow(effects);
            }
            Step::Page(objects) => {
                for _ in 0..objects {
                    let Some(listing) = &mut self.listing else { break };
                    let event = listing
                        .pop_front()
                        .map_or(Event::InitDone, |object| Event::InitApply(guard(&object)));
                    if matches!(event, Event::InitDone) {
                        self.listing = None;
                    }
                    let effects = self.index.on_watch_event::<MicrosoftGraphCredential>(&Scope::All, 0, event);
                    self.follow(effects);
                }
            }
            Step::Backup => self.backup = Some(self.server.clone()),
            Step::Restore => {
                let Some(backup) = self.backup.take() else { return };
                self.server = backup;
                // Its connections end: no more responses or pages arrive, and the watch waits forever.
                self.answers.clear();
                self.listing = None;
                self.is_watch_stuck = true;
                self.wants_list = true;
            }
            Step::Create(_) | Step::Ask(..) | Step::Watch(_) => {}
        }
    }

    /// The operator writes, with the resource version that it knows.
    fn write(&mut self, at: u8, change: impl FnOnce(&mut MicrosoftGraphCredential)) {
        let known = self.index.get::<MicrosoftGraphCredential>(&named(&name(at)));
        let known = known.and_then(|it| it.0.as_ref().ok().map(|it| it.metadata.clone()));
        let is_known = self.server.objects.get(&at).zip(known).is_some_and(|(there, known)| {
            there.metadata.uid == known.uid && there.metadata.resource_version == known.resource_version
        });
        if !is_known || self.answers.contains_key(&at) {
            return;
        }
        let mut written = None;
        self.change(at, |it| {
            change(it);
            written = Some(it.clone());
        });
        if let Some(mut written) = written {
            written.metadata.resource_version = Some(self.server.version.to_string());
            self.answers.insert(at, Answer::Written(written));
        }
    }

    fn change(&mut self, at: u8, change: impl FnOnce(&mut MicrosoftGraphCredential)) {
        let Some(mut object) = self.server.objects.get(&at).cloned() else { return };
        change(&mut object);
        self.store(at, object);
    }

    fn store(&mut self, at: u8, mut object: MicrosoftGraphCredential) {
        self.server.version += 1;
        object.metadata.resource_version = Some(self.server.version.to_string());
        let is_over = object.is_deleted() && object.metadata.finalizers.is_none();
        let event = if is_over { Event::Delete(guard(&object)) } else { Event::Apply(guard(&object)) };
        if is_over {
            self.server.objects.remove(&at);
        } else {
            self.server.objects.insert(at, object);
        }
        if !self.is_watch_stuck {
            self.undelivered.push_back(event);
        }
    }

    fn follow(&mut self, effects: Effects) {
        self.wants_list |= effects.relist;
        for own in effects.due {
            let known =
                self.index.get::<MicrosoftGraphCredential>(&own.object).expect("a due object is known");
            let meta = &known.0.as_ref().unwrap().metadata;
            self.due.insert(meta.uid.clone().unwrap(), meta.generation);
        }
    }

    /// Delivers everything that is in transit.
    fn settle(&mut self) {
        for _ in 0..5 {
            for at in 0..NAMES {
                self.step(&Step::Answer(at));
            }
            self.step(&Step::Page(u8::MAX));
            if self.wants_list {
                self.step(&Step::List);
                self.step(&Step::Page(u8::MAX));
            }
            self.step(&Step::Watch(u8::MAX));
            if !self.wants_list {
                return;
            }
        }
        panic!("it lists forever");
    }
}

const NAMES: u8 = 3;

fn step() -> impl Strategy<Value = Step> {
    let at = 0..NAMES;
    prop_oneof![
        4 => at.clone().prop_map(Step::Create),
        3 => (at.clone(), 0..2_u8).prop_map(|(at, to)| Step::Edit(at, to)),
        3 => at.clone().prop_map(Step::Delete),
        6 => (at.clone(), 0..4_u8).prop_map(|(at, to)| Step::WriteStatus(at, to)),
        4 => at.clone().prop_map(Step::WriteFinalizer),
        3 => (at.clone(), any::<bool>()).prop_map(|(at, is_late)| Step::Ask(at, is_late)),
        8 => at.prop_map(Step::Answer),
        8 => (1..5_u8).prop_map(Step::Watch),
        2 => Just(Step::List),
        5 => (1..4_u8).prop_map(Step::Page),
        1 => Just(Step::Backup),
        1 => Just(Step::Restore),
    ]
}

/// All lookups for these few objects.
fn answers(index: &Index) -> impl PartialEq + std::fmt::Debug {
    let sorted = |mut all: Vec<Referrer>| {
        all.sort();
        all
    };
    let objects: BTreeMap<NamespacedName, MicrosoftGraphCredential> = index
        .all::<MicrosoftGraphCredential>()
        .iter()
        .map(|it| (NamespacedName::of(&**it), it.0.clone().unwrap()))
        .collect();
    let of_objects: Vec<_> =
        objects.keys().map(|own| index.get::<MicrosoftGraphCredential>(own).is_some()).collect();
    let of_references: Vec<_> = ["s-0", "s-1"]
        .into_iter()
        .map(|place| {
            let (mut ids, mut registered) =
                (index.owned_ids_at(&account(place)), index.registered_ids_at(&account(place)));
            ids.sort_unstable();
            registered.sort_unstable();
            let is_used = index.needs_account_for_deletion(&account(place), |_| true);
            let users = index.credentials_at(&account(place)).len();
            (sorted(index.referrers(&named(place))), ids, registered, is_used, users)
        })
        .collect();
    let of_credentials: Vec<_> = [1, 2]
        .into_iter()
        .map(|id| {
            let (tenant, client) =
                (super::tests::TENANT.parse().unwrap(), super::tests::CLIENT.parse().unwrap());
            let place = AccountLocation {
                account: account("s-0"),
                base_url: "https://a.example".into(),
                company_id: None,
            };
            let credential = CredentialRef { tenant: &tenant, client: &client, location: &place, id };
            (
                index.is_current(credential),
                index.other_owner("", credential).is_some(),
                index.is_named(&tenant, &client),
            )
        })
        .collect();
    let keys = index.objects().credentials.keys();
    (objects, of_objects, of_references, of_credentials, keys, index.secrets())
}

/// Compares the index after these steps with one that is built from scratch.
fn check(steps: &[Step]) {
    let mut simulation = Simulation::new();
    simulation.step(&Step::List);
    for step in steps {
        simulation.step(step);
    }
    simulation.settle();
    let scratch = index();
    for object in simulation.server.objects.values() {
        let _new = apply(&scratch, object);
    }
    assert_eq!(answers(&simulation.index), answers(&scratch));
    for object in simulation.server.objects.values() {
        let due = simulation.due.get(object.metadata.uid.as_deref().unwrap_or_default());
        assert_eq!(due, Some(&object.metadata.generation), "every change is reconciled");
    }
}

#[test]
fn an_event_of_a_version_that_a_restore_used_again_hides_no_change() {
    use Step::{Answer, Ask, Backup, Create, Edit, Restore, Watch, WriteStatus};
    check(&[
        Create(0),
        Backup,
        Edit(0, 0),
        Restore,
        Ask(0, false),
        Answer(0),
        WriteStatus(0, 0),
        Answer(0),
        Edit(0, 0),
        Watch(2),
    ]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_order_of_events_leads_to_the_index_that_is_built_from_scratch(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        check(&steps);
    }
}
