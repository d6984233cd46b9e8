//! The manifests of `import`. Untrusted texts are on one line in comments, and quoted in values.

use std::collections::HashMap;

use serde_json::Value;

use crate::api::timestamp::rfc3339;
use crate::api::{ClientId, Labels, TenantId};
use crate::cli::import::names::{NameAllocator, Names, SecretNames};
use crate::cli::output::sanitized;
use crate::cli::ownership::{Inventory, OwnershipClass};
use crate::cli::woodpecker::AccountListing;
use crate::core::remote::{Entry, split_token};

/// The highest id that an object can specify: JSON represents it exactly.
const MAX_ID: i64 = 9_007_199_254_740_991;

/// Longest `displayName`, in characters.
const MAX_NAME: usize = 200;

/// The credentials to import, and the target namespace.
pub(super) struct Import<'a> {
    pub(super) listed: &'a AccountListing,
    pub(super) inventory: &'a Inventory,
    pub(super) namespace: &'a str,
    pub(super) secrets: &'a SecretNames,
    /// The labels of the namespace, if the account selects namespaces by them.
    pub(super) labels: Option<Labels>,
}

/// An entry that an object can adopt, because its ids are valid.
struct ImportableEntry<'a> {
    entry: &'a Entry,
    tenant: TenantId,
    client: ClientId,
}

// === impl Import ===

impl Import<'_> {
    pub(super) fn text(&self) -> String {
        let location = &self.listed.location;
        let mut entries: Vec<&Entry> = self.listed.entries.iter().collect();
        entries.sort_by_key(|entry| entry.id);
        let all = entries.len();
        entries.retain(|entry| self.inventory.classify(location, entry) != OwnershipClass::Registered);
        let mut apps: HashMap<(&str, &str), Vec<i64>> = HashMap::new();
        for entry in &entries {
            apps.entry((&entry.tenant, &entry.client)).or_default().push(entry.id);
        }
        let mut text = self.head(entries.len(), all);
        let mut names = self.used_names();
        for entry in entries {
            let ids =
                apps.get(&(entry.tenant.as_str(), entry.client.as_str())).map_or(&[][..], Vec::as_slice);
            self.write(&mut text, entry, ids, &mut names);
        }
        text
    }

    fn head(&self, left: usize, all: usize) -> String {
        let account = &self.listed.location.account;
        let mut text = format!(
            "# WoodpeckerAccount {account} holds {all} credentials; {left} of them are not registered by any object.\n\
             # Fill in the Secrets, and apply them with the objects. The operator adopts each credential once\n\
             # Microsoft has issued a token for its secret, and never creates another one instead.\n"
        );
        if !self.listed.object.spec.allows(&account.namespace, self.namespace, self.labels.as_ref()) {
            let namespace = self.namespace;
            text.push_str(&commented(&format!(
                "WoodpeckerAccount {account} does not allow namespace {namespace}: add it to its spec.allowedNamespaces.names, or label the namespace as its spec.allowedNamespaces.selector says."
            )));
        }
        text
    }

    /// The names in use in the namespace.
    fn used_names(&self) -> NameAllocator {
        let of_namespace =
            || self.inventory.objects().iter().filter(|it| it.name.namespace == self.namespace);
        NameAllocator {
            objects: of_namespace().map(|it| it.name.name.clone()).collect(),
            secrets: of_namespace().map(|it| it.secret.clone()).collect(),
        }
    }

    fn write(&self, text: &mut String, entry: &Entry, of_app: &[i64], allocator: &mut NameAllocator) {
        let expires = entry.expires_at.map_or_else(|| "at an unknown date".to_owned(), rfc3339);
        let head = format!("\n# Credential {} {:?} expires {expires}.\n", entry.id, sanitized(&entry.name));
        let found = ImportableEntry::of(entry).and_then(|app| Ok((app, self.choice(entry, of_app)?)));
        let (app, choice) = match found {
            Ok(found) => found,
            Err(why) => {
                text.extend([&head, "# No manifest: ", &why, ".\n"]);
                return;
            }
        };
        let plain = split_token(&entry.name).map_or(entry.name.as_str(), |(plain, _)| plain);
        let names = allocator.allocate(plain, entry.id, self.secrets);
        let (object, secret) = (self.object(&app, plain, &names), self.secret(entry, &names));
        match choice {
            None => text.extend(["---", &head, &object, "#\n", &commented(&secret)]),
            Some(why) => {
                text.extend([&head, "# ", &why, ".\n"]);
                text.extend([
                    commented(&["---\n", &object].concat()),
                    commented(&["---\n", &secret].concat()),
                ]);
            }
        }
    }

    /// Why a person must choose among the credentials of its app; or, as an error, why no object can manage it.
    fn choice(&self, entry: &Entry, of_app: &[i64]) -> Result<Option<String>, String> {
        let location = &self.listed.location;
        if let OwnershipClass::Orphaned(object) = self.inventory.classify(location, entry) {
            return Err(format!(
                "the operator still has to process it for MicrosoftGraphCredential {object}; import again if it remains"
            ));
        }
        if let Some(owner) = self.inventory.owner_of(location, entry) {
            return Err(format!(
                "MicrosoftGraphCredential {} is for the same app at this account, and only one object can manage it: \
                 set its adoption {{credentialId: {}}}, or delete one of the two credentials at Woodpecker",
                owner.name, entry.id
            ));
        }
        if let [_, _, ..] = of_app {
            let ids = of_app.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            return Ok(Some(format!(
                "The credentials {ids} are for the same app, and only one object can manage it: uncomment the one \
                 that your mailboxes use, and delete the others at Woodpecker"
            )));
        }
        Ok(None)
    }

    fn object(&self, app: &ImportableEntry<'_>, plain: &str, names: &Names) -> String {
        let account = &self.listed.location.account;
        let namespace = if account.namespace == self.namespace {
            String::new()
        } else {
            format!(", namespace: {}", quoted(&account.namespace))
        };
        // Without a displayName, an adopted credential keeps its name.
        let display_name = if can_be_display_name(plain) {
            format!("  displayName: {}\n", quoted(plain))
        } else {
            String::new()
        };
        format!(
            "apiVersion: graph-credentials.io/v1alpha1\n\
             kind: MicrosoftGraphCredential\n\
             metadata: {{name: {}, namespace: {}}}\n\
             spec:\n  \
               tenantId: {}\n  \
               clientId: {}\n\
             {display_name}  \
               secretRef: {{name: {}}}\n  \
               destination:\n    \
                 woodpecker:\n      \
                   accountRef: {{name: {}{namespace}}}\n      \
                   adoption: {{policy: AdoptOnly, credentialId: {}}}\n",
            quoted(&names.object),
            quoted(self.namespace),
            quoted(app.tenant.as_str()),
            quoted(app.client.as_str()),
            quoted(&names.secret),
            quoted(&account.name),
            app.entry.id,
        )
    }

    fn secret(&self, entry: &Entry, names: &Names) -> String {
        let expires_at = entry.expires_at.map_or_else(|| "<date with time and offset>".to_owned(), rfc3339);
        format!(
            "apiVersion: v1\n\
             kind: Secret\n\
             metadata: {{name: {}, namespace: {}}}\n\
             stringData:\n  \
               client_secret: \"<the Value of the app's client secret>\"\n  \
               secret_expires_at: {}\n",
            quoted(&names.secret),
            quoted(self.namespace),
            quoted(&expires_at),
        )
    }
}

