//! The profiles of rights, each a set of the chart's values.

use serde_json::{Value, json};

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
    /// No right beyond some namespaces and the operator's own, for the user who installs it too.
    Roles,
}

// === impl Profile ===

impl Profile {
    /// In the order of a run. `Roles` is last because it takes over CRDs that belonged to a release before.
    pub(super) const ALL: [Self; 5] =
        [Self::Cluster, Self::Watching, Self::Namespaces, Self::Named, Self::Roles];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Cluster => "cluster",
            Self::Watching => "watching",
            Self::Namespaces => "namespaces",
            Self::Named => "named",
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
    pub(super) fn values(self, tenants: &[&str]) -> Value {
        match self {
            Self::Cluster => json!({}),
            Self::Watching => json!({"secretAccess": "watch"}),
            Self::Namespaces => json!({"watchNamespaces": tenants}),
            Self::Named => {
                let names = ["agency-key", "graph"];
                let secrets: Vec<Value> =
                    tenants.iter().map(|it| json!({"namespace": it, "names": names})).collect();
                json!({"secretAccess": "named", "namedSecrets": secrets})
            }
            Self::Roles => json!({
                "watchNamespaces": tenants, "crds": {"enabled": false},
                "admissionPolicies": {"enabled": false}, "rbac": {"aggregateClusterRoles": false, "clusterWideCRDs": false}
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_has_its_own_name_and_position() {
        for (position, profile) in Profile::ALL.into_iter().enumerate() {
            assert_eq!(profile as usize, position);
            assert_eq!(Profile::ALL.iter().filter(|it| it.name() == profile.name()).count(), 1);
        }
    }
}
