//! The report of `status --accounts`: one row for each account, with its credentials by state.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::CsvReport;
use super::report::{Counts, none, ready_status};
use crate::api::AccountName;
use crate::api::timestamp::rfc3339;
use crate::cli::objects::{ObjectState, Urgency};
use crate::cli::output::{Report, Style, Table, Text};

/// Accounts with their credentials, what needs attention first.
pub(super) struct Fleet {
    rows: Vec<Row>,
    now: Timestamp,
}

struct Row {
    account: ObjectState,
    /// Its credentials of all namespaces.
    counts: Counts,
}

const HEADS: [&str; 12] = [
    "NAMESPACE",
    "ACCOUNT",
    "COMPANY",
    "READY",
    "REASON",
    "CREDENTIALS",
    "READY NOW",
    "NEED ACTION",
    "EXPIRE SOON",
    "IN PROGRESS",
    "SUSPENDED",
    "DAYS LEFT",
];

// === impl Fleet ===

impl Fleet {
    pub(super) fn of(accounts: Vec<ObjectState>, credentials: &[ObjectState], now: Timestamp) -> Self {
        let mut counts: BTreeMap<AccountName, Counts> = BTreeMap::new();
        for credential in credentials {
            if let Some(account) = credential.account() {
                counts.entry(account).or_default().add(credential);
            }
        }
        let row =
            |account: ObjectState| Row { counts: counts.remove(&account.name).unwrap_or_default(), account };
        let mut rows: Vec<Row> = accounts.into_iter().map(row).collect();
        rows.sort_by(|one, other| {
            let key = |row: &Row| (row.urgency(), row.counts.next_expiry.unwrap_or(Timestamp::MAX));
            key(one).cmp(&key(other)).then_with(|| one.account.name.cmp(&other.account.name))
        });
        Self { rows, now }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    pub(super) fn needs_attention(&self) -> bool {
        self.rows.iter().any(|row| row.urgency().needs_attention())
    }
}

impl Report for Fleet {
    fn text(&self, _is_wide: bool) -> Text {
        let mut table = Table::new(&HEADS);
        for row in &self.rows {
            let account = row.account.assessment.urgency.style();
            let cells = row.cells(self.now).into_iter().enumerate().map(|(column, cell)| {
                let style = match HEADS.get(column) {
                    Some(&("READY" | "REASON")) => account,
                    Some(&"NEED ACTION") if row.counts.needs_action > 0 => Style::Bad,
                    Some(&"EXPIRE SOON") if row.counts.expires_soon > 0 => Style::Warning,
                    _ => Style::Plain,
                };
                (cell, style)
            });
            table.add(cells);
        }
        let mut text = Text::default();
        text.push_table("", &table);
        text
    }

    fn json(&self) -> Value {
        let row = |row: &Row| {
            let (account, counts) = (&row.account, &row.counts);
            json!({
                "namespace": account.name.namespace, "name": account.name.name, "companyId": row.company(),
                "ready": ready_status(account), "reason": account.assessment.reason, "credentials": counts.all,
                "readyNow": counts.ready, "needAction": counts.needs_action, "expireSoon": counts.expires_soon,
                "inProgress": counts.in_progress, "suspended": counts.suspended,
                "nextExpiry": counts.next_expiry.map(rfc3339), "daysLeft": row.days_left(self.now),
            })
        };
        json!({"accounts": self.rows.iter().map(row).collect::<Vec<_>>()})
    }

    fn names(&self) -> Vec<String> {
        self.rows.iter().map(|row| row.account.resource_name()).collect()
    }
}

impl CsvReport for Fleet {
    fn csv(&self) -> Vec<Vec<String>> {
        let heads = HEADS.map(|head| head.to_lowercase().replace(' ', "_")).to_vec();
        std::iter::once(heads).chain(self.rows.iter().map(|row| row.cells(self.now))).collect()
    }
}

// === impl Row ===

impl Row {
    /// The more urgent of the account's own state and that of its credentials.
    fn urgency(&self) -> Urgency {
        let of_credentials = match &self.counts {
            Counts { needs_action: 1.., .. } => Urgency::NeedsAction,
            Counts { expires_soon: 1.., .. } => Urgency::ExpiresSoon,
            Counts { in_progress: 1.., .. } => Urgency::InProgress,
            _ => Urgency::Ready,
        };
        of_credentials.min(self.account.assessment.urgency)
    }

