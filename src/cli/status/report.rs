//! The report of `status`: one row for each object, or one for each namespace or account.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{CsvReport, Group};
use crate::api::conditions::ConditionType;
use crate::api::timestamp::rfc3339;
use crate::cli::objects::{ObjectState, Urgency, age, condition_status};
use crate::cli::output::{Report, Style, Table, Text};

/// The objects of the selected namespaces.
pub(in crate::cli) struct StatusReport {
    pub(in crate::cli) credentials: Vec<ObjectState>,
    pub(in crate::cli) accounts: Vec<ObjectState>,
    pub(in crate::cli) identities: Vec<ObjectState>,
    pub(in crate::cli) mailboxes: Vec<ObjectState>,
    pub(in crate::cli) now: Timestamp,
    pub(in crate::cli) shows_namespace: bool,
}

/// How many credentials of each group are in which state.
pub(super) struct Overview {
    group: Group,
    rows: BTreeMap<String, Counts>,
}

/// How many credentials are in which state.
#[derive(Default)]
pub(super) struct Counts {
    pub(super) all: usize,
    pub(super) ready: usize,
    pub(super) needs_action: usize,
    pub(super) expires_soon: usize,
    pub(super) in_progress: usize,
    pub(super) suspended: usize,
    pub(super) next_expiry: Option<Timestamp>,
}

/// A column of the table: its heading, whether only the wide table has it, and its cell.
type Column = (&'static str, bool, fn(&ObjectState, Timestamp) -> String);

const COLUMNS: [Column; 10] = [
    ("NAME", false, |it, _| it.name.name.clone()),
    ("READY", false, |it, _| ready_status(it).to_owned()),
    ("REASON", false, |it, _| it.assessment.reason.clone()),
    ("SINCE", false, |it, now| it.assessment.since.map_or_else(none, |since| age(since, now))),
    ("DAYS LEFT", false, |it, now| it.days_left(now).map_or_else(none, |days| days.to_string())),
    ("WHO ACTS", false, |it, _| it.assessment.actor.as_str().to_owned()),
    ("EXPIRES", true, |it, _| it.expires_at().map_or_else(none, rfc3339)),
    ("ACCOUNT", true, |it, _| it.account().map_or_else(none, |account| account.to_string())),
    ("CREDENTIAL ID", true, |it, _| it.status.credential_id.map_or_else(none, |id| id.to_string())),
    ("MESSAGE", true, |it, _| it.assessment.message.clone()),
];

pub(super) fn none() -> String {
    "-".to_owned()
}

/// The status of the condition `Ready`.
pub(super) fn ready_status(state: &ObjectState) -> &'static str {
    state.condition(ConditionType::Ready).map_or("Unknown", |ready| condition_status(ready.status))
}

// === impl StatusReport ===

impl StatusReport {
    /// Keeps the credentials whose secret has expired or expires within that time, and nothing else. Days count as in the
    /// operator's notices.
    pub(super) fn keep_expiring(&mut self, within: Duration) {
        let now = self.now;
        self.credentials.retain(|it| it.expires_within(within, now));
        self.accounts.clear();
        self.identities.clear();
        self.mailboxes.clear();
    }

    /// The most urgent first, then those that expire first.
    pub(in crate::cli) fn sort(&mut self) {
        let key = |it: &ObjectState| {
            (it.assessment.urgency, it.expires_at().unwrap_or(Timestamp::MAX), it.name.clone())
        };
        self.credentials.sort_by_cached_key(key);
        self.accounts.sort_by_cached_key(key);
        self.identities.sort_by_cached_key(key);
        self.mailboxes.sort_by_cached_key(key);
    }

    pub(super) fn needs_attention(&self) -> bool {
        self.all().any(|state| state.assessment.urgency.needs_attention())
    }

    pub(in crate::cli) fn is_empty(&self) -> bool {
        self.all().next().is_none()
    }

    fn all(&self) -> impl Iterator<Item = &ObjectState> {
        self.credentials.iter().chain(&self.accounts).chain(&self.identities).chain(&self.mailboxes)
    }

    fn table(&self, states: &[ObjectState], is_wide: bool) -> Table {
        let columns: Vec<&Column> =
            COLUMNS.iter().filter(|(_, is_of_wide, _)| is_wide || !is_of_wide).collect();
        let mut heads: Vec<&str> = columns.iter().map(|(head, ..)| *head).collect();
        if self.shows_namespace {
            heads.insert(0, "NAMESPACE");
        }
        let mut table = Table::new(&heads);
        for state in states {
            let cell = |(head, _, cell): &&Column| {
                let style = if matches!(*head, "READY" | "REASON") {
                    state.assessment.urgency.style()
                } else {
                    Style::Plain
                };
                (cell(state, self.now), style)
            };
            let namespace = self.shows_namespace.then(|| (state.name.namespace.clone(), Style::Plain));
            table.add(namespace.into_iter().chain(columns.iter().map(cell)));
        }
        table
    }
}

impl Report for StatusReport {
    fn text(&self, is_wide: bool) -> Text {
        if self.is_empty() {
            return Text::default();
        }
        let mut text = Text::default();
        if !self.credentials.is_empty() {
            text.push_table("", &self.table(&self.credentials, is_wide));
        }
        let mut is_first = self.credentials.is_empty();
        for (heading, states) in [
            ("accounts:\n", &self.accounts),
            ("identities:\n", &self.identities),
            ("mailboxes:\n", &self.mailboxes),
        ] {
            if !states.is_empty() {
                text.push(if is_first { "" } else { "\n" });
                text.push(heading);
                text.push_table("", &self.table(states, is_wide));
                is_first = false;
            }
        }
        for state in self.all().filter(|state| state.assessment.urgency.needs_attention()) {
            text.push(&format!("\n{} {}: {}\n", state.kind.as_str(), state.name, state.assessment.action));
        }
        text
    }

