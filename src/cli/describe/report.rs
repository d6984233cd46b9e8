//! The report of `describe`, as text and as JSON.

use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use serde_json::{Value, json};

use crate::api::conditions::ConditionType;
use crate::api::reasons::Actor;
use crate::api::timestamp::rfc3339;
use crate::api::{MicrosoftGraphCredentialStatus, NamespacedName, Registration};
use crate::cli::objects::{ObjectState, Urgency, action_of, age};
use crate::cli::output::{Report, Style, Table, Text};

/// How many events are printed.
const MAX_EVENTS: usize = 10;

/// An object and what belongs to it.
pub(super) struct Description {
    pub(super) state: ObjectState,
    /// The account of a credential, if it could be read.
    pub(super) account: Option<ObjectState>,
    /// The newest first.
    pub(super) events: Vec<Event>,
    pub(super) now: Timestamp,
}

/// A name and its value in a line of the text, and in the JSON.
type Fact = (&'static str, String);

/// When the event was last seen.
pub(super) fn last_seen(event: &Event) -> Option<Timestamp> {
    let series = event.series.as_ref().map(|series| series.last_observed_time.0);
    let legacy = event.deprecated_last_timestamp.as_ref().map(|at| at.0);
    series.or(event.event_time.as_ref().map(|at| at.0)).or(legacy)
}

// === impl Description ===

impl Description {
    /// The state in one sentence.
    fn summary(&self) -> String {
        let state = &self.state;
        let Some(cause) = state.cause() else {
            return "The operator has not reconciled it yet: check that an operator serves its namespace."
                .to_owned();
        };
        let since = age(cause.last_transition_time.0, self.now);
        let word = match state.urgency() {
            Urgency::NeedsAction => "not ready",
            Urgency::ExpiresSoon => "expires soon",
            Urgency::InProgress => "in progress",
            Urgency::Suspended => "suspended",
            Urgency::Ready => "ready",
        };
        format!("{word} for {since}: {} ({})", cause.message, cause.reason)
    }

    fn facts(&self) -> Vec<Fact> {
        let state = &self.state;
        let mut facts = vec![("name", state.name.to_string()), ("state", self.summary())];
        if state.actor() != Actor::Nobody {
            facts.push(("who acts", state.actor().as_str().to_owned()));
            facts.push(("what to do", action_of(state.entry()).to_owned()));
        }
        if state.is_deleted() {
            facts.push(("deletion", "it is being deleted".to_owned()));
        } else if !state.is_current() {
            facts.push(("spec", "changed since the operator last reconciled it".to_owned()));
        }
        facts.extend(self.of_secret());
        facts.extend(self.of_registration());
        if let Some(account) = &self.account {
            let cause = account.cause().map_or("not reconciled yet", |cause| cause.message.as_str());
            facts.push(("account", format!("{}: {cause}", account.name)));
        } else if let Some(account) = state.account() {
            facts.push(("account", account.to_string()));
        }
        facts.extend(self.next().map(|next| ("next", next)));
        facts
    }

    fn of_secret(&self) -> Vec<Fact> {
        let (state, status) = (&self.state, &self.state.status);
        let mut facts = Vec::new();
        let secret = state.text("/spec/secretRef/name").or(state.text("/spec/apiKeySecretRef/name"));
        if let Some(name) = secret {
            facts.push(("secret", format!("{}/{name}", state.name.namespace)));
        }
        if let (Some(at), Some(days)) = (state.expires_at(), state.days_left(self.now)) {
            let when = if days < 0 { format!("{} days ago", -days) } else { format!("in {days} days") };
            facts.push(("expires", format!("{}, {when}", rfc3339(at))));
        }
        if let Some(at) = &status.last_verified_time {
            facts.push(("verified", format!("{}, {} ago", rfc3339(at.0), age(at.0, self.now))));
        }
        if let Some(roles) = &status.observed_roles {
            facts.push(("roles", if roles.is_empty() { "none".to_owned() } else { roles.join(", ") }));
        }
        if let Some(pending) = &status.pending_secret {
            let since = age(pending.first_seen_time.0, self.now);
            let text = format!("{} for {since}, {} attempts", pending.reason, pending.attempts);
            facts.push(("new secret", text));
        }
        facts
    }

    fn of_registration(&self) -> Vec<Fact> {
        let MicrosoftGraphCredentialStatus { registration, previous_registrations, pending_create, .. } =
            &self.state.status;
        let mut facts: Vec<Fact> = registration.iter().map(|it| ("registered", registered(it))).collect();
        facts.extend(previous_registrations.iter().map(|it| ("to delete", registered(it))));
        if let Some(pending) = pending_create {
            let text = format!(
                "a credential with [{}] in its name, at account {}",
                pending.idempotency_token, pending.account
            );
            facts.push(("may exist", text));
        }
        facts
    }

    /// What the operator does next, and when.
    fn next(&self) -> Option<String> {
        let status = &self.state.status;
        let in_time = |at: Timestamp| {
            if at <= self.now { "now".to_owned() } else { format!("in {}", age(self.now, at)) }
        };
        let planned = [
            ("it tries the destination again", status.next_attempt_time.as_ref()),
            ("it verifies the secret again", status.next_verification_time.as_ref()),
        ];
        let mut next: Vec<String> =
            planned.into_iter().filter_map(|(what, at)| Some(format!("{what} {}", in_time(at?.0)))).collect();
        if let Some(failures) = status.consecutive_failures {
            next.push(format!("{failures} attempts have failed in a row"));
        }
        (!next.is_empty()).then(|| next.join("; "))
    }

    fn conditions(&self) -> Table {
        let mut table = Table::new(&["CONDITION", "STATUS", "SINCE", "REASON", "MESSAGE"]);
        for condition in &self.state.conditions {
            let style = if condition.type_ == ConditionType::Ready.as_str() {
                self.state.urgency().style()
            } else {
                Style::Plain
            };
            let plain = |text: String| (text, Style::Plain);
            table.add([
                plain(condition.type_.clone()),
                (format!("{:?}", condition.status), style),
                plain(age(condition.last_transition_time.0, self.now)),
                plain(condition.reason.clone()),
                plain(condition.message.clone()),
            ]);
        }
        table
    }

    fn events(&self) -> impl Iterator<Item = [String; 4]> {
        self.events.iter().take(MAX_EVENTS).map(|event| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let seen = last_seen(event).map_or_else(|| "-".to_owned(), |at| age(at, self.now));
            [seen, text(&event.type_), text(&event.reason), text(&event.note)]
        })
    }
}

