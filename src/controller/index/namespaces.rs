//! The labels of namespaces, for accounts that select the namespaces that may use them.

use std::collections::{BTreeMap, HashMap};

use crate::api::{AccountName, Labels, NamespaceSelector, NamespacedName, WoodpeckerAccountSpec};
use crate::controller::index::entry::Entry;
use crate::controller::index::keys::Key;
use crate::controller::index::{Index, Objects};

/// Whether an account allows a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowance {
    Allowed,
    Denied,
    /// The account selects namespaces by labels, and those have not been read yet.
    Unknown,
}

/// The labels of all namespaces.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum NamespaceLabels {
    /// They are being read, or will be once an account needs them.
    #[default]
    Unread,
    Read(HashMap<String, Labels>),
    /// The operator may not list and watch namespaces.
    Forbidden,
}

// === impl NamespaceLabels ===

impl NamespaceLabels {
    /// Whether the account `own` allows objects of that namespace.
    pub fn allowance(&self, spec: &WoodpeckerAccountSpec, own: &str, namespace: &str) -> Allowance {
        let labels = match self {
            Self::Read(all) => all.get(namespace),
            Self::Unread | Self::Forbidden => None,
        };
        if spec.allows(own, namespace, labels) {
            Allowance::Allowed
        } else if *self == Self::Unread && spec.namespace_selector().is_some() {
            Allowance::Unknown
        } else {
            Allowance::Denied
        }
    }

    fn labels(&self, namespace: &str) -> Option<&Labels> {
        if let Self::Read(all) = self { all.get(namespace) } else { None }
    }
}

// === impl Index ===

impl Index {
    /// Whether an account selects namespaces by labels.
    pub fn has_namespace_selector(&self) -> bool {
        self.objects().selectors().next().is_some()
    }

    /// Whether the account may allow the namespace: unless it is known that it does not.
    pub fn may_allow(&self, spec: &WoodpeckerAccountSpec, own: &AccountName, namespace: &str) -> bool {
        self.objects().namespaces.allowance(spec, &own.namespace, namespace) != Allowance::Denied
    }

    /// Whether labels are needed that the operator may not read.
    pub fn are_namespaces_forbidden(&self) -> bool {
        self.objects().namespaces == NamespaceLabels::Forbidden
    }

    /// Replaces what is known about all namespaces. Returns the credentials of each account for which that changes
    /// something.
    pub fn replace_namespaces(
        &self,
        namespaces: NamespaceLabels,
    ) -> BTreeMap<AccountName, Vec<NamespacedName>> {
        let mut objects = self.objects();
        let before = std::mem::replace(&mut objects.namespaces, namespaces);
        objects.changed_by(&before, |_| true)
    }

    /// Replaces the labels of one namespace; `None` if it was deleted. Returns the same.
    pub fn replace_namespace(
        &self,
        namespace: &str,
        labels: Option<Labels>,
    ) -> BTreeMap<AccountName, Vec<NamespacedName>> {
        let mut objects = self.objects();
        let NamespaceLabels::Read(all) = &mut objects.namespaces else { return BTreeMap::new() };
        // Most events change something else about the namespace.
        if all.get(namespace) == labels.as_ref() {
            return BTreeMap::new();
        }
        let old = match labels {
            Some(labels) => all.insert(namespace.to_owned(), labels),
            None => all.remove(namespace),
        };
        let before = old.map(|labels| (namespace.to_owned(), labels)).into_iter().collect();
        objects.changed_by(&NamespaceLabels::Read(before), |changed| changed == namespace)
    }
}

// === impl Objects ===

impl Objects {
    fn selectors(&self) -> impl Iterator<Item = (AccountName, &NamespaceSelector)> {
        self.accounts.entries().filter_map(|entry| {
            let account = entry.object.0.as_ref().ok()?;
            Some((entry.name(), account.spec.namespace_selector()?))
        })
    }

    /// The accounts that select namespaces, each with its credentials in the namespaces that it let in `before` and no
    /// longer does, or the other way around.
    fn changed_by(
        &self,
        before: &NamespaceLabels,
        is_concerned: impl Fn(&str) -> bool,
    ) -> BTreeMap<AccountName, Vec<NamespacedName>> {
        let was_read = *before != NamespaceLabels::Unread;
        let is_read = self.namespaces != NamespaceLabels::Unread;
        let is_other_state = std::mem::discriminant(before) != std::mem::discriminant(&self.namespaces);
        let mut changed = BTreeMap::new();
        for (account, selector) in self.selectors() {
            let is_selected = |namespaces: &NamespaceLabels, name: &str| {
                namespaces.labels(name).is_some_and(|labels| selector.matches(labels))
            };
            let is_changed = |name: &NamespacedName| {
                let namespace = name.namespace.as_str();
                let selects = || is_selected(&self.namespaces, namespace) != is_selected(before, namespace);
                is_concerned(namespace) && (was_read != is_read || selects())
            };
            let entries = self.credentials.find(&Key::Account(&account)).map(Entry::name);
            let here: Vec<NamespacedName> = entries.filter(is_changed).collect();
            if is_other_state || !here.is_empty() {
                changed.insert(account, here);
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_selector_decides_only_once_the_labels_are_read() {
        let spec = json!({
            "apiKeySecretRef": {"name": "k"},
            "allowedNamespaces": {"names": ["named"], "selector": {"matchLabels": {"mail": "yes"}}}
        });
        let spec: WoodpeckerAccountSpec = serde_json::from_value(spec).unwrap();
        let named = json!({"apiKeySecretRef": {"name": "k"}, "allowedNamespaces": {"names": ["named"]}});
        let without_selector: WoodpeckerAccountSpec = serde_json::from_value(named).unwrap();
        let labels = |value: &str| Labels::from([("mail".to_owned(), value.to_owned())]);
        let read = [("labeled".to_owned(), labels("yes")), ("other".to_owned(), labels("no"))];
        let read = NamespaceLabels::Read(read.into_iter().collect());
        for (namespaces, labeled, other) in [
            (NamespaceLabels::Unread, Allowance::Unknown, Allowance::Unknown),
            (NamespaceLabels::Forbidden, Allowance::Denied, Allowance::Denied),
            (read, Allowance::Allowed, Allowance::Denied),
        ] {
            let allowance =
                |spec: &WoodpeckerAccountSpec, name: &str| namespaces.allowance(spec, "own", name);
            assert_eq!((allowance(&spec, "labeled"), allowance(&spec, "other")), (labeled, other));
            assert_eq!(allowance(&spec, "unknown"), other, "{namespaces:?}");
            assert_eq!(allowance(&spec, "named"), Allowance::Allowed, "{namespaces:?}");
            assert_eq!(allowance(&spec, "own"), Allowance::Allowed, "{namespaces:?}");
            assert_eq!(allowance(&without_selector, "labeled"), Allowance::Denied, "{namespaces:?}");
        }
    }
}
