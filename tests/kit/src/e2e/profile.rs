//! The profiles of rights, each a set of the chart's values.

use serde_json::{Value, json};

/// A profile of rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    /// `get` on every Secret.
    Cluster,
    /// `list` and `watch` as well.
    Watching,
    /// Secrets in some namespaces alone.
    Namespaces,
    /// Secrets by their names.
    Named,
    /// No right beyond some namespaces and the operator's own, for who installs it either.
    Roles,
}

// === impl Profile ===

impl Profile {
    /// In the order of a run. `Roles` is last: it takes CRDs over that are a release's before.
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

    /// Whether what is deleted waits for the operator, which carries `deletionPolicy: Delete` out then.
    pub(super) const fn has_finalizers(self) -> bool {
        !matches!(self, Self::Roles)
    }

    /// Whether the operator has rights by `RoleBinding`s in the namespaces that it serves.
    pub(super) const fn has_bindings(self) -> bool {
        matches!(self, Self::Namespaces | Self::Named | Self::Roles)
    }

    /// The chart's values, where these namespaces are served.
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
                "watchNamespaces": tenants, "ownKindsClusterRole": false, "crds": {"enabled": false},
                "admissionPolicies": {"enabled": false}, "rbac": {"aggregateClusterRoles": false}
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_has_a_name_and_a_place_of_its_own() {
        for (place, profile) in Profile::ALL.into_iter().enumerate() {
            assert_eq!(profile as usize, place);
            assert_eq!(Profile::ALL.iter().filter(|it| it.name() == profile.name()).count(), 1);
        }
    }
}
