//! Namespaces that are deleted while the operator runs, in every order.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::{DeleteParams, ListParams};

use super::super::cluster::Kind;
use super::super::profile::Profile;
use super::{Scenario, check_equal};
use crate::demo::Difference;

/// What is deleted before a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Nothing.
    AtOnce,
    /// The Secrets of the account and the credentials.
    SecretsFirst,
    /// The account.
    AccountFirst,
    /// The operator's rights in it, if it has `RoleBinding`s there.
    RightsFirst,
}

// === impl Order ===

impl Order {
    pub(super) const ALL: [Self; 4] =
        [Self::AtOnce, Self::SecretsFirst, Self::AccountFirst, Self::RightsFirst];

    /// The orders that differ under a profile.
    pub(super) fn of(profile: Profile) -> Vec<Self> {
        Self::ALL.into_iter().filter(|order| *order != Self::RightsFirst || profile.has_bindings()).collect()
    }

    pub(super) const fn namespace(self) -> &'static str {
        match self {
            Self::AtOnce => "e2e-delete-at-once",
            Self::SecretsFirst => "e2e-delete-secrets-first",
            Self::AccountFirst => "e2e-delete-account-first",
            Self::RightsFirst => "e2e-delete-rights-first",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::AtOnce => "at once",
            Self::SecretsFirst => "Secrets first",
            Self::AccountFirst => "the account first",
            Self::RightsFirst => "the operator's rights first",
        }
    }

    /// `in 2 orders (at once; Secrets first)`.
    pub(super) fn describe(orders: &[Self]) -> String {
        let names: Vec<&str> = orders.iter().map(|it| it.name()).collect();
        format!("in {} orders ({})", names.len(), names.join("; "))
    }
}

// === impl Scenario ===

impl Scenario<'_> {
    pub(super) fn namespace_deletion_description(&self) -> &'static str {
        if self.profile.has_finalizers() {
            "namespaces with `deletionPolicy: Delete` are deleted, and Woodpecker holds none of their credentials"
        } else {
            "namespaces are deleted immediately, and Woodpecker keeps what was registered, as the objects report"
        }
    }

    /// Fills namespaces, deletes each in its order and all at the same time; objects elsewhere are reconciled
    /// as before.
    pub(super) async fn delete_namespaces(&mut self, orders: &[Order]) -> Result<(), Difference> {
        for order in orders {
            self.credential(order.namespace(), "deleted", true, "Delete").await?;
            self.credential(order.namespace(), "deleted-too", false, "Delete").await?;
        }
        for order in orders {
            for name in ["deleted", "deleted-too"] {
                self.until_ready(order.namespace(), name).await?;
            }
        }
        for order in orders {
            self.delete_first(*order).await?;
            self.fixture.cluster.delete(Kind::Namespace, None, order.namespace()).await?;
        }
        let kept = usize::from(!self.profile.has_finalizers());
        for order in orders {
            self.until_gone(Kind::Namespace, None, order.namespace()).await?;
            let stored = self.stored_credentials(order.namespace()).await?;
            check_equal(&format!("what Woodpecker holds of it: {stored:?}"), &kept, &stored.len())?;
        }
        self.reconcile_all("namespaces-deleted").await
    }

    async fn delete_first(&self, order: Order) -> Result<(), Difference> {
        let (cluster, tenant) = (&self.fixture.cluster, order.namespace());
        match order {
            Order::AtOnce => {}
            Order::SecretsFirst => {
                let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), tenant);
                for secret in ["graph", "agency-key"] {
                    secrets.delete(secret, &DeleteParams::default()).await?;
                }
            }
            Order::AccountFirst => cluster.delete(Kind::Account, Some(tenant), "agency").await?,
            Order::RightsFirst => {
                let bindings: Api<RoleBinding> = Api::namespaced(cluster.client.clone(), tenant);
                bindings.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_that_do_not_differ_under_a_profile_are_left_out() {
        assert_eq!(Order::of(Profile::Cluster).len(), 3);
        assert_eq!(Order::of(Profile::Roles), Order::ALL);
        let description = Order::describe(&Order::of(Profile::Watching));
        assert_eq!(description, "in 3 orders (at once; Secrets first; the account first)");
    }
}