    fn company(&self) -> Option<i64> {
        self.account.object.data.pointer("/spec/companyId").and_then(Value::as_i64)
    }

    /// Until the next secret expires, rounded down.
    fn days_left(&self, now: Timestamp) -> Option<i64> {
        let seconds = self.counts.next_expiry?.as_second() - now.as_second();
        Some(seconds / (24 * 60 * 60))
    }

    fn cells(&self, now: Timestamp) -> Vec<String> {
        let Counts { all, ready, needs_action, expires_soon, in_progress, suspended, .. } = &self.counts;
        let account = &self.account;
        let mut cells = vec![
            account.name.namespace.clone(),
            account.name.name.clone(),
            self.company().map_or_else(none, |id| id.to_string()),
            ready_status(account).to_owned(),
            account.assessment.reason.clone(),
        ];
        cells.extend(
            [all, ready, needs_action, expires_soon, in_progress, suspended].map(ToString::to_string),
        );
        cells.push(self.days_left(now).map_or_else(none, |days| days.to_string()));
        cells
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::reasons::Kind;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_second(day * 24 * 60 * 60).unwrap()
    }

    fn state(kind: Kind, name: &str, spec: &Value, is_ready: bool, expires_at: Option<i64>) -> ObjectState {
        let (status, reason) = match (is_ready, kind) {
            (true, Kind::Account) => ("True", "Authenticated"),
            (true, _) => ("True", "Ready"),
            (false, Kind::Account) => ("False", "InvalidApiKey"),
            (false, _) => ("False", "InvalidClientSecret"),
        };
        let object = json!({
            "metadata": {"name": name, "namespace": "agency", "generation": 1},
            "spec": spec,
            "status": {
                "observedGeneration": 1, "expiresAt": expires_at.map(|day| rfc3339(at(day))),
                "conditions": [{
                    "type": "Ready", "status": status, "reason": reason, "message": "m",
                    "lastTransitionTime": rfc3339(at(1)), "observedGeneration": 1
                }]
            }
        });
        ObjectState::of(kind, serde_json::from_value(object).unwrap(), at(1))
    }

    fn credential(account: &str, is_ready: bool, expires_at: i64) -> ObjectState {
        let spec = json!({"destination": {"woodpecker": {"accountRef": {"name": account}}}});
        state(Kind::Credential, "c", &spec, is_ready, Some(expires_at))
    }

    #[test]
    fn an_account_has_one_row_with_its_credentials_what_needs_attention_first() {
        let account = |name: &str, company: i64, is_ready| {
            state(Kind::Account, name, &json!({"companyId": company}), is_ready, None)
        };
        let accounts = vec![
            account("calm", 1, true),
            account("empty", 2, true),
            account("expiring", 3, true),
            account("broken", 4, false),
            account("failing", 5, true),
        ];
        let credentials = [
            credential("calm", true, 400),
            credential("calm", true, 300),
            credential("expiring", true, 20),
            credential("expiring", true, 300),
            credential("failing", false, 100),
            credential("elsewhere", false, 100),
        ];
        let fleet = Fleet::of(accounts, &credentials, at(1));
        assert!(fleet.needs_attention());
        let rows = fleet.csv();
        let shown: Vec<String> = rows.iter().map(|cells| cells[1..].join(" ")).collect();
        assert_eq!(
            shown,
            [
                "account company ready reason credentials ready_now need_action expire_soon in_progress suspended days_left",
                "failing 5 True Authenticated 1 0 1 0 0 0 99",
                "broken 4 False InvalidApiKey 0 0 0 0 0 0 -",
                "expiring 3 True Authenticated 2 1 0 1 0 0 19",
                "calm 1 True Authenticated 2 2 0 0 0 0 299",
                "empty 2 True Authenticated 0 0 0 0 0 0 -",
            ]
        );
        assert_eq!(fleet.json()["accounts"][2]["daysLeft"], 19);
        let calm = Fleet::of(vec![account("calm", 1, true)], &[credential("calm", true, 400)], at(1));
        assert!(!calm.needs_attention());
    }
}