// === impl ImportableEntry ===

impl<'a> ImportableEntry<'a> {
    /// An error says why no object can manage it.
    fn of(entry: &'a Entry) -> Result<Self, String> {
        let invalid_guid = |what: &str, text: &str| {
            format!(
                "its {what} {:?} is not a GUID: register the app again with the id that Entra shows, or leave it",
                sanitized(text)
            )
        };
        if entry.id > MAX_ID {
            return Err("its id is greater than 2^53 - 1, so no object can specify it".to_owned());
        }
        let tenant = entry.tenant.parse().map_err(|_| invalid_guid("tenant id", &entry.tenant))?;
        let client = entry.client.parse().map_err(|_| invalid_guid("client id", &entry.client))?;
        Ok(Self { entry, tenant, client })
    }
}

fn can_be_display_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.chars().count()) && name.trim() == name && sanitized(name) == name
}

/// The text as a YAML value: JSON strings are valid YAML.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn commented(text: &str) -> String {
    text.lines().map(|line| ["# ", line, "\n"].concat()).collect()
}

#[cfg(test)]
mod tests {
    use kube::api::DynamicObject;
    use serde_json::json;

    use super::*;
    use crate::api::{AccountLocation, AccountName, MicrosoftGraphCredential};

    const TENANT: &str = "bbfb2db7-aaf4-4f7c-9dc2-2c9160d1cb32";
    const CLIENT: &str = "e1c6ac69-480e-4a17-9b85-3467967bd179";
    const OTHER: &str = "00000000-0000-4000-8000-000000000001";

    fn entry(id: i64, tenant: &str, client: &str, name: &str) -> Entry {
        let expires_at = "2027-11-28T23:59:59Z".parse().ok();
        Entry { id, tenant: tenant.into(), client: client.into(), name: name.into(), expires_at }
    }

