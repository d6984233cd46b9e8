//! What the objects of the cluster hold at Woodpecker, and whose an entry of a listing is.

use kube::Client;
use kube::api::DynamicObject;
use serde::Deserialize as _;
use serde_json::Value;

use super::cluster;
use crate::controller::Named;
use crate::resources::{
    AccountName, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, Place, Registration,
};
use crate::woodpecker::{Entry, unmarked};

/// What all objects hold.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    objects: Vec<Known>,
    /// Objects of which it cannot be read what they hold.
    pub(super) unreadable: Vec<Named>,
}

/// An object, as far as it matters whose an entry is.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) name: Named,
    pub(super) secret: String,
    tenant: String,
    client: String,
    /// The account that its spec points to.
    account: Option<AccountName>,
    /// What it has registered, is about to, and still has to remove.
    status: MicrosoftGraphCredentialStatus,
}

/// Whose an entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// An object has it registered.
    Registered,
    /// A create or an earlier registration of that object made it, and the object has not registered it: the operator is
    /// about to deal with it.
    Orphaned(Named),
    /// Its name ends with a token of no object of this cluster: some operator made it, perhaps that of another cluster, or an
    /// object that is gone left it.
    OtherOperator,
    /// It is for the app of an object that has not registered it.
    Unclaimed(Named),
    /// It is for an app that no object names.
    Foreign,
}

// === impl Inventory ===

impl Inventory {
    /// Reads all objects of all namespaces: any of them may hold something at any account.
    pub(super) async fn read(client: &Client) -> anyhow::Result<Self> {
        let objects = cluster::list::<MicrosoftGraphCredential>(client, &[]).await?;
        Ok(Self::of(&objects))
    }

    pub(super) fn of(objects: &[DynamicObject]) -> Self {
        let mut inventory = Self::default();
        for object in objects {
            inventory.take_in(object);
        }
        inventory
    }

    fn take_in(&mut self, object: &DynamicObject) {
        let name = Named::of(object);
        let status = match object.data.get("status").filter(|status| !status.is_null()) {
            Some(status) => MicrosoftGraphCredentialStatus::deserialize(status),
            None => Ok(MicrosoftGraphCredentialStatus::default()),
        };
        let status = status.unwrap_or_else(|_| {
            self.unreadable.push(name.clone());
            MicrosoftGraphCredentialStatus::default()
        });
        let word = |path: &str| object.data.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let reference = "/spec/destination/woodpecker/accountRef";
        let account = word(&format!("{reference}/name")).map(|name| AccountName {
            namespace: word(&format!("{reference}/namespace"))
                .unwrap_or_else(|| object.metadata.namespace.clone().unwrap_or_default()),
            name,
        });
        self.objects.push(Known {
            name,
            secret: word("/spec/secretRef/name").unwrap_or_default(),
            tenant: word("/spec/tenantId").unwrap_or_default().to_ascii_lowercase(),
            client: word("/spec/clientId").unwrap_or_default().to_ascii_lowercase(),
            account,
            status,
        });
    }

    pub(super) fn objects(&self) -> &[Known] {
        &self.objects
    }

    /// Whose an entry of that account's listing is.
    pub(super) fn sort(&self, place: &Place, entry: &Entry) -> Sort {
        let is_it = |registration: &Registration| {
            registration.credential_id == entry.id && registration.base_url.as_ref() == Some(&place.base_url)
        };
        if self.objects.iter().any(|known| known.status.registration.iter().any(is_it)) {
            return Sort::Registered;
        }
        if let Some(known) = self.objects.iter().find(|known| known.status.retiring.iter().any(is_it)) {
            return Sort::Orphaned(known.name.clone());
        }
        let makes_it = |known: &&Known| known.tokens().any(|token| entry.carries(token));
        if let Some(maker) = self.objects.iter().find(makes_it) {
            return Sort::Orphaned(maker.name.clone());
        }
        if unmarked(&entry.name).is_some() {
            return Sort::OtherOperator;
        }
        let at_the_account = self.rival(place, entry);
        let anywhere = || self.objects.iter().find(|known| known.names(entry));
        match at_the_account.or_else(anywhere) {
            Some(known) => Sort::Unclaimed(known.name.clone()),
            None => Sort::Foreign,
        }
    }

    /// The object to which the entry's app belongs at that account, or would: one object can have it.
    pub(super) fn rival(&self, place: &Place, entry: &Entry) -> Option<&Known> {
        let named = || self.objects.iter().filter(|known| known.names(entry));
        let has_it = named().find(|known| {
            known.places().any(|it| it.base_url == place.base_url && it.account == place.account)
        });
        has_it.or_else(|| named().find(|known| known.account.as_ref() == Some(&place.account)))
    }
}

