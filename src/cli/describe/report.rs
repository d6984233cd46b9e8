//! The report of `describe`, as text and as JSON.

use jiff::Timestamp;
use k8s_openapi::api::events::v1::Event;
use serde_json::{Value, json};

use super::mailboxes;
use super::queue::Waiting;
use crate::api::conditions::ConditionType;
use crate::api::duration::KubeDuration;
use crate::api::reasons::Actor;
use crate::api::timestamp::{Time, rfc3339};
use crate::api::{
    CreatedSecret, MicrosoftGraphCredentialStatus, NamespacedName, Registration, VERIFICATION_INTERVAL,
};
use crate::cli::objects::{Assessment, ObjectState, Urgency, age, condition_status};
use crate::cli::output::{Report, Style, Table, Text, sanitized};

/// How many events are printed.
const MAX_EVENTS: usize = 10;

/// An object and what belongs to it.
pub(super) struct Description {
    pub(super) state: ObjectState,
    /// The account of a credential, if it could be read.
    pub(super) account: Option<ObjectState>,
    /// Who else waits for the account, if the credential does.
    pub(super) waiting: Option<Waiting>,
    /// The newest first.
    /// `None` if they cannot be listed.
    pub(super) events: Option<Vec<Event>>,
    pub(super) now: Timestamp,
}

