//! The profiles of rights, each a set of the chart's values.

use serde_json::{Value, json};

use crate::demo::Difference;
use crate::helm;

/// A profile of rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    /// `get` on every Secret.
    Cluster,
    /// `list` and `watch` too.
    Watching,
    /// Secrets only in some namespaces.
    Namespaces,
    /// Secrets by their names.
    Named,
    /// Every value of the chart is set, and admission adds sidecars to the pods.
    EveryValue,
    /// No right beyond some namespaces and the operator's own, for the user who installs it too.
    Roles,
}

// === impl Profile ===

impl Profile {
    /// In the order of a run. `Roles` is last because it takes over CRDs that belonged to a release before.
    pub(super) const ALL: [Self; 6] =
        [Self::Cluster, Self::Watching, Self::Namespaces, Self::Named, Self::EveryValue, Self::Roles];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Watching => "watching",
            Self::Namespaces => "namespaces",
            Self::Named => "named",
            Self::EveryValue => "every-value",
            Self::Roles => "roles",
        }
    }

    /// Whether a deleted object waits for the operator, which then applies `deletionPolicy: Delete`.
    pub(super) const fn has_finalizers(self) -> bool {
        !matches!(self, Self::Roles)
    }

    /// Whether the operator has rights by `RoleBinding`s in the namespaces that it serves.
    pub(super) const fn has_bindings(self) -> bool {
        matches!(self, Self::Namespaces | Self::Named | Self::Roles)
    }

    /// The chart's values for serving these namespaces.
    pub(super) fn values(self, tenants: &[&str]) -> Result<Value, Difference> {
        Ok(match self {
            Self::Cluster => json!({}),
            Self::Watching => json!({"secretAccess": "watch"}),
            Self::Namespaces => json!({"watchNamespaces": tenants}),
            Self::Named => {
                let names = ["agency-key", "graph"];
                let secrets: Vec<Value> =
                    tenants.iter().map(|it| json!({"namespace": it, "names": names})).collect();
                json!({"secretAccess": "named", "namedSecrets": secrets})
            }
            Self::EveryValue => every_value()?,
            Self::Roles => json!({
                "watchNamespaces": tenants, "crds": {"enabled": false},
                "admissionPolicies": {"enabled": false}, "rbac": {"aggregateClusterRoles": false, "clusterWideCRDs": false}
            }),
        })
    }
}

/// A value for every part of the chart.
fn every_value() -> Result<Value, Difference> {
    Ok(helm::parse(include_str!("every-value.yaml"))?.into_iter().next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Values that a run sets for every profile, that move what it looks for, or that need what a cluster may lack: images,
    /// other CRDs.
    const OTHERS: [&str; 15] = [
        "allowedWoodpeckerUrls",
        "caBundle",
        "dnsServers",
        "extraArgs",
        "extraContainers",
        "image",
        "microsoftAuthority",
        "microsoftGraph",
        "namedSecrets",
        "namespaceOverride",
        "podMonitor",
        "propagationWindow",
        "prometheusRule",
        "replicaCount",
        "serviceMonitor",
    ];

    #[test]
    fn every_value_of_the_chart_is_set() {
        let chart = std::fs::read_to_string(crate::workspace().join("deploy/chart/values.yaml")).unwrap();
        let chart = helm::parse(&chart).unwrap().remove(0);
        let names = |values: &Value| values.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
        let mut set = names(&every_value().unwrap());
        set.extend(OTHERS.map(str::to_owned));
        set.insert("watchNamespaces".to_owned());
        assert_eq!(set, names(&chart));
    }

    #[test]
    fn every_profile_has_its_own_name_and_position() {
        for (position, profile) in Profile::ALL.into_iter().enumerate() {
            assert_eq!(profile as usize, position);
            assert_eq!(Profile::ALL.iter().filter(|it| it.name() == profile.name()).count(), 1);
        }
    }
}
