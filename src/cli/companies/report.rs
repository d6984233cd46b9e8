//! The companies and their accounts in the cluster, as a table and as warnings.

use std::collections::BTreeSet;

use kube::api::DynamicObject;
use serde_json::Value;

use crate::api::{AccountName, VENDOR_BASE_URL, WoodpeckerAccount};
use crate::cli::output::{Style, Table, Text, sanitized};
use crate::cli::woodpecker;
use crate::woodpecker::Company;

/// The companies of an agency, ordered by id.
pub(super) struct Companies {
    pub(super) rows: Vec<Row>,
    /// The account with the agency's key.
    pub(super) hq: Existing,
    /// Every account at the same base URL.
    pub(super) accounts: Vec<Existing>,
}

/// A company and its accounts, ordered by name.
pub(super) struct Row {
    pub(super) company: Company,
    pub(super) accounts: Vec<Existing>,
}

/// What a WoodpeckerAccount in the cluster specifies. It may be invalid otherwise.
#[derive(Clone, Debug)]
pub(super) struct Existing {
    pub(super) name: AccountName,
    pub(super) company_id: Option<i64>,
    pub(super) secret_name: String,
    pub(super) secret_key: Option<String>,
    pub(super) base_url: Option<String>,
    /// The namespaces of `allowedNamespaces.names`.
    pub(super) allowed: Vec<String>,
}

// === impl Companies ===

impl Companies {
    pub(super) fn new(listed: Vec<Company>, accounts: &[DynamicObject], hq: &WoodpeckerAccount) -> Self {
        let hq = Existing::of_account(hq);
        let mut accounts: Vec<Existing> = accounts.iter().map(Existing::of).collect();
        accounts.retain(|account| account.base_url() == hq.base_url());
        accounts.sort_by(|one, other| one.name.cmp(&other.name));
        let row = |company: Company| {
            let of_company = accounts.iter().filter(|it| it.company_id == Some(company.id));
            Row { accounts: of_company.cloned().collect(), company }
        };
        Self { rows: listed.into_iter().map(row).collect(), hq, accounts }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Only active companies without an account.
    pub(super) fn keep_missing(&mut self) {
        self.rows.retain(Row::is_missing);
    }

    /// Which companies have an account, and its name.
    pub(super) fn with_account(&self) -> Vec<String> {
        let accounts = |row: &Row| Some((row.company.id, row.accounts.first()?.name.clone()));
        let active = self.rows.iter().filter(|row| row.company.is_active);
        active.filter_map(accounts).map(|(id, account)| format!("{id} ({account})")).collect()
    }

    /// What a person should look at.
    pub(super) fn warnings(&self, excluded: &[i64]) -> Vec<String> {
        let mut warnings = Vec::new();
        for Row { company, accounts } in &self.rows {
            let (id, name) = (company.id, sanitized(&company.name));
            let names: Vec<String> = accounts.iter().map(|account| account.name.to_string()).collect();
            let names = names.join(", ");
            if !company.is_active && !accounts.is_empty() {
                warnings.push(format!(
                    "company {id} {name:?} is inactive at Woodpecker, and WoodpeckerAccount {names} is still there: delete it with its credentials, or activate the company"
                ));
            }
            if accounts.len() > 1 {
                warnings.push(format!("company {id} {name:?} has several accounts: {names}"));
            }
        }
        let listed: BTreeSet<i64> = self.rows.iter().map(|row| row.company.id).collect();
        for account in &self.accounts {
            let is_unknown = |id: &i64| !listed.contains(id) && !excluded.contains(id);
            if let Some(id) = account.company_id.filter(is_unknown)
                && account.has_key_of(&self.hq)
            {
                warnings.push(format!(
                    "WoodpeckerAccount {} has spec.companyId {id}, which Woodpecker does not list for this API key",
                    account.name
                ));
            }
        }
        warnings
    }

    pub(super) fn text(&self) -> Text {
        let mut table = Table::new(&["COMPANY", "NAME", "STATE", "ACCOUNT"]);
        for Row { company, accounts } in &self.rows {
            let names: Vec<String> = accounts.iter().map(|account| account.name.to_string()).collect();
            let (account, style) = match (names.is_empty(), company.is_active) {
                (false, true) => (names.join(", "), Style::Plain),
                (false, false) => (names.join(", "), Style::Warning),
                (true, true) => ("none".to_owned(), Style::Warning),
                (true, false) => ("none".to_owned(), Style::Plain),
            };
            let state = if company.is_active { "active" } else { "inactive" };
            let plain = [company.id.to_string(), company.name.clone(), state.to_owned()];
            table.add(plain.map(|cell| (cell, Style::Plain)).into_iter().chain([(account, style)]));
        }
        let mut text = Text::default();
        text.push_table("", &table);
        text
    }
}

// === impl Row ===

impl Row {
    /// Whether the company is active and has no account.
    pub(super) fn is_missing(&self) -> bool {
        self.company.is_active && self.accounts.is_empty()
    }
}

// === impl Existing ===

impl Existing {
    fn of(object: &DynamicObject) -> Self {
        let text = |path: &str| object.data.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let allowed = object.data.pointer("/spec/allowedNamespaces/names").and_then(Value::as_array);
        Self {
            name: woodpecker::name_of(object),
            company_id: object.data.pointer("/spec/companyId").and_then(Value::as_i64),
            secret_name: text("/spec/apiKeySecretRef/name").unwrap_or_default(),
            secret_key: text("/spec/apiKeySecretRef/key"),
            base_url: text("/spec/baseUrl"),
            allowed: allowed.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect(),
        }
    }

    fn of_account(account: &WoodpeckerAccount) -> Self {
        let (metadata, spec) = (&account.metadata, &account.spec);
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        Self {
            name: AccountName { namespace: text(&metadata.namespace), name: text(&metadata.name) },
            company_id: spec.company_id,
            secret_name: spec.api_key_secret_ref.name.clone(),
            secret_key: spec.api_key_secret_ref.key.clone(),
            base_url: spec.base_url.clone(),
            allowed: Vec::new(),
        }
    }

    fn base_url(&self) -> &str {
        self.base_url.as_deref().unwrap_or(VENDOR_BASE_URL).trim_end_matches('/')
    }

    /// Whether both read the same key of the same Secret.
    fn has_key_of(&self, other: &Self) -> bool {
        let key = |account: &Self| account.secret_key.clone().unwrap_or_else(|| "api_key".to_owned());
        self.name.namespace == other.name.namespace
            && self.secret_name == other.secret_name
            && key(self) == key(other)
    }
}
