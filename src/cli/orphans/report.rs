//! The report of `orphans`, as text, JSON and exit code.

use std::process::ExitCode;

use serde_json::{Value, json};

use crate::api::timestamp::rfc3339;
use crate::api::{AccountName, NamespacedName};
use crate::cli::output::{self, Table, Text};
use crate::cli::ownership::{Inventory, OwnershipClass};
use crate::cli::woodpecker::AccountListing;
use crate::core::remote::Entry;

/// The result of all lists.
#[derive(Debug)]
pub(super) struct Report {
    /// How many credentials of each account are registered, or why that is not known.
    accounts: Vec<(AccountName, Result<usize, String>)>,
    rows: Vec<Row>,
    unreadable: Vec<NamespacedName>,
}

#[derive(Debug)]
struct Row {
    account: AccountName,
    entry: Entry,
    class: OwnershipClass,
}

/// The classes in the report, the most urgent first: name, meaning, what to do.
const SHOWN: [(&str, &str, &str); 4] = [
    (
        "orphaned",
        "created for the named object, which has not registered it",
        "The operator handles it automatically: check again in a few minutes. If it is still there, delete it at \
         Woodpecker if no mailbox uses it",
    ),
    (
        "other-operator",
        "created by an operator, possibly in another cluster, or left by an object that was deleted",
        "Leave it if another cluster uses it. Otherwise delete it at Woodpecker if no mailbox uses it, or adopt it \
         (graph-credential-operator import)",
    ),
    (
        "adoptable",
        "for the tenant and client of an object that has not registered it",
        "Set destination.woodpecker.adoption.credentialId of the object to its id to adopt it, or delete it at \
         Woodpecker if no mailbox uses it",
    ),
    (
        "unmanaged",
        "for an app that no object names",
        "Leave it, or adopt it (graph-credential-operator import)",
    ),
];

// === impl Report ===

impl Report {
    /// `lists` contains the list of each account, or why there is none.
    pub(super) fn new(
        lists: Vec<(AccountName, Result<AccountListing, String>)>,
        inventory: &Inventory,
    ) -> Self {
        let mut report =
            Self { accounts: Vec::new(), rows: Vec::new(), unreadable: inventory.unreadable.clone() };
        for (account, listed) in lists {
            let registered = listed.map(|listed| report.add(listed, inventory));
            report.accounts.push((account, registered));
        }
        report
    }

    /// Adds a list, and returns how many of its credentials are registered.
    fn add(
        &mut self,
        AccountListing { location, entries, .. }: AccountListing,
        inventory: &Inventory,
    ) -> usize {
        let mut registered = 0;
        for entry in entries {
            match inventory.classify(&location, &entry) {
                OwnershipClass::Registered => registered += 1,
                class => self.rows.push(Row { account: location.account.clone(), entry, class }),
            }
        }
        registered
    }

    /// As documented in `orphans --help`.
    pub(super) fn exit_code(&self) -> ExitCode {
        let is_complete =
            self.unreadable.is_empty() && self.accounts.iter().all(|(_, registered)| registered.is_ok());
        match self.of("orphaned").next() {
            _ if !is_complete => ExitCode::FAILURE,
            Some(_) => ExitCode::from(3),
            None => ExitCode::SUCCESS,
        }
    }

    fn of(&self, class: &str) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.class.as_str() == class)
    }

    fn count(&self, account: &AccountName, class: &str) -> usize {
        self.of(class).filter(|row| row.account == *account).count()
    }

    fn account_cells(&self, (account, registered): &(AccountName, Result<usize, String>)) -> Vec<String> {
        let mut cells = vec![account.to_string()];
        match registered {
            Ok(registered) => {
                cells.push(registered.to_string());
                cells.extend(SHOWN.map(|(class, _, _)| self.count(account, class).to_string()));
            }
            Err(problem) => {
                cells.extend(["?"; 5].map(str::to_owned));
                cells.push(format!("could not be listed: {problem}"));
            }
        }
        cells
    }
}

impl output::Report for Report {
    fn text(&self, _is_wide: bool) -> Text {
        if self.accounts.is_empty() {
            return Text::of("there is no WoodpeckerAccount in these namespaces\n");
        }
        let lines = self.accounts.iter().map(|line| self.account_cells(line));
        let heads =
            ["ACCOUNT", "REGISTERED", "ORPHANED", "OTHER-OPERATOR", "ADOPTABLE", "UNMANAGED", "PROBLEM"];
        let mut text = Text::default();
        text.push_table("", &Table::of(&heads, lines));
        for (class, meaning, action) in SHOWN {
            if self.of(class).next().is_some() {
                text.push(&format!("\n{class}: {meaning}\n  what to do: {action}.\n"));
                let heads = ["ACCOUNT", "ID", "NAME", "TENANT", "CLIENT", "EXPIRES", "OBJECT"];
                text.push_table("  ", &Table::of(&heads, self.of(class).map(Row::cells)));
            }
        }
        for object in &self.unreadable {
            text.push(&format!("\n{}\n", unreadable(object)));
        }
        text
    }

    fn names(&self) -> Vec<String> {
        self.rows.iter().map(|row| format!("{}/{}", row.account, row.entry.id)).collect()
    }

    fn json(&self) -> Value {
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

fn unreadable(object: &NamespacedName) -> String {
    format!(
        "the status of MicrosoftGraphCredential {object} cannot be read, so credentials that it has registered may be listed in another group: check its conditions"
    )
}

// === impl Row ===

impl Row {
    fn cells(&self) -> Vec<String> {
        let Self { account, entry, class } = self;
        let none = || "-".to_owned();
        let text = |text: &str| if text.is_empty() { none() } else { text.to_owned() };
        vec![
            account.to_string(),
            entry.id.to_string(),
            text(&entry.name),
            text(&entry.tenant),
            text(&entry.client),
            entry.expires_at.map_or_else(none, rfc3339),
            class.object().map_or_else(none, ToString::to_string),
        ]
    }

    fn json(&self) -> Value {
        let Self { account, entry, class } = self;
        let action = SHOWN.iter().find(|(name, _, _)| *name == class.as_str()).map(|(_, _, action)| *action);
        json!({
            "account": account.to_string(), "id": entry.id, "class": class.as_str(), "name": entry.name,
            "tenantId": entry.tenant, "clientId": entry.client, "expiresAt": entry.expires_at.map(rfc3339),
            "object": class.object().map(ToString::to_string), "whatToDo": action,
        })
    }
}
