//! What the objects of the cluster have registered at Woodpecker, and which of them owns an entry of a list.

use kube::Client;
use kube::api::DynamicObject;
use serde::Deserialize as _;
use serde_json::Value;

use crate::api::{
    AccountLocation, AccountName, MicrosoftGraphCredential, MicrosoftGraphCredentialStatus, NamespacedName,
    Registration,
};
use crate::cli::kubernetes;
use crate::core::remote::{Entry, split_token};

/// All objects of the cluster.
#[derive(Debug, Default)]
pub(super) struct Inventory {
    objects: Vec<ResourceSummary>,
    /// Objects whose status cannot be read.
    pub(super) unreadable: Vec<NamespacedName>,
}

/// What matters of an object for the ownership of entries.
#[derive(Debug)]
pub(super) struct ResourceSummary {
    pub(super) name: NamespacedName,
    pub(super) secret: String,
    tenant: String,
    client: String,
    /// The account that its spec references.
    pub(super) account: Option<AccountName>,
    status: MicrosoftGraphCredentialStatus,
}

/// The ownership of an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum OwnershipClass {
    /// An object has it registered.
    Registered,
    /// That object created it or has registered it before, but no longer has it registered. The operator deletes it or
    /// registers it again.
    Orphaned(NamespacedName),
    /// Its name ends with a token of no object of this cluster: an operator created it, possibly in another
    /// cluster, or a deleted object left it.
    OtherOperator,
    /// It is for the app of an object that has not registered it.
    Adoptable(NamespacedName),
    /// It is for an app that no object names.
    Unmanaged,
}

// === impl Inventory ===

impl Inventory {
    /// Reads the objects of all namespaces, because each may have a registration at any account.
    pub(super) async fn read(client: &Client) -> anyhow::Result<Self> {
        let objects = kubernetes::list::<MicrosoftGraphCredential>(client, &[]).await?;
        Ok(Self::of(&objects))
    }

    pub(super) fn of(objects: &[DynamicObject]) -> Self {
        let mut inventory = Self::default();
        for object in objects {
            inventory.add(object);
        }
        inventory
    }

    fn add(&mut self, object: &DynamicObject) {
        let name = NamespacedName::of(object);
        let status = match object.data.get("status").filter(|status| !status.is_null()) {
            Some(status) => MicrosoftGraphCredentialStatus::deserialize(status),
            None => Ok(MicrosoftGraphCredentialStatus::default()),
        };
        let status = status.unwrap_or_else(|_| {
            self.unreadable.push(name.clone());
            MicrosoftGraphCredentialStatus::default()
        });
        let text = |path: &str| object.data.pointer(path).and_then(Value::as_str).map(str::to_owned);
        let reference = "/spec/destination/woodpecker/accountRef";
        let account = text(&format!("{reference}/name")).map(|name| AccountName {
            namespace: text(&format!("{reference}/namespace"))
                .unwrap_or_else(|| object.metadata.namespace.clone().unwrap_or_default()),
            name,
        });
        self.objects.push(ResourceSummary {
            name,
            secret: text("/spec/secretRef/name").unwrap_or_default(),
            tenant: text("/spec/tenantId").unwrap_or_default().to_ascii_lowercase(),
            client: text("/spec/clientId").unwrap_or_default().to_ascii_lowercase(),
            account,
            status,
        });
    }

    pub(super) fn objects(&self) -> &[ResourceSummary] {
        &self.objects
    }

    /// Classifies an entry of that account's list.
    pub(super) fn classify(&self, location: &AccountLocation, entry: &Entry) -> OwnershipClass {
        let is_same = |registration: &Registration| {
            registration.credential_id == entry.id
                && registration.base_url.as_ref() == Some(&location.base_url)
        };
        if self.objects.iter().any(|known| known.status.registration.iter().any(is_same)) {
            return OwnershipClass::Registered;
        }
        if let Some(known) =
            self.objects.iter().find(|known| known.status.previous_registrations.iter().any(is_same))
        {
            return OwnershipClass::Orphaned(known.name.clone());
        }
        let created_it = |known: &&ResourceSummary| known.tokens().any(|token| entry.has_token(token));
        if let Some(creator) = self.objects.iter().find(created_it) {
            return OwnershipClass::Orphaned(creator.name.clone());
        }
        if split_token(&entry.name).is_some() {
            return OwnershipClass::OtherOperator;
        }
        let at_account = self.owner_of(location, entry);
        let anywhere = || self.objects.iter().find(|known| known.is_for(entry));
        match at_account.or_else(anywhere) {
            Some(known) => OwnershipClass::Adoptable(known.name.clone()),
            None => OwnershipClass::Unmanaged,
        }
    }

