//! Events for people, through events.k8s.io/v1. Publishing can never fail a reconcile, and mostly does not delay it: events
//! are published in the background, in the order of their urgency.
//!
//! kube's own recorder groups events without looking at their note, and would send a first cause again for
//! a later, different one; so each note is published as an event of its own, on transitions only. What was told of an
//! object a moment ago, in the same words, is not told again: an object whose state goes to and fro would fill the list.

pub mod expiry;
mod home;
mod note;
mod queue;
mod told;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

pub use self::note::Note;
use self::queue::Queue;
use self::told::Told;
use crate::resources::{FIELD_MANAGER, GROUP};
use crate::telemetry::logs::chain;

/// Longest note that the API server takes, in bytes.
const LONGEST_NOTE: usize = 1024;

/// Events that may wait to be published; beyond that, whoever emits one waits.
const CAPACITY: usize = 1000;

/// How often an event is sent until it is dropped.
const ATTEMPTS: usize = 3;

/// Events that are published at a time.
const AT_A_TIME: usize = 4;

/// Publishes events.
#[derive(Clone)]
pub struct Events {
    client: Client,
    instance: String,
    time_out: Duration,
    told: Arc<Told>,
    home: Option<Arc<ObjectReference>>,
    waiting: Arc<Queue<Key, (ObjectReference, Note)>>,
}

/// Of each object and reason, one event waits.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    uid: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
    reason: &'static str,
}

// === impl Events ===

impl Events {
    /// Events of this instance of the operator, such as its pod's name. The same of the same object is told again
    /// `repeats_after`.
    pub fn new(client: Client, instance: String, time_out: Duration, repeats_after: Duration) -> Self {
        let (told, waiting) = (Arc::new(Told::new(repeats_after)), Arc::new(Queue::new(CAPACITY)));
        Self { client, instance, time_out, told, home: None, waiting }
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

    /// Publishes in the background what is emitted, until this is dropped.
    pub async fn run(self) {
        let worker = async || {
            loop {
                let (regarding, note) = self.waiting.next().await;
                self.publish(&regarding, &note).await;
                self.waiting.done();
            }
        };
        futures::future::join_all((0..AT_A_TIME).map(|_| worker())).await;
    }

    /// Has a note about an object published soon; waits only where very many are to be published.
    pub async fn emit(&self, regarding: &ObjectReference, note: &Note) {
        let key = Key {
            uid: regarding.uid.clone(),
            namespace: regarding.namespace.clone(),
            name: regarding.name.clone(),
            reason: note.reason,
        };
        self.waiting.put(key, (regarding.clone(), note.clone()), note.is_warning).await;
    }

    /// Waits until everything that was emitted is published, for at most that long.
    pub async fn drain(&self, within: Duration) {
        if tokio::time::timeout(within, self.waiting.drained()).await.is_err() {
            tracing::warn!(
                left = self.waiting.len(),
                "events were still waiting to be published, and are dropped"
            );
        }
    }

    /// Publishes a note about an object, and tries again a little later where that fails for now.
    pub async fn publish(&self, regarding: &ObjectReference, note: &Note) {
        if !self.told.is_news(regarding, note) {
            return;
        }
        for attempt in 1..=ATTEMPTS {
            if self.send(regarding, note).await {
                return;
            }
            if attempt < ATTEMPTS {
                tokio::time::sleep(self.time_out / 5).await;
            }
        }
        // The next one that finds the same tells it.
        self.told.forget(regarding, note);
    }

    /// Sends an event. Returns whether there is no use in sending it again.
    async fn send(&self, regarding: &ObjectReference, note: &Note) -> bool {
        let namespace = regarding.namespace.clone().unwrap_or_default();
        let name = regarding.name.clone().unwrap_or_default();
        let event = Event {
            metadata: ObjectMeta {
                // Room for the API server's suffix within the 253 characters of a name.
                generate_name: Some(format!("{}-", name.get(..200).unwrap_or(&name))),
                namespace: Some(namespace.clone()),
                ..ObjectMeta::default()
            },
            action: Some(note.action.to_owned()),
            event_time: Some(MicroTime(Timestamp::now())),
            note: Some(whole(note)),
            reason: Some(note.reason.to_owned()),
            regarding: Some(regarding.clone()),
            reporting_controller: Some(format!("{GROUP}/{FIELD_MANAGER}")),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if note.is_warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let params = PostParams::default();
        let (failed, is_final) = match tokio::time::timeout(self.time_out, events.create(&params, &event))
            .await
        {
            Ok(Ok(_)) => return true,
            // Such as in a namespace that is terminating.
            Ok(Err(kube::Error::Api(answer))) if (400..500).contains(&answer.code) && answer.code != 429 => {
                (answer.message, true)
            }
            Ok(Err(error)) => (chain(&error), false),
            Err(_) => (format!("no answer within {:?}", self.time_out), false),
        };
        tracing::warn!(error = failed, namespace, name, reason = note.reason, "failed to publish an event");
        is_final
    }
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
    let end = (0..=longest.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_at_a_characters_end() {
        let long = "ü".repeat(600);
        assert_eq!(bounded(&long, LONGEST_NOTE).len(), 1024);
        assert_eq!(bounded(&format!("x{long}"), LONGEST_NOTE).len(), 1023);
        assert_eq!(bounded("short", LONGEST_NOTE), "short");
    }

    #[test]
    fn ids_are_kept_where_the_text_is_too_long() {
        let note = |text: &str, ids: &str| {
            let (text, ids) = (text.to_owned(), ids.to_owned());
            whole(&Note { is_warning: true, reason: "Rejected", action: "Verify", text, ids })
        };
        assert_eq!(note("refused", "trace 1"), "refused [trace 1]");
        assert_eq!(note("refused", ""), "refused");
        let long = note(&"x".repeat(2000), "trace 1");
        assert_eq!((long.len(), long.ends_with("x [trace 1]")), (1024, true));
        assert!(note(&"x".repeat(2000), &"y".repeat(2000)).len() <= 1024);
    }
}
