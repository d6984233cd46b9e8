//! Kubernetes events, through events.k8s.io/v1. Publishing never fails a reconcile and rarely delays it: events are
//! published in the background, warnings first.
//!
//! kube's recorder groups events without comparing their notes, and would repeat an earlier cause for a later,
//! different one. So each note is a separate event, emitted on transitions only. An equal event of the same object is
//! not repeated for a while, because an object whose state alternates would fill the list.

use crate::core::event::EventBody;
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

use self::dedup::EventDedup;
use crate::api::{FIELD_MANAGER, GROUP};
use crate::core::error_chain::chain;

/// Longest note that the API server takes, in bytes.
const MAX_NOTE_LENGTH: usize = 1024;

/// Length of each of the two queues, for warnings and for other events. If one is full, emitting waits.
const CAPACITY: usize = 1000;

/// How often the operator tries to send an event before it drops it.
const ATTEMPTS: usize = 3;

/// Events that are published concurrently.
const CONCURRENCY: usize = 4;

#[derive(Clone)]
pub struct Events {
    client: Client,
    instance: String,
    time_out: Duration,
    dedup: Arc<EventDedup>,
    deployment: Option<Arc<ObjectReference>>,
    warnings: mpsc::Sender<QueuedEvent>,
    others: mpsc::Sender<QueuedEvent>,
    /// The receivers of both queues, until [`Events::run`] takes them.
    receivers: Arc<Mutex<Option<Receivers>>>,
    unpublished: TaskTracker,
}

/// An event that is not published yet.
#[derive(Debug)]
struct QueuedEvent {
    regarding: ObjectReference,
    event: EventBody,
    _unpublished: TaskTrackerToken,
}

#[derive(Debug)]
struct Receivers {
    warnings: mpsc::Receiver<QueuedEvent>,
    others: mpsc::Receiver<QueuedEvent>,
}

/// The result of an attempt to send an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum SendResult {
    /// The API server stored it.
    Sent,
    /// It may succeed later.
    Retry,
    /// The API server will never accept it.
    Rejected,
}

// === impl Events ===

impl Events {
    /// `instance` names this instance of the operator, such as its pod. An equal event of the same object is emitted
    /// again after `repeats_after`.
    pub fn new(client: Client, instance: String, time_out: Duration, repeats_after: Duration) -> Self {
        let (warnings, warned) = mpsc::channel(CAPACITY);
        let (others, other) = mpsc::channel(CAPACITY);
        let receivers = Receivers { warnings: warned, others: other };
        Self {
            client,
            instance,
            time_out,
            dedup: Arc::new(EventDedup::new(repeats_after)),
            deployment: None,
            warnings,
            others,
            receivers: Arc::new(Mutex::new(Some(receivers))),
            unpublished: TaskTracker::new(),
        }
    }

    /// Also publishes events about orphaned credentials on the operator's own Deployment of that name.
    pub async fn with_deployment(self, namespace: &str, deployment: &str) -> Self {
        let deployment = deployment::find(&self.client, self.time_out, namespace, deployment).await;
        Self { deployment: Some(Arc::new(deployment)), ..self }
    }

    /// Publishes that a credential was orphaned, about the object and on the operator's own Deployment. The object is
    /// deleted, and its namespace may be terminating, which rejects events.
    pub async fn publish_orphan(&self, regarding: &ObjectReference, event: &EventBody) {
        if let Some(deployment) = &self.deployment {
            let text = |part: &Option<String>| part.clone().unwrap_or_default();
            let (kind, namespace) = (text(&regarding.kind), text(&regarding.namespace));
            let text = format!("{kind} {namespace}/{}: {}", text(&regarding.name), event.text);
            self.publish(deployment, &EventBody { text, ..event.clone() }).await;
        }
        self.publish(regarding, event).await;
    }

    /// Publishes emitted events, warnings first, until it is dropped.
    pub async fn run(self) {
        let receivers = self.receivers.lock().take();
        let Some(Receivers { mut warnings, mut others }) = receivers else { return };
        let next = stream::poll_fn(move |cx| match warnings.poll_recv(cx) {
            Poll::Pending => others.poll_recv(cx),
            ready @ Poll::Ready(_) => ready,
        });
        let deliver = async |it: QueuedEvent| {
            let _is_final = self.deliver(&it.regarding, &it.event).await;
        };
        next.for_each_concurrent(CONCURRENCY, deliver).await;
    }

    /// Queues an event about an object. Waits only if the queue is full.
    pub async fn emit(&self, regarding: &ObjectReference, event: &EventBody) {
        let queue = if event.is_warning { &self.warnings } else { &self.others };
        // Deduplicated only when the queue has space: a reconcile that is canceled while it waits has emitted nothing.
        let Ok(space) = queue.reserve().await else {
            tracing::warn!(reason = event.reason, "events are no longer published; dropped one");
            return;
        };
        if self.dedup.should_emit(regarding, event) {
            let (regarding, event) = (regarding.clone(), event.clone());
            space.send(QueuedEvent { regarding, event, _unpublished: self.unpublished.token() });
        }
    }