    /// The object that owns the entry's app at that account, or would. Only one object can.
    pub(super) fn owner_of(&self, location: &AccountLocation, entry: &Entry) -> Option<&ResourceSummary> {
        let named = || self.objects.iter().filter(|known| known.is_for(entry));
        let registered = named().find(|known| {
            known.locations().any(|it| it.base_url == location.base_url && it.account == location.account)
        });
        registered.or_else(|| named().find(|known| known.account.as_ref() == Some(&location.account)))
    }
}

// === impl ResourceSummary ===

impl ResourceSummary {
    /// Whether it is for the entry's app.
    fn is_for(&self, entry: &Entry) -> bool {
        self.tenant == entry.tenant && self.client == entry.client
    }

    /// The idempotency tokens of its creates.
    fn tokens(&self) -> impl Iterator<Item = &str> {
        let MicrosoftGraphCredentialStatus { registration, pending_create, .. } = &self.status;
        let registered = registration.iter().filter_map(|it| it.idempotency_token.as_deref());
        registered.chain(pending_create.iter().map(|it| &*it.idempotency_token))
    }

    /// The accounts where it has a registration, or is creating one.
    fn locations(&self) -> impl Iterator<Item = AccountLocation> {
        let MicrosoftGraphCredentialStatus { registration, pending_create, previous_registrations, .. } =
            &self.status;
        let held = registration.iter().chain(previous_registrations).filter_map(Registration::location);
        held.chain(pending_create.iter().map(|pending| pending.location()))
    }
}

// === impl OwnershipClass ===

impl OwnershipClass {
    pub(super) fn as_str(&self) -> &'static str {
        match self {
            Self::Registered => "registered",
            Self::Orphaned(_) => "orphaned",
            Self::OtherOperator => "other-operator",
            Self::Adoptable(_) => "adoptable",
            Self::Unmanaged => "unmanaged",
        }
    }

    /// The object that it refers to.
    pub(super) fn object(&self) -> Option<&NamespacedName> {
        match self {
            Self::Orphaned(object) | Self::Adoptable(object) => Some(object),
            Self::Registered | Self::OtherOperator | Self::Unmanaged => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TENANT: &str = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32";
    const CLIENT: &str = "e1c6ac69-480e-4a17-9b85-3467967bd179";

    fn location() -> AccountLocation {
        let account = AccountName { namespace: "mail".into(), name: "agency".into() };
        AccountLocation { account, base_url: "https://a.example".into(), company_id: None }
    }

    fn entry(id: i64, client: &str, name: &str) -> Entry {
        Entry { id, tenant: TENANT.into(), client: client.into(), name: name.into(), expires_at: None }
    }

    fn registration(id: i64, token: Option<&str>) -> Value {
        json!({
            "account": {"namespace": "mail", "name": "agency"}, "baseUrl": "https://a.example", "credentialId": id,
            "ownership": "Created", "fingerprint": "k:0", "name": "n", "expiresAt": "2027-11-28T23:59:59Z",
            "registrationTime": "2026-11-28T23:59:59Z", "idempotencyToken": token
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

    fn named(name: &str) -> NamespacedName {
        NamespacedName { namespace: "mail".into(), name: name.into() }
    }

    #[test]
    fn every_entry_has_one_class() {
        let pending = json!({
            "idempotencyToken": "pendngpendng", "startTime": "2026-11-28T23:59:59Z", "existingIds": [5], "baseUrl": "https://a.example",
            "account": {"namespace": "mail", "name": "agency"}, "fingerprint": "k:0"
        });
        let status = json!({
            "registration": registration(1, Some("abcdefghjk29")), "previousRegistrations": [registration(2, None)], "pendingCreate": pending
        });
        let inventory = Inventory::of(&[object("x", &status), object("y", &json!(null))]);
        for (entry, class) in [
            (entry(1, CLIENT, "n"), OwnershipClass::Registered),
            (entry(2, CLIENT, "n"), OwnershipClass::Orphaned(named("x"))),
            (entry(3, CLIENT, "n [abcdefghjk29]"), OwnershipClass::Orphaned(named("x"))),
            (entry(4, CLIENT, "n [pendngpendng]"), OwnershipClass::Orphaned(named("x"))),
            (entry(5, CLIENT, "n [strangstrang]"), OwnershipClass::OtherOperator),
            (entry(6, CLIENT, "n"), OwnershipClass::Adoptable(named("x"))),
            (entry(7, "another", "n"), OwnershipClass::Unmanaged),
        ] {
            assert_eq!(inventory.classify(&location(), &entry), class, "{entry:?}");
        }
        let elsewhere = AccountLocation { base_url: "https://b.example".into(), ..location() };
        assert_eq!(inventory.classify(&elsewhere, &entry(1, "another", "n")), OwnershipClass::Unmanaged);
    }

    #[test]
    fn an_object_whose_status_cannot_be_read_is_named() {
        let odd = json!({"registration": {"credentialId": "seven"}});
        let inventory = Inventory::of(&[object("odd", &odd), object("new", &json!({}))]);
        assert_eq!(inventory.unreadable, [named("odd")]);
    }
}
