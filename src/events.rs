//! Events for people, through events.k8s.io/v1. Publishing can never fail a reconcile, and mostly does not delay it: events
//! are published in the background, in the order of their urgency.
//!
//! kube's own recorder groups events without looking at their note, and would send a first cause again for
//! a later, different one; so each note is published as an event of its own, on transitions only. What was told of an
//! object a moment ago, in the same words, is not told again: an object whose state goes to and fro would fill the list.

pub mod expiry;
mod home;
mod note;
mod told;

use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::{StreamExt, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::core::request::Request;
use kube::{Client, Resource};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

pub use self::note::Note;
use self::told::Told;
use crate::resources::{FIELD_MANAGER, GROUP};
use crate::telemetry::logs::chain;

/// Longest note that the API server takes, in bytes.
const LONGEST_NOTE: usize = 1024;

/// How many warnings, and how many other events, may wait to be published. If there are more, emitting one waits.
const CAPACITY: usize = 1000;

/// How often an event is sent until it is dropped.
const ATTEMPTS: usize = 3;

/// Events that are published at a time.
const AT_A_TIME: usize = 4;

#[derive(Clone)]
pub struct Events {
    client: Client,
    instance: String,
    time_out: Duration,
    told: Arc<Told>,
    home: Option<Arc<ObjectReference>>,
    warnings: mpsc::Sender<Waiting>,
    others: mpsc::Sender<Waiting>,
    /// What is sent to both, until [`Events::run`] takes it.
    receivers: Arc<Mutex<Option<Receivers>>>,
    unpublished: TaskTracker,
}

/// A note that waits to be published about an object.
#[derive(Debug)]
struct Waiting {
    regarding: ObjectReference,
    note: Note,
    _unpublished: TaskTrackerToken,
}

#[derive(Debug)]
struct Receivers {
    warnings: mpsc::Receiver<Waiting>,
    others: mpsc::Receiver<Waiting>,
}

/// What became of an attempt to send an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    /// The API server has it.
    Yes,
    /// Not yet.
    No,
    /// The API server will never take it.
    Never,
}

// === impl Events ===

impl Events {
    /// Events of this instance of the operator, such as its pod's name. The same of the same object is told again
    /// `repeats_after`.
    pub fn new(client: Client, instance: String, time_out: Duration, repeats_after: Duration) -> Self {
        let (warnings, warned) = mpsc::channel(CAPACITY);
        let (others, other) = mpsc::channel(CAPACITY);
        let receivers = Receivers { warnings: warned, others: other };
        Self {
            client,
            instance,
            time_out,
            told: Arc::new(Told::new(repeats_after)),
            home: None,
            warnings,
            others,
            receivers: Arc::new(Mutex::new(Some(receivers))),
            unpublished: TaskTracker::new(),
        }
    }

    /// The same, which also tell on the operator's own Deployment of that name what was left behind.
    pub async fn with_home(self, namespace: &str, deployment: &str) -> Self {
        let home = home::find(&self.client, self.time_out, namespace, deployment).await;
        Self { home: Some(Arc::new(home)), ..self }
    }

    /// Publishes that something was left behind: on the operator's own Deployment, for the object is gone and its namespace
    /// may go as well and take no event any more; and about the object.
    pub async fn publish_orphan(&self, regarding: &ObjectReference, note: &Note) {
        if let Some(home) = &self.home {
            let word = |part: &Option<String>| part.clone().unwrap_or_default();
            let (kind, namespace) = (word(&regarding.kind), word(&regarding.namespace));
            let text = format!("{kind} {namespace}/{}: {}", word(&regarding.name), note.text);
            self.publish(home, &Note { text, ..note.clone() }).await;
        }
        self.publish(regarding, note).await;
    }

    /// Publishes in the background what is emitted, warnings first, until this is dropped.
    pub async fn run(self) {
        let receivers = self.receivers.lock().take();
        let Some(Receivers { mut warnings, mut others }) = receivers else { return };
        let next = stream::poll_fn(move |cx| match warnings.poll_recv(cx) {
            Poll::Pending => others.poll_recv(cx),
            ready @ Poll::Ready(_) => ready,
        });
        let deliver = async |it: Waiting| {
            let _is_done_with = self.deliver(&it.regarding, &it.note).await;
        };
        next.for_each_concurrent(AT_A_TIME, deliver).await;
    }

    /// Has a note about an object published soon; waits only where very many are to be published.
    pub async fn emit(&self, regarding: &ObjectReference, note: &Note) {
        let queue = if note.is_warning { &self.warnings } else { &self.others };
        // A note counts as told once it has room: a reconcile that is ended while it waits has told nothing.
        let Ok(room) = queue.reserve().await else {
            tracing::warn!(reason = note.reason, "events are no longer published, and this one is dropped");
            return;
        };
        if self.told.is_news(regarding, note) {
            let (regarding, note) = (regarding.clone(), note.clone());
            room.send(Waiting { regarding, note, _unpublished: self.unpublished.token() });
        }
    }