    /// Waits until all emitted events are published, at most `within`.
    pub async fn drain(&self, within: Duration) {
        self.unpublished.close();
        if tokio::time::timeout(within, self.unpublished.wait()).await.is_err() {
            let left = self.unpublished.len();
            tracing::warn!(left, "dropped events that were still waiting to be published");
        }
    }

    /// Publishes an event about an object, and waits for the result.
    pub async fn publish(&self, regarding: &ObjectReference, event: &EventBody) {
        if self.dedup.should_emit(regarding, event) {
            let _is_final = self.deliver(regarding, event).await;
        }
    }

    /// Publishes expiry notices before the status records them, so that a status write whose response is lost cannot
    /// hide one. Returns the other events, and whether the status may record the notices.
    pub async fn publish_notice(
        &self,
        regarding: &ObjectReference,
        events: Vec<EventBody>,
    ) -> (Vec<EventBody>, bool) {
        let (notices, others): (Vec<_>, Vec<_>) =
            events.into_iter().partition(|event| event.action == crate::core::expiry::ACTION);
        let mut are_published = true;
        for notice in &notices {
            are_published &=
                !self.dedup.should_emit(regarding, notice) || self.deliver(regarding, notice).await;
        }
        (others, are_published)
    }

    /// Sends an event, with retries. Returns whether sending it later would be useless.
    async fn deliver(&self, regarding: &ObjectReference, event: &EventBody) -> bool {
        let object = self.event(regarding, event);
        for attempt in 1..=ATTEMPTS {
            match self.send(&object).await {
                SendResult::Sent => return true,
                SendResult::Retry if attempt < ATTEMPTS => tokio::time::sleep(self.time_out / 5).await,
                result @ (SendResult::Retry | SendResult::Rejected) => {
                    // The next reconcile with the same result emits it again.
                    self.dedup.forget(regarding, event);
                    return result == SendResult::Rejected;
                }
            }
        }
        false
    }

    /// The object to create. Its name is unique, so that the API server recognizes a retry.
    fn event(&self, regarding: &ObjectReference, event: &EventBody) -> Event {
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
            action: Some(event.action.to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(full_note(event)),
            reason: Some(event.reason.to_owned()),
            regarding: Some(regarding.clone()),
            reporting_controller: Some(format!("{GROUP}/{FIELD_MANAGER}")),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if event.is_warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        }
    }

    async fn send(&self, event: &Event) -> SendResult {
        let namespace = event.metadata.namespace.as_deref().unwrap_or_default();
        let create = async {
            let body = serde_json::to_vec(event).map_err(kube::Error::SerdeError)?;
            let request = Request::new(Event::url_path(&(), Some(namespace)));
            let request = request.create(&PostParams::default(), body).map_err(kube::Error::BuildRequest)?;
            // The event in the response is not needed.
            self.client.request_text(request).await
        };
        let (error, result) = match tokio::time::timeout(self.time_out, create).await {
            Ok(Ok(_)) => return SendResult::Sent,
            // An attempt whose response was lost created it.
            Ok(Err(kube::Error::Api(status))) if status.reason == "AlreadyExists" => return SendResult::Sent,
            Ok(Err(kube::Error::Api(status))) if is_final(status.code) => {
                (status.message, SendResult::Rejected)
            }
            Ok(Err(error)) => (chain(&error), SendResult::Retry),
            Err(_) => (format!("no response within {:?}", self.time_out), SendResult::Retry),
        };
        let name = event.metadata.name.as_deref();
        tracing::warn!(error, namespace, name, reason = event.reason, "failed to publish an event");
        result
    }
}

/// Whether the API server rejects an event permanently with that status code, such as in a terminating namespace.
fn is_final(code: u16) -> bool {
    (400..500).contains(&code) && ![401, 408, 409, 429].contains(&code)
}

/// Text and request ids, truncated to the length of a note.
fn full_note(event: &EventBody) -> String {
    if event.request_ids.is_empty() {
        return truncated(&event.text, MAX_NOTE_LENGTH).to_owned();
    }
    let ids = truncated(&event.request_ids, MAX_NOTE_LENGTH / 2);
    let room = MAX_NOTE_LENGTH.saturating_sub(ids.len() + " []".len());
    format!("{} [{ids}]", truncated(&event.text, room))
}

/// The text, truncated to that many bytes at a character boundary.
fn truncated(text: &str, longest: usize) -> &str {
    text.split_at(text.floor_char_boundary(longest)).0
}

pub mod dedup;
pub mod deployment;
#[cfg(test)]
mod tests;