// === impl Known ===

impl Known {
    /// Whether it is about the entry's app.
    fn names(&self, entry: &Entry) -> bool {
        self.tenant == entry.tenant && self.client == entry.client
    }

    /// The tokens of its creates.
    fn tokens(&self) -> impl Iterator<Item = &str> {
        let MicrosoftGraphCredentialStatus { registration, pending, .. } = &self.status;
        let registered = registration.iter().filter_map(|it| it.token.as_deref());
        registered.chain(pending.iter().map(|it| &*it.token))
    }

    /// The accounts where it has something, or is about to.
    fn places(&self) -> impl Iterator<Item = Place> {
        let MicrosoftGraphCredentialStatus { registration, pending, retiring, .. } = &self.status;
        let held = registration.iter().chain(retiring).filter_map(Registration::place);
        held.chain(pending.iter().map(|pending| pending.place()))
    }
}

// === impl Sort ===

impl Sort {
    /// One word for it.
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Orphaned(_) => "orphaned",
            Self::OtherOperator => "other-operator",
            Self::Unclaimed(_) => "unclaimed",
            Self::Foreign => "foreign",
        }
    }

    /// The object that it has to do with.
    pub(super) fn object(&self) -> Option<&Named> {
        match self {
            Self::Orphaned(object) | Self::Unclaimed(object) => Some(object),
            Self::Registered | Self::OtherOperator | Self::Foreign => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TENANT: &str = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32";
    const CLIENT: &str = "e1c6ac69-480e-4a17-9b85-3467967bd179";

    fn place() -> Place {
        let account = AccountName { namespace: "mail".into(), name: "agency".into() };
        Place { account, base_url: "https://a.example".into(), company_id: None }
    }

    fn entry(id: i64, client: &str, name: &str) -> Entry {
        Entry { id, tenant: TENANT.into(), client: client.into(), name: name.into(), expires_at: None }
    }

    fn registration(id: i64, token: Option<&str>) -> Value {
        json!({
            "account": {"namespace": "mail", "name": "agency"}, "baseUrl": "https://a.example", "credentialId": id,
            "ownership": "Created", "fingerprint": "k:0", "name": "n", "expiresAt": "2027-11-28T23:59:59Z",
            "registeredAt": "2026-11-28T23:59:59Z", "token": token
        })
    }

    fn object(name: &str, status: &Value) -> DynamicObject {
        let spec = json!({
            "tenantId": TENANT.to_uppercase(), "clientId": CLIENT, "secretRef": {"name": "s"},
            "destination": {"woodpecker": {"accountRef": {"name": "agency"}}}
        });
        serde_json::from_value(
            json!({"metadata": {"name": name, "namespace": "mail", "uid": name}, "spec": spec, "status": status}),
        )
        .unwrap()
    }

    fn named(name: &str) -> Named {
        Named { namespace: "mail".into(), name: name.into() }
    }

    #[test]
    fn every_entry_is_of_one_sort() {
        let pending = json!({
            "token": "pendngpendng", "since": "2026-11-28T23:59:59Z", "ids": [5], "baseUrl": "https://a.example",
            "account": {"namespace": "mail", "name": "agency"}, "fingerprint": "k:0"
        });
        let status = json!({
            "registration": registration(1, Some("abcdefghjk29")), "retiring": [registration(2, None)], "pending": pending
        });
        let inventory = Inventory::of(&[object("x", &status), object("y", &json!(null))]);
        for (entry, sort) in [
            (entry(1, CLIENT, "n"), Sort::Registered),
            (entry(2, CLIENT, "n"), Sort::Orphaned(named("x"))),
            (entry(3, CLIENT, "n [abcdefghjk29]"), Sort::Orphaned(named("x"))),
            (entry(4, CLIENT, "n [pendngpendng]"), Sort::Orphaned(named("x"))),
            (entry(5, CLIENT, "n [strangstrang]"), Sort::OtherOperator),
            (entry(6, CLIENT, "n"), Sort::Unclaimed(named("x"))),
            (entry(7, "another", "n"), Sort::Foreign),
        ] {
            assert_eq!(inventory.sort(&place(), &entry), sort, "{entry:?}");
        }
        let elsewhere = Place { base_url: "https://b.example".into(), ..place() };
        assert_eq!(inventory.sort(&elsewhere, &entry(1, "another", "n")), Sort::Foreign);
    }

    #[test]
    fn an_object_whose_status_cannot_be_read_is_told() {
        let odd = json!({"registration": {"credentialId": "seven"}});
        let inventory = Inventory::of(&[object("odd", &odd), object("new", &json!({}))]);
        assert_eq!(inventory.unreadable, [named("odd")]);
    }
}
