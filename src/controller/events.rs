//! Events for people, through events.k8s.io/v1. Publishing can never fail a pass.
//!
//! kube's own recorder groups events without looking at their note, and would send a first cause again for
//! a later, different one; so each note is published as an event of its own, on transitions only.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use super::report::Note;
use crate::resources::{FIELD_MANAGER, GROUP};
use crate::telemetry::logs::chain;

/// Longest note that the API server takes, in bytes.
const LONGEST_NOTE: usize = 1024;

/// Publishes events.
#[derive(Clone)]
pub struct Events {
    client: Client,
    instance: String,
    time_out: Duration,
}

// === impl Events ===

impl Events {
    /// Events of this instance of the operator, such as its pod's name.
    pub fn new(client: Client, instance: String, time_out: Duration) -> Self {
        Self { client, instance, time_out }
    }

    /// Publishes a note about an object.
    pub async fn publish(&self, regarding: &ObjectReference, note: &Note) {
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
            note: Some(bounded(&note.text).to_owned()),
            reason: Some(note.reason.to_owned()),
            regarding: Some(regarding.clone()),
            reporting_controller: Some(format!("{GROUP}/{FIELD_MANAGER}")),
            reporting_instance: Some(self.instance.clone()),
            type_: Some(if note.is_warning { "Warning" } else { "Normal" }.to_owned()),
            ..Event::default()
        };
        let events: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let params = PostParams::default();
        match tokio::time::timeout(self.time_out, events.create(&params, &event)).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(
                error = chain(&error),
                namespace,
                name,
                reason = note.reason,
                "failed to publish an event"
            ),
            Err(_) => {
                tracing::warn!(namespace, name, reason = note.reason, "publishing an event took too long");
            }
        }
    }
}

/// The text cut to the longest note, at a character's end.
fn bounded(text: &str) -> &str {
    let end = (0..=LONGEST_NOTE.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text.get(..end.unwrap_or(0)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_note_is_cut_at_a_characters_end() {
        let long = "ü".repeat(600);
        assert_eq!(bounded(&long).len(), 1024);
        assert_eq!(bounded(&format!("x{long}")).len(), 1023);
        assert_eq!(bounded("short"), "short");
    }
}