    fn text(entries: Vec<Entry>, objects: &[DynamicObject]) -> String {
        let account = AccountName { namespace: "mail".into(), name: "agency".into() };
        let object = json!({
            "apiVersion": "graph-credentials.io/v1alpha1", "kind": "WoodpeckerAccount",
            "metadata": {"name": "agency", "namespace": "mail"}, "spec": {"apiKeySecretRef": {"name": "k"}}
        });
        let location = AccountLocation { account, base_url: "https://a.example".into(), company_id: None };
        let listed = AccountListing { object: serde_json::from_value(object).unwrap(), location, entries };
        let secrets = super::super::names::secret_names("{name}-graph").unwrap();
        let inventory = Inventory::of(objects);
        Import { listed: &listed, inventory: &inventory, namespace: "mail", secrets: &secrets, labels: None }
            .text()
    }

    /// The documents that are not commented out.
    fn objects(text: &str) -> Vec<MicrosoftGraphCredential> {
        let documents = text.split("---\n").skip(1);
        documents
            .filter(|document| document.lines().any(|line| line.starts_with("kind:")))
            .map(|document| serde_saphyr::from_str(document).unwrap())
            .collect()
    }

    #[test]
    fn manifests_are_valid_for_any_name_of_a_credential() {
        for name in [
            "MS Graph app",
            "yes",
            "0x1f",
            "a: b # c",
            "\"'{}[]&*!|>%@`",
            "\\n",
            "---",
            "Vertrieb \u{e4}\u{1f600}",
        ] {
            let printed = text(vec![entry(7, TENANT, CLIENT, name)], &[]);
            let object = objects(&printed).remove(0);
            assert_eq!(object.spec.display_name.as_deref(), Some(name), "{printed}");
            assert_eq!(object.spec.tenant_id.as_str(), TENANT);
            let woodpecker = object.spec.woodpecker().unwrap();
            assert_eq!(woodpecker.adoption.as_ref().unwrap().credential_id, Some(7));
        }
    }

    #[test]
    fn a_name_that_is_not_a_valid_display_name_is_left_out() {
        let long = "x".repeat(201);
        for name in ["", " x", "x\n---\nkind: Secret", "x\u{2028}y", "x\u{85}y", &long] {
            let printed = text(vec![entry(7, TENANT, CLIENT, name)], &[]);
            assert_eq!(objects(&printed)[0].spec.display_name, None, "{printed}");
            assert_eq!(printed.matches("\nkind: ").count(), 1, "{printed}");
        }
    }

    #[test]
    fn the_idempotency_token_is_not_part_of_the_display_name() {
        let printed = text(vec![entry(7, TENANT, CLIENT, "MS Graph app [abcdefghjk29]")], &[]);
        assert_eq!(objects(&printed)[0].spec.display_name.as_deref(), Some("MS Graph app"));
    }

    #[test]
    fn invalid_ids_are_explained() {
        let printed = text(vec![entry(7, "contoso.com\n", CLIENT, "n"), entry(8, TENANT, "c", "n")], &[]);
        assert!(objects(&printed).is_empty(), "{printed}");
        for text in ["tenant id \"contoso.com\u{fffd}\" is not a GUID", "client id \"c\" is not a GUID"] {
            assert!(printed.contains(text), "{text}: {printed}");
        }
    }

    #[test]
    fn several_credentials_of_one_app_are_commented_out() {
        let both =
            vec![entry(7, TENANT, CLIENT, "n"), entry(8, TENANT, CLIENT, "n"), entry(9, TENANT, OTHER, "n")];
        let printed = text(both, &[]);
        let ids: Vec<Option<i64>> = objects(&printed)
            .iter()
            .map(|object| object.spec.woodpecker().unwrap().adoption.as_ref().unwrap().credential_id)
            .collect();
        assert_eq!(ids, [Some(9)]);
        assert!(printed.contains("The credentials 7, 8 are for the same app"), "{printed}");
        let uncommented = printed.replace("\n# ", "\n");
        for id in [7, 8] {
            assert!(uncommented.contains(&format!("credentialId: {id}}}")), "{printed}");
        }
    }

    #[test]
    fn an_existing_object_for_the_app_is_named() {
        let object = json!({
            "metadata": {"name": "n", "namespace": "mail", "uid": "u"},
            "spec": {
                "tenantId": TENANT, "clientId": CLIENT, "secretRef": {"name": "other-graph"},
                "destination": {"woodpecker": {"accountRef": {"name": "agency"}}}
            }
        });
        let object: DynamicObject = serde_json::from_value(object).unwrap();
        let entries = vec![entry(7, TENANT, CLIENT, "x"), entry(8, TENANT, OTHER, "other")];
        let printed = text(entries, &[object]);
        assert!(printed.contains("MicrosoftGraphCredential mail/n is for the same app"), "{printed}");
        assert_eq!(
            objects(&printed)[0].metadata.name.as_deref(),
            Some("other-8"),
            "its Secret's name is taken"
        );
    }
}