    /// Waits until everything that was emitted is published, for at most that long.
    pub async fn drain(&self, within: Duration) {
        self.unpublished.close();
        if tokio::time::timeout(within, self.unpublished.wait()).await.is_err() {
            let left = self.unpublished.len();
            tracing::warn!(left, "events were still waiting to be published, and are dropped");
        }
    }

    /// Publishes a note about an object, and waits for it.
    pub async fn publish(&self, regarding: &ObjectReference, note: &Note) {
        if self.told.is_news(regarding, note) {
            let _is_done_with = self.deliver(regarding, note).await;
        }
    }

    /// Publishes the notice of an expiry that may be among some notes, before the status says that it was given: a write whose
    /// answer is lost must not hide it. Returns the other notes, and whether the status may say so.
    pub async fn publish_notice(&self, regarding: &ObjectReference, notes: Vec<Note>) -> (Vec<Note>, bool) {
        let (notices, others): (Vec<_>, Vec<_>) =
            notes.into_iter().partition(|note| note.action == expiry::ACTION);
        let mut are_given = true;
        for notice in &notices {
            are_given &= !self.told.is_news(regarding, notice) || self.deliver(regarding, notice).await;
        }
        (others, are_given)
    }

    /// Sends a note, and tries again a little later where that fails for now. Returns whether there is no use in sending it
    /// later.
    async fn deliver(&self, regarding: &ObjectReference, note: &Note) -> bool {
        let event = self.event(regarding, note);
        for attempt in 1..=ATTEMPTS {
            match self.send(&event).await {
                Sent::Yes => return true,
                Sent::No if attempt < ATTEMPTS => tokio::time::sleep(self.time_out / 5).await,
                sent @ (Sent::No | Sent::Never) => {
                    // The next one that finds the same tells it.
                    self.told.forget(regarding, note);
                    return sent == Sent::Never;
                }
            }
        }
        false
    }

    /// An event with a name of its own, by which the API server knows it again when it is sent once more.
    fn event(&self, regarding: &ObjectReference, note: &Note) -> Event {
        let now = Timestamp::now();
        let name = regarding.name.as_deref().unwrap_or_default();
        // Room for the time within the 253 characters of a name.
        let name = name.get(..220).unwrap_or(name).trim_end_matches(['.', '-']);
        let name = format!("{name}.{:x}", now.as_nanosecond());
        Event {
            metadata: ObjectMeta {
                name: Some(name),
                namespace: regarding.namespace.clone(),
                ..ObjectMeta::default()
            },
            action: Some(note.action.to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(whole(note)),
            reason: Some(note.reason.to_owned()),
            regarding: Some(regarding.clone()),
            reporting_controller: Some(format!("{GROUP}/{FIELD_MANAGER}")),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if note.is_warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        }
    }

    async fn send(&self, event: &Event) -> Sent {
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        let create = async {
            let body = serde_json::to_vec(event).map_err(kube::Error::SerdeError)?;
            let request = Request::new(Event::url_path(&(), Some(namespace)));
            let request = request.create(&PostParams::default(), body).map_err(kube::Error::BuildRequest)?;
            // Nobody reads the event that the API server answers with.
            self.client.request_text(request).await
        };
        let (failed, sent) = match tokio::time::timeout(self.time_out, create).await {
            Ok(Ok(_)) => return Sent::Yes,
            // By an attempt whose answer did not come.
            Ok(Err(kube::Error::Api(answer))) if answer.reason == "AlreadyExists" => return Sent::Yes,
            Ok(Err(kube::Error::Api(answer))) if is_final(answer.code) => (answer.message, Sent::Never),
            Ok(Err(error)) => (chain(&error), Sent::No),
            Err(_) => (format!("no answer within {:?}", self.time_out), Sent::No),
        };
        let name = event.metadata.name.as_deref();
        tracing::warn!(error = failed, namespace, name, reason = event.reason, "failed to publish an event");
        sent
    }
}

/// Whether the API server refuses an event for good with that code, such as in a namespace that is terminating.
fn is_final(code: u16) -> bool {
    (400..500).contains(&code) && ![401, 408, 409, 429].contains(&code)
}

/// Text and ids, together no longer than a note may be.
fn whole(note: &Note) -> String {
    if note.ids.is_empty() {
        return bounded(&note.text, LONGEST_NOTE).to_owned();
    }
    let ids = bounded(&note.ids, LONGEST_NOTE / 2);
    let room = LONGEST_NOTE.saturating_sub(ids.len() + " []".len());
    format!("{} [{ids}]", bounded(&note.text, room))
}

/// The text cut to that many bytes, at a character's end.
fn bounded(text: &str, longest: usize) -> &str {
    text.split_at(text.floor_char_boundary(longest)).0
}

#[cfg(test)]
mod tests;
