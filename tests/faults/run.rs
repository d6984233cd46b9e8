//! A run: one account at Woodpecker, its objects, and what must be true of both in the end.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use graph_credential_operator::resources::MicrosoftGraphCredential;
use graph_credential_operator::resources::conditions::{ConditionStatus, ConditionType};
use jiff::{SignedDuration, Timestamp};
use kit::woodpecker::{Credential, Request, Woodpecker};
use kube::ResourceExt;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::script::{Act, Policy, Start};
use crate::stage::{EXPIRY, TENANT, condition};
use crate::world::World;

/// How many secrets an app has at Microsoft.
const SECRETS: usize = 16;

/// How long a deleted object may take to go while faults still strike, before it is made again.
const TO_GO: Duration = Duration::from_secs(60);

pub struct Run {
    pub account: String,
    pub objects: Vec<Object>,
    strangers: Vec<Credential>,
}

/// An object as its owner wants it.
pub struct Object {
    pub name: String,
    client: String,
    secret: usize,
    display_name: Option<String>,
    policy: Policy,
    suspended: bool,
    /// The credential that it finds.
    foreign: Option<i64>,
    /// Whether it had another policy before.
    had_another_policy: bool,
    fate: Fate,
}

/// What must be there for an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It was not made yet.
    Unborn,
    /// The object, and one credential.
    Lives,
    /// No object, and no credential.
    Removed,
    /// No object, and what was registered at its end; where nothing was yet, what its last create has made.
    Left(Option<i64>),
}

pub type Find<'a> = &'a dyn Fn(&str) -> Option<Arc<MicrosoftGraphCredential>>;

// === impl Run ===

impl Run {
    /// Sets up the account with strangers in it, the apps with their secrets and the objects' Secrets. `number` tells the
    /// apps of a world's runs apart.
    pub async fn set(world: &World, name: &str, number: u64, starts: &[Start]) -> Self {
        let stage = &world.stage;
        let key = format!("key-of-{name}");
        stage.woodpecker.add_account(name, &key);
        let mut objects = Vec::new();
        for (index, start) in starts.iter().enumerate() {
            let object = Object::new(name, number, index);
            stage.entra.add_app(TENANT, &object.client);
            let secrets: Vec<String> = (0..SECRETS).map(|n| object.nth_secret(n)).collect();
            let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
            stage.entra.set_secrets(TENANT, &object.client, &secrets);
            objects.push(object.starting(&stage.woodpecker, name, *start));
        }
        let strangers = strangers(&stage.woodpecker, name, &objects[0], &stage.namespace);
        let run = Self { account: name.to_owned(), objects, strangers };
        for object in &run.objects {
            object.write_secret(world).await;
        }
        stage.secret(&format!("{name}-key"), &[("api_key", &key)]).await;
        run
    }

    /// Makes the account's object.
    pub async fn open(&self, world: &World) {
        world.stage.apply_account(&self.account, json!({})).await;
    }

    pub fn names(&self) -> Vec<String> {
        self.objects.iter().map(|object| object.name.clone()).collect()
    }

    pub async fn act(&mut self, world: &World, act: Act) {
        match act {
            Act::Make(index, policy) => self.make(world, index, policy).await,
            Act::Rotate(index) => {
                let object = &mut self.objects[index];
                object.secret = (object.secret + 1) % SECRETS;
                object.write_secret(world).await;
            }
            Act::Rename(index) => {
                let object = &mut self.objects[index];
                let nth = object.display_name.as_ref().map_or(0, String::len);
                object.display_name = Some(format!("{} {}", object.name, "x".repeat(nth % 7 + 1)));
                self.apply(world, index).await;
            }
            Act::SetPolicy(index, policy) => {
                let object = &mut self.objects[index];
                object.had_another_policy |= object.policy != policy;
                object.policy = policy;
                self.apply(world, index).await;
            }
            Act::Suspend(index, suspended) => {
                self.objects[index].suspended = suspended;
                self.apply(world, index).await;
            }
            Act::Delete(index) => self.delete(world, index).await,
            Act::Strike(op, outcome, times) => {
                world.stage.woodpecker.fail_account_next(&self.account, op, times, outcome.fault(op));
            }
        }
    }

