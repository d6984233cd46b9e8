//! The report of `status`: one row for each object, or one for each namespace or account.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{CsvReport, Group};
use crate::api::conditions::{Condition, ConditionType};
use crate::api::reasons::Actor;
use crate::api::timestamp::rfc3339;
use crate::cli::objects::{ObjectState, Urgency, action_of, age};
use crate::cli::output::{Report, Style, Table, Text};

/// The objects of the selected namespaces.
pub(in crate::cli) struct StatusReport {
    pub(in crate::cli) credentials: Vec<ObjectState>,
    pub(in crate::cli) accounts: Vec<ObjectState>,
    pub(in crate::cli) now: Timestamp,
    pub(in crate::cli) shows_namespace: bool,
}

/// How many credentials of each group are in which state.
pub(super) struct Overview {
    group: Group,
    rows: BTreeMap<String, Counts>,
}

#[derive(Default)]
struct Counts {
    all: usize,
    needs_action: usize,
    expires_soon: usize,
    in_progress: usize,
    suspended: usize,
    next_expiry: Option<Timestamp>,
}

/// A column of the table: its heading, whether only the wide table has it, and its cell.
type Column = (&'static str, bool, fn(&ObjectState, Timestamp) -> String);

const COLUMNS: [Column; 10] = [
    ("NAME", false, |it, _| it.name.name.clone()),
    ("READY", false, |it, _| status_of(it.condition(ConditionType::Ready))),
    ("REASON", false, |it, _| shown_reason(it)),
    ("SINCE", false, |it, now| it.cause().map_or_else(none, |cause| age(cause.last_transition_time.0, now))),
    ("DAYS LEFT", false, |it, now| it.days_left(now).map_or_else(none, |days| days.to_string())),
    ("WHO ACTS", false, |it, _| it.actor().as_str().to_owned()),
    ("EXPIRES", true, |it, _| it.expires_at().map_or_else(none, rfc3339)),
    ("ACCOUNT", true, |it, _| it.account().map_or_else(none, |account| account.to_string())),
    ("CREDENTIAL ID", true, |it, _| it.status.credential_id.map_or_else(none, |id| id.to_string())),
    ("MESSAGE", true, |it, _| it.cause().map_or_else(none, |cause| cause.message.clone())),
];

fn none() -> String {
    "-".to_owned()
}

fn status_of(condition: Option<&Condition>) -> String {
    condition.map_or_else(|| "Unknown".to_owned(), |condition| format!("{:?}", condition.status))
}

/// The reason, or what matters more.
fn shown_reason(state: &ObjectState) -> String {
    let reason = state.cause().map_or("NotReconciled", |cause| cause.reason.as_str());
    match state.urgency() {
        Urgency::Suspended => "Suspended".to_owned(),
        _ if state.is_deleted() => format!("Deleting ({reason})"),
        _ if !state.is_current() => format!("{reason} (of an earlier spec)"),
        _ => reason.to_owned(),
    }
}

// === impl StatusReport ===

impl StatusReport {
    /// Keeps the credentials that expire within that time, and no account.
    pub(super) fn keep_expiring(&mut self, within: Duration) {
        let now = self.now;
        let is_expiring = |it: &ObjectState| {
            it.expires_at()
                .is_some_and(|at| Duration::try_from(at.duration_since(now)).unwrap_or_default() <= within)
        };
        self.credentials.retain(is_expiring);
        self.accounts.clear();
    }

    /// The most urgent first, then those that expire first.
    pub(in crate::cli) fn sort(&mut self) {
        let key =
            |it: &ObjectState| (it.urgency(), it.expires_at().unwrap_or(Timestamp::MAX), it.name.clone());
        self.credentials.sort_by_cached_key(key);
        self.accounts.sort_by_cached_key(key);
    }

    pub(super) fn needs_attention(&self) -> bool {
        self.all().any(|state| state.urgency().needs_attention())
    }

    fn all(&self) -> impl Iterator<Item = &ObjectState> {
        self.credentials.iter().chain(&self.accounts)
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
                let style =
                    if matches!(*head, "READY" | "REASON") { state.urgency().style() } else { Style::Plain };
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
        if self.all().next().is_none() {
            return Text::of("nothing found\n");
        }
        let mut text = Text::default();
        if !self.credentials.is_empty() {
            text.push_table("", &self.table(&self.credentials, is_wide));
        }
        if !self.accounts.is_empty() {
            text.push(if self.credentials.is_empty() { "accounts:\n" } else { "\naccounts:\n" });
            text.push_table("", &self.table(&self.accounts, is_wide));
        }
        let actions = self.all().filter(|state| state.urgency().needs_attention());
        for state in actions.filter(|state| state.actor() != Actor::Nobody) {
            text.push(&format!("\n{} {}: {}\n", state.kind.as_str(), state.name, action_of(state.entry())));
        }
        text
    }

    fn json(&self) -> Value {
        let object = |state: &ObjectState| {
            let cause = state.cause();
            json!({
                "kind": state.kind.as_str(), "namespace": state.name.namespace, "name": state.name.name,
                "urgency": state.urgency().as_str(), "ready": status_of(state.condition(ConditionType::Ready)),
                "reason": cause.map(|it| &it.reason), "message": cause.map(|it| &it.message),
                "since": cause.map(|it| rfc3339(it.last_transition_time.0)),
                "expiresAt": state.expires_at().map(rfc3339), "daysLeft": state.days_left(self.now),
                "account": state.account().map(|it| it.to_string()), "credentialId": state.status.credential_id,
                "whoActs": state.actor().as_str(), "whatToDo": state.entry().map(|entry| entry.action),
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
            "reason",
            "since",
            "expires_at",
            "days_left",
            "account",
            "credential_id",
            "who_acts",
        ];
        let row = |state: &ObjectState| {
            let cause = state.cause();
            vec![
                state.kind.as_str().to_owned(),
                state.name.namespace.clone(),
                state.name.name.clone(),
                state.urgency().as_str().to_owned(),
                cause.map(|it| it.reason.clone()).unwrap_or_default(),
                cause.map(|it| rfc3339(it.last_transition_time.0)).unwrap_or_default(),
                state.expires_at().map(rfc3339).unwrap_or_default(),
                state.days_left(self.now).map(|days| days.to_string()).unwrap_or_default(),
                state.account().map(|account| account.to_string()).unwrap_or_default(),
                state.status.credential_id.map(|id| id.to_string()).unwrap_or_default(),
                state.actor().as_str().to_owned(),
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
                Group::Account => state.account().map_or_else(|| "the store".to_owned(), |it| it.to_string()),
            };
            rows.entry(key).or_default().add(state);
        }
        Self { group, rows }
    }

    fn cells(&self) -> impl Iterator<Item = Vec<String>> {
        self.rows.iter().map(|(key, counts)| {
            let Counts { all, needs_action, expires_soon, in_progress, suspended, next_expiry } = counts;
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
    fn add(&mut self, state: &ObjectState) {
        self.all += 1;
        match state.urgency() {
            Urgency::NeedsAction => self.needs_action += 1,
            Urgency::ExpiresSoon => self.expires_soon += 1,
            Urgency::InProgress => self.in_progress += 1,
            Urgency::Suspended => self.suspended += 1,
            Urgency::Ready => {}
        }
        let expiry = state.expires_at().into_iter();
        self.next_expiry = self.next_expiry.into_iter().chain(expiry).min();
    }
}
