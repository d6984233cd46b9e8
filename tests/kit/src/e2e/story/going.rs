//! Namespaces that are deleted while the operator runs, in every order.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::Api;
use kube::api::{DeleteParams, ListParams};

use super::super::cluster::Kind;
use super::super::profile::Profile;
use super::{Tale, same};
use crate::demo::Difference;

/// What is deleted before a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Nothing.
    AtOnce,
    /// The Secrets of the account and the credentials.
    KeysFirst,
    /// The account.
    AccountFirst,
    /// The operator's rights in it, if it has `RoleBinding`s there.
    RightsFirst,
}

// === impl Order ===

impl Order {
    pub(super) const ALL: [Self; 4] = [Self::AtOnce, Self::KeysFirst, Self::AccountFirst, Self::RightsFirst];

    /// The orders that differ under a profile.
    pub(super) fn of(profile: Profile) -> Vec<Self> {
        Self::ALL.into_iter().filter(|order| *order != Self::RightsFirst || profile.has_bindings()).collect()
    }

    pub(super) const fn namespace(self) -> &'static str {
        match self {
            Self::AtOnce => "e2e-going-at-once",
            Self::KeysFirst => "e2e-going-keys-first",
            Self::AccountFirst => "e2e-going-account-first",
            Self::RightsFirst => "e2e-going-rights-first",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::AtOnce => "at once",
            Self::KeysFirst => "Secrets first",
            Self::AccountFirst => "the account first",
            Self::RightsFirst => "the operator's rights first",
        }
    }

    /// `in 2 orders (at once; Secrets first)`.
    pub(super) fn told(orders: &[Self]) -> String {
        let names: Vec<&str> = orders.iter().map(|it| it.name()).collect();
        format!("in {} orders ({})", names.len(), names.join("; "))
    }
}

// === impl Tale ===

impl Tale<'_> {
    pub(super) fn namespaces_told(&self) -> &'static str {
        if self.profile.has_finalizers() {
            "namespaces with `deletionPolicy: Delete` are deleted, and Woodpecker holds none of their credentials"
        } else {
            "namespaces are deleted immediately, and Woodpecker keeps what was registered, as the objects report"
        }
    }

    /// Fills namespaces, deletes each in its order and all at the same time; objects elsewhere are reconciled
    /// as before.
    pub(super) async fn namespaces_go(&mut self, orders: &[Order]) -> Result<(), Difference> {
        for order in orders {
            self.credential(order.namespace(), "going", true, "Delete").await?;
            self.credential(order.namespace(), "going-too", false, "Delete").await?;
        }
        for order in orders {
            for name in ["going", "going-too"] {
                self.until_ready(order.namespace(), name).await?;
            }
        }
        for order in orders {
            self.delete_first(*order).await?;
            self.scene.cluster.delete(Kind::Namespace, None, order.namespace()).await?;
        }
        let kept = usize::from(!self.profile.has_finalizers());
        for order in orders {
            self.until_gone(Kind::Namespace, None, order.namespace()).await?;
            let held = self.held(order.namespace()).await?;
            same(&format!("what Woodpecker holds of it: {held:?}"), &kept, &held.len())?;
        }
        self.handle_all("others-are-gone").await
    }

    async fn delete_first(&self, order: Order) -> Result<(), Difference> {
        let (cluster, tenant) = (&self.scene.cluster, order.namespace());
        match order {
            Order::AtOnce => {}
            Order::KeysFirst => {
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
    fn an_order_that_is_another_one_under_a_profile_is_not_counted() {
        assert_eq!(Order::of(Profile::Cluster).len(), 3);
        assert_eq!(Order::of(Profile::Roles), Order::ALL);
        let told = Order::told(&Order::of(Profile::Watching));
        assert_eq!(told, "in 3 orders (at once; Secrets first; the account first)");
    }
}
