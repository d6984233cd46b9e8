//! The manifests of `companies`. Names of companies are on one line in comments, and quoted in values.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::cli::companies::names::{NameAllocator, Names, NamespaceNames};
use crate::cli::companies::report::{Companies, Existing, Row};
use crate::cli::companies::template::{Template, Values};
use crate::cli::output::sanitized;

impl Companies {
    /// One document for each object, with a comment before those of each company.
    pub(super) fn yaml(&self, template: &Template, namespaces: &NamespaceNames) -> anyhow::Result<String> {
        let mut text = String::new();
        for (row, objects) in self.objects(template, namespaces)? {
            let mut comment = format!("# Company {} {:?}\n", row.company.id, sanitized(&row.company.name));
            for object in objects {
                let yaml = serde_saphyr::to_string(&object).context("failed to write YAML")?;
                text.extend(["---\n", &comment, &yaml]);
                comment.clear();
            }
        }
        Ok(text)
    }

    /// One List.
    pub(super) fn json(&self, template: &Template, namespaces: &NamespaceNames) -> anyhow::Result<String> {
        let objects = self.objects(template, namespaces)?;
        let items: Vec<Value> = objects.into_iter().flat_map(|(_, objects)| objects).collect();
        let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
        Ok(format!("{list:#}\n"))
    }

    /// The objects of each active company.
    fn objects(
        &self,
        template: &Template,
        namespaces: &NamespaceNames,
    ) -> anyhow::Result<Vec<(&Row, Vec<Value>)>> {
        let mut allocator = self.used_names();
        let mut objects = Vec::new();
        for row in self.rows.iter().filter(|row| row.company.is_active) {
            let (account, names) = match row.accounts.first() {
                Some(account) => (account, existing_names(account, namespaces)),
                None => (&self.hq, allocator.allocate(&row.company.name, row.company.id, namespaces)),
            };
            let values = Values {
                names: &names,
                company_id: row.company.id,
                company_name: &row.company.name,
                account_namespace: &account.name.namespace,
                secret_name: &account.secret_name,
                secret_key: account.secret_key.as_deref(),
                base_url: account.base_url.as_deref(),
            };
            objects.push((row, template.fill(&values)?));
        }
        Ok(objects)
    }

    /// The names of accounts in the namespace of the agency's key, and the namespaces that accounts allow.
    fn used_names(&self) -> NameAllocator {
        let of_namespace = self.accounts.iter().filter(|it| it.name.namespace == self.hq.name.namespace);
        NameAllocator {
            objects: of_namespace.map(|it| it.name.name.clone()).collect(),
            namespaces: self.accounts.iter().flat_map(|it| it.allowed.iter().cloned()).collect(),
        }
    }
}

/// The names that the account has in the cluster.
fn existing_names(account: &Existing, namespaces: &NamespaceNames) -> Names {
    let usual = namespaces.of(&account.name.name);
    let namespace = match account.allowed.as_slice() {
        [] => usual,
        allowed if allowed.contains(&usual) => usual,
        [first, ..] => first.clone(),
    };
    Names { object: account.name.name.clone(), namespace }
}
