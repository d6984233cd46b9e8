//! PURE: what the listings show, in words, as JSON, and as an exit code.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::cli::inventory::{Inventory, Sort};
use crate::cli::output::{shown, table};
use crate::cli::remote::Listed;
use crate::controller::Named;
use crate::resources::AccountName;
use crate::woodpecker::{Entry, rfc3339};

/// What all listings show.
#[derive(Debug)]
pub(super) struct Report {
    /// How many credentials of each account objects have registered, or why that is not known.
    accounts: Vec<(AccountName, Result<usize, String>)>,
    rows: Vec<Row>,
    unreadable: Vec<Named>,
}

#[derive(Debug)]
struct Row {
    account: AccountName,
    entry: Entry,
    sort: Sort,
}

/// The sorts that are shown, in the order of their urgency: word, what it is, what to do.
const SHOWN: [(&str, &str, &str); 4] = [
    (
        "orphaned",
        "made for the object that is named, which has not registered it",
        "The operator deals with it automatically: check again in some minutes. If it is still there, remove it at \
         Woodpecker if no mailbox uses it",
    ),
    (
        "other-operator",
        "made by an operator, perhaps of another cluster, or left by deletionPolicy Retain",
        "Leave it if another cluster uses it. Otherwise remove it at Woodpecker if no mailbox uses it, or take it over \
         (graph-credential-operator import)",
    ),
    (
        "unclaimed",
        "for the tenant and client of an object that has not registered it",
        "Name the id in the object's destination.woodpecker.adoption.credentialId to take it over, or remove it at \
         Woodpecker if no mailbox uses it",
    ),
    (
        "foreign",
        "for an app that no object names",
        "Leave it, or take it over (graph-credential-operator import)",
    ),
];

// === impl Report ===

impl Report {
    /// Of each account with its listing, or why there is none.
    pub(super) fn new(looks: Vec<(AccountName, Result<Listed, String>)>, inventory: &Inventory) -> Self {
        let mut report =
            Self { accounts: Vec::new(), rows: Vec::new(), unreadable: inventory.unreadable.clone() };
        for (account, listed) in looks {
            let registered = listed.map(|listed| report.take_in(listed, inventory));
            report.accounts.push((account, registered));
        }
        report
    }

    /// Takes a listing in and says how many of it are registered.
    fn take_in(&mut self, Listed { place, entries, .. }: Listed, inventory: &Inventory) -> usize {
        let mut registered = 0;
        for entry in entries {
            match inventory.sort(&place, &entry) {
                Sort::Registered => registered += 1,
                sort => self.rows.push(Row { account: place.account.clone(), entry, sort }),
            }
        }
        registered
    }

    /// As `orphans --help` has it.
    pub(super) fn exit_code(&self) -> ExitCode {
        let is_whole =
            self.unreadable.is_empty() && self.accounts.iter().all(|(_, registered)| registered.is_ok());
        match self.of("orphaned").next() {
            _ if !is_whole => ExitCode::FAILURE,
            Some(_) => ExitCode::from(3),
            None => ExitCode::SUCCESS,
        }
    }

    fn of(&self, sort: &str) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.sort.as_str() == sort)
    }

    fn count(&self, account: &AccountName, sort: &str) -> usize {
        self.of(sort).filter(|row| row.account == *account).count()
    }

    pub(super) fn text(&self) -> String {
        if self.accounts.is_empty() {
            return "there is no WoodpeckerAccount in the cluster\n".to_owned();
        }
        let lines: Vec<Vec<String>> = self.accounts.iter().map(|line| self.account_cells(line)).collect();
        let heads =
            ["ACCOUNT", "REGISTERED", "ORPHANED", "OTHER-OPERATOR", "UNCLAIMED", "FOREIGN", "PROBLEM"];
        let mut text = table("", &heads, &lines);
        for (sort, what, cure) in SHOWN {
            let rows: Vec<Vec<String>> = self.of(sort).map(Row::cells).collect();
            if !rows.is_empty() {
                text.extend(["\n", sort, ": ", what, "\n  what to do: ", cure, ".\n"]);
                let heads = ["ACCOUNT", "ID", "NAME", "TENANT", "CLIENT", "EXPIRES", "OBJECT"];
                text.push_str(&table("  ", &heads, &rows));
            }
        }
        for object in &self.unreadable {
            text.extend(["\n", &unreadable(object), "\n"]);
        }
        text
    }

    fn account_cells(&self, (account, registered): &(AccountName, Result<usize, String>)) -> Vec<String> {
        let mut cells = vec![account.to_string()];
        match registered {
            Ok(registered) => {
                cells.push(registered.to_string());
                cells.extend(SHOWN.map(|(sort, _, _)| self.count(account, sort).to_string()));
            }
            Err(problem) => {
                cells.extend(["?"; 5].map(str::to_owned));
                cells.push(format!("could not be listed: {}", shown(problem)));
            }
        }
        cells
    }

    pub(super) fn json(&self) -> Value {
        let account = |(account, registered): &(AccountName, Result<usize, String>)| {
            json!({
                "account": account.to_string(), "registered": registered.as_ref().ok(),
                "problem": registered.as_ref().err(),
            })
        };
        json!({
            "accounts": self.accounts.iter().map(account).collect::<Vec<_>>(),
            "credentials": self.rows.iter().map(Row::json).collect::<Vec<_>>(),
            "problems": self.unreadable.iter().map(unreadable).collect::<Vec<_>>(),
        })
    }
}

fn unreadable(object: &Named) -> String {
    format!(
        "the status of MicrosoftGraphCredential {object} cannot be read, so what it has registered may be shown as somebody else's: see its conditions"
    )
}

// === impl Row ===

impl Row {
    fn cells(&self) -> Vec<String> {
        let Self { account, entry, sort } = self;
        let none = || "-".to_owned();
        let text = |text: &str| if text.is_empty() { none() } else { shown(text) };
        vec![
            account.to_string(),
            entry.id.to_string(),
            text(&entry.name),
            text(&entry.tenant),
            text(&entry.client),
            entry.expires_at.map_or_else(none, rfc3339),
            sort.object().map_or_else(none, ToString::to_string),
        ]
    }

    fn json(&self) -> Value {
        let Self { account, entry, sort } = self;
        let cure = SHOWN.iter().find(|(word, _, _)| *word == sort.as_str()).map(|(_, _, cure)| *cure);
        json!({
            "account": account.to_string(), "id": entry.id, "sort": sort.as_str(), "name": entry.name,
            "tenantId": entry.tenant, "clientId": entry.client, "expiresAt": entry.expires_at.map(rfc3339),
            "object": sort.object().map(ToString::to_string), "cure": cure,
        })
    }
}