    fn json(&self) -> Value {
        let object = |state: &ObjectState| {
            let assessment = &state.assessment;
            json!({
                "kind": state.kind.as_str(), "namespace": state.name.namespace, "name": state.name.name,
                "urgency": assessment.urgency.as_str(), "ready": ready_status(state), "reason": assessment.reason,
                "message": assessment.message, "since": assessment.since.map(rfc3339),
                "suspended": state.is_suspended(), "deleting": state.is_deleted(), "current": state.is_current(),
                "expiresAt": state.expires_at().map(rfc3339), "daysLeft": state.days_left(self.now),
                "account": state.account().map(|it| it.to_string()), "credentialId": state.status.credential_id,
                "whoActs": assessment.actor.as_str(), "whatToDo": assessment.action,
            })
        };
        json!({"objects": self.all().map(object).collect::<Vec<_>>()})
    }

    fn names(&self) -> Vec<String> {
        self.all().map(ObjectState::resource_name).collect()
    }
}

impl CsvReport for StatusReport {
    fn csv(&self) -> Vec<Vec<String>> {
        let heads = [
            "kind",
            "namespace",
            "name",
            "urgency",
            "ready",
            "reason",
            "since",
            "expires_at",
            "days_left",
            "account",
            "credential_id",
            "who_acts",
        ];
        let row = |state: &ObjectState| {
            let assessment = &state.assessment;
            vec![
                state.kind.as_str().to_owned(),
                state.name.namespace.clone(),
                state.name.name.clone(),
                assessment.urgency.as_str().to_owned(),
                ready_status(state).to_owned(),
                assessment.reason.clone(),
                assessment.since.map(rfc3339).unwrap_or_default(),
                state.expires_at().map(rfc3339).unwrap_or_default(),
                state.days_left(self.now).map(|days| days.to_string()).unwrap_or_default(),
                state.account().map(|account| account.to_string()).unwrap_or_default(),
                state.status.credential_id.map(|id| id.to_string()).unwrap_or_default(),
                assessment.actor.as_str().to_owned(),
            ]
        };
        std::iter::once(heads.map(str::to_owned).to_vec()).chain(self.all().map(row)).collect()
    }
}

// === impl Overview ===

impl Overview {
    pub(super) fn of(report: &StatusReport, group: Group) -> Self {
        let mut rows: BTreeMap<String, Counts> = BTreeMap::new();
        for state in &report.credentials {
            let key = match group {
                Group::Namespace => state.name.namespace.clone(),
                Group::Account => match state.account() {
                    Some(account) => account.to_string(),
                    None if state.is_in_store() => "the store".to_owned(),
                    None => "unknown".to_owned(),
                },
            };
            rows.entry(key).or_default().add(state);
        }
        Self { group, rows }
    }

    fn cells(&self) -> impl Iterator<Item = Vec<String>> {
        self.rows.iter().map(|(key, counts)| {
            let Counts { all, needs_action, expires_soon, in_progress, suspended, next_expiry, .. } = counts;
            let mut row = vec![key.clone()];
            row.extend([all, needs_action, expires_soon, in_progress, suspended].map(ToString::to_string));
            row.push(next_expiry.map_or_else(none, rfc3339));
            row
        })
    }

    fn heads(&self) -> [&'static str; 7] {
        let of = match self.group {
            Group::Namespace => "NAMESPACE",
            Group::Account => "ACCOUNT",
        };
        [of, "CREDENTIALS", "NEED ACTION", "EXPIRE SOON", "IN PROGRESS", "SUSPENDED", "NEXT EXPIRY"]
    }
}

impl Report for Overview {
    fn text(&self, _is_wide: bool) -> Text {
        let mut text = Text::default();
        text.push_table("", &Table::of(&self.heads(), self.cells()));
        text
    }

    fn json(&self) -> Value {
        let row = |(key, counts): (&String, &Counts)| {
            json!({
                "name": key, "credentials": counts.all, "needAction": counts.needs_action,
                "expireSoon": counts.expires_soon, "inProgress": counts.in_progress,
                "suspended": counts.suspended, "nextExpiry": counts.next_expiry.map(rfc3339),
            })
        };
        json!({"groups": self.rows.iter().map(row).collect::<Vec<_>>()})
    }

    fn names(&self) -> Vec<String> {
        self.rows.keys().cloned().collect()
    }
}

impl CsvReport for Overview {
    fn csv(&self) -> Vec<Vec<String>> {
        let heads = self.heads().map(|head| head.to_lowercase().replace(' ', "_")).to_vec();
        std::iter::once(heads).chain(self.cells()).collect()
    }
}

// === impl Counts ===

impl Counts {
    pub(super) fn add(&mut self, state: &ObjectState) {
        self.all += 1;
        match state.assessment.urgency {
            Urgency::NeedsAction => self.needs_action += 1,
            Urgency::ExpiresSoon => self.expires_soon += 1,
            Urgency::InProgress => self.in_progress += 1,
            Urgency::Suspended => self.suspended += 1,
            Urgency::Ready => self.ready += 1,
        }
        let expiry = state.expires_at().into_iter();
        self.next_expiry = self.next_expiry.into_iter().chain(expiry).min();
    }
}
