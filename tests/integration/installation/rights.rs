//! Compares what a ServiceAccount may do by its roles with what it did by the audit log.

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::{
    ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
};
use kit::cluster::AuditEntry;
use kube::Client;

use super::release::{NAMESPACE, Release};
use super::*;

/// One verb on one resource, in one namespace or all, for one name or any.
struct Right {
    namespace: Option<String>,
    group: String,
    resource: String,
    name: Option<String>,
    verb: String,
}

// === impl Right ===

impl Right {
    fn is_used_by(&self, entry: &AuditEntry) -> bool {
        let resource = match &entry.subresource {
            Some(subresource) => format!("{}/{subresource}", entry.resource),
            None => entry.resource.clone(),
        };
        (&self.verb, &self.group, &self.resource) == (&entry.verb, &entry.group, &resource)
            && self.namespace.is_none_or_is(entry.namespace.as_deref())
            && self.name.is_none_or_is(entry.name.as_deref())
    }
}

trait NoneOrIs {
    fn is_none_or_is(&self, other: Option<&str>) -> bool;
}

impl NoneOrIs for Option<String> {
    fn is_none_or_is(&self, other: Option<&str>) -> bool {
        self.is_none() || self.as_deref() == other
    }
}

impl std::fmt::Display for Right {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let any = |part: &Option<String>| part.clone().unwrap_or_else(|| "*".into());
        write!(
            f,
            "{} {}.{} {}/{}",
            self.verb,
            self.resource,
            self.group,
            any(&self.namespace),
            any(&self.name)
        )
    }
}

// === impl Release ===

impl Release {
    /// Checks that the API server refused that account only the expected requests, and that it used each of
    /// its rights.
    pub async fn used_exactly_its_rights(&self, account: &str, rejected: &[String]) {
        assert_eq!(self.refused_to(account), rejected, "what {account} was refused");
        assert_eq!(self.unused_rights(account).await, [""; 0], "granted to {account}, and never used");
    }

    /// The requests that the API server refused that account because of missing rights.
    pub fn refused_to(&self, account: &str) -> Vec<String> {
        let rejected: BTreeSet<String> = self
            .requests_of(account)
            .into_iter()
            .filter(|entry| entry.code == Some(403))
            .map(|entry| {
                let place = |part: Option<String>| part.unwrap_or_else(|| "*".into());
                format!("{} {} {}/{}", entry.verb, entry.resource, place(entry.namespace), place(entry.name))
            })
            .collect();
        rejected.into_iter().collect()
    }

    /// What the account's roles allow and it never did.
    pub async fn unused_rights(&self, account: &str) -> Vec<String> {
        let requests = self.requests_of(account);
        assert!(!requests.is_empty(), "{account} sent no request");
        let rights = rights_of(&self.env.client, account).await;
        assert!(!rights.is_empty(), "{account} has no rights");
        let unused = rights.into_iter().filter(|right| !requests.iter().any(|entry| right.is_used_by(entry)));
        // No request has this verb. Without it the admission policy denies each write of a status.
        unused.filter(|right| right.verb != "write-state").map(|right| right.to_string()).collect()
    }

    fn requests_of(&self, account: &str) -> Vec<AuditEntry> {
        let user = format!("system:serviceaccount:{NAMESPACE}:{account}");
        let mut entries = self.env.cluster.audit().expect("the audit log can be read");
        entries.retain(|entry| entry.user == user);
        entries
    }
}

/// All rights that are bound to the account by name.
async fn rights_of(client: &Client, account: &str) -> Vec<Right> {
    let all = ListParams::default();
    let mut rights = Vec::new();
    let bindings: Api<ClusterRoleBinding> = Api::all(client.clone());
    for binding in bindings.list(&all).await.unwrap() {
        if names(binding.subjects.as_deref(), account) {
            rights.extend(expand(&rules(client, &binding.role_ref, None).await, None));
        }
    }
    let bindings: Api<RoleBinding> = Api::all(client.clone());
    for binding in bindings.list(&all).await.unwrap() {
        if names(binding.subjects.as_deref(), account) {
            let namespace = binding.namespace();
            rights.extend(expand(
                &rules(client, &binding.role_ref, namespace.as_deref()).await,
                namespace.as_deref(),
            ));
        }
    }
    rights
}

fn names(subjects: Option<&[Subject]>, account: &str) -> bool {
    let is_it = |it: &Subject| it.kind == "ServiceAccount" && it.name == account;
    subjects.unwrap_or_default().iter().any(|it| is_it(it) && it.namespace.as_deref() == Some(NAMESPACE))
}

async fn rules(client: &Client, role: &RoleRef, namespace: Option<&str>) -> Vec<PolicyRule> {
    let rules = match (role.kind.as_str(), namespace) {
        ("Role", Some(namespace)) => {
            Api::<Role>::namespaced(client.clone(), namespace).get(&role.name).await.unwrap().rules
        }
        _ => Api::<ClusterRole>::all(client.clone()).get(&role.name).await.unwrap().rules,
    };
    rules.unwrap_or_default()
}

/// Expands rules to one right for each verb and name.
fn expand(rules: &[PolicyRule], namespace: Option<&str>) -> Vec<Right> {
    let mut rights = Vec::new();
    for rule in rules {
        let names = match rule.resource_names.as_deref().unwrap_or_default() {
            [] => vec![None],
            names => names.iter().cloned().map(Some).collect(),
        };
        for resource in rule.resources.iter().flatten() {
            for group in rule.api_groups.iter().flatten() {
                for verb in &rule.verbs {
                    rights.extend(names.iter().map(|name| Right {
                        namespace: namespace.map(str::to_owned),
                        group: group.clone(),
                        resource: resource.clone(),
                        name: name.clone(),
                        verb: verb.clone(),
                    }));
                }
            }
        }
    }
    rights
}