/// A name and its value in a line of the text, and in the JSON.
pub(super) type Fact = (&'static str, String);

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
        let Assessment { urgency, reason, message, since, .. } = &self.state.assessment;
        let word = match urgency {
            Urgency::NeedsAction => "needs action",
            Urgency::ExpiresSoon => "expires soon",
            Urgency::InProgress => "in progress",
            Urgency::Suspended => "suspended",
            Urgency::Ready => "ready",
        };
        let since = since.map(|since| format!(" for {}", age(since, self.now))).unwrap_or_default();
        format!("{word}{since}: {message} ({reason})")
    }

    fn facts(&self) -> Vec<Fact> {
        let state = &self.state;
        let Assessment { actor, action, .. } = &state.assessment;
        let mut facts = vec![("name", state.name.to_string()), ("state", self.summary())];
        if *actor != Actor::Nobody {
            facts.push(("who acts", actor.as_str().to_owned()));
            facts.push(("what to do", (*action).to_owned()));
        }
        if state.is_deleted() {
            facts.push(("deletion", "it is being deleted".to_owned()));
        }
        facts.extend(mailboxes::facts(state));
        facts.extend(self.of_secret());
        facts.extend(self.of_rotation());
        facts.extend(self.of_registration());
        facts.extend(self.of_account());
        facts.extend(self.waiting.map(|waiting| ("queue", waiting.shown())));
        facts.push(("next", self.next()));
        facts
    }

    /// The account, and what to do about it if it is not ready.
    fn of_account(&self) -> Vec<Fact> {
        let Some(name) = self.state.account() else { return Vec::new() };
        let Some(account) = &self.account else {
            return vec![("account", format!("{name}, which does not exist or cannot be read"))];
        };
        let Assessment { urgency, reason, message, actor, action, .. } = &account.assessment;
        let mut facts = vec![("account", format!("{name}: {message} ({reason})"))];
        if urgency.needs_attention() {
            facts.push(("", format!("{} must act: {action}", actor.as_str())));
        }
        facts
    }

    fn of_secret(&self) -> Vec<Fact> {
        let (state, status) = (&self.state, &self.state.status);
        let mut facts = Vec::new();
        let secret = state.text("/spec/secretRef/name").or(state.text("/spec/apiKeySecretRef/name"));
        if let Some(name) = secret {
            facts.push(("secret", format!("{}/{name}", state.name.namespace)));
        }
        if let Some(at) = state.expires_at() {
            facts.push(("expires", format!("{}, {}", rfc3339(at), self.relative(at))));
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

    fn of_rotation(&self) -> Vec<Fact> {
        let Some(rotation) = self.state.status.rotation.as_deref() else { return Vec::new() };
        let created =
            |it: &CreatedSecret| format!("{}, created {} ago", it.key_id, age(it.creation_time.0, self.now));
        let mut facts: Vec<Fact> = rotation.current.iter().map(|it| ("created", created(it))).collect();
        facts.extend(rotation.pending.iter().map(|it| ("created, new", created(it))));
        for earlier in rotation.earlier.iter().filter(|it| it.removal_time.is_none()) {
            let when = earlier.remove_after_time.as_ref().map(|at| format!(", {}", self.relative(at.0)));
            facts.push(("to remove", format!("{}{}", earlier.key_id, when.unwrap_or_default())));
        }
        facts.extend(
            rotation.attempt.iter().map(|it| ("may exist", format!("a client secret {}", it.display_name))),
        );
        facts.extend(rotation.unknown_secrets.iter().map(|it| ("not recorded", it.key_id.clone())));
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
    fn next(&self) -> String {
        let (state, status) = (&self.state, &self.state.status);
        if state.is_suspended() {
            return "nothing until you resume it".to_owned();
        }
        if let Some((at, failures)) = mailboxes::next(state) {
            return self.next_mailboxes(at, failures);
        }
        let at = |time: &Option<Time>| time.as_ref().map(|time| time.0);
        let planned = [
            ("tries the destination again", at(&status.next_attempt_time)),
            ("verifies the secret again", at(&status.next_verification_time).or(self.next_verification())),
        ];
        let mut next: Vec<String> = planned
            .into_iter()
            .filter_map(|(what, at)| Some(format!("the operator {what} {}", self.planned(at?))))
            .collect();
        if let Some(failures) = status.consecutive_failures {
            next.push(format!("{failures} attempts have failed in a row"));
        }
        if next.is_empty() {
            return "the operator continues when the object, its Secret or its account changes".to_owned();
        }
        next.join("; ")
    }

    fn next_mailboxes(&self, at: Option<Timestamp>, failures: Option<i32>) -> String {
        let planned = at.map(|at| format!("the operator submits the next mailboxes {}", self.planned(at)));
        let failed = failures.map(|failures| match failures {
            1 => "1 request connected no mailbox".to_owned(),
            _ => format!("{failures} requests in a row connected no mailbox"),
        });
        let next: Vec<String> = planned.into_iter().chain(failed).collect();
        if next.is_empty() { "the operator continues automatically".to_owned() } else { next.join("; ") }
    }

    /// The next verification of a verified secret.
    fn next_verification(&self) -> Option<Timestamp> {
        let verified = self.state.status.last_verified_time.as_ref()?.0;
        let interval =
            self.state.text("/spec/verification/interval").and_then(|it| it.parse::<KubeDuration>().ok());
        verified.checked_add(interval.map_or(VERIFICATION_INTERVAL, |it| it.get())).ok()
    }

    /// A time of the plan: one that is past is due, or no operator runs.
    fn planned(&self, at: Timestamp) -> String {
        if at >= self.now {
            return self.relative(at);
        }
        format!("now (due since {}: if that lasts, check that an operator runs)", age(at, self.now))
    }

    fn relative(&self, at: Timestamp) -> String {
        if at >= self.now {
            format!("in {}", age(self.now, at))
        } else {
            format!("{} ago", age(at, self.now))
        }
    }

    fn conditions(&self) -> Table {
        let mut table = Table::new(&["CONDITION", "STATUS", "SINCE", "REASON", "MESSAGE"]);
        for condition in &self.state.conditions {
            let style = if condition.type_ == ConditionType::Ready.as_str() {
                self.state.assessment.urgency.style()
            } else {
                Style::Plain
            };
            let plain = |text: String| (text, Style::Plain);
            table.add([
                plain(condition.type_.clone()),
                (condition_status(condition.status).to_owned(), style),
                plain(age(condition.last_transition_time.0, self.now)),
                plain(condition.reason.clone()),
                plain(condition.message.clone()),
            ]);
        }
        table
    }

    fn event_cells(&self, event: &Event) -> Vec<String> {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let seen = last_seen(event).map_or_else(|| "-".to_owned(), |at| age(at, self.now));
        vec![seen, text(&event.type_), text(&event.reason), text(&event.note)]
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
            let head = if name.is_empty() { String::new() } else { format!("{name}:") };
            text.push(&format!("{head:<12} {}\n", sanitized(&value)));
        }
        if !self.state.conditions.is_empty() {
            text.push("\n");
            text.push_table("", &self.conditions());
        }
        text.push("\n");
        match &self.events {
            None => text.push("events: they cannot be listed\n"),
            Some(events) if events.is_empty() => {
                text.push("no events (the API server keeps them for an hour by default)\n");
            }
            Some(events) => {
                let rows = events.iter().take(MAX_EVENTS).map(|event| self.event_cells(event));
                text.push_table("", &Table::of(&["LAST SEEN", "TYPE", "EVENT", "MESSAGE"], rows));
            }
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
            "urgency": state.assessment.urgency.as_str(), "reason": state.assessment.reason,
            "whoActs": state.assessment.actor.as_str(), "whatToDo": state.assessment.action,
            "daysLeft": state.days_left(self.now), "suspended": state.is_suspended(), "next": self.next(),
            "status": state.object.data.get("status"),
            "account": account.map(|it| json!({"name": it.name.to_string(), "conditions": it.conditions})),
            "queue": self.waiting.map(|it| json!({"others": it.others, "longer": it.longer, "isComplete": it.is_complete})),
            "events": self.events.as_ref().map(|events| events.iter().map(event).collect::<Vec<_>>()),
        })
    }
}