/// A registration in words.
fn registered(registration: &Registration) -> String {
    let Registration { account, record, credential_id, name, expires_at, registration_time, .. } =
        registration;
    let destination = match (account, record) {
        (Some(account), _) => format!("account {account}"),
        (None, Some(record)) => format!("SealedGraphCredential {record}"),
        (None, None) => "an unknown destination".to_owned(),
    };
    format!(
        "credential {credential_id} \"{name}\" at {destination}, since {}, expires {}",
        rfc3339(registration_time.0),
        rfc3339(expires_at.0)
    )
}

impl Report for Description {
    fn text(&self, _is_wide: bool) -> Text {
        let mut text = Text::default();
        for (name, value) in self.facts() {
            text.push(&format!("{:<12} {}\n", format!("{name}:"), crate::cli::output::sanitized(&value)));
        }
        if !self.state.conditions.is_empty() {
            text.push("\n");
            text.push_table("", &self.conditions());
        }
        text.push("\n");
        if self.events.is_empty() {
            text.push("no events (the API server keeps them for an hour by default)\n");
        } else {
            let rows = self.events().map(|row| row.to_vec());
            text.push_table("", &Table::of(&["LAST SEEN", "TYPE", "EVENT", "MESSAGE"], rows));
        }
        text
    }

    fn json(&self) -> Value {
        let state = &self.state;
        let account = self.account.as_ref();
        let event = |event: &Event| {
            json!({
                "lastSeen": last_seen(event).map(rfc3339), "type": event.type_, "reason": event.reason, "message": event.note,
            })
        };
        let NamespacedName { namespace, name } = &state.name;
        json!({
            "kind": state.kind.as_str(), "namespace": namespace, "name": name, "summary": self.summary(),
            "urgency": state.urgency().as_str(), "whoActs": state.actor().as_str(),
            "whatToDo": state.entry().map(|entry| entry.action), "daysLeft": state.days_left(self.now),
            "next": self.next(), "status": state.object.data.get("status"),
            "account": account.map(|it| json!({"name": it.name.to_string(), "conditions": it.conditions})),
            "events": self.events.iter().map(event).collect::<Vec<_>>(),
        })
    }
}