    /// Where an earlier one of the name has left something, it stays away: what that is belongs to nobody any more.
    async fn make(&mut self, world: &World, index: usize, policy: Policy) {
        let object = &mut self.objects[index];
        if let Fate::Left(_) = object.fate {
            return;
        }
        if object.fate == Fate::Removed {
            let deadline = Instant::now() + TO_GO;
            let api = world.stage.api::<MicrosoftGraphCredential>();
            while api.get_opt(&object.name).await.expect("it can be asked for").is_some() {
                if Instant::now() >= deadline {
                    // The verdict tells what keeps it.
                    return;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        (object.fate, object.policy, object.suspended) = (Fate::Lives, policy, false);
        object.had_another_policy = false;
        self.apply(world, index).await;
    }

    async fn apply(&self, world: &World, index: usize) {
        let object = &self.objects[index];
        if object.fate == Fate::Lives {
            world.stage.credential(&object.name, object.spec(&self.account)).await;
        }
    }

    async fn delete(&mut self, world: &World, index: usize) {
        let object = &mut self.objects[index];
        if object.fate != Fate::Lives {
            return;
        }
        let api = world.stage.api::<MicrosoftGraphCredential>();
        let before = api.get(&object.name).await.expect("it is there");
        let deleted = api.delete(&object.name, &DeleteParams::default()).await.expect("it can be deleted");
        // Whose policy has just become Delete may not have the finalizer yet, and is gone before the operator knows.
        let waits = deleted.is_left() || !object.had_another_policy;
        let registered = before.status.and_then(|status| status.credential_id);
        let is_removed = object.policy == Policy::Delete && !object.suspended && waits;
        object.fate = match object.foreign {
            Some(id) => Fate::Left(Some(id)),
            None if is_removed => Fate::Removed,
            None => Fate::Left(registered),
        };
    }

    /// The first thing that is not as it should be.
    pub fn trouble(&self, woodpecker: &Woodpecker, find: Find<'_>) -> Option<String> {
        let books = woodpecker.credentials(&self.account);
        if let Some(lost) = self.strangers.iter().find(|stranger| !books.contains(stranger)) {
            return Some(format!("a stranger's credential was touched: {lost:?}"));
        }
        let is_known = |entry: &&Credential| {
            self.strangers.contains(entry)
                || self.objects.iter().any(|object| object.client == entry.client_id)
        };
        if let Some(odd) = books.iter().find(|entry| !is_known(entry)) {
            return Some(format!("nobody knows {odd:?}"));
        }
        self.objects.iter().find_map(|object| {
            let own: Vec<&Credential> =
                books.iter().filter(|entry| entry.client_id == object.client).collect();
            let problem = object.check(find(&object.name).as_deref(), &own).err()?;
            let is_right = |it: &Credential| {
                woodpecker.secret_matches(&self.account, it.credential_id, &object.secret())
            };
            let own: Vec<_> = own.iter().map(|it| (it.credential_id, &it.name, is_right(it))).collect();
            Some(format!(
                "{}: {problem}; books (id, name, right secret): {own:?}; wanted: {:?}",
                object.name, object.fate
            ))
        })
    }

    /// The first two requests that one operator had under way at the same time. Where a request was left without an answer, or
    /// the operator was killed, the double may take the next one for a second one under way: it does not know yet that nobody
    /// waits for the first.
    pub fn overlap(&self, woodpecker: &Woodpecker, kills: &[Timestamp]) -> Option<String> {
        const NOTICED: SignedDuration = SignedDuration::from_millis(500);
        let requests = woodpecker.requests(&self.account);
        let is_unsure = |earlier: &Request, at: Timestamp| {
            let left_alone = ["Hang", "ProcessedThenHang", "Slow"];
            let killed = kills.iter().any(|kill| *kill <= at && at <= *kill + NOTICED);
            killed || earlier.fault.is_some_and(|fault| left_alone.contains(&fault))
        };
        let pairs = requests.iter().zip(requests.iter().skip(1));
        let two = pairs
            .into_iter()
            .find(|(earlier, it)| it.in_flight_at_start > 1 && !is_unsure(earlier, it.at))?;
        Some(format!("two requests at once: {:?}", two))
    }

    /// All that helps to understand a failure.
    pub fn story(&self, world: &World) -> String {
        let mut story = String::new();
        for request in world.stage.woodpecker.requests(&self.account) {
            let _ = writeln!(
                story,
                "{} {:?} id={:?} → {:?} effect={} fault={:?} {}",
                request.at.strftime("%T%.3f"),
                request.op,
                request.credential_id,
                request.status,
                request.took_effect,
                request.fault,
                self.which_secret(&request),
            );
        }
        let _ = writeln!(
            story,
            "killed at {:?}",
            world.crew.times().iter().map(|at| at.strftime("%T%.3f").to_string()).collect::<Vec<_>>()
        );
        for name in self.names() {
            let seen = world.seen(&name);
            let _ = writeln!(story, "{name}: {}", seen.map_or("gone".to_owned(), |it| json!({"metadata": {"deletionTimestamp": it.metadata.deletion_timestamp, "finalizers": it.metadata.finalizers, "generation": it.metadata.generation}, "status": it.status}).to_string()));
        }
        let names = [self.names(), vec![self.account.clone()]].concat();
        story + &world.crew.log_tail(&names)
    }

    fn which_secret(&self, request: &Request) -> String {
        let name = request.body_without_secret["name"].as_str().unwrap_or_default();
        let all = self.objects.iter().flat_map(|object| (0..SECRETS).map(move |n| (object, n)));
        let found = all
            .into_iter()
            .find(|(object, n)| request.had_secret && request.secret_is(&object.nth_secret(*n)));
        match found {
            Some((object, n)) => format!("secret {n} of {} {name}", object.name),
            None => name.to_owned(),
        }
    }
}

// === impl Object ===

impl Object {
    fn new(account: &str, number: u64, index: usize) -> Self {
        Self {
            name: format!("{account}-{index}"),
            client: format!("{index:08x}-0000-4000-8000-{number:012x}"),
            secret: 0,
            display_name: None,
            policy: Policy::Retain,
            suspended: false,
            foreign: None,
            had_another_policy: false,
            fate: Fate::Unborn,
        }
    }

    fn starting(mut self, woodpecker: &Woodpecker, account: &str, start: Start) -> Self {
        if start == Start::Foreign {
            let theirs = Credential::new(TENANT, &self.client, "their secret", EXPIRY, "by hand");
            self.foreign = Some(woodpecker.put(account, theirs));
        }
        self
    }

    fn nth_secret(&self, n: usize) -> String {
        format!("secret-{n}-of-{}", self.name)
    }

    fn secret(&self) -> String {
        self.nth_secret(self.secret)
    }

    async fn write_secret(&self, world: &World) {
        let values = [("client_secret", self.secret()), ("secret_expires_at", EXPIRY.to_owned())];
        let values = values.each_ref().map(|(key, value)| (*key, value.as_str()));
        world.stage.secret(&format!("{}-graph", self.name), &values).await;
    }

    fn spec(&self, account: &str) -> Value {
        json!({
            "clientId": self.client,
            "displayName": self.display_name,
            "secretRef": {"name": format!("{}-graph", self.name)},
            "destination": {"woodpecker": {"accountRef": {"name": account}}},
            "deletionPolicy": format!("{:?}", self.policy),
            "suspend": self.suspended,
        })
    }

    fn check(&self, object: Option<&MicrosoftGraphCredential>, own: &[&Credential]) -> Result<(), String> {
        match (self.fate, object) {
            (Fate::Lives, None) => Err("it is gone".into()),
            (Fate::Lives, Some(object)) => self.check_living(object, own),
            (_, Some(_)) => Err("it is still there".into()),
            (Fate::Unborn, None) => self.check_left(self.foreign, own),
            (Fate::Removed, None) if own.is_empty() => Ok(()),
            (Fate::Removed, None) => Err("it has left something".into()),
            (Fate::Left(id), None) => self.check_left(id, own),
        }
    }

    fn check_left(&self, id: Option<i64>, own: &[&Credential]) -> Result<(), String> {
        match (id, own) {
            (Some(id), own) if !own.iter().any(|it| it.credential_id == id) => {
                Err(format!("{id} was removed"))
            }
            (_, [] | [_]) => Ok(()),
            (_, _) => Err("it has left more than one credential".into()),
        }
    }

    fn check_living(&self, object: &MicrosoftGraphCredential, own: &[&Credential]) -> Result<(), String> {
        let [own] = own else { return Err(format!("{} credentials", own.len())) };
        let status = object.status.as_ref().ok_or("it has no status")?;
        let is_ready =
            condition(object, ConditionType::Ready).is_some_and(|it| it.status == ConditionStatus::True);
        let name = match (&self.display_name, self.foreign) {
            (Some(name), _) => name.clone(),
            (None, Some(_)) => "by hand".to_owned(),
            (None, None) => object.remote_name(),
        };
        let has_finalizer = !object.finalizers().is_empty();
        let truths = [
            (
                Some(status.observed_generation) == object.metadata.generation,
                "the status is about an earlier spec",
            ),
            (is_ready, "it is not Ready"),
            (status.pending.is_none(), "a create is pending"),
            (status.retiring.is_empty(), "something is retiring"),
            (status.credential_id == Some(own.credential_id), "status.credentialId is another one"),
            (
                status.registration.as_ref().map(|it| it.credential_id) == status.credential_id,
                "the registration is another one",
            ),
            (
                self.foreign.is_none_or(|id| id == own.credential_id),
                "what was to be taken over is not what there is",
            ),
            (own.name == name, "the name is wrong"),
            (own.secret.is(&self.secret()), "the secret is wrong"),
            (own.secret_expires_at.parse::<Timestamp>().ok() == EXPIRY.parse().ok(), "the expiry is wrong"),
            (has_finalizer == (self.policy == Policy::Delete), "the finalizer does not follow the policy"),
        ];
        truths.iter().find(|(is_so, _)| !is_so).map_or(Ok(()), |(_, problem)| Err((*problem).to_owned()))
    }
}

/// Credentials of other apps: one named as an object of ours, one that looks as if it were marked.
fn strangers(woodpecker: &Woodpecker, account: &str, like: &Object, namespace: &str) -> Vec<Credential> {
    let app = "99999999-9999-4999-8999-999999999999";
    let names = [format!("{namespace}/{}", like.name), format!("{} [abcdefghijkm]", like.name)];
    for name in names {
        woodpecker.put(account, Credential::new(TENANT, app, "a stranger's", EXPIRY, &name));
    }
    let books = woodpecker.credentials(account);
    books.into_iter().filter(|entry| entry.client_id == app).collect()
}
