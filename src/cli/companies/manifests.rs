//! The manifests of `companies`, for active companies without an account. Names of companies are on one line in
//! comments, and quoted in values.

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::cli::companies::names::{NameAllocator, NamespaceNames};
use crate::cli::companies::report::Companies;
use crate::cli::companies::template::{Template, Values};
use crate::cli::output::sanitized;
use crate::woodpecker::Company;

/// The objects of a company.
pub(super) struct Manifests<'a> {
    pub(super) company: &'a Company,
    pub(super) objects: Vec<Value>,
}

/// One document for each object, with a comment before those of each company.
pub(super) fn yaml(all: &[Manifests<'_>]) -> anyhow::Result<String> {
    let mut text = String::new();
    for Manifests { company, objects } in all {
        let mut comment = format!("# Company {} {:?}\n", company.id, sanitized(&company.name));
        for object in objects {
            let yaml = serde_saphyr::to_string(object).context("failed to write YAML")?;
            text.extend(["---\n", &comment, &yaml]);
            comment.clear();
        }
    }
    Ok(text)
}

/// One List.
pub(super) fn json(all: &[Manifests<'_>]) -> String {
    let items: Vec<&Value> = all.iter().flat_map(|manifests| &manifests.objects).collect();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    format!("{list:#}\n")
}

// === impl Companies ===

impl Companies {
    /// The objects of each active company without an account.
    pub(super) fn manifests(
        &self,
        template: &Template,
        namespaces: &NamespaceNames,
    ) -> anyhow::Result<Vec<Manifests<'_>>> {
        let mut allocator = self.used_names();
        let missing = self.rows.iter().filter(|row| row.is_missing());
        missing
            .map(|row| {
                let values = Values {
                    names: &allocator.allocate(&row.company.name, row.company.id, namespaces),
                    company_id: row.company.id,
                    company_name: &row.company.name,
                    account_namespace: &self.hq.name.namespace,
                    secret_name: &self.hq.secret_name,
                    secret_key: self.hq.secret_key.as_deref(),
                    base_url: self.hq.base_url.as_deref(),
                };
                Ok(Manifests { company: &row.company, objects: template.fill(&values)? })
            })
            .collect()
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
